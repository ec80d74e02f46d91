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

# Tables hold this many distances r side by side, the number that numba turns into vector
# instructions. Of each piece they hold the coefficients of F or 1 - F (one more than of f), then
# those of f: `tables[piece, coefficient, lane]`.
LANES = 16
N_STORED = 2 * N_COEFFICIENTS + 1

# Largest K for which `_multiply_rows` is compiled by itself: longer loops are not unrolled.
MAX_UNROLLED = 16

# Tile of training rows that stays in the cache while the inputs of a batch pass over it.
TILE_ROWS, TILE_COLUMNS = 16, 1024

# Panels of `panel_sums`: 8 Gauss-Legendre nodes on this width leave 1e-7 of the value at a slope
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
    r, first_piece, sf_start, points, to_monomial, density_args, coefficients, upper, lane
):
    """Fill one lane: for each piece of u the polynomial of F or of 1 - F, then that of f.

    `upper[k, lane]` is 1 where piece k holds 1 - F (where F is the larger of the two), else 0.
    """
    n = points.size
    n_pieces = upper.shape[0]
    half_width = 0.5 * PIECE_WIDTH
    f_values = np.empty(n)
    g_values = np.empty(n)
    gain = np.empty(n_pieces)
    for k in range(n_pieces):
        piece = coefficients[k]
        middle = (first_piece + k + 0.5) * PIECE_WIDTH
        for j in range(n):
            u = middle + half_width * points[j]
            # r and the middle are doubles close to each other, or far apart and then irrelevant.
            gap = (r - middle) - half_width * points[j]
            f_values[j], f2 = _densities(r, u, gap, *density_args)
            # -dF/du per unit of the local variable v in [-1, 1].
            g_values[j] = half_width * (u / r) * f2
        at_left = 0.0
        total = 0.0
        sign = -1.0
        for i in range(n):
            f_total = 0.0
            g_total = 0.0
            for j in range(n):
                f_total += to_monomial[i, j] * f_values[j]
                g_total += to_monomial[i, j] * g_values[j]
            piece[n + 1 + i, lane] = f_total
            # Antiderivative: the constant term is set below.
            g_total /= i + 1.0
            piece[i + 1, lane] = g_total
            total += g_total
            at_left += sign * g_total
            sign = -sign
        gain[k] = max(total - at_left, 0.0)
        piece[0, lane] = -at_left  # zero at v = -1
    # 1 - F grows with u: summed from the left. F from the right. Both sums of positive terms.
    sf = sf_start
    for k in range(n_pieces):
        upper[k, lane] = 1.0 if sf < 0.5 else 0.0
        if sf < 0.5:
            coefficients[k, 0, lane] += sf
        sf += gain[k]
    cdf = 0.0
    for k in range(n_pieces - 1, -1, -1):
        cdf += gain[k]
        if upper[k, lane] == 0.0:
            for i in range(n + 1):
                coefficients[k, i, lane] = -coefficients[k, i, lane]
            coefficients[k, 0, lane] += cdf


@njit(cache=True, nogil=True)
def _tails(at, v, coefficients, upper, lane):
    """F and 1 - F of one row, in piece number `at` of the tables."""
    value = 0.0
    if 0 <= at < upper.shape[0]:
        value = coefficients[at, N_COEFFICIENTS, lane]
        for k in range(DEGREE, -1, -1):
            value = value * v + coefficients[at, k, lane]
        value = max(value, 0.0)
    # Left of the tables 1 - F is 0, right of them F, as the outermost pieces hold.
    if upper[min(max(at, 0), upper.shape[0] - 1), lane] > 0.0:
        return 1.0 - value, value
    return value, 1.0 - value


@njit(cache=True, nogil=True)
def evaluate(piece, v, first, coefficients, upper, lane):
    """F, 1 - F and f at one tabulated distance, for rows as `locate` returns them."""
    n = piece.size
    cdf = np.empty(n)
    sf = np.empty(n)
    pdf = np.zeros(n)
    for i in range(n):
        at = piece[i] - first
        cdf[i], sf[i] = _tails(at, v[i], coefficients, upper, lane)
        if 0 <= at < upper.shape[0]:
            density = coefficients[at, N_STORED - 1, lane]
            for k in range(N_STORED - 2, N_COEFFICIENTS, -1):
                density = density * v[i] + coefficients[at, k, lane]
            pdf[i] = max(density, 0.0)
    return cdf, sf, pdf


@njit(cache=True, nogil=True)
def _integrate(start, width, u, density_args, points, weights):
    """Integral of f over distances from u + start on, by one Gauss-Legendre panel."""
    half = 0.5 * width
    total = 0.0
    for k in range(points.size):
        gap = start + half * (1.0 + points[k])
        total += weights[k] * _densities(u + gap, u, gap, *density_args)[0]
    return half * total


