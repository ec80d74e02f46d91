# SPDX-License-Identifier: BSD-3-Clause
"""LabelFlipRidgeClassifier against every labelling of small training sets.

The problems are of two kinds. Random designs have no ties but by a miracle, and are counted in
floats. Designs of integers have ties, equal and zero weights, on which the rounding of a float
would decide: they are counted in Fractions.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import mpmath
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from sksmooth import LabelFlipRidgeClassifier

from ..smoothing._oracles import HALF, critical_tail, outcomes_by_type, trade_off
from ._oracles import (
    Truth,
    chernoff,
    chernoff_bounds,
    chernoff_of_every_labelling,
    distances,
    divergence,
    index_of,
    kl_radius,
    largest_radius,
    margins,
    noise_matrix,
    row_weights,
    row_weights_exact,
    rule_scores,
    vote_probabilities,
    winners,
    worst_flip_bounds,
)

# Half a minute of arithmetic that no version of a dependency changes.
pytestmark = pytest.mark.slow

# Sorted, and no class is its own index.
LABELS = np.array(["bee", "cat", "dog", "elk", "fox"])
CERTIFICATES = ("kl", "tight", "exact")
# q < (K - 1) / K; the smallest makes every noise table extreme
NOISES = {
    2: (1e-6, 0.05, 0.3, 0.45),
    3: (1e-6, 0.05, 0.3, 0.6),
    4: (0.1, 0.7),
}


# Problems -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Problem:
    """A training set so small that every labelling can be listed, and inputs to certify."""

    name: str
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    n_classes: int
    alpha: float
    fit_intercept: bool
    exact: bool = False

    def weights(self, i):
        make = row_weights_exact if self.exact else row_weights
        return make(self.X, self.X_test[i], alpha=self.alpha, fit_intercept=self.fit_intercept)

    @cache  # noqa: B019 - problems live as long as this module
    def truths(self, q):
        return [Truth(self.weights(i), self.y, self.n_classes, q) for i in range(len(self.X_test))]

    @cache  # noqa: B019
    def chernoff_bounds(self, q):
        """Weights, top class and the oracle's (tail_a, p_b), of inputs whose top class is clear."""
        found = {}
        for i, truth in enumerate(self.truths(q)):
            if len(truth.near_top) == 1:
                a = self.weights(i).astype(float)
                bounds = chernoff_bounds(a, self.y, truth.top, self.n_classes, q)
                found[i] = a, truth.top, bounds
        return found

    def fit(self, q, certificate="exact", y=None, **params):
        model = LabelFlipRidgeClassifier(
            q=q,
            alpha=self.alpha,
            certificate=certificate,
            fit_intercept=self.fit_intercept,
            classes=LABELS[: self.n_classes],
            **params,
        )
        return model.fit(self.X, LABELS[self.y if y is None else y])

    @cache  # noqa: B019
    def certified(self, q, certificate):
        """What `certify` returns, bounds included: many tests ask."""
        return self.fit(q, certificate).certify(self.X_test, return_bounds=True)


def clusters(seed, n, d, n_classes, spread, alpha, fit_intercept):
    """Gaussian rows around one centre per class; the first column grows with the class."""
    rng = np.random.default_rng([seed, n, d, n_classes])
    y = rng.permutation(np.arange(n) % n_classes)
    centres = rng.normal(size=(n_classes, d))
    centres[:, 0] += np.arange(n_classes)
    X = rng.normal(size=(n, d)) + spread * centres[y]
    X_test = rng.normal(size=(4, d)) + spread * centres[rng.integers(0, n_classes, 4)]
    name = f"clusters{seed}-n{n}-d{d}-K{n_classes}-alpha{alpha}-intercept{int(fit_intercept)}"
    return Problem(name, X, y, X_test, n_classes, alpha, fit_intercept)


def one_sided(seed, n, n_classes, n_others):
    """Like rows, all but a few of one class, inputs amid them: large radii, q > 0 included."""
    rng = np.random.default_rng([seed, n, n_classes])
    y = (np.full(n, seed) + np.arange(n) * (np.arange(n) < n_others + 1)) % n_classes
    X = 1.0 + 0.2 * rng.normal(size=(n, 2))
    X_test = 1.0 + 0.2 * rng.normal(size=(2, 2))
    name = f"one_sided{seed}-n{n}-K{n_classes}-others{n_others}"
    return Problem(name, X, y, X_test, n_classes, 0.1, bool(seed % 2))


