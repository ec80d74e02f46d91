# SPDX-License-Identifier: BSD-3-Clause
"""The estimator: contract, inputs, soundness under attack."""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

import sksmooth
from sksmooth import SmoothedKNNClassifier
from sksmooth.attacks import blending_trigger, one_feature_trigger, poison
from sksmooth.datasets import make_toy_emails
from sksmooth.metrics import make_certified_scorer

# Checks that may not run, with the reason.
SKIPS = {
    "check_array_api_input": "needs SCIPY_ARRAY_API in the environment; no array API here",
}


@pytest.mark.slow
@pytest.mark.parametrize("n_levels", [None, 5])
def test_scikit_learn_checks(n_levels):
    """Every check of the generated list ran and passed, but for the written list of skips."""
    estimator = SmoothedKNNClassifier(n_levels=n_levels)
    results = check_estimator(estimator, on_fail="raise", on_skip=None)
    generated = [
        getattr(check, "func", check).__name__
        for _, check in estimator_checks_generator(estimator, legacy=True)
    ]
    assert sorted(r["check_name"] for r in results) == sorted(generated)
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= set(SKIPS)
    assert {r["status"] for r in results} <= {"passed", "skipped"}


def blobs(seed=0, n=40, d=3, n_classes=2, spread=1.5):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    X = rng.normal(size=(n, d)) + spread * y[:, None]
    return X, y, rng.normal(size=(15, d)) + spread * rng.integers(0, n_classes, 15)[:, None]


def test_certify_predict_and_proba_tell_one_story():
    X, y, X_test = blobs(n_classes=3)
    labels = np.array(["spam", "ham", "offer"])[y]
    model = SmoothedKNNClassifier(3, sigma=0.7).fit(X, labels)
    result = model.certify(X_test, return_bounds=True)
    proba = model.predict_proba(X_test)
    assert_array_equal(result.y_pred, model.predict(X_test))
    assert_array_equal(result.y_pred, model.classes_[proba.argmax(axis=1)])
    assert_array_equal(result.radii, model.certify(X_test)[1])
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)
    assert result.radii.dtype == np.float64 and np.isfinite(result.radii).all()
    assert ((result.radii >= 0) | (result.radii == -1)).all()
    top, runner_up = np.sort(proba, axis=1)[:, -1], np.sort(proba, axis=1)[:, -2]
    assert (result.p_a <= top).all() and (result.p_a >= top - 1e-5).all()
    assert (result.p_b >= runner_up).all() and (result.p_b <= runner_up + 1e-5).all()
    assert ((result.p_a > result.p_b) == (result.radii >= 0)).all()


def test_radius_is_theorem_1_of_the_exact_probabilities():
    """Two rows, one feature: P(|31 + a| < |1 + b|) in closed form, and the radius from it."""
    from scipy import stats

    for sigma, far in [(1.0, 31.0), (2.0, 9.0), (0.5, 3.0)]:
        model = SmoothedKNNClassifier(1, sigma=sigma).fit([[1.0], [far]], [0, 1])
        p, q = (stats.norm.sf((far + s) / (sigma * np.sqrt(2))) for s in (-1, 1))
        p_b = p * (1 - q) + q * (1 - p)
        exact = sigma * stats.norm.isf(p_b)
        y_pred, radii = model.certify([[0.0]])
        assert y_pred[0] == 0
        assert exact * (1 - 1e-6) < radii[0] < exact


def test_exact_tie_abstains_and_goes_to_the_lowest_class():
    model = SmoothedKNNClassifier(1, sigma=1.0).fit([[-1.0], [1.0]], ["b", "a"])
    y_pred, radii = model.certify([[0.0]])
    assert y_pred[0] in ("a", "b") and radii[0] == -1.0
    even = SmoothedKNNClassifier(2, sigma=1.0).fit([[-1.0], [1.0]], ["b", "a"])
    y_pred, radii = even.certify([[0.0], [5.0]])
    assert_array_equal(y_pred, ["a", "a"])  # one vote each, always: the lowest class wins
    assert (radii > 30).all()


