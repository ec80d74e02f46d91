# SPDX-License-Identifier: BSD-3-Clause
"""Bounds on class probabilities: what may be passed, and their logarithms on the safe side."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sksmooth.exceptions import InvalidBoundError
from sksmooth.smoothing._rounding import FloatArray, log_upper, up

# 1 - p_a is never taken below the spacing of floats under 1: a p_a of 1.0 may be anything that
# rounds to 1.
TAIL_FLOOR = 2.0**-53


def positive_float(value: Any, name: str) -> float:
    """Return `value` as a float if it is a finite number above 0, else raise ValueError."""
    if not isinstance(value, (bool, np.bool_)) and isinstance(value, numbers.Real):
        number = float(value)
        if 0.0 < number < math.inf:
            return number
    raise ValueError(f"{name} must be a finite float above 0. Got {value!r} instead.")


def checked_int(value: Any, name: str, *, minimum: int, maximum: int | None = None) -> int:
    """Return `value` as an int if it is an integer in [minimum, maximum], else raise ValueError."""
    if not isinstance(value, (bool, np.bool_)) and isinstance(value, numbers.Integral):
        number = int(value)
        if number >= minimum and (maximum is None or number <= maximum):
            return number
    top = "" if maximum is None else f" and at most {maximum}"
    raise ValueError(
        f"{name} must be an integer of at least {minimum}{top}. Got {value!r} instead."
    )


def checked_probability(p: ArrayLike, name: str, *, positive: bool = False) -> FloatArray:
    """Return `p` as a float64 array if all its entries lie in [0, 1], or in (0, 1]."""
    values = np.asarray(p, dtype=np.float64)
    bad = ~((values >= 0.0) & (values <= 1.0))  # also catches NaN
    if positive:
        bad |= values == 0.0
    if np.any(bad):
        interval = "(0, 1]" if positive else "[0, 1]"
        why = " An upper bound keeps a positive floor, its charged error." if positive else ""
        raise InvalidBoundError(f"{name} must lie in {interval}. Got {_first(values, bad)}.{why}")
    return values


def checked_size(size: ArrayLike) -> FloatArray:
    """Return `size` as a float64 array if all its entries are finite and at least 0."""
    values = np.asarray(size, dtype=np.float64)
    bad = ~((values >= 0.0) & (values < np.inf))
    if np.any(bad):
        raise ValueError(f"size must be finite and at least 0. Got {_first(values, bad)}.")
    return values


def checked_log_probability(log_p: ArrayLike, name: str) -> FloatArray:
    """Return `log_p` as a float64 array if all its entries are finite and at most 0."""
    values = np.asarray(log_p, dtype=np.float64)
    bad = ~((values > -np.inf) & (values <= 0.0))
    if np.any(bad):
        raise InvalidBoundError(
            f"{name} must be finite and at most 0, the logarithm of an upper bound in (0, 1]. "
            f"Got {_first(values, bad)}."
        )
    return values


def _first(values: FloatArray, bad: NDArray[np.bool_]) -> str:
    where = int(np.argmax(bad))  # the flat index
    value = float(values.flat[where])
    return f"{value!r} instead" + (f" at position {where}" if values.ndim else "")


def log_bounds(
    p_a: ArrayLike, p_b: ArrayLike | None, tail_a: ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """Return upper bounds on ``log(1 - p_a)`` and ``log(p_b)``.

    Without `tail_a`, ``1 - p_a`` is rounded up and kept above 2**-53. Without `p_b`, the runner-up
    gets all that the top class leaves.
    """
    p_a = checked_probability(p_a, "p_a")
    if tail_a is None:
        log_tail_a = log_upper(np.clip(up(1.0 - p_a), TAIL_FLOOR, 1.0))
    else:
        log_tail_a = log_upper(checked_probability(tail_a, "tail_a", positive=True))
    log_p_b = log_tail_a
    if p_b is not None:
        log_p_b = log_upper(checked_probability(p_b, "p_b", positive=True))
    return ordered_log_bounds(log_tail_a, log_p_b)


def ordered_log_bounds(
    log_tail_a: ArrayLike, log_p_b: ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """Check and broadcast both logarithms, and put ``p_b`` at most at ``1 - p_a``."""
    log_tail_a = checked_log_probability(log_tail_a, "log_tail_a")
    log_p_b = log_tail_a if log_p_b is None else checked_log_probability(log_p_b, "log_p_b")
    log_tail_a, log_p_b = np.broadcast_arrays(log_tail_a, log_p_b)
    return log_tail_a, np.minimum(log_p_b, log_tail_a)