def chosen_weights(seed, n, n_classes, n_others):
    """Unit vectors for rows, so that an input is its own row of weights (twice them, alpha = 1).

    Few rows of the top class and larger ones of others: third labels are worth changing too.
    """
    rng = np.random.default_rng([seed, n, n_classes])
    y = np.r_[np.full(n - n_others, seed), seed + 1 + np.arange(n_others)] % n_classes
    a = rng.uniform(0.5, 1.5, (4, n)) * np.where(y == seed % n_classes, 1.0, 2.0)
    a[2:] *= rng.choice([-1.0, 1.0], (2, n), p=[0.15, 0.85])
    name = f"chosen{seed}-n{n}-K{n_classes}-others{n_others}"
    scale = 1.5 / n if n_classes == 2 else 1.0
    return Problem(name, np.eye(n), y, 2.0 * scale * a, n_classes, 1.0, False)


RANDOM = [
    *(
        clusters(seed, n, d, 2, spread, alpha, intercept)
        for seed, n, d, spread, alpha in [
            (0, 14, 3, 0.0, 1.0),
            (1, 13, 2, 2.0, 0.01),
            (2, 12, 1, 3.0, 1000.0),
            (3, 11, 5, 1.0, 1e-4),
            (4, 9, 8, 1.0, 1e-3),
            (5, 14, 2, 4.0, 10.0),
            (6, 7, 2, 1.0, 1.0),
        ]
        for intercept in (False, True)
    ),
    *(
        clusters(seed, n, d, n_classes, spread, alpha, intercept)
        for seed, n, d, n_classes, spread, alpha in [
            (10, 8, 2, 3, 0.0, 1.0),
            (11, 8, 3, 3, 2.0, 0.01),
            (12, 7, 1, 3, 3.0, 1000.0),
            (13, 8, 2, 3, 3.0, 1.0),
            (14, 7, 6, 3, 1.0, 1e-3),
            (15, 6, 2, 4, 2.0, 0.1),
            (16, 5, 3, 4, 1.0, 1.0),
        ]
        for intercept in (False, True)
    ),
    *(
        one_sided(seed, n, n_classes, n_others)
        for seed in range(4)
        for n, n_classes, n_others in [(14, 2, 0), (14, 2, 1), (8, 3, 1), (6, 4, 0)]
    ),
    *(one_sided(seed, 10, 3, 0) for seed in (0, 1)),
]

CHOSEN = [
    chosen_weights(seed, n, n_classes, n_others)
    for seed in range(3)
    for n, n_classes, n_others in [(12, 2, 3), (8, 3, 2), (7, 4, 3)]
]


def integer_problems():
    rng = np.random.default_rng(3)

    def make(name, X, y, X_test, n_classes=2, alpha=1.0):
        X = np.asarray(X, dtype=float)
        X_test = np.asarray(X_test, dtype=float)
        for intercept in (False, True):
            full = f"{name}-K{n_classes}-intercept{int(intercept)}"
            yield Problem(full, X, np.asarray(y), X_test, n_classes, alpha, intercept, exact=True)

    column = np.array([[-1.0], [-1.0], [1.0], [1.0], [2.0], [-2.0], [1.0], [-1.0]])
    yield from make("one_column", column, [0, 0, 1, 1, 1, 0, 0, 1], [[1], [-1], [3]])
    yield from make("one_column", column[:6], [0, 0, 1, 1, 2, 2], [[1], [-2], [0]], 3)
    # equal weights, even and odd numbers of rows: the vote, or the mean, can be tied
    ones = np.ones((8, 1))
    yield from make("equal", ones, [0, 0, 0, 0, 1, 1, 1, 1], [[1], [4], [0]], alpha=0.5)
    yield from make("equal", ones, [0, 0, 0, 1, 1, 1, 1, 1], [[1], [16]], alpha=8.0)
    yield from make("equal", ones[:7], [0, 0, 0, 1, 1, 1, 1], [[1], [-1]], alpha=1.0)
    yield from make("equal", ones[:6], [0, 1, 1, 2, 2, 2], [[1], [-1], [0]], 3)
    yield from make("equal", ones[:6], [2, 2, 1, 1, 0, 0], [[1], [-1]], 3)
    # four columns of which two never vary, duplicate rows, rows of zeros
    rough = rng.integers(-2, 3, size=(8, 2))
    rough = np.column_stack([rough, np.full(8, 3), np.zeros(8)])
    rough[5], rough[6], rough[7] = rough[4], 0, 0
    tests = [[1, 1, 3, 0], [-2, 1, 3, 0], [0, 0, 0, 0]]
    yield from make("rough", rough, [0, 1, 0, 1, 1, 0, 1, 0], tests)
    yield from make("rough", rough[1:7], [0, 1, 2, 1, 2, 0], tests, 3)
    yield from make("rough", rough[3:], [0, 1, 3, 2, 1], tests[:2], 4)
    yield from make("rough_stiff", rough, [1, 1, 0, 1, 1, 0, 1, 0], tests, alpha=1024.0)
    yield from make("rough_loose", rough, [1, 1, 0, 1, 1, 0, 1, 0], tests, alpha=2.0**-10)
    # classes without a row
    wide = np.array([[2, 1], [2, 0], [1, 1], [2, 2], [1, 2], [2, 1], [1, 0]])
    yield from make("only_class_1", wide, np.ones(7, dtype=int), [[2, 1], [-1, 0]])
    yield from make("only_class_0", wide, np.zeros(7, dtype=int), [[2, 1], [-1, 0]])
    yield from make("no_class_1", wide[:6], [0, 2, 2, 2, 2, 2], [[2, 1], [1, 2]], 3)
    yield from make("only_class_1", wide[:6], np.ones(6, dtype=int), [[2, 1], [-1, 0]], 3)
    # unit vectors: each row has a weight of its own, 1/2 among them
    units = np.eye(6)
    yield from make("units", units, [1, 0, 1, 0, 1, 0], [[1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0]])
    yield from make("units", units, [1, 1, 1, 0, 1, 0], [[2, -1, 1, 1, 3, 1], [4, 2, 1, 1, 1, 1]])
    yield from make(
        "units", units, [0, 1, 1, 2, 2, 0], [[2, -1, 1, 1, 3, 1], [3, 3, 0, 2, 1, 0]], 3
    )


