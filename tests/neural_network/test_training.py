# SPDX-License-Identifier: BSD-3-Clause
"""Ensembles of networks: how they are trained, kept, and what is refused."""

import json
import os
import pickle
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping
from torch import nn

from sksmooth import DiscreteEnsembleClassifier, RABEnsembleClassifier
from sksmooth.ensemble._digest import digest
from sksmooth.exceptions import (
    CheckpointError,
    FailedMembersWarning,
    SequentialTrainingWarning,
    SharedDeviceWarning,
)
from sksmooth.neural_network import StackedTraining, _loop, _nets, _plan, _stacked
from sksmooth.neural_network._philox import scratch, standard_normal
from sksmooth.neural_network._sources import CountedNoise

from ._modules import FrozenTrunk, Perceptron, Residual, Wild
from .test_stacked import SHUFFLED, data, largest_difference, net, recipe_of, trained_alone


def ensemble(estimator=None, **params):
    estimator = net(Perceptron, **SHUFFLED) if estimator is None else estimator
    defaults = {"n_estimators": 6, "sigma": 0.5, "random_state": 0}
    return RABEnsembleClassifier(estimator, **{**defaults, **params})


def parameters(model):
    return [
        None if member is None else [p.detach().numpy() for p in member.module_.parameters()]
        for member in model.estimators_
    ]


def assert_same_members(one, other, tolerance=0.0):
    for a, b in zip(parameters(one), parameters(other), strict=True):
        for p, q in zip(a, b, strict=True):
            np.testing.assert_allclose(p, q, rtol=0, atol=tolerance)
    if tolerance == 0.0:
        np.testing.assert_array_equal(one.test_vectors_, other.test_vectors_)


# --- the same members, wherever and however ------------------------------------------------------


@pytest.mark.parametrize("training", [StackedTraining(block_size=2), "sequential"])
def test_the_number_of_processes_changes_nothing(training):
    X, y = data()
    options = {"training": training, "n_estimators": 5}
    one, two = ensemble(**options).fit(X, y), ensemble(n_jobs=2, **options).fit(X, y)
    assert_same_members(one, two)
    np.testing.assert_array_equal(one.collect_votes(X).data, two.collect_votes(X).data)


def test_a_script_s_own_classes_reach_other_processes(tmp_path):
    # Modules and nets of __main__: other processes have no such module to look them up in.
    script = tmp_path / "script.py"
    script.write_text(
        """
import numpy as np, torch, pickle
from skorch import NeuralNetClassifier
from sksmooth import RABEnsembleClassifier

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
    def forward(self, x):
        return self.layer(x)

class Own(NeuralNetClassifier):
    pass

if __name__ == "__main__":
    X = np.random.default_rng(0).normal(size=(30, 2)); y = (X[:, 0] > 0).astype(int)
    for kind, training in [(NeuralNetClassifier, "auto"), (Own, "sequential")]:
        net = kind(Net, criterion=torch.nn.CrossEntropyLoss, max_epochs=2, verbose=0)
        votes = []
        for n_jobs, folder in [(1, None), (2, "folder-" + training)]:
            model = RABEnsembleClassifier(
                net, n_estimators=22, training=training, n_jobs=n_jobs, random_state=0,
                checkpoint_dir=folder,
            ).fit(X, y)
            assert type(model.estimators_[0]) is kind
            assert type(model.estimators_[0].module_) is Net
            votes.append(model.collect_votes(X).data)
            assert pickle.loads(pickle.dumps(model)).predict(X).shape == (30,)
        model.fit(X, y)  # all from the folder
        votes.append(model.collect_votes(X).data)
        assert all((v == votes[0]).all() for v in votes)
    print("done")
"""
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"


@pytest.mark.parametrize("size", [1, 4, 6])
def test_the_size_of_blocks_changes_rounding_alone(size):
    X, y = data()
    estimator = net(Perceptron, module__dropout=0.2, module__dtype=torch.float64, **SHUFFLED)
    by_two = ensemble(estimator, training=StackedTraining(block_size=2)).fit(X, y)
    other = ensemble(estimator, training=StackedTraining(block_size=size)).fit(X, y)
    assert_same_members(by_two, other, 1e-10)


def test_noise_is_the_same_whether_kept_or_drawn_again(monkeypatch):
    X, y = data()
    kept = ensemble().fit(X, y)
    assert kept._net.stacking.keep_noise
    monkeypatch.setattr(_plan, "_CPU_BYTES", 1000)
    again = ensemble(training=StackedTraining(block_size=6)).fit(X, y)
    assert not again._net.stacking.keep_noise
    assert_same_members(kept, again)


def test_growing_gives_the_members_of_training_at_once():
    X, y = data()
    estimator = net(Perceptron, module__dtype=torch.float64, **SHUFFLED)
    whole = ensemble(estimator, training=StackedTraining(block_size=4)).fit(X, y)
    grown = ensemble(
        estimator, training=StackedTraining(block_size=4), n_estimators=3, warm_start=True
    ).fit(X, y)
    assert_same_members(whole, grown.set_params(n_estimators=6).fit(X, y), 1e-10)


def test_a_block_that_does_not_fit_is_halved(monkeypatch):
    X, y = data()
    whole = ensemble().fit(X, y)
    sizes = []
    real = _loop.Loop.run

    def run(self):
        sizes.append(len(self.units))
        if len(self.units) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self)

    monkeypatch.setattr(_loop.Loop, "run", run)
    halved = ensemble().fit(X, y)
    assert sizes == [6, 3, 1, 2, 3, 1, 2]
    assert_same_members(whole, halved, 1e-5)

    def never(self):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(_loop.Loop, "run", never)
    with pytest.raises(torch.OutOfMemoryError):
        ensemble().fit(X, y)


