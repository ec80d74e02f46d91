# SPDX-License-Identifier: BSD-3-Clause
"""Small classifiers whose smoothed vote is known, or that try to cheat."""

from __future__ import annotations

import time

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class Intervals(ClassifierMixin, BaseEstimator):
    """Says in which interval the mean of the training rows' first feature lies.

    Class c is predicted, whatever the input, where the mean is between `cuts[c - 1]` and `cuts[c]`.
    Under Gaussian noise the mean is normal with deviation ``sigma / sqrt(n)``. `fails` is an
    interval of means where training fails; `slow` one where it takes a while.
    """

    def __init__(self, cuts=(0.0,), fails=None, slow=None):
        self.cuts = cuts
        self.fails = fails
        self.slow = slow

    def fit(self, X, y):
        self.classes_ = np.arange(len(self.cuts) + 1)
        self.mean_ = float(np.mean(np.asarray(X)[:, 0]))
        if self.fails is not None and self.fails[0] < self.mean_ < self.fails[1]:
            raise FloatingPointError(f"the mean {self.mean_:.3f} is where training fails")
        if self.slow is not None and self.slow[0] < self.mean_ < self.slow[1]:
            time.sleep(0.02)
        return self

    def predict(self, X):
        return np.full(len(X), int(np.searchsorted(self.cuts, self.mean_)))

    def predict_proba(self, X):
        scores = np.full((len(X), len(self.classes_)), 0.1 / (len(self.classes_) - 1))
        scores[:, int(np.searchsorted(self.cuts, self.mean_))] = 0.9
        return scores


class Denoiser(ClassifierMixin, BaseEstimator):
    """Tries to subtract the noise: it draws from whatever randomness it can lay hands on."""

    def __init__(self, sigma=1.0, random_state=None):
        self.sigma = sigma
        self.random_state = random_state

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        seed = self.random_state
        sequences = [np.random.SeedSequence(seed)]
        sequences += sequences[0].spawn(3)
        sequences += [child for s in sequences[1:] for child in s.spawn(2)]
        draws = [np.random.default_rng(s).standard_normal(X.shape) for s in sequences]
        draws.append(np.random.RandomState(seed).standard_normal(X.shape))
        draws.append(np.random.standard_normal(X.shape))
        self.guesses_ = [X - self.sigma * z for z in draws]
        self.seen_ = X.copy()
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


class FitCounter(ClassifierMixin, BaseEstimator):
    """Notes every data set that it is trained on, epoch by epoch, and its own randomness."""

    def __init__(self, epochs=3, random_state=None):
        self.epochs = epochs
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None, groups=None):
        self.classes_ = np.unique(y)
        self.epochs_ = [np.array(X, dtype=float) for _ in range(self.epochs)]
        self.labels_ = np.array(y)
        self.sample_weight_, self.groups_ = sample_weight, groups
        self.own_ = float(np.random.default_rng(self.random_state).random())
        self.global_ = float(np.random.random())
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


class Drawer(ClassifierMixin, BaseEstimator):
    """Draws from NumPy's global generator, now and then, over a time that the noise decides."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.draws_ = np.empty(0)
        for wait in np.abs(X[:2, 0]):
            time.sleep(0.002 * wait)
            self.draws_ = np.r_[self.draws_, np.random.random(3)]
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


class Carrier(ClassifierMixin, BaseEstimator):
    """Has parameters, and learns nothing."""

    def __init__(self, step=None, payload=None):
        self.step = step
        self.payload = payload

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


class OwnClone(FitCounter):
    """Is its own clone, so that all members would be one object."""

    def __sklearn_clone__(self):
        return self


class Scorer(ClassifierMixin, BaseEstimator):
    """Gives scores for classes of its own."""

    def __init__(self, classes=(0, 1), width=2):
        self.classes = classes
        self.width = width

    def fit(self, X, y):
        self.classes_ = np.asarray(self.classes)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def predict_proba(self, X):
        return np.full((len(X), self.width), 1.0 / self.width)


class Interrupting(ClassifierMixin, BaseEstimator):
    """As if the user pressed Ctrl-C while it trains, if told so."""

    def __init__(self, interrupts=False):
        self.interrupts = interrupts

    def fit(self, X, y):
        if self.interrupts:
            raise KeyboardInterrupt
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


class TorchDrawer(ClassifierMixin, BaseEstimator):
    """Draws from torch's global generator."""

    def fit(self, X, y):
        import torch

        self.classes_ = np.unique(y)
        self.draw_ = float(torch.rand(()))
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


class Table(ClassifierMixin, BaseEstimator):
    """Any function of training features, training labels and the test input, as a table.

    Its axes are the codes of all training features (row by row), of all labels, of a test input.
    """

    def __init__(self, table=None):
        self.table = table

    def fit(self, X, y):
        self.classes_ = np.unique(self.table)
        self.rest_ = self.table[(*np.ravel(X), *y)]
        return self

    def predict(self, X):
        return self.rest_[tuple(np.transpose(X))]


class Vandal(ClassifierMixin, BaseEstimator):
    """Changes in place all that it is given, and notes what it found."""

    def fit(self, X, y, sample_weight=None, notes=None):
        self.classes_ = np.unique(y)
        last = X["e"].iloc[0] if hasattr(X, "iloc") else 1.0
        self.saw_ = (float(sample_weight.max()), len(notes["seen"]), float(last))
        self.inputs_ = []
        sample_weight *= 2.0
        notes["seen"].append(1)
        self._destroy(X)
        y[:] = y[0]
        return self

    def predict(self, X):
        self.inputs_.append(float(np.asarray(X, dtype=float).sum()))
        self._destroy(X)
        return np.full(len(X), self.classes_[0])

    def _destroy(self, X):
        if hasattr(X, "iloc"):
            X.iloc[:, :] = -1.0
        else:
            X[:] = -1.0
