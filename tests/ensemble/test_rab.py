# SPDX-License-Identifier: BSD-3-Clause
"""The estimator: contract, inputs, votes that are kept, growth."""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

from sksmooth import RABEnsembleClassifier
from sksmooth.confidence import probability_bounds
from sksmooth.exceptions import OptionalStoppingWarning, TooFewDrawsError
from sksmooth.smoothing import GaussianNoise, JointNoise, UniformNoise

from ._learners import (
    Carrier,
    FitCounter,
    Interrupting,
    Intervals,
    OwnClone,
    Scorer,
    Vandal,
)

# Checks that may not run or pass, with the reason.
SKIPS = {
    "check_array_api_input": "needs SCIPY_ARRAY_API in the environment; no array API here",
}
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a row of weight 2 has one noise, two equal rows have two"
    ),
}


@pytest.mark.slow
def test_scikit_learn_checks():
    """Every check of the generated list ran and passed, but for the written lists."""
    estimator = RABEnsembleClassifier(
        LogisticRegression(), n_estimators=20, sigma=0.1, confidence_level=0.9, random_state=0
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


# --- contract -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"voting": "soft", "bound": "betting", "two_sided": True},
        {"voting": "soft", "bound": "empirical-bernstein"},
        {"voting": "soft", "bound": "hoeffding"},
        {"voting": "soft", "bound": "anytime"},
        {"bound": "anytime", "two_sided": True},
        {"bound": "hoeffding", "correction": "none"},
        {"correction": "holdout", "two_sided": True},
        {"voting": "soft", "bound": "betting", "correction": "holdout"},
        {"noise": "uniform"},
        {"grid": 2.0**-20},
        {"q": 0.1},
    ],
    ids=lambda p: "-".join(map(str, p.values())) or "default",
)
def test_radii_are_those_of_the_bounds_on_the_counted_votes(params):
    X, y, X_test, _ = iris()
    names = np.array(["setosa", "versicolor", "virginica"])
    params = {"sigma": 0.3, "n_estimators": 120, "confidence_level": 0.9, **params}
    model = RABEnsembleClassifier(GaussianNB(), random_state=0, **params).fit(X, names[y])
    result = model.certify(X_test, return_bounds=True)
    assert_array_equal(result.y_pred, model.predict(X_test))
    assert_array_equal(result.y_pred, names[model.predict_proba(X_test).argmax(axis=1)])
    assert result.radii.dtype == np.float64 and result.radii.shape == (30,)
    assert np.all((result.radii == -1) | (result.radii >= 0)) and np.any(result.radii > 0)
    # Once more by hand, from the members.
    members = list(zip(model.estimators_, model.test_vectors_, strict=True))
    grid = params.get("grid")
    X_seen = X_test if grid is None else np.rint(X_test / grid) * grid
    if params.get("voting") == "soft":
        votes = np.stack([m.predict_proba(X_seen + u) for m, u in members], axis=-1)
        counts, n_drawn = votes, None
    else:
        votes = np.stack([m.predict(X_seen + u)[:, None] == names for m, u in members], axis=-1)
        counts, n_drawn = votes.sum(axis=-1), 120
    if params.get("correction") == "holdout":
        chooses = np.arange(120) % 10 == 0
        counts = votes[..., chooses], votes[..., ~chooses]
        if n_drawn:
            counts, n_drawn = tuple(c.sum(axis=-1) for c in counts), 108
    level = {k: v for k, v in params.items() if k in ("bound", "correction", "two_sided")}
    bounds = probability_bounds(counts, n_drawn=n_drawn, confidence_level=0.9, **level)
    assert_array_equal(names[bounds.top], result.y_pred)
    np.testing.assert_allclose(result.p_a, bounds.p_a, atol=1e-9)
    if "q" in params:
        noise = JointNoise(0.3, 0.1, 3)
    else:
        noise = UniformNoise(np.sqrt(12) * 0.3) if "noise" in params else GaussianNoise(0.3)
    radii = noise.radius(bounds.p_a, bounds.p_b, tail_a=bounds.tail_a)
    charge = 0.0 if grid is None else grid * np.sqrt(120 * 4)
    expected = np.where(radii >= charge, radii - charge, -1.0)
    np.testing.assert_allclose(result.radii, expected, atol=1e-8)
    assert np.all(result.radii <= radii)


