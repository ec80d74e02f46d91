# SPDX-License-Identifier: BSD-3-Clause
"""Blocks of members: their nets, their noise, and how they become members of an ensemble."""

from __future__ import annotations

import threading
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from skorch.dataset import Dataset

from .._global_generators import Reseed, global_generators
from ..ensemble._members import Member, Recipe, Streams, portable
from ..ensemble._nets import is_of_the_machine, is_out_of_memory
from ..ensemble._parallel import one_thread
from ..exceptions import DigestError, SequentialTrainingWarning
from ..smoothing._streams import generator
from ._loop import PlainLoop, Unit
from ._nets import batches_of, is_private, settled, targets_of
from ._philox import KEY_WORDS
from ._private import PrivateLoop
from ._sources import CountedNoise, Kept, Regenerated, counted
from ._stacked import StackedLoop
from ._state import UnlikeAloneError, fingerprint, layout, tensors_of

# Threads take turns: a block reads and writes the state of torch's global generator.
_TURNS = threading.Lock()

# Rows of a trial.
TRIAL_ROWS = 3


def inputs_of(recipe: Any, features: Any, dtype: torch.dtype, device: Any) -> torch.Tensor:
    """Return features without noise as a module sees them."""
    X = recipe.net.inputs(features.with_values(features.values))
    # A copy: a module may change its inputs in place, and these may be the caller's.
    return torch.from_numpy(np.array(X, order="C")).to(dtype).to(device)


def train_block(recipe: Recipe, seeds: np.ndarray) -> list[Member]:
    """Train one member per seed, together; where memory is too small, one half after the other.

    Where a member fails, or shows that it is none to be trained so, each is trained by skorch: with
    the same noise, labels and seeds, so that what one does is no other's fault.
    """
    _keep_freed_memory()
    try:
        with _TURNS, one_thread(), global_generators() as reseed:
            return [portable(m) for m in Block(recipe, seeds, reseed).members()]
    except DigestError:
        raise  # of a trained member: skorch's would have none either
    except Exception as failure:
        if not is_of_the_machine(failure):
            reason = f"{type(failure).__name__}: {failure}"
        elif not is_out_of_memory(failure) or len(seeds) == 1:
            raise
        else:
            reason = None
    if reason is not None:
        warnings.warn(
            f"{len(seeds)} members are trained by skorch, one by one: in the faster way one of "
            f"them failed, or would not be what skorch makes of it ({reason}).",
            SequentialTrainingWarning,
            stacklevel=2,
        )
        with _TURNS, one_thread(), global_generators() as reseed:
            return [portable(_by_skorch(recipe, seed, reseed)) for seed in seeds]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(seeds) // 2
    return [*train_block(recipe, seeds[:half]), *train_block(recipe, seeds[half:])]


def _by_skorch(recipe: Recipe, seed: np.ndarray, reseed: Reseed) -> Member:
    """Train a member by skorch's own loop, on the noisy data that it has in a block."""
    block = Block(recipe, seed[np.newaxis], reseed)
    if block.done:
        return block.done[0]
    (unit,) = block.units
    learner = recipe.new_learner(unit.streams, reseed)
    try:
        assert recipe.net is not None
        with block.autocast():
            recipe.net.fit(learner, block.noisy_rows(), unit.y, {})
    except Exception as failure:
        if is_of_the_machine(failure):
            raise
        return recipe.failed(failure)
    return recipe.finished(learner, unit.streams)


def _keep_freed_memory() -> None:
    """Let the C library keep memory that training frees and asks for again in each step.

    glibc returns to the system what is freed at the end of its heap beyond twice the size of the
    largest block that was ever mapped and freed; in a worker process that is little, and a third of
    the time of a convolutional net went into getting pages again. So such a block is freed here, of
    the largest size that counts (32 MiB). Elsewhere this does nothing.
    """
    np.empty(31 * 2**20, dtype=np.uint8)


