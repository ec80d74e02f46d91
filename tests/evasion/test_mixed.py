# SPDX-License-Identifier: BSD-3-Clause
"""Numbers and categories in one certificate: Gaussian noise on the ones, categorical on others."""

import os
import pickle
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy.stats import norm
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from sksmooth import RandomizedSmoothingClassifier
from sksmooth.smoothing import JointNoise

JOBS = np.array(["cook", "judge", "smith"])


class Threshold(ClassifierMixin, BaseEstimator):
    """Says yes where x is above a threshold that depends on the job."""

    thresholds = {"cook": -1.0, "judge": 0.0, "smith": 2.0}

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        x, jobs = (X["x"], X["job"]) if hasattr(X, "columns") else (X[:, 0], X[:, 1])
        above = np.asarray(x, dtype=float) > np.array([self.thresholds[j] for j in jobs])
        return self.classes_[above.astype(int)]


def people(n=60, kind="frame"):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": 3.0 * rng.normal(size=n), "job": JOBS[np.arange(n) % 3]})
    y = np.where(frame["x"] > 0, "yes", "no")
    return (frame if kind == "frame" else frame.to_numpy(dtype=object)), y


def smoothed(base=None, **params):
    params = {"sigma": 1.0, "q": 0.2, "n_estimation": 20_000, "random_state": 0, **params}
    params.setdefault("discrete", ["job"])
    return RandomizedSmoothingClassifier(base or Threshold(), **params)


def exact_probability(x, job, q, sigma):
    """Probability of yes for the smoothed classifier."""
    kept = np.where(job[:, None] == JOBS, 1.0 - q, q / 2.0)
    thresholds = np.array([Threshold.thresholds[j] for j in JOBS])
    return np.sum(kept * norm.sf((thresholds - x[:, None]) / sigma), axis=1)


@pytest.mark.parametrize("kind", ["frame", "array"])
def test_shares_are_those_of_the_closed_form(kind):
    X, y = people(kind=kind)
    model = smoothed(discrete=["job"] if kind == "frame" else [1], n_selection=20_000).fit(X, y)
    shares = model.predict_proba(X)[:, 1]
    frame, _ = people()
    exact = exact_probability(frame["x"].to_numpy(), frame["job"].to_numpy(), 0.2, 1.0)
    assert np.abs(shares - exact).max() < 4 * 0.5 / np.sqrt(20_000)


@pytest.mark.slow
def test_no_change_within_the_radius_changes_the_smoothed_class():
    X, y = people(200)
    sizes = []
    for sigma, q in product([0.5, 1.5], [0.1, 0.3]):
        model = smoothed(sigma=sigma, q=q, n_estimation=5000).fit(X, y)
        y_pred, radii = model.certify(X, n_changes=[0, 1])
        x, job, yes = X["x"].to_numpy(), X["job"].to_numpy(), y_pred == "yes"
        for changes in (0, 1):
            rows = radii[:, changes] >= 0
            sizes.append(rows.mean())
            for other in JOBS if changes else [None]:
                changed = np.full(rows.sum(), other) if changes else job[rows]
                moved = x[rows] - np.where(yes[rows], 1.0, -1.0) * radii[rows, changes]
                p = exact_probability(moved, changed, q, sigma)
                # each statement fails with probability 0.001
                wrong = (p > 0.5) != yes[rows]
                assert wrong.sum() <= 1
    assert min(sizes) > 0.1
    assert len(set(sizes)) > 1


def test_radii_are_those_of_the_joint_noise():
    X, y = people()
    model = smoothed().fit(X, y)
    found = model.certify(X, n_changes=[0, 1], return_bounds=True)
    assert isinstance(model.noise_, JointNoise) and model.noise_.n_categories == 3
    expected = model.noise_.radius(found.p_a, found.p_b, tail_a=found.p_b, n_flips=[0, 1])
    np.testing.assert_allclose(found.radii, expected, rtol=1e-6)
    assert_array_equal(model.certify(X).radii, found.radii[:, 0])
    assert np.all(found.radii[:, 1] <= found.radii[:, 0]) and np.any(found.radii[:, 1] > 0)
    assert "next to n_changes changed others" in model.threat_model_.unit
    assert [c.tolist() for c in model.categories_] == [JOBS.tolist()]


@pytest.mark.slow
def test_an_asked_radius_and_a_grid():
    X, y = people()
    model = smoothed(grid=2.0**-10).fit(X, y)
    whole = model.certify(X, n_changes=1).radii
    asked = model.certify(X, n_changes=1, radius=0.2).radii
    assert np.all((whole >= 0.2) >= (asked >= 0.2)) and np.any(asked >= 0.2)
    plain = smoothed().fit(X, y).certify(X, n_changes=1).radii
    both = (plain > 0) & (whole > 0)
    assert np.abs(plain - whole)[both].max() < 0.1  # other noise, rounded
    with pytest.raises(ValueError, match=r"n_changes must be an integer from 0 to 1.*\[0, 1\]"):
        model.certify(X, n_changes=[0, 1], radius=0.2)


@pytest.mark.slow
def test_jobs_pickles_and_batches_change_nothing():
    X, y = people(20)
    model = smoothed(n_estimation=30_000).fit(X, y)
    expected = model.certify(X, n_changes=1).radii
    for other in (
        pickle.loads(pickle.dumps(model)),
        smoothed(n_estimation=30_000, n_jobs=2, batch_size=100).fit(X, y),
    ):
        assert_array_equal(other.certify(X, n_changes=1).radii, expected)
    alone = model.certify(X[7:8], n_changes=1).radii  # a row's answer depends on no other
    assert_array_equal(alone, expected[7:8])


