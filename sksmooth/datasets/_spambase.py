# SPDX-License-Identifier: BSD-3-Clause
"""Spambase: 4,601 e-mails as word and character frequencies, spam or not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import validate_params

from ..exceptions import DatasetError
from ._bunch import make_bunch
from ._fetch import checked, existing_file, local_folder, openml_arrays, openml_remedy

_WORDS = (
    "make address all 3d our over remove internet order mail receive will people report "
    "addresses free business email you credit your font 000 money hp hpl george 650 lab labs "
    "telnet 857 data 415 85 technology 1999 parts pm direct cs meeting original project re edu "
    "table conference"
).split()
_FEATURE_NAMES = (
    *(f"word_freq_{word}" for word in _WORDS),
    *(f"char_freq_{char}" for char in ";([!$#"),
    *(f"capital_run_length_{kind}" for kind in ("average", "longest", "total")),
)
_LABEL = "spam"

_OPENML_ID = 44  # name "spambase", version 1
_SHAPE = (4601, 58)
# Of the values of the UCI file, rows sorted as `_fetch.canonical` does.
_SHA256 = "d68e267ef3454b1d7ceeb81e0410227822f49511476bb917e5c2b07ce11d5b47"

_DESCR = """\
Spambase (M. Hopkins, E. Reeber, G. Forman, J. Suermondt, Hewlett-Packard Labs, 1999; UCI Machine
Learning Repository, licence CC BY 4.0).

4601 e-mails, 1813 of them spam (target 1) and 2788 not (target 0); 57 features, none missing:

- 48 word_freq_WORD: percentage (0 to 100) of the words of the e-mail that equal WORD;
- 6 char_freq_CHAR: percentage of its characters that equal CHAR;
- capital_run_length_average, _longest, _total: mean, longest and summed length of the runs of
  capital letters.

391 rows repeat an earlier one, and 3 more do so with the other label. The rows are sorted by
their values, feature after feature: shuffle them before splitting.
"""


@validate_params(
    {
        "folder": [str, os.PathLike, None],
        "data_home": [str, os.PathLike, None],
        "return_X_y": ["boolean"],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def fetch_spambase(
    *,
    folder: str | os.PathLike[str] | None = None,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Bunch | tuple[Any, Any]:
    """Load Spambase from a local folder or from OpenML, with the same result.

    A local folder is `folder`, else the one named by the environment variable ``SKSMOOTH_DATA``;
    without either, the data come from OpenML (data_id 44) through
    :func:`sklearn.datasets.fetch_openml`, which caches them.

    Whatever the source, the values must have a SHA-256 that is stored here: that of the 4601 rows
    of 57 features and the label, sorted by their entries from left to right, as little-endian
    float64 numbers. The rows are returned in this sorted order, so both sources give the same
    arrays; it is not the order of the UCI file.

    Parameters
    ----------
    folder : str or path-like, default=None
        Folder that holds ``spambase/spambase.csv.gz`` (58 columns of numbers, comma separated,
        no header, label last) and ``spambase/columns.txt`` (the column names, one a line).
    data_home : str or path-like, default=None
        Cache folder for the copy from OpenML; by default scikit-learn's,
        ``~/scikit_learn_data``. Not used with a local folder.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return a DataFrame and a Series (this needs pandas).

    Returns
    -------
    dataset : Bunch
        With the attributes

        data : ndarray or DataFrame of shape (4601, 57), float64
            Percentages and lengths, of very different scales.
        target : ndarray or Series of shape (4601,), int64
            1 for spam, 0 for the others.
        frame : DataFrame of shape (4601, 58), or None
            With `as_frame`: `data` and the column ``"spam"``.
        feature_names : list of 57 str
            Column names of `data`.
        target_names : list of 2 str
            Names of the labels 0 and 1.
        DESCR : str
            Description and origin.

    (data, target) : tuple
        With `return_X_y`.

    Raises
    ------
    DatasetError
        If a local file is missing or cannot be read, OpenML cannot be reached, or the values are
        not the expected ones.
    MissingExtraError
        With `as_frame`, if pandas is not installed.

    Notes
    -----
    Downloads wait for as long as the socket default allows, which is for ever unless
    :func:`socket.setdefaulttimeout` was called.

    Examples
    --------
    >>> from sksmooth.datasets import fetch_spambase
    >>> X, y = fetch_spambase(return_X_y=True)  # doctest: +SKIP
    >>> X.shape, int(y.sum())  # doctest: +SKIP
    ((4601, 57), 1813)
    """
    place = local_folder(folder)
    if place is not None:
        path = existing_file(place, "spambase", "spambase.csv.gz")
        _check_names(existing_file(place, "spambase", "columns.txt"))
        table = _read_csv(path)
        origin, remedy = repr(str(path)), "Replace the file by an unchanged copy."
    else:
        table = np.column_stack(openml_arrays(_OPENML_ID, name="Spambase", data_home=data_home))
        origin, remedy = f"OpenML (data_id={_OPENML_ID})", openml_remedy(data_home)
    table = checked(
        table, name="Spambase", origin=origin, remedy=remedy, shape=_SHAPE, digest=_SHA256
    )
    return make_bunch(
        np.ascontiguousarray(table[:, :-1]),
        table[:, -1].astype(np.int64),
        feature_names=_FEATURE_NAMES,
        target_column=_LABEL,
        target_names=["not spam", "spam"],
        DESCR=_DESCR,
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def _read_csv(path: Path) -> NDArray[np.float64]:
    # A damaged file shows as OSError, EOFError, zlib.error or ValueError, by where it breaks.
    try:
        return np.loadtxt(path, delimiter=",", ndmin=2)
    except Exception as error:
        raise DatasetError(
            f"{str(path)!r} cannot be read ({type(error).__name__}: {error}). It should be 58 "
            "columns of numbers, comma separated, compressed by gzip; replace it by an unchanged "
            "copy."
        ) from error


def _check_names(path: Path) -> None:
    expected = [*_FEATURE_NAMES, _LABEL]
    found = path.read_text(encoding="utf-8", errors="replace").split()
    if found == expected:
        return
    first = next(
        (i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b),
        min(len(found), len(expected)),
    )
    raise DatasetError(
        f"{str(path)!r} does not hold the {len(expected)} column names of Spambase: got "
        f"{len(found)} names, and number {first + 1} is {found[first : first + 1]}, expected "
        f"{expected[first : first + 1]}."
    )
