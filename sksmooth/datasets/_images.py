# SPDX-License-Identifier: BSD-3-Clause
"""What the image data sets share: parameters, the check of their bytes, the choice of rows.

Pixels stay uint8 until the rows are chosen; only those become float64, eight times as large.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions

from ..exceptions import DatasetError
from ._bunch import make_bunch

IMAGE_PARAMETERS = {
    "classes": ["array-like", None],
    "subset": [StrOptions({"train", "test", "all"})],
    "folder": [str, os.PathLike, None],
    "data_home": [str, os.PathLike, None],
    "return_X_y": ["boolean"],
    "as_frame": ["boolean"],
}


class Expected(NamedTuple):
    """Number of rows of one part, and the SHA-256 of its images and of its labels, as uint8."""

    n_rows: int
    images: str
    labels: str


class Part(NamedTuple):
    """Training or test data: images of shape (n_rows, height, width[, channels]), and labels."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def part_names(subset: str) -> tuple[str, ...]:
    """Return the parts of a subset, in the order of the rows: training data first."""
    return ("train", "test") if subset == "all" else (subset,)


def chosen_labels(
    classes: Sequence[Any] | None, *, n_classes: int, names: Sequence[str] = ()
) -> list[int]:
    """Return the labels that `classes` asks for, ascending.

    Parameters
    ----------
    classes : sequence of int or str, or None
        Labels from 0 to ``n_classes - 1``, or their `names`; None for all.
    n_classes : int
        Number of classes.
    names : sequence of str, of length n_classes, default=()
        Names by which a class can be given too.

    Returns
    -------
    list of int
        Different labels, ascending.

    Raises
    ------
    ValueError
        If `classes` is empty, names a class twice, or holds anything else.
    """
    if classes is None:
        return list(range(n_classes))
    # The characters of a single name would be taken for its elements.
    given = [] if isinstance(classes, str) else list(classes)
    labels = [_label(value, n_classes=n_classes, names=names) for value in given]
    found = sorted({label for label in labels if label is not None})
    if not found or len(found) != len(labels):
        listed = f" or {', '.join(map(repr, names))}" if names else ""
        raise ValueError(
            "classes must be None or a sequence of at least one class, each only once, out of the "
            f"ints 0 to {n_classes - 1}{listed}; got {classes!r}."
        )
    return found


def _label(value: Any, *, n_classes: int, names: Sequence[str]) -> int | None:
    if isinstance(value, str):
        return names.index(value) if value in names else None
    if isinstance(value, bool) or not isinstance(value, Integral):
        return None
    return int(value) if 0 <= int(value) < n_classes else None


def as_uint8(
    values: NDArray[np.float64], *, name: str, origin: str, remedy: str
) -> NDArray[np.uint8]:
    """Return the values as uint8, after a check that nothing is lost by that."""
    with np.errstate(invalid="ignore"):  # of nan and of what is out of range; seen below
        result = values.astype(np.uint8)
    if not np.array_equal(result, values):
        raise DatasetError(
            f"{name} from {origin} is not the expected data: it holds values other than the "
            f"integers 0 to 255. {remedy}"
        )
    return result


def check_part(
    part: Part, expected: Expected, *, size: tuple[int, ...], name: str, origin: str, remedy: str
) -> Part:
    """Return the part, after a check that its arrays are the expected ones.

    Parameters
    ----------
    part : Part
        Images and labels from a source.
    expected : Expected
        What they must be.
    size : tuple of int
        Shape of one image.
    name, origin, remedy : str
        What it is, where it came from and what to do if it is another, for the error message.

    Returns
    -------
    Part
        The same.

    Raises
    ------
    DatasetError
        If a type, a shape or a digest is another.
    """
    for what, shape in [("images", (expected.n_rows, *size)), ("labels", (expected.n_rows,))]:
        array: NDArray[np.uint8] = getattr(part, what)
        if array.dtype != np.uint8 or array.shape != shape:
            raise DatasetError(
                f"{name} from {origin}: the {what} are {array.dtype} of shape {array.shape}; "
                f"expected uint8 of shape {shape}. {remedy}"
            )
        found = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        if found != getattr(expected, what):
            raise DatasetError(
                f"{name} from {origin} is not the expected data: the SHA-256 of its {what} is "
                f"{found}, expected {getattr(expected, what)}. {remedy}"
            )
    return part


def image_bunch(
    parts: Sequence[Part],
    labels: Sequence[int],
    *,
    names: Sequence[str],
    feature_names: Sequence[str],
    DESCR: str,
    return_X_y: bool,
    as_frame: bool,
) -> Bunch | tuple[Any, Any]:
    """Return the rows of some classes as scikit-learn's loaders do, pixels in [0, 1].

    Parameters
    ----------
    parts : sequence of Part
        The parts, in the order of the rows.
    labels : sequence of int
        The classes, ascending.
    names : sequence of str
        Names of all classes.
    feature_names : sequence of str
        Column names.
    DESCR : str
        Description and origin.
    return_X_y, as_frame : bool
        As for `make_bunch`.

    Returns
    -------
    Bunch or tuple
        As of `make_bunch`, with the attributes `images` (a view of the data), `target_names` and
        `DESCR`.
    """
    masks = [np.isin(part.labels, labels) for part in parts]
    size = parts[0].images.shape[1:]
    data = np.empty((sum(int(mask.sum()) for mask in masks), math.prod(size)))
    images = data.reshape(len(data), *size)
    stop = 0
    for part, mask in zip(parts, masks, strict=True):
        start, stop = stop, stop + int(mask.sum())
        # The type is named: for a uint8 array and a Python number, numpy 1 would take a narrower
        # one than numpy 2. Quotients are those of float64, correctly rounded.
        np.divide(part.images[mask], 255.0, out=images[start:stop], dtype=np.float64)
    target = np.concatenate(
        [part.labels[mask] for part, mask in zip(parts, masks, strict=True)], dtype=np.int64
    )
    return make_bunch(
        data,
        target,
        feature_names=feature_names,
        target_column="target",
        target_names=[names[label] for label in labels],
        images=images,
        DESCR=DESCR,
        return_X_y=return_X_y,
        as_frame=as_frame,
    )
