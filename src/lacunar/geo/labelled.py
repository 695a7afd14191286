"""Labelled arrays: what the public functions take and give (`xarray.DataArray`, CRS through `rio`, or plain numpy).

A function works on a DataArray inside; one that got a numpy array gives numpy arrays back. NaN = missing. Dask arrays
stay lazy here.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  # registers the accessor `rio`
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from lacunar.errors import LacunarError, RasterError
from lacunar.geo.grid import Gridded, check_same_grid, same_grid
from lacunar.geo.warp import Warped
from lacunar.geo.windows import Tile

AnyArray = xr.DataArray | NDArray[Any]

ROW, COL = "y", "x"
MISSING = "missing"  # a coordinate of booleans: which pixels are to be filled, of those that are NaN
TIME_NAMES = ("time", "date", "t")
_SCALE, _NODATA = ("scale_factor", "add_offset"), ("_FillValue", "missing_value")  # attributes of stored values


@dataclass(frozen=True)
class Grid:
    """Size and position of an array; without a CRS and with the identity as transform it is in pixels."""

    shape: tuple[int, int]
    transform: Affine
    crs: CRS | None


def as_labelled(array: AnyArray, *, name: str) -> xr.DataArray:
    """A DataArray of floats whose last two dimensions are rows and columns; what is missing is NaN.

    It is made from a DataArray with coordinates, or from anything that numpy takes. Integers are decoded by the
    attributes ``scale_factor``, ``add_offset`` and ``_FillValue``, as `rioxarray.open_rasterio` leaves them. A
    `LacunarError` that calls the array by its ``name`` refuses other shapes, and complex numbers.
    """
    if not isinstance(array, xr.DataArray):
        values = array if is_lazy(array) else np.asarray(array)
        if values.ndim < 2:
            raise LacunarError(f"{name} has shape {values.shape}: wanted an array of rows and columns")
        extra = [f"axis_{number}" for number in range(values.ndim - 2)]
        return _decoded(xr.DataArray(values, dims=[*extra, ROW, COL]), name)
    if array.ndim < 2:
        raise LacunarError(f"{name} has the dimensions {array.dims}: wanted rows and columns")
    rows, cols = _spatial_dims(array)
    if rows not in array.coords or cols not in array.coords:
        got = f"{name} is a DataArray without coordinates along {rows} and {cols}"
        raise LacunarError(f"{got}: add them (`assign_coords`), or give its `.values` to work in pixels")
    array = array.transpose(..., rows, cols)
    if "band" in array.dims and array.sizes["band"] == 1:  # as rioxarray opens a raster of one band
        array = array.isel(band=0, drop=True)
    return _decoded(array, name)


def grid_of(array: xr.DataArray) -> Grid:
    """Where a labelled array lies; coordinates that are not evenly spaced are a `RasterError`."""
    rows, cols = array.dims[-2:]
    shape = (array.sizes[rows], array.sizes[cols])
    if rows not in array.coords:
        return Grid(shape, Affine.identity(), None)
    placed = array.rio.set_spatial_dims(cols, rows)
    for axis in (rows, cols):
        steps = np.diff(array[axis].values.astype(np.float64))
        if steps.size and np.ptp(steps) > 1e-3 * abs(steps[0]):
            raise RasterError(f"the coordinates along {axis} are not evenly spaced: wanted a regular grid; resample it")
    return Grid(shape, placed.rio.transform(recalc=True), placed.rio.crs)


def coordinates_of(grid: Gridded) -> dict[str, NDArray[np.floating[Any]]]:
    """Coordinates of the centres of pixels along rows and columns; a rotated grid has none: `RasterError`."""
    t, (height, width) = grid.transform, grid.shape
    if t.b or t.d:
        raise RasterError("the grid is rotated: wanted rows along x and columns along y; warp it first (gdalwarp)")
    return {ROW: t.f + t.e * (np.arange(height) + 0.5), COL: t.c + t.a * (np.arange(width) + 0.5)}


def labelled_on(grid: Gridded, window: Tile, values: NDArray[Any], *, name: str, attrs: dict[str, str]) -> xr.DataArray:
    """Values (y, x) or (band, y, x) of a window of a grid, with its coordinates and CRS."""
    coords = {axis: at[part] for (axis, at), part in zip(coordinates_of(grid).items(), window.slices, strict=True)}
    dims = (*(["band"] if values.ndim == 3 else []), ROW, COL)
    array = xr.DataArray(values, dims=dims, coords=coords, attrs=attrs, name=name)
    placed: xr.DataArray = array if grid.crs is None else array.rio.write_crs(grid.crs)
    return placed


def on_grid(array: AnyArray, target: xr.DataArray, *, name: str) -> xr.DataArray:
    """An array (as `as_labelled` takes it) on the grid of a labelled one, float32; warped (bilinear) where they differ.

    A numpy array must have the shape of the target. To warp, both need a CRS and must overlap, else a `RasterError`.
    """
    given = as_labelled(array, name=name)
    if given.ndim != 2:
        raise LacunarError(f"{name} has the dimensions {given.dims}: wanted rows and columns; give one array a date")
    here, there = grid_of(given), grid_of(target)
    if not isinstance(array, xr.DataArray) or same_grid(here, there):
        check_same_grid(there, here, names=("the array", name))
        return _relabelled(given, target).astype(np.float32)
    if here.crs is None or there.crs is None:
        lacking = name if here.crs is None else "the array"
        got = f"{name} lies on another grid and {lacking} has no CRS"
        raise RasterError(f"{got}: wanted a CRS in both, or one grid; assign it with `.rio.write_crs`")

    def read(window: Tile) -> NDArray[np.float32]:
        return np.asarray(given[window.slices], dtype=np.float32)

    values = Warped(here, there, read, name=name).read(Tile(0, 0, *there.shape))
    return _relabelled(xr.DataArray(values, dims=given.dims, attrs=given.attrs), target)


def missing_of(missing: AnyArray, target: xr.DataArray) -> xr.DataArray:
    """A mask (True = to be filled) as a DataArray on a labelled array's grid; other types or grids are refused."""
    mask = missing if isinstance(missing, xr.DataArray) else xr.DataArray(missing, dims=target.dims[-2:])
    if mask.dtype != np.bool_:
        raise LacunarError(f"missing holds {mask.dtype} values: wanted booleans, True = to be filled (`missing == 1`)")
    if mask.shape != target.shape[-2:]:
        raise LacunarError(f"missing has shape {mask.shape}: wanted that of the array, {target.shape[-2:]}")
    if isinstance(missing, xr.DataArray) and mask.dims[-2] in mask.coords:
        check_same_grid(grid_of(target), grid_of(mask), names=("the array", "missing"))
    return _relabelled(mask, target).drop_vars(MISSING, errors="ignore")


