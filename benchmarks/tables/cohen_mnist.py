# SPDX-License-Identifier: BSD-3-Clause
"""Cohen et al. on MNIST: certified accuracy, and the curves of their Figures 5 and 8.

Their Table 1 and Figures 6 to 8 are about ImageNet and CIFAR-10, which take a network and a GPU
of that size; here the same quantities are drawn for all ten digits of MNIST and a perceptron.
Figure 5 needs no data.

    python benchmarks/tables/cohen_mnist.py             # some minutes
    python benchmarks/tables/cohen_mnist.py --size 50   # a first look
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from _layout import AS_PAPER, BEST, Line, Page, Store
from matplotlib.figure import Figure
from sklearn.neural_network import MLPClassifier
from tqdm import tqdm

from sksmooth import RandomizedSmoothingClassifier
from sksmooth.confidence import probability_bounds
from sksmooth.datasets import fetch_mnist
from sksmooth.smoothing import GaussianNoise
from sksmooth.smoothing._earlier_bounds import lecuyer_radius, li_radius

SEED = 0
SIGMAS = (0.25, 0.5, 1.0)
RADII = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
LEVEL = 0.999  # the paper's alpha is 0.001
ACCURACY, LEFT = "Certified accuracy", "Figure 8, left: the theorem"
MIDDLE, RIGHT = "Figure 8, middle: the number of draws", "Figure 8, right: the confidence level"
NOTES = """\
*acc* is the share of test inputs that the vote predicts rightly; each other column the share that
is right and certified at that l2 radius (pixels in [0, 1]).

"Ours, the paper's bound" is CERTIFY with p_B = 1 - p_A. "Ours" bounds the rivals by their own
votes, at half of the error; with nearly all votes for one class that costs a little, and where
votes are divided it certifies more.

