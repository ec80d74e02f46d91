# SPDX-License-Identifier: BSD-3-Clause
"""MNIST: 70,000 handwritten digits, 28 x 28 pixels."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import validate_params

from ..exceptions import DatasetError
from ._fetch import existing_file, local_folder, openml_arrays, openml_remedy
from ._images import (
    IMAGE_PARAMETERS,
    Expected,
    Part,
    as_uint8,
    check_part,
    chosen_labels,
    image_bunch,
    part_names,
)

_SIZE = (28, 28)
_NAMES = [str(digit) for digit in range(10)]
_FEATURE_NAMES = [f"pixel_{row}_{column}" for row in range(28) for column in range(28)]

_OPENML_ID = 554  # name "mnist_784", version 1
_FILES = {"train": "train", "test": "t10k"}
# Of the contents of the four original files, their headers left out.
_EXPECTED = {
    "train": Expected(
        n_rows=60000,
        images="741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        labels="1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    ),
    "test": Expected(
        n_rows=10000,
        images="6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        labels="ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
}

_DESCR = """\
MNIST, handwritten digits (Y. LeCun, C. Cortes, C. Burges; derived from NIST Special Databases 1
and 3; licence commonly stated: CC BY-SA 3.0).

60000 training and 10000 test images of 28 x 28 pixels, from 0 (background) to 255, here divided by
255; the target is the digit. Images per digit, 0 to 9:

- training: 5923 6742 5958 6131 5842 5421 5918 6265 5851 5949;
- test: 980 1135 1032 1010 982 892 958 1028 974 1009.

