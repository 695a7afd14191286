"""What the figures of a report show."""

import math

import numpy as np
import pandas as pd
import pytest

from lacunar.evaluate.plot import Image, cost_panels, image_rows, line_panels
from lacunar.plotting import save_figure

NOMINAL = np.arange(1, 20) / 20


def lines_of(axes):
    return {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}


def legend_of(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def curves(*parts):
    """A table of (panel, method, y) over the nominal coverages."""
    tables = [pd.DataFrame({"panel": p, "method": m, "x": NOMINAL, "y": y}) for p, m, y in parts]
    return pd.concat(tables)


def test_a_curve_has_one_look_in_all_panels_and_one_legend(tmp_path):
    table = curves(("15 %", "a", NOMINAL), ("15 %", "b", NOMINAL**2), ("50 %", "b", NOMINAL), ("50 %", "c", NOMINAL))
    figure = line_panels(table, ("panel", "x", "y"), ["a", "b"], labels=("nominal", "observed"), diagonal=("o", "u"))
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["15 %", "50 %"]
    assert legend_of(figure) == ["a", "b"]
    assert lines_of(first)["b"].get_color() == lines_of(second)["b"].get_color() != lines_of(first)["a"].get_color()
    np.testing.assert_allclose(lines_of(first)["b"].get_ydata(), NOMINAL**2)
    assert (first.get_xlabel(), first.get_ylabel()) == ("nominal", "observed")
    assert save_figure(figure, tmp_path / "a.png").stat().st_size > 1000


def test_strata_show_every_curve_whole():
    table = pd.DataFrame({"panel": ["15 %"] * 3 + ["50 %"] * 3, "method": "a", "x": [0, 1, 2] * 2})
    table["y"] = [1.0, 2.0, math.nan, 1.0, 2.0, 30.0]
    ticks = ["up to 1 px", "1 to 2 px", "over 2 px"]
    figure = line_panels(table, ("panel", "x", "y"), ["a"], labels=("distance", "RMSE"), ticks=ticks)
    assert all(axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 30 for axes in figure.axes)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["up to 1", "1 to 2", "over 2"]


def test_costs_are_on_a_logarithmic_axis_with_bars_and_levels():
    table = pd.DataFrame(
        {
            "panel": "15 %",
            "method": ["kriging", "net, 80", "net, 2"],
            "curve": [None, "net", "net"],
            "x": [0, 80, 2],
            "y": [1.4, 1.0, 2.0],
            "low": [1.0, math.nan, 1.5],
            "high": [1.5, math.nan, 2.4],
        }
    )
    figure = cost_panels(table, labels=("evaluations", "RMSE"))
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert sorted(legend_of(figure)) == ["kriging", "net"]
    (bars,) = axes.containers
    assert bars.lines[0].get_xdata().tolist() == [2, 80]
    ends = [segment[:, 1] for segment in bars.lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[1.5, 2.4], [1.0, 1.0]])
    assert axes.get_xticks().tolist() == [2, 80]
    assert lines_of(axes)["kriging"].get_ydata() == pytest.approx([1.4, 1.4])


def test_pictures_with_one_unit_share_a_bar():
    field = np.arange(144.0).reshape(12, 12)
    row = [
        Image("truth", field, "inferno", (0.0, 100.0), "°C"),
        Image("given", np.where(field < 20, np.nan, field), "inferno", (0.0, 100.0), "°C"),
        Image("colours", np.zeros((12, 12, 3))),
    ]
    figure = image_rows([("hill", row), ("dale", row)], title="22 %", side=1.5, keys={"found": "#56b4e9"})
    pictures = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in pictures[:3]] == ["truth", "given", "colours"]
    assert pictures[0].images[0].get_clim() == pictures[1].images[0].get_clim() == (0.0, 100.0)
    assert np.ma.is_masked(pictures[1].images[0].get_array())
    assert [axes.get_ylabel() for axes in figure.axes].count("°C") == 2  # one bar for each row
    assert legend_of(figure) == ["found"]


def test_misfits_are_refused():
    empty = pd.DataFrame({"panel": [], "method": [], "curve": [], "x": [], "y": []})
    with pytest.raises(ValueError, match="got no panel"):
        line_panels(empty, ("panel", "x", "y"), [], labels=("", ""))
    with pytest.raises(ValueError, match="got no panel"):
        cost_panels(empty, labels=("", ""))
    image = Image("a", np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match="got 2 rows; wanted one or more, all with the same pictures"):
        image_rows([("x", [image]), ("y", [image, image])], title="", side=1.0)
