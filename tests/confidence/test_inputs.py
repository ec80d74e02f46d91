# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

import numpy as np
import pytest

from sksmooth.confidence import (
    clopper_pearson,
    hoeffding,
)


@pytest.mark.parametrize("bound", [clopper_pearson, hoeffding])
@pytest.mark.parametrize(
    ("data", "error", "side", "message"),
    [
        ((3, 2), 0.1, "lower", r"successes must be in \[0, n_drawn\]; got 3 of 2"),
        ((-1, 2), 0.1, "lower", "got -1 of 2"),
        ((np.nan, 2), 0.1, "lower", "successes must be"),
        ((0, 0), 0.1, "lower", "n_drawn must be a whole number >= 1"),
        ((0, 2.5), 0.1, "lower", "n_drawn must be a whole number >= 1"),
        ((1, 2, 3), 0.1, "lower", "length 3"),
        ([3, 10], 0.1, "lower", r"draws must be in \[0, 1\]; got 3"),
        ([], 0.1, "lower", "at least one draw"),
        ((1, 2), 0.0, "lower", r"error must be in \[1e-100, 1\); got 0"),
        ((1, 2), 1.0, "lower", "got 1"),
        ((1, 2), np.nan, "lower", "got nan"),
        ((1, 2), 0.1, "both", "side must be"),
        ((1, 2), 0.1, ["lower"], "side must be"),
        ((0, 2**53), 0.1, "lower", r"below 2\*\*53"),
        ((2**62, 2**63 - 1), 0.1, "lower", r"below 2\*\*53"),
        ((10**400, 3), 0.1, "lower", "successes must be"),
        ((0, np.inf), 0.1, "lower", "n_drawn must be a whole number"),
        ([[0, 1], [1]], 0.1, "lower", "data must be an array of real numbers"),
    ],
)
def test_single_bounds_refuse(bound, data, error, side, message):
    with pytest.raises(ValueError, match=message):
        bound(data, error=error, side=side)


@pytest.mark.parametrize("bound", [clopper_pearson, hoeffding])
@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((1j, 2), 0.1, "successes must be real numbers"),
        (("1", 2), 0.1, "successes must be real numbers"),
        ((1, None), 0.1, "n_drawn must be real numbers"),
        ([0, 1j], 0.1, "data must be real numbers"),
        (np.ma.masked_array([0, 1], mask=[0, 1]), 0.1, "data must not be a masked array"),
        ((1, 2), "0.1", "error must be real numbers"),
        ((1, 2), 0.1 + 0j, "error must be real numbers"),
    ],
)
def test_single_bounds_refuse_other_kinds(bound, data, error, message):
    with pytest.raises(TypeError, match=message):
        bound(data, error=error)
