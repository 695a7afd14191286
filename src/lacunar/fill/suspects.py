"""Suspect pixels of a raster of any size, block by block."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lacunar.geo.windows import Block, Tile
from lacunar.interpolate.suspects import suspect_pixels
from lacunar.sensors.bands import BANDS
from lacunar.sensors.scene import Measured

SNOW = 0.4  # normalised difference of green and short-wave infrared, from which a surface is snow (Dozier 1989)

BandReader = Callable[[Tile], NDArray[np.float32]]  # reflectance (6, H, W) of a window in the order of `BANDS`


def find_suspects(
    read: Callable[[Tile], Measured],
    blocks: Sequence[Block],
    *,
    guides: Callable[[Tile], NDArray[np.float32]] | None = None,
    bands: BandReader | None = None,
) -> NDArray[np.bool_]:
    """Suspects (H, W) of a raster that ``blocks`` cover; parameters are those of `lacunar.fill.blocks.survey`."""
    last = blocks[-1].core
    suspect = np.zeros((last.row + last.height, last.col + last.width), dtype=np.bool_)
    for block in blocks:
        part = read(block.outer)
        if not part.known.any():
            continue
        brightness, stays = (None, None) if bands is None else told_by_bands(bands(block.outer))
        others = None if guides is None else guides(block.outer)
        found = suspect_pixels(part.values, part.known, part.missing, others=others, brightness=brightness, stays=stays)
        suspect[block.core.slices] = found[block.inner.slices]
    return suspect


def told_by_bands(planes: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Red reflectance, and where the six planes (6, H, W) show snow or water; NaN and False where bands are lacking."""
    green, red, nir, swir = (planes[BANDS.index(name)] for name in ("green", "red", "nir", "swir1"))
    with np.errstate(invalid="ignore", divide="ignore"):
        return red, ((green - swir) / (green + swir) > SNOW) | (nir < red)


def without(part: Measured, suspect: NDArray[np.bool_]) -> Measured:
    """A window (H, W) whose suspects are missing."""
    return replace(part, known=part.known & ~suspect, missing=part.missing | suspect)
