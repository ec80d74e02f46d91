# SPDX-License-Identifier: BSD-3-Clause
import pytest

pytest.importorskip("torch", reason="needs the extra torch")
pytest.importorskip("skorch", reason="needs the extra torch")
