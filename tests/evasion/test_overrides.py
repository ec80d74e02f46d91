# SPDX-License-Identifier: BSD-3-Clause
"""Bases that are not what they seem: certificates speak of what the base itself predicts."""

import warnings

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksmooth import (
    LabelFlipRidgeClassifier,
    RABEnsembleClassifier,
    RandomizedSmoothingClassifier,
    SmoothedKNNClassifier,
)
from sksmooth.evasion._first_layer import FirstLayerBallot
from sksmooth.evasion._voting import InputBallot
from sksmooth.exceptions import TooFewDrawsError
from sksmooth.metrics import average_certified_radius, make_certified_scorer


def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    return X, (X[:, 0] > 0.0).astype(int)


def smoothed(base, **params):
    params = {"sigma": 0.25, "n_estimation": 2000, "random_state": 0, **params}
    return RandomizedSmoothingClassifier(base, **params)


class TurnedFrozen(FrozenEstimator):
    def predict(self, X):
        return 1 - self.estimator.predict(X)


FAR = np.array([[-3.0, 0.0], [3.0, 0.0]])


@pytest.mark.parametrize("kind", ["linear", "perceptron", "frozen"])
def test_methods_of_an_object_are_followed(kind):
    X, y = data()
    base = (
        LogisticRegression()
        if kind != "perceptron"
        else MLPClassifier((4,), solver="lbfgs", random_state=0)
    )
    base.fit(X, y)
    wrapper = FrozenEstimator
    if kind == "frozen":
        wrapper = TurnedFrozen
    else:
        own = base.predict
        base.predict = lambda X: 1 - own(X)
    y_pred, radii = smoothed(wrapper(base)).fit(X, y).certify(FAR)
    assert_array_equal(y_pred, [1, 0])
    assert np.all(radii > 0.3)


@pytest.mark.parametrize("change", [0.0, 1e-12, 1e-3])
@pytest.mark.parametrize("kind", ["linear", "module", "one feature's sigma"])
def test_classes_of_nearly_the_same_scores_are_left_to_the_base(kind, change):
    # Rounding decides between them: on the way through the first layer it is not the base's.
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, 3))
    weights[2] = weights[0]
    weights[2, 1] += change
    sigma = [1.0, 0.5, 1.0]
    if kind == "one feature's sigma":
        sigma[1] = 1e-9
    if kind == "module":
        torch = pytest.importorskip("torch")
        base = torch.nn.Sequential(torch.nn.Linear(3, 4).double())
        with torch.no_grad():
            base[0].weight.copy_(torch.from_numpy(weights))
    else:
        base = LogisticRegression()
        base.coef_, base.intercept_, base.classes_ = weights, np.zeros(4), np.arange(4)
        base.n_features_in_ = 3
        base = FrozenEstimator(base)
    model = smoothed(base, sigma=sigma).fit(np.zeros((4, 3)), np.arange(4))
    direct = change == 1e-3 and kind != "one feature's sigma"
    assert isinstance(model._ballot(), FirstLayerBallot if direct else InputBallot)


def test_columns_of_a_frozen_base_are_its_own():
    pd = pytest.importorskip("pandas")
    X, y = data()
    frame = pd.DataFrame(X, columns=["p", "r"])
    base = LogisticRegression().fit(frame, y)
    smoothed(FrozenEstimator(base)).fit(frame, y)
    with pytest.raises(ValueError, match=r"feature_names_in_ is \['p', 'r'\]. Got \['r', 'p'\]"):
        smoothed(FrozenEstimator(base)).fit(frame[["r", "p"]], y)
    base = LogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match="n_features_in_ is 2. Got 1"):
        smoothed(FrozenEstimator(base)).fit(X[:, :1], y)


class Labels(ClassifierMixin, BaseEstimator):
    """A classifier without `classes_`: thirds of the plane."""

    def __init__(self, column=False):
        self.column = column

    def fit(self, X, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X):
        labels = np.array(["a", "b", "c"])[np.digitize(np.asarray(X)[:, 0], [-1.0, 1.0])]
        return labels[:, None] if self.column else labels