The rows are in the original order, training data first, of the digits and the subset asked for.
"""


@validate_params(IMAGE_PARAMETERS, prefer_skip_nested_validation=True)
def fetch_mnist(
    *,
    classes: Sequence[int] | None = None,
    subset: str = "all",
    folder: str | os.PathLike[str] | None = None,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Bunch | tuple[Any, Any]:
    """Load MNIST from a local folder or from OpenML, with the same result.

    A local folder is `folder`, else the one named by the environment variable ``SKSMOOTH_DATA``;
    without either, the data come from OpenML (data_id 554) through
    :func:`sklearn.datasets.fetch_openml`, which caches them.

    Whatever the source, the pixels and labels must have the SHA-256 sums that are stored here:
    those of the contents of the four original files. The rows are in the order of these files.

    Parameters
    ----------
    classes : sequence of int, default=None
        Different digits from 0 to 9: only their images are returned. The order does not matter.
        By default all.
    subset : {"train", "test", "all"}, default="all"
        The 60000 training images, the 10000 test images, or both, the training images first.
    folder : str or path-like, default=None
        Folder that holds the four original files: ``mnist/train-images-idx3-ubyte.gz``,
        ``train-labels-idx1-ubyte.gz``, ``t10k-images-idx3-ubyte.gz`` and
        ``t10k-labels-idx1-ubyte.gz``. Only the two of the subset are read.
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

        data : ndarray or DataFrame of shape (n_samples, 784), float64
            Pixels, row after row, multiples of 1/255 from 0 (background) to 1.
        target : ndarray or Series of shape (n_samples,), int64
            The digit itself, also where `classes` leaves some out.
        frame : DataFrame of shape (n_samples, 785), or None
            With `as_frame`: `data` and the column ``"target"``.
        feature_names : list of 784 str
            Column names of `data`, ``"pixel_ROW_COLUMN"``.
        target_names : list of str
            Names of the digits asked for, ascending, as in ``numpy.unique(target)``.
        images : ndarray of shape (n_samples, 28, 28), float64
            The rows of `data` as images; a view, without `as_frame`.
        DESCR : str
            Description and origin.

    (data, target) : tuple
        With `return_X_y`.

    Raises
    ------
    ValueError
        If `classes` are not different digits, or another parameter is outside its range.
    DatasetError
        If a local file is missing or cannot be read, OpenML cannot be reached, or the values are
        not the expected ones.
    MissingExtraError
        With `as_frame`, if pandas is not installed.

    See Also
    --------
    make_toy_digits : Small digits that need no download.

    Notes
    -----
    The copy from OpenML is a text file, read anew by each call; that takes about half a minute and
    1 GB of memory, whatever the classes and the subset. A local folder takes a second.

    Downloads wait for as long as the socket default allows, which is for ever unless
    :func:`socket.setdefaulttimeout` was called.

    Examples
    --------
    >>> from sksmooth.datasets import fetch_mnist
    >>> X, y = fetch_mnist(classes=(0, 1), subset="train", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, int((y == 1).sum())  # doctest: +SKIP
    ((12665, 784), 6742)
    """
    labels = chosen_labels(classes, n_classes=10)
    names = part_names(subset)
    place = local_folder(folder)
    parts = (
        [_local_part(place, name) for name in names]
        if place is not None
        else _openml_parts(data_home, names)
    )
    return image_bunch(
        parts,
        labels,
        names=_NAMES,
        feature_names=_FEATURE_NAMES,
        DESCR=_DESCR,
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def _local_part(place: Path, name: str) -> Part:
    n_rows = _EXPECTED[name].n_rows
    images = existing_file(place, "mnist", f"{_FILES[name]}-images-idx3-ubyte.gz")
    labels = existing_file(place, "mnist", f"{_FILES[name]}-labels-idx1-ubyte.gz")
    return check_part(
        Part(_read_idx(images, (n_rows, *_SIZE)), _read_idx(labels, (n_rows,))),
        _EXPECTED[name],
        size=_SIZE,
        name=f"MNIST ({name})",
        origin=f"{str(images)!r} and {labels.name!r}",
        remedy="Replace the file by an unchanged copy.",
    )


def _openml_parts(data_home: str | os.PathLike[str] | None, names: Sequence[str]) -> list[Part]:
    origin, remedy = f"OpenML (data_id={_OPENML_ID})", openml_remedy(data_home)
    data, target = openml_arrays(_OPENML_ID, name="MNIST", data_home=data_home)
    shape = (sum(expected.n_rows for expected in _EXPECTED.values()), len(_FEATURE_NAMES))
    if data.shape != shape or target.shape != shape[:1]:
        raise DatasetError(
            f"MNIST from {origin} has pixels of shape {data.shape} and labels of shape "
            f"{target.shape}; expected {shape} and {shape[:1]}. {remedy}"
        )
    pixels = as_uint8(data, name="MNIST", origin=origin, remedy=remedy).reshape(-1, *_SIZE)
    labels = as_uint8(target, name="MNIST", origin=origin, remedy=remedy)
    n_train = _EXPECTED["train"].n_rows
    rows = {"train": slice(None, n_train), "test": slice(n_train, None)}
    return [
        check_part(
            Part(pixels[rows[name]], labels[rows[name]]),
            _EXPECTED[name],
            size=_SIZE,
            name=f"MNIST ({name})",
            origin=origin,
            remedy=remedy,
        )
        for name in names
    ]


def _read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read a file of unsigned bytes in the IDX format, compressed by gzip, of the given shape."""
    # A damaged file shows as OSError, EOFError or zlib.error, by where it breaks.
    try:
        with gzip.open(path) as file:
            content = file.read()
    except Exception as error:
        raise DatasetError(
            f"{str(path)!r} cannot be read ({type(error).__name__}: {error}). It should be an IDX "
            "file compressed by gzip; replace it by an unchanged copy."
        ) from error
    # Two zero bytes, 8 for unsigned bytes, the number of axes; then each axis as a big-endian int.
    magic = bytes([0, 0, 8, len(shape)])
    if content[:4] != magic:
        raise DatasetError(
            f"{str(path)!r} is not an IDX file of unsigned bytes with {len(shape)} axes: it begins "
            f"with {content[:4].hex()!r}, expected {magic.hex()!r}. Replace it by an unchanged "
            "copy."
        )
    start = 4 + 4 * len(shape)
    found = tuple(axis for (axis,) in struct.iter_unpack(">I", content[4:start]))
    size = len(content) - start
    if found != shape or size != np.prod(shape):
        raise DatasetError(
            f"{str(path)!r} has shape {found} by its header, and {size} bytes after that; expected "
            f"{shape} and {np.prod(shape)}. Replace it by an unchanged copy."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
