"""Spectral bands of an image of water: their names, their order, and the one number that an image is divided by.

A network for water sees six planes in one order, whatever the file holds; a plane that the file lacks is NaN. The whole
image is divided by one number, so that zero stays zero, ratios between bands stay, and reflectance of 0 to 1 or
times 10,000 look the same. Numpy only.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError

BandName = Literal["blue", "green", "red", "nir", "swir1", "swir2"]
DroppedName = Literal["coastal", "other"]
ChannelName = BandName | DroppedName

BANDS: tuple[BandName, ...] = get_args(BandName)  # the order of planes, by wavelength
DROPPED: tuple[DroppedName, ...] = get_args(DroppedName)  # channels that a file may hold and no network sees
RGB: tuple[BandName, ...] = ("red", "green", "blue")  # the channels of a picture

SCALE_PERCENTILE = 98.0  # of all valid values of all bands: bright land and thin cloud, below snow and thick cloud

FloatArray = NDArray[np.floating[Any]]


def parse_bands(text: str) -> tuple[ChannelName, ...]:
    """Names of a file's channels in their order, by comma.

    Parameters
    ----------
    text
        For example ``"nir,red,green"``; from `BANDS`, besides ``coastal`` and ``other`` for channels to leave out.

    Returns
    -------
    tuple of str
        One name per channel.

    Raises
    ------
    LacunarError
        An unknown name, a band named twice, or no band that a network sees.

    Examples
    --------
    >>> parse_bands("nir, red, green")
    ('nir', 'red', 'green')
    """
    names = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    check_channels(names)
    return names  # type: ignore[return-value]  # just checked


def check_channels(names: Sequence[str]) -> None:
    """Refuse names that do not exist, bands named twice, and channels none of which a network sees.

    Raises
    ------
    LacunarError
        Any of these.
    """
    known = (*DROPPED, *BANDS)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise LacunarError(f"unknown band {unknown[0]!r}: wanted the file's channels in order, from {', '.join(known)}")
    twice = [name for name in names if name != "other" and names.count(name) > 1]
    if twice:
        raise LacunarError(f"band {twice[0]!r} is named twice in {','.join(names)}: wanted every band once")
    if not any(name in BANDS for name in names):
        got = ",".join(names) or "none"
        raise LacunarError(f"bands {got}: wanted at least one of {', '.join(BANDS)}")


def present_bands(names: Sequence[str]) -> tuple[BandName, ...]:
    """The bands among a file's channels, in the order of `BANDS`.

    Examples
    --------
    >>> present_bands(("coastal", "nir", "red", "green"))
    ('green', 'red', 'nir')
    """
    return tuple(band for band in BANDS if band in names)


def place_bands(channels: FloatArray, names: Sequence[str]) -> NDArray[np.float32]:
    """Put the channels of a file into the order of `BANDS`.

    Parameters
    ----------
    channels
        (C, H, W), in the file's order.
    names
        What each channel is, C of them; ``coastal`` and ``other`` are left out.

    Returns
    -------
    numpy.ndarray
        (6, H, W), float32; NaN planes where the file has no such band.

    Raises
    ------
    LacunarError
        Another number of names than channels, or names that do not serve.

    Examples
    --------
    >>> place_bands(np.array([[[4.0]], [[3.0]], [[2.0]]]), ("nir", "red", "green"))[:, 0, 0]
    array([nan,  2.,  3.,  4., nan, nan], dtype=float32)
    """
    check_channels(names)
    if channels.ndim != 3 or len(channels) != len(names):
        raise LacunarError(
            f"got channels of shape {channels.shape} and {len(names)} names: wanted (channels, height, width) and one "
            "name for each channel"
        )
    planes = np.full((len(BANDS), *channels.shape[1:]), np.nan, dtype=np.float32)
    for channel, name in zip(channels, names, strict=True):
        if name in BANDS:
            planes[BANDS.index(name)] = channel
    return planes


def common_scale(bands: FloatArray, valid: NDArray[np.bool_]) -> float:
    """The one number by which a whole image is divided: the 98th percentile of all bands together.

    One number for all bands keeps every ratio between them, and so every spectral index; it takes out the unit
    (reflectance of 0 to 1, times 10,000, or 8 bits) and the brightness of the day.

    Parameters
    ----------
    bands
        (C, H, W), any unit whose zero is no light; NaN planes are bands that the image lacks.
    valid
        (H, W), True = measured.

    Returns
    -------
    float
        Above 0.

    Raises
    ------
    LacunarError
        Shapes that do not fit, no valid pixel, or an image without light.

    Examples
    --------
    >>> common_scale(np.full((3, 2, 2), 0.25), np.ones((2, 2), bool))
    0.25
    """
    if bands.ndim != 3 or valid.shape != bands.shape[1:] or valid.dtype != np.bool_:
        raise LacunarError(
            f"got bands {bands.shape} and valid {valid.dtype} {valid.shape}: wanted (C, H, W) and bool (H, W)"
        )
    values = bands[:, valid]
    values = values[np.isfinite(values)]
    if values.size == 0:
        raise LacunarError("no valid pixel in any band: wanted an image that is not all nodata; check it and its mask")
    scale = float(np.percentile(values, SCALE_PERCENTILE))
    if scale <= 0:
        raise LacunarError(
            f"the image is dark: {SCALE_PERCENTILE:g} % of its values are {scale:g} or less; wanted reflectance or a "
            "picture; check the scale and offset"
        )
    return scale
