# SPDX-License-Identifier: BSD-3-Clause
"""Influence: its formula against training again, and what the attack reports and refuses."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksmooth.attacks import _influence, influence_label_flips

# newton-cholesky: each step solves a linear system, so that a fit is accurate to rounding.
SOLVER = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}
# Every convention that moves the optimum: C, the intercept and whether it is penalised.
SETTINGS = [
    {"C": 0.3, **SOLVER},
    {"C": 20.0, **SOLVER},
    {"C": 2.0, "fit_intercept": False, **SOLVER},
    {"C": 0.5, "solver": "lbfgs", "tol": 1e-10, "max_iter": 10_000},
    {"C": 0.5, "solver": "liblinear", "intercept_scaling": 0.7, "tol": 1e-12, "max_iter": 10_000},
]

# What is scaled inside must come out again; far enough apart to show, not to stop lbfgs.
UNITS = np.array([1.0, 3.0, 0.4])


def problem(n_classes, n=60, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    centres = rng.standard_normal((n_classes, 3)) * 1.5 + [3.0, 0.0, -1.0]
    X = (centres[y] + rng.standard_normal((n, 3))) * UNITS
    X_test = (centres.mean(axis=0) + rng.standard_normal((4, 3)) * 1.5) * UNITS
    return X, y, X_test


def loss(est, x, label):
    """Logistic loss of the class number `label` at x."""
    logits = est.decision_function(x[None, :])
    if len(est.classes_) == 2:
        logits = np.column_stack([np.zeros(1), logits])
    return -log_softmax(logits, axis=1)[0, label]


def influences(est, X_test, X, codes):
    """Influence in the paper's unit, the loss: the private function leaves 1 - p out."""
    predicted = est.predict(X_test)
    left_out = -np.expm1([-loss(est, x, k) for x, k in zip(X_test, predicted, strict=True)])
    found = list(_influence._influences(est, X_test, predicted, X, codes))
    return np.array(found) * left_out[:, None, None]


def settings(n_classes):
    return [s for s in SETTINGS if n_classes == 2 or s["solver"] != "liblinear"]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("which", range(len(SETTINGS)))
def test_influence_is_the_derivative_of_the_loss_after_training(n_classes, which):
    # Moving a weight of epsilon from the row's label to another one, and training: the slope of
    # the loss at a test input, by a one-sided difference of second order (liblinear drops rows of
    # negative weight).
    setting = SETTINGS[which]
    if setting not in settings(n_classes):
        # The solver has no multinomial loss.
        with pytest.raises(ValueError, match="multinomial|multiclass|multi_class"):
            X, y, X_test = problem(n_classes)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                est = LogisticRegression(**setting).fit(X, y)
            influence_label_flips(est, X_test, 1, X_train=X, y_train=y)
        return
    X, y, X_test = problem(n_classes)
    est = LogisticRegression(**setting).fit(X, y)
    found = influences(est, X_test, X, y)
    predicted = est.predict(X_test)
    assert found.shape == (4, 60, n_classes)

    def losses(i, label, epsilon):
        weight = np.r_[np.ones(60), epsilon]
        weight[i] -= epsilon
        moved = clone(est).fit(np.vstack([X, X[i]]), np.r_[y, label], weight)
        return np.array([loss(moved, x, k) for x, k in zip(X_test, predicted, strict=True)])

    step = 1e-3
    for i in range(0, 60, 12):
        assert np.isneginf(found[:, i, y[i]]).all()
        for label in set(range(n_classes)) - {y[i]}:
            at_0, at_1, at_2 = (losses(i, label, k * step) for k in range(3))
            slope = (-3 * at_0 + 4 * at_1 - at_2) / (2 * step)
            # The third derivative times step**2 / 3, and the solver's error over step: liblinear
            # does not get below 1e-8.
            rtol, atol = (1e-3, 1e-5) if setting["solver"] == "liblinear" else (1e-5, 2e-6)
            assert_allclose(found[:, i, label], slope, rtol=rtol, atol=atol)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_influence_foretells_what_one_flip_does(n_classes):
    # Every single flip, done: first order is close, and the flip chosen is about the best.
    n = 200
    X, y, X_test = problem(n_classes, n=n, seed=1)
    est = LogisticRegression(C=0.02, **SOLVER).fit(X, y)
    found = influences(est, X_test, X, y)
    attack = influence_label_flips(est, X_test, 1, X_train=X, y_train=y)
    predicted = est.predict(X_test)
    before = [loss(est, x, k) for x, k in zip(X_test, predicted, strict=True)]
    gain = np.full((4, n, n_classes), -np.inf)
    for i, other in itertools.product(range(n), range(n_classes)):
        if other != y[i]:
            flipped = y.copy()
            flipped[i] = other
            after = clone(est).fit(X, flipped)
            gain[:, i, other] = [loss(after, x, k) for x, k in zip(X_test, predicted, strict=True)]
            gain[:, i, other] -= before
    for t in range(4):
        real = np.isfinite(gain[t])
        # What is left is of second order: over three seeds, correlations from 0.996 and gains from
        # 0.967 of the best.
        assert np.corrcoef(found[t][real], gain[t][real])[0, 1] > 0.99
        assert gain[t, attack.index[t, 0], attack.y[t, 0]] >= 0.95 * gain[t].max()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_more_flips_are_needed_at_random(n_classes):
    X, y, _ = problem(n_classes, n=200, seed=2)
    est = LogisticRegression(**SOLVER).fit(X[:150], y[:150])
    X_test = X[150:]
    attack = influence_label_flips(est, X_test, 12, X_train=X[:150], y_train=y[:150])
    rng = np.random.default_rng(0)
    at_random = y[:150].copy()
    rows = rng.permutation(150)[:12]
    at_random[rows] = (at_random[rows] + 1) % n_classes
    changed = np.mean(attack.y_pred != est.predict(X_test))
    by_chance = np.mean(clone(est).fit(X[:150], at_random).predict(X_test) != est.predict(X_test))
    assert changed > by_chance + 0.2


