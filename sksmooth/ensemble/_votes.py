# SPDX-License-Identifier: BSD-3-Clause
"""The votes of an ensemble's members, as data that can be kept and certified again."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import effective_n_jobs

from ._features import Features
from ._linear import linear_votes
from ._nets import NetPlan, ship
from ._noise import FeatureNoise
from ._parallel import one_thread, run_tasks

# With correction="holdout" every tenth member chooses the class, the others bound its probability.
# The role depends on the member's number alone.
_EVERY = 10

# Scores are scaled by so much less than 1 that those of one member never sum to more than 1.
_SCALE = 1.0 - 2.0**-44


@dataclass(frozen=True)
class EnsembleVotes:
    """Votes of the members of one ensemble for some test inputs.

    Attributes
    ----------
    data : ndarray
        Hard votes: counts of shape (2, n_samples, n_classes) in int64, of the members that choose
        the class with ``correction="holdout"`` and of all others. Soft votes: scores of shape
        (n_samples, n_classes, n_members) in float64, in the order of the members' seeds; zero
        where a member failed.
    n_drawn : int
        Number of members drawn, those that failed included.
    voting : {"hard", "soft"}
        Which of the two.
    model_digest, X_digest : str
        SHA-256 digests of the ensemble and of the test inputs, in hexadecimal.
    """

    data: np.ndarray
    n_drawn: int
    voting: str
    model_digest: str
    X_digest: str

    def roles(self) -> tuple[tuple[np.ndarray, int], tuple[np.ndarray, int]]:
        """Return votes and number of the members that choose, and of those that bound."""
        n_choosing = -(-self.n_drawn // _EVERY)
        if self.voting == "hard":
            choosing, bounding = self.data
        else:
            chooses = np.arange(self.n_drawn) % _EVERY == 0
            choosing, bounding = self.data[..., chooses], self.data[..., ~chooses]
        return (choosing, n_choosing), (bounding, self.n_drawn - n_choosing)

    def together(self) -> np.ndarray:
        """Return the votes of all members."""
        return self.data.sum(axis=0) if self.voting == "hard" else self.data

    def totals(self, *, holdout: bool) -> np.ndarray:
        """Return the votes that choose the class, summed, of shape (n_samples, n_classes)."""
        votes = self.roles()[0][0] if holdout else self.together()
        return votes if self.voting == "hard" else votes.sum(axis=-1)

    def argument(self, *, holdout: bool) -> tuple[Any, int | None]:
        """Return `votes` and `n_drawn` as `probability_bounds` takes them."""
        hard = self.voting == "hard"
        if holdout:
            (choosing, _), (bounding, n_bounding) = self.roles()
            return (choosing, bounding), n_bounding if hard else None
        return self.together(), self.n_drawn if hard else None


def members_for(n_bounding: Any) -> int:
    """Return the least number of members of which so many bound, where every tenth chooses."""
    n = n_bounding
    while n - -(-n // _EVERY) < n_bounding:
        n += 1
    return n


def collect(
    learners: list[Any],
    test_vectors: np.ndarray,
    features: Any,
    noise: FeatureNoise,
    classes: np.ndarray,
    voting: str,
    *,
    first: int,
    n_jobs: int | None,
    net: NetPlan | None,
    advance: Callable[[int], Any],
) -> np.ndarray:
    """Return the members' votes as `EnsembleVotes.data`.

    `first` is the first member's number; `advance` is told how many members more have voted.
    """
    n_members = len(learners)
    n_workers = min(effective_n_jobs(n_jobs), n_members)

    def chunk(start: int, stop: int) -> tuple[Any, Any, Any, Any, Any, Any, Any, int]:
        part, number = slice(start, stop), first + start
        sent: Any = learners[part]
        if net is not None and n_workers > 1:
            sent = ship(sent)
        return sent, test_vectors[part], features, noise, classes, voting, net, number

    if n_workers == 1:
        votes = collect_chunk(*chunk(0, n_members), advance=advance)
    else:
        # Four tasks per worker, so that all end at about the same time.
        size = -(-n_members // (4 * n_workers))
        tasks = [chunk(i, i + size) for i in range(0, n_members, size)]
        parts = {}
        for number, part in run_tasks(collect_chunk, tasks, n_jobs=n_workers):
            parts[number] = part
            advance(len(tasks[number][1]))
        ordered = [parts[number] for number in range(len(tasks))]
        votes = np.concatenate(ordered, axis=-1) if voting == "soft" else sum(ordered)
    if not votes.any() and any(learner is not None for learner in learners):
        raise ValueError(
            "No member votes for any of classes_: their predictions are other labels, or labels of "
            f"another type, than {classes[:10].tolist()}, or outputs of networks that are nan."
        )
    return votes


def collect_chunk(
    learners: list[Any] | bytes,
    test_vectors: np.ndarray,
    features: Features,
    noise: FeatureNoise,
    classes: np.ndarray,
    voting: str,
    net: NetPlan | None,
    first: int,
    advance: Callable[[int], Any] = lambda n: None,
) -> np.ndarray:
    """Return the votes of a few members, in one inner thread."""
    members: list[Any] = pickle.loads(learners) if isinstance(learners, bytes) else learners
    n_samples, n_classes = features.n_samples, classes.size
    soft = voting == "soft"
    # Counts with the rows last while they are added up: each class's are then one block of memory.
    shape = (n_samples, n_classes, len(members)) if soft else (2, n_classes, n_samples)
    votes = np.zeros(shape, dtype=np.float64 if soft else np.int64)
    chooses = (first + np.arange(len(members))) % _EVERY == 0
    left = np.flatnonzero([member is not None for member in members])
    advance(len(members) - left.size)  # they count as drawn and vote for nobody
    with one_thread():
        if not soft:
            for numbers, predicted in linear_votes(members, test_vectors, features, noise, classes):
                for c in range(n_classes):
                    chosen = predicted == c
                    votes[0, c] += chosen[:, chooses[numbers]].sum(axis=1)
                    votes[1, c] += chosen[:, ~chooses[numbers]].sum(axis=1)
                left = np.setdiff1d(left, numbers, assume_unique=True)
                advance(numbers.size)
        shifted_inputs = noise.shifting(features)
        for i in left:
            X = shifted_inputs(test_vectors[i])
            X = X if net is None else net.inputs(X)
            try:
                if soft:
                    votes[:, :, i] = _soft(members[i], X, classes, net)
                else:
                    labels, known = _labels(members[i], X, n_samples, net)
                    for c in range(n_classes):  # a label that is none of them is for nobody
                        votes[0 if chooses[i] else 1, c] += (labels == classes[c]) & known
            except Exception as failure:
                failure.add_note(f"Raised by member {first + i} of the ensemble on test inputs.")
                raise
            advance(1)
    return votes if soft else votes.transpose(0, 2, 1)


def _labels(
    learner: Any, X: Any, n_samples: int, net: NetPlan | None
) -> tuple[np.ndarray, np.ndarray | bool]:
    """Return a member's predicted labels, and which of them are votes."""
    predicted, known = (learner.predict(X), True) if net is None else net.labels(learner, X)
    labels = np.asarray(predicted).reshape(-1)
    if labels.shape != (n_samples,):
        raise ValueError(
            f"predict must give one label for each of {n_samples} rows. Got {labels.size}."
        )
    return labels, known


