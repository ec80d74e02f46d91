# SPDX-License-Identifier: BSD-3-Clause
"""Categorical smoothing noise (Lee et al., 2019; Rosenfeld et al., 2020; Wang et al., 2020)."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sksmooth.smoothing import _flip_lattice
from sksmooth.smoothing._bounds import (
    as_float,
    checked_int,
    checked_probability,
    log_bounds,
    ordered_log_bounds,
)
from sksmooth.smoothing._flip_lattice import IntArray
from sksmooth.smoothing._rounding import FloatArray

# Radii are capped even where the caller names no number of coordinates: a table of this length
# takes a third of a second.
DEFAULT_MAX_RADIUS = 10_000

# Where the number of changes is the caller's: the distribution after so many takes some seconds.
MAX_CHANGES = 100_000


def checked_flip_probability(q: Any, n_categories: int) -> float:
    """Return `q` as a float in (0, (K-1)/K), compared exactly, else raise ValueError."""
    if not isinstance(q, (bool, np.bool_)) and isinstance(q, numbers.Real):
        value = as_float(q)
        if 0.0 < value < 1.0 and Fraction(value) * n_categories < n_categories - 1:
            return value
    raise ValueError(
        "q must be a float in (0, (K - 1) / K), K = n_categories, so that a value is more likely "
        f"kept than replaced by any one other. Got q={q!r} with n_categories={n_categories}."
    )


def draw_categorical(
    X: ArrayLike, q: float, n_categories: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[Any]:
    """Replace each code with probability `q` by one of the others in its domain."""
    codes = np.asarray(X)
    if codes.dtype.kind not in "iuf":
        raise ValueError(f"X must hold integer codes. Got an array of dtype {codes.dtype}.")
    top = int(np.max(n_categories)) - 1
    if top > _largest_code(codes.dtype):
        raise ValueError(
            f"X must have a dtype that holds every code from 0 to {top}. Got {codes.dtype} instead."
        )
    bad = ~((codes >= 0) & (codes <= n_categories - 1) & (codes == np.floor(codes)))
    if np.any(bad):
        where = np.unravel_index(int(np.argmax(bad)), bad.shape)
        top = int(np.broadcast_to(n_categories, codes.shape)[where]) - 1
        place = f" at {tuple(int(i) for i in where)}" if where else ""
        raise ValueError(f"X must hold integer codes from 0 to {top}. Got {codes[where]}{place}.")
    # a shift by 1 to K-1, modulo K, is uniform on the K-1 other values; in int64, since the sum
    # may leave the type of small codes
    changed = rng.random(codes.shape) < q
    shift = rng.integers(1, n_categories, size=codes.shape)
    shifted = (codes.astype(np.int64) + shift) % n_categories
    return np.where(changed, shifted.astype(codes.dtype), codes)


def draw_shifts(
    shape: tuple[int, ...], q: float, n_categories: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which of many values change, as flat positions in `shape`, and by how much.

    Added modulo K, the shifts are the noise of :func:`draw_categorical` (from other numbers of the
    generator): each value changes with probability `q`, by 1 to K - 1. Only what changes costs a
    second draw. `n_categories` has one entry per column, the last axis.
    """
    where = np.flatnonzero(rng.random(shape) < q)
    return where, rng.integers(1, n_categories[where % n_categories.size])


def _largest_code(dtype: np.dtype[Any]) -> int:
    """Return the largest n for which all integers from 0 to n are exact in `dtype`."""
    if dtype.kind == "f":
        return 1 << (int(np.finfo(dtype).nmant) + 1)
    return int(np.iinfo(dtype).max)


def checked_rows(features: Any, labels: Any) -> None:
    """Raise ValueError if features and labels have different numbers of rows."""
    shapes = np.shape(features), np.shape(labels)
    if shapes[0][:1] != shapes[1][:1]:
        raise ValueError(
            "X must be a pair of features and labels with equal numbers of rows. "
            f"Got shapes {shapes[0]} and {shapes[1]}."
        )


