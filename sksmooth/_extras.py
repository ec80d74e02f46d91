# SPDX-License-Identifier: BSD-3-Clause
"""Import of optional dependencies, with an error that names the extra to install."""

from __future__ import annotations

import importlib
from types import ModuleType

from .exceptions import MissingExtraError


def import_extra(module: str, *, extra: str) -> ModuleType:
    """Import and return an optional module.

    Parameters
    ----------
    module : str
        Dotted name of the module, such as ``"matplotlib.pyplot"``.
    extra : str
        Name of the extra of this package that installs it, such as ``"plot"``.

    Returns
    -------
    ModuleType
        The module itself (``matplotlib.pyplot``, not ``matplotlib``).

    Raises
    ------
    MissingExtraError
        If the package that `module` belongs to is not installed. An import that fails inside an
        installed package is passed on as it is: installing the extra would not help there.

    Examples
    --------
    >>> from sksmooth._extras import import_extra
    >>> import_extra("json.decoder", extra="plot").__name__
    'json.decoder'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # `error.name` is the module that was not found: `module` or one of its parents when the
        # package is absent, something else when an installed package lacks its own dependency.
        if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
            raise
        raise MissingExtraError(
            f"{module!r} is needed here and is not installed. It comes with the extra {extra!r}: "
            f'pip install "sksmooth[{extra}]"',
            name=error.name,
        ) from error
