# SPDX-License-Identifier: BSD-3-Clause
"""Differentially private SGD for skorch, through Opacus.

Opacus puts hooks on a module and a wrapper around an optimizer, and neither survives a pickle. Both
are there only while a net is trained: what it keeps is its own module and optimizer, and a record
of the steps that were taken, from which epsilon follows.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
import torch
from opacus.data_loader import DPDataLoader
from sklearn.utils import check_random_state
from skorch import NeuralNetClassifier
from skorch.callbacks import PassthroughScoring
from skorch.dataset import Dataset, get_len, unpack_data
from skorch.utils import TeeGenerator
from torch.utils.data import default_collate

from ._accounting import Steps, epsilon_of, noise_for
from ._apart import check_gradients_apart, check_rows_apart
from ._nets import check_device, checked_outputs, dtype_of, why_diverged
from ._opacus import Private, refuse_parts
from ._rows import check_criterion, losses_of_rows, no_rows, on_device, one_row_of_zeros

# What the theorem is about: of a class that does these otherwise nothing is known.
_RESTS_ON = (
    "fit_loop",
    "run_single_epoch",
    "get_iterator",
    "train_step",
    "train_step_single",
    "_step_optimizer",
    "_zero_grad_optimizer",
)


class _TrainLoss(PassthroughScoring):
    """The mean loss of an epoch's rows; 0 where there were none, as in small Poisson batches."""

    def get_avg_score(self, history):
        if not any(history[-1, "batches", :, "train_batch_size"]):
            return 0.0
        return super().get_avg_score(history)


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
        An instance is copied, and stays untrained.
    *args : tuple
        As in skorch's `NeuralNetClassifier`.
    noise_multiplier : float, at least 0, default=1.0
        Standard deviation of the noise, in units of `max_grad_norm`.
    max_grad_norm : float, above 0, default=1.0
        Largest l2 norm of a row's gradient.
    target_epsilon : float, above 0 and below 1e6, default=None
        If given, `noise_multiplier` is ignored, and chosen so that training for `max_epochs` spends
        this epsilon; each `partial_fit` spends it anew.
    delta : float in (0, 1), default=None
        The delta of `epsilon_`. None is a tenth of one over the number of rows trained on, the
        largest where there were several.
    poisson_sampling : bool, default=True
        Whether each batch holds each row with the same probability, as the privacy accounting
        assumes; batches then differ in size. If False they are those of skorch, and `epsilon_` is
        infinite from then on: nothing is claimed.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights, the batches and the noise. None draws from torch's global
        generator.
    criterion : torch.nn.Module class or instance, default=torch.nn.CrossEntropyLoss
        The loss of a batch: a mean over its rows, without parameters. A row's loss is that of the
        row alone, and the weight of its class multiplies it.
    train_split : callable, default=None
        As in skorch; None trains on every row.
    **kwargs : dict
        As in skorch's `NeuralNetClassifier`.

    Attributes
    ----------
    epsilon_ : float
        What all steps since `initialize` have spent, by Renyi accounting, those of an interrupted
        or failed training among them.
    delta_ : float
        The delta of it.
    noise_multiplier_ : float
        The one used.
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.

    Notes
    -----
    `epsilon_` is about the weights, and about training sets of which one has a row more than the
    other: no row may take part in the gradient of another. That is checked at the first batch of
    rows that differ, by replacing others of them, with the weights as they are and as they might
    become; a module that mixes rows in ways that show there nowhere is not found out. Rows whose
    gradients are not finite take no part at all. Callbacks are given gradients when these are
    clipped and noisy.

    It is not about `history` and callbacks, which hold losses as they are, nor about what is chosen
    by looking at the rows: the epoch at which training is stopped or that a checkpoint finds best,
    a learning rate that follows the loss, a split by label, or the winner of a search. The number
    of rows, the classes (give `classes`) and weights that the module comes with or that are loaded
    are taken to be public. Noise is from torch's generator, which is no cryptographic one. Whoever
    knows `random_state`, which the net keeps, can draw it again: use None for a net that is given
    away, and never one integer for two sets of rows.

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
        self._check_parts()
        self.spent_ = []
        return self

    def initialize_module(self):
        """Make the module, or copy the one that was given.

        Were that trained itself, the next fit and every clone would start from what it has learned,
        and know nothing of what that has spent.

        Returns
        -------
        self : object
            The net.
        """
        super().initialize_module()
        self.module_: Any = copy.deepcopy(self.module_)
        return self

    def initialize_criterion(self):
        """Make the criterion, or copy the one that was given.

        Returns
        -------
        self : object
            The net.
        """
        super().initialize_criterion()
        self.criterion_: Any = copy.deepcopy(self.criterion_)
        return self

    @property
    def _default_callbacks(self):
        return [
            (name, _TrainLoss(name="train_loss", on_train=True) if name == "train_loss" else given)
            for name, given in super()._default_callbacks
        ]

    def fit(self, X, y, **fit_params):
        """Initialise the module and train it.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Training inputs, numbers of any type.
        y : array-like of shape (n_samples,)
            Labels of any type.
        **fit_params : dict
            None are allowed: skorch gives them to the module whole, and not a batch's rows alone.

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
            None are allowed.

        Returns
        -------
        self : object
            The net.

        Raises
        ------
        ValueError
            If a parameter, the module or the data are not as described.
        RuntimeError
            If training diverges.
        """
        self._check_parameters()
        self._check_parts()
        more = sorted(fit_params.keys() - {"_routing_method"})
        if more:
            raise ValueError(
                f"fit takes X and y alone: what skorch gives the module besides has no part in a "
                f"row's loss. Got {', '.join(more)}."
            )
        X = self._numbers(X)
        y = np.asarray(y)
        self.check_data(X, y)
        targets = self._targets(y)
        self._check_against(X)
        self._expects_batches = True
        try:
            with warnings.catch_warnings():
                # Of the hooks on the first layer, whose inputs need no gradient.
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                super().fit_loop(X, targets, epochs, **fit_params)
        finally:
            self._end_privacy()
            self.classes_inferred_ = np.unique(y)
            self._set_training(False)  # as after a prediction, which must not change the net
        reason = why_diverged(self)
        if reason is not None:
            raise RuntimeError(reason)
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
        if not training or not self._expects_batches:
            return super().get_iterator(dataset, training=training)
        del self._expects_batches  # others, as of `forward`, are none that are trained on
        return self._private_batches(dataset)

    def _private_batches(self, dataset: Any) -> Any:
        """Return the batches to train on, and note all that accounting takes."""
        loader = super().get_iterator(dataset, training=True)
        n_rows, n_steps = len(dataset), len(loader)
        if n_steps == 0:
            raise ValueError(
                f"X must have rows for a batch to train on. Got {n_rows} rows, with "
                f"batch_size={loader.batch_size} and iterator_train__drop_last={loader.drop_last}."
            )
        self._rate, self._n_rows = 1.0 / n_steps, n_rows
        self._expected_batch_size = n_rows // n_steps
        self.noise_multiplier_ = self._chosen_noise_multiplier(n_steps)
        self._check_noise()
        if not self.poisson_sampling:
            return loader
        if loader.collate_fn is not default_collate:
            raise ValueError(
                "iterator_train__collate_fn is given the rows of a batch together, so that their "
                "gradients need not be their own. Leave it out, or use poisson_sampling=False, "
                "for which nothing is claimed."
            )
        batches = DPDataLoader.from_data_loader(loader)
        batches.collate_fn([dataset[0]])  # from then on it knows what an empty batch looks like
        return batches

    def train_step(self, batch, **fit_params):
        """Take one private step on a batch, as skorch calls it.

        Parameters
        ----------
        batch : tuple of Tensor
            Inputs and the numbers of their outputs.
        **fit_params : dict
            None are allowed.

        Returns
        -------
        dict
            The loss and the outputs of the step.
        """
        if self._private is not None and not self._private.is_of(self):
            self._end_privacy()  # a callback has frozen layers, or has thawed some
        if self._private is None:
            self._private = Private(self)
            self._note_steps(0)
        # Before anything is done with the rows: whatever interrupts the step, it is paid for.
        *before, now = self.spent_
        self.spent_ = [*before, now._replace(n_steps=now.n_steps + 1)]
        self._zero_grad_optimizer()
        X, _ = unpack_data(batch)
        n_rows = get_len(X)
        step = self.train_step_single(batch) if n_rows else self._step_on_nothing(X)
        self._private.gather(n_rows)
        # skorch would show gradients as they are: what callbacks make of these has to be private.
        self._private.steps.attach_step_hook(
            lambda steps: self.notify(
                "on_grad_computed",
                named_parameters=TeeGenerator(self.get_all_learnable_params()),
                batch=batch,
                training=True,
            )
        )
        self._step_optimizer(None)
        return step

    def train_step_single(self, batch, **fit_params):
        """Find the gradients of a batch's rows, as skorch calls it.

        Parameters
        ----------
        batch : tuple of Tensor
            Inputs and the numbers of their outputs.
        **fit_params : dict
            None are allowed.

        Returns
        -------
        dict
            The loss and the outputs of the step.
        """
        self._set_training(True)
        X, y = unpack_data(batch)
        private = self._private
        if not private.checked:
            given = on_device(X, self.device)
            with private.resting():
                check_rows_apart(self, given)
            private.checked = check_gradients_apart(self, private, given, y)
        outputs = self.infer(X)
        losses = losses_of_rows(self, outputs, y, X)
        loss = losses.mean()
        loss.backward()
        return {"loss": loss, "y_pred": outputs}

    def _step_on_nothing(self, X: Any) -> dict[str, Any]:
        """Return what a step on an empty batch returns: noise alone is added."""
        self._set_training(False)
        with self._private.resting(), torch.no_grad():
            outputs = no_rows(self.infer(one_row_of_zeros(X)))
        return {"loss": torch.zeros(()), "y_pred": outputs}

    def _zero_grad_optimizer(self, set_to_none=None):
        self._private.clear()

    def _step_optimizer(self, step_fn):
        self._private.steps.step()

    # --- privacy ----------------------------------------------------------------------------------

    _private: Any = None
    _stream: Any = None
    _expects_batches = False

    @property
    def epsilon_(self):
        """What all steps since `initialize` have spent."""
        delta = self.delta_
        own = vars(self).keys() & set(_RESTS_ON)
        base = DPNeuralNetClassifier
        if own or any(getattr(type(self), name) is not getattr(base, name) for name in _RESTS_ON):
            return math.inf  # a class with steps of its own
        return epsilon_of(self.spent_, delta)

    @property
    def delta_(self):
        """The delta of `epsilon_`."""
        if not getattr(self, "spent_", None):
            raise AttributeError(f"{type(self).__name__} has not been trained.")
        self._check_parameters("delta")
        n_rows = max(steps.n_rows for steps in self.spent_)
        return 0.1 / n_rows if self.delta is None else float(self.delta)

    def _end_privacy(self) -> None:
        if "_expects_batches" in vars(self):  # training did not come so far
            del self._expects_batches
        if self._private is not None:
            private = self._private
            del self._private
            private.end()

    def _note_steps(self, n_steps: int) -> None:
        """Note steps that were taken, whoever took them."""
        noise, poisson = self.noise_multiplier_, bool(self.poisson_sampling)
        self.spent_ = [*self.spent_, Steps(noise, self._rate, self._n_rows, poisson, n_steps)]

    def _chosen_noise_multiplier(self, n_steps: int) -> float:
        if self.target_epsilon is None:
            return float(self.noise_multiplier)
        delta = 0.1 / self._n_rows if self.delta is None else float(self.delta)
        all_steps = max(1, self.max_epochs * n_steps)
        return noise_for(float(self.target_epsilon), delta, self._rate, all_steps)

    def _check_noise(self) -> None:
        """Refuse noise that the module's numbers cannot hold."""
        limits = torch.finfo(dtype_of(self.module_))
        std = self.noise_multiplier_ * float(self.max_grad_norm)
        if self.noise_multiplier_ > 0.0 and not limits.tiny <= std <= limits.max:
            raise ValueError(
                f"noise_multiplier * max_grad_norm must be from {limits.tiny:.2g} to "
                f"{limits.max:.2g}, which {limits.dtype} can hold. Got {self.noise_multiplier_:g} "
                f"* {self.max_grad_norm:g}."
            )

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

    def _check_parameters(self, *only: str) -> None:
        for name, least, most in [
            ("noise_multiplier", 0.0, math.inf),
            ("max_grad_norm", None, math.inf),
            ("target_epsilon", None, 1e6),
            ("delta", None, 1.0),
        ]:
            value = getattr(self, name)
            if value is None and name in ("target_epsilon", "delta"):
                continue
            if only and name not in only:
                continue
            number = _as_float(value)
            if not (number > 0.0 or number == least) or not number < most:
                low = "at least 0" if least == 0.0 else "above 0"
                high = "finite" if most == math.inf else f"below {most:g}"
                raise ValueError(f"{name} must be a number {low} and {high}. Got {value!r}.")
        if not isinstance(self.poisson_sampling, (bool, np.bool_)):
            raise ValueError(
                f"poisson_sampling must be True or False. Got {self.poisson_sampling!r}."
            )

    def _check_parts(self) -> None:
        check_criterion(self.criterion_)
        refuse_parts(self)

    def _check_rows(self, X: np.ndarray) -> None:
        """Refuse modules that let these few rows depend on one another."""
        before = self.module_.training
        self._set_training(True)
        check_rows_apart(self, torch.from_numpy(X).to(self.device))
        self._set_training(before)

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


def _as_float(value: Any) -> float:
    """Return a number as one; nan for what is none, and inf for what no float can hold."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf
