# SPDX-License-Identifier: BSD-3-Clause
"""From votes of noisy draws to bounds on class probabilities that hold at a stated level.

The single bounds `clopper_pearson` and `hoeffding` share one signature, ``(data, *, error, side)``,
and one form of `data`:

- a pair ``(successes, n_drawn)`` as a tuple of two numbers or arrays that broadcast, or
- an array of the draws themselves, values in [0, 1], with the draws on the last axis.

Each makes a one-sided statement about one mean that was named before the draws were seen.
`probability_bounds` turns the votes for several classes into the `p_a` and `p_b` that a radius
needs, and pays for having picked the class on the same votes.

Rounding: a lower bound is never above, an upper bound never below the value that the formula has
in real arithmetic.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fractions import Fraction
from numbers import Real
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sksmooth.exceptions import TooFewDrawsError

__all__ = ["ProbabilityBounds", "clopper_pearson", "hoeffding", "probability_bounds"]

Side = Literal["lower", "upper"]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_EPS = float(np.finfo(np.float64).eps)
# NumPy's vectorised log, exp and expm1 are good to 4 units in the last place (the bound that its
# SVML kernels state); two of them, a division, a product and a square root stay below 16.
_ELEMENTARY = 16 * _EPS
# Where the distribution function of scipy.stats.beta was compared with 50-digit sums; see
# `_beta_slack`.
_SMALLEST_ERROR = 1e-100
_MOST_DRAWS = 10_000_000
# Whole numbers below it, and their sums below it, are exact in float64 and far from int64's end.
_COUNT_LIMIT = 2**53


class ProbabilityBounds(NamedTuple):
    """Bounds on the vote of infinitely many draws, one row per sample.

    Attributes
    ----------
    top : ndarray of shape (n_samples,)
        Index of the class spoken of; ties go to the lowest index.
    p_a : ndarray of shape (n_samples,)
        Lower bound on the probability of `top`, in [0, 1).
    tail_a : ndarray of shape (n_samples,)
        Upper bound on one minus that probability, in (0, 1]; computed on its own, not from `p_a`.
    p_b : ndarray of shape (n_samples,)
        Upper bound on the probability of every other class, in (0, 1], at most `tail_a`.

    Examples
    --------
    >>> from sksmooth.confidence import probability_bounds
    >>> top, p_a, tail_a, p_b = probability_bounds([[990, 10]])
    >>> print(top[0], f"{p_a[0]:.4f} {tail_a[0]:.4f}")
    0 0.9760 0.0240
    """

    top: NDArray[np.intp]
    p_a: Floats
    tail_a: Floats
    p_b: Floats


class _Bound(Protocol):
    def __call__(self, data: Any, *, error: ArrayLike, side: Side) -> Floats: ...


def clopper_pearson(data: ArrayLike, *, error: ArrayLike, side: Side = "lower") -> Floats:
    r"""Exact one-sided bound on a success probability, from 0/1 draws.

    With :math:`k` successes in :math:`n` independent draws of probability :math:`p`, the lower
    bound is the largest :math:`x` with :math:`P(\mathrm{Bin}(n, x) \ge k) \le` `error`, the upper
    bound the least with :math:`P(\mathrm{Bin}(n, x) \le k) \le` `error` [CP34]_. Either is wrong
    with probability at most `error`, whatever :math:`p` is; both together with at most twice that.

    Parameters
    ----------
    data : tuple (successes, n_drawn) or array-like of shape (..., n_draws)
        Whole numbers with ``0 <= successes <= n_drawn`` and ``1 <= n_drawn <= 10_000_000``, arrays
        that broadcast; or the draws themselves, each 0 or 1, along the last axis.
    error : float or array-like in [1e-100, 1)
        Probability with which the bound may be wrong; an array broadcasts with the counts.
    side : {"lower", "upper"}, default="lower"
        Which bound.

    Returns
    -------
    ndarray of shape (...)
        The bound, in [0, 1]. It is 0 (lower) with no success and 1 (upper) with no failure.

    Raises
    ------
    TypeError
        If `data` or `error` does not hold real numbers, or is a masked array.
    ValueError
        If `data`, `error` or `side` is outside these ranges.

    Notes
    -----
    Quantiles of the beta distribution only propose a value. It is returned if the distribution
    function, less a charge for its own error (relative 1e-9 + 1e-15 n), confirms the defining
    inequality there, and otherwise a bisection looks for one that is confirmed.

    References
    ----------
    .. [CP34] C. J. Clopper and E. S. Pearson. The use of confidence or fiducial limits illustrated
       in the case of the binomial. Biometrika, 26(4):404-413, 1934.

    Examples
    --------
    >>> from sksmooth.confidence import clopper_pearson
    >>> print(f"{float(clopper_pearson((990, 1000), error=0.001)):.5f}")
    0.97604
    >>> print(f"{float(clopper_pearson([0, 0, 0, 0], error=0.0625, side='upper')):.5f}")
    0.50000
    """
    _check_side(side)
    level = _check_error(error)
    total, n_drawn, slack = _totals(data)
    if slack or np.any(total != np.rint(total)):
        raise ValueError(
            "clopper_pearson needs hard votes: every draw 0 or 1, or whole numbers of successes; "
            "got fractions. hoeffding takes scores in [0, 1]."
        )
    if np.any(n_drawn > _MOST_DRAWS):
        raise ValueError(
            f"clopper_pearson is verified for n_drawn up to {_MOST_DRAWS}; got {np.max(n_drawn):g}."
        )
    k, n, e = np.broadcast_arrays(total, n_drawn, level)
    return _binomial_lower(k, n, e) if side == "lower" else _binomial_upper(k, n, e)


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
    _check_side(side)
    level = _check_error(error)
    total, n_drawn, slack = _totals(data)
    width = np.sqrt(-np.log(level) / (2.0 * n_drawn)) * (1.0 + _ELEMENTARY)
    mean = total / n_drawn
    # One rounding in the mean (2 eps covers it and the product here), `slack` for the sum, and
    # nextafter for the last addition; being outside [0, 1] says nothing more than the endpoint.
    if side == "lower":
        lower = np.nextafter(mean * (1.0 - slack - 2.0 * _EPS) - width, -np.inf)
        return np.maximum(lower, 0.0)
    upper = np.nextafter(mean * (1.0 + slack + 2.0 * _EPS) + width, np.inf)
    return np.minimum(upper, 1.0)


# An entry here must, for hard votes, never give a lower bound above the exact one: the proofs for
# "selection" in `probability_bounds` need P(Bin(n, x) >= k) <= error for every x up to the bound,
# and nothing else of it. Hoeffding's has it: that chance is at most exp(-2 n (k/n - x)^2) <= error.
_BOUNDS: dict[str, _Bound] = {"clopper-pearson": clopper_pearson, "hoeffding": hoeffding}

# Shares of the error: for the lower bound of the top class ("selection" starts from it, see
# `_level_for_a_majority` and `_level_for_all_classes`), for each upper bound of a rival (None: p_b
# is tail_a, which needs no statement of its own).
_SHARES: dict[tuple[str, bool], tuple[float, float | None]] = {
    ("selection", False): (1 / 2, None),
    ("selection", True): (1 / 2, 1 / 4),
    ("holdout", False): (1.0, None),
    ("holdout", True): (1 / 2, 1 / 2),
    ("none", False): (1.0, None),
    ("none", True): (1.0, 1.0),
}


def probability_bounds(
    votes: ArrayLike | tuple[ArrayLike, ArrayLike],
    *,
    n_drawn: ArrayLike | None = None,
    bound: str = "clopper-pearson",
    confidence_level: float = 0.999,
    correction: str = "selection",
    two_sided: bool = False,
    n_statements: int = 1,
) -> ProbabilityBounds:
    r"""Bound the probabilities of the class with most votes and of its rivals, from hard votes.

    Each draw (a member of an ensemble, a noisy copy of a test input) votes for one class or, if it
    failed, for none. A row is *certifiable* if ``p_a > p_b``. With probability at least
    `confidence_level` over the draws, a row is not certifiable or its bounds are true; this is one
    statement per row, or jointly over `n_statements` rows declared beforehand.

    Parameters
    ----------
    votes : array-like of shape (n_samples, n_classes), or a tuple of two such arrays
        Whole numbers of votes, below 2**53 in each row. With ``correction="holdout"`` the tuple
        ``(selection, estimation)`` of votes from disjoint sets of draws, both fixed in size
        beforehand.
    n_drawn : int or array-like of shape (n_samples,), optional
        Number of draws behind each row (of the estimation votes, with a holdout), those that failed
        included; at least the row's sum. Left out, every draw must have voted: all rows then have
        the same sum.
    bound : {"clopper-pearson", "hoeffding"}, default="clopper-pearson"
        The bound on a single probability.
    confidence_level : float in (0, 1), default=0.999
        One minus the error, read as the decimal number that it prints as.
    correction : {"selection", "holdout", "none"}, default="selection"
        How the choice of the class is paid for; see Notes. ``"none"`` is **not valid**: it chooses
        and bounds on the same votes at the full error per bound, as RAB and Wang et al. do, and is
        there to reproduce them.
    two_sided : bool, default=False
        Bound the rivals by their own votes. Otherwise ``p_b = tail_a``. Worth its price with three
        classes or more, or with failed draws.
    n_statements : int in [1, 2**53], default=1
        Number of rows whose statements shall hold together; divides the error.

    Returns
    -------
    ProbabilityBounds
        Named tuple ``(top, p_a, tail_a, p_b)`` of arrays of shape (n_samples,).

    Raises
    ------
    TooFewDrawsError
        If not even unanimous votes would be certifiable for any row; says how many draws would do.
    TypeError
        If a parameter is not of the kind named above (masked arrays are refused).
    ValueError
        If a parameter is outside its range, or a row has more votes than draws.

    Notes
    -----
    Write :math:`\alpha` for the error, :math:`L_c` and :math:`U_c` for the bounds of class c,
    :math:`p_c` for its probability (:math:`\sum_c p_c \le 1`), J for the class with most votes.

    **Selection, one-sided**, for any number of classes. Let :math:`k_0` be the least count with
    :math:`L_c > 1/2` at :math:`\alpha/2`, and :math:`g(q) = P(\mathrm{Bin}(n, q) \ge k_0)`, so that
    :math:`g(1/2) \le \alpha/2 < 1/2` and :math:`k_0 > n/2`. Fewer votes claim nothing:
    :math:`p_a \le 1/2`. From :math:`k_0` votes on, :math:`p_a` is a value below which every
    :math:`p > 1/2` is rejected at its own level, which is at least :math:`\alpha/2`:

    .. math:: P(\mathrm{Bin}(n, p) \ge k) \le \alpha - g(1 - p).

    *One class s has* :math:`p_s > 1/2`. Its claim is false with probability at most
    :math:`\alpha - g(1 - p_s)`. A claim for any other class takes :math:`k_0` votes; the chances of
    that sum to :math:`\sum_{c \ne s} g(p_c) \le g(1 - p_s)`, as :math:`g(q) / q` rises on
    [0, 1/2]: it is the mean over (0, q) of the density of Beta(:math:`k_0, n - k_0 + 1`), which
    rises up to its mode :math:`(k_0 - 1) / (n - 1) \ge 1/2`. Together at most :math:`\alpha`.
    *No class has.* The chances of any claim sum to
    :math:`\sum_c g(p_c) \le \sum_c 2 p_c\, g(1/2) \le \alpha`.

    **Selection, two-sided.** Half of the error goes to all lower bounds at once, as
    :math:`(\alpha/2) p_c` to class c: test each value x of :math:`p_c` at level
    :math:`(\alpha/2) x`. Some true value is rejected with probability at most
    :math:`\sum_c (\alpha/2) p_c \le \alpha/2`, and :math:`p_a` is a value below which all are
    rejected: :math:`P(\mathrm{Bin}(n, x) \ge k) / x` has one maximum over x, is 1 at x = 1, and
    hence is at most :math:`\alpha/2` below any x where it is. The upper bounds need two
    statements, at :math:`\alpha/4` each, not one per class: let the most probable class be s and
    the next t. The greatest probability among the rivals of J is :math:`p_s` if J is not s,
    :math:`p_t` if it is; so :math:`\max_{c \ne J} U_c` covers it as soon as :math:`U_s` and
    :math:`U_t` hold. These statements are true whether the row is certifiable or not.

    **Holdout.** J and its strongest rival are fixed before the estimation votes are drawn:
    :math:`L_J` at :math:`\alpha`; two-sided, :math:`L_J` and the :math:`U_c` of that one rival,
    which :math:`\max_{c \ne J} U_c` covers, at :math:`\alpha/2` each.

    In all cases :math:`p_b` is at most `tail_a`, since rivals share :math:`1 - p_J`.

    Examples
    --------
    >>> from sksmooth.confidence import probability_bounds
    >>> votes = [[700, 200, 90], [340, 330, 320]]
    >>> bounds = probability_bounds(votes, n_drawn=1000, confidence_level=0.99)
    >>> for top, p_a, p_b in zip(bounds.top, bounds.p_a, bounds.p_b):
    ...     print(top, f"{p_a:.3f} {p_b:.3f}")
    0 0.665 0.335
    0 0.302 0.698
    >>> bounds = probability_bounds(
    ...     votes, n_drawn=1000, confidence_level=0.99, two_sided=True
    ... )
    >>> print(f"{bounds.p_a[0]:.3f} {bounds.p_b[0]:.3f}")
    0.659 0.238
    """
    _check_choice(bound, "bound", set(_BOUNDS))
    _check_choice(correction, "correction", {name for name, _ in _SHARES})
    if not isinstance(two_sided, (bool, np.bool_)):
        raise TypeError(f"two_sided must be True or False; got {two_sided!r}.")
    error = _error_per_statement(confidence_level, n_statements)
    choosing, counts = _split_votes(votes, correction)
    n = _n_drawn_per_row(n_drawn, counts)

    def bounds(k: Integers, rival: Integers, drawn: Integers) -> tuple[Floats, Floats, Floats]:
        return _pair_bounds(
            k, rival, drawn, _BOUNDS[bound], error, correction, two_sided=bool(two_sided)
        )

    if n.size:
        _check_enough_draws(
            int(n.max()),
            bounds,
            f"confidence_level={confidence_level!r}, n_statements={n_statements}, "
            f"bound={bound!r}, correction={correction!r}, two_sided={bool(two_sided)}",
        )
        if n.min() < 1:
            raise ValueError(f"n_drawn must be at least 1; row {int(n.argmin())} has {n.min()}.")
    top = np.argmax(choosing, axis=1)
    rows = np.arange(len(counts))
    rivals = counts.copy()
    rivals[rows, top] = -1
    # Without a rival class, "every other class" is read as everything that is not the top class.
    rival = rivals.max(axis=1) if counts.shape[1] > 1 else n - counts[:, 0]
    return ProbabilityBounds(top, *bounds(counts[rows, top], rival, n))


def _pair_bounds(
    k: Integers,
    rival: Integers,
    n: Integers,
    bound: _Bound,
    error: float,
    correction: str,
    *,
    two_sided: bool,
) -> tuple[Floats, Floats, Floats]:
    """`p_a`, `tail_a`, `p_b` from the votes of the top class and of its strongest rival."""
    top_share, rival_share = _SHARES[correction, two_sided]
    level: Floats = np.full(k.shape, error * top_share)
    # Where nothing is claimed p_a may be anything up to this value.
    claimed, unclaimed = np.full(k.shape, True), 0.0
    if correction == "selection" and two_sided:
        level, claimed = _level_for_all_classes(k, n, bound, level)
    elif correction == "selection":
        level, claimed = _level_for_a_majority(k, n, bound, error, level)
        unclaimed = 0.5
    p_a = bound((k, n), error=level, side="lower")
    # 1 - p_a as an upper bound for the failures: same statement, no cancellation near p_a = 1.
    tail_a = bound((n - k, n), error=level, side="upper")
    p_a = np.where(claimed, p_a, np.minimum(p_a, unclaimed))
    tail_a = np.where(claimed, tail_a, np.maximum(tail_a, 1.0 - unclaimed))
    if rival_share is None:
        return p_a, tail_a, tail_a.copy()
    # An upper bound rises with the count: the strongest rival has the greatest.
    p_b = bound((rival, n), error=error * rival_share, side="upper")
    return p_a, tail_a, np.minimum(p_b, tail_a)


def _level_for_a_majority(
    k: Integers, n: Integers, bound: _Bound, error: float, share: Floats
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
        g = stats.beta.cdf(others, least, n_drawn - least + 1.0) / (1.0 - _beta_slack(n_drawn))
        # Tails below the least error have not been compared with anything; fmax leaves out nan.
        g = np.maximum(g, _SMALLEST_ERROR)
        rising = np.fmax(rising, np.nextafter(error - g, -np.inf))
    level = share.copy()
    level[claimed] = rising
    return level, claimed


def _least_majority(n: Integers, bound: _Bound, error: float) -> Integers:
    """Least count of n with a lower bound above 1/2, n + 1 if there is none; by bisection."""
    below, least = n // 2, n + 1
    while np.any(least - below > 1):
        middle = (below + least) // 2
        above = bound((middle, n), error=error, side="lower") > 0.5
        below, least = np.where(above, below, middle), np.where(above, middle, least)
    return least


def _level_for_all_classes(
    k: Integers, n: Integers, bound: _Bound, share: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Find levels ``share * x`` with ``x <= bound(level)``, and say where there is one.

    The bound y at level share * x, for an x <= y, is rejected at share * x <= share * y: it is a
    simultaneous bound (Notes of `probability_bounds`), and may serve as the next x. So every step
    is safe and none goes down; three suffice, as the bound moves with log(level) only. A quarter of
    the plain bound as the first x fails for less than a dozen votes or so: no claim. The factor
    1 - 1e-9 keeps x below y where both have converged and differ by rounding.
    """
    x = bound((k, n), error=share, side="lower") / 4.0
    level = np.maximum(share * x * (1.0 - 1e-9), _SMALLEST_ERROR)
    for _ in range(3):
        y = bound((k, n), error=level, side="lower")
        level = np.where(y >= x, np.maximum(level, share * y * (1.0 - 1e-9)), level)
    y = bound((k, n), error=level, side="lower")
    return level, level <= share * y


