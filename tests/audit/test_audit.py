# SPDX-License-Identifier: BSD-3-Clause
"""Records: they hold as they are, and are refused once something in them is changed."""

import copy
import json
import re
import subprocess
import sys
from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksmooth import SmoothedKNNClassifier
from sksmooth.audit import certificate_record, verify_record
from sksmooth.audit._canonical import record_digest
from sksmooth.smoothing import JointNoise

from ._records import CASES, data, rab, record_of

mpmath = pytest.importorskip("mpmath")

from sksmooth.audit import _radii, _votes  # noqa: E402  (they need mpmath)


def signed(record):
    """Give a changed record the digest that fits it: then only its contents speak against it."""
    record["digest"] = record_digest(record)
    return record


@pytest.mark.parametrize("name", CASES)
def test_a_record_holds_and_gives_the_same_radii(name):
    record = record_of(name)
    found = verify_record(json.loads(json.dumps(record)))
    assert found.holds, found.reasons
    claimed = np.array([row["radii"] for row in record["rows"]])
    claimed = claimed if record["several"] else claimed[:, 0]
    assert found.radii.shape == claimed.shape
    assert np.any(claimed > 0)
    if name.startswith("ridge") and record["theorem"]["q"] > 0:
        assert np.all(found.radii >= claimed)  # the record shows the prediction, not the vote
    elif claimed.dtype.kind == "i":
        assert_array_equal(found.radii, claimed)
    else:
        np.testing.assert_allclose(found.radii, claimed, rtol=1e-11, atol=1e-11)


# --- changes --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "uniform", "discrete", "cohen", "neighbors", "ridge"])
def test_a_record_with_one_digit_changed_is_refused(name):
    text = json.dumps(record_of(name))
    places = [m.start() for m in re.finditer(r"\d", text)]
    rng = np.random.default_rng(0)
    for place in rng.choice(places, 20, replace=False):
        digit = str((int(text[place]) + rng.integers(1, 10)) % 10)
        changed = text[:place] + digit + text[place + 1 :]
        try:
            found = verify_record(changed)
        except ValueError:  # no longer JSON, as with a leading zero, or another version
            continue
        assert not found.holds
        assert found.reasons[0].startswith("The record was changed")


def set_in(*path):
    """Return a change that sets a value of the record by a function of the old one."""
    *keys, new = path

    def change(record, row):
        at = record
        for key in keys[:-1]:
            at = row if key == "row" else at[key]
        at[keys[-1]] = new(at[keys[-1]])

    return change


def set_level(**params):
    """Return a change of the level, where the votes are and in the threat model."""

    def change(record, row):
        for part in ("sampling", "threat_model", "parameters"):
            record[part].update(params)

    return change


def one_draw_more(record, row=None):
    for drawn in record["rows"]:
        drawn["n_drawn"] += 1
    for part in ("seeds", "parameters"):
        record[part]["n_estimators"] += 1


def coarser_grid(record, row):
    record["theorem"]["grid"]["step"] = record["parameters"]["grid"] = 0.01


def set_parameter(name, new):
    """Return a change of a parameter, in the theorem and of the estimator."""

    def change(record, row):
        for part in ("theorem", "parameters"):
            record[part][name] = new(record[part][name])

    return change


def one_vote_less(record, row):
    row["votes"][row["top"]] -= 1
    row["choosing_votes"] = row["votes"]


