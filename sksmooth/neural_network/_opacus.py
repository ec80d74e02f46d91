# SPDX-License-Identifier: BSD-3-Clause
"""Opacus' hooks on a module and its wrapper around an optimizer, while one net is trained."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator

# What Opacus leaves on a parameter, and on a layer: the latter is what rows have become there.
_LEFT_ON_PARAMETERS = ("grad_sample", "summed_grad", "_forward_counter", "_current_grad_sample")
_LEFT_ON_LAYERS = ("activations", "max_batch_len", "autograd_grad_sample_hooks")


class NotApartError(ValueError):
    """Rows have to do with one another, or their gradients are not found."""


class Private:
    """What makes the training of a net private, while it lasts."""

    def __init__(self, net: Any):
        self.module = net.module_
        self.trained = trained(self.module)
        try:
            self.hooks = GradSampleHooks(self.module, batch_first=True, loss_reduction="mean")
            self.hooks.forbid_grad_accumulation()
            self.steps = ClippingOptimizer(
                net.optimizer_,
                noise_multiplier=net.noise_multiplier_,
                max_grad_norm=net.max_grad_norm,
                expected_batch_size=net._expected_batch_size,
            )
        except BaseException:
            for hook in vars(self.module).get("autograd_grad_sample_hooks", []):
                hook.remove()
            self._leave_nothing(_LEFT_ON_PARAMETERS, _LEFT_ON_LAYERS)
            raise
        self.checked = False  # whether rows are seen to be apart

    def is_of(self, net: Any) -> bool:
        """Tell whether these are still the parameters that the net trains."""
        now = trained(net.module_)
        return self.steps.original_optimizer is net.optimizer_ and (
            [*map(id, now.values())] == [*map(id, self.trained.values())]
        )

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Let the hooks see nothing for a while."""
        self.hooks.disable_hooks()
        try:
            yield
        finally:
            self.hooks.enable_hooks()

    def clear(self) -> None:
        """Forget all of the last batch, also where its step was not completed."""
        self.steps.zero_grad(set_to_none=True)
        self._leave_nothing(("_current_grad_sample",), ("activations", "max_batch_len"))
        for parameter in self.trained.values():
            vars(parameter)["_forward_counter"] = 0

    def end(self) -> None:
        """Remove all, with the last gradients."""
        self.steps.zero_grad(set_to_none=True)
        self.hooks.cleanup()
        self._leave_nothing(_LEFT_ON_PARAMETERS, _LEFT_ON_LAYERS)

    def gather(self, n_rows: int) -> None:
        """Let each parameter of the optimizer have a gradient of each row, 0 where it has no part.

        Which parameters a batch makes use of depends on its rows, so that all of them get noise.
        """
        names = {id(p): name for name, p in self.trained.items()}
        for p in self.steps.params:
            name, of_rows = names.get(id(p)), vars(p).get("grad_sample")
            if of_rows is None:  # a use of it that led to no output is still waited for
                of_rows = vars(p).pop("_current_grad_sample", None)
            if of_rows is None and p.grad is not None and bool(p.grad.any()):
                raise NotApartError(
                    f"Opacus finds no gradient for each row of the parameter {name or 'of size '}"
                    f"{'' if name else tuple(p.shape)}: it is used outside of its layer."
                )
            if of_rows is None:
                of_rows = p.new_zeros(()).expand(n_rows, *p.shape)
            if len(of_rows) != n_rows:
                raise NotApartError(
                    f"The layer of the parameter {name} must see one row for each of the batch. "
                    f"Got {len(of_rows)} for {n_rows}: clipped by themselves, parts of a row "
                    "would together have a larger norm than max_grad_norm."
                )
            p.grad_sample = of_rows.detach()

    def _leave_nothing(self, on_parameters: Any, on_layers: Any) -> None:
        for parameter in self.module.parameters():
            for name in on_parameters:
                vars(parameter).pop(name, None)
        for layer in self.module.modules():
            for name in on_layers:
                vars(layer).pop(name, None)


class ClippingOptimizer(DPOptimizer):
    """Opacus' optimizer; rows whose gradients are not finite have no part in the sum."""

    def clip_and_accumulate(self) -> None:
        """Write the sum of clipped gradients to each parameter's ``summed_grad``."""
        gradients = self.grad_samples
        norms = [g.reshape(len(g), math.prod(g.shape[1:])).norm(2, dim=-1) for g in gradients]
        norm = torch.stack(norms, dim=1).norm(2, dim=1)
        finite = torch.isfinite(norm)
        factor = (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        if not bool(finite.all()):
            # The sum would tell whether such a row is there, through any noise.
            factor = torch.where(finite, factor, 0.0)
            gradients = [
                torch.where(finite.reshape(-1, *[1] * (g.ndim - 1)), g, 0.0) for g in gradients
            ]
        for p, gradient in zip(self.params, gradients, strict=True):
            p.summed_grad = torch.einsum("i,i...", factor.to(gradient.dtype), gradient)


def trained(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that are trained."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def refuse_parts(net: Any) -> None:
    """Raise ValueError for layers, parameters and optimizers that Opacus cannot train."""
    refused = []
    for name, layer in net.module_.named_modules():
        if not any(p.requires_grad for p in layer.parameters(recurse=False)):
            continue
        reasons = ModuleValidator.VALIDATORS.get(type(layer), lambda layer: [])(layer)
        if not reasons and any(True for _ in layer.buffers()):
            reasons = ["It has parameters that are trained, and buffers."]
        refused += [
            f"{name or 'the module'} ({type(layer).__name__}): {str(why).splitlines()[0]}"
            for why in reasons
        ]
    if refused:
        raise ValueError(
            f"Opacus cannot train these layers with a gradient for each row: {'; '.join(refused)}"
        )
    for name, p in trained(net.module_).items():
        if p.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"Parameters of the module must be of dtype float32 or float64, or sums of rows "
                f"and noise are too coarse to be private. Got {p.dtype} of {name}."
            )
    closure = inspect.signature(net.optimizer_.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"optimizer must take a step from one gradient, with noise. "
            f"{type(net.optimizer_).__name__} asks for more of them in a step."
        )
