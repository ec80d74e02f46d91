# SPDX-License-Identifier: BSD-3-Clause
"""Ridge under label flips: time to certify, beside Algorithm 1 of its paper written plainly.

Run with ``make bench ARGS=benchmarks/bench_label_flip.py``, or with ``--quick`` for fewer test
inputs. Ratios are medians of interleaved runs, everything compiled before, one thread on each side.
It prints what it measures beside the goal for it, and fails for none. MNIST comes from the folder
named by ``SKSMOOTH_DATA``, else from OpenML; without either, its lines are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib import metadata

# Read when numpy and numba are first imported. Children are told what they need.
INNER_THREADS = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")]
os.environ.update(dict.fromkeys(INNER_THREADS, "1"))

import numpy as np  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402

import sksmooth  # noqa: E402
from sksmooth import LabelFlipRidgeClassifier  # noqa: E402
from sksmooth.datasets import fetch_mnist  # noqa: E402


def paper_loop(X, y, X_test, *, q, alpha):
    """Certify by Algorithm 1 of Rosenfeld et al., a point at a time, in plain NumPy.

    Newton's method on eq. (6) from t = 0, one exponential per row and step; the radius by eq. (5).

    Parameters
    ----------
    X, X_test : ndarrays, with a column of ones
    y : ndarray of 0 and 1
    q, alpha : float

    Returns
    -------
    ndarray of shape (n_samples,)
        Logarithms of Chernoff's bound.
    """
    M = X @ np.linalg.inv(X.T @ X + alpha * np.eye(X.shape[1]))
    stay = np.where(y == 1, q, 1.0 - q)
    move = 1.0 - stay
    log_bounds = np.empty(len(X_test))
    for i, x in enumerate(X_test):
        a = M @ x
        t = 0.0
        for _ in range(100):
            share = move * np.exp(-t * a)
            share /= stay + share
            weighted = a * share
            slope, curvature = 0.5 - weighted.sum(), weighted @ (a - weighted)
            t -= slope / curvature
            if slope * slope <= 2e-10 * curvature:
                break
        log_bounds[i] = 0.5 * t + np.log(stay + move * np.exp(-t * a)).sum()
    return log_bounds


def line(what, value, unit="", goal=None, note=""):
    """Print one measurement beside its goal, an upper limit."""
    met = "" if goal is None else ("met" if value <= goal else "NOT met")
    limit = "" if goal is None else f"<= {goal:g}"
    print(f"{what:58} {value:8.3g} {unit:6} {limit:8} {met:8} {note}", flush=True)


def clock(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def child(code):
    """Run code in a new process with an empty compile cache; return what it prints as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "NUMBA_CACHE_DIR": folder}
        out = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)
    return json.loads(out.stdout)


def ratios(train, test, n_inputs, n_rounds):
    """Algorithm 1 against the three certificates, on MNIST 1/7 and 50 principal components."""
    pca = PCA(50, random_state=0).fit(train.data)
    X, X_test = pca.transform(train.data), pca.transform(test.data)[:n_inputs]
    y = (train.target == train.target[0]).astype(int)
    print(f"\nMNIST 1/7: n = {len(X)}, k = 50, {len(X_test)} test inputs, alpha = 1000")
    ones, ones_test = np.c_[X, np.ones(len(X))], np.c_[X_test, np.ones(len(X_test))]
    for q in (0.3, 0.45):
        models = {
            f"{name}, q = {level:g}": LabelFlipRidgeClassifier(
                q=level, certificate=name, alpha=1000.0
            ).fit(X, y)
            for name, level in (("kl", q), ("tight", q), ("exact", q), ("exact", 0.0))
        }
        jobs = {"loop": lambda q=q: paper_loop(ones, y, ones_test, q=q, alpha=1000.0)}
        for name, model in models.items():
            model.certify(X_test[:3])
            jobs[name] = lambda model=model: model.certify(X_test)
        seconds = {name: [] for name in jobs}
        for _ in range(n_rounds):
            for name, job in jobs.items():
                seconds[name].append(clock(job))
        line(f"Algorithm 1 in NumPy, q = {q:g}", np.median(seconds["loop"]), "s")
        for name in models:
            goal = 0.35 if "tight" in name else (0.25 if "exact" in name else None)
            ratio = np.median(np.divide(seconds[name], seconds["loop"]))
            spread = np.ptp(np.divide(seconds[name], seconds["loop"]))
            note = f"{np.median(seconds[name]):.2f} s; ratios differ by {spread:.2f}"
            line(f"    {name}: of that time", ratio, "", goal, note)
        name = f"exact, q = {q:g}"
        models[name].set_params(n_jobs=2)
        line("    gain of n_jobs = 2", min(seconds[name]) / min(map(clock, [jobs[name]] * 3)))


