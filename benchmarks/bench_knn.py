# SPDX-License-Identifier: BSD-3-Clause
"""Seconds per certified e-mail of Spambase for smoothed K-NN, on one thread and on two.

Spambase comes from the folder named by ``SKSMOOTH_DATA``, else from OpenML.
"""

from __future__ import annotations

import time

import numpy as np

from sksmooth import SmoothedKNNClassifier
from sksmooth.datasets import fetch_spambase

N_TRAIN = 3680


def main():
    X, y = fetch_spambase(return_X_y=True)
    order = np.random.default_rng(0).permutation(y.size)
    X, y = np.log1p(X[order]), y[order]
    X = X / X[:N_TRAIN].std(axis=0)
    X, X_test, y = X[:N_TRAIN], X[N_TRAIN:], y[:N_TRAIN]

    start = time.perf_counter()
    SmoothedKNNClassifier().fit(X, y).certify(X_test[:1])
    print(f"first call, with compilation or its cache: {time.perf_counter() - start:.1f} s")
    for n_jobs in (1, 2):
        model = SmoothedKNNClassifier(n_jobs=n_jobs).fit(X, y)
        start = time.perf_counter()
        model.certify(X_test)
        seconds = time.perf_counter() - start
        print(
            f"n = {N_TRAIN}, d = {X.shape[1]}, K = 5, n_jobs = {n_jobs}: {X_test.shape[0]} rows in "
            f"{seconds:.1f} s, {1e3 * seconds / X_test.shape[0]:.1f} ms each"
        )


if __name__ == "__main__":
    main()
