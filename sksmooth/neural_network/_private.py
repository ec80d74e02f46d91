# SPDX-License-Identifier: BSD-3-Clause
"""Differentially private SGD for many nets at once: what Opacus does for one.

As in its `DPOptimizer`: a gradient for each row, scaled to a norm of at most `max_grad_norm` over
all parameters; their sum; Gaussian noise of `noise_multiplier * max_grad_norm`; and division by the
expected number of rows. Members draw their batches and noise as Opacus would for them alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.func import functional_call, grad_and_value, vmap

from ._dropout import Dropouts
from ._rows import loss_of_row
from ._stacked import Stack, StackedLoop

# What Opacus adds to a norm before it divides by it.
_TINY = 1e-6

# Most numbers in the gradients of single rows at a time.
_AT_A_TIME = 2**24


class PrivateLoop(StackedLoop):
    """Several members together, privately."""

    by_row = True

    def __init__(self, *args: Any):
        super().__init__(*args)
        net = self.units[0].net
        self.gradients = row_gradients(self.stack, self.dropouts)
        # Norms and noise in the order in which Opacus goes through parameters.
        names = {id(p): name for name, p in net.module_.named_parameters()}
        groups = net.optimizer_.param_groups
        self.names = [names[id(p)] for g in groups for p in g["params"] if p.requires_grad]
        self.n_steps = 0

    def step(self, inputs: torch.Tensor, labels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """See `Loop.step`."""
        trained, masks = self.stack.trained, self.masks(sizes)
        own = torch.arange(inputs.shape[1], device=self.device) < sizes[:, None]
        sums = {name: torch.zeros_like(p) for name, p in trained.items()}
        losses = torch.zeros(len(self.units), dtype=torch.float64, device=self.device)
        n_values = sum(p.numel() for p in trained.values())
        at_a_time = max(1, _AT_A_TIME // n_values)
        for start in range(0, inputs.shape[1], at_a_time):
            part = slice(start, start + at_a_time)
            gradients, values = self.gradients(
                trained,
                self.stack.stacked,
                {name: mask[:, part] for name, mask in masks.items()},
                inputs[:, part],
                labels[:, part],
            )
            losses += torch.where(own[:, part], values, 0.0).sum(dim=1)
            self._add_clipped(sums, gradients, own[:, part])
        self._noisy(sums)
        self.optimizer.step()
        self.n_steps += 1
        return losses / sizes.clamp(min=1)

    def _add_clipped(
        self, sums: dict[str, torch.Tensor], gradients: dict[str, torch.Tensor], own: torch.Tensor
    ) -> None:
        norms = [gradients[name].flatten(2).norm(2, dim=-1) for name in self.names]
        norm = torch.stack(norms, dim=2).norm(2, dim=2)
        # Rows that are no member's may hold anything, and those without a finite gradient would be
        # seen through any noise: 0 times them will not do.
        own = own & torch.isfinite(norm)
        factor = (self.units[0].net.max_grad_norm / (norm + _TINY)).clamp(max=1.0)
        factor = torch.where(own, factor, 0.0)
        for name, gradient in gradients.items():
            gradient = torch.where(own.reshape(*own.shape, *[1] * (gradient.ndim - 2)), gradient, 0)
            sums[name] += torch.einsum("ki,ki...->k...", factor.to(gradient.dtype), gradient)

    def _noisy(self, sums: dict[str, torch.Tensor]) -> None:
        net = self.units[0].net
        std = net.noise_multiplier_ * net.max_grad_norm
        for k, unit in enumerate(self.units):
            for name in self.names if std > 0.0 else []:
                total = sums[name][k]
                total += torch.normal(
                    0.0, std, total.shape, generator=unit.dropout, dtype=total.dtype,
                    device=total.device,
                )  # fmt: skip
        for name, parameter in self.stack.trained.items():
            parameter.grad = sums[name] / net._expected_batch_size

    def run(self) -> None:
        """Train all epochs, and account for them."""
        super().run()
        for unit in self.units:
            unit.net._note_steps(self.n_steps)


def row_gradients(stack: Stack, dropouts: Dropouts) -> Callable[..., Any]:
    """Return a function from parameters and batches to each row's gradients, and its loss."""
    net, module, shared = stack.net, dropouts.module, stack.shared

    def loss(trained: Any, stacked: Any, masks: Any, x: Any, y: Any) -> torch.Tensor:
        masks = {name: mask[None] for name, mask in masks.items()}
        values = {**shared, **stacked, **trained, **masks}
        outputs = functional_call(module, values, (x[None],))
        return loss_of_row(net, outputs, y[None], x[None])

    of_rows = vmap(grad_and_value(loss), in_dims=(None, None, 0, 0, 0), randomness="error")
    return vmap(of_rows, randomness="error")
