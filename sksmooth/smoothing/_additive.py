# SPDX-License-Identifier: BSD-3-Clause
"""Additive noise as estimators take it: checked, with one scale per column, on a grid or not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sksmooth.smoothing._gaussian import GaussianNoise
from sksmooth.smoothing._grid import (
    check_grid_fits,
    checked_grid,
    l1_grid_charge,
    l2_grid_charge,
    on_grid,
)
from sksmooth.smoothing._rounding import FloatArray
from sksmooth.smoothing._uniform import UniformNoise


@dataclass(frozen=True)
class Additive:
    """Additive noise on some columns, on a grid or not.

    `law` is the noise of the theorem. Its draws are multiplied by `scale`: one standard deviation
    per column where the law is that of values in units of sigma.
    """

    law: Any
    scale: FloatArray | None = None
    grid: float | None = None

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
        """Return noise alone."""
        noise: FloatArray = self.law.draw(np.zeros(shape), rng)
        if self.scale is not None:
            noise *= self.scale
        if self.grid is not None:
            noise = on_grid(noise, self.grid, "the noise")
        return noise

    @property
    def sigmas(self) -> FloatArray | None:
        """The standard deviations where there is one per column: radii are in their units."""
        sigma = self.scale if self.scale is not None else getattr(self.law, "sigma", 1.0)
        return np.asarray(sigma, dtype=np.float64) if np.ndim(sigma) else None

    def grid_charge(self, n_rows: int, n_columns: int) -> float:
        """Return an upper bound on what rounding to the grid adds to a change of some rows."""
        if self.grid is None:
            return 0.0
        weights = np.ones(n_columns) if self.sigmas is None else 1.0 / self.sigmas
        charge = l1_grid_charge if isinstance(self.law, UniformNoise) else l2_grid_charge
        return charge(self.grid, n_rows, weights)


def check_order_of_sigma(est: Any, positions: Any = None) -> None:
    """Raise ValueError where `sigma` has an index of names that are not those of the columns.

    Values are taken by position, and somebody who names them expects that names count. `positions`
    are those of the columns that get noise; None stands for all.
    """
    names, index = getattr(est, "feature_names_in_", None), getattr(est.sigma, "index", None)
    if names is None or index is None or callable(index):  # list.index is a method
        return
    given, wanted = list(index), (names if positions is None else names[positions]).tolist()
    if all(isinstance(name, str) for name in given) and given != wanted:
        raise ValueError(
            f"sigma must have the index {wanted!r}, the columns that get noise in their order. Got "
            f"a {type(est.sigma).__name__} with the index {given!r}."
        )


def additive_parts(
    noise: str, sigma: Any, grid: Any, n_columns: int
) -> tuple[GaussianNoise | UniformNoise, FloatArray | None, float | None]:
    """Check an estimator's `noise`, `sigma` and `grid`; return the parts of an `Additive`."""
    try:
        sigmas = np.asarray(sigma, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as failure:
        raise ValueError(
            f"sigma must be a number or a list of numbers in the range of floats. Got {sigma!r}."
        ) from failure
    if sigmas.ndim and sigmas.shape != (n_columns,):
        raise ValueError(
            f"sigma must be a number or of shape ({n_columns},), one value per column that gets "
            f"noise. Got shape {sigmas.shape}."
        )
    # 1e-100..1e100: its inverse and the squares of scaled features stay finite numbers.
    if not np.all((sigmas >= 1e-100) & (sigmas <= 1e100)):
        raise ValueError(
            f"sigma must be positive and finite (from 1e-100 to 1e100). Got {sigma!r}."
        )
    step = None if grid is None else checked_grid(grid)
    if step is not None:
        check_grid_fits(step, sigmas)
    if noise == "uniform":
        # The law of columns in units of sigma has the deviation 1.
        deviation = float(sigmas) if sigmas.ndim == 0 else 1.0
        scale = None if sigmas.ndim == 0 else sigmas
        return UniformNoise(math.sqrt(12.0) * deviation), scale, step
    value: Any = float(sigmas) if sigmas.ndim == 0 else tuple(sigmas.tolist())
    return GaussianNoise(value), None, step
