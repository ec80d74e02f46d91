# SPDX-License-Identifier: BSD-3-Clause
"""The values that categorical columns may hold: reading `categories`, and values as codes."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

# A domain is a sorted array of at least two different values; the code of a value is its position.
Domain = np.ndarray

_SHOWN = 12  # values of a domain that an error shows
_NUMBERS = "biuf"


def read_categories(categories: Any, n_columns: int) -> tuple[Domain, ...]:
    """Return the domain of each of `n_columns` columns; equal ones are one object.

    `categories` is a number K (the codes 0 to K - 1), a list of values for every column, or a list
    of one list for each.
    """
    if isinstance(categories, Integral):  # its range is declared by the estimator
        return (np.arange(int(categories)),) * n_columns
    if not hasattr(categories, "__len__") or isinstance(categories, (str, bytes, dict)):
        _refuse(categories, n_columns)
    nested = [hasattr(c, "__len__") and not isinstance(c, (str, bytes)) for c in categories]
    if not any(nested):
        return (_domain(categories, "categories"),) * n_columns
    if not all(nested) or len(nested) != n_columns:
        _refuse(categories, n_columns)
    known: dict[Any, Domain] = {}
    domains = []
    for j, values in enumerate(categories):
        domain = _domain(values, f"categories[{j}]")
        domains.append(known.setdefault((domain.dtype.kind, *domain.tolist()), domain))
    return tuple(domains)


def _refuse(categories: Any, n_columns: int) -> None:
    raise ValueError(
        "categories must be an integer of at least 2 (codes from 0), a list of the values of every "
        f"column that gets noise, or a list of one list of values for each of these {n_columns} "
        f"columns. Got {categories!r}."
    )


def _domain(values: Any, name: str) -> Domain:
    given = list(values)
    array = np.asarray(given)
    if array.dtype.kind in "US" and not all(isinstance(v, (str, bytes)) for v in given):
        array = np.asarray(given, dtype=object)  # numbers among strings, say: not to be sorted
    try:
        domain = np.unique(array)
        regular = array.ndim == 1 and bool(np.all(domain == domain))  # not for nan
    except TypeError:
        regular = False
    if not regular:
        raise ValueError(
            f"{name} must be a list of values of one kind that can be sorted, none of them missing."
            f" Got {values!r}."
        )
    if domain.size < 2 or domain.size < len(given):
        raise ValueError(f"{name} must hold at least 2 values, each once. Got {values!r}.")
    return domain


def code_dtype(sizes: tuple[int, ...]) -> np.dtype[Any]:
    """Return the smallest dtype that holds the sum of two codes of each domain."""
    return np.dtype(np.min_scalar_type(2 * max(sizes, default=2) - 1))


def codes_of(values: np.ndarray, domain: Domain) -> tuple[np.ndarray, np.ndarray]:
    """Return the code of each value, and where there is none (its code is then any)."""
    if _comparable(values.dtype, domain.dtype):
        codes = np.searchsorted(domain, values)
        codes[codes == domain.size] = 0
        return codes, np.asarray(domain[codes] != values)
    where = {value: code for code, value in enumerate(domain.tolist())}
    codes = np.array([_lookup(where, v) for v in values.reshape(-1).tolist()], dtype=np.intp)
    codes = codes.reshape(values.shape)
    return codes, codes < 0


def _comparable(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    numbers = one.kind in _NUMBERS and other.kind in _NUMBERS
    return numbers or (one.kind == other.kind and one.kind in "USMm")


def _lookup(where: dict[Any, int], value: Any) -> int:
    try:
        return where.get(value, -1)
    except TypeError:  # it has no hash, and equals no value of a domain
        return -1


NAMED_CATEGORIES = "All values that a column can have are named by the parameter categories."


def refuse_value(column: Any, value: Any, row: int, domain: Domain, why: str) -> None:
    """Raise the error for a value outside the domain of its column, and say why that is one."""
    allowed = ", ".join(map(repr, domain[:_SHOWN].tolist()))
    more = f", ... ({domain.size} values)" if domain.size > _SHOWN else ""
    value = value.item() if isinstance(value, np.generic) else value
    shown, intro = repr(value), ""
    if isinstance(value, (int, float)) and domain.dtype.kind in _NUMBERS:
        shown = "NaN" if value != value else shown
        if value < 0 <= domain[0]:
            intro = "Negative values in data. "  # scikit-learn's words
    raise ValueError(
        f"{intro}Column {column!r} must hold one of {allowed}{more}. Got {shown} in row {row}. "
        f"{why}"
    )


def member_dtype(dtype: np.dtype[Any], domains: tuple[Domain, ...]) -> np.dtype[Any]:
    """Return the dtype in which members see columns: `dtype` where it holds every category."""
    for domain in {id(d): d for d in domains}.values():
        if dtype.kind == "O":
            break
        if not _comparable(dtype, domain.dtype):
            return np.dtype(object)
        with np.errstate(invalid="ignore"):  # of a number that the dtype cannot hold
            exact = np.array_equal(domain.astype(dtype), domain)
        if not exact:
            dtype = np.promote_types(dtype, domain.dtype)
    return dtype
