# SPDX-License-Identifier: BSD-3-Clause
"""Compiled loops of smoothed K-NN: counting votes among the nearest rows.

Throughout, ``a[c, m]`` is the probability that exactly m rows of class c are closer than the
distance at hand, and ``b[c, m]`` the density of "one row of class c lies at it, m others of class c
are closer" (`DESIGN`: A_c and B_c, truncated below degree K). All terms are positive, so relative
accuracy survives every sum.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ._noncentral_chi import evaluate, integrate_row


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def scaled_distances(X, x, inverse_sigma):
    """Distances of the rows of X from x in units of sigma.

    Summed from the differences, so nothing cancels: the relative error is below
    (n_features + 8) 2^-53, whichever the order of summation; `distance_charge` charges it.
    """
    out = np.empty(X.shape[0])
    for i in range(X.shape[0]):
        total = 0.0
        for j in range(X.shape[1]):
            step = (X[i, j] - x[j]) * inverse_sigma[j]
            total += step * step
        out[i] = math.sqrt(total)
    return out


def distance_charge(u, n_features):
    """Size of a change of the training rows, in sigmas, that makes up for rounded distances.

    Each computed distance is the exact one of its row moved along the line to the test input by at
    most the relative error of `scaled_distances`. So what follows from the distances is exact for
    training data that are off by the norm of these moves, and a radius is smaller by as much.
    """
    # 1.01 covers the rounding of the norm itself.
    return 1.01 * (n_features + 8.0) * 2.0**-53 * float(np.linalg.norm(u))


@njit(cache=True, nogil=True)
def add_row(a, b, c, cdf, sf, pdf):
    """Multiply the polynomials of class c by those of one more row."""
    for m in range(a.shape[1] - 1, 0, -1):
        b[c, m] = b[c, m] * sf + b[c, m - 1] * cdf + a[c, m] * pdf
        a[c, m] = a[c, m] * sf + a[c, m - 1] * cdf
    b[c, 0] = b[c, 0] * sf + a[c, 0] * pdf
    a[c, 0] = a[c, 0] * sf


@njit(cache=True, nogil=True)
def _times_class(pa, pb, a, b, c, limit, degree, out_a, out_b):
    """Multiply (pa + eps pb) by class c's polynomial, at most `limit` votes, up to `degree`.

    ``eps`` marks "the K-th row was of this class": it appears once, hence eps^2 = 0.
    """
    for m in range(degree + 1):
        sum_a = 0.0
        sum_b = 0.0
        for k in range(min(limit, m) + 1):
            sum_a += pa[m - k] * a[c, k]
            sum_b += pb[m - k] * a[c, k]
            if k > 0:
                sum_b += pa[m - k] * b[c, k - 1]
        out_a[m] = sum_a
        out_b[m] = sum_b


@njit(cache=True, nogil=True)
def win_densities(a, b, out):
    """Density of "the K-th nearest row is here and class c wins the vote", for each class c.

    The winner's count w is fixed in turn: classes before c then have at most w - 1 votes (ties go
    to the lowest index), those after it at most w. Products of the classes before and after c make
    this O(C K^3), without listing a single tally.
    """
    n_classes, n_neighbors = a.shape
    before_a = np.empty((n_classes + 1, n_neighbors))
    before_b = np.empty((n_classes + 1, n_neighbors))
    after_a = np.empty((n_classes + 1, n_neighbors))
    after_b = np.empty((n_classes + 1, n_neighbors))
    out[:] = 0.0
    for w in range((n_neighbors + n_classes - 1) // n_classes, n_neighbors + 1):
        rest = n_neighbors - w
        before_a[0, : rest + 1] = 0.0
        before_a[0, 0] = 1.0
        before_b[0, : rest + 1] = 0.0
        after_a[n_classes, : rest + 1] = before_a[0, : rest + 1]
        after_b[n_classes, : rest + 1] = 0.0
        for c in range(n_classes - 1):
            _times_class(
                before_a[c], before_b[c], a, b, c, w - 1, rest, before_a[c + 1], before_b[c + 1]
            )
        for c in range(n_classes - 1, 0, -1):
            _times_class(after_a[c + 1], after_b[c + 1], a, b, c, w, rest, after_a[c], after_b[c])
        for c in range(n_classes):
            others = 0.0
            others_with_kth = 0.0
            for m in range(rest + 1):
                others += before_a[c, m] * after_a[c + 1, rest - m]
                others_with_kth += (
                    before_b[c, m] * after_a[c + 1, rest - m]
                    + before_a[c, m] * after_b[c + 1, rest - m]
                )
            out[c] += b[c, w - 1] * others
            if w < n_neighbors:
                out[c] += a[c, w] * others_with_kth


@njit(cache=True, nogil=True)
def probability_of_fewer(a):
    """Probability that fewer than K rows, of whichever class, are closer."""
    n_classes, n_neighbors = a.shape
    total = a[0].copy()
    new = np.empty(n_neighbors)
    for c in range(1, n_classes):
        for m in range(n_neighbors):
            value = 0.0
            for k in range(m + 1):
                value += total[m - k] * a[c, k]
            new[m] = value
        total[:] = new
    return total.sum()


@njit(cache=True, nogil=True)
def at_least(cdf, sf, labels, n_classes, n_neighbors):
    """For each class: chance that K rows, and of them enough of this class to win, are closer.

    An upper bound: the smaller of the chances of "at least K rows of any class" and "at least K/C
    rows of this class". Both are sums of positive terms.
    """
    least = (n_neighbors + n_classes - 1) // n_classes
    of_all = np.zeros(n_neighbors + 1)
    of_class = np.zeros((n_classes, least + 1))
    of_all[0] = 1.0
    of_class[:, 0] = 1.0
    for i in range(cdf.size):
        _count_row(of_all, cdf[i], sf[i])
        _count_row(of_class[labels[i]], cdf[i], sf[i])
    return np.minimum(of_class[:, least], of_all[n_neighbors])


@njit(cache=True, nogil=True)
def _count_row(chances, cdf, sf):
    """Add a row to the chances of 0, 1, ... rows; the last entry stands for "that many or more"."""
    last = chances.size - 1
    chances[last] += chances[last - 1] * cdf
    for m in range(last - 1, 0, -1):
        chances[m] = chances[m] * sf + chances[m - 1] * cdf
    chances[0] *= sf


@njit(cache=True, nogil=True)
def integrand(cdf, sf, pdf, labels, n_neighbors, density):
    """Win densities at one distance, into `density`; returns the chance of fewer than K closer.

    Parameters
    ----------
    cdf, sf, pdf : ndarray of shape (n,)
        F, 1 - F and f there, of the n nearest rows; all others have F = 0.
    labels : ndarray of shape (>= n,)
        Class indices.
    n_neighbors : int
    density : ndarray of shape (n_classes,)
        Output.
    """
    a = np.zeros((density.size, n_neighbors))
    b = np.zeros((density.size, n_neighbors))
    a[:, 0] = 1.0
    for i in range(cdf.size):
        add_row(a, b, labels[i], cdf[i], sf[i], pdf[i])
    win_densities(a, b, density)
    return probability_of_fewer(a)


@njit(cache=True, nogil=True)
def integrands_by_tables(u, labels, n_classes, n_neighbors, pool, upper, start, first, stop):
    """For each tabulated distance: win densities, the chance of fewer than K closer, and bounds.

    Parameters
    ----------
    u : ndarray of shape (n_rows,)
        Distances of the training rows in units of sigma, ascending.
    labels : ndarray of shape (n_rows,)
        Class indices in the same order.
    pool, upper, start, first, stop : ndarrays
        Tables as `NoncentralChiTables.get` returns them.

    Returns
    -------
    density : ndarray of shape (n_nodes, n_classes)
    fewer : ndarray of shape (n_nodes,)
    closer : ndarray of shape (n_classes,)
        `at_least` at the first distance.
    """
    density = np.empty((start.size, n_classes))
    fewer = np.empty(start.size)
    closer = np.empty(n_classes)
    for node in range(start.size):
        cdf, sf, pdf = evaluate(pool, upper, start[node], first[node], stop[node], u)
        fewer[node] = integrand(cdf, sf, pdf, labels, n_neighbors, density[node])
        if node == 0:
            closer[:] = at_least(cdf, sf, labels, n_classes, n_neighbors)
    return density, fewer, closer


@njit(cache=True, nogil=True)
def integrands_by_rows(u, labels, n_classes, n_neighbors, r, density_args, points, weights):
    """`integrands_by_tables` at ascending distances r, by integrating each row's density."""
    cdf = np.empty((u.size, r.size))
    sf = np.empty((u.size, r.size))
    pdf = np.empty((u.size, r.size))
    for i in range(u.size):
        integrate_row(r, u[i], density_args, points, weights, cdf[i], sf[i], pdf[i])
    cdf, sf, pdf = cdf.T.copy(), sf.T.copy(), pdf.T.copy()
    density = np.empty((r.size, n_classes))
    fewer = np.empty(r.size)
    for node in range(r.size):
        fewer[node] = integrand(cdf[node], sf[node], pdf[node], labels, n_neighbors, density[node])
    return density, fewer, at_least(cdf[0], sf[0], labels, n_classes, n_neighbors)


