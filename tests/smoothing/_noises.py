# SPDX-License-Identifier: BSD-3-Clause
"""Every noise of the package, with what the common tests need to know of it.

A new noise is one more entry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from sksmooth.smoothing import (
    CategoricalNoise,
    GaussianNoise,
    JointNoise,
    MixedCategoricalNoise,
    UniformNoise,
)


@dataclass(frozen=True)
class Case:
    """A noise, something it can be drawn on, and options of its radius and trade-off."""

    noise: Any
    data: Any
    integer: bool = False
    radius_options: dict = field(default_factory=dict)
    trade_off_options: dict = field(default_factory=dict)


X = np.linspace(-1.0, 1.0, 12).reshape(4, 3)
CODES = np.arange(12).reshape(4, 3) % 2
LABELS = np.array([0, 1, 2, 0])

NOISES = [
    pytest.param(Case(GaussianNoise(0.7), X), id="gaussian"),
    pytest.param(Case(GaussianNoise((0.5, 1.0, 2.0)), X), id="gaussian-per-feature"),
    pytest.param(Case(UniformNoise(1.5), X), id="uniform"),
    pytest.param(Case(CategoricalNoise(0.3), CODES, integer=True), id="categorical-2"),
    pytest.param(Case(CategoricalNoise(0.4, 3), LABELS, integer=True), id="categorical-3"),
    pytest.param(Case(CategoricalNoise(0.6, 10), LABELS, integer=True), id="categorical-10"),
    pytest.param(
        Case(MixedCategoricalNoise(0.3, (2, 2, 4), 3), (CODES, LABELS), integer=True), id="mixed"
    ),
    pytest.param(Case(JointNoise(0.7, 0.4, 3), (X, LABELS)), id="joint-0"),
    pytest.param(
        Case(
            JointNoise(0.7, 0.4, 3),
            (X, LABELS),
            radius_options={"n_flips": 2},
            trade_off_options={"n_flips": 2},
        ),
        id="joint-2",
    ),
]
