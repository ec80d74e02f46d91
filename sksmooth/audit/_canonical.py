# SPDX-License-Identifier: BSD-3-Clause
"""The text of a record that its digest is of."""

from __future__ import annotations

import hashlib
import json
from typing import Any

FORMAT = "sksmooth certificate record"
VERSION = 1


def record_digest(record: dict[str, Any]) -> str:
    """Return the SHA-256 of everything in a record but its own digest, in hexadecimal."""
    rest = {key: value for key, value in record.items() if key != "digest"}
    # Numbers are written by repr, from which each float can be read back exactly.
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
