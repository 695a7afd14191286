"""Means over polygons with their uncertainty.

The errors of neighbouring filled pixels are alike, so they do not average out as independent ones would. The samples of
a fill are coherent fields: the mean over a polygon is taken in each of them, and their spread is its uncertainty.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from lacunar.errors import LacunarError, RasterError, one_line
from lacunar.fill.blocks import FILLED, NODATA
from lacunar.fill.outputs import OutputFiles
from lacunar.geo.gate import read_vectors
from lacunar.geo.grid import Gridded, check_same_grid
from lacunar.geo.labelled import grid_of
from lacunar.geo.raster import RasterSource
from lacunar.geo.staging import Staging
from lacunar.geo.windows import Tile, blocks_over

COLUMNS = ("pixels", "filled_share", "mean", "sigma")
ENDINGS = (".gpkg", ".geojson", ".csv")
SAME_MEAN = 1e-4  # of the largest value, by which the mean of the samples may miss the raster
BLOCK = 1024  # side of the windows in which a large polygon is read

Reader = Callable[[Tile], tuple[NDArray[Any], NDArray[Any]]]  # source (H, W) and samples (K, H, W) of a window


def zonal(filled: xr.Dataset | str | Path, polygons: gpd.GeoDataFrame | str | Path) -> gpd.GeoDataFrame:
    r"""Mean of a filled raster over polygons, its standard deviation, and how much of it is filled.

    With :math:`m_k` the mean of sample k over the pixels of a polygon, ``mean`` is the mean of the :math:`m_k` and
    ``sigma`` their standard deviation: it holds the correlation between pixels. Eight samples tell it to a third or so;
    32 are better.

    Parameters
    ----------
    filled
        What `lacunar.fill` gave with ``return_samples=True``, or a raster of `lacunar.fill_file` with its
        ``*_realisations.tif`` beside it, which is read in windows.
    polygons
        In any CRS, or a file of them. A pixel belongs to a polygon that its centre lies in; a polygon without any takes
        the pixels that it touches.

    Returns
    -------
    geopandas.GeoDataFrame
        The polygons, with the columns ``pixels`` (measured or filled), ``filled_share`` (of these, 0 to 1), ``mean``
        and ``sigma`` (in the unit of the raster; NaN where there are no pixels).

    Raises
    ------
    LacunarError
        No samples, no polygons, columns of these names, or no way from one CRS to the other.

    Examples
    --------
    >>> import geopandas, lacunar as lc, numpy as np, shapely, xarray as xr
    >>> lst = 300 + np.add.outer(np.arange(64.0), np.arange(64.0)) / 10
    >>> lst[20:30, 20:30] = np.nan
    >>> array = xr.DataArray(lst, dims=("y", "x"), coords={"y": -np.arange(64.0), "x": np.arange(64.0)})
    >>> filled = lc.fill(array, return_samples=True, samples=4)
    >>> park = geopandas.GeoDataFrame(geometry=[shapely.box(19.5, -39.5, 29.5, -19.5)])
    >>> found = lc.zonal(filled, park)
    >>> found[["pixels", "filled_share"]].values.tolist(), bool(0 < found["sigma"][0] < 1)
    ([[200.0, 0.5]], True)
    """
    zones = polygons if isinstance(polygons, gpd.GeoDataFrame) else read_vectors(Path(polygons))
    if taken := sorted(set(COLUMNS) & set(zones.columns)):
        raise LacunarError(f"the polygons have a column {taken[0]!r} already, which is written: rename it")
    with ExitStack() as stack:
        grid, read = _labelled(filled) if isinstance(filled, xr.Dataset) else _on_disk(Path(filled), stack)
        placed = _in_crs_of(zones, grid)
        found = [_zone(shape, grid, read) for shape in placed.geometry]
    columns = {name: [row[number] for row in found] for number, name in enumerate(COLUMNS)}
    return zones.assign(**columns)


def write_zones(path: Path, zones: gpd.GeoDataFrame, *, overwrite: bool = False, inputs: Sequence[Path] = ()) -> None:
    """Write what `zonal` gives: .gpkg or .geojson, or .csv without the geometry; else a `RasterError`."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise RasterError(f"{path}: got the ending {path.suffix!r}, wanted one of {', '.join(ENDINGS)}: rename it")
    with Staging(overwrite=overwrite, inputs=inputs) as staging:
        hidden = staging.stage(path)
        try:
            if ending == ".csv":
                zones.drop(columns=zones.geometry.name).to_csv(hidden, index=False)
            else:
                zones.to_file(hidden, engine="pyogrio")
        except Exception as error:  # GDAL's own classes and OSError
            raise RasterError(f"{path.name}: cannot be written ({one_line(error)}); choose another place") from error


