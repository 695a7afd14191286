"""One denoiser of a whole array: the network on overlapping tiles, their predictions averaged at every step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lacunar.geo.windows import Tile, blend_weights
from lacunar.interpolate.background import MIN_KNOWN, Background
from lacunar.interpolate.scaling import tile_statistics
from lacunar.models.checkpoint import Model
from lacunar.networks.conditioning import network_input

OVERLAP = 16  # pixels that neighbouring tiles share; a quarter of smaller tiles
BATCH = 32  # tiles and samples in one call of the network on a CPU
GPU_BATCHES = 8  # so many of these in one call on a GPU, which fewer do not fill

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


class TiledNetwork(ABC):
    """A ``Denoiser`` of a whole array: a network on every tile, the predictions averaged where tiles overlap.

    Parameters
    ----------
    tiles, shape
        Tiles of one size, and height and width of the array.
    device
        Where the network lives.
    overlap
        Pixels over which the weight of a tile rises from its border.
    batch
        Tiles and samples in one call of the network on a CPU; on a GPU there are `GPU_BATCHES` times as many.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        shape: tuple[int, int],
        *,
        device: torch.device,
        overlap: int,
        batch: int = BATCH,
    ) -> None:
        self.tiles = tiles
        self.batch = batch * GPU_BATCHES if device.type == "cuda" else batch
        self.weight = torch.from_numpy(blend_weights(tiles[0].shape, overlap=overlap)).float().to(device)
        self.norm = torch.zeros(shape, device=device)
        for tile in tiles:
            self.norm[tile.slices] += self.weight
        self.norm.clamp_(min=torch.finfo(torch.float32).tiny)

    @abstractmethod
    def predict(self, patches: Tensor, t: Tensor, first: int, last: int) -> Tensor:
        """Predict for patches (B, C, h, w) of the tiles ``first`` to ``last`` - 1 at the times t (B,).

        Every sample of one tile comes before the next tile: B = (last - first) * samples.
        """

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Predict for x_t (K, C, H, W) at the times t (K,)."""
        total, count = torch.zeros_like(x_t), len(x_t)
        per_call = max(1, self.batch // count)
        for first in range(0, len(self.tiles), per_call):
            tiles = self.tiles[first : first + per_call]
            patches = torch.cat([x_t[:, :, *tile.slices] for tile in tiles])
            output = self.predict(patches, t.repeat(len(tiles)), first, first + len(tiles))
            for tile, prediction in zip(tiles, torch.split(output, count), strict=True):
                total[:, :, *tile.slices] += self.weight * prediction
        return total / self.norm


class TiledGapNetwork(TiledNetwork):
    """A network that restores gaps, on tiles."""

    def __init__(self, model: Model, tiles: Sequence[Tile], shape: tuple[int, int]) -> None:
        self.network = model.network
        device = next(model.network.parameters()).device
        super().__init__(tiles, shape, device=device, overlap=overlap_of(tiles[0].height))

    @abstractmethod
    def given(self, first: int, last: int, count: int) -> tuple[Tensor, Tensor]:
        """Condition (B, D, h, w) and gap (B, 1, h, w) of the tiles ``first`` to ``last`` - 1, for ``count`` samples."""

    def predict(self, patches: Tensor, t: Tensor, first: int, last: int) -> Tensor:
        """Predict for the patches of some tiles."""
        condition, gap = self.given(first, last, len(patches) // (last - first))
        output: Tensor = self.network(network_input(patches, condition, gap), t)
        return output


class TiledDenoiser(TiledGapNetwork):
    """The network of an array with one channel, on tiles that are each standardised by their own known pixels."""

    def __init__(
        self,
        model: Model,
        values: NDArray[np.floating],
        known: BoolArray,
        tiles: Sequence[Tile],
        field: Background,
        *,
        conditional: bool,
    ) -> None:
        super().__init__(model, tiles, (known.shape[0], known.shape[1]))
        device = self.norm.device
        conditions, gaps = [], []
        for tile in self.tiles:
            unknown, base, spread = (~known)[tile.slices], field.mean[tile.slices], field.sigma[tile.slices]
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
