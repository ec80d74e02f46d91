# SPDX-License-Identifier: BSD-3-Clause
"""CIFAR-10: 60,000 colour images of ten classes, 32 x 32 pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import validate_params

from ..exceptions import DatasetError
from ._fetch import DATA_VARIABLE, existing_file, local_folder, openml_arrays, openml_remedy
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

_SIZE = (32, 32, 3)
_NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()
_FEATURE_NAMES = [
    f"pixel_{row}_{column}_{channel}"
    for row in range(32)
    for column in range(32)
    for channel in ("red", "green", "blue")
]

_OPENML_ID = 40927  # name "CIFAR_10", version 1
# Images in each of the six files of the original binary version, five of training data and one of
# test data, and the SHA-1 of each file as git computes it for a blob.
_BATCH_ROWS = 10000
_BATCHES = [
    "da09f891072747be90e69e4f00ba7cba870dc87e",
    "7e958840b7a55df3353574298ebc9ca0e4bba48e",
    "5259a3e9674ffdf2d5c33a1067f7192ff06c9e2f",
    "301e7d16d78428f13262e87a5bc78ed45b8224aa",
    "51fe428dfbdd065852912743ae8b7b63bb1e9d8d",
    "e3f3b4653f18f27ada1558cabc3352a3ed1b25cc",
]

# The local file holds these two classes only, in the original order.
_PAIR = [0, 2]
_PAIR_FILE = "cifar10_airplane_bird.npz"
_PAIR_EXPECTED = {
    "train": Expected(
        n_rows=10000,
        images="1fcf358e5d121bf4fe7002b597d83b5ff3ae64e453846c7efa55561b7394fc8e",
        labels="a010a8037432ff1da94a3551f3a92aeebb4e4bcccbbe883c03d07138f90b6609",
    ),
    "test": Expected(
        n_rows=2000,
        images="e80590a545f18d196c0442eeab222b62cb7da828cc759c43ad28302275e2fce2",
        labels="b66dcc7518a05a0a8eb4dc79cfef27de6dfbfe46e656e7bc504a2eb455610e70",
    ),
}

_DESCR = """\
CIFAR-10 (A. Krizhevsky, V. Nair, G. Hinton, University of Toronto, 2009; "Learning Multiple Layers
of Features from Tiny Images"). No explicit licence was published with it; the authors ask for a
citation of that report.

50000 training and 10000 test images of 32 x 32 pixels with the channels red, green and blue, from
0 to 255, here divided by 255. 5000 training and 1000 test images per class; the target is the
original number: 0 airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship,
9 truck.

The rows are in the original order (training batches 1 to 5, test batch), of the classes and the
subset asked for. In a row of the data, the three channels of a pixel stand together.
"""


@validate_params(IMAGE_PARAMETERS, prefer_skip_nested_validation=True)
def fetch_cifar10(
    *,
    classes: Sequence[int | str] | None = None,
    subset: str = "all",
    folder: str | os.PathLike[str] | None = None,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Bunch | tuple[Any, Any]:
    """Load CIFAR-10 from a local folder or from OpenML, with the same result.

    A local folder is `folder`, else the one named by the environment variable ``SKSMOOTH_DATA``;
    it holds two classes only, airplane and bird. Without either, the data come from OpenML
    (data_id 40927) through :func:`sklearn.datasets.fetch_openml`, which caches them.

    Whatever the source, pixels and labels are checked: those of airplane and bird by SHA-256 sums
    that are stored here, and all that come from OpenML by the SHA-1 sums of the six files of the
    original binary version. The rows are in the order of these files.

    Parameters
    ----------
    classes : sequence of int or str, default=None
        Different classes, by their number from 0 to 9 or by their name: airplane, automobile,
        bird, cat, deer, dog, frog, horse, ship, truck. Only their images are returned. The order
        does not matter. By default all, which a local folder does not hold.
    subset : {"train", "test", "all"}, default="all"
        The training images (5000 of each class), the test images (1000 of each class), or both,
        the training images first.
    folder : str or path-like, default=None
        Folder that holds ``cifar10/cifar10_airplane_bird.npz``, with the uint8 arrays ``X_train``
        of shape (10000, 32, 32, 3), ``y_train`` (10000,), ``X_test`` (2000, 32, 32, 3) and
        ``y_test`` (2000,), labels 0 for airplane and 2 for bird.
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

        data : ndarray or DataFrame of shape (n_samples, 3072), float64
            Pixels, row after row, the channels of a pixel together: multiples of 1/255 from 0 to
            1.
        target : ndarray or Series of shape (n_samples,), int64
            The original number of the class, also where `classes` leaves some out.
        frame : DataFrame of shape (n_samples, 3073), or None
            With `as_frame`: `data` and the column ``"target"``.
        feature_names : list of 3072 str
            Column names of `data`, ``"pixel_ROW_COLUMN_red"``, ``_green`` and ``_blue``.
        target_names : list of str
            Names of the classes asked for, by ascending number, as in ``numpy.unique(target)``.
        images : ndarray of shape (n_samples, 32, 32, 3), float64
            The rows of `data` as images; a view, without `as_frame`.
        DESCR : str
            Description and origin.

    (data, target) : tuple
        With `return_X_y`.

    Raises
    ------
    ValueError
        If `classes` are not different classes, or another parameter is outside its range.
    DatasetError
        If a class is asked for that the local file does not hold, that file is missing or cannot
        be read, OpenML cannot be reached, or the values are not the expected ones.
    MissingExtraError
        With `as_frame`, if pandas is not installed.

    Notes
    -----
    The copy from OpenML is a text file, read anew by each call; that takes several minutes and
    more than 3 GB of memory, whatever the classes and the subset. A local folder takes a second.

    In which order OpenML holds the images is not documented. Expected are the six batches, in any
    order, each with its images in the original order and its pixel columns channel by channel;
    anything else ends in a DatasetError, never in other rows.

    Downloads wait for as long as the socket default allows, which is for ever unless
    :func:`socket.setdefaulttimeout` was called.

    Examples
    --------
    >>> from sksmooth.datasets import fetch_cifar10
    >>> dataset = fetch_cifar10(classes=("airplane", "bird"), subset="test")  # doctest: +SKIP
    >>> dataset.images.shape, dataset.target_names  # doctest: +SKIP
    ((2000, 32, 32, 3), ['airplane', 'bird'])
    """
    labels = chosen_labels(classes, n_classes=len(_NAMES), names=_NAMES)
    names = part_names(subset)
    place = local_folder(folder)
    parts = (
        _local_parts(place, names, labels) if place is not None else _openml_parts(data_home, names)
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


def _local_parts(place: Path, names: Sequence[str], labels: Sequence[int]) -> list[Part]:
    path = existing_file(place, "cifar10", _PAIR_FILE)
    missing = [_NAMES[label] for label in labels if label not in _PAIR]
    if missing:
        raise DatasetError(
            f"{str(path)!r} holds only the classes airplane and bird; asked for, too: "
            f"{', '.join(missing)}. Take classes=('airplane', 'bird'), or get the other classes "
            f"from OpenML: without folder= and without the environment variable {DATA_VARIABLE}."
        )
    # A damaged file shows as OSError, EOFError, BadZipFile, KeyError, ValueError, zlib.error or
    # TypeError, by where it breaks. An array of objects would be unpickled: never.
    try:
        with np.load(path, allow_pickle=False) as file:
            parts = [Part(file[f"X_{name}"], file[f"y_{name}"]) for name in names]
    except Exception as error:
        raise DatasetError(
            f"{str(path)!r} cannot be read ({type(error).__name__}: {error}). It should be a "
            "NumPy archive of the arrays X_train, y_train, X_test and y_test; replace it by an "
            "unchanged copy."
        ) from error
    return [
        check_part(
            part,
            _PAIR_EXPECTED[name],
            size=_SIZE,
            name=f"CIFAR-10 ({name})",
            origin=repr(str(path)),
            remedy="Replace the file by an unchanged copy.",
        )
        for name, part in zip(names, parts, strict=True)
    ]


def _openml_parts(data_home: str | os.PathLike[str] | None, names: Sequence[str]) -> list[Part]:
    origin, remedy = f"OpenML (data_id={_OPENML_ID})", openml_remedy(data_home)
    data, target = openml_arrays(_OPENML_ID, name="CIFAR-10", data_home=data_home)
    shape = (len(_BATCHES) * _BATCH_ROWS, len(_FEATURE_NAMES))
    if data.shape != shape or target.shape != shape[:1]:
        raise DatasetError(
            f"CIFAR-10 from {origin} has pixels of shape {data.shape} and labels of shape "
            f"{target.shape}; expected {shape} and {shape[:1]}. {remedy}"
        )
    pixels = as_uint8(data, name="CIFAR-10", origin=origin, remedy=remedy)
    labels = as_uint8(target, name="CIFAR-10", origin=origin, remedy=remedy)
    del data, target  # the pixels as float64 are 1.5 GB
    # One more axis: the batches.
    pixels = pixels.reshape(len(_BATCHES), _BATCH_ROWS, -1)
    labels = labels.reshape(len(_BATCHES), _BATCH_ROWS)
    found = [_blob_sha1(*batch) for batch in zip(pixels, labels, strict=True)]
    if sorted(found) != sorted(_BATCHES):
        raise DatasetError(
            f"CIFAR-10 from {origin} is not the expected data, or its rows or columns are in an "
            f"unknown order: as the original binary files, each {_BATCH_ROWS} rows would have the "
            f"git SHA-1 {', '.join(found)}; expected {', '.join(_BATCHES)}. {remedy}"
        )
    order = [found.index(batch) for batch in _BATCHES]
    if order != sorted(order):
        pixels, labels = pixels[order], labels[order]
    # In a record, each channel is one after the other.
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = labels.reshape(-1)
    n_test = _BATCH_ROWS
    rows = {"train": slice(None, -n_test), "test": slice(-n_test, None)}
    parts = {name: Part(images[place], labels[place]) for name, place in rows.items()}
    for name, part in parts.items():
        # The sums tell which batches these are, not which of them comes first. The two classes of
        # the local file do, and prove that both sources give the same.
        pair = np.isin(part.labels, _PAIR)
        check_part(
            Part(part.images[pair], part.labels[pair]),
            _PAIR_EXPECTED[name],
            size=_SIZE,
            name=f"CIFAR-10 ({name}, airplane and bird)",
            origin=origin,
            remedy=f"Its batches may be in another order than the original ones. {remedy}",
        )
    return [parts[name] for name in names]


def _blob_sha1(pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> str:
    """Return git's SHA-1 of a batch file: per image its label and its pixels, channel by channel.

    git hashes ``"blob "``, the size in bytes as a decimal number, a zero byte, and the content.
    """
    records = np.ascontiguousarray(np.column_stack([labels, pixels]))
    digest = hashlib.sha1(b"blob %d\0" % records.size, usedforsecurity=False)
    digest.update(records.data)
    return digest.hexdigest()
