# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sksmooth.metrics import (
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_curve,
    certified_rate,
)

# A hand-made example with ties: rows as (y_true, y_pred, radius).
ROWS = [
    ("ham", "ham", 0.5),
    ("ham", "spam", 0.5),
    ("spam", "spam", -1.0),
    ("spam", "spam", 0.0),
    ("ham", "ham", 2.0),
    ("spam", "ham", -1.0),
    ("spam", "spam", 0.25),
    ("ham", "ham", 0.5),
]
TRUE, PRED, RADII = (np.array(column) for column in zip(*ROWS, strict=True))
# Counted by hand: rate at 0 leaves out two abstentions; accuracy at 0 also the wrong 0.5.
BY_HAND = [
    # radius, accuracy, rate
    (0.0, 5 / 8, 6 / 8),
    (0.1, 4 / 8, 5 / 8),
    (0.25, 4 / 8, 5 / 8),
    (0.3, 3 / 8, 4 / 8),
    (0.5, 3 / 8, 4 / 8),
    (np.nextafter(0.5, 1), 1 / 8, 1 / 8),
    (2.0, 1 / 8, 1 / 8),
    (np.nextafter(2.0, 3), 0.0, 0.0),
]


def rows_strategy(elements):
    return st.lists(
        st.tuples(st.sampled_from([-1, 1]), st.sampled_from([-1, 1]), elements),
        min_size=1,
        max_size=30,
    )


# Few distinct values, so that ties between rows and with the radius are common.
RADIUS_VALUES = st.one_of(
    st.sampled_from([-1.0, 0.0, 0.1, 0.2, 0.30000000000000004, 0.3, 1.0]),
    st.floats(0, 1e6, allow_nan=False),
)
ASKED = st.one_of(st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.0]), st.floats(0, 2e6))


def naive_share(hits, weights):
    """Weighted share in rational arithmetic."""
    total = sum(Fraction(w) for w in weights)
    return sum(Fraction(w) for hit, w in zip(hits, weights, strict=True) if hit) / total


@pytest.mark.parametrize(("radius", "accuracy", "rate"), BY_HAND)
def test_by_hand(radius, accuracy, rate):
    assert certified_accuracy(TRUE, PRED, RADII, radius) == accuracy
    assert certified_rate(RADII, radius) == rate


def test_array_of_radii_keeps_its_shape():
    asked, accuracy, rate = (np.array(column) for column in zip(*BY_HAND, strict=True))
    np.testing.assert_array_equal(certified_accuracy(TRUE, PRED, RADII, asked), accuracy)
    np.testing.assert_array_equal(certified_rate(RADII, asked[::-1]), rate[::-1])
    np.testing.assert_array_equal(certified_rate(RADII, asked.reshape(2, 4)), rate.reshape(2, 4))
    assert certified_rate(RADII, []).shape == (0,)
    for value in (certified_rate(RADII, 0.5), certified_accuracy(TRUE, PRED, RADII, 0.5)):
        assert type(value) is float


def test_average_certified_radius_by_hand():
    # 0.5 + 0 + 2 + 0.25 + 0.5 over eight rows; the abstention is not -1/8.
    assert average_certified_radius(TRUE, PRED, RADII) == 3.25 / 8
    assert type(average_certified_radius(TRUE, PRED, RADII)) is float


def test_abstaining_everywhere_scores_zero():
    for score in (
        certified_accuracy([1, -1], [1, -1], [-1, -1], 0),
        certified_rate([-1, -1], 0),
        average_certified_radius([1, -1], [1, -1], [-1, -1]),
    ):
        assert score == 0.0


@pytest.mark.parametrize(
    "relabel",
    [
        {"ham": -1, "spam": 1},
        {"ham": 1, "spam": -1},
        {"ham": False, "spam": True},
        {"ham": 0.0, "spam": 2.0},
        {"ham": "-1", "spam": ""},
        {"ham": b"h", "spam": b"s"},
    ],
)
@pytest.mark.parametrize("dtype", [None, object])
def test_labels_are_only_compared(relabel, dtype):
    """A label of -1 is a label; abstention is read from the radius alone."""
    true = np.array([relabel[label] for label in TRUE], dtype=dtype)
    pred = np.array([relabel[label] for label in PRED])
    for radius, accuracy, _ in BY_HAND:
        assert certified_accuracy(true, pred, RADII, radius) == accuracy
        assert certified_accuracy(list(pred), list(true), RADII, radius) == accuracy
    assert average_certified_radius(true, pred, RADII) == 3.25 / 8


