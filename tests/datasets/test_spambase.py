# SPDX-License-Identifier: BSD-3-Clause
"""Spambase from a folder and from an OpenML server on this machine that replays a small set."""

from __future__ import annotations

import gzip
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sksmooth.datasets import _spambase, fetch_spambase
from sksmooth.datasets._fetch import canonical, sha256
from sksmooth.exceptions import DatasetError

# scikit-learn tells, by warnings, that it tries again or that a cached file was no good.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

# A set of seven rows in the form of the real one: 57 features and the label, rows that repeat,
# two that differ in the label alone, spam first.
_RNG = np.random.RandomState(0)
ROWS = np.round(_RNG.exponential(size=(7, 58)) * (_RNG.uniform(size=(7, 58)) < 0.3), 3)
ROWS[:, 57] = [1, 1, 1, 0, 0, 0, 0]
ROWS[5] = ROWS[4]
ROWS[6, :57] = ROWS[0, :57]
DIGEST = sha256(canonical(ROWS))


@pytest.fixture
def small(monkeypatch):
    """Expect the small set in place of the real one, whatever this machine's own settings."""
    monkeypatch.setattr(_spambase, "_SHAPE", ROWS.shape)
    monkeypatch.setattr(_spambase, "_SHA256", DIGEST)
    monkeypatch.delenv("SKSMOOTH_DATA", raising=False)


def write_folder(folder, rows=ROWS):
    (folder / "spambase").mkdir(parents=True)
    lines = "".join(",".join(repr(value) for value in row) + "\n" for row in rows.tolist())
    (folder / "spambase" / "spambase.csv.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "spambase" / "columns.txt").write_text(
        "\n".join([*_spambase._FEATURE_NAMES, "spam"]) + "\n"
    )
    return folder


@pytest.fixture
def server_for(openml_server):
    """Start a server for given rows."""

    def serve(rows=ROWS):
        # OpenML escapes the characters in the names.
        columns = [*_spambase._FEATURE_NAMES[:48]]
        columns += [f"char_freq_%{ord(char):02X}" for char in ";([!$#"]
        columns += _spambase._FEATURE_NAMES[54:]
        lines = (",".join([*map(repr, row[:-1]), f"{row[-1]:.0f}"]) for row in rows.tolist())
        return openml_server(44, "spambase", columns, "01", lines)

    return serve


@pytest.fixture
def openml(small, server_for):
    return server_for


def assert_small(dataset):
    """Check a dataset against `ROWS`, sorted by plain Python."""
    expected = np.array(sorted(ROWS.tolist()))
    assert_array_equal(dataset.data, expected[:, :57])
    assert_array_equal(dataset.target, expected[:, 57])
    assert dataset.data.dtype == np.float64
    assert dataset.target.dtype == np.int64
    assert dataset.data.flags.c_contiguous


def test_local_folder(small, tmp_path, monkeypatch):
    write_folder(tmp_path)
    dataset = fetch_spambase(folder=tmp_path)
    assert_small(dataset)
    assert sorted(dataset) == [
        "DESCR", "data", "feature_names", "frame", "target", "target_names",
    ]  # fmt: skip
    assert dataset.frame is None
    assert len(dataset.feature_names) == 57
    assert dataset.feature_names[48:] == [
        "char_freq_;", "char_freq_(", "char_freq_[", "char_freq_!", "char_freq_$", "char_freq_#",
        "capital_run_length_average", "capital_run_length_longest", "capital_run_length_total",
    ]  # fmt: skip
    assert dataset.target_names == ["not spam", "spam"]
    assert "CC BY 4.0" in dataset.DESCR

    monkeypatch.setenv("SKSMOOTH_DATA", str(tmp_path))
    assert_small(fetch_spambase())
    # The argument wins: this folder is empty.
    with pytest.raises(DatasetError, match="no file"):
        fetch_spambase(folder=tmp_path / "spambase")
    X, y = fetch_spambase(folder=str(tmp_path), return_X_y=True)
    assert_array_equal(X, dataset.data)
    assert_array_equal(y, dataset.target)


