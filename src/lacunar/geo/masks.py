"""Masks of pictures: which pixels are to be filled, judged before it is believed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lacunar.errors import PictureError
from lacunar.geo.picture import BoolArray, Picture, read_picture

ALPHA = Path("alpha")  # in place of a file: the transparent part of the picture
COLOUR = 0.1  # of white: how far the channels of a pixel are apart that has a colour
COLOURED_SHARE = 0.01  # of the pixels: more with a colour is no mask
GREY, GREY_SHARE = (0.1, 0.9), 0.5  # of white; of the pixels: more between the two is a picture rather than a mask
MOST = 0.5  # of the picture: who fills more is asked whether that is meant


@dataclass(frozen=True, eq=False)
class PictureMask:
    """Where a picture is to be filled (H, W), and what a user should know about how that was told."""

    missing: BoolArray
    notes: tuple[str, ...] = ()


def read_mask(path: Path, picture: Picture, *, of: Path, invert: bool = False) -> PictureMask:
    """Read the mask of a picture, or take its transparent part where the path is ``alpha`` and no file.

    White is to be filled (black with ``invert``): grey from half upwards, and of two values the brighter one. Of a mask
    that is white everywhere the transparent part is. A `PictureError`: another size than that of the picture ``of``;
    colours or greys of a picture; a transparency that contradicts; nothing or everything to be filled.
    """
    if path == ALPHA and not path.is_file():
        found = _transparent(picture, of)
    else:
        found = _told(path, picture, of)
    missing = ~found.missing if invert else found.missing
    if missing.all():
        got, wanted = f"mask {path} is white everywhere", "wanted white only where to fill"
        raise PictureError(f"{got}: all would be filled from nothing; {wanted}: is it inverted? See --invert")
    if not missing.any():
        got, wanted = f"mask {path} is black everywhere", "wanted white where to fill"
        raise PictureError(f"{got}: nothing would be filled; {wanted}: paint the place white")
    notes = found.notes
    if (share := float(missing.mean())) > MOST:
        notes += (f"the mask names {share:.0%} of the picture: if that is what to keep, give --invert",)
    return PictureMask(missing, notes)


def _transparent(picture: Picture, of: Path) -> PictureMask:
    if picture.alpha is None or picture.alpha.min() == picture.white:
        raise PictureError(f"{of} has no transparent part for --mask alpha: wanted one, or a mask as a file")
    return PictureMask(picture.alpha < (picture.white + 1) / 2)


def _told(path: Path, picture: Picture, of: Path) -> PictureMask:
    """What a file says."""
    mask = read_picture(path)
    if mask.shape != picture.shape:
        got = f"mask {path} has {_size(mask.shape)} pixels, {of} has {_size(picture.shape)}"
        raise PictureError(f"{got}: wanted one size (width x height), upright: draw the mask on the picture itself")
    grey = mask.colours.mean(axis=2)
    white, notes = _white(path, mask, grey)
    if mask.alpha is None or mask.alpha.min() == mask.alpha.max():
        return PictureMask(white, notes)
    transparent: BoolArray = mask.alpha < (mask.white + 1) / 2
    if white.all():
        return PictureMask(transparent, ("the mask is white everywhere: its transparent part is filled",))
    if (hidden := white[transparent]).any() and not hidden.all():
        raise PictureError(
            f"mask {path} is white in a part of what is transparent: wanted one of the two to say where to fill; save "
            "it without transparency"
        )
    return PictureMask(white, notes)


def _white(path: Path, mask: Picture, grey: np.ndarray) -> tuple[BoolArray, tuple[str, ...]]:
    """Where a mask is white, the brighter of two values; other colours and greys are refused."""
    white: BoolArray = grey >= (mask.white + 1) / 2
    first = (mask.colours == mask.colours[0, 0]).all(axis=2)
    coloured = np.ptp(mask.colours, axis=2) > COLOUR * mask.white
    if not first.all():
        other = mask.colours[~first][0]
        if (mask.colours[~first] == other).all():  # two values
            brighter = first if grey[0, 0] > other.mean() else ~first
            if np.array_equal(brighter, white) and not coloured.any():
                return white, ()
            values = " and ".join("/".join(map(str, value)) for value in (mask.colours[0, 0], other))
            return brighter, (f"the mask holds two values alone, {values}: the brighter one is taken as white",)
    between = (grey > GREY[0] * mask.white) & (grey < GREY[1] * mask.white)
    if coloured.mean() > COLOURED_SHARE or between.mean() > GREY_SHARE:
        what = "colours" if coloured.mean() > COLOURED_SHARE else "greys of a picture"
        raise PictureError(
            f"mask {path} has {what}: wanted white where to fill, black elsewhere; for the transparent part of the "
            "picture give --mask alpha"
        )
    return white, ()


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"
