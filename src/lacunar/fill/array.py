"""Fill the gaps of one array: kriging says where to start, the diffusion network samples what kriging leaves open.

The state of the diffusion is the residual over a base in units of a spread, ``x = base + spread * z``:

- conditional (presets ``fast``, ``balanced``): base and spread are the kriged value and its standard deviation, the
  network sees both, the gap and what other dates say, and DDIM, or another solver, carries pure noise to z in a few
  evaluations; one evaluation without noise gives the mean of z (preset ``instant``);
- on the unconditional prior (preset ``paper``): base and spread are the mean and standard deviation of the known
  pixels, the network is told that all is gap, and RePaint, or another zero-shot sampler, holds it to what is known.

Overlapping tiles are denoised together: their predictions are averaged at every step, so there is one state, no seam.
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
from lacunar.geo.windows import Tile, tiles_over, tiles_touching
from lacunar.interpolate.background import TILE, BaseField, CoarseField, base_field
from lacunar.models.checkpoint import Model
from lacunar.models.tiled import TiledDenoiser, overlap_of

POOLING = 2.0  # pixels: width of the Gaussian over which the samples' variance is pooled
CHANNELS = (4, 5)  # of a network without and with the guide that references give

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Filled:
    """Samples of a filled array.

    Parameters
    ----------
    samples
        (K, H, W) float32; measured pixels carry their value in every sample.
    base, spread
        (H, W) classical fill and its standard deviation; 0 spread where measured.
    tiles, coarse_tiles
        Tiles given to the network, and kriging tiles so far from measured pixels that they start from a coarser level.
    evaluations
        Network evaluations for each sample of each tile.
    paired
        Samples come in pairs from opposite noise.
    sigma_factor, error_quantiles
        Calibration of the model for this preset, from its card: what the samples' deviation is multiplied by, and level
        -> quantile of the errors in units of that; normal quantiles where the card has none.
    """

    samples: NDArray[np.float32]
    base: NDArray[np.float32]
    spread: NDArray[np.float32]
    tiles: int
    coarse_tiles: int
    evaluations: int
    paired: bool = True
    sigma_factor: float = 1.0
    error_quantiles: Mapping[str, float] = field(default_factory=dict)

    def quantile(self, level: float) -> NDArray[np.float32]:
        """Value (H, W) that the truth stays below with probability ``level``, by the errors on held-out places.

        Between the levels of the card it is interpolated as the normal quantiles lie; measured pixels keep their value.
        A level outside (0, 1) is a ``LacunarError``.
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
    def mean(self) -> NDArray[np.float32]:
        """Mean of the samples."""
        mean: NDArray[np.float32] = self.samples.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean

    @property
    def sigma(self) -> NDArray[np.float32]:
        """Standard deviation of the samples; of one result, the classical fill's.

        A few samples alone would give a grainy estimate. In units of the spread the variance changes slowly from pixel
        to pixel, so it is pooled with a Gaussian weight over the gap around. It is divided by K, not K - 1, where
        samples come in pairs from opposite noise: their mean is next to the true one, no degree of freedom is spent.
        Last it is multiplied by the model's calibration factor.
        """
        if len(self.samples) == 1:
            return np.asarray(self.sigma_factor * self.spread, dtype=np.float32)
        drawn = (self.spread > 0) & np.isfinite(self.samples[0])
        residual = np.divide(self.samples - self.mean, self.spread, out=np.zeros(self.samples.shape), where=drawn)
        weight = ndimage.gaussian_filter(drawn.astype(np.float64), POOLING, mode="constant")
        pooled = ndimage.gaussian_filter(residual.var(axis=0, ddof=0 if self.paired else 1), POOLING, mode="constant")
        ratio = np.sqrt(np.divide(pooled, weight, out=np.zeros(weight.shape), where=drawn))
        return np.asarray(self.sigma_factor * self.spread * ratio, dtype=np.float32)


