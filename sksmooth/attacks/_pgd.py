# SPDX-License-Identifier: BSD-3-Clause
"""Projected gradient descent through a smoothed classifier."""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.linear_model._base import LinearClassifierMixin  # it has no public name
from sklearn.neural_network import MLPClassifier
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from ..evasion._draws import AdditiveDraws
from ..evasion._voting import is_module, is_skorch, unfrozen

# The mean gradient of the loss at noisy copies of an input, for the number of a class.
Gradient = Callable[[NDArray[Any], int], NDArray[Any]]


def pgd_attack(
    est: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    norm: str,
    radius: float | ArrayLike,
    n_steps: int = 20,
    n_draws: int = 64,
    step_size: float | None = None,
    random_state: Any = None,
) -> NDArray[np.float64]:
    """Look for a change of each test input, within a radius, that turns the smoothed answer.

    Projected gradient ascent of the cross-entropy of `y`, its gradient averaged over noisy copies
    of the input (appendix J.3 of [CRK19]_; expectation over the noise). Each step goes along the
    steepest direction of the norm, and the change is projected back into the ball.

    **It proves nothing**: where it fails, another attack may succeed, unless a certificate says
    otherwise. No attack can beat a radius that `certify` returned, at its level, in the norm that
    this is in: l2 with Gaussian noise, l1 with uniform noise.

    Parameters
    ----------
    est : RandomizedSmoothingClassifier
        Fitted, with Gaussian or uniform noise on all columns, on a base that has a gradient:
        scikit-learn's linear classifiers and `MLPClassifier`, a torch module, or a skorch net
        (whose module returns scores or probabilities).
    X : array-like of shape (n_samples, n_features)
        Test inputs.
    y : array-like of shape (n_samples,)
        Labels to get away from, such as the predictions.
    norm : {"l1", "l2", "linf"}
        Norm of the change.
    radius : float or array-like of shape (n_samples,)
        Largest norm of the change, for all inputs or for each; finite, and at least 0. In the units
        of the radii that `certify` returns: feature units, or units of sigma where `est` has one
        sigma per feature.
    n_steps : int, default=20
        Number of steps.
    n_draws : int, default=64
        Noisy copies per step.
    step_size : float, default=None
        Length of a step, as a share of the radius, above 0; if None, ``2.5 / n_steps``.
    random_state : int, RandomState instance or None, default=None
        Seed of the attack's own noise.

    Returns
    -------
    ndarray of float64 of shape (n_samples, n_features)
        The changed inputs, each within its radius of the given one.

    Raises
    ------
    TypeError
        If the base has no gradient that is known here.
    ValueError
        If a parameter is not as described, or a label is not one of ``est.classes_``.

    References
    ----------
    .. [CRK19] J. Cohen, E. Rosenfeld, J. Z. Kolter, "Certified Adversarial Robustness via
       Randomized Smoothing", ICML 2019.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sksmooth import RandomizedSmoothingClassifier
    >>> from sksmooth.attacks import pgd_attack
    >>> X = [[float(i)] for i in range(20)] + [[30.0 + i] for i in range(20)]
    >>> est = RandomizedSmoothingClassifier(LogisticRegression(), sigma=2.0, random_state=0)
    >>> est = est.fit(X, ["ham"] * 20 + ["spam"] * 20)
    >>> changed = pgd_attack(est, [[15.0]], ["ham"], norm="l2", radius=20.0, random_state=0)
    >>> changed.round(9).tolist(), est.predict(changed).tolist()
    ([[35.0]], ['spam'])
    """
    check_is_fitted(est)
    if norm not in ("l1", "l2", "linf"):
        raise ValueError(f"norm must be 'l1', 'l2' or 'linf'. Got {norm!r}.")
    counts: dict[str, Any] = {"n_steps": n_steps, "n_draws": n_draws}
    for name, value in counts.items():
        if not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1. Got {value!r}.")
    share: Any = 2.5 / n_steps if step_size is None else step_size
    is_number = isinstance(share, numbers.Real)
    if not (is_number and 0.0 < share < math.inf):
        raise ValueError(f"step_size must be None or a finite number above 0. Got {step_size!r}.")
    gradient = _gradient(est)
    rows: NDArray[np.float64] = validate_data(est, X, dtype=np.float64, reset=False)
    labels = column_or_1d(y)
    check_consistent_length(rows, labels)
    if not np.all(np.isin(labels, est.classes_)):
        raise ValueError(f"y must hold labels of est, {est.classes_.tolist()!r}. Got others.")
    codes = np.searchsorted(est.classes_, labels)
    radii = _checked_radius(radius, len(rows))
    sigma = est._draws.sigmas
    unit: Any = 1.0 if sigma is None else sigma
    seed = check_random_state(random_state).randint(0, 2**32, size=4, dtype=np.uint32)
    rng = np.random.default_rng(seed)
    changed = np.empty_like(rows)
    for i, (x, code, r) in enumerate(zip(rows, codes, radii, strict=True)):
        delta = np.zeros_like(x)
        for _ in range(n_steps if r > 0.0 else 0):
            copies = x + unit * delta + est._draws.block(n_draws, rng)
            step = _steepest(unit * gradient(copies, int(code)), norm)
            delta = _projected(delta + share * r * step, r, norm)
        changed[i] = _within(x, unit, delta, r, norm)
    return changed


def _checked_radius(radius: Any, n_rows: int) -> NDArray[np.float64]:
    try:
        radii = np.broadcast_to(np.asarray(radius, dtype=np.float64), (n_rows,))
    except (TypeError, ValueError, OverflowError):
        radii = np.array([np.nan])
    if not np.all((radii >= 0.0) & (radii < math.inf)):
        raise ValueError(
            f"radius must be a finite number of at least 0, or one for each of {n_rows} inputs. "
            f"Got {radius!r}."
        )
    return radii


