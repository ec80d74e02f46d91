# SPDX-License-Identifier: BSD-3-Clause
"""From rows to bounds on the vote: by a fixed number of draws, or until a radius is settled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .._certified import FOR_A_SCORE
from ..confidence import anytime
from ..confidence._levels import error_per_statement
from ..exceptions import TooFewDrawsError
from ..smoothing._bounds import TAIL_FLOOR
from ._draws import ESTIMATION, SCORING
from ._voting import Ballot, count_votes, numbered_blocks

# From one look at the votes to the next their number grows so much: looking costs some 40 ms for
# all rows together, and at most a fifth of a row's draws is made in vain.
_GROWTH = 1.25


class Estimate(NamedTuple):
    """Bounds for each row, and what they follow from.

    `selection` and `counts` are the votes that choose the class and those that bound it, of shape
    (n_rows, n_classes); `n_draws` the numbers of draws behind the latter.
    """

    top: np.ndarray
    tail_a: np.ndarray
    p_b: np.ndarray
    selection: np.ndarray
    counts: np.ndarray
    n_draws: np.ndarray


def _stage() -> int:
    """Return the stream of the draws that bound the vote."""
    return SCORING if FOR_A_SCORE.get() else ESTIMATION


def _advance_rows(advance: Callable[[int], Any], n_rows: int, n_draws: int) -> None:
    advance(n_rows * n_draws)


def estimate(
    model: Any,
    ballot: Ballot,
    rows: np.ndarray,
    selection: np.ndarray,
    advance: Callable[[int], Any],
) -> Estimate:
    """Bound the vote by ``model.n_estimation`` draws."""
    n_draws = model.n_estimation
    # Before the work: raises where not even unanimous votes would do.
    unanimous = np.zeros((1, selection.shape[1]), dtype=np.int64)
    unanimous[0, 0] = n_draws
    model._bounds(unanimous, unanimous, n_draws, "clopper-pearson")
    counts = count_votes(
        ballot,
        rows,
        selection.shape[1],
        numbered_blocks(n_draws),
        model._entropy,
        _stage(),
        n_jobs=model.n_jobs,
        advance=partial(_advance_rows, advance, len(rows)),
    )
    bounds = model._bounds(selection, counts, n_draws, "clopper-pearson")
    n_all = np.full(len(rows), n_draws)
    return Estimate(bounds.top, bounds.tail_a, bounds.p_b, selection, counts, n_all)


def estimate_until(
    model: Any,
    ballot: Ballot,
    rows: np.ndarray,
    selection: np.ndarray,
    radius: float,
    advance: Callable[[int], Any],
    radii: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Estimate:
    """Bound the vote by a confidence sequence, for each row until `radius` is settled.

    `radii` computes them from bounds. A row's draws end by its own votes alone. When they end has
    no influence on what is valid: the bounds hold at all numbers of draws at once.
    """
    n_rows, n_classes = selection.shape
    top = selection.argmax(axis=1)
    tail_a, p_b = np.ones(n_rows), np.ones(n_rows)
    counts = np.zeros_like(selection)
    n_draws = np.zeros(n_rows, dtype=np.int64)
    active = np.arange(n_rows)
    for blocks, last in _looks(numbered_blocks(model.n_estimation)):
        counts[active] += count_votes(
            ballot,
            rows[active],
            n_classes,
            blocks,
            model._entropy,
            _stage(),
            n_jobs=model.n_jobs,
            advance=partial(_advance_rows, advance, active.size),
        )
        n_draws[active] += sum(size for _, size in blocks)
        drawn = int(n_draws[active[0]])
        try:
            bounds = model._bounds(selection[active], counts[active], drawn, "anytime")
        except TooFewDrawsError:
            if last:
                raise
            continue
        tail_a[active], p_b[active] = bounds.tail_a, bounds.p_b
        certified = radii(bounds.tail_a, bounds.p_b) >= radius
        best = radii(*_best_case(model, counts[active], top[active], drawn))
        active = active[~(certified | (best < radius))]
        if active.size == 0:
            break
    return Estimate(top, tail_a, p_b, selection, counts, n_draws)


def _looks(blocks: list[tuple[int, int]]) -> list[tuple[list[tuple[int, int]], bool]]:
    """Return the blocks drawn before each look, and whether it is the last one."""
    looks: list[tuple[list[tuple[int, int]], bool]] = []
    waiting: list[tuple[int, int]] = []
    drawn, looked = 0, 0
    for i, block in enumerate(blocks):
        waiting.append(block)
        drawn += block[1]
        last = i == len(blocks) - 1
        if last or drawn >= _GROWTH * looked:
            looks.append((waiting, last))
            waiting, looked = [], drawn
    return looks


def _best_case(
    model: Any, counts: np.ndarray, top: np.ndarray, n_drawn: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest `tail_a` and `p_b` that more draws can be expected to give."""
    error = error_per_statement(model.confidence_level, model.n_statements)
    rows = np.arange(len(counts))
    p_a = anytime((counts[rows, top], n_drawn), error=error, side="upper")
    tail_a = np.maximum(1.0 - p_a, TAIL_FLOOR)
    if not model.two_sided:
        return tail_a, tail_a
    rivals = counts.copy()
    rivals[rows, top] = 0
    p_b = anytime((rivals.max(axis=1), n_drawn), error=error, side="lower")
    return tail_a, np.clip(p_b, TAIL_FLOOR, tail_a)
