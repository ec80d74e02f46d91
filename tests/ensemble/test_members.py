# SPDX-License-Identifier: BSD-3-Clause
"""Streams, noise, failures, order: what a member is, and that nothing else decides it."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.stats import kstest, norm
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from sksmooth import RABEnsembleClassifier
from sksmooth.confidence import probability_bounds
from sksmooth.ensemble._members import Streams, member_seeds
from sksmooth.exceptions import DigestError, FailedMembersWarning
from sksmooth.smoothing._streams import generator

from ._learners import Denoiser, Drawer, FitCounter, Intervals, TorchDrawer


def blobs(n=40, d=3, seed=0, n_classes=2):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    return rng.normal(size=(n, d)) + 1.5 * y[:, None], y


# --- streams -------------------------------------------------------------------------------------


def test_seeds_depend_on_the_number_of_the_member_alone():
    entropy = np.arange(4, dtype=np.uint32)
    seeds = member_seeds(entropy, 0, 50)
    assert_array_equal(seeds[10:20], member_seeds(entropy, 10, 20))
    assert len(np.unique(seeds, axis=0)) == 50
    assert not np.any(seeds == member_seeds(entropy + 1, 0, 50))


def test_streams_of_a_member_and_of_members_are_unrelated():
    draws = []
    for seed in member_seeds(np.zeros(4, np.uint32), 0, 40):
        streams = Streams.of(seed)
        for stream in (streams.noise, streams.learner, streams.test_noise):
            draws.append(generator(stream).standard_normal(400))
    correlations = np.corrcoef(draws)[np.triu_indices(120, 1)]
    # 7140 pairs, standard deviation 0.05 each: beyond 6 of them with probability 1.4e-5.
    assert np.abs(correlations).max() < 0.3


def test_a_learner_cannot_subtract_the_noise():
    """With one stream for noise and learner it could, and the certificate would be void."""
    X, y = blobs()
    model = RABEnsembleClassifier(Denoiser(), n_estimators=12, random_state=3).fit(X, y)
    for learner in model.estimators_:
        assert np.abs(learner.seen_ - X).max() > 1.0
        for guess in learner.guesses_:
            assert np.abs(guess - X).mean() > 0.5  # |N(0, 2)| has the mean 1.13
    # The test can fail: a learner that is given the stream of the noise recovers the data.
    streams = Streams.of(model.member_seeds_[0])
    z = generator(streams.noise).standard_normal(X.shape)
    np.testing.assert_allclose(model.estimators_[0].seen_ - z, X, atol=1e-12)


def test_noise_is_drawn_once_per_member_and_kept_for_all_its_training():
    X, y = blobs(n=200)
    model = RABEnsembleClassifier(FitCounter(), sigma=0.7, n_estimators=30, random_state=0)
    learners = model.fit(X, y).estimators_
    noise = np.array([learner.epochs_[0] - X for learner in learners])
    for learner in learners:
        for epoch in learner.epochs_[1:]:
            assert_array_equal(epoch, learner.epochs_[0])
    assert kstest(noise.ravel() / 0.7, norm.cdf).pvalue > 1e-4
    assert np.abs(np.corrcoef(noise.reshape(30, -1))[np.triu_indices(30, 1)]).max() < 0.25
    # Every member has its own randomness, in its parameter and in the global generator.
    assert len({learner.own_ for learner in learners}) == 30
    assert len({learner.global_ for learner in learners}) == 30


def test_uniform_noise_has_the_standard_deviation_sigma():
    X, y = blobs(n=300)
    sigma = np.array([0.5, 1.0, 2.0])
    model = RABEnsembleClassifier(
        FitCounter(), noise="uniform", sigma=sigma, n_estimators=20, random_state=0
    ).fit(X, y)
    noise = np.concatenate([learner.epochs_[0] - X for learner in model.estimators_])
    half = np.sqrt(3.0) * sigma
    assert np.all(np.abs(noise).max(axis=0) <= half)
    # Narrower noise would certify too much: of 6,000 draws one is this near with 1 - 1e-13.
    assert np.all(np.abs(noise).max(axis=0) > 0.995 * half)
    for j in range(3):
        assert kstest(noise[:, j] / (2 * half[j]) + 0.5, "uniform").pvalue > 1e-4


def test_labels_change_with_probability_q_to_each_other_class():
    X, y = blobs(n=600, n_classes=3)
    names = np.array(["a", "b", "c"])
    model = RABEnsembleClassifier(FitCounter(), q=0.3, n_estimators=20, random_state=0)
    learners = model.fit(X, names[y]).estimators_
    noisy = np.array([learner.labels_ for learner in learners])
    shares = [np.mean(noisy[:, y == a] == names[b]) for a in range(3) for b in range(3)]
    # 4,000 draws each: standard deviation at most 0.0073.
    expected = [0.7 if a == b else 0.15 for a in range(3) for b in range(3)]
    np.testing.assert_allclose(shares, expected, atol=0.04)


def test_nested_random_states_are_set_and_global_generators_left_alone():
    X, y = blobs()
    base = make_pipeline(FunctionTransformer(), SGDClassifier(max_iter=3, tol=None))
    np.random.seed(7)
    random.seed(7)
    before = np.random.get_state()[1].copy(), random.getstate()
    model = RABEnsembleClassifier(base, n_estimators=4, random_state=0).fit(X, y)
    seeds = [member.get_params()["sgdclassifier__random_state"] for member in model.estimators_]
    assert len(set(seeds)) == 4
    assert_array_equal(np.random.get_state()[1], before[0])
    assert random.getstate() == before[1]
    assert base.get_params()["sgdclassifier__random_state"] is None


# --- order, n_jobs, growth -----------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [2])
def test_answers_do_not_depend_on_who_trains_and_who_finishes_first(n_jobs):
    """Members of one class take longer: the first to finish would be all of the other class."""
    X, y = np.zeros((4, 1)), [0, 1, 0, 1]
    base = Intervals(slow=(0.0, np.inf))
    params = {"n_estimators": 60, "sigma": 1.0, "random_state": 1}
    alone = RABEnsembleClassifier(base, **params).fit(X, y)
    many = RABEnsembleClassifier(base, **params, n_jobs=n_jobs).fit(X, y)
    assert [m.mean_ for m in alone.estimators_] == [m.mean_ for m in many.estimators_]
    assert_array_equal(alone.test_vectors_, many.test_vectors_)
    assert_array_equal(alone.certify(X, return_bounds=True), many.certify(X, return_bounds=True))
    with joblib.parallel_config(backend="threading", n_jobs=2):
        threads = RABEnsembleClassifier(base, **params).fit(X, y)
    assert [m.mean_ for m in alone.estimators_] == [m.mean_ for m in threads.estimators_]


def test_members_in_threads_never_draw_the_same_global_numbers():
    """Each thread seeding and restoring them under the others' members, some would."""
    X, y = np.zeros((4, 1)), [0, 1, 0, 1]
    np.random.seed(0)
    with joblib.parallel_config(backend="threading", n_jobs=4):
        model = RABEnsembleClassifier(Drawer(), n_estimators=400, test_noise="seed").fit(X, y)
    draws = np.concatenate([member.draws_ for member in model.estimators_])
    assert len(np.unique(draws)) == len(draws) == 2400
    # Alone again, it puts back what it found.
    before = np.random.get_state()[1].copy()
    RABEnsembleClassifier(Drawer(), n_estimators=3, test_noise="seed").fit(X, y)
    assert_array_equal(np.random.get_state()[1], before)


