# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sksmooth.metrics import CertifiedAccuracyDisplay, certified_accuracy

from ._fakes import Stump, doubled

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
pyplot = pytest.importorskip("matplotlib.pyplot")

X = np.array([-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 4.0])[:, np.newaxis]
Y = np.array([-1, -1, -1, 1, -1, 1, 1, -1, 1, 1])
from_estimator = CertifiedAccuracyDisplay.from_estimator
from_predictions = CertifiedAccuracyDisplay.from_predictions


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


@pytest.fixture
def stump():
    return Stump(deadband=0.25).fit(X, Y)


def height_at(line, radius):
    """Height of the drawn path at a radius: of its horizontal pieces, the one that covers it.

    The path that the renderer gets is read back, steps included, so a wrong drawstyle shows.
    """
    from matplotlib.cbook import STEP_LOOKUP_MAP

    steps = STEP_LOOKUP_MAP[line.get_drawstyle()](*line.get_data())
    x, y = np.array(steps)
    covering = [y[k] for k in range(len(x) - 1) if y[k] == y[k + 1] and x[k] < radius <= x[k + 1]]
    return covering[0] if covering else 0.0


def probes(radii):
    edges = np.unique(radii[radii > 0])
    between = (edges[1:] + edges[:-1]) / 2
    return np.concatenate(
        [[1e-9], edges, np.nextafter(edges, 0), np.nextafter(edges, 9e9), between]
    )


def test_drawn_curve_is_the_metric(stump):
    """At the steps, one float to either side of them, and between them."""
    display = from_estimator(stump, X, Y)
    result = stump.certify(X)
    for radius in probes(result.radii):
        expected = certified_accuracy(Y, result.y_pred, result.radii, radius)
        assert height_at(display.line_, radius) == expected
    x, y = display.line_.get_data()
    assert (x[0], y[0]) == (0, certified_accuracy(Y, result.y_pred, result.radii, 0))
    assert (x[-1], y[-1]) == (result.radii.max(), 0)


@pytest.mark.parametrize("seed", range(5))
def test_drawn_curve_with_ties_and_weights(seed):
    rng = np.random.default_rng(seed)
    true, pred = rng.integers(0, 3, size=(2, 50))
    radii = rng.integers(-1, 6, size=50) / 4
    radii[radii < 0] = -1
    weight = rng.random(50)
    display = from_predictions(true, pred, radii, sample_weight=weight)
    for radius in probes(radii):
        expected = certified_accuracy(true, pred, radii, radius, sample_weight=weight)
        assert height_at(display.line_, radius) == expected
    accuracy = np.average(true == pred, weights=weight)
    assert display.accuracy == pytest.approx(accuracy, rel=64 * 2.0**-53)


def test_labels_from_an_estimator(stump):
    display = from_estimator(stump, X, Y)
    assert display.ax_.get_xlabel() == stump.threat_model_.radius_label()
    assert display.ax_.get_ylabel() == "certified accuracy"
    # Wrong are -0.5 and 1.5; the row at 0 is right, abstained on, and counted here.
    assert display.accuracy == 0.8
    assert display.line_.get_label() == "Stump (accuracy = 0.800)"
    (text,) = display.ax_.get_legend().get_texts()
    assert text.get_text() == "Stump (accuracy = 0.800)"
    assert display.figure_ is display.ax_.figure
    assert display.empirical_line_ is None


def test_legend_says_what_the_radius_depends_on():
    sampled = Stump(confidence_level=0.999).fit(X, Y)
    display = from_estimator(sampled, X, Y, name="mine", certify_params={"n_poisoned": 2})
    label = "mine (accuracy = 0.800, n_poisoned = 2, at confidence 0.999 per prediction)"
    assert display.line_.get_label() == label
    assert display.radii[-1] == 2.0
    display = from_estimator(sampled, X, Y, certify_params={"return_bounds": True})
    assert (
        display.line_.get_label() == "Stump (accuracy = 0.800, at confidence 0.999 per prediction)"
    )


def test_pipeline_is_unwrapped():
    pipe = make_pipeline(FunctionTransformer(doubled), Stump())
    display = from_estimator(pipe.fit(X, Y), X, Y)
    assert display.line_.get_label() == "Stump (accuracy = 0.800)"
    assert display.radii[-1] == 8.0


