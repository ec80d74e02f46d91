# SPDX-License-Identifier: BSD-3-Clause
"""The tables against arbitrary precision, deep into both tails."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy import special, stats

from sksmooth.neighbors._kernels import (
    LANES,
    PANEL_POINTS,
    PANEL_WEIGHTS,
    PIECE_WIDTH,
    _log_scaled_lambdas,
    evaluate,
    evaluate_row,
    locate,
    panel_sums,
)
from sksmooth.neighbors._noncentral_chi import NoncentralChiTables

from ._oracles import noncentral_chi_exact


def lookup(tables, r, u):
    """F, 1 - F and f; r stands among other distances, near and far."""
    lanes = r * np.linspace(0.5, 2.0, LANES)
    lanes[5] = r
    values = evaluate(*locate(np.array([float(u)])), *tables.get(lanes), 5)
    return [float(v[0]) for v in values]


@pytest.mark.parametrize("n_features", [1, 2, 3, 10, 57, 61, 62, 784, 3072])
def test_table_accuracy(n_features):
    """A tenth of the charged errors is what a sweep over F from 1 to 1e-300 may show."""
    rng = np.random.default_rng(n_features)
    tables = NoncentralChiTables(n_features)
    n_deep = 0
    with mpmath.workdps(40):
        for i in range(14):
            u = [0.0, rng.uniform(0, 3), rng.uniform(0, 40)][i % 3]
            mean = np.sqrt(n_features + u * u)
            # Half of the draws in the bulk, half up to 36 standard deviations into a tail.
            shift = rng.uniform(-2, 2) if i % 2 else (36.0 - 2.5 * i) * (-1) ** (i // 2)
            r = max(mean + shift, 0.05 * mean)
            for value, exact in zip(
                lookup(tables, r, u), noncentral_chi_exact(n_features, r, u), strict=True
            ):
                if exact < mpmath.mpf("1e-300"):
                    assert value < 1e-299
                    continue
                n_deep += exact < mpmath.mpf("1e-100")
                deep = exact < mpmath.mpf("1e-140")
                allowed = tables.deep_error if deep else tables.relative_error
                assert abs(float(value / exact - 1)) < allowed / 10
    assert n_deep > 0


@pytest.mark.parametrize("n_features", [1, 2, 3, 59, 60, 61, 62, 63, 64, 784])
def test_log_bessel_against_mpmath(n_features):
    """Both branches (recurrence below order 30, Debye's expansion alone above)."""
    params = NoncentralChiTables._density_params(n_features)
    order = 0.5 * n_features - 1.0
    with mpmath.workdps(40):
        for z in [0.0, 1e-8, 0.3, 5.0, 40.0, 900.0, 1e6, 1e12]:
            pair = _log_scaled_lambdas(order, z, *params[2:])
            for nu, got in zip((mpmath.mpf(order), mpmath.mpf(order + 1)), pair, strict=True):
                if z < 1e6:
                    exact = mpmath.log(mpmath.hyp0f1(nu + 1, mpmath.mpf(z) ** 2 / 4)) - z
                else:  # hyp0f1 is slow there: the Bessel function itself, by its large-z series
                    term, total = mpmath.mpf(1), mpmath.mpf(1)
                    for k in range(1, 12):
                        term *= -(4 * nu**2 - (2 * k - 1) ** 2) / (k * 8 * mpmath.mpf(z))
                        total += term
                    exact = mpmath.log(total) - mpmath.log(2 * mpmath.pi * z) / 2
                    exact += mpmath.loggamma(nu + 1) + nu * mpmath.log(2 / mpmath.mpf(z))
                # Rounding of terms of up to a thousand: 1e-12, a hundredth of what is charged.
                assert abs(float(got - exact)) < 1e-12 * max(1.0, abs(float(exact)))


@pytest.mark.parametrize("far", [1e4, 1e7, 1e10])
def test_far_out_the_distribution_is_normal(far):
    """One feature: F is the normal distribution function of r - u, however large both are."""
    tables = NoncentralChiTables(1)
    u = np.sort(far + np.random.default_rng(0).uniform(-12.0, 12.0, size=40))
    r = np.floor(far) + np.array([-1.5, 0.25])
    args = (tables.density_args, PANEL_POINTS, PANEL_WEIGHTS)
    panels = panel_sums(u, *args)
    table = tables.get(r[0] + (r[1] - r[0]) * np.arange(LANES))
    for j in range(2):
        by_table = evaluate(*locate(u), *table, j)
        by_rows = np.transpose(
            [evaluate_row(r[j], *row, *args) for row in zip(u, *panels, strict=True)]
        )
        exact = special.ndtr(r[j] - u), special.ndtr(u - r[j]), stats.norm.pdf(r[j] - u)
        for one, other, truth in zip(by_table, by_rows, exact, strict=True):
            np.testing.assert_allclose(one, truth, rtol=tables.relative_error / 10)
            np.testing.assert_allclose(other, truth, rtol=tables.relative_error / 10)


def test_window_leaves_out_only_negligible_rows():
    """Just outside the window both tails are below 1e-305."""
    with mpmath.workdps(30):
        for n_features, r in [(1, 3.0), (1, 45.0), (57, 60.0), (784, 20.0), (784, 80.0)]:
            first, last = NoncentralChiTables(n_features).window(r)
            cdf, _, pdf = noncentral_chi_exact(n_features, r, last * PIECE_WIDTH)
            assert cdf < mpmath.mpf("1e-305") and pdf < mpmath.mpf("1e-303")
            if first > 0:
                _, sf, pdf = noncentral_chi_exact(n_features, r, first * PIECE_WIDTH)
                assert sf < mpmath.mpf("1e-305") and pdf < mpmath.mpf("1e-303")


def test_tables_do_not_depend_on_what_was_asked_before(monkeypatch):
    import sksmooth.neighbors._noncentral_chi as module

    one = NoncentralChiTables(7)
    one.get(np.linspace(1.0, 5.5, LANES))
    one.get(np.linspace(2.0, 7.5, LANES))
    other = NoncentralChiTables(7)
    monkeypatch.setattr(module, "_MAX_BYTES", 1)  # starts afresh on each call
    for r in (2.0, 9.0, 5.5):
        assert lookup(one, r, 3.3) == lookup(other, r, 3.3)
    assert len(other._made) == 1


def test_distances_apart():
    """No row is closer than 0, every row closer than infinity; between, the values of `get`."""
    tables = NoncentralChiTables(4)
    r = np.array([0.0, 1.0, 3.0, 40.0, 41.0, 300.0, 1e4, 1.001e4, 1e9] + [np.inf] * (LANES - 9))
    u = np.r_[0.0, 3.0, 29.0, 77.0, 78.9, 100.0, 299.0, 9.9e3, 1.0005e4, 1e9 - 5.0, 1e9 + 50, 1e11]
    piece, v = locate(u)
    slot, coefficients, upper = tables.get_apart(r, piece)
    assert upper.shape[0] < 5 * 1000
    for lane, distance in enumerate(r):
        got = evaluate(slot, v, 0, coefficients, upper, lane)
        if distance in (0.0, np.inf):
            expected = np.full(u.size, float(distance > 0))
            expected = expected, 1.0 - expected, np.zeros(u.size)
        else:
            one = tables.get(distance * (1.0 + 1e-12 * np.arange(LANES)))
            expected = evaluate(piece, v, *one, 0)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-303)


def test_an_interrupt_leaves_tables_that_match(monkeypatch):
    """Whatever step of making tables fails, what was there before still gives the same values."""
    import sksmooth.neighbors._noncentral_chi as module

    tables = NoncentralChiTables(3)
    before = lookup(tables, 4.0, 2.5)
    for name in ("fill_table", "gammaincc"):
        with monkeypatch.context() as patch:

            def fail(*args, **kwargs):
                raise KeyboardInterrupt

            patch.setattr(module, name, fail)
            with pytest.raises(KeyboardInterrupt):
                tables.get(np.linspace(5.0, 6.0, LANES))
        assert lookup(tables, 4.0, 2.5) == before
    assert lookup(tables, 5.0, 2.5) == lookup(NoncentralChiTables(3), 5.0, 2.5)
