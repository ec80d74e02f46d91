# SPDX-License-Identifier: BSD-3-Clause
"""Convolutions by products of matrices against torch's own."""

import copy

import numpy as np
import pytest
import torch
from torch.func import functional_call, vmap

from sksmooth import RABEnsembleClassifier
from sksmooth.neural_network import _plan, _stacked
from sksmooth.neural_network._convolutions import as_products, use_products, window_size

from ._modules import MnistConvolutional
from .test_stacked import SHUFFLED, largest_difference, net, recipe_of, trained_alone

LAYERS = {
    "plain": {"kernel_size": 3},
    "without bias": {"kernel_size": 3, "bias": False},
    "oblong": {"kernel_size": (2, 5)},
    "padded": {"kernel_size": (3, 4), "padding": (1, 3)},
    "strides": {"kernel_size": 3, "stride": (2, 3), "padding": 1},
    "one pixel": {"kernel_size": 1},
    "whole image": {"kernel_size": (9, 11)},
}
OTHERS = [{"groups": 3}, {"dilation": 2}, {"padding_mode": "circular", "padding": 1}]
OTHERS += [{"padding": "same"}]


def layer(**params):
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 6, **params, dtype=torch.float64)


def gradients(module, stacked, x):
    """Return outputs and gradients of four members."""
    stacked = {name: value.clone().requires_grad_() for name, value in stacked.items()}
    x = x.clone().requires_grad_()
    y = vmap(lambda p, x: functional_call(module, p, (x,)))(stacked, x)
    (y**3).sum().backward()
    return [y.detach(), x.grad, *(value.grad for value in stacked.values())]


@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_gradients_are_those_of_torch(name):
    own = layer(**LAYERS[name])
    ours = copy.deepcopy(own)
    use_products(ours)
    assert "forward" in vars(ours)
    stacked = {n: torch.randn(4, *p.shape, dtype=p.dtype) for n, p in own.named_parameters()}
    x = torch.randn(4, 5, 3, 9, 11, dtype=torch.float64)
    for a, b in zip(gradients(own, stacked, x), gradients(ours, stacked, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    windows = torch.nn.functional.unfold(
        x[0], own.kernel_size, padding=own.padding, stride=own.stride
    )
    assert window_size(own, own(x[0])) == windows.numel()


def test_an_image_without_a_batch_is_left_to_torch():
    ours, x = layer(kernel_size=3), torch.randn(3, 9, 11, dtype=torch.float64)
    expected = ours(x)
    use_products(ours)
    assert torch.equal(ours(x), expected)


@pytest.mark.parametrize("params", OTHERS)
def test_other_layers_stay_as_they_are(params):
    other = layer(kernel_size=3, **params)
    use_products(other)
    assert not as_products(other) and "forward" not in vars(other)


def test_networks_trained_by_products_are_those_trained_alone(monkeypatch):
    # What happens on a GPU, here on a CPU.
    used = []
    for module in (_stacked, _plan):
        monkeypatch.setattr(
            module, "multiplies_windows", lambda device, by_row: used.append(by_row) or not by_row
        )
    rng = np.random.default_rng(0)
    X, y = rng.random((24, 784)), rng.integers(2, size=24)
    estimator = net(
        MnistConvolutional, module__dtype=torch.float64, train_split=None, batch_size=8, **SHUFFLED
    )
    ensemble = RABEnsembleClassifier(
        estimator, n_estimators=2, sigma=0.5, random_state=0, training="stacked"
    )
    recipe = recipe_of(ensemble, X, y)
    ensemble.fit(X, y)
    assert used and not any(used)
    for member, seed in zip(ensemble.estimators_, ensemble.member_seeds_, strict=True):
        assert largest_difference(member, trained_alone(recipe, seed)) < 1e-10
