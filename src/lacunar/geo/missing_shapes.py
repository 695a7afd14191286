"""Gap patterns at an exact missing rate; seeded; numpy and scipy only.

A gap is a boolean array, True = missing. Every pattern starts from a score for each pixel and takes the highest ones,
so the missing rate is exact to one pixel.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.errors import LacunarError

PatternName = Literal["cloud", "blobs", "box", "stripes", "half"]
PATTERN_NAMES: tuple[PatternName, ...] = get_args(PatternName)

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

_BLOB_SPECTRUM = (1.6, 3.0)  # range of the spectral slope; about 5/3 to 3 for cloud fields (Davis et al. 1996)
_STRIPE_PERIOD = (6, 24)  # pixels from one stripe to the next, as in Landsat-7 SLC-off scenes
_EDGE_JITTER = 1.5  # pixels: roughness given to the grown or shrunk border of a transplanted cloud


def gap_pattern(
    name: PatternName, shape: tuple[int, int], rate: float, *, rng: np.random.Generator, cloud: BoolArray | None = None
) -> BoolArray:
    """Draw a gap of an exact missing rate.

    Parameters
    ----------
    name
        ``cloud`` transplants a crop of the real cloud mask ``cloud``; ``blobs`` thresholds a power-law random field;
        ``box`` is one rectangle; ``stripes`` are parallel bands; ``half`` takes one side of the picture.
    shape
        (H, W) in pixels.
    rate
        Share of missing pixels, 0 < rate < 1.
    rng
        Source of randomness.
    cloud
        Boolean (H', W') with H' >= H and W' >= W, True = cloud; only for ``cloud``.

    Returns
    -------
    numpy.ndarray
        Boolean (H, W), True = missing, with exactly ``round(rate * H * W)`` missing pixels.

    Raises
    ------
    LacunarError
        Unknown pattern, a rate outside (0, 1), or a cloud mask that is missing or too small.

    Examples
    --------
    >>> gap = gap_pattern("blobs", (64, 64), 0.22, rng=np.random.default_rng(0))
    >>> int(gap.sum()) == round(0.22 * 64 * 64)
    True
    """
    if name not in PATTERN_NAMES:
        raise LacunarError(f"unknown gap pattern {name!r}: choose one of {', '.join(PATTERN_NAMES)}")
    if not 0 < rate < 1:
        raise LacunarError(f"missing rate {rate} is outside (0, 1): give a share such as 0.22")
    if name == "cloud":
        return exact_rate(_cloud_crop(cloud, shape, rng), rate, rng=rng)
    score = {"blobs": _blob_score, "box": _box_score, "stripes": _stripe_score, "half": _half_score}[name](shape, rng)
    return highest(score, rate)


def exact_rate(gap: BoolArray, rate: float, *, rng: np.random.Generator) -> BoolArray:
    """Grow or shrink a gap from its own border until its share of the pixels is exactly ``rate``.

    The score is the signed distance to the border (positive inside) plus a smooth jitter, so the shape stays that of
    the given gap. A gap that is empty or full carries no shape: it becomes a blob.
    """
    if not gap.any() or gap.all():
        return highest(_blob_score(gap.shape, rng), rate)
    signed = ndimage.distance_transform_edt(gap) - ndimage.distance_transform_edt(~gap)
    jitter = ndimage.gaussian_filter(rng.standard_normal(gap.shape), 1.5, mode="wrap")
    return highest(signed + _EDGE_JITTER * jitter / jitter.std(), rate)


def highest(score: FloatArray, rate: float) -> BoolArray:
    """Take the ``round(rate * size)`` pixels of highest score."""
    count = round(rate * score.size)
    chosen = np.zeros(score.size, dtype=bool)
    chosen[np.argsort(score, axis=None, kind="stable")[score.size - count :]] = True
    return chosen.reshape(score.shape)


def _cloud_crop(cloud: BoolArray | None, shape: tuple[int, int], rng: np.random.Generator) -> BoolArray:
    """A random crop of a cloud mask, in one of its eight orientations, with cloud and clear sky if it can."""
    if cloud is None or cloud.ndim != 2 or cloud.shape[0] < shape[0] or cloud.shape[1] < shape[1]:
        got = "none" if cloud is None else f"one of shape {cloud.shape}"
        raise LacunarError(f"the pattern 'cloud' needs a cloud mask of at least {shape} pixels; got {got}")
    for _ in range(20):
        row = rng.integers(0, cloud.shape[0] - shape[0] + 1)
        col = rng.integers(0, cloud.shape[1] - shape[1] + 1)
        crop = cloud[row : row + shape[0], col : col + shape[1]]
        if 0.05 < crop.mean() < 0.95:
            break
    if shape[0] == shape[1]:
        crop = np.rot90(crop, int(rng.integers(4)))
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def _blob_score(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """A Gaussian random field with an isotropic power-law spectrum."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    frequency[0, 0] = np.inf
    amplitude = frequency ** (-0.5 * (rng.uniform(*_BLOB_SPECTRUM) + 1))
    field: FloatArray = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * amplitude, s=shape)
    return field


def _box_score(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Rectangles of one random centre and aspect, nested: higher inside."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    aspect = np.exp(rng.uniform(-0.7, 0.7))
    centre = rng.uniform(0.2, 0.8, size=2) * shape
    score: FloatArray = -np.maximum(np.abs(rows - centre[0]) * aspect, np.abs(cols - centre[1]) / aspect)
    return score


def _stripe_score(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Parallel bands of a random direction and period."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    period = rng.uniform(*_STRIPE_PERIOD)
    score: FloatArray = np.cos((rows * np.sin(angle) + cols * np.cos(angle)) * 2 * np.pi / period + phase)
    return score


def _half_score(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """A plane that rises in a random direction."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    angle = rng.uniform(0, 2 * np.pi)
    score: FloatArray = rows * np.sin(angle) + cols * np.cos(angle) + 1e-6 * rng.random(shape)
    return score
