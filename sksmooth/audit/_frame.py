# SPDX-License-Identifier: BSD-3-Clause
"""What a record says of itself: whether its parts are there, and speak of the same theorem."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from ._kinds import are_counts, is_digest, is_number, is_whole
from ._settings import unlike_the_parameters

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
_BOUNDS_OF_SMOOTHING = ["clopper-pearson", "anytime"]
_CORRECTIONS = ["selection", "holdout", "none"]

# With more draws, or more changed values, a check would take minutes. The package itself takes no
# more draws, either.
_MOST_DRAWS, MOST_CHANGES = 10**7, 1000
_MOST_RADII = 1000
# Steps of joint noise, over all different bounds and numbers of changes: some minutes.
_MOST_STEPS = 20_000
_LEAST_LEVEL = 1e-12  # below it the error is 1 in the digits that the verifier has


def check_parts(record: dict[str, Any]) -> None:
    """Raise ValueError where a part of a record is missing, or is of another type."""
    parts: dict[str, Any] = {
        "theorem": dict, "threat_model": dict, "parameters": dict, "classes": list, "rows": list,
        "several": bool, "sampling": (dict, type(None)), "estimator": str, "seeds": dict,
    }  # fmt: skip
    for name, kind in parts.items():
        if not isinstance(record.get(name, ...), kind):
            raise ValueError(f"record must hold {name!r} as it is written. {_got(record, name)}")
    for name in ("model_digest", "X_digest"):
        if not is_digest(record.get(name)):
            raise ValueError(f"record must hold {name!r}, a SHA-256 digest. {_got(record, name)}")
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
    return n_repeats if is_whole(n_repeats) and 1 <= n_repeats <= _MOST_RADII else 1


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
    if not _may_be_target(
        target, record["estimator"], noise, record["parameters"].get("perturb", ())
    ):
        yield f"target={target!r} for {record['estimator']} with {noise} noise"
    norm = "flips" if target == ["train_labels"] else _NORMS[noise]
    if threat.get("norm") != norm:
        yield f"norm={threat.get('norm')!r} in the threat model of {noise} noise"
    if threat.get("exact") is not exact or (exact and sampling is not None):
        yield f"exact={threat.get('exact')!r} of {record['estimator']}"
    level = {"confidence_level": None, "n_statements": 1} if exact else record["parameters"]
    for name in ("confidence_level", "n_statements"):
        if threat.get(name, ...) != level.get(name):
            yield f"another {name} of the threat model than of the parameters"
    if not exact:
        yield from _wrong_sampling(record)
    yield from _other_parameters(record)
    yield from unlike_the_parameters(record)
    if ("n_changes" in theorem) != (noise == "joint"):
        yield f"n_changes of {noise} noise"
    if noise == "joint":
        yield from _too_much_work(record)
    yield from _wrong_rows(record)


def _too_much_work(record: dict[str, Any]) -> Iterator[str]:
    changes = set(record["theorem"]["n_changes"])
    if len(record["theorem"]["n_changes"]) > _MOST_RADII:
        yield f"{len(record['theorem']['n_changes'])} radii in a row, more than {_MOST_RADII}"
    n_bounds = len({(row["tail_a"], row["p_b"]) for row in record["rows"]})
    steps = n_bounds * sum(2 * r + 1 for r in changes if r > 0)
    if steps > _MOST_STEPS:
        yield (
            f"{n_bounds} different bounds next to up to {max(changes)} changes, which take "
            f"{steps} steps to check and may take {_MOST_STEPS}: write fewer rows, or numbers of "
            "changes, in one record"
        )


def _out_of_range(theorem: dict[str, Any], sampling: Any) -> Iterator[str]:
    def within(where: Any, name: str, low: float, high: float = math.inf) -> Iterator[str]:
        value = (where or {}).get(name)
        if value is not None and not (is_number(value) and low < value < high):
            yield f"{name}={value!r}"

    def whole(where: Any, name: str, high: float = math.inf) -> Iterator[str]:
        value = (where or {}).get(name)
        if value is not None and not (is_whole(value) and 1 <= value <= high):
            yield f"{name}={value!r}"

    grid = theorem.get("grid")
    for name in ("sigma", "width"):
        yield from within(theorem, name, 0.0)
    if "q" in theorem:
        # Beyond that a shifted value is likelier than the own one: other events are the likeliest.
        n_values = theorem.get("n_classes" if theorem["noise"] == "flips" else "n_values")
        q = theorem["q"]
        least = 0 if theorem["noise"] == "flips" else math.ulp(0.0)
        if not (is_whole(n_values) and n_values >= 2 and is_number(q) and least <= q):
            yield f"q={q!r} and {n_values!r} values"
        elif Fraction(q) * n_values >= n_values - 1:
            yield f"q={q!r}, which must be below (K - 1)/K with K={n_values}"
    for name in ("n_coordinates", "most_per_row", "n_poisoned", "n_classes"):
        yield from whole(theorem, name)
    yield from whole(theorem, "n_repeats", _MOST_RADII)
    n_values = theorem.get("n_values")
    if n_values is not None and not (is_whole(n_values) and n_values >= 2):
        yield f"n_values={n_values!r}"
    if grid is not None:
        yield from within(grid, "step", 0.0)
        yield from whole(grid, "n_rows")
        weights = grid["weights"]
        if not weights or not all(is_number(w) and w > 0.0 for w in weights):
            yield "a weight of the grid that is none"
    changes = theorem.get("n_changes", [])
    if not isinstance(changes, list) or not all(
        is_whole(r) and 0 <= r <= MOST_CHANGES for r in changes
    ):
        yield f"n_changes={changes!r}"
    if sampling is not None:
        yield from within(sampling, "confidence_level", _LEAST_LEVEL, 1.0)
        yield from whole(sampling, "n_statements")
        for name, known in (("bound", _BOUNDS), ("correction", _CORRECTIONS)):
            if sampling.get(name) not in known:
                yield f"{name}={sampling.get(name)!r}"
        if not isinstance(sampling.get("two_sided"), bool):
            yield f"two_sided={sampling.get('two_sided')!r}"


def _may_be_target(target: Any, estimator: str, noise: str, perturb: Any) -> bool:
    if estimator == "DiscreteEnsembleClassifier":
        subset = [name for name in _TARGETS if isinstance(target, list) and name in target]
        return bool(subset) and target == subset and set(subset) <= set(perturb)
    if estimator == "RandomizedSmoothingClassifier":
        return bool(target == ["test_features"])
    if noise == "flips":
        return bool(target == ["train_labels"])
    return bool(target == ["train_features", *["train_labels"] * (noise == "joint")])


def _wrong_sampling(record: dict[str, Any]) -> Iterator[str]:
    """Yield where votes became bounds in another way than the estimator's."""
    sampling, params, seeds = record["sampling"], record["parameters"], record["seeds"]
    smoothing = record["estimator"] == "RandomizedSmoothingClassifier"
    if sampling is None:
        if smoothing or params.get("voting") != "soft":
            yield f"no sampling with voting={params.get('voting')!r}"
        return
    entropy = seeds["entropy"]
    if not (entropy and all(is_whole(word) and 0 <= word < 2**32 for word in entropy)):
        yield f"entropy={entropy!r:.80} as seeds"
    if not smoothing and not is_digest(seeds["member_seeds_digest"]):
        yield f"member_seeds_digest={seeds['member_seeds_digest']!r:.80}"
    names = ["confidence_level", "n_statements", "two_sided"]
    if not smoothing:
        names += ["bound", "correction"]
        if params.get("voting") != "hard":
            yield f"sampling with voting={params.get('voting')!r}"
    elif sampling["correction"] != "holdout" or sampling["bound"] not in _BOUNDS_OF_SMOOTHING:
        yield f"bound={sampling['bound']!r} with correction={sampling['correction']!r}"
    for name in names:
        if sampling.get(name) != params.get(name):
            yield f"{name}={sampling.get(name)!r} of the votes, {params.get(name)!r} in parameters"


