# SPDX-License-Identifier: BSD-3-Clause
"""How one member is made: its streams, its noise, its training.

Every member has three child streams of its own seed: one for the noise on the training data, one
for the learner's own randomness, one for the noise on the test input. They are independent: a
learner that shared a stream with the noise could subtract the noise, and the certificate would be
void. The training noise is drawn once, before the learner starts, and is all that it ever sees.
"""

from __future__ import annotations

import copy
import traceback
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyClassifier

from .._global_generators import GLOBAL_WORDS, Reseed
from ..smoothing import CategoricalNoise
from ..smoothing._streams import generator
from ._digest import digest
from ._features import Sized
from ._nets import NetPlan, is_of_the_machine
from ._noise import FeatureNoise

# Words of 32 bits in a member's seed.
_SEED_WORDS = 4


def member_seeds(entropy: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return the seeds of members `start` to `stop - 1`, of shape (stop - start, 4).

    A seed depends on the entropy and on the member's number alone, so an ensemble that grows has
    the members of one that was trained at once.
    """
    words = [int(w) for w in entropy]
    seeds = np.empty((stop - start, _SEED_WORDS), dtype=np.uint32)
    for i in range(start, stop):
        sequence = np.random.SeedSequence(words, spawn_key=(i,))
        seeds[i - start] = sequence.generate_state(_SEED_WORDS, np.uint32)
    return seeds


@dataclass(frozen=True)
class Streams:
    """The independent streams of one member."""

    noise: np.random.SeedSequence
    learner: np.random.SeedSequence
    test_noise: np.random.SeedSequence

    @classmethod
    def of(cls, seed: np.ndarray) -> Streams:
        """Spawn the streams of the member with this seed."""
        return cls(*np.random.SeedSequence(seed).spawn(3))


@dataclass(frozen=True)
class Recipe(Sized):
    """All that training a member takes, but for its seed."""

    estimator: Any
    features: Any
    labels: np.ndarray  # numbers of classes
    classes: np.ndarray
    feature_noise: FeatureNoise
    label_noise: CategoricalNoise | None
    test_noise: str | None
    fit_params: dict[str, Any]
    random_states: tuple[str, ...]  # names of the estimator's parameters for seeds
    net: NetPlan | None = None  # where the learner is a neural network

    def train(self, seed: np.ndarray, reseed: Reseed) -> Member:
        """Train one member; a failure of the learner is part of the answer."""
        streams = Streams.of(seed)
        rng = generator(streams.noise)
        X = self.noisy_inputs(rng)
        labels = (
            self.labels if self.label_noise is None else self.label_noise.draw(self.labels, rng)
        )
        y = self.classes[labels]
        if self.one_label(labels):
            return self.of_one_label(X, y, streams)
        # Copies: what one member does to them in place must not reach the next.
        params = copy.deepcopy(self.fit_params) if self.fit_params else {}
        learner = self.new_learner(streams, reseed)
        try:
            if self.net is None:
                learner.fit(X, y, **params)
            else:
                self.net.fit(learner, X, y, params)
        except Exception as failure:
            if is_of_the_machine(failure):
                raise
            return self.failed(failure)
        return self.finished(learner, streams)

    def of_one_label(self, X: Any, y: np.ndarray, streams: Streams) -> Member:
        """Return the member of labels that are all the same: a vote for that class.

        Many classifiers refuse to be trained on them.
        """
        learner = DummyClassifier(strategy="most_frequent").fit(X, y)
        return self.finished(learner, streams)

    def noisy_inputs(self, rng: np.random.Generator) -> Any:
        """Return the training inputs as one member sees them."""
        X = self.features.with_values(self.feature_noise.noisy(self.features.values, rng))
        return X if self.net is None else self.net.inputs(X)

    def new_learner(self, streams: Streams, reseed: Reseed) -> Any:
        """Return an untrained learner, with all that it may draw from seeded for this member."""
        learner = clone(self.estimator)
        words = self._words(streams)
        randomize(learner, self.random_states, words[GLOBAL_WORDS:])
        reseed(words)
        return learner

    def failed(self, failure: Exception | str) -> Member:
        """Return what stands for a member whose training failed."""
        return Member(None, self.feature_noise.no_test_vector(self.n_columns), failure)

    def finished(self, learner: Any, streams: Streams) -> Member:
        """Return the member of a trained learner."""
        return Member(learner, self._test_vector(learner, streams), None)

    def words(self, seed: np.ndarray) -> np.ndarray:
        """Return what seeds the global generators for a member, and then its parameters."""
        return self._words(Streams.of(seed))

    def _words(self, streams: Streams) -> np.ndarray:
        return streams.learner.generate_state(GLOBAL_WORDS + len(self.random_states), np.uint32)

    @property
    def n_columns(self) -> int:
        """Number of columns that get noise."""
        return self.features.values.shape[1]

    def one_label(self, labels: np.ndarray) -> bool:
        """Tell whether all these labels, of one member, are the same."""
        return self._one_label if labels is self.labels else bool(np.all(labels == labels[0]))

    @cached_property
    def _one_label(self) -> bool:
        return bool(np.all(self.labels == self.labels[0]))

    def _test_vector(self, learner: Any, streams: Streams) -> np.ndarray:
        if self.test_noise is None:
            return self.feature_noise.no_test_vector(self.n_columns)
        if self.test_noise == "seed":
            source = streams.test_noise
        else:  # RAB, Algorithm 1: the seed is a hash of the trained member
            source = np.random.SeedSequence(np.frombuffer(digest(learner), dtype="<u4"))
        return self.feature_noise.test_vector(self.n_columns, generator(source))


@dataclass(frozen=True)
class Member:
    """A trained member (None if training failed), and what its test inputs are shifted by."""

    learner: Any
    test_vector: np.ndarray
    failure: Exception | str | None


def names_of_random_states(estimator: BaseEstimator) -> tuple[str, ...]:
    """Return the names of all parameters for seeds, nested ones included."""
    return tuple(
        sorted(
            name
            for name in estimator.get_params(deep=True)
            if name == "random_state" or name.endswith("__random_state")
        )
    )


def randomize(learner: BaseEstimator, names: tuple[str, ...], words: np.ndarray) -> None:
    """Set the parameters of these names from a word of 32 bits each."""
    seeds = [int(w >> 1) for w in words]  # 31 bits: some learners refuse larger seeds
    if names == ("random_state",) and type(learner).set_params is BaseEstimator.set_params:
        learner.random_state = seeds[0]  # what set_params does, without its many checks
    elif names:
        learner.set_params(**dict(zip(names, seeds, strict=True)))


def portable(member: Member) -> Member:
    """Return a member without the exception itself, which need not survive pickling."""
    if not isinstance(member.failure, Exception):
        return member
    text = "".join(traceback.format_exception_only(member.failure)).strip()
    return Member(None, member.test_vector, text)
