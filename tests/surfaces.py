"""Land surfaces made up for the tests of packs and examples, and GeoTIFFs of them."""

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine

from lacunar.train.lst_data import LstPack

GRID = Affine(30, 0, 5e5, 0, -30, 6e6)


def surface(shape=(40, 50), seed=0) -> np.ndarray:
    """Land surface temperature in kelvin: a smooth field and some roughness."""
    rng = np.random.default_rng(seed)
    rows, cols = np.indices(shape)
    waves = 6 * np.sin(rows / 7 + rng.uniform(0, 6)) + 5 * np.cos(cols / 9 + rng.uniform(0, 6))
    return 295 + waves + 0.5 * rng.standard_normal(shape)


def write(path: Path, band: np.ndarray, *, scale: float | None = None, **profile) -> Path:
    """A GeoTIFF of one band."""
    profile = {"transform": GRID, "crs": "EPSG:32632", "dtype": band.dtype, **profile}
    height, width = band.shape
    with rasterio.open(path, "w", driver="GTiff", count=1, height=height, width=width, **profile) as dataset:
        dataset.write(band, 1)
        if scale:
            dataset.scales = (scale,)
    return path


def counts(kelvin: np.ndarray) -> np.ndarray:
    """Hundredths of a kelvin; 0 = unknown."""
    return np.round(np.nan_to_num(kelvin) * 100).astype(np.uint16)


def pack_of(*rasters: np.ndarray, names=("hill_1", "lake_1", "town_1"), clouds=(), positions=None) -> LstPack:
    """A pack of rasters in kelvin; each on a grid of its own where no positions are given."""
    positions = positions or tuple((i, 0, 0) for i in range(len(rasters)))
    return LstPack(tuple(names[: len(rasters)]), tuple(counts(raster) for raster in rasters), clouds, positions)
