# SPDX-License-Identifier: BSD-3-Clause
"""
How many members are enough?
============================

A certificate by sampling is limited by the number of draws: even a unanimous vote of N members
shows only that the probability is above some bound. More members raise that bound slowly; where
votes are divided they hardly help.
"""

# %%
# What a unanimous vote is worth
# ------------------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sksmooth import RABEnsembleClassifier
from sksmooth.confidence import probability_bounds
from sksmooth.smoothing import GaussianNoise

sizes = np.unique(np.geomspace(11, 100_000, 60).astype(int))
shares = {1.0: "unanimous", 0.99: "99% of the votes", 0.9: "90%", 0.7: "70%"}
fig, ax = plt.subplots(figsize=(6.8, 4.2), layout="constrained")
for share, name in shares.items():
    votes = np.column_stack([np.ceil(share * sizes), sizes - np.ceil(share * sizes)]).astype(int)
    bounds = probability_bounds(votes, n_drawn=sizes)
    radii = GaussianNoise(1.0).radius(bounds.p_a, bounds.p_b, tail_a=bounds.tail_a)
    ax.plot(sizes, np.where(radii >= 0, radii, np.nan), label=name)
ax.set(xscale="log", xlabel="number of members", ylabel="certified radius, sigma = 1")
ax.set(title="Radii at a confidence level of 0.999")
ax.legend()
plt.show()

# %%
# Members until the answer is known
# ---------------------------------
# If one radius is all that matters, train until the answer there is known for every row, or until
# ``n_estimators`` are there: rows with a radius close to the one asked for stay open.
# ``bound="anytime"`` stays valid however often one looks.
data = load_breast_cancer()
X, y = StandardScaler().fit_transform(np.log1p(data.data)), data.target
model = RABEnsembleClassifier(
    LogisticRegression(C=0.01), n_estimators=600, bound="anytime", warm_start=True, random_state=0
)
for radius in (0.2, 0.5, 1.0):
    found = model.fit_until_settled(X[:400], y[:400], X[400:460], radius=radius)
    n_open = np.sum(~found.certified & ~found.refuted)
    print(f"radius {radius}: {found.n_estimators} members; {found.certified.sum()} rows certified,")
    print(f"    {found.refuted.sum()} refuted, {n_open} open")
