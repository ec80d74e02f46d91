# SPDX-License-Identifier: BSD-3-Clause
"""Training members until an asked radius is settled, by a confidence sequence."""

from __future__ import annotations

import math
import numbers
from typing import Any, NamedTuple

import numpy as np

from ..confidence import anytime
from ..confidence._levels import error_per_statement
from ..exceptions import TooFewDrawsError
from ..smoothing._bounds import TAIL_FLOOR
from ._progress import FitProgress, bar
from ._votes import EnsembleVotes

# The first look, and how much the ensemble grows from one to the next: looking costs little, and
# at most a tenth of the members is trained in vain.
_FIRST_LOOK, _GROWTH = 16, 1.1


class Settled(NamedTuple):
    """What `fit_until_settled` returns.

    Attributes
    ----------
    n_estimators : int
        Number of members trained.
    certified : ndarray of bool of shape (n_rows,)
        Rows that are certified at the asked radius.
    refuted : ndarray of bool of shape (n_rows,)
        Rows of which it is known, at the confidence level, that they cannot be certified at it
        with any number of members.
    """

    n_estimators: int
    certified: np.ndarray
    refuted: np.ndarray


def fit_until_settled(
    ensemble: Any, X, y, X_test, radius, asked: dict[str, Any], sample_weight, fit_params
) -> Settled:
    """See `RABEnsembleClassifier.fit_until_settled`; `asked` is what `certify` takes beside X."""
    ensemble._validate_params()
    if ensemble.bound != "anytime":
        raise ValueError(
            "bound must be 'anytime' to stop by a look at the votes: no other bound stays valid. "
            f"Got {ensemble.bound!r}."
        )
    if not isinstance(radius, numbers.Real) or not 0.0 <= float(radius) < math.inf:
        raise ValueError(f"radius must be a finite number of at least 0. Got {radius!r}.")
    limit, n_old = ensemble.n_estimators, ensemble._n_kept()
    target = max(n_old, min(_FIRST_LOOK, limit))
    features = data = None
    with bar(limit - n_old, "fit", "member", ensemble.verbose) as shown:
        progress = FitProgress(shown)
        while True:
            ensemble._train(X, y, sample_weight, fit_params, n_old, target, progress)
            if features is None:
                features = ensemble._read(X_test)
            new = ensemble._votes(features, lambda n: None, first=0 if data is None else n_old)
            if data is None:
                data = new
            elif ensemble.voting == "hard":
                data = data + new
            else:
                data = np.concatenate([data, new], axis=-1)
            n_old = target
            certified, refuted = _settled(ensemble, ensemble._wrap(data), float(radius), asked)
            if np.all(certified | refuted) or target >= limit:
                return Settled(target, certified, refuted)
            target = min(limit, max(target + 1, math.ceil(_GROWTH * target)))


def _settled(
    ensemble: Any, votes: EnsembleVotes, radius: float, asked: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    totals = np.sort(votes.totals(holdout=False), axis=1)
    certified = np.zeros(len(totals), dtype=bool)
    try:
        result = ensemble.certify_votes(votes, **asked)
        certified = result.radii >= radius
    except TooFewDrawsError:  # so far
        pass
    # The best that could be true: the most probable class has at most as many votes as the top one,
    # and of the two classes with most votes one is a rival of it. That one can be any of the
    # others, so each has its own statement.
    error = error_per_statement(ensemble.confidence_level, ensemble.n_statements)
    n_drawn: Any = votes.n_drawn
    share = 0.5 if ensemble.two_sided else 1.0
    p_a = anytime((totals[:, -1], n_drawn), error=share * error, side="upper")
    # Down, where 1 - p_a rounds: a row is refuted only if the best that could be true is too small.
    tail_a = np.maximum(np.nextafter(1.0 - p_a, 0.0), TAIL_FLOOR)
    p_b = tail_a
    if ensemble.two_sided:
        share = 0.5 / (totals.shape[1] - 1)
        rival = anytime((totals[:, -2], n_drawn), error=share * error, side="lower")
        p_b = np.clip(rival, TAIL_FLOOR, tail_a)
    best = ensemble._radii(tail_a, p_b, asked)
    return certified, ~certified & (best < radius)
