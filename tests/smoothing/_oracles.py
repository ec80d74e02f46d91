# SPDX-License-Identifier: BSD-3-Clause
"""Exact Neyman-Pearson by listing outcomes in fractions, and normal tails to 60 digits."""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import comb

import mpmath

HALF = Fraction(1, 2)
mp = mpmath.mp.clone()
mp.dps = 60


def coordinate(q, n_categories):
    """List (P, Q) of every value that one changed coordinate can show."""
    q = Fraction(q)
    other = q / (n_categories - 1)
    clean, changed = (1 - q, other), (other, 1 - q)
    return [clean, changed, *[(other, other)] * (n_categories - 2)]


def all_outcomes(coordinates):
    """List (P, Q) of every outcome of several coordinates, one by one."""
    outcomes = []
    for values in itertools.product(*coordinates):
        p, q = Fraction(1), Fraction(1)
        for value in values:
            p, q = p * value[0], q * value[1]
        outcomes.append((p, q))
    return outcomes


def outcomes_by_type(q, n_categories, r):
    """List (P, Q) of r coordinates, outcomes with equal counts of each kind put together."""
    q = Fraction(q)
    low, same = q / (n_categories - 1), q * (n_categories - 2) / (n_categories - 1)
    outcomes = []
    for clean in range(r + 1):
        for changed in range(r + 1 - clean):
            rest = r - clean - changed
            ways = comb(r, clean) * comb(r - clean, changed) * same**rest
            if ways:
                p = ways * (1 - q) ** clean * low**changed
                outcomes.append((p, ways * low**clean * (1 - q) ** changed))
    return outcomes


def trade_off(outcomes, alpha):
    """Return the least type II error: reject where Q/P is largest, randomise at the boundary."""
    alpha = Fraction(alpha)
    beta = Fraction(1)
    for p, q in sorted(outcomes, key=lambda pq: pq[1] / pq[0], reverse=True):
        share = min(Fraction(1), alpha / p)
        beta -= share * q
        alpha -= share * p
        if alpha <= 0:
            break
    return beta


def critical_tail(outcomes):
    """Return the alpha at which the trade-off function is 1/2."""
    left, alpha = HALF, Fraction(0)
    for p, q in sorted(outcomes, key=lambda pq: pq[1] / pq[0], reverse=True):
        share = min(Fraction(1), left / q)
        alpha += share * p
        left -= share * q
        if left <= 0:
            break
    return alpha


def log(x):
    """Return the logarithm of a Fraction to 60 digits."""
    return mp.log(mp.mpf(x.numerator) / mp.mpf(x.denominator))


def log_ndtr(x):
    """Return the logarithm of the normal distribution function to 50 digits or so."""
    if x < 0:
        return mp.log(mp.erfc(-x / mp.sqrt(2)) / 2)
    return mp.log1p(-mp.erfc(x / mp.sqrt(2)) / 2)


def ndtr(x):
    """Return the normal distribution function to 50 digits or so."""
    return mp.erfc(-mp.mpf(x) / mp.sqrt(2)) / 2
