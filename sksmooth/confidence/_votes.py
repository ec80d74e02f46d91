# SPDX-License-Identifier: BSD-3-Clause
"""Hard votes as counts, soft votes as scores: reading them, and refusing what is neither."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sksmooth.confidence._inputs import (
    COUNT_LIMIT,
    EPS,
    Floats,
    Integers,
    check_unit_interval,
    first,
    real_numbers,
)

# Scores of one draw may sum to a little more than 1, as float32 softmax does: its sums over 100
# classes stay within 1e-5. Beyond that they are no distribution over the classes.
_SUM_TOLERANCE = 1e-5


class Counts(NamedTuple):
    """Hard votes: whole numbers of shape (n_samples, n_classes), and the draws behind each row."""

    votes: Integers
    n_drawn: Integers


class Scores(NamedTuple):
    """Soft votes of shape (n_samples, n_classes, n_draws).

    `excess` is what the scores of one draw may sum to above 1, by rounding.
    """

    scores: Floats
    excess: float


def read_votes(
    votes: Any, n_drawn: ArrayLike | None, correction: str
) -> tuple[NDArray[np.intp], Counts | Scores]:
    """Return the class that each row speaks of, and the votes that bound its probability."""
    if correction != "holdout":
        if isinstance(votes, tuple) and real_numbers(votes, "votes").ndim > 2:
            raise ValueError(
                "A tuple (selection, estimation) of votes goes with correction='holdout'; got "
                f"correction={correction!r}."
            )
        read = _read(votes, "votes")
        return _most_votes(read), _with_draws(read, n_drawn)
    if not (isinstance(votes, tuple) and len(votes) == 2):
        raise ValueError(
            "With correction='holdout', votes must be a tuple (selection, estimation) of counts "
            f"or scores from disjoint draws; got {type(votes).__name__}."
        )
    selection, estimation = _read(votes[0], "votes[0]"), _read(votes[1], "votes[1]")
    shapes = _rows_and_classes(selection), _rows_and_classes(estimation)
    if shapes[0] != shapes[1]:
        raise ValueError(
            "Selection and estimation votes must have the same shape (n_samples, n_classes), draws "
            f"aside; got {shapes[0]} and {shapes[1]}."
        )
    return _most_votes(selection), _with_draws(estimation, n_drawn)


def _read(votes: Any, name: str) -> Integers | Scores:
    array = real_numbers(votes, name)
    if array.ndim == 3 and 0 not in array.shape[1:]:
        return _scores(array, name)
    if array.ndim == 2 and array.shape[1] > 0:
        return _counts(array, name)
    raise ValueError(
        f"{name} must be counts of shape (n_samples, n_classes) or scores of shape (n_samples, "
        f"n_classes, n_draws); got shape {array.shape}."
    )


def _most_votes(votes: Integers | Scores) -> NDArray[np.intp]:
    totals = votes.scores.sum(axis=2) if isinstance(votes, Scores) else votes
    return np.asarray(np.argmax(totals, axis=1))


def _rows_and_classes(votes: Integers | Scores) -> tuple[int, ...]:
    return (votes.scores if isinstance(votes, Scores) else votes).shape[:2]


def _with_draws(votes: Integers | Scores, n_drawn: ArrayLike | None) -> Counts | Scores:
    if not isinstance(votes, Scores):
        return Counts(votes, _n_drawn_per_row(n_drawn, votes))
    if n_drawn is not None:
        given = real_numbers(n_drawn, "n_drawn")
        rows, _, n = votes.scores.shape
        if given.shape not in ((), (rows,)) or np.any(given != n):
            raise ValueError(
                f"n_drawn must be left out or equal the length of the scores' last axis, {n}: a "
                f"failed draw is there as zeros; got {n_drawn!r}."
            )
    return votes


def _scores(array: NDArray[Any], name: str) -> Scores:
    scores = array.astype(np.float64)
    check_unit_interval(scores, name)
    n_classes = scores.shape[1]
    if bool(np.all((scores == 0) | (scores == 1))):
        excess = 0.0
    else:
        # Sums of C scores are good to (C - 1) eps / 2, and the quotients to one more each.
        excess = (n_classes + 2) * EPS
    sums = scores.sum(axis=1)
    if np.any(sums > 1.0 + _SUM_TOLERANCE):
        raise ValueError(
            f"{name} must not sum to more than 1 over the classes in any draw (tolerance "
            f"{_SUM_TOLERANCE:g}); got {first(sums[sums > 1.0 + _SUM_TOLERANCE])}."
        )
    # A function of each draw alone: the bounds hold for the mean of what is made here.
    if np.any(sums > 1.0):
        scores /= np.maximum(sums, 1.0)[:, np.newaxis, :]
    return Scores(scores, excess)


def _counts(counts: NDArray[Any], name: str) -> Integers:
    wrong = np.any(~(counts >= 0) | (counts != np.rint(counts)), axis=1)
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{name} must be whole numbers >= 0 (hard votes); row {row} is {counts[row].tolist()}."
        )
    # A sum of floats below the limit is exact; one that is not below it does not round to below.
    large = ~(counts.sum(axis=1, dtype=np.float64) < COUNT_LIMIT)
    if np.any(large):
        row = int(np.argmax(large))
        raise ValueError(
            f"{name} must sum to less than 2**53 in a row; row {row} is {counts[row].tolist()}."
        )
    return counts.astype(np.int64)


def _n_drawn_per_row(n_drawn: ArrayLike | None, counts: Integers) -> Integers:
    sums = np.asarray(counts.sum(axis=1))
    if n_drawn is None:
        if sums.size and sums.min() != sums.max():
            # Leaving failed draws out of n would let the failures choose the winner.
            raise ValueError(
                f"The rows of votes sum to between {sums.min()} and {sums.max()}: some draws did "
                "not vote. Give n_drawn, the number of draws with the failed ones included."
            )
        return sums
    given = real_numbers(n_drawn, "n_drawn")
    if np.any(~((given >= 0) & (given < COUNT_LIMIT)) | (given != np.rint(given))):
        raise ValueError(f"n_drawn must be whole numbers >= 0 and below 2**53; got {n_drawn!r}.")
    drawn = given.astype(np.int64)
    if drawn.shape not in ((), sums.shape):
        raise ValueError(
            f"n_drawn must be a number or of shape {sums.shape}, one per row; got shape "
            f"{drawn.shape}."
        )
    drawn = np.broadcast_to(drawn, sums.shape)
    if np.any(drawn < sums):
        row = int(np.argmax(drawn < sums))
        raise ValueError(
            f"n_drawn must be at least the number of votes; row {row} has {sums[row]} votes from "
            f"{drawn[row]} draws."
        )
    return drawn
