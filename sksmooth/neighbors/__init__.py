# SPDX-License-Identifier: BSD-3-Clause
"""Nearest-neighbour classifiers with exact certificates."""

from __future__ import annotations

from ._smoothed_knn import SmoothedKNNClassifier

__all__ = ["SmoothedKNNClassifier"]
