# SPDX-License-Identifier: BSD-3-Clause
"""Compiled loops of ridge classification under label flips: weights, worst flips, Chernoff bounds.

All compiled code is in this one file: numba's cache on disk notices a change of the file that a
function stands in, but not of another file that it inlines.

For a predicted class w and a rival c, the margin of a labelling is ``offset + sum_j a_j v_j`` with
``v_j`` = 1, -1, 0 for label w, c or another. Its rows come in three kinds, each kept by ``|a_j|``:

- *good*: their label speaks for w (``a_j v_j > 0``); changed for the worst they are bad;
- *bad*: their label speaks for c (``a_j v_j < 0``); no change makes them worse;
- *other*: a third label (``v_j = 0``); changed for the worst they are bad.

A label is kept with probability 1 - q and becomes each of the K - 1 others with q' = q / (K - 1).
With ``e = exp(-t |a_j|)`` the moment generating function of row j's part of ``-t margin`` is
``exp(t |a_j|)`` times ``c0 + c1 e + c2 e^2``, where c0, c1, c2 are the chances that the noisy
label speaks for c, for neither, or for w: the rows of `coefficients` (eq. 6 and appendix B.2).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

EPS = 2.0**-52

# Columns of rows that stay in the cache while the inputs of a batch pass over them.
TILE = 512

# Values in one block of `_log_factors`, a power of two, and side by side in vector instructions.
BLOCK, LANES = 512, 16

# exp: x log2(e) is rounded to an integer by adding 1.5 2^52, whose last bits then hold it; ln(2)
# in two parts, the first with 20 trailing zero bits; on |x| <= ln(2) / 2 the polynomial through
# Chebyshev's points (solved for with 50 digits) leaves 2e-16.
LOG2_E = 1.0 / math.log(2.0)
ROUNDER = 1.5 * 2.0**52
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
LOWEST_EXPONENT = -700.0
EXP = (
    1.0,
    1.0000000000000067,
    0.5000000000000006,
    0.16666666666554406,
    0.04166666666657314,
    0.008333333385667782,
    0.0013888888932488599,
    0.00019841170270440067,
    2.4801504346997686e-05,
    2.764018079620985e-06,
    2.7626357241447223e-07,
)

# Sorting: buckets per factor of two, and how many factors; smaller values share the last one.
BUCKET_SHIFT, N_BUCKETS = 46, 1024

# Newton's method stops where it promises to lower the logarithm of a bound by less than this.
TOLERANCE = 1e-9
MAX_STEPS = 100

# Logarithm of what is negligible beside a bound near 1/2.
NEGLIGIBLE = math.log(1e-7)

GOOD, BAD, OTHER = 0, 1, 2

# With a type of its own: for a literal 0 numba would compile every function a second time.
NONE = np.int64(0)


# --- row weights ------------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath={"contract"})
def weigh_rows(columns, z, out):
    """Compute ``out[b] = columns.T @ z[b]``, in one order of summation whatever the batch.

    Parameters
    ----------
    columns : ndarray of shape (rank, n_rows), C-contiguous
    z : ndarray of shape (n_inputs, rank)
    out : ndarray of shape (n_inputs, n_rows)
    """
    rank, n_rows = columns.shape
    by_four = rank - rank % 4
    spare = np.empty(TILE)
    for start in range(0, n_rows, TILE):
        stop = min(start + TILE, n_rows)
        # Two inputs for each tile that is read; the last one may stand in for a second.
        for b in range(0, z.shape[0], 2):
            x = z[b]
            y = z[min(b + 1, z.shape[0] - 1)]
            of_x = out[b, start:stop]
            of_y = out[b + 1, start:stop] if b + 1 < z.shape[0] else spare[: stop - start]
            for j in range(stop - start):
                of_x[j] = 0.0
                of_y[j] = 0.0
            for i in range(0, by_four, 4):
                x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
                y0, y1, y2, y3 = y[i], y[i + 1], y[i + 2], y[i + 3]
                c0, c1 = columns[i, start:stop], columns[i + 1, start:stop]
                c2, c3 = columns[i + 2, start:stop], columns[i + 3, start:stop]
                for j in range(np.uint64(stop - start)):
                    of_x[j] += (x0 * c0[j] + x1 * c1[j]) + (x2 * c2[j] + x3 * c3[j])
                    of_y[j] += (y0 * c0[j] + y1 * c1[j]) + (y2 * c2[j] + y3 * c3[j])
            for i in range(by_four, rank):
                x0, y0, c0 = x[i], y[i], columns[i, start:stop]
                for j in range(np.uint64(stop - start)):
                    of_x[j] += x0 * c0[j]
                    of_y[j] += y0 * c0[j]


@njit(cache=True, nogil=True)
def weigh_sparse_rows(data, indices, indptr, constants, z, out):
    """Compute ``out[b] = matrix @ z[b, :-1] + constants * z[b, -1]`` for a matrix in CSR format."""
    for b in range(z.shape[0]):
        for j in range(indptr.size - 1):
            total = constants[j] * z[b, -1]
            for p in range(indptr[j], indptr[j + 1]):
                total += data[p] * z[b, indices[p]]
            out[b, j] = total


# --- one pair of classes ----------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _sum(values, count):
    lanes = np.zeros(LANES)
    whole = count - count % LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            lanes[lane] += values[start + lane]
    for i in range(whole, count):
        lanes[0] += values[i]
    return lanes.sum()


@njit(cache=True, nogil=True)
def _sum_squares(values, count):
    lanes = np.zeros(LANES)
    whole = count - count % LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            lanes[lane] += values[start + lane] * values[start + lane]
    for i in range(whole, count):
        lanes[0] += values[i] * values[i]
    return lanes.sum()


@njit(cache=True, nogil=True)
def _split(a, labels, winner, rival, n_classes, kinds, counts):
    """Distribute ``|a_j|`` over the kinds of rows; rows of weight zero belong to none."""
    signs = np.zeros(n_classes)
    signs[winner], signs[rival] = 1.0, -1.0
    good, bad, other = kinds[GOOD], kinds[BAD], kinds[OTHER]
    n_good, n_bad, n_other = 0, 0, 0
    if n_classes == 2:
        for j in range(a.size):
            value = a[j] * signs[labels[j]]
            # Written where the next one goes, and kept by moving on: no branch to guess.
            good[n_good] = value
            bad[n_bad] = -value
            n_good += value > 0.0
            n_bad += value < 0.0
    else:
        for j in range(a.size):
            sign = signs[labels[j]]
            value = a[j] * sign
            good[n_good] = value
            bad[n_bad] = -value
            other[n_other] = abs(a[j])
            n_good += value > 0.0
            n_bad += value < 0.0
            n_other += sign == 0.0 and a[j] != 0.0
    counts[GOOD], counts[BAD], counts[OTHER] = n_good, n_bad, n_other


@njit(cache=True, nogil=True)
def _sort_descending(values, first, last):
    """Shell's sort: most parts are short, and a long one must not take quadratic time."""
    gap = 1
    while 3 * gap < last - first:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(first + gap, last):
            value, k = values[i], i
            while k - gap >= first and values[k - gap] < value:
                values[k] = values[k - gap]
                k -= gap
            values[k] = value
        gap //= 3


