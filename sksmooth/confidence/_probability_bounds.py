# SPDX-License-Identifier: BSD-3-Clause
"""From the votes for several classes to the `p_a` and `p_b` that a radius needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sksmooth.confidence._anytime import anytime
from sksmooth.confidence._betting import betting
from sksmooth.confidence._binomial import clopper_pearson
from sksmooth.confidence._bounded import empirical_bernstein, hoeffding
from sksmooth.confidence._inputs import Bound, Floats, Integers, check_choice
from sksmooth.confidence._levels import (
    error_per_statement,
    level_for_a_majority,
    level_for_all_classes,
    level_for_each_class,
)
from sksmooth.confidence._votes import Counts, Scores, read_votes
from sksmooth.exceptions import TooFewDrawsError


class _Rule(NamedTuple):
    """A bound, and what the proofs for hard votes may use of it.

    "exact": the lower bound is never above the exact one, that is P(Bin(n, x) >= k) <= error for
    every x up to it. Hoeffding's has it: that chance is at most exp(-2 n (k/n - x)^2) <= error.
    "anytime": holds at all n at once. Both rise with the count. "other": none of these.
    """

    bound: Bound
    kind: str
    least_draws: int = 1


_RULES = {
    "anytime": _Rule(anytime, "anytime"),
    "betting": _Rule(betting, "other"),
    "clopper-pearson": _Rule(clopper_pearson, "exact"),
    "empirical-bernstein": _Rule(empirical_bernstein, "other", least_draws=2),
    "hoeffding": _Rule(hoeffding, "exact"),
}

# Shares of the error: for the lower bound of the top class (with "selection" where a statement for
# it alone is enough, see `_top_level`), for each upper bound of a rival (None: p_b is tail_a, which
# needs no statement of its own).
_SHARES: dict[tuple[str, bool], tuple[float, float | None]] = {
    ("selection", False): (1 / 2, None),
    ("selection", True): (1 / 2, 1 / 4),
    ("holdout", False): (1.0, None),
    ("holdout", True): (1 / 2, 1 / 2),
    ("none", False): (1.0, None),
    ("none", True): (1.0, 1.0),
}


class _Setting(NamedTuple):
    """Everything but the votes."""

    rule: _Rule
    error: float
    correction: str
    two_sided: bool
    n_classes: int


class ProbabilityBounds(NamedTuple):
    """Bounds on the vote of infinitely many draws, one row per sample.

    Attributes
    ----------
    top : ndarray of shape (n_samples,)
        Index of the class spoken of; ties go to the lowest index.
    p_a : ndarray of shape (n_samples,)
        Lower bound on the probability of `top`, in [0, 1).
    tail_a : ndarray of shape (n_samples,)
        Upper bound on one minus that probability, in (0, 1]; with hard votes computed on its own,
        not from `p_a`.
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
    r"""Bound the probabilities of the class with most votes and of its rivals.

    Each draw (a member of an ensemble, a noisy copy of a test input) votes for one class or, if it
    failed, for none (hard votes), or gives each class a score (soft votes); the probability of a
    class is the mean of infinitely many such votes or scores. A row is *certifiable* if ``p_a >
    p_b``. With probability at least `confidence_level` over the draws, a row is not certifiable or
    its bounds are true; this is one statement per row, or jointly over `n_statements` rows declared
    beforehand.

    Parameters
    ----------
    votes : array-like of shape (n_samples, n_classes[, n_draws]), or a tuple of two such arrays
        Hard votes: whole numbers of votes, below 2**53 in each row. Soft votes: scores in [0, 1],
        with the draws on the last axis in an order fixed beforehand, a failed draw as zeros; the
        scores of one draw sum to at most 1 (where by rounding they sum to more, to 1 + 1e-5 at
        most, they are divided by their sum). With ``correction="holdout"`` the tuple
        ``(selection, estimation)`` of votes from disjoint sets of draws, both fixed in size
        beforehand; the sizes may differ.
    n_drawn : int or array-like of shape (n_samples,), optional
        Number of draws behind each row (of the estimation votes, with a holdout), those that failed
        included; at least the row's sum. Left out, every draw must have voted: all rows then have
        the same sum. With soft votes it can only be their number of draws.
    bound : str, default="clopper-pearson"
        The bound on a single probability: ``"clopper-pearson"`` (hard votes), ``"betting"`` (soft
        votes; hard ones can be passed as scores 0 and 1), ``"hoeffding"``,
        ``"empirical-bernstein"`` or ``"anytime"`` (both). ``"anytime"`` alone may be used more than
        once on a growing number of draws, and to decide when to stop.
    confidence_level : float in (0, 1), default=0.999
        One minus the error, read as the decimal number that it prints as.
    correction : {"selection", "holdout", "none"}, default="selection"
        How the choice of the class is paid for; see Notes. ``"none"`` is **not valid**: it chooses
        and bounds on the same votes at the full error per bound, as RAB and Wang et al. do, and is
        there to reproduce them.
    two_sided : bool, default=False
        Bound the rivals by their own votes. Otherwise ``p_b = tail_a``. Worth its price with three
        classes or more, or with failed draws. The rivals of a single class are whatever is not it.
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
        If a parameter is outside its range, a row has more votes than draws, or `bound` does not
        go with the kind of votes.

    Notes
    -----
    Write :math:`\alpha` for the error, :math:`L_c` and :math:`U_c` for the bounds of class c,
    :math:`p_c` for its probability (:math:`\sum_c p_c \le 1`), J for the class with most votes, C
    for the number of classes (2 if there is one only).

    **Selection, one-sided**, hard votes, Clopper-Pearson or Hoeffding, for any C. Let :math:`k_0`
    be the least count with :math:`L_c > 1/2` at :math:`\alpha/2`, and
    :math:`g(q) = P(\mathrm{Bin}(n, q) \ge k_0)`, so that :math:`g(1/2) \le \alpha/2 < 1/2` and
    :math:`k_0 > n/2`. Fewer votes claim nothing: :math:`p_a \le 1/2`. From :math:`k_0` votes on,
    :math:`p_a` is a value below which every :math:`p > 1/2` is rejected at its own level, which is
    at least :math:`\alpha/2`:

    .. math:: P(\mathrm{Bin}(n, p) \ge k) \le \alpha - g(1 - p).

    *One class s has* :math:`p_s > 1/2`. Its claim is false with probability at most
    :math:`\alpha - g(1 - p_s)`. A claim for any other class takes :math:`k_0` votes; the chances of
    that sum to :math:`\sum_{c \ne s} g(p_c) \le g(1 - p_s)`, as :math:`g(q) / q` rises on
    [0, 1/2]: it is the mean over (0, q) of the density of Beta(:math:`k_0, n - k_0 + 1`), which
    rises up to its mode :math:`(k_0 - 1) / (n - 1) \ge 1/2`. Together at most :math:`\alpha`.
    *No class has.* The chances of any claim sum to
    :math:`\sum_c g(p_c) \le \sum_c 2 p_c\, g(1/2) \le \alpha`.

    **Selection, one-sided, anytime**, hard votes, for any C. A claim takes :math:`L_J > 1/2` at
    :math:`\alpha/2`; otherwise :math:`p_a \le 1/2`. Let s be the class with :math:`p_s > 1/2`, if
    there is one: :math:`L_s` is ever false with probability at most :math:`\alpha/2`. Any other
    class has :math:`p \le 1/2`. With k of n votes at its first claim, :math:`2k > n`, and there
    its likelihood is, relative to that of a class of probability 1/2,

    .. math:: (2p)^k (2 - 2p)^{n - k} = (4p(1 - p))^{n - k} (2p)^{2k - n} \le 2p.

    A class of probability 1/2 ever makes a claim with probability at most :math:`\alpha/2`, hence
    this one with at most :math:`2p\,\alpha/2 = \alpha p`. Together
    :math:`\alpha/2 + \alpha(1 - p_s) \le \alpha` with s, and :math:`\alpha \sum_c p_c \le \alpha`
    without, over all n at once. The level :math:`\alpha - g(1 - p)` from above is for a fixed n,
    and is not used.

    **Selection, two-sided**, hard votes, Clopper-Pearson or Hoeffding. Half of the error goes to
    all lower bounds at once, as :math:`(\alpha/2) p_c` to class c: test each value x of :math:`p_c`
    at level :math:`(\alpha/2) x`. Some true value is rejected with probability at most
    :math:`\sum_c (\alpha/2) p_c \le \alpha/2`, and :math:`p_a` is a value below which all are
    rejected: :math:`P(\mathrm{Bin}(n, x) \ge k) / x` has one maximum over x, is 1 at x = 1, and
    hence is at most :math:`\alpha/2` below any x where it is. The upper bounds need two statements,
    at :math:`\alpha/4` each, not one per class: let the most probable class be s and the next t.
    The greatest probability among the rivals of J is :math:`p_s` if J is not s, :math:`p_t` if it
    is; so :math:`\max_{c \ne J} U_c` covers it as soon as :math:`U_s` and :math:`U_t` hold. These
    statements are true whether the row is certifiable or not.

    **Selection, otherwise** (soft votes; hard votes with empirical Bernstein, and with anytime if
    two-sided). Nothing here ties the other classes' claims to a likelihood ratio, so each class has
    its own statement: :math:`L_c` at :math:`\alpha/C`; two-sided, at :math:`\alpha/(2C)`, and the
    upper bounds at :math:`\alpha/4` each, for the two statements on s and t as above. That holds
    for a bound that does not rise with the sum as well, as the maximum is over all :math:`U_c`.

    **Holdout.** J is fixed before the estimation votes are drawn, and so is its most probable
    rival: :math:`L_J` at :math:`\alpha`; two-sided, :math:`L_J` and the :math:`U_c` of that one
    rival, which :math:`\max_{c \ne J} U_c` covers whatever it does elsewhere, at
    :math:`\alpha/2` each. With anytime the estimation draws may be looked at while they grow, the
    selection draws may not.

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

    Scores that vary little from draw to draw:

    >>> import numpy as np
    >>> first = np.tile([0.75, 0.8, 0.7, 0.85], 250)
    >>> scores = np.stack([first, 1 - first])[np.newaxis]
    >>> for bound in ("hoeffding", "empirical-bernstein", "betting", "anytime"):
    ...     print(f"{bound:19} {probability_bounds(scores, bound=bound).p_a[0]:.3f}")
    hoeffding           0.713
    empirical-bernstein 0.748
    betting             0.766
    anytime             0.713
    """
    check_choice(bound, "bound", set(_RULES))
    check_choice(correction, "correction", {name for name, _ in _SHARES})
    if not isinstance(two_sided, (bool, np.bool_)):
        raise TypeError(f"two_sided must be True or False; got {two_sided!r}.")
    error = error_per_statement(confidence_level, n_statements)
    top, read = read_votes(votes, n_drawn, correction)
    _check_form(bound, soft=isinstance(read, Scores))
    n_classes = (read.scores if isinstance(read, Scores) else read.votes).shape[1]
    setting = _Setting(_RULES[bound], error, correction, bool(two_sided), n_classes)
    if top.size:
        told = f", with {n_classes} classes" if setting.rule.kind != "exact" else ""
        _check_enough_draws(
            read.scores.shape[2] if isinstance(read, Scores) else int(read.n_drawn.max()),
            lambda draws: _certifies_unanimous(draws, setting, soft=isinstance(read, Scores)),
            f"confidence_level={confidence_level!r}, n_statements={n_statements}, "
            f"bound={bound!r}, correction={correction!r}, two_sided={bool(two_sided)}{told}",
        )
    if isinstance(read, Scores):
        return ProbabilityBounds(top, *_from_scores(top, read, setting))
    least = setting.rule.least_draws
    if top.size and read.n_drawn.min() < least:
        row = int(read.n_drawn.argmin())
        raise ValueError(
            f"n_drawn must be at least {least} for bound={bound!r}; row {row} has "
            f"{read.n_drawn[row]}."
        )
    return ProbabilityBounds(top, *_from_counts(top, read, setting))


