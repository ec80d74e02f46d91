# SPDX-License-Identifier: BSD-3-Clause
"""
Radii on a map: which predictions are safe?
===========================================

A smoothed nearest-neighbour classifier has exact certificates: no sampling, no confidence level. In
two dimensions they can be drawn. The map shows, for every place, how far an attacker may move the
training data, all points together, while the prediction there is sure to stay.
"""

# %%
# Two half moons
# --------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

from sksmooth import SmoothedKNNClassifier

X, y = make_moons(120, noise=0.18, random_state=0)
model = SmoothedKNNClassifier(n_neighbors=5, sigma=0.4).fit(X, y)

# %%
# A certificate for every place
# -----------------------------
# ``certify`` gives a prediction and a radius. A radius of -1 is abstention: there the vote is so
# close that nothing is promised.
side = 60
east, north = np.meshgrid(np.linspace(-2.2, 3.2, side), np.linspace(-1.8, 2.2, side))
places = np.column_stack([east.ravel(), north.ravel()])
y_pred, radii = model.certify(places)
print(f"{np.mean(radii >= 0):.1%} of the map is certified; the largest radius is {radii.max():.2f}")

# %%
# The map
# -------
# Colours are the radii: blue and red for the two classes, white where the radius is near 0,
# along the boundary between the classes.
signed = np.where(y_pred == 1, 1, -1) * np.maximum(radii, 0.0)
fig, ax = plt.subplots(figsize=(7.0, 4.6), layout="constrained")
limit = np.abs(signed).max()
mesh = ax.pcolormesh(
    east, north, signed.reshape(east.shape), cmap="RdBu", vmin=-limit, vmax=limit, shading="gouraud"
)
ax.contour(
    east,
    north,
    radii.reshape(east.shape),
    levels=[0.0, 0.5, 1.0, 1.5],
    colors="0.3",
    linewidths=0.8,
)
ax.scatter(*X.T, c=np.where(y == 1, "navy", "darkred"), s=14, edgecolor="white", linewidth=0.4)
bar = fig.colorbar(mesh, ax=ax)
bar.set_label("certified l2 radius, with the sign of the class")
ax.set(title="How far may the training data move?", xticks=[], yticks=[])
plt.show()

# %%
# A radius for each of a few rows
# -------------------------------
# A backdoor changes few rows. For ten changed rows, each of them may move by the radius over the
# root of ten.
each = model.certify(places, n_poisoned=10).radii
print(f"median of the certified: {np.median(radii[radii >= 0]):.2f} together,", end=" ")
print(f"{np.median(each[each >= 0]):.2f} in each of ten rows")
