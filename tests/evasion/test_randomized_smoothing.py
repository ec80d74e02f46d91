# SPDX-License-Identifier: BSD-3-Clause
"""The estimator: contract, inputs, and what it computes from which draws."""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy.stats import binomtest
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

import sksmooth
from sksmooth import RandomizedSmoothingClassifier
from sksmooth.confidence import probability_bounds
from sksmooth.evasion._draws import ESTIMATION, SELECTION, block_sizes, stream
from sksmooth.exceptions import TooFewDrawsError
from sksmooth.smoothing import GaussianNoise, MixedCategoricalNoise, UniformNoise
from sksmooth.smoothing._streams import generator

from ._bases import Cuts, Recoding, linear, smoothed

SKIPS = {
    "check_array_api_input": "needs SCIPY_ARRAY_API in the environment; no array API here",
}
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a row of weight 2 has one noise, two equal rows have two"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("base", [LogisticRegression(), GaussianNB()])
def test_scikit_learn_checks(base):
    """Every check of the generated list ran and passed, but for the written lists."""
    estimator = RandomizedSmoothingClassifier(
        base, sigma=0.1, n_selection=20, n_estimation=50, random_state=0
    )
    results = check_estimator(
        estimator, on_fail="raise", on_skip=None, expected_failed_checks=EXPECTED
    )
    generated = [
        getattr(check, "func", check).__name__
        for _, check in estimator_checks_generator(estimator, legacy=True)
    ]
    assert sorted(r["check_name"] for r in results) == sorted(generated)
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= set(SKIPS)
    assert {r["check_name"] for r in results if r["status"] == "xfail"} <= set(EXPECTED)
    assert {r["status"] for r in results} <= {"passed", "skipped", "xfail"}


def iris(n_train=120):
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(150)
    return X[order[:n_train]], y[order[:n_train]], X[order[n_train:]], y[order[n_train:]]


# --- what is computed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"two_sided": True},
        {"noise": "uniform"},
        {"sigma": [0.3, 0.1, 0.5, 0.2]},
        {"noise": "uniform", "sigma": [0.3, 0.1, 0.5, 0.2], "n_statements": 30},
        {"grid": 2.0**-12},
        {"noise": "uniform", "grid": 2.0**-12},
    ],
    ids=lambda p: "-".join(map(str, p.values())) or "default",
)
def test_radii_are_those_of_the_bounds_on_the_counted_votes(params):
    X, y, X_test, _ = iris()
    names = np.array(["setosa", "versicolor", "virginica"])
    params = {"sigma": 0.3, "n_estimation": 1500, "confidence_level": 0.99, **params}
    model = RandomizedSmoothingClassifier(GaussianNB(), random_state=0, **params).fit(X, names[y])
    result = model.certify(X_test, return_bounds=True)
    assert_array_equal(result.y_pred, model.predict(X_test))
    assert_array_equal(result.y_pred, names[model.predict_proba(X_test).argmax(axis=1)])
    assert result.radii.dtype == np.float64 and result.radii.shape == (30,)
    assert np.all((result.radii == -1) | (result.radii >= 0)) and np.any(result.radii > 0.1)
    # Once more by hand, from the noise that is documented.
    grid, sigma = params.get("grid"), np.asarray(params["sigma"])
    X_seen = X_test if grid is None else np.rint(X_test / grid) * grid
    counts = []
    for stage, n_draws in ((SELECTION, 100), (ESTIMATION, 1500)):
        noise = []
        for k, size in enumerate(block_sizes(n_draws)):
            rng = generator(stream(model._entropy, stage, k))
            if "noise" in params:
                noise.append(np.sqrt(12) * sigma * (rng.random((size, 4)) - 0.5))
            else:
                noise.append(sigma * rng.standard_normal((size, 4)))
        noise = np.concatenate(noise)
        assert len(noise) == n_draws
        noise = noise if grid is None else np.rint(noise / grid) * grid
        votes = [model.estimator_.predict(x + noise)[:, None] == names for x in X_seen]
        counts.append(np.stack([v.sum(axis=0) for v in votes]))
    level = {k: v for k, v in params.items() if k in ("two_sided", "n_statements")}
    bounds = probability_bounds(tuple(counts), confidence_level=0.99, correction="holdout", **level)
    assert_array_equal(names[bounds.top], result.y_pred)
    np.testing.assert_allclose(result.p_a, bounds.p_a, atol=1e-9)
    np.testing.assert_allclose(result.p_b, bounds.p_b, atol=1e-9)
    scale = 1.0 if sigma.ndim else float(sigma)
    noise = UniformNoise(np.sqrt(12) * scale) if "noise" in params else GaussianNoise(scale)
    radii = noise.radius(bounds.p_a, bounds.p_b, tail_a=bounds.tail_a)
    if grid is not None:
        charge = grid * (4 if "noise" in params else 2)
        radii = np.where(radii >= charge, radii - charge, -1.0)
    np.testing.assert_allclose(result.radii, radii, rtol=1e-9)
    assert np.all(result.radii <= radii + 1e-12)


