# SPDX-License-Identifier: BSD-3-Clause
"""What ensembles of noisy members share: training, votes, and the way from votes to bounds."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    MetaEstimatorMixin,
    _fit_context,  # scikit-learn's documented way to declared validation
    clone,
)
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils._metadata_requests import (
    _raise_for_params,  # as in scikit-learn's own meta-estimators; no public names
    _routing_enabled,
)
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    has_fit_parameter,
    validate_data,
)

from .._certified import (
    CertifiedBounds,
    CertifiedClassifierMixin,
    CertifiedPrediction,
    check_weights_ignore_labels,
    encode_labels,
    unchanged_on_failure,
)
from ..confidence import probability_bounds
from ..exceptions import (
    CheckpointError,
    DigestError,
    FailedMembersWarning,
    OptionalStoppingWarning,
    TooFewDrawsError,
)
from ..smoothing import CategoricalNoise
from ._checkpoint import Checkpoint, pack, unpack
from ._digest import digest
from ._features import FeatureReader, Features
from ._members import Recipe, member_seeds, names_of_random_states
from ._nets import NetPlan, mode, net_plan
from ._noise import FeatureNoise
from ._progress import CallbackSupportMixin, FitProgress, bar, fit_progress
from ._stacking import StackedTraining
from ._training import train_members
from ._votes import EnsembleVotes, collect, members_for

# Most numbers held at a time: noisy copies of test inputs, and scores of soft votes.
_BATCH_VALUES, _BATCH_SCORES = 2**22, 2**23
_NAMED_FAILURES = 20

_NOT_GROWN = (
    "warm_start=True needs the data and the parameters that the members were trained with: only "
    "n_estimators, and what certify uses, may change. Fit anew with warm_start=False."
)

BOUNDS_FOR = {
    "hard": ("clopper-pearson", "hoeffding", "empirical-bernstein", "anytime"),
    "soft": ("hoeffding", "empirical-bernstein", "betting", "anytime"),
}


@dataclass(frozen=True)
class EnsembleNoise:
    """All noise of an ensemble.

    Attributes
    ----------
    smoothing : object
        The noise that radii are computed from: the public `noise_`.
    features : FeatureNoise
        How features get theirs.
    labels : CategoricalNoise or None
        How labels get theirs.
    test : {"hash", "seed"} or None
        Where a member's noise on test inputs comes from.
    """

    smoothing: Any
    features: FeatureNoise
    labels: CategoricalNoise | None
    test: str | None


class NoisyEnsemble(
    CertifiedClassifierMixin, CallbackSupportMixin, MetaEstimatorMixin, BaseEstimator
):
    """Members trained on noisy copies of the training data, that vote.

    A subclass says how inputs are read (`_new_reader`), what noise they get (`_new_noise`), and
    what radius bounds on the vote's probabilities give (`_radii`). What else `certify` is asked,
    such as `n_poisoned`, goes through `_checked` on its way to `_radii`.
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "estimator": [HasMethods(["fit", "predict", "get_params", "set_params"])],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "columns": [None, "array-like"],
        "voting": [StrOptions({"hard", "soft"})],
        "bound": [StrOptions({name for names in BOUNDS_FOR.values() for name in names})],
        "correction": [StrOptions({"selection", "holdout", "none"})],
        "two_sided": ["boolean"],
        "n_statements": [Interval(Integral, 1, None, closed="left")],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "classes": [None, "array-like"],
        "warm_start": ["boolean"],
        "training": [StrOptions({"auto", "stacked", "sequential"}), StackedTraining],
        "checkpoint_dir": [None, str, HasMethods(["__fspath__"])],
        "n_jobs": [None, Integral],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    estimators_: list[Any]
    failures_: dict[int, Any]
    _entropy: np.ndarray
    _grown: bool
    _net: NetPlan | None

    def get_metadata_routing(self):
        """Return how metadata passed to `fit` are routed to the members.

        Returns
        -------
        MetadataRouter
            scikit-learn's description of the routing.
        """
        router = MetadataRouter(owner=type(self).__name__)
        return router.add(
            estimator=self.estimator,
            method_mapping=MethodMapping().add(caller="fit", callee="fit"),
        )

    # --- training ---------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None, **fit_params):
        """Train the members.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Training features. Columns that get noise hold finite numbers, or NaN where `estimator`
            takes it; for a `DiscreteEnsembleClassifier` values of their `categories`.
        y : array-like of shape (n_samples,)
            Training labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, passed to every member. They must not depend on the labels.
        **fit_params : dict
            Other metadata such as ``groups``, routed to the members' `fit` where scikit-learn's
            metadata routing is enabled.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not as described, or all members fail.
        DigestError
            If noise on test inputs comes from a hash of the trained member, and that holds
            something that has no digest.

        Warns
        -----
        FailedMembersWarning
            If some members fail; it names them.
        """
        n_old, n_all = self._n_kept(), self.n_estimators
        if n_old == n_all:
            warnings.warn(
                "fit with warm_start=True and as many members as there are trains nothing.",
                stacklevel=3,
            )
        with fit_progress(self, X, y, max(n_all - n_old, 0), self.verbose) as progress:
            return self._train(X, y, sample_weight, fit_params, n_old, n_all, progress)

    def _n_kept(self) -> int:
        """Return the number of members that `fit` keeps."""
        return len(getattr(self, "estimators_", [])) if self.warm_start else 0

    def _train(
        self, X, y, sample_weight, fit_params, n_old: int, n_all: int, progress: FitProgress
    ):
        """Keep `n_old` members, and train what is missing of `n_all`."""
        with unchanged_on_failure(self):
            return self._train_checked(X, y, sample_weight, fit_params, n_old, n_all, progress)

    def _train_checked(self, X, y, sample_weight, fit_params, n_old, n_all, progress: FitProgress):
        recipe, described, settled = self._recipe(X, y, sample_weight, fit_params, grows=n_old > 0)
        if n_old > n_all:
            raise ValueError(
                f"n_estimators must be at least the number of members, {n_old}, with "
                f"warm_start=True. Got n_estimators={n_all}."
            )
        if n_old == 0:
            random_state = check_random_state(self.random_state)
            entropy = random_state.randint(0, 2**32, size=4, dtype=np.uint32)
            known = None if self.random_state is None else entropy
        elif settled["_identity"] == self._identity:
            entropy = known = self._entropy
        else:
            raise ValueError(_NOT_GROWN)
        store = None
        if self.checkpoint_dir is not None:
            stacking = None if recipe.net is None else recipe.net.stacking
            store = Checkpoint(
                self.checkpoint_dir,
                described,
                None if known is None else known.tolist(),
                block_size=None if stacking is None else stacking.block_size,
            )
            store.begin(entropy.tolist())
            entropy = np.array(store.entropy, dtype=np.uint32)
            if stacking is not None:
                recipe = replace(recipe, net=recipe.net.in_blocks(store.block_size))
        seeds = member_seeds(entropy, n_old, n_all)
        members = train_members(
            recipe, seeds, first=n_old, n_jobs=self.n_jobs, progress=progress, store=store
        )
        if store is not None:
            store.finish(n_all)
        # All is well: only now does the estimator change.
        vectors = np.array(
            [m.test_vector for m in members], dtype=recipe.feature_noise.no_test_vector(0).dtype
        ).reshape(len(members), recipe.n_columns)
        failures = {n_old + i: m.failure for i, m in enumerate(members) if m.failure is not None}
        if n_old == 0:
            # The same members again, and more or fewer of them: as if it had grown.
            same = (
                hasattr(self, "estimators_")
                and settled["_identity"] == self._identity
                and np.array_equal(entropy, self._entropy)
            )
            self._grown = same and (self._grown or len(self.estimators_) != n_all)
            self.estimators_, self.failures_ = [], {}
            self.member_seeds_, self.test_vectors_ = seeds[:0], vectors[:0]
            self._entropy = entropy
        elif members:
            self._grown = True
        if store is not None and store.finished != [n_all]:
            self._grown = True  # another number of them was certified before, and maybe looked at
        for name, value in settled.items():
            setattr(self, name, value)
        self.estimators_ = self.estimators_ + [m.learner for m in members]
        self.failures_ = {**self.failures_, **failures}
        self.member_seeds_ = np.concatenate([self.member_seeds_, seeds])
        self.test_vectors_ = np.concatenate([self.test_vectors_, vectors])
        self._model_digest = digest((self._identity, self.member_seeds_)).hex()
        self._warn_of(failures)
        return self

    def _recipe(self, X, y, sample_weight, fit_params, *, grows: bool):
        """Check everything and return what training takes, and the fitted attributes."""
        self._check_voting()
        if grows:
            reader = self._reader
            if not self._reads_like(reader):
                raise ValueError(_NOT_GROWN)
        else:
            reader = self._new_reader(X)
        features = reader.read(self, X)
        validate_data(self, X, y, reset=False, skip_check_array=True)  # refuses y=None
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        check_classification_targets(y)
        classes, labels = encode_labels(y, self.classes, type(self).__name__)
        noise = self._new_noise(reader, classes.size)
        params = self._fit_params(features, labels, sample_weight, fit_params)
        estimator = self.estimator
        if clone(estimator) is estimator and not isinstance(estimator, FrozenEstimator):
            raise ValueError(
                "estimator must be one that clone copies: members are trained independently. "
                f"{type(estimator).__name__} is its own clone."
            )
        recipe = Recipe(
            # As workers see it: what is packed for a file must not depend on who trained it.
            estimator=estimator if self.checkpoint_dir is None else unpack(pack(estimator)),
            features=features,
            labels=labels,
            classes=classes,
            feature_noise=noise.features,
            label_noise=noise.labels,
            test_noise=noise.test,
            fit_params=params,
            random_states=names_of_random_states(estimator),
        )
        recipe = replace(recipe, net=net_plan(recipe, self.training, self.n_jobs))
        described = {
            "class": type(self).__name__,
            "mode": mode(recipe.net),
            "estimator": _code_digest(estimator, needed=self.checkpoint_dir is not None),
            "noise": _code_digest((noise.features, noise.smoothing, noise.labels)),
            "test_noise": noise.test,
            "columns": _code_digest((self.columns, reader.positions)),
            "grid or categories": _code_digest(reader.settings()),
            "classes": _code_digest(classes),
            "training data": digest(features.content()).hex(),
            "training labels": digest(labels).hex(),
            "other arguments of fit": _code_digest(params),
        }
        settled = {
            "classes_": classes,
            "noise_": noise.smoothing,
            "n_samples_fit_": features.n_samples,
            "_reader": reader,
            "_noise": noise,
            "_net": recipe.net,
            "_identity": digest(described).hex(),
            "_classes_given": self.classes is not None,
        }
        return recipe, described, settled

    @abstractmethod
    def _new_reader(self, X) -> FeatureReader:
        """Return how training and test inputs are read, settled by the training inputs."""

    @abstractmethod
    def _reads_like(self, reader: Any) -> bool:
        """Tell whether the present parameters would read values as `reader` does."""

    @abstractmethod
    def _new_noise(self, reader: Any, n_classes: int) -> EnsembleNoise:
        """Return the noise."""

    def _check_voting(self) -> None:
        if self.bound not in BOUNDS_FOR[self.voting]:
            raise ValueError(
                f"bound must be one of {list(BOUNDS_FOR[self.voting])} with "
                f"voting={self.voting!r}. Got {self.bound!r}."
            )
        if self.voting == "soft" and not hasattr(self.estimator, "predict_proba"):
            raise ValueError(
                f"voting='soft' needs an estimator with predict_proba, which "
                f"{type(self.estimator).__name__} has not. Use voting='hard'."
            )
        _check_correction(self.bound, self.correction)

    def _fit_params(self, features: Features, labels, sample_weight, fit_params) -> dict[str, Any]:
        """Return what members' `fit` takes beside X and y."""
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, labels, dtype=np.float64)
            check_weights_ignore_labels(sample_weight, labels)
            fit_params = {**fit_params, "sample_weight": sample_weight}
        if _routing_enabled():
            return dict(process_routing(self, "fit", **fit_params).estimator.fit)
        _raise_for_params(
            {k: v for k, v in fit_params.items() if k != "sample_weight"}, self, "fit"
        )
        if sample_weight is not None and not has_fit_parameter(self.estimator, "sample_weight"):
            raise ValueError(
                f"sample_weight cannot be passed on: {type(self.estimator).__name__}.fit does not "
                "take it. For a pipeline, enable scikit-learn's metadata routing."
            )
        return fit_params

    def _warn_of(self, failures: dict[int, Any]) -> None:
        if failures:
            numbers = ", ".join(map(str, list(failures)[:_NAMED_FAILURES]))
            more = "" if len(failures) <= _NAMED_FAILURES else ", ..."
            warnings.warn(
                f"{len(failures)} of {len(self.estimators_)} members failed to fit; they count as "
                f"drawn and vote for nobody. Their numbers: {numbers}{more}. The first failure: "
                f"{next(iter(failures.values()))}",
                FailedMembersWarning,
                stacklevel=5,
            )

    # --- votes ------------------------------------------------------------------------------------

    def _read(self, X) -> Features:
        check_is_fitted(self)
        return self._reader.read(self, X)

    def _votes(self, features: Features, advance, *, first: int = 0) -> np.ndarray:
        """Votes of the members from number `first` on."""
        return collect(
            self.estimators_[first:],
            self.test_vectors_[first:],
            features,
            self._noise.features,
            self.classes_,
            self.voting,
            first=first,
            n_jobs=self.n_jobs,
            net=self._net,
            advance=advance,
        )

    def _wrap(self, data: np.ndarray, X_digest: str = "") -> EnsembleVotes:
        return EnsembleVotes(data, len(self.estimators_), self.voting, self._model_digest, X_digest)

    def _batches(self, features: Features):
        """Yield votes of some rows at a time, so that memory stays bounded."""
        n_rows, n_columns = features.values.shape
        size = _BATCH_VALUES // max(1, n_columns)
        if self.voting == "soft":
            size = min(size, _BATCH_SCORES // (self.classes_.size * len(self.estimators_)))
        size = max(1, size)
        starts = range(0, n_rows, size)
        # One bar for all, so that it tells the time left for all.
        with bar(len(starts) * len(self.estimators_), "votes", "vote", self.verbose) as progress:
            for start in starts:
                part = features.rows(slice(start, start + size))
                yield self._wrap(self._votes(part, progress.update))

    def collect_votes(self, X) -> EnsembleVotes:
        """Return the members' votes, to be certified by `certify_votes` as often as needed.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Test inputs.

        Returns
        -------
        EnsembleVotes
            A small object that can be pickled: counts of hard votes, or all scores of soft votes,
            with digests of the ensemble and of `X`.
        """
        features = self._read(X)
        X_digest = digest(features.content()).hex()
        with bar(len(self.estimators_), "votes", "vote", self.verbose) as progress:
            return self._wrap(self._votes(features, progress.update), X_digest)

    def predict(self, X):
        """Return the class with most votes.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Test inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`; ties go to the first one. Nothing here abstains; see `certify`.
        """
        top = self._totals(X).argmax(axis=1)
        return self.classes_[top]

    def predict_proba(self, X):
        """Return each class's share of the votes.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Test inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Estimates of the smoothed probabilities, not bounds, in the order of `classes_`.
        """
        totals = self._totals(X).astype(np.float64)
        cast = totals.sum(axis=1, keepdims=True)
        shares = totals / np.where(cast > 0.0, cast, 1.0)
        return np.where(cast > 0.0, shares, 1.0 / self.classes_.size)

    def _totals(self, X) -> np.ndarray:
        holdout = self.correction == "holdout"
        batches = self._batches(self._read(X))
        return np.concatenate([votes.totals(holdout=holdout) for votes in batches])

    # --- certificates -----------------------------------------------------------------------------

    @abstractmethod
    def _checked(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Check what `certify` is asked beside X, and return it as `_radii` takes it."""

    @abstractmethod
    def _radii(self, tail_a: np.ndarray, p_b: np.ndarray, asked: dict[str, Any]) -> np.ndarray:
        """Return radii from upper bounds on probabilities."""

    def _certify_inputs(
        self, X, return_bounds: bool, asked: dict[str, Any]
    ) -> CertifiedPrediction | CertifiedBounds:
        features = self._read(X)
        asked = self._checked(asked)
        self._warn_of_stopping(self.bound)
        parts = [
            self._certify(votes, return_bounds, {}, asked) for votes in self._batches(features)
        ]
        return type(parts[0])(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _certify_kept(
        self, votes, return_bounds: bool, bound_params: dict[str, Any], asked: dict[str, Any]
    ) -> CertifiedPrediction | CertifiedBounds:
        check_is_fitted(self)
        if not isinstance(votes, EnsembleVotes):
            raise TypeError(
                f"votes must come from collect_votes. Got an object of type {type(votes).__name__}."
            )
        if votes.model_digest != self._model_digest:
            raise ValueError(
                "votes are those of another ensemble, or of this one before it was fitted anew or "
                "grew. Collect them again."
            )
        unknown = sorted(set(bound_params) - set(self._bound_params()))
        if unknown:
            raise TypeError(
                f"certify_votes takes {sorted(self._bound_params())} beside {', '.join(asked)} and "
                f"return_bounds. Got {unknown}."
            )
        asked = self._checked(asked)
        self._warn_of_stopping({**self._bound_params(), **bound_params}["bound"])
        return self._certify(votes, return_bounds, bound_params, asked)

    def _bound_params(self) -> dict[str, Any]:
        names = ("bound", "correction", "two_sided", "n_statements", "confidence_level")
        return {name: getattr(self, name) for name in names}

    def _warn_of_stopping(self, bound: str) -> None:
        if self._grown and bound != "anytime":
            warnings.warn(
                f"The ensemble grew after its first fit. bound={bound!r} holds only if the final "
                "number of members was decided without a look at votes or certificates; "
                "bound='anytime' holds in any case.",
                OptionalStoppingWarning,
                stacklevel=4,
            )

    def _certify(
        self, votes: EnsembleVotes, return_bounds: bool, bound_params, asked
    ) -> CertifiedPrediction | CertifiedBounds:
        params = {**self._bound_params(), **bound_params}
        # Here as well: parameters may have been set, or given, since `fit`.
        _check_correction(params["bound"], params["correction"])
        holdout = params["correction"] == "holdout"
        counts, n_drawn = votes.argument(holdout=holdout)
        try:
            bounds = probability_bounds(counts, n_drawn=n_drawn, **params)
        except TooFewDrawsError as failure:
            if not holdout:
                raise
            n_members = members_for(failure.n_needed)
            error = TooFewDrawsError(
                f"{failure} Every tenth member chooses the class with correction='holdout': "
                f"n_estimators must be at least {n_members}."
            )
            error.n_needed = n_members
            raise error from failure
        radii = self._radii(bounds.tail_a, bounds.p_b, asked)
        return self._certificate(bounds.top, radii, bounds.tail_a, bounds.p_b, return_bounds)


def _code_digest(obj: Any, needed: bool = False) -> str:
    """Return a digest that tells objects, and functions that cannot be imported, from others."""
    try:
        return digest(obj, code=True).hex()
    except DigestError as failure:
        if needed:
            raise CheckpointError(
                f"checkpoint_dir needs an estimator that can be told from others. {failure}"
            ) from failure
        return os.urandom(32).hex()  # not known to be the same as any other


def _check_correction(bound: str, correction: str) -> None:
    if bound == "anytime" and correction == "holdout":
        raise ValueError(
            "correction='holdout' does not go with bound='anytime': members that are trained "
            "later would choose anew. Use correction='selection'."
        )
