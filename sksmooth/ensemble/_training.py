# SPDX-License-Identifier: BSD-3-Clause
"""Many members: in chunks, on many workers, each kept on disk as it ends."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils._param_validation import InvalidParameterError

from .._global_generators import global_generators
from ._checkpoint import Checkpoint, pack, unpack
from ._members import Member, Recipe, portable
from ._nets import NetPlan, ship
from ._parallel import one_thread, run_tasks
from ._progress import FitProgress

# Members per task are chosen so that a task takes about this long (seconds): the cost of handing
# out a task and its result, some milliseconds, stays small, and all workers end at about the same
# time.
_SECONDS_PER_TASK = 0.25


def train_members(
    recipe: Recipe,
    seeds: np.ndarray,
    *,
    first: int,
    n_jobs: int | None,
    progress: FitProgress,
    store: Checkpoint | None,
) -> list[Member]:
    """Train one member per seed, in the order of the seeds whatever the backend.

    `first` is the number of the first of them. With `store`, members that are there are taken from
    it, and others are kept in it.
    """
    members: dict[int, Member] = {}
    if store is not None:
        for i in range(len(seeds)):
            kept = store.load(first + i)
            if kept is not None:
                members[i] = kept
        progress.update(len(members))
    for i, member in _trained(recipe, seeds, [i for i in range(len(seeds)) if i not in members],
                              n_jobs, store, first):  # fmt: skip
        members[i] = member
        progress.update()
    ordered = [members[i] for i in range(len(seeds))]
    if first == 0 and all(member.learner is None for member in ordered):
        raise ValueError(
            f"All {len(ordered)} members failed to fit. The first failure: {ordered[0].failure}"
        )
    return ordered


def _trained(
    recipe: Recipe,
    seeds: np.ndarray,
    left: list[int],
    n_jobs: int | None,
    store: Checkpoint | None,
    first: int,
) -> Iterator[tuple[int, Member]]:
    if not left:
        return
    if recipe.net is not None and recipe.net.stacking is not None:
        yield from _trained_in_blocks(recipe, recipe.net, seeds, left, n_jobs, store, first)
        return
    n_workers = 1 if recipe.net is not None and recipe.net.on_gpu else effective_n_jobs(n_jobs)
    if recipe.net is not None and n_workers > 1:
        # Nets that are not trained together take long: none is trained here, to see how long.
        uses_torch, size = True, 1
    else:
        started = time.perf_counter()
        member, uses_torch = _first_trained(recipe, seeds[left[0]])
        seconds = time.perf_counter() - started
        if first + left[0] == 0 and isinstance(member.failure, InvalidParameterError):
            raise member.failure  # the same for every member
        member = portable(member)
        if store is not None:
            store.save(first + left[0], pack(member))
        yield left[0], member
        left = left[1:]
        size = max(1, int(_SECONDS_PER_TASK / max(seconds, 1e-6)))
        size = max(1, min(size, -(-len(left) // n_workers)))
    chunks = [left[i : i + size] for i in range(0, len(left), size)]
    if n_workers > 1:
        tasks = [(recipe, seeds[chunk], uses_torch, store is not None) for chunk in chunks]
        for number, members in run_tasks(train_chunk, tasks, n_jobs=n_jobs):
            for i, result in zip(chunks[number], _received(members), strict=True):
                if store is not None:
                    store.save(first + i, result)
                yield i, result if store is None else unpack(result)
        return
    with one_thread():
        for chunk in chunks:
            with global_generators() as reseed:
                for i in chunk:
                    member = portable(recipe.train(seeds[i], reseed))
                    if store is not None:
                        store.save(first + i, pack(member))
                    yield i, member


def _trained_in_blocks(
    recipe: Recipe,
    net: NetPlan,
    seeds: np.ndarray,
    left: list[int],
    n_jobs: int | None,
    store: Checkpoint | None,
    first: int,
) -> Iterator[tuple[int, Member]]:
    """Train networks together: blocks are of fixed members, whatever is left of them to train.

    How many train together can change the last bits of a sum, and so of a member.
    """
    assert net.stacking is not None
    size = net.stacking.block_size
    blocks: dict[int, list[int]] = {}
    for i in range(len(seeds)):
        blocks.setdefault((first + i) // size, []).append(i)
    missing = set(left)
    chunks = [block for block in blocks.values() if not missing.isdisjoint(block)]
    tasks = [(recipe, seeds[chunk], store is not None) for chunk in chunks]
    if effective_n_jobs(n_jobs) > 1 and not net.on_gpu and len(tasks) > 1:
        results: Any = run_tasks(train_stacked, tasks, n_jobs=n_jobs)
    else:  # one process: a GPU is not shared
        results = ((number, train_stacked(*task)) for number, task in enumerate(tasks))
    for number, members in results:
        for i, result in zip(chunks[number], _received(members), strict=True):
            if i in missing:
                if store is not None:
                    store.save(first + i, result)
                yield i, result if store is None else unpack(result)


def _received(members: Any) -> list[Any]:
    return pickle.loads(members) if isinstance(members, bytes) else members


def train_stacked(recipe: Recipe, seeds: np.ndarray, packed: bool) -> Any:
    """Train the members of one block together."""
    from ..neural_network._blocks import train_block

    return _sendable(recipe, train_block(recipe, seeds), packed)


def _sendable(recipe: Recipe, members: list[Member], packed: bool) -> Any:
    """Return members as they can be sent from the process that trained them."""
    if packed:
        return [pack(member) for member in members]
    return members if recipe.net is None else ship(members)


def _first_trained(recipe: Recipe, seed: np.ndarray) -> tuple[Member, bool]:
    """Return a trained member, and whether it drew from torch's global generator."""
    loaded = "torch" in sys.modules
    with one_thread(), global_generators() as reseed:
        member = recipe.train(seed, reseed)
        if "torch" not in sys.modules:
            return member, False
        if not loaded:  # its generator was not seeded yet
            member = recipe.train(seed, reseed)
        torch = sys.modules["torch"]
        after = torch.get_rng_state()
        reseed(recipe.words(seed))
        return member, not torch.equal(torch.get_rng_state(), after)


def train_chunk(recipe: Recipe, seeds: np.ndarray, uses_torch: bool, packed: bool) -> Any:
    """Train a few members one after the other, in one inner thread.

    One thread: members are small, and sums in a fixed order make the answer independent of where
    it was computed. They are packed for their files here, where they were trained.
    """
    if uses_torch:
        import_module("torch")  # before members are trained: a generator that is not there yet
        # cannot be seeded
    with one_thread(), global_generators() as reseed:
        members = [portable(recipe.train(seed, reseed)) for seed in seeds]
        return _sendable(recipe, members, packed)
