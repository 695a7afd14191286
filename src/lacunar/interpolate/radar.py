"""Radar backscatter as a guide: in decibels, without most of its speckle.

Speckle is multiplicative, so in decibels it is additive with one variance everywhere (Oliver and Quegan 2004, chapter
4). A Gaussian of one pixel keeps edges, one of four is nearly free of speckle; a fit that gets both weighs them by what
each tells.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

WIDTHS = (1.0, 4.0)  # pixels: standard deviations of the Gaussians
REACH = 16  # pixels on every side that decide on a smoothed one: four standard deviations

FloatArray = NDArray[np.float64]


def in_decibels(backscatter: NDArray[np.floating], *, linear: bool) -> FloatArray:
    """Backscatter in decibels; of linear power what is not above 0 is NaN."""
    values = np.asarray(backscatter, dtype=np.float64)
    if not linear:
        return values
    return 10 * np.log10(values, out=np.full(values.shape, np.nan), where=values > 0)


def is_linear(some: NDArray[np.floating]) -> bool:
    """Whether measured values are linear power (none below 0), not decibels."""
    return bool(some.size) and float(some.min()) >= 0


def smoothed(decibels: NDArray[np.floating], width: float) -> FloatArray:
    """(H, W) Gaussian mean over the known pixels, in decibels; NaN where a pixel is NaN."""
    known = np.isfinite(decibels)
    total = ndimage.gaussian_filter(np.where(known, decibels, 0.0).astype(np.float64), width, mode="nearest")
    weight = ndimage.gaussian_filter(known.astype(np.float64), width, mode="nearest")
    return np.where(known, total / np.where(known, weight, 1.0), np.nan)
