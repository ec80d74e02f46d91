# SPDX-License-Identifier: BSD-3-Clause
"""What a set of certificates is worth: scores, scorers, a plot and a report.

One rule holds everywhere: a row is certified at r if and only if its radius is at least r. An
abstention has the radius -1 and is therefore certified at no r, 0 included.
"""

from __future__ import annotations

from ._display import CertifiedAccuracyDisplay
from ._report import certificate_report
from ._scorer import make_certified_scorer
from ._scores import (
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_curve,
    certified_rate,
)

__all__ = [
    "CertifiedAccuracyDisplay",
    "average_certified_radius",
    "certificate_report",
    "certified_accuracy",
    "certified_accuracy_curve",
    "certified_rate",
    "make_certified_scorer",
]