INTEGERS = list(integer_problems())
PROBLEMS = RANDOM + CHOSEN + INTEGERS


def index(label):
    return LABELS.tolist().index(label)


def each(problems):
    return pytest.mark.parametrize("problem", problems, ids=lambda p: p.name)


# The oracles themselves ---------------------------------------------------------------------------


@each(PROBLEMS)
def test_oracle_weights_are_those_of_ridge_regression(problem):
    """The exact ones, the floats and scikit-learn's Ridge tell one story."""
    one_hot = np.eye(problem.n_classes)[problem.y]
    ridge = Ridge(problem.alpha, fit_intercept=problem.fit_intercept, solver="svd")
    expected = ridge.fit(problem.X, one_hot).predict(problem.X_test)
    params = {"alpha": problem.alpha, "fit_intercept": problem.fit_intercept}
    for x, scores in zip(problem.X_test, expected, strict=True):
        a = row_weights(problem.X, x, **params)
        # random designs with alpha = 1e-4 have a condition number of some 1e5
        np.testing.assert_allclose(a @ one_hot, scores, rtol=0, atol=1e-9)
        exact = row_weights_exact(problem.X, x, **params)
        np.testing.assert_allclose(a, exact.astype(float), rtol=0, atol=1e-10)
        if problem.fit_intercept:
            assert sum(exact) == 1


@pytest.mark.parametrize(("n", "n_classes", "q"), [(6, 2, 0.25), (4, 3, 0.5), (3, 4, 0.125)])
def test_oracle_lists_labellings_one_by_one(n, n_classes, q):
    """Scores, distances, votes and radii against plain loops, in Fractions."""
    rng = np.random.default_rng(n)
    a = np.array([Fraction(int(v), 7) for v in rng.integers(-3, 6, n)], dtype=object)
    y, noise = rng.integers(0, n_classes, n), Fraction(q)
    labellings = list(itertools.product(range(n_classes), repeat=n))

    def noisy_mean(labels, c, q):
        return sum(
            w * (1 - q if k == c else q / (n_classes - 1)) for w, k in zip(a, labels, strict=True)
        )

    def rule(labels, q):
        if n_classes == 2:
            return int(noisy_mean(labels, 1, q) > HALF)
        scores = [noisy_mean(labels, c, q) for c in range(n_classes)]
        return scores.index(max(scores))

    def chance(labels, seen):
        return math.prod(
            1 - noise if u == v else noise / (n_classes - 1)
            for u, v in zip(labels, seen, strict=True)
        )

    votes = winners(rule_scores(a, n_classes, Fraction(0)))
    assert votes.tolist() == [rule(labels, Fraction(0)) for labels in labellings]
    assert winners(rule_scores(a, n_classes, noise)).tolist() == [
        rule(k, noise) for k in labellings
    ]
    away = [sum(u != v for u, v in zip(y, labels, strict=True)) for labels in labellings]
    assert distances(y, n_classes).tolist() == away
    chances = vote_probabilities(votes, n_classes, n, q)
    expected = [
        [
            sum(chance(k, s) for s, v in zip(labellings, votes, strict=True) if v == c)
            for c in range(n_classes)
        ]
        for k in labellings
    ]
    np.testing.assert_allclose(chances, np.array(expected, dtype=float), rtol=1e-14)
    truth = Truth(a, y, n_classes, q)
    top = rule(y, noise)
    same = {
        r: all(rule(k, noise) == top for k, d in zip(labellings, away, strict=True) if d <= r)
        for r in range(n + 1)
    }
    wins = {
        r: all(
            p[top] > max(p[:top] + p[top + 1 :])
            for p, d in zip(expected, away, strict=True)
            if d <= r
        )
        for r in range(n + 1)
    }
    assert (truth.top, truth.mean_radius) == (top, sum(same.values()) - 1)
    assert truth.vote_radius == sum(wins.values()) - 1
    here = expected[index_of(y, n_classes)]
    assert truth.wrong == pytest.approx(float(1 - here[top]), rel=1e-13)


