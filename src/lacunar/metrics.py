"""How far an estimate is from the truth, over an image or a region of it.

Every function takes ``(estimate, truth)`` in this order, arrays of one shape, and an optional boolean ``region`` of
that shape (or of its last two axes), True = counted. An empty region, different shapes and NaN inside the region raise
:class:`~lacunar.errors.LacunarError`: a score over nothing, or over unknown pixels, is no score. Sums are float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lacunar.errors import LacunarError

_SSIM_RADIUS = 5  # pixels: the window of Wang et al. (2004), section III-C, is an 11x11 Gaussian of sigma 1.5
_SSIM_SIGMA = 1.5


def mse(estimate: ArrayLike, truth: ArrayLike, *, region: ArrayLike | None = None) -> float:
    """Mean squared error, in squared units of the arrays.

    Raises `LacunarError`, as all here: shapes that differ, an empty region, or NaN in it.

    >>> mse([1.0, 2.0, 9.0], [1.0, 4.0, 0.0], region=[True, True, False])
    2.0
    """
    return float(np.mean(_difference(estimate, truth, region) ** 2))


def rmse(estimate: ArrayLike, truth: ArrayLike, *, region: ArrayLike | None = None) -> float:
    """Root of the mean squared error, in units of the arrays."""
    return math.sqrt(mse(estimate, truth, region=region))


def mae(estimate: ArrayLike, truth: ArrayLike, *, region: ArrayLike | None = None) -> float:
    """Mean absolute error, in units of the arrays."""
    return float(np.mean(np.abs(_difference(estimate, truth, region))))


def bias(estimate: ArrayLike, truth: ArrayLike, *, region: ArrayLike | None = None) -> float:
    """Mean of estimate minus truth: positive where the estimate is too high.

    >>> bias([3.0, 5.0], [1.0, 5.0])
    1.0
    """
    return float(np.mean(_difference(estimate, truth, region)))


def gradient_energy(picture: ArrayLike, *, region: ArrayLike) -> float:
    """Sum of squared differences of neighbouring pixels (..., H, W) of which one or both are in the region (H, W).

    Of a filled picture, as a share of the truth's, it tells how sharp the fill is.

    Raises `LacunarError`: another shape of the region, an empty one, or NaN.

    >>> gradient_energy([[0.0, 1.0, 3.0]], region=[[True, False, False]])
    1.0
    """
    values = np.asarray(picture, dtype=np.float64)
    counted = _as_region(region, values.shape)
    _refuse_nan(values)
    total = 0.0
    for axis in (-1, -2):
        pairs = np.moveaxis(counted, axis, -1)
        steps = np.diff(np.moveaxis(values, axis, -1), axis=-1)
        total += float(np.sum(steps[pairs[..., 1:] | pairs[..., :-1]] ** 2))
    return total


def psnr(estimate: ArrayLike, truth: ArrayLike, *, data_range: float, region: ArrayLike | None = None) -> float:
    r"""Peak signal-to-noise ratio in dB: :math:`10 \log_{10}(\text{data\_range}^2 / \text{MSE})`.

    `data_range` is the greatest minus the smallest possible value: 255 for 8 bits; for a physical field, say which
    range was taken. Of equal images the ratio is infinite.

    Raises `LacunarError` as `mse` does, and where `data_range` is not positive.

    >>> psnr([0.0, 0.0], [1.0, 1.0], data_range=10.0)
    20.0
    """
    _check_range(data_range)
    error = mse(estimate, truth, region=region)
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def ssim(estimate: ArrayLike, truth: ArrayLike, *, data_range: float, region: ArrayLike | None = None) -> float:
    """Structural similarity, by scikit-image with the window of the paper: 1 where both are equal.

    Parameters
    ----------
    estimate, truth
        (..., height, width), at least 11x11, finite everywhere; leading axes (bands) are averaged.
    data_range
        Greatest minus smallest possible value.
    region
        Boolean (height, width): count only windows centred here. Windows that reach over the border never count.

    Raises
    ------
    LacunarError
        As :func:`psnr`, when the image is too small, or when no window is centred in the region.

    References
    ----------
    Wang, Bovik, Sheikh, Simoncelli (2004), Image quality assessment: from error visibility to structural similarity,
    IEEE Trans. Image Processing 13, Eq. 13, section III-C.
    """
    from skimage.metrics import structural_similarity

    _check_range(data_range)
    x, y = _as_pair(estimate, truth)
    side = 2 * _SSIM_RADIUS + 1
    if x.ndim < 2 or min(x.shape[-2:]) < side:
        raise LacunarError(f"got an image of {x.shape}; wanted (..., height, width) of {side}x{side} pixels or more")
    inner = (..., slice(_SSIM_RADIUS, -_SSIM_RADIUS), slice(_SSIM_RADIUS, -_SSIM_RADIUS))
    chosen = _as_region(region, x.shape)[inner]
    if not chosen.any():
        raise LacunarError(
            f"got no pixel of the region {_SSIM_RADIUS} pixels inside the image; wanted one: grow the region"
        )
    _refuse_nan(x, y)
    options = {"gaussian_weights": True, "sigma": _SSIM_SIGMA, "use_sample_covariance": False, "full": True}
    similarity = np.empty(x.shape)
    for band in np.ndindex(x.shape[:-2]):
        pair = (x[band], y[band])
        similarity[band] = structural_similarity(*pair, data_range=data_range, **options)[1]  # type: ignore[no-untyped-call]
    return float(np.mean(similarity[inner][chosen]))


def confusion(estimate: ArrayLike, truth: ArrayLike, *, region: ArrayLike | None = None) -> Confusion:
    """Count the pixels of two boolean masks.

    Raises `LacunarError`: when a mask is not boolean, shapes differ or the region is empty.

    >>> float(confusion([True, True, False], [False, True, True]).iou)
    0.3333333333333333
    """
    x, y = np.asarray(estimate), np.asarray(truth)
    if x.dtype != np.bool_ or y.dtype != np.bool_ or x.shape != y.shape:
        raise LacunarError(
            f"got masks {x.dtype} {x.shape} and {y.dtype} {y.shape}; wanted bool of one shape: compare with > 0"
        )
    chosen = _as_region(region, x.shape)
    pairs = (x & y, x & ~y, ~x & y, ~x & ~y)
    return Confusion(*(int(np.count_nonzero(pair & chosen)) for pair in pairs))


@dataclass(frozen=True, eq=False)
class Confusion:
    """How many pixels two boolean masks share: counts of one image, or arrays of them, to be added up before a ratio.

    Every ratio is taken count by count; of nothing it is 1.

    Parameters
    ----------
    both, only_estimate, only_truth, neither
        Pixels, of one shape.

    Examples
    --------
    >>> float(Confusion([1, 0], [0, 1], [1, 0], [2, 3]).iou[0])
    0.5
    """

    both: ArrayLike
    only_estimate: ArrayLike
    only_truth: ArrayLike
    neither: ArrayLike

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union (Jaccard index) of the pixels that are True."""
        return ratio(self.both, _sum(self.both, self.only_estimate, self.only_truth))

    @property
    def mean_iou(self) -> NDArray[np.float64]:
        """Mean of the intersections over union of the pixels that are True and of those that are False."""
        other = ratio(self.neither, _sum(self.neither, self.only_estimate, self.only_truth))
        return np.asarray((self.iou + other) / 2)

    @property
    def pixel_accuracy(self) -> NDArray[np.float64]:
        """Share of the pixels on which both agree."""
        every = _sum(self.both, self.only_estimate, self.only_truth, self.neither)
        return ratio(_sum(self.both, self.neither), every)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the estimated pixels that are true."""
        return ratio(self.both, _sum(self.both, self.only_estimate))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the true pixels that were estimated."""
        return ratio(self.both, _sum(self.both, self.only_truth))

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall (Dice coefficient), 2 iou / (1 + iou)."""
        return ratio(_sum(self.both, self.both), _sum(self.both, self.both, self.only_estimate, self.only_truth))


def ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """Part of a whole, element by element; of nothing, all.

    >>> ratio([1, 0], [4, 0]).tolist()
    [0.25, 1.0]
    """
    whole = np.asarray(whole, dtype=np.float64)
    return np.asarray(np.divide(part, whole, out=np.ones(whole.shape), where=whole != 0))


def _difference(estimate: ArrayLike, truth: ArrayLike, region: ArrayLike | None) -> NDArray[np.float64]:
    """Estimate minus truth, one value per counted pixel."""
    x, y = _as_pair(estimate, truth)
    chosen = _as_region(region, x.shape)
    x, y = x[chosen], y[chosen]
    _refuse_nan(x, y)
    return x - y


def _as_pair(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64, of one shape."""
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.shape != y.shape:
        raise LacunarError(f"got shapes {x.shape} and {y.shape}; wanted the same: cut both to one grid")
    return x, y


def _as_region(region: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The region as a boolean array of this shape with at least one pixel."""
    chosen = np.ones(shape, dtype=bool) if region is None else np.asarray(region)
    if chosen.dtype != np.bool_ or chosen.shape not in (shape, shape[-2:]):
        raise LacunarError(f"got a region {chosen.dtype} {chosen.shape}; wanted bool {shape}: True = counted")
    if not chosen.any():
        raise LacunarError("got an empty region; wanted at least one pixel to compare")
    return np.broadcast_to(chosen, shape)


def _refuse_nan(*arrays: NDArray[np.float64]) -> None:
    for array in arrays:
        bad = np.count_nonzero(~np.isfinite(array))
        if bad:
            raise LacunarError(f"got {bad} pixels that are NaN or infinite; wanted numbers: leave them out by region=")


def _check_range(data_range: float) -> None:
    if not (math.isfinite(data_range) and data_range > 0):
        raise LacunarError(
            f"got data_range {data_range}; wanted a positive number: greatest minus smallest possible value"
        )


def _sum(*counts: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(sum(np.asarray(count, dtype=np.float64) for count in counts))
