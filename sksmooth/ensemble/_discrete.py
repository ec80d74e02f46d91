# SPDX-License-Identifier: BSD-3-Clause
"""Any classifier on categorical data, trained many times under categorical noise and certified."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval

from .._certified import CertifiedBounds, CertifiedPrediction, ThreatModel, check_n_poisoned
from ..smoothing import CategoricalNoise, MixedCategoricalNoise
from ._base import EnsembleNoise, NoisyEnsemble
from ._coded import CodeReader
from ._domains import read_categories
from ._growth import Settled, fit_until_settled
from ._noise import CategoricalShifts

_TARGETS = ("train_features", "train_labels", "test_features")


class DiscreteEnsembleClassifier(NoisyEnsemble):
    r"""Any classifier on categorical data, certified against changed values anywhere.

    `fit` trains `n_estimators` clones of a classifier, each on its own noisy copy of the training
    set, in which every value and label is replaced with probability `q` by another one of its
    domain; each member sees test inputs under its own noise, too; `predict` is their vote (Wang et
    al. [1]_, eq. 6). `certify` returns with each prediction a radius, a number of values: the vote
    of *infinitely many* such members is the same for every training set and test input that differ
    from the given ones in at most so many places *together*,

    .. math:: \|\delta_1\|_0 + \|\delta_2\|_0 + \|\delta_3\|_0 \le r

    for training features, training labels and the test input (Wang et al., eq. 7). What of them
    gets noise, and is covered, is named by `perturb`. The radius is the exact one for the bounds on
    the vote's probabilities (`sksmooth.smoothing.CategoricalNoise`); with domains of different
    sizes it is that of the largest (`sksmooth.smoothing.MixedCategoricalNoise`).

    The bounds on the vote's probabilities come from the drawn members. Each row's statement holds
    with probability at least `confidence_level` over the draw of the noise: data and `random_state`
    are to be chosen without a look at it.

    Covered is a backdoor that changes features and labels of training rows and the test input,
    if it changes no more values in all than the radius. Not covered are inserted or removed rows,
    columns without noise, what `perturb` does not name, preprocessing that was fitted outside on
    the same data (give the whole pipeline as `estimator` instead), and hyperparameters, classes and
    categories that were chosen on it.

    Parameters
    ----------
    estimator : classifier
        Classifier or pipeline with `fit` and `predict`, cloned for each member. Its `fit` may use
        all that it is given: the certificate holds for any training algorithm. Noise can remove a
        category from a member's training rows and put it into its test inputs: an encoder inside
        needs ``handle_unknown="ignore"`` or all categories named.
    n_estimators : int, default=1000
        Number of members. At the default level not even a unanimous vote is certified with less
        than 11.
    q : float in (0, (K - 1) / K), default=0.1
        Probability that a value is replaced by one of the K - 1 others of its domain, each equally
        likely; K is the smallest domain that gets noise. The paper's beta is ``1 - q``.
    categories : int, list, or list of lists, default=2
        What the columns that get noise may hold: the codes 0 to K - 1 for an integer K; the same
        list of values, such as ``[-1, 0, 1]`` or strings, for every column; or a list of one list
        per column, in the order of `columns`. Any other value, in training rows or test inputs, is
        an error. It cannot be read from the training data: whoever changes these would change the
        domains, which the certificate takes as fixed. Take them from trusted data or from what the
        columns mean. Not used where only labels get noise.
    perturb : tuple of {"train_features", "train_labels", "test_features"}, default=all three
        What gets noise, and is covered by the certificate. Less noise makes better members, and
        leaves more to trust.
    columns : list of str or int, or boolean mask, default=None
        Columns that get noise. Others reach members as they are, and changes of them are not
        covered. If None, all. Not used where only labels get noise: no column gets any then.
    voting : {"hard", "soft"}, default="hard"
        Whether a member votes by its prediction or by its `predict_proba`.
    bound : str, default="clopper-pearson"
        Confidence bound: "clopper-pearson" for hard votes (the paper's); "betting" for soft ones;
        "empirical-bernstein", "hoeffding" for both; "anytime" for both, valid however often one
        looks at the votes before training more members. See `sksmooth.confidence`.
    correction : {"selection", "holdout", "none"}, default="selection"
        How choosing the class is paid for, see `sksmooth.confidence.probability_bounds`. With
        "holdout" every tenth member chooses and the others bound. "none" reproduces the paper,
        which does not pay for it, and is not valid.
    two_sided : bool, default=False
        Whether other classes are bounded by their own votes.
    n_statements : int, default=1
        Number of test inputs whose statements shall hold together.
    confidence_level : float in (0, 1), default=0.999
        Level of each statement.
    classes : array-like, default=None
        All classes, in any order. If None, those of the training labels; the certificate then
        speaks of training sets with the same classes.
    warm_start : bool, default=False
        Whether `fit` keeps the members and trains only those that are missing, on the same data
        with the same parameters. If it is the votes that tell whether more are needed, only
        ``bound="anytime"`` is valid.
    training : {"auto", "stacked", "sequential"} or StackedTraining, default="auto"
        How members that are skorch nets are trained: one by one, or many at once, see
        `sksmooth.neural_network`. "auto" takes what is faster. Other members are trained one by
        one.
    checkpoint_dir : str or path, default=None
        Folder in which each member is kept as it ends: empty, new, or that of an earlier fit with
        the same data and parameters, which then goes on where it stopped. Members are pickles: use
        folders that nobody else can write to. With ``random_state=None`` the seeds of the folder
        are taken, if it has some.
    n_jobs : int, default=None
        Number of processes that train and vote, with one inner thread each. It changes the time,
        never the answer.
    random_state : int, RandomState instance or None, default=None
        Seed of all randomness: noise and the learners' own.
    verbose : int, default=0
        Above 0, show progress bars.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    categories_ : list of ndarray
        The values of each column that gets noise, sorted.
    estimators_ : list of length n_estimators
        The members, in the order of their seeds; None where training failed. A failed member
        counts as drawn and votes for nobody.
    failures_ : dict
        The failure of each such member, by its number.
    member_seeds_ : ndarray of uint32 of shape (n_estimators, 4)
        The members' seeds.
    test_vectors_ : ndarray of unsigned int, of shape (n_estimators, n_noisy_columns)
        By how many places of `categories_`, in a circle, each member's test inputs are shifted; 0
        where a value is kept.
    noise_ : CategoricalNoise or MixedCategoricalNoise
        The smoothing noise, with the domains that get it.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where `X` had string column names.
    n_samples_fit_ : int
        Number of training rows.
    threat_model_ : ThreatModel
        What the certificates are about.

    Notes
    -----
    The paper chooses the class and bounds its probability on the same votes, at the full level,
    which is not valid in general; the default pays for the choice.

    Members see values, dtypes and column names as they were given in `fit`. The dtype of a column,
    with the categories that a pandas categorical lists, is taken as fixed: set it, do not infer it
    from the rows.

    A member's noise on test inputs is one shift per column, the same for all of them: each row's
    statement holds at its level, and rows are dependent. It is drawn apart from all that the member
    is trained on; noise that followed from the trained model would not be independent of the noise
    on training data, as the theorem asks once test inputs are under attack as well.

    References
    ----------
    .. [1] B. Wang, X. Cao, J. Jia, N. Z. Gong, "On Certifying Robustness against Backdoor Attacks
       via Randomized Smoothing", 2020, Sections 2 and 3.

    Examples
    --------
    >>> from sklearn.naive_bayes import BernoulliNB
    >>> from sksmooth import DiscreteEnsembleClassifier
    >>> X = [[0] * 12] * 20 + [[1] * 12] * 20
    >>> y = ["ham"] * 20 + ["spam"] * 20
    >>> model = DiscreteEnsembleClassifier(
    ...     BernoulliNB(), n_estimators=300, q=0.1, categories=[0, 1], random_state=0
    ... ).fit(X, y)
    >>> y_pred, radii = model.certify([[0] * 12, [1] * 12])
    >>> print(y_pred, radii)
    ['ham' 'spam'] [1 1]

    With noise on labels alone, radii are numbers of changed labels:

    >>> model = model.set_params(perturb=("train_labels",), q=0.2).fit(X, y)
    >>> print(model.certify([[0] * 12]).radii, model.threat_model_.norm)
    [2] flips
    """

    _parameter_constraints: dict[str, list[Any]] = {
        **NoisyEnsemble._parameter_constraints,
        "q": [Interval(Real, 0, 1, closed="neither")],
        "categories": [Interval(Integral, 2, None, closed="left"), "array-like"],
        "perturb": [tuple, list],
    }

    def __init__(
        self,
        estimator,
        *,
        n_estimators=1000,
        q=0.1,
        categories=2,
        perturb=_TARGETS,
        columns=None,
        voting="hard",
        bound="clopper-pearson",
        correction="selection",
        two_sided=False,
        n_statements=1,
        confidence_level=0.999,
        classes=None,
        warm_start=False,
        training="auto",
        checkpoint_dir=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.n_estimators = n_estimators
        self.q = q
        self.categories = categories
        self.perturb = perturb
        self.columns = columns
        self.voting = voting
        self.bound = bound
        self.correction = correction
        self.two_sided = two_sided
        self.n_statements = n_statements
        self.confidence_level = confidence_level
        self.classes = classes
        self.warm_start = warm_start
        self.training = training
        self.checkpoint_dir = checkpoint_dir
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if self.perturb not in (("train_labels",), ["train_labels"]):
            tags.input_tags.categorical = True
            tags.input_tags.string = True
            tags.input_tags.positive_only = isinstance(self.categories, Integral)
        return tags

    def _features_are_noisy(self) -> bool:
        names = list(self.perturb)
        if not names or len(set(names)) < len(names) or not set(names) <= set(_TARGETS):
            raise ValueError(
                f"perturb must be a non-empty tuple of {list(_TARGETS)}, each at most once. Got "
                f"{self.perturb!r}."
            )
        return names != ["train_labels"]

    def _new_reader(self, X) -> CodeReader:
        categories = self.categories if self._features_are_noisy() else None
        return CodeReader(self, X, self.columns, categories)

    def _reads_like(self, reader: CodeReader) -> bool:
        if self._features_are_noisy() != bool(reader.domains):
            return False
        now = read_categories(self.categories, len(reader.domains)) if reader.domains else ()
        return [d.tolist() for d in now] == reader.settings()

    def _new_noise(self, reader: CodeReader, n_classes: int) -> EnsembleNoise:
        q, sizes = float(self.q), reader.sizes
        labels = CategoricalNoise(q, n_classes) if "train_labels" in self.perturb else None
        smoothing: CategoricalNoise | MixedCategoricalNoise
        alike = len(set(sizes)) == 1
        if not sizes:
            assert labels is not None  # some noise there is, see `_new_reader`
            smoothing = labels
        elif labels is None and alike:
            smoothing = CategoricalNoise(q, sizes[0])
        else:
            n_labels = None if labels is None else n_classes
            smoothing = MixedCategoricalNoise(q, sizes[0] if alike else sizes, n_labels)
        shifts = CategoricalShifts(q, sizes, in_training="train_features" in self.perturb)
        # Never from a hash of the trained member: see the notes above.
        test = "seed" if "test_features" in self.perturb else None
        return EnsembleNoise(smoothing, shifts, labels, test)

    @property
    def categories_(self) -> list[np.ndarray]:
        """The values of each column that gets noise, sorted."""
        if not hasattr(self, "estimators_"):
            raise AttributeError("categories_ is there once the estimator is fitted.")
        return [domain.copy() for domain in self._reader.domains]

    def fit_until_settled(
        self, X, y, X_test, *, radius, n_poisoned=None, sample_weight=None, **fit_params
    ) -> Settled:
        """Train members until the answer at one radius is known for every test input.

        Needs ``bound="anytime"``, which stays valid however often one looks. A row is settled when
        its certified radius has reached `radius`, or when the probability of its top class is known
        (by the upper bound of the same confidence sequence) to be too small for it. At most
        `n_estimators` members are trained.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Training features, as in `fit`.
        y : array-like of shape (n_samples,)
            Training labels.
        X_test : array-like or DataFrame of shape (n_rows, n_features)
            Test inputs to be settled.
        radius : int, at least 0
            The number of changed values asked for.
        n_poisoned : int of at least 1, default=None
            Number of rows that change, as in `certify`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, as in `fit`.
        **fit_params : dict
            Other metadata, as in `fit`.

        Returns
        -------
        Settled
            Named tuple ``(n_estimators, certified, refuted)``: the number of members trained, and
            for each row of `X_test` whether it is certified at `radius`, and whether it is known
            that it cannot be. The estimator is fitted: `certify` gives the radii.

        Raises
        ------
        ValueError
            If `bound` is not "anytime", `radius` is negative or not a number, or as in `fit`.
        """
        asked = {"n_poisoned": n_poisoned}
        return fit_until_settled(self, X, y, X_test, radius, asked, sample_weight, fit_params)

    # --- certificates -----------------------------------------------------------------------------

    def _target(self) -> tuple[str, ...]:
        """Return what got noise in `fit`."""
        shifts: Any = self._noise.features
        noisy = (
            shifts.in_training,
            self._noise.labels is not None,
            self._noise.test is not None,
        )
        return tuple(name for name, is_noisy in zip(_TARGETS, noisy, strict=True) if is_noisy)

    @property
    def threat_model_(self) -> ThreatModel:
        """What the certificates are about, at the level that `certify` uses."""
        if not hasattr(self, "estimators_"):
            raise AttributeError("threat_model_ is there once the estimator is fitted.")
        target = self._target()
        flips = target == ("train_labels",)
        unit = "changed labels" if flips else "changed values"
        if not flips and not self._reader.all_noisy:
            unit += f" of {self._reader.positions.size} columns"
            unit += " and of labels" if "train_labels" in target else ""
        return ThreatModel(
            norm="flips" if flips else "l0",
            target=target,
            unit=unit,
            exact=False,
            confidence_level=float(self.confidence_level),
            n_statements=int(self.n_statements),
            classes_given=self._classes_given,
        )

    def certify(
        self, X, *, n_poisoned=None, return_bounds=False
    ) -> CertifiedPrediction | CertifiedBounds:
        """Return predictions and how many values may change before they do.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Test inputs; columns with noise hold values of their categories.
        n_poisoned : int of at least 1, default=None
            If given, radii bound the number of values that change in *each* of at most this many
            rows. A training row's values are its features and its label, as far as they are covered
            by `perturb`. With "test_features" the test input is a row like the others and counts as
            one of them: a backdoor in 10 training rows that the test input carries too changes 11.
            At most the number of rows that can change. If None, radii bound the number of all
            changed values together.
        return_bounds : bool, default=False
            Whether to return bounds on the vote's probabilities too.

        Returns
        -------
        CertifiedPrediction ``(y_pred, radii)`` or CertifiedBounds ``(y_pred, radii, p_a, p_b)``
            `y_pred` is what `predict` returns. `radii`, an ndarray of int64 of shape (n_samples,):
            the vote of infinitely many members is this class after every change of at most so many
            values; -1 is abstention. They are at most the number of values that can change: with
            `n_poisoned`, in one row. `p_a` is a lower bound on the probability of the predicted
            class, `p_b` an upper bound on that of any other.

        Raises
        ------
        TooFewDrawsError
            If not even unanimous votes would be certified; says how many members are needed.
        ValueError
            If `X` or `n_poisoned` is not as described.
        NotFittedError
            If the estimator is not fitted.

        Warns
        -----
        OptionalStoppingWarning
            If the ensemble grew after its first `fit` and `bound` is not "anytime".
        """
        return self._certify_inputs(X, return_bounds, {"n_poisoned": n_poisoned})

    def certify_votes(
        self, votes, *, n_poisoned=None, return_bounds=False, **bound_params
    ) -> CertifiedPrediction | CertifiedBounds:
        """Certify collected votes, without a new look at members or inputs.

        Parameters
        ----------
        votes : EnsembleVotes
            From `collect_votes` of this fitted estimator.
        n_poisoned : int of at least 1, default=None
            Number of rows that change, as in `certify`.
        return_bounds : bool, default=False
            Whether to return bounds on the vote's probabilities too.
        **bound_params : dict
            `bound`, `correction`, `two_sided`, `n_statements`, `confidence_level`: the parameters
            of these names where not given. Each statement holds at its level; of several, chosen
            after a look at the results, only their union does.

        Returns
        -------
        CertifiedPrediction or CertifiedBounds
            As from `certify`.

        Raises
        ------
        ValueError
            If the votes are those of another ensemble, or as in `certify`.
        TypeError
            If `votes` or the name of a parameter is not as described.
        """
        asked = {"n_poisoned": n_poisoned}
        return self._certify_kept(votes, return_bounds, bound_params, asked)

    def _values_in_rows(self) -> list[tuple[int, int]]:
        """Return how many rows there are of each kind, and how many values of one can change."""
        target, n_columns = self._target(), self._reader.positions.size
        in_training = n_columns * ("train_features" in target) + ("train_labels" in target)
        rows = [(self.n_samples_fit_, in_training), (1, n_columns * ("test_features" in target))]
        return [(n_rows, n_values) for n_rows, n_values in rows if n_values]

    def _checked(self, asked: dict[str, Any]) -> dict[str, Any]:
        n_rows = sum(n for n, _ in self._values_in_rows())
        rows = "the number of rows that can change"
        rows += ", the test input among them" if "test_features" in self._target() else ""
        return {"n_poisoned": check_n_poisoned(asked["n_poisoned"], n_rows, rows)}

    def _radii(self, tail_a, p_b, asked: dict[str, Any]) -> np.ndarray:
        rows = self._values_in_rows()
        n_coordinates = sum(n_rows * n_values for n_rows, n_values in rows)
        radii = self.noise_.radius(1.0 - tail_a, p_b, tail_a=tail_a, n_coordinates=n_coordinates)
        if asked["n_poisoned"] is None:
            return radii
        # k values in each of r rows are r * k values; -1 // r is -1
        return np.minimum(radii // asked["n_poisoned"], max(n_values for _, n_values in rows))
