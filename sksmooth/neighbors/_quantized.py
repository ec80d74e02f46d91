# SPDX-License-Identifier: BSD-3-Clause
"""Smoothed K-NN on quantised distances (RAB, Section 6.3 and Appendix C), for any K and classes.

The classifier differs from plain K-NN: distances are known only up to a level, and rows in one
level are ranked by their index. Its smoothed probabilities need no integral, only sums, here in
O(n L C K^3) operations where the paper's algorithm takes O(K^(2+C) n^2 L C).
"""

from __future__ import annotations

import numpy as np
from scipy.special import chdtri

from ._kernels import quantized_wins
from ._noncentral_chi import DEEP_ERROR, RELATIVE_ERROR, NoncentralChiTables
from ._plain import PROBABILITY_FLOOR, relative_charge

# No row falls below the first edge more often than this, wherever it is.
_BELOW_FIRST_EDGE = 1e-12


def level_edges(n_levels: int, n_features: int, inverse_sigma: np.ndarray) -> np.ndarray:
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
    inverse_sigma : ndarray of shape (n_features,)

    Returns
    -------
    ndarray of shape (n_levels - 1,)
    """
    first = np.sqrt(chdtri(n_features, 1.0 - _BELOW_FIRST_EDGE))
    scale = np.sqrt(n_features + np.sum(inverse_sigma**2)) - first
    level = np.arange(1, n_levels)
    return first + scale * level / (n_levels - level)


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
    wins, upper = quantized_wins(
        u, labels, n_classes, n_neighbors, *tables.get(edges),
        RELATIVE_ERROR, DEEP_ERROR, 1e-3 * PROBABILITY_FLOOR,
    )  # fmt: skip
    upper = upper * (1.0 + relative_charge(u.size, n_neighbors)) + PROBABILITY_FLOOR
    return wins, upper
