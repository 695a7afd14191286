"""A mask as polygons: one per water body, with its area and shoreline in metres, in a GeoPackage or GeoJSON file.

Pixels that touch at a side or a corner are one body: a river one pixel wide is one river. Outlines follow the pixels
exactly and islands stay holes. Areas and lengths are those on the ellipsoid of the raster's CRS, whatever its
projection; without a CRS they are in pixels. The mask is held in memory, 1 byte per pixel; probability is read strip by
strip.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS as GeodeticCRS
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.features import shapes
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lacunar.errors import RasterError, one_line
from lacunar.geo.windows import Tile

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON"}
LAYER = "water"  # of a GeoPackage

STRIP_ROWS = 256  # rows of the probability that are read at once
# Straight sides are cut to this many pixels before they are bent to another projection: the middle of a side of 16
# pixels of 30 m then moves by 5 mm.
LONGEST_SIDE = 16.0

Floats = NDArray[np.float64]
Outlines = NDArray[np.object_]


def check_polygon_file(path: Path) -> None:
    """Refuse, with a ``RasterError``, any ending but .gpkg and .geojson."""
    if path.suffix.lower() not in DRIVERS:
        raise RasterError(f"{path}: got the ending '{path.suffix}'; wanted polygons as {' or '.join(DRIVERS)}: rename")


def check_measurable(crs: CRS | None) -> None:
    """Refuse, with a ``RasterError``, a CRS that does not lead to longitude and latitude; None means pixels."""
    if crs is not None:
        _geodetic(crs)


def area_column(crs: CRS | None) -> str:
    """Name of the column of areas: square metres, or pixels without a CRS."""
    return "area_m2" if crs is not None else "area_pixels"


def pixel_sides(transform: Affine, crs: CRS | None, shape: tuple[int, int]) -> tuple[float, float]:
    """Metres of a pixel's width and height on the ellipsoid, in the middle of a raster; 1 and 1 without a CRS."""
    if crs is None:
        return 1.0, 1.0
    geodetic, ellipsoid = _geodetic(crs)
    row, col = shape[0] / 2, shape[1] / 2
    corners = [transform @ (x, y) for x, y in ((col, row), (col + 1, row), (col, row + 1))]
    there = Transformer.from_crs(crs.to_wkt(), geodetic, always_xy=True)
    x, y = there.transform([corner[0] for corner in corners], [corner[1] for corner in corners])
    _, _, (width, height) = ellipsoid.inv([x[0]] * 2, [y[0]] * 2, x[1:], y[1:])
    return float(width), float(height)


def polygonize(
    mask: NDArray[np.bool_],
    transform: Affine,
    crs: CRS | None,
    *,
    means: Mapping[str, Callable[[Tile], NDArray[np.floating[Any]]]] = MappingProxyType({}),
) -> gpd.GeoDataFrame:
    """Trace the bodies of a mask (H, W) and measure them: one MultiPolygon per body, the largest first.

    Columns are ``id`` (from 1), ``area_m2`` and ``perimeter_m``, shores of islands included, ``pixels``, and the mean
    over the body (NaN counts as 0) of every raster that ``means`` names and reads by windows. Without a CRS the
    polygons are in pixels, x the column and y the row, counted downwards from the upper left corner, and so are
    ``area_pixels`` and ``perimeter_pixels``. A CRS that does not lead to longitude and latitude, or pixels outside
    where it holds, are a ``RasterError``.

    >>> lake = np.array([[True, True], [True, False]])
    >>> polygonize(lake, Affine.identity(), None)[["id", "area_pixels", "perimeter_pixels"]].values.tolist()
    [[1.0, 3.0, 8.0]]
    """
    outlines = _traced(mask)
    pixels = shapely.area(outlines)
    if crs is None:
        columns = {"area_pixels": pixels, "perimeter_pixels": shapely.length(outlines)}
    else:
        area, perimeter = _on_ellipsoid(outlines, transform, crs)
        columns = {"area_m2": area, "perimeter_m": perimeter, "pixels": np.round(pixels).astype(np.int64)}
    for name, read in means.items():
        columns[name] = _sums_within(outlines, read, mask.shape) / pixels
    placed, wkt = (outlines, None) if crs is None else (_placed(outlines, transform), crs.to_wkt())
    bodies = gpd.GeoDataFrame(columns, geometry=placed, crs=wkt)
    bodies = bodies.sort_values(area_column(crs), ascending=False, kind="stable", ignore_index=True)
    bodies.insert(0, "id", np.arange(1, len(bodies) + 1))
    return bodies


def pixel_counts(bodies: gpd.GeoDataFrame) -> pd.Series:
    """Pixels of each body that `polygonize` traced."""
    counts: pd.Series = bodies["pixels" if "pixels" in bodies else "area_pixels"]
    return counts


def simplified(bodies: gpd.GeoDataFrame, tolerance: float, transform: Affine) -> gpd.GeoDataFrame:
    """Bodies with fewer corners, none of them lost, torn or crossing another.

    ``tolerance`` is in pixels of the raster that has this transform: what is cut off at a corner has about its square
    as area (Visvalingam & Whyatt 1993). Measures stay those of the pixels.
    """
    side = 1.0 if bodies.crs is None else abs(transform.determinant) ** 0.5
    return bodies.set_geometry(bodies.geometry.simplify_coverage(tolerance * side))


