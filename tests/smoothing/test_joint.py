# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

import numpy as np
import pytest

from sksmooth.smoothing import CategoricalNoise, GaussianNoise, JointNoise, _joint_lattice
from sksmooth.smoothing._flip_lattice import log_likelihood_step

from ._oracles import mp, ndtr, outcomes_by_type


class Exact:
    """The trade-off of the joint noise at 60 digits, by bisection on the threshold."""

    def __init__(self, q, n_categories, n_flips):
        self.parts = {}
        for p, q_mass in outcomes_by_type(q, n_categories, n_flips):
            # put equal likelihood ratios together
            total = self.parts.get(p / q_mass, (0, 0))
            self.parts[p / q_mass] = (total[0] + p, total[1] + q_mass)
        self.parts = [
            (mp.log(mp.mpf(x.numerator) / x.denominator),
             mp.mpf(p.numerator) / p.denominator,
             mp.mpf(q_mass.numerator) / q_mass.denominator)
            for x, (p, q_mass) in self.parts.items()
        ]  # fmt: skip

    def rejected(self, m, tail):
        """Return Q(L < tau) with P(L < tau) = tail."""
        m = mp.mpf(m)
        low, high = mp.mpf(-400), mp.mpf(400)
        for _ in range(110):
            tau = (low + high) / 2
            mass = sum(p * ndtr((tau - x) / m - m / 2) for x, p, _ in self.parts)
            low, high = (tau, high) if mass < tail else (low, tau)
        return sum(q * ndtr((tau - x) / m + m / 2) for x, _, q in self.parts)

    def certified(self, m, tail_a, p_b):
        return self.rejected(m, mp.mpf(tail_a)) + self.rejected(m, mp.mpf(p_b)) < 1


@pytest.mark.parametrize(
    ("q", "n_categories", "n_flips", "tail_a", "p_b"),
    [
        (0.3, 2, 1, 1e-3, 1e-3),
        (0.3, 2, 4, 1e-3, 1e-3),
        (0.3, 2, 12, 1e-3, 1e-3),
        (0.4, 3, 2, 0.1, 0.02),
        (0.4, 3, 3, 0.1, 0.02),
        (0.6, 10, 1, 0.3, 1e-9),
        (0.05, 2, 3, 1e-30, 1e-40),
    ],
)
def test_holds_at_the_radius_and_fails_just_beyond(q, n_categories, n_flips, tail_a, p_b):
    noise = JointNoise(1.0, q, n_categories)
    radius = float(noise.radius(1 - tail_a, p_b, tail_a=tail_a, n_flips=n_flips))
    exact = Exact(q, n_categories, n_flips)
    assert radius > 0
    assert exact.certified(radius, tail_a, p_b)
    assert not exact.certified(radius + 1e-11 * max(1, radius), tail_a, p_b)


def test_returns_the_end_of_the_bracket_that_is_confirmed():
    # The check that charges all errors must hold at the returned shift itself, not only nearby.
    log_a = -np.linspace(3.0, 40.0, 60)
    log_b = log_a - np.linspace(0.0, 5.0, 60)
    shifts = _joint_lattice.joint_shifts(log_a, log_b, 3, 0.3, 2)
    rows = shifts > 0
    assert rows.sum() > 40
    lattice = _joint_lattice._lattice_after(3, 0.3, 2)
    args = lattice, log_likelihood_step(0.3, 2), shifts[rows], log_a[rows], log_b[rows]
    assert (_joint_lattice._margin(*args) > 0).all()


def test_design_values():
    noise = JointNoise(1.0, 0.3)
    radii = noise.radius(0.999, n_flips=[0, 1, 2, 3, 4, 12, 16])
    expected = [3.0902, 2.9774, 2.8601, 2.7377, 2.6096, 1.1497, -1.0]
    np.testing.assert_allclose(radii, expected, atol=5.1e-5)
    radii = JointNoise(1.0, 0.4, 3).radius(0.9, 0.02, n_flips=range(5))
    expected = [1.66765, 1.36841, 0.97845, 0.22512, -1.0]
    np.testing.assert_allclose(radii, expected, atol=5.1e-6)


