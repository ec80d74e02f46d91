# SPDX-License-Identifier: BSD-3-Clause
"""Certificates against known truth, brute force, other roads and last bits."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.stats import binom, chi2_contingency, norm
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

from sksmooth import RandomizedSmoothingClassifier
from sksmooth.evasion._draws import ESTIMATION, SELECTION, block_sizes, stream
from sksmooth.evasion._estimation import estimate, estimate_until
from sksmooth.evasion._first_layer import FirstLayerBallot
from sksmooth.evasion._voting import InputBallot, count_votes, numbered_blocks
from sksmooth.smoothing import GaussianNoise
from sksmooth.smoothing._streams import generator

from ._bases import Cuts, Parity, linear, smoothed, with_new_noise

# --- a linear base --------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.25, 1.0])
def test_on_a_linear_base_the_radius_tends_to_the_distance(sigma):
    """Theorem 1 is tight there: the distance is (w x + b) / |w|, whatever sigma is."""
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=5), 0.3
    X = rng.normal(size=(40, 5))
    scores = (X @ weights + bias) / np.linalg.norm(weights)
    model = smoothed(linear(weights, bias), 5, sigma=sigma, n_estimation=1_000_000)
    y_pred, radii = model.certify(X)
    distance = np.abs(scores)
    # In 40 rows at 0.001 more than 2 false radii have a chance below 1e-5.
    assert np.sum(radii > distance) <= 2
    near = (distance > 0.1 * sigma) & (distance < 2.5 * sigma)
    assert near.sum() > 10
    assert_array_equal(y_pred[near], (scores[near] > 0).astype(int))
    assert np.all(radii[near] > distance[near] - 0.03 * sigma)


def test_more_draws_come_closer():
    model, short = smoothed(linear([3.0, 4.0]), 2, sigma=1.0), []
    for n_draws in (100, 10_000, 1_000_000):
        radius = model.set_params(n_estimation=n_draws).certify([[0.6, 0.8]]).radii[0]
        short.append(1.0 - radius)
    assert 0.0 < short[2] < 0.01 < short[1] < 0.1 < short[0]


# --- coverage -------------------------------------------------------------------------------------

PROBLEMS = {
    "clear": [0.8, 0.2],
    "near": [0.49, 0.51],
    "tie": [0.5, 0.5],
    "ten near": [0.06] * 4 + [0.26, 0.25] + [0.06, 0.07, 0.06, 0.06],
    "three": [0.6, 0.3, 0.1],
}


class OwnNoise:
    """Votes of the probabilities `p`, for each row from noise of its own: as many runs at once."""

    def __init__(self, p):
        self.cuts = np.cumsum(p)[:-1]

    def prepare(self, row):
        return int(row[0])

    def block(self, n_draws, rng):
        return rng.integers(0, 2**32, 4).tolist(), n_draws

    def votes(self, row, block):
        words, n_draws = block
        rng = np.random.Generator(np.random.SFC64([row, *words]))
        return np.searchsorted(self.cuts, rng.random(n_draws))


@pytest.mark.slow
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("radius", [None, 0.0, 0.3])
def test_coverage_over_2000_runs(problem, two_sided, radius):
    """A radius is false where it exceeds that of the true probabilities; at most 20% may be."""
    p, reps = np.array(PROBLEMS[problem]), 2000
    model = smoothed(
        Cuts(), sigma=1.0, n_estimation=1000, confidence_level=0.8, two_sided=two_sided
    )
    ballot, runs = OwnNoise(p), np.arange(reps)[:, None]
    selection = count_votes(ballot, runs, p.size, numbered_blocks(20), model._entropy, SELECTION)
    if radius is None:
        found = estimate(model, ballot, runs, selection, lambda n: None)
    else:
        found = estimate_until(model, ballot, runs, selection, radius, lambda n: None, model._radii)
    radii = model._radii(found.tail_a, found.p_b)
    rival = np.array([np.max(np.delete(p, c)) for c in range(p.size)])
    exact = np.where(p > rival, 0.5 * (norm.ppf(p) - norm.ppf(rival)), -0.5)
    false, certified = np.sum(radii > exact[found.top]), np.sum(radii >= 0)
    print(
        f"{problem}, two_sided={two_sided}, radius={radius}: {false} false, {certified} certified"
    )
    # If exactly 20% were false, more than this would have a chance of 0.2%.
    assert false <= binom.isf(0.002, reps, 0.2)
    if problem == "clear":
        assert certified > 0.6 * reps


@pytest.mark.slow
def test_coverage_of_predict():
    """Near a tie, the smoothed classifier's answer is missed without abstention in few runs."""
    model = smoothed(Cuts((norm.ppf(0.45),)), sigma=1.0, n_selection=50, confidence_level=0.9)
    wrong = abstained = 0
    for seed in range(1000):
        y_pred, abstains = with_new_noise(model, seed).predict_with_abstention([[0.0]])
        wrong += y_pred[0] == 0 and not abstains[0]
        abstained += abstains[0]
    assert wrong <= binom.isf(0.002, 1000, 0.1) and 500 < abstained < 1000


