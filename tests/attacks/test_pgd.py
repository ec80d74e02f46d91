# SPDX-License-Identifier: BSD-3-Clause
"""The attack: it finds what there is to find, keeps to its ball, and no certificate falls to it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

from sksmooth import RandomizedSmoothingClassifier
from sksmooth.attacks import pgd_attack
from sksmooth.attacks._pgd import _gradient, _projected

from ..evasion._bases import linear, smoothed

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def iris():
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(150)
    return X[order[:120]], y[order[:120]], X[order[120:]], y[order[120:]]


ORDERS = {"l1": (1, np.inf), "l2": (2, 2), "linf": (np.inf, 1)}  # of a norm and its dual


@pytest.mark.parametrize("sigma", [0.01, [0.01, 0.001, 0.02]])
@pytest.mark.parametrize("norm", ORDERS)
def test_on_a_linear_base_it_is_the_best_attack(norm, sigma):
    """The nearest point of the other side is at |w x + b| over the dual norm of w."""
    weights, bias = np.array([3.0, -4.0, 1.0]), 0.5
    noise = "uniform" if norm == "l1" else "gaussian"
    model = smoothed(linear(weights, bias), 3, sigma=sigma, noise=noise)
    X = np.random.default_rng(0).normal(size=(20, 3))
    order, dual_order = ORDERS[norm]
    unit = np.array(sigma) if np.ndim(sigma) else 1.0
    dual = np.linalg.norm(weights * unit, ord=dual_order)
    distance = np.abs(X @ weights + bias) / dual
    y = model.predict(X)
    for share, turned in ((0.9, False), (1.2, True)):
        radius = share * distance + (0.1 if turned else 0.0) / (np.min(unit))
        changed = pgd_attack(model, X, y, norm=norm, radius=radius, random_state=0)
        size = np.linalg.norm((changed - X) / unit, ord=order, axis=1)
        assert np.all(size <= radius * (1 + 1e-12))
        flipped = model.predict(changed) != y
        clear = np.abs(X @ weights + bias) > 1.0
        assert np.all(flipped) if turned else not np.any(flipped[clear])
        assert clear.sum() > 10


@pytest.mark.parametrize("norm", ORDERS)
def test_what_is_beyond_the_ball_goes_to_its_nearest_point(norm):
    rng = np.random.default_rng(0)
    for _ in range(50):
        delta, radius = rng.normal(size=5), rng.uniform(0.1, 3.0)
        found = _projected(delta, radius, norm)
        size = np.linalg.norm(delta, ORDERS[norm][0])
        assert_allclose(np.linalg.norm(found, ORDERS[norm][0]), min(size, radius))
        others = rng.normal(size=(200, 5)) * rng.exponential(size=(200, 1)) + found
        others *= (
            radius / np.maximum(radius, np.linalg.norm(others, ORDERS[norm][0], axis=1))[:, None]
        )
        nearest = np.linalg.norm(delta - others, axis=1).min()
        assert np.linalg.norm(delta - found) <= nearest + 1e-12


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_gradients_are_those_of_the_probabilities(activation, n_classes):
    X, y, X_test, _ = iris()
    X, y = X[y < n_classes], y[y < n_classes]
    base = MLPClassifier((6, 4), activation=activation, max_iter=3, random_state=0)
    base.fit(X, y)
    model = smoothed(base, 4, n_classes)
    gradient = _gradient(model)
    for x in X_test[:4]:
        for code in range(n_classes):
            loss = [
                -np.log(base.predict_proba([x + 1e-6 * e, x - 1e-6 * e])[:, code])
                for e in np.eye(4)
            ]
            found = gradient(x[None], code)
            assert_allclose(found, [(a - b) / 2e-6 for a, b in loss], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("base", [LogisticRegression(), MLPClassifier((16,), random_state=0)])
def test_attacks_inside_the_radius_fail_and_some_beyond_it_succeed(base):
    X, y, X_test, _ = iris()
    model = RandomizedSmoothingClassifier(base, sigma=0.5, n_estimation=20_000, random_state=0)
    y_pred, radii = model.fit(X, y).certify(X_test)
    certified = radii > 0.05
    assert certified.sum() > 10
    X_test, y_pred, radii = X_test[certified], y_pred[certified], radii[certified]
    # Others' draws, and enough of them: the answer of the smoothed classifier itself.
    judge = model.set_params(n_selection=20_000)
    inside = pgd_attack(model, X_test, y_pred, norm="l2", radius=radii, random_state=0)
    assert_array_equal(judge.predict(inside), y_pred)
    beyond = pgd_attack(model, X_test, y_pred, norm="l2", radius=4.0 * radii, random_state=0)
    turned = judge.predict(beyond) != y_pred
    print(f"{turned.sum()} of {turned.size} turned at four radii")
    assert turned.sum() >= 3


def test_a_torch_base_has_the_gradient_of_its_copy():
    torch = pytest.importorskip("torch")
    X, y, X_test, _ = iris()
    base = MLPClassifier((6,), solver="lbfgs", max_iter=15, random_state=0).fit(X, y)
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    with torch.no_grad():
        for layer, w, b in zip((net[0], net[2]), base.coefs_, base.intercepts_, strict=True):
            layer.weight.copy_(torch.as_tensor(w.T))
            layer.bias.copy_(torch.as_tensor(b))
    model = RandomizedSmoothingClassifier(net.train(), random_state=0).fit(X, y)
    both = _gradient(model), _gradient(smoothed(base, 4, 3))
    for code in range(3):
        found, expected = (g(X_test[:5], code) for g in both)
        assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert net.training


def test_what_makes_no_sense_is_refused():
    X, y, X_test, _ = iris()
    model = RandomizedSmoothingClassifier(LogisticRegression(), random_state=0).fit(X, y)
    ok = {"norm": "l2", "radius": 1.0}
    for params, message in (
        ({"norm": "l0"}, "norm must be"),
        ({"n_steps": 0}, "n_steps must be"),
        ({"n_draws": 1.5}, "n_draws must be"),
        ({"radius": -1.0}, "radius must be"),
        ({"radius": np.nan}, "radius must be"),
        ({"radius": "wide"}, "radius must be .* Got 'wide'"),
        ({"radius": [1.0, 2.0]}, "radius must be .* one for each of 120 inputs"),
        *(({"step_size": s}, "step_size must be") for s in (np.nan, -1.0, 0.0, "x", np.inf)),
    ):
        with pytest.raises(ValueError, match=message):
            pgd_attack(model, X, y, **{**ok, **params})
    with pytest.raises(ValueError, match="X has 2 features, but .* is expecting 4"):
        pgd_attack(model, X[:, :2], y, **ok)
    mixed = RandomizedSmoothingClassifier(LogisticRegression(), discrete=[3], q=0.1)
    with pytest.raises(TypeError, match="noise on all columns. Got Randomized"):
        pgd_attack(mixed.fit(X, y), X, y, **ok)
    with pytest.raises(ValueError, match="y should be a 1d array"):
        pgd_attack(model, X[:1], "a", **ok)
    with pytest.raises(ValueError, match="y must hold labels"):
        pgd_attack(model, X[:1], [7], **ok)
    tree = FrozenEstimator(DecisionTreeClassifier().fit(X, y))
    with pytest.raises(TypeError, match="Got DecisionTreeClassifier"):
        pgd_attack(model.set_params(estimator=tree).fit(X, y), X, y, **ok)
    with pytest.raises(TypeError, match="RandomizedSmoothingClassifier"):
        pgd_attack(LogisticRegression().fit(X, y), X, y, **ok)


@pytest.mark.parametrize("size", [1.0, 1e6])
@pytest.mark.parametrize("radius", [1e-8, 0.3, 2.7])
@pytest.mark.parametrize("norm", ORDERS)
def test_rounding_leaves_nothing_outside_the_ball(norm, radius, size):
    weights = np.array([3.0, -4.0, 1.0])
    noise = "uniform" if norm == "l1" else "gaussian"
    model = smoothed(linear(weights, 0.5), 3, sigma=0.1, noise=noise)
    X = size * (2.0 + np.random.default_rng(0).normal(size=(30, 3)))
    changed = pgd_attack(
        model, X, model.predict(X), norm=norm, radius=radius, n_steps=3, random_state=0
    )
    exact = [
        [abs(Fraction(a) - Fraction(b)) for a, b in zip(*rows, strict=True)]
        for rows in zip(changed.tolist(), X.tolist(), strict=True)
    ]
    of = {"l1": sum, "linf": max, "l2": lambda d: sum(x * x for x in d)}[norm]
    most = Fraction(radius) ** (2 if norm == "l2" else 1)
    assert all(of(d) <= most for d in exact)
    if size == 1.0:  # far away the loss is flat
        assert all(of(d) > most * Fraction(99, 100) for d in exact)


def test_columns_of_a_frame_in_another_order_are_refused():
    pd = pytest.importorskip("pandas")
    X, y, *_ = iris()
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = RandomizedSmoothingClassifier(LogisticRegression(), random_state=0).fit(frame, y)
    with pytest.raises(ValueError, match="feature names should match"):
        pgd_attack(model, frame[list("badc")], y, norm="l2", radius=1.0)