class Looks(DecisionTreeClassifier):
    """Remembers what it was trained on."""

    def fit(self, X, y, sample_weight=None):
        self.seen_ = X
        return super().fit(pd.get_dummies(X), y, sample_weight)

    def predict(self, X):
        assert list(X.dtypes) == list(self.seen_.dtypes) and list(X.columns) == list(
            self.seen_.columns
        )
        return super().predict(pd.get_dummies(X)[list(self.feature_names_in_)])


def test_the_base_sees_frames_as_they_were_given():
    X, y = people(100)
    X["flag"] = np.arange(100) % 2 == 0
    X["grade"] = pd.Categorical(np.array(["low", "mid", "top"])[np.arange(100) % 3], ordered=True)
    X = X[["grade", "x", "flag", "job"]]
    model = smoothed(Looks(), discrete=["flag", "grade", "job"], n_estimation=500).fit(X, y)
    seen = model.estimator_.seen_
    assert list(seen.dtypes) == list(X.dtypes)
    assert 0.05 < np.mean(seen["job"] != X["job"]) < 0.4
    assert 0.05 < np.mean(seen["flag"] != X["flag"]) < 0.4
    assert model.predict(X).shape == (100,)
    assert model.certify(X.iloc[:3], n_changes=[0, 3]).radii.shape == (3, 2)
    mask = [True, False, True, True]
    same = smoothed(Looks(), discrete=mask, n_estimation=500).fit(X, y)
    assert_array_equal(same.predict_proba(X), model.predict_proba(X))


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["boosting", "pipeline"])
def test_real_mixed_data(learner):
    folder = os.environ.get("SKSMOOTH_DATA")
    path = Path(folder or "") / "adult" / "adult.data.gz"
    if not folder or not path.is_file():
        pytest.skip("needs adult/adult.data.gz in the folder named by SKSMOOTH_DATA")
    frame = pd.read_csv(path, header=None, sep=", ", engine="python", nrows=1200)
    names = ["age", "years", "hours", "job", "sex"]
    X, y = frame[[0, 4, 12, 6, 9]].set_axis(names, axis=1), frame[14].to_numpy()
    words = ["job", "sex"]
    if learner == "pipeline":
        base = make_pipeline(
            make_column_transformer((OneHotEncoder(), words), remainder="passthrough"),
            DecisionTreeClassifier(max_depth=5, random_state=0),
        )
    else:
        X = X.astype(dict.fromkeys(words, "category"))
        base = HistGradientBoostingClassifier(max_iter=20, categorical_features="from_dtype")
    sigma = 0.25 * X[["age", "years", "hours"]].std().to_numpy()
    model = smoothed(base, discrete=words, sigma=sigma, q=0.2, n_estimation=3000)
    model.fit(X[:1000], y[:1000])
    y_pred, radii = model.certify(X[1000:1030], n_changes=[0, 1, 2])
    assert np.mean(y_pred == y[1000:1030]) > 0.6
    assert np.mean(radii[:, 0] > 0) > 0.6 and np.mean(radii[:, 1] > 0) > 0.1
    assert model.threat_model_.unit.startswith("units of sigma of 3 columns")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"discrete": ["x", "job"]}, "discrete names all columns"),
        ({"discrete": ["jobs"]}, "discrete must be among those of X"),
        ({"discrete": []}, "discrete must be None or a non-empty list"),
        ({"noise": "uniform"}, "discrete goes with noise='gaussian'"),
        ({"noise": "categorical"}, "discrete goes with noise='gaussian'"),
        ({"q": 0.0}, "q must be above 0 with discrete columns"),
        ({"q": 0.7}, r"q must be a float in \(0, \(K - 1\) / K\)"),
        ({"sigma": [1.0, 1.0]}, r"sigma must be a number or of shape \(1,\)"),
    ],
)
def test_parameters_that_are_refused(params, message):
    X, y = people()
    with pytest.raises(ValueError, match=message):
        smoothed(**params).fit(X, y)


def test_data_that_are_refused():
    X, y = people()
    with pytest.raises(ValueError, match="q > 0 goes with noise='categorical' or discrete columns"):
        smoothed(discrete=None).fit(X[["x"]], y)
    with pytest.raises(ValueError, match=r"at least 2 values.*column 'job'"):
        smoothed().fit(X.assign(job="cook"), y)
    with pytest.raises(ValueError, match="none of them missing"):
        smoothed().fit(X.assign(job=np.where(X.index == 3, np.nan, X.index % 2)), y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        smoothed().fit(X, y[:-1])
    with pytest.raises(ValueError, match="contains NaN"):
        smoothed().fit(X.assign(x=np.where(X.index == 3, np.nan, 0.0)), y)
    model = smoothed().fit(X, y)
    with pytest.raises(ValueError, match=r"Column 'job' must hold one of.*'pope' in row 0"):
        model.predict(X.assign(job="pope"))
    with pytest.raises(ValueError, match="contains NaN"):
        model.certify(X.assign(x=np.nan))
    with pytest.raises(ValueError, match="must be a DataFrame"):
        model.predict(X.to_numpy())
    for bad in (2, -1, 0.5, [0, 2], [[0]]):
        with pytest.raises(ValueError, match="n_changes must be an integer from 0 to 1"):
            model.certify(X, n_changes=bad)
    plain = RandomizedSmoothingClassifier(DecisionTreeClassifier(), n_estimation=1000)
    plain.fit(X[["x"]], y)
    with pytest.raises(ValueError, match="n_changes must be an integer from 0 to 0"):
        plain.certify(X[["x"]], n_changes=1)
    assert plain.certify(X[["x"]], n_changes=[0, 0]).radii.shape == (60, 2)
