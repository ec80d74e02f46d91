# SPDX-License-Identifier: BSD-3-Clause
"""What needs the extra "plot" says so, and only that needs it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest

from sksmooth.exceptions import MissingExtraError
from sksmooth.metrics import (
    CertifiedAccuracyDisplay,
    certificate_report,
    certified_rate,
)

from ._fakes import Stump

X = np.array([[-1.0], [1.0]])
Y = [0, 1]


class Uncertified(Stump):
    def certify(self, X):
        raise AssertionError("the import is tried before the work is done")


@pytest.fixture
def nothing_optional(monkeypatch):
    """Make the optional packages look as if they were not installed."""
    import_module = importlib.import_module

    def refuse(name, package=None):
        if name.partition(".")[0] in ("matplotlib", "pandas"):
            root = name.partition(".")[0]
            raise ModuleNotFoundError(f"No module named {root!r}", name=root)
        return import_module(name, package)

    monkeypatch.setattr(importlib, "import_module", refuse)


@pytest.mark.usefixtures("nothing_optional")
def test_missing_extra_is_named():
    est = Uncertified().fit(X, Y)
    calls = [
        lambda: CertifiedAccuracyDisplay.from_estimator(est, X, Y),
        lambda: CertifiedAccuracyDisplay.from_predictions(Y, Y, [1, 2]),
        lambda: certificate_report(est, X, Y),
    ]
    for call in calls:
        with pytest.raises(MissingExtraError, match=r"sksmooth\[plot\]"):
            call()
    assert certified_rate([1, -1], 0) == 0.5


BLOCKED_IMPORT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name in ("matplotlib", "pandas", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import sksmooth.metrics
print(sksmooth.metrics.certified_rate([1, -1], 0), "numba" in sys.modules)
"""


def test_import_needs_nothing_optional():
    """Blocked, not just unused: scikit-learn itself may load pandas where it finds it."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED_IMPORT], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0.5", "False"]
