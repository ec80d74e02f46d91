# SPDX-License-Identifier: BSD-3-Clause
"""Convolutions of a stack as products of matrices, one for each member.

Mapped over members, a convolution becomes one with a group for each member, for which a step of
many of RAB's networks takes twice as long on an H200 (``benchmarks/bench_neural.py``). On a CPU,
and for the gradients of single rows, groups are faster.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch


def multiplies_windows(device: torch.device, *, by_row: bool) -> bool:
    """Tell whether products of matrices are the faster way."""
    return device.type == "cuda" and not by_row


def as_products(part: torch.nn.Module) -> bool:
    """Tell whether a layer can be written as the product of its windows with its weights."""
    return (
        type(part) is torch.nn.Conv2d
        and part.groups == 1
        and part.dilation == (1, 1)
        and part.padding_mode == "zeros"
        and not isinstance(part.padding, str)
    )


def use_products(module: torch.nn.Module) -> None:
    """Let the convolutions of a module multiply matrices."""
    for part in module.modules():
        if as_products(part):
            part.forward = MethodType(_forward, part)  # type: ignore[method-assign]


def window_size(part: Any, output: torch.Tensor) -> int:
    """Return how many numbers the windows of all inputs of a layer have together."""
    width: int = part.weight[0].numel()
    return output.numel() // output.shape[-3] * width


def _forward(self: Any, x: torch.Tensor) -> torch.Tensor:
    if x.ndim != 4:
        return self._conv_forward(x, self.weight, self.bias)
    (height, width), (down, right) = self.kernel_size, self.stride
    if self.padding != (0, 0):
        rows, columns = self.padding
        x = torch.nn.functional.pad(x, (columns, columns, rows, rows))
    windows = x.permute(0, 2, 3, 1).unfold(1, height, down).unfold(2, width, right)
    shape = windows.shape[:3]
    flat, weights = windows.reshape(shape.numel(), -1), self.weight.flatten(1).T
    y = flat @ weights if self.bias is None else torch.addmm(self.bias, flat, weights)
    return y.unflatten(0, shape).permute(0, 3, 1, 2)
