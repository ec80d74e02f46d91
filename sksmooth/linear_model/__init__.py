# SPDX-License-Identifier: BSD-3-Clause
"""Linear classifiers certified against changed training labels."""

from __future__ import annotations

from ._label_flip_ridge import LabelFlipRidgeClassifier

__all__ = ["LabelFlipRidgeClassifier"]
