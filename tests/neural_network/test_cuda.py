# SPDX-License-Identifier: BSD-3-Clause
"""Networks on a CUDA device: the members they give, the memory they take, and where they end up."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sksmooth import RABEnsembleClassifier, RandomizedSmoothingClassifier
from sksmooth.exceptions import SharedDeviceWarning
from sksmooth.neural_network import DPNeuralNetClassifier, StackedTraining, _blocks, _plan
from sksmooth.neural_network._philox import _fill, _fill_by_torch, scratch, standard_normal

from ._modules import MnistConvolutional, Perceptron
from .test_stacked import SHUFFLED, data, largest_difference, net

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Still(nn.Module):
    """A module whose gradients are 0: private training moves it by its noise alone."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 500)

    def forward(self, x):
        return self.layer(x)[:, :3] * 0.0


def ensembles(estimator, X, y, **params):
    """Return the same ensemble trained on a CPU, one by one, and stacked on the device."""
    found = []
    for device in ("cpu", "cuda"):
        training = StackedTraining(block_size=1) if device == "cpu" else "stacked"
        model = RABEnsembleClassifier(
            clone(estimator).set_params(device=device),
            **{
                "n_estimators": 5,
                "sigma": 0.5,
                "random_state": 3,
                "training": training,
                "test_noise": "seed",
                **params,
            },
        )
        found.append(model.fit(X, y))
    return found


def differences(one, other):
    return [
        largest_difference(*pair) for pair in zip(one.estimators_, other.estimators_, strict=True)
    ]


CASES = {
    "defaults": (net(Perceptron), {}),
    "shuffled": (net(Perceptron, **SHUFFLED, train_split=None), {}),
    "momentum": (net(Perceptron, optimizer__momentum=0.9, **SHUFFLED), {}),
    "Adam": (net(Perceptron, optimizer=torch.optim.Adam, lr=0.01, **SHUFFLED), {}),
    "noisy labels": (net(Perceptron, **SHUFFLED), {"q": 0.2}),
    "uniform": (net(Perceptron, **SHUFFLED), {"noise": "uniform"}),
    "grid": (net(Perceptron, **SHUFFLED), {"grid": 0.25}),
    "some columns": (net(Perceptron, **SHUFFLED), {"columns": [0, 2, 5]}),
}


@pytest.mark.parametrize("name", CASES)
def test_members_are_those_of_a_cpu(name):
    estimator, params = CASES[name]
    estimator = clone(estimator).set_params(module__dtype=torch.float64)
    here, there = ensembles(estimator, *data(), **params)
    assert max(differences(here, there)) < 1e-9
    X = data(seed=1)[0]
    np.testing.assert_array_equal(here.collect_votes(X).data, there.collect_votes(X).data)


def test_convolutions_are_those_of_a_cpu():
    rng = np.random.default_rng(0)
    X, y = rng.random((24, 784)), rng.integers(2, size=24)
    estimator = net(
        MnistConvolutional, module__dtype=torch.float64, train_split=None, batch_size=8, **SHUFFLED
    )
    assert max(differences(*ensembles(estimator, X, y))) < 1e-9


def test_private_members_without_noise_are_those_of_a_cpu():
    estimator = DPNeuralNetClassifier(
        Perceptron, module__dtype=torch.float64, noise_multiplier=0.0, max_grad_norm=0.1,
        batch_size=16, max_epochs=3, lr=0.5, verbose=0,
    )  # fmt: skip
    assert max(differences(*ensembles(estimator, *data()))) < 1e-9


def test_private_noise_has_its_scale():
    estimator = DPNeuralNetClassifier(
        Still, noise_multiplier=2.0, max_grad_norm=0.5, batch_size=25, max_epochs=1, lr=1.0,
        verbose=0, device="cuda",
    )  # fmt: skip
    X, y = data()
    models = [
        RABEnsembleClassifier(
            clone(estimator).set_params(max_epochs=epochs), n_estimators=4, sigma=0.5,
            random_state=0, training="stacked",
        ).fit(X, y)
        for epochs in (1, 2)
    ]  # fmt: skip
    steps = [
        (b.module_.layer.weight - a.module_.layer.weight).detach()
        for a, b in zip(models[0].estimators_, models[1].estimators_, strict=True)
    ]
    for step in steps:  # two batches of 25 expected rows in an epoch
        assert float(step.std()) == pytest.approx(2.0 * 0.5 / 25 * 2**0.5, rel=0.1)
    correlations = np.corrcoef([step.flatten().numpy() for step in steps])
    assert np.abs(correlations - np.eye(4)).max() < 0.1


