# SPDX-License-Identifier: BSD-3-Clause
"""Networks trained together against the same networks trained by skorch, one by one."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch import nn

from sksmooth import RABEnsembleClassifier
from sksmooth._global_generators import global_generators
from sksmooth.ensemble._members import Streams
from sksmooth.neural_network._sources import CountedNoise
from sksmooth.smoothing._streams import generator

from ._modules import MnistConvolutional, Perceptron, Residual


def net(module, **params):
    defaults = {"criterion": nn.CrossEntropyLoss, "max_epochs": 4, "batch_size": 16, "lr": 0.1}
    return NeuralNetClassifier(module, **{**defaults, "verbose": 0, **params})


def data(n=50, n_features=6, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    X = rng.normal(size=(n, n_features)) + y[:, np.newaxis]
    return X, y


def recipe_of(ensemble, X, y):
    ensemble._validate_params()
    return ensemble._recipe(X, y, None, {}, grows=False)[0]


def trained_alone(recipe, seed):
    """Train a member by skorch itself, with the noise that it has in a block."""
    streams = Streams.of(seed)
    features, labels = streams.noise.spawn(2)
    y = recipe.labels
    if recipe.label_noise is not None:
        y = recipe.label_noise.draw(y, generator(labels))
    dtype = getattr(torch, recipe.net.dtype)
    noise = CountedNoise(recipe.features, recipe.feature_noise, dtype, "cpu")
    X = torch.empty(len(y), recipe.features.values.shape[1], dtype=dtype)
    noise.fill(features.generate_state(4, np.uint32), torch.arange(len(y)), X)
    with global_generators() as reseed:
        learner = recipe.new_learner(streams, reseed)
        learner.fit(X.numpy(), recipe.classes[y])
    return learner


def largest_difference(one, other):
    pairs = zip(one.module_.parameters(), other.module_.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


SHUFFLED = {"iterator_train__shuffle": True}
CASES = {
    "defaults": (net(Perceptron), {}),
    "shuffled": (net(Perceptron, **SHUFFLED, train_split=None), {}),
    "dropout": (net(Perceptron, module__dropout=0.3, **SHUFFLED), {}),
    "momentum": (
        net(
            Perceptron,
            optimizer__momentum=0.9,
            optimizer__nesterov=True,
            optimizer__weight_decay=0.01,
            **SHUFFLED,
        ),
        {},
    ),
    "Adam": (net(Perceptron, optimizer=torch.optim.Adam, lr=0.01, **SHUFFLED), {}),
    "parameter groups": (
        net(Perceptron, optimizer__param_groups=[("layers.0*", {"lr": 0.01})], **SHUFFLED),
        {},
    ),
    "noisy labels": (net(Perceptron, **SHUFFLED), {"q": 0.2}),
    "last batch dropped": (net(Perceptron, iterator_train__drop_last=True, **SHUFFLED), {}),
    "one batch": (net(Perceptron, batch_size=-1), {}),
    "log probabilities": (
        net(Perceptron, module__softmax=True, criterion=nn.NLLLoss, batch_size=7, **SHUFFLED),
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_stacked_equals_alone(name):
    estimator, params = CASES[name]
    estimator = clone(estimator).set_params(module__dtype=torch.float64)
    X, y = data()
    ensemble = RABEnsembleClassifier(
        estimator, n_estimators=5, sigma=0.5, random_state=3, training="stacked", **params
    )
    recipe = recipe_of(ensemble, X, y)
    ensemble.fit(X, y)
    for member, seed in zip(ensemble.estimators_, ensemble.member_seeds_, strict=True):
        alone = trained_alone(recipe, seed)
        assert largest_difference(member, alone) < 1e-10
        np.testing.assert_allclose(
            [row["train_loss"] for row in member.history],
            [row["train_loss"] for row in alone.history],
            rtol=1e-10,
        )
    first, second = ensemble.estimators_[:2]
    assert largest_difference(first, second) > 1e-3


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_stacked_convolutional_equals_alone(dropout):
    rng = np.random.default_rng(0)
    X, y = rng.random((24, 784)), rng.integers(2, size=24)
    estimator = net(
        MnistConvolutional,
        module__dtype=torch.float64,
        module__dropout=dropout,
        train_split=None,
        batch_size=8,
        **SHUFFLED,
    )
    ensemble = RABEnsembleClassifier(
        estimator, n_estimators=2, sigma=0.5, random_state=0, training="stacked"
    )
    recipe = recipe_of(ensemble, X, y)
    ensemble.fit(X, y)
    for member, seed in zip(ensemble.estimators_, ensemble.member_seeds_, strict=True):
        assert largest_difference(member, trained_alone(recipe, seed)) < 1e-10


def test_stacked_residual_equals_alone():
    X, y = data(40, 64)
    estimator = net(Residual, module__dtype=torch.float64, **SHUFFLED)
    ensemble = RABEnsembleClassifier(
        estimator, n_estimators=3, sigma=0.5, random_state=0, training="stacked"
    )
    recipe = recipe_of(ensemble, X, y)
    ensemble.fit(X, y)
    for member, seed in zip(ensemble.estimators_, ensemble.member_seeds_, strict=True):
        assert largest_difference(member, trained_alone(recipe, seed)) < 1e-10


@pytest.mark.parametrize("module", ["dropout", "batch norm", "large"])
def test_large_nets_are_trained_alone_as_by_skorch(module):
    rng = np.random.default_rng(0)
    X, y = rng.random((24, 784)), rng.integers(2, size=24)
    params = {"batch_size": 8, "module__dtype": torch.float64, **SHUFFLED}
    params |= {"optimizer__momentum": 0.9}
    if module == "dropout":
        estimator = net(MnistConvolutional, module__dropout=0.25, **params)
    elif module == "large":
        estimator = net(Perceptron, module__n_features=784, module__n_hidden=100, **params)
    else:
        X, y = data(40, 64)
        estimator = net(Residual, module__norm="batch", **params)
    ensemble = RABEnsembleClassifier(estimator, n_estimators=2, sigma=0.5, random_state=0)
    recipe = recipe_of(ensemble, X, y)
    ensemble.fit(X, y)
    assert not ensemble._net.stacking.together
    for member, seed in zip(ensemble.estimators_, ensemble.member_seeds_, strict=True):
        alone = trained_alone(recipe, seed)
        assert largest_difference(member, alone) < 1e-10
        for a, b in zip(member.module_.buffers(), alone.module_.buffers(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
        for a, b in zip(member.module_.parameters(), alone.module_.parameters(), strict=True):
            assert a.is_contiguous()
            one, other = (n.optimizer_.state[p] for n, p in [(member, a), (alone, b)])
            assert one["momentum_buffer"].is_contiguous()
            torch.testing.assert_close(
                one["momentum_buffer"], other["momentum_buffer"], rtol=0, atol=1e-10
            )