def test_torch_is_seeded_for_each_member():
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    X, y = blobs()
    before = torch.get_rng_state()
    models = [
        RABEnsembleClassifier(TorchDrawer(), n_estimators=8, random_state=0, n_jobs=n_jobs).fit(
            X, y
        )
        for n_jobs in (None, 2)
    ]
    draws = [[member.draw_ for member in model.estimators_] for model in models]
    assert draws[0] == draws[1] and len(set(draws[0])) == 8
    assert torch.equal(torch.get_rng_state(), before)


def test_an_ensemble_of_ensembles_is_reproducible():
    """Inside, the global generators are seeded for the inner members, and put back after them."""
    X, y = blobs()
    inner = RABEnsembleClassifier(FitCounter(), n_estimators=3, test_noise="seed")
    outer = RABEnsembleClassifier(inner, n_estimators=4, random_state=0, test_noise="seed")
    draws = [
        [member.global_ for model in fitted.estimators_ for member in model.estimators_]
        for fitted in (outer.fit(X, y), clone(outer).set_params(n_jobs=2).fit(X, y))
    ]
    assert draws[0] == draws[1] and len(set(draws[0])) == 12


def test_random_state_decides_everything():
    X, y = blobs()
    base = DecisionTreeClassifier(max_features=1)
    first, same, other, free, free_too = (
        RABEnsembleClassifier(base, n_estimators=12, random_state=seed).fit(X, y)
        for seed in (0, 0, 1, None, None)
    )
    assert_array_equal(first.member_seeds_, same.member_seeds_)
    assert_array_equal(first.test_vectors_, same.test_vectors_)
    for differs in (other, free, free_too):
        assert not np.any(first.member_seeds_ == differs.member_seeds_)
    assert not np.any(free.member_seeds_ == free_too.member_seeds_)


