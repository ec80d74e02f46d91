# SPDX-License-Identifier: BSD-3-Clause
"""From an estimator's parameters to how inputs get noise, and to the law that radii follow from."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..smoothing import GaussianNoise, JointNoise, MixedCategoricalNoise
from ..smoothing._additive import additive_parts, check_order_of_sigma
from ._draws import AdditiveDraws, CategoricalDraws, domain_of
from ._mixed import MixedDraws, MixedReader


def new_noise(est: Any, X: np.ndarray) -> tuple[Any, Any]:
    """Return the noise of columns that are all numbers, or all categories."""
    if est.noise != "categorical":
        if est.q > 0:
            raise ValueError(
                f"q > 0 goes with noise='categorical' or discrete columns. Got q={est.q!r} with "
                f"noise={est.noise!r}."
            )
        check_order_of_sigma(est)
        parts = additive_parts(est.noise, est.sigma, est.grid, X.shape[1])
        return AdditiveDraws(*parts, n_features=X.shape[1]), parts[0]
    if est.grid is not None:
        raise ValueError(f"grid must be None with noise='categorical'. Got {est.grid!r}.")
    _check_q(est, "noise='categorical'")
    domains = tuple(domain_of(column, j, "noise='categorical'") for j, column in enumerate(X.T))
    sizes = tuple(int(d.size) for d in domains if d.size > 1)
    if not sizes:
        raise ValueError("X must have a column with at least 2 values for categorical noise.")
    noise = MixedCategoricalNoise(float(est.q), sizes, None)  # checks q
    return CategoricalDraws(noise.q, domains), noise


def new_mixed_noise(est: Any, X: Any) -> tuple[MixedDraws, JointNoise]:
    """Return the noise of numbers next to `discrete` columns."""
    if est.noise != "gaussian":
        raise ValueError(
            "discrete goes with noise='gaussian': with 'categorical' all columns are, and next to "
            f"uniform noise no certificate is known. Got noise={est.noise!r}."
        )
    _check_q(est, "discrete columns")
    reader = MixedReader(est, X, est.discrete, est.grid)
    numeric = reader.numbers.positions
    check_order_of_sigma(est, numeric)
    law, scale, grid = additive_parts("gaussian", est.sigma, est.grid, numeric.size)
    assert isinstance(law, GaussianNoise)
    sizes = tuple(d.size for d in reader.domains)
    q = MixedCategoricalNoise(float(est.q), sizes, None).q  # checks it
    # A change in a larger domain is at least as telling, with independent noise next to it too:
    # see MixedCategoricalNoise.
    noise = JointNoise(law.sigma, q, max(sizes))
    return MixedDraws(law, scale, grid, q=q, reader=reader), noise


def _check_q(est: Any, used_by: str) -> None:
    if est.q == 0:
        raise ValueError(
            f"q must be above 0 with {used_by}: it is the probability that a value is replaced. "
            f"Got q={est.q!r}."
        )
