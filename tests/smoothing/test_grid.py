# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from sksmooth.smoothing._grid import (
    check_grid_fits,
    checked_grid,
    l1_grid_charge,
    l2_grid_charge,
    on_grid,
)


@pytest.mark.parametrize("grid", [0.0, -0.5, 0.3, 3.0, np.nan, np.inf, True, "0.5", 2.0**1000])
def test_only_powers_of_two(grid):
    with pytest.raises(ValueError, match="grid must be a power of two"):
        checked_grid(grid)
    assert checked_grid(0.25) == 0.25 and checked_grid(4) == 4.0


def test_sums_on_the_grid_are_exact():
    grid = 2.0**-30
    rng = np.random.default_rng(0)
    values = on_grid(rng.uniform(-(2.0**20), 2.0**20, 2000), grid)
    noise = on_grid(rng.standard_normal(2000) * 2.0**14, grid)
    for v, z in zip(values, noise, strict=True):
        assert Fraction(v + z) == Fraction(v) + Fraction(z)
        assert (Fraction(v) / Fraction(grid)).denominator == 1


def test_a_grid_too_fine_for_exact_sums_is_refused():
    with pytest.raises(ValueError, match="largest value of X"):
        on_grid([1.0, 2.0**21], 2.0**-30)
    with pytest.raises(ValueError, match="sigma"):
        check_grid_fits(2.0**-50, [1.0, 2.0])
    check_grid_fits(2.0**-44, [1.0, 2.0])


def test_rounding_moves_two_values_apart_by_no_more_than_the_charge():
    """In exact arithmetic, also where it is met: half a step up on one side, down on the other."""
    grid = 0.25
    rng = np.random.default_rng(0)
    for trial in range(300):
        shape = (int(rng.integers(1, 6)), 3)
        sigma = 2.0 ** rng.integers(-3, 4, 3)
        X = rng.uniform(-2, 2, shape)
        other = X + rng.choice([0.0, 1e-3, 0.3], shape) * rng.standard_normal(shape)
        if trial % 3 == 0:
            X, other = np.full(shape, 0.375 - 2**-53), np.full(shape, 0.375 + 2**-52)
        before = (other - X) / sigma
        after = (on_grid(other, grid) - on_grid(X, grid)) / sigma
        l2 = l2_grid_charge(grid, shape[0], 1.0 / sigma)
        l1 = l1_grid_charge(grid, shape[0], 1.0 / sigma)
        assert np.linalg.norm(after) <= np.linalg.norm(before) + l2
        assert np.abs(after).sum() <= np.abs(before).sum() + l1
        exact = sum(Fraction(1.0 / s) ** 2 for s in sigma) * shape[0] * Fraction(grid) ** 2
        assert exact < Fraction(l2) ** 2 < exact * (1 + Fraction(1, 10**9))
        exact = sum(Fraction(1.0 / s) for s in sigma) * shape[0] * Fraction(grid)
        assert exact < Fraction(l1) < exact * (1 + Fraction(1, 10**9))
