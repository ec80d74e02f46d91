# SPDX-License-Identifier: BSD-3-Clause
"""RAB's experiments with networks on MNIST: Tables 2, 3, 5, D.6, D.7 and Figures 3, 4, 5.

Each cell trains an ensemble on poisoned digits and certifies digits of the source class that
carry the trigger. Cells are kept in ``--work``: an interrupted run goes on where it stopped. The
paper trains 1,000 networks of convolutions on 12,665 digits; without a GPU that takes days, so
the size is an option, and the page says which one it was.

    python benchmarks/tables/rab_nets.py --members 1000 --rows 12665 --epochs 20 --device cuda
    python benchmarks/tables/rab_nets.py                  # about 40 minutes on two cores
    python benchmarks/tables/rab_nets.py --members 20 --rows 300 --tests 50     # a first look
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from _layout import AS_PAPER, BEST, PAPER, Line, Page, Store
from matplotlib.figure import Figure
from skorch import NeuralNetClassifier
from torch import nn
from tqdm import tqdm

from sksmooth import RABEnsembleClassifier
from sksmooth.attacks import blending_trigger, four_pixel_trigger, one_pixel_trigger, poison
from sksmooth.datasets import fetch_mnist
from sksmooth.neural_network import DPNeuralNetClassifier

SEED = 0
RADII = (0.2, 0.5, 1.0, 2.0)
STRONG, WEAK = (1.0, 0.10), (0.1, 0.02)  # l2 norm of the trigger, share of the training rows
TRIGGERS = {"one-pixel": one_pixel_trigger, "four-pixel": four_pixel_trigger}
T2, T3, T5 = "Table 2: networks", "Table 3: DP-SGD", "Table 5: ten digits"
D6, D7 = "Table D.6: accuracy on digits without a trigger", "Table D.7: 6 against 8"
F3, F4, F5 = (
    "Figure 3: a share of the training rows",
    "Figure 4: certified accuracy by sigma",
    "Figure 5: without noise on test inputs",
)
TABLES = (T2, T3, T5, D6, D7, F3, F4, F5)

# Accuracy, certified accuracies and certified rates, of arXiv:2003.08904.
PAPER_NUMBERS = {
    T2: """
one-pixel 1.0 1.0: 1.000 0.996 0.796 0.000 0.000 0.996 0.796 0.000 0.000
one-pixel 1.0 2.0: 0.995 0.995 0.991 0.744 0.000 0.995 0.991 0.744 0.000
one-pixel 0.1 1.0: 1.000 1.000 1.000 0.986 0.000 1.000 1.000 0.986 0.000
one-pixel 0.1 2.0: 1.000 0.999 0.998 0.993 0.708 0.999 0.998 0.993 0.708
four-pixel 1.0 1.0: 1.000 0.997 0.530 0.000 0.000 0.997 0.530 0.000 0.000
four-pixel 1.0 2.0: 0.996 0.994 0.987 0.640 0.000 0.994 0.987 0.640 0.000
four-pixel 0.1 1.0: 1.000 1.000 1.000 0.990 0.000 1.000 1.000 0.990 0.000
four-pixel 0.1 2.0: 1.000 0.999 0.998 0.993 0.725 0.999 0.998 0.993 0.725
blending 1.0 1.0: 1.000 1.000 0.985 0.000 0.000 1.000 0.985 0.000 0.000
blending 1.0 2.0: 0.997 0.995 0.991 0.744 0.000 0.995 0.991 0.744 0.000
blending 0.1 1.0: 1.000 1.000 1.000 0.992 0.000 1.000 1.000 0.992 0.000
blending 0.1 2.0: 1.000 0.999 0.997 0.993 0.728 0.999 0.997 0.993 0.728
""",
    T3: """
