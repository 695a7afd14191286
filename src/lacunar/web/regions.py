"""Areas: the mean of a polygon with its sigma, the table of lakes, and the water gained and lost between dates."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine

from lacunar.errors import LacunarError
from lacunar.geo.grid import Gridded
from lacunar.geo.windows import Tile, blocks_over
from lacunar.limits import MASK_PIXELS, check_limit
from lacunar.web.views import read_window

LAND, WATER, GAINED, LOST = range(4)  # values of a raster of change
LISTED = 500  # lakes in a table
BLOCK = 1024


def zone_of(folder: Path, info: dict[str, Any], polygon: list[tuple[float, float]]) -> dict[str, Any]:
    """Mean, sigma, filled share and pixels of a polygon (row, column) on a filled raster, from its samples."""
    import geopandas as gpd
    from shapely.geometry import Polygon

    from lacunar import zonal

    transform = Affine(*info["transform"])
    shape = Polygon([transform @ (col, row) for row, col in polygon]).buffer(0)
    crs = CRS.from_string(info["crs"]).to_wkt() if info["crs"] else None
    found = zonal(folder / info["file"], gpd.GeoDataFrame(geometry=[shape], crs=crs)).iloc[0]
    if not found["pixels"]:
        raise LacunarError("the polygon holds no pixel with a value: draw it over the raster")
    told = {name: float(found[name]) for name in ("mean", "sigma", "filled_share")}
    return {**told, "pixels": int(found["pixels"]), "units": info["units"].get("value", "")}


def lakes_of(folder: Path, info: dict[str, Any], threshold: float) -> dict[str, Any]:
    """Water bodies where the probability reaches a threshold: area, mean probability, box in pixels."""
    if "probability" not in info["bands"]:
        raise LacunarError("this is no map of water: wanted the result of a water job")
    from lacunar.geo.polygons import area_column, polygonize

    path, number = folder / info["file"], info["bands"].index("probability") + 1
    shape, transform = (int(info["shape"][0]), int(info["shape"][1])), Affine(*info["transform"])
    crs = CRS.from_string(info["crs"]) if info["crs"] else None
    check_limit(shape[0] * shape[1], MASK_PIXELS, "pixels in a map of water", "cut out a part")

    def probability(window: Tile) -> NDArray[np.float32]:
        return np.asarray(read_window(path, [number], window)[0])

    water = np.zeros(shape, dtype=np.bool_)
    for block in blocks_over(shape, block=BLOCK, halo=0):
        water[block.core.slices] = probability(block.core) >= threshold
    bodies = polygonize(water, transform, crs, means={"mean_probability": probability})
    column, back = area_column(crs), ~transform if crs else Affine.identity()
    lakes = []
    for _, body in bodies.head(LISTED).iterrows():
        left, bottom, right, top = body.geometry.bounds
        (col0, row0), (col1, row1) = back @ (left, top), back @ (right, bottom)
        box = [min(row0, row1), min(col0, col1), max(row0, row1), max(col0, col1)]
        sure = float(body["mean_probability"])
        lakes.append({"id": int(body["id"]), "area": float(body[column]), "probability": sure, "box": box})
    total = float(bodies[column].sum())
    return {"unit": "m2" if crs else "pixels", "count": len(bodies), "total": total, "lakes": lakes}


def write_change(maps: Sequence[Path], path: Path, grid: Gridded, *, threshold: float) -> None:
    """Write what became of the water from the first of ``maps`` to the last, NaN where one of them is not valid."""
    from lacunar.geo.raster import RasterWriter
    from lacunar.geo.warp import Warped
    from lacunar.segment.raster_map import WaterMap

    with ExitStack() as stack:
        first, last = (stack.enter_context(WaterMap(maps[at])) for at in (0, -1))

        def probabilities(window: Tile) -> NDArray[np.float32]:
            both = np.stack([first.probability(window), last.probability(window)])
            return np.where(np.isfinite(both).all(axis=0), both, np.nan).astype(np.float32)

        warped = Warped(first, grid, probabilities, name=maps[0].name, count=2)
        writer = RasterWriter(
            path, shape=grid.shape, transform=grid.transform, crs=grid.crs, band_names=("change",), overwrite=True
        )
        with writer:
            for block in blocks_over(grid.shape, block=BLOCK, halo=0):
                before, after = warped.read(block.core)
                wet, is_wet = before >= threshold, after >= threshold
                kind = np.select([wet & is_wet, is_wet, wet], [WATER, GAINED, LOST], LAND).astype(np.float32)
                writer.write(np.where(np.isfinite(before), kind, np.nan)[None], block.core)
