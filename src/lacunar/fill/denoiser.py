"""The network of a raster with one channel, on tiles that are each scaled by their own known pixels."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lacunar.errors import ModelError
from lacunar.geo.windows import Tile
from lacunar.interpolate.background import MIN_KNOWN, Background
from lacunar.interpolate.scaling import Affine, TileScaling
from lacunar.models.checkpoint import Model
from lacunar.models.tiled import TiledGapNetwork

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


class TiledDenoiser(TiledGapNetwork):
    """If ``conditional``, the network sees the background; else it is told that all is missing."""

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
        scaling = tile_scaling_of(model)
        device = self.norm.device
        conditions, missing = [], []
        for tile in self.tiles:
            here = known[tile.slices]
            if conditional:
                mean, sigma, guide = (part[tile.slices] for part in (field.mean, field.sigma, field.guide))
                scale = _tile_scale(scaling, values[tile.slices], here, mean, sigma)
                planes = [mean - scale.offset, sigma, guide - guide.mean()]
                conditions.append(np.stack([plane / scale.scale for plane in planes]))
                missing.append(~here[None])
            else:
                conditions.append(np.stack([np.zeros(tile.shape), np.ones(tile.shape), np.zeros(tile.shape)]))
                missing.append(np.ones((1, *tile.shape), dtype=bool))
        wanted = model.network.in_channels - 2  # all but state and missing
        self.condition = torch.from_numpy(np.stack(conditions)[:, :wanted]).float().to(device)
        self.missing = torch.from_numpy(np.stack(missing)).float().to(device)

    def given(self, first: int, last: int, count: int) -> tuple[Tensor, Tensor]:
        """Condition and missing of some tiles, repeated for each sample."""
        condition, missing = self.condition[first:last], self.missing[first:last]
        return condition.repeat_interleave(count, dim=0), missing.repeat_interleave(count, dim=0)


def tile_scaling_of(model: Model) -> TileScaling:
    """How a model of physical values scales its tiles; one with another scaling is a ``ModelError``."""
    if not isinstance(model.scaling, TileScaling):
        raise ModelError(
            f"model {model.name}: scaling.json says {model.scaling.to_dict()}, wanted kind tile, which physical values "
            "are filled with: choose an LST model"
        )
    return model.scaling


def _tile_scale(
    scaling: TileScaling, values: NDArray[np.floating], known: BoolArray, mean: FloatArray, sigma: FloatArray
) -> Affine:
    """The scale of a tile by its known pixels; by its background where hardly any is known."""
    if known.sum() >= MIN_KNOWN:
        return scaling.fit(values, known)
    return Affine(float(mean.mean()), float(np.sqrt(np.mean(sigma**2) + mean.var())))