OVERCLAIMS = {
    "radius": ("gaussian", set_in("row", "radii", lambda r: [r[0] * (1 + 1e-12)])),
    "radius in l1": ("uniform", set_in("row", "radii", lambda r: [r[0] * (1 + 1e-12)])),
    "radius of flips": ("discrete", set_in("row", "radii", lambda r: [r[0] + 1])),
    "radius of ridge": ("ridge", set_in("row", "radii", lambda r: [r[0] + 1])),
    "radius next to flips": (
        "joint, three classes", set_in("row", "radii", lambda r: [r[0] * (1 + 1e-9)]),
    ),
    "radius of cohen": ("cohen", set_in("row", "radii", lambda r: [r[0] * (1 + 1e-12)])),
    "radius of neighbors": ("neighbors", set_in("row", "radii", lambda r: [r[0] + 1e-6])),
    "negative radius": ("gaussian", set_in("row", "radii", lambda r: [-0.5])),
    "tail": ("gaussian", set_in("row", "tail_a", lambda t: t * 0.999)),
    "tail after a holdout": ("holdout", set_in("row", "tail_a", lambda t: t * 0.999)),
    "tail, all classes": ("gaussian, three classes", set_in("row", "tail_a", lambda t: t * 0.999)),
    "tail, anytime": ("anytime", set_in("row", "tail_a", lambda t: t * 0.999)),
    "tail, bernstein": ("empirical-bernstein", set_in("row", "tail_a", lambda t: t * 0.999)),
    "rival": ("cohen, two-sided", set_in("row", "p_b", lambda p: p * 0.9)),
    "rival, one-sided": ("cohen", set_in("row", "p_b", lambda p: p * 0.9)),
    "votes": ("gaussian", one_vote_less),
    "votes that choose": ("gaussian", set_in("row", "choosing_votes", lambda v: v[::-1])),
    "more votes than draws": ("holdout", set_in("row", "votes", lambda v: [v[0], v[1] + 1])),
    "draws": ("gaussian", one_draw_more),
    "class": ("gaussian", set_in("row", "y_pred", lambda y: "ham" if y == "spam" else "spam")),
    "level": ("gaussian", set_level(confidence_level=0.9991)),
    "statements": ("cohen", set_level(n_statements=2)),
    "correction": ("none", set_level(correction="selection")),
    "sigma": ("gaussian", set_parameter("sigma", lambda s: 0.999 * s)),
    "width": ("uniform", set_in("theorem", "width", lambda w: 0.999 * w)),
    "q": ("discrete", set_parameter("q", lambda q: 0.3 * q)),
    "rows": ("gaussian, three classes", set_in("theorem", "n_poisoned", lambda n: n + 1)),
    "charge of a grid": ("cohen, grid", coarser_grid),
    "label": ("ridge", set_in("theorem", "labels", lambda y: [1 - v for v in y])),
    "weights": ("ridge", set_in("row", "weights", lambda w: [-v for v in w])),
    "missing": ("gaussian", lambda record, row: row.pop("tail_a")),
    "fewer radii": ("no flips", set_in("row", "radii", lambda r: r[:1])),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", OVERCLAIMS)
def test_a_false_claim_is_refused_even_with_a_digest_that_fits(name):
    case, change = OVERCLAIMS[name]
    record = copy.deepcopy(record_of(case))
    number = next(i for i, row in enumerate(record["rows"]) if min(row["radii"]) >= 0)
    change(record, record["rows"][number])
    found = verify_record(signed(record))
    assert not found.holds
    assert any(reason.startswith(f"Row {number}: ") for reason in found.reasons)


def as_gaussian(record):
    record["theorem"]["noise"] = "gaussian"
    record["theorem"]["name"] = record_of("gaussian")["theorem"]["name"]


def without_a_rival(record):
    for row in record["rows"]:
        for name in ("votes", "choosing_votes"):
            del row[name][(row["top"] + 1) % 3]


def without_votes(record):
    for row in record["rows"]:
        del row["votes"]


# What a record says of itself, and its theorem is not about.
DISAGREEMENTS = {
    "norm": ("gaussian", lambda r: r["theorem"].update(norm="linf")),
    "theorem": ("gaussian", lambda r: r["theorem"].update(name="proved by nobody")),
    "norm of the threat": ("uniform", lambda r: r["threat_model"].update(norm="l2")),
    "target": ("gaussian", lambda r: r["threat_model"]["target"].append("test_features")),
    "target of labels": ("gaussian", lambda r: r["threat_model"]["target"].append("train_labels")),
    "unit": ("gaussian", lambda r: r["threat_model"].update(unit="units of sigma")),
    "exact": ("gaussian", lambda r: r["threat_model"].update(exact=True)),
    "level": ("cohen", lambda r: r["threat_model"].update(confidence_level=0.99999)),
    "statements": ("gaussian", lambda r: r["threat_model"].update(n_statements=1000)),
    "estimator": ("gaussian", lambda r: r.update(estimator="SmoothedKNNClassifier")),
    "noise": ("cohen, categorical", lambda r: r["theorem"].update(noise="flips")),
    "changes": ("joint", as_gaussian),
    "sigma": ("neighbors", lambda r: r["theorem"].update(sigma=1e11)),
    "q": ("discrete", lambda r: r["theorem"].update(q=0.01)),
    "classes": ("ridge, three classes", lambda r: r["theorem"].update(n_classes=2)),
    "labels": ("ridge", lambda r: r["theorem"]["labels"].__setitem__(0, 2)),
    "rival": ("gaussian, three classes", without_a_rival),
    "votes": ("cohen", without_votes),
    "votes of members": ("gaussian", without_votes),
    "correction": ("gaussian", lambda r: r["sampling"].update(correction="sure")),
    "bound": ("gaussian", lambda r: r["sampling"].update(bound="sharper")),
    "draws": ("gaussian", lambda r: r["rows"][0].update(n_drawn=10**30)),
    "fewer draws than votes": ("gaussian", lambda r: r["rows"][0].update(n_drawn=199)),
    "width": ("uniform", lambda r: r["theorem"].update(width=1732.0)),
    "sigma of many": ("grid", lambda r: r["theorem"].update(sigma=1000.0)),
    "sigma as text": ("gaussian", lambda r: r["parameters"].update(sigma="0.5")),
    "no grid": ("cohen, grid", lambda r: r["theorem"].update(grid=None)),
    "no weights": ("cohen, grid", lambda r: r["theorem"]["grid"].update(weights=[])),
    "intercept": ("ridge", lambda r: r["theorem"].update(fit_intercept=False)),
    "perturb": (
        "labels",
        lambda r: r["threat_model"].update(
            target=["train_features", "train_labels", "test_features"],
            norm="l0",
            unit="changed values",
        ),
    ),
    "thousandth": ("gaussian", lambda r: r["threat_model"].update(unit="feature units / 1000")),
    "level of scores": ("soft", lambda r: r["threat_model"].update(confidence_level=0.99999)),
    "level of votes": (
        "gaussian",
        lambda r: [r[part].update(confidence_level=0.5) for part in ("sampling", "threat_model")],
    ),
    "choosing": ("cohen", lambda r: [row.update(choosing_votes=row["votes"]) for row in r["rows"]]),
    "smoothing without a price": ("cohen", lambda r: r["sampling"].update(correction="none")),
    "voting": ("discrete", lambda r: (r["parameters"].pop("voting"), without_votes(r))),
    "q beyond 1/2": (
        "discrete",
        lambda r: [r[part].update(q=0.9) for part in ("theorem", "parameters")],
    ),
    "q below 0": (
        "ridge, three classes",
        lambda r: [r[part].update(q=-0.9) for part in ("theorem", "parameters")],
    ),
    "tail as text": ("gaussian", lambda r: r["rows"][0].update(tail_a="1e-999999999")),
    "many changes": ("joint", lambda r: r["theorem"].update(n_changes=[0, 1, 10**5])),
    "no charge": ("neighbors", lambda r: r["rows"][0].pop("charge")),
    "charge": ("neighbors", lambda r: r["rows"][0].update(charge=-0.5)),
    "no entropy": ("cohen", lambda r: r["seeds"].update(entropy=[])),
    "entropy as text": ("gaussian", lambda r: r["seeds"].update(entropy=["1", "2"])),
    "no seeds": ("gaussian", lambda r: r["seeds"].pop("member_seeds_digest")),
    "seeds": ("gaussian", lambda r: r["seeds"].update(member_seeds_digest="0123")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_a_record_that_contradicts_itself_is_refused(name):
    case, change = DISAGREEMENTS[name]
    record = copy.deepcopy(record_of(case))
    change(record)
    found = verify_record(signed(record))
    assert not found.holds
    assert any(reason.startswith("The record ") for reason in found.reasons)
    assert np.all(found.radii == -1)


@pytest.mark.parametrize("name", ["model_digest", "X_digest"])
@pytest.mark.parametrize("value", [None, "", "A" * 64])
def test_a_record_without_digests_is_none(name, value):
    record = {**record_of("ridge"), name: value}
    with pytest.raises(ValueError, match=f"must hold '{name}', a SHA-256 digest. Got"):
        verify_record(signed(record))
    del record[name]
    with pytest.raises(ValueError, match="It has none."):
        verify_record(signed(record))


def test_a_class_is_told_by_one_number_alone():
    # In a list, -1 stands for the last class; the theorem took it for the first.
    record = copy.deepcopy(record_of("ridge, no intercept"))
    row = next(row for row in record["rows"] if row["top"] == 0 and row["radii"][0] >= 0)
    row.update(top=-1, y_pred=record["classes"][1])
    assert not verify_record(signed(record)).holds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 1, "format": 2}', "A key is there twice"),
        ("[" * 10**5, "record must be"),
        ('{"format": "sksmooth certificate record", "version": 1}', "must hold 'theorem'"),
        ('{"format": 1e99999999999999999999}', "record must be JSON"),
    ],
)
def test_what_is_no_record(text, message, tmp_path):
    file = tmp_path / "record.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        verify_record(file)


