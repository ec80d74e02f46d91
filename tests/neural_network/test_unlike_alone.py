# SPDX-License-Identifier: BSD-3-Clause
"""Networks that would not be trained together as skorch trains them, and members that fail."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch import nn
from torch.nn.utils import parametrizations, prune

from sksmooth import DiscreteEnsembleClassifier, RABEnsembleClassifier
from sksmooth.exceptions import FailedMembersWarning, SequentialTrainingWarning
from sksmooth.neural_network import DPNeuralNetClassifier, StackedTraining, _blocks

from ._modules import MnistConvolutional, Perceptron
from .test_stacked import SHUFFLED, data, largest_difference, net, recipe_of, trained_alone


def ensemble(estimator, **params):
    defaults = {"n_estimators": 4, "sigma": 0.5, "random_state": 0, "test_noise": "seed"}
    return RABEnsembleClassifier(estimator, **{**defaults, **params})


def assert_as_alone(model, X, y):
    """Compare members with those that skorch trains on the same noise."""
    recipe = recipe_of(model, X, y)
    for member, seed in zip(model.estimators_, model.member_seeds_, strict=True):
        assert largest_difference(member, trained_alone(recipe, seed)) < 1e-5


# --- what is left to skorch -----------------------------------------------------------------------


class Keeping(Perceptron):
    """A module that keeps something in its passes, when and where it is told to."""

    def __init__(self, where="attribute", when="always"):
        super().__init__()
        self.where, self.when, self.passes, self.seen = where, when, 0, []
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x):
        scale = self.scale.clone()
        if self.when == "always" or self.training == (self.when == "train"):
            if self.where == "attribute":
                self.passes += 1
            elif self.where == "list":
                self.seen.append(len(x))
            elif self.where == "buffer":
                self.scale += 0.0  # written to, if by what it was
            else:
                self.scale = self.scale * 1.0
        return super().forward(x) * scale


class KeepingCriterion(nn.CrossEntropyLoss):
    """Weighs a loss by those that it has seen."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, outputs, y):
        loss = super().forward(outputs, y)
        self.seen.append(loss.detach())
        return loss / (1.0 + sum(self.seen) / len(self.seen))


def _zeroed(parameter):
    parameter.grad.zero_()


class Hooked(Perceptron):
    def __init__(self, kind="parameter"):
        super().__init__()
        first = self.layers[0]
        if kind == "parameter":
            first.weight.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
        elif kind == "accumulated":
            first.weight.register_post_accumulate_grad_hook(_zeroed)
        elif kind == "forward":
            first.register_forward_hook(lambda part, inputs, output: 2.0 * output)
        elif kind == "backward":
            first.register_full_backward_hook(lambda part, given, left: None)
        elif kind == "weight_norm":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                nn.utils.weight_norm(first)
        elif kind == "pruned":
            prune.random_unstructured(first, "weight", 0.5)
        self.inside = kind == "inside"

    def forward(self, x):
        x = self.layers[0](x)
        if self.inside and x.requires_grad:
            x.register_hook(lambda gradient: gradient.clamp(-0.001, 0.001))
        return self.layers[1:](x)


class Embedded(nn.Module):
    """Categories, each with a vector of its own."""

    def __init__(self, n_categories=3, fails=False, **params):
        super().__init__()
        self.vectors = nn.Embedding(n_categories, 4, **params)
        self.last = nn.Linear(24, 3)
        self.fails = fails

    def forward(self, x):
        x = x.round().long()
        if not self.fails:
            x = x.clamp(0, self.vectors.num_embeddings - 1)
        return self.last(self.vectors(x).flatten(1))


class LastIsPadding(Embedded):
    """The last category, which no row has, stands for nothing."""

    def __init__(self):
        super().__init__(n_categories=100)

    def forward(self, x):
        x = x.round().long().clamp(0, 99)
        vectors = nn.functional.embedding(x, self.vectors.weight, padding_idx=-1)
        return self.last(vectors.flatten(1))


class Listed(Perceptron):
    """Has a layer that torch does not know of, with weights that each member draws."""

    def __init__(self):
        super().__init__()
        self._others = [nn.Linear(6, 6)]

    def forward(self, x):
        return super().forward(self._others[0](x))


class Dictionary(Perceptron):
    def __init__(self):
        super().__init__()
        self._scales = {"first": float(torch.rand(()))}

    def forward(self, x):
        return super().forward(x) * self._scales["first"]


