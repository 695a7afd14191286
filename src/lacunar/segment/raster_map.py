"""Maps of water on disk: three bands in a Cloud-Optimized GeoTIFF, written block by block, read window by window.

The bands are ``water`` (1 water, 0 land), ``probability`` of water, and ``disagreement``, the standard deviation of the
samples. All are float32, as a GeoTIFF has one type for all its bands, and 255 in all of them is nodata.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lacunar.geo.grid import Gridded
from lacunar.geo.polygons import polygonize
from lacunar.geo.raster import RasterSource, RasterWriter
from lacunar.geo.warp import Warped
from lacunar.geo.windows import Tile, blocks_over
from lacunar.segment.classes import NOT_VALID, WATER_NAME, class_colours, class_numbers, in_bytes, told
from lacunar.segment.fusion import Bools, FusedBlock, Values, decided_block
from lacunar.sensors.bands import BANDS
from lacunar.sensors.scene import Scene

BAND_NAMES = ("water", "probability", "disagreement")
TAGS = {"water_values": "0 land, 1 water", "disagreement": "standard deviation of the samples of a pixel"}
FIGURE_SIDE = 1200  # pixels on the longer side of what a figure shows of an image
BLOCK = 1024  # side of the parts in which a map is read or warped
CELL = 64  # side of the squares whose errors go together: fitted to the areas of held-out scenes


class WaterMap(AbstractContextManager["WaterMap"]):
    """A map that `write_map` wrote, open for reading in a ``with`` block, with the grid of its raster."""

    def __init__(self, path: Path) -> None:
        self._source = RasterSource(path)
        self.shape, self.transform, self.crs = self._source.shape, self._source.transform, self._source.crs

    def __exit__(self, *_: object) -> None:
        self._source.close()

    def water(self, window: Tile) -> Bools:
        """Where a window is water."""
        return np.asarray(self._band(1, window) == 1)

    def valid(self, window: Tile) -> Bools:
        """Where it is known whether a window is water."""
        return np.isfinite(self._band(1, window))

    def probability(self, window: Tile) -> Values:
        """Probability of water; NaN where not valid."""
        return self._band(2, window)

    def disagreement(self, window: Tile) -> Values:
        """Standard deviation of the samples; NaN where not valid."""
        return self._band(3, window)

    def polygons(
        self, where: Callable[[Tile], Bools] | None = None, ndwi: Callable[[Tile], Values] | None = None
    ) -> gpd.GeoDataFrame:
        """Water bodies as in `lacunar.geo.polygons.polygonize`, or the bodies of another mask on this map's grid.

        They have ``mean_probability``, and ``mean_ndwi`` where a reader of NDWI is given.
        """
        mask = np.zeros(self.shape, dtype=np.bool_)
        for block in blocks_over(self.shape, block=BLOCK, halo=0):
            mask[block.core.slices] = (where or self.water)(block.core)
        means = {"mean_probability": self.probability} | ({"mean_ndwi": ndwi} if ndwi else {})
        return polygonize(mask, self.transform, self.crs, means=means)

    def probability_and_disagreement(self, window: Tile) -> Values:
        """Both, (2, H, W); NaN where not valid."""
        values: Values = self._source.read(window, bands=[2, 3]).data
        return values

    def _band(self, number: int, window: Tile) -> Values:
        values: Values = self._source.read(window, bands=[number]).data[0]
        return values


def bodies_of_classes(
    traced: Mapping[str, Callable[[Tile], Bools]], found: WaterMap, water: gpd.GeoDataFrame
) -> gpd.GeoDataFrame:
    """Polygons of several classes, in this order, each from where it is; those of water are given.

    The column ``class`` has their names; ``mean_probability`` is of water alone.
    """
    parts = []
    for name, where in traced.items():
        bodies = water if name == WATER_NAME else found.polygons(where).drop(columns="mean_probability")
        bodies = bodies.copy()
        bodies.insert(1, "class", pd.Series(name, index=bodies.index, dtype=object))
        parts.append(bodies)
    filled = [part for part in parts if len(part)] or parts[:1]
    bodies = pd.concat(filled, ignore_index=True) if len(filled) > 1 else filled[0]
    bodies["id"] = np.arange(1, len(bodies) + 1)
    return bodies


class ClassMap(AbstractContextManager["ClassMap"]):
    """Classes that `ClassWriter` wrote, open for reading in a ``with`` block."""

    def __init__(self, path: Path) -> None:
        self._source = RasterSource(path)

    def __exit__(self, *_: object) -> None:
        self._source.close()

    def read(self, window: Tile) -> Values:
        """Numbers of the classes; NaN where not valid."""
        values: Values = self._source.read(window).data[0]
        return values

    def where(self, number: int) -> Callable[[Tile], Bools]:
        """Tells where a window is of a class."""
        return lambda window: np.asarray(self.read(window) == number)


class ClassWriter(AbstractContextManager["ClassWriter"]):
    """Counts the classes of a map, and writes them in 8 bits (.tif) where a file is given; in a ``with`` block."""

    def __init__(
        self, path: Path | None, grid: Gridded, classes: Sequence[str], tags: Mapping[str, str] | None = None
    ) -> None:
        self.numbers = class_numbers(classes)
        colours = class_colours(self.numbers)
        self._counts = np.zeros(NOT_VALID + 1, dtype=np.int64)
        self._writer = path and RasterWriter(
            path,
            shape=grid.shape,
            transform=grid.transform,
            crs=grid.crs,
            band_names=("class",),
            tags={"class_values": told(self.numbers), **(tags or {})},
            nodata=float(NOT_VALID),
            dtype="uint8",
            colours={self.numbers[name]: in_bytes(colour) for name, colour in colours.items()},
        )

    def __enter__(self) -> "ClassWriter":
        if self._writer:
            self._writer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._writer:
            self._writer.__exit__(kind, *rest)

    def passing(self, blocks: Iterable[FusedBlock]) -> Iterator[FusedBlock]:
        """The same blocks, whose classes are counted and written as they pass."""
        for block in blocks:
            self._counts += np.bincount(block.classes.ravel(), minlength=self._counts.size)
            if self._writer:
                self._writer.write(block.classes[None].astype(np.float32), block.window)
            yield block

    @property
    def pixels(self) -> dict[str, int]:
        """Pixels of each class so far."""
        return {name: int(self._counts[number]) for name, number in self.numbers.items()}


def write_map(
    path: Path, blocks: Iterable[FusedBlock], grid: Gridded, tags: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Write a map (.tif) as its blocks come, and count its pixels of ``water``, ``land`` and ``nodata``."""
    counts = np.zeros(NOT_VALID + 1, dtype=np.int64)
    writer = RasterWriter(
        path,
        shape=grid.shape,
        transform=grid.transform,
        crs=grid.crs,
        band_names=BAND_NAMES,
        tags={**TAGS, **(tags or {})},
        nodata=float(NOT_VALID),
    )
    with writer:
        for block in blocks:
            counts += np.bincount(block.water.ravel(), minlength=counts.size)
            bands = (block.water.astype(np.float32), block.probability, block.disagreement)
            writer.write(np.stack(bands), block.window)
    return {"water": int(counts[1]), "land": int(counts[0]), "nodata": int(counts[NOT_VALID])}


