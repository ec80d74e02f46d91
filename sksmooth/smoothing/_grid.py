# SPDX-License-Identifier: BSD-3-Clause
r"""Float-sound additive noise: values and noise on a common grid.

The theorems speak of real numbers, and ``x + z`` in floating point is not one: which float comes
out depends on the last bits of `x`, and a learner may read a change far below the noise from them.
On a grid it cannot. Values are rounded to multiples of the grid first; noise is drawn in float64
and rounded to multiples too; their sum is exact. For a value that is a multiple, the noisy value
equals the rounding of ``value + z``, a function of what the theorem speaks of.

The price: rounding may move two values apart by one more grid step, so a change of m entries grows
by at most ``grid * sqrt(m)`` in l2 and by ``grid * m`` in l1, which is charged.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sksmooth.smoothing._bounds import as_float
from sksmooth.smoothing._rounding import FloatArray, up

# Multiples up to 2**50, and noise up to 2**50 more, add up exactly in 53 bits.
_LARGEST_MULTIPLE = 2.0**50
# NumPy's float64 normal draws stay below 14 standard deviations in magnitude (the tail is that of
# a 53-bit uniform number, and its next step): 2**45 of them stay below the largest multiple.
_LARGEST_SIGMA = 2.0**45


def checked_grid(grid: Any) -> float:
    """Return `grid` as a float if it is a power of two from 2**-1000 to 2**900."""
    if not isinstance(grid, (bool, np.bool_)) and isinstance(grid, numbers.Real):
        value = as_float(grid)
        if 2.0**-1000 <= value <= 2.0**900 and math.frexp(value)[0] == 0.5:
            return value
    raise ValueError(
        f"grid must be a power of two, such as 2**-10, from 2**-1000 to 2**900. Got {grid!r} "
        "instead."
    )


def check_grid_fits(grid: float, sigma: ArrayLike) -> None:
    """Refuse a grid so fine that noise of this size would leave the range of exact sums."""
    largest = float(np.max(sigma))
    if not largest / grid <= _LARGEST_SIGMA:
        raise ValueError(
            f"grid must be at least sigma / 2**45. Got grid={grid!r} for sigma={largest!r}."
        )


def on_grid(values: ArrayLike, grid: float, name: str = "X") -> FloatArray:
    """Return the nearest multiples of `grid`; NaN stays.

    Scaling by a power of two is exact, so this is one rounding of a whole number.
    """
    multiples: FloatArray = np.rint(np.asarray(values, dtype=np.float64) / grid)
    if np.any(np.abs(multiples) > _LARGEST_MULTIPLE):
        largest = float(np.nanmax(np.abs(values)))
        raise ValueError(
            f"grid must be at least 2**-50 of the largest value of {name}. Got grid={grid!r} for "
            f"{largest!r}."
        )
    return multiples * grid


def l2_grid_charge(grid: float, n_rows: int, weights: ArrayLike) -> float:
    """Return an upper bound on what rounding adds to an l2 change of all entries of some rows.

    `weights` holds one over the unit of each feature: ones, or ``1 / sigma``.
    """
    total = math.fsum(float(w) ** 2 for w in np.ravel(weights)) * n_rows
    # A square, a sum, two products and a root: each off by at most one relative rounding.
    return float(up(grid * math.sqrt(total) * (1.0 + 2.0**-48)))


def l1_grid_charge(grid: float, n_rows: int, weights: ArrayLike) -> float:
    """Return an upper bound on what rounding adds to an l1 change of all entries of some rows."""
    total = math.fsum(float(w) for w in np.ravel(weights)) * n_rows
    return float(up(grid * total * (1.0 + 2.0**-48)))
