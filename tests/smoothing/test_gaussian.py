# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sksmooth.smoothing import GaussianNoise

from ._oracles import mp, ndtr
from .test_rounding import NEAR_HALF, isf


def exact_radius(sigma, log_tail_a, log_p_b):
    quantiles = [isf(x, float(np.sqrt(-2 * x)) if x < -5 else 0.0) for x in (log_tail_a, log_p_b)]
    return mp.mpf(sigma) / 2 * (quantiles[0] + quantiles[1])


@settings(max_examples=150, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(-1e5, -0.05), st.floats(-1e5, -0.05))
def test_strictly_below_the_theorem_and_close(sigma, log_a, log_b):
    log_b = min(log_a, log_b)
    radius = float(GaussianNoise(sigma).radius_from_log(log_a, log_b))
    exact = exact_radius(sigma, log_a, log_b)
    scale = mp.mpf(sigma) * max(abs(exact) / sigma, 1)
    if radius == -1:
        assert exact < 1e-13 * scale
    else:
        # closed ball: the theorem needs a norm strictly below R
        assert 0 < exact - mp.mpf(radius) < 1e-13 * scale


@pytest.mark.parametrize("p_a", [0.5 + 2**-40, 0.6, 0.9, 0.999, 1 - 2**-40])
def test_tight_for_a_half_space(p_a):
    # The vote of 1[x <= c] at distance r towards the other side is Phi(c/sigma - r/sigma).
    sigma = 0.8
    radius = float(GaussianNoise(sigma).radius(p_a))
    c = mp.sqrt(2) * mp.erfinv(2 * mp.mpf(p_a) - 1)
    assert ndtr(c - mp.mpf(radius) / sigma) > 0.5
    assert ndtr(c - mp.mpf(radius + 1e-13) / sigma) < 0.5


@pytest.mark.parametrize(("p_a", "p_b"), [(0.9, 0.02), (0.4, 0.3), (0.2, 1e-9), (0.999, 1e-4)])
def test_tight_for_two_half_spaces(p_a, p_b):
    # Top class where x <= c, one rival where x >= d, a third between: shifted, the vote of the
    # first falls and that of the second rises as fast as any base classifier allows.
    sigma = 1.3
    radius = float(GaussianNoise(sigma).radius(p_a, p_b))
    c, d = (mp.sqrt(2) * mp.erfinv(2 * mp.mpf(p) - 1) for p in (p_a, 1 - mp.mpf(p_b)))

    def votes(r):
        return ndtr(c - mp.mpf(r) / sigma), ndtr(mp.mpf(r) / sigma - d)

    assert votes(radius)[0] > votes(radius)[1]
    assert votes(radius + 1e-12)[0] < votes(radius + 1e-12)[1]


def test_reference_values():
    # R = sigma (isf(tail)), quantiles of a printed table to ten digits
    radii = GaussianNoise(2.0).radius([0.975, 0.999, 0.9999])
    np.testing.assert_allclose(
        radii, [2 * 1.959963984540054, 2 * 3.090232306167813, 2 * 3.719016485455709], rtol=1e-12
    )


def test_p_a_that_rounds_to_one_keeps_a_finite_tail():
    noise = GaussianNoise(1.0)
    assert noise.radius(1.0) == pytest.approx(8.2095361516, abs=1e-9)  # isf(2**-53)
    assert noise.radius(1.0, tail_a=1e-300) == pytest.approx(37.0471, abs=1e-4)
    assert noise.radius(1.0, tail_a=1e-17) == pytest.approx(8.4937932, abs=1e-6)


@pytest.mark.parametrize("n_poisoned", [2, 3, 7, 10**6, 2**53])
def test_rows_at_the_radius_stay_strictly_below_the_total(n_poisoned):
    noise, log_tail = GaussianNoise(0.3), -12.5
    per_row = mp.mpf(float(noise.radius_from_log(log_tail, n_poisoned=n_poisoned)))
    exact = exact_radius(0.3, log_tail, log_tail)
    total = per_row * mp.sqrt(n_poisoned)
    assert 0 < exact - total < 1e-14


