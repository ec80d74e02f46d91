# SPDX-License-Identifier: BSD-3-Clause
"""Many skorch nets trained at once: one module's parameters, stacked along a first axis.

Every member is initialised, shuffles its rows and drops out as it would alone: from its own stream
of torch's generator, in the order in which a skorch net draws from it. Forward and backward passes
are those of one module, mapped over the members by ``torch.func``; SGD and Adam work number by
number, so one optimizer over the stacked parameters is one for each member. What differs from
training one by one is the rounding of sums.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skorch.dataset import Dataset
from torch.func import functional_call, vmap

from ..ensemble._members import Member, Recipe, Streams, global_generators, portable
from ..ensemble._nets import Stacking
from ..ensemble._parallel import one_thread
from ..smoothing._streams import generator
from ._dropout import Dropouts
from ._nets import copied, has_convolutions, settled, trial_copy, why_not_stacked
from ._philox import KEY_WORDS
from ._sources import CountedNoise, Kept, Regenerated, counted

# Threads take turns: a block reads and writes the state of torch's global generator.
_TURNS = threading.Lock()


# Rows of a trial.
_TRIAL_ROWS = 3

# Bytes that a block may take on a CPU; of a GPU's free memory it takes the half.
_CPU_BYTES = 2**28
# On a CPU more members together are no faster: what they share is the time of starting operations.
_CPU_MEMBERS = 25


def _inputs(recipe: Any, features: Any, dtype: torch.dtype, device: Any) -> torch.Tensor:
    X = recipe.net.inputs(features.with_values(features.values))
    return torch.from_numpy(np.ascontiguousarray(X)).to(dtype).to(device)


@dataclass
class _Unit:
    """One member while it is trained."""

    number: int  # within the block
    net: Any
    rng: torch.Generator  # what torch's global generator would be for it
    dropout: torch.Generator  # the same, or one on the device
    labels: np.ndarray
    key: np.ndarray
    rows: np.ndarray  # of the training set that are trained on
    iterators: tuple[Any, Any]
    streams: Streams


def train_block(recipe: Recipe, seeds: np.ndarray) -> list[Member]:
    """Train one member per seed, together; where memory is too small, one half after the other."""
    try:
        with _TURNS, one_thread(), global_generators() as reseed:
            return [portable(m) for m in _Block(recipe, seeds, reseed).members()]
    except (MemoryError, RuntimeError) as failure:
        if not _is_out_of_memory(failure) or len(seeds) == 1:
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(seeds) // 2
    return [*train_block(recipe, seeds[:half]), *train_block(recipe, seeds[half:])]


def _is_out_of_memory(failure: BaseException) -> bool:
    return isinstance(failure, (MemoryError, torch.OutOfMemoryError)) or (
        "not enough memory" in str(failure)  # torch's words on a CPU
    )


@contextmanager
def _global(rng: torch.Generator) -> Iterator[None]:
    """Let torch's global generator be this one for a while."""
    torch.default_generator.set_state(rng.get_state())
    yield
    rng.set_state(torch.default_generator.get_state())


