"""Where pixels lie, and whether two rasters share one grid."""

from typing import Protocol

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from lacunar.errors import RasterError

# Two grids are one when their corners lie this close, in pixels: rounding in a header passes, half a pixel does not.
_GRID_TOLERANCE = 0.01


class Gridded(Protocol):
    """What lies on a grid: rasters, products, windows of either."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def transform(self) -> Affine:
        """Pixel (column, row) to coordinates, of a pixel's upper left corner."""

    @property
    def crs(self) -> CRS | None:
        """Coordinate reference system, or None where there is none."""


def same_grid(first: Gridded, second: Gridded) -> bool:
    """Whether two rasters have the same size, transform (to 0.01 pixel at each corner) and CRS.

    What a raster does not carry cannot contradict: a missing CRS fits any CRS, and a raster without CRS and transform
    (a picture drawn over the other) is compared by size alone.
    """
    if first.shape != second.shape:
        return False
    if first.crs is not None and second.crs is not None and first.crs != second.crs:
        return False
    if any(raster.crs is None and raster.transform.is_identity for raster in (first, second)):
        return True
    height, width = first.shape
    corners = np.array([(0, width, 0, width), (0, 0, height, height), (1, 1, 1, 1)], dtype=np.float64)
    first_matrix, second_matrix = (np.array(tuple(raster.transform)).reshape(3, 3) for raster in (first, second))
    moved = np.linalg.solve(first_matrix, second_matrix @ corners)
    return bool(np.abs(moved - corners).max() <= _GRID_TOLERANCE)


def check_same_grid(first: Gridded, second: Gridded, *, names: tuple[str, str]) -> None:
    """Refuse two rasters that `same_grid` tells apart, with a `RasterError` that describes both."""
    if not same_grid(first, second):
        got, wanted = f"{names[1]} is {_grid_text(second)}", f"{names[0]}, {_grid_text(first)}"
        raise RasterError(f"{got}; wanted the grid of {wanted}: resample it to that grid")


def _grid_text(raster: Gridded) -> str:
    t, (height, width) = raster.transform, raster.shape
    place = f"at ({t.c:.9g}, {t.f:.9g}), pixel ({t.a:.9g}, {t.e:.9g})"
    return f"{width}x{height} pixels, {raster.crs or 'no CRS'}, {place}"
