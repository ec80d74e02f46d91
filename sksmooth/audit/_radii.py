# SPDX-License-Identifier: BSD-3-Clause
"""Radii from bounds on probabilities, by the theorems, in 60 digits or exact fractions.

Written without `sksmooth.smoothing`. Each noise is one function from a row, and what the record
says of the theorem, to the radius; -1 where nothing is certified.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import comb
from typing import Any

from ._frame import MOST_CHANGES
from ._votes import mp, number


def isf(tail: Any) -> Any:
    """Return the normal quantile of ``1 - tail``."""
    with mp.workdps(60 + max(0, int(-mp.log10(tail)))):
        return mp.sqrt(2) * mp.erfinv(1 - 2 * tail)


def _tails(row: dict[str, Any]) -> tuple[Any, Any] | None:
    tail_a, p_b = number(row["tail_a"]), number(row["p_b"])
    return (tail_a, min(p_b, tail_a)) if 0 < tail_a < 1 and 0 < p_b else None


def _per_row(radius: Any, theorem: dict[str, Any]) -> Any:
    n_poisoned = theorem.get("n_poisoned")
    return radius if n_poisoned is None else radius / mp.sqrt(n_poisoned)


def _less_charge(radius: Any, row: dict[str, Any], theorem: dict[str, Any]) -> Any:
    """Subtract what rounding to a grid, or of distances, may add to a change."""
    charge = number(row.get("charge", 0))
    grid = theorem.get("grid")
    if grid is not None:
        weights = [number(w) for w in grid["weights"]]
        step, n_rows = number(grid["step"]), int(grid["n_rows"])
        if theorem["norm"] == "l1":
            charge += step * n_rows * mp.fsum(weights)
        else:
            charge += step * mp.sqrt(n_rows * mp.fsum(w * w for w in weights))
    return radius - charge


def gaussian(row: dict[str, Any], theorem: dict[str, Any]) -> list[Any]:
    """Return ``sigma/2 (isf(tail_a) + isf(p_b))``."""
    tails = _tails(row)
    if tails is None:
        return [-1]
    radius = number(theorem["sigma"]) / 2 * (isf(tails[0]) + isf(tails[1]))
    # An open ball: radius 0 is there where the bracket is positive.
    return [_less_charge(_per_row(radius, theorem), row, theorem) if radius > 0 else -1]


def uniform(row: dict[str, Any], theorem: dict[str, Any]) -> list[Any]:
    """Return ``width (1 - (1 - (p_a - p_b)/2)^(1/n))`` in the l1 norm, for n changed rows."""
    tails = _tails(row)
    half_gap = -1 if tails is None else (1 - tails[0] - tails[1]) / 2
    if half_gap <= 0:
        return [-1]
    n_rows = theorem.get("n_poisoned") or 1
    radius = number(theorem["width"]) * -mp.expm1(mp.log1p(-half_gap) / n_rows)
    return [_less_charge(radius, row, theorem)]


@lru_cache(maxsize=64)  # the rows of a record ask for the same few
def _steps(n_changes: int, q: Fraction, n_values: int) -> list[Any]:
    """Return ``P(s)`` for s = -r..r, the sum of r steps: 1 - q up, q/(K-1) down, else 0."""
    up, down = 1 - q, q / (n_values - 1)
    stay = 1 - up - down
    if stay == 0:
        chances = [mp.zero] * (2 * n_changes + 1)
        log_up, log_down = mp.log(number(up)), mp.log(number(down))
        for j in range(n_changes + 1):  # j steps up
            log_chance = mp.log(comb(n_changes, j)) + j * log_up + (n_changes - j) * log_down
            chances[2 * j] = mp.exp(log_chance)
        return chances
    # Coefficients of (down + stay z + up z^2)^r by the recurrence for powers, in exact fractions.
    c, b, a = down, stay, up
    exact = [c**n_changes]
    for n in range(1, 2 * n_changes + 1):
        total = (n_changes - n + 1) * b * exact[n - 1]
        if n >= 2:
            total += (2 * n_changes - n + 2) * a * exact[n - 2]
        exact.append(total / (n * c))
    return [number(value) for value in exact]


def _most_after(chances: list[Any], budget: Any) -> Any:
    """Return the greatest probability after the change of an event of at most `budget` before it.

    Outcomes in the order of their likelihood ratio (Neyman and Pearson): s from -r up, where the
    probability after the change is that of -s before it.
    """
    gained = mp.zero
    for before, after in zip(chances, reversed(chances), strict=True):
        if before > budget:
            return gained + after * budget / before
        gained, budget = gained + after, budget - before
    return gained


def _withstands(row: dict[str, Any], n_changes: int, q: Fraction, n_values: int) -> bool:
    tails = _tails(row)
    if tails is None:
        return False
    chances = _steps(n_changes, q, n_values)
    return bool(_most_after(chances, tails[0]) + _most_after(chances, tails[1]) < 1)


def _largest(holds: Callable[[int], bool], most: int) -> int:
    """Return the largest integer from 0 to `most` at which a falling condition holds, else -1."""
    if not holds(0):
        return -1
    good, bad = 0, 1
    while bad <= most and holds(bad):
        good, bad = bad, 2 * bad
    bad = min(bad, most + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def categorical(row: dict[str, Any], theorem: dict[str, Any]) -> list[Any]:
    """Return the largest number of changed values of the largest domain, exactly."""
    q, n_values = Fraction(theorem["q"]), int(theorem["n_values"])
    most = min(int(theorem["n_coordinates"]), MOST_CHANGES)
    radius = _largest(lambda r: _withstands(row, r, q, n_values), most)
    n_poisoned = theorem.get("n_poisoned")
    if n_poisoned is not None:
        radius = min(radius // n_poisoned, int(theorem["most_per_row"]))
    return [radius]


class _Joint:
    """The log likelihood ratio L after r changed values and a shift of m sigmas: mixed normals."""

    def __init__(self, n_changes: int, q: Fraction, n_values: int):
        chances = _steps(n_changes, q, n_values)
        t = mp.log(number((1 - q) * (n_values - 1) / q))
        self.parts = [
            (t * (i - n_changes), before, after)
            for i, (before, after) in enumerate(zip(chances, reversed(chances), strict=True))
            if before > 0
        ]

    def before(self, tau: Any, m: Any) -> Any:
        """``P(L < tau)`` before the change."""
        return mp.fsum(p * mp.ncdf((tau - mean) / m - m / 2) for mean, p, _ in self.parts)

    def after(self, tau: Any, m: Any) -> Any:
        """``P(L < tau)`` after it."""
        return mp.fsum(p * mp.ncdf((tau - mean) / m + m / 2) for mean, _, p in self.parts)

    def margin(self, m: Any, tails: tuple[Any, Any]) -> Any:
        """Return at least by how much the top class stays above any other after the change."""
        return 1 - mp.fsum(self.after(self._quantile(tail, m), m) for tail in tails)

    def _quantile(self, tail: Any, m: Any) -> Any:
        """Return a number that is above the quantile, by 1e-25 of where it may lie."""
        # A quantile of a mixture lies between those of its parts. With small shifts the function is
        # a staircase, on which a secant alone does not get on: every second step halves.
        low, high = (self.parts[i][0] + m * m / 2 - m * isf(tail) for i in (0, -1))
        narrow = mp.mpf(10) ** -25 * (m * m + m + high - low)
        low, high = low - narrow, high + narrow
        log_tail, halve = mp.log(tail), True
        at_low, at_high = (mp.log(self.before(end, m)) - log_tail for end in (low, high))
        while high - low > narrow:
            middle = (low + high) / 2
            if not halve:
                # Just beyond the root by the secant, so that both ends come nearer.
                middle = low - at_low * (high - low) / (at_high - at_low)
                middle = min(max(middle, low + narrow / 4), high - narrow / 4)
            at_middle = mp.log(self.before(middle, m)) - log_tail
            if at_middle < 0:
                low, at_low = middle, at_middle
            else:
                high, at_high = middle, at_middle
            halve = not halve
        return high


def joint(row: dict[str, Any], theorem: dict[str, Any]) -> list[Any]:
    """Return the largest l2 change of the numbers next to each number of changed values."""
    q, n_values, radii = Fraction(theorem["q"]), int(theorem["n_values"]), []
    tails = _tails(row)
    for n_changes in theorem["n_changes"]:
        if n_changes == 0:
            radii += gaussian(row, theorem)
        elif tails is None or not _withstands(row, n_changes, q, n_values):
            radii.append(-1)
        else:
            shift = _shift_of(n_changes, q, n_values, tails)
            radius = _per_row(number(theorem["sigma"]) * shift, theorem)
            radii.append(_less_charge(radius, row, theorem))
    return radii


@lru_cache(maxsize=64)
def _joint_noise(n_changes: int, q: Fraction, n_values: int) -> _Joint:
    return _Joint(n_changes, q, n_values)


@lru_cache(maxsize=1024)  # many rows have the same bounds: those of unanimous votes
def _shift_of(n_changes: int, q: Fraction, n_values: int, tails: tuple[Any, Any]) -> Any:
    return _largest_shift(_joint_noise(n_changes, q, n_values), tails)


def _largest_shift(noise: _Joint, tails: tuple[Any, Any]) -> Any:
    low, high = mp.zero, (isf(tails[0]) + isf(tails[1])) / 2
    m = high
    with mp.workdps(40):
        low_margin = 1 - mp.fsum(tails)
        for step in range(100):
            margin = noise.margin(m, tails)
            if margin > 0:
                low, low_margin = m, margin
            else:
                high, high_margin = m, margin
            if high - low <= mp.mpf(10) ** -20 * high:
                break
            m = (low + high) / 2
            if step % 3:
                secant = low + (high - low) * low_margin / (low_margin - high_margin)
                m = secant if low < secant < high else m
    return low


def flips(row: dict[str, Any], theorem: dict[str, Any]) -> list[Any]:
    """Flip the most harmful labels first, in exact fractions (ridge regression).

    The score of a class is the sum of the weights of its rows; labels are replaced with probability
    q, and the class of the greatest mean score is predicted, ties going to the first one.
    """
    weights = [Fraction(w) for w in row["weights"]]
    labels, n_classes = theorem["labels"], int(theorem["n_classes"])
    q, top = Fraction(theorem["q"]), int(row["top"])
    if n_classes == 2 and not theorem["fit_intercept"]:
        # The mean score of class 1, against 1/2.
        ones = sum((w for w, y in zip(weights, labels, strict=True) if y == 1), Fraction(0))
        mean = q * sum(weights) + (1 - 2 * q) * ones - Fraction(1, 2)
        if (mean > 0) != (top == 1) or mean == 0:
            return [-1]
        harm = [
            (1 - 2 * q) * (w if (y == 1) == (top == 1) else -w)
            for w, y in zip(weights, labels, strict=True)
        ]
        return [_greedy(abs(mean), harm)]
    least = len(weights)
    for rival in range(n_classes):
        if rival == top:
            continue
        margin, harm = Fraction(0), []
        for w, y in zip(weights, labels, strict=True):
            side = 1 if y == top else -1 if y == rival else 0
            margin += side * w
            harm.append(side * w + abs(w))
        if margin <= 0:
            return [-1]
        least = min(least, _greedy(margin, harm))
    return [least]


def _greedy(margin: Fraction, harm: list[Fraction]) -> int:
    """Return how many of the largest harms leave the margin above 0."""
    count = 0
    for value in sorted(harm, reverse=True):
        if value <= 0:
            return len(harm)
        margin -= value
        if margin <= 0:
            return count
        count += 1
    return count


RADII = {
    "gaussian": gaussian,
    "uniform": uniform,
    "categorical": categorical,
    "joint": joint,
    "flips": flips,
}
