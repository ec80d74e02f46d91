# SPDX-License-Identifier: BSD-3-Clause
"""The bound on a mean that holds however often one looks, and whenever one stops."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from sksmooth.confidence._binomial import beta_slack
from sksmooth.confidence._inputs import (
    EPS,
    MOST_DRAWS,
    SMALLEST_ERROR,
    Floats,
    Side,
    check_error,
    check_side,
    totals,
)

# From a distance of at most 1 this ends 4e-15 from where the charges below allow it to.
_HALVINGS = 48


def anytime(data: ArrayLike, *, error: ArrayLike, side: Side = "lower") -> Floats:
    r"""One-sided bound on a mean of draws in [0, 1] that holds at every number of draws at once.

    With S the sum of the first n draws, let

    .. math:: M_n(m) = \int_0^1 \Bigl(1 + u\,\frac{1 - m}{m}\Bigr)^S (1 - u)^{n - S} \, du.

    The lower bound is the largest m with :math:`M_n(m) \ge 1/\mathrm{error}`, the upper one is one
    minus the lower one of one minus the draws. The probability that the bound is wrong at *any* n
    is at most `error`: draws may be added, and looked at, until the answer is liked. They need a
    mean that given the earlier ones does not change; independent draws of one distribution have it.

    Parameters
    ----------
    data : tuple (successes, n_drawn) or array-like of shape (..., n_draws)
        Sums of the draws, ``0 <= successes <= n_drawn``, taken as exact, and the number of draws,
        ``1 <= n_drawn <= 10_000_000``; arrays that broadcast. Or the draws themselves, in [0, 1],
        on the last axis: all that were looked at so far.
    error : float or array-like in [1e-100, 1)
        Probability with which the bound may ever be wrong; an array broadcasts with the sums.
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
    *Validity.* A bet of :math:`\lambda = u / m` turns 1 into
    :math:`1 + \lambda (X - m)` with a draw X, and
    :math:`(1 + \lambda (1 - m))^X (1 - \lambda m)^{1 - X}` is at most that: a geometric mean is at
    most the arithmetic one. So the integrand, a product of such terms, is a supermartingale if m is
    the mean; hence so is :math:`M_n(m)`, which starts from 1 and ever reaches 1/`error` with
    probability at most `error` (Ville). It falls in m as each integrand does: a bound above the
    mean means that :math:`M_n` reached 1/`error` at the mean. This is the mixture of Robbins for
    draws in [0, 1], one-sided [R70]_; a density of u other than the uniform one moves the bound by
    a fifth of its distance from the mean or less (Beta(a, b), a and b from 1/4 to 1, n from 100 to
    10,000), each to the better in places.

    *Evaluation.* With :math:`q = m + u (1 - m)`,

    .. math::
        M_n(m) = \frac{B(S + 1, n - S + 1) \, P(Q > m)}{(1 - m)\, m^S (1 - m)^{n - S}}, \qquad
        Q \sim \mathrm{Beta}(S + 1, n - S + 1).

    The logarithm of each factor but :math:`P(Q > m)` is charged 16 units in the last place, which
    stay above the error of SciPy's log-gamma (3 of them). :math:`P(Q > m)` is taken as one minus
    the other tail, charged as in `clopper_pearson`. What a bisection has confirmed is returned.

    References
    ----------
    .. [R70] H. Robbins. Statistical methods related to the law of the iterated logarithm. Annals of
       Mathematical Statistics, 41(5):1397-1409, 1970.

    Examples
    --------
    >>> from sksmooth.confidence import anytime
    >>> print(f"{float(anytime((990, 1000), error=0.001)):.5f}")
    0.97153
    >>> print(f"{float(anytime([0.25, 0.75, 0.5] * 100, error=0.05, side='upper')):.5f}")
    0.59142
    """
    check_side(side)
    level = check_error(error)
    total, n_drawn, slack = totals(data)
    if np.any(n_drawn > MOST_DRAWS):
        raise ValueError(
            f"anytime is verified for n_drawn up to {MOST_DRAWS}; got {np.max(n_drawn):g}."
        )
    # A smaller sum lowers the lower bound, a larger one raises the upper bound.
    if side == "lower":
        total = total * (1.0 - slack)
    else:
        total = np.minimum(total * (1.0 + slack), n_drawn)
    parts = np.broadcast_arrays(total, n_drawn, level)
    # Votes of many rows share few sums: each is solved once.
    cases, row = np.unique(
        np.stack([part.reshape(-1) for part in parts], axis=1), axis=0, return_inverse=True
    )
    bound = _solve(cases[:, 0], cases[:, 1], cases[:, 2], side)
    return bound[np.reshape(row, -1)].reshape(parts[0].shape)


def _solve(total: Floats, n: Floats, error: Floats, side: Side) -> Floats:
    """Bisect from the end that claims nothing to the mean, where M is at most 1."""
    good = np.full(total.shape, 0.0 if side == "lower" else 1.0)
    other = total / n
    for _ in range(_HALVINGS):
        middle = 0.5 * (good + other)
        holds = _reached(middle, total, n, error, side)
        good, other = np.where(holds, middle, good), np.where(holds, other, middle)
    return good


def _reached(x: Floats, total: Floats, n: Floats, error: Floats, side: Side) -> Floats:
    """Whether M, with everything charged against it, reaches 1 / error at the bound x."""
    a, b = total + 1.0, n - total + 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        log_x, log_1_x = np.log(x), np.log1p(-x)
        # The mass of Q on the other side of the bound, of which at most a few tenths are needed.
        if side == "lower":
            beyond, power_x, power_1_x = stats.beta.cdf(x, a, b), total, b
        else:
            beyond, power_x, power_1_x = stats.beta.sf(x, a, b), a, n - total
        beyond = np.maximum(beyond, SMALLEST_ERROR) * (1.0 + beta_slack(n))
        log_mass = np.log1p(-beyond)
        terms = [
            special.gammaln(a),
            special.gammaln(b),
            -special.gammaln(n + 2.0),
            log_mass,
            -power_x * log_x,
            -power_1_x * log_1_x,
            np.log(error),
        ]
        # log-gamma is off by 3.5e-16 relatively, absolutely where it is below 1: hence the 3. Its
        # arguments are off by an eps relatively, which is within the same charge.
        size = np.sum(np.abs(terms), axis=0) + 3.0
        # nan where x is 0 or 1 and a factor has no logarithm: nothing is confirmed there.
        return np.asarray(np.sum(terms, axis=0) - 16.0 * EPS * size >= 0.0)
