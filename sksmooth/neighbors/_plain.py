# SPDX-License-Identifier: BSD-3-Clause
"""Smoothed K-NN with plain Euclidean distance: one integral over the K-th distance.

With A_c and B_c of `_kernels`, the chance that class c wins is the integral over r of "the K-th
nearest noisy row is at r and c wins". It is computed by the trapezoidal rule in w, where
``r = log(1 + exp(w))``: towards both ends the integrand falls off at least exponentially, it is
analytic in a strip, and so the error falls geometrically with the inverse step (Trefethen and
Weideman, SIAM Review 56, 2014, Theorem 5.1). The nodes ``w = j h`` are the same for every test
input, so the tables of `_noncentral_chi` serve a whole fit.

What is charged, for each class, against the radius:

* the trapezoidal error, from three nested steps (`_quadrature_error`);
* the two cut ends, by the chances that K rows are closer than the first node (`at_least`) or fewer
  than K closer than the last;
* the tables and the rounding (`relative_charge`), and what lies below `PROBABILITY_FLOOR`.
"""

from __future__ import annotations

import math

import numpy as np

from ._kernels import (
    PANEL_POINTS,
    PANEL_WEIGHTS,
    REACH,
    integrands_by_rows,
    integrands_by_tables,
)
from ._noncentral_chi import DEEP_ERROR, RELATIVE_ERROR, NoncentralChiTables

#: Added to every upper bound. It covers rows outside their table's window (F below 1e-307 each)
#: and underflow below 1e-308, for up to 1e9 rows and a thousand neighbours.
PROBABILITY_FLOOR = 1e-290

# Largest share of a class's probability that each of the two cut ends, and the trapezoidal rule,
# may be charged before the range grows or the step halves. 1e-7 of p moves isf(p) by less than
# 1e-7: invisible in a radius, and still reached with two or three steps.
_CUT_SHARE = 1e-8
_QUADRATURE_SHARE = 1e-7

# The bounds on the cut ends are computed values themselves: this covers their relative error, see
# `relative_charge` (at most 1e-6 for a billion rows).
_CUT_MARGIN = 1.0 + 1e-5

_FIRST_STEP = 0.25
_N_HALVINGS = 12

# Distance from sqrt(n_features) past which a test input hardly shares distances with others, and
# the number of rows below which integrating their densities is then cheaper than making tables (a
# table and about 5 rows cost the same, and a typical range has 300 distances).
_FAR, _FEW = 60.0, 1500
# Units of w by which the range grows: the first time, and at most.
_CHUNK, _MAX_CHUNK = 2.0, 6.0


def within_reach(u: np.ndarray, kth: float, n_features: int) -> np.ndarray:
    """Which rows can be among the K nearest with more than a negligible chance.

    The K rows up to distance `kth` are within ``m + REACH`` of the test input, m their mean
    distance, except with a chance covered by `PROBABILITY_FLOOR`; a row whose own mean lies two
    reaches (and some more, for the ends of the range) further out is never that near.
    """
    limit = math.sqrt(n_features + kth * kth) + 2.0 * REACH + 10.0
    return u * u <= limit * limit - (n_features - 1.0)


def relative_charge(n_rows: int, n_neighbors: int) -> float:
    """Relative error of an integral of table values: an upper bound.

    A win density is a sum of at most K C(n, K) products of n - K values of 1 - F and K of F or f.
    Those products that are below the floor divided by their number may be left out: the floor
    covers their sum. The logs of the factors of any other sum to at least -depth, with
    ``depth = 670 + log(K C(n, K))``. A factor 1 - F has a relative error of at most
    ``2 RELATIVE_ERROR`` times its own -log (it is either the complement of an accurate F < 1/2, or
    itself accurate and below 1/2, where -log > 0.69), the K others of RELATIVE_ERROR each. Factors
    below 1e-140, whose error is DEEP_ERROR, number at most depth / 322. Each row costs at most 4
    rounded operations on positive numbers, of 2^-53 each, combining the classes 8 K^2 more.
    """
    n, k = float(n_rows), float(min(n_neighbors, n_rows))
    log_terms = math.lgamma(n + 1.0) - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0)
    depth = 670.0 + log_terms + math.log(max(k, 1.0))
    rounding = (4.0 * n + 8.0 * k * k + 100.0) * 2.0**-53
    return (2.0 * depth + k) * RELATIVE_ERROR + depth / 322.0 * DEEP_ERROR + rounding


def can_win(labels: np.ndarray, n_classes: int, n_neighbors: int) -> np.ndarray:
    """Which classes have enough rows to win any vote of K of these rows."""
    counts = np.bincount(labels, minlength=n_classes)
    result = np.zeros(n_classes, dtype=bool)
    for c in range(n_classes):
        for votes in range(1, min(counts[c], n_neighbors) + 1):
            # Ties go to the lowest class: those before c must stay one vote behind.
            limits = np.where(np.arange(n_classes) < c, votes - 1, votes)
            others = np.minimum(counts, limits).sum() - min(counts[c], limits[c])
            result[c] |= others >= n_neighbors - votes
    return result