one-pixel 1.0 1.0: 0.997 0.995 0.991 0.904 0.000 0.997 0.991 0.904 0.000
one-pixel 1.0 2.0: 0.996 0.995 0.992 0.948 0.265 0.996 0.992 0.948 0.265
one-pixel 0.1 1.0: 0.998 0.998 0.997 0.981 0.000 0.998 0.997 0.981 0.000
one-pixel 0.1 2.0: 0.998 0.998 0.997 0.994 0.833 0.998 0.997 0.994 0.833
four-pixel 1.0 1.0: 0.997 0.994 0.985 0.848 0.000 0.996 0.985 0.848 0.000
four-pixel 1.0 2.0: 0.995 0.994 0.988 0.936 0.176 0.996 0.988 0.936 0.176
four-pixel 0.1 1.0: 0.998 0.998 0.997 0.982 0.000 0.998 0.997 0.982 0.000
four-pixel 0.1 2.0: 0.998 0.998 0.997 0.993 0.793 0.998 0.997 0.993 0.793
blending 1.0 1.0: 0.998 0.997 0.994 0.925 0.000 0.997 0.994 0.925 0.000
blending 1.0 2.0: 0.997 0.995 0.993 0.957 0.317 0.995 0.993 0.957 0.317
blending 0.1 1.0: 0.998 0.998 0.997 0.979 0.000 0.998 0.997 0.979 0.000
blending 0.1 2.0: 0.998 0.998 0.997 0.994 0.820 0.998 0.997 0.994 0.820
""",
    T5: """
four-pixel 0.1 0.5: 0.990 0.977 0.918 0.000 0.000 0.979 0.918 0.000 0.000
four-pixel 0.1 1.0: 0.961 0.931 0.843 0.504 0.000 0.937 0.844 0.504 0.000
four-pixel 0.1 2.0: 0.701 0.568 0.383 0.144 0.000 0.575 0.384 0.144 0.000
""",
    D7: """
one-pixel 1.0 1.0: 0.982 0.956 0.710 0.000 0.000 0.957 0.710 0.000 0.000
one-pixel 1.0 2.0: 0.876 0.775 0.533 0.073 0.000 0.783 0.534 0.073 0.000
one-pixel 0.1 1.0: 0.993 0.984 0.965 0.826 0.000 0.984 0.965 0.826 0.000
one-pixel 0.1 2.0: 0.964 0.932 0.882 0.670 0.052 0.934 0.883 0.670 0.052
four-pixel 1.0 1.0: 0.981 0.959 0.691 0.000 0.000 0.960 0.691 0.000 0.000
four-pixel 1.0 2.0: 0.859 0.740 0.485 0.032 0.000 0.748 0.489 0.032 0.000
four-pixel 0.1 1.0: 0.993 0.985 0.968 0.814 0.000 0.985 0.968 0.814 0.000
four-pixel 0.1 2.0: 0.967 0.937 0.895 0.700 0.081 0.938 0.896 0.700 0.081
blending 1.0 1.0: 0.977 0.953 0.719 0.000 0.000 0.955 0.719 0.000 0.000
blending 1.0 2.0: 0.861 0.753 0.518 0.077 0.000 0.763 0.521 0.077 0.000
blending 0.1 1.0: 0.993 0.987 0.971 0.839 0.000 0.987 0.971 0.839 0.000
blending 0.1 2.0: 0.965 0.940 0.896 0.700 0.063 0.941 0.897 0.700 0.063
""",
}
PAPER_D6 = 1.0  # each of its six numbers for MNIST
# Of data that are not here: the paper's lines of four-pixel, norm 0.1, 2%, stand for all of them.
NOT_RUN = {
    (T2, "ImageNet, dog against cat", 0.5): "0.910 0.894 0.869 0.808 0.200 0.914 0.886 0.818 0.200",
    (T2, "ImageNet, dog against cat", 1.0): "0.808 0.792 0.768 0.724 0.574 0.829 0.799 0.747 0.580",
    (T5, "CIFAR-10, ten classes", 0.25): "0.675 0.578 0.471 0.274 0.000 0.636 0.497 0.278 0.000",
    (T5, "CIFAR-10, ten classes", 0.5): "0.534 0.465 0.403 0.287 0.063 0.568 0.462 0.309 0.064",
    (T5, "CIFAR-10, ten classes", 1.0): "0.343 0.302 0.267 0.202 0.068 0.410 0.346 0.246 0.074",
    (D7, "CIFAR-10, automobile against dog", 0.5): (
        "0.939 0.927 0.914 0.878 0.622 0.954 0.932 0.889 0.623"
    ),
    (D7, "CIFAR-10, automobile against dog", 1.0): (
        "0.905 0.897 0.887 0.857 0.737 0.944 0.924 0.885 0.748"
    ),
}
NOTES = """\
*acc* is the share of test digits of the source class, with the trigger, that are predicted as
what they are; *acc R* and *rate R* are the shares certified for a change of all training digits
together by an l2 norm of R, with the right class or with any.

