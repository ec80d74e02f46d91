# SPDX-License-Identifier: BSD-3-Clause
"""Whether the rows of a batch have to do with one another, seen by replacing them.

What is so at the first weights need not stay so: a layer that is 0 hides what it is given, and not
from its own gradient. So rows are looked at for their outputs and their gradients, with the weights
as they are and with others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from ..ensemble._nets import is_of_the_machine
from ._opacus import NotApartError, trained
from ._rows import check_length, losses_of_rows, mapped, taken, tensors_of_rows

# How far weights are moved, in units of their size; less where a module fails so far away.
_MOVES = (0.3, 0.01)


def check_rows_apart(net: Any, X: Any) -> None:
    """Raise ValueError where the module's outputs for a row depend on the others of its batch.

    Looks at a batch in training mode: the outputs of a row must be the same ones when the others
    are replaced, and no buffer may take up what it sees.
    """
    few = taken(X, _few(len(tensors_of_rows(X)[0])))

    def look(first: bool, when: str) -> bool:
        return _outputs_apart(net, X if first else few, when)

    _here_and_elsewhere(net, look)


def check_gradients_apart(net: Any, private: Any, X: Any, y: torch.Tensor) -> bool:
    """Raise ValueError where a row's gradient depends on others, or Opacus does not find it.

    Hooks on layers see wrong gradients where a module has something else than rows along the first
    axis, uses a parameter outside of its layer, or lets rows depend on one another; the gradients
    that they find are compared with those of autograd.

    Returns
    -------
    bool
        Whether there was all to see: rows that are not the same, with gradients that are not 0.
    """
    told = []
    whole, few = (X, y), (taken(X, _few(len(y))), y[_few(len(y))])

    def look(first: bool, when: str) -> bool:
        batch = whole if first else few
        given = _passed(net, private, *batch)
        told.append(_tells(given))
        if first and not all(map(_alike, given.outputs, _passed(net, private, *batch).outputs)):
            told.append(True)  # nor would the next batch tell more
            return False
        _check_gradients(net, private, *batch, given, when)
        return first or _tells(given)

    if len(y) == 1:
        with _buffers_kept(net):
            _passed(net, private, X, y)
        return False
    _here_and_elsewhere(net, look)
    return any(told) and not all(torch.equal(t, t[:1].expand_as(t)) for t in tensors_of_rows(X))


def _here_and_elsewhere(net: Any, look: Callable[[bool, str], bool]) -> None:
    """Look at the weights as they are, and, if that could tell anything, at others."""
    with _buffers_kept(net):
        if not look(True, ""):
            return
    for share in _MOVES:
        try:
            with _buffers_kept(net), _moved(net.module_, share):
                if look(False, " once its parameters change"):
                    return
        except NotApartError:
            raise
        except Exception as failure:
            # Weights may have a domain, as roots have: nothing is known of those outside.
            if is_of_the_machine(failure):
                raise


def _few(n_rows: int) -> list[int]:
    """Return the first and the last rows of a batch: with other weights a part of it will do."""
    return sorted({*range(min(8, n_rows)), *range(max(n_rows - 8, 0), n_rows)})


def _others_replaced(n_rows: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield rows to look at instead of a batch, and which of them are where they were.

    All are rows of the batch: of other values nobody knows that a module can take them.
    """
    last = n_rows - 1
    if n_rows > 1:
        yield [0] * n_rows, [0]
        yield [last] * n_rows, [last]
    if n_rows > 2:
        yield [0] + [last] * last, [0, last]


def _outputs_apart(net: Any, X: Any, when: str) -> bool:
    """Raise ValueError where outputs depend on other rows; return whether they tell anything."""
    n_rows, name = len(tensors_of_rows(X)[0]), type(net.module_).__name__
    outputs = _outputs(net, X)
    for tensor in outputs:
        check_length(net, tensor, n_rows)
    if not all(map(_alike, outputs, _outputs(net, X))):
        return False  # draws of its own that we cannot repeat: nothing can be told from values
    for rows, same in _others_replaced(n_rows):
        others = _outputs(net, taken(X, rows))
        if not all(_alike(a[same], b[same]) for a, b in zip(outputs, others, strict=True)):
            raise NotApartError(
                f"The outputs of {name} for a row depend on the other rows of its batch{when}, so "
                "that clipping a row's gradient bounds nothing (batch normalisation does so)."
            )
    return all(bool(t.isfinite().any()) for t in outputs)


class _Pass(NamedTuple):
    """What a pass finds: all outputs, and the gradients of its first and last row."""

    outputs: list[torch.Tensor]
    gradients: dict[str, torch.Tensor]


def _check_gradients(
    net: Any, private: Any, X: Any, y: torch.Tensor, given: _Pass, when: str
) -> None:
    """Raise ValueError where gradients depend on other rows."""
    for rows, same in _others_replaced(len(y)):
        other = _passed(net, private, taken(X, rows), y[rows])
        for row in same:
            at = 0 if row == 0 else 1
            wrong = _different(net, given, other, at)
            if wrong is not None:
                raise NotApartError(
                    f"The gradient of a row's loss by the parameter {wrong} depends on the other "
                    f"rows of its batch{when}, so that clipping it bounds nothing (an average over "
                    "the batch does so)."
                )


def _tells(given: _Pass) -> bool:
    """Tell whether a row that was looked at has a finite gradient that is not 0."""
    sizes = [_largest(g[at] for g in given.gradients.values()) for at in (0, -1)]
    return any(np.isfinite(size) and size > 0.0 for size in sizes)


