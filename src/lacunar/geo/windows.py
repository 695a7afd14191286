"""Windows on an array: overlapping tiles and their blend weights, and large blocks with a halo; numpy only.

Tiles never reach outside the array: the last one in a row is moved back so that it ends at the border, and where the
array is smaller than a tile, its tile is as small as the array. A network that needs sides divisible by some number
gets them from :func:`pad_to_multiple`.
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
    """A rectangle of pixels: first row and column, height and width.

    Raises
    ------
    LacunarError
        When the rectangle starts before the array or is empty.

    Examples
    --------
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
        """Refuse rectangles that no array holds."""
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

    @property
    def inner(self) -> Tile:
        """Where ``core`` lies inside an array cut out by ``outer``."""
        return Tile(self.core.row - self.outer.row, self.core.col - self.outer.col, self.core.height, self.core.width)


def tile_origins(length: int, *, tile: int, stride: int) -> tuple[int, ...]:
    """First indices of tiles that cover an axis: 0, stride, 2 stride, ...; the last one ends at the border.

    Parameters
    ----------
    length
        Pixels along the axis, at least 1.
    tile
        Pixels of one tile, at least 1.
    stride
        Step between tiles, 1 .. `tile` (a longer step would leave pixels uncovered).

    Raises
    ------
    LacunarError
        When a value is out of its range.

    Examples
    --------
    >>> tile_origins(100, tile=64, stride=32)
    (0, 32, 36)
    >>> tile_origins(40, tile=64, stride=32)
    (0,)
    """
    if length < 1 or tile < 1 or not 1 <= stride <= tile:
        raise LacunarError(
            f"got length {length}, tile {tile}, stride {stride}; wanted length and tile >= 1 and 1 <= stride <= tile: "
            "make the overlap smaller than the tile"
        )
    last = max(length - tile, 0)
    return (*range(0, last, stride), last)


def tiles_over(shape: tuple[int, int], *, tile: int, overlap: int) -> tuple[Tile, ...]:
    """Tiles of one size that cover an array of any size, row by row.

    Neighbours share at least `overlap` pixels. Every tile is ``min(tile, height) x min(tile, width)``: an array smaller
    than a tile gets tiles of its own size, which :func:`pad_to_multiple` brings to a size that a network takes.

    Parameters
    ----------
    shape
        Height and width of the array.
    tile
        Side of a tile in pixels.
    overlap
        Pixels that neighbours share, 0 .. `tile` - 1.

    Raises
    ------
    LacunarError
        When the shape is empty or the overlap is not smaller than the tile.

    Examples
    --------
    >>> [(t.row, t.col) for t in tiles_over((64, 100), tile=64, overlap=32)]
    [(0, 0), (0, 32), (0, 36)]
    """
    height, width = shape
    if not 0 <= overlap < tile:
        raise LacunarError(f"got overlap {overlap} for tile {tile}; wanted 0 <= overlap < tile: take a smaller overlap")
    rows = tile_origins(height, tile=tile, stride=tile - overlap)
    cols = tile_origins(width, tile=tile, stride=tile - overlap)
    return tuple(Tile(row, col, min(tile, height), min(tile, width)) for row in rows for col in cols)


def tiles_touching(tiles: Sequence[Tile], gap: NDArray[np.bool_]) -> tuple[Tile, ...]:
    """Keep the tiles that hold at least one gap pixel, in their order.

    Parameters
    ----------
    tiles
        Tiles inside the array.
    gap
        Boolean (height, width), True = to be filled.

    Raises
    ------
    LacunarError
        When `gap` is not boolean and two-dimensional, or a tile reaches outside it.

    Examples
    --------
    >>> gap = np.zeros((4, 4), dtype=bool)
    >>> gap[3, 3] = True
    >>> tiles_touching(tiles_over((4, 4), tile=2, overlap=0), gap)
    (Tile(row=2, col=2, height=2, width=2),)
    """
    if gap.ndim != 2 or gap.dtype != np.bool_:
        raise LacunarError(f"got a gap of {gap.ndim} axes and type {gap.dtype}; wanted boolean (height, width)")
    if not tiles:
        return ()
    _check_inside(tiles, (gap.shape[0], gap.shape[1]))
    # Summed-area table (Crow 1984): the count in a rectangle is four look-ups, whatever its size.
    counts = np.zeros((gap.shape[0] + 1, gap.shape[1] + 1), dtype=np.int32 if gap.size < 2**31 else np.int64)
    np.cumsum(gap, axis=0, out=counts[1:, 1:])
    np.cumsum(counts[1:, 1:], axis=1, out=counts[1:, 1:])
    row, col, height, width = np.array([(t.row, t.col, t.height, t.width) for t in tiles]).T
    bottom, right = row + height, col + width
    inside = counts[bottom, right] - counts[row, right] - counts[bottom, col] + counts[row, col]
    return tuple(tile for tile, count in zip(tiles, inside, strict=True) if count > 0)


