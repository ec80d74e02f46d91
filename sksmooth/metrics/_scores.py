# SPDX-License-Identifier: BSD-3-Clause
"""Certified accuracy, certified rate and average certified radius.

All of them count rows by one rule, ``radii >= radius``. Weber et al. (RAB, section 7.1) and Cohen
et al. (section 4) differ on the boundary, R > r and R >= r: the radii of this package belong to
closed balls, so a row with exactly the radius asked for counts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._validation import check_radii, check_radius, check_sample_weight, correct_rows


def certified_accuracy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    radii: ArrayLike,
    radius: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
) -> float | NDArray[np.float64]:
    """Share of rows that are both predicted correctly and certified at a radius.

    ``certified_accuracy(r) = mean([y_pred_i == y_true_i and radii_i >= r])``

    No attack of size at most r can bring the accuracy on these rows below this value, as far as
    the certificates hold: always where they are exact, and row by row at the confidence level
    where they come from sampling (the "approximate certified test set accuracy" of [1]_).

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.
    y_pred : array-like of shape (n_samples,)
        Labels predicted by ``certify``.
    radii : array-like of shape (n_samples,)
        Radii returned by ``certify``; -1 is an abstention.
    radius : float or array-like of float, at least 0
        Radius, or radii, to score at, in the unit of `radii`. At 0, every correct row counts
        that was not abstained on.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, at least 0. All rows weigh the same where it is None.

    Returns
    -------
    float or ndarray of float64, the shape of `radius`
        Values in [0, 1], not increasing in `radius`.

    Raises
    ------
    ValueError
        If `radius` is negative or not finite; if an entry of `radii` is not finite, or negative
        and not -1; if lengths differ; if labels are missing or of two kinds.

    References
    ----------
    .. [1] Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized Smoothing",
       ICML 2019, section 4.

    Examples
    --------
    >>> from sksmooth.metrics import certified_accuracy
    >>> y_true, y_pred = ["spam", "ham", "ham", "spam"], ["spam", "ham", "spam", "spam"]
    >>> radii = [0.5, -1, 0.7, 0.2]
    >>> certified_accuracy(y_true, y_pred, radii, 0.5)
    0.25
    >>> certified_accuracy(y_true, y_pred, radii, [0, 0.2, 0.5, 0.6]).tolist()
    [0.5, 0.5, 0.25, 0.0]
    """
    radii = check_radii(radii)
    correct = correct_rows(y_true, y_pred, radii.size)
    weight = check_sample_weight(sample_weight, radii.size)
    return _float_or_array(share_at(correct, radii, check_radius(radius), weight))


def certified_rate(
    radii: ArrayLike, radius: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    """Share of rows that are certified at a radius, correct or not.

    ``certified_rate(r) = mean([radii_i >= r])``

    It needs no true labels: it says how often an attack of size at most r provably changes
    nothing, not how often the prediction is right (Table 1 of [1]_).

    Parameters
    ----------
    radii : array-like of shape (n_samples,)
        Radii returned by ``certify``; -1 is an abstention.
    radius : float or array-like of float, at least 0
        Radius, or radii, to score at, in the unit of `radii`. At 0, every row counts that was
        not abstained on.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, at least 0. All rows weigh the same where it is None.

    Returns
    -------
    float or ndarray of float64, the shape of `radius`
        Values in [0, 1], not increasing in `radius`.

    Raises
    ------
    ValueError
        If `radius` is negative or not finite; if an entry of `radii` is not finite, or negative
        and not -1; if lengths differ.

    References
    ----------
    .. [1] Weber, Xu, Karlas, Zhang, Li, "RAB: Provable Robustness Against Backdoor Attacks",
       section 7.1.

    Examples
    --------
    >>> from sksmooth.metrics import certified_rate
    >>> certified_rate([3, 0, -1, 1], 1)
    0.5
    >>> certified_rate([3, 0, -1, 1], [0, 1, 2, 4]).tolist()
    [0.75, 0.5, 0.25, 0.0]
    """
    radii = check_radii(radii)
    weight = check_sample_weight(sample_weight, radii.size)
    everyone = np.ones(radii.size, dtype=bool)
    return _float_or_array(share_at(everyone, radii, check_radius(radius), weight))


def average_certified_radius(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    radii: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Mean radius over all rows, where a wrong or abstained row counts as 0.

    ``ACR = mean(radii_i * [y_pred_i == y_true_i and radii_i >= 0])``

    It is the area under the certified-accuracy curve, in the unit of `radii` (introduced in [1]_,
    section 5). One number hides a trade: a few large radii can pay for many wrong rows.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.
    y_pred : array-like of shape (n_samples,)
        Labels predicted by ``certify``.
    radii : array-like of shape (n_samples,)
        Radii returned by ``certify``; -1 is an abstention.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, at least 0. All rows weigh the same where it is None.

    Returns
    -------
    float
        At least 0, in the unit of `radii`.

    Raises
    ------
    ValueError
        If an entry of `radii` is not finite, or negative and not -1; if lengths differ; if labels
        are missing or of two kinds.

    References
    ----------
    .. [1] Zhai et al., "MACER: Attack-free and Scalable Robust Training via Maximizing Certified
       Radius", ICLR 2020.

    Examples
    --------
    >>> from sksmooth.metrics import average_certified_radius
    >>> average_certified_radius([1, 1, 0, 0], [1, 1, 1, 0], [0.5, -1, 4.0, 1.5])
    0.5
    """
    radii = check_radii(radii)
    correct = correct_rows(y_true, y_pred, radii.size)
    weight = check_sample_weight(sample_weight, radii.size)
    # fsum: the same value for every order of the rows.
    gained = math.fsum(weight * radii.astype(np.float64) * (correct & (radii >= 0)))
    return gained / math.fsum(weight)


