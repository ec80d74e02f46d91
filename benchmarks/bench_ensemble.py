# SPDX-License-Identifier: BSD-3-Clause
"""What an ensemble costs beside its members: training, voting, memory.

Both sides of every ratio run in turns in one process, one inner thread each; the figure is the
median of the pairs. Sizes: ``--members`` 1,000 logistic regressions on Spambase by default.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import joblib
import numpy as np
import psutil
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from sksmooth import RABEnsembleClassifier
from sksmooth.datasets import fetch_spambase
from sksmooth.exceptions import DatasetError


def data(folder):
    emails = fetch_spambase(folder=folder)
    order = np.random.default_rng(0).permutation(len(emails.target))
    return np.log1p(emails.data)[order], emails.target[order]


def seconds(action):
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def pairs(ours, bare, n_pairs):
    """Return the median ratio of times taken in turns, and the medians themselves."""
    times = [(seconds(ours), seconds(bare)) for _ in range(n_pairs)]
    return median(a / b for a, b in times), *(median(t) for t in zip(*times, strict=True))


def training(X, y, n_members, n_pairs):
    base = LogisticRegression(max_iter=1000)

    def bare():
        rng = np.random.default_rng(0)
        return [clone(base).fit(X + rng.standard_normal(X.shape), y) for _ in range(n_members)]

    def ours(n_jobs=None):
        params = {"n_estimators": n_members, "n_jobs": n_jobs, "random_state": 0}
        return RABEnsembleClassifier(base, **params).fit(X, y)

    ratio, a, b = pairs(ours, bare, n_pairs)
    print(f"fit, {n_members} members: {a:.2f} s, bare loop {b:.2f} s, ratio {ratio:.3f} (1.05)")
    ours(2)  # starts the workers
    ratio, a, b = pairs(ours, lambda: ours(2), n_pairs)
    print(f"fit with n_jobs=2: {b:.2f} s, {ratio:.2f} times faster than n_jobs=1 (1.6)")


def voting(X, y, name, base, n_members, n_pairs, goal):
    model = RABEnsembleClassifier(base, n_estimators=n_members, random_state=0).fit(
        X[1000:], y[1000:]
    )
    X_test = X[:1000]

    def bare():
        for member in model.estimators_:
            member.predict(X_test)

    ratio, a, b = pairs(lambda: model.certify(X_test), bare, n_pairs)
    each = 1e3 * b / n_members
    print(f"certify, {name} ({each:.2f} ms a predict): {a:.2f} s, ratio {ratio:.3f} ({goal})")
    inside = median(share_in_predict(type(base), lambda: model.certify(X_test)) for _ in range(7))
    if inside > 0.0:  # linear members are not asked themselves
        print(f"  {1.0 / inside:.3f} times the time of its own calls of predict, on noisy inputs")


def share_in_predict(kind, action):
    """Return which share of the time of `action` is spent in `predict` of a class."""
    spent, predict = [0.0], kind.predict

    def timed(self, X):
        started = time.perf_counter()
        try:
            return predict(self, X)
        finally:
            spent[0] += time.perf_counter() - started

    kind.predict = timed
    try:
        whole = seconds(action)
    finally:
        kind.predict = predict
    return spent[0] / whole


def settled(X, y, n_members):
    """How many members it takes until the answer is known for 90 of 100 rows, and for all."""
    base = LogisticRegression(max_iter=1000)
    for radius in (0.1, 0.5, 1.0):
        model = RABEnsembleClassifier(base, bound="anytime", warm_start=True, random_state=0)
        most, known = None, None
        for limit in np.unique(np.geomspace(16, n_members, 30).astype(int)):
            model.set_params(n_estimators=int(limit))
            known = model.fit_until_settled(X[1000:], y[1000:], X[:100], radius=radius)
            share = np.mean(known.certified | known.refuted)
            if share >= 0.9 and most is None:
                most = known.n_estimators
            if share == 1.0:
                break
        needed = f"more than {n_members}" if most is None else most
        print(
            f"radius {radius}: 90 of 100 rows are settled with {needed} members; with "
            f"{known.n_estimators}, {known.certified.sum()} certified and {known.refuted.sum()} "
            "refuted"
        )


def memory(X, y, n_members):
    """Peak of a child process that loads an ensemble and certifies, beyond the models."""
    base = LogisticRegression(max_iter=1000)
    model = RABEnsembleClassifier(base, n_estimators=n_members, random_state=0, n_jobs=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.joblib"
        joblib.dump((model.fit(X, y).set_params(n_jobs=None), X[:1000]), path)
        command = [sys.executable, __file__, "--child", str(path)]
        print(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def child(path):
    model, X = joblib.load(path)
    before = psutil.Process().memory_info().rss
    model.certify(X)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"memory: {before / 2**20:.0f} MB with the models loaded, peak {peak / 2**20:.0f} MB, "
        f"{(peak - before) / 2**20:.0f} MB beyond them (500)"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--folder", help="folder with a local copy of Spambase")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child)
        return
    try:
        X, y = data(args.folder)
    except DatasetError as failure:
        sys.exit(f"skipped: {failure}")
    training(X, y, args.members, args.pairs)
    linear, forest = LogisticRegression(max_iter=1000), RandomForestClassifier(10)
    voting(X, y, "logistic regression", linear, args.members, args.pairs, 1.25)
    voting(X, y, "forests of 10 trees", forest, min(100, args.members), args.pairs, 1.1)
    settled(X, y, args.members)
    memory(X, y, args.members)


if __name__ == "__main__":
    main()
