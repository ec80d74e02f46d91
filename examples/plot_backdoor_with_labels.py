# SPDX-License-Identifier: BSD-3-Clause
"""
A backdoor that changes labels too: one certificate for both
============================================================

The usual backdoor adds a pattern to some training rows *and* gives them the label that the attacker
wants. A certificate for features alone compares two training sets that both have these labels; one
for labels alone knows nothing of the pattern. With noise on features *and* labels, one certificate
covers both at once: for each number of changed labels, the change of features that a prediction
withstands next to them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # writes a file, needs no window

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sksmooth import RABEnsembleClassifier
from sksmooth.attacks import blending_trigger, poison
from sksmooth.metrics import certified_accuracy_curve

N_FLIPS = [0, 1, 2, 3, 4, 5]
ATTACKS = [(3, 0.3), (60, 3.0)]  # rows, and the l2 norm of the pattern in each


def load():
    """Return training rows, training labels, test rows, test labels, scaled by trusted rows."""
    data = load_breast_cancer()
    X, y = np.log1p(data.data), np.asarray(data.target_names)[data.target]
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
    X, X_trusted, y, _ = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
    scaler = StandardScaler().fit(X_trusted)
    return scaler.transform(X), y, scaler.transform(X_test), y_test


def fit(X, y, n_estimators, random_state):
    """Train logistic regressions, each on noisy features and with 30% of labels changed."""
    base = LogisticRegression(C=0.001)  # strong: it averages much of the noise away
    return RABEnsembleClassifier(
        base, n_estimators=n_estimators, sigma=1.0, q=0.3, random_state=random_state, verbose=1
    ).fit(X, y)


def draw(radii, correct, path):
    """One curve for each number of changed labels."""
    fig, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    colours = plt.get_cmap("viridis")(np.linspace(0.0, 0.9, len(N_FLIPS)))
    for j, (r, colour) in enumerate(zip(N_FLIPS, colours, strict=True)):
        curve = certified_accuracy_curve(correct, np.ones_like(correct), radii[:, j])
        ax.step(*curve, where="pre", color=colour, label=f"{r} changed labels")
    n_rows, norm = ATTACKS[0]
    ax.axvline(norm * np.sqrt(n_rows), color="0.5", ls=":", label="the first attack")
    ax.set(xlabel="l2 norm of the change of all training features", ylabel="certified accuracy")
    ax.set(ylim=(0, 1.02), xlim=(0, None), title="Features and labels changed together")
    ax.legend(fontsize="small")
    fig.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("."), help="folder of the picture")
    parser.add_argument("--members", type=int, default=1000, help="members of the clean ensemble")
    args = parser.parse_args()
    X, y, X_test, y_test = load()
    clean = fit(X, y, args.members, random_state=0)
    print(clean)
    before = clean.certify(X_test, n_flips=N_FLIPS)
    correct = before.y_pred == y_test
    print(f"accuracy {np.mean(correct):.2f}; certified next to n_flips changed labels:")
    for j, r in enumerate(N_FLIPS):
        held = np.mean(correct & (before.radii[:, j] >= 0))
        print(f"  n_flips={r}: {held:.2f}, at most {before.radii[:, j].max():.2f} of features")
    path = args.output / "backdoor_with_labels.png"
    draw(before.radii, correct, path)
    print(f"picture: {path}")

    # Attacks: a pattern in malignant rows, which are called benign; test rows carry it too. The
    # second changes more labels than any of these certificates covers.
    for n_rows, norm in ATTACKS:
        trigger = blending_trigger(X.shape[1:], norm, random_state=0)
        bad = poison(
            X, y, trigger, share=n_rows / len(X), source="malignant", target="benign",
            random_state=0,
        )  # fmt: skip
        size, n_flips = np.linalg.norm(bad.X - X), int(np.sum(bad.y != y))
        X_bad = X_test + trigger
        sure = clean.certify(X_bad, n_flips=n_flips).radii >= size
        changed = clean.predict(X_bad) != fit(
            bad.X, bad.y, args.members // 3, random_state=1
        ).predict(X_bad)
        print(
            f"An attack on {n_flips} rows changes their labels, and {size:.2f} of their features. "
            f"Of {sure.sum()} predictions certified against it, {np.sum(sure & changed)} changed; "
            f"of the other {np.sum(~sure)}, {np.sum(~sure & changed)}."
        )


if __name__ == "__main__":
    main()
