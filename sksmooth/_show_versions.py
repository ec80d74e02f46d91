# SPDX-License-Identifier: BSD-3-Clause
"""What a bug report needs: versions, platform, numerical libraries and their threads."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

from ._version import __version__

# Distribution names, as in pyproject.toml: what a certificate's figures can depend on first.
_CORE = ("numpy", "scipy", "scikit-learn", "joblib", "threadpoolctl", "numba", "llvmlite", "tqdm")
_OPTIONAL = ("matplotlib", "pandas", "torch", "skorch", "opacus", "dask", "distributed")


def _installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, read from its metadata; it is not imported."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def show_versions() -> None:
    """Print the versions, the platform and the numerical libraries that are in use.

    Meant to be pasted into a bug report. Versions are read from the installed metadata; only
    scikit-learn (and with it numpy and scipy) is imported, so that the BLAS and OpenMP libraries
    that it uses can be listed with their number of threads. An optional dependency that is absent
    is shown as ``None``.

    Examples
    --------
    >>> import sksmooth
    >>> sksmooth.show_versions()  # doctest: +ELLIPSIS
    <BLANKLINE>
    System:
        python: ...
    """
    import sklearn.utils.extmath  # noqa: F401  loads the BLAS and OpenMP libraries listed below
    from threadpoolctl import threadpool_info

    system = {
        "python": sys.version.replace("\n", " "),
        "executable": sys.executable,
        "platform": platform.platform(),
    }
    core = {name: _installed_version(name) for name in _CORE}
    optional = {name: _installed_version(name) for name in _OPTIONAL}
    for title, entries in (
        ("System", system),
        ("Python dependencies", {"sksmooth": __version__, **core}),
        ("Optional dependencies", optional),
    ):
        width = max(map(len, entries))
        print(f"\n{title}:")
        for name, value in entries.items():
            print(f"{name:>{width + 4}}: {value}")

    print("\nthreadpoolctl info:")
    for pool in threadpool_info():
        for key, value in sorted(pool.items()):
            print(f"{key:>20}: {value}")
        print()
