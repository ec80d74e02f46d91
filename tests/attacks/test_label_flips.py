# SPDX-License-Identifier: BSD-3-Clause
"""The worst label flips: against certificates, against every set of flips, and bad input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from sksmooth import LabelFlipRidgeClassifier, SmoothedKNNClassifier
from sksmooth.attacks import worst_label_flips
from sksmooth.exceptions import NotCertifiableError


def blobs(seed, n, n_classes, d=3):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % n_classes)
    centres = 1.2 * rng.normal(size=(n_classes, d))
    X_test = rng.normal(size=(12, d)) + centres[rng.integers(0, n_classes, 12)]
    return rng.normal(size=(n, d)) + centres[y], y, X_test


def refitted(model, X, y, attack, i, x):
    """Prediction after training on the labels of an attack."""
    labels = y.copy()
    rows = attack.index[i][attack.index[i] >= 0]
    labels[rows] = attack.y[i][: rows.size]
    assert (labels[rows] != y[rows]).all() and np.unique(rows).size == rows.size
    params = {"classes": model.classes_}
    return clone(model).set_params(**params).fit(X, labels).predict(x[None])[0]


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_classes, q", [(2, 0.0), (2, 0.1), (2, 0.4), (3, 0.0), (4, 0.2)])
def test_at_the_radius_nothing_changes_and_beyond_it_the_exact_one_does(
    n_classes, q, fit_intercept
):
    n_beyond = 0
    for seed in range(3):
        X, y, X_test = blobs(seed, 40, n_classes)
        for certificate in ("exact",) if q == 0.0 else ("kl", "tight", "exact"):
            model = LabelFlipRidgeClassifier(
                q=q, certificate=certificate, fit_intercept=fit_intercept
            ).fit(X, y)
            y_pred, radii = model.certify(X_test)
            inside = worst_label_flips(model, X_test, np.maximum(radii, 0))
            outside = worst_label_flips(model, X_test, np.minimum(radii + 1, 40))
            assert inside.index.shape == (12, max(radii.max(), 0))
            sure = radii >= 0
            assert_array_equal(inside.y_pred[sure], y_pred[sure])
            for i in np.flatnonzero(sure):
                again = refitted(model, X, y, inside, i, X_test[i])
                assert again == inside.y_pred[i] == y_pred[i]
                if q == 0.0 and radii[i] < 40:
                    again = refitted(model, X, y, outside, i, X_test[i])
                    if n_classes == 2 or outside.y_pred[i] != y_pred[i]:
                        assert again == outside.y_pred[i] != y_pred[i]
                        n_beyond += 1
    assert n_beyond > 15 or q > 0.0


@pytest.mark.parametrize("n_classes", [2, 3])
def test_no_set_of_flips_is_worse(n_classes):
    """Every set of two flips, for the margin against the nearest rival."""
    X, y, X_test = blobs(5, 9, n_classes)
    model = LabelFlipRidgeClassifier(classes=np.arange(n_classes)).fit(X, y)
    attack = worst_label_flips(model, X_test, 2)
    onehot = np.eye(n_classes)
    weights = model._weights.weights(model._weights.project(X_test))
    top = model.predict(X_test)

    def margin(a, labels, w):
        scores = a @ onehot[labels]
        return scores[w] - np.delete(scores, w).max()

    for i, a in enumerate(weights):
        lowest = np.inf
        for rows in itertools.combinations(range(9), 2):
            for new in itertools.product(range(n_classes), repeat=2):
                labels = y.copy()
                labels[list(rows)] = new
                lowest = min(lowest, margin(a, labels, top[i]))
        labels = y.copy()
        rows = attack.index[i][attack.index[i] >= 0]
        labels[rows] = attack.y[i][: rows.size]
        assert margin(a, labels, top[i]) == pytest.approx(lowest, abs=1e-12)


def test_behind_a_pipeline_and_without_flips():
    X, y, X_test = blobs(1, 40, 2)
    model = make_pipeline(PCA(2, random_state=0), LabelFlipRidgeClassifier()).fit(X, y)
    attack = worst_label_flips(model, X_test, 5)
    inner = worst_label_flips(model[-1], model[0].transform(X_test), 5)
    assert_array_equal(attack.index, inner.index)
    none = worst_label_flips(model, X_test, 0)
    assert none.index.shape == (12, 0)
    assert_array_equal(none.y_pred, model.predict(X_test))


def test_bad_input():
    X, y, X_test = blobs(2, 20, 2)
    model = LabelFlipRidgeClassifier().fit(X, y)
    for bad in (1.5, [1, 2], "many", [[1] * 12]):
        with pytest.raises(ValueError, match="n_flips must be an integer or an array"):
            worst_label_flips(model, X_test, bad)
    for bad in (-1, 21):
        with pytest.raises(ValueError, match="n_flips must be from 0 to 20"):
            worst_label_flips(model, X_test, bad)
    with pytest.raises(NotCertifiableError, match="est must be a LabelFlipRidgeClassifier"):
        worst_label_flips(SmoothedKNNClassifier().fit(X, y), X_test, 1)
    with pytest.raises(NotFittedError):
        worst_label_flips(LabelFlipRidgeClassifier(), X_test, 1)
