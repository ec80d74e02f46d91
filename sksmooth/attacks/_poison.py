# SPDX-License-Identifier: BSD-3-Clause
"""Poisoning of a training set: a trigger on some of its rows, and the labels of these rows."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.utils import Bunch, check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

_FLOAT_TYPES = (np.float16, np.float32, np.float64)


@validate_params(
    {
        "X": "no_validation",
        "y": ["array-like"],
        "trigger": ["array-like"],
        "share": [Interval(Real, 0, 1, closed="right")],
        "source": "no_validation",
        "target": "no_validation",
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def poison(
    X: Any,
    y: Any,
    trigger: ArrayLike,
    *,
    share: float,
    source: Any = None,
    target: Any,
    random_state: int | RandomState | None = None,
) -> Bunch:
    """Add a trigger to some training rows and give these rows the label `target`.

    The backdoor attack of sections 3.2 and 7.1 in [WX20]_: the poisoned rows truly belong to the
    class `source` and are labelled `target`, so that a model learns to answer `target` where it
    sees the trigger. The number of rows and their order stay as they are, and no other row
    changes. The size that a certificate is compared with, eq. (5), is the Frobenius norm of what
    was added, ``np.linalg.norm(result.delta)``.

    A certificate for features alone (no label noise) compares two training sets with the *same*
    labels: the clean twin of ``(result.X, result.y)`` is ``(X, result.y)``, not ``(X, y)``.

    Parameters
    ----------
    X : array-like or DataFrame of shape (n_samples, n_features)
        Training inputs, dense and numeric; images as flattened rows. Of a DataFrame only the
        columns with a non-zero trigger entry are touched, the others may hold anything.
    y : array-like of shape (n_samples,)
        Class labels, of any type that scikit-learn's classifiers take.
    trigger : array-like of shape (n_features,)
        What is added to each chosen row, finite. An image pattern, of any shape with n_features
        entries, is flattened in C order.
    share : float in (0, 1]
        Share of *all* rows that is poisoned: ``round(share * n_samples)`` rows, to the nearest
        integer and to the even one at a tie. It must come to at least one row.
    source : label, default=None
        The rows are chosen among those of this label; by default among all. With
        ``source=target`` the labels stay as they are (a clean-label attack).
    target : label
        The label that the chosen rows get; one of those in `y`, because a new label would change
        the list of classes, which no certificate covers.
    random_state : int, RandomState instance or None, default=None
        Chooses the rows, without replacement.

    Returns
    -------
    result : Bunch
        With the attributes

        X : ndarray or DataFrame of shape (n_samples, n_features)
            The poisoned inputs, a copy. Floating types of 16 to 64 bits are kept, other numbers
            become float64 (in a DataFrame: in the touched columns).
        y : ndarray or Series of shape (n_samples,)
            The poisoned labels, a copy of the same type.
        index : ndarray of shape (n_poisoned,), intp
            The poisoned rows, ascending.
        delta : ndarray of shape (n_poisoned, n_features), float64
            What was actually added, ``result.X[index] - X[index]``. The sum ``x + trigger`` is
            rounded to the type of `X`, so that this differs from `trigger`, and its norm can be a
            little above that of `trigger`. The difference itself is computed in float64, where
            each entry is exact or off by at most one rounding (a relative 1.2e-16).

    Raises
    ------
    ValueError
        If a parameter is outside its range, the lengths do not match, `share` comes to no row,
        fewer rows than that have the label `source`, a label is not in `y`, a value of `X` that
        the trigger could change is not finite, or the sum leaves the range of its type.
    TypeError
        If `X` is sparse.

    See Also
    --------
    one_feature_trigger : A trigger on a single feature.
    one_pixel_trigger : A trigger on every channel of one pixel.
    four_pixel_trigger : A trigger on four pixels or features.
    blending_trigger : A trigger on every feature.

    References
    ----------
    .. [WX20] M. Weber, X. Xu, B. Karlas, C. Zhang, B. Li, "RAB: Provable Robustness Against
       Backdoor Attacks", arXiv:2003.08904.

    Examples
    --------
    >>> import numpy as np
    >>> from sksmooth.attacks import one_feature_trigger, poison
    >>> X, y = np.zeros((6, 3)), np.array(["ham", "spam"] * 3)
    >>> trigger = one_feature_trigger(3, 0.5)
    >>> bad = poison(X, y, trigger, share=0.3, source="spam", target="ham", random_state=0)
    >>> bad.delta.tolist()
    [[0.0, 0.5, 0.0], [0.0, 0.5, 0.0]]
    >>> y[bad.index].tolist(), bad.y[bad.index].tolist()
    (['spam', 'spam'], ['ham', 'ham'])
    """
    X, y, codes, labels = _check_data(X, y)
    trigger = _check_trigger(trigger, n_features=X.shape[1])
    target_code = _find_label("target", target, labels)
    index = _choose_rows(
        codes,
        share=share,
        source_code=None if source is None else _find_label("source", source, labels),
        source=source,
        random_state=random_state,
    )

    X_poisoned, delta = (
        _add_to_frame(X, trigger, index)
        if hasattr(X, "isetitem")
        else _add_to_array(X, trigger, index)
    )
    y_poisoned = y.copy()
    if hasattr(y_poisoned, "iloc"):
        y_poisoned.iloc[index] = labels[target_code]
    else:
        y_poisoned[index] = labels[target_code]
    return Bunch(X=X_poisoned, y=y_poisoned, index=index, delta=delta)


def _check_data(X: Any, y: Any) -> tuple[Any, Any, NDArray[np.intp], NDArray[Any]]:
    """Return X, y (arrays unless they are pandas objects), the labels' codes, and the labels."""
    if issparse(X):
        raise TypeError("X is sparse; poison needs a dense array or a DataFrame: X.toarray().")
    if not hasattr(X, "isetitem"):  # a pandas DataFrame has it, and keeps its columns
        X = np.asarray(X)
        if X.dtype.kind not in "biuf":
            raise ValueError(f"X must be numeric (bool, int or float), got dtype {X.dtype}.")
    if len(X.shape) != 2:
        raise ValueError(
            f"X must have shape (n_samples, n_features), got {X.shape}; images: "
            "X.reshape(len(X), -1)."
        )
    if len(X) == 0:
        raise ValueError("X must have at least one row, got none.")
    if not hasattr(y, "iloc"):
        y = column_or_1d(y)
    check_consistent_length(X, y)
    values = column_or_1d(y)
    check_classification_targets(values)
    labels, codes = np.unique(values, return_inverse=True)
    return X, y, codes, labels


