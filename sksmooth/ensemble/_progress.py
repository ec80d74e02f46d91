# SPDX-License-Identifier: BSD-3-Clause
"""Progress: bars with the time left, and scikit-learn's callbacks where it has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """No callbacks."""


__all__ = ["CallbackSupportMixin", "FitProgress", "bar"]


def bar(total: int, description: str, unit: str, verbose: Any) -> tqdm:
    """Return a progress bar, that is silent unless `verbose`."""
    return tqdm(total=total, desc=description, unit=unit, disable=not verbose)


class FitProgress:
    """A bar, and one task of scikit-learn's callbacks for each member."""

    def __init__(self, shown: tqdm, estimator: Any = None, context: Any = None):
        self.bar, self.estimator, self.context = shown, estimator, context

    def update(self, n_members: int = 1) -> None:
        """So many members more are there."""
        self.bar.update(n_members)
        if self.context is None:
            return
        for _ in range(n_members):
            task = self.context.subcontext(task_name="member")
            task.call_on_fit_task_begin(estimator=self.estimator)
            # It may ask to stop. That would let something that may have looked at members decide
            # their number.
            task.call_on_fit_task_end(estimator=self.estimator)


@contextmanager
def fit_progress(estimator: Any, X: Any, y: Any, n_members: int, verbose: Any) -> Iterator[Any]:
    """Yield the progress of a `fit` that trains so many members."""
    context = None
    if hasattr(estimator, "_skl_callbacks") or hasattr(estimator, "_parent_callback_ctx"):
        context = estimator._init_callback_context(max_subtasks=n_members)
        context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    with bar(n_members, "fit", "member", verbose) as shown:
        yield FitProgress(shown, estimator, context)
    if context is not None:
        context.call_on_fit_task_end(estimator=estimator, X=X, y=y)