@pytest.mark.slow
@pytest.mark.parametrize(
    "base",
    [
        SVC(),
        LinearSVC(),
        KNeighborsClassifier(),
        RandomForestClassifier(5),
        GradientBoostingClassifier(n_estimators=5),
        HistGradientBoostingClassifier(max_iter=5),
        MLPClassifier((8,), solver="lbfgs", max_iter=50),
        VotingClassifier([("nb", GaussianNB()), ("tree", DecisionTreeClassifier())]),
        GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 3]}, cv=2),
        make_pipeline(StandardScaler(), RidgeClassifier()),
    ],
    ids=lambda base: type(base).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_any_classifier_is_a_base(base):
    X, y, X_test, y_test = iris()
    params = {"n_estimators": 12, "sigma": 0.3, "random_state": 0}
    model = RABEnsembleClassifier(base, **params).fit(X, y)
    result = model.certify(X_test)
    assert_array_equal(result.y_pred, model.predict(X_test))
    assert np.mean(result.y_pred == y_test) > 0.7 and np.any(result.radii > 0)
    # The digest of a member does not change when it predicts, or is trained once more.
    again = RABEnsembleClassifier(base, **params).fit(X, y)
    assert_array_equal(model.test_vectors_, again.test_vectors_)


def test_rows_do_not_depend_on_each_other():
    X, y, X_test, _ = iris()
    model = RABEnsembleClassifier(DecisionTreeClassifier(), n_estimators=60, random_state=0)
    whole = model.fit(X, y).certify(X_test)
    order = np.random.default_rng(1).permutation(30)
    assert_array_equal(model.certify(X_test[order]).radii, whole.radii[order])
    for i in range(5):
        assert model.certify(X_test[i : i + 1]).radii[0] == whole.radii[i]


def test_per_row_radius_and_flips():
    X, y, X_test, _ = iris()
    model = RABEnsembleClassifier(GaussianNB(), n_estimators=200, q=0.2, random_state=0).fit(X, y)
    whole = model.certify(X_test, n_flips=[0, 1, 2, 3]).radii
    assert whole.shape == (30, 4) and np.all(np.diff(whole, axis=1) <= 0)
    assert_array_equal(model.certify(X_test, n_flips=2).radii, whole[:, 2])
    bounds = probability_bounds(model.collect_votes(X_test).together(), n_drawn=200)
    expected = JointNoise(1.0, 0.2, 3).radius(
        bounds.p_a, tail_a=bounds.tail_a, n_flips=[0, 1, 2, 3]
    )
    assert_array_equal(whole, expected)
    assert np.all(whole[whole[:, 1] >= 0][:, 0] > whole[whole[:, 1] >= 0][:, 1])
    each = model.certify(X_test, n_flips=2, n_poisoned=4).radii
    np.testing.assert_allclose(each[each >= 0], whole[:, 2][each >= 0] / 2.0, rtol=1e-12)
    noise = model.noise_
    assert (noise.sigma, noise.q, noise.n_categories) == (1.0, 0.2, 3)
    threat = model.threat_model_
    assert threat.norm == "l2" and threat.target == ("train_features", "train_labels")
    assert threat.confidence_level == 0.999 and not threat.exact


def test_no_label_noise_is_rab():
    X, y, X_test, _ = iris()
    model = RABEnsembleClassifier(GaussianNB(), n_estimators=50, random_state=0).fit(X, y)
    assert_array_equal(
        model.certify(X_test, n_flips=[0, 0]).radii[:, 1], model.certify(X_test).radii
    )
    with pytest.raises(ValueError, match="n_flips must be 0 where q is 0"):
        model.certify(X_test, n_flips=1)


