# SPDX-License-Identifier: BSD-3-Clause
"""What epsilon_ claims: all steps are counted, and no row has more than its share in any."""

import copy
import math

import numpy as np
import pytest
import torch
from opacus.accountants import RDPAccountant
from sklearn.base import clone
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping
from torch import nn

from sksmooth import RABEnsembleClassifier
from sksmooth.neural_network import DPNeuralNetClassifier

from ._modules import Branched, Coupled, FrozenTrunk, Kinked, Perceptron
from .test_dp_sgd import DOUBLE, private
from .test_stacked import data, largest_difference

X, Y = data()


def spent_by(*history, delta=0.1 / 50):
    """What Opacus' accountant makes of (noise, rate, steps)."""
    accountant = RDPAccountant()
    accountant.history = list(history)
    return pytest.approx(accountant.get_epsilon(delta), rel=1e-12)


def steps_of_adam(net):
    return int(next(iter(net.optimizer_.state.values()))["step"])


# --- steps are counted ----------------------------------------------------------------------------


class Interrupting(Callback):
    def __init__(self, method, at):
        self.left = at
        setattr(self, method, self._count)

    def _count(self, net, **kwargs):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


ADAM = {"optimizer": torch.optim.Adam, "lr": 0.01}


@pytest.mark.parametrize(
    "callback, n_steps",
    [
        (Interrupting("on_batch_end", 2), 2),
        (Interrupting("on_epoch_end", 1), 4),
        (EarlyStopping(monitor="train_loss", patience=1, threshold=10.0), 8),
    ],
    ids=["batch", "epoch", "early stopping"],
)
def test_an_interrupted_fit_has_spent_what_its_steps_cost(callback, n_steps):
    net = private(callbacks=[("stop", callback)], **ADAM).fit(X, Y)
    assert steps_of_adam(net) == n_steps
    assert net.epsilon_ == spent_by((1.0, 0.25, n_steps))
    assert not net.module_.training
    net.set_params(callbacks__stop=Callback())
    assert net.partial_fit(X, Y).epsilon_ == spent_by((1.0, 0.25, n_steps + 12))


class InterruptedSGD(torch.optim.SGD):
    """Is interrupted when it has changed the parameters, and its caller does not know yet."""

    def step(self, closure=None):
        super().step()
        raise KeyboardInterrupt


def test_a_step_is_paid_for_before_it_is_taken():
    start = private(optimizer=InterruptedSGD).initialize()
    net = private(optimizer=InterruptedSGD).fit(X, Y)
    assert largest_difference(start, net) > 1e-3
    assert net.epsilon_ == spent_by((1.0, 0.25, 1))


def test_a_training_that_diverges_has_spent_too():
    net = private().fit(X, Y)
    net.set_params(lr=1e30)
    with pytest.raises(RuntimeError, match="Training diverged.*epoch"):
        net.partial_fit(X, Y)
    assert net.epsilon_ == spent_by((1.0, 0.25, 24))


def test_before_training_there_is_no_epsilon():
    for net in (private(), private().initialize()):
        assert not hasattr(net, "epsilon_")
        assert not hasattr(net, "delta_")


@pytest.mark.parametrize(
    "claims_nothing", [{"poisson_sampling": False}, {"noise_multiplier": 0.0}], ids=str
)
def test_steps_without_a_claim_are_not_forgotten(claims_nothing):
    net = private(**claims_nothing).fit(X, Y)
    assert math.isinf(net.epsilon_)
    net.set_params(poisson_sampling=True, noise_multiplier=1.0).partial_fit(X, Y)
    assert math.isinf(net.epsilon_)
    net.set_params(warm_start=True).fit(X, Y)
    assert math.isinf(net.epsilon_)
    net.set_params(warm_start=False).fit(X, Y)
    assert net.epsilon_ == spent_by((1.0, 0.25, 12))
    net.set_params(**claims_nothing).partial_fit(X, Y)
    assert math.isinf(net.epsilon_)


