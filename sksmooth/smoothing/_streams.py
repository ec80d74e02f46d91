# SPDX-License-Identifier: BSD-3-Clause
"""The generator that noise is drawn from."""

from __future__ import annotations

import numpy as np


def generator(stream: np.random.SeedSequence) -> np.random.Generator:
    """Return the generator of a stream of noise.

    SFC64 draws normal numbers a fifth faster than NumPy's default, PCG64: drawing is a quarter of
    the time of a small fit.
    """
    return np.random.Generator(np.random.SFC64(stream))