def _binomial_lower(k: Floats, n: Floats, error: Floats) -> Floats:
    """Clopper-Pearson's lower bound: where the beta(k, n - k + 1) mass below it is `error`."""
    bound = np.zeros(k.shape)
    every = k == n
    exponent = np.log(error[every]) / n[every]
    # An absolute error of the exponent is a relative one of the power.
    bound[every] = np.exp(exponent) * (1.0 - _ELEMENTARY * (1.0 - exponent))
    some = (k > 0) & ~every
    if np.any(some):
        a, b = k[some], n[some] - k[some] + 1.0
        charged = error[some] * (1.0 - _beta_slack(n[some]))

        def confirmed(x: Floats, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
            return np.asarray(stats.beta.cdf(x, a[rows], b[rows]) <= charged[rows])

        guess = _quantile(stats.beta.ppf, charged * (1.0 - _beta_slack(n[some])), a, b)
        bound[some] = _confirmed_end(guess, confirmed, safe=0.0)
    return bound


def _binomial_upper(k: Floats, n: Floats, error: Floats) -> Floats:
    """Clopper-Pearson's upper bound: where the beta(k + 1, n - k) mass above it is `error`."""
    bound = np.ones(k.shape)
    no_one = k == 0
    exponent = np.log(error[no_one]) / n[no_one]
    bound[no_one] = np.minimum(-np.expm1(exponent) * (1.0 + _ELEMENTARY), 1.0)
    some = (k < n) & ~no_one
    if np.any(some):
        a, b = k[some] + 1.0, n[some] - k[some]
        charged = error[some] * (1.0 - _beta_slack(n[some]))

        def confirmed(x: Floats, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
            return np.asarray(stats.beta.sf(x, a[rows], b[rows]) <= charged[rows])

        guess = _quantile(stats.beta.isf, charged * (1.0 - _beta_slack(n[some])), a, b)
        bound[some] = _confirmed_end(guess, confirmed, safe=1.0)
    return bound


def _beta_slack(n: Floats | Integers) -> Floats:
    """Relative error charged to the distribution function of scipy.stats.beta.

    Measured against 50-digit sums for errors from 0.4 to 1e-100 and n up to 1e7: at most 3e-11 for
    n <= 1e6 and 5e-10 at n = 1e7 (SciPy 1.11), a hundredth of that with SciPy 1.17. Not so
    scipy.special.betainc of SciPy 1.11, which returns 0 for tails of 1e-6 at n = 1e5.
    """
    return np.asarray(1e-9 + 1e-15 * n)


def _quantile(function: Callable[..., Any], q: Floats, a: Floats, b: Floats) -> Floats:
    with warnings.catch_warnings():
        # SciPy 1.11 warns where its root finder gives up; the value is checked in any case.
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(function(q, a, b), dtype=np.float64)


def _confirmed_end(
    guess: Floats, confirmed: Callable[[Floats, NDArray[np.bool_]], NDArray[np.bool_]], safe: float
) -> Floats:
    """`guess` where it is confirmed, else the confirmed end of a bisection from `safe`."""
    bad = ~confirmed(guess, np.full(guess.shape, True))
    if not np.any(bad):
        return guess
    good = np.full(int(bad.sum()), safe)
    other = np.where(np.isfinite(guess[bad]), guess[bad], 1.0 - safe)
    # From a distance of at most 1, 64 halvings end below the spacing of floats above 1e-3.
    for _ in range(64):
        middle = 0.5 * (good + other)
        holds = confirmed(middle, bad)
        good, other = np.where(holds, middle, good), np.where(holds, other, middle)
    result = guess.copy()
    result[bad] = good
    return result


def _totals(data: Any) -> tuple[Floats, Floats, float]:
    """Return sums, numbers of draws, and the relative error of the sums (0: of hard votes)."""
    if isinstance(data, tuple):
        if len(data) != 2:
            raise ValueError(
                "data must be a tuple (successes, n_drawn) or an array of draws; got a tuple of "
                f"length {len(data)}."
            )
        total, n_drawn = np.broadcast_arrays(
            _real_numbers(data[0], "successes").astype(np.float64),
            _real_numbers(data[1], "n_drawn").astype(np.float64),
        )
        # From 2**53 on, floats no longer tell successes from n_drawn where they differ by one.
        if np.any(~((n_drawn >= 1) & (n_drawn < _COUNT_LIMIT)) | (n_drawn != np.rint(n_drawn))):
            raise ValueError(
                "n_drawn must be a whole number >= 1 and below 2**53; got values from "
                f"{np.min(n_drawn):g} to {np.max(n_drawn):g}."
            )
        wrong = ~((total >= 0) & (total <= n_drawn))
        if np.any(wrong):
            raise ValueError(
                "successes must be in [0, n_drawn]; got "
                f"{_first(total[wrong])} of {_first(n_drawn[wrong])}."
            )
        return total, n_drawn, 0.0
    draws = _real_numbers(data, "data").astype(np.float64)
    if draws.ndim == 0 or draws.shape[-1] == 0:
        raise ValueError(
            "data must be a tuple (successes, n_drawn) or an array with at least one draw on its "
            f"last axis; got shape {draws.shape}."
        )
    wrong = ~((draws >= 0) & (draws <= 1))
    if np.any(wrong):
        raise ValueError(f"draws must be in [0, 1]; got {_first(draws[wrong])}.")
    n = draws.shape[-1]
    # Sums of zeros and ones are exact; of scores, in any order, good to (n - 1) eps / 2.
    whole = bool(np.all((draws == 0) | (draws == 1)))
    total = np.minimum(draws.sum(axis=-1), float(n))
    return total, np.full(total.shape, float(n)), 0.0 if whole else n * _EPS


def _first(values: Floats) -> str:
    return f"{float(values.ravel()[0]):g}"


def _real_numbers(values: Any, name: str) -> NDArray[Any]:
    """`values` as an array of a real dtype; text, complex and masked values are refused."""
    if np.ma.isMaskedArray(values):
        raise TypeError(f"{name} must not be a masked array: say what masked entries stand for.")
    try:
        array = np.asarray(values)
        if array.dtype == object and all(map(_is_real, array.flat)):
            array = array.astype(np.float64)
    except (ValueError, OverflowError) as failure:
        raise ValueError(f"{name} must be an array of real numbers; {failure}.") from failure
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers; got dtype {array.dtype}.")
    return array


def _is_real(value: Any) -> bool:
    return isinstance(value, Real)


def _check_choice(value: Any, name: str, allowed: set[str]) -> None:
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(f"{name} must be one of {sorted(allowed)}; got {value!r}.")


def _check_side(side: str) -> None:
    if not (isinstance(side, str) and side in ("lower", "upper")):
        raise ValueError(f"side must be 'lower' or 'upper'; got {side!r}.")


def _check_error(error: ArrayLike) -> Floats:
    level = _real_numbers(error, "error").astype(np.float64)
    wrong = ~((level >= _SMALLEST_ERROR) & (level < 1))
    if np.any(wrong):
        raise ValueError(f"error must be in [{_SMALLEST_ERROR:g}, 1); got {_first(level[wrong])}.")
    return level


def _error_per_statement(confidence_level: Any, n_statements: Any) -> float:
    if not _is_real(confidence_level):
        raise TypeError(f"confidence_level must be a number in (0, 1); got {confidence_level!r}.")
    if not 0.0 < float(confidence_level) < 1.0:
        raise ValueError(f"confidence_level must be in (0, 1); got {confidence_level!r}.")
    if not _is_real(n_statements):
        raise TypeError(f"n_statements must be an integer >= 1; got {n_statements!r}.")
    if not 1 <= n_statements <= _COUNT_LIMIT or n_statements != int(n_statements):
        raise ValueError(
            f"n_statements must be an integer >= 1, at most 2**53; got {n_statements!r}."
        )
    # 0.999 is meant as the decimal: 1 - 0.999 in floats is above 0.001.
    exact = (1 - Fraction(repr(float(confidence_level)))) / int(n_statements)
    error = float(exact)
    return error if Fraction(error) <= exact else float(np.nextafter(error, 0.0))


def _split_votes(votes: Any, correction: str) -> tuple[Integers, Integers]:
    """Separate the votes that choose the class from those that bound its probability."""
    if correction != "holdout":
        counts = _vote_counts(votes, "votes")
        return counts, counts
    if not (isinstance(votes, tuple) and len(votes) == 2):
        raise ValueError(
            "With correction='holdout', votes must be a tuple (selection, estimation) of counts "
            f"from disjoint draws; got {type(votes).__name__}."
        )
    selection = _vote_counts(votes[0], "votes[0]")
    estimation = _vote_counts(votes[1], "votes[1]")
    if selection.shape != estimation.shape:
        raise ValueError(
            "Selection and estimation votes must have the same shape; got "
            f"{selection.shape} and {estimation.shape}."
        )
    return selection, estimation


def _vote_counts(votes: Any, name: str) -> Integers:
    counts = _real_numbers(votes, name)
    if counts.ndim != 2 or counts.shape[1] == 0:
        raise ValueError(
            f"{name} must be counts of shape (n_samples, n_classes); got shape {counts.shape}."
        )
    wrong = np.any(~(counts >= 0) | (counts != np.rint(counts)), axis=1)
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{name} must be whole numbers >= 0 (hard votes); row {row} is {counts[row].tolist()}."
        )
    # A sum of floats below the limit is exact; one that is not below it does not round to below.
    large = ~(counts.sum(axis=1, dtype=np.float64) < _COUNT_LIMIT)
    if np.any(large):
        row = int(np.argmax(large))
        raise ValueError(
            f"{name} must sum to less than 2**53 in a row; row {row} is {counts[row].tolist()}."
        )
    return counts.astype(np.int64)


def _n_drawn_per_row(n_drawn: ArrayLike | None, counts: Integers) -> Integers:
    sums = np.asarray(counts.sum(axis=1))
    if n_drawn is None:
        if sums.size and sums.min() != sums.max():
            # Leaving failed draws out of n would let the failures choose the winner.
            raise ValueError(
                f"The rows of votes sum to between {sums.min()} and {sums.max()}: some draws did "
                "not vote. Give n_drawn, the number of draws with the failed ones included."
            )
        return sums
    given = _real_numbers(n_drawn, "n_drawn")
    if np.any(~((given >= 0) & (given < _COUNT_LIMIT)) | (given != np.rint(given))):
        raise ValueError(f"n_drawn must be whole numbers >= 0 and below 2**53; got {n_drawn!r}.")
    drawn = given.astype(np.int64)
    if drawn.shape not in ((), sums.shape):
        raise ValueError(
            f"n_drawn must be a number or of shape {sums.shape}, one per row; got shape "
            f"{drawn.shape}."
        )
    drawn = np.broadcast_to(drawn, sums.shape)
    if np.any(drawn < sums):
        row = int(np.argmax(drawn < sums))
        raise ValueError(
            f"n_drawn must be at least the number of votes; row {row} has {sums[row]} votes from "
            f"{drawn[row]} draws."
        )
    return drawn


def _check_enough_draws(
    n: int,
    bounds: Callable[[Integers, Integers, Integers], tuple[Floats, Floats, Floats]],
    setting: str,
) -> None:
    """Refuse a number of draws from which no vote, not even a unanimous one, is certifiable."""

    def enough(draws: int) -> bool:
        if draws < 1:
            return False
        count = np.array([draws])
        p_a, _, p_b = bounds(count, np.array([0]), count)
        return bool(p_a[0] > p_b[0])

    if enough(n):
        return
    too_few, needed = n, max(1, 2 * n)
    while not enough(needed):
        too_few, needed = needed, 2 * needed
    while needed - too_few > 1:
        middle = (too_few + needed) // 2
        too_few, needed = (too_few, middle) if enough(middle) else (middle, needed)
    raise TooFewDrawsError(
        f"Even unanimous votes from n_drawn={n} certify nothing at {setting}: at least {needed} "
        "draws are needed."
    )
