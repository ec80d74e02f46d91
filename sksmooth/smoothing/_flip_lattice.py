# SPDX-License-Identifier: BSD-3-Clause
r"""Telling clean from changed categorical noise when r coordinates were changed.

A coordinate with K values keeps its value with probability ``1 - q`` and takes each other value
with probability ``q / (K - 1)``. Let P be the noise around the clean values and Q that around the
changed ones. Only the changed coordinates matter: each adds +1 to ``s`` where the clean value is
seen, -1 where the changed one is, 0 otherwise, and ``log dP/dQ = t * s`` with
``t = log((1 - q)(K - 1) / q)`` (Lee et al., 2019, section 4; F in Rosenfeld et al., 2020, eq. 2).

Everything is read from the distribution of s under Q, whose bulk never underflows, and from one
inequality: for every set A and every threshold s, with ``g = exp(-t s)``,

.. math:: Q(A) \le H_s + g\,P(A), \qquad H_s = \sum_u (Q(u) - g P(u))_+ = Q(<s) - G_s,

where ``G_s = g P(<s) = sum_{u<s} exp(-t (s-u)) Q(u)``. By the Neyman-Pearson lemma the best s
attains the largest Q(A) among sets with P(A) = alpha, so the trade-off function is
``beta(alpha) = 1 - min_s [H_s + exp(log(alpha) - t s)]``. *Any* s gives a valid bound: an error
in its choice costs tightness, never soundness; only the errors of the sums must be charged.

"Exactly r" covers "at most r": leaving out what a coordinate shows is a randomisation that both
sides may apply, so the trade-off function cannot rise with r.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sksmooth.smoothing._rounding import EPS, FloatArray, down, elementary_lower, log_upper, up

IntArray = NDArray[np.int64]

# Lattice ends below this are dropped and charged. The table needs the bulk of Q only; unequal
# bounds compare two tails of Q, which may both be small.
_TABLE_CUT = 1e-25
_TAIL_CUT = 1e-290


class FlipLattice(NamedTuple):
    """The distribution of s under Q after r changes, on ``s = low + stride * index``.

    `pmf` is off by a relative error of at most `rtol`, sums over it and `discounted` included; at
    most `dropped` is missing at each end.
    """

    n_changes: int
    low: int
    stride: int
    pmf: FloatArray
    rtol: float
    dropped: float


def log_likelihood_step(q: float, n_categories: int) -> float:
    """Return ``t = log((1 - q)(K - 1) / q)`` with a relative error below two roundings."""
    # near q = (K-1)/K the logarithm is that of a number close to 1: its distance from 1 is exact
    exact_q = Fraction(q)
    excess = (n_categories - 1 - n_categories * exact_q) / exact_q
    if excess > 2**1000:  # q is so small that the quotient may leave the float range
        return math.log1p(-q) + math.log(n_categories - 1) - math.log(q)
    return math.log1p(float(excess))


def flip_lattices(q: float, n_categories: int, cut: float) -> Iterator[FlipLattice]:
    """Yield the distribution of s under Q after 0, 1, 2, ... changes."""
    exact_q = Fraction(q)
    changed = float(1 - exact_q)  # Q sees its own value: s falls by one
    clean = float(exact_q / (n_categories - 1))
    other = float(exact_q * (n_categories - 2) / (n_categories - 1))
    stride = 2 if n_categories == 2 else 1
    taps = (changed, clean) if stride == 2 else (changed, other, clean)
    step = stride * log_likelihood_step(q, n_categories)
    pmf, low, n_changes = np.ones(1), 0, 0
    while True:
        # Per change, each entry sees a rounded tap, a product and up to two sums of non-negative
        # numbers: below 2 EPS relative, 3 are charged. Over n terms, a sequential sum adds below n
        # EPS and a discounted one below 2 n, plus what the relative error of t does to its powers.
        rtol = EPS * (3 * n_changes + (2 + 4 * step) * pmf.size + 16)
        # the support grows by at most two entries per change, so no more are ever dropped
        yield FlipLattice(n_changes, low, stride, pmf, rtol, cut * (2 * n_changes + 2))
        grown = np.zeros(pmf.size + len(taps) - 1)
        for i, tap in enumerate(taps):
            grown[i : i + pmf.size] += tap * pmf
        first, last = 0, grown.size
        while grown[first] < cut:
            first += 1
        while grown[last - 1] < cut:
            last -= 1
        pmf, low, n_changes = grown[first:last], low - 1 + stride * first, n_changes + 1


def discounted(pmf: FloatArray, step: float) -> FloatArray:
    """Return ``G_s = sum_{u<s} exp(-step * (s-u)) pmf(u)``, s and u counted in lattice points.

    Sums over 1, 2, 4, ... neighbours double until the rest is negligible; what underflows lowers
    the result.
    """
    result = np.zeros_like(pmf)
    result[1:] = math.exp(-step) * pmf[:-1]
    length = 1
    while length < pmf.size:
        weight = math.exp(-step * length)
        if weight == 0.0:
            break
        result[length:] += weight * result[:-length]
        length *= 2
    return result


@lru_cache(maxsize=64)
def required_log_tails(q: float, n_categories: int, max_radius: int) -> FloatArray:
    """Return, for r = 0..max_radius, a log tail at which r changes are certified.

    With ``p_b = 1 - p_a = alpha``, r changes are certified iff ``beta(alpha) > 1/2``, that is iff
    ``alpha < exp(t s) (1/2 - H_s)`` at the s that holds the median of Q. The logarithm of that
    product is returned, rounded down; the array is read-only and does not increase with r.
    """
    t = log_likelihood_step(q, n_categories)
    lattices = flip_lattices(q, n_categories, _TABLE_CUT)
    stride = 2 if n_categories == 2 else 1
    # terms of G_s that matter: later ones are left out, which lowers the result
    reach = min(max_radius * 2 + 2, int(50.0 / (stride * t)) + 2)
    powers = np.exp(-stride * t * np.arange(reach, 0, -1.0))
    thresholds = np.empty(max_radius + 1)
    remainders = np.empty(max_radius + 1)
    for r, lattice in zip(range(max_radius + 1), lattices, strict=False):
        cumulative = np.cumsum(lattice.pmf)
        # the median of Q; mass may be missing above it, never more than dropped
        c = min(int(np.searchsorted(cumulative, 0.5)), lattice.pmf.size - 1)
        remainder = _remainder(lattice, cumulative, powers, c)
        if remainder <= 0.0:  # Q(<s) is 1/2 up to rounding: the point before has all its own mass
            c -= 1
            remainder = _remainder(lattice, cumulative, powers, c)
        thresholds[r] = lattice.low + stride * c
        remainders[r] = remainder
    exponent = elementary_lower(t * thresholds)  # t and the product: three roundings, four charged
    table = down(exponent + elementary_lower(np.log(remainders)))
    table = np.minimum.accumulate(table)
    table.flags.writeable = False
    return table


def _remainder(lattice: FlipLattice, cumulative: FloatArray, powers: FloatArray, c: int) -> float:
    """Return a lower bound on ``1/2 - H_s`` at the lattice point with index `c`."""
    if c == 0:
        return 0.5 - lattice.dropped
    below = float(cumulative[c - 1])
    first = max(0, c - powers.size)
    # not a BLAS product, whose order of summation may depend on where the arrays lie in memory
    discount = float(np.sum(lattice.pmf[first:c] * powers[powers.size - (c - first) :]))
    return 0.5 - below + discount - lattice.rtol * (below + discount) - lattice.dropped


def one_sided_radii(
    log_tail_a: FloatArray, q: float, n_categories: int, max_radius: int
) -> IntArray:
    """Return the largest certified numbers of changes where ``p_b = 1 - p_a``, or -1."""
    if log_tail_a.size == 0:
        return np.zeros(log_tail_a.shape, dtype=np.int64)
    size = min(64, max_radius)
    while True:
        table = required_log_tails(q, n_categories, size)
        if size == max_radius or table[-1] < np.min(log_tail_a):
            break
        size = min(4 * size, max_radius)
    # number of table entries >= log_tail_a, less one
    count = np.searchsorted(-table, -log_tail_a, side="right")
    return np.asarray(count - 1, dtype=np.int64)


def certified_pairs(
    lattice: FlipLattice, t: float, log_tail_a: FloatArray, log_p_b: FloatArray
) -> NDArray[np.bool_]:
    """Return where ``beta(tail_a) + beta(p_b) > 1``, with every error charged against it.

    Compared are a lower bound on ``beta(tail_a) = Q(>=s) + G_s - exp(log_tail_a - t s)`` and an
    upper bound on ``1 - beta(p_b) = Q(<s) - G_s + exp(log_p_b - t s)``, each at its own s, so that
    two small numbers keep their digits.
    """
    pmf, rtol = lattice.pmf, lattice.rtol
    s = lattice.low + lattice.stride * np.arange(pmf.size)
    g = discounted(pmf, lattice.stride * t)
    below = np.concatenate([[0.0], np.cumsum(pmf)[:-1]])
    above = np.cumsum(pmf[::-1])[::-1]
    with np.errstate(divide="ignore"):
        log_p_below = t * s + np.log(g)  # log P(<s), increasing; only a choice of s rests on it

    def choose(log_alpha: FloatArray) -> IntArray:
        index = np.searchsorted(log_p_below, log_alpha, side="right") - 1
        return np.asarray(np.clip(index, 0, pmf.size - 1), dtype=np.int64)

    def scaled(log_alpha: FloatArray, i: IntArray) -> FloatArray:
        # the exponent is off by a few roundings of its parts; past exp(700) nothing is certified
        exponent = log_alpha - t * s[i] + 4 * EPS * (np.abs(log_alpha) + np.abs(t * s[i]))
        return up(np.exp(np.minimum(exponent, 700.0)) * (1.0 + 8 * EPS))

    i, j = choose(log_tail_a), choose(log_p_b)
    beta_a = down((above[i] + g[i]) * (1.0 - rtol) - scaled(log_tail_a, i))
    rest_b = up(below[j] * (1.0 + rtol) - g[j] * (1.0 - rtol) + scaled(log_p_b, j))
    # sums of three terms: each rounding is below EPS times the largest term
    slack = 2 * EPS * (above[i] + g[i] + below[j] + scaled(log_p_b, j)) + lattice.dropped
    result: NDArray[np.bool_] = beta_a > rest_b + slack
    return result


def two_sided_radii(
    log_tail_a: FloatArray, log_p_b: FloatArray, q: float, n_categories: int, max_radius: int
) -> IntArray:
    """Return the largest certified numbers of changes, at most `max_radius`, or -1."""
    radii = one_sided_radii(log_tail_a, q, n_categories, max_radius)
    unequal = log_p_b < log_tail_a
    if not np.any(unequal):
        return radii
    pairs = np.stack([log_tail_a[unequal], log_p_b[unequal]], axis=1)
    pairs, inverse = np.unique(pairs, axis=0, return_inverse=True)
    found = np.full(len(pairs), -1, dtype=np.int64)
    alive = np.arange(len(pairs))
    t = log_likelihood_step(q, n_categories)
    for lattice in flip_lattices(q, n_categories, _TAIL_CUT):
        # the trade-off does not rise with r: a pair that fails once fails for good
        alive = alive[certified_pairs(lattice, t, pairs[alive, 0], pairs[alive, 1])]
        found[alive] = lattice.n_changes
        if alive.size == 0 or lattice.n_changes == max_radius:
            break
    # p_b <= tail_a: the radius for equal bounds is valid as well
    radii = radii.copy()
    radii[unequal] = np.maximum(radii[unequal], found[inverse.reshape(-1)])
    return radii


def trade_off(alpha: FloatArray, n_changes: int, q: float, n_categories: int) -> FloatArray:
    """Return ``beta(alpha)`` after `n_changes` changes, to ordinary float accuracy."""
    t = log_likelihood_step(q, n_categories)
    lattice = next(
        item for item in flip_lattices(q, n_categories, _TAIL_CUT) if item.n_changes == n_changes
    )
    s = lattice.low + lattice.stride * np.arange(lattice.pmf.size)
    g = discounted(lattice.pmf, lattice.stride * t)
    above = np.cumsum(lattice.pmf[::-1])[::-1]
    with np.errstate(divide="ignore"):
        log_alpha = np.log(alpha)
        log_p_below = t * s + np.log(g)
    i = np.clip(np.searchsorted(log_p_below, log_alpha, side="right") - 1, 0, s.size - 1)
    beta = above[i] + g[i] - np.exp(np.minimum(log_alpha - t * s[i], 700.0))
    result: FloatArray = np.clip(beta, 0.0, 1.0)
    return result


def divergence_upper(q: float, n_categories: int) -> float:
    """Return an upper bound on the Kullback-Leibler divergence that one change causes.

    It is ``(1 - Kq/(K-1)) t`` (Rosenfeld et al., eq. 4 and appendix B.3).
    """
    contrast = float(1 - n_categories * Fraction(q) / (n_categories - 1))
    # a handful of roundings, upward
    return contrast * log_likelihood_step(q, n_categories) * (1.0 + 8 * EPS)


def duality_radii(log_mgf: FloatArray, q: float, n_categories: int, max_radius: int) -> IntArray:
    """Return after how many changes a mean stays positive.

    For a variable Z and any s > 0, ``s E_Q[Z] >= -KL(Q || P) - log E_P[exp(-s Z)]`` (Donsker and
    Varadhan): where Chernoff's bound on ``P(Z <= 0)`` is below ``exp(-r D)``, D the divergence of
    one change, the mean of Z is positive after r changes too. -1 where not even without.
    """
    ratio = down(-log_mgf / divergence_upper(q, n_categories))
    # the largest integer strictly below
    radii = np.ceil(np.minimum(ratio, float(max_radius) + 1.0)) - 1.0
    return np.where(log_mgf < 0.0, np.minimum(radii, max_radius), -1.0).astype(np.int64)


def kl_radii(log_tail_a: FloatArray, q: float, n_categories: int, max_radius: int) -> IntArray:
    """Return Rosenfeld's radii ``-log(4 p (1-p)) / (2 (1 - Kq/(K-1)) t)`` (eq. 5; appendix B.3).

    A lower bound on the exact radius, about half as large; it uses ``1 - p_a`` alone.
    """
    tail = np.exp(np.minimum(log_tail_a, math.log(0.5)))
    # log(4 p (1-p)) rises with 1-p below 1/2; each part is rounded up
    log_4pq = up(up(math.log(4.0) * (1 + EPS) + log_tail_a) + log_upper(1.0 - tail))
    ratio = down(-log_4pq / (2.0 * divergence_upper(q, n_categories)))
    radii = np.floor(np.minimum(ratio, float(max_radius)))
    possible = (log_tail_a < math.log(0.5) * (1 + EPS)) & (radii >= 0)
    return np.where(possible, radii, -1.0).astype(np.int64)
