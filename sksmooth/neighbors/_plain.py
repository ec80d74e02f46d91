# SPDX-License-Identifier: BSD-3-Clause
"""Smoothed K-NN with plain Euclidean distance: one integral over the K-th distance.

With A_c and B_c of `_kernels`, the chance that class c wins is the integral over r of "the K-th
nearest noisy row is at r and c wins". It is computed by the trapezoidal rule in w, where
``r = log(1 + exp(w))``: towards both ends the integrand falls off at least exponentially, it is
analytic in a strip, and so the error falls geometrically with the inverse step (Trefethen and
Weideman, SIAM Review 56, 2014, Theorem 5.1). The nodes ``w = j h`` are the same for every test
input, so the tables of `_noncentral_chi` serve a whole fit.

What is charged, for each class, against the radius:

* the trapezoidal error, from three nested steps (`quadrature_error`);
* the two cut ends, by the chances that K rows are closer than the first node (`at_least`) or fewer
  than K closer than the last;
* the tables and the rounding (`relative_charge`), and what lies below `PROBABILITY_FLOOR`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ._kernels import (
    LANES,
    MAX_UNROLLED,
    PANEL_POINTS,
    PANEL_WEIGHTS,
    REACH,
    at_least_by_rows,
    at_least_by_table,
    integrands_by_rows,
    integrands_by_tables,
    nearest_first,
    panel_sums,
    trapezoidal_sums,
)
from ._noncentral_chi import NoncentralChiTables

#: Added to every upper bound. It covers rows outside their table's window (F below 1e-307 each)
#: and underflow below 1e-308, for up to 1e9 rows and a thousand neighbours.
PROBABILITY_FLOOR = 1e-290

# Largest share of a class's probability that each of the two cut ends, and the trapezoidal rule,
# may be charged before the range grows or the step halves. 1e-6 of p moves isf(p) by less than
# 1e-6: invisible in a radius. (What is charged for the rule is an upper bound anyway: its error,
# squared by the last halving, is far below.)
CUT_SHARE = 1e-7
_QUADRATURE_SHARE = 1e-6

# Peaks as narrow as a fifth of sigma, common with thousands of rows, need 1/16 or 1/32.
_FIRST_STEP = 0.125
_N_HALVINGS = 11

# Where the range ends first, from where the K-th nearest row alone would be found: about what was
# needed on Spambase, MNIST and CIFAR-10, for K from 1 to 15. It costs time where it is off.
_BEFORE, _BEFORE_POWER, _AFTER = -4.0, -0.36, -0.5
# Blocks of nodes start at multiples of this: tables are shared, and few nodes evaluated in vain.
_ALIGN = LANES // 2

# Distance from sqrt(n_features) past which a test input hardly shares distances with others, and
# the number of rows below which integrating their densities is then cheaper than making tables:
# measured with 20 and with 300 features (100 rows took 0.7 of the time, 400 rows 4 times as long).
_FAR, _FEW = 60.0, 120


def reach(kth: float, n_features: int) -> float:
    """Distance past which a row is among the K nearest with a negligible chance only.

    The K rows up to distance `kth` are within ``m + REACH`` of the test input, m their mean
    distance, except with a chance covered by `PROBABILITY_FLOOR`; a row whose own mean lies two
    reaches (and some more, for the ends of the range) further out is never that near.
    """
    limit = math.sqrt(n_features + kth * kth) + 2.0 * REACH + 10.0
    return math.sqrt(limit * limit - (n_features - 1.0))


def relative_charge(n_rows: int, n_neighbors: int, tables: NoncentralChiTables) -> float:
    """Relative error of an integral of table values: an upper bound.

    A win density is a sum of at most K C(n, K) products of n - K values of 1 - F and K of F or f.
    Those products that are below the floor divided by their number may be left out: the floor
    covers their sum. The logs of the factors of any other sum to at least -depth, with
    ``depth = 670 + log(K C(n, K))``. A factor 1 - F has a relative error of at most
    ``2 relative_error`` times its own -log (it is either the complement of an accurate F < 1/2, or
    itself accurate and below 1/2, where -log > 0.69), the K others of `relative_error` each.
    Factors below 1e-140, whose error is `deep_error`, number at most depth / 322. Each row costs at
    most 4 rounded operations on positive numbers, of 2^-53 each, combining the classes 8 K^2 more.
    """
    n, k = float(n_rows), float(min(n_neighbors, n_rows))
    log_terms = math.lgamma(n + 1.0) - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0)
    depth = 670.0 + log_terms + math.log(max(k, 1.0))
    rounding = (4.0 * n + 8.0 * k * k + 100.0) * 2.0**-53
    errors = (2.0 * depth + k) * tables.relative_error + depth / 322.0 * tables.deep_error
    return errors + rounding


def can_win(labels: np.ndarray, n_classes: int, n_neighbors: int) -> np.ndarray:
    """Which classes have enough rows to win any vote of K of these rows."""
    counts = np.minimum(np.bincount(labels, minlength=n_classes), n_neighbors)
    return _can_win(tuple(counts.tolist()), n_neighbors)


@lru_cache(maxsize=1024)
def _can_win(counts: tuple[int, ...], n_neighbors: int) -> np.ndarray:
    result = np.zeros(len(counts), dtype=bool)
    for c, own in enumerate(counts):
        for votes in range(1, own + 1):
            # Ties go to the lowest class: those before c must stay one vote behind.
            others = sum(min(n, votes - (k < c)) for k, n in enumerate(counts) if k != c)
            result[c] |= others >= n_neighbors - votes
    result.flags.writeable = False
    return result


@lru_cache(maxsize=4096)
def _block_nodes(level: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances r of LANES nodes of a level from `start` on, and dr/dw."""
    index = start + np.arange(LANES)
    if level > 0:
        index = 2 * index + 1
    w = index * (_FIRST_STEP * 0.5**level)
    r = np.logaddexp(0.0, w)
    dr_dw = np.exp(w - r)  # exp(w) / (1 + exp(w))
    r.flags.writeable = dr_dw.flags.writeable = False
    return r, dr_dw


