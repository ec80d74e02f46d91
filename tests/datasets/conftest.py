# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of every data set from OpenML share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from sklearn.datasets import _openml

from ._openml_server import OpenML


@pytest.fixture
def openml_server(monkeypatch):
    """Start a server (with the arguments of OpenML) and point scikit-learn to it."""
    servers = []

    def serve(*args, **kwargs):
        server = OpenML(*args, **kwargs).start()
        servers.append(server)
        if hasattr(_openml, "_OPENML_PREFIX"):
            monkeypatch.setattr(_openml, "_OPENML_PREFIX", server.url)
        else:  # later versions of scikit-learn have full addresses
            for name in ["_DATA_INFO", "_DATA_FEATURES", "_DATA_QUALITIES"]:
                path = getattr(_openml, name).partition(".org/")[2]
                monkeypatch.setattr(_openml, name, server.url + path)
        return server

    # No proxy between this process and its own server, and no second of waiting per retry.
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(_openml, "time", SimpleNamespace(sleep=lambda seconds: None))
    yield serve
    for server in servers:
        server.stop()
