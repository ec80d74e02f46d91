# SPDX-License-Identifier: BSD-3-Clause
"""Settings that every test and doctest shares."""

from __future__ import annotations

import os
from importlib.util import find_spec

from hypothesis import settings

# No window system is needed to test a plot. Set before anything imports matplotlib.
os.environ.setdefault("MPLBACKEND", "Agg")

# The same examples in every run, so that a red test means a change in the code; a machine that is
# busy must not fail a test, hence no deadline. HYPOTHESIS_PROFILE=explore draws new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# Doctests import the modules they stand in: those of an extra need that extra.
collect_ignore_glob = [] if find_spec("torch") else ["sksmooth/neural_network/*"]
