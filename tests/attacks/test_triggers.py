# SPDX-License-Identifier: BSD-3-Clause
"""Triggers: their norm in exact arithmetic, their place and their direction."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sksmooth.attacks import (
    blending_trigger,
    four_pixel_trigger,
    one_feature_trigger,
    one_pixel_trigger,
    poison,
)

NORMS = st.floats(1e-100, 1e100) | st.floats(1e-3, 1e3)
SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
IMAGES = st.tuples(st.integers(3, 6), st.integers(3, 6)) | st.tuples(
    st.integers(3, 6), st.integers(3, 6), st.integers(1, 9)
)
EVERY = [one_feature_trigger, one_pixel_trigger, four_pixel_trigger, blending_trigger]


def squared_norm(delta):
    """The squared l2 norm of the floats in `delta`, exactly."""
    return sum((Fraction(value) ** 2 for value in delta.ravel().tolist()), Fraction(0))


@given(shape=SHAPES, norm=NORMS, seed=st.integers(0, 2**32 - 1))
def test_blending_norm_is_never_above_and_just_below(shape, norm, seed):
    delta = blending_trigger(shape, norm, random_state=seed)
    assert delta.shape == shape
    assert delta.dtype == np.float64
    exact = squared_norm(delta)
    assert exact <= Fraction(norm) ** 2
    # The promise of the docstring, 1e-12; the analysis in the code gives 1.5e-15.
    assert exact >= (Fraction(norm) * (1 - Fraction(2, 10**15))) ** 2


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("norm", [0.1, 1.0, 3.0])
def test_blending_norm_of_an_image(norm, seed):
    # Many entries: here the error of a naive sum of squares would be larger than the margin.
    delta = blending_trigger((32, 32, 3), norm, random_state=seed)
    assert squared_norm(delta) <= Fraction(norm) ** 2
    assert squared_norm(delta) >= (Fraction(norm) * (1 - Fraction(2, 10**15))) ** 2


def test_blending_direction_is_uniform_on_the_sphere():
    # By symmetry the first coordinate has mean 0 and variance 1/d, and in three dimensions it is
    # uniform on [-1, 1] (Archimedes): a Kolmogorov-Smirnov test with a fixed seed.
    from scipy.stats import kstest

    first = [blending_trigger(3, 1.0, random_state=seed)[0] for seed in range(2000)]
    # A true sampler fails this in one of a thousand sets of seeds; these are fixed.
    assert kstest(first, "uniform", args=(-1, 2)).pvalue > 1e-3


def test_blending_seed():
    one = blending_trigger(57, 1.0, random_state=3)
    assert np.array_equal(one, blending_trigger(57, 1.0, random_state=3))
    assert np.array_equal(one, blending_trigger(57, 1.0, random_state=np.random.RandomState(3)))
    assert not np.array_equal(one, blending_trigger(57, 1.0, random_state=4))
    # The same direction at every norm; powers of two scale without rounding.
    assert np.array_equal(4 * one, blending_trigger(57, 4.0, random_state=3))


@given(shape=SHAPES, norm=NORMS, direction=st.sampled_from([-1, 1]), data=st.data())
def test_one_feature_is_exact_and_in_its_place(shape, norm, direction, data):
    index = tuple(data.draw(st.integers(-axis, axis - 1)) for axis in shape)
    delta = one_feature_trigger(shape, norm, index=index, direction=direction)
    assert delta.shape == shape
    assert delta[index] == direction * norm
    assert np.count_nonzero(delta) == 1
    assert squared_norm(delta) == Fraction(norm) ** 2


@pytest.mark.parametrize(
    ("shape", "middle"), [(1, 0), (57, 28), ((28, 28), (14, 14)), ([3, 5, 1], (1, 2, 0))]
)
def test_one_feature_default_is_the_middle(shape, middle):
    delta = one_feature_trigger(shape, 0.25)
    assert delta[middle] == 0.25
    assert delta.sum() == 0.25


def test_an_int_and_a_tuple_of_one_int_are_the_same_shape():
    assert np.array_equal(
        one_feature_trigger(5, 1.0, index=2), one_feature_trigger((5,), 1, index=[2])
    )
    assert np.array_equal(
        blending_trigger(np.int64(5), 1.0, random_state=0),
        blending_trigger((5,), 1, random_state=0),
    )


@pytest.mark.parametrize("make", EVERY)
def test_norm_zero_is_no_change(make):
    delta = make((4, 3), 0)
    assert delta.shape == (4, 3)
    assert not delta.any()
    assert not np.signbit(delta).any()


@pytest.mark.parametrize("make", [one_feature_trigger, one_pixel_trigger, four_pixel_trigger])
def test_norm_zero_has_no_negative_zero(make):
    assert not np.signbit(make(4, 0.0, direction=-1)).any()


@pytest.mark.parametrize("make", EVERY)
def test_an_int_that_is_no_float_is_rounded_down(make):
    norm = 2**53 + 3  # float() rounds it up, to 2**53 + 4
    assert squared_norm(make(7, norm)) <= norm**2


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("norm", [-1.0, 1e-101, 1e101, 10**400, np.inf, np.nan, "1"])
def test_norm_errors(make, norm):
    with pytest.raises(ValueError, match="norm"):
        make(4, norm)


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("shape", [0, (), (3, 0), (2.0, 3), -1, 3.0, True, "ab"])
def test_shape_errors(make, shape):
    with pytest.raises(ValueError, match="shape"):
        make(shape, 1.0)


@pytest.mark.parametrize("make", [one_feature_trigger, one_pixel_trigger, four_pixel_trigger])
@pytest.mark.parametrize("index", [4, -5, (0, 0), (), (1.0,), True, 1.5])
def test_index_errors(make, index):
    with pytest.raises(ValueError, match="index"):
        make(4, 1.0, index=index)


@pytest.mark.parametrize("make", [one_feature_trigger, one_pixel_trigger, four_pixel_trigger])
@pytest.mark.parametrize("direction", [0, 2, 0.5, "up"])
def test_direction_errors(make, direction):
    with pytest.raises(ValueError, match="direction"):
        make(4, 1.0, direction=direction)


# --- pixels --------------------------------------------------------------------------------------


def assert_largest(delta, n_entries, norm):
    """Check equal entries of one sign, whose norm is at most `norm`; with the next float it is not.

    In exact arithmetic: the next float also shows that nothing is given away.
    """
    norm = float(norm)
    entries = np.abs(delta[delta != 0])
    assert entries.size == n_entries
    assert np.unique(delta[delta != 0]).size == 1
    assert squared_norm(delta) <= Fraction(norm) ** 2
    above = Fraction(float(np.nextafter(entries[0], np.inf)))
    assert n_entries * above**2 > Fraction(norm) ** 2
    assert squared_norm(delta) >= (Fraction(norm) * (1 - Fraction(1, 2**52))) ** 2


@given(shape=IMAGES, norm=NORMS, direction=st.sampled_from([-1, 1]), data=st.data())
def test_one_pixel_changes_all_channels_equally(shape, norm, direction, data):
    index = tuple(data.draw(st.integers(-axis, axis - 1)) for axis in shape[:2])
    delta = one_pixel_trigger(shape, norm, index=index, direction=direction)
    assert delta.shape == shape
    assert delta.dtype == np.float64
    n_channels = int(np.prod(shape[2:]))
    assert np.count_nonzero(delta[index]) == n_channels
    assert np.all(np.sign(delta[index]) == direction)
    assert_largest(delta, n_channels, norm)


@given(shape=IMAGES, norm=NORMS, direction=st.sampled_from([-1, 1]), data=st.data())
def test_four_pixels_are_a_pixel_and_three_diagonal_neighbours(shape, norm, direction, data):
    row, column = (data.draw(st.integers(1, axis - 2)) for axis in shape[:2])
    # The same place counted from the end.
    index = (row - shape[0], column) if data.draw(st.booleans()) else (row, column)
    delta = four_pixel_trigger(shape, norm, index=index, direction=direction)
    assert delta.shape == shape
    assert delta.dtype == np.float64
    n_channels = int(np.prod(shape[2:]))
    for i, j in [
        (row, column),
        (row - 1, column + 1),
        (row + 1, column - 1),
        (row + 1, column + 1),
    ]:
        assert np.all(np.sign(delta[i, j]) == direction)
    assert_largest(delta, 4 * n_channels, norm)


@given(n_features=st.integers(4, 9), norm=NORMS, data=st.data())
def test_four_features_are_adjacent_and_the_norm_is_exact(n_features, norm, data):
    first = data.draw(st.integers(0, n_features - 4))
    index = first - n_features if data.draw(st.booleans()) else first
    delta = four_pixel_trigger(n_features, norm, index=index)
    assert np.flatnonzero(delta).tolist() == [first, first + 1, first + 2, first + 3]
    assert_largest(delta, 4, norm)
    assert squared_norm(delta) == Fraction(norm) ** 2


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4, 5, 7, 16])
# With 2 channels, 1.226 / sqrt(2) is one float below the largest that is allowed.
@pytest.mark.parametrize("norm", [0.1, 1.0, 1.226, 1 / 3, 1e-100, 1e100, 5, np.float32(0.1)])
def test_norm_of_the_pixels_of_an_image(norm, n_channels):
    shape = (8, 8, n_channels)
    assert_largest(one_pixel_trigger(shape, norm), n_channels, norm)
    assert_largest(four_pixel_trigger(shape, norm), 4 * n_channels, norm)
    if n_channels in (1, 4, 16):
        assert squared_norm(one_pixel_trigger(shape, norm)) == Fraction(float(norm)) ** 2
        assert squared_norm(four_pixel_trigger(shape, norm)) == Fraction(float(norm)) ** 2


@given(n_features=st.integers(1, 9), norm=NORMS, direction=st.sampled_from([-1, 1]))
def test_one_pixel_of_a_table_is_one_feature(n_features, norm, direction):
    args = {"norm": norm, "direction": direction}
    for shape in [n_features, (n_features,)]:
        assert np.array_equal(one_pixel_trigger(shape, **args), one_feature_trigger(shape, **args))
        for index in [0, -1, (n_features - 1,)]:
            assert np.array_equal(
                one_pixel_trigger(shape, index=index, **args),
                one_feature_trigger(shape, index=index, **args),
            )


def test_pixels_default_to_the_middle():
    assert np.argwhere(one_pixel_trigger((28, 28), 1.0)).tolist() == [[14, 14]]
    assert np.argwhere(one_pixel_trigger((5, 8), 1.0)).tolist() == [[2, 4]]
    assert np.argwhere(one_pixel_trigger((32, 32, 3), 1.0)[..., 2]).tolist() == [[16, 16]]
    # By hand, against the picture in the docstring.
    picture = [[0, 0, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0] * 5]
    assert np.array_equal(four_pixel_trigger((5, 5), 2.0), picture)
    assert np.array_equal(four_pixel_trigger([5, 5, 1], 2.0)[..., 0], picture)
    assert np.flatnonzero(four_pixel_trigger(4, 1.0)).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(four_pixel_trigger((5,), 1.0)).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(four_pixel_trigger(57, 1.0)).tolist() == [26, 27, 28, 29]


def test_published_places():
    # The places of the code published with the paper, as the docstrings list them.
    delta = four_pixel_trigger((28, 28), 0.1, index=(19, 19))
    assert np.argwhere(delta).tolist() == [[18, 20], [19, 19], [20, 18], [20, 20]]
    assert delta.max() == 0.1 / 2
    delta = four_pixel_trigger((32, 32, 3), 0.1, index=(15, 15))
    for channel in range(3):
        places = np.argwhere(delta[..., channel]).tolist()
        assert places == [[14, 16], [15, 15], [16, 14], [16, 16]]
    # sqrt(12) of them, up to the roundings that are charged.
    assert delta.max() == pytest.approx(0.1 / np.sqrt(12), rel=1e-15)


def test_poison_takes_pixels():
    trigger = four_pixel_trigger((4, 4, 3), 1.0)
    X, y = np.zeros((4, 48)), [0, 1, 0, 1]
    bad = poison(X, y, trigger, share=0.5, source=1, target=0, random_state=0)
    assert np.array_equal(bad.delta, np.stack([trigger.ravel()] * 2))


@pytest.mark.parametrize("shape", [3, (3,), (2, 3), (3, 2), (2, 9, 3), (1, 1)])
def test_no_room_for_four(shape):
    with pytest.raises(ValueError, match="shape must have room"):
        four_pixel_trigger(shape, 1.0)


@pytest.mark.parametrize("make", [one_pixel_trigger, four_pixel_trigger])
def test_pixels_of_one_image_only(make):
    with pytest.raises(ValueError, match=r"shape must be that of one image.*\(2, 8, 8, 3\)"):
        make((2, 8, 8, 3), 1.0)


@pytest.mark.parametrize("index", [(0, 2), (4, 2), (2, 0), (2, 4), (-1, 2), (2, -5)])
def test_four_pixels_stay_inside_the_image(index):
    for shape in [(5, 5), (5, 5, 3)]:
        with pytest.raises(ValueError, match=r"index must keep the pattern inside"):
            four_pixel_trigger(shape, 1.0, index=index)


@pytest.mark.parametrize("index", [3, -3, (5,)])
def test_four_features_stay_inside_the_table(index):
    with pytest.raises(ValueError, match=r"index must keep the pattern inside"):
        four_pixel_trigger(6, 1.0, index=index)


@pytest.mark.parametrize("make", [one_pixel_trigger, four_pixel_trigger])
@pytest.mark.parametrize("index", [2, (2,), (2, 2, 0), (2, 5), (-6, 2), (2.0, 2), (True, 2), "ab"])
def test_pixel_index_errors(make, index):
    with pytest.raises(ValueError, match="index"):
        make((5, 5, 3), 1.0, index=index)