class _Block:
    def __init__(self, recipe: Any, seeds: np.ndarray, reseed: Any):
        self.recipe, self.seeds = recipe, seeds
        self.device = torch.device(recipe.net.device)
        self.dtype = getattr(torch, recipe.net.dtype)
        self.done: dict[int, Member] = {}
        self.units: list[_Unit] = []
        self.counted = counted(recipe)
        for number, seed in enumerate(seeds):
            self._begin(number, seed, reseed)

    def _begin(self, number: int, seed: np.ndarray, reseed: Any) -> None:
        """Make one member's net, with its noise on labels."""
        recipe, streams = self.recipe, Streams.of(seed)
        feature_stream, label_stream = streams.noise.spawn(2)
        labels = recipe.labels
        if recipe.label_noise is not None:
            labels = recipe.label_noise.draw(labels, generator(label_stream))
        if recipe.one_label(labels):
            self.done[number] = recipe.train(seed, reseed)
            return
        net = recipe.new_learner(streams, reseed)
        try:
            net.initialize()
            rng = torch.Generator()
            rng.set_state(torch.default_generator.get_state())
            y = recipe.classes[labels]
            net.check_data(labels, y)
            dataset, others = net.get_split_datasets(np.arange(labels.size), y)
        except MemoryError:
            raise
        except Exception as failure:
            self.done[number] = recipe.failed(failure)
            return
        rows = np.arange(labels.size)
        if type(dataset) is not Dataset:
            rows = np.asarray(dataset.indices)
        iterators = (
            net.get_iterator(dataset, training=True),
            None if others is None else net.get_iterator(others, training=False),
        )
        key = feature_stream.generate_state(KEY_WORDS, np.uint32)
        dropout = rng
        if self.device.type != "cpu":
            first_words = streams.learner.spawn(1)[0].generate_state(1, np.uint64)
            dropout = torch.Generator(self.device)
            dropout.manual_seed(int(first_words[0] >> np.uint64(1)))
        self.units.append(_Unit(number, net, rng, dropout, y, key, rows, iterators, streams))

    def example(self) -> torch.Tensor:
        """Return a few inputs, without noise."""
        few = self.recipe.features.rows(slice(0, _TRIAL_ROWS))
        return _inputs(self.recipe, few, self.dtype, self.device)

    @property
    def n_features(self) -> int:
        """Number of features that the module sees."""
        return int(self.example().shape[1])

    def members(self) -> list[Member]:
        """Train, and return the members in the order of their seeds."""
        source = self._source()
        # Those with equally many rows take the same steps. With noise on labels, a stratified
        # split can leave some members a row more.
        sizes = sorted({unit.rows.size for unit in self.units})
        for size in sizes:
            group = [k for k, unit in enumerate(self.units) if unit.rows.size == size]
            _Training(self, [self.units[k] for k in group], group, source).run()
        for unit in self.units:
            self.done[unit.number] = self._finished(unit)
        return [self.done[number] for number in range(len(self.seeds))]

    def _source(self) -> Kept | Regenerated:
        recipe = self.recipe
        n_samples = recipe.features.n_samples
        if not self.counted:
            rows = [
                recipe.noisy_inputs(generator(unit.streams.noise.spawn(1)[0]))
                for unit in self.units
            ]
            return Kept(
                torch.stack([torch.from_numpy(r).to(self.dtype) for r in rows]).to(self.device)
            )
        noise = CountedNoise(recipe.features, recipe.feature_noise, self.dtype, self.device)
        keys = [unit.key for unit in self.units]
        if not recipe.net.stacking.keep_noise:
            return Regenerated(noise, keys)
        kept = torch.empty(
            len(keys), n_samples, noise.values.shape[1], dtype=self.dtype, device=self.device
        )
        every = torch.arange(n_samples, device=self.device)
        for k, key in enumerate(keys):
            noise.fill(key, every, kept[k])
        return Kept(kept)

    def _finished(self, unit: _Unit) -> Member:
        try:
            settled(unit.net)
        except RuntimeError as failure:
            return self.recipe.failed(failure)
        return self.recipe.finished(unit.net, unit.streams)


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
            outputs = functional_call(module, {**shared, **stacked, **trained, **masks}, (x,))
            return net.get_loss(outputs, y, X=x, training=True)

        return vmap(loss, randomness="error")

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


class _Training:
    """The epochs of some members of a block that take the same steps."""

    def __init__(self, block: _Block, units: list[_Unit], members: list[int], source: Any):
        self.block, self.units, self.source, self.indices = block, units, source, members
        device = self.device = block.device
        nets = [unit.net for unit in units]
        self.stack = Stack(nets, device)
        self.dropouts = Dropouts(nets[0].module_, block.example())
        self.labels = torch.stack([torch.from_numpy(np.asarray(u.labels)) for u in units]).to(
            device
        )
        self.subset = torch.stack([torch.from_numpy(u.rows) for u in units])

    def run(self) -> None:
        stack, net = self.stack, self.units[0].net
        optimizer = stack.new_optimizer()
        losses = stack.losses(self.dropouts)
        n_features = self.block.n_features
        inputs: torch.Tensor | None = None
        for epoch in range(net.max_epochs):
            order, sizes = self._order()
            total = torch.zeros(len(self.units), dtype=torch.float64, device=self.device)
            start = 0
            for size in sizes:
                rows = order[:, start : start + size]
                start += size
                if inputs is None or inputs.shape[1] != size:
                    inputs = torch.empty(
                        len(self.units),
                        size,
                        n_features,
                        dtype=self.block.dtype,
                        device=self.device,
                    )
                self.source.batch(self.indices, rows, inputs)
                y = torch.gather(self.labels, 1, rows)
                with self._autocast():
                    loss = losses(stack.trained, stack.stacked, self._masks(size), inputs, y)
                optimizer.zero_grad()
                loss.sum().backward()
                optimizer.step()
                total += loss.detach() * size
            self._between_epochs()
            self._record(epoch, total / max(start, 1))
        stack.write_back([unit.net for unit in self.units], optimizer)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.block.recipe.net.stacking.mixed_precision:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _order(self) -> tuple[torch.Tensor, list[int]]:
        """Return each member's rows in the order of this epoch, and the sizes of its batches."""
        orders, sizes = [], []
        for unit, subset in zip(self.units, self.subset, strict=True):
            with _global(unit.rng):
                # The iterator over batches that the loader would follow: no row is fetched here.
                batches = list(iter(unit.iterators[0])._sampler_iter)
            orders.append(subset[torch.tensor([i for batch in batches for i in batch])])
            sizes = [len(batch) for batch in batches]
        return torch.stack(orders).to(self.device), sizes

    def _masks(self, size: int) -> dict[str, torch.Tensor]:
        if not self.dropouts:
            return {}
        drawn = [self.dropouts.draw(size, self.block.dtype, unit.dropout) for unit in self.units]
        return {name: torch.stack([masks[name] for masks in drawn]) for name in drawn[0]}

    def _between_epochs(self) -> None:
        """Draw what the loader of the validation set draws from a member's stream."""
        for unit in self.units:
            if unit.iterators[1] is not None:
                with _global(unit.rng):
                    iter(unit.iterators[1])

    def _record(self, epoch: int, losses: torch.Tensor) -> None:
        for unit, loss in zip(self.units, losses.tolist(), strict=True):
            history = unit.net.history
            history.new_epoch()
            history.record("epoch", epoch + 1)
            history.record("train_loss", loss)