@pytest.mark.parametrize("labels", [(0, 1), ("ham", "spam"), (-1, 1, 5), ("a", "b", "c")])
def test_report_agrees_with_training_on_the_reported_labels(labels):
    labels = np.array(labels)
    X, codes, X_test = problem(len(labels), seed=3)
    y = labels[codes]
    est = LogisticRegression(**SOLVER).fit(X, y)
    state = {k: np.array(v) for k, v in vars(est).items() if k.endswith("_")}
    attack = influence_label_flips(est, X_test, [7, 0, 3, 1], X_train=X, y_train=y)

    assert sorted(attack) == ["index", "y", "y_pred"]
    assert attack.index.shape == attack.y.shape == (4, 7)
    assert attack.index.dtype == np.int64
    assert attack.y.dtype == attack.y_pred.dtype == labels.dtype
    assert_array_equal((attack.index >= 0).sum(axis=1), [7, 0, 3, 1])
    for t, n_flips in enumerate([7, 0, 3, 1]):
        rows, new = attack.index[t, :n_flips], attack.y[t, :n_flips]
        assert len(set(rows)) == n_flips
        assert (new != y[rows]).all()
        flipped = y.copy()
        flipped[rows] = new
        assert attack.y_pred[t] == clone(est).fit(X, flipped).predict(X_test[[t]])[0]
    # Neither the estimator nor the data change.
    assert_array_equal(y, labels[codes])
    for key, value in state.items():
        assert_array_equal(getattr(est, key), value)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_fewer_flips_are_the_first_of_more_and_no_row_depends_on_another(n_classes):
    X, y, X_test = problem(n_classes, seed=4)
    est = LogisticRegression(**SOLVER).fit(X, y)
    many = influence_label_flips(est, X_test, 9, X_train=X, y_train=y)
    few = influence_label_flips(est, X_test, 4, X_train=X, y_train=y)
    assert_array_equal(many.index[:, :4], few.index)
    assert_array_equal(many.y[:, :4], few.y)
    alone = influence_label_flips(est, X_test[[2]], 9, X_train=X, y_train=y)
    assert_array_equal(alone.index[0], many.index[2])
    assert alone.y_pred[0] == many.y_pred[2]
    # Greatest influence first, and positive.
    found = influences(est, X_test, X, y)
    for t in range(4):
        chosen = found[t, many.index[t], many.y[t]]
        assert (np.diff(chosen) <= 0).all()
        assert (chosen > 0).all()
        assert chosen[-1] >= np.sort(found[t].max(axis=1))[-9]


