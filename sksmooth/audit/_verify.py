# SPDX-License-Identifier: BSD-3-Clause
"""Checks records with fractions and mpmath; imports neither `smoothing` nor `confidence`."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .._extras import import_extra
from ._canonical import FORMAT, VERSION, record_digest
from ._frame import check_parts, disagreements, number_of_radii
from ._kinds import is_whole
from ._settings import why_bounds_do_not_fit, why_weights_do_not_fit

# What comes of a part that is missing, or is of another type.
_UNREADABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)


def verify_record(record: dict[str, Any] | str | PathLike[str]) -> Bunch:
    """Check a certificate record, and compute its radii again.

    The record must be as it was written (its digest), what it says of its threat model must be what
    its theorem is about, its classes and bounds must follow from the votes where it holds votes,
    and no radius may be above the one that the theorem gives for the bounds. All of it is computed
    from the record alone, in exact fractions or 60 digits, by other code than what made it. What it
    cannot show is that the votes, bounds or weights are those of the model and the inputs: for that
    they are computed again from these, whose digests and seeds it holds.

    Parameters
    ----------
    record : dict, str or path
        A record, its JSON text, or the path of a file that holds it.

    Returns
    -------
    Bunch
        With the attributes `holds` (bool: all of the above), `radii` (ndarray of shape (n_samples,)
        or (n_samples, m): the radii computed again, rounded down, -1 where nothing is certified)
        and `reasons` (list of str: what is wrong, empty where it holds).

    Raises
    ------
    MissingExtraError
        If mpmath is not installed.
    ValueError
        If it is not a record, or of a version that is not known.
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sksmooth import RABEnsembleClassifier
    >>> from sksmooth.audit import certificate_record, verify_record
    >>> X = [[float(i)] for i in range(20)] + [[50.0 + i] for i in range(20)]
    >>> y = ["ham"] * 20 + ["spam"] * 20
    >>> model = RABEnsembleClassifier(
    ...     LogisticRegression(), n_estimators=100, sigma=2.0, random_state=0
    ... ).fit(X, y)
    >>> record = certificate_record(model, [[10.0]], model.certify([[10.0]]))
    >>> verify_record(record).holds
    True
    >>> record["rows"][0]["radii"][0] += 0.5
    >>> verify_record(record).reasons
    ['The record was changed: its digest is another one.', 'Row 0: radius 3.50... is above 3.00...']
    """
    import_extra("mpmath", extra="audit")
    try:
        return _verified(*_read(record))
    except RecursionError:  # where a part is shown, say
        raise ValueError("record must not be nested as deeply as this one is.") from None


def _verified(record: dict[str, Any], is_as_written: bool) -> Bunch:
    reasons = []
    if not is_as_written or not _has_its_digest(record):
        reasons.append("The record was changed: its digest is another one.")
    try:
        contradictions = [f"The record says {reason}." for reason in disagreements(record)]
    except _UNREADABLE as failure:
        contradictions = [f"The record could not be read: {type(failure).__name__}: {failure}."]
    reasons += contradictions
    n_radii, found = number_of_radii(record["theorem"]), []
    for number, row in enumerate(record["rows"]):
        # Numbers out of their range could keep the theorem busy for years.
        radii, wrong = ([-1] * n_radii, []) if contradictions else _check_row(row, record, n_radii)
        found.append(radii)
        reasons += [f"Row {number}: {reason}" for reason in wrong]
    again = np.array(found).reshape(len(found), n_radii)
    again = again if record["several"] else again[:, 0]
    return Bunch(holds=not reasons, radii=again, reasons=reasons)


def _read(record: Any) -> tuple[dict[str, Any], bool]:
    """Return a record, and whether its numbers have the digits that were written."""
    is_as_written = True

    def read_float(text: str) -> float:
        # A float is written with as few digits as tell it from others: others stand for it as well.
        nonlocal is_as_written
        is_as_written &= Decimal(text) == Decimal(repr(float(text)))
        return float(text)

    def read_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Of two values of one key this reader would take the last, and another one the first.
        if len(dict(pairs)) < len(pairs):
            raise ValueError("A key is there twice.")
        return dict(pairs)

    if not isinstance(record, (dict, str, PathLike)):
        raise ValueError(f"record must be a dict, JSON or a path. Got {record!r:.80}.")
    if not isinstance(record, dict):
        text = str(record).removeprefix("\ufeff") if isinstance(record, str) else ""
        # Text in a string is told from a path: no file is named like JSON, or by nothing.
        if not isinstance(record, str) or (text and text.lstrip()[:1] not in ("{", "[", "")):
            text = Path(record).read_text(encoding="utf-8-sig")
        try:
            record = json.loads(text, parse_float=read_float, object_pairs_hook=read_pairs)
        except (ValueError, ArithmeticError, RecursionError) as failure:
            raise ValueError(f"record must be JSON. {failure}") from failure
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"record must be a {FORMAT!r}. Got {str(record)[:80]!r}.")
    if record.get("version") != VERSION:
        raise ValueError(
            f"record must be of version {VERSION}, the one known here. Got "
            f"{record.get('version')!r}."
        )
    check_parts(record)
    return record, is_as_written


def _has_its_digest(record: dict[str, Any]) -> bool:
    try:
        return bool(record_digest(record) == record.get("digest"))
    except (ValueError, TypeError, RecursionError):  # a number that is none, say
        return False


def _check_row(
    row: dict[str, Any], record: dict[str, Any], n_radii: int
) -> tuple[list[Any], list[str]]:
    """Return the radii of a row, and what is wrong with it."""
    from ._radii import RADII
    from ._votes import why_votes_do_not_show

    theorem, wrong = record["theorem"], []
    nothing: list[Any] = [-1] * n_radii
    if len(row["radii"]) != n_radii:
        return nothing, [f"it has {len(row['radii'])} radii, and {n_radii} were asked for."]
    try:
        if "votes" in row:
            reason = why_votes_do_not_show(row, record["sampling"])
        elif theorem["noise"] == "flips":
            reason = why_weights_do_not_fit(row, theorem)
        else:
            reason = why_bounds_do_not_fit(row, record)
        if reason is not None:
            return nothing, [f"{reason}."]
        if not _is_class(row["y_pred"], row["top"], record["classes"]):
            wrong.append(f"y_pred is not class number {row['top']}.")
        found = [_rounded_down(radius) for radius in RADII[theorem["noise"]](row, theorem)]
        found *= n_radii // len(found)  # where other changes were asked for, and none is covered
        for claimed, radius in zip(row["radii"], found, strict=True):
            if claimed != -1 and not 0 <= claimed <= radius:
                wrong.append(f"radius {claimed!r} is above {radius!r}.")
    except _UNREADABLE as failure:
        return nothing, [f"it could not be read: {type(failure).__name__}: {failure}."]
    return found, wrong


def _is_class(label: Any, number: Any, classes: list[Any]) -> bool:
    # By type as well: to Python true is 1, to who reads the JSON these are two labels.
    if not (is_whole(number) and 0 <= number < len(classes)):
        return False
    return type(label) is type(classes[number]) and bool(label == classes[number])


def _rounded_down(radius: Any) -> int | float:
    """Return a float of at most the radius, or an integer; -1 below 0."""
    if isinstance(radius, int):
        return radius
    if radius < 0:
        return -1.0
    nearest = float(radius)
    return nearest if nearest <= radius else math.nextafter(nearest, 0.0)
