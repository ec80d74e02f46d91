# SPDX-License-Identifier: BSD-3-Clause
"""
An attack inside the radius, and one outside
============================================

A certificate is a promise that can be tested. Projected gradient descent looks for the change of a
test input that turns the smoothed classifier's answer; inside the certified radius it must fail,
and somewhere outside it succeeds.
"""

# %%
# Two moons again, a neural network, and its smoothed version
# -----------------------------------------------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.neural_network import MLPClassifier

from sksmooth import RandomizedSmoothingClassifier
from sksmooth.attacks import pgd_attack

X, y = make_moons(600, noise=0.15, random_state=0)
base = MLPClassifier((32, 32), max_iter=600, random_state=0)
model = RandomizedSmoothingClassifier(
    base, sigma=0.25, n_selection=1000, n_estimation=20_000, random_state=0
)
model.fit(X[:400], y[:400])
X_test, y_test = X[400:500], y[400:500]
y_pred, radii = model.certify(X_test)
print(f"accuracy {np.mean(y_pred == y_test):.2f}, median radius {np.median(radii):.2f}")

# %%
# Attacks of growing size
# -----------------------
# For each size, how many of the right predictions can be turned, and how many the certificate says
# cannot be. ``predict`` is a vote of 1,000 noisy copies, and close to the edge of the radius such a
# vote may fall either way; the certificate speaks of infinitely many. So only those predictions are
# counted as turned of which it is known that they are the smoothed classifier's:
# ``predict_with_abstention`` tells.
right = (y_pred == y_test) & (radii > 0)
sizes = np.linspace(0.05, 0.9, 7)
turned, inside = [], 0
for size in sizes:
    bad = pgd_attack(model, X_test[right], y_test[right], norm="l2", radius=size, random_state=0)
    y_bad, abstained = model.predict_with_abstention(bad)
    success = ~abstained & (y_bad != y_test[right])
    turned.append(success.mean())
    inside += np.sum(success & (radii[right] >= size))
print(f"{inside} predictions were turned by an attack inside their radius")

# %%
# The gap between the curves is what neither side knows: the attack may be weak there, or the
# certificate careful.
certified = [np.mean(radii[right] < size) for size in sizes]
fig, ax = plt.subplots(figsize=(6.8, 4.2), layout="constrained")
ax.plot(sizes, certified, label="not certified", color="C3")
ax.plot(sizes, turned, label="turned by the attack", color="C0")
ax.fill_between(sizes, turned, certified, color="0.9")
ax.set(xlabel="l2 norm of the change", ylabel="share of right predictions", ylim=(0, 1))
ax.set(title="Attacks never pass the certificate")
ax.legend()
plt.show()
