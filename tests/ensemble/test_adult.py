# SPDX-License-Identifier: BSD-3-Clause
"""Mixed data as users have it: words, missing values, numbers of very different size."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sksmooth import RABEnsembleClassifier

NAMES = (
    "age workclass fnlwgt education education-num marital-status occupation relationship race sex "
    "capital-gain capital-loss hours-per-week native-country income"
).split()
NUMBERS = ["age", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
WORDS = ["workclass", "marital-status", "occupation", "relationship", "sex"]


@pytest.fixture(scope="module")
def adult():
    """Training rows and labels, test rows and labels of the census data."""
    folder = os.environ.get("SKSMOOTH_DATA")
    path = Path(folder or "") / "adult" / "adult.data.gz"
    if not folder or not path.is_file():
        pytest.skip("needs adult/adult.data.gz in the folder named by SKSMOOTH_DATA")
    frame = pd.read_csv(path, names=NAMES, sep=", ", engine="python", na_values="?", nrows=1300)
    X, y = frame.drop(columns=["income", "fnlwgt"]), frame["income"]
    for name in ("capital-gain", "capital-loss"):
        X[name] = np.log1p(X[name])
    return X[:1000], y[:1000], X[1000:], y[1000:].to_numpy()


def pipeline(learner):
    return make_pipeline(
        make_column_transformer(
            (StandardScaler(), NUMBERS),
            (OneHotEncoder(handle_unknown="ignore", min_frequency=20), WORDS),
        ),
        learner,
    )


@pytest.mark.slow
def test_a_pipeline_on_mixed_data_is_certified_for_its_numbers_and_labels(adult):
    X, y, X_test, y_test = adult
    sigma = 0.5 * X[NUMBERS].std().to_numpy()
    params = {"n_estimators": 40, "sigma": sigma, "q": 0.3, "columns": NUMBERS, "random_state": 0}
    model = RABEnsembleClassifier(pipeline(LogisticRegression()), **params).fit(X, y)
    result = model.certify(X_test, n_flips=[0, 1])
    accuracy = np.mean(result.y_pred == y_test)
    assert accuracy > np.mean(y_test == "<=50K") + 0.03
    assert np.mean(result.radii[:, 0] > 0.5) > 0.4 and np.mean(result.radii[:, 1] >= 0) > 0.3
    assert model.threat_model_.unit == "units of sigma of 5 columns next to n_flips changed labels"
    # Words decide too, and are as they were.
    swapped = X_test.assign(**{"marital-status": "Never-married"})
    assert np.mean(model.predict(swapped) != result.y_pred) > 0.05
    two = RABEnsembleClassifier(pipeline(LogisticRegression()), n_jobs=2, **params).fit(X, y)
    assert_array_equal(two.certify(X_test, n_flips=[0, 1]).radii, result.radii)


@pytest.mark.slow
def test_a_whole_ensemble_is_stored_and_loaded(adult):
    """Certificates, digests and kept votes are the same after pickle, joblib and skops."""
    from skops.io import dumps, get_untrusted_types, loads

    X, y, X_test, _ = adult
    model = RABEnsembleClassifier(
        pipeline(DecisionTreeClassifier(max_depth=4)),
        n_estimators=20,
        columns=NUMBERS,
        q=0.1,
        random_state=0,
        warm_start=True,
    ).fit(X, y)
    result = model.certify(X_test, return_bounds=True, n_flips=[0, 1])
    votes = model.collect_votes(X_test)
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    data = dumps(model)
    trusted = get_untrusted_types(data=data)
    assert all(name.startswith(("sksmooth.", "sklearn.")) for name in trusted)
    for again in (
        pickle.loads(pickle.dumps(model)),
        joblib.load(io.BytesIO(buffer.getvalue())),
        loads(data, trusted=trusted),
    ):
        for old, new in zip(
            result, again.certify(X_test, return_bounds=True, n_flips=[0, 1]), strict=True
        ):
            assert_array_equal(old, new)
        assert_array_equal(again.certify_votes(votes).radii, result.radii[:, 0])
        # It grows as the one that was stored would.
        assert_array_equal(
            again.set_params(n_estimators=22).fit(X, y).test_vectors_[:20], model.test_vectors_
        )