@njit(cache=True, nogil=True)
def panel_sums(u, density_args, points, weights):
    """Integrals of f of each row from the left, and from the right, up to the edges of panels.

    Returns
    -------
    low : ndarray of shape (n_rows,)
        Where the first panel starts, from u, where positions are exact.
    below, above : ndarrays of shape (n_rows, n_panels + 1)
    """
    # The mean distance m obeys d + u^2 - 1 <= m^2 <= d + u^2: two reaches and 1 hold everything.
    n_panels = int((2.0 * REACH + 1.0) / PANEL_WIDTH) + 1
    low = np.empty(u.size)
    below = np.zeros((u.size, n_panels + 1))
    above = np.zeros((u.size, n_panels + 1))
    gain = np.empty(n_panels)
    for i in range(u.size):
        mean_square = density_args[0] + u[i] * u[i]
        low[i] = max(math.sqrt(max(mean_square - 1.0, 0.0)) - REACH, 0.0) - u[i]
        for j in range(n_panels):
            start = low[i] + j * PANEL_WIDTH
            gain[j] = _integrate(start, PANEL_WIDTH, u[i], density_args, points, weights)
            below[i, j + 1] = below[i, j] + gain[j]
        for j in range(n_panels - 1, -1, -1):
            above[i, j] = above[i, j + 1] + gain[j]
    return low, below, above


@njit(cache=True, nogil=True)
def evaluate_row(r, u, low, below, above, density_args, points, weights):
    """F, 1 - F and f of one row at distance r, without tables but as accurate as they are."""
    gap = r - u
    position = (gap - low) / PANEL_WIDTH
    if position <= 0.0:
        return 0.0, 1.0, 0.0
    if position >= below.size - 1:
        return 1.0, 0.0, 0.0
    panel = int(position)
    start = low + panel * PANEL_WIDTH
    pdf = _densities(r, u, gap, *density_args)[0]
    if below[panel] < 0.5:
        cdf = below[panel] + _integrate(start, gap - start, u, density_args, points, weights)
        if cdf < 0.5:
            return cdf, 1.0 - cdf, pdf
    rest = start + PANEL_WIDTH - gap
    sf = _integrate(gap, rest, u, density_args, points, weights) + above[panel + 1]
    return 1.0 - sf, sf, pdf


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _add_squares(row, other, x0, x1, x2, x3, weights, start, stop, totals):
    """Sum the squared differences of two rows from four inputs, in these columns."""
    # Eight sums keep the processor busy and still fit into its registers. Unsigned indices need no
    # check for negative ones, and the loops become vector instructions.
    row0, row1, row2, row3 = 0.0, 0.0, 0.0, 0.0
    other0, other1, other2, other3 = 0.0, 0.0, 0.0, 0.0
    if weights.size == 0:
        for j in range(np.uint64(start), np.uint64(stop)):
            v, w = row[j], other[j]
            row0 += (v - x0[j]) * (v - x0[j])
            row1 += (v - x1[j]) * (v - x1[j])
            row2 += (v - x2[j]) * (v - x2[j])
            row3 += (v - x3[j]) * (v - x3[j])
            other0 += (w - x0[j]) * (w - x0[j])
            other1 += (w - x1[j]) * (w - x1[j])
            other2 += (w - x2[j]) * (w - x2[j])
            other3 += (w - x3[j]) * (w - x3[j])
    else:
        for j in range(np.uint64(start), np.uint64(stop)):
            v, w, weight = row[j], other[j], weights[j]
            row0 += (v - x0[j]) * (v - x0[j]) * weight
            row1 += (v - x1[j]) * (v - x1[j]) * weight
            row2 += (v - x2[j]) * (v - x2[j]) * weight
            row3 += (v - x3[j]) * (v - x3[j]) * weight
            other0 += (w - x0[j]) * (w - x0[j]) * weight
            other1 += (w - x1[j]) * (w - x1[j]) * weight
            other2 += (w - x2[j]) * (w - x2[j]) * weight
            other3 += (w - x3[j]) * (w - x3[j]) * weight
    totals[0, 0], totals[0, 1], totals[0, 2], totals[0, 3] = row0, row1, row2, row3
    totals[1, 0], totals[1, 1], totals[1, 2], totals[1, 3] = other0, other1, other2, other3


