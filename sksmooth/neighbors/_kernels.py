# SPDX-License-Identifier: BSD-3-Clause
"""Compiled loops of smoothed K-NN: the noncentral chi distribution, and counting votes.

All compiled code and its constants are in this one file: numba's cache on disk notices a change of
the file that a function stands in, but not of another file that it inlines.

Throughout, ``a[c, m]`` is the probability that exactly m rows of class c are closer than the
distance at hand, and ``b[c, m]`` the density of "one row of class c lies at it, m others of class c
are closer" (the coefficients of A_c and B_c in `doc/certificates.md`, below degree K). All terms
are positive, so relative accuracy survives every sum.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# Width of a piece and degree of its polynomial: at a slope of log F of 38 (F about 1e-300) the
# Chebyshev remainder is 1e-8 of the value, at a slope of 20 (1e-87) it is 1e-12; see the tests.
PIECE_WIDTH = 1.0 / 8.0
DEGREE = 12
N_COEFFICIENTS = DEGREE + 1

# Panels of `integrate_row`: 8 Gauss-Legendre nodes on this width leave 1e-7 of the value at a slope
# of log f of 38, and 1e-12 at 20.
PANEL_WIDTH = 1.0 / 4.0
PANEL_POINTS, PANEL_WEIGHTS = np.polynomial.legendre.leggauss(8)

# By Gaussian concentration of the 1-Lipschitz norm, a row whose mean distance is more than t away
# from r has F (or 1 - F) below exp(-t^2/2); 37.6 makes that 1e-307. The cut mass is part of
# `_plain.PROBABILITY_FLOOR`.
REACH = 37.6


@njit(cache=True, nogil=True)
def _log_scaled_lambda_debye(order, z, series):
    """Log of Lambda_order(z) exp(-z) by Debye's expansion."""
    root = math.sqrt(order * order + z * z)
    p = order / root
    value = 0.0
    for k in range(series.size - 1, -1, -1):
        value = value * p + series[k]
    # sqrt(order^2 + z^2) - z without cancellation; the same for 1 + sqrt(1 + x^2).
    return (
        order * order / (root + z)
        - order
        - order * math.log(0.5 * (1.0 + root / order))
        + 0.5 * math.log(p)
        + math.log(value)
    )


@njit(cache=True, nogil=True)
def _log_scaled_lambdas(order, z, n_steps, series_top, series_above):
    """Return the logs of Lambda_order(z) exp(-z) and Lambda_{order+1}(z) exp(-z), order > -1.

    Debye's expansion at the orders `order + n_steps` and one above, then recurrence downwards.
    """
    nu = order + n_steps
    log_at_nu = _log_scaled_lambda_debye(nu, z, series_top)
    log_above = _log_scaled_lambda_debye(nu + 1.0, z, series_above)
    ratio = math.exp(log_above - log_at_nu)
    quarter = 0.25 * z * z
    product = 1.0
    for _ in range(n_steps):
        # Lambda_{nu-1} = Lambda_nu + z^2/4 / (nu (nu+1)) Lambda_{nu+1}: positive terms.
        step = 1.0 + quarter / (nu * (nu + 1.0)) * ratio
        ratio = 1.0 / step
        product *= step
        if product > 1e100:  # a step is below 1e30 for every z that occurs
            log_at_nu += math.log(product)
            product = 1.0
        nu -= 1.0
    log_at_nu += math.log(product)
    return log_at_nu, log_at_nu + math.log(ratio)


@njit(cache=True, nogil=True)
def _densities(r, u, gap, n_features, log_gamma, n_steps, series_top, series_above):
    """Density at distance r of a row at distance u, and the same with two features more.

    `gap` is r - u, given apart because it may be known better than r and u are: far out, the
    spacing of doubles times the slope of the log density is no small number.
    """
    half = 0.5 * n_features
    log_lambda, log_lambda_2 = _log_scaled_lambdas(
        half - 1.0, r * u, n_steps, series_top, series_above
    )
    square = 0.5 * r * r
    # 2 r times the density of the noncentral chi-square distribution.
    common = math.log(2.0 / r) + half * math.log(square) - log_gamma - 0.5 * gap * gap
    return (
        math.exp(common + log_lambda),
        math.exp(common + math.log(square / half) + log_lambda_2),
    )