def test_labels_that_are_no_classes_are_refused():
    X, y = data()
    X[0], y = [-9.0, 0.0], np.array(["a", "b"])[y]  # far from "c", so that `fit` does not see it
    model = smoothed(FrozenEstimator(Labels()))
    model.fit(X, y)
    with pytest.raises(ValueError, match="predicts 'c', which is none of classes_"):
        model.certify([[2.0, 0.0]])
    X[0] = [9.0, 0.0]
    with pytest.raises(ValueError, match="predicts 'c', which is none of classes_"):
        model.fit(X, y)
    with pytest.raises(ValueError, match=r"one label for each of \d+ inputs. Got an array of"):
        smoothed(FrozenEstimator(Labels(column=True))).fit(X, y)


def test_what_a_base_cannot_do_is_said_in_fit():
    X, y = data()
    with pytest.raises(ValueError, match=r"predicts 0\.\d+, which is none of classes_"):
        smoothed(LinearRegression()).fit(X, y)


def test_a_perceptron_of_labels_that_go_together_is_refused():
    X, y = data()
    base = MLPClassifier((4,), solver="lbfgs", random_state=0)
    many = base.fit(X, np.column_stack([y, 1 - y, y]))
    with pytest.raises(ValueError, match="predict one label for each"):
        smoothed(FrozenEstimator(many)).fit(X, np.arange(60) % 3)


def test_n_changes_of_different_lengths():
    X, y = data()
    model = smoothed(LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match="n_changes must be an integer from 0 to 0"):
        model.certify(FAR, n_changes=[0, [1]])


@pytest.mark.parametrize("kind", ["datetime64[ns]", "timedelta64[ns]", "datetime64[s]"])
def test_dates_are_no_categories(kind):
    pd = pytest.importorskip("pandas")
    X, y = data()
    frame = pd.DataFrame({"x": X[:, 0], "day": (np.arange(60) % 2).astype(kind)})
    with pytest.raises(ValueError, match="there are no categories of dtype"):
        smoothed(LogisticRegression(), discrete=["day"], q=0.1).fit(frame, y)


@pytest.mark.parametrize("last", ["LogSoftmax", "Identity"])
def test_ties_behind_a_layer_without_weights_are_left_to_the_module(last):
    torch = pytest.importorskip("torch")
    kind = torch.nn.LogSoftmax(1) if last == "LogSoftmax" else torch.nn.Identity()
    base = torch.nn.Sequential(torch.nn.Linear(3, 4).double(), kind)
    X, y = np.zeros((4, 3)), np.arange(4)
    assert isinstance(smoothed(base).fit(X, y)._ballot(), FirstLayerBallot)
    with torch.no_grad():
        base[0].weight[2] = base[0].weight[0]
    assert isinstance(smoothed(base).fit(X, y)._ballot(), InputBallot)


def test_modules_of_low_precision_see_their_own_inputs():
    torch = pytest.importorskip("torch")
    base = torch.nn.Sequential(torch.nn.Linear(3, 4).bfloat16())
    model = smoothed(base).fit(np.zeros((4, 3)), np.arange(4))
    assert isinstance(model._ballot(), InputBallot)


class ById(ClassifierMixin, BaseEstimator):
    """Tells identifiers apart that are one float."""

    def fit(self, X, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X):
        return np.array([int(value) % 2 for value in np.asarray(X)[:, 1]])


def test_large_identifiers_reach_the_base_as_they_are():
    ids = [2**60, 2**60 + 1]
    X = np.array([[i, ids[i % 2]] for i in range(20)])
    model = smoothed(FrozenEstimator(ById()), discrete=[1], q=0.01).fit(X, np.arange(20) % 2)
    y_pred, radii = model.certify(X[:4], n_changes=0)
    assert_array_equal(y_pred, [0, 1, 0, 1])
    assert np.all(radii > 0)