@settings(max_examples=200, deadline=None)
@given(rows=rows_strategy(RADIUS_VALUES), radius=ASKED, data=st.data())
def test_against_naive_loops(rows, radius, data):
    true, pred, radii = (np.array(column) for column in zip(*rows, strict=True))
    weights = data.draw(
        st.one_of(
            st.none(),
            st.lists(st.floats(0.01, 100), min_size=len(rows), max_size=len(rows)),
        )
    )
    known = [1] * len(rows) if weights is None else weights
    hits = [t == p and r >= radius for t, p, r in rows]
    certified = [r >= radius for _, _, r in rows]
    gained = sum(
        Fraction(w) * Fraction(float(r)) * (t == p and r >= 0)
        for (t, p, r), w in zip(rows, known, strict=True)
    )
    accuracy = certified_accuracy(true, pred, radii, radius, sample_weight=weights)
    rate = certified_rate(radii, radius, sample_weight=weights)
    acr = average_certified_radius(true, pred, radii, sample_weight=weights)
    if weights is None:
        # Counts are exact, so only the division rounds: the nearest float, nothing else.
        assert accuracy == float(naive_share(hits, known))
        assert rate == float(naive_share(certified, known))
    # At most 30 positive terms per sum: 64 roundings of 2**-53 bound the relative error.
    tolerance = 64 * 2.0**-53
    assert accuracy == pytest.approx(float(naive_share(hits, known)), rel=tolerance, abs=0)
    assert rate == pytest.approx(float(naive_share(certified, known)), rel=tolerance, abs=0)
    # abs: products of a weight and a denormal radius lose digits below 2**-1074 each.
    expected = float(gained / sum(Fraction(w) for w in known))
    assert acr == pytest.approx(expected, rel=tolerance, abs=1e-320)


@settings(max_examples=200, deadline=None)
@given(rows=rows_strategy(RADIUS_VALUES), data=st.data())
def test_order_relations(rows, data):
    """Not increasing in the radius, and accuracy <= rate <= 1, exactly so in floating point."""
    true, pred, radii = (np.array(column) for column in zip(*rows, strict=True))
    weights = data.draw(st.lists(st.floats(0, 1e3), min_size=len(rows), max_size=len(rows)))
    weights[0] += 1.0
    asked = np.sort(data.draw(st.lists(ASKED, min_size=1, max_size=10)))
    accuracy = certified_accuracy(true, pred, radii, asked, sample_weight=weights)
    rate = certified_rate(radii, asked, sample_weight=weights)
    assert (np.diff(accuracy) <= 0).all() and (np.diff(rate) <= 0).all()
    assert (0 <= accuracy).all() and (accuracy <= rate).all() and (rate <= 1).all()


@settings(max_examples=100, deadline=None)
@given(rows=rows_strategy(st.integers(-1, 6)), order=st.randoms(use_true_random=False))
def test_order_of_rows_plays_no_part(rows, order):
    shuffled = list(rows)
    order.shuffle(shuffled)
    columns = [tuple(map(np.array, zip(*some, strict=True))) for some in (rows, shuffled)]
    grid, _ = certified_accuracy_curve(*columns[0])
    values = [
        (certified_accuracy(*c, grid).tolist(), average_certified_radius(*c)) for c in columns
    ]
    assert values[0] == values[1]


@settings(max_examples=100, deadline=None)
@given(rows=rows_strategy(st.integers(-1, 6)), data=st.data())
def test_weights_are_repetitions(rows, data):
    counts = data.draw(st.lists(st.integers(0, 4), min_size=len(rows), max_size=len(rows)))
    counts[0] += 1
    true, pred, radii = (np.array(column) for column in zip(*rows, strict=True))
    repeated = tuple(np.repeat(column, counts) for column in (true, pred, radii))
    for radius in range(8):
        assert certified_accuracy(
            true, pred, radii, radius, sample_weight=counts
        ) == certified_accuracy(*repeated, radius)
        assert certified_rate(radii, radius, sample_weight=counts) == certified_rate(
            repeated[2], radius
        )
    assert average_certified_radius(
        true, pred, radii, sample_weight=counts
    ) == average_certified_radius(*repeated)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_weights_have_no_scale(scale):
    weights = np.arange(8) * scale
    assert certified_rate(RADII, 0.5, sample_weight=weights) == pytest.approx(
        certified_rate(RADII, 0.5, sample_weight=np.arange(8)), rel=1e-14
    )


