"""Fill the gaps of one array: kriging says where to start, the diffusion network samples what kriging leaves open.

The state of the diffusion is the residual over a base in units of a spread, ``x = base + spread * z``:

- conditional (presets ``fast``, ``balanced``): base and spread are the kriged value and its standard deviation, the
  network sees both and the gap, and DDIM carries pure noise to z in a few evaluations;
- RePaint (preset ``paper``): base and spread are the mean and standard deviation of the known pixels, the network is
  told that everything is gap (it then is an unconditional prior), and Algorithm 1 of RePaint holds it to the known ones.

Overlapping tiles are denoised together: at every step their predictions are averaged, so there is one state and no seam.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from lacunar.checkpoint import Model
from lacunar.errors import LacunarError, ModelError
from lacunar.interpolation import fit_covariance, krige
from lacunar.networks.conditioning import network_input
from lacunar.repaint import jump_timetable, repaint_sample
from lacunar.sampling import ddim_sample
from lacunar.scaling import tile_statistics
from lacunar.tiling import Tile, blend_weights, tiles_over, tiles_touching

PresetName = Literal["fast", "balanced", "paper"]
PRESET_NAMES: tuple[PresetName, ...] = get_args(PresetName)

OVERLAP = 16  # pixels that neighbouring tiles share
KRIGING_MARGIN = 32  # pixels around a tile whose known values enter its kriging
MIN_KNOWN = 16  # fewer known pixels in a tile and its margin: its base comes from a coarser level
NOISE_CELL = 64  # side of the cells on the absolute pixel grid that each have their own noise
BATCH = 32  # tiles and samples in one call of the network

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Preset:
    """How samples are drawn: steps of the schedule, and RePaint's jumps (None = conditional DDIM)."""

    steps: int
    jump_length: int | None = None
    jump_n_sample: int | None = None

    @property
    def evaluations(self) -> int:
        """Network evaluations for each sample of each tile."""
        if self.jump_length is None or self.jump_n_sample is None:
            return self.steps
        times = jump_timetable(self.steps, self.jump_length, self.jump_n_sample)
        return sum(after < before for before, after in zip(times, times[1:], strict=False))


PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        "fast": Preset(steps=10),
        "balanced": Preset(steps=25),
        "paper": Preset(steps=250, jump_length=10, jump_n_sample=10),
    }
)


def preset_named(name: str) -> Preset:
    """Return a preset; an unknown name is a ``LacunarError`` that lists the known ones."""
    if name not in PRESETS:
        raise LacunarError(f"unknown preset {name!r}: choose one of {', '.join(PRESET_NAMES)}")
    return PRESETS[name]  # type: ignore[index]


