# SPDX-License-Identifier: BSD-3-Clause
"""What a record says of itself: whether its parts are there, and speak of the same theorem."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeGuard

NAMES = {
    "gaussian": "Gaussian noise: Weber et al., RAB, Corollary 1",
    "gaussian on test inputs": "Gaussian noise: Cohen et al., Theorem 1",
    "uniform": "uniform noise: Weber et al., RAB, Corollary 2, exact in l1",
    "categorical": "categorical noise: Wang et al., section 3, by the Neyman-Pearson lemma",
    "joint": "Gaussian noise next to categorical noise, by the Neyman-Pearson lemma",
    "flips": "ridge regression: Rosenfeld et al., the mean score after the worst flips",
}
_NORMS = {"gaussian": "l2", "joint": "l2", "uniform": "l1", "categorical": "l0", "flips": "flips"}

# What each estimator certifies with each noise, and whether without sampling.
_ADDITIVE = ["gaussian", "uniform"]
_KINDS = {
    "RABEnsembleClassifier": ([*_ADDITIVE, "joint"], False),
    "DiscreteEnsembleClassifier": (["categorical"], False),
    "RandomizedSmoothingClassifier": ([*_ADDITIVE, "joint", "categorical"], False),
    "SmoothedKNNClassifier": (["gaussian"], True),
    "LabelFlipRidgeClassifier": (["flips"], True),
}
_TARGETS = ["train_features", "train_labels", "test_features"]
_BOUNDS = ["clopper-pearson", "hoeffding", "anytime", "empirical-bernstein"]
_CORRECTIONS = ["selection", "holdout", "none"]

# With more draws a check would take minutes.
_MOST_DRAWS = 10**9


def check_parts(record: dict[str, Any]) -> None:
    """Raise ValueError where a part of a record is missing, or is of another type."""
    parts: dict[str, Any] = {
        "theorem": dict, "threat_model": dict, "parameters": dict, "classes": list, "rows": list,
        "several": bool, "sampling": (dict, type(None)), "estimator": str,
    }  # fmt: skip
    for name, kind in parts.items():
        if not isinstance(record.get(name, ...), kind):
            raise ValueError(f"record must hold {name!r} as it is written. {_got(record, name)}")
    for number, row in enumerate(record["rows"]):
        if not isinstance(row, dict) or not isinstance(row.get("radii"), list):
            raise ValueError(f"record must have a list of radii in row {number}. Got {row!r:.80}.")


def _got(record: dict[str, Any], name: str) -> str:
    return f"Got {record[name]!r:.80}." if name in record else "It has none."


def number_of_radii(theorem: dict[str, Any]) -> int:
    """Return how many radii each row has; 1 where that is not to be read."""
    changes, n_repeats = theorem.get("n_changes"), theorem.get("n_repeats")
    if isinstance(changes, list) and changes:
        return len(changes)
    return n_repeats if _is_whole(n_repeats) and n_repeats >= 1 else 1


def disagreements(record: dict[str, Any]) -> Iterator[str]:
    """Yield what no certificate could say: a theorem made too strong, or parts that differ."""
    theorem, sampling, threat = record["theorem"], record["sampling"], record["threat_model"]
    noise = theorem.get("noise")
    kinds, exact = _KINDS.get(record["estimator"], ([], False))
    if noise not in kinds:
        yield f"{record['estimator']} with noise={noise!r}"
        return
    yield from _out_of_range(theorem, sampling)
    on_test = noise == "gaussian" and record["estimator"] == "RandomizedSmoothingClassifier"
    name = NAMES["gaussian on test inputs" if on_test else noise]
    if theorem.get("norm") != _NORMS[noise] or theorem.get("name") != name:
        yield f"norm={theorem.get('norm')!r} and name={theorem.get('name')!r} of {noise} noise"
    target = threat.get("target")
    if not _may_be_target(target, record["estimator"], noise):
        yield f"target={target!r} for {record['estimator']} with {noise} noise"
    norm = "flips" if target == ["train_labels"] else _NORMS[noise]
    if threat.get("norm") != norm:
        yield f"norm={threat.get('norm')!r} in the threat model of {noise} noise"
    if threat.get("exact") is not exact or (exact and sampling is not None):
        yield f"exact={threat.get('exact')!r} of {record['estimator']}"
    level = {"confidence_level": None, "n_statements": 1} if exact else sampling
    if level is not None:
        for name in ("confidence_level", "n_statements"):
            if threat.get(name) != level.get(name):
                yield f"another {name} of the threat model than of the votes"
    if not isinstance(threat.get("classes_given"), bool):
        yield f"classes_given={threat.get('classes_given')!r}"
    yield from _wrong_unit(record)
    for name in ("sigma", "q"):
        given = record["parameters"].get(name)
        if name in theorem and _is_number(given) and theorem[name] != given:
            yield f"{name}={theorem[name]!r} in the theorem, and {given!r} in the parameters"
    if ("n_changes" in theorem) != (noise == "joint"):
        yield f"n_changes of {noise} noise"
    yield from _wrong_rows(record)


def _out_of_range(theorem: dict[str, Any], sampling: Any) -> Iterator[str]:
    def within(where: Any, name: str, low: float, high: float = math.inf) -> Iterator[str]:
        value = (where or {}).get(name)
        if value is not None and not (_is_number(value) and low < value < high):
            yield f"{name}={value!r}"

    def whole(where: Any, name: str, high: float = math.inf) -> Iterator[str]:
        value = (where or {}).get(name)
        if value is not None and not (_is_whole(value) and 1 <= value <= high):
            yield f"{name}={value!r}"

    grid = theorem.get("grid")
    for name in ("sigma", "width"):
        yield from within(theorem, name, 0.0)
    yield from within(theorem, "q", -1.0 if theorem["noise"] == "flips" else 0.0, 1.0)
    for name in ("n_coordinates", "most_per_row", "n_poisoned", "n_repeats", "n_classes"):
        yield from whole(theorem, name)
    n_values = theorem.get("n_values")
    if n_values is not None and not (_is_whole(n_values) and n_values >= 2):
        yield f"n_values={n_values!r}"
    if grid is not None:
        yield from within(grid, "step", 0.0)
        yield from whole(grid, "n_rows")
        if not all(_is_number(w) and w >= 0.0 for w in grid.get("weights", [])):
            yield "a weight of the grid that is none"
    changes = theorem.get("n_changes", [])
    if not isinstance(changes, list) or not all(_is_whole(r) and r >= 0 for r in changes):
        yield f"n_changes={changes!r}"
    if sampling is not None:
        yield from within(sampling, "confidence_level", 0.0, 1.0)
        yield from whole(sampling, "n_statements")
        for name, known in (("bound", _BOUNDS), ("correction", _CORRECTIONS)):
            if sampling.get(name) not in known:
                yield f"{name}={sampling.get(name)!r}"
        if not isinstance(sampling.get("two_sided"), bool):
            yield f"two_sided={sampling.get('two_sided')!r}"


def _may_be_target(target: Any, estimator: str, noise: str) -> bool:
    if estimator == "DiscreteEnsembleClassifier":
        subset = [name for name in _TARGETS if isinstance(target, list) and name in target]
        return bool(subset) and target == subset
    if estimator == "RandomizedSmoothingClassifier":
        return bool(target == ["test_features"])
    if noise == "flips":
        return bool(target == ["train_labels"])
    return bool(target == ["train_features", *["train_labels"] * (noise == "joint")])


def _wrong_unit(record: dict[str, Any]) -> Iterator[str]:
    """Yield where the unit is another one than that of the norm and of `sigma`."""
    unit, sigma = str(record["threat_model"].get("unit")), record["parameters"].get("sigma")
    expected = "feature units" if not isinstance(sigma, list) else "units of sigma"
    if record["threat_model"]["norm"] == "flips":
        expected = "changed labels"
    elif record["threat_model"]["norm"] == "l0":
        expected = "changed values"
    if not unit.startswith(expected):
        yield f"unit={unit!r} with sigma={sigma!r:.80}"


def _wrong_rows(record: dict[str, Any]) -> Iterator[str]:
    theorem, n_classes = record["theorem"], len(record["classes"])
    labels = theorem.get("labels", [])
    if theorem.get("n_classes", n_classes) != n_classes:
        yield f"n_classes={theorem['n_classes']!r} of {n_classes} classes"
    if not all(_is_whole(label) and 0 <= label < n_classes for label in labels):
        yield "labels that are no numbers of classes"
    n_repeats = theorem.get("n_repeats", 1)
    if "n_repeats" in theorem and (theorem["noise"] == "joint" or not record["several"]):
        yield f"n_repeats={n_repeats!r}"
    # Of these estimators each certificate follows from votes.
    from_votes = record["estimator"] == "RandomizedSmoothingClassifier"
    from_votes |= record["parameters"].get("voting") == "hard"
    for number, row in enumerate(record["rows"]):
        if from_votes and "votes" not in row:
            yield f"no votes of row {number}"
        for name in ("votes", "choosing_votes"):
            if name in row and not _are_counts(row[name], n_classes):
                yield f"{name} of row {number} that are not one count for each class"
        if "votes" in row and not (_is_whole(row.get("n_drawn")) and row["n_drawn"] <= _MOST_DRAWS):
            yield f"n_drawn={row.get('n_drawn')!r} of row {number}"
        charge = row.get("charge", 0.0)
        if not (_is_number(charge) and charge >= 0.0):
            yield f"charge={charge!r} of row {number}"


def _are_counts(values: Any, n: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == n
        and all(_is_whole(v) and v >= 0 for v in values)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