def test_rows_see_the_same_noise_and_new_runs_other_noise():
    """Two rows of equal votes have equal counts; over runs the counts are binomial."""
    model = smoothed(Cuts((norm.ppf(0.7),)), sigma=1.0, n_selection=50)
    shares = []
    for seed in range(300):
        both = with_new_noise(model, seed).predict_proba([[0.0], [0.0]])[:, 0]
        assert both[0] == both[1]
        shares.append(both[0])
    assert abs(np.mean(shares) - 0.7) < 4.0 * np.sqrt(0.21 / 15_000)
    assert 0.75 < np.var(shares) / (0.21 / 50) < 1.35  # a chi-square of 299, at 4 deviations


# --- categorical noise, by enumeration ------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (2, 2, 1, 2, 2, 2, 3)])
def test_categorical_certificates_against_enumeration(sizes):
    """The smoothed classifier of every input, exactly, from all noisy copies with their chances."""
    q, rng = 0.08, np.random.default_rng(1)
    inputs = np.array(list(product(*(range(k) for k in sizes))))
    # A rule by majority, with some exceptions.
    ranks = inputs.sum(axis=1) / max(1, sum(sizes) - len(sizes))
    y = ((ranks > 0.5) ^ (rng.random(len(inputs)) < 0.05)).astype(int)
    values = inputs * 2.5 - 1.0  # categories need not be codes
    base = DecisionTreeClassifier().fit(values, y)
    model = RandomizedSmoothingClassifier(
        FrozenEstimator(base), noise="categorical", q=q, n_estimation=20_000, random_state=0
    ).fit(values, y)
    result = model.certify(values, return_bounds=True)
    same = inputs[:, None, :] == inputs[None, :, :]
    size = np.array(sizes)
    other = q / np.where(size > 1, size - 1, 1)
    chance = np.where(same, np.where(size > 1, 1 - q, 1.0), other).prod(axis=2)
    np.testing.assert_allclose(chance.sum(axis=1), 1.0)
    p = chance @ (base.predict(values)[:, None] == np.arange(2))
    counted = np.where(result.y_pred == 0, p[:, 0], p[:, 1])
    # All rows share draws; 4.5 deviations of each, and at most one row outside its level.
    assert np.all(np.abs(result.p_a - counted) < 7.0 * np.sqrt(0.25 / 20_000))
    assert np.sum(result.p_a > counted) <= 1
    truth, distance = p.argmax(axis=1), (~same).sum(axis=2)
    assert result.radii.dtype == np.int64 and result.radii.max() >= 1
    assert result.radii.max() <= np.sum(size > 1)
    for i, r in enumerate(result.radii):
        if r >= 0 and result.p_a[i] <= counted[i]:
            assert np.all(truth[distance[i] <= r] == result.y_pred[i])


# --- the first layer ------------------------------------------------------------------------------


def trained(kind, n_classes):
    X, y = load_iris(return_X_y=True)
    X, y = X[y < n_classes], y[y < n_classes]
    if kind.startswith("mlp"):
        base = MLPClassifier(
            (7, 5), activation=kind[4:], solver="lbfgs", max_iter=60, alpha=0.1, random_state=0
        )
    else:
        base = {
            "logistic": LogisticRegression(),
            "sgd": SGDClassifier(random_state=0),
            "ridge": RidgeClassifier(),
        }[kind]
    return X, base.fit(X, y)