CHILD = """
import json, resource, time
import numpy as np
from sksmooth import LabelFlipRidgeClassifier
{data}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
results = []
for q, certificate in {runs}:
    start = time.perf_counter()
    model = LabelFlipRidgeClassifier(q=q, certificate=certificate).fit(X, y)
    fitted = time.perf_counter()
    model.certify(X_test[:1])
    warm = time.perf_counter()
    y_pred, radii = model.certify(X_test)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results.append([q, certificate, fitted - start, warm - fitted, end - warm, peak / 2**20,
                    float(np.median(radii)), before / 2**20])
print(json.dumps(results))
"""

MNIST = """
from sklearn.decomposition import PCA
from sksmooth.datasets import fetch_mnist
train = fetch_mnist(subset="train", classes={classes})
test = fetch_mnist(subset="test", classes={classes})
pca = PCA({components}, random_state=0).fit(train.data[:20000])
X, y, X_test = pca.transform(train.data), train.target, pca.transform(test.data)[:{inputs}]
del train, test
"""

SYNTHETIC = """
rng = np.random.default_rng(0)
y = rng.integers(0, 2, 1_000_000)
X = rng.normal(size=(1_000_000, 57)) + 0.1 * y[:, None]
X_test = rng.normal(size=(100, 57)) + 0.1 * rng.integers(0, 2, 100)[:, None]
"""


def in_child(title, data, runs, seconds, gibibytes):
    """Print the times and the peak memory of a child process, its data included."""
    print(f"\n{title}")
    for q, name, fit, cold, certify, peak, median, before in child(
        CHILD.format(data=data, runs=runs)
    ):
        note = f"fit {fit:.1f} s, first call {cold:.1f} s; median radius {median:g}"
        line(f"{name}, q = {q:g}", certify, "s", seconds, note)
        line("    peak memory", peak, "GiB", gibibytes, f"{before:.2f} GiB of it before fit")


def main():
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer test inputs and rounds")
    args = parser.parse_args()
    versions = " ".join(f"{p} {metadata.version(p)}" for p in ("numpy", "scipy", "numba"))
    print(f"sksmooth {sksmooth.__version__}, python {platform.python_version()}, {versions}")
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}\n")
    (compile_seconds,) = child(
        "import json, time; import numpy as np\n"
        "from sksmooth import LabelFlipRidgeClassifier as C\n"
        "X = np.arange(12.0)[:, None]; start = time.perf_counter()\n"
        "C(q=0.1).fit(X, X[:, 0] > 5).certify(X)\n"
        "print(json.dumps([time.perf_counter() - start]))"
    )
    line("first call, compiling; later processes read the disk", compile_seconds, "s")
    try:
        subsets = [fetch_mnist(classes=(1, 7), subset=name) for name in ("train", "test")]
    except OSError as error:
        print(f"MNIST is skipped: {error}")
    else:
        ratios(*subsets, 400 if args.quick else None, 3 if args.quick else 7)
        inputs = 100 if args.quick else 1000
        in_child(
            "MNIST 1/7 in a process of its own: n = 13,007, k = 50",
            MNIST.format(classes=(1, 7), components=50, inputs=2163),
            [(0.3, "tight"), (0.3, "exact")],
            None,
            2.0,
        )
        in_child(
            f"MNIST, 10 classes: n = 60,000, k = 30, {inputs} test inputs",
            MNIST.format(classes=None, components=30, inputs=inputs),
            [(0.0, "exact"), (0.0125, "tight"), (0.0125, "exact"), (0.05, "exact")],
            30.0,
            2.0,
        )
    if not args.quick:
        in_child(
            "synthetic: n = 1,000,000, k = 57, 100 test inputs",
            SYNTHETIC,
            [(0.0, "exact"), (0.3, "tight"), (0.3, "exact")],
            None,
            None,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory of this process: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
