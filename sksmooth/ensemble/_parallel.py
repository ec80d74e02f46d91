# SPDX-License-Identifier: BSD-3-Clause
"""Independent tasks on many workers, through joblib: again where a worker died."""

from __future__ import annotations

import pickle
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from typing import Any

import numpy as np
import sklearn
from joblib.parallel import get_active_backend
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import ThreadpoolController

from .._version import __version__
from ..exceptions import LostWorkersError, LostWorkersWarning

# So often tasks are run again after workers died; a task that kills its worker does so every time.
_RESTARTS = 3

_VERSIONS = {"sksmooth": __version__, "scikit-learn": sklearn.__version__, "numpy": np.__version__}


def one_thread() -> Any:
    """Return a context in which BLAS and OpenMP use one thread."""
    return _controller(len(sys.modules)).limit(limits=1)


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:
    # Looking for the libraries takes milliseconds; an import may bring another one.
    return ThreadpoolController()


def run_tasks(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], *, n_jobs: int | None
) -> Iterator[tuple[int, Any]]:
    """Yield the number of each task and ``function(*task)``, in the order in which they end.

    What was yielded is done. If worker processes die (killed, out of memory), only tasks without
    an answer are run again.
    """
    left = dict(enumerate(tasks))
    for restarts in range(_RESTARTS + 1):
        try:
            for number, result, error in _answers(function, left, n_jobs):
                del left[number]
                if error is not None:
                    break
                yield number, result
            else:
                return
        except (BrokenProcessPool, CancelledError) as failure:
            if restarts == _RESTARTS:
                raise LostWorkersError(
                    f"Workers died {_RESTARTS + 1} times, and {len(left)} of {len(tasks)} tasks "
                    "have no answer. They may be out of memory, be killed from outside, or the "
                    f"learner crashes them. The last time: {failure}"
                ) from failure
            warnings.warn(
                f"A worker died; {len(left)} of {len(tasks)} tasks are run again.",
                LostWorkersWarning,
                stacklevel=2,
            )
        else:
            raise error


def _answers(
    function: Callable[..., Any], left: dict[int, tuple[Any, ...]], n_jobs: int | None
) -> Iterator[tuple[int, Any, Exception | None]]:
    backend, _ = get_active_backend()
    if hasattr(backend, "client"):
        _check_cluster(backend.client)
    streams = getattr(backend, "supports_return_generator", False)
    parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered" if streams else "list")
    yield from parallel(
        delayed(_answer)(_VERSIONS, function, number, *task) for number, task in list(left.items())
    )


def _check_cluster(client: Any) -> None:
    """Refuse Dask workers without the package: they would wait forever for data they cannot read.

    What is asked of them must not need the package either, so it is an expression.
    """
    modules = {"sksmooth": "sksmooth", "scikit-learn": "sklearn", "numpy": "numpy"}
    asked = ", ".join(f"{name!r}: __import__({m!r}).__version__" for name, m in modules.items())
    try:
        answers = client.run(eval, f"{{{asked}}}")
    except ImportError as failure:
        raise LostWorkersError(
            f"Workers cannot import {failure.name}: install sksmooth {__version__} where they run."
        ) from failure
    for versions in answers.values():
        _check_versions(_VERSIONS, versions)


def _check_versions(wanted: dict[str, str], found: dict[str, str]) -> None:
    other = [f"{k} {found[k]} instead of {v}" for k, v in wanted.items() if found[k] != v]
    if other:  # members must be draws from one distribution
        raise LostWorkersError(f"Workers must have the same versions. One has {', '.join(other)}.")


def _answer(
    versions: dict[str, str], function: Callable[..., Any], number: int, *task: Any
) -> tuple[int, Any, Exception | None]:
    _check_versions(versions, _VERSIONS)
    try:
        return number, function(*task), None
    except Exception as failure:  # of the task's own: not to be taken for a worker's death
        try:
            pickle.loads(pickle.dumps(failure))
            return number, None, failure
        except Exception:
            text = "".join(traceback.format_exception(failure))
            return number, None, RuntimeError(f"A worker's error cannot be sent:\n{text}")
