# SPDX-License-Identifier: BSD-3-Clause
"""Label flips by influence: an attack on undefended logistic regression."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.special import expit, log_softmax, softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.utils import Bunch, check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted, column_or_1d

from ._label_flips import checked_n_flips

_FLOAT_TYPES = (np.float64, np.float32)


def influence_label_flips(
    est: LogisticRegression,
    X: Any,
    n_flips: int | ArrayLike,
    *,
    X_train: Any,
    y_train: ArrayLike,
) -> Bunch:
    """Flip, for each test input, the training labels with most influence on it, and train again.

    The attack on undefended classifiers of appendix C.1 in [RW20]_, after [KL17]_. Each test input
    is attacked on its own. With L the logistic loss and H the Hessian of the penalised training
    loss at the fitted coefficients, giving the training row z = (x, y) another label, z' = (x, y'),
    changes the loss at a test input x_0, labelled as `est` predicts it, in first order by

        ``- grad L(x_0, predicted)^T H^-1 (grad L(z') - grad L(z))``.

    The labels with the greatest such influence are changed together, a clone of `est` is fitted to
    the changed labels, and its answer at x_0 is returned.

    **It proves nothing.** Where the answer changes, `n_flips` flips are enough to change it: an
    empirical upper bound on the robustness of that prediction. Where it does not, another choice
    of flips may still do it.

    Parameters
    ----------
    est : LogisticRegression
        Fitted on `X_train` and `y_train` without sample weights, with an l2 penalty (finite C) and
        without class weights. Two classes, or several with the multinomial loss.
    X : array-like of shape (n_samples, n_features)
        Test inputs.
    n_flips : int or array-like of int of shape (n_samples,)
        Most training labels to change, for all test inputs or for each one; from 0 to the number
        of training rows.
    X_train : array-like of shape (n_train, n_features)
        Training inputs, dense and numeric.
    y_train : array-like of shape (n_train,)
        Training labels; each of ``est.classes_`` occurs.

    Returns
    -------
    result : Bunch
        With the attributes

        index : ndarray of shape (n_samples, max(n_flips)), int64
            Training rows whose labels were changed, greatest influence first, so that the first r
            columns are the attack with r flips; -1 where there is none. There are fewer than asked
            for where no label is left whose change has positive influence.
        y : ndarray of shape (n_samples, max(n_flips)), dtype of ``est.classes_``
            The new labels of these rows. Of several other classes it is the one of greatest
            influence. Where `index` is -1, the entry has no meaning.
        y_pred : ndarray of shape (n_samples,), dtype of ``est.classes_``
            What the classifier answers after fitting the changed labels: where one class is left,
            that class; where no label was changed, the prediction of `est`.

    Raises
    ------
    TypeError
        If `est` is not a LogisticRegression (for a Pipeline, pass its last step and transformed
        inputs), or `X` or `X_train` is sparse.
    ValueError
        If `est` has another penalty, class weights or one-against-rest classes; if `n_flips` is
        outside its range; if shapes do not fit or the labels are not those of `est`; if H is
        singular in floating point, as with hardly any penalty on separable classes.
    NotFittedError
        If `est` is not fitted.

    See Also
    --------
    worst_label_flips : The best attack there is, against LabelFlipRidgeClassifier.

    Notes
    -----
    H has K (n_features + 1) rows for K > 2 classes and n_features + 1 for two, and is factorised
    once. Every test input costs one fit. That `est` was fitted on the given training data is not
    checked; on other data the attack is merely weaker.

    The intercept has no penalty in scikit-learn, except with the solver ``"liblinear"``: H follows
    that.

    References
    ----------
    .. [KL17] P. W. Koh, P. Liang, "Understanding Black-box Predictions via Influence Functions",
       ICML 2017.
    .. [RW20] E. Rosenfeld, E. Winston, P. Ravikumar, J. Z. Kolter, "Certified Robustness to
       Label-Flipping Attacks via Randomized Smoothing", arXiv:2002.03018.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sksmooth.attacks import influence_label_flips
    >>> X, y = [[0.0], [1.0], [2.0], [5.0], [6.0], [7.0]], ["ham"] * 3 + ["spam"] * 3
    >>> est = LogisticRegression().fit(X, y)
    >>> attack = influence_label_flips(est, [[0.5], [4.0]], [3, 1], X_train=X, y_train=y)
    >>> attack.index.tolist()
    [[0, 1, 2], [5, -1, -1]]
    >>> est.predict([[0.5], [4.0]]).tolist(), attack.y_pred.tolist()
    (['ham', 'spam'], ['spam', 'ham'])
    """
    _check_estimator(est)
    predicted = np.searchsorted(est.classes_, est.predict(X))
    X = check_array(X, dtype=_FLOAT_TYPES, input_name="X")
    # Without names from here on: `est` has looked at those of X, and the clones see arrays alone.
    X_train = check_array(X_train, dtype=_FLOAT_TYPES, input_name="X_train")
    codes = _check_training(est, X_train, y_train)
    counts = checked_n_flips(n_flips, len(X), len(X_train))

    index = np.full((len(X), counts.max()), -1, dtype=np.int64)
    new_codes = np.zeros_like(index)
    pred_codes = predicted.copy()
    # No factorisation where there is nothing to flip.
    rows = np.flatnonzero(counts)
    influences = _influences(est, X[rows], predicted[rows], X_train, codes) if rows.size else ()
    for i, influence in zip(rows, influences, strict=True):
        flipped, labels = _greatest(influence, counts[i])
        if flipped.size == 0:
            continue
        index[i, : flipped.size], new_codes[i, : flipped.size] = flipped, labels
        attacked = codes.copy()
        attacked[flipped] = labels
        pred_codes[i] = _answer(est, X_train, attacked, X[i])
    classes = est.classes_
    return Bunch(index=index, y=classes[new_codes], y_pred=classes[pred_codes])


def _influences(
    est: LogisticRegression,
    X: NDArray[Any],
    predicted: NDArray[np.intp],
    X_train: NDArray[Any],
    codes: NDArray[np.intp],
) -> Iterator[NDArray[np.float64]]:
    """Yield, for each test input, the influence of giving each training row each class.

    Each is of shape (n_train, n_classes), -inf at a row's own label, and in units of 1 - p, p being
    the probability of the predicted class: divided by it, the numbers keep their order and do not
    vanish where p rounds to 1.

    The gradient of the loss of (x, y) in the coefficients of class k is ``(p_k - [y = k]) x``. It
    differs between the labels y' and y by ``([y = k] - [y' = k]) x``; with v = H^-1 g, of one row
    per class, the influence is ``(v[y'] - v[y]) @ x``. Of two classes only the second has
    coefficients: v[0] = 0.
    """
    n_classes = len(est.classes_)
    free = np.arange(1 if n_classes == 2 else 0, n_classes)
    A_train, A = _with_constant(est, X_train), _with_constant(est, X)
    H = _hessian(est, A_train, _probabilities(est, X_train), free)
    # Scaled to a unit diagonal, so that features in different units do no harm.
    diagonal = H.diagonal()
    scale = 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
    try:
        factor = cho_factor(H * np.outer(scale, scale), lower=True)
    except LinAlgError as error:
        raise ValueError(
            "the Hessian of est's training loss is singular in floating point, so that influences "
            f"are not defined; a stronger penalty than C={est.C!r} helps."
        ) from error
    weight = _gradient_weights(est, X, predicted)
    own = np.arange(len(codes))
    for x, w in zip(A, weight[:, free], strict=True):
        gradient = np.outer(w, x).ravel()
        v = (scale * cho_solve(factor, scale * gradient)).reshape(len(free), -1)
        score = np.zeros((len(codes), n_classes))
        score[:, free] = A_train @ v.T
        influence = score - score[own, codes][:, None]
        influence[own, codes] = -math.inf
        yield influence


def _hessian(
    est: LogisticRegression,
    A: NDArray[np.float64],
    p: NDArray[np.float64],
    free: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Hessian of sum_i L(z_i) + |w|^2 / (2 C), the loss of scikit-learn divided by C."""
    n_columns = A.shape[1]
    H = np.zeros((len(free), n_columns, len(free), n_columns))
    for a, class_a in enumerate(free):
        # p_a (1 - p_a), where 1 - p_a may round to 0, from the other probabilities.
        others = np.delete(p, class_a, axis=1).sum(axis=1)
        for b, class_b in enumerate(free[: a + 1]):
            weight = p[:, class_a] * (others if a == b else -p[:, class_b])
            H[a, :, b] = H[b, :, a] = A.T @ (A * weight[:, None])
    penalised = np.ones(n_columns)
    if est.fit_intercept and est.solver != "liblinear":
        penalised[-1] = 0.0
        if len(free) > 1:
            # The same constant on all intercepts changes no probability, so that H is singular in
            # this direction alone. Every gradient is orthogonal to it: what is added here makes H
            # invertible and changes no product H^-1 g.
            H[:, -1, :, -1] += 1.0
    size = len(free) * n_columns
    flat: NDArray[np.float64] = H.reshape(size, size)
    flat[np.diag_indices(size)] += np.tile(penalised / est.C, len(free))
    return flat


def _with_constant(est: LogisticRegression, X: NDArray[Any]) -> NDArray[np.float64]:
    """X with the column that the intercept multiplies, if there is one."""
    X = X.astype(np.float64, copy=False)
    if not est.fit_intercept:
        return X
    constant = est.intercept_scaling if est.solver == "liblinear" else 1.0
    return np.column_stack([X, np.full(len(X), float(constant))])


def _logits(est: LogisticRegression, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the logits of all classes, of shape (n, n_classes); with two, the first has 0."""
    coef, intercept = est.coef_.astype(np.float64), np.asarray(est.intercept_, dtype=np.float64)
    logits = X @ coef.T + intercept
    return np.column_stack([np.zeros(len(X)), logits]) if len(est.classes_) == 2 else logits


def _probabilities(est: LogisticRegression, X: NDArray[Any]) -> NDArray[np.float64]:
    logits = _logits(est, X)
    if logits.shape[1] == 2:
        # Each from its own tail.
        return np.column_stack([expit(-logits[:, 1]), expit(logits[:, 1])])
    return softmax(logits, axis=1)


def _gradient_weights(
    est: LogisticRegression, X: NDArray[Any], predicted: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return (p_k - [predicted = k]) / (1 - p_predicted) for all classes k: -1 at the predicted."""
    logits = _logits(est, X)
    own = np.arange(len(logits))
    logits[own, predicted] = -math.inf
    weight: NDArray[np.float64] = np.exp(log_softmax(logits, axis=1))
    weight[own, predicted] = -1.0
    return weight


def _greatest(
    influence: NDArray[np.float64], n_flips: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of greatest positive influence, in this order, and their best new classes.

    Ties go to the lower row and to the lower class.
    """
    best = influence.max(axis=1)
    rows = np.argsort(-best, kind="stable")[:n_flips]
    rows = rows[best[rows] > 0.0]
    return rows, influence[rows].argmax(axis=1)


def _answer(
    est: LogisticRegression, X_train: NDArray[Any], codes: NDArray[np.intp], x: NDArray[Any]
) -> int:
    """Return what a clone of `est`, fitted to these labels, answers at x: the class's number."""
    if (codes == codes[0]).all():  # no LogisticRegression fits a single class
        return int(codes[0])
    return int(clone(est).fit(X_train, codes).predict(x[None, :])[0])


def _check_estimator(est: Any) -> None:
    if not isinstance(est, LogisticRegression) or isinstance(est, LogisticRegressionCV):
        raise TypeError(
            f"est must be a fitted LogisticRegression, got {type(est).__name__}. For a Pipeline, "
            "pass its last step and transformed inputs; for a search, its best estimator."
        )
    check_is_fitted(est)
    # `penalty` until scikit-learn 1.7; since 1.8 it is "deprecated" unless given, and `l1_ratio`
    # and C say the same. An l1_ratio counts only with an elastic net there.
    penalty = getattr(est, "penalty", "deprecated")
    mixed = penalty in ("deprecated", "elasticnet") and bool(est.l1_ratio)
    if penalty not in ("deprecated", "l2", "elasticnet") or mixed or math.isinf(est.C):
        raise ValueError(
            "est must have an l2 penalty and a finite C, got "
            f"penalty={penalty!r}, l1_ratio={est.l1_ratio!r}, C={est.C!r}."
        )
    if est.class_weight is not None:
        raise ValueError(
            "est must have no class weights, which would move with the labels, got "
            f"class_weight={est.class_weight!r}."
        )
    # Removed in scikit-learn 1.8. With two classes "multinomial" had coefficients of its own.
    multi_class = getattr(est, "multi_class", "deprecated")
    several = len(est.classes_) > 2
    one_loss = multi_class in ("deprecated", "auto", "multinomial" if several else "ovr")
    if not one_loss or (several and est.solver == "liblinear"):
        raise ValueError(
            "est must have one logistic loss, binary or multinomial, got "
            f"multi_class={multi_class!r} and solver={est.solver!r} for {len(est.classes_)} "
            "classes."
        )


def _check_training(
    est: LogisticRegression, X_train: NDArray[Any], y_train: ArrayLike
) -> NDArray[np.intp]:
    """Return the labels as positions in ``est.classes_``."""
    if X_train.shape[1] != est.n_features_in_:
        raise ValueError(
            f"X_train must have the {est.n_features_in_} features that est was fitted on, got "
            f"{X_train.shape[1]}."
        )
    y_train = column_or_1d(y_train)
    check_consistent_length(X_train, y_train)
    labels, codes = np.unique(y_train, return_inverse=True)
    if not np.array_equal(labels, est.classes_):
        raise ValueError(
            "y_train must be the labels that est was fitted on: its classes are "
            f"{est.classes_.tolist()!r}, those of y_train {labels.tolist()!r}."
        )
    return codes
