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
from scipy.special import gammaincc

from ._kernels import LANES, N_COEFFICIENTS, N_STORED, PIECE_WIDTH, REACH, fill_table

# Debye's expansion with _DEBYE_TERMS terms has a relative error below 1e-14 from this order on
# (largest over all arguments; `test_noncentral_chi.py` compares with 50 digits).
_MIN_ORDER = 30.0
_DEBYE_TERMS = 9

# Relative error of a tabulated value above 1e-140, and what comes on top between 1e-140 and 1e-300:
# measured against 40 digits for d from 1 to 3072 (largest found 2e-11 and 1e-8), rounded up to ten
# times that; `test_table_accuracy` repeats the measurement. In more dimensions the logs of the
# density cancel: 1e-10 was found for d = 20,000, 1e-9 for 150,528, 5.5e-8 for 1e7.
_RELATIVE_ERROR = 2e-10
_RELATIVE_ERROR_PER_FEATURE = 1e-13
_DEEP_ERROR = 1e-7

# Bytes of tables kept for one number of features; past it they start afresh.
_MAX_BYTES = 2**28


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


class NoncentralChiTables:
    """Tables of F, 1 - F and f for `n_features` degrees of freedom, LANES distances r at a time.

    Tables are made on demand, under a lock, and depend on the distances and the number of features
    alone: the answer for a row never depends on which rows were asked for before.

    Parameters
    ----------
    n_features : int
        Degrees of freedom, at least 1.

    Attributes
    ----------
    relative_error, deep_error : float
        Bounds on the relative errors of values above and below 1e-140.
    """

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features
        self.relative_error = _RELATIVE_ERROR + _RELATIVE_ERROR_PER_FEATURE * n_features
        self.deep_error = _DEEP_ERROR + self.relative_error
        self._lock = threading.Lock()
        self.density_args = self._density_params(n_features)
        nodes = np.cos((np.arange(N_COEFFICIENTS) + 0.5) * math.pi / N_COEFFICIENTS)
        self._points = nodes
        # Exact arithmetic would change nothing: the condition number is about 1e4.
        self._to_monomial = np.linalg.inv(np.vander(nodes, increasing=True))
        # Tables by their distances, and their size in bytes.
        self._made: dict[bytes, tuple] = {}
        self._n_bytes = 0

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

    def window(self, r: float) -> tuple[int, int]:
        """First and one past the last piece of u in which neither F nor 1 - F is negligible."""
        d = self.n_features
        # The mean distance m of a row at u obeys d + u^2 - 1 <= m^2 <= d + u^2.
        low = math.sqrt(max((r - REACH) ** 2 - d, 0.0)) if r > REACH else 0.0
        high = math.sqrt(max((r + REACH) ** 2 - d + 1.0, PIECE_WIDTH**2))
        return math.floor(low / PIECE_WIDTH), math.ceil(high / PIECE_WIDTH) + 1

    def _fill(self, lane: int, r: float, first: int, coefficients, upper) -> None:
        # Starting at u > 0, what lies to the left is below 1e-307 (see `REACH`).
        sf_start = float(gammaincc(0.5 * self.n_features, 0.5 * r * r)) if first == 0 else 0.0
        fill_table(
            r, first, sf_start, self._points, self._to_monomial, self.density_args,
            coefficients, upper, lane,
        )  # fmt: skip

    def _make(self, distances: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        windows = [self.window(r) for r in distances.tolist()]
        first, last = min(w[0] for w in windows), max(w[1] for w in windows)
        coefficients = np.zeros((last - first, N_STORED, LANES))
        upper = np.zeros((last - first, LANES))
        for lane, r in enumerate(distances.tolist()):
            self._fill(lane, r, first, coefficients, upper)
        return first, coefficients, upper

    def _make_apart(self, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        proper = [(lane, r) for lane, r in enumerate(distances.tolist()) if 0.0 < r < math.inf]
        runs: list[list[int]] = []
        for first, last in sorted(self.window(r) for _, r in proper):
            if runs and first <= runs[-1][1]:
                runs[-1][1] = max(runs[-1][1], last)
            else:
                runs.append([first, last])
        # One more piece before, between and after the runs, where F is 0 or 1.
        placed, slot = [], 1
        for first, last in runs:
            placed.append((first, last, slot))
            slot += last - first + 1
        coefficients = np.zeros((slot, N_STORED, LANES))
        upper = np.zeros((slot, LANES))
        upper[:, distances == math.inf] = 1.0
        for lane, r in proper:
            own = self.window(r)[0]
            first, last, slot = next(run for run in placed if run[0] <= own < run[1])
            stop = slot + last - first
            upper[:slot, lane] = 1.0
            self._fill(lane, r, first, coefficients[slot:stop], upper[slot:stop])
        return np.array(placed), coefficients, upper

    def _kept(self, key, make, distances):
        found = self._made.get(key)
        if found is None:
            with self._lock:
                found = self._made.get(key)
                if found is None:
                    found = make(distances)
                    size = found[1].nbytes + found[2].nbytes
                    if self._n_bytes + size > _MAX_BYTES:
                        self._made, self._n_bytes = {}, 0
                    # Should an interrupt fall between these lines, tables are kept uncounted.
                    self._made[key] = found
                    self._n_bytes += size
        return found

    def get(self, distances: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        """Tables for LANES distances r > 0 in units of sigma that are close to each other.

        Returns
        -------
        first : int
            Number of the first piece of u.
        coefficients : ndarray of shape (n_pieces, N_STORED, LANES)
            Coefficients of F or 1 - F, then those of f.
        upper : ndarray of shape (n_pieces, LANES)
            1 where a piece holds 1 - F, else 0.
        """
        return self._kept(distances.tobytes(), self._make, distances)

    def get_apart(self, distances: np.ndarray, piece: np.ndarray):
        """Tables for LANES ascending distances, however far apart, and where rows stand in them.

        Where r is 0, F is 0 for all rows, and 1 where it is infinite; one r at least is neither.

        Parameters
        ----------
        distances : ndarray of shape (LANES,)
        piece : ndarray of shape (n_rows,)
            Pieces that the rows are in.

        Returns
        -------
        slot : ndarray of shape (n_rows,)
            Their numbers in these tables, each of which has one.
        coefficients, upper
            As from `get`.
        """
        key = b"apart" + distances.tobytes()
        runs, coefficients, upper = self._kept(key, self._make_apart, distances)
        first, last, start = runs.T
        run = np.searchsorted(first, piece, side="right") - 1
        # In front of the first run is slot 0; behind a run is the one after its last.
        slot = np.where(run < 0, 0, start[run] + np.minimum(piece, last[run]) - first[run])
        return slot, coefficients, upper


@lru_cache(maxsize=4)
def tables(n_features: int) -> NoncentralChiTables:
    """Return the tables for one number of features, kept for the life of the process."""
    return NoncentralChiTables(n_features)
