"""Spectral indices with Otsu's threshold, on images whose water is known."""

import numpy as np
import pytest

from lacunar.errors import LacunarError
from lacunar.segment.indices import INDEX_NAMES, index_names, threshold_water
from lacunar.sensors.bands import BANDS

WATER = dict(zip(BANDS, (0.06, 0.05, 0.03, 0.01, 0.005, 0.003), strict=True))
GRASS = dict(zip(BANDS, (0.03, 0.07, 0.05, 0.40, 0.20, 0.10), strict=True))


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def image(rng, bands=BANDS, *, noise=0.002):
    """A round lake in grass, and where it is."""
    rows, cols = np.mgrid[:50, :60]
    lake = np.hypot(rows - 25, cols - 30) < 15
    planes = np.full((6, 50, 60), np.nan)
    for band in bands:
        draw = rng.normal(0, noise, lake.shape)
        planes[BANDS.index(band)] = np.where(lake, WATER[band], GRASS[band]) + draw
    return planes, lake


def otsu_by_hand(values):
    """The threshold of greatest variance between both sides, tried at every value."""
    ordered = np.unique(values)
    spread = [
        low.size * high.size * (low.mean() - high.mean()) ** 2
        for low, high in ((values[values <= cut], values[values > cut]) for cut in ordered[:-1])
    ]
    best = int(np.argmax(spread))
    return ordered[best], ordered[best + 1]


@pytest.mark.parametrize("name", ["NDWI", "MNDWI"])
def test_an_index_finds_the_lake(rng, name):
    planes, lake = image(rng)
    found = threshold_water(name, planes)
    np.testing.assert_array_equal(found.water, lake)
    green, other = (
        np.maximum(planes[BANDS.index(band)], 0) for band in ("green", "nir" if name == "NDWI" else "swir1")
    )
    np.testing.assert_allclose(found.index, (green - other) / (green + other))


def test_darkness_finds_the_dark(rng):
    planes, lake = image(rng, ("red", "green"), noise=0.0)
    planes[2][~lake] = 0.3
    np.testing.assert_array_equal(threshold_water("darkness", planes).water, lake)


def test_the_threshold_is_otsus(rng):
    planes = np.full((6, 40, 40), np.nan)
    planes[1], planes[3] = rng.random((2, 40, 40))
    found = threshold_water("NDWI", planes)
    low, high = otsu_by_hand(found.index.ravel())
    width = np.ptp(found.index) / 256  # of a bin of the histogram
    assert low - width <= found.threshold <= high + width


def test_what_the_bands_allow(rng):
    assert index_names(image(rng)[0]) == INDEX_NAMES
    assert index_names(image(rng, ("red", "green", "blue"))[0]) == ("darkness",)
    assert index_names(image(rng, ("nir", "red", "green"))[0]) == ("NDWI", "darkness")
    assert index_names(image(rng, ("nir",))[0]) == ()


def test_ratios_do_not_depend_on_the_unit(rng):
    planes, _ = image(rng)
    for name in INDEX_NAMES:
        one, other = threshold_water(name, planes), threshold_water(name, 1000 * planes)
        np.testing.assert_array_equal(one.water, other.water)


def test_unknown_pixels_are_not_water_and_do_not_move_the_threshold(rng):
    planes, lake = image(rng)
    holed = planes.copy()
    holed[:, :, :5] = np.nan
    found = threshold_water("NDWI", holed)
    assert not found.water[:, :5].any()
    assert np.isnan(found.index[:, :5]).all()
    np.testing.assert_array_equal(found.water[:, 5:], lake[:, 5:])


def test_an_image_of_one_value_has_no_water(rng):
    planes = np.full((6, 5, 5), 0.2)
    for name in INDEX_NAMES:
        found = threshold_water(name, planes)
        assert not found.water.any()
        assert np.isnan(found.threshold)
    black = threshold_water("NDWI", np.zeros((6, 5, 5)))
    assert (black.index == 0).all()


def test_bad_input_is_refused(rng):
    planes, _ = image(rng, ("red", "green", "blue"))
    with pytest.raises(LacunarError, match="NDWI wants green and nir; the image has blue, green, red: choose another"):
        threshold_water("NDWI", planes)
    with pytest.raises(LacunarError, match="MNDWI wants green and swir1; the image has blue, green, red"):
        threshold_water("MNDWI", planes)
    with pytest.raises(LacunarError, match="unknown index 'AWEI': choose out of NDWI, MNDWI, darkness"):
        threshold_water("AWEI", planes)
    with pytest.raises(LacunarError, match=r"got bands \(3, 50, 60\); wanted \(6, H, W\) in the order blue, green"):
        threshold_water("darkness", planes[:3])
