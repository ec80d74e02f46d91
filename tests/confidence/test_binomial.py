# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from sksmooth.confidence import (
    clopper_pearson,
    probability_bounds,
)

from ._oracles import ERRORS, tail_at_least, tail_at_least_mp


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 60])
def test_clopper_pearson_lower_defining_inequality_in_exact_arithmetic(n, error):
    k = np.arange(n + 1)
    lower = clopper_pearson((k, n), error=error)
    assert lower[0] == 0
    for count, x in zip(k[1:], lower[1:], strict=True):
        exact = tail_at_least(int(count), n, float(x))
        # One-sided without tolerance; the other side allows the two documented charges of
        # 1e-9 + 1e-15 n each, with a factor 2 of room.
        assert exact <= Fraction(error)
        assert exact >= Fraction(error * (1 - 4.1e-9))


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 60])
def test_clopper_pearson_upper_defining_inequality_in_exact_arithmetic(n, error):
    k = np.arange(n + 1)
    upper = clopper_pearson((k, n), error=error, side="upper")
    assert upper[-1] == 1
    for count, x in zip(k[:-1], upper[:-1], strict=True):
        # P(Bin(n, x) <= k) = P(Bin(n, 1 - x) >= n - k), and 1 - Fraction(x) is exact.
        exact = tail_at_least(n - int(count), n, 1 - Fraction(float(x)))
        assert exact <= Fraction(error)
        assert exact >= Fraction(error * (1 - 4.1e-9))


@pytest.mark.parametrize("error", [0.05, 5e-4, 1e-6, 1e-12, 1e-30, 1e-100])
@pytest.mark.parametrize(
    ("k", "n"),
    [
        (600, 1000),
        (999, 1000),
        (1000, 1000),
        (20, 100_000),
        (50_300, 100_000),
        (99_000, 100_000),
        (99_999, 100_000),
        (100_000, 100_000),
    ],
)
def test_clopper_pearson_large_n_against_mpmath(k, n, error):
    lower = float(clopper_pearson((k, n), error=error))
    exact = tail_at_least_mp(k, n, lower)
    assert error * (1 - 5e-9) <= exact <= error
    # The tail, as the upper bound of the n - k others: 1 - tail is formed with 50 digits.
    tail = float(clopper_pearson((n - k, n), error=error, side="upper"))
    with mpmath.workdps(50):
        exact = tail_at_least_mp(k, n, 1 - mpmath.mpf(tail))
    # Next to 1 a float step of 2**-53 matters: d log(exact) / d log(1 - tail) is at most k.
    assert error * (1 - 5e-9 - k * 2.0**-52 / lower) <= exact <= error


def test_clopper_pearson_from_draws_counts_along_the_last_axis():
    draws = np.array([[0, 1, 1, 1], [0, 0, 0, 1]], dtype=bool)
    np.testing.assert_array_equal(
        clopper_pearson(draws, error=0.1), clopper_pearson(([3, 1], 4), error=0.1)
    )
    with pytest.raises(ValueError, match="hard votes"):
        clopper_pearson([0.5, 0.5, 1.0], error=0.1)


def test_bisection_takes_over_from_a_bad_quantile(monkeypatch):
    from sksmooth.confidence import _binomial

    cases = (np.array([3, 400, 999]), np.array([10, 1000, 1000]))
    expected = {s: clopper_pearson(cases, error=0.01, side=s) for s in ("lower", "upper")}
    for wrong in (np.nan, 0.0, 1.0):
        monkeypatch.setattr(_binomial, "_quantile", lambda f, q, a, b, w=wrong: np.full_like(q, w))
        lower = clopper_pearson(cases, error=0.01)
        upper = clopper_pearson(cases, error=0.01, side="upper")
        # A wrong value on the safe side is confirmed and kept; one on the other side is replaced.
        if wrong == 0.0:
            np.testing.assert_array_equal(lower, 0.0)
        else:
            np.testing.assert_allclose(lower, expected["lower"], rtol=1e-8)
            assert all(
                tail_at_least(int(k), int(n), float(x)) <= Fraction(0.01)
                for k, n, x in zip(*cases, lower, strict=True)
            )
        if wrong == 1.0:
            np.testing.assert_array_equal(upper, 1.0)
        else:
            np.testing.assert_allclose(upper, expected["upper"], rtol=1e-8)


def test_clopper_pearson_stops_where_it_was_verified():
    assert clopper_pearson((5_000_000, 10_000_000), error=0.01) < 0.5
    with pytest.raises(ValueError, match="verified for n_drawn up to 10000000; got 1e"):
        clopper_pearson((5_000_000, 10_000_001), error=0.01)
    with pytest.raises(ValueError, match="verified for n_drawn up to 10000000"):
        clopper_pearson(([1, 5], [10, 10_000_001]), error=0.01, side="upper")
    with pytest.raises(ValueError, match="verified for n_drawn up to 10000000"):
        probability_bounds([[10_000_000, 1]])
    assert probability_bounds([[10_000_000, 1]], bound="hoeffding").p_a[0] > 0.999