def test_sigma_per_column_is_a_safe_scaler():
    """Features in other units, with sigma in these units: the same members, the same radii."""
    X, y, X_test, _ = iris()
    units = np.array([1.0, 16.0, 0.25, 2.0])
    params = {"n_estimators": 40, "test_noise": "seed", "random_state": 0}
    tree = DecisionTreeClassifier(random_state=0)
    plain = RABEnsembleClassifier(tree, sigma=np.full(4, 0.5), **params).fit(X, y)
    other = RABEnsembleClassifier(tree, sigma=0.5 * units, **params).fit(X * units, y)
    assert_array_equal(plain.certify(X_test).radii, other.certify(X_test * units).radii)
    assert plain.threat_model_.unit == "units of sigma"


# --- kept votes, growth ---------------------------------------------------------------------------


def test_kept_votes_can_be_certified_again():
    X, y, X_test, _ = iris()
    model = RABEnsembleClassifier(GaussianNB(), n_estimators=100, q=0.1, random_state=0).fit(X, y)
    votes = model.collect_votes(X_test)
    assert_array_equal(model.certify_votes(votes).radii, model.certify(X_test).radii)
    for params in (
        {"confidence_level": 0.9},
        {"bound": "anytime", "two_sided": True},
        {"correction": "holdout", "n_statements": 3},
    ):
        again = model.certify_votes(votes, n_flips=1, n_poisoned=2, **params)
        model.set_params(**params)
        assert_array_equal(again.radii, model.certify(X_test, n_flips=1, n_poisoned=2).radii)
        model.set_params(
            confidence_level=0.999, bound="clopper-pearson", two_sided=False,
            correction="selection", n_statements=1,
        )  # fmt: skip
    with pytest.raises(TypeError, match="sigma"):
        model.certify_votes(votes, sigma=2.0)
    both = {"bound": "anytime", "correction": "holdout"}
    with pytest.raises(ValueError, match="does not go with"):
        model.certify_votes(votes, **both)
    with pytest.raises(ValueError, match="does not go with"):
        model.set_params(**both).certify(X_test)
    model.set_params(bound="clopper-pearson", correction="selection")
    with pytest.raises(TypeError, match="collect_votes"):
        model.certify_votes(np.ones((3, 3)))
    with pytest.raises(ValueError, match="another ensemble"):
        model.set_params(random_state=1).fit(X, y).certify_votes(votes)


def test_growing_equals_training_at_once_and_needs_anytime():
    X, y, X_test, _ = iris()
    model = RABEnsembleClassifier(
        DecisionTreeClassifier(), n_estimators=15, warm_start=True, random_state=0
    ).fit(X, y)
    members = list(model.estimators_)
    model.set_params(n_estimators=40).fit(X, y)
    assert model.estimators_[:15] == members
    at_once = RABEnsembleClassifier(DecisionTreeClassifier(), n_estimators=40, random_state=0)
    at_once.fit(X, y)
    with pytest.warns(OptionalStoppingWarning, match="anytime"):
        grown = model.certify(X_test)
    assert_array_equal(grown.radii, at_once.certify(X_test).radii)
    assert_array_equal(model.test_vectors_, at_once.test_vectors_)
    model.set_params(bound="anytime")
    assert_array_equal(
        model.certify(X_test).radii, at_once.set_params(bound="anytime").certify(X_test).radii
    )
    with pytest.raises(ValueError, match="n_estimators must be at least"):
        model.set_params(n_estimators=30).fit(X, y)
    with pytest.raises(ValueError, match="data and the parameters"):
        model.set_params(n_estimators=50).fit(X + 1e-9, y)
    with pytest.raises(ValueError, match="data and the parameters"):
        model.set_params(sigma=2.0).fit(X, y)


