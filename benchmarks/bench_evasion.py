# SPDX-License-Identifier: BSD-3-Clause
"""Certifying test inputs: the published row-by-row way, written plainly, beside ours.

A perceptron 784-32-2, 100 rows, 100,000 draws each (fewer for the published way, whose speed does
not depend on their number); a small convolutional net; early stopping on MNIST (synthetic images
where there is none). One thread; both sides of each ratio run in turns, medians are printed.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier

from sksmooth import RandomizedSmoothingClassifier
from sksmooth.datasets import fetch_mnist
from sksmooth.exceptions import DatasetError


def published(net, rows, n_draws, sigma, batch=1000):
    """Count votes as the authors' code does: row by row, noise of its own in float32 (core.py)."""
    with torch.no_grad():
        for row in rows:
            counts = np.zeros(2, dtype=int)
            left = n_draws
            while left > 0:
                size = min(batch, left)
                left -= size
                copies = row.repeat((size, 1))
                noise = torch.randn_like(copies) * sigma
                predictions = net(copies + noise).argmax(1)
                counts += np.bincount(predictions.numpy(), minlength=2)
    return counts


def seconds(action):
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def perceptron(n_rows, n_draws, n_pairs):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(784, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)
    ).eval()
    X = np.random.default_rng(0).random((n_rows, 784))
    y = np.arange(n_rows) % 2
    rows = torch.as_tensor(X, dtype=torch.float32)
    tried = {
        "torch, noise behind the first layer": (net, {}),
        "torch, noise in input space, pushed through it once": (net, {"noise": "uniform"}),
        "torch, noisy inputs (grid)": (net, {"grid": 2.0**-20}),
        "MLPClassifier, noise behind the first layer": (
            FrozenEstimator(MLPClassifier((32,), max_iter=2).fit(X, y)), {},
        ),
    }  # fmt: skip
    few = max(1000, n_draws // 50)
    print(f"784-32-2, {n_rows} rows, {n_draws} draws each")
    for name, (base, params) in tried.items():
        model = RandomizedSmoothingClassifier(
            base, n_estimation=few if "grid" in params else n_draws, random_state=0, **params
        ).fit(X, y)
        speeds = [
            (
                few * n_rows / seconds(lambda: published(net, rows, few, 0.5)),
                model.n_estimation * n_rows / seconds(lambda m=model: m.certify(X)),
            )
            for _ in range(n_pairs)
        ]
        theirs, ours = (median(s) for s in zip(*speeds, strict=True))
        ratio = median(b / a for a, b in speeds)
        print(f"  {name}: {ours:,.0f} draws/s, published {theirs:,.0f}: {ratio:.1f} times")


def convolutions(n_draws):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 28, 28)),
        torch.nn.Conv2d(1, 16, 5, stride=2), torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 5, stride=2), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(512, 10),
    ).eval()  # fmt: skip
    X = np.random.default_rng(0).random((20, 784))
    spent = [0.0]
    forward = type(net).forward

    class Timed(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, inputs):
            started = time.perf_counter()
            scores = forward(self.inner, inputs)
            spent[0] += time.perf_counter() - started
            return scores

    model = RandomizedSmoothingClassifier(Timed(net), n_estimation=n_draws, random_state=0)
    model.fit(X, np.arange(20) % 10)
    whole = seconds(lambda: model.certify(X))
    print(f"convolutions: {20 * n_draws / whole:,.0f} draws/s, {spent[0] / whole:.0%} of the time "
          "in the forward pass")  # fmt: skip


def early_stopping(folder, n_draws):
    try:
        data = fetch_mnist(classes=(0, 1), folder=folder)
        X, y, name = data.data, data.target, "MNIST 0 and 1"
    except DatasetError:
        rng = np.random.default_rng(0)
        y = np.arange(2000) % 2
        X, name = rng.random((2000, 784)) * 0.5 + 0.1 * y[:, None], "synthetic images"
    X, y = np.asarray(X, dtype=float).reshape(len(X), -1)[:4000], np.asarray(y)[:4000]
    model = RandomizedSmoothingClassifier(
        MLPClassifier((32,), max_iter=20, random_state=0), sigma=0.5, n_estimation=n_draws,
        random_state=0,
    ).fit(X[:3000], y[:3000])  # fmt: skip
    X = X[3000:3100]
    for radius in (0.5, 1.0, 1.5):
        found = model._estimate(X, radius)
        ours = model._radii(found.tail_a, found.p_b) >= radius
        all_draws = model.certify(X).radii >= radius
        print(
            f"{name}, radius {radius}: {found.n_draws.mean() / n_draws:.1%} of the draws; "
            f"{ours.sum()} certified, {all_draws.sum()} by all draws"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--folder", default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    perceptron(options.rows, options.draws, options.pairs)
    convolutions(options.draws // 20)
    early_stopping(options.folder, options.draws)
