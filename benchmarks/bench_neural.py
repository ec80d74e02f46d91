# SPDX-License-Identifier: BSD-3-Clause
"""Many neural networks at once, beside the loops that train one after the other.

On a CPU: a perceptron 784-32-2 and RAB's convolutional network on noisy digits, by a skorch loop
and by the barest torch loop (one process, one thread), and by the ensemble with two processes.
Where there is a CUDA device also RAB's MNIST setting (12,665 rows, 20 epochs, batches of 128),
beside the card's measured rate of products of matrices. Elsewhere that part runs at a smaller size
on the CPU, and says so. The digits are real ones where ``SKSMOOTH_DATA`` or ``--folder`` has them,
else uniform numbers of the same shape: times do not depend on them.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch import nn
from torch.func import functional_call, vmap

from sksmooth import RABEnsembleClassifier
from sksmooth.datasets import fetch_mnist
from sksmooth.exceptions import DatasetError
from sksmooth.neural_network import StackedTraining
from sksmooth.neural_network._convolutions import use_products


class Perceptron(nn.Module):
    """One hidden layer."""

    def __init__(self, n_hidden=32):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(784, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 2))

    def forward(self, x):  # noqa: D102
        return self.layers(x)


class Convolutional(nn.Module):
    """RAB's network for MNIST."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, 2),
        )

    def forward(self, x):  # noqa: D102
        return self.layers(x)


def data(folder, n_rows):
    try:
        digits = fetch_mnist(classes=(0, 1), folder=folder)
        X, y = digits.data[:n_rows].astype(np.float32), digits.target[:n_rows].astype(int)
        return (X / X.max()).astype(np.float32), y, "digits 0 and 1"
    except DatasetError:
        rng = np.random.default_rng(0)
        X = rng.random((n_rows, 784), dtype=np.float32)
        return X, (X[:, 0] > 0.5).astype(int), "uniform numbers"


def net(module, epochs, device="cpu"):
    return NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        lr=0.05,
        batch_size=128,
        max_epochs=epochs,
        train_split=None,
        iterator_train__shuffle=True,
        device=device,
        verbose=0,
    )


def skorch_loop(estimator, X, y, n_members):
    rng = np.random.default_rng(0)
    for _ in range(n_members):
        noisy = (X + 0.5 * rng.standard_normal(X.shape)).astype(np.float32)
        clone(estimator).fit(noisy, y)


def bare_loop(module, X, y, n_members, epochs, device="cpu"):
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(y).to(device)
    for _ in range(n_members):
        noisy = (X + 0.5 * rng.standard_normal(X.shape)).astype(np.float32)
        inputs = torch.from_numpy(noisy).to(device)
        model = module().to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(epochs):
            order = torch.randperm(len(y), device=device)
            for start in range(0, len(y), 128):
                rows = order[start : start + 128]
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
                optimizer.step()


def ensemble(estimator, n_members, **params):
    return RABEnsembleClassifier(
        estimator, n_estimators=n_members, sigma=0.5, random_state=0, **params
    )


def seconds(action):
    started = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turns(actions, n_rounds):
    """Return the times of each action, of shape (n_rounds, n_actions)."""
    return np.array([[seconds(action) for action in actions.values()] for _ in range(n_rounds)])


def compare(name, module, X, y, n_members, epochs, n_rounds, goals):
    estimator = net(module, epochs)
    ours = ensemble(estimator, n_members, n_jobs=2)
    ours.fit(X, y)  # starts the workers
    actions = {
        "skorch loop": lambda: skorch_loop(estimator, X, y, n_members),
        "bare torch loop": lambda: bare_loop(module, X, y, n_members, epochs),
        "ours, one process": lambda: ensemble(estimator, n_members, n_jobs=1).fit(X, y),
        "ours, n_jobs=2": lambda: ours.fit(X, y),
    }
    times = in_turns(actions, n_rounds)
    print(f"{name}: {len(y)} rows, {n_members} members, {epochs} epochs, {n_rounds} rounds")
    for action, column in zip(actions, times.T, strict=True):
        print(f"  {action:18} {median(column):7.2f} s")
    for i, loop in enumerate(["skorch loop", "bare torch loop"]):
        ratio = median(times[:, i] / times[:, 3])
        goal = f" (goal {goals[i]})" if goals[i] else ""
        print(f"  n_jobs=2 is {ratio:.2f} times faster than the {loop}{goal}")
    how = ours._net.stacking
    print(f"  trained {f'in blocks of {how.block_size}' if how.together else 'one by one'}")


def stacked_against_sequential(X, y, n_members, epochs, n_rounds):
    """Print what "auto" decides on: which way is faster on one core."""
    for name, module in [
        ("784-8-2", lambda: Perceptron(8)),
        ("784-32-2", Perceptron),
        ("784-64-2", lambda: Perceptron(64)),
        ("784-128-2", lambda: Perceptron(128)),
        ("784-512-2", lambda: Perceptron(512)),
        ("convolutional", Convolutional),
    ]:
        estimator = net(module, epochs)
        actions = {
            way: lambda way=way, e=estimator: ensemble(e, n_members, training=way, n_jobs=1,
                                                       test_noise="seed").fit(X, y)
            for way in ("sequential", "stacked")
        }  # fmt: skip
        times = in_turns(actions, n_rounds)
        ratio = median(times[:, 0] / times[:, 1])
        print(f"  {name}: stacked is {ratio:.2f} times as fast as sequential on one core")