def test_parameters_and_rows_may_change_between_trainings():
    net = private().fit(X, Y)
    net.set_params(noise_multiplier=2.0, max_grad_norm=0.1, batch_size=5, max_epochs=1)
    net.partial_fit(X[:20], Y[:20])
    history = [(1.0, 0.25, 12), (2.0, 0.25, 4)]
    assert net.delta_ == 0.1 / 50
    assert net.epsilon_ == spent_by(*history)
    net.set_params(delta=1e-6)
    assert (net.delta_, net.epsilon_) == (1e-6, spent_by(*history, delta=1e-6))
    with pytest.raises(ValueError, match="delta must be a number above 0 and below 1. Got 2.0"):
        _ = net.set_params(delta=2.0).epsilon_
    net.set_params(noise_multiplier=-1.0)
    with pytest.raises(ValueError, match="noise_multiplier must be"):
        net.partial_fit(X, Y)


class Curious(Callback):
    """Makes batches of its own."""

    def on_epoch_begin(self, net, **kwargs):
        self.n_rows = len(net.forward(X[:7].astype(np.float32), training=True))


def test_other_batches_do_not_change_the_record():
    watcher = Curious()
    net = private(callbacks=[watcher]).fit(X, Y)
    assert watcher.n_rows == 7
    assert net.epsilon_ == spent_by((1.0, 0.25, 12))


class OwnSteps(DPNeuralNetClassifier):
    def train_step(self, batch, **fit_params):
        return super().train_step(batch, **fit_params)


def test_a_class_with_its_own_steps_claims_nothing():
    params = {"max_epochs": 1, "verbose": 0, "batch_size": 16}
    assert math.isinf(OwnSteps(Perceptron, **params).fit(X, Y).epsilon_)
    net = private()
    net.train_step = lambda batch, **fit_params: DPNeuralNetClassifier.train_step(net, batch)
    assert math.isinf(net.fit(X, Y).epsilon_)


def test_a_module_that_is_given_is_not_trained():
    torch.manual_seed(0)
    module = nn.Linear(6, 3)
    before = copy.deepcopy(module.state_dict())
    net = private(module)
    first = copy.deepcopy(net.fit(X, Y))
    assert largest_difference(first, net.fit(X, Y)) == 0.0
    assert largest_difference(first, clone(net).fit(X, Y)) == 0.0
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(clone(net).initialize().module_.weight, before["weight"])


# --- a row has no more than its share -------------------------------------------------------------


def one_step(X, y, **params):
    """Return the parameters before and after a step on all rows, without noise."""
    params = {"lr": 1.0, "batch_size": -1, "max_epochs": 1, **DOUBLE, **params}
    net = private(noise_multiplier=0.0, poisson_sampling=False, **params)
    start = clone(net).initialize()
    ends = [nn.utils.parameters_to_vector(n.module_.parameters()) for n in (start, net.fit(X, y))]
    return [end.detach() for end in ends]


WEIGHTS = torch.tensor([1.0, 500.0, 1e-3], dtype=torch.float64)
CRITERIA = {
    "weights": {"criterion__weight": WEIGHTS},
    "log probabilities": {
        "criterion": nn.NLLLoss, "criterion__weight": WEIGHTS, "module__softmax": True
    },
    "ignored": {"criterion__ignore_index": 1},
    "own": {"criterion": Coupled},
}  # fmt: skip


@pytest.mark.parametrize("name", CRITERIA)
def test_a_row_changes_a_step_by_its_clipped_gradient_alone(name):
    y = Y.copy()
    y[7] = (y[7] + 1) % 3
    clip = 20.0  # far above the norms of rows of weight 1
    params = {"max_grad_norm": clip, "classes": [0, 1, 2], **CRITERIA[name]}
    ends = [one_step(X, labels, **params)[1] for labels in (Y, y)]
    change = float((ends[0] - ends[1]).norm())
    assert 1e-6 < change <= 2 * clip / 50 * (1 + 1e-9)
    # All of it is the row's: with the label of either it is the same that other rows do.
    without = [one_step(X[[7]], labels[[7]], **params) for labels in (Y, y)]
    own = [(end - start) / 50 for start, end in without]
    torch.testing.assert_close(ends[0] - own[0], ends[1] - own[1], rtol=0, atol=1e-12)


