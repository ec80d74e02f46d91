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
    0 0.9749 0.0251
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
        Sums of the draws, ``0 <= successes <= n_drawn``, taken as exact, and the number of draws;
        arrays that broadcast. Or the draws themselves, in [0, 1], along the last axis.
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
# "selection" in `probability_bounds` are about Clopper-Pearson and carry over downwards.
# Hoeffding's does not: for x below its bound, P(Bin(n, x) >= k) <= exp(-2 n (k/n - x)^2) <= error.
_BOUNDS: dict[str, _Bound] = {"clopper-pearson": clopper_pearson, "hoeffding": hoeffding}

# Shares of the error: for the lower bound of the top class, for each upper bound of a rival
# (None: p_b is tail_a, which needs no statement of its own).
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
        Whole numbers of votes. With ``correction="holdout"`` the tuple ``(selection, estimation)``
        of votes from disjoint sets of draws, both fixed in size beforehand.
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
    n_statements : int, default=1
        Number of rows whose statements shall hold together; divides the error.

    Returns
    -------
    ProbabilityBounds
        Named tuple ``(top, p_a, tail_a, p_b)`` of arrays of shape (n_samples,).

    Raises
    ------
    TooFewDrawsError
        If not even unanimous votes would be certifiable for any row; says how many draws would do.
    ValueError
        If a parameter is outside its range, or a row has more votes than draws.

    Notes
    -----
    Write :math:`\alpha` for the error, :math:`L_c` and :math:`U_c` for the bounds of class c,
    :math:`p_c` for its probability (:math:`\sum_c p_c \le 1`), J for the class with most votes.

    **Selection, one-sided.** :math:`p_a = L_J` at :math:`a = \alpha/2`, for any number of classes.
    Certifiable means :math:`L_J > 1/2`. Only a strict majority has :math:`L_c > 1/2` (for
    :math:`k \le n/2` the tail at 1/2 is at least 1/2 > a), so a false certificate is one of the
    disjoint events :math:`\{L_c > \max(1/2, p_c)\}`. If :math:`p_c > 1/2`, which is true of one
    class at most, its chance is at most a. If :math:`p_c \le 1/2`, compare with a class of
    probability 1/2, for which it is at most a: the likelihood ratio at :math:`k > n/2` is

    .. math:: (2p)^k (2 - 2p)^{n-k} = (4p(1-p))^{n-k} (2p)^{2k-n} \le 2p,

    so the chance is at most :math:`2 a p_c`. With a class above 1/2 the sum is at most
    :math:`a + 2a(1 - p_{top}) \le 2a`, otherwise :math:`2a \sum_c p_c \le 2a = \alpha`. Where
    :math:`p_a \le 1/2`, nothing is claimed.

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
    0 0.661 0.339
    0 0.302 0.698
    >>> bounds = probability_bounds(
    ...     votes, n_drawn=1000, confidence_level=0.99, two_sided=True
    ... )
    >>> print(f"{bounds.p_a[0]:.3f} {bounds.p_b[0]:.3f}")
    0.659 0.238
    """
    if bound not in _BOUNDS:
        raise ValueError(f"bound must be one of {sorted(_BOUNDS)}; got {bound!r}.")
    if (correction, False) not in _SHARES:
        allowed = sorted({name for name, _ in _SHARES})
        raise ValueError(f"correction must be one of {allowed}; got {correction!r}.")
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
    claimed = np.full(k.shape, True)
    if correction == "selection" and two_sided:
        level, claimed = _level_for_all_classes(k, n, bound, level)
    p_a = np.where(claimed, bound((k, n), error=level, side="lower"), 0.0)
    # 1 - p_a as an upper bound for the failures: same statement, no cancellation near p_a = 1.
    tail_a = np.where(claimed, bound((n - k, n), error=level, side="upper"), 1.0)
    if rival_share is None:
        return p_a, tail_a, tail_a.copy()
    # An upper bound rises with the count: the strongest rival has the greatest.
    p_b = bound((rival, n), error=error * rival_share, side="upper")
    return p_a, tail_a, np.minimum(p_b, tail_a)


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


def _beta_slack(n: Floats) -> Floats:
    """Relative error charged to the distribution function of scipy.stats.beta.

    Measured against 50-digit sums for errors from 0.4 to 1e-100 and n up to 1e7: at most 3e-11 for
    n <= 1e6 and 5e-10 at n = 1e7 (SciPy 1.11), a hundredth of that with SciPy 1.17. Not so
    scipy.special.betainc of SciPy 1.11, which returns 0 for tails of 1e-6 at n = 1e5.
    """
    return 1e-9 + 1e-15 * n


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
        total, n_drawn = np.broadcast_arrays(*(np.asarray(part, dtype=np.float64) for part in data))
        if np.any(~(n_drawn >= 1) | (n_drawn != np.rint(n_drawn)) | np.isinf(n_drawn)):
            raise ValueError(
                f"n_drawn must be a whole number >= 1; got values from {np.min(n_drawn):g} to "
                f"{np.max(n_drawn):g}."
            )
        wrong = ~((total >= 0) & (total <= n_drawn))
        if np.any(wrong):
            raise ValueError(
                "successes must be in [0, n_drawn]; got "
                f"{_first(total[wrong])} of {_first(n_drawn[wrong])}."
            )
        return total, n_drawn, 0.0
    draws = np.asarray(data, dtype=np.float64)
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


def _check_side(side: str) -> None:
    if side not in ("lower", "upper"):
        raise ValueError(f"side must be 'lower' or 'upper'; got {side!r}.")


def _check_error(error: ArrayLike) -> Floats:
    level = np.asarray(error, dtype=np.float64)
    wrong = ~((level >= _SMALLEST_ERROR) & (level < 1))
    if np.any(wrong):
        raise ValueError(f"error must be in [{_SMALLEST_ERROR:g}, 1); got {_first(level[wrong])}.")
    return level


def _error_per_statement(confidence_level: float, n_statements: int) -> float:
    if not 0.0 < confidence_level < 1.0:
        raise ValueError(f"confidence_level must be in (0, 1); got {confidence_level!r}.")
    if n_statements != int(n_statements) or n_statements < 1:
        raise ValueError(f"n_statements must be an integer >= 1; got {n_statements!r}.")
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
    counts = np.asarray(votes)
    if counts.ndim != 2 or counts.shape[1] == 0:
        raise ValueError(
            f"{name} must be counts of shape (n_samples, n_classes); got shape {counts.shape}."
        )
    with np.errstate(invalid="ignore"):
        whole = counts.astype(np.int64)
    if np.any((whole != counts) | (whole < 0)):
        row = int(np.argmax(np.any((whole != counts) | (whole < 0), axis=1)))
        raise ValueError(
            f"{name} must be whole numbers >= 0 (hard votes); row {row} is {counts[row].tolist()}."
        )
    return whole


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
    given = np.asarray(n_drawn)
    with np.errstate(invalid="ignore"):
        drawn = given.astype(np.int64)
    if np.any(drawn != given):
        raise ValueError(f"n_drawn must be whole numbers; got {n_drawn!r}.")
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
