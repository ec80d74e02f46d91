# SPDX-License-Identifier: BSD-3-Clause
"""The version of the package, in the one place where it stands (`pyproject.toml` reads it here)."""

from __future__ import annotations

__version__ = "0.1.0.dev0"
