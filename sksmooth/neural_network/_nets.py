# SPDX-License-Identifier: BSD-3-Clause
"""What ensembles must know of a skorch net: its inputs and outputs, and whether it has failed."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet, NeuralNetClassifier
from skorch.dataset import Dataset
from torch.utils.data import DataLoader

_OPTIMIZERS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)

# Arguments of a DataLoader that only change where and how fast batches are put together, and those
# that the stacked loop follows.
_LOADER = {"batch_size", "shuffle", "drop_last", "num_workers", "pin_memory", "persistent_workers"}
_LOADER |= {"prefetch_factor"}


def is_net(estimator: Any) -> bool:
    """Tell whether an estimator is a skorch net."""
    return isinstance(estimator, NeuralNet)


def check_net(net: Any, X: Any, classes: np.ndarray) -> str:
    """Check a net against the data, and return the name of the type of its parameters.

    `X` are a few rows, or None where the net sees others, as at the end of a pipeline. What is
    wrong for one member is wrong for all, so it is said before any is trained.
    """
    check_device(net)
    net = copied(net).initialize()
    name = str(dtype_of(net.module_)).removeprefix("torch.")
    if X is None:
        return name
    n_outputs = checked_outputs(net, np.array(X, dtype=name))
    if is_private(net):
        net._check_rows(np.array(X, dtype=name))
    takes_numbers = type(net).predict is NeuralNetClassifier.predict
    whole = classes.dtype.kind in "iu" and classes.min() >= 0 and classes.max() < n_outputs
    if takes_numbers and not whole:
        raise ValueError(
            f"NeuralNetClassifier takes labels for numbers of outputs: they must be integers from "
            f"0 to {n_outputs - 1}, as {type(net.module_).__name__} has {n_outputs} outputs. Got "
            f"classes {classes[:10].tolist()}."
        )
    return name


def check_device(net: Any) -> None:
    """Raise ValueError where the net asks for a device that is not there."""
    if torch.device(net.device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device={net.device!r} of the net: torch finds no CUDA device here. Use device='cpu'."
        )


def dtype_of(module: torch.nn.Module) -> torch.dtype:
    """Return the type of a module's numbers, as NumPy has it: float32 where it has none."""
    own = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    return own if own in (torch.float16, torch.float64) else torch.float32


def checked_outputs(net: Any, X: np.ndarray) -> int:
    """Return how many outputs an initialised net has for each of a few inputs."""
    module, device = net.module_, torch.device(net.device)
    name, training = type(module).__name__, module.training
    inputs = torch.from_numpy(np.array(X)).to(device)
    try:
        with torch.no_grad():
            module.eval()
            outputs = net.infer(inputs)
    except Exception as failure:
        raise ValueError(
            f"{name} refuses inputs of shape (n, {', '.join(map(str, X.shape[1:]))}), that of X, "
            f"and dtype {X.dtype}: {failure}"
        ) from failure
    finally:
        module.train(training)
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    if outputs.ndim != 2 or len(outputs) != len(X):
        raise ValueError(
            f"{name} must return one row of outputs for each input, one output for each class. "
            f"Got shape {tuple(outputs.shape)} for {len(X)} inputs."
        )
    if bool(torch.isnan(outputs).any()) and not np.isnan(X).any():
        raise ValueError(f"{name} returns nan for the first rows of X, before it was trained.")
    return int(outputs.shape[1])


def copied(net: Any) -> Any:
    """Return an untrained copy."""
    from sklearn.base import clone

    return clone(net)


def settled(net: Any) -> None:
    """Bring a trained net into the state in which members are kept: on the CPU, not training.

    Raises RuntimeError if training has failed without an error.
    """
    to_cpu(net)
    net._set_training(False)  # as after any prediction: the digest of a member must not change
    reason = why_diverged(net)
    if reason is not None:
        raise RuntimeError(reason)


def why_diverged(net: Any) -> str | None:
    """Return what tells that training has failed, or None.

    In private training rows without a finite gradient are left out, so that it is seen by the loss.
    """
    wrong = [n for n, p in net.module_.named_parameters() if not bool(torch.isfinite(p).all())]
    losses = [float(np.sum(_losses(row))) for row in net.history]
    lost = bool(losses) and not np.isfinite(losses[-1]) and isinstance(net, _private_kind())
    if not wrong and not lost:
        return None
    epoch = next((k + 1 for k, loss in enumerate(losses) if not np.isfinite(loss)), None)
    since = "" if epoch is None else f"its loss was no finite number from epoch {epoch} on"
    what = [f"{wrong[0]} is not finite"] if wrong else []
    return f"Training diverged: {'; '.join([*what, *filter(None, [since])])}."


