"""Fill a raster of any size block by block: memory stays that of one block, whatever the raster's size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lacunar.diffusion.samplers import Preset
from lacunar.errors import RasterError
from lacunar.fill.array import Filled, fill_array
from lacunar.geo.windows import Block, Tile, blocks_over
from lacunar.interpolate.background import CoarseField
from lacunar.models.checkpoint import Model
from lacunar.sensors.scene import Measured

BLOCK = 960  # side of a block's core; a multiple of the stride between tiles, so that all blocks share one tile grid
HALO = 96  # two strides: every tile that touches the core, with its kriging margin, lies inside the block
COARSE_CELLS = 512  # cells of the coarse level along the raster's longer side, at most
FINEST_REDUCTION = 16  # pixels in a cell of the coarse level, at least

NODATA, MEASURED, FILLED = 0, 1, 2  # values of the band `source`

BoolArray = NDArray[np.bool_]


Reader = Callable[[Tile], Measured]
ReferenceReader = Callable[[Tile], NDArray[np.float32]]  # (K, H, W) of a window, NaN where unknown


@dataclass(frozen=True)
class ReferenceSurvey:
    """What a first pass found of one reference on the grid of the raster.

    Parameters
    ----------
    measured, common
        Pixels that it measures, and those of them that the raster measures too.
    share, gap_share
        Share of the whole grid and of the gap that it measures; None where there is no gap.
    coarse
        Its coarse level, of the same cells as the raster's.
    """

    measured: int
    common: int
    share: float
    gap_share: float | None
    coarse: CoarseField


@dataclass(frozen=True)
class Survey:
    """What a first pass over a raster found: pixels of each kind, the coarse level, and the same of its references."""

    measured: int
    gap: int
    nodata: int
    coarse: CoarseField
    references: tuple[ReferenceSurvey, ...] = ()


@dataclass(frozen=True)
class FilledBlock:
    """One block of the result: where it lies, value, source, sigma, quantiles (Q, H, W), and how it was computed.

    ``evaluations`` are those of the network, over all tiles and samples.
    """

    window: Tile
    value: NDArray[np.float32]
    source: NDArray[np.uint8]
    sigma: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    tiles: int
    coarse_tiles: int
    evaluations: int

    @property
    def bands(self) -> NDArray[np.float32]:
        """Value, source, sigma and quantiles as (3 + Q, H, W) float32."""
        return np.stack([self.value, self.source.astype(np.float32), self.sigma, *self.quantiles])


def survey(read: Reader, shape: tuple[int, int], references: ReferenceReader | None = None) -> Survey:
    """Count the pixels of each kind and average the measured ones into the coarse level, block by block.

    Parameters
    ----------
    read
        Gives any window of the raster.
    shape
        Rows and columns.
    references
        Gives the K references of any window, which are counted and averaged alike; None where there are none.

    Raises
    ------
    RasterError
        No measured pixel at all.
    """
    reduction = max(FINEST_REDUCTION, -(-max(shape) // COARSE_CELLS))
    side = reduction * max(1, BLOCK // reduction)  # whole cells, in windows large enough to read a file's blocks once
    target, beside = _Mosaic(reduction), list[_Mosaic]()
    gap = 0
    for row in range(0, shape[0], side):
        for col in range(0, shape[1], side):
            window = Tile(row, col, min(side, shape[0] - row), min(side, shape[1] - col))
            part = read(window)
            target.add(part.values, part.known, part, window)
            gap += int(part.missing.sum())
            if references is not None:
                seen = references(window)
                beside = beside or [_Mosaic(reduction) for _ in seen]
                for mosaic, values in zip(beside, seen, strict=True):
                    mosaic.add(values, np.isfinite(values), part, window)
    pixels = shape[0] * shape[1]
    if target.measured == 0:
        raise RasterError(
            f"no measured pixel: {gap} of {pixels} pixels are gap and the rest is nodata; "
            "a fill needs something to start from: check the gap mask or the quality classes"
        )
    found = tuple(
        ReferenceSurvey(
            measured=mosaic.measured,
            common=mosaic.common,
            share=mosaic.measured / pixels,
            gap_share=mosaic.in_gap / gap if gap else None,
            coarse=mosaic.joined(),
        )
        for mosaic in beside
    )
    return Survey(target.measured, gap, pixels - target.measured - gap, target.joined(), found)


class _Mosaic:
    """The coarse level of one raster, put together window by window in reading order, and counts of its pixels.

    A cell that the raster to be filled measures in part is averaged over that part: in the cells that link the two, the
    means of a reference are means of the same pixels.
    """

    def __init__(self, reduction: int) -> None:
        self.reduction = reduction
        self.measured = self.common = self.in_gap = 0
        self._rows: list[list[CoarseField]] = []
        self._weights: list[int] = []

    def add(self, values: NDArray[np.floating], known: BoolArray, target: Measured, window: Tile) -> None:
        """Take a window, in which the raster to be filled is ``target``."""
        if window.col == 0:
            self._rows.append([])
        whole = CoarseField.of(values, known, self.reduction)
        both = CoarseField.of(values, known & target.known, self.reduction)
        self._rows[-1].append(replace(whole, values=np.where(both.known, both.values, whole.values)))
        self._weights.append(int(known.sum()))
        self.measured += self._weights[-1]
        self.common += int((known & target.known).sum())
        self.in_gap += int((known & target.missing).sum())

    def joined(self) -> CoarseField:
        """All windows as one."""
        parts = [part for row in self._rows for part in row]
        return CoarseField(
            values=np.block([[part.values for part in row] for row in self._rows]),
            known=np.block([[part.known for part in row] for row in self._rows]),
            within=float(np.average([part.within for part in parts], weights=self._weights)) if self.measured else 0.0,
            reduction=self.reduction,
        )


def fill_blocks(
    read: Reader,
    shape: tuple[int, int],
    coarse: CoarseField,
    model: Model,
    *,
    preset: Preset,
    samples: int,
    seed: int,
    quantiles: Sequence[float] = (),
    references: ReferenceReader | None = None,
    coarse_references: Sequence[CoarseField] = (),
    finished: Callable[[Tile], FilledBlock | None] = lambda _: None,
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
        As in `lacunar.fill.array.fill_array`.
    quantiles
        Levels of the predictive distribution that are given too, each in (0, 1).
    references, coarse_references
        Gives the K references of any window, and the coarse level of each from `survey`; None and () without.
    finished
        Gives the block of a window where it was computed before, None where it was not.
    callback
        Called with (hundredths of a block done, all).
    """
    blocks = blocks_of(shape)
    for number, block in enumerate(blocks):

        def report(done: int, total: int, number: int = number) -> None:
            if callback:
                callback(100 * number + 100 * done // total, 100 * len(blocks))

        yield finished(block.core) or fill_block(
            read,
            block,
            coarse,
            model,
            preset=preset,
            samples=samples,
            seed=seed,
            quantiles=quantiles,
            references=references,
            coarse_references=coarse_references,
            callback=report,
        )
        report(1, 1)


def blocks_of(shape: tuple[int, int]) -> tuple[Block, ...]:
    """The blocks that a raster of so many rows and columns is filled by, in reading order."""
    return blocks_over(shape, block=BLOCK, halo=HALO)


def fill_block(
    read: Reader,
    block: Block,
    coarse: CoarseField,
    model: Model,
    *,
    preset: Preset,
    samples: int,
    seed: int,
    quantiles: Sequence[float] = (),
    references: ReferenceReader | None = None,
    coarse_references: Sequence[CoarseField] = (),
    callback: Callable[[int, int], None] | None = None,
) -> FilledBlock:
    """Fill the core of one block from all that its halo shows; parameters are those of `fill_blocks`."""
    outer = read(block.outer)
    core = outer.part(block.inner)
    value = np.where(core.known, core.values, np.nan).astype(np.float32)
    sigma = np.where(core.known, 0.0, np.nan).astype(np.float32)
    source = np.where(core.known, MEASURED, np.where(core.missing, FILLED, NODATA)).astype(np.uint8)
    levels = np.repeat(value[None], len(quantiles), axis=0)
    if not core.missing.any():
        return FilledBlock(block.core, value, source, sigma, levels, 0, 0, 0)
    origin = (block.outer.row, block.outer.col)
    filled: Filled = fill_array(
        outer.values,
        outer.known,
        _gap_near_core(outer.missing, block),
        model,
        preset=preset,
        samples=samples,
        seed=seed,
        origin=origin,
        coarse=replace(coarse, origin=origin),
        references=None if references is None else references(block.outer),
        coarse_references=tuple(replace(field, origin=origin) for field in coarse_references),
        callback=callback,
    )
    inner = block.inner.slices
    value = np.where(core.missing, filled.mean[inner], value)
    sigma = np.where(core.missing, filled.sigma[inner], sigma)
    for number, level in enumerate(quantiles):
        levels[number] = np.where(core.missing, filled.quantile(level)[inner], levels[number])
    evaluations = filled.tiles * samples * filled.evaluations
    return FilledBlock(block.core, value, source, sigma, levels, filled.tiles, filled.coarse_tiles, evaluations)


def _gap_near_core(gap: BoolArray, block: Block) -> BoolArray:
    """The gap inside the core and half the halo: a tile in the outer half touches no pixel that is kept."""
    inner, reach = block.inner, HALO // 2
    near = np.zeros_like(gap)
    rows = slice(max(0, inner.row - reach), inner.row + inner.height + reach)
    cols = slice(max(0, inner.col - reach), inner.col + inner.width + reach)
    near[rows, cols] = gap[rows, cols]
    return near