def test_global_generators_are_left_alone():
    X, y = data()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    ensemble(net(Perceptron, module__dropout=0.5, **SHUFFLED)).fit(X, y)
    assert torch.equal(torch.rand(3), expected)


def test_members_do_not_share_their_dropout_or_order():
    # The same noise and initial weights would be needed to see it otherwise: with lr = 0 nothing
    # but the loss of the first epoch, on one batch, tells the masks.
    X, y = data()
    estimator = net(Perceptron, module__dropout=0.5, lr=0.0, max_epochs=3, batch_size=-1)
    model = ensemble(estimator).fit(X, y)
    losses = np.array([[row["train_loss"] for row in m.history] for m in model.estimators_])
    assert len(np.unique(losses)) == losses.size


# --- noise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
@pytest.mark.parametrize("sigma", [0.5, [0.1, 1.0, 2.0, 0.5, 0.25, 4.0]])
def test_noise_has_the_law_of_the_certificate(noise, sigma):
    X, y = data(n=4000)
    recipe = recipe_of(ensemble(noise=noise, sigma=sigma), X, y)
    source = CountedNoise(recipe.features, recipe.feature_noise, torch.float64, "cpu")
    noisy = torch.empty(4000, 6, dtype=torch.float64)
    source.fill(np.arange(4, dtype=np.uint32), torch.arange(4000), noisy)
    drawn = (noisy.numpy() - X) / np.asarray(sigma)
    assert drawn.std(axis=0) == pytest.approx(np.ones(6), rel=0.05)
    assert drawn.mean(axis=0) == pytest.approx(np.zeros(6), abs=0.06)
    if noise == "uniform":
        assert np.abs(drawn).max() == pytest.approx(np.sqrt(3.0), rel=1e-3)
    else:
        assert np.abs(drawn).max() > 3.0


def test_noise_is_on_the_grid_and_only_on_named_columns():
    X, y = data()
    grid = 2.0**-4
    recipe = recipe_of(ensemble(grid=grid, columns=[1, 4]), X, y)
    source = CountedNoise(recipe.features, recipe.feature_noise, torch.float64, "cpu")
    noisy = torch.empty(50, 6, dtype=torch.float64)
    source.fill(np.arange(4, dtype=np.uint32), torch.arange(50), noisy)
    others = [0, 2, 3, 5]
    np.testing.assert_array_equal(noisy[:, others], X[:, others])
    multiples = noisy[:, [1, 4]].numpy() / grid
    np.testing.assert_array_equal(multiples, np.rint(multiples))
    assert (multiples != np.rint(X[:, [1, 4]] / grid)).mean() > 0.8


