# SPDX-License-Identifier: BSD-3-Clause
"""Whether a record says what the parameters of its estimator imply: noise, unit, counts, values.

Each of these parts follows from the others of an honest record, so that a larger claim needs more
than one part changed, and then says so in the parameters that its reader sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from ._kinds import is_whole

# What is compared must be there: one that is missing would read as its default.
_NEEDED = {
    "RABEnsembleClassifier": ["noise", "q", "columns", "classes", "sigma", "grid"],
    "DiscreteEnsembleClassifier": ["q", "columns", "classes", "perturb", "categories"],
    "RandomizedSmoothingClassifier": ["noise", "q", "discrete", "sigma", "grid"],
    "SmoothedKNNClassifier": ["sigma"],
    "LabelFlipRidgeClassifier": ["q", "fit_intercept", "classes"],
}

# Every tenth member chooses the class where others bound it (correction="holdout").
_EVERY = 10


def unlike_the_parameters(record: dict[str, Any]) -> Iterator[str]:
    """Yield where theorem, threat model or counts are not those that the parameters imply."""
    n_features = record.get("n_features")
    if not (is_whole(n_features) and n_features >= 1):
        yield f"n_features={n_features!r}"
        return
    missing = [k for k in _NEEDED[record["estimator"]] if k not in record["parameters"]]
    if missing:
        yield f"no {', '.join(missing)} in the parameters"
        return
    yield from _other_noise(record)
    yield from _other_values(record)
    yield from _other_unit(record)
    yield from _other_columns(record)
    given = record["parameters"].get("classes") is not None
    if record["threat_model"].get("classes_given") is not given:
        yield f"classes_given={not given}, and {'some' if given else 'none'} in the parameters"
    yield from _other_counts(record)


def noise_of(estimator: str, params: dict[str, Any]) -> Any:
    """Return the noise that the parameters of an estimator ask for."""
    fixed = {
        "DiscreteEnsembleClassifier": "categorical",
        "SmoothedKNNClassifier": "gaussian",
        "LabelFlipRidgeClassifier": "flips",
    }
    if estimator in fixed:
        return fixed[estimator]
    mixed = params.get("q") if estimator == "RABEnsembleClassifier" else params.get("discrete")
    if params.get("noise") == "gaussian" and mixed not in (None, 0):
        return "joint"
    return params.get("noise")


def _other_noise(record: dict[str, Any]) -> Iterator[str]:
    noise, params = record["theorem"]["noise"], record["parameters"]
    expected = noise_of(record["estimator"], params)
    if noise != expected:
        yield f"noise={noise!r} in the theorem, and what is {expected!r} in the parameters"
    elif noise in ("uniform", "gaussian") and params.get("q", 0) != 0:
        yield f"noise={noise!r} in the theorem, and q={params['q']!r} in the parameters"


def _other_values(record: dict[str, Any]) -> Iterator[str]:
    """Yield where the largest domain is smaller than the parameters, or the classes, say."""
    n_values, n_classes = record["theorem"].get("n_values"), len(record["classes"])
    if record["estimator"] == "RABEnsembleClassifier":
        if record["theorem"]["noise"] == "joint" and n_values != n_classes:
            yield f"n_values={n_values!r} of labels of {n_classes} classes"
    elif record["estimator"] == "DiscreteEnsembleClassifier":
        perturb = record["parameters"].get("perturb", [])
        if "train_labels" in perturb and n_values < n_classes:
            yield f"n_values={n_values!r} with labels of {n_classes} classes"
        least = _largest_category(record["parameters"].get("categories"))
        if set(perturb) != {"train_labels"} and n_values < least:
            yield f"n_values={n_values!r} with {least} values in the parameter categories"


def _largest_category(categories: Any) -> int:
    if is_whole(categories):
        return categories
    if not isinstance(categories, list):
        return 0
    nested = [len(values) for values in categories if isinstance(values, list)]
    return max(nested) if nested else len(categories)


def _n_columns(record: dict[str, Any]) -> int:
    """Return how many columns get the noise of the features."""
    name = "discrete" if record["estimator"] == "RandomizedSmoothingClassifier" else "columns"
    columns, n_features = record["parameters"].get(name), int(record["n_features"])
    if columns is None:
        return n_features
    mask = all(isinstance(value, bool) for value in columns)
    n_chosen = sum(columns) if mask else len(columns)
    return n_features - n_chosen if name == "discrete" else n_chosen


def _other_unit(record: dict[str, Any]) -> Iterator[str]:
    unit = record["threat_model"].get("unit")
    expected = _unit_of(record)
    if unit != expected:
        yield f"unit={unit!r}, and the parameters mean {expected!r}"


def _unit_of(record: dict[str, Any]) -> str:
    noise, target = record["theorem"]["noise"], record["threat_model"]["target"]
    if target == ["train_labels"]:
        return "changed labels"
    scaled = isinstance(record["parameters"].get("sigma"), list)
    unit = "units of sigma" if scaled else "feature units"
    unit = "changed values" if noise == "categorical" else unit
    n_columns = _n_columns(record)
    if n_columns < record["n_features"]:
        unit += f" of {n_columns} columns"
        if noise == "categorical" and "train_labels" in target:
            unit += " and of labels"
    if noise == "joint":
        rab = record["estimator"] == "RABEnsembleClassifier"
        unit += " next to " + ("n_flips changed labels" if rab else "n_changes changed others")
    return unit


def _other_columns(record: dict[str, Any]) -> Iterator[str]:
    """Yield where a list with one number for each column has another length."""
    n_columns, sigma = _n_columns(record), record["parameters"].get("sigma")
    if not 1 <= n_columns <= record["n_features"]:
        yield f"noise on {n_columns} of {record['n_features']} columns"
    grid = record["theorem"].get("grid")
    if grid and len(grid["weights"]) != n_columns:
        yield f"{len(grid['weights'])} weights of the grid for {n_columns} columns"
    if isinstance(sigma, list) and record["theorem"]["noise"] != "categorical":
        if len(sigma) != n_columns:
            yield f"{len(sigma)} values of sigma for {n_columns} columns"


def _other_counts(record: dict[str, Any]) -> Iterator[str]:
    """Yield where other numbers of draws are claimed than the parameters ask for."""
    params, sampling, seeds = record["parameters"], record["sampling"], record["seeds"]
    if record["threat_model"].get("exact") is True:
        return
    smoothing = record["estimator"] == "RandomizedSmoothingClassifier"
    name = "n_selection" if smoothing else "n_estimators"
    n, asked = seeds.get(name), params.get(name)
    # A confidence sequence holds whenever one stops: the parameter is then the most of them.
    early = (sampling or params).get("bound") == "anytime"
    counted = is_whole(n) and is_whole(asked) and 1 <= n <= asked
    if not counted or (n < asked and (smoothing or not early)):
        yield f"{name}={n!r} of the seeds, {asked!r} in the parameters"
        return
    if sampling is None:
        return
    most_choosing = n
    if smoothing:
        n = params.get("n_estimation")
    elif sampling.get("correction") == "holdout":
        # No member both chooses and bounds.
        most_choosing = -(-n // _EVERY)
        n -= most_choosing
    for number, row in enumerate(record["rows"]):
        drawn = row.get("n_drawn")
        # Members that failed count as drawn: each row is of all members.
        fits = is_whole(drawn) and 1 <= drawn <= n and (drawn == n or (smoothing and early))
        if not fits:
            yield f"n_drawn={drawn!r} of row {number}, where {n!r} were drawn"
        if sum(row.get("choosing_votes", [])) > most_choosing:
            yield f"more than {most_choosing} votes of row {number} that choose the class"


def why_bounds_do_not_fit(row: dict[str, Any], record: dict[str, Any]) -> str | None:
    """Return why bounds without votes are none of this record's settings; None where they may be.

    Such bounds cannot be computed again. But one that no votes could have given is told.
    """
    tail_a, p_b = Fraction(row["tail_a"]), Fraction(row["p_b"])
    params = record["parameters"]
    if record["threat_model"]["exact"]:
        # The other classes share the rest, and the likeliest has not less than the others. Sums are
        # rounded up, by some ulps.
        n_rivals = max(len(record["classes"]) - 1, 1)
        if p_b * n_rivals < tail_a * (1 - Fraction(1, 10**9)):
            return f"p_b of each of {n_rivals} other classes would be less than tail_a in all"
        return None
    if not params["two_sided"] and p_b < tail_a:
        return "p_b is below tail_a, though no rival has a bound of its own"
    # Were the probability any lower, unanimous votes would be rarer than the error.
    n = record["seeds"]["n_estimators"]
    n -= -(-n // _EVERY) if params["correction"] == "holdout" else 0
    error = (1 - Fraction(str(params["confidence_level"]))) / params["n_statements"]
    least = -math.expm1(math.log(error) / n) * (1 - 1e-9)
    for name, value in (("tail_a", tail_a), ("p_b", p_b)):
        if value < least:
            return f"{name} is below what {n} full votes could show, {least!r}"
    return None


def why_weights_do_not_fit(row: dict[str, Any], theorem: dict[str, Any]) -> str | None:
    """Return why weights of training rows are none of ridge regression with an intercept.

    With an intercept that is not penalised, constant labels are predicted exactly: the weights sum
    to 1, up to rounding, which grows with the condition of the data: 0.2 % of their size was seen
    with features of 1e5. Where it is more, they are no longer those of ridge regression.
    """
    if not theorem["fit_intercept"]:
        return None
    total = math.fsum(row["weights"])
    size = math.fsum(abs(weight) for weight in row["weights"])
    if not abs(total - 1.0) <= 1e-2 * (1.0 + size):
        return f"the weights sum to {total!r}, and with an intercept to 1"
    return None
