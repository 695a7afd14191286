"""Fill a raster of any size block by block: memory stays that of one block, whatever the raster's size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lacunar.basefield import CoarseField
from lacunar.checkpoint import Model
from lacunar.errors import RasterError
from lacunar.filling import Filled, Preset, fill_array
from lacunar.gaps import Gappy
from lacunar.tiling import Block, Tile, blocks_over

BLOCK = 960  # side of a block's core; a multiple of the stride between tiles, so that all blocks share one tile grid
HALO = 96  # two strides: every tile that touches the core, with its kriging margin, lies inside the block
COARSE_CELLS = 512  # cells of the coarse level along the raster's longer side, at most
FINEST_REDUCTION = 16  # pixels in a cell of the coarse level, at least

NODATA, MEASURED, FILLED = 0, 1, 2  # values of the band `source`

BoolArray = NDArray[np.bool_]


Reader = Callable[[Tile], Gappy]


@dataclass(frozen=True)
class Survey:
    """What a first pass over a raster found: pixels of each kind, and the coarse level."""

    measured: int
    gap: int
    nodata: int
    coarse: CoarseField


@dataclass(frozen=True)
class FilledBlock:
    """One block of the result: where it lies, its value, source and sigma, and how it was computed."""

    window: Tile
    value: NDArray[np.float32]
    source: NDArray[np.uint8]
    sigma: NDArray[np.float32]
    tiles: int
    coarse_tiles: int

    @property
    def bands(self) -> NDArray[np.float32]:
        """Value, source and sigma as (3, H, W) float32."""
        return np.stack([self.value, self.source.astype(np.float32), self.sigma])


def survey(read: Reader, shape: tuple[int, int]) -> Survey:
    """Count the pixels of each kind and average the measured ones into the coarse level, block by block.

    Raises
    ------
    RasterError
        No measured pixel at all.
    """
    reduction = max(FINEST_REDUCTION, -(-max(shape) // COARSE_CELLS))
    side = reduction * max(1, BLOCK // reduction)  # whole cells, in windows large enough to read a file's blocks once
    parts: list[list[CoarseField]] = []
    weights: list[int] = []
    gap = 0
    for row in range(0, shape[0], side):
        parts.append([])
        for col in range(0, shape[1], side):
            part = read(Tile(row, col, min(side, shape[0] - row), min(side, shape[1] - col)))
            parts[-1].append(CoarseField.of(part.values, part.known, reduction))
            weights.append(int(part.known.sum()))
            gap += int(part.gap.sum())
    measured = sum(weights)
    if measured == 0:
        raise RasterError(
            f"no measured pixel: {gap} of {shape[0] * shape[1]} pixels are gap and the rest is nodata; "
            "a fill needs something to start from: check the gap mask or the quality classes"
        )
    coarse = CoarseField(
        values=np.block([[part.values for part in row] for row in parts]),
        known=np.block([[part.known for part in row] for row in parts]),
        within=float(np.average([part.within for row in parts for part in row], weights=weights)),
        reduction=reduction,
    )
    return Survey(measured, gap, shape[0] * shape[1] - measured - gap, coarse)


def fill_blocks(
    read: Reader,
    shape: tuple[int, int],
    coarse: CoarseField,
    model: Model,
    *,
    preset: Preset,
    samples: int,
    seed: int,
    callback: Callable[[int, int], None] | None = None,
) -> Iterator[FilledBlock]:
    """Yield the filled raster in blocks that part it without overlap.

    Measured pixels keep their value, with sigma 0; filled ones get the mean and standard deviation of the samples;
    nodata stays NaN. A block depends on its surroundings alone, not on the order of the blocks.

    Parameters
    ----------
    read
        Gives any window of the raster.
    shape
        Rows and columns.
    coarse
        The coarse level from `survey`.
    model, preset, samples, seed
        As in `lacunar.filling.fill_array`.
    callback
        Called with (hundredths of a block done, all).
    """
    blocks = blocks_over(shape, block=BLOCK, halo=HALO)
    for number, block in enumerate(blocks):

        def report(done: int, total: int, number: int = number) -> None:
            if callback:
                callback(100 * number + 100 * done // total, 100 * len(blocks))

        yield _fill_block(read, block, coarse, model, preset=preset, samples=samples, seed=seed, callback=report)
        report(1, 1)


def _fill_block(
    read: Reader,
    block: Block,
    coarse: CoarseField,
    model: Model,
    *,
    preset: Preset,
    samples: int,
    seed: int,
    callback: Callable[[int, int], None],
) -> FilledBlock:
    """Fill the core of one block from all that its halo shows."""
    core = read(block.core)
    value = np.where(core.known, core.values, np.nan).astype(np.float32)
    sigma = np.where(core.known, 0.0, np.nan).astype(np.float32)
    source = np.where(core.known, MEASURED, np.where(core.gap, FILLED, NODATA)).astype(np.uint8)
    if not core.gap.any():
        return FilledBlock(block.core, value, source, sigma, 0, 0)
    outer = read(block.outer)
    origin = (block.outer.row, block.outer.col)
    filled: Filled = fill_array(
        outer.values,
        outer.known,
        _gap_near_core(outer.gap, block),
        model,
        preset=preset,
        samples=samples,
        seed=seed,
        origin=origin,
        coarse=replace(coarse, origin=origin),
        callback=callback,
    )
    inner = block.inner.slices
    value = np.where(core.gap, filled.mean[inner], value)
    sigma = np.where(core.gap, filled.sigma[inner], sigma)
    return FilledBlock(block.core, value, source, sigma, filled.tiles, filled.coarse_tiles)


def _gap_near_core(gap: BoolArray, block: Block) -> BoolArray:
    """The gap inside the core and half the halo: a tile in the outer half touches no pixel that is kept."""
    inner, reach = block.inner, HALO // 2
    near = np.zeros_like(gap)
    rows = slice(max(0, inner.row - reach), inner.row + inner.height + reach)
    cols = slice(max(0, inner.col - reach), inner.col + inner.width + reach)
    near[rows, cols] = gap[rows, cols]
    return near
