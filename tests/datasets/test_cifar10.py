# SPDX-License-Identifier: BSD-3-Clause
"""CIFAR-10 from a folder and from an OpenML server on this machine that replays a small set."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sksmooth.datasets import _cifar10, fetch_cifar10
from sksmooth.datasets._images import Expected
from sksmooth.exceptions import DatasetError

# scikit-learn tells, by warnings, that it tries again or that a cached file was no good.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

# A set in the form of the real one: six batches, the last of them test data, of ten images each,
# where a class may be missing in a batch but airplane and bird are in all.
N = 10
_RNG = np.random.RandomState(0)
IMAGES = _RNG.randint(0, 256, (6 * N, 32, 32, 3)).astype("u1")
LABELS = np.concatenate(
    [_RNG.permutation([0, 2, *_RNG.randint(0, 10, N - 2)]) for _ in range(6)]
).astype("u1")
LABELS[:N] = np.arange(N)
LABELS[5 * N :] = np.arange(N)[::-1]
NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()
ROWS = {"train": range(5 * N), "test": range(5 * N, 6 * N), "all": range(6 * N)}
PAIR_ARGS = [
    {"classes": (0, 2)},
    {"classes": ["bird", "airplane"], "subset": "train"},
    {"classes": [0, "bird"], "subset": "test"},
    {"classes": ["bird"]},
    {"classes": np.array([0]), "subset": "train"},
]
OTHER_ARGS = [
    {},
    {"subset": "train"},
    {"subset": "test"},
    {"classes": ("dog", 1)},
    {"classes": range(3, 10), "subset": "test"},
]


def selected(classes=None, subset="all"):
    """Numbers of the rows, by plain Python, and of the classes."""
    wanted = list(range(10)) if classes is None else list(classes)
    wanted = sorted(NAMES.index(c) if isinstance(c, str) else int(c) for c in wanted)
    return [row for row in ROWS[subset] if LABELS[row] in wanted], wanted


def batch_sha1(images, labels):
    """The git SHA-1 of a batch file, record by record: its label, then red, green and blue."""
    content = b""
    for image, label in zip(images, labels, strict=True):
        content += bytes([label])
        for channel in range(3):
            content += bytes(image[:, :, channel].ravel().tolist())
    return hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()


BATCHES = [batch_sha1(IMAGES[i : i + N], LABELS[i : i + N]) for i in range(0, 6 * N, N)]
PAIR = {
    f"{letter}_{name}": array[selected((0, 2), name)[0]]
    for name in ["train", "test"]
    for letter, array in [("X", IMAGES), ("y", LABELS)]
}


@pytest.fixture
def small(monkeypatch):
    """Expect the small set in place of the real one, whatever this machine's own settings."""
    expected = {
        name: Expected(
            len(PAIR[f"y_{name}"]),
            hashlib.sha256(PAIR[f"X_{name}"].tobytes()).hexdigest(),
            hashlib.sha256(PAIR[f"y_{name}"].tobytes()).hexdigest(),
        )
        for name in ["train", "test"]
    }
    monkeypatch.setattr(_cifar10, "_BATCH_ROWS", N)
    monkeypatch.setattr(_cifar10, "_BATCHES", BATCHES)
    monkeypatch.setattr(_cifar10, "_PAIR_EXPECTED", expected)
    monkeypatch.delenv("SKSMOOTH_DATA", raising=False)


def write_folder(folder, arrays=PAIR):
    (folder / "cifar10").mkdir(parents=True)
    np.savez(folder / "cifar10" / "cifar10_airplane_bird.npz", **arrays)
    return folder


def assert_rows(dataset, classes=None, subset="all"):
    """Check a dataset against the small set, in plain Python."""
    rows, wanted = selected(classes, subset)
    expected = [[value / 255 for value in IMAGES[row].ravel().tolist()] for row in rows]
    assert dataset.data.tolist() == expected
    assert dataset.target.tolist() == LABELS[rows].tolist()
    assert dataset.target_names == [NAMES[label] for label in wanted]
    assert dataset.data.dtype == np.float64
    assert dataset.target.dtype == np.int64
    assert dataset.images.shape == (len(rows), 32, 32, 3)
    assert np.shares_memory(dataset.images, dataset.data)


@pytest.mark.parametrize("args", PAIR_ARGS, ids=str)
def test_local_folder(small, tmp_path, args):
    assert_rows(fetch_cifar10(folder=write_folder(tmp_path), **args), **args)