class Closed(Perceptron):
    def __init__(self):
        super().__init__()
        scale = float(torch.rand(()))
        self.scaled = lambda x: x * scale

    def forward(self, x):
        return self.scaled(super().forward(x))


class Aliased(Perceptron):
    """Looks for a parameter where torch.func does not put that of a member."""

    def __init__(self):
        super().__init__()
        nn.init.constant_(self.layers[0].weight, 0.1)
        self.kept = [self.layers[0].weight]

    def forward(self, x):
        return self.layers[1:](x @ self.kept[0].T)


class SequenceFirst(nn.Module):
    """Six features as a sequence of three pairs, whose first axis is that of time."""

    def __init__(self):
        super().__init__()
        self.drop, self.first, self.last = nn.Dropout(0.3), nn.Linear(2, 4), nn.Linear(4, 3)

    def forward(self, x):
        x = x.unflatten(1, (3, 2)).transpose(0, 1)
        return self.last(self.drop(self.first(x)).sum(dim=0))


class Asserting(Perceptron):
    """Wants more rows than a trial has."""

    def forward(self, x):
        assert len(x) >= 4, "too few rows"
        return super().forward(x)


class Counted(Perceptron):
    """Wants batches of 16."""

    def forward(self, x):
        return super().forward(x.view(16, 6))


class Halved(Perceptron):
    """Computes in bfloat16."""

    def __init__(self):
        super().__init__(dtype=torch.bfloat16)

    def forward(self, x):
        return super().forward(x.bfloat16()).float()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.last = nn.LSTM(2, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.cells(x.unflatten(1, (3, 2)))[0][:, -1])


def halves(dataset, y=None, **kwargs):
    return torch.utils.data.Subset(dataset, range(20)), None


def of_the_rows(dataset, y=None, **kwargs):
    return torch.utils.data.Subset(dataset, np.flatnonzero(dataset.X[:, 0] > 0)), None


def rows_of(n):
    rng = np.random.default_rng(0)
    return Dataset(rng.normal(size=(n, 6)).astype(np.float32), np.arange(n) % 3)


class Plain(nn.Module):
    def __init__(self, norm=None):
        super().__init__()
        self.first = nn.Linear(6, 3)
        if norm == "parametrized":
            parametrizations.weight_norm(self.first)

    def forward(self, x):
        return self.first(x)


