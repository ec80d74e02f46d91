# SPDX-License-Identifier: BSD-3-Clause
"""Differentially private SGD for skorch, through Opacus.

Opacus puts hooks on a module and a wrapper around an optimizer, and neither survives a pickle. Both
are there only while a net is trained: what it keeps is its own module and optimizer, and a record
of the steps that were taken, from which epsilon follows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from opacus.accountants import RDPAccountant
from opacus.accountants.utils import get_noise_multiplier
from opacus.data_loader import DPDataLoader
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from sklearn.utils import check_random_state
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset

from ._nets import check_device, checked_outputs, dtype_of, why_diverged

# Of each parameter of a module: what Opacus leaves there.
_LEFT_ON_PARAMETERS = ("grad_sample", "summed_grad", "_forward_counter", "_current_grad_sample")


@dataclass
class _Private:
    """What makes training private, while it lasts."""

    hooks: GradSampleHooks
    steps: DPOptimizer


class DPNeuralNetClassifier(NeuralNetClassifier):
    """A skorch classifier trained by differentially private SGD.

    Every gradient of a row's loss is clipped to an l2 norm, and Gaussian noise is added to their
    sum [1]_. RAB trains members so (Section 6.2 of [2]_): the smaller influence of a training row
    makes votes, and with them certified radii, more robust. That is what it is for here: the
    certificate of an ensemble needs none of this, and epsilon is no part of it.

    It takes labels of any kind and inputs of any kind of number, and can be used alone, in
    pipelines and searches, and as a member of an ensemble, where members train many at once.

    Parameters
    ----------
    module : torch.nn.Module class or instance
        The network; its outputs are unnormalised log probabilities with the default criterion.
    *args : tuple
        As in skorch's `NeuralNetClassifier`.
    noise_multiplier : float, at least 0, default=1.0
        Standard deviation of the noise, in units of `max_grad_norm`.
    max_grad_norm : float, above 0, default=1.0
        Largest l2 norm of a row's gradient.
    target_epsilon : float, above 0, default=None
        If given, `noise_multiplier` is ignored, and chosen so that training for `max_epochs` spends
        this epsilon.
    delta : float in (0, 1), default=None
        The delta of `epsilon_`. None is a tenth of one over the number of rows trained on.
    poisson_sampling : bool, default=True
        Whether each batch holds each row with the same probability, as the privacy accounting
        assumes; batches then differ in size. If False they are those of skorch, and `epsilon_` is
        infinite: nothing is claimed.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights, the batches and the noise. None draws from torch's global
        generator.
    criterion : torch.nn.Module class or instance, default=torch.nn.CrossEntropyLoss
        The loss of a batch: a mean over its rows.
    train_split : callable, default=None
        As in skorch; None trains on every row.
    **kwargs : dict
        As in skorch's `NeuralNetClassifier`.

    Attributes
    ----------
    epsilon_ : float
        What all training since `initialize` has spent, by Renyi accounting.
    delta_ : float
        The delta of it.
    noise_multiplier_ : float
        The one used.
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.

    References
    ----------
    .. [1] M. Abadi et al., "Deep Learning with Differential Privacy", Algorithm 1.
    .. [2] M. Weber et al., "RAB: Provable Robustness Against Backdoor Attacks".

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from sksmooth.neural_network import DPNeuralNetClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 2))
    >>> y = np.where(X[:, 0] > 0, "spam", "ham")
    >>> net = DPNeuralNetClassifier(
    ...     nn.Linear(2, 2), max_epochs=10, batch_size=30, lr=1.0, random_state=0, verbose=0
    ... ).fit(X, y)
    >>> bool(net.score(X, y) > 0.8), 1.0 < net.epsilon_ < 10.0
    (True, True)
    """

    def __init__(
        self,
        module,
        *args,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        target_epsilon=None,
        delta=None,
        poisson_sampling=True,
        random_state=None,
        criterion=torch.nn.CrossEntropyLoss,
        train_split=None,
        **kwargs,
    ):
        super().__init__(module, *args, criterion=criterion, train_split=train_split, **kwargs)
        self.noise_multiplier = noise_multiplier
        self.max_grad_norm = max_grad_norm
        self.target_epsilon = target_epsilon
        self.delta = delta
        self.poisson_sampling = poisson_sampling
        self.random_state = random_state

    # --- what skorch calls ------------------------------------------------------------------------

    def initialize(self):
        """Make the module, the criterion and the optimizer.

        Returns
        -------
        self : object
            The net.
        """
        self._check_parameters()
        check_device(self)
        with self._own_stream():
            super().initialize()
        self._refuse_layers()
        self.spent_ = []
        return self

    def fit(self, X, y, **fit_params):
        """Initialise the module and train it.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Training inputs, numbers of any type.
        y : array-like of shape (n_samples,)
            Labels of any type.
        **fit_params : dict
            As in skorch.

        Returns
        -------
        self : object
            The trained net.

        Raises
        ------
        ValueError
            If a parameter, the module or the data are not as described.
        RuntimeError
            If training diverges.
        """
        if self.warm_start and self.initialized_:
            return super().fit(X, y, **fit_params)
        self.initialize()
        # One stream for all of training, that goes on where the initial weights ended.
        with self._own_stream(resumed=True):
            self.partial_fit(X, y, **fit_params)
        return self

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train for some epochs, privately, as skorch calls it.

        Parameters
        ----------
        X : array-like, DataFrame or torch Dataset of shape (n_samples, n_features)
            Training inputs.
        y : array-like of shape (n_samples,), default=None
            Labels of `classes_`.
        epochs : int, default=None
            Number of epochs; None is `max_epochs`.
        **fit_params : dict
            As in skorch.

        Returns
        -------
        self : object
            The net.
        """
        X = self._numbers(X)
        y = np.asarray(y)
        self.check_data(X, y)
        targets = self._targets(y)
        self._check_against(X)
        try:
            with warnings.catch_warnings():
                # Of the hooks on the first layer, whose inputs need no gradient.
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                super().fit_loop(X, targets, epochs, **fit_params)
        finally:
            self._end_privacy()
            self.classes_inferred_ = np.unique(y)
        reason = why_diverged(self)
        if reason is not None:
            raise RuntimeError(reason)
        self._account()
        self._set_training(False)  # as after a prediction, which must not change the net
        return self

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Return the numbers of the outputs that stand for these labels."""
        classes = np.asarray(self.classes_)
        order = np.argsort(classes)
        targets = order[np.minimum(np.searchsorted(classes, y, sorter=order), classes.size - 1)]
        if not np.array_equal(classes[targets], y):
            unknown = np.setdiff1d(y, classes)[:10].tolist()
            raise ValueError(f"y must hold labels of classes, {classes.tolist()}. Got {unknown}.")
        return targets

    def predict(self, X):
        """Return the most probable class.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`.
        """
        return np.asarray(self.classes_)[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X):
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`.
        """
        return super().predict_proba(self._numbers(X))[:, : len(self.classes_)]

    def get_iterator(self, dataset, training=False):
        """Return the batches of a data set, private ones in training, as skorch calls it.

        Parameters
        ----------
        dataset : torch Dataset
            The rows.
        training : bool, default=False
            Whether the batches are to train on.

        Returns
        -------
        torch.utils.data.DataLoader
            The batches.
        """
        loader = super().get_iterator(dataset, training=training)
        if not training:
            return loader
        n_rows, n_steps = len(dataset), len(loader)
        self._rate, self._n_rows = 1.0 / n_steps, n_rows
        self._expected_batch_size = int(n_rows * self._rate)
        self.noise_multiplier_ = self._chosen_noise_multiplier()
        return DPDataLoader.from_data_loader(loader) if self.poisson_sampling else loader

    def train_step(self, batch, **fit_params):
        """Take one private step on a batch, as skorch calls it.

        Parameters
        ----------
        batch : tuple of Tensor
            Inputs and the numbers of their outputs.
        **fit_params : dict
            As in skorch.

        Returns
        -------
        dict
            The loss and the outputs of the step.
        """
        if self._private is None:
            self._begin_privacy()
        return super().train_step(batch, **fit_params)

    def _zero_grad_optimizer(self, set_to_none=None):
        self._private.steps.zero_grad(set_to_none=bool(set_to_none))

    def _step_optimizer(self, step_fn):
        self._private.steps.step(step_fn)
        self._n_steps += 1

    # --- privacy ----------------------------------------------------------------------------------

    _private: Any = None
    _stream: Any = None

    def _begin_privacy(self) -> None:
        hooks = GradSampleHooks(self.module_, batch_first=True, loss_reduction="mean")
        if self.poisson_sampling:
            hooks.forbid_grad_accumulation()
        steps = DPOptimizer(
            self.optimizer_,
            noise_multiplier=self.noise_multiplier_,
            max_grad_norm=self.max_grad_norm,
            expected_batch_size=self._expected_batch_size,
        )
        self._private, self._n_steps = _Private(hooks, steps), 0

    def _end_privacy(self) -> None:
        if self._private is None:
            return
        self._private.hooks.cleanup()
        for parameter in self.module_.parameters():
            for name in _LEFT_ON_PARAMETERS:
                vars(parameter).pop(name, None)
        self._note_steps(self._n_steps)
        del self._private, self._n_steps

    def _note_steps(self, n_steps: int) -> None:
        """Count steps that were taken, whoever took them."""
        self.spent_ = [*self.spent_, (self.noise_multiplier_, self._rate, n_steps)]

    def _chosen_noise_multiplier(self) -> float:
        if self.target_epsilon is None:
            return float(self.noise_multiplier)
        return float(
            get_noise_multiplier(
                target_epsilon=self.target_epsilon,
                target_delta=self._delta(),
                sample_rate=self._rate,
                epochs=self.max_epochs,
            )
        )

    def _delta(self) -> float:
        return 0.1 / self._n_rows if self.delta is None else float(self.delta)

    def _account(self) -> None:
        """Work out what was spent."""
        self.delta_ = self._delta()
        if not self.poisson_sampling or any(noise == 0.0 for noise, _, _ in self.spent_):
            self.epsilon_ = math.inf
            return
        accountant = RDPAccountant()
        accountant.history = list(self.spent_)
        self.epsilon_ = float(accountant.get_epsilon(delta=self.delta_))

    # --- randomness -------------------------------------------------------------------------------

    @contextmanager
    def _own_stream(self, resumed: bool = False) -> Iterator[None]:
        """Let torch's global generator be this net's own for a while, if it has a `random_state`.

        With `resumed` it goes on where it was left the last time.
        """
        if self.random_state is None:
            yield
            return
        outer = torch.default_generator.get_state()
        if resumed:
            torch.default_generator.set_state(self._stream)
        else:
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            torch.default_generator.manual_seed(int(seed))
            if torch.cuda.is_available():
                torch.cuda.manual_seed_all(int(seed))
        try:
            yield
        finally:
            self._stream = torch.default_generator.get_state()
            torch.default_generator.set_state(outer)

    # --- what is refused --------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        for name, least, most in [
            ("noise_multiplier", 0.0, math.inf),
            ("max_grad_norm", None, math.inf),
            ("target_epsilon", None, math.inf),
            ("delta", None, 1.0),
        ]:
            value = getattr(self, name)
            if value is None and name in ("target_epsilon", "delta"):
                continue
            number = isinstance(value, Real) and not isinstance(value, bool)
            if not number or not (value > 0.0 or value == least) or not value < most:
                low = "at least 0" if least == 0.0 else "above 0"
                high = "finite" if most == math.inf else f"below {most:g}"
                raise ValueError(f"{name} must be a number {low} and {high}. Got {value!r}.")
        if not isinstance(self.poisson_sampling, (bool, np.bool_)):
            raise ValueError(
                f"poisson_sampling must be True or False. Got {self.poisson_sampling!r}."
            )

    def _refuse_layers(self) -> None:
        refused = []
        for name, layer in self.module_.named_modules():
            if not list(layer.children()):
                refused += [
                    f"{name or 'the module'} ({type(layer).__name__}): {str(why).splitlines()[0]}"
                    for why in ModuleValidator.validate(layer, strict=False)
                ]
        if refused:
            raise ValueError(
                "Opacus cannot train these layers with a gradient for each row: "
                f"{'; '.join(refused)}"
            )

    def _check_against(self, X: Any) -> None:
        if isinstance(X, np.ndarray):
            n_outputs = checked_outputs(self, X[:2])
            if n_outputs < len(self.classes_):
                raise ValueError(
                    f"{type(self.module_).__name__} has {n_outputs} outputs, one for each class is "
                    f"needed: y has {len(self.classes_)} classes."
                )

    def _numbers(self, X: Any) -> Any:
        """Return arrays and DataFrames as arrays of the module's type of numbers."""
        if isinstance(X, (Dataset, torch.utils.data.Dataset, dict, tuple)) or torch.is_tensor(X):
            return X
        return np.asarray(X, dtype=str(dtype_of(self.module_)).removeprefix("torch."))