def test_two_sided_bounds_are_tighter_with_many_classes():
    """p = 0.45, 0.11 five times: one-sided nothing is known, two-sided there is a radius."""
    from scipy.stats import norm

    p = np.array([0.45, *[0.11] * 5])
    base = Cuts(tuple(0.5 * norm.ppf(np.cumsum(p)[:-1])))
    model = smoothed(base, n_classes=6, n_estimation=10_000)
    assert model.certify([[0.0]]).radii[0] == -1.0
    two = model.set_params(two_sided=True).certify([[0.0]])
    exact = 0.25 * (norm.ppf(0.45) - norm.ppf(0.11))
    assert two.y_pred[0] == 0 and 0.85 * exact < two.radii[0] < exact


def test_a_label_that_is_no_class_is_refused_when_it_comes():
    model = smoothed(Recoding(from_=9.0), n_estimation=2000, sigma=1.0)
    with pytest.raises(ValueError, match="which is none of classes_, "):
        model.certify([[-1.0], [12.0]])


def test_selection_and_estimation_draws_differ():
    model = smoothed(Cuts(), n_selection=1000, n_estimation=1000, sigma=1.0)
    blocks = [
        [model._draws.block(s, generator(stream(model._entropy, stage, k)))
         for k, s in enumerate(block_sizes(1000))]
        for stage in (SELECTION, ESTIMATION)
    ]  # fmt: skip
    first, second = (np.concatenate(b)[:, 0] for b in blocks)
    assert np.unique(np.concatenate([first, second])).size == 2000
    assert abs(np.corrcoef(first, second)[0, 1]) < 4.0 / np.sqrt(1000)


# --- what it does not depend on -------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["gaussian", "uniform", "categorical"])
@pytest.mark.parametrize("base", [DecisionTreeClassifier(random_state=0), LogisticRegression()])
def test_rows_batches_and_jobs_change_nothing(noise, base):
    X, y, X_test, _ = iris()
    X, X_test = np.round(X), np.round(X_test[:8])
    X_test = np.clip(X_test, X.min(axis=0), X.max(axis=0))
    params = {"noise": noise, "n_estimation": 5500, "random_state": 0}
    params |= {"q": 0.2} if noise == "categorical" else {}
    model = RandomizedSmoothingClassifier(base, **params).fit(X, y)
    before = joblib.hash(model)
    whole = model.certify(X_test)
    assert joblib.hash(model) == before
    order = np.random.default_rng(1).permutation(8)
    assert_array_equal(model.certify(X_test[order]).radii, whole.radii[order])
    assert model.certify(X_test[[3]]).radii[0] == whole.radii[3]
    for more in ({"batch_size": 300}, {"batch_size": 5000}, {"n_jobs": 2}):
        assert_array_equal(model.set_params(**more).certify(X_test).radii, whole.radii)


def test_rows_do_not_end_each_others_draws():
    X, y, X_test, _ = iris()
    model = RandomizedSmoothingClassifier(GaussianNB(), n_estimation=2000, random_state=0)
    found = model.fit(X, y)._estimate(X_test[:8], 0.3)
    assert np.unique(found.n_draws).size > 1
    whole = model.certify(X_test[:8], radius=0.3).radii
    order = np.random.default_rng(1).permutation(8)
    assert_array_equal(model.certify(X_test[order], radius=0.3).radii, whole[order])
    for i in (found.n_draws.argmin(), found.n_draws.argmax()):
        assert model.certify(X_test[[i]], radius=0.3).radii[0] == whole[i]


