# SPDX-License-Identifier: BSD-3-Clause
"""
The label-flip budget of a credit model
=======================================

Labels of a credit model come from people and processes: how many of them may be wrong, by design or
not, before a decision changes? Ridge classification answers exactly, without noise or sampling: its
score is a sum over training labels, so the worst flips are known.
"""

# %%
# The census of 1994
# ------------------
# Who earns more than 50,000 a year? Numbers are scaled and words encoded without a look at labels,
# which keeps the certificate whole: it is about changed labels.
import matplotlib.pyplot as plt
import numpy as np
from _data import load_adult
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sksmooth import LabelFlipRidgeClassifier
from sksmooth.attacks import worst_label_flips

people, y = load_adult()
order = np.random.default_rng(0).permutation(len(y))[:6000]
numbers = list(people.select_dtypes("number").columns)
words = [name for name in people.columns if name not in numbers]
encoder = make_column_transformer(
    (StandardScaler(), numbers),
    (OneHotEncoder(min_frequency=50, handle_unknown="infrequent_if_exist"), words),
    sparse_threshold=0.0,
)
X, y = encoder.fit_transform(people.iloc[order]), y[order]
X_train, y_train, X_test, y_test = X[:4000], y[:4000], X[4000:], y[4000:]

# %%
# Penalties and budgets
# ---------------------
# A stronger penalty spreads a decision over more training rows: it costs a little accuracy, and
# each decision withstands more flips.
fig, ax = plt.subplots(figsize=(6.8, 4.2), layout="constrained")
for alpha in (1.0, 100.0, 10_000.0):
    model = LabelFlipRidgeClassifier(alpha=alpha).fit(X_train, y_train)
    y_pred, radii = model.certify(X_test)
    correct = y_pred == y_test
    flips = np.arange(0, 300)
    held = [np.mean(correct & (radii >= r)) for r in flips]
    ax.step(flips, held, where="pre", label=f"alpha={alpha:g}, accuracy {correct.mean():.2f}")
    print(f"alpha={alpha:g}: half of all people are decided rightly whatever "
          f"{np.sum(np.array(held) >= 0.5) - 1} labels say")  # fmt: skip
ax.set(xlabel="changed labels, of 4,000", ylabel="certified accuracy", ylim=(0.0, 1.0))
ax.set(title="How many labels may be wrong?")
ax.legend()
plt.show()

# %%
# The radius is exact
# -------------------
# ``worst_label_flips`` is the best attack there is. With as many flips as the radius nothing
# happens; with one more the decision turns.
model = LabelFlipRidgeClassifier(alpha=100.0).fit(X_train, y_train)
y_pred, radii = model.certify(X_test[:5])
for extra in (0, 1):
    attack = worst_label_flips(model, X_test[:5], radii + extra)
    print(f"{radii + extra} flips: {np.sum(attack.y_pred != y_pred)} of 5 decisions turn")
