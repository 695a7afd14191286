"""Sharper temperature: a thermal band sampled more coarsely than it is delivered, with reflectances as guides."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from lacunar.errors import LacunarError
from lacunar.geo.labelled import dataset_on
from lacunar.geo.raster import RasterWriter
from lacunar.geo.staging import Staging
from lacunar.interpolate.sharpening import block_mean, sharpened
from lacunar.sensors.scene import open_scene

FACTOR = 3  # Landsat 8/9 sample the thermal band at 100 m and deliver it at 30 m
MOST_PIXELS = 2**26  # whole arrays are worked on
NEAR = 1e-6
PAIRS = (("nir", "red"), ("green", "nir"), ("swir1", "nir"))  # NDVI, NDWI, NDBI: their normalised differences


def sharpen(lst: xr.DataArray, bands: xr.DataArray, *, factor: int = FACTOR) -> xr.Dataset:
    """Sharpen land surface temperature by reflectances on its grid.

    Parameters
    ----------
    lst
        (y, x) in kelvin, NaN where unknown, as `Scene.lst` gives it. Its means over ``factor`` x ``factor`` pixels are
        taken as what the sensor measured, and kept exactly.
    bands
        (band, y, x) reflectances on the same grid, as `Scene.bands` gives them; normalised differences of those that
        are named green, red, nir and swir1 are guides too.
    factor
        How many pixels of the grid a sample of the sensor spans: 3 for Landsat 8 and 9.

    Returns
    -------
    xarray.Dataset
        ``lst`` and ``sigma``, in kelvin; NaN in blocks of which a pixel is unknown, and beyond the last whole block.

    Raises
    ------
    LacunarError
        Grids that differ, a factor below 2, too large a scene, or too little that is known.
    """
    if lst.shape != bands.shape[-2:] or bands.ndim != 3:
        raise LacunarError(f"got lst of {lst.shape} and bands of {bands.shape}: wanted (y, x) and (band, y, x)")
    if lst.size > MOST_PIXELS:
        raise LacunarError(f"got {lst.size:,} pixels, wanted at most {MOST_PIXELS:,}: sharpen a part (isel)")
    if factor < 2 or factor > min(lst.shape):
        raise LacunarError(f"got a factor of {factor}, wanted a whole number from 2 and within the scene")
    rows, cols = (length // factor * factor for length in lst.shape)
    whole = np.asarray(lst.values, dtype=np.float32)[:rows, :cols]
    planes = {str(name): plane for name, plane in zip(bands["band"].values, bands.values[:, :rows, :cols], strict=True)}
    found = sharpened(block_mean(whole, factor), guides_of(planes), factor)
    kelvin = {"units": "K"}
    pads = [(0, lst.shape[0] - rows), (0, lst.shape[1] - cols)]
    layers = {
        name: (np.pad(np.asarray(values, np.float32), pads, constant_values=np.nan), kelvin)
        for name, values in (("lst", found.value), ("sigma", found.sigma))
    }
    return dataset_on(lst, layers, {"factor": factor})


def guides_of(planes: Mapping[str, NDArray[np.floating]]) -> list[NDArray[np.floating]]:
    """The bands themselves, and normalised differences of those that are there."""
    guides = list(planes.values())
    for one, other in PAIRS:
        if one in planes and other in planes:
            total = planes[one] + planes[other]
            guides.append((planes[one] - planes[other]) / np.where(np.abs(total) < NEAR, np.nan, total))
    return guides


def sharpen_file(product: str | Path, output: Path, *, factor: int = FACTOR, overwrite: bool = False) -> dict[str, Any]:
    """Sharpen a product and write a GeoTIFF of two bands, ``lst`` and ``sigma``; gives how much was sharpened."""
    with Staging(overwrite=overwrite) as staging, open_scene(product) as scene:
        hidden = staging.stage(output)
        found = sharpen(scene.lst(needs_qa=False), scene.bands(), factor=factor)
        given: dict[str, Any] = {
            "shape": scene.shape,
            "transform": scene.transform,
            "crs": scene.crs,
            "overwrite": True,
        }
        names: dict[str, Any] = {"band_names": ("lst", "sigma"), "units": ("K", "K"), "tags": {"factor": str(factor)}}
        with RasterWriter(hidden, **given, **names) as writer:
            writer.write(np.stack([found["lst"].values, found["sigma"].values]))
        known = np.isfinite(found["lst"].values)
    return {"output": str(output), "factor": factor, "sharpened": round(float(known.mean()), 4)}