@njit(cache=True, nogil=True)
def _sort_largest(values, count, enough, scratch, starts):
    """Move the largest values to the front, in descending order, until their sum is `enough`.

    The others follow in no particular order. Values are positive. The bits of a positive double
    are an integer that grows with it: its upper ones choose the bucket.
    """
    bits = values.view(np.int64)
    top = np.int64(0)
    for i in range(count):
        top = max(top, bits[i])
    top >>= BUCKET_SHIFT
    for bucket in range(N_BUCKETS + 1):
        starts[bucket] = 0
    for i in range(count):
        starts[min(top - (bits[i] >> BUCKET_SHIFT), N_BUCKETS - 1) + 1] += 1
    for bucket in range(1, N_BUCKETS + 1):
        starts[bucket] += starts[bucket - 1]
    for i in range(count):
        bucket = min(top - (bits[i] >> BUCKET_SHIFT), N_BUCKETS - 1)
        scratch[starts[bucket]] = values[i]
        starts[bucket] += 1
    for i in range(count):
        values[i] = scratch[i]
    # Each start has moved on to the end of its bucket.
    total, first = 0.0, NONE
    for bucket in range(N_BUCKETS):
        last = starts[bucket]
        _sort_descending(values, first, last)
        for i in range(first, last):
            total += values[i]
        first = last
        if total > enough:
            break