@njit(cache=True, nogil=True)
def add_squared_distances(X, inputs, weights, out):
    """Add the squared distances of the rows of X from each test input.

    All inputs pass over a tile of training rows, four inputs and two rows at a time, while it is in
    the cache.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    inputs : ndarray of shape (n_inputs, n_features)
    weights : ndarray of shape (n_features,) or (0,)
        Weights of the squared differences; none if they are all 1.
    out : ndarray of shape (n_inputs, n_rows)
    """
    n_rows, n_features = X.shape
    n_inputs = inputs.shape[0]
    last_row, last = n_rows - 1, n_inputs - 1
    totals = np.empty((2, 4))
    for first_row in range(0, n_rows, TILE_ROWS):
        for start in range(0, n_features, TILE_COLUMNS):
            stop = min(start + TILE_COLUMNS, n_features)
            for b in range(0, n_inputs, 4):
                # The last input, or row, stands in where too few are left.
                x0, x1 = inputs[b], inputs[min(b + 1, last)]
                x2, x3 = inputs[min(b + 2, last)], inputs[min(b + 3, last)]
                for i in range(first_row, min(first_row + TILE_ROWS, n_rows), 2):
                    other = X[min(i + 1, last_row)]
                    _add_squares(X[i], other, x0, x1, x2, x3, weights, start, stop, totals)
                    for row in range(min(2, n_rows - i)):
                        for k in range(min(4, n_inputs - b)):
                            out[b + k, i + row] += totals[row, k]


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
    for c in range(n_classes):
        out[c] = 0.0
    for w in range((n_neighbors + n_classes - 1) // n_classes, n_neighbors + 1):
        rest = n_neighbors - w
        for m in range(rest + 1):
            before_a[0, m] = after_a[n_classes, m] = 1.0 if m == 0 else 0.0
            before_b[0, m] = after_b[n_classes, m] = 0.0
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
    product = np.empty(n_neighbors)
    for m in range(n_neighbors):
        product[m] = a[0, m]
    for c in range(1, n_classes):
        # From the top down, so that what is still needed is not overwritten.
        for m in range(n_neighbors - 1, -1, -1):
            value = 0.0
            for k in range(m + 1):
                value += product[m - k] * a[c, k]
            product[m] = value
    total = 0.0
    for m in range(n_neighbors):
        total += product[m]
    return total


@njit(cache=True, nogil=True)
def at_least(cdf, sf, labels, n_classes, n_neighbors):
    """For each class: chance that K rows, and of them enough of this class to win, are closer.

    An upper bound: the smaller of the chances of "at least K rows of any class" and "as many rows
    of this class as can win at all". Both are sums of positive terms.
    """
    chances = _no_rows(n_classes, n_neighbors)
    for i in range(cdf.size):
        _count_row(chances, labels[i], n_classes, n_neighbors, cdf[i], sf[i])
    return _enough_rows(chances, n_classes, n_neighbors)


@njit(cache=True, nogil=True)
def _fewest_votes(c, n_classes, n_neighbors):
    """Fewest votes with which class c can win: it needs one more than those before it.

    With w votes, the others have at most c (w - 1) + (C - 1 - c) w, and K - w at least.
    """
    return (n_neighbors + c + n_classes - 1) // n_classes


@njit(cache=True, nogil=True)
def _no_rows(n_classes, n_neighbors):
    """Chances of 0, 1, ... closer rows of each class, then of all, before the first row."""
    chances = np.zeros((n_classes + 1, n_neighbors + 1))
    for c in range(n_classes + 1):
        chances[c, 0] = 1.0
    return chances


@njit(cache=True, nogil=True)
def _enough_rows(chances, n_classes, n_neighbors):
    out = np.empty(n_classes)
    for c in range(n_classes):
        least = _fewest_votes(c, n_classes, n_neighbors)
        out[c] = min(chances[c, least], chances[n_classes, n_neighbors])
    return out


@njit(cache=True, nogil=True)
def _count_row(chances, c, n_classes, n_neighbors, cdf, sf):
    """Add a row of class c to its class and to all."""
    _count(chances[c], _fewest_votes(c, n_classes, n_neighbors), cdf, sf)
    _count(chances[n_classes], n_neighbors, cdf, sf)


@njit(cache=True, nogil=True)
def _count(chances, last, cdf, sf):
    """Add a row to the chances of 0, 1, ... rows; the last entry is that of so many or more."""
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


# Flat arrays, unsigned indices and loops over lanes of a constant length become vector
# instructions: the two functions below, the heart of smoothed K-NN, run an order of magnitude
# faster than one distance at a time.


@njit(error_model="numpy", fastmath={"contract", "nsz"}, inline="always")
def _lane_values(coefficients, upper, first, side, v, lane):
    """F, 1 - F and f from flat tables, where a piece's numbers start at `first` and `side`."""
    value = coefficients[first + np.uint64(N_COEFFICIENTS * LANES) + lane]
    for k in range(1, N_COEFFICIENTS + 1):
        value = value * v + coefficients[first + np.uint64((N_COEFFICIENTS - k) * LANES) + lane]
    density = coefficients[first + np.uint64((N_STORED - 1) * LANES) + lane]
    for k in range(1, N_COEFFICIENTS):
        density = density * v + coefficients[first + np.uint64((N_STORED - 1 - k) * LANES) + lane]
    value = value if value > 0.0 else 0.0
    density = density if density > 0.0 else 0.0
    flag = upper[side + lane]
    return flag + (1.0 - 2.0 * flag) * value, (1.0 - flag) + (2.0 * flag - 1.0) * value, density


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _multiply_rows(piece, v, labels, start, stop, first_piece, coefficients, upper, unrolled, out):
    """`add_row` for the rows from `start` to `stop`, at LANES distances side by side, for small K.

    `unrolled` is a tuple whose *length* is K: being part of its type, it is known to the compiler,
    which unrolls the loop. `out` has, for each class, K + 1 blocks (a[m], b[m]) of LANES numbers
    each, the first of them zeros (m = -1).
    """
    lanes = np.uint64(LANES)
    block = np.uint64(2 * LANES)
    n_updates = len(unrolled)
    class_stride = np.uint64((n_updates + 1) * 2 * LANES)
    for i in range(start, stop):
        at = np.uint64(piece[i] - first_piece)
        first = at * np.uint64(N_STORED * LANES)
        side = at * lanes
        top = np.uint64(labels[i] + 1) * class_stride - block
        for lane in range(np.uint64(0), np.uint64(LANES)):
            cdf, sf, pdf = _lane_values(coefficients, upper, first, side, v[i], lane)
            a = out[top + lane]
            b = out[top + lanes + lane]
            for k in range(n_updates):
                here = top - np.uint64(2 * LANES * k) + lane
                a_below = out[here - block]
                b_below = out[here - lanes]
                out[here] = a * sf + a_below * cdf
                out[here + lanes] = b * sf + (b_below * cdf + a * pdf)
                a = a_below
                b = b_below


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _multiply_rows_any(
    piece, v, labels, start, stop, first_piece, coefficients, upper, n_neighbors, out
):
    """`_multiply_rows` for any K."""
    lanes = np.uint64(LANES)
    block = np.uint64(2 * LANES)
    class_stride = np.uint64((n_neighbors + 1) * 2 * LANES)
    values = np.empty(3 * LANES)
    for i in range(start, stop):
        at = np.uint64(piece[i] - first_piece)
        first = at * np.uint64(N_STORED * LANES)
        side = at * lanes
        for lane in range(np.uint64(0), np.uint64(LANES)):
            cdf, sf, pdf = _lane_values(coefficients, upper, first, side, v[i], lane)
            values[lane] = cdf
            values[lanes + lane] = sf
            values[block + lane] = pdf
        here = np.uint64(labels[i] + 1) * class_stride - block
        for _ in range(n_neighbors):
            for lane in range(np.uint64(0), np.uint64(LANES)):
                cdf = values[lane]
                sf = values[lanes + lane]
                a = out[here + lane]
                out[here + lane] = a * sf + out[here - block + lane] * cdf
                out[here + lanes + lane] = out[here + lanes + lane] * sf + (
                    out[here - lanes + lane] * cdf + a * values[block + lane]
                )
            here -= block


@njit(cache=True, nogil=True)
def integrands_by_tables(
    piece, v, labels, n_classes, n_neighbors, first, coefficients, upper, unrolled,
    dr_dw, density, fewer,
):  # fmt: skip
    """For LANES tabulated distances: win densities and the chance of fewer than K closer.

    Parameters
    ----------
    piece, v, labels : ndarrays of shape (n_rows,)
        The training rows, as `nearest_first` returns them.
    n_classes, n_neighbors : int
    first, coefficients, upper
        As `NoncentralChiTables.get` returns them.
    unrolled : tuple
        Of length n_neighbors if that is at most MAX_UNROLLED, else empty: see `_multiply_rows`.
    dr_dw : ndarray of shape (LANES,)
        Factors of the densities.
    density : ndarray of shape (LANES, n_classes)
        Output: win densities.
    fewer : ndarray of shape (LANES,)
        Output: chance of fewer than K closer.
    """
    # Rows left of the tables are closer; with K of them nothing is left to win.
    closer = np.zeros(n_classes, dtype=np.int64)
    start = 0
    while start < piece.size and piece[start] < first:
        closer[labels[start]] += 1
        start += 1
    stop = piece.size
    while stop > start and piece[stop - 1] >= first + upper.shape[0]:
        stop -= 1
    counts = np.zeros((n_classes, n_neighbors + 1, 2, LANES))
    for c in range(n_classes):
        if closer[c] < n_neighbors:
            for lane in range(LANES):
                counts[c, closer[c] + 1, 0, lane] = 1.0
    flat = counts.reshape(counts.size)
    tables = coefficients.reshape(coefficients.size), upper.reshape(upper.size)
    if len(unrolled) > 0:
        _multiply_rows(piece, v, labels, start, stop, first, *tables, unrolled, flat)
    else:
        _multiply_rows_any(piece, v, labels, start, stop, first, *tables, n_neighbors, flat)
    a = np.empty((n_classes, n_neighbors))
    b = np.empty((n_classes, n_neighbors))
    for lane in range(LANES):
        for c in range(n_classes):
            for m in range(n_neighbors):
                a[c, m] = counts[c, m + 1, 0, lane]
                b[c, m] = counts[c, m + 1, 1, lane]
        win_densities(a, b, density[lane])
        for c in range(n_classes):
            density[lane, c] *= dr_dw[lane]
        fewer[lane] = probability_of_fewer(a)


@njit(cache=True, nogil=True)
def _evaluate_rows(r, u, panels, density_args, points, weights):
    low, below, above = panels
    cdf, sf, pdf = np.empty(u.size), np.empty(u.size), np.empty(u.size)
    for i in range(u.size):
        cdf[i], sf[i], pdf[i] = evaluate_row(
            r, u[i], low[i], below[i], above[i], density_args, points, weights
        )
    return cdf, sf, pdf


@njit(cache=True, nogil=True)
def integrands_by_rows(
    u, labels, n_classes, n_neighbors, panels, r, density_args, points, weights,
    dr_dw, density, fewer,
):  # fmt: skip
    """`integrands_by_tables` at distances r, by `evaluate_row`; panels from `panel_sums`."""
    for node in range(r.size):
        cdf, sf, pdf = _evaluate_rows(r[node], u, panels, density_args, points, weights)
        fewer[node] = integrand(cdf, sf, pdf, labels, n_neighbors, density[node])
        density[node] *= dr_dw[node]


@njit(cache=True, nogil=True)
def at_least_by_rows(u, labels, n_classes, n_neighbors, panels, r, density_args, points, weights):
    """`at_least` at one distance, by `evaluate_row`; panels from `panel_sums`."""
    cdf, sf, _ = _evaluate_rows(r, u, panels, density_args, points, weights)
    return at_least(cdf, sf, labels, n_classes, n_neighbors)


@njit(cache=True, nogil=True)
def at_least_by_table(
    piece, v, labels, n_classes, n_neighbors, first, coefficients, upper, lane, negligible
):
    """`at_least` at one tabulated distance, up to `negligible` more than the exact value.

    Rows come nearest first. Where those that are left have a chance of at most `negligible` to be
    closer at all, that is added and the loop ends.
    """
    chances = _no_rows(n_classes, n_neighbors)
    n = piece.size
    while n > 0 and piece[n - 1] >= first + upper.shape[0]:
        n -= 1
    rest = 0.0
    cdf = 1.0
    for i in range(n):
        # F of the row before, which is nearer, is the larger.
        if i > 0 and piece[i] > piece[i - 1] and (n - i) * cdf <= negligible:
            rest = (n - i) * cdf
            break
        cdf, sf = _tails(piece[i] - first, v[i], coefficients, upper, lane)
        _count_row(chances, labels[i], n_classes, n_neighbors, cdf, sf)
    return _enough_rows(chances, n_classes, n_neighbors) + rest


@njit(cache=True, nogil=True)
def quadrature_error(fine, middle, coarse):
    """Error of the trapezoidal rule, estimated on the safe side from its values at h, 2h and 4h.

    Up to a constant, each halving at least squares a geometric error, so that of ``fine`` is about
    the fourth power of the relative change from 4h to 2h (doubled, for the error of ``middle`` in
    it) or less, and far below the change from 2h to h. The latter alone could vanish by symmetry
    where a peak is unresolved; both together do not, unless the peak is narrower than h and a small
    part of the sum: win densities have no such peaks (see the tests with thousands of equal rows).
    """
    if fine == 0.0:
        return abs(middle)
    relative = min(2.0 * abs(middle - coarse) / fine, 1.0)
    return abs(fine - middle) + fine * relative**4


@njit(cache=True, nogil=True)
def trapezoidal_sums(density, step, can_win, share, floor):
    """Trapezoidal sums, their errors, and the largest bounds on cut ends that are negligible.

    Parameters
    ----------
    density : ndarray of shape (n_nodes, n_classes)
    step : float
    can_win : ndarray of shape (n_classes,), bool
        Classes without a chance have an infinite goal.
    share, floor : float
        The goal is this share of a sum, of `floor` at least.

    Returns
    -------
    wins, error, goal : ndarray of shape (n_classes,)
    """
    n_classes = density.shape[1]
    sums = np.zeros((3, n_classes))
    for k in range(density.shape[0]):
        for c in range(n_classes):
            sums[0, c] += density[k, c]
            if k % 2 == 0:
                sums[1, c] += density[k, c]
            if k % 4 == 0:
                sums[2, c] += density[k, c]
    wins = step * sums[0]
    error = np.empty(n_classes)
    goal = np.full(n_classes, np.inf)
    for c in range(n_classes):
        error[c] = quadrature_error(wins[c], 2.0 * step * sums[1, c], 4.0 * step * sums[2, c])
        if can_win[c]:
            goal[c] = share * max(wins[c], floor)
    return wins, error, goal


@njit(cache=True, nogil=True)
def _sort_by_counting(u, labels, limit, first, n_pieces):
    position = np.zeros(n_pieces + 1, dtype=np.int64)
    for i in range(u.size):
        if u[i] <= limit:
            position[int(u[i] / PIECE_WIDTH) - first + 1] += 1
    for j in range(n_pieces):
        position[j + 1] += position[j]
    n = position[n_pieces]
    piece, v, near_labels = np.empty(n, np.int64), np.empty(n), np.empty(n, np.int64)
    for i in range(u.size):
        if u[i] <= limit:
            number = int(u[i] / PIECE_WIDTH)
            place = position[number - first]
            position[number - first] += 1
            piece[place] = number
            v[place] = 2.0 * (u[i] / PIECE_WIDTH - number) - 1.0
            near_labels[place] = labels[i]
    return piece, v, near_labels


def nearest_first(u, labels, limit):
    """Rows up to a distance, sorted by the piece of the tables that they lie in.

    Returns
    -------
    piece : ndarray of shape (n_near,), int64
        Numbers of the pieces, ascending; in one piece, rows keep their order.
    v : ndarray of shape (n_near,)
        Place in the piece, from -1 to 1.
    labels : ndarray of shape (n_near,)
    """
    first = int(u.min() / PIECE_WIDTH)
    n_pieces = int(limit / PIECE_WIDTH) - first + 1
    if n_pieces <= 2**16 + 4 * u.size:
        return _sort_by_counting(u, labels, limit, first, n_pieces)
    near = u <= limit
    piece, v = locate(u[near])
    order = np.argsort(piece, kind="stable")
    return piece[order], v[order], labels[near][order]


def locate(u):
    """Piece of the tables that each distance lies in, and its place v in [-1, 1] there."""
    position = u / PIECE_WIDTH
    piece = position.astype(np.int64)
    return piece, 2.0 * (position - piece) - 1.0


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
    piece, v, labels, n_classes, n_neighbors, first, coefficients, upper, error, deep_error
):
    """Chance that the K-th row is in one of the levels between LANES edges and class c wins.

    For any number of classes, one level at a time; `quantized_wins_of_two` is much faster.

    Parameters
    ----------
    piece, v : ndarrays of shape (n_rows,)
        Distances of the training rows as `locate` returns them, in row order: ties go to the lower
        row.
    labels : ndarray of shape (n_rows,)
        Class indices.
    n_classes, n_neighbors : int
    first, coefficients, upper
        Tables at the edges, as `NoncentralChiTables.get` returns them.
    error, deep_error : float
        Relative errors of table values above and below 1e-140. The chance of lying in one level is
        a difference of two such values: their errors are added to it.

    Returns
    -------
    wins, wins_upper : ndarray of shape (n_classes,)
    closer : ndarray of shape (n_classes,)
        `at_least` at the first edge.
    fewer : float
        Chance of fewer than K rows below the last edge.
    """
    n_rows = labels.size
    wins = np.zeros(n_classes)
    wins_upper = np.zeros(n_classes)
    win = np.empty(n_classes)
    suffix_after = np.empty((n_rows, n_neighbors))
    suffix = np.empty((n_classes, n_neighbors))
    prefix = np.empty((n_classes, n_neighbors))
    both = np.empty((n_classes, n_neighbors))
    kth = np.zeros((n_classes, n_neighbors))
    unused = np.zeros((n_classes, n_neighbors))
    cdf, sf, _ = evaluate(piece, v, first, coefficients, upper, 0)  # below this level
    closer = at_least(cdf, sf, labels, n_classes, n_neighbors)
    for level in range(1, LANES):
        # Rows after the K-th in row order are closer when strictly below this level.
        suffix[:] = 0.0
        suffix[:, 0] = 1.0
        for i in range(n_rows - 1, -1, -1):
            c = labels[i]
            suffix_after[i] = suffix[c]
            add_row(suffix, unused, c, cdf[i], sf[i], 0.0)
        # Rows before it are closer when in this level or below.
        new_cdf, new_sf, _ = evaluate(piece, v, first, coefficients, upper, level)
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
    return wins, wins_upper, closer, probability_of_fewer(prefix)