def _other_parameters(record: dict[str, Any]) -> Iterator[str]:
    """Yield where the theorem has another parameter than the estimator."""
    theorem, params = record["theorem"], record["parameters"]
    sigma = params.get("sigma")
    scalar = is_number(sigma)
    if not scalar and not isinstance(sigma, list) and theorem["norm"] in ("l1", "l2"):
        yield f"sigma={sigma!r:.80} in the parameters"
        return
    unit = sigma if scalar else 1.0
    expected = {"sigma": unit, "q": params.get("q"), "fit_intercept": params.get("fit_intercept")}
    for name, value in expected.items():
        if name in theorem and theorem[name] != value:
            yield f"{name}={theorem[name]!r} in the theorem, and {value!r} in the parameters"
    if "width" in theorem and not theorem["width"] <= math.sqrt(12.0) * unit * (1.0 + 1e-12):
        yield f"width={theorem['width']!r} with a standard deviation of {unit!r}"
    if "sigma" not in params:
        return
    grid = theorem.get("grid") or {}
    if grid.get("step") != params.get("grid"):
        yield f"grid={grid.get('step')!r} in the theorem, and {params.get('grid')!r} in parameters"
    if grid:
        weights = grid["weights"]
        wanted = [1.0] * len(weights) if scalar else [1.0 / s for s in sigma]
        if weights != wanted:
            yield "weights of the grid that are not those of sigma"


def _wrong_rows(record: dict[str, Any]) -> Iterator[str]:
    theorem, n_classes = record["theorem"], len(record["classes"])
    labels = theorem.get("labels", [])
    if theorem.get("n_classes", n_classes) != n_classes:
        yield f"n_classes={theorem['n_classes']!r} of {n_classes} classes"
    if not all(is_whole(label) and 0 <= label < n_classes for label in labels):
        yield "labels that are no numbers of classes"
    n_repeats = theorem.get("n_repeats", 1)
    if "n_repeats" in theorem and (theorem["noise"] == "joint" or not record["several"]):
        yield f"n_repeats={n_repeats!r}"
    if len({repr(label) for label in record["classes"]}) < n_classes:
        yield "a class twice"
    if not record["several"] and number_of_radii(theorem) > 1:
        yield "several radii, and that it has one"
    neighbors = record["estimator"] == "SmoothedKNNClassifier"
    for number, row in enumerate(record["rows"]):
        if ("votes" in row) != (record["sampling"] is not None):
            yield f"votes of row {number} without sampling, or none with it"
        for name in ("tail_a", "p_b"):
            if name in row and not is_number(row[name]):
                yield f"{name}={row[name]!r:.80} of row {number}"
        if not all(map(is_number, [*row.get("weights", []), *row["radii"]])):
            yield f"weights or radii of row {number} that are no numbers"
        for name in ("votes", "choosing_votes"):
            if name in row and not are_counts(row[name], n_classes):
                yield f"{name} of row {number} that are not one count for each class"
        if "votes" in row and not (is_whole(row.get("n_drawn")) and row["n_drawn"] <= _MOST_DRAWS):
            yield f"n_drawn={row.get('n_drawn')!r} of row {number}"
        charge = row["charge"] if neighbors else row.get("charge", 0.0)
        if not (is_number(charge) and charge >= 0.0):
            yield f"charge={charge!r} of row {number}"