def test_attributes(small, tmp_path, monkeypatch):
    args = {"classes": ("airplane", "bird")}
    dataset = fetch_cifar10(folder=write_folder(tmp_path), **args)
    assert sorted(dataset) == [
        "DESCR", "data", "feature_names", "frame", "images", "target", "target_names",
    ]  # fmt: skip
    assert dataset.frame is None
    # The name says where in the image a column is.
    assert len(set(dataset.feature_names)) == 3072
    for column, name in enumerate(dataset.feature_names):
        _, i, j, channel = name.split("_")
        place = int(i), int(j), ["red", "green", "blue"].index(channel)
        assert_array_equal(dataset.data[:, column], dataset.images[:, *place])
    assert "No explicit licence" in dataset.DESCR
    for number, name in enumerate(NAMES):
        assert f"{number} {name}" in dataset.DESCR.replace("\n", " ")

    monkeypatch.setenv("SKSMOOTH_DATA", str(tmp_path))
    assert_rows(fetch_cifar10(**args), **args)
    # The argument wins: this folder is empty.
    with pytest.raises(DatasetError, match="no file"):
        fetch_cifar10(folder=tmp_path / "cifar10", **args)
    X, y = fetch_cifar10(folder=str(tmp_path), return_X_y=True, **args)
    assert_array_equal(X, dataset.data)
    assert_array_equal(y, dataset.target)


def test_as_frame(small, tmp_path):
    pandas = pytest.importorskip("pandas")
    args = {"folder": write_folder(tmp_path), "classes": (0, 2)}
    arrays = fetch_cifar10(**args)
    dataset = fetch_cifar10(as_frame=True, **args)
    assert list(dataset.frame.columns) == [*arrays.feature_names, "target"]
    assert_array_equal(dataset.data.to_numpy(), arrays.data)
    assert_array_equal(dataset.images, arrays.images)
    assert_array_equal(dataset.target.to_numpy(), arrays.target)
    assert dataset.target.dtype == np.int64
    X, y = fetch_cifar10(as_frame=True, return_X_y=True, **args)
    pandas.testing.assert_frame_equal(X, dataset.data)
    pandas.testing.assert_series_equal(y, dataset.target)


@pytest.mark.parametrize(
    ("classes", "missing"),
    [
        (None, "automobile, cat, deer, dog, frog, horse, ship, truck"),
        ([0, 2, 9], "truck"),
        (["ship", 3], "cat, ship"),
    ],
)
def test_classes_that_the_local_file_lacks(small, tmp_path, classes, missing):
    with pytest.raises(DatasetError, match=f"only the classes .* too: {missing}\\.") as error:
        fetch_cifar10(folder=write_folder(tmp_path), classes=classes)
    for part in ["airplane_bird.npz", "classes=('airplane', 'bird')", "folder=", "SKSMOOTH_DATA"]:
        assert part in str(error.value)


def test_missing_file_is_named(small, tmp_path):
    path = write_folder(tmp_path) / "cifar10" / "cifar10_airplane_bird.npz"
    path.unlink()
    with pytest.raises(DatasetError) as error:
        fetch_cifar10(folder=tmp_path, classes=(0, 2))
    for part in [str(path), "folder=", "SKSMOOTH_DATA"]:
        assert part in str(error.value)


@pytest.mark.parametrize("name", PAIR)
@pytest.mark.parametrize("place", [0, -1])
def test_a_changed_byte_is_seen(small, tmp_path, name, place):
    array = PAIR[name].copy()
    array.flat[place] ^= 1
    write_folder(tmp_path, PAIR | {name: array})
    with pytest.raises(DatasetError, match="not the expected data") as error:
        fetch_cifar10(folder=tmp_path, classes=(0, 2))
    for value in [PAIR[name], array]:
        assert hashlib.sha256(value.tobytes()).hexdigest() in str(error.value)
    for part in ["airplane_bird.npz", name.partition("_")[2], "Replace the file"]:
        assert part in str(error.value)
    # The other subset is not touched by it.
    args = {"classes": (0, 2), "subset": "test" if name.endswith("train") else "train"}
    assert_rows(fetch_cifar10(folder=tmp_path, **args), **args)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("X_train", PAIR["X_train"][1:], r"images are uint8 of shape .*; expected uint8 of shape"),
        (
            "X_train",
            PAIR["X_train"].transpose(0, 3, 1, 2),
            r"images are uint8 of shape .*3, 32, 32",
        ),
        ("X_test", PAIR["X_test"] / 255, "images are float64 of shape"),
        ("y_test", PAIR["y_test"].astype(int), "labels are int64 of shape"),
        ("y_train", PAIR["y_train"][:, None], "labels are uint8 of shape"),
        ("y_train", PAIR["y_train"].astype(object), "cannot be read .*allow_pickle"),
    ],
)
def test_local_shape_and_type_are_checked(small, tmp_path, name, array, message):
    write_folder(tmp_path, PAIR | {name: array})
    with pytest.raises(DatasetError, match=message):
        fetch_cifar10(folder=tmp_path, classes=(0, 2))


