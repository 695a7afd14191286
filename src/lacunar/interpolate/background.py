"""Where the diffusion starts: base and spread of every pixel, by kriging, and by a coarser level far from measurements.

Kriging is done on small overlapping tiles, each with its own covariance, and blended; so its cost is linear in the
gap's area, and neither base nor spread jumps at a tile's border. A tile sees a large gap from one side only: far from
known pixels its kriging gives way to that of block means, which sees farther, as the variances of the two say. Other
dates and static rasters enter as drift; a tile that they guide keeps its own kriging.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import threadpool_limits

from lacunar.geo.windows import Tile, blend_weights, stitch, tiles_over, tiles_touching
from lacunar.interpolate.external_drift import krige_with_references
from lacunar.interpolate.kriging import krige_with_drift
from lacunar.interpolate.scaling import tile_statistics

TILE = 64  # side of a kriging tile
TILE_OVERLAP = 32  # pixels that neighbouring kriging tiles share
MARGIN = 32  # pixels around a tile whose known values enter its kriging
CELL_MARGINS = (4, 8, 16)  # cells of the coarser level around a tile: more would make kriging's cost explode
WIDE_MARGINS = CELL_MARGINS[1:]  # where no reference tells anything: a window that sees past the gap, at no more cost
GIVES_WAY = (16.0, 48.0)  # pixels from a known one over which a tile's kriging makes room for the coarser level
LEAST_WITHIN = 0.1  # share of the variance inside cells that references are never believed to explain
MOST_THREADS = 16  # tiles that are kriged at a time: each takes some 100 MiB
MIN_KNOWN = 16  # fewer known pixels in a tile and its margin: its base comes from the coarser level

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
Patch = tuple[FloatArray, FloatArray, FloatArray]  # base, spread and guide of a tile


@dataclass(frozen=True)
class CoarseField:
    """Block means of a raster's known pixels: what is known of places that are far from any measured pixel.

    Parameters
    ----------
    values, known
        (h, w): mean of the known pixels of each cell, and whether it has any.
    within
        Mean variance of the known pixels inside a cell.
    reduction
        Side of a cell in pixels.
    origin
        Row and column of the raster where the array to be filled begins.
    """

    values: FloatArray
    known: BoolArray
    within: float
    reduction: int
    origin: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, values: NDArray[np.floating], known: BoolArray, reduction: int) -> "CoarseField":
        """Reduce one array by ``reduction``."""
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
        return replace(double, within=self.within + double.within, reduction=2 * self.reduction, origin=self.origin)

    def _is_told_by(self, reference: "CoarseField") -> bool:
        """Whether a reference varies and shares enough cells."""
        return bool((reference.known & self.known).sum() >= MIN_KNOWN and np.ptp(reference.values[reference.known]) > 0)

    def at(
        self, tile: Tile, references: Sequence["CoarseField"] = (), shown: NDArray[np.floating] | None = None
    ) -> Patch:
        """Base, spread and guide of a tile: cells kriged in a growing window, or larger cells, until enough are known.

        ``references`` are other dates on the same cells, ``shown`` (K, height, width) what they show of the tile.
        """
        row, col = tile.row + self.origin[0], tile.col + self.origin[1]
        top, left = row // self.reduction, col // self.reduction
        bottom = -(-(row + tile.height) // self.reduction)
        right = -(-(col + tile.width) // self.reduction)
        windows = [
            (slice(max(0, top - margin), bottom + margin), slice(max(0, left - margin), right + margin))
            for margin in (CELL_MARGINS if any(map(self._is_told_by, references)) else WIDE_MARGINS)
        ]
        enough = [window for window in windows if self.known[window].sum() >= min(MIN_KNOWN, self.known.sum())]
        if not enough:
            return self.coarser.at(tile, [reference.coarser for reference in references], shown)
        joint = [self.known & reference.known for reference in references]  # a wider window if references need it
        window = next((w for w in enough if all(both[w].sum() >= MIN_KNOWN for both in joint)), enough[0])
        known = self.known[window]
        rows = (np.arange(row, row + tile.height) + 0.5) / self.reduction - 0.5 - window[0].start
        cols = (np.arange(col, col + tile.width) + 0.5) / self.reduction - 0.5 - window[1].start
        grid = np.meshgrid(rows, cols, indexing="ij")

        def on_pixels(cells: FloatArray) -> FloatArray:
            return np.asarray(ndimage.map_coordinates(cells, grid, order=1, mode="nearest"))

        terms, details = [np.zeros((0, *known.shape))], [np.zeros((0, *tile.shape))]
        hidden = [np.zeros((0, *tile.shape))]
        for number, reference in enumerate(references):
            values, there = reference.values[window], reference.known[window]
            if (there & known).sum() < MIN_KNOWN or np.ptp(values[there]) == 0 or shown is None:
                continue
            mean, std = values[there].mean(), values[there].std()
            terms.append(np.where(there, (values - mean) / std, 0.0)[None])
            detail = (shown[number] - mean) / std
            hidden.append(~np.isfinite(detail)[None] * terms[-1][0][there].var())
            details.append(np.where(np.isfinite(detail), detail, on_pixels(terms[-1][0]))[None])
        stack = np.concatenate(terms)
        kriged = krige_with_drift(self.values[window], known, stack)
        drift = np.tensordot(kriged.coefficients, stack, axes=1)
        guide = np.tensordot(kriged.coefficients, np.concatenate(details), axes=1)
        within = self.within * _unexplained(self.values[window][known], drift[known])
        lost = np.tensordot(kriged.coefficients**2, np.concatenate(hidden), axes=1)
        return on_pixels(kriged.mean - drift) + guide, np.sqrt(on_pixels(kriged.std**2) + within + lost), guide


def _unexplained(values: FloatArray, drift: FloatArray) -> float:
    """Share of the variance that a drift leaves, from `LEAST_WITHIN` to 1."""
    if not drift.any() or np.ptp(values) == 0:
        return 1.0
    return float(np.clip((values - drift).var() / values.var(), LEAST_WITHIN, 1.0))


@dataclass(frozen=True)
class BaseField:
    """What the residual is counted from: ``x = base + spread * z``.

    Parameters
    ----------
    base, spread
        (H, W); kriged value and standard deviation, or local mean and standard deviation of the known pixels. 0 and 0
        where no tile with a gap lies.
    guide
        (H, W) what the references say, as an anomaly; 0 without any.
    tiles, coarse_tiles
        Kriging tiles, and those of them that had too few known pixels around them.
    """

    base: FloatArray
    spread: FloatArray
    guide: FloatArray
    tiles: int
    coarse_tiles: int


def base_field(
    values: NDArray[np.floating],
    known: BoolArray,
    gap: BoolArray,
    coarse: CoarseField,
    *,
    kriged: bool,
    references: NDArray[np.floating] | None = None,
    coarse_references: Sequence[CoarseField] = (),
    threads: int = 1,
) -> BaseField:
    """Base and spread of an array around its gap.

    Parameters
    ----------
    values, known, gap
        (H, W), at least one tile in size; what stands at unknown pixels is not looked at.
    coarse
        The coarser level, for pixels far from known ones; and for whole tiles with fewer than `MIN_KNOWN` known pixels
        in them and their margin.
    kriged
        True: kriging and its standard deviation; known pixels keep their value, with spread 0. False: mean and standard
        deviation of the known pixels around, smoothly varying, everywhere.
    references, coarse_references
        (K, H, W) other dates and static rasters, NaN where unknown, and the coarser level of each: the drift.
    threads
        How many tiles are kriged at a time, up to `MOST_THREADS`; the result does not depend on it.
    """
    shape = (values.shape[0], values.shape[1])
    tiles = tiles_touching(tiles_over(shape, tile=TILE, overlap=TILE_OVERLAP), gap)
    if not tiles:
        return BaseField(np.where(known, values, 0.0), np.zeros(shape), np.zeros(shape), 0, 0)
    if references is None:
        references = np.zeros((0, *shape))

    def patch_of(tile: Tile) -> tuple[FloatArray, bool]:
        """Base, variance and guide of a tile, and whether the coarser level alone has told them."""
        window = _grown(tile, shape)
        near_values, near_known = values[window.slices], known[window.slices]
        is_coarse = bool(near_known.sum() < MIN_KNOWN)
        if is_coarse:
            patch = coarse.at(tile, coarse_references, references[:, *tile.slices])
        elif kriged:
            patch = _kriged(near_values, near_known, references[:, *window.slices], tile, window)
            reach = _distance(near_known, tile, window)
            if reach.max() > GIVES_WAY[0] and not patch[2].any():
                patch = _gives_way(patch, coarse.at(tile, coarse_references, references[:, *tile.slices]), reach)
        else:
            mean, std = tile_statistics(near_values, near_known)
            patch = np.full(tile.shape, mean), np.full(tile.shape, std), np.zeros(tile.shape)
        return np.stack([patch[0], patch[1] ** 2, patch[2]]), is_coarse

    # The systems are small: threads of BLAS cost more than they bring, and their number would change bits.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(min(threads, MOST_THREADS)) as pool:
        found = list(pool.map(patch_of, tiles))
    patches, coarse_tiles = [patch for patch, _ in found], sum(is_coarse for _, is_coarse in found)
    blended = stitch(np.stack(patches), tiles, shape=shape, weights=blend_weights(TILE, overlap=TILE_OVERLAP))
    base, variance, guide = np.nan_to_num(blended)
    spread = np.sqrt(variance)
    if kriged:
        base, spread = np.where(known, values, base), np.where(known, 0.0, spread)
    return BaseField(base, spread, guide, len(tiles), coarse_tiles)


def _grown(tile: Tile, shape: tuple[int, int]) -> Tile:
    """The tile with its margin, cut at the array's border."""
    top, left = max(0, tile.row - MARGIN), max(0, tile.col - MARGIN)
    bottom = min(shape[0], tile.row + tile.height + MARGIN)
    right = min(shape[1], tile.col + tile.width + MARGIN)
    return Tile(top, left, bottom - top, right - left)


