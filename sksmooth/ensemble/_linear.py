# SPDX-License-Identifier: BSD-3-Clause
"""Votes of linear members, many at once: what their own `predict` answers, by one matrix product.

One product for many members rounds otherwise than `predict` does for one. So every score comes with
a bound on what rounding can do to it, here and there together; a member with a row whose answer
could hang on it is left to its own `predict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from ._features import Features, is_frame
from ._noise import AdditiveNoise, FeatureNoise

# Scores of one product: 16 MB.
_SCORES = 2**21

# What underflow can do to a score, for any number of features: 2**-1022 in each product.
_UNDERFLOW = 1e-300

# Beyond it sums of inputs and noise could leave the range of floats, which members may refuse.
_LARGEST = 1e150


def linear_votes(
    learners: list[Any],
    test_vectors: np.ndarray,
    features: Features,
    noise: FeatureNoise,
    classes: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield numbers of members, and the classes' numbers that they predict.

    The second is of shape (n_samples, n_members) and equals what the members' `predict` answers for
    the test inputs with their vectors added. Members that are not linear, or not clear about every
    row, are in none of the numbers.
    """
    if not _are_plain_numbers(features, noise):
        return
    X = features.values
    largest = np.max(np.abs(X), initial=0.0) + np.max(np.abs(test_vectors), initial=0.0)
    linear = [i for i, learner in enumerate(learners) if _is_linear(learner, X.shape[1], classes)]
    if not largest < _LARGEST or not linear:  # true for NaN, too
        return
    n_scores = 1 if classes.size == 2 else classes.size
    size = max(1, _SCORES // (X.shape[0] * n_scores))
    row_sizes = np.abs(X).sum(axis=1)
    for start in range(0, len(linear), size):
        numbers = np.array(linear[start : start + size])
        W = np.stack([learners[i].coef_ for i in numbers])
        b = np.stack([np.broadcast_to(learners[i].intercept_, n_scores) for i in numbers])
        predicted, clear = _predict(X, row_sizes, test_vectors[numbers], W, b)
        yield numbers[clear], predicted[:, clear]


def _predict(
    X: np.ndarray, row_sizes: np.ndarray, vectors: np.ndarray, W: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted numbers, (n_samples, n_members), and which members are clear throughout.

    `W` is of shape (n_members, n_scores, n_features).
    """
    n_members, n_scores, n_features = W.shape
    with np.errstate(over="ignore", invalid="ignore"):  # such a member is not clear
        shifts = np.einsum("mf,msf->ms", vectors, W) + b
        scores = X @ W.reshape(-1, n_features).T
        scores = scores.reshape(-1, n_members, n_scores) + shifts
        # |x + u| |w| summed over the features, and |b|: a sum of n products in any order errs by at
        # most n 2**-53 of it. There are two such sums, here and in `predict`, and here another one
        # of the vector; six more operations; and as much again for the second order and for the
        # rounding of this bound itself.
        factor = (3 * n_features + 8) * 2.0**-52
        largest_weight = np.abs(W).max(axis=(1, 2))
        of_vectors = np.abs(vectors).sum(axis=1) * largest_weight + np.abs(b).max(axis=1)
        errors = factor * (np.multiply.outer(row_sizes, largest_weight) + of_vectors) + _UNDERFLOW
        if n_scores == 1:
            predicted = scores[..., 0] > 0.0
            margins = np.abs(scores[..., 0])
        else:
            predicted = scores.argmax(axis=-1)
            top_two = np.partition(scores, -2, axis=-1)[..., -2:]
            margins = 0.5 * (top_two[..., 1] - top_two[..., 0])
        return predicted, (margins > errors).all(axis=0)


def _are_plain_numbers(features: Features, noise: FeatureNoise) -> bool:
    """Tell whether members see nothing but the test inputs plus a vector, in float64."""
    if not isinstance(noise, AdditiveNoise):
        return False
    rest = features.rest
    if rest is None:
        return True
    return is_frame(rest) and np.array_equal(features.positions, np.arange(rest.shape[1]))


def _is_linear(learner: Any, n_features: int, classes: np.ndarray) -> bool:
    """Tell whether its `predict` is scikit-learn's own for linear classifiers, of these classes."""
    if any(
        # One inherits these from scikit-learn's mixin for linear classifiers, as this one does.
        getattr(type(learner), name, None) is not getattr(LogisticRegression, name)
        or name in vars(learner)
        for name in ("predict", "decision_function")
    ):
        return False
    names = ("coef_", "intercept_", "classes_", "n_features_in_")
    if not all(hasattr(learner, name) for name in names):
        return False  # a class of its user: its own `predict` tells what it lacks
    coef, intercept = learner.coef_, np.asarray(learner.intercept_)
    own = np.asarray(learner.classes_)
    n_scores = 1 if own.size == 2 else own.size
    return (
        own.size >= 2
        and type(coef) is np.ndarray
        and coef.dtype == np.float64
        and coef.shape == (n_scores, n_features)
        and learner.n_features_in_ == n_features
        and intercept.dtype == np.float64
        and intercept.shape in {(), (1,), (n_scores,)}
        and own.dtype == classes.dtype
        and np.array_equal(own, classes)
    )
