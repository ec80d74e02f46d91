# SPDX-License-Identifier: BSD-3-Clause
"""MNIST from a folder and from an OpenML server on this machine that replays a small set."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sksmooth.datasets import _mnist, fetch_mnist
from sksmooth.datasets._images import Expected
from sksmooth.exceptions import DatasetError

# scikit-learn tells, by warnings, that it tries again or that a cached file was no good.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

# A set in the form of the real one: every digit twice in the training data and once in the test
# data, in random order.
_RNG = np.random.RandomState(0)
IMAGES = {
    name: (_RNG.randint(0, 256, (n, 28, 28)) * (_RNG.uniform(size=(n, 28, 28)) < 0.2)).astype("u1")
    for name, n in [("train", 20), ("test", 10)]
}
LABELS = {name: _RNG.permutation(np.arange(len(IMAGES[name])) % 10).astype("u1") for name in IMAGES}
FILES = {
    f"{prefix}-{what}-ubyte.gz": array
    for name, prefix in [("train", "train"), ("test", "t10k")]
    for what, array in [("images-idx3", IMAGES[name]), ("labels-idx1", LABELS[name])]
}
SUBSETS = {"train": ["train"], "test": ["test"], "all": ["train", "test"]}
ARGS = [
    {},
    {"subset": "train"},
    {"subset": "test"},
    {"classes": (1, 0)},
    {"classes": [7], "subset": "test"},
    {"classes": np.array([2, 9, 4]), "subset": "train"},
]


@pytest.fixture
def small(monkeypatch):
    """Expect the small set in place of the real one, whatever this machine's own settings."""
    expected = {
        name: Expected(
            len(LABELS[name]),
            hashlib.sha256(IMAGES[name].tobytes()).hexdigest(),
            hashlib.sha256(LABELS[name].tobytes()).hexdigest(),
        )
        for name in IMAGES
    }
    monkeypatch.setattr(_mnist, "_EXPECTED", expected)
    monkeypatch.delenv("SKSMOOTH_DATA", raising=False)