def _check_form(bound: str, *, soft: bool) -> None:
    if soft and bound == "clopper-pearson":
        raise ValueError(
            "bound='clopper-pearson' needs hard votes, counts of shape (n_samples, n_classes); got "
            "scores. For those: 'betting', 'empirical-bernstein', 'hoeffding', 'anytime'."
        )
    if not soft and bound == "betting":
        raise ValueError(
            "bound='betting' needs the draws in their order: pass scores of shape (n_samples, "
            "n_classes, n_draws), one-hot for hard votes; got counts."
        )


def _from_counts(
    top: NDArray[np.intp], given: Counts, setting: _Setting
) -> tuple[Floats, Floats, Floats]:
    """`p_a`, `tail_a`, `p_b` from hard votes."""
    counts, n = given
    bound, kind = setting.rule.bound, setting.rule.kind
    rows = np.arange(len(counts))
    k = counts[rows, top]
    p_a, tail_a = _top_bounds(k, n, setting)
    _, share = _SHARES[setting.correction, setting.two_sided]
    if share is None:
        return p_a, tail_a, tail_a.copy()
    rivals = counts.copy()
    rivals[rows, top] = -1
    # Without a rival class, "every other class" is read as everything that is not the top class.
    strongest = rivals.max(axis=1) if counts.shape[1] > 1 else n - k
    if kind != "other" or counts.shape[1] == 1:
        # An upper bound rises with the count: the strongest rival has the greatest.
        p_b = bound((strongest, n), error=setting.error * share, side="upper")
    else:
        each = bound((counts, n[:, np.newaxis]), error=setting.error * share, side="upper")
        each[rows, top] = 0.0
        p_b = each.max(axis=1)
    return p_a, tail_a, np.minimum(p_b, tail_a)


