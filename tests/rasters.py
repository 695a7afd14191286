"""Whole rasters on disk, for tests."""

import numpy as np

from lacunar.geo.raster import RasterWriter


def write_raster(path, raster, *, overwrite=False):
    profile = {name: getattr(raster, name) for name in ("shape", "transform", "crs", "band_names", "units", "tags")}
    with RasterWriter(path, **profile, overwrite=overwrite) as writer:
        writer.write(np.where(raster.known, raster.data, np.float32(np.nan)))
