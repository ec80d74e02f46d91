# SPDX-License-Identifier: BSD-3-Clause
"""The form in which every data set of this package is returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from .._extras import import_extra


def make_bunch(
    data: NDArray[np.float64],
    target: NDArray[np.int64],
    *,
    feature_names: Sequence[str],
    target_column: str,
    return_X_y: bool,
    as_frame: bool,
    **attributes: Any,
) -> Bunch | tuple[Any, Any]:
    """Return a data set as scikit-learn's loaders do.

    Parameters
    ----------
    data : ndarray of shape (n_samples, n_features)
        The features.
    target : ndarray of shape (n_samples,)
        The labels.
    feature_names : sequence of str, of length n_features
        Column names.
    target_column : str
        Column name of the labels in a DataFrame.
    return_X_y : bool
        Whether ``(data, target)`` is returned instead of the Bunch.
    as_frame : bool
        Whether `data` and `target` become a DataFrame and a Series, joined in `frame`.
    **attributes
        Further attributes of the Bunch.

    Returns
    -------
    Bunch or tuple
        ``Bunch(data, target, frame, feature_names, ...)``, where `frame` is None without
        `as_frame`, or ``(data, target)``.
    """
    X: Any = data
    y: Any = target
    frame = None
    if as_frame:
        pandas = import_extra("pandas", extra="plot")
        frame = pandas.DataFrame(data, columns=list(feature_names))
        frame[target_column] = target
        X, y = frame[list(feature_names)], frame[target_column]
    if return_X_y:
        return X, y
    return Bunch(data=X, target=y, frame=frame, feature_names=list(feature_names), **attributes)
