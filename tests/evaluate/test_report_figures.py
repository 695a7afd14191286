"""What the figures of a report show."""

import math

import numpy as np
import pytest

from lacunar.evaluate.report_figures import (
    Example,
    Point,
    evaluations_panels,
    examples_figure,
    reliability_panels,
    strata_panels,
)
from lacunar.plotting import save_figure

NOMINAL = np.arange(1, 20) / 20


def lines_of(axes):
    return {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}


def legend_of(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def example(side=12, **changes):
    truth = 290.0 + np.arange(side * side).reshape(side, side) / 10
    gap = np.zeros((side, side), bool)
    gap[3:6, 3:6] = True
    fills = {"kriging": truth + 2.0, "mine": truth - 0.5}
    parts = {"label": "muenster", "truth": truth, "gap": gap, "fills": fills, "sample": truth + 1.0}
    return Example(**(parts | {"sigma": np.full(truth.shape, 0.7)} | changes))


def test_a_curve_has_one_look_in_all_panels_and_one_legend():
    observed = {"15 % missing": {"a": NOMINAL, "b": NOMINAL**2}, "50 % missing": {"b": NOMINAL}}
    figure = reliability_panels(NOMINAL, observed)
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == list(observed)
    assert legend_of(figure) == ["a", "b"]
    assert lines_of(first)["b"].get_color() == lines_of(second)["b"].get_color() != lines_of(first)["a"].get_color()
    np.testing.assert_allclose(lines_of(first)["b"].get_ydata(), NOMINAL**2)
    assert first.get_xlabel() == "nominal coverage"


def test_distance_shows_every_curve_whole():
    errors = {"15 %": {"a": [1.0, 2.0, math.nan]}, "50 %": {"a": [1.0, 2.0, 30.0]}}
    figure = strata_panels(
        ["up to 1 px", "1 to 2 px", "over 2 px"], errors, x_label="distance", y_label="RMSE in the gap (K)"
    )
    assert all(axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 30 for axes in figure.axes)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["up to 1", "1 to 2", "over 2"]
    assert figure.axes[0].get_ylabel() == "RMSE in the gap (K)"


def test_evaluations_are_on_a_logarithmic_axis_with_bars_and_levels():
    curves = {"15 %": {"net": [Point(2, 2.0, 1.5, 2.4), Point(80, 1.0, math.nan, math.nan)]}}
    figure = evaluations_panels(curves, {"15 %": {"kriging": 1.4}}, x_label="evaluations", y_label="RMSE")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert sorted(legend_of(figure)) == ["kriging", "net"]
    (bars,) = axes.containers
    assert bars.lines[0].get_xdata().tolist() == [2, 80]
    ends = [segment[:, 1] for segment in bars.lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[1.5, 2.4], [1.0, 1.0]])
    assert axes.get_xticks().tolist() == [2, 80]
    assert lines_of(axes)["kriging"].get_ydata() == pytest.approx([1.4, 1.4])


def test_examples_share_their_scales():
    other = 310.0 + np.arange(144).reshape(12, 12)
    figure = examples_figure([example(reference=other), example(reference=other)], title="22 % missing")
    pictures = [axes for axes in figure.axes if axes.images][:8]
    titles = [" ".join(axes.get_title().split()) for axes in pictures]
    assert titles == [
        *("truth", "given", "reference (own scale)", "kriging", "mine", "one sample"),
        *("|error| mine", "sigma mine"),
    ]
    scales = {title: axes.images[-1].get_clim() for title, axes in zip(titles, pictures, strict=True)}
    assert scales["truth"] == scales["given"] == scales["mine"] == scales["one sample"]
    assert scales["|error| mine"] == scales["sigma mine"]
    assert scales["reference (own scale)"][0] == pytest.approx(310 - 273.15, abs=1.0)
    drawn = {
        title: np.ma.filled(axes.images[-1].get_array(), np.nan) for title, axes in zip(titles, pictures, strict=True)
    }
    gap = example().gap
    assert np.isnan(drawn["given"][gap]).all()
    np.testing.assert_allclose(drawn["|error| mine"], np.where(gap, 0.5, 0.0), atol=1e-9)
    np.testing.assert_allclose(drawn["truth"][0, 0], 290.0 - 273.15)
    np.testing.assert_allclose(drawn["kriging"][~gap], drawn["truth"][~gap])
    np.testing.assert_allclose(drawn["kriging"][gap], drawn["truth"][gap] + 2.0)


def test_figures_are_written(tmp_path):
    figure = examples_figure([example(sample=None, sigma=None)], title="one")
    assert save_figure(figure, tmp_path / "a.png").stat().st_size > 1000
    assert save_figure(reliability_panels(NOMINAL, {"a": {"b": NOMINAL}}), tmp_path / "b.png").stat().st_size > 1000


def test_misfits_are_refused():
    with pytest.raises(ValueError, match="got no panel"):
        reliability_panels(NOMINAL, {})
    with pytest.raises(ValueError, match=r"got a of \(2,\) for 19 places"):
        reliability_panels(NOMINAL, {"x": {"a": [0.1, 0.2]}})
    with pytest.raises(ValueError, match="got no point"):
        evaluations_panels({"x": {"a": []}}, {}, x_label="x", y_label="y")
    with pytest.raises(ValueError, match="got 2 examples; wanted one or more, all with the same panels"):
        examples_figure([example(), example(sigma=None)], title="x")
    with pytest.raises(ValueError, match=r"got fills \['a'\] for a truth of \(12, 12\)"):
        examples_figure([example(fills={"a": np.zeros((3, 3))})], title="x")
