# SPDX-License-Identifier: BSD-3-Clause
"""The noncentral chi distribution, tabulated for whole training sets at once.

A training row at distance ``u`` from the test input (in units of sigma), smoothed with Gaussian
noise, lies at distance ``r`` with density ``f(r; u)`` and distribution function ``F(r; u)``: the
noncentral chi distribution with ``d`` degrees of freedom. Smoothed K-NN needs F, 1 - F and f for
every row at a few hundred distances ``r``, down to about 1e-300 and with a small *relative* error,
which library routines do not give (they return 0 long before the truth underflows).

Three facts make that cheap:

* ``f`` has a closed form in the Bessel function ``I``. Here it is evaluated through the normalised
  ``Lambda_nu(z) = Gamma(nu+1) (2/z)^nu I_nu(z)``, by Debye's uniform expansion for orders of at
  least ``_MIN_ORDER`` and the downward recurrence, whose terms are all positive, below.
* ``dF/du = -(u/r) f_{d+2}(r; u)``, so that, for one ``r``, F and 1 - F at all ``u`` are integrals
  of one positive smooth function. Summing from the far end on each side keeps relative accuracy.
* A table for one ``r`` depends on ``d`` alone: it serves every row, test input, sigma and class.

See DLMF 10.41.3 (Debye), 10.29.1 (recurrence).
"""

from __future__ import annotations

import math
import threading
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numba import njit
from scipy.special import gammaincc

# Debye's expansion with _DEBYE_TERMS terms has a relative error below 1e-14 from this order on
# (largest over all arguments; `test_noncentral_chi.py` compares with 50 digits).
_MIN_ORDER = 30.0
_DEBYE_TERMS = 9

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

# Relative error of a tabulated value above 1e-140, and of one between 1e-140 and 1e-300: measured
# against 40 digits for d from 1 to 3072 (largest found 2e-11 and 1e-8), rounded up to ten times
# that; `test_table_accuracy` repeats the measurement.
RELATIVE_ERROR = 2e-10
DEEP_ERROR = 1e-7

# Largest number of doubles kept in one table (256 MiB); past it the table starts afresh.
_MAX_POOL = 2**25


def _debye_polynomials(n_terms: int) -> list[list[Fraction]]:
    """Coefficients in p of U_0, U_1, ... (DLMF 10.41.9), exactly."""
    polynomials = [[Fraction(1)]]
    for _ in range(n_terms):
        u = polynomials[-1]
        new = [Fraction(0)] * (len(u) + 3)
        for k, c in enumerate(u):
            # p^2 (1 - p^2) U' / 2
            new[k + 1] += c * k / 2
            new[k + 3] -= c * k / 2
            # (1/8) int_0^p (1 - 5 t^2) U(t) dt
            new[k + 1] += c / (8 * (k + 1))
            new[k + 3] -= 5 * c / (8 * (k + 3))
        polynomials.append(new)
    return polynomials


