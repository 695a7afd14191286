"""The texture of a field: the Gaussian Markov random field whose variogram is that of the measured pixels.

The mean of a gap hardly depends on how rough a field is thought to be; its samples do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lacunar.interpolate.gmrf import MarkovField

LAGS = (1, 2, 4, 8, 16)  # pixels, along rows and columns
RANGES = (4.0, 8.0, 16.0, 32.0, 64.0, 256.0)  # candidates, pixels
SMOOTHNESSES = (0.0, 0.3, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # candidates, squared pixels
TORUS = 256  # pixels: side of the grid on which the variograms of candidates are computed
LEAST_PAIRS = 100  # of measured pixels at every lag

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Texture:
    """A Markov field of a given range (pixels), smoothness (squared pixels) and scale."""

    correlation_range: float
    smoothness: float
    scale: float

    def on(self, markov: MarkovField) -> MarkovField:
        """The unit field on the pixels of another."""
        return markov.reshaped(correlation_range=self.correlation_range, smoothness=self.smoothness)


def texture_of(fields: Sequence[FloatArray]) -> Texture | None:
    """The candidate whose variogram has the shape of that of fields (H, W), NaN where unknown.

    None where too few pixels are known, or some lag shows no difference.
    """
    squares, counts = np.zeros(len(LAGS)), np.zeros(len(LAGS))
    for values in fields:
        for number, lag in enumerate(LAGS):
            for step in (values[lag:] - values[:-lag], values[:, lag:] - values[:, :-lag]):
                seen = np.isfinite(step)
                squares[number] += np.sum(step[seen] ** 2)
                counts[number] += seen.sum()
    if counts.min() < LEAST_PAIRS or squares.min() <= 0:
        return None
    apart = np.log(squares / counts) - np.log(_variograms())  # (candidates, lags)
    best = int(np.argmin(apart.var(axis=1)))
    chosen = RANGES[best // len(SMOOTHNESSES)], SMOOTHNESSES[best % len(SMOOTHNESSES)]
    return Texture(*chosen, scale=float(np.exp(apart[best].mean() / 2)))


@cache
def _variograms() -> FloatArray:
    """(candidates, lags): mean squared differences of the unit fields, smoothnesses varying fastest."""
    turns = 2 * np.pi * np.arange(TORUS) / TORUS
    eigenvalues = (2 - 2 * np.cos(turns))[:, None] + (2 - 2 * np.cos(turns))
    waves = 2 - 2 * np.cos(np.outer(LAGS, turns))
    out = []
    for reach in RANGES:
        for smoothness in SMOOTHNESSES:
            spectrum = 1 / ((reach**-2 + eigenvalues) * (1 + smoothness * eigenvalues))
            out.append(waves @ spectrum.mean(axis=1) / TORUS)
    return np.array(out)
