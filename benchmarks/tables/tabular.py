# SPDX-License-Identifier: BSD-3-Clause
"""Spambase, Adult and Phishing: which estimator certifies most, per threat and per second.

No paper has this table. For each threat model every estimator that covers it is trained on the
same rows, with a few settings, and the best one at the middle size of attack is kept; the seconds
are those of that one: training, and certifying the test rows.

    python benchmarks/tables/tabular.py               # about ten minutes on one core
    python benchmarks/tables/tabular.py --rows 300 --tests 50 --members 100   # a first look
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _layout import BEST, Line, Page, Store
from matplotlib.figure import Figure
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tqdm import tqdm

from sksmooth import (
    DiscreteEnsembleClassifier,
    LabelFlipRidgeClassifier,
    RABEnsembleClassifier,
    RandomizedSmoothingClassifier,
    SmoothedKNNClassifier,
)
from sksmooth.datasets import fetch_spambase

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from _data import load_adult, load_phishing  # noqa: E402  (the examples' tables)

SEED = 0
LABELS, TRAINING = "Changed training labels", "Changed training features, l2"
INPUT, VALUES = "A changed test input, l2", "Changed values, l0"
SIZES = {LABELS: (1, 10, 50), TRAINING: (0.5, 1.0, 2.0), INPUT: (0.25, 0.5, 1.0), VALUES: (1, 2, 4)}
NOTES = """\
*acc* is the accuracy of the smoothed classifier; each other column the share of test rows that
are right and certified at that size of the attack; *fit s* and *certify s* the seconds of
training and of certifying all test rows on one core.

Numbers are scaled by trusted rows (one standard deviation is 1), so l2 norms are in standard
deviations, over all training rows together where these are under attack. For l2 Adult is its five
numeric columns, and Phishing the numbers -1, 0, 1; for labels all columns are used, words as
indicators. Of each estimator's settings the one that certifies most at the middle size is shown:
on the test rows themselves, so the choice flatters all of them alike.

