# SPDX-License-Identifier: BSD-3-Clause
"""The global generators of Python, NumPy and torch, lent to learners that may use them untold."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

# Words of 32 bits that seed them: four are NumPy's, four the others'.
GLOBAL_WORDS = 8

# Seeds them from so many words, or more.
Reseed = Callable[[np.ndarray], None]


class _Lending:
    """Who has the global generators: one thread at a time, others that train are its guests."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.owner: int | None = None
        self.depth = 0  # an ensemble of ensembles borrows them again
        self.guests = 0
        self.disturbed = False  # whether there were guests since the owner came

    def enter(self) -> bool:
        """Return whether this thread now owns the generators."""
        with self.lock:
            if self.owner in (None, threading.get_ident()):
                self.owner, self.depth = threading.get_ident(), self.depth + 1
                self.disturbed = self.disturbed or self.guests > 0
                return True
            self.guests, self.disturbed = self.guests + 1, True
            return False

    def leave(self, owned: bool, restore: Callable[[], None]) -> None:
        """Give them back; `restore` is called where no guest has used them."""
        with self.lock:
            if not owned:
                self.guests -= 1
                return
            if not self.disturbed:
                restore()
            self.depth -= 1
            if self.depth == 0:
                self.owner, self.disturbed = None, False


_LENDING = _Lending()


@contextmanager
def global_generators() -> Iterator[Reseed]:
    """Lend the global generators of Python, NumPy and torch, which a learner may use untold.

    Yields a function that seeds them; afterwards they are as they were before. Of
    several threads one has them, and for the others that function does nothing. If each seeded
    them under the others' members in training, and put back what it had found, two members could
    draw the same numbers, and their votes would not be independent. As it is, all draws are
    different ones, if not reproducible; and with threads nothing is put back.
    """
    owned = _LENDING.enter()
    numpy_state, python_state = np.random.get_state(), random.getstate()
    torch = sys.modules.get("torch")
    torch_state = None if torch is None else torch.get_rng_state()

    def restore() -> None:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        if torch is not None:
            torch.set_rng_state(torch_state)

    try:
        yield _reseed if owned else lambda words: None
    finally:
        _LENDING.leave(owned, restore)


def _reseed(words: np.ndarray) -> None:
    np.random.seed(words[:4])
    number = int.from_bytes(words[4:GLOBAL_WORDS].tobytes(), sys.byteorder)
    random.seed(number)
    if "torch" in sys.modules:
        # Not torch.manual_seed, which asks for every kind of device, a third of a millisecond.
        # On a CPU torch takes the lowest 32 bits. So of 10,000 members two share them with a chance
        # of 1%: as independent draws from so many seeds do, and as votes of independent members
        # must. Seeds that are made to differ would not be independent. Noise has other generators.
        torch = sys.modules["torch"]
        torch.default_generator.manual_seed(number % 2**63)
        if torch.version.cuda is not None:
            torch.cuda.manual_seed_all(number % 2**63)
