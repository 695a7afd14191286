"""Bootstrap intervals: whole units (dates, images) are drawn again, since what lies in one unit errs together."""

import math

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
INTERVAL = (0.025, 0.975)  # quantiles: the central 95 %


def resampling_weights(units: int, *, seed: int, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """How often each unit counts: once in the first row, as drawn with replacement in the others.

    Parameters
    ----------
    units
        How many there are. The same number and seed give the same weights, so that differences come in pairs.
    seed
        Of the draws.
    resamples
        Rows besides the first.

    Returns
    -------
    numpy.ndarray
        (1 + resamples, units).

    References
    ----------
    Efron, Tibshirani (1993), An introduction to the bootstrap, chapters 6 and 13.

    Examples
    --------
    >>> resampling_weights(3, seed=0, resamples=1).sum(axis=1).tolist()
    [3, 3]
    """
    drawn = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
    return np.vstack([np.ones(units, dtype=np.int64), drawn])


def interval_95(values: NDArray[np.float64], *, units: int) -> tuple[float, float]:
    """The central 95 % of a figure that was computed with each row of weights, the first row left out.

    Returns
    -------
    tuple of float
        Lower and upper end; NaN where there is but one unit, or a resample gave NaN.
    """
    if units == 1 or np.isnan(values).any():
        return math.nan, math.nan
    low, high = np.quantile(values[1:], INTERVAL)
    return float(low), float(high)