"Ours, the paper's bound" is Hoeffding's inequality on the votes that also choose the class, each
at the full error of 0.001 (eq. 27), which is not valid; "ours" is Clopper and Pearson's bound at
the level that the choice leaves. A unanimous vote of N members is worth a radius of `sigma *
isf(6.9 / N)`: with fewer members than the paper's 1,000, large radii cannot be certified at all,
whatever the networks do.

Columns of the paper stand for 1,000 networks, 12,665 digits and 20 epochs. "Not run: data" marks
data sets that are not at hand. For CIFAR-10 and ImageNet the columns are those of R = 0.05, 0.1,
0.2, 0.5. Chosen here: the trigger in the middle and not cut off; the digit 1 to be taken for 0, 6
for 8; SGD with momentum 0.9, learning rate 0.02, batches of 64. DP-SGD: noise multiplier 0.6,
norm 1, learning rate 0.25.
"""


class Network(nn.Module):
    """RAB's network for MNIST."""

    def __init__(self, n_outputs=2):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, n_outputs),
        )  # fmt: skip

    def forward(self, x):  # noqa: D102
        return self.layers(x)


class Cell(NamedTuple):
    """One ensemble; the test digits carry the trigger, or not (`benign`)."""

    digits: tuple[int, ...] = (0, 1)
    attack: str = "four-pixel"
    norm: float = 0.1
    share: float = 0.02
    sigma: float = 1.0
    private: bool = False
    test_noise: str | None = "hash"
    rows: float = 1.0  # share of the training rows
    benign: bool = False


class Size(NamedTuple):
    """How much is run."""

    members: int
    rows: int
    epochs: int
    tests: int

    def of(self, cell, private_members):
        """Return the size of a cell: private networks take ten times as long, so they are fewer."""
        return self._replace(members=private_members) if cell.private else self


def attacks(sigmas, **params):
    """Return the cells of one table of attacks, in the paper's order."""
    return [
        Cell(attack=a, norm=norm, share=share, sigma=sigma, **params)
        for a, (norm, share), sigma in itertools.product(
            [*TRIGGERS, "blending"], (STRONG, WEAK), sigmas
        )
    ]


def cells_of(table):
    """Return the cells of a table, or of a figure, with their settings."""
    cells = {
        T2: attacks((1.0, 2.0)),
        T3: attacks((1.0, 2.0), private=True),
        T5: [Cell(digits=tuple(range(10)), sigma=s) for s in (0.5, 1.0, 2.0)],
        D6: [
            Cell(share=share, sigma=s, benign=True)
            for share, s in itertools.product((0.0, 0.02), (0.0, 1.0, 2.0))
        ],
        D7: attacks((1.0, 2.0), digits=(8, 6)),
        F3: [Cell(rows=r, sigma=s) for r, s in itertools.product((0.2, 0.5, 1.0), (1.0, 2.0))],
        F4: [Cell(sigma=s) for s in (0.5, 1.0, 2.0)],
        F5: [Cell(sigma=s, test_noise=t) for s, t in itertools.product((1.0, 2.0), ("hash", None))],
    }[table]
    return [(setting_of(table, cell), cell) for cell in cells]


def setting_of(table, cell):
    """Return what distinguishes a line of a table."""
    sigma = {"sigma": f"{cell.sigma:g}"}
    if table == D6:
        return {"poisoned": f"{cell.share:.0%}", **sigma}
    if table == F3:
        return {"share of the rows": f"{cell.rows:.0%}", **sigma}
    attack = cell.attack + (", no test noise" if cell.test_noise is None else "")
    return {"attack": attack, "norm, share": f"{cell.norm:g}, {cell.share:.0%}", **sigma}


