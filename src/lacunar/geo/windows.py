"""Windows on an array: overlapping tiles and their blend weights, and large blocks with a halo; numpy only.

Tiles never reach outside the array: the last one in a row is moved back so that it ends at the border, and where the
array is smaller than a tile, its tile is as small as the array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lacunar.errors import LacunarError


@dataclass(frozen=True, order=True)
class Tile:
    """A rectangle of pixels, not empty: first row and column, height and width.

    >>> tile = Tile(row=2, col=1, height=2, width=3)
    >>> np.arange(20).reshape(4, 5)[tile.slices]
    array([[11, 12, 13],
           [16, 17, 18]])
    """

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.row < 0 or self.col < 0 or self.height < 1 or self.width < 1:
            raise LacunarError(f"got {self}; wanted row and col >= 0, height and width >= 1: check the window")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """The row and column slices, to be used as ``array[..., *tile.slices]``."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def inside(self, shape: tuple[int, int]) -> bool:
        """Whether the rectangle lies wholly in an array of this height and width."""
        return self.row + self.height <= shape[0] and self.col + self.width <= shape[1]


@dataclass(frozen=True)
class Block:
    """A processing block: the pixels it answers for (``core``) and the pixels it reads (``outer``, core plus halo)."""

    core: Tile
    outer: Tile
    wide: Tile | None = None  # what it reads where ``outer`` cuts what it has to fill

    @property
    def inner(self) -> Tile:
        """Where ``core`` lies inside an array cut out by ``outer``."""
        return Tile(self.core.row - self.outer.row, self.core.col - self.outer.col, self.core.height, self.core.width)


def tiles_over(shape: tuple[int, int], *, tile: int, overlap: int) -> tuple[Tile, ...]:
    """Tiles of one size that cover an array of any size, row by row.

    Neighbours share at least ``overlap`` pixels, 0 .. ``tile`` - 1. Every tile is ``min(tile, height) x min(tile,
    width)``: an array smaller than a tile gets a tile of its own size.

    >>> [(t.row, t.col) for t in tiles_over((64, 100), tile=64, overlap=32)]
    [(0, 0), (0, 32), (0, 36)]
    """
    height, width = shape
    if not 0 <= overlap < tile:
        raise LacunarError(f"got overlap {overlap} for tile {tile}; wanted 0 <= overlap < tile: take a smaller overlap")
    if height < 1 or width < 1:
        raise LacunarError(f"got shape {shape}; wanted sides >= 1")
    lasts = (max(height - tile, 0), max(width - tile, 0))  # these tiles end at the border
    rows, cols = ((*range(0, last, tile - overlap), last) for last in lasts)
    return tuple(Tile(row, col, min(tile, height), min(tile, width)) for row in rows for col in cols)


def tiles_touching(tiles: Sequence[Tile], missing: NDArray[np.bool_]) -> tuple[Tile, ...]:
    """Keep the tiles that hold at least one pixel of a boolean ``missing`` (height, width), in their order.

    >>> missing = np.zeros((4, 4), dtype=bool)
    >>> missing[3, 3] = True
    >>> tiles_touching(tiles_over((4, 4), tile=2, overlap=0), missing)
    (Tile(row=2, col=2, height=2, width=2),)
    """
    if missing.ndim != 2 or missing.dtype != np.bool_:
        raise LacunarError(f"got missing {missing.dtype} of {missing.ndim} axes; wanted boolean (height, width)")
    if not tiles:
        return ()
    _check_inside(tiles, (missing.shape[0], missing.shape[1]))
    # Summed-area table (Crow 1984): the count in a rectangle is four look-ups, whatever its size.
    whole = np.int32 if missing.size < 2**31 else np.int64
    counts = np.zeros((missing.shape[0] + 1, missing.shape[1] + 1), dtype=whole)
    np.cumsum(missing, axis=0, out=counts[1:, 1:])
    np.cumsum(counts[1:, 1:], axis=1, out=counts[1:, 1:])
    row, col, height, width = np.array([(t.row, t.col, t.height, t.width) for t in tiles]).T
    bottom, right = row + height, col + width
    inside = counts[bottom, right] - counts[row, right] - counts[bottom, col] + counts[row, col]
    return tuple(tile for tile, count in zip(tiles, inside, strict=True) if count > 0)


