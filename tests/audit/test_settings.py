# SPDX-License-Identifier: BSD-3-Clause
"""A record is refused where it claims what its estimator's parameters do not imply.

All radii are -1 here, so that nothing but the contradiction speaks against a record.
"""

import copy
import json
import math
from functools import cache

import numpy as np
import pytest

from sksmooth import SmoothedKNNClassifier
from sksmooth.audit import certificate_record, verify_record
from sksmooth.audit._canonical import record_digest

from ._records import data, discrete, rab, record_of, smoothed

pytest.importorskip("mpmath")


def reasons_against(record):
    for row in record["rows"]:
        row["radii"] = [-1] * len(row["radii"])
    record["digest"] = record_digest(record)
    found = verify_record(json.loads(json.dumps(record)))
    assert found.holds == (not found.reasons)
    return " ".join(found.reasons)


@cache
def more_of(name):
    """Return records that the other tests do not have."""
    estimator, kind = {
        "column": (rab(columns=[0]), "numbers"),
        "three labels": (discrete(perturb=("train_labels",), q=0.2), "three classes"),
        "classes": (rab(classes=["ham", "spam", "other"]), "numbers"),
        "soft": (rab(voting="soft", bound="hoeffding"), "numbers"),
        "coded columns": (discrete(columns=[0, 1, 2]), "codes"),
    }[name]
    X, y = data(kind)
    model = estimator.fit(X, y)
    return certificate_record(model, X[:2], model.certify(X[:2]))


def a_record(name):
    try:
        return copy.deepcopy(more_of(name))
    except KeyError:
        return copy.deepcopy(record_of(name))


def becomes(noise, norm, like):
    """Return a change of all that names the noise, but for the parameters."""

    def change(r):
        sigma = r["parameters"]["sigma"]
        unit = 1.0 if isinstance(sigma, list) else sigma
        scale = {"width": math.sqrt(12.0) * unit} if noise == "uniform" else {"sigma": unit}
        name = record_of(like)["theorem"]["name"]
        r["theorem"] = {"noise": noise, "norm": norm, "name": name, **scale}
        r["threat_model"]["norm"] = norm
        if r["threat_model"]["unit"] == "changed values":
            r["threat_model"]["unit"] = "feature units"

    return change


def rows_with(**values):
    return lambda r: [row.update(values) for row in r["rows"]]


def more_members(r):
    r["seeds"]["n_estimators"] = 10**6
    rows_with(n_drawn=10**6)(r)


def without_failures(r):
    # Failed members vote for nobody; dropped from the draws, the others weigh more.
    for row in r["rows"]:
        votes = [150 if i == row["top"] else 10 for i in range(2)]
        row.update(votes=votes, choosing_votes=votes, n_drawn=160, tail_a=0.5, p_b=0.5)


def same_members_twice(r):
    for row in r["rows"]:
        votes = [180 if i == row["top"] else 0 for i in range(2)]
        row.update(votes=votes, choosing_votes=votes, tail_a=0.5, p_b=0.5)


def unit(text):
    return lambda r: r["threat_model"].update(unit=text)


def classes_given(r):
    r["threat_model"]["classes_given"] = True


