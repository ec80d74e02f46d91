# SPDX-License-Identifier: BSD-3-Clause
"""What the members of a block see of the training data: their own noisy rows, a batch at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..ensemble._features import Features
from ..ensemble._noise import AdditiveNoise
from ..smoothing import UniformNoise
from ..smoothing._grid import on_grid
from ._philox import scratch, standard_normal, standard_uniform

# Numbers drawn at a time on a CPU: their intermediate results stay in its cache.
_CHUNK = 2**15


def counted(recipe: Any) -> bool:
    """Tell whether the noise of these members can come from a counter-based generator."""
    features = recipe.features
    return (
        isinstance(recipe.feature_noise, AdditiveNoise)
        and isinstance(features, Features)
        and (features.rest is None or isinstance(features.rest, np.ndarray))
    )


class CountedNoise:
    """Noisy rows of any member, drawn from a counter-based generator whenever they are asked for.

    They are the same each time, as they must be: noise that is drawn anew in each epoch would make
    the radius smaller. Sums are in float64, and are rounded once to the type of the module.
    """

    def __init__(self, features: Features, noise: AdditiveNoise, dtype: torch.dtype, device: Any):
        values, self.positions = features.values, None
        if features.rest is not None:
            self.positions = torch.from_numpy(features.positions).to(device)
            values = np.array(features.rest, dtype=np.float64)
            values[:, features.positions] = features.values
        self.n_features = values.shape[1]
        # On a CPU left where they are: a worker is sent a memory map, which all of them share.
        on_cpu = torch.device(device).type == "cpu"
        self.values: Any = values if on_cpu else torch.tensor(values, device=device)
        self.noise, self.dtype = noise, dtype
        self.scale = None
        if noise.sigmas is not None:
            self.scale = torch.from_numpy(noise.sigmas).to(device)

    def fill(self, key: np.ndarray, rows: torch.Tensor, out: torch.Tensor) -> None:
        """Write the noisy rows of these numbers to `out`, of shape (m, n_features)."""
        n_columns = self.n_features if self.positions is None else len(self.positions)
        step = len(rows) if rows.device.type != "cpu" else max(1, _CHUNK // n_columns)
        step = min(step, len(rows))
        whole = scratch(step, n_columns, rows.device)
        clean = torch.empty(step, self.n_features, dtype=torch.float64, device=rows.device)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            values, seen = clean[: len(part)], out[start : start + step]
            if torch.is_tensor(self.values):
                torch.index_select(self.values, 0, part, out=values)
            else:
                np.take(self.values, part.numpy(), axis=0, out=values.numpy(), mode="clip")
            column = 0
            for noise in self._draw(key, part, n_columns, whole[:, : len(part)]):
                columns = slice(column, column + noise.shape[1])
                column = columns.stop
                scale = self._scale(columns)
                if self.positions is not None:
                    values[:, self.positions[columns]] += self._rounded(noise.mul_(scale))
                elif self.noise.grid is None and not torch.is_tensor(scale):
                    torch.add(values[:, columns], noise, alpha=scale, out=seen[:, columns])
                else:
                    noise = self._rounded(noise.mul_(scale))
                    torch.add(values[:, columns], noise, out=seen[:, columns])
            if self.positions is not None:
                seen.copy_(values)

    def _draw(self, key: Any, rows: torch.Tensor, n_columns: int, memory: torch.Tensor) -> Any:
        if not isinstance(self.noise.law, UniformNoise):
            return standard_normal(key, rows, n_columns, memory)
        halves = standard_uniform(key, rows, n_columns, memory)
        return [half.sub_(0.5).mul_(self.noise.law.width) for half in halves]

    def _scale(self, columns: slice) -> Any:
        """Return what the draws of these columns are multiplied by."""
        if self.scale is not None:
            return self.scale[columns]
        return 1.0 if isinstance(self.noise.law, UniformNoise) else self.noise.law.sigma

    def _rounded(self, noise: torch.Tensor) -> torch.Tensor:
        grid = self.noise.grid
        if grid is None:
            return noise
        if noise.device.type == "cpu":
            return torch.from_numpy(on_grid(noise.numpy(), grid, "the noise"))
        return torch.round(noise / grid) * grid


class Kept:
    """The noisy rows of all members of a block, in memory."""

    def __init__(self, rows: torch.Tensor):
        self.rows = rows  # (n_members, n_samples, n_features)

    def batch(self, members: list[int], rows: torch.Tensor, out: torch.Tensor) -> None:
        """Write one batch for each of `members`; `rows` and `out` have one entry for each."""
        first = torch.tensor(members, device=rows.device)[:, None] * self.rows.shape[1]
        every = (rows + first).flatten()
        torch.index_select(self.rows.flatten(0, 1), 0, every, out=out.flatten(0, 1))


class Regenerated:
    """The noisy rows of all members of a block, drawn each time: only a batch is in memory."""

    def __init__(self, noise: CountedNoise, keys: list[np.ndarray]):
        self.noise, self.keys = noise, keys

    def batch(self, members: list[int], rows: torch.Tensor, out: torch.Tensor) -> None:
        """As `Kept.batch`."""
        for i, k in enumerate(members):
            self.noise.fill(self.keys[k], rows[i], out[i])
