# SPDX-License-Identifier: BSD-3-Clause
r"""Bounds that came before that of Cohen et al. (2019, appendix I), for comparison.

Both speak of Gaussian noise and the l2 norm, and are smaller than `GaussianNoise.radius` for the
same bounds on the class probabilities: Figure 5 of Cohen et al. No estimator uses them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sksmooth.smoothing._bounds import log_bounds, positive_float
from sksmooth.smoothing._rounding import FloatArray

# Points of the grid over the free parameter of each bound. Any value of it gives a valid radius: a
# coarser grid is smaller, never false.
_POINTS = 400

# The formulas take some thirty roundings in float64, charged as so many relative errors of the
# result; where terms cancel, the result is small and the charge below covers it absolutely.
_RTOL = 1e-12
_ATOL = 1e-12


def _tails(
    p_a: ArrayLike, p_b: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, ...]]:
    log_tail, log_rival = log_bounds(p_a, p_b, None)
    tail, rival = np.exp(log_tail), np.exp(log_rival)
    return tail.reshape(-1, 1), rival.reshape(-1, 1), tail.shape


def _lowered(radius: Any, shape: tuple[int, ...], certified: Any) -> FloatArray:
    lowered = np.maximum(radius * (1.0 - _RTOL) - _ATOL, 0.0)
    return np.where(certified, lowered, -1.0).reshape(shape)


def lecuyer_radius(p_a: ArrayLike, p_b: ArrayLike | None = None, *, sigma: float) -> FloatArray:
    r"""Return l2 radii by differential privacy (Lecuyer et al., 2019).

    Noise of deviation :math:`\sigma` is :math:`(\epsilon, \delta)`-private at distance r for
    :math:`r = \sigma \epsilon / \sqrt{2 \log(1.25 / \delta)}`, :math:`\epsilon \le 1`; the answer
    cannot change where :math:`p_A > e^{2 \epsilon} p_B + (1 + e^\epsilon) \delta`. For each
    :math:`\epsilon`, :math:`\delta` is the largest allowed; the best on a grid is returned.

    Parameters
    ----------
    p_a : array-like of float in [0, 1]
        Lower bounds on the probability of the top class.
    p_b : array-like of float in (0, 1], default=None
        Upper bounds on that of every other class; ``1 - p_a`` if None.
    sigma : float
        Standard deviation of the noise.

    Returns
    -------
    ndarray of float64
        Radii, -1 where ``p_a <= p_b``.

    Examples
    --------
    >>> from sksmooth.smoothing import GaussianNoise
    >>> from sksmooth.smoothing._earlier_bounds import lecuyer_radius, li_radius
    >>> bounds = lecuyer_radius(0.99, sigma=1.0), li_radius(0.99, sigma=1.0)
    >>> [f"{float(r):.3f}" for r in (*bounds, GaussianNoise(1.0).radius(0.99))]
    ['0.555', '1.908', '2.326']
    """
    sigma = positive_float(sigma, "sigma")
    tail, rival, shape = _tails(p_a, p_b)
    epsilon = np.linspace(1.0 / _POINTS, 1.0, _POINTS)
    delta = ((1.0 - tail) - np.exp(2.0 * epsilon) * rival) / (1.0 + np.exp(epsilon))
    allowed = (delta > 0.0) & (delta < 1.0)
    root = np.sqrt(2.0 * np.log(1.25 / np.where(allowed, delta, 0.5)))
    best = np.where(allowed, sigma * epsilon / root, 0.0).max(axis=1, keepdims=True)
    return _lowered(best, shape, 1.0 - tail > rival)


def li_radius(p_a: ArrayLike, p_b: ArrayLike | None = None, *, sigma: float) -> FloatArray:
    r"""Return l2 radii by Renyi divergence (Li et al., 2018).

    The Renyi divergence of order :math:`\alpha` between noise at distance r is
    :math:`\alpha r^2 / (2 \sigma^2)`, and no answer changes below

    .. math:: r^2 = \sup_{\alpha > 1} - \frac{2 \sigma^2}{\alpha} \log\left(1 - p_A - p_B
        + 2 \left(\frac{p_A^{1 - \alpha} + p_B^{1 - \alpha}}{2}\right)^{1 / (1 - \alpha)}\right).

    The best :math:`\alpha` on a grid is taken.

    Parameters
    ----------
    p_a : array-like of float in [0, 1]
        Lower bounds on the probability of the top class.
    p_b : array-like of float in (0, 1], default=None
        Upper bounds on that of every other class; ``1 - p_a`` if None.
    sigma : float
        Standard deviation of the noise.

    Returns
    -------
    ndarray of float64
        Radii, -1 where ``p_a <= p_b``.

    Examples
    --------
    >>> from sksmooth.smoothing._earlier_bounds import li_radius
    >>> print(f"{float(li_radius(0.9, 0.05, sigma=2.0)):.3f}")
    2.499
    """
    sigma = positive_float(sigma, "sigma")
    tail, rival, shape = _tails(p_a, p_b)
    top = 1.0 - tail
    certified = top > rival
    top = np.where(certified, top, 0.5)
    less = np.minimum(rival, top)
    order = 1.0 + np.geomspace(1e-3, 1e3, _POINTS)
    power = 1.0 - order
    # The mean of order 1 - alpha, from the smaller of the two: its power is the larger one.
    log_mean = np.log(less) + np.log1p(np.expm1(power * np.log(top / less)) / 2.0) / power
    inside = 1.0 - top - less + 2.0 * np.exp(log_mean)
    squares = -2.0 / order * np.log(np.clip(inside, 1e-300, 1.0))
    best = sigma * np.sqrt(np.maximum(squares, 0.0).max(axis=1, keepdims=True))
    # A square off by 1e-15 is a root off by 3e-8 next to 0.
    best = np.where(best < 1e-4 * sigma, 0.0, best)
    return _lowered(best, shape, certified) if math.isfinite(sigma) else -np.ones(shape)
