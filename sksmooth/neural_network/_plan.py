# SPDX-License-Identifier: BSD-3-Clause
"""How the nets of an ensemble are trained: together, one by one, or by skorch's own loop."""

from __future__ import annotations

import random
from functools import partial
from numbers import Number
from typing import Any

import numpy as np
import torch
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch.nn.parameter import is_lazy
from torch.utils.data import TensorDataset

from ..ensemble._nets import Stacking, is_of_the_machine
from ..ensemble._stacking import StackedTraining
from ._blocks import TRIAL_ROWS, inputs_of
from ._convolutions import as_products, multiplies_windows, window_size
from ._dropout import Dropouts, without_dropout
from ._nets import (
    batches_of,
    copied,
    has_convolutions,
    is_private,
    targets_of,
    trial_copy,
    why_not_ours,
)
from ._private import row_gradients
from ._sizes import run_on, sizes_of
from ._sources import counted
from ._stacked import Stack
from ._state import (
    Calls,
    UnlikeAloneError,
    Watch,
    fingerprint,
    kept_by,
    layout,
    tensors_of,
    why_hooked,
)

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
    reason = why_not_ours(recipe.estimator) or _why_not_batches(recipe.estimator)
    if reason is not None:
        return reason
    if recipe.fit_params:
        return f"fit was given {', '.join(sorted(recipe.fit_params))}"
    trial = _Trial(recipe)
    if trial.is_lazy:
        return f"{trial.name} settles the shapes of its parameters at the first batch"
    reason = trial.why_by_skorch()
    if reason is not None:
        return reason
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


def _numpy_states() -> tuple[Any, ...]:
    """Return the states of the generators of Python and NumPy."""
    _, words, *rest = np.random.get_state(legacy=True)
    return random.getstate(), np.asarray(words).tobytes(), rest


def _all_states() -> tuple[Any, ...]:
    """Return the states of those of torch, too."""
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    states = [torch.get_rng_state(), *on_gpus]
    return *_numpy_states(), [state.numpy().tobytes() for state in states]