def digits_of(digits, rows, tests):
    """Return training digits and labels, and test digits of the source class."""
    train, test = (fetch_mnist(classes=sorted(digits), subset=s) for s in ("train", "test"))
    labels = {digit: i for i, digit in enumerate(digits)}
    order = np.random.default_rng(SEED).permutation(len(train.data))[:rows]
    y = np.array([labels[d] for d in train.target])[order]
    source = labels[digits[1]]
    X_test = test.data[test.target == digits[1]][:tests]
    return train.data[order].astype(np.float32), y, X_test.astype(np.float32), source


def trigger_of(cell):
    """Return the trigger of an attack, flattened."""
    if cell.attack == "blending":
        return blending_trigger((28, 28), cell.norm, random_state=SEED).ravel()
    return TRIGGERS[cell.attack]((28, 28), cell.norm).ravel()


def network(cell, size, device):
    """Return the untrained network of a cell."""
    common = {
        "module__n_outputs": len(cell.digits), "batch_size": 64, "max_epochs": size.epochs,
        "train_split": None, "device": device, "verbose": 0,
    }  # fmt: skip
    if cell.private:
        return DPNeuralNetClassifier(
            Network, noise_multiplier=0.6, max_grad_norm=1.0, lr=0.25, **common
        )
    return NeuralNetClassifier(
        Network, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.SGD, lr=0.02,
        optimizer__momentum=0.9, iterator_train__shuffle=True, **common,
    )  # fmt: skip


def compute(cell, size, jobs, device):
    """Train and vote; returns the votes, or with sigma 0 the predictions of one network."""
    rows = round(cell.rows * size.rows)
    X, y, X_test, source = digits_of(cell.digits, rows, size.tests)
    delta = trigger_of(cell)
    if cell.share:
        bad = poison(X, y, delta, share=cell.share, source=source, target=0, random_state=SEED)
        X, y = bad.X.astype(np.float32), bad.y
    if not cell.benign:
        X_test = (X_test + delta).astype(np.float32)
    if cell.sigma == 0.0:
        torch.manual_seed(SEED)
        y_pred = network(cell, size, device).fit(X, y).predict(X_test)
        return {"accuracy": float(np.mean(y_pred == source))}
    model = RABEnsembleClassifier(
        network(cell, size, device), n_estimators=size.members, sigma=cell.sigma,
        test_noise=cell.test_noise, n_jobs=jobs, random_state=SEED,
    ).fit(X, y)  # fmt: skip
    votes = model.collect_votes(X_test)
    found = {"source": source}
    bounds = {
        AS_PAPER: {"bound": "hoeffding", "correction": "none", "two_sided": True},
        BEST: {"two_sided": len(cell.digits) > 2},
    }
    for who, params in bounds.items():
        answer = model.certify_votes(votes, **params)
        found[who] = {"y_pred": answer.y_pred.tolist(), "radii": answer.radii.tolist()}
    return found


def numbers(y_pred, radii, source):
    """Return the columns of a line."""
    correct, radii = np.asarray(y_pred) == source, np.asarray(radii)
    accuracy = {f"acc {r:g}": float(np.mean(correct & (radii >= r))) for r in RADII}
    rate = {f"rate {r:g}": float(np.mean(radii >= r)) for r in RADII}
    return {"acc": float(correct.mean()), **accuracy, **rate}


def paper_line(table, setting, cell):
    """Return the paper's line, or None."""
    if table == D6:
        return Line(table, setting, PAPER, {"acc": PAPER_D6})
    for line in PAPER_NUMBERS.get(table, "").strip().splitlines():
        key, values = line.split(":")
        if key.split() == [cell.attack, f"{cell.norm}", f"{cell.sigma}"]:
            return Line(table, setting, PAPER, _columns(values))
    return None


def _columns(values):
    names = ["acc", *(f"acc {r:g}" for r in RADII), *(f"rate {r:g}" for r in RADII)]
    return dict(zip(names, map(float, values.split()), strict=True))