def attacked(model, X, y, x, size, rng):
    """Training features moved by `size` in all against the prediction at x, by local search."""
    top = model.predict(x)[0]
    column = int(np.flatnonzero(model.classes_ == top)[0])
    best, best_p = X, 2.0
    for _ in range(12):
        gap = x - X
        toward = gap / np.maximum(np.linalg.norm(gap, axis=1, keepdims=True), 1e-9)
        near = np.exp(-(np.linalg.norm(gap, axis=1) ** 2) / rng.uniform(0.2, 4.0))
        weight = near * np.where(y == top, -rng.uniform(0, 1), rng.uniform(0, 1))
        delta = toward * weight[:, None] + rng.normal(size=X.shape) * 0.05
        delta *= size / np.linalg.norm(delta)
        p = clone(model).fit(X + delta, y).predict_proba(x)[0, column]
        if p < best_p:
            best, best_p = X + delta, p
    return best


@pytest.mark.parametrize("n_levels", [None, 60])
@pytest.mark.parametrize("seed", range(4))
def test_no_attack_within_the_radius_changes_a_prediction(seed, n_levels):
    X, y, X_test = blobs(seed, n=14, d=2, n_classes=2 + seed % 2)
    model = SmoothedKNNClassifier(3, sigma=0.8, n_levels=n_levels).fit(X, y)
    rng = np.random.default_rng(seed)
    n_changed_outside = 0
    for x in X_test[:5, None]:
        (y_pred,), (radius,) = model.certify(x)
        if radius < 0:
            continue
        bad = attacked(model, X, y, x, 0.999999 * radius, rng)
        assert clone(model).fit(bad, y).predict(x)[0] == y_pred
        bad = attacked(model, X, y, x, 4.0 * radius, rng)
        n_changed_outside += clone(model).fit(bad, y).predict(x)[0] != y_pred
    assert n_changed_outside > 0  # the attack is a real one


def test_backdoor_attacks_of_the_paper():
    X, y = make_toy_emails(250, random_state=0, return_X_y=True)
    X = np.log1p(X)
    X, y, X_test = X[:200], y[:200], X[200:]
    for trigger in (one_feature_trigger(12, 0.3), blending_trigger(12, 0.3, random_state=0)):
        bad = poison(X, y, trigger, share=0.1, source=1, target=0, random_state=0)
        size = np.linalg.norm(bad.delta)
        model = SmoothedKNNClassifier(5, sigma=1.0)
        y_clean, radii = model.fit(X, bad.y).certify(X_test + trigger)
        each = model.certify(X_test + trigger, n_poisoned=bad.index.size).radii
        y_bad = model.fit(bad.X, bad.y).predict(X_test + trigger)
        sure = radii >= size
        assert sure.sum() > 5
        assert_array_equal(y_clean[sure], y_bad[sure])
        # The same statement, per poisoned row.
        largest = np.linalg.norm(bad.delta, axis=1).max()
        assert ((each >= largest) <= sure).all() and (each >= largest * (1 + 1e-9)).sum() > 5


def test_n_poisoned_divides_by_the_root():
    X, y, X_test = blobs()
    model = SmoothedKNNClassifier(3).fit(X, y)
    radii = model.certify(X_test).radii
    for r in (1, 7, 40):
        each = model.certify(X_test, n_poisoned=r).radii
        assert_array_equal(each == -1, radii == -1)
        sure = radii > 0
        np.testing.assert_allclose(each[sure], radii[sure] / np.sqrt(r), rtol=1e-9)
        assert (each[sure] <= radii[sure] / np.sqrt(r) * (1 + 1e-15)).all()
    assert_array_equal(model.certify(X_test, n_poisoned=np.int64(3)).radii.shape, (15,))


