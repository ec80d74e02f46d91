# SPDX-License-Identifier: BSD-3-Clause
"""Private training: against a direct transcription, against Opacus, and as members."""

import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import Parallel, delayed
from opacus import PrivacyEngine
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sksmooth import RABEnsembleClassifier
from sksmooth.ensemble._digest import digest
from sksmooth.neural_network import DPNeuralNetClassifier

from ._modules import Branched, Coupled, Kinked, MnistConvolutional, Perceptron, Residual, Tied
from .test_stacked import data, largest_difference, recipe_of, trained_alone


def private(module=Perceptron, **params):
    defaults = {"max_epochs": 3, "batch_size": 16, "lr": 0.2, "verbose": 0, "random_state": 0}
    return DPNeuralNetClassifier(module, **{**defaults, **params})


DOUBLE = {"module__dtype": torch.float64}
SHUFFLED = {"iterator_train__shuffle": True, "poisson_sampling": False}


def by_hand(net, X, y, clip):
    """Train plainly, row by row, with clipped gradients; batches in the order of the rows."""
    net = clone(net).initialize()
    module = net.module_
    parameters = list(module.parameters())
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    optimizer = torch.optim.SGD(parameters, lr=net.lr)
    starts = range(0, len(y), net.batch_size)
    expected = int(len(y) * (1.0 / len(starts)))
    for _ in range(net.max_epochs):
        for start in starts:
            sums = [torch.zeros_like(p) for p in parameters]
            for row in range(start, min(start + net.batch_size, len(y))):
                loss = nn.functional.cross_entropy(module(X[row : row + 1]), y[row : row + 1])
                gradients = torch.autograd.grad(loss, parameters)
                norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
                factor = min(1.0, clip / (norm + 1e-6))
                for total, gradient in zip(sums, gradients, strict=True):
                    total += factor * gradient
            for parameter, total in zip(parameters, sums, strict=True):
                parameter.grad = total / expected
            optimizer.step()
    return net


@pytest.mark.parametrize("clip", [1e6, 0.5])
def test_without_noise_it_is_sgd_with_clipped_gradients(clip):
    X, y = data(48)
    net = private(noise_multiplier=0.0, max_grad_norm=clip, poisson_sampling=False, **DOUBLE)
    trained = clone(net).fit(X, y)
    assert largest_difference(trained, by_hand(net, X, y, clip)) < 1e-12
    assert math.isinf(trained.epsilon_)


@pytest.mark.filterwarnings("ignore:Secure RNG", "ignore:Full backward hook")
def test_it_is_what_opacus_trains():
    X, y = data(48)
    trained = private(**DOUBLE).fit(X, y)
    other = private(**DOUBLE).initialize()
    with other._own_stream(resumed=True):
        dataset = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
        loader = torch.utils.data.DataLoader(dataset, batch_size=16)
        engine = PrivacyEngine(accountant="rdp")
        module, optimizer, batches = engine.make_private(
            module=other.module_,
            optimizer=other.optimizer_,
            data_loader=loader,
            noise_multiplier=1.0,
            max_grad_norm=1.0,
        )
        for _ in range(3):
            for x, targets in batches:
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(x), targets).backward()
                optimizer.step()
    assert largest_difference(trained, other) == 0.0
    assert trained.delta_ == 0.1 / 48
    assert trained.epsilon_ == pytest.approx(engine.get_epsilon(0.1 / 48), rel=1e-12)


def test_noise_has_its_standard_deviation():
    # A learning rate of 1 and gradients clipped to nearly nothing: the change is the noise.
    X, y = data(64)
    changes = []
    for seed in range(40):
        params = {"noise_multiplier": 2.0, "max_grad_norm": 0.25, "lr": 1.0, "max_epochs": 1}
        net = private(random_state=seed, batch_size=64, poisson_sampling=False, **params)
        start = [p.detach().clone() for p in clone(net).initialize().module_.parameters()]
        end = net.set_params(noise_multiplier=2.0).fit(0.0 * X, y).module_.parameters()
        # Of the inputs' weights the gradient is 0.
        changes.append((list(end)[0] - start[0]).detach().numpy().ravel())
    changes = np.concatenate(changes)
    assert changes.std() == pytest.approx(2.0 * 0.25 / 64, rel=0.05)
    assert abs(changes.mean()) < 4 * changes.std() / math.sqrt(changes.size)


