# SPDX-License-Identifier: BSD-3-Clause
"""Exact chances, in rational or 50-digit arithmetic."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import comb, factorial

import mpmath
import numpy as np

ERRORS = [0.4, 0.05, 0.0005]


def tail_at_least(k, n, p):
    """P(Bin(n, p) >= k) for the exact rational value of the float p."""
    num, den = Fraction(p).as_integer_ratio()
    total = sum(comb(n, j) * num**j * (den - num) ** (n - j) for j in range(k, n + 1))
    return Fraction(total, den**n)


def tail_at_least_mp(k, n, p):
    """The same for large n with k above the mean: 50-digit terms until they stop counting."""
    with mpmath.workdps(50):
        p = mpmath.mpf(p)
        term = mpmath.binomial(n, k) * p**k * (1 - p) ** (n - k)
        total, j = mpmath.mpf(0), k
        while j <= n and term > total * mpmath.mpf(10) ** -30:
            total += term
            term *= p / (1 - p) * (n - j) / (j + 1)
            j += 1
        return total


def multinomial(n, p):
    """All outcomes of n votes (a last entry of p may stand for votes for nobody), with chances."""
    outcomes = [c for c in product(range(n + 1), repeat=len(p) - 1) if sum(c) <= n]
    outcomes = [(*c, n - sum(c)) for c in outcomes]
    chances = []
    for counts in outcomes:
        ways, weight = factorial(n), 1.0
        for c, q in zip(counts, p, strict=True):
            ways //= factorial(c)
            weight *= q**c
        chances.append(ways * weight)
    return np.array(outcomes), np.array(chances)
