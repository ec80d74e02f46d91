# SPDX-License-Identifier: BSD-3-Clause
"""Votes of linear members, taken many at once: those of their own `predict`, bit for bit."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import (
    LogisticRegression,
    Perceptron,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.svm import LinearSVC

import sksmooth.ensemble._linear as linear
import sksmooth.ensemble._votes as votes
from sksmooth import RABEnsembleClassifier


class Contrary(LogisticRegression):
    """Linear but for its answer."""

    def predict(self, X):
        return self.classes_[(super().predict(X) == self.classes_[0]).astype(int)]


def data(n_classes=2, n=60, d=5):
    rng = np.random.default_rng(0)
    y = np.arange(n) % n_classes
    return rng.normal(size=(n, d)) + 2.0 * np.eye(n_classes, d)[y], y


def fitted(learner, X, y, **params):
    params = {"n_estimators": 30, "sigma": 0.5, "random_state": 0, **params}
    return RABEnsembleClassifier(learner, **params).fit(X, y)


def one_by_one(model, X, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(votes, "linear_votes", lambda *args: iter(()))
        return model.collect_votes(X).data


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "learner",
    [
        LogisticRegression(),
        LogisticRegression(fit_intercept=False),
        LinearSVC(),
        LinearSVC(fit_intercept=False),
        SGDClassifier(),
        Perceptron(),
        RidgeClassifier(),
        Contrary(),
    ],
    ids=str,
)
def test_votes_are_those_of_predict(learner, n_classes, monkeypatch):
    X, y = data(n_classes)
    y = np.array(["ham", "spam", "zebra"])[y]
    model = fitted(learner, X, y, grid=2.0**-10)
    far = np.concatenate([X, 1e9 * X, 1e-12 * X, np.zeros((1, X.shape[1]))])
    expected = one_by_one(model, far, monkeypatch)
    assert expected.sum() == 30 * len(far)
    np.testing.assert_array_equal(model.collect_votes(far).data, expected)
    monkeypatch.setattr(linear, "_SCORES", 1000)  # members in several parts
    np.testing.assert_array_equal(model.collect_votes(far).data, expected)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_one_product_for_all_members_is_what_is_computed(n_classes, monkeypatch):
    X, y = data(n_classes)
    model = fitted(LogisticRegression(), X, y)
    expected = one_by_one(model, X, monkeypatch)

    def unexpected(*args):
        raise AssertionError("a member was asked itself")

    monkeypatch.setattr(votes, "_labels", unexpected)
    np.testing.assert_array_equal(model.collect_votes(X).data, expected)


def test_rows_on_the_boundary_are_left_to_predict(monkeypatch):
    # Rows within a few last bits of the boundary of member 3, on which rounding decides.
    X, y = data()
    model = fitted(LogisticRegression(), X, y)
    member, vector = model.estimators_[3], model.test_vectors_[3]
    (w,), (b,) = member.coef_, member.intercept_
    rows = X - np.outer(((X + vector) @ w + b) / (w @ w), w)
    asked = []
    labels = votes._labels

    def recorded(learner, *args):
        asked.append(learner)
        return labels(learner, *args)

    expected = one_by_one(model, rows, monkeypatch)
    monkeypatch.setattr(votes, "_labels", recorded)
    np.testing.assert_array_equal(model.collect_votes(rows).data, expected)
    assert asked == [member]
    # and there the product alone would have been wrong about some row of some such member
    shift = vector @ w + b
    assert np.any((rows @ w + shift > 0) != (member.decision_function(rows + vector) > 0))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_bound_on_rounding_holds(n_classes):
    # Scores of sizes that cancel, against the same sums in extended precision.
    rng = np.random.default_rng(1)
    for d in (1, 7, 300):
        X = rng.normal(size=(40, d)) * 10.0 ** rng.integers(-8, 8, (40, d))
        W = rng.normal(size=(6, n_classes if n_classes > 2 else 1, d))
        vectors, b = rng.normal(size=(6, d)), rng.normal(size=W.shape[:2])
        predicted, clear = linear._predict(X, np.abs(X).sum(axis=1), vectors, W, b)
        exact = (
            np.einsum(
                "nmf,msf->nms",
                X[:, None].astype(np.longdouble) + vectors.astype(np.longdouble),
                W.astype(np.longdouble),
            )
            + b
        )
        truth = exact[..., 0] > 0 if n_classes == 2 else exact.argmax(axis=-1)
        assert clear.any()
        np.testing.assert_array_equal(predicted[:, clear], truth[:, clear])


def test_frames_and_columns(monkeypatch):
    X, y = data()
    frame = pd.DataFrame(X, columns=list("abcde"))
    for columns in (None, ["a", "c"]):
        model = fitted(LogisticRegression(), frame, y, columns=columns)
        expected = one_by_one(model, frame, monkeypatch)
        np.testing.assert_array_equal(model.collect_votes(frame).data, expected)


def test_members_that_fail_or_miss_classes_are_left_alone(monkeypatch):
    X, y = data(3, n=6)
    model = fitted(LogisticRegression(), X, y, q=0.5, sigma=1.0)
    assert any(len(m.classes_) < 3 for m in model.estimators_ if m is not None)
    expected = one_by_one(model, X, monkeypatch)
    np.testing.assert_array_equal(model.collect_votes(X).data, expected)


def test_what_overflows_is_left_to_predict():
    X, y = data()
    model = fitted(LogisticRegression(), X, y)
    with pytest.raises(ValueError, match="NaN"):
        model.predict(np.where(np.arange(5) == 2, np.nan, X))
    assert model.predict(1e200 * X).shape == (60,)


class Bare(LogisticRegression):
    """A classifier of its user, that does not keep how many features it saw."""

    def fit(self, X, y):
        super().fit(X, y)
        del self.n_features_in_
        return self


def test_learners_that_do_not_say_how_many_features_they_saw(monkeypatch):
    X, y = data()
    model, plain = fitted(Bare(), X, y), fitted(LogisticRegression(), X, y)
    counts = model.collect_votes(X).data
    np.testing.assert_array_equal(counts, one_by_one(model, X, monkeypatch))
    assert (counts.sum(axis=(0, 2)) == 30).all()
    assert (model.predict(X) == plain.predict(X)).mean() > 0.9
