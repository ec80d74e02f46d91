# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sksmooth.exceptions import NotCertifiableError
from sksmooth.metrics import (
    average_certified_radius,
    certified_accuracy,
    certified_rate,
    make_certified_scorer,
)

from ._fakes import Stump, doubled

X = np.array([-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 4.0])[:, np.newaxis]
Y = np.array(["left", "left", "left", "right", "left", "right", "right", "left", "right", "right"])
RADII = np.abs(X[:, 0])
PRED = np.where(X[:, 0] > 0, "right", "left")
WEIGHT = np.arange(1.0, 11.0)
CV = KFold(5)

METRICS = [
    ("accuracy", 1.0, lambda y, p, r, w=None: certified_accuracy(y, p, r, 1.0, sample_weight=w)),
    ("rate", 1.0, lambda y, p, r, w=None: certified_rate(r, 1.0, sample_weight=w)),
    ("acr", None, lambda y, p, r, w=None: average_certified_radius(y, p, r, sample_weight=w)),
]


@pytest.fixture
def stump():
    return Stump().fit(X, Y)


@pytest.mark.parametrize(("metric", "radius", "score"), METRICS)
def test_score_is_the_metric(stump, metric, radius, score):
    scorer = make_certified_scorer(metric, radius=radius)
    assert scorer(stump, X, Y) == score(Y, PRED, RADII)
    assert scorer(stump, X, Y, sample_weight=WEIGHT) == score(Y, PRED, RADII, WEIGHT)
    assert type(scorer(stump, X, Y)) is float


def test_by_hand(stump):
    # Wrong: -0.5 and 1.5. At least 1 away from the threshold: -3 -2 -1 1 1.5 2 4.
    assert make_certified_scorer("rate", radius=1)(stump, X) == 0.7
    assert make_certified_scorer("accuracy", radius=1)(stump, X, Y) == 0.6
    assert make_certified_scorer("acr")(stump, X, Y) == (3 + 2 + 1 + 0.5 + 1 + 2 + 4) / 10
    # Divided among two rows, the radii halve: 3, 2, 2 and 4 reach 1.
    assert make_certified_scorer("rate", radius=1, n_poisoned=2)(stump, X) == 0.4


@pytest.mark.parametrize(("metric", "radius", "score"), METRICS)
@pytest.mark.parametrize(
    "wrap", [lambda est: est, lambda est: make_pipeline(FunctionTransformer(doubled), est)]
)
def test_cross_validation(metric, radius, score, wrap):
    est = wrap(Stump())
    factor = 1 if isinstance(est, Stump) else 2
    scorer = make_certified_scorer(metric, radius=radius)
    expected = [score(Y[test], PRED[test], factor * RADII[test]) for _, test in CV.split(X)]
    assert cross_val_score(est, X, Y, cv=CV, scoring=scorer).tolist() == expected
    several = cross_validate(est, X, Y, cv=CV, scoring={"mine": scorer, "plain": "accuracy"})
    assert several["test_mine"].tolist() == expected
    assert several["test_plain"].tolist() == [
        float(np.mean(Y[test] == PRED[test])) for _, test in CV.split(X)
    ]


@pytest.mark.parametrize(
    ("search", "n_jobs"),
    [
        (GridSearchCV, 1),
        (RandomizedSearchCV, 1),
        pytest.param(GridSearchCV, 2, marks=pytest.mark.slow),  # Starts two processes.
    ],
)
def test_search_picks_the_best_threshold(search, n_jobs):
    thresholds = [-2.75, 0.25, 3.0]
    scorer = make_certified_scorer("acr")
    extra = {"n_iter": 3, "random_state": 0} if search is RandomizedSearchCV else {}
    pipe = make_pipeline(FunctionTransformer(doubled), Stump())
    found = search(
        pipe, {"stump__threshold": thresholds}, scoring=scorer, cv=CV, n_jobs=n_jobs, **extra
    ).fit(X, Y)
    scores = {}
    for threshold in thresholds:
        margin = 2 * X[:, 0] - threshold
        right = np.where(margin > 0, "right", "left") == Y
        # Equal folds: the mean over folds is the mean over rows.
        scores[threshold] = np.mean(np.abs(margin) * right)
    assert found.best_params_ == {"stump__threshold": max(scores, key=scores.get)}
    assert found.best_score_ == pytest.approx(max(scores.values()), rel=1e-14)
    # The fitted search itself, scored with its own scorer: it is unwrapped.
    assert found.score(X, Y) == scorer(found.best_estimator_, X, Y) == scorer(found, X, Y)


@pytest.mark.parametrize("radius", [0, 0.5, np.float64(0.5), np.int64(2), np.array(1.0)])
def test_radius_may_be_any_number(stump, radius):
    scorer = make_certified_scorer("accuracy", radius=radius)
    assert scorer(stump, X, Y) == certified_accuracy(Y, PRED, RADII, float(radius))


