# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sksmooth.smoothing import UniformNoise

from ._oracles import mp


def exact_radius(width, tail_a, p_b, n_factors=1):
    half_gap = (1 - mp.mpf(tail_a) - mp.mpf(p_b)) / 2
    return mp.mpf(width) * (1 - (1 - half_gap) ** (mp.mpf(1) / n_factors))


@settings(max_examples=200, deadline=None)
@given(
    st.floats(1e-3, 1e3),
    st.floats(1e-12, 0.999),
    st.floats(1e-12, 0.999),
    st.sampled_from([1, 2, 7, 3 * 10**6]),
    st.booleans(),
)
def test_strictly_below_the_theorem_and_close(width, tail_a, p_b, n_factors, linf):
    p_b = min(p_b, tail_a)
    options = {"norm": "linf", "n_coordinates": n_factors} if linf else {"n_poisoned": n_factors}
    radius = float(UniformNoise(width).radius(1 - tail_a, p_b, tail_a=tail_a, **options))
    exact = exact_radius(width, tail_a, p_b, n_factors)
    # the gap is a difference of numbers near 1: rounding is absolute
    if radius == -1:
        assert exact < 1e-14 * width / n_factors
    else:
        assert 0 < exact - mp.mpf(radius) < 1e-14 * width / n_factors


def overlap(change, width):
    return float(np.prod(np.maximum(1 - np.abs(change) / width, 0)))


@pytest.mark.parametrize(("p_a", "p_b"), [(0.9, 0.1), (0.7, 0.2), (0.55, 0.45), (0.4, 0.1)])
def test_every_change_within_the_radius_keeps_enough_overlap(p_a, p_b):
    # Random directions up to the boundary, and the extreme ones, which attain it.
    width, d = 2.0, 4
    noise = UniformNoise(width)
    need = 1 - (p_a - p_b) / 2
    rng = np.random.default_rng(0)
    l1 = float(noise.radius(p_a, p_b))
    linf = float(noise.radius(p_a, p_b, norm="linf", n_coordinates=d))
    directions = rng.dirichlet(np.full(d, 0.5), 500)
    assert all(overlap(l1 * u, width) >= need for u in directions)
    corner = np.array([1.0, 0, 0, 0])
    assert overlap(l1 * corner, width) > need - 1e-15
    assert overlap((l1 + 1e-9) * corner, width) < need
    assert all(overlap(linf * u, width) >= need for u in rng.uniform(-1, 1, (500, d)))
    assert all(
        overlap((linf + 1e-9) * np.array(signs), width) < need
        for signs in itertools.product((-1, 1), repeat=d)
    )
    # two rows, each of the l1 norm per row, in any pattern
    per_row = float(noise.radius(p_a, p_b, n_poisoned=2))
    pairs = rng.dirichlet(np.full(d, 0.5), (500, 2))
    assert all(overlap(per_row * u, width) >= need for u in pairs)
    assert overlap((per_row + 1e-9) * np.stack([corner, corner]), width) < need


def test_tight_for_an_interval():
    # One entry, top class inside the shifted cube's overlap but for its tail: with the shift it
    # loses all outside the overlap and its rival gains it.
    width, tail_a, p_b = 1.0, 0.15, 0.05
    radius = float(UniformNoise(width).radius(1 - tail_a, p_b, tail_a=tail_a))
    # clean noise on [0, 1], shifted on [e, 1 + e]. Top class: [0, 1 - tail_a]; rival: the last p_b
    # of [0, 1] and all beyond 1.
    for e, holds in ((radius, True), (radius + 1e-9, False)):
        assert ((1 - tail_a - e) > (p_b + e)) == holds


def test_draw_is_uniform():
    # Kolmogorov-Smirnov at a false-alarm rate of 1e-6, whatever the seed
    X = np.full(20_000, 3.0)
    noise = UniformNoise(5.0).draw(X, np.random.default_rng(0)) - X
    assert stats.kstest(noise / 5.0 + 0.5, "uniform").pvalue > 1e-6
    assert noise.std() == pytest.approx(5.0 / np.sqrt(12), rel=0.02)


def test_scales_with_width_and_handles_deep_tails():
    p_a = np.linspace(0.51, 0.9999, 20)
    np.testing.assert_allclose(
        UniformNoise(3.7).radius(p_a), 3.7 * UniformNoise(1.0).radius(p_a), rtol=1e-13
    )
    assert 0.5 - 1e-14 < float(UniformNoise(1.0).radius_from_log(-1e5)) < 0.5


def test_odd_parameters():
    for bad in (0.0, -1.0, np.nan, np.inf, "1", True, 10**400):
        with pytest.raises(ValueError, match="width must be a finite float above 0"):
            UniformNoise(bad)
    noise = UniformNoise(1.0)
    with pytest.raises(ValueError, match="norm must be 'l1' or 'linf'. Got 'l2' instead"):
        noise.radius(0.9, norm="l2")
    with pytest.raises(ValueError, match="n_coordinates goes with norm='linf'"):
        noise.radius(0.9, n_coordinates=3)
    with pytest.raises(ValueError, match="needs n_coordinates"):
        noise.radius(0.9, norm="linf")
    with pytest.raises(ValueError, match="and no n_poisoned"):
        noise.radius(0.9, norm="linf", n_coordinates=3, n_poisoned=2)
    with pytest.raises(ValueError, match="n_coordinates must be an integer of at least 1 and at"):
        noise.radius(0.9, norm="linf", n_coordinates=2**53 + 1)


@pytest.mark.parametrize("n_factors", [1, 3])
def test_strictly_below_the_theorem_at_the_smallest_widths(n_factors):
    # a product of denormal numbers rounds by up to half of the smallest one, here a large share
    p_a = np.linspace(0.55, 0.999, 30)
    for width in 5e-324 * np.arange(1, 12):
        radii = UniformNoise(width).radius(p_a, n_poisoned=n_factors)
        for p, radius in zip(p_a, radii, strict=True):
            tail = 1 - mp.mpf(float(p))
            exact = exact_radius(float(width), tail, tail, n_factors)
            assert 0 < exact - mp.mpf(float(radius)) < 2 * mp.mpf(5e-324)


def test_trade_off_of_changes_beyond_the_largest_float():
    assert UniformNoise(1e-10).trade_off([0.0, 0.5, 1.0], 1e308).tolist() == [0.0, 0.0, 0.0]