@njit(cache=True, nogil=True)
def _greedy_flips(kinds, counts, budget):
    """Count the worst flips whose total harm stays below `budget`: all rows if no harm is left.

    A good row is changed from v = 1 to v = -1, another one from 0 to -1.
    """
    good, other = kinds[GOOD], kinds[OTHER]
    i, k, harm = 0, 0, 0.0
    while i < counts[GOOD] or k < counts[OTHER]:
        if k == counts[OTHER] or (i < counts[GOOD] and 2.0 * good[i] >= other[k]):
            harm += 2.0 * good[i]
            i += 1
        else:
            harm += other[k]
            k += 1
        if not harm < budget:
            return i + k - 1
    return np.int64(kinds.shape[1])


# --- Chernoff bounds --------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath={"contract"})
def _exponentials(values, start, stop, t, g, out, shifted):
    """Store a block of values, and ``exp(-t g)`` of them; zeros fill up the last vector."""
    count = np.uint64(stop - start)
    padded = (count + np.uint64(LANES - 1)) // np.uint64(LANES) * np.uint64(LANES)
    for i in range(count):
        g[i] = values[start + i]
    for i in range(count, padded):
        g[i] = 0.0
    for i in range(padded):
        x = -t * g[i]
        x = x if x > LOWEST_EXPONENT else LOWEST_EXPONENT
        rounded = x * LOG2_E + ROUNDER
        whole = rounded - ROUNDER
        x = (x - whole * LN2_HIGH) - whole * LN2_LOW
        p = EXP[10]
        p = p * x + EXP[9]
        p = p * x + EXP[8]
        p = p * x + EXP[7]
        p = p * x + EXP[6]
        p = p * x + EXP[5]
        p = p * x + EXP[4]
        p = p * x + EXP[3]
        p = p * x + EXP[2]
        p = p * x + EXP[1]
        p = p * x + EXP[0]
        out[i] = p
        shifted[i] = rounded
    bits, shifts = out.view(np.int64), shifted.view(np.int64)
    for i in range(padded):
        bits[i] += shifts[i] << 52  # times two to that integer
    return padded


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _add_moments(g, exponential, count, c0, c1, c2, factors, sums):
    """Store D of a block, and add ``g mu`` and ``g^2 var`` to the last two sums."""
    first, second = 0.0, 0.0
    for i in range(count):
        e = exponential[i]
        once, twice = c1 * e, c2 * e * e
        d = c0 + once + twice
        inverse = 1.0 / d
        mu = (once + 2.0 * twice) * inverse
        var = (once + 4.0 * twice) * inverse - mu * mu
        factors[i] = d
        first += g[i] * mu
        second += g[i] * g[i] * var
    sums[1] += first
    sums[2] += second


@njit(cache=True, nogil=True)
def _add_logs(factors, count, n_factors, sums):
    """Add the logarithms of a block to the first sum, one for each product of `n_factors`."""
    size = np.uint64(BLOCK)
    for i in range(count, size):
        factors[i] = 1.0
    while n_factors > 1:
        n_factors //= 2
        size //= np.uint64(2)
        for i in range(size):
            factors[i] *= factors[i + size]
    total = 0.0
    for i in range(size):
        total += math.log(factors[i])
    sums[0] += total


@njit(cache=True, nogil=True)
def _log_factors(values, start, stop, t, chances, n_factors, buffers, sums):
    """Add up ``log D``, ``g mu`` and ``g^2 var`` over the values g in a range.

    ``D = c0 + c1 e + c2 e^2`` with ``e = exp(-t g)``; mu and var are the mean and the variance of
    a variable that is 0, 1, 2 with probabilities c0, c1 e, c2 e^2 over D. `n_factors`, a power of
    two, is how many D may be multiplied without underflow.
    """
    g, exponential, other = buffers[0], buffers[1], buffers[2]
    for begin in range(start, stop, BLOCK):
        end = min(begin + BLOCK, stop)
        count = _exponentials(values, begin, end, t, g, exponential, other)
        _add_moments(g, exponential, count, chances[0], chances[1], chances[2], other, sums)
        _add_logs(other, count, n_factors, sums)


@njit(cache=True, nogil=True)
def _increment(g, t, now, worse):
    """Rise of the logarithm of a row's moment generating function when it is changed to bad."""
    e = math.exp(max(-t * g, LOWEST_EXPONENT))
    up = worse[0] + worse[1] * e + worse[2] * e * e
    down = now[0] + now[1] * e + now[2] * e * e
    return math.log(up / down)


