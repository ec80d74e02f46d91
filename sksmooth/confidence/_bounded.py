# SPDX-License-Identifier: BSD-3-Clause
"""Bounds on a mean of draws in [0, 1] from a concentration inequality in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sksmooth.confidence._inputs import (
    ELEMENTARY,
    EPS,
    Floats,
    Side,
    check_error,
    check_side,
    read_draws,
    read_pair,
    sums,
    totals,
)


def hoeffding(data: ArrayLike, *, error: ArrayLike, side: Side = "lower") -> Floats:
    r"""One-sided bound on a mean of draws in [0, 1] by Hoeffding's inequality.

    The mean of the :math:`n` draws, minus (lower) or plus (upper)
    :math:`\sqrt{\log(1/\mathrm{error}) / (2n)}`: eq. (27) of [RAB]_. Wrong with probability at most
    `error` for independent draws of any distribution on [0, 1].

    Parameters
    ----------
    data : tuple (successes, n_drawn) or array-like of shape (..., n_draws)
        Sums of the draws, ``0 <= successes <= n_drawn``, taken as exact, and the number of draws,
        below 2**53; arrays that broadcast. Or the draws themselves, in [0, 1], on the last axis.
    error : float or array-like in [1e-100, 1)
        Probability with which the bound may be wrong; an array broadcasts with the sums.
    side : {"lower", "upper"}, default="lower"
        Which bound.

    Returns
    -------
    ndarray of shape (...)
        The bound, in [0, 1].

    Raises
    ------
    TypeError
        If `data` or `error` does not hold real numbers, or is a masked array.
    ValueError
        If `data`, `error` or `side` is outside these ranges.

    References
    ----------
    .. [RAB] M. Weber, X. Xu, B. Karlas, C. Zhang and B. Li. RAB: provable robustness against
       backdoor attacks. IEEE Symposium on Security and Privacy, 2023.

    Examples
    --------
    >>> from sksmooth.confidence import hoeffding
    >>> print(f"{float(hoeffding((990, 1000), error=0.001)):.5f}")
    0.93123
    >>> print(f"{float(hoeffding([0.25, 0.75, 0.5], error=0.5, side='upper')):.5f}")
    0.83989
    """
    check_side(side)
    level = check_error(error)
    total, n_drawn, slack = totals(data)
    width = np.sqrt(-np.log(level) / (2.0 * n_drawn)) * (1.0 + ELEMENTARY)
    return _around(total / n_drawn, slack, width, side)


def empirical_bernstein(data: ArrayLike, *, error: ArrayLike, side: Side = "lower") -> Floats:
    r"""One-sided bound on a mean of draws in [0, 1] that is sharp where they vary little.

    With V the sample variance (divisor :math:`n - 1`) and
    :math:`\ell = \log(2/\mathrm{error})`, the mean minus (lower) or plus (upper)

    .. math:: \sqrt{2 V \ell / n} + \frac{7 \ell}{3 (n - 1)}:

    Theorem 4 of [MP09]_. Wrong with probability at most `error` for independent draws of any one
    distribution on [0, 1].

    Parameters
    ----------
    data : tuple (successes, n_drawn) or array-like of shape (..., n_draws)
        The draws, at least two, in [0, 1], on the last axis. Or, for draws that are all 0 or 1,
        whole numbers ``0 <= successes <= n_drawn`` with ``2 <= n_drawn < 2**53``, arrays that
        broadcast: the variance follows from them.
    error : float or array-like in [1e-100, 1)
        Probability with which the bound may be wrong; an array broadcasts with the means.
    side : {"lower", "upper"}, default="lower"
        Which bound.

    Returns
    -------
    ndarray of shape (...)
        The bound, in [0, 1].

    Raises
    ------
    TypeError
        If `data` or `error` does not hold real numbers, or is a masked array.
    ValueError
        If `data`, `error` or `side` is outside these ranges.

    Notes
    -----
    The bound may fall as the sum of the draws rises, if their variance rises as well. For 0/1 draws
    nothing in this package relies on how it compares with the exact bound.

    References
    ----------
    .. [MP09] A. Maurer and M. Pontil. Empirical Bernstein bounds and sample variance penalization.
       COLT, 2009.

    Examples
    --------
    >>> from sksmooth.confidence import empirical_bernstein, hoeffding
    >>> scores = [0.8, 0.9, 0.85, 0.95] * 250
    >>> print(f"{float(empirical_bernstein(scores, error=0.001)):.5f}")
    0.85035
    >>> print(f"{float(hoeffding(scores, error=0.001)):.5f}")
    0.81623
    """
    check_side(side)
    level = check_error(error)
    if isinstance(data, tuple):
        total, n_drawn = read_pair(data)
        if np.any(total != np.rint(total)):
            raise ValueError(
                "empirical_bernstein needs whole numbers of successes, as the variance follows "
                "from the counts for 0/1 draws only; pass scores as an array of draws."
            )
        slack = 0.0
        _check_two(float(np.min(n_drawn)) if n_drawn.size else 2.0)
        variance = total * (n_drawn - total) / (n_drawn * (n_drawn - 1.0))
    else:
        draws = read_draws(data)
        n = draws.shape[-1]
        _check_two(n)
        total, slack = sums(draws)
        n_drawn = np.full(total.shape, float(n))
        # Squares about anything but the exact mean sum to more, so the mean's rounding is safe.
        # Each term is off by 3 eps / 2, the sum by (n - 1) eps / 2, relatively.
        centred = draws - (total / n)[..., np.newaxis]
        variance = np.einsum("...i,...i->...", centred, centred) / (n - 1.0)
        variance *= 1.0 + (n + 4.0) * EPS
    log_term = np.log(2.0 / level)
    # ELEMENTARY covers five roundings of `variance`, halved by the root, and what follows; squares
    # that underflow are lost against it, as the second term is at least 1e-16.
    width = np.sqrt(2.0 * variance * log_term / n_drawn) + 7.0 * log_term / (3.0 * (n_drawn - 1.0))
    return _around(total / n_drawn, slack, width * (1.0 + ELEMENTARY), side)


def _check_two(n_drawn: float) -> None:
    if n_drawn < 2:
        raise ValueError(
            f"empirical_bernstein needs at least 2 draws for a variance; got {n_drawn:g}."
        )


def _around(mean: Floats, slack: float, width: Floats, side: Side) -> Floats:
    """Return the end of an interval about `mean`, rounded outwards, in [0, 1]."""
    # One rounding in the mean (2 eps covers it and the product here), `slack` for the sum, and
    # nextafter for the last addition; being outside [0, 1] says nothing more than the endpoint.
    if side == "lower":
        lower = np.nextafter(mean * (1.0 - slack - 2.0 * EPS) - width, -np.inf)
        return np.maximum(lower, 0.0)
    upper = np.nextafter(mean * (1.0 + slack + 2.0 * EPS) + width, np.inf)
    return np.minimum(upper, 1.0)
