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

# Up to here every integer is a float64 as well.
LARGEST_INT = 2**53


def positive_float(value: Any, name: str) -> float:
    """Return `value` as a float if it is a finite number above 0, else raise ValueError."""
    if not isinstance(value, (bool, np.bool_)) and isinstance(value, numbers.Real):
        number = as_float(value)
        if 0.0 < number < math.inf:
            return number
    raise ValueError(f"{name} must be a finite float above 0. Got {value!r} instead.")


def as_float(value: Any) -> float:
    """Return `value` as a float, inf where it is beyond the largest."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def checked_int(value: Any, name: str, *, minimum: int, maximum: int = LARGEST_INT) -> int:
    """Return `value` as an int if it is an integer in [minimum, maximum], else raise ValueError."""
    if not isinstance(value, (bool, np.bool_)) and isinstance(value, numbers.Integral):
        number = int(value)
        if minimum <= number <= maximum:
            return number
    raise ValueError(
        f"{name} must be an integer of at least {minimum} and at most {maximum}. "
        f"Got {value!r} instead."
    )


def checked_probability(p: ArrayLike, name: str, *, positive: bool = False) -> FloatArray:
    """Return `p` as a float64 array if all its entries lie in [0, 1], or in (0, 1]."""
    values = _real_array(p, name, InvalidBoundError).astype(np.float64)
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
    values = _real_array(size, "size", ValueError).astype(np.float64)
    bad = ~((values >= 0.0) & (values < np.inf))
    if np.any(bad):
        raise ValueError(f"size must be finite and at least 0. Got {_first(values, bad)}.")
    return values


def checked_log_probability(log_p: ArrayLike, name: str) -> FloatArray:
    """Return `log_p` as a float64 array if all its entries are finite and at most 0."""
    given = _real_array(log_p, name, InvalidBoundError)
    values = given.astype(np.float64)
    bad = ~((values > -np.inf) & (values <= 0.0))
    if np.any(bad):
        raise InvalidBoundError(
            f"{name} must be finite and at most 0, the logarithm of an upper bound in (0, 1]. "
            f"Got {_first(values, bad)}."
        )
    return np.minimum(_unrounded(given, np.inf), 0.0)


def in_units(size: FloatArray, unit: float) -> FloatArray:
    """Return ``size / unit``, finite: the largest float where the quotient is beyond it."""
    with np.errstate(over="ignore"):
        return np.minimum(size / unit, np.finfo(np.float64).max)


def _real_array(values: Any, name: str, error: type[ValueError]) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise error(
            f"{name} must hold real numbers, no booleans or strings. "
            f"Got an array of dtype {array.dtype} instead."
        )
    return array


def _unrounded(given: NDArray[Any], towards: float) -> FloatArray:
    """Return `given` in float64, beyond what may have been rounded to it in another float type.

    float64 is taken at its word. float32 and float16 move by one of their own spacings, wider
    types by one of float64; rounding to nearest is off by half of that.
    """
    if given.dtype.kind != "f" or given.dtype == np.float64:
        return given.astype(np.float64)
    if given.dtype.itemsize > 8:
        given = given.astype(np.float64)
    moved: FloatArray = np.nextafter(given, given.dtype.type(towards)).astype(np.float64)
    return moved


def _upper(p: ArrayLike, name: str) -> FloatArray:
    """Check an upper bound on a probability and return it in float64, rounded up."""
    checked_probability(p, name, positive=True)
    return np.minimum(_unrounded(np.asarray(p), np.inf), 1.0)


def _broadcast(**arrays: FloatArray) -> tuple[FloatArray, ...]:
    try:
        return tuple(np.broadcast_arrays(*arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} of shape {array.shape}" for name, array in arrays.items())
        raise InvalidBoundError(
            f"Bounds must have shapes that broadcast together. Got {shapes}."
        ) from None


def _first(values: FloatArray, bad: NDArray[np.bool_]) -> str:
    where = int(np.argmax(bad))  # the flat index
    value = float(values.flat[where])
    return f"{value!r} instead" + (f" at position {where}" if values.ndim else "")


def log_bounds(
    p_a: ArrayLike, p_b: ArrayLike | None, tail_a: ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """Return upper bounds on ``log(1 - p_a)`` and ``log(p_b)``.

    Without `tail_a`, ``1 - p_a`` is rounded up and kept above 2**-53. Without `p_b`, the runner-up
    gets all that the top class leaves. Bounds in float32 and the like may have been rounded to it:
    each is moved by one spacing of its type, against the radius.
    """
    given = checked_probability(p_a, "p_a")
    if tail_a is None:
        lowest = _unrounded(np.asarray(p_a), -np.inf)
        tails = np.clip(up(1.0 - lowest), TAIL_FLOOR, 1.0)
    else:
        _, tails = _broadcast(p_a=given, tail_a=_upper(tail_a, "tail_a"))
    log_tail_a = log_upper(tails)
    log_p_b = log_tail_a
    if p_b is not None:
        tops = "p_a" if tail_a is None else "tail_a"
        log_p_b = log_upper(_broadcast(**{tops: tails, "p_b": _upper(p_b, "p_b")})[1])
    return ordered_log_bounds(log_tail_a, log_p_b)


def ordered_log_bounds(
    log_tail_a: ArrayLike, log_p_b: ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """Check and broadcast both logarithms, and put ``p_b`` at most at ``1 - p_a``."""
    log_tail_a = checked_log_probability(log_tail_a, "log_tail_a")
    log_p_b = log_tail_a if log_p_b is None else checked_log_probability(log_p_b, "log_p_b")
    log_tail_a, log_p_b = _broadcast(log_tail_a=log_tail_a, log_p_b=log_p_b)
    return log_tail_a, np.minimum(log_p_b, log_tail_a)
