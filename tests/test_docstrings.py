# SPDX-License-Identifier: BSD-3-Clause
"""Every public name has a complete numpydoc docstring. The list of names is read from `__all__`."""

from __future__ import annotations

import inspect
import pydoc
from pathlib import Path

import pytest
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate

import sksmooth

from .test_package import PUBLIC_MODULES, import_public

# GL08: no docstring at all; PR01, PR02: parameters missing, or documented and unknown; RT01: no
# section on what is returned; EX01: no example.
CHECKS = {"GL08", "PR01", "PR02", "RT01", "EX01"}
PACKAGE = Path(sksmooth.__file__).parent


def is_ours(function) -> bool:
    """Whether a function's code stands in this package; scikit-learn adds methods to estimators."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and PACKAGE in Path(code.co_filename).parents


def is_named_tuple(value) -> bool:
    return inspect.isclass(value) and issubclass(value, tuple) and hasattr(value, "_fields")


def methods_of(cls: type) -> list[str]:
    """Public methods and properties that this package wrote: the class itself or a base of it."""
    found = set()
    for base in cls.__mro__:
        for name, member in vars(base).items():
            if isinstance(member, property):
                function = member.fget
            elif isinstance(member, (classmethod, staticmethod)):
                function = member.__func__
            else:
                # available_if keeps the function it guards in this attribute.
                function = getattr(member, "fn", member)
            if not name.startswith("_") and callable(function) and is_ours(function):
                found.add(name)
    return sorted(found)


def public_objects() -> dict[str, set[str]]:
    """Dotted name -> the checks that it must pass; an object exported twice appears once."""
    objects: dict[str, set[str]] = {}
    seen = {}
    homes = [*PUBLIC_MODULES, "sksmooth"]
    for home in homes:
        try:
            module = import_public(home)
        except pytest.skip.Exception:  # an extra is not installed: test_package says which
            continue
        for name in module.__all__:
            value = getattr(module, name)
            if not (inspect.isclass(value) or inspect.isfunction(value)) or id(value) in seen:
                continue
            seen[id(value)] = value
            # Users read the fields of a named tuple and never pass them: see the test of fields.
            objects[f"{home}.{name}"] = CHECKS - {"PR01"} if is_named_tuple(value) else CHECKS
            if inspect.isclass(value):
                for method in methods_of(value):
                    # A class has its example; its methods may have one.
                    objects[f"{home}.{name}.{method}"] = CHECKS - {"EX01"}
    return objects


OBJECTS = public_objects()


def test_the_list_is_not_empty():
    # Names that exist from the beginning: an empty list would make this module pass in silence.
    assert "sksmooth.exceptions.SksmoothError" in OBJECTS
    assert "sksmooth.show_versions" in OBJECTS


@pytest.mark.parametrize("name", OBJECTS)
def test_docstring(name):
    found = [f"{code}: {text}" for code, text in validate(name)["errors"] if code in OBJECTS[name]]
    assert not found, f"{name}\n" + "\n".join(found)


@pytest.mark.parametrize("name", [name for name in OBJECTS if is_named_tuple(pydoc.locate(name))])
def test_fields_of_named_tuples_are_documented(name):
    cls = pydoc.locate(name)
    sections = ClassDoc(cls, config={"show_class_members": False})
    documented = [entry.name for entry in sections["Attributes"] or sections["Parameters"]]
    assert documented == list(cls._fields)


def test_the_checks_see_an_incomplete_docstring():
    # numpydoc could change its codes: then every test above would pass without a look.
    codes = {code for code, _ in validate(f"{__name__}.incomplete")["errors"]}
    assert {"PR01", "PR02", "RT01", "EX01"} <= codes
    assert "GL08" in {code for code, _ in validate(f"{__name__}.undocumented")["errors"]}


def incomplete(x):
    """Return what is given.

    Parameters
    ----------
    z : int
        Not a parameter.
    """
    return x


def undocumented(x):
    return x
