# SPDX-License-Identifier: BSD-3-Clause
"""Choice of classes, and the check of pixels, apart from any data set."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sksmooth.datasets._images import (
    Expected,
    Part,
    as_uint8,
    check_part,
    chosen_labels,
    image_bunch,
    part_names,
)
from sksmooth.exceptions import DatasetError

NAMES = ["cat", "dog", "frog", "ship"]
PLACE = {"name": "Toy", "origin": "here", "remedy": "Try again."}


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ([2], [2]),
        ((3, 0), [0, 3]),
        (range(3), [0, 1, 2]),
        (np.array([3, 1], dtype=np.uint8), [1, 3]),
        (["ship", "cat"], [0, 3]),
        (np.array(["dog", "cat"]), [0, 1]),
        ([2, "cat"], [0, 2]),
        ({1, 2}, [1, 2]),
    ],
)
def test_chosen_labels(classes, expected):
    labels = chosen_labels(classes, n_classes=4, names=NAMES)
    assert labels == expected
    assert all(type(label) is int for label in labels)


@pytest.mark.parametrize(
    "classes",
    [
        [], (), np.array([]), [4], [-1], [1, 1], [1, "dog"], ["cat", "cat"], ["Cat"], ["0"], "cat",
        "", [True], [1.0], [None], [[0, 1]], np.array([[0, 1]]), [0, 10**30], np.array([0.0, 1.0]),
    ],
)  # fmt: skip
def test_classes_errors(classes):
    with pytest.raises(ValueError, match=r"classes must be None or a sequence.*0 to 3 or 'cat', "):
        chosen_labels(classes, n_classes=4, names=NAMES)


def test_without_names_a_class_is_a_number():
    with pytest.raises(ValueError, match=r"out of the ints 0 to 9; got \['1'\]"):
        chosen_labels(["1"], n_classes=10)


def test_part_names():
    assert part_names("all") == ("train", "test")
    assert part_names("train") == ("train",)
    assert part_names("test") == ("test",)


def test_as_uint8():
    values = np.arange(256.0).reshape(2, 128)
    result = as_uint8(values, **PLACE)
    assert result.dtype == np.uint8
    assert_array_equal(result, values)
    assert as_uint8(np.array([-0.0]), **PLACE).tolist() == [0]


@pytest.mark.parametrize(
    "value", [-1, 256, 0.5, 1e-300, 255.0000001, np.nan, np.inf, -np.inf, 1e30]
)
def test_as_uint8_loses_nothing(value):
    with pytest.raises(DatasetError, match=r"Toy from here .*integers 0 to 255. Try again\."):
        as_uint8(np.array([[0, 1], [2, value]]), **PLACE)


def make_part(seed, n_rows=7, size=(2, 3)):
    rng = np.random.RandomState(seed)
    images = rng.randint(0, 256, (n_rows, *size)).astype(np.uint8)
    return Part(images, rng.permutation(np.arange(n_rows) % 4).astype(np.uint8))


def expected_of(part):
    return Expected(
        len(part.labels),
        hashlib.sha256(part.images.tobytes()).hexdigest(),
        hashlib.sha256(part.labels.tobytes()).hexdigest(),
    )


def test_check_part():
    part = make_part(0)
    expected = expected_of(part)
    assert check_part(part, expected, size=(2, 3), **PLACE) is part
    # However it lies in memory.
    turned = Part(np.asfortranarray(part.images), part.labels)
    check_part(turned, expected, size=(2, 3), **PLACE)

    for what in ["images", "labels"]:
        for place in [0, -1]:  # one bit of the first or of the last byte
            array = getattr(part, what).copy()
            array.flat[place] ^= 1
            wrong = part._replace(**{what: array})
            with pytest.raises(DatasetError, match="not the expected data") as error:
                check_part(wrong, expected, size=(2, 3), **PLACE)
            digest = hashlib.sha256(array.tobytes()).hexdigest()
            for text in ["Toy from here", what, digest, getattr(expected, what), "Try again."]:
                assert text in str(error.value)
    with pytest.raises(DatasetError, match=r"images are uint8 of shape \(6, 2, 3\); .*\(7, 2, 3\)"):
        check_part(Part(part.images[1:], part.labels), expected, size=(2, 3), **PLACE)
    with pytest.raises(DatasetError, match=r"labels are int8 of shape \(7,\); .*uint8"):
        wrong = part._replace(labels=part.labels.view(np.int8))
        check_part(wrong, expected, size=(2, 3), **PLACE)


@pytest.mark.parametrize("labels", [[0], [1, 3], [0, 1, 2, 3]])
@pytest.mark.parametrize("size", [(2, 3), (2, 2, 3)])
def test_image_bunch_against_plain_python(labels, size):
    parts = [make_part(1, 9, size), make_part(2, 5, size)]
    dataset = image_bunch(
        parts,
        labels,
        names=NAMES,
        feature_names=[f"p{i}" for i in range(np.prod(size))],
        DESCR="text",
        return_X_y=False,
        as_frame=False,
    )
    rows = [
        (image.ravel().tolist(), label)
        for part in parts
        for image, label in zip(part.images, part.labels.tolist(), strict=True)
        if label in labels
    ]
    # Exactly: Python's quotients are correctly rounded.
    assert dataset.data.tolist() == [[value / 255 for value in row] for row, _ in rows]
    assert dataset.target.tolist() == [label for _, label in rows]
    assert dataset.data.dtype == np.float64
    assert dataset.target.dtype == np.int64
    assert dataset.data.flags.c_contiguous
    assert dataset.images.shape == (len(rows), *size)
    assert np.shares_memory(dataset.images, dataset.data)
    assert_array_equal(dataset.images.reshape(len(rows), -1), dataset.data)
    assert dataset.target_names == [NAMES[label] for label in labels]
    assert dataset.DESCR == "text"
