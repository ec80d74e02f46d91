# SPDX-License-Identifier: BSD-3-Clause
"""The loss of a row by itself, of which DP-SGD takes gradients, and whether it is by itself.

Clipping bounds what a row does to a step only where its gradient is that of its own loss: no other
row of the batch may have a part in it, be it through the criterion or through the module.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier

# Criteria whose values without a reduction are each a row's own.
_BY_ROW = (torch.nn.CrossEntropyLoss, torch.nn.NLLLoss)


def check_criterion(criterion: Any) -> None:
    """Raise ValueError if a criterion has no loss of a row, or is trained itself."""
    if not isinstance(criterion, torch.nn.Module):
        return
    name = type(criterion).__name__
    reduction = getattr(criterion, "reduction", "mean")
    if reduction != "mean":
        raise ValueError(
            "criterion must be a mean over rows: each row's gradient is clipped, and their sum "
            "divided by the expected number of rows. "
            f"Got {name} with reduction={reduction!r}, 'mean' is allowed."
        )
    if any(True for _ in criterion.parameters()):
        raise ValueError(
            f"criterion must have no parameters: their gradients could not be clipped for each "
            f"row. Got {name}, which has."
        )


def losses_of_rows(net: Any, outputs: Any, y: torch.Tensor, X: Any) -> torch.Tensor:
    """Return the loss of each row of a batch."""
    n_rows = len(y)
    if type(net).get_loss is NeuralNetClassifier.get_loss and type(net.criterion_) in _BY_ROW:
        with _unreduced(net.criterion_):
            values = net.get_loss(outputs, y, X=X, training=True)
        return values.reshape(n_rows, -1).mean(dim=1)
    for tensor in _tensors(outputs):
        _check_length(net, tensor, n_rows)
    rows = [slice(row, row + 1) for row in range(n_rows)]
    return torch.stack(
        [loss_of_row(net, _taken(outputs, row), y[row], _taken(X, row)) for row in rows]
    )


def loss_of_row(net: Any, outputs: Any, y: torch.Tensor, X: Any) -> torch.Tensor:
    """Return the loss of a batch of one row.

    Weights of classes multiply it; in a mean over this row alone they would cancel.
    """
    with _unreduced(net.criterion_):
        return net.get_loss(outputs, y, X=X, training=True).mean()


@contextmanager
def _unreduced(criterion: Any) -> Iterator[None]:
    if not isinstance(criterion, torch.nn.Module) or not hasattr(criterion, "reduction"):
        yield
        return
    given: Any = criterion
    before, given.reduction = given.reduction, "none"
    try:
        yield
    finally:
        given.reduction = before


def check_rows_apart(net: Any, X: Any) -> None:
    """Raise ValueError where the module's outputs for a row depend on the others of its batch.

    Looks at a batch in training mode: the outputs of a row must be the same ones when all others
    are replaced by it, and no buffer may take up what it sees.
    """
    n_rows = len(_tensors(X)[0])
    name, buffers = type(net.module_).__name__, dict(net.module_.named_buffers())
    before = {key: value.clone() for key, value in buffers.items()}
    outputs = _outputs(net, X)
    changed = [key for key, value in buffers.items() if not torch.equal(value, before[key])]
    with torch.no_grad():
        for key in changed:
            buffers[key].copy_(before[key])
    if changed:
        raise ValueError(
            f"{name} changes its buffer {changed[0]} in training, where rows leave traces that are "
            "neither clipped nor noisy (batch normalisation does so)."
        )
    for tensor in outputs:
        _check_length(net, tensor, n_rows)
    if not all(map(_alike, outputs, _outputs(net, X))):
        return  # draws of its own that we cannot repeat: nothing can be told from values
    for row in (0, n_rows - 1) if n_rows > 1 else ():
        same = [row] * n_rows
        alone = _outputs(net, _taken(X, same))
        if not all(_alike(a[row], b[row]) for a, b in zip(outputs, alone, strict=True)):
            raise ValueError(
                f"The outputs of {name} for a row depend on the other rows of its batch, so that "
                "clipping a row's gradient bounds nothing (batch normalisation does so)."
            )


class RowGradients:
    """The gradients of a batch's first and last rows by autograd, to compare those of hooks with.

    Hooks on layers see wrong ones where a module has something else than rows along the first
    axis, uses a parameter outside of its layer, or lets rows depend on one another.
    """

    def __init__(self, losses: torch.Tensor, parameters: dict[str, Any]):
        self.parameters = parameters
        self.rows = [0] if len(losses) == 1 else [0, len(losses) - 1]
        self.wanted = [
            torch.autograd.grad(
                losses[row], list(parameters.values()), retain_graph=True, allow_unused=True
            )
            for row in self.rows
        ]

    def check(self) -> None:
        """Raise ValueError unless each parameter's ``grad_sample`` holds these."""
        for row, gradients in zip(self.rows, self.wanted, strict=True):
            pairs = [
                (name, p.grad_sample[row], torch.zeros_like(p) if own is None else own)
                for (name, p), own in zip(self.parameters.items(), gradients, strict=True)
            ]
            size = max((float(own.abs().max()) for _, _, own in pairs if own.numel()), default=0.0)
            for name, got, own in pairs:
                # GPUs may round to ten bits within convolutions.
                share = 1e-2 if own.is_cuda else float(torch.finfo(own.dtype).eps) ** 0.5
                if np.isfinite(size) and not bool(((got - own).abs() <= share * size).all()):
                    raise ValueError(
                        f"Opacus does not find the gradient of a row's loss by the parameter "
                        f"{name}. The first axis within the module must be that of rows, "
                        "parameters be used by their own layers alone, and the loss depend on "
                        "the module's outputs alone."
                    )


def _outputs(net: Any, X: Any) -> list[torch.Tensor]:
    """Return what the module gives, drawing what it would draw next and leaving that undrawn."""
    device = torch.device(net.device)
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            return _tensors(net.infer(_map(torch.clone, X)))
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    size = float(one.abs().nan_to_num(0.0, 0.0).max()) if one.numel() else 0.0
    room = 100 * torch.finfo(one.dtype).eps * size
    return torch.allclose(one, other, rtol=0.0, atol=room, equal_nan=True)


def _check_length(net: Any, tensor: torch.Tensor, n_rows: int) -> None:
    if tensor.ndim == 0 or len(tensor) != n_rows:
        raise ValueError(
            f"{type(net.module_).__name__} must return one row of outputs for each input. Got "
            f"shape {tuple(tensor.shape)} for {n_rows} inputs."
        )


def _map(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """Return tensors, or tuples, lists and dictionaries of them, with a function applied."""
    if torch.is_tensor(value):
        return function(value)
    if isinstance(value, dict):
        return {key: _map(function, one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_map(function, one) for one in value)
    raise ValueError(
        "Inputs and outputs of a module must be tensors, or tuples, lists or dictionaries of "
        f"them. Got {type(value).__name__}."
    )


def _tensors(value: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    _map(found.append, value)
    return found


def _taken(value: Any, rows: Any) -> Any:
    """Return these rows."""
    return _map(lambda tensor: tensor[rows], value)


def one_row_of_zeros(X: Any) -> Any:
    """Return inputs of one row, like these of any number of them."""
    return _map(lambda tensor: tensor.new_zeros((1, *tensor.shape[1:])), X)


def no_rows(outputs: Any) -> Any:
    """Return what a module would give for no rows."""
    return _taken(outputs, slice(0, 0))


def on_device(X: Any, device: Any) -> Any:
    """Return inputs on the device."""
    return _map(lambda tensor: tensor.to(device), X)
