# SPDX-License-Identifier: BSD-3-Clause
"""At which error the top class is bounded, when the votes that choose it also bound it.

The proofs are in the Notes of `probability_bounds`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sksmooth.confidence._binomial import beta_slack
from sksmooth.confidence._inputs import (
    COUNT_LIMIT,
    SMALLEST_ERROR,
    Bound,
    Floats,
    Integers,
    is_real,
)


def error_per_statement(confidence_level: Any, n_statements: Any) -> float:
    if not is_real(confidence_level):
        raise TypeError(f"confidence_level must be a number in (0, 1); got {confidence_level!r}.")
    if not 0.0 < float(confidence_level) < 1.0:
        raise ValueError(f"confidence_level must be in (0, 1); got {confidence_level!r}.")
    if not is_real(n_statements):
        raise TypeError(f"n_statements must be an integer >= 1; got {n_statements!r}.")
    if not 1 <= n_statements <= COUNT_LIMIT or n_statements != int(n_statements):
        raise ValueError(
            f"n_statements must be an integer >= 1, at most 2**53; got {n_statements!r}."
        )
    # 0.999 is meant as the decimal: 1 - 0.999 in floats is above 0.001.
    exact = (1 - Fraction(repr(float(confidence_level)))) / int(n_statements)
    error = float(exact)
    return error if Fraction(error) <= exact else float(np.nextafter(error, 0.0))


def level_for_each_class(error: float, n_classes: int, *, two_sided: bool) -> float:
    """Return the share of one of `n_classes` classes, at least two, in the error of all of them."""
    statements = max(n_classes, 2) * (2 if two_sided else 1)
    return float(np.nextafter(error / statements, 0.0))


def level_for_a_majority(
    k: Integers, n: Integers, bound: Bound, error: float, share: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Find levels ``error - g(1 - p)`` with p <= bound(level), and say who may claim a majority.

    `share`, half of the error, is the first level, as every p > 1/2 may be rejected at it. If all
    p > 1/2 up to x are rejected, each at its own level (Notes of `probability_bounds`), then so are
    those from x to the bound at ``error - g(1 - x)``, which is at most theirs. So every step is
    safe. Three fell short of the limit by at most 0.009 of a Gaussian radius (sigma 1, n from 15 to
    1e5), and that next to 1/2: higher counts settle faster.
    """
    drawn, row = np.unique(n, return_inverse=True)
    k_0 = _least_majority(drawn, bound, error / 2.0)[row]
    claimed = k >= k_0
    votes, n_drawn, least = k[claimed], n[claimed], k_0[claimed]
    rising = share[claimed]
    for _ in range(3):
        x = bound((votes, n_drawn), error=rising, side="lower")
        others = np.nextafter(1.0 - x, 1.0)
        g = stats.beta.cdf(others, least, n_drawn - least + 1.0) / (1.0 - beta_slack(n_drawn))
        # Tails below the least error have not been compared with anything; fmax leaves out nan.
        g = np.maximum(g, SMALLEST_ERROR)
        rising = np.fmax(rising, np.nextafter(error - g, -np.inf))
    level = share.copy()
    level[claimed] = rising
    return level, claimed


def _least_majority(n: Integers, bound: Bound, error: float) -> Integers:
    """Least count of n with a lower bound above 1/2, n + 1 if there is none; by bisection."""
    below, least = n // 2, n + 1
    while np.any(least - below > 1):
        middle = (below + least) // 2
        above = bound((middle, n), error=error, side="lower") > 0.5
        below, least = np.where(above, below, middle), np.where(above, middle, least)
    return least


def level_for_all_classes(
    k: Integers, n: Integers, bound: Bound, share: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Find levels ``share * x`` with ``x <= bound(level)``, and say where there is one.

    The bound y at level share * x, for an x <= y, is rejected at share * x <= share * y: it is a
    simultaneous bound (Notes of `probability_bounds`), and may serve as the next x. So every step
    is safe and none goes down; three suffice, as the bound moves with log(level) only. A quarter of
    the plain bound as the first x fails for less than a dozen votes or so: no claim. The factor
    1 - 1e-9 keeps x below y where both have converged and differ by rounding.
    """
    x = bound((k, n), error=share, side="lower") / 4.0
    level = np.maximum(share * x * (1.0 - 1e-9), SMALLEST_ERROR)
    for _ in range(3):
        y = bound((k, n), error=level, side="lower")
        level = np.where(y >= x, np.maximum(level, share * y * (1.0 - 1e-9)), level)
    y = bound((k, n), error=level, side="lower")
    return level, level <= share * y
