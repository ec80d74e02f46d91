# SPDX-License-Identifier: BSD-3-Clause
"""Smoothed K-NN on quantised distances (RAB, Section 6.3 and Appendix C), for any K and classes.

The classifier differs from plain K-NN: distances are known only up to a level, and rows in one
level are ranked by their index. Its smoothed probabilities need no integral, only sums, here in
O(n L C K^3) operations where the paper's algorithm takes O(K^(2+C) n^2 L C).
"""

from __future__ import annotations

import numpy as np
from scipy.special import chdtri

from ._kernels import (
    LANES,
    MAX_UNROLLED_LEVELS,
    locate,
    quantized_wins,
    quantized_wins_of_two,
)
from ._noncentral_chi import NoncentralChiTables
from ._plain import CUT_SHARE, PROBABILITY_FLOOR, can_win, relative_charge

# No row falls below the first edge more often than this, wherever it is.
_BELOW_FIRST_EDGE = 1e-12


def level_edges(n_levels: int, n_features: int, sigma: np.ndarray) -> np.ndarray:
    """Inner edges of the levels, as distances in units of sigma.

    They must not depend on the training rows, which an attacker may move, and so use the number of
    features and sigma alone: half of the levels up to the typical distance of two rows whose
    features differ by 1 each, the others further and further apart:
    ``first + scale * l / (n_levels - l)``. The first level starts from 0 and the last has no end,
    so no probability is lost.

    Parameters
    ----------
    n_levels : int
    n_features : int
    sigma : ndarray of shape () or (n_features,)

    Returns
    -------
    ndarray of shape (n_levels - 1,)
    """
    first = np.sqrt(chdtri(n_features, 1.0 - _BELOW_FIRST_EDGE))
    spread = np.broadcast_to(1.0 / sigma, (n_features,))
    scale = np.sqrt(n_features + np.sum(spread**2)) - first
    level = np.arange(1, n_levels)
    return first + scale * level / (n_levels - level)


class _Levels:
    """Sums over a growing range of levels for one test input."""

    def __init__(self, u, labels, n_classes, n_neighbors, tables, edges) -> None:
        self._rows = (*locate(u), labels, n_classes, n_neighbors)
        self._tables: NoncentralChiTables = tables
        # Blocks of LANES edges that share their outermost; the first and the last level have one.
        n_blocks = -(-(edges.size + 1) // (LANES - 1))
        self._edges = np.full(n_blocks * (LANES - 1) + 1, np.inf)
        self._edges[0] = 0.0
        self._edges[1 : edges.size + 1] = edges
        self._n_blocks = n_blocks
        self.can_win = can_win(labels, n_classes, n_neighbors)
        # A term for each row and level of a block is summed.
        self.charge = relative_charge(LANES * u.size, n_neighbors, tables)
        self._margin = 1.0 + 2.0 * self.charge
        # The K-th nearest row alone would be found near here.
        kth = np.partition(u, n_neighbors - 1)[n_neighbors - 1]
        level = np.searchsorted(edges, np.sqrt(tables.n_features + kth * kth))
        self.low = int(level) // (LANES - 1)
        self.high = self.low + 1
        self.wins, self.upper, self.closer, self.fewer = self._block(self.low)

    def _block(self, block: int):
        start = block * (LANES - 1)
        piece, v, labels, n_classes, n_neighbors = self._rows
        edges = self._edges[start : start + LANES]
        slot, *tables = self._tables.get_apart(edges, piece)
        args = (n_neighbors, 0, *tables, self._tables.relative_error, self._tables.deep_error)
        if n_classes == 2:
            unrolled = (0,) * n_neighbors if n_neighbors <= MAX_UNROLLED_LEVELS else ()
            return quantized_wins_of_two(slot, v, labels, *args, unrolled)
        return quantized_wins(slot, v, labels, n_classes, *args)

    def grow(self) -> tuple[np.ndarray, float]:
        """Take in levels until the others are negligible; returns the bounds on both cuts."""
        while True:
            goal = CUT_SHARE * np.maximum(self.wins, PROBABILITY_FLOOR)
            goal = np.where(self.can_win, goal, np.inf)
            left, right = self.closer * self._margin, self.fewer * self._margin
            if self.low > 0 and (left > goal).any():
                self.low -= 1
                wins, upper, self.closer, _ = self._block(self.low)
            elif self.high < self._n_blocks and right > goal.min():
                wins, upper, _, self.fewer = self._block(self.high)
                self.high += 1
            else:
                return left, right
            self.wins, self.upper = self.wins + wins, self.upper + upper


def win_probabilities(
    u: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    n_neighbors: int,
    tables: NoncentralChiTables,
    edges: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Probability that each class wins the vote on quantised distances, and an upper bound.

    Parameters
    ----------
    u : ndarray of shape (n_rows,)
        Distances of the training rows from the test input in units of sigma, in row order.
    labels : ndarray of shape (n_rows,)
        Class indices.
    n_classes, n_neighbors : int
    tables : NoncentralChiTables
    edges : ndarray of shape (n_levels - 1,)
        As from :func:`level_edges`.

    Returns
    -------
    wins, wins_upper : ndarray of shape (n_classes,)
    """
    levels = _Levels(u, labels, n_classes, n_neighbors, tables, edges)
    left, right = levels.grow()
    wins, upper = levels.wins, levels.upper
    upper = upper * (1.0 + levels.charge) + left + right + PROBABILITY_FLOOR
    # A class without enough rows has no chance at all.
    return wins, np.where(levels.can_win, upper, PROBABILITY_FLOOR)
