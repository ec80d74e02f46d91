# SPDX-License-Identifier: BSD-3-Clause
"""A fingerprint of a fitted estimator, for noise that is fixed by the trained model.

RAB's Algorithm 1 (Weber et al., arXiv:2003.08904) adds to every test input one noise vector drawn
from a generator that is seeded by a hash of the trained model. The bytes of a pickle cannot serve:
they depend on shared references and memory layout, and change when trees, forests or support
vector machines are stored and loaded. `digest` walks over the values instead.

What counts as one state, so that storing, loading and predicting do not change the digest:

* Layout is left out: byte order, strides, memory maps, padding and offsets of structured arrays,
  shared references, the order of dicts and sets (not of an `OrderedDict`), the order, duplicates
  and index type of sparse entries, and what lies under the mask of a masked array.
* scikit-learn's version, which estimators add to their pickled state, and the query counters of a
  `KDTree` or `BallTree` are no part of the trained model. Nor are the seconds that a search took,
  or what a skorch net recorded while it was trained.
* What a round trip through skops changes beyond layout: the sign and payload of a Python float
  that is not a number, and (with scipy 1.11) a sparse array becomes a sparse matrix. Both pairs
  are one state. numpy scalars come back as what they were: ``1.0`` and ``np.float64(1.0)`` differ.
* All else is told apart, by bits: -0.0 and 0.0 differ, and so do NaN payloads inside arrays.

Functions and classes stand for themselves by name; neither their code nor the library versions
behind them are seen. Any function of the trained state would do for the noise.
"""

from __future__ import annotations

import copyreg
import sys
import sysconfig
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import Enum
from functools import lru_cache, partial, reduce
from hashlib import sha256
from importlib import import_module
from math import isnan
from pathlib import Path
from reprlib import repr as short
from struct import pack
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, NoReturn

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import Bunch

from ..exceptions import DigestError
from ._nets import is_net

# Says which encoding follows: another one needs another line here.
_FORMAT = b"sksmooth digest 1\n"
_PATH_ENDS = 6  # that many steps from each end of a long path are shown in an error


def digest(obj: Any, *, code: bool = False) -> bytes:
    """SHA-256 over a canonical walk of an object's state.

    Equal for equal states in every process, before and after a round trip through pickle, joblib
    or skops, and before and after predicting. Different states give different byte streams: each
    value is written with its type and its length.

    Parameters
    ----------
    obj : object
        Most often a fitted estimator. Containers, numpy, scipy and pandas data, importable
        functions and classes, and whatever pickle could take apart may occur inside.
    code : bool, default=False
        Whether functions and classes that a script or notebook defines, and those that cannot be
        imported, are told apart by what they do: their code, defaults, closures, and the functions,
        classes and plain values among the globals that they name; others by the version of their
        package, or the file of a module that is not installed. Code differs between versions of
        Python.

    Returns
    -------
    bytes of length 32

    Raises
    ------
    DigestError
        If something inside has no state to walk over: a lambda, a function or class that cannot
        be imported under its name, an open file, numpy's global generator, an object that
        contains itself, one nested deeper than Python's recursion limit. The message names the
        place.

    Examples
    --------
    >>> import numpy as np
    >>> from sksmooth.ensemble._digest import digest
    >>> state = {"coef": np.array([[1.0, 2.0]]), "classes": ["ham", "spam"]}
    >>> digest(state).hex()[:16]
    '4a8dfb93acb1257b'
    >>> other = {"classes": ["ham", "spam"], "coef": np.array([[1.0, 2.0]], dtype=">f8")}
    >>> digest(other) == digest(state)
    True
    """
    walk = _Walk(obj, code)
    try:
        walk.value(obj)
    except RecursionError:
        # Raised only here: so near the limit there is no room for anything else.
        walk.path.clear()
        walk.fail(obj, "is nested too deeply")
    return walk.hash.digest()