def test_weights_of_classes_multiply():
    plain = one_step(X, Y, max_grad_norm=1e6)
    heavy = one_step(X, Y, max_grad_norm=1e6, criterion__weight=torch.full((3,), 3.0).double())
    torch.testing.assert_close(heavy[1] - heavy[0], 3.0 * (plain[1] - plain[0]))
    ignored = one_step(X, Y, max_grad_norm=0.1, criterion__ignore_index=1)
    kept = one_step(X[Y != 1], Y[Y != 1], max_grad_norm=0.1, classes=[0, 1, 2])
    share = (Y != 1).mean()
    torch.testing.assert_close(ignored[1] - ignored[0], share * (kept[1] - kept[0]))


@pytest.mark.parametrize("row", [np.nan, 1000.0, 1e300])
def test_rows_without_a_finite_gradient_have_no_part(row):
    # nan, the derivative of a root at 0, and a norm beyond all numbers.
    bad, module = X.copy(), {"module": Kinked} if row == 1000.0 else {}
    bad[:3] = row
    net = private(noise_multiplier=0.0, poisson_sampling=False, batch_size=-1, lr=1.0)
    net.set_params(max_epochs=1, **DOUBLE, **module)
    start = clone(net).initialize()
    change = []
    for rows, labels in [(bad, Y), (X[3:], Y[3:])]:
        fitted = clone(net).set_params(classes=[0, 1, 2])
        try:
            fitted.fit(rows, labels)
        except RuntimeError as failure:
            assert "its loss was no finite number" in str(failure)  # noqa: PT017
        pairs = zip(fitted.module_.parameters(), start.module_.parameters(), strict=True)
        change.append(torch.cat([(a - b).detach().flatten() for a, b in pairs]))
    torch.testing.assert_close(change[0], change[1] * 47 / 50, rtol=1e-9, atol=0)
    assert change[0].norm() > 0.01


class Mixing(nn.Module):
    """Rows that depend on one another, or that Opacus cannot tell apart."""

    def __init__(self, how):
        super().__init__()
        self.how, self.layer = how, nn.Linear(6, 3)
        self.norm = nn.BatchNorm1d(6, affine=how == "frozen batch norm").requires_grad_(False)
        self.small = nn.Linear(2, 3)

    def forward(self, x):
        if self.how.endswith("batch norm"):
            x = self.norm(x)
        elif self.how == "mean":
            x = x - x.mean(dim=0)
        elif self.how == "sum so far":
            x = x.cumsum(dim=0)
        elif self.how == "counted":
            x = x + (x[:, :1] > x[:, :1].mean()).sum()
        elif self.how == "flat":
            return self.small(x.reshape(-1, 2)).reshape(len(x), 3, 3).mean(dim=1)
        elif self.how == "turned":  # with three rows no shape tells that the first axis is another
            return self.small(x.unflatten(1, (3, 2)).transpose(0, 1)).mean(dim=0)
        elif self.how == "weight taken":
            return self.layer(x) + nn.functional.linear(x, self.layer.weight)
        elif self.how == "weight alone":
            return nn.functional.linear(x, self.layer.weight)
        return self.layer(x)


MIXING = {
    "batch norm": "changes its buffer norm.running_mean",
    "frozen batch norm": "changes its buffer norm.running_mean",
    "mean": "depend on the other rows",
    "sum so far": "depend on the other rows",
    "counted": "depend on the other rows",
    "flat": "must see one row for each of the batch. Got .* clipped by themselves",
    "turned": "does not find the gradient of a row's loss by the parameter",
    "weight taken": "does not find the gradient of a row's loss by the parameter layer.weight",
    "weight alone": "finds no gradient for each row of the parameter layer.weight",
}


@pytest.mark.parametrize("how", MIXING)
def test_rows_that_cannot_be_told_apart_are_refused(how):
    few = X[:3] if how == "turned" else X
    net = private(Mixing, module__how=how, batch_size=-1, max_epochs=1, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=MIXING[how]):
        net.fit(few, Y[: len(few)])
    # What is taken of nets for members, which see one row at a time, is refused as well.
    if how in list(MIXING)[:5]:
        with pytest.raises(ValueError, match=MIXING[how]):
            RABEnsembleClassifier(net, n_estimators=2).fit(X, Y)


def test_a_first_batch_of_one_row_leaves_no_trace_in_buffers():
    module = nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.BatchNorm2d(1, affine=False), nn.Flatten(), nn.Linear(6, 3)
    )
    net = private(module, poisson_sampling=False, batch_size=1)
    with pytest.raises(ValueError, match="changes its buffer 1.running_mean"):
        net.fit(X, Y)
    assert float(net.module_[1].running_mean) == 0.0