def _quadrature_error(fine: np.ndarray, middle: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Bound on the error of the trapezoidal rule from its values at steps h, 2h and 4h.

    Up to a constant, each halving at least squares a geometric error, so that of ``fine`` is about
    the fourth power of the relative change from 4h to 2h (doubled, for the error of ``middle`` in
    it) or less, and far below the change from 2h to h. The latter alone could vanish by symmetry
    where a peak is unresolved; both together cannot.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = 2.0 * np.abs(middle - coarse) / fine
    relative = np.where(fine > 0.0, np.minimum(relative, 1.0), 0.0)
    return np.abs(fine - middle) + fine * relative**4


def _softplus(w: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, w)


class _Integral:
    """The integrals of one test input, as a range of nodes that grows and is refined."""

    def __init__(self, u, labels, n_classes, n_neighbors, tables) -> None:
        self._args = (u, labels, n_classes, n_neighbors)
        self._tables: NoncentralChiTables = tables
        self.can_win = can_win(labels, n_classes, n_neighbors)
        self.step = _FIRST_STEP
        # The K-th nearest row alone would be found near here.
        r = math.sqrt(tables.n_features + u[n_neighbors - 1] ** 2)
        center = r + math.log(-math.expm1(-r))
        self.low = math.floor((center - 2.0 * _CHUNK) / self.step)
        self.high = math.ceil((center + _CHUNK) / self.step)
        # Tables pay off where many test inputs share their distances. Far out, each input has its
        # own, and few rows are in reach. The choice depends on this input alone.
        self._by_rows = center > math.sqrt(tables.n_features) + _FAR and u.size <= _FEW
        self.density, self.fewer, self.closer = self._nodes(np.arange(self.low, self.high + 1))

    def _nodes(self, index: np.ndarray):
        w = index * self.step
        r = _softplus(w)
        if self._by_rows:
            density, fewer, closer = integrands_by_rows(
                *self._args, r, self._tables.density_args, PANEL_POINTS, PANEL_WEIGHTS
            )
        else:
            density, fewer, closer = integrands_by_tables(*self._args, *self._tables.get(r))
        # dr/dw = exp(w) / (1 + exp(w))
        return density * np.exp(w - r)[:, None], fewer, closer

    def grow(self) -> tuple[np.ndarray, float]:
        """Widen the range until what is cut is negligible; returns the bounds on both cuts."""
        n_left = n_right = math.ceil(_CHUNK / self.step)
        largest = math.ceil(_MAX_CHUNK / self.step)
        while True:
            goal = _CUT_SHARE * np.maximum(self.integral(), PROBABILITY_FLOOR)
            goal = np.where(self.can_win, goal, np.inf)
            left = self.closer * _CUT_MARGIN
            right = float(self.fewer[-1]) * _CUT_MARGIN
            if (left > goal).any():
                density, fewer, self.closer = self._nodes(np.arange(self.low - n_left, self.low))
                self.density = np.concatenate([density, self.density])
                self.fewer = np.concatenate([fewer, self.fewer])
                self.low -= n_left
                n_left = min(2 * n_left, largest)
            elif right > goal.min():
                density, fewer, _ = self._nodes(np.arange(self.high + 1, self.high + n_right + 1))
                self.density = np.concatenate([self.density, density])
                self.fewer = np.concatenate([self.fewer, fewer])
                self.high += n_right
                n_right = min(2 * n_right, largest)
            else:
                return left, right

    def refine(self) -> None:
        """Halve the step."""
        self.step /= 2.0
        self.low, self.high = 2 * self.low, 2 * self.high
        odd, fewer_odd, _ = self._nodes(np.arange(self.low + 1, self.high, 2))
        density = np.empty((self.high - self.low + 1, odd.shape[1]))
        fewer = np.empty(self.high - self.low + 1)
        density[::2], density[1::2] = self.density, odd
        fewer[::2], fewer[1::2] = self.fewer, fewer_odd
        self.density, self.fewer = density, fewer

    def integral(self, coarser: int = 1) -> np.ndarray:
        """Trapezoidal sums at `coarser` times the step; the cut ends are bounded elsewhere."""
        first = -self.low % coarser
        return self.step * coarser * self.density[first::coarser].sum(axis=0)


def win_probabilities(
    u: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    n_neighbors: int,
    tables: NoncentralChiTables,
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

    Returns
    -------
    wins, wins_upper : ndarray of shape (n_classes,)
    """
    order = np.argsort(u, kind="stable")
    integral = _Integral(u[order], labels[order], n_classes, n_neighbors, tables)
    for halvings in range(_N_HALVINGS + 1):
        left, right = integral.grow()
        wins = integral.integral()
        error = _quadrature_error(wins, integral.integral(2), integral.integral(4))
        missing = abs(1.0 - wins.sum())
        goal = _QUADRATURE_SHARE * np.maximum(wins, PROBABILITY_FLOOR)
        if (error <= goal).all() and missing <= _QUADRATURE_SHARE:
            missing = 0.0
            break
        if halvings < _N_HALVINGS:
            integral.refine()
    upper = wins * (1.0 + relative_charge(u.size, n_neighbors))
    # `missing` is only left where the finest step did not resolve the integrand.
    upper += error + left + right + missing + PROBABILITY_FLOOR
    # A class without enough rows has no chance at all; rows out of reach are left to the floor.
    return wins, np.where(integral.can_win, upper, PROBABILITY_FLOOR)
