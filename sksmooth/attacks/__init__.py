# SPDX-License-Identifier: BSD-3-Clause
"""Attacks: they put a certificate to the test and never compute one."""

from __future__ import annotations

from ._influence import influence_label_flips
from ._label_flips import worst_label_flips
from ._pgd import pgd_attack
from ._poison import poison
from ._triggers import (
    blending_trigger,
    four_pixel_trigger,
    one_feature_trigger,
    one_pixel_trigger,
)

__all__ = [
    "blending_trigger",
    "four_pixel_trigger",
    "influence_label_flips",
    "one_feature_trigger",
    "one_pixel_trigger",
    "pgd_attack",
    "poison",
    "worst_label_flips",
]
