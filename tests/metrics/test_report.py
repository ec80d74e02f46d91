# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sksmooth.exceptions import NotCertifiableError
from sksmooth.metrics import certificate_report

from ._fakes import PlainStump, Stump, doubled

pandas = pytest.importorskip("pandas")

X = np.array([[3.0], [0.1], [-2.0], [-0.2], [0.0], [2.0]])
Y = np.array(["right", "right", "left", "right", "left", "left"])
# Weakest first; abstentions (within 0.25 of the threshold), then the tie at 2, in order of X.
ORDER = [1, 3, 4, 2, 5, 0]


@pytest.fixture
def stump():
    return Stump(deadband=0.25).fit(X, Y)


def test_by_hand(stump):
    report = certificate_report(stump, X, Y)
    assert report.index.tolist() == ORDER
    columns = ["y_pred", "radius", "certified", "p_a", "p_b", "y_true", "correct"]
    assert report.columns.tolist() == columns
    assert report["y_pred"].tolist() == ["right", "left", "left", "left", "right", "right"]
    assert report["radius"].tolist() == [-1, -1, -1, 2, 2, 3]
    assert report["certified"].tolist() == [False] * 3 + [True] * 3
    assert report["y_true"].tolist() == Y[ORDER].tolist()
    assert report["correct"].tolist() == [True, False, True, True, False, True]
    result = stump.certify(X, return_bounds=True)
    assert report["p_a"].tolist() == result.p_a[ORDER].tolist()
    assert report["p_b"].tolist() == result.p_b[ORDER].tolist()
    assert report["certified"].dtype == report["correct"].dtype == bool
    assert report.attrs == {"threat_model": stump.threat_model_.describe()}


def test_without_labels_or_bounds(stump):
    assert certificate_report(stump, X).columns.tolist() == [
        "y_pred",
        "radius",
        "certified",
        "p_a",
        "p_b",
    ]
    for est, params in ((PlainStump().fit(X, Y), {}), (stump, {"return_bounds": False})):
        report = certificate_report(est, X, **params)
        assert report.columns.tolist() == ["y_pred", "radius", "certified"]


def test_certify_params(stump):
    report = certificate_report(stump, X, n_poisoned=4)
    assert report["radius"].tolist() == [-1, -1, -1, 0.5, 0.5, 0.75]


def test_index_of_a_frame_is_kept(stump):
    names = ["e", "a", "a", "b", "d", "c"]
    frame = pandas.DataFrame(X, columns=["x"], index=pandas.Index(names, name="mail"))
    est = Stump(deadband=0.25).fit(frame, Y)
    # The labels come in the order of the rows; their own index says nothing.
    y = pandas.Series(Y, index=range(6, 0, -1))
    report = certificate_report(est, frame, y)
    assert report.index.tolist() == [names[row] for row in ORDER]
    assert report.index.name == "mail"
    assert report["y_true"].tolist() == Y[ORDER].tolist()
    assert certificate_report(stump, X.tolist()).index.tolist() == ORDER


def test_integer_radii_stay_integers():
    class Flips(PlainStump):
        def certify(self, X):
            result = super().certify(X)
            return result._replace(radii=np.floor(result.radii).astype(np.int64))

    report = certificate_report(Flips().fit(X, Y), X)
    assert report["radius"].dtype == np.int64
    assert report["radius"].tolist() == [0, 0, 0, 2, 2, 3]
    # A radius of 0 is a certificate, not an abstention.
    assert report["certified"].all()


def test_pipeline_is_unwrapped():
    pipe = make_pipeline(FunctionTransformer(doubled), Stump(deadband=0.25)).fit(X, Y)
    report = certificate_report(pipe, X, Y)
    assert report["radius"].tolist() == [-1, -1, 0.4, 4, 4, 6]
    assert "p_a" in report.columns


def test_refuses(stump):
    with pytest.raises(ValueError, match="y_true must have one entry per row"):
        certificate_report(stump, X, Y[:-1])
    with pytest.raises(ValueError, match="y_true holds numbers and y_pred holds strings"):
        certificate_report(stump, X, np.arange(6))
    with pytest.raises(NotCertifiableError):
        certificate_report(DummyClassifier().fit(X, Y), X)

    class TwoRadii(PlainStump):
        def certify(self, X):
            result = super().certify(X)
            return result._replace(radii=np.column_stack([result.radii] * 2))

    with pytest.raises(ValueError, match="several radii per row"):
        certificate_report(TwoRadii().fit(X, Y), X)
