# SPDX-License-Identifier: BSD-3-Clause
"""Blocks of members: their nets, their noise, and how they become members of an ensemble."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any

import numpy as np
import torch
from skorch.dataset import Dataset

from .._global_generators import global_generators
from ..ensemble._members import Member, Recipe, Streams, portable
from ..ensemble._parallel import one_thread
from ..smoothing._streams import generator
from ._loop import PlainLoop, Unit
from ._nets import batches_of, is_private, settled, targets_of
from ._philox import KEY_WORDS
from ._private import PrivateLoop
from ._sources import CountedNoise, Kept, Regenerated, counted
from ._stacked import StackedLoop

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
    """Train one member per seed, together; where memory is too small, one half after the other."""
    _keep_freed_memory()
    try:
        with _TURNS, one_thread(), global_generators() as reseed:
            return [portable(m) for m in Block(recipe, seeds, reseed).members()]
    except (MemoryError, RuntimeError) as failure:
        if not _is_out_of_memory(failure) or len(seeds) == 1:
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(seeds) // 2
    return [*train_block(recipe, seeds[:half]), *train_block(recipe, seeds[half:])]


def _keep_freed_memory() -> None:
    """Let the C library keep memory that training frees and asks for again in each step.

    glibc returns to the system what is freed at the end of its heap beyond twice the size of the
    largest block that was ever mapped and freed; in a worker process that is little, and a third of
    the time of a convolutional net went into getting pages again. So such a block is freed here, of
    the largest size that counts (32 MiB). Elsewhere this does nothing.
    """
    np.empty(31 * 2**20, dtype=np.uint8)


def _is_out_of_memory(failure: BaseException) -> bool:
    return isinstance(failure, (MemoryError, torch.OutOfMemoryError)) or (
        "not enough memory" in str(failure)  # torch's words on a CPU
    )


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
            y = targets_of(net, y)
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
            batches_of(net, dataset),
            None if others is None else net.get_iterator(others, training=False),
        )
        key = feature_stream.generate_state(KEY_WORDS, np.uint32)
        dropout = rng
        if self.device.type != "cpu":
            first_words = streams.learner.spawn(1)[0].generate_state(1, np.uint64)
            dropout = torch.Generator(self.device)
            dropout.manual_seed(int(first_words[0] >> np.uint64(1)))
        self.units.append(Unit(number, net, rng, dropout, y, key, rows, iterators, streams))

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
        recipe, source = self.recipe, self._source()
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