def test_noise_is_the_same_in_every_epoch():
    # One full batch, a learning rate of 0: the loss of every epoch is that of one noisy data set.
    X, y = data()
    model = ensemble(net(Perceptron, lr=0.0, batch_size=-1, train_split=None))
    for keep in (True, False):
        if not keep:
            model.set_params(training=StackedTraining(block_size=6))
        model.fit(X, y)
        for member in model.estimators_:
            losses = [row["train_loss"] for row in member.history]
            assert max(losses) - min(losses) < 1e-6


def test_the_learner_has_no_access_to_the_noise():
    # Its own stream is that of another child of the seed than the key of its noise.
    X, y = data(n=400)
    model = ensemble(training="stacked", n_estimators=20)
    recipe = recipe_of(model, X, y)
    model.fit(X, y)
    from sksmooth.ensemble._members import Streams

    for seed in model.member_seeds_:
        streams = Streams.of(seed)
        key = streams.noise.spawn(2)[0].generate_state(4, np.uint32)
        assert not set(key.tolist()) & set(recipe.words(seed).tolist())
        halves = standard_normal(key, torch.arange(400), 6, scratch(400, 6, torch.device("cpu")))
        z = torch.cat(list(halves), dim=1).numpy().ravel()
        torch.default_generator.manual_seed(int(recipe.words(seed)[0]))
        assert abs(np.corrcoef(z, torch.randn(2400).numpy())[0, 1]) < 0.1


def test_discrete_ensembles_train_stacked_too():
    rng = np.random.default_rng(0)
    X = rng.integers(2, size=(60, 6))
    y = X[:, 0]
    model = DiscreteEnsembleClassifier(
        net(Perceptron, module__n_outputs=2, lr=0.5, **SHUFFLED),
        n_estimators=30,
        q=0.1,
        random_state=0,
        training="stacked",
    ).fit(X, y)
    assert (model.predict(X) == y).mean() > 0.9


# --- auto -----------------------------------------------------------------------------------------


class Overridden(NeuralNetClassifier):
    """A net whose steps are its own."""


REASONS = {
    "batch norm": (net(Residual, module__norm="batch"), 64, "changes its buffer"),
    "callbacks": (net(Perceptron, callbacks=[EarlyStopping()]), 6, "callbacks"),
    "own class": (
        Overridden(Perceptron, criterion=nn.CrossEntropyLoss, verbose=0, max_epochs=1),
        6,
        "Overridden may have a training loop of its own",
    ),
    "lazy": (
        NeuralNetClassifier(
            nn.LazyLinear,
            module__out_features=3,
            criterion=nn.CrossEntropyLoss,
            verbose=0,
            max_epochs=1,
        ),
        6,
        "settles the shapes of its parameters at the first batch",
    ),
    "optimizer": (net(Perceptron, optimizer=torch.optim.RMSprop), 6, "RMSprop"),
    "loader": (net(Perceptron, iterator_train__sampler=None), 6, "argument sampler"),
    "data-dependent": (net(Wild), 6, "torch.func cannot map"),
    "pipeline": (
        make_pipeline(
            StandardScaler(), FunctionTransformer(np.float32), net(Perceptron, max_epochs=1)
        ),
        6,
        "pipeline",
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_cannot_be_stacked_is_trained_one_by_one_and_says_why(name):
    estimator, n_features, reason = REASONS[name]
    X, y = data(40, n_features)
    if name == "batch norm":  # convolutions: trained one by one on a CPU without a word
        model = ensemble(estimator, n_estimators=2).fit(X, y)
        assert not model._net.stacking.together
    else:
        with pytest.warns(SequentialTrainingWarning, match=reason):
            model = ensemble(estimator, n_estimators=2).fit(X, y)
        assert model._net.stacking is None
    assert all(member is not None for member in model.estimators_)
    with pytest.raises(ValueError, match=f"training='stacked' is not possible.*{reason}"):
        ensemble(estimator, n_estimators=2, training="stacked").fit(X, y)


def test_auto_stacks_dense_nets_and_leaves_other_learners_alone():
    X, y = data()
    assert ensemble().fit(X, y)._net.stacking.together
    assert ensemble(training="sequential").fit(X, y)._net.stacking is None
    assert ensemble(LogisticRegression()).fit(X, y)._net is None
    with pytest.raises(ValueError, match="training='stacked' is for.*LogisticRegression"):
        ensemble(LogisticRegression(), training="stacked").fit(X, y)
    with pytest.raises(ValueError, match="'training' parameter"):
        ensemble(training="both").fit(X, y)


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "8"])
def test_bad_block_sizes(bad):
    with pytest.raises(ValueError, match="block_size must be None or an integer"):
        StackedTraining(block_size=bad)
    with pytest.raises(ValueError, match="mixed_precision must be"):
        StackedTraining(mixed_precision=1)