def test_the_same_seed_gives_the_same_answer_and_another_another():
    X, y, X_test, _ = iris()
    params = {"n_estimation": 1000, "sigma": 0.5}
    radii = [
        RandomizedSmoothingClassifier(
            DecisionTreeClassifier(max_features=1), random_state=seed, **params
        ).fit(X, y).certify(X_test).radii
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert_array_equal(radii[0], radii[1])
    assert np.any(radii[0] != radii[2])


def test_more_draws_begin_with_the_same_ones():
    assert list(block_sizes(1)) == [1]
    assert list(block_sizes(4000)) == [64, 64, 128, 256, 512, 1024, 1024, 928]


# --- early stopping -------------------------------------------------------------------------------


def test_draws_end_when_the_radius_is_settled():
    model = smoothed(linear([1.0]), sigma=1.0, n_estimation=10_000)
    X = [[3.0], [0.6], [0.4], [0.5001], [-2.0], [0.01]]
    found = model._estimate(X, 0.5)
    radii = model.certify(X, radius=0.5).radii
    assert_array_equal(radii >= 0.5, [True, True, False, False, True, False])
    assert np.all(radii <= np.abs(np.ravel(X)))
    # Clear rows end early, either way; what cannot be told from the asked radius uses all draws.
    assert found.n_draws[0] <= 128 and found.n_draws[4] <= 128 and found.n_draws[5] < 1024
    assert found.n_draws[3] == 10_000 and np.all(found.n_draws[1:3] < 10_000)
    assert_array_equal(model.certify(X, radius=0.5).y_pred, model.predict(X))


def test_two_sided_bounds_settle_a_radius_too():
    from scipy.stats import norm

    p = np.array([0.45, *[0.11] * 5])
    base = Cuts(tuple(norm.ppf(np.cumsum(p)[:-1])))
    model = smoothed(base, n_classes=6, sigma=1.0, two_sided=True, n_estimation=30_000)
    exact = 0.5 * (norm.ppf(0.45) - norm.ppf(0.11))
    for share, certified in ((0.7, True), (1.3, False)):
        found = model._estimate([[0.0]], share * exact)
        assert found.n_draws[0] < 5000
        assert (model.certify([[0.0]], radius=share * exact).radii[0] >= share * exact) == certified


# --- PREDICT --------------------------------------------------------------------------------------


def test_predict_with_abstention_is_the_binomial_test_of_the_two_classes_ahead():
    X, y, X_test, _ = iris()
    model = RandomizedSmoothingClassifier(GaussianNB(), sigma=1.0, random_state=0).fit(X, y)
    y_pred, abstained = model.predict_with_abstention(X_test)
    assert_array_equal(y_pred, model.predict(X_test))
    counts = np.rint(100 * model.predict_proba(X_test)).astype(int)
    for row, abstains in zip(np.sort(counts, axis=1), abstained, strict=True):
        assert abstains == (binomtest(row[-1], row[-1] + row[-2], 0.5).pvalue > 0.001)
    assert 0 < abstained.sum() < 30


def test_too_few_draws_say_how_many_are_needed():
    X, y, X_test, _ = iris()
    model = RandomizedSmoothingClassifier(GaussianNB(), n_selection=10, random_state=0).fit(X, y)
    with pytest.raises(TooFewDrawsError) as caught:
        model.predict_with_abstention(X_test)
    assert caught.value.n_needed == 11  # 2 / 2**11 is at most 0.001
    assert not model.set_params(n_selection=11).predict_with_abstention(X_test).abstained.all()
    for asked in ({}, {"radius": 0.0}):
        with pytest.raises(TooFewDrawsError) as caught:
            model.set_params(n_estimation=5).certify(X_test, **asked)
        enough = model.set_params(n_estimation=caught.value.n_needed)
        assert np.any(enough.certify(X_test, **asked).radii >= 0)


# --- inputs ---------------------------------------------------------------------------------------


def test_a_trained_base_is_taken_as_it_is():
    X, y, X_test, _ = iris()
    base = MLPClassifier((8,), solver="lbfgs", max_iter=200, random_state=0).fit(X, y)
    before = joblib.hash(base)
    model = RandomizedSmoothingClassifier(FrozenEstimator(base), sigma=1e-9, random_state=0)
    model.fit(X[y < 2], y[y < 2])  # its classes are those of the base
    assert_array_equal(model.classes_, [0, 1, 2])
    assert_array_equal(model.predict(X_test), base.predict(X_test))
    assert joblib.hash(base) == before


def test_a_base_is_trained_on_noisy_rows():
    """Of rows all alike, one tree leaf would do; noisy ones are told apart."""
    X, y = np.zeros((200, 1)), np.arange(200) % 2
    tree = DecisionTreeClassifier(random_state=0)
    model = RandomizedSmoothingClassifier(tree, sigma=2.0, random_state=0).fit(X, y)
    cuts = model.estimator_.tree_.threshold[model.estimator_.tree_.feature == 0]
    assert cuts.size > 20 and 1.5 < np.std(cuts) < 2.5
    assert not hasattr(tree, "tree_")


def test_pipelines_names_and_weights():
    X, y, X_test, _ = iris()
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = RandomizedSmoothingClassifier(
        make_pipeline(StandardScaler(), LogisticRegression()), n_estimation=1000, random_state=0
    ).fit(frame, y)
    assert list(model.feature_names_in_) == list("abcd")
    result = sksmooth.certify(make_pipeline("passthrough", model), frame[:5])
    assert_array_equal(result.radii, model.certify(frame[:5]).radii)
    with pytest.raises(ValueError, match="feature names"):
        model.certify(frame[list("dcba")])
    with pytest.raises(ValueError, match="sample_weight cannot be passed on"):
        model.fit(X, y, sample_weight=np.ones(len(y)))
    weighted = RandomizedSmoothingClassifier(GaussianNB(), random_state=0)
    weighted.fit(X, y, sample_weight=(y < 2) + 1e-12)
    assert weighted.estimator_.class_prior_[2] < 1e-6


def test_threat_model_and_noise():
    X, y, *_ = iris()
    model = RandomizedSmoothingClassifier(GaussianNB(), random_state=0)
    assert not hasattr(model, "threat_model_")
    threat = model.fit(X, y).threat_model_
    assert (threat.norm, threat.target, threat.unit) == ("l2", ("test_features",), "feature units")
    assert not threat.exact and threat.confidence_level == 0.999
    assert "test input" in repr(model) and "same classes" not in repr(model)
    assert model.noise_ == GaussianNoise(0.5)
    model.set_params(sigma=np.ones(4), noise="uniform").fit(X, y)
    assert (model.threat_model_.norm, model.threat_model_.unit) == ("l1", "units of sigma")
    model.set_params(noise="categorical", q=0.3).fit(np.round(X), y)
    assert (model.threat_model_.norm, model.threat_model_.unit) == ("l0", "changed values")
    assert isinstance(model.noise_, MixedCategoricalNoise)


def test_categories_may_be_strings():
    X = np.array([["no", "red"], ["yes", "red"], ["no", "blue"], ["yes", "green"]] * 10)
    y = (X[:, 0] == "yes").astype(int)
    base = make_pipeline(OrdinalEncoder(), DecisionTreeClassifier(random_state=0))
    model = RandomizedSmoothingClassifier(
        base, noise="categorical", q=0.1, n_estimation=2000, random_state=0
    ).fit(X, y)
    result = model.certify(X[:4])
    assert result.radii.dtype == np.int64 and np.all(result.radii >= 0)
    assert_array_equal(result.y_pred, y[:4])
    assert [list(c) for c in model.categories_] == [["no", "yes"], ["blue", "green", "red"]]
    with pytest.raises(ValueError, match="Column 1 must hold one of.*Got 'pink' in row 0"):
        model.certify([["no", "pink"]])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sigma": [1.0, 2.0]}, "sigma must be a number or of shape"),
        ({"sigma": 1e200}, "sigma must be positive and finite"),
        ({"sigma": "wide"}, "sigma"),
        ({"q": 0.1}, "q > 0 goes with noise='categorical'"),
        ({"noise": "categorical"}, "q must be above 0 with noise='categorical'"),
        ({"noise": "categorical", "q": 0.1, "grid": 0.5}, "grid must be None"),
        ({"grid": 0.3}, "grid must be a power of two"),
        ({"grid": 2.0**-80}, "grid must be at least sigma"),
        ({"n_estimation": 0}, "n_estimation"),
        ({"noise": "laplace"}, "noise"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(params, message):
    X, y, *_ = iris()
    with pytest.raises(ValueError, match=message):
        RandomizedSmoothingClassifier(GaussianNB(), **params).fit(X, y)


def test_inputs_that_make_no_sense_are_refused():
    X, y, X_test, _ = iris()
    model = RandomizedSmoothingClassifier(GaussianNB(), n_estimation=100, random_state=0)
    with pytest.raises(NotFittedError):
        model.certify(X)
    with pytest.raises(ValueError, match="at least 2 classes"):
        model.fit(X, np.zeros(len(X)))
    model.fit(X, y)
    for radius in (-1.0, np.nan, np.inf, "all"):
        with pytest.raises(ValueError, match="radius must be"):
            model.certify(X_test, radius=radius)
    with pytest.raises(ValueError, match=r"beyond 1e300"):
        model.certify(np.full((1, 4), 1e301))
    with pytest.raises(ValueError, match="NaN"):
        model.certify(np.full((1, 4), np.nan))
    with pytest.raises(ValueError, match="at least 2 values"):
        model.set_params(noise="categorical", q=0.1).fit(np.zeros((4, 2)), [0, 1, 0, 1])
    model.set_params(noise="gaussian", q=0.0).fit(X, y).set_params(confidence_level=2.0)
    assert repr(model).startswith("RandomizedSmoothingClassifier")
    with pytest.raises(ValueError, match="confidence_level"):
        model.certify(X_test)
