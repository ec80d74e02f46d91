# SPDX-License-Identifier: BSD-3-Clause
"""Which values of a record are numbers, counts or digests."""

from __future__ import annotations

import math
import re
from typing import Any, TypeGuard


def are_counts(values: Any, n: int) -> bool:
    """Tell whether it is a list of n whole numbers of at least 0."""
    return (
        isinstance(values, list)
        and len(values) == n
        and all(is_whole(value) and value >= 0 for value in values)
    )


def is_digest(value: Any) -> bool:
    """Tell whether it is a SHA-256 digest as it is written."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def is_number(value: Any) -> bool:
    """Tell whether it is a finite number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> TypeGuard[int]:
    """Tell whether it is an integer; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)
