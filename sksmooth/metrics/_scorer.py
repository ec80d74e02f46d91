# SPDX-License-Identifier: BSD-3-Clause
"""Scorers for scikit-learn's searches and cross-validation."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.utils.metadata_routing import MetadataRequest

from .._certified import FOR_A_SCORE, certify
from ._scores import average_certified_radius, certified_accuracy, certified_rate
from ._validation import check_radius

_METRICS = ("accuracy", "rate", "acr")


def make_certified_scorer(
    metric: str = "accuracy", *, radius: float | None = None, **certify_params: Any
) -> _CertifiedScorer:
    """Make a scorer from a metric of certificates.

    The scorer certifies the rows it is given with :func:`sksmooth.certify`, so it works for
    pipelines and searches around a certifying estimator too. It can be used wherever
    scikit-learn takes ``scoring``, alone or in a dict of several. Greater is better.

    A search with this scorer chooses hyperparameters by looking at the data. Certificates hold
    for fixed hyperparameters: choose them on trusted data. They also hold for noise that nobody
    looked at: `RandomizedSmoothingClassifier` draws other noise for scores than for certificates.
    Ensembles draw theirs in `fit`: with an integer as ``random_state`` all candidates of a search,
    and its winner, have the same. Leave it None in the search, or train the winner again with
    another.

    Parameters
    ----------
    metric : {"accuracy", "rate", "acr"}, default="accuracy"
        :func:`certified_accuracy`, :func:`certified_rate` (needs no y) or
        :func:`average_certified_radius`.
    radius : float, default=None
        Radius to score at, at least 0, in the unit of the estimator's threat model. "accuracy"
        and "rate" need it; "acr" takes none.
    **certify_params : dict
        Passed on to ``certify``, such as ``n_poisoned=10``.

    Returns
    -------
    callable
        An object with the signature ``scorer(estimator, X, y=None, *, sample_weight=None)`` that
        returns a float, can be pickled, and takes part in metadata routing through
        ``set_score_request(sample_weight=...)``.

    Raises
    ------
    ValueError
        If `metric` is none of the three, if `radius` is negative or not a finite number, if it is
        missing for "accuracy" or "rate", or given for "acr". The scorer itself raises it where
        the metric needs labels and y is None.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.model_selection import cross_val_score
    >>> from sksmooth import SmoothedKNNClassifier
    >>> from sksmooth.metrics import make_certified_scorer
    >>> scorer = make_certified_scorer("accuracy", radius=0.5)
    >>> scorer
    make_certified_scorer('accuracy', radius=0.5)
    >>> X, y = make_blobs(n_samples=30, centers=[[0, 0], [20, 20]], random_state=0)
    >>> knn = SmoothedKNNClassifier(n_neighbors=3, sigma=1.0)
    >>> cross_val_score(knn, X, y, cv=3, scoring=scorer).tolist()
    [1.0, 1.0, 1.0]
    """
    if metric not in _METRICS:
        raise ValueError(f'metric must be "accuracy", "rate" or "acr", got {metric!r}.')
    if metric == "acr":
        if radius is not None:
            raise ValueError(f'radius must be None for the metric "acr", got {radius!r}.')
        return _CertifiedScorer(metric, None, certify_params)
    if radius is None:
        raise ValueError(
            f'radius is required for the metric "{metric}": a number of at least 0, in the unit '
            "of the estimator's threat model."
        )
    checked = check_radius(radius)
    if checked.ndim != 0:
        raise ValueError(f"radius must be one number: a scorer returns one value. Got {radius!r}.")
    return _CertifiedScorer(metric, radius, certify_params)


class _CertifiedScorer:
    """See :func:`make_certified_scorer`, which checks the arguments."""

    def __init__(self, metric: str, radius: Any, certify_params: dict[str, Any]) -> None:
        self._metric = metric
        self._radius = radius
        self._certify_params = certify_params
        self._sample_weight_request: bool | str | None = None

    def __call__(
        self,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        if y is None and self._metric != "rate":
            raise ValueError(
                f'y is required for the metric "{self._metric}", got None. Without labels, the '
                'metric "rate" can be computed.'
            )
        token = FOR_A_SCORE.set(True)
        try:
            result = certify(estimator, X, **self._certify_params)
        finally:
            FOR_A_SCORE.reset(token)
        # float: the radius is one number, so the scores come back as one as well.
        if self._metric == "accuracy":
            value = certified_accuracy(
                y, result.y_pred, result.radii, self._radius, sample_weight=sample_weight
            )
        elif self._metric == "rate":
            value = certified_rate(result.radii, self._radius, sample_weight=sample_weight)
        else:
            value = average_certified_radius(
                y, result.y_pred, result.radii, sample_weight=sample_weight
            )
        return float(value)

    def __repr__(self) -> str:
        arguments = [repr(self._metric)]
        if self._radius is not None:
            # float(): the repr of a numpy scalar depends on numpy's version.
            arguments.append(f"radius={float(self._radius)!r}")
        arguments += [f"{name}={value!r}" for name, value in self._certify_params.items()]
        return f"make_certified_scorer({', '.join(arguments)})"

    def _accept_sample_weight(self) -> bool:
        # Asked by scikit-learn's searches from 1.7 on, before they pass sample_weight.
        return True

    def set_score_request(self, *, sample_weight: bool | str | None) -> _CertifiedScorer:
        """State whether metadata routing passes ``sample_weight``, as in scikit-learn's scorers."""
        if not get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "set_score_request needs metadata routing: "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        self._sample_weight_request = sample_weight
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what this scorer asks of metadata routing."""
        request = MetadataRequest(owner=repr(self))
        request.score.add_request(param="sample_weight", alias=self._sample_weight_request)
        return request
