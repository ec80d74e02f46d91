# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

import inspect
import pickle
import sys

import pytest

from sksmooth import exceptions
from sksmooth._extras import import_extra
from sksmooth.exceptions import (
    CheckpointError,
    CheckpointWarning,
    DatasetError,
    DigestError,
    FailedMembersWarning,
    InvalidBoundError,
    LostWorkersError,
    LostWorkersWarning,
    MissingExtraError,
    NotCertifiableError,
    OptionalStoppingWarning,
    OtherVersionWarning,
    SequentialTrainingWarning,
    SharedDeviceWarning,
    SksmoothError,
    SksmoothWarning,
    TooFewDrawsError,
    UncoveredParameterWarning,
    UncoveredPreprocessingWarning,
)

# The tree that the module's docstring draws, written down a second time.
PARENTS = {
    SksmoothError: (Exception,),
    InvalidBoundError: (SksmoothError, ValueError),
    TooFewDrawsError: (SksmoothError, ValueError),
    MissingExtraError: (SksmoothError, ImportError),
    CheckpointError: (SksmoothError, OSError),
    DatasetError: (SksmoothError, OSError),
    LostWorkersError: (SksmoothError, RuntimeError),
    DigestError: (SksmoothError, TypeError),
    NotCertifiableError: (SksmoothError, TypeError),
    SksmoothWarning: (UserWarning,),
    CheckpointWarning: (SksmoothWarning,),
    FailedMembersWarning: (SksmoothWarning,),
    LostWorkersWarning: (SksmoothWarning,),
    OptionalStoppingWarning: (SksmoothWarning,),
    OtherVersionWarning: (SksmoothWarning,),
    SequentialTrainingWarning: (SksmoothWarning,),
    SharedDeviceWarning: (SksmoothWarning,),
    UncoveredParameterWarning: (SksmoothWarning,),
    UncoveredPreprocessingWarning: (SksmoothWarning,),
}


def test_the_tree_is_complete():
    defined = {c for _, c in inspect.getmembers(exceptions, inspect.isclass)}
    assert defined == set(PARENTS)
    assert sorted(c.__name__ for c in defined) == exceptions.__all__


@pytest.mark.parametrize("cls", PARENTS, ids=lambda c: c.__name__)
def test_parents(cls):
    assert cls.__bases__ == PARENTS[cls]
    for parent in PARENTS[cls]:
        if issubclass(cls, Exception) and not issubclass(cls, Warning):
            with pytest.raises(parent, match="a message"):
                raise cls("a message")


@pytest.mark.parametrize("cls", PARENTS, ids=lambda c: c.__name__)
def test_survives_a_process_boundary(cls):
    # joblib workers send their errors back pickled.
    copy = pickle.loads(pickle.dumps(cls("a message")))
    assert type(copy) is cls
    assert str(copy) == "a message"


def test_import_extra_returns_the_module_itself():
    # Not its parent package, as a bare __import__ would.
    import json.decoder

    assert import_extra("json.decoder", extra="plot") is json.decoder


@pytest.mark.parametrize(
    "module", ["sksmooth_absent", "sksmooth_absent.sub", "json.sksmooth_absent"]
)
def test_import_extra_names_what_to_install(module):
    with pytest.raises(MissingExtraError) as caught:
        import_extra(module, extra="plot")
    message = str(caught.value)
    assert repr(module) in message
    assert 'pip install "sksmooth[plot]"' in message
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert caught.value.name == caught.value.__cause__.name


def test_import_extra_sees_a_module_that_is_blocked(monkeypatch):
    # The way tests of optional features take a dependency away.
    monkeypatch.setitem(sys.modules, "json", None)
    with pytest.raises(MissingExtraError, match="'json'"):
        import_extra("json", extra="plot")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        # Its own dependency is absent: reinstalling the extra's package is not the advice to give.
        ("import sksmooth_absent_dependency", ModuleNotFoundError),
        # A name that begins alike is another package.
        ("raise ModuleNotFoundError('', name='sksmooth_brok')", ModuleNotFoundError),
        ("raise ImportError('symbol not found')", ImportError),
        ("raise ModuleNotFoundError('without a name')", ModuleNotFoundError),
    ],
)
def test_import_extra_passes_on_what_is_broken_inside(tmp_path, monkeypatch, source, error):
    (tmp_path / "sksmooth_broken.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error) as caught:
        import_extra("sksmooth_broken", extra="plot")
    assert not isinstance(caught.value, MissingExtraError)
