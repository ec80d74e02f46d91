# SPDX-License-Identifier: BSD-3-Clause
"""Features of which some columns are categorical: codes for the noise, values for the members."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from ._domains import (
    NAMED_CATEGORIES,
    Domain,
    code_dtype,
    codes_of,
    member_dtype,
    read_categories,
    refuse_value,
)
from ._features import FeatureReader, Features, is_frame


class ArrayDecoder:
    """Values of several columns, in one dtype, from their codes."""

    def __init__(self, domains: tuple[Domain, ...], dtype: np.dtype[Any]):
        self.dtype = dtype
        self.shared = len({id(d) for d in domains}) <= 1
        tables = domains[:1] if self.shared else domains
        self.table = np.concatenate([np.empty(0, dtype), *(d.astype(dtype) for d in tables)])
        # where each column's values begin in the table
        self.offsets = np.cumsum([0, *(d.size for d in tables[:-1])])

    def dtypes(self) -> list[Any]:
        """Return what tells the dtype, for a digest."""
        return [str(self.dtype)]

    def __call__(self, codes: np.ndarray, which: Any = slice(None)) -> np.ndarray:
        """Return the values; `codes` has the columns `which`, on the last axis."""
        return self.table[codes if self.shared else codes + self.offsets[which]]


class FrameDecoder:
    """Columns of a DataFrame from codes, each in its own dtype.

    The tables of values are made anew where it is loaded: what pandas holds cannot be stored by
    skops.
    """

    def __init__(self, frame: Any, positions: np.ndarray, domains: tuple[Domain, ...]):
        self.names = [frame.columns[p] for p in positions]
        self.described = [_describe(frame.dtypes.iloc[p], d) for p, d in
                          zip(positions, domains, strict=True)]  # fmt: skip
        self.domains = domains
        self.all_columns = np.array_equal(positions, np.arange(frame.shape[1]))
        self._make_tables()

    def __getstate__(self) -> dict[str, Any]:
        made = ("tables", "at_once")
        return {name: value for name, value in vars(self).items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_tables()

    def _make_tables(self) -> None:
        self.tables = [
            _frame_table(name, described, domain)
            for name, described, domain in zip(
                self.names, self.described, self.domains, strict=True
            )
        ]
        # All columns numbers of one kind: they are decoded at once.
        self.at_once = None
        dtypes = {table.dtype for table in self.tables}
        if self.all_columns and len(dtypes) == 1:
            dtype = dtypes.pop()
            if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
                self.at_once = ArrayDecoder(self.domains, dtype)

    def dtypes(self) -> list[Any]:
        """Return what tells the dtypes, for a digest."""
        return self.described

    def column(self, codes: np.ndarray, j: int, index: Any) -> Any:
        """Return the Series of noisy column number `j`."""
        import pandas as pd

        table = self.tables[j]
        return pd.Series(table.take(codes), index=index, dtype=table.dtype)


def _describe(dtype: Any, domain: Domain) -> list[Any]:
    """Return what a column's dtype can be made from again, without an object of pandas."""
    import pandas as pd

    if isinstance(dtype, np.dtype):
        return ["numpy", member_dtype(dtype, (domain,)).str]
    if isinstance(dtype, pd.CategoricalDtype):
        return ["category", dtype.categories.tolist(), bool(dtype.ordered)]
    if isinstance(dtype, pd.StringDtype):
        return ["string", str(dtype), dtype.storage]
    return ["pandas", str(dtype)]


def _frame_table(name: Any, described: list[Any], domain: Domain) -> Any:
    """Return the values of a domain, by code, as an array of a column's dtype."""
    import pandas as pd

    values, kind = domain.tolist(), described[0]
    dtype: Any = described[1]
    if kind == "numpy":
        return domain.astype(np.dtype(dtype))
    if kind == "category":
        dtype = pd.CategoricalDtype(described[1], ordered=described[2])
        codes = dtype.categories.get_indexer(values)
        if np.all(codes >= 0):
            return pd.Categorical.from_codes(codes, dtype=dtype)
    else:
        try:
            table = pd.array(values, dtype=dtype)
            if list(table) == values:
                return table
        except (TypeError, ValueError):
            pass
    raise ValueError(
        f"Column {name!r} has the dtype {dtype!r}, which must hold each of its categories "
        f"{values}. Give the column a dtype that does."
    )