def blend_weights(shape: int | tuple[int, int], *, overlap: int) -> NDArray[np.float64]:
    r"""Smooth weights of one tile: 1 in its middle, falling to nearly 0 at its border, positive everywhere.

    Along each axis :math:`w(i) = \sin^2(\frac{\pi}{2} \min(d_i / \text{overlap}, 1))` with :math:`d_i` the
    distance of the pixel's centre to the nearer border (a Tukey window, sampled at pixel centres). In a regular
    grid the weights of two neighbours add to 1; where they do not, :func:`stitch` divides by their sum. ``shape`` is a
    side or (height, width). An overlap of 0 gives constant weights; at most half of a side counts. Reference: Harris
    (1978), On the use of windows for harmonic analysis, Proc. IEEE 66, Eq. 38.

    >>> blend_weights((1, 6), overlap=2).round(3)
    array([[0.146, 0.854, 1.   , 1.   , 0.854, 0.146]])
    """
    height, width = (shape, shape) if isinstance(shape, int) else shape
    if overlap < 0 or height < 1 or width < 1:
        raise LacunarError(f"got shape {(height, width)} and overlap {overlap}; wanted sides >= 1 and overlap >= 0")
    rows, cols = _ramp(height, overlap), _ramp(width, overlap)
    return rows[:, np.newaxis] * cols


def stitch(
    patches: NDArray[Any], tiles: Sequence[Tile], *, shape: tuple[int, int], weights: ArrayLike
) -> NDArray[np.float64]:
    """Put patches (tiles, ..., tile height, tile width) back into one array (..., *shape).

    Where tiles overlap it is the mean by positive ``weights`` (tile height, tile width), as `blend_weights` gives them;
    float64, NaN where no tile lies. All tiles have one size.

    >>> tiles = tiles_over((1, 5), tile=3, overlap=1)
    >>> array = np.arange(5.0).reshape(1, 5)
    >>> patches = np.stack([array[tile.slices] for tile in tiles])
    >>> stitch(patches, tiles, shape=(1, 5), weights=blend_weights((1, 3), overlap=1))
    array([[0., 1., 2., 3., 4.]])
    """
    weight = np.asarray(weights, dtype=np.float64)
    sizes = {tile.shape for tile in tiles}
    if len(sizes) != 1:
        raise LacunarError(f"got tiles of sizes {sorted(sizes)}; wanted one or more tiles of one size: use tiles_over")
    size = sizes.pop()
    _check_inside(tiles, shape)
    if patches.shape[:1] != (len(tiles),) or patches.shape[-2:] != size or weight.shape != size:
        wanted = f"wanted ({len(tiles)}, ..., {size[0]}, {size[1]}) and {size}"
        raise LacunarError(f"got patches {patches.shape} and weights {weight.shape}; {wanted}: cut by the same tiles")
    if not np.all(weight > 0):
        raise LacunarError(f"got a weight of {weight.min()}; wanted all > 0: make them with blend_weights")
    total = np.zeros((*patches.shape[1:-2], *shape), dtype=np.float64)
    norm = np.zeros(shape, dtype=np.float64)
    for patch, tile in zip(patches, tiles, strict=True):
        total[..., *tile.slices] += weight * patch
        norm[tile.slices] += weight
    return np.divide(total, norm, out=np.full_like(total, np.nan), where=norm > 0)


def blocks_over(shape: tuple[int, int], *, block: int, halo: int) -> tuple[Block, ...]:
    """Large blocks for streaming a raster: their cores part it without overlap, each reads a halo around its core.

    ``block`` is the side of a core, the last in a row or column being shorter; ``halo`` the pixels read on each side of
    it, cut at the raster's border.

    >>> first, last = blocks_over((10, 15), block=10, halo=2)
    >>> last.core, last.outer
    (Tile(row=0, col=10, height=10, width=5), Tile(row=0, col=8, height=10, width=7))
    >>> last.inner
    Tile(row=0, col=2, height=10, width=5)
    """
    height, width = shape
    if height < 1 or width < 1 or block < 1 or halo < 0:
        raise LacunarError(f"got shape {shape}, block {block}, halo {halo}; wanted sides and block >= 1 and halo >= 0")
    blocks = []
    for row in range(0, height, block):
        for col in range(0, width, block):
            core = Tile(row, col, min(block, height - row), min(block, width - col))
            top, left = max(row - halo, 0), max(col - halo, 0)
            bottom, right = min(row + core.height + halo, height), min(col + core.width + halo, width)
            blocks.append(Block(core, Tile(top, left, bottom - top, right - left)))
    return tuple(blocks)


def _ramp(length: int, overlap: int) -> NDArray[np.float64]:
    if overlap == 0:
        return np.ones(length)
    index = np.arange(length)
    distance = np.minimum(index, index[::-1]) + 0.5
    return np.sin(np.pi / 2 * np.minimum(distance / min(overlap, length / 2), 1.0)) ** 2


def _check_inside(tiles: Sequence[Tile], shape: tuple[int, int]) -> None:
    """Refuse tiles that reach outside: numpy would cut them silently."""
    for tile in tiles:
        if not tile.inside(shape):
            raise LacunarError(f"got {tile} for an array of {shape}; wanted it inside: use tiles_over on this shape")
