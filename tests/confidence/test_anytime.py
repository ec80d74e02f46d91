# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy.stats import binom

from sksmooth.confidence import anytime, clopper_pearson


def mixture(total, n, m):
    """M_n(m): the integral over the bets, by quadrature about the maximum of the integrand."""
    with mpmath.workdps(25):
        total, n, m = mpmath.mpf(total), mpmath.mpf(n), mpmath.mpf(m)
        peak = min(max((total / n - m) / (1 - m), mpmath.mpf(0)), mpmath.mpf(1))
        width = mpmath.sqrt(total / n * (1 - total / n) / n + 1 / n**2) / (1 - m)
        ends = {mpmath.mpf(0), mpmath.mpf(1)}
        ends |= {peak + z * width for z in (-12, -4, 0, 4, 12, 40)}
        return mpmath.quad(
            lambda u: mpmath.exp(
                total * mpmath.log1p(u * (1 - m) / m)
                + ((n - total) * mpmath.log1p(-u) if n > total else 0)
            ),
            sorted(z for z in ends if 0 <= z <= 1),
        )


CASES = [
    (1, 2),
    (2, 2),
    (0.5, 1),
    (7.25, 10),
    (3, 40),
    (39.5, 40),
    (600, 1000),
    (990.3, 1000),
    (5, 1000),
    (50_500, 100_000),
    (99_990, 100_000),
]


@pytest.mark.parametrize(
    ("total", "n", "error"),
    [(*case, error) for case in CASES for error in (0.4, 0.0005)] + [(990.3, 1000, 1e-30)],
)
def test_anytime_solves_the_integral(total, n, error):
    lower = float(anytime((total, n), error=error))
    # One-sided without tolerance, as the integral is good to 1e-9 and the charges are above that:
    # 16 eps of terms of some 1e3, and 1e-9 of the other tail. They move the bound by less than a
    # relative 1e-6, over which log M falls by more than 1e-6 S.
    assert lower > 0
    assert mixture(total, n, lower) >= 1 / mpmath.mpf(error)
    assert mixture(total, n, lower * (1 + 1e-6)) < 1 / mpmath.mpf(error)
    # The failures' upper bound says the same; the distances from it are those of one rounding.
    upper = float(anytime((n - total, n), error=error, side="upper"))
    with mpmath.workdps(30):
        assert mixture(total, n, 1 - mpmath.mpf(upper)) >= 1 / mpmath.mpf(error)
    assert abs(1 - upper - lower) < 1e-8


@pytest.mark.parametrize("n", [1, 2, 11, 60])
def test_unanimous_votes_in_rational_arithmetic(n):
    # M_n(m) = (1 + m + ... + m^n) / ((n + 1) m^n).
    for error in (0.05, 0.0005):
        x = Fraction(float(anytime((n, n), error=error)))
        for m, reached in ((x, True), (x * (1 + Fraction(1, 10**7)), False)):
            capital = sum(m**j for j in range(n + 1)) / ((n + 1) * m**n)
            assert (capital >= 1 / Fraction(error)) == reached
        assert anytime((0, n), error=error) == 0
        assert anytime((n, n), error=error, side="upper") == 1
        upper = Fraction(float(anytime((0, n), error=error, side="upper")))
        # Two roundings of one statement: below 1e-8 of the distance, see `beta_slack`.
        assert abs(1 - upper - x) < Fraction(1, 10**8)
        assert 0 < upper < 1


def test_bounds_of_many_draws_stay_inside_what_they_must_contain():
    for total in (0, 3, 5_000_000, 9_999_990, 10_000_000):
        lower = anytime((total, 10_000_000), error=0.001)
        upper = anytime((total, 10_000_000), error=0.001, side="upper")
        exact = clopper_pearson((total, 10_000_000), error=0.001)
        assert 0 <= lower <= exact <= total / 1e7 <= upper <= 1
    assert anytime((0, 10_000_000), error=0.001, side="upper") < 3e-6
    with pytest.raises(ValueError, match="verified for n_drawn up to 10000000"):
        anytime((0, 10_000_001), error=0.001)


def test_draws_and_sums_say_the_same_and_errors_broadcast():
    draws = np.random.default_rng(0).uniform(size=(4, 1, 300))
    error = np.array([0.1, 0.001])
    for side in ("lower", "upper"):
        got = anytime(draws, error=error, side=side)
        assert got.shape == (4, 2)
        # The charge for the sum: 300 epsilon.
        expected = anytime((draws.sum(axis=-1), 300), error=error, side=side)
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert np.all(anytime(draws, error=error) <= anytime((draws.sum(axis=-1), 300), error=error))
    assert anytime((np.zeros(0), 5), error=0.1).shape == (0,)
    assert anytime([1, 0, 1], error=0.1).shape == ()


def paths(p, runs, n, seed):
    """Successes after each of n draws."""
    return np.cumsum(np.random.default_rng(seed).uniform(size=(runs, n)) < p, axis=1)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("side", ["lower", "upper"])
def test_looking_after_every_draw_keeps_the_level(p, side):
    # The adversary stops at the first false bound.
    runs, n, error = 2000, 150, 0.1
    k, drawn = paths(p, runs, n, seed=1), np.arange(1, n + 1)
    bound = anytime((k, drawn), error=error, side=side)
    wrong = np.any(bound > p if side == "lower" else bound < p, axis=1).sum()
    # A valid bound fails this with probability at most 1e-6 for a fresh seed.
    assert wrong <= binom.isf(1e-6, runs, error)
    # The level is put to use: far fewer would be a bound for something else.
    assert wrong >= 0.1 * error * runs
    # A bound for one look, used so, is wrong far more often.
    if p == 0.5 and side == "lower":
        pairs, back = np.unique(
            np.column_stack([k.reshape(-1), np.tile(drawn, runs)]), axis=0, return_inverse=True
        )
        once = clopper_pearson((pairs[:, 0], pairs[:, 1]), error=error, side=side)
        once = once[back.reshape(-1)].reshape(k.shape)
        assert np.any(once > p if side == "lower" else once < p, axis=1).sum() > 2 * error * runs


def test_looking_after_every_draw_at_scores_keeps_the_level():
    runs, n, error = 500, 100, 0.1
    draws = np.random.default_rng(5).choice([0.1, 0.9], p=[0.75, 0.25], size=(runs, n))
    total = np.cumsum(draws, axis=1)
    bound = anytime((total, np.arange(1, n + 1)), error=error)
    wrong = np.any(bound > 0.3, axis=1).sum()
    assert wrong <= binom.isf(1e-6, runs, error)
