# SPDX-License-Identifier: BSD-3-Clause
"""Neural networks as learners: told from others without importing torch, and fitted with care."""

from __future__ import annotations

import io
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.pipeline import Pipeline

from ..exceptions import SequentialTrainingWarning, SharedDeviceWarning
from ._stacking import StackedTraining


def ship(obj: Any) -> bytes:
    """Return an object with nets inside as bytes for another process, to be read by pickle.

    A net pickles its module by itself, with plain pickle, which knows classes by their name alone;
    another process cannot look up that of a class that a script or notebook defines.
    """
    buffer = io.BytesIO()
    _shipper()(buffer).dump(obj)
    return buffer.getvalue()


@lru_cache(maxsize=1)
def _shipper() -> Any:
    # The one that joblib sends with: it knows classes again that it has sent.
    try:
        cloudpickle = import_module("joblib.externals.cloudpickle")
    except ImportError:  # joblib 1.6 depends on the package instead
        cloudpickle = import_module("cloudpickle")

    class Shipper(cloudpickle.CloudPickler):  # type: ignore[misc, name-defined]
        def reducer_override(self, obj: Any) -> Any:
            if is_net(obj):
                return reduced_net(obj)
            # torch's own way through a file in memory takes longer than the rest together.
            return reduced_tensor(obj) if is_plain_tensor(obj) else super().reducer_override(obj)

    return Shipper


def is_net(obj: Any) -> bool:
    """Tell whether an object is a skorch net."""
    skorch = sys.modules.get("skorch")
    return skorch is not None and isinstance(obj, skorch.NeuralNet)


def reduced_net(net: Any) -> tuple[Any, tuple[Any, dict[str, Any]]]:
    """Return what a net is made of, as pickle wants it; its parts are pickled as others are."""
    return _made_of, (type(net), net.__dict__)


def is_plain_tensor(obj: Any) -> bool:
    """Tell whether an object is a tensor or parameter of torch that NumPy could hold."""
    torch = sys.modules.get("torch")
    return (
        torch is not None
        and type(obj) in (torch.Tensor, torch.nn.Parameter)
        and obj.device.type == "cpu"
        and obj.layout is torch.strided
        and obj.dtype in _numpy_dtypes(torch)
        and not vars(obj)
    )


def _numpy_dtypes(torch: Any) -> tuple[Any, ...]:
    return torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool


def reduced_tensor(tensor: Any) -> tuple[Any, tuple[bool, bool, np.ndarray]]:
    """Return what a tensor is made of: by torch's own pickling it would hold addresses."""
    torch = sys.modules["torch"]
    values = tensor.detach().numpy()
    return _tensor_of, (type(tensor) is torch.nn.Parameter, tensor.requires_grad, values.copy())


def _tensor_of(parameter: bool, requires_grad: bool, values: np.ndarray) -> Any:
    import torch

    tensor = torch.from_numpy(np.array(values))
    if parameter:
        return torch.nn.Parameter(tensor, requires_grad=requires_grad)
    return tensor.requires_grad_(requires_grad)


def _made_of(kind: Any, state: dict[str, Any]) -> Any:
    net = kind.__new__(kind)
    net.__dict__.update(state)
    return net


def net_in(estimator: Any) -> Any:
    """Return the skorch net that an estimator is, or that a pipeline ends with; else None."""
    while isinstance(estimator, Pipeline) and estimator.steps:
        estimator = estimator.steps[-1][1]
    return estimator if is_net(estimator) else None


@dataclass(frozen=True)
class Stacking:
    """How members are trained together."""

    block_size: int
    keep_noise: bool
    mixed_precision: bool
    together: bool = True  # else one after the other, but not by skorch's loop


