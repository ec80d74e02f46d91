# SPDX-License-Identifier: BSD-3-Clause
"""Neural networks: many at once, and differentially private ones. Needs the extra ``torch``."""

from typing import TYPE_CHECKING

from sksmooth.ensemble._stacking import StackedTraining

if TYPE_CHECKING:
    from sksmooth.neural_network._dp_sgd import DPNeuralNetClassifier

__all__ = ["DPNeuralNetClassifier", "StackedTraining"]


def __getattr__(name: str) -> object:
    if name != "DPNeuralNetClassifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sksmooth._extras import import_extra

    for module in ("torch", "skorch", "opacus"):
        import_extra(module, extra="torch")
    from sksmooth.neural_network._dp_sgd import DPNeuralNetClassifier

    globals()[name] = DPNeuralNetClassifier
    return DPNeuralNetClassifier