def test_repr():
    assert repr(make_certified_scorer("acr")) == "make_certified_scorer('acr')"
    assert (
        repr(make_certified_scorer(radius=np.float64(0.5), n_poisoned=3))
        == "make_certified_scorer('accuracy', radius=0.5, n_poisoned=3)"
    )


def test_pickle_clone_and_check_scoring(stump):
    scorer = make_certified_scorer("accuracy", radius=1.0, n_poisoned=2)
    again = pickle.loads(pickle.dumps(scorer))
    assert repr(again) == repr(scorer)
    assert again(stump, X, Y) == scorer(stump, X, Y)
    assert check_scoring(stump, scoring=scorer) is scorer
    copied = clone(GridSearchCV(stump, {}, scoring=scorer)).scoring
    assert copied(stump, X, Y) == scorer(stump, X, Y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "f1"}, 'metric must be "accuracy", "rate" or "acr", got \'f1\''),
        ({"metric": "accuracy"}, 'radius is required for the metric "accuracy"'),
        ({"metric": "rate"}, 'radius is required for the metric "rate"'),
        ({"metric": "acr", "radius": 0.0}, 'radius must be None for the metric "acr", got 0.0'),
        ({"radius": -0.5}, "radius must be finite and at least 0, got -0.5"),
        ({"radius": np.nan}, "radius must be finite and at least 0, got nan"),
        ({"radius": [0.5, 1.0]}, r"radius must be one number.* Got \[0.5, 1.0\]"),
        ({"radius": "1"}, "radius must be integers or floats"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_certified_scorer(**arguments)


@pytest.mark.parametrize(("metric", "radius"), [("accuracy", 0.5), ("acr", None)])
def test_labels_are_required(stump, metric, radius):
    with pytest.raises(ValueError, match=f'y is required for the metric "{metric}"'):
        make_certified_scorer(metric, radius=radius)(stump, X)


def test_what_cannot_certify_is_refused():
    plain = DummyClassifier().fit(X, Y)
    with pytest.raises(NotCertifiableError):
        make_certified_scorer("acr")(plain, X, Y)


def weighted_score(test):
    return certified_accuracy(Y[test], PRED[test], RADII[test], 1.0, sample_weight=WEIGHT[test])


def test_metadata_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_certified_scorer("accuracy", radius=1.0)
        with pytest.raises(ValueError, match=r"sample_weight.*not explicitly set"):
            cross_validate(Stump(), X, Y, cv=CV, scoring=scorer, params={"sample_weight": WEIGHT})
        assert scorer.set_score_request(sample_weight=True) is scorer
        scores = cross_validate(
            Stump(), X, Y, cv=CV, scoring=scorer, params={"sample_weight": WEIGHT}
        )["test_score"]
        assert scores.tolist() == [weighted_score(test) for _, test in CV.split(X)]

        scorer.set_score_request(sample_weight="importance")
        search = GridSearchCV(Stump(), {}, scoring=scorer, cv=CV).fit(X, Y, importance=WEIGHT)
        expected = np.mean([weighted_score(test) for _, test in CV.split(X)])
        assert search.best_score_ == pytest.approx(expected, rel=1e-14)
        # Pickled with its request.
        again = pickle.loads(pickle.dumps(scorer))
        assert again.get_metadata_routing().score.requests == {"sample_weight": "importance"}

        # Of two scorers, each gets what it asked for.
        plain = make_certified_scorer("accuracy", radius=1.0)
        plain.set_score_request(sample_weight=False)
        both = {"weighted": scorer.set_score_request(sample_weight=True), "plain": plain}
        scores = cross_validate(
            Stump(), X, Y, cv=CV, scoring=both, params={"sample_weight": WEIGHT}
        )
        folds = [test for _, test in CV.split(X)]
        assert scores["test_weighted"].tolist() == [weighted_score(test) for test in folds]
        assert scores["test_plain"].tolist() == [
            certified_accuracy(Y[test], PRED[test], RADII[test], 1.0) for test in folds
        ]


def test_requests_need_metadata_routing():
    with pytest.raises(RuntimeError, match="enable_metadata_routing=True"):
        make_certified_scorer("acr").set_score_request(sample_weight=True)


def test_several_scorers_with_weights(stump):
    scorers = {
        "a": make_certified_scorer("accuracy", radius=1.0),
        "b": make_certified_scorer("rate", radius=1.0),
    }
    scored = check_scoring(stump, scoring=scorers)(stump, X, Y, sample_weight=WEIGHT)
    assert scored == {
        "a": certified_accuracy(Y, PRED, RADII, 1.0, sample_weight=WEIGHT),
        "b": certified_rate(RADII, 1.0, sample_weight=WEIGHT),
    }
