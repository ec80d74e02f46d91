# SPDX-License-Identifier: BSD-3-Clause
"""The contract that all certified estimators share: what `certify` returns, and about what."""

from __future__ import annotations

import html
import numbers
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV  # it has no public name
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from ._version import __version__
from .exceptions import NotCertifiableError, OtherVersionWarning, UncoveredPreprocessingWarning

__all__ = ["CertifiedBounds", "CertifiedPrediction", "ThreatModel", "certify", "find_certifier"]

_TARGETS = {
    "train_features": "training features",
    "train_labels": "training labels",
    "test_features": "the test input's features",
}

# Where scikit-learn's transformers ignore y, but for those whose tag says that they require it
# (TargetEncoder). Elsewhere a step may use y and no tag tells: SelectKBest and PLS do not require
# it, and `fit` of other packages takes y=None whether it looks at y or not.
_LABELS_IGNORED = (
    "sklearn.cluster.",
    "sklearn.decomposition.",
    "sklearn.feature_extraction.",
    "sklearn.feature_selection._variance_threshold",
    "sklearn.impute.",
    "sklearn.kernel_approximation",
    "sklearn.manifold.",
    "sklearn.preprocessing.",
    "sklearn.random_projection",
)


# Under this name a stored estimator tells the version that stored it.
_VERSION_KEY = "_sksmooth_version"

# True while a scorer certifies. Estimators that draw noise in `certify` draw other noise then: a
# search has looked at what its scores came from, and a certificate must not come from the same.
FOR_A_SCORE: ContextVar[bool] = ContextVar("sksmooth_for_a_score", default=False)


class CertifiedPrediction(NamedTuple):
    """What ``certify(X)`` returns: predictions, and how much change each one withstands."""

    y_pred: np.ndarray
    radii: np.ndarray


class CertifiedBounds(NamedTuple):
    """What ``certify(X, return_bounds=True)`` returns: the probability bounds as well."""

    y_pred: np.ndarray
    radii: np.ndarray
    p_a: np.ndarray
    p_b: np.ndarray


@dataclass(frozen=True)
class ThreatModel:
    """What a certificate of an estimator is about, as data.

    A prediction with certified radius ``r >= 0`` stays the same under every change of what
    `target` names, of size at most ``r`` in `norm`, measured in `unit`.

    Parameters
    ----------
    norm : str
        Norm of the change: ``"l2"``, ``"l1"``, ``"linf"``, ``"l0"`` (changed entries) or
        ``"flips"`` (changed labels).
    target : tuple of {"train_features", "train_labels", "test_features"}
        What an attacker may change; everything else is taken as fixed.
    unit : str
        Unit of the radius, such as ``"feature units"``.
    exact : bool
        True if the certificate holds with certainty, False if at `confidence_level`, over the
        estimator's own random draws.
    confidence_level : float in (0, 1), default=None
        Level of each certificate; None if `exact`.
    n_statements : int, default=1
        Over how many declared statements the error is divided, at least 1; with 1, each row's
        certificate holds at the level on its own.
    classes_given : bool, default=False
        True if the list of classes was given; False if it was read from the training labels, and
        the certificate speaks of training sets with that same list only.

    Raises
    ------
    ValueError
        If a value is not as described, or `exact` and `confidence_level` contradict each other.

    Examples
    --------
    >>> from sksmooth import ThreatModel
    >>> threat_model = ThreatModel(
    ...     norm="l2", target=("train_features",), unit="feature units", exact=True
    ... )
    >>> threat_model.radius_label()
    'certified l2 radius of training features (feature units)'
    """

    norm: str
    target: tuple[str, ...]
    unit: str
    exact: bool
    confidence_level: float | None = None
    n_statements: int = 1
    classes_given: bool = False

    def __post_init__(self) -> None:
        names = self.target if isinstance(self.target, tuple) else ()
        if not names or len(set(names)) < len(names) or not set(names) <= set(_TARGETS):
            raise ValueError(
                f"target must be a non-empty tuple of {sorted(_TARGETS)}, each at most once. "
                f"Got {self.target!r}."
            )
        level = self.confidence_level
        if self.exact != (level is None) or not (level is None or 0 < level < 1):
            raise ValueError(
                "confidence_level must be None for an exact certificate and a number in (0, 1) for "
                f"another. Got exact={self.exact!r}, confidence_level={level!r}."
            )
        count: Any = self.n_statements
        if not isinstance(count, numbers.Integral) or count < 1:
            raise ValueError(f"n_statements must be an integer of at least 1. Got {count!r}.")

    @property
    def changed(self) -> str:
        """What may change, in words.

        Returns
        -------
        str
            Such as ``"training features"``.
        """
        return " and ".join(_TARGETS[name] for name in self.target)

    @property
    def how_sure(self) -> str:
        """How sure each certificate is, in words.

        Returns
        -------
        str
            ``"exactly"``, or the confidence level and what it is a level of.
        """
        if self.confidence_level is None:
            return "exactly"
        # Every digit: rounded, 0.9999999 would read as 1.
        level = repr(float(self.confidence_level))
        if self.n_statements > 1:
            return f"at joint confidence {level} over {self.n_statements} predictions"
        return f"at confidence {level} per prediction"

    def radius_label(self) -> str:
        """Return a label for an axis or a column of radii.

        Returns
        -------
        str
            Norm, target and unit.
        """
        return f"certified {self.norm} radius of {self.changed} ({self.unit})"

    def describe(self) -> str:
        """Return the guarantee as one sentence.

        Returns
        -------
        str
            What may change, how it is measured, how sure the guarantee is.

        Examples
        --------
        >>> from sksmooth import ThreatModel
        >>> print(ThreatModel("l2", ("train_features",), "feature units", exact=True).describe())
        Certifies against changes of training features, by l2 norm in feature units, exactly, \
for training sets with the same classes.
        """
        classes = ""
        if not self.classes_given and self.target != ("test_features",):
            classes = ", for training sets with the same classes"
        return (
            f"Certifies against changes of {self.changed}, by {self.norm} norm in {self.unit}, "
            f"{self.how_sure}{classes}."
        )


