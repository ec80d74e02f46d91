# SPDX-License-Identifier: BSD-3-Clause
"""The contract: unwrapping, the warning about uncovered steps, threat models, roundings."""

from __future__ import annotations

import dataclasses
import html
import io
import pickle
import re
import warnings
from fractions import Fraction

import joblib
import numpy as np
import pytest
import sklearn
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import (
    RFE,
    SelectFromModel,
    SelectKBest,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils.discovery import all_estimators
from sklearn.utils.validation import check_is_fitted, validate_data

import sksmooth
from sksmooth import SmoothedKNNClassifier, ThreatModel, certify
from sksmooth._certified import (
    CertifiedBounds,
    CertifiedClassifierMixin,
    CertifiedPrediction,
    _uncovered,
    check_n_poisoned,
    find_certifier,
    subtract_from_radii,
)
from sksmooth.exceptions import NotCertifiableError, UncoveredPreprocessingWarning

FEATURES, LABELS, TEST = ("train_features",), ("train_labels",), ("test_features",)


class Sign(CertifiedClassifierMixin, BaseEstimator):
    """Second of two classes iff the first feature that reaches it is positive.

    The radius is the distance from 0, divided by `n_poisoned`, so that radii show what the steps
    in front made of the input; `target` says what the certificate is said to be about.
    """

    def __init__(self, target=FEATURES, tail=0.25, unit="feature units"):
        self.target = target
        self.tail = tail
        self.unit = unit

    def fit(self, X, y):
        X, y = validate_data(self, X, y)
        self.classes_ = np.unique(y)
        self.n_samples_fit_ = len(X)
        self.threat_model_ = ThreatModel("l2", self.target, self.unit, exact=True)
        return self

    def _first(self, X):
        check_is_fitted(self)
        return validate_data(self, X, reset=False)[:, 0]

    def predict(self, X):
        return self.classes_[(self._first(X) > 0).astype(int)]

    def certify(self, X, *, n_poisoned=None, return_bounds=False):
        n_poisoned = check_n_poisoned(n_poisoned, self.n_samples_fit_)
        first = self._first(X)
        tail = np.full(len(first), self.tail)
        radii = np.abs(first) / (n_poisoned or 1)
        return self._certificate((first > 0).astype(int), radii, tail, tail, return_bounds)


class Centring(TransformerMixin, BaseEstimator):
    """A transformer from elsewhere: that it ignores y cannot be seen from outside."""

    def fit(self, X, y=None):
        self.mean_ = np.mean(X, axis=0)
        return self

    def transform(self, X):
        return X - self.mean_


class Untagged:
    """Meets the letter of a pipeline's step, and is no scikit-learn estimator."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X


class OtherSearch(BaseEstimator):
    """A search of another package: known by its best_estimator_ alone."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y):
        self.best_estimator_ = clone(self.estimator).fit(X, y)
        return self

    def predict(self, X):
        return self.best_estimator_.predict(X)


class Resampler(BaseEstimator):
    """As in imbalanced-learn: it acts in `fit` and has no `transform`."""

    def fit_resample(self, X, y):
        return X[::2], y[::2]


class ResamplingPipeline(Pipeline):
    """The part of imbalanced-learn's pipeline that this package meets: resamplers as steps."""

    def _validate_steps(self):
        pass

    def fit(self, X, y):
        for _, step in self.steps[:-1]:
            X, y = step.fit_resample(X, y)
        self.steps[-1][1].fit(X, y)
        return self


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(-2, 1, (12, 3)), rng.normal(2, 1, (12, 3))])
    return X, np.repeat(["ham", "spam"], 12)


def doubled(X):
    return 2.0 * X


def flat(X):
    """One row of numbers per sample, whatever a transformer gives."""
    X = X[0] if isinstance(X, tuple) else X
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X).reshape(X.shape[0], -1)


def first_columns(X):
    return [0, 1]


