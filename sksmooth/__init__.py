# SPDX-License-Identifier: BSD-3-Clause
"""scikit-learn classifiers whose predictions come with a proof.

Every estimator follows scikit-learn's ``fit`` and ``predict`` and adds ``certify``: how much an
attacker may change the training data, or the test input, before a prediction can change.

Importing this package loads nothing else: each name below is resolved on first access (PEP 562),
so that neither numba nor any optional dependency is paid for before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ._version import __version__ as __version__

if TYPE_CHECKING:
    # The same names once more, for type checkers; a test compares the two lists.
    from . import attacks as attacks
    from . import audit as audit
    from . import confidence as confidence
    from . import datasets as datasets
    from . import ensemble as ensemble
    from . import evasion as evasion
    from . import exceptions as exceptions
    from . import linear_model as linear_model
    from . import metrics as metrics
    from . import neighbors as neighbors
    from . import neural_network as neural_network
    from . import smoothing as smoothing
    from ._certified import ThreatModel as ThreatModel
    from ._certified import certify as certify
    from ._show_versions import show_versions as show_versions
    from ._trusted import trusted_types as trusted_types
    from .ensemble import DiscreteEnsembleClassifier as DiscreteEnsembleClassifier
    from .ensemble import RABEnsembleClassifier as RABEnsembleClassifier
    from .evasion import RandomizedSmoothingClassifier as RandomizedSmoothingClassifier
    from .linear_model import LabelFlipRidgeClassifier as LabelFlipRidgeClassifier
    from .neighbors import SmoothedKNNClassifier as SmoothedKNNClassifier

# Public name -> the module that defines it. A new estimator is one line here.
_HOME = {
    "DiscreteEnsembleClassifier": "ensemble",
    "LabelFlipRidgeClassifier": "linear_model",
    "RABEnsembleClassifier": "ensemble",
    "RandomizedSmoothingClassifier": "evasion",
    "SmoothedKNNClassifier": "neighbors",
    "ThreatModel": "_certified",
    "certify": "_certified",
    "show_versions": "_show_versions",
    "trusted_types": "_trusted",
}
_SUBMODULES = (
    "attacks",
    "audit",
    "confidence",
    "datasets",
    "ensemble",
    "evasion",
    "exceptions",
    "linear_model",
    "metrics",
    "neighbors",
    "neural_network",
    "smoothing",
)

__all__ = sorted(["__version__", *_HOME, *_SUBMODULES])


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        # importlib binds a submodule as an attribute here: the next access does not come this way.
        return importlib.import_module(f".{name}", __name__)
    if name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
