# SPDX-License-Identifier: BSD-3-Clause
"""
The frontier of flips and features
==================================

A backdoor usually changes features *and* labels. With noise on both, one certificate trades the one
for the other: next to each number of changed labels it says how much the features may change.
"""

# %%
# One vote, many answers
# ----------------------
# The frontier follows from the bound on the vote alone. For Gaussian noise of deviation 1 and
# labels changed with probability q:
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sksmooth import RABEnsembleClassifier
from sksmooth.smoothing import JointNoise

flips = np.arange(0, 26)
fig, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.8), layout="constrained", sharey=True)
for p_a in (0.9, 0.99, 0.999, 0.9999):
    radii = JointNoise(sigma=1.0, q=0.3).radius(p_a, n_flips=flips)
    inside = radii >= 0
    left.plot(flips[inside], radii[inside], marker=".", label=f"p_a = {p_a}")
left.set(xlabel="changed labels", ylabel="l2 norm of the change of features", title="q = 0.3")
left.legend()
for q in (0.1, 0.2, 0.3, 0.4):
    radii = JointNoise(sigma=1.0, q=q).radius(0.999, n_flips=flips)
    inside = radii >= 0
    right.plot(flips[inside], radii[inside], marker=".", label=f"q = {q}")
right.set(xlabel="changed labels", title="p_a = 0.999")
right.legend()
plt.show()

# %%
# Under each curve every prediction with that vote is safe, on it as well. Where a curve ends, the
# flips alone could turn the vote.

# %%
# An ensemble has both
# --------------------
data = load_breast_cancer()
X, y = StandardScaler().fit_transform(np.log1p(data.data)), data.target
model = RABEnsembleClassifier(
    LogisticRegression(C=0.001), n_estimators=300, sigma=1.0, q=0.3, random_state=0
).fit(X[:400], y[:400])
asked = [0, 1, 2, 4, 8]
y_pred, radii = model.certify(X[400:], n_flips=asked)
for j, r in enumerate(asked):
    held = radii[y_pred == y[400:], j]
    print(f"next to {r} changed labels: {np.mean(held >= 0):.2f} of the right predictions hold,",
          f"at most for a change of {max(held.max(), 0.0):.2f}")  # fmt: skip
