# SPDX-License-Identifier: BSD-3-Clause
"""Many skorch nets trained at once: one module's parameters, stacked along a first axis.

Forward and backward passes are those of one module, mapped over the members by ``torch.func``; SGD
and Adam work number by number, so one optimizer over the stacked parameters is one for each member.
What differs from training one by one is the rounding of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.func import functional_call, vmap
from torch.nn.utils.rnn import pad_sequence

from ._convolutions import multiplies_windows, use_products
from ._dropout import Dropouts
from ._loop import Loop
from ._state import UnlikeAloneError, Watch


class Stack:
    """The parameters and buffers of several modules that are alike, and one step of their training.

    Parameters that are not trained and buffers stay shared where all members have the same: a
    frozen trunk is in memory once.
    """

    def __init__(self, nets: list[Any], device: torch.device):
        self.net = nets[0]
        modules = [net.module_ for net in nets]
        self.module = modules[0]
        parts = [dict(module.named_parameters()) for module in modules]
        self.trained: dict[str, torch.nn.Parameter] = {}
        self.shared: dict[str, torch.Tensor] = {}
        self.stacked: dict[str, torch.Tensor] = {}
        for name, first in parts[0].items():
            values = [part[name].detach() for part in parts]
            if first.requires_grad:
                self.trained[name] = torch.nn.Parameter(torch.stack(values).to(device))
            else:
                self._keep(name, values, device)
        buffers = [dict(module.named_buffers()) for module in modules]
        for name in buffers[0]:
            self._keep(name, [b[name] for b in buffers], device)

    def _keep(self, name: str, values: list[torch.Tensor], device: torch.device) -> None:
        if all(v is values[0] or torch.equal(v, values[0]) for v in values[1:]):
            self.shared[name] = values[0].to(device)
        else:
            self.stacked[name] = torch.stack(values).to(device)

    def new_optimizer(self) -> torch.optim.Optimizer:
        """Return the nets' optimizer, over the stacked parameters."""
        args, kwargs = self.net.get_params_for_optimizer("optimizer", self.trained.items())
        return self.net.optimizer(*args, **kwargs)

    def losses(self, dropouts: Dropouts) -> Callable[..., torch.Tensor]:
        """Return a function from inputs, labels and masks to the loss of each member."""
        net, module, shared = self.net, dropouts.module, self.shared

        def loss(trained: Any, stacked: Any, masks: Any, x: Any, y: Any) -> torch.Tensor:
            given = {**shared, **stacked, **trained, **masks}
            values = dict(given)
            outputs = functional_call(module, values, (x,))
            for name, value in values.items():
                if value is not given[name]:  # what the module put in its place is lost
                    raise UnlikeAloneError(f"{type(module).__name__} replaces {name} in training")
            return net.get_loss(outputs, y, X=x, training=True)

        return vmap(loss, randomness="error")

    def versions(self) -> list[int]:
        """Return what tells whether a tensor that is not trained was written to."""
        return [value._version for value in [*self.shared.values(), *self.stacked.values()]]

    def write_back(self, nets: list[Any], optimizer: torch.optim.Optimizer) -> None:
        """Give each net its parameters, and the state of its optimizer."""
        with torch.no_grad():
            for k, net in enumerate(nets):
                own = dict(net.module_.named_parameters())
                for name, stacked in self.trained.items():
                    own[name].copy_(stacked[k])
                    net.optimizer_.state[own[name]] = {
                        key: value[k].clone()
                        if torch.is_tensor(value) and value.shape == stacked.shape
                        else (value.clone() if torch.is_tensor(value) else value)
                        for key, value in optimizer.state.get(stacked, {}).items()
                    }


class StackedLoop(Loop):
    """Several members together."""

    # Whether a step takes gradients of single rows.
    by_row = False

    def __init__(self, *args: Any):
        super().__init__(*args)
        nets = [unit.net for unit in self.units]
        self.stack = Stack(nets, self.device)
        self.dropouts = Dropouts(nets[0].module_, self.block.example())
        if multiplies_windows(self.device, by_row=self.by_row):
            use_products(self.dropouts.module)
        self.losses = self.stack.losses(self.dropouts)
        self.watch = Watch(self.dropouts.module, nets[0].criterion_)
        self.optimizer = self.stack.new_optimizer()

    def step(self, inputs: torch.Tensor, labels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """See `Loop.step`."""
        stack, masks = self.stack, self.masks(sizes)
        with self.autocast():
            losses = self.losses(stack.trained, stack.stacked, masks, inputs, labels)
        self.optimizer.zero_grad()
        losses.sum().backward()  # each member's gradient is that of its own loss
        self.optimizer.step()
        return losses.detach()

    def run(self) -> None:
        """Train all epochs, and give each net its parameters."""
        before = self.stack.versions()
        super().run()
        changed = self.watch.changed()
        if changed is None and self.stack.versions() != before:
            changed = f"{type(self.dropouts.module).__name__} changes a buffer in training"
        if changed is not None:
            raise UnlikeAloneError(changed)
        self.stack.write_back([unit.net for unit in self.units], self.optimizer)

    def masks(self, sizes: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the masks of dropout layers: 0 beyond a member's own rows."""
        if not self.dropouts:
            return {}
        drawn = [
            self.dropouts.draw(size, unit.dropout)
            for size, unit in zip(sizes.tolist(), self.units, strict=True)
        ]
        padded = {}
        for name in drawn[0]:
            mask = pad_sequence([masks[name] for masks in drawn], True)
            # Where all batches are empty, there is still a row, which is nobody's.
            padded[name] = mask if mask.shape[1] else mask.new_zeros(len(mask), 1, *mask.shape[2:])
        return padded