@njit(cache=True, nogil=True)
def fill_table(
    r,
    first_piece,
    n_pieces,
    sf_start,
    points,
    to_monomial,
    density_args,
    coefficients,
    upper,
):
    """Fill one table: for each piece of u the polynomial of F or of 1 - F, then that of f.

    `upper[k]` is True where piece k holds 1 - F (where F is the larger of the two).
    """
    n = points.size
    half_width = 0.5 * PIECE_WIDTH
    f_values = np.empty(n)
    g_values = np.empty(n)
    gain = np.empty(n_pieces)
    for k in range(n_pieces):
        middle = (first_piece + k + 0.5) * PIECE_WIDTH
        for j in range(n):
            u = middle + half_width * points[j]
            # r and the middle are doubles close to each other, or far apart and then irrelevant.
            gap = (r - middle) - half_width * points[j]
            f_values[j], f2 = _densities(r, u, gap, *density_args)
            # -dF/du per unit of the local variable v in [-1, 1].
            g_values[j] = half_width * (u / r) * f2
        for i in range(n):
            f_total = 0.0
            g_total = 0.0
            for j in range(n):
                f_total += to_monomial[i, j] * f_values[j]
                g_total += to_monomial[i, j] * g_values[j]
            coefficients[k, 1, i] = f_total
            # Antiderivative: the constant term is set below.
            coefficients[k, 0, i + 1] = g_total / (i + 1.0)
        at_left = 0.0
        total = 0.0
        sign = -1.0
        for i in range(1, n + 1):
            total += coefficients[k, 0, i]
            at_left += sign * coefficients[k, 0, i]
            sign = -sign
        gain[k] = max(total - at_left, 0.0)
        coefficients[k, 0, 0] = -at_left  # G(v), zero at v = -1
    # 1 - F grows with u: summed from the left. F from the right. Both sums of positive terms.
    sf = sf_start
    for k in range(n_pieces):
        upper[k] = sf < 0.5
        if upper[k]:
            coefficients[k, 0, 0] += sf
        sf += gain[k]
    cdf = 0.0
    for k in range(n_pieces - 1, -1, -1):
        cdf += gain[k]
        if not upper[k]:
            for i in range(n + 1):
                coefficients[k, 0, i] = -coefficients[k, 0, i]
            coefficients[k, 0, 0] += cdf


@njit(cache=True, nogil=True, inline="always")
def evaluate_piece(pool, upper, piece, v):
    """F, 1 - F and f at the local variable v in [-1, 1] of a piece."""
    value = pool[piece, 0, N_COEFFICIENTS]
    density = pool[piece, 1, DEGREE]
    for k in range(DEGREE, 0, -1):
        value = value * v + pool[piece, 0, k]
        density = density * v + pool[piece, 1, k - 1]
    value = value * v + pool[piece, 0, 0]
    value = max(value, 0.0)
    if upper[piece]:
        return 1.0 - value, value, max(density, 0.0)
    return value, 1.0 - value, max(density, 0.0)


@njit(cache=True, nogil=True)
def evaluate(pool, upper, start, first, stop, u):
    """F, 1 - F and f of one table for an ascending array u >= 0.

    The arrays end where F falls below the window: for all further u it is negligible.
    """
    n = np.searchsorted(u, (first + stop - start) * PIECE_WIDTH)
    cdf = np.empty(n)
    sf = np.empty(n)
    pdf = np.empty(n)
    for i in range(n):
        position = u[i] / PIECE_WIDTH - first
        if position < 0.0:
            cdf[i], sf[i], pdf[i] = 1.0, 0.0, 0.0
        else:
            piece = min(int(position), stop - start - 1)
            v = 2.0 * (position - piece) - 1.0
            cdf[i], sf[i], pdf[i] = evaluate_piece(pool, upper, start + piece, v)
    return cdf, sf, pdf


@njit(cache=True, nogil=True)
def integrate_row(r, u, density_args, points, weights, cdf, sf, pdf):
    """F, 1 - F and f of one row at ascending distances r, without tables.

    Gauss-Legendre panels of f between the distances, summed from the left for F and from the right
    for 1 - F: positive terms, with the same accuracy as the tables.
    """
    mean_square = density_args[0] + u * u
    # All positions are relative to u, where they are exact.
    low = max(math.sqrt(max(mean_square - 1.0, 0.0)) - REACH, 0.0) - u
    high = math.sqrt(mean_square) + REACH - u
    n = r.size
    gain = np.zeros(n + 1)
    position = low
    for j in range(n + 1):
        end = high if j == n else min(max(r[j] - u, low), high)
        while position < end:
            half = 0.5 * min(end - position, PANEL_WIDTH)
            for k in range(points.size):
                gap = position + half * (1.0 + points[k])
                gain[j] += half * weights[k] * _densities(u + gap, u, gap, *density_args)[0]
            # Adding the rest exactly ends the loop, whatever the rounding.
            position = end if end - position <= PANEL_WIDTH else position + 2.0 * half
    below = 0.0
    for j in range(n):
        below += gain[j]
        cdf[j] = below
    above = 0.0
    for j in range(n - 1, -1, -1):
        above += gain[j + 1]
        if cdf[j] < 0.5:
            sf[j] = 1.0 - cdf[j]
        else:
            sf[j] = above
            cdf[j] = 1.0 - above
        gap = r[j] - u
        pdf[j] = _densities(r[j], u, gap, *density_args)[0] if low < gap < high else 0.0


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
