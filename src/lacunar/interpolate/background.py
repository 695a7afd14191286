"""The background field: a mean and a sigma for every missing pixel, from which the diffusion starts.

Near measured pixels it is kriging. Tiles overlap, each has its own covariance, and their results are blended: the cost
is linear in the missing area and no seam shows. A tile sees only one side of a large gap, so far from measured pixels
its kriging is averaged with kriging of block means, which sees farther. Guides (other dates of the place, static
rasters) enter as drift; where they tell something, a tile keeps its own kriging.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import threadpool_limits

from lacunar.geo.windows import Tile, blend_weights, stitch, tiles_over, tiles_touching
from lacunar.interpolate.external_drift import krige_with_guides
from lacunar.interpolate.kriging import krige_with_drift
from lacunar.interpolate.scaling import tile_statistics

TILE = 64  # side of a kriging tile
TILE_OVERLAP = 32  # pixels that neighbouring kriging tiles share
MARGIN = 32  # pixels around a tile whose known values enter its kriging
CELL_MARGINS = (4, 8, 16)  # cells around a tile that enter the kriging of block means: more would cost too much
WIDE_MARGINS = CELL_MARGINS[1:]  # without guides: a window that sees past the gap
FADE = (16.0, 48.0)  # pixels from the nearest known one over which block means gain weight
LEAST_WITHIN = 0.1  # share of the variance inside cells that guides never explain
MOST_THREADS = 16  # tiles kriged at a time: each takes some 100 MiB
MIN_KNOWN = 16  # with fewer known pixels in a tile and its margin, block means alone tell its background

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


class Patch(NamedTuple):
    """The background of one tile."""

    mean: FloatArray
    sigma: FloatArray
    guide: FloatArray


@dataclass(frozen=True)
class CoarseField:
    """Means of the known pixels in square cells: all that is known far from any measured pixel."""

    values: FloatArray  # (h, w): mean of the known pixels of each cell
    known: BoolArray  # (h, w): whether there are any
    within: float  # variance of the known pixels inside a cell, averaged over the cells
    reduction: int  # side of a cell in pixels
    origin: tuple[int, int] = (0, 0)  # row and column, in the whole raster, of the array to be filled
    guides: tuple["CoarseField", ...] = ()  # the same of each guide, on the same cells

    @classmethod
    def of(cls, values: NDArray[np.floating], known: BoolArray, reduction: int) -> "CoarseField":
        """Average an array (H, W) over cells of ``reduction`` pixels."""
        pads = [(0, -length % reduction) for length in known.shape]
        shape = [(length + pad) // reduction for length, (_, pad) in zip(known.shape, pads, strict=True)]
        blocks = (shape[0], reduction, shape[1], reduction)
        inside = np.pad(known, pads).reshape(blocks)
        padded = np.pad(np.where(known, values, 0.0).astype(np.float64), pads).reshape(blocks)
        count = inside.sum(axis=(1, 3))
        mean = np.divide(padded.sum(axis=(1, 3)), count, out=np.zeros(count.shape), where=count > 0)
        squared = np.where(inside, (padded - mean[:, None, :, None]) ** 2, 0.0).sum()
        return cls(mean, count > 0, float(squared) / max(1, int(count.sum())), reduction)

    @cached_property
    def coarser(self) -> "CoarseField":
        """The same with cells of twice the side."""
        double = CoarseField.of(self.values, self.known, 2)
        guides = tuple(guide.coarser for guide in self.guides)
        within, reduction = self.within + double.within, 2 * self.reduction
        return replace(double, within=within, reduction=reduction, origin=self.origin, guides=guides)

    def at(self, tile: Tile, guides: NDArray[np.floating] | None = None) -> Patch:
        """Background of a tile, by kriging of the cells around it and with the ``guides`` (K, height, width) in it."""
        window = self._window(tile)
        if window is None:
            return self.coarser.at(tile, guides)
        known = self.known[window]
        row, col = tile.row + self.origin[0], tile.col + self.origin[1]
        rows = (np.arange(row, row + tile.height) + 0.5) / self.reduction - 0.5 - window[0].start
        cols = (np.arange(col, col + tile.width) + 0.5) / self.reduction - 0.5 - window[1].start
        grid = np.meshgrid(rows, cols, indexing="ij")

        def on_pixels(cells: FloatArray) -> FloatArray:
            return np.asarray(ndimage.map_coordinates(cells, grid, order=1, mode="nearest"))

        terms, details = [np.zeros((0, *known.shape))], [np.zeros((0, *tile.shape))]  # of cells, and of pixels
        hidden = [np.zeros((0, *tile.shape))]  # variance of a term where its guide is unknown
        for guide, shown in zip(self.guides, () if guides is None else guides, strict=False):
            values, there = guide.values[window], guide.known[window]
            if (there & known).sum() < MIN_KNOWN or np.ptp(values[there]) == 0:
                continue
            mean, std = values[there].mean(), values[there].std()
            terms.append(np.where(there, (values - mean) / std, 0.0)[None])
            detail = (shown - mean) / std
            hidden.append(~np.isfinite(detail)[None] * terms[-1][0][there].var())
            details.append(np.where(np.isfinite(detail), detail, on_pixels(terms[-1][0]))[None])
        stack = np.concatenate(terms)
        kriged = krige_with_drift(self.values[window], known, stack)
        drift = np.tensordot(kriged.coefficients, stack, axes=1)
        guidance = np.tensordot(kriged.coefficients, np.concatenate(details), axes=1)
        within = self.within * _unexplained(self.values[window][known], drift[known])
        lost = np.tensordot(kriged.coefficients**2, np.concatenate(hidden), axes=1)
        sigma = np.sqrt(on_pixels(kriged.std**2) + within + lost)
        return Patch(on_pixels(kriged.mean - drift) + guidance, sigma, guidance)

    def _window(self, tile: Tile) -> tuple[slice, slice] | None:
        """The smallest window of cells around a tile with enough known ones; None if there is none."""
        row, col = tile.row + self.origin[0], tile.col + self.origin[1]
        top, left = row // self.reduction, col // self.reduction
        bottom = -(-(row + tile.height) // self.reduction)
        right = -(-(col + tile.width) // self.reduction)
        windows = [
            (slice(max(0, top - margin), bottom + margin), slice(max(0, left - margin), right + margin))
            for margin in (CELL_MARGINS if any(map(self._varies_with, self.guides)) else WIDE_MARGINS)
        ]
        enough = [window for window in windows if self.known[window].sum() >= min(MIN_KNOWN, self.known.sum())]
        if not enough:
            return None
        common = [self.known & guide.known for guide in self.guides]  # a wider window if guides need it
        return next((w for w in enough if all(both[w].sum() >= MIN_KNOWN for both in common)), enough[0])

    def _varies_with(self, guide: "CoarseField") -> bool:
        """Whether a guide shares enough cells and is not constant."""
        return bool((guide.known & self.known).sum() >= MIN_KNOWN and np.ptp(guide.values[guide.known]) > 0)


def _unexplained(values: FloatArray, drift: FloatArray) -> float:
    """Share of the variance that the drift leaves, from `LEAST_WITHIN` to 1."""
    if not drift.any() or np.ptp(values) == 0:
        return 1.0
    return float(np.clip((values - drift).var() / values.var(), LEAST_WITHIN, 1.0))


@dataclass(frozen=True)
class Background:
    """The field that a residual z is counted from: ``value = mean + sigma * z``."""

    mean: FloatArray  # (H, W) in the units of the values, as sigma; 0 in tiles where nothing is missing
    sigma: FloatArray
    guide: FloatArray  # (H, W) what the guides say, as an anomaly; 0 without guides
    coarse_tiles: int  # tiles that block means alone tell


def background_field(
    values: NDArray[np.floating],
    known: BoolArray,
    missing: BoolArray,
    coarse: CoarseField,
    *,
    kriged: bool,
    guides: NDArray[np.floating] | None = None,
    threads: int = 1,
) -> Background:
    """Mean and sigma of the missing pixels of an array (H, W), at least one tile in size.

    With ``kriged``, known pixels keep their value, with sigma 0. Without, the field is the smoothly varying mean and
    standard deviation of the known pixels around, at known pixels too. ``coarse`` holds block means of the array and of
    its guides; ``guides`` (K, H, W) are NaN where unknown. The result does not depend on the number of ``threads``.
    """
    shape = (values.shape[0], values.shape[1])
    tiles = tiles_touching(tiles_over(shape, tile=TILE, overlap=TILE_OVERLAP), missing)
    if not tiles:
        return Background(np.where(known, values, 0.0), np.zeros(shape), np.zeros(shape), 0)
    if guides is None:
        guides = np.zeros((0, *shape))

    def patch_of(tile: Tile) -> tuple[FloatArray, bool]:
        """Mean, variance and guide of a tile, and whether block means alone tell them."""
        window = _with_margin(tile, shape)
        near_values, near_known = values[window.slices], known[window.slices]
        is_coarse = bool(near_known.sum() < MIN_KNOWN)
        if is_coarse:
            patch = coarse.at(tile, guides[:, *tile.slices])
        elif kriged:
            patch = _kriged(near_values, near_known, guides[:, *window.slices], tile, window)
            distance = ndimage.distance_transform_edt(~near_known)[_inside(tile, window).slices]
            if distance.max() > FADE[0] and not patch.guide.any():
                patch = _faded(patch, coarse.at(tile, guides[:, *tile.slices]), distance)
        else:
            mean, std = tile_statistics(near_values, near_known)
            patch = Patch(np.full(tile.shape, mean), np.full(tile.shape, std), np.zeros(tile.shape))
        return np.stack([patch.mean, patch.sigma**2, patch.guide]), is_coarse

    # The systems are small: threads of BLAS would cost more than they save, and their number would change last bits.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(min(threads, MOST_THREADS)) as pool:
        found = list(pool.map(patch_of, tiles))
    patches, coarse_tiles = [patch for patch, _ in found], sum(is_coarse for _, is_coarse in found)
    blended = stitch(np.stack(patches), tiles, shape=shape, weights=blend_weights(TILE, overlap=TILE_OVERLAP))
    mean, variance, guide = np.nan_to_num(blended)
    sigma = np.sqrt(variance)
    if kriged:
        mean, sigma = np.where(known, values, mean), np.where(known, 0.0, sigma)
    return Background(mean, sigma, guide, coarse_tiles)


def _with_margin(tile: Tile, shape: tuple[int, int]) -> Tile:
    """The tile with its margin, cut at the array's border."""
    top, left = max(0, tile.row - MARGIN), max(0, tile.col - MARGIN)
    bottom = min(shape[0], tile.row + tile.height + MARGIN)
    right = min(shape[1], tile.col + tile.width + MARGIN)
    return Tile(top, left, bottom - top, right - left)


