"""Fill one array: kriging gives the background field, the diffusion network samples what kriging leaves open.

The state of the diffusion is the residual over the background in units of its sigma, ``value = mean + sigma * z``:

- conditional (presets ``fast``, ``balanced``): the background is kriged. The network sees it, what is missing and what
  the guides say, and DDIM or another solver turns noise into z in a few evaluations. One evaluation without noise gives
  the mean of z (preset ``instant``).
- unconditional (preset ``paper``): the background is the mean and standard deviation of the known pixels. The network
  is told that everything is missing, or was trained as a prior that knows nothing else, and RePaint or another
  zero-shot sampler holds it to the known pixels.

Without a network (`FillOptions.uses_field`) mean, sigma and samples are those of one model of the whole raster, with or
without other dates (`lacunar.interpolate.raster_field`).

Overlapping tiles are denoised together: their predictions are averaged at every step, so no seam can form.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lacunar.diffusion.noise import pixel_noise
from lacunar.diffusion.operators import Mask
from lacunar.diffusion.samplers import SAMPLERS, Preset
from lacunar.errors import LacunarError, ModelError
from lacunar.fill.denoiser import TiledDenoiser, tile_scaling_of
from lacunar.fill.filled import Filled, fill_from_field
from lacunar.fill.options import FillOptions
from lacunar.geo.windows import Tile, tiles_over, tiles_touching
from lacunar.interpolate.background import TILE, Background, CoarseField, background_field
from lacunar.interpolate.raster_field import RasterSample, View
from lacunar.models.checkpoint import Model
from lacunar.models.tiled import TiledNetwork, TiledPrior, overlap_of
from lacunar.models.weights import require_finite

CHANNELS = (4, 5)  # input channels of a network without and with guides
PRIOR_CHANNELS = 1  # of an unconditional one, which is given the state alone
COARSE_CELL = TILE // 4  # pixels: side of the cells of block means, where none are given

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
Callback = Callable[[int, int], None]


def fill_array(
    values: NDArray[np.floating],
    known: BoolArray,
    missing: BoolArray,
    model: Model | None,
    options: FillOptions,
    *,
    guides: NDArray[np.floating] | None = None,
    coarse: CoarseField | None = None,
    callback: Callback | None = None,
) -> Filled:
    """Draw samples of the missing pixels of an array (H, W), in any unit, that fits in memory.

    Pixels that are neither known nor missing stay unfilled; values are read of known pixels only. The model takes the
    state, the background's mean and sigma, missing and, of five channels, the guide; None takes that of the options,
    which may do without (`FillOptions.uses_field`). ``guides`` (K, H, W) are in any units, NaN where unknown.
    ``coarse`` holds block means around the array and of its guides, by default those of the array itself. ``callback``
    is called with (evaluations done, all).

    Raises `LacunarError`: no known pixel, shapes that differ, guides for an unconditional sampler, or (`ModelError`) a
    model of other channels.
    """
    guides = np.zeros((0, *values.shape)) if guides is None else guides.astype(np.float64)
    _check_shapes(values, known, missing, guides)
    if coarse is None:
        others = tuple(CoarseField.of(one, np.isfinite(one), COARSE_CELL) for one in guides)
        coarse = replace(CoarseField.of(values, known, COARSE_CELL), guides=others)
    if not coarse.known.any():
        raise LacunarError("no pixel is known: at least one measured pixel is wanted to start from")
    named = options if model is None else replace(options, model=model.name)
    if named.uses_field(len(guides)):
        view = View(values, known, missing & ~known, guides)
        sample = RasterSample()
        sample.add(view)
        return fill_from_field(sample.fitted(coarse), view, options)
    if model is None:
        model = options.load_network()
    preset = options.chosen
    _check(model, preset, len(guides))
    shape, side = values.shape, model.network.config.sample_size
    pads = [(0, max(0, max(TILE, side) - length)) for length in shape]
    values, known, missing = np.pad(values, pads), np.pad(known, pads), np.pad(missing, pads)
    guides = np.pad(guides, [(0, 0), *pads], constant_values=np.nan)
    origin = coarse.origin
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
        require_finite(z, model.name)
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


def _check_shapes(
    values: NDArray[np.floating], known: BoolArray, missing: BoolArray, guides: NDArray[np.floating]
) -> None:
    if not values.shape == known.shape == missing.shape:
        raise LacunarError(f"got shapes {values.shape}, {known.shape} and {missing.shape}; wanted one shape")
    if guides.shape[1:] != values.shape:
        raise LacunarError(f"guides have shape {guides.shape}, wanted (K, {values.shape[0]}, {values.shape[1]})")


def _check(model: Model, preset: Preset, guides: int) -> None:
    if guides and not preset.conditional:
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
