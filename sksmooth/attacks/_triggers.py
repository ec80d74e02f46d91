# SPDX-License-Identifier: BSD-3-Clause
"""Backdoor patterns of a given l2 norm, to be added to training rows and to test inputs.

The size of a pattern is compared with a certified radius, so it has a side: a pattern that is
longer than asked for, by one rounding, could change a prediction that was rightly certified at
`norm`, and a test would blame the certificate. Every rounding here shortens the pattern.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, validate_params

# Between these bounds neither the squares of the entries nor their sum leave the range of normal
# float64 numbers (2.2e-308 to 1.8e308), so the relative error of each operation is at most 2**-53.
_NORM_MIN, _NORM_MAX = 1e-100, 1e100


@validate_params(
    {
        "shape": [Integral, tuple, list],
        "norm": [Interval(Real, 0, None, closed="left")],
        "index": [Integral, tuple, list, None],
        "direction": [Options(Real, {-1, 1})],
    },
    prefer_skip_nested_validation=True,
)
def one_feature_trigger(
    shape: int | Sequence[int],
    norm: float,
    *,
    index: int | Sequence[int] | None = None,
    direction: int = 1,
) -> NDArray[np.float64]:
    """Trigger of the given l2 norm on a single entry, zero elsewhere.

    For images this is the one-pixel pattern in the middle of the image of section 7.1 in
    [WX20]_ (with colours: of one channel of that pixel).

    Parameters
    ----------
    shape : int or tuple of int
        Shape of one input: the number of features of a table, or the shape of an image. Every
        entry is at least 1.
    norm : float
        l2 norm of the trigger, in the unit of the features: 0 or in [1e-100, 1e100].
    index : int or tuple of int, default=None
        The entry that is changed, with one number per axis of `shape` (an int where there is one
        axis); negative numbers count from the end. By default the middle of every axis,
        ``n // 2``, which on a table is merely some feature.
    direction : {-1, 1}, default=1
        Sign of the change.

    Returns
    -------
    delta : ndarray of shape `shape`, float64
        The trigger. Its l2 norm is `norm` exactly: nothing is rounded.

    Raises
    ------
    ValueError
        If `shape`, `norm`, `index` or `direction` is outside its range, or `index` has another
        number of axes than `shape`.

    See Also
    --------
    blending_trigger : A trigger that changes every entry.
    poison : Adds a trigger to some of the training rows.

    References
    ----------
    .. [WX20] M. Weber, X. Xu, B. Karlas, C. Zhang, B. Li, "RAB: Provable Robustness Against
       Backdoor Attacks", arXiv:2003.08904.

    Examples
    --------
    >>> from sksmooth.attacks import one_feature_trigger
    >>> one_feature_trigger(4, 0.5, index=1).tolist()
    [0.0, 0.5, 0.0, 0.0]
    >>> one_feature_trigger((3, 3), 2.0, direction=-1).tolist()
    [[0.0, 0.0, 0.0], [0.0, -2.0, 0.0], [0.0, 0.0, 0.0]]
    """
    axes = _check_shape(shape)
    place = _check_index(index, axes)
    delta = np.zeros(axes)
    # Plus 0.0, so that a trigger of norm 0 has no negative zero.
    delta[place] = direction * _check_norm(norm) + 0.0
    return delta


@validate_params(
    {
        "shape": [Integral, tuple, list],
        "norm": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def blending_trigger(
    shape: int | Sequence[int],
    norm: float,
    *,
    random_state: int | RandomState | None = None,
) -> NDArray[np.float64]:
    """Trigger of the given l2 norm that spreads over every entry, in a random direction.

    The blending pattern of section 7.1 in [WX20]_: one fixed pattern of random noise, added to
    each poisoned input. The paper does not say which noise; here the direction is uniform on the
    sphere (independent standard normal entries, scaled to the norm).

    Parameters
    ----------
    shape : int or tuple of int
        Shape of one input: the number of features of a table, or the shape of an image. Every
        entry is at least 1.
    norm : float
        l2 norm of the trigger, in the unit of the features: 0 or in [1e-100, 1e100].
    random_state : int, RandomState instance or None, default=None
        Draws the direction. The same int gives the same direction at every `norm`.

    Returns
    -------
    delta : ndarray of shape `shape`, float64
        The trigger. Its l2 norm, in exact arithmetic on the returned floats, is at most `norm`
        and at least ``(1 - 1e-12) * norm``.

    Raises
    ------
    ValueError
        If `shape`, `norm` or `random_state` is outside its range.

    See Also
    --------
    one_feature_trigger : A trigger that changes one entry.
    poison : Adds a trigger to some of the training rows.

    References
    ----------
    .. [WX20] M. Weber, X. Xu, B. Karlas, C. Zhang, B. Li, "RAB: Provable Robustness Against
       Backdoor Attacks", arXiv:2003.08904.

    Examples
    --------
    >>> import numpy as np
    >>> from sksmooth.attacks import blending_trigger
    >>> delta = blending_trigger((28, 28), 0.1, random_state=0)
    >>> delta.shape
    (28, 28)
    >>> f"{np.linalg.norm(delta):.10f}"
    '0.1000000000'
    """
    axes = _check_shape(shape)
    norm = _check_norm(norm)
    noise: NDArray[np.float64] = check_random_state(random_state).standard_normal(axes)
    if norm == 0:
        return np.zeros(axes)
    # With u = 2**-53: each square is off by at most u, `fsum` rounds once, the root halves both
    # and rounds, then come a quotient and two products: below, 5u in all (1 - 8u is exact). The
    # factor 1 - 8u keeps the true norm below `norm`, by at most 13u = 1.5e-15 of it.
    length = math.sqrt(math.fsum((noise * noise).ravel()))
    return noise * (norm / length * (1.0 - 2.0**-50))


def _check_shape(shape: Any) -> tuple[int, ...]:
    axes = (shape,) if isinstance(shape, Integral) else tuple(shape)
    if not axes or not all(_is_integer(axis) and axis >= 1 for axis in axes):
        raise ValueError(
            f"shape must be an int >= 1 or a non-empty tuple of such ints, got {shape!r}."
        )
    return tuple(int(axis) for axis in axes)


def _check_norm(norm: Any) -> float:
    """Return `norm` as a float, rounded down where it is an int above 2**53."""
    if isinstance(norm, np.floating):  # a float32 overflows when compared with 1e100
        norm = float(norm)
    if norm != 0 and not _NORM_MIN <= norm <= _NORM_MAX:
        raise ValueError(f"norm must be 0 or in [{_NORM_MIN:g}, {_NORM_MAX:g}], got {norm!r}.")
    value = float(norm)
    return math.nextafter(value, 0.0) if value > norm else value


def _check_index(index: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    if index is None:
        return tuple(axis // 2 for axis in shape)
    place = (index,) if isinstance(index, Integral) else tuple(index)
    if len(place) != len(shape):
        raise ValueError(
            f"index must have one number per axis of shape={shape}, that is {len(shape)}, "
            f"got index={index!r}."
        )
    if not all(_is_integer(i) and -axis <= i < axis for i, axis in zip(place, shape, strict=True)):
        raise ValueError(f"index must name an entry of an array of shape {shape}, got {index!r}.")
    return tuple(int(i) for i in place)


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
