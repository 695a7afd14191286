"""Water bodies as polygons: one feature each, with area and shoreline in metres, written as GeoPackage or GeoJSON.

Pixels that touch at a side or a corner are one body (a river one pixel wide is one river). Borders follow the pixels
exactly and islands stay holes. Areas and lengths are those on the ellipsoid of the raster's CRS, whatever its
projection; without a CRS they are pixels. The whole mask is held while it is traced, 1 byte per pixel; everything else
is read strip by strip.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
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

from lacunar.errors import RasterError
from lacunar.geo.grid import Gridded
from lacunar.geo.windows import Tile, blocks_over

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON"}
LAYER = "water"  # of a GeoPackage

BLOCK = 1024  # side of the parts in which a mask is read
STRIP_ROWS = 256  # rows of the probability that are held at once
# Straight sides are cut to this many pixels before they are bent to another projection: of a side of 16 pixels of 30 m
# the middle moves by 5 mm.
LONGEST_SIDE = 16.0

FloatArray = NDArray[np.float64]
Polygons = NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Bodies:
    """Water bodies of one map, the largest first; body i has the id i + 1.

    Parameters
    ----------
    outlines
        (N,) MultiPolygons in pixels: x is the column, y the row, from the upper left corner.
    area, perimeter
        (N,), in square metres and metres, shores of islands included; without a CRS in pixels and pixel sides.
    mean_probability
        (N,), mean of the probability of water over the body.
    """

    outlines: Polygons
    area: FloatArray
    perimeter: FloatArray
    mean_probability: FloatArray

    def __len__(self) -> int:
        """How many."""
        return len(self.outlines)

    def from_area(self, least: float) -> "Bodies":
        """Those of at least this area."""
        large = self.area >= least
        return replace(self, **{name: values[large] for name, values in vars(self).items()})


def check_polygon_file(path: Path) -> None:
    """Refuse a name whose ending says no format.

    Raises
    ------
    RasterError
        Any ending but .gpkg and .geojson.
    """
    if path.suffix.lower() not in DRIVERS:
        raise RasterError(f"{path}: got the ending '{path.suffix}'; wanted polygons as {' or '.join(DRIVERS)}: rename")


def check_measurable(grid: Gridded) -> None:
    """Refuse a grid whose areas cannot be told in square metres, before any work is done; one without a CRS is pixels.

    Raises
    ------
    RasterError
        A CRS from which no way leads to longitude and latitude.
    """
    if grid.crs is not None:
        _earthly(grid.crs)


def find_bodies(
    water: Callable[[Tile], NDArray[np.bool_]], probability: Callable[[Tile], NDArray[np.floating[Any]]], grid: Gridded
) -> Bodies:
    """Trace the water bodies of a mask and measure them.

    Parameters
    ----------
    water
        Gives any window of the mask, boolean.
    probability
        Gives any window of the probability of water; NaN counts as 0.
    grid
        Size, position and CRS.

    Returns
    -------
    Bodies
        The largest first; none for a map without water.

    Raises
    ------
    RasterError
        A CRS from which no way leads to longitude and latitude.
    """
    outlines = _outlines(water, grid.shape)
    pixels = shapely.area(outlines)
    if grid.crs is None:
        area, perimeter = pixels, shapely.length(outlines)
    else:
        area, perimeter = _on_ellipsoid(outlines, grid.transform, grid.crs)
    mean = _sums_within(outlines, probability, grid.shape) / pixels
    order = np.argsort(-area, kind="stable")
    return Bodies(outlines[order], area[order], perimeter[order], mean[order])


def write_bodies(
    path: Path, parts: Sequence[tuple[Mapping[str, str], Bodies]], *, transform: Affine, crs: CRS | None
) -> None:
    """Write polygons as GeoPackage (in the raster's CRS) or GeoJSON (RFC 7946: longitude and latitude of WGS 84).

    Without a CRS both hold pixels: x the column, y the row, counted downwards from the upper left corner.

    Parameters
    ----------
    path
        Ends in .gpkg or .geojson.
    parts
        Bodies, each with further columns that hold one text for all of them.
    transform, crs
        Of the raster.

    Raises
    ------
    RasterError
        Another ending, or a file that cannot be written.
    """
    check_polygon_file(path)
    driver = DRIVERS[path.suffix.lower()]
    outlines = np.concatenate([bodies.outlines for _, bodies in parts])
    if crs is not None:
        outlines = _moved(shapely.segmentize(outlines, LONGEST_SIDE) if driver == "GeoJSON" else outlines, transform)
    square, length = ("area_m2", "perimeter_m") if crs is not None else ("area_pixels", "perimeter_pixels")
    columns = {"id": np.concatenate([np.arange(1, len(bodies) + 1) for _, bodies in parts])}
    for name in dict.fromkeys(name for texts, _ in parts for name in texts):
        columns[name] = np.concatenate([np.full(len(bodies), texts[name], dtype=object) for texts, bodies in parts])
    for name, values in ((square, "area"), (length, "perimeter"), ("mean_probability", "mean_probability")):
        columns[name] = np.concatenate([getattr(bodies, values) for _, bodies in parts])
    options = {"RFC7946": "YES"} if driver == "GeoJSON" and crs is not None else {}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
            pyogrio.raw.write(
                path,
                shapely.to_wkb(outlines),
                list(columns.values()),
                list(columns),
                layer=LAYER,
                driver=driver,
                geometry_type="MultiPolygon",
                crs=None if crs is None else crs.to_wkt(),
                **options,
            )
    except Exception as error:  # GDAL's own classes and OSError
        reason = " ".join(str(error).split())[:160]
        raise RasterError(f"{path}: cannot be written ({reason}); wanted a writable folder with free space") from error


def _outlines(water: Callable[[Tile], NDArray[np.bool_]], shape: tuple[int, int]) -> Polygons:
    """One MultiPolygon for each body, in pixels."""
    mask = np.zeros(shape, dtype=np.uint8)
    for block in blocks_over(shape, block=BLOCK, halo=0):
        mask[block.core.slices] = water(block.core)
    # Traced by sides alone, rings never touch themselves; parts that touch at a corner are joined afterwards.
    traced = shapes(mask, mask=mask, connectivity=4)
    parts = np.array([shapely.from_geojson(_geojson(geometry)) for geometry, _ in traced], dtype=object)
    if not len(parts):
        return parts
    body = _joined_at_corners(parts)
    order = np.argsort(body, kind="stable")
    return np.asarray(shapely.multipolygons(parts[order], indices=body[order]))


def _geojson(geometry: Mapping[str, Any]) -> str:
    """A traced polygon as text, whose parser is many times faster than building it ring by ring."""
    rings = ",".join("[" + ",".join(f"[{x:.0f},{y:.0f}]" for x, y in ring) + "]" for ring in geometry["coordinates"])
    return f'{{"type":"Polygon","coordinates":[{rings}]}}'


def _joined_at_corners(parts: Polygons) -> NDArray[np.int32]:
    """Which body each part belongs to: parts that share a corner are one."""
    corners, part = shapely.get_coordinates(parts, return_index=True)
    _, corner = np.unique(corners, axis=0, return_inverse=True)
    links = coo_array((np.ones(part.size, dtype=np.bool_), (part, len(parts) + corner.ravel())))
    size = len(parts) + int(corner.max()) + 1
    links.resize((size, size))
    _, body = connected_components(links, directed=False)
    return np.asarray(np.unique(body[: len(parts)], return_inverse=True)[1], dtype=np.int32)


def _on_ellipsoid(outlines: Polygons, transform: Affine, crs: CRS) -> tuple[FloatArray, FloatArray]:
    """Area in square metres and length of all shores in metres."""
    here, there, ellipsoid = _earthly(crs)
    rings, body, sign = _rings(outlines)
    placed = _moved(shapely.segmentize(rings, LONGEST_SIDE), transform)
    way = Transformer.from_crs(here, there, always_xy=True)
    bent = shapely.transform(placed, lambda xy: np.column_stack(way.transform(xy[:, 0], xy[:, 1])))
    area, length = np.zeros((2, len(outlines)))
    for ring, owner, side in zip(bent, body, sign, strict=True):
        square, around = _measured(ellipsoid, shapely.get_coordinates(ring), here.name)
        area[owner] += side * square
        length[owner] += around
    return area, length


def _earthly(crs: CRS) -> tuple[GeodeticCRS, GeodeticCRS, Geod]:
    """A CRS, the longitude and latitude that it is based on, and their ellipsoid."""
    here = GeodeticCRS.from_wkt(crs.to_wkt())
    there, ellipsoid = here.geodetic_crs, here.get_geod()
    if there is None or ellipsoid is None:
        raise RasterError(f"no way from the CRS {here.name!r} to longitude and latitude: wanted one on the earth")
    return here, there, ellipsoid


def _measured(ellipsoid: Geod, points: FloatArray, name: str) -> tuple[float, float]:
    """Area and length of one ring."""
    square, around = ellipsoid.polygon_area_perimeter(points[:, 0], points[:, 1])
    if not np.isfinite((square, around)).all():
        raise RasterError(f"pixels lie outside where the CRS {name!r} holds: wanted the CRS of this place; check it")
    return abs(square), around


def _rings(outlines: Polygons) -> tuple[Polygons, NDArray[np.intp], NDArray[np.int8]]:
    """Every ring, whose it is, and +1 for an outer border, -1 for an island."""
    parts, body = shapely.get_parts(outlines, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)  # of each part the outer border comes first
    first = np.diff(part, prepend=-1) > 0
    return rings, body[part], np.where(first, 1, -1).astype(np.int8)


def _moved(geometries: Polygons, transform: Affine) -> Polygons:
    """From pixels to coordinates."""
    t = transform
    matrix, start = np.array([[t.a, t.d], [t.b, t.e]]), np.array([t.c, t.f])
    return np.asarray(shapely.transform(geometries, lambda xy: xy @ matrix + start))


def _sums_within(
    outlines: Polygons, read: Callable[[Tile], NDArray[np.floating[Any]]], shape: tuple[int, int]
) -> FloatArray:
    """Sum of a raster over each body, from its borders alone.

    In a row, the sum between two borders is the difference of the row's running sum at the right and at the left one.
    Rings run with the water on one side, so that an upright side counts + or - by its direction.
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
        running = np.zeros((rows, shape[1] + 1))
        np.cumsum(np.nan_to_num(read(Tile(row, 0, rows, shape[1]))), axis=1, dtype=np.float64, out=running[:, 1:])
        down = np.zeros((rows + 1, shape[1] + 1))
        np.cumsum(running, axis=0, out=down[1:])
        first, last = np.maximum(top[near] - row, 0), np.minimum(bottom[near] - row, rows)
        np.add.at(sums, owner[near], sign[near] * (down[last, column[near]] - down[first, column[near]]))
    return sums