def test_epsilon_adds_up_and_can_be_asked_for():
    X, y = data(60)
    net = private().fit(X, y)
    first = net.epsilon_
    net.partial_fit(X, y)
    assert net.epsilon_ > first
    assert [steps.n_steps for steps in net.spent_] == [12, 12]
    asked = private(target_epsilon=3.0, delta=0.001).fit(X, y)
    assert 2.5 < asked.epsilon_ <= 3.0
    assert asked.delta_ == 0.001
    assert asked.noise_multiplier_ > 0.5
    assert math.isinf(private(poisson_sampling=False).fit(X, y).epsilon_)


def test_a_random_state_settles_everything_and_leaves_torch_alone():
    X, y = data()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one = private(module__dropout=0.2).fit(X, y)
    assert torch.equal(torch.rand(2), expected)
    torch.manual_seed(4)
    assert digest(one) == digest(private(module__dropout=0.2).fit(X, y))
    assert digest(one) != digest(private(module__dropout=0.2, random_state=1).fit(X, y))
    unseeded = [private(random_state=None).fit(X, y) for _ in range(2)]
    assert largest_difference(*unseeded) > 1e-3


def test_it_stores_clones_and_comes_back_from_another_process():
    X, y = data()
    net = private(optimizer=torch.optim.Adam, lr=0.01)
    here = clone(net).fit(X, y)
    (there,) = Parallel(n_jobs=2)([delayed(clone(net).fit)(X, y)])
    loaded = pickle.loads(pickle.dumps(here))
    for other in (there, loaded):
        assert digest(other) == digest(here)
        np.testing.assert_array_equal(other.predict(X), here.predict(X))
    assert not any(vars(parameter) for parameter in here.module_.parameters())
    assert largest_difference(here.partial_fit(X, y), loaded) > 1e-6
    loaded.partial_fit(X, y)
    assert loaded.epsilon_ == here.epsilon_


def test_it_is_a_classifier_like_others():
    X, y = data(90)
    labels = np.array(["ham", "spam", "eggs"])[y]
    net = private(max_epochs=10, noise_multiplier=0.5)
    fitted = clone(net).fit(X.tolist(), labels)
    assert list(fitted.classes_) == ["eggs", "ham", "spam"]
    assert fitted.score(X, labels) > 0.6
    np.testing.assert_allclose(fitted.predict_proba(X).sum(axis=1), 1.0, rtol=1e-5)
    frame = pd.DataFrame(X, columns=list("abcdef"))
    np.testing.assert_array_equal(clone(net).fit(frame, labels).predict(frame), fitted.predict(X))
    pipeline = make_pipeline(StandardScaler(), clone(net)).fit(X, labels)
    assert pipeline.score(X, labels) > 0.6
    search = GridSearchCV(net, {"noise_multiplier": [0.5, 50.0]}, cv=2).fit(X, labels)
    assert search.best_params_ == {"noise_multiplier": 0.5}
    given = private(classes=["spam", "ham", "eggs"], max_epochs=10, noise_multiplier=0.5)
    assert given.fit(X, labels).score(X, labels) > 0.6
    with pytest.raises(ValueError, match=r"labels of classes.*Got \['ale'\]"):
        given.fit(X, np.where(labels == "ham", "ale", labels))


