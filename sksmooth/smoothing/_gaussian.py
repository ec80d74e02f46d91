# SPDX-License-Identifier: BSD-3-Clause
"""Gaussian smoothing noise (Cohen et al., 2019, Theorem 1; Weber et al., 2020, eq. 12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from sksmooth.smoothing._bounds import (
    checked_int,
    checked_probability,
    checked_size,
    in_units,
    log_bounds,
    ordered_log_bounds,
    positive_float,
)
from sksmooth.smoothing._rounding import FloatArray, down, normal_isf_lower, sqrt_upper


def gaussian_trade_off(type_1_error: FloatArray, shift: FloatArray) -> FloatArray:
    """Return the least type II error of telling N(0, I) from N(d, I), where `shift` is |d|."""
    result: FloatArray = special.ndtr(-special.ndtri(type_1_error) - shift)
    return result


def gaussian_radius(
    log_tail_a: FloatArray, log_p_b: FloatArray, *, scale: float, n_poisoned: int | None
) -> FloatArray:
    """Return a float strictly below ``scale/2 (isf(tail_a) + isf(p_b))``, or -1 where that is <= 0.

    Both bounds are upper bounds, so both quantiles and their sum are lower bounds.
    """
    possible = log_tail_a < 0.0  # p_a = 0 has the quantile -inf
    isf_a = normal_isf_lower(np.where(possible, log_tail_a, -1.0))
    isf_b = normal_isf_lower(np.where(possible, log_p_b, -1.0))
    with np.errstate(over="ignore"):  # the largest float is below an overflowed product
        radius = down(scale * (0.5 * down(isf_a + isf_b)))
    certified = possible & (radius >= 0.0)
    if n_poisoned is not None:
        radius = np.maximum(down(radius / sqrt_upper(n_poisoned)), 0.0)
    return np.where(certified, radius, -1.0)


@dataclass(frozen=True)
class GaussianNoise:
    r"""Independent Gaussian noise on every entry; certifies l2 (Frobenius) changes.

    Guarantee: if the vote of a base classifier under this noise gives the top class at least
    :math:`p_A` and every other class at most :math:`p_B`, the top class stays on top after any
    change :math:`\delta` of the noisy input with

    .. math:: \|\delta\|_2 < R = \frac{\sigma}{2} \left(\Phi^{-1}(p_A) - \Phi^{-1}(p_B)\right)

    for *any* fixed base classifier [1]_ [2]_. Over all training rows the norm is the Frobenius norm
    of the change of the whole matrix. Nothing here is random except :meth:`draw`; whether the
    bounds hold surely or at a confidence level is the caller's knowledge.

    Returned radii are strictly below :math:`R`: quantiles come from logarithms of the tails, are
    confirmed by the survival function, and every rounding is directed downwards.

    Parameters
    ----------
    sigma : float in (0, inf) or sequence of such floats, of shape (n_features,)
        Standard deviation, in feature units. With one value per feature, radii are in units of
        sigma: the l2 norm of ``delta / sigma``. A sequence is stored as a tuple.

    Raises
    ------
    ValueError
        If a standard deviation is not a finite number above 0, or `sigma` has more than one
        dimension or no entry.

    References
    ----------
    .. [1] J. Cohen, E. Rosenfeld, J. Z. Kolter, "Certified Adversarial Robustness via Randomized
       Smoothing", ICML 2019, Theorem 1.
    .. [2] M. Weber, X. Xu, B. Karlas, C. Zhang, B. Li, "RAB: Provable Robustness Against Backdoor
       Attacks", Theorem 1 and Corollary 1.

    Examples
    --------
    >>> from sksmooth.smoothing import GaussianNoise
    >>> noise = GaussianNoise(sigma=0.5)
    >>> print(f"{float(noise.radius(0.999)):.4f}")
    1.5451
    >>> print(f"{float(noise.radius(0.999, n_poisoned=4)):.4f}")
    0.7726
    >>> print(f"{float(noise.radius(0.4)):.0f}")  # nothing is guaranteed: abstention
    -1
    """

    sigma: float | tuple[float, ...]

    def __post_init__(self) -> None:
        sigma: Any = self.sigma
        if np.ndim(sigma) == 0:
            object.__setattr__(self, "sigma", positive_float(_item(sigma), "sigma"))
            return
        if np.ndim(sigma) != 1 or np.size(sigma) == 0:
            raise ValueError(
                "sigma must be a float or a sequence of shape (n_features,). "
                f"Got shape {np.shape(sigma)} instead."
            )
        values = (positive_float(s, f"sigma[{i}]") for i, s in enumerate(sigma))
        object.__setattr__(self, "sigma", tuple(values))

    @property
    def _scale(self) -> float:
        # with one sigma per feature, sizes and radii are in units of sigma
        return self.sigma if isinstance(self.sigma, float) else 1.0

    def draw(self, X: ArrayLike, rng: np.random.Generator) -> FloatArray:
        """Return a noisy copy of `X`.

        Parameters
        ----------
        X : array-like of float, of shape (..., n_features)
            Values to be smoothed.
        rng : numpy.random.Generator
            Source of the noise.

        Returns
        -------
        ndarray of float64, of the shape of `X`
            ``X + sigma * Z`` with Z standard normal, computed in float64. Float draws only
            approximate the real-valued noise of the theorem.

        Raises
        ------
        ValueError
            If `sigma` has one value per feature and the last axis of `X` another length.

        Examples
        --------
        >>> import numpy as np
        >>> from sksmooth.smoothing import GaussianNoise
        >>> GaussianNoise(sigma=1.0).draw(np.zeros((2, 3)), np.random.default_rng(0)).shape
        (2, 3)
        """
        X = np.asarray(X, dtype=np.float64)
        sigma = np.asarray(self.sigma)
        if sigma.ndim and (X.ndim == 0 or X.shape[-1] != sigma.size):
            raise ValueError(
                f"sigma has {sigma.size} values, one per feature. Got X of shape {X.shape}."
            )
        # In place: a training set may be large, and is drawn anew for every member.
        noisy: FloatArray = np.asarray(rng.standard_normal(X.shape))
        noisy *= sigma
        noisy += X
        return noisy

    def trade_off(self, type_1_error: ArrayLike, size: ArrayLike) -> FloatArray:
        r"""Return the least type II error of telling clean from shifted noise.

        It is :math:`\Phi(\Phi^{-1}(1 - \alpha) - \|\delta\|_2 / \sigma)`, to ordinary float
        accuracy; :meth:`radius` does not use it.

        Parameters
        ----------
        type_1_error : array-like of float in [0, 1]
            Largest probability of rejecting the clean noise.
        size : array-like of float in [0, inf)
            Norm of the change: l2, in the units of the radius.

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
        >>> from sksmooth.smoothing import GaussianNoise
        >>> print(f"{float(GaussianNoise(sigma=2.0).trade_off(0.05, 2.0)):.4f}")
        0.7405
        """
        alpha = checked_probability(type_1_error, "type_1_error")
        return gaussian_trade_off(alpha, in_units(checked_size(size), self._scale))

    def radius(
        self,
        p_a: ArrayLike,
        p_b: ArrayLike | None = None,
        *,
        tail_a: ArrayLike | None = None,
        n_poisoned: int | None = None,
    ) -> FloatArray:
        """Return certified l2 radii from bounds on the class probabilities.

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
            If given, the radius is per row, ``R / sqrt(n_poisoned)``, for this many changed rows.

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
            If `n_poisoned` is out of range.

        Examples
        --------
        >>> from sksmooth.smoothing import GaussianNoise
        >>> noise = GaussianNoise(sigma=1.0)
        >>> print([f"{r:.3f}" for r in noise.radius([0.9, 0.9, 0.4], [0.1, 0.05, 0.3]).tolist()])
        ['1.282', '1.463', '0.136']
        """
        return self.radius_from_log(*log_bounds(p_a, p_b, tail_a), n_poisoned=n_poisoned)

    def radius_from_log(
        self,
        log_tail_a: ArrayLike,
        log_p_b: ArrayLike | None = None,
        *,
        n_poisoned: int | None = None,
    ) -> FloatArray:
        """Return certified l2 radii from logarithms of the bounds.

        Parameters
        ----------
        log_tail_a : array-like of float in (-inf, 0], of shape (n_samples,)
            Upper bounds on ``log(1 - p_a)``.
        log_p_b : array-like of float in (-inf, 0], of shape (n_samples,), default=None
            Upper bounds on ``log(p_b)``; `log_tail_a` where smaller, and where not given.
        n_poisoned : int from 1 to 2**53, default=None
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
            If `n_poisoned` is out of range.

        Examples
        --------
        >>> from sksmooth.smoothing import GaussianNoise
        >>> print(f"{float(GaussianNoise(sigma=1.0).radius_from_log(-1e5)):.4f}")
        447.1979
        """
        if n_poisoned is not None:
            n_poisoned = checked_int(n_poisoned, "n_poisoned", minimum=1)
        log_tail_a, log_p_b = ordered_log_bounds(log_tail_a, log_p_b)
        return gaussian_radius(log_tail_a, log_p_b, scale=self._scale, n_poisoned=n_poisoned)


def _item(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) else value
