# SPDX-License-Identifier: BSD-3-Clause
"""The discrete ensemble: contract, noise, inputs, growth."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy.stats import chi2_contingency, chisquare
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

from sksmooth import DiscreteEnsembleClassifier
from sksmooth.confidence import probability_bounds
from sksmooth.exceptions import FailedMembersWarning, OptionalStoppingWarning, TooFewDrawsError
from sksmooth.smoothing import CategoricalNoise, MixedCategoricalNoise

from ._learners import Carrier, FitCounter, Intervals

# Checks that may not run or pass, with the reason.
SKIPS = {
    "check_array_api_input": "needs SCIPY_ARRAY_API in the environment; no array API here",
}
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": (
        "its features are no categories, and a row of weight 2 has one noise, two equal rows have "
        "two"
    ),
    "check_classifiers_one_label_sample_weights": (
        "its features are no categories, which is an error before that of a single class"
    ),
}


@pytest.mark.slow
def test_scikit_learn_checks():
    """Every check of the generated list ran and passed, but for the written lists.

    The tag "categorical" makes most of them round their features to small integers.
    """
    estimator = DiscreteEnsembleClassifier(
        DecisionTreeClassifier(), n_estimators=12, q=0.02, categories=200, confidence_level=0.9,
        random_state=0,
    )  # fmt: skip
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


VALUES = [[-1, 0, 1], [0, 1], [10, 20, 30, 40]]


def mixed(n=80, n_test=20, seed=0):
    """Columns of three domains, whose larger values are those of class 1."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n + n_test)
    codes = [rng.binomial(len(v) - 1, 0.1 + 0.8 * y) for v in VALUES]
    X = np.column_stack([np.array(v)[c] for v, c in zip(VALUES, codes, strict=True)])
    return X[:n], y[:n], X[n:], y[n:]


# --- contract -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"perturb": ("train_labels",)},
        {"perturb": ("train_features", "train_labels"), "q": 0.2},
        {"perturb": ["test_features", "train_features"]},
        {"perturb": ("test_features",)},
        {"voting": "soft", "bound": "betting", "two_sided": True},
        {"bound": "anytime", "two_sided": True},
        {"correction": "holdout"},
        {"correction": "none"},
        {"columns": [2, 0], "categories": [VALUES[2], VALUES[0]]},
    ],
    ids=str,
)
def test_radii_are_those_of_the_bounds_on_the_counted_votes(params):
    X, y, X_test, _ = mixed()
    names = np.array(["bad", "good"])
    params = {"categories": VALUES, "n_estimators": 150, "confidence_level": 0.9, **params}
    model = DiscreteEnsembleClassifier(GaussianNB(), random_state=0, **params).fit(X, names[y])
    result = model.certify(X_test, return_bounds=True)
    assert_array_equal(result.y_pred, model.predict(X_test))
    assert_array_equal(result.y_pred, names[model.predict_proba(X_test).argmax(axis=1)])
    assert result.radii.dtype == np.int64 and result.radii.shape == (20,)
    # Once more by hand, from the members: shifts in a circle of the sorted values.
    perturb = params.get("perturb", ("train_features", "train_labels", "test_features"))
    votes = []
    for member, vector in zip(model.estimators_, model.test_vectors_, strict=True):
        seen = X_test.copy()
        if set(perturb) != {"train_labels"}:
            for column, shift in zip(params.get("columns", [0, 1, 2]), vector, strict=True):
                values = np.array(VALUES[column])
                code = np.searchsorted(values, X_test[:, column])
                seen[:, column] = values[(code + shift) % len(values)]
        soft = params.get("voting") == "soft"
        votes.append(member.predict_proba(seen) if soft else member.predict(seen)[:, None] == names)
    votes = np.stack(votes, axis=-1)
    counts, n_drawn = (votes, None) if soft else (votes.sum(axis=-1), 150)
    if params.get("correction") == "holdout":
        chooses = np.arange(150) % 10 == 0
        counts = votes[..., chooses].sum(axis=-1), votes[..., ~chooses].sum(axis=-1)
        n_drawn = 135
    level = {k: v for k, v in params.items() if k in ("bound", "correction", "two_sided")}
    bounds = probability_bounds(counts, n_drawn=n_drawn, confidence_level=0.9, **level)
    assert_array_equal(names[bounds.top], result.y_pred)
    np.testing.assert_allclose(result.p_a, bounds.p_a, atol=1e-9)
    largest = 2 if set(perturb) == {"train_labels"} else 4
    noise = CategoricalNoise(params.get("q", 0.1), largest)
    assert_array_equal(
        result.radii, noise.radius(bounds.p_a, bounds.p_b, tail_a=bounds.tail_a, n_coordinates=323)
    )
    assert np.any(result.radii >= (0 if "test_features" in perturb else 1))


