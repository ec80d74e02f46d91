# SPDX-License-Identifier: BSD-3-Clause
"""A certifying estimator whose radii are known beforehand."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from sksmooth import ThreatModel


class Prediction(NamedTuple):
    y_pred: np.ndarray
    radii: np.ndarray


class BoundedPrediction(NamedTuple):
    y_pred: np.ndarray
    radii: np.ndarray
    p_a: np.ndarray
    p_b: np.ndarray


class PlainStump(ClassifierMixin, BaseEstimator):
    """Second of two classes iff ``x[0] > threshold``; the l2 radius is the distance to it.

    Rows closer than `deadband` to the threshold are abstained on. `n_poisoned` divides the radius.
    """

    def __init__(self, threshold=0.0, deadband=0.0, norm="l2", confidence_level=None):
        self.threshold = threshold
        self.deadband = deadband
        self.norm = norm
        self.confidence_level = confidence_level

    def fit(self, X, y):
        X, y = validate_data(self, X, y)
        self.classes_ = np.unique(y)
        self.threat_model_ = ThreatModel(
            norm=self.norm,
            target=("test_features",),
            unit="feature units",
            exact=self.confidence_level is None,
            confidence_level=self.confidence_level,
            n_statements=1,
            classes_given=True,
        )
        return self

    def _margin(self, X):
        check_is_fitted(self)
        return validate_data(self, X, reset=False)[:, 0] - self.threshold

    def predict(self, X):
        return self.classes_[(self._margin(X) > 0).astype(int)]

    def certify(self, X, *, n_poisoned=1):
        distance = np.abs(self._margin(X))
        radii = np.where(distance >= self.deadband, distance / n_poisoned, -1.0)
        return Prediction(self.predict(X), radii)


class Stump(PlainStump):
    """The same, with bounds."""

    def certify(self, X, *, n_poisoned=1, return_bounds=False):
        y_pred, radii = super().certify(X, n_poisoned=n_poisoned)
        if not return_bounds:
            return Prediction(y_pred, radii)
        p_a = 1 - 0.5 / (1 + np.abs(self._margin(X)))
        return BoundedPrediction(y_pred, radii, p_a, 1 - p_a)


def doubled(X):
    """Twice the rows: a step of a pipeline that doubles the stump's radii at threshold 0."""
    return 2.0 * np.asarray(X)