def test_without_flips_it_is_the_gaussian_radius():
    p_a, p_b = np.linspace(0.3, 1.0, 30), np.linspace(0.4, 1e-9, 30)
    joint, gaussian = JointNoise((0.5, 2.0), 0.2), GaussianNoise((0.5, 2.0))
    np.testing.assert_array_equal(joint.radius(p_a, p_b), gaussian.radius(p_a, p_b))
    # rare noise on labels: a flip is always seen, a radius of -1; near 1/2: never seen
    barely = JointNoise(1.0, np.nextafter(0.5, 0.0)).radius(0.99, n_flips=5)
    assert float(barely) == pytest.approx(float(GaussianNoise(1.0).radius(0.99)), rel=1e-10)
    assert JointNoise(1.0, 1e-9).radius(0.999, n_flips=1) == -1


def test_abstains_exactly_where_the_flips_alone_are_not_certified():
    p_a = np.linspace(0.5, 0.99999, 60)
    p_b = (1 - p_a) * np.linspace(1.0, 0.01, 60)
    flips = CategoricalNoise(0.3, 3).radius(p_a, p_b)
    n_flips = np.arange(1, 12)
    radii = JointNoise(1.0, 0.3, 3).radius(p_a, p_b, n_flips=n_flips)
    assert radii.shape == (60, 11)
    np.testing.assert_array_equal(radii >= 0, flips[:, None] >= n_flips)
    assert (np.diff(radii, axis=1) <= 0).all()  # more flips, less room


def test_scales_with_sigma_and_rows():
    p_a = np.array([0.6, 0.99, 0.9999])
    one = JointNoise(1.0, 0.3).radius(p_a, n_flips=2)
    np.testing.assert_allclose(
        JointNoise(2.5, 0.3).radius(p_a, n_flips=2), np.where(one > 0, 2.5 * one, one), rtol=1e-14
    )
    rows = JointNoise(1.0, 0.3).radius(p_a, n_flips=2, n_poisoned=9)
    np.testing.assert_allclose(rows, np.where(one > 0, one / 3, one), rtol=1e-14)
    assert (rows[one > 0] * 3 <= one[one > 0]).all()


@pytest.mark.parametrize(("q", "n_categories", "n_flips"), [(0.25, 2, 1), (0.4, 3, 2)])
def test_trade_off_is_exact(q, n_categories, n_flips):
    noise, exact = JointNoise(2.0, q, n_categories), Exact(q, n_categories, n_flips)
    for size in (0.1, 1.0, 3.0):
        for alpha in (1e-6, 0.05, 0.6):
            expected = float(1 - exact.rejected(size / 2.0, mp.mpf(alpha)))
            assert noise.trade_off(alpha, size, n_flips=n_flips) == pytest.approx(
                expected, abs=1e-12
            )


def test_tight_against_simulation_of_the_likelihood_ratio_test():
    # The vote of the worst base classifier, drawn: at the radius both sides are equal.
    rng = np.random.default_rng(1)
    q, r, tail, n_draws = 0.3, 2, 0.02, 400_000
    radius = float(JointNoise(1.0, q).radius(1 - tail, n_flips=r))
    t = np.log((1 - q) / q)

    def ratios(shift, flipped):  # log dP/dQ of draws around clean or changed data
        x = rng.standard_normal(n_draws) + shift
        seen_changed = rng.random((n_draws, r)) < (1 - q if flipped else q)
        return t * (r - 2 * seen_changed.sum(axis=1)) - radius * x + radius**2 / 2

    threshold = np.quantile(ratios(0.0, False), tail)
    vote = np.mean(ratios(radius, True) >= threshold)
    # quantile and share each vary by about sqrt(tail / n_draws) / tail * 1/2 and 1/(2 sqrt(n))
    assert vote == pytest.approx(0.5, abs=0.03)


