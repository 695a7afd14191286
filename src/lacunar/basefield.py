"""Where the diffusion starts: base and spread of every pixel, by kriging, or by a coarser level far from measurements.

Kriging is done on small overlapping tiles, each with its own covariance, and blended; so its cost is linear in the
gap's area, and neither base nor spread jumps at a tile's border.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.interpolation import fit_covariance, krige
from lacunar.scaling import tile_statistics
from lacunar.tiling import Tile, blend_weights, stitch, tiles_over, tiles_touching

TILE = 64  # side of a kriging tile
TILE_OVERLAP = 32  # pixels that neighbouring kriging tiles share
MARGIN = 32  # pixels around a tile whose known values enter its kriging
CELL_MARGINS = (4, 8, 16)  # cells of the coarser level around a tile: more would make kriging's cost explode
MIN_KNOWN = 16  # fewer known pixels in a tile and its margin: its base comes from the coarser level

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


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

    def at(self, tile: Tile) -> tuple[FloatArray, FloatArray]:
        """Base and spread of a tile: cells kriged in a window that grows, then larger cells, until enough are known."""
        row, col = tile.row + self.origin[0], tile.col + self.origin[1]
        top, left = row // self.reduction, col // self.reduction
        bottom = -(-(row + tile.height) // self.reduction)
        right = -(-(col + tile.width) // self.reduction)
        for margin in CELL_MARGINS:
            window = (slice(max(0, top - margin), bottom + margin), slice(max(0, left - margin), right + margin))
            known = self.known[window]
            if known.sum() >= min(MIN_KNOWN, self.known.sum()):
                break
        else:
            return self.coarser.at(tile)
        mean, std = krige(self.values[window], known)
        rows = (np.arange(row, row + tile.height) + 0.5) / self.reduction - 0.5 - window[0].start
        cols = (np.arange(col, col + tile.width) + 0.5) / self.reduction - 0.5 - window[1].start
        grid = np.meshgrid(rows, cols, indexing="ij")
        base, variance = (ndimage.map_coordinates(a, grid, order=1, mode="nearest") for a in (mean, std**2))
        return base, np.sqrt(variance + self.within)


@dataclass(frozen=True)
class BaseField:
    """What the residual is counted from: ``x = base + spread * z``.

    Parameters
    ----------
    base, spread
        (H, W); kriged value and standard deviation, or local mean and standard deviation of the known pixels. 0 and 0
        where no tile with a gap lies.
    tiles, coarse_tiles
        Kriging tiles, and those of them that had too few known pixels around them.
    """

    base: FloatArray
    spread: FloatArray
    tiles: int
    coarse_tiles: int


def base_field(
    values: NDArray[np.floating], known: BoolArray, gap: BoolArray, coarse: CoarseField, *, kriged: bool
) -> BaseField:
    """Base and spread of an array around its gap.

    Parameters
    ----------
    values, known, gap
        (H, W), at least one tile in size; what stands at unknown pixels is not looked at.
    coarse
        The coarser level, for tiles with fewer than `MIN_KNOWN` known pixels in them and their margin.
    kriged
        True: kriging and its standard deviation; known pixels keep their value, with spread 0. False: mean and standard
        deviation of the known pixels around, smoothly varying, everywhere.
    """
    shape = (values.shape[0], values.shape[1])
    tiles = tiles_touching(tiles_over(shape, tile=TILE, overlap=TILE_OVERLAP), gap)
    if not tiles:
        return BaseField(np.where(known, values, 0.0), np.zeros(shape), 0, 0)
    patches, coarse_tiles = [], 0
    for tile in tiles:
        window = _grown(tile, shape)
        near_values, near_known = values[window.slices], known[window.slices]
        if near_known.sum() < MIN_KNOWN:
            base, spread = coarse.at(tile)
            coarse_tiles += 1
        elif kriged:
            base, spread = _kriged(near_values, near_known, tile, window)
        else:
            mean, std = tile_statistics(near_values, near_known)
            base, spread = np.full(tile.shape, mean), np.full(tile.shape, std)
        patches.append(np.stack([base, spread**2]))
    blended = stitch(np.stack(patches), tiles, shape=shape, weights=blend_weights(TILE, overlap=TILE_OVERLAP))
    base, spread = np.nan_to_num(blended[0]), np.sqrt(np.nan_to_num(blended[1]))
    if kriged:
        base, spread = np.where(known, values, base), np.where(known, 0.0, spread)
    return BaseField(base, spread, len(tiles), coarse_tiles)


def _grown(tile: Tile, shape: tuple[int, int]) -> Tile:
    """The tile with its margin, cut at the array's border."""
    top, left = max(0, tile.row - MARGIN), max(0, tile.col - MARGIN)
    bottom = min(shape[0], tile.row + tile.height + MARGIN)
    right = min(shape[1], tile.col + tile.width + MARGIN)
    return Tile(top, left, bottom - top, right - left)


def _kriged(
    near_values: NDArray[np.floating], near_known: BoolArray, tile: Tile, window: Tile
) -> tuple[FloatArray, FloatArray]:
    """Kriging of the unknown pixels of a tile from the known ones of the window around it."""
    inner = Tile(tile.row - window.row, tile.col - window.col, tile.height, tile.width)
    targets = np.zeros(window.shape, dtype=bool)
    targets[inner.slices] = True
    covariance = fit_covariance(near_values, near_known)
    mean, std = krige(near_values, near_known, covariance=covariance, targets=targets)
    return mean[inner.slices], std[inner.slices]