def _different(pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> str | None:
    """Return the name of what differs by more than the rounding of sums, or None.

    A member whose numbers are not finite tells nothing.
    """
    if not all(bool(torch.isfinite(alone).all()) for alone, _ in pairs.values()):
        return None
    # Of all gradients: one may be a sum of rounding errors, as that of a bias before a softmax.
    sizes = {name: float(alone.abs().max()) for name, (alone, _) in pairs.items() if alone.numel()}
    largest = max((size for name, size in sizes.items() if name != "loss"), default=0.0)
    for name in sizes:
        alone, together = pairs[name]
        # On a GPU convolutions may round their inputs to 10 bits.
        rounding = 0.02 if alone.is_cuda else torch.finfo(alone.dtype).eps ** 0.5
        scale = sizes[name] if name == "loss" else largest
        if not bool(((alone - together).abs() <= rounding * scale).all()):
            return name
    return None


def _first_line(failure: Exception) -> str:
    if is_of_the_machine(failure):
        raise failure
    return (str(failure) or type(failure).__name__).strip().splitlines()[0]


def _why_not_batches(net: Any) -> str | None:
    """Return why a net's batches are not known to be those that skorch would make, or None."""
    split = net.train_split
    if split and not _is_known(split):
        name = getattr(split, "__name__", type(split).__name__)
        return f"train_split is {name}, which may look at the rows"
    if net.get_params_for("iterator_valid").get("shuffle"):
        return "iterator_valid has the argument shuffle"
    if net.get_params_for("iterator_train").get("batch_size", 0) is None:
        return "iterator_train has batch_size=None"
    return None


def _is_known(split: Any) -> bool:
    """Tell whether a split of the rows is one of skorch's, by their number and labels alone."""
    if type(split) is ValidSplit:
        cv = split.cv
        return isinstance(cv, Number) or type(cv).__module__.startswith("sklearn.model_selection.")
    return (
        isinstance(split, partial)
        and split.func is predefined_split(None).func
        and set(split.keywords) == {"valid_ds"}
        and type(split.keywords["valid_ds"]) in (Dataset, TensorDataset)
    )


class _Trial:
    """Two members, tried out on a few rows; that tells also how much memory one takes."""

    def __init__(self, recipe: Any):
        self.recipe, self.device = recipe, torch.device(recipe.net.device)
        self.nets = [copied(recipe.estimator).initialize() for _ in range(2)]
        dtype = getattr(torch, recipe.net.dtype)
        inputs = inputs_of(recipe, recipe.features.rows(slice(0, TRIAL_ROWS)), dtype, self.device)
        rows = np.arange(TRIAL_ROWS) % len(inputs)  # so many even where there are fewer
        self.inputs = inputs[torch.from_numpy(rows).to(self.device)]
        labels = recipe.labels[rows]
        y = labels if is_private(self.nets[0]) else recipe.classes[labels]
        self.targets = torch.from_numpy(y).to(self.device)
        self.module = self.nets[0].module_
        self.name = type(self.module).__name__
        parameters = [*self.module.parameters()]
        self.is_lazy = any(map(is_lazy, parameters))
        trained = [p for p in parameters if p.requires_grad and not is_lazy(p)]
        self.n_values = sum(p.numel() for p in trained)
        self.not_mapped: str | None = None

    def large_on_a_cpu(self) -> bool:
        """Tell whether members are trained faster one by one."""
        return self.device.type == "cpu" and (
            self.n_values > _CPU_PARAMETERS or has_convolutions(self.module)
        )

    def why_by_skorch(self) -> str | None:
        """Return what only skorch's own loop would follow, or None."""
        reason = why_hooked(self.module, self.nets[0].criterion_)
        if reason is not None:
            return reason
        try:
            trial_copy(self.module)  # that it can be copied
            return self._why_not_without_memory() or self._why_not_at_sizes()
        except UnlikeAloneError as failure:
            return str(failure)
        except Exception as failure:
            return f"{self.name} cannot be tried out on a few rows: {_first_line(failure)}"

    def _why_not_without_memory(self) -> str | None:
        """Return what a pass writes to or draws, but for batch normalisation, or None."""
        net = copied(self.recipe.estimator).initialize()
        module, before = net.module_.train(), _numpy_states()
        watch = Watch(module, net.criterion_)
        with Calls() as calls:
            self._pass(net)
        self.not_mapped = watch.changed() or calls.problem
        reason = watch.changed(norms=True)
        if reason is None and _numpy_states() != before:
            # Mapped over members, it would draw once for all of them.
            return f"{self.name} draws from the generator of Python or NumPy in training"
        if reason is not None:
            return reason
        # The loops here leave out the validation set.
        module.eval()
        watch, before = Watch(module, net.criterion_), _all_states()
        with torch.no_grad():
            self._pass(net)
        if watch.changed() is None and _all_states() != before:
            return f"{self.name} draws numbers when it is validated"
        return watch.changed()

    def _why_not_at_sizes(self) -> str | None:
        """Return which batches the module cannot take, as a last one of one row, or None.

        skorch's training fails there; the loops here leave out the validation set.
        """
        recipe, net = self.recipe, copied(self.recipe.estimator).initialize()
        y = recipe.classes[recipe.labels]
        try:
            net.check_data(recipe.labels, y)
            split = net.get_split_datasets(np.arange(len(y)), targets_of(net, y))
            loaders = [
                None if is_private(net) else batches_of(net, split[0]),  # else a row at a time
                None if split[1] is None else net.get_iterator(split[1], training=False),
            ]
        except Exception:  # members say so, with labels of their own
            return None
        for loader, training in zip(loaders, (True, False), strict=True):
            for size in () if loader is None else sizes_of(loader):
                try:
                    run_on(net, self.inputs, self.targets, size, training)
                except Exception as failure:
                    what = "trained" if training else "validated"
                    rows = "1 row" if size == 1 else f"{size} rows"
                    return (
                        f"{self.name} cannot be {what} on a batch of {rows}, of which there is "
                        f"one: {_first_line(failure)}"
                    )
        return None

    def _pass(self, net: Any) -> None:
        inputs = self.inputs.clone()
        net.get_loss(net.infer(inputs), self.targets, X=inputs, training=net.module_.training)

    def why_not_together(self) -> str | None:
        """Return why the module's training cannot be mapped over members, or None."""
        if self.not_mapped is not None:
            return self.not_mapped
        for name, parameter in self.module.named_parameters():
            if parameter.dtype not in (torch.float32, torch.float64):
                kind = str(parameter.dtype).removeprefix("torch.")
                return f"its parameter {name} is of {kind}, and not of float32 or float64"
        try:
            return self._differences() or self._why_not_mapped()
        except UnlikeAloneError as failure:
            return str(failure)
        except Exception as failure:
            return f"torch.func cannot map its training over members: {_first_line(failure)}"

    def _differences(self) -> str | None:
        """Return what differs between members, but for what is stacked."""
        criteria = [net.criterion_ for net in self.nets]
        if isinstance(criteria[0], torch.nn.Module) and any(True for _ in criteria[0].parameters()):
            return "its criterion has parameters"
        buffers = [tensors_of(criterion) for criterion in criteria]
        if not all(torch.equal(a, b) for a, b in zip(*buffers, strict=True)):
            return "its criterion draws a buffer of its own for each member"
        modules = [net.module_ for net in self.nets]
        if layout(modules[0]) != layout(modules[1]):
            return f"members of {self.name} have other layers than one another"
        for one, other in [*zip(*(m.modules() for m in modules), strict=True), tuple(criteria)]:
            kept, others = kept_by(one), kept_by(other)
            for name in sorted({*kept, *others}):
                missing = "is not there"
                if fingerprint(kept.get(name, missing)) != fingerprint(others.get(name, missing)):
                    return f"{type(one).__name__}.{name} differs from member to member"
        return None

    def _why_not_mapped(self) -> str | None:
        dropouts = Dropouts(self.module, self.inputs)
        if dropouts.problem is not None:
            return dropouts.problem
        self._take_a_step(dropouts)
        if is_private(self.nets[0]):
            return None
        return self._unlike_alone(TRIAL_ROWS) or self._unlike_alone(TRIAL_ROWS + 1)

    def _take_a_step(self, dropouts: Dropouts) -> None:
        stack, n_rows = Stack(self.nets, self.device), len(self.inputs)
        rng = torch.Generator(device=self.device)
        masks = [dropouts.draw(n_rows, rng) for _ in self.nets]
        stacked_masks = {name: torch.stack([m[name] for m in masks]) for name in masks[0]}
        x, y = torch.stack([self.inputs] * 2), torch.stack([self.targets] * 2)
        given = (stack.trained, stack.stacked, stacked_masks, x, y)
        if is_private(self.nets[0]):
            row_gradients(stack, dropouts)(*given)
        else:
            stack.losses(dropouts)(*given).sum().backward()

    def _unlike_alone(self, n_rows: int) -> str | None:
        """Return what differs between gradients of members together, and skorch's; then move them.

        Without dropout: its masks are drawn otherwise, on a GPU. That they are applied as they
        should is not for a trial to tell.
        """
        for net in self.nets:
            without_dropout(net.module_)
        rows = torch.arange(n_rows, device=self.device) % TRIAL_ROWS
        orders = torch.stack([rows, rows.flip(0)])  # each member has its own batch
        x, y = self.inputs[orders], self.targets[orders]
        stack = Stack(self.nets, self.device)
        stack.new_optimizer()
        plain = Dropouts(self.module, x[0])
        losses = stack.losses(plain)(stack.trained, stack.stacked, {}, x.clone(), y)
        losses.sum().backward()
        rng = torch.Generator().manual_seed(0)
        for k, net in enumerate(self.nets):
            net.optimizer_.zero_grad()
            loss = net.train_step_single((x[k].clone(), y[k]))["loss"].detach()
            pairs = {"loss": (loss, losses[k].detach())}
            for name, parameter in net.module_.named_parameters():
                if parameter.requires_grad:
                    own, stacked = parameter.grad, stack.trained[name].grad
                    if (own is None) != (stacked is None):
                        return f"only alone, or only together, its {name} has a gradient"
                    if own is not None and stacked is not None:
                        pairs[f"gradient of {name}"] = (own, stacked[k])
            different = _different(pairs)
            if different is not None:
                return (
                    f"the {different} of a member that trains with others is not what it is alone"
                )
            with torch.no_grad():
                for parameter in net.module_.parameters():
                    if parameter.requires_grad:
                        step = torch.rand(parameter.shape, generator=rng, dtype=parameter.dtype)
                        parameter += 0.01 * step.to(self.device)
        return None

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
        size = self.inputs.dtype.itemsize
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

        module = trial_copy(self.module)
        for part in module.modules():
            if not list(part.children()):
                part.register_forward_hook(note)
        with torch.no_grad():
            module(self.inputs.clone())
        return sum(sizes)
