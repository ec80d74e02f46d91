# SPDX-License-Identifier: BSD-3-Clause
"""What skops is to be told to load a stored estimator of this package."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ._extras import import_extra

_OWN = ("sksmooth", "sklearn", "numpy")


def trusted_types(estimator: Any, *, also: str | Iterable[str] = ()) -> list[str]:
    """List the types inside an estimator that skops loads only when told to trust them.

    A file written by `skops.io.dump` runs no code when it is loaded, other than that of the types
    it names: skops asks for those that it does not know. This lists them, if they are of this
    package, scikit-learn or numpy. Make the list where the model was trained, or from an estimator
    with the same parameters fitted on a few rows; do not take it from the file.

    Parameters
    ----------
    estimator : estimator object
        A fitted estimator.
    also : str or iterable of str, default=()
        Further packages, or full names of types, to be trusted as well.

    Returns
    -------
    list of str
        For the parameter `trusted` of `skops.io.load`.

    Raises
    ------
    MissingExtraError
        If skops is not installed.
    ValueError
        If the estimator holds types of other packages, which `also` does not name.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sksmooth import RABEnsembleClassifier, trusted_types
    >>> model = RABEnsembleClassifier(DecisionTreeClassifier(), n_estimators=2)
    >>> for name in trusted_types(model.fit([[0.0], [1.0]], ["ham", "spam"])):
    ...     print(name)  # doctest: +ELLIPSIS
    sklearn.tree._tree.Tree
    sksmooth.ensemble...
    """
    skops = import_extra("skops.io", extra="skops")
    found = skops.get_untrusted_types(data=skops.dumps(estimator))
    trusted = (*_OWN, *([also] if isinstance(also, str) else also))
    others = [
        name for name in found if not any(name == t or name.startswith(f"{t}.") for t in trusted)
    ]
    if others:
        raise ValueError(
            f"estimator holds types of packages other than {', '.join(_OWN)}: {others}. If you "
            "trust them, name them or their packages with the parameter also."
        )
    return sorted(found)
