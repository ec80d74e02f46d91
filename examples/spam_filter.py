# SPDX-License-Identifier: BSD-3-Clause
"""
Can this prediction be trusted if somebody tampered with the training data?
===========================================================================

A classifier is trained twice, on clean rows and on rows with a backdoor: a small pattern in 2% of
them, with the label that the attacker wants. Each prediction comes with a certified radius: as long
as the training features change by no more than that, in l2 norm over all rows, it stays the same.

Run it as it is for a data set that comes with scikit-learn, or with ``--data spambase`` for 4,601
e-mails (from OpenML, or from the folder named by ``--folder`` or ``SKSMOOTH_DATA``).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # writes files, needs no window

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sksmooth import SmoothedKNNClassifier
from sksmooth.attacks import one_feature_trigger, poison
from sksmooth.datasets import fetch_spambase
from sksmooth.metrics import (
    CertifiedAccuracyDisplay,
    certificate_report,
    certified_accuracy,
    certified_rate,
)

RADII = [0.05, 0.1, 0.2, 0.5, 1.0]


def load(name, folder):
    """Return training rows, training labels, test rows, test labels.

    Features are scaled by rows that the attacker cannot touch, a fifth of them: a scaler that
    learned from poisoned rows would move with them, and no certificate covers that.
    """
    data = load_breast_cancer() if name == "breast_cancer" else fetch_spambase(folder=folder)
    X, y = np.log1p(data.data), np.asarray(data.target_names)[data.target]
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
    X, X_trusted, y, _ = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
    scaler = StandardScaler().fit(X_trusted)
    return scaler.transform(X), y, scaler.transform(X_test), y_test


def print_table(rows):
    """Print accuracies in the layout of RAB's Table 4."""
    radii = " / ".join(f"{r:g}" for r in RADII)
    width = 5 * len(RADII) + 3 * (len(RADII) - 1)
    certified = f"certified acc at R = {radii}"
    rate = f"certified rate at R = {radii}"
    print(f"\n{'training data':<14} {'pred. acc':>9}   {certified:<{width + 4}}   {rate}")
    for name, y_true, result in rows:
        accuracy = certified_accuracy(y_true, result.y_pred, result.radii, RADII)
        print(
            f"{name:<14} {accuracy_score(y_true, result.y_pred):>9.3f}   "
            f"{' / '.join(f'{a:.3f}' for a in accuracy):<{width + 4}}   "
            f"{' / '.join(f'{a:.3f}' for a in certified_rate(result.radii, RADII))}"
        )


def main():
    """Train, certify, attack, and show what held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--data", choices=["breast_cancer", "spambase"], default="breast_cancer")
    parser.add_argument("--folder", help="folder with a local copy of Spambase")
    parser.add_argument("--sigma", type=float, default=1.0, help="noise, in scaled units")
    parser.add_argument("--n-neighbors", type=int, default=5)
    parser.add_argument("--n-jobs", type=int, default=None)
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    args = parser.parse_args()

    X, y, X_test, y_test = load(args.data, args.folder)
    source, target = np.unique(y).tolist()
    print(
        f"{args.data}: {X.shape[0]} training rows of {X.shape[1]} features, "
        f"{X_test.shape[0]} test rows, classes {source!r} and {target!r}"
    )
    model = SmoothedKNNClassifier(
        args.n_neighbors, sigma=args.sigma, n_jobs=args.n_jobs, verbose=1
    ).fit(X, y)
    print(model.threat_model_.describe())
    print("Certifying on the clean training rows:")
    clean = model.certify(X_test)

    # The backdoor: 0.1 on one feature of 2% of the rows, rows of one class labelled as the other.
    # Test rows carry the same trigger.
    trigger = one_feature_trigger(X.shape[1], 0.1)
    attacked = poison(X, y, trigger, share=0.02, source=source, target=target, random_state=0)
    size = np.linalg.norm(attacked.delta)
    print(f"Certifying after a backdoor of 0.1 in {attacked.index.size} rows (l2 {size:.3f}):")
    backdoored = model.fit(attacked.X, attacked.y).certify(X_test + trigger)
    # What the certificate compares it with: the same labels, features untouched.
    print("Certifying with the attacker's labels, but without the trigger in the training rows:")
    untouched = model.fit(X, attacked.y).certify(X_test + trigger)

    print_table([("clean", y_test, clean), ("backdoored", y_test, backdoored)])
    sure = untouched.radii >= size
    changed = untouched.y_pred != backdoored.y_pred
    print(
        f"\nThe backdoor changed {changed.sum()} of {changed.size} predictions. Of the "
        f"{sure.sum()} certified at its size, {size:.3f}, it changed {(changed & sure).sum()}."
    )

    args.output.mkdir(parents=True, exist_ok=True)
    _, ax = plt.subplots(figsize=(7, 4.3), layout="constrained")
    for name, result in [("clean", clean), ("with backdoor", backdoored)]:
        CertifiedAccuracyDisplay.from_predictions(
            y_test, result.y_pred, result.radii, threat_model=model.threat_model_, name=name, ax=ax
        )
    ax.set_xlim(0, np.quantile(clean.radii, 0.99))
    ax.set_title(f"{args.data}: K = {args.n_neighbors}, sigma = {args.sigma:g}")
    ax.figure.savefig(args.output / "certified_accuracy.png", dpi=120)
    report = certificate_report(model.set_params(verbose=0).fit(X, y), X_test, y_test)
    report.to_csv(args.output / "certificates.csv", index_label="test_row")
    print(f"Wrote certified_accuracy.png and certificates.csv to {args.output}.")

    print("\nThe five weakest predictions (clean training rows; radius -1: nothing is certain):")
    print(report.head(5).to_string(float_format=lambda v: f"{v:.4f}"))


if __name__ == "__main__":
    main()