def test_mixed_precision_is_an_option():
    X, y = data(100)
    plain = ensemble().fit(X, y)
    mixed = ensemble(training=StackedTraining(mixed_precision=True)).fit(X, y)
    differences = [
        largest_difference(a, b) for a, b in zip(plain.estimators_, mixed.estimators_, strict=True)
    ]
    assert 1e-5 < max(differences) < 0.2  # bfloat16 has 8 bits
    assert all(p.dtype == torch.float32 for p in mixed.estimators_[0].module_.parameters())


class Partial(Perceptron):
    """Its outputs are nan where the first feature is far above 0."""

    def forward(self, x):
        return torch.where(x[:, :1] > 100.0, torch.nan, super().forward(x))


def test_outputs_that_are_nan_are_votes_for_nobody():
    X, y = data()
    model = ensemble(net(Partial), n_estimators=20).fit(X, y)
    far = X[:4] + np.array([[0], [1000], [0], [1000]]) * np.eye(6)[0]
    counts = model.collect_votes(far).data.sum(axis=(0, 2))
    assert counts.tolist() == [20, 0, 20, 0]
    assert (model.certify(far).radii[1::2] == -1).all()


# --- a frozen trunk -------------------------------------------------------------------------------


@pytest.mark.parametrize("training", ["stacked", "sequential"])
def test_a_frozen_trunk_is_shared_and_does_not_change(training):
    X, y = data()
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU())
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    model = ensemble(
        net(FrozenTrunk, module__trunk=trunk, lr=0.5, max_epochs=20), training=training
    ).fit(X, y)
    heads = [m.module_.head.weight.detach().numpy() for m in model.estimators_]
    assert np.abs(heads[0] - heads[1]).max() > 1e-3
    for member in model.estimators_:
        for name, value in member.module_.trunk.state_dict().items():
            assert torch.equal(value, before[name])
    stack = _stacked.Stack(model.estimators_, torch.device("cpu"))
    assert set(stack.trained) == {"head.weight", "head.bias"}
    assert not stack.stacked
    if training == "stacked":
        recipe = recipe_of(model, X, y)
        for member, seed in zip(model.estimators_, model.member_seeds_, strict=True):
            assert largest_difference(member, trained_alone(recipe, seed)) < 1e-5


# --- checkpoints ----------------------------------------------------------------------------------


def test_an_interrupted_stacked_fit_goes_on(tmp_path, monkeypatch):
    X, y = data()
    options = {"training": StackedTraining(block_size=2), "n_estimators": 6}
    undisturbed = ensemble(checkpoint_dir=tmp_path / "a", **options).fit(X, y)
    real, calls = _loop.Loop.run, []

    def run(self):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(_loop.Loop, "run", run)
    with pytest.raises(KeyboardInterrupt):
        ensemble(checkpoint_dir=tmp_path / "b", **options).fit(X, y)
    # Of the second block only one member was stored, say.
    (tmp_path / "b" / "member-000003.bin").unlink()
    calls.extend([1] * 10)
    resumed = ensemble(checkpoint_dir=tmp_path / "b", **options).fit(X, y)
    assert len(calls) == 3 + 10 + 2
    assert_same_members(undisturbed, resumed)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["mode"] == "stacked on cpu"
    assert manifest["block size"] == 2
    with pytest.raises(CheckpointError, match="mode"):
        ensemble(checkpoint_dir=tmp_path / "a", training="sequential").fit(X, y)