def test_the_same_members_trained_anew_and_more_of_them_are_growth():
    X, y, X_test, _ = iris()
    model = RABEnsembleClassifier(GaussianNB(), n_estimators=12, random_state=0).fit(X, y)
    model.fit(X, y).certify(X_test)
    model.set_params(n_estimators=14).fit(X, y)
    with pytest.warns(OptionalStoppingWarning):
        model.certify(X_test)
    with pytest.warns(OptionalStoppingWarning):  # still
        model.fit(X, y).certify(X_test)
    model.set_params(random_state=1).fit(X, y).certify(X_test)


@pytest.mark.parametrize("kept", [None, lambda X: X], ids=["importable", "lambda"])
def test_growing_notices_a_change_anywhere_in_the_base(kept):
    """Also of one entry of an array too long to be printed: all members have one distribution."""
    X, y, *_ = iris()
    base = Carrier(FunctionTransformer(kept), payload=np.zeros(5000))
    model = RABEnsembleClassifier(base, n_estimators=2, warm_start=True, test_noise="seed")
    model.fit(X, y)
    model.set_params(n_estimators=3).fit(X, y)
    changed = np.zeros(5000)
    changed[2500] = 1e-12
    with pytest.raises(ValueError, match="data and the parameters"):
        model.set_params(n_estimators=4, estimator__payload=changed).fit(X, y)


def test_growth_and_kept_votes_notice_one_sigma_of_many():
    """Uniform noise keeps sigma beside the law: one value of 1,200 is changed."""
    X, y = np.zeros((4, 1200)), [0, 1, 0, 1]
    sigma, other = np.ones(1200), np.ones(1200)
    other[600] = np.nextafter(1.0, 2.0)
    params = {"noise": "uniform", "n_estimators": 12, "warm_start": True, "random_state": 0}
    model = RABEnsembleClassifier(Intervals(), sigma=sigma, **params).fit(X, y)
    votes = model.collect_votes(X[:1])
    with pytest.raises(ValueError, match="data and the parameters"):
        model.set_params(sigma=other, n_estimators=13).fit(X, y)
    with pytest.raises(ValueError, match="another ensemble"):
        RABEnsembleClassifier(Intervals(), sigma=other, **params).fit(X, y).certify_votes(votes)


def grown_by(base, other):
    """Train a member of one base, then another one of the other."""
    X, y = np.zeros((4, 1)), [0, 1, 0, 1]
    model = RABEnsembleClassifier(base, n_estimators=1, warm_start=True, test_noise="seed")
    return model.fit(X, y).set_params(estimator=other, n_estimators=2).fit(X, y)


def adds(number):
    return lambda X: X + number


@pytest.mark.parametrize(
    "payload",
    [
        lambda v: adds(v),
        lambda v: {"f": adds(v), "series": pd.Series([v] * 3)},
        lambda v: [adds(0), pd.DataFrame({"a": np.full(2000, v)})],
        lambda v: [adds(0), {"nested": LogisticRegression(C=v)}],
        lambda v: type("Local", (), {"value": v}),
        lambda v: exec(f"def f(x): return x + {v}", space := {}) or space["f"],
    ],
    ids=["closure", "series", "frame", "estimator", "class", "code"],
)
def test_growth_notices_other_functions_and_what_lies_beside_them(payload):
    same = payload(1)
    assert len(grown_by(Carrier(same), Carrier(same)).estimators_) == 2
    with pytest.raises(ValueError, match="data and the parameters"):
        grown_by(Carrier(payload(1)), Carrier(payload(2)))