# Rows of which `quantized_wins_of_two` holds counts at a time, and the largest K for which it is
# compiled by itself.
CHUNK_ROWS = 256
MAX_UNROLLED_LEVELS = 8


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _edge_values(piece, v, first_piece, coefficients, upper, out):
    """F, then 1 - F, of each row at LANES edges; the first of each stands twice."""
    lanes = np.uint64(LANES)
    n_pieces = upper.size // LANES
    for i in range(piece.size):
        at = piece[i] - first_piece
        inside = 0 <= at < n_pieces
        piece_at = np.uint64(min(max(at, 0), n_pieces - 1))
        first = piece_at * np.uint64(N_STORED * LANES)
        side = piece_at * lanes
        here = np.uint64(i * 2 * (LANES + 1))
        x = v[i]
        for lane in range(np.uint64(0), np.uint64(LANES)):
            value = coefficients[first + np.uint64(N_COEFFICIENTS * LANES) + lane]
            for k in range(1, N_COEFFICIENTS + 1):
                value = (
                    value * x + coefficients[first + np.uint64((N_COEFFICIENTS - k) * LANES) + lane]
                )
            # Left of the tables 1 - F is 0, right of them F, as the outermost pieces hold.
            value = value if inside and value > 0.0 else 0.0
            flag = upper[side + lane]
            out[here + np.uint64(1) + lane] = flag + (1.0 - 2.0 * flag) * value
            out[here + np.uint64(LANES + 2) + lane] = (1.0 - flag) + (2.0 * flag - 1.0) * value
        out[here] = out[here + np.uint64(1)]
        out[here + np.uint64(LANES + 1)] = out[here + np.uint64(LANES + 2)]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _times_row(counts, start, values, cdf_at, sf_at, n_neighbors, unrolled):
    """Multiply a polynomial (after a block of zeros) by one row's, in all lanes."""
    size = len(unrolled) if len(unrolled) > 0 else n_neighbors
    for lane in range(np.uint64(0), np.uint64(LANES)):
        cdf = values[cdf_at + lane]
        sf = values[sf_at + lane]
        for k in range(size):
            here = start + np.uint64((size - k) * LANES) + lane
            counts[here] = counts[here] * sf + counts[here - np.uint64(LANES)] * cdf


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _forward(
    labels, values, after, prefix, both, kth, wins, n_neighbors, error, deep_error, unrolled
):
    """Go through a chunk of rows in order: `quantized_wins_of_two` explains the arrays."""
    n_neighbors = len(unrolled) if len(unrolled) > 0 else n_neighbors
    lanes = np.uint64(LANES)
    stride = np.uint64((n_neighbors + 1) * LANES)
    for i in range(labels.size):
        c = labels[i]
        own = np.uint64(c) * stride
        other = np.uint64(1 - c) * stride
        row = np.uint64(i) * stride
        low = np.uint64(i * 2 * (LANES + 1))
        high = low + np.uint64(1)
        sf = np.uint64(LANES + 1)
        for lane in range(np.uint64(0), np.uint64(LANES)):
            for m in range(n_neighbors):
                total = 0.0
                for k in range(m + 1):
                    total += (
                        prefix[own + np.uint64((k + 1) * LANES) + lane]
                        * after[row + np.uint64((m - k + 1) * LANES) + lane]
                    )
                kth[np.uint64((m + 1) * LANES) + lane] = total
        # With so many votes before this one, the row's own class wins; ties go to class 0.
        wins_from = (n_neighbors - 1) // 2 if c == 0 else n_neighbors // 2
        mine = np.uint64(2 * LANES * c)
        theirs = np.uint64(2 * LANES * (1 - c))
        for lane in range(np.uint64(0), np.uint64(LANES)):
            won = 0.0
            lost = 0.0
            for m in range(n_neighbors):
                chance = (
                    kth[np.uint64((m + 1) * LANES) + lane]
                    * both[other + np.uint64((n_neighbors - m) * LANES) + lane]
                )
                won += chance if m >= wins_from else 0.0
                lost += 0.0 if m >= wins_from else chance
            far = values[high + lane] < 0.5
            here = (
                values[high + lane] - values[low + lane]
                if far
                else values[low + sf + lane] - values[high + sf + lane]
            )
            here = here if here > 0.0 else 0.0
            scale = values[high + lane] if far else values[low + sf + lane]
            charged = here + 2.0 * scale * (error if scale > 1e-140 else deep_error)
            wins[mine + lane] += here * won
            wins[mine + lanes + lane] += charged * won
            wins[theirs + lane] += here * lost
            wins[theirs + lanes + lane] += charged * lost
        for lane in range(np.uint64(0), np.uint64(LANES)):
            for m in range(n_neighbors):
                here = np.uint64((m + 1) * LANES) + lane
                both[own + here] = (
                    kth[here] * values[high + sf + lane] + kth[here - lanes] * values[high + lane]
                )
        _times_row(prefix, own, values, high, high + sf, n_neighbors, unrolled)


