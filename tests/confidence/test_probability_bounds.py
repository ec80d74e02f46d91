# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

from fractions import Fraction
from math import ceil, log, sqrt

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, poisson

from sksmooth.confidence import clopper_pearson, hoeffding, probability_bounds
from sksmooth.exceptions import TooFewDrawsError

from ._oracles import multinomial, tail_at_least, tail_at_least_mp

# --- probability_bounds: coverage, computed exactly ----------------------------------------------

NEAR_TIES = {
    2: [(0.5, 0.5), (0.499, 0.501), (0.45, 0.55), (0.35, 0.65), (0.2, 0.8), (0.05, 0.95)],
    3: [
        (0.5, 0.5, 0.0),
        (0.5, 0.25, 0.25),
        (0.48, 0.26, 0.26),
        (1 / 3, 1 / 3, 1 / 3),
        (0.4, 0.4, 0.2),
        (0.44, 0.44, 0.12),
        (0.6, 0.3, 0.1),
        (0.8, 0.15, 0.05),
    ],
}


def false_rates(n, p, n_classes, **params):
    """Exact chance of a false certificate, and of bounds that are false at all."""
    votes, chance = multinomial(n, p)
    top, p_a, tail_a, p_b = probability_bounds(votes[:, :n_classes], n_drawn=n, **params)
    truth = np.array(p[:n_classes])
    rivals = np.tile(truth, (len(votes), 1))
    rivals[np.arange(len(votes)), top] = 0
    # 1e-15: truth may equal a bound, e.g. p = 1/2, and 1 - truth is rounded.
    false = (p_a > truth[top]) | (rivals.max(axis=1) > p_b + 1e-15)
    false |= 1 - truth[top] > tail_a + 1e-15
    assert chance.sum() == pytest.approx(1, abs=1e-12)
    return chance[false & (p_a > p_b)].sum(), chance[false].sum()


@pytest.mark.parametrize("bound", ["clopper-pearson", "hoeffding"])
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("confidence_level", [0.95, 0.8])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("failing", [0.0, 0.3])
def test_selection_keeps_its_level_exactly(bound, two_sided, confidence_level, n_classes, failing):
    for n in (23, 40):
        for classes in NEAR_TIES[n_classes]:
            p = tuple(q * (1 - failing) for q in classes) + ((failing,) if failing else ())
            if len(p) == 4 and n == 40:
                continue  # 12,000 outcomes say no more than the 2,600 of n = 23
            certificates, bounds = false_rates(
                n,
                p,
                n_classes,
                bound=bound,
                two_sided=two_sided,
                confidence_level=confidence_level,
            )
            # 1e-12: floating-point sum of the chances of at most 2,600 outcomes.
            assert certificates <= 1 - confidence_level + 1e-12
            if two_sided:
                # Its statements hold for rows that are not certifiable too.
                assert bounds <= 1 - confidence_level + 1e-12


def test_selection_uses_the_whole_budget_at_a_tie():
    # Not conservative by design: at a tie of two classes the false certificates are exactly
    # P(k >= k*) from either side, with k* the least count whose tail at 1/2 is within alpha/2.
    n, alpha = 40, 0.05
    tail = [tail_at_least(k, n, 0.5) for k in range(n + 1)]
    threshold = next(k for k in range(n + 1) if tail[k] <= Fraction(1, 40))
    rate, _ = false_rates(n, (0.5, 0.5), 2, confidence_level=1 - alpha)
    assert rate == pytest.approx(float(2 * tail[threshold]), rel=1e-12)