def plan(recipe: Any, options: Any) -> Stacking | str:
    """Return how members are trained together, or why they cannot be.

    Two of them are tried out on a few rows; that tells also how much memory one takes.
    """
    reason = why_not_stacked(recipe.estimator)
    if reason is not None:
        return reason
    if recipe.fit_params:
        return f"fit was given {', '.join(sorted(recipe.fit_params))}"
    device, dtype = torch.device(recipe.net.device), getattr(torch, recipe.net.dtype)
    nets = [copied(recipe.estimator).initialize() for _ in range(2)]
    module = trial_copy(nets[0].module_)
    before = {name: value.clone() for name, value in module.named_buffers()}
    few = recipe.features.rows(slice(0, _TRIAL_ROWS))
    x = _inputs(recipe, few, dtype, device)
    sizes: list[int] = []

    def note(part: Any, inputs: Any, output: Any) -> None:
        if torch.is_tensor(output):
            sizes.append(output.numel() // len(x))

    for part in module.modules():
        if not list(part.children()):
            part.register_forward_hook(note)
    module(x)
    changed = [n for n, value in module.named_buffers() if not torch.equal(value, before[n])]
    if changed:
        return (
            f"{type(module).__name__} changes its buffer {changed[0]} in training (as batch "
            "normalisation does)"
        )
    try:
        dropouts = Dropouts(nets[0].module_, x)
        if dropouts.problem is not None:
            return dropouts.problem
        stack = Stack(nets, device)
        y = torch.from_numpy(recipe.classes[recipe.labels[: len(x)]]).to(device)
        rng = torch.Generator(device=device)
        masks = [dropouts.draw(len(x), dtype, rng) for _ in nets]
        loss = stack.losses(dropouts)(
            stack.trained,
            stack.stacked,
            {name: torch.stack([m[name] for m in masks]) for name in masks[0]},
            torch.stack([x, x]),
            torch.stack([y, y]),
        )
        loss.sum().backward()
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as failure:
        first_line = (str(failure) or type(failure).__name__).strip().splitlines()[0]
        return f"torch.func cannot map its training over members: {first_line}"
    size = dtype.itemsize
    n_values = sum(p.numel() for p in module.parameters() if p.requires_grad)
    batch = recipe.features.n_samples if nets[0].batch_size == -1 else nets[0].batch_size
    batch = min(batch, recipe.features.n_samples)
    # Parameters, gradients and two moments; of each output the gradient and a temporary too.
    one = size * (4 * n_values + batch * (x.shape[1] + 3 * sum(sizes)))
    noise = size * recipe.features.n_samples * x.shape[1]
    budget = _CPU_BYTES
    if device.type == "cuda":
        budget = torch.cuda.mem_get_info(device)[0] // 2
    block_size = options.block_size
    if block_size is None:
        block_size = max(1, budget // one)
        if device.type == "cpu":
            block_size = min(block_size, _CPU_MEMBERS)
    # Noise that does not fit is drawn again in each epoch; that which is not drawn by counting
    # has to be kept.
    keep = not counted(recipe) or block_size * (one + noise) <= budget
    return Stacking(int(block_size), keep, options.mixed_precision)


def pays(recipe: Any) -> bool:
    """Tell whether training together is faster than one by one, where it is possible."""
    if torch.device(recipe.net.device).type != "cpu":
        return True
    return not has_convolutions(copied(recipe.estimator).initialize().module_)
