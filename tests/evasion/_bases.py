# SPDX-License-Identifier: BSD-3-Clause
"""Trained bases whose smoothed vote is known, or that read last bits."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from sksmooth import RandomizedSmoothingClassifier


class Cuts(ClassifierMixin, BaseEstimator):
    """Class c is predicted where the first feature lies between `cuts[c - 1]` and `cuts[c]`."""

    def __init__(self, cuts=(0.0,)):
        self.cuts = cuts

    def fit(self, X, y):
        self.classes_ = np.arange(len(self.cuts) + 1)
        return self

    def predict(self, X):
        return np.searchsorted(self.cuts, np.asarray(X)[:, 0])


class Parity(ClassifierMixin, BaseEstimator):
    """Class 1 where more of the values in (-1, -1/4) are odd multiples of `unit` than even ones."""

    def __init__(self, unit=2.0**-24):
        self.unit = unit

    def fit(self, X, y):
        self.classes_ = np.arange(2)
        return self

    def predict(self, X):
        X = np.asarray(X)
        multiples = np.rint(X / self.unit).astype(np.int64)
        seen = (X > -1.0) & (X < -0.25)
        odd = np.where(seen, 2 * (multiples & 1) - 1, 0).sum(axis=1)
        return (odd > 0).astype(int)


class Recoding(ClassifierMixin, BaseEstimator):
    """Says "never seen" where the first feature is above `from_`, else a class by its sign."""

    def __init__(self, from_=0.5):
        self.from_ = from_

    def fit(self, X, y):
        self.classes_ = np.array(["a", "b"])
        return self

    def predict(self, X):
        first = np.asarray(X)[:, 0]
        return np.where(first > self.from_, "never seen", np.where(first > 0.0, "b", "a"))


def linear(weights, bias=0.0):
    """Return a trained linear classifier of two classes."""
    weights = np.asarray(weights, dtype=float)
    base = LogisticRegression()
    base.coef_, base.intercept_ = weights[np.newaxis], np.array([bias])
    base.classes_, base.n_features_in_ = np.arange(2), weights.size
    return base


def smoothed(base, n_features=1, n_classes=2, **params):
    """Return the smoothed classifier of a trained base."""
    params = {"random_state": 0, **params}
    if isinstance(base, (Cuts, Parity, Recoding)):
        base.fit(None, None)
    model = RandomizedSmoothingClassifier(FrozenEstimator(base), **params)
    y = np.arange(n_classes)
    return model.fit(np.zeros((n_classes, n_features)), y)


def with_new_noise(model, seed):
    """Let the model draw other noise, as a new `fit` with another `random_state` would."""
    model._entropy = np.random.default_rng(seed).integers(0, 2**32, 4, dtype=np.uint32)
    return model