def test_several_curves_on_one_axes(stump):
    wider = Stump().fit(X, Y)
    first = from_estimator(stump, X, Y, certify_params={"n_poisoned": 4}, name="four")
    second = from_estimator(wider, X, Y, name="one", ax=first.ax_, color="k", linestyle="--")
    third = from_predictions([1], [1], [0.5], name="loose", ax=first.ax_)
    assert first.ax_ is second.ax_ is third.ax_
    assert first.ax_.get_lines()[:] == [first.line_, second.line_, third.line_]
    assert second.line_.get_color() == "k" and second.line_.get_linestyle() == "--"
    assert first.ax_.get_xlabel() == stump.threat_model_.radius_label()
    assert len(first.ax_.get_legend().get_texts()) == 3
    # The axis starts at 0 and was widened for the second curve.
    first.figure_.canvas.draw()
    left, right = first.ax_.get_xlim()
    assert left == 0 and right >= 4


def test_radii_of_two_threat_models_do_not_share_an_axes(stump):
    other = Stump(norm="linf").fit(X, Y)
    display = from_estimator(stump, X, Y)
    with pytest.raises(ValueError, match=r"over .certified l2 .*certified linf .* another axes"):
        from_estimator(other, X, Y, ax=display.ax_)
    assert len(display.ax_.get_lines()) == 1
    # The user's own wording, or a cleared axes, is no conflict.
    display.ax_.set_xlabel("radius")
    from_estimator(stump, X, Y, ax=display.ax_)
    display.ax_.clear()
    from_estimator(other, X, Y, ax=display.ax_)
    assert display.ax_.get_xlabel() == other.threat_model_.radius_label()


def test_axis_without_a_threat_model(stump):
    display = from_predictions(["a"], ["a"], [1.0])
    assert display.ax_.get_xlabel() == "certified radius"
    assert display.line_.get_label() == "Classifier (accuracy = 1.000)"
    named = from_predictions(["a"], ["a"], [1.0], threat_model=stump.threat_model_)
    assert named.ax_.get_xlabel() == stump.threat_model_.radius_label()


def test_abstaining_everywhere():
    display = from_predictions([1, -1], [1, -1], [-1, -1])
    assert display.line_.get_xydata().tolist() == [[0, 0], [0, 0]]
    assert display.line_.get_label() == "Classifier (accuracy = 1.000)"


def test_counts_get_whole_ticks():
    display = from_predictions([0, 1], [0, 1], np.array([1, 2]))
    assert display.radii.dtype.kind == "i"
    display.figure_.canvas.draw()
    ticks = display.ax_.get_xticks()
    assert np.array_equal(ticks, np.round(ticks))


def test_markers_of_attacks(stump):
    sizes, left = [0.0, 0.5, 1.5], [0.8, 0.7, 0.6]
    display = from_estimator(stump, X, Y, empirical=(sizes, left), color="C3")
    markers = display.empirical_line_
    assert np.array_equal(markers.get_data(), [sizes, left])
    assert markers.get_linestyle() == "None" and markers.get_marker() == "o"
    assert markers.get_color() == display.line_.get_color() == "C3"
    assert markers.get_label() == "Stump, under attack"


@pytest.mark.parametrize(
    ("empirical", "message"),
    [
        (([0.5],), "pair of sizes and accuracies, got a sequence of length 1"),
        (([0.5], [0.5, 0.6]), r"shapes \(1,\) and \(2,\)"),
        ((0.5, 0.5), "two one-dimensional sequences"),
        (([-0.5], [0.5]), "finite and at least 0, got -0.5"),
        (([0.5], [1.5]), r"in \[0, 1\], got 1.5"),
        (([0.5], [np.nan]), r"in \[0, 1\], got nan"),
    ],
)
def test_refuses_markers(empirical, message):
    with pytest.raises(ValueError, match=message):
        from_predictions([0], [0], [1.0], empirical=empirical)
    assert not pyplot.get_fignums()


@pytest.mark.parametrize("keyword", ["drawstyle", "ds"])
def test_refuses_another_drawstyle(keyword):
    with pytest.raises(ValueError, match="drawstyle cannot be chosen"):
        from_predictions([0], [0], [1.0], **{keyword: "steps-post"})


def test_refuses_what_the_metrics_refuse():
    with pytest.raises(ValueError, match="got nan in row 0"):
        from_predictions([0], [0], [np.nan])


def test_plot_again_under_another_name(stump):
    display = from_estimator(stump, X, Y)
    first = display.line_
    _, ax = pyplot.subplots()
    assert display.plot(ax, name="again") is display
    assert display.ax_ is ax and display.line_ is not first
    assert display.line_.get_label() == "again (accuracy = 0.800)"
    assert np.array_equal(display.line_.get_xydata(), first.get_xydata())
