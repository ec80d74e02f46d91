# SPDX-License-Identifier: BSD-3-Clause
"""
Phishing: how many values may be lies?
======================================

A web site is judged by 30 questions with the answers -1, 0 and 1: does the address hold an IP
number, is the certificate old? Whoever runs the site decides some answers. Two certificates in l0,
the number of changed values: of the test input alone, and of training data and test input together.
"""

# %%
# Distinct sites
# --------------
import matplotlib.pyplot as plt
import numpy as np
from _data import load_phishing
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sksmooth import DiscreteEnsembleClassifier, RandomizedSmoothingClassifier

X, y = load_phishing()
first = ~X.duplicated()  # many sites have the same answers
X, y = X[first].to_numpy(), y[first]
order = np.random.default_rng(0).permutation(len(y))
X, y = X[order], y[order]
X_train, y_train, X_test, y_test = X[:2000], y[:2000], X[2000:2300], y[2000:2300]
base = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(C=0.1))

# %%
# Lies in the test input
# ----------------------
# Noise replaces each answer with probability q; the vote over noisy copies is certified, for 60
# sites. Some answers nearly decide alone: few predictions hold whatever one answer says.
smoothed = {}
for q in (0.05, 0.2):
    model = RandomizedSmoothingClassifier(
        base, noise="categorical", q=q, n_estimation=2000, random_state=0
    ).fit(X_train, y_train)
    smoothed[q] = model.certify(X_test[:60])
    held = np.mean((smoothed[q].y_pred == y_test[:60]) & (smoothed[q].radii >= 1))
    print(f"q={q}: accuracy {np.mean(smoothed[q].y_pred == y_test[:60]):.2f}, "
          f"and {held:.2f} whatever one answer says")  # fmt: skip

# %%
# Lies anywhere
# -------------
# An ensemble whose members see noisy training data, noisy labels and noisy test inputs covers
# changes of any of them. That is much to ask: with 100 members nothing is left to promise for
# even one changed value. Cover no more than you must: noise on labels alone withstands several.
ensemble = DiscreteEnsembleClassifier(
    base, n_estimators=100, q=0.1, categories=[-1, 0, 1], random_state=0
).fit(X_train, y_train)
anywhere = ensemble.certify(X_test)
labels = DiscreteEnsembleClassifier(
    base, n_estimators=200, q=0.4, categories=[-1, 0, 1], perturb=("train_labels",), random_state=0
).fit(X_train, y_train)
flips = labels.certify(X_test)

# %%
# The curves
# ----------
fig, ax = plt.subplots(figsize=(6.8, 4.2), layout="constrained")
curves = [(f"test input, q={q}", result, y_test[:60]) for q, result in smoothed.items()]
curves += [("anything, q=0.1", anywhere, y_test), ("training labels, q=0.4", flips, y_test)]
for name, (y_pred, radii), truth in curves:
    r = np.arange(0, 13)
    held = [np.mean((y_pred == truth) & (radii >= k)) for k in r]
    ax.plot(r, held, marker="o", ms=4, drawstyle="steps-mid", label=name)
ax.set(xlabel="changed values", ylabel="certified accuracy", ylim=(0.0, 1.0))
ax.set(title="Web sites: certified in l0")
ax.legend(title="what may change")
plt.show()
