# SPDX-License-Identifier: BSD-3-Clause
"""Any classifier, smoothed at the test input and certified against changes of it."""

from __future__ import annotations

from sksmooth.evasion._randomized_smoothing import (
    AbstainingPrediction,
    RandomizedSmoothingClassifier,
)

__all__ = ["AbstainingPrediction", "RandomizedSmoothingClassifier"]
