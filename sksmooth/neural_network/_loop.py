# SPDX-License-Identifier: BSD-3-Clause
"""The epochs of members that take the same steps, whether together or alone.

Every member is initialised, shuffles its rows and drops out as it would by skorch's own loop: from
its own stream of torch's generator, in the order in which a skorch net draws from it. Rows are not
fetched and put together one by one, which takes skorch a good part of the time of a small net.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

from ..ensemble._members import Streams
from ._nets import trial_copy
from ._state import UnlikeAloneError, Watch


@dataclass
class Unit:
    """One member while it is trained."""

    number: int  # within the block
    net: Any
    rng: torch.Generator  # what torch's global generator would be for it
    dropout: torch.Generator  # the same, or one on the device
    y: np.ndarray  # labels, and the numbers of the outputs that stand for them
    labels: np.ndarray
    key: np.ndarray
    rows: np.ndarray  # of the training set that are trained on
    iterators: tuple[Any, Any]
    streams: Streams


@contextmanager
def global_generator(rng: torch.Generator) -> Iterator[None]:
    """Let torch's global generator be this one for a while."""
    torch.default_generator.set_state(rng.get_state())
    yield
    rng.set_state(torch.default_generator.get_state())


class Loop(ABC):
    """Training of some members of a block that take the same steps."""

    def __init__(self, block: Any, units: list[Unit], indices: list[int], source: Any):
        self.block, self.units, self.indices, self.source = block, units, indices, source
        self.device = block.device
        labels = [torch.from_numpy(np.asarray(unit.labels)) for unit in units]
        self.labels = torch.stack(labels).to(self.device)
        self.subset = torch.stack([torch.from_numpy(unit.rows) for unit in units])

    @abstractmethod
    def step(self, inputs: torch.Tensor, labels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """Take one step on a batch for each member; return their mean losses.

        Parameters
        ----------
        inputs : tensor of shape (n_members, n_rows, n_features)
            The batches. Where they differ in size, rows beyond a member's own are any others.
        labels : tensor of int64 of shape (n_members, n_rows)
            Numbers of outputs.
        sizes : tensor of int64 of shape (n_members,)
            The members' own numbers of rows.
        """

    def run(self) -> None:
        """Train all epochs."""
        inputs: torch.Tensor | None = None
        for epoch in range(self.units[0].net.max_epochs):
            total = torch.zeros(len(self.units), dtype=torch.float64, device=self.device)
            n_rows = torch.zeros_like(total)
            for rows, sizes in self._batches():
                if inputs is None or inputs.shape[1] != rows.shape[1]:
                    shape = (*rows.shape, self.block.n_features)
                    inputs = torch.empty(shape, dtype=self.block.dtype, device=self.device)
                self.source.batch(self.indices, rows, inputs)
                losses = self.step(inputs, torch.gather(self.labels, 1, rows), sizes)
                total += losses * sizes
                n_rows += sizes
            self._between_epochs()
            self._record(epoch, total / n_rows.clamp(min=1.0))

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of forward passes."""
        context: AbstractContextManager[Any] = self.block.autocast()
        return context

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield each member's rows of each batch of an epoch, and how many are its own."""
        loaders = [unit.iterators[0] for unit in self.units]
        if _drawn_at_once(loaders[0]):
            yield from self._slices(loaders[0].batch_size, loaders[0].drop_last)
            return
        orders = []
        for unit, loader in zip(self.units, loaders, strict=True):
            with global_generator(unit.rng):
                # The iterator over batches that the loader would follow: no row is fetched here.
                orders.append(iter(loader)._sampler_iter)
        while True:
            batches: list[Any] = []
            for unit, order in zip(self.units, orders, strict=True):
                with global_generator(unit.rng):  # a batch may be drawn when it is asked for
                    batches.append(next(order, None))
            if batches[0] is None:  # all members take equally many steps
                return
            sizes = [len(batch) for batch in batches]
            rows = torch.zeros(len(batches), max(1, *sizes), dtype=torch.int64)
            for k, batch in enumerate(batches):
                rows[k, : sizes[k]] = self.subset[k, torch.tensor(batch, dtype=torch.int64)]
            yield rows.to(self.device), torch.tensor(sizes, device=self.device)

    def _slices(
        self, batch_size: int, drop_last: bool
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of an epoch whose order is drawn at its start."""
        orders = []
        for unit in self.units:
            with global_generator(unit.rng):
                iter(unit.iterators[0])  # draws a seed for its workers
                orders.append(_order(unit.iterators[0].sampler))
        rows = torch.gather(self.subset, 1, torch.stack(orders)).to(self.device)
        for batch in rows.split(batch_size, dim=1):
            size = batch.shape[1]
            if size == batch_size or not drop_last:
                yield batch, torch.full((len(batch),), size, device=self.device)

    def _between_epochs(self) -> None:
        """Draw what the loader of the validation set draws from a member's stream."""
        for unit in self.units:
            if unit.iterators[1] is not None:
                with global_generator(unit.rng):
                    iter(unit.iterators[1])

    def _record(self, epoch: int, losses: torch.Tensor) -> None:
        for unit, loss in zip(self.units, losses.tolist(), strict=True):
            history = unit.net.history
            history.new_epoch()
            history.record("epoch", epoch + 1)
            history.record("train_loss", loss)


class PlainLoop(Loop):
    """One member, by its own module and optimizer.

    Images are kept with their channels last, as torch's convolutions and pools on a CPU like it;
    the sums are the same ones in another order.
    """

    def run(self) -> None:
        """Train all epochs."""
        (unit,) = self.units
        module = unit.net.module_
        if _takes_channels_last(module, self.block.example()):
            module.to(memory_format=torch.channels_last)
        watch = Watch(module, unit.net.criterion_, trained=True)
        super().run()
        changed = watch.changed(norms=True)
        if changed is not None:
            # skorch would run it on the validation set, too: that may change more.
            raise UnlikeAloneError(changed)
        module.to(memory_format=torch.contiguous_format)
        for state in unit.net.optimizer_.state.values():
            for name, value in state.items():
                if torch.is_tensor(value):
                    state[name] = value.contiguous()

    def step(self, inputs: torch.Tensor, labels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """See `Loop.step`."""
        (unit,) = self.units
        net, x = unit.net, inputs[0]
        net._set_training(True)
        with global_generator(unit.rng), self.autocast():
            loss = net.get_loss(net.infer(x), labels[0], X=x, training=True)
        net.optimizer_.zero_grad()
        loss.backward()
        net.optimizer_.step()
        return loss.detach().reshape(1)


def _takes_channels_last(module: torch.nn.Module, example: torch.Tensor) -> bool:
    """Tell whether a module can be run so: ``x.view(len(x), -1)`` cannot."""
    try:
        with torch.no_grad():
            trial: Any = trial_copy(module)
            trial.to(memory_format=torch.channels_last)(example)
    except Exception:  # whatever it says: it is then run as it is
        return False
    return True


def _drawn_at_once(loader: Any) -> bool:
    """Tell whether nothing is drawn between the batches of a loader."""
    sampler, plain = loader.sampler, type(loader.batch_sampler) is BatchSampler
    if type(sampler) is RandomSampler:
        whole = sampler.num_samples == len(sampler.data_source)
        return plain and whole and not sampler.replacement and sampler.generator is None
    return plain and type(sampler) is SequentialSampler


def _order(sampler: Any) -> torch.Tensor:
    """Return what such a sampler yields, without a Python integer for each row."""
    n_rows = len(sampler.data_source)
    if type(sampler) is SequentialSampler:
        return torch.arange(n_rows)
    own = torch.Generator()
    own.manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
    return torch.randperm(n_rows, generator=own)
