"""Fill a raster of any size block by block, in the memory of one block."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.errors import RasterError
from lacunar.fill.filled import fill_from_field
from lacunar.fill.options import FillOptions, SuspectChoice
from lacunar.fill.suspects import BandReader, find_suspects, without
from lacunar.geo.windows import Block, Tile, blocks_over
from lacunar.interpolate.background import MIN_KNOWN, CoarseField
from lacunar.interpolate.raster_field import RasterField, RasterSample, View
from lacunar.sensors.scene import Measured

if TYPE_CHECKING:
    from lacunar.models.checkpoint import Model

BLOCK = 960  # side of a block's core; a multiple of the stride between tiles, so that all blocks share one tile grid
HALO = 96  # two strides: every tile that touches the core, with its kriging margin, lies inside the block
WIDE_HALO = 288  # where a gap reaches through the halo: samples of two blocks then meet at their border
COARSE_CELLS = 512  # cells of the coarse field along the raster's longer side, at most
FINEST_REDUCTION = 16  # pixels in a cell of the coarse field, at least

LEAST_VALUE = 1e-30  # whose rounding is that of 0

NODATA, MEASURED, FILLED = 0, 1, 2  # values of the band `source`

BoolArray = NDArray[np.bool_]
Callback = Callable[[int, int], None]
Reader = Callable[[Tile], Measured]
GuideReader = Callable[[Tile], NDArray[np.float32]]  # (K, H, W) of a window, NaN where unknown


@dataclass(frozen=True)
class GuideCounts:
    """What the survey counted of one guide."""

    measured: int  # pixels
    common: int  # pixels that are measured in the raster too
    share: float  # of the grid that is measured
    missing_share: float | None  # of the missing pixels; None where nothing is missing


@dataclass(frozen=True)
class Survey:
    """A first pass over a raster: pixels of each kind, counts of the guides, and block means of all of them."""

    measured: int
    missing: int
    nodata: int
    coarse: CoarseField
    guides: tuple[GuideCounts, ...] = ()
    remarks: Mapping[str, int] = field(default_factory=dict)  # what a user should know of pixels -> how many they are
    suspect: BoolArray | None = None  # (H, W) measured pixels that look like cloud, where they were looked for
    reach: float = 0.0  # pixels from the farthest missing pixel to a measured one, to a cell of the coarse field
    raster_field: RasterField | None = None  # the model of the raster, where it fills without a network

    @property
    def spread(self) -> float:
        """Standard deviation of the measured pixels."""
        return float(np.sqrt(self.coarse.values[self.coarse.known].var() + self.coarse.within))


@dataclass(frozen=True)
class FilledBlock:
    """One block of the result: value, source and sigma (H, W), quantiles (Q, H, W), and how it was computed."""

    window: Tile
    value: NDArray[np.float32]
    source: NDArray[np.uint8]
    sigma: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    tiles: int = 0
    coarse_tiles: int = 0
    evaluations: int = 0  # of the network, over all tiles and samples
    realisations: NDArray[np.float32] | None = None  # (K, H, W) where asked for

    @property
    def bands(self) -> NDArray[np.float32]:
        """Value, source, sigma and quantiles as (3 + Q, H, W)."""
        return np.stack([self.value, self.source.astype(np.float32), self.sigma, *self.quantiles])


def survey(
    read: Reader,
    shape: tuple[int, int],
    guides: GuideReader | None = None,
    *,
    suspect: SuspectChoice = "keep",
    bands: BandReader | None = None,
    options: FillOptions | None = None,
) -> Survey:
    """Count the pixels of each kind and average the measured ones into a coarse field, window by window.

    ``read`` and ``guides`` give any window of the raster and of its K guides. Suspects are looked for unless
    ``suspect`` is keep, and count as missing where it is fill; ``bands`` (reflectance, where there are any) tells snow
    and water from cloud. The field of the raster is fitted where ``options`` fill by it. Raises `RasterError`: no
    measured pixel.
    """
    found = None
    if suspect != "keep":
        found = find_suspects(read, blocks_of(shape), guides=guides, bands=bands)
    if suspect == "fill":
        read = _filling(read, found)
    reduction = max(FINEST_REDUCTION, -(-max(shape) // COARSE_CELLS))
    side = reduction * max(1, BLOCK // reduction)  # whole cells, in windows large enough to read a file's blocks once
    raster, gaps, beside = _Mosaic(reduction), _Mosaic(reduction), list[_Mosaic]()
    missing, remarks, sample = 0, Counter[str](), RasterSample()
    for row in range(0, shape[0], side):
        for col in range(0, shape[1], side):
            window = Tile(row, col, min(side, shape[0] - row), min(side, shape[1] - col))
            part = read(window)
            raster.add(part.values, part.known, part, window)
            gaps.add(np.zeros(part.missing.shape, dtype=np.float32), part.missing, part, window)
            missing += int(part.missing.sum())
            remarks.update({text: int(where.sum()) for text, where in part.remarks.items()})
            seen = np.empty((0, *window.shape), dtype=np.float32) if guides is None else guides(window)
            if options is not None and options.uses_field(len(seen)):
                sample.add(View(part.values, part.known, part.missing, seen, (row, col)))
            if len(seen):
                beside = beside or [_Mosaic(reduction) for _ in seen]
                for mosaic, values in zip(beside, seen, strict=True):
                    mosaic.add(values, np.isfinite(values), part, window)
    pixels = shape[0] * shape[1]
    if raster.measured == 0:
        raise RasterError(
            f"no measured pixel: {missing} of {pixels} pixels are missing and the rest is nodata; "
            "a fill needs something to start from: check the gap mask or the quality classes"
            + "".join(f"; {count} pixels {text}" for text, count in (+remarks).items())
        )
    counts = tuple(
        GuideCounts(
            measured=mosaic.measured,
            common=mosaic.common,
            share=mosaic.measured / pixels,
            missing_share=mosaic.in_missing / missing if missing else None,
        )
        for mosaic in beside
    )
    coarse = replace(raster.joined(), guides=tuple(mosaic.joined() for mosaic in beside))
    nodata, model = pixels - raster.measured - missing, None
    if options is not None and options.uses_field(len(counts)) and missing:
        model = sample.fitted(coarse)
    distance = ndimage.distance_transform_edt(~coarse.known) * reduction
    reach = float(distance[gaps.joined().known].max(initial=0.0))
    return Survey(raster.measured, missing, nodata, coarse, counts, +remarks, found, reach, model)


def _filling(read: Reader, suspect: BoolArray | None) -> Reader:
    """A reader to which suspects are missing."""
    return read if suspect is None else lambda window: without(read(window), suspect[window.slices])


class _Mosaic:
    """The coarse field of one raster, put together window by window in reading order, and counts of its pixels.

    A cell that the raster to be filled measures in part is averaged over that part, in a guide too: where the two are
    compared, their means are of the same pixels.
    """

    def __init__(self, reduction: int) -> None:
        self.reduction = reduction
        self.measured = self.common = self.in_missing = 0
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
        self.in_missing += int((known & target.missing).sum())

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
    found: Survey,
    model: "Model | None",
    options: FillOptions,
    *,
    guides: GuideReader | None = None,
    finished: Callable[[Tile], FilledBlock | None] = lambda _: None,
    callback: Callback | None = None,
) -> Iterator[FilledBlock]:
    """Yield the filled raster in blocks that cover it without overlap.

    Measured pixels keep their value, with sigma 0; filled ones get the mean and standard deviation of the samples;
    nodata stays NaN. A block depends on its surroundings alone, not on the order of the blocks. ``finished`` gives the
    block of a window that an earlier run computed, or None. ``callback`` is called with (hundredths of a block done,
    all).
    """
    blocks = blocks_of(shape)
    for number, block in enumerate(blocks):

        def report(done: int, total: int, number: int = number) -> None:
            if callback:
                callback(100 * number + 100 * done // total, 100 * len(blocks))

        yield finished(block.core) or fill_block(read, block, found, model, options, guides=guides, callback=report)
        report(1, 1)


def blocks_of(shape: tuple[int, int]) -> tuple[Block, ...]:
    """The blocks of a raster of so many rows and columns, in reading order."""
    narrow, wide = (blocks_over(shape, block=BLOCK, halo=halo) for halo in (HALO, WIDE_HALO))
    return tuple(replace(block, wide=more.outer) for block, more in zip(narrow, wide, strict=True))


def fill_block(
    read: Reader,
    block: Block,
    found: Survey,
    model: "Model | None",
    options: FillOptions,
    *,
    guides: GuideReader | None = None,
    callback: Callback | None = None,
) -> FilledBlock:
    """Fill the core of one block from all that its halo shows; parameters are those of `fill_blocks`."""
    reading = _filling(read, found.suspect) if options.suspect == "fill" else read
    outer = reading(block.outer)
    core = outer.part(block.inner)
    value = np.where(core.known, core.values, np.nan).astype(np.float32)
    sigma = np.where(core.known, 0.0 if core.sigma is None else core.sigma, np.nan).astype(np.float32)
    source = np.where(core.known, MEASURED, np.where(core.missing, FILLED, NODATA)).astype(np.uint8)
    quantiles = np.repeat(value[None], len(options.quantiles), axis=0)
    if not core.missing.any():
        drawn = np.repeat(value[None], options.samples, axis=0) if options.realisations else None
        return FilledBlock(block.core, value, source, sigma, quantiles, realisations=drawn)
    near = _touching(outer.missing, block)
    if found.raster_field is not None and block.wide is not None and _is_cut(near, block.outer, block.wide):
        block = Block(block.core, block.wide)
        outer = reading(block.outer)
        near = _touching(outer.missing, block)
    beside, origin = None if guides is None else guides(block.outer), (block.outer.row, block.outer.col)
    if found.raster_field is not None:
        others = np.empty((0, *outer.known.shape), dtype=np.float32) if beside is None else beside
        filled = fill_from_field(found.raster_field, View(outer.values, outer.known, near, others, origin), options)
    else:
        from lacunar.fill.array import fill_array

        filled = fill_array(
            outer.values,
            outer.known,
            _near_core(outer.missing, block),
            model,
            options,
            guides=beside,
            coarse=replace(found.coarse, origin=origin),
            callback=callback,
        )
    inner = block.inner.slices
    value = np.where(core.missing, filled.mean[inner], value)
    sigma = np.where(core.missing, _floored(filled.sigma[inner], value, outer.known, found), sigma)
    if not (np.isfinite(value) & np.isfinite(sigma))[core.missing].all():
        raise RasterError(
            "the fill is no number: values span more than 32-bit floats hold; wanted other units, such as by --scale"
        )
    for number, level in enumerate(options.quantiles):
        quantiles[number] = np.where(core.missing, filled.quantile(level)[inner], quantiles[number])
    drawn = np.where(core.missing, filled.realisations[:, *inner], value) if options.realisations else None
    counts = (filled.tiles, filled.coarse_tiles, filled.tiles * options.samples * filled.evaluations)
    return FilledBlock(block.core, value, source, sigma, quantiles, *counts, realisations=drawn)


def least_sigma(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """The rounding of values, below which no sigma goes."""
    return np.asarray(np.spacing(np.maximum(np.abs(values), LEAST_VALUE).astype(np.float32)))


def _floored(
    sigma: NDArray[np.float32], values: NDArray[np.float32], known: BoolArray, found: Survey
) -> NDArray[np.float32]:
    """Sigma, but not below the rounding of the values, nor without a few known pixels below the raster's deviation."""
    least = least_sigma(values)
    if known.sum() < MIN_KNOWN:
        least = np.maximum(least, np.float32(found.spread))
    return np.asarray(np.maximum(sigma, least))