def _top_bounds(k: Integers, n: Integers, setting: _Setting) -> tuple[Floats, Floats]:
    """`p_a` and `tail_a` from `k` of `n` votes for the top class."""
    (bound, kind, _), error, correction, two_sided, n_classes = setting
    level: Floats = np.full(k.shape, error * _SHARES[correction, two_sided][0])
    # Where nothing is claimed p_a may be anything up to this value.
    claimed, unclaimed = np.full(k.shape, True), 0.0
    if correction == "selection":
        if kind == "exact" and two_sided:
            level, claimed = level_for_all_classes(k, n, bound, level)
        elif kind == "exact":
            level, claimed = level_for_a_majority(k, n, bound, error, level)
            unclaimed = 0.5
        elif kind == "anytime" and not two_sided:
            unclaimed = 0.5
        else:
            level[:] = level_for_each_class(error, n_classes, two_sided=two_sided)
    p_a = bound((k, n), error=level, side="lower")
    # 1 - p_a as an upper bound for the failures: same statement, no cancellation near p_a = 1.
    tail_a = bound((n - k, n), error=level, side="upper")
    if kind == "anytime" and unclaimed:
        claimed = p_a > unclaimed
    p_a = np.where(claimed, p_a, np.minimum(p_a, unclaimed))
    tail_a = np.where(claimed, tail_a, np.maximum(tail_a, 1.0 - unclaimed))
    return p_a, tail_a