def least_majority(n, alpha):
    """k_0 of the Notes: the least count whose exact tail at 1/2 is within alpha / 2."""
    return next(k for k in range(n + 2) if tail_at_least(k, n, 0.5) <= Fraction(alpha) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("bound", ["clopper-pearson", "hoeffding"])
@pytest.mark.parametrize(("n", "n_classes"), [(15, 2), (12, 3)])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_one_sided_selection_at_its_worst_probabilities(n, n_classes, alpha, bound):
    params = {"bound": bound, "confidence_level": 1 - alpha}
    counts = np.arange(n + 1)
    votes = np.zeros((n + 1, n_classes), dtype=int)
    votes[:, 0], votes[:, 1] = np.maximum(counts, n - counts), np.minimum(counts, n - counts)
    claims = np.unique(probability_bounds(votes, n_drawn=n, **params).p_a)
    claims = claims[claims > 0.5]
    assert len(claims) >= 2
    # A claim is false most often where the truth is just below it; the rest of the votes goes to
    # one rival, is shared with another or with failed draws, or is lost to them. And between.
    worst = []
    for x in [*(claims * (1 - 1e-9)), *np.linspace(0.3, 0.98, 18)]:
        rest = 1 - x
        shares = [(1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.8, 0.1, 0.1), (0.0, 0.0, 1.0)]
        if n_classes == 2:
            shares = [(1.0, 0.0), (0.6, 0.4), (0.0, 1.0)]
        rates = [false_rates(n, (x, *(rest * q for q in s)), n_classes, **params) for s in shares]
        # 1e-12: floating-point sum of the chances of at most 455 outcomes.
        assert max(rate for rate, _ in rates) <= alpha + 1e-12
        worst.append(rates[0][0])
    if bound == "clopper-pearson":
        # Just below a claim the whole error is put to use: half of it before g was counted. The
        # lowest claim, next to 1/2, moves more slowly than three steps follow.
        assert np.all(np.array(worst[1 : len(claims)]) >= 0.99 * alpha)
        assert worst[0] >= 0.8 * alpha


@pytest.mark.parametrize("bound", [clopper_pearson, hoeffding])
@pytest.mark.parametrize(("n", "alpha"), [(15, 0.05), (40, 0.05), (60, 0.001)])
def test_one_sided_selection_solves_for_the_level_that_it_uses(bound, n, alpha):
    # The inequality of the Notes in exact arithmetic, for all p from 1/2 to the bound.
    name = "hoeffding" if bound is hoeffding else "clopper-pearson"
    k = np.arange((n + 1) // 2, n + 1)
    got = probability_bounds(
        np.column_stack([k, n - k]), bound=name, confidence_level=float(1 - Fraction(str(alpha)))
    )
    half = bound((k, n), error=alpha / 2)
    k_0 = int(k[np.argmax(half > 0.5)])
    if bound is clopper_pearson:
        assert k_0 == least_majority(n, alpha)
    for count, p_a, tail_a, before in zip(
        k.tolist(), got.p_a.tolist(), got.tail_a.tolist(), half.tolist(), strict=True
    ):
        if count < k_0:
            assert p_a <= 0.5 <= tail_a
            assert p_a == pytest.approx(before, rel=1e-12)
            continue
        assert p_a > before  # strictly sharper than half of the error
        # `tail_a` speaks of the same p as `p_a`, on the other side of one rounding.
        ends = [Fraction(p_a), 1 - Fraction(tail_a)]
        for p in ends + [Fraction(1, 2) + (ends[0] - Fraction(1, 2)) * i / 8 for i in range(1, 8)]:
            allowed = Fraction(str(alpha)) - tail_at_least(k_0, n, 1 - p)
            assert tail_at_least(count, n, p) <= allowed
        if bound is clopper_pearson and count > k_0 + 2:
            assert tail_at_least(count, n, p_a) >= allowed_at(p_a, k_0, n, alpha) * Fraction(0.999)


def allowed_at(p, k_0, n, alpha):
    return Fraction(str(alpha)) - tail_at_least(k_0, n, 1 - Fraction(p))


def test_one_sided_selection_gains_over_half_of_the_error():
    # Gaussian radii in units of sigma, at n = 1000 and level 0.999.
    got = probability_bounds([[600, 400], [1000, 0]])
    radius = norm.isf(got.tail_a)
    before = norm.isf(clopper_pearson(([400, 0], 1000), error=0.0005, side="upper"))
    assert radius[0] / before[0] == pytest.approx(1.0664, abs=1e-4)
    assert (before[1], radius[1]) == pytest.approx((2.4289, 2.4633), abs=1e-4)


def test_one_sided_selection_knows_the_draws_of_each_row():
    n = np.array([30, 12, 1000, 30, 11, 5])
    votes = np.column_stack([n - 1, np.zeros_like(n)])
    got = probability_bounds(votes, n_drawn=n)
    for i in range(4):
        alone = probability_bounds(votes[i : i + 1], n_drawn=n[i])
        assert [a[0] for a in alone] == [b[i] for b in got]
    # 10 of 11 at alpha / 2 = 0.0005 and 4 of 5 are no majority: nothing is claimed.
    assert np.all(got.p_a[4:] <= 0.5)
    assert np.all(got.tail_a[4:] >= 0.5)


def test_papers_rule_breaks_its_level_with_two_classes():
    # Class chosen and bounded on the same votes: the one test is two tests.
    none, _ = false_rates(40, (0.5, 0.5), 2, correction="none", confidence_level=0.95)
    assert none == pytest.approx(float(2 * tail_at_least(26, 40, 0.5)), rel=1e-12)
    assert none > 0.08
    # n = 1000, as in the papers: the least count that certifies, and its exact chance.
    votes = np.column_stack([np.arange(500, 600), 1000 - np.arange(500, 600)])
    rates = {}
    for correction in ("none", "selection"):
        bounds = probability_bounds(votes, correction=correction, confidence_level=0.95)
        least = int(votes[np.argmax(bounds.p_a > bounds.p_b), 0])
        rates[correction] = float(2 * tail_at_least(least, 1000, 0.5))
    assert 0.08 < rates["none"] < 0.1
    assert rates["selection"] <= 0.05


def chance_that_a_class_reaches(least, n, n_classes):
    """P(some count >= least) of n votes spread evenly: Poisson counts, given their sum."""
    counts = poisson.pmf(np.arange(n + 1), n / n_classes)
    counts[least:] = 0
    total = np.ones(1)
    for _ in range(n_classes):
        total = np.convolve(total, counts)[: n + 1]
    return 1 - total[n] / poisson.pmf(n, n)


@pytest.mark.parametrize(("correction", "valid"), [("none", False), ("selection", True)])
def test_ten_equal_classes_misses_computed_exactly(correction, valid):
    n = 1000
    k = np.arange(80, 200)
    votes = np.zeros((len(k), 10), dtype=int)
    votes[:, 3] = k
    for other in (c for c in range(10) if c != 3):
        votes[:, other] = (n - k) // 9
    bounds = probability_bounds(
        votes, n_drawn=n, correction=correction, confidence_level=0.95, two_sided=True
    )
    reached = (bounds.top == 3) & (bounds.p_a > 0.1)
    missed = chance_that_a_class_reaches(int(k[np.argmax(reached)]), n, 10)
    if valid:
        assert missed <= 0.025 + 1e-9  # the half that belongs to the lower bounds
        assert missed > 0.01  # and it is put to use
    else:
        assert 0.35 < missed < 0.40


@pytest.mark.slow
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize(
    "p", [(0.1,) * 10, (0.49, *(0.51 / 9,) * 9), (0.3, 0.3, *(0.05,) * 8)], ids=str
)
def test_ten_classes_near_ties_simulated(p, two_sided):
    runs, alpha = 20_000, 0.05
    votes = np.random.default_rng(7).multinomial(1000, p, size=runs)
    bounds = probability_bounds(votes, confidence_level=1 - alpha, two_sided=two_sided)
    truth = np.array(p)
    rivals = np.tile(truth, (runs, 1))
    rivals[np.arange(runs), bounds.top] = 0
    false = (bounds.p_a > truth[bounds.top]) | (rivals.max(axis=1) > bounds.p_b)
    if not two_sided:
        false &= bounds.p_a > bounds.p_b
    # Valid bounds fail this with probability at most 1e-6 for a fresh seed.
    allowed = np.searchsorted(np.cumsum(np.exp(_log_binomial(runs, alpha))), 1 - 1e-6)
    assert false.sum() <= allowed


def _log_binomial(n, p):
    from scipy.stats import binom

    return binom.logpmf(np.arange(n + 1), n, p)


def test_holdout_keeps_its_level_exactly():
    # Whatever the selection votes say, the estimation votes alone decide: every class as top.
    n, alpha = 30, 0.1
    for p in NEAR_TIES[3]:
        votes, chance = multinomial(n, p)
        for chosen in range(3):
            selection = np.zeros_like(votes)
            selection[:, chosen] = 1
            for two_sided in (False, True):
                top, p_a, tail_a, p_b = probability_bounds(
                    (selection, votes),
                    correction="holdout",
                    confidence_level=1 - alpha,
                    two_sided=two_sided,
                )
                assert np.all(top == chosen)
                rival = max(q for c, q in enumerate(p) if c != chosen)
                false = (p_a > p[chosen]) | (1 - p[chosen] > tail_a + 1e-15) | (rival > p_b + 1e-15)
                assert chance[false].sum() <= alpha + 1e-12


# --- probability_bounds: which number stands where -----------------------------------------------


@pytest.mark.parametrize("name", ["clopper-pearson", "hoeffding"])
@pytest.mark.parametrize("n_statements", [1, 7])
def test_error_of_each_bound(name, n_statements):
    bound = {"clopper-pearson": clopper_pearson, "hoeffding": hoeffding}[name]
    votes, n = np.array([[250, 600, 100]]), 1000
    alpha = 0.001 / n_statements

    def check(correction, two_sided, top_error, rival_error):
        given = (votes, votes) if correction == "holdout" else votes
        got = probability_bounds(
            given,
            n_drawn=n,
            bound=name,
            correction=correction,
            two_sided=two_sided,
            n_statements=n_statements,
        )
        p_a = float(bound((600, n), error=top_error))
        tail_a = float(bound((400, n), error=top_error, side="upper"))
        rival = 1.0
        if rival_error is not None:
            rival = float(bound((250, n), error=rival_error, side="upper"))
        assert got.top.tolist() == [1]
        # 1e-12: the error is rounded down by at most two units in the last place.
        assert got.p_a[0] == pytest.approx(p_a, rel=1e-12)
        assert got.tail_a[0] == pytest.approx(tail_a, rel=1e-12)
        assert got.p_b[0] == pytest.approx(min(rival, tail_a), rel=1e-12)

    # One-sided selection: alpha less the chance that a class of probability 1 - p_a reaches k_0.
    got = probability_bounds(votes, n_drawn=n, bound=name, n_statements=n_statements)
    if name == "hoeffding":
        k_0 = next(k for k in range(n) if k / n - sqrt(log(2 / alpha) / (2 * n)) > 0.5)
    else:
        k_0 = next(k for k in range(501, n) if tail_at_least_mp(k, n, 0.5) <= alpha / 2)
    with mpmath.workdps(40):
        others = float(tail_at_least_mp(k_0, n, 1 - mpmath.mpf(float(got.p_a[0]))))
    assert 0 < others < 1e-3 * alpha
    top_error = alpha - others
    # Three steps: the third moves the error by others / alpha of the second's move.
    assert got.p_a[0] == pytest.approx(float(bound((600, n), error=top_error)), rel=1e-9)
    tail_a = float(bound((400, n), error=top_error, side="upper"))
    assert got.tail_a[0] == got.p_b[0] == pytest.approx(tail_a, rel=1e-9)
    assert got.top.tolist() == [1]

    check("holdout", False, alpha, None)
    check("holdout", True, alpha / 2, alpha / 2)
    check("none", False, alpha, None)
    check("none", True, alpha, alpha)


@pytest.mark.parametrize("bound", [clopper_pearson, hoeffding])
@pytest.mark.parametrize("k", [30, 300, 600, 990, 1000])
def test_two_sided_selection_solves_for_the_level_that_it_uses(bound, k):
    # The fixed point x = lower(alpha / 2 * x), found here by bisection.
    name = "hoeffding" if bound is hoeffding else "clopper-pearson"
    n, alpha = 1000, 0.001

    def holds(x):
        return float(bound((k, n), error=alpha / 2 * x)) >= x

    good, bad = 0.25 * float(bound((k, n), error=alpha / 2)), 1.0
    if good == 0.0:
        good = bad = 0.0
    for _ in range(60):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if middle and holds(middle) else (good, middle)
    got = probability_bounds([[k, 0, 0]], n_drawn=n, bound=name, two_sided=True)
    # The bound moves by about 1/15 of a change of the level at k = 30: four steps leave 2e-5.
    assert good * (1 - (1e-4 if k == 30 else 1e-6)) <= got.p_a[0] <= good * (1 + 1e-12)
    if good:
        assert got.tail_a[0] == pytest.approx(1 - good, rel=1e-6)
    rival = float(bound((0, n), error=alpha / 4, side="upper"))
    assert got.p_b[0] == pytest.approx(min(rival, got.tail_a[0]), rel=1e-12)


@pytest.mark.parametrize("n", [20, 60])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_two_sided_selection_claims_nothing_for_few_votes(n, alpha):
    # With ever more classes, ever less likely, some class gets one vote in every run: a positive
    # p_a for one vote would be false in all of them.
    k = np.arange(n + 1)
    got = probability_bounds(
        np.column_stack([k, *[np.zeros_like(k)] * 3]),
        n_drawn=n,
        two_sided=True,
        confidence_level=1 - alpha,
    )
    assert got.p_a[1] == 0.0
    assert got.tail_a[1] == 1.0
    # The inequality of the Notes at every bound that claims something, in exact arithmetic.
    half = Fraction(str(alpha)) / 2
    for count, p_a in zip(k.tolist(), got.p_a.tolist(), strict=True):
        if p_a:
            assert tail_at_least(count, n, p_a) <= half * Fraction(p_a)
    assert np.count_nonzero(got.p_a) > n / 2


def test_two_sided_price_does_not_grow_with_the_number_of_classes():
    few = probability_bounds([[600, 250, 150]], two_sided=True)
    many = probability_bounds([[600, 250, *[1] * 150]], two_sided=True)
    assert (few.p_a[0], few.p_b[0]) == (many.p_a[0], many.p_b[0])


def test_tail_is_not_one_minus_a_rounded_p_a():
    got = probability_bounds([[10_000_000, 0]], confidence_level=0.999)
    with mpmath.workdps(40):
        tail = -mpmath.expm1(mpmath.log(mpmath.mpf("0.001")) / 10_000_000)
        assert tail <= got.tail_a[0] <= tail * (1 + 1e-14)  # 1 - p_a is off by 1e-10 relative
        assert got.p_a[0] <= 1 - tail


def test_votes_for_nobody_count_as_draws():
    # 450 of 1000 members voted for class 0, 300 for class 1, 250 failed: no majority, no claim.
    failed = probability_bounds([[450, 300]], n_drawn=1000)
    assert failed.p_a[0] < 0.45
    assert failed.tail_a[0] > 0.55
    dropped = probability_bounds([[450, 300]], n_drawn=750)
    assert dropped.p_a[0] > dropped.p_b[0]
    with pytest.raises(ValueError, match="sum to between 750 and 1000"):
        probability_bounds([[450, 300], [700, 300]])
    rows = probability_bounds([[450, 300], [700, 300]], n_drawn=[1000, 1000])
    assert rows.p_a[0] == failed.p_a[0]


def test_ties_go_to_the_lowest_class_and_rows_do_not_mix():
    votes = np.array([[10, 45, 45], [98, 1, 1], [0, 0, 100]])
    got = probability_bounds(votes, two_sided=True)
    assert got.top.tolist() == [1, 0, 2]
    for i in range(3):
        alone = probability_bounds(votes[i : i + 1], two_sided=True)
        assert [a[0] for a in alone] == [b[i] for b in got]
    # The strongest rival of a tied top is as strong.
    assert got.p_b[0] > got.p_a[0]


def test_small_unsigned_counts_do_not_overflow():
    small = probability_bounds(np.array([[200, 100]], dtype=np.uint8), two_sided=True)
    wide = probability_bounds([[200, 100]], two_sided=True)
    assert [a[0] for a in small] == [b[0] for b in wide]


def test_one_class_and_no_rows():
    got = probability_bounds([[900]], n_drawn=1000, two_sided=True)
    assert got.p_b[0] == got.tail_a[0]
    empty = probability_bounds(np.zeros((0, 3), dtype=int))
    assert [part.shape for part in empty] == [(0,)] * 4


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 400), min_size=1, max_size=6),
    failed=st.integers(0, 300),
    two_sided=st.booleans(),
    bound=st.sampled_from(["clopper-pearson", "hoeffding"]),
    correction=st.sampled_from(["selection", "holdout", "none"]),
)
def test_ranges_and_order(counts, failed, two_sided, bound, correction):
    n = max(sum(counts) + failed, 40)
    given_votes = ([counts], [counts]) if correction == "holdout" else [counts]
    top, p_a, tail_a, p_b = probability_bounds(
        given_votes, n_drawn=n, bound=bound, two_sided=two_sided, correction=correction
    )
    assert top[0] == np.argmax(counts)
    assert 0 <= p_a[0] < 1
    assert 0 < p_b[0] <= tail_a[0] <= 1
    # Two roundings of one statement, each to its own side: charges of 1e-9 in the error.
    assert p_a[0] + tail_a[0] == pytest.approx(1, abs=1e-8)
    assert p_a[0] <= max(counts) / n


