# SPDX-License-Identifier: BSD-3-Clause
"""The votes of an ensemble's members, as data that can be kept and certified again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from ._noise import FeatureNoise

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


def collect(
    learners: list[Any],
    test_vectors: np.ndarray,
    features: Any,
    noise: FeatureNoise,
    classes: np.ndarray,
    voting: str,
    *,
    first: int = 0,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> np.ndarray:
    """Return the members' votes as `EnsembleVotes.data`; `first` is the first member's number."""
    n_members = len(learners)
    n_workers = min(effective_n_jobs(n_jobs), n_members)
    # Four tasks per worker, so that all end at about the same time.
    size = n_members if n_workers == 1 else -(-n_members // (4 * n_workers))
    starts = range(0, n_members, size)
    tasks = (
        delayed(_collect_chunk)(
            learners[i : i + size],
            test_vectors[i : i + size],
            features,
            noise,
            classes,
            voting,
            first + i,
            verbose if n_workers == 1 else 0,
        )
        for i in starts
    )
    results = Parallel(n_jobs=n_workers, return_as="generator")(tasks)
    results = tqdm(
        results, total=len(starts), disable=not verbose or n_workers == 1, desc="votes", unit="task"
    )
    if voting == "soft":
        return np.concatenate(list(results), axis=-1)
    # Whole numbers: sums in any order are the same.
    return sum(results, np.zeros((2, features.n_samples, classes.size), dtype=np.int64))


def _collect_chunk(
    learners, test_vectors, features, noise, classes, voting, first, verbose
) -> np.ndarray:
    n_samples, n_classes = features.n_samples, classes.size
    soft = voting == "soft"
    # Counts with the rows last while they are added up: each class's are then one block of memory.
    shape = (n_samples, n_classes, len(learners)) if soft else (2, n_classes, n_samples)
    votes = np.zeros(shape, dtype=np.float64 if soft else np.int64)
    shifted_inputs = noise.shifting(features)
    with threadpool_limits(limits=1):
        numbers = range(len(learners))
        for i in tqdm(numbers, disable=not verbose, desc="votes", unit="member"):
            learner = learners[i]
            if learner is None:  # counts as drawn, votes for nobody
                continue
            X = shifted_inputs(test_vectors[i])
            try:
                if soft:
                    scores = learner.predict_proba(X)
                    votes[:, :, i] = _scores(scores, learner.classes_, classes)
                else:
                    labels = learner.predict(X)
                    labels = np.asarray(labels).reshape(-1)
                    role = votes[0] if (first + i) % _EVERY == 0 else votes[1]
                    for c in range(n_classes):  # a label that is none of them is for nobody
                        role[c] += labels == classes[c]
            except Exception as failure:
                failure.add_note(f"Raised by member {first + i} of the ensemble on test inputs.")
                raise
    return votes if soft else votes.transpose(0, 2, 1)


def _scores(scores: np.ndarray, own: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return class probabilities in the order of `classes`, that sum to at most 1.

    A row with a value that is not a number is a vote for nobody.
    """
    scores = np.clip(np.asarray(scores, dtype=np.float64), 0.0, 1.0)
    scores[~np.isfinite(scores).all(axis=1)] = 0.0
    scores *= _SCALE / np.maximum(scores.sum(axis=1, keepdims=True), 1.0)
    result = np.zeros((scores.shape[0], classes.size))
    result[:, np.searchsorted(classes, own)] = scores
    return result
