# SPDX-License-Identifier: BSD-3-Clause
"""Takes an answer of `certify` apart into what it follows from."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._certified import CertifiedBounds, CertifiedPrediction
from .._version import __version__
from ._canonical import FORMAT, VERSION, record_digest
from ._frame import disagreements


def certificate_record(est: Any, X: Any, result: Any, **certify_params: Any) -> dict[str, Any]:
    """Return a record of certificates that can be kept as JSON and checked without the model.

    It says which theorem is claimed, with its parameters; the votes that the bounds follow from, or
    the bounds, or the weights of the training rows; the seeds; the digests of model and inputs; and
    the radii. The votes are collected again from `est`, and must give `result`.

    Parameters
    ----------
    est : estimator
        A fitted estimator of this package.
    X : array-like or DataFrame of shape (n_samples, n_features)
        The test inputs.
    result : CertifiedPrediction or CertifiedBounds
        What ``est.certify(X, **certify_params)`` returned.
    **certify_params : dict
        What `certify` was asked beside `X`, such as `n_poisoned`.

    Returns
    -------
    dict
        For ``json.dump``: numbers, strings, lists and dicts. `verify_record` checks it.

    Raises
    ------
    TypeError
        If `est` is none of the estimators of this package, its `certify` does not take
        `certify_params`, or its model has no digest.
    ValueError
        If `result` is not what `est` certifies for `X`, or no record of it would hold: parameters
        were set to others after `fit`, or it would take too long to check.

    Examples
    --------
    >>> import json
    >>> from sksmooth import SmoothedKNNClassifier
    >>> from sksmooth.audit import certificate_record
    >>> model = SmoothedKNNClassifier(n_neighbors=1).fit([[0.0], [9.0]], ["ham", "spam"])
    >>> record = certificate_record(model, [[1.0]], model.certify([[1.0]]))
    >>> record["theorem"]["name"]
    'Gaussian noise: Weber et al., RAB, Corollary 1'
    >>> json.loads(json.dumps(record)) == record
    True
    """
    from ._evidence import check_asked, evidence_of

    if not isinstance(result, (CertifiedPrediction, CertifiedBounds)):
        raise TypeError(
            f"result must be what certify returned. Got an object of type {type(result).__name__}."
        )
    certify_params.pop("return_bounds", None)
    check_asked(est, certify_params)
    found = evidence_of(est, X, certify_params)
    radii = np.asarray(result.radii)
    same = np.shape(radii) == np.shape(found.radii) and np.array_equal(radii, found.radii)
    if not same or not np.array_equal(result.y_pred, est.classes_[found.top]):
        raise ValueError(
            "result must be what est.certify(X, ...) returned, for this estimator, these inputs "
            f"and the parameters {certify_params}. It is another one."
        )
    classes = [_plain(label) for label in est.classes_.tolist()]
    rows = [
        {
            "y_pred": classes[top],
            "top": int(top),
            "radii": [_plain(r) for r in np.atleast_1d(row_radii).tolist()],
            **{name: _plain(values[i]) for name, values in found.per_row.items()},
        }
        for i, (top, row_radii) in enumerate(zip(found.top, radii, strict=True))
    ]
    threat = est.threat_model_
    record = {
        "format": FORMAT,
        "version": VERSION,
        "package_version": __version__,
        "estimator": type(est).__name__,
        "parameters": {k: _plain(v) for k, v in est.get_params(deep=False).items()},
        "threat_model": {
            "norm": threat.norm,
            "target": list(threat.target),
            "unit": threat.unit,
            "exact": threat.exact,
            "confidence_level": threat.confidence_level,
            "n_statements": int(threat.n_statements),
            "classes_given": threat.classes_given,
        },
        "theorem": found.theorem,
        "sampling": None
        if found.sampling is None
        else {name: _plain(value) for name, value in found.sampling.items()},
        "seeds": found.seeds,
        "n_features": int(est.n_features_in_),
        "model_digest": found.model_digest,
        "X_digest": found.X_digest,
        "classes": classes,
        "several": radii.ndim == 2,
        "rows": rows,
    }
    reason = next(disagreements(record), None)
    if reason is not None:
        # Mostly these are parameters that were set after fit, of which the noise knows nothing.
        raise ValueError(
            f"No record of this would hold: it would say {reason}. The parameters of est must be "
            "those that it was fitted with."
        )
    record["digest"] = record_digest(record)
    return record


def _plain(value: Any) -> Any:
    """Return what JSON can hold; an object as its repr."""
    if hasattr(value, "tolist"):  # an array, also of no dimensions, or a Series
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and np.isfinite(value):
        return value
    return repr(value)