def test_odd_parameters():
    with pytest.raises(ValueError, match="sigma must be"):
        JointNoise(0.0, 0.3)
    with pytest.raises(ValueError, match="q must be"):
        JointNoise(1.0, 0.5)
    with pytest.raises(ValueError, match="n_categories must be"):
        JointNoise(1.0, 0.3, 1)
    noise = JointNoise(1.0, 0.3)
    for bad in (-1, 0.5, [[1]], [0, -2], True):
        with pytest.raises(ValueError, match="n_flips must be"):
            noise.radius(0.9, n_flips=bad)
    with pytest.raises(ValueError, match="n_flips must be an integer of at least 0"):
        noise.trade_off(0.1, 1.0, n_flips=-1)
    # barely above the threshold: the bracket is tiny, the answer still sound
    assert noise.radius(0.5 + 2**-53, n_flips=1) == -1
    edge = float(np.exp(CategoricalNoise(0.3).required_log_tail(1)[1]))
    assert 0 <= float(noise.radius(0.5, tail_a=edge * (1 - 1e-13), n_flips=1)) < 1e-5


class StillFeatures(np.random.Generator):
    """A generator whose normal draws are always the same."""

    def standard_normal(self, size=None):
        return np.ones(size)


def test_label_noise_changes_with_the_generator_and_not_with_the_feature_noise():
    X, y = np.zeros((200, 3)), np.zeros(200, dtype=int)
    noise = JointNoise(2.0, 0.4, 3)
    one = np.random.default_rng(7)
    noisy_X, noisy_y = noise.draw((X, y), np.random.default_rng(7))
    np.testing.assert_array_equal(noisy_X, GaussianNoise(2.0).draw(X, one))
    np.testing.assert_array_equal(noisy_y, CategoricalNoise(0.4, 3).draw(y, one))
    # the same feature noise, other labels
    draws = [noise.draw((X, y), StillFeatures(np.random.PCG64(seed))) for seed in (0, 1)]
    np.testing.assert_array_equal(draws[0][0], draws[1][0])
    assert (draws[0][1] != draws[1][1]).any()


def test_rows_of_features_and_labels_must_match():
    noise = JointNoise(1.0, 0.3)
    with pytest.raises(ValueError, match=r"equal numbers of rows. Got shapes \(3, 2\) and \(2,\)"):
        noise.draw((np.zeros((3, 2)), [0, 1]), np.random.default_rng(0))


@pytest.mark.filterwarnings("error")
def test_extreme_sizes():
    noise, alpha = JointNoise(1.0, 0.3), [0.0, 1e-300, 0.1, 1.0]
    labels = CategoricalNoise(0.3).trade_off(alpha, 2)
    for size in (5e-324, 1e-300, 1e-9, 1.1e-8):
        # m / sqrt(2 pi) of the shift itself, and the roundings of standardised distances near 1/m
        np.testing.assert_allclose(noise.trade_off(alpha, size, n_flips=2), labels, atol=1e-6)
    for size in (99.0, 101.0, 1e300):
        assert noise.trade_off(alpha, size, n_flips=2).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert float(JointNoise(1e-300, 0.3).trade_off(0.1, 1e300, n_flips=1)) == 0.0
    assert np.isfinite(JointNoise(1e308, 0.3).radius_from_log(-1e4, n_flips=1))


def test_numbers_of_flips_are_capped():
    noise = JointNoise(1.0, 0.3)
    for bad in (100_001, 2**63, [1, 2**63], 10**400):
        with pytest.raises(ValueError, match="n_flips must be an integer from 0 to 100000"):
            noise.radius(0.99, n_flips=bad)
    with pytest.raises(ValueError, match="n_flips must be an integer of at least 0 and at most"):
        noise.trade_off(0.1, 1.0, n_flips=100_001)
    # rare noise on labels: the lattice stays short, the largest number is quick
    assert JointNoise(1.0, 1e-9).radius(0.99, n_flips=100_000) == -1
