# SPDX-License-Identifier: BSD-3-Clause
"""`probability_bounds` beyond counts and the exact bounds: which number stands where."""

from __future__ import annotations

import numpy as np
import pytest

from sksmooth.confidence import (
    anytime,
    betting,
    clopper_pearson,
    empirical_bernstein,
    hoeffding,
    probability_bounds,
)
from sksmooth.exceptions import TooFewDrawsError

BOUNDS = {
    "anytime": anytime,
    "betting": betting,
    "clopper-pearson": clopper_pearson,
    "empirical-bernstein": empirical_bernstein,
    "hoeffding": hoeffding,
}
SOFT = sorted(set(BOUNDS) - {"clopper-pearson"})
# Shares of the error with C classes: of the top class, of each rival.
SHARES = {
    ("selection", False): (lambda c: 1 / c, None),
    ("selection", True): (lambda c: 1 / (2 * c), 1 / 4),
    ("holdout", False): (lambda c: 1, None),
    ("holdout", True): (lambda c: 1 / 2, 1 / 2),
    ("none", False): (lambda c: 1, None),
    ("none", True): (lambda c: 1, 1),
}


def some_scores(n_draws=400, seed=0):
    """Three samples, four classes; a few failed draws."""
    rng = np.random.default_rng(seed)
    scores = np.stack(
        [rng.dirichlet(a, size=n_draws) for a in ((6, 2, 1, 1), (1, 1, 5, 1), (3, 3, 1, 1))]
    ).transpose(0, 2, 1)
    scores[:, :, ::50] = 0.0
    return scores


@pytest.mark.parametrize(("correction", "two_sided"), SHARES)
@pytest.mark.parametrize("name", SOFT)
def test_scores_get_the_errors_of_the_notes(name, correction, two_sided):
    bound, scores, alpha = BOUNDS[name], some_scores(), 0.01
    given = (some_scores(60, seed=1), scores) if correction == "holdout" else scores
    got = probability_bounds(
        given, bound=name, correction=correction, two_sided=two_sided, confidence_level=1 - alpha
    )
    lower, rival = SHARES[correction, two_sided]
    assert got.top.tolist()[:2] == [0, 2]
    for i, top in enumerate(got.top.tolist()):
        # 1e-9: errors are rounded down by two units in the last place, scores may be by one.
        p_a = float(bound(scores[i, top], error=alpha * lower(4)))
        assert got.p_a[i] == pytest.approx(p_a, rel=1e-9)
        assert got.tail_a[i] == pytest.approx(1 - p_a, rel=1e-9)
        assert got.tail_a[i] >= 1 - got.p_a[i]
        p_b = got.tail_a[i]
        if rival is not None:
            upper = bound(np.delete(scores[i], top, axis=0), error=alpha * rival, side="upper")
            p_b = min(p_b, upper.max())
        assert got.p_b[i] == pytest.approx(p_b, rel=1e-9)
        assert got.p_b[i] <= got.tail_a[i]


@pytest.mark.parametrize(("correction", "two_sided"), SHARES)
@pytest.mark.parametrize("name", ["anytime", "empirical-bernstein"])
def test_counts_get_the_errors_of_the_notes(name, correction, two_sided):
    bound, alpha, n = BOUNDS[name], 0.01, 1000
    votes = np.array([[700, 150, 100], [100, 520, 380], [2, 3, 990]])
    given = (votes, votes) if correction == "holdout" else votes
    got = probability_bounds(
        given,
        n_drawn=n,
        bound=name,
        correction=correction,
        two_sided=two_sided,
        confidence_level=1 - alpha,
    )
    lower, rival = SHARES[correction, two_sided]
    error = alpha * lower(3)
    majority = name == "anytime" and correction == "selection" and not two_sided
    if majority:
        error = alpha / 2
    k = votes.max(axis=1)
    p_a, tail_a = bound((k, n), error=error), bound((n - k, n), error=error, side="upper")
    if majority:
        assert (p_a > 0.5).tolist() == [True, False, True]
        p_a, tail_a = np.minimum(p_a, [1, 0.5, 1]), np.maximum(tail_a, [0, 0.5, 0])
    np.testing.assert_allclose(got.p_a, p_a, rtol=1e-12)
    np.testing.assert_allclose(got.tail_a, tail_a, rtol=1e-12)
    p_b = tail_a
    if rival is not None:
        second = np.sort(votes, axis=1)[:, 1]
        p_b = np.minimum(tail_a, bound((second, n), error=alpha * rival, side="upper"))
    np.testing.assert_allclose(got.p_b, p_b, rtol=1e-12)