class CertifiedClassifierMixin(ClassifierMixin):
    """What certified classifiers share; fitted, they have `classes_` and `threat_model_`."""

    def _certificate(self, top, radii, tail_a, p_b, return_bounds):
        """Assemble the answer of `certify` from class indices, radii and upper bounds."""
        y_pred = self.classes_[top]
        if not return_bounds:
            return CertifiedPrediction(y_pred, radii)
        # 1 - tail_a rounds to nearest: one step down makes it a lower bound.
        p_a = np.maximum(np.nextafter(1.0 - tail_a, 0.0), 0.0)
        return CertifiedBounds(y_pred, radii, p_a, np.minimum(p_b, tail_a))

    def __getstate__(self):
        return {**super().__getstate__(), _VERSION_KEY: __version__}

    def __setstate__(self, state):
        state = dict(state)
        version = state.pop(_VERSION_KEY, "unknown")
        if version != __version__:
            warnings.warn(
                f"This {type(self).__name__} was stored by sksmooth {version} and is loaded by "
                f"{__version__}: what it certifies may differ. Train it again to be sure.",
                OtherVersionWarning,
                stacklevel=2,
            )
        super().__setstate__(state)

    def _threat_model(self) -> ThreatModel | None:
        try:
            return getattr(self, "threat_model_", None)
        except ValueError:  # of parameters set since `fit`, which certify will refuse
            return None

    def __repr__(self, N_CHAR_MAX=700):
        text = super().__repr__(N_CHAR_MAX)
        threat_model = self._threat_model()
        return text if threat_model is None else f"{text}  # {threat_model.describe()}"

    def _with_threat_model(self, page: str) -> str:
        threat_model = self._threat_model()
        if threat_model is None:
            return page
        return f'{page}<p class="sksmooth-threat-model">{html.escape(threat_model.describe())}</p>'

    def _repr_html_inner(self):
        return self._with_threat_model(super()._repr_html_inner())

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] = self._with_threat_model(bundle["text/html"])
        return bundle


@contextmanager
def unchanged_on_failure(estimator: Any) -> Iterator[None]:
    """Leave an estimator as it was where what is done within fails or is interrupted.

    Otherwise names of new columns could be left on the model of the old ones.
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def subtract_from_radii(radii: np.ndarray, charge: np.ndarray) -> np.ndarray:
    """Subtract an error in the units of the radii, rounding down; below 0 is abstention (-1).

    A certificate computed for data that are off by `charge` holds for the true data with a radius
    smaller by as much: the ball around them lies inside the other.
    """
    less = np.nextafter(radii - charge, -np.inf)
    return np.where((radii >= 0.0) & (less >= 0.0), less, -1.0)


def distinct_bounds(
    tail_a: np.ndarray, p_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the different pairs of bounds, and for each row which it has.

    Counts of votes repeat from row to row, and each pair needs its radius once.
    """
    pairs, row = np.unique(np.column_stack([tail_a, p_b]), axis=0, return_inverse=True)
    return pairs[:, 0], pairs[:, 1], row.reshape(-1)


