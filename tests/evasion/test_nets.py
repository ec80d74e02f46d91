# SPDX-License-Identifier: BSD-3-Clause
"""torch modules and skorch nets as bases."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator

from sksmooth import RandomizedSmoothingClassifier
from sksmooth.evasion._draws import ESTIMATION
from sksmooth.evasion._first_layer import FirstLayerBallot, dense_first_layer
from sksmooth.evasion._voting import count_votes, numbered_blocks

from ._bases import linear, smoothed

torch = pytest.importorskip("torch")
skorch = pytest.importorskip("skorch")


def iris():
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(150)
    return X[order[:120]], y[order[:120]], X[order[120:]], y[order[120:]]


def net(n_outputs=3):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(8),
        torch.nn.Linear(8, n_outputs),
    )  # fmt: skip


def skorch_net():
    return skorch.NeuralNetClassifier(
        net(), criterion=torch.nn.CrossEntropyLoss, max_epochs=60, lr=0.1, batch_size=16,
        train_split=None, verbose=0,
    )  # fmt: skip


def test_a_linear_module_has_the_radii_of_the_linear_classifier():
    weights, bias = np.array([1.0, -2.0, 0.5]), 0.25
    module = torch.nn.Sequential(torch.nn.Linear(3, 1))
    with torch.no_grad():
        module[0].weight.copy_(torch.as_tensor(weights)[None])
        module[0].bias.fill_(bias)
    X = np.random.default_rng(0).normal(size=(20, 3))
    model = RandomizedSmoothingClassifier(module, random_state=0, n_estimation=20_000)
    result = model.fit(X, np.arange(20) % 2).certify(X)
    other = smoothed(linear(weights, bias), 3, n_estimation=20_000).certify(X)
    distance = np.abs(X @ weights + bias) / np.linalg.norm(weights)
    assert np.sum(result.radii > distance) <= 2
    near = (distance > 0.1) & (distance < 1.0)
    assert near.sum() > 5
    assert_array_equal(result.y_pred[near], other.y_pred[near])
    np.testing.assert_allclose(result.radii[near], other.radii[near], atol=0.05)


def test_a_module_is_copied_and_votes_in_evaluation_mode():
    """Dropout draws at every call in training mode; batch norm mixes rows there."""
    X, y, X_test, _ = iris()
    module = net().train()
    before = copy.deepcopy(module.state_dict())
    model = RandomizedSmoothingClassifier(module, n_estimation=2000, random_state=0).fit(X, y)
    whole = model.certify(X_test)
    assert all(m.training for m in module.modules())
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert_array_equal(model.certify(X_test).radii, whole.radii)
    assert model.certify(X_test[[3]]).radii[0] == whole.radii[3]
    assert isinstance(clone(model).estimator, torch.nn.Module)


@pytest.mark.parametrize("wrapped", [False, True])
def test_noise_behind_the_first_layer_gives_the_votes_of_noisy_inputs(wrapped):
    X, y, X_test, _ = iris()
    base = net().eval()
    if wrapped:
        base = FrozenEstimator(skorch_net().fit(X.astype(np.float32), y.astype(np.int64)))
    model = RandomizedSmoothingClassifier(base, noise="uniform", random_state=0).fit(X, y)
    first = model._ballot()
    assert type(first) is FirstLayerBallot
    counts = [
        count_votes(b, X_test[:5], 3, numbered_blocks(3000), model._entropy, ESTIMATION)
        for b in (first, first.whole)
    ]
    # The same draws; of 3,000 votes a few may differ by rounding in float32.
    assert np.abs(counts[0] - counts[1]).max() <= 2
    assert counts[0].min() < 3000 and np.unique(counts[0]).size > 5


def test_a_skorch_net_is_trained_on_any_labels():
    X, y, X_test, y_test = iris()
    names = np.array(["setosa", "versicolor", "virginica"])
    base = skorch_net()
    model = RandomizedSmoothingClassifier(base, sigma=0.3, n_estimation=3000, random_state=0)
    model.fit(X, names[y])
    y_pred, radii = model.certify(X_test)
    assert_array_equal(y_pred, model.predict(X_test))
    assert np.mean(y_pred == names[y_test]) > 0.8 and np.mean(radii > 0) > 0.6
    assert not base.initialized_
    assert_array_equal(model.certify(X_test).radii, radii)


def test_training_of_a_skorch_net_depends_on_random_state_alone():
    X, y, X_test, _ = iris()
    model = RandomizedSmoothingClassifier(skorch_net(), sigma=0.3, random_state=0)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = model.fit(X, y).predict_proba(X_test)
    assert torch.equal(torch.get_rng_state(), state)  # and leaves torch's own generator alone
    torch.manual_seed(2)
    assert_array_equal(model.fit(X, y).predict_proba(X_test), first)
    other = model.set_params(random_state=1).fit(X, y)
    assert np.any(other.predict_proba(X_test) != first)


def test_modules_that_are_not_known_get_noisy_inputs():
    X, y, X_test, _ = iris()

    class Own(torch.nn.Sequential):
        def forward(self, inputs):
            return -super().forward(inputs)

    hooked = net().eval()
    hooked[0].register_forward_hook(lambda module, args, output: -output)
    second = torch.nn.Sequential(torch.nn.Flatten(), net())
    for module in (Own(*net()), hooked, second, net()[0:0]):
        assert dense_first_layer(module, np.arange(3)) is None
    model = RandomizedSmoothingClassifier(hooked, n_estimation=1000, random_state=0).fit(X, y)
    assert np.any(model.predict_proba(X_test) > 0.5)


class Partial(torch.nn.Module):
    """Its outputs are nan where the first feature is above 0."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs):
        scores = torch.stack([-inputs[:, 1], inputs[:, 1], -inputs[:, 1] - 9], dim=1)
        return torch.where(inputs[:, :1] > 0.0, torch.nan, scores * self.weight)