def test_float32_radii_are_compared_in_float64():
    """Rounded to float32, this radius would equal the row's and count as certified."""
    radii = np.array([0.3], dtype=np.float32)
    above = np.nextafter(np.float64(radii[0]), 1)
    assert np.float32(above) == radii[0]
    assert certified_rate(radii, above) == 0.0
    assert certified_rate(radii, float(radii[0])) == 1.0


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64])
def test_integer_radii(dtype):
    radii = np.array([-1, 0, 3, 3], dtype=dtype)
    assert certified_rate(radii, [0, 0.5, 1, 3, 3.5]).tolist() == [0.75, 0.5, 0.5, 0.5, 0.0]
    assert average_certified_radius([0] * 4, [0] * 4, radii) == 1.5
    grid, accuracy = certified_accuracy_curve([0] * 4, [0, 0, 0, 1], radii)
    assert grid.dtype == dtype
    assert grid.tolist() == [0, 3] and accuracy.tolist() == [0.5, 0.25]


@settings(max_examples=150, deadline=None)
@given(rows=rows_strategy(RADIUS_VALUES), radius=ASKED)
def test_curve_is_the_metric_at_every_radius(rows, radius):
    """Read as documented, the curve gives the metric between, at and beyond its points."""
    true, pred, radii = (np.array(column) for column in zip(*rows, strict=True))
    grid, accuracy = certified_accuracy_curve(true, pred, radii)
    assert grid[0] == 0 and (np.diff(grid) > 0).all()
    probes = np.concatenate(
        [grid, np.nextafter(grid, np.inf), (grid[1:] + grid[:-1]) / 2, [radius]]
    )
    for probe in probes:
        # The interval (grid[k - 1], grid[k]] with the probe in it; none beyond the last.
        k = next((k for k, edge in enumerate(grid) if probe <= edge), None)
        expected = 0.0 if k is None else accuracy[k]
        assert certified_accuracy(true, pred, radii, probe) == expected
        hits = [t == p and r >= probe for t, p, r in rows]
        assert expected == float(Fraction(sum(hits), len(hits)))


@settings(max_examples=100, deadline=None)
@given(rows=rows_strategy(RADIUS_VALUES))
def test_average_radius_is_the_area_under_the_curve(rows):
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    grid, accuracy = certified_accuracy_curve(*columns)
    area = sum(
        (Fraction(float(b)) - Fraction(float(a))) * Fraction(float(height))
        for a, b, height in zip(grid[:-1], grid[1:], accuracy[1:], strict=True)
    )
    # Each height is a rounded quotient: at most 2**-53 relative, as are product and mean.
    assert average_certified_radius(*columns) == pytest.approx(
        float(area), rel=8 * 2.0**-53, abs=1e-320
    )


def test_curve_on_a_given_grid():
    grid, accuracy = certified_accuracy_curve(TRUE, PRED, RADII, radii_grid=[0, 0.3, 0.5, 5])
    assert grid.tolist() == [0, 0.3, 0.5, 5]
    assert accuracy.tolist() == [5 / 8, 3 / 8, 3 / 8, 0]
    weights = np.arange(1, 9)
    _, weighted = certified_accuracy_curve(
        TRUE, PRED, RADII, radii_grid=[0, 0.5], sample_weight=weights
    )
    assert weighted.tolist() == [(1 + 4 + 5 + 7 + 8) / 36, (1 + 5 + 8) / 36]


@pytest.mark.parametrize(
    "grid", [[], [[0, 1]], 1.0, [1, 1], [1, 0], np.array([3, 1], dtype=np.uint8)]
)
def test_curve_refuses_a_grid_that_does_not_increase(grid):
    with pytest.raises(ValueError, match="radii_grid must .* strictly increasing"):
        certified_accuracy_curve(TRUE, PRED, RADII, radii_grid=grid)


@pytest.mark.parametrize("bad", [-1e-300, -1, np.nan, np.inf, [0, np.nan], [0.5, -1]])
def test_refuses_a_radius_that_is_none(bad):
    for score in (
        lambda: certified_rate(RADII, bad),
        lambda: certified_accuracy(TRUE, PRED, RADII, bad),
        lambda: certified_accuracy_curve(TRUE, PRED, RADII, radii_grid=np.atleast_1d(bad)),
    ):
        with pytest.raises(ValueError, match="radius must be finite and at least 0, got"):
            score()