@pytest.mark.parametrize(("n_classes", "q"), [(2, 0.3), (2, 1e-6), (3, 0.3), (4, 0.6)])
def test_oracle_chernoff_is_the_least_exponent_and_above_the_chance(n_classes, q):
    rng = np.random.default_rng(11)
    n, w = 6, 1
    a = rng.uniform(0.02, 0.3, n)
    a[0] = -0.05
    a /= a.sum()
    y = np.array([0, 1, 1, 1, 1, 1])
    votes = winners(rule_scores(a, n_classes, 0.0))
    chances = vote_probabilities(votes, n_classes, n, q)
    every = chernoff_of_every_labelling(a, w, n_classes, q)
    for k, c in enumerate(c for c in range(n_classes) if c != w):

        def exponent(t, c=c):
            total = mpmath.mpf(t) / 2 if n_classes == 2 else mpmath.mpf(0)
            for weight, label in zip(a, y, strict=True):
                terms = 0
                for seen, p in enumerate(noise_matrix(n_classes, mpmath.mpf(q))[label]):
                    lead = (seen == w) - (n_classes > 2) * (seen == c)
                    terms += p * mpmath.exp(-t * weight * lead)
                total += mpmath.log(terms)
            return total

        bound = chernoff(a, y, w, c, n_classes, q)
        low, high = mpmath.mpf(0), mpmath.mpf(10000)
        for _ in range(60):  # the exponent is convex: its slope has one zero
            best = (low + high) / 2
            low, high = (best, high) if mpmath.diff(exponent, best) < 0 else (low, best)
        assert bound == pytest.approx(float(exponent(best)), rel=1e-9)
        # the grid is above the least, by no more than its spacing explains
        grid = every[index_of(y, n_classes), k]
        assert bound - 1e-12 <= grid < bound + 0.01 * abs(bound)
        # Chernoff is a bound at every labelling, and no bound that needs no proof (Markov: t = 0)
        assert np.all(chances[:, c] <= np.exp(every[:, k]) * (1 + 1e-12))
        assert bound < -0.1


def test_divergence_and_the_two_ways_to_a_radius_have_the_known_values():
    # DESIGN, section 3: 8 and 14 flips at p_a = 0.999, q = 0.3
    assert math.floor(kl_radius(0.001, 2, 0.3)) == 8
    tails = [critical_tail(outcomes_by_type(0.3, 2, r)) for r in range(16)]
    assert sum(Fraction(1, 1000) < tail for tail in tails) - 1 == 14
    # B.3 reduces to eq. (4) for two classes, and is the sum over values of one changed label
    assert divergence(2, 0.3) == pytest.approx(0.4 * math.log(7 / 3), rel=1e-15)
    for n_classes, q in [(2, 0.1), (3, 0.6), (5, 0.4)]:
        own, seen = noise_matrix(n_classes, q)[:2]
        direct = sum(p * math.log(p / r) for p, r in zip(own, seen, strict=True))
        assert divergence(n_classes, q) == pytest.approx(direct, rel=1e-12)


@pytest.mark.parametrize(("n_classes", "q"), [(2, 0.05), (2, 0.3), (2, 0.45), (3, 0.3), (5, 0.7)])
def test_duality_a_tail_that_certifies_flips_keeps_the_mean_too(n_classes, q):
    """Where r flips cannot halve the vote, the Chernoff bound is below exp(-r KL).

    So no noisy labels at that divergence, r flips among them, have a mean on the other side. Two
    unequal bounds certify only where the smaller one would do so alone, with 1/2 on either side.
    """
    for r in range(1, 25):
        critical = critical_tail(outcomes_by_type(q, n_classes, r))
        assert float(critical) <= math.exp(-r * divergence(n_classes, q))


# Soundness ----------------------------------------------------------------------------------------


