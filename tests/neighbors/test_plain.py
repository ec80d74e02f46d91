# SPDX-License-Identifier: BSD-3-Clause
"""Win probabilities on plain distance, by other roads."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy import stats

from sksmooth.neighbors import _plain
from sksmooth.neighbors._distances import ScaledRows, distance_charge
from sksmooth.neighbors._kernels import (
    LANES,
    add_row,
    at_least,
    at_least_by_table,
    evaluate,
    integrand,
    integrands_by_tables,
    locate,
    nearest_first,
    probability_of_fewer,
    trapezoidal_sums,
    win_densities,
)
from sksmooth.neighbors._noncentral_chi import tables

from ._oracles import (
    integrated_win_probabilities,
    log_chance_of_the_far_row,
    noncentral_chi_exact,
    sampled_win_counts,
    winner,
)


def random_problem(seed, n_neighbors, n_classes, n_features):
    """Rows, labels, a test input and a sigma: duplicates, ties and extremes included."""
    rng = np.random.default_rng(seed)
    n = n_neighbors if seed % 5 == 0 else n_neighbors + int(rng.integers(1, 12))
    n = max(n, 2)
    X = rng.normal(size=(n, n_features)) * rng.choice([0.2, 1.0, 3.0])
    if seed % 3 == 0:
        X[-1] = X[0]  # duplicate rows
    x = X[0].copy() if seed % 4 == 1 else rng.normal(size=n_features)  # equal to a training row
    labels = rng.integers(0, n_classes, n)
    sigma = float(np.exp(rng.uniform(np.log(0.05), np.log(5.0))))
    return X, labels, x, sigma


PROBLEMS = [
    (seed, k, c, d)
    for seed, (k, c, d) in enumerate(
        [(k, c, d) for k in (1, 2, 3, 5, 10) for c in (2, 3, 5) for d in (1, 2, 17, 300)]
        + [(1, 2, 3000), (5, 3, 3000), (2, 5, 1500)]
    )
]


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "n_neighbors", "n_classes", "n_features"), PROBLEMS)
def test_against_monte_carlo(seed, n_neighbors, n_classes, n_features):
    """Each class within a 1 - 1e-7 interval: all 210 of them together fail once in 47,000 runs."""
    X, labels, x, sigma = random_problem(seed, n_neighbors, n_classes, n_features)
    u = ScaledRows(X.copy(), np.array(sigma)).distances(x[None])[0]
    wins, upper = _plain.win_probabilities(u, labels, n_classes, n_neighbors, tables(n_features))
    assert abs(wins.sum() - 1.0) < 1e-6
    assert (upper >= wins).all() and (upper <= wins * (1.0 + 2e-6) + 1e-289).all()
    n_draws = 4_000 if n_features > 100 else 20_000
    counts = sampled_win_counts(
        X, labels, x, sigma=sigma, n_neighbors=n_neighbors, n_classes=n_classes, n_draws=n_draws,
        rng=np.random.default_rng(seed + 1000),
    )  # fmt: skip
    for count, win in zip(counts, wins, strict=True):
        interval = stats.binomtest(int(count), n_draws).proportion_ci(1 - 1e-7)
        assert interval.low - 1e-9 <= win <= interval.high + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("u", "labels", "n_features", "n_neighbors"),
    [
        ([1.0, 31.0], [0, 1], 1, 1),  # a far rare class: 3.6e-100
        ([0.5, 0.7, 9.0, 12.0], [0, 0, 1, 1], 3, 3),
        ([3.0, 3.0, 4.0, 20.0, 21.0], [0, 1, 0, 2, 2], 3, 2),
        ([0.2, 0.3, 40.0, 41.0], [0, 0, 1, 1], 3, 1),
        ([1.0, 2.0, 3.0, 14.0, 15.0], [1, 1, 1, 0, 0], 1, 3),
        ([1e-6, 0.5, 0.5, 25.0], [2, 1, 1, 0], 1, 1),
        ([0.01, 0.3, 1.1, 6.0, 33.0], [0, 1, 0, 2, 1], 3, 2),  # heavy tails
    ],
)
def test_against_arbitrary_precision(u, labels, n_features, n_neighbors):
    """Relative error of every class's probability, including those of 1e-100 and less."""
    n_classes = max(labels) + 1
    wins, upper = _plain.win_probabilities(
        np.array(u), np.array(labels), n_classes, n_neighbors, tables(n_features)
    )
    with mpmath.workdps(50):  # the closed forms cancel: F is a difference
        exact = integrated_win_probabilities(
            u, labels, n_features, n_neighbors, n_classes, int(max(u)) + 40
        )
    assert abs(float(sum(exact) - 1)) < 1e-12  # the reference itself
    for win, bound, truth in zip(wins, upper, exact, strict=True):
        assert win == pytest.approx(float(truth), rel=1e-8, abs=1e-290)
        assert truth <= bound <= float(truth) * (1 + 1e-5) + 1.1e-290


