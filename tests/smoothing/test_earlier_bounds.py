# SPDX-License-Identifier: BSD-3-Clause
"""The bounds of Lecuyer and Li: their formulas once more, and Figure 5 of Cohen et al."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sksmooth.smoothing import GaussianNoise
from sksmooth.smoothing._earlier_bounds import lecuyer_radius, li_radius


def lecuyer(p_a, p_b, epsilon):
    delta = (p_a - mpmath.e ** (2 * epsilon) * p_b) / (1 + mpmath.e**epsilon)
    return epsilon / mpmath.sqrt(2 * mpmath.log(mpmath.mpf("1.25") / delta)) if delta > 0 else 0


def li(p_a, p_b, alpha):
    mean = ((p_a ** (1 - alpha) + p_b ** (1 - alpha)) / 2) ** (1 / (1 - alpha))
    inside = 1 - p_a - p_b + 2 * mean
    return mpmath.sqrt(max(0, -2 / alpha * mpmath.log(inside)))


@pytest.mark.parametrize(("p_a", "p_b"), [(0.6, 0.4), (0.9, 0.1), (0.99, 0.001), (0.5, 0.2)])
@pytest.mark.parametrize("sigma", [0.25, 2.0])
def test_radii_are_the_best_of_the_formulas_in_mpmath(p_a, p_b, sigma):
    with mpmath.workdps(30):
        a, b = mpmath.mpf(p_a), mpmath.mpf(p_b)
        first = max(lecuyer(a, b, mpmath.mpf(k) / 1000) for k in range(1, 1001))
        second = max(li(a, b, 1 + mpmath.mpf(10) ** (k / 50)) for k in range(-150, 151))
    for radius, best in (
        (lecuyer_radius(p_a, p_b, sigma=sigma), sigma * first),
        (li_radius(p_a, p_b, sigma=sigma), sigma * second),
    ):
        # Both grids are coarser than the best; a thousand points miss at most this much.
        assert float(best) * 0.998 < float(radius) < float(best) * 1.002


def test_figure_5():
    """Everywhere Lecuyer < Li < Cohen, all of them rising."""
    p_a = np.linspace(0.51, 0.999, 60)
    radii = np.stack(
        [lecuyer_radius(p_a, sigma=1.0), li_radius(p_a, sigma=1.0), GaussianNoise(1.0).radius(p_a)]
    )
    assert np.all(np.diff(radii, axis=0) > 0.0) and np.all(np.diff(radii, axis=1) > 0.0)
    p_b = (1.0 - p_a) / 3.0
    assert np.all(li_radius(p_a, p_b, sigma=1.0) < GaussianNoise(1.0).radius(p_a, p_b))
    assert np.all(lecuyer_radius(p_a, p_b, sigma=1.0) < li_radius(p_a, p_b, sigma=1.0))


def test_abstention_and_ends():
    for radius in (lecuyer_radius, li_radius):
        assert_array_equal(radius([0.5, 0.3, 0.0], [0.5, 0.4, 1.0], sigma=1.0), [-1.0, -1.0, -1.0])
        ends = radius([1.0, 0.50001], sigma=1.0)
        assert np.all((ends >= 0.0) & (ends < 10.0)) and ends[1] < 1e-3
        assert radius(0.9, sigma=1.0).shape == ()