def flip_radii(
    log_tail_a: ArrayLike,
    log_p_b: ArrayLike | None,
    q: float,
    n_categories: int,
    *,
    n_poisoned: int | None,
    n_coordinates: int | None,
    bound: str,
) -> IntArray:
    """Return integer radii of categorical noise; the options of the classes that use it."""
    max_radius = DEFAULT_MAX_RADIUS
    if n_coordinates is not None:
        max_radius = checked_int(n_coordinates, "n_coordinates", minimum=1)
    if n_poisoned is not None:
        n_poisoned = checked_int(n_poisoned, "n_poisoned", minimum=1)
    log_tail_a, log_p_b = ordered_log_bounds(log_tail_a, log_p_b)
    if bound == "exact":
        radii = _flip_lattice.two_sided_radii(log_tail_a, log_p_b, q, n_categories, max_radius)
    elif bound == "kl":
        radii = _flip_lattice.kl_radii(log_tail_a, q, n_categories, max_radius)
    else:
        raise ValueError(f"bound must be 'exact' or 'kl'. Got {bound!r} instead.")
    # k changes in each of n rows are n * k changes; -1 // n is -1
    return radii if n_poisoned is None else radii // n_poisoned


def trade_off_by_size(
    type_1_error: ArrayLike, size: ArrayLike, curve: Callable[[FloatArray, int], FloatArray]
) -> FloatArray:
    """Evaluate ``curve(alpha, size)`` once per distinct integer size."""
    alpha = checked_probability(type_1_error, "type_1_error")
    sizes = np.asarray(size)
    if sizes.dtype.kind not in "iu" or np.any(sizes < 0) or np.any(sizes > MAX_CHANGES):
        raise ValueError(
            f"size must hold integers of at least 0 and at most {MAX_CHANGES}. "
            f"Got {size!r} instead."
        )
    alpha, sizes = np.broadcast_arrays(alpha, sizes)
    result = np.empty(alpha.shape)
    for value in np.unique(sizes):
        chosen = sizes == value
        result[chosen] = curve(alpha[chosen], int(value))
    return result