@pytest.mark.parametrize("n_poisoned", [0, 41, -1, 2.0, True, "3", [2]])
def test_bad_n_poisoned(n_poisoned):
    X, y, X_test = blobs()
    model = SmoothedKNNClassifier(3).fit(X, y)
    with pytest.raises(ValueError, match=r"n_poisoned must be None or an integer from 1 to 40"):
        model.certify(X_test, n_poisoned=n_poisoned)


def test_sigma_scales_and_one_sigma_per_feature_is_a_scaler():
    X, y, X_test = blobs(d=3)
    radii = SmoothedKNNClassifier(3, sigma=0.8).fit(X, y).certify(X_test).radii
    for factor in (1e-4, 1000.0):
        scaled = SmoothedKNNClassifier(3, sigma=0.8 * factor).fit(factor * X, y)
        np.testing.assert_allclose(
            scaled.certify(factor * X_test).radii[radii >= 0], factor * radii[radii >= 0], rtol=1e-6
        )
    scale = np.array([0.5, 20.0, 3.0])
    vector = SmoothedKNNClassifier(3, sigma=scale).fit(X, y)
    one = SmoothedKNNClassifier(3, sigma=1.0).fit(X / scale, y)
    expected = one.certify(X_test / scale)
    result = vector.certify(X_test)
    assert_array_equal(result.y_pred, expected.y_pred)
    np.testing.assert_allclose(result.radii, expected.radii, rtol=1e-6, atol=1e-9)
    assert vector.threat_model_.unit == "units of sigma"
    assert one.threat_model_.unit == "feature units"


@pytest.mark.parametrize("n_levels", [None, 30])
def test_answers_do_not_depend_on_jobs_batches_or_company(n_levels, capsys):
    X, y, X_test = blobs(n_classes=3)
    model = SmoothedKNNClassifier(4, n_levels=n_levels).fit(X, y)
    expected = model.certify(X_test, return_bounds=True)
    for params in ({"n_jobs": 2}, {"batch_size": 1}, {"batch_size": 4, "n_jobs": 3, "verbose": 1}):
        got = model.set_params(**params).certify(X_test, return_bounds=True)
        for a, b in zip(got, expected, strict=True):
            assert_array_equal(a, b)
    assert "certify" in capsys.readouterr().err  # verbose=1: a progress bar
    order = np.random.default_rng(0).permutation(15)
    assert_array_equal(model.certify(X_test[order]).radii, expected.radii[order])
    assert_array_equal(model.certify(X_test[3:4]).radii, expected.radii[3:4])


def test_kinds_of_input(tmp_path):
    X, y, X_test = blobs()
    X, X_test = X.astype(np.float32), X_test.astype(np.float32)
    model = SmoothedKNNClassifier(3).fit(X.astype(np.float64), y)
    expected = model.certify(X_test.astype(np.float64))
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for kind in (X, mapped, np.asfortranarray(X), X.tolist()):
        assert_array_equal(SmoothedKNNClassifier(3).fit(kind, y).certify(X_test), expected)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = SmoothedKNNClassifier(3).fit(frame, pd.Series(y).map({0: "x", 1: "y"}))
    result = model.certify(pd.DataFrame(X_test, columns=["a", "b", "c"]))
    assert_array_equal(result.y_pred, np.array(["x", "y"])[expected.y_pred])
    assert_array_equal(result.radii, expected.radii)
    assert_array_equal(model.feature_names_in_, ["a", "b", "c"])
    with pytest.raises(ValueError, match="feature names should match"):
        model.certify(pd.DataFrame(X_test, columns=["c", "b", "a"]))