def _passed(net: Any, private: Any, X: Any, y: torch.Tensor) -> _Pass:
    """Return what Opacus finds for a batch, once it is seen to be what autograd finds."""
    n_rows, parameters = len(y), private.trained
    rows = [0] if n_rows == 1 else [0, n_rows - 1]
    private.clear()
    try:
        with _generators_kept(net):
            X = mapped(torch.clone, X)
            outputs = net.infer(X)
            losses = losses_of_rows(net, outputs, y, X)
            with private.resting():
                # Divided as by the mean: behind a loss near 0 each factor rounds otherwise.
                found = [
                    torch.autograd.grad(
                        losses[row] / n_rows,
                        list(parameters.values()),
                        retain_graph=True,
                        allow_unused=True,
                    )
                    for row in rows
                ]
            losses.mean().backward()
        private.gather(n_rows)
        of_opacus = {name: p.grad_sample[rows].clone() for name, p in parameters.items()}
    finally:
        private.clear()
    of_autograd = {
        name: torch.stack([torch.zeros_like(p) if g is None else g * n_rows for g in own])
        for (name, p), own in zip(parameters.items(), zip(*found, strict=True), strict=True)
    }
    own = [tensor.detach() for tensor in tensors_of_rows(outputs)]
    seen, wanted = _Pass(own, of_opacus), _Pass(own, of_autograd)
    for at in range(len(rows)):
        wrong = _different(net, wanted, seen, at)
        if wrong is not None:
            raise NotApartError(
                f"Opacus does not find the gradient of a row's loss by the parameter {wrong}. The "
                "first axis within the module must be that of rows, parameters be used by their "
                "own layers alone, and the loss depend on the module's outputs alone."
            )
    return seen


def _different(net: Any, wanted: _Pass, got: _Pass, at: int) -> str | None:
    """Return the parameter by which a row's gradient differs by more than rounding, or None."""
    size = _largest(g[at] for g in wanted.gradients.values())
    if not np.isfinite(size):
        return None  # such a row has no part in the step
    # A row whose loss is all but 0 has a gradient of rounding errors, of what others' are made of.
    # Next to the norm that is clipped to, these are nothing.
    least = min(float(net.max_grad_norm), 1.0)
    among = max(size, _largest(wanted.gradients.values()), least)
    among = among if np.isfinite(among) else size
    coarse = max(_eps(t) for t in [*wanted.outputs, *got.gradients.values()])
    for name, own in wanted.gradients.items():
        # GPUs may round to ten bits within convolutions.
        share = max(1e-2 if own.is_cuda else 0.0, coarse**0.5)
        room = share * size + 10 * coarse * among
        if not bool(((got.gradients[name][at] - own[at]).abs() <= room).all()):
            return name
    return None


def _largest(tensors: Any) -> float:
    return max((float(t.abs().max()) for t in tensors if t.numel()), default=0.0)


def _eps(tensor: torch.Tensor) -> float:
    return float(torch.finfo(tensor.dtype).eps) if tensor.is_floating_point() else 0.0


def _outputs(net: Any, X: Any) -> list[torch.Tensor]:
    with _generators_kept(net), torch.no_grad():
        return tensors_of_rows(net.infer(mapped(torch.clone, X)))


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    size = float(one.abs().nan_to_num(0.0, 0.0).max()) if one.numel() else 0.0
    room = 100 * torch.finfo(one.dtype).eps * size
    return torch.allclose(one, other, rtol=0.0, atol=room, equal_nan=True)


@contextmanager
def _generators_kept(net: Any) -> Iterator[None]:
    """Let a pass draw what the next would, and leave that undrawn."""
    device = torch.device(net.device)
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


@contextmanager
def _buffers_kept(net: Any) -> Iterator[None]:
    """Put buffers back, and raise ValueError where they took up what passes have seen."""
    module = net.module_
    before = {key: (value, value.clone()) for key, value in module.named_buffers()}
    changed, failure = [], None
    try:
        yield
    except NotApartError as found:
        failure = found
    finally:
        now = dict(module.named_buffers())
        for key, (buffer, value) in before.items():
            # Another shape is that of what is kept for the next time, as of positions.
            own = now.get(key, buffer)
            if not _same(buffer, value) or (own.shape == value.shape and not _same(own, value)):
                changed.append(key)
            if not _same(buffer, value):
                with torch.no_grad():
                    buffer.copy_(value)
            if own is not buffer:
                owner, _, name = key.rpartition(".")
                module.get_submodule(owner)._buffers[name] = buffer
    if changed:
        raise NotApartError(
            f"{type(module).__name__} changes its buffer {changed[0]} in training, where rows "
            "leave traces that are neither clipped nor noisy (batch normalisation does so)."
        )
    if failure is not None:
        raise failure


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.is_floating_point() and other.is_floating_point():
        return torch.equal(one.nan_to_num(), other.nan_to_num()) and torch.equal(
            one.isnan(), other.isnan()
        )
    return torch.equal(one, other)


@contextmanager
def _moved(module: torch.nn.Module, share: float) -> Iterator[None]:
    """Let the trained parameters be others for a while, by a share of what they may be.

    That is their size, or that of a layer's first weights where they are smaller, or 0.
    """
    kept = [(p, p.detach().clone()) for p in trained(module).values()]
    rng = torch.Generator().manual_seed(0)  # its own: nobody else draws otherwise because of it
    try:
        with torch.no_grad():
            for p, value in kept:
                size = float(value.square().mean()) ** 0.5 if p.numel() else 0.0
                usual = (len(p) / p.numel()) ** 0.5 if p.ndim > 1 and p.numel() else 1.0
                noise = torch.randn(p.shape, generator=rng, dtype=p.dtype).to(p.device)
                p.add_(noise, alpha=share * max(size, usual))
        yield
    finally:
        with torch.no_grad():
            for p, value in kept:
                p.copy_(value)
