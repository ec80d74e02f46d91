# SPDX-License-Identifier: BSD-3-Clause
"""The worst label flips against ridge classification."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from sksmooth._certified import find_certifier, transform_before
from sksmooth.exceptions import NotCertifiableError


def checked_n_flips(n_flips: Any, n_samples: int, n_rows: int) -> NDArray[np.int64]:
    """Return `n_flips` as integers in 0..n_rows, one per test input."""
    flips = np.asarray(n_flips)
    if flips.dtype.kind not in "iu" or flips.ndim > 1 or flips.shape not in ((), (n_samples,)):
        raise ValueError(
            f"n_flips must be an integer or an array of integers of shape ({n_samples},). Got "
            f"{n_flips!r}."
        )
    if flips.size and not (flips.min() >= 0 and flips.max() <= n_rows):
        raise ValueError(
            f"n_flips must be from 0 to {n_rows}, the number of training rows. Got {n_flips!r}."
        )
    return np.broadcast_to(flips, (n_samples,)).astype(np.int64)


def worst_label_flips(est: Any, X: Any, n_flips: ArrayLike) -> Bunch:
    r"""Find the label flips that do most harm to each prediction of a ridge classifier.

    Against the predicted class w and a rival c, changing the label of a row of weight
    :math:`a_j` lowers the margin by up to :math:`a_j s_j + |a_j|`, with :math:`s_j` = 1, -1 or
    0 for label w, c or another one: to c where :math:`a_j > 0`, to w where it is negative. The
    largest are taken, for the rival that comes nearest to winning. No other choice of as many flips
    is worse for the margin of the mean scores, so this attack is the best there is against
    `predict` (appendix C.2 of [1]_), and with ``q=0`` the certified radius is one below the fewest
    flips with which it succeeds.

    Parameters
    ----------
    est : LabelFlipRidgeClassifier
        Fitted; or a pipeline, search or frozen estimator around one.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Test inputs.
    n_flips : int or array-like of int of shape (n_samples,)
        How many labels may change for each test input, from 0 to the number of training rows.

    Returns
    -------
    Bunch
        index : ndarray of int64, of shape (n_samples, max(n_flips))
            Training rows whose label changes, worst first; -1 where fewer do harm.
        y : ndarray of shape (n_samples, max(n_flips))
            Their new labels; meaningless where `index` is -1.
        y_pred : ndarray of shape (n_samples,)
            The prediction after training on the changed labels.

    Raises
    ------
    NotCertifiableError
        If `est` is or contains no LabelFlipRidgeClassifier.
    NotFittedError
        If it is not fitted.
    ValueError
        If `X` or `n_flips` are not as described.

    References
    ----------
    .. [1] E. Rosenfeld, E. Winston, P. Ravikumar, J. Z. Kolter, "Certified Robustness to
       Label-Flipping Attacks via Randomized Smoothing", ICML 2020.

    Examples
    --------
    >>> from sksmooth import LabelFlipRidgeClassifier
    >>> from sksmooth.attacks import worst_label_flips
    >>> X = [[0.0], [1.0], [2.0], [3.0], [7.0], [8.0], [9.0], [10.0]]
    >>> y = ["ham", "ham", "ham", "ham", "spam", "spam", "spam", "spam"]
    >>> model = LabelFlipRidgeClassifier().fit(X, y)
    >>> y_pred, radii = model.certify([[1.0]])
    >>> worst_label_flips(model, [[1.0]], radii).y_pred.tolist()
    ['ham']
    >>> attack = worst_label_flips(model, [[1.0]], radii + 1)
    >>> attack.index.tolist(), attack.y.tolist(), attack.y_pred.tolist()
    ([[0, 1]], [['spam', 'spam']], ['spam'])
    """
    from sksmooth.linear_model import LabelFlipRidgeClassifier

    model = find_certifier(est)
    if not isinstance(model, LabelFlipRidgeClassifier):
        raise NotCertifiableError(
            f"est must be a LabelFlipRidgeClassifier, or a pipeline or search around one. Got "
            f"{type(model).__name__}."
        )
    check_is_fitted(model)
    X = model._checked(transform_before(est, X))
    flips = checked_n_flips(n_flips, X.shape[0], model.n_samples_fit_)
    scores, z = model._scores_of(X)
    top = model._top(scores)
    width = int(flips.max(initial=0))
    index = np.full((X.shape[0], width), -1, dtype=np.int64)
    codes = np.zeros((X.shape[0], width), dtype=np.int64)
    after = np.empty(X.shape[0], dtype=np.int64)
    for i in range(X.shape[0]):
        a = model._weights.weights(z[i : i + 1])[0]
        rows, new = _worst(a, model._labels, int(top[i]), int(flips[i]), model)
        index[i, : rows.size], codes[i, : rows.size] = rows, new
        labels = model._labels.copy()
        labels[rows] = new
        after[i] = model._top(_scores(a, labels, model))[0]
    return Bunch(index=index, y=model.classes_[codes], y_pred=model.classes_[after])


def _scores(a, labels, model) -> NDArray[np.float64]:
    scores = np.bincount(labels, weights=a, minlength=model.classes_.size)
    return np.asarray(scores[None], dtype=np.float64)


def _worst(a, labels, top, n_flips, model) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and new labels of the worst flips, for the rival that they bring nearest."""
    scores = _scores(a, labels, model)[0]
    best: tuple[float, NDArray[np.int64], int] | None = None
    for rival in range(scores.size):
        if rival == top:
            continue
        sign = np.where(labels == top, 1.0, np.where(labels == rival, -1.0, 0.0))
        harm = a * sign + np.abs(a)
        order = np.argsort(-harm, kind="stable")[:n_flips]
        order = order[harm[order] > 0.0]
        left = scores[top] - scores[rival] - harm[order].sum()
        if best is None or left < best[0]:
            best = (left, order, rival)
    assert best is not None  # there are at least two classes
    _, order, rival = best
    return order, np.where(a[order] > 0.0, rival, top)
