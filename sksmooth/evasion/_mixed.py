# SPDX-License-Identifier: BSD-3-Clause
"""Test inputs of numbers and categories: additive noise on the ones, shifts of the others.

A row is one vector of floats: first the numeric columns' values, then the discrete columns' codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..ensemble._coded import CodeReader
from ..ensemble._features import NumberReader, column_positions, is_frame
from ..smoothing._additive import Additive
from ..smoothing._categorical import draw_shifts
from ._draws import WITHIN_FIT, domain_of


class MixedReader:
    """How arrays and DataFrames are taken apart into rows, and put together again for the base."""

    def __init__(self, estimator: Any, X: Any, discrete: Any, grid: float | None):
        n_features = NumberReader(estimator, X, None, grid).positions.size
        names = getattr(estimator, "feature_names_in_", None)
        positions = np.sort(column_positions(discrete, n_features, names, parameter="discrete"))
        numeric = np.setdiff1d(np.arange(n_features), positions)
        if numeric.size == 0:
            raise ValueError(
                "discrete names all columns. With noise='categorical' it is not needed, and radii "
                "are the numbers of changed values."
            )
        domains = [_domain(X, int(p)) for p in positions]
        self.codes = CodeReader(estimator, X, positions.tolist(), domains, WITHIN_FIT)
        self.numbers = NumberReader(estimator, X, numeric.tolist(), grid)

    @property
    def domains(self) -> tuple[np.ndarray, ...]:
        """The values of each discrete column."""
        return self.codes.domains

    def rows(self, estimator: Any, X: Any, *, reset: bool) -> np.ndarray:
        """Return the rows of X; with `reset`, X is that of `fit`."""
        codes = self.codes.read(estimator, X, reset=reset).values
        values = self.numbers.read(estimator, X, reset=False).values
        if np.any(np.isnan(values)):
            raise ValueError("Input X contains NaN in a column that gets additive noise.")
        return np.concatenate([values, codes], axis=1)

    def inputs(self, values: np.ndarray, codes: np.ndarray) -> Any:
        """Return what the base sees, in the form and with the names of the training data."""
        n_columns = values.shape[1] + codes.shape[1]
        if self.codes.frame_columns is None:
            decoder = self.codes.decoder
            held = decoder.dtype.kind in "biuf" and all(map(_held_by_float64, self.domains))
            dtype = np.float64 if held else object
            X = np.empty((len(values), n_columns), dtype=dtype)
            X[:, self.numbers.positions] = values
            X[:, self.codes.positions] = decoder(codes)
            return X
        import pandas as pd

        columns: dict[int, Any] = dict(zip(self.numbers.positions.tolist(), values.T, strict=True))
        for j, position in enumerate(self.codes.positions.tolist()):
            columns[position] = self.codes.decoder.column(codes[:, j], j, None)
        frame = pd.DataFrame({position: columns[position] for position in range(n_columns)})
        frame.columns = self.codes.frame_columns
        return frame


def _held_by_float64(domain: np.ndarray) -> bool:
    """Tell whether the values of a column stay different ones as floats."""
    return len(set(domain.astype(np.float64).tolist())) == len(domain) and (
        domain.dtype.kind not in "iu" or bool(np.all(np.abs(domain.astype(object)) <= 2**53))
    )


def _domain(X: Any, position: int) -> list[Any]:
    """Return the values that a column has."""
    if is_frame(X):
        name, values = X.columns[position], X.iloc[:, position].to_numpy()
    else:
        name, values = position, np.asarray(X)[:, position]
    domain = domain_of(values, name, "discrete")
    if domain.size < 2:
        raise ValueError(
            f"discrete must name columns of at least 2 values. Got column {name!r} with "
            f"{domain.tolist()}."
        )
    kept: list[Any] = domain.tolist()
    return kept


@dataclass(frozen=True)
class MixedDraws(Additive):
    """Additive noise on numeric columns, and categorical noise on discrete ones."""

    q: float = field(kw_only=True)
    reader: MixedReader = field(kw_only=True)

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.array([d.size for d in self.reader.domains])

    @property
    def n_features(self) -> int:
        """Number of columns with additive noise."""
        return int(self.reader.numbers.positions.size)

    def training(self, rows: np.ndarray, rng: np.random.Generator) -> Any:
        """Return the rows, each with noise of its own."""
        return self.noisy(rows, self.block(len(rows), rng))

    def block(self, n_draws: int, rng: np.random.Generator) -> np.ndarray:
        """Return additive noise, then shifts, 0 where a value is kept."""
        noise = self.draw((n_draws, self.n_features), rng)
        shifts = np.zeros((n_draws, self._sizes.size))
        where, shift = draw_shifts(shifts.shape, self.q, self._sizes, rng)
        shifts.reshape(-1)[where] = shift
        return np.concatenate([noise, shifts], axis=1)

    def noisy(self, row: np.ndarray, block: np.ndarray) -> Any:
        """Return the noisy copies of a row, as the base sees them."""
        values = row + block
        codes = values[:, self.n_features :].astype(np.intp) % self._sizes
        return self.reader.inputs(values[:, : self.n_features], codes)
