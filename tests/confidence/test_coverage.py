# SPDX-License-Identifier: BSD-3-Clause
"""The guarantees themselves, by repetition: how often a bound or a certificate is false."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.stats import binom

from sksmooth.confidence import (
    anytime,
    betting,
    empirical_bernstein,
    hoeffding,
    probability_bounds,
)

pytestmark = pytest.mark.slow

RUNS = 2000
# A bound that is valid exceeds this with probability at most 1e-6 for a fresh seed.
ALPHA = 0.05
ALLOWED = binom.isf(1e-6, RUNS, ALPHA)

MEANS = {
    "near 0": (lambda rng, size: rng.beta(0.2, 19.8, size), 0.01),
    "near 1": (lambda rng, size: rng.beta(19.8, 0.2, size), 0.99),
    "1/2": (lambda rng, size: rng.beta(2, 2, size), 0.5),
    "two points": (lambda rng, size: rng.choice([0.2, 1.0], p=[0.95, 0.05], size=size), 0.24),
    "rare zeros": (lambda rng, size: (rng.uniform(size=size) > 0.004).astype(float), 0.996),
    "votes": (lambda rng, size: (rng.uniform(size=size) < 0.5).astype(float), 0.5),
}


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("side", ["lower", "upper"])
@pytest.mark.parametrize("bound", [hoeffding, empirical_bernstein, betting, anytime])
def test_single_bounds_keep_their_level(bound, side, name):
    draw, mean = MEANS[name]
    draws = draw(np.random.default_rng(11), (RUNS, 150))
    got = bound(draws, error=ALPHA, side=side)
    false = got > mean if side == "lower" else got < mean
    assert false.sum() <= ALLOWED


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_betting_puts_its_level_to_use(side):
    # The other direction: a bound that never fails is not the one that was asked for.
    draws = np.random.default_rng(12).beta(2, 2, (RUNS, 400))
    got = betting(draws, error=0.2, side=side)
    false = (got > 0.5 if side == "lower" else got < 0.5).mean()
    assert 0.06 < false < 0.2 + 0.05


# Probabilities of the classes; soft votes are drawn about the same ones.
TRUTHS = {
    "2 tied": (0.5, 0.5),
    "2 apart": (0.2, 0.8),
    "10, two near": (0.3, 0.32, *(0.0475,) * 8),
    "10, one half": (0.49, *(0.51 / 9,) * 9),
}
N_DRAWS = 120


@cache
def hard(name, n_draws, seed):
    return np.random.default_rng(seed).multinomial(n_draws, TRUTHS[name], size=RUNS)


@cache
def soft(name, n_draws, seed):
    """Of shape (RUNS, n_classes, n_draws): shares in four votes for half of the names, or one."""
    p, rng = np.array(TRUTHS[name]), np.random.default_rng(seed)
    if name in ("2 tied", "10, two near"):
        scores = rng.multinomial(4, p, size=(RUNS, n_draws)) / 4
    else:
        winner = rng.choice(len(p), p=p, size=(RUNS, n_draws))
        scores = (winner[:, :, np.newaxis] == np.arange(len(p))).astype(float)
    return np.ascontiguousarray(scores.transpose(0, 2, 1))


def false_rows(got, name):
    """False certificates, and rows of which a bound is false at all."""
    truth = np.array(TRUTHS[name])
    rivals = np.tile(truth, (len(got.top), 1))
    rivals[np.arange(len(got.top)), got.top] = 0
    # 1e-12: a sum of probabilities that is 1 up to rounding.
    false = (got.p_a > truth[got.top] + 1e-12) | (rivals.max(axis=1) > got.p_b + 1e-12)
    false |= 1 - truth[got.top] > got.tail_a + 1e-12
    return false & (got.p_a > got.p_b), false


HARD = ["clopper-pearson", "hoeffding", "empirical-bernstein", "anytime"]
SOFT = ["hoeffding", "empirical-bernstein", "betting", "anytime"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRUTHS)
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("correction", ["selection", "holdout"])
@pytest.mark.parametrize(
    ("kind", "bound"), [("hard", b) for b in HARD] + [("soft", b) for b in SOFT]
)
def test_certificates_keep_their_level(kind, bound, correction, two_sided, name):
    votes = {"hard": hard, "soft": soft}[kind]
    estimation = votes(name, N_DRAWS, 21)
    given = (votes(name, 30, 22), estimation) if correction == "holdout" else estimation
    got = probability_bounds(
        given, bound=bound, correction=correction, two_sided=two_sided, confidence_level=1 - ALPHA
    )
    certificates, bounds = false_rows(got, name)
    assert certificates.sum() <= ALLOWED
    if two_sided or correction == "holdout":
        # Statements that are true of rows that are not certifiable as well.
        assert bounds.sum() <= ALLOWED


@pytest.mark.parametrize("bound", ["clopper-pearson", "betting"])
def test_the_papers_rule_does_not_keep_it(bound):
    # One class is chosen and bounded on the same votes. Zeros and ones, for both bounds; at a level
    # and a number of draws at which neither is far from using its error up.
    rng = np.random.default_rng(31)
    wins = rng.uniform(size=(RUNS, 400)) < 0.5
    scores = np.stack([wins, ~wins], axis=1).astype(float)
    votes = scores if bound == "betting" else scores.sum(axis=2)
    false = {}
    for correction in ("none", "selection"):
        got = probability_bounds(votes, bound=bound, correction=correction, confidence_level=0.8)
        false[correction] = int(np.sum(got.p_a > 0.5))
    assert false["none"] > binom.isf(1e-6, RUNS, 0.2)
    assert false["selection"] <= binom.isf(1e-6, RUNS, 0.2)


@pytest.mark.parametrize("bound", ["empirical-bernstein", "betting", "anytime", "hoeffding"])
def test_each_of_ten_equal_classes_has_its_share(bound):
    # Whatever class leads, its bound is among ten that were made: at a tenth of the error they hold
    # together, at the whole of it they would not.
    rng = np.random.default_rng(41)
    scores = rng.dirichlet((0.1,) * 10, size=(400, 300)).transpose(0, 2, 1)
    single = {"betting": betting, "empirical-bernstein": empirical_bernstein}
    function = {**single, "anytime": anytime, "hoeffding": hoeffding}[bound]
    got = probability_bounds(scores, bound=bound, confidence_level=0.8)
    rows = np.arange(400)
    # 1e-12: the share is rounded down by two units in the last place at most.
    np.testing.assert_allclose(got.p_a, function(scores[rows, got.top], error=0.02), rtol=1e-12)
    assert np.sum(got.p_a > 0.1) <= binom.isf(1e-6, 400, 0.2)
    if bound == "betting":
        assert np.sum(function(scores[rows, got.top], error=0.2) > 0.1) > 120


@pytest.mark.parametrize("p", [(0.5, 0.5), (0.52, 0.48), (0.4, 0.35, 0.25), (0.1,) * 10], ids=str)
@pytest.mark.parametrize("two_sided", [False, True])
def test_anytime_certificates_under_an_adversarial_stopping_rule(p, two_sided):
    # Looks after every draw and stops at the first false certificate.
    runs, n, alpha = 1000, 120, 0.1
    rng = np.random.default_rng(51)
    winner = rng.choice(len(p), p=p, size=(runs, n))
    votes = np.cumsum(winner[:, :, np.newaxis] == np.arange(len(p)), axis=1)
    rows = votes.reshape(-1, len(p))
    truth = np.array(p)

    def ever_false(bound):
        got = probability_bounds(
            rows,
            n_drawn=np.tile(np.arange(1, n + 1), runs),
            bound=bound,
            two_sided=two_sided,
            confidence_level=1 - alpha,
        )
        rivals = np.where(np.arange(len(p)) == got.top[:, np.newaxis], 0, truth)
        false = (got.p_a > truth[got.top]) | (rivals.max(axis=1) > got.p_b + 1e-12)
        return np.any((false & (got.p_a > got.p_b)).reshape(runs, n), axis=1).sum()

    allowed = binom.isf(1e-6, runs, alpha)
    assert ever_false("anytime") <= allowed
    if len(p) == 2 and not two_sided and p[0] == 0.5:
        assert ever_false("clopper-pearson") > allowed
