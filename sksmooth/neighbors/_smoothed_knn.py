# SPDX-License-Identifier: BSD-3-Clause
"""K nearest neighbours, smoothed over noisy training features and certified exactly."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import (
    BaseEstimator,
    _fit_context,  # scikit-learn's documented way to declared validation
)
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data
from tqdm.auto import tqdm

from .._certified import (
    CertifiedBounds,
    CertifiedClassifierMixin,
    CertifiedPrediction,
    ThreatModel,
    check_n_poisoned,
    subtract_from_radii,
    unchanged_on_failure,
)
from ..smoothing import GaussianNoise
from ..smoothing._additive import check_order_of_sigma

# Further away than this (in sigmas), neighbouring doubles are too far apart to integrate over.
_MAX_DISTANCE = 1e12

# Most test inputs per task: enough to pass over the training rows rarely, few enough for a smooth
# progress bar; and most distances held at a time, unless four inputs have more.
_BATCH_SIZE, _BATCH_DISTANCES = 64, 2**22


class SmoothedKNNClassifier(CertifiedClassifierMixin, BaseEstimator):
    r"""K nearest neighbours with exact certificates against backdoors in training features.

    `predict` returns the class that wins the vote of the K nearest training rows most often when
    independent Gaussian noise is added to every training feature (RAB, Section 6.3 [1]_). These
    probabilities are computed, not sampled.

    `certify` returns with each prediction a radius: the prediction is the same for every training
    set whose features differ by an l2 norm of at most the radius,

    .. math:: \sqrt{\sum_i \|\delta_i\|_2^2} \le r < \frac{\sigma}{2}
        \left(\Phi^{-1}(p_A) - \Phi^{-1}(p_B)\right),

    summed over all training rows (RAB, Theorem 1 and Corollary 1). It holds with certainty, in real
    arithmetic; every error of the computation is charged against the radius.

    Covered are changes of the features of given rows: not inserted or removed rows, not changed
    labels, not the test input (which may carry the trigger: the same input is compared under both
    training sets), not preprocessing that was fitted on the same data, not hyperparameters that
    were chosen on it.

    Parameters
    ----------
    n_neighbors : int in [1, n_samples], default=5
        Number K of neighbours that vote. Ties go to the class that is first in `classes_`.
    sigma : float or array-like of shape (n_features,), default=1.0
        Standard deviation of the noise, in feature units. With one value per feature, distances
        and radii are in units of sigma (the l2 norm of ``delta / sigma``): the safe way to scale
        features.
    n_levels : int of at least 2, default=None
        If given, distances are quantised to this many levels as in the paper, and ties within a
        level go to the lower row. The edges depend on `sigma` and the number of features alone. If
        None, plain Euclidean distance.
    batch_size : int, default=None
        Test inputs per task. It changes the time, never the answer.
    n_jobs : int, default=None
        Number of threads. It changes the time, never the answer.
    verbose : int, default=0
        Above 0, show a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where `X` had string column names.
    n_samples_fit_ : int
        Number of training rows.
    level_edges_ : ndarray of shape (n_levels - 1,)
        Edges between levels of distance, in units of sigma; None without `n_levels`.
    threat_model_ : ThreatModel
        What the certificates are about.

    References
    ----------
    .. [1] M. Weber, X. Xu, B. Karlas, C. Zhang, B. Li, "RAB: Provable Robustness Against Backdoor
       Attacks", Section 6.3, Theorem 3 and Appendix C.

    Examples
    --------
    >>> from sksmooth import SmoothedKNNClassifier
    >>> X = [[0.0], [0.5], [1.0], [5.0], [5.5], [6.0]]
    >>> y = ["ham", "ham", "ham", "spam", "spam", "spam"]
    >>> model = SmoothedKNNClassifier(n_neighbors=3, sigma=1.0).fit(X, y)
    >>> y_pred, radii = model.certify([[0.2], [3.0]])
    >>> print(y_pred)
    ['ham' 'ham']
    >>> print([f"{r:.3f}" for r in radii])
    ['4.916', '-1.000']

    The second input lies half-way between the classes, and nothing is certified. Of a single
    poisoned row, or of each of four:

    >>> print([f"{model.certify([[0.2]], n_poisoned=r).radii[0]:.3f}" for r in (1, 4)])
    ['4.916', '2.458']
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "sigma": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "n_levels": [None, Interval(Integral, 2, None, closed="left")],
        "batch_size": [None, Interval(Integral, 1, None, closed="left")],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_neighbors=5,
        *,
        sigma=1.0,
        n_levels=None,
        batch_size=None,
        n_jobs=None,
        verbose=0,
    ):
        self.n_neighbors = n_neighbors
        self.sigma = sigma
        self.n_levels = n_levels
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Store the training data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training features, finite numbers.
        y : array-like of shape (n_samples,)
            Training labels, of at least two classes.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not as described.
        """
        with unchanged_on_failure(self):
            return self._fit(X, y)

    def _fit(self, X, y):
        from ._distances import ScaledRows  # compiled code is imported on first use
        from ._quantized import level_edges

        # A copy: rows changed in place later must not change the certificates.
        X, y = validate_data(self, X, y, dtype=np.float64, order="C", copy=True)
        check_classification_targets(y)
        n_samples, n_features = X.shape
        self.classes_, labels = np.unique(y, return_inverse=True)
        if self.classes_.size < 2:
            raise ValueError(
                f"{type(self).__name__} needs training labels of at least 2 classes. Got 1 class: "
                f"{self.classes_.tolist()[0]!r}."
            )
        if self.n_neighbors > n_samples:
            raise ValueError(
                f"n_neighbors must be at most the number of training rows. Got "
                f"n_neighbors={self.n_neighbors} with n_samples={n_samples}."
            )
        sigma = self._checked_sigma(n_features)
        self._rows = ScaledRows(X, sigma)
        self._labels = labels.astype(np.int64, copy=False)
        # The fitted values: parameters that are set later count from the next fit on.
        self._n_neighbors = int(self.n_neighbors)
        self._unit = float(sigma) if sigma.ndim == 0 else 1.0
        self.noise_ = GaussianNoise(sigma=float(sigma) if sigma.ndim == 0 else tuple(sigma))
        self.n_samples_fit_ = n_samples
        self.level_edges_ = None
        if self.n_levels is not None:
            self.level_edges_ = level_edges(self.n_levels, n_features, sigma)
            if not self.level_edges_[-1] <= _MAX_DISTANCE:
                raise ValueError(
                    f"sigma={self.sigma!r} is too small for n_levels={self.n_levels}: the last "
                    f"edge would be {self.level_edges_[-1]:.3g} sigmas away, above "
                    f"{_MAX_DISTANCE:g}."
                )
        self.threat_model_ = ThreatModel(
            norm="l2",
            target=("train_features",),
            unit="feature units" if sigma.ndim == 0 else "units of sigma",
            exact=True,
        )
        return self

    def _checked_sigma(self, n_features: int) -> np.ndarray:
        check_order_of_sigma(self)
        sigma = np.asarray(self.sigma, dtype=np.float64)
        if sigma.ndim and sigma.shape != (n_features,):
            raise ValueError(
                f"sigma must be a number or of shape ({n_features},), one value per feature. Got "
                f"shape {sigma.shape} instead."
            )
        # 1e-100..1e100: its inverse and the squares of scaled features stay finite numbers.
        if not np.all((sigma >= 1e-100) & (sigma <= 1e100)):
            raise ValueError(
                f"sigma must be positive and finite (from 1e-100 to 1e100). Got {self.sigma!r}."
            )
        return sigma

    def predict(self, X):
        """Return the class that wins the vote most often under the noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Test inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`. Nothing here abstains; see `certify`.
        """
        top = self._win_probabilities(X)[0].argmax(axis=1)
        return self.classes_[top]

    def predict_proba(self, X):
        """Return the probability that each class wins the vote under the noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Test inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Computed values, not bounds, in the order of `classes_`.
        """
        wins = self._win_probabilities(X)[0]
        return wins / wins.sum(axis=1, keepdims=True)

    def certify(
        self, X, *, n_poisoned=None, return_bounds=False
    ) -> CertifiedPrediction | CertifiedBounds:
        """Return predictions and how much the training features may change before they do.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Test inputs.
        n_poisoned : int in [1, n_samples_fit_], default=None
            If given, radii bound the l2 norm of the change of *each* of this many training rows;
            if None, the l2 norm over all rows together.
        return_bounds : bool, default=False
            Whether to return bounds on the vote's probabilities too.

        Returns
        -------
        CertifiedPrediction ``(y_pred, radii)`` or CertifiedBounds ``(y_pred, radii, p_a, p_b)``
            `y_pred` is what `predict` returns. A prediction holds for every change of size at most
            its radius, an ndarray of float64 in feature units (or units of sigma, see `sigma`); -1
            is abstention: not even the unchanged prediction is sure. `p_a` is a lower bound on the
            probability of the predicted class, `p_b` an upper bound on that of any other; both are
            those of the computed distances, whose rounding is charged against the radius alone.

        Raises
        ------
        ValueError
            If `X` or `n_poisoned` are not as described.
        NotFittedError
            If the estimator is not fitted.
        """
        check_is_fitted(self)
        n_poisoned = check_n_poisoned(n_poisoned, self.n_samples_fit_)
        top, tail_a, p_b, charge = self._bounds(X)
        radii = self.noise_.radius(1.0 - tail_a, p_b, tail_a=tail_a, n_poisoned=n_poisoned)
        # Charged in full also per poisoned row, where a part of it would do.
        radii = subtract_from_radii(radii, charge)
        return self._certificate(top, radii, tail_a, p_b, return_bounds)

    def _bounds(self, X) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of the classes, bounds on the vote, and the radius to charge for distances."""
        wins, upper, charge = self._win_probabilities(X)
        rows = np.arange(wins.shape[0])
        top = wins.argmax(axis=1)
        upper[rows, top] = 0.0
        # Sums of at most n_classes rounded numbers.
        tail_a = np.minimum(upper.sum(axis=1) * (1.0 + self.classes_.size * 2.0**-52), 1.0)
        return top, tail_a, np.minimum(upper.max(axis=1), tail_a), charge

    def _win_probabilities(self, X) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Win probabilities, upper bounds on them, and the radius to charge for distances."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64, order="C")
        batches = list(gen_batches(X.shape[0], self.batch_size or self._default_batch(X.shape[0])))
        parallel = Parallel(n_jobs=self.n_jobs, require="sharedmem", return_as="generator")
        results = parallel(delayed(_certify_batch)(self, X[batch]) for batch in batches)
        results = tqdm(
            results, total=len(batches), disable=not self.verbose, desc="certify", unit="batch"
        )
        wins, upper, charge = (np.concatenate(parts) for parts in zip(*results, strict=True))
        return wins, upper, charge

    def _default_batch(self, n_inputs: int) -> int:
        by_memory = max(4, _BATCH_DISTANCES // self.n_samples_fit_)
        n_threads = effective_n_jobs(self.n_jobs)
        # Several tasks per thread, so that all end at about the same time.
        by_threads = n_inputs if n_threads == 1 else -(-n_inputs // (8 * n_threads))
        return min(_BATCH_SIZE, by_memory, max(4, by_threads))


def _certify_batch(model: SmoothedKNNClassifier, X: np.ndarray):
    from . import _plain, _quantized
    from ._distances import distance_charge
    from ._kernels import REACH
    from ._noncentral_chi import tables

    shape = (X.shape[0], model.classes_.size)
    wins, upper, charge = np.empty(shape), np.empty(shape), np.empty(X.shape[0])
    n_neighbors, unit, edges = model._n_neighbors, model._unit, model.level_edges_
    args = (model.classes_.size, n_neighbors, tables(X.shape[1]))
    for i, u in enumerate(model._rows.distances(X)):
        kth = float(np.partition(u, n_neighbors - 1)[n_neighbors - 1])
        if not kth <= _MAX_DISTANCE:
            raise ValueError(
                f"sigma is too small, or the features are too large: a test input is {kth:.3g} "
                f"sigmas away from its K-th nearest training row; at most {_MAX_DISTANCE:g} can be "
                f"certified. Got sigma={model.sigma!r}."
            )
        # Rows that are too far to matter are so wherever rounding moves them.
        if edges is None:
            matter = u <= _plain.reach(kth, X.shape[1])
        else:
            matter = u <= edges[-1] + 2.0 * REACH
        charge[i] = distance_charge(u[matter], X.shape[1]) * unit
        if edges is None:
            wins[i], upper[i] = _plain.win_probabilities(u, model._labels, *args, kth)
        else:
            u = np.minimum(u, 2.0 * _MAX_DISTANCE)  # all of these are in the last level
            wins[i], upper[i] = _quantized.win_probabilities(u, model._labels, *args, edges)
    return wins, upper, charge