def npz_bytes(arrays=PAIR):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy_bytes():
    buffer = io.BytesIO()
    np.save(buffer, PAIR["X_train"])
    return buffer.getvalue()


def zip_bytes():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("X_train.npy", "no array")
    return buffer.getvalue()


def flipped_bit():
    # In the pixels: the archive's own sum sees it.
    content = bytearray(npz_bytes())
    content[5000] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        npz_bytes()[:-30],
        npz_bytes({"X_train": PAIR["X_train"]}),
        npy_bytes(),
        zip_bytes(),
        flipped_bit(),
    ],
    ids=["empty", "text", "truncated", "array missing", "one array", "zip of text", "flipped bit"],
)
def test_damaged_file(small, tmp_path, content):
    (write_folder(tmp_path) / "cifar10" / "cifar10_airplane_bird.npz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"airplane_bird\.npz' cannot be read") as error:
        fetch_cifar10(folder=tmp_path, classes=(0, 2))
    assert "an unchanged copy" in str(error.value)
    assert error.value.__cause__ is not None


# --- OpenML --------------------------------------------------------------------------------------


# The rows as OpenML holds them: pixels as numbers, channel by channel, label last.
TABLE = np.array(
    [
        [*(int(image[i, j, c]) for c in range(3) for i in range(32) for j in range(32)), label]
        for image, label in zip(IMAGES, LABELS.tolist(), strict=True)
    ]
)


@pytest.fixture
def openml(small, openml_server):
    columns = [f"a{i}" for i in range(3072)]
    lines = [",".join(map(str, row)) for row in TABLE.tolist()]
    return openml_server(40927, "CIFAR_10", columns, "0123456789", lines)


@pytest.fixture
def answer(small, monkeypatch):
    """Let OpenML hold other rows, without the time that the text takes."""

    def replace(rows):
        arrays = rows[:, :-1].astype(np.float64), rows[:, -1].astype(np.float64)
        monkeypatch.setattr(_cifar10, "openml_arrays", lambda *args, **kwargs: arrays)

    return replace


def test_openml_gives_the_same(openml, tmp_path):
    for args in [OTHER_ARGS[0], PAIR_ARGS[1]]:
        dataset = fetch_cifar10(data_home=tmp_path / "home", **args)
        assert_rows(dataset, **args)
    # Only the first time it comes from the server.
    assert openml.requests.count(openml.file) == 1


@pytest.mark.parametrize("args", PAIR_ARGS, ids=str)
def test_both_sources_give_the_same_bytes(answer, tmp_path, args):
    answer(TABLE)
    remote = fetch_cifar10(**args)
    local = fetch_cifar10(folder=write_folder(tmp_path), **args)
    assert remote.data.tobytes() == local.data.tobytes()
    assert remote.target.tobytes() == local.target.tobytes()
    assert remote.feature_names == local.feature_names
    assert remote.target_names == local.target_names


@pytest.mark.parametrize("args", OTHER_ARGS, ids=str)
@pytest.mark.parametrize("order", [range(6), [5, 0, 1, 2, 3, 4], [2, 5, 4, 0, 3, 1]], ids=str)
def test_openml_batches_in_another_order(answer, order, args):
    answer(TABLE.reshape(6, N, -1)[list(order)].reshape(6 * N, -1))
    assert_rows(fetch_cifar10(**args), **args)


def test_a_local_folder_asks_no_server(openml, tmp_path):
    fetch_cifar10(folder=write_folder(tmp_path), data_home=tmp_path / "home", classes=(0, 2))
    assert openml.requests == []
    assert not (tmp_path / "home").exists()


def swap_rows(rows):
    rows[[3, 4]] = rows[[4, 3]]


def swap_rows_of_two_batches(rows):
    rows[[3, N + 4]] = rows[[N + 4, 3]]


def channels_last(rows):
    pixels = rows[:, :3072].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    rows[:, :3072] = pixels.reshape(len(rows), -1)


def turn(rows):
    pixels = rows[:, :3072].reshape(-1, 3, 32, 32).transpose(0, 1, 3, 2)
    rows[:, :3072] = pixels.reshape(len(rows), -1)


def change_pixel(rows):
    rows[-1, 3071] ^= 1


def change_label(rows):
    # Of an image of another class than the local file's, which only the batch's sum covers.
    row = np.flatnonzero(rows[:, 3072] == 9)[0]
    rows[row, 3072] = 8


def repeat_a_batch(rows):
    rows[:N] = rows[N : 2 * N]


def too_large(rows):
    rows[0, 0] += 256


@pytest.mark.parametrize(
    "change",
    [
        swap_rows, swap_rows_of_two_batches, channels_last, turn, change_pixel, change_label,
        repeat_a_batch, too_large,
    ],
)  # fmt: skip
def test_openml_values_are_checked(answer, tmp_path, change):
    rows = TABLE.copy()
    change(rows)
    assert not np.array_equal(rows, TABLE)
    answer(rows)
    with pytest.raises(
        DatasetError, match=r"CIFAR-10 from OpenML \(data_id=40927\) is not the expected data"
    ) as error:
        fetch_cifar10(data_home=tmp_path, classes=["frog"])
    for part in [str(tmp_path / "openml"), "folder=", "SKSMOOTH_DATA"]:
        assert part in str(error.value)


@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4, 5], [5, 1, 2, 3, 4, 0]])
def test_the_order_of_the_batches_is_proved_by_the_pair(answer, monkeypatch, order):
    # Were the six sums listed in a wrong order, the arrays of the local file would tell.
    monkeypatch.setattr(_cifar10, "_BATCHES", [BATCHES[i] for i in order])
    answer(TABLE)
    with pytest.raises(DatasetError, match=r"airplane and bird\).*batches may be in another order"):
        fetch_cifar10()