def test_scales_with_sigma_and_is_in_units_of_it():
    p_a = np.linspace(0.51, 0.9999, 20)
    one = GaussianNoise(1.0).radius(p_a)
    np.testing.assert_allclose(GaussianNoise(3.7).radius(p_a), 3.7 * one, rtol=1e-14)
    np.testing.assert_array_equal(GaussianNoise([0.1, 9.0]).radius(p_a), one)
    assert GaussianNoise(np.array([1, 2])).sigma == (1.0, 2.0)
    assert np.isfinite(GaussianNoise(1e308).radius(0.9999999))


@pytest.mark.parametrize("sigma", [2.5, (0.5, 2.0, 30.0)])
def test_draw_is_normal(sigma):
    # Kolmogorov-Smirnov at a false-alarm rate of 1e-6 for each column, whatever the seed
    X = np.tile([1.0, -2.0, 5.0], (20_000, 1))
    noise = (GaussianNoise(sigma).draw(X, np.random.default_rng(0)) - X) / np.asarray(sigma)
    for column in noise.T:
        assert stats.kstest(column, "norm").pvalue > 1e-6
    # columns and neighbouring rows are independent: |correlation| below 5 standard errors
    for a, b in [(noise[:, 0], noise[:, 1]), (noise[1:, 0], noise[:-1, 0])]:
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf, "1", True, None, 10**400])
def test_bad_sigma(bad):
    with pytest.raises(ValueError, match="sigma must be a finite float above 0. Got"):
        GaussianNoise(bad)
    with pytest.raises(ValueError, match=r"sigma\[1\] must be"):
        GaussianNoise([1.0, bad])


def test_bad_shapes():
    with pytest.raises(ValueError, match=r"Got shape \(1, 2\)"):
        GaussianNoise([[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"Got shape \(0,\)"):
        GaussianNoise([])
    with pytest.raises(ValueError, match=r"sigma has 2 values, one per feature. Got X of shape"):
        GaussianNoise([1.0, 2.0]).draw(np.zeros((2, 3)), np.random.default_rng(0))


def test_strictly_below_the_theorem_near_one_half():
    # Both quantiles are tiny, rounding is not: the confirmation by the survival function counts.
    noise = GaussianNoise(1.0)
    for log_a in NEAR_HALF[NEAR_HALF < np.log(0.5)]:
        radius = float(noise.radius_from_log(log_a))
        exact = exact_radius(1.0, log_a, log_a)
        assert radius == -1.0 or 0 < exact - mp.mpf(radius) < 1e-14, log_a
    log_b = NEAR_HALF[NEAR_HALF < -0.69]
    for b, radius in zip(log_b, noise.radius_from_log(-0.69, log_b), strict=True):
        assert radius == -1.0 or 0 < exact_radius(1.0, -0.69, b) - mp.mpf(float(radius)) < 1e-14, b


@pytest.mark.parametrize("p_b_share", [1e-3, 1e-5])
def test_tiny_p_a_with_a_tinier_p_b(p_b_share):
    # 1 - p_a rounds either way by up to 1e-4 of p_a; the certificate needs it rounded up
    p_a = np.concatenate([[1.04467e-12], np.logspace(-12, -11, 20)])
    p_b = np.concatenate([[3.8087e-16], p_b_share * p_a[1:]])
    radii = GaussianNoise(1.0).radius(p_a, p_b)
    for a, b, radius in zip(p_a, p_b, radii, strict=True):
        log_a, log_b = mp.log1p(-mp.mpf(float(a))), mp.log(mp.mpf(float(b)))
        exact = (isf(log_a, -7.0) + isf(log_b, 8.0)) / 2
        # down by one or two roundings of 1 - p_a: 2.2e-16 of 1e-12, divided by a hazard near 7
        assert radius > 0 and 0 < exact - mp.mpf(float(radius)) < 1e-4


def test_trade_off_of_changes_beyond_the_largest_float():
    # alpha = 0 never rejects: both noises see every value
    assert GaussianNoise(1e-10).trade_off([0.0, 1e-300, 0.5, 1.0], 1e308).tolist() == [1, 0, 0, 0]