def test_noise_and_threat_model_name_what_is_perturbed():
    X, y, *_ = mixed()
    everything = ("train_features", "train_labels", "test_features")
    mixed_noise = MixedCategoricalNoise(0.1, (3, 2, 4), 2)
    for perturb, noise, norm, target in [
        (everything, mixed_noise, "l0", everything),
        (["test_features", "train_labels"], mixed_noise, "l0", everything[1:]),
        (everything[::2], MixedCategoricalNoise(0.1, (3, 2, 4), None), "l0", everything[::2]),
        (("train_labels",), CategoricalNoise(0.1, 2), "flips", ("train_labels",)),
    ]:
        model = DiscreteEnsembleClassifier(
            GaussianNB(), n_estimators=2, categories=VALUES, perturb=perturb
        ).fit(X, y)
        assert model.noise_ == noise
        threat = model.threat_model_
        assert (threat.norm, threat.target) == (norm, target)
        assert not threat.exact and threat.confidence_level == 0.999
    binary = DiscreteEnsembleClassifier(GaussianNB(), n_estimators=2, columns=[1])
    assert binary.fit(X, y).noise_ == MixedCategoricalNoise(0.1, 2, 2)
    assert "1 columns and of labels" in binary.threat_model_.unit
    binary.set_params(perturb=("train_features",)).fit(X, y)
    assert binary.noise_ == CategoricalNoise(0.1, 2)
    assert "same classes" in repr(binary)


