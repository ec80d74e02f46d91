# SPDX-License-Identifier: BSD-3-Clause
"""Time per certified input of smoothed K-NN, beside the algorithm of its paper written plainly.

Run with ``make bench ARGS=benchmarks/bench_knn.py``, or with ``--quick`` for smaller sizes in less
than a minute. It prints what it measures beside the goal for it, and fails for none. Times are the
best of a few passes over the same inputs, all compiled and tabulated before; "cold" is the first
pass over them, with tables made on the way. Spambase, MNIST and CIFAR-10 come from the folder named
by ``SKSMOOTH_DATA``, else from OpenML; without either, their lines are skipped.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

# Read when numpy and numba are first imported. Children are told what they need.
INNER_THREADS = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")]
if "--child" not in sys.argv:
    os.environ.update(dict.fromkeys(INNER_THREADS, "1"))

import numpy as np  # noqa: E402
from scipy.stats import ncx2  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402

import sksmooth  # noqa: E402
from sksmooth import SmoothedKNNClassifier  # noqa: E402
from sksmooth.datasets import fetch_cifar10, fetch_mnist, fetch_spambase  # noqa: E402
from sksmooth.metrics import make_certified_scorer  # noqa: E402

PAPER_LEVELS = 200

# --- the paper's algorithm --------------------------------------------------------------------


def paper_probabilities(X, y, x, *, sigma, edges, n_neighbors, stored=True):
    """Smoothed quantised K-NN at one test input, by eq. (67)-(72) of RAB, Appendix C.1.

    Levels are side by side in arrays; rows, classes and tallies are loops. Rows in one level rank
    by index, ties of votes go to the lower class, and the levels are those between `edges`, as in
    `SmoothedKNNClassifier`, so that both compute the same numbers.

    Parameters
    ----------
    X, y : ndarrays of shape (n_rows, n_features) and (n_rows,), classes 0, 1, ...
    x : ndarray of shape (n_features,)
    sigma : float
    edges : ndarray of shape (n_levels - 1,), in units of sigma
    n_neighbors : int
    stored : bool, default=True
        Keep the values of the recursions (70)-(72), so that time grows with n. If False, each row
        runs them afresh, and time grows with n^2, as Theorem 3 counts.

    Returns
    -------
    ndarray of shape (n_classes,)
    """
    n_rows, n_classes = y.size, int(y.max()) + 1
    distance2 = ((X - x) ** 2).sum(axis=1) / sigma**2
    cdf = np.zeros((n_rows, edges.size + 2))
    cdf[:, 1:-1] = ncx2.cdf(edges**2, X.shape[1], distance2[:, None])
    cdf[:, -1] = 1.0
    p, closer_or_equal, closer = np.diff(cdf), cdf[:, 1:], cdf[:, :-1]  # each (n_rows, n_levels)

    def count(counts, j, chance):  # one step of (72): one more row that counts, with a chance
        own = counts[y[j]]
        own[1:] = own[1:] * (1.0 - chance[j]) + own[:-1] * chance[j]
        own[0] *= 1.0 - chance[j]

    def start():  # chance of r = 0, ..., K - 1 counted rows, per class and level
        counts = np.zeros((n_classes, n_neighbors, edges.size + 1))
        counts[:, 0] = 1.0
        return counts

    if stored:
        all_r = np.empty((n_rows, *start().shape))
        r = start()
        for i in range(n_rows - 1, -1, -1):
            all_r[i] = r
            count(r, i, closer)
        q = start()
    tallies = itertools.product(range(n_neighbors + 1), repeat=n_classes)
    tallies = [gamma for gamma in tallies if sum(gamma) == n_neighbors]
    result = np.zeros(n_classes)
    for i in range(n_rows):
        if stored:
            r = all_r[i]
        else:
            r, q = start(), start()
            for j in range(n_rows - 1, i, -1):
                count(r, j, closer)
            for j in range(i):
                count(q, j, closer_or_equal)
        both = [  # P_c^l(i, gamma), for gamma_c = 0, ..., K - 1 rows besides row i itself
            [sum(r[c, s] * q[c, m - s] for s in range(m + 1)) for m in range(n_neighbors)]
            for c in range(n_classes)
        ]
        for gamma in tallies:
            others = [gamma[c] - (c == y[i]) for c in range(n_classes)]
            if min(others) >= 0 and max(others) < n_neighbors:
                chance = math.prod((both[c][m] for c, m in enumerate(others)), start=p[i])
                result[np.argmax(gamma)] += chance.sum()  # (69)
        if stored:
            count(q, i, closer_or_equal)
    return result


# --- data -------------------------------------------------------------------------------------


def spambase():
    X, y = fetch_spambase(return_X_y=True)
    order = np.random.default_rng(0).permutation(y.size)
    X, y = np.log1p(X[order]), y[order]
    X = X / X[:3680].std(axis=0)
    return X[:3680], y[:3680], X[3680:]


def images(fetch, classes):
    X, y = fetch(classes=classes, subset="train", return_X_y=True)
    X_test, _ = fetch(classes=classes, subset="test", return_X_y=True)
    # Test images may be sorted by class.
    return X, y, X_test[np.random.default_rng(0).permutation(X_test.shape[0])]


def synthetic(n_rows, n_features, n_classes=2, n_test=64):
    """Rows around a centre per class, about as far apart as rows of one class."""
    rng = np.random.default_rng(0)
    y = rng.integers(n_classes, size=n_rows + n_test)
    X = rng.standard_normal((y.size, n_features))
    X += rng.standard_normal((n_classes, n_features))[y]
    return X[:n_rows], y[:n_rows], X[n_rows:]


# name, load, goal for K = 5 in ms, floor by counting operations
DATA = [
    ("Spambase", spambase, 5.0, 1.0),
    ("MNIST 0/1", lambda: images(fetch_mnist, (0, 1)), 20.0, 4.0),
    ("CIFAR airplane/bird", lambda: images(fetch_cifar10, ("airplane", "bird")), 25.0, 3.0),
]

# --- measuring --------------------------------------------------------------------------------


def seconds(function, *args, repeats=1, **params):
    best = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        function(*args, **params)
        best = min(best, time.perf_counter() - start)
    return best


def ms_per_input(model, X, repeats=3):
    """Best time per input of warm passes, and that of the first one."""
    model.certify(X[:1])  # compiles
    cold = seconds(model.certify, X)
    warm = seconds(model.certify, X, repeats=repeats)
    return 1e3 * warm / X.shape[0], 1e3 * cold / X.shape[0]


def line(what, value, unit="ms", goal=None, *, at_least=False, note=""):
    verdict = ""
    if goal is not None:
        met = value >= goal if at_least else value < goal
        verdict = f"{'>=' if at_least else '<'} {goal:<5.4g} {'met' if met else 'NOT MET'}"
    print(f"{what:<47} {value:8.3g} {unit:<5} {verdict:<16} {note}", flush=True)


def child(name, *args, **env):
    """Run one function of `CHILDREN` in a fresh interpreter."""
    command = [sys.executable, __file__, "--child", name, *map(str, args)]
    run = subprocess.run(
        command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(run.stdout)


def first_and_second_call(n_levels):
    X, y, X_test = synthetic(200, 8, n_test=1)
    model = SmoothedKNNClassifier(n_levels=n_levels or None)
    return [seconds(lambda: model.fit(X, y).certify(X_test)) for _ in range(2)]


def large(n_rows):
    X, y, X_test = synthetic(n_rows, 56, n_test=4)
    warm, _ = ms_per_input(SmoothedKNNClassifier().fit(X, y), X_test, repeats=2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return warm, peak / (2**30 if sys.platform == "darwin" else 2**20)


def busy_cores(n_jobs):
    X, y, X_test = synthetic(4000, 256, n_test=128)
    model = SmoothedKNNClassifier(n_jobs=n_jobs).fit(X, y)
    model.certify(X_test)
    start, cpu = time.perf_counter(), time.process_time()
    model.certify(X_test)
    return (time.process_time() - cpu) / (time.perf_counter() - start)


CHILDREN = {f.__name__: f for f in (first_and_second_call, large, busy_cores)}

# --- the lines --------------------------------------------------------------------------------


def environment():
    versions = [f"{m} {metadata.version(m)}" for m in ("numpy", "scipy", "scikit-learn", "numba")]
    print(f"sksmooth {sksmooth.__version__}, python {platform.python_version()},", *versions)
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}\n")


def compilation(quick):
    for n_levels, name in ((0, "plain"), (PAPER_LEVELS, "quantised"))[: 1 if quick else 2]:
        with tempfile.TemporaryDirectory() as folder:
            new = child("first_and_second_call", n_levels, NUMBA_CACHE_DIR=folder)
            cached = child("first_and_second_call", n_levels, NUMBA_CACHE_DIR=folder)
        note = f"import of numba included; from the disk cache {cached[0] - cached[1]:.2g} s"
        line(f"compile time of a first call, {name}", new[0] - new[1], "s", 15.0, note=note)


def kernels():
    from sksmooth.neighbors import _kernels

    compiled = [f for f in vars(_kernels).values() if hasattr(f, "targetoptions")]
    # Those written into their callers are never compiled by themselves.
    compiled = [f for f in compiled if f.targetoptions.get("inline") != "always"]
    good = [f for f in compiled if f.targetoptions.get("nogil") and f.stats.cache_path]
    parallel = sum(bool(f.targetoptions.get("parallel")) for f in compiled)
    line(
        "share of kernels with nogil and cache", len(good) / len(compiled), "", 1.0, at_least=True,
        note=f"{len(compiled)} kernels, {parallel} with threads of their own",
    )  # fmt: skip


def inner_threads():
    free = dict.fromkeys(INNER_THREADS, str(os.cpu_count()))
    for n_jobs in (1, 2):
        cores = child("busy_cores", n_jobs, **free)
        line(
            f"cores kept busy, n_jobs = {n_jobs}, threads unlimited", cores, "", n_jobs + 0.1,
            note="CPU seconds per second: more than n_jobs would be inner threads",
        )  # fmt: skip


def paper(name, X, y, x, ours):
    """Time of the paper's algorithm, and how far its probabilities are from ours."""
    labels = np.unique(y, return_inverse=True)[1]
    rows = np.random.default_rng(0).permutation(y.size)[:200]
    time_of, off = {}, 0.0
    for kept, stored in ((slice(None), True), (rows, True), (rows, False)):
        model = SmoothedKNNClassifier(n_levels=PAPER_LEVELS).fit(X[kept], y[kept])
        params = {"sigma": 1.0, "edges": model.level_edges_, "n_neighbors": 5, "stored": stored}
        start = time.perf_counter()
        theirs = paper_probabilities(X[kept], labels[kept], x, **params)
        time_of[kept is rows, stored] = 1e3 * (time.perf_counter() - start)
        off = max(off, np.abs(theirs - model.predict_proba(x[None])[0]).max())
    full, few, afresh = time_of[False, True], time_of[True, True], time_of[True, False]
    line(
        f"{name}, paper, K = 5, L = {PAPER_LEVELS}", full,
        note=f"recursions stored; {full / ours:.0f} times ours, plain",
    )  # fmt: skip
    line(f"    n = {rows.size}", few, note="recursions stored")
    line(f"    n = {rows.size}", afresh, note="recursions afresh for each row, as in Theorem 3")
    extrapolated = full + (afresh - few) * (y.size / rows.size) ** 2
    line(
        f"    afresh, n = {y.size}: extrapolated, not measured", extrapolated,
        note=f"the difference times (n / {rows.size})^2; {extrapolated / ours:.2g} times ours",
    )  # fmt: skip
    line("    largest difference from our probabilities", off, "", 1e-6)


