"""One denoiser of a whole array: the network on overlapping tiles, their predictions averaged at every step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lacunar.basefield import MIN_KNOWN, BaseField
from lacunar.checkpoint import Model
from lacunar.networks.conditioning import network_input
from lacunar.scaling import tile_statistics
from lacunar.tiling import Tile, blend_weights

OVERLAP = 16  # pixels that neighbouring tiles share; a quarter of smaller tiles
BATCH = 32  # tiles and samples in one call of the network

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


class TiledNetwork(ABC):
    """A ``Denoiser`` of a whole array: the network on every tile, the predictions averaged where tiles overlap."""

    def __init__(self, model: Model, tiles: Sequence[Tile], shape: tuple[int, int]) -> None:
        self.network, self.tiles = model.network, tiles
        device = next(model.network.parameters()).device
        weight = blend_weights(tiles[0].shape, overlap=overlap_of(tiles[0].height))
        self.weight = torch.from_numpy(weight).float().to(device)
        self.norm = torch.zeros(shape, device=device)
        for tile in tiles:
            self.norm[tile.slices] += self.weight
        self.norm.clamp_(min=torch.finfo(torch.float32).tiny)

    @abstractmethod
    def given(self, first: int, last: int, count: int) -> tuple[Tensor, Tensor]:
        """Condition (B, D, h, w) and gap (B, 1, h, w) of the tiles ``first`` to ``last`` - 1, for ``count`` samples.

        Every sample of one tile comes before the next tile: B = (last - first) * count.
        """

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Predict for x_t (K, C, H, W) at the times t (K,)."""
        total, count = torch.zeros_like(x_t), len(x_t)
        per_call = max(1, BATCH // count)
        for first in range(0, len(self.tiles), per_call):
            tiles = self.tiles[first : first + per_call]
            patches = torch.cat([x_t[:, :, *tile.slices] for tile in tiles])
            condition, gap = self.given(first, first + len(tiles), count)
            output = self.network(network_input(patches, condition, gap), t.repeat(len(tiles)))
            for tile, prediction in zip(tiles, output.split(count), strict=True):
                total[:, :, *tile.slices] += self.weight * prediction
        return total / self.norm


class TiledDenoiser(TiledNetwork):
    """The network of an array with one channel, on tiles that are each standardised by their own known pixels."""

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
        super().__init__(model, tiles, (known.shape[0], known.shape[1]))
        device = self.norm.device
        conditions, gaps = [], []
        for tile in self.tiles:
            unknown, base, spread = (~known)[tile.slices], field.base[tile.slices], field.spread[tile.slices]
            if conditional:
                mean, scale = _tile_scale(values[tile.slices], ~unknown, base, spread)
                guide = field.guide[tile.slices]
                conditions.append(np.stack([(base - mean) / scale, spread / scale, (guide - guide.mean()) / scale]))
                gaps.append(unknown[None])
            else:
                conditions.append(np.stack([np.zeros(tile.shape), np.ones(tile.shape), np.zeros(tile.shape)]))
                gaps.append(np.ones((1, *tile.shape), dtype=bool))
        heard = model.network.in_channels - 2  # all but state and gap
        self.condition = torch.from_numpy(np.stack(conditions)[:, :heard]).float().to(device)
        self.gap = torch.from_numpy(np.stack(gaps)).float().to(device)

    def given(self, first: int, last: int, count: int) -> tuple[Tensor, Tensor]:
        """Condition and gap of some tiles, repeated for each sample."""
        condition, gap = self.condition[first:last], self.gap[first:last]
        return condition.repeat_interleave(count, dim=0), gap.repeat_interleave(count, dim=0)


def overlap_of(side: int) -> int:
    """Pixels that neighbouring tiles of this side share."""
    return min(OVERLAP, side // 4)


def _tile_scale(
    values: NDArray[np.floating], known: BoolArray, base: FloatArray, spread: FloatArray
) -> tuple[float, float]:
    """Mean and standard deviation of a tile's known pixels; of its base and spread where hardly any is known."""
    if known.sum() >= MIN_KNOWN:
        return tile_statistics(values, known)
    return float(base.mean()), float(np.sqrt(np.mean(spread**2) + base.var()))