def rounding(X, y):
    """How far members trained together are from those trained alone, in float32."""
    one = ensemble(net(Perceptron, 4), 4, training=StackedTraining(block_size=1)).fit(X, y)
    four = ensemble(net(Perceptron, 4), 4, training=StackedTraining(block_size=4)).fit(X, y)
    largest = max(
        float((p - q).detach().abs().max())
        for a, b in zip(one.estimators_, four.estimators_, strict=True)
        for p, q in zip(a.module_.parameters(), b.module_.parameters(), strict=True)
    )
    print(f"  float32, blocks of 1 and of 4: parameters differ by at most {largest:.1e}")


def measured_rate(device, size):
    """FLOP per second of float32 products of matrices, as training may use them."""
    a, b = torch.randn(2, size, size, device=device).unbind()
    a @ b
    times = [seconds(lambda: a @ b) for _ in range(5)]
    return 2.0 * size**3 / min(times)


def operations(module, n_rows, epochs):
    """FLOP of training one network: forward, and twice that for the backward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    model = module()
    with FlopCounterMode(display=False) as counter:
        nn.functional.cross_entropy(
            model(torch.zeros(128, 784)), torch.zeros(128).long()
        ).backward()
    return counter.get_total_flops() / 128 * n_rows * epochs


def rab_setting(folder, device, n_rows, n_members, n_sequential, epochs):
    X, y, what = data(folder, n_rows)
    estimator = net(Convolutional, epochs, device)
    print(f"RAB's MNIST setting: {what}, {len(y)} rows, {epochs} epochs, on {device}")
    alone = seconds(lambda: skorch_loop(estimator, X, y, n_sequential)) / n_sequential
    bare = (
        seconds(lambda: bare_loop(Convolutional, X, y, n_sequential, epochs, device)) / n_sequential
    )
    model = ensemble(estimator, n_members, training="stacked", test_noise="seed")
    model.fit(X[:256], y[:256])  # chooses kernels
    together = seconds(lambda: model.fit(X, y)) / n_members
    rate = operations(Convolutional, len(y), epochs) / together
    limit = measured_rate(device, 8192 if device == "cuda" else 1024)
    print(f"  sequential {1 / alone:.2f} members per second ({n_sequential} measured)")
    print(f"  bare loop  {1 / bare:.2f} members per second")
    print(f"  stacked    {1 / together:.2f} members per second, in blocks of "
          f"{model._net.stacking.block_size}: {alone / together:.1f} times the sequential loop"
          f"{' (goal 10)' if device == 'cuda' else ' (a CPU: not expected to pay)'}")  # fmt: skip
    print(f"  {n_members} members in {together * n_members:.1f} s: {rate / 1e12:.3f} TFLOP/s; "
          f"products of matrices reach {limit / 1e12:.3f} here")  # fmt: skip


def convolution_steps(device, sizes):
    """Print how long a step of a stack takes by convolutions with groups, and by products."""
    for n_members, n_rows in sizes:
        times = {}
        for way in ("groups", "products"):
            module = Convolutional().to(device)
            if way == "products":
                use_products(module)
            stacked = {
                name: torch.randn(n_members, *p.shape, device=device).mul_(0.05).requires_grad_()
                for name, p in module.named_parameters()
            }
            x = torch.rand(n_members, n_rows, 784, device=device)
            y = torch.randint(2, (n_members, n_rows), device=device)

            def loss(p, x, y, module=module):
                return nn.functional.cross_entropy(functional_call(module, p, (x,)), y)

            def step(loss=loss, stacked=stacked, x=x, y=y):
                vmap(loss)(stacked, x, y).sum().backward()

            step()
            times[way] = min(seconds(step) for _ in range(3))
        print(
            f"  a step of {n_members} networks of convolutions on {n_rows} rows each: by products "
            f"{times['products'] * 1e3:.1f} ms, by groups {times['groups'] * 1e3:.1f} ms"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gpu-members", type=int, default=1000)
    parser.add_argument("--gpu-epochs", type=int, default=20)
    parser.add_argument("--gpu-sequential", type=int, default=5, help="members trained one by one")
    parser.add_argument("--folder", default=None, help="folder with local copies of the data sets")
    parser.add_argument("--only", choices=["dense", "convolutional", "auto", "gpu"], default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    parts = [args.only] if args.only else ["dense", "convolutional", "auto", "gpu"]
    X, y, what = data(args.folder, 2000)
    print(f"on {what}")
    if "dense" in parts:
        compare("perceptron 784-32-2", Perceptron, X, y, args.members, 5, args.rounds, (3.5, 1.8))
    if "convolutional" in parts:
        few = max(4, args.members // 4 // 2 * 2)
        compare("convolutional", Convolutional, X, y, few, 1, args.rounds, (None, 1.8))
    if "auto" in parts:
        stacked_against_sequential(X[:1000], y[:1000], max(4, args.members // 5), 2, args.rounds)
        rounding(X, y)
    if "gpu" in parts and torch.cuda.is_available():
        rab_setting(
            args.folder, "cuda", 12_665, args.gpu_members, args.gpu_sequential, args.gpu_epochs
        )
        convolution_steps("cuda", [(64, 64), (256, 64), (256, 128), (1000, 64)])
    elif "gpu" in parts:
        print("No CUDA device: RAB's setting at 500 rows, 1 epoch and 4 members")
        rab_setting(args.folder, "cpu", 500, 4, 4, 1)
        convolution_steps("cpu", [(4, 64)])


if __name__ == "__main__":
    main()