def test_the_folder_knows_the_size_of_blocks(tmp_path):
    X, y = data()
    options = {"checkpoint_dir": tmp_path, "n_estimators": 4}
    ensemble(training=StackedTraining(block_size=3), **options).fit(X, y)
    (tmp_path / "member-000002.bin").unlink()
    before = (tmp_path / "member-000000.bin").read_bytes()
    ensemble(**options).fit(X, y)  # whatever fits the memory of this machine
    assert json.loads((tmp_path / "manifest.json").read_text())["block size"] == 3
    assert (tmp_path / "member-000000.bin").read_bytes() == before


# --- members --------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", ["stacked", "sequential"])
def test_members_are_nets_that_store_predict_and_train_on(training):
    X, y = data()
    model = ensemble(net(Perceptron, optimizer=torch.optim.Adam, lr=0.01), training=training).fit(
        X, y
    )
    member = model.estimators_[0]
    assert digest(pickle.loads(pickle.dumps(member))) == digest(member)
    before = digest(member)
    predicted = member.predict(X.astype(np.float32))
    assert digest(member) == before
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict(X), model.predict(X))
    np.testing.assert_array_equal(copied.test_vectors_, model.test_vectors_)
    assert predicted.shape == (50,)
    assert len(member.history) == 4
    state = next(iter(member.optimizer_.state.values()))
    assert float(state["step"]) == 4 * 3  # 40 rows are trained on, 16 at a time
    other = digest(model.estimators_[1])
    member.partial_fit(X.astype(np.float32), y)
    assert digest(member) != before
    assert digest(model.estimators_[1]) == other


@pytest.mark.parametrize("training", ["stacked", "sequential"])
def test_a_member_that_diverges_is_named_and_votes_for_nobody(training):
    X, y = data()
    estimator = net(Wild, module__explodes=True, max_epochs=3)
    with pytest.warns(FailedMembersWarning, match=r"3 of 6 members.*Training diverged.*epoch 1"):
        model = ensemble(estimator, training=training, random_state=4).fit(X, y)
    assert sum(member is None for member in model.estimators_) == 3
    votes = model.collect_votes(X)
    assert votes.n_drawn == 6
    assert (votes.together().sum(axis=1) == 3).all()


def test_nets_that_all_diverge_are_an_error():
    X, y = data()
    with pytest.raises(ValueError, match="All 6 members failed.*Training diverged"):
        ensemble(net(Perceptron, lr=1e30)).fit(X, y)


def test_soft_votes_and_certificates():
    X, y = data(100)
    model = ensemble(
        net(Perceptron, lr=0.5, **SHUFFLED),
        n_estimators=60,
        voting="soft",
        bound="hoeffding",
        confidence_level=0.9,
        sigma=0.2,
    ).fit(X, y)
    y_pred, radii = model.certify(X)
    np.testing.assert_array_equal(y_pred, model.predict(X))
    assert (y_pred == y).mean() > 0.7
    assert (radii > 0).mean() > 0.3


def test_an_interrupt_reaches_the_caller():
    # skorch takes it for the end of training: a member with half of its epochs would count.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background

    class Interrupted(NeuralNetClassifier):
        def on_epoch_end(self, *args, **kwargs):
            super().on_epoch_end(*args, **kwargs)
            if len(self.history) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    X, y = data()
    estimator = Interrupted(Perceptron, criterion=nn.CrossEntropyLoss, max_epochs=4, verbose=0)
    try:
        with pytest.raises(KeyboardInterrupt):
            ensemble(estimator, training="sequential", test_noise="seed").fit(X, y)
    finally:
        signal.signal(signal.SIGINT, before)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, bool])
def test_inputs_of_every_kind_of_number(dtype):
    X, y = data()
    model = ensemble().fit(X.astype(dtype), y)
    assert all(member is not None for member in model.estimators_)
    assert model.predict(X.astype(dtype)).shape == (50,)


