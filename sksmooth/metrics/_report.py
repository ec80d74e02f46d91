# SPDX-License-Identifier: BSD-3-Clause
"""A table of certificates, row by row."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .._certified import certify, find_certifier
from .._extras import import_extra
from ._validation import check_radii, correct_rows

if TYPE_CHECKING:
    import pandas as pd


def certificate_report(
    est: Any, X: Any, y: ArrayLike | None = None, **certify_params: Any
) -> pd.DataFrame:
    """Certify the rows of X and list them, weakest first.

    Parameters
    ----------
    est : estimator
        A fitted estimator with ``certify``, or a Pipeline or search around one.
    X : array-like of shape (n_samples, n_features)
        Rows to certify.
    y : array-like of shape (n_samples,), default=None
        True labels.
    **certify_params : dict
        Passed on to ``certify``, such as ``n_poisoned=10``.

    Returns
    -------
    pandas.DataFrame of n_samples rows
        Sorted by radius: abstentions come first, and equal radii stay in the order of X. The
        index is that of X where X is a DataFrame, else the row number. Columns:

        ``y_pred``
            predicted label, given for abstentions too;
        ``radius``
            certified radius, -1 for an abstention;
        ``certified``
            whether the radius is at least 0;
        ``p_a``, ``p_b``
            lower bound on the probability of the predicted class and upper bound on that of any
            other, where the estimator gives them;
        ``y_true``, ``correct``
            true label and whether it was predicted, where `y` is given.

        ``attrs["threat_model"]`` says in a sentence which change the radius speaks of.

    Raises
    ------
    MissingExtraError
        If pandas is not installed; it comes with the extra "plot".
    NotCertifiableError
        If `est` has no certificate to offer.
    ValueError
        If `y` does not have one label per row, of the kind that is predicted; if `certify_params`
        ask for several radii per row.

    Examples
    --------
    >>> from sksmooth import SmoothedKNNClassifier
    >>> from sksmooth.metrics import certificate_report
    >>> X, y = [[0.0], [1.0], [10.0], [11.0]], ["ham", "ham", "spam", "spam"]
    >>> knn = SmoothedKNNClassifier(n_neighbors=1, sigma=1.0).fit(X, y)
    >>> report = certificate_report(knn, [[0.5], [10.5], [5.5]], ["ham", "spam", "spam"])
    >>> report.index.tolist()[0]
    2
    >>> report.columns.tolist()
    ['y_pred', 'radius', 'certified', 'p_a', 'p_b', 'y_true', 'correct']
    """
    pandas = import_extra("pandas", extra="plot")
    certifier = find_certifier(est)
    if "return_bounds" in inspect.signature(certifier.certify).parameters:
        certify_params = {"return_bounds": True, **certify_params}
    result = certify(est, X, **certify_params)
    radii = check_radii(result.radii)

    columns = {"y_pred": result.y_pred, "radius": radii, "certified": radii >= 0}
    for bound in ("p_a", "p_b"):
        if getattr(result, bound, None) is not None:
            columns[bound] = getattr(result, bound)
    if y is not None:
        # By position, as everywhere in scikit-learn: the index of a Series plays no part.
        columns["y_true"] = np.asarray(y)
        columns["correct"] = correct_rows(y, result.y_pred, radii.size)

    index = X.index if isinstance(X, pandas.DataFrame) else None
    report = pandas.DataFrame(columns, index=index).iloc[np.argsort(radii, kind="stable")]
    report.attrs["threat_model"] = certifier.threat_model_.describe()
    return report
