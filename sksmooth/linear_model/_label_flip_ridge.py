# SPDX-License-Identifier: BSD-3-Clause
"""Ridge classification, certified analytically against flipped training labels."""

from __future__ import annotations

import warnings
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import (
    BaseEstimator,
    _fit_context,  # scikit-learn's documented way to declared validation
)
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from tqdm.auto import tqdm

from .._certified import (
    CertifiedBounds,
    CertifiedClassifierMixin,
    CertifiedPrediction,
    ThreatModel,
    check_weights_ignore_labels,
    encode_labels,
    unchanged_on_failure,
)
from ..exceptions import UncoveredParameterWarning
from ..smoothing import CategoricalNoise
from ._radii import log_vote_bounds, radii_from_bounds

# Most test inputs per task, and most row weights held at a time, unless one input has more.
_BATCH_SIZE, _BATCH_WEIGHTS = 64, 2**21

_FLOOR = 1e-300


class LabelFlipRidgeClassifier(CertifiedClassifierMixin, BaseEstimator):
    r"""Ridge classifier with analytic certificates against flipped training labels.

    Least squares on the classes' indicators with an l2 penalty: the score of a class is the sum of
    the weights :math:`a_j` of its training rows, and these weights depend on the features alone
    (Rosenfeld et al., Section 4.1 [1]_). So the effect of any change of labels is known exactly,
    and nothing is sampled.

    With ``q=0`` the certified radius is the true number of labels whose change a prediction
    withstands: the most harmful ones are the largest :math:`|a_j|` in the harmful direction.

    With ``q>0`` every label is replaced, with probability q, by one of the others, and the base
    classifiers trained on such labels vote. The prediction is the class of the largest mean score.
    The certificates then hold for the prediction *and* for the vote. They rest on Chernoff's bound

    .. math:: P\Bigl(\sum_j a_j v_j \le 0\Bigr) \le \min_{t>0} \prod_j E\, e^{-t a_j v_j}

    for each rival class, where :math:`v_j` is 1, -1 or 0 for a noisy label of the predicted
    class, of the rival or of another one (eq. 6 and appendix B.2).

    Covered are changed labels of given rows, to any of `classes_`: not changed features, not
    inserted or removed rows, not preprocessing that saw the labels, not hyperparameters that were
    chosen with them.

    Parameters
    ----------
    q : float in [0, (K - 1) / K), default=0.0
        Probability that a label is replaced, for K classes.
    alpha : float, "scale" or "rosenfeld", default=1.0
        Penalty on the squared coefficients, not negative. "scale" is the sum of squares of the
        features (centred where there is an intercept) divided by their number; it does not depend
        on labels. "rosenfeld" is the paper's choice: it depends on the labels, a certificate that
        takes it as fixed does not hold, and a warning says so.
    certificate : {"exact", "tight", "kl"}, default="exact"
        "kl": Chernoff's bound and eq. (5) of the paper. "tight": Chernoff's bound and the exact
        trade-off function of the noise. "exact": the largest number of flips whose worst choice
        keeps Chernoff's bound small enough, and never less than "tight". Needed with ``q=0``, where
        there is no noise and hence no other one.
    fit_intercept : bool, default=True
        Whether to fit an unpenalised intercept. The rule is then symmetric in the classes. Without
        it, as in the paper, class 1 of two needs a mean score above 1/2, and a large q shrinks it.
    classes : array-like of shape (n_classes,), default=None
        All classes, among them some that no training row may have. If None, those of the training
        labels; the certificate then speaks of training sets with the same classes.
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
    alpha_ : float
        The penalty.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where `X` had string column names.
    n_samples_fit_ : int
        Number of training rows.
    threat_model_ : ThreatModel
        What the certificates are about.

    Notes
    -----
    The row weights as computed are taken as exact: an error in solving the linear system moves the
    classifier, for all labels alike, and not the certificate. Rounding in every sum over them is
    charged.

    Memory is that of a second copy of `X`, and of a square matrix with a row per feature, or per
    training row where these are fewer.

    References
    ----------
    .. [1] E. Rosenfeld, E. Winston, P. Ravikumar, J. Z. Kolter, "Certified Robustness to
       Label-Flipping Attacks via Randomized Smoothing", ICML 2020, Section 4 and Appendix B.

    Examples
    --------
    >>> from sksmooth import LabelFlipRidgeClassifier
    >>> X = [[0.0], [1.0], [2.0], [3.0], [7.0], [8.0], [9.0], [10.0]]
    >>> y = ["ham", "ham", "ham", "ham", "spam", "spam", "spam", "spam"]
    >>> model = LabelFlipRidgeClassifier().fit(X, y)
    >>> y_pred, radii = model.certify([[1.0], [4.9], [9.5]])
    >>> print(y_pred, radii)
    ['ham' 'ham' 'spam'] [1 0 1]

    The labels of any one row may be wrong, and the first and the last answer stay as they are.
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "q": [Interval(Real, 0, 1, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left"), StrOptions({"scale", "rosenfeld"})],
        "certificate": [StrOptions({"exact", "tight", "kl"})],
        "fit_intercept": ["boolean"],
        "classes": [None, "array-like"],
        "batch_size": [None, Interval(Integral, 1, None, closed="left")],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        q=0.0,
        alpha=1.0,
        certificate="exact",
        fit_intercept=True,
        classes=None,
        batch_size=None,
        n_jobs=None,
        verbose=0,
    ):
        self.q = q
        self.alpha = alpha
        self.certificate = certificate
        self.fit_intercept = fit_intercept
        self.classes = classes
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Compute the row weights and the scores.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training features, finite numbers.
        y : array-like of shape (n_samples,)
            Training labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, not negative. They must not depend on the labels: the certificate
            takes them as fixed. Weights that differ between classes only are refused.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not as described, or the linear system is singular.

        Warns
        -----
        UncoveredParameterWarning
            If ``alpha="rosenfeld"``.
        """
        with unchanged_on_failure(self):
            return self._fit(X, y, sample_weight)

    def _fit(self, X, y, sample_weight):
        from ._weights import RowWeights  # compiled code is imported on first use

        X, y = validate_data(self, X, y, dtype=np.float64, order="C", accept_sparse="csr")
        check_classification_targets(y)
        self.classes_, labels = encode_labels(y, self.classes, type(self).__name__)
        q, n_classes = float(self.q), self.classes_.size
        if q == 0.0 and self.certificate != "exact":
            raise ValueError(
                f"certificate must be 'exact' where q is 0: without noise there is nothing that "
                f"{self.certificate!r} could certify. Got q={self.q!r}."
            )
        self.noise_ = CategoricalNoise(q, n_classes) if q > 0.0 else None
        weights = self._checked_weights(sample_weight, X, labels)
        alpha = self._alpha(X, labels, n_classes)
        self._weights = RowWeights(X, weights, alpha, self.fit_intercept)
        self.alpha_ = self._weights.alpha
        self._labels = labels
        self._scores = self._weights.combine(np.eye(n_classes)[labels])
        # The fitted values: parameters that are set later count from the next fit on.
        self._q, self._certificate_name = q, self.certificate
        # Exactly, and hence positive: the share of a margin that is left of its noisy mean.
        self._contrast = float(1 - n_classes * Fraction(q) / (n_classes - 1))
        self._fit_intercept = bool(self.fit_intercept)
        self.n_samples_fit_ = X.shape[0]
        self.threat_model_ = ThreatModel(
            norm="flips",
            target=("train_labels",),
            unit="changed labels",
            exact=True,
            classes_given=self.classes is not None,
        )
        return self

    def _checked_weights(self, sample_weight, X, labels) -> np.ndarray:
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if not (np.all(weights >= 0.0) and np.any(weights > 0.0)):
            raise ValueError("sample_weight must not be negative, nor zero for all rows.")
        # A copy: weights that are changed in place later must not change the certificates.
        weights = weights.copy()
        check_weights_ignore_labels(weights, labels)
        return weights

    def _alpha(self, X, labels, n_classes):
        if not isinstance(self.alpha, str) or self.alpha == "scale":
            return self.alpha
        from ._weights import rosenfeld_alpha

        warnings.warn(
            "alpha='rosenfeld' is computed from the training labels and moves with them: the "
            "certificates take it as fixed and do not hold against an attacker who can change "
            "labels. Use a number, or 'scale'.",
            UncoveredParameterWarning,
            stacklevel=5,
        )
        X = X.toarray() if hasattr(X, "toarray") else X
        return rosenfeld_alpha(X, labels, n_classes, float(self.q), self.fit_intercept)

    def decision_function(self, X):
        """Return the mean scores under label noise, less 1/2.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Test inputs.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            With two classes that of the second one, which is predicted where it is positive.
        """
        return self._mean_scores(self._scores_of(self._checked(X))[0])

    def _checked(self, X):
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=np.float64, order="C", accept_sparse="csr")

    def _scores_of(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores without noise, and the projections of the inputs."""
        from ._kernels import weigh_rows

        z = self._weights.project(X)
        scores = np.empty((z.shape[0], self.classes_.size))
        weigh_rows(self._scores, z, scores)
        return scores, z

    def _mean_scores(self, scores) -> np.ndarray:
        """Return the mean scores under noise, less 1/2."""
        n_classes = self.classes_.size
        replace = self._q / (n_classes - 1)
        # With an intercept the scores add up to 1, but for rounding, which must not count.
        excess = 0.0 if self._fit_intercept else scores.sum(axis=1) - 1.0
        if n_classes == 2:
            return 0.5 * (self._contrast * (scores[:, 1] - scores[:, 0]) + excess)
        return self._contrast * scores + replace * (1.0 + np.reshape(excess, (-1, 1))) - 0.5

    def _top(self, scores) -> np.ndarray:
        """Return the number of the class of the largest mean score."""
        if self.classes_.size == 2:
            return (self._mean_scores(scores) > 0.0).astype(np.int64)
        # The means rise with the scores. They are sums with a constant, in whose rounding the
        # difference of very small scores would be lost.
        return scores.argmax(axis=1)

    def predict(self, X):
        """Return the class of the largest mean score under label noise.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Test inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`; ties go to the first one. Nothing here abstains; see `certify`.
        """
        top = self._top(self._scores_of(self._checked(X))[0])
        return self.classes_[top]

    def certify(self, X, *, return_bounds=False) -> CertifiedPrediction | CertifiedBounds:
        """Return predictions and how many training labels may change before they do.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Test inputs.
        return_bounds : bool, default=False
            Whether to return bounds on the vote's probabilities too.

        Returns
        -------
        CertifiedPrediction ``(y_pred, radii)`` or CertifiedBounds ``(y_pred, radii, p_a, p_b)``
            `y_pred` is what `predict` returns. A prediction holds for every change of at most
            `radii` labels, an ndarray of int64, at most `n_samples_fit_`; -1 is abstention: the
            unchanged prediction is a tie up to rounding or, with ``q>0``, Chernoff's bound does not
            show that it wins the vote. `p_a` is a lower bound on the probability that the predicted
            class wins the vote, `p_b` an upper bound on that of any other.

        Raises
        ------
        ValueError
            If `X` is not as described.
        NotFittedError
            If the estimator is not fitted.
        """
        X = self._checked(X)
        batches = list(gen_batches(X.shape[0], self.batch_size or self._default_batch(X.shape[0])))
        parallel = Parallel(n_jobs=self.n_jobs, require="sharedmem", return_as="generator")
        results = parallel(delayed(_certify_batch)(self, X[batch]) for batch in batches)
        results = tqdm(
            results, total=len(batches), disable=not self.verbose, desc="certify", unit="batch"
        )
        top, flips, log_bounds = (np.concatenate(p) for p in zip(*results, strict=True))
        log_tail_a, log_p_b = log_vote_bounds(log_bounds, top)
        radii = radii_from_bounds(
            flips, log_tail_a, log_p_b, self.noise_, self._certificate_name, self.n_samples_fit_
        )
        # Probabilities keep a positive floor.
        tail_a, p_b = (np.maximum(np.exp(log), _FLOOR) for log in (log_tail_a, log_p_b))
        return self._certificate(top, radii, tail_a, p_b, return_bounds)

    def _default_batch(self, n_inputs: int) -> int:
        by_memory = max(1, _BATCH_WEIGHTS // self.n_samples_fit_)
        n_threads = effective_n_jobs(self.n_jobs)
        # Several tasks per thread, so that all end at about the same time.
        by_threads = n_inputs if n_threads == 1 else -(-n_inputs // (8 * n_threads))
        return max(1, min(_BATCH_SIZE, by_memory, by_threads))


def _certify_batch(model: LabelFlipRidgeClassifier, X):
    from ._kernels import certify_rows, rounding_charges
    from ._radii import sign_cumulants

    scores, z = model._scores_of(X)
    if not np.all(np.isfinite(scores)):
        raise ValueError("X must hold numbers whose scores are finite. They overflow.")
    top = model._top(scores)
    n_rows, n_classes = model.n_samples_fit_, model.classes_.size
    charges, flips = np.empty(len(z)), np.empty(len(z), np.int64)
    rounding_charges(z, model._weights.column_sums, n_rows, charges)
    log_bounds = np.empty((len(z), n_classes))
    replace = model._q / (n_classes - 1)
    certify_rows(
        model._weights.weights(z),
        charges,
        model._labels,
        top,
        model._fit_intercept,
        1.0 - model._q,
        replace,
        model._contrast,
        sign_cumulants(replace),
        model._certificate_name == "exact",
        flips,
        log_bounds,
    )
    return top, flips, log_bounds
