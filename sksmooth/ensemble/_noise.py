# SPDX-License-Identifier: BSD-3-Clause
"""How the features of one member get their noise: in training, and at the test inputs.

Each class here is one way to put noise on features. It is drawn anew for every member, for all
training rows; and as one vector that is the same for all test inputs, so that no row's answer
depends on another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ..smoothing._additive import Additive
from ..smoothing._categorical import draw_shifts
from ._coded import CodedFeatures, code_dtype
from ._features import Features


class FeatureNoise(Protocol):
    """What a member's features go through."""

    def noisy(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the training values as one member sees them."""

    def test_vector(self, n_columns: int, rng: np.random.Generator) -> np.ndarray:
        """Return what one member does to each test input, one entry per column."""

    def no_test_vector(self, n_columns: int) -> np.ndarray:
        """Return the vector that leaves test inputs as they are."""

    def shifting(self, features: Any) -> Callable[[np.ndarray], Any]:
        """Return a function from a member's test vector to the test inputs that it sees."""


class AdditiveNoise(Additive):
    """Additive noise: on training values anew, on test inputs as one vector."""

    def noisy(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a noisy copy of `values`, which are on the grid if there is one."""
        if self.scale is None and self.grid is None:
            return self.law.draw(values, rng)
        return values + self.draw(values.shape, rng)

    def test_vector(self, n_columns: int, rng: np.random.Generator) -> np.ndarray:
        """Return what is added to each test input."""
        return self.draw((n_columns,), rng)

    def no_test_vector(self, n_columns: int) -> np.ndarray:
        """Return zeros."""
        return np.zeros(n_columns)

    def shifting(self, features: Features) -> Callable[[np.ndarray], Any]:
        """Return a function that adds a vector to `features`, in one piece of memory."""
        shifted = np.empty_like(features.values)

        def inputs(vector: np.ndarray) -> Any:
            np.add(features.values, vector, out=shifted)
            return features.with_values(shifted)

        return inputs


@dataclass(frozen=True)
class CategoricalShifts:
    """Categorical noise: each code keeps its value with probability ``1 - q``, or is shifted.

    A shift is by 1 to K - 1 modulo the size K of the column's domain, each with probability
    ``q / (K - 1)``: any other value is equally likely. With ``in_training=False`` it is test inputs
    alone that get noise.
    """

    q: float
    sizes: tuple[int, ...]
    in_training: bool = True

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.asarray(self.sizes, dtype=np.int64)

    def noisy(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a noisy copy of the codes."""
        codes = values.copy()
        if self.in_training:
            where, shift = draw_shifts(codes.shape, self.q, self._sizes, rng)
            flat = codes.reshape(-1)
            flat[where] = (flat[where] + shift) % self._sizes[where % self._sizes.size]
        return codes

    def test_vector(self, n_columns: int, rng: np.random.Generator) -> np.ndarray:
        """Return the shift of each column, 0 where its values are kept."""
        vector = self.no_test_vector(n_columns)
        where, shift = draw_shifts((n_columns,), self.q, self._sizes, rng)
        vector[where] = shift
        return vector

    def no_test_vector(self, n_columns: int) -> np.ndarray:
        """Return zeros."""
        return np.zeros(n_columns, dtype=code_dtype(self.sizes))

    def shifting(self, features: CodedFeatures) -> Callable[[np.ndarray], Any]:
        """Return a function that shifts `features`; only columns that change cost something."""
        clean = features.with_values(features.values)
        codes = np.ascontiguousarray(features.values.T)  # a column is one block of memory
        all_sizes = self._sizes.astype(codes.dtype)[:, np.newaxis]

        def inputs(vector: np.ndarray) -> Any:
            (changed,) = np.nonzero(vector)
            sizes = all_sizes[changed]
            # codes have a dtype that holds the sum, see `code_dtype`
            shifted = codes[changed] + vector[changed, np.newaxis]
            shifted -= sizes * (shifted >= sizes)
            return features.with_columns(clean, changed, shifted)

        return inputs
