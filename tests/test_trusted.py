# SPDX-License-Identifier: BSD-3-Clause
"""Stored estimators: what skops is told to trust, and models of another version."""

from __future__ import annotations

import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

import sksmooth
from sksmooth import (
    DiscreteEnsembleClassifier,
    LabelFlipRidgeClassifier,
    RABEnsembleClassifier,
    RandomizedSmoothingClassifier,
    SmoothedKNNClassifier,
    _certified,
    trusted_types,
)
from sksmooth.exceptions import OtherVersionWarning

from .ensemble._learners import FitCounter

MODELS = {
    "neighbors": SmoothedKNNClassifier(n_neighbors=3),
    "ridge": LabelFlipRidgeClassifier(q=0.1),
    "ensemble": RABEnsembleClassifier(
        make_pipeline(StandardScaler(), LogisticRegression()), n_estimators=12, random_state=0
    ),
    "trees": RABEnsembleClassifier(
        DecisionTreeClassifier(), noise="uniform", sigma=[1.0, 2.0], n_estimators=12, random_state=0
    ),
    "joint": RABEnsembleClassifier(
        LogisticRegression(), q=0.1, sigma=[1.0, 2.0], grid=2.0**-20, n_estimators=12
    ),
    "evasion": RandomizedSmoothingClassifier(
        LogisticRegression(), noise="uniform", sigma=[1.0, 2.0], n_estimation=500
    ),
    "categories": RandomizedSmoothingClassifier(
        DecisionTreeClassifier(max_depth=2), noise="categorical", q=0.01, n_estimation=500
    ),
}


def data():
    rng = np.random.default_rng(0)
    y = np.arange(30) % 2
    return rng.normal(size=(30, 2)) + y[:, None], np.array(["ham", "spam"])[y]


@pytest.mark.parametrize("name", MODELS)
def test_round_trips_give_the_same_certificates(name):
    X, y = data()
    model = MODELS[name].fit(X, y)
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    stored = skops.io.dumps(model)
    for again in (
        pickle.loads(pickle.dumps(model)),
        joblib.load(io.BytesIO(buffer.getvalue())),
        skops.io.loads(stored, trusted=trusted_types(model)),
    ):
        for old, new in zip(
            model.certify(X, return_bounds=True), again.certify(X, return_bounds=True), strict=True
        ):
            assert_array_equal(old, new)
        assert again.threat_model_ == model.threat_model_
    # Nothing less would do, and nothing else is in the list.
    assert trusted_types(model) == sorted(skops.io.get_untrusted_types(data=stored))
    assert all(t.startswith(("sksmooth.", "sklearn.", "numpy.")) for t in trusted_types(model))


@pytest.mark.parametrize("dtype", ["category", "string", "str", "object", "Int64"])
def test_frames_of_categories_are_stored(dtype):
    values = [0, 1] if dtype == "Int64" else ["a", "b"]
    frame = pd.DataFrame({name: [values[0], values[1]] * 10 for name in "vw"}).astype(dtype)
    base = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    model = DiscreteEnsembleClassifier(base, categories=values, n_estimators=12, random_state=0)
    model.fit(frame, [0, 1] * 10)
    again = skops.io.loads(skops.io.dumps(model), trusted=trusted_types(model, also="pandas"))
    assert_array_equal(again.certify(frame).radii, model.certify(frame).radii)
    assert_array_equal(again.certify(frame.to_numpy()).radii, model.certify(frame).radii)


def test_types_of_other_packages_have_to_be_asked_for():
    X, y = data()
    model = RABEnsembleClassifier(FitCounter(), n_estimators=2).fit(X, y)
    own = f"{FitCounter.__module__}.FitCounter"
    with pytest.raises(ValueError, match=rf"other than sksmooth, sklearn, numpy: \['{own}'\]"):
        trusted_types(model)
    for also in ([own], [own.partition(".")[0]]):
        assert own in trusted_types(model, also=also)
    with pytest.raises(ValueError, match="FitCounter"):
        trusted_types(model, also=["test"])  # the beginning of a name is another package


@pytest.mark.parametrize("name", ["neighbors", "ridge", "ensemble"])
def test_a_model_of_another_version_warns(name, monkeypatch):
    X, y = data()
    model = MODELS[name].fit(X, y)
    stored = pickle.dumps(model), skops.io.dumps(model)
    trusted = trusted_types(model)
    monkeypatch.setattr(_certified, "__version__", "99.0")
    with pytest.warns(OtherVersionWarning, match=f"by sksmooth {sksmooth.__version__} .* 99.0"):
        pickle.loads(stored[0])
    with pytest.warns(OtherVersionWarning):
        again = skops.io.loads(stored[1], trusted=trusted)
    assert_array_equal(again.predict(X), model.predict(X))
    assert not any("version" in key for key in vars(again))
