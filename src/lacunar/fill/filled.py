"""A filled array, and how the field of its raster fills it without a network."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from lacunar.errors import LacunarError
from lacunar.fill.options import FillOptions
from lacunar.interpolate.gmrf import pixel_noise
from lacunar.interpolate.raster_field import RasterField, View

POOLING = 2.0  # pixels: width of the Gaussian over which the variance of the samples is pooled


@dataclass(frozen=True)
class Filled:
    """Samples of a filled array."""

    samples: NDArray[np.float32]  # (K, H, W) float32; known pixels carry their value in every sample
    background_mean: NDArray[np.float32]  # (H, W) classical fill
    background_sigma: NDArray[np.float32]  # (H, W) its standard deviation; 0 where known
    tiles: int  # given to the network
    coarse_tiles: int  # kriging tiles so far from known pixels that block means alone tell them
    evaluations: int  # network evaluations for each sample of each tile
    paired: bool = True  # samples come in pairs from opposite noise
    exact: bool = False  # sigma is that of the background, calibrated already; the samples have it
    # sigma_factor, error_quantiles: calibration of the model for this preset, from its card: the factor of the samples'
    # deviation, and level -> quantile of the errors in units of sigma. Empty: normal quantiles.
    sigma_factor: float = 1.0
    error_quantiles: Mapping[str, float] = field(default_factory=dict)

    def quantile(self, level: float) -> NDArray[np.float32]:
        """Value (H, W) that the truth stays below with probability ``level`` in (0, 1).

        The card's quantiles come from held-out places; between its levels they are interpolated on the normal scale.
        """
        if not 0 < level < 1:
            raise LacunarError(f"quantile level {level:g}: wanted a number between 0 and 1, such as 0.05")
        score = float(special.ndtri(level))
        if self.error_quantiles:
            table = sorted((float(special.ndtri(float(key))), value) for key, value in self.error_quantiles.items())
            normal, found = np.array(table).T
            inner = float(np.interp(score, normal, found))
            beyond = score - float(np.clip(score, normal[0], normal[-1]))
            end = 0 if beyond < 0 else -1
            stretch = found[end] / normal[end] if found[end] * normal[end] > 0 else 1.0
            score = inner + beyond * float(stretch)
        return np.asarray(self.mean + self.sigma * score, dtype=np.float32)

    @property
    def realisations(self) -> NDArray[np.float32]:
        """The samples (K, H, W) with their calibrated spread around `mean`: fields that the truth could be."""
        mean = self.samples.mean(axis=0, dtype=np.float64)
        return np.asarray(mean + self.sigma_factor * (self.samples - mean), dtype=np.float32)

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean of the samples."""
        return np.asarray(self.samples.mean(axis=0, dtype=np.float64), dtype=np.float32)

    @property
    def sigma(self) -> NDArray[np.float32]:
        """Calibrated standard deviation of the samples; for a single sample that of the background.

        The variance of a few samples is grainy. In units of the background's it changes slowly, so it is pooled over
        neighbouring missing pixels. Samples in opposite pairs have a mean next to the true one: no degree of freedom is
        lost, and the sum of squares is divided by K, not K - 1.
        """
        if len(self.samples) == 1 or self.exact:
            return np.asarray(self.sigma_factor * self.background_sigma, dtype=np.float32)
        scale = self.background_sigma
        drawn = (scale > 0) & np.isfinite(self.samples[0])
        residual = np.divide(self.samples - self.mean, scale, out=np.zeros(self.samples.shape), where=drawn)
        weight = ndimage.gaussian_filter(drawn.astype(np.float64), POOLING, mode="constant")
        pooled = ndimage.gaussian_filter(residual.var(axis=0, ddof=0 if self.paired else 1), POOLING, mode="constant")
        ratio = np.sqrt(np.divide(pooled, weight, out=np.zeros(weight.shape), where=drawn))
        return np.asarray(self.sigma_factor * scale * ratio, dtype=np.float32)


def fill_from_field(field: RasterField, view: View, options: FillOptions) -> Filled:
    """Tell the missing pixels of a window by the model of its raster, and draw samples."""
    half = 0 if options.chosen.mean_only else (options.samples + 1) // 2
    noise = pixel_noise(view.known.shape, view.origin, half, options.seed)
    told = field.told(view, noise=noise, threads=_threads())
    deviates = np.concatenate([told.deviates, -told.deviates])[: options.samples] if half else np.zeros((1, 1, 1))
    return Filled(
        samples=(told.mean + told.sigma * deviates).astype(np.float32),
        background_mean=told.mean.astype(np.float32),
        background_sigma=told.sigma.astype(np.float32),
        tiles=0,
        coarse_tiles=0,
        evaluations=0,
        exact=True,
        error_quantiles=field.error_quantiles,
    )


def _threads() -> int:
    """Processors that may be used; the number changes no bit."""
    return int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count() or 1
