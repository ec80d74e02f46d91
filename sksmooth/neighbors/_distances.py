# SPDX-License-Identifier: BSD-3-Clause
"""Distances of training rows from test inputs in units of sigma."""

from __future__ import annotations

import math

import numpy as np

from ._kernels import add_squared_distances


class ScaledRows:
    """Training rows, and distances from them.

    Features are multiplied by the power of two next to 1 / sigma. That rounds nothing, neither
    differences nor squares leave the range of floats where distances do not, and for one sigma for
    all features the rest is one multiplication per distance.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), C-contiguous float64
        Overwritten.
    sigma : ndarray of shape () or (n_features,)
    """

    def __init__(self, X: np.ndarray, sigma: np.ndarray) -> None:
        mantissa, self._exponent = np.frexp(1.0 / sigma)
        self._X = self._scaled(X, out=X)
        self._weights = np.empty(0) if sigma.ndim == 0 else mantissa**2
        self._factor = float(mantissa) if sigma.ndim == 0 else 1.0

    def _scaled(self, X, out=None) -> np.ndarray:
        # What overflows is farther away than can be certified: an error where it matters.
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(X, self._exponent, out=out)

    def distances(self, inputs: np.ndarray) -> np.ndarray:
        """Distances in units of sigma, of shape (n_inputs, n_rows).

        Their relative error is below ``(n_features + 8) 2^-53``, whichever the order of summation:
        they are summed from differences, so nothing cancels.
        """
        out = np.zeros((inputs.shape[0], self._X.shape[0]))
        add_squared_distances(self._X, self._scaled(inputs), self._weights, out)
        np.sqrt(out, out=out)
        out *= self._factor
        return out


def distance_charge(u: np.ndarray, n_features: int) -> float:
    """Size of a change of the training rows, in sigmas, that makes up for rounded distances.

    Each computed distance is the exact one of its row, moved along the line to the test input by at
    most the relative error of `ScaledRows.distances`. What follows from the distances is exact for
    training data that are off by the norm of these moves, and a radius is smaller by as much.
    """
    # 1.01 covers the rounding of the norm itself. (np.linalg.norm would start threads of BLAS.)
    return 1.01 * (n_features + 8.0) * 2.0**-53 * math.sqrt(float(np.square(u).sum()))
