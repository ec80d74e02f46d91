# SPDX-License-Identifier: BSD-3-Clause
"""One record of every kind of certificate."""

from functools import cache

import numpy as np
from sklearn.linear_model import LogisticRegression

from sksmooth import (
    DiscreteEnsembleClassifier,
    LabelFlipRidgeClassifier,
    RABEnsembleClassifier,
    RandomizedSmoothingClassifier,
    SmoothedKNNClassifier,
)
from sksmooth.audit import certificate_record

LEARNER = LogisticRegression()


def data(kind="numbers"):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    X[:, 0] *= 3.0
    y = np.where(X[:, 0] > 0.0, "spam", "ham")
    if kind == "codes":
        X = np.repeat(X[:, :1] > 0.0, 25, axis=1).astype(int)  # so many witnesses
    if kind == "three classes":
        y = np.arange(120) % 3
        X = X + 6.0 * np.eye(3)[y]
    if kind == "mixed":
        X[:, 2] = X[:, 2] > 0.0
    return X, y


def rab(**params):
    return RABEnsembleClassifier(
        LEARNER, **{"n_estimators": 200, "sigma": 0.5, "random_state": 0, **params}
    )


def discrete(**params):
    return DiscreteEnsembleClassifier(
        LEARNER, **{"n_estimators": 300, "q": 0.1, "random_state": 0, **params}
    )


def smoothed(**params):
    return RandomizedSmoothingClassifier(LEARNER, n_estimation=20_000, random_state=0, **params)


# Name: estimator, kind of data, what certify is asked.
CASES = {
    "gaussian": (rab(), "numbers", {}),
    "gaussian, three classes": (rab(two_sided=True), "three classes", {"n_poisoned": 7}),
    "uniform": (rab(noise="uniform"), "numbers", {"n_poisoned": 3}),
    "hoeffding": (rab(bound="hoeffding"), "numbers", {}),
    "anytime": (rab(bound="anytime"), "three classes", {}),
    "anytime, two-sided": (rab(bound="anytime", two_sided=True), "three classes", {}),
    "empirical-bernstein": (rab(bound="empirical-bernstein"), "numbers", {}),
    "holdout": (rab(correction="holdout"), "numbers", {}),
    "holdout, two-sided": (rab(correction="holdout", two_sided=True), "three classes", {}),
    "none": (rab(correction="none", two_sided=True), "three classes", {}),
    "soft": (rab(voting="soft", bound="betting"), "numbers", {}),
    "grid": (rab(grid=2.0**-10, sigma=[0.5, 1.0, 1.0]), "numbers", {"n_poisoned": 2}),
    "uniform grid": (rab(grid=2.0**-10, noise="uniform"), "numbers", {}),
    "joint": (rab(q=0.2, sigma=1.0), "numbers", {"n_flips": [0, 1, 2], "n_poisoned": 3}),
    "joint, three classes": (rab(q=0.2), "three classes", {"n_flips": 1}),
    "no flips": (rab(), "numbers", {"n_flips": [0, 0]}),
    "discrete": (discrete(), "codes", {}),
    "discrete rows": (discrete(perturb=("train_labels",), q=0.3), "codes", {"n_poisoned": 2}),
    "domains": (discrete(categories=[[0, 1, 2], *[[0, 1]] * 24], n_estimators=800), "codes", {}),
    "labels": (discrete(perturb=("train_labels",)), "codes", {}),
    "cohen": (smoothed(), "numbers", {}),
    "cohen, two-sided": (smoothed(two_sided=True), "three classes", {}),
    "cohen, asked": (smoothed(two_sided=True), "three classes", {"radius": 0.3}),
    "cohen, uniform": (smoothed(noise="uniform", sigma=[1.0, 0.5, 1.0]), "numbers", {}),
    "cohen, categorical": (smoothed(noise="categorical", q=0.3), "codes", {}),
    "cohen, no changes": (smoothed(noise="categorical", q=0.3), "codes", {"n_changes": [0, 0]}),
    "cohen, grid": (smoothed(grid=2.0**-10), "numbers", {}),
    "cohen, mixed": (smoothed(discrete=[2], q=0.2), "mixed", {"n_changes": [0, 1]}),
    "neighbors": (SmoothedKNNClassifier(), "three classes", {"n_poisoned": 3}),
    "ridge": (LabelFlipRidgeClassifier(), "numbers", {}),
    "ridge, no intercept": (LabelFlipRidgeClassifier(fit_intercept=False), "numbers", {}),
    "ridge, three classes": (LabelFlipRidgeClassifier(q=0.1), "three classes", {}),
    "ridge, kl": (
        LabelFlipRidgeClassifier(q=0.1, certificate="kl", fit_intercept=False), "numbers", {},
    ),
}  # fmt: skip


@cache
def record_of(name):
    estimator, kind, asked = CASES[name]
    X, y = data(kind)
    model = estimator.fit(X, y)
    return certificate_record(model, X[:4], model.certify(X[:4], **asked), **asked)
