# SPDX-License-Identifier: BSD-3-Clause
"""The form of a data set, and the message where pandas is absent."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sksmooth.datasets import make_toy_digits, make_toy_emails
from sksmooth.datasets._bunch import make_bunch
from sksmooth.exceptions import MissingExtraError

DATA, TARGET = np.array([[0.5, 1.0], [2.0, 3.0]]), np.array([1, 0], dtype=np.int64)
ARGS = {"feature_names": ("a", "b"), "target_column": "label"}


def test_arrays_pass_through():
    bunch = make_bunch(DATA, TARGET, return_X_y=False, as_frame=False, DESCR="text", **ARGS)
    assert bunch.data is DATA
    assert bunch.target is TARGET
    assert bunch.frame is None
    assert bunch.feature_names == ["a", "b"]
    assert bunch.DESCR == "text"
    X, y = make_bunch(DATA, TARGET, return_X_y=True, as_frame=False, **ARGS)
    assert X is DATA
    assert y is TARGET


def test_frame():
    pandas = pytest.importorskip("pandas")
    bunch = make_bunch(DATA, TARGET, return_X_y=False, as_frame=True, **ARGS)
    pandas.testing.assert_frame_equal(
        bunch.frame, pandas.DataFrame({"a": [0.5, 2.0], "b": [1.0, 3.0], "label": TARGET})
    )
    pandas.testing.assert_frame_equal(bunch.data, bunch.frame[["a", "b"]])
    pandas.testing.assert_series_equal(bunch.target, bunch.frame["label"])


@pytest.mark.parametrize("make", [make_toy_emails, make_toy_digits])
def test_without_pandas(monkeypatch, make):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pandas.*sksmooth\[plot\]"):
        make(as_frame=True)
    assert make().data.shape[0] > 0