def idx(array):
    """The array in the IDX format: two zeros, 8 for bytes, the axes, their lengths, the bytes."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(
        f">{array.ndim}i", *array.shape
    )
    return header + array.tobytes()


def write_folder(folder):
    (folder / "mnist").mkdir(parents=True)
    for name, array in FILES.items():
        (folder / "mnist" / name).write_bytes(gzip.compress(idx(array)))
    return folder


def assert_rows(dataset, classes=None, subset="all"):
    """Check a dataset against the small set, in plain Python."""
    wanted = list(range(10)) if classes is None else sorted(int(label) for label in classes)
    rows = [
        (image.ravel().tolist(), label)
        for name in SUBSETS[subset]
        for image, label in zip(IMAGES[name], LABELS[name].tolist(), strict=True)
        if label in wanted
    ]
    assert dataset.data.tolist() == [[value / 255 for value in row] for row, _ in rows]
    assert dataset.target.tolist() == [label for _, label in rows]
    assert dataset.target_names == [str(label) for label in wanted]
    assert dataset.data.dtype == np.float64
    assert dataset.target.dtype == np.int64
    assert dataset.images.shape == (len(rows), 28, 28)
    assert np.shares_memory(dataset.images, dataset.data)


@pytest.mark.parametrize("args", ARGS, ids=str)
def test_local_folder(small, tmp_path, args):
    assert_rows(fetch_mnist(folder=write_folder(tmp_path), **args), **args)


def test_attributes(small, tmp_path, monkeypatch):
    dataset = fetch_mnist(folder=write_folder(tmp_path))
    assert sorted(dataset) == [
        "DESCR", "data", "feature_names", "frame", "images", "target", "target_names",
    ]  # fmt: skip
    assert dataset.frame is None
    # The name says where in the image a column is.
    assert len(set(dataset.feature_names)) == 784
    for column, name in enumerate(dataset.feature_names):
        _, i, j = name.split("_")
        assert_array_equal(dataset.data[:, column], dataset.images[:, int(i), int(j)])
    assert "CC BY-SA 3.0" in dataset.DESCR

    monkeypatch.setenv("SKSMOOTH_DATA", str(tmp_path))
    assert_rows(fetch_mnist())
    # The argument wins: this folder is empty.
    with pytest.raises(DatasetError, match="no file"):
        fetch_mnist(folder=tmp_path / "mnist")
    X, y = fetch_mnist(folder=str(tmp_path), return_X_y=True)
    assert_array_equal(X, dataset.data)
    assert_array_equal(y, dataset.target)


def test_as_frame(small, tmp_path):
    pandas = pytest.importorskip("pandas")
    args = {"folder": write_folder(tmp_path), "classes": (3, 5)}
    arrays = fetch_mnist(**args)
    dataset = fetch_mnist(as_frame=True, **args)
    assert list(dataset.frame.columns) == [*arrays.feature_names, "target"]
    assert_array_equal(dataset.data.to_numpy(), arrays.data)
    assert_array_equal(dataset.images, arrays.images)
    assert_array_equal(dataset.target.to_numpy(), arrays.target)
    assert dataset.target.dtype == np.int64
    X, y = fetch_mnist(as_frame=True, return_X_y=True, **args)
    pandas.testing.assert_frame_equal(X, dataset.data)
    pandas.testing.assert_series_equal(y, dataset.target)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(small, tmp_path, name):
    path = write_folder(tmp_path) / "mnist" / name
    path.unlink()
    with pytest.raises(DatasetError) as error:
        fetch_mnist(folder=tmp_path)
    for part in [str(path), "folder=", "SKSMOOTH_DATA"]:
        assert part in str(error.value)
    # The other subset needs none of it.
    other = "test" if name.startswith("train") else "train"
    assert_rows(fetch_mnist(folder=tmp_path, subset=other), subset=other)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, -1])
def test_a_changed_byte_is_seen(small, tmp_path, name, place):
    array = FILES[name].copy()
    array.flat[place] ^= 1
    path = write_folder(tmp_path) / "mnist" / name
    path.write_bytes(gzip.compress(idx(array)))
    with pytest.raises(DatasetError, match="not the expected data") as error:
        fetch_mnist(folder=tmp_path)
    for value in [FILES[name], array]:
        assert hashlib.sha256(value.tobytes()).hexdigest() in str(error.value)
    assert name in str(error.value)
    assert "Replace the file" in str(error.value)


GOOD = idx(IMAGES["train"])
DAMAGES = {
    "not gzip": (GOOD, "cannot be read"),
    "truncated": (gzip.compress(GOOD)[:-12], "cannot be read"),
    "cut short": (gzip.compress(GOOD)[:500], "cannot be read"),
    "a flipped bit": (
        bytes(b ^ (i == 400) for i, b in enumerate(gzip.compress(GOOD))),
        "cannot be read|not the expected data",
    ),
    "empty": (b"", "not an IDX file.*begins with ''"),
    "nothing in it": (gzip.compress(b""), "not an IDX file"),
    "labels": (gzip.compress(idx(LABELS["train"])), "with 3 axes: it begins with '00000801'"),
    "another type": (gzip.compress(b"\0\0\x0d" + GOOD[3:]), "begins with '00000d03'"),
    "header only": (gzip.compress(GOOD[:16]), "and 0 bytes after that"),
    "part of the header": (gzip.compress(GOOD[:12]), r"shape \(20, 28\) by its header"),
    "a row less": (gzip.compress(idx(IMAGES["train"][1:])), r"shape \(19, 28, 28\)"),
    "turned": (gzip.compress(idx(IMAGES["train"].reshape(28, 20, 28))), r"shape \(28, 20, 28\)"),
    "a byte less": (gzip.compress(GOOD[:-1]), "15679 bytes after that; .*15680"),
    "a byte more": (gzip.compress(GOOD + b"\0"), "15681 bytes after that"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file(small, tmp_path, damage):
    content, message = DAMAGES[damage]
    name = "train-images-idx3-ubyte.gz"
    (write_folder(tmp_path) / "mnist" / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message) as error:
        fetch_mnist(folder=tmp_path)
    assert name in str(error.value)
    assert "an unchanged copy" in str(error.value)


# --- OpenML --------------------------------------------------------------------------------------


@pytest.fixture
def openml(small, openml_server):
    """Start a server for given rows: training data first, pixels as numbers, label last."""

    def serve(rows=None):
        if rows is None:
            rows = table()
        columns = [f"pixel{i}" for i in range(1, rows.shape[1])]
        lines = (",".join(f"{value:g}" for value in row) for row in rows)
        return openml_server(554, "mnist_784", columns, "0123456789", lines)

    return serve


def table():
    images = np.concatenate([IMAGES["train"], IMAGES["test"]]).reshape(-1, 784)
    return np.column_stack([images, np.concatenate([LABELS["train"], LABELS["test"]])]).astype(
        float
    )


def test_openml_gives_the_same(openml, tmp_path):
    server = openml()
    folder = write_folder(tmp_path / "local")
    for args in ARGS:
        dataset = fetch_mnist(data_home=tmp_path / "home", **args)
        assert_rows(dataset, **args)
        local = fetch_mnist(folder=folder, **args)
        assert dataset.data.tobytes() == local.data.tobytes()
        assert dataset.target.tobytes() == local.target.tobytes()
        assert dataset.feature_names == local.feature_names
        assert dataset.target_names == local.target_names
    # Only the first time it comes from the server.
    assert server.requests.count(server.file) == 1


def test_a_local_folder_asks_no_server(openml, tmp_path):
    server = openml()
    fetch_mnist(folder=write_folder(tmp_path), data_home=tmp_path / "home")
    assert server.requests == []
    assert not (tmp_path / "home").exists()


def swap_rows(rows):
    rows[[3, 4]] = rows[[4, 3]]


def swap_parts(rows):
    rows[:] = np.roll(rows, 10, axis=0)


def swap_columns(rows):
    rows[:, :784] = rows[:, :784].reshape(-1, 28, 28).transpose(0, 2, 1).reshape(-1, 784)


def change_pixel(rows):
    rows[2, 5] = (rows[2, 5] + 1) % 256


def change_label(rows):
    rows[0, 784] = (rows[0, 784] + 1) % 10


def divide(rows):
    rows[:, :784] /= 255


@pytest.mark.parametrize(
    "change", [swap_rows, swap_parts, swap_columns, change_pixel, change_label, divide]
)
def test_openml_values_are_checked(openml, tmp_path, change):
    rows = table()
    change(rows)
    assert not np.array_equal(rows, table())
    openml(rows)
    with pytest.raises(
        DatasetError, match=r"MNIST.* from OpenML \(data_id=554\) is not the expected"
    ) as error:
        fetch_mnist(data_home=tmp_path)
    for part in [str(tmp_path / "openml"), "folder=", "SKSMOOTH_DATA"]:
        assert part in str(error.value)


@pytest.mark.parametrize("rows", [table()[1:], table()[:, 1:]])
def test_openml_shape_is_checked(openml, tmp_path, rows):
    openml(rows)
    with pytest.raises(DatasetError, match=r"pixels of shape .*; expected \(30, 784\) and \(30,\)"):
        fetch_mnist(data_home=tmp_path)


def test_openml_fails(openml, tmp_path):
    openml().files.clear()
    with pytest.raises(DatasetError, match="MNIST .*HTTPError.*folder=.*SKSMOOTH_DATA") as error:
        fetch_mnist(data_home=tmp_path)
    assert error.value.__cause__ is not None


@pytest.mark.parametrize(
    "args",
    [
        {"folder": 1}, {"data_home": 1}, {"return_X_y": "yes"}, {"as_frame": None},
        {"subset": "val"}, {"subset": None}, {"classes": 1}, {"classes": []}, {"classes": "1"},
        {"classes": ["1"]}, {"classes": [1, 1]}, {"classes": [10]},
    ],
    ids=str,
)  # fmt: skip
def test_parameter_errors(args):
    with pytest.raises(ValueError, match=next(iter(args))):
        fetch_mnist(**args)


# --- the real data -------------------------------------------------------------------------------

real = pytest.mark.skipif(
    not (Path(os.environ.get("SKSMOOTH_DATA") or "/-") / "mnist").is_dir(),
    reason="the real data are needed: SKSMOOTH_DATA names no folder that holds mnist/",
)
COUNTS = {
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}


@real
def test_real_files_are_the_originals():
    # The MD5 sums that the publishers' and other public loaders check: what is expected here was
    # computed from these files.
    for name, digest in [
        ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    ]:
        content = (Path(os.environ["SKSMOOTH_DATA"]) / "mnist" / name).read_bytes()
        assert hashlib.md5(content).hexdigest() == digest


@real
@pytest.mark.parametrize("subset", ["train", "test"])
def test_real_data(subset):
    dataset = fetch_mnist(subset=subset)
    assert dataset.data.shape == (sum(COUNTS[subset]), 784)
    assert np.bincount(dataset.target).tolist() == COUNTS[subset]
    for count in COUNTS[subset]:
        assert str(count) in dataset.DESCR
    assert dataset.data.min() == 0
    assert dataset.data.max() == 1
    first = {"train": [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], "test": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]}
    assert dataset.target[:10].tolist() == first[subset]


@real
def test_real_data_of_two_classes():
    # The training set of the paper's pair (0, 1) has 12,665 images.
    dataset = fetch_mnist(classes=(1, 0), subset="train")
    assert len(dataset.data) == 12665
    assert dataset.target_names == ["0", "1"]
    whole = fetch_mnist(subset="train")
    rows = whole.target <= 1
    assert_array_equal(dataset.data, whole.data[rows])
    assert_array_equal(dataset.target, whole.target[rows])


@real
def test_real_data_as_openml_holds_them(monkeypatch):
    # The values, without the half minute that the text file takes.
    parts = [_mnist._local_part(Path(os.environ["SKSMOOTH_DATA"]), name) for name in COUNTS]
    numbers = (
        np.concatenate([part.images for part in parts]).reshape(-1, 784).astype(np.float64),
        np.concatenate([part.labels for part in parts]).astype(np.float64),
    )
    local = fetch_mnist(classes=(4, 9))
    monkeypatch.setattr(_mnist, "openml_arrays", lambda *args, **kwargs: numbers)
    monkeypatch.delenv("SKSMOOTH_DATA")
    remote = fetch_mnist(classes=(4, 9))
    assert_array_equal(remote.data, local.data)
    assert_array_equal(remote.target, local.target)
    numbers[0][[0, 1]] = numbers[0][[1, 0]]
    with pytest.raises(DatasetError, match="not the expected data"):
        fetch_mnist()
