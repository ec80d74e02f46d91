# SPDX-License-Identifier: BSD-3-Clause
"""Which columns get noise, and how members see the others: arrays and DataFrames alike."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from ..smoothing._grid import on_grid

# Finite numbers beyond it could leave the range of floats once noise is added.
_LARGEST = 1e300


def is_frame(X: Any) -> bool:
    """Tell whether X is a pandas DataFrame, without importing pandas."""
    return hasattr(X, "isetitem") and hasattr(X, "iloc")


class Sized:
    """Tells its size, by which Dask decides to send an argument to each worker once only."""

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + sum(_bytes(value) for value in vars(self).values())


def _bytes(value: Any) -> int:
    if is_frame(value):
        return int(value.memory_usage().sum())
    size = getattr(value, "nbytes", None)
    return sys.getsizeof(value) if size is None else int(size)


class Features(Sized):
    """Training or test features: float64 values of the columns with noise, and all the rest.

    Attributes
    ----------
    values : ndarray of float64 of shape (n_samples, n_noisy_columns)
        What gets noise, on the grid if there is one.
    rest : None, ndarray or DataFrame
        None where `values` is all that members see; otherwise the whole input, whose columns
        `positions` are replaced.
    """

    def __init__(self, values: np.ndarray, rest: Any, positions: np.ndarray):
        self.values, self.rest, self.positions = values, rest, positions

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return self.values.shape[0]

    def with_values(self, values: np.ndarray) -> Any:
        """Return what a member sees: `values` in the place of the columns with noise.

        Arrays are passed on as they are, so the caller may reuse their memory afterwards.
        """
        if self.rest is None:
            return values
        if not is_frame(self.rest):
            X = np.array(self.rest)  # no longer a memory map, if a worker was sent one
            X[:, self.positions] = values
            return X
        if np.array_equal(self.positions, np.arange(self.rest.shape[1])):
            return type(self.rest)(values, index=self.rest.index, columns=self.rest.columns)
        X = self.rest.copy()  # members may change other columns in place, too
        for j, position in enumerate(self.positions):
            X.isetitem(position, values[:, j])
        return X

    def content(self) -> tuple[Any, ...]:
        """Return all that members are told, once, for a digest."""
        if self.rest is None:
            return (self.values,)
        others = np.delete(np.arange(self.rest.shape[1]), self.positions)
        if is_frame(self.rest):
            return self.values, list(self.rest.columns), self.rest.iloc[:, others]
        return self.values, self.rest[:, others]

    def rows(self, rows: slice) -> Features:
        """Return some of the rows."""
        if self.rest is None:
            return Features(self.values[rows], None, self.positions)
        rest = self.rest.iloc[rows] if is_frame(self.rest) else self.rest[rows]
        return Features(self.values[rows], rest, self.positions)


class FeatureReader(ABC):
    """How inputs are read: settled in `fit`, applied again to every test input.

    A subclass says what the columns that get noise hold.
    """

    def __init__(self, estimator: Any, X: Any, columns: Any):
        # Names and number of features are recorded, and X is checked as far as all uses agree.
        if is_frame(X):
            validate_data(estimator, X, skip_check_array=True)
        else:
            validate_data(estimator, X, dtype=None, ensure_all_finite=False)
        # A list: a pandas Index could not be stored by skops.
        self.frame_columns = list(X.columns) if is_frame(X) else None
        n_features = estimator.n_features_in_
        names = getattr(estimator, "feature_names_in_", None)
        if columns is None:
            self.positions = np.arange(n_features)
        else:
            self.positions = column_positions(columns, n_features, names)
        self.all_noisy = self.positions.size == n_features

    def read(self, estimator: Any, X: Any, *, reset: bool = False) -> Any:
        """Check X and take it apart; with `reset`, X is that of `fit`."""
        if not is_frame(X) and (self.frame_columns is None or self.all_noisy):
            return self._read_array(estimator, X, reset=reset)
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        if not is_frame(X):
            raise ValueError(
                f"X must be a DataFrame as in fit: only {self.positions.size} of its "
                f"{estimator.n_features_in_} columns get noise. Got {type(X).__name__}."
            )
        if X.shape[0] == 0:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required."
            )
        if self.frame_columns is None:  # fitted on an array: members never saw names
            return self._read_array(estimator, X, reset=reset)
        return self._read_frame(X)

    @abstractmethod
    def settings(self) -> Any:
        """Return what else decides how values are read, for a digest."""

    @abstractmethod
    def _read_array(self, estimator: Any, X: Any, *, reset: bool) -> Any:
        """Check and read an array, or what is taken as one."""

    @abstractmethod
    def _read_frame(self, X: Any) -> Any:
        """Read a DataFrame whose columns are those of `fit`."""


class NumberReader(FeatureReader):
    """Columns that get noise hold numbers, read as float64."""

    def __init__(self, estimator: Any, X: Any, columns: Any, grid: float | None):
        self.grid = grid
        super().__init__(estimator, X, columns)

    def settings(self) -> str:
        """Return the grid."""
        return repr(self.grid)

    def _read_frame(self, X: Any) -> Features:
        values = np.empty((X.shape[0], self.positions.size))
        for j, position in enumerate(self.positions):
            values[:, j] = _column(X, position, all_noisy=self.all_noisy)
        return Features(self._checked(values), X, self.positions)

    def _read_array(self, estimator: Any, X: Any, *, reset: bool) -> Features:
        dtype = np.float64 if self.all_noisy else None
        X = validate_data(
            estimator, X, reset=reset, dtype=dtype, order="C", ensure_all_finite="allow-nan"
        )
        if self.frame_columns is not None:
            import pandas as pd

            frame = pd.DataFrame(X, columns=self.frame_columns)
            return Features(self._checked(X[:, self.positions]), frame, self.positions)
        if self.all_noisy:
            whole = np.array_equal(self.positions, np.arange(X.shape[1]))
            values = X if whole else X[:, self.positions]
            return Features(self._checked(values), None if whole else X, self.positions)
        try:
            values = check_array(
                X[:, self.positions],
                dtype=np.float64,
                ensure_all_finite="allow-nan",
            )
        except (TypeError, ValueError) as failure:
            raise ValueError(f"columns must name columns of numbers: {failure}") from failure
        rest = X if X.dtype.kind in "fO" else X.astype(np.float64)
        return Features(self._checked(values), rest, self.positions)

    def _checked(self, values: np.ndarray) -> np.ndarray:
        if np.any(np.abs(values) > _LARGEST):
            raise ValueError(
                "X must not contain infinity or values beyond 1e300 in a column that gets noise. "
                f"Got {float(np.nanmax(np.abs(values))):g}."
            )
        return values if self.grid is None else on_grid(values, self.grid)


def _column(X: Any, position: int, *, all_noisy: bool) -> np.ndarray:
    column = X.iloc[:, position]
    try:
        if getattr(column.dtype, "kind", "O") in "mM":
            raise TypeError("dates and times have no unit that noise could have")
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError) as failure:
        advice = " Name the numeric columns with the parameter columns." if all_noisy else ""
        raise ValueError(
            f"Column {X.columns[position]!r} gets noise and must hold numbers; it could not be "
            f"read as such: {failure}.{advice}"
        ) from failure


def column_positions(
    columns: Any, n_features: int, names: Any, parameter: str = "columns"
) -> np.ndarray:
    """Return the positions of `columns`: names, integers or a boolean mask."""
    if isinstance(columns, str) or np.ndim(columns) != 1 or len(columns) == 0:
        raise ValueError(
            f"{parameter} must be None or a non-empty list of names or positions, or a boolean "
            f"mask. Got {columns!r}."
        )
    given = list(columns)
    if all(isinstance(c, (bool, np.bool_)) for c in given):
        if len(given) != n_features or not any(given):
            raise ValueError(
                f"{parameter} as a mask must have {n_features} entries, one per feature, and name "
                f"at least one. Got {len(given)} entries, {sum(map(bool, given))} of them true."
            )
        return np.flatnonzero(given)
    if all(isinstance(c, str) for c in given):
        if names is None:
            raise ValueError(
                f"{parameter} can hold names only where X is a DataFrame with string column names. "
                f"Got {columns!r}."
            )
        where = {name: i for i, name in enumerate(names)}
        unknown = [c for c in given if c not in where]
        if unknown:
            raise ValueError(f"{parameter} must be among those of X, {list(names)}. Got {unknown}.")
        positions = [where[c] for c in given]
    elif all(isinstance(c, (int, np.integer)) for c in given):
        unknown = [int(c) for c in given if not -n_features <= c < n_features]
        if unknown:
            raise ValueError(
                f"{parameter} must be positions from {-n_features} to {n_features - 1}: X has "
                f"{n_features} features. Got {unknown}."
            )
        positions = [int(c) % n_features for c in given]
    else:
        raise ValueError(
            f"{parameter} must be names, positions or a mask, not a mixture. Got {columns!r}."
        )
    if len(set(positions)) < len(positions):
        raise ValueError(f"{parameter} must name each column once. Got {columns!r}.")
    return np.asarray(positions)
