# SPDX-License-Identifier: BSD-3-Clause
r"""Telling clean from changed noise when r labels flip *and* the features move by m sigmas.

Under Gaussian feature noise and categorical label noise the log likelihood ratio ``L = log dP/dQ``
is a normal plus a lattice variable: ``t s + N(-m^2/2, m^2)`` under Q, ``t s + N(+m^2/2, m^2)``
under P, with s as in ``_flip_lattice`` and ``P(s) = exp(t s) Q(s)``. Both are finite mixtures of
normals. For any threshold tau with ``P(L < tau) >= alpha`` the Neyman-Pearson lemma gives
``1 - beta(alpha) <= Q(L < tau)``, so a tau found by any means needs only this one check, with the
errors of the check charged.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from sksmooth.smoothing._flip_lattice import (
    _TAIL_CUT,
    FlipLattice,
    certified_pairs,
    flip_lattices,
    log_likelihood_step,
)
from sksmooth.smoothing._rounding import EPS, FloatArray, down, log_ndtr, normal_isf_lower

# Errors charged in one evaluation: log_ndtr as in _rounding (8 EPS of its value, 4 EPS of its
# argument), each exponent 8 EPS of its largest part, sums and the final logarithm 16 EPS.

# Safeguarded steps: Newton takes about ten, the root about fifteen. Running out costs radius only.
_MAX_NEWTON = 40
_MAX_ROOT = 200
# The bracket is closed to this relative width; the lower end is returned, so it costs radius only.
_ROOT_RTOL = 2.0**-45


class _Mixture:
    """Lower tails of L under P and both tails under Q, rows by components, errors charged."""

    def __init__(self, lattice: FlipLattice, t: float, m: FloatArray) -> None:
        s = lattice.low + lattice.stride * np.arange(lattice.pmf.size)
        kept = lattice.pmf > 0.0
        self.q = lattice.pmf[kept]
        self.mean = t * s[kept]
        self.log_q = np.log(self.q)
        self.m = m[:, None]
        self.rtol = lattice.rtol
        self.dropped = lattice.dropped

    def _z(self, tau: FloatArray, drift: float) -> tuple[FloatArray, FloatArray]:
        """Return standardised distances and what rounding may have done to them."""
        centred = (tau[:, None] - self.mean) / self.m
        z: FloatArray = centred + drift * self.m
        size = (np.abs(tau[:, None]) + np.abs(self.mean)) / self.m + self.m + np.abs(z)
        return z, 8 * EPS * size

    def log_p_lower(self, tau: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return a lower bound on ``log P(L < tau)`` and its approximate derivative."""
        z, error = self._z(tau, -0.5)
        log_cdf = log_ndtr(z - error)
        charge = 8 * EPS * (np.abs(self.mean) + np.abs(self.log_q) + np.abs(log_cdf))
        terms = self.mean + self.log_q + log_cdf - charge
        top = np.max(terms, axis=1, keepdims=True)
        safe_top = np.where(np.isfinite(top), top, 0.0)
        total = np.sum(np.exp(terms - safe_top), axis=1)
        log_density = self.mean + self.log_q - 0.5 * z * z - np.log(self.m * math.sqrt(2 * math.pi))
        density = np.sum(np.exp(np.minimum(log_density - safe_top, 700.0)), axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = safe_top[:, 0] + np.log(total)
            slope = density / total
        return value - self.rtol - 16 * EPS * (1.0 + np.abs(value)), slope

    def log_q_above(self, tau: FloatArray) -> FloatArray:
        """Return a lower bound on ``log Q(L >= tau)``."""
        z, error = self._z(tau, 0.5)
        with np.errstate(divide="ignore"):
            value = np.log(np.sum(special.ndtr(-(z + error)) * self.q, axis=1))
        result: FloatArray = value - self._charge(value)
        return result

    def log_q_below(self, tau: FloatArray) -> FloatArray:
        """Return an upper bound on ``log Q(L < tau)``."""
        z, error = self._z(tau, 0.5)
        value = np.log(np.sum(special.ndtr(z + error) * self.q, axis=1) + self.dropped)
        result: FloatArray = value + self._charge(value)
        return result

    def _charge(self, value: FloatArray) -> FloatArray:
        finite = np.where(np.isfinite(value), np.abs(value), 0.0)
        return self.rtol + 16 * EPS * (1.0 + finite)

    def quantile_upper(self, log_alpha: FloatArray) -> FloatArray:
        """Return tau with ``P(L < tau) >= alpha`` confirmed; +inf where none could be."""
        m = self.m[:, 0]
        isf = -special.ndtri_exp(log_alpha)
        # a quantile of a mixture lies between the quantiles of its components
        low = self.mean[0] + 0.5 * m * m - m * isf
        high = self.mean[-1] + 0.5 * m * m - m * isf
        tau = 0.5 * (low + high)
        done = np.zeros(tau.shape, dtype=bool)  # a finished row waits: no row depends on another
        for _ in range(_MAX_NEWTON):
            value, slope = self.log_p_lower(tau)
            enough = value >= log_alpha
            high, low = np.where(enough, tau, high), np.where(enough, low, tau)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                newton = tau - (value - log_alpha) / slope
            # a Newton step below the noise of the sum ends the search, wherever the bracket is
            near = np.abs(newton - tau) <= 64 * EPS * (np.abs(tau) + np.abs(self.mean).max() + m)
            done |= near | (high - low <= 4 * EPS * (np.abs(low) + np.abs(high)))
            inside = (newton > low) & (newton < high)
            step = np.where(inside, newton, 0.5 * (low + high))
            tau = np.where(done, tau, step)
            if np.all(done):
                break
        return self._confirmed(tau, log_alpha)

    def _confirmed(self, tau: FloatArray, log_alpha: FloatArray) -> FloatArray:
        step = EPS * (np.abs(tau) + np.abs(self.mean).max() + self.m[:, 0])
        for _ in range(64):
            short = ~(self.log_p_lower(tau)[0] >= log_alpha)  # true for NaN
            if not np.any(short):
                return tau
            tau = np.where(short, tau + step, tau)
            step = 2.0 * step
        return np.where(short, np.inf, tau)


def _lattice_after(n_flips: int, q: float, n_categories: int) -> FlipLattice:
    lattices = flip_lattices(q, n_categories, _TAIL_CUT)
    return next(lattice for lattice in lattices if lattice.n_changes == n_flips)


def _margin(
    lattice: FlipLattice, t: float, m: FloatArray, log_a: FloatArray, log_b: FloatArray
) -> FloatArray:
    """Return ``log beta(tail_a) - log(1 - beta(p_b))`` from below: certified where positive."""
    mixture = _Mixture(lattice, t, m)
    tau_a = mixture.quantile_upper(log_a)
    tau_b = np.where(log_a == log_b, tau_a, mixture.quantile_upper(log_b))
    found = np.isfinite(tau_a) & np.isfinite(tau_b)
    tau_a, tau_b = np.where(found, tau_a, 0.0), np.where(found, tau_b, 0.0)
    margin = mixture.log_q_above(tau_a) - mixture.log_q_below(tau_b)
    return np.where(found, margin, -np.inf)


def joint_shifts(
    log_tail_a: FloatArray, log_p_b: FloatArray, n_flips: int, q: float, n_categories: int
) -> FloatArray:
    """Return the largest certified shift m, in units of sigma, for each row; or -1.

    0 says that `n_flips` flips alone change nothing. The bracket's lower end is always certified
    and is what is returned.
    """
    pairs = np.stack([log_tail_a.ravel(), log_p_b.ravel()], axis=1)
    pairs, inverse = np.unique(pairs, axis=0, return_inverse=True)
    lattice = _lattice_after(n_flips, q, n_categories)
    t = log_likelihood_step(q, n_categories)
    result = np.full(len(pairs), -1.0)
    rows = np.flatnonzero(certified_pairs(lattice, t, pairs[:, 0], pairs[:, 1]))
    result[rows] = 0.0
    if rows.size:
        result[rows] = _largest_shift(lattice, t, pairs[rows, 0], pairs[rows, 1])
    shifts: FloatArray = result[inverse.reshape(-1)].reshape(log_tail_a.shape)
    return shifts


def _largest_shift(
    lattice: FlipLattice, t: float, log_a: FloatArray, log_b: FloatArray
) -> FloatArray:
    """Solve ``margin(m) = 0`` between 0 and the radius without flips; return the safe end."""
    low = np.zeros_like(log_a)
    high = np.maximum(0.5 * (normal_isf_lower(log_a) + normal_isf_lower(log_b)), 0.0)
    high = high * (1.0 + 1e-12) + 1e-300  # just outside: a bracket, not a claim
    f_low, f_high = np.full_like(low, np.nan), np.full_like(low, np.nan)
    # below 1e-12 the radius is 0 for all purposes, and standardised distances may overflow
    rows = np.flatnonzero(high > 1e-12)
    m, was_good = high.copy(), np.zeros(high.shape, dtype=bool)
    for i in range(_MAX_ROOT):
        margin = _margin(lattice, t, m[rows], log_a[rows], log_b[rows])
        good = margin > 0.0
        up, not_up = rows[good], rows[~good]
        low[up], f_low[up] = m[up], margin[good]
        high[not_up], f_high[not_up] = m[not_up], margin[~good]
        # Illinois: halve the value at an end that stays twice, so that it moves before long
        f_high[rows[good & was_good[rows]]] *= 0.5
        f_low[rows[~good & ~was_good[rows]]] *= 0.5
        was_good[rows] = good
        tolerance = _ROOT_RTOL * high
        rows = rows[(high - low > tolerance)[rows] & (high > 1e-12)[rows]]
        if rows.size == 0:
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            secant = low + (high - low) * (f_low / (f_low - f_high))
        # every fourth step halves the bracket, whatever the secant does
        usable = np.isfinite(secant) & (i % 4 != 3)
        m = np.where(usable, secant, low + 0.5 * (high - low))
        m = np.clip(m, low + 0.5 * tolerance, high - 0.5 * tolerance)
    return low


def joint_trade_off(
    alpha: FloatArray, shift: float, n_flips: int, q: float, n_categories: int
) -> FloatArray:
    """Return ``beta(alpha)`` for a positive shift, to ordinary float accuracy."""
    lattice = _lattice_after(n_flips, q, n_categories)
    inner = (alpha > 0.0) & (alpha < 1.0)
    log_alpha = np.log(np.where(inner, alpha, 0.5))
    t = log_likelihood_step(q, n_categories)
    mixture = _Mixture(lattice, t, np.full(log_alpha.shape, shift))
    beta = np.exp(mixture.log_q_above(mixture.quantile_upper(log_alpha)))
    return np.where(inner, beta, np.where(alpha <= 0.0, 1.0, 0.0))


def joint_radii(shifts: FloatArray, scale: float) -> FloatArray:
    """Scale shifts to radii, rounded down, keeping -1."""
    with np.errstate(over="ignore"):  # the largest float is below an overflowed product
        return np.where(shifts >= 0.0, np.maximum(down(scale * shifts), 0.0), -1.0)
