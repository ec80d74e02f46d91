# SPDX-License-Identifier: BSD-3-Clause
"""Whether the class with most votes is known to be the most probable one (Hung & Fithian, 2019)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sksmooth.confidence._binomial import clopper_pearson
from sksmooth.confidence._inputs import Integers
from sksmooth.exceptions import TooFewDrawsError


def winner_is_verified(counts: Integers, *, error: float) -> NDArray[np.bool_]:
    """Tell for each row of votes whether its first class with most votes is verified.

    With probability at least ``1 - error`` a row is not verified, or no class is more probable than
    the one with most votes. It is PREDICT's test of Cohen et al. (2019, section 3.2.1): the
    two-sided binomial test of ``n_a`` against ``n_a + n_b`` of the two classes with most votes at
    1/2, which by Hung & Fithian needs no correction for having chosen them. Its p-value is at most
    `error` iff the one-sided Clopper-Pearson bound at half the error is above 1/2. Draws that vote
    for nobody are left out: given their number, the others are multinomial.
    """
    most = np.sort(counts, axis=1)[:, ::-1]
    n_a = most[:, 0]
    n = n_a + (most[:, 1] if counts.shape[1] > 1 else 0)
    verified = np.zeros(len(counts), dtype=bool)
    voted = n > 0
    if np.any(voted):
        p_a = clopper_pearson((n_a[voted], n[voted]), error=error / 2.0, side="lower")
        verified[voted] = p_a > 0.5
    return verified


def check_enough_for_a_winner(n_drawn: int, *, error: float, setting: str) -> None:
    """Refuse a number of draws of which not even unanimous votes verify a winner."""
    needed = n_drawn
    while not winner_is_verified(np.array([[needed, 0]]), error=error)[0]:
        needed += 1
    if needed > n_drawn:
        failure = TooFewDrawsError(
            f"Even unanimous votes from {n_drawn} draws verify no class at {setting}: at least "
            f"{needed} are needed."
        )
        failure.n_needed = needed
        raise failure