def test_numbers_that_are_infinite_are_refused():
    record = copy.deepcopy(record_of("ridge"))
    record["rows"][0]["weights"][0] = float("inf")
    assert not verify_record(json.dumps(record)).holds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "place", "name", "value"),
    [
        ("gaussian", "sampling", "confidence_level", -5.0),
        ("gaussian", "sampling", "n_statements", 0.5),
        ("gaussian", "theorem", "n_poisoned", 0.25),
        ("grid", "theorem", "sigma", -1.0),
        ("discrete", "theorem", "q", 1.5),
        ("joint", "theorem", "n_changes", [0, -1, 2]),
        ("cohen, grid", "theorem", "grid", {"step": -0.1, "n_rows": 1, "weights": [1.0]}),
        ("cohen, grid", "theorem", "grid", {"step": 0.1, "n_rows": 1, "weights": [-1.0]}),
        ("neighbors", "rows", "charge", -1.0),
        ("gaussian", "rows", "tail_a", float("nan")),
    ],
)
def test_a_record_of_nonsense_is_refused(case, place, name, value):
    record = copy.deepcopy(record_of(case))
    (record["rows"][0] if place == "rows" else record[place])[name] = value
    if value == value:
        record = signed(record)
    assert not verify_record(record).holds


# --- the verifier's own arithmetic, against exact fractions ---------------------------------------


