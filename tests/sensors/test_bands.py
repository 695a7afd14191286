"""Bands: their names and order, the one scale of an image, and what stored values mean or must be asked for."""

import numpy as np
import pytest

from lacunar.errors import LacunarError, RasterError
from lacunar.sensors.bands import BANDS, Encoding, common_scale, parse_bands, place_bands, recognise


def test_the_order_is_that_of_wavelength():
    assert BANDS == ("blue", "green", "red", "nir", "swir1", "swir2")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("nir,red,green", ("nir", "red", "green")),
        (" Red, GREEN ,blue,", ("red", "green", "blue")),
        ("coastal,blue,other,other,nir", ("coastal", "blue", "other", "other", "nir")),
    ],
)
def test_names_are_parsed(text, names):
    assert parse_bands(text) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nir,purple", "unknown band 'purple': wanted the file's channels in order, from coastal, other, blue, green"),
        ("red,green,red", "band 'red' is named twice in red,green,red: wanted every band once"),
        ("coastal,coastal,red", "band 'coastal' is named twice"),
        ("coastal,other", "bands coastal,other: wanted at least one of blue"),
        ("", "bands none: wanted at least one of blue"),
    ],
)
def test_names_that_do_not_serve(text, message):
    with pytest.raises(LacunarError, match=message):
        parse_bands(text)


def test_channels_go_to_their_planes():
    channels = np.arange(5 * 2 * 3, dtype=np.float64).reshape(5, 2, 3)
    names = ("coastal", "swir1", "red", "other", "blue")
    planes = place_bands(channels, names)
    assert planes.dtype == np.float32
    assert planes.shape == (6, 2, 3)
    for band, channel in {"blue": 4, "red": 2, "swir1": 1}.items():
        np.testing.assert_array_equal(planes[BANDS.index(band)], channels[channel])
    assert np.isnan(planes[[BANDS.index(band) for band in ("green", "nir", "swir2")]]).all()


def test_another_number_of_names_than_channels():
    with pytest.raises(LacunarError, match=r"got channels of shape \(3, 2, 2\) and 2 names"):
        place_bands(np.ones((3, 2, 2)), ("red", "green"))


def test_the_scale_is_the_98th_percentile_of_all_valid_values_together():
    rng = np.random.default_rng(0)
    planes = place_bands(rng.uniform(0.01, 0.6, (3, 40, 50)), ("nir", "red", "green"))
    valid = rng.random((40, 50)) < 0.7
    pooled = np.sort(np.concatenate([planes[i][valid] for i in (1, 2, 3)]))
    position = 0.98 * (pooled.size - 1)
    low = int(position)
    wanted = pooled[low] + (position - low) * (pooled[low + 1] - pooled[low])
    assert common_scale(planes, valid) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("factor", [1e4, 255.0, 2.75e-5])
def test_a_factor_cancels_and_ratios_stay(factor):
    rng = np.random.default_rng(1)
    planes, valid = rng.uniform(0.01, 0.6, (6, 20, 20)), np.ones((20, 20), bool)
    scaled, other = planes / common_scale(planes, valid), planes * factor / common_scale(planes * factor, valid)
    np.testing.assert_allclose(other, scaled, rtol=1e-12)
    np.testing.assert_allclose(scaled[1] / scaled[3], planes[1] / planes[3], rtol=1e-12)


@pytest.mark.parametrize(
    ("planes", "valid", "message"),
    [
        (np.ones((3, 2, 2)), np.zeros((2, 2), bool), "no valid pixel in any band"),
        (np.full((3, 2, 2), np.nan), np.ones((2, 2), bool), "no valid pixel in any band"),
        (np.zeros((3, 2, 2)), np.ones((2, 2), bool), "the image is dark: 98 % of its values are 0 or less"),
        (np.ones((3, 2, 2)), np.ones((2, 2)), r"got bands \(3, 2, 2\) and valid float64"),
        (np.ones((2, 2)), np.ones((2, 2), bool), r"got bands \(2, 2\)"),
    ],
)
def test_images_without_a_scale(planes, valid, message):
    with pytest.raises(LacunarError, match=message):
        common_scale(planes, valid)


# --- stored values ---


def land_and_water(channels=4, seed=0):
    """Reflectance of land, with a lake that is dark in the last channels."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.05, 0.35, (channels, 2000))
    values[-2:, :300] = rng.uniform(0.0, 0.03, (2, 300))
    return values


def told(values, dtype, *, picture=False):
    return recognise(np.asarray(values, dtype=np.float32), dtype=dtype, picture=picture, name="a.tif")


@pytest.mark.parametrize(
    ("values", "dtype", "picture", "scale", "meaning"),
    [
        (land_and_water() * 255, "uint8", True, 1 / 255, "8-bit picture"),
        (land_and_water() * 255, "uint8", False, 1 / 255, "8-bit picture"),
        (land_and_water() * 65535, "uint16", True, 1 / 65535, "16-bit picture"),
        (land_and_water() * 10000, "uint16", False, 1e-4, "reflectance x 10,000, from the range of the values"),
        (land_and_water() * 10000, "int16", False, 1e-4, "reflectance x 10,000"),
        (land_and_water() * 10000, "float32", False, 1e-4, "reflectance x 10,000"),
        (land_and_water(), "float32", False, 1.0, "reflectance of 0 to 1, from the range of the values"),
        (land_and_water() - 0.05, "float64", False, 1.0, "reflectance of 0 to 1"),
    ],
)
def test_what_tells_itself(values, dtype, picture, scale, meaning):
    found = told(values, dtype, picture=picture)
    assert found.scale == pytest.approx(scale)
    assert found.offset == 0.0
    assert found.meaning.startswith(meaning)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((land_and_water() + 0.1) / 2e-5, "uint16"),  # Landsat Level 1
        ((land_and_water() + 0.2) / 2.75e-5, "uint16"),  # Landsat Level 2
        ((land_and_water() + 0.1005) * 10000, "uint16"),  # Sentinel-2 since 2022
        (np.full((3, 100), 4000.0), "uint16"),  # reflectance x 10,000, but without anything dark
        (land_and_water() * 65535, "uint16"),  # 16 bits with a position on earth
        (np.ones((1, 100)), "uint16"),  # classes
        (land_and_water() * 100, "float32"),  # percent
        (np.full((3, 100), 0.5), "float32"),
    ],
)
def test_what_must_be_asked_for(values, dtype):
    with pytest.raises(RasterError, match=rf"a\.tif: {dtype} values, 98 % of them up to .* may be raw .* --scale and"):
        told(values, dtype)


@pytest.mark.parametrize(("scale", "offset"), [(0.0, 0.0), (-1.0, 0.0), (np.nan, 0.0), (1.0, np.inf)])
def test_numbers_that_are_no_encoding(scale, offset):
    with pytest.raises(RasterError, match="wanted a scale above 0 and finite numbers"):
        Encoding(scale, offset, "given")
