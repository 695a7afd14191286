"""Pictures of water: what is drawn is read back from arrays and artists."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lacunar.plotting import save_figure
from lacunar.segment.plot import (
    GAINED,
    KEPT,
    LOST,
    NOT_VALID,
    SHORE,
    DatedMap,
    change_figure,
    colour_image,
    overlay,
    shore_of,
    water_figure,
)


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def colour(rgb):
    return [round(255 * part) for part in rgb]


def lake(shape=(20, 30), rows=slice(5, 12), cols=slice(8, 20)):
    water = np.zeros(shape, bool)
    water[rows, cols] = True
    return water


def test_colours_are_red_green_blue_on_one_stretch():
    planes = np.full((6, 10, 10), np.nan)
    planes[:3] = np.random.default_rng(0).uniform(0.1, 0.5, (3, 10, 10))
    planes[:, 0, 0] = np.nan
    found = colour_image(planes)
    assert (found.dtype, found.shape) == (np.uint8, (10, 10, 3))
    assert found[0, 0].tolist() == colour(NOT_VALID)
    seen = planes[[2, 1, 0]][:, 1:].transpose(1, 2, 0)
    order = np.argsort(seen, axis=None)
    assert (np.diff(found[1:].ravel()[order].astype(int)) >= 0).all()  # brighter in any band is brighter in the picture


@pytest.mark.parametrize(
    ("present", "shown"),
    [((0, 1, 2, 3), (2, 1, 0)), ((1, 2, 3), (3, 2, 1)), ((1, 3, 4), (4, 3, 1)), ((3,), (3, 3, 3))],
)
def test_the_composite_is_the_best_that_the_bands_allow(present, shown):
    planes = np.full((6, 2, 6), np.nan)
    for band in present:
        planes[band] = 0.0
        planes[band, :, band] = 1.0  # a column in which this band alone shines
    found = colour_image(planes)
    for channel, band in enumerate(shown):
        assert found[0, band, channel] == 255
        assert found[0, band].tolist() == [255 if other == band else 0 for other in shown]


def test_an_image_without_any_valid_pixel_is_grey():
    assert (colour_image(np.full((6, 3, 3), np.nan)) == colour(NOT_VALID)).all()


def test_the_overlay_changes_water_alone_and_outlines_it():
    image = np.random.default_rng(1).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    water = lake()
    found = overlay(image, water)
    np.testing.assert_array_equal(found[~water], image[~water])
    shore = shore_of(water)
    assert (found[shore] == colour(SHORE)).all()
    assert shore.sum() == 2 * (7 + 12) - 4
    inside = water & ~shore
    assert (found[inside][:, 2].astype(int) >= image[inside][:, 2]).all()  # bluer


def test_the_border_of_the_image_is_no_shore():
    assert not shore_of(np.ones((4, 5), bool)).any()


def test_a_figure_of_one_image():
    water, image = lake(), np.zeros((20, 30, 3), np.uint8)
    probability = np.where(water, 0.9, 0.1)
    probability[0] = np.nan
    figure = water_figure(image, water, probability, np.full(water.shape, 0.2), title="A lake")
    found = panels(figure)
    assert list(found) == ["Image", "Water", "Probability", "Disagreement of samples"]
    assert figure.get_suptitle() == "A lake"
    drawn = found["Probability"].images[0]
    np.testing.assert_array_equal(np.ma.filled(drawn.get_array(), np.nan), probability)
    assert drawn.get_clim() == (0, 1.0)
    np.testing.assert_array_equal(found["Water"].images[0].get_array(), overlay(image, water))


def dated(title, water, valid=None):
    valid = np.ones(water.shape, bool) if valid is None else valid
    return DatedMap(title, np.zeros((*water.shape, 3), np.uint8), water, valid, "1.2 km²")


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_a_figure_of_change(count, tmp_path):
    maps = [dated(f"202{i}", lake(cols=slice(8 - i, 20 - i))) for i in range(count)]
    found = panels(change_figure(maps))
    dates = {f"202{i}: 1.2 km²" for i in range(count)}
    assert set(found) == dates | {f"202{i - 1} to 202{i}" for i in range(1, count)}
    save_figure(change_figure(maps), tmp_path / "change.png", dpi=40)


def test_what_changed_has_its_colour():
    valid = np.ones((20, 30), bool)
    valid[:2] = False
    before, after = lake(), lake(cols=slice(10, 25))
    figure = change_figure([dated("a", before), dated("b", after, valid)])
    drawn = panels(figure)["a to b"].images[0].get_array()
    for where, rgb in (
        (before & after, KEPT),
        (after & ~before, GAINED),
        (before & ~after, LOST),
        (~valid, NOT_VALID),
        (valid & ~before & ~after, (1, 1, 1)),
    ):
        assert (drawn[where] == colour(rgb)).all()
    (legend,) = figure.legends
    named = dict(zip([text.get_text() for text in legend.get_texts()], legend.get_patches(), strict=True))
    assert to_rgb(named["gained"].get_facecolor()) == pytest.approx(GAINED)


def test_figures_that_cannot_be():
    water = lake()
    image = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(ValueError, match="wanted two or more of one shape"):
        change_figure([dated("a", water)])
    with pytest.raises(ValueError, match="wanted two or more of one shape"):
        change_figure([dated("a", water), dated("b", lake((21, 30)))])
    with pytest.raises(ValueError, match=r"wanted \(H, W, 3\) and \(H, W\)"):
        overlay(image[:, :-1], water)
    with pytest.raises(ValueError, match="got probability of"):
        water_figure(image, water, np.zeros((3, 3)), np.zeros(water.shape))