def _size(delta: NDArray[Any], norm: str) -> float:
    order: Any = {"l1": 1, "l2": 2, "linf": math.inf}[norm]
    return float(np.linalg.norm(delta, order))


def _within(x: NDArray[Any], unit: Any, delta: NDArray[Any], r: float, norm: str) -> NDArray[Any]:
    """Return the changed input, with less of the change where rounding made it too large."""
    rounded, less = 1.0 + (len(x) + 4) * np.finfo(float).eps, np.finfo(float).eps
    changed = x + unit * delta
    while _size((changed - x) / unit, norm) * rounded > r:
        changed = x + unit * delta * max(1.0 - less, 0.0)
        less *= 2.0
    return changed


def _steepest(gradient: NDArray[Any], norm: str) -> NDArray[Any]:
    """Return the change of norm 1 that raises the loss most."""
    if norm == "linf":
        return np.sign(gradient)
    if norm == "l1":
        step = np.zeros_like(gradient)
        largest = int(np.argmax(np.abs(gradient)))
        step[largest] = np.sign(gradient[largest])
        return step
    length = float(np.linalg.norm(gradient))
    return gradient / length if length > 0.0 else gradient


def _projected(delta: NDArray[Any], radius: float, norm: str) -> NDArray[Any]:
    if norm == "linf":
        return np.clip(delta, -radius, radius)
    if norm == "l1":
        return _projected_l1(delta, radius)
    length = float(np.linalg.norm(delta))
    return delta * (radius / length) if length > radius else delta


def _projected_l1(delta: NDArray[Any], radius: float) -> NDArray[Any]:
    """Return the nearest point of the l1 ball: all values are lessened by the same amount."""
    size = np.abs(delta)
    if size.sum() <= radius:
        return delta
    ordered = np.sort(size)[::-1]
    amounts = (np.cumsum(ordered) - radius) / np.arange(1, size.size + 1)
    amount = amounts[np.flatnonzero(ordered > amounts)[-1]]
    return np.asarray(np.sign(delta) * np.maximum(size - amount, 0.0))


def _gradient(est: Any) -> Gradient:
    """Return the gradient of the cross-entropy of a base's scores."""
    if not isinstance(getattr(est, "_draws", None), AdditiveDraws):
        raise TypeError(
            "est must be a RandomizedSmoothingClassifier with Gaussian or uniform noise on all "
            f"columns. Got {est!r:.200}."
        )
    base = unfrozen(est.estimator_)
    if is_module(base):
        return _torch_gradient(base)
    if is_skorch(base):
        return _torch_gradient(base.module_)
    if isinstance(base, MLPClassifier):
        return _perceptron_gradient(base.coefs_, base.intercepts_, base.activation)
    if isinstance(base, LinearClassifierMixin):
        return _perceptron_gradient([np.atleast_2d(base.coef_).T], [base.intercept_], "identity")
    raise TypeError(
        "est must have a base with a gradient: a linear classifier, an MLPClassifier, a torch "
        f"module or a skorch net. Got {type(base).__name__}."
    )


# The derivative of an activation, from its value.
_DERIVATIVES: dict[str, Callable[[Any], Any]] = {
    "identity": np.ones_like,
    "relu": lambda a: (a > 0.0).astype(float),
    "tanh": lambda a: 1.0 - a * a,
    "logistic": lambda a: a * (1.0 - a),
}
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda z: z,
    "relu": lambda z: np.maximum(z, 0.0),
    "tanh": np.tanh,
    "logistic": lambda z: 1.0 / (1.0 + np.exp(-np.clip(z, -500.0, 500.0))),
}


def _perceptron_gradient(weights: list[Any], biases: list[Any], activation: str) -> Gradient:
    def gradient(copies: NDArray[Any], code: int) -> NDArray[Any]:
        values = [copies]
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            values.append(_ACTIVATIONS[activation](values[-1] @ w + b))
        scores = values[-1] @ weights[-1] + biases[-1]
        # One score is that of the second class against 0.
        single = scores.shape[1] == 1
        p = softmax(np.column_stack([np.zeros(len(scores)), scores]) if single else scores, axis=1)
        p[:, code] -= 1.0
        back = (p[:, 1:] if single else p) @ weights[-1].T
        for w, a in zip(weights[-2::-1], values[:0:-1], strict=True):
            back = (back * _DERIVATIVES[activation](a)) @ w.T
        mean: NDArray[Any] = back.mean(axis=0)
        return mean

    return gradient


def _torch_gradient(module: Any) -> Gradient:
    torch = sys.modules["torch"]

    def gradient(copies: NDArray[Any], code: int) -> NDArray[Any]:
        like = next(module.parameters())
        was_training = [m for m in module.modules() if m.training]
        module.eval()
        try:
            inputs = torch.as_tensor(copies, dtype=like.dtype, device=like.device)
            inputs.requires_grad_(True)
            scores = module(inputs)
            if scores.shape[1] == 1:
                scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
            target = torch.full((len(copies),), code, device=like.device)
            loss = torch.nn.functional.cross_entropy(scores, target)
            (found,) = torch.autograd.grad(loss, inputs)
        finally:
            for m in was_training:
                m.training = True
        # The loss is the mean over copies, and so is the sum of its gradients.
        mean: NDArray[Any] = found.sum(dim=0).to("cpu", torch.float64).numpy()
        return mean

    return gradient