def test_radii_are_capped_at_the_values_that_can_change():
    """Four training rows, one column, two classes; more votes than any radius would need."""
    X, y = np.array([[0], [0], [1], [1]]), [0, 0, 1, 1]
    tails = np.array([1e-30, 0.4])
    for perturb, total, per_row, n_rows in [
        (("train_features", "train_labels", "test_features"), 9, 2, 5),
        (("train_features", "train_labels"), 8, 2, 4),
        (("train_features",), 4, 1, 4),
        (("train_labels",), 4, 1, 4),
        (("train_labels", "test_features"), 5, 1, 5),
        (("test_features",), 1, 1, 1),
    ]:
        model = DiscreteEnsembleClassifier(
            BernoulliNB(), n_estimators=20, perturb=perturb, random_state=0
        ).fit(X, y)
        assert model._radii(tails, tails, {"n_poisoned": None}).tolist() == [total, 0]
        for r in range(1, n_rows + 1):
            each = model._radii(tails, tails, {"n_poisoned": r})
            assert each.tolist() == [min(total // r, per_row), 0]
        assert model.certify([[0]], n_poisoned=n_rows).radii.shape == (1,)
        with pytest.raises(ValueError, match=f"an integer from 1 to {n_rows}, the number of rows"):
            model.certify([[0]], n_poisoned=n_rows + 1)


def test_rows_do_not_depend_on_each_other():
    X, y, X_test, _ = mixed()
    model = DiscreteEnsembleClassifier(
        DecisionTreeClassifier(), n_estimators=60, categories=VALUES, random_state=0
    ).fit(X, y)
    whole = model.predict_proba(X_test)
    assert_array_equal(model.predict_proba(X_test[::-1]), whole[::-1])
    for i in range(5):
        assert_array_equal(model.predict_proba(X_test[i : i + 1])[0], whole[i])


@pytest.mark.slow
def test_jobs_pickles_and_copies_answer_alike():
    X, y, X_test, _ = mixed()
    model = DiscreteEnsembleClassifier(
        DecisionTreeClassifier(max_features=1), n_estimators=40, categories=VALUES, random_state=0
    )
    two = clone(model).set_params(n_jobs=2).fit(X, y)
    model.fit(X, y)
    assert_array_equal(model.test_vectors_, two.test_vectors_)
    assert_array_equal(model.predict_proba(X_test), two.predict_proba(X_test))
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(model.certify(X_test), again.certify(X_test))
    votes = pickle.loads(pickle.dumps(model.collect_votes(X_test)))
    assert_array_equal(two.certify_votes(votes).radii, model.certify(X_test).radii)


# --- noise ----------------------------------------------------------------------------------------


def test_every_value_is_kept_or_becomes_any_other_of_its_domain_alike():
    X, y, *_ = mixed(n=60)
    y = np.arange(60) % 3
    model = DiscreteEnsembleClassifier(
        FitCounter(), n_estimators=400, q=0.3, categories=VALUES, random_state=0
    ).fit(X, y)
    noisy_X = np.array([member.epochs_[0] for member in model.estimators_])
    noisy_y = np.array([member.labels_ for member in model.estimators_])
    draws = [(X[:, j], noisy_X[:, :, j], VALUES[j]) for j in range(3)] + [(y, noisy_y, [0, 1, 2])]
    for clean, noisy, values in draws:
        for value in values:
            found = noisy[:, clean == value]
            counts = [np.sum(found == other) for other in values]
            q = 0.3 / (len(values) - 1)
            expected = np.where(np.array(values) == value, 0.7, q) * found.size
            # 12 tests at 1e-4
            assert chisquare(counts, expected).pvalue > 1e-4
    shifts = model.test_vectors_
    assert shifts.shape == (400, 3) and shifts.dtype == np.uint8
    for j, values in enumerate(VALUES):
        expected = np.r_[0.7, [0.3 / (len(values) - 1)] * (len(values) - 1)] * 400
        assert chisquare(np.bincount(shifts[:, j], minlength=len(values)), expected).pvalue > 1e-4


def test_noise_is_drawn_once_and_independently_in_all_places():
    """Whether a value is changed says nothing of other values, labels, or the test input."""
    X, y = np.array([[0, 0], [1, 0]]), np.array([0, 1])
    model = DiscreteEnsembleClassifier(
        FitCounter(), n_estimators=1500, q=0.4, random_state=0, categories=2
    ).fit(X, y)
    changed = [
        np.r_[(m.epochs_[0] != X).ravel(), m.labels_ != y, vector != 0]
        for m, vector in zip(model.estimators_, model.test_vectors_, strict=True)
        if hasattr(m, "epochs_")  # members whose labels are all alike are votes for that class
    ]
    assert 500 < len(changed) < 1000  # 1500 * (0.6**2 + 0.4**2) = 780
    places = np.array(changed)
    for i in range(8):
        for j in range(i):
            if (i, j) == (5, 4):  # two labels that differ: both are changed, or none is
                assert_array_equal(places[:, i], places[:, j])
                continue
            table = np.histogram2d(places[:, i], places[:, j], bins=2)[0]
            assert chi2_contingency(table).pvalue > 1e-4  # 27 tests
    # Consecutive members, too.
    for i, j in ((0, 0), (6, 7)):
        one_after_another = np.corrcoef(places[:-1, i], places[1:, j])[0, 1]
        assert abs(one_after_another) < 4.0 / np.sqrt(len(places))
    for member in model.estimators_[:20]:
        if hasattr(member, "epochs_"):
            for epoch in member.epochs_[1:]:
                assert_array_equal(epoch, member.epochs_[0])


@pytest.mark.parametrize("perturb", ["train_features", "train_labels", "test_features"])
def test_only_what_is_named_gets_noise(perturb):
    X, y, *_ = mixed()
    model = DiscreteEnsembleClassifier(
        FitCounter(), n_estimators=20, q=0.3, categories=VALUES, perturb=(perturb,)
    ).fit(X, y)
    members = model.estimators_
    assert any(np.any(m.epochs_[0] != X) for m in members) == (perturb == "train_features")
    assert any(np.any(m.labels_ != y) for m in members) == (perturb == "train_labels")
    assert np.any(model.test_vectors_) == (perturb == "test_features")


def test_noise_on_test_inputs_does_not_look_at_the_member():
    """Other training data, other members, the same shifts: they are independent of the training."""
    X, y, *_ = mixed()
    base = DiscreteEnsembleClassifier(
        GaussianNB(), n_estimators=50, categories=VALUES, random_state=0
    )
    vectors = base.fit(X, y).test_vectors_
    assert_array_equal(clone(base).fit(X[::-1], y[::-1]).test_vectors_, vectors)
    assert len(np.unique(vectors, axis=0)) > 3


# --- kept votes, growth, failures -----------------------------------------------------------------


@pytest.mark.slow
def test_kept_votes_growth_and_settling():
    X, y, X_test, _ = mixed()
    perturb = ("train_features", "train_labels")
    params = {"categories": VALUES, "q": 0.2, "perturb": perturb, "random_state": 0}
    model = DiscreteEnsembleClassifier(GaussianNB(), n_estimators=30, warm_start=True, **params)
    model.fit(X, y).set_params(n_estimators=200).fit(X, y)
    at_once = DiscreteEnsembleClassifier(GaussianNB(), n_estimators=200, **params).fit(X, y)
    votes = at_once.collect_votes(X_test)
    with pytest.warns(OptionalStoppingWarning, match="anytime"):
        assert_array_equal(model.certify_votes(votes).radii, at_once.certify(X_test).radii)
    assert_array_equal(
        at_once.certify_votes(votes, bound="anytime", n_poisoned=2).radii,
        at_once.set_params(bound="anytime").certify(X_test, n_poisoned=2).radii,
    )
    with pytest.raises(TypeError, match="beside n_poisoned and return_bounds.*'n_flips'"):
        at_once.certify_votes(votes, n_flips=1)
    for change in ({"q": 0.1}, {"categories": [[-1, 0, 1], [0, 1, 2], VALUES[2]]},
                   {"perturb": ("train_labels", "test_features")},
                   {"perturb": ("train_labels",)}):  # fmt: skip
        grown = clone(at_once).set_params(warm_start=True, n_estimators=12).fit(X, y)
        with pytest.raises(ValueError, match="data and the parameters"):
            grown.set_params(n_estimators=14, **change).fit(X, y)
    sure = X_test[at_once.set_params(bound="clopper-pearson").certify(X_test).radii > 0][:3]
    settled = at_once.set_params(bound="anytime", n_estimators=1500).fit_until_settled(
        X, y, sure, radius=1
    )
    assert np.all(settled.certified) and np.all(at_once.certify(sure).radii >= 1)
    settled = at_once.fit_until_settled(X, y, sure, radius=100)
    assert settled.n_estimators == 16 and np.all(settled.refuted)


def test_failed_members_count_and_vote_for_nobody():
    X, y = np.array([[0], [1]] * 4), [0, 1] * 4
    model = DiscreteEnsembleClassifier(
        Intervals(cuts=(0.45,), fails=(0.55, 1.0)), n_estimators=60, q=0.4, random_state=0
    )
    with pytest.warns(FailedMembersWarning, match="vote for nobody"):
        model.fit(X, y)
    votes = model.collect_votes([[0]])
    assert votes.n_drawn == 60 and votes.together().sum() == 60 - len(model.failures_) < 60
    assert not np.any(model.test_vectors_[list(model.failures_)])


# --- inputs ---------------------------------------------------------------------------------------


def frame(n=120, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "colour": rng.choice(["blue", "green", "red"], n).astype(object),
            "size": pd.Categorical(
                rng.choice(["S", "M", "L"], n), categories=["S", "M", "L"], ordered=True
            ),
            "age": rng.normal(40.0, 10.0, n),
            "doors": rng.choice([3, 5], n),
            "new": pd.array(rng.choice([True, False], n), dtype="boolean"),
            "brand": pd.array(rng.choice(["a", "b"], n), dtype="string"),
        }
    )
    return X, ((X["colour"] == "red") | (X["doors"] == 5)).to_numpy().astype(int)


FRAME_COLUMNS = ["brand", "doors", "colour", "size", "new"]
FRAME_VALUES = [["a", "b"], [5, 3], ["red", "green", "blue"], ["S", "M", "L"], [True, False]]


def test_data_frames_reach_members_with_their_names_and_dtypes():
    X, y = frame()
    test, _ = frame(30, seed=1)
    base = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="error"), ["colour", "size", "brand"]),
            remainder="passthrough",
        ),
        DecisionTreeClassifier(max_depth=4),
    )
    params = {"columns": FRAME_COLUMNS, "categories": FRAME_VALUES, "q": 0.1, "random_state": 0}
    model = DiscreteEnsembleClassifier(base, n_estimators=30, **params).fit(X, y)
    assert model.certify(test).y_pred.shape == (30,)
    assert [v.tolist() for v in model.categories_] == [sorted(v) for v in FRAME_VALUES]
    assert "5 columns" in model.threat_model_.unit
    by_position = DiscreteEnsembleClassifier(base, n_estimators=30, **params)
    by_position.set_params(columns=[5, 3, 0, 1, 4]).fit(X, y)
    assert_array_equal(by_position.predict_proba(test), model.predict_proba(test))

    seen = []

    class Recorder(FitCounter):
        def fit(self, X, y):
            seen.append(X)
            self.classes_ = np.unique(y)
            return self

        def predict(self, X):
            seen.append(X)
            return np.zeros(len(X), dtype=int)

    recorder = DiscreteEnsembleClassifier(Recorder(), n_estimators=40, **params).fit(X, y)
    for row_noise in (False, True):
        original, members = (test, seen) if row_noise else (X, list(seen))
        if row_noise:
            seen.clear()
            recorder.predict(test)
        changed = np.zeros(6)
        for given in members:
            assert_array_equal(given.dtypes, original.dtypes)
            assert_array_equal(given.columns, original.columns)
            assert_array_equal(given.index, original.index)
            for j, values in zip([5, 3, 0, 1, 4], FRAME_VALUES, strict=True):
                assert given.iloc[:, j].isin(values).all()
            changed += np.mean(given.astype(object) != original.astype(object), axis=0).to_numpy()
        assert changed[2] == 0.0 and np.all(np.delete(changed, 2) > 0.0)
    assert_array_equal(frame(30, seed=1)[0], test)