class _Integral:
    """The integrals of one test input: a range of nodes that grows, shrinks and is refined.

    The nodes are ``w = k step`` for k in [low, high), a multiple of LANES in number. Level 0 are
    the nodes at the first step, level l > 0 the odd multiples of its 2^l-th part: those that come
    with the l-th halving. Each level is evaluated in blocks of LANES nodes.
    """

    def __init__(self, u, labels, n_classes, n_neighbors, tables, kth) -> None:
        self._tables: NoncentralChiTables = tables
        limit = reach(kth, tables.n_features)
        piece, v, near_labels = nearest_first(u, labels, limit)
        self._rows = (piece, v, near_labels, n_classes, n_neighbors)
        self._unrolled = (0,) * n_neighbors if n_neighbors <= MAX_UNROLLED else ()
        self.can_win = can_win(near_labels, n_classes, n_neighbors)
        # The bounds on the cut ends are computed values themselves.
        self.charge = relative_charge(u.size, n_neighbors, tables)
        self._margin = 1.0 + 2.0 * self.charge
        self._level, self.step = 0, _FIRST_STEP
        # The K-th nearest row alone would be found near here.
        r = math.sqrt(tables.n_features + kth * kth)
        center = r + math.log(-math.expm1(-r))
        # Tables pay off where many test inputs share their distances. Far out, each input has its
        # own, and few rows are in reach. The choice depends on this input alone.
        self._by_rows = center > math.sqrt(tables.n_features) + _FAR and piece.size <= _FEW
        if self._by_rows:
            near = u <= limit
            self._quadrature = (tables.density_args, PANEL_POINTS, PANEL_WEIGHTS)
            panels = panel_sums(u[near], *self._quadrature)
            self._near_rows = (u[near], labels[near], n_classes, n_neighbors, panels)
        before = _BEFORE * n_neighbors**_BEFORE_POWER
        self.low = _ALIGN * math.floor((center + before) / (_ALIGN * self.step))
        n_blocks = math.ceil(((center + _AFTER) / self.step - self.low) / LANES)
        self.high = self.low + LANES * max(n_blocks, 1)
        self.density, self.fewer = self._nodes(0, self.low, self.high)
        self._sum()
        self.closer = self._closer(self.low)

    def _own_nodes(self, level: int, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """Values at the nodes low to high - 1 of one level alone."""
        first = low // _ALIGN * _ALIGN
        n_blocks = -(-(high - first) // LANES)
        density = np.empty((n_blocks * LANES, self.can_win.size))
        fewer = np.empty(n_blocks * LANES)
        for i in range(0, n_blocks * LANES, LANES):
            r, dr_dw = _block_nodes(level, first + i)
            out = (dr_dw, density[i : i + LANES], fewer[i : i + LANES])
            if self._by_rows:
                integrands_by_rows(*self._near_rows, r, *self._quadrature, *out)
            else:
                integrands_by_tables(*self._rows, *self._tables.get(r), self._unrolled, *out)
        return density[low - first : high - first], fewer[low - first : high - first]

    def _nodes(self, level: int, low: int, high: int) -> tuple[np.ndarray, ...]:
        """Values at the nodes low to high - 1 of a level and all before it."""
        if level == 0:
            return self._own_nodes(0, low, high)
        coarse = self._nodes(level - 1, -(-low // 2), -(-high // 2))
        odd = self._own_nodes(level, low // 2, high // 2)
        return self._merge(coarse, odd, low % 2)

    @staticmethod
    def _merge(even, odd, first_is_odd: int = 0) -> tuple[np.ndarray, ...]:
        merged = []
        for e, o in zip(even, odd, strict=True):
            values = np.empty((e.shape[0] + o.shape[0], *e.shape[1:]))
            values[first_is_odd::2], values[1 - first_is_odd :: 2] = e, o
            merged.append(values)
        return tuple(merged)

    def _closer(self, node: int) -> np.ndarray:
        """`at_least` at a node; what is far below all goals is rounded up."""
        level = self._level
        while level > 0 and node % 2 == 0:
            level, node = level - 1, node // 2
        if level > 0:
            node //= 2
        lane = node % _ALIGN
        r, _ = _block_nodes(level, node - lane)
        if self._by_rows:
            return at_least_by_rows(*self._near_rows, r[lane], *self._quadrature)
        negligible = 1e-3 * self._lowest_goal
        return at_least_by_table(*self._rows, *self._tables.get(r), lane, negligible)

    def _sum(self) -> None:
        """Trapezoidal sums over the nodes, and how much the cut ends may hold."""
        self.wins, self.error, self._goal = trapezoidal_sums(
            self.density, self.step, self.can_win, CUT_SHARE, PROBABILITY_FLOOR
        )
        self._lowest_goal = float(self._goal.min())

    def grow(self) -> tuple[np.ndarray, float]:
        """Widen the range until what is cut is negligible; returns the bounds on both cuts."""
        block = LANES << self._level
        by_left = by_right = block
        while True:
            left = self.closer * self._margin
            right = float(self.fewer[-1]) * self._margin
            if (left > self._goal).any():
                density, fewer = self._nodes(self._level, self.low - by_left, self.low)
                self.density = np.concatenate([density, self.density])
                self.fewer = np.concatenate([fewer, self.fewer])
                self.low -= by_left
                by_left = min(by_left + block, 4 * block)
                self._sum()
                self.closer = self._closer(self.low)
            elif right > self._lowest_goal:
                density, fewer = self._nodes(self._level, self.high, self.high + by_right)
                self.density = np.concatenate([self.density, density])
                self.fewer = np.concatenate([self.fewer, fewer])
                self.high += by_right
                by_right = min(by_right + block, 4 * block)
                self._sum()
            else:
                return left, right

    def _shrink(self) -> None:
        """Give up blocks at both ends that need not be refined: what is cut stays negligible."""
        goal = self._goal
        n_blocks = self.fewer.size // LANES
        while n_blocks > 1 and (
            self.fewer[LANES * (n_blocks - 1) - 1] * self._margin <= self._lowest_goal
        ):
            n_blocks -= 1
        # The sums of the first blocks say where trying is worth while.
        first = 0
        below = np.zeros(goal.size)
        while first < n_blocks - 1:
            below += self.step * self.density[LANES * first : LANES * (first + 1)].sum(axis=0)
            if (below > goal).any():
                break
            first += 1
        while first > 0:
            closer = self._closer(self.low + LANES * first)
            if (closer * self._margin <= goal).all():
                self.closer = closer
                break
            first -= 1
        kept = slice(LANES * first, LANES * n_blocks)
        self.density, self.fewer = self.density[kept], self.fewer[kept]
        self.low, self.high = self.low + kept.start, self.low + kept.stop

    def refine(self) -> None:
        """Halve the step."""
        self._shrink()
        self._level, self.step = self._level + 1, self.step / 2.0
        odd = self._own_nodes(self._level, self.low, self.high)
        self.density, self.fewer = self._merge((self.density, self.fewer), odd)
        self.low, self.high = 2 * self.low, 2 * self.high
        self._sum()


def win_probabilities(
    u: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    n_neighbors: int,
    tables: NoncentralChiTables,
    kth: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Probability that each class wins the vote of the K nearest noisy rows, and an upper bound.

    Parameters
    ----------
    u : ndarray of shape (n_rows,)
        Distances of the training rows from the test input in units of sigma.
    labels : ndarray of shape (n_rows,)
        Class indices.
    n_classes, n_neighbors : int
    tables : NoncentralChiTables
    kth : float
        The K-th smallest of the distances, where it is known already.

    Returns
    -------
    wins, wins_upper : ndarray of shape (n_classes,)
    """
    if kth is None:
        kth = float(np.partition(u, n_neighbors - 1)[n_neighbors - 1])
    integral = _Integral(u, labels, n_classes, n_neighbors, tables, kth)
    for halvings in range(_N_HALVINGS + 1):
        left, right = integral.grow()
        wins, error = integral.wins, integral.error
        missing = abs(1.0 - wins.sum())
        goal = _QUADRATURE_SHARE * np.maximum(wins, PROBABILITY_FLOOR)
        if (error <= goal).all() and missing <= _QUADRATURE_SHARE:
            missing = 0.0
            break
        if halvings < _N_HALVINGS:
            integral.refine()
    upper = wins * (1.0 + integral.charge)
    # `missing` is only left where the finest step did not resolve the integrand.
    upper += error + left + right + missing + PROBABILITY_FLOOR
    # A class without enough rows has no chance at all; rows out of reach are left to the floor.
    return wins, np.where(integral.can_win, upper, PROBABILITY_FLOOR)