def test_only_labels_whose_change_harms_are_flipped():
    # One feature, no intercept, a positive coefficient; what lowers it harms: label 0 for x > 0
    # and 1 for x < 0. Rows 2 and 4 have these already.
    X, y = np.array([[1.5], [4.0], [2.0], [-1.0], [-0.5]]), np.array([1, 1, 0, 0, 1])
    est = LogisticRegression(fit_intercept=False).fit(X, y)
    assert est.coef_[0, 0] > 0
    attack = influence_label_flips(est, [[5.0]], 5, X_train=X, y_train=y)
    assert_array_equal(attack.index, [[1, 0, 3, -1, -1]])
    assert_array_equal(attack.y[0, :3], [0, 0, 1])
    assert_array_equal(attack.y_pred, [0])


def test_one_class_left_is_the_answer():
    X, y = np.array([[-2.0], [-1.0], [5.0]]), np.array(["a", "a", "b"])
    est = LogisticRegression().fit(X, y)
    attack = influence_label_flips(est, [[6.0]], 1, X_train=X, y_train=y)
    assert_array_equal(attack.index, [[2]])
    assert attack.y_pred[0] == "a" != est.predict([[6.0]])[0]


def test_a_class_may_vanish():
    # The one row of class 2 lies alone on an axis of its own, as the test input does.
    X, y = np.array([[-2.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]), [0, 0, 1, 1, 2]
    est = LogisticRegression(C=10.0).fit(X, y)
    attack = influence_label_flips(est, [[0.5, 3.0]], 1, X_train=X, y_train=y)
    assert_array_equal(attack.index, [[4]])
    assert attack.y_pred[0] == 1 != est.predict([[0.5, 3.0]])[0]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_certain_prediction_is_attacked_as_well(n_classes):
    # 1 - p is 0 in floating point, and so is the gradient as the formula has it.
    X, y, X_test = problem(n_classes, seed=5)
    est = LogisticRegression(**SOLVER).fit(X, y)
    far = X.mean(axis=0) + (X_test[0] - X.mean(axis=0)) * 1e3
    assert est.predict_proba(far[None, :]).max() == 1.0
    attack = influence_label_flips(est, [far], 10, X_train=X, y_train=y)
    assert (attack.index >= 0).all()
    fewer = influence_label_flips(est, [far], 25, X_train=X, y_train=y)
    assert fewer.y_pred[0] != est.predict(far[None, :])[0]


def test_the_constant_added_for_the_intercepts_changes_nothing():
    # The pseudo-inverse of the singular Hessian is the definition.
    X, y, X_test = problem(3, seed=6)
    X = X / X.std(axis=0)
    est = LogisticRegression(**SOLVER).fit(X, y)
    x = X_test[0] / X_test.std(axis=0)
    A, p = np.column_stack([X, np.ones(60)]), est.predict_proba(X)
    H = np.zeros((12, 12))
    for row, q in zip(A, p, strict=True):
        H += np.kron(np.diag(q) - np.outer(q, q), np.outer(row, row))
    H += np.diag([1.0, 1.0, 1.0, 0.0] * 3)
    label = est.predict(x[None, :])[0]
    error = est.predict_proba(x[None, :])[0] - np.eye(3)[label]
    v = (np.linalg.pinv(H, rcond=1e-12) @ np.kron(error, np.r_[x, 1.0])).reshape(3, 4)
    score = A @ v.T
    expected = score - score[np.arange(60), y][:, None]
    found = influences(est, x[None, :], X, y)[0]
    other = np.isfinite(found)
    # Two solutions of one system whose condition is about 1e4.
    assert_allclose(found[other], expected[other], rtol=1e-9, atol=1e-11)


def test_frames_and_single_precision(recwarn):
    pd = pytest.importorskip("pandas", reason="pandas is an extra")
    X, y, X_test = problem(2, seed=7)
    X, X_test = X.astype(np.float32), X_test.astype(np.float32)
    expected = influence_label_flips(
        LogisticRegression().fit(X, y), X_test, 5, X_train=X, y_train=y
    )
    frame, series = pd.DataFrame(X, columns=list("abc")), pd.Series(y, index=range(60, 0, -1))
    attack = influence_label_flips(
        LogisticRegression().fit(frame, series),
        pd.DataFrame(X_test, columns=list("abc")),
        5,
        X_train=frame,
        y_train=series,
    )
    assert_array_equal(attack.index, expected.index)
    assert_array_equal(attack.y_pred, expected.y_pred)
    assert not recwarn.list


@pytest.fixture(scope="module")
def case():
    X, y, X_test = problem(3)
    return LogisticRegression(max_iter=1000).fit(X, y), X, y, X_test


class TestErrors:
    @pytest.mark.parametrize(
        "est",
        [
            RidgeClassifier(),
            make_pipeline(StandardScaler(), LogisticRegression()),
            LogisticRegressionCV(),
        ],
    )
    def test_other_estimators(self, case, est):
        _, X, y, X_test = case
        with pytest.raises(TypeError, match=f"est must be.*got {type(est).__name__}"):
            influence_label_flips(est, X_test, 1, X_train=X, y_train=y)

    def test_not_fitted(self, case):
        _, X, y, X_test = case
        with pytest.raises(NotFittedError):
            influence_label_flips(LogisticRegression(), X_test, 1, X_train=X, y_train=y)

    @pytest.mark.parametrize(
        "params",
        [
            {"l1_ratio": 1.0, "penalty": "l1", "solver": "saga"},
            {"l1_ratio": 0.5, "penalty": "elasticnet", "solver": "saga"},
            {"penalty": None},
            {"C": np.inf},
        ],
    )
    @pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
    def test_other_penalties(self, case, params):
        _, X, y, X_test = case
        est = LogisticRegression(max_iter=20, **params).fit(X, y)
        with pytest.raises(ValueError, match="est must have an l2 penalty"):
            influence_label_flips(est, X_test, 1, X_train=X, y_train=y)

    @pytest.mark.parametrize("weight", ["balanced", {0: 2.0}])
    def test_class_weights(self, case, weight):
        _, X, y, X_test = case
        est = LogisticRegression(class_weight=weight).fit(X, y)
        with pytest.raises(ValueError, match="class weights"):
            influence_label_flips(est, X_test, 1, X_train=X, y_train=y)

    @pytest.mark.parametrize(
        ("n_flips", "message"),
        [
            (-1, "n_flips must be from 0 to 60, the number"),
            (61, "n_flips must be from 0 to 60, the number"),
            ([1, 2, 3, 61], "n_flips must be from 0 to 60"),
            (1.0, "n_flips must be an integer"),
            (True, "n_flips must be an integer"),
            ([1, 2], r"n_flips .* shape \(4,\)"),
            ([[1, 2, 3, 4]], r"n_flips .* shape \(4,\)"),
        ],
    )
    def test_n_flips(self, case, n_flips, message):
        est, X, y, X_test = case
        with pytest.raises(ValueError, match=message):
            influence_label_flips(est, X_test, n_flips, X_train=X, y_train=y)

    def test_data_that_do_not_fit(self, case):
        est, X, y, X_test = case
        with pytest.raises(ValueError, match="X_train must have the 3 features"):
            influence_label_flips(est, X_test, 1, X_train=X[:, :2], y_train=y)
        with pytest.raises(ValueError, match="3 features"):
            influence_label_flips(est, X_test[:, :2], 1, X_train=X, y_train=y)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            influence_label_flips(est, X_test, 1, X_train=X, y_train=y[:-1])
        with pytest.raises(ValueError, match=r"its classes are \[0, 1, 2\]"):
            influence_label_flips(est, X_test, 1, X_train=X, y_train=np.minimum(y, 1))
        with pytest.raises(TypeError, match="[Ss]parse"):
            influence_label_flips(est, X_test, 1, X_train=sparse.csr_matrix(X), y_train=y)

    def test_a_singular_hessian(self):
        X, y = np.array([[-1.0], [1.0]]), np.array([0, 1])
        est = LogisticRegression().fit(X, y)
        # As if fitted with hardly any penalty: all probabilities are 0 or 1.
        est.set_params(C=1e300)
        est.coef_ = np.array([[1e3]])
        with pytest.raises(ValueError, match=r"singular .* C=1e\+300"):
            influence_label_flips(est, [[1.0]], 1, X_train=X, y_train=y)
