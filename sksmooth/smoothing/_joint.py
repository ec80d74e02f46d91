# SPDX-License-Identifier: BSD-3-Clause
"""Gaussian noise on features together with categorical noise on labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sksmooth.smoothing._bounds import (
    checked_int,
    checked_probability,
    checked_size,
    in_units,
    log_bounds,
    ordered_log_bounds,
)
from sksmooth.smoothing._categorical import MAX_CHANGES, CategoricalNoise, checked_rows
from sksmooth.smoothing._gaussian import GaussianNoise, gaussian_radius
from sksmooth.smoothing._joint_lattice import joint_radii, joint_shifts, joint_trade_off
from sksmooth.smoothing._rounding import FloatArray, down, sqrt_upper

# The trade-off moves by at most m / sqrt(2 pi) for a shift of m sigmas: a smaller one than the
# first is less than the rounding of a standardised distance. Beyond the second nothing is left to
# either error: isf(alpha) is below 39 for every positive float, and ndtr(39 - 100) is 0.
_NO_SHIFT = 1e-8
_ALL_SHIFT = 100.0


@dataclass(frozen=True)
class JointNoise:
    r"""Gaussian noise on features and categorical noise on labels, all independent.

    Guarantee: if the vote of a base classifier under this noise gives the top class at least
    :math:`p_A` and every other class at most :math:`p_B`, the top class stays on top after any
    change of at most `n_flips` labels *and* of the features by an l2 (Frobenius) norm of at most
    the radius, for any fixed base classifier. The largest such norm is exact: it solves
    :math:`\beta(1-p_A) + \beta(p_B) = 1` for the trade-off function of the joint noise, whose log
    likelihood ratio is a normal plus a lattice variable. Weber et al. [1]_ name this combination
    as open.

    The returned radius is the safe end of the bracket: there the condition holds with all errors
    charged. Without flips it equals that of :class:`GaussianNoise`.

    Parameters
    ----------
    sigma : float in (0, inf) or sequence of such floats, of shape (n_features,)
        Standard deviation of the feature noise, as in :class:`GaussianNoise`.
    q : float in (0, (K - 1) / K)
        Probability that a label is replaced, as in :class:`CategoricalNoise`.
    n_categories : int of at least 2, default=2
        Number K of labels, coded 0 to K - 1.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    .. [1] M. Weber, X. Xu, B. Karlas, C. Zhang, B. Li, "RAB: Provable Robustness Against Backdoor
       Attacks", Theorem 1 (for any smoothing distribution).

    Examples
    --------
    >>> from sksmooth.smoothing import JointNoise
    >>> radii = JointNoise(sigma=1.0, q=0.3).radius([0.999, 0.9], n_flips=[0, 4, 16])
    >>> print([[f"{r:.4f}" for r in row] for row in radii.tolist()])
    [['3.0902', '2.6096', '-1.0000'], ['1.2816', '-1.0000', '-1.0000']]
    """

    sigma: float | tuple[float, ...]
    q: float
    n_categories: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", GaussianNoise(self.sigma).sigma)
        labels = CategoricalNoise(self.q, self.n_categories)
        object.__setattr__(self, "q", labels.q)
        object.__setattr__(self, "n_categories", labels.n_categories)

    @property
    def _scale(self) -> float:
        return self.sigma if isinstance(self.sigma, float) else 1.0

    def draw(
        self, X: tuple[ArrayLike, ArrayLike], rng: np.random.Generator
    ) -> tuple[FloatArray, NDArray[Any]]:
        """Return noisy copies of features and labels.

        Parameters
        ----------
        X : tuple of two array-likes
            Features, of shape (n_rows, n_features), and integer label codes, of shape (n_rows,).
        rng : numpy.random.Generator
            Source of the noise: first of the features, then of the labels.

        Returns
        -------
        tuple of two ndarrays
            Noisy features in float64 and noisy labels, as from the two noises alone.

        Raises
        ------
        ValueError
            As in :meth:`GaussianNoise.draw` and :meth:`CategoricalNoise.draw`, and if features and
            labels differ in their numbers of rows.

        Examples
        --------
        >>> import numpy as np
        >>> from sksmooth.smoothing import JointNoise
        >>> noise = JointNoise(sigma=1.0, q=0.1)
        >>> X, y = noise.draw((np.zeros((3, 2)), [0, 1, 1]), np.random.default_rng(0))
        >>> X.shape, y.shape
        ((3, 2), (3,))
        """
        features, labels = X
        checked_rows(features, labels)
        noisy = GaussianNoise(self.sigma).draw(features, rng)
        return noisy, CategoricalNoise(self.q, self.n_categories).draw(labels, rng)

    def trade_off(
        self, type_1_error: ArrayLike, size: ArrayLike, *, n_flips: int = 0
    ) -> FloatArray:
        """Return the least type II error of telling clean from changed noise.

        It is computed to ordinary float accuracy; :meth:`radius` does not use it.

        Parameters
        ----------
        type_1_error : array-like of float in [0, 1]
            Largest probability of rejecting the clean noise.
        size : array-like of float in [0, inf)
            l2 norm of the change of the features, in the units of the radius.
        n_flips : int from 0 to 100,000, default=0
            Number of changed labels.

        Returns
        -------
        ndarray of float64
            Probabilities, of the broadcast shape.

        Raises
        ------
        InvalidBoundError
            If an error lies outside [0, 1].
        ValueError
            If a size is negative or not finite, or `n_flips` not an integer from 0 to 100,000.

        Examples
        --------
        >>> from sksmooth.smoothing import JointNoise
        >>> noise = JointNoise(sigma=1.0, q=0.25)
        >>> print(f"{float(noise.trade_off(0.05, 1.0)):.4f}")
        0.7405
        >>> print(f"{float(noise.trade_off(0.05, 1.0, n_flips=1)):.4f}")
        0.5764
        """
        n_flips = checked_int(n_flips, "n_flips", minimum=0, maximum=MAX_CHANGES)
        alpha = checked_probability(type_1_error, "type_1_error")
        alpha, shifts = np.broadcast_arrays(alpha, in_units(checked_size(size), self._scale))
        if n_flips == 0:
            return GaussianNoise(1.0).trade_off(alpha, shifts)
        labels = CategoricalNoise(self.q, self.n_categories)
        result = np.empty(alpha.shape)
        for shift in np.unique(shifts):
            at = shifts == shift
            if shift > _NO_SHIFT:
                args = (n_flips, self.q, self.n_categories)
                result[at] = joint_trade_off(alpha[at], min(float(shift), _ALL_SHIFT), *args)
            else:
                result[at] = labels.trade_off(alpha[at], n_flips)
        return result

    def radius(
        self,
        p_a: ArrayLike,
        p_b: ArrayLike | None = None,
        *,
        tail_a: ArrayLike | None = None,
        n_poisoned: int | None = None,
        n_flips: int | ArrayLike = 0,
    ) -> FloatArray:
        """Return certified l2 radii of feature changes next to `n_flips` label changes.

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
            If given, the radius is per row, ``R / sqrt(n_poisoned)``, for this many changed rows.
        n_flips : int from 0 to 100,000, or array-like of such, of shape (m,), default=0
            Numbers of changed labels, in any rows. The largest takes seconds.

        Returns
        -------
        ndarray of float64, of shape (n_samples,) or (n_samples, m)
            Guaranteed for every change of norm up to and including the radius together with at
            most `n_flips` changed labels. 0: the flips alone change nothing. -1: not even that.

        Raises
        ------
        InvalidBoundError
            If a bound is NaN or outside its range.
        ValueError
            If `n_poisoned` or `n_flips` is out of range.

        Examples
        --------
        >>> from sksmooth.smoothing import JointNoise
        >>> noise = JointNoise(sigma=1.0, q=0.4, n_categories=3)
        >>> print([f"{r:.4f}" for r in noise.radius(0.9, 0.02, n_flips=[0, 1, 4]).tolist()])
        ['1.6677', '1.3684', '-1.0000']
        """
        return self.radius_from_log(
            *log_bounds(p_a, p_b, tail_a), n_poisoned=n_poisoned, n_flips=n_flips
        )

    def radius_from_log(
        self,
        log_tail_a: ArrayLike,
        log_p_b: ArrayLike | None = None,
        *,
        n_poisoned: int | None = None,
        n_flips: int | ArrayLike = 0,
    ) -> FloatArray:
        """Return certified l2 radii of feature changes from logarithms of the bounds.

        Parameters
        ----------
        log_tail_a : array-like of float in (-inf, 0], of shape (n_samples,)
            Upper bounds on ``log(1 - p_a)``.
        log_p_b : array-like of float in (-inf, 0], of shape (n_samples,), default=None
            Upper bounds on ``log(p_b)``; `log_tail_a` where smaller, and where not given.
        n_poisoned : int from 1 to 2**53, default=None
            As in :meth:`radius`.
        n_flips : int from 0 to 100,000, or array-like of such, of shape (m,), default=0
            As in :meth:`radius`.

        Returns
        -------
        ndarray of float64, of shape (n_samples,) or (n_samples, m)
            As in :meth:`radius`.

        Raises
        ------
        InvalidBoundError
            If a logarithm is NaN, positive or infinite: tails keep a positive floor.
        ValueError
            If `n_poisoned` or `n_flips` is out of range.

        Examples
        --------
        >>> from sksmooth.smoothing import JointNoise
        >>> noise = JointNoise(sigma=0.5, q=0.3)
        >>> print(f"{float(noise.radius_from_log(-200.0, n_flips=50)):.3f}")
        9.464
        """
        if n_poisoned is not None:
            n_poisoned = checked_int(n_poisoned, "n_poisoned", minimum=1)
        log_tail_a, log_p_b = ordered_log_bounds(log_tail_a, log_p_b)
        flips = np.asarray(n_flips)
        whole = flips.ndim <= 1 and flips.dtype.kind in "iu"
        if not whole or np.any(flips < 0) or np.any(flips > MAX_CHANGES):
            raise ValueError(
                f"n_flips must be an integer from 0 to {MAX_CHANGES} or a sequence of such. "
                f"Got {n_flips!r} instead."
            )
        radii = np.empty(log_tail_a.shape + flips.shape)
        for index, r in np.ndenumerate(flips):
            radii[(..., *index)] = self._radius(log_tail_a, log_p_b, int(r), n_poisoned)
        return radii

    def _radius(
        self, log_tail_a: FloatArray, log_p_b: FloatArray, n_flips: int, n_poisoned: int | None
    ) -> FloatArray:
        scale = self._scale
        without = gaussian_radius(log_tail_a, log_p_b, scale=scale, n_poisoned=n_poisoned)
        if n_flips == 0:
            return without
        radii = np.full(log_tail_a.shape, -1.0)
        rows = without >= 0.0  # flips only lower a radius
        if np.any(rows):
            args = (n_flips, self.q, self.n_categories)
            found = joint_radii(joint_shifts(log_tail_a[rows], log_p_b[rows], *args), scale)
            if n_poisoned is not None:
                lowered = np.maximum(down(found / sqrt_upper(n_poisoned)), 0.0)
                found = np.where(found >= 0.0, lowered, -1.0)
            radii[rows] = found
        return radii