def test_bits_of_the_generator_are_those_of_a_cpu():
    key = np.arange(4, dtype=np.uint32)
    rows = torch.tensor([0, 1, 12345, 2**32 - 1])
    here, there = (
        torch.empty(2, 4, 5, dtype=torch.float64),
        torch.empty(2, 4, 5, dtype=torch.float64, device="cuda"),
    )
    _fill(key.astype(np.uint64), rows.numpy(), here.numpy())
    _fill_by_torch(key, rows.cuda(), there)
    assert torch.equal(here, there.cpu())

    def normal(rows):
        memory = scratch(len(rows), 7, rows.device)
        return torch.cat(list(standard_normal(key, rows, 7, memory)), dim=1).cpu()

    torch.testing.assert_close(normal(rows), normal(rows.cuda()), rtol=1e-13, atol=1e-13)


def test_members_end_up_on_the_cpu_and_can_be_loaded_anywhere():
    X, y = data()
    estimator = net(Perceptron, device="cuda", optimizer__momentum=0.9, **SHUFFLED)
    model = RABEnsembleClassifier(estimator, n_estimators=3, sigma=0.5, random_state=0).fit(X, y)
    for member in model.estimators_:
        tensors = [*member.module_.state_dict().values()]
        tensors += [v for s in member.optimizer_.state.values() for v in s.values()]
        assert member.device == "cpu"
        assert all(t.device.type == "cpu" for t in tensors if torch.is_tensor(t))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.collect_votes(X).data, model.collect_votes(X).data)


def test_convolutions_are_stacked_on_a_device_by_auto():
    rng = np.random.default_rng(0)
    X, y = rng.random((24, 784)).astype(np.float32), rng.integers(2, size=24)
    estimator = net(MnistConvolutional, train_split=None, device="cuda", **SHUFFLED)
    model = RABEnsembleClassifier(estimator, n_estimators=3, sigma=0.5, random_state=0).fit(X, y)
    assert model._net.stacking.together and model._net.stacking.block_size > 100


@pytest.mark.parametrize("training", ["sequential", "stacked"])
def test_the_number_of_processes_changes_nothing(training):
    X, y = data()
    estimator = net(Perceptron, device="cuda", **SHUFFLED)
    params = {"n_estimators": 4, "sigma": 0.5, "random_state": 0, "training": training}
    one = RABEnsembleClassifier(estimator, **params).fit(X, y)
    with pytest.warns(SharedDeviceWarning):
        two = RABEnsembleClassifier(estimator, n_jobs=2, **params).fit(X, y)
    assert differences(one, two) == [0.0] * 4
    np.testing.assert_array_equal(one.collect_votes(X).data, two.collect_votes(X).data)


@pytest.mark.parametrize("keep_noise", [True, False])
def test_a_block_that_does_not_fit_is_halved(monkeypatch, keep_noise):
    # Kept or drawn in every epoch, noisy rows are the same; so are halves and the whole.
    monkeypatch.setattr(_plan._Trial, "keeps_noise", lambda self, size: keep_noise)
    X, y = data(200, 300)
    estimator = net(Perceptron, module__n_features=300, module__n_hidden=2000, device="cuda")
    options = {"n_estimators": 40, "sigma": 0.5, "random_state": 0}
    sizes = []

    def fitted(size):
        model = RABEnsembleClassifier(
            estimator, training=StackedTraining(block_size=size), **options
        )
        return model.fit(X, y)

    small = fitted(5)
    members = _blocks.Block.members

    def noted(self):
        sizes.append(len(self.seeds))
        return members(self)

    monkeypatch.setattr(_blocks.Block, "members", noted)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(3e8 / torch.cuda.mem_get_info()[1])
    try:
        large = fitted(40)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert sizes[0] == 40 and min(sizes) < 40
    assert max(differences(small, large)) < 1e-5


def test_mixed_precision_trains_as_well():
    X, y = data(200)
    models = [
        RABEnsembleClassifier(
            net(Perceptron, device="cuda", max_epochs=20, **SHUFFLED), n_estimators=20, sigma=0.5,
            random_state=0, training=StackedTraining(mixed_precision=mixed),
        ).fit(X, y)
        for mixed in (False, True)
    ]  # fmt: skip
    agree = np.mean(models[0].predict(X) == models[1].predict(X))
    assert agree > 0.9 and max(differences(*models)) > 0.0


def test_smoothing_at_test_time_counts_on_the_device_as_on_a_cpu():
    X, y = data(120)
    answers = []
    for device in ("cpu", "cuda"):
        model = RandomizedSmoothingClassifier(
            net(Perceptron, device=device, train_split=None, **SHUFFLED), sigma=0.5,
            n_estimation=2000, random_state=0,
        )  # fmt: skip
        answers.append(model.fit(X, y).certify(X[:20]))
    (y_cpu, r_cpu), (y_cuda, r_cuda) = answers
    assert np.mean(y_cpu == y_cuda) > 0.9
    np.testing.assert_allclose(r_cpu, r_cuda, atol=0.1)
