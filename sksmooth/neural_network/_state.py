# SPDX-License-Identifier: BSD-3-Clause
"""What a module keeps beside its parameters, and what follows its passes and gradients.

A module that is mapped over members runs once for all of them: what it would keep is lost, or is
one member's for all. So it is watched, and where it writes to anything skorch itself trains.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import BuiltinFunctionType, MethodType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..ensemble._digest import digest
from ..exceptions import DigestError

# What every module has: tensors and hooks, which are looked at by themselves.
_OF_ALL = frozenset(vars(torch.nn.Module()))

# Of recurrent layers: their parameters again.
_OF_RNNS = frozenset({"_flat_weights", "_flat_weight_refs"})

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class UnlikeAloneError(Exception):
    """Members that are in training turn out not to be those that skorch would train."""


def why_hooked(module: torch.nn.Module, criterion: Any) -> str | None:
    """Return which hook follows the passes of a net, or None."""
    # Those that hold for all modules and optimizers have no public names.
    of_optimizers: Any = import_module("torch.optim.optimizer")
    if torch.nn.modules.module._has_any_global_hook() or (
        of_optimizers._global_optimizer_pre_hooks or of_optimizers._global_optimizer_post_hooks
    ):
        return "torch has hooks on all modules or optimizers"
    others = criterion.modules() if isinstance(criterion, torch.nn.Module) else []
    for part in [*module.modules(), *others]:
        if any(getattr(part, name, None) for name in _HOOKS):
            return f"{type(part).__name__} has hooks (as of weight_norm, pruning or its user)"
    for name, parameter in module.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return f"its parameter {name} has hooks on its gradient"
    return None


def layout(module: torch.nn.Module) -> tuple[Any, ...]:
    """Return the kinds of a module's layers, and of its tensors."""
    kinds = tuple((name, type(part)) for name, part in module.named_modules())
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return kinds, tuple((name, t.shape, t.dtype, t.requires_grad) for name, t in tensors)


def tensors_of(criterion: Any) -> list[torch.Tensor]:
    """Return a criterion's parameters and buffers."""
    if not isinstance(criterion, torch.nn.Module):
        return []
    return [*criterion.parameters(), *criterion.buffers()]


def kept_by(part: Any) -> dict[str, Any]:
    """Return what a layer or criterion has beside its parameters, buffers, layers and hooks."""
    if not isinstance(part, torch.nn.Module):
        return {"itself": part}
    aside = _OF_ALL | (_OF_RNNS if isinstance(part, torch.nn.RNNBase) else frozenset())
    found: dict[str, Any] = {}
    for name, value in vars(part).items():
        if name in aside:
            continue
        if isinstance(value, BuiltinFunctionType):
            # Such as torch.relu: one object in all copies, which digest may not find by its name.
            found[name] = id(value)
        elif isinstance(value, MethodType) and value.__self__ is part:
            found[name] = value.__func__
        else:
            found[name] = value
    return found


def fingerprint(whole: Any) -> bytes:
    """Return a digest of all that a module or a criterion keeps.

    Raises UnlikeAloneError where something in it has none.
    """
    parts = whole.modules() if isinstance(whole, torch.nn.Module) else [whole]
    try:
        return digest([kept_by(part) for part in parts], code=True)
    except DigestError as failure:
        name = getattr(whole, "__name__", type(whole).__name__)
        what = str(failure).split(". Noise that")[0]
        raise UnlikeAloneError(f"what {name} keeps cannot be compared ({what})") from failure


class Watch:
    """Tells what was written to since it began: even if the values are the same.

    Raises UnlikeAloneError where something has no digest.
    """

    def __init__(self, module: torch.nn.Module, criterion: Any, *, trained: bool = False):
        self.module, self.criterion = module, criterion
        self.trained = trained  # whether parameters may change
        self.before, self.tensors = self._kept(), self._tensors()

    def changed(self, *, norms: bool = False) -> str | None:
        """Return what has changed, or None; with `norms`, batch normalisation may count."""
        name, now = type(self.module).__name__, self._tensors()
        aside = _statistics(self.module) if norms else set()
        for tensor, (old, version) in self.tensors.items():
            new = now.get(tensor, (None, 0))
            if tensor not in aside and (new[0] is not old or new[1] != version):
                buffer = tensor not in dict(self.module.named_parameters())
                what = "buffer" if buffer else "parameter"
                return (
                    f"{name} changes its {what} {tensor} when it is called (as batch normalisation "
                    "does)"
                )
        try:
            same = self._kept() == self.before
        except UnlikeAloneError:
            same = False
        return None if same else f"{name} or its criterion changes its attributes when it is called"

    def _kept(self) -> tuple[Any, ...]:
        return layout(self.module), fingerprint(self.module), fingerprint(self.criterion)

    def _tensors(self) -> dict[str, tuple[torch.Tensor, int]]:
        found: dict[str, torch.Tensor] = dict(self.module.named_buffers())
        if not self.trained:
            found |= dict(self.module.named_parameters())
        if isinstance(self.criterion, torch.nn.Module):
            found |= {f"{n} (criterion)": b for n, b in self.criterion.named_buffers()}
        return {name: (tensor, tensor._version) for name, tensor in found.items()}


def _statistics(module: torch.nn.Module) -> set[str]:
    """Return the names of the buffers in which torch's own layers note means and variances."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        if isinstance(part, torch.nn.modules.batchnorm._NormBase)
        and type(part).__module__.startswith("torch.nn.modules.")
        for name in ("running_mean", "running_var", "num_batches_tracked")
    }


class Calls(TorchFunctionMode):
    """Notes calls that torch.func maps over members, but not to what each member would do."""

    def __init__(self) -> None:
        super().__init__()
        self.problem: str | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in {"embedding", "embedding_bag"}:
            # The gradient of the row for padding is not left out; max_norm would change weights.
            special = ("padding_idx", "max_norm", "scale_grad_by_freq", "sparse")
            given = [kwargs.get(key) for key in special]
            if name == "embedding":  # torch's own function has a -1 where there is no padding
                given += [value for value in args[2:] if value != -1]
            if any(value is not None and value is not False for value in given):
                self.problem = "torch.func does not know padding_idx, max_norm and the like"
        elif name in {"register_hook", "register_post_accumulate_grad_hook"}:
            self.problem = "it puts hooks on gradients"
        return func(*args, **kwargs)