def _losses(row: dict[str, Any]) -> list[float]:
    """Return the losses of an epoch; without skorch's own callbacks they are those of batches."""
    if "train_loss" in row:
        return [row["train_loss"]]
    return [batch["train_loss"] for batch in row["batches"] if "train_loss" in batch]


def labels_of(learner: Any, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what a net or a pipeline predicts, and for which inputs a net's outputs are numbers.

    Of outputs that are not, argmax would take the first.
    """
    changed = "predict" in vars(learner) or "predict_proba" in vars(learner)
    if not changed and type(learner).predict is NeuralNetClassifier.predict:
        own = None
    elif not changed and is_private(learner):
        own = np.asarray(learner.classes_)
    else:
        labels = np.asarray(learner.predict(X))
        return labels, np.ones(labels.shape[:1], dtype=bool)
    scores = learner.predict_proba(X)
    best = scores.argmax(axis=1)
    return (best if own is None else own[best]), ~np.isnan(scores).any(axis=1)


def is_private(net: Any) -> bool:
    """Tell whether a net is trained by differentially private SGD."""
    return type(net) in _private_kind()


def _private_kind() -> tuple[type, ...]:
    """Return the class of such nets, if it is in use."""
    module = sys.modules.get("sksmooth.neural_network._dp_sgd")
    return () if module is None else (module.DPNeuralNetClassifier,)


def targets_of(net: Any, y: np.ndarray) -> np.ndarray:
    """Return the numbers of the outputs that stand for these labels."""
    targets: np.ndarray = net._targets(y) if is_private(net) else y
    return targets


def batches_of(net: Any, dataset: Any) -> Any:
    """Return the batches that a net is trained on."""
    if is_private(net):
        return net._private_batches(dataset)
    return net.get_iterator(dataset, training=True)


def to_cpu(net: Any) -> None:
    """Move a trained net to the CPU, where any machine can load it."""
    if torch.device(net.device).type == "cpu":
        return
    for name in [*net._modules, *net._criteria]:
        part = getattr(net, name + "_")
        if isinstance(part, torch.nn.Module):
            part.to("cpu")
    for name in net._optimizers:
        for state in getattr(net, name + "_").state.values():
            for key, value in state.items():
                if torch.is_tensor(value):
                    state[key] = value.cpu()
    net.device = "cpu"


def why_not_ours(net: Any) -> str | None:
    """Return what of a net only skorch's own loop would follow, or None."""
    if type(net) is not NeuralNetClassifier and not is_private(net):
        return f"{type(net).__name__} may have a training loop of its own"
    overridden = [name for name, value in vars(net).items() if _is_own(value)]
    if overridden:
        return f"the net has methods of its own ({', '.join(sorted(overridden))})"
    if net.callbacks not in (None, "disable") and len(net.callbacks):
        return "the net has callbacks"
    if any(name.startswith("callbacks__") and name != "callbacks__print_log" for name in vars(net)):
        return "the net has settings of callbacks"
    if net.optimizer not in _OPTIMIZERS:
        names = ", ".join(kind.__name__ for kind in _OPTIMIZERS)
        return f"optimizer is {_name(net.optimizer)}, and not one of {names}"
    if net.dataset is not Dataset or vars(net).get("dataset__transform"):
        return "the net has a dataset of its own"
    for prefix in ("iterator_train", "iterator_valid"):
        if getattr(net, prefix) is not DataLoader:
            return f"{prefix} is not torch's DataLoader"
        more = sorted(set(net.get_params_for(prefix)) - _LOADER)
        if more:
            return f"{prefix} has the argument {more[0]}"
    if net.warm_start:
        return "the net has warm_start=True"
    if getattr(net, "compile", False):
        return "the net has compile=True"
    return None


def gives_inputs_as_they_are(net: Any) -> bool:
    """Tell whether a net's module sees the rows that the net predicts for, in their order."""
    loader = set(net.get_params_for("iterator_valid"))
    plain = net.dataset is Dataset and not net.get_params_for("dataset")
    return (
        plain and net.iterator_valid is DataLoader and loader <= _LOADER - {"shuffle", "drop_last"}
    )


def _is_own(value: Any) -> bool:
    return isinstance(value, Callable) and hasattr(value, "__func__")  # type: ignore[arg-type]


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", repr(kind))


def has_convolutions(module: torch.nn.Module) -> bool:
    """Tell whether a module has layers that gain nothing on a CPU from being stacked."""
    kinds = (torch.nn.modules.conv._ConvNd, torch.nn.RNNBase, torch.nn.MultiheadAttention)
    return any(isinstance(part, kinds) for part in module.modules())


def trial_copy(module: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a module in training mode, to be tried out."""
    return copy.deepcopy(module).train()
