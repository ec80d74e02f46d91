# SPDX-License-Identifier: BSD-3-Clause
"""Noise on test inputs, in blocks that serve all rows: how each kind is drawn and applied.

Each class here is one kind of noise. A block holds so many draws; the noisy copies of a row are a
function of the row and of the block alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any, Protocol

import numpy as np

from ..ensemble._domains import codes_of, refuse_value
from ..smoothing import GaussianNoise
from ..smoothing._additive import Additive
from ..smoothing._categorical import draw_shifts

# Draws of the first two blocks, and of the largest: early stopping looks at the end of each. A
# block of this size makes a call of the base's `predict` long beside what calling it costs, and
# with 784 features still fits into a cache of 8 MB.
_FIRST_BLOCK, _LARGEST_BLOCK = 64, 1024

# What is said of a test input with other categories.
WITHIN_FIT = "Columns hold the values that they have in fit: certificates speak of these alone."

# The streams of one estimator, all children of its entropy.
TRAINING, LEARNER, SELECTION, ESTIMATION, GLOBAL, SCORING, PROBE = range(7)


def stream(entropy: np.ndarray, *key: int) -> np.random.SeedSequence:
    """Return the stream of this key; two different keys have independent ones."""
    return np.random.SeedSequence([int(w) for w in entropy], spawn_key=key)


def block_sizes(n_draws: int) -> Iterator[int]:
    """Yield the sizes of the blocks that make up so many draws.

    Block number k has the same stream and, but for the last, the same size for every `n_draws`,
    `batch_size` and `n_jobs`.
    """
    size, left, k = _FIRST_BLOCK, n_draws, 0
    while left > 0:
        yield min(size, left)
        left, k = left - size, k + 1
        if k > 1:
            size = min(2 * size, _LARGEST_BLOCK)


class Draws(Protocol):
    """What a row goes through; rows are as `training` and `noisy` take them."""

    def training(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return one noisy copy of each row, as the base sees it."""

    def block(self, n_draws: int, rng: np.random.Generator) -> np.ndarray:
        """Return the noise of so many draws, one per row of the block."""

    def noisy(self, row: np.ndarray, block: np.ndarray) -> np.ndarray:
        """Return the noisy copies of a row, as the base sees them."""


@dataclass(frozen=True)
class AdditiveDraws(Additive):
    """Additive noise on every feature; with a grid, rows are on it."""

    n_features: int = field(kw_only=True)

    @property
    def deviations(self) -> np.ndarray:
        """Standard deviations of the noise: one for each feature, or one for all."""
        law = self.law
        of_all = law.sigma if isinstance(law, GaussianNoise) else law.width / math.sqrt(12.0)
        return np.asarray(of_all if self.sigmas is None else self.sigmas)

    def training(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the rows, each with noise of its own."""
        return rows + self.block(len(rows), rng)

    def block(self, n_draws: int, rng: np.random.Generator) -> np.ndarray:
        """Return noise in float64."""
        return self.draw((n_draws, self.n_features), rng)

    def noisy(self, row: np.ndarray, block: np.ndarray) -> np.ndarray:
        """Return the row plus each of the draws."""
        return row + block


@dataclass(frozen=True)
class CategoricalDraws:
    """Categorical noise on codes; the base sees the values that they stand for.

    A code keeps its value with probability ``1 - q``, or is shifted by 1 to K - 1 modulo the size
    K of its column's domain: any other value is equally likely. Domains of one value have no noise.
    """

    q: float
    domains: tuple[np.ndarray, ...]

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.array([d.size for d in self.domains])

    @cached_property
    def _table(self) -> np.ndarray:
        return np.concatenate(self.domains)

    @cached_property
    def _offsets(self) -> np.ndarray:
        return np.cumsum([0, *self._sizes[:-1]])

    def training(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the rows, each with noise of its own."""
        return self.noisy(rows, self.block(len(rows), rng))

    def block(self, n_draws: int, rng: np.random.Generator) -> np.ndarray:
        """Return shifts, 0 where a value is kept."""
        (columns,) = np.nonzero(self._sizes > 1)
        where, shift = draw_shifts((n_draws, columns.size), self.q, self._sizes[columns], rng)
        shifts = np.zeros((n_draws, self._sizes.size), dtype=np.int64)
        shifts[where // columns.size, columns[where % columns.size]] = shift
        return shifts

    def noisy(self, row: np.ndarray, block: np.ndarray) -> np.ndarray:
        """Return the values of the shifted codes."""
        return self._table[(row + block) % self._sizes + self._offsets]


def table_of(X: Any) -> Any:
    """Return lists that mix numbers and strings as arrays of objects: NumPy makes all strings."""
    if hasattr(X, "dtype") or hasattr(X, "columns") or hasattr(X, "__array__"):
        return X
    array = np.asarray(X)
    return np.asarray(X, dtype=object) if array.dtype.kind in "US" else array


def domain_of(values: np.ndarray, name: Any, parameter: str) -> np.ndarray:
    """Return the values of a column of categories, sorted.

    `parameter` is what made it one.
    """
    if values.dtype.kind in "mMc":
        raise ValueError(
            f"{parameter} goes with columns of numbers, strings or objects: there are no "
            f"categories of dtype {values.dtype}, which column {name!r} has. Convert it to strings."
        )
    domain, regular = values, False
    with suppress(TypeError):  # values that are not sorted
        domain = np.unique(values)
        regular = not np.any(domain != domain)
    # True equals 1 and would be taken for it.
    if values.dtype.kind == "O" and len({_kind_of(value) for value in values}) > 1:
        regular = False
    if not regular:
        raise ValueError(
            f"{parameter} goes with columns of values of one kind that can be sorted, none of them "
            f"missing. Got column {name!r} with {sorted(set(map(repr, values.tolist())))[:10]}."
        )
    return domain


def _kind_of(value: Any) -> Any:
    if isinstance(value, (bool, np.bool_)):
        return bool
    for kind in (Real, str, bytes):
        if isinstance(value, kind):
            return kind
    return type(value)


def codes_within(X: np.ndarray, domains: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the position of each value in its column's domain."""
    codes = np.empty(X.shape, dtype=np.int64)
    for j, domain in enumerate(domains):
        codes[:, j], unknown = codes_of(X[:, j], domain)
        if np.any(unknown):
            row = int(np.argmax(unknown))
            refuse_value(j, X[row, j], row, domain, WITHIN_FIT)
    return codes