LEFT = {
    "own split": (net(Perceptron, train_split=of_the_rows), "train_split is of_the_rows"),
    "other split": (net(Perceptron, train_split=halves), "train_split is halves"),
    "partial": (net(Perceptron, train_split=partial(halves)), "train_split is partial"),
    "own cv": (net(Perceptron, train_split=ValidSplit([(range(9), [9])])), "is ValidSplit"),
    "attribute": (net(Keeping), "changes its attributes"),
    "attribute in evaluation": (net(Keeping, module__when="eval"), "changes its attributes"),
    "list": (net(Keeping, module__where="list"), "changes its attributes"),
    "buffer": (net(Keeping, module__where="buffer"), "changes its buffer scale"),
    "buffer in evaluation": (
        net(Keeping, module__where="buffer", module__when="eval"),
        "changes its buffer scale",
    ),
    "new buffer": (net(Keeping, module__where="new"), "changes its buffer scale"),
    "criterion": (net(Perceptron, criterion=KeepingCriterion), "changes its attributes"),
    "hook": (net(Hooked), "layers.0.weight has hooks"),
    "accumulated": (net(Hooked, module__kind="accumulated"), "layers.0.weight has hooks"),
    "forward hook": (net(Hooked, module__kind="forward"), "Linear has hooks"),
    "backward hook": (net(Hooked, module__kind="backward"), "Linear has hooks"),
    "weight_norm": (net(Hooked, module__kind="weight_norm"), "Linear has hooks"),
    "pruned": (net(Hooked, module__kind="pruned"), "Linear has hooks"),
    "hook inside": (net(Hooked, module__kind="inside"), "puts hooks on gradients"),
    "parametrized": (net(Plain, module__norm="parametrized"), "other layers"),
    "padding": (net(Embedded, module__padding_idx=0), "does not know padding_idx"),
    "padding of a function": (net(LastIsPadding), "does not know padding_idx"),
    "max_norm": (net(Embedded, module__max_norm=1.0), "does not know padding_idx|changes its"),
    "layer in a list": (net(Listed), "Listed._others differs"),
    "number in a dict": (net(Dictionary), "Dictionary._scales differs"),
    "parameter in a list": (net(Aliased), "only alone.*layers.0.weight has a gradient"),
    "closure": (net(Closed), "Closed.scaled differs"),
    "sequence first": (net(SequenceFirst), "first axis at its dropout layer 'drop'"),
    "four rows": (net(Asserting, batch_size=-1, train_split=None), "few rows: too few"),
    "sixteen rows": (net(Counted, iterator_train__drop_last=True, train_split=None), "few rows"),
    "bfloat16": (net(Halved), "layers.0.weight is of bfloat16"),
    "recurrent": (net(Recurrent), "torch.func cannot map"),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_would_be_trained_otherwise_is_left_to_skorch(name):
    estimator, reason = LEFT[name]
    X, y = data(48)
    with pytest.raises(ValueError, match=f"training='stacked' is not possible.*({reason})"):
        ensemble(estimator, training="stacked").fit(X, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = ensemble(estimator).fit(X, y)
    assert not model.failures_
    if name == "recurrent":  # the loop of large nets, as skorch's
        assert not model._net.stacking.together
        assert_as_alone(model, X, y)
    else:
        assert model._net.stacking is None
        of_ours = [w for w in caught if w.category is SequentialTrainingWarning]
        assert len(of_ours) == 1


@pytest.mark.filterwarnings("ignore:You set iterator_valid__shuffle:UserWarning")
def test_a_shuffled_validation_set_draws_more_than_is_drawn_here():
    X, y = data()
    estimator = net(Perceptron, iterator_valid__shuffle=True)
    with pytest.raises(ValueError, match="iterator_valid has the argument shuffle"):
        ensemble(estimator, training="stacked").fit(X, y)


def _batch_norm(**params):
    """A net that cannot take a batch of one row, in training, or in validation either."""
    norm = nn.BatchNorm1d(8, track_running_stats=False)
    return net(nn.Sequential(nn.Linear(6, 8), norm, nn.Linear(8, 3)), batch_size=10, **params)


@pytest.mark.parametrize(
    "n_rows, split, what",
    [(53, ValidSplit(5, stratified=False), "validated"), (51, None, "trained")],
    ids=["validation", "training"],
)
def test_a_last_batch_of_one_row_fails_as_by_skorch(n_rows, split, what):
    X, y = data(n_rows)
    estimator = _batch_norm(train_split=split)
    reason = f"Sequential cannot be {what} on a batch of 1 row, .*: Expected more than 1 value"
    with pytest.raises(ValueError, match=f"training='stacked' is not possible.*{reason}"):
        ensemble(estimator, training="stacked").fit(X, y)
    with (
        pytest.warns(SequentialTrainingWarning, match=reason),
        pytest.raises(ValueError, match="All 4 members failed.*Expected more than 1 value"),
    ):
        ensemble(estimator).fit(X, y)
    # With five rows more there is none that fails.
    more = data(n_rows + 5)
    assert not ensemble(estimator, training="stacked").fit(*more).failures_


def test_hooks_on_all_modules_are_left_to_skorch():
    X, y = data()
    hook = nn.modules.module.register_module_forward_hook(lambda part, given, output: None)
    try:
        with pytest.raises(ValueError, match="hooks on all modules"):
            ensemble(net(Perceptron), training="stacked").fit(X, y)
    finally:
        hook.remove()


# --- what is trained together ---------------------------------------------------------------------


class InPlaceDropout(nn.Module):
    """What dropout leaves out is left out of the residual connection, too."""

    def __init__(self):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(6, 6), nn.Dropout(0.5, inplace=True), None
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = self.first(x)
        dropped = self.drop(x)
        return self.last(x + dropped)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.second.weight = self.first.weight
        self.norm, self.act = nn.LayerNorm(6), torch.tanh

    def forward(self, x):
        return self.last(x + self.norm(self.act(self.second(self.first(x)))))


def focal(outputs, y):
    """A loss of its user."""
    log = torch.log_softmax(outputs, dim=1).gather(1, y[:, None])
    return -((1.0 - log.exp()) ** 2 * log).mean()


class Functional:
    """A loss that is no module."""

    def __call__(self, outputs, y):
        return focal(outputs, y)


TOGETHER = {
    "embedding": net(Embedded, **SHUFFLED),
    "dropout in place": net(InPlaceDropout, **SHUFFLED),
    "tied": net(Tied, optimizer=torch.optim.AdamW, lr=0.01, **SHUFFLED),
    "own loss": net(Perceptron, criterion=Functional, **SHUFFLED),
    "weights of classes": net(
        Perceptron, criterion__weight=torch.tensor([1.0, 2.0, 3.0]), **SHUFFLED
    ),
    "split": net(Perceptron, train_split=ValidSplit(0.3, stratified=True), **SHUFFLED),
    "predefined": net(Perceptron, train_split=predefined_split(rows_of(9)), **SHUFFLED),
    "workers": net(Perceptron, iterator_train__num_workers=2, **SHUFFLED),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_what_users_write_is_trained_together_as_by_skorch(name):
    X, y = data(40)
    model = ensemble(TOGETHER[name], training="stacked").fit(X, y)
    assert not model.failures_
    assert_as_alone(model.set_params(estimator__iterator_train__num_workers=0), X, y)


# --- what shows only in training ------------------------------------------------------------------


class Late(Perceptron):
    """Its buffer changes at a batch that no trial has seen."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x):
        if len(x) == 13:
            self.scale = self.scale * 2.0
        return super().forward(x) * self.scale


class Depth(nn.Module):
    """As deep as it happens."""

    def __init__(self):
        super().__init__()
        layers = [nn.Linear(6, 6) for _ in range(2 if torch.rand(()) < 0.2 else 1)]
        self.layers = nn.Sequential(*layers, nn.Linear(6, 3))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("module", [Late, Depth])
def test_blocks_that_show_it_late_are_trained_by_skorch(module):
    X, y = data(40)
    estimator = net(module, batch_size=27, train_split=None, max_epochs=2, lr=0.01)
    model = ensemble(estimator, training=StackedTraining(block_size=10), n_estimators=10)
    with pytest.warns(SequentialTrainingWarning, match="10 members are trained by skorch"):
        model.fit(X, y)
    assert_as_alone(model, X, y)
    if module is Depth:
        assert len({len(member.module_.layers) for member in model.estimators_}) == 2
    else:
        assert {float(member.module_.scale) for member in model.estimators_} == {4.0}


class LateLarge(MnistConvolutional):
    """As Late, and trained one by one on a CPU; it counts validation, too."""

    def __init__(self):
        super().__init__(channels=(1, 1), n_units=2)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        if len(x) == 5:
            self.passes += 1.0
        return super().forward(x)


def test_a_large_net_that_shows_it_late_is_trained_by_skorch():
    rng = np.random.default_rng(0)
    X, y = rng.random((25, 784)), np.arange(25) % 2
    model = ensemble(net(LateLarge, batch_size=5, max_epochs=2), n_estimators=2)
    with pytest.warns(SequentialTrainingWarning, match="changes its buffer passes"):
        model.fit(X, y)
    # Four batches and one to validate, in each of two epochs.
    assert [float(member.module_.passes) for member in model.estimators_] == [10.0, 10.0]


# --- members that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("training", ["stacked", "sequential"])
def test_a_member_that_raises_counts_and_votes_for_nobody(training):
    # Noise takes some rows beyond the last category.
    X, y = np.zeros((20, 6)), np.arange(20) % 3
    X[:, 0] = y
    estimator = net(Embedded, module__n_categories=3, module__fails=True, max_epochs=1)
    model = ensemble(estimator, training=training, sigma=0.2, n_estimators=30)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    failed = [number for number, member in enumerate(model.estimators_) if member is None]
    assert 0 < len(failed) < 30
    assert sorted(model.failures_) == failed
    assert "IndexError" in str(model.failures_[failed[0]])
    assert any(w.category is FailedMembersWarning for w in caught)
    assert len(model.member_seeds_) == 30


def test_private_members_are_the_same_where_their_block_fails(monkeypatch):
    X, y = data(60)
    estimator = DPNeuralNetClassifier(
        Perceptron, criterion=nn.CrossEntropyLoss, max_epochs=2, batch_size=16, lr=0.1, verbose=0,
        noise_multiplier=1.0, module__dtype=torch.float64,
    )  # fmt: skip
    together = ensemble(estimator, training="stacked").fit(X, y)

    def fails(self):
        raise ArithmeticError("no member can go on")

    monkeypatch.setattr(_blocks.PrivateLoop, "run", fails)
    with pytest.warns(SequentialTrainingWarning, match="4 members are trained by skorch"):
        alone = ensemble(estimator, training="stacked").fit(X, y)
    for one, other in zip(together.estimators_, alone.estimators_, strict=True):
        assert largest_difference(one, other) < 1e-10


class FailsLate(MnistConvolutional):
    """Raises at the last batch of those members that drew a small number."""

    def __init__(self):
        super().__init__(channels=(1, 1), n_units=2)
        self.number = float(torch.rand(()))

    def forward(self, x):
        if self.training and len(x) == 5 and self.number < 0.5:
            raise ArithmeticError("this member cannot go on")
        return super().forward(x)


@pytest.mark.parametrize("training", ["auto", "sequential"])
def test_a_large_member_that_raises_counts_and_votes_for_nobody(training):
    rng = np.random.default_rng(0)
    X, y = rng.random((21, 784)), np.arange(21) % 2
    estimator = net(FailsLate, batch_size=8, max_epochs=1, train_split=None)
    model = ensemble(estimator, training=training, n_estimators=6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SequentialTrainingWarning)
        with pytest.warns(FailedMembersWarning, match="ArithmeticError: this member cannot go on"):
            model.fit(X, y)
    failed = [number for number, member in enumerate(model.estimators_) if member is None]
    assert 0 < len(failed) < 6
    votes = model.collect_votes(X)
    assert votes.n_drawn == 6
    assert (votes.together().sum(axis=1) == 6 - len(failed)).all()


@pytest.mark.parametrize("training", ["stacked", "sequential"])
def test_a_machine_that_fails_is_no_failure_of_a_member(training, monkeypatch):
    def down(*args, **kwargs):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    X, y = data()
    model = ensemble(net(Perceptron), training=training)
    monkeypatch.setattr(torch.optim.SGD, "step", down)
    with pytest.raises(torch.AcceleratorError):
        model.fit(X, y)


# --- blocks without a net -------------------------------------------------------------------------


def test_blocks_whose_members_all_have_one_label():
    X, y = np.array([[0.0], [1.0]]), np.array([0, 1])
    estimator = net(Perceptron, module__n_features=1, module__n_outputs=2, train_split=None)
    model = ensemble(
        estimator, n_estimators=20, q=0.45, training=StackedTraining(block_size=1)
    ).fit(X, y)
    kinds = {type(member).__name__ for member in model.estimators_}
    assert kinds == {"DummyClassifier", "NeuralNetClassifier"}
    discrete = DiscreteEnsembleClassifier(
        estimator, n_estimators=20, q=0.45, random_state=0, training=StackedTraining(block_size=1)
    ).fit(X.astype(int), y)
    assert len(discrete.estimators_) == 20


# --- votes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", ["stacked", "sequential", "pipeline"])
def test_soft_votes_of_nets_whose_labels_miss_a_class(training):
    # Of three rows with noisy labels, many miss a class; outputs stand for all of them.
    X, y = np.eye(3, 6), np.arange(3)
    estimator = net(Perceptron, module__n_outputs=4, train_split=None, lr=0.5)
    if training == "pipeline":
        estimator = make_pipeline(FunctionTransformer(np.float32), estimator)
        training = "sequential"
    model = ensemble(
        estimator, training=training, n_estimators=12, q=0.4, voting="soft", bound="hoeffding"
    ).fit(X, y)
    known = [len(np.unique(member.classes_)) for member in model.estimators_]
    assert 2 in known
    scores = model.collect_votes(X).data
    for number, member in enumerate(model.estimators_):
        if known[number] == 2:
            inputs = X + model.test_vectors_[number]
            expected = member.predict_proba(inputs.astype(np.float32))
            assert expected.shape == (3, 4)
            np.testing.assert_allclose(scores[:, :, number], expected[:, :3], rtol=1e-6)


def test_modules_of_low_precision_get_inputs_of_float32():
    X, y = data()
    model = ensemble(net(Halved), training="sequential").fit(X, y)
    assert model.predict(X).shape == (50,)
    with pytest.raises(ValueError, match=r"refuses inputs.*float32.*BFloat16"):
        ensemble(net(Perceptron, module__dtype=torch.bfloat16), training="sequential").fit(X, y)