@njit(cache=True, nogil=True)
def _worst_split(kinds, counts, n_flips, t, coefficients):
    """How many of the worst `n_flips` flips change good rows, where the others change other rows.

    Both kinds rise with ``|a_j|``: the worst set takes the first ones of each.
    """
    worse = coefficients[BAD]
    low = max(NONE, n_flips - counts[OTHER])
    high = min(n_flips, counts[GOOD])
    while low < high:
        middle = (low + high) // 2
        # Is good[middle] worse than the last other row that is taken with `middle` good ones?
        mine = _increment(kinds[GOOD, middle], t, coefficients[GOOD], worse)
        if mine >= _increment(kinds[OTHER, n_flips - middle - 1], t, coefficients[OTHER], worse):
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def _log_bound(pair, t, n_flips, noise, buffers, sums):
    """Logarithm of the Chernoff bound at t after the worst flips, and its two derivatives.

    Returns an upper bound with all rounding charged, the derivatives, and whether there are as
    many rows to flip; where there are fewer, all of them are flipped.
    """
    kinds, counts, absolute, offset, slack = pair
    coefficients, n_factors = noise
    n_flips = min(n_flips, counts[GOOD] + counts[OTHER])
    n_good = n_flips
    if counts[OTHER] > 0 and n_flips > 0:
        n_good = _worst_split(kinds, counts, n_flips, t, coefficients)
    n_other = n_flips - n_good
    sums[0], sums[1], sums[2] = 0.0, 0.0, 0.0
    for kind in range(3):
        changed = n_good if kind == GOOD else (n_other if kind == OTHER else NONE)
        start, stop, now = NONE, changed, coefficients[BAD]
        for _ in range(2):
            _log_factors(kinds[kind], start, stop, t, now, n_factors, buffers, sums)
            start, stop, now = changed, counts[kind], coefficients[kind]
    value = t * (absolute - offset) + sums[0]
    # Sums of n numbers, and for each row exp (its argument is off by a few roundings), D, its share
    # of a product of 32, and the logarithm: below 64 roundings.
    n = counts[GOOD] + counts[BAD] + counts[OTHER]
    size = t * (absolute + abs(offset)) + abs(sums[0])
    value += EPS * ((n + 64.0) * size + 64.0 * n) + t * slack
    return value, absolute - offset - sums[1], sums[2]


@njit(cache=True, nogil=True)
def _least_log_bound(pair, t, n_flips, noise, lowest, buffers, sums):
    """Minimise `_log_bound` over t > 0 by Newton's method between brackets; return t and value.

    Any t gives a valid bound. It ends early below `lowest`, where the bound proves everything.
    """
    low, high = 0.0, np.inf
    best, best_t = np.inf, t
    for _ in range(MAX_STEPS):
        value, slope, curvature = _log_bound(pair, t, n_flips, noise, buffers, sums)
        if value < best:
            best, best_t = value, t
        if value < lowest or (curvature > 0.0 and slope * slope <= 2.0 * TOLERANCE * curvature):
            break
        if slope < 0.0:
            low = t
        else:
            high = t
        step = t - slope / curvature if curvature > 0.0 else np.inf
        if high < np.inf:
            t = step if low < step < high else 0.5 * (low + high)
        else:
            t = min(step, 8.0 * t)
        if not low < t < high or t > 1e300:
            break
    return best_t, best


@njit(cache=True, nogil=True)
def _extend(pair, t, n_flips, value, target, noise):
    """Add the next worst flips at this t while the bound stays below `target`."""
    kinds, counts, _, _, _ = pair
    coefficients, _ = noise
    good, other, worse = kinds[GOOD], kinds[OTHER], coefficients[BAD]
    i = n_flips
    if counts[OTHER] > 0 and n_flips > 0:
        i = _worst_split(kinds, counts, n_flips, t, coefficients)
    k = n_flips - i
    from_good, from_other = -1.0, -1.0  # increments are positive: not computed yet
    while i < counts[GOOD] or k < counts[OTHER]:
        if from_good < 0.0 and i < counts[GOOD]:
            from_good = max(_increment(good[i], t, coefficients[GOOD], worse), 0.0)
        if from_other < 0.0 and k < counts[OTHER]:
            from_other = max(_increment(other[k], t, coefficients[OTHER], worse), 0.0)
        take_good = k == counts[OTHER] or (i < counts[GOOD] and from_good >= from_other)
        value += (from_good if take_good else from_other) + 16.0 * EPS * (1.0 + abs(value))
        if not value < target:
            break
        if take_good:
            i, from_good = i + 1, -1.0
        else:
            k, from_other = k + 1, -1.0
    return i + k


