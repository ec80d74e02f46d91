# SPDX-License-Identifier: BSD-3-Clause
"""Checks shared by the scores, the display and the report."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def check_radii(radii: ArrayLike) -> NDArray[Any]:
    """Return the radii of ``certify`` as an array, integer or float, that float64 holds exactly."""
    radii = _real_array(radii, "radii")
    if radii.ndim != 1:
        raise ValueError(
            f"radii must have the shape (n_samples,), got {radii.shape}. Where certify was asked "
            "for several radii per row (n_flips given as an array), pass one column at a time."
        )
    if radii.size == 0:
        raise ValueError("radii must hold at least one row, got none.")
    # nan compares false with everything, so it has to be asked for separately; anything below 0
    # that is not the -1 of an abstention was not made by certify (a margin, say).
    bad = ~np.isfinite(radii) | ((radii < 0) & (radii != -1))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            "radii must be finite and each at least 0, or -1 for an abstention; "
            f"got {radii[row]} in row {row}."
        )
    return radii


def check_radius(radius: ArrayLike) -> NDArray[np.float64]:
    """Return the radius, or radii, to score at as a float64 array of the same shape."""
    asked = _real_array(radius, "radius")
    bad = ~(np.isfinite(asked) & (asked >= 0))
    if bad.any():
        raise ValueError(f"radius must be finite and at least 0, got {asked[bad].flat[0]}.")
    return asked.astype(np.float64)


def check_sample_weight(sample_weight: ArrayLike | None, n_samples: int) -> NDArray[np.float64]:
    """Return the weights as a float64 array; ones where none are given."""
    if sample_weight is None:
        return np.ones(n_samples)
    weight = _real_array(sample_weight, "sample_weight").astype(np.float64)
    _check_length(weight, "sample_weight", n_samples)
    # A negative weight would let a certified accuracy rise with the radius.
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"sample_weight must be finite and at least 0, got {weight[row]} in row {row}."
        )
    total = float(weight.sum())
    if not 0 < total < np.inf:
        raise ValueError(f"sample_weight must have a positive, finite sum, got {total}.")
    return weight


def correct_rows(y_true: ArrayLike, y_pred: ArrayLike, n_samples: int) -> NDArray[np.bool_]:
    """Return where the predicted label is the true one, after checking that they compare."""
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    _check_length(true, "y_true", n_samples)
    _check_length(pred, "y_pred", n_samples)
    true_kind, pred_kind = _label_kind(true, "y_true"), _label_kind(pred, "y_pred")
    # Labels of different kinds are never equal, so this would read as an accuracy of 0.
    if true_kind != pred_kind:
        raise ValueError(
            f"y_true holds {true_kind} and y_pred holds {pred_kind}; labels must be of one kind."
        )
    return np.asarray(true == pred, dtype=bool)


def _real_array(values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    # Comparisons are made in float64. A wider type (longdouble, object) could be rounded across
    # the radius on the way there; a bool is a mask passed by mistake.
    if array.dtype.kind not in "iuf" or not np.can_cast(array.dtype, np.float64):
        raise ValueError(
            f"{name} must be integers or floats of at most 64 bits, got the dtype {array.dtype}."
        )
    return array


def _check_length(array: NDArray[Any], name: str, n_samples: int) -> None:
    if array.shape != (n_samples,):
        raise ValueError(
            f"{name} must have one entry per row of radii, the shape ({n_samples},); "
            f"got the shape {array.shape}."
        )


def _label_kind(labels: NDArray[Any], name: str) -> str:
    if labels.dtype.kind == "O":
        kinds = {_object_kind(label, name) for label in labels.tolist()}
        if len(kinds) > 1:
            raise ValueError(f"{name} mixes {' and '.join(sorted(kinds))}.")
        return kinds.pop()
    # "T" is numpy 2's variable-width string.
    kind = {"U": "strings", "T": "strings", "S": "bytes"}.get(labels.dtype.kind)
    if kind is not None:
        return kind
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must hold strings, numbers or booleans, got the dtype {labels.dtype}."
        )
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ValueError(f"{name} must not hold missing labels, got nan.")
    return "numbers"


def _object_kind(label: object, name: str) -> str:
    if isinstance(label, str):
        return "strings"
    if isinstance(label, bytes):
        return "bytes"
    # nan is the one number that differs from itself.
    if isinstance(label, numbers.Number | np.bool_) and label == label:
        return "numbers"
    raise ValueError(f"{name} must hold strings, numbers or booleans, got {label!r}.")
