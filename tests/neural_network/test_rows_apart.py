# SPDX-License-Identifier: BSD-3-Clause
"""Private nets whose rows come to depend on one another, and those that only look so."""

import random

import numpy as np
import pytest
import torch
from opacus.layers import DPLSTM, DPMultiheadAttention
from torch import nn

from sksmooth import RABEnsembleClassifier
from sksmooth.neural_network import DPNeuralNetClassifier

from ._modules import MnistConvolutional, Perceptron, Residual
from .test_dp_sgd import private
from .test_stacked import data, largest_difference

X, Y = data()


class Gated(nn.Module):
    """Sees the batch's mean through what is 0 at first, or in its gradients alone."""

    def __init__(self, how):
        super().__init__()
        self.how, self.own, self.others = how, nn.Linear(6, 3), nn.Linear(6, 3, bias=False)
        self.after = nn.Linear(3, 3, bias=False)
        if how != "gradient alone":
            nn.init.zeros_(self.others.weight)
        nn.init.zeros_(self.after.weight)

    def forward(self, x):
        seen = self.others(x.mean(0, keepdim=True).expand_as(x))
        if self.how == "gradient alone":
            seen = seen - seen.detach()
        elif self.how == "twice 0":
            seen = self.after(seen)
        elif self.how == "weight taken":  # which Opacus does not see
            seen = self.after(nn.functional.linear(x, self.own.weight))
        return self.own(x) + seen


GATED = {
    "0 at first": "outputs of Gated for a row depend on the other rows.*once its parameters change",
    "twice 0": "outputs of Gated for a row depend on the other rows.*once its parameters change",
    "gradient alone": "gradient of a row's loss by the parameter others.weight depends on",
}


@pytest.mark.parametrize("how", GATED)
def test_rows_that_meet_once_weights_change_are_refused(how):
    net = private(Gated, module__how=how)
    with pytest.raises(ValueError, match=GATED[how]):
        net.fit(X, Y)
    if how != "gradient alone":  # members are given a row at a time
        with pytest.raises(ValueError, match=GATED[how]):
            RABEnsembleClassifier(net, n_estimators=2).fit(X, Y)


def test_a_wrong_gradient_that_is_right_at_first_is_found():
    with pytest.raises(ValueError, match="does not find the gradient .* parameter own.weight"):
        private(Gated, module__how="weight taken").fit(X, Y)


def test_a_first_batch_of_equal_rows_does_not_settle_it():
    few = np.where(np.arange(50)[:, None] < 16, 0.0, X)
    net = private(Gated, module__how="gradient alone", poisson_sampling=False)
    with pytest.raises(ValueError, match="gradient of a row's loss by the parameter others"):
        net.fit(few, Y)
    assert [steps.n_steps for steps in net.spent_] == [2]