# --- probability_bounds: what it refuses ---------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "needed"),
    [
        # (alpha/2)^(1/n) > 1/2 from n > log2(2000) = 10.97 on.
        ({}, 11),
        ({"n_statements": 10}, ceil(log(20_000) / log(2))),
        ({"correction": "none"}, ceil(log(1000) / log(2))),
        # 1 - sqrt(log(2000) / 2n) > 1/2 from n > 2 log(2000) = 15.2 on.
        ({"bound": "hoeffding"}, 16),
        ({"confidence_level": 0.95}, 6),
    ],
)
def test_too_few_draws_says_how_many_are_needed(params, needed):
    with pytest.raises(TooFewDrawsError, match=f"at least {needed} draws"):
        probability_bounds([[needed - 1, 0], [0, needed - 1]], **params)
    got = probability_bounds([[needed, 0]], **params)
    assert got.p_a[0] > 0.5 > got.tail_a[0]


@pytest.mark.parametrize("correction", ["selection", "holdout"])
def test_too_few_draws_two_sided(correction):
    # p_b is at most tail_a, so a certificate needs p_a > 1 - U, found by trying every n.
    def ask(n):
        votes = [[n, 0, 0]]
        given = (votes, votes) if correction == "holdout" else votes
        return probability_bounds(given, two_sided=True, correction=correction)

    with pytest.raises(TooFewDrawsError, match=r"n_drawn=3 .* at least (\d+) draws") as error:
        ask(3)
    needed = int(str(error.value).split("at least ")[1].split()[0])
    for n in range(1, needed):
        with pytest.raises(TooFewDrawsError, match=f"at least {needed} draws"):
            ask(n)
    got = ask(needed)
    assert got.p_a[0] > got.p_b[0]