def _in_crs_of(zones: gpd.GeoDataFrame, grid: Gridded) -> gpd.GeoDataFrame:
    kinds = set(zones.geom_type.dropna())
    if not len(zones) or not kinds <= {"Polygon", "MultiPolygon"}:
        raise LacunarError(f"got {len(zones)} shapes of the kinds {sorted(kinds)}: wanted one polygon or more")
    if (zones.crs is None) != (grid.crs is None):
        bare = "the polygons have" if zones.crs is None else "the raster has"
        raise LacunarError(f"{bare} no CRS: wanted one in both, or in neither; assign it")
    return zones if grid.crs is None else zones.to_crs(grid.crs.to_wkt())


def _labelled(filled: xr.Dataset) -> tuple[Gridded, Reader]:
    if "samples" not in filled or "source" not in filled:
        raise LacunarError("the dataset holds no samples: wanted that of lacunar.fill(..., return_samples=True)")

    def read(window: Tile) -> tuple[NDArray[Any], NDArray[Any]]:
        source, samples = filled["source"].data[window.slices], filled["samples"].data[:, *window.slices]
        return np.asarray(source), np.asarray(samples)

    return grid_of(filled["value"]), read


def _on_disk(path: Path, stack: ExitStack) -> tuple[Gridded, Reader]:
    beside = OutputFiles(raster=path).realisations
    raster = stack.enter_context(RasterSource(path))
    if not beside.is_file() or "source" not in raster.band_names:
        got = (
            f"{path} has no {beside.name} beside it" if "source" in raster.band_names else f"{path} has no band source"
        )
        raise RasterError(f"{got}: wanted what `lacunar lst` or `lacunar fill` writes with --realisations 32")
    samples = stack.enter_context(RasterSource(beside))
    check_same_grid(raster, samples, names=(str(path), str(beside)))
    source = raster.band_names.index("source") + 1

    def read(window: Tile) -> tuple[NDArray[Any], NDArray[Any]]:
        (value, kind), drawn = raster.read(window, bands=[1, source]).data, samples.read(window).data
        told = kind == FILLED
        if np.abs(drawn.mean(axis=0)[told] - value[told]).max(initial=0.0) > SAME_MEAN * np.abs(value[told]).max(
            initial=0
        ):
            raise RasterError(f"{beside.name} is of another fill than {path}: wanted both of one run; write them anew")
        return kind, drawn

    return raster, read


def _zone(shape: BaseGeometry | None, grid: Gridded, read: Reader) -> tuple[int, float, float, float]:
    """`COLUMNS` of one polygon."""
    pixels, filled, sums = 0, 0, np.zeros(1)
    for touched in (False, True):  # a polygon between the centres of pixels takes those that it touches
        for window in _windows(shape, grid):
            source, samples = read(window)
            here = grid.transform @ Affine.translation(window.col, window.row)
            inside = geometry_mask([shape], window.shape, here, invert=True, all_touched=touched) & (source != NODATA)
            pixels, filled = pixels + int(inside.sum()), filled + int((inside & (source == FILLED)).sum())
            sums = sums + samples[:, inside].sum(axis=1, dtype=np.float64)
        if pixels:
            break
    if not pixels:
        return 0, np.nan, np.nan, np.nan
    means = sums / pixels
    # An even number of samples comes in opposite pairs, whose mean is exact: no degree of freedom is lost.
    return pixels, filled / pixels, float(means.mean()), float(means.std(ddof=len(means) % 2))


def _windows(shape: BaseGeometry | None, grid: Gridded) -> list[Tile]:
    """Windows of the grid that cover the bounds of a polygon."""
    if shape is None or shape.is_empty or not np.isfinite(shape.bounds).all():
        return []
    left, bottom, right, top = shape.bounds
    back = ~grid.transform
    corners = np.array([back @ (x, y) for x in (left, right) for y in (bottom, top)])
    (first_col, first_row), (last_col, last_row) = np.floor(corners.min(0)), np.ceil(corners.max(0))
    row, col = max(0, int(first_row)), max(0, int(first_col))
    height, width = min(grid.shape[0], int(last_row)) - row, min(grid.shape[1], int(last_col)) - col
    if height < 1 or width < 1:
        return []
    parts = [block.core for block in blocks_over((height, width), block=BLOCK, halo=0)]
    return [Tile(row + part.row, col + part.col, *part.shape) for part in parts]