KINDS = ["logistic", "sgd", "mlp-relu", "mlp-tanh", "mlp-logistic", "mlp-identity"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sigma", [0.7, [0.5, 1.0, 0.2, 2.0]])
def test_noise_behind_the_first_layer_gives_the_votes_of_noisy_inputs(kind, n_classes, sigma):
    X, base = trained(kind, n_classes)
    X = X[::25] + 0.1
    counts = {}
    for noise in ("uniform", "gaussian"):
        model = RandomizedSmoothingClassifier(
            FrozenEstimator(base), noise=noise, sigma=sigma, random_state=0
        ).fit(X, np.arange(len(X)) % n_classes)
        first = model._ballot()
        for ballot in (first, first.whole):
            counts[noise, type(ballot)] = count_votes(
                ballot, X, n_classes, numbered_blocks(4000), model._entropy, ESTIMATION
            )
    # Uniform noise: the same draws, hence the same votes. Gaussian: the same distribution.
    assert_array_equal(counts["uniform", FirstLayerBallot], counts["uniform", InputBallot])
    assert np.any(counts["gaussian", FirstLayerBallot] != counts["gaussian", InputBallot])
    for row in zip(
        counts["gaussian", FirstLayerBallot], counts["gaussian", InputBallot], strict=True
    ):
        table = np.array(row)[:, np.sum(row, axis=0) > 10]
        if table.shape[1] > 1:
            assert chi2_contingency(table).pvalue > 1e-6


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (6, 6)])
def test_the_factor_has_the_covariance_of_the_layer(shape):
    """Also of a singular layer: rank 2."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(shape[0], 2)) @ rng.normal(size=(2, shape[1]))
    sigma = rng.uniform(0.5, 2.0, shape[0])
    base = MLPClassifier((shape[1],), max_iter=1).fit(rng.normal(size=(20, shape[0])), [0, 1] * 10)
    base.coefs_[0] = weights
    model = smoothed(base, shape[0], sigma=sigma)
    ballot = model._ballot()
    factor = ballot.factor
    assert factor.shape == (min(shape), shape[1])
    np.testing.assert_allclose(
        factor.T @ factor, weights.T @ np.diag(sigma**2) @ weights, atol=1e-12
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_base_that_is_not_known_gets_noisy_inputs():
    X, base = trained("ridge", 3)
    assert isinstance(smoothed(base, 4)._ballot(), InputBallot)  # has a predict of its own

    class Contrary(LogisticRegression):
        def predict(self, X):
            return self.classes_[::-1][np.searchsorted(self.classes_, super().predict(X))]

    class Other(MLPClassifier):
        pass

    for other in (Contrary(), Other((3,), max_iter=2)):
        model = smoothed(other.fit(X, np.arange(len(X)) % 2), 4)
        assert isinstance(model._ballot(), InputBallot)
    sparse = LogisticRegression().fit(X, np.arange(len(X)) % 2).sparsify()
    assert isinstance(smoothed(sparse, 4)._ballot(), InputBallot)
    gridded = smoothed(linear([1.0]), grid=2.0**-10)
    assert isinstance(gridded._ballot(), InputBallot)


# --- floating point -------------------------------------------------------------------------------


def test_float32_noise_tells_a_shift_far_below_it():
    """The counter-example: last bits tell x from x + 2**-24, whatever the noise.

    Values below -1 leave float32 no room for odd multiples of 2**-24: of 3/4 + z with z there all
    that fall into (-1, -1/4) are even ones, of 3/4 + 2**-24 + z all are odd ones. A radius of half
    a sigma is false at a distance of 1.7e-6.
    """
    n_features, rng = 784, np.random.default_rng(0)
    noise = rng.standard_normal((1000, n_features), dtype=np.float32)
    base = Parity().fit(None, None)
    at = np.full(n_features, 0.75, dtype=np.float32)
    shifted = at + np.float32(2.0**-24)
    assert np.linalg.norm((shifted - at).astype(float)) < 1.7e-6
    votes = [base.predict(x + noise).mean() for x in (at, shifted)]
    print(f"votes for class 1: {votes}")
    assert votes[0] < 0.01 and votes[1] > 0.99
    assert float(GaussianNoise(1.0).radius(1.0 - votes[0] - 0.01)) > 2.0


def test_on_a_grid_last_bits_tell_nothing():
    """The same base in float64, whose last bits are those of 2**-53, with a grid and without."""
    n_features = 784
    X = np.full((2, n_features), 0.75)
    X[1] += 2.0**-53
    params = {"n_features": n_features, "sigma": 1.0, "n_estimation": 1000}
    radii = {}
    for grid in (None, 2.0**-20):
        model = smoothed(Parity(2.0**-53), grid=grid, **params)
        shares = model.predict_proba(X)[:, 1]
        radii[grid] = model.certify(X)
        if grid is None:
            # Why there is a grid: a statement about real numbers is false in floating point.
            assert shares[0] < 0.01 and shares[1] > 0.99 and np.all(radii[grid].radii > 1.0)
        else:
            assert shares[0] == shares[1] and radii[grid].radii[0] == radii[grid].radii[1]
    # The base that reads the grid's own last bits: x and its neighbour on the grid.
    unit = 2.0**-20
    model = smoothed(Parity(unit), grid=unit, **params)
    X[1] = 0.75 + unit
    result = model.certify(X)
    assert np.all(np.abs(model.predict_proba(X)[:, 1] - 0.5) < 0.25)
    assert np.all(result.radii < 0.1)


def test_on_a_grid_the_charge_pays_for_rounding():
    """A base that is linear on the grid: the radius is below the distance, by the charge."""
    grid, n_features = 2.0**-4, 4
    weights = np.ones(n_features)
    plain = smoothed(linear(weights), n_features, sigma=1.0, n_estimation=100_000)
    snapped = smoothed(linear(weights), n_features, sigma=1.0, n_estimation=100_000, grid=grid)
    X = [[0.5 + 0.49 * grid] * n_features]
    distance = np.linalg.norm(X)
    assert 0.9 * distance < plain.certify(X).radii[0] < distance
    radius = snapped.certify(X).radii[0]
    assert distance - 3.0 * grid * 2.0 < radius < distance - 0.5 * grid * 2.0


def test_noise_on_a_grid_is_on_it_and_exact():
    model = smoothed(Cuts(), 3, sigma=0.7, grid=2.0**-6)
    rng = generator(stream(model._entropy, ESTIMATION, 0))
    block = model._draws.block(next(block_sizes(100)), rng)
    row = model._rows_of(np.array([[0.1, -3.3, 1e6]]), model._draws)[0]
    multiples = model._draws.noisy(row, block) * 2.0**6
    assert_array_equal(multiples, np.rint(multiples))
    assert_array_equal(model._draws.noisy(row, block) - row, block)
