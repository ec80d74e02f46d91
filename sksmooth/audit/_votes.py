# SPDX-License-Identifier: BSD-3-Clause
"""Whether bounds on a vote follow from its counts: exact tails, in 60 digits.

Written from the Notes of `sksmooth.confidence.probability_bounds` alone, which hold the proofs, and
without its code. A bound is not computed again but tested: each function says whether the defining
inequality holds at a claimed value.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath

mp = mpmath.mp.clone()
mp.dps = 60

# Below this width an interval of probabilities is given up.
_NARROWEST = mp.mpf(2) ** -80


def number(value: Any) -> Any:
    """Return a float, integer or fraction in 60 digits."""
    fraction = Fraction(value)
    return mp.mpf(fraction.numerator) / fraction.denominator


def at_least(n: int, k: int, x: Any) -> Any:
    """Return ``P(Bin(n, x) >= k)``."""
    if k <= 0:
        return mp.one
    if k > n or x <= 0:
        return mp.zero
    if x >= 1:
        return mp.one
    if k <= n * x:
        return mp.one - at_least(n, n - k + 1, 1 - x)
    log_term = mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)
    term = mp.exp(log_term + k * mp.log(x) + (n - k) * mp.log1p(-x))
    total, odds = term, x / (1 - x)
    for j in range(k, n):
        ratio = odds * (n - j) / (j + 1)  # falls with j, and is below 1 from here on
        term *= ratio
        total += term
        if term < total * mp.mpf(10) ** -50 * (1 - ratio):
            break
    return total


def _capital(n: int, k: int, m: Any) -> Any:
    """Return ``M_n(m)`` of the confidence sequence: it reaches 1/error with chance error at most.

    ``B(k + 1, n - k + 1) P(Q > m) / ((1 - m) m^k (1 - m)^(n - k))``, Q of that beta distribution.
    """
    if m <= 0:
        return mp.inf
    log_beta = mp.loggamma(k + 1) + mp.loggamma(n - k + 1) - mp.loggamma(n + 2)
    beyond = mp.one - at_least(n + 1, k + 1, m)
    return mp.exp(log_beta - k * mp.log(m) - (n - k + 1) * mp.log1p(-m)) * beyond


def _bernstein_width(n: int, k: int, level: Any) -> Any:
    variance = number(Fraction(k * (n - k), n * (n - 1)))
    log_term = mp.log(2 / level)
    return mp.sqrt(2 * variance * log_term / n) + 7 * log_term / (3 * (n - 1))


def lower_holds(bound: str, n: int, k: int, p: Any, level: Any) -> bool:
    """Tell whether p is a lower bound at this level, from k of n votes."""
    if p <= 0:
        return True
    if p >= 1:
        return False
    if bound == "anytime":
        return bool(_capital(n, k, p) * level >= 1)
    if bound == "empirical-bernstein":
        return bool(p <= mp.mpf(k) / n - _bernstein_width(n, k, level))
    # Clopper and Pearson's; Hoeffding's inequality bounds the same tail, so its bound is below.
    return bool(at_least(n, k, p) <= level)


def upper_holds(bound: str, n: int, k: int, p: Any, level: Any) -> bool:
    """Tell whether p is an upper bound at this level."""
    if bound == "empirical-bernstein":
        return bool(p >= 1 or p >= mp.mpf(k) / n + _bernstein_width(n, k, level))
    return lower_holds(bound, n, n - k, 1 - p, level)


def majority_holds(bound: str, n: int, k: int, p: Any, error: Any) -> bool:
    """Tell whether p > 1/2 may be claimed for a class that was chosen by the votes that bound it.

    k votes are enough for a claim, and every x in (1/2, p] is rejected at its own
    level ``error - g(1 - x)``, with g(q) the chance of enough votes for a claim.
    """
    half = mp.mpf(1) / 2
    least = _least_claim(bound, n, error / 2)
    if k < least:
        return False
    left = [(half, p)]
    while left:
        below, above = left.pop()
        if at_least(n, k, above) <= error - at_least(n, least, 1 - below):
            continue  # both sides fall or rise with x: it holds between the two
        if above - below < _NARROWEST:
            return False
        middle = (below + above) / 2
        left += [(below, middle), (middle, above)]
    return True


def _least_claim(bound: str, n: int, level: Any) -> int:
    """Return the least count whose lower bound is above 1/2."""
    below, least = n // 2, n + 1
    while least - below > 1:
        middle = (below + least) // 2
        if bound == "hoeffding":
            claims = mp.mpf(middle) / n - mp.sqrt(-mp.log(level) / (2 * n)) > mp.mpf(1) / 2
        else:
            claims = at_least(n, middle, mp.mpf(1) / 2) < level
        below, least = (below, middle) if claims else (middle, least)
    return least


def why_votes_do_not_show(row: dict[str, Any], sampling: dict[str, Any]) -> str | None:
    """Return why a row's bounds do not follow from its votes; None where they do."""
    counts, choosing, n = row["votes"], row["choosing_votes"], int(row["n_drawn"])
    bound, correction = sampling["bound"], sampling["correction"]
    two_sided, n_classes = bool(sampling["two_sided"]), len(counts)
    if min(counts) < 0 or sum(counts) > n:
        return f"{counts} are not the votes of {n} draws"
    top = choosing.index(max(choosing))
    if top != row["top"]:
        return f"class number {row['top']} has not the most votes"
    if correction != "holdout" and choosing != counts:
        return "the votes that choose the class are others than those that bound it"
    level = Fraction(str(sampling["confidence_level"]))
    error = number((1 - level) / int(sampling["n_statements"]))
    p, k = 1 - number(row["tail_a"]), counts[top]
    if not _top_holds(bound, correction, two_sided, n_classes, n, k, p, error):
        return f"{k} of {n} votes do not show a probability of {mp.nstr(p, 17)}"
    p_b = number(row["p_b"])
    if p_b >= number(row["tail_a"]):
        return None
    if not two_sided:
        return "p_b is below tail_a, though no rival has a bound of its own"
    share = {"selection": 4, "holdout": 2, "none": 1}[correction]
    rivals = [c for i, c in enumerate(counts) if i != top] or [n - k]
    for rival in rivals:
        if not upper_holds(bound, n, rival, p_b, error / share):
            return f"{rival} of {n} votes do not show a probability below {mp.nstr(p_b, 17)}"
    return None


def _top_holds(
    bound: str, correction: str, two_sided: bool, n_classes: int, n: int, k: int, p: Any, error: Any
) -> bool:
    if p <= 0:
        return True
    exact = bound in ("clopper-pearson", "hoeffding")
    if correction == "selection" and not two_sided and bound != "empirical-bernstein":
        if p <= mp.mpf(1) / 2:
            return True  # nothing is claimed: p_b is tail_a, at least 1/2
        return (
            majority_holds(bound, n, k, p, error)
            if exact
            else lower_holds(bound, n, k, p, error / 2)
        )
    if correction != "selection":
        halves = 2 if two_sided and correction == "holdout" else 1
        return lower_holds(bound, n, k, p, error / halves)
    if exact and two_sided:
        return lower_holds(bound, n, k, p, error / 2 * p)
    statements = max(n_classes, 2) * (2 if two_sided else 1)
    return lower_holds(bound, n, k, p, error / statements)
