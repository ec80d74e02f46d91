# SPDX-License-Identifier: BSD-3-Clause
"""Members on disk: killed, interrupted, damaged, full, of another fit."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sksmooth import RABEnsembleClassifier
from sksmooth.exceptions import CheckpointError, CheckpointWarning, OptionalStoppingWarning

from ._learners import Intervals
from .test_members import blobs

SCRIPT = """
import os, sys, time
import numpy as np
from sklearn.tree import DecisionTreeClassifier
from sksmooth import RABEnsembleClassifier
from sksmooth.ensemble import _checkpoint

folder, n_jobs, pause = sys.argv[1], int(sys.argv[2]), sys.argv[3]

class Slow(DecisionTreeClassifier):  # of a script: it has to be found again, too
    def fit(self, X, y):
        time.sleep(0.02)
        return super().fit(X, y)

def wait():
    open(folder + "-waits", "w").close()
    time.sleep(60)

if pause == "moving":  # the file is written, not yet in its place
    replace = os.replace
    os.replace = lambda a, b: replace(a, b) if "json" in str(b) else wait()
if pause == "writing":  # half of it is written
    class Half:
        def __init__(self, *args, **kwargs):
            self.file = _temporary(*args, **kwargs)
            self.name = self.file.name
        def __enter__(self):
            return self
        def __exit__(self, *args):
            self.file.close()
        def write(self, content):
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            wait()
    _temporary = _checkpoint.tempfile.NamedTemporaryFile
    _checkpoint.tempfile.NamedTemporaryFile = Half