def certified_accuracy_curve(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    radii: ArrayLike,
    *,
    radii_grid: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Certified accuracy as a function of the radius.

    The curve is a step function. With the default grid it is given exactly: on each interval
    ``(grid[k - 1], grid[k]]`` it is constant and equals ``accuracy[k]``, and beyond ``grid[-1]``
    it is 0. That is what ``matplotlib`` draws with ``drawstyle="steps-pre"``; "steps-post" would
    claim each step for radii at which it no longer holds.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.
    y_pred : array-like of shape (n_samples,)
        Labels predicted by ``certify``.
    radii : array-like of shape (n_samples,)
        Radii returned by ``certify``; -1 is an abstention.
    radii_grid : array-like of shape (n_radii,), default=None
        Radii to evaluate at, at least 0 and strictly increasing. By default 0 and every distinct
        radius that was certified. Read as steps, as above, a coarser grid understates the
        accuracy between its points and never overstates it.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, at least 0. All rows weigh the same where it is None.

    Returns
    -------
    grid : ndarray of shape (n_radii,)
        Radii, strictly increasing; integers where `radii` (or `radii_grid`) are.
    accuracy : ndarray of shape (n_radii,)
        :func:`certified_accuracy` at each of them, not increasing.

    Raises
    ------
    ValueError
        As :func:`certified_accuracy` does, and if `radii_grid` is empty or not increasing.

    Examples
    --------
    >>> from sksmooth.metrics import certified_accuracy_curve
    >>> grid, accuracy = certified_accuracy_curve([0, 1, 1, 1], [0, 1, 1, 0], [2, 1, -1, 3])
    >>> grid.tolist(), accuracy.tolist()
    ([0, 1, 2, 3], [0.5, 0.5, 0.25, 0.0])
    """
    radii = check_radii(radii)
    correct = correct_rows(y_true, y_pred, radii.size)
    weight = check_sample_weight(sample_weight, radii.size)
    if radii_grid is None:
        grid = np.unique(np.append(radii[radii >= 0], radii.dtype.type(0)))
    else:
        grid = np.asarray(radii_grid)
        # As floats: differences of unsigned integers wrap around instead of turning negative.
        checked = check_radius(grid)
        if checked.ndim != 1 or checked.size == 0 or (np.diff(checked) <= 0).any():
            raise ValueError(
                "radii_grid must have one dimension, at least one entry and be strictly "
                f"increasing, got {radii_grid!r}."
            )
    return grid, share_at(correct, radii, check_radius(grid), weight)


def share_at(
    counted: NDArray[np.bool_],
    radii: NDArray[Any],
    radius: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the weighted share of rows with ``counted & (radii >= radius)``, for each radius.

    One sort serves every radius. Sums run from the largest radius down, in the same order for any
    choice of `counted`: floating-point addition and division are monotone, so the share never
    rises with the radius, never exceeds that of a superset, and is at most 1. Without weights the
    sums are counts below 2**53 and the share is the correctly rounded quotient.

    The inputs are taken as checked. The radius -1 is allowed here: it counts abstentions as well.
    """
    exact_radii = radii.astype(np.float64)  # As float32, the radius asked for could round down.
    order = np.argsort(exact_radii, kind="stable")
    tail = np.append(np.cumsum((weight * counted)[order][::-1])[::-1], 0.0)
    total = np.cumsum(weight[order][::-1])[-1]
    # side="left": the first row that is not below the radius, so that equality is certified.
    return tail[np.searchsorted(exact_radii[order], radius, side="left")] / total


def _float_or_array(values: NDArray[np.float64]) -> float | NDArray[np.float64]:
    return float(values) if values.ndim == 0 else values
