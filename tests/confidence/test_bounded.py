# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

from fractions import Fraction
from math import log, sqrt

import mpmath
import numpy as np
import pytest

from sksmooth.confidence import clopper_pearson, empirical_bernstein, hoeffding

from ._oracles import ERRORS


@pytest.mark.parametrize("error", ERRORS)
def test_hoeffding_is_eq_27_rounded_outwards(error):
    with mpmath.workdps(40):
        for k, n in [(0, 5), (3, 10), (10, 10), (990, 1000), (99_000, 100_000)]:
            width = mpmath.sqrt(mpmath.log(1 / mpmath.mpf(error)) / (2 * n))
            below, above = mpmath.mpf(k) / n - width, mpmath.mpf(k) / n + width
            lower = float(hoeffding((k, n), error=error))
            upper = float(hoeffding((k, n), error=error, side="upper"))
            # 16 + 4 epsilon of values of at most 1.1 are charged.
            assert max(below, 0) - 1e-14 <= lower <= max(below, 0)
            assert min(above, 1) <= upper <= min(above + 1e-14, 1)


def test_hoeffding_scores_are_averaged_over_the_last_axis():
    scores = np.random.default_rng(0).uniform(size=(3, 500))
    mean = [float(sum(map(Fraction, row)) / 500) for row in scores]
    width = sqrt(log(1 / 0.01) / 1000)
    lower = hoeffding(scores, error=0.01)
    # The charge for the sum: n epsilon = 1.1e-13.
    np.testing.assert_allclose(lower, np.array(mean) - width, rtol=0, atol=2e-13)
    assert np.all(lower <= np.array(mean) - width)
    upper = hoeffding(scores, error=0.01, side="upper")
    np.testing.assert_allclose(upper, np.array(mean) + width, rtol=0, atol=2e-13)


def test_hoeffding_is_never_sharper_than_clopper_pearson():
    # The proof that "selection" is valid with Hoeffding rests on this.
    k = np.arange(201)
    for error in [*ERRORS, 1e-9]:
        assert np.all(hoeffding((k, 200), error=error) <= clopper_pearson((k, 200), error=error))
        upper = hoeffding((k, 200), error=error, side="upper")
        assert np.all(upper >= clopper_pearson((k, 200), error=error, side="upper"))


# --- empirical_bernstein -------------------------------------------------------------------------


def theorem_4(draws, error, sign):
    """Maurer and Pontil's Theorem 4 from pairs of draws, with 40 digits."""
    n = len(draws)
    x = [Fraction(float(v)) for v in draws]
    mean = sum(x) / n
    variance = sum((a - b) ** 2 for i, a in enumerate(x) for b in x[:i]) / (n * (n - 1))
    with mpmath.workdps(40):
        log_term = mpmath.log(2 / mpmath.mpf(error))
        variance = mpmath.mpf(variance.numerator) / variance.denominator
        width = mpmath.sqrt(2 * variance * log_term / n)
        width += 7 * log_term / (3 * (n - 1))
        value = mpmath.mpf(mean.numerator) / mean.denominator + sign * width
        return min(max(value, mpmath.mpf(0)), mpmath.mpf(1))


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("n", [2, 25, 120])
def test_empirical_bernstein_is_theorem_4_rounded_outwards(n, error):
    rng = np.random.default_rng(n)
    narrow = 0.9 + 0.01 * rng.uniform(size=n)
    rows = np.stack([rng.uniform(size=n), narrow, rng.integers(0, 2, n), np.full(n, 0.3)])
    lower = empirical_bernstein(rows, error=error)
    upper = empirical_bernstein(rows, error=error, side="upper")
    for row, low, high in zip(rows, lower.tolist(), upper.tolist(), strict=True):
        # 16 + 2 n epsilon of values of at most 1 are charged; far below for n = 120.
        assert theorem_4(row, error, -1) - 1e-13 <= low <= theorem_4(row, error, -1)
        assert theorem_4(row, error, +1) <= high <= theorem_4(row, error, +1) + 1e-13
    assert np.any(lower > 0) or n < 120


def test_empirical_bernstein_knows_the_variance_of_zeros_and_ones_from_their_count():
    k = np.arange(61)
    draws = (np.arange(60) < k[:, np.newaxis]).astype(float)
    for side, sign in (("lower", -1), ("upper", 1)):
        counted = empirical_bernstein((k, 60), error=0.05, side=side)
        # One rounding by the mean of the draws more than by the count.
        np.testing.assert_allclose(
            counted, empirical_bernstein(draws, error=0.05, side=side), rtol=0, atol=1e-14
        )
        for count in (0, 1, 30, 59, 60):
            exact = theorem_4(draws[count], 0.05, sign)
            assert 0 <= sign * (counted[count] - exact) <= 1e-14


def test_empirical_bernstein_loses_nothing_by_cancellation():
    # About a mean of 1 - 1e-9, the difference of E X^2 and (E X)^2 would be noise,
    # of 1e-9 in the bound. The sum's own charge is 100 epsilon.
    draws = 1.0 - np.array([1e-9, 3e-9] * 50)
    exact = theorem_4(draws, 0.4, -1)
    assert exact - 1e-13 <= empirical_bernstein(draws, error=0.4) <= exact


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_empirical_bernstein_is_narrower_than_hoeffding_where_scores_vary_little(side):
    scores = np.random.default_rng(0).beta(80, 20, size=1000)
    width = abs(empirical_bernstein(scores, error=0.001, side=side) - scores.mean())
    assert width < 0.6 * abs(hoeffding(scores, error=0.001, side=side) - scores.mean())
    # And wider where they vary as much as they can.
    k, n = 500, 1000
    width = abs(empirical_bernstein((k, n), error=0.001, side=side) - k / n)
    assert width > abs(hoeffding((k, n), error=0.001, side=side) - k / n)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((0, 1), "at least 2 draws for a variance; got 1"),
        (([3, 1], [10, 1]), "at least 2 draws"),
        ([0.5], "at least 2 draws"),
        ((1.5, 3), "whole numbers of successes"),
    ],
)
def test_empirical_bernstein_refuses(data, message):
    with pytest.raises(ValueError, match=message):
        empirical_bernstein(data, error=0.1)