rng = np.random.default_rng(0)
X, y = rng.normal(size=(60, 3)), np.arange(60) % 2
RABEnsembleClassifier(
    Slow(max_depth=3), n_estimators=100, checkpoint_dir=folder, n_jobs=n_jobs, random_state=0
).fit(X, y)
"""


def members_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("member-*.bin")}


def state_of(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def start(script, folder, n_jobs, pause="no"):
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), str(n_jobs), pause],
        start_new_session=True,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
def test_a_fit_that_is_killed_ten_times_ends_with_the_same_files(tmp_path):
    """Ten times SIGKILL to the whole process group, at moments drawn over the whole fit.

    Twice while a member is being written, once before it is moved to its place.
    """
    script, folder, undisturbed = (tmp_path / name for name in ("fit.py", "killed", "undisturbed"))
    script.write_text(SCRIPT)
    rng = np.random.default_rng(0)
    # Killed when so many members are there; sorted, as each goes on from the one before.
    moments = np.sort(rng.integers(0, 80, 10))
    pauses = ["no"] * 10
    pauses[2], pauses[5] = "writing", "writing"
    pauses[8] = "moving"
    kept = {}
    for kill, (moment, pause) in enumerate(zip(moments, pauses, strict=True)):
        process = start(script, folder, 1 + kill % 2, pause)
        waits = tmp_path / "killed-waits"
        while process.poll() is None:
            if waits.exists() if pause != "no" else len(members_of(folder)) >= moment:
                break
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.02) if pause == "no" else 0.0)
        assert process.poll() is None, process.stderr.read().decode()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
        waits.unlink(missing_ok=True)
        left = list(folder.glob("*.tmp"))
        assert len(left) >= 1 or pause == "no"  # the half-written file is there, and is no member
        # Whatever was kept before is untouched.
        now = members_of(folder)
        assert all(now[name] == content for name, content in kept.items())
        kept = now
    assert 50 < len(kept) < 100
    for place, n_jobs in ((folder, 2), (undisturbed, 1)):
        process = start(script, place, n_jobs)
        assert process.wait() == 0, process.stderr.read().decode()
        process.stderr.close()
    assert len(members_of(folder)) == 100
    assert members_of(folder) == members_of(undisturbed)
    assert (folder / "manifest.json").read_bytes() == (undisturbed / "manifest.json").read_bytes()
    assert not list(folder.glob("*.tmp"))


class Counted(ClassifierMixin, BaseEstimator):
    """Adds a line to a file each time it is trained; Ctrl-C is pressed at line `stops`."""

    def __init__(self, path, stops=-1, random_state=None):
        self.path = path
        self.stops = stops
        self.random_state = random_state

    def fit(self, X, y):
        with open(self.path, "a") as file:
            file.write(f"{self.random_state}\n")
        with open(self.path) as file:
            if len(file.readlines()) == self.stops:
                raise KeyboardInterrupt
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_ctrl_c_leaves_a_usable_checkpoint(tmp_path):
    X, y = blobs()
    path, folder = tmp_path / "log", tmp_path / "kept"
    params = {"n_estimators": 20, "checkpoint_dir": folder, "random_state": 0}
    params["test_noise"] = "seed"
    stops = Counted(path, 8)
    model = RABEnsembleClassifier(stops, **params)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert not hasattr(model, "estimators_") and len(members_of(folder)) == 7
    model.fit(X, y)
    seeds = path.read_text().split()
    assert len(seeds) == 21 and len(set(seeds)) == 20 and seeds[7] == seeds[8]
    other = RABEnsembleClassifier(stops, **{**params, "checkpoint_dir": tmp_path / "other"})
    assert_array_equal(model.test_vectors_, other.fit(X, y).test_vectors_)
    assert members_of(folder) == members_of(tmp_path / "other")
    # Complete: nothing is trained any more.
    again = RABEnsembleClassifier(stops, **params).fit(X, y)
    assert len(path.read_text().split()) == 41
    assert_array_equal(again.certify(X).radii, model.certify(X).radii)


@pytest.mark.slow
@pytest.mark.parametrize(
    "base",
    [
        DecisionTreeClassifier(),
        KNeighborsClassifier(),
        make_pipeline(StandardScaler(), FunctionTransformer(np.exp), LogisticRegression()),
    ],
    ids=["tree", "neighbors", "pipeline"],
)
def test_files_and_certificates_do_not_depend_on_who_trained(tmp_path, base):
    X, y = blobs(n=300, d=600)  # larger than what joblib gives to workers as a memory map
    names = np.array(["no", "yes"], dtype=object)[y]
    params = {"n_estimators": 12, "random_state": 0, "q": 0.1}
    plain = RABEnsembleClassifier(base, **params).fit(X, names)
    models = []
    for n_jobs in (None, 2):
        folder = tmp_path / str(n_jobs)
        model = RABEnsembleClassifier(base, checkpoint_dir=folder, n_jobs=n_jobs, **params)
        models += [model.fit(X, names), model.fit(X, names)]  # trained, and read again
        if n_jobs == 2:
            (folder / "member-000000.bin").unlink()
            (folder / "member-000005.bin").unlink()
            models.append(model.fit(X, names))
    for model in models:
        assert_array_equal(model.test_vectors_, plain.test_vectors_)
        assert_array_equal(model.certify(X).radii, plain.certify(X).radii)
    assert members_of(tmp_path / "None") == members_of(tmp_path / "2")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sigma": 2.0}, "noise"),
        ({"q": 0.1}, "noise"),
        ({"test_noise": "seed"}, "test_noise"),
        ({"columns": [0, 1]}, "columns"),
        ({"grid": 2.0**-20}, "grid or categories"),
        ({"classes": [0, 1, 2]}, "classes"),
        ({"random_state": 1}, "random_state"),
        ({"estimator__C": 2.0}, "estimator"),
        ({"data": 1}, "training data"),
        ({"labels": 1}, "training labels"),
        ({"weights": 1}, "other arguments of fit"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_another_fit_is_refused_and_nothing_is_overwritten(tmp_path, changes, named):
    X, y = blobs()
    weights = None
    model = RABEnsembleClassifier(
        LogisticRegression(), n_estimators=3, checkpoint_dir=tmp_path, random_state=0
    ).fit(X, y)
    before = {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()
    }
    if "data" in changes:
        X = X.copy()
        X[0, 0] = np.nextafter(X[0, 0], 9.0)
    elif "labels" in changes:
        y = np.r_[1 - y[:1], y[1:]]
    elif "weights" in changes:
        weights = np.linspace(1.0, 2.0, len(y))
    else:
        model.set_params(**changes)
    with pytest.raises(CheckpointError, match=rf"another fit, which differs in .*{named} \("):
        model.fit(X, y, sample_weight=weights)
    assert state_of(tmp_path) == before


def test_other_versions_are_refused(tmp_path, monkeypatch):
    from sksmooth.ensemble import _checkpoint

    X, y = blobs()
    params = {"n_estimators": 3, "checkpoint_dir": str(tmp_path), "random_state": 0}
    RABEnsembleClassifier(LogisticRegression(), **params).fit(X, y)
    monkeypatch.setattr(_checkpoint, "_VERSIONS", {**_checkpoint._VERSIONS, "numpy": "9.9"})
    with pytest.raises(CheckpointError, match=r"differs in versions \(.*9\.9.* now\)"):
        RABEnsembleClassifier(LogisticRegression(), **params).fit(X, y)


@pytest.mark.parametrize(
    "damage", ["flip", "truncate", "empty", "other", "another number", "another fit"]
)
def test_a_damaged_member_is_found_and_trained_again(tmp_path, damage):
    X, y = blobs()
    params = {"n_estimators": 6, "checkpoint_dir": tmp_path, "random_state": 0}
    model = RABEnsembleClassifier(LogisticRegression(), **params).fit(X, y)
    whole = members_of(tmp_path)
    RABEnsembleClassifier(
        LogisticRegression(), **{**params, "sigma": 2.0, "checkpoint_dir": tmp_path / "sigma"}
    ).fit(X, y)
    others = members_of(tmp_path / "sigma")
    shutil.rmtree(tmp_path / "sigma")
    path = tmp_path / "member-000004.bin"
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "flip": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "truncate": content[:-1],
            "empty": b"",
            "other": pickle.dumps({"not": "a member"}),
            "another number": whole["member-000003.bin"],
            "another fit": others["member-000004.bin"],
        }[damage]
    )
    with pytest.warns(CheckpointWarning, match="member 4 is trained again"):
        again = RABEnsembleClassifier(LogisticRegression(), **params).fit(X, y)
    assert members_of(tmp_path) == whole
    assert_array_equal(again.test_vectors_, model.test_vectors_)


def test_a_full_disk_is_told_and_loses_nothing(tmp_path, monkeypatch):
    X, y = blobs()
    params = {"n_estimators": 12, "checkpoint_dir": tmp_path / "kept", "random_state": 0}
    temporary, written = tempfile.NamedTemporaryFile, []

    def full(*args, **kwargs):
        file = temporary(*args, **kwargs)
        write = file.write

        def no_space(content):
            written.append(len(content))
            if len(written) > 6:
                write(content[:10])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(content)

        file.write = no_space
        return file

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "NamedTemporaryFile", full)
        with pytest.raises(CheckpointError, match="No space left on device.* 5 members are stored"):
            RABEnsembleClassifier(LogisticRegression(), **params).fit(X, y)
    assert len(members_of(tmp_path / "kept")) == 5 and not list(tmp_path.glob("kept/*.tmp"))
    model = RABEnsembleClassifier(LogisticRegression(), **params).fit(X, y)
    plain = RABEnsembleClassifier(LogisticRegression(), n_estimators=12, random_state=0).fit(X, y)
    assert_array_equal(model.certify(X).radii, plain.certify(X).radii)


def test_folders_that_are_not_ours_are_refused(tmp_path):
    X, y = blobs()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"...")
    (tmp_path / "file").write_bytes(b"...")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text(json.dumps({"name": "a web app"}))
    for name, message in (
        ("photos", "must be an empty folder.*holiday.jpg"),
        ("file", "cannot be used as a folder: File exists"),
        ("file/below", "cannot be used as a folder: Not a directory"),
        ("broken", "is not the manifest of a fit"),
        ("other", "is not the manifest of a fit"),
    ):
        model = RABEnsembleClassifier(Intervals(), checkpoint_dir=tmp_path / name)
        with pytest.raises(CheckpointError, match=message):
            model.fit(X, y)
    assert (tmp_path / "photos" / "holiday.jpg").read_bytes() == b"..."
    with pytest.raises(ValueError, match="'checkpoint_dir' parameter"):
        RABEnsembleClassifier(Intervals(), checkpoint_dir=3).fit(X, y)


def test_only_our_own_files_are_ever_removed(tmp_path):
    X, y = blobs()
    params = {"n_estimators": 3, "random_state": 0}
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "thesis.tmp").write_bytes(b"...")
    with pytest.raises(CheckpointError, match="thesis.tmp"):
        RABEnsembleClassifier(Intervals(), checkpoint_dir=tmp_path / "new", **params).fit(X, y)
    model = RABEnsembleClassifier(Intervals(), checkpoint_dir=tmp_path / "kept", **params)
    model.fit(X, y)
    (tmp_path / "kept" / "folder.tmp").mkdir()
    for name in ("thesis.tmp", "member.tmp", "member-000001-ab12.tmp"):
        (tmp_path / "kept" / name).write_bytes(b"...")
    model.fit(X, y)
    left = {path.name for path in (tmp_path / "kept").glob("*.tmp")}
    assert left == {"folder.tmp", "thesis.tmp", "member.tmp"}


def test_two_fits_that_begin_in_one_folder_do_not_mix(tmp_path, monkeypatch):
    """Both have found the folder empty: the second to write its manifest compares."""
    from sksmooth.ensemble._checkpoint import Checkpoint

    first = Checkpoint(tmp_path, {"sigma": 1}, [1])
    second = Checkpoint(tmp_path, {"sigma": 2}, [1])
    same = Checkpoint(tmp_path, {"sigma": 1}, [1])
    first.begin([1])
    monkeypatch.setattr(type(tmp_path), "exists", lambda path: False)
    with pytest.raises(CheckpointError, match="differs in sigma"):
        second.begin([1])
    same.begin([1])
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.json"}


CODE = """
import sys
from sklearn.tree import DecisionTreeClassifier
from sksmooth import RABEnsembleClassifier
{imports}