def _from_scores(
    top: NDArray[np.intp], given: Scores, setting: _Setting
) -> tuple[Floats, Floats, Floats]:
    """`p_a`, `tail_a`, `p_b` from soft votes."""
    scores, excess = given
    (bound, _, _), error, correction, two_sided, n_classes = setting
    share, rival_share = _SHARES[correction, two_sided]
    level = error * share
    if correction == "selection":
        level = level_for_each_class(error, n_classes, two_sided=two_sided)
    p_a = bound(scores[np.arange(len(scores)), top], error=level, side="lower")
    # The same statement; p_a is too far from 1 for its spacing to matter. Rivals share 1 - p_J up
    # to `excess`.
    tail_a = np.minimum(np.nextafter(np.nextafter(1.0 - p_a, 2.0) + excess, 2.0), 1.0)
    p_b = tail_a.copy()
    if rival_share is not None and scores.shape[1] > 1:
        strongest = np.zeros(len(scores))
        for c in range(scores.shape[1]):
            # Every class: a bound may rank rivals otherwise than their sums do.
            upper = bound(scores[:, c], error=error * rival_share, side="upper")
            strongest = np.where(top == c, strongest, np.maximum(strongest, upper))
        p_b = np.minimum(p_b, strongest)
    return p_a, tail_a, p_b


@lru_cache(maxsize=1024)
def _certifies_unanimous(n: int, setting: _Setting, *, soft: bool) -> bool:
    """Whether n unanimous votes, of full score if they are soft, are certifiable."""
    if n < setting.rule.least_draws:
        return False
    top = np.zeros(1, dtype=np.intp)
    votes = np.zeros((1, min(setting.n_classes, 2)), dtype=np.int64)
    votes[0, 0] = n
    if soft:
        scores = np.repeat(votes[:, :, np.newaxis] / n, n, axis=2)
        p_a, _, p_b = _from_scores(top, Scores(scores, 0.0), setting)
    else:
        p_a, _, p_b = _from_counts(top, Counts(votes, np.array([n])), setting)
    return bool(p_a[0] > p_b[0])


def _check_enough_draws(n: int, enough: Callable[[int], bool], setting: str) -> None:
    """Refuse a number of draws from which no vote, not even a unanimous one, is certifiable."""
    if enough(n):
        return
    too_few, needed = n, max(1, 2 * n)
    while not enough(needed):
        too_few, needed = needed, 2 * needed
    while needed - too_few > 1:
        middle = (too_few + needed) // 2
        too_few, needed = (too_few, middle) if enough(middle) else (middle, needed)
    error = TooFewDrawsError(
        f"Even unanimous votes from n_drawn={n} certify nothing at {setting}: at least {needed} "
        "draws are needed."
    )
    error.n_needed = needed
    raise error
