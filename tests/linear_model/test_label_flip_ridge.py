# SPDX-License-Identifier: BSD-3-Clause
"""The estimator: ridge regression, the contract, inputs, threads and batches."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import linalg, sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

import sksmooth
from sksmooth import LabelFlipRidgeClassifier
from sksmooth.exceptions import UncoveredParameterWarning, UncoveredPreprocessingWarning
from sksmooth.metrics import make_certified_scorer

# Checks that may not run, with the reason.
SKIPS = {
    "check_array_api_input": "needs SCIPY_ARRAY_API in the environment; no array API here",
}


@pytest.mark.slow
@pytest.mark.parametrize("params", [{}, {"q": 0.1}, {"q": 0.1, "certificate": "tight"}], ids=str)
def test_scikit_learn_checks(params):
    """Every check of the generated list ran and passed, but for the written list of skips."""
    estimator = LabelFlipRidgeClassifier(**params)
    results = check_estimator(estimator, on_fail="raise", on_skip=None)
    generated = [
        getattr(check, "func", check).__name__
        for _, check in estimator_checks_generator(estimator, legacy=True)
    ]
    assert sorted(r["check_name"] for r in results) == sorted(generated)
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= set(SKIPS)
    assert {r["status"] for r in results} <= {"passed", "skipped"}


def blobs(seed=0, n=60, d=4, n_classes=2, spread=1.0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % n_classes)
    centres = spread * rng.normal(size=(n_classes, d))
    X_test = rng.normal(size=(25, d)) + centres[rng.integers(0, n_classes, 25)]
    return rng.normal(size=(n, d)) + centres[y], y, X_test


# --- it is ridge regression -----------------------------------------------------------------------


@pytest.mark.parametrize("as_sparse", [False, True])
@pytest.mark.parametrize("shape", [(60, 4), (20, 50), (30, 30)], ids=str)
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_are_those_of_ridge_regression(n_classes, fit_intercept, shape, as_sparse):
    X, y, X_test = blobs(1, *shape, n_classes)
    X, X_test = X + 3.0, X_test + 3.0
    X[X < 2.5] = 0.0
    q, weight = 0.2, np.random.default_rng(0).uniform(0.0, 2.0, len(y))
    weight[0] = 0.0
    convert = sparse.csr_array if as_sparse else np.asarray
    model = LabelFlipRidgeClassifier(q=q, alpha=0.7, fit_intercept=fit_intercept)
    model.fit(convert(X), y, sample_weight=weight)
    # The noisy mean of a class's indicator is linear in it.
    targets = np.full((len(y), n_classes), q / (n_classes - 1))
    targets[np.arange(len(y)), y] = 1.0 - q
    ridge = Ridge(alpha=0.7, fit_intercept=fit_intercept).fit(X, targets, sample_weight=weight)
    want = ridge.predict(X_test) - 0.5
    got = model.decision_function(convert(X_test))
    assert_allclose(got, want[:, 1] if n_classes == 2 else want, rtol=0, atol=1e-11)
    top = (want[:, 1] > 0).astype(int) if n_classes == 2 else want.argmax(axis=1)
    assert_array_equal(model.predict(convert(X_test)), top)
    # Dense inputs to a model of sparse ones, and the other way round.
    assert_allclose(model.decision_function(X_test), got, rtol=0, atol=1e-12)
    assert_allclose(model.decision_function(sparse.csr_array(X_test)), got, rtol=0, atol=1e-12)


def test_sparse_and_dense_certify_alike():
    X, y, X_test = blobs(2, 50, 6)
    X[X < 0.5] = 0.0
    for q in (0.0, 0.2):
        dense = LabelFlipRidgeClassifier(q=q).fit(X, y).certify(X_test)
        for form in (sparse.csr_array, sparse.csc_matrix, sparse.coo_array):
            model = LabelFlipRidgeClassifier(q=q).fit(form(X), y)
            result = model.certify(form(X_test))
            assert_array_equal(result.y_pred, dense.y_pred)
            assert_array_equal(result.radii, dense.radii)


def test_alpha_scale_and_rosenfeld():
    X, y, _ = blobs(3, 80, 5)
    for fit_intercept in (False, True):
        used = X - X.mean(axis=0) if fit_intercept else X
        model = LabelFlipRidgeClassifier(alpha="scale", fit_intercept=fit_intercept)
        want = np.square(used).sum() / 5
        assert model.fit(X, y).alpha_ == pytest.approx(want, rel=1e-12)
        assert model.fit(sparse.csr_array(X), y).alpha_ == pytest.approx(want, rel=1e-12)
        wide = LabelFlipRidgeClassifier(alpha="scale", fit_intercept=fit_intercept)
        used = X[:4] - X[:4].mean(axis=0) if fit_intercept else X[:4]
        want = np.square(used).sum() / 5
        assert wide.fit(X[:4], [0, 1, 0, 1]).alpha_ == pytest.approx(want, rel=1e-12)

    model = LabelFlipRidgeClassifier(alpha="rosenfeld", q=0.3, fit_intercept=False)
    with pytest.warns(UncoveredParameterWarning, match="computed from the training labels"):
        model.fit(X, y)
    residual = y - X @ linalg.lstsq(X, y)[0]
    variance = residual @ residual / (80 - 5)
    want = 1.3 * variance * 5 / (2 * 80) * np.linalg.cond(X.T @ X)
    # Two classes: the residuals of class 0 are those of class 1 only with an intercept.
    other = (1 - y) - X @ linalg.lstsq(X, 1 - y)[0]
    want *= (1 + other @ other / (residual @ residual)) / 2
    assert model.alpha_ == pytest.approx(want, rel=1e-9)
    with pytest.warns(UncoveredParameterWarning), pytest.raises(ValueError, match="more rows"):
        clone(model).fit(X[:5], [0, 1, 0, 1, 0])


def test_rank_deficient_and_constant_columns():
    X, y, X_test = blobs(4, 40, 3)
    double = np.c_[X, X[:, :1], np.full(40, 3.0), np.zeros(40)]
    double_test = np.c_[X_test, X_test[:, :1], np.full(25, 3.0), np.zeros(25)]
    model = LabelFlipRidgeClassifier(alpha=2.0).fit(double, y)
    ridge = Ridge(alpha=2.0).fit(double, y)
    assert_allclose(model.decision_function(double_test), ridge.predict(double_test) - 0.5)
    assert model.certify(double_test).radii.max() > 3


# --- the contract ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("q, certificate", [(0.0, "exact"), (0.1, "kl"), (0.2, "tight")])
def test_certify_tells_one_story(q, certificate, n_classes):
    X, y, X_test = blobs(5, 200, 4, n_classes)
    labels = np.array(["spam", "ham", "offer"])[y]
    model = LabelFlipRidgeClassifier(q=q, certificate=certificate).fit(X, labels)
    result = model.certify(X_test, return_bounds=True)
    assert_array_equal(result.y_pred, model.predict(X_test))
    assert set(result.y_pred) <= set(model.classes_)
    assert_array_equal(result.radii, model.certify(X_test).radii)
    assert result.radii.dtype == np.int64
    assert (result.radii >= -1).all() and (result.radii <= 200).all()
    assert ((result.radii >= 0) == (result.p_a > result.p_b)).all()
    assert (result.p_b > 0).all() and (result.p_a < 1).all() and (result.p_a >= 0).all()
    assert (result.radii > 5).sum() > 5
    threat = model.threat_model_
    assert (threat.norm, threat.target, threat.exact) == ("flips", ("train_labels",), True)
    assert not threat.classes_given
    assert "training labels, by flips norm" in repr(model)


@pytest.mark.parametrize("q", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_batches_threads_and_order_change_nothing(q, n_classes):
    X, y, X_test = blobs(6, 150, 5, n_classes)
    model = LabelFlipRidgeClassifier(q=q).fit(X, y)
    whole = model.certify(X_test, return_bounds=True)
    for params in ({"n_jobs": 2}, {"batch_size": 1}, {"batch_size": 7}, {"batch_size": 1000}):
        other = model.set_params(n_jobs=None, batch_size=None).set_params(**params)
        for got, want in zip(other.certify(X_test, return_bounds=True), whole, strict=True):
            assert_array_equal(got, want)
    order = np.random.default_rng(0).permutation(25)
    for got, want in zip(model.certify(X_test[order], return_bounds=True), whole, strict=True):
        assert_array_equal(got, want[order])
    alone = [model.certify(x[None]) for x in X_test]
    assert_array_equal(np.concatenate([a.radii for a in alone]), whole.radii)
    copy = pickle.loads(pickle.dumps(model))
    assert_array_equal(copy.certify(X_test).radii, whole.radii)


def test_more_flips_than_rows_are_never_claimed():
    """Nothing that labels can do reaches class 1: the radius is the number of rows."""
    X, y = np.array([[0.01], [0.02], [-0.01]]), [0, 0, 1]
    for q in (0.0, 0.2):
        model = LabelFlipRidgeClassifier(q=q, fit_intercept=False).fit(X, y)
        assert_array_equal(model.certify([[0.01], [0.0]]).radii, [3, 3])


def test_parameters_set_after_fit_count_from_the_next_fit_on():
    X, y, X_test = blobs(7)
    model = LabelFlipRidgeClassifier(q=0.1).fit(X, y)
    before = model.certify(X_test, return_bounds=True)
    model.set_params(q=0.3, certificate="kl", fit_intercept=False, alpha=100.0)
    for got, want in zip(model.certify(X_test, return_bounds=True), before, strict=True):
        assert_array_equal(got, want)
    X[:], y[:] = 0.0, 0  # nor does data that is changed in place
    for got, want in zip(model.certify(X_test, return_bounds=True), before, strict=True):
        assert_array_equal(got, want)


def test_an_exact_tie_abstains_and_goes_to_the_lowest_class():
    model = LabelFlipRidgeClassifier().fit([[-1.0], [1.0]], ["b", "a"])
    y_pred, radii = model.certify([[0.0]])
    assert y_pred[0] == "a" and radii[0] == -1


def test_classes_can_be_given():
    X, y, X_test = blobs(8, 60, 3)
    model = LabelFlipRidgeClassifier(classes=[2, 0, 1]).fit(X, y)
    assert_array_equal(model.classes_, [0, 1, 2])
    assert model.threat_model_.classes_given
    # Whoever may also use a third label needs no fewer flips, and here sometimes more.
    two, three = LabelFlipRidgeClassifier().fit(X, y), model
    assert (three.certify(X_test).radii <= two.certify(X_test).radii).all()
    one = LabelFlipRidgeClassifier(classes=["a", "b"]).fit(X[:3], ["a", "a", "a"])
    assert_array_equal(one.predict(X_test), ["a"] * 25)
    assert one.certify(X_test).radii.min() >= 0
    with pytest.raises(ValueError, match=r"classes must contain every training label.*\[1\]"):
        LabelFlipRidgeClassifier(classes=[0, 2]).fit(X, y)
    for bad in ([0, 1, 1], [[0, 1]]):
        with pytest.raises(ValueError, match="classes must be a list of different classes"):
            LabelFlipRidgeClassifier(classes=bad).fit(X, y)
    with pytest.raises(ValueError, match="at least 2 classes"):
        LabelFlipRidgeClassifier(classes=[0]).fit(X, np.zeros(60, int))


# --- in scikit-learn ------------------------------------------------------------------------------


def test_in_pipelines_whose_steps_never_see_labels():
    X, y = load_breast_cancer(return_X_y=True)
    for step in (PCA(5, random_state=0), RBFSampler(gamma=0.01, n_components=40, random_state=0)):
        model = make_pipeline(StandardScaler(), step, LabelFlipRidgeClassifier(alpha=10.0))
        model.fit(X[:400], y[:400])
        with warnings.catch_warnings():
            warnings.simplefilter("error", UncoveredPreprocessingWarning)
            y_pred, radii = sksmooth.certify(model, X[400:])
        assert_array_equal(y_pred, model.predict(X[400:]))
        assert ((radii > 3) & (y_pred == y[400:])).mean() > 0.5


def test_wide_sparse_text():
    texts = ["cheap pills now", "meeting at noon", "win cash now", "lunch at noon"] * 6
    y = ["spam", "ham", "spam", "ham"] * 6
    model = make_pipeline(HashingVectorizer(n_features=2**18), LabelFlipRidgeClassifier())
    model.fit(texts, y)
    y_pred, radii = sksmooth.certify(model, ["win pills now", "meeting at lunch"])
    assert_array_equal(y_pred, ["spam", "ham"])
    assert (radii > 1).all()
    dense = LabelFlipRidgeClassifier().fit(model[0].transform(texts)[:, :].toarray()[:, ::64], y)
    assert dense.n_features_in_ == 2**12


def test_grid_search_over_q_and_alpha():
    X, y = load_iris(return_X_y=True)
    scorer = make_certified_scorer("accuracy", radius=3)
    grid = {"q": [0.0, 0.05, 0.2], "alpha": [0.1, 10.0, "scale"]}
    search = GridSearchCV(LabelFlipRidgeClassifier(), grid, scoring=scorer, cv=3).fit(X, y)
    assert 0.3 < search.best_score_ < 1.0
    y_pred, radii = sksmooth.certify(search, X[:5])
    assert_array_equal(y_pred, search.predict(X[:5]))
    assert cross_val_score(LabelFlipRidgeClassifier(), X, y, cv=3).mean() > 0.7


def test_data_frames_and_float32():
    X, y, X_test = blobs(9)
    names = ["a", "b", "c", "d"]
    model = LabelFlipRidgeClassifier().fit(pd.DataFrame(X, columns=names), y)
    assert_array_equal(model.feature_names_in_, names)
    radii = model.certify(pd.DataFrame(X_test, columns=names)).radii
    assert_array_equal(radii, LabelFlipRidgeClassifier().fit(X, y).certify(X_test).radii)
    half = LabelFlipRidgeClassifier().fit(X.astype(np.float32), y)
    double = LabelFlipRidgeClassifier().fit(X.astype(np.float32).astype(float), y)
    few = X_test.astype(np.float32)
    assert_array_equal(half.certify(few).radii, double.certify(few).radii)


def test_progress_bar(capsys):
    X, y, X_test = blobs(10)
    LabelFlipRidgeClassifier(verbose=1).fit(X, y).certify(X_test)
    assert "certify: 100%" in capsys.readouterr().err


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params, message",
    [
        ({"q": 0.5}, r"q must be a float in \(0, \(K - 1\) / K\).*q=0.5 with n_categories=2"),
        ({"q": -0.1}, "'q' parameter .* must be a float in the range"),
        ({"q": float("nan")}, "q"),
        ({"certificate": "kl"}, "certificate must be 'exact' where q is 0.*'kl'"),
        ({"certificate": "tight"}, "certificate must be 'exact' where q is 0"),
        ({"certificate": "loose"}, "'certificate' parameter"),
        ({"alpha": -1.0}, "'alpha' parameter .* must be a float in the range"),
        ({"alpha": "auto"}, "'alpha' parameter"),
        ({"alpha": float("inf")}, "alpha"),
        ({"fit_intercept": 3}, "'fit_intercept' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
    ],
    ids=str,
)
def test_bad_parameters(params, message):
    X, y, _ = blobs(11)
    with pytest.raises(ValueError, match=message):
        LabelFlipRidgeClassifier(**params).fit(X, y)


def test_bad_data():
    X, y, X_test = blobs(12)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        LabelFlipRidgeClassifier().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="needs at least 2 classes. Got 1 class: 7"):
        LabelFlipRidgeClassifier().fit(X, np.full(60, 7))
    bad = X.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        LabelFlipRidgeClassifier().fit(bad, y)
    model = LabelFlipRidgeClassifier().fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        model.certify(bad)
    with pytest.raises(ValueError, match="3 features, but .* is expecting 4"):
        model.certify(X_test[:, :3])
    with pytest.raises(NotFittedError):
        LabelFlipRidgeClassifier().certify(X)
    with pytest.raises(ValueError, match="overflow"):
        LabelFlipRidgeClassifier().fit(X * 1e200, y)
    with pytest.raises(ValueError, match="overflow"):
        LabelFlipRidgeClassifier(alpha=1e-6).fit(X * 1e-3, y).certify(np.full((1, 4), 1e307))


@pytest.mark.parametrize("as_sparse", [False, True])
def test_singular_systems(as_sparse):
    X, y, _ = blobs(13, 30, 3)
    form = sparse.csr_array if as_sparse else np.asarray
    singular = [
        (np.c_[X, X[:, 0]], True),
        (np.c_[X, np.ones(30)], True),
        (np.c_[X, np.zeros(30)], False),
        (np.random.default_rng(0).normal(size=(30, 40)), False),
        (np.random.default_rng(0).normal(size=(30, 40)), True),
    ]
    for data, fit_intercept in singular:
        model = LabelFlipRidgeClassifier(alpha=0.0, fit_intercept=fit_intercept)
        with pytest.raises(ValueError, match="alpha=0.0 leaves a singular linear system"):
            model.fit(form(data), y)
    constant = "alpha='scale' is 0 here, as every column of X is constant.* a number above 0"
    with pytest.raises(ValueError, match=constant):
        LabelFlipRidgeClassifier(alpha="scale").fit(form(np.ones((30, 2))), y)
    model = LabelFlipRidgeClassifier(alpha=0.0).fit(form(X), y)
    assert_allclose(model.decision_function(X), Ridge(alpha=0.0).fit(X, y).predict(X) - 0.5)
    with pytest.warns(linalg.LinAlgWarning, match="ill-conditioned"):
        LabelFlipRidgeClassifier(alpha=1e-14).fit(form(np.c_[X, X[:, 0]]), y)


def test_weights_that_depend_on_labels_are_refused():
    X, y, X_test = blobs(14)
    y[:10] = 0
    model = LabelFlipRidgeClassifier()
    with pytest.raises(ValueError, match="sample_weight must not depend on the labels"):
        model.fit(X, y, sample_weight=compute_sample_weight("balanced", y))
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        model.fit(X, y, sample_weight=-np.ones(60))
    with pytest.raises(ValueError, match="(?i)sample.weight.*zero"):
        model.fit(X, y, sample_weight=np.zeros(60))
    with pytest.raises(TypeError, match="class_weight"):
        LabelFlipRidgeClassifier(class_weight="balanced")
    # Rows of weight zero are as good as absent, and their labels may change freely.
    weight = np.random.default_rng(0).uniform(0.5, 1.0, 60)
    weight[40:] = 0.0
    some = model.fit(X, y, sample_weight=weight).certify(X_test)
    assert_array_equal(some.radii, clone(model).fit(X[:40], y[:40], weight[:40]).certify(X_test)[1])
    weight[:] = 1.0
    assert_array_equal(
        model.certify(X_test).radii, some.radii
    )  # weights changed in place later do not matter


# --- found by trying to break it ------------------------------------------------------------------


def test_tiny_scores_of_several_classes():
    """Their mean scores round to the same number: the prediction must not look at these."""
    X = [[0, 0, 2], [0, 0, 3], [2, 0, 0], [3, 0, 0], [0, 0, 1], [0, 0, 2]]
    X += [[0, 2, 0], [3, 0, 0], [0, 0, 1], [0, 3, 0], [1, 0, 0], [2, 0, 0]]
    y = np.array([2, 1, 2, 2, 2, 2, 0, 2, 2, 0, 1, 2])
    x = [[4e-16, 3e-16, 2e-16]]
    model = LabelFlipRidgeClassifier(fit_intercept=False).fit(X, y)
    y_pred, radii = model.certify(x)
    assert (y_pred[0], radii[0]) == (2, 1)
    for j in range(12):
        for label in range(3):
            flipped = y.copy()
            flipped[j] = label
            assert clone(model).set_params(classes=[0, 1, 2]).fit(X, flipped).predict(x) == 2


def test_sparse_training_data_are_copied():
    X, y, X_test = blobs(15, 20, 40)
    rows = sparse.csr_array(X)
    model = LabelFlipRidgeClassifier().fit(rows, y)
    before = model.decision_function(X_test)
    rows.data[:] = 7.0
    assert_array_equal(model.decision_function(X_test), before)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("q", [0.0, 0.1])
def test_squares_that_overflow_or_underflow(q, n_classes):
    X, y, X_test = blobs(16, 80, 4, n_classes)
    model = LabelFlipRidgeClassifier(q=q, fit_intercept=False).fit(X, y)
    usual = model.certify(X_test * 1e3)
    for scale in (1e140, 1e155, 1e300):
        result = model.certify(X_test * scale)
        assert_array_equal(result.y_pred, usual.y_pred)
        if scale < 1e150 and n_classes > 2:
            assert_array_equal(result.radii, usual.radii)
        assert (result.radii <= usual.radii + (0 if n_classes > 2 else 2)).all()
    # A row whose squares underflow does not see what is left of another one.
    both = np.r_[X_test[:1], np.zeros((1, 4)), X_test[:1] * 1e-200]
    together = model.certify(both, return_bounds=True)
    for i in range(3):
        alone = model.certify(both[i : i + 1], return_bounds=True)
        assert all(a[0] == t[i] for a, t in zip(alone, together, strict=True))


def test_classes_that_cannot_be_sorted():
    X, y, _ = blobs(17)
    for bad in ([0, 1, None], [0, "a"]):
        with pytest.raises(ValueError, match="classes"):
            LabelFlipRidgeClassifier(classes=bad).fit(X, y)
