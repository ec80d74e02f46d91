# SPDX-License-Identifier: BSD-3-Clause
"""
An ensemble on a cluster, with a checkpoint
===========================================

The same ensemble is trained on this machine alone and by the workers of a Dask cluster, which keep
their members in a folder as they end. Started again, the program goes on from there. Both give the
same certificates, to the last bit.

Here the cluster is two processes on this machine; ``--scheduler ADDRESS`` takes another one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sksmooth import RABEnsembleClassifier


def train(X, y, n_members, folder=None):
    """Train support vector machines; their scaler is inside, where the certificate covers it."""
    sigma = 0.2 * X.std(axis=0)  # one per feature: radii are in these units
    model = RABEnsembleClassifier(
        make_pipeline(StandardScaler(), SVC(C=0.5)),
        n_estimators=n_members,
        sigma=sigma,
        checkpoint_dir=folder,
        random_state=0,
    )
    started = time.perf_counter()
    model.fit(X, y)
    return model, time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheduler", help="address of a Dask scheduler")
    parser.add_argument("--members", type=int, default=400)
    parser.add_argument("--folder", type=Path, help="where members are kept, a temporary folder")
    args = parser.parse_args()
    data = load_breast_cancer()
    X, y = np.log1p(data.data), np.asarray(data.target_names)[data.target]
    X, X_test, y, _ = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)

    alone, seconds = train(X, y, args.members)
    print(f"alone: {args.members} members in {seconds:.1f} s")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "members"
        own = None
        if args.scheduler is None:
            own = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with Client(args.scheduler or own), joblib.parallel_config(backend="dask"):
            spread, seconds = train(X, y, args.members, folder)
            print(f"on the cluster: {seconds:.1f} s, {len(list(folder.glob('*.bin')))} files kept")
            again, seconds = train(X, y, args.members, folder)
            print(f"once more, from these files: {seconds:.1f} s")
            radii = spread.certify(X_test).radii
        if own is not None:
            own.close()
    same = np.array_equal(radii, alone.certify(X_test).radii)
    same &= np.array_equal(radii, again.certify(X_test).radii)
    print(f"the same certificates: {same}; {np.mean(radii > 0.5):.0%} hold for changes up to 0.5")


if __name__ == "__main__":  # worker processes import this file, and must not run it again
    main()