def test_one_class_counts_as_two():
    scores = some_scores()[:, :1]
    for two_sided, share in ((False, 1 / 2), (True, 1 / 4)):
        got = probability_bounds(
            scores, bound="betting", two_sided=two_sided, confidence_level=0.99
        )
        expected = betting(scores[:, 0], error=0.01 * share)
        np.testing.assert_allclose(got.p_a, expected, rtol=1e-9)
        np.testing.assert_array_equal(got.p_b, got.tail_a)
    got = probability_bounds([[900]], n_drawn=1000, bound="empirical-bernstein", two_sided=True)
    assert 0.8 < got.p_a[0] < 0.9
    assert got.p_b[0] == got.tail_a[0]


def test_betting_asks_every_rival():
    # The class with the greater sum has the smaller upper bound.
    n = 400
    scores = np.zeros((1, 3, n))
    scores[0, 0] = 0.3
    scores[0, 1] = 0.2
    scores[0, 2] = 0.5 * (np.random.default_rng(0).permutation(n) < 0.38 * n)
    upper = betting(scores[0], error=0.001 / 4, side="upper")
    sums = scores[0].sum(axis=1)
    assert sums[1] > sums[2]
    assert upper[2] > upper[1]
    got = probability_bounds(scores, bound="betting", two_sided=True)
    assert got.p_b[0] == pytest.approx(upper[2], rel=1e-12)


def test_hard_votes_as_scores_say_what_their_counts_say():
    rng = np.random.default_rng(3)
    winner = rng.choice(4, p=[0.7, 0.1, 0.1, 0.1], size=(5, 300))
    scores = (winner[:, np.newaxis, :] == np.arange(3)[:, np.newaxis]).astype(int)
    counts = scores.sum(axis=2)
    for name in ("hoeffding", "empirical-bernstein", "anytime"):
        soft = probability_bounds(scores, bound=name, two_sided=True, correction="none")
        hard = probability_bounds(
            counts, n_drawn=300, bound=name, two_sided=True, correction="none"
        )
        for a, b in zip(soft, hard, strict=True):
            # The tails of both come from roundings of one statement.
            np.testing.assert_allclose(a, b, rtol=1e-8)


def test_selection_and_estimation_may_differ_in_form_and_size():
    scores = some_scores()
    chosen = np.array([[1, 9, 0, 0], [0, 0, 9, 1], [9, 1, 0, 0]])
    got = probability_bounds((chosen, scores), bound="betting", correction="holdout")
    assert got.top.tolist() == [1, 2, 0]
    np.testing.assert_allclose(
        got.p_a, betting(scores[[0, 1, 2], [1, 2, 0]], error=0.001), rtol=1e-9
    )
    counts = np.array([[10, 900, 50, 40]] * 3)
    got = probability_bounds((some_scores(30), counts), correction="holdout")
    assert got.top.tolist() == some_scores(30).sum(axis=2).argmax(axis=1).tolist()
    with pytest.raises(ValueError, match=r"same shape .*; got \(3, 4\) and \(3, 3\)"):
        probability_bounds((scores, counts[:, :3]), correction="holdout")
    with pytest.raises(ValueError, match="goes with correction='holdout'"):
        probability_bounds((scores[:, :, 0], scores[:, :, 1]), bound="betting")


def test_scores_that_sum_to_more_than_one_by_rounding_are_divided_by_their_sum():
    rng = np.random.default_rng(0)
    exact = rng.dirichlet((30, 1, 1), size=500).T[np.newaxis]
    single = exact.astype(np.float32)
    assert np.any(single.astype(float).sum(axis=1) > 1)
    got = probability_bounds(single * (1 + 4e-6), bound="betting", two_sided=True)
    expected = probability_bounds(exact, bound="betting", two_sided=True)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    # The rivals' means, by what the bounds speak of, are at most 1 - p_J up to the charge.
    assert got.tail_a[0] > 1 - got.p_a[0]
    with pytest.raises(ValueError, match="not sum to more than 1 .* got 1.0001"):
        probability_bounds(exact * 1.0001, bound="betting")
    # Draws that fail in part may sum to less.
    probability_bounds(exact * 0.9, bound="betting")


