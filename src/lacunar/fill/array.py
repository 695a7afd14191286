"""Fill one array: kriging gives the background field, the diffusion network samples what kriging leaves open.

The state of the diffusion is the residual over the background in units of its sigma, ``value = mean + sigma * z``:

- conditional (presets ``fast``, ``balanced``): the background is kriged. The network sees it, what is missing and what
  the guides say, and DDIM or another solver turns noise into z in a few evaluations. One evaluation without noise gives
  the mean of z (preset ``instant``).
- unconditional (preset ``paper``): the background is the mean and standard deviation of the known pixels. The network
  is told that everything is missing, or was trained as a prior that knows nothing else, and RePaint or another
  zero-shot sampler holds it to the known pixels.

With several other dates of the place (`FillOptions.uses_archive`) they tell nearly all that there is to tell: mean,
sigma and samples come from `lacunar.interpolate.archive_field`, without the network.

Overlapping tiles are denoised together: their predictions are averaged at every step, so no seam can form.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, special
from torch import Tensor

from lacunar.diffusion.noise import pixel_noise
from lacunar.diffusion.operators import Mask
from lacunar.diffusion.samplers import SAMPLERS, Preset
from lacunar.errors import LacunarError, ModelError
from lacunar.fill.denoiser import TiledDenoiser, tile_scaling_of
from lacunar.fill.options import FillOptions
from lacunar.geo.windows import Tile, tiles_over, tiles_touching
from lacunar.interpolate.archive_field import archive_field
from lacunar.interpolate.background import TILE, Background, CoarseField, background_field
from lacunar.models.checkpoint import Model
from lacunar.models.tiled import TiledNetwork, TiledPrior, overlap_of

POOLING = 2.0  # pixels: width of the Gaussian over which the variance of the samples is pooled
CHANNELS = (4, 5)  # input channels of a network without and with guides
PRIOR_CHANNELS = 1  # of an unconditional one, which is given the state alone
LEAST_KNOWN = 500  # pixels of an array, below which block means around it tell more than an archive can be fitted to
COARSE_CELL = TILE // 4  # pixels: side of the cells of block means, where none are given

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
Callback = Callable[[int, int], None]


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


def fill_array(
    values: NDArray[np.floating],
    known: BoolArray,
    missing: BoolArray,
    model: Model,
    options: FillOptions,
    *,
    guides: NDArray[np.floating] | None = None,
    coarse: CoarseField | None = None,
    callback: Callback | None = None,
) -> Filled:
    """Draw samples of the missing pixels of an array (H, W), in any unit, that fits in memory.

    Pixels that are neither known nor missing stay unfilled; values are read of known pixels only. The model takes the
    state, the background's mean and sigma, missing and, of five channels, the guide; ``options.model`` is not looked
    at. ``guides`` (K, H, W) are in any units, NaN where unknown. ``coarse`` holds block means around the array and of
    its guides, by default those of the array itself. ``callback`` is called with (evaluations done, all).

    Raises `LacunarError`: no known pixel, shapes that differ, guides for an unconditional sampler, or (`ModelError`) a
    model of other channels.
    """
    preset = options.chosen
    _check(values, known, missing, guides, model, preset)
    shape, side = values.shape, model.network.config.sample_size
    pads = [(0, max(0, max(TILE, side) - length)) for length in shape]
    values, known, missing = np.pad(values, pads), np.pad(known, pads), np.pad(missing, pads)
    if guides is not None:
        guides = np.pad(guides.astype(np.float64), [(0, 0), *pads], constant_values=np.nan)
    origin = (0, 0) if coarse is None else coarse.origin
    if guides is not None and options.uses_archive(len(guides)) and known.sum() >= LEAST_KNOWN:
        filled = _fill_from_archive(values, known, missing, guides, options, origin)
        return _cut(filled, shape)
    if coarse is None:
        others = tuple(CoarseField.of(one, np.isfinite(one), COARSE_CELL) for one in (() if guides is None else guides))
        coarse = replace(CoarseField.of(values, known, COARSE_CELL), guides=others)
    if not coarse.known.any():
        raise LacunarError("no pixel is known: at least one measured pixel is wanted to start from")
    # The network sees whole tiles, so every unknown pixel in them needs a background, missing or not.
    seen = np.zeros(missing.shape, dtype=bool)
    for tile in _network_tiles(missing, side):
        seen[tile.slices] = True
    background = background_field(
        values,
        known,
        seen & ~known if preset.conditional else seen,
        coarse,
        kriged=preset.conditional,
        guides=guides,
        threads=torch.get_num_threads(),
    )
    filled = fill_from_background(background, values, known, missing, model, options, origin=origin, callback=callback)
    return _cut(filled, shape)


def _cut(filled: Filled, shape: tuple[int, ...]) -> Filled:
    cut = (slice(0, shape[0]), slice(0, shape[1]))
    return replace(
        filled,
        samples=filled.samples[:, *cut],
        background_mean=filled.background_mean[cut],
        background_sigma=filled.background_sigma[cut],
    )


def _fill_from_archive(
    values: NDArray[np.floating],
    known: BoolArray,
    missing: BoolArray,
    guides: NDArray[np.floating],
    options: FillOptions,
    origin: tuple[int, int],
) -> Filled:
    seeds = np.random.SeedSequence(options.seed).generate_state(4)
    draws = 0 if options.chosen.mean_only else options.samples
    parts = [pixel_noise(values.shape, origin, max(draws, 1), int(seed))[:draws, 0].numpy() for seed in seeds]
    field = archive_field(values, known, missing & ~known, guides, noise=np.stack(parts))
    samples = field.mean + field.sigma * (field.deviates if draws else np.zeros((1, *values.shape)))
    return Filled(
        samples=samples.astype(np.float32),
        background_mean=field.mean.astype(np.float32),
        background_sigma=field.sigma.astype(np.float32),
        tiles=0,
        coarse_tiles=0,
        evaluations=0,
        exact=True,
        error_quantiles=field.error_quantiles,
    )


def fill_from_background(
    background: Background,
    values: NDArray[np.floating],
    known: BoolArray,
    missing: BoolArray,
    model: Model,
    options: FillOptions,
    *,
    origin: tuple[int, int] = (0, 0),
    callback: Callback | None = None,
) -> Filled:
    """Draw samples as `fill_array` does, over a given background, of an array at least one tile in size.

    ``origin`` is the row and column of the array's first pixel on the absolute grid, to whose pixels noise belongs.
    """
    preset, samples = options.chosen, options.samples
    tiles = _network_tiles(missing, model.network.config.sample_size)
    drawn = np.repeat(np.where(known, values, np.nan)[None], samples, axis=0)
    if tiles:
        denoiser: TiledNetwork
        if model.network.in_channels == PRIOR_CHANNELS:
            denoiser = TiledPrior(model, tiles, (known.shape[0], known.shape[1]))
        else:
            denoiser = TiledDenoiser(model, values, known, tiles, background, conditional=preset.conditional)
        noise = pixel_noise(values.shape, origin, samples, options.seed).to(denoiser.norm.device)
        inside = known & (background.sigma > 0)  # no pixel for a conditional sampler
        residual = values - background.mean
        observed = np.divide(residual, background.sigma, out=np.zeros(known.shape), where=inside)
        # Noise that a sampler draws on its way belongs to no pixel: it comes from a generator of its own.
        words = np.random.SeedSequence((options.seed, *origin)).generate_state(1)
        z = _sample(denoiser, noise, observed, inside, model, preset, int(words[0]), callback)
        drawn = np.where(missing & ~known, background.mean + background.sigma * z, drawn)
    return Filled(
        samples=drawn.astype(np.float32),
        background_mean=background.mean.astype(np.float32),
        background_sigma=np.where(known, 0.0, background.sigma).astype(np.float32),
        tiles=len(tiles),
        coarse_tiles=background.coarse_tiles,
        evaluations=preset.evaluations if tiles else 0,
        paired=preset.conditional and samples % 2 == 0,
        # The card's factor of a sampler belongs to the deviation of several samples, not to the background's sigma.
        sigma_factor=model.card.sigma_factor.get(preset.name, 1.0) if samples > 1 or preset.mean_only else 1.0,
        error_quantiles=model.card.error_quantiles.get(preset.name, {}),
    )


def _network_tiles(missing: BoolArray, side: int) -> Sequence[Tile]:
    tiles = tiles_over((missing.shape[0], missing.shape[1]), tile=side, overlap=overlap_of(side))
    return tiles_touching(tiles, missing)


def _check(
    values: NDArray[np.floating],
    known: BoolArray,
    missing: BoolArray,
    guides: NDArray[np.floating] | None,
    model: Model,
    preset: Preset,
) -> None:
    if not values.shape == known.shape == missing.shape:
        raise LacunarError(f"got shapes {values.shape}, {known.shape} and {missing.shape}; wanted one shape")
    if guides is not None and guides.shape[1:] != values.shape:
        raise LacunarError(f"guides have shape {guides.shape}, wanted (K, {values.shape[0]}, {values.shape[1]})")
    if guides is not None and len(guides) and not preset.conditional:
        raise LacunarError(
            f"preset {preset.name or 'without a name'} is {SAMPLERS[preset.sampler].label}, whose prior knows no "
            "guides (references, covariates): choose fast or balanced"
        )
    if model.network.in_channels not in (*CHANNELS, PRIOR_CHANNELS) or model.network.out_channels != 1:
        raise ModelError(
            f"model {model.name} takes {model.network.in_channels} channels and gives {model.network.out_channels}; "
            f"wanted {CHANNELS[0]} (state, mean, sigma, missing), {CHANNELS[1]} (and guide) or {PRIOR_CHANNELS} (state "
            "alone), and 1: choose an LST model"
        )
    if model.network.in_channels == PRIOR_CHANNELS:
        tile_scaling_of(model)
        if preset.conditional:
            raise ModelError(
                f"model {model.name} is an unconditional prior, which {SAMPLERS[preset.sampler].label} cannot tell "
                "what is known: choose preset paper, or another model"
            )


def _sample(
    denoiser: TiledNetwork,
    noise: Tensor,
    observed: FloatArray,
    inside: BoolArray,
    model: Model,
    preset: Preset,
    seed: int,
    callback: Callback | None,
) -> FloatArray:
    """Residuals z (K, H, W), by the preset's sampler; ``observed`` are those of the known pixels ``inside``."""
    with torch.inference_mode():
        measurement = None
        if not preset.conditional:
            mask = Mask(torch.from_numpy(inside).to(noise.device)[None, None])
            measurement = mask.measure(torch.from_numpy(observed).to(noise)[None, None].expand_as(noise))
        z = preset.draw(
            denoiser,
            torch.zeros_like(noise) if preset.mean_only else noise,
            preset.thinned(model.schedule),
            measurement=measurement,
            prediction=model.prediction,
            generator=torch.Generator().manual_seed(seed),
            callback=callback,
        )
    return np.asarray(z[:, 0].cpu().double().numpy())
