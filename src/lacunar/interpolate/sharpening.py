"""A coarse field on a finer grid: its block means exactly, and detail that guides of the finer grid let expect.

The detail of a field is what a smooth interpolation of its block means leaves. One scale coarser it is known: there it
is regressed on the guides' own detail, by ridge, and the coefficients are carried to the finer scale. Where guides say
nothing of the field, the coefficients vanish and the smooth interpolation remains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.errors import LacunarError

RIDGE = 0.3  # of the guides' variance; chosen on one Landsat scene degraded by 2 to 4
CORRECTIONS = 10  # smooth ones of the block means, before the last, which is exact
ONE_SIGMA = 0.6827  # share of errors within one standard deviation
LOCAL = 3.0  # coarse pixels: over how many the size of errors is averaged
LEAST_CELLS = 16  # cells one scale coarser, from which the coefficients are told

FloatArray = NDArray[np.floating]
AnyValue = TypeVar("AnyValue", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Sharpened:
    """A field (H, W) on the fine grid and its standard deviation, NaN where a coarse pixel is unknown."""

    value: FloatArray
    sigma: FloatArray
    coefficients: tuple[float, ...]  # change of the field with each guide


def sharpened(coarse: FloatArray, guides: Sequence[FloatArray], factor: int) -> Sharpened:
    """Sharpen a field (h, w), NaN where unknown, by guides (h * factor, w * factor), NaN where unknown.

    Block means of the result are the given field, wherever that is known; a block of which a guide is unknown in part
    is interpolated alone. ``sigma`` is the local size of the regression's errors one scale coarser, scaled so that
    68 % of them lie within it. Agam et al. 2007, "A vegetation index based technique for spatial sharpening of thermal
    imagery"; Tobler 1979, "Smooth pycnophylactic interpolation for geographical regions".

    Raises `LacunarError`: guides of another shape, a factor below 2, or too little that is known.
    """
    height, width = coarse.shape[0] * factor, coarse.shape[1] * factor
    if factor < 2 or any(guide.shape != (height, width) for guide in guides):
        raise LacunarError(
            f"got a field of {coarse.shape} and guides of {[guide.shape for guide in guides]} at a factor of {factor}; "
            f"wanted guides of {(height, width)} and a factor from 2"
        )
    known = np.isfinite(coarse)
    if not known.any():
        raise LacunarError("no pixel of the coarse field is known: wanted some to sharpen")
    field = nearest_known(coarse)
    upper = _cropped(field, factor)
    there = block_mean(_cropped(known, factor).astype(float), factor) == 1
    if there.sum() < LEAST_CELLS:
        raise LacunarError(
            f"got {int(there.sum())} whole cells of {factor} x {factor} coarse pixels, wanted {LEAST_CELLS} or more: "
            "give a larger scene or a smaller factor"
        )
    seen = spread(there, factor)
    detail = _detail(upper, factor)
    columns, fine = [], []
    for guide in guides:
        filled = nearest_known(guide)
        columns.append(_detail(_cropped(block_mean(filled, factor), factor), factor))
        fine.append(_detail(filled, factor))
    stacked = np.stack([column[seen] for column in columns], axis=1) if columns else np.zeros((int(seen.sum()), 0))
    scale = np.maximum(stacked.std(axis=0), np.finfo(np.float32).tiny)
    design = stacked / scale
    normal = design.T @ design + RIDGE * len(design) * np.eye(design.shape[1])
    coefficients = np.linalg.solve(normal, design.T @ detail[seen]) / scale
    value = interpolated(field, factor)
    for coefficient, own in zip(coefficients, fine, strict=True):
        value = value + coefficient * own
    left = detail - sum((c * column for c, column in zip(coefficients, columns, strict=True)), np.zeros_like(detail))
    sigma = _local_sigma(left, seen, coarse.shape, factor)
    outside = ~spread(known, factor)
    return Sharpened(
        np.where(outside, np.nan, value), np.where(outside, np.nan, sigma), tuple(map(float, coefficients))
    )


def interpolated(coarse: FloatArray, factor: int) -> FloatArray:
    """A cubic interpolation (H, W) of block means (h, w) that keeps them exactly."""
    options = {"mode": "nearest", "grid_mode": True}
    fine = ndimage.zoom(coarse, factor, order=3, **options)
    for _ in range(CORRECTIONS):
        fine = fine + ndimage.zoom(coarse - block_mean(fine, factor), factor, order=1, **options)
    return np.asarray(fine + spread(coarse - block_mean(fine, factor), factor))


def block_mean(fine: FloatArray, factor: int) -> FloatArray:
    """Means (h, w) of blocks of ``factor`` x ``factor`` pixels; what is left over at the end is not used."""
    whole = _cropped(fine, factor)
    rows, cols = (length // factor for length in whole.shape)
    return np.asarray(whole.reshape(rows, factor, cols, factor).mean(axis=(1, 3)))


def spread(coarse: NDArray[AnyValue], factor: int) -> NDArray[AnyValue]:
    """Each pixel over its block."""
    return coarse.repeat(factor, axis=0).repeat(factor, axis=1)


def nearest_known(field: FloatArray) -> FloatArray:
    """The field, with the nearest known value where it is NaN; all 0 where nothing is known."""
    unknown = ~np.isfinite(field)
    if unknown.all():
        return np.zeros_like(field)
    if not unknown.any():
        return field
    places = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
    return np.asarray(field[tuple(places)])


def _detail(field: FloatArray, factor: int) -> FloatArray:
    """What the smooth interpolation of its block means leaves of a field."""
    whole = _cropped(field, factor)
    return np.asarray(whole - interpolated(block_mean(whole, factor), factor))


def _cropped(field: NDArray[AnyValue], factor: int) -> NDArray[AnyValue]:
    rows, cols = (length // factor * factor for length in field.shape)
    return field[:rows, :cols]


def _local_sigma(left: FloatArray, seen: NDArray[np.bool_], shape: tuple[int, ...], factor: int) -> FloatArray:
    """Standard deviation on the fine grid: local mean of absolute errors, scaled to hold its share of them."""
    weight = ndimage.gaussian_filter(seen.astype(float), LOCAL)
    total = ndimage.gaussian_filter(np.where(seen, np.abs(left), 0.0), LOCAL)
    overall = np.abs(left[seen]).mean()
    local = (total + 0.1 * overall) / (weight + 0.1)  # the mean of all where little is known
    local = local * np.quantile(np.abs(left[seen]) / np.maximum(local[seen], np.finfo(np.float32).tiny), ONE_SIGMA)
    pads = [(0, wanted - got) for wanted, got in zip(shape, local.shape, strict=True)]
    whole = np.pad(local, pads, mode="edge")
    return np.asarray(ndimage.zoom(whole, factor, order=1, mode="nearest", grid_mode=True))