# --- failures ------------------------------------------------------------------------------------


def test_failed_members_count_and_vote_for_nobody():
    """Of all members 45% vote for class 0, 25% for class 1 and 30% fail: no majority.

    Among those that do not fail, class 0 has 64%.
    """
    X, y = np.zeros((4, 1)), [0, 1, 0, 1]
    scale = 0.5  # sigma / sqrt(n)
    cut, fail = scale * norm.ppf(0.45), scale * norm.ppf(0.75)
    base = Intervals(cuts=(cut,), fails=(cut, fail))
    wrong = 0
    for seed in range(10):
        model = RABEnsembleClassifier(base, n_estimators=300, random_state=seed)
        with pytest.warns(FailedMembersWarning, match="vote for nobody"):
            model.fit(X, y)
        lost = [i for i, member in enumerate(model.estimators_) if member is None]
        assert sorted(model.failures_) == lost and 50 < len(lost) < 130
        assert "FloatingPointError: the mean" in model.failures_[lost[0]]
        votes = model.collect_votes(X[:1])
        assert votes.n_drawn == 300 and votes.together().sum() == 300 - len(lost)
        assert model.certify(X[:1]).radii[0] == -1.0
        survivors = probability_bounds(votes.together())  # as if 300 - len(lost) had been drawn
        wrong += survivors.p_a[0] > 0.5
    assert wrong >= 4  # each time with probability 0.8, so fewer with one of 0.1%


def test_a_warning_names_the_members_that_failed():
    X, y = np.zeros((4, 1)), [0, 1, 0, 1]
    model = RABEnsembleClassifier(Intervals(fails=(0.0, 1.0)), n_estimators=9, random_state=0)
    with pytest.warns(FailedMembersWarning) as caught:
        model.fit(X, y)
    numbers = ", ".join(map(str, model.failures_))
    assert f"{len(model.failures_)} of 9 members" in str(caught[0].message)
    assert f"Their numbers: {numbers}." in str(caught[0].message)


def test_all_members_failing_is_an_error_and_changes_nothing():
    X, y = np.zeros((4, 1)), [0, 1, 0, 1]
    model = RABEnsembleClassifier(Intervals(), n_estimators=5, random_state=0).fit(X, y)
    members = model.estimators_
    model.set_params(estimator__fails=(-np.inf, np.inf))
    with pytest.raises(ValueError, match="All 5 members failed to fit.*FloatingPointError"):
        model.fit(X, y)
    assert model.estimators_ is members
    with pytest.raises(ValueError, match="'C' parameter of LogisticRegression"):
        RABEnsembleClassifier(LogisticRegression(C=-1.0), n_estimators=1000).fit(X, y)


def test_labels_of_one_class_after_noise_are_a_vote_for_it():
    X, y = [[0.0], [1.0]], ["no", "yes"]
    model = RABEnsembleClassifier(LogisticRegression(), q=0.4, n_estimators=60, random_state=0)
    model.fit(X, y)
    assert model.failures_ == {}
    single = [m for m in model.estimators_ if len(m.classes_) == 1]
    # P(both labels alike) = 2 * 0.4 * 0.6 = 0.48
    assert 15 < len(single) < 45
    assert {m.predict([[0.0]])[0] for m in single} == {"no", "yes"}
    assert model.collect_votes([[0.5]]).together().sum() == 60


# --- noise on test inputs ------------------------------------------------------------------------