def _inside(tile: Tile, window: Tile) -> Tile:
    """Where a tile lies in the window around it."""
    return Tile(tile.row - window.row, tile.col - window.col, tile.height, tile.width)


def _kriged(
    values: NDArray[np.floating], known: BoolArray, guides: NDArray[np.floating], tile: Tile, window: Tile
) -> Patch:
    """Kriging of the unknown pixels of a tile from the known ones in the window around it."""
    inner = _inside(tile, window)
    targets = np.zeros(window.shape, dtype=bool)
    targets[inner.slices] = True
    guided = krige_with_guides(values, known, guides, targets=targets)
    return Patch(guided.mean[inner.slices], guided.std[inner.slices], guided.guide[inner.slices])


def _faded(near: Patch, far: Patch, distance: FloatArray) -> Patch:
    """Kriging near known pixels; farther off its average with block means, weighted by their precisions.

    The variance is that of the mixture, but not below that of kriging: both rest on partly the same pixels.
    """
    start, end = FADE
    total = np.maximum(near.sigma**2 + far.sigma**2, np.finfo(np.float64).tiny)
    weight = np.clip((distance - start) / (end - start), 0.0, 1.0) * near.sigma**2 / total
    between = weight * (1 - weight) * (near.mean - far.mean) ** 2
    mixture = (1 - weight) * near.sigma**2 + weight * far.sigma**2 + between
    return Patch(
        mean=(1 - weight) * near.mean + weight * far.mean,
        sigma=np.maximum(near.sigma, np.sqrt(mixture)),
        guide=(1 - weight) * near.guide + weight * far.guide,
    )