@pytest.mark.parametrize(
    "params, message",
    [
        ({"noise_multiplier": -1.0}, "noise_multiplier must be a number at least 0"),
        ({"noise_multiplier": math.nan}, "noise_multiplier must be"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be a number above 0"),
        ({"target_epsilon": -3.0}, "target_epsilon must be"),
        ({"delta": 1.0}, "delta must be a number above 0 and below 1"),
        ({"poisson_sampling": 1}, "poisson_sampling must be"),
        ({"module": Residual, "module__norm": "batch"}, r"norms.0 \(BatchNorm2d\).*norms.1"),
        ({"module__n_outputs": 2}, "has 2 outputs.*y has 3 classes"),
        ({"module__n_features": 5}, r"refuses inputs of shape \(n, 6\)"),
    ],
)
def test_what_is_refused(params, message):
    X, y = data()
    with pytest.raises(ValueError, match=message):
        private(**params).fit(X, y)


@pytest.mark.parametrize("callbacks", [None, "disable"])
def test_a_net_that_diverges_is_an_error(callbacks):
    X, y = data()
    with pytest.raises(RuntimeError, match="Training diverged: its loss.*from epoch 1 on"):
        private(lr=1e30, callbacks=callbacks).fit(X, y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_that_is_absent():
    X, y = data()
    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        private(device="cuda").fit(X, y)


# --- members --------------------------------------------------------------------------------------

MEMBERS = {
    "no noise, no clipping": {"noise_multiplier": 0.0, "max_grad_norm": 1e6, **SHUFFLED},
    "clipping": {"noise_multiplier": 0.0, "max_grad_norm": 0.3, **SHUFFLED},
    "noise": {"noise_multiplier": 1.5, **SHUFFLED},
    "Poisson": {"noise_multiplier": 1.5},
    "small Poisson batches": {"batch_size": 2, "max_epochs": 2},
    "dropout": {"module__dropout": 0.3},
    "dropout in small Poisson batches": {"module__dropout": 0.3, "batch_size": 2, "max_epochs": 2},
    "class weights": {"criterion__weight": torch.tensor([1.0, 20.0, 0.1], dtype=torch.float64)},
    "an ignored label": {"criterion__ignore_index": 1, "noise_multiplier": 0.0},
    "label smoothing": {"criterion__label_smoothing": 0.2, "criterion__reduction": "mean"},
    "own criterion": {"criterion": Coupled},
    "unused parameters": {"module": Branched},
    "shared parameters": {"module": Tied},
    "rows without a gradient": {"module": Kinked, "max_grad_norm": 0.1},
    "Adam": {"optimizer": torch.optim.Adam, "lr": 0.01},
    "split": {"train_split": DPNeuralNetClassifier.__mro__[1](Perceptron).train_split},
}


@pytest.mark.parametrize("name", MEMBERS)
def test_private_members_trained_together_equal_opacus(name):
    X, y = data()
    if name == "rows without a gradient":
        X[::5, 0] = 1000.0
    labels = np.array(["ham", "spam", "eggs"])[y]
    model = RABEnsembleClassifier(
        private(**{"random_state": None, **DOUBLE, **MEMBERS[name]}),
        n_estimators=4,
        sigma=0.5,
        random_state=0,
        training="stacked",
    )
    recipe = recipe_of(model, X, labels)
    model.fit(X, labels)
    for member, seed in zip(model.estimators_, model.member_seeds_, strict=True):
        alone = trained_alone(recipe, seed)
        assert largest_difference(member, alone) < 1e-10
        assert member.epsilon_ == alone.epsilon_
        assert member.spent_ == alone.spent_
        losses = [[row["train_loss"] for row in net.history] for net in (member, alone)]
        np.testing.assert_allclose(*losses, rtol=1e-9)
    assert (model.predict(X) == labels).mean() > 0.2
    assert largest_difference(*model.estimators_[:2]) > 1e-3


def test_private_convolutional_members_equal_opacus():
    rng = np.random.default_rng(0)
    X, y = rng.random((16, 784)), rng.integers(2, size=16)
    net = private(
        MnistConvolutional, module__channels=(2, 3), module__n_units=8, module__dtype=torch.float64,
        batch_size=8, max_epochs=1,
    )  # fmt: skip
    model = RABEnsembleClassifier(net, n_estimators=2, random_state=0, training="stacked")
    # Convolutions take their gradients for each row from 48 input channels.
    recipe = recipe_of(model, X, y)
    model.fit(X, y)
    for member, seed in zip(model.estimators_, model.member_seeds_, strict=True):
        random_state = {"random_state": member.random_state}
        recipe.estimator.set_params(**random_state)
        assert largest_difference(member, trained_alone(recipe, seed)) < 1e-10
    assert RABEnsembleClassifier(net, n_estimators=2).fit(X, y)._net.stacking is None


@pytest.mark.parametrize("training", ["stacked", "sequential"])
def test_seeds_of_private_members(training):
    X, y = data()
    params = {"n_estimators": 3, "random_state": 0, "training": training}
    models = [RABEnsembleClassifier(private(), **params).fit(X, y) for _ in range(2)]
    for one, other in zip(models[0].estimators_, models[1].estimators_, strict=True):
        assert digest(one) == digest(other)
    assert len({member.random_state for member in models[0].estimators_}) == 3
    assert largest_difference(*models[0].estimators_[:2]) > 1e-3