def fill_array(
    values: NDArray[np.floating],
    known: BoolArray,
    gap: BoolArray,
    model: Model,
    *,
    preset: Preset,
    samples: int,
    seed: int,
    origin: tuple[int, int] = (0, 0),
    coarse: CoarseField | None = None,
    references: NDArray[np.floating] | None = None,
    coarse_references: Sequence[CoarseField] = (),
    callback: Callable[[int, int], None] | None = None,
) -> Filled:
    """Draw samples of the gap of one array that fits in memory.

    Parameters
    ----------
    values
        (H, W) physical values; what stands at unknown pixels is not looked at.
    known, gap
        (H, W); measured, and to be filled. Pixels that are neither stay out: they are not filled.
    model
        A model of five input channels (state, base, spread, gap, guide), or four without the guide; its device is where
        the work is done.
    preset, samples, seed
        How samples are drawn, how many, and the seed. Noise belongs to a pixel of the absolute grid.
    origin
        Row and column of the array's first pixel on the absolute grid.
    coarse
        Block means around the array, for tiles without known pixels; made from the array itself where none is given.
    references
        (K, H, W) other dates of the place or static rasters in any units, NaN where unknown.
    coarse_references
        Block means of each, on the cells of ``coarse``; made from the array itself where ``coarse`` is not given.
    callback
        Called with (evaluations done, all) of this array.

    Returns
    -------
    Filled

    Raises
    ------
    LacunarError
        No known pixel, shapes that differ, fewer than one sample, or references with RePaint, whose prior knows none.
    ModelError
        A model of other channels.
    """
    _check_fill(values, known, gap, references, model, preset, samples, seed)
    shape, side = values.shape, model.network.config.sample_size
    pads = [(0, max(0, max(TILE, side) - length)) for length in shape]
    values, known, gap = np.pad(values, pads), np.pad(known, pads), np.pad(gap, pads)
    if references is not None:
        references = np.pad(references.astype(np.float64), [(0, 0), *pads], constant_values=np.nan)
    if coarse is None:
        coarse = CoarseField.of(values, known, TILE // 4)
        others = references if references is not None else ()
        coarse_references = [CoarseField.of(other, np.isfinite(other), TILE // 4) for other in others]
    if not coarse.known.any():
        raise LacunarError("every pixel is a gap: at least one measured pixel is wanted to start from")
    # The network sees whole tiles: what is unknown in them needs a base too, be it gap or outside the footprint.
    seen = np.zeros(gap.shape, dtype=bool)
    for tile in _tiles(gap, side):
        seen[tile.slices] = True
    conditional = preset.conditional
    field = base_field(
        values,
        known,
        seen & ~known if conditional else seen,
        coarse,
        kriged=conditional,
        references=references,
        coarse_references=coarse_references,
        threads=torch.get_num_threads(),
    )
    filled = fill_from_base(
        field, values, known, gap, model, preset=preset, samples=samples, seed=seed, origin=origin, callback=callback
    )
    cut = (slice(0, shape[0]), slice(0, shape[1]))
    return replace(filled, samples=filled.samples[:, *cut], base=filled.base[cut], spread=filled.spread[cut])


def fill_from_base(
    field: BaseField,
    values: NDArray[np.floating],
    known: BoolArray,
    gap: BoolArray,
    model: Model,
    *,
    preset: Preset,
    samples: int,
    seed: int,
    origin: tuple[int, int] = (0, 0),
    callback: Callable[[int, int], None] | None = None,
) -> Filled:
    """Draw samples of the gap of one array, at least one tile in size, whose base and spread are there already.

    Parameters
    ----------
    field
        Base, spread and guide of the unknown pixels.
    values, known, gap, model, preset, samples, seed, origin, callback
        As in `fill_array`.
    """
    tiles = _tiles(gap, model.network.config.sample_size)
    conditional = preset.conditional
    drawn = np.repeat(np.where(known, values, np.nan)[None], samples, axis=0)
    if tiles:
        denoiser = TiledDenoiser(model, values, known, tiles, field, conditional=conditional)
        noise = pixel_noise(values.shape, origin, samples, seed)
        words = np.random.SeedSequence((seed, *origin)).generate_state(1)
        noise = noise.to(denoiser.norm.device)
        z = _sample(denoiser, values, known, field, model, preset, noise, int(words[0]), callback)
        drawn = np.where(gap & ~known, field.base + field.spread * z, drawn)
    return Filled(
        samples=drawn.astype(np.float32),
        base=field.base.astype(np.float32),
        spread=np.where(known, 0.0, field.spread).astype(np.float32),
        tiles=len(tiles),
        coarse_tiles=field.coarse_tiles,
        evaluations=preset.evaluations if tiles else 0,
        paired=conditional and samples % 2 == 0,
        # A sampler's factor is that of the spread of several samples; the mean alone has one of the classical spread.
        sigma_factor=model.card.sigma_factor.get(preset.name, 1.0) if samples > 1 or preset.mean_only else 1.0,
        error_quantiles=model.card.error_quantiles.get(preset.name, {}),
    )


def _tiles(gap: BoolArray, side: int) -> Sequence[Tile]:
    """Tiles of the network that touch the gap."""
    return tiles_touching(tiles_over((gap.shape[0], gap.shape[1]), tile=side, overlap=overlap_of(side)), gap)


def _check_fill(
    values: NDArray[np.floating],
    known: BoolArray,
    gap: BoolArray,
    references: NDArray[np.floating] | None,
    model: Model,
    preset: Preset,
    samples: int,
    seed: int,
) -> None:
    """Refuse what cannot be filled."""
    if not (values.shape == known.shape == gap.shape) or samples < 1 or seed < 0:
        raise LacunarError(
            f"got shapes {values.shape}, {known.shape}, {gap.shape}, {samples} samples and seed {seed}; wanted one "
            "shape, 1 sample or more and a seed from 0"
        )
    if references is not None and references.shape[1:] != values.shape:
        raise LacunarError(
            f"references have shape {references.shape}, wanted (K, {values.shape[0]}, {values.shape[1]})"
        )
    if references is not None and len(references) and not preset.conditional:
        raise LacunarError(
            f"preset {preset.name or 'without a name'} is {SAMPLERS[preset.sampler].label}, whose prior knows no "
            "references: choose fast or balanced"
        )
    preset.check_samples(samples)
    if model.network.in_channels not in CHANNELS or model.network.out_channels != 1:
        raise ModelError(
            f"model {model.name} takes {model.network.in_channels} channels and gives {model.network.out_channels}; "
            f"wanted {CHANNELS[0]} (state, base, spread, gap) or {CHANNELS[1]} (and guide), and 1: choose an LST model"
        )


def _sample(
    denoiser: "TiledDenoiser",
    values: NDArray[np.floating],
    known: BoolArray,
    field: BaseField,
    model: Model,
    preset: Preset,
    noise: Tensor,
    seed: int,
    callback: Callable[[int, int], None] | None,
) -> FloatArray:
    """Residuals z (K, H, W), by the preset's sampler.

    The noise that a sampler draws on its way does not belong to pixels as ``noise`` does: it comes from ``seed``.
    """
    device = next(model.network.parameters()).device
    inside = known & (field.spread > 0)  # for a conditional sampler nowhere

    def state(physical: NDArray[np.floating], where: BoolArray) -> Tensor:
        """Physical values as residuals, 0 elsewhere, in the shape of the noise."""
        z = np.divide(physical - field.base, field.spread, out=np.zeros(known.shape), where=where)
        return torch.from_numpy(z).to(noise)[None, None].expand_as(noise)

    with torch.inference_mode():
        measurement = None
        if not preset.conditional:
            measurement = Mask(torch.from_numpy(inside).to(device)[None, None]).measure(state(values, inside))
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
