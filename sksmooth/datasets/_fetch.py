# SPDX-License-Identifier: BSD-3-Clause
"""Where data come from (a local folder or OpenML), and proof that they are the right ones.

Two sources give the same arrays only if nothing depends on how a source stores them. A table of
numbers is therefore brought into one order, that of its rows compared entry by entry, and what is
hashed are the sorted float64 values themselves, not the bytes of a file.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import fetch_openml, get_data_home

from ..exceptions import DatasetError

DATA_VARIABLE = "SKSMOOTH_DATA"


def local_folder(folder: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder with local data: `folder`, else ``$SKSMOOTH_DATA``, else None."""
    if folder is None:
        # An empty variable counts as unset, as an empty PATH entry would mean the current folder.
        folder = os.environ.get(DATA_VARIABLE) or None
    return None if folder is None else Path(folder).expanduser()


def existing_file(folder: Path, *parts: str) -> Path:
    """Return the path of a data file, or raise an error that names it."""
    path = folder.joinpath(*parts)
    if not path.is_file():
        raise DatasetError(
            f"no file {str(path)!r}: the local data folder must hold {'/'.join(parts)!r}. It is "
            f"{str(folder)!r}, given as folder= or in the environment variable {DATA_VARIABLE}; "
            "with neither of them the data come from OpenML."
        )
    return path


def openml_arrays(
    data_id: int, *, name: str, data_home: str | os.PathLike[str] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return an OpenML data set as features and labels.

    Parameters
    ----------
    data_id : int
        OpenML's number for this version of the data set.
    name : str
        Name for the error message.
    data_home : str, path-like or None
        scikit-learn's cache folder.

    Returns
    -------
    data : ndarray of shape (n_samples, n_features)
        The features, in OpenML's order of rows and columns.
    target : ndarray of shape (n_samples,)
        The labels.

    Raises
    ------
    DatasetError
        If there is no usable answer, whatever the reason; that is its cause.
    """
    try:
        # This parser needs no pandas, reads each number as `float` does (the digest depends on the
        # last bit) and gives a class label as the str that is written in the file.
        answer = fetch_openml(
            data_id=data_id, data_home=data_home, as_frame=False, parser="liac-arff"
        )
        labels = np.asarray(answer.target).astype(np.float64)
        return np.asarray(answer.data, dtype=np.float64), labels
    # Any exception: no network, a server's error page, a broken cache and an unexpected format
    # arrive as URLError, TimeoutError, JSONDecodeError, KeyError, ARFF errors and more. To the
    # caller they are one thing, with one way out.
    except Exception as error:
        raise DatasetError(
            f"{name} (data_id={data_id}) could not be fetched from OpenML "
            f"({type(error).__name__}: {error}). Without network access, give a folder that holds "
            f"a copy, as folder= or in the environment variable {DATA_VARIABLE}."
        ) from error


def openml_remedy(data_home: str | os.PathLike[str] | None) -> str:
    """Return what to do about a wrong copy from OpenML, for an error message."""
    return (
        f"Delete the cached copy under {str(Path(get_data_home(data_home)) / 'openml')!r} "
        "and try again, or give a folder that holds the data, as folder= or in the "
        f"environment variable {DATA_VARIABLE}."
    )


def canonical(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows in ascending order: by the first column, ties by the second, and so on.

    Rows that tie in every column are equal, so that the result depends on no order of the source.
    Negative zeros become zeros first: they compare equal and have other bytes.
    """
    table = np.asarray(table, dtype=np.float64) + 0.0
    # `lexsort` takes its most important key last.
    return np.ascontiguousarray(table[np.lexsort(table.T[::-1])])


def sha256(table: NDArray[np.float64]) -> str:
    """Return the SHA-256 of the values as little-endian float64 numbers, row after row."""
    return hashlib.sha256(np.ascontiguousarray(table, dtype="<f8").tobytes()).hexdigest()


def checked(
    table: NDArray[np.float64],
    *,
    name: str,
    origin: str,
    remedy: str,
    shape: tuple[int, int],
    digest: str,
) -> NDArray[np.float64]:
    """Return the table in canonical order, after a check that it is the expected one.

    Parameters
    ----------
    table : ndarray of shape (n_samples, n_features + 1)
        The values from a source, rows in any order.
    name, origin, remedy : str
        What it is, where it came from and what to do if it is another, for the error message.
    shape : tuple of int
        Expected shape.
    digest : str
        Expected `sha256` of the table in canonical order.

    Returns
    -------
    ndarray of shape `shape`
        The table in canonical order.

    Raises
    ------
    DatasetError
        If the shape or the digest is another.
    """
    if table.shape != shape:
        raise DatasetError(
            f"{name} from {origin} has shape {table.shape}, label column included; expected "
            f"{shape}. {remedy}"
        )
    table = canonical(table)
    found = sha256(table)
    if found != digest:
        raise DatasetError(
            f"{name} from {origin} is not the expected data: the SHA-256 of its sorted rows is "
            f"{found}, expected {digest}. {remedy}"
        )
    return table
