"""Fill the gaps of one array: kriging says where to start, the diffusion network samples what kriging leaves open.

The state of the diffusion is the residual over a base in units of a spread, ``x = base + spread * z``:

- conditional (presets ``fast``, ``balanced``): base and spread are the kriged value and its standard deviation, the
  network sees both and the gap, and DDIM carries pure noise to z in a few evaluations;
- RePaint (preset ``paper``): base and spread are the mean and standard deviation of the known pixels, the network is
  told that everything is gap (it then is an unconditional prior), and Algorithm 1 of RePaint holds it to what is known.

Overlapping tiles are denoised together: their predictions are averaged at every step, so there is one state, no seam.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from lacunar.basefield import MIN_KNOWN, TILE, BaseField, CoarseField, base_field
from lacunar.checkpoint import Model
from lacunar.errors import LacunarError, ModelError
from lacunar.networks.conditioning import network_input
from lacunar.repaint import jump_timetable, repaint_sample
from lacunar.sampling import ddim_sample
from lacunar.scaling import tile_statistics
from lacunar.tiling import Tile, blend_weights, tiles_over, tiles_touching

PresetName = Literal["fast", "balanced", "paper"]
PRESET_NAMES: tuple[PresetName, ...] = get_args(PresetName)

OVERLAP = 16  # pixels that neighbouring tiles share; a quarter of smaller tiles
NOISE_CELL = 64  # side of the cells on the absolute pixel grid that each have their own noise
POOLING = 2.0  # pixels: width of the Gaussian over which the samples' variance is pooled
BATCH = 32  # tiles and samples in one call of the network

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Preset:
    """How samples are drawn: steps of the schedule, RePaint's jumps (None = conditional DDIM); and a name."""

    steps: int
    jump_length: int | None = None
    jump_n_sample: int | None = None
    name: str = ""

    @property
    def evaluations(self) -> int:
        """Network evaluations for each sample of each tile."""
        if self.jump_length is None or self.jump_n_sample is None:
            return self.steps
        times = jump_timetable(self.steps, self.jump_length, self.jump_n_sample)
        return sum(after < before for before, after in pairwise(times))


PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        "fast": Preset(steps=10, name="fast"),
        "balanced": Preset(steps=25, name="balanced"),
        "paper": Preset(steps=250, jump_length=10, jump_n_sample=10, name="paper"),
    }
)


