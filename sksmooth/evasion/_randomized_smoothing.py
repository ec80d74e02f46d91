# SPDX-License-Identifier: BSD-3-Clause
"""Any classifier, smoothed by noise on the test input and certified by the vote (Cohen et al.)."""

from __future__ import annotations

import copy
import numbers
import sys
from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import (
    BaseEstimator,
    MetaEstimatorMixin,
    _fit_context,  # scikit-learn's documented way to declared validation
    clone,
)
from sklearn.frozen import FrozenEstimator
from sklearn.utils import (
    assert_all_finite,
    check_consistent_length,
    check_random_state,
    column_or_1d,
)
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    has_fit_parameter,
    validate_data,
)
from tqdm.auto import tqdm

from .._certified import (
    CertifiedBounds,
    CertifiedClassifierMixin,
    CertifiedPrediction,
    ThreatModel,
    distinct_bounds,
    subtract_from_radii,
    unchanged_on_failure,
)
from .._global_generators import GLOBAL_WORDS, global_generators
from ..confidence import probability_bounds
from ..confidence._levels import error_per_statement
from ..confidence._rank import check_enough_for_a_winner, winner_is_verified
from ..ensemble._features import is_frame
from ..exceptions import TooFewDrawsError
from ..smoothing import JointNoise, MixedCategoricalNoise, UniformNoise
from ..smoothing._grid import on_grid
from ..smoothing._streams import generator
from ._draws import (
    GLOBAL,
    LEARNER,
    PROBE,
    SELECTION,
    TRAINING,
    AdditiveDraws,
    CategoricalDraws,
    block_sizes,
    codes_within,
    stream,
    table_of,
)
from ._estimation import Estimate, estimate, estimate_until
from ._first_layer import FirstLayerBallot, dense_first_layer
from ._mixed import MixedDraws
from ._noise import new_mixed_noise, new_noise
from ._training import fit_net, seed_what_has_no_seed
from ._voting import (
    Ballot,
    InputBallot,
    class_predictor,
    count_votes,
    framed,
    is_module,
    is_skorch,
    numbered_blocks,
    unfrozen,
)

# Test inputs beyond it could leave the range of floats once noise is added.
_LARGEST = 1e300


class AbstainingPrediction(NamedTuple):
    """What `predict_with_abstention` returns.

    Attributes
    ----------
    y_pred : ndarray of shape (n_samples,)
        What `predict` returns.
    abstained : ndarray of bool of shape (n_samples,)
        Rows of which it is not known, at the confidence level, that `y_pred` is the answer of the
        smoothed classifier.

    Examples
    --------
    >>> from sksmooth.evasion import AbstainingPrediction
    >>> y_pred, abstained = AbstainingPrediction(["ham", "spam"], [False, True])
    >>> abstained
    [False, True]
    """

    y_pred: np.ndarray
    abstained: np.ndarray


