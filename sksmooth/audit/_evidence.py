# SPDX-License-Identifier: BSD-3-Clause
"""What a certificate of each estimator follows from."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..confidence import probability_bounds
from ..ensemble import DiscreteEnsembleClassifier, RABEnsembleClassifier
from ..ensemble._digest import digest
from ..ensemble._features import is_frame
from ..evasion import RandomizedSmoothingClassifier
from ..exceptions import DigestError
from ..linear_model import LabelFlipRidgeClassifier
from ..neighbors import SmoothedKNNClassifier
from ..smoothing import GaussianNoise, JointNoise, MixedCategoricalNoise, UniformNoise
from ._frame import NAMES
from ._settings import why_weights_do_not_fit


@dataclass
class Evidence:
    """All that a record says but its answer and its frame.

    Attributes
    ----------
    top : ndarray of shape (n_samples,)
        Numbers of the predicted classes.
    radii : ndarray of shape (n_samples,) or (n_samples, m)
        What the evidence certifies.
    theorem, sampling, seeds : dict
        The theorem with its parameters; how votes become bounds (None without votes); the seeds.
    per_row : dict of str to sequence
        Of each row: votes and bounds, or bounds, or weights.
    """

    top: np.ndarray
    radii: np.ndarray
    theorem: dict[str, Any]
    per_row: dict[str, Any]
    model_digest: str
    X_digest: str
    sampling: dict[str, Any] | None = None
    seeds: dict[str, Any] = field(default_factory=dict)


def evidence_of(est: Any, X: Any, asked: dict[str, Any]) -> Evidence:
    """Collect it again, from a fitted estimator."""
    _check_as_fitted(est)
    collect = next(collect for kind, collect in _COLLECT.items() if isinstance(est, kind))
    return collect(est, X, **asked)


def _check_as_fitted(est: Any) -> None:
    """Raise ValueError where a parameter is known to differ from that of `fit`.

    These alone change no theorem; what changes one is found in the record.
    """
    fitted = {}
    if isinstance(est, RABEnsembleClassifier):
        fitted["test_noise"] = est._noise.test
    elif isinstance(est, SmoothedKNNClassifier):
        fitted["n_neighbors"] = est._n_neighbors
    elif isinstance(est, LabelFlipRidgeClassifier):
        fitted["certificate"] = est._certificate_name
    for name, value in fitted.items():
        if getattr(est, name) != value:
            raise ValueError(
                "No record of this would hold. The parameters of est must be those that it was "
                f"fitted with: {name} was {value!r} and is {getattr(est, name)!r}."
            )


def check_asked(est: Any, asked: dict[str, Any]) -> None:
    """Raise TypeError unless it is an estimator of this package, whose `certify` takes all that."""
    kinds: tuple[type[Any], ...] = tuple(_COLLECT)
    if isinstance(est, kinds):
        check_is_fitted(est)
        known = set(inspect.signature(est.certify).parameters) - {"X", "return_bounds"}
        unknown = sorted(set(asked) - known)
        if unknown:
            raise TypeError(
                "certificate_record takes what certify was asked: for "
                f"{type(est).__name__}, {sorted(known) or 'nothing'} beside X and return_bounds. "
                f"Got {unknown}. Other settings are those of the estimator."
            )
        return
    names = ", ".join(kind.__name__ for kind in kinds)
    raise TypeError(
        f"est must be one of {names}. Got {type(est).__name__}: take the estimator out of "
        "pipelines and searches, and give it the inputs that it sees."
    )


def _digest_of(X: Any) -> str:
    return digest(X if is_frame(X) else np.asarray(X)).hex()


def _model_digest(model: Any) -> str:
    try:
        return digest(model).hex()
    except DigestError as failure:
        # What it says of the noise of test inputs is about ensembles.
        where = str(failure).partition(" Noise that is fixed")[0]
        raise DigestError(f"{where} A record needs the digest of the model.") from failure


def _grid(additive: Any, n_rows: int, n_columns: int) -> dict[str, Any] | None:
    if additive.grid is None:
        return None
    weights = np.ones(n_columns) if additive.sigmas is None else 1.0 / additive.sigmas
    return {"step": additive.grid, "n_rows": n_rows, "weights": weights.tolist()}


def _additive_theorem(noise: Any, additive: Any, changes: Any, *, test: bool) -> dict[str, Any]:
    """Describe Gaussian, uniform and joint noise; `changes` are the numbers of changed others."""
    changes = np.atleast_1d(changes).tolist()
    kind = "uniform" if isinstance(noise, UniformNoise) else "gaussian"
    theorem: dict[str, Any] = {"noise": kind, "norm": "l1" if kind == "uniform" else "l2"}
    theorem["name"] = NAMES[kind + " on test inputs" * (test and kind == "gaussian")]
    if isinstance(noise, JointNoise):
        theorem |= {"noise": "joint", "name": NAMES["joint"], "q": noise.q}
        theorem |= {"n_values": noise.n_categories, "n_changes": changes}
    if kind == "uniform":
        theorem["width"] = noise.width
    else:
        # With one sigma per feature radii are in units of it.
        theorem["sigma"] = 1.0 if additive.sigmas is not None else float(noise.sigma)
    return theorem


def _largest_domain(noise: Any) -> int:
    mixed = isinstance(noise, MixedCategoricalNoise)
    return int(noise._largest_domain if mixed else noise.n_categories)


def _of_ensemble(est: Any, X: Any, **asked: Any) -> Evidence:
    votes = est.collect_votes(X)
    params = est._bound_params()
    holdout = params["correction"] == "holdout"
    counts, n_drawn = votes.argument(holdout=holdout)
    bounds = probability_bounds(counts, n_drawn=n_drawn, **params)
    answer = est.certify_votes(votes, **asked)
    per_row: dict[str, Any] = {"tail_a": bounds.tail_a, "p_b": bounds.p_b}
    sampling = None
    if votes.voting == "hard":
        choosing, bounding = counts if holdout else (counts, counts)
        per_row |= {"choosing_votes": choosing, "votes": bounding}
        per_row["n_drawn"] = np.full(len(bounding), n_drawn)
        sampling = params
    defaults = {"n_flips": 0} if isinstance(est, RABEnsembleClassifier) else {}
    asked = est._checked({"n_poisoned": None, **defaults, **asked})
    return Evidence(
        bounds.top,
        answer.radii,
        _ensemble_theorem(est, asked),
        per_row,
        votes.model_digest,
        votes.X_digest,
        sampling,
        {
            "entropy": est._entropy.tolist(),
            "n_estimators": len(est.estimators_),
            "member_seeds_digest": digest(est.member_seeds_).hex(),
        },
    )


def _ensemble_theorem(est: Any, asked: dict[str, Any]) -> dict[str, Any]:
    n_poisoned = asked["n_poisoned"]
    if isinstance(est, RABEnsembleClassifier):
        additive, n_flips = est._additive, asked["n_flips"]
        theorem = _additive_theorem(est.noise_, additive, n_flips, test=False)
        if theorem["noise"] != "joint" and np.ndim(n_flips):
            theorem["n_repeats"] = len(n_flips)
        n_rows = 1 if n_poisoned is not None else est.n_samples_fit_
        theorem["grid"] = _grid(additive, n_rows, est._reader.positions.size)
        theorem["n_poisoned"] = n_poisoned
        return theorem
    rows = est._values_in_rows()
    return {
        "noise": "categorical",
        "norm": "l0",
        "name": NAMES["categorical"],
        "q": est.noise_.q,
        "n_values": _largest_domain(est.noise_),
        "n_coordinates": int(sum(n_rows * n_values for n_rows, n_values in rows)),
        "n_poisoned": n_poisoned,
        "most_per_row": int(max(n_values for _, n_values in rows)),
    }


def _of_smoothing(est: Any, X: Any, radius: Any = None, n_changes: Any = 0) -> Evidence:
    found = est._estimate(X, radius, n_changes)
    if isinstance(est.noise_, (GaussianNoise, UniformNoise, JointNoise)):
        theorem = _additive_theorem(est.noise_, est._draws, n_changes, test=True)
        theorem["grid"] = _grid(est._draws, 1, est._draws.n_features)
    else:
        theorem = {
            "noise": "categorical",
            "norm": "l0",
            "name": NAMES["categorical"],
            "q": est.noise_.q,
            "n_values": _largest_domain(est.noise_),
            "n_coordinates": int(np.size(est.noise_.n_feature_values)),
        }
    if theorem["noise"] != "joint" and np.ndim(n_changes):
        theorem["n_repeats"] = len(n_changes)
    sampling = {
        "bound": "clopper-pearson" if radius is None else "anytime",
        "correction": "holdout",
        "two_sided": bool(est.two_sided),
        "n_statements": int(est.n_statements),
        "confidence_level": float(est.confidence_level),
    }
    return Evidence(
        found.top,
        est._radii(found.tail_a, found.p_b, n_changes),
        theorem,
        {
            "tail_a": found.tail_a,
            "p_b": found.p_b,
            "choosing_votes": found.selection,
            "votes": found.counts,
            "n_drawn": found.n_draws,
        },
        _model_digest(est.estimator_),
        _digest_of(X),
        sampling,
        {"entropy": est._entropy.tolist(), "n_selection": int(est.n_selection)},
    )


def _of_neighbors(est: Any, X: Any, n_poisoned: Any = None) -> Evidence:
    top, tail_a, p_b, charge = est._bounds(X)
    theorem = {
        "noise": "gaussian",
        "norm": "l2",
        "name": NAMES["gaussian"],
        "sigma": 1.0 if np.ndim(est.noise_.sigma) else float(est.noise_.sigma),
        "n_poisoned": None if n_poisoned is None else int(n_poisoned),
    }
    radii = est.certify(X, n_poisoned=n_poisoned).radii
    per_row = {"tail_a": tail_a, "p_b": p_b, "charge": charge}
    return Evidence(top, radii, theorem, per_row, _model_digest(est), _digest_of(X))


def _of_ridge(est: Any, X: Any) -> Evidence:
    scores, z = est._scores_of(est._checked(X))
    theorem = {
        "noise": "flips",
        "norm": "flips",
        "name": NAMES["flips"],
        "q": float(est._q),
        "n_classes": int(est.classes_.size),
        "fit_intercept": bool(est._fit_intercept),
        "labels": est._labels.tolist(),
    }
    per_row = {"weights": est._weights.weights(z)}
    for weights in per_row["weights"]:
        reason = why_weights_do_not_fit({"weights": weights.tolist()}, theorem)
        if reason is not None:
            raise ValueError(
                f"No record of this would hold: {reason}. Rounding has taken over: scale the "
                f"features, or take a larger alpha. Got alpha={est.alpha!r}."
            )
    radii = est.certify(X).radii
    return Evidence(est._top(scores), radii, theorem, per_row, _model_digest(est), _digest_of(X))


_COLLECT = {
    DiscreteEnsembleClassifier: _of_ensemble,
    LabelFlipRidgeClassifier: _of_ridge,
    RABEnsembleClassifier: _of_ensemble,
    RandomizedSmoothingClassifier: _of_smoothing,
    SmoothedKNNClassifier: _of_neighbors,
}