@njit(cache=True, nogil=True)
def _most_flips(pair, t, start_t, target, noise, lowest, buffers, sums):
    """Largest number of flips that keep the bound below `target`, a t and a bound for it.

    `t` proves it for no flips. The bound at one t allows some flips; at their number the best t
    allows some more, and so on until not even one more is allowed at its own best t. It starts at
    `start_t` if that allows any.
    """
    kinds, counts, _, _, _ = pair
    limit = counts[GOOD] + counts[OTHER]
    value = _log_bound(pair, start_t, NONE, noise, buffers, sums)[0]
    if value < target:
        t = start_t
    else:
        value = _log_bound(pair, t, NONE, noise, buffers, sums)[0]
    n_flips = NONE
    while True:
        n_flips = _extend(pair, t, n_flips, value, target, noise)
        if n_flips == limit:
            break
        t, value = _least_log_bound(pair, t, n_flips + 1, noise, lowest, buffers, sums)
        if not value < target:
            break
        n_flips += 1
    t, value = _least_log_bound(pair, t, n_flips, noise, lowest, buffers, sums)
    if n_flips == limit:
        n_flips = np.int64(kinds.shape[1])  # no flip is left that does harm
    return n_flips, t, value


# --- two classes, many rows: the same by moments --------------------------------------------------


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _power_sums(values, count, scale, sums):
    """Store the sums of the first to the twelfth powers of the scaled values."""
    s1, s2, s3, s4, s5, s6 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    s7, s8, s9, s10, s11, s12 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(np.uint64(count)):
        u = values[i] * scale
        u2 = u * u
        u4 = u2 * u2
        u6 = u4 * u2
        u8 = u4 * u4
        u10 = u6 * u4
        s1 += u
        s2 += u2
        s3 += u2 * u
        s4 += u4
        s5 += u4 * u
        s6 += u6
        s7 += u6 * u
        s8 += u8
        s9 += u8 * u
        s10 += u10
        s11 += u10 * u
        s12 += u6 * u6
    sums[1], sums[2], sums[3], sums[4], sums[5], sums[6] = s1, s2, s3, s4, s5, s6
    sums[7], sums[8], sums[9], sums[10], sums[11], sums[12] = s7, s8, s9, s10, s11, s12


@njit(cache=True, nogil=True)
def _polynomial(terms, x):
    """Value, slope and curvature of ``sum_m terms[m] x^m``."""
    value, slope, curvature = 0.0, 0.0, 0.0
    for m in range(terms.size - 1, -1, -1):
        curvature = curvature * x + slope
        slope = slope * x + value
        value = value * x + terms[m]
    return value, slope, 2.0 * curvature


@njit(cache=True, nogil=True)
def _start_by_moments(moments, mean, start_t, cumulants, t):
    """Return a better first t than that of a normal distribution, where the series is of use.

    Nothing rests on it: the bound is evaluated there in full.
    """
    largest = (moments[0, 12] + moments[1, 12]) ** (1.0 / 12.0) / start_t  # at least |a_j|
    if not 0.0 < largest * t < 1.0:
        return t
    terms = np.zeros(12)
    terms[1] = -mean * start_t
    for m in range(2, 12):
        sign = 1.0 if m % 2 == 0 else -1.0
        terms[m] = cumulants[m] * (moments[0, m] + sign * moments[1, m])
    x = t / start_t
    for _ in range(8):
        _, slope, curvature = _polynomial(terms, x)
        if not curvature > 0.0:
            return t
        x -= slope / curvature
        if not 0.0 < x * start_t * largest < 1.2:
            return t
    return x * start_t


