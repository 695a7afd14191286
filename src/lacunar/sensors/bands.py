"""What the bands of an image are called, in which order, and what their values mean.

A network for water sees six planes in the order of `BANDS`, whatever the file holds; a plane that the file lacks is
NaN. The whole image is divided by one number, so that zero stays zero and ratios between bands stay: reflectance of
0 to 1 or times 10,000 look the same. An unknown factor therefore does no harm. An unknown offset does: raw digital
numbers of Landsat start at 5,000 or 7,273, those of Sentinel-2 since 2022 at 1,000, and zero must mean no light. So
the offset is declared by the file or asked for, never guessed. Numpy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError, RasterError
from lacunar.sensors.dialects import LAYOUTS, are_no_names, translated

if TYPE_CHECKING:
    from lacunar.geo.raster import RasterSource

BandName = Literal["blue", "green", "red", "nir", "swir1", "swir2"]
DroppedName = Literal["coastal", "other"]
ChannelName = BandName | DroppedName

BANDS: tuple[BandName, ...] = get_args(BandName)  # the order of planes, by wavelength
DROPPED: tuple[DroppedName, ...] = get_args(DroppedName)  # channels that a file may hold and no network sees
RGB: tuple[BandName, ...] = ("red", "green", "blue")  # the channels of a picture

SCALE_PERCENTILE = 98.0  # of all valid values of all bands: bright land and thin cloud, below snow and thick cloud
HIGH_PERCENTILE, DARK_PERCENTILE = 98.0, 2.0  # of all values; of each channel
# Thick cloud, snow and sun glint reach 1.5 at the top of the atmosphere; a 98th percentile hardly does.
HIGHEST_REFLECTANCE = 1.6
DIMMEST_REFLECTANCE = 0.01  # of a 98th percentile: below it, whole numbers are classes rather than reflectance x 10,000
# In some channel something is darker than this (water, shadow, or woods in the red), unless all is snow or desert. The
# smallest offset in use, of Sentinel-2, is 0.1; water may fall a little below it.
DARK_REFLECTANCE = 0.08
TEN_THOUSAND = 10_000.0
PICTURE = "picture"  # how the meaning of a picture's values ends

_ASK = (
    "say what they are with --scale and --offset (reflectance = value x scale + offset): 1 and 0 for reflectance of "
    "0 to 1, 0.0001 and 0 for reflectance x 10,000, 0.0001 and -0.1 for Sentinel-2 since 2022, 0.0000275 and -0.2 for "
    "Landsat Level 2; a Landsat Level-1 product is read as its folder"
)

FloatArray = NDArray[np.floating[Any]]


# --- names and order ---


def parse_bands(text: str) -> tuple[str, ...]:
    """Names of a file's channels in their order, separated by commas, or one of `lacunar.sensors.dialects.LAYOUTS`.

    >>> parse_bands("nir, red, green"), parse_bands("nir08, red, green"), parse_bands("naip")
    (('nir', 'red', 'green'), ('nir', 'red', 'green'), ('naip',))
    """
    names = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if len(names) == 1 and names[0] in LAYOUTS:
        return names
    names = translated(names) or names
    check_channels(names)
    return names


def check_channels(names: Sequence[str]) -> None:
    """Refuse channels other than `BANDS` and `DROPPED`, bands named twice, and files without any of `BANDS`."""
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


def place_bands(channels: FloatArray, names: Sequence[str]) -> NDArray[np.float32]:
    """Put channels (C, H, W), one name for each, into the order of `BANDS`: (6, H, W), float32; NaN where lacking.

    Another number of names, or names that `check_channels` refuses, are a `LacunarError`.

    >>> place_bands(np.array([[[4.0]], [[3.0]], [[2.0]]]), ("nir", "red", "green"))[:, 0, 0]
    array([nan,  2.,  3.,  4., nan, nan], dtype=float32)
    """
    check_channels(names)
    if channels.ndim != 3 or len(channels) != len(names):
        got = f"got channels of shape {channels.shape} and {len(names)} names"
        raise LacunarError(f"{got}: wanted (channels, height, width) and one name for each channel")
    planes = np.full((len(BANDS), *channels.shape[1:]), np.nan, dtype=np.float32)
    for channel, name in zip(channels, names, strict=True):
        if name in BANDS:
            planes[BANDS.index(name)] = channel
    return planes


def common_scale(bands: FloatArray, valid: NDArray[np.bool_]) -> float:
    """The one number by which a whole image is divided: the 98th percentile of all bands together, above 0.

    One number for all bands keeps every ratio between them, and so every spectral index. It removes the unit
    (reflectance of 0 to 1, times 10,000, or 8 bits) and the brightness of the day. Bands are (C, H, W), in any unit
    whose zero is no light, NaN where lacking; ``valid`` is (H, W), True = measured. An image without a valid pixel or
    without light is a `LacunarError`.

    >>> common_scale(np.full((3, 2, 2), 0.25), np.ones((2, 2), bool))
    0.25
    """
    if bands.ndim != 3 or valid.shape != bands.shape[1:] or valid.dtype != np.bool_:
        got = f"got bands {bands.shape} and valid {valid.dtype} {valid.shape}"
        raise LacunarError(f"{got}: wanted (C, H, W) and bool (H, W)")
    values = bands[:, valid]
    values = values[np.isfinite(values)]
    if values.size == 0:
        raise LacunarError("no valid pixel in any band: wanted an image that is not all nodata; check it and its mask")
    scale = float(np.percentile(values, SCALE_PERCENTILE))
    if scale <= 0:
        got = f"{SCALE_PERCENTILE:g} % of its values are {scale:g} or less"
        raise LacunarError(f"the image is dark: {got}; wanted reflectance or a picture; check the scale and offset")
    return scale


def channel_names(
    source: "RasterSource", chosen: Sequence[int], bands: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the chosen channels of a file are (counted from 1, without alpha), and notes about that.

    ``bands`` are the user's names. Without them the file's descriptions count, and three channels are red, green, blue.
    Channels that nothing names, another number of names, or names that `check_channels` refuses are a `LacunarError`.
    """
    name, count = source.path.name, len(chosen)
    described = tuple(source.band_names[index - 1].strip().lower() for index in chosen)
    choice = f"from {', '.join((*DROPPED, *BANDS))} ('other' is left out), or {', '.join(LAYOUTS)}"
    if bands:
        check_channels(bands)
        if len(bands) != count:
            raise RasterError(
                f"{name} has {count} channel{'' if count == 1 else 's'}, --bands names {len(bands)} "
                f"({','.join(bands)}): wanted one name for each channel in the file's order, {choice}; bands that the "
                "file lacks are not named"
            )
        differ = not are_no_names(described) and described != tuple(bands)
        return tuple(bands), (f"the file calls its channels {','.join(described)}",) if differ else ()
    if not are_no_names(described):
        if found := translated(described):
            check_channels(found)
            return found, ()
        raise RasterError(
            f"{name} calls its channels {', '.join(described)[:120]}, which are no bands of light: if they are, name "
            f"each in the file's order with --bands, {choice}"
        )
    if count == len(RGB):
        return RGB, () if set(source.colours) >= set(RGB) else ("three channels, taken as red, green, blue",)
    example = {1: "nir", 4: "blue,green,red,nir", 6: ",".join(BANDS)}.get(count, "coastal,blue,green,red,nir,...")
    what = "1 channel (grey)" if count == 1 else f"{count} channels"
    raise RasterError(
        f"{name} has {what} and nothing says which: name each in the file's order with --bands, such as {example}, "
        f"{choice}"
    )