@pytest.mark.parametrize(
    ("radii", "message"),
    [
        ([0.5, np.nan], "got nan in row 1"),
        ([np.inf, 0.5], "got inf in row 0"),
        ([0.5, -np.inf], "got -inf in row 1"),
        ([0.5, -0.25], "got -0.25 in row 1"),
        ([0.5, -2], r"got -2\.0 in row 1"),
        ([[0.5, 1.0]], r"shape \(n_samples,\), got \(1, 2\)"),
        (0.5, r"shape \(n_samples,\), got \(\)"),
        ([], "at least one row"),
        ([True, False], "dtype bool"),
        (["1", "2"], "got the dtype"),
        (np.array([0.5, 1.0], dtype=object), "dtype object"),
        ([0.5j, 1.0], "dtype complex"),
    ],
)
def test_refuses_radii_that_certify_did_not_make(radii, message):
    for score in (
        lambda: certified_rate(radii, 0),
        lambda: certified_accuracy([0, 1], [0, 1], radii, 0),
        lambda: average_certified_radius([0, 1], [0, 1], radii),
        lambda: certified_accuracy_curve([0, 1], [0, 1], radii),
    ):
        with pytest.raises(ValueError, match=message):
            score()


@pytest.mark.skipif(
    np.dtype(np.longdouble).itemsize == 8, reason="longdouble is float64 on this platform"
)
def test_refuses_radii_wider_than_float64():
    """On its way to float64, a radius just below the one asked for would round up to it."""
    radii = np.array([1], dtype=np.longdouble) - np.finfo(np.longdouble).eps
    assert radii[0] < 1 and np.float64(radii[0]) == 1
    with pytest.raises(ValueError, match="at most 64 bits"):
        certified_rate(radii, 1.0)


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        ([0, 1], [0, 1, 1], "y_true must have one entry per row"),
        ([0, 1, 1], [0, 1], "y_pred must have one entry per row"),
        ([[0], [1], [1]], [0, 1, 1], "y_true must have one entry per row"),
        (["a", "b", "b"], [0, 1, 1], "y_true holds strings and y_pred holds numbers"),
        ([b"a", b"b", b"b"], ["a", "b", "b"], "y_true holds bytes and y_pred holds strings"),
        (np.array(["a", 1, 1], dtype=object), [0, 1, 1], "y_true mixes numbers and strings"),
        ([0, 1, 1], [0, np.nan, 1], "y_pred must not hold missing labels"),
        (np.array([0, None, 1], dtype=object), [0, 1, 1], "y_true .* got None"),
        (np.array(["a", np.nan, "b"], dtype=object), ["a", "b", "b"], "y_true .* got nan"),
        (np.array([0, 1, 1], dtype="M8[D]"), [0, 1, 1], "y_true .* dtype datetime64"),
    ],
)
def test_refuses_labels_that_do_not_compare(true, pred, message):
    radii = [0.5, 0.5, 0.5]
    for score in (
        lambda: certified_accuracy(true, pred, radii, 0),
        lambda: average_certified_radius(true, pred, radii),
        lambda: certified_accuracy_curve(true, pred, radii),
    ):
        with pytest.raises(ValueError, match=message):
            score()


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1, 1, 1], "one entry per row"),
        ([1, -1], "got -1.0 in row 1"),
        ([np.nan, 1], "got nan in row 0"),
        ([1, np.inf], "got inf in row 1"),
        ([0, 0], "positive, finite sum, got 0.0"),
        ([True, True], "dtype bool"),
    ],
)
def test_refuses_weights(weight, message):
    for score in (
        lambda: certified_rate([1, 2], 0, sample_weight=weight),
        lambda: certified_accuracy([0, 1], [0, 1], [1, 2], 0, sample_weight=weight),
        lambda: average_certified_radius([0, 1], [0, 1], [1, 2], sample_weight=weight),
        lambda: certified_accuracy_curve([0, 1], [0, 1], [1, 2], sample_weight=weight),
    ):
        with pytest.raises(ValueError, match=message):
            score()


def test_inputs_are_left_as_they_are():
    columns = [column.copy() for column in (TRUE, PRED, RADII)]
    for column in columns:
        column.setflags(write=False)
    certified_accuracy_curve(*columns)
    average_certified_radius(*columns)


def test_pandas_columns_compare_by_position():
    pandas = pytest.importorskip("pandas")
    true = pandas.Series(TRUE, index=np.arange(8)[::-1])
    radii = pandas.Series(RADII, index=np.arange(8) + 5)
    assert certified_accuracy(true, pandas.Series(PRED), radii, 0.5) == 3 / 8
