"""Curves are read back from the artists, and a saved figure is whole or absent."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from lacunar.plotting import save_figure, training_curve_figure


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
