# SPDX-License-Identifier: BSD-3-Clause
"""Modules that several tests train."""

import torch
from torch import nn


class Perceptron(nn.Module):
    def __init__(
        self, n_features=6, n_hidden=8, n_outputs=3, dropout=0.0, softmax=False, dtype=torch.float32
    ):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, n_hidden, dtype=dtype),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(n_hidden, n_outputs, dtype=dtype),
            nn.Softmax(1) if softmax else nn.Identity(),
        )

    def forward(self, x):
        return self.layers(x)


class MnistConvolutional(nn.Module):
    """RAB's network for MNIST (Appendix D), with as many channels and units as asked for."""

    def __init__(self, channels=(16, 32), n_units=512, dropout=0.0, dtype=torch.float32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, channels[0], 5, dtype=dtype),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels[0], channels[1], 5, dtype=dtype),
            nn.ReLU(),
            nn.Dropout2d(dropout),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(channels[1] * 16, n_units, dtype=dtype),
            nn.ReLU(),
            nn.Linear(n_units, 2, dtype=dtype),
        )

    def forward(self, x):
        return self.layers(x)


class Residual(nn.Module):
    """A residual block with group norm between two convolutions, on 1 x 8 x 8 images."""

    def __init__(self, norm="group", dtype=torch.float32):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1, dtype=dtype)
        self.norms = nn.ModuleList(
            nn.GroupNorm(2, 8, dtype=dtype) if norm == "group" else nn.BatchNorm2d(8, dtype=dtype)
            for _ in range(2)
        )
        self.convolutions = nn.ModuleList(
            nn.Conv2d(8, 8, 3, padding=1, dtype=dtype) for _ in range(2)
        )
        self.last = nn.Linear(8, 3, dtype=dtype)

    def forward(self, x):
        x = self.first(x.unflatten(1, (1, 8, 8)))
        inner = self.convolutions[0](torch.relu(self.norms[0](x)))
        x = x + self.convolutions[1](torch.relu(self.norms[1](inner)))
        return self.last(x.mean(dim=(2, 3)))


class FrozenTrunk(nn.Module):
    """A head on a trunk that stays as it is."""

    def __init__(self, trunk, n_outputs=3):
        super().__init__()
        self.trunk = trunk.requires_grad_(False)
        self.head = nn.Linear(5, n_outputs)

    def train(self, mode=True):
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, x):
        return self.head(self.trunk(x))


class Wild(nn.Module):
    """A module that asks its data what to do, has one output, or explodes in some members."""

    def __init__(self, flat=False, explodes=False):
        super().__init__()
        self.flat, self.asks = flat, not (flat or explodes)
        self.layer = nn.Linear(6, 3)
        if explodes and torch.rand(()) < 0.5:
            with torch.no_grad():
                self.layer.weight *= float("inf")

    def forward(self, x):
        if self.asks and x.sum() > 1e9:
            x = -x
        x = self.layer(x)
        return x.sum(dim=1) if self.flat else x


class Coupled(nn.Module):
    """A criterion in which the rows of a batch have to do with one another."""

    def forward(self, outputs, y):
        losses = nn.functional.cross_entropy(outputs, y, reduction="none")
        return (losses * (1.0 + y)).sum() / (1.0 + y).sum() + outputs.mean() ** 2


class Branched(nn.Module):
    """Layers that are not used, or whose outputs are not, in some passes or in all."""

    def __init__(self, dtype=torch.float32, calls="sometimes"):
        super().__init__()
        self.first, self.second, self.never = (nn.Linear(6, 3, dtype=dtype) for _ in range(3))
        self.calls = calls

    def forward(self, x):
        outputs = self.first(x)
        if self.calls == "always":
            self.never(x)
        return outputs + self.second(x) if self.calls == "both" else outputs


class Kinked(nn.Module):
    """Its loss is finite, its gradient is not, where the first feature is far above 0."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.layer = nn.Linear(6, 3, dtype=dtype)

    def forward(self, x):
        far = (x[:, :1] > 500.0).to(x.dtype)
        return (self.layer(x) * (1.0 - far)).abs().sqrt()


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.first, self.second = (nn.Linear(6, 6, dtype=dtype) for _ in range(2))
        self.second.weight = self.first.weight
        self.last = nn.Linear(6, 3, dtype=dtype)

    def forward(self, x):
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))