def blend_weights(shape: int | tuple[int, int], *, overlap: int) -> NDArray[np.float64]:
    r"""Smooth weights of one tile: 1 in its middle, falling to nearly 0 at its border, positive everywhere.

    Along each axis :math:`w(i) = \sin^2(\frac{\pi}{2} \min(d_i / \text{overlap}, 1))` with :math:`d_i` the
    distance of the pixel's centre to the nearer border (a Tukey window, sampled at pixel centres). In a regular
    grid the weights of two neighbours add to 1; where they do not, :func:`stitch` divides by their sum.

    Parameters
    ----------
    shape
        Side of the tile, or its height and width.
    overlap
        Pixels over which the weight rises; 0 gives constant weights. At most half of a side counts.

    Returns
    -------
    numpy.ndarray
        (height, width), in (0, 1].

    Raises
    ------
    LacunarError
        When the overlap is negative or the shape is empty.

    References
    ----------
    Harris (1978), On the use of windows for harmonic analysis, Proc. IEEE 66, Eq. 38.

    Examples
    --------
    >>> blend_weights((1, 6), overlap=2).round(3)
    array([[0.146, 0.854, 1.   , 1.   , 0.854, 0.146]])
    """
    height, width = (shape, shape) if isinstance(shape, int) else shape
    if overlap < 0 or height < 1 or width < 1:
        raise LacunarError(f"got shape {(height, width)} and overlap {overlap}; wanted sides >= 1 and overlap >= 0")
    rows, cols = _ramp(height, overlap), _ramp(width, overlap)
    return rows[:, np.newaxis] * cols


def split(array: NDArray[Any], tiles: Sequence[Tile]) -> NDArray[Any]:
    """Cut an array into a stack of patches.

    Parameters
    ----------
    array
        (..., height, width), any type.
    tiles
        Tiles of one size inside the array.

    Returns
    -------
    numpy.ndarray
        (tiles, ..., tile height, tile width), a copy.

    Raises
    ------
    LacunarError
        When there is no tile, tiles differ in size, or one reaches outside.
    """
    _check_one_size(tiles)
    _check_inside(tiles, (array.shape[-2], array.shape[-1]))
    return np.stack([array[..., *tile.slices] for tile in tiles])


