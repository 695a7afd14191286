"""What the figures of an evaluation of water show."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lacunar.evaluate.water_report_figures import (
    FALSE,
    HIT,
    LAND_GREY,
    MISSED,
    UNKNOWN,
    WaterExample,
    composite,
    difference_map,
    probability_panels,
    scatter_panels,
    water_examples_figure,
)
from lacunar.plotting import save_figure


def planes(bands, side=20):
    made = np.full((6, side, side), np.nan)
    for number, band in enumerate(bands):
        made[band] = np.linspace(0, 1 + number, side)[None, :]
    return made


def example(**changes):
    truth = np.zeros((20, 20), bool)
    truth[5:12, 5:12] = True
    parts = {"label": "pond", "bands": planes((0, 1, 2)), "truth": truth, "valid": np.ones((20, 20), bool)}
    return WaterExample(**(parts | {"water": np.roll(truth, 2, axis=1), "probability": truth * 0.8} | changes))


def test_colours_are_true_else_near_infrared_else_grey():
    true = composite(planes((0, 1, 2)))
    assert true.shape == (20, 20, 3)
    assert (true[:, 0] == 0).all()
    assert (true[:, -1] == 1).all()
    bands = planes((1, 2, 3))
    bands[3] = bands[3][:, ::-1]
    infrared = composite(bands)
    assert infrared[0, 0].tolist() == [1, 0, 0]
    grey = composite(planes((4,)))
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    holed = planes((0, 1, 2))
    holed[1, 3, 3] = np.nan
    assert composite(holed)[3, 3].tolist() == [1, 1, 1]


def test_differences_have_a_colour_each():
    water, truth = np.array([[True, False, True, False, True]]), np.array([[True, True, False, False, False]])
    valid = np.array([[True, True, True, True, False]])
    colours = [to_rgb(colour) for colour in (HIT, MISSED, FALSE, LAND_GREY, UNKNOWN)]
    np.testing.assert_allclose(difference_map(water, truth, valid)[0], colours)
    assert len(set(colours)) == 5


def test_an_example_has_its_pictures(tmp_path):
    figure = water_examples_figure([example(), example(label="other")], title="ponds", method="net, 2 steps, K = 4")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["image", "truth", "net,\n2 steps, K = 4", "difference", "probability"]
    assert save_figure(figure, tmp_path / "a.png").stat().st_size > 1000
    plain = water_examples_figure([example(probability=None)], title="ponds", method="NDWI + Otsu")
    assert len([axes for axes in plain.axes if axes.images]) == 4
    large = np.zeros((1200, 700), bool)
    thinned = example(
        bands=np.ones((6, 1200, 700)), truth=large, valid=~large, water=large, probability=np.zeros(large.shape)
    )
    shown = water_examples_figure([thinned], title="x", method="y").axes[0].images[0].get_array()
    assert shown.shape == (400, 234, 3)


def test_points_and_curves_are_those_given():
    figure = scatter_panels({"lakes": {"net": ([0.1, 0.4], [0.5, 1.0])}, "ponds": {"dark": ([0.2], [0.0])}})
    (points,) = figure.axes[0].collections
    np.testing.assert_allclose(points.get_offsets(), [[0.1, 0.5], [0.4, 1.0]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["net", "dark"]
    curves = probability_panels({"lakes": {"net": ([0.1, np.nan, 0.9], [0.2, np.nan, 0.8])}})
    line = next(line for line in curves.axes[0].get_lines() if line.get_label() == "net")
    np.testing.assert_allclose(line.get_ydata(), [0.2, np.nan, 0.8])


def test_misfits_are_refused():
    with pytest.raises(ValueError, match="got 2 examples; wanted one or more, all with a probability or all without"):
        water_examples_figure([example(), example(probability=None)], title="x", method="y")
    with pytest.raises(ValueError, match="got 0 examples"):
        water_examples_figure([], title="x", method="y")
    with pytest.raises(ValueError, match="got no panel"):
        scatter_panels({})
    with pytest.raises(ValueError, match="got no panel"):
        probability_panels({})