def test_a_failed_or_interrupted_fit_changes_nothing():
    X, y, *_ = iris()
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = RABEnsembleClassifier(Interrupting(), n_estimators=12, random_state=0).fit(frame, y)
    before = joblib.hash(model)
    for other in (frame[list("dcba")], frame[["a", "b"]], X):
        model.set_params(estimator__interrupts=True)
        with pytest.raises(KeyboardInterrupt):
            model.fit(other, y)
        model.set_params(estimator__interrupts=False)
        assert joblib.hash(model) == before
    with pytest.raises(ValueError, match="feature names"):
        model.certify(frame[list("dcba")])


@pytest.mark.parametrize("scorer", [Scorer((0, 1, 2), 3), Scorer((1, 9), 2), Scorer((1, 2), 1)])
def test_scores_of_other_classes_are_refused(scorer):
    model = RABEnsembleClassifier(scorer, n_estimators=3, voting="soft", bound="betting")
    model.fit([[0.0], [1.0], [2.0]], [1, 2, 3])
    with pytest.raises(ValueError, match="one column for each of the member's classes_"):
        model.predict([[0.0]])


def test_predictions_that_are_no_labels_at_all_are_refused():
    model = RABEnsembleClassifier(Scorer(("a", "b")), n_estimators=3).fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(ValueError, match="No member votes for any of classes_"):
        model.predict([[0.0]])


def test_too_few_members_for_a_holdout_are_counted_in_members():
    X, y, X_test, _ = iris()
    params = {"correction": "holdout", "random_state": 0}
    model = RABEnsembleClassifier(GaussianNB(), n_estimators=10, **params).fit(X, y)
    with pytest.raises(TooFewDrawsError, match="n_estimators must be at least") as caught:
        model.certify(X_test)
    needed = caught.value.n_needed
    enough = RABEnsembleClassifier(GaussianNB(), n_estimators=needed, **params).fit(X, y)
    assert np.any(enough.certify(X_test).radii > 0)
    with pytest.raises(TooFewDrawsError):
        clone(enough).set_params(n_estimators=needed - 1).fit(X, y).certify(X_test)


def test_a_single_label_of_several_classes_is_a_vote_for_it():
    model = RABEnsembleClassifier(LogisticRegression(), n_estimators=20, classes=["a", "b"])
    assert model.fit([[0.0], [1.0]], ["b", "b"]).certify([[0.0]]).y_pred[0] == "b"


def test_parameters_set_after_fit_do_not_break_the_repr():
    X, y, X_test, _ = iris()
    model = RABEnsembleClassifier(GaussianNB(), n_estimators=12).fit(X, y)
    model.set_params(confidence_level=2.0)
    assert repr(model).startswith("RABEnsembleClassifier")
    with pytest.raises(ValueError, match="confidence_level"):
        model.certify(X_test)


def test_growing_notices_another_grid():
    X, y, *_ = iris()
    model = RABEnsembleClassifier(GaussianNB(), n_estimators=2, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="data and the parameters"):
        model.set_params(n_estimators=3, grid=2.0**-20).fit(X, y)
    with pytest.raises(ValueError, match="data and the parameters"):
        model.set_params(grid=None, columns=[0, 1]).fit(X, y)


@pytest.mark.slow
def test_training_until_a_radius_is_settled():
    X, y, X_test, _ = iris()
    params = {"sigma": 0.3, "bound": "anytime", "random_state": 0}
    model = RABEnsembleClassifier(GaussianNB(), n_estimators=400, **params)
    sure = X_test[model.fit(X, y).certify(X_test).radii > 0.3][:5]
    settled = model.fit_until_settled(X, y, sure, radius=0.2)
    assert settled.n_estimators == len(model.estimators_) < 200
    assert np.all(settled.certified) and not np.any(settled.refuted)
    assert np.all(model.certify(sure).radii >= 0.2)
    at_once = RABEnsembleClassifier(GaussianNB(), n_estimators=settled.n_estimators, **params)
    assert_array_equal(model.certify(sure).radii, at_once.fit(X, y).certify(sure).radii)
    # Beyond what a vote of this noise can ever certify (8.2 sigma): more members would not help.
    settled = model.fit_until_settled(X, y, X_test[:5], radius=9.0)
    assert settled.n_estimators == 16 and np.all(settled.refuted)
    with pytest.raises(ValueError, match="bound must be 'anytime'"):
        model.set_params(bound="hoeffding").fit_until_settled(X, y, sure, radius=0.2)
    with pytest.raises(ValueError, match="radius must be"):
        model.set_params(bound="anytime").fit_until_settled(X, y, sure, radius=-1.0)


