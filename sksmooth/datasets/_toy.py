# SPDX-License-Identifier: BSD-3-Clause
"""Small data sets that need no download, for examples and tests."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from ._bunch import make_bunch

# Invented: the chance, in percent, that a word of an e-mail is this one, for ham and for spam.
_WORD_RATES = {
    "free": (0.2, 1.2),
    "money": (0.1, 0.9),
    "offer": (0.1, 0.8),
    "credit": (0.1, 0.5),
    "remove": (0.1, 0.8),
    "your": (1.0, 2.0),
    "meeting": (0.8, 0.1),
    "project": (0.8, 0.2),
    "report": (0.6, 0.2),
    "regards": (0.8, 0.4),
}
# The same for its characters.
_CHAR_RATES = {"!": (0.1, 0.4), "$": (0.02, 0.12)}
_SPAM_SHARE = 0.4
_CHARS_PER_WORD = 5

_EMAILS_DESCR = """\
Synthetic e-mails, drawn at random and modelled on no real ones: percentages of some words and
characters, 40 % of the rows spam (target 1). An e-mail has 20 words and a Poisson number with
mean 80 more, and five characters to a word. Its words, and independently its characters, are
independent draws with the rates of its class, so that naive Bayes is the right model and short
e-mails of the two classes overlap.
"""


@validate_params(
    {
        "n_samples": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
        "return_X_y": ["boolean"],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_toy_emails(
    n_samples: int = 200,
    *,
    random_state: int | RandomState | None = None,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Bunch | tuple[Any, Any]:
    """Draw a small synthetic table of e-mails, as frequencies of words and characters.

    It has the form of Spambase (:func:`fetch_spambase`) without a download: 10 features
    ``word_freq_WORD`` and 2 features ``char_freq_CHAR``, all in percent. ``DESCR`` says how a row
    is drawn.

    Parameters
    ----------
    n_samples : int, default=200
        Number of rows, at least 2. ``round(0.4 * n_samples)`` of them are spam, in random places.
    random_state : int, RandomState instance or None, default=None
        Draws the rows.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return a DataFrame and a Series (this needs pandas).

    Returns
    -------
    dataset : Bunch
        With the attributes

        data : ndarray or DataFrame of shape (n_samples, 12), float64
            Percentages, from 0 to 100.
        target : ndarray or Series of shape (n_samples,), int64
            1 for spam, 0 for the others.
        frame : DataFrame of shape (n_samples, 13), or None
            With `as_frame`: `data` and the column ``"spam"``.
        feature_names : list of 12 str
            Column names of `data`.
        target_names : list of 2 str
            Names of the labels 0 and 1.
        DESCR : str
            Description.

    (data, target) : tuple
        With `return_X_y`.

    Raises
    ------
    ValueError
        If `n_samples` is below 2 or `random_state` is of no use as a seed.
    MissingExtraError
        With `as_frame`, if pandas is not installed.

    Examples
    --------
    >>> from sksmooth.datasets import make_toy_emails
    >>> emails = make_toy_emails(50, random_state=0)
    >>> emails.data.shape, int(emails.target.sum())
    ((50, 12), 20)
    >>> emails.feature_names[0], emails.target_names
    ('word_freq_free', ['not spam', 'spam'])
    """
    rng = check_random_state(random_state)
    target = (np.arange(n_samples) < round(_SPAM_SHARE * n_samples)).astype(np.int64)
    rng.shuffle(target)
    data = np.empty((n_samples, len(_WORD_RATES) + len(_CHAR_RATES)))
    words = np.array(list(_WORD_RATES.values())).T / 100
    chars = np.array(list(_CHAR_RATES.values())).T / 100
    for row, label in zip(data, target, strict=True):
        n_words = 20 + rng.poisson(80)
        row[: len(_WORD_RATES)] = _percentages(n_words, words[label], rng)
        row[len(_WORD_RATES) :] = _percentages(_CHARS_PER_WORD * n_words, chars[label], rng)
    return make_bunch(
        data,
        target,
        feature_names=[
            *(f"word_freq_{word}" for word in _WORD_RATES),
            *(f"char_freq_{char}" for char in _CHAR_RATES),
        ],
        target_column="spam",
        target_names=["not spam", "spam"],
        DESCR=_EMAILS_DESCR,
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def _percentages(n_draws: int, rates: NDArray[np.float64], rng: RandomState) -> NDArray[np.float64]:
    """Draw `n_draws` words, return the percentage of each listed one (the rest is not listed)."""
    counts = rng.multinomial(n_draws, [*rates, 1.0 - rates.sum()])[:-1]
    return 100.0 * counts / n_draws


@validate_params(
    {
        "classes": ["array-like"],
        "return_X_y": ["boolean"],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_toy_digits(
    classes: Sequence[int] = (0, 1), *, return_X_y: bool = False, as_frame: bool = False
) -> Bunch | tuple[Any, Any]:
    """Load some classes of scikit-learn's 8 x 8 digits, with pixels in [0, 1].

    These are the rows of :func:`sklearn.datasets.load_digits` with a label in `classes`, in their
    order there, with the pixels divided by 16. Nothing is random and nothing is downloaded.

    Parameters
    ----------
    classes : sequence of int, default=(0, 1)
        At least two different digits from 0 to 9. The order does not matter.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return a DataFrame and a Series (this needs pandas).

    Returns
    -------
    dataset : Bunch
        With the attributes

        data : ndarray or DataFrame of shape (n_samples, 64), float64
            Pixels, multiples of 1/16 from 0 (background) to 1.
        target : ndarray or Series of shape (n_samples,), int64
            The digit.
        frame : DataFrame of shape (n_samples, 65), or None
            With `as_frame`: `data` and the column ``"target"``.
        feature_names : list of 64 str
            Column names of `data`, ``"pixel_ROW_COLUMN"``.
        target_names : list of str
            Names of the labels, ascending.
        images : ndarray of shape (n_samples, 8, 8), float64
            The rows of `data` as images.
        DESCR : str
            Description and origin.

    (data, target) : tuple
        With `return_X_y`.

    Raises
    ------
    ValueError
        If `classes` are not at least two different digits.
    MissingExtraError
        With `as_frame`, if pandas is not installed.

    Examples
    --------
    >>> from sksmooth.datasets import make_toy_digits
    >>> X, y = make_toy_digits(return_X_y=True)
    >>> X.shape, float(X.max()), sorted(set(y.tolist()))
    ((360, 64), 1.0, [0, 1])
    """
    digits: list[Any] = list(classes)
    valid = all(
        not isinstance(d, bool) and isinstance(d, Integral) and 0 <= int(d) <= 9 for d in digits
    )
    if not valid or len(set(digits)) != len(digits) or len(digits) < 2:
        raise ValueError(
            f"classes must be at least two different digits from 0 to 9, got {classes!r}."
        )
    source = load_digits()
    rows = np.isin(source.target, digits)
    data = source.data[rows] / 16.0  # 16 is the largest value there; exact in floating point
    return make_bunch(
        data,
        source.target[rows].astype(np.int64),
        feature_names=source.feature_names,
        target_column="target",
        target_names=[str(digit) for digit in sorted(digits)],
        images=data.reshape(-1, 8, 8).copy(),
        DESCR="Pixels divided by 16, and only some of the classes.\n\n" + source.DESCR,
        return_X_y=return_X_y,
        as_frame=as_frame,
    )
