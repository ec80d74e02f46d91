# SPDX-License-Identifier: BSD-3-Clause
"""What every noise promises, whatever its distribution."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sksmooth.smoothing as smoothing
from sksmooth.exceptions import InvalidBoundError
from sksmooth.smoothing._bounds import log_bounds, ordered_log_bounds

from ._noises import NOISES
from ._oracles import mp

every_noise = pytest.mark.parametrize("case", NOISES)
ROWS = np.array([0.0, 0.3, 0.5, 0.55, 0.8, 0.99, 0.9999, 1.0])


def radius(case, *args, **kwargs):
    return case.noise.radius(*args, **kwargs, **case.radius_options)


def trade_off(case, *args):
    return case.noise.trade_off(*args, **case.trade_off_options)


def arrays(data):
    return data if isinstance(data, tuple) else (data,)


def test_every_public_noise_is_in_the_list():
    listed = {type(parameter.values[0].noise).__name__ for parameter in NOISES}
    assert listed == set(smoothing.__all__)
    assert smoothing.__all__ == sorted(smoothing.__all__)


@every_noise
def test_is_a_frozen_value(case):
    assert pickle.loads(pickle.dumps(case.noise)) == case.noise
    assert copy.deepcopy(case.noise) == case.noise
    assert hash(case.noise) == hash(copy.deepcopy(case.noise))
    assert eval(repr(case.noise), vars(smoothing)) == case.noise
    name = dataclasses.fields(case.noise)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(case.noise, name, 0.1)


@every_noise
def test_draw_returns_a_copy_that_the_seed_determines(case):
    before = copy.deepcopy(case.data)
    first = case.noise.draw(case.data, np.random.default_rng(1))
    again = case.noise.draw(case.data, np.random.default_rng(1))
    other = case.noise.draw(case.data, np.random.default_rng(2))
    for a, b, x, y in zip(
        arrays(first), arrays(again), arrays(case.data), arrays(before), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(x, y)
        assert a.shape == x.shape and a.dtype == x.dtype
        assert not np.shares_memory(a, x)
    assert any((a != b).any() for a, b in zip(arrays(first), arrays(other), strict=True))


@every_noise
def test_dtype_range_and_abstention(case):
    radii = radius(case, ROWS)
    assert radii.dtype == (np.int64 if case.integer else np.float64)
    assert np.isfinite(radii).all()
    assert ((radii == -1) | (radii >= 0)).all()
    assert (radii[ROWS <= 0.5] == -1).all()  # p_a <= 1 - p_a
    assert radii[-1] > 0  # p_a = 1.0, and still finite
    assert (radius(case, [0.4, 0.3, 0.2], [0.4, 0.4, 0.3]) == -1).all()  # p_a <= p_b


@every_noise
def test_scalars_lists_and_rows_agree(case):
    together = radius(case, ROWS)
    for p, r in zip(ROWS, together, strict=True):
        assert radius(case, float(p)) == r
        assert np.shape(radius(case, float(p))) == ()
    assert radius(case, ROWS.reshape(2, 4)).tolist() == together.reshape(2, 4).tolist()
    assert radius(case, []).shape == (0,)


@every_noise
def test_p_b_is_capped_by_the_tail_and_never_ignored(case):
    p_a = np.array([0.9, 0.99])
    alone = radius(case, p_a)
    np.testing.assert_array_equal(radius(case, p_a, [1.0, 0.5]), alone)
    # 0.01 is a few spacings below 1 - 0.99
    np.testing.assert_allclose(radius(case, p_a, [0.1, 0.01]), alone, rtol=1e-12)
    assert (radius(case, p_a, [1e-9, 1e-12]) > alone).all()
    # a smaller tail_a is used instead of the subtraction, for p_b too
    assert (radius(case, p_a, tail_a=[1e-9, 1e-12]) > radius(case, p_a, [1e-9, 1e-12])).all()


@every_noise
def test_radius_from_log_is_what_radius_uses(case):
    tail, p_b = np.array([0.5, 0.1, 1e-3, 1e-30]), np.array([0.2, 0.03, 1e-5, 1e-40])
    direct = radius(case, 1.0 - tail, p_b, tail_a=tail)
    logs = case.noise.radius_from_log(np.log(tail), np.log(p_b), **case.radius_options)
    # log_upper moves the logarithm by a few spacings
    np.testing.assert_allclose(direct, logs, rtol=1e-12)


@every_noise
@pytest.mark.parametrize(
    ("tail_a", "p_b"), [(0.02, 0.02), (0.02, 0.001), (0.3, 1e-7), (1e-6, 1e-6), (0.45, 1e-3)]
)
def test_radius_is_where_the_trade_off_says(case, tail_a, p_b):
    # Certified iff trade_off(tail_a) + trade_off(p_b) > 1; 1e-9 for the accuracy of trade_off.
    r = radius(case, 1.0 - tail_a, p_b, tail_a=tail_a)
    beyond = r + 1 if case.integer else (r + 1e-6 if r >= 0 else 0.0)
    if r >= 0:
        assert trade_off(case, tail_a, r) + trade_off(case, p_b, r) > 1.0 - 1e-9
    total = trade_off(case, tail_a, beyond) + trade_off(case, p_b, beyond)
    assert total < 1.0 + 1e-9


@every_noise
def test_trade_off_is_a_trade_off(case):
    alpha = np.linspace(0.0, 1.0, 41)[:, None]
    sizes = np.arange(4) if case.integer else np.linspace(0.0, 1.2, 4)
    beta = trade_off(case, alpha, sizes)
    assert beta.shape == (41, 4)
    if not case.trade_off_options:  # with flips, size 0 is not "no change"
        np.testing.assert_allclose(beta[:, 0], 1.0 - alpha[:, 0], atol=1e-14)
    assert (beta <= 1.0 - alpha + 1e-14).all() and (beta >= 0.0).all()
    assert (np.diff(beta, axis=0) <= 1e-14).all()  # falls with alpha
    assert (np.diff(beta, axis=0, n=2) >= -1e-13).all()  # convex
    assert (np.diff(beta, axis=1) <= 1e-14).all()  # falls with the change


@every_noise
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_radii_rise_as_bounds_tighten(case, data):
    log_tails = st.floats(-60.0, -0.01)
    a = sorted(data.draw(st.tuples(log_tails, log_tails)))
    b = sorted(data.draw(st.tuples(log_tails, log_tails)))
    log_a, log_b = [a[0], a[1], a[0]], [b[0], b[0], b[1]]
    radii = case.noise.radius_from_log(log_a, log_b, **case.radius_options)
    # 1e-9: two floats of nearly equal bounds may be rounded differently
    assert radii[0] >= radii[1] - 1e-9
    assert radii[0] >= radii[2] - 1e-9


@every_noise
def test_rows_poisoned_share_the_radius(case):
    p_a = [0.9, 0.999, 0.4, 1.0]
    one, four = radius(case, p_a, n_poisoned=1), radius(case, p_a, n_poisoned=4)
    np.testing.assert_allclose(one, radius(case, p_a), rtol=1e-15)
    if case.integer:
        np.testing.assert_array_equal(four, radius(case, p_a) // 4)
    elif not isinstance(case.noise, smoothing.UniformNoise):  # its own formula: test_uniform
        np.testing.assert_allclose(four, np.where(one > 0, one / 2.0, one), rtol=1e-14)
        # never above R / sqrt(n), whichever way the quotient rounds
        for n in (2, 3, 5, 6, 7):
            rows = radius(case, p_a, n_poisoned=n)
            for row, whole in zip(rows[one > 0], radius(case, p_a)[one > 0], strict=True):
                assert n * Fraction(float(row)) ** 2 <= Fraction(float(whole)) ** 2
    for bad in (0, -1, 1.5, True, "2", 2**53 + 1, 2**63, 10**400):
        with pytest.raises(ValueError, match="n_poisoned must be an integer of at least 1 and"):
            radius(case, p_a, n_poisoned=bad)


@every_noise
@pytest.mark.parametrize("bad", [-1e-9, 1.0000001, np.nan, np.inf])
def test_bad_probabilities_are_refused(case, bad):
    with pytest.raises(InvalidBoundError, match=r"p_a must lie in \[0, 1\]. Got .* at position 1"):
        radius(case, [0.9, bad])
    with pytest.raises(InvalidBoundError, match="p_b must lie in"):
        radius(case, [0.9, 0.9], [0.1, bad])
    with pytest.raises(InvalidBoundError, match="tail_a must lie in"):
        radius(case, 0.9, tail_a=bad)
    with pytest.raises(InvalidBoundError, match="type_1_error must lie in"):
        trade_off(case, bad, 1)


@every_noise
def test_tails_without_a_floor_are_refused(case):
    with pytest.raises(InvalidBoundError, match="positive floor"):
        radius(case, 0.9, 0.0)
    with pytest.raises(InvalidBoundError, match="positive floor"):
        radius(case, 0.9, tail_a=0.0)
    for bad in (-np.inf, np.nan, 1e-9):
        with pytest.raises(InvalidBoundError, match="log_tail_a must be finite and at most 0"):
            case.noise.radius_from_log([-1.0, bad], **case.radius_options)
        with pytest.raises(InvalidBoundError, match="log_p_b must be finite and at most 0"):
            case.noise.radius_from_log(-1.0, bad, **case.radius_options)


@every_noise
def test_bad_sizes_are_refused(case):
    for bad in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="size must"):
            trade_off(case, 0.1, bad)


@every_noise
def test_other_kinds_of_values_are_refused(case):
    for bad in ("0.9", ["0.9"], True, [True], 0.9j, None, [None]):
        with pytest.raises(InvalidBoundError, match="p_a must hold real numbers"):
            radius(case, bad)
        with pytest.raises(InvalidBoundError, match="tail_a must hold real numbers"):
            radius(case, 0.9, tail_a=[bad])
        with pytest.raises(InvalidBoundError, match="p_b must hold real numbers"):
            radius(case, 0.9, [bad])
        with pytest.raises(InvalidBoundError, match="log_tail_a must hold real numbers"):
            case.noise.radius_from_log(bad, **case.radius_options)
        with pytest.raises(InvalidBoundError, match="type_1_error must hold real numbers"):
            trade_off(case, bad, 1)
        with pytest.raises(ValueError, match="size must"):
            trade_off(case, 0.1, bad)


@every_noise
def test_shapes_broadcast_or_are_refused(case):
    p_a, tails = [0.9, 0.8, 0.7], [0.1, 0.05]
    one = radius(case, 0.9, tail_a=0.1).tolist()
    assert radius(case, p_a, tail_a=0.1).tolist() == [one] * 3
    assert radius(case, p_a, [0.1] * 3, tail_a=0.1).tolist() == [one] * 3
    assert (
        radius(case, 0.9, tail_a=tails).tolist() == radius(case, [0.9] * 2, tail_a=tails).tolist()
    )
    grid = radius(case, np.array(p_a)[:, None], tail_a=tails)
    assert grid.tolist() == [radius(case, 0.9, tail_a=tails).tolist()] * 3
    for args, shapes in [
        ((p_a, None, tails), r"p_a of shape \(3,\), tail_a of shape \(2,\)"),
        ((p_a, tails, None), r"p_a of shape \(3,\), p_b of shape \(2,\)"),
        ((0.9, p_a, tails), r"tail_a of shape \(2,\), p_b of shape \(3,\)"),
    ]:
        with pytest.raises(InvalidBoundError, match=shapes):
            radius(case, args[0], args[1], tail_a=args[2])
    with pytest.raises(InvalidBoundError, match=r"log_tail_a of shape .* log_p_b of shape"):
        case.noise.radius_from_log([-1.0] * 3, [-2.0] * 2, **case.radius_options)


@given(st.floats(0.0, 1.0), st.sampled_from([1.0, 1e-6, 1e-12, 1e-16, 1e-300]))
def test_the_tail_is_rounded_up_whatever_p_a(p_a, factor):
    for p in (p_a * factor, 1.0 - p_a * factor):
        # in 400 digits, so that 1 - p is exact
        with mp.workdps(400):
            exact = mp.log1p(-mp.mpf(p)) if p < 1.0 else -mp.inf
            assert exact <= float(log_bounds(p, None, None)[0])
    assert float(log_bounds(1.0, None, None)[0]) >= -53 * float(mp.log(2))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble])
@given(value=st.floats(1e-3, 1.0 - 1e-9))
def test_bounds_of_other_float_types_cover_what_may_have_been_rounded_to_them(dtype, value):
    # the bounds were some float64 and lost digits on their way: the answer holds for that float64
    rounded = np.asarray(value).astype(dtype)
    if dtype == np.longdouble:  # here the digits are lost on the way to float64
        rounded = rounded + np.finfo(dtype).eps
    exact = Fraction(*rounded.item().as_integer_ratio())
    if dtype != np.longdouble:
        exact = Fraction(value)

    def log(x):
        return mp.log(mp.mpf(x.numerator) / x.denominator)

    assert log(1 - exact) <= float(log_bounds(rounded, None, None)[0])
    assert log(exact) <= float(log_bounds(0.0, None, rounded)[0]) <= 0.0
    assert min(log(exact), log(1 - exact)) <= float(log_bounds(rounded, rounded, None)[1])
    log_value = float(np.log(value))
    stored = np.asarray(log_value).astype(dtype)
    logs = ordered_log_bounds(stored, stored)
    assert log_value <= float(logs[0]) <= 0.0 and log_value <= float(logs[1]) <= 0.0


@every_noise
def test_a_float32_that_rounds_to_one_has_the_tail_of_its_type(case):
    p_a = np.float32(1.0 - 1e-9)
    assert p_a == 1.0
    assert radius(case, p_a) == radius(case, 0.9, tail_a=np.nextafter(2.0**-24, 1.0))
    assert radius(case, np.float32(0.0)) == radius(case, np.float32(0.5)) == -1
    np.testing.assert_array_equal(radius(case, [0, 1]), radius(case, [0.0, 1.0]))  # integers
