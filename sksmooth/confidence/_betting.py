# SPDX-License-Identifier: BSD-3-Clause
"""The bound on a mean from the wealth of a gambler who bets on draw after draw."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sksmooth.confidence._inputs import (
    EPS,
    Floats,
    Side,
    check_error,
    check_side,
    read_draws,
)

# c: the share of the capital that a draw of 0 may cost. It limits the bets where the draws vary
# little. Measured at n = 1000, error 0.001, as the distance of the lower bound from the mean, for
# c = 1/2, 3/4, 0.95: Beta(99, 1) 0.0136, 0.0091, 0.0073; Beta(8, 2) 0.0152, 0.0138, 0.0138; 99% of
# ones 0.0167, 0.0156, 0.0213. It makes no difference to the upper bound of these, nor to either
# bound of Beta(2, 2), uniform and 50% ones. 3/4 is good at all of them.
_LARGEST_LOSS = 0.75
# Factors are multiplied in groups, and the logarithms of the groups added. A factor lies between
# 1 - _LARGEST_LOSS and 1 + sqrt(8 log(1e100)) < 44: 64 of them neither underflow nor overflow.
_GROUP = 64
# Numbers in a block of rows: 4 MB for each of about five arrays.
_BLOCK = 500_000
# The bound is found to 2**-_HALVINGS of the unit interval, 1e-12.
_HALVINGS = 40


def betting(data: ArrayLike, *, error: ArrayLike, side: Side = "lower") -> Floats:
    r"""One-sided bound on a mean of draws in [0, 1], from bets against smaller means.

    Whoever holds the mean to be m offers fair bets. A bet of :math:`\lambda_t(m)` on every draw
    turns 1 into :math:`K_t(m) = \prod_{i \le t} (1 + \lambda_i(m) (X_i - m))`, and if m is the mean
    this ever reaches 1/`error` with probability at most `error` (Ville). The lower bound is the
    largest m with :math:`\max_{t \le n} K_t(m) \ge 1/\mathrm{error}`: the one-sided half of the
    hedged capital of [WR24]_. Wrong with probability at most `error` for draws in
    [0, 1] that all have the same mean given the earlier ones, independent ones above all.

    Parameters
    ----------
    data : array-like of shape (..., n_draws)
        The draws, in [0, 1], on the last axis, in an order fixed before they were seen.
    error : float or array-like in [1e-100, 1)
        Probability with which the bound may be wrong; an array broadcasts with the means.
    side : {"lower", "upper"}, default="lower"
        Which bound; the upper one is one minus the lower one of ``1 - draws``.

    Returns
    -------
    ndarray of shape (...)
        The bound, in [0, 1].

    Raises
    ------
    TypeError
        If `data` or `error` does not hold real numbers, or is a masked array.
    ValueError
        If `data`, `error` or `side` is outside these ranges, or `data` is a pair of counts.

    Notes
    -----
    The bets are those that [WR24]_ calls predictable plug-in, for a number n of draws fixed
    beforehand:
    :math:`\lambda_t(m) = \min(\ell_t, c / m)` with

    .. math::
        \ell_t = \sqrt{\frac{2 \log(1/\mathrm{error})}{n\, v_{t-1}}}, \qquad
        v_t = \frac{1/4 + \sum_{i \le t} (X_i - \mu_i)^2}{t + 1}, \qquad
        \mu_t = \frac{1/2 + \sum_{i \le t} X_i}{t + 1}.

    *Validity.* :math:`\ell_t` depends on the draws before t alone, whatever its rounding, and no
    stake can be lost as a whole: every factor is at least :math:`1 - c`. So :math:`K_t(m)` is a
    martingale if m is the mean. Each factor falls as m grows: above m both :math:`\lambda_t(m)` and
    :math:`X_t - m` fall and are not negative; below m, it is :math:`1 - \ell_t (m - X_t)`, or else
    :math:`1 - c + c X_t / m`. Hence so does :math:`\max_t K_t(m)`, a bound above the mean means
    that the capital reached 1/`error` at the mean, and bisection finds the bound.

    *Rounding.* With u = 2**-53, the float of :math:`\lambda_t(m) (X_t - m)` is off by a factor
    within 3.1 u of 1: three roundings. It is at least :math:`-c (1 + 3.1 u)`, so that relative to
    the factor it enters with at most :math:`3.1 u \max(1, c / (1 - c))`; adding 1 and the product
    over draws cost 1.1 u each. The logarithms of products of 64 factors add at most 8 eps each,
    relatively, and their sum at most eps per term. All this is taken off the logarithm of the
    capital before it is compared. The upper side is that of the floats nearest to ``1 - draws``,
    whose mean is within 2**-54 of one minus the mean. That is added, and is small beside the bound:
    no upper bound is below :math:`\log(1/\mathrm{error}) / (43 n)`, as no bet is above 43.

    References
    ----------
    .. [WR24] I. Waudby-Smith and A. Ramdas. Estimating means of bounded random variables by
       betting. Journal of the Royal Statistical Society B, 86(1):1-27, 2024.

    Examples
    --------
    >>> from sksmooth.confidence import betting, hoeffding
    >>> scores = [0.8, 0.9, 0.85, 0.95] * 250
    >>> print(f"{float(betting(scores, error=0.001)):.3f}")
    0.866
    >>> print(f"{float(hoeffding(scores, error=0.001)):.3f}")
    0.816
    """
    check_side(side)
    level = check_error(error)
    if isinstance(data, tuple):
        raise ValueError(
            "betting needs the draws themselves, in an order fixed beforehand, on the last axis of "
            "an array; got a tuple of successes and n_drawn. The other bounds accept counts."
        )
    draws = read_draws(data)
    n = draws.shape[-1]
    shape = np.broadcast_shapes(draws.shape[:-1], level.shape)
    rows = draws.reshape(-1, n)
    index = np.arange(len(rows)).reshape(draws.shape[:-1])
    which = np.broadcast_to(index, shape).reshape(-1)
    levels = np.broadcast_to(level, shape).reshape(-1)
    bound = np.empty(len(which))
    step = max(1, _BLOCK // n)
    for start in range(0, len(which), step):
        part = slice(start, start + step)
        block = rows[which[part]]
        bound[part] = _lower(block if side == "lower" else 1.0 - block, levels[part])
    if side == "upper":
        # EPS: two roundings of 2**-54, of the draws and of this difference.
        bound = np.minimum(np.nextafter(1.0 - bound + EPS, 2.0), 1.0)
    return bound.reshape(shape)


def _lower(draws: Floats, error: Floats) -> Floats:
    """Lower bounds for rows of draws, from a bisection that keeps a confirmed end."""
    bets = _bets(draws, error)
    # 8 eps of it for the logarithm.
    target = -np.log(error) * (1.0 + 8.0 * EPS)
    good, other = np.zeros(len(draws)), np.ones(len(draws))
    for _ in range(_HALVINGS):
        middle = 0.5 * (good + other)
        reached = _log_capital(draws, bets, middle) >= target
        good, other = np.where(reached, middle, good), np.where(reached, other, middle)
    return good


def _bets(draws: Floats, error: Floats) -> Floats:
    """Return l_1, ..., l_n of each row; that of draw t depends on the draws before t alone."""
    n = draws.shape[1]
    count = np.arange(2.0, n + 2.0)
    # numpy's cumulative sums run from the first draw on: what they give at t knows nothing later.
    mean = (0.5 + np.cumsum(draws, axis=1)) / count
    variance = np.full(draws.shape, 0.25)
    variance[:, 1:] += np.cumsum((draws - mean) ** 2, axis=1)[:, :-1]
    variance /= count - 1.0
    scale: Floats = np.sqrt(-2.0 * np.log(error) / n)
    return np.asarray(scale[:, np.newaxis] / np.sqrt(variance))


def _log_capital(draws: Floats, bets: Floats, mean: Floats) -> Floats:
    """Lower bounds on the logarithm of the greatest capital, against the means given."""
    rows, n = draws.shape
    m = mean[:, np.newaxis]
    factors = np.minimum(bets, _LARGEST_LOSS / m)
    factors *= draws - m
    factors += 1.0
    groups = -(-n // _GROUP)
    if n % _GROUP:
        factors = np.pad(factors, ((0, 0), (0, groups * _GROUP - n)), constant_values=1.0)
    capital = np.cumprod(factors.reshape(rows, groups, _GROUP), axis=2)
    ends = np.log(capital[:, :, -1])
    before = np.cumsum(ends, axis=1) - ends
    greatest = np.log(capital.max(axis=2))
    # As derived in the Notes of `betting`.
    relative = 3.1 * max(1.0, _LARGEST_LOSS / (1.0 - _LARGEST_LOSS)) + 2.2
    size = np.abs(ends).sum(axis=1) + np.abs(greatest).max(axis=1)
    charge = n * relative * (EPS / 2.0) + (groups + 10.0) * EPS * size
    return np.asarray((before + greatest).max(axis=1) - charge)