def test_two_rows_in_closed_form():
    wins, upper = _plain.win_probabilities(np.array([1.0, 31.0]), np.array([0, 1]), 2, 1, tables(1))
    # One dimension, K = 1: the far row is nearer iff |31 + a| < |1 + b|, that is iff
    # (31 + a - 1 - b)(31 + a + 1 + b) < 0: two independent normals of variance 2.
    root = np.sqrt(2.0)
    p, q = stats.norm.cdf(-30.0 / root), stats.norm.cdf(-32.0 / root)
    exact = p * (1 - q) + q * (1 - p)
    assert wins[1] == pytest.approx(exact, rel=1e-9, abs=0.0)
    assert exact < upper[1] < exact * (1.0 + 1e-5)


@pytest.mark.slow
def test_first_step_and_finer_steps_agree(monkeypatch):
    """Doubling the nodes moves no probability, relative to itself, by more than is charged."""
    rng = np.random.default_rng(0)
    results = []
    problems = []
    for _ in range(12):
        d, k, c = int(rng.integers(1, 80)), int(rng.integers(1, 8)), int(rng.integers(2, 4))
        u = rng.uniform(0.0, 12.0, size=30)
        problems.append((u, rng.integers(0, c, 30), c, k, tables(d)))
    for step in (0.125, 0.0625):
        monkeypatch.setattr(_plain, "_FIRST_STEP", step)
        _plain._block_nodes.cache_clear()
        results.append([_plain.win_probabilities(*p) for p in problems])
    for (wins, upper), (fine, _) in zip(*results, strict=True):
        assert (np.abs(wins - fine) <= upper - wins).all()
        np.testing.assert_allclose(wins, fine, rtol=2e-7)
    _plain._block_nodes.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("n_features", [20, 57, 784, 3072, 150_528])
@pytest.mark.parametrize("depth", [1, 60, 220])
def test_two_rows_in_many_dimensions(n_features, depth):
    """p_b from 1e-1 to below 1e-95: relative error, and never too small."""
    near = 1.0 + 0.02 * depth
    far = near + 1.0
    while log_chance_of_the_far_row(near, far, n_features) > -depth:
        far *= 1.1
    truth = np.exp(log_chance_of_the_far_row(near, far, n_features))
    wins, upper = _plain.win_probabilities(
        np.array([far, near]), np.array([1, 0]), 2, 1, tables(n_features)
    )
    # The reference is good to 1e-10: its grid resolves peaks of the width of the noise.
    accuracy = 1e-8 if n_features <= 3072 else 1e-6
    assert wins[1] == pytest.approx(truth, rel=accuracy, abs=0.0)
    assert truth * (1 - 1e-10) <= upper[1] <= truth * (1 + 1e3 * accuracy)


@pytest.mark.slow
def test_heavy_tailed_raw_features():
    """Rows from 1e-3 to 1e6 sigmas away: against the same sums on distances alone.

    All but the nearest rows are too far to vote; what is left has a closed form.
    """
    rng = np.random.default_rng(8)
    u = np.r_[0.001, 0.4, 9.0, 17.0, np.exp(rng.uniform(np.log(300.0), np.log(1e6), 200))]
    labels = np.r_[0, 0, 1, 1, rng.integers(0, 2, 200)]
    wins, upper = _plain.win_probabilities(u, labels, 2, 1, tables(3))
    with mpmath.workdps(50):
        exact = integrated_win_probabilities(u[:4].tolist(), [0, 0, 1, 1], 3, 1, 2, 60)
    for win, bound, truth in zip(wins, upper, exact, strict=True):
        assert win == pytest.approx(float(truth), rel=1e-8, abs=0.0)
        assert truth <= bound <= float(truth) * (1 + 1e-5)