@pytest.mark.slow
def test_rows_are_refuted_when_their_vote_is_known_to_be_too_weak():
    """P(class 0) = 0.7: a radius of sigma, 0.84 in p_a, is out of reach."""
    from scipy.stats import norm

    base = Intervals(cuts=(norm.ppf(0.7) / 2.0,))
    model = RABEnsembleClassifier(base, n_estimators=2000, bound="anytime", random_state=0)
    settled = model.fit_until_settled(np.zeros((4, 1)), [0, 1, 0, 1], [[0.0]], radius=1.0)
    assert settled.refuted[0] and not settled.certified[0] and settled.n_estimators < 500


# --- inputs ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_data_frames_reach_members_as_they_are_but_for_the_noise():
    X, y, X_test, _ = iris()
    colour = np.array(["red", "green", "blue"])
    frame = pd.DataFrame(X, columns=list("abcd")).assign(colour=colour[y], n=np.arange(len(X)))
    test = pd.DataFrame(X_test, columns=list("abcd")).assign(colour="red", n=0)
    base = make_pipeline(
        make_column_transformer((StandardScaler(), ["a", "c"]), (OneHotEncoder(), ["colour"])),
        LogisticRegression(),
    )
    model = RABEnsembleClassifier(base, columns=["a", "c"], n_estimators=30, random_state=0)
    result = model.fit(frame, y).certify(test)
    assert list(model.feature_names_in_) == [*"abcd", "colour", "n"]
    assert "of 2 columns" in model.threat_model_.unit and np.any(result.radii > 0)
    counter = RABEnsembleClassifier(FitCounter(), columns=["c", "a"], n_estimators=3).fit(
        frame[list("abcd")], y
    )
    for member in counter.estimators_:
        changed = np.any(member.epochs_[0] != X, axis=0)
        assert changed.tolist() == [True, False, True, False]
    for columns in ([0, 2], [True, False, True, False, False, False], [-6, -4]):
        other = RABEnsembleClassifier(base, columns=columns, n_estimators=30, random_state=0)
        assert_array_equal(other.fit(frame, y).certify(test).radii, result.radii)
    objects = RABEnsembleClassifier(
        make_pipeline(make_column_transformer((OneHotEncoder(), [4])), DecisionTreeClassifier()),
        columns=[0, 2],
        n_estimators=12,
    ).fit(frame.to_numpy(dtype=object), y)
    assert objects.predict(test.to_numpy(dtype=object)).shape == (30,)


def test_a_frame_of_numbers_and_an_array_certify_alike():
    X, y, X_test, _ = iris()
    frame, test = (pd.DataFrame(A, columns=list("abcd")) for A in (X, X_test))
    params = {"n_estimators": 30, "test_noise": "seed", "random_state": 0}
    array = RABEnsembleClassifier(GaussianNB(), **params).fit(X, y)
    named = RABEnsembleClassifier(GaussianNB(), **params).fit(frame, y)
    assert_array_equal(named.estimators_[0].feature_names_in_, list("abcd"))
    assert_array_equal(named.certify(test).radii, array.certify(X_test).radii)
    ints = RABEnsembleClassifier(GaussianNB(), **params).fit(np.rint(X).astype(np.int32), y)
    assert ints.certify(X_test.astype(np.float32)).radii.dtype == np.float64