@dataclass(frozen=True)
class NetPlan:
    """How members that are neural networks are trained, and what they are given.

    Attributes
    ----------
    dtype : str
        Type of the module's parameters: inputs are rounded to it.
    device : str
        Where members are trained.
    stacking : Stacking or None
        None where they are trained one by one.
    """

    dtype: str
    device: str
    stacking: Stacking | None = None

    def inputs(self, X: Any) -> np.ndarray:
        """Return what a net is given; a DataFrame as an array."""
        return np.asarray(X, dtype=self.dtype)

    def fit(self, learner: Any, X: np.ndarray, y: np.ndarray, params: dict[str, Any]) -> None:
        """Fit a learner, and check that it could be trained."""
        from ..neural_network._nets import settled

        with _interrupts_passed_on():
            learner.fit(X, y, **params)
        settled(net_in(learner))

    def labels(self, learner: Any, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a member's predictions, and which of them are votes."""
        from ..neural_network._nets import labels_of

        return labels_of(learner, X)

    def numbers_outputs(self, learner: Any) -> bool:
        """Tell whether a member predicts numbers of outputs, whatever its labels were."""
        net, skorch = net_in(learner), sys.modules["skorch"]
        return (
            net is not None
            and type(net).predict is skorch.NeuralNetClassifier.predict
            and "predict" not in vars(net)
        )

    def in_blocks(self, block_size: int) -> NetPlan:
        """Return the same with another number of members that train together."""
        assert self.stacking is not None
        return replace(self, stacking=replace(self.stacking, block_size=block_size))

    @property
    def on_gpu(self) -> bool:
        """Whether members are trained on a device that processes would share."""
        return not self.device.startswith("cpu")


def net_plan(recipe: Any, training: Any, n_jobs: int | None) -> NetPlan | None:
    """Return how members are trained where they are networks, and None where they are not.

    Parameters
    ----------
    recipe : Recipe
        All else that training takes.
    training : str or StackedTraining
        The ensemble's parameter.
    n_jobs : int or None
        The ensemble's parameter.
    """
    estimator = recipe.estimator
    net = net_in(estimator)
    asked = training not in ("auto", "sequential")
    if net is None:
        if asked:
            raise ValueError(
                f"training={training!r} is for an estimator that is a skorch NeuralNetClassifier. "
                f"Got {type(estimator).__name__}: use training='auto'."
            )
        return None
    from .._global_generators import GLOBAL_WORDS, global_generators
    from ..neural_network import _plan

    with global_generators() as reseed:
        # What a trial shows depends on nothing that was drawn before.
        reseed(np.zeros(GLOBAL_WORDS, dtype=np.uint32))
        dtype = _checked(net, recipe, net is estimator)
        plan = NetPlan(dtype, str(net.device))
        if plan.on_gpu and effective_n_jobs(n_jobs) > 1:
            warnings.warn(
                f"Members are trained in one process, and not in n_jobs={n_jobs}: several would "
                f"compete for the memory of {plan.device}.",
                SharedDeviceWarning,
                stacklevel=2,
            )
        recipe = replace(recipe, net=plan)
        if training == "sequential":
            return plan
        options = StackedTraining() if training == "stacked" else training
        stacking: Any = "it is the end of a pipeline, whose other steps are fitted for each member"
        if net is estimator:
            stacking = _plan.plan(recipe, None if training == "auto" else options)
    if stacking is None:
        return plan
    if not isinstance(stacking, str):
        return replace(plan, stacking=stacking)
    if asked:
        raise ValueError(
            f"training={training!r} is not possible for this net: {stacking}. "
            "Use training='sequential'."
        )
    warnings.warn(
        f"Members are trained one by one, not stacked: {stacking}. training='sequential' does the "
        "same without this message.",
        SequentialTrainingWarning,
        stacklevel=2,
    )
    return plan


def _checked(net: Any, recipe: Any, sees_X: bool) -> str:
    """Return the type of the numbers that a net takes, once a few rows have passed through it.

    Three are enough for most nets; others want as many as a batch has.
    """
    from ..neural_network._nets import check_net

    if not sees_X:
        return check_net(net, None, recipe.classes)
    first: Exception | None = None
    batch = net.get_params_for("iterator_valid").get("batch_size", net.batch_size)
    for n_rows in (3, recipe.features.n_samples if batch == -1 else batch):
        few = recipe.features.rows(slice(0, n_rows))
        try:
            return check_net(net, few.with_values(few.values), recipe.classes)
        except ValueError as failure:
            first = failure if first is None else first
    assert first is not None
    raise first


def mode(plan: NetPlan | None) -> str:
    """Return what tells one way of training from another: bits are the same within one."""
    if plan is None:
        return "sequential"
    if plan.stacking is None:
        return f"sequential on {plan.device}"
    if not plan.stacking.together:
        return f"one by one on {plan.device}"
    mixed = " in mixed precision" if plan.stacking.mixed_precision else ""
    return f"stacked on {plan.device}{mixed}"


def is_out_of_memory(failure: BaseException) -> bool:
    """Tell whether a failure is a lack of memory, of the machine or of a device."""
    torch = sys.modules.get("torch")
    if isinstance(failure, MemoryError) or torch is None:
        return isinstance(failure, MemoryError)
    return isinstance(failure, torch.OutOfMemoryError) or (
        isinstance(failure, RuntimeError) and "not enough memory" in str(failure)  # on a CPU
    )


def is_of_the_machine(failure: BaseException) -> bool:
    """Tell whether a failure says nothing about the learner: no memory, or a device that is down.

    Such a member must not count as failed: others would be missing for the same reason.
    """
    of_devices = getattr(sys.modules.get("torch"), "AcceleratorError", ())
    return is_out_of_memory(failure) or isinstance(failure, of_devices)


@contextmanager
def _interrupts_passed_on() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end where one came: skorch takes it for the end of training.

    A member that has seen half of its epochs is not a draw from the distribution of members.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came = False

    def note(number: int, frame: Any) -> Any:
        nonlocal came
        came = True
        return before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
