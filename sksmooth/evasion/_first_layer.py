# SPDX-License-Identifier: BSD-3-Clause
r"""Bases whose first layer is dense: additive noise is drawn where that layer puts it.

A dense layer sends ``x + z`` to ``x W + z W + b``. The noise of one block goes through W once for
all rows, and each row only adds its own ``x W + b``. Gaussian noise need not even be drawn as `z`:
with the QR decomposition ``diag(sigma) W = Q R``, ``z W`` is normal with covariance ``R^T R``, that
is, has the distribution of ``z' R`` with as many standard normal numbers z' as R has rows, the
lesser of the numbers of inputs and outputs. R exists for any W, of any rank. In real arithmetic the
votes have the same distribution as those for noisy inputs.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.linear_model._base import LinearClassifierMixin  # it has no public name
from sklearn.neural_network import MLPClassifier
from sklearn.neural_network._base import ACTIVATIONS  # what MLPClassifier itself applies

from ..smoothing import GaussianNoise
from ._draws import AdditiveDraws
from ._voting import (
    Ballot,
    ends_in_sigmoid,
    is_module,
    is_skorch,
    module_votes,
    overrides,
    unfrozen,
)

# Where two scores differ by so little of what they are made of, rounding decides between them.
_PARALLEL = 1e-8

# The base rounds its inputs. What this does to one is no more than this share of the noise on it,
# or the row's noise is drawn where the base sees it.
_ROUNDED = 2.0**-16


@dataclass(frozen=True)
class Dense:
    """A dense first layer of weights (n_features, n_outputs), and all that comes after it.

    `rest` takes the layer's outputs, which it may overwrite, and returns numbers of classes. With
    `is_last` the outputs are scores of the classes. `precision` is the relative error of a number
    that the layer is given.
    """

    weights: np.ndarray
    bias: np.ndarray
    rest: Callable[[np.ndarray], np.ndarray]
    is_last: bool = False
    precision: float = 2.0**-53

    def suits(self, draws: AdditiveDraws) -> bool:
        """Tell whether noise may be drawn in the layer's outputs.

        Not where two classes have the same scores, or nearly, whatever the noise is: rounding would
        choose between them, and here it is not that of the base. Nor where the layer's weights are
        so large that noise leaves the range of floats.
        """
        scaled = self.scaled_weights(draws)
        size = np.abs(scaled).max(initial=0.0)
        if not (np.all(np.isfinite(self.bias)) and size < 1e150):  # its squares are finite
            return False
        if not self.is_last:
            return True
        scaled = scaled / (size or 1.0)
        least = _PARALLEL * np.linalg.norm(scaled, axis=0).max()
        return not any(
            bool(np.any(np.linalg.norm(scaled[:, :j] - scaled[:, [j]], axis=0) <= least))
            for j in range(1, scaled.shape[1])
        )

    def scaled_weights(self, draws: AdditiveDraws) -> np.ndarray:
        """Return the weights of noise of standard deviation 1."""
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: np.ndarray = self.weights * np.reshape(draws.deviations, (-1, 1))
        return scaled


class _Noise:
    """One block: noise of the layer's outputs, and of inputs for rows that need it."""

    def __init__(self, outputs: np.ndarray, draw_inputs: Callable[[], np.ndarray]):
        self.outputs, self._draw_inputs = outputs, draw_inputs

    @cached_property
    def inputs(self) -> np.ndarray:
        return self._draw_inputs()


class FirstLayerBallot:
    """The noisy outputs of the first layer go through the rest of the base.

    A row of numbers so large that the base, which rounds them, would see something else than the
    sum of row and noise goes through the whole base: that is `whole`.
    """

    def __init__(self, dense: Dense, draws: AdditiveDraws, whole: Ballot):
        self.dense, self.draws, self.whole = dense, draws, whole
        self.factor: np.ndarray | None = None
        if isinstance(draws.law, GaussianNoise):
            self.factor = np.asarray(np.linalg.qr(dense.scaled_weights(draws), mode="r"))
        self.largest = draws.deviations * (_ROUNDED / dense.precision)

    def prepare(self, row: np.ndarray) -> tuple[bool, np.ndarray]:
        """Return whether the row is rounded, and it or the layer's outputs for it without noise."""
        if np.any(np.abs(row) > self.largest):
            return True, self.whole.prepare(row)
        return False, row @ self.dense.weights + self.dense.bias

    def block(self, n_draws: int, rng: np.random.Generator) -> _Noise:
        """Return noise of the layer's outputs."""
        if self.factor is None:
            inputs = self.draws.block(n_draws, rng)
            return _Noise(inputs @ self.dense.weights, lambda: inputs)
        outputs = rng.standard_normal((n_draws, self.factor.shape[0])) @ self.factor
        return _Noise(outputs, lambda: self.whole.block(n_draws, rng))

    def votes(self, row: tuple[bool, np.ndarray], block: _Noise) -> np.ndarray:
        """Return the votes."""
        rounded, values = row
        if rounded:
            return self.whole.votes(values, block.inputs)
        return self.dense.rest(block.outputs + values)


def dense_first_layer(base: Any, classes: np.ndarray) -> Dense | None:
    """Return the first layer of a base that is known to begin with a dense one, else None.

    Known are scikit-learn's linear classifiers and `MLPClassifier`, and `torch.nn.Sequential`
    whose first module is `torch.nn.Linear`, itself or in a skorch classifier. Nothing that may
    override what these do is taken for one of them.
    """
    base = unfrozen(base)
    if is_module(base):
        return _sequential(base, classes.size)
    if is_skorch(base):
        return _net(base, classes.size)
    if not np.array_equal(getattr(base, "classes_", ()), classes):
        return None
    if isinstance(base, LinearClassifierMixin):
        return _linear(base)
    return _perceptron(base) if type(base) is MLPClassifier else None


