# SPDX-License-Identifier: BSD-3-Clause
"""Win probabilities on quantised distance: the paper's algorithm, and the limit of many levels."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from sksmooth.neighbors import _plain, _quantized
from sksmooth.neighbors._distances import ScaledRows
from sksmooth.neighbors._kernels import LANES, locate, quantized_wins, quantized_wins_of_two
from sksmooth.neighbors._noncentral_chi import tables

from ._oracles import paper_win_probabilities, sampled_win_counts


def level_chances(u, n_features, edges):
    """P(row i is in level l), by SciPy, the first level from 0 and the last without end."""
    cdf = stats.ncx2.cdf(edges[None, :] ** 2, n_features, np.maximum(u, 1e-9)[:, None] ** 2)
    full = np.hstack([np.zeros((u.size, 1)), cdf, np.ones((u.size, 1))])
    return np.diff(full, axis=1)


@pytest.mark.parametrize(
    ("n_neighbors", "n_classes", "n_levels", "n_features"),
    [(1, 2, 5, 2), (2, 3, 4, 3), (3, 2, 6, 10), (4, 3, 3, 1), (6, 2, 3, 2)],
)
def test_against_the_papers_algorithm(n_neighbors, n_classes, n_levels, n_features):
    rng = np.random.default_rng(n_levels)
    for _ in range(3):
        n = 6
        u = rng.uniform(0.0, 6.0, n)
        u[1] = u[0]
        labels = rng.integers(0, n_classes, n)
        edges = np.sort(rng.uniform(0.5, 8.0, n_levels - 1))
        wins, upper = _quantized.win_probabilities(
            u, labels, n_classes, n_neighbors, tables(n_features), edges
        )
        expected = paper_win_probabilities(
            level_chances(u, n_features, edges).tolist(), labels.tolist(), n_classes, n_neighbors
        )
        # SciPy's noncentral chi-square is good to about 1e-12 here.
        np.testing.assert_allclose(wins, expected, rtol=1e-9, atol=1e-11)
        assert (upper >= np.array(expected) * (1 - 1e-12)).all()
        assert (upper <= wins * (1 + 1e-5) + 1e-9).all()


@pytest.mark.parametrize("n_neighbors", [1, 2, 3, 4, 5, 8, 20])
def test_two_classes_agree_with_any_number_of_classes(n_neighbors):
    """The fast sums and the general ones: levels on both ends, rows within and out of tables."""
    rng = np.random.default_rng(n_neighbors)
    for n, d, scale in [(n_neighbors, 1, 3.0), (300, 57, 15.0), (600, 5, 60.0)]:
        rows = locate(rng.uniform(0.0, scale, n))
        labels = rng.integers(0, 2, n)
        for start, stop in [(0.0, 9.0), (8.0, 12.0), (20.0, np.inf)]:
            edges = np.linspace(start, min(stop, 40.0), LANES)
            edges[-3:] = max(edges[-3], stop)
            edges = np.sort(edges)
            slot, *table = tables(d).get_apart(edges, rows[0])
            args = (n_neighbors, 0, *table, 2e-10, 1e-7)
            unrolled = (0,) * n_neighbors if n_neighbors <= 8 else ()
            fast = quantized_wins_of_two(slot, rows[1], labels, *args, unrolled)
            slow = quantized_wins(slot, rows[1], labels, 2, *args)
            for one, other in zip(fast, slow, strict=True):
                # `upper` may differ by the floor of rounding of empty levels, nothing else may.
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-300)


def test_the_papers_algorithm_against_listing_every_outcome():
    """The oracle itself, in rational arithmetic: five rows, three levels, all 3^5 placements."""
    rng = np.random.default_rng(0)
    labels = [0, 1, 2, 1, 0]
    chances = [[Fraction(int(v), 1000) for v in row] for row in rng.integers(1, 400, (5, 2))]
    chances = [[a, b, 1 - a - b] for a, b in chances]
    for n_neighbors in (1, 2, 3, 5):
        expected = [Fraction(0)] * 3
        for outcome in np.ndindex(*(3,) * 5):
            chance = Fraction(1)
            for i, level in enumerate(outcome):
                chance *= chances[i][level]
            nearest = sorted(range(5), key=lambda i, o=outcome: (o[i], i))[:n_neighbors]
            tally = [sum(labels[i] == c for i in nearest) for c in range(3)]
            expected[tally.index(max(tally))] += chance
        assert paper_win_probabilities(chances, labels, 3, n_neighbors) == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_against_monte_carlo(seed):
    """A 1 - 1e-7 interval for each class: 24 of them fail once in 400,000 runs."""
    rng = np.random.default_rng(seed)
    d, k = int(rng.choice([1, 4, 60])), int(rng.choice([1, 3, 5]))
    n = 12
    X = rng.normal(size=(n, d))
    X[3] = X[2]
    x = X[1] if seed % 2 else rng.normal(size=d)
    labels = rng.integers(0, 3, n)
    sigma = float(rng.uniform(0.2, 2.0))
    edges = _quantized.level_edges(12, d, np.array(sigma))
    wins, _ = _quantized.win_probabilities(
        ScaledRows(X.copy(), np.array(sigma)).distances(x[None])[0], labels, 3, k, tables(d), edges
    )
    assert wins.sum() == pytest.approx(1.0, abs=2e-7)
    counts = sampled_win_counts(
        X, labels, x, sigma=sigma, n_neighbors=k, n_classes=3, n_draws=20_000, rng=rng, edges=edges
    )
    for count, win in zip(counts, wins, strict=True):
        interval = stats.binomtest(int(count), 20_000).proportion_ci(1 - 1e-7)
        assert interval.low - 1e-9 <= win <= interval.high + 1e-9


@pytest.mark.parametrize("n_features", [1, 3, 57])
def test_many_levels_tend_to_plain_distance(n_features):
    rng = np.random.default_rng(5)
    u, labels = rng.uniform(0.0, 5.0, 20), rng.integers(0, 3, 20)
    plain, _ = _plain.win_probabilities(u, labels, 3, 4, tables(n_features))
    gaps = []
    for n_levels in (30, 120, 480):
        edges = _quantized.level_edges(n_levels, n_features, np.array(1.0))
        wins, upper = _quantized.win_probabilities(u, labels, 3, 4, tables(n_features), edges)
        assert (upper <= wins * (1 + 1e-4) + 1e-289).all()
        gaps.append(np.abs(wins - plain).max())
    # Ties within a level are the only difference: their share falls like 1 / n_levels.
    assert gaps[1] < gaps[0] / 3 and gaps[2] < gaps[1] / 3 and gaps[2] < 2e-3


def test_edges_know_nothing_of_the_training_rows_and_lose_no_mass():
    edges = _quantized.level_edges(200, 57, np.ones(57))
    assert edges.size == 199 and (np.diff(edges) > 0).all()
    assert stats.chi2.cdf(edges[0] ** 2, 57) == pytest.approx(1e-12, rel=1e-3)
    # Rows below the first and beyond the last edge still vote.
    for u in (0.0, 1e5):
        wins, _ = _quantized.win_probabilities(
            np.full(4, u), np.array([0, 1, 1, 1]), 2, 1, tables(57), edges
        )
        # Levels that are left out hold at most CUT_SHARE of the chance on each side.
        assert wins.sum() == pytest.approx(1.0, abs=2e-7)
    # All in the last level: the lowest row index wins.
    assert wins[0] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("sigma", [1e-3, 1e-7])
@pytest.mark.parametrize("n_levels", [2, 40])
def test_levels_far_apart(sigma, n_levels):
    """A tiny sigma: levels are thousands of sigmas wide, and each row is surely in one of them."""
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(30, 3)), rng.integers(0, 2, 30)
    edges = _quantized.level_edges(n_levels, 3, np.array(sigma))
    for x in (np.zeros(3), np.full(3, 1e3)):
        u = ScaledRows(X.copy(), np.array(sigma)).distances(x[None])[0]
        level = np.searchsorted(edges, u)
        if np.abs(edges[:, None] - u).min() < 50.0:
            continue
        nearest = np.argsort(level, kind="stable")[:5]
        wins, _ = _quantized.win_probabilities(u, labels, 2, 5, tables(3), edges)
        assert wins[np.bincount(labels[nearest], minlength=2).argmax()] == pytest.approx(1.0)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_class_that_cannot_win_is_charged_the_floor(n_classes):
    """Too few rows to win any vote: whatever levels are left out."""
    rng = np.random.default_rng(0)
    u, labels = rng.uniform(0.0, 4.0, 60), np.zeros(60, dtype=int)
    labels[-2:] = n_classes - 1
    edges = _quantized.level_edges(100, 5, np.array(1.0))
    wins, upper = _quantized.win_probabilities(u, labels, n_classes, 5, tables(5), edges)
    assert wins[0] == pytest.approx(1.0, abs=3e-7)
    assert (upper[1:] == _plain.PROBABILITY_FLOOR).all()