class Block:
    """Members that are trained in one go."""

    def __init__(self, recipe: Any, seeds: np.ndarray, reseed: Any):
        self.recipe, self.seeds = recipe, seeds
        self.device = torch.device(recipe.net.device)
        self.dtype = getattr(torch, recipe.net.dtype)
        self.done: dict[int, Member] = {}
        self.units: list[Unit] = []
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
            # With these labels: others, drawn anew, would make such members rarer than they are.
            X = recipe.features.with_values(recipe.features.values)
            self.done[number] = recipe.of_one_label(X, recipe.classes[labels], streams)
            return
        net = recipe.new_learner(streams, reseed)
        try:
            net.initialize()
            rng = torch.Generator()
            own = getattr(net, "_stream", None)  # of a private net with a random_state
            rng.set_state(torch.default_generator.get_state() if own is None else own)
            y = recipe.classes[labels]
            net.check_data(labels, y)
            targets = targets_of(net, y)
            dataset, others = net.get_split_datasets(np.arange(labels.size), targets)
            iterators = (
                batches_of(net, dataset),
                None if others is None else net.get_iterator(others, training=False),
            )
        except Exception as failure:
            if is_of_the_machine(failure):
                raise
            self.done[number] = recipe.failed(failure)
            return
        for loader in iterators:
            if loader is not None:
                loader.num_workers = 0  # rows are numbers here: there is nothing to do for workers
        rows = np.arange(labels.size)
        if type(dataset) is not Dataset:
            rows = np.asarray(dataset.indices)
        key = feature_stream.generate_state(KEY_WORDS, np.uint32)
        dropout = rng
        if self.device.type != "cpu":
            first_words = streams.learner.spawn(1)[0].generate_state(1, np.uint64)
            dropout = torch.Generator(self.device)
            dropout.manual_seed(int(first_words[0] >> np.uint64(1)))
        self.units.append(
            Unit(number, net, rng, dropout, y, targets, key, rows, iterators, streams)
        )

    def example(self) -> torch.Tensor:
        """Return a few inputs, without noise."""
        few = self.recipe.features.rows(slice(0, TRIAL_ROWS))
        return inputs_of(self.recipe, few, self.dtype, self.device)

    @cached_property
    def n_features(self) -> int:
        """Number of features that the module sees."""
        return int(self.example().shape[1])

    def members(self) -> list[Member]:
        """Train, and return the members in the order of their seeds."""
        if not self.units:
            return [self.done[number] for number in range(len(self.seeds))]
        recipe, source = self.recipe, self._source()
        if recipe.net.stacking.together:
            self._check_alike()
        # Those with equally many rows take the same steps. With noise on labels, a stratified
        # split can leave some members a row more.
        sizes = sorted({unit.rows.size for unit in self.units})
        for size in sizes:
            group = [k for k, unit in enumerate(self.units) if unit.rows.size == size]
            kind: Any = StackedLoop if recipe.net.stacking.together else PlainLoop
            if is_private(self.units[group[0]].net):
                kind = PrivateLoop
            kind(self, [self.units[k] for k in group], group, source).run()
        for unit in self.units:
            self.done[unit.number] = self._finished(unit)
        return [self.done[number] for number in range(len(self.seeds))]

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of forward passes."""
        if self.recipe.net.stacking.mixed_precision:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def noisy_rows(self) -> np.ndarray:
        """Return the inputs of the only member, as its net is given them."""
        n_samples = self.recipe.features.n_samples
        rows = torch.arange(n_samples, device=self.device)[None]
        inputs = torch.empty(1, n_samples, self.n_features, dtype=self.dtype, device=self.device)
        self._source().batch([0], rows, inputs)
        return inputs[0].cpu().numpy()

    def _check_alike(self) -> None:
        """Raise UnlikeAloneError where members differ in more than the values of their tensors."""
        kinds = [
            (layout(net.module_), fingerprint(net.module_), fingerprint(net.criterion_))
            for net in (unit.net for unit in self.units)
        ]
        buffers = [tensors_of(unit.net.criterion_) for unit in self.units]
        if any(kind != kinds[0] for kind in kinds) or not all(
            torch.equal(a, b) for own in buffers for a, b in zip(own, buffers[0], strict=True)
        ):
            name = type(self.units[0].net.module_).__name__
            raise UnlikeAloneError(
                f"members of {name} have other layers, attributes or criteria than one another"
            )

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
            len(keys), n_samples, noise.n_features, dtype=self.dtype, device=self.device
        )
        every = torch.arange(n_samples, device=self.device)
        for k, key in enumerate(keys):
            noise.fill(key, every, kept[k])
        return Kept(kept)

    def _finished(self, unit: Unit) -> Member:
        try:
            settled(unit.net)
        except RuntimeError as failure:
            return self.recipe.failed(failure)
        return self.recipe.finished(unit.net, unit.streams)
