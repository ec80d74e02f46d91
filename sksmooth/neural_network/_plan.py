# SPDX-License-Identifier: BSD-3-Clause
"""How the nets of an ensemble are trained: together, one by one, or by skorch's own loop."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from ..ensemble._nets import Stacking
from ..ensemble._stacking import StackedTraining
from ._blocks import TRIAL_ROWS, inputs_of
from ._convolutions import as_products, multiplies_windows, window_size
from ._dropout import Dropouts
from ._nets import copied, has_convolutions, is_private, trial_copy, why_not_ours
from ._private import row_gradients
from ._sources import counted
from ._stacked import Stack

# Bytes that a block may take on a CPU; of a GPU's free memory it takes the half.
_CPU_BYTES = 2**28
# On a CPU ten members share the time of starting operations well enough, and their noisy rows may
# stay in its cache. Larger nets gain nothing: products of matrices are then most of the time.
_CPU_MEMBERS, _CPU_PARAMETERS = 10, 75_000
# So many members should train together where their noise is kept; else it is drawn in each epoch.
_LEAST_ON_CPU, _LEAST_ON_GPU = 4, 64


def plan(recipe: Any, asked: StackedTraining | None) -> Stacking | str | None:
    """Return how members are trained by the loops here, or why they cannot be.

    None is a choice: that skorch's own loop is as fast as any.

    Parameters
    ----------
    recipe : Recipe
        All that training takes.
    asked : StackedTraining or None
        How members shall be trained together; None where that is for us to say.
    """
    reason = why_not_ours(recipe.estimator)
    if reason is not None:
        return reason
    if recipe.fit_params:
        return f"fit was given {', '.join(sorted(recipe.fit_params))}"
    trial = _Trial(recipe)
    if trial.is_lazy:
        return f"{trial.name} settles the shapes of its parameters at the first batch"
    if asked is None and trial.large_on_a_cpu():
        if is_private(recipe.estimator):
            return None
        return Stacking(1, trial.keeps_noise(1), False, together=False)
    reason = trial.why_not_together()
    if reason is not None:
        return reason
    options = StackedTraining() if asked is None else asked
    size = trial.block_size() if options.block_size is None else int(options.block_size)
    return Stacking(size, trial.keeps_noise(size), options.mixed_precision)


def _global_states() -> tuple[Any, ...]:
    """Return the states of the generators of Python and NumPy."""
    _, words, *rest = np.random.get_state(legacy=True)
    return random.getstate(), np.asarray(words).tobytes(), rest


def _same(one: Any, other: Any) -> bool:
    """Tell whether two attributes are alike; functions and other objects are by their type."""
    if torch.is_tensor(one) and torch.is_tensor(other):
        return one.shape == other.shape and bool(torch.equal(one, other))
    if isinstance(one, (list, tuple)) and type(one) is type(other):
        return len(one) == len(other) and all(map(_same, one, other))
    plain = (bool, int, float, complex, str, bytes, np.ndarray, np.generic, type(None))
    if isinstance(one, plain) or isinstance(other, plain):
        return type(one) is type(other) and bool(np.array_equal(one, other))
    return one == other or type(one) is type(other)


class _Trial:
    """Two members, tried out on a few rows; that tells also how much memory one takes."""

    def __init__(self, recipe: Any):
        self.recipe, self.device = recipe, torch.device(recipe.net.device)
        self.dtype = getattr(torch, recipe.net.dtype)
        self.nets = [copied(recipe.estimator).initialize() for _ in range(2)]
        few = recipe.features.rows(slice(0, TRIAL_ROWS))
        self.inputs = inputs_of(recipe, few, self.dtype, self.device)
        module = self.nets[0].module_
        self.name = type(module).__name__
        self.is_lazy = any(map(is_lazy, module.parameters()))
        trained = [p for p in module.parameters() if p.requires_grad and not is_lazy(p)]
        self.n_values = sum(p.numel() for p in trained)

    def large_on_a_cpu(self) -> bool:
        """Tell whether members are trained faster one by one."""
        return self.device.type == "cpu" and (
            self.n_values > _CPU_PARAMETERS or has_convolutions(self.nets[0].module_)
        )

    def why_not_together(self) -> str | None:
        """Return why the module's training cannot be mapped over members, or None."""
        reason = self._differences()
        if reason is not None:
            return reason
        before = _global_states()
        reason = self._why_not_mapped()
        if reason is None and _global_states() != before:
            # Mapped over members, it would draw once for all of them.
            return f"{self.name} draws from the generator of Python or NumPy in training"
        return reason

    def _differences(self) -> str | None:
        """Return what differs between members, but for what is stacked."""
        criteria = [net.criterion_ for net in self.nets]
        if all(isinstance(criterion, torch.nn.Module) for criterion in criteria):
            if any(True for _ in criteria[0].parameters()):
                return "its criterion has parameters"
            pairs = zip(criteria[0].buffers(), criteria[1].buffers(), strict=True)
            if not all(torch.equal(a, b) for a, b in pairs):
                return "its criterion draws a buffer of its own for each member"
        modules = [[*net.module_.modules()] for net in self.nets]
        kinds = [[type(part) for part in parts] for parts in modules]
        if kinds[0] != kinds[1]:
            return f"members of {self.name} have other layers than one another"
        for one, other in [*zip(*modules, strict=True), tuple(criteria)]:
            for name in sorted({*vars(one), *vars(other)}):
                if not name.startswith("_") and not _same(
                    vars(one).get(name, ...), vars(other).get(name, ...)
                ):
                    return f"{type(one).__name__}.{name} differs from member to member"
        return None

    def _why_not_mapped(self) -> str | None:
        module = trial_copy(self.nets[0].module_)
        before = {name: value.clone() for name, value in module.named_buffers()}
        module(self.inputs)
        changed = [n for n, value in module.named_buffers() if not torch.equal(value, before[n])]
        if changed:
            return (
                f"{type(module).__name__} changes its buffer {changed[0]} in training (as batch "
                "normalisation does)"
            )
        try:
            dropouts = Dropouts(self.nets[0].module_, self.inputs)
            if dropouts.problem is not None:
                return dropouts.problem
            self._take_a_step(dropouts)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as failure:
            first_line = (str(failure) or type(failure).__name__).strip().splitlines()[0]
            return f"torch.func cannot map its training over members: {first_line}"
        return None

    def _take_a_step(self, dropouts: Dropouts) -> None:
        stack, n_rows = Stack(self.nets, self.device), len(self.inputs)
        y = self._targets(self.recipe.labels[:n_rows])
        rng = torch.Generator(device=self.device)
        masks = [dropouts.draw(n_rows, self.dtype, rng) for _ in self.nets]
        stacked_masks = {name: torch.stack([m[name] for m in masks]) for name in masks[0]}
        x = torch.stack([self.inputs] * 2)
        given = (stack.trained, stack.stacked, stacked_masks, x, torch.stack([y, y]))
        if is_private(self.nets[0]):
            row_gradients(stack, dropouts)(*given)
        else:
            stack.losses(dropouts)(*given).sum().backward()

    def _targets(self, labels: np.ndarray) -> torch.Tensor:
        y = labels if is_private(self.nets[0]) else self.recipe.classes[labels]
        return torch.from_numpy(y).to(self.device)

    def block_size(self) -> int:
        """Return how many members fit the memory, with their noisy rows if these are not large."""
        one, noise, budget = self._bytes()
        with_noise, without = budget // (one + noise), budget // one
        if self.device.type != "cpu":
            return max(1, with_noise if with_noise >= _LEAST_ON_GPU else without)
        return max(1, min(_CPU_MEMBERS, with_noise if with_noise >= _LEAST_ON_CPU else without))

    def keeps_noise(self, size: int) -> bool:
        """Tell whether the noisy rows of so many members fit the memory.

        Those that are not drawn by counting have to be kept.
        """
        one, noise, budget = self._bytes()
        return not counted(self.recipe) or size * (one + noise) <= budget

    def _bytes(self) -> tuple[int, int, int]:
        """Return what one member takes, what its noisy rows take, and what there is."""
        n_samples, n_features = self.recipe.features.n_samples, self.inputs.shape[1]
        batch = self.nets[0].batch_size
        batch = n_samples if batch == -1 else min(batch, n_samples)
        # Parameters, gradients and two moments; of each output the gradient and a temporary too.
        one = 4 * self.n_values + batch * (n_features + 3 * self._outputs())
        budget = _CPU_BYTES
        if self.device.type == "cuda":
            budget = torch.cuda.mem_get_info(self.device)[0] // 2
        size = self.dtype.itemsize
        return size * one, size * n_samples * n_features, budget

    def _outputs(self) -> int:
        """Return how many numbers the layers give for one input."""
        sizes: list[int] = []
        windows = multiplies_windows(self.device, by_row=is_private(self.nets[0]))

        def note(part: Any, inputs: Any, output: Any) -> None:
            if torch.is_tensor(output):
                sizes.append(output.numel() // len(self.inputs))
                if windows and as_products(part):
                    sizes.append(window_size(part, output) // len(self.inputs))

        module = trial_copy(self.nets[0].module_)
        for part in module.modules():
            if not list(part.children()):
                part.register_forward_hook(note)
        with torch.no_grad():
            module(self.inputs)
        return sum(sizes)
