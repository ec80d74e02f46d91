# SPDX-License-Identifier: BSD-3-Clause
"""Certificates against known truth, against attacks, and against each other."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom, norm
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from sksmooth import RABEnsembleClassifier
from sksmooth.attacks import blending_trigger, one_feature_trigger, poison
from sksmooth.datasets import make_toy_emails
from sksmooth.ensemble._votes import EnsembleVotes
from sksmooth.smoothing import GaussianNoise, JointNoise

from ._learners import Intervals

pytestmark = pytest.mark.slow


def cuts_for(p, scale):
    return tuple(scale * norm.ppf(np.cumsum(p)[:-1]))


# Probabilities of the classes: clear, near a tie of two, ten classes all alike, ten with two ahead
# (a little, or far).
PROBLEMS = {
    "clear": [0.8, 0.2],
    "tie": [0.5, 0.5],
    "near": [0.49, 0.51],
    "ten": [0.1] * 10,
    "ten near": [0.06] * 4 + [0.26, 0.25] + [0.06, 0.07, 0.06, 0.06],
    "ten tied": [0.01] * 4 + [0.46, 0.46] + [0.01] * 4,
}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"two_sided": True},
        {"bound": "hoeffding"},
        {"bound": "anytime"},
        {"correction": "holdout", "two_sided": True},
        {"voting": "soft", "bound": "betting", "two_sided": True},
        {"voting": "soft", "bound": "empirical-bernstein"},
        {"voting": "soft", "bound": "hoeffding"},
        {"voting": "soft", "bound": "anytime", "two_sided": True},
    ],
    ids=lambda p: "-".join(map(str, p.values())) or "default",
)
def test_coverage_of_a_vote_known_in_closed_form(problem, params):
    """A mean of four rows, normal with deviation 1/2: the share of false radii stays in budget.

    2,000 ensembles of 60 members each, at the level 0.8. A radius is false where it exceeds the
    exact one of the predicted class.
    """
    false, certified = share_of_false_radii(problem, 2000, **params)
    # At most 20% are false; beyond this number with probability 0.4% if it were exactly that.
    assert false <= binom.isf(0.004, 2000, 0.2)
    if problem == "clear":
        assert certified > 1000


@pytest.mark.parametrize(("problem", "two_sided"), [("tie", False), ("ten tied", True)])
def test_the_rule_of_the_papers_is_not_valid_there(problem, two_sided):
    """Choosing and bounding on the same votes at the full error: more than 20% are false."""
    false, _ = share_of_false_radii(problem, 2000, correction="none", two_sided=two_sided)
    assert false > binom.isf(1e-6, 2000, 0.2)


def share_of_false_radii(problem, reps, **params):
    """Return how many of `reps` radii are false, and how many are not abstentions."""
    p = np.array(PROBLEMS[problem])
    n_classes, size = p.size, 60
    base = Intervals(cuts=cuts_for(p, 0.5))
    model = RABEnsembleClassifier(
        base, n_estimators=size, confidence_level=0.8, random_state=0, **params
    ).fit(np.zeros((n_classes, 1)) if n_classes > 4 else np.zeros((4, 1)), _labels(n_classes))
    scale = 1.0 / np.sqrt(model.n_samples_fit_)
    rng = np.random.default_rng(0)
    means = rng.normal(0.0, scale, (reps, size))
    cuts = np.array(cuts_for(p, scale))
    votes = np.searchsorted(cuts, means)
    shown = votes[..., None] == np.arange(n_classes)
    if params.get("voting") == "soft":
        low = 0.1 / (n_classes - 1)
        data = np.where(shown, 0.9, low).transpose(0, 2, 1)
        p = p * 0.9 + (1 - p) * low
    else:
        chooses = np.arange(size) % 10 == 0
        data = np.stack([shown[:, chooses].sum(axis=1), shown[:, ~chooses].sum(axis=1)])
    kept = EnsembleVotes(data, size, model.voting, model._model_digest, "")
    y_pred, radii = model.certify_votes(kept)
    rival = np.array([np.max(np.delete(p, c)) for c in range(n_classes)])
    exact = np.where(p > rival, 0.5 * (norm.ppf(p) - norm.ppf(rival)), -1.0)
    return np.sum(radii > np.maximum(exact[y_pred], -0.5)), np.sum(radii >= 0)


def _labels(n_classes):
    return np.arange(10) if n_classes > 4 else np.arange(4) % 2


def test_members_vote_with_the_probabilities_of_the_closed_form():
    """End to end: trained members, Gaussian noise of the rows, and the exact probabilities."""
    p = [0.2, 0.5, 0.3]
    model = RABEnsembleClassifier(
        Intervals(cuts=cuts_for(p, 0.5)), n_estimators=800, random_state=0
    ).fit(np.zeros((4, 1)), [0, 1, 2, 2])
    counts = model.collect_votes([[0.0]]).together()[0]
    deviation = np.sqrt(800 * np.array(p) * (1 - np.array(p)))
    assert np.all(np.abs(counts - 800 * np.array(p)) < 4.0 * deviation)
    # Moved as far as the radius of the exact probabilities along the worst direction, the vote
    # of class 0 in (0.8, 0.2) is a tie: the theorem is met.
    exact = float(GaussianNoise(1.0).radius(0.8))
    for sign, size in ((0.0, 0.0), (1.0, exact)):
        moved = RABEnsembleClassifier(
            Intervals(cuts=cuts_for([0.8, 0.2], 0.5)), n_estimators=800, random_state=1
        ).fit(np.full((4, 1), sign * size / 2.0), [0, 1, 0, 1])
        share = moved.predict_proba([[0.0]])[0, 0]
        assert abs(share - (0.8 if sign == 0 else 0.5)) < 4.0 * np.sqrt(0.25 / 800)


def test_joint_certificate_against_enumeration():
    """Three rows, q = 0.3: the vote under every flip and shift, exactly, for linear votes.

    The base says 1 where ``a * (sum of noisy features) + b * (sum of noisy labels)`` is large: a
    normal variable plus a finite one, whose distribution is summed over all noisy labels.
    """
    q, sigma, n = 0.3, 1.0, 3
    rng = np.random.default_rng(0)

    def chance(labels, shift, a, b, cut):
        total = 0.0
        for k in range(n + 1):
            for changed in combinations(range(n), k):
                noisy = [1 - y if i in changed else y for i, y in enumerate(labels)]
                weight = q**k * (1 - q) ** (n - k)
                total += weight * norm.sf((cut - a * shift - b * sum(noisy)) / (abs(a) * sigma))
        return total

    noise, held = JointNoise(sigma, q), 0
    for _ in range(60):
        a, b, cut = rng.normal(), rng.normal(), rng.normal()
        labels = rng.integers(0, 2, n)
        p = chance(labels, 0.0, a, b, cut)
        top = max(p, 1 - p)
        for r, radius in enumerate(noise.radius(top, n_flips=[0, 1, 2])):
            if radius < 0:
                continue
            for flips in combinations(range(n), r):
                attacked = [1 - y if i in flips else y for i, y in enumerate(labels)]
                for shift in (-radius, 0.0, radius):
                    other = chance(attacked, shift, a, b, cut)
                    assert (other > 0.5) == (p > 0.5)
                    held += 1
    assert held > 300


@pytest.mark.parametrize("kind", ["one", "four", "blending", "flips"])
def test_no_attack_inside_the_radius_certifies_another_class(kind):
    """At the attack's size, nothing that the clean ensemble certifies is certified differently."""
    emails = make_toy_emails(160, random_state=0)
    X, y = np.log1p(emails.data), emails.target
    X, y, X_test = X[:120], y[:120], X[120:]
    base, q, sigma = GaussianNB(), 0.0, 1.0
    if kind == "flips":
        base, q, sigma = LogisticRegression(), 0.1, 0.3
    params = {"n_estimators": 150, "sigma": sigma, "q": q, "confidence_level": 0.99}
    clean = RABEnsembleClassifier(base, random_state=0, **params).fit(X, y)
    certified = changed = 0
    for seed, share in enumerate((0.02, 0.1, 0.5)):
        n_flips = 0
        X_bad, y_bad = X.copy(), y.copy()
        if kind == "flips":
            n_flips = 1
            worst = np.argsort(-np.abs(X - X_test[seed]).sum(axis=1))[:n_flips]
            y_bad[worst] = 1 - y_bad[worst]
            X_bad[worst] += 0.01
        else:
            d = X.shape[1]
            trigger = {
                "one": lambda d=d: one_feature_trigger((d,), 0.1),
                "four": lambda d=d: np.where(np.arange(d) < 4, 0.05, 0.0),
                "blending": lambda d=d: blending_trigger((d,), 0.1, random_state=0),
            }[kind]()
            bad = poison(X, y, trigger, share=share, target=1, random_state=seed)
            X_bad = bad.X
        size = np.linalg.norm(X_bad - X)
        poisoned = RABEnsembleClassifier(base, random_state=seed + 1, **params)
        poisoned.fit(X_bad, y_bad)
        before = clean.certify(X_test, n_flips=n_flips)
        after = poisoned.certify(X_test)
        holds = before.radii >= size
        certified += holds.sum()
        changed += np.sum(holds & (before.y_pred != after.y_pred))
        assert not np.any(holds & (after.radii >= 0) & (before.y_pred != after.y_pred))
    print(f"{kind}: {certified} certified at the attack's size, {changed} plain changes")
    assert certified > 0


def test_certificates_of_a_linear_base_move_with_the_data():
    """The same noise on shifted data: the radius is an honest distance, not a constant."""
    X = np.r_[np.zeros((30, 2)), np.ones((30, 2)) * 3.0]
    y = np.repeat([0, 1], 30)
    model = RABEnsembleClassifier(LogisticRegression(), n_estimators=150, random_state=0).fit(X, y)
    radii = model.certify([[0.0, 0.0], [1.4, 1.4], [1.5, 1.5], [3.0, 3.0]]).radii
    assert radii[0] > radii[1] and radii[3] > radii[2] and min(radii[1], radii[2]) == -1.0