@pytest.mark.parametrize(
    ("X", "y", "params", "message"),
    [
        ([[np.nan], [1.0]], [0, 1], {}, "NaN"),
        ([[np.inf], [1.0]], [0, 1], {}, "infinity"),
        ([1.0, 2.0], [0, 1], {}, "Expected 2D array"),
        (np.empty((0, 2)), [], {}, "0 sample"),
        ([["spam"], ["ham"]], [0, 1], {}, "could not convert string to float"),
        ([[0.0], [1.0]], [1, 1], {}, "at least 2 classes. Got 1 class"),
        ([[0.0], [1.0]], [0.5, 1.7], {}, "Unknown label type"),
        ([[0.0], [1.0]], [0, 1], {"n_neighbors": 3}, "n_neighbors=3 with n_samples=2"),
        ([[0.0], [1.0]], [0, 1], {"n_neighbors": 0}, "'n_neighbors' parameter"),
        ([[0.0], [1.0]], [0, 1], {"n_neighbors": 1.0}, "'n_neighbors' parameter"),
        ([[0.0], [1.0]], [0, 1], {"sigma": 0.0}, "'sigma' parameter"),
        ([[0.0], [1.0]], [0, 1], {"sigma": -1}, "'sigma' parameter"),
        ([[0.0], [1.0]], [0, 1], {"sigma": np.nan}, "'sigma' parameter"),
        ([[0.0], [1.0]], [0, 1], {"sigma": np.inf}, "'sigma' parameter"),
        ([[0.0], [1.0]], [0, 1], {"sigma": [1.0, 2.0]}, r"of shape \(1,\)"),
        ([[0.0], [1.0]], [0, 1], {"sigma": [[1.0]]}, r"of shape \(1,\)"),
        ([[0.0], [1.0]], [0, 1], {"sigma": [np.nan]}, "positive and finite"),
        ([[0.0], [1.0]], [0, 1], {"sigma": [0.0]}, "positive and finite"),
        ([[0.0], [1.0]], [0, 1], {"n_levels": 1}, "'n_levels' parameter"),
        ([[0.0], [1.0]], [0, 1], {"n_levels": 5, "sigma": 1e-30}, "too small for n_levels"),
        ([[0.0], [1.0]], [0, 1], {"batch_size": 0}, "'batch_size' parameter"),
        ([[0.0], [1.0], [2.0]], [0, 1], {}, "inconsistent numbers of samples"),
    ],
)
def test_bad_training_input(X, y, params, message):
    with pytest.raises(ValueError, match=message):
        SmoothedKNNClassifier(**{"n_neighbors": 1, **params}).fit(X, y)


def test_bad_test_input():
    X, y, X_test = blobs()
    with pytest.raises(NotFittedError):
        SmoothedKNNClassifier().certify(X_test)
    model = SmoothedKNNClassifier(3).fit(X, y)
    for method in (model.certify, model.predict, model.predict_proba):
        with pytest.raises(ValueError, match="X has 2 features, but .* expecting 3"):
            method(X_test[:, :2])
        with pytest.raises(ValueError, match="NaN"):
            method(np.full((1, 3), np.nan))
        with pytest.raises(ValueError, match="Expected 2D array"):
            method(X_test[0])
        with pytest.raises(ValueError, match="0 sample"):
            method(X_test[:0])
    with pytest.raises(ValueError, match=r"1e\+20 sigmas away"):
        model.certify(np.full((1, 3), 1e20 / np.sqrt(3)))


def test_extreme_but_legal():
    X, y, X_test = blobs()
    # A constant column, an outlier among the training rows, a huge and a tiny sigma, K = n.
    X = np.hstack([X, np.full((40, 1), 7.0)])
    X_test = np.hstack([X_test, np.full((15, 1), 7.0)])[:4]
    expected = SmoothedKNNClassifier(3).fit(X, y).certify(X_test)
    outlier = X.copy()
    outlier[5] = 1e200
    y_pred, radii = SmoothedKNNClassifier(3).fit(outlier, y).certify(X_test)
    assert np.isfinite(radii).all() and (radii > 0).any()
    for params in ({"sigma": 1e6}, {"sigma": 1e-6}, {"n_neighbors": 40}):
        y_pred, radii = SmoothedKNNClassifier(**params).fit(X, y).certify(X_test)
        assert np.isfinite(radii).all() and ((radii >= 0) | (radii == -1)).all()
    assert (expected.radii > 0).any()
    # With K = n every row votes: certain, up to the floor of 1e-290.
    assert (radii > 36).all() and (y_pred == 0).all()


