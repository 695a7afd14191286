"""Places that look like cloud which the mask does not name, numbered, to be accepted or refused one by one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.errors import LacunarError
from lacunar.geo.raster import RasterWriter
from lacunar.geo.windows import Tile
from lacunar.limits import MASK_PIXELS, check_limit
from lacunar.sensors.scene import LstOptions, Measured, open_scene
from lacunar.web.masks import PLACES, SUSPECTS, Edits, Mask
from lacunar.web.views import read_window

RING = 10  # pixels around a place, whose median tells how much colder it is


def search(there: Path, info: dict[str, Any], edits: Edits, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Look for them beside what ``edits`` name; writes their numbers as a raster, and gives the ``places``.

    The largest is number 1. Only values in kelvin tell of cloud: another unit is a `LacunarError`.
    """
    from lacunar.fill.blocks import blocks_of
    from lacunar.fill.suspects import find_suspects

    mask = Mask(there, info)
    check_limit(mask.shape[0] * mask.shape[1], MASK_PIXELS, "pixels to look for cloud in", "cut out a part")
    how = LstOptions(gap_classes=())
    with open_scene(Path(info["source"]), lst_options=how, band=info.get("band")) as scene:
        scene.check_lst(needs_qa=False)
        if not scene.in_kelvin:
            raise LacunarError(f"{scene.name} is in {scene.units or 'no unit'}: wanted kelvin, in which cloud is cold")
        blocks, done = blocks_of(scene.shape), iter(range(1, 10**9))

        def read(window: Tile) -> Measured:
            part, gap = scene.measured(window), mask.window(edits, window)
            progress(min(next(done), len(blocks)), len(blocks))
            return replace(part, known=part.known & ~gap, missing=part.missing | (gap & part.known))

        bands = scene.reflectance if scene.kind == "product" else None
        suspect = find_suspects(read, blocks, bands=bands)
    numbers = _numbered(suspect)
    with RasterWriter(
        there / SUSPECTS,
        shape=mask.shape,
        transform=mask.grid.transform,
        crs=mask.grid.crs,
        band_names=("suspect",),
        overwrite=True,
    ) as writer:
        writer.write(numbers[None].astype(np.float32))
    return {"places": [_told(there, info, numbers, *found) for found in enumerate(ndimage.find_objects(numbers), 1)]}


def _numbered(suspect: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Connected places, the largest number 1; at most `PLACES`."""
    found, count = ndimage.label(suspect, structure=np.ones((3, 3)))
    sizes = np.bincount(found.ravel(), minlength=count + 1)[1:]
    numbers = np.zeros(count + 1, dtype=np.int32)
    numbers[1 + np.argsort(-sizes, kind="stable")] = np.arange(1, count + 1)
    numbers[numbers > PLACES] = 0
    ordered: NDArray[np.int32] = numbers[found]
    return ordered


def _told(
    there: Path, info: dict[str, Any], numbers: NDArray[np.int32], number: int, box: tuple[slice, slice]
) -> dict[str, Any]:
    """Size and box of a place, and how many kelvin it lies below the median around it."""
    top, left = (max(0, side.start - RING) for side in box)
    bottom, right = (min(side.stop + RING, most) for side, most in zip(box, numbers.shape, strict=True))
    window = Tile(top, left, bottom - top, right - left)
    value = read_window(there / info["file"], [info["bands"].index("value") + 1], window)[0]
    inside, around = numbers[window.slices] == number, numbers[window.slices] == 0
    colder = None
    if np.isfinite(value[around]).any():
        colder = float(np.nanmedian(value[around]) - np.nanmean(value[inside]))
    edges = [int(edge) for edge in (box[0].start, box[1].start, box[0].stop, box[1].stop)]
    return {"number": number, "pixels": int(inside.sum()), "colder": colder, "box": edges}
