# SPDX-License-Identifier: BSD-3-Clause
"""Workers that die, workers that lack the package, clusters, and what is shown of progress."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures.process import BrokenProcessPool

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from sksmooth import RABEnsembleClassifier
from sksmooth.exceptions import LostWorkersError, LostWorkersWarning

from .test_members import blobs


class Mortal(ClassifierMixin, BaseEstimator):
    """Notes each training in a file of its own, and may kill the worker that it trains in.

    `deaths` is how often, counted by files in `folder`; `when` says in which method. The process
    `parent` lives.
    """

    def __init__(self, folder, parent, deaths=0, when="fit", random_state=None):
        self.folder = folder
        self.parent = parent
        self.deaths = deaths
        self.when = when
        self.random_state = random_state

    def fit(self, X, y):
        time.sleep(0.02)
        self._die("fit")
        self.classes_ = np.unique(y)
        self.mean_ = float(X[:, 0].mean())
        with open(os.path.join(self.folder, f"fit-{self.random_state}-{os.getpid()}"), "w"):
            pass
        return self

    def predict(self, X):
        self._die("predict")
        return self.classes_[(X[:, 0] > self.mean_).astype(int)]

    def _die(self, when):
        if self.when != when or os.getpid() == self.parent:
            return
        for death in range(self.deaths):
            try:
                os.close(
                    os.open(os.path.join(self.folder, f"death-{death}"), os.O_CREAT | os.O_EXCL)
                )
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)


def mortal(tmp_path, **params):
    return Mortal(str(tmp_path), os.getpid(), **params)


def same(first, second, X):
    assert_array_equal(first.test_vectors_, second.test_vectors_)
    assert_array_equal(first.certify(X, return_bounds=True), second.certify(X, return_bounds=True))


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_only_unfinished_members_are_trained_again(tmp_path):
    X, y = blobs()
    params = {"n_estimators": 60, "test_noise": "seed", "random_state": 0}
    model = RABEnsembleClassifier(mortal(tmp_path, deaths=1), n_jobs=2, **params)
    with pytest.warns(LostWorkersWarning, match="A worker died; .* tasks are run again"):
        model.fit(X, y)
    trained = [name for name in os.listdir(tmp_path) if name.startswith("fit")]
    # Twice at most what was on its way when a worker died: a task of 12 of each of two workers.
    assert 60 <= len(trained) <= 60 + 2 * 12
    other = tmp_path / "alone"
    other.mkdir()
    same(model, RABEnsembleClassifier(mortal(other), **params).fit(X, y), X)


@pytest.mark.slow
def test_a_worker_killed_while_it_votes_is_replaced(tmp_path):
    X, y = blobs()
    params = {"n_estimators": 30, "test_noise": "seed", "random_state": 0}
    model = RABEnsembleClassifier(mortal(tmp_path, deaths=1, when="predict"), **params).fit(X, y)
    with pytest.warns(LostWorkersWarning):
        result = model.set_params(n_jobs=2).certify(X)
    assert_array_equal(result.radii, model.set_params(n_jobs=None).certify(X).radii)


@pytest.mark.slow
def test_a_learner_that_kills_every_worker_ends_with_an_error(tmp_path):
    X, y = blobs()
    model = RABEnsembleClassifier(
        mortal(tmp_path, deaths=100), n_estimators=9, test_noise="seed", n_jobs=2
    )
    with (
        pytest.warns(LostWorkersWarning),
        pytest.raises(LostWorkersError, match="Workers died 4 times, and .* have no answer"),
    ):
        model.fit(X, y)
    assert not hasattr(model, "estimators_")


class OddError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Raiser(ClassifierMixin, BaseEstimator):
    """Raises when it predicts."""

    def __init__(self, kind="odd"):
        self.kind = kind

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        if self.kind == "odd":
            raise OddError(1, 2)
        if self.kind == "broken":
            raise BrokenProcessPool("the learner's own")
        return self.classes_[:1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("odd", RuntimeError, "OddError: 1 and 2"),
        ("broken", BrokenProcessPool, "the learner's own"),
        ("short", ValueError, "one label for each of 40 rows"),
    ],
)
def test_errors_of_learners_are_not_taken_for_dead_workers(kind, error, message):
    X, y = blobs()
    model = RABEnsembleClassifier(Raiser(kind), n_estimators=12, n_jobs=2, random_state=0)
    with pytest.raises(error, match=message):
        model.fit(X, y).predict(X)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["_votes", "_training"])
def test_tasks_that_end_in_another_order_change_nothing(monkeypatch, module):
    """Soft votes are bounded in the order of the seeds, and the last to finish comes first here."""
    X, y = blobs()
    params = {"n_estimators": 24, "voting": "soft", "bound": "betting", "random_state": 0}
    alone = RABEnsembleClassifier(DecisionTreeClassifier(max_depth=2), **params).fit(X, y)

    def backwards(function, tasks, *, n_jobs):
        for number in reversed(range(len(tasks))):
            yield number, function(*tasks[number])

    monkeypatch.setattr(f"sksmooth.ensemble.{module}.run_tasks", backwards)
    many = RABEnsembleClassifier(DecisionTreeClassifier(max_depth=2), n_jobs=2, **params).fit(X, y)
    assert_array_equal(many.collect_votes(X).data, alone.collect_votes(X).data)
    same(many, alone, X)


def test_a_backend_that_returns_lists_will_do():
    X, y = blobs()
    params = {"n_estimators": 12, "random_state": 0}
    alone = RABEnsembleClassifier(LogisticRegression(), **params).fit(X, y)
    with joblib.parallel_config(backend="multiprocessing", n_jobs=2):
        many = RABEnsembleClassifier(LogisticRegression(), **params).fit(X, y)
        result = many.certify(X)
    assert_array_equal(result.radii, alone.certify(X).radii)


# --- Dask -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes; yields the cluster and its client."""
    distributed = pytest.importorskip("dask.distributed", reason="needs the extra dask")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield cluster, client


