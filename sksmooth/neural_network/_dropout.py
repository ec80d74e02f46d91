# SPDX-License-Identifier: BSD-3-Clause
"""Dropout whose masks are given: each member of a stack has its own, from its own stream."""

from __future__ import annotations

import copy
from typing import Any

import torch

# With the numbers of axes at which the first one is the batch (None: any); of the others, whole
# channels are dropped.
_KINDS: dict[type[torch.nn.Module], tuple[int, ...] | None] = {
    torch.nn.Dropout: None,
    torch.nn.Dropout1d: (3,),
    torch.nn.Dropout2d: (3, 4),
    torch.nn.Dropout3d: (5,),
}


def without_dropout(module: torch.nn.Module) -> torch.nn.Module:
    """Let the dropout layers of a module drop nothing."""
    for part in module.modules():
        if type(part) in _KINDS:
            part.p = 0.0  # type: ignore[assignment]
    return module


class _Masked(torch.nn.Module):
    mask: torch.Tensor

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace
        self.register_buffer("mask", torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(self.mask) if self.inplace else x * self.mask


class Dropouts:
    """The dropout layers of a module: in the order of their use, with the shapes of their masks.

    Attributes
    ----------
    module : torch.nn.Module
        A copy of the module in training mode, whose dropout layers multiply by the buffer `mask`.
    layers : list of (name, shape without the batch, type, probability of being dropped)
    problem : str or None
        Why masks cannot be given, where that is so.
    """

    def __init__(self, module: torch.nn.Module, example: torch.Tensor):
        self.module = copy.deepcopy(module).train()
        self.layers: list[tuple[str, tuple[int, ...], torch.dtype, float]] = []
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

        self.layers = self._layers(names, example)
        # Only with another number of rows is the first axis known to be that of the batch.
        others = self._layers(names, torch.cat([example, example[:1]]))
        if self.problem is None and self.layers != others:
            self.problem = "its dropout layers take other shapes, or another order, with more rows"
        for part, name in names.items():
            parent, _, last = name.rpartition(".")
            setattr(self.module.get_submodule(parent), last, _Masked(part.inplace))

    def _layers(
        self, names: dict[Any, str], example: torch.Tensor
    ) -> list[tuple[str, tuple[int, ...], torch.dtype, float]]:
        layers: list[tuple[str, tuple[int, ...], torch.dtype, float]] = []

        def note(part: Any, inputs: Any, output: torch.Tensor) -> None:
            name, shape = names[part], tuple(output.shape)
            if name in [layer[0] for layer in layers]:
                self.problem = f"its dropout layer {name!r} is used more than once"
            axes = _KINDS[type(part)]
            if not shape or shape[0] != len(example) or (axes and len(shape) not in axes):
                self.problem = f"the first axis at its dropout layer {name!r} is not the batch"
            kept = len(shape) if axes is None else 2
            mask = shape[1:kept] + (1,) * (len(shape) - kept)
            layers.append((name, mask, output.dtype, float(part.p)))

        hooks = [part.register_forward_hook(note) for part in names]
        try:
            with torch.no_grad():
                self.module(example.clone())  # which it may change
        finally:
            for hook in hooks:
                hook.remove()
        return layers

    def __bool__(self) -> bool:
        return bool(self.layers)

    def draw(self, size: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the masks of one member for one batch, as torch's dropout draws them."""
        masks = {}
        for name, shape, dtype, p in self.layers:
            mask = torch.zeros(size, *shape, dtype=dtype, device=rng.device)
            if p < 1.0:
                mask.bernoulli_(1.0 - p, generator=rng).div_(1.0 - p)
            masks[f"{name}.mask"] = mask
        return masks