class Averaging(nn.Module):
    """Normalises by a mean of batches, which it puts in the place of the last one."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        outputs = self.layer(x - self.mean)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(dim=0).detach()
        return outputs


def test_a_buffer_that_is_put_in_the_place_of_another_is_seen():
    net = private(Averaging)
    with pytest.raises(ValueError, match="changes its buffer mean"):
        net.fit(X, Y)
    assert not net.module_.mean.any()


# --- what is fine ---------------------------------------------------------------------------------


class Sequences(nn.Module):
    """Rows as sequences of three, that look at themselves."""

    def __init__(self, layer):
        super().__init__()
        self.embed, self.layer = nn.Linear(2, 4), layer
        self.norm, self.last = nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x):
        x = self.embed(x.unflatten(1, (3, 2)))
        x = self.layer(x, x, x) if isinstance(self.layer, DPMultiheadAttention) else self.layer(x)
        return self.last(self.norm(x[0]).mean(dim=1))


class Categories(nn.Module):
    def __init__(self):
        super().__init__()
        self.vectors, self.last = nn.Embedding(3, 4), nn.Linear(24, 3)

    def forward(self, x):
        return self.last(self.vectors(x.round().long().clamp(-1, 1) + 1).flatten(1))


class Bounded(nn.Module):
    """Its scale has to be between 0.99 and 1.01, or it raises, or gives nan."""

    def __init__(self, raises):
        super().__init__()
        self.raises, self.scale, self.layer = raises, nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        scale = self.scale.weight
        if self.raises and bool((scale - 1.0).abs().max() > 0.01):
            raise RuntimeError("out of its domain")
        return self.layer(self.scale(x)) + 0.0 * (0.01 - (scale.detach() - 1.0).abs()).min().sqrt()


class Drawing(nn.Module):
    """Has a generator of its own."""

    def __init__(self):
        super().__init__()
        self.layer, self.rng = nn.Linear(6, 3), torch.Generator()

    def forward(self, x):
        return self.layer(x + torch.randn(x.shape, generator=self.rng))


HONEST = {
    "dropout": lambda: Perceptron(dropout=0.5),
    "group norm": lambda: Residual(),
    "convolutions": lambda: MnistConvolutional((2, 3), 8, dropout=0.5),
    "attention": lambda: Sequences(DPMultiheadAttention(4, 2, dropout=0.3, batch_first=True)),
    "recurrent": lambda: Sequences(DPLSTM(4, 4, batch_first=True)),
    "embedding": Categories,
    "raises elsewhere": lambda: Bounded(raises=True),
    "nan elsewhere": lambda: Bounded(raises=False),
    "a generator": Drawing,
    "zeros": lambda: nn.utils.skip_init(nn.Linear, 6, 3),
}


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", HONEST)
def test_rows_that_are_apart_are_accepted(name, size):
    torch.manual_seed(0)
    module = HONEST[name]()
    if name == "zeros":
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
    inputs, labels = X, Y
    if name in ("group norm", "convolutions"):
        n_features = 64 if name == "group norm" else 784
        inputs, labels = np.random.default_rng(0).normal(size=(50, n_features)), Y % 2
    net = private(module, max_epochs=1, classes=[0, 1, 2] if name != "convolutions" else [0, 1])
    net.set_params(lr=1e-6).fit(size * inputs, labels)
    assert net._private is None
    assert net.epsilon_ < 100.0


@pytest.mark.parametrize("scale", [100.0, 1e8])
def test_features_need_not_be_scaled(scale):
    # Where a row's loss is nearly 0, its gradient is of the size of rounding errors.
    for seed in range(40):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        rows = scale * rng.normal(size=(60, 2))
        net = private(nn.Linear(2, 2), max_epochs=1, batch_size=20, random_state=seed)
        net.fit(rows, (rows[:, 0] > 0).astype(int))


class Table(nn.Module):
    """Keeps a table of positions, made when it is needed first."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.zeros(0))

    def forward(self, x):
        if not self.training:
            return x
        if len(self.table) != x.shape[1]:
            self.table = torch.linspace(0.0, 1.0, x.shape[1])
        return x + self.table


def test_looking_changes_neither_the_net_nor_what_others_draw():
    seen = {}

    class Stopping(DPNeuralNetClassifier):
        def infer(self, x, **params):
            # The pass that is trained on is the last one.
            seen["random"] = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
            seen["weights"] = [p.detach().clone() for p in self.module_.parameters()]
            seen["buffers"] = {key: (b, b.clone()) for key, b in self.module_.named_buffers()}
            return super().infer(x, **params)

        def _step_optimizer(self, step_fn):
            raise KeyboardInterrupt

    module = nn.Sequential(Table(), Perceptron(dropout=0.5))
    net = Stopping(module, batch_size=-1, poisson_sampling=False, verbose=0).initialize()
    net.initialize_optimizer()
    start = [p.detach().clone() for p in net.module_.parameters()]
    buffers = dict(net.module_.named_buffers())
    torch.manual_seed(0)
    before = np.random.get_state()[1], random.getstate()
    torch.empty((), dtype=torch.int64).random_()  # what a loader draws
    drawn = torch.get_rng_state()
    torch.manual_seed(0)
    net.partial_fit(X, Y)
    assert torch.equal(seen["random"][0], drawn)
    np.testing.assert_array_equal(seen["random"][1], before[0])
    assert seen["random"][2] == before[1]
    assert all(map(torch.equal, seen["weights"], start))
    for key, (buffer, value) in seen["buffers"].items():
        assert buffer is buffers[key]
        assert torch.equal(value, buffers[key])
    assert all(map(torch.equal, net.module_.parameters(), start))


def test_a_table_that_is_kept_is_no_trace_of_rows():
    module = nn.Sequential(Table(), Perceptron())
    assert largest_difference(private(module).fit(X, Y), private(module).fit(X, Y)) == 0.0
