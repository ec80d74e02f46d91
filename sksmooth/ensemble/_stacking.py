# SPDX-License-Identifier: BSD-3-Clause
"""How neural networks are trained together: what users may ask for. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any


@dataclass(frozen=True)
class StackedTraining:
    """Options of training many networks at once, for the parameter `training` of ensembles.

    Parameters
    ----------
    block_size : int, default=None
        Number of members that train together. If None, as many as fit the free memory of a GPU, or
        a quarter of a gibibyte of a CPU's memory.
    mixed_precision : bool, default=False
        Whether forward passes use bfloat16 where torch's autocast does. Faster on recent GPUs;
        members are other ones than without, and as good an ensemble.

    Examples
    --------
    >>> from sksmooth.neural_network import StackedTraining
    >>> StackedTraining(block_size=64)
    StackedTraining(block_size=64, mixed_precision=False)
    """

    block_size: int | None = None
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        size: Any = self.block_size
        if size is not None and (
            isinstance(size, bool) or not isinstance(size, Integral) or size < 1
        ):
            raise ValueError(f"block_size must be None or an integer of at least 1. Got {size!r}.")
        if not isinstance(self.mixed_precision, bool):
            raise ValueError(
                f"mixed_precision must be True or False. Got {self.mixed_precision!r}."
            )