@pytest.mark.parametrize("rows", [TABLE[1:], TABLE[:, 1:]])
def test_openml_shape_is_checked(answer, rows):
    answer(rows)
    with pytest.raises(
        DatasetError, match=r"pixels of shape .*; expected \(60, 3072\) and \(60,\)"
    ):
        fetch_cifar10()


def test_openml_fails(openml, tmp_path):
    openml.files.clear()
    with pytest.raises(DatasetError, match="CIFAR-10 .*HTTPError.*folder=.*SKSMOOTH_DATA") as error:
        fetch_cifar10(data_home=tmp_path)
    assert error.value.__cause__ is not None


def test_blob_sha1_is_that_of_git():
    # printf 'hello\n' | git hash-object --stdin, and of two records 'ab' 'cd' (printf 'abcd').
    pixels, labels = np.frombuffer(b"ello\n", np.uint8)[None], np.frombuffer(b"h", np.uint8)
    assert _cifar10._blob_sha1(pixels, labels) == "ce013625030ba8dba906f756967f9e9ca394464a"
    pixels, labels = np.frombuffer(b"bd", np.uint8)[:, None], np.frombuffer(b"ac", np.uint8)
    assert _cifar10._blob_sha1(pixels, labels) == "85df50785d62d3b05ab03d9cbf7e4a0b49449730"


@pytest.mark.parametrize(
    "args",
    [
        {"folder": 1}, {"data_home": 1}, {"return_X_y": "yes"}, {"as_frame": None},
        {"subset": "val"}, {"subset": None}, {"classes": 1}, {"classes": []}, {"classes": "bird"},
        {"classes": ["Bird"]}, {"classes": ["bird", 2]}, {"classes": [10]},
    ],
    ids=str,
)  # fmt: skip
def test_parameter_errors(args):
    with pytest.raises(ValueError, match=next(iter(args))):
        fetch_cifar10(**args)


# --- the real data -------------------------------------------------------------------------------

real = pytest.mark.skipif(
    not (Path(os.environ.get("SKSMOOTH_DATA") or "/-") / "cifar10").is_dir(),
    reason="the real data are needed: SKSMOOTH_DATA names no folder that holds cifar10/",
)


@real
@pytest.mark.parametrize(("subset", "count"), [("train", 5000), ("test", 1000)])
def test_real_data(subset, count):
    dataset = fetch_cifar10(classes=("airplane", "bird"), subset=subset)
    assert dataset.data.shape == (2 * count, 3072)
    assert np.bincount(dataset.target).tolist() == [count, 0, count]
    assert dataset.data.min() == 0
    assert dataset.data.max() == 1
    with np.load(Path(os.environ["SKSMOOTH_DATA"]) / "cifar10/cifar10_airplane_bird.npz") as file:
        assert_array_equal(np.rint(dataset.images[::10] * 255), file[f"X_{subset}"][::10])
        assert_array_equal(dataset.target, file[f"y_{subset}"])


@real
def test_real_data_have_their_channels_and_rows_in_place():
    # Neighbouring pixels of a photo are alike, and so are the channels of a pixel: with the wrong
    # axis taken for the channels, the differences would be several times as large.
    dataset = fetch_cifar10(classes=("bird",), subset="test")
    images = dataset.images
    far = np.abs(images - images[::-1]).mean()
    for axis in [1, 2]:
        assert np.abs(np.diff(images, axis=axis)).mean() < far / 3
    assert np.abs(np.diff(images, axis=3)).mean() < far / 3
