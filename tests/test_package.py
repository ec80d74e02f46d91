# SPDX-License-Identifier: BSD-3-Clause
"""The public surface: what is exported, that it resolves, and that importing it costs little."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sksmooth

ROOT = Path(sksmooth.__file__).parents[1]
# Every public module: a part of its name that begins with "_" makes a module private.
PUBLIC_MODULES = [
    info.name
    for info in pkgutil.walk_packages(sksmooth.__path__, "sksmooth.", onerror=lambda name: None)
    if not any(part.startswith("_") for part in info.name.split("."))
]
# Modules that import an extra's package on purpose, and the extra.
NEEDS_EXTRA = {"sksmooth.neural_network": "torch"}
HEAVY = ("dask", "joblib", "matplotlib", "numba", "numpy", "pandas", "scipy", "sklearn", "torch")
# What no name needs before it is used; numba compiles in the first fit that needs it. Not pandas:
# scikit-learn imports it where it is installed.
NOT_FOR_NAMES = ("dask", "matplotlib", "numba", "torch")


def in_a_fresh_interpreter(code: str) -> str:
    """Standard output of `code` in a new process; an error there fails the test."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def import_public(name: str):
    for package, extra in NEEDS_EXTRA.items():
        if name == package or name.startswith(package + "."):
            pytest.importorskip(extra, reason=f"{package} needs the extra [{extra}]")
    return importlib.import_module(name)


def test_all_names_every_public_name_once_and_sorted():
    assert sksmooth.__all__ == sorted(set(sksmooth.__all__))
    names = {"__version__", "certify", "show_versions", "ThreatModel", "SmoothedKNNClassifier"}
    assert names <= set(sksmooth.__all__)
    # Each public module next to this one is reachable as an attribute.
    top = {name.split(".")[1] for name in PUBLIC_MODULES}
    assert top == {n for n in sksmooth.__all__ if f"sksmooth.{n}" in PUBLIC_MODULES}


def test_every_name_resolves_alone():
    # In a new process, and the package anew for each name: none may depend on another's import.
    code = (
        "import importlib, sys, sksmooth\n"
        "for name in sksmooth.__all__:\n"
        "    for module in [m for m in sys.modules if m.partition('.')[0] == 'sksmooth']:\n"
        "        del sys.modules[module]\n"
        "    getattr(importlib.import_module('sksmooth'), name)\n"
        "    print(name)"
    )
    assert in_a_fresh_interpreter(code).split() == sksmooth.__all__


def test_names_are_the_objects_that_their_modules_define():
    for name, home in sksmooth._HOME.items():
        module = importlib.import_module(f"sksmooth.{home}")
        assert getattr(sksmooth, name) is getattr(module, name)
        # A second access reads the module's namespace and does not resolve again.
        assert name in vars(sksmooth)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'sksmooth' has no attribute 'absent'"):
        sksmooth.absent  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'absent'"):
        from sksmooth import absent  # noqa: F401


def test_dir_shows_names_that_are_not_loaded_yet():
    shown = in_a_fresh_interpreter("import sksmooth; print(*dir(sksmooth))").split()
    assert set(sksmooth.__all__) <= set(shown)


def test_type_checkers_are_told_the_same_names():
    # The block under TYPE_CHECKING is never run: only a comparison keeps it true.
    tree = ast.parse(Path(sksmooth.__file__).read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    told = {
        alias.asname: (statement.module, alias.name)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    expected = {name: (home, name) for name, home in sksmooth._HOME.items()}
    expected |= {name: (None, name) for name in sksmooth._SUBMODULES}
    assert told == expected


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_public_modules_export_sorted_complete_lists(name):
    module = import_public(name)
    assert module.__all__ == sorted(set(module.__all__)), f"{name}.__all__ is not sorted"
    for entry in module.__all__:
        assert getattr(module, entry, None) is not None, f"{name}.{entry} does not resolve"
    # Complete: whatever a reader could take for public, being defined in this package, is listed.
    defined = {
        entry
        for entry, value in vars(module).items()
        if not entry.startswith("_")
        and getattr(value, "__module__", "").startswith("sksmooth.")
        and (hasattr(module, "__path__") or value.__module__ == name)
    }
    assert defined <= set(module.__all__)


def test_importing_the_package_loads_nothing_else():
    code = f"import sys, sksmooth; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    assert in_a_fresh_interpreter(code) == ""


def test_using_the_core_loads_no_optional_dependency():
    code = (
        "import sys, sksmooth\n"
        "for name in sksmooth.__all__: getattr(sksmooth, name)\n"
        f"print(*[m for m in {NOT_FOR_NAMES!r} if m in sys.modules])"
    )
    assert in_a_fresh_interpreter(code) == ""


def test_the_version_stands_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", sksmooth.__version__)
    assert importlib.metadata.version("sksmooth") == sksmooth.__version__


def test_the_floors_of_the_metadata_are_those_of_the_floor_run():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    floor = dict(
        line.split("==")
        for line in (ROOT / "constraints" / "floor.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    asked = project["dependencies"] + project["optional-dependencies"]["plot"]
    for requirement in asked:
        name, minimum = requirement.split(">=")
        # "1.4" is tested by 1.4.0; scipy 1.11 by 1.11.1, the first release of that series with a
        # wheel for Python 3.11 on every index.
        tested = floor[name]
        assert tested == minimum or tested.startswith(minimum + "."), (name, minimum, tested)


def test_show_versions_lists_what_a_report_needs(capsys):
    sksmooth.show_versions()
    shown = capsys.readouterr().out
    for dependency in ("numpy", "scipy", "scikit-learn", "joblib", "numba", "tqdm"):
        version = importlib.metadata.version(dependency)
        assert re.search(rf"^ *{dependency}: {re.escape(version)}$", shown, re.MULTILINE)
    assert f"sksmooth: {sksmooth.__version__}" in shown
    assert f"python: {sys.version.split()[0]}" in shown
    assert re.search(r"^ *num_threads: \d+$", shown, re.MULTILINE)
    assert re.search(r"^ *user_api: blas$", shown, re.MULTILINE)


def test_show_versions_does_not_import_what_it_lists():
    code = (
        "import sys, sksmooth\n"
        "sksmooth.show_versions()\n"
        f"print('loaded:', *[m for m in {NOT_FOR_NAMES!r} if m in sys.modules])"
    )
    assert in_a_fresh_interpreter(code).splitlines()[-1].strip() == "loaded:"


def test_show_versions_says_none_for_what_is_absent(monkeypatch, capsys):
    from sksmooth import _show_versions

    monkeypatch.setattr(_show_versions, "_OPTIONAL", ("sksmooth-absent",))
    sksmooth.show_versions()
    assert re.search(r"^ *sksmooth-absent: None$", capsys.readouterr().out, re.MULTILINE)