def water_and_sigma(found: WaterMap) -> tuple[float, float]:
    """Pixels of water that the probabilities expect, and the standard deviation of that number.

    See `variance_of`.
    """
    expected, variance = 0.0, 0.0
    for block in blocks_over(found.shape, block=BLOCK, halo=0):
        p = np.nan_to_num(found.probability(block.core)).astype(np.float64)
        expected, variance = expected + float(p.sum()), variance + variance_of(p)
    return expected, float(np.sqrt(variance))


def variance_of(probability: NDArray[np.float64]) -> float:
    """Variance of the number of water pixels in probabilities (H, W) without NaN.

    Each pixel is water or not with its probability. Neighbours err together, so within cells of `CELL` x `CELL` pixels
    deviations are added, and between cells their squares.
    """
    rows, cols = (np.arange(0, length, CELL) for length in probability.shape)
    deviations = np.sqrt(probability * (1 - probability))
    return float((np.add.reduceat(np.add.reduceat(deviations, rows, axis=0), cols, axis=1) ** 2).sum())


def blocks_on(one: WaterMap, target: Gridded, *, threshold: float, name: str) -> Iterator[FusedBlock]:
    """A map on the grid of another: probability and disagreement are warped, and what is water is decided anew."""
    warped = Warped(one, target, one.probability_and_disagreement, name=name, count=2)
    for block in blocks_over(target.shape, block=BLOCK, halo=0):
        probability, disagreement = warped.read(block.core)
        yield decided_block(block.core, probability, disagreement, threshold)


def planes_on(scene: Scene, target: Gridded) -> Callable[[Tile], Values]:
    """The six planes of a scene on the grid of another, window by window; see `lacunar.geo.warp.Warped`."""
    there = [BANDS.index(band) for band in scene.band_names]
    warped = Warped(scene, target, lambda window: scene.planes(window)[there], name=scene.name, count=len(there))
    if warped.same_grid:
        return scene.planes

    def read(window: Tile) -> Values:
        planes = np.full((len(BANDS), *window.shape), np.nan, dtype=np.float32)
        planes[there] = warped.read(window)
        return planes

    return read


def thinning_of(shape: tuple[int, int], most: int = FIGURE_SIDE) -> int:
    """Which n of every n-th pixel `thinned` takes."""
    return -(-max(shape) // most)


def thinned(read: Callable[[Tile], NDArray[Any]], shape: tuple[int, int], *, most: int = FIGURE_SIDE) -> NDArray[Any]:
    """Every n-th pixel of a raster, read block by block, so that no side has more than ``most``."""
    step = thinning_of(shape, most)
    side = step * max(1, BLOCK // step)

    def part(row: int, col: int) -> NDArray[Any]:
        window = Tile(row, col, min(side, shape[0] - row), min(side, shape[1] - col))
        return read(window)[..., ::step, ::step].copy()  # a view would keep the whole window

    return np.block([[part(row, col) for col in range(0, shape[1], side)] for row in range(0, shape[0], side)])
