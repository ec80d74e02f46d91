# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from sksmooth.smoothing import CategoricalNoise, MixedCategoricalNoise

from ._oracles import all_outcomes, coordinate, trade_off


@pytest.mark.parametrize(("q", "small", "large"), [(0.3, 2, 3), (0.45, 2, 5), (0.1, 3, 4)])
def test_the_worst_split_is_all_in_the_largest_domain(q, small, large):
    alphas = [Fraction(k, 23) for k in range(1, 23)] + [Fraction(1, 10**4)]
    for r in (1, 2, 3):
        splits = [
            all_outcomes([coordinate(q, large)] * n + [coordinate(q, small)] * (r - n))
            for n in range(r + 1)
        ]
        for alpha in alphas:
            betas = [trade_off(split, alpha) for split in splits]
            assert betas == sorted(betas, reverse=True)  # more in the largest: more telling


@pytest.mark.parametrize("sizes", [(2, 5), (5, 2), ((2, 5, 3), 4), ((2, 2), 5)])
def test_radius_is_that_of_the_largest_domain(sizes):
    p_a, p_b = np.array([0.6, 0.9, 0.999, 1.0]), np.array([0.3, 0.01, 0.001, 0.2])
    mixed, alone = MixedCategoricalNoise(0.4, *sizes), CategoricalNoise(0.4, 5)
    for options in ({}, {"n_coordinates": 3}, {"bound": "kl"}):
        np.testing.assert_array_equal(
            mixed.radius(p_a, p_b, **options), alone.radius(p_a, p_b, **options)
        )


def test_without_noise_on_labels_their_domain_does_not_count():
    noise = MixedCategoricalNoise(0.6, (3, 5), None)  # with two labels, q could not be 0.6
    p_a = np.array([0.7, 0.9, 0.999])
    np.testing.assert_array_equal(noise.radius(p_a), CategoricalNoise(0.6, 5).radius(p_a))
    X = np.zeros((50, 2), dtype=int)
    noisy, none = noise.draw((X, None), np.random.default_rng(0))
    assert none is None and np.all(noisy.max(axis=0) == [2, 4])
    with pytest.raises(ValueError, match="with n_label_values=None labels get no noise"):
        noise.draw((X, X[:, 0]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="n_categories=3"):
        MixedCategoricalNoise(0.67, (3, 5), None)


def test_draw_uses_each_domain():
    noise = MixedCategoricalNoise(0.45, (2, 3, 6), 4)
    X, y = np.zeros((6000, 3), dtype=np.int8), np.zeros(6000, dtype=np.int64)
    noisy_X, noisy_y = noise.draw((X, y), np.random.default_rng(0))
    for column, n_values in zip([*noisy_X.T, noisy_y], (2, 3, 6, 4), strict=True):
        share = np.bincount(column, minlength=n_values) / 6000
        # 5 standard errors, each at most 1 / (2 sqrt(6000))
        expected = [0.55, *[0.45 / (n_values - 1)] * (n_values - 1)]
        np.testing.assert_allclose(share, expected, atol=5 * 0.5 / np.sqrt(6000))
    only_X, none = noise.draw((X, None), np.random.default_rng(0))
    np.testing.assert_array_equal(only_X, noisy_X)
    assert none is None


def test_odd_parameters():
    with pytest.raises(ValueError, match=r"q must be .*n_categories=2"):
        MixedCategoricalNoise(0.6, 10, 2)  # the smallest domain limits q
    with pytest.raises(ValueError, match=r"n_feature_values\[1\] must be an integer"):
        MixedCategoricalNoise(0.3, [2, 1], 2)
    with pytest.raises(ValueError, match="n_label_values must be an integer of at least 2"):
        MixedCategoricalNoise(0.3, 2, 1)
    noise = MixedCategoricalNoise(0.3, (2, 3), 2)
    with pytest.raises(ValueError, match="n_feature_values has 2 entries"):
        noise.draw((np.zeros((2, 3), dtype=int), [0, 1]), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"codes from 0 to 2. Got 3 at \(1, 1\)"):
        noise.draw(([[1, 2], [0, 3]], None), np.random.default_rng(0))
    for empty in ([], (), np.array([], dtype=int)):
        with pytest.raises(ValueError, match="n_feature_values must be an integer or a sequence"):
            MixedCategoricalNoise(0.3, empty, 2)
    with pytest.raises(ValueError, match=r"equal numbers of rows. Got shapes \(3, 2\) and \(2,\)"):
        noise.draw((np.zeros((3, 2), dtype=int), [0, 1]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="every code from 0 to 299. Got int8"):
        MixedCategoricalNoise(0.3, (2, 300), 2).draw(
            (np.zeros((3, 2), dtype=np.int8), None), np.random.default_rng(0)
        )


def test_features_and_labels_are_drawn_one_after_the_other_from_the_same_generator():
    noise = MixedCategoricalNoise(0.45, 2, 2)
    X = y = np.zeros(500, dtype=int)
    draws = [noise.draw((X, y), np.random.default_rng(seed)) for seed in (0, 1)]
    assert (draws[0][1] != draws[1][1]).any()
    one = np.random.default_rng(0)
    alone = CategoricalNoise(0.45)
    np.testing.assert_array_equal(draws[0][0], alone.draw(X, one))
    np.testing.assert_array_equal(draws[0][1], alone.draw(y, one))
    # independent: |correlation| below 5 standard errors
    assert abs(np.corrcoef(draws[0])[0, 1]) < 5 / np.sqrt(500)