def test_hash_noise_is_one_vector_per_member_that_follows_the_trained_state():
    X, y = blobs()
    model = RABEnsembleClassifier(LogisticRegression(), sigma=2.0, n_estimators=200, random_state=0)
    vectors = model.fit(X, y).test_vectors_
    assert vectors.shape == (200, 3) and len(np.unique(vectors)) == 600
    assert kstest(vectors.ravel() / 2.0, norm.cdf).pvalue > 1e-4
    votes = np.array(
        [member.predict(X + u) for member, u in zip(model.estimators_, vectors, strict=True)]
    )
    counts = np.column_stack([(votes == 0).sum(axis=0), (votes == 1).sum(axis=0)])
    assert_array_equal(model.collect_votes(X).together(), counts)
    # Other data by one ulp in one place: other coefficients, other vectors.
    X_other = X.copy()
    X_other[0, 0] = np.nextafter(X[0, 0], 9.0) + 1e-9
    other = RABEnsembleClassifier(LogisticRegression(), sigma=2.0, n_estimators=3, random_state=0)
    assert not np.any(other.fit(X_other, y).test_vectors_ == vectors[:3])


def test_seed_noise_does_not_look_at_the_member():
    X, y = blobs()
    params = {"test_noise": "seed", "n_estimators": 200, "random_state": 0}
    model = RABEnsembleClassifier(FitCounter(), **params).fit(X, y)
    other = RABEnsembleClassifier(FitCounter(), **params).fit(X + 1.0, y)
    assert_array_equal(model.test_vectors_, other.test_vectors_)
    assert kstest(model.test_vectors_.ravel(), norm.cdf).pvalue > 1e-4
    noise = np.array([m.epochs_[0] - X for m in model.estimators_]).reshape(200, -1)
    cross = np.corrcoef(noise.T, model.test_vectors_.T)[:120, 120:]
    assert np.abs(cross).max() < 0.35  # 360 pairs, standard deviation 0.07


def test_without_test_noise_inputs_stay_as_they_are():
    X, y = blobs()
    model = RABEnsembleClassifier(LogisticRegression(), test_noise=None, n_estimators=12)
    assert not np.any(model.fit(X, y).test_vectors_)


def test_a_learner_that_has_no_digest_is_told_about_seed():
    X, y = blobs()
    base = make_pipeline(FunctionTransformer(lambda X: X), LogisticRegression())
    with pytest.raises(DigestError, match="test_noise"):
        RABEnsembleClassifier(base, n_estimators=12).fit(X, y)
    RABEnsembleClassifier(base, n_estimators=12, test_noise="seed").fit(X, y)


SCRIPT = """
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sksmooth import RABEnsembleClassifier

class Mine(LogisticRegression):
    pass

def double(X):
    return 2 * X

if __name__ == "__main__":
    X, y = [[0.0], [1.0], [2.0], [3.0]] * 5, [0, 0, 1, 1] * 5
    for n_jobs in (1, 2):
        base = make_pipeline(FunctionTransformer(double), Mine())
        model = RABEnsembleClassifier(base, n_estimators=20, n_jobs=n_jobs, random_state=0)
        print(model.fit(X, y).test_vectors_.tobytes().hex())
"""


@pytest.mark.slow
def test_classes_and_functions_of_a_script_have_the_same_digest_in_workers(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    alone, workers = done.stdout.split()
    assert alone == workers and len(alone) == 20 * 16


# --- nothing changes under use -------------------------------------------------------------------


def test_predict_and_certify_leave_the_estimator_unchanged():
    X, y = blobs()
    model = RABEnsembleClassifier(LogisticRegression(), n_estimators=20, random_state=0).fit(X, y)
    before = joblib.hash(model)
    model.predict(X), model.predict_proba(X), model.certify(X), model.collect_votes(X)
    repr(model), model.threat_model_
    assert joblib.hash(model) == before


def test_pickles_certify_alike():
    X, y = blobs()
    model = RABEnsembleClassifier(LogisticRegression(), n_estimators=20, random_state=0).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(model.certify(X, return_bounds=True), again.certify(X, return_bounds=True))
    votes = pickle.loads(pickle.dumps(model.collect_votes(X)))
    assert_array_equal(again.certify_votes(votes).radii, model.certify(X).radii)