def test_the_same_categories_in_any_form_answer_alike():
    """Integers, floats, strings, objects, frames: what members see differs, but not the noise."""
    X, y, X_test, _ = mixed()
    codes, test_codes = (
        np.column_stack([np.searchsorted(VALUES[j], A[:, j]) for j in range(3)])
        for A in (X, X_test)
    )
    sizes = [range(3), range(2), range(4)]
    base, params = DecisionTreeClassifier(), {"n_estimators": 20, "random_state": 0}
    expected = DiscreteEnsembleClassifier(base, categories=sizes, **params).fit(codes, y)
    shares = expected.predict_proba(test_codes)
    for kind in (np.uint8, np.float32, object):
        model = DiscreteEnsembleClassifier(base, categories=sizes, **params)
        model.fit(codes.astype(kind), y)
        assert_array_equal(model.predict_proba(test_codes), shares)
        assert_array_equal(model.test_vectors_, expected.test_vectors_)
    tables = [pd.DataFrame(A, columns=list("abc")) for A in (codes, test_codes)]
    model = DiscreteEnsembleClassifier(base, categories=sizes, **params).fit(tables[0], y)
    assert_array_equal(model.predict_proba(tables[1]), shares)
    assert_array_equal(model.predict_proba(test_codes), shares)
    assert_array_equal(model.estimators_[0].feature_names_in_, list("abc"))
    words = np.array([["v0", "v1", "v2", "v3"]])
    base = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    text = [words[0][A] for A in (codes, test_codes)]
    model = DiscreteEnsembleClassifier(base, categories=words[0], **params).fit(text[0], y)
    numbers = DiscreteEnsembleClassifier(base, categories=4, **params).fit(codes, y)
    assert_array_equal(model.predict_proba(text[1]), numbers.predict_proba(test_codes))