def check_n_poisoned(
    n_poisoned: Any, n_rows: int, rows: str = "the number of training rows"
) -> int | None:
    """Return a valid `n_poisoned`, an integer in 1..n_rows or None; `rows` says what n_rows is."""
    if n_poisoned is None:
        return None
    is_integer = isinstance(n_poisoned, numbers.Integral) and not isinstance(n_poisoned, bool)
    if not is_integer or not 1 <= n_poisoned <= n_rows:
        raise ValueError(
            f"n_poisoned must be None or an integer from 1 to {n_rows}, {rows}. Got "
            f"{n_poisoned!r} instead."
        )
    return int(n_poisoned)


def encode_labels(y: Any, classes: Any, owner: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted classes, and the training labels as their numbers.

    `classes` is the parameter of that name of the estimator `owner`: a list, or None to read the
    classes from `y`.
    """
    found, labels = np.unique(y, return_inverse=True)
    if classes is None:
        known = found
    else:
        try:
            known = np.unique(np.asarray(classes))
        except TypeError:
            known = np.empty(0)
        if np.ndim(classes) != 1 or known.size < len(classes):
            raise ValueError(
                f"classes must be a list of different classes that can be sorted. Got {classes!r}."
            )
        unknown = sorted(set(found.tolist()) - set(known.tolist()))
        if unknown:
            raise ValueError(
                f"classes must contain every training label. Got classes={classes!r} and "
                f"labels {unknown!r} that are not among them."
            )
        labels = np.searchsorted(known, found)[labels]
    if known.size < 2:
        raise ValueError(
            f"{owner} needs at least 2 classes. Got 1 class: {known.tolist()[0]!r}. Name all "
            "classes with the parameter classes."
        )
    return known, labels.reshape(-1).astype(np.int64, copy=False)


def check_weights_ignore_labels(weights: np.ndarray, labels: np.ndarray) -> None:
    """Refuse weights that are a function of the labels: whoever changes labels would move them."""
    of_class = [np.unique(weights[labels == c]) for c in np.unique(labels)]
    if all(w.size == 1 for w in of_class) and np.unique(weights).size > 1:
        raise ValueError(
            "sample_weight must not depend on the labels: whoever changes labels would change "
            "the weights too, and no certificate covers that. Got one weight per class."
        )


def certify(estimator: Any, X: Any, **certify_params: Any) -> CertifiedPrediction | CertifiedBounds:
    """Certify predictions of an estimator that may be wrapped in pipelines and searches.

    A ``Pipeline``, a fitted search (``GridSearchCV`` and the like) or a ``FrozenEstimator`` has no
    `certify` of its own. This function looks inside for the estimator that has, sends `X` through
    the steps before it, and certifies what comes out.

    Parameters
    ----------
    estimator : estimator object
        A fitted certified estimator, or a fitted pipeline, search or frozen estimator around one.
    X : array-like of shape (n_samples, n_features)
        Test inputs, as `estimator.predict` takes them.
    **certify_params : dict
        Passed to the inner estimator's `certify`, such as ``n_poisoned=`` or ``return_bounds=``.

    Returns
    -------
    CertifiedPrediction or CertifiedBounds
        ``(y_pred, radii)``, or ``(y_pred, radii, p_a, p_b)`` with ``return_bounds=True``: what the
        inner estimator's `certify` returns.

    Raises
    ------
    NotCertifiableError
        If no certified estimator is inside.
    NotFittedError
        If the estimator is not fitted, or is a search with ``refit=False``.

    Warns
    -----
    UncoveredPreprocessingWarning
        Once per call, if a step learned from data that the threat model leaves to the attacker: the
        certificate speaks of what reaches the estimator, not of a scaler that moves with poisoned
        rows. Covered are steps that learn nothing, by scikit-learn's tag ``requires_fit``, and
        steps that are each wrapped in a ``FrozenEstimator`` (fitted on trusted data). Where only
        labels are under attack, so are those of scikit-learn's steps that never look at them; of
        a step from elsewhere this is not known, and it is named. Parts of a ``Pipeline``,
        ``FeatureUnion`` or ``ColumnTransformer`` are judged one by one.

    Notes
    -----
    Radii are in units of the features that reach the inner estimator. Hyperparameters chosen by a
    search are taken as fixed: choose them on data that the attacker cannot touch.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> import numpy as np
    >>> import sksmooth
    >>> X, y = np.array([[0.0], [1.0], [8.0], [9.0]]), ["ham", "ham", "spam", "spam"]
    >>> model = make_pipeline(
    ...     FunctionTransformer(np.sqrt), sksmooth.SmoothedKNNClassifier(n_neighbors=1, sigma=0.5)
    ... ).fit(X, y)
    >>> result = sksmooth.certify(model, [[0.5]])
    >>> print(result.y_pred[0], f"{result.radii[0]:.2f}")
    ham 1.44
    """
    certifier, steps = _unwrap(estimator)
    check_is_fitted(certifier)
    X = _transformed(X, steps)
    uncovered = [name for s in steps for name in _uncovered(s, certifier.threat_model_)]
    if uncovered:
        warnings.warn(
            f"The certificate of {type(certifier).__name__} covers changes of "
            f"{certifier.threat_model_.changed} that reach it, but not what {', '.join(uncovered)} "
            "learned from them. Fit such steps on trusted data (wrapped in FrozenEstimator), or "
            "give the estimator one sigma per feature instead of a scaler.",
            UncoveredPreprocessingWarning,
            stacklevel=2,
        )
    return certifier.certify(X, **certify_params)


def transform_before(estimator: Any, X: Any) -> Any:
    """Send `X` through the fitted steps in front of the certified estimator inside."""
    return _transformed(X, _unwrap(estimator)[1])


def _transformed(X: Any, steps: list[Any]) -> Any:
    for step in steps:
        if not hasattr(step, "fit_resample"):  # a resampler acts in `fit` alone
            X = step.transform(X)
    return X


def find_certifier(estimator: Any) -> Any:
    """Return the certified estimator inside pipelines, searches and frozen estimators.

    Parameters
    ----------
    estimator : estimator object

    Returns
    -------
    estimator object
        The innermost one, with `certify` and, once fitted, `threat_model_`.

    Raises
    ------
    NotCertifiableError
        If there is none.
    NotFittedError
        If a pipeline or search around it is not fitted, or a search has ``refit=False``.
    """
    return _unwrap(estimator)[0]


def _unwrap(estimator: Any) -> tuple[Any, list[Any]]:
    """Return the certified estimator inside, and the fitted steps in front of it."""
    steps: list[Any] = []
    inner = estimator
    # A FrozenEstimator passes on `certify`, and is opened all the same.
    while isinstance(inner, FrozenEstimator) or not hasattr(inner, "certify"):
        if isinstance(inner, FrozenEstimator):
            inner = inner.estimator
        elif isinstance(inner, Pipeline):
            check_is_fitted(inner)
            steps += [s for _, s in inner.steps[:-1] if s is not None and not isinstance(s, str)]
            inner = inner.steps[-1][1]
        elif isinstance(inner, BaseSearchCV) or hasattr(inner, "best_estimator_"):
            inner = _best_estimator(inner)
        else:
            raise NotCertifiableError(
                f"{type(inner).__name__} has no certify method. Pass a sksmooth estimator, or a "
                "Pipeline, search or FrozenEstimator whose final estimator is one."
            )
    return inner, steps


def _best_estimator(search: Any) -> Any:
    if not hasattr(search, "best_estimator_") and not search.refit:
        raise NotFittedError(
            f"{type(search).__name__} with refit=False has no fitted estimator to certify. Fit it "
            "with refit=True, or fit an estimator with its best_params_."
        )
    check_is_fitted(search, "best_estimator_")
    return search.best_estimator_


def _uncovered(step: Any, threat_model: ThreatModel) -> list[str]:
    """Names of what moved with data under attack: the fitted step, or parts of it."""
    if step is None or isinstance(step, (str, FrozenEstimator)):  # "passthrough", "drop"
        return []
    features = "train_features" in threat_model.target
    if isinstance(step, ColumnTransformer):
        if features and any(callable(columns) for *_, columns in step.transformers):
            return [type(step).__name__]  # such columns are chosen by a look at the rows
        parts = [part for _, part, _ in step.transformers] + [step.remainder]
    elif isinstance(step, FeatureUnion):
        parts = [part for _, part in step.transformer_list]
    elif isinstance(step, Pipeline):
        parts = [part for _, part in step.steps]
    else:
        learned = features or ("train_labels" in threat_model.target and _may_see_labels(step))
        return [type(step).__name__] if learned and _requires_fit(step) else []
    return [name for part in parts for name in _uncovered(part, threat_model)]


def _requires_fit(step: Any) -> bool:
    # A step that is no scikit-learn estimator has no tags to say that it learns nothing.
    return not hasattr(step, "__sklearn_tags__") or get_tags(step).requires_fit


def _may_see_labels(step: Any) -> bool:
    ignored = type(step).__module__.startswith(_LABELS_IGNORED)
    return not ignored or get_tags(step).target_tags.required