@njit(cache=True, nogil=True)
def quantized_wins_of_two(
    piece, v, labels, n_neighbors, first, coefficients, upper, error, deep_error, unrolled
):
    """`quantized_wins` for two classes, all levels side by side.

    With two classes, the winner is known from the votes of the K-th row's class before it. For each
    row in order, ``kth`` has the chances of 0, 1, ... closer rows of its own class, those before it
    (``prefix``) in this level or below and those after it (``after``) strictly below, and ``both``
    the same for each class. Lane l stands for the level between the edges l - 1 and l; all
    polynomials have a block of zeros in front. `unrolled` is a tuple of length K, up to
    MAX_UNROLLED_LEVELS, or empty: see `_multiply_rows`.
    """
    n_rows = labels.size
    n_blocks = n_neighbors + 1
    starts = np.arange(0, n_rows, CHUNK_ROWS)
    coefficients, upper = coefficients.reshape(-1), upper.reshape(-1)
    values = np.empty(CHUNK_ROWS * 2 * (LANES + 1))
    after = np.zeros((CHUNK_ROWS, n_blocks * LANES))
    suffix = np.zeros((starts.size + 1, 2 * n_blocks * LANES))
    suffix[starts.size].reshape(2, n_blocks, LANES)[:, 1] = 1.0
    size = np.uint64(n_blocks * LANES)
    sf = np.uint64(LANES + 1)
    closer = _no_rows(2, n_neighbors)
    for chunk in range(starts.size - 1, -1, -1):
        rows = slice(starts[chunk], min(starts[chunk] + CHUNK_ROWS, n_rows))
        _edge_values(piece[rows], v[rows], first, coefficients, upper, values)
        suffix[chunk] = suffix[chunk + 1]
        for i in range(rows.stop - rows.start - 1, -1, -1):
            c = labels[rows.start + i]
            low = np.uint64(i * 2 * (LANES + 1))
            _times_row(
                suffix[chunk], np.uint64(c) * size, values, low, low + sf, n_neighbors, unrolled
            )
            _count_row(closer, c, 2, n_neighbors, values[low], values[low + sf])
    prefix = np.zeros(2 * n_blocks * LANES)
    prefix.reshape(2, n_blocks, LANES)[:, 1] = 1.0
    both = suffix[0].copy()
    kth = np.zeros(n_blocks * LANES)
    wins = np.zeros(4 * LANES)
    for chunk in range(starts.size):
        rows = slice(starts[chunk], min(starts[chunk] + CHUNK_ROWS, n_rows))
        _edge_values(piece[rows], v[rows], first, coefficients, upper, values)
        state = suffix[chunk + 1]
        for i in range(rows.stop - rows.start - 1, -1, -1):
            at = labels[rows.start + i] * n_blocks * LANES
            after[i] = state[at : at + n_blocks * LANES]
            low = np.uint64(i * 2 * (LANES + 1))
            _times_row(state, np.uint64(at), values, low, low + sf, n_neighbors, unrolled)
        _forward(
            labels[rows], values, after.reshape(-1), prefix, both, kth, wins,
            n_neighbors, error, deep_error, unrolled,
        )  # fmt: skip
    # Lane 0 is no level of this block.
    sums = wins.reshape(4, LANES)[:, 1:].sum(axis=1)
    last = prefix.reshape(2, n_blocks, LANES)[:, 1:, LANES - 1].copy()
    enough = _enough_rows(closer, 2, n_neighbors)
    return sums[::2].copy(), sums[1::2].copy(), enough, probability_of_fewer(last)
