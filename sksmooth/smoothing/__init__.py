# SPDX-License-Identifier: BSD-3-Clause
"""Smoothing noises: how each is drawn, and how bounds on a vote become a certified radius.

Pure mathematics: no estimator, no data, no randomness but the generator that is passed in.
"""

from __future__ import annotations

from sksmooth.smoothing._categorical import CategoricalNoise
from sksmooth.smoothing._gaussian import GaussianNoise
from sksmooth.smoothing._joint import JointNoise
from sksmooth.smoothing._mixed import MixedCategoricalNoise
from sksmooth.smoothing._uniform import UniformNoise

__all__ = [
    "CategoricalNoise",
    "GaussianNoise",
    "JointNoise",
    "MixedCategoricalNoise",
    "UniformNoise",
]