def _linear(base: Any) -> Dense | None:
    changed = overrides(base, ("predict", "decision_function"), LinearClassifierMixin)
    if changed or not isinstance(base.coef_, np.ndarray):  # sparsify() makes it sparse
        return None
    weights = np.ascontiguousarray(np.atleast_2d(base.coef_).T, dtype=np.float64)
    bias = np.broadcast_to(np.asarray(base.intercept_, dtype=np.float64), weights.shape[1:])
    return Dense(weights, bias, choose, is_last=True)


def choose(scores: np.ndarray) -> np.ndarray:
    """Return the class of the greatest score; of one score, whether it is above 0."""
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0.0).view(np.int8)
    return scores.argmax(axis=1)


def _perceptron(base: MLPClassifier) -> Dense | None:
    if overrides(base, ("predict", "_predict", "_forward_pass_fast"), MLPClassifier):
        return None
    n_outputs = 1 if base.classes_.size == 2 else base.classes_.size
    many = base.out_activation_ == "logistic" and n_outputs > 1  # labels that do not exclude others
    if base.coefs_[-1].shape[1] != n_outputs or many:
        return None
    layers = [
        (np.asarray(w, dtype=np.float64), np.asarray(b, dtype=np.float64))
        for w, b in zip(base.coefs_, base.intercepts_, strict=True)
    ]
    rest = _LayersAfter(base.activation, base.out_activation_, tuple(layers[1:]))
    return Dense(*layers[0], rest, is_last=len(layers) == 1)


@dataclass(frozen=True)
class _LayersAfter:
    """The rest of a perceptron, with its last activation: rounding makes ties of small scores."""

    activation: str
    last: str
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def __call__(self, outputs: np.ndarray) -> np.ndarray:
        for weights, bias in self.layers:
            ACTIVATIONS[self.activation](outputs)  # in place
            outputs = outputs @ weights
            outputs += bias
        ACTIVATIONS[self.last](outputs)
        if self.last == "logistic":
            outputs -= 0.5
        return choose(outputs)


# What a net does between its inputs and its labels.
_OF_NETS = (
    *("predict", "predict_proba", "forward", "forward_iter", "infer", "evaluation_step"),
    *("get_dataset", "get_iterator", "_get_predict_nonlinearity"),
)


def _net(net: Any, n_classes: int) -> Dense | None:
    from ..neural_network._nets import gives_inputs_as_they_are

    classifier = sys.modules["skorch"].NeuralNetClassifier
    changed = overrides(net, _OF_NETS, classifier) or not gives_inputs_as_they_are(net)
    known = isinstance(net.predict_nonlinearity, str) and net.predict_nonlinearity == "auto"
    if changed or not (known or net.predict_nonlinearity is None):
        return None
    return _sequential(
        net.module_, n_classes, last=net._get_predict_nonlinearity(), one_output=False
    )


def _sequential(
    module: Any,
    n_classes: int,
    *,
    last: Callable[[Any], Any] | None = None,
    one_output: bool = True,
) -> Dense | None:
    torch = sys.modules["torch"]
    if type(module) is not torch.nn.Sequential or len(module) == 0:
        return None
    if one_output and ends_in_sigmoid(module):
        return None  # which `module_votes` refuses, if it has one output
    first, of_all = module[0], torch.nn.modules.module
    hooked = (
        of_all._global_forward_hooks
        or of_all._global_forward_pre_hooks
        or any(
            m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m)
            for m in (module, first)
        )
    )
    if type(first) is not torch.nn.Linear or hooked:
        return None
    if first.weight.dtype not in (torch.float32, torch.float64):
        return None  # it sees inputs that are rounded coarsely, and not the ones here
    weights = first.weight.detach().to("cpu", torch.float64).numpy().T
    bias = np.zeros(weights.shape[1])
    if first.bias is not None:
        bias = first.bias.detach().to("cpu", torch.float64).numpy()
    # A copy: evaluation mode is not to be forced upon the caller's module.
    rest = copy.deepcopy(module[1:]).eval()
    return Dense(
        np.ascontiguousarray(weights),
        bias,
        _ModulesAfter(rest, last, n_classes, one_output, first.weight),
        is_last=next(rest.parameters(), None) is None,
        precision=torch.finfo(first.weight.dtype).eps / 2.0,
    )


class _ModulesAfter:
    """The rest of a torch module, in the first layer's precision and on its device.

    `last` is what a net does to the module's outputs.
    """

    def __init__(
        self,
        rest: Any,
        last: Callable[[Any], Any] | None,
        n_classes: int,
        one_output: bool,
        like: Any,
    ):
        self.rest, self.last, self.n_classes, self.one_output = rest, last, n_classes, one_output
        self.dtype, self.device = like.dtype, like.device

    def _scores(self, inputs: Any) -> Any:
        outputs = self.rest(inputs)
        return outputs if self.last is None else self.last(outputs)

    def __call__(self, outputs: np.ndarray) -> np.ndarray:
        torch = sys.modules["torch"]
        inputs = torch.as_tensor(outputs, dtype=self.dtype, device=self.device)
        return module_votes(self._scores, inputs, self.n_classes, one_output=self.one_output)