def exact_tail(n, k, x):
    return sum(comb(n, j) * x**j * (1 - x) ** (n - j) for j in range(k, n + 1))


@pytest.mark.parametrize(
    ("n", "x"), [(1, Fraction(1, 3)), (30, Fraction(9, 10)), (200, Fraction(1, 50))]
)
def test_binomial_tails(n, x):
    for k in range(0, n + 2, max(1, n // 15)):
        exact = exact_tail(n, k, x)
        found = _votes.at_least(n, k, _votes.number(x))
        assert abs(found - _votes.number(exact)) <= _votes.number(exact) * mpmath.mpf(10) ** -40


def test_capital_of_the_confidence_sequence_against_quadrature():
    for n, k, m in [(10, 9, 0.6), (40, 20, 0.3), (25, 25, 0.8)]:
        m = mpmath.mpf(m)
        direct = mpmath.quad(
            lambda u, n=n, k=k, m=m: (1 + u * (1 - m) / m) ** k * (1 - u) ** (n - k), [0, 0.5, 1]
        )
        assert abs(_votes._capital(n, k, m) / direct - 1) < 1e-12


@pytest.mark.parametrize(("q", "n_values"), [(Fraction(1, 5), 2), (Fraction(1, 3), 4)])
def test_steps_and_their_worst_event_against_enumeration(q, n_values):
    r = 3
    before, after = {}, {}
    for noisy in product(range(n_values), repeat=r):  # clean values are 0, changed ones 1
        p = [np.prod([1 - q if v == c else q / (n_values - 1) for v in noisy]) for c in (0, 1)]
        s = sum((v == 0) - (v == 1) for v in noisy)
        before[s], after[s] = before.get(s, 0) + p[0], after.get(s, 0) + p[1]
    chances = _radii._steps(r, q, n_values)
    for s in range(-r, r + 1):
        assert abs(chances[s + r] - _votes.number(before.get(s, 0))) < 1e-50
        assert before.get(-s) == after.get(s)
    # Of all events of a probability of at most alpha, whole values of s: never more than claimed.
    alpha = Fraction(1, 10)
    most = _radii._most_after(chances, _votes.number(alpha))
    for kept in product([0, 1], repeat=2 * r + 1):
        event = [s for s, k in zip(range(-r, r + 1), kept, strict=True) if k]
        if sum(before.get(s, 0) for s in event) <= alpha:
            assert _votes.number(sum((after.get(s, 0) for s in event), Fraction(0))) <= most


@pytest.mark.parametrize("q", [0.01, 0.2])
@pytest.mark.parametrize("n_changes", [1, 2, 3])
def test_joint_radius_next_to_where_it_ends_is_that_of_the_package(q, n_changes):
    # The distribution of the ratio is a staircase there.
    chances = _radii._steps(n_changes, Fraction(q), 2)
    low, high = 1e-12, 0.5
    for _ in range(60):
        middle = (low * high) ** 0.5
        inside = 2 * _radii._most_after(chances, _votes.number(middle)) < 1
        low, high = (middle, high) if inside else (low, middle)
    for distance in (1e-1, 1e-3):
        tail = low * (1 - distance)
        expected = JointNoise(1.0, q, 2).radius(
            np.array([1 - tail]), tail_a=np.array([tail]), n_flips=n_changes
        )
        theorem = {"sigma": 1.0, "q": q, "n_values": 2, "n_changes": [n_changes]}
        (found,) = _radii.joint({"tail_a": tail, "p_b": tail}, theorem)
        assert expected[0] <= float(found) <= expected[0] * (1 + 1e-8) + 1e-9


def test_joint_radius_without_information_in_the_labels_is_the_gaussian_one():
    row = {"tail_a": 0.01, "p_b": 0.01}
    theorem = {"sigma": 1.0, "n_changes": [1], "n_values": 2, "q": 0.5 - 1e-12, "norm": "l2"}
    (found,) = _radii.joint(row, theorem)
    (alone,) = _radii.gaussian(row, theorem)
    assert 0 < alone - found < 1e-9


def top_of(weights, labels, n_classes, fit_intercept, q):
    """The class of the greatest mean score, ties to the first one, in exact fractions."""
    exact = [Fraction(w) for w in weights]
    scores = [
        sum((w for w, y in zip(exact, labels, strict=True) if y == c), Fraction(0))
        for c in range(n_classes)
    ]
    if n_classes == 2 and not fit_intercept:
        return int(q * sum(exact) + (1 - 2 * q) * scores[1] > Fraction(1, 2))
    return scores.index(max(scores))


@pytest.mark.parametrize(("fit_intercept", "n_classes"), [(True, 2), (False, 2), (True, 3)])
def test_worst_flips_against_every_set_of_flips(fit_intercept, n_classes):
    rng, q = np.random.default_rng(3), Fraction(1, 8)
    for _ in range(15):
        weights, labels = rng.normal(size=6), rng.integers(n_classes, size=6)
        top = top_of(weights, labels, n_classes, fit_intercept, q)
        others = np.array(list(product(range(n_classes), repeat=6)))
        n_changed = np.sum(others != labels, axis=1)
        turned = [top_of(weights, y, n_classes, fit_intercept, q) != top for y in others]
        exact = n_changed[turned].min(initial=7) - 1
        theorem = {"labels": labels.tolist(), "n_classes": n_classes, "q": 0.125}
        theorem["fit_intercept"] = fit_intercept
        (found,) = _radii.flips({"weights": weights.tolist(), "top": top}, theorem)
        assert found == exact


# --- use ------------------------------------------------------------------------------------------


def test_verifying_needs_neither_smoothing_nor_confidence(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record_of("joint")))
    code = """
import sys
from sksmooth.audit import verify_record
assert verify_record(sys.argv[1]).holds
rooms = ("sksmooth.smoothing", "sksmooth.confidence")
loaded = [name for name in sys.modules if name.startswith(rooms)]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_command_line(tmp_path):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(record_of("gaussian")))
    bad.write_text(good.read_text().replace("spam", "span"))
    command = [sys.executable, "-m", "sksmooth.audit"]
    done = subprocess.run([*command, str(good)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{good}: holds, 4 rows\n")
    done = subprocess.run([*command, str(good), str(bad)], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{bad}: REFUSED, 4 rows\n  The record was changed" in done.stdout


def test_seeds_and_digests_tell_models_and_inputs_apart():
    X, y = data()
    models = [rab(random_state=s, n_estimators=20).fit(X, y) for s in (0, 0, 1)]
    one, again, other = (certificate_record(m, X[:2], m.certify(X[:2])) for m in models)
    assert one == again
    assert one["model_digest"] != other["model_digest"]
    assert one["seeds"] != other["seeds"]
    elsewhere = certificate_record(models[0], X[2:4], models[0].certify(X[2:4]))
    assert elsewhere["X_digest"] != one["X_digest"]


def test_what_is_refused():
    X, y = data()
    model = rab().fit(X, y)
    result = model.certify(X[:2])
    other = X[[np.argmax(y != y[0]), 1]]
    with pytest.raises(ValueError, match="It is another one"):
        certificate_record(model, other, result)
    with pytest.raises(ValueError, match="It is another one"):
        certificate_record(model, X[:2], result, n_poisoned=2)
    with pytest.raises(TypeError, match="result must be what certify returned"):
        certificate_record(model, X[:2], result.radii)
    pipe = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    with pytest.raises(TypeError, match="est must be one of DiscreteEnsembleClassifier"):
        certificate_record(pipe, X[:2], result)
    with pytest.raises(ValueError, match="must be JSON"):
        verify_record("{nothing")
    with pytest.raises(ValueError, match="must be a 'sksmooth certificate record'"):
        verify_record({"format": "other"})
    with pytest.raises(ValueError, match="must be of version 1"):
        verify_record({**record_of("gaussian"), "version": 2})


def test_labels_of_any_kind_are_written():
    X, y = data()
    for labels in (
        y == "spam",
        (y == "spam") * 2.0,
        (y == "spam").astype(np.int8),
        y.astype(object),
    ):
        model = SmoothedKNNClassifier().fit(X, labels)
        record = certificate_record(model, X[:2], model.certify(X[:2], return_bounds=True))
        assert verify_record(json.loads(json.dumps(record))).holds
        assert record["classes"] == model.classes_.tolist()
