"""What the stored values of an image mean: a factor and an addend to reflectance, known or asked for, never guessed.

A network that sees every image divided by one number does not mind a factor, so that reflectance of 0 to 1, times
10,000 and pictures serve alike. An addend it does mind: raw digital numbers of Landsat begin at 5,000 or 7,273, those
of Sentinel-2 since 2022 at 1,000, and zero must be no light. Numpy only.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import RasterError

HIGH_PERCENTILE, DARK_PERCENTILE = 98.0, 2.0  # of all values; of each channel
# Thick cloud, snow and sun glint reach 1.5 at the top of the atmosphere; a 98th percentile hardly does.
HIGHEST_REFLECTANCE = 1.6
DIMMEST_REFLECTANCE = 0.01  # of a 98th percentile: below it, whole numbers are classes rather than reflectance x 10,000
# In some channel something is darker than this (water, shadow, or woods in the red), unless all is snow or desert. The
# smallest addend in use, of Sentinel-2, is 0.1; water may fall a little below it.
DARK_REFLECTANCE = 0.08
TEN_THOUSAND = 10_000.0

_ASK = (
    "say what they are with --scale and --offset (reflectance = value x scale + offset): 1 and 0 for reflectance of "
    "0 to 1, 0.0001 and 0 for reflectance x 10,000, 0.0001 and -0.1 for Sentinel-2 since 2022, 0.0000275 and -0.2 for "
    "Landsat Level 2; a Landsat Level-1 product is read as its folder"
)


@dataclass(frozen=True)
class Encoding:
    """How stored values become reflectance: value x scale + offset.

    Parameters
    ----------
    scale, offset
        Factor and addend.
    meaning
        How they are known, for the record.

    Raises
    ------
    RasterError
        A scale that is not above 0, or a number that is not finite.
    """

    scale: float
    offset: float
    meaning: str

    def __post_init__(self) -> None:
        """Refuse what turns an image upside down."""
        if not (np.isfinite(self.scale) and np.isfinite(self.offset) and self.scale > 0):
            raise RasterError(f"scale {self.scale} and offset {self.offset}: wanted a scale above 0 and finite numbers")


def recognise(values: NDArray[np.floating[Any]], *, dtype: str, picture: bool, name: str) -> Encoding:
    """Tell what undeclared values are, from their type and a sample of them; refuse where that does not tell.

    Parameters
    ----------
    values
        (C, N), valid values of each channel as they are stored.
    dtype
        Type of the file, such as ``"uint16"``.
    picture
        Whether the file is a picture: one or three channels of 8 or 16 bits without a position on earth.
    name
        What the file is called in an error.

    Raises
    ------
    RasterError
        Values that are neither a picture nor plausible reflectance of 0 to 1 or times 10,000.

    Examples
    --------
    >>> recognise(np.array([[300.0, 2500.0]]), dtype="uint16", picture=False, name="a.tif").meaning
    'reflectance x 10,000, from the range of the values'
    """
    if dtype == "uint8":
        return Encoding(1 / 255, 0.0, "8-bit picture")
    if picture and dtype == "uint16":
        return Encoding(1 / 65535, 0.0, "16-bit picture")
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