def test_as_frame(small, tmp_path):
    pandas = pytest.importorskip("pandas")
    write_folder(tmp_path)
    arrays = fetch_spambase(folder=tmp_path)
    dataset = fetch_spambase(folder=tmp_path, as_frame=True)
    assert list(dataset.frame.columns) == [*arrays.feature_names, "spam"]
    assert_array_equal(dataset.frame.to_numpy()[:, :57], arrays.data)
    pandas.testing.assert_frame_equal(dataset.data, dataset.frame[arrays.feature_names])
    pandas.testing.assert_series_equal(dataset.target, dataset.frame["spam"])
    assert dataset.target.dtype == np.int64
    X, y = fetch_spambase(folder=tmp_path, as_frame=True, return_X_y=True)
    pandas.testing.assert_frame_equal(X, dataset.data)
    pandas.testing.assert_series_equal(y, dataset.target)


@pytest.mark.parametrize("name", ["spambase.csv.gz", "columns.txt"])
def test_missing_file_is_named(small, tmp_path, name):
    path = write_folder(tmp_path) / "spambase" / name
    path.unlink()
    with pytest.raises(DatasetError) as error:
        fetch_spambase(folder=tmp_path)
    for part in [str(path), "folder=", "SKSMOOTH_DATA"]:
        assert part in str(error.value)


def test_local_values_are_checked(small, tmp_path):
    rows = ROWS.copy()
    rows[2, 5] += 0.001
    with pytest.raises(DatasetError, match="not the expected data") as error:
        fetch_spambase(folder=write_folder(tmp_path, rows))
    for part in [DIGEST, sha256(canonical(rows)), "spambase.csv.gz", "Replace the file"]:
        assert part in str(error.value)


def test_local_shape_is_checked(small, tmp_path):
    with pytest.raises(DatasetError, match=r"shape \(6, 58\).*expected \(7, 58\)"):
        fetch_spambase(folder=write_folder(tmp_path, ROWS[:6]))


@pytest.mark.parametrize(
    "content",
    [
        b"not gzip",
        gzip.compress(b"1,2\n3,a\n", mtime=0),
        gzip.compress(b"1,2\n3\n", mtime=0),
        gzip.compress(b"1,2\n" * 99, mtime=0)[:-12],
    ],
)
def test_damaged_file(small, tmp_path, content):
    (write_folder(tmp_path) / "spambase" / "spambase.csv.gz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"spambase\.csv\.gz' cannot be read"):
        fetch_spambase(folder=tmp_path)


def test_column_names_are_checked(small, tmp_path):
    path = write_folder(tmp_path) / "spambase" / "columns.txt"
    names = path.read_text().split()
    path.write_text("\n".join([*names[:2], "egg", *names[3:]]))
    with pytest.raises(DatasetError, match=r"number 3 is \['egg'\].*\['word_freq_all'\]"):
        fetch_spambase(folder=tmp_path)
    path.write_text("\n".join(names[:-1]))
    with pytest.raises(DatasetError, match=r"got 57 names, and number 58 is \[\].*\['spam'\]"):
        fetch_spambase(folder=tmp_path)


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_openml_gives_the_same_in_any_order(openml, tmp_path, seed):
    rows = ROWS if seed is None else np.random.RandomState(seed).permutation(ROWS)
    server = openml(rows)
    dataset = fetch_spambase(data_home=tmp_path / "home")
    assert_small(dataset)
    local = fetch_spambase(folder=write_folder(tmp_path / "local"))
    assert dataset.data.tobytes() == local.data.tobytes()
    assert dataset.target.tobytes() == local.target.tobytes()
    assert dataset.feature_names == local.feature_names

    # The second time it comes from the cache.
    server.requests.clear()
    assert_small(fetch_spambase(data_home=str(tmp_path / "home")))
    assert server.requests == []


def test_a_local_folder_asks_no_server(openml, tmp_path):
    server = openml()
    fetch_spambase(folder=write_folder(tmp_path), data_home=tmp_path / "home")
    assert server.requests == []
    assert not (tmp_path / "home").exists()


def test_openml_values_are_checked(openml, tmp_path):
    rows = ROWS.copy()
    rows[0, 57] = 0  # a label is part of the digest
    openml(rows)
    with pytest.raises(DatasetError, match=r"OpenML \(data_id=44\) is not the expected") as error:
        fetch_spambase(data_home=tmp_path)
    for part in [
        DIGEST, sha256(canonical(rows)), str(tmp_path / "openml"), "folder=", "SKSMOOTH_DATA",
    ]:  # fmt: skip
        assert part in str(error.value)


def break_status(server):
    server.status = 500


def break_address(server):
    server.files.clear()


def break_json(server):
    server.files["api/v1/json/data/44"] = b"<html>maintenance</html>"


def break_format(server):
    server.files["api/v1/json/data/features/44"] = b"{}"


def break_file(server):
    # The md5 sum of the description is no longer that of the file.
    server.files["data/v1/download/44/spambase.arff"] += b"\n"


def break_connection(server):
    server.stop()


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (break_address, "HTTPError: HTTP Error 404"),
        (break_status, "HTTPError: HTTP Error 500"),
        (break_json, "JSONDecodeError"),
        (break_format, "KeyError"),
        (break_file, "ValueError: .*md5"),
        (break_connection, "URLError: .*refused"),
    ],
)
def test_openml_fails(openml, tmp_path, damage, cause):
    damage(openml())
    with pytest.raises(DatasetError, match=f"Spambase .*{cause}") as error:
        fetch_spambase(data_home=tmp_path)
    assert "folder=" in str(error.value)
    assert "SKSMOOTH_DATA" in str(error.value)
    assert error.value.__cause__ is not None


