"""Windows of one raster on the grid of another: bilinear, what is unknown stays so, memory stays that of a window."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform

from lacunar.errors import RasterError
from lacunar.geo.grid import Gridded, same_grid
from lacunar.geo.windows import Tile

CELL = 96  # side of the target's cells that are warped one by one: where a window begins then changes no value
SOURCE_PIXELS = 2**21  # of the source that are read at once
_POINTS = 9  # points along each side of a cell that are followed to the source
_SLACK = 0.02  # share of a cell's extent by which a curved border may swell between those points
_PLANE = CRS.from_epsg(3857)  # stands for both grids where neither has a CRS: nothing is reprojected then

FloatArray = NDArray[np.float64]
Values = NDArray[np.float32]


class Warped:
    """A source seen on the grid of a target, window by window.

    On the same grid windows are read as they are. Otherwise the target is warped in cells of its own absolute grid, so
    that a window equals the same part of the whole. Where the source is finer, pixels are averaged (GDAL widens the
    bilinear kernel). Unknown pixels have no weight; where the nearest source pixel is unknown, so is the target's.

    Parameters
    ----------
    source, target
        The two grids.
    read
        Gives any window of the source as float32, NaN where unknown.
    name
        What the source is called in an error.

    Raises
    ------
    RasterError
        Only one of the two has a CRS and they differ in shape or transform, there is no way from one CRS to the other,
        or they do not overlap.
    """

    def __init__(self, source: Gridded, target: Gridded, read: Callable[[Tile], Values], *, name: str) -> None:
        self._source, self._target, self._read, self._name = source, target, read, name
        lacking = [grid.crs is None for grid in (source, target)]
        placed = [not (grid.crs is None and grid.transform.is_identity) for grid in (source, target)]
        self.same_grid = same_grid(source, target) and placed[0] == placed[1]
        self.step = (1.0, 1.0)  # source rows and columns in a pixel of the target
        if self.same_grid:
            return
        if lacking[0] != lacking[1] or not all(placed):
            bare, other = (name, "the input") if lacking[0] else ("the input", name)
            raise RasterError(
                f"{bare} has no CRS and differs in shape or position from {other}: wanted a CRS in both, or the very "
                "same grid; assign one (rio edit-info --crs)"
            )
        if self._source_window(Tile(0, 0, *target.shape), points=65, margin=(0.0, 0.0)) is None:
            raise RasterError(
                f"{name} does not overlap the input: {_extent(source)}, the input is {_extent(target)}; "
                "wanted a raster of the same place"
            )
        self.step = self._step()

    def read(self, window: Tile) -> Values:
        """A window of the target's grid, float32; NaN where the source is unknown or does not reach."""
        if self.same_grid:
            return self._read(window)
        out = np.full(window.shape, np.nan, dtype=np.float32)
        pairs = [(cell, near) for cell in self._cells(window) if (near := self._source_window(cell)) is not None]
        for cell, values in self._warp_all(pairs):
            rows = slice(max(cell.row, window.row), min(cell.row + cell.height, window.row + window.height))
            cols = slice(max(cell.col, window.col), min(cell.col + cell.width, window.col + window.width))
            inner = values[rows.start - cell.row : rows.stop - cell.row, cols.start - cell.col : cols.stop - cell.col]
            out[rows.start - window.row : rows.stop - window.row, cols.start - window.col : cols.stop - window.col] = (
                inner
            )
        return out

    def _cells(self, window: Tile) -> Iterator[Tile]:
        """The cells of the target that a window touches."""
        height, width = self._target.shape
        for row in range(window.row // CELL * CELL, window.row + window.height, CELL):
            for col in range(window.col // CELL * CELL, window.col + window.width, CELL):
                yield Tile(row, col, min(CELL, height - row), min(CELL, width - col))

    def _warp_all(self, pairs: Sequence[tuple[Tile, Tile]]) -> Iterator[tuple[Tile, Values]]:
        """Cells and their values; what they need of the source is read at once where it is not too much."""
        if not pairs:
            return
        top, left = (min(getattr(near, side) for _, near in pairs) for side in ("row", "col"))
        bottom, right = max(n.row + n.height for _, n in pairs), max(n.col + n.width for _, n in pairs)
        if (bottom - top) * (right - left) > SOURCE_PIXELS and len(pairs) > 1:
            middle = len(pairs) // 2
            yield from self._warp_all(pairs[:middle])
            yield from self._warp_all(pairs[middle:])
            return
        values = self._read(Tile(top, left, bottom - top, right - left))
        for cell, near in pairs:
            yield cell, self._warp(values[Tile(near.row - top, near.col - left, *near.shape).slices], near, cell)

    def _warp(self, values: Values, near: Tile, cell: Tile) -> Values:
        """One cell from the part of the source that it needs."""
        out = np.full(cell.shape, np.nan, dtype=np.float32)
        if np.isnan(values).all():
            return out
        rows, cols = self.step
        try:
            reproject(
                np.ascontiguousarray(values),
                out,
                src_transform=_shifted(self._source.transform, near),
                src_crs=self._source.crs or _PLANE,
                src_nodata=np.nan,
                dst_transform=_shifted(self._target.transform, cell),
                dst_crs=self._target.crs or _PLANE,
                dst_nodata=np.nan,
                resampling=Resampling.bilinear,
                XSCALE=1.0 / max(1.0, cols),
                YSCALE=1.0 / max(1.0, rows),
            )
        except Exception as error:  # rasterio lets GDAL's own classes through
            raise RasterError(f"{self._name} cannot be warped to the grid of the input ({_reason(error)})") from error
        return out

    def _source_window(
        self, tile: Tile, *, points: int = _POINTS, margin: tuple[float, float] | None = None
    ) -> Tile | None:
        """The pixels of the source that a part of the target needs; None where the source does not reach."""
        rows, cols = self._to_source(
            *np.meshgrid(
                np.linspace(tile.row, tile.row + tile.height, points),
                np.linspace(tile.col, tile.col + tile.width, points),
                indexing="ij",
            )
        )
        if rows.size == 0:
            return None
        ranges = []
        for place, length, step, axis in zip((rows, cols), self._source.shape, self.step, (0, 1), strict=True):
            low, high = float(place.min()), float(place.max())
            wide = margin[axis] if margin else 2.0 + max(1.0, step) + _SLACK * (high - low)
            first, last = max(0, int(np.floor(low - wide))), min(length, int(np.ceil(high + wide)))
            if last <= first:
                return None
            ranges.append((first, last - first))
        (row, height), (col, width) = ranges
        return Tile(row, col, height, width)

    def _to_source(self, rows: FloatArray, cols: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Rows and columns of the source at those of the target, flat, without points that no projection reaches."""
        x, y = _placed(self._target.transform, cols.ravel(), rows.ravel())
        here, there = self._target.crs, self._source.crs
        if here is not None and there is not None and here != there:
            try:
                moved = transform(here, there, x, y)
            except Exception as error:
                raise RasterError(
                    f"{self._name} lies in {there}: no way there from the CRS of the input, {here} ({_reason(error)})"
                ) from error
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


def _shifted(t: Affine, tile: Tile) -> Affine:
    """The transform of a part of a grid."""
    x, y = t.a * tile.col + t.b * tile.row + t.c, t.d * tile.col + t.e * tile.row + t.f
    return Affine(t.a, t.b, x, t.d, t.e, y)


def _extent(grid: Gridded) -> str:
    """Where a grid lies, in a few words."""
    height, width = grid.shape
    corners = _placed(grid.transform, np.array([0.0, width, 0.0, width]), np.array([0.0, 0.0, height, height]))
    (left, right), (bottom, top) = ((axis.min(), axis.max()) for axis in corners)
    return f"x {left:.7g} to {right:.7g}, y {bottom:.7g} to {top:.7g} in {grid.crs or 'no CRS'}"


def _reason(error: Exception) -> str:
    """What GDAL said, in one line."""
    return " ".join(str(error.__cause__ or error).split())[:160]
