# SPDX-License-Identifier: BSD-3-Clause
"""Canonical order and digest of a table, against plain Python."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sksmooth.datasets._fetch import canonical, checked, existing_file, local_folder, sha256
from sksmooth.exceptions import DatasetError

# Few different values, so that rows tie in their first entries, and whole rows repeat.
VALUES = st.sampled_from([-1.5, -0.0, 0.0, 0.1, 3.0])
TABLES = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.tuples(*[VALUES] * width), min_size=1, max_size=12)
)


def digest_by_hand(rows):
    # `+ 0.0` makes a zero of a negative zero, before the sort, which cannot tell them apart.
    rows = sorted(tuple(value + 0.0 for value in row) for row in rows)
    packed = b"".join(struct.pack(f"<{len(row)}d", *row) for row in rows)
    return hashlib.sha256(packed).hexdigest()


@given(rows=TABLES, seed=st.integers(0, 100))
def test_canonical_and_digest_against_plain_python(rows, seed):
    table = np.array(rows)
    expected = sorted(tuple(value + 0.0 for value in row) for row in rows)
    found = canonical(table)
    assert_array_equal(found, expected)
    assert not np.signbit(found[found == 0]).any()
    assert sha256(found) == digest_by_hand(rows)
    # Whatever order the source has, and however it lies in memory.
    shuffled = np.asfortranarray(np.random.RandomState(seed).permutation(table))
    assert canonical(shuffled).tobytes() == found.tobytes()


def test_digest_does_not_depend_on_the_byte_order():
    table = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert sha256(table.astype(">f8")) == sha256(table) == digest_by_hand(table.tolist())


def test_digest_sees_one_ulp_and_a_swap_within_a_row():
    table = np.array([[0.1, 0.2], [0.3, 0.4]])
    digests = {
        sha256(canonical(table)),
        sha256(canonical(np.nextafter(table, [[1, 0.2], [0.3, 0.4]]))),
        sha256(canonical(table[:, ::-1])),
    }
    assert len(digests) == 3


def test_checked():
    args = {"name": "Toy", "origin": "here", "remedy": "Try again.", "shape": (2, 2)}
    table = np.array([[3.0, 1.0], [2.0, 0.0]])
    digest = digest_by_hand(table.tolist())
    assert_array_equal(checked(table, digest=digest, **args), [[2, 0], [3, 1]])
    with pytest.raises(DatasetError) as error:
        checked(table + 1, digest=digest, **args)
    for part in ["Toy from here", digest, digest_by_hand((table + 1).tolist()), "Try again."]:
        assert part in str(error.value)
    with pytest.raises(DatasetError, match=r"Toy from here has shape \(1, 2\).*\(2, 2\)\. Try"):
        checked(table[:1], digest=digest, **args)


def test_local_folder_argument_wins_over_the_variable(monkeypatch):
    monkeypatch.delenv("SKSMOOTH_DATA", raising=False)
    assert local_folder(None) is None
    assert local_folder("there") == Path("there")
    monkeypatch.setenv("SKSMOOTH_DATA", "here")
    assert local_folder(None) == Path("here")
    assert local_folder(Path("there")) == Path("there")
    monkeypatch.setenv("SKSMOOTH_DATA", "")
    assert local_folder(None) is None


def test_existing_file(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.csv").write_text("1")
    assert existing_file(tmp_path, "set", "a.csv") == tmp_path / "set" / "a.csv"
    with pytest.raises(DatasetError) as error:
        existing_file(tmp_path, "set", "b.csv")
    for part in [str(tmp_path / "set" / "b.csv"), "'set/b.csv'", "folder=", "SKSMOOTH_DATA"]:
        assert part in str(error.value)
