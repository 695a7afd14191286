"""Water without a network: a spectral index, and one threshold for each image by Otsu's method, without clean-up.

An index takes the planes of `lacunar.sensors.bands.BANDS` (6, H, W), NaN where a band is absent or a pixel is unknown.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from lacunar.errors import LacunarError
from lacunar.sensors.bands import BANDS, BandName

IndexName = Literal["NDWI", "MNDWI", "darkness"]
INDEX_NAMES: tuple[IndexName, ...] = get_args(IndexName)

HISTOGRAM_BINS = 256  # of Otsu's histogram
LEAST_LIGHT = (
    0.02  # in units of the common scale: added to the sum of two bands, so that noise in the dark says nothing
)

Planes = NDArray[np.floating[Any]]
FloatArray = NDArray[np.float64]

_VISIBLE: tuple[BandName, ...] = ("blue", "green", "red")
_RATIOS: Mapping[str, tuple[BandName, BandName]] = {"NDWI": ("green", "nir"), "MNDWI": ("green", "swir1")}


@dataclass(frozen=True, eq=False)
class Thresholded:
    """Water by an index: mask (H, W), the index (H, W; NaN where it cannot be known; large = water), its threshold."""

    water: NDArray[np.bool_]
    index: FloatArray
    threshold: float  # NaN where the index is the same everywhere: nothing is water then


def index_names(bands: Planes) -> tuple[IndexName, ...]:
    """The indices that these planes allow: NDWI wants green and nir, MNDWI green and swir1, darkness a visible band."""
    present = _present(bands)
    return tuple(name for name in INDEX_NAMES if _serves(name, present))


def threshold_water(name: IndexName, bands: Planes) -> Thresholded:
    """Map water by an index and Otsu's threshold of this one image; unknown pixels are not water.

    - NDWI = (green - nir) / (green + nir), McFeeters (1996), Eq. 1: water is above the threshold.
    - MNDWI = (green - swir1) / (green + swir1), Xu (2006), Eq. 2: the same.
    - darkness = -(mean of the visible bands): all that a picture without infrared allows; water is the darker class.

    All bands are in one unit whose zero is no light; negative values count as 0. An unknown index, other planes than
    six, or bands that are absent, are a ``LacunarError``. McFeeters (1996), Int. J. Remote Sensing 17; Xu (2006), Int.
    J. Remote Sensing 27; Otsu (1979), IEEE Trans. SMC 9.
    """
    if name not in INDEX_NAMES:
        raise LacunarError(f"unknown index {name!r}: choose out of {', '.join(INDEX_NAMES)}")
    present = _present(bands)
    if not _serves(name, present):
        got = ", ".join(band for band in BANDS if band in present) or "none"
        wanted = " and ".join(_RATIOS[name]) if name in _RATIOS else "blue, green or red"
        raise LacunarError(f"{name} wants {wanted}; the image has {got}: choose another index")
    index = _index(name, np.maximum(bands, 0).astype(np.float64), present)
    known = index[np.isfinite(index)]
    if known.size == 0 or known.min() == known.max():
        return Thresholded(np.zeros(index.shape, dtype=np.bool_), index, float("nan"))
    otsu: Callable[..., float] = threshold_otsu
    half_a_bin = float(np.ptp(known)) / (2 * HISTOGRAM_BINS)
    threshold = float(otsu(known, nbins=HISTOGRAM_BINS)) + half_a_bin  # from the centre of land's last bin to its end
    return Thresholded(index > threshold, index, threshold)


def ndwi(bands: Planes) -> NDArray[np.floating[Any]]:
    """NDWI of six planes, 0 where there is no light; NaN without green or nir."""
    green, nir = (np.maximum(bands[BANDS.index(band)], 0) for band in _RATIOS["NDWI"])
    return np.asarray((green - nir) / (green + nir + LEAST_LIGHT))


def ndwi_evidence(bands: Planes, gain: float, centre: float, least: float, most: float) -> NDArray[np.float32]:
    """What NDWI adds to the logit of water: gain (NDWI - centre), between least and most; 0 without green or nir."""
    return np.asarray(np.nan_to_num(np.clip(gain * (ndwi(bands) - centre), least, most)), dtype=np.float32)


def _present(bands: Planes) -> set[str]:
    if bands.ndim != 3 or len(bands) != len(BANDS):
        raise LacunarError(f"got bands {bands.shape}; wanted ({len(BANDS)}, H, W) in the order {', '.join(BANDS)}")
    return {band for band, plane in zip(BANDS, bands, strict=True) if np.isfinite(plane).any()}


def _serves(name: IndexName, present: set[str]) -> bool:
    return set(_RATIOS[name]) <= present if name in _RATIOS else bool(present & set(_VISIBLE))


def _index(name: IndexName, bands: FloatArray, present: set[str]) -> FloatArray:
    """A normalised difference, 0 where both bands are; or the negative mean of the visible bands that there are."""
    if name not in _RATIOS:
        return np.asarray(-np.mean([bands[BANDS.index(band)] for band in _VISIBLE if band in present], axis=0))
    x, y = (bands[BANDS.index(band)] for band in _RATIOS[name])
    return np.asarray(np.divide(x - y, x + y, out=np.zeros(x.shape), where=x + y != 0))
