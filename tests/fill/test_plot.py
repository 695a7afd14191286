"""The figure of a filled raster: what it draws is read back from the artists."""

import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from lacunar.fill.plot import lst_figure
from lacunar.plotting import save_figure

ZERO_CELSIUS = 273.15


@pytest.fixture
def field():
    rng = np.random.default_rng(3)
    lst = 295 + np.cumsum(rng.normal(size=(40, 60)), axis=1) / 3
    lst[:5, :5] = np.nan
    gap = np.zeros(lst.shape, dtype=bool)
    gap[10:20, 20:40] = True
    filled = np.where(gap, lst + rng.normal(0, 0.5, size=lst.shape), lst)
    return lst, filled, gap


def panels(figure):
    """The axes that hold a picture, by title."""
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def drawn(axes):
    """The picture on top, NaN where transparent."""
    return np.ma.filled(axes.images[-1].get_array().astype(float), np.nan)


# --- temperature panels ---


def test_the_panels_are_those_of_the_paper(field):
    lst, filled, gap = field
    figure = lst_figure(lst, filled, gap, truth=lst, sigma=np.where(gap, 0.5, 0.0), title="A scene")
    missing = 100 * gap.sum() / np.isfinite(lst).sum()
    titles = [
        "LST",
        f"Masked ({missing:.0f} % missing)",
        "Reconstructed",
        "Absolute error",
        r"Uncertainty (1$\,\sigma$)",
    ]
    assert list(panels(figure)) == titles
    assert figure.get_suptitle() == "A scene"
    assert list(panels(lst_figure(lst, filled, gap))) == titles[:3]


def test_kelvin_is_drawn_in_celsius_on_one_scale(field):
    lst, filled, gap = field
    axes = list(panels(lst_figure(lst, filled, gap)).values())
    np.testing.assert_allclose(drawn(axes[0]), lst - ZERO_CELSIUS)
    np.testing.assert_allclose(drawn(axes[2]), filled - ZERO_CELSIUS)
    limits = {ax.images[-1].get_clim() for ax in axes}
    assert len(limits) == 1
    low, high = limits.pop()
    inside = (filled - ZERO_CELSIUS >= low) & (filled - ZERO_CELSIUS <= high)
    assert inside.sum() / np.isfinite(filled).sum() > 0.98


def test_the_masked_panel_hides_the_gap_behind_neutral_grey(field):
    lst, filled, gap = field
    axes = list(panels(lst_figure(lst, filled, gap)).values())[1]
    np.testing.assert_array_equal(np.isnan(drawn(axes)), gap | np.isnan(lst))
    grey = axes.images[0]
    np.testing.assert_array_equal(np.isfinite(np.ma.filled(grey.get_array(), np.nan)), gap)
    red, green, blue, alpha = grey.cmap(0.5)
    assert red == green == blue
    assert alpha == 1


def test_pixels_outside_the_footprint_are_white_in_the_saved_picture(field, tmp_path):
    lst, filled, gap = field
    lst[:, :30] = filled[:, :30] = np.nan
    figure = lst_figure(lst, filled, gap & np.isfinite(lst))
    save_figure(figure, tmp_path / "out.png", dpi=60)
    picture = matplotlib.image.imread(tmp_path / "out.png")
    for axes in panels(figure).values():
        box = axes.get_window_extent()
        scale = 60 / figure.dpi
        row = picture.shape[0] - int(scale * (box.y0 + box.height / 2))
        left, right = int(scale * (box.x0 + 0.25 * box.width)), int(scale * (box.x0 + 0.9 * box.width))
        np.testing.assert_array_equal(picture[row, left, :3], 1.0)
        assert picture[row, right, :3].min() < 0.9


def test_error_and_sigma_start_at_zero_and_are_differences(field):
    lst, filled, gap = field
    sigma = np.where(gap, 0.7, 0.0)
    axes = panels(lst_figure(lst, filled, gap, truth=lst, sigma=sigma))
    np.testing.assert_allclose(drawn(axes["Absolute error"]), np.abs(filled - lst))
    np.testing.assert_allclose(drawn(axes[r"Uncertainty (1$\,\sigma$)"]), sigma)
    assert axes["Absolute error"].images[-1].get_clim()[0] == 0
    assert axes[r"Uncertainty (1$\,\sigma$)"].images[-1].get_clim() == (0, pytest.approx(0.7))