MIXED = {
    "True is 1": ([1, True, 2.5] * 4, "'True'"),
    "text and numbers": (["a", 1, "b"] * 4, "'a'"),
    "missing": (["a", None, "b"] * 4, "None"),
}


@pytest.mark.parametrize("noise", ["gaussian", "categorical"])
@pytest.mark.parametrize("values, shown", MIXED.values(), ids=MIXED)
def test_categories_of_several_kinds_are_refused(noise, values, shown):
    X = np.empty((12, 2), dtype=object)
    X[:, 0], X[:, 1] = np.arange(12) % 3, values
    params = {"discrete": [1]} if noise == "gaussian" else {"noise": noise}
    message = (
        f"goes with columns of values of one kind .* none of them missing. Got column 1.*{shown}"
    )
    with pytest.raises(ValueError, match=message):
        smoothed(LogisticRegression(), q=0.1, **params).fit(X, np.arange(12) % 2)


@pytest.mark.parametrize("noise", ["gaussian", "categorical"])
def test_lists_of_numbers_and_texts(noise):
    """NumPy alone would make texts of the numbers."""

    class Kinds(Labels):
        def predict(self, X):
            assert {type(v) for v in X[:, 0]} == {str}
            assert {type(v) for v in X[:, 1]} <= {int, float}
            return np.where(X[:, 0] == "a", 0, 1)

    X = [["a" if i % 2 else "b", i % 3] for i in range(12)]
    params = {"discrete": [0]} if noise == "gaussian" else {"noise": noise}
    model = smoothed(FrozenEstimator(Kinds()), q=0.1, **params).fit(X, np.arange(12) % 2)
    assert_array_equal(model.predict(X[:4]), [1, 0, 1, 0])
    with pytest.raises(
        ValueError, match="Column 0 must hold one of 'a', 'b'. Got 'c' in row 1. Col"
    ):
        model.certify([["a", 1], ["c", 1]])


def test_numbers_beyond_floats_and_too_few_draws_name_the_parameter():
    X, y = data()
    for sigma in (10**400, [10**400, 1.0]):
        with pytest.raises(ValueError, match="sigma must be a number .* in the range of floats"):
            smoothed(LogisticRegression(), sigma=sigma).fit(X, y)
    model = smoothed(LogisticRegression(), n_estimation=3).fit(X, y)
    with pytest.raises(ValueError, match="radius must be None or a finite number"):
        model.certify(FAR, radius=10**400)
    with pytest.raises(TooFewDrawsError, match="n_estimation must be at least 10. Got .*=3") as few:
        model.certify(FAR)
    assert few.value.n_needed == 10
    assert smoothed(LogisticRegression(), n_estimation=10).fit(X, y).certify(FAR).radii.min() > 0


@pytest.mark.parametrize("nested", [False, True])
def test_a_single_output_is_a_logit(nested):
    torch = pytest.importorskip("torch")
    base = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Sigmoid())
    base = torch.nn.Sequential(torch.nn.Identity(), base) if nested else base
    X, y = data()
    with pytest.raises(ValueError, match="ends in Sigmoid, and is always above 0: leave it out"):
        smoothed(base).fit(X, y).certify(FAR)
    two = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Sigmoid())
    assert smoothed(two).fit(X, y).certify(FAR).radii.max() > 0  # one for each class


@pytest.mark.parametrize("noise", ["gaussian", "categorical"])
@pytest.mark.parametrize("frozen", [False, True])
def test_frames_reach_the_base_with_their_names(noise, frozen):
    pd = pytest.importorskip("pandas")
    X, y = data()
    frame = pd.DataFrame(np.round(X), columns=["u", "v"])
    base = make_pipeline(
        make_column_transformer((StandardScaler(), ["u"]), remainder="passthrough"),
        LogisticRegression(),
    )
    of_arrays = smoothed(make_pipeline(StandardScaler(), LogisticRegression()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for own in (base, FrozenEstimator(clone(base).fit(frame, y)) if frozen else base):
            model = smoothed(own, noise=noise, q=0.1 if noise == "categorical" else 0.0)
            answer = model.fit(frame, y).certify(frame)
            assert np.mean(answer.y_pred == y) > 0.7 and np.any(answer.radii >= 0)
        # A base that was trained on arrays goes on to see them.
        unnamed = FrozenEstimator(of_arrays.estimator.fit(np.round(X), y))
        smoothed(unnamed).fit(frame, y).predict(frame)
    by_name = model.predict(frame)
    assert_array_equal(model.predict(frame), by_name)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["v", "u"]])