def time_dim(array: xr.DataArray) -> str | None:
    """Name of the first dimension where the array has three and that one holds dates, else None."""
    first = str(array.dims[0])
    dated = first in array.coords and np.issubdtype(array[first].dtype, np.datetime64)
    return first if array.ndim == 3 and (dated or first.lower() in TIME_NAMES) else None


def is_lazy(array: object) -> bool:
    """Whether an array, labelled or not, is backed by dask."""
    return hasattr(getattr(array, "data", array), "dask")


def units_of(array: xr.DataArray) -> str:
    """The attribute ``units``, or no text."""
    return str(array.attrs.get("units", ""))


def undecoded(array: AnyArray) -> bool:
    """Whether an array holds integers and no attribute says what they mean."""
    scale = [getattr(array, "attrs", {}).get(name) for name in _SCALE]
    return array.dtype.kind in "ui" and scale in ([None, None], [1, 0])


def dataset_on(array: xr.DataArray, variables: dict[str, Any], attrs: dict[str, Any]) -> xr.Dataset:
    """Variables, each an array or an (array, attributes) pair, on rows, columns and the coordinates of an array."""
    rows, cols = array.dims[-2:]
    coords = {name: one for name, one in array.coords.items() if set(one.dims) <= {rows, cols} and name != MISSING}
    made = {}
    for name, value in variables.items():
        values, said = value if isinstance(value, tuple) else (value, {})
        made[name] = xr.DataArray(values, dims=(rows, cols), coords=coords, attrs=said)
    return xr.Dataset(made, attrs=attrs)


def _spatial_dims(array: xr.DataArray) -> tuple[str, str]:
    """Names of the rows and the columns: those that rio knows (y and x, latitude and longitude), else the last two."""
    try:
        return str(array.rio.y_dim), str(array.rio.x_dim)
    except Exception:  # rioxarray's own class
        return str(array.dims[-2]), str(array.dims[-1])


def _decoded(array: xr.DataArray, name: str) -> xr.DataArray:
    """Floats, decoded by scale and offset; what equals the fill value, or is not finite, becomes NaN."""
    if array.dtype.kind not in "buif":
        raise LacunarError(f"{name} holds {array.dtype} values: wanted real numbers")
    scale, offset = (array.attrs.get(key, neutral) for key, neutral in zip(_SCALE, (1.0, 0.0), strict=True))
    nodata = next((array.attrs[key] for key in _NODATA if key in array.attrs), None)
    attrs = {key: value for key, value in array.attrs.items() if key not in (*_SCALE, *_NODATA)}
    known = np.isfinite(array) if nodata is None else np.isfinite(array) & (array != nodata)
    values = array
    if array.dtype.kind != "f":
        values = array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)
        values = values * values.dtype.type(scale) + values.dtype.type(offset)
    return values.where(known).assign_attrs(attrs)


def _relabelled(array: xr.DataArray, target: xr.DataArray) -> xr.DataArray:
    """The array with the target's own coordinates, which differ from its own by rounding at most."""
    rows, cols = target.dims[-2:]
    coords = {axis: target[axis] for axis in (rows, cols) if axis in target.coords}
    return xr.DataArray(array.data, dims=(rows, cols), coords=coords, attrs=array.attrs)
