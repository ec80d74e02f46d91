# SPDX-License-Identifier: BSD-3-Clause
"""What `certificate_record` refuses to write, and what it says then."""

import re

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from sksmooth import (
    LabelFlipRidgeClassifier,
    RABEnsembleClassifier,
    RandomizedSmoothingClassifier,
    SmoothedKNNClassifier,
)
from sksmooth.audit import certificate_record, verify_record
from sksmooth.exceptions import DigestError

from ._records import data


class Unwalkable(ClassifierMixin, BaseEstimator):
    """A learner that keeps a function without a name, which no digest can walk."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.function_ = lambda X: (X[:, 0] > 0).astype(int)
        return self

    def predict(self, X):
        return self.classes_[self.function_(X)]


LATER = {
    "noise": (RABEnsembleClassifier, {"noise": "uniform"}, "noise='gaussian' in the theorem"),
    "labels": (RABEnsembleClassifier, {"q": 0.1}, "'joint' in the parameters"),
    "columns": (RABEnsembleClassifier, {"columns": [0]}, "feature units of 1 columns"),
    "classes": (RABEnsembleClassifier, {"classes": ["ham", "spam"]}, "classes_given=False"),
    "members": (RABEnsembleClassifier, {"n_estimators": 20}, "n_estimators=50 of the seeds"),
    "sigma": (RABEnsembleClassifier, {"sigma": 2.0}, "sigma=0.5 in the theorem"),
    "grid": (RABEnsembleClassifier, {"grid": 0.5}, "grid=None in the theorem"),
    "noise of inputs": (RandomizedSmoothingClassifier, {"noise": "uniform"}, "noise='gaussian'"),
    "q of inputs": (RandomizedSmoothingClassifier, {"q": 0.2}, "q=0.2 in the parameters"),
    "neighbors": (SmoothedKNNClassifier, {"sigma": 3.0}, "sigma=1.0 in the theorem"),
    "noise of tests": (RABEnsembleClassifier, {"test_noise": "seed"}, "test_noise was 'hash'"),
    "number of neighbors": (SmoothedKNNClassifier, {"n_neighbors": 3}, "n_neighbors was 5"),
    "certificate": (LabelFlipRidgeClassifier, {"certificate": "kl"}, "certificate was 'exact'"),
    "ridge": (LabelFlipRidgeClassifier, {"q": 0.2}, "q=0.0 in the theorem"),
}


def fitted(kind, learner=None, **params):
    learner = learner or LogisticRegression()
    more = {
        RABEnsembleClassifier: {"estimator": learner, "n_estimators": 50, "random_state": 0},
        RandomizedSmoothingClassifier: {
            "estimator": learner, "n_estimation": 1000, "random_state": 0,
        },
    }.get(kind, {})  # fmt: skip
    if kind is RABEnsembleClassifier:
        more["sigma"] = 0.5
    X, y = data()
    return kind(**more, **params).fit(X, y), X[:2]


@pytest.mark.parametrize("name", LATER)
def test_parameters_that_were_set_after_fit(name):
    kind, params, reason = LATER[name]
    model, X = fitted(kind)
    model.set_params(**params)
    result = model.certify(X)
    with pytest.raises(ValueError, match="No record of this would hold") as failure:
        certificate_record(model, X, result)
    assert reason in str(failure.value)


def test_what_certify_does_not_take():
    for kind, name, known in (
        (SmoothedKNNClassifier, "n_flips", "['n_poisoned']"),
        (LabelFlipRidgeClassifier, "n_poisoned", "nothing"),
        (RandomizedSmoothingClassifier, "n_poisoned", "['n_changes', 'radius']"),
        (RABEnsembleClassifier, "n_poison", "['n_flips', 'n_poisoned']"),
    ):
        model, X = fitted(kind)
        with pytest.raises(TypeError, match=rf"^certificate_record takes .*{re.escape(known)}"):
            certificate_record(model, X, model.certify(X), **{name: 1})


def test_settings_of_votes_are_not_taken():
    # The record would hold the bounds of the estimator's own level next to these radii.
    model, X = fitted(RABEnsembleClassifier)
    votes = model.collect_votes(X)
    for asked in ({"confidence_level": 0.5}, {"correction": "none"}):
        with pytest.raises(TypeError, match="Other settings are those of the estimator"):
            certificate_record(model, X, model.certify_votes(votes, **asked), **asked)


def test_a_model_that_is_not_fitted():
    model, X = fitted(SmoothedKNNClassifier)
    with pytest.raises(NotFittedError):
        certificate_record(SmoothedKNNClassifier(), X, model.certify(X))


def test_a_base_without_a_digest():
    model, X = fitted(RandomizedSmoothingClassifier, Unwalkable())
    with pytest.raises(DigestError, match="A record needs the digest of the model") as failure:
        certificate_record(model, X, model.certify(X))
    assert "test_noise" not in str(failure.value)


def test_ridge_weights_that_are_rounding_alone(monkeypatch):
    # Weights of more columns than rows, far from 0, sum to 1 in a few digits alone.
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 80)) * 1e5, np.arange(60) % 2
    weight = rng.uniform(0.1, 5.0, 60)
    model = LabelFlipRidgeClassifier(alpha=1.0).fit(X, y, sample_weight=weight)
    result = model.certify(X[:3])
    assert verify_record(certificate_record(model, X[:3], result)).holds
    # Which smaller alpha leaves none is up to the machine.
    exact = model._weights.weights
    monkeypatch.setattr(model._weights, "weights", lambda z: 1.5 * exact(z))
    with pytest.raises(ValueError, match="Rounding has taken over: scale the features"):
        certificate_record(model, X[:3], result)