@njit(cache=True, nogil=True)
def _most_flips_by_moments(pair, moments, start_t, cumulants, target):
    """Do what `_most_flips` does where ``t |a_j|`` is small in all rows; -2 where it is not.

    The logarithm of a row's moment generating function is a power series in ``u = t a_j v_j`` (its
    cumulants), so the sums of powers of all rows give the bound at every t, and a flip changes the
    sign of a row's odd powers. For ``|u| <= 1.2`` the function is below 2.8, hence the terms from
    the twelfth on below ``2.8 (|u| / 1.2)^12 / (1 - |u| / 1.2)``, which is charged.
    """
    kinds, counts, _, offset, charge = pair
    n_good, n_bad = counts[GOOD], counts[BAD]
    good = kinds[GOOD]
    of_good, of_bad = moments[0], moments[1]
    largest = (of_good[12] + of_bad[12]) ** (1.0 / 12.0) * (1.0 + 1e-9)  # at least |u| of any row
    # x = t / start_t; none above `most_x` is used
    most_x = 1.5
    if not 0.0 < largest * most_x < 0.6:
        return -2
    error = 5.6 * (of_good[12] + of_bad[12]) * (most_x / 1.2) ** 12
    if error > 1e-7:
        return -2
    terms, size = np.empty(12), 0.0
    terms[0] = 0.0
    for m in range(1, 12):
        terms[m] = cumulants[m] * (of_good[m] + (of_bad[m] if m % 2 == 0 else -of_bad[m]))
        size += abs(cumulants[m]) * (of_good[m] + of_bad[m]) * most_x**m
    terms[1] -= offset * start_t
    size += abs(offset) * start_t * most_x
    terms[1] += charge * start_t
    # Sums of n powers, each up to 16 roundings; flips change them by up to three times as much.
    error += EPS * (4.0 * (n_good + n_bad) + 256.0) * size
    x, n_flips = 1.0, 0
    while True:
        value = _polynomial(terms, x)[0] + error
        # Add flips at this x.
        while n_flips < n_good:
            u = good[n_flips] * start_t
            step, power, square = 0.0, u * x, (u * x) ** 2
            for m in range(1, 12, 2):
                step -= 2.0 * cumulants[m] * power
                power *= square
            if not value + step < target:
                break
            value += step
            power = u
            for m in range(1, 12, 2):
                terms[m] -= 2.0 * cumulants[m] * power
                power *= u * u
            n_flips += 1
        if n_flips == n_good:
            return -2 if not value < target else np.int64(kinds.shape[1])
        # Is one more allowed at its own best x?
        u = good[n_flips] * start_t
        power = u
        for m in range(1, 12, 2):
            terms[m] -= 2.0 * cumulants[m] * power
            power *= u * u
        for _ in range(MAX_STEPS):
            value, slope, curvature = _polynomial(terms, x)
            if slope * slope <= 2.0 * TOLERANCE * curvature or not curvature > 0.0:
                break
            x = min(max(x - slope / curvature, 0.1 * x), most_x)
            if x == most_x and slope < 0.0:
                return -2
        if not value + error < target:
            return n_flips
        n_flips += 1


# --- all rivals -------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _sure(log_bounds, winner):
    """Whether the winner keeps the vote: the sum of all bounds plus the largest is below 1."""
    total, largest = 0.0, 0.0
    for c in range(log_bounds.size):
        if c != winner:
            bound = math.exp(min(log_bounds[c], 1.0))
            total += bound
            largest = max(largest, bound)
    if log_bounds.size == 2:
        return total * (1.0 + 4.0 * EPS) < 0.5
    return (total + largest) * (1.0 + 4.0 * EPS * log_bounds.size) < 1.0


@njit(cache=True, nogil=True)
def _pair(rivals, c):
    kinds, counts, absolute, offsets, charge = rivals
    return kinds[c], counts[c], absolute[c], offsets[c], charge


@njit(cache=True, nogil=True)
def _most_flips_of_all(
    rivals, winner, best_t, start_t, moments, cumulants, noise, lowest, log_bounds, buffers, sums
):
    """Largest number of flips after which the winner still keeps the vote against all rivals."""
    n_classes = best_t.size
    target = math.log(0.5) - EPS
    n_flips = np.int64(-1)
    if n_classes == 2:
        c = 1 - winner
        most = _most_flips_by_moments(_pair(rivals, c), moments, start_t[c], cumulants, target)
        if most != -2:
            return most
    waiting = log_bounds.copy()
    waiting[winner] = -np.inf
    for _ in range(n_classes - 1):
        # The next most dangerous one.
        c = NONE
        for other in range(n_classes):
            if waiting[other] > waiting[c]:
                c = np.int64(other)
        waiting[c] = -np.inf
        rival = _pair(rivals, c)
        # What the bound is worth after so many flips, if it is worth mentioning. It cannot be more
        # after fewer flips.
        if n_flips >= 0:
            best_t[c], log_bounds[c] = _least_log_bound(
                rival, best_t[c], n_flips, noise, NEGLIGIBLE, buffers, sums
            )
        if n_flips < 0 or not log_bounds[c] < target:
            most, best_t[c], log_bounds[c] = _most_flips(
                rival, best_t[c], start_t[c], target, noise, lowest, buffers, sums
            )
            n_flips = most if n_flips < 0 else min(most, n_flips)
            if n_classes == 2:
                return n_flips
    if _sure(log_bounds, winner):
        return n_flips
    # The sum of several bounds is too large where each of them is not: after how many is it small?
    at_most = log_bounds.copy()
    low, high, step = np.int64(-1), n_flips, np.int64(1)
    while high - low > 1:
        probe = max(high - step, np.int64(0)) if low < 0 else (low + high) // 2
        for c in range(n_classes):
            if c != winner and at_most[c] > NEGLIGIBLE:
                best_t[c], log_bounds[c] = _least_log_bound(
                    _pair(rivals, c), best_t[c], probe, noise, lowest, buffers, sums
                )
        if _sure(log_bounds, winner):
            low = probe
        else:
            high = probe
        step *= 2
        if high == 0:
            break
    return low


