# SPDX-License-Identifier: BSD-3-Clause
"""Ensembles of classifiers trained on noisy copies of the training data."""
