# SPDX-License-Identifier: BSD-3-Clause
"""Any classifier, trained many times on noisy training data and certified by the vote."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from .._certified import (
    CertifiedBounds,
    CertifiedPrediction,
    ThreatModel,
    check_n_poisoned,
    distinct_bounds,
    subtract_from_radii,
)
from ..smoothing import CategoricalNoise, JointNoise, UniformNoise
from ..smoothing._additive import additive_parts, check_order_of_sigma
from ..smoothing._grid import checked_grid
from ._base import EnsembleNoise, NoisyEnsemble
from ._features import NumberReader
from ._growth import Settled, fit_until_settled
from ._noise import AdditiveNoise


class RABEnsembleClassifier(NoisyEnsemble):
    r"""Any classifier, certified against backdoors in training features by an ensemble.

    `fit` trains `n_estimators` clones of a classifier, each on its own noisy copy of the training
    set; `predict` is their vote (RAB, Algorithm 1 [1]_). `certify` returns with each prediction a
    radius: the vote of *infinitely many* such members is the same for every training set whose
    features differ by a norm of at most the radius. With Gaussian noise that norm is l2, summed
    over all training rows,

    .. math:: \sqrt{\sum_i \|\delta_i\|_2^2} \le r < \frac{\sigma}{2}
        \left(\Phi^{-1}(p_A) - \Phi^{-1}(p_B)\right)

    (RAB, Theorem 1 and Corollary 1). With ``q > 0`` labels are changed at random as well, and a
    radius then holds *next to* `n_flips` changed labels (`sksmooth.smoothing.JointNoise`): one
    certificate for backdoors that change features and labels.

    The bounds on the vote's probabilities come from the drawn members. Each row's statement holds
    with probability at least `confidence_level` over the draw of the noise: data and `random_state`
    are to be chosen without a look at it.

    Covered are changes of the features that get noise, in given rows (and, with ``q > 0``, of
    labels): not inserted or removed rows, not values that become or cease to be NaN, not other
    columns, not the test input (which may carry
    the trigger: the same input is compared under both training sets), not preprocessing that was
    fitted outside on the same data (give the whole pipeline as `estimator` instead), not
    hyperparameters that were chosen on it.

    Parameters
    ----------
    estimator : classifier
        Classifier or pipeline with `fit` and `predict`, cloned for each member. Its `fit` may use
        all that it is given: the certificate holds for any training algorithm. Members must be
        independent: what is random in it comes from parameters ``random_state`` or from the global
        generators of NumPy, Python or torch, all of which are seeded for each member, and `predict`
        draws nothing.
    n_estimators : int, default=1000
        Number of members. At the default level not even a unanimous vote is certified with less
        than 11; the radius of one grows as the normal quantile of ``1 - 6.9 / n_estimators``.
    noise : {"gaussian", "uniform"}, default="gaussian"
        Noise on training features. Radii are in the l2 norm with Gaussian noise and in the l1 norm
        with uniform noise.
    sigma : float or array-like of shape (n_noisy_columns,), default=1.0
        Standard deviation of the noise, in feature units; finite and above 0. With one value per
        column radii are in units of sigma (the norm of ``delta / sigma``): the safe way to scale
        features.
    q : float in [0, (K - 1) / K), default=0.0
        Probability that a label is replaced by one of the K - 1 others. Above 0, Gaussian noise
        only.
    columns : list of str or int, or boolean mask, default=None
        Columns that get noise; they must hold numbers. Others reach members as they are, and
        changes of them are not covered. If None, all.
    test_noise : {"hash", "seed"} or None, default="hash"
        A fixed noise vector per member that is added to every test input. "hash" seeds it with a
        SHA-256 digest of the trained member, as in the paper; "seed" draws it from the member's own
        stream, which works for any learner. Both bring test inputs to where the member was trained,
        and both are covered. None adds nothing.
    grid : float, default=None
        A power of two. If given, features and noise are rounded to its multiples, which makes the
        certificate sound for floating-point noise too; ``grid * sqrt(changed entries)`` (Gaussian)
        or ``grid * changed entries`` (uniform) is charged against radii.
    voting : {"hard", "soft"}, default="hard"
        Whether a member votes by its prediction or by its `predict_proba`.
    bound : str, default="clopper-pearson"
        Confidence bound: "clopper-pearson" for hard votes; "betting" for soft ones;
        "empirical-bernstein", "hoeffding" (the paper's) for both; "anytime" for both, valid however
        often one looks at the votes before training more members. See `sksmooth.confidence`.
    correction : {"selection", "holdout", "none"}, default="selection"
        How choosing the class is paid for, see `sksmooth.confidence.probability_bounds`. With
        "holdout" every tenth member chooses and the others bound. "none" reproduces the papers and
        is not valid.
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
    estimators_ : list of length n_estimators
        The members, in the order of their seeds; None where training failed. A failed member
        counts as drawn and votes for nobody.
    failures_ : dict
        The failure of each such member, by its number.
    member_seeds_ : ndarray of uint32 of shape (n_estimators, 4)
        The members' seeds.
    test_vectors_ : ndarray of shape (n_estimators, n_noisy_columns)
        What is added to the test inputs of each member.
    noise_ : GaussianNoise, UniformNoise or JointNoise
        The smoothing noise, of features in units of sigma where `sigma` is an array.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where `X` had string column names.
    n_samples_fit_ : int
        Number of training rows.
    threat_model_ : ThreatModel
        What the certificates are about.

    References
    ----------
    .. [1] M. Weber, X. Xu, B. Karlas, C. Zhang, B. Li, "RAB: Provable Robustness Against Backdoor
       Attacks", Sections 4 to 6.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sksmooth import RABEnsembleClassifier
    >>> X = [[float(i)] for i in range(20)] + [[50.0 + i] for i in range(20)]
    >>> y = ["ham"] * 20 + ["spam"] * 20
    >>> model = RABEnsembleClassifier(
    ...     LogisticRegression(), n_estimators=100, sigma=2.0, random_state=0
    ... ).fit(X, y)
    >>> y_pred, radii = model.certify([[10.0], [60.0]])
    >>> print(y_pred, [f"{r:.2f}" for r in radii])
    ['ham' 'spam'] ['3.00', '3.00']

    With noise on labels too, a prediction withstands a smaller change of features next to one
    changed label, and none is certified next to two:

    >>> model = model.set_params(q=0.2).fit(X, y)
    >>> radii = model.certify([[10.0]], n_flips=[0, 1, 2]).radii
    >>> print([f"{r:.2f}" for r in radii[0]])
    ['2.70', '0.92', '-1.00']
    """

    _parameter_constraints: dict[str, list[Any]] = {
        **NoisyEnsemble._parameter_constraints,
        "noise": [StrOptions({"gaussian", "uniform"})],
        "sigma": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "q": [Interval(Real, 0, 1, closed="left")],
        "test_noise": [None, StrOptions({"hash", "seed"})],
        "grid": [None, Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        estimator,
        *,
        n_estimators=1000,
        noise="gaussian",
        sigma=1.0,
        q=0.0,
        columns=None,
        test_noise="hash",
        grid=None,
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
        self.noise = noise
        self.sigma = sigma
        self.q = q
        self.columns = columns
        self.test_noise = test_noise
        self.grid = grid
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

    def _new_reader(self, X) -> NumberReader:
        return NumberReader(self, X, self.columns, self._checked_grid())

    def _reads_like(self, reader: NumberReader) -> bool:
        return reader.grid == self._checked_grid()

    def _checked_grid(self) -> float | None:
        return None if self.grid is None else checked_grid(self.grid)

    def _new_noise(self, reader: NumberReader, n_classes: int) -> EnsembleNoise:
        if self.noise == "uniform" and self.q > 0:
            raise ValueError(
                f"q > 0 goes with noise='gaussian': the joint certificate is that of Gaussian "
                f"features. Got q={self.q!r} with noise='uniform'."
            )
        check_order_of_sigma(self, reader.positions)
        law = AdditiveNoise(
            *additive_parts(self.noise, self.sigma, self.grid, reader.positions.size)
        )
        if self.q == 0:
            return EnsembleNoise(law.law, law, None, self.test_noise)
        smoothing = JointNoise(law.law.sigma, float(self.q), n_classes)
        labels = CategoricalNoise(float(self.q), n_classes)
        return EnsembleNoise(smoothing, law, labels, self.test_noise)

    def fit_until_settled(
        self,
        X,
        y,
        X_test,
        *,
        radius,
        n_flips=0,
        n_poisoned=None,
        sample_weight=None,
        **fit_params,
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
        radius : float, at least 0
            The radius asked for.
        n_flips : int, default=0
            Number of training labels that may change as well, as in `certify`; one number.
        n_poisoned : int in [1, n_samples_fit_], default=None
            Number of training rows that change, as in `certify`.
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
        if np.ndim(n_flips) != 0:
            raise ValueError(f"n_flips must be a single integer here. Got {n_flips!r}.")
        asked = {"n_flips": n_flips, "n_poisoned": n_poisoned}
        return fit_until_settled(self, X, y, X_test, radius, asked, sample_weight, fit_params)

    # --- certificates -----------------------------------------------------------------------------

    @property
    def threat_model_(self) -> ThreatModel:
        """What the certificates are about, at the level that `certify` uses."""
        if not hasattr(self, "estimators_"):
            raise AttributeError("threat_model_ is there once the estimator is fitted.")
        target: tuple[str, ...] = ("train_features",)
        unit = "feature units" if self._additive.sigmas is None else "units of sigma"
        if not self._reader.all_noisy:
            unit += f" of {self._reader.positions.size} columns"
        if isinstance(self.noise_, JointNoise):
            target += ("train_labels",)
            unit += " next to n_flips changed labels"
        return ThreatModel(
            norm="l1" if isinstance(self.noise_, UniformNoise) else "l2",
            target=target,
            unit=unit,
            exact=False,
            confidence_level=float(self.confidence_level),
            n_statements=int(self.n_statements),
            classes_given=self._classes_given,
        )

    def certify(
        self, X, *, n_flips=0, n_poisoned=None, return_bounds=False
    ) -> CertifiedPrediction | CertifiedBounds:
        """Return predictions and how much the training data may change before they do.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Test inputs.
        n_flips : int or array-like of int of shape (m,), default=0
            Number of training labels, at most n_samples_fit_, that may change as well. Above 0 it
            needs ``q > 0``.
        n_poisoned : int in [1, n_samples_fit_], default=None
            If given, radii bound the norm of the change of *each* of this many training rows; if
            None, the norm over all rows together.
        return_bounds : bool, default=False
            Whether to return bounds on the vote's probabilities too.

        Returns
        -------
        CertifiedPrediction ``(y_pred, radii)`` or CertifiedBounds ``(y_pred, radii, p_a, p_b)``
            `y_pred` is what `predict` returns. `radii`, an ndarray of float64 of shape
            (n_samples,), or (n_samples, m) for an array of `n_flips`: the vote of infinitely many
            members is this class for every change of a norm of at most the radius, next to
            `n_flips` changed labels; -1 is abstention: not even for the flips alone. `p_a` is a
            lower bound on the probability of the predicted class, `p_b` an upper bound on that of
            any other.

        Raises
        ------
        TooFewDrawsError
            If not even unanimous votes would be certified; says how many members are needed.
        ValueError
            If `X`, `n_flips` or `n_poisoned` are not as described.
        NotFittedError
            If the estimator is not fitted.

        Warns
        -----
        OptionalStoppingWarning
            If the ensemble grew after its first `fit` and `bound` is not "anytime".
        """
        asked = {"n_flips": n_flips, "n_poisoned": n_poisoned}
        return self._certify_inputs(X, return_bounds, asked)

    def certify_votes(
        self, votes, *, n_flips=0, n_poisoned=None, return_bounds=False, **bound_params
    ) -> CertifiedPrediction | CertifiedBounds:
        """Certify collected votes, without a new look at members or inputs.

        Parameters
        ----------
        votes : EnsembleVotes
            From `collect_votes` of this fitted estimator.
        n_flips : int or array-like of int of shape (m,), default=0
            Numbers of training labels that may change as well, as in `certify`.
        n_poisoned : int in [1, n_samples_fit_], default=None
            Number of training rows that change, as in `certify`.
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
        asked = {"n_flips": n_flips, "n_poisoned": n_poisoned}
        return self._certify_kept(votes, return_bounds, bound_params, asked)

    def _checked(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {
            "n_flips": self._checked_n_flips(asked["n_flips"]),
            "n_poisoned": check_n_poisoned(asked["n_poisoned"], self.n_samples_fit_),
        }

    def _radii(self, tail_a, p_b, asked: dict[str, Any]) -> np.ndarray:
        n_flips, n_poisoned = asked["n_flips"], asked["n_poisoned"]
        tail, rival, row = distinct_bounds(tail_a, p_b)
        more = {"n_flips": n_flips} if isinstance(self.noise_, JointNoise) else {}
        radii = self.noise_.radius(1.0 - tail, rival, tail_a=tail, n_poisoned=n_poisoned, **more)
        if not more and np.ndim(n_flips):
            radii = np.repeat(radii[:, np.newaxis], len(n_flips), axis=1)
        if self._additive.grid is not None:
            # Of the l2 norm per row sqrt(r) times the radius plus the charge for r rows must stay
            # in the ball; of the l1 norm each row has its own. Both leave the charge of one row.
            n_rows = 1 if n_poisoned is not None else self.n_samples_fit_
            charge = self._additive.grid_charge(n_rows, self._reader.positions.size)
            radii = subtract_from_radii(radii, np.asarray(charge))
        return radii[row]

    @property
    def _additive(self) -> Any:
        """How features got their noise in `fit`."""
        return self._noise.features

    def _checked_n_flips(self, n_flips):
        flips = np.asarray(n_flips)
        whole = flips.ndim <= 1 and flips.dtype.kind in "iu"
        if not whole or np.any(flips < 0) or np.any(flips > self.n_samples_fit_):
            raise ValueError(
                f"n_flips must be an integer from 0 to {self.n_samples_fit_}, the number of "
                f"training rows, or a list of such. Got {n_flips!r}."
            )
        if np.any(flips > 0) and not isinstance(self.noise_, JointNoise):
            raise ValueError(
                f"n_flips must be 0 where q is 0: without noise on labels no flip is covered. Got "
                f"{n_flips!r}."
            )
        return int(flips) if flips.ndim == 0 else flips
