"""Curves are read back from the artists, and a saved figure is whole or absent."""

import matplotlib.image
import numpy as np
import pytest
from affine import Affine
from matplotlib.figure import Figure
from rasterio.crs import CRS

from lacunar.plotting import Place, mark_place, save_figure, training_curve_figure


def test_the_training_curve_skips_what_was_not_taken_and_smooths():
    steps = np.arange(1000)
    train = np.where(steps % 2, 0.5, 1.5)
    held_out = np.where(steps % 100 == 0, 0.8, np.nan)
    (axes,) = training_curve_figure(steps, train, held_out).axes
    raw, smooth, validation = axes.lines
    np.testing.assert_array_equal(raw.get_ydata(), train)
    np.testing.assert_allclose(smooth.get_ydata()[20:-20], 1.0, atol=0.05)
    np.testing.assert_array_equal(validation.get_xdata(), steps[::100])
    assert axes.get_yscale() == "log"
    with pytest.raises(ValueError, match=r"steps of .* and val_loss of"):
        training_curve_figure(steps, train, held_out[1:])
    with pytest.raises(ValueError, match=r"steps of .* and train_loss of"):
        training_curve_figure(steps, train[1:], held_out)


def test_the_running_mean_of_a_straight_line_is_the_line():
    steps = np.arange(500)
    (axes,) = training_curve_figure(steps, 1.0 + steps, np.full(500, np.nan)).axes
    np.testing.assert_allclose(axes.lines[1].get_ydata()[10:-10], (1.0 + steps)[10:-10])


def test_a_saved_figure_has_the_asked_size(tmp_path):
    figure = Figure(figsize=(2, 1))
    assert save_figure(figure, tmp_path / "a.png", dpi=100) == tmp_path / "a.png"
    assert matplotlib.image.imread(tmp_path / "a.png").shape[:2] == (100, 200)
    save_figure(figure, tmp_path / "a.png", dpi=50)
    assert matplotlib.image.imread(tmp_path / "a.png").shape[:2] == (50, 100)
    assert save_figure(figure, tmp_path / "b.svg").read_bytes().startswith(b"<?xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.svg"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch, error):
    def interrupted(_, file, **__):
        file.write(b"half")
        raise error

    (tmp_path / "a.png").write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", interrupted)
    with pytest.raises(error):
        save_figure(Figure(), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_an_unknown_ending_and_a_missing_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"got the ending '\.bmp'; wanted \.png"):
        save_figure(Figure(), tmp_path / "a.bmp")
    with pytest.raises(FileNotFoundError):
        save_figure(Figure(), tmp_path / "none" / "a.png")


class Grid:
    def __init__(self, transform, epsg):
        self.transform, self.crs, self.shape = transform, epsg and CRS.from_epsg(epsg), (200, 240)


@pytest.mark.parametrize(
    ("epsg", "pixel", "step", "bar", "told"),
    [
        (32632, 30.0, 1, 2000, "2 km"),
        (32632, 1.0, 1, 50, "50 m"),
        (32632, 30.0, 4, 10_000, "10 km"),  # every fourth pixel
        (2263, 100.0, 1, 2000, "2 km"),  # feet: 240 pixels are 7.3 km
        (4326, 0.001, 1, 5000, "5 km"),  # 16.5 km at 51.9 degrees north
    ],
)
def test_a_scale_bar_is_as_long_as_it_says(epsg, pixel, step, bar, told):
    axes = Figure().subplots()
    grid = Grid(Affine(pixel, 0, 7.6, 0, -pixel, 52.0), epsg)
    mark_place(axes, (200, 240), Place.of(grid, step))
    metres = {4326: 111_320 * np.cos(np.radians(51.9)), 2263: 1200 / 3937}.get(epsg, 1.0)
    drawn = np.ptp(axes.lines[-1].get_xdata()) * pixel * step * metres
    assert drawn == pytest.approx(bar, rel=1e-3)
    assert axes.texts[0].get_text() == told
    first = next(iter(axes.get_xticklabels())).get_text()
    assert first == f"{7.6 + 48 * pixel * step:.{2 * (epsg == 4326)}f}"


def test_what_has_no_place_gets_no_bar():
    assert Place.of(Grid(Affine.identity(), None)) is None
    assert Place.of(Grid(Affine(8, -6, 5e5, -6, -8, 5.2e6), 32632)) is None
