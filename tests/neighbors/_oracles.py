# SPDX-License-Identifier: BSD-3-Clause
"""Slow, independent ways to the numbers that smoothed K-NN computes."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
from scipy import special, stats


def noncentral_chi_exact(n_features, r, u):
    """F, 1 - F and f at distance r of a row at distance u, as mpmath numbers.

    Poisson mixtures of central distributions: sums of positive terms only, so each keeps the
    relative accuracy of mpmath's working precision.
    """
    a = mpmath.mpf(n_features) / 2
    t = mpmath.mpf(r) ** 2 / 2
    rate = mpmath.mpf(u) ** 2 / 2
    biggest = max(float(t), float(rate), 1.0)
    n_terms = int(biggest + 40 * math.sqrt(biggest)) + 400
    steps = [mpmath.exp(-t) * t**a / mpmath.gamma(a + 1)]
    for j in range(n_terms - 1):
        steps.append(steps[-1] * t / (a + j + 1))
    lower = [mpmath.mpf(0)] * n_terms  # P(a + j, t) = sum of steps from j on
    total = mpmath.mpf(0)
    for j in range(n_terms - 1, -1, -1):
        total += steps[j]
        lower[j] = total
    upper = mpmath.gammainc(a, t, mpmath.inf, regularized=True)
    weight = mpmath.exp(-rate)
    cdf = sf = mpmath.mpf(0)
    for j in range(n_terms):
        cdf += weight * lower[j]
        sf += weight * upper
        upper += steps[j]
        weight *= rate / (j + 1)
    pdf = mpmath.exp(-rate - t) * mpmath.hyp0f1(a, rate * t) * t**a / mpmath.gamma(a)
    return cdf, sf, 2 * pdf / mpmath.mpf(r)


def winner(tally):
    """Class with the most votes; ties go to the lowest index."""
    return max(range(len(tally)), key=lambda c: (tally[c], -c))


def sampled_win_counts(X, labels, x, *, sigma, n_neighbors, n_classes, n_draws, rng, edges=None):
    """How often each class wins among `n_draws` noisy training sets, drawn literally."""
    n, d = X.shape
    counts = np.zeros(n_classes, dtype=int)
    block = max(1, 4_000_000 // (n * d))
    while n_draws > 0:
        m = min(block, n_draws)
        noisy = X + sigma * rng.standard_normal((m, n, d))
        distance = np.sqrt((((noisy - x) / sigma) ** 2).sum(axis=2))
        if edges is not None:
            distance = np.searchsorted(edges, distance, side="right")
        nearest = np.argsort(distance, axis=1, kind="stable")[:, :n_neighbors]
        votes = (labels[nearest][:, :, None] == np.arange(n_classes)).sum(axis=1)
        counts += np.bincount(votes.argmax(axis=1), minlength=n_classes)
        n_draws -= m
    return counts


def paper_win_probabilities(level_chances, labels, n_classes, n_neighbors):
    """RAB, Appendix C.1, as printed (eq. 67 to 72), with tallies listed one by one.

    Parameters
    ----------
    level_chances : nested list of shape (n_rows, n_levels)
        P(S_i = beta_l), of floats or Fractions; level 0 is the nearest.
    """
    n, n_levels = len(level_chances), len(level_chances[0])
    tallies = [
        t
        for t in itertools.product(range(n_neighbors + 1), repeat=n_classes)
        if sum(t) == n_neighbors
    ]

    def count_chances(chances, r):
        """Chance that exactly r of the independent events happen."""
        poly = [1]
        for p in chances:
            poly = [
                (poly[k] * (1 - p) if k < len(poly) else 0) + (poly[k - 1] * p if k else 0)
                for k in range(len(poly) + 1)
            ]
        return poly[r] if r < len(poly) else 0

    wins = [0] * n_classes
    for i, level in itertools.product(range(n), range(n_levels)):
        here = level_chances[i][level]
        closer = [sum(row[:level]) for row in level_chances]
        not_further = [sum(row[: level + 1]) for row in level_chances]
        for tally in tallies:
            chance = here
            for c in range(n_classes):
                votes = tally[c] - (1 if labels[i] == c else 0)
                if votes < 0:
                    chance = 0
                    break
                after = [closer[j] for j in range(i + 1, n) if labels[j] == c]
                before = [not_further[j] for j in range(i) if labels[j] == c]
                chance *= sum(
                    count_chances(after, r) * count_chances(before, votes - r)
                    for r in range(votes + 1)
                )
            wins[winner(tally)] += chance
    return wins


def log_chance_of_the_far_row(near, far, n_features):
    """Log of the chance that, of two rows in many dimensions, the far one is the nearer.

    The difference of the squared distances is the product of the sum and the difference of the two
    noisy rows, as seen from the input: independent normal vectors of variance 2. Given the
    difference, the product is normal; what is left is an integral over the angle to the rows, here
    in logs, with nothing that cancels. No noncentral chi distribution is involved. (In few
    dimensions the angle is not smooth where both its sides vanish, and the sums converge slowly.)
    """
    z = np.linspace(-40.0, 40.0, 801)[:, None]  # along the rows
    log_z = stats.norm.logpdf(z) + np.log(0.1)
    middle = np.sqrt(n_features - 1.0)  # across them: a chi distribution
    edges = np.arange(max(middle - 38.0, 0.0), middle + 38.0, 1.0)
    nodes, weights = np.polynomial.legendre.leggauss(10)
    c = (edges[:, None] + 0.5 * (nodes + 1.0)).ravel()
    log_c = stats.chi.logpdf(c, n_features - 1) + np.log(np.tile(0.5 * weights, edges.size))
    along = near - far + np.sqrt(2.0) * z
    cosine = along / np.sqrt(along**2 + 2.0 * c**2)
    log_win = special.log_ndtr((near + far) * cosine / np.sqrt(2.0))
    return special.logsumexp(log_z + log_c + log_win)


def chi_closed_form(n_features, r, u):
    """F, 1 - F and f for 1 or 3 features, in closed form, as mpmath numbers."""
    near, far = mpmath.ncdf(r - u), mpmath.ncdf(-r - u)
    if n_features == 1:
        return near - far, mpmath.ncdf(u - r) + far, mpmath.npdf(r - u) + mpmath.npdf(r + u)
    gap = (mpmath.npdf(r - u) - mpmath.npdf(r + u)) / u
    return near - far - gap, mpmath.ncdf(u - r) + far + gap, r * gap


def integrated_win_probabilities(u, labels, n_features, n_neighbors, n_classes, end):
    """Win probabilities by listing every set of closer rows, integrated in arbitrary precision.

    Gauss-Legendre with 16 nodes on panels of length 1 up to `end`.
    """
    n = len(u)
    nodes, weights = np.polynomial.legendre.leggauss(16)
    wins = [mpmath.mpf(0)] * n_classes
    for panel, (node, weight) in itertools.product(
        range(end), zip(nodes.tolist(), weights.tolist(), strict=True)
    ):
        r = mpmath.mpf(panel) + (mpmath.mpf(node) + 1) / 2
        values = [chi_closed_form(n_features, r, mpmath.mpf(ui)) for ui in u]
        cdf, sf, pdf = zip(*values, strict=True)
        for kth in range(n):
            others = [j for j in range(n) if j != kth]
            for closer in itertools.combinations(others, n_neighbors - 1):
                term = pdf[kth] * weight / 2
                for j in others:
                    term *= cdf[j] if j in closer else sf[j]
                tally = [0] * n_classes
                for j in (*closer, kth):
                    tally[labels[j]] += 1
                wins[winner(tally)] += term
    return wins