def check(problem, q, certificate, result):
    """Assert of one answer of `certify` that nothing it claims is false."""
    n = len(problem.y)
    assert result.radii.dtype == np.int64
    assert np.all((result.radii >= -1) & (result.radii <= n))
    assert np.all(np.isfinite(result.p_a) & np.isfinite(result.p_b))
    for truth, label, radius, p_a, p_b in zip(problem.truths(q), *result, strict=True):
        case = f"{problem.name}, q={q}, {certificate}: radius {radius}, {vars(truth)}"
        if index(label) != truth.top:  # a tie that rounding decides: nothing may be claimed
            assert index(label) in truth.near_top and radius == -1, case
            continue
        # every labelling within the radius keeps the class of the mean rule ...
        assert radius <= min(truth.mean_radius, truth.mean_radius_high), case
        if q > 0 and radius >= 0:
            # ... and its strict lead in the vote, that of y included
            assert radius <= truth.vote_radius, case
            assert truth.chances.argmax() == truth.top, case
        # 1 - p_a is exact for p_a >= 1/2; the truth is off by a few roundings
        assert 1.0 - p_a >= truth.wrong * (1 - 1e-13), case
        assert p_b >= truth.rival * (1 - 1e-13), case


@each(PROBLEMS)
def test_no_noise_exact(problem):
    """Where no margin is a tie, the radius is that of the worst flips: not one more or less."""
    result = problem.certified(0.0, "exact")
    check(problem, 0.0, "exact", result)
    for truth, radius in zip(problem.truths(0.0), result.radii, strict=True):
        assert truth.mean_radius_low <= radius <= truth.mean_radius
        if truth.mean_radius_low == truth.mean_radius_high:
            assert radius == truth.mean_radius


@each(PROBLEMS)
def test_with_noise_no_flips_within_a_radius_change_the_answer(problem):
    for q in NOISES[problem.n_classes]:
        before = None
        for certificate in CERTIFICATES:
            result = problem.certified(q, certificate)
            check(problem, q, certificate, result)
            # kl <= tight <= exact, and one answer
            if before is not None:
                assert np.all(before.radii <= result.radii), (problem.name, q, certificate)
                assert result.y_pred.tolist() == before.y_pred.tolist()
            before = result


@each(PROBLEMS)
def test_prediction_is_the_rule_of_the_noisy_mean(problem):
    for q in (0.0, *NOISES[problem.n_classes]):
        model = problem.fit(q)
        y_pred, decision = model.predict(problem.X_test), model.decision_function(problem.X_test)
        truths = problem.truths(q)
        for truth, label in zip(truths, y_pred, strict=True):
            assert index(label) in truth.near_top
        mean = np.array([truth.mean for truth in truths])
        expected = mean[:, 1] - 0.5 if problem.n_classes == 2 else mean - 0.5
        assert decision.shape == expected.shape
        np.testing.assert_allclose(decision, expected, rtol=0, atol=1e-9)


TIES = [
    # rows, labels, input, classes, intercept: all that follows is exact in floats
    (np.zeros((8, 1)), [0, 1, 0, 1, 0, 1, 0, 1], [0.0], 2, True),  # 8 weights of 1/8
    (np.eye(4), [1, 0, 0, 0], [2.0, 0.0, 0.0, 0.0], 2, False),  # 1/2, 0, 0, 0
    (np.eye(4), [0, 1, 2, 2], [1.0, 1.0, 0.0, 0.0], 3, False),
    (np.eye(4), [2, 1, 1, 0], [2.0, 3.0, -1.0, 1.0], 3, False),
    (np.eye(4), [0, 1, 2, 3], [0.0, 0.0, 0.0, 0.0], 4, False),
]


@pytest.mark.parametrize(("X", "y", "x", "n_classes", "fit_intercept"), TIES)
def test_ties_go_to_the_first_class(X, y, x, n_classes, fit_intercept):
    # alpha = 3: unit vectors lead to 4, whose root is exact, and weights of x / 4
    X_test = np.array([x])
    problem = Problem("tie", X, np.array(y), X_test, n_classes, 3.0, fit_intercept, True)
    truth = problem.truths(0.0)[0]
    assert len(truth.near_top) > 1
    assert truth.top == min(truth.near_top)
    result = problem.certified(0.0, "exact")
    assert result.y_pred.tolist() == [LABELS[truth.top]]
    assert result.radii[0] <= truth.mean_radius


def worst_labelling(lead, allowed, shape):
    """Return the labelling of the least lead among those allowed."""
    places = np.flatnonzero(allowed)
    return np.array(np.unravel_index(places[np.argmin(lead[places])], shape))