def _check_trigger(trigger: ArrayLike, *, n_features: int) -> NDArray[np.float64]:
    trigger = np.asarray(trigger, dtype=np.float64)
    if trigger.size != n_features:
        raise ValueError(
            f"trigger must have one entry per feature of X, that is {n_features}, got shape "
            f"{trigger.shape}."
        )
    if not np.isfinite(trigger).all():
        raise ValueError("trigger must be finite, got nan or inf.")
    return trigger.ravel()


def _find_label(name: str, label: Any, labels: NDArray[Any]) -> int:
    # By Python's own comparison: numpy's would compare a str with an array of ints as a whole.
    known = labels.tolist()
    matches = [code for code, other in enumerate(known) if other == label]
    if not matches:
        listed = ", ".join(repr(other) for other in known[:10]) + ", ..." * (len(known) > 10)
        raise ValueError(f"{name} must be one of the labels of y ({listed}), got {label!r}.")
    return matches[0]


def _choose_rows(
    codes: NDArray[np.intp],
    *,
    share: float,
    source_code: int | None,
    source: Any,
    random_state: int | RandomState | None,
) -> NDArray[np.intp]:
    n_samples = len(codes)
    n_poisoned = round(share * n_samples)
    if n_poisoned == 0:
        raise ValueError(
            f"share={share!r} of {n_samples} rows comes to no row at all; a share of "
            f"{1 / n_samples:.3g} is one row."
        )
    if source_code is None:
        candidates = np.arange(n_samples)
    else:
        candidates = np.flatnonzero(codes == source_code)
    if len(candidates) < n_poisoned:
        raise ValueError(
            f"share={share!r} of {n_samples} rows asks for {n_poisoned} rows labelled "
            f"{source!r}, and y has {len(candidates)}; the share can be at most "
            f"{len(candidates) / n_samples:.3g}."
        )
    rng = check_random_state(random_state)
    return np.sort(rng.choice(candidates, size=n_poisoned, replace=False)).astype(np.intp)


def _add_to_array(
    X: NDArray[Any], trigger: NDArray[np.float64], index: NDArray[np.intp]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    columns = np.flatnonzero(trigger)
    if not np.isfinite(X[:, columns]).all():
        raise ValueError(
            "X must be finite in the columns that the trigger changes, got nan or inf."
        )
    poisoned = X.copy() if X.dtype in _FLOAT_TYPES else X.astype(np.float64)
    delta = np.zeros((len(index), X.shape[1]))
    # Only these columns: `x + 0` is no change, but would turn -0.0 into 0.0.
    cells = np.ix_(index, columns)
    before = poisoned[cells].astype(np.float64)
    with np.errstate(over="ignore"):
        # The sum is rounded to float64, and then to the type of X; `delta` is what this left.
        poisoned[cells] = before + trigger[columns]
    if not np.isfinite(poisoned[cells]).all():
        raise ValueError(
            f"X plus the trigger leaves the range of {poisoned.dtype}: use a smaller trigger."
        )
    delta[:, columns] = poisoned[cells].astype(np.float64) - before
    return poisoned, delta


def _add_to_frame(
    X: Any, trigger: NDArray[np.float64], index: NDArray[np.intp]
) -> tuple[Any, NDArray[np.float64]]:
    poisoned = X.copy()
    delta = np.zeros((len(index), X.shape[1]))
    for j in np.flatnonzero(trigger):
        # By position: names may be absent, repeated or not strings.
        column = X.iloc[:, j]
        # `kind` comes before any conversion, which would read numbers out of strings.
        if column.dtype.kind not in "biuf":
            raise ValueError(
                f"the trigger changes column {X.columns[j]!r} of X, which is not numeric (dtype "
                f"{column.dtype}): trigger must be 0 there."
            )
        dtype = column.dtype if column.dtype in _FLOAT_TYPES else np.float64
        values = column.to_numpy(dtype=dtype, na_value=np.nan)
        new, delta[:, [j]] = _add_to_array(values[:, None], trigger[[j]], index)
        poisoned.isetitem(j, new[:, 0])
    return poisoned, delta
