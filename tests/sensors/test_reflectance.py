"""Stored values: what is plain, what is plausible, and what must be asked for."""

import numpy as np
import pytest

from lacunar.errors import RasterError
from lacunar.sensors.reflectance import Encoding, recognise


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