@each(PROBLEMS)
def test_models_fitted_on_the_worst_labels_keep_certified_answers(problem):
    """Fit again, on the labels that are worst within the radius, and one further."""
    n, n_classes = len(problem.y), problem.n_classes
    away, shape = distances(problem.y, n_classes), (n_classes,) * n
    for q in (0.0, NOISES[n_classes][-1]):
        y_pred, radii = problem.certified(q, "exact")[:2]
        for i, truth in enumerate(problem.truths(q)):
            a = problem.weights(i).astype(float)
            lead = margins(rule_scores(a, n_classes, q), truth.top)
            if radii[i] >= 0:
                worst = worst_labelling(lead, away <= radii[i], shape)
                again = problem.fit(q, y=worst).predict(problem.X_test)
                assert again[i] == y_pred[i], (problem.name, q, i, worst)
            clear = truth.mean_radius_low == truth.mean_radius_high
            if q == 0.0 and clear and radii[i] < n:
                worst = worst_labelling(lead, away == radii[i] + 1, shape)
                again = problem.fit(q, y=worst).predict(problem.X_test)
                assert again[i] != y_pred[i], (problem.name, i, worst)


# Size ---------------------------------------------------------------------------------------------


@each(PROBLEMS)
def test_bounds_are_chernoff_bounds(problem):
    """`p_a` and `p_b` are the least exponents: below those would be wrong, above them a waste."""
    for q in NOISES[problem.n_classes]:
        result = problem.certified(q, "tight")
        for i, (_, _, (tail, p_b)) in problem.chernoff_bounds(q).items():
            case = f"{problem.name}, q={q}, row {i}"
            assert 1.0 - result.p_a[i] == pytest.approx(tail, rel=1e-6, abs=3e-9), case
            if 1e-200 < tail < 1.0:
                # p_b keeps its digits where the tail is small. The search for the least stops where
                # it would gain less than 1e-9: all there is, for a bound near 1.
                log_p_b = math.log(result.p_b[i])
                assert log_p_b == pytest.approx(math.log(p_b), rel=1e-6, abs=3e-9), case
            elif (
                tail <= 1e-200
            ):  # a bound that falls to nothing as t grows stops where it proves all
                assert 0.0 < result.p_b[i] < 1e-8, case


def certified(bounds, n_classes, q, r):
    """Return whether r flips are within RAB's Theorem 1, by exact Neyman-Pearson."""
    tail, p_b = (min(Fraction(b), Fraction(1)) for b in bounds)
    curve = outcomes_by_type(q, n_classes, int(r))
    return trade_off(curve, tail) + trade_off(curve, p_b) > 1


@each(PROBLEMS)
def test_kl_and_tight_radii_are_what_their_theorems_give(problem):
    """From the oracle's Chernoff bounds: a hair smaller they certify, a hair larger no more."""
    n, n_classes, hair = len(problem.y), problem.n_classes, 1e-6
    for q in NOISES[n_classes]:
        kl = problem.certified(q, "kl").radii
        tight = problem.certified(q, "tight").radii
        for i, (_, _, bounds) in problem.chernoff_bounds(q).items():
            case = f"{problem.name}, q={q}, row {i}, {bounds}: kl {kl[i]}, tight {tight[i]}"
            less, more = ([b * factor for b in bounds] for factor in (1 - hair, 1 + hair))
            if kl[i] >= 0:
                assert kl[i] < kl_radius(less[0], n_classes, q), case
            if kl[i] < n:
                assert kl[i] + 1 >= kl_radius(more[0], n_classes, q), case
            if tight[i] >= 0:
                assert certified(less, n_classes, q, tight[i]), case
            if tight[i] < n:
                assert not certified(more, n_classes, q, tight[i] + 1), case


@each([p for p in PROBLEMS if p.n_classes == 2 and len(p.y) <= 9])
def test_exact_radius_of_two_classes_is_that_of_the_worst_chernoff_bound(problem):
    """Over every labelling, not the worst as some argument has it; or "tight", where larger."""
    distance = distances(problem.y, 2)
    for q in NOISES[2]:
        tight = problem.certified(q, "tight").radii
        exact = problem.certified(q, "exact").radii
        for i, (a, w, _) in problem.chernoff_bounds(q).items():
            every = chernoff_of_every_labelling(a, w, 2, q)[:, 0]
            # the grid's bounds are too large by at most 1%: see its own test
            low = largest_radius(every < math.log(0.5), distance)
            high = largest_radius(every * 1.01 < math.log(0.5) + 1e-9, distance)
            assert max(low, tight[i]) <= exact[i] <= max(high, tight[i]), (problem.name, q, i)