def write_polygons(path: Path, bodies: gpd.GeoDataFrame, transform: Affine) -> None:
    """Write polygons as GeoPackage (in their CRS) or GeoJSON (RFC 7946: longitude and latitude of WGS 84).

    Without a CRS both hold pixels. ``transform`` is that of the raster. Another ending, or a file that cannot be
    written, is a ``RasterError``.
    """
    check_polygon_file(path)
    driver, options = DRIVERS[path.suffix.lower()], {}
    if driver == "GeoJSON" and bodies.crs is not None:
        pixel = min(np.hypot(transform.a, transform.d), np.hypot(transform.b, transform.e))
        bodies = bodies.set_geometry(bodies.segmentize(LONGEST_SIDE * pixel))
        options = {"RFC7946": "YES"}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
            pyogrio.write_dataframe(bodies, path, layer=LAYER, driver=driver, geometry_type="MultiPolygon", **options)
    except Exception as error:  # GDAL's own classes and OSError
        got = f"{path.name}: cannot be written ({one_line(error)})"
        raise RasterError(f"{got}; wanted a writable folder with free space") from error


def _traced(mask: NDArray[np.bool_]) -> Outlines:
    """One MultiPolygon in pixels for each body, in the order in which they are traced."""
    # Traced by sides alone, rings never touch themselves; parts that touch at a corner are joined afterwards.
    traced = [json.dumps(geometry) for geometry, _ in shapes(mask.view(np.uint8), mask=mask, connectivity=4)]
    parts = np.asarray(shapely.from_geojson(traced), dtype=object)
    if not len(parts):
        return parts
    corners, part = shapely.get_coordinates(parts, return_index=True)
    _, corner = np.unique(corners, axis=0, return_inverse=True)
    size = len(parts) + int(corner.max()) + 1
    links = coo_array((np.ones(part.size, dtype=np.bool_), (part, len(parts) + corner.ravel())), shape=(size, size))
    body = connected_components(links, directed=False)[1][: len(parts)]
    order = np.argsort(body, kind="stable")
    return np.asarray(shapely.multipolygons(parts[order], indices=body[order]))


def _on_ellipsoid(outlines: Outlines, transform: Affine, crs: CRS) -> tuple[Floats, Floats]:
    """Areas in square metres, and lengths of all shores in metres."""
    geodetic, ellipsoid = _geodetic(crs)
    placed = shapely.orient_polygons(_placed(shapely.segmentize(outlines, LONGEST_SIDE), transform))
    bent = gpd.GeoSeries(placed, crs=crs.to_wkt()).to_crs(geodetic)
    area = np.array([ellipsoid.geometry_area_perimeter(outline)[0] for outline in bent])  # less that of islands
    length = np.array([ellipsoid.geometry_length(shores) for shores in bent.boundary])
    if not np.isfinite([area, length]).all():
        name = GeodeticCRS.from_wkt(crs.to_wkt()).name
        raise RasterError(f"pixels lie outside where the CRS {name!r} holds: wanted the CRS of this place; check it")
    return np.abs(area), length


def _geodetic(crs: CRS) -> tuple[GeodeticCRS, Geod]:
    """The longitude and latitude that a CRS is based on, and their ellipsoid."""
    here = GeodeticCRS.from_wkt(crs.to_wkt())
    geodetic, ellipsoid = here.geodetic_crs, here.get_geod()
    if geodetic is None or ellipsoid is None:
        raise RasterError(f"no way from the CRS {here.name!r} to longitude and latitude: wanted one on the earth")
    return geodetic, ellipsoid


def _placed(outlines: Outlines, transform: Affine) -> Outlines:
    t = transform
    matrix, start = np.array([[t.a, t.d], [t.b, t.e]]), np.array([t.c, t.f])
    return np.asarray(shapely.transform(outlines, lambda xy: xy @ matrix + start))


def _sums_within(
    outlines: Outlines, read: Callable[[Tile], NDArray[np.floating[Any]]], shape: tuple[int, ...]
) -> Floats:
    """Sum of a raster over each body, read strip by strip, from the outlines alone.

    The sum of a row between two borders is the difference of its running sum at both. Rings run with the water on one
    side, so an upright side counts + or - by its direction.
    """
    parts, body = shapely.get_parts(outlines, return_index=True)
    rings, part = shapely.get_rings(shapely.orient_polygons(parts), return_index=True)
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    corners = corners.astype(np.int64)
    rise = np.where(ring[1:] == ring[:-1], np.diff(corners[:, 1]), 0)  # only within a ring
    sums, upright = np.zeros(len(outlines)), np.flatnonzero(rise)
    top = np.minimum(corners[upright, 1], corners[upright + 1, 1])
    column, owner, sign = corners[upright, 0], body[part[ring[upright]]], np.sign(rise[upright])
    bottom = top + np.abs(rise[upright])
    for row in range(0, shape[0], STRIP_ROWS):
        rows = min(STRIP_ROWS, shape[0] - row)
        near = np.flatnonzero((top < row + rows) & (bottom > row))
        if not near.size:
            continue
        running = np.zeros((rows + 1, shape[1] + 1))
        running[1:, 1:] = np.nan_to_num(read(Tile(row, 0, rows, shape[1])))
        running = running.cumsum(axis=1).cumsum(axis=0)
        first, last = np.maximum(top[near] - row, 0), np.minimum(bottom[near] - row, rows)
        np.add.at(sums, owner[near], sign[near] * (running[last, column[near]] - running[first, column[near]]))
    return sums
