# SPDX-License-Identifier: BSD-3-Clause
"""Uniform smoothing noise (Weber et al., 2020, Corollary 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sksmooth.smoothing._bounds import (
    checked_int,
    checked_probability,
    checked_size,
    in_units,
    log_bounds,
    ordered_log_bounds,
    positive_float,
)
from sksmooth.smoothing._rounding import FloatArray, down, elementary_upper, up


def uniform_radius(
    log_tail_a: FloatArray, log_p_b: FloatArray, *, width: float, n_factors: int
) -> FloatArray:
    """Return a float strictly below ``width (1 - (1 - gap/2)^(1/n_factors))``, or -1 if gap <= 0.

    The gap is ``p_a - p_b = 1 - tail_a - p_b``, rounded down from upper bounds on the tails.
    """
    tails = elementary_upper(np.exp(log_tail_a)), elementary_upper(np.exp(log_p_b))
    half_gap = 0.5 * down(down(1.0 - tails[0]) - tails[1])
    certified = half_gap > 0.0
    half_gap = np.where(certified, half_gap, 0.0)
    share = half_gap
    if n_factors > 1:
        # log1p and expm1 of small negative numbers; towards zero is the safe side
        exponent = up(elementary_upper(np.log1p(-half_gap)) / n_factors)
        share = -elementary_upper(np.expm1(exponent))
    # gap > 0 is proven, so 0 is below the exact radius where the product underflows
    return np.where(certified, np.maximum(down(width * share), 0.0), -1.0)


@dataclass(frozen=True)
class UniformNoise:
    r"""Independent uniform noise on every entry; certifies l1 or l_inf changes.

    Guarantee: if the vote of a base classifier under noise uniform on
    :math:`[-\mathrm{width}/2, \mathrm{width}/2]` gives the top class at least :math:`p_A` and every
    other class at most :math:`p_B`, the top class stays on top after a change :math:`\delta` iff

    .. math:: \prod_{ij} (1 - |\delta_{ij}| / \mathrm{width})_+ > 1 - (p_A - p_B) / 2

    for every fixed base classifier [1]_. Among changes of one l1 norm the product is least with
    all of it on one entry, among those of one l_inf norm with all entries equal to it.

    Returned radii are strictly below the exact ones: every rounding is directed downwards.

    Parameters
    ----------
    width : float in (0, inf)
        Length of the interval, in feature units. The standard deviation is ``width / sqrt(12)``.

    Raises
    ------
    ValueError
        If `width` is not a finite number above 0.

    References
    ----------
    .. [1] M. Weber, X. Xu, B. Karlas, C. Zhang, B. Li, "RAB: Provable Robustness Against Backdoor
       Attacks", Corollary 2.

    Examples
    --------
    >>> from sksmooth.smoothing import UniformNoise
    >>> noise = UniformNoise(width=2.0)
    >>> print(f"{float(noise.radius(0.9)):.4f}")
    0.8000
    >>> print(f"{float(noise.radius(0.9, norm='linf', n_coordinates=10)):.4f}")
    0.0996
    """

    width: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", positive_float(self.width, "width"))

    def draw(self, X: ArrayLike, rng: np.random.Generator) -> FloatArray:
        """Return a noisy copy of `X`.

        Parameters
        ----------
        X : array-like of float, of any shape
            Values to be smoothed.
        rng : numpy.random.Generator
            Source of the noise.

        Returns
        -------
        ndarray of float64, of the shape of `X`
            ``X + width * (U - 1/2)`` with U uniform on [0, 1), computed in float64. Float draws
            only approximate the real-valued noise of the theorem.

        Examples
        --------
        >>> import numpy as np
        >>> from sksmooth.smoothing import UniformNoise
        >>> noisy = UniformNoise(width=1.0).draw(np.zeros(3), np.random.default_rng(0))
        >>> bool((np.abs(noisy) <= 0.5).all())
        True
        """
        X = np.asarray(X, dtype=np.float64)
        # In place, as for Gaussian noise.
        noisy: FloatArray = np.asarray(rng.random(X.shape))
        noisy -= 0.5
        noisy *= self.width
        noisy += X
        return noisy

    def trade_off(self, type_1_error: ArrayLike, size: ArrayLike) -> FloatArray:
        """Return the least type II error of telling clean from shifted noise.

        It is ``max(0, 1 - size / width - type_1_error)``, the least over all changes of this l1
        norm, to ordinary float accuracy; :meth:`radius` does not use it.

        Parameters
        ----------
        type_1_error : array-like of float in [0, 1]
            Largest probability of rejecting the clean noise.
        size : array-like of float in [0, inf)
            l1 norm of the change, in feature units.

        Returns
        -------
        ndarray of float64
            Probabilities, of the broadcast shape.

        Raises
        ------
        InvalidBoundError
            If an error lies outside [0, 1].
        ValueError
            If a size is negative or not finite.

        Examples
        --------
        >>> from sksmooth.smoothing import UniformNoise
        >>> print(f"{float(UniformNoise(width=2.0).trade_off(0.05, 0.5)):.4f}")
        0.7000
        """
        alpha = checked_probability(type_1_error, "type_1_error")
        return np.maximum(1.0 - in_units(checked_size(size), self.width) - alpha, 0.0)

    def radius(
        self,
        p_a: ArrayLike,
        p_b: ArrayLike | None = None,
        *,
        tail_a: ArrayLike | None = None,
        n_poisoned: int | None = None,
        norm: str = "l1",
        n_coordinates: int | None = None,
    ) -> FloatArray:
        """Return certified l1 or l_inf radii from bounds on the class probabilities.

        Parameters
        ----------
        p_a : array-like of float in [0, 1], of shape (n_samples,)
            Lower bounds on the probability of the top class. In float32 or float16, this and the
            upper bounds below are first moved by one spacing of that type, to the safe side.
        p_b : array-like of float in (0, 1], of shape (n_samples,), default=None
            Upper bounds on the probability of every other class; ``1 - p_a`` where smaller, and
            where not given.
        tail_a : array-like of float in (0, 1], of shape (n_samples,), default=None
            Upper bounds on ``1 - p_a``. If None, ``1 - p_a`` is rounded up and kept above 2**-53.
        n_poisoned : int from 1 to 2**53, default=None
            With the l1 norm: the radius is that of each of this many changed rows.
        norm : {"l1", "linf"}, default="l1"
            Norm of the change.
        n_coordinates : int from 1 to 2**53, default=None
            With the l_inf norm, and needed there: how many entries can change, in all rows.

        Returns
        -------
        ndarray of float64, of shape (n_samples,)
            Guaranteed for every change of norm up to and including the radius; -1 where nothing is
            guaranteed, which includes ``p_a <= p_b``. Finite.

        Raises
        ------
        InvalidBoundError
            If a bound is NaN or outside its range.
        ValueError
            If `norm` is unknown, or the two counts do not fit it.

        Examples
        --------
        >>> from sksmooth.smoothing import UniformNoise
        >>> radii = UniformNoise(width=1.0).radius([0.9, 0.4], [0.1, 0.5], n_poisoned=2)
        >>> print([f"{r:.4f}" for r in radii.tolist()])
        ['0.2254', '-1.0000']
        """
        return self.radius_from_log(
            *log_bounds(p_a, p_b, tail_a),
            n_poisoned=n_poisoned,
            norm=norm,
            n_coordinates=n_coordinates,
        )

    def radius_from_log(
        self,
        log_tail_a: ArrayLike,
        log_p_b: ArrayLike | None = None,
        *,
        n_poisoned: int | None = None,
        norm: str = "l1",
        n_coordinates: int | None = None,
    ) -> FloatArray:
        """Return certified radii from logarithms of the bounds.

        Parameters
        ----------
        log_tail_a : array-like of float in (-inf, 0], of shape (n_samples,)
            Upper bounds on ``log(1 - p_a)``.
        log_p_b : array-like of float in (-inf, 0], of shape (n_samples,), default=None
            Upper bounds on ``log(p_b)``; `log_tail_a` where smaller, and where not given.
        n_poisoned : int from 1 to 2**53, default=None
            As in :meth:`radius`.
        norm : {"l1", "linf"}, default="l1"
            As in :meth:`radius`.
        n_coordinates : int from 1 to 2**53, default=None
            As in :meth:`radius`.

        Returns
        -------
        ndarray of float64, of shape (n_samples,)
            As in :meth:`radius`.

        Raises
        ------
        InvalidBoundError
            If a logarithm is NaN, positive or infinite: tails keep a positive floor.
        ValueError
            As in :meth:`radius`.

        Examples
        --------
        >>> from sksmooth.smoothing import UniformNoise
        >>> print(f"{float(UniformNoise(width=2.0).radius_from_log(-1e5)):.4f}")
        1.0000
        """
        n_factors = _number_of_factors(norm, n_poisoned, n_coordinates)
        log_tail_a, log_p_b = ordered_log_bounds(log_tail_a, log_p_b)
        return uniform_radius(log_tail_a, log_p_b, width=self.width, n_factors=n_factors)


def _number_of_factors(norm: str, n_poisoned: int | None, n_coordinates: int | None) -> int:
    """Return how many equal factors the worst change has in the product over entries."""
    if norm == "l1":
        if n_coordinates is not None:
            raise ValueError("n_coordinates goes with norm='linf': no l1 radius depends on it.")
        return 1 if n_poisoned is None else checked_int(n_poisoned, "n_poisoned", minimum=1)
    if norm != "linf":
        raise ValueError(f"norm must be 'l1' or 'linf'. Got {norm!r} instead.")
    if n_poisoned is not None or n_coordinates is None:
        raise ValueError(
            "norm='linf' needs n_coordinates, the number of entries that can change in all rows, "
            f"and no n_poisoned. Got n_coordinates={n_coordinates!r}, n_poisoned={n_poisoned!r}."
        )
    return checked_int(n_coordinates, "n_coordinates", minimum=1)