def test_temperatures_share_one_colour_bar_in_celsius(field):
    lst, filled, gap = field
    figure = lst_figure(lst, filled, gap, truth=lst, sigma=np.where(gap, 0.7, 0.0))
    labels = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert labels == ["temperature (°C)", "K", "K"]  # differences are no temperatures


@pytest.mark.parametrize(("units", "label"), [("mm", "mm"), ("", "value"), ("degC", "degC")])
def test_other_units_are_drawn_as_they_are_with_their_name(field, units, label):
    values, filled, gap = field
    figure = lst_figure(values, filled, gap, truth=values, sigma=np.where(gap, 0.7, 0.0), units=units)
    axes = panels(figure)
    assert next(iter(axes)) == "Input"
    np.testing.assert_array_equal(drawn(axes["Input"]), values)
    np.testing.assert_array_equal(drawn(axes["Reconstructed"]), filled)
    low, high = axes["Reconstructed"].images[-1].get_clim()
    assert 0.95 < ((filled >= low) & (filled <= high)).sum() / np.isfinite(filled).sum() <= 1
    np.testing.assert_allclose(drawn(axes["Absolute error"]), np.abs(filled - values))
    assert [ax.get_xlabel() for ax in figure.axes if ax.get_xlabel()] == [label] * 3


@pytest.mark.parametrize("units", ["K", "kelvin", "Kelvin"])
def test_kelvin_is_known_by_its_names(field, units):
    lst, filled, gap = field
    axes = panels(lst_figure(lst, filled, gap, units=units))
    np.testing.assert_allclose(drawn(axes["LST"]), lst - ZERO_CELSIUS)


def test_a_large_raster_is_thinned_for_drawing():
    lst = np.broadcast_to(np.linspace(280, 300, 5000), (3000, 5000))
    picture = drawn(panels(lst_figure(lst, lst, np.zeros(lst.shape, dtype=bool)))["Reconstructed"])
    assert max(picture.shape) <= 1400
    assert picture[0, 0] == pytest.approx(280 - ZERO_CELSIUS)
    assert picture.shape[1] / picture.shape[0] == pytest.approx(5 / 3, rel=0.01)


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3)])
def test_odd_fields_can_be_drawn(shape, tmp_path):
    constant = np.full(shape, 300.0)
    nothing, everything = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
    for gap in (nothing, everything):
        figure = lst_figure(constant, constant, gap, truth=constant, sigma=0 * constant, title="odd")
        save_figure(figure, tmp_path / "odd.png", dpi=40)
        assert matplotlib.image.imread(tmp_path / "odd.png").std() > 0


def test_what_does_not_fit_is_refused(field):
    lst, filled, gap = field
    with pytest.raises(ValueError, match=r"wanted \(height, width\)"):
        lst_figure(lst[np.newaxis], filled, gap)
    with pytest.raises(ValueError, match=r"got missing bool \(39, 60\)"):
        lst_figure(lst, filled, gap[1:])
    with pytest.raises(ValueError, match="got missing float64"):
        lst_figure(lst, filled, gap * 1.0)
    with pytest.raises(ValueError, match=r"got arrays of \(39, 60\) and \(40, 60\)"):
        lst_figure(lst[1:], filled, gap)
    with pytest.raises(ValueError, match=r"got arrays of \(39, 60\) and \(40, 60\)"):
        lst_figure(lst, filled, gap, truth=lst[1:])
    with pytest.raises(ValueError, match=r"got arrays of \(39, 60\) and \(40, 60\)"):
        lst_figure(lst, filled, gap, sigma=lst[1:])
    with pytest.raises(ValueError, match="without any finite pixel"):
        lst_figure(lst, np.full_like(lst, np.nan), gap)


def test_drawing_never_touches_pyplot():
    code = (
        "import sys, numpy as np; from lacunar.fill.plot import *; a = np.full((9, 9), 300.0)\n"
        "import io; lst_figure(a, a, a > 0).savefig(io.BytesIO())\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
