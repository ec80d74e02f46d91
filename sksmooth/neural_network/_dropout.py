# SPDX-License-Identifier: BSD-3-Clause
"""Dropout whose masks are given: each member of a stack has its own, from its own stream."""

from __future__ import annotations

import copy
from typing import Any

import torch

_KINDS = (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d)


class _Masked(torch.nn.Module):
    mask: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.mask


class Dropouts:
    """The dropout layers of a module: in the order of their use, with the shapes of their masks.

    Attributes
    ----------
    module : torch.nn.Module
        A copy of the module in training mode, whose dropout layers multiply by the buffer `mask`.
    layers : list of (name, shape without the batch, probability of being dropped)
    problem : str or None
        Why masks cannot be given, where that is so.
    """

    def __init__(self, module: torch.nn.Module, example: torch.Tensor):
        self.module = copy.deepcopy(module).train()
        self.layers: list[tuple[str, tuple[int, ...], float]] = []
        self.problem: str | None = None
        names = {
            part: name
            for name, part in self.module.named_modules()
            if type(part) in _KINDS and part.training and part.p > 0
        }
        if not names:
            return
        if "" in names.values():
            self.problem = "it is a dropout layer itself"
            return

        def note(part: Any, inputs: Any, output: torch.Tensor) -> None:
            name, shape = names[part], tuple(output.shape)
            if name in [layer[0] for layer in self.layers]:
                self.problem = f"its dropout layer {name!r} is used more than once"
            if not shape or shape[0] != len(example):
                self.problem = f"the first axis at its dropout layer {name!r} is not the batch"
            kept = 2 if type(part) is not torch.nn.Dropout else len(shape)  # whole channels
            mask = shape[1:kept] + (1,) * (len(shape) - kept)
            self.layers.append((name, mask, float(part.p)))

        hooks = [part.register_forward_hook(note) for part in names]
        try:
            with torch.no_grad():
                self.module(example)
        finally:
            for hook in hooks:
                hook.remove()
        for name in names.values():
            parent, _, last = name.rpartition(".")
            setattr(self.module.get_submodule(parent), last, _Masked())

    def __bool__(self) -> bool:
        return bool(self.layers)

    def draw(self, size: int, dtype: torch.dtype, rng: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the masks of one member for one batch, as torch's dropout draws them."""
        masks = {}
        for name, shape, p in self.layers:
            mask = torch.zeros(size, *shape, dtype=dtype, device=rng.device)
            if p < 1.0:
                mask.bernoulli_(1.0 - p, generator=rng).div_(1.0 - p)
            masks[f"{name}.mask"] = mask
        return masks
