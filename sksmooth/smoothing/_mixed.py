# SPDX-License-Identifier: BSD-3-Clause
"""Categorical noise on features and labels of different domains (Wang et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sksmooth.smoothing import _flip_lattice
from sksmooth.smoothing._bounds import checked_int, log_bounds
from sksmooth.smoothing._categorical import (
    checked_flip_probability,
    checked_rows,
    draw_categorical,
    flip_radii,
    trade_off_by_size,
)
from sksmooth.smoothing._flip_lattice import IntArray
from sksmooth.smoothing._rounding import FloatArray


@dataclass(frozen=True)
class MixedCategoricalNoise:
    r"""Categorical noise with one `q` on domains of different sizes; certifies changed values.

    Every value, of a feature or a label, keeps its value with probability :math:`1-q` and becomes
    each other value of its own domain with equal probability (Wang et al. [1]_, eq. 2, allow this
    in a remark).

    Guarantee: as for :class:`CategoricalNoise`, for any r changes in features and labels together.
    The worst of them lie in the largest domain: for one coordinate and every :math:`g > 0`,
    :math:`\sup_A Q(A) - g P(A)` does not fall with K, so a change in a larger domain is at least as
    telling, and this order is kept by products. The radius is that of the largest domain, exact
    where at least r coordinates have it, a lower bound otherwise.

    Parameters
    ----------
    q : float in (0, (K - 1) / K)
        Probability that a value is replaced; K is the smallest domain.
    n_feature_values : int of at least 2, or sequence of such, of shape (n_features,)
        Domain size of the features, or of each. A sequence is stored as a tuple.
    n_label_values : int of at least 2, or None
        Domain size of the labels; None where labels get no noise.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    .. [1] B. Wang, X. Cao, J. Jia, N. Z. Gong, "On Certifying Robustness against Backdoor Attacks
       via Randomized Smoothing", 2020, sections 2 and 3.

    Examples
    --------
    >>> from sksmooth.smoothing import MixedCategoricalNoise
    >>> noise = MixedCategoricalNoise(q=0.1, n_feature_values=2, n_label_values=10)
    >>> noise.radius([0.999, 0.9999999]).tolist()
    [1, 3]
    """

    q: float
    n_feature_values: int | tuple[int, ...]
    n_label_values: int | None

    def __post_init__(self) -> None:
        values: Any = self.n_feature_values
        if np.ndim(values) == 0:
            values = checked_int(values, "n_feature_values", minimum=2)
            sizes = [values]
        else:
            if np.size(values) == 0:
                raise ValueError(
                    "n_feature_values must be an integer or a sequence of at least one. "
                    f"Got {values!r} instead."
                )
            sizes = [
                checked_int(k, f"n_feature_values[{i}]", minimum=2) for i, k in enumerate(values)
            ]
            values = tuple(sizes)
        object.__setattr__(self, "n_feature_values", values)
        if self.n_label_values is not None:
            n_labels = checked_int(self.n_label_values, "n_label_values", minimum=2)
            object.__setattr__(self, "n_label_values", n_labels)
            sizes = [*sizes, n_labels]
        q = checked_flip_probability(self.q, min(sizes))
        object.__setattr__(self, "q", q)

    @property
    def _largest_domain(self) -> int:
        values = self.n_feature_values
        sizes = (values,) if isinstance(values, int) else values
        return max(*sizes, self.n_label_values or 0)

    def draw(
        self, X: tuple[ArrayLike, ArrayLike | None], rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return noisy copies of features and labels.

        Parameters
        ----------
        X : tuple of two array-likes
            Feature codes, of shape (..., n_features), and label codes, of shape (n_rows,) or None
            (for a test input).
        rng : numpy.random.Generator
            Source of the noise: first of the features, then of the labels.

        Returns
        -------
        tuple of two ndarrays
            The noisy codes, of the given dtypes; None where no labels were given.

        Raises
        ------
        ValueError
            If a value is not a code of its domain, a dtype cannot hold all codes, features and
            labels differ in their numbers of rows, or `n_feature_values` does not fit the features.

        Examples
        --------
        >>> import numpy as np
        >>> from sksmooth.smoothing import MixedCategoricalNoise
        >>> noise = MixedCategoricalNoise(q=0.1, n_feature_values=(2, 3), n_label_values=4)
        >>> X, y = noise.draw(([[0, 2], [1, 1]], [3, 0]), np.random.default_rng(0))
        >>> X.shape, y.shape
        ((2, 2), (2,))
        """
        features, labels = X
        sizes = np.asarray(self.n_feature_values)
        shape = np.shape(features)
        if sizes.ndim and (not shape or shape[-1] != sizes.size):
            raise ValueError(
                f"n_feature_values has {sizes.size} entries, one per feature. "
                f"Got features of shape {shape}."
            )
        if labels is not None:
            if self.n_label_values is None:
                raise ValueError(
                    "X must be a pair of features and None: with n_label_values=None labels get "
                    f"no noise. Got labels of shape {np.shape(labels)}."
                )
            checked_rows(features, labels)
        noisy = draw_categorical(features, self.q, sizes, rng)
        if labels is None:
            return noisy, None
        return noisy, draw_categorical(labels, self.q, np.asarray(self.n_label_values), rng)

    def trade_off(self, type_1_error: ArrayLike, size: ArrayLike) -> FloatArray:
        """Return the least type II error of telling clean noise from that around changed values.

        All changes lie in the largest domain. Computed to ordinary float accuracy;
        :meth:`radius` does not use it.

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
        >>> from sksmooth.smoothing import MixedCategoricalNoise
        >>> noise = MixedCategoricalNoise(q=0.25, n_feature_values=2, n_label_values=2)
        >>> [round(b, 4) for b in noise.trade_off(0.125, [0, 1]).tolist()]
        [0.875, 0.625]
        """
        return trade_off_by_size(
            type_1_error,
            size,
            lambda alpha, r: _flip_lattice.trade_off(alpha, r, self.q, self._largest_domain),
        )

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
            Upper bounds on ``1 - p_a``. If None, ``1 - p_a`` is rounded up and kept above 2**-53.
        n_poisoned : int from 1 to 2**53, default=None
            As in :meth:`CategoricalNoise.radius`.
        n_coordinates : int from 1 to 2**53, default=None
            As in :meth:`CategoricalNoise.radius`.
        bound : {"exact", "kl"}, default="exact"
            As in :meth:`CategoricalNoise.radius`.

        Returns
        -------
        ndarray of int64, of shape (n_samples,)
            Guaranteed for every change of at most this many values, -1 where nothing is.

        Raises
        ------
        InvalidBoundError
            If a bound on a probability is NaN or outside its range.
        ValueError
            If one of the other arguments is out of range.

        Examples
        --------
        >>> from sksmooth.smoothing import MixedCategoricalNoise
        >>> noise = MixedCategoricalNoise(q=0.4, n_feature_values=2, n_label_values=3)
        >>> noise.radius([0.9, 0.9], [0.1, 0.02]).tolist()
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
        >>> from sksmooth.smoothing import MixedCategoricalNoise
        >>> noise = MixedCategoricalNoise(q=0.05, n_feature_values=2, n_label_values=2)
        >>> noise.radius_from_log([-26505.0, -10.0]).tolist()
        [10000, 3]
        """
        return flip_radii(
            log_tail_a,
            log_p_b,
            self.q,
            self._largest_domain,
            n_poisoned=n_poisoned,
            n_coordinates=n_coordinates,
            bound=bound,
        )