def test_openml_is_too_slow(openml, tmp_path):
    server = openml()
    server.delay = 0.5
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.05)
    try:
        with pytest.raises(DatasetError, match="timed out.*folder=.*SKSMOOTH_DATA"):
            fetch_spambase(data_home=tmp_path)
    finally:
        socket.setdefaulttimeout(before)


@pytest.mark.parametrize(
    "args", [{"folder": 1}, {"data_home": 1}, {"return_X_y": "yes"}, {"as_frame": None}]
)
def test_parameter_errors(args):
    with pytest.raises(ValueError, match=next(iter(args))):
        fetch_spambase(**args)


# --- the real data -------------------------------------------------------------------------------

real = pytest.mark.skipif(
    not (Path(os.environ.get("SKSMOOTH_DATA") or "/-") / "spambase").is_dir(),
    reason="the real data are needed: SKSMOOTH_DATA names no folder that holds spambase/",
)


@real
def test_real_data():
    # Figures of the set's own documentation.
    X, y = fetch_spambase(return_X_y=True)
    assert X.shape == (4601, 57)
    assert y.shape == (4601,)
    assert y.sum() == 1813
    assert X[:, 56].max() == 15841
    assert X[:, :54].max() <= 100
    assert X.min() == 0
    table = np.column_stack([X, y])
    assert len(table) - len(np.unique(table, axis=0)) == 391
    assert len(table) - len(np.unique(X, axis=0)) == 394
    assert table.tolist() == sorted(table.tolist())


@real
def test_real_data_are_those_of_the_file():
    path = Path(os.environ["SKSMOOTH_DATA"]) / "spambase"
    with gzip.open(path / "spambase.csv.gz", "rt") as file:
        expected = sorted([float(value) for value in line.split(",")] for line in file)
    dataset = fetch_spambase()
    assert np.column_stack([dataset.data, dataset.target]).tolist() == expected
    assert [*dataset.feature_names, "spam"] == (path / "columns.txt").read_text().split()


@real
def test_real_data_over_openml(server_for, tmp_path, monkeypatch):
    local = fetch_spambase()
    table = np.column_stack([local.data, local.target])
    server = server_for(np.random.RandomState(0).permutation(table))
    monkeypatch.delenv("SKSMOOTH_DATA")
    remote = fetch_spambase(data_home=tmp_path)
    assert server.requests
    assert remote.data.tobytes() == local.data.tobytes()
    assert remote.target.tobytes() == local.target.tobytes()