class CodedFeatures(Features):
    """Training or test features: codes of the columns with noise, and all the rest.

    Attributes
    ----------
    values : ndarray of an unsigned integer dtype, of shape (n_samples, n_noisy_columns)
        Codes. Their dtype holds the sum of two.
    rest : None, ndarray or DataFrame
        As in `Features`.
    decoder : ArrayDecoder or FrameDecoder
        How codes become what members see.
    """

    def __init__(self, values: np.ndarray, rest: Any, positions: np.ndarray, decoder: Any):
        super().__init__(values, rest, positions)
        self.decoder = decoder

    def with_values(self, values: np.ndarray) -> Any:
        """Return what a member sees, new in memory: the values of these codes, and the rest."""
        if not is_frame(self.rest):
            return super().with_values(self.decoder(values))
        if self.decoder.at_once is not None:
            return super().with_values(self.decoder.at_once(values))
        return self._with_series(self.rest, range(self.positions.size), values.T)

    def with_columns(self, clean: Any, which: np.ndarray, codes: np.ndarray) -> Any:
        """Return a copy of `clean` with other codes, of shape (columns, rows), in some columns."""
        if is_frame(clean):
            return self._with_series(clean, which, codes)
        X = clean.copy()
        X[:, self.positions[which]] = self.decoder(codes.T, which)
        return X

    def _with_series(self, frame: Any, which: Any, codes: np.ndarray) -> Any:
        X = frame.copy()
        for j, column in zip(which, codes, strict=True):
            X.isetitem(self.positions[j], self.decoder.column(column, j, X.index))
        return X

    def content(self) -> tuple[Any, ...]:
        """Return all that members are told, once, for a digest."""
        return (*super().content(), self.decoder.dtypes())

    def rows(self, rows: slice) -> CodedFeatures:
        """Return some of the rows."""
        some = super().rows(rows)
        return CodedFeatures(some.values, some.rest, self.positions, self.decoder)


class CodeReader(FeatureReader):
    """Columns that get noise hold values of their domains, read as codes.

    With ``categories=None`` no column does. `why` says, in the error for another value, what
    settles the domains.
    """

    def __init__(
        self, estimator: Any, X: Any, columns: Any, categories: Any, why: str = NAMED_CATEGORIES
    ):
        super().__init__(estimator, X, columns)
        if categories is None:
            self.positions, self.all_noisy = np.empty(0, dtype=np.intp), False
        self.why = why
        self.domains: tuple[Domain, ...] = ()
        if categories is not None:
            self.domains = read_categories(categories, self.positions.size)
        self.dtype = code_dtype(self.sizes)
        # How members see values is settled here, so that a test input's answer depends on its
        # values alone, and not on the dtype that they come in.
        self.decoder: Any = None
        if self.frame_columns is not None:
            self.decoder = FrameDecoder(X, self.positions, self.domains)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Domain sizes of the columns that get noise."""
        return tuple(d.size for d in self.domains)

    def settings(self) -> list[Any]:
        """Return the domains."""
        return [d.tolist() for d in self.domains]

    def _read_array(self, estimator: Any, X: Any, *, reset: bool) -> CodedFeatures:
        X = validate_data(estimator, X, reset=reset, dtype=None, order="C", ensure_all_finite=False)
        codes = self._codes(X)
        if self.frame_columns is not None:  # fitted on a DataFrame, all of whose columns get noise
            import pandas as pd

            frame = pd.DataFrame(X, columns=self.frame_columns)
            return CodedFeatures(codes, frame, self.positions, self.decoder)
        if self.decoder is None:  # in `fit`
            self.decoder = ArrayDecoder(self.domains, member_dtype(X.dtype, self.domains))
        whole = np.array_equal(self.positions, np.arange(X.shape[1]))
        rest = None if whole else X.astype(np.promote_types(X.dtype, self.decoder.dtype))
        return CodedFeatures(codes, rest, self.positions, self.decoder)

    def _read_frame(self, X: Any) -> CodedFeatures:
        codes = np.empty((X.shape[0], self.positions.size), dtype=self.dtype)
        for j, (position, domain) in enumerate(zip(self.positions, self.domains, strict=True)):
            values = X.iloc[:, position].to_numpy()
            codes[:, j] = self._column(values, domain, X.columns[position])
        return CodedFeatures(codes, X, self.positions, self.decoder)

    def _codes(self, X: np.ndarray) -> np.ndarray:
        if self.positions.size and len({id(d) for d in self.domains}) == 1:
            # all columns at once; where a value has no code, the loop below finds and names it
            values = X if self.all_noisy and np.all(np.diff(self.positions) == 1) else None
            values = X[:, self.positions] if values is None else values
            codes, bad = codes_of(values, self.domains[0])
            if not np.any(bad):
                return codes.astype(self.dtype)
        codes = np.empty((X.shape[0], self.positions.size), dtype=self.dtype)
        for j, (position, domain) in enumerate(zip(self.positions, self.domains, strict=True)):
            name = int(position) if self.frame_columns is None else self.frame_columns[position]
            codes[:, j] = self._column(X[:, position], domain, name)
        return codes

    def _column(self, values: np.ndarray, domain: Domain, name: Any) -> np.ndarray:
        codes, bad = codes_of(values, domain)
        if np.any(bad):
            row = int(np.argmax(bad))
            refuse_value(name, values[row], row, domain, self.why)
        return codes
