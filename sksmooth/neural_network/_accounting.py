# SPDX-License-Identifier: BSD-3-Clause
"""What the steps of DP-SGD have cost: a record of them, and the epsilon that follows from it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from opacus.accountants import RDPAccountant
from opacus.accountants.utils import get_noise_multiplier

# Less noise than this has an epsilon beyond 1e12, and Opacus' sums over it may never end.
_LEAST_NOISE = 1e-6


class Steps(NamedTuple):
    """Steps that were taken with the same noise, and batches from the same rows."""

    noise_multiplier: float
    rate: float  # probability with which a batch holds a row
    n_rows: int
    poisson: bool  # whether rows were drawn so, each by itself: what the theorem is about
    n_steps: int


def epsilon_of(spent: Sequence[Steps], delta: float) -> float:
    """Return the epsilon of all these steps together, by Renyi accounting."""
    taken = [steps for steps in spent if steps.n_steps > 0]
    if not taken:
        return 0.0
    if not all(steps.poisson and steps.noise_multiplier >= _LEAST_NOISE for steps in taken):
        return math.inf
    accountant = RDPAccountant()
    accountant.history = [(s.noise_multiplier, s.rate, s.n_steps) for s in taken]
    with warnings.catch_warnings():
        # What it finds among its orders holds, if another might be better.
        warnings.filterwarnings("ignore", message="Optimal order is")
        try:
            epsilon = float(accountant.get_epsilon(delta=delta))
        except (ArithmeticError, ValueError):  # noise so small that its sums overflow
            return math.inf
    return math.inf if math.isnan(epsilon) else max(0.0, epsilon)


def noise_for(target_epsilon: float, delta: float, rate: float, n_steps: int) -> float:
    """Return the noise multiplier with which so many steps spend no more than an epsilon."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order is")
        try:
            return float(
                get_noise_multiplier(
                    target_epsilon=target_epsilon,
                    target_delta=delta,
                    sample_rate=rate,
                    steps=n_steps,
                    epsilon_tolerance=max(0.01, 1e-6 * target_epsilon),
                )
            )
        except ValueError as failure:
            raise ValueError(
                f"target_epsilon={target_epsilon!r} is out of reach: with delta={delta:g} Renyi "
                f"accounting finds no noise for {n_steps} steps that spends so little."
            ) from failure