def stitch(
    patches: NDArray[Any], tiles: Sequence[Tile], *, shape: tuple[int, int], weights: ArrayLike
) -> NDArray[np.float64]:
    """Put patches back into one array; where tiles overlap, their weighted mean.

    ``stitch(split(a, tiles), tiles, ...)`` gives `a` again wherever a tile lies; exactly, once cast to float32.

    Parameters
    ----------
    patches
        (tiles, ..., tile height, tile width), finite.
    tiles
        Where each patch lies, all of one size.
    shape
        Height and width of the result.
    weights
        (tile height, tile width), positive, as :func:`blend_weights` gives them.

    Returns
    -------
    numpy.ndarray
        (..., height, width), float64; NaN where no tile lies.

    Raises
    ------
    LacunarError
        When sizes do not fit together or a weight is not positive.

    Examples
    --------
    >>> tiles = tiles_over((1, 5), tile=3, overlap=1)
    >>> array = np.arange(5.0).reshape(1, 5)
    >>> stitch(split(array, tiles), tiles, shape=(1, 5), weights=blend_weights((1, 3), overlap=1))
    array([[0., 1., 2., 3., 4.]])
    """
    weight = np.asarray(weights, dtype=np.float64)
    size = _check_one_size(tiles)
    _check_inside(tiles, shape)
    if patches.shape[:1] != (len(tiles),) or patches.shape[-2:] != size or weight.shape != size:
        raise LacunarError(
            f"got patches {patches.shape} and weights {weight.shape}; wanted ({len(tiles)}, ..., {size[0]}, {size[1]}) "
            f"and {size}: cut the patches with the same tiles"
        )
    if not np.all(weight > 0):
        raise LacunarError(f"got a weight of {weight.min()}; wanted all > 0: make them with blend_weights")
    total = np.zeros((*patches.shape[1:-2], *shape), dtype=np.float64)
    norm = np.zeros(shape, dtype=np.float64)
    for patch, tile in zip(patches, tiles, strict=True):
        total[..., *tile.slices] += weight * patch
        norm[tile.slices] += weight
    return np.divide(total, norm, out=np.full_like(total, np.nan), where=norm > 0)


def pad_to_multiple(array: NDArray[Any], multiple: int) -> tuple[NDArray[Any], Tile]:
    """Mirror an array at its bottom and right until its sides are divisible.

    Unlike zeros, reflection invents no edge. An array shorter than its padding is reflected to and fro.

    Parameters
    ----------
    array
        (..., height, width), any type; pad the boolean `known` with the same call.
    multiple
        What both sides must be divisible by, at least 1.

    Returns
    -------
    padded, original : tuple
        The larger array (the same object where nothing is to do) and the tile that cuts the original out of it:
        ``padded[..., *original.slices]``.

    Raises
    ------
    LacunarError
        When `multiple` is below 1 or the array is empty.

    Examples
    --------
    >>> padded, original = pad_to_multiple(np.array([[1, 2, 3]]), 4)
    >>> padded[0]
    array([1, 2, 3, 2])
    >>> padded[original.slices]
    array([[1, 2, 3]])
    """
    height, width = array.shape[-2:]
    if multiple < 1 or height < 1 or width < 1:
        raise LacunarError(
            f"got multiple {multiple} for shape {array.shape}; wanted multiple >= 1 and a non-empty array"
        )
    original = Tile(0, 0, height, width)
    bottom, right = -height % multiple, -width % multiple
    if bottom == 0 and right == 0:
        return array, original
    rest = [(0, 0)] * (array.ndim - 2)
    return np.pad(array, [*rest, (0, bottom), (0, right)], mode="reflect"), original


def blocks_over(shape: tuple[int, int], *, block: int, halo: int) -> tuple[Block, ...]:
    """Large blocks for streaming a raster: their cores part it without overlap, each reads a halo around its core.

    Parameters
    ----------
    shape
        Height and width of the raster.
    block
        Side of a core in pixels; the last core in a row or column is shorter.
    halo
        Pixels read on each side of the core, cut at the raster's border.

    Raises
    ------
    LacunarError
        When the shape is empty, `block` below 1 or `halo` negative.

    Examples
    --------
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
    """One axis of `blend_weights`."""
    if overlap == 0:
        return np.ones(length)
    index = np.arange(length)
    distance = np.minimum(index, index[::-1]) + 0.5
    return np.sin(np.pi / 2 * np.minimum(distance / min(overlap, length / 2), 1.0)) ** 2


def _check_one_size(tiles: Sequence[Tile]) -> tuple[int, int]:
    """Return the size that all tiles share, or refuse."""
    sizes = {tile.shape for tile in tiles}
    if len(sizes) != 1:
        raise LacunarError(f"got tiles of sizes {sorted(sizes)}; wanted one or more tiles of one size: use tiles_over")
    return sizes.pop()


def _check_inside(tiles: Sequence[Tile], shape: tuple[int, int]) -> None:
    """Refuse tiles that reach outside: numpy would cut them silently."""
    for tile in tiles:
        if not tile.inside(shape):
            raise LacunarError(f"got {tile} for an array of {shape}; wanted it inside: use tiles_over on this shape")