# --- from stored values to reflectance ---


@dataclass(frozen=True)
class Encoding:
    """Reflectance = value x scale + offset."""

    scale: float  # above 0
    offset: float
    meaning: str  # how that is known, in words

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and np.isfinite(self.offset) and self.scale > 0):
            raise RasterError(f"scale {self.scale} and offset {self.offset}: wanted a scale above 0 and finite numbers")


def recognise(values: FloatArray, *, dtype: str, picture: bool, name: str) -> Encoding:
    """Tell what undeclared values are, from their type and a sample (C, N) of valid ones.

    A ``picture`` has one or three channels of 8 or 16 bits and no position on earth. Values of anything else must be
    plausible as reflectance of 0 to 1 or times 10,000, else a `RasterError`.

    >>> recognise(np.array([[300.0, 2500.0]]), dtype="uint16", picture=False, name="a.tif").meaning
    'reflectance x 10,000, from the range of the values'
    """
    if dtype == "uint8":
        return Encoding(1 / 255, 0.0, f"8-bit {PICTURE}")
    if picture and dtype == "uint16":
        return Encoding(1 / 65535, 0.0, f"16-bit {PICTURE}")
    high = float(np.percentile(values, HIGH_PERCENTILE))
    dark = float(np.percentile(values, DARK_PERCENTILE, axis=1).min())
    if np.issubdtype(np.dtype(dtype), np.floating) and high <= HIGHEST_REFLECTANCE and dark <= DARK_REFLECTANCE:
        return Encoding(1.0, 0.0, "reflectance of 0 to 1, from the range of the values")
    plausible = DIMMEST_REFLECTANCE <= high / TEN_THOUSAND <= HIGHEST_REFLECTANCE
    if plausible and dark / TEN_THOUSAND <= DARK_REFLECTANCE:
        return Encoding(1 / TEN_THOUSAND, 0.0, "reflectance x 10,000, from the range of the values")
    raise RasterError(
        f"{name}: {dtype} values, {HIGH_PERCENTILE:g} % of them up to {high:g}, the darkest channel from {dark:g}, may "
        f"be raw digital numbers: {_ASK}"
    )


def encoding_of(
    source: "RasterSource",
    chosen: Sequence[int],
    sample: FloatArray,
    scale: float | None,
    offset: float | None,
    *,
    picture: bool,
) -> Encoding:
    """How the values that `RasterSource.read` gives, declared scale and offset applied, become reflectance.

    ``scale`` and ``offset``, where given, replace what the file declares for the chosen channels, which must then be
    the same for all. Without either, `recognise` judges the sample (6, N) of valid pixels as read.
    """
    declared = {(source.scales[index - 1], source.offsets[index - 1]) for index in chosen}
    if scale is None and offset is None:
        if declared != {(1.0, 0.0)}:
            return Encoding(1.0, 0.0, "reflectance by the scale and offset that the file declares")
        values = sample[~np.isnan(sample).all(axis=1)]
        return recognise(values, dtype=source.dtypes[chosen[0] - 1], picture=picture, name=source.path.name)
    given = Encoding(1.0 if scale is None else scale, 0.0 if offset is None else offset, "")
    if len(declared) > 1:
        got = f"{source.path.name} declares different scales or offsets for its channels"
        raise RasterError(f"{got}: leave out --scale and --offset")
    factor, addend = declared.pop()
    meaning = f"value x {given.scale:g} + {given.offset:g}, as --scale and --offset say"
    return Encoding(given.scale / factor, given.offset - given.scale * addend / factor, meaning)
