# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy import special, stats

from sksmooth.smoothing import CategoricalNoise, _flip_lattice

from ._oracles import (
    HALF,
    all_outcomes,
    coordinate,
    critical_tail,
    log,
    mp,
    outcomes_by_type,
    trade_off,
)

# (q, K, largest r): all outcomes one by one where there are not too many, else by type
SMALL = [(0.3, 2, 6), (0.05, 2, 6), (0.49, 2, 6), (0.4, 3, 6), (0.1, 3, 5), (0.6, 10, 3)]
TYPES = [(0.3, 2, 40), (0.6, 10, 12), (0.05, 10, 12), (0.89, 10, 8), (0.2, 3, 15)]


def test_two_ways_to_list_outcomes_agree():
    for q, n_categories, r in SMALL:
        one_by_one = all_outcomes([coordinate(q, n_categories)] * min(r, 4))
        by_type = outcomes_by_type(q, n_categories, min(r, 4))
        assert sum(p for p, _ in by_type) == sum(q for _, q in by_type) == 1
        for alpha in (Fraction(1, 1000), Fraction(1, 7), Fraction(1, 2), Fraction(9, 10)):
            assert trade_off(one_by_one, alpha) == trade_off(by_type, alpha)


@pytest.mark.parametrize(("q", "n_categories", "max_r"), SMALL)
def test_required_tail_by_listing_all_outcomes(q, n_categories, max_r):
    table = CategoricalNoise(q, n_categories).required_log_tail(max_r)
    for r in range(max_r + 1):
        exact = log(critical_tail(all_outcomes([coordinate(q, n_categories)] * r)))
        # strictly below (the theorem needs more than 1/2), by what is charged for rounding
        assert 0 < exact - mp.mpf(table[r]) < 1e-13 * (1 + abs(exact))


@pytest.mark.parametrize(("q", "n_categories", "max_r"), TYPES)
def test_required_tail_by_listing_types(q, n_categories, max_r):
    table = CategoricalNoise(q, n_categories).required_log_tail(max_r)
    for r in range(0, max_r + 1, 3):
        exact = log(critical_tail(outcomes_by_type(q, n_categories, r)))
        assert 0 < exact - mp.mpf(table[r]) < 1e-12 * (1 + abs(exact))


@pytest.mark.parametrize(("q", "n_categories", "max_r"), [*SMALL, *TYPES])
def test_two_sided_radius_is_exact(q, n_categories, max_r):
    # the largest r with beta(tail_a) + beta(p_b) > 1, in rational arithmetic of the same floats
    rng = np.random.default_rng(5)
    tail_a = rng.uniform(0.01, 0.7, 12)
    p_b = tail_a * 10.0 ** -rng.uniform(0.0, 4.0, 12)
    radii = CategoricalNoise(q, n_categories).radius(
        1 - tail_a, p_b, tail_a=tail_a, n_coordinates=max_r
    )
    curves = [outcomes_by_type(q, n_categories, r) for r in range(max_r + 1)]
    for a, b, radius in zip(tail_a, p_b, radii, strict=True):
        holds = [trade_off(curve, a) + trade_off(curve, b) > 1 for curve in curves]
        assert holds == sorted(holds, reverse=True)  # "exactly r" covers "at most r"
        assert radius == sum(holds) - 1


def worst_classifier(q, n, r, tail):
    """Return the vote share of each of 2**n outcomes that falls fastest when r bits change.

    The first r of n bits are changed. Outcomes are kept in order of P/Q until P-mass 1 - tail.
    """
    q, left = Fraction(q), Fraction(tail)

    def ratio(bits):
        return sum(1 if b else -1 for b in bits[:r])  # more ones: more likely when changed

    kept = {}
    for bits in sorted(itertools.product((0, 1), repeat=n), key=ratio, reverse=True):
        mass = q ** sum(bits) * (1 - q) ** (n - sum(bits))
        lost = min(Fraction(1), left / mass)
        kept[bits] = 1 - lost
        left -= lost * mass
    return kept