def test_missing_values_of_pandas_have_digests():
    frame = pd.DataFrame({"n": pd.array([1.0, None, 3.0, 4.0], dtype="Float64"), "w": list("abab")})
    frame["w"] = frame["w"].astype("string").where(frame["n"] != 3.0)
    base = make_pipeline(
        make_column_transformer((SimpleImputer(), ["n"])), DecisionTreeClassifier(max_depth=1)
    )
    model = RABEnsembleClassifier(base, columns=["n"], n_estimators=12).fit(frame, [0, 1, 0, 1])
    assert model.certify(frame).radii.shape == (4,)


def test_columns_of_a_frame_keep_their_names_in_any_order():
    X, y, X_test, _ = iris()
    frame = pd.DataFrame(X, columns=list("abcd"))
    params = {"n_estimators": 5, "columns": list("dbca"), "random_state": 0, "sigma": 0.01}
    model = RABEnsembleClassifier(FitCounter(), **params).fit(frame, y)
    for member in model.estimators_:
        assert np.abs(member.epochs_[0] - X).max() < 0.1
    base = GaussianNB()
    array = RABEnsembleClassifier(base, **{**params, "columns": [3, 1, 2, 0]}).fit(X, y)
    named = RABEnsembleClassifier(base, **params).fit(frame, y)
    for test in (X_test, pd.DataFrame(X_test, columns=list("abcd"))):
        assert_array_equal(named.predict_proba(test), array.predict_proba(X_test))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sigma": 0.0}, "'sigma' parameter"),
        ({"sigma": ["a"]}, "sigma must be a number or a list of numbers"),
        ({"estimator": OwnClone()}, "is its own clone"),
        ({"sigma": [1.0, 2.0]}, r"sigma must be a number or of shape \(4,\)"),
        ({"sigma": 1e300}, "sigma must be positive and finite"),
        ({"q": 1.0}, "'q' parameter"),
        ({"q": 0.67}, "q must"),
        ({"q": 0.1, "noise": "uniform"}, "goes with noise='gaussian'"),
        ({"grid": 0.3}, "grid must be a power of two"),
        ({"grid": 2.0**-60}, "grid must be at least"),
        ({"columns": ["a"]}, "columns can hold names only"),
        ({"columns": [4]}, "columns must be positions"),
        ({"columns": [1, 1]}, "each column once"),
        ({"columns": []}, "non-empty"),
        ({"columns": [True, False]}, "must have 4 entries"),
        ({"voting": "soft"}, "bound must be one of"),
        ({"bound": "betting"}, "bound must be one of"),
        ({"bound": "anytime", "correction": "holdout"}, "does not go with"),
        ({"test_noise": "random"}, "'test_noise' parameter"),
        ({"n_estimators": 0}, "'n_estimators' parameter"),
        ({"classes": [0, 1]}, "classes must contain every training label"),
        ({"confidence_level": 1.0}, "'confidence_level' parameter"),
    ],
)
def test_bad_parameters(params, message):
    X, y, *_ = iris()
    with pytest.raises(ValueError, match=message):
        RABEnsembleClassifier(**{"estimator": GaussianNB(), **params}).fit(X, y)