@pytest.mark.parametrize("kind", ["evasion", "knn", "ridge", "rab"])
def test_a_fit_that_fails_leaves_the_old_model(kind):
    """New names on an old model would let it read columns in another order."""
    pd = pytest.importorskip("pandas")
    X, y = data()
    frame = pd.DataFrame(X, columns=["u", "v"])
    model = {
        "evasion": lambda: smoothed(LogisticRegression()),
        "knn": lambda: SmoothedKNNClassifier(n_neighbors=3),
        "ridge": lambda: LabelFlipRidgeClassifier(),
        "rab": lambda: RABEnsembleClassifier(
            LogisticRegression(), n_estimators=30, random_state=0, confidence_level=0.9
        ),
    }[kind]().fit(frame, y)
    before = dict(vars(model))
    labels = np.linspace(0.0, 1.0, 60) if kind == "ridge" else np.zeros(60)  # no classes, or one
    with pytest.raises(ValueError):
        model.fit(frame[["v", "u"]], labels + (0.5 if kind == "ridge" else 0.0))
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is before[name] for name in before)
    with pytest.raises(ValueError, match="feature names should match"):
        model.certify(frame[["v", "u"]])


def test_sigma_with_names_is_not_taken_by_position():
    pd = pytest.importorskip("pandas")
    X, y = data()
    frame = pd.DataFrame(X, columns=["u", "v"])
    named = pd.Series({"v": 3.0, "u": 0.1})
    for model in (
        smoothed(LogisticRegression()),
        SmoothedKNNClassifier(n_neighbors=3),
        RABEnsembleClassifier(LogisticRegression(), n_estimators=30, random_state=0),
    ):
        with pytest.raises(ValueError, match=r"sigma must have the index \['u', 'v'\], the"):
            model.set_params(sigma=named).fit(frame, y)
        model.set_params(sigma=named[["u", "v"]]).fit(frame, y)
        model.fit(X, y)  # no names to compare with
    frame["w"] = np.arange(60) % 3
    mixed = smoothed(LogisticRegression(), discrete=["w"], q=0.1, sigma=named)
    with pytest.raises(ValueError, match=r"index \['u', 'v'\], the columns that get noise"):
        mixed.fit(frame, y)


def test_nan_is_refused_whatever_is_assumed():
    X, y = data()
    model = smoothed(LogisticRegression()).fit(X, y)
    with sklearn.config_context(assume_finite=True):
        with pytest.raises(ValueError, match="X must not contain NaN"):
            model.certify([[np.nan, 0.0]])


def test_a_radius_in_single_precision():
    X, y = data()
    model = smoothed(LogisticRegression()).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.certify(FAR, radius=np.float32(0.25)).radii
    assert_array_equal(found, model.certify(FAR, radius=0.25).radii)
    with pytest.raises(ValueError, match="radius must be None or a finite number"):
        model.certify(FAR, radius=True)


def test_scores_come_from_other_noise_than_certificates():
    """A search has looked at the noise of its scores: certificates must not come from the same."""
    X, y = data()
    model = smoothed(LogisticRegression()).fit(X, y)
    score = make_certified_scorer("acr")
    own = average_certified_radius(y, *model.certify(X))
    assert score(model, X, y) != own
    assert score(model, X, y) == score(model, X, y)
    assert average_certified_radius(y, *model.certify(X)) == own
    assert abs(score(model, X, y) - own) < 0.05 * own
