# SPDX-License-Identifier: BSD-3-Clause
"""What the single bounds are given: types, limits, reading and refusing."""

from __future__ import annotations

from numbers import Real
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Side = Literal["lower", "upper"]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EPS = float(np.finfo(np.float64).eps)
# NumPy's vectorised log, exp and expm1 are good to 4 units in the last place (the bound that its
# SVML kernels state); two of them, a division, a product and a square root stay below 16.
ELEMENTARY = 16 * EPS
# Where the distribution function of scipy.stats.beta was compared with 50-digit values; see
# `beta_slack`.
SMALLEST_ERROR = 1e-100
MOST_DRAWS = 10_000_000
# Whole numbers below it, and their sums below it, are exact in float64 and far from int64's end.
COUNT_LIMIT = 2**53


class Bound(Protocol):
    """The signature that the single bounds share."""

    def __call__(self, data: Any, *, error: ArrayLike, side: Side) -> Floats: ...


def totals(data: Any) -> tuple[Floats, Floats, float]:
    """Return sums, numbers of draws, and the relative error of the sums (0: of hard votes)."""
    if isinstance(data, tuple):
        total, n_drawn = read_pair(data)
        return total, n_drawn, 0.0
    draws = read_draws(data)
    total, slack = sums(draws)
    return total, np.full(total.shape, float(draws.shape[-1])), slack


def read_pair(data: tuple[Any, ...]) -> tuple[Floats, Floats]:
    """Successes and numbers of draws, checked and broadcast."""
    if len(data) != 2:
        raise ValueError(
            "data must be a tuple (successes, n_drawn) or an array of draws; got a tuple of "
            f"length {len(data)}."
        )
    total, n_drawn = np.broadcast_arrays(
        real_numbers(data[0], "successes").astype(np.float64),
        real_numbers(data[1], "n_drawn").astype(np.float64),
    )
    # From 2**53 on, floats no longer tell successes from n_drawn where they differ by one.
    if np.any(~((n_drawn >= 1) & (n_drawn < COUNT_LIMIT)) | (n_drawn != np.rint(n_drawn))):
        raise ValueError(
            "n_drawn must be a whole number >= 1 and below 2**53; got values from "
            f"{np.min(n_drawn):g} to {np.max(n_drawn):g}."
        )
    wrong = ~((total >= 0) & (total <= n_drawn))
    if np.any(wrong):
        raise ValueError(
            "successes must be in [0, n_drawn]; got "
            f"{first(total[wrong])} of {first(n_drawn[wrong])}."
        )
    return total, n_drawn


def read_draws(data: Any) -> Floats:
    """Draws in [0, 1], at least one along the last axis."""
    draws = real_numbers(data, "data").astype(np.float64, copy=False)
    if draws.ndim == 0 or draws.shape[-1] == 0:
        raise ValueError(
            "data must be a tuple (successes, n_drawn) or an array with at least one draw on its "
            f"last axis; got shape {draws.shape}."
        )
    check_unit_interval(draws, "draws")
    return draws


def check_unit_interval(draws: Floats, name: str) -> None:
    """Refuse values outside [0, 1], nan among them."""
    wrong = ~((draws >= 0) & (draws <= 1))
    if np.any(wrong):
        raise ValueError(f"{name} must be in [0, 1]; got {first(draws[wrong])}.")


def sums(draws: Floats) -> tuple[Floats, float]:
    """Return sums along the last axis, at most the number of draws, and their relative error."""
    n = draws.shape[-1]
    # Sums of zeros and ones are exact; of scores, in any order, good to (n - 1) eps / 2.
    whole = bool(np.all((draws == 0) | (draws == 1)))
    return np.minimum(draws.sum(axis=-1), float(n)), 0.0 if whole else n * EPS


def first(values: Floats) -> str:
    return f"{float(values.ravel()[0]):g}"


def real_numbers(values: Any, name: str) -> NDArray[Any]:
    """`values` as an array of a real dtype; text, complex and masked values are refused."""
    if np.ma.isMaskedArray(values):
        raise TypeError(f"{name} must not be a masked array: say what masked entries stand for.")
    try:
        array = np.asarray(values)
        if array.dtype == object and all(map(is_real, array.flat)):
            array = array.astype(np.float64)
    except (ValueError, OverflowError) as failure:
        raise ValueError(f"{name} must be an array of real numbers; {failure}.") from failure
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers; got dtype {array.dtype}.")
    return array


def is_real(value: Any) -> bool:
    return isinstance(value, Real)


def check_choice(value: Any, name: str, allowed: set[str]) -> None:
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(f"{name} must be one of {sorted(allowed)}; got {value!r}.")


def check_side(side: str) -> None:
    if not (isinstance(side, str) and side in ("lower", "upper")):
        raise ValueError(f"side must be 'lower' or 'upper'; got {side!r}.")


def check_error(error: ArrayLike) -> Floats:
    level = real_numbers(error, "error").astype(np.float64)
    wrong = ~((level >= SMALLEST_ERROR) & (level < 1))
    if np.any(wrong):
        raise ValueError(f"error must be in [{SMALLEST_ERROR:g}, 1); got {first(level[wrong])}.")
    return level
