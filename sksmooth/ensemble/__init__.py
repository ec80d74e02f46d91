# SPDX-License-Identifier: BSD-3-Clause
"""Ensembles of any classifier, trained on noisy copies of the training data and certified."""

from __future__ import annotations

from sksmooth.ensemble._discrete import DiscreteEnsembleClassifier
from sksmooth.ensemble._rab import RABEnsembleClassifier

__all__ = ["DiscreteEnsembleClassifier", "RABEnsembleClassifier"]