@pytest.mark.parametrize("n_neighbors", [150, 300])
def test_many_neighbours_need_and_get_finer_steps(n_neighbors):
    """The K-th distance of many alike rows is known to a hundredth of sigma: peaks are narrow."""
    u = np.full(301, 2.0)
    labels = np.r_[np.zeros(160, dtype=int), np.ones(141, dtype=int)]
    wins, upper = _plain.win_probabilities(u, labels, 2, n_neighbors, tables(3))
    # Exchangeable rows: the K nearest are a random subset.
    exact = stats.hypergeom(301, 141, n_neighbors).sf(n_neighbors // 2)
    assert wins[1] == pytest.approx(exact, rel=1e-6)
    assert exact <= upper[1] <= exact * (1 + 1e-4) + 1.1e-290


def test_win_densities_against_listing_every_outcome():
    """Each row is closer, K-th or further: all 3^n outcomes of small problems."""
    rng = np.random.default_rng(1)
    for n_classes, n_neighbors, n in [(2, 1, 4), (2, 3, 6), (3, 2, 6), (3, 4, 6), (4, 3, 5)]:
        labels = rng.integers(0, n_classes, n)
        cdf, pdf = rng.uniform(size=n), rng.uniform(size=n)
        a = np.zeros((n_classes, n_neighbors))
        a[:, 0] = 1.0
        b = np.zeros_like(a)
        for i in range(n):
            add_row(a, b, labels[i], cdf[i], 1.0 - cdf[i], pdf[i])
        got = np.empty(n_classes)
        win_densities(a, b, got)
        expected = np.zeros(n_classes)
        fewer = 0.0
        for outcome in np.ndindex(*(2,) * n):
            chance = np.prod(np.where(outcome, cdf, 1.0 - cdf))
            fewer += chance * (sum(outcome) < n_neighbors)
            for kth in range(n):
                if outcome[kth] or sum(outcome) != n_neighbors - 1:
                    continue
                weight = pdf[kth] * chance / (1.0 - cdf[kth])
                tally = np.bincount(labels[np.array(outcome, bool)], minlength=n_classes)
                tally[labels[kth]] += 1
                expected[winner(tally.tolist())] += weight
        np.testing.assert_allclose(got, expected, rtol=1e-12)
        assert probability_of_fewer(a) == pytest.approx(fewer, rel=1e-12)


def lanes_from(r):
    """LANES distances, of which r is the third."""
    return r * (1.0 + 0.01 * (np.arange(LANES) - 2.0))


def test_at_least_is_an_upper_bound_and_exact_where_it_should_be():
    """Against all 2^8 sets of closer rows."""
    rng = np.random.default_rng(2)
    for n_classes, n_neighbors, r in [
        (2, 1, 1.5),
        (2, 3, 1.5),
        (2, 4, 2.0),
        (3, 2, 3.0),
        (3, 5, 0.5),
    ]:
        labels = rng.integers(0, n_classes, 8)
        rows = nearest_first(rng.uniform(0, 4, size=8), labels, 100.0)
        piece, v, labels = rows
        table = tables(3).get(lanes_from(r))
        cdf, sf, _ = evaluate(piece, v, *table, 2)
        bound = at_least(cdf, sf, labels, n_classes, n_neighbors)
        closer = np.array(list(np.ndindex(*(2,) * 8)))
        chance = np.where(closer, cdf, sf).prod(axis=1)
        of_all = chance[closer.sum(axis=1) >= n_neighbors].sum()
        for c in range(n_classes):
            least = min(
                w
                for w in range(1, n_neighbors + 1)
                if w + c * (w - 1) + (n_classes - 1 - c) * w >= n_neighbors
            )
            enough = closer[:, labels == c].sum(axis=1) >= least
            both = chance[enough & (closer.sum(axis=1) >= n_neighbors)].sum()
            assert bound[c] >= both * (1 - 1e-12)
            assert bound[c] == pytest.approx(min(of_all, chance[enough].sum()), rel=1e-12)
        args = (*rows, n_classes, n_neighbors, *table, 2)
        np.testing.assert_allclose(at_least_by_table(*args, 0.0), bound, rtol=1e-12)


def test_far_rows_are_rounded_up_in_at_least():
    """What is left out is added, and no more than allowed."""
    rng = np.random.default_rng(6)
    rows = nearest_first(rng.uniform(0, 12, size=300), rng.integers(0, 3, 300), 100.0)
    args = (*rows, 3, 4, *tables(20).get(lanes_from(2.5)), 2)
    exact = at_least_by_table(*args, 0.0)
    for negligible in (1e-12, 1e-6, 1e-3):
        rounded = at_least_by_table(*args, negligible)
        assert (rounded > exact).all() and (rounded <= exact + negligible).all()


@pytest.mark.parametrize("n_neighbors", [1, 2, 3, 5, 16, 17, 40])
def test_lanes_side_by_side_agree_with_one_distance_at_a_time(n_neighbors):
    """The unrolled loops and the general one, at distances with rows left and right of tables."""
    rng = np.random.default_rng(n_neighbors)
    for n_features, r in [(1, 3.0), (7, 50.0), (300, 30.0)]:
        u = np.r_[rng.uniform(0, 8, 3), rng.uniform(0, 60, 60), 200.0, 300.0]
        rows = nearest_first(u, rng.integers(0, 3, u.size), 1e3)
        assert rows[0].size == u.size
        table = tables(n_features).get(lanes_from(r))
        unrolled = (0,) * n_neighbors if n_neighbors <= 16 else ()
        density, fewer, dr_dw = np.empty((LANES, 3)), np.empty(LANES), rng.uniform(size=LANES)
        args = (*rows, 3, n_neighbors, *table, unrolled, dr_dw, density, fewer)
        integrands_by_tables(*args)
        one = np.empty(3)
        for lane in range(LANES):
            cdf, sf, pdf = evaluate(*rows[:2], *table, lane)
            total = integrand(cdf, sf, pdf, rows[2], n_neighbors, one)
            np.testing.assert_allclose(density[lane], one * dr_dw[lane], rtol=1e-10, atol=1e-300)
            np.testing.assert_allclose(fewer[lane], total, rtol=1e-10, atol=1e-300)


def test_nearest_first_is_a_stable_sort_by_piece():
    rng = np.random.default_rng(7)
    for u, limit in [
        (rng.uniform(0, 5, 200), 4.0),
        (1e9 + rng.uniform(0, 1e6, 50), 1e9 + 9e5),  # too many pieces to count them
        (np.full(20, 3.0), 3.0),
        (np.array([0.0, 1e11]), 2e11),
    ]:
        labels = np.arange(u.size)
        near = u <= limit
        piece, v = locate(u[near])
        order = np.argsort(piece, kind="stable")
        got = nearest_first(u, labels, limit)
        for one, other in zip(got, (piece, v, labels[near]), strict=True):
            np.testing.assert_array_equal(one, other[order])


@pytest.mark.parametrize("n_features", [1, 2, 5, 61, 3072])
def test_rows_integrated_one_by_one_agree_with_tables(n_features, monkeypatch):
    rng = np.random.default_rng(n_features)
    far = 3.0 * np.sqrt(n_features) + 100.0
    for spread, n_classes, n_neighbors in [(0.1, 2, 3), (5.0, 3, 4), (60.0, 2, 1)]:
        u = far + rng.uniform(0, spread, size=12)
        labels = np.arange(12) % n_classes
        by_rows, by_tables = (
            _plain.win_probabilities(u, labels, n_classes, n_neighbors, tables(n_features))
            for monkeypatch_few in (12, 11)
            if monkeypatch.setattr(_plain, "_FEW", monkeypatch_few) is None
        )
        for one, other in zip(by_rows, by_tables, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-7, atol=1.1e-290)


def test_far_apart_rows_need_few_nodes():
    """Rows a hundred thousand sigmas apart: the range must not grow to the nearest of them."""
    u = np.array([1e6, 1.1e6, 1.2e6, 1.3e6])
    wins, upper = _plain.win_probabilities(u, np.array([0, 1, 0, 1]), 2, 3, tables(4))
    assert wins[0] == pytest.approx(1.0, abs=1e-9)
    assert upper[1] < 1e-289


def test_quadrature_error_covers_unresolved_peaks():
    """Gaussian peaks from far too narrow to smooth, at every phase of the grid.

    Either the true error is covered, or the charge is so large that the step is halved.
    """
    step, x = 0.25, np.arange(-400, 401)
    for width in (0.02, 0.05, 0.1, 0.2, 0.6):
        for phase in np.linspace(0.0, 1.0, 41):
            values = stats.norm.pdf(x * step - phase, scale=width)
            wins, errors, goal = trapezoidal_sums(values[:, None], step, np.ones(1, bool), 0.5, 0.1)
            fine, error = wins[0], errors[0]
            assert fine == pytest.approx(step * values.sum(), rel=1e-12)
            assert goal[0] == 0.5 * max(fine, 0.1)
            if fine == 0.0:
                continue  # then the probabilities do not sum to 1, which is checked apart
            too_coarse = error > _plain._QUADRATURE_SHARE * fine
            assert too_coarse or error >= abs(fine - 1.0) - 1e-12
            assert not too_coarse or width < 0.6


def exact_distances(X, x, sigma):
    return [
        mpmath.sqrt(sum(
            ((mpmath.mpf(a) - mpmath.mpf(b)) / mpmath.mpf(s)) ** 2
            for a, b, s in zip(row, x, sigma, strict=True)
        ))
        for row in X
    ]  # fmt: skip


@pytest.mark.parametrize("n_features", [1, 7, 300, 1100])
@pytest.mark.parametrize("n_inputs", [1, 4, 7])
def test_distances_and_their_charge(n_features, n_inputs):
    """Computed distances are exact for rows moved by less than what is charged."""
    rng = np.random.default_rng(n_features)
    n_rows = 70 if n_features < 10 else 5
    X = rng.normal(size=(n_rows, n_features)) * 10.0 ** rng.integers(-3, 4, size=n_features) + 1e6
    inputs = X[:1] + rng.normal(size=(n_inputs, n_features)) * 1e-3
    one = rng.uniform(0.1, 3.0)
    for sigma in (np.array(one), rng.uniform(0.1, 3.0, size=n_features)):
        distances = ScaledRows(X.copy(), sigma).distances(inputs)
        assert distances.shape == (n_inputs, n_rows)
        for u, x in zip(distances, inputs, strict=True):
            with mpmath.workdps(50):
                exact = exact_distances(X, x, np.broadcast_to(sigma, n_features))
                moved = mpmath.sqrt(sum((e - v) ** 2 for e, v in zip(exact, u, strict=True)))
                assert moved < distance_charge(u, n_features)


def test_distances_at_the_ends_of_the_range_of_floats():
    for size, sigma in [(1e150, 1e100), (1e-200, 1e-100), (1e-90, 1e-100), (1e99, 1e100)]:
        for sigmas in (np.array(sigma), np.array([sigma, 2.0 * sigma])):
            X = size * np.array([[0.0, 1.0], [3.0, 2.0]])
            u = ScaledRows(X.copy(), sigmas).distances(size * np.array([[1.0, 1.0]]))[0]
            unit = size / np.broadcast_to(sigmas, 2)
            exact = [unit[0], np.hypot(2.0 * unit[0], unit[1])]
            np.testing.assert_allclose(u, exact, rtol=1e-14)
    # Past it, distances are infinite or no numbers, never small.
    u = ScaledRows(np.array([[1e300], [1.0]]), np.array(1e-100)).distances(np.array([[1e300]]))
    assert not np.isfinite(u).any()


def test_rows_out_of_reach_change_nothing():
    rng = np.random.default_rng(4)
    u = np.r_[rng.uniform(0, 10, 30), rng.uniform(95, 200, 20)]
    labels = rng.integers(0, 2, 50)
    near = u <= _plain.reach(np.partition(u, 4)[4], 12)
    assert 30 <= near.sum() < 50
    all_rows = _plain.win_probabilities(u, labels, 2, 5, tables(12))[0]
    near_rows = _plain.win_probabilities(u[near], labels[near], 2, 5, tables(12))[0]
    np.testing.assert_array_equal(all_rows, near_rows)
    # The chance that a row out of reach is closer than the furthest of the K nearest can be.
    with mpmath.workdps(30):
        for n_features, kth in [(1, 0.0), (1, 30.0), (57, 8.0), (784, 3.0)]:
            out = _plain.reach(kth, n_features)
            m = np.sqrt(n_features + kth**2)
            assert noncentral_chi_exact(n_features, m + 37.6, out)[0] < mpmath.mpf("1e-305")


def test_which_classes_can_win_at_all():
    """Against listing every choice of K rows."""
    import itertools

    rng = np.random.default_rng(5)
    for _ in range(60):
        n, n_classes = int(rng.integers(2, 8)), int(rng.integers(2, 5))
        labels = rng.integers(0, n_classes, n)
        k = int(rng.integers(1, n + 1))
        winners = {
            winner(np.bincount(labels[list(rows)], minlength=n_classes).tolist())
            for rows in itertools.combinations(range(n), k)
        }
        assert set(np.flatnonzero(_plain.can_win(labels, n_classes, k))) == winners


def test_a_class_that_cannot_win_costs_nothing():
    """Far and near rows, K = n: the range must not grow for a class without a chance."""
    wins, upper = _plain.win_probabilities(
        np.array([0.0, 1.0, 2000.0]), np.array([0, 0, 1]), 2, 3, tables(1)
    )
    assert wins[0] == pytest.approx(1.0, abs=1e-9)
    assert upper[1] == _plain.PROBABILITY_FLOOR