def data_set(name, load, goal, floor, quick):
    try:
        X, y, X_test = load()
    except (OSError, ImportError) as error:
        print(f"{name}: skipped, {type(error).__name__}: {error}")
        return
    if quick:
        X, y = X[: len(X) // 4], y[: len(y) // 4]
    all_tests, X_test = X_test, X_test[: 16 if quick else 64]
    print(f"\n{name}: n = {X.shape[0]}, d = {X.shape[1]}, sigma = 1, {X_test.shape[0]} inputs")
    times = {}
    for k, limit in ((5, goal), (1, goal / 3.0), (10, None)):
        model = SmoothedKNNClassifier(k).fit(X, y)
        times[k], cold = ms_per_input(model, X_test)
        note = f"cold {cold:.1f}" + f"; floor about {floor:.0f}" * (k == 5)
        line(f"{name}, K = {k}", times[k], "ms", limit, note=note)
    line("    growth from K = 5 to K = 10", times[10] / times[5], "times", 4.0)
    quantised = SmoothedKNNClassifier(n_levels=PAPER_LEVELS).fit(X, y)
    warm, cold = ms_per_input(quantised, X_test)
    line(f"{name}, K = 5, L = {PAPER_LEVELS}, ours", warm, note=f"cold {cold:.1f}")
    two_jobs(X, y, all_tests[: 32 if quick else 3_500_000 // len(X)])
    paper(name, X, y, X_test[0], times[5])
    if name == "Spambase":
        grid_search(X, y, quick)


def two_jobs(X, y, X_test):
    def plain():  # no GIL, no memory: what this machine has to give just now
        hashlib.pbkdf2_hmac("sha256", b"", b"", 300_000)

    def two_plain():
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: plain(), range(2)))

    models = [SmoothedKNNClassifier(n_jobs=j).fit(X, y) for j in (1, 2)]
    models[0].certify(X_test)
    # They take turns, so that a slow moment of the machine falls on all.
    turns = []
    for _ in range(3):
        ours = [seconds(model.certify, X_test) for model in models]
        turns.append((*ours, 2.0 * seconds(plain), seconds(two_plain)))
    one, two, plain_one, plain_two = (min(times) for times in zip(*turns, strict=True))
    note = (
        f"{X_test.shape[0]} inputs; two threads of nothing but hashing: {plain_one / plain_two:.2f}"
    )
    line("    gain of n_jobs = 2", one / two, "times", 1.6, at_least=True, note=note)


def grid_search(X, y, quick):
    n_rows = 300 if quick else 1000
    grid = {"sigma": [0.5, 1.0, 2.0], "n_neighbors": [1, 5, 15]}
    for k in grid["n_neighbors"]:  # compiles
        SmoothedKNNClassifier(k).fit(X, y).certify(X[:1])
    scorer = make_certified_scorer("accuracy", radius=1.0)
    search = GridSearchCV(SmoothedKNNClassifier(), grid, scoring=scorer, cv=3)
    elapsed = seconds(search.fit, X[:n_rows], y[:n_rows])
    n_fits = 3 * len(search.cv_results_["params"])
    n_certified = n_fits * n_rows // 3
    line(
        f"GridSearchCV over sigma and K, {n_rows} rows", elapsed, "s",
        note=f"{n_fits} fits and a last one, {n_certified} certified inputs, "
        f"{1e3 * elapsed / n_certified:.2g} ms each",
    )  # fmt: skip


def many_classes(quick):
    n_rows = 2_500 if quick else 10_000
    print(f"\nsynthetic: C = 10, n = {n_rows}, d = 64, sigma = 1")
    X, y, X_test = synthetic(n_rows, 64, n_classes=10, n_test=8 if quick else 64)
    times = {}
    for k in (5, 10, 15):
        model = SmoothedKNNClassifier(k).fit(X, y)
        times[k], cold = ms_per_input(model, X_test, repeats=2)
        note = f"cold {cold:.1f}; tallies not listed: {math.comb(k + 9, 9):,}"
        line(f"C = 10, K = {k}", times[k], "ms", 1000.0, note=note)
    line("    growth from K = 5 to K = 10", times[10] / times[5], "times", 4.0)


def exponent(quick):
    print("\ngrowth with n and d: synthetic, K = 5")
    sizes = list(itertools.product((1000, 4000, 16_000, 64_000), (16, 128, 1024)))
    sizes = [(n, d) for n, d in sizes if n * d <= (1e6 if quick else 2e7)]
    log_ms = []
    for n_rows, d in sizes:
        X, y, X_test = synthetic(n_rows, d, n_test=16 if quick else 64)
        warm, _ = ms_per_input(SmoothedKNNClassifier().fit(X, y), X_test, repeats=2)
        line(f"n = {n_rows}, d = {d}", warm)
        log_ms.append(math.log(warm))
    log_n, log_d = np.log(np.array(sizes, dtype=float)).T
    line("exponent of time over n d", np.polyfit(log_n + log_d, log_ms, 1)[0], "", 1.0)
    apart = np.linalg.lstsq(np.column_stack([log_n, log_d, np.ones(log_n.size)]), log_ms)[0]
    line("    fitted apart: exponent of n", apart[0], "", 1.0)
    line("    fitted apart: exponent of d", apart[1], "", 1.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, *args = options.child
        print(json.dumps(CHILDREN[name](*map(int, args))))
        return

    environment()
    print(f"{'what':<47} {'measured':>8} {'':<5} {'goal':<16}")
    # A child's peak memory counts from that of the process that starts it: while it is small.
    n_rows = 100_000 if options.quick else 1_000_000
    ms, gib = child("large", n_rows)
    line(f"n = {n_rows}, d = 56, K = 5", ms / 1e3, "s", 2.0)
    line("    peak memory of the process, data included", gib, "GiB", 4.0)
    compilation(options.quick)
    kernels()
    inner_threads()
    for case in DATA:
        data_set(*case, options.quick)
    many_classes(options.quick)
    exponent(options.quick)


if __name__ == "__main__":
    main()