# Of a class: what changes with its place, or under use.
_NO_CODE = {"__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__", "_abc_impl"}
_NO_CODE |= {"__annotations__", "__static_attributes__", "__dataclass_params__"}


# Values of global names that a function may read; others are modules, or too large to follow.
_PLAIN = (bool, int, float, complex, str, bytes, tuple, frozenset, np.ndarray, np.generic)


def _contents(cell: CellType) -> Any:
    try:
        return [cell.cell_contents]
    except ValueError:  # not bound yet
        return None


def _global_names(code: CodeType) -> list[str]:
    """Return the names that a function and those inside it may look up among globals."""
    inner = [name for c in code.co_consts if isinstance(c, CodeType) for name in _global_names(c)]
    return sorted({*code.co_names, *inner})


@lru_cache(maxsize=256)
def _source(module: str) -> bytes:
    """Return what tells the present version of a module: of its package, or of its file."""
    top = sys.modules.get(module.partition(".")[0])
    path = getattr(sys.modules.get(module), "__file__", None)
    if path is None or any(Path(path).is_relative_to(place) for place in _INSTALLED):
        return str(getattr(top, "__version__", "")).encode()
    try:
        return sha256(Path(path).read_bytes()).digest()
    except OSError:
        return b"?"


_INSTALLED = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}


