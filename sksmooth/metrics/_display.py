# SPDX-License-Identifier: BSD-3-Clause
"""Plot of the certified accuracy against the radius."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._certified import certify, find_certifier
from .._extras import import_extra
from ._scores import certified_accuracy_curve, share_at
from ._validation import check_radii, check_radius, check_sample_weight, correct_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from .._certified import ThreatModel

# What the radii of each drawn curve measure. Kept by line, not by axes: an axes that was cleared
# has no curves left to disagree with, and its label may have been reworded by the user.
_RADIUS_LABELS: WeakKeyDictionary[Line2D, str] = WeakKeyDictionary()


class CertifiedAccuracyDisplay:
    """Certified accuracy as a step function of the radius.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. Each curve is
    exact: at every radius r it shows the share of rows that are predicted correctly and have
    ``radii >= r``, steps included, and it ends with a drop to 0 at the largest certified radius.
    Pass the axes of one display as ``ax`` of the next to compare curves.

    The curve starts at radius 0, where abstentions no longer count. The accuracy of ``predict``,
    which never abstains and claims nothing about attacks, belongs to no radius: it stands in the
    legend.

    Parameters
    ----------
    radii : array-like of shape (n_radii,)
        Radii at which the curve steps, 0 and increasing from there; integers for a count such as
        label flips.
    certified_accuracy : array-like of shape (n_radii,)
        Certified accuracy at each of them, as :func:`certified_accuracy_curve` gives it. Beyond
        the last radius nothing is certified.
    accuracy : float, default=None
        Accuracy of the predictions, certified or not.
    name : str, default=None
        Name of the curve in the legend.
    threat_model : ThreatModel, default=None
        What the radii measure; it labels the axis. Where it states a confidence level, that is
        in the legend.
    certify_params : dict, default=None
        Parameters of ``certify`` that the radii depend on, such as ``n_poisoned``; shown in the
        legend.
    empirical : tuple of two array-like of shape (n_attacks,), default=None
        Sizes of attacks that were carried out, in the unit of `radii`, and the accuracies in
        [0, 1] that they left; drawn as markers.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    empirical_line_ : matplotlib Line2D or None
        The markers.
    ax_ : matplotlib Axes
        Axes with the curve.
    figure_ : matplotlib Figure
        Figure that holds the axes.

    Examples
    --------
    >>> from sksmooth.metrics import CertifiedAccuracyDisplay
    >>> display = CertifiedAccuracyDisplay.from_predictions(
    ...     [0, 1, 1, 1], [0, 1, 1, 0], [2.0, 1.0, -1.0, 3.0], name="toy"
    ... )
    >>> display.radii.tolist(), display.certified_accuracy.tolist()
    ([0.0, 1.0, 2.0, 3.0], [0.5, 0.5, 0.25, 0.0])
    >>> display.line_.get_label()
    'toy (accuracy = 0.750)'
    """

    def __init__(
        self,
        *,
        radii: ArrayLike,
        certified_accuracy: ArrayLike,
        accuracy: float | None = None,
        name: str | None = None,
        threat_model: ThreatModel | None = None,
        certify_params: dict[str, Any] | None = None,
        empirical: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> None:
        self.radii = radii
        self.certified_accuracy = certified_accuracy
        self.accuracy = accuracy
        self.name = name
        self.threat_model = threat_model
        self.certify_params = certify_params
        self.empirical = empirical

    def plot(
        self, ax: Axes | None = None, *, name: str | None = None, **kwargs: Any
    ) -> CertifiedAccuracyDisplay:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones where it is None.
        name : str, default=None
            Name in the legend; that of the display where it is None.
        **kwargs : dict
            Passed on to ``ax.plot`` for the curve, such as ``color`` or ``linestyle``.

        Returns
        -------
        CertifiedAccuracyDisplay
            The display itself.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed; it comes with the extra "plot".
        ValueError
            If `ax` holds a curve whose radii measure something else; if `kwargs` ask for another
            ``drawstyle``, which would draw another function; if `empirical` is malformed.
        """
        pyplot = import_extra("matplotlib.pyplot", extra="plot")
        if "drawstyle" in kwargs or "ds" in kwargs:
            raise ValueError(
                "drawstyle cannot be chosen: only 'steps-pre' shows the certified accuracy at "
                "every radius."
            )
        empirical = None if self.empirical is None else _check_empirical(self.empirical)
        radius_label = None if self.threat_model is None else self.threat_model.radius_label()
        if ax is None:
            _, ax = pyplot.subplots()
        elif radius_label is not None:
            _check_same_radius(ax, radius_label)

        radii, heights = np.asarray(self.radii), np.asarray(self.certified_accuracy)
        # "steps-pre" continues each height to the left of its point: (r[k-1], r[k]] is where
        # `radii >= r` counts the same rows. The last point is the drop to 0 behind the curve.
        self.line_: Line2D = ax.plot(
            np.append(radii, radii[-1]),
            np.append(heights, 0.0),
            **{"drawstyle": "steps-pre", "label": self._legend_label(name), **kwargs},
        )[0]
        # No margin is added beyond 0, and later curves may still widen the axis.
        self.line_.sticky_edges.x.append(0)
        if radius_label is not None:
            _RADIUS_LABELS[self.line_] = radius_label
            ax.set_xlabel(radius_label)
        elif not ax.get_xlabel():
            ax.set_xlabel("certified radius")
        ax.set_ylabel("certified accuracy")
        ax.set_ylim(0, 1.05)
        if radii.dtype.kind in "iu":
            ticker = import_extra("matplotlib.ticker", extra="plot")
            ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))

        self.empirical_line_: Line2D | None = None
        if empirical is not None:
            self.empirical_line_ = ax.plot(
                *empirical,
                linestyle="none",
                marker="o",
                fillstyle="none",
                color=self.line_.get_color(),
                label=f"{self._name(name)}, under attack",
                clip_on=False,  # Markers at size 0 or accuracy 0 would lose half their face.
            )[0]
            self.empirical_line_.sticky_edges.x.append(0)
        ax.legend(loc="upper right")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        certify_params: dict[str, Any] | None = None,
        empirical: tuple[ArrayLike, ArrayLike] | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> CertifiedAccuracyDisplay:
        """Certify the rows of X and draw the curve.

        Parameters
        ----------
        estimator : estimator
            A fitted estimator with ``certify``, or a Pipeline or search around one.
        X : array-like of shape (n_samples, n_features)
            Rows to certify.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, at least 0.
        certify_params : dict, default=None
            Passed on to ``certify`` and shown in the legend, such as ``{"n_poisoned": 10}``.
        empirical : tuple of two array-like of shape (n_attacks,), default=None
            Sizes of attacks that were carried out, in the unit of the radii, and the accuracies
            that they left; drawn as markers.
        name : str, default=None
            Name in the legend; that of the certifying estimator's class where it is None.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones where it is None.
        **kwargs : dict
            Passed on to ``ax.plot`` for the curve.

        Returns
        -------
        CertifiedAccuracyDisplay
            The display, drawn.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed; it comes with the extra "plot".
        NotCertifiableError
            If `estimator` has no certificate to offer.
        ValueError
            As :meth:`from_predictions` does.
        """
        # Certifying can take long; what would fail afterwards for want of matplotlib fails now.
        import_extra("matplotlib.pyplot", extra="plot")
        certifier = find_certifier(estimator)
        result = certify(estimator, X, **(certify_params or {}))
        display = cls._from_predictions(y, result.y_pred, result.radii, sample_weight)
        display.name = type(certifier).__name__ if name is None else name
        display.threat_model = certifier.threat_model_
        display.certify_params = certify_params
        display.empirical = empirical
        return display.plot(ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        radii: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        threat_model: ThreatModel | None = None,
        empirical: tuple[ArrayLike, ArrayLike] | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> CertifiedAccuracyDisplay:
        """Draw the curve of labels and radii that ``certify`` returned.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        y_pred : array-like of shape (n_samples,)
            Labels predicted by ``certify``.
        radii : array-like of shape (n_samples,)
            Radii returned by ``certify``; -1 is an abstention.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, at least 0.
        threat_model : ThreatModel, default=None
            The estimator's ``threat_model_``: it labels the axis. Without it the axis reads
            "certified radius", with no unit.
        empirical : tuple of two array-like of shape (n_attacks,), default=None
            Sizes of attacks that were carried out, in the unit of the radii, and the accuracies
            that they left; drawn as markers.
        name : str, default=None
            Name in the legend; "Classifier" where it is None.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones where it is None.
        **kwargs : dict
            Passed on to ``ax.plot`` for the curve.

        Returns
        -------
        CertifiedAccuracyDisplay
            The display, drawn.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed; it comes with the extra "plot".
        ValueError
            As :func:`certified_accuracy` and :meth:`plot` do.
        """
        display = cls._from_predictions(y_true, y_pred, radii, sample_weight)
        display.name = name
        display.threat_model = threat_model
        display.empirical = empirical
        return display.plot(ax, **kwargs)

    @classmethod
    def _from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        radii: ArrayLike,
        sample_weight: ArrayLike | None,
    ) -> CertifiedAccuracyDisplay:
        grid, heights = certified_accuracy_curve(y_true, y_pred, radii, sample_weight=sample_weight)
        radii = check_radii(radii)
        correct = correct_rows(y_true, y_pred, radii.size)
        weight = check_sample_weight(sample_weight, radii.size)
        # At -1 every row counts, abstentions too: the accuracy of the plain predictions.
        accuracy = share_at(correct, radii, np.asarray(-1.0), weight)
        return cls(radii=grid, certified_accuracy=heights, accuracy=float(accuracy))

    def _name(self, name: str | None) -> str:
        return next(known for known in (name, self.name, "Classifier") if known is not None)

    def _legend_label(self, name: str | None) -> str:
        """Name of the curve, and what a reader must know to compare it with another."""
        details = [] if self.accuracy is None else [f"accuracy = {self.accuracy:.3f}"]
        # The bounds are only reported; every other parameter can change what a radius means.
        details += [
            f"{key} = {value}"
            for key, value in (self.certify_params or {}).items()
            if key != "return_bounds"
        ]
        if self.threat_model is not None and not self.threat_model.exact:
            details.append(self.threat_model.how_sure)
        return f"{self._name(name)} ({', '.join(details)})" if details else self._name(name)


def _check_same_radius(ax: Axes, radius_label: str) -> None:
    """Refuse an axes with a curve whose radii measure something else."""
    for line in ax.get_lines():
        drawn = _RADIUS_LABELS.get(line, radius_label)
        if drawn != radius_label:
            raise ValueError(
                f"ax shows a curve over {drawn!r} and this one is over {radius_label!r}. Radii "
                "of different threat models cannot be compared; use another axes."
            )


def _check_empirical(
    empirical: tuple[ArrayLike, ArrayLike],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(empirical) != 2:
        raise ValueError(
            "empirical must be a pair of sizes and accuracies, "
            f"got a sequence of length {len(empirical)}."
        )
    sizes = check_radius(empirical[0])
    accuracies = np.asarray(empirical[1], dtype=np.float64)
    if sizes.ndim != 1 or sizes.shape != accuracies.shape:
        raise ValueError(
            "empirical must be two one-dimensional sequences of equal length, "
            f"got the shapes {sizes.shape} and {accuracies.shape}."
        )
    bad = ~((accuracies >= 0) & (accuracies <= 1))
    if bad.any():
        raise ValueError(f"empirical accuracies must lie in [0, 1], got {accuracies[bad][0]}.")
    return sizes, accuracies
