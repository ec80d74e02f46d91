# SPDX-License-Identifier: BSD-3-Clause
"""How the base votes on noisy copies of a row, and how votes are counted.

A row's votes are computed row by row, in blocks of the same shape whatever other rows there are:
in floating point the answer of a matrix product for one row may depend on how many rows it has.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils.parallel import Parallel, delayed

from ..smoothing._streams import generator
from ._draws import Draws, block_sizes, stream

# Blocks of one task for a worker: some 10,000 draws.
_BLOCKS_PER_TASK = 8


class Ballot(Protocol):
    """A way from a row and a block of noise to votes."""

    def prepare(self, row: np.ndarray) -> Any:
        """Return what is computed once per row."""

    def block(self, n_draws: int, rng: np.random.Generator) -> Any:
        """Return the noise of so many draws."""

    def votes(self, row: Any, block: Any) -> np.ndarray:
        """Return one number of a class per draw; the number of classes is a vote for nobody."""


@dataclass(frozen=True)
class InputBallot:
    """The noisy copies themselves go through the base's `predict`, `batch_size` at a time."""

    draws: Draws
    predict: Callable[[np.ndarray], np.ndarray]
    batch_size: int | None

    def prepare(self, row: np.ndarray) -> np.ndarray:
        """Return the row."""
        return row

    def block(self, n_draws: int, rng: np.random.Generator) -> np.ndarray:
        """Return noise of inputs."""
        return self.draws.block(n_draws, rng)

    def votes(self, row: np.ndarray, block: np.ndarray) -> np.ndarray:
        """Return the predictions for the noisy copies."""
        size = self.batch_size or len(block)
        parts = [
            self.predict(self.draws.noisy(row, block[start : start + size]))
            for start in range(0, len(block), size)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def unfrozen(estimator: Any) -> Any:
    """Return the estimator inside a FrozenEstimator that predicts as it does."""
    while type(estimator) is FrozenEstimator and "predict" not in vars(estimator):
        estimator = estimator.estimator
    return estimator


def overrides(obj: Any, names: Iterable[str], like: Any) -> bool:
    """Tell whether an object has methods of these names other than those of the class `like`."""
    kind = type(obj)
    return any(n in vars(obj) or getattr(kind, n) is not getattr(like, n) for n in names)


def is_module(estimator: Any) -> bool:
    """Tell whether it is a torch module, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(estimator, torch.nn.Module)


def is_skorch(estimator: Any) -> bool:
    """Tell whether it is a skorch net, without importing skorch."""
    skorch = sys.modules.get("skorch")
    return skorch is not None and isinstance(unfrozen(estimator), skorch.NeuralNet)


def framed(X: Any, columns: list[str] | None) -> Any:
    """Return an array as a DataFrame with these columns, or as it is where they are None."""
    if columns is None:
        return X
    import pandas as pd

    return pd.DataFrame(X, columns=columns)


def class_predictor(
    base: Any, classes: np.ndarray, columns: list[str] | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from inputs to numbers of classes, ``len(classes)`` for anything else.

    With `columns`, a classifier sees arrays as DataFrames with these names.
    """
    if is_module(base):
        return _ModulePredictor(base, classes.size)
    if is_skorch(base):
        return _NetPredictor(base, classes.size)
    return _LabelPredictor(base, classes, columns)


@dataclass(frozen=True)
class _LabelPredictor:
    """Predicted labels, looked up among the classes."""

    base: Any
    classes: np.ndarray
    columns: list[str] | None

    def __call__(self, X: np.ndarray) -> np.ndarray:
        labels = np.asarray(self.base.predict(framed(X, self.columns)))
        if labels.shape != (len(X),):
            raise ValueError(
                f"estimator must predict one label for each of {len(X)} inputs. Got an array of "
                f"shape {labels.shape} from {type(unfrozen(self.base)).__name__}."
            )
        codes = np.searchsorted(self.classes, labels)
        codes[codes == self.classes.size] = 0
        other = self.classes[codes] != labels
        if np.any(other):
            # It may be the class with most votes, which the answer would have to name.
            raise ValueError(
                f"estimator predicts {labels[other].tolist()[0]!r}, which is none of classes_, "
                f"{self.classes.tolist()[:10]}: y must hold every class that it knows."
            )
        return codes


@dataclass(frozen=True)
class _NetPredictor:
    """A skorch net: it predicts the numbers of classes that it was given."""

    net: Any
    n_classes: int

    def __call__(self, X: Any) -> np.ndarray:
        from ..neural_network._nets import dtype_of, labels_of

        net = unfrozen(self.net)
        dtype = str(dtype_of(net.module_)).removeprefix("torch.")
        codes, known = labels_of(net, np.asarray(X, dtype=dtype))
        known = known & (codes >= 0) & (codes < self.n_classes)
        return np.where(known, codes, self.n_classes).astype(np.intp)


@dataclass(frozen=True)
class _ModulePredictor:
    """A torch module in evaluation mode: the class of its greatest output."""

    module: Any
    n_classes: int

    def __call__(self, X: Any) -> np.ndarray:
        return module_votes(self.module, np.asarray(X, dtype=np.float64), self.n_classes)


def ends_in_sigmoid(module: Any) -> bool:
    """Tell whether the last part of a module is Sigmoid: its outputs are no logits."""
    torch = sys.modules["torch"]
    return isinstance(module, torch.nn.Module) and isinstance(
        list(module.modules())[-1], torch.nn.Sigmoid
    )


def module_votes(
    module: Any, inputs: Any, n_classes: int, *, one_output: bool = True
) -> np.ndarray:
    """Return the class of the greatest output; with `one_output`, one is above 0 or not.

    An input with an output that is nan is a vote for nobody.
    `inputs` is an array, or a tensor that is already where the module wants it.
    """
    torch = sys.modules["torch"]
    if isinstance(inputs, np.ndarray):
        some = next(module.parameters(), None)
        like = {} if some is None else {"device": some.device, "dtype": some.dtype}
        inputs = torch.as_tensor(inputs, **like)
    with torch.no_grad():
        scores = module(inputs)
        single = one_output and n_classes == 2 and scores.shape[1:] == (1,)
        if scores.shape[1:] != (n_classes,) and not single:
            raise ValueError(
                f"estimator must be a module with one output for each of {n_classes} classes. Got "
                f"outputs of shape {tuple(scores.shape)}."
            )
        if single and ends_in_sigmoid(module):
            raise ValueError(
                "estimator must be a module with an output for each class, or whose single output "
                f"is a logit, above 0 for the second class. Got {type(module).__name__} that ends "
                "in Sigmoid, and is always above 0: leave it out."
            )
        codes = (scores[:, 0] > 0.0).long() if single else scores.argmax(dim=1)
        codes[torch.isnan(scores).any(dim=1)] = n_classes
        numbers: np.ndarray = codes.to("cpu", torch.int64).numpy()
        return numbers


def count_votes(
    ballot: Ballot,
    rows: np.ndarray,
    n_classes: int,
    blocks: Sequence[tuple[int, int]],
    entropy: np.ndarray,
    stage: int,
    *,
    n_jobs: int | None = None,
    advance: Callable[[int], Any] = lambda n: None,
) -> np.ndarray:
    """Return the votes of each row for each class, of shape (n_rows, n_classes).

    `blocks` are pairs of a block's number and size. Their noise depends on the entropy, the stage
    and the number alone, and is that of every row.
    """
    counts = np.zeros((len(rows), n_classes), dtype=np.int64)
    if n_jobs in (None, 1) or len(blocks) <= _BLOCKS_PER_TASK:
        for block in blocks:
            counts += _count(ballot, rows, n_classes, [block], entropy, stage)
            advance(block[1])
        return counts
    tasks = [blocks[i : i + _BLOCKS_PER_TASK] for i in range(0, len(blocks), _BLOCKS_PER_TASK)]
    parts = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_count)(ballot, rows, n_classes, task, entropy, stage) for task in tasks
    )
    for task, part in zip(tasks, parts, strict=True):
        counts += part
        advance(sum(size for _, size in task))
    return counts


def _count(
    ballot: Ballot,
    rows: np.ndarray,
    n_classes: int,
    blocks: Sequence[tuple[int, int]],
    entropy: np.ndarray,
    stage: int,
) -> np.ndarray:
    counts = np.zeros((len(rows), n_classes), dtype=np.int64)
    prepared = [ballot.prepare(row) for row in rows]
    for number, size in blocks:
        block = ballot.block(size, generator(stream(entropy, stage, number)))
        for i, row in enumerate(prepared):
            votes = ballot.votes(row, block)
            counts[i] += np.bincount(votes, minlength=n_classes + 1)[:n_classes]
    return counts


def numbered_blocks(n_draws: int) -> list[tuple[int, int]]:
    """Return number and size of each of the blocks that make up so many draws."""
    return list(enumerate(block_sizes(n_draws)))