class RandomizedSmoothingClassifier(CertifiedClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    r"""Any classifier, certified against changes of the test input by randomized smoothing.

    The smoothed classifier answers, for an input, with the class that a base classifier gives most
    often to noisy copies of it (Cohen et al. [1]_). `fit` trains the base on noisy training rows,
    or wraps a trained one; `predict` is a vote of `n_selection` noisy copies. `certify` returns
    with each prediction a radius, from `n_estimation` further copies: the smoothed classifier, the
    vote of *infinitely many*, gives this class to every input at a distance of at most the radius.
    With Gaussian noise the distance is l2,

    .. math:: \|\delta\|_2 \le r < \frac{\sigma}{2}
        \left(\Phi^{-1}(p_A) - \Phi^{-1}(p_B)\right)

    (Theorem 1 of [1]_), with uniform noise l1, with categorical noise the number of changed values.
    With `discrete` columns next to numeric ones, it is the l2 norm of a change of the numbers that
    comes with `n_changes` changed values of the others (`sksmooth.smoothing.JointNoise`). It holds
    for any base classifier that is a fixed function of its input.

    Each row's statement holds with probability at least `confidence_level` over the draw of the
    noise: inputs, the base with its parameters, and `random_state` are to be chosen without a look
    at it. (Scores of `make_certified_scorer` come from other noise, so a search may use them.) All
    rows see the same noise, which is drawn anew by each `fit` only. So a row's answer depends on no
    other row, and the statements for several rows are dependent.

    Covered are changes of the test input, in all features: not changes of the training data, which
    are taken as they are, not preprocessing outside (give the whole pipeline as `estimator`
    instead, or give one sigma per feature).

    Parameters
    ----------
    estimator : classifier or torch.nn.Module
        The base. A classifier with `fit` and `predict`, such as a scikit-learn estimator, a
        pipeline or a skorch net, is cloned and trained; in a ``FrozenEstimator`` it is used as it
        is trained, itself and not a copy: leave it unchanged. A torch module is used as it is
        trained: a copy, in evaluation mode, answers with its greatest output, output k being the
        k-th of the sorted training labels; of two classes a single output, a logit, names the
        second where it is above 0. `predict` must draw nothing, and its answer for a row must not
        depend on other rows. Where `X` is a DataFrame with names, a classifier sees DataFrames with
        the same names. skorch nets see features in the type of their parameters, and the numbers of
        classes as labels.
    noise : {"gaussian", "uniform", "categorical"}, default="gaussian"
        Noise on test inputs, for radii in the l2 norm, the l1 norm, or in the number of changed
        values. With "categorical" every feature is a category: its domain is the set of values
        that it has in training, and a test input must keep to it.
    discrete : list of names or positions, or boolean mask, default=None
        With Gaussian noise: columns that hold categories, and get categorical noise instead. Their
        domains are as above. The base sees arrays and DataFrames as they were given.
    sigma : float or array-like of shape (n_numeric_features,), default=0.5
        Standard deviation of Gaussian or uniform noise, in feature units; finite and above 0. With
        one value per feature that gets it, radii are in units of sigma (the norm of
        ``delta / sigma``): the safe way to scale features. Not used with categorical noise.
    q : float in [0, (K - 1) / K), default=0.0
        With categorical noise or `discrete` columns, and above 0 only there: probability that a
        value is replaced by one of the K - 1 others of its domain; K is the smallest domain with at
        least two values.
    grid : float, default=None
        A power of two. If given, inputs and noise are rounded to its multiples, which makes the
        certificate sound for floating-point noise too; ``grid * sqrt(n_features)`` (Gaussian) or
        ``grid * n_features`` (uniform) is charged against radii.
    n_selection : int, default=100
        Number of draws that choose the class.
    n_estimation : int, default=100_000
        Number of further draws that bound its probability, or the most of them where `certify` is
        asked for a radius.
    confidence_level : float in (0, 1), default=0.999
        Level of each statement.
    two_sided : bool, default=False
        Whether the other classes are bounded by their own votes, at half of the error. Worth it
        with three classes or more, where the top class has not nearly all votes.
    n_statements : int, default=1
        Number of test inputs whose statements shall hold together.
    batch_size : int, default=None
        Most noisy copies that the base gets at once; if None, 1,024. Noise does not depend on it.
        The votes of a base do only where its own rounding depends on how many rows it gets.
    n_jobs : int, default=None
        Number of processes that vote. It changes the time, never the answer.
    random_state : int, RandomState instance or None, default=None
        Seed of all noise, of the base's parameters ``random_state`` where they are None, and of the
        global generators of NumPy, Python and torch while it is trained.
    verbose : int, default=0
        Above 0, show progress bars.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    estimator_ : object
        The trained base.
    noise_ : GaussianNoise, UniformNoise, MixedCategoricalNoise or JointNoise
        The smoothing noise, in units of sigma where `sigma` is an array.
    categories_ : list of ndarray
        With categorical noise, the domain of each feature, or of each of the `discrete` ones.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where `X` had string column names.
    threat_model_ : ThreatModel
        What the certificates are about.

    Notes
    -----
    Where the base begins with a dense layer (scikit-learn's linear classifiers, `MLPClassifier`,
    ``torch.nn.Sequential`` with ``Linear`` first, also in a skorch classifier) and no grid is
    asked for, noise is drawn where that layer puts it, in its outputs: the votes have the same
    distribution, at a fraction of the time.

    References
    ----------
    .. [1] J. Cohen, E. Rosenfeld, J. Z. Kolter, "Certified Adversarial Robustness via Randomized
       Smoothing", ICML 2019, sections 3.1 and 3.2.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sksmooth import RandomizedSmoothingClassifier
    >>> X = [[float(i)] for i in range(20)] + [[50.0 + i] for i in range(20)]
    >>> y = ["ham"] * 20 + ["spam"] * 20
    >>> model = RandomizedSmoothingClassifier(
    ...     LogisticRegression(), sigma=5.0, n_estimation=10_000, random_state=0
    ... ).fit(X, y)
    >>> y_pred, radii = model.certify([[25.0], [60.0]])
    >>> print(y_pred, [f"{r:.1f}" for r in radii])
    ['ham' 'spam'] ['8.3', '16.0']

    Whether a change of up to 4 is withstood takes far fewer draws:

    >>> model.certify([[25.0], [60.0]], radius=4.0).radii >= 4.0
    array([ True,  True])
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "estimator": [
            HasMethods(["fit", "predict", "get_params", "set_params"]),
            HasMethods(["forward", "state_dict"]),
        ],
        "noise": [StrOptions({"gaussian", "uniform", "categorical"})],
        "discrete": [None, "array-like"],
        "sigma": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "q": [Interval(Real, 0, 1, closed="left")],
        "grid": [None, Interval(Real, 0, None, closed="neither")],
        "n_selection": [Interval(Integral, 1, None, closed="left")],
        "n_estimation": [Interval(Integral, 1, None, closed="left")],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "two_sided": ["boolean"],
        "n_statements": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [None, Interval(Integral, 1, None, closed="left")],
        "n_jobs": [None, Integral],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator,
        *,
        noise="gaussian",
        discrete=None,
        sigma=0.5,
        q=0.0,
        grid=None,
        n_selection=100,
        n_estimation=100_000,
        confidence_level=0.999,
        two_sided=False,
        n_statements=1,
        batch_size=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.noise = noise
        self.discrete = discrete
        self.sigma = sigma
        self.q = q
        self.grid = grid
        self.n_selection = n_selection
        self.n_estimation = n_estimation
        self.confidence_level = confidence_level
        self.two_sided = two_sided
        self.n_statements = n_statements
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # --- training ---------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Train the base on noisy copies of the training rows, one of each.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Training features: finite numbers, or categories of any kind with categorical noise. A
            base that is already trained ignores them, but for their number.
        y : array-like of shape (n_samples,)
            Training labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, passed to the base.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not as described, or the base does not answer noisy
            copies of the first row with labels of its classes.
        """
        with unchanged_on_failure(self):
            return self._fit(X, y, sample_weight)

    def _fit(self, X, y, sample_weight):
        columns = None
        if self.discrete is None:
            named = is_frame(X)
            X, y = self._validated(X, y, reset=True)
            draws, noise = new_noise(self, X)
            rows = self._rows_of(X, draws)
            if named and hasattr(self, "feature_names_in_"):
                columns = self.feature_names_in_.tolist()
        else:
            X = table_of(X)
            draws, noise = new_mixed_noise(self, X)
            rows = draws.reader.rows(self, X, reset=True)
            y = column_or_1d(y, warn=True)
            assert_all_finite(y, input_name="y")
            check_consistent_length(rows, y)
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        random_state = check_random_state(self.random_state)
        entropy = random_state.randint(0, 2**32, size=4, dtype=np.uint32)
        params = {}
        if sample_weight is not None:
            params["sample_weight"] = self._checked_weight(sample_weight, rows)
        if isinstance(self.estimator, FrozenEstimator):
            known = getattr(self.estimator, "feature_names_in_", None)
            columns = None if known is None else columns
        base, classes = self._trained(rows, draws, columns, y, classes, codes, entropy, params)
        self.estimator_, self.classes_, self.noise_ = base, classes, noise
        self._draws, self._entropy, self._columns = draws, entropy, columns
        self._try_out(rows)
        if isinstance(draws, CategoricalDraws):
            self.categories_ = list(draws.domains)
        elif isinstance(draws, MixedDraws):
            self.categories_ = list(draws.reader.domains)
        else:
            self.__dict__.pop("categories_", None)
        return self

    def _try_out(self, rows) -> None:
        """Let the base vote once: what it cannot do is said in `fit` already."""
        size = next(block_sizes(self.n_selection))
        block = self._draws.block(size, generator(stream(self._entropy, PROBE)))
        predict = class_predictor(self.estimator_, self.classes_, self._columns)
        try:
            with global_generators():  # which are left as they were
                InputBallot(self._draws, predict, self.batch_size).votes(rows[0], block)
        except RuntimeError as failure:
            if not is_module(self.estimator_):
                raise
            raise ValueError(
                f"estimator must be a module that takes arrays of shape (n, {self.n_features_in_})."
                f" {type(self.estimator_).__name__} fails: {failure}"
            ) from failure

    def _trained(
        self, rows, draws, columns, y, classes, codes, entropy, params
    ) -> tuple[Any, np.ndarray]:
        """Return the trained base, and the classes that it can name."""
        if classes.size < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least 2 classes. Got 1 class: "
                f"{classes.tolist()[0]!r}."
            )
        if is_module(self.estimator):
            return copy.deepcopy(self.estimator).eval(), classes
        base = clone(self.estimator)
        self._check_frozen(base)
        seed_what_has_no_seed(base, stream(entropy, LEARNER))
        noisy = draws.training(rows, generator(stream(entropy, TRAINING)))
        with global_generators() as reseed:
            reseed(stream(entropy, GLOBAL).generate_state(GLOBAL_WORDS, np.uint32))
            if is_skorch(base):
                fit_net(base, noisy, codes.astype(np.int64), params)
                return base, classes
            base.fit(framed(noisy, columns), y, **params)
        return base, np.unique(getattr(base, "classes_", classes))

    def _check_frozen(self, base) -> None:
        """Raise ValueError where a base that is already trained knows other columns."""
        if not isinstance(base, FrozenEstimator):
            return
        for name in ("feature_names_in_", "n_features_in_"):
            known, given = getattr(base, name, None), getattr(self, name, None)
            if known is not None and given is not None and not np.array_equal(known, given):
                known, given = (np.asarray(value).tolist() for value in (known, given))
                raise ValueError(
                    f"X must have the columns that the frozen estimator was trained on: its {name} "
                    f"is {known!r:.200}. Got {given!r:.200}."
                )

    def _checked_weight(self, sample_weight, X) -> np.ndarray:
        if not has_fit_parameter(unfrozen(self.estimator), "sample_weight"):
            raise ValueError(
                f"sample_weight cannot be passed on: {type(self.estimator).__name__}.fit does not "
                "take it."
            )
        return _check_sample_weight(sample_weight, X, dtype=np.float64)

    # --- inputs -----------------------------------------------------------------------------------

    def _validated(self, X, y=None, *, reset: bool) -> Any:
        """Check X, and y in `fit`."""
        kind: Any = np.float64
        if self.noise == "categorical" if reset else isinstance(self._draws, CategoricalDraws):
            X, kind = table_of(X), None
        if reset:
            return validate_data(self, X, y, dtype=kind, order="C")
        return validate_data(self, X, dtype=kind, order="C", reset=False)

    @staticmethod
    def _rows_of(X: np.ndarray, draws: Any) -> np.ndarray:
        """Return rows as the noise takes them: codes, or values, on the grid if there is one."""
        if isinstance(draws, CategoricalDraws):
            return codes_within(X, draws.domains)
        if not np.all(np.abs(X) <= _LARGEST):  # nan too, whatever scikit-learn is told to assume
            raise ValueError(
                "X must not contain NaN, infinity or values beyond 1e300. Got "
                f"{float(np.max(np.abs(X))):g}."
            )
        return X if draws.grid is None else on_grid(X, draws.grid)

    # --- votes ------------------------------------------------------------------------------------

    def _read(self, X) -> np.ndarray:
        check_is_fitted(self)
        self._validate_params()
        if isinstance(self._draws, MixedDraws):
            return self._draws.reader.rows(self, table_of(X), reset=False)
        return self._rows_of(self._validated(X, reset=False), self._draws)

    def _ballot(self) -> Ballot:
        draws = self._draws
        predict = class_predictor(self.estimator_, self.classes_, self._columns)
        whole = InputBallot(draws, predict, self.batch_size)
        if isinstance(draws, AdditiveDraws) and draws.grid is None:
            dense = dense_first_layer(self.estimator_, self.classes_)
            if dense is not None and dense.suits(draws):
                return FirstLayerBallot(dense, draws, whole)
        return whole

    def _selection(self, rows: np.ndarray, ballot: Ballot) -> np.ndarray:
        blocks = numbered_blocks(self.n_selection)
        return count_votes(ballot, rows, self.classes_.size, blocks, self._entropy, SELECTION)

    def predict(self, X):
        """Return the class with most votes of `n_selection` noisy copies.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Test inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`; ties go to the first one. Nothing here abstains; see
            `predict_with_abstention` and `certify`.
        """
        rows = self._read(X)
        return self.classes_[self._selection(rows, self._ballot()).argmax(axis=1)]

    def predict_proba(self, X):
        """Return each class's share of the votes of `n_selection` noisy copies.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Test inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Estimates of the smoothed probabilities, not bounds, in the order of `classes_`.
        """
        rows = self._read(X)
        counts = self._selection(rows, self._ballot()).astype(np.float64)
        cast = counts.sum(axis=1, keepdims=True)
        shares = counts / np.where(cast > 0.0, cast, 1.0)
        return np.where(cast > 0.0, shares, 1.0 / self.classes_.size)

    def predict_with_abstention(self, X) -> AbstainingPrediction:
        """Return predictions, and which of them are not known to be the smoothed classifier's.

        PREDICT of [1]_ (section 3.2.1, Proposition 1), on the `n_selection` draws of `predict`:
        with probability at least `confidence_level` (for each row, or for `n_statements` rows
        together) a row abstains, or no class is more probable under the noise than `y_pred`.
        Nothing is said about other inputs nearby; that is `certify`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Test inputs.

        Returns
        -------
        AbstainingPrediction
            Named tuple ``(y_pred, abstained)``. `y_pred` is what `predict` returns, where it
            abstains too.

        Raises
        ------
        TooFewDrawsError
            If not even unanimous votes of `n_selection` draws would do; says how many are needed.
        """
        rows = self._read(X)
        error = error_per_statement(self.confidence_level, self.n_statements)
        setting = f"confidence_level={self.confidence_level!r}, n_statements={self.n_statements}"
        check_enough_for_a_winner(self.n_selection, error=error, setting=setting)
        counts = self._selection(rows, self._ballot())
        y_pred = self.classes_[counts.argmax(axis=1)]
        return AbstainingPrediction(y_pred, ~winner_is_verified(counts, error=error))

    # --- certificates -----------------------------------------------------------------------------

    @property
    def threat_model_(self) -> ThreatModel:
        """What the certificates are about, at the level that `certify` uses."""
        if not hasattr(self, "noise_"):
            raise AttributeError("threat_model_ is there once the estimator is fitted.")
        norm, unit = "l2", "feature units"
        if isinstance(self.noise_, MixedCategoricalNoise):
            norm, unit = "l0", "changed values"
        else:
            norm = "l1" if isinstance(self.noise_, UniformNoise) else "l2"
            if self._draws.sigmas is not None:
                unit = "units of sigma"
            if isinstance(self._draws, MixedDraws):
                unit += f" of {self._draws.n_features} columns next to n_changes changed others"
        return ThreatModel(
            norm=norm,
            target=("test_features",),
            unit=unit,
            exact=False,
            confidence_level=float(self.confidence_level),
            n_statements=int(self.n_statements),
        )

    def certify(
        self, X, *, radius=None, n_changes=0, return_bounds=False
    ) -> CertifiedPrediction | CertifiedBounds:
        """Return predictions and how much the test input may change before they do.

        Without `radius` this is CERTIFY of [1]_: `n_selection` draws choose the class,
        `n_estimation` others bound its probability, by Clopper-Pearson. With it, a row's draws end
        as soon as the answer at that radius is known, which takes far fewer where the vote is clear
        either way: the bound is then a confidence sequence, valid however often one looks, and the
        radius returned is the one that it gives when the draws end. It is certified as any other,
        and usually smaller than what all draws give.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Test inputs.
        radius : float, at least 0, default=None
            The radius asked for: a row is certified there iff its radius in the answer is at least
            this. Each row's draws end when it is; when, by the same sequence, it cannot be; or
            after `n_estimation` draws.
        n_changes : int or array-like of int of shape (m,), default=0
            Numbers of changed values in `discrete` columns, from 0 to the number of these; 0 where
            there are none. A single one where a `radius` is asked for.
        return_bounds : bool, default=False
            Whether to return bounds on the vote's probabilities too.

        Returns
        -------
        CertifiedPrediction ``(y_pred, radii)`` or CertifiedBounds ``(y_pred, radii, p_a, p_b)``
            `y_pred` is what `predict` returns. `radii`, an ndarray of shape (n_samples,), or
            (n_samples, m) for an array of `n_changes`, of int64 with categorical noise and of
            float64 otherwise: the smoothed classifier gives this class to every input within the
            radius; -1 is abstention: not even to this one, or not even to all with so many changed
            values. `p_a` is
            a lower bound on the probability of the predicted class, `p_b` an upper bound on that of
            any other.

        Raises
        ------
        TooFewDrawsError
            If not even unanimous votes would be certified; says how many draws are needed.
        ValueError
            If `X`, `radius` or `n_changes` is not as described.
        NotFittedError
            If the estimator is not fitted.
        """
        found = self._estimate(X, radius, n_changes)
        radii = self._radii(found.tail_a, found.p_b, n_changes)
        return self._certificate(found.top, radii, found.tail_a, found.p_b, return_bounds)

    def _estimate(self, X, radius, n_changes=0) -> Estimate:
        rows = self._read(X)
        self._check_n_changes(n_changes, single=radius is not None)
        if isinstance(radius, np.floating):
            radius = float(radius)  # in float32 the comparison would overflow
        is_number = isinstance(radius, numbers.Real) and not isinstance(radius, bool)
        if radius is not None and not (is_number and 0 <= radius <= sys.float_info.max):
            raise ValueError(
                f"radius must be None or a finite number of at least 0. Got {radius!r}."
            )
        ballot = self._ballot()
        selection = self._selection(rows, ballot)
        total = self.n_estimation * len(rows)
        with tqdm(total=total, desc="certify", unit="draw", disable=not self.verbose) as progress:
            if radius is None:
                return estimate(self, ballot, rows, selection, progress.update)
            return estimate_until(
                self,
                ballot,
                rows,
                selection,
                float(radius),
                progress.update,
                partial(self._radii, n_changes=n_changes),
            )

    def _bounds(self, selection, counts, n_drawn, bound: str) -> Any:
        """Bounds on the vote's probabilities from disjoint draws; the first ones chose."""
        try:
            return probability_bounds(
                (selection, counts),
                n_drawn=n_drawn,
                bound=bound,
                confidence_level=self.confidence_level,
                correction="holdout",
                two_sided=self.two_sided,
                n_statements=self.n_statements,
            )
        except TooFewDrawsError as failure:
            error = TooFewDrawsError(
                f"{failure} n_estimation must be at least {failure.n_needed}. Got "
                f"n_estimation={self.n_estimation}."
            )
            error.n_needed = failure.n_needed
            raise error from None

    def _check_n_changes(self, n_changes: Any, *, single: bool) -> None:
        draws = self._draws
        most = len(draws.reader.domains) if isinstance(draws, MixedDraws) else 0
        try:
            given = np.asarray(n_changes)
        except ValueError:  # lists of different lengths
            given = np.array(np.nan)
        whole = given.ndim <= (0 if single else 1) and given.dtype.kind in "iu"
        if not whole or np.any(given < 0) or np.any(given > most):
            raise ValueError(
                f"n_changes must be an integer from 0 to {most}, the number of discrete columns"
                f"{'' if single else ', or a list of such'}. Got {n_changes!r}."
            )

    def _radii(self, tail_a: np.ndarray, p_b: np.ndarray, n_changes: Any = 0) -> np.ndarray:
        tail, rival, row = distinct_bounds(tail_a, p_b)
        more: dict[str, Any] = {}
        if isinstance(self.noise_, MixedCategoricalNoise):
            more = {"n_coordinates": np.size(self.noise_.n_feature_values)}
        elif isinstance(self.noise_, JointNoise):
            more = {"n_flips": n_changes}
        radii = self.noise_.radius(1.0 - tail, rival, tail_a=tail, **more)
        if np.ndim(n_changes) and radii.ndim == 1:
            radii = np.repeat(radii[:, np.newaxis], len(n_changes), axis=1)
        if getattr(self._draws, "grid", None) is not None:
            charge = self._draws.grid_charge(1, self._draws.n_features)
            radii = subtract_from_radii(radii, np.asarray(charge))
        return radii[row]
