# SPDX-License-Identifier: BSD-3-Clause
"""Poisoning: which rows change, what is reported about them, and what stays as it was."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import sparse

from sksmooth.attacks import blending_trigger, one_feature_trigger, poison

N, D = 40, 5


@pytest.fixture
def data():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((N, D))
    X[3, 2] = -0.0
    y = np.array(["ham", "spam", "other", "spam"] * 10)
    return X, y


def others(index, n=N):
    return np.setdiff1d(np.arange(n), index)


def test_only_the_reported_rows_change(data):
    X, y = data
    X_before, y_before = X.copy(), y.copy()
    trigger = blending_trigger(D, 1.0, random_state=1)
    trigger_before = trigger.copy()
    bad = poison(X, y, trigger, share=0.2, source="spam", target="ham", random_state=0)

    assert sorted(bad) == ["X", "delta", "index", "y"]
    assert bad.index.shape == (8,)
    assert bad.index.dtype == np.intp
    assert (np.diff(bad.index) > 0).all()
    assert (y[bad.index] == "spam").all()
    assert (bad.y[bad.index] == "ham").all()
    assert_array_equal(bad.X[bad.index], X[bad.index] + trigger)
    rest = others(bad.index)
    # Bytes, so that a zero that changed its sign would show.
    assert bad.X[rest].tobytes() == X[rest].tobytes()
    assert_array_equal(bad.y[rest], y[rest])
    assert bad.y.dtype == y.dtype

    # The inputs are neither changed nor shared.
    assert_array_equal(X, X_before)
    assert_array_equal(y, y_before)
    assert_array_equal(trigger, trigger_before)
    assert not np.shares_memory(bad.X, X)
    assert not np.shares_memory(bad.y, y)


def test_delta_is_what_was_added_not_what_was_meant():
    # At 2**30 the spacing of floats is 2**-22: 2**-23 is a tie that goes to the even neighbour, no
    # change at all, and 0.7 comes out as the nearest multiple of the spacing, above 0.7.
    X = np.full((2, 3), 2.0**30)
    bad = poison(X, [0, 1], [2.0**-23, 0.7, 1.0], share=1.0, target=0)
    meant = round(Fraction(7, 10) / Fraction(1, 2**22)) * 2.0**-22
    assert meant > 0.7
    assert_array_equal(bad.delta, [[0.0, meant, 1.0]] * 2)
    assert_array_equal(bad.delta, bad.X - X)


@given(
    row=st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4),
    norm=st.floats(1e-6, 1e6),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 1000),
)
def test_delta_is_the_exact_change_up_to_one_rounding(row, norm, dtype, seed):
    X = np.array([row, row], dtype=dtype)
    bad = poison(X, [0, 1], blending_trigger(4, norm, random_state=seed), share=1.0, target=0)
    assert bad.X.dtype == dtype
    for before, after, change in zip(
        X.ravel().tolist(), bad.X.ravel().tolist(), bad.delta.ravel().tolist(), strict=True
    ):
        exact = Fraction(after) - Fraction(before)
        assert abs(Fraction(change) - exact) <= abs(exact) * Fraction(1, 2**53)


@pytest.mark.parametrize("size", [0.5, 3.0])
def test_total_size_is_that_of_equation_5(size):
    # r rows with the same trigger: sqrt(r) times its norm. From zeros nothing is rounded.
    bad = poison(
        np.zeros((100, 7)),
        np.arange(100) % 2,
        one_feature_trigger(7, size),
        share=0.09,
        target=1,
        random_state=0,
    )
    assert len(bad.index) == 9
    assert np.linalg.norm(bad.delta) == pytest.approx(3 * size, rel=1e-15)


@pytest.mark.parametrize(
    ("share", "n", "expected"),
    [
        (0.29, 100, 29),  # 0.29 * 100 is 28.999999999999996: not the floor
        (0.1, 30, 3),
        (0.25, 10, 2),  # a tie, to the even number
        (0.35, 10, 4),
        (0.051, 10, 1),
        (1.0, 10, 10),
        (1, 10, 10),
    ],
)
def test_number_of_rows(share, n, expected):
    bad = poison(np.zeros((n, 1)), np.arange(n) % 2, [1.0], share=share, target=0, random_state=0)
    assert len(bad.index) == expected == len(np.unique(bad.index))
    assert np.count_nonzero(bad.X) == expected


def test_without_source_all_rows_can_be_chosen_equally_often():
    # 3 of 6 rows in 2000 draws: each row is chosen 1000 times with standard deviation 22.4; five
    # of them fail once in 1.7 million rows. The seeds are fixed.
    X, y = np.zeros((6, 1)), np.array([0, 0, 1, 1, 2, 2])
    times = np.zeros(6)
    for seed in range(2000):
        times[poison(X, y, [1.0], share=0.5, target=0, random_state=seed).index] += 1
    assert abs(times - 1000).max() < 5 * 22.4


def test_seed(data):
    X, y = data
    args = {"share": 0.2, "source": "spam", "target": "ham"}
    one = poison(X, y, np.ones(D), random_state=7, **args)
    two = poison(X, y, np.ones(D), random_state=np.random.RandomState(7), **args)
    assert_array_equal(one.index, two.index)
    assert_array_equal(one.X, two.X)
    assert_array_equal(one.y, two.y)
    assert not np.array_equal(one.index, poison(X, y, np.ones(D), random_state=8, **args).index)


def test_clean_label(data):
    X, y = data
    bad = poison(X, y, np.ones(D), share=0.1, source="spam", target="spam", random_state=0)
    assert_array_equal(bad.y, y)
    assert (y[bad.index] == "spam").all()
    assert np.count_nonzero((bad.X != X).any(axis=1)) == 4


@pytest.mark.parametrize(
    ("y", "source", "target"),
    [
        ([-1, 1, 1, -1], -1, 1),
        ([True, False, True, False], True, False),
        (np.array([0.0, 1.0, 1.0, 0.0]), 1, 0),
        (np.array(["a", "bcd", "bcd", "a"], dtype=object), "bcd", "a"),
        (np.array([[0], [1], [1], [0]]).ravel().astype(np.uint8), 1, np.int64(0)),
    ],
)
def test_label_types(y, source, target):
    bad = poison(np.zeros((4, 2)), y, [0.0, 1.0], share=0.5, source=source, target=target)
    y = np.asarray(y)
    assert bad.y.dtype == y.dtype
    assert_array_equal(bad.index, np.flatnonzero(y == source))
    assert (bad.y == target).all()


def test_lists_and_integers_become_float64():
    bad = poison([[1, 2], [3, 4]], [0, 1], [0.5, 0.0], share=1.0, target=1)
    assert_array_equal(bad.X, [[1.5, 2.0], [3.5, 4.0]])
    assert bad.X.dtype == np.float64
    pixels = np.full((2, 4), 255, dtype=np.uint8)  # must not wrap around
    bad = poison(pixels, [0, 1], np.ones(4), share=1.0, target=1)
    assert (bad.X == 256.0).all()


def test_an_image_trigger_is_flattened():
    images = np.zeros((2, 3, 4))
    trigger = one_feature_trigger((3, 4), 1.0, index=(1, 2))
    bad = poison(images.reshape(2, -1), [0, 1], trigger, share=1.0, target=1)
    assert_array_equal(bad.X.reshape(2, 3, 4), images + trigger)
    assert bad.delta.shape == (2, 12)


def test_columns_without_change_keep_their_bytes_and_may_hold_nan():
    X = np.array([[-0.0, np.nan, 1.0], [-0.0, np.inf, 2.0]])
    bad = poison(X, [0, 1], [0.0, 0.0, 0.5], share=1.0, target=0)
    assert bad.X[:, :2].tobytes() == X[:, :2].tobytes()
    assert_array_equal(bad.delta, [[0, 0, 0.5], [0, 0, 0.5]])


def test_dataframe():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(
        {
            "a": np.arange(4, dtype=np.float32),
            "word": ["x", "y", "z", "x"],
            "n": np.arange(4),
            "b": np.arange(4.0),
            "m": pandas.array([1, 2, 3, 4], dtype="Int64"),
        },
        index=[10, 20, 30, 40],
    )
    y = pandas.Series(["no", "yes", "yes", "no"], index=X.index, name="label")
    X_before, y_before = X.copy(), y.copy()
    bad = poison(X, y, [0.5, 0, 0.25, 0, 1.0], share=0.5, source="yes", target="no")

    pandas.testing.assert_frame_equal(X, X_before)
    pandas.testing.assert_series_equal(y, y_before)
    expected = X.assign(
        a=np.array([0, 1.5, 2.5, 3], dtype=np.float32),
        n=[0.0, 1.25, 2.25, 3.0],
        m=[1.0, 3.0, 4.0, 4.0],
    )
    pandas.testing.assert_frame_equal(bad.X, expected)
    pandas.testing.assert_series_equal(
        bad.y, pandas.Series(["no"] * 4, index=X.index, name="label", dtype=y.dtype)
    )
    assert_array_equal(bad.index, [1, 2])
    assert_array_equal(bad.delta, [[0.5, 0, 0.25, 0, 1.0]] * 2)


def test_dataframe_with_repeated_names_and_categorical_labels():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(np.zeros((4, 2)), columns=["a", "a"])
    y = pandas.Series(["no", "yes", "yes", "no"], dtype="category")
    bad = poison(X, y, [0.0, 1.0], share=0.5, source="yes", target="no")
    assert_array_equal(bad.X.to_numpy(), [[0, 0], [0, 1], [0, 1], [0, 0]])
    assert bad.y.dtype == y.dtype
    assert (bad.y == "no").all()


def test_dataframe_and_array_agree(data):
    pandas = pytest.importorskip("pandas")
    X, y = data
    args = {"share": 0.3, "source": "spam", "target": "ham", "random_state": 5}
    trigger = blending_trigger(D, 2.0, random_state=2)
    as_array = poison(X, y, trigger, **args)
    as_frame = poison(pandas.DataFrame(X), pandas.Series(y), trigger, **args)
    assert_array_equal(as_array.X, as_frame.X.to_numpy())
    assert_array_equal(as_array.y, as_frame.y.to_numpy())
    assert_array_equal(as_array.delta, as_frame.delta)
    assert_array_equal(as_array.index, as_frame.index)


@pytest.mark.parametrize("values", [["1", "2"], ["a", "b"]])
def test_dataframe_column_that_is_not_numeric(values):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame({"word": values})
    with pytest.raises(ValueError, match="'word'.*not numeric"):
        poison(X, [0, 1], [1.0], share=1.0, target=0)


def test_dataframe_with_missing_values_in_a_changed_column():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame({"m": pandas.array([1, None], dtype="Int64")})
    with pytest.raises(ValueError, match="X must be finite"):
        poison(X, [0, 1], [1.0], share=1.0, target=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0.0}, "share"),
        ({"share": 1.01}, "share"),
        ({"share": np.nan}, "share"),
        ({"share": 0.01}, r"share=0\.01 of 40 rows comes to no row .* 0\.025"),
        ({"source": "ham", "share": 0.5}, r"asks for 20 rows labelled 'ham', and y has 10.*0\.25"),
        ({"source": "egg"}, r"source must be .*'ham', 'other', 'spam'.*'egg'"),
        ({"target": "egg"}, r"target must be .*'ham', 'other', 'spam'.*'egg'"),
        ({"target": 0}, "target must be"),
        ({"target": None}, "target must be"),
        ({"trigger": np.ones(D + 1)}, r"trigger must have .*5, got shape \(6,\)"),
        ({"trigger": np.array([1, np.nan, 0, 0, 0])}, "trigger must be finite"),
        ({"trigger": 1.0}, "trigger"),
        ({"X": np.zeros(N)}, "X must have shape"),
        ({"X": np.zeros((N, D, 1))}, r"X\.reshape"),
        ({"X": np.zeros((0, D)), "y": []}, "at least one row"),
        ({"X": np.full((N, D), "a")}, "X must be numeric"),
        ({"X": np.full((N, D), np.nan)}, "X must be finite"),
        ({"X": np.zeros((N - 1, D))}, "inconsistent numbers of samples"),
        ({"y": np.linspace(0, 1, N)}, "continuous"),
        ({"y": np.zeros((N, 2))}, "1d array"),
        ({"random_state": "x"}, "random_state"),
    ],
)
def test_errors(data, change, message):
    X, y = data
    args = {"X": X, "y": y, "trigger": np.ones(D), "share": 0.1, "target": "ham", **change}
    with pytest.raises(ValueError, match=message):
        poison(**args)


def test_sparse_is_refused():
    with pytest.raises(TypeError, match="sparse"):
        poison(sparse.csr_matrix((2, 2)), [0, 1], [1.0, 0.0], share=1.0, target=0)


def test_overflow_is_refused():
    X = np.full((2, 1), 60000, dtype=np.float16)
    with pytest.raises(ValueError, match="leaves the range of float16"):
        poison(X, [0, 1], [60000.0], share=1.0, target=0)
    with pytest.raises(ValueError, match="leaves the range of float64"):
        poison(np.full((2, 1), 1.7e308), [0, 1], [1.7e308], share=1.0, target=0)