def test_fit_and_certify_leave_the_estimator_alone():
    X, y, X_test = blobs()
    model = SmoothedKNNClassifier(3, sigma=np.array([1.0, 2.0, 3.0])).fit(X, y)
    before = {k: np.copy(v) if isinstance(v, np.ndarray) else v for k, v in vars(model).items()}
    model.certify(X_test)
    model.predict(X_test)
    assert vars(model).keys() == before.keys()
    for name, value in vars(model).items():
        assert_array_equal(value, before[name])
    assert clone(model).get_params()["n_neighbors"] == 3


def test_parameters_and_rows_count_as_they_were_in_fit():
    X, y, X_test = blobs()
    X = np.ascontiguousarray(X, dtype=np.float64)
    model = SmoothedKNNClassifier(3, sigma=0.7).fit(X, y)
    expected = model.certify(X_test)
    X[:] = 0.0
    model.set_params(n_neighbors=0, sigma=1e9)
    assert_array_equal(model.certify(X_test).radii, expected.radii)
    assert_array_equal(model.predict(X_test), expected.y_pred)


def test_rounded_distances_are_charged(monkeypatch):
    X, y, X_test = blobs()
    model = SmoothedKNNClassifier(3, sigma=0.5).fit(X, y)
    radii = model.certify(X_test).radii
    monkeypatch.setattr("sksmooth.neighbors._distances.distance_charge", lambda u, n_features: 0.6)
    expected = np.where(radii >= 0.3, radii - 0.3, -1.0)
    assert 0 < (expected >= 0).sum() < (radii >= 0).sum()
    np.testing.assert_allclose(model.certify(X_test).radii, expected, rtol=1e-9)


def test_under_any_joblib_backend():
    X, y, X_test = blobs()
    model = SmoothedKNNClassifier(3, n_jobs=2).fit(X, y)
    expected = model.certify(X_test).radii
    for backend in ("threading", "loky", "multiprocessing"):
        with joblib.parallel_config(backend=backend):
            assert_array_equal(model.certify(X_test).radii, expected)


def test_in_searches_and_pipelines():
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(FunctionTransformer(np.log1p), SmoothedKNNClassifier())
    search = GridSearchCV(
        pipeline,
        {"smoothedknnclassifier__sigma": [0.02, 0.1, 1.0]},
        scoring=make_certified_scorer("accuracy", radius=0.1),
        cv=3,
    ).fit(X, y)
    assert search.best_params_ == {"smoothedknnclassifier__sigma": 0.1}
    y_pred, radii = sksmooth.certify(search, X[::10])
    assert_array_equal(y_pred, search.predict(X[::10]))
    assert (radii >= 0.1).mean() > 0.8
    scores = cross_val_score(
        pipeline, X, y, cv=3, scoring=make_certified_scorer("rate", radius=0.1)
    )
    assert ((scores > 0) & (scores <= 1)).all()


def test_accuracy_on_real_data():
    """Smoothing with a small sigma is plain K-NN: a well-known accuracy on a well-known table."""
    X, y = load_breast_cancer(return_X_y=True)
    X = np.log1p(X)
    from sklearn.neighbors import KNeighborsClassifier

    plain = KNeighborsClassifier(5).fit(X[:400], y[:400])
    smooth = SmoothedKNNClassifier(5, sigma=1e-3).fit(X[:400], y[:400])
    agree = plain.predict(X[400:450]) == smooth.predict(X[400:450])
    assert agree.mean() > 0.98
    assert smooth.score(X[400:450], y[400:450]) > 0.9