def vote(kept, q, centre):
    q = Fraction(q)
    total = Fraction(0)
    for bits, share in kept.items():
        n_different = sum(b != c for b, c in zip(bits, centre, strict=True))
        total += share * q**n_different * (1 - q) ** (len(bits) - n_different)
    return total


@pytest.mark.parametrize("tail", [0.4, 0.2, 0.1, 0.05, 0.03])
def test_brute_force_no_change_within_the_radius_and_one_just_beyond(tail):
    q, n = 0.3, 6
    radius = int(CategoricalNoise(q).radius(1 - tail, tail_a=tail))
    assert 0 <= radius < n
    for r in range(n + 1):
        kept = worst_classifier(q, n, r, tail)
        assert vote(kept, q, (0,) * n) == 1 - Fraction(tail)
        votes = {c: vote(kept, q, c) for c in itertools.product((0, 1), repeat=n)}
        assert all(v > HALF for c, v in votes.items() if sum(c) <= radius)
        if r == radius + 1:  # tight: this classifier changes its answer one step further
            assert votes[(1,) * r + (0,) * (n - r)] <= HALF


def exact_log_tail_two_values(q, r):
    """Return the critical log tail for K = 2 from binomial sums at 60 digits."""
    q = mp.mpf(q)
    left, alpha = mp.mpf("0.5"), mp.mpf(0)
    mass_q, mass_p = (1 - q) ** r, q**r  # no value seen as it was; Q knows r changed ones
    for k in range(r + 1):
        share = min(mp.mpf(1), left / mass_q)
        alpha += share * mass_p
        left -= share * mass_q
        if left <= 0:
            break
        mass_q *= (r - k) * q / ((k + 1) * (1 - q))
        mass_p *= (r - k) * (1 - q) / ((k + 1) * q)
    return mp.log(alpha)


@pytest.mark.parametrize(
    ("q", "r"), [(0.05, 10_000), (0.3, 10_000), (0.499, 10_000), (0.05, 777), (1e-9, 500)]
)
def test_deep_tables_for_two_values(q, r):
    table = CategoricalNoise(q).required_log_tail(r)
    exact = exact_log_tail_two_values(q, r)
    # charged: 3 EPS per change on sums near 1/2, of which a part of about 1/sqrt(r) remains
    assert 0 < exact - mp.mpf(table[-1]) < 1e-8
    assert (np.diff(table) <= 0).all()


def test_design_value_at_ten_thousand_flips():
    assert CategoricalNoise(0.05).required_log_tail(10_000)[-1] == pytest.approx(-26505, abs=0.1)


@pytest.mark.parametrize(("q", "r"), [(0.05, 2000), (0.5, 2000), (0.85, 300)])
def test_deep_tables_for_ten_values(q, r):
    # log of multinomial sums by lgamma, whose error is about 1e-11 of terms near 1e4
    k = 10
    clean, changed = np.meshgrid(np.arange(r + 1), np.arange(r + 1), indexing="ij")
    keep = (clean + changed <= r) & (changed - clean >= 0)  # the median of Q is well above 0
    s, rest = (clean - changed)[keep], (r - clean - changed)[keep]
    ways = special.gammaln(r + 1) - sum(
        special.gammaln(n + 1) for n in (clean[keep], changed[keep], rest)
    )
    log_q = (
        ways
        + clean[keep] * np.log(q / (k - 1))
        + changed[keep] * np.log1p(-q)
        + rest * np.log(q * (k - 2) / (k - 1))
    )
    pmf = np.bincount(-s, weights=np.exp(log_q), minlength=r + 1)[::-1]  # s = -r..0
    s = np.arange(-r, 1)
    t = np.log((1 - q) * (k - 1) / q)
    below = np.cumsum(pmf)
    c = np.searchsorted(below, 0.5)
    share = (0.5 - below[c - 1]) / pmf[c]
    with np.errstate(divide="ignore"):
        terms = np.log(pmf) + t * s
    terms[c] += np.log(share)
    exact = special.logsumexp(terms[: c + 1])
    table = CategoricalNoise(q, k).required_log_tail(r)
    assert table[-1] == pytest.approx(exact, rel=1e-8)