DEPTH = {depth}

def helper():
    return {helper}

class Mine(DecisionTreeClassifier):
    def fit(self, X, y):
        self.max_depth = DEPTH + helper()
        return super().fit(X, y)

RABEnsembleClassifier({base}, n_estimators=2, checkpoint_dir=sys.argv[1], random_state=0).fit(
    [[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1]
)
"""
SAME = {"imports": "", "depth": 1, "helper": 0, "base": "Mine()"}


@pytest.mark.slow
def test_code_that_was_changed_is_another_fit(tmp_path):
    """Of a global that a class of the script reads, of a helper, of a module beside it."""

    def run(folder, **changes):
        (tmp_path / "script.py").write_text(CODE.format(**{**SAME, **changes}))
        command = [sys.executable, tmp_path / "script.py", tmp_path / folder]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("kept").returncode == 0 and run("kept").returncode == 0
    for change in ({"depth": 2}, {"helper": 1}):
        assert "differs in estimator" in run("kept", **change).stderr
    module = tmp_path / "mine.py"
    uses = {"imports": "import mine", "base": "mine.Other()"}
    text = "from sklearn.tree import DecisionTreeClassifier\nclass Other(DecisionTreeClassifier):\n"
    module.write_text(text + "    depth = 1\n")
    assert run("other", **uses).returncode == 0 and run("other", **uses).returncode == 0
    module.write_text(text + "    depth = 2\n")
    assert "differs in estimator" in run("other", **uses).stderr


def test_an_estimator_that_cannot_be_told_from_others_is_refused(tmp_path):
    X, y = blobs()
    base = DecisionTreeClassifier(random_state=np.random.mtrand._rand)
    model = RABEnsembleClassifier(base, checkpoint_dir=tmp_path / "kept")
    with pytest.raises(CheckpointError, match="can be told from others.*global generator"):
        model.fit(X, y)
    assert not (tmp_path / "kept").exists()


class Unpicklable(Intervals):
    def fit(self, X, y):
        self.lock_ = threading.Lock()
        return super().fit(X, y)


def test_a_member_that_cannot_be_stored_is_told(tmp_path):
    X, y = blobs()
    model = RABEnsembleClassifier(Unpicklable(), checkpoint_dir=tmp_path, test_noise="seed")
    with pytest.raises(CheckpointError, match="A member cannot be stored.*Leave checkpoint_dir"):
        model.fit(X, y)


def test_without_a_seed_the_folder_has_it(tmp_path):
    X, y = blobs()
    params = {"n_estimators": 3, "checkpoint_dir": tmp_path}
    first = RABEnsembleClassifier(LogisticRegression(), **params).fit(X, y)
    (tmp_path / "member-000001.bin").unlink()
    second = RABEnsembleClassifier(LogisticRegression(), **params).fit(X, y)
    assert_array_equal(first.test_vectors_, second.test_vectors_)


def test_a_folder_can_grow_and_optional_stopping_is_noticed(tmp_path):
    """Other numbers of members than of the first complete fit may follow from a look at it."""
    X, y = blobs()
    params = {"checkpoint_dir": tmp_path, "random_state": 0}
    base = LogisticRegression()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RABEnsembleClassifier(base, n_estimators=20, **params).fit(X, y).certify(X)
    for n in (30, 15, 20):
        model = RABEnsembleClassifier(base, n_estimators=n, **params).fit(X, y)
        with pytest.warns(OptionalStoppingWarning):
            model.certify(X)
        plain = RABEnsembleClassifier(base, n_estimators=n, random_state=0).fit(X, y)
        assert_array_equal(model.test_vectors_, plain.test_vectors_)
        model.set_params(bound="anytime")
        assert_array_equal(
            model.certify(X).radii, plain.set_params(bound="anytime").certify(X).radii
        )
    # Growth in the same process goes on in the folder.
    grown = RABEnsembleClassifier(base, n_estimators=20, warm_start=True, **params).fit(X, y)
    grown.set_params(n_estimators=32).fit(X, y)
    assert len(members_of(tmp_path)) == 32


def test_failed_members_stay_failed(tmp_path):
    X, y = np.zeros((4, 1)), [0, 1, 0, 1]
    base = Intervals(fails=(0.0, 0.4))
    params = {"n_estimators": 20, "checkpoint_dir": tmp_path, "random_state": 0}
    with pytest.warns(UserWarning, match="failed to fit"):
        first = RABEnsembleClassifier(base, **params).fit(X, y)
    with pytest.warns(UserWarning, match="failed to fit"):
        second = RABEnsembleClassifier(base, **params).fit(X, y)
    assert first.failures_ == second.failures_ and 0 < len(first.failures_) < 20
