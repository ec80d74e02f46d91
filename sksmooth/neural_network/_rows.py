# SPDX-License-Identifier: BSD-3-Clause
"""The loss of a row by itself, of which DP-SGD takes gradients, and whether it is by itself.

Clipping bounds what a row does to a step only where its gradient is that of its own loss: no other
row of the batch may have a part in it, be it through the criterion or through the module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
    for tensor in tensors_of_rows(outputs):
        check_length(net, tensor, n_rows)
    rows = [slice(row, row + 1) for row in range(n_rows)]
    return torch.stack(
        [loss_of_row(net, taken(outputs, row), y[row], taken(X, row)) for row in rows]
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


def check_length(net: Any, tensor: torch.Tensor, n_rows: int) -> None:
    if tensor.ndim == 0 or len(tensor) != n_rows:
        raise ValueError(
            f"{type(net.module_).__name__} must return one row of outputs for each input. Got "
            f"shape {tuple(tensor.shape)} for {n_rows} inputs."
        )


def mapped(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """Return tensors, or tuples, lists and dictionaries of them, with a function applied."""
    if torch.is_tensor(value):
        return function(value)
    if isinstance(value, dict):
        return {key: mapped(function, one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(mapped(function, one) for one in value)
    raise ValueError(
        "Inputs and outputs of a module must be tensors, or tuples, lists or dictionaries of "
        f"them. Got {type(value).__name__}."
    )


def tensors_of_rows(value: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    mapped(found.append, value)
    return found


def taken(value: Any, rows: Any) -> Any:
    """Return these rows."""
    return mapped(lambda tensor: tensor[rows], value)


def one_row_of_zeros(X: Any) -> Any:
    """Return inputs of one row, like these of any number of them."""
    return mapped(lambda tensor: tensor.new_zeros((1, *tensor.shape[1:])), X)


def no_rows(outputs: Any) -> Any:
    """Return what a module would give for no rows."""
    return taken(outputs, slice(0, 0))


def on_device(X: Any, device: Any) -> Any:
    """Return inputs on the device."""
    return mapped(lambda tensor: tensor.to(device), X)