def _touching(missing: BoolArray, block: Block) -> BoolArray:
    """Missing pixels on which those of the core depend."""
    parts, count = ndimage.label(ndimage.binary_dilation(missing))
    inside = np.zeros(count + 1, dtype=bool)
    inside[np.unique(parts[block.inner.slices])] = True
    inside[0] = False
    return np.asarray(missing & inside[parts])


def _is_cut(near: BoolArray, outer: Tile, wide: Tile) -> bool:
    """Whether pixels ``near`` the core lie at a side of ``outer`` beyond which ``wide`` reaches."""
    top, left = outer.row > wide.row, outer.col > wide.col
    bottom = outer.row + outer.height < wide.row + wide.height
    right = outer.col + outer.width < wide.col + wide.width
    sides = ((top, near[0]), (bottom, near[-1]), (left, near[:, 0]), (right, near[:, -1]))
    return any(more and bool(side.any()) for more, side in sides)


def _near_core(missing: BoolArray, block: Block) -> BoolArray:
    """Missing pixels in the core and half the halo: a tile in the outer half touches no pixel that is kept."""
    inner, reach = block.inner, HALO // 2
    near = np.zeros_like(missing)
    rows = slice(max(0, inner.row - reach), inner.row + inner.height + reach)
    cols = slice(max(0, inner.col - reach), inner.col + inner.width + reach)
    near[rows, cols] = missing[rows, cols]
    return near