@njit(cache=True, nogil=True)
def win_densities_at(a, b, kth_class, out):
    """`win_densities` where the K-th row is known to be of `kth_class`: only its b is not 0."""
    keep = a[kth_class].copy()
    a[kth_class] = 0.0
    win_densities(a, b, out)
    a[kth_class] = keep


@njit(cache=True, nogil=True)
def _multiply(p, q, out):
    for m in range(p.size):
        value = 0.0
        for k in range(m + 1):
            value += p[k] * q[m - k]
        out[m] = value


@njit(cache=True, nogil=True)
def quantized_wins(
    u, labels, n_classes, n_neighbors, pool, upper, start, first, stop, error, deep_error, floor
):
    """Probability that each class wins when distances are quantised, and an upper bound on it.

    Parameters
    ----------
    u : ndarray of shape (n_rows,)
        Distances of the training rows in units of sigma, in row order: ties go to the lower row.
    labels : ndarray of shape (n_rows,)
        Class indices.
    pool, upper, start, first, stop : ndarrays
        Tables at the level edges, as `NoncentralChiTables.get` returns them.
    error, deep_error : float
        Relative errors of table values above and below 1e-140. The chance of lying in one level is
        a difference of two such values: their errors are added to it.
    floor : float
        Levels that hold the K-th row with a smaller chance are left out.

    Returns
    -------
    wins, wins_upper : ndarray of shape (n_classes,)
    """
    n_levels = start.size + 1
    n_rows = u.size
    wins = np.zeros(n_classes)
    wins_upper = np.zeros(n_classes)
    win = np.empty(n_classes)
    suffix_after = np.empty((n_rows, n_neighbors))
    suffix = np.empty((n_classes, n_neighbors))
    prefix = np.empty((n_classes, n_neighbors))
    both = np.empty((n_classes, n_neighbors))
    kth = np.zeros((n_classes, n_neighbors))
    unused = np.zeros((n_classes, n_neighbors))
    order = np.argsort(u)
    ascending = u[order]
    cdf = np.zeros(n_rows)  # below this level
    sf = np.ones(n_rows)
    for level in range(n_levels):
        # Rows after the K-th in row order are closer when strictly below this level.
        suffix[:] = 0.0
        suffix[:, 0] = 1.0
        for i in range(n_rows - 1, -1, -1):
            c = labels[i]
            suffix_after[i] = suffix[c]
            add_row(suffix, unused, c, cdf[i], sf[i], 0.0)
        if probability_of_fewer(suffix) < floor:
            break
        new_cdf, new_sf = np.ones(n_rows), np.zeros(n_rows)
        if level < n_levels - 1:
            near_cdf, near_sf, _ = evaluate(
                pool, upper, start[level], first[level], stop[level], ascending
            )
            new_cdf[order[near_cdf.size :]] = 0.0
            new_sf[order[near_cdf.size :]] = 1.0
            new_cdf[order[: near_cdf.size]] = near_cdf
            new_sf[order[: near_cdf.size]] = near_sf
        # Rows before it are closer when in this level or below.
        prefix[:] = 0.0
        prefix[:, 0] = 1.0
        both[:] = suffix
        for i in range(n_rows):
            c = labels[i]
            if new_cdf[i] < 0.5:
                here = max(new_cdf[i] - cdf[i], 0.0)
                scale = new_cdf[i]
            else:
                here = max(sf[i] - new_sf[i], 0.0)
                scale = sf[i]
            here_upper = here + 2.0 * scale * (error if scale > 1e-140 else deep_error)
            suffix[c] = suffix_after[i]
            if here_upper > 0.0:
                _multiply(prefix[c], suffix[c], kth[c])
                win_densities_at(both, kth, c, win)
                kth[c] = 0.0
                for k in range(n_classes):
                    wins[k] += here * win[k]
                    wins_upper[k] += here_upper * win[k]
            add_row(prefix, unused, c, new_cdf[i], new_sf[i], 0.0)
            _multiply(prefix[c], suffix[c], both[c])
        cdf, sf = new_cdf, new_sf
    return wins, wins_upper
