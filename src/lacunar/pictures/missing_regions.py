"""Where pixels are missing in a picture, and what has to be seen around them; numpy and scipy only."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.errors import PictureError
from lacunar.geo.windows import Tile

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]

MAX_WINDOW = 2**24  # pixels that are filled together, with what surrounds them
_EIGHT = np.ones((3, 3), dtype=bool)  # neighbours by side and by corner


@dataclass(frozen=True, eq=False)
class MissingRegion:
    """Missing pixels that are filled together: the window that is seen, and which of its pixels (h, w) are filled.

    Other regions may reach into the window.
    """

    window: Tile
    inside: BoolArray
    halvings: int  # of the window, until what is missing is nowhere wider than half the field of the network


def find_regions(missing: BoolArray, field: int) -> tuple[MissingRegion, ...]:
    """Split the missing pixels (H, W) of a picture into regions that stand apart, each with the context to fill it.

    Pixels nearer than about half a field, the side of what the network sees at once, belong together. A window reaches
    half a field beyond its region, measured on the coarsest grid, and is a field wide at least, as far as the picture
    goes. A region too large for the memory, or nothing known, is a ``PictureError``.
    """
    if missing.all():
        raise PictureError("every pixel is to be filled: at least one is wanted to start from: draw a smaller mask")
    regions = []
    for own, box in _groups(missing, field // 2):
        halvings = halvings_of(np.pad(missing[box.slices], 1), field)
        margin, side = (field // 2) << halvings, field << halvings
        wanted = [max(length + 2 * margin if length > margin else side, side) for length in box.shape]
        window = window_around(box, wanted, missing.shape, of="regions that belong together span")
        inside = np.zeros(window.shape, dtype=bool)
        inside[Tile(box.row - window.row, box.col - window.col, *box.shape).slices] = own
        regions.append(MissingRegion(window, inside, halvings))
    return tuple(regions)


def halvings_of(missing: BoolArray, field: int) -> int:
    """How often a picture is halved until its missing pixels (H, W) are nowhere wider than half the field."""
    widest = 2 * float(ndimage.distance_transform_edt(missing).max())
    return max(0, int(np.ceil(np.log2(widest / (field / 2)))))


def bounding_box(mask: BoolArray) -> Tile:
    """The smallest window that holds all of a mask."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return Tile(int(rows[0]), int(cols[0]), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)


def window_around(box: Tile, wanted: list[int], shape: tuple[int, ...], *, of: str) -> Tile:
    """A window of the wanted height and width with a box in its middle, moved and cut to lie inside the picture."""
    height, width = (min(length, full) for length, full in zip(wanted, shape, strict=True))
    row = min(max(box.row + box.height // 2 - height // 2, 0), shape[0] - height)
    col = min(max(box.col + box.width // 2 - width // 2, 0), shape[1] - width)
    return check_window(Tile(row, col, height, width), of=of)


def check_window(window: Tile, *, of: str) -> Tile:
    """Return the window; one of more than `MAX_WINDOW` pixels is a ``PictureError`` that says what it is ``of``."""
    height, width = window.shape
    if height * width > MAX_WINDOW:
        raise PictureError(
            f"{of} {width} x {height} pixels with what surrounds them, wanted at most {MAX_WINDOW:,} pixels: shrink "
            "the picture, or fill it part by part with smaller masks"
        )
    return window


def _groups(missing: BoolArray, cell: int) -> Iterator[tuple[BoolArray, Tile]]:
    """Missing pixels that are connected on a grid of cells, each as (its pixels, their bounding box)."""
    padded = np.pad(missing, [(0, -length % cell) for length in missing.shape])
    cells = padded.reshape(padded.shape[0] // cell, cell, padded.shape[1] // cell, cell).any(axis=(1, 3))
    labels, _ = ndimage.label(cells, structure=_EIGHT)
    for number, found in enumerate(ndimage.find_objects(labels), start=1):
        rows, cols = (slice(part.start * cell, part.stop * cell) for part in found)
        own = padded[rows, cols] & np.kron(labels[found] == number, np.ones((cell, cell), dtype=bool))
        box = bounding_box(own)
        yield own[box.slices], Tile(rows.start + box.row, cols.start + box.col, *box.shape)
