"""Measured pixels that look like missed cloud: colder than their surroundings and other dates say.

A pixel is compared with what lies around it, without its own neighbourhood: the median of a ring of cells, and the
median deviation from it, so that a few clouds in the ring do not matter. Where other dates are given, their expectation
of the pixel is taken off first (`lacunar.interpolate.archive_field.DateModel`): a lake that is cold on every date is no
suspect. A cloud is bright as well: where the brightness of the surface is known, less cold will do for a bright pixel.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.interpolate.archive_field import DateModel

CELL = 6  # pixels: side of the cells whose medians are compared
OUTER, INNER = 4, 1  # cells from a pixel's own to the ring's outer border, and to the part that is left out
LEAST_CELLS = 0.25  # share of the ring that has to be measured
LEAST_SCATTER = 0.3  # K: no surface is smoother
LEAST_DROP = 1.0  # K below the surroundings
COLD = 4.0  # z from which a pixel is a seed; half of it is enough beside one
COLD_IF_BRIGHT, BRIGHT = 2.0, 2.5  # z of both from which a bright pixel is one
NEAR = 25  # pixels from a cloud that is known, in which a seed lies; a bright one anywhere
LEAST_PIXELS = 4  # of a suspect blob

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


def suspect_pixels(
    values: NDArray[np.floating],
    known: BoolArray,
    missing: BoolArray,
    *,
    others: NDArray[np.floating] | None = None,
    brightness: NDArray[np.floating] | None = None,
    stays: BoolArray | None = None,
    cold: float = COLD,
) -> BoolArray:
    """Suspect pixels (H, W) among the ``known`` ones of ``values`` in kelvin; ``missing`` are the known clouds.

    ``others`` (K, H, W) are other dates, NaN where unknown. ``brightness`` (H, W) is a reflectance; what ``stays`` is
    cold by nature, such as snow and water. ``cold`` is the z of a seed.
    """
    drop, z = against_surroundings(values, known, others)
    bright = np.zeros(known.shape)
    if brightness is not None:
        bright = np.nan_to_num(_scores(brightness, known, least=0.01)[1])
    seeds = (z < -cold) & (ndimage.distance_transform_edt(~missing) < NEAR if missing.any() else False)
    low = (z < -cold / 2) | ((z < -COLD_IF_BRIGHT / 2) & (bright > BRIGHT / 2))
    seeds = (seeds | ((z < -COLD_IF_BRIGHT) & (bright > BRIGHT))) & (drop < -LEAST_DROP)
    allowed = known if stays is None else known & ~stays
    blobs, count = ndimage.label(low & (drop < -LEAST_DROP / 2) & allowed, structure=np.ones((3, 3)))
    chosen = np.bincount(blobs[seeds & allowed], minlength=count + 1) > 0
    chosen &= np.bincount(blobs.ravel(), minlength=count + 1) >= LEAST_PIXELS
    chosen[0] = False
    return np.asarray(chosen[blobs])


def against_surroundings(
    values: NDArray[np.floating], known: BoolArray, others: NDArray[np.floating] | None = None
) -> tuple[FloatArray, FloatArray]:
    """How far known pixels lie above their surroundings, in kelvin and in their scatter; NaN where nothing tells."""
    field = np.where(known, values, np.nan).astype(np.float64)
    if others is not None and len(others):
        dates = np.concatenate([field[None], others]).astype(np.float64)
        flat = dates[[0, *(1 + np.flatnonzero(np.isfinite(others).any(axis=(1, 2))))]].reshape(-1, known.size)
        field -= DateModel.estimated(flat).expectation(flat, 0).reshape(known.shape)
    return _scores(field, known, least=LEAST_SCATTER)


def _scores(field: NDArray[np.floating], known: BoolArray, *, least: float) -> tuple[FloatArray, FloatArray]:
    """Deviation of a field from the median of its surroundings, and the same in robust standard deviations."""
    shown = np.where(known, field, np.nan)
    off = shown - _around(_cell_medians(shown), known.shape)
    scatter = 1.4826 * _around(_cell_medians(np.abs(off)), known.shape)  # of a normal distribution, its sigma
    return off, off / np.maximum(scatter, least)


def _cell_medians(field: FloatArray) -> FloatArray:
    padded = np.pad(field, [(0, -length % CELL) for length in field.shape], constant_values=np.nan)
    rows, cols = padded.shape[0] // CELL, padded.shape[1] // CELL
    cells = padded.reshape(rows, CELL, cols, CELL).transpose(1, 3, 0, 2).reshape(CELL**2, rows, cols)
    return _median(cells, least=1)


def _around(cells: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Median of the ring of cells around each, on pixels; NaN where too little of it is known."""
    padded = np.pad(cells, OUTER, constant_values=np.nan)
    steps = range(-OUTER, OUTER + 1)
    ring = [(row, col) for row in steps for col in steps if max(abs(row), abs(col)) > INNER]
    height, width = cells.shape
    stack = [padded[OUTER + row : OUTER + row + height, OUTER + col : OUTER + col + width] for row, col in ring]
    median = _median(np.stack(stack), least=int(LEAST_CELLS * len(ring)))
    known = np.isfinite(median)
    value, weight = (
        ndimage.zoom(plane, CELL, order=1, grid_mode=True, mode="nearest")[: shape[0], : shape[1]]
        for plane in (np.where(known, median, 0.0), known.astype(np.float64))
    )
    return np.asarray(np.divide(value, weight, out=np.full(shape, np.nan), where=weight > 0.5))


def _median(stack: FloatArray, *, least: int) -> FloatArray:
    """Lower median along the first axis of what is not NaN; NaN where fewer than ``least`` are."""
    count = np.isfinite(stack).sum(axis=0)
    ordered = np.sort(stack, axis=0)  # NaN last
    middle = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None] // 2, axis=0)[0]
    return np.asarray(np.where(count >= max(least, 1), middle, np.nan))