@pytest.mark.slow
def test_dask_gives_the_same_answer_and_sends_the_data_once(cluster, monkeypatch):
    from distributed.comm.tcp import TCP

    cluster, client = cluster
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4000, 60)), np.arange(4000) % 2
    X[:, 0] += 2 * y
    sent = []
    write = TCP.write

    async def counted(comm, *args, **kwargs):
        n_bytes = await write(comm, *args, **kwargs)
        # The scheduler lives in this process, and what the client tells it leaves it not.
        if comm.peer_address != cluster.scheduler.address:
            sent.append(n_bytes)
        return n_bytes

    monkeypatch.setattr(TCP, "write", counted)
    params = {"n_estimators": 40, "random_state": 0}
    base = DecisionTreeClassifier(max_depth=3)
    with joblib.parallel_config(backend="dask"):
        model = RABEnsembleClassifier(base, **params).fit(X, y)
        between = client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total)
        per_worker = (sum(sent) + sum(between.values())) / 2
        result = model.certify(X[:100])
    print(f"{per_worker / X.nbytes:.2f} times the data per worker")
    assert 0.9 * X.nbytes < per_worker < 1.5 * X.nbytes
    assert_array_equal(result.radii, model.certify(X[:100]).radii)
    same(model, RABEnsembleClassifier(base, **params).fit(X, y), X[:100])


@pytest.mark.slow
def test_a_killed_dask_worker_does_not_end_the_fit(cluster, tmp_path):
    X, y = blobs()
    params = {"n_estimators": 40, "test_noise": "seed", "random_state": 0}
    with joblib.parallel_config(backend="dask"):
        model = RABEnsembleClassifier(mortal(tmp_path, deaths=1), **params).fit(X, y)
    assert (tmp_path / "death-0").exists()
    other = tmp_path / "alone"
    other.mkdir()
    same(model, RABEnsembleClassifier(mortal(other), **params).fit(X, y), X)


def _hide_sksmooth():
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "sksmooth"]:
        del sys.modules[name]

    class Hidden:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "sksmooth":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Hidden())


@pytest.mark.slow
def test_workers_without_the_package_are_told_apart_from_failures():
    distributed = pytest.importorskip("dask.distributed", reason="needs the extra dask")
    X, y = blobs()
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        client.run(_hide_sksmooth)
        with pytest.raises(LostWorkersError, match="Workers cannot import sksmooth.*: install"):
            RABEnsembleClassifier(LogisticRegression(), n_estimators=12).fit(X, y)


@pytest.mark.slow
def test_workers_of_other_versions_are_refused(cluster, monkeypatch):
    from sksmooth.ensemble import _parallel

    X, y = blobs()
    monkeypatch.setattr(_parallel, "_VERSIONS", {**_parallel._VERSIONS, "numpy": "0.1"})
    message = r"same versions. One has numpy .* instead of 0.1"
    with pytest.raises(LostWorkersError, match=message):
        RABEnsembleClassifier(LogisticRegression(), n_estimators=12, n_jobs=2).fit(X, y)
    with joblib.parallel_config(backend="dask"), pytest.raises(LostWorkersError, match=message):
        RABEnsembleClassifier(LogisticRegression(), n_estimators=12).fit(X, y)


# --- progress -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_progress_of_fit_predict_and_certify_tells_the_time_left(capsys, monkeypatch, n_jobs):
    X, y = blobs()
    monkeypatch.setattr("sksmooth.ensemble._base._BATCH_VALUES", 3 * 10)  # four batches of ten rows
    model = RABEnsembleClassifier(LogisticRegression(), n_estimators=12, verbose=1, n_jobs=n_jobs)
    model.fit(X, y)
    shown = capsys.readouterr().err
    assert "fit: 100%" in shown and "12/12" in shown and "<00:00" in shown
    for method in (model.predict, model.certify):
        method(X)
        shown = capsys.readouterr().err
        assert "votes: 100%" in shown and "48/48" in shown  # all batches, not each
    model.set_params(verbose=0).fit(X, y).predict(X)
    assert capsys.readouterr().err == ""


class Recorder:
    """A callback of scikit-learn's."""

    def __init__(self):
        self.calls = []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(("begin", context.task_name, context.max_subtasks))

    def on_fit_task_end(self, estimator, context):
        self.calls.append(("end", context.task_name, context.max_subtasks))
        return True  # asks to stop

    def teardown(self, estimator, context):
        self.calls.append("teardown")


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_callbacks_of_scikit_learn_are_told_of_every_member(n_jobs):
    pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")
    X, y = blobs()
    recorder = Recorder()
    model = RABEnsembleClassifier(LogisticRegression(), n_estimators=5, n_jobs=n_jobs)
    model.set_callbacks(recorder).fit(X, y)
    member = [("begin", "member", 0), ("end", "member", 0)]
    assert recorder.calls == [
        "setup", ("begin", "fit", 5), *5 * member, ("end", "fit", 5), "teardown"
    ]  # fmt: skip
    assert len(model.estimators_) == 5  # the votes do not decide how many there are
