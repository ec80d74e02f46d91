# SPDX-License-Identifier: BSD-3-Clause
"""Backdoor patterns of a given l2 norm, to be added to training rows and to test inputs.

The size of a pattern is compared with a certified radius, so it has a side: a pattern that is
longer than asked for, by one rounding, could change a prediction that was rightly certified at
`norm`, and a test would blame the certificate. Every rounding here shortens the pattern.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
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

# Rows and columns of the four pixels, from the first one on: itself and its diagonal neighbours to
# the upper right, lower left and lower right. The paper does not say which four; these are those
# of the code that its authors published, for all three of its image sets.
_FOUR_PIXELS = ((0, 0), (-1, 1), (1, -1), (1, 1))
_FOUR_FEATURES = ((0,), (1,), (2,), (3,))


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

    For images without colours this is the one-pixel pattern in the middle of the image of section
    7.1 in [WX20]_; :func:`one_pixel_trigger` changes all channels of that pixel.

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
    one_pixel_trigger : A trigger on every channel of one pixel.
    four_pixel_trigger : A trigger on four pixels or features.
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
        "index": [Integral, tuple, list, None],
        "direction": [Options(Real, {-1, 1})],
    },
    prefer_skip_nested_validation=True,
)
def one_pixel_trigger(
    shape: int | Sequence[int],
    norm: float,
    *,
    index: int | Sequence[int] | None = None,
    direction: int = 1,
) -> NDArray[np.float64]:
    """Trigger of the given l2 norm on one pixel of an image, on all its channels equally.

    The one-pixel pattern of section 7.1 and Figure 6 in [WX20]_, with the paper's default place,
    the middle of the image. Without channels, and on a table, it is :func:`one_feature_trigger`.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of one input: an image, (n_rows, n_columns) or (n_rows, n_columns, n_channels) with
        the channels last, or the number of features of a table. Every entry is at least 1.
    norm : float
        l2 norm of the trigger, in the unit of the features: 0 or in [1e-100, 1e100].
    index : tuple of int, or int for a table, default=None
        Row and column of the pixel (the feature of a table); negative numbers count from the end.
        By default the middle, ``n // 2`` on each axis of length n.
    direction : {-1, 1}, default=1
        Sign of the change.

    Returns
    -------
    delta : ndarray of shape `shape`, float64
        The trigger: C equal entries, the largest floats for which its l2 norm, in exact
        arithmetic, is not above `norm`. The norm is thus at least ``(1 - 2**-52) * norm``, and
        `norm` itself where C is 1 (or a power of 4).

    Raises
    ------
    ValueError
        If `shape`, `norm`, `index` or `direction` is outside its range, `shape` has more than
        three axes, or `index` does not have one number per axis, the channels left out.

    See Also
    --------
    four_pixel_trigger : A trigger on four pixels.
    one_feature_trigger : A trigger on one entry, that is, on one channel.
    poison : Adds a trigger to some of the training rows, and flattens it for that.

    Notes
    -----
    In the code published with [WX20]_ the pixel is (15, 15) for CIFAR-10 (here, (16, 16) by
    default), (112, 112) for ImageNet at 224 x 224 (the default here), and (23, 23), which is not
    the middle, for MNIST. That code cuts the sum of image and trigger off at 1; nothing is cut off
    here, so that what is added has the given norm.

    References
    ----------
    .. [WX20] M. Weber, X. Xu, B. Karlas, C. Zhang, B. Li, "RAB: Provable Robustness Against
       Backdoor Attacks", arXiv:2003.08904.

    Examples
    --------
    >>> from sksmooth.attacks import one_pixel_trigger
    >>> one_pixel_trigger((3, 3), 2.0).tolist()
    [[0.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]
    >>> delta = one_pixel_trigger((32, 32, 3), 1.0, index=(15, 15))
    >>> [f"{value:.4f}" for value in delta[15, 15]]
    ['0.5774', '0.5774', '0.5774']
    """
    axes = _check_image_shape(shape)
    place = _check_index(index, axes[:2])
    return _equal_entries(axes, [place], norm, direction)


@validate_params(
    {
        "shape": [Integral, tuple, list],
        "norm": [Interval(Real, 0, None, closed="left")],
        "index": [Integral, tuple, list, None],
        "direction": [Options(Real, {-1, 1})],
    },
    prefer_skip_nested_validation=True,
)
def four_pixel_trigger(
    shape: int | Sequence[int],
    norm: float,
    *,
    index: int | Sequence[int] | None = None,
    direction: int = 1,
) -> NDArray[np.float64]:
    """Trigger of the given l2 norm on four pixels of an image, or on four features of a table.

    The four-pixel pattern of section 7.1 and Figure 6 in [WX20]_. The paper does not say which
    pixels these are; in the code published with it they are one pixel and three of its diagonal
    neighbours (upper right, lower left and lower right), and so they are here::

        . . x
        . x .
        x . x

    All channels of the four pixels change equally. On a table, four adjacent features do, as a
    stand-in for the paper's pattern for Spambase (four equal entries too, see the notes).

    Parameters
    ----------
    shape : int or tuple of int
        Shape of one input: an image, (n_rows, n_columns) or (n_rows, n_columns, n_channels) with
        the channels last, of at least 3 x 3 pixels, or the number of features of a table, at
        least 4.
    norm : float
        l2 norm of the trigger, in the unit of the features: 0 or in [1e-100, 1e100].
    index : tuple of int, or int for a table, default=None
        Row and column of the pixel in the middle of the pattern (the first of the four features);
        negative numbers count from the end. By default the pattern is in the middle: on images
        ``n // 2`` on each axis of length n, on tables ``n // 2 - 2``.
    direction : {-1, 1}, default=1
        Sign of the change.

    Returns
    -------
    delta : ndarray of shape `shape`, float64
        The trigger: 4 C equal entries for C channels (4 on a table), the largest floats for which
        its l2 norm, in exact arithmetic, is not above `norm`. The norm is thus at least
        ``(1 - 2**-52) * norm``, and `norm` itself where C is 1 (or a power of 4).

    Raises
    ------
    ValueError
        If `shape`, `norm`, `index` or `direction` is outside its range, `shape` has more than
        three axes, `index` does not have one number per axis, the channels left out, or a part of
        the pattern would lie outside the input.

    See Also
    --------
    one_pixel_trigger : A trigger on one pixel.
    blending_trigger : A trigger on every pixel.
    poison : Adds a trigger to some of the training rows, and flattens it for that.

    Notes
    -----
    In the code published with [WX20]_ the middle of the pattern is (19, 19) for MNIST (here,
    (14, 14) by default), (15, 15) for CIFAR-10 (here, (16, 16)) and (112, 112) for ImageNet at
    224 x 224 (the default here), and Spambase has the features 25, 26, 27 and 50. That code cuts
    the sum of image and trigger off at 1; nothing is cut off here, so that what is added has the
    given norm.

    References
    ----------
    .. [WX20] M. Weber, X. Xu, B. Karlas, C. Zhang, B. Li, "RAB: Provable Robustness Against
       Backdoor Attacks", arXiv:2003.08904.

    Examples
    --------
    >>> from sksmooth.attacks import four_pixel_trigger
    >>> four_pixel_trigger((3, 3), 1.0).tolist()
    [[0.0, 0.0, 0.5], [0.0, 0.5, 0.0], [0.5, 0.0, 0.5]]
    >>> four_pixel_trigger(6, 0.1, index=-4, direction=-1).tolist()
    [0.0, 0.0, -0.05, -0.05, -0.05, -0.05]
    """
    axes = _check_image_shape(shape)
    is_table = len(axes) == 1
    if min(axes[:2]) < (4 if is_table else 3):
        raise ValueError(
            "shape must have room for the pattern, which takes 3 x 3 pixels or 4 features, got "
            f"{shape!r}."
        )
    if index is None:
        index = (axes[0] // 2 - 2,) if is_table else None
    first = _check_index(index, axes[:2])
    places = [
        tuple(i % axis + step for i, step, axis in zip(first, steps, axes, strict=False))
        for steps in (_FOUR_FEATURES if is_table else _FOUR_PIXELS)
    ]
    if not all(0 <= i < axis for place in places for i, axis in zip(place, axes, strict=False)):
        raise ValueError(
            f"index must keep the pattern inside the input of shape {axes}, got {index!r}: it "
            f"would change {', '.join(str(place) for place in places)}."
        )
    return _equal_entries(axes, places, norm, direction)


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
    one_pixel_trigger : A trigger on every channel of one pixel.
    four_pixel_trigger : A trigger on four pixels or features.
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


def _check_image_shape(shape: Any) -> tuple[int, ...]:
    axes = _check_shape(shape)
    if len(axes) > 3:
        raise ValueError(
            "shape must be that of one image, (n_rows, n_columns) or (n_rows, n_columns, "
            f"n_channels), or the number of features of a table, got {shape!r}."
        )
    return axes


def _equal_entries(
    axes: tuple[int, ...], places: Sequence[tuple[int, ...]], norm: Any, direction: int
) -> NDArray[np.float64]:
    """Return the trigger of l2 norm `norm` with equal entries on all channels of the places."""
    n_entries = len(places) * math.prod(axes[2:])
    value = direction * _largest_entry(_check_norm(norm), n_entries)
    delta = np.zeros(axes)
    for place in places:
        # Plus 0.0, so that a trigger of norm 0 has no negative zero.
        delta[place] = value + 0.0
    return delta


def _largest_entry(norm: float, n_entries: int) -> float:
    """Return the largest float of which `n_entries` equal ones have an l2 norm of at most `norm`.

    Exact: in fractions the comparison has no rounding. The first guess is off by two roundings,
    so that the loops take a few steps.
    """

    def fits(value: float) -> bool:
        return n_entries * Fraction(value) ** 2 <= Fraction(norm) ** 2

    value = norm / math.sqrt(n_entries)
    while not fits(value):
        value = math.nextafter(value, 0.0)
    while fits(above := math.nextafter(value, math.inf)):
        value = above
    return value


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