def test_the_scores_given_are_left_alone():
    scores = some_scores() * (1 + 1e-6)
    before = scores.copy()
    probability_bounds(scores, bound="betting")
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("correction", ["selection", "holdout"])
@pytest.mark.parametrize("name", SOFT)
def test_too_few_draws_says_how_many_scores_are_needed(name, correction, two_sided):
    def ask(n):
        scores = np.zeros((2, 3, n))
        scores[:, 1] = 1.0
        given = (scores, scores) if correction == "holdout" else scores
        return probability_bounds(given, bound=name, correction=correction, two_sided=two_sided)

    with pytest.raises(TooFewDrawsError, match="n_drawn=3 certify nothing") as failure:
        ask(3)
    needed = int(str(failure.value).split("at least ")[1].split()[0])
    with pytest.raises(TooFewDrawsError, match=f"at least {needed} draws"):
        ask(needed - 1)
    got = ask(needed)
    assert np.all(got.p_a > got.p_b)


@pytest.mark.parametrize("name", ["anytime", "empirical-bernstein"])
def test_too_few_draws_of_hard_votes(name):
    with pytest.raises(TooFewDrawsError, match=r"with 3 classes: at least (\d+)") as failure:
        probability_bounds([[1, 0, 0]], bound=name)
    needed = int(str(failure.value).split("at least ")[1].split()[0])
    got = probability_bounds([[needed, 0, 0]], bound=name)
    assert got.p_a[0] > got.p_b[0]
    with pytest.raises(TooFewDrawsError):
        probability_bounds([[needed - 1, 0, 0]], bound=name)


@pytest.mark.parametrize(
    ("votes", "params", "message"),
    [
        (some_scores(), {}, "'clopper-pearson' needs hard votes"),
        ([[900, 100]], {"bound": "betting"}, r"betting' needs the draws .* got counts"),
        (some_scores() * 2, {"bound": "betting"}, r"votes must be in \[0, 1\]"),
        (np.full((1, 2, 9), np.nan), {"bound": "anytime"}, "got nan"),
        (some_scores(), {"bound": "betting", "n_drawn": 401}, "last axis, 400"),
        (some_scores(), {"bound": "betting", "n_drawn": [400, 400]}, "last axis, 400"),
        (np.zeros((2, 3, 0)), {"bound": "betting"}, r"got shape \(2, 3, 0\)"),
        (np.zeros((2, 0, 3)), {"bound": "betting"}, r"got shape \(2, 0, 3\)"),
        (np.zeros((1, 1, 1, 1)), {"bound": "betting"}, r"got shape \(1, 1, 1, 1\)"),
        (
            [[900, 100], [1, 0]],
            {"bound": "empirical-bernstein", "n_drawn": [1000, 1]},
            "at least 2 for bound='empirical-bernstein'; row 1 has 1",
        ),
    ],
)
def test_refused(votes, params, message):
    with pytest.raises(ValueError, match=message):
        probability_bounds(votes, **params)


def test_n_drawn_may_repeat_the_number_of_scores_and_no_rows_are_fine():
    scores = some_scores()
    for n_drawn in (400, [400, 400, 400]):
        got = probability_bounds(scores, bound="anytime", n_drawn=n_drawn)
        assert got.top.tolist()[:2] == [0, 2]
    for name in SOFT:
        empty = probability_bounds(scores[:0], bound=name, two_sided=True)
        assert [part.shape for part in empty] == [(0,)] * 4
        if name != "betting":
            empty = probability_bounds(np.zeros((0, 3), dtype=int), bound=name, two_sided=True)
            assert [part.shape for part in empty] == [(0,)] * 4


def test_rows_do_not_mix():
    scores = some_scores()
    for name in SOFT:
        got = probability_bounds(scores, bound=name, two_sided=True)
        for i in range(3):
            alone = probability_bounds(scores[i : i + 1], bound=name, two_sided=True)
            assert [a[0] for a in alone] == [b[i] for b in got]