@each([p for p in PROBLEMS if p.n_classes > 2 and len(p.y) <= 8])
def test_exact_radius_of_several_classes_is_between_two_bounds(problem):
    """At least what the largest rises give, never more than Chernoff at every labelling allows."""
    distance, n_classes = distances(problem.y, problem.n_classes), problem.n_classes
    for q in NOISES[n_classes][1:]:
        tight = problem.certified(q, "tight").radii
        exact = problem.certified(q, "exact").radii
        for i, (a, w, _) in problem.chernoff_bounds(q).items():
            pairs = np.exp(worst_flip_bounds(a, problem.y, w, n_classes, q))
            low = int(np.sum(np.cumprod(pairs.sum(axis=1) < 0.5))) - 1
            every = np.exp(1.01 * chernoff_of_every_labelling(a, w, n_classes, q))
            allowed = 1.0 - every.sum(axis=1) > every.max(axis=1) - 1e-9
            high = largest_radius(allowed, distance)
            assert max(low, tight[i]) <= exact[i] <= max(high, tight[i]), (problem.name, q, i)


# Number of classes, q, certificate; of the random problems' inputs whose true radius is above 0,
# the least share that gets one above 0; the least sum of radii, as a share of the truth's.
SHARES = [
    (2, 1e-6, "kl", 0.40, 0.65),
    (2, 1e-6, "tight", 0.90, 0.95),
    (2, 1e-6, "exact", 0.95, 0.97),
    (2, 0.05, "kl", 0.30, 0.60),
    (2, 0.05, "tight", 0.50, 0.70),
    (2, 0.05, "exact", 0.60, 0.80),
    (2, 0.3, "kl", 0.25, 0.40),
    (2, 0.3, "tight", 0.25, 0.43),
    (2, 0.3, "exact", 0.30, 0.55),
    (2, 0.45, "exact", 0.25, 0.48),
    (3, 1e-6, "kl", 0.25, 0.20),
    (3, 1e-6, "tight", 0.60, 0.70),
    (3, 1e-6, "exact", 0.80, 0.85),
    (3, 0.05, "tight", 0.40, 0.30),
    (3, 0.05, "exact", 0.50, 0.40),
]


@pytest.mark.parametrize(("n_classes", "q", "certificate", "positive", "total"), SHARES)
def test_certificates_are_not_vacuous(n_classes, q, certificate, positive, total):
    radii, best = [], []
    for problem in RANDOM:
        if problem.n_classes == n_classes:
            radii.extend(problem.certified(q, certificate).radii)
            best.extend(min(t.mean_radius, t.vote_radius) for t in problem.truths(q))
    radii, best = np.maximum(radii, 0), np.maximum(best, 0)
    assert np.sum(radii > 0) >= positive * np.sum(best > 0)
    assert np.sum(radii) >= total * np.sum(best)


# Many rows ----------------------------------------------------------------------------------------


def many_rows(seed, n, n_classes, fit_intercept, spread, alpha=10.0):
    """Rows of overlapping classes along a line, too many to list their labellings; half in class 0.

    The first column is large, so that with a large `alpha` all weights are nearly equal.
    """
    rng = np.random.default_rng([seed, n, n_classes])
    y = rng.integers(0, n_classes, n) * rng.integers(0, 2, n)
    X = rng.normal(size=(n, 3)) + spread * y[:, None]
    X_test = rng.normal(size=(4, 3)) + spread * np.array([[-2], [0], [1], [n_classes + 1]])
    X, X_test = np.c_[np.full(n, 100.0), X], np.c_[np.full(4, 100.0), X_test]
    return Problem(f"many{n}-K{n_classes}", X, y, X_test, n_classes, alpha, fit_intercept)


