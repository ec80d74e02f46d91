# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

from math import log, log1p, sqrt

import mpmath
import numpy as np
import pytest

from sksmooth.confidence import _betting as module
from sksmooth.confidence import betting, hoeffding

C = 0.75  # share of the capital at stake in a draw of 0, as documented beside the constant


def bets(draws, error):
    """The bets of the Notes, draw by draw: that of draw t is made before it is read."""
    n, made = len(draws), []
    total, squares = 0.5, 0.25
    for t, x in enumerate(draws, start=1):
        made.append(sqrt(2 * log(1 / error) / (n * squares / t)))
        total += x
        squares += (x - total / (t + 1)) ** 2
    return made


def log_capital(draws, made, m):
    """Greatest log K_t(m) over t."""
    best, current = -float("inf"), 0.0
    for x, bet in zip(draws, made, strict=True):
        current += log1p(min(bet, C / m) * (x - m))
        best = max(best, current)
    return best


def slow_lower(draws, error):
    made, good, bad = bets(draws, error), 0.0, 1.0
    for _ in range(50):
        middle = (good + bad) / 2
        if log_capital(draws, made, middle) >= log(1 / error):
            good = middle
        else:
            bad = middle
    return good


def kinds(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "uniform": rng.uniform(size=n),
        "narrow": rng.beta(80, 20, size=n),
        "near 1": rng.beta(99, 1, size=n),
        "near 0": rng.beta(1, 99, size=n),
        "votes": (rng.uniform(size=n) < 0.6).astype(float),
        "ones": np.ones(n),
        "zeros": np.zeros(n),
        "falling": np.linspace(1, 0, n),
    }


@pytest.mark.parametrize("error", [0.4, 0.001, 1e-12])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 300])
def test_betting_is_the_loop_over_draws(n, error):
    for name, draws in kinds(n).items():
        # The bisection stops within 1e-12 below the bound.
        expected = slow_lower(draws.tolist(), error)
        got = float(betting(draws, error=error))
        assert expected - 2e-12 <= got <= expected + 1e-13, name
        expected = 1 - slow_lower((1 - draws).tolist(), error)
        got = float(betting(draws, error=error, side="upper"))
        assert expected - 1e-13 <= got <= expected + 2e-12, name


def test_maximum_over_time_counts_and_so_does_the_order():
    # Ones, then zeros: the capital is greatest in the middle.
    draws = np.repeat([1.0, 0.0], 100)
    made = bets(draws.tolist(), 0.05)
    bound = float(betting(draws, error=0.05))
    at_the_end = sum(
        log1p(min(b, C / bound) * (x - bound)) for x, b in zip(draws, made, strict=True)
    )
    assert at_the_end < 0 < log_capital(draws.tolist(), made, bound)
    assert bound > float(betting(draws[::-1], error=0.05)) + 0.1


def test_capital_at_the_bound_with_50_digits():
    # Without tolerance: what is returned has reached 1 / error with the bets that were made.
    error = np.array([0.3, 0.001, 1e-30])
    for draws in kinds(1000, seed=1).values():
        lower = betting(draws, error=error)
        made = module._bets(np.tile(draws, (3, 1)), error)
        for e, x, row in zip(error.tolist(), lower.tolist(), made.tolist(), strict=True):
            if x == 0.0:
                continue
            with mpmath.workdps(50):
                m, capital, best = mpmath.mpf(x), mpmath.mpf(1), mpmath.mpf(0)
                for draw, bet in zip(draws.tolist(), row, strict=True):
                    capital *= 1 + min(mpmath.mpf(bet), C / m) * (draw - m)
                    best = max(best, capital)
                assert best >= 1 / mpmath.mpf(e)


def test_log_capital_is_a_lower_bound_and_close():
    rng = np.random.default_rng(3)
    draws, error = rng.uniform(size=(4, 1000)), np.full(4, 0.01)
    made = module._bets(draws, error)
    for m in (1e-6, 0.1, 0.45, 0.55, 0.999):
        got = module._log_capital(draws, made, np.full(4, m))
        for row in range(4):
            with mpmath.workdps(40):
                capital, best = mpmath.mpf(1), mpmath.mpf(0)
                for x, bet in zip(draws[row].tolist(), made[row].tolist(), strict=True):
                    capital *= 1 + min(mpmath.mpf(bet), C / mpmath.mpf(m)) * (mpmath.mpf(x) - m)
                    best = max(best, capital)
                exact = mpmath.log(best)
            # The charge: 1000 * 11.5 u = 1.3e-12, and 26 eps of the sum of the logarithms.
            assert exact - 1e-10 <= got[row] <= exact


def test_greatest_factors_neither_overflow_nor_underflow():
    # Constant draws, the smallest error: bets of up to 43, and a capital far beyond 1e308.
    with np.errstate(over="raise", under="raise", invalid="raise", divide="raise"):
        assert 0.9 < betting(np.ones(4000), error=1e-100) < 1
        assert betting(np.zeros(4000), error=1e-100) == 0
        assert 0 < betting(np.zeros(4000), error=1e-100, side="upper") < 0.1


def test_capital_falls_with_the_mean_that_is_bet_against():
    for draws in kinds(200).values():
        made = bets(draws.tolist(), 0.01)
        capital = [log_capital(draws.tolist(), made, m) for m in np.linspace(1e-3, 1, 400)]
        assert np.all(np.diff(capital) <= 1e-12)


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_betting_is_narrower_than_hoeffding_where_scores_vary_little(side):
    scores = np.random.default_rng(0).beta(80, 20, size=1000)
    width = abs(betting(scores, error=0.001, side=side) - scores.mean())
    assert width < 0.3 * abs(hoeffding(scores, error=0.001, side=side) - scores.mean())


def test_errors_broadcast_and_blocks_do_not_show(monkeypatch):
    draws = np.random.default_rng(2).uniform(size=(3, 1, 70))
    error = np.array([0.1, 0.01])
    got = betting(draws, error=error)
    assert got.shape == (3, 2)
    monkeypatch.setattr(module, "_BLOCK", 150)
    np.testing.assert_array_equal(betting(draws, error=error), got)
    for i in range(3):
        for j in range(2):
            alone = betting(draws[i, 0], error=error[j])
            assert alone.shape == ()
            assert alone == got[i, j]
    assert betting(np.zeros((0, 5)), error=0.1).shape == (0,)


def test_betting_needs_the_draws():
    with pytest.raises(ValueError, match="draws themselves, in an order fixed beforehand"):
        betting((3, 10), error=0.1)
    with pytest.raises(ValueError, match=r"draws must be in \[0, 1\]; got 3"):
        betting([3, 1], error=0.1)