def test_one_long_row_is_enough_to_go_on():
    got = probability_bounds([[5, 0], [100, 0]], n_drawn=[5, 100])
    assert got.p_a[0] < 0.5 < got.p_a[1]
    with pytest.raises(TooFewDrawsError):
        probability_bounds([[0, 0]])
    with pytest.raises(ValueError, match="row 0 has 0"):
        probability_bounds([[0, 0], [100, 0]], n_drawn=[0, 100])


@pytest.mark.parametrize(
    ("votes", "params", "message"),
    [
        ([[60, 40], [60, 41]], {"n_drawn": 100}, "row 1 has 101 votes from 100 draws"),
        ([[60, 40]], {"n_drawn": [100, 100]}, r"shape \(1,\)"),
        ([[60, 40]], {"n_drawn": 100.5}, "whole"),
        ([60, 40], {}, r"got shape \(2,\)"),
        ([[60, -1]], {}, r"row 0 is \[60, -1\]"),
        ([[1, 2], [60.5, 1]], {}, "row 1"),
        ([[np.nan, 1]], {}, "row 0"),
        ([[60, 40]], {"bound": "wald"}, "bound must be one of"),
        ([[60, 40]], {"correction": "bonferroni"}, "correction must be one of"),
        ([[60, 40]], {"correction": "holdout"}, "tuple"),
        (([[6, 4]], [[60, 30, 10]]), {"correction": "holdout"}, "same shape"),
        ([[60, 40]], {"confidence_level": 1.0}, r"confidence_level must be in \(0, 1\)"),
        ([[60, 40]], {"confidence_level": 0.0}, "got 0.0"),
        ([[60, 40]], {"n_statements": 0}, "n_statements must be an integer >= 1"),
        ([[60, 40]], {"n_statements": 1.5}, "got 1.5"),
        ([[60, 40]], {"n_statements": np.inf}, "n_statements must be .* got inf"),
        ([[60, 40]], {"n_statements": np.nan}, "n_statements must be .* got nan"),
        ([[60, 40]], {"n_statements": 10**100}, r"n_statements must be .* at most 2\*\*53"),
        ([[60, 40]], {"confidence_level": np.nan}, "confidence_level must be .* got nan"),
        ([[60, 40]], {"confidence_level": 1 - Fraction(1, 10**30)}, r"confidence_level must be"),
        ([[60, 40]], {"bound": ["hoeffding"]}, "bound must be one of"),
        ([[60, 40]], {"correction": ["none"]}, "correction must be one of"),
        # Sums that overflow an int64, or that floats cannot tell from their neighbours.
        (
            [[2**63 - 10, 2**63 - 10]],
            {"n_drawn": 2**63 - 1, "bound": "hoeffding"},
            r"votes must sum to less than 2\*\*53 in a row; row 0",
        ),
        ([[2**62] * 3], {"bound": "hoeffding"}, r"votes must sum to less than 2\*\*53"),
        ([[5, 5], [2**52, 2**52]], {"bound": "hoeffding"}, "row 1 is"),
        ([[10**30, 1]], {}, r"votes must sum to less than 2\*\*53"),
        ([[10**400, 1]], {}, "votes must be an array of real numbers"),
        ([[np.inf, 1]], {}, "votes must sum to less"),
        ([[60, 40], [1]], {}, "votes must be an array of real numbers"),
        ([[60, 40]], {"n_drawn": 2**53, "bound": "hoeffding"}, r"n_drawn must be .* 2\*\*53"),
        ([[60, 40]], {"n_drawn": -100}, "n_drawn must be whole numbers >= 0"),
        ([[60, 40]], {"n_drawn": np.nan}, "n_drawn must be whole numbers >= 0"),
    ],
)
def test_probability_bounds_refuses(votes, params, message):
    with pytest.raises(ValueError, match=message):
        probability_bounds(votes, **params)


