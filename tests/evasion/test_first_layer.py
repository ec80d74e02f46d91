# SPDX-License-Identifier: BSD-3-Clause
"""Noise behind the first layer, where rounding, tiny scores or hooks make the base another one."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier

from sksmooth import RandomizedSmoothingClassifier
from sksmooth.evasion._draws import ESTIMATION
from sksmooth.evasion._first_layer import FirstLayerBallot
from sksmooth.evasion._voting import InputBallot, count_votes, numbered_blocks

N_DRAWS = 3000


def smoothed(base, n_classes=2, n_features=3, **params):
    params = {"random_state": 0, **params}
    X, y = np.zeros((12, n_features)), np.arange(12) % n_classes
    return RandomizedSmoothingClassifier(base, **params).fit(X, y)


def votes(model, ballot, X):
    n_classes = model.classes_.size
    blocks = numbered_blocks(N_DRAWS)
    return count_votes(ballot, np.asarray(X), n_classes, blocks, model._entropy, ESTIMATION)


def module(weights, bias=0.0):
    torch = pytest.importorskip("torch")
    base = torch.nn.Sequential(torch.nn.Linear(len(weights), 1))
    with torch.no_grad():
        base[0].weight.copy_(torch.tensor(weights)[None])
        base[0].bias.fill_(bias)
    return base


@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
def test_rows_that_the_base_rounds_go_through_all_of_it(noise):
    # A second of unix time is lost in float32: the base sees no noise at all in this column.
    base = module([1.0, 0.0, 0.0], -1.7e9)
    model = smoothed(base, noise=noise, sigma=[1.0, 1.0, 1.0])
    times = [[1.7e9 - 2.0, 0.0, 0.0], [1.7e9 + 2.0, 0.0, 0.0]]
    first = model._ballot()
    assert isinstance(first, FirstLayerBallot)
    assert_array_equal(votes(model, first, times), [[N_DRAWS, 0], [N_DRAWS, 0]])
    # A row's votes are those that it has alone, and others go through the layer as before.
    both = [[0.5, 300.0, 0.0], [0.5, 0.0, 0.0]]
    other = smoothed(module([1.0, 0.0, 0.0]), noise=noise, sigma=1.0)
    assert [other._ballot().prepare(np.array(row))[0] for row in both] == [True, False]
    together = votes(other, other._ballot(), both)
    alone = [votes(other, other._ballot(), [row])[0] for row in both]
    assert_array_equal(together, alone)
    assert abs(together[0, 0] - together[1, 0]) < 200  # six deviations; the column counts nothing
    whole = votes(other, other._ballot().whole, both)
    if noise == "uniform":  # the same draws
        assert np.abs(whole - together).max() <= 2
    # The same module in float64 rounds nothing here.
    exact = smoothed(module([1.0, 0.0, 0.0]).double(), noise=noise, sigma=1.0)
    assert not exact._ballot().prepare(np.array(both[0]))[0]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_that_the_last_activation_rounds_to_ties(n_classes):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 3)), np.arange(30) % n_classes
    base = MLPClassifier((4,), solver="lbfgs", max_iter=30, random_state=0).fit(X, y)
    base.coefs_[-1] *= 1e-20
    base.intercepts_[-1][:] = 1e-20 * np.arange(base.intercepts_[-1].size)
    model = smoothed(FrozenEstimator(base), n_classes)
    first = model._ballot()
    assert isinstance(first, FirstLayerBallot)
    expected = np.bincount([0] * N_DRAWS, minlength=n_classes)
    assert_array_equal(base.predict(X), np.zeros(30))
    assert_array_equal(votes(model, first, X[:2]), [expected, expected])


def net(weights, **params):
    skorch, torch = pytest.importorskip("skorch"), pytest.importorskip("torch")
    base = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    with torch.no_grad():
        for layer in base:
            layer.weight.copy_(torch.eye(3) * weights)
            layer.bias.zero_()
    made = skorch.NeuralNetClassifier(
        base, criterion=torch.nn.CrossEntropyLoss, train_split=None, verbose=0, **params
    )
    return FrozenEstimator(made.initialize())


def test_a_net_votes_with_what_it_makes_of_its_outputs():
    small = smoothed(net(1e-5), 3)
    assert isinstance(small._ballot(), FirstLayerBallot)
    row = [[0.0, 0.0, 1.0]]
    assert small.estimator_.predict(np.float32(row)) == [0]  # softmax makes three thirds
    assert_array_equal(votes(small, small._ballot(), row), [[N_DRAWS, 0, 0]])
    plain = smoothed(net(1e-5, predict_nonlinearity=None), 3)
    assert votes(plain, plain._ballot(), row).argmax() == 2


def test_a_net_with_another_way_to_its_outputs_is_followed():
    torch = pytest.importorskip("torch")
    base = net(1.0)
    base.estimator._get_predict_nonlinearity = lambda: torch.neg
    model = smoothed(base, 3)
    assert isinstance(model._ballot(), InputBallot)
    assert model.predict([[0.0, 0.0, 9.0]]) != [2]


def test_weights_beyond_floats_are_left_to_the_base():
    rng = np.random.default_rng(0)
    base = MLPClassifier((4,), max_iter=1).fit(rng.normal(size=(12, 3)), np.arange(12) % 2)
    assert isinstance(smoothed(FrozenEstimator(base))._ballot(), FirstLayerBallot)
    assert isinstance(smoothed(FrozenEstimator(base), sigma=1e100)._ballot(), FirstLayerBallot)
    base.coefs_[0][0, 0] = 1e300
    for sigma in (1.0, 1e100):
        assert isinstance(smoothed(FrozenEstimator(base), sigma=sigma)._ballot(), InputBallot)


@pytest.mark.parametrize("before", [True, False])
def test_hooks_of_all_modules_are_followed(before):
    pytest.importorskip("torch")
    from torch.nn.modules.module import (
        register_module_forward_hook,
        register_module_forward_pre_hook,
    )

    model = smoothed(module([1.0, 0.0, 0.0]))
    if before:
        hook = register_module_forward_pre_hook(lambda m, inputs: (-inputs[0],))
    else:
        hook = register_module_forward_hook(lambda m, inputs, outputs: -outputs)
    try:
        assert isinstance(model._ballot(), InputBallot)
    finally:
        hook.remove()
    assert isinstance(model._ballot(), FirstLayerBallot)