def test_radius_reads_the_table_as_a_closed_condition():
    noise = CategoricalNoise(0.3, 4)
    table = noise.required_log_tail(200)
    np.testing.assert_array_equal(
        noise.radius_from_log(table), [np.flatnonzero(table == v).max() for v in table]
    )
    above = np.nextafter(table, 0.0)
    assert (noise.radius_from_log(above) < np.arange(201)).all()
    assert not table.flags.writeable


def test_unequal_bounds_far_in_the_tails():
    # Unequal bounds lie between the radii of the two equal ones, and move with either.
    noise = CategoricalNoise(0.4)
    log_a, log_b = -0.35, -100.0
    radius = int(noise.radius_from_log(log_a, log_b))
    assert noise.radius_from_log(log_a) < radius < noise.radius_from_log(log_b)
    # exact at 60 digits: beta(a) > 1 - beta(b) holds at the radius and fails one above
    for r, expected in ((radius, True), (radius + 1, False)):
        q = mp.mpf(0.4)
        masses = [
            (mp.binomial(r, k) * (1 - q) ** k * q ** (r - k),
             mp.binomial(r, k) * q**k * (1 - q) ** (r - k))
            for k in range(r + 1)
        ]  # fmt: skip
        rejected = []
        for log_alpha in (log_a, log_b):
            left, mass = mp.exp(mp.mpf(log_alpha)), mp.mpf(0)
            for p_k, q_k in masses:
                share = min(mp.mpf(1), left / p_k)
                mass, left = mass + share * q_k, left - share * p_k
                if left <= 0:
                    break
            rejected.append(mass)
        assert (rejected[0] + rejected[1] < 1) == expected


def test_caps():
    noise = CategoricalNoise(0.3)
    assert noise.radius(1.0, n_coordinates=5) == 5
    assert noise.radius(0.999999, 1e-9, n_coordinates=5) == 5
    assert noise.radius_from_log(-1e300) == 10_000
    assert noise.radius_from_log(-1e300, n_coordinates=300, bound="kl") == 300
    assert noise.radius_from_log(-1e300, n_coordinates=2**53, bound="kl") == 2**53
    for bad in (0, 2**53 + 1, 2**63, 10**400):
        with pytest.raises(ValueError, match="n_coordinates must be an integer of at least 1 and"):
            noise.radius_from_log(-1e300, n_coordinates=bad, bound="kl")
    with pytest.raises(ValueError, match="max_radius must be an integer of at least 0 and at most"):
        noise.required_log_tail(2**63)
    for bad in (100_001, 2**63):
        with pytest.raises(ValueError, match="size must hold integers .* at most 100000"):
            noise.trade_off(0.1, [1, bad])


def test_kl_bound_and_the_design_values():
    # KL radius / exact radius at q = 0.3: 8/14, 31/60, 167/329
    noise = CategoricalNoise(0.3)
    tails = np.array([1e-3, 1e-10, 1e-50])
    exact, kl = (noise.radius_from_log(np.log(tails), bound=b) for b in ("exact", "kl"))
    assert kl.tolist() == [8, 31, 167]
    assert exact.tolist() == [14, 60, 329]


@pytest.mark.parametrize(("q", "n_categories"), [(0.3, 2), (0.49, 2), (0.4, 3), (0.6, 10)])
def test_kl_bound_is_the_papers_formula_and_never_above_the_exact_radius(q, n_categories):
    noise = CategoricalNoise(q, n_categories)
    log_tails = -np.linspace(0.0, 12.0, 500)
    kl = noise.radius_from_log(log_tails, bound="kl")
    assert (kl <= noise.radius_from_log(log_tails)).all()
    for log_tail, radius in zip(log_tails, kl, strict=True):
        tail = mp.exp(mp.mpf(log_tail))
        if tail >= 0.5:
            assert radius == -1
            continue
        contrast = 1 - n_categories * mp.mpf(q) / (n_categories - 1)
        t = mp.log((1 - mp.mpf(q)) * (n_categories - 1) / mp.mpf(q))
        assert radius == mp.floor(-mp.log(4 * tail * (1 - tail)) / (2 * contrast * t))
    with pytest.raises(ValueError, match="bound must be 'exact' or 'kl'. Got 'KL' instead"):
        noise.radius(0.9, bound="KL")


