"""A raster on the grid of another, window by window: bilinear; what is unknown stays unknown."""

import weakref
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform
from rasterio.windows import Window

from lacunar.errors import LacunarError, RasterError, one_line
from lacunar.geo.gate import create_raster, gdal, open_raster
from lacunar.geo.grid import Gridded, same_grid
from lacunar.geo.staging import temporary_room
from lacunar.geo.windows import Tile, blocks_over

BLOCK = 1024  # side of the parts in which the source is copied
_POINTS = 65  # along each side of the target, that are followed to the source
_SLACK = 0.02  # share of the extent by which a curved border may swell between those points
_TOLERANCE = 1e-6  # source pixels by which GDAL may miss a place; 0 is not taken
_PLANE = CRS.from_epsg(3857)  # stands for both grids where neither has a CRS: nothing is reprojected then

FloatArray = NDArray[np.float64]
Values = NDArray[np.float32]


class Warped:
    """A source seen on the grid of a target, window by window.

    On the same grid windows are read as they are. Otherwise the part of the source that the target needs is copied once
    into a temporary file, which GDAL warps. Where the source is finer, pixels are averaged (GDAL widens the bilinear
    kernel). Unknown pixels have no weight; where the nearest source pixel is unknown, so is the target's.

    ``read`` gives any window of the source as float32, (``count``, H, W) or, where that is None, (H, W); NaN, in all
    bands, where unknown. Grids that differ must overlap and be placed by a CRS, else a `RasterError`, which calls the
    source by its ``name``.
    """

    def __init__(
        self,
        source: Gridded,
        target: Gridded,
        read: Callable[[Tile], Values],
        *,
        name: str,
        count: int | None = None,
    ) -> None:
        self._source, self._target, self._read, self._name, self._count = source, target, read, name, count
        lacking = [grid.crs is None for grid in (source, target)]
        placed = [not (grid.crs is None and grid.transform.is_identity) for grid in (source, target)]
        self.same_grid = same_grid(source, target) and placed[0] == placed[1]
        self.step = (1.0, 1.0)  # source rows and columns in a pixel of the target
        if self.same_grid:
            return
        if lacking[0] != lacking[1] or not all(placed):
            bare, other = (name, "the input") if lacking[0] else ("the input", name)
            got = f"{bare} has no CRS and differs in shape or position from {other}"
            raise RasterError(f"{got}: wanted a CRS in both, or the very same grid; assign one (rio edit-info --crs)")
        self.step = self._step()
        self._needed = self._source_window()

    def read(self, window: Tile) -> Values:
        """A window of the target's grid, float32; NaN where the source is unknown or absent."""
        if self.same_grid:
            return self._read(window)
        try:
            values: Values = self._vrt.read(window=Window.from_slices(*window.slices))
        except LacunarError:
            raise
        except Exception as error:  # rasterio lets GDAL's own classes through
            raise RasterError(f"{self._name} cannot be warped to the grid of the input ({one_line(error)})") from error
        return values[0] if self._count is None else values

    @cached_property
    def _vrt(self) -> WarpedVRT:
        """The source on the target's grid, made when first needed."""
        room = temporary_room("warp")
        remove = weakref.finalize(self, room.close)
        copied = room.path / "source.tif"
        try:
            self._copy_source(copied)
            rows, cols = self.step
            height, width = self._target.shape
            return WarpedVRT(
                open_raster(copied),
                src_crs=self._source.crs or _PLANE,
                crs=self._target.crs or _PLANE,
                transform=self._target.transform,
                height=height,
                width=width,
                resampling=Resampling.bilinear,
                tolerance=_TOLERANCE,
                XSCALE=1.0 / max(1.0, cols),
                YSCALE=1.0 / max(1.0, rows),
                UNIFIED_SRC_NODATA="YES",
            )
        except BaseException:
            remove()
            raise

    def _copy_source(self, path: Path) -> None:
        """Copy what the target needs of the source, block by block."""
        part, t = self._needed, self._source.transform
        profile = {"driver": "GTiff", "tiled": True, "BIGTIFF": "IF_SAFER", "dtype": "float32", "nodata": np.nan}
        profile |= {"height": part.height, "width": part.width, "count": self._count or 1}
        profile |= {"crs": self._source.crs or _PLANE, "transform": t @ Affine.translation(part.col, part.row)}
        with gdal(f"{self._name} cannot be warped to the grid of the input"), create_raster(path, **profile) as copied:
            for block in blocks_over(part.shape, block=BLOCK, halo=0):
                core = block.core
                values = self._read(Tile(part.row + core.row, part.col + core.col, *core.shape))
                copied.write(values.reshape(-1, *core.shape), window=Window.from_slices(*core.slices))

    def _source_window(self) -> Tile:
        """The pixels of the source that the target needs; none is a `RasterError`."""
        height, width = self._target.shape
        rows, cols = self._to_source(
            *np.meshgrid(np.linspace(0, height, _POINTS), np.linspace(0, width, _POINTS), indexing="ij")
        )
        ranges = []
        for place, length, step in zip((rows, cols), self._source.shape, self.step, strict=True):
            if place.size == 0 or place.max() <= 0 or place.min() >= length:
                got = f"{_extent(self._source)}, the input is {_extent(self._target)}"
                raise RasterError(f"{self._name} does not overlap the input: {got}; wanted a raster of the same place")
            low, high = float(place.min()), float(place.max())
            wide = 2.0 + max(1.0, step) + _SLACK * (high - low)
            first, last = max(0, int(np.floor(low - wide))), min(length, int(np.ceil(high + wide)))
            ranges.append((first, last - first))
        (row, tall), (col, broad) = ranges
        return Tile(row, col, tall, broad)

    def _to_source(self, rows: FloatArray, cols: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Rows and columns in the source of places in the target, flat; those that cannot be projected are left out."""
        x, y = _placed(self._target.transform, cols.ravel(), rows.ravel())
        here, there = self._target.crs, self._source.crs
        if here is not None and there is not None and here != there:
            try:
                moved = transform(here, there, x, y)
            except Exception as error:  # rasterio lets GDAL's own classes through
                way = f"no way there from the CRS of the input, {here} ({one_line(error)})"
                raise RasterError(f"{self._name} lies in {there}: {way}") from error
            x, y = (np.asarray(axis, dtype=np.float64) for axis in moved)
        good = np.isfinite(x) & np.isfinite(y)
        source_cols, source_rows = _placed(~self._source.transform, x[good], y[good])
        return source_rows, source_cols

    def _step(self) -> tuple[float, float]:
        """Source rows and columns that a pixel of the target spans, at the target's centre."""
        row, col = (length / 2.0 for length in self._target.shape)
        rows, cols = self._to_source(np.array([row, row + 1.0, row]), np.array([col, col, col + 1.0]))
        if rows.size < 3:
            return 1.0, 1.0
        down, across = (float(np.abs(at[1:] - at[0]).max()) for at in (rows, cols))
        return down, across


def _placed(t: Affine, first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A transform of many points: columns and rows to x and y, or back."""
    return t.a * first + t.b * second + t.c, t.d * first + t.e * second + t.f


def _extent(grid: Gridded) -> str:
    height, width = grid.shape
    x, y = _placed(grid.transform, np.array([0.0, width, 0.0, width]), np.array([0.0, 0.0, height, height]))
    return f"x {x.min():.7g} to {x.max():.7g}, y {y.min():.7g} to {y.max():.7g} in {grid.crs or 'no CRS'}"