Ensembles certify at a confidence level of 0.999 per row. "Changed values" are those of the test
input, or of training rows, labels and test input together where the estimator covers all of
these.
"""


class Data(NamedTuple):
    """One table: numbers, all columns as numbers, codes (or None), labels; training rows first."""

    numbers: np.ndarray
    everything: np.ndarray
    codes: np.ndarray | None
    y: np.ndarray


def load(name: str, rows: int, tests: int) -> Data:
    """Return shuffled rows; what scales them is fitted on rows that are not among them."""
    if name == "Spambase":
        X, y = fetch_spambase(return_X_y=True)
        X, codes = np.log1p(X), None
        everything = None
    elif name == "Adult":
        people, y = load_adult()
        names = ["age", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
        X, codes = people[names].to_numpy(dtype=float), None
        X[:, 2:4] = np.log1p(X[:, 2:4])
        words = people.drop(columns=names).astype(str)
        everything = OneHotEncoder(min_frequency=200, sparse_output=False).fit_transform(words)
    else:
        X, y = load_phishing()
        new = ~X.duplicated()  # many sites are listed several times
        X, y = X[new].to_numpy(dtype=float), y[new]
        codes, everything = X.astype(int), None
    order = np.random.default_rng(SEED).permutation(len(y))
    chosen, trusted = order[: rows + tests], order[rows + tests :]
    scaler = StandardScaler().fit(X[trusted])
    numbers = scaler.transform(X[chosen])
    if everything is not None:
        numbers_and_words = np.hstack([numbers, everything[chosen]])
    else:
        numbers_and_words = numbers
    return Data(numbers, numbers_and_words, None if codes is None else codes[chosen], y[chosen])


def contestants(threat: str, data: Data, members: int) -> list[tuple[str, str, Any, Any]]:
    """Return (estimator, setting, unfitted model, features) of everything that covers a threat."""
    linear = LogisticRegression(C=0.01, max_iter=1000)
    forest = RandomForestClassifier(20, min_samples_leaf=5)
    ensemble = {"n_estimators": members, "random_state": SEED}
    if threat == LABELS:
        X = data.everything
        found = [
            ("LabelFlipRidge", f"alpha={a:g}", LabelFlipRidgeClassifier(alpha=a), X)
            for a in (1.0, 100.0, 1000.0)
        ]
        for name, base in (("linear", linear), ("forest", forest)):
            found += [
                (
                    f"DiscreteEnsemble, {name}", f"q={q}",
                    DiscreteEnsembleClassifier(
                        base, q=q, perturb=("train_labels",), **ensemble
                    ), X,
                )
                for q in (0.2, 0.4)
            ]  # fmt: skip
        return found
    if threat == TRAINING:
        X = data.numbers
        found = [
            ("SmoothedKNN", f"sigma={s}", SmoothedKNNClassifier(5, sigma=s), X)
            for s in (0.5, 1.0, 2.0)
        ]
        for name, base in (("linear", linear), ("forest", forest)):
            found += [
                (
                    f"RABEnsemble, {name}",
                    f"sigma={s}",
                    RABEnsembleClassifier(base, sigma=s, **ensemble),
                    X,
                )
                for s in (0.5, 1.0, 2.0)
            ]
        return found
    draws = {"n_estimation": 10_000, "random_state": SEED}
    if threat == INPUT:
        bases = {
            "linear": LogisticRegression(max_iter=1000),
            "network": MLPClassifier((32,), max_iter=100),
        }
        found = []
        for name, base in bases.items():
            for s in (0.25, 0.5, 1.0):
                model = RandomizedSmoothingClassifier(base, sigma=s, **draws)
                found.append((f"RandomizedSmoothing, {name}", f"sigma={s}", model, data.numbers))
        return found
    if data.codes is None:
        return []
    X, K = data.codes, [-1, 0, 1]
    base = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(categories=[K] * X.shape[1]), list(range(X.shape[1])))
        ),
        LogisticRegression(C=0.1, max_iter=1000),
    )
    found = [
        (
            "RandomizedSmoothing, linear", f"q={q}",
            RandomizedSmoothingClassifier(
                base, noise="categorical", q=q, n_estimation=1000, random_state=SEED
            ), X,
        )
        for q in (0.1, 0.2, 0.4)
    ]  # fmt: skip
    for perturb in (("train_features",), ("train_features", "train_labels", "test_features")):
        found += [
            (
                "DiscreteEnsemble, " + ("anything" if len(perturb) > 1 else "training features"),
                f"q={q}",
                DiscreteEnsembleClassifier(base, q=q, categories=K, perturb=perturb, **ensemble),
                X,
            )
            for q in (0.1, 0.2)
        ]
    return found


def run(model: Any, X: np.ndarray, y: np.ndarray, rows: int, sizes: tuple) -> dict[str, float]:
    """Train and certify; returns the columns of a line."""
    started = time.perf_counter()
    model.fit(X[:rows], y[:rows])
    fitted = time.perf_counter()
    y_pred, radii = model.certify(X[rows:])
    done = time.perf_counter()
    correct = y_pred == y[rows:]
    columns = {"acc": float(correct.mean())}
    columns |= {f"size {i}": float(np.mean(correct & (radii >= s))) for i, s in enumerate(sizes)}
    return {**columns, "fit s": fitted - started, "certify s": done - fitted}


def lines_of(store: Store, args: argparse.Namespace) -> list[Line]:
    """Return the best line of every estimator, for every table and threat."""
    lines = []
    for name in tqdm(args.data, unit="data set"):
        data = load(name, args.rows, args.tests)
        for threat, sizes in SIZES.items():
            best: dict[str, tuple[str, dict[str, float]]] = {}
            for estimator, setting, model, X in contestants(threat, data, args.members):
                key = {
                    "table": "tabular", "data": name, "threat": threat, "estimator": estimator,
                    "setting": setting, "seed": SEED, "rows": args.rows, "tests": args.tests,
                    "members": args.members, "sizes": sizes,
                }  # fmt: skip
                found = store.get(
                    key, lambda m=model, X=X, y=data.y, s=sizes: run(m, X, y, args.rows, s)
                )
                kept = best.get(estimator)
                if kept is None or found["size 1"] > kept[1]["size 1"]:
                    best[estimator] = (setting, found)
            for estimator, (setting, found) in best.items():
                shown = {"acc": found["acc"]}
                shown |= {f"{s:g}": found[f"size {i}"] for i, s in enumerate(sizes)}
                shown |= {"fit s": found["fit s"], "certify s": found["certify s"]}
                of = {"data": name, "estimator": estimator, "best of its settings": setting}
                lines.append(Line(threat, of, BEST, shown))
    return sorted(lines, key=lambda line: list(SIZES).index(line.table))


def draw(lines: list[Line], path: Path) -> None:
    """Draw certified accuracy at the middle size over the seconds that it took."""
    figure = Figure(figsize=(13.0, 3.6), layout="constrained")
    for ax, (threat, sizes) in zip(figure.subplots(1, 4, sharey=True), SIZES.items(), strict=True):
        chosen = [line for line in lines if line.table == threat]
        estimators = list(dict.fromkeys(line.setting["estimator"] for line in chosen))
        markers = dict(zip(("Spambase", "Adult", "Phishing"), "os^", strict=True))
        for line in chosen:
            name, estimator = line.setting["data"], line.setting["estimator"]
            seconds = line.numbers["fit s"] + line.numbers["certify s"]
            ax.scatter(
                seconds, line.numbers[f"{sizes[1]:g}"], marker=markers[name], s=40,
                color=f"C{estimators.index(estimator)}",
                label=estimator if name == chosen[0].setting["data"] else None,
            )  # fmt: skip
        ax.set(xscale="log", ylim=(-0.02, 1.02), xlabel="seconds on one core")
        ax.set_title(f"{threat}\nat {sizes[1]:g}", fontsize=9)
        ax.legend(fontsize=6)
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel("certified accuracy")
    figure.suptitle("o Spambase, square Adult, triangle Phishing", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["Spambase", "Adult", "Phishing"])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--members", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("doc/benchmarks"))
    parser.add_argument("--work", type=Path, default=Path("benchmarks/tables/work"))
    args = parser.parse_args()
    lines = lines_of(Store(args.work), args)
    size = (
        f"{args.rows} training rows, {args.tests} test rows, {args.members} members per ensemble, "
        f"seed {SEED}."
    )
    page = Page(
        args.out / "tabular.md", "Spambase, Adult, Phishing: which estimator certifies most",
        Path(__file__).name, size, ["numpy", "scipy", "scikit-learn", "numba"], NOTES,
        "Certified accuracy and seconds",
    )  # fmt: skip
    page.write(lines)
    draw(lines, page.path.with_suffix(".png"))


if __name__ == "__main__":
    main()
