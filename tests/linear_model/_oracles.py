# SPDX-License-Identifier: BSD-3-Clause
"""Ridge under label flips, by listing every labelling of a small training set.

Labellings of n rows with K classes are listed as the numbers of n digits to base K, the first row's
label first. Sums over rows are built row by row, in whatever the entries are: floats, or Fractions,
with which every tie is exact.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

# The linear smoother ------------------------------------------------------------------------------


def row_weights(X, x, *, alpha, fit_intercept):
    """Return a(x): the score of a class is the sum of a over the rows labelled with it.

    By the penalised normal equations for (intercept, coefficients), the intercept unpenalised:
    one square system, nothing centred.
    """
    design = np.column_stack([np.ones(len(X)), X]) if fit_intercept else np.asarray(X, dtype=float)
    probe = np.r_[1.0, x] if fit_intercept else np.asarray(x, dtype=float)
    penalty = np.full(design.shape[1], float(alpha))
    if fit_intercept:
        penalty[0] = 0.0
    return design @ np.linalg.solve(design.T @ design + np.diag(penalty), probe)


def row_weights_exact(X, x, *, alpha, fit_intercept):
    """Return the same in Fractions, of the very floats that are given: an array of objects."""
    lead = [Fraction(1)] if fit_intercept else []
    design = [lead + [Fraction(float(v)) for v in row] for row in X]
    probe = lead + [Fraction(float(v)) for v in x]
    size = len(probe)
    rows = [[sum(r[i] * r[j] for r in design) for j in range(size)] for i in range(size)]
    for i in range(len(lead), size):
        rows[i][i] += Fraction(float(alpha))
    rows = [row + [value] for row, value in zip(rows, probe, strict=True)]
    for i in range(size):  # Gauss-Jordan
        pivot = next(k for k in range(i, size) if rows[k][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for k in range(size):
            if k != i:
                rows[k] = [u - rows[k][i] * v for u, v in zip(rows[k], rows[i], strict=True)]
    solution = [row[-1] for row in rows]
    weights = np.empty(len(design), dtype=object)
    weights[:] = [sum(u * v for u, v in zip(row, solution, strict=True)) for row in design]
    return weights


# Every labelling ----------------------------------------------------------------------------------


def over_labellings(values):
    """Return, for each of K**n labellings, the sum of values[row, label of the row]."""
    total = values[0]
    for row in values[1:]:
        total = np.add.outer(total, row).ravel()
    return total


def distances(y, n_classes):
    """Return in how many rows each labelling differs from y."""
    return over_labellings((np.arange(n_classes) != np.asarray(y)[:, None]).astype(int))


def index_of(y, n_classes):
    """Return the place of labelling y in the list."""
    return int(np.ravel_multi_index(tuple(y), (n_classes,) * len(y)))


def noise_matrix(n_classes, q):
    """Return P(noisy label = column | label = row), in Fractions if q is one."""
    other = q / (n_classes - 1)
    return [[1 - q if i == j else other for j in range(n_classes)] for i in range(n_classes)]


def rule_scores(a, n_classes, q):
    """Return, for each labelling, scores (one column per class) of which the largest wins.

    The mean of the noisy scores; q = 0 gives those of a single base classifier. With two classes,
    class 0 has the threshold 1/2 for a score. Of Fractions, all is multiplied by their common
    denominator: integers are quick to add, and which is the largest stays.
    """
    kept = np.array(noise_matrix(n_classes, q), dtype=a.dtype)
    parts = np.multiply.outer(a, kept)  # what a row adds: by its label, to each class
    threshold = 0.5
    if a.dtype == object:
        unit = math.lcm(2, *(v.denominator for v in parts.ravel()))
        parts = np.vectorize(lambda v: int(v * unit), otypes=[object])(parts)
        threshold = unit // 2
    columns = [over_labellings(parts[:, :, c]) for c in range(n_classes)]
    if n_classes == 2:
        columns[0] = np.full(columns[1].shape, threshold, dtype=a.dtype)
    return np.stack(columns, axis=1)


def winners(scores):
    """Return the class of the largest score; ties go to the lowest class."""
    best, place = scores[:, 0].copy(), np.zeros(len(scores), dtype=int)
    for c in range(1, scores.shape[1]):
        higher = (scores[:, c] > best).astype(bool)
        best[higher], place[higher] = scores[higher, c], c
    return place


def margins(scores, w):
    """Return by how much class w leads."""
    return scores[:, w] - np.delete(scores, w, axis=1).max(axis=1)


def vote_probabilities(votes, n_classes, n_rows, q):
    """Return P(vote = c) around each labelling, given the vote of each noisy labelling.

    The noise is a product over rows: its matrix is applied along one row's axis after the other.
    Sums of non-negative terms: each probability has a relative error of about n_rows roundings.
    """
    kept = np.array(noise_matrix(n_classes, q), dtype=float)
    shares = (votes[:, None] == np.arange(n_classes)).astype(float)
    shares = shares.reshape((n_classes,) * n_rows + (n_classes,))
    for axis in range(n_rows):
        shares = np.moveaxis(np.tensordot(kept, shares, axes=(1, axis)), 0, axis)
    return shares.reshape(-1, n_classes)


def largest_radius(holds, distance):
    """Return the largest r with `holds` at every labelling within distance r; -1 if there is none.

    If nothing breaks it, that is the number of rows.
    """
    return int(distance[~holds].min()) - 1 if not holds.all() else int(distance.max())


# What is true of one input ------------------------------------------------------------------------


class Truth:
    """The facts about one test input, for weights a, labels y, K classes and noise q.

    Attributes
    ----------
    top : int
        Class of the mean rule.
    mean_radius : int
        Largest number of changed labels that never changes `top`, ties as the rule has them.
    mean_radius_low, mean_radius_high : int
        The same where every margin is less, or more, by `tie`: equal away from ties.
    near_top : set of int
        Classes that a margin of `tie` would make the top one.
    wrong, rival : float
        Around y: P(vote is not `top`), and the largest P(vote = c) of another class.
    vote_radius : int
        Largest number of changed labels within which `top` strictly wins the vote.
    mean : ndarray of float, of shape (n_classes,)
        Noisy mean scores on y; of class 0, with two classes, it is the threshold.
    """

    def __init__(self, a, y, n_classes, q, *, tie=1e-9):
        n = len(a)
        exact = a.dtype == object
        noise = Fraction(q) if exact else q
        tie = tie * max(1.0, float(abs(a).sum()))
        distance, here = distances(y, n_classes), index_of(y, n_classes)
        top = winners(rule_scores(a, n_classes, noise))
        self.top = int(top[here])
        mean = rule_scores(a.astype(float), n_classes, q)
        self.mean = mean[here]
        self.near_top = set(np.flatnonzero(self.mean >= self.mean.max() - tie).tolist())
        self.mean_radius = largest_radius(top == self.top, distance)
        lead = margins(mean, self.top)
        self.mean_radius_low = largest_radius(lead > tie, distance)
        self.mean_radius_high = largest_radius(lead > -tie, distance)
        votes = winners(rule_scores(a, n_classes, noise * 0))
        chances = vote_probabilities(votes, n_classes, n, q)
        others = np.delete(chances, self.top, axis=1)
        self.wrong, self.rival = float(others[here].sum()), float(others[here].max())
        # a lead that rounding could have made does not count
        strict = chances[:, self.top] > others.max(axis=1) + 1e-13
        self.vote_radius = largest_radius(strict, distance)
        self.chances = chances[here]


# Chernoff bounds ----------------------------------------------------------------------------------


def log_mgf_terms(a, w, c, n_classes, q, t):
    """Return, of shape (n_t, n, K), log E exp(-t * row's part in the lead of w over c), by label.

    With two classes the lead is s_1 - 1/2 or its negative, whose constant is spread over the rows.
    """
    kept = np.array(noise_matrix(n_classes, q), dtype=float)
    step = np.zeros((len(a), n_classes))  # what noisy label k adds to the lead
    if n_classes == 2:
        step[:, 1] = a if w == 1 else -a
        step += (-0.5 if w == 1 else 0.5) / len(a)
    else:
        step[:, w], step[:, c] = a, -a
    power = -np.asarray(t, dtype=float)[:, None, None] * step
    shift = power.max(axis=2, keepdims=True)
    return shift + np.log(np.exp(power - shift) @ kept.T)


def chernoff(a, y, w, c, n_classes, q):
    """Return the log of the Chernoff bound on P(score of w <= score of c): the least over t >= 0.

    The exponent is convex in t, zero at t = 0. Sixteen points between two ends, again and again
    between the neighbours of the least. Where it falls up to the last t, 1e6, that value is
    returned: an upper bound.
    """
    rows = np.arange(len(a))
    t = np.r_[0.0, np.geomspace(1e-6, 1e6, 200)]
    for _ in range(14):
        exponents = log_mgf_terms(a, w, c, n_classes, q, t)[:, rows, y].sum(axis=1)
        k = int(exponents.argmin())
        low, high = t[max(k - 1, 0)], t[min(k + 1, len(t) - 1)]
        if high - low <= 1e-9 * high:  # the exponent is flat: off by some 1e-18
            break
        t = np.linspace(low, high, 16)
    return min(float(exponents[k]), 0.0)


def rivals(w, n_classes):
    """List every class but w."""
    return [c for c in range(n_classes) if c != w]


def chernoff_bounds(a, y, w, n_classes, q):
    """Return upper bounds (tail_a, p_b): on P(vote is not w), and on P(vote = c) of every other."""
    pairs = [math.exp(chernoff(a, y, w, c, n_classes, q)) for c in rivals(w, n_classes)]
    tail = min(1.0, math.fsum(pairs))
    return tail, min(max(pairs), tail)


def grid_of_t(a, size=120):
    """Return values of t over eleven octaves around 1 / |a|, steps of 6.5%.

    The exponent is flat at its least, so that the least over the grid is above it by little. Leads
    whose exponent is least at still greater t cannot be lost but by a hair.
    """
    norm = math.sqrt(float(a @ a))
    return np.geomspace(2.0**-5, 2.0**6, size) / norm if norm > 0.0 else np.zeros(1)


def chernoff_of_every_labelling(a, w, n_classes, q):
    """Return, of shape (K**n, K - 1), log Chernoff bounds at every labelling, t from the grid."""
    best = np.zeros((n_classes ** len(a), n_classes - 1))
    for k, c in enumerate(rivals(w, n_classes)):
        for terms in log_mgf_terms(a, w, c, n_classes, q, grid_of_t(a)):
            np.minimum(best[:, k], over_labellings(terms), out=best[:, k])
    return best


def worst_flip_bounds(a, y, w, n_classes, q):
    """Return, of shape (n + 1, K - 1), log bounds at r = 0..n changed labels.

    For a fixed t each row has one label that raises the exponent most; the r largest rises bound
    every set of r changes. The least over the grid of t.
    """
    n = len(a)
    columns = []
    for c in rivals(w, n_classes):
        terms = log_mgf_terms(a, w, c, n_classes, q, grid_of_t(a))
        own = terms[:, np.arange(n), y]
        rises = np.sort(terms.max(axis=2) - own, axis=1)[:, ::-1]
        total = own.sum(axis=1, keepdims=True) + np.cumsum(
            np.column_stack([np.zeros(len(rises)), rises]), axis=1
        )
        columns.append(np.minimum(total.min(axis=0), 0.0))
    return np.stack(columns, axis=1)


def divergence(n_classes, q):
    """Return KL of the noise at one changed label (Rosenfeld et al., B.3)."""
    return (1 - n_classes * q / (n_classes - 1)) * math.log((1 - q) * (n_classes - 1) / q)


def kl_radius(tail, n_classes, q):
    """Return the right-hand side of Rosenfeld's eq. (5) and B.3; -1 for a tail of 1/2 or more."""
    if tail == 0.0:
        return math.inf
    if tail >= 0.5:
        return -1.0
    return -math.log(4.0 * tail * (1.0 - tail)) / (2.0 * divergence(n_classes, q))