def uncovered(estimator, X, **certify_params):
    """Names in the warnings that `certify` gave, one list per warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        certify(estimator, X, **certify_params)
    found = [w for w in caught if issubclass(w.category, UncoveredPreprocessingWarning)]
    assert all(w.filename == __file__ for w in found)  # it points to the caller's line
    return [
        re.search(r"but not what (.*) learned from them", str(w.message))[1].split(", ")
        for w in found
    ]


def pipeline_fitted(steps, target, data):
    return make_pipeline(*steps, Sign(target=target)).fit(*data)


# --- unwrapping -----------------------------------------------------------------------------------

STATELESS = FunctionTransformer(doubled)


def searches(estimator, grid, **params):
    params = {"cv": 2, **params}
    return [
        GridSearchCV(estimator, grid, **params),
        RandomizedSearchCV(estimator, grid, n_iter=1, random_state=0, **params),
        HalvingGridSearchCV(estimator, grid, min_resources=12, **params),
    ]


WRAPPED = {
    "alone": (Sign(), 1),
    "pipeline": (make_pipeline(STATELESS, Sign()), 2),
    "pipeline of one": (make_pipeline(Sign()), 1),
    "nested at the end": (make_pipeline(STATELESS, make_pipeline(STATELESS, Sign())), 4),
    "nested in front": (make_pipeline(make_pipeline(STATELESS, STATELESS), Sign()), 4),
    "passthrough": (Pipeline([("a", "passthrough"), ("b", STATELESS), ("c", Sign())]), 2),
    "None": (Pipeline([("a", None), ("b", STATELESS), ("c", None), ("d", Sign())]), 2),
    "nested passthrough": (make_pipeline(make_pipeline("passthrough", STATELESS), Sign()), 2),
    "union": (make_pipeline(FeatureUnion([("a", STATELESS), ("b", "drop")]), Sign()), 2),
    **{
        f"{type(search).__name__} of {kind}": (search, factor)
        for kind, inner, grid, factor in [
            ("an estimator", Sign(), {"tail": [0.1, 0.2]}, 1),
            ("a pipeline", make_pipeline(STATELESS, Sign()), {"sign__tail": [0.1, 0.2]}, 2),
        ]
        for search in searches(inner, grid)
    },
    "search in a pipeline": (
        make_pipeline(STATELESS, GridSearchCV(Sign(), {"tail": [0.1, 0.2]}, cv=2)),
        2,
    ),
    "search of another package": (OtherSearch(make_pipeline(STATELESS, Sign())), 2),
    "search in a search": (
        GridSearchCV(GridSearchCV(Sign(), {"tail": [0.1]}, cv=2), {"cv": [2, 3]}, cv=2),
        1,
    ),
    "search with several metrics": (
        GridSearchCV(
            Sign(),
            {"tail": [0.1, 0.2]},
            cv=2,
            scoring=["accuracy", "f1_macro"],
            refit="accuracy",
        ),
        1,
    ),
}


@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen"])
@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapped_estimator_is_found_and_certified(name, frozen, data):
    X, y = data
    wrapped, factor = WRAPPED[name]
    fitted = clone(wrapped).fit(X, y)
    if frozen:
        fitted = FrozenEstimator(fitted)
    assert type(find_certifier(fitted)) is Sign
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = certify(fitted, X)
    assert type(result) is CertifiedPrediction
    np.testing.assert_array_equal(result.y_pred, fitted.predict(X))
    # Each step doubles what reaches the estimator: none is left out, none is applied twice.
    np.testing.assert_array_equal(result.radii, factor * np.abs(X[:, 0]))


@pytest.mark.parametrize("routing", [False, True])
def test_steps_are_applied_in_their_order_and_the_best_estimator_is_used(routing, data):
    X, y = data
    steps = [FunctionTransformer(np.abs), FunctionTransformer(np.log), Sign()]
    with sklearn.config_context(enable_metadata_routing=routing):
        # Both tails predict the same: the first of them wins.
        search = GridSearchCV(make_pipeline(*steps), {"sign__tail": [0.2, 0.1]}, cv=2).fit(X, y)
        result = certify(search, X, return_bounds=True)
    np.testing.assert_array_equal(result.radii, np.abs(np.log(np.abs(X[:, 0]))))
    np.testing.assert_array_equal(result.p_b, 0.2)
    assert find_certifier(search) is search.best_estimator_.steps[-1][1]


def test_frozen_around_each_part(data):
    X, y = data
    scaler = StandardScaler().fit(X)
    expected = np.abs(scaler.transform(X)[:, 0])
    inner = Sign().fit(scaler.transform(X), y)
    for model in [
        make_pipeline(FrozenEstimator(scaler), Sign()).fit(X, y),
        # Never fitted as a whole: nothing of it needs to be.
        make_pipeline(FrozenEstimator(scaler), FrozenEstimator(inner)),
        FrozenEstimator(make_pipeline(FrozenEstimator(scaler), FrozenEstimator(inner))),
        make_pipeline(FrozenEstimator(make_pipeline(scaler)), FrozenEstimator(inner)),
        make_pipeline(make_pipeline(FrozenEstimator(scaler)), FrozenEstimator(inner)),
        FrozenEstimator(FrozenEstimator(make_pipeline(FrozenEstimator(scaler), inner))),
    ]:
        assert uncovered(model, X) == []
        np.testing.assert_array_equal(certify(model, X).radii, expected)
        assert type(find_certifier(model)) is Sign


def test_the_found_estimator_is_the_one_inside_and_not_its_wrapper(data):
    inner = Sign().fit(*data)
    assert find_certifier(inner) is inner
    assert find_certifier(FrozenEstimator(inner)) is inner
    assert find_certifier(FrozenEstimator(FrozenEstimator(inner))) is inner
    assert find_certifier(make_pipeline(STATELESS, FrozenEstimator(inner))) is inner


def test_a_pipeline_with_a_cache(data, tmp_path):
    X, y = data
    model = make_pipeline(StandardScaler(), Sign(), memory=str(tmp_path))
    for _ in range(2):  # the second time the scaler comes from the cache
        model.fit(X, y)
        assert uncovered(model, X) == [["StandardScaler"]]
        with pytest.warns(UncoveredPreprocessingWarning):
            result = certify(model, X)
        np.testing.assert_array_equal(result.radii, np.abs(model[:-1].transform(X)[:, 0]))


def test_a_resampler_acts_in_fit_alone(data):
    X, y = data
    model = ResamplingPipeline([("half", Resampler()), ("sign", Sign())]).fit(X, y)
    with pytest.warns(UncoveredPreprocessingWarning, match="not what Resampler learned"):
        result = certify(model, X)
    np.testing.assert_array_equal(result.radii, np.abs(X[:, 0]))


UNFITTED = {
    "alone": Sign(),
    "pipeline": make_pipeline(StandardScaler(), Sign()),
    "frozen": FrozenEstimator(Sign()),
    "frozen pipeline": FrozenEstimator(make_pipeline(StandardScaler(), Sign())),
    "frozen at the end": make_pipeline(STATELESS, FrozenEstimator(Sign())),
    **{type(s).__name__: s for s in searches(Sign(), {"tail": [0.1]})},
    "search in a pipeline": make_pipeline(STATELESS, GridSearchCV(Sign(), {"tail": [0.1]})),
}


@pytest.mark.parametrize("name", UNFITTED)
def test_what_is_not_fitted_is_an_error(name, data):
    model = UNFITTED[name]
    outermost = model.estimator if isinstance(model, FrozenEstimator) else model
    for function in (lambda est: certify(est, data[0]), find_certifier):
        if function is find_certifier and isinstance(outermost, Sign):
            assert find_certifier(model) is outermost
            continue
        # It names what the user has at hand and forgot to fit.
        with pytest.raises(
            NotFittedError, match=f"^This {type(outermost).__name__} instance is not"
        ):
            function(model)


def test_a_step_that_is_not_fitted_is_an_error_without_a_warning(data):
    X, y = data
    # The last step is fitted, so that the pipeline looks as if it were.
    model = make_pipeline(StandardScaler(), FrozenEstimator(Sign().fit(X, y)))
    with warnings.catch_warnings(), pytest.raises(NotFittedError, match="StandardScaler"):
        warnings.simplefilter("error")
        certify(model, X)


def test_a_search_without_refit_says_so(data):
    X, y = data
    for search in searches(Sign(), {"tail": [0.1, 0.2]}, refit=False):
        for fitted in (search, search.fit(X, y), make_pipeline(STATELESS, search).fit(X, y)):
            for function in (lambda est: certify(est, X), find_certifier):
                with pytest.raises(NotFittedError, match=f"{type(search).__name__}.*refit=False"):
                    function(fitted)


def test_no_certificate_is_an_error_that_names_what_has_none(data):
    X, y = data
    plain = LogisticRegression()
    for model, name in [
        (plain, "LogisticRegression"),
        (plain.fit(X, y), "LogisticRegression"),
        (make_pipeline(StandardScaler(), plain).fit(X, y), "LogisticRegression"),
        (GridSearchCV(plain, {"C": [1, 2]}, cv=2).fit(X, y), "LogisticRegression"),
        (FrozenEstimator(plain), "LogisticRegression"),
        (Pipeline([("a", STATELESS), ("b", "passthrough")]).fit(X, y), "str"),
        (VotingClassifier([("a", Sign())]).fit(X, y), "VotingClassifier"),
        # It has cv_results_, estimator and refit, as a search has; its predictions are others.
        (
            TunedThresholdClassifierCV(plain, cv=2, store_cv_results=True).fit(X, y),
            "TunedThresholdClassifierCV",
        ),
        (None, "NoneType"),
        ("estimator", "str"),
    ]:
        for function in (lambda est: certify(est, X), find_certifier):
            with pytest.raises(NotCertifiableError, match=f"^{name} has no certify method"):
                function(model)
            with pytest.raises(TypeError):  # for whoever imports nothing from this package
                function(model)
    with pytest.raises(TypeError, match="is a class, not an instance"):
        certify(Sign, X)


# --- the warning ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        ([], None),
        ([FunctionTransformer(doubled)], None),
        ([Normalizer(), FunctionTransformer()], None),
        (["passthrough"], None),
        ([StandardScaler()], ["StandardScaler"]),
        ([Normalizer(), StandardScaler(), PCA(2)], ["StandardScaler", "PCA"]),
        ([make_pipeline(Normalizer(), make_pipeline(MinMaxScaler()))], ["MinMaxScaler"]),
        ([make_pipeline(MinMaxScaler(), Normalizer(), PCA(2))], ["MinMaxScaler", "PCA"]),
        ([make_pipeline(Normalizer(), FunctionTransformer())], None),
        ([FeatureUnion([("a", Normalizer()), ("b", PCA(1))])], ["PCA"]),
        ([FeatureUnion([("a", Normalizer()), ("b", "passthrough")])], None),
        ([ColumnTransformer([("a", "passthrough", [0, 2])])], None),
        (
            [ColumnTransformer([("a", "passthrough", [1])], remainder=MaxAbsScaler())],
            ["MaxAbsScaler"],
        ),
        ([ColumnTransformer([("a", Normalizer(), [0, 1]), ("b", "drop", [2])])], None),
        (
            [ColumnTransformer([("a", StandardScaler(), [0])], remainder=make_pipeline(PCA()))],
            ["StandardScaler", "PCA"],
        ),
        (
            [ColumnTransformer([("a", Normalizer(), first_columns)])],
            ["ColumnTransformer"],
        ),
        ([SelectKBest(k=2)], ["SelectKBest"]),
        ([Centring()], ["Centring"]),
        ([Untagged()], ["Untagged"]),
    ],
)
def test_uncovered_steps_when_features_are_under_attack(steps, names, data):
    for target in (FEATURES, FEATURES + LABELS, FEATURES + TEST):
        model = Pipeline([(f"s{i}", s) for i, s in enumerate(steps)] + [("e", Sign(target))])
        model.fit(*data)
        expected = [] if names is None else [names]
        assert uncovered(model, data[0]) == expected
        assert uncovered(FrozenEstimator(model), data[0]) == expected
        grid = {"e__tail": [0.1]}
        if not any(isinstance(step, Untagged) for step in steps):  # which cannot be cloned
            assert uncovered(GridSearchCV(model, grid, cv=2).fit(*data), data[0]) == expected


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        ([StandardScaler(), PCA(2), VarianceThreshold()], None),
        ([ColumnTransformer([("a", StandardScaler(), first_columns)])], None),
        ([TargetEncoder(target_type="binary")], ["TargetEncoder"]),
        ([StandardScaler(), SelectKBest(k=2)], ["SelectKBest"]),
        ([PLSRegression(1)], ["PLSRegression"]),
        ([SelectFromModel(LogisticRegression())], ["SelectFromModel"]),
        ([RFE(LogisticRegression())], ["RFE"]),
        ([SequentialFeatureSelector(DummyClassifier(), cv=2)], ["SequentialFeatureSelector"]),
        ([VotingClassifier([("a", LogisticRegression())], voting="soft")], ["VotingClassifier"]),
        ([make_pipeline(StandardScaler(), SelectKBest(k=1))], ["SelectKBest"]),
        (
            [ColumnTransformer([("t", TargetEncoder(target_type="binary"), [0])])],
            ["TargetEncoder"],
        ),
        (
            [ColumnTransformer([("a", StandardScaler(), [0])], remainder=SelectKBest(k=1))],
            ["SelectKBest"],
        ),
        (
            [
                FeatureUnion(
                    [
                        ("a", PCA(1)),
                        ("b", make_pipeline(ColumnTransformer([("c", SelectKBest(k=1), [0, 1])]))),
                    ]
                )
            ],
            ["SelectKBest"],
        ),
        # Not known to be blind to labels.
        ([Centring()], ["Centring"]),
        ([Untagged()], ["Untagged"]),
        ([GridSearchCV(PCA(), {"n_components": [1, 2]}, cv=2)], ["GridSearchCV"]),
    ],
)
def test_uncovered_steps_when_labels_are_under_attack(steps, names, data):
    X, y = data
    y = (y == "spam").astype(int)
    for target in (LABELS, LABELS + TEST):
        model = pipeline_fitted([*steps, FunctionTransformer(flat)], target, (X, y))
        assert uncovered(model, X) == ([] if names is None else [names])
    # Nothing that was learned in training can move when only the test input is attacked.
    assert uncovered(pipeline_fitted([*steps, FunctionTransformer(flat)], TEST, (X, y)), X) == []


def test_frozen_parts_of_steps_are_covered(data):
    X, y = data
    y = (y == "spam").astype(int)
    encoder = FrozenEstimator(TargetEncoder(target_type="binary").fit(X, y))
    scaler = FrozenEstimator(StandardScaler().fit(X))
    for target in (FEATURES, LABELS):
        for step in [
            encoder,
            make_pipeline(scaler, encoder),
            FeatureUnion([("a", encoder), ("b", scaler)]),
            FrozenEstimator(FeatureUnion([("a", TargetEncoder(target_type="binary"))]).fit(X, y)),
        ]:
            assert uncovered(pipeline_fitted([step], target, (X, y)), X) == []
    first = FrozenEstimator(TargetEncoder(target_type="binary").fit(X[:, :1], y))
    step = ColumnTransformer([("a", first, [0])], remainder="passthrough")
    assert uncovered(pipeline_fitted([step], LABELS, (X, y)), X) == []


# They take no matrix of features (labels, texts, dicts, pictures, a kernel, a single feature), or
# have no transform.
_NOT_OF_A_MATRIX = {
    "CountVectorizer",
    "DictVectorizer",
    "FeatureHasher",
    "HashingVectorizer",
    "IsotonicRegression",
    "KernelCenterer",
    "LabelBinarizer",
    "LabelEncoder",
    "MultiLabelBinarizer",
    "PatchExtractor",
    "TSNE",
    "TfidfVectorizer",
}
_OF_OTHERS = {
    "ColumnTransformer": [("a", SelectKBest(k=1), [0, 1, 2])],
    "FeatureUnion": [("a", SelectKBest(k=1))],
    "RFE": LogisticRegression(),
    "RFECV": LogisticRegression(),
    "SelectFromModel": LogisticRegression(),
    "SequentialFeatureSelector": LogisticRegression(),
    "SparseCoder": np.eye(3),
    "StackingClassifier": [("a", LogisticRegression())],
    "StackingRegressor": [("a", Ridge())],
    "VotingClassifier": [("a", LogisticRegression())],
    "VotingRegressor": [("a", Ridge())],
}
_QUICK = {
    "k": 1,
    "max_iter": 20,
    "n_clusters": 2,
    "n_components": 1,
    "n_quantiles": 10,
    "random_state": 0,
    "target_type": "binary",
}


@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("name", "cls"),
    [case for case in all_estimators("transformer") if case[0] not in _NOT_OF_A_MATRIX],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_transformer_that_moves_with_labels_is_passed_over(name, cls, data):
    # The oracle is an experiment: fitted on other labels, does it map the same rows elsewhere?
    X = np.abs(data[0])
    transformer = cls(_OF_OTHERS[name]) if name in _OF_OTHERS else cls()
    known = transformer.get_params(deep=False)
    transformer.set_params(**{key: value for key, value in _QUICK.items() if key in known})
    labels = [(X[:, j] > np.median(X[:, j])).astype(int) for j in (0, 2)]
    fitted = [clone(transformer).fit(X, y) for y in labels]
    one, other = (flat(f.transform(X)) for f in fitted)
    moved = one.shape != other.shape or not np.array_equal(one, other)
    threat_model = ThreatModel("l0", LABELS, "labels", exact=True)
    named = _uncovered(fitted[0], threat_model)
    if moved:
        assert named == ["SelectKBest" if name in ("ColumnTransformer", "FeatureUnion") else name]
    # And those that the usual steps of preprocessing come from are not named without a reason.
    if cls.__module__.split(".")[1] in ("decomposition", "impute", "preprocessing"):
        assert bool(named) == moved == (name == "TargetEncoder")


def test_a_warning_is_given_in_every_call_and_once(data):
    X, _ = data
    model = pipeline_fitted([StandardScaler(), MinMaxScaler()], FEATURES, data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            certify(model, X, n_poisoned=2, return_bounds=True)
    assert [w.category for w in caught] == [UncoveredPreprocessingWarning] * 3
    message = str(caught[0].message)
    assert "certificate of Sign covers changes of training features" in message
    assert "StandardScaler, MinMaxScaler" in message and "FrozenEstimator" in message


# --- what goes in and what comes out --------------------------------------------------------------


def test_certify_params_are_passed_on(data):
    X, _ = data
    model = make_pipeline(STATELESS, Sign()).fit(*data)
    plain = certify(model, X)
    assert type(plain) is CertifiedPrediction and plain._fields == ("y_pred", "radii")
    bounds = certify(model, X, n_poisoned=4, return_bounds=True)
    assert type(bounds) is CertifiedBounds
    assert bounds._fields == ("y_pred", "radii", "p_a", "p_b")
    np.testing.assert_array_equal(bounds.radii, plain.radii / 4)
    y_pred, radii = plain
    assert isinstance(y_pred, np.ndarray) and isinstance(radii, np.ndarray)
    with pytest.raises(TypeError, match="unknown"):
        certify(model, X, unknown=1)
    with pytest.raises(ValueError, match="n_poisoned must be None or an integer from 1 to 24"):
        certify(model, X, n_poisoned=25)


def test_frames_and_pandas_output(data):
    pd = pytest.importorskip("pandas")
    X, y = data
    frame = pd.DataFrame(X, columns=["a", "b", "c"], index=np.arange(24)[::-1])
    model = make_pipeline(FunctionTransformer(doubled), Sign()).set_output(transform="pandas")
    model.fit(frame, pd.Series(y))
    assert find_certifier(model).feature_names_in_.tolist() == ["a", "b", "c"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # about feature names, were they lost on the way
        result = certify(model, frame)
    np.testing.assert_array_equal(result.radii, 2 * np.abs(X[:, 0]))
    np.testing.assert_array_equal(result.y_pred, model.predict(frame))
    by_name = ColumnTransformer([("c", "passthrough", ["c"])], verbose_feature_names_out=False)
    model = make_pipeline(by_name, Sign()).set_output(transform="pandas").fit(frame, y)
    np.testing.assert_array_equal(certify(model, frame[["c", "b", "a"]]).radii, np.abs(X[:, 2]))
    with pytest.raises(ValueError, match="feature names should match"):
        certify(Sign().fit(frame, y), frame[["c", "b", "a"]])


@pytest.mark.slow
def test_the_knn_classifier_in_a_pipeline_is_the_one_on_transformed_rows(data):
    X, y = data
    scaler = FrozenEstimator(StandardScaler().fit(X))
    model = make_pipeline(scaler, SmoothedKNNClassifier(n_neighbors=3)).fit(X, y)
    alone = SmoothedKNNClassifier(n_neighbors=3).fit(scaler.transform(X), y)
    for params in ({}, {"n_poisoned": 3, "return_bounds": True}):
        wrapped = certify(model, X[:5], **params)
        direct = alone.certify(scaler.transform(X[:5]), **params)
        assert type(wrapped) is type(direct)
        for ours, theirs in zip(wrapped, direct, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_certify_is_reached_from_the_package():
    assert sksmooth.certify is certify and sksmooth.ThreatModel is ThreatModel


# --- roundings ------------------------------------------------------------------------------------

_TAILS = st.one_of(
    st.floats(0.0, 1.0), st.floats(0.0, 1e-10), st.floats(1 - 1e-10, 1.0), st.just(2.0**-53)
)


@given(tail_a=_TAILS, p_b=_TAILS)
@example(tail_a=2.0**-54, p_b=1.0)  # 1 - tail_a rounds up to 1
@example(tail_a=0.0, p_b=0.0)
@example(tail_a=1.0, p_b=0.5)
def test_bounds_are_rounded_against_the_certificate(tail_a, p_b):
    model = Sign()
    model.classes_ = np.array(["ham", "spam"])
    top = np.array([1])
    result = model._certificate(top, np.array([0.5]), np.array([tail_a]), np.array([p_b]), True)
    (p_a,), (upper,) = result.p_a, result.p_b
    assert result.y_pred.tolist() == ["spam"]
    exact = 1 - Fraction(tail_a)
    assert 0.0 <= p_a <= exact
    # One rounding of 1 - tail_a and one step down, each at most 2**-53 for numbers below 1.
    assert exact - Fraction(p_a) <= 2 * Fraction(2) ** -53
    # The rest of the probability bounds every other class, so that the smaller bound may be told.
    assert upper == min(tail_a, p_b)


_RADII = st.one_of(st.just(-1.0), st.just(0.0), st.floats(0.0, 1e300), st.floats(0.0, 10.0))
_CHARGES = st.one_of(st.just(0.0), st.floats(0.0, 1e300), st.floats(0.0, 1e-12))


@given(radius=_RADII, charge=_CHARGES)
@example(radius=1.0, charge=2.0**-60)  # the difference rounds back to 1
@example(radius=1.0, charge=1.0)
@example(radius=-1.0, charge=0.0)
def test_a_charge_is_subtracted_downwards(radius, charge):
    (less,) = subtract_from_radii(np.array([radius]), np.array([charge]))
    left = Fraction(radius) - Fraction(charge)
    if less == -1.0:
        # Nothing is given up but what is below one rounding.
        assert radius < 0 or left <= Fraction(float(np.spacing(radius)))
    else:
        assert radius >= 0 and 0 <= Fraction(float(less)) <= left
        # One rounding to nearest and one step down.
        assert left - Fraction(float(less)) <= 2 * Fraction(float(np.spacing(radius)))


def test_a_charge_that_is_no_number_leaves_no_certificate():
    # Nor is an abstention ever undone, whatever the charge.
    radii = np.array([-1.0, -1.0, 0.0, 1.0, 1.0, 1e308])
    charge = np.array([0.0, -9.0, 1.0, np.nan, np.inf, 1e307])
    left = subtract_from_radii(radii, charge)
    assert left[:5].tolist() == [-1.0] * 5
    assert 0 < left[5] < 1e308
    assert subtract_from_radii(np.empty(0), np.empty(0)).shape == (0,)


@pytest.mark.parametrize("n_poisoned", [None, 1, 7, np.int64(3), np.uint8(7), np.int32(1)])
def test_valid_numbers_of_poisoned_rows(n_poisoned):
    checked = check_n_poisoned(n_poisoned, 7)
    assert checked == n_poisoned and (n_poisoned is None or type(checked) is int)


@pytest.mark.parametrize(
    "n_poisoned",
    [0, 8, -1, np.int64(8), True, False, np.True_, 1.0, np.float64(1), "1", [1], np.array(1), 1j],
)
def test_invalid_numbers_of_poisoned_rows(n_poisoned):
    message = f"n_poisoned must be None or an integer from 1 to 7, .*Got {n_poisoned!r} instead"
    with pytest.raises(ValueError, match=re.escape(message).replace(r"\.\*", ".*")):
        check_n_poisoned(n_poisoned, 7)


# --- threat models --------------------------------------------------------------------------------

_SAME = ", for training sets with the same classes"


@pytest.mark.parametrize(
    ("threat_model", "label", "sentence"),
    [
        (
            ThreatModel("l2", FEATURES, "feature units", exact=True),
            "certified l2 radius of training features (feature units)",
            f"changes of training features, by l2 norm in feature units, exactly{_SAME}.",
        ),
        (
            ThreatModel("l2", FEATURES, "units of sigma", exact=True, classes_given=True),
            "certified l2 radius of training features (units of sigma)",
            "changes of training features, by l2 norm in units of sigma, exactly.",
        ),
        (
            ThreatModel("l0", LABELS, "labels", exact=False, confidence_level=0.999),
            "certified l0 radius of training labels (labels)",
            "changes of training labels, by l0 norm in labels, at confidence 0.999 per prediction"
            f"{_SAME}.",
        ),
        (
            ThreatModel("l1", FEATURES + LABELS, "u", False, 0.9, n_statements=50),
            "certified l1 radius of training features and training labels (u)",
            "changes of training features and training labels, by l1 norm in u, at joint "
            f"confidence 0.9 over 50 predictions{_SAME}.",
        ),
        (
            # Training data are not under attack here, and their classes stay what they are.
            ThreatModel("linf", TEST, "u", False, np.float64(0.99)),
            "certified linf radius of the test input's features (u)",
            "changes of the test input's features, by linf norm in u, at confidence 0.99 per "
            "prediction.",
        ),
        (
            ThreatModel("l0", LABELS + TEST, "u", False, 1 - 2.0**-53, n_statements=1),
            "certified l0 radius of training labels and the test input's features (u)",
            "changes of training labels and the test input's features, by l0 norm in u, at "
            f"confidence 0.9999999999999999 per prediction{_SAME}.",
        ),
    ],
)
def test_a_threat_model_in_words(threat_model, label, sentence):
    assert threat_model.radius_label() == label
    assert threat_model.describe() == "Certifies against " + sentence


def test_no_confidence_below_one_is_told_as_one():
    for nines in range(1, 16):
        level = 1 - 10.0**-nines
        text = ThreatModel("l2", TEST, "u", False, level).describe()
        assert float(re.search(r"confidence (\S+) per", text)[1]) == level < 1


@pytest.mark.parametrize(
    "target",
    [(), "train_features", ["train_features"], None, ("train_rows",), (None,), FEATURES * 2],
)
def test_unknown_targets(target):
    with pytest.raises(ValueError, match="target must be a non-empty tuple of .* Got "):
        ThreatModel("l2", target, "u", exact=True)


@pytest.mark.parametrize(
    ("exact", "level"),
    [
        (True, 0.9),
        (False, None),
        (False, 0.0),
        (False, 1.0),
        (False, 95),
        (False, -0.5),
        (False, float("nan")),
    ],
)
def test_an_exact_certificate_has_no_level_and_another_has_one(exact, level):
    with pytest.raises(ValueError, match=f"confidence_level must .*exact={exact}, .*={level}"):
        ThreatModel("l2", FEATURES, "u", exact=exact, confidence_level=level)


@pytest.mark.parametrize("n_statements", [0, -3, 1.5, None, "2"])
def test_invalid_numbers_of_statements(n_statements):
    with pytest.raises(ValueError, match="n_statements must be an integer of at least 1"):
        ThreatModel("l2", FEATURES, "u", False, 0.9, n_statements=n_statements)


def test_a_threat_model_is_a_value():
    one = ThreatModel("l2", FEATURES, "u", exact=True)
    assert (
        one
        == ThreatModel("l2", ("train_features",), "u", True)
        != ThreatModel("l2", LABELS, "u", True)
    )
    assert len({one, pickle.loads(pickle.dumps(one))}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.norm = "l1"
    assert [field.name for field in dataclasses.fields(one)] == [
        "norm",
        "target",
        "unit",
        "exact",
        "confidence_level",
        "n_statements",
        "classes_given",
    ]


# --- shown ----------------------------------------------------------------------------------------


def test_repr_tells_the_threat_model_once_there_is_one(data):
    model = Sign(tail=0.1)
    assert repr(model) == str(model) == "Sign(tail=0.1)"
    model.fit(*data)
    assert repr(model) == f"Sign(tail=0.1)  # {model.threat_model_.describe()}"
    assert repr(clone(model)) == "Sign(tail=0.1)"
    # It can be read back, as the representation of other estimators can.
    assert eval(repr(model)).get_params() == model.get_params()
    with sklearn.config_context(print_changed_only=False):
        assert repr(clone(model)).startswith("Sign(tail=0.1, target=('train_features',)")
    # A wrapper shows parameters; a comment in their midst would swallow the rest of the line.
    for wrapper in (make_pipeline(model), FrozenEstimator(model), GridSearchCV(model, {})):
        assert "Sign(tail=0.1)" in repr(wrapper) and "#" not in repr(wrapper)


def paragraphs(page):
    return re.findall(r'<p class="sksmooth-threat-model">(.*?)</p>', page)


def test_html_tells_the_threat_model_once_there_is_one(data):
    model = Sign(unit="<script> & c")
    for page in (model._repr_html_(), model._repr_mimebundle_()["text/html"]):
        assert "Sign" in page and paragraphs(page) == []
    model.fit(*data)
    escaped = html.escape(model.threat_model_.describe())
    assert "&lt;script&gt; &amp; c" in escaped
    for page in (model._repr_html_(), model._repr_mimebundle_()["text/html"]):
        assert paragraphs(page) == [escaped]
        assert "<script> &" not in page
    assert model._repr_mimebundle_()["text/plain"] == repr(model)
    for wrapper in (make_pipeline(STATELESS, model), GridSearchCV(model, {})):
        assert "Sign" in wrapper._repr_html_() and "<script> &" not in wrapper._repr_html_()
    assert paragraphs(clone(model)._repr_html_()) == []


def test_no_html_where_text_is_asked_for(data):
    model = Sign().fit(*data)
    with sklearn.config_context(display="text"):
        assert not hasattr(model, "_repr_html_")
        assert model._repr_mimebundle_() == {"text/plain": repr(model)}


# --- copies ---------------------------------------------------------------------------------------


def _through_joblib(model):
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize(
    "copied", [lambda m: pickle.loads(pickle.dumps(m)), _through_joblib], ids=["pickle", "joblib"]
)
def test_a_copy_certifies_the_same(copied, data):
    X, y = data
    model = make_pipeline(STATELESS, SmoothedKNNClassifier(n_neighbors=3)).fit(X, y)
    ours, theirs = certify(model, X[:4]), certify(copied(model), X[:4])
    np.testing.assert_array_equal(ours.radii, theirs.radii)
    np.testing.assert_array_equal(ours.y_pred, theirs.y_pred)
    assert find_certifier(copied(model)).threat_model_ == find_certifier(model).threat_model_
    # The answer itself travels too, as it does between processes.
    again = copied(ours)
    assert type(again) is CertifiedPrediction
    np.testing.assert_array_equal(again.radii, ours.radii)


def test_a_clone_is_not_fitted(data):
    model = clone(make_pipeline(STATELESS, Sign()).fit(*data))
    with pytest.raises(NotFittedError):
        certify(model, data[0])
    assert isinstance(Sign(), ClassifierMixin)
