"""The background of a picture: a membrane over the missing pixels, in milliseconds.

The membrane is the harmonic function with the known pixels as its border. Cascadic multigrid finds it: means of the
known pixels on ever coarser grids, and back, each grid relaxed a few times.
"""

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError

# The diffusion's state is z = (picture - membrane) / RESIDUAL_SIGMA, and the network's condition holds this number
# in its sigma channel. It is about the standard deviation of aligned faces around the membrane (0.19 where little is
# missing, 0.46 where half is), so that z has about unit variance, as the noise schedule wants. Without any known pixel
# mean is 0 and sigma 1.
RESIDUAL_SIGMA = 0.3
RELAXATIONS = 6  # sweeps on each grid: on faces the RMSE is within 2 % of that of the exact membrane

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


def membrane_fill(picture: NDArray[np.floating], missing: BoolArray) -> FloatArray:
    """Fill the ``missing`` (H, W) of a picture (H, W, C) in [-1, 1] with a membrane over the known pixels; float32.

    Missing pixels are never read. Where nothing is known, all is 0. Raises `LacunarError`: shapes that do not fit.

    Bornemann & Deuflhard 1996, "The cascadic multigrid method for elliptic problems"; Gortler et al. 1996, "The
    Lumigraph", section 3.4.3 (averages down, values up).

    >>> ramp = np.linspace(-1, 1, 9)[None, :, None] * np.ones((9, 1, 3))
    >>> missing = np.zeros((9, 9), bool)
    >>> missing[3:6, 3:6] = True
    >>> bool(np.abs(membrane_fill(ramp, missing) - ramp).max() < 0.02)
    True
    """
    if picture.ndim != 3 or picture.shape[:2] != missing.shape or missing.dtype != np.bool_:
        raise LacunarError(
            f"picture has shape {picture.shape} and missing is {missing.dtype} of shape {missing.shape}; wanted "
            "(H, W, channels) and bool (H, W)"
        )
    known = ~missing
    values = np.where(known, np.moveaxis(picture, 2, 0), 0.0).astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(_filled(values, known), 0, 2))


def _filled(values: FloatArray, known: BoolArray) -> FloatArray:
    """The membrane of values (C, H, W), 0 where unknown; starts from the one on half the grid."""
    if known.all() or not known.any():
        return values
    height, width = known.shape
    coarse = enlarged(_filled(*halved(values, known)))[:, :height, :width]
    field = np.where(known, values, coarse)
    for _ in range(RELAXATIONS):
        field = np.where(known, values, _mean_of_neighbours(field))
    return field


def halved(values: FloatArray, known: BoolArray) -> tuple[FloatArray, BoolArray]:
    """Means (C, h, w) of the known pixels of each 2 x 2 cell of (C, H, W), and whether it has any."""
    pads = [(0, length % 2) for length in known.shape]
    values, shown = np.pad(values, [(0, 0), *pads]), np.pad(known, pads).astype(np.float32)
    total, count = (
        part[..., ::2, ::2] + part[..., 1::2, ::2] + part[..., ::2, 1::2] + part[..., 1::2, 1::2]
        for part in (values, shown)
    )
    return total / np.maximum(count, 1), count > 0


def enlarged(values: FloatArray) -> FloatArray:
    """(C, H, W) on twice the grid (C, 2 H, 2 W), linear between the centres of the cells."""
    for axis in (1, 2):
        padded = np.pad(values, [(int(axis == i),) * 2 for i in range(3)], mode="edge")
        before, here, after = (
            np.take(padded, np.arange(start, start + values.shape[axis]), axis=axis) for start in range(3)
        )
        pair = np.stack([0.75 * here + 0.25 * before, 0.75 * here + 0.25 * after], axis=axis + 1)
        shape = [2 * length if i == axis else length for i, length in enumerate(values.shape)]
        values = pair.reshape(shape).astype(np.float32)
    return values


def halved_pictures(pictures: FloatArray, missing: BoolArray) -> tuple[FloatArray, BoolArray]:
    """Pictures (K, H, W, C) and their missing pixels (H, W) on half the grid, by `halved`."""
    count, height, width, colours = pictures.shape
    flat = np.where(missing, 0.0, np.moveaxis(pictures, 3, 1)).astype(np.float32).reshape(-1, height, width)
    values, known = halved(flat, ~missing)
    return np.moveaxis(values.reshape(count, colours, *values.shape[1:]), 1, 3), ~known


def enlarged_pictures(pictures: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Pictures (K, h, w, C) on twice the grid, cut to a shape, by `enlarged`."""
    count, height, width, colours = pictures.shape
    values = enlarged(np.moveaxis(pictures, 3, 1).reshape(-1, height, width))[:, : shape[0], : shape[1]]
    return np.moveaxis(values.reshape(count, colours, *values.shape[1:]), 1, 3)


def _mean_of_neighbours(field: FloatArray) -> FloatArray:
    """Mean of the four neighbours of each pixel; the border is its own neighbour."""
    padded = np.pad(field, [(0, 0), (1, 1), (1, 1)], mode="edge")
    total = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return np.asarray(total * np.float32(0.25))