Figure 8 is for sigma = 0.5. Left: the same votes under Theorem 1 and under the bounds of Lecuyer
et al. and Li et al. Middle and right: the shares of votes are kept, and the number of draws or
the level changed, as in the paper. The paper's own numbers are for ImageNet and have no place in
these tables.
"""


def votes_of(sigma, size, n_draws, jobs):
    """Train on noisy digits, and return votes and labels of the test digits."""
    train, test = fetch_mnist(subset="train"), fetch_mnist(subset="test")
    rows = np.random.default_rng(SEED).permutation(len(train.data))[:20_000]
    base = MLPClassifier((128,), max_iter=15, random_state=SEED)
    model = RandomizedSmoothingClassifier(
        base, sigma=sigma, n_estimation=n_draws, random_state=SEED, n_jobs=jobs
    )
    X, y = np.tile(train.data[rows], (3, 1)), np.tile(train.target[rows], 3)  # three noisy copies
    model.fit(X, y)
    where = np.random.default_rng(SEED).permutation(len(test.data))[:size]
    found = model._estimate(test.data[where], None)
    return {
        "selection": found.selection.tolist(),
        "counts": found.counts.tolist(),
        "y": test.target[where].tolist(),
    }


def certified(votes, sigma, *, n=None, level=LEVEL, two_sided=False, radius=None):
    """Return whether predictions are right, and radii, of kept votes."""
    selection, counts = np.array(votes["selection"]), np.array(votes["counts"])
    drawn = counts.sum(axis=1)
    if n is not None:
        share = counts / drawn[:, None]
        counts = np.floor(share * n).astype(int)
        drawn = np.full(len(counts), n)
    bounds = probability_bounds(
        (selection, counts), n_drawn=drawn, confidence_level=level, correction="holdout",
        two_sided=two_sided,
    )  # fmt: skip
    if radius is None:
        radii = GaussianNoise(sigma).radius(bounds.p_a, bounds.p_b, tail_a=bounds.tail_a)
    else:
        radii = radius(bounds.p_a, sigma=sigma)
    return bounds.top == np.array(votes["y"]), radii


def numbers(correct, radii):
    """Return the columns of a line."""
    return {"acc": float(correct.mean())} | {
        f"{r:g}": float(np.mean(correct & (radii >= r))) for r in RADII
    }


def lines_of(votes):
    """Return all lines of the page."""
    lines = []
    for sigma in SIGMAS:
        for who, two_sided in ((AS_PAPER, False), (BEST, True)):
            found = certified(votes[sigma], sigma, two_sided=two_sided)
            lines.append(Line(ACCURACY, {"sigma": f"{sigma:g}"}, who, numbers(*found)))
    bounds = {"Theorem 1": None, "Li et al.": li_radius, "Lecuyer et al.": lecuyer_radius}
    for name, radius in bounds.items():
        found = certified(votes[0.5], 0.5, radius=radius)
        lines.append(Line(LEFT, {"bound": name}, AS_PAPER, numbers(*found)))
    for n in (100, 1000, 10_000, 100_000, 1_000_000):
        found = certified(votes[0.5], 0.5, n=n)
        lines.append(Line(MIDDLE, {"n": f"{n:,}"}, AS_PAPER, numbers(*found)))
    for alpha in (0.1, 0.01, 0.001, 1e-6, 1e-10):
        found = certified(votes[0.5], 0.5, level=1 - alpha)
        lines.append(Line(RIGHT, {"alpha": f"{alpha:g}"}, AS_PAPER, numbers(*found)))
    return lines


def draw(votes, path):
    """Draw Figure 5, both sides, and certified accuracy over the radius for each sigma."""
    figure = Figure(figsize=(13.0, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    p = np.linspace(0.5, 0.9999, 400)
    radii = {
        "Theorem 1": GaussianNoise(1.0).radius(p),
        "Li et al.": li_radius(p, sigma=1.0),
        "Lecuyer et al.": lecuyer_radius(p, sigma=1.0),
    }
    for name, values in radii.items():
        left.plot(p, np.maximum(values, 0.0), label=name)
    left.set(
        xlabel="lower bound on $p_A$", ylabel="certified radius, sigma = 1", title="Figure 5, left"
    )
    left.legend()
    n = np.unique(np.geomspace(10, 1e7, 80).astype(int))
    p_all = np.array([0.001 ** (1.0 / k) for k in n])
    tails = -np.expm1(np.log(0.001) / n)
    middle.plot(n, GaussianNoise(1.0).radius(p_all, tail_a=tails))
    middle.set(xscale="log", xlabel="number of draws, all for one class", title="Figure 5, right")
    grid = np.linspace(0.0, 3.2, 300)
    for sigma in SIGMAS:
        correct, found = certified(votes[sigma], sigma)
        right.plot(
            grid, [np.mean(correct & (found >= r)) for r in grid], label=f"sigma = {sigma:g}"
        )
    right.set(
        xlabel="l2 radius", ylabel="certified accuracy", title="MNIST, ten digits", ylim=(0, 1)
    )
    right.legend()
    for ax in (left, middle, right):
        ax.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=500, help="test digits")
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("doc/benchmarks"))
    parser.add_argument("--work", type=Path, default=Path("benchmarks/tables/work"))
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    store, votes = Store(args.work), {}
    for sigma in tqdm(SIGMAS, unit="sigma"):
        key = {
            "table": "cohen",
            "sigma": sigma,
            "size": args.size,
            "draws": args.draws,
            "seed": SEED,
        }
        votes[sigma] = store.get(key, lambda s=sigma: votes_of(s, args.size, args.draws, args.jobs))
    lines = lines_of(votes)
    size = (
        f"{args.size} test digits, {args.draws:,} draws each, confidence level {LEVEL}, seed "
        f"{SEED}; a perceptron 784-128-10, trained on three noisy copies of 20,000 digits."
    )
    page = Page(
        args.out / "cohen_mnist.md", "Cohen et al. on MNIST", Path(__file__).name, size,
        ["numpy", "scipy", "scikit-learn"], NOTES, "Figure 5, and certified accuracy on MNIST",
    )  # fmt: skip
    page.write(lines)
    draw(votes, page.path.with_suffix(".png"))


if __name__ == "__main__":
    main()