@pytest.mark.parametrize("kind", ["module", "skorch"])
def test_outputs_that_are_nan_are_votes_for_nobody(kind):
    X, y = np.array([[-9.0, 5.0], [9.0, 5.0], [0.0, 5.0]] * 2), np.arange(6) % 3
    base = Partial()
    if kind == "skorch":
        base = FrozenEstimator(skorch.NeuralNetClassifier(Partial, verbose=0).initialize())
    model = RandomizedSmoothingClassifier(base, sigma=1.0, n_estimation=2000, random_state=0)
    y_pred, radii, p_a, _ = model.fit(X, y).certify(X[:3], return_bounds=True)
    assert y_pred[0] == 1 and radii[0] > 2.0
    assert_array_equal(radii[1:], [-1.0, -1.0])
    assert p_a[1] == 0.0 and 0.4 < p_a[2] < 0.6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cuda"}, "finds no CUDA device"),
        ({"module": Partial}, "returns nan for the first rows"),
        ({"lr": np.nan}, "cannot be used. Training diverged"),
        ({"module__out_features": 2}, "integers from 0 to 1, as Linear has 2 outputs"),
        ({"module__in_features": 5}, r"refuses inputs of shape \(n, 4\)"),
    ],
)
def test_nets_that_cannot_be_used_are_refused(changes, message):
    if "device" in changes and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    X, y, *_ = iris()
    base = skorch.NeuralNetClassifier(
        torch.nn.Linear, module__in_features=4, module__out_features=3, verbose=0
    )
    base.set_params(criterion=torch.nn.CrossEntropyLoss, train_split=None)
    if "module" in changes:
        base = skorch.NeuralNetClassifier(Partial, verbose=0)
        X = np.abs(X)
    model = RandomizedSmoothingClassifier(base.set_params(**changes), random_state=0)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)


def test_a_module_with_other_outputs_than_classes_is_refused():
    X, y, *_ = iris()
    for module in (net(2), torch.nn.Sequential(torch.nn.Flatten(), net(5))):
        model = RandomizedSmoothingClassifier(module, random_state=0)
        with pytest.raises(ValueError, match="one output for each of 3 classes"):
            model.fit(X, y)
    module = torch.nn.Sequential(torch.nn.Linear(5, 3))
    with pytest.raises(ValueError, match=r"takes arrays of shape \(n, 4\). Sequential fails: mat1"):
        RandomizedSmoothingClassifier(module, random_state=0).fit(X, y)


class Centred(skorch.dataset.Dataset):
    """Rows that reach the module 5 lower."""

    def transform(self, X, y):
        return X - np.float32(5.0), 0 if y is None else y


def lower(batch):
    X, y = torch.utils.data.default_collate(batch)
    return X - 5.0, y


@pytest.mark.parametrize("how", ["dataset", "collate", "iterator", "predict", "infer"])
def test_what_a_net_does_with_its_inputs_is_followed(how):
    X = np.linspace(0.0, 10.0, 60)[:, None]
    y = (X[:, 0] > 5.0).astype(int)
    module = torch.nn.Sequential(torch.nn.Linear(1, 2))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[-1.0], [1.0]]))
        module[0].bias.zero_()
    net = skorch.NeuralNetClassifier(module, verbose=0, train_split=None)
    if how == "dataset":
        net.set_params(dataset=Centred)
    if how == "collate":
        net.set_params(iterator_valid__collate_fn=lower)
    net.initialize()
    if how == "iterator":
        own = net.get_iterator
        net.get_iterator = lambda data, training=False: (
            (batch[0] - 5.0, batch[1]) for batch in own(data, training)
        )
    if how == "predict":
        own = net.predict
        net.predict = lambda X: own(X - np.float32(5.0))
    if how == "infer":
        own = net.infer
        net.infer = lambda x, **params: own(x - 5.0, **params)
    rows = np.array([[1.0], [9.0]])
    assert_array_equal(net.predict(rows.astype(np.float32)), [0, 1])
    model = RandomizedSmoothingClassifier(
        FrozenEstimator(net), sigma=0.5, n_estimation=500, n_selection=50, random_state=0
    )
    y_pred, radii = model.fit(X, y).certify(rows)
    assert_array_equal(y_pred, [0, 1])
    assert np.all(radii > 0.5)


def test_a_frozen_net_with_other_outputs_than_classes_is_refused():
    net = skorch.NeuralNetClassifier(Partial, verbose=0).initialize()  # three outputs
    X, y = np.array([[-9.0, 5.0], [9.0, 5.0]] * 3), np.array([0, 2] * 3)
    with pytest.raises(ValueError, match="one output for each of 2 classes of y. Got one with 3"):
        RandomizedSmoothingClassifier(FrozenEstimator(net), random_state=0).fit(X, y)