@njit(cache=True, nogil=True)
def rounding_charges(z, column_sums, n_rows, out):
    """Bound what rounding in the row weights and in any sum over them adds up to.

    Each weight is a sum of products, each margin a sum of weights, and the worst flips change it by
    up to twice the sum of the weights: below 4 (n_rows + rank + 16) roundings of
    ``sum_ij |z_i columns_ij|``, and twice that is charged.
    """
    for b in range(z.shape[0]):
        total = 0.0
        for i in range(z.shape[1]):
            total += abs(z[b, i]) * column_sums[i]
        # Products below 1e-308 are off by up to 1e-323.
        out[b] = 4.0 * (n_rows + z.shape[1] + 16.0) * EPS * total + 1e-300


@njit(cache=True, nogil=True)
def _bound_all(
    rivals,
    winner,
    budgets,
    keep,
    replace,
    contrast,
    best_t,
    start_t,
    moments,
    cumulants,
    noise,
    lowest,
    log_bounds,
    buffers,
    sums,
):
    """Bound the chance of each rival whose mean score is below the winner's; 1 for the others."""
    kinds, counts, _, _, _ = rivals
    scores = np.full(log_bounds.size, np.inf)
    for c in range(log_bounds.size):
        if c == winner or not budgets[c] > 0.0:
            continue
        spread = 0.0
        for kind in range(3):
            each = keep + replace - contrast * contrast if kind != OTHER else 2.0 * replace
            spread += each * _sum_squares(kinds[c, kind], counts[c, kind])
        mean = contrast * budgets[c]
        # The best t of a normal distribution, and that after the flips that leave a chance of 1/2.
        best_t[c] = start_t[c] = 1.0 / mean
        moments[:] = 0.0
        if 0.0 < spread < np.inf:  # squares neither underflow nor overflow
            best_t[c] = mean / spread
            start_t[c] = math.sqrt(2.0 * math.log(2.0) / spread)
            if log_bounds.size == 2:
                _power_sums(kinds[c, GOOD], counts[c, GOOD], start_t[c], moments[0])
                _power_sums(kinds[c, BAD], counts[c, BAD], start_t[c], moments[1])
                best_t[c] = _start_by_moments(moments, mean, start_t[c], cumulants, best_t[c])
        scores[c] = mean * best_t[c]
    for _ in range(log_bounds.size):
        worst = NONE
        for c in range(log_bounds.size):
            if scores[c] < scores[worst]:
                worst = np.int64(c)
        if scores[worst] == np.inf:
            break
        scores[worst] = np.inf
        best_t[worst], value = _least_log_bound(
            _pair(rivals, worst), best_t[worst], NONE, noise, lowest, buffers, sums
        )
        log_bounds[worst] = min(value, 0.0)
        # The most dangerous rival comes first; what is far below its bound adds nothing to it.
        lowest = max(lowest, log_bounds[worst] - 40.0)


@njit(cache=True, nogil=True)
def _least_budget(budgets, winner):
    least = np.inf
    for c in range(budgets.size):
        if c != winner:
            least = min(least, budgets[c])
    return least


@njit(cache=True, nogil=True)
def _sort_all(kinds, counts, winner, budgets, scratch, starts):
    for c in range(budgets.size):
        if c != winner:
            for kind in range(GOOD, OTHER + 1, OTHER):
                if counts[c, kind] == 0:
                    continue
                # A good row that is changed does harm twice; a little more covers rounding.
                enough = budgets[c] * (0.5 if kind == GOOD else 1.0) * (1.0 + 1e-9)
                _sort_largest(kinds[c, kind], counts[c, kind], enough, scratch, starts)