class Penalised(DPNeuralNetClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        loss = super().get_loss(y_pred, y_true, *args, **kwargs)
        return loss + self.module_.layers[0].weight.pow(2).sum()


def test_what_the_loss_has_besides_outputs_is_refused():
    net = Penalised(Perceptron, verbose=0, batch_size=16)
    with pytest.raises(ValueError, match=r"layers.0.weight.*loss depend on the module's outputs"):
        net.fit(X, Y)


def test_a_frozen_trunk_that_is_not_in_training_is_fine():
    trunk = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU()).eval()
    net = private(FrozenTrunk, module__trunk=trunk).fit(X, Y)
    assert net.epsilon_ == spent_by((1.0, 0.25, 12))


class Thawing(Callback):
    def on_epoch_begin(self, net, **kwargs):
        net.module_.second.requires_grad_(len(net.history) > 1)


def test_layers_may_be_thawed():
    net = private(Branched, module__calls="both", callbacks=[Thawing()])
    net.set_params(noise_multiplier=0.0, poisson_sampling=False)
    start, end = clone(net).initialize().module_, net.fit(X, Y).module_
    assert not torch.equal(start.second.weight, end.second.weight)
    assert [steps.n_steps for steps in net.spent_] == [4, 8]


class Alternating(Branched):
    """Its second layer is used in every other pass; before, it is called for nothing, or not."""

    def __init__(self, idle, dtype=torch.float32):
        super().__init__(dtype)
        self.idle, self.count = idle, 0

    def forward(self, x):
        if not (self.training and torch.is_grad_enabled()):
            return self.first(x)
        self.count += 1
        if self.count % 2 == 0:
            return self.first(x) + self.second(x)
        if self.idle:
            self.second(x)
        return self.first(x)


def test_no_batch_has_part_in_the_next():
    params = {"noise_multiplier": 0.0, "poisson_sampling": False, **DOUBLE}
    idle, not_called = (private(Alternating, module__idle=i, **params).fit(X, Y) for i in (1, 0))
    assert largest_difference(idle, not_called) == 0.0


def test_parameters_without_a_part_get_noise_as_all_do():
    net = private(Branched, max_epochs=1, lr=1.0, max_grad_norm=0.5)
    start = clone(net).initialize().module_.never.weight
    once = clone(net).fit(X, Y).module_.never.weight - start
    always = clone(net).set_params(module__calls="always").fit(X, Y).module_.never.weight - start
    assert torch.equal(once, always)
    # Four steps with a standard deviation of 0.5 / 12.
    assert 0.3 < float(once.detach().std()) / (2.0 * 0.5 / 12) < 2.0


class Watching(Callback):
    """Keeps the norms of gradients that it is shown."""

    def on_train_begin(self, net, **kwargs):
        self.norms = []

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.norms.append(float(sum(p.grad.pow(2).sum() for _, p in named_parameters)) ** 0.5)


def test_callbacks_see_gradients_that_are_clipped_and_noisy():
    watcher = Watching()
    net = private(callbacks=[watcher], max_grad_norm=1e-3, poisson_sampling=False, batch_size=-1)
    net.set_params(noise_multiplier=0.0).fit(X, Y)
    assert len(watcher.norms) == 3
    assert max(watcher.norms) <= 1e-3
    # One that clips them clips what has noise.
    net = private(callbacks=[GradientNormClipping(1e-3)], lr=1.0, max_epochs=1, batch_size=-1)
    assert largest_difference(clone(net).initialize(), net.fit(X, Y)) <= 1e-3


def test_nothing_of_the_rows_is_left_behind():
    class Breaking(nn.CrossEntropyLoss):
        def forward(self, outputs, y):
            outputs.register_hook(lambda gradient: (_ for _ in ()).throw(KeyboardInterrupt))
            return super().forward(outputs, y)

    for net in (private(criterion=Breaking).fit(X, Y), private().fit(X, Y)):
        for layer in net.module_.modules():
            assert not {"activations", "max_batch_len"} & vars(layer).keys()
            assert not layer._forward_hooks
        for parameter in net.module_.parameters():
            assert not vars(parameter)
            assert parameter.grad is None