def _soft(learner: Any, X: Any, classes: np.ndarray, net: NetPlan | None) -> np.ndarray:
    """Return a member's class probabilities in the order of `classes`, summing to at most 1.

    A row with a value that is not a number is a vote for nobody.
    """
    scores, own = np.asarray(learner.predict_proba(X), dtype=np.float64), learner.classes_
    numbered = net is not None and net.numbers_outputs(learner) and scores.ndim == 2
    if numbered:  # its classes_ are those of its own labels, which noise may have left out
        own = np.arange(scores.shape[1])
    where = np.minimum(np.searchsorted(classes, own), classes.size - 1)
    known = classes[where] == own
    if not (numbered or np.all(known)) or scores.shape != (len(X), len(own)):
        raise ValueError(
            f"predict_proba must have one column for each of the member's classes_, and these must "
            f"be among {classes.tolist()}. Got shape {scores.shape} for {np.asarray(own).tolist()}."
        )
    scores = np.clip(scores, 0.0, 1.0)
    scores[~np.isfinite(scores).all(axis=1)] = 0.0
    scores *= _SCALE / np.maximum(scores.sum(axis=1, keepdims=True), 1.0)
    result = np.zeros((scores.shape[0], classes.size))
    result[:, where[known]] = scores[:, known]  # an output that no class has is for nobody
    return result
