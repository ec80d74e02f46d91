# SPDX-License-Identifier: BSD-3-Clause
"""From Chernoff bounds on pairs of classes to bounds on votes, and to radii."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np

from ..smoothing import CategoricalNoise
from ..smoothing._flip_lattice import duality_radii

_EPS = 2.0**-52
_LOWEST = -1e15


def log_vote_bounds(log_bounds: np.ndarray, top: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return upper bounds on ``log(1 - p_a)`` and on ``log(p_b)``.

    A rival wins the vote only where its score reaches the winner's, so its bound holds for its
    share of the vote, and the winner loses at most the sum of them.

    Parameters
    ----------
    log_bounds : ndarray of shape (n_samples, n_classes)
        Logarithms of upper bounds on "the score of this class reaches that of the top class".
    top : ndarray of shape (n_samples,)
    """
    rivals = log_bounds.copy()
    rivals[np.arange(top.size), top] = -np.inf
    largest = np.maximum(rivals.max(axis=1), _LOWEST)  # without noise, logarithms are infinite
    total = largest + np.log(np.exp(rivals - largest[:, None]).sum(axis=1) + _EPS)
    # exp, a sum of at most n_classes terms, log, and the last sum.
    total = total + _EPS * (8.0 * np.abs(largest) + 2.0 * rivals.shape[1] + 16.0)
    return np.minimum(total, 0.0), np.minimum(largest, 0.0)


def radii_from_bounds(
    flips: np.ndarray,
    log_tail_a: np.ndarray,
    log_p_b: np.ndarray,
    noise: CategoricalNoise | None,
    certificate: str,
    n_rows: int,
) -> np.ndarray:
    """Return certified numbers of flips, or -1."""
    if noise is None:
        return flips
    bound = "kl" if certificate == "kl" else "exact"
    radii = noise.radius_from_log(
        log_tail_a,
        log_p_b if noise.n_categories > 2 else None,
        n_coordinates=n_rows,
        bound=bound,
    )
    # These keep the vote; the prediction, by the means, stays too.
    by_means = duality_radii(log_p_b, noise.q, noise.n_categories, n_rows)
    radii = np.minimum(radii, by_means)
    return np.maximum(radii, flips) if certificate == "exact" else radii


@lru_cache(maxsize=16)
def sign_cumulants(p: float, order: int = 11) -> np.ndarray:
    """Return cumulants of a sign that is 1 with probability p, each over its order's factorial.

    Those of ``-1, 1`` follow from ``k_(m+1) = p (1 - p) d k_m / d p`` of the indicator. They are
    computed as fractions: the alternating sums cancel.
    """
    exact = Fraction(p)
    cumulants = [0.0, float(2 * exact - 1)]
    polynomial = [0, 1]
    for m in range(2, order + 1):
        derivative = [i * c for i, c in enumerate(polynomial)][1:]
        polynomial = [0] * (len(derivative) + 2)
        for i, c in enumerate(derivative):
            polynomial[i + 1] += c
            polynomial[i + 2] -= c
        value = sum(c * exact**i for i, c in enumerate(polynomial))
        cumulants.append(float(value * 2**m / math.factorial(m)))
    result = np.array(cumulants)
    result.flags.writeable = False
    return result
