# SPDX-License-Identifier: BSD-3-Clause
"""Directed rounding: every helper here names the side on which its result falls.

Results of one IEEE operation lie within half a spacing of the exact value, so the next float below
such a result lies strictly below the exact value, and the next float above strictly above it. This
holds at powers of two as well, where the two spacings differ.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)

# The value of log_ndtr below is the exact one at an argument off by a relative rounding or two,
# itself off by a rounding or two: against mpmath 1.5 eps for negative arguments, (1 + x^2) eps for
# positive ones, with scipy 1.11 and 1.17 alike; 8 and 4 are charged, and a test holds half of that.
_LOG_NDTR_RTOL = 8 * EPS
_LOG_NDTR_ARGUMENT_RTOL = 4 * EPS

# numpy's log, exp, log1p and expm1 are documented to stay below 4 units in the last place on every
# platform it vectorises for (measured: below 1); 4 are charged.
_ELEMENTARY_RTOL = 4 * EPS


def down(x: Any) -> FloatArray:
    """Return the next float below `x`: strictly below the exact value if `x` is one rounding."""
    result: FloatArray = np.nextafter(np.asarray(x, dtype=np.float64), -np.inf)
    return result


def up(x: Any) -> FloatArray:
    """Return the next float above `x`: strictly above the exact value if `x` is one rounding."""
    result: FloatArray = np.nextafter(np.asarray(x, dtype=np.float64), np.inf)
    return result


def elementary_lower(x: Any) -> FloatArray:
    """Move the value of one elementary function below the exact one."""
    x = np.asarray(x, dtype=np.float64)
    return down(x - _ELEMENTARY_RTOL * np.abs(x))


def elementary_upper(x: Any) -> FloatArray:
    """Move the value of one elementary function above the exact one."""
    x = np.asarray(x, dtype=np.float64)
    return up(x + _ELEMENTARY_RTOL * np.abs(x))


def log_upper(p: Any) -> FloatArray:
    """Return an upper bound on ``log(p)`` for `p` in (0, 1], never above 0."""
    return np.minimum(elementary_upper(np.log(p)), 0.0)


def sqrt_upper(n: int) -> float:
    """Return an upper bound on the square root of a non-negative integer of any size."""
    if n < 2**52:
        return math.nextafter(math.sqrt(n), math.inf)
    # isqrt is exact and its successor exceeds the root; 2**108 keeps 54 bits after the point
    root = Fraction(math.isqrt(n << 108) + 1, 2**54)
    try:
        return math.nextafter(float(root), math.inf)
    except OverflowError:
        return math.inf


def log_ndtr(x: Any) -> FloatArray:
    """Return the logarithm of the normal distribution function, to a few roundings.

    scipy's function serves the deep tail only: nearer to 0, older versions are off by 6 eps.
    """
    x = np.asarray(x, dtype=np.float64)
    result: FloatArray = np.empty_like(x)
    right, deep = x > 0.0, ~(x > -10.0)  # NaN goes to scipy and stays
    left = ~right & ~deep
    result[right] = np.log1p(-special.ndtr(-x[right]))
    result[left] = np.log(special.ndtr(x[left]))
    result[deep] = special.log_ndtr(x[deep])
    return result


def normal_isf_lower(log_p: Any) -> FloatArray:
    """Return a lower bound on the normal quantile ``isf(p)`` from ``log(p)``, for `p` in (0, 1).

    The library's quantile is only a starting point. It is stepped down until the survival function
    confirms it with the error of the survival function itself charged, so the result is below
    ``isf(p)`` whatever the quantile's own accuracy.

    Parameters
    ----------
    log_p : array-like of float in (-inf, 0)
        Natural logarithms of upper tail probabilities.

    Returns
    -------
    ndarray of float
        Finite, below the exact quantile by a few units in the last place.
    """
    log_p = np.asarray(log_p, dtype=np.float64)
    target = log_p * (1.0 - _LOG_NDTR_RTOL)
    x: FloatArray = np.asarray(-special.ndtri_exp(log_p), dtype=np.float64)
    # One Newton step: beyond 30 the hazard rate lies between x and x + 1/x.
    log_sf = log_ndtr(-x)
    density_exponent = np.where(x < 30.0, -0.5 * np.minimum(x, 30.0) ** 2 - log_sf, 0.0)
    hazard = np.where(x < 30.0, np.exp(density_exponent) / math.sqrt(2.0 * math.pi), x)
    with np.errstate(divide="ignore", invalid="ignore"):
        newton = x + (log_sf - log_p) / hazard
    x = np.where(np.isfinite(newton), newton, x)
    step = EPS * np.maximum(np.abs(x), 1.0)
    # the steps double: 64 of them span the whole float range above one spacing
    for _ in range(64):
        unconfirmed = ~(log_ndtr(-x) >= target)  # true for NaN
        if not np.any(unconfirmed):
            break
        x = np.where(unconfirmed, x - step, x)
        step = 2.0 * step
    else:
        raise FloatingPointError("no normal quantile could be confirmed by the survival function.")
    return down(x - _LOG_NDTR_ARGUMENT_RTOL * np.abs(x))