def _inside(tile: Tile, window: Tile) -> Tile:
    """Where a tile lies in the window around it."""
    return Tile(tile.row - window.row, tile.col - window.col, tile.height, tile.width)


def _distance(near_known: BoolArray, tile: Tile, window: Tile) -> FloatArray:
    """Pixels from each pixel of a tile to the nearest known one of the window around it."""
    distance: FloatArray = ndimage.distance_transform_edt(~near_known)[_inside(tile, window).slices]
    return distance


def _gives_way(near: Patch, far: Patch, distance: FloatArray) -> Patch:
    """Kriging near known pixels; farther off the mean of kriging and coarser level, weighed by their precisions.

    The variance is that of the mixture of both, and not below that of kriging: what both rest on is partly the same.
    """
    (base, spread, guide), (other, other_spread, other_guide) = near, far
    start, end = GIVES_WAY
    both = np.maximum(spread**2 + other_spread**2, np.finfo(np.float64).tiny)
    weight = np.clip((distance - start) / (end - start), 0.0, 1.0) * spread**2 / both
    mixture = (1 - weight) * spread**2 + weight * other_spread**2 + weight * (1 - weight) * (base - other) ** 2
    base, guide = (1 - weight) * base + weight * other, (1 - weight) * guide + weight * other_guide
    return base, np.maximum(spread, np.sqrt(mixture)), guide


def _kriged(
    near_values: NDArray[np.floating],
    near_known: BoolArray,
    near_references: NDArray[np.floating],
    tile: Tile,
    window: Tile,
) -> Patch:
    """Kriging of the unknown pixels of a tile from the known ones of the window around it, and the drift in it."""
    inner = _inside(tile, window)
    targets = np.zeros(window.shape, dtype=bool)
    targets[inner.slices] = True
    guided = krige_with_references(near_values, near_known, near_references, targets=targets)
    return guided.mean[inner.slices], guided.std[inner.slices], guided.guide[inner.slices]