@pytest.mark.parametrize(("q", "n_categories"), [(0.3, 2), (0.4, 3), (0.05, 10)])
def test_trade_off_is_exact(q, n_categories):
    noise = CategoricalNoise(q, n_categories)
    alpha = np.array([0.0, 1e-6, 0.01, 0.2, 0.5, 0.9, 1.0])
    for r in range(5):
        exact = [float(trade_off(outcomes_by_type(q, n_categories, r), a)) for a in alpha]
        np.testing.assert_allclose(noise.trade_off(alpha, r), exact, atol=1e-14)


@pytest.mark.parametrize(("q", "n_categories"), [(0.3, 2), (0.4, 5), (0.7, 5)])
def test_draw_keeps_and_replaces_uniformly(q, n_categories):
    # chi-square at a false-alarm rate of 1e-6 for each code, whatever the seed
    n = 20_000
    codes = np.repeat(np.arange(n_categories), n)
    noisy = CategoricalNoise(q, n_categories).draw(codes, np.random.default_rng(3))
    for code in range(n_categories):
        counts = np.bincount(noisy[codes == code], minlength=n_categories)
        expected = np.full(n_categories, n * q / (n_categories - 1))
        expected[code] = n * (1 - q)
        assert stats.chisquare(counts, expected).pvalue > 1e-6
    changed = noisy != codes
    assert abs(np.corrcoef(changed[1:], changed[:-1])[0, 1]) < 5 / np.sqrt(codes.size)


def test_draw_keeps_the_dtype_and_refuses_other_values():
    rng = np.random.default_rng(0)
    big = CategoricalNoise(0.9, 250)
    codes = np.full(1000, 249, dtype=np.uint8)
    noisy = big.draw(codes, rng)
    assert noisy.dtype == np.uint8 and noisy.max() <= 249 and (noisy != 249).any()
    assert big.draw(codes.astype(float), rng).dtype == float
    noise = CategoricalNoise(0.3, 3)
    for bad, place in [([0, 3], 1), ([-1, 0], 0), ([0.0, 0.5], 1), ([np.nan, 1.0], 0)]:
        with pytest.raises(ValueError, match=rf"codes from 0 to 2. Got .* at \({place},\)"):
            noise.draw(bad, rng)
    with pytest.raises(ValueError, match="dtype <U1"):
        noise.draw(["a", "b"], rng)


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [(np.int8, 128), (np.uint8, 256), (np.int16, 2**15), (np.float16, 2049),
     (np.float32, 2**24 + 1), (np.int64, 2**53), (np.float64, 2**53)],
)  # fmt: skip
def test_draw_needs_a_dtype_that_holds_every_code(dtype, largest):
    # the code K - 1 still fits: nothing wraps, no two codes round to one
    codes, rng = np.zeros(4000, dtype=dtype), np.random.default_rng(0)
    noisy = CategoricalNoise(0.9, largest).draw(codes, rng)
    assert noisy.dtype == dtype and noisy.min() >= 0 and int(noisy.max()) < largest
    again = CategoricalNoise(0.9, largest).draw(codes.astype(np.int64), np.random.default_rng(0))
    np.testing.assert_array_equal(noisy.astype(np.int64), again)
    top = np.array([largest - 1, 0], dtype=dtype)  # accepted as a code
    assert CategoricalNoise(1e-9, largest).draw(top, rng)[0] == top[0]
    if largest < 2**53:
        with pytest.raises(ValueError, match=rf"every code from 0 to {largest}. Got {codes.dtype}"):
            CategoricalNoise(0.9, largest + 1).draw(codes, rng)