def test_wider_values_than_the_training_rows_hold():
    """Noise may bring values that no training row has: longer strings, signed or broken numbers."""
    X = np.array([["a", "x"], ["a", "y"]] * 10)
    model = DiscreteEnsembleClassifier(
        FitCounter(), n_estimators=30, q=0.4, columns=[0], categories=["a", "longest"],
        perturb=("train_features",),
    )  # fmt: skip
    seen = []

    class Seen(FitCounter):
        def fit(self, X, y):
            seen.append(X)
            self.classes_ = np.unique(y)
            return self

    model.set_params(estimator=Seen()).fit(X, [0, 1] * 10)
    assert set(np.concatenate(seen)[:, 0]) == {"a", "longest"}
    assert_array_equal(seen[0][:, 1], X[:, 1])
    for values, given in (([-1, 0, 1], np.uint8), ([0, 0.5, 1], int)):
        seen.clear()
        model.set_params(columns=None, categories=values).fit(
            np.zeros((20, 2), dtype=given), [0, 1] * 10
        )
        assert set(np.concatenate(seen).ravel()) == set(values)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"q": 0.5, "perturb": ("train_features",), "columns": [1], "categories": 2},
         r"q must be a float in \(0, \(K - 1\) / K\).*Got q=0.5 with n_categories=2"),
        ({"q": 0.5}, "q must be a float.*n_categories=2"),
        ({"q": 0.0}, "'q' parameter"),
        ({"categories": 1}, "'categories' parameter"),
        ({"categories": None}, "'categories' parameter"),
        ({"categories": "ab"}, "'categories' parameter"),
        ({"categories": {0: 1}}, "categories must be an integer of at least 2"),
        ({"categories": VALUES[:2]}, "one list of values for each of these 3 columns"),
        ({"categories": [[0, 1], 2, 3]}, "one list of values for each of these 3 columns"),
        ({"categories": [0]}, "at least 2 values, each once"),
        ({"categories": [0, 1, 1]}, "at least 2 values, each once"),
        ({"categories": [*VALUES[:2], [10]]}, r"categories\[2\] must hold at least 2"),
        ({"categories": [0, "a"]}, "one kind that can be sorted"),
        ({"categories": [0.0, np.nan]}, "none of them missing"),
        ({"categories": [None, "a"]}, "none of them missing"),
        ({"categories": 4}, "Negative values in data. Column 0 must hold one of 0, 1, 2, 3. Got -"),
        ({"categories": [-1, 0, 1]}, r"Column 2 must hold one of -1, 0, 1. Got \d0 in row 0"),
        ({"perturb": ()}, "perturb must be a non-empty tuple"),
        ({"perturb": ("labels",)}, "perturb must be a non-empty tuple"),
        ({"perturb": ("train_labels",) * 2}, "each at most once"),
        ({"perturb": "train_labels"}, "'perturb' parameter"),
        ({"columns": [3]}, "columns must be positions"),
        ({"voting": "soft"}, "bound must be one of"),
        ({"bound": "anytime", "correction": "holdout"}, "does not go with"),
        ({"classes": [0, 2]}, "classes must contain every training label"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_parameters(params, message):
    X, y, *_ = mixed()
    params = {"categories": VALUES, **params}
    with pytest.raises(ValueError, match=message):
        DiscreteEnsembleClassifier(GaussianNB(), n_estimators=12, **params).fit(X, y)


def test_bad_input():
    X, y, X_test, _ = mixed()
    model = DiscreteEnsembleClassifier(GaussianNB(), n_estimators=10, categories=VALUES)
    with pytest.raises(NotFittedError):
        model.certify(X_test)
    for name in ("threat_model_", "categories_"):
        with pytest.raises(AttributeError, match="once the estimator is fitted"):
            getattr(model, name)
    model.fit(X, y)
    with pytest.raises(TooFewDrawsError, match="at least 11 draws"):
        model.certify(X_test)
    bad = X_test.astype(float)
    bad[3, 1] = 0.5
    with pytest.raises(ValueError, match=r"Column 1 must hold one of 0, 1. Got 0.5 in row 3"):
        model.predict(bad)
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="Got NaN in row 3"):
        model.predict(bad)
    with pytest.raises(ValueError, match="X has 2 features"):
        model.predict(X_test[:, :2])
    with pytest.raises(ValueError, match="n_poisoned must be .* 81, .* the test input among them"):
        model.certify(X_test, n_poisoned=0)
    cars, labels = frame()
    model = DiscreteEnsembleClassifier(
        Carrier(), n_estimators=3, columns=FRAME_COLUMNS, categories=FRAME_VALUES
    )
    for column, value in (("colour", "pink"), ("doors", 4), ("brand", None), ("new", None)):
        other = cars.copy()
        other.loc[5, column] = value
        with pytest.raises(ValueError, match=f"Column '{column}' must hold one of .* in row 5"):
            model.fit(other, labels)
    narrow = cars.assign(size=pd.Categorical(["S"] * 120))
    with pytest.raises(ValueError, match="Column 'size' has the dtype.*which must hold each"):
        model.fit(narrow, labels)
    model.fit(cars, labels)
    with pytest.raises(ValueError, match="X must be a DataFrame as in fit: only 5 of its 6"):
        model.predict(cars.to_numpy())
    with pytest.raises(ValueError, match="1 class"):
        model.fit(cars, np.zeros(120))


@pytest.mark.slow
def test_labels_alone_need_no_categories():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = rng.normal(size=(60, 3)) + 2.0 * y[:, None]
    model = DiscreteEnsembleClassifier(
        GaussianNB(), n_estimators=200, q=0.2, perturb=("train_labels",), random_state=0
    ).fit(X, y)
    assert model.test_vectors_.shape == (200, 0) and model.categories_ == []
    by_hand = np.mean([member.predict(X) for member in model.estimators_], axis=0)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], by_hand, atol=1e-12)
    named = pd.DataFrame(X, columns=list("abc"))
    other = clone(model).fit(named, y)
    assert_array_equal(other.certify(named).radii, model.certify(X).radii)
    # 200 votes of one class: 1 - p_a is below 0.035, and 1/8 and 1/32 are needed for 1 and 2
    assert model.certify(X).radii.max() == 1