def test_bad_data_and_nets():
    X, y = data()
    with pytest.raises(ValueError, match=r"refuses inputs of shape \(n, 5\).*float32.*shapes"):
        ensemble().fit(X[:, :5], y)
    with pytest.raises(ValueError, match=r"integers from 0 to 2.*3 outputs.*\[0, 1, 2, 3\]"):
        ensemble().fit(X, np.arange(50) % 4)
    with pytest.raises(ValueError, match=r"integers from 0 to 2.*\['a', 'b'\]"):
        ensemble().fit(X, np.array(["a", "b"])[y % 2])
    with pytest.raises(ValueError, match="one row of outputs for each input"):
        ensemble(net(Wild, module__flat=True)).fit(X, y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("training", ["auto", "stacked", "sequential"])
def test_cuda_that_is_absent(training):
    X, y = data()
    with pytest.raises(ValueError, match="device='cuda' of the net: torch finds no CUDA device"):
        ensemble(net(Perceptron, device="cuda"), training=training).fit(X, y)


@pytest.mark.parametrize("training", ["stacked", "sequential"])
def test_processes_do_not_compete_for_a_device(training, monkeypatch):
    # torch's "meta" device stands for a GPU where there is none: nothing can be computed on it.
    X, y = data()
    monkeypatch.setattr(_nets, "check_net", lambda net, X, classes: "float32")
    estimator = net(Perceptron, device="meta")
    with (
        pytest.warns(SharedDeviceWarning, match="one process, and not in n_jobs=2"),
        pytest.raises(Exception),  # noqa: B017
    ):
        ensemble(estimator, training=training, n_jobs=2).fit(X, y)


def test_clone_and_search_keep_the_parameter():
    options = StackedTraining(block_size=3)
    assert clone(ensemble(training=options)).training == options


def test_members_of_one_label_are_as_many_as_the_noise_makes_them():
    # Of two rows noisy labels are alike with probability 2q(1 - q).
    X, y, q = np.array([[0.0], [1.0]]), np.array([0, 1]), 0.2
    estimator = net(Perceptron, module__n_features=1, module__n_outputs=2, train_split=None)
    model = ensemble(
        estimator, n_estimators=3000, sigma=0.5, q=q, test_noise="seed",
        training=StackedTraining(block_size=300),
    ).set_params(estimator__max_epochs=1).fit(X, y)  # fmt: skip
    kinds = [type(member).__name__ for member in model.estimators_]
    share = kinds.count("DummyClassifier") / 3000
    assert share == pytest.approx(2 * q * (1 - q), abs=4 * np.sqrt(0.32 * 0.68 / 3000))


class InPlace(Perceptron):
    """A module that changes its inputs."""

    def forward(self, x):
        x *= 10.0
        return super().forward(x)


@pytest.mark.parametrize("training", ["auto", "stacked", "sequential"])
def test_a_module_that_changes_its_inputs_leaves_the_data_as_they_are(training):
    X, y = data()
    before = X.copy()
    estimator = net(InPlace, module__dtype=torch.float64, train_split=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SequentialTrainingWarning)
        try:
            ensemble(estimator, training=training).fit(X, y)
        except ValueError as failure:  # torch.func may refuse it
            assert "is not possible for this net" in str(failure)
    np.testing.assert_array_equal(X, before)


class Drawing(Perceptron):
    """Draws with NumPy when it is made, or in each pass."""

    def __init__(self, when="pass"):
        super().__init__()
        self.when, self.factor = when, float(np.random.normal()) if when == "made" else 1.0

    def forward(self, x):
        return super().forward(x) * (np.random.random() if self.when == "pass" else self.factor)


class DrawnCriterion(nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__(weight=torch.rand(3))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (net(Drawing), "draws from the generator of Python or NumPy"),
        (net(Drawing, module__when="made"), "Drawing.factor differs from member to member"),
        (net(Perceptron, criterion=DrawnCriterion), "its criterion draws a buffer"),
    ],
)
def test_members_that_would_share_what_one_has_drawn_are_trained_one_by_one(estimator, message):
    X, y = data()
    with pytest.raises(ValueError, match=message):
        ensemble(estimator, training="stacked").fit(X, y)
    with pytest.warns(SequentialTrainingWarning, match=message):
        ensemble(estimator, test_noise="seed").fit(X, y)


class Viewed(nn.Module):
    """The usual way from a convolution to a dense layer."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3), nn.Linear(144, 3)

    def forward(self, x):
        x = torch.relu(self.first(x.unflatten(1, (1, 8, 8))))
        return self.last(x.view(len(x), -1))


def test_views_behind_convolutions_are_trained_as_by_skorch():
    X, y = data(40, 64)
    model = ensemble(net(Viewed, **SHUFFLED), n_estimators=2).fit(X, y)
    assert not model._net.stacking.together
    assert all(member is not None for member in model.estimators_)
