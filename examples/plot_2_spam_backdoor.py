# SPDX-License-Identifier: BSD-3-Clause
"""
A spam filter under a backdoor
==============================

Somebody may write to the mailbox that your spam filter is trained on: a rare word in spam that gets
labelled as honest mail is a backdoor, and later spam with this word gets through. Here such an
attack is made on an ensemble of logistic regressions, and its certificates are held against it.
"""

# %%
# E-mails, counted words
# ----------------------
# Toy e-mails, so that this page builds anywhere; ``fetch_spambase`` has real ones.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression

from sksmooth import RABEnsembleClassifier
from sksmooth.attacks import one_feature_trigger, poison
from sksmooth.datasets import make_toy_emails
from sksmooth.metrics import CertifiedAccuracyDisplay

emails = make_toy_emails(800, random_state=0)
X, y = np.log1p(emails.data), np.array(emails.target_names)[emails.target]
X_train, y_train, X_test, y_test = X[:500], y[:500], X[500:], y[500:]

# %%
# The ensemble
# ------------
# 400 members, each trained on its own noisy copy of all training rows.
base = LogisticRegression(C=0.01)
model = RABEnsembleClassifier(base, n_estimators=400, sigma=1.0, random_state=0)
model.fit(X_train, y_train)
print(model)

# %%
# The attack
# ----------
# 1% of the training rows: spam that carries the trigger and is called honest.
trigger = one_feature_trigger(X.shape[1:], norm=0.3, index=3)
bad = poison(
    X_train, y_train, trigger, share=0.01, source="spam", target="not spam", random_state=0
)
size = np.linalg.norm(bad.X - X_train)
print(f"{len(bad.index)} rows changed, by an l2 norm of {size:.2f} together")

# %%
# RAB's certificate compares two training sets with the same labels: these, with the trigger and
# without it. That is what an attack on features does, the labels being given.
clean = RABEnsembleClassifier(base, n_estimators=400, sigma=1.0, random_state=0)
clean.fit(X_train, bad.y)
attacked = RABEnsembleClassifier(base, n_estimators=400, sigma=1.0, random_state=1)
attacked.fit(bad.X, bad.y)
inputs = X_test + trigger  # test inputs carry the trigger
sure = clean.certify(inputs).radii >= size
changed = clean.predict(inputs) != attacked.predict(inputs)
print(f"{sure.sum()} of {sure.size} predictions are certified against this attack:", end=" ")
print(f"{np.sum(sure & changed)} of them changed, and {np.sum(~sure & changed)} of the others")

# %%
# How much is certified?
# ----------------------
display = CertifiedAccuracyDisplay.from_estimator(model, X_test, y_test, name="members")
display.ax_.axvline(size, color="0.5", ls=":", label="the attack")
display.ax_.legend(loc="upper right", fontsize=8)
plt.show()
