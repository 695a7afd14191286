"""One denoiser of a whole array: the network on overlapping tiles, their predictions averaged at every step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lacunar.errors import ModelError
from lacunar.geo.windows import Tile, blend_weights
from lacunar.models.checkpoint import Model
from lacunar.networks.layers import network_input

OVERLAP = 16  # pixels that neighbouring tiles share; a quarter of smaller tiles
BATCH = 32  # tiles and samples in one call of the network on a CPU
USUAL_SIDE = 64  # pixels of a tile for which `BATCH` is meant
GPU_BATCHES = 8  # so many of these in one call on a GPU, which fewer do not fill

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


class TiledNetwork(ABC):
    """A ``Denoiser`` of a whole array: a network on every tile, the predictions averaged where tiles overlap.

    ``tiles`` are of one size on an array of this ``shape``; the weight of a tile rises over ``overlap`` pixels from its
    border. ``batch`` tiles and samples go into one call of the network on a CPU, `GPU_BATCHES` times as many on a GPU.
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

        All samples of one tile come before the next tile: B = (last - first) * samples.
        """

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Predict for x_t (K, C, H, W) at the times t (K,): (K, C, H, W), or (K, 2C, H, W) with learned variance."""
        total, count = None, len(x_t)
        per_call = max(1, self.batch // count)
        for first in range(0, len(self.tiles), per_call):
            tiles = self.tiles[first : first + per_call]
            patches = torch.cat([x_t[:, :, *tile.slices] for tile in tiles])
            output = self.predict(patches, t.repeat(len(tiles)), first, first + len(tiles))
            if total is None:
                total = x_t.new_zeros(count, output.shape[1], *x_t.shape[2:])
            for tile, prediction in zip(tiles, torch.split(output, count), strict=True):
                total[:, :, *tile.slices] += self.weight * prediction
        if total is None:
            raise ModelError("got no tile to predict on, wanted one or more")
        averaged: Tensor = total / self.norm
        return averaged


class TiledGapNetwork(TiledNetwork):
    """A network that restores what is missing, on tiles."""

    def __init__(self, model: Model, tiles: Sequence[Tile], shape: tuple[int, int]) -> None:
        self.network = model.network
        device = next(model.network.parameters()).device
        super().__init__(tiles, shape, device=device, overlap=overlap_of(tiles[0].height))

    @abstractmethod
    def given(self, first: int, last: int, count: int) -> tuple[Tensor, Tensor]:
        """Condition (B, D, h, w) and missing (B, 1, h, w) of the tiles ``first`` to ``last`` - 1, ``count`` times."""

    def predict(self, patches: Tensor, t: Tensor, first: int, last: int) -> Tensor:
        """Predict for the patches of some tiles."""
        condition, missing = self.given(first, last, len(patches) // (last - first))
        output: Tensor = self.network(network_input(patches, condition, missing), t)
        return output


class TiledPrior(TiledNetwork):
    """An unconditional network, which is given the state alone, on tiles."""

    def __init__(self, model: Model, tiles: Sequence[Tile], shape: tuple[int, int]) -> None:
        self.network, side = model.network, tiles[0].height
        device = next(model.network.parameters()).device
        batch = max(1, BATCH * USUAL_SIDE**2 // side**2)
        super().__init__(tiles, shape, device=device, overlap=overlap_of(side), batch=batch)

    def predict(self, patches: Tensor, t: Tensor, first: int, last: int) -> Tensor:
        """Predict for the patches of some tiles."""
        del first, last
        output: Tensor = self.network(patches, t)
        return output


def overlap_of(side: int) -> int:
    """Pixels that neighbouring tiles of this side share."""
    return min(OVERLAP, side // 4)
