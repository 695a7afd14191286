"""Rasters that can be drawn: any input becomes one tiled GeoTIFF with overviews, read as float32 windows.

Bands of a view: ``value`` (what is filled, clouds too), ``flags`` (quality classes as bits), and ``colour`` (red x
65536 + green x 256 + blue, which float32 holds exactly). A result of a job is drawn from its own file.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.warp import transform as warp_points
from rasterio.windows import Window

from lacunar.errors import LacunarError, RasterError
from lacunar.geo.gate import gdal, open_raster
from lacunar.geo.picture import read_picture
from lacunar.geo.raster import RasterSource, RasterWriter
from lacunar.geo.windows import Tile, blocks_over
from lacunar.limits import check_limit
from lacunar.sensors.landsat import LandsatScene
from lacunar.sensors.landsat_qa import QaClass
from lacunar.sensors.scene import LstOptions, Scene, open_scene, sample_planes

TILE = 256  # side of a tile, and of a preview
PIXELS = 2**28  # of a raster that the page opens: 16,384 x 16,384
BLOCK = 1024
GRID_POINTS = 9  # a side, of the grid of longitudes and latitudes that the page interpolates
SEEN = 512  # pixels a side that tell the range of a band

CLASSES: tuple[QaClass, ...] = tuple(name for name in get_args(QaClass) if name not in ("fill", "clear"))
MISSING_BIT, OUTSIDE_BIT = 1 << 8, 1 << 9  # no value inside the image; outside the image

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]


def make_view(path: Path, folder: Path, progress: Progress, *, band: int | None = None) -> dict[str, Any]:
    """Write ``view.tif`` of an input into a folder, and describe it; what cannot be read is a `LacunarError`.

    ``band`` is what is filled of a raster of several; without it the first one, where no colours can be made of them.
    """
    if band is None and _needs_band(path):
        band = 1
    with open_scene(path, lst_options=LstOptions(gap_classes=()), keep_clouds=True, band=band) as scene:
        check_limit(math.prod(scene.shape), PIXELS, f"pixels in {scene.name}", "cut out a part", error=RasterError)
        has_value, why_not = _works(lambda: scene.check_lst(needs_qa=False))
        has_value = has_value and not (scene.kind == "picture" and path.suffix.lower() not in (".tif", ".tiff"))
        has_bands, _ = _works(scene.check_bands)
        picture = read_picture(path) if scene.kind == "picture" else None
        if not (has_value or has_bands or picture):
            raise LacunarError(why_not)
        bands = [*(["value", "flags"] if has_value else []), *(["colour"] if has_bands or picture else [])]
        units = [scene.units if name == "value" else "" for name in bands]
        writer = RasterWriter(
            folder / "view.tif",
            shape=scene.shape,
            transform=scene.transform,
            crs=scene.crs,
            band_names=tuple(bands),
            units=tuple(units),
            overwrite=True,
        )
        colour = None if picture is not None or not has_bands else _Colours(scene)
        counts = np.zeros(len(CLASSES), dtype=np.int64)
        blocks = blocks_over(scene.shape, block=BLOCK, halo=0)
        inside = 0
        with writer:
            for number, block in enumerate(blocks, start=1):
                planes: list[NDArray[Any]] = []
                if has_value:
                    value, flags = _value_and_flags(scene, block.core)
                    planes += [value, flags]
                    counts += [int((flags & (1 << bit) > 0).sum()) for bit in range(len(CLASSES))]
                    inside += int((flags & OUTSIDE_BIT == 0).sum())
                if picture is not None:
                    planes.append(_packed(_eight_bits(picture.colours[block.core.slices])))
                elif colour is not None:
                    planes.append(colour.read(block.core))
                writer.write(np.stack(planes).astype(np.float32), block.core)
                progress(number, len(blocks))
        jobs = [*(["fill"] if has_value else []), *(["water"] if has_bands else [])]
        told = {name: round(int(count) / max(inside, 1), 6) for name, count in zip(CLASSES, counts, strict=True)}
        has_qa = isinstance(scene, LandsatScene) and scene.has_quality
        return {
            "name": scene.name,
            "title": scene.title,
            "kind": scene.kind,
            "date": scene.date.isoformat() if scene.date else None,
            "notes": list(dict.fromkeys(scene.lst_notes() if has_value else scene.band_notes if has_bands else ())),
            "jobs": [*jobs, *(["picture", "face"] if picture is not None else [])],
            "classes": told if has_qa else {},
            "band": band,
            "bands_of_file": _bands_of(path) if scene.kind == "raster" else [],
            "files": [str(one) for one in scene.inputs],
            **describe(folder / "view.tif"),
        }


def describe(path: Path, *, names: Sequence[str] = (), origin: tuple[int, int] | None = None) -> dict[str, Any]:
    """What a page has to know of a raster to draw it; ``origin`` is the place of a part in the whole."""
    with gdal(f"{path.name}: cannot be opened"), open_raster(path) as dataset:
        shape, transform, crs = dataset.shape, dataset.transform, dataset.crs
        bands = list(names) or list(dataset.descriptions)
        units = dict(zip(bands, [unit or "" for unit in dataset.units], strict=True))
    step = -(-max(shape) // SEEN)
    seen = read_window(path, range(1, len(bands) + 1), Tile(0, 0, *shape), step)
    return {
        "file": path.name,
        "shape": list(shape),
        "levels": max(0, math.ceil(math.log2(max(shape) / TILE))),
        "tile": TILE,
        "bands": bands,
        "units": units,
        "crs": str(crs) if crs else None,
        "transform": list(transform)[:6],
        "lonlat": _lonlat_grid(shape, transform, crs),
        "range": {name: _range_of(plane) for name, plane in zip(bands, seen, strict=True)},
        "origin": list(origin) if origin else None,
    }


def read_window(path: Path, bands: Sequence[int], window: Tile, step: int = 1) -> Floats:
    """Every ``step``-th pixel (B, ceil(h / step), ceil(w / step)) of a window, from overviews; NaN outside."""
    rows, cols = -(-window.height // step), -(-window.width // step)
    out = np.full((len(bands), rows, cols), np.nan, dtype=np.float32)
    with gdal(f"{path.name}: pixels cannot be read"), open_raster(path) as dataset:
        height = min(window.height, dataset.height - window.row)
        width = min(window.width, dataset.width - window.col)
        if height < 1 or width < 1:
            return out
        shape = (len(bands), -(-height // step), -(-width // step))
        area = Window(window.col, window.row, width, height)
        read = dataset.read(list(bands), window=area, out_shape=shape, resampling=Resampling.nearest)
        nodata = dataset.nodata
    if nodata is not None and not math.isnan(nodata):
        read[read == nodata] = np.nan
    out[:, : shape[1], : shape[2]] = read
    return out


def tile_window(info: dict[str, Any], z: int, x: int, y: int) -> tuple[Tile, int]:
    """The window of a tile, and the step between its pixels; z from 0, the coarsest, to ``levels``, every pixel."""
    step = 1 << max(0, info["levels"] - z)
    side = TILE * step
    rows, cols = info["shape"]
    if not (0 <= z <= info["levels"] and 0 <= x * side < cols and 0 <= y * side < rows):
        raise RasterError(f"tile {z}/{x}/{y} lies outside: wanted z of 0 to {info['levels']} and a place in the raster")
    return Tile(y * side, x * side, side, side), step


def lonlat(info: dict[str, Any], row: float, col: float) -> tuple[float, float] | None:
    """Longitude and latitude of the middle of a pixel; None without a CRS."""
    if not info["crs"]:
        return None
    x, y = Affine(*info["transform"]) @ (col + 0.5, row + 0.5)
    with gdal("the CRS leads to no longitude and latitude"):
        (longitude,), (latitude,) = warp_points(CRS.from_string(info["crs"]), "EPSG:4326", [x], [y])[:2]
    return float(longitude), float(latitude)


def _lonlat_grid(shape: tuple[int, int], transform: Affine, crs: CRS | None) -> list[list[list[float]]] | None:
    if crs is None:
        return None
    rows, cols = np.meshgrid(
        np.linspace(0, shape[0], GRID_POINTS), np.linspace(0, shape[1], GRID_POINTS), indexing="ij"
    )
    x, y = transform @ (cols.ravel(), rows.ravel())
    with suppress(LacunarError), gdal("the CRS leads to no longitude and latitude"):
        lon, lat = np.array(warp_points(crs, "EPSG:4326", x.tolist(), y.tolist())[:2])
        if np.isfinite([lon, lat]).all():
            grid: list[list[list[float]]] = np.stack([lon, lat], -1).reshape(GRID_POINTS, GRID_POINTS, 2).tolist()
            return grid
    return None


def _range_of(plane: Floats) -> list[float] | None:
    values = plane[np.isfinite(plane)]
    if not values.size:
        return None
    low, high = (float(value) for value in np.percentile(values, (1, 99)))
    return [low, high] if high > low else [low - 0.5, high + 0.5]


def _value_and_flags(scene: Scene, window: Tile) -> tuple[Floats, NDArray[np.int64]]:
    """Values with clouds, and bits of quality classes, of pixels without a value, and of what lies outside."""
    part = scene.measured(window)
    flags = np.where(part.missing, MISSING_BIT, 0)
    if isinstance(scene, LandsatScene):
        flags = flags | np.where(part.known | part.missing, 0, OUTSIDE_BIT)
        if scene.has_quality:
            for bit, name in enumerate(CLASSES):
                flags = flags | np.where(scene.qa_flags((name,), window), 1 << bit, 0)
    return np.where(part.known, part.values, np.nan).astype(np.float32), flags


def _needs_band(path: Path) -> bool:
    """Whether a raster holds several bands that are nothing to any job as they are."""
    with open_scene(path, lst_options=LstOptions(gap_classes=()), keep_clouds=True) as scene:
        no_value = not _works(lambda: scene.check_lst(needs_qa=False))[0]
        return scene.kind == "raster" and no_value and not _works(scene.check_bands)[0] and len(_bands_of(path)) > 1


def _bands_of(path: Path) -> list[str]:
    """Names of the bands of a raster file; none of what only holds one, such as a .zip."""
    try:
        with RasterSource(path) as source:
            return list(source.band_names)
    except LacunarError:
        return []


class _Colours:
    """A scene as a person would see it, with one stretch for all of it."""

    def __init__(self, scene: Scene) -> None:
        from lacunar.segment.plot import COMPOSITES, STRETCH  # loads matplotlib, which a server does not need

        self._scene = scene
        try:
            sample = sample_planes(self._clear, scene.shape, scene.name)
        except LacunarError:  # cloud everywhere
            sample = sample_planes(scene.reflectance, scene.shape, scene.name)
        there = [bool(np.isfinite(plane).any()) for plane in sample]
        only = there.index(True)
        self._chosen = list(next((some for some in COMPOSITES if all(there[i] for i in some)), (only,) * 3))
        shown = sample[self._chosen]
        self._low, self._high = np.percentile(shown[np.isfinite(shown)], STRETCH)

    def _clear(self, window: Tile) -> Floats:
        """A window without what its quality band calls cloud, whose brightness would darken the land."""
        planes = self._scene.reflectance(window)
        if isinstance(self._scene, LandsatScene) and self._scene.has_quality:
            planes[:, self._scene.qa_flags(("cloud", "dilated_cloud", "snow"), window)] = np.nan
        return planes

    def read(self, window: Tile) -> Floats:
        """Packed colours of a window; NaN where not valid."""
        shown = self._scene.reflectance(window)[self._chosen]
        bright = np.clip((shown - self._low) / max(self._high - self._low, 1e-12), 0, 1)
        return _packed(np.moveaxis(bright * 255, 0, -1))


def _eight_bits(colours: NDArray[Any]) -> NDArray[Any]:
    eight = colours if colours.dtype == np.uint8 else colours >> 8
    return np.repeat(eight, 3, axis=-1) if eight.shape[-1] == 1 else eight


def _packed(colours: NDArray[Any]) -> Floats:
    """Red x 65536 + green x 256 + blue of (H, W, 3); NaN where one of them is."""
    red, green, blue = np.moveaxis(np.rint(colours.astype(np.float64)), -1, 0)
    packed: Floats = (red * 65536 + green * 256 + blue).astype(np.float32)
    return packed


def _works(check: Callable[[], None]) -> tuple[bool, str]:
    """Whether a check passes, and what it says where it does not."""
    try:
        check()
    except LacunarError as error:
        return False, str(error)
    return True, ""
