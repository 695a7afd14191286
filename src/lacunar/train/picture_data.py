"""Training data of the picture models: crops of pictures, occlusions of them, and the residual over a smooth fill.

An *example* is a square picture with a gap: the residual ``z`` of the truth over a membrane
(`lacunar.interpolate.membrane`),
or over what faces have in common (`lacunar.interpolate.pca_prior`), in units of its spread. Crops are cut, varied and
filled
anew for every example; occlusions come from a pool that is drawn once, because a brush takes longer than a crop.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from lacunar.errors import TrainingError
from lacunar.geo.missing_shapes import OcclusionName, occlusion
from lacunar.interpolate.membrane import RESIDUAL_SPREAD, classical_base
from lacunar.interpolate.pca_prior import GaussianPrior
from lacunar.train.lst_packs import UNREADABLE
from lacunar.train.picture_packs import Pixels

Framing = Literal["face", "anywhere"]

GAP_SHARES: dict[OcclusionName, float] = {
    **{"strokes": 0.2, "blobs": 0.2, "rectangle": 0.12, "thin": 0.1, "thick": 0.06, "half": 0.06},
    **{"hand": 0.08, "face-mask": 0.07, "sunglasses": 0.06, "scarf": 0.05},
}
RATES = (0.03, 0.7)  # missing rates, uniform
# CelebA-HQ's framing of an aligned picture of 89 x 109 pixels: centre (x, y) and side of the square.
FACE_CENTRE, FACE_SIDE = (44.0, 58.0), 80.0
# How far a user's region of interest may lie off: standard deviations, cut at twice as much.
SHIFT, ZOOM, TURN = 1.2, 0.03, 2.5  # pixels, log of the side, degrees
SIDES = (48.0, 89.0)  # pixels: sides of the squares that are cut anywhere
MARGIN = 16  # pixels of reflection around a picture, so that a turned square never looks beyond
# Standard deviations of contrast, brightness and the logarithm of the gamma; half as much again by channel.
GAIN, OFFSET, GAMMA = 0.06, 0.04, 0.1

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class GapPool:
    """Gaps (N, side, side), True = hidden; ``origin`` tells how they were drawn."""

    gaps: BoolArray
    origin: str = ""

    def save(self, file: Path) -> None:
        """Write to one file, through a temporary name."""
        temporary = file.with_suffix(f".{os.getpid()}.partial.npz")  # every process of a run may write it
        packed = np.packbits(self.gaps, axis=2)
        np.savez(temporary, allow_pickle=False, gaps=packed, side=self.gaps.shape[2], origin=np.array(self.origin))
        temporary.replace(file)

    @classmethod
    def load(cls, file: Path) -> "GapPool":
        """Read a file written by `save`; one that is damaged is a ``TrainingError``."""
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                gaps = np.unpackbits(stored["gaps"], axis=2, count=int(stored["side"])).astype(bool)
                return cls(gaps, str(stored["origin"]))
        except UNREADABLE as error:
            raise TrainingError(f"{file} holds no whole gaps ({error}): delete it, to have them drawn") from error


def draw_gaps(count: int, side: int, *, seed: int, progress: Callable[[int, int], None] | None = None) -> GapPool:
    """Draw occlusions in the mix of `GAP_SHARES`; number i depends on the seed and i alone."""
    names, shares = list(GAP_SHARES), list(GAP_SHARES.values())
    gaps = np.zeros((count, side, side), dtype=bool)
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        name = names[rng.choice(len(names), p=shares)]
        gaps[index] = occlusion(name, (side, side), rng.uniform(*RATES), rng=rng)
        if progress:
            progress(index + 1, count)
    return GapPool(gaps)


class PictureDataset(Dataset[dict[str, Tensor]]):
    """Examples as tensors; the key (epoch, index) and the seed alone decide an item.

    Parameters
    ----------
    pictures
        (N, H, W, 3) uint8.
    textures
        (M, h, w, 3) uint8 that take the place of a picture in some items.
    pool
        Gaps of the side of an example.
    framing
        ``face`` cuts the square that CelebA-HQ shows, ``anywhere`` squares of any place and size.
    texture_share, unconditional_share
        Share of the items that show a texture, and of those without any known pixel, in which base is 0 and spread 1.
    augment
        Vary framing, orientation and colours; off for a held-out set.
    variation
        How much framing and colours are varied, in units of this module's constants.
    seed
        Seed of the variations.
    prior
        What the residual is counted over, for examples of its size; None counts it over a membrane.
    """

    def __init__(
        self,
        pictures: Pixels,
        textures: Pixels,
        pool: GapPool,
        *,
        framing: Framing,
        texture_share: float,
        unconditional_share: float,
        augment: bool,
        seed: int,
        variation: float = 1.0,
        prior: GaussianPrior | None = None,
    ) -> None:
        self.pictures, self.textures, self.pool = pictures, textures, pool
        self.framing = framing
        self.texture_share = texture_share if len(textures) else 0.0
        self.unconditional_share = unconditional_share
        self.augment = augment
        self.seed = seed
        self.variation = variation
        self.prior = prior
        self._inverses: dict[int, FloatArray] = {}  # by the number of the gap: most of the work of the prior

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pictures)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """Item of (epoch, index), float32: ``x_0`` (3, H, W), ``condition`` (4, H, W), ``gap``, ``weight`` (1, H, W).

        The condition is the base and its spread; the weight is 1: the error counts the same everywhere in the gap.
        """
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        picture = self._picture(index, rng)
        number = int(rng.integers(len(self.pool.gaps)))
        gap = self.pool.gaps[number]
        if rng.random() < self.unconditional_share:
            gap, base, spread = np.ones_like(gap), np.zeros_like(picture), 1.0
        else:
            base, spread = self._base(picture, number), RESIDUAL_SPREAD
        hidden = gap[None].astype(np.float32)
        condition = np.concatenate([np.moveaxis(base, 2, 0), np.full_like(hidden, spread)])
        return {
            "x_0": torch.from_numpy(np.ascontiguousarray(np.moveaxis((picture - base) / spread, 2, 0))),
            "condition": torch.from_numpy(condition),
            "gap": torch.from_numpy(hidden),
            "weight": torch.ones(hidden.shape),
        }

    def _base(self, picture: FloatArray, number: int) -> FloatArray:
        """What the residual is counted over."""
        gap = self.pool.gaps[number]
        if self.prior is None:
            return classical_base(picture, gap)
        if number not in self._inverses:
            self._inverses[number] = self.prior.inverse(gap)
        return self.prior.base(picture, gap, inverse=self._inverses[number])

    def _picture(self, index: int, rng: np.random.Generator) -> FloatArray:
        """The square (side, side, 3) in [-1, 1] that an item shows."""
        size = self.pool.gaps.shape[1]
        is_texture = rng.random() < self.texture_share
        source = self.textures[rng.integers(len(self.textures))] if is_texture else self.pictures[index]
        if self.framing == "face" and not is_texture:
            spread = self.variation * np.clip(rng.standard_normal(4), -2, 2) if self.augment else np.zeros(4)
            x, y = (at + SHIFT * by for at, by in zip(FACE_CENTRE, spread[:2], strict=True))
            side, turn = FACE_SIDE * np.exp(ZOOM * spread[2]), TURN * spread[3]
        else:
            side, turn = rng.uniform(*SIDES), 0.0
            x, y = (rng.uniform(side / 2, length - side / 2) for length in source.shape[1::-1])
        picture = cut_square(source, (x, y), side, size=size, turn=turn)
        return _varied(picture, self.variation, rng) if self.augment else picture


def cut_square(pixels: Pixels, centre: tuple[float, float], side: float, *, size: int, turn: float = 0.0) -> FloatArray:
    """Cut a square out of a picture and resize it (Lanczos).

    Parameters
    ----------
    pixels
        (H, W, 3) uint8.
    centre, side, turn
        Centre (x, y) and side in pixels, and by how many degrees the picture is turned around that centre.
    size
        Side of the result.

    Returns
    -------
    numpy.ndarray
        (size, size, 3) float32 in [-1, 1].
    """
    x, y = centre
    if turn or min(x, y) < side / 2 or x + side / 2 > pixels.shape[1] or y + side / 2 > pixels.shape[0]:
        pixels = np.pad(pixels, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="symmetric")
        x, y = x + MARGIN, y + MARGIN
    image = Image.fromarray(pixels)
    if turn:
        image = image.rotate(turn, Image.Resampling.BICUBIC, center=(x, y))
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    square = image.resize((size, size), Image.Resampling.LANCZOS, box=box)
    return np.asarray(square, dtype=np.float32) / np.float32(127.5) - np.float32(1)


def _varied(picture: FloatArray, variation: float, rng: np.random.Generator) -> FloatArray:
    """The picture mirrored or not, under a little other light."""
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    light = (picture + 1) / 2
    light = np.clip(light, 0, 1) ** np.exp(variation * GAMMA * rng.standard_normal())
    gain = 1 + variation * GAIN * (rng.standard_normal() + rng.standard_normal(3) / 2)
    offset = variation * OFFSET * (rng.standard_normal() + rng.standard_normal(3) / 2)
    return np.asarray(np.clip(2 * (gain * light + offset) - 1, -1, 1), dtype=np.float32)
