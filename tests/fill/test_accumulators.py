"""What is gathered block by block is what the whole raster shows."""

import matplotlib.image
import numpy as np
import pytest

from commands import contents, write
from lacunar.errors import LacunarError, RasterError
from lacunar.fill import accumulators
from lacunar.fill.accumulators import Thumbnail, Truth
from lacunar.fill.blocks import FILLED, MEASURED, NODATA, FilledBlock
from lacunar.geo.windows import Tile
from lacunar.sensors.scene import open_scene

SHAPE = (50, 70)


@pytest.fixture
def scene(tmp_path):
    """A truth, a filled raster with its errors, and the open input."""
    rng = np.random.default_rng(0)
    truth = rng.normal(290.0, 5.0, SHAPE).astype(np.float32)
    source = np.full(SHAPE, MEASURED, np.uint8)
    source[10:30, 20:60], source[:, :4] = FILLED, NODATA
    sigma = np.where(source == FILLED, 1.0, 0.0).astype(np.float32)
    value = np.where(source == FILLED, truth + rng.normal(0.3, 1.0, SHAPE), truth).astype(np.float32)
    value[source == NODATA] = np.nan
    shown = np.where(source == MEASURED, truth, np.nan).astype(np.float32)
    with open_scene(write(tmp_path / "in.tif", shown, units="K")) as opened:
        yield opened, write(tmp_path / "truth.tif", truth), truth, value, source, sigma


def blocks(value, source, sigma, side=17):
    for row in range(0, SHAPE[0], side):
        for col in range(0, SHAPE[1], side):
            window = Tile(row, col, min(side, SHAPE[0] - row), min(side, SHAPE[1] - col))
            parts = (part[window.slices] for part in (value, source, sigma))
            yield FilledBlock(window, *parts, np.empty((0, window.height, window.width), np.float32), 0, 0, 0)


def test_scores_over_blocks_are_those_of_the_whole(scene):
    source, path, truth, value, kind, sigma = scene
    with Truth(source, path) as scored:
        for block in blocks(value, kind, sigma):
            np.testing.assert_array_equal(scored.add(block), truth[block.window.slices])
    error = (value - truth)[kind == FILLED].astype(np.float64)
    expected = {
        "pixels": 800,
        "rmse": np.sqrt(np.mean(error**2)),
        "mae": np.abs(error).mean(),
        "bias": error.mean(),
        "within_one_sigma": (np.abs(error) <= 1.0).mean(),
    }
    assert scored.scores() == {"truth": pytest.approx(expected, abs=1e-4)}
    assert expected["bias"] > 0.2


def test_without_a_truth_nothing_is_scored(scene):
    source, path, _, value, kind, sigma = scene
    with Truth(source, None) as none, Truth(source, path) as gapless:
        for block in blocks(value, np.minimum(kind, MEASURED), sigma):
            assert none.add(block) is None
            gapless.add(block)
    assert none.scores() == gapless.scores() == {}


def test_a_truth_on_another_grid_is_refused(scene, tmp_path):
    with pytest.raises(RasterError, match=r"the truth .*small.tif is 3x3 pixels.* wanted the grid of the input"):
        Truth(scene[0], write(tmp_path / "small.tif", np.ones((3, 3), np.float32)))


@pytest.mark.parametrize("side", [1200, 30, 7])
@pytest.mark.parametrize("has_truth", [False, True])
def test_the_picture_is_every_nth_pixel_of_the_whole(scene, monkeypatch, tmp_path, side, has_truth):
    source, _, truth, value, kind, sigma = scene
    monkeypatch.setattr(accumulators, "THUMBNAIL_SIDE", side)
    seen = {}

    def figure(*arrays, **options):
        seen.update(arrays=arrays, **options)
        return "figure"

    monkeypatch.setattr("lacunar.fill.plot.lst_figure", figure)
    monkeypatch.setattr(accumulators, "save_figure", lambda drawn, path: path.write_text(drawn))
    picture = Thumbnail(source, tmp_path / "a.png", has_truth=has_truth)
    for block in blocks(value, kind, sigma):
        picture.add(block, truth[block.window.slices] if has_truth else None)
    picture.draw()
    step = -(-70 // side)
    thin = (slice(None, None, step), slice(None, None, step))
    before = truth if has_truth else np.where(kind == MEASURED, truth, np.nan)
    for got, expected in zip((*seen["arrays"], seen["sigma"]), (before, value, kind == FILLED, sigma), strict=True):
        np.testing.assert_array_equal(got, expected[thin])
    assert (seen["truth"] is not None) == has_truth
    assert (seen["units"], seen["title"]) == ("K", "in.tif")
    assert (tmp_path / "a.png").read_text() == "figure"


def test_the_picture_is_drawn(scene, tmp_path):
    source, _, _, value, kind, sigma = scene
    picture = Thumbnail(source, tmp_path / "a.png", has_truth=False)
    for block in blocks(value, kind, sigma):
        picture.add(block, None)
    picture.draw()
    assert matplotlib.image.imread(tmp_path / "a.png").std() > 0.1


def test_a_picture_that_cannot_be_drawn_or_written_is_a_teaching_error(scene, tmp_path):
    source, _, _, value, kind, sigma = scene
    empty = Thumbnail(source, tmp_path / "a.png", has_truth=False)
    with pytest.raises(LacunarError, match=r"cannot be drawn: got a raster without any finite pixel.*leave it out"):
        empty.draw()
    lost = Thumbnail(source, tmp_path / "none" / "a.png", has_truth=False)
    for block in blocks(value, kind, sigma):
        lost.add(block, None)
    with pytest.raises(RasterError, match=r"a.png: cannot be written \(No such file or directory\); wanted a folder"):
        lost.draw()
    assert list(contents(tmp_path)) == ["in.tif", "truth.tif"]