UNLIKE = {
    "gaussian of uniform": ("uniform", becomes("gaussian", "l2", "gaussian"), "noise='gaussian'"),
    "uniform of gaussian": ("gaussian", becomes("uniform", "l1", "uniform"), "noise='uniform'"),
    "cohen of uniform": ("cohen, uniform", becomes("gaussian", "l2", "cohen"), "noise='gaussian'"),
    "cohen of values": ("cohen, categorical", becomes("gaussian", "l2", "cohen"), "'categorical'"),
    "no noise on labels": ("joint", lambda r: r["parameters"].update(q=0.0), "noise='joint'"),
    "values of labels": (
        "joint, three classes", lambda r: r["theorem"].update(n_values=2), "labels of 3 classes",
    ),
    "values of changed labels": (
        "three labels", lambda r: r["theorem"].update(n_values=2), "labels of 3 classes",
    ),
    "values of a column": (
        "domains", lambda r: r["theorem"].update(n_values=2), "3 values in the parameter",
    ),
    "stopped early": (
        "cohen, asked", lambda r: r["sampling"].update(bound="clopper-pearson"), "n_drawn=64",
    ),
    "more draws": ("cohen", rows_with(n_drawn=10**6), "n_drawn=1000000"),
    "more draws to choose": (
        "cohen", lambda r: r["seeds"].update(n_selection=10**6), "n_selection=1000000",
    ),
    "more members": ("gaussian", more_members, "n_estimators=1000000 of the seeds"),
    "fewer members": (
        "gaussian", lambda r: r["parameters"].update(n_estimators=1000), "n_estimators=200",
    ),
    "holdout of the same": ("holdout", same_members_twice, "more than 20 votes of row 0"),
    "holdout of all": ("holdout", rows_with(n_drawn=200), "n_drawn=200 of row 0, where 180"),
    "failures dropped": ("gaussian", without_failures, "n_drawn=160 of row 0, where 200"),
    "all columns": ("column", unit("feature units"), "'feature units of 1 columns'"),
    "more columns": ("column", unit("feature units of 9 columns"), "'feature units of 1 columns'"),
    "all values": ("coded columns", unit("changed values"), "of 3 columns and of labels"),
    "numbers and others": ("cohen, mixed", unit("feature units"), "next to n_changes changed"),
    "labels, too": (
        "gaussian", unit("feature units next to n_flips changed labels"), "mean 'feature units'",
    ),
    "values of labels, too": (
        "cohen, categorical", unit("changed values and of labels"), "mean 'changed values'",
    ),
    "classes": ("gaussian", classes_given, "classes_given=True"),
    "classes of neighbors": ("neighbors", classes_given, "classes_given=True"),
    "classes of ridge": ("ridge", classes_given, "classes_given=True"),
    "weights of a grid": (
        "cohen, grid", lambda r: r["theorem"]["grid"].update(weights=[1.0]), "1 weights",
    ),
    "features": ("gaussian", lambda r: r.pop("n_features"), "n_features=None"),
    "a parameter": ("column", lambda r: r["parameters"].pop("columns"), "no columns in the param"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNLIKE)
def test_a_record_that_its_parameters_do_not_imply_is_refused(name):
    case, change, reason = UNLIKE[name]
    record = a_record(case)
    change(record)
    assert reason in reasons_against(record)


@pytest.mark.parametrize(
    "name", ["column", "three labels", "classes", "soft", "coded columns", "joint", "domains"]
)
def test_what_the_parameters_imply_holds(name):
    record = a_record(name)
    assert verify_record(record).holds
    assert record["threat_model"]["classes_given"] is (name == "classes")


def test_members_fitted_until_an_answer_is_known():
    # The parameter is then the most members, and the seeds say how many there are.
    X, y = data("three classes")
    model = rab(bound="anytime", n_estimators=500)
    settled = model.fit_until_settled(X, y, X[:2], radius=0.3)
    assert settled.n_estimators < 500
    record = certificate_record(model, X[:2], model.certify(X[:2]))
    assert record["seeds"]["n_estimators"] == settled.n_estimators
    assert verify_record(record).holds
    for part in ("parameters", "sampling"):
        record[part]["bound"] = "clopper-pearson"
    assert f"n_estimators={settled.n_estimators} of the seeds" in reasons_against(record)


def test_members_that_were_added():
    X, y = data()
    model = rab(n_estimators=100, warm_start=True).fit(X, y)
    with pytest.warns(Warning, match="The ensemble grew"):
        model = model.set_params(n_estimators=150).fit(X, y)
        result = model.certify(X[:2])
        record = certificate_record(model, X[:2], result)
    assert [row["n_drawn"] for row in record["rows"]] == [150, 150]
    assert verify_record(record).holds


def test_parameters_that_are_arrays_of_no_dimensions():
    X, y = data()
    model = rab(sigma=np.array(0.5), n_estimators=50).fit(X, y)
    record = certificate_record(model, X[:2], model.certify(X[:2]))
    assert record["parameters"]["sigma"] == 0.5
    assert verify_record(record).holds


def test_draws_of_smoothing_end_before_the_most():
    X, y = data("three classes")
    model = smoothed().fit(X, y)
    record = certificate_record(model, X[:1], model.certify(X[:1], radius=0.1), radius=0.1)
    assert record["rows"][0]["n_drawn"] < record["parameters"]["n_estimation"]
    assert verify_record(record).holds


# --- rows -----------------------------------------------------------------------------------------


def as_true(record):
    record["classes"] = [1, True]
    for row in record["rows"]:
        row.update(y_pred=True, top=0, choosing_votes=[200, 0], votes=[200, 0])


def light_rivals(record):
    for row in record["rows"]:
        labels = record["theorem"]["labels"]
        pairs = zip(row["weights"], labels, strict=True)
        row["weights"] = [abs(w) * (1 if y == row["top"] else 1e-9) for w, y in pairs]


def two_neighbors():
    X, y = data()
    model = SmoothedKNNClassifier().fit(X, y)
    return certificate_record(model, X[:2], model.certify(X[:2]))


FALSE_ROWS = {
    "a rival without a bound": ("soft", rows_with(p_b=1e-9), "no rival has a bound"),
    "beyond full votes": ("soft", rows_with(tail_a=1e-30, p_b=1e-30), "200 full votes"),
    "the only other class": (two_neighbors, rows_with(p_b=1e-300), "each of 1 other classes"),
    "two other classes": (
        "neighbors",
        rows_with(tail_a=0.4, p_b=0.1),
        "each of 2 other classes",
    ),
    "another label to JSON": ("gaussian", as_true, "y_pred is not class number 0"),
    "a number of a class": ("gaussian", lambda r: r["rows"][0].update(top=True), "number True"),
    "weights of an intercept": ("ridge", light_rivals, "with an intercept to 1"),
}


@pytest.mark.parametrize("name", FALSE_ROWS)
def test_rows_that_no_votes_or_weights_could_give_are_refused(name):
    case, change, reason = FALSE_ROWS[name]
    record = a_record(case) if isinstance(case, str) else case()
    change(record)
    assert reason in reasons_against(record)


# --- what would take too long, and what is no record ----------------------------------------------


def test_what_would_take_hours_to_check_is_refused():
    record = a_record("joint, three classes")
    record["theorem"]["n_changes"] = list(range(1000))
    record["several"] = True
    record["rows"] = record["rows"][:1]
    record["rows"][0]["radii"] = [-1] * 1000
    assert "999999 steps to check" in reasons_against(record)
    record["theorem"]["n_changes"] = [0] * 1001
    record["rows"][0]["radii"] = [-1] * 1001
    assert "1001 radii in a row" in reasons_against(record)
    record = a_record("gaussian")
    for part in ("seeds", "parameters"):
        record[part]["n_estimators"] = 10**7 + 1
    rows_with(n_drawn=10**7 + 1)(record)
    assert "n_drawn=10000001" in reasons_against(record)


def test_the_same_bounds_are_computed_once():
    from sksmooth.audit import _radii

    record = a_record("joint, three classes")
    record["rows"] = record["rows"][:1] * 50
    _radii._shift_of.cache_clear()
    assert not reasons_against(record)
    assert _radii._shift_of.cache_info().misses == 1


@pytest.mark.parametrize("key", ["version", "theorem", "classes", "format", "rows"])
def test_what_is_nested_too_deeply_is_no_record(key):
    deep = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested as deeply|must"):
        verify_record({**a_record("gaussian"), key: deep})


def test_text_is_told_from_paths():
    record = a_record("gaussian")
    assert verify_record("\ufeff" + json.dumps(record)).holds
    for text in ("[1]", "", "  ", "\ufeff"):
        with pytest.raises(ValueError, match="record must be"):
            verify_record(text)