@dataclass(frozen=True)
class CoarseField:
    """Block means of a raster's known pixels: what is known of places that are far from any measured pixel.

    Parameters
    ----------
    values, known
        (h, w): mean of the known pixels of each cell, and whether it has any.
    within
        Mean variance of the known pixels inside a cell.
    reduction
        Side of a cell in pixels.
    origin
        Row and column of the raster where the array to be filled begins.
    """

    values: FloatArray
    known: BoolArray
    within: float
    reduction: int
    origin: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, values: NDArray[np.floating], known: BoolArray, reduction: int) -> "CoarseField":
        """Reduce one array by ``reduction``."""
        pads = [(0, -length % reduction) for length in known.shape]
        shape = [(length + pad) // reduction for length, (_, pad) in zip(known.shape, pads, strict=True)]
        blocks = (shape[0], reduction, shape[1], reduction)
        inside = np.pad(known, pads).reshape(blocks)
        padded = np.pad(np.where(known, values, 0.0).astype(np.float64), pads).reshape(blocks)
        count = inside.sum(axis=(1, 3))
        mean = np.divide(padded.sum(axis=(1, 3)), count, out=np.zeros(count.shape), where=count > 0)
        squared = np.where(inside, (padded - mean[:, None, :, None]) ** 2, 0.0).sum()
        return cls(mean, count > 0, float(squared) / max(1, int(count.sum())), reduction)

    def at(self, tile: Tile) -> tuple[FloatArray, FloatArray]:
        """Base and spread of a tile: cells kriged in a window that grows until it holds enough known ones."""
        row, col = tile.row + self.origin[0], tile.col + self.origin[1]
        top, left = row // self.reduction, col // self.reduction
        bottom = -(-(row + tile.height) // self.reduction)
        right = -(-(col + tile.width) // self.reduction)
        margin, height, width = 4, *self.known.shape
        while True:
            window = (slice(max(0, top - margin), bottom + margin), slice(max(0, left - margin), right + margin))
            known = self.known[window]
            if known.sum() >= min(MIN_KNOWN, self.known.sum()) or margin > max(height, width):
                break
            margin *= 2
        mean, std = krige(self.values[window], known)
        rows = (np.arange(row, row + tile.height) + 0.5) / self.reduction - 0.5 - window[0].start
        cols = (np.arange(col, col + tile.width) + 0.5) / self.reduction - 0.5 - window[1].start
        grid = np.meshgrid(rows, cols, indexing="ij")
        base, variance = (ndimage.map_coordinates(a, grid, order=1, mode="nearest") for a in (mean, std**2))
        return base, np.sqrt(variance + self.within)


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
        Tiles computed, and those of them too far from measured pixels, based on a coarser level.
    evaluations
        Network evaluations for each sample of each tile.
    """

    samples: NDArray[np.float32]
    base: NDArray[np.float32]
    spread: NDArray[np.float32]
    tiles: int
    coarse_tiles: int
    evaluations: int

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean of the samples."""
        mean: NDArray[np.float32] = self.samples.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean

    @property
    def sigma(self) -> NDArray[np.float32]:
        """Standard deviation of the samples; of one sample, the classical fill's.

        Divided by K, not K - 1: the samples come in pairs from opposite noise, which puts their mean next to the true
        one, so no degree of freedom is spent on it.
        """
        if len(self.samples) == 1:
            return self.spread
        sigma: NDArray[np.float32] = self.samples.std(axis=0, dtype=np.float64).astype(np.float32)
        return sigma


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
    if not (values.shape == known.shape == gap.shape) or samples < 1:
        raise LacunarError(
            f"got shapes {values.shape}, {known.shape}, {gap.shape} and {samples} samples; wanted one shape"
        )
    if (model.network.in_channels, model.network.out_channels) != (4, 1):
        raise ModelError(
            f"model {model.name} takes {model.network.in_channels} channels and gives {model.network.out_channels}; "
            "wanted 4 (state, base, spread, gap) and 1: choose an LST model"
        )
    shape, side = values.shape, model.network.config.sample_size
    pads = [(0, max(0, side - length)) for length in shape]
    values, known, gap = np.pad(values, pads), np.pad(known, pads), np.pad(gap, pads)
    coarse = coarse or CoarseField.of(values, known, side // 4)
    if not coarse.known.any():
        raise LacunarError("every pixel is a gap: at least one measured pixel is wanted to start from")
    tiles = tiles_touching(tiles_over((values.shape[0], values.shape[1]), tile=side, overlap=OVERLAP), gap)
    if not tiles:
        same = np.where(known, values, np.nan).astype(np.float32)[: shape[0], : shape[1]]
        return Filled(np.repeat(same[None], samples, axis=0), same, np.zeros_like(same), 0, 0, 0)
    conditional = preset.jump_length is None
    field = _start(values, known, tiles, coarse, conditional=conditional)
    device = next(model.network.parameters()).device
    denoiser = _TiledDenoiser(model, field, known, tiles, conditional=conditional)
    noise = _noise(values.shape, origin, samples, seed).to(device)
    schedule = model.schedule.respaced(preset.steps)
    with torch.inference_mode():
        if preset.jump_length is None or preset.jump_n_sample is None:
            z = ddim_sample(denoiser, noise, schedule, prediction=model.prediction, callback=callback)
        else:
            known_z = torch.from_numpy(np.where(known, (values - field.base) / field.spread, 0.0)).to(noise)
            z = repaint_sample(
                denoiser,
                known_z[None, None].expand_as(noise),
                torch.from_numpy(known).to(device)[None, None],
                noise,
                schedule,
                jump_length=preset.jump_length,
                jump_n_sample=preset.jump_n_sample,
                prediction=model.prediction,
                generator=torch.Generator(device).manual_seed(seed),
                callback=callback,
            )
    drawn = field.base + field.spread * z[:, 0].double().cpu().numpy()
    drawn = np.where(known, values, np.where(gap, drawn, np.nan)).astype(np.float32)
    cut = (slice(0, shape[0]), slice(0, shape[1]))
    base = np.where(known, values, field.base).astype(np.float32)[cut]
    spread = np.where(known, 0.0, field.spread).astype(np.float32)[cut]
    return Filled(drawn[:, *cut], base, spread, len(tiles), field.coarse_tiles, preset.evaluations)


@dataclass(frozen=True)
class _Start:
    """Base and spread (H, W) blended over the tiles, mean and scale of each, and how many are of the coarse level."""

    base: FloatArray
    spread: FloatArray
    scales: tuple[tuple[float, float], ...]
    coarse_tiles: int


def _start(
    values: NDArray[np.floating], known: BoolArray, tiles: Sequence[Tile], coarse: CoarseField, *, conditional: bool
) -> _Start:
    """Base and spread of every tile, blended: kriging for conditional sampling, mean and deviation for RePaint."""
    total, variance, norm = (np.zeros(values.shape) for _ in range(3))
    weight = blend_weights(tiles[0].shape, overlap=OVERLAP)
    scales, coarse_tiles = [], 0
    for tile in tiles:
        window = _grown(tile, values.shape)
        near = known[window.slices]
        if near.sum() < MIN_KNOWN:
            base, spread = coarse.at(tile)
            scale = (float(base.mean()), float(np.sqrt(np.mean(spread**2))))
            coarse_tiles += 1
        else:
            own = known[tile.slices].sum() >= MIN_KNOWN
            scale = tile_statistics(values[(tile if own else window).slices], known[(tile if own else window).slices])
            base, spread = _kriged(values, known, tile, window)
        if not conditional:
            base, spread = np.full(tile.shape, scale[0]), np.full(tile.shape, scale[1])
        total[tile.slices] += weight * base
        variance[tile.slices] += weight * spread**2
        norm[tile.slices] += weight
        scales.append(scale)
    norm = np.maximum(norm, np.finfo(float).tiny)
    return _Start(total / norm, np.sqrt(variance / norm), tuple(scales), coarse_tiles)


def _grown(tile: Tile, shape: Sequence[int]) -> Tile:
    """The tile with its kriging margin, cut at the array's border."""
    top, left = max(0, tile.row - KRIGING_MARGIN), max(0, tile.col - KRIGING_MARGIN)
    bottom = min(shape[0], tile.row + tile.height + KRIGING_MARGIN)
    right = min(shape[1], tile.col + tile.width + KRIGING_MARGIN)
    return Tile(top, left, bottom - top, right - left)


def _kriged(values: NDArray[np.floating], known: BoolArray, tile: Tile, window: Tile) -> tuple[FloatArray, FloatArray]:
    """Kriging of the unknown pixels of a tile from the known ones of a window around it."""
    inner = Tile(tile.row - window.row, tile.col - window.col, tile.height, tile.width)
    targets = np.zeros(window.shape, dtype=bool)
    targets[inner.slices] = True
    near_values, near_known = values[window.slices], known[window.slices]
    covariance = fit_covariance(near_values, near_known)
    mean, std = krige(near_values, near_known, covariance=covariance, targets=targets)
    return mean[inner.slices], std[inner.slices]


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
        self, model: Model, start: _Start, known: BoolArray, tiles: Sequence[Tile], *, conditional: bool
    ) -> None:
        self.network = model.network
        self.tiles = tiles
        device = next(model.network.parameters()).device
        self.weight = torch.from_numpy(blend_weights(tiles[0].shape, overlap=OVERLAP)).float().to(device)
        self.norm = torch.zeros(known.shape, device=device)
        conditions, gaps = [], []
        for tile, (mean, scale) in zip(tiles, start.scales, strict=True):
            self.norm[tile.slices] += self.weight
            unknown = ~known[tile.slices] if conditional else np.ones(tile.shape, dtype=bool)
            if conditional:
                base = (start.base[tile.slices] - mean) / scale
                spread = np.where(unknown, start.spread[tile.slices] / scale, 0.0)
            else:
                base, spread = np.zeros(tile.shape), np.ones(tile.shape)
            conditions.append(np.stack([base, spread]))
            gaps.append(unknown[None])
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
