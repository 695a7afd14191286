"""`lacunar sharpen` on a simulated product, and what it refuses."""

import numpy as np
import pytest
import rasterio
import xarray as xr

import lacunar as lc
from lacunar.errors import LacunarError
from lacunar.fill.sharpen import sharpen
from lacunar.interpolate.sharpening import block_mean
from lacunar.sensors.simulated import simulate_product


def test_a_product(lacunar, tmp_path, out):
    made = simulate_product(tmp_path / "product", size=66, seed=1, cloud_fraction=0.1)
    ran = lacunar("sharpen", made.folder, "-o", out / "sharp.tif")
    assert ran.code == 0, ran.err
    with rasterio.open(out / "sharp.tif") as found, lc.open_scene(made.folder) as scene:
        lst, sigma = found.read()
        assert found.descriptions == ("lst", "sigma")
        assert (found.transform, found.crs) == (scene.transform, scene.crs)
        given = scene.lst(needs_qa=False).values
    whole = np.isfinite(block_mean(given, 3))
    np.testing.assert_array_equal(np.isfinite(block_mean(lst, 3)), whole)
    np.testing.assert_allclose(block_mean(lst, 3)[whole], block_mean(given, 3)[whole], atol=1e-3)
    assert (sigma[np.isfinite(lst)] > 0).all()
    assert lacunar("sharpen", made.folder, "-o", out / "sharp.tif").code == 2  # there already


def test_bad_input():
    lst, bands = (
        xr.DataArray(np.ones((40, 40)), dims=("y", "x")),
        xr.DataArray(np.ones((2, 40, 30)), dims=("band", "y", "x")),
    )
    with pytest.raises(LacunarError, match=r"got lst of \(40, 40\) and bands of \(2, 40, 30\)"):
        sharpen(lst, bands)
    with pytest.raises(LacunarError, match="got a factor of 1, wanted a whole number from 2"):
        sharpen(lst, bands.isel(x=[0] * 40), factor=1)