def nearly_equal_weights(n, larger):
    """Weights in rising order, within 0.9% of each other but for some; labels of one class."""
    a = 1.0 + np.linspace(0.0, 0.009, n)
    a[n // 2 + np.arange(len(larger))] = larger
    scale = np.linspace(0.8, 1.6, 5)[:, None] / a.sum()
    y = np.ones(n, dtype=int)
    return Problem("nearly_equal", np.eye(n), y, 2.0 * scale * a, 2, 1.0, False)


MANY_ROWS = {
    "uneven-300": many_rows(0, 300, 2, False, 0.6),
    "uneven-900": many_rows(0, 900, 2, True, 0.6),
    "even-500": many_rows(1, 500, 2, False, 0.6, alpha=1e6),
    "even-1500": many_rows(2, 1500, 2, True, 0.6, alpha=1e5),
    "nearly-equal-250": nearly_equal_weights(250, []),
    "nearly-equal-250-but-3": nearly_equal_weights(250, [20.0, 5.0, -2.0]),
}


@pytest.mark.parametrize("name", MANY_ROWS)
def test_exact_radius_of_two_classes_with_many_rows(name):
    """After the worst flips the oracle's Chernoff bound is below 1/2, after one more it is not.

    That the largest weights are the worst flips was shown above, by brute force; here the bounds
    are found in other ways, by a power series where all weights are small.
    """
    problem, total = MANY_ROWS[name], 0
    n = len(problem.y)
    for q in (0.0, *NOISES[2]):
        y_pred, radii = problem.certified(q, "exact")[:2]
        tight = problem.certified(q, "tight" if q > 0 else "exact").radii
        for i, r in enumerate(radii.tolist()):
            a, w = problem.weights(i), index(y_pred[i])
            harmful = (a > 0) == (problem.y == w)  # and a label that is changed for the worst
            order = np.flatnonzero(harmful)
            order = order[np.argsort(-abs(a[order]), kind="stable")]

            def log_bound(n_flips, a=a, w=w, q=q, order=order):
                y = problem.y.copy()
                y[order[:n_flips]] = 1 - y[order[:n_flips]]
                if q > 0:
                    return chernoff(a, y, w, 1 - w, 2, q)
                return -math.inf if (a[y == 1].sum() > 0.5) == (w == 1) else 0.0

            case = (q, i, r)
            total += max(r, 0)
            if r > (tight[i] if q > 0 else -1):  # else it is no bound after flips that proves it
                assert log_bound(r) < math.log(0.5) + 1e-9, case
            if r < n:
                # what is left out of a series is charged: below 1e-7
                assert log_bound(r + 1) > math.log(0.5) - 2e-7, case
    assert total > 30


@pytest.mark.parametrize("spread", [0.0, 1.5])  # rivals equally strong, or one of them stronger
@pytest.mark.parametrize("n_classes", [3, 5])
def test_exact_radius_of_several_classes_with_many_rows(n_classes, spread):
    """Between two readings of the same bounds: to keep half the vote, or a plurality."""
    n, total = 250, 0
    problem = many_rows(1, n, n_classes, True, spread)
    for q in (1e-6, 0.05, 0.3):
        kl, tight, exact = (problem.certified(q, c) for c in CERTIFICATES)
        assert np.all((kl.radii <= tight.radii) & (tight.radii <= exact.radii))
        for i, r in enumerate(exact.radii):
            a, w = problem.weights(i), index(exact.y_pred[i])
            log_pairs = worst_flip_bounds(a, problem.y, w, n_classes, q)
            pairs, best = np.exp(log_pairs), np.exp(1.01 * log_pairs)  # the grid of t costs 1%
            low = int(np.sum(np.cumprod(pairs.sum(axis=1) < 0.5))) - 1
            high = int(np.sum(np.cumprod(1.0 - best.sum(axis=1) > best.max(axis=1)))) - 1
            assert max(low, tight.radii[i]) <= r <= max(high, tight.radii[i]), (q, i, low, high)
            total += max(r, 0)
    assert total > n // 10


@pytest.mark.parametrize(("n_classes", "q"), [(2, 0.05), (2, 0.3), (3, 0.3), (4, 0.1)])
def test_sampled_votes_stay_within_the_bounds(n_classes, q):
    """Forty rows, noisy labels drawn: before and after the worst flips within the radius."""
    rng = np.random.default_rng([n_classes, int(100 * q)])
    n, n_draws = 40, 40_000
    y = rng.integers(0, n_classes, n)
    centres = 2.0 * rng.normal(size=(n_classes, 2))
    X, X_test = rng.normal(size=(n, 2)) + centres[y], rng.normal(size=(6, 2)) + centres[y[:6]]
    problem = Problem("sampled", X, y, X_test, n_classes, 1.0, True)
    result = problem.certified(q, "exact")
    for i, (radius, p_a) in enumerate(zip(result.radii, result.p_a, strict=True)):
        a = problem.weights(i)
        w = index(result.y_pred[i])
        # a greedy attack: to the class that gains most, largest gain first
        scores = [a[y == c].sum() for c in range(n_classes)]
        rival = max((c for c in range(n_classes) if c != w), key=lambda c: scores[c])
        gains = np.where(a > 0, a * (1.0 + (y == w)), -a * (1.0 + (y == rival)))
        gains[(a > 0) & (y == rival) | (a <= 0) & (y == w)] = 0.0
        order = np.argsort(-gains)[: max(int(radius), 0)]
        flipped = y.copy()
        flipped[order] = np.where(a[order] > 0, rival, w)
        for labels, limit in ((y, 1.0 - p_a), (flipped, 0.5)):
            if radius < 0 and labels is flipped:
                continue
            step = rng.integers(1, n_classes, (n_draws, n)) * (rng.random((n_draws, n)) < q)
            seen = (labels + step) % n_classes
            totals = np.stack([(seen == c) @ a for c in range(n_classes)], axis=1)
            wrong = np.mean(totals.argmax(axis=1) != w)
            # five standard errors: wrong once in 3.5 million
            assert wrong <= limit + 5.0 * math.sqrt(wrong * (1.0 - wrong) / n_draws) + 1e-12