@njit(cache=True, nogil=True)
def certify_rows(
    weights,
    charges,
    labels,
    winners,
    symmetric,
    keep,
    replace,
    contrast,
    cumulants,
    exact,
    flips,
    log_bounds,
):
    """Bound the votes of all rivals and count the flips that no prediction minds.

    Parameters
    ----------
    weights : ndarray of shape (n_inputs, n_rows)
        Row weights of each test input.
    charges : ndarray of shape (n_inputs,)
        What rounding can add to a margin.
    labels : ndarray of shape (n_rows,), classes 0, 1, ...
    winners : ndarray of shape (n_inputs,)
        Predicted classes.
    symmetric : bool
        With two classes: whether scores are compared with each other or that of class 1 with 1/2.
    keep, replace : float
        Chances 1 - q and q' = q / (K - 1) that a label stays, or becomes a given other one.
    contrast : float
        Their difference, positive.
    cumulants : ndarray of shape (12,)
        With two classes: those of -1 or 1 with probabilities `keep` and `replace`, each divided by
        the factorial of its order.
    exact : bool
        Whether to count flips.
    flips : ndarray of int64, of shape (n_inputs,)
        Filled with the number of flips; -1 where even none may change the prediction.
    log_bounds : ndarray of shape (n_inputs, n_classes)
        Filled with logarithms of upper bounds on "scores at least as much as the winner".
    """
    n_inputs, n_rows = weights.shape
    n_classes = log_bounds.shape[1]
    neither = (n_classes - 2) * replace
    coefficients = np.empty((3, 3))
    coefficients[0, 0], coefficients[0, 1], coefficients[0, 2] = replace, neither, keep
    coefficients[1, 0], coefficients[1, 1], coefficients[1, 2] = keep, neither, replace
    for c in range(3):
        coefficients[2, c] = replace if c != 1 else 1.0 - 2.0 * replace
    n_factors = 32
    lowest = 0.0
    if replace > 0.0:
        # A product of factors of at least q' stays above 1e-290.
        while n_factors > 1 and n_factors * math.log(replace) < -660.0:
            n_factors //= 2
        lowest = -2.0 * n_rows * math.log(keep / replace) - 20.0
    noise = (coefficients, n_factors)
    kinds = np.empty((n_classes, 3, n_rows))
    counts = np.zeros((n_classes, 3), np.int64)
    absolute, offsets, budgets = np.zeros(n_classes), np.zeros(n_classes), np.zeros(n_classes)
    scratch, starts = np.empty(n_rows), np.empty(N_BUCKETS + 1, np.int64)
    buffers, sums, moments = np.empty((3, BLOCK)), np.empty(3), np.zeros((2, 13))
    best_t, start_t = np.empty(n_classes), np.empty(n_classes)
    for b in range(n_inputs):
        a, winner = weights[b], winners[b]
        flips[b] = -1
        for c in range(n_classes):
            log_bounds[b, c] = 0.0
        rivals = (kinds, counts, absolute, offsets, charges[b])
        for c in range(n_classes):
            if c == winner:
                continue
            _split(a, labels, winner, c, n_classes, kinds[c], counts[c])
            absolute[c], margin = 0.0, 0.0
            for kind in range(3):
                total = _sum(kinds[c, kind], counts[c, kind])
                absolute[c] += total
                margin += total if kind == GOOD else (-total if kind == BAD else 0.0)
            if n_classes == 2 and not symmetric:
                offsets[c] = (_sum(a, n_rows) - 1.0) * (1.0 if winner == 1 else -1.0)
            # What the worst flips must use up before the mean margin is gone.
            budgets[c] = margin + (offsets[c] - charges[b]) / contrast
        if replace > 0.0:
            _bound_all(
                rivals,
                winner,
                budgets,
                keep,
                replace,
                contrast,
                best_t,
                start_t,
                moments,
                cumulants,
                noise,
                lowest,
                log_bounds[b],
                buffers,
                sums,
            )
        if not exact or not _least_budget(budgets, winner) > 0.0:
            continue
        _sort_all(kinds, counts, winner, budgets, scratch, starts)
        if replace == 0.0:
            flips[b] = n_rows
            for c in range(n_classes):
                if c != winner:
                    log_bounds[b, c] = -np.inf
                    flips[b] = min(flips[b], _greedy_flips(kinds[c], counts[c], budgets[c]))
            continue
        if _sure(log_bounds[b], winner):
            flips[b] = _most_flips_of_all(
                rivals,
                winner,
                best_t,
                start_t,
                moments,
                cumulants,
                noise,
                lowest,
                log_bounds[b].copy(),
                buffers,
                sums,
            )
