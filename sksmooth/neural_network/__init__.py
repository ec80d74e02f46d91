# SPDX-License-Identifier: BSD-3-Clause
"""Neural networks: many at once. Needs the extra ``torch``."""

from ..ensemble._stacking import StackedTraining

__all__ = ["StackedTraining"]
