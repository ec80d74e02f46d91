# SPDX-License-Identifier: BSD-3-Clause
"""Compiled loops one by one: weights, sorting, Chernoff bounds against 50 digits."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from scipy import sparse

from sksmooth.linear_model import _kernels as kernels
from sksmooth.linear_model._radii import log_vote_bounds, sign_cumulants

GOOD, BAD, OTHER = 0, 1, 2


@pytest.mark.parametrize("rank, n_rows", [(1, 1), (3, 5), (8, 512), (9, 513), (50, 1300)])
def test_weights_are_a_product_and_do_not_depend_on_the_batch(rank, n_rows):
    rng = np.random.default_rng(rank)
    columns, z = rng.normal(size=(rank, n_rows)), rng.normal(size=(7, rank))
    out = np.full((7, n_rows), np.nan)
    kernels.weigh_rows(columns, z, out)
    # Any order of summation is off by at most rank roundings of the sum of absolute products.
    assert np.all(np.abs(out - z @ columns) <= rank * 2.0**-52 * (np.abs(z) @ np.abs(columns)))
    for batch in (slice(0, 1), slice(2, 4), slice(3, 6), slice(6, 7)):
        part = np.full((len(z[batch]), n_rows), np.nan)
        kernels.weigh_rows(columns, z[batch], part)
        np.testing.assert_array_equal(part, out[batch])


def test_sparse_weights():
    rng = np.random.default_rng(0)
    rows = sparse.random(40, 9, 0.3, format="csr", random_state=0)
    constants, z = rng.normal(size=40), rng.normal(size=(3, 10))
    out = np.empty((3, 40))
    kernels.weigh_sparse_rows(rows.data, rows.indices, rows.indptr, constants, z, out)
    np.testing.assert_allclose(out, z @ np.c_[rows.toarray(), constants].T, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).exponential(size=5000),
        np.random.default_rng(1).lognormal(0, 20, size=3000),
        np.full(3000, 0.125),
        np.r_[np.full(2000, 1e-12), 7.0],
        np.r_[5e-324, 1e-310, 1e300, 3.0],
        np.r_[2.0],
        np.empty(0),
    ],
    ids=["exponential", "all scales", "equal", "one large", "extremes", "one", "none"],
)
def test_largest_values_come_first_in_order(values):
    expected = np.sort(values)[::-1]
    for share in (0.0, 0.3, 2.0):
        got, enough = values.copy(), share * expected.sum()
        kernels._sort_largest(
            got, got.size, enough, np.empty(got.size), np.empty(kernels.N_BUCKETS + 1, np.int64)
        )
        needed = min(int(np.searchsorted(np.cumsum(expected), enough, side="right")) + 1, got.size)
        np.testing.assert_array_equal(got[:needed], expected[:needed])
        np.testing.assert_array_equal(np.sort(got), np.sort(values))


def problem(good, bad, other, q, n_classes, offset=0.0, charge=0.0):
    """A pair of classes as the kernels take it: values sorted, chances, buffers."""
    lists = [np.sort(np.asarray(v, float))[::-1] for v in (good, bad, other)]
    kinds = np.zeros((3, max(1, *(v.size for v in lists))))
    for kind, values in zip(kinds, lists, strict=True):
        kind[: values.size] = values
    counts = np.array([v.size for v in lists])
    keep, replace = 1.0 - q, q / (n_classes - 1)
    neither = (n_classes - 2) * replace
    chances = np.array(
        [
            [replace, neither, keep],
            [keep, neither, replace],
            [replace, 1.0 - 2.0 * replace, replace],
        ]
    )
    n_factors = 32
    while n_factors > 1 and n_factors * math.log(replace) < -660.0:
        n_factors //= 2
    pair = (kinds, counts, float(sum(v.sum() for v in lists)), offset, charge)
    return pair, (chances, n_factors), (np.empty((3, kernels.BLOCK)), np.empty(3))


def exact_log_mgf(v, t, a, q, n_classes):
    """Logarithm of ``E exp(-t a V)`` for a noisy label whose clean sign is v, by its definition."""
    q = mpmath.mpf(q)
    replace = q / (n_classes - 1)
    chance = {1: replace, -1: replace, 0: 1 - 2 * replace}
    if v:
        chance = {v: 1 - q, -v: replace, 0: (n_classes - 2) * replace}
    return mpmath.log(sum(p * mpmath.exp(-mpmath.mpf(t) * a * s) for s, p in chance.items()))


def exact_log_bound(pair, t, q, n_classes, n_flips):
    """The largest bound over all sets of at most `n_flips` flips, by listing them."""
    kinds, counts, _, offset, charge = pair
    rows = [(1, a) for a in kinds[0][: counts[0]]]
    rows += [(-1, a) for a in kinds[1][: counts[1]]]
    rows += [(0, a) for a in kinds[2][: counts[2]]]
    now = [exact_log_mgf(v, t, a, q, n_classes) for v, a in rows]
    rise = [
        max(exact_log_mgf(s, t, a, q, n_classes) for s in (1, -1, 0)[: 2 + (n_classes > 2)]) - n
        for (v, a), n in zip(rows, now, strict=True)
    ]
    sets = itertools.combinations(rise, min(n_flips, len(rise)))
    return sum(now) + max((sum(s) for s in sets), default=0) - mpmath.mpf(t) * offset


@pytest.mark.parametrize("n_classes, q", [(2, 0.3), (2, 1e-6), (2, 0.4999), (3, 0.1), (5, 0.75)])
def test_bound_against_50_digits_and_every_set_of_flips(n_classes, q):
    rng = np.random.default_rng(3)
    for trial in range(6):
        sizes = rng.integers(0, 5, 3) + [2, 0, 0]
        lists = [rng.exponential(size=s) for s in sizes]
        if n_classes == 2:
            lists[OTHER] = []
        if trial == 0:
            lists[GOOD] = np.full(3, 0.5)
        offset = rng.normal()
        pair, noise, work = problem(*lists, q, n_classes, offset)
        for t in (1e-3, 0.7, 5.0, 60.0):
            for n_flips in (0, 1, 3, 20):
                got, slope, curvature = kernels._log_bound(pair, t, n_flips, noise, *work)
                with mpmath.workdps(50):
                    want = exact_log_bound(pair, t, q, n_classes, n_flips)
                    size = t * (pair[2] + abs(offset)) + 30
                    assert want <= got <= want + 1e-12 * size
                # Derivatives by differences of the same set of flips; they only steer t.
                if n_flips == 0:
                    h = 1e-4 * t
                    near = [kernels._log_bound(pair, t + s, 0, noise, *work)[0] for s in (-h, h)]
                    assert (near[1] - near[0]) / (2 * h) == pytest.approx(slope, abs=2e-6 * size)
                    slopes = [kernels._log_bound(pair, t + s, 0, noise, *work)[1] for s in (-h, h)]
                    assert (slopes[1] - slopes[0]) / (2 * h) == pytest.approx(
                        curvature, abs=1e-5 * pair[2] ** 2
                    )


def test_many_rows_in_blocks():
    """Sums over several blocks and a part of one, at small and at saturating t."""
    rng = np.random.default_rng(0)
    lists = [rng.exponential(size=n) for n in (1500, 700, 513)]
    pair, noise, work = problem(*lists, 0.2, 4)
    keep, replace = 0.8, 0.2 / 3
    for t in (1e-4, 1.0, 300.0, 1e5):
        got = kernels._log_bound(pair, t, 0, noise, *work)[0]
        want = 0.0
        chances = [(replace, keep), (keep, replace), (replace, replace)]
        for values, (down, up) in zip(lists, chances, strict=True):
            e = np.exp(np.maximum(-t * values, -700.0))
            want += math.fsum(t * values + np.log(down + (1 - down - up) * e + up * e * e))
        # Sums of n numbers are charged in full.
        n, size = 2713, t * pair[2] + abs(want - t * pair[2])
        assert want <= got <= want + 2.0**-52 * n * (4 * size + 80)


@pytest.mark.parametrize("q", [1e-300, 1e-6, 0.01, 0.3, 0.49])
def test_the_least_bound_is_converged(q):
    """The derivative at the minimum: what a Newton step could still gain is below 1e-8."""
    rng = np.random.default_rng(1)
    for bad_share in (0.0, 0.02, 0.2):
        values = rng.exponential(size=400) / 400
        n_bad = int(bad_share * 400)
        pair, noise, work = problem(values[n_bad:], values[:n_bad], [], q, 2)
        t, value = kernels._least_log_bound(pair, 1.0, kernels.NONE, noise, -1e9, *work)
        _, slope, curvature = kernels._log_bound(pair, t, kernels.NONE, noise, *work)
        assert slope**2 / (2 * curvature) < 1e-8
        for factor in (0.5, 0.99, 1.01, 2.0):
            assert value <= kernels._log_bound(pair, t * factor, kernels.NONE, noise, *work)[0]
        # The same from anywhere.
        for start in (1e-6, 1e6):
            again = kernels._least_log_bound(pair, start, kernels.NONE, noise, -1e9, *work)[1]
            assert again == pytest.approx(value, rel=1e-9, abs=1e-7)


def test_a_bound_without_end_stops_where_it_proves_everything():
    pair, noise, work = problem([1e-9, 2e-9], [], [], 0.1, 2, offset=1.0)
    assert kernels._least_log_bound(pair, 1.0, kernels.NONE, noise, -500.0, *work)[1] < -500.0


def slow_most_flips(pair, q, noise, work, target):
    """The largest number of flips, one after the other, each at its own best t."""
    n_flips = -1
    limit = pair[1][GOOD] + pair[1][OTHER]
    while n_flips < limit:
        value = kernels._least_log_bound(pair, 1.0, n_flips + 1, noise, -1e5, *work)[1]
        if not value < target:
            return n_flips
        n_flips += 1
    return pair[0].shape[1]


@pytest.mark.parametrize("n_classes, q", [(2, 0.01), (2, 0.3), (2, 0.45), (4, 0.05), (4, 0.6)])
def test_search_finds_what_one_by_one_finds(n_classes, q):
    rng = np.random.default_rng(5)
    target, found, by_moments = math.log(0.5), [], 0
    for n in (5, 40, 300, 1500, 1501):
        # The last two have no row that stands out, as the moments need it.
        values = (rng.exponential(size=n) if n < 1500 else rng.uniform(0.1, 2.0, n)) / n
        kinds = np.split(values, [int(0.7 * n), int(0.8 * n)])
        if n_classes == 2:
            kinds[OTHER] = []
        pair, noise, work = problem(*kinds, q, n_classes)
        t = kernels._least_log_bound(pair, 1.0, kernels.NONE, noise, -1e5, *work)[0]
        want = slow_most_flips(pair, q, noise, work, target)
        if want < 0:
            continue
        squares = sum(float(np.square(k).sum()) for k in kinds)
        start = math.sqrt(2 * math.log(2) / (4 * q * (1 - q) * squares))
        for first in (t, start):
            got, _, value = kernels._most_flips(pair, t, first, target, noise, -1e5, *work)
            assert got == want
            assert value < target
        if n_classes == 2:
            moments = np.empty((2, 13))
            for kind in (GOOD, BAD):
                kernels._power_sums(pair[0][kind], pair[1][kind], start, moments[kind])
            got = kernels._most_flips_by_moments(pair, moments, start, sign_cumulants(q), target)
            assert got in (want, -2)
            by_moments += got == want
        found.append(want)
    assert max(found) > 10
    assert by_moments >= (2 if n_classes == 2 and q >= 0.3 else 0)


def test_moments_charge_what_the_series_leaves_out():
    """The largest bound that the series would accept, against the bound itself, row by row."""
    rng = np.random.default_rng(0)
    accepted = 0
    for n in (1000, 1200, 1500, 2000):  # with fewer rows it declines
        values = rng.uniform(0.1, 2.0, n) / n
        parts = values[: n * 3 // 4], values[n * 3 // 4 :]
        pair, noise, work = problem(*parts, [], 0.3, 2)
        start = math.sqrt(2 * math.log(2) / (0.84 * float(np.square(values).sum())))
        moments = np.empty((2, 13))
        for kind in (GOOD, BAD):
            kernels._power_sums(pair[0][kind], pair[1][kind], start, moments[kind])
        for target in np.linspace(-3.0, -0.01, 40):
            got = kernels._most_flips_by_moments(
                pair, moments, start, sign_cumulants(0.3), float(target)
            )
            if got >= 0:
                value = kernels._least_log_bound(pair, start, got, noise, -1e9, *work)[1]
                assert value < target + 1e-7
                accepted += 1
    assert accepted > 20


def test_cumulants_of_a_sign():
    for p in (0.1, 0.5, 1e-6):
        with mpmath.workdps(40):
            want = mpmath.taylor(
                lambda u, p=p: mpmath.log(p * mpmath.exp(u) + (1 - mpmath.mpf(p)) * mpmath.exp(-u)),
                0,
                11,
            )
        np.testing.assert_allclose(
            sign_cumulants(p), [float(w) for w in want], rtol=1e-12, atol=1e-40
        )


def test_votes_from_pairs():
    log_bounds = np.log([[1.0, 0.1, 0.02], [0.3, 1.0, 1e-15], [1.0, 1.0, 1.0]])
    log_tail, log_p_b = log_vote_bounds(log_bounds, np.array([0, 1, 2]))
    np.testing.assert_allclose(np.exp(log_tail), [0.12, 0.3, 1.0], rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_p_b), [0.1, 0.3, 1.0], rtol=1e-15)
    assert log_tail[0] >= float(mpmath.log(mpmath.mpf(0.1) + mpmath.mpf(0.02)))
    never = np.array([[-np.inf, 0.0]])
    assert log_vote_bounds(never, np.array([1]))[0][0] < -1e10
