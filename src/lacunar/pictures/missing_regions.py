"""Where the regions of a picture are and what has to be seen to fill them; numpy and scipy only."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.errors import PictureError
from lacunar.geo.windows import Tile

BoolArray = NDArray[np.bool_]

MAX_WINDOW = 2**24  # pixels of regions that are filled together, with what surrounds them
_EIGHT = np.ones((3, 3), dtype=bool)  # neighbours by side and by corner


@dataclass(frozen=True, eq=False)
class MissingRegion:
    """Regions that are filled together.

    Parameters
    ----------
    window
        What is seen of the picture.
    inside
        (h, w) of the window, True = to be filled for this region; other regions may reach into the window too.
    halvings
        How often the window is halved until the widest region is no wider than half the field of the network.
    """

    window: Tile
    inside: BoolArray
    halvings: int


def find_regions(missing: BoolArray, field: int) -> tuple[MissingRegion, ...]:
    """Split the missing pixels of a picture into regions that stand apart, each with the context that a network wants.

    Regions nearer than about half a field belong together. The window reaches half a field beyond them, measured on the
    coarsest grid, and is a field wide at least, as far as the picture goes.

    Parameters
    ----------
    missing
        (H, W), True = to be filled.
    field
        Side in pixels of what the network sees at once.

    Raises
    ------
    PictureError
        Regions that belong together and are too large for the memory.

    Examples
    --------
    >>> missing = np.zeros((300, 400), bool)
    >>> missing[100:110, 50:60] = missing[200:260, 300:360] = True
    >>> [(region.window.shape, region.halvings) for region in find_regions(missing, 64)]
    [((64, 64), 0), ((124, 124), 1)]
    """
    return tuple(_region(missing, own, box, field) for own, box in _groups(missing, field // 2))


def halvings_of(missing: BoolArray, field: int) -> int:
    """How often a picture is halved until its missing pixels (H, W) are nowhere wider than half the field."""
    if missing.all():
        raise PictureError("every pixel is to be filled: at least one is wanted to start from: draw a smaller mask")
    widest = 2 * float(ndimage.distance_transform_edt(missing).max())
    return max(0, int(np.ceil(np.log2(widest / (field / 2)))))


def check_window(window: Tile, *, of: str) -> Tile:
    """Give a window back; one of more than `MAX_WINDOW` pixels is a ``PictureError`` that says what it is ``of``."""
    height, width = window.shape
    if height * width > MAX_WINDOW:
        raise PictureError(
            f"{of} {width} x {height} pixels with what surrounds them, wanted at most {MAX_WINDOW:,} pixels: shrink "
            "the picture, or fill it part by part with smaller masks"
        )
    return window


def _groups(missing: BoolArray, cell: int) -> Iterator[tuple[BoolArray, Tile]]:
    """Missing pixels that are connected on a grid of cells, each as (its pixels, their bounding box)."""
    pads = [(0, -length % cell) for length in missing.shape]
    padded = np.pad(missing, pads)
    cells = padded.reshape(padded.shape[0] // cell, cell, padded.shape[1] // cell, cell).any(axis=(1, 3))
    labels, _ = ndimage.label(cells, structure=_EIGHT)
    for number, found in enumerate(ndimage.find_objects(labels), start=1):
        rows, cols = (slice(part.start * cell, part.stop * cell) for part in found)
        own = padded[rows, cols] & np.kron(labels[found] == number, np.ones((cell, cell), dtype=bool))
        inner_rows, inner_cols = (np.flatnonzero(own.any(axis=axis)) for axis in (1, 0))
        box = Tile(
            rows.start + int(inner_rows[0]),
            cols.start + int(inner_cols[0]),
            int(np.ptp(inner_rows)) + 1,
            int(np.ptp(inner_cols)) + 1,
        )
        yield own[inner_rows[0] : inner_rows[-1] + 1, inner_cols[0] : inner_cols[-1] + 1], box


def _region(missing: BoolArray, own: BoolArray, box: Tile, field: int) -> MissingRegion:
    """Give a group its window."""
    halvings = halvings_of(np.pad(missing[box.slices], 1), field)
    margin, side = (field // 2) << halvings, field << halvings
    spans = [
        _span(start, length, max(length + 2 * margin if length > margin else side, side), full)
        for start, length, full in zip((box.row, box.col), box.shape, missing.shape, strict=True)
    ]
    (row, height), (col, width) = spans
    window = check_window(Tile(row, col, height, width), of="regions that belong together span")
    inside = np.zeros(window.shape, dtype=bool)
    top, left = box.row - row, box.col - col
    inside[top : top + box.height, left : left + box.width] = own
    return MissingRegion(window, inside, halvings)


def _span(start: int, length: int, wanted: int, full: int) -> tuple[int, int]:
    """First index and length of a window of the wanted length around a part of an axis, moved to lie inside it."""
    wanted = min(wanted, full)
    first = start + length // 2 - wanted // 2
    return min(max(first, 0), full - wanted), wanted
