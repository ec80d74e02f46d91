# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sksmooth.smoothing._rounding import (
    EPS,
    elementary_lower,
    elementary_upper,
    log_ndtr,
    log_upper,
    normal_isf_lower,
    sqrt_upper,
)

from ._oracles import log_ndtr as exact_log_ndtr
from ._oracles import mp

LOG_TAILS = -np.concatenate(
    [np.logspace(-300, -20, 29), np.logspace(-19, 5, 300), np.logspace(6, 300, 50)]
)

# where the quantile is near 0 and the library's may lie on either side of the exact one
NEAR_HALF = -0.6931471805599453 + np.concatenate(
    [2.0**-53 * np.arange(-60, 61), [s * x for s in (-1, 1) for x in np.logspace(-14, -2, 60)]]
)


def isf(log_p, start):
    """Invert the survival function at 60 digits by Newton's method in log space."""
    x, log_p = mp.mpf(start), mp.mpf(log_p)
    for _ in range(8):
        value = exact_log_ndtr(-x)
        x += (value - log_p) / (mp.exp(-x * x / 2 - value) / mp.sqrt(2 * mp.pi))
    return x


def test_isf_is_below_the_exact_quantile_and_close():
    for log_p, lower in zip(LOG_TAILS, normal_isf_lower(LOG_TAILS), strict=True):
        if log_p < -1e12:  # erfc of mpmath is slow there; the exact value is close to sqrt
            assert 0.999999 * math.sqrt(-2 * log_p) < lower < math.sqrt(-2 * log_p)
            continue
        gap = isf(log_p, lower) - mp.mpf(float(lower))
        # 8 + 4 EPS are charged; the quantile is steep in log p by less than 2 where p is near 1
        assert 0 < gap < 60 * EPS * max(abs(lower), 1.0), log_p


def test_isf_is_below_the_exact_quantile_near_one_half():
    for log_p, lower in zip(NEAR_HALF, normal_isf_lower(NEAR_HALF), strict=True):
        # the steps down are of EPS, not of EPS times the tiny quantile
        assert 0 < isf(log_p, lower) - mp.mpf(float(lower)) < 30 * EPS, log_p


def test_log_ndtr_is_as_accurate_as_charged():
    # The charge: 8 EPS of the value plus what 4 EPS of the argument do. Half of it is asserted.
    for x in np.concatenate([-np.logspace(-3, 5, 200), np.logspace(-3, 1.56, 100)]):
        value = mp.mpf(float(log_ndtr(x)))
        shifted = [
            exact_log_ndtr(mp.mpf(float(x)) * (1 + sign * mp.mpf(2 * EPS))) for sign in (-1, 1)
        ]
        low, high = min(shifted), max(shifted)
        assert low * (1 + 4 * EPS) <= value <= high * (1 - 4 * EPS), x


@given(st.floats(1e-300, 1.0))
def test_log_upper_is_above(p):
    assert mp.log(mp.mpf(p)) <= float(log_upper(p)) <= 0.0


@given(st.floats(-30.0, 30.0))
def test_elementary_functions_stay_within_the_charge(x):
    for function, exact in [(np.exp, mp.exp), (np.expm1, mp.expm1)]:
        value = function(x)
        assert float(elementary_lower(value)) < exact(mp.mpf(x)) < float(elementary_upper(value))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 10**6, 2**52 - 1, 2**52, 2**60 + 7, 10**40])
def test_sqrt_upper_is_above(n):
    assert 0 < mp.mpf(sqrt_upper(n)) - mp.sqrt(n) < 4 * EPS * mp.sqrt(n)
