# SPDX-License-Identifier: BSD-3-Clause
"""Whether a net takes batches of the sizes that it will see, as skorch would find out."""

from __future__ import annotations

from typing import Any

import torch


def sizes_of(loader: Any) -> tuple[int, ...]:
    """Return the sizes of a loader's batches: of the full ones, and of the last."""
    whole, rest = divmod(len(loader.dataset), loader.batch_size)
    full = [loader.batch_size] if whole else []
    return *full, *([rest] if rest and not loader.drop_last else [])


def run_on(net: Any, inputs: torch.Tensor, targets: torch.Tensor, size: int, training: bool) -> Any:
    """Run an initialised net on so many rows, these over and over; raise what it raises."""
    rows = torch.arange(size, device=inputs.device) % len(inputs)
    x, y = inputs[rows], targets[rows]
    before = net.module_.training
    net._set_training(training)
    try:
        with torch.no_grad():
            net.get_loss(net.infer(x), y, X=x, training=training)
    finally:
        net._set_training(before)
