# SPDX-License-Identifier: BSD-3-Clause
"""Toy data: counts, ranges, the rates they are drawn with, and scikit-learn's own digits."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksmooth.datasets import _toy, make_toy_digits, make_toy_emails


@pytest.mark.parametrize(("n_samples", "n_spam"), [(2, 1), (3, 1), (50, 20), (200, 80)])
def test_emails_shape_and_counts(n_samples, n_spam):
    emails = make_toy_emails(n_samples, random_state=0)
    assert emails.data.shape == (n_samples, 12)
    assert emails.data.dtype == np.float64
    assert emails.target.dtype == np.int64
    assert emails.target.sum() == n_spam
    assert set(emails.target.tolist()) == {0, 1}
    assert len(emails.feature_names) == 12
    assert emails.frame is None


def test_emails_are_percentages_of_whole_words():
    emails = make_toy_emails(200, random_state=1)
    words, chars = emails.data[:, :10], emails.data[:, 10:]
    assert (emails.data >= 0).all()
    assert (words.sum(axis=1) <= 100).all()
    assert (chars.sum(axis=1) <= 100).all()
    for row_words, row_chars in zip(words, chars, strict=True):
        # A number of words, the same for the row's ten words and a fifth of its characters, must
        # turn all percentages into whole counts. Rounding: 100 * k / n * n / 100, a few ulp.
        lengths = np.arange(20, 300)
        counts = np.multiply.outer(lengths, row_words / 100)
        char_counts = np.multiply.outer(5 * lengths, row_chars / 100)
        off = np.abs(np.column_stack([counts, char_counts]) % 1 - 0.5) - 0.5
        assert (np.abs(off).max(axis=1) < 1e-9).any()


def test_emails_have_the_rates_of_their_class():
    # The mean percentage of a word over m e-mails has the word's rate p, and a variance of at most
    # p (100 - p) / (20 m), as no e-mail has under 20 words (here it has some 100: the bound is
    # loose by a factor 2 in the deviation). 24 means within 4 such deviations: 8 true ones.
    emails = make_toy_emails(5000, random_state=2)
    rates = np.array([*_toy._WORD_RATES.values(), *_toy._CHAR_RATES.values()])
    for label in (0, 1):
        rows = emails.data[emails.target == label]
        expected = rates[:, label]
        deviation = np.sqrt(expected * (100 - expected) / (20 * len(rows)))
        assert (np.abs(rows.mean(axis=0) - expected) < 4 * deviation).all()


def test_emails_can_be_learned_but_not_perfectly():
    X, y = make_toy_emails(1000, random_state=3, return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    assert 0.85 < cross_val_score(model, X, y, cv=5).mean() < 0.999


def test_emails_seed():
    one = make_toy_emails(30, random_state=5)
    two = make_toy_emails(30, random_state=np.random.RandomState(5))
    assert_array_equal(one.data, two.data)
    assert_array_equal(one.target, two.target)
    assert not np.array_equal(one.data, make_toy_emails(30, random_state=6).data)
    X, y = make_toy_emails(30, random_state=5, return_X_y=True)
    assert_array_equal(X, one.data)
    assert_array_equal(y, one.target)
    # Spam is not in one block.
    assert len(set(np.flatnonzero(np.diff(one.target)).tolist())) > 3


def test_emails_as_frame():
    pytest.importorskip("pandas")
    arrays = make_toy_emails(10, random_state=0)
    emails = make_toy_emails(10, random_state=0, as_frame=True)
    assert list(emails.frame.columns) == [*arrays.feature_names, "spam"]
    assert list(emails.data.columns) == arrays.feature_names
    assert emails.target.name == "spam"
    assert_array_equal(emails.data.to_numpy(), arrays.data)
    assert_array_equal(emails.target.to_numpy(), arrays.target)


@pytest.mark.parametrize("args", [{"n_samples": 1}, {"n_samples": 2.5}, {"random_state": "x"}])
def test_emails_errors(args):
    with pytest.raises(ValueError, match=next(iter(args))):
        make_toy_emails(**args)


@pytest.mark.parametrize("classes", [(0, 1), (8, 3), [1, 5, 9], range(10), np.array([2, 7])])
def test_digits_are_those_of_sklearn(classes):
    source = load_digits()
    digits = make_toy_digits(classes)
    kept = [i for i, label in enumerate(source.target) if label in list(classes)]
    assert_array_equal(16 * digits.data, source.data[kept])
    assert_array_equal(digits.target, source.target[kept])
    assert_array_equal(16 * digits.images, source.images[kept])
    assert digits.data.min() == 0
    assert digits.data.max() == 1
    assert digits.data.dtype == np.float64
    assert digits.target.dtype == np.int64
    assert digits.target_names == [str(d) for d in sorted(classes)]
    assert digits.feature_names[9] == "pixel_1_1"
    assert not np.shares_memory(digits.images, digits.data)


def test_digits_forms():
    pandas = pytest.importorskip("pandas")
    digits = make_toy_digits()
    X, y = make_toy_digits(return_X_y=True)
    assert_array_equal(X, digits.data)
    assert_array_equal(y, digits.target)
    framed = make_toy_digits(as_frame=True)
    assert isinstance(framed.frame, pandas.DataFrame)
    assert list(framed.frame.columns) == [*digits.feature_names, "target"]
    assert_array_equal(framed.data.to_numpy(), digits.data)
    assert_array_equal(framed.target.to_numpy(), digits.target)


@pytest.mark.parametrize(
    "classes", [(0,), (), (1, 1), (0, 10), (-1, 2), ("0", "1"), (0.0, 1.0), (True, False), 3]
)
def test_digits_errors(classes):
    with pytest.raises(ValueError, match="classes"):
        make_toy_digits(classes)