def _code_parts(code: CodeType) -> tuple[Any, ...]:
    """Return what a code object does, and not where it stands."""
    constants = [_code_parts(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return code.co_code, constants, *names, code.co_argcount, code.co_flags


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return pack("<Q", len(raw)) + raw


def _dtype(dtype: np.dtype[Any]) -> bytes:
    """Bytes that name a dtype whatever its byte order, offsets and padding."""
    if dtype.names is not None:
        fields = [_text(name) + _dtype(dtype[name]) for name in dtype.names]
        return b"V" + pack("<Q", len(fields)) + b"".join(fields)
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return b"A" + pack(f"<Q{len(shape)}Q", len(shape), *shape) + _dtype(base)
    return b"P" + _text("T" if dtype.kind == "T" else dtype.newbyteorder("<").str)


def _without_padding(raw: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Leave of x86's extended floats the ten bytes that have a meaning."""
    size = np.dtype(np.longdouble).itemsize
    return np.ascontiguousarray(raw.view(np.longdouble).view("u1").reshape(-1, size)[:, :10])


_DTYPES = {np.dtype(name): _dtype(np.dtype(name)) for name in ("f8", "f4", "i8", "i4", "u1", "?")}


class _Walk:
    """One walk: the hash so far, the way to the present value, and what it stands inside."""

    def __init__(self, root: Any, code: bool) -> None:
        self.root, self.code = root, code
        self.hash = sha256(_FORMAT)
        self.path: list[str | int | tuple[Any]] = []
        self.active: set[int] = set()
        self.names: dict[int, bytes] = {}

    def fail(self, obj: Any, why: str) -> NoReturn:
        steps = [
            s if isinstance(s, str) else f"[{short(s[0] if isinstance(s, tuple) else s)}]"
            for s in self.path
        ]
        if len(steps) > 2 * _PATH_ENDS:
            steps = [*steps[:_PATH_ENDS], " ... ", *steps[-_PATH_ENDS:]]
        where = "".join(steps).lstrip(".") or "the object itself"
        raise DigestError(
            f"No digest of this {type(self.root).__qualname__}: {where}, of type "
            f"{type(obj).__module__}.{type(obj).__qualname__}, {why}. Noise that is fixed by the "
            'trained model needs a digest; test_noise="seed" works without.'
        )

    # --- dispatch ---------------------------------------------------------------------------------

    def value(self, obj: Any) -> None:
        write = _WRITERS.get(type(obj))
        if write is not None:
            write(self, obj)
        elif isinstance(obj, np.generic):
            self.hash.update(b"x")
            self.put_array(np.asarray(obj))
        elif isinstance(obj, np.dtype):
            self.hash.update(b"y" + _dtype(obj))
        elif isinstance(obj, np.ufunc) or isinstance(getattr(obj, "__qualname__", None), str):
            self.put_callable(obj)
        else:
            self.inside(obj, _Walk.put_object)

    def inside(self, obj: Any, write: Callable[[_Walk, Any], None]) -> None:
        key = id(obj)
        if key in self.active:
            self.fail(obj, "contains itself")
        self.active.add(key)
        write(self, obj)
        self.active.remove(key)

    def at(self, step: str | int | tuple[Any], obj: Any) -> None:
        # Not undone on the way out of an error: the path then names the place.
        self.path.append(step)
        self.value(obj)
        self.path.pop()

    # --- plain values -----------------------------------------------------------------------------

    def put_none(self, obj: None) -> None:
        self.hash.update(b"N")

    def put_bool(self, obj: bool) -> None:
        self.hash.update(b"1" if obj else b"0")

    def put_int(self, obj: int) -> None:
        size = obj.bit_length() // 8 + 1  # room for the sign
        self.hash.update(b"i" + pack("<Q", size) + obj.to_bytes(size, "little", signed=True))

    def put_float(self, obj: float) -> None:
        self.hash.update(b"n" if isnan(obj) else b"f" + pack("<d", obj))

    def put_str(self, obj: str) -> None:
        self.hash.update(b"s" + _text(obj))

    def put_bytes(self, obj: bytes) -> None:
        self.hash.update(b"b" + pack("<Q", len(obj)))
        self.hash.update(obj)

    # --- arrays -----------------------------------------------------------------------------------

    def put_array(self, obj: np.ndarray[Any, Any]) -> None:
        shape = obj.shape
        self.hash.update(
            b"a"
            + (_DTYPES.get(obj.dtype) or _dtype(obj.dtype))
            + pack(f"<Q{len(shape)}Q", len(shape), *shape)
        )
        self.put_elements(obj)

    def put_elements(self, obj: np.ndarray[Any, Any]) -> None:
        dtype = obj.dtype
        if dtype.names is not None:
            # The padding between fields is memory that nobody wrote.
            for name in dtype.names:
                self.put_elements(obj[name])
        elif dtype.hasobject or dtype.kind == "T":
            self.inside(obj, _Walk.put_objects)
        elif obj.size and dtype.itemsize:
            # A copy only where the layout is another one.
            raw = np.ascontiguousarray(obj, dtype.newbyteorder("<"))
            if dtype.char in "gG" and np.finfo(np.longdouble).nmant == 63:
                raw = _without_padding(raw)
            self.hash.update(raw.reshape(-1).view("u1"))  # type: ignore[arg-type]

    def put_objects(self, obj: np.ndarray[Any, Any]) -> None:
        for i, item in enumerate(obj.flat):
            self.at(i, item)

    # --- containers -------------------------------------------------------------------------------

    def put_sequence(self, obj: list[Any] | tuple[Any, ...]) -> None:
        self.hash.update((b"l" if type(obj) is list else b"t") + pack("<Q", len(obj)))
        for i, item in enumerate(obj):
            self.at(i, item)

    def put_mapping(self, obj: dict[Any, Any], attributes: bool = False) -> None:
        if all(type(key) is str for key in obj):
            self.hash.update(b"d" + pack("<Q", len(obj)))
            for key in sorted(obj):
                self.hash.update(_text(key))
                self.at("." + key if attributes else (key,), obj[key])
        else:
            self.unordered(b"D", obj.items())

    def put_set(self, obj: set[Any] | frozenset[Any]) -> None:
        self.unordered(b"S" if isinstance(obj, set) else b"F", ((item,) for item in obj))

    def unordered(self, tag: bytes, entries: Iterable[tuple[Any, ...]]) -> None:
        outer, found = self.hash, []
        for entry in entries:
            self.hash = sha256()
            for item in entry:
                self.at((entry[0],), item)
            found.append(self.hash.digest())
        self.hash = outer
        self.hash.update(tag + pack("<Q", len(found)) + b"".join(sorted(found)))

    # --- things with a name -----------------------------------------------------------------------

    def put_callable(self, obj: Any) -> None:
        bound = getattr(obj, "__self__", None)
        if bound is not None and not isinstance(bound, ModuleType) and not isinstance(obj, type):
            self.hash.update(b"m" + _text(obj.__name__))
            self.at(".__self__", bound)
        elif (
            self.code
            and isinstance(obj, (FunctionType, type))
            and (obj.__module__ == "__main__" or self.named(obj, None) is None)
        ):
            if id(obj) in self.active:  # a method that names its class
                self.hash.update(b"R" + _text(obj.__qualname__))
            else:
                self.inside(obj, _Walk.put_code)
        else:
            self.put_name(obj)

    def put_code(self, obj: Any) -> None:
        self.hash.update(b"c" + _text(obj.__qualname__))
        if isinstance(obj, FunctionType):
            self.at(".__code__", _code_parts(obj.__code__))
            self.at(".__defaults__", (obj.__defaults__, obj.__kwdefaults__))
            self.at(".__closure__", [_contents(cell) for cell in obj.__closure__ or ()])
            for name in _global_names(obj.__code__):
                value = obj.__globals__.get(name)
                if getattr(value, "__module__", None) == "__main__" or isinstance(value, _PLAIN):
                    self.at(f".__globals__[{name!r}]", value)
            return
        self.at(".__bases__", list(obj.__bases__))
        for name, value in sorted(vars(obj).items()):
            if name in _NO_CODE:
                continue
            if isinstance(value, (staticmethod, classmethod)):
                value = value.__func__
            elif isinstance(value, property):
                value = [value.fget, value.fset, value.fdel]
            self.at("." + name, value)

    def put_name(self, obj: Any) -> None:
        encoded = self.names.get(id(obj))
        if encoded is None:
            encoded = self.names[id(obj)] = self.find(obj)
            module = getattr(obj, "__module__", None)
            if self.code and isinstance(module, str):
                encoded = self.names[id(obj)] = encoded + b"v" + _source(module)
        self.hash.update(encoded)

    def find(self, obj: Any, name: str | None = None) -> bytes:
        """Encode the name under which `obj` can be imported."""
        encoded = self.named(obj, name)
        if encoded is None:
            owner = type(obj) if name is not None else getattr(obj, "__objclass__", obj)
            name = name or obj.__qualname__
            self.fail(
                obj, f"cannot be imported as {name!r} from {getattr(owner, '__module__', None)!r}"
            )
        return encoded

    def named(self, obj: Any, name: str | None) -> bytes | None:
        owner = type(obj) if name is not None else getattr(obj, "__objclass__", obj)
        modules = [getattr(owner, "__module__", None)]
        if name is not None and modules[0]:
            # pandas.NA is where users find it.
            modules.append(modules[0].partition(".")[0])
        if isinstance(obj, np.ufunc):
            # Before numpy 2.2, and in scipy, a ufunc does not know its module.
            modules = ["numpy", "scipy.special", *modules]
            name = obj.__name__
        name = name or obj.__qualname__
        if modules == ["__main__"] and "<" not in name:
            # Of a script or notebook: workers get a copy that they cannot import, of the same name.
            return b"g" + _text("__main__") + _text(name)
        for module in modules:
            try:
                home = sys.modules.get(module) or import_module(module)  # type: ignore[arg-type]
                if reduce(getattr, name.split("."), home) is obj:
                    return b"g" + _text(str(module)) + _text(name)
            except (AttributeError, ImportError, TypeError, ValueError):
                pass
        return None

    # --- objects ----------------------------------------------------------------------------------

    def put_object(self, obj: Any) -> None:
        if isinstance(obj, BaseEstimator):
            self.put_estimator(obj)
            return
        for kinds, write in _FAMILIES:
            if isinstance(obj, kinds):
                write(self, obj)
                return
        pandas, torch = sys.modules.get("pandas"), sys.modules.get("torch")
        if pandas and isinstance(obj, (pandas.DataFrame, pandas.Series, pandas.Index)):
            self.put_pandas(obj)
        elif torch and isinstance(obj, torch.Tensor):
            self.put_tensor(obj)
        else:
            self.put_reduced(obj)

    def head(self, tag: bytes, obj: Any) -> None:
        self.hash.update(tag)
        self.put_callable(type(obj))

    def put_estimator(self, obj: BaseEstimator) -> None:
        self.head(b"E", obj)
        own = type(obj).__getstate__ is not BaseEstimator.__getstate__
        if own and not hasattr(obj, "cuda_dependent_attributes_"):
            # It leaves out what it rebuilds when loaded (IsotonicRegression's interpolator).
            state = dict(obj.__getstate__())
            for version in ("_sklearn_version", "_sksmooth_version"):
                state.pop(version, None)
        else:
            # __getstate__ would add scikit-learn's version, or skorch's bytes of a pickle.
            state = vars(obj)
        # Requests for routing, which hold the estimator itself, say how `fit` was called; callbacks
        # show its progress.
        aside = {"_metadata_request", "_skl_callbacks"}
        if is_net(obj):
            aside |= {"history_", "callbacks_"}  # with the seconds that epochs took
        state = {k: v for k, v in state.items() if k not in aside}
        if isinstance(obj, BaseSearchCV):
            state = {k: v for k, v in state.items() if k != "refit_time_"}
            if "cv_results_" in state:
                results = state["cv_results_"]
                state["cv_results_"] = {k: v for k, v in results.items() if k[-5:] != "_time"}
        self.put_mapping(state, attributes=True)

    def put_enum(self, obj: Enum) -> None:
        self.head(b"e", obj)
        self.at(".name", obj.name)
        self.at(".value", obj.value)

    def put_partial(self, obj: partial[Any]) -> None:
        self.head(b"p", obj)
        self.at(".func", obj.func)
        self.at(".args", obj.args)
        self.at(".keywords", obj.keywords)
        self.put_mapping(vars(obj), attributes=True)

    def put_bunch(self, obj: Bunch) -> None:
        self.head(b"B", obj)
        self.put_mapping(obj, attributes=True)

    def set_subclass(self, obj: Any) -> None:
        self.head(b"u", obj)
        self.put_set(obj)
        self.put_mapping(getattr(obj, "__dict__", {}), attributes=True)

    def put_masked(self, obj: np.ma.MaskedArray[Any, Any]) -> None:
        # The fill value is made when first asked for, and takes part in no computation.
        self.head(b"k", obj)
        mask = np.ma.getmaskarray(obj)
        data = np.array(obj.data)
        data[mask] = np.zeros((), data.dtype)
        self.put_array(mask)
        self.put_array(data)

    def array_subclass(self, obj: np.ndarray[Any, Any]) -> None:
        self.head(b"h", obj)
        self.put_array(np.asarray(obj))
        self.put_mapping(getattr(obj, "__dict__", {}), attributes=True)

    def put_sparse(self, obj: Any) -> None:
        entries = obj.tocoo(copy=True)
        entries.sum_duplicates()
        coords = entries.coords if hasattr(entries, "coords") else (entries.row, entries.col)
        self.hash.update(b"z" + _text(obj.format))
        self.value(tuple(int(n) for n in obj.shape))
        self.put_array(np.asarray(coords, dtype="<i8"))
        self.put_array(entries.data)

    def put_random_state(self, obj: np.random.RandomState) -> None:
        if obj is np.random.mtrand._rand:
            self.fail(obj, "is numpy's global generator, which others use too: set random_state")
        self.head(b"r", obj)
        self.put_mapping(obj.get_state(legacy=False))

    def put_generator(self, obj: Any) -> None:
        self.head(b"r", obj)
        self.value(getattr(obj, "bit_generator", obj).state)

    def put_pandas(self, obj: Any) -> None:
        self.head(b"q", obj)
        if obj.ndim == 2:
            self.at(".columns", obj.columns)
            columns = [obj.iloc[:, i] for i in range(obj.shape[1])]
        else:
            self.at(".name", list(obj.names) if hasattr(obj, "names") else obj.name)
            columns = [obj]
        self.at(".index", getattr(obj, "index", None))
        for column in columns:
            if isinstance(column.dtype, np.dtype):
                self.put_array(column.to_numpy())
            else:
                for part in ("categories", "ordered"):
                    self.at("." + part, getattr(column.dtype, part, None))
                self.put_str(str(column.dtype))
                self.put_array(column.to_numpy(dtype=object))

    def put_tensor(self, obj: Any) -> None:
        # Its reduction ends in bytes of a pickle.
        self.head(b"w", obj)
        self.put_str(str(obj.dtype))
        try:
            self.put_array(obj.detach().cpu().numpy())
        except (RuntimeError, TypeError) as error:
            self.fail(obj, f"has no numpy array ({error})")

    def put_reduced(self, obj: Any) -> None:
        """Any other object: what the protocol of pickle takes it apart into, never its bytes."""
        by_table = copyreg.dispatch_table.get(type(obj))
        try:
            parts = by_table(obj) if by_table else obj.__reduce_ex__(2)
        except Exception as error:
            self.fail(obj, f"cannot be taken apart ({type(error).__name__}: {error})")
        if isinstance(parts, str):
            self.hash.update(self.find(obj, parts))
            return
        call, args, state, items, pairs, setter = (*parts, None, None, None, None)[:6]
        if hasattr(obj, "get_n_calls") and isinstance(state, tuple) and len(state) == 13:
            # KDTree and BallTree count what they do, from n_trims to n_calls.
            state = state[:7] + state[11:]
        self.hash.update(b"o")
        self.at(" (what makes it)", call)
        self.at(" (its arguments)", args)
        if isinstance(state, dict):
            self.inside(state, partial(_Walk.put_mapping, attributes=True))
        else:
            self.at(" (its state)", state)
        self.at(" (its items)", None if items is None else list(items))
        if pairs is not None:
            pairs = list(pairs) if isinstance(obj, OrderedDict) else dict(pairs)
        self.at("", pairs)
        self.at(" (what sets its state)", setter)


_WRITERS: dict[type, Callable[[_Walk, Any], None]] = {
    type(None): _Walk.put_none,
    bool: _Walk.put_bool,
    int: _Walk.put_int,
    float: _Walk.put_float,
    str: _Walk.put_str,
    bytes: _Walk.put_bytes,
    np.ndarray: _Walk.put_array,
    np.memmap: _Walk.put_array,
    list: lambda walk, obj: walk.inside(obj, _Walk.put_sequence),
    tuple: lambda walk, obj: walk.inside(obj, _Walk.put_sequence),
    dict: lambda walk, obj: walk.inside(obj, _Walk.put_mapping),
    set: lambda walk, obj: walk.inside(obj, _Walk.put_set),
    frozenset: lambda walk, obj: walk.inside(obj, _Walk.put_set),
}

# Asked in this order.
_FAMILIES: tuple[tuple[Any, Callable[[_Walk, Any], None]], ...] = (
    (Enum, _Walk.put_enum),
    (partial, _Walk.put_partial),
    (Bunch, _Walk.put_bunch),
    ((set, frozenset), _Walk.set_subclass),
    (np.ma.MaskedArray, _Walk.put_masked),
    (np.ndarray, _Walk.array_subclass),
    ((sparse.spmatrix, sparse.sparray), _Walk.put_sparse),
    (np.random.RandomState, _Walk.put_random_state),
    ((np.random.Generator, np.random.BitGenerator), _Walk.put_generator),
)