def test_half_of_the_noise_up_to_rounding_falls_back_to_the_point_before():
    # q = 0.5, K huge: Q(<s) is 1/2 less what no sum in float64 can tell apart
    table = CategoricalNoise(0.5, 2**53).required_log_tail(3)
    for r, value in enumerate(table):
        exact = log(critical_tail(outcomes_by_type(0.5, 2**53, r)))
        assert np.isfinite(value) and 0 < exact - mp.mpf(value)
        if r < 3:
            assert exact - mp.mpf(value) < 1e-3


@pytest.mark.parametrize(
    ("q", "n_categories"), [(0.5, 2), (0.0, 2), (0.75, 4), (1.0, 3), (-0.1, 2)]
)
def test_q_out_of_range(q, n_categories):
    with pytest.raises(ValueError, match=r"q must be a float in \(0, \(K - 1\) / K\)"):
        CategoricalNoise(q, n_categories)


def test_odd_parameters():
    for bad in (np.nan, "0.1", True, None, 10**400, -(10**400)):
        with pytest.raises(ValueError, match="q must be a float"):
            CategoricalNoise(bad)
    for bad in (1, 2.0, "2", True, 2**53 + 1, 10**400):
        with pytest.raises(ValueError, match="n_categories must be an integer of at least 2"):
            CategoricalNoise(0.3, bad)
    # just below and far from the limits: still finite and sound
    near = CategoricalNoise(np.nextafter(0.5, 0.0))
    assert near.radius(0.500001, n_coordinates=50) == 50
    assert near.radius(0.5, n_coordinates=50) == -1
    rare = CategoricalNoise(1e-300)
    assert rare.radius_from_log([-1.0, -691.0, -692.0]).tolist() == [0, 0, 1]
    many = CategoricalNoise(0.5, 10**9)
    for r, value in enumerate(many.required_log_tail(3)):
        exact = log(critical_tail(outcomes_by_type(0.5, 10**9, r)))
        # at r = 3 half of Q lies on two points and the rest of the bound is 1e-9 of it: the charge
        # for rounding that half is a share of 1e-4
        assert 0 < exact - mp.mpf(value) < 1e-3


def test_duality_keeps_the_mean_positive():
    """Against every pair of r-fold noises and random Z; tight for the tilted Z of the proof."""
    rng = np.random.default_rng(0)
    for q, n_categories in [(0.3, 2), (0.05, 2), (0.4, 3)]:
        keep, replace = 1 - q, q / (n_categories - 1)
        clean = np.full(n_categories, replace)
        changed = clean.copy()
        clean[0], changed[1] = keep, keep
        closest = np.inf
        for r in (1, 2, 3):
            p, other = np.ones(1), np.ones(1)
            for _ in range(r):
                p, other = np.outer(p, clean).ravel(), np.outer(other, changed).ravel()
            for trial in range(200):
                z = rng.normal(size=p.size) + rng.exponential()
                if trial < 50:  # where the inequality is an equation, but for a shift
                    z = np.log(p / other) + r * rng.uniform(0.0, 2.0) * (keep - replace)
                s = np.geomspace(1e-3, 30.0, 2000)
                log_mgf = np.min(np.log(np.exp(-s[:, None] * z) @ p))
                radius = _flip_lattice.duality_radii(np.array([log_mgf]), q, n_categories, 5)[0]
                if radius >= r:
                    assert other @ z > 0
                    closest = min(closest, (other @ z) / np.abs(z).max())
        assert closest < 0.05
    limit = _flip_lattice.divergence_upper(0.3, 2)
    log_mgf = np.array([0.0, -0.5 * limit, -3.0 * limit, -3.01 * limit, -1e9])
    assert _flip_lattice.duality_radii(log_mgf, 0.3, 2, 7).tolist() == [-1, 0, 2, 3, 7]