def test_bad_input():
    X, y, X_test, _ = iris()
    model = RABEnsembleClassifier(GaussianNB(), n_estimators=10, random_state=0)
    with pytest.raises(NotFittedError):
        model.certify(X_test)
    model.fit(X, y)
    with pytest.raises(TooFewDrawsError, match="at least 11 draws"):
        model.certify(X_test)
    with pytest.raises(ValueError, match="n_poisoned must be"):
        model.certify(X_test, n_poisoned=121)
    with pytest.raises(ValueError, match="n_flips must be an integer from 0 to 120"):
        model.certify(X_test, n_flips=-1)
    with pytest.raises(ValueError, match="infinity"):
        model.certify(np.where(X_test > 6, np.inf, X_test))
    with pytest.raises(ValueError, match="X has 3 features"):
        model.certify(X_test[:, :3])
    with pytest.raises(ValueError, match="All 10 members failed.*contains NaN"):
        model.fit(np.where(X > 6, np.nan, X), y)
    with pytest.raises(ValueError, match="1 class"):
        model.fit(X, np.zeros(120))
    with pytest.raises(ValueError, match="needs an estimator with predict_proba"):
        RABEnsembleClassifier(LinearSVC(), voting="soft", bound="betting").fit(X, y)
    frame = pd.DataFrame(X, columns=list("abcd")).assign(b="text")
    with pytest.raises(ValueError, match="Column 'b' gets noise and must hold numbers"):
        model.fit(frame, y)
    dates = frame.assign(b=pd.Timestamp("2026-01-01"))
    with pytest.raises(ValueError, match="Column 'b' gets noise.*no unit"):
        model.fit(dates, y)
    with pytest.raises(ValueError, match=r"columns must be among those of X.*Got \['e'\]"):
        RABEnsembleClassifier(GaussianNB(), columns=["a", "e"]).fit(frame, y)


# --- metadata, searches ---------------------------------------------------------------------------


def test_weights_and_groups_reach_members():
    X, y, *_ = iris()
    weights = np.random.default_rng(0).uniform(1.0, 2.0, 120)
    model = RABEnsembleClassifier(FitCounter(), n_estimators=3).fit(X, y, sample_weight=weights)
    assert_array_equal(model.estimators_[2].sample_weight_, weights)
    with pytest.raises(ValueError, match="must not depend on the labels"):
        model.fit(X, y, sample_weight=1.0 + y)
    with pytest.raises(ValueError, match="enable_metadata_routing"):
        model.fit(X, y, groups=y)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    with pytest.raises(ValueError, match="metadata routing"):
        RABEnsembleClassifier(pipeline, n_estimators=3).fit(X, y, sample_weight=weights)
    with sklearn.config_context(enable_metadata_routing=True):
        base = FitCounter().set_fit_request(sample_weight=True, groups=True)
        routed = RABEnsembleClassifier(base, n_estimators=3)
        routed.fit(X, y, sample_weight=weights, groups=np.arange(120))
        assert_array_equal(routed.estimators_[1].groups_, np.arange(120))
        assert_array_equal(routed.estimators_[1].sample_weight_, weights)


@pytest.mark.parametrize("frame", [False, True])
def test_what_a_member_does_to_its_data_reaches_no_other_member(frame):
    X, y, X_test, _ = iris()
    weights, notes = np.ones(120), {"seen": []}
    columns = None
    if frame:
        X, X_test = (pd.DataFrame(A, columns=list("abcd")).assign(e=1.0) for A in (X, X_test))
        columns = list("abcd")
    before = joblib.hash((X, y, X_test))
    with sklearn.config_context(enable_metadata_routing=True):
        base = Vandal().set_fit_request(sample_weight=True, notes=True)
        model = RABEnsembleClassifier(base, n_estimators=12, columns=columns, random_state=0)
        model.fit(X, y, sample_weight=weights, notes=notes)
    model.certify(X_test), model.certify(X_test)
    assert joblib.hash((X, y, X_test)) == before and notes == {"seen": []}
    assert_array_equal(weights, np.ones(120))
    for member in model.estimators_:
        assert member.saw_ == (1.0, 0, 1.0) and member.inputs_ == [member.inputs_[0]] * 2


def test_parameters_of_the_base_can_be_searched():
    X, y, X_test, y_test = iris()
    search = GridSearchCV(
        RABEnsembleClassifier(LogisticRegression(), n_estimators=12, random_state=0),
        {"estimator__C": [1e-6, 1.0], "sigma": [0.3]},
        cv=3,
    ).fit(X, y)
    assert search.best_params_["estimator__C"] == 1.0
    assert search.score(X_test, y_test) > 0.8