def _debye_series(order: float) -> np.ndarray:
    """Sum U_k(p) / order^k into one polynomial in p, divided by its value at p = 1."""
    total = [Fraction(0)] * (3 * _DEBYE_TERMS + 1)
    scale = Fraction(1)
    for polynomial in _debye_polynomials(_DEBYE_TERMS):
        for k, c in enumerate(polynomial):
            total[k] += c * scale
        scale /= Fraction(order)
    at_one = sum(total)
    return np.array([float(c / at_one) for c in total])


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
def _fill_table(
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


class NoncentralChiTables:
    """Tables of F, 1 - F and f for `n_features` degrees of freedom, one for each distance r.

    Tables are made on demand, under a lock, and depend on r and the number of features alone: the
    answer for a row never depends on which rows were asked for before.

    Parameters
    ----------
    n_features : int
        Degrees of freedom, at least 1.
    """

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features
        self._lock = threading.Lock()
        self.density_args = self._density_params(n_features)
        nodes = np.cos((np.arange(N_COEFFICIENTS) + 0.5) * math.pi / N_COEFFICIENTS)
        self._points = nodes
        # Exact arithmetic would change nothing: the condition number is about 1e4.
        self._to_monomial = np.linalg.inv(np.vander(nodes, increasing=True))
        self._clear()

    @staticmethod
    def _density_params(n_features: int) -> tuple:
        order = 0.5 * n_features - 1.0
        n_steps = max(0, math.ceil(_MIN_ORDER - order))
        return (
            float(n_features),
            math.lgamma(0.5 * n_features),
            n_steps,
            _debye_series(order + n_steps),
            _debye_series(order + n_steps + 1.0),
        )

    def _clear(self) -> None:
        self._index: dict[float, int] = {}
        self._first = np.empty(0, dtype=np.int64)
        self._start = np.zeros(1, dtype=np.int64)
        self._pool = np.empty((0, 2, N_COEFFICIENTS + 1))
        self._upper = np.empty(0, dtype=np.bool_)

    def window(self, r: float) -> tuple[int, int]:
        """First and one past the last piece of u in which neither F nor 1 - F is negligible."""
        d = self.n_features
        # The mean distance m of a row at u obeys d + u^2 - 1 <= m^2 <= d + u^2.
        low = math.sqrt(max((r - REACH) ** 2 - d, 0.0)) if r > REACH else 0.0
        high = math.sqrt(max((r + REACH) ** 2 - d + 1.0, PIECE_WIDTH**2))
        return math.floor(low / PIECE_WIDTH), math.ceil(high / PIECE_WIDTH) + 1

    def _make(self, r: float) -> tuple[int, np.ndarray, np.ndarray]:
        first, last = self.window(r)
        n_pieces = last - first
        # Starting at u > 0, what lies to the left is below 1e-307 (see `REACH`).
        sf_start = float(gammaincc(0.5 * self.n_features, 0.5 * r * r)) if first == 0 else 0.0
        coefficients = np.zeros((n_pieces, 2, N_COEFFICIENTS + 1))
        upper = np.zeros(n_pieces, dtype=np.bool_)
        _fill_table(
            r, first, n_pieces, sf_start, self._points, self._to_monomial,
            self.density_args, coefficients, upper,
        )  # fmt: skip
        return first, coefficients, upper

    def get(self, distances: np.ndarray) -> tuple[np.ndarray, ...]:
        """Tables for an array of distances r > 0 (units of sigma).

        Returns
        -------
        pool, upper, start, first : arrays for the kernels
            Table i holds the pieces ``pool[start[i]:stop[i]]``, the first of them piece number
            ``first[i]``; ``upper`` says which hold 1 - F. A later call never changes them.
        stop : ndarray
        """
        with self._lock:
            if self._pool.shape[0] * 2 * (N_COEFFICIENTS + 1) > _MAX_POOL:
                self._clear()
            missing = [r for r in dict.fromkeys(distances.tolist()) if r not in self._index]
            if missing:
                made = [self._make(r) for r in missing]
                n_old = len(self._index)
                self._index.update((r, n_old + i) for i, r in enumerate(missing))
                # New arrays, so that kernels running on the old ones are not disturbed.
                self._first = np.append(self._first, [first for first, _, _ in made])
                sizes = np.cumsum([upper.size for _, _, upper in made])
                self._start = np.append(self._start, self._start[-1] + sizes)
                self._pool = np.concatenate([self._pool, *(c for _, c, _ in made)])
                self._upper = np.concatenate([self._upper, *(u for _, _, u in made)])
            which = np.array([self._index[r] for r in distances.tolist()], dtype=np.int64)
            return (
                self._pool, self._upper, self._start[which], self._first[which],
                self._start[which + 1],
            )  # fmt: skip


@lru_cache(maxsize=4)
def tables(n_features: int) -> NoncentralChiTables:
    """Return the tables for one number of features, kept for the life of the process."""
    return NoncentralChiTables(n_features)


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