def lines_of(results):
    """Return all lines of the page."""
    lines = []
    for table in TABLES:
        for setting, cell in cells_of(table):
            found, printed = results.get(cell), paper_line(table, setting, cell)
            lines += [] if printed is None else [printed]
            if found is None:
                if printed is not None:
                    missing = dict.fromkeys(printed.numbers)
                    lines.append(Line(table, setting, "not run: time", missing))
                continue
            if "accuracy" in found:
                lines.append(Line(table, setting, BEST, {"acc": found["accuracy"]}))
                continue
            for who in (AS_PAPER, BEST) if table != D6 else (BEST,):
                shown = numbers(**found[who], source=found["source"])
                shown = {"acc": shown["acc"]} if table == D6 else shown
                lines.append(Line(table, setting, who, shown))
        for (where, name, sigma), values in NOT_RUN.items():
            if where == table:
                setting = {"attack": name, "norm, share": "0.1, 2%", "sigma": f"{sigma:g}"}
                lines.append(Line(table, setting, PAPER, _columns(values)))
                lines.append(Line(table, setting, "not run: data", dict.fromkeys(_columns(values))))
    return lines


def draw(results, path):
    """Draw the three figures."""
    figure = Figure(figsize=(13.0, 3.8), layout="constrained")
    grid = np.linspace(0.0, 3.0, 200)

    def curve(ax, cell, **style):
        if cell in results:
            found = results[cell]
            correct = np.array(found[BEST]["y_pred"]) == found["source"]
            radii = np.array(found[BEST]["radii"])
            ax.plot(grid, [np.mean(correct & (radii >= r)) for r in grid], **style)

    for ax, table in zip(figure.subplots(1, 3, sharey=True), (F3, F4, F5), strict=True):
        for i, (setting, cell) in enumerate(cells_of(table)):
            style = "--" if cell.test_noise is None or (table == F3 and cell.sigma == 2.0) else "-"
            color = {F3: f"C{i // 2}", F4: f"C{i}", F5: f"C{i // 2}"}[table]
            label = (
                f"{next(iter(setting.values()))}, sigma = {cell.sigma:g}"
                if table != F4
                else f"sigma = {cell.sigma:g}"
            )
            curve(ax, cell, color=color, linestyle=style, label=label)
        ax.set(title=table, xlabel="l2 radius, all training digits", ylim=(-0.02, 1.02))
        ax.legend(fontsize=7)
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel("certified accuracy")
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=80)
    parser.add_argument("--private-members", type=int, default=40, help="members of Table 3")
    parser.add_argument(
        "--private-attacks", nargs="+", default=["four-pixel"], help="attacks of Table 3"
    )
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--tables", nargs="+", default=None, help="such as 2 D.6 Figure")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("doc/benchmarks"))
    parser.add_argument("--work", type=Path, default=Path("benchmarks/tables/work"))
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    size = Size(args.members, args.rows, args.epochs, args.tests)
    chosen = [
        t
        for t in TABLES
        if args.tables is None or any(t.split(":")[0].endswith(x) for x in args.tables)
    ]
    store, results = Store(args.work), {}
    wanted = dict.fromkeys(
        cell
        for table in chosen
        for _, cell in cells_of(table)
        if not cell.private or cell.attack in args.private_attacks
    )
    for cell in tqdm(wanted, unit="cell"):
        own = size.of(cell, args.private_members)
        key = {"table": "rab nets", "seed": SEED, "size": own._asdict(), "cell": cell._asdict()}
        results[cell] = store.get(key, lambda c=cell, s=own: compute(c, s, args.jobs, args.device))
    lines = lines_of(results)
    full = size.members >= 1000 and size.rows >= 12_665
    shown = (
        f"{'Full size' if full else '**A smaller size than the paper**'}: {size.members} networks "
        f"per ensemble ({args.private_members} in Table 3), {size.rows} training digits, "
        f"{size.epochs} epochs, {size.tests} test digits, on {args.device}; seed {SEED}; "
        "confidence level 0.999."
    )
    page = Page(
        args.out / "rab_nets.md", "RAB, networks on MNIST", Path(__file__).name, shown,
        ["numpy", "torch", "skorch", "opacus"], NOTES, "Figures 3, 4 and 5",
    )  # fmt: skip
    page.write(lines)
    draw(results, page.path.with_suffix(".png"))


if __name__ == "__main__":
    main()