# --- what is refused, and what is not -------------------------------------------------------------


class Trained(nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    "params, message",
    [
        ({"criterion__reduction": "sum"}, "criterion must be a mean over rows.*reduction='sum'"),
        ({"criterion__reduction": "none"}, "criterion must be a mean over rows.*'none'"),
        ({"criterion": Trained}, "criterion must have no parameters.*Trained"),
        ({"optimizer": torch.optim.LBFGS}, "optimizer must take a step.*LBFGS"),
        ({"module__dtype": torch.bfloat16}, "dtype float32 or float64.*bfloat16"),
        ({"iterator_train__collate_fn": list}, "iterator_train__collate_fn.*poisson_sampling"),
        (
            {"iterator_train__drop_last": True, "batch_size": 64},
            "Got 50 rows.*=64.*drop_last=True",
        ),
        ({"noise_multiplier": 1e39}, r"noise_multiplier \* max_grad_norm must be from 1.2e-38"),
        ({"noise_multiplier": 1e-200}, r"noise_multiplier \* max_grad_norm must be from.*1e-200"),
        ({"max_grad_norm": 1e-60}, r"noise_multiplier \* max_grad_norm must be.*1 \* 1e-60"),
        ({"noise_multiplier": 10**400}, "noise_multiplier must be a number at least 0 and finite"),
        ({"noise_multiplier": math.inf}, "noise_multiplier must be.*Got inf"),
        ({"target_epsilon": 1e6}, r"target_epsilon must be a number above 0 and below 1e\+06"),
        ({"target_epsilon": 1e-9}, "target_epsilon=1e-09 is out of reach: with delta=0.002"),
    ],
)
def test_what_is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        private(**params).fit(X, Y)


def test_what_is_refused_of_a_net_that_was_trained():
    net = private().fit(X, Y)
    with pytest.raises(ValueError, match="fit takes X and y alone.*sample_weight"):
        net.partial_fit(X, Y, sample_weight=np.ones(50))
    with pytest.raises(ValueError, match="reduction='sum'"):
        net.set_params(criterion__reduction="sum").partial_fit(X, Y)


def test_noise_of_any_size_has_an_epsilon():
    assert math.isinf(private(noise_multiplier=1e-30).fit(X, Y).epsilon_)
    assert private(noise_multiplier=1e-3).fit(X, Y).epsilon_ > 1e5
    assert 0.0 <= private(noise_multiplier=1e4, lr=1e-5).fit(X, Y).epsilon_ < 0.1
    assert private(noise_multiplier=1e4, lr=1e-5, delta=0.9).fit(X, Y).epsilon_ == 0.0
    assert private(target_epsilon=1e5).fit(X, Y).epsilon_ <= 1e5


class View(Perceptron):
    """As modules often are: it fails on no rows."""

    def forward(self, x):
        return super().forward(x.view(len(x), -1))


@pytest.mark.parametrize("rows", ["array", "dictionary"])
def test_batches_may_be_empty(rows):
    # Each of six batches of six rows is empty with probability (5/6)^6 = 0.33.
    sizes = []
    for seed in range(6):
        params = {"batch_size": 1, "max_epochs": 1, "random_state": seed}
        net = private(View, **params)
        few = X[:6].astype(np.float32)
        given = few if rows == "array" else {"x": few}
        net.fit(given, Y[:6])
        assert net.epsilon_ == spent_by((1.0, 1 / 6, 6), delta=0.1 / 6)
        sizes += [net.history[0, "batches", :, "train_batch_size"]]
        assert np.isfinite(net.history[0, "train_loss"])
    assert any(size[0] == 0 for size in sizes)


def test_an_epoch_may_be_empty_and_batches_smaller_than_one_row():
    # 1 / (1 / 49) * 49 is below 1 in floating point.
    net = private(batch_size=1, max_epochs=1).fit(X[:49], Y[:49])
    assert net.epsilon_ == spent_by((1.0, 1 / 49, len(net.history[0, "batches"])), delta=0.1 / 49)
    one = [private(batch_size=1, max_epochs=1, random_state=s).fit(X[:2], Y[:2]) for s in range(30)]
    losses = [net.history[0, "train_loss"] for net in one]
    assert losses.count(0.0) > 0
    assert np.isfinite(losses).all()
