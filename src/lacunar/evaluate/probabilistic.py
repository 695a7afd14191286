"""Scores of a forecast that says how sure it is, pixel by pixel.

A forecast is a mean with a standard deviation (taken as Gaussian) or K samples. The continuous ranked probability score
(CRPS) has the unit of the values, smaller is better, and is the absolute error of a forecast that claims no doubt.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from lacunar.errors import LacunarError

FloatArray = NDArray[np.float64]

LEVELS: tuple[float, ...] = tuple(i / 20 for i in range(1, 20))  # nominal coverages of a reliability curve


def crps_gaussian(mean: ArrayLike, sigma: ArrayLike, truth: ArrayLike) -> FloatArray:
    r"""CRPS of a normal distribution, pixel by pixel; a sigma of 0 claims no doubt.

    .. math:: \sigma \left[ z (2 \Phi(z) - 1) + 2 \varphi(z) - \pi^{-1/2} \right], \quad z = (y - \mu) / \sigma

    Raises `LacunarError`: shapes that differ, values that are not finite, or a negative sigma.

    Reference: Gneiting and Raftery (2007), J. Am. Stat. Assoc. 102, Eq. 21 and the closed form below it (sign turned).

    >>> crps_gaussian([0.0, 1.0], [1.0, 0.0], [0.0, 3.0]).round(4)
    array([0.2337, 2.    ])
    """
    error, deviation = _error_and_sigma(mean, sigma, truth)
    z = np.divide(error, deviation, out=np.zeros(error.shape), where=deviation > 0)
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    score = deviation * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))
    return np.where(deviation > 0, score, np.abs(error))


def crps_ensemble(samples: ArrayLike, truth: ArrayLike, *, antithetic: bool = False) -> FloatArray:
    r"""Fair CRPS of K samples (K, ...) of a truth (...), pixel by pixel; single values may be negative.

    .. math:: \frac{1}{K} \sum_i |x_i - y| - \frac{1}{2 K (K - 1)} \sum_{i,j} |x_i - x_j|

    Its expectation does not depend on K. `antithetic` says that samples i and i + K/2 come from opposite noise: these
    pairs are left out, and K - 1 becomes K - 2.

    Raises `LacunarError`: shapes that do not fit, values that are not finite, or less than 2 samples, antithetic 4 and
    an even number.

    References: Gneiting and Raftery (2007), J. Am. Stat. Assoc. 102, Eq. 21 (sign turned: smaller is better). Ferro
    (2014), Fair scores for ensemble forecasts, Q. J. R. Meteorol. Soc. 140.

    >>> crps_ensemble([[1.0], [3.0]], [2.0])
    array([0.])
    """
    x, y = np.asarray(samples, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    least = 4 if antithetic else 2
    if x.ndim == 0 or x.shape[1:] != y.shape or len(x) < least or (antithetic and len(x) % 2):
        even = ", even" if antithetic else ""
        raise LacunarError(
            f"got samples {x.shape} for a truth of {y.shape}; wanted (K, *truth) with K >= {least}{even}"
        )
    _refuse_nan(x, y)
    count, ordered = len(x), np.sort(x, axis=0)
    # Sorted, the sum over pairs i < j of x_j - x_i counts each x_i (2 i - K + 1) times, i from 0.
    pairs = np.tensordot(2 * np.arange(count) - count + 1.0, ordered, axes=1)
    if antithetic:
        pairs = pairs - np.abs(x[count // 2 :] - x[: count // 2]).sum(axis=0)
    return np.asarray(np.abs(x - y).mean(axis=0) - pairs / (count * (count - (2 if antithetic else 1))))


def pit(mean: ArrayLike, sigma: ArrayLike, truth: ArrayLike) -> FloatArray:
    """Probability integral transform of a normal distribution: its share below the truth, pixel by pixel.

    Uniform on 0 .. 1 where sigma is calibrated; a sigma of 0 gives 0, 1/2 or 1. Raises as `crps_gaussian`.

    >>> pit([0.0, 0.0], [1.0, 1.0], [0.0, 1.0]).round(4)
    array([0.5   , 0.8413])
    """
    error, deviation = _error_and_sigma(mean, sigma, truth)
    certain = np.where(error > 0, np.inf, np.where(error < 0, -np.inf, 0.0))
    z = np.divide(error, deviation, out=certain, where=deviation > 0)
    return np.asarray(ndtr(z))


def within_central(shares: ArrayLike, levels: ArrayLike = LEVELS) -> NDArray[np.int64]:
    """Count the truths inside the central interval of each nominal coverage (L,), from their PIT values.

    >>> within_central([0.5, 0.9], [0.5, 0.95])
    array([1, 2])
    """
    half = np.sort(np.abs(2 * np.asarray(shares, dtype=np.float64) - 1), axis=None)
    return np.searchsorted(half, np.asarray(levels, dtype=np.float64), side="right")


def _error_and_sigma(mean: ArrayLike, sigma: ArrayLike, truth: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Truth minus mean, and sigma, checked."""
    m, s, y = (np.asarray(part, dtype=np.float64) for part in (mean, sigma, truth))
    if not m.shape == s.shape == y.shape:
        raise LacunarError(f"got mean, sigma and truth of {m.shape}, {s.shape} and {y.shape}; wanted one shape")
    _refuse_nan(m, s, y)
    if np.any(s < 0):
        raise LacunarError(f"got a sigma of {s.min()}; wanted 0 or more")
    return y - m, s


def _refuse_nan(*arrays: FloatArray) -> None:
    bad = sum(int(np.count_nonzero(~np.isfinite(array))) for array in arrays)
    if bad:
        raise LacunarError(f"got {bad} values that are NaN or infinite; wanted numbers: leave those pixels out")