@pytest.mark.parametrize(
    ("votes", "params", "message"),
    [
        ([[60, 40]], {"confidence_level": "0.999"}, "confidence_level must be a number"),
        ([[60, 40]], {"confidence_level": None}, "confidence_level must be a number"),
        ([[60, 40]], {"n_statements": None}, "n_statements must be an integer >= 1; got None"),
        ([[60, 40]], {"n_statements": "2"}, "n_statements must be an integer >= 1"),
        ([[60, 40]], {"two_sided": "False"}, "two_sided must be True or False; got 'False'"),
        ([[60, 40]], {"two_sided": None}, "two_sided must be True or False"),
        ([[60 + 0j, 40]], {}, "votes must be real numbers; got dtype complex128"),
        ([["60", "40"]], {}, "votes must be real numbers"),
        ([[60, None]], {}, "votes must be real numbers; got dtype object"),
        (np.ma.masked_array([[60, 40]], mask=[[0, 1]]), {}, "votes must not be a masked array"),
        ([[60, 40]], {"n_drawn": 100 + 0j}, "n_drawn must be real numbers"),
        ([[60, 40]], {"n_drawn": np.ma.masked_array([100])}, "n_drawn must not be a masked"),
        (([[1, 1j]], [[60, 40]]), {"correction": "holdout"}, r"votes\[0\] must be real numbers"),
    ],
)
def test_probability_bounds_refuses_other_kinds(votes, params, message):
    with pytest.raises(TypeError, match=message):
        probability_bounds(votes, **params)


def test_votes_of_other_types_that_hold_whole_numbers_are_read():
    expected = probability_bounds([[60, 40]])
    for votes in (
        np.array([[60, 40]], dtype=object),
        np.array([[60.0, 40.0]], dtype=np.float16),
        np.array([[60, 40]], dtype=np.uint64),
    ):
        got = probability_bounds(votes, n_drawn=np.float32(100), two_sided=np.bool_(False))
        assert [a[0] for a in got] == [b[0] for b in expected]


def test_error_per_statement_is_never_rounded_up():
    # A unit in the last place is below what any bound shows; the exact share is the oracle.
    from sksmooth.confidence._levels import error_per_statement

    for level in ("0.9", "0.95", "0.99", "0.999", "0.9999", "0.3"):
        for m in (1, 3, 7, 1000):
            exact = (1 - Fraction(level)) / m
            error = error_per_statement(float(level), m)
            assert exact * (1 - Fraction(1, 2**51)) <= Fraction(error) <= exact
