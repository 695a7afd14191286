"""Whole rasters on disk, for tests."""

import numpy as np

from lacunar.geo.raster import RasterWriter


def write_raster(path, raster, *, band_names=(), **options):
    names = tuple(band_names) or tuple(f"band_{number}" for number in range(1, raster.count + 1))
    grid = {"shape": raster.shape, "transform": raster.transform, "crs": raster.crs}
    with RasterWriter(path, **grid, band_names=names, **options) as writer:
        writer.write(np.where(raster.known, raster.data, np.float32(np.nan)))