@dataclass(frozen=True)
class CategoricalNoise:
    r"""Independent replacement of categorical values; certifies a number of changed values.

    A value of a domain of K keeps its value with probability :math:`1-q` and becomes each of the
    other K - 1 with probability :math:`q/(K-1)`. With K = 2 and labels it is label flipping.

    Guarantee: if the vote of a base classifier under this noise gives the top class at least
    :math:`p_A` and every other class at most :math:`p_B`, the top class stays on top after any
    change of at most R values, for *any* fixed base classifier. R is exact: the largest r with
    :math:`\beta_r(1-p_A) + \beta_r(p_B) > 1`, where :math:`\beta_r` is the trade-off function of
    the noise around two inputs that differ in r places [1]_ [2]_. For ``R + 1`` changes some base
    classifier with these probabilities changes its answer (rounding aside).

    Sums run over non-negative numbers in the bulk of the distribution, their relative error is
    bounded and charged, so tails of any depth keep their digits.

    Parameters
    ----------
    q : float in (0, (K - 1) / K)
        Probability that a value is replaced.
    n_categories : int from 2 to 2**53, default=2
        Number K of values in the domain; the values are the codes 0 to K - 1.

    Raises
    ------
    ValueError
        If `n_categories` or `q` is out of range.

    References
    ----------
    .. [1] G.-H. Lee, Y. Yuan, S. Chang, T. Jaakkola, "Tight Certificates of Adversarial Robustness
       for Randomly Smoothed Classifiers", NeurIPS 2019, section 4.
    .. [2] E. Rosenfeld, E. Winston, P. Ravikumar, J. Z. Kolter, "Certified Robustness to
       Label-Flipping Attacks via Randomized Smoothing", ICML 2020, eq. (2), (5), appendix B.3.

    Examples
    --------
    >>> from sksmooth.smoothing import CategoricalNoise
    >>> noise = CategoricalNoise(q=0.3)
    >>> noise.radius([0.999, 0.9, 0.5]).tolist()
    [14, 1, -1]
    >>> noise.radius([0.999, 0.9, 0.5], bound="kl").tolist()
    [8, 1, -1]
    """

    q: float
    n_categories: int = 2

    def __post_init__(self) -> None:
        n_categories = checked_int(self.n_categories, "n_categories", minimum=2)
        object.__setattr__(self, "n_categories", n_categories)
        object.__setattr__(self, "q", checked_flip_probability(self.q, n_categories))

    def draw(self, X: ArrayLike, rng: np.random.Generator) -> NDArray[Any]:
        """Return a noisy copy of `X`.

        Parameters
        ----------
        X : array-like of int, of any shape
            Codes from 0 to ``n_categories - 1``; whole numbers in a float array are accepted.
        rng : numpy.random.Generator
            Source of the noise.

        Returns
        -------
        ndarray of the shape and dtype of `X`
            Each code kept, or replaced with probability `q`.

        Raises
        ------
        ValueError
            If a value is not a code of the domain, or the dtype of `X` cannot hold all codes.

        Examples
        --------
        >>> import numpy as np
        >>> from sksmooth.smoothing import CategoricalNoise
        >>> noisy = CategoricalNoise(q=0.2).draw([0, 1, 1, 0], np.random.default_rng(0))
        >>> noisy.shape, bool(np.isin(noisy, [0, 1]).all())
        ((4,), True)
        """
        return draw_categorical(X, self.q, np.asarray(self.n_categories), rng)

    def trade_off(self, type_1_error: ArrayLike, size: ArrayLike) -> FloatArray:
        """Return the least type II error of telling clean noise from that around changed values.

        It is computed to ordinary float accuracy; :meth:`radius` does not use it.

        Parameters
        ----------
        type_1_error : array-like of float in [0, 1]
            Largest probability of rejecting the clean noise.
        size : array-like of int from 0 to 100,000
            Number of changed values.

        Returns
        -------
        ndarray of float64
            Probabilities, of the broadcast shape.

        Raises
        ------
        InvalidBoundError
            If an error lies outside [0, 1].
        ValueError
            If a size is not an integer from 0 to 100,000.

        Examples
        --------
        >>> from sksmooth.smoothing import CategoricalNoise
        >>> [round(b, 4) for b in CategoricalNoise(q=0.25).trade_off(0.125, [0, 1]).tolist()]
        [0.875, 0.625]
        """
        return trade_off_by_size(
            type_1_error,
            size,
            lambda alpha, r: _flip_lattice.trade_off(alpha, r, self.q, self.n_categories),
        )

    def required_log_tail(self, max_radius: int) -> FloatArray:
        """Return how small ``1 - p_a`` must be for each radius, as logarithms.

        Parameters
        ----------
        max_radius : int of at least 0
            Largest radius of the table.

        Returns
        -------
        ndarray of float64, of shape (max_radius + 1,)
            Entry r is the largest ``log(1 - p_a)`` for which r changes are certified where
            ``p_b = 1 - p_a``, rounded down: r changes are certified iff ``log_tail_a`` is at most
            this entry. Read-only, not increasing.

        Raises
        ------
        ValueError
            If `max_radius` is not a non-negative integer.

        Examples
        --------
        >>> from sksmooth.smoothing import CategoricalNoise
        >>> [round(v, 4) for v in CategoricalNoise(q=0.3).required_log_tail(2).tolist()]
        [-0.6931, -1.5404, -2.3026]
        """
        max_radius = checked_int(max_radius, "max_radius", minimum=0)
        return _flip_lattice.required_log_tails(self.q, self.n_categories, max_radius)

    def radius(
        self,
        p_a: ArrayLike,
        p_b: ArrayLike | None = None,
        *,
        tail_a: ArrayLike | None = None,
        n_poisoned: int | None = None,
        n_coordinates: int | None = None,
        bound: str = "exact",
    ) -> IntArray:
        """Return certified numbers of changed values from bounds on the class probabilities.

        Parameters
        ----------
        p_a : array-like of float in [0, 1], of shape (n_samples,)
            Lower bounds on the probability of the top class. In float32 or float16, this and the
            upper bounds below are first moved by one spacing of that type, to the safe side.
        p_b : array-like of float in (0, 1], of shape (n_samples,), default=None
            Upper bounds on the probability of every other class; ``1 - p_a`` where smaller, and
            where not given.
        tail_a : array-like of float in (0, 1], of shape (n_samples,), default=None
            Upper bounds on ``1 - p_a``, used instead of the subtraction, which loses small tails.
            If None, ``1 - p_a`` is rounded up and kept above 2**-53.
        n_poisoned : int from 1 to 2**53, default=None
            If given, the radius is the number of changes in each of this many changed rows.
        n_coordinates : int from 1 to 2**53, default=None
            Number of values that can change at all; radii are capped at it. If None, 10,000.
        bound : {"exact", "kl"}, default="exact"
            "kl" is the closed form of Rosenfeld et al., eq. (5): about half as large, from `p_a`
            alone.

        Returns
        -------
        ndarray of int64, of shape (n_samples,)
            Guaranteed for every change of at most this many values; -1 where nothing is
            guaranteed, which includes ``p_a <= p_b``.

        Raises
        ------
        InvalidBoundError
            If a bound on a probability is NaN or outside its range.
        ValueError
            If one of the other arguments is out of range.

        Examples
        --------
        >>> from sksmooth.smoothing import CategoricalNoise
        >>> CategoricalNoise(q=0.4, n_categories=3).radius([0.9, 0.9], [0.1, 0.02]).tolist()
        [1, 3]
        """
        return self.radius_from_log(
            *log_bounds(p_a, p_b, tail_a),
            n_poisoned=n_poisoned,
            n_coordinates=n_coordinates,
            bound=bound,
        )

    def radius_from_log(
        self,
        log_tail_a: ArrayLike,
        log_p_b: ArrayLike | None = None,
        *,
        n_poisoned: int | None = None,
        n_coordinates: int | None = None,
        bound: str = "exact",
    ) -> IntArray:
        """Return certified numbers of changed values from logarithms of the bounds.

        Parameters
        ----------
        log_tail_a : array-like of float in (-inf, 0], of shape (n_samples,)
            Upper bounds on ``log(1 - p_a)``.
        log_p_b : array-like of float in (-inf, 0], of shape (n_samples,), default=None
            Upper bounds on ``log(p_b)``; `log_tail_a` where smaller, and where not given.
        n_poisoned : int from 1 to 2**53, default=None
            As in :meth:`radius`.
        n_coordinates : int from 1 to 2**53, default=None
            As in :meth:`radius`.
        bound : {"exact", "kl"}, default="exact"
            As in :meth:`radius`.

        Returns
        -------
        ndarray of int64, of shape (n_samples,)
            As in :meth:`radius`.

        Raises
        ------
        InvalidBoundError
            If a logarithm is NaN, positive or infinite: tails keep a positive floor.
        ValueError
            If one of the other arguments is out of range.

        Examples
        --------
        >>> from sksmooth.smoothing import CategoricalNoise
        >>> CategoricalNoise(q=0.05).radius_from_log([-26505.0, -10.0]).tolist()
        [10000, 3]
        """
        return flip_radii(
            log_tail_a,
            log_p_b,
            self.q,
            self.n_categories,
            n_poisoned=n_poisoned,
            n_coordinates=n_coordinates,
            bound=bound,
        )
