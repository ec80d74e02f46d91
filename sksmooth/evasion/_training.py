# SPDX-License-Identifier: BSD-3-Clause
"""How the base of a smoothed classifier is trained: seeds, and what a skorch net needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._voting import unfrozen


def fit_net(net: Any, noisy: Any, codes: np.ndarray, params: dict[str, Any]) -> None:
    """Train a skorch net on numbers of classes."""
    from ..neural_network._nets import check_net, dtype_of, why_diverged

    dtype, own = None, unfrozen(net)
    if net is own:
        dtype = check_net(net, np.asarray(noisy)[:3], np.unique(codes))
    net.fit(np.asarray(noisy, dtype=dtype), codes, **params)
    n_classes = int(codes.max()) + 1
    few = np.asarray(noisy, dtype=str(dtype_of(own.module_)).removeprefix("torch."))[:3]
    n_outputs = np.asarray(own.predict_proba(few)).shape[1]
    if n_outputs != n_classes:
        raise ValueError(
            f"estimator must be a net with one output for each of {n_classes} classes of y. Got "
            f"one with {n_outputs} outputs."
        )
    reason = why_diverged(own)
    if reason is not None:
        raise ValueError(f"estimator cannot be used. {reason}")


def seed_what_has_no_seed(base: Any, source: np.random.SeedSequence) -> None:
    """Set parameters ``random_state`` that are None, nested ones too, from a stream of their own.

    The noise that certifies has other streams: a base that could foresee it would void the
    certificate.
    """
    params = base.get_params(deep=True)
    names = sorted(
        name
        for name, value in params.items()
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    )
    words = source.generate_state(max(len(names), 1), np.uint32)
    if names:
        base.set_params(**{n: int(w >> 1) for n, w in zip(names, words, strict=False)})
