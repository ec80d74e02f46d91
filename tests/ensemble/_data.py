# SPDX-License-Identifier: BSD-3-Clause
"""Categorical data for tests, from the folder that SKSMOOTH_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


def phishing():
    """Return the different rows of Phishing Websites, shuffled: 30 columns in {-1, 0, 1}."""
    folder = os.environ.get("SKSMOOTH_DATA")
    path = Path(folder or ".") / "phishing" / "phishing.csv.gz"
    if not folder or not path.exists():
        pytest.skip("needs phishing/phishing.csv.gz in the folder SKSMOOTH_DATA")
    rows = np.unique(np.loadtxt(path, delimiter=",", dtype=int), axis=0)
    rows = np.random.default_rng(0).permutation(rows)
    return rows[:, :30], (rows[:, 30] == -1).astype(int)