def preset_named(name: str) -> Preset:
    """Return a preset; an unknown name is a ``LacunarError`` that lists the known ones."""
    if name not in PRESETS:
        raise LacunarError(f"unknown preset {name!r}: choose one of {', '.join(PRESET_NAMES)}")
    return PRESETS[name]  # type: ignore[index]


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
    sigma_factor
        Calibration of the model for this preset, from its card.
    """

    samples: NDArray[np.float32]
    base: NDArray[np.float32]
    spread: NDArray[np.float32]
    tiles: int
    coarse_tiles: int
    evaluations: int
    paired: bool = True
    sigma_factor: float = 1.0

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean of the samples."""
        mean: NDArray[np.float32] = self.samples.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean

    @property
    def sigma(self) -> NDArray[np.float32]:
        """Standard deviation of the samples; of one sample, the classical fill's.

        A few samples alone would give a grainy estimate. In units of the spread the variance changes slowly from pixel
        to pixel, so it is pooled with a Gaussian weight over the gap around. It is divided by K, not K - 1, where
        samples come in pairs from opposite noise: their mean is next to the true one, no degree of freedom is spent.
        Last it is multiplied by the model's calibration factor.
        """
        if len(self.samples) == 1:
            return self.spread
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
        A model of four input channels (state, base, spread, gap); its device is where the work is done.
    preset, samples, seed
        How samples are drawn, how many, and the seed. Noise belongs to a pixel of the absolute grid.
    origin
        Row and column of the array's first pixel on the absolute grid.
    coarse
        Block means around the array, for tiles without known pixels; made from the array itself where none is given.
    callback
        Called with (evaluations done, all) of this array.

    Returns
    -------
    Filled

    Raises
    ------
    LacunarError
        No known pixel, shapes that differ, or fewer than one sample.
    ModelError
        A model of other channels.
    """
    if not (values.shape == known.shape == gap.shape) or samples < 1 or seed < 0:
        raise LacunarError(
            f"got shapes {values.shape}, {known.shape}, {gap.shape}, {samples} samples and seed {seed}; wanted one "
            "shape, 1 sample or more and a seed from 0"
        )
    if (model.network.in_channels, model.network.out_channels) != (4, 1):
        raise ModelError(
            f"model {model.name} takes {model.network.in_channels} channels and gives {model.network.out_channels}; "
            "wanted 4 (state, base, spread, gap) and 1: choose an LST model"
        )
    shape, side = values.shape, model.network.config.sample_size
    pads = [(0, max(0, max(TILE, side) - length)) for length in shape]
    values, known, gap = np.pad(values, pads), np.pad(known, pads), np.pad(gap, pads)
    coarse = coarse or CoarseField.of(values, known, TILE // 4)
    if not coarse.known.any():
        raise LacunarError("every pixel is a gap: at least one measured pixel is wanted to start from")
    extent = (gap.shape[0], gap.shape[1])
    tiles = tiles_touching(tiles_over(extent, tile=side, overlap=_overlap(side)), gap)
    # The network sees whole tiles: what is unknown in them needs a base too, be it gap or outside the footprint.
    seen = np.zeros(extent, dtype=bool)
    for tile in tiles:
        seen[tile.slices] = True
    conditional = preset.jump_length is None
    field = base_field(values, known, seen & ~known if conditional else seen, coarse, kriged=conditional)
    drawn = np.repeat(np.where(known, values, np.nan)[None], samples, axis=0)
    if tiles:
        denoiser = _TiledDenoiser(model, values, known, tiles, field, conditional=conditional)
        noise = _noise(values.shape, origin, samples, seed)
        words = np.random.SeedSequence((seed, *origin)).generate_state(1)
        z = _sample(denoiser, values, known, field, model, preset, noise, int(words[0]), callback)
        drawn = np.where(gap & ~known, field.base + field.spread * z, drawn)
    cut = (slice(0, shape[0]), slice(0, shape[1]))
    return Filled(
        samples=drawn[:, *cut].astype(np.float32),
        base=field.base[cut].astype(np.float32),
        spread=np.where(known, 0.0, field.spread)[cut].astype(np.float32),
        tiles=len(tiles),
        coarse_tiles=field.coarse_tiles,
        evaluations=preset.evaluations if tiles else 0,
        paired=conditional and samples % 2 == 0,
        sigma_factor=model.card.sigma_factor.get(preset.name, 1.0),
    )


def _sample(
    denoiser: "_TiledDenoiser",
    values: NDArray[np.floating],
    known: BoolArray,
    field: BaseField,
    model: Model,
    preset: Preset,
    noise: Tensor,
    seed: int,
    callback: Callable[[int, int], None] | None,
) -> FloatArray:
    """Residuals z (K, H, W): DDIM on the conditional network, or RePaint on the unconditional one.

    The noise that RePaint draws on its way does not belong to pixels as ``noise`` does: it comes from ``seed``.
    """
    device = next(model.network.parameters()).device
    noise, schedule = noise.to(device), model.schedule.respaced(preset.steps)
    with torch.inference_mode():
        if preset.jump_length is None or preset.jump_n_sample is None:
            z = ddim_sample(denoiser, noise, schedule, prediction=model.prediction, callback=callback)
        else:
            inside = known & (field.spread > 0)
            known_z = np.divide(values - field.base, field.spread, out=np.zeros(known.shape), where=inside)
            z = repaint_sample(
                denoiser,
                torch.from_numpy(known_z).to(noise)[None, None].expand_as(noise),
                torch.from_numpy(inside).to(device)[None, None],
                noise,
                schedule,
                jump_length=preset.jump_length,
                jump_n_sample=preset.jump_n_sample,
                prediction=model.prediction,
                generator=torch.Generator().manual_seed(seed),
                callback=callback,
            )
    return np.asarray(z[:, 0].double().cpu().numpy())


def _noise(shape: Sequence[int], origin: tuple[int, int], samples: int, seed: int) -> Tensor:
    """Standard normal noise (K, 1, H, W) that belongs to absolute pixels, in pairs of opposite sign.

    Opposite pairs (antithetic variates) cancel what is linear in the noise, so the mean of few samples lies close to
    the posterior mean.
    """
    half = (samples + 1) // 2
    noise = torch.empty(half, 1, *shape)
    first = [start // NOISE_CELL for start in origin]
    last = [(start + length - 1) // NOISE_CELL for start, length in zip(origin, shape, strict=True)]
    for row in range(first[0], last[0] + 1):
        for col in range(first[1], last[1] + 1):
            words = np.random.SeedSequence((seed, row, col)).generate_state(2, dtype=np.uint32)
            generator = torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))
            cell = torch.randn(half, 1, NOISE_CELL, NOISE_CELL, generator=generator)
            top, left = row * NOISE_CELL - origin[0], col * NOISE_CELL - origin[1]
            rows = slice(max(0, top), min(shape[0], top + NOISE_CELL))
            cols = slice(max(0, left), min(shape[1], left + NOISE_CELL))
            noise[:, :, rows, cols] = cell[
                :, :, rows.start - top : rows.stop - top, cols.start - left : cols.stop - left
            ]
    return torch.cat([noise, -noise])[:samples] if samples > 1 else noise


class _TiledDenoiser:
    """A ``Denoiser`` of a whole array: the network on every tile, the predictions averaged where tiles overlap."""

    def __init__(
        self,
        model: Model,
        values: NDArray[np.floating],
        known: BoolArray,
        tiles: Sequence[Tile],
        field: BaseField,
        *,
        conditional: bool,
    ) -> None:
        self.network, self.tiles = model.network, tiles
        device = next(model.network.parameters()).device
        weight = blend_weights(tiles[0].shape, overlap=_overlap(tiles[0].height))
        self.weight = torch.from_numpy(weight).float().to(device)
        self.norm = torch.zeros(known.shape, device=device)
        conditions, gaps = [], []
        for tile in self.tiles:
            self.norm[tile.slices] += self.weight
            unknown, base, spread = (~known)[tile.slices], field.base[tile.slices], field.spread[tile.slices]
            if conditional:
                mean, scale = _tile_scale(values[tile.slices], ~unknown, base, spread)
                conditions.append(np.stack([(base - mean) / scale, spread / scale]))
                gaps.append(unknown[None])
            else:
                conditions.append(np.stack([np.zeros(tile.shape), np.ones(tile.shape)]))
                gaps.append(np.ones((1, *tile.shape), dtype=bool))
        self.condition = torch.from_numpy(np.stack(conditions)).float().to(device)
        self.gap = torch.from_numpy(np.stack(gaps)).float().to(device)
        self.norm.clamp_(min=torch.finfo(torch.float32).tiny)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Predict for x_t (K, 1, H, W) at the times t (K,)."""
        total, count = torch.zeros_like(x_t), len(x_t)
        per_call = max(1, BATCH // count)
        for first in range(0, len(self.tiles), per_call):
            tiles = self.tiles[first : first + per_call]
            patches = torch.cat([x_t[:, :, *tile.slices] for tile in tiles])
            condition = self.condition[first : first + per_call].repeat_interleave(count, dim=0)
            gap = self.gap[first : first + per_call].repeat_interleave(count, dim=0)
            output = self.network(network_input(patches, condition, gap), t.repeat(len(tiles)))
            for tile, prediction in zip(tiles, output.split(count), strict=True):
                total[:, :, *tile.slices] += self.weight * prediction
        return total / self.norm


def _overlap(side: int) -> int:
    """Pixels that neighbouring tiles of this side share."""
    return min(OVERLAP, side // 4)


def _tile_scale(
    values: NDArray[np.floating], known: BoolArray, base: FloatArray, spread: FloatArray
) -> tuple[float, float]:
    """Mean and standard deviation of a tile's known pixels; of its base and spread where hardly any is known."""
    if known.sum() >= MIN_KNOWN:
        return tile_statistics(values, known)
    return float(base.mean()), float(np.sqrt(np.mean(spread**2) + base.var()))
