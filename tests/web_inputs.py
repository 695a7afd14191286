"""Inputs of the tests of the page: a raster of two bands, one with cold places, two dates of a lake."""

import numpy as np
import rasterio

from commands import write
from surfaces import surface

LAKES = {"lake_2019-05-01.tif": slice(20, 60), "lake_2023-05-01.tif": slice(40, 80)}  # columns of the water
REFLECTANCE = {
    "blue": (0.08, 0.06),  # of land and of water
    "green": (0.1, 0.05),
    "red": (0.12, 0.03),
    "nir": (0.3, 0.01),
    "swir1": (0.3, 0.005),
    "swir2": (0.25, 0.004),
}


def write_inputs(folder):
    """Write them: two.tif (the second band 10 K warmer), cold.tif (two places and a gap), and the dates of `LAKES`."""
    values = (300 + 0.3 * (surface((120, 130)) - 295)).astype(np.float32)
    write(folder / "two.tif", np.stack([values, values + 10]), units="K")
    rows, cols = np.mgrid[:120, :130]
    cold = values.copy()
    for row, col, radius in ((40, 40, 5), (80, 90, 3)):
        cold[np.hypot(rows - row, cols - col) < radius] -= 25
    cold[55:65, 50:80] = np.nan
    write(folder / "cold.tif", cold, units="K")
    rng = np.random.default_rng(0)
    for name, wet in LAKES.items():
        planes = np.stack([np.full((96, 110), land) for land, _ in REFLECTANCE.values()])
        planes[:, 30:70, wet] = np.array([water for _, water in REFLECTANCE.values()])[:, None, None]
        path = write(folder / name, (planes + rng.normal(0, 0.002, planes.shape)).astype(np.float32))
        with rasterio.open(path, "r+") as dataset:
            dataset.descriptions = tuple(REFLECTANCE)
