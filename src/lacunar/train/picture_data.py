"""Training data of the picture models: packed pictures, drawn shapes that hide parts of them, and examples of both.

An *example* is a square picture of which a part is missing: the residual ``z`` of the truth over a membrane
(`lacunar.interpolate.membrane`), or over what faces have in common (`lacunar.interpolate.pca_prior`), in units of its
sigma. Squares are cut anew for every example; a run draws its shapes once, because they take longer.
"""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from lacunar.errors import TrainingError
from lacunar.geo.gate import open_archive, open_image
from lacunar.geo.missing_shapes import OcclusionName, occlusion
from lacunar.geo.picture import FORMATS
from lacunar.interpolate.membrane import RESIDUAL_SIGMA, membrane_fill
from lacunar.interpolate.pca_prior import GaussianPrior
from lacunar.train.packs import open_arrays, write_arrays

Framing = Literal["face", "anywhere"]

ALIGNED_SIZE = (89, 109)  # width and height of CelebA's aligned pictures at half size
TEXTURE_SIDE = 128  # pixels
TEXTURES_EACH = 4  # tiles of one picture at most
MAX_BLANK = 0.01  # share of black pixels in a tile: corners without data
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

OCCLUSION_SHARES: dict[OcclusionName, float] = {
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

Pixels = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PicturePack:
    """Aligned faces (N, 109, 89, 3) in the order of their names, and textures (M, 128, 128, 3); sRGB, uint8."""

    faces: Pixels
    textures: Pixels


def pack_pictures(source: Path, destination: Path) -> None:
    """Pack a ``.tar`` of pictures, or a folder with pictures and such files at any depth, into one array file.

    Pictures of `ALIGNED_SIZE` are faces; others give a few tiles as textures. Labels, ``*_mask.*``, are left out. No
    such source, no face in it, or a damaged picture is a ``TrainingError``.
    """
    faces: list[Pixels] = []
    textures: list[Pixels] = []
    for name, data in _files(source):
        try:
            with open_image(data, FORMATS) as opened:
                picture = np.asarray(opened.convert("RGB"))
        except (OSError, Image.DecompressionBombError) as error:
            raise TrainingError(f"{name} is not a whole picture ({error}): take it out of {source}") from error
        if picture.shape[1::-1] == ALIGNED_SIZE:
            faces.append(picture)
        else:
            textures += _tiles(picture)
    if not faces:
        raise TrainingError(
            f"no aligned face of {ALIGNED_SIZE[0]} x {ALIGNED_SIZE[1]} pixels in {source}: --data wants a tar or a "
            "folder of CelebA's aligned pictures at half size"
        )
    none = np.zeros((0, TEXTURE_SIDE, TEXTURE_SIDE, 3), np.uint8)
    arrays = {"faces": np.stack(faces), "textures": np.stack(textures) if textures else none}
    write_arrays(destination, arrays, compress=False)


def load_pictures(file: Path) -> PicturePack:
    """Read a file written by `pack_pictures`; one that is missing or damaged is a ``TrainingError``."""
    with open_arrays(file) as stored:
        return PicturePack(stored["faces"], stored["textures"])


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every picture of a tar or a folder, by name."""
    if source.is_dir():
        for file in sorted(source.rglob("*")):
            if file.suffix.lower() == ".tar":
                yield from _files(file)
            elif file.is_file() and _is_picture(file):
                yield str(file), file.read_bytes()
        return
    with open_archive(source, f"{source} is no folder and no whole tar", TrainingError) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            content = tar.extractfile(member) if member.isfile() and _is_picture(Path(member.name)) else None
            if content is not None:
                yield f"{source}: {member.name}", content.read()


def _is_picture(name: Path) -> bool:
    return name.suffix.lower() in SUFFIXES and not name.stem.endswith("_mask")


def _tiles(picture: Pixels) -> list[Pixels]:
    """A few tiles of a picture, spread over it."""
    rows, cols = (range(0, length - TEXTURE_SIDE + 1, TEXTURE_SIDE) for length in picture.shape[:2])
    tiles = [picture[row : row + TEXTURE_SIDE, col : col + TEXTURE_SIDE] for row in rows for col in cols]
    whole = [tile for tile in tiles if (tile == 0).all(axis=2).mean() <= MAX_BLANK]
    return whole[:: max(1, -(-len(whole) // TEXTURES_EACH))]


def draw_missing(count: int, side: int, *, seed: int, progress: Callable[[int, int], None] | None = None) -> BoolArray:
    """Draw occlusions (count, side, side), True = missing; number i depends on the seed and i alone."""
    names, shares = list(OCCLUSION_SHARES), list(OCCLUSION_SHARES.values())
    drawn = np.zeros((count, side, side), dtype=bool)
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        name = names[rng.choice(len(names), p=shares)]
        drawn[index] = occlusion(name, (side, side), rng.uniform(*RATES), rng=rng)
        if progress:
            progress(index + 1, count)
    return drawn


@dataclass(eq=False)
class PictureDataset(Dataset[dict[str, Tensor]]):
    """Examples as tensors; the key (epoch, index) and the seed alone decide an item."""

    pack: PicturePack
    pool: BoolArray  # missing pixels (N, side, side)
    _: KW_ONLY
    framing: Framing  # "face" cuts the square that CelebA-HQ shows, "anywhere" squares of any place and size
    texture_share: float  # of the items, which show a texture
    unconditional_share: float  # of the items, in which nothing is known: mean 0 and sigma 1
    variation: float  # of framing, orientation and colours, in units of this module's constants; 0 for a held-out set
    seed: int
    prior: GaussianPrior | None = None  # what the residual is counted over; None = a membrane
    _inverses: dict[int, FloatArray] = field(default_factory=dict, init=False)  # of the prior, by number of the shape

    def __post_init__(self) -> None:
        if not len(self.pack.textures):
            self.texture_share = 0.0

    def __len__(self) -> int:
        return len(self.pack.faces)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """Item of (epoch, index), float32: ``x_0`` (3, H, W), ``condition`` (4, H, W), ``missing``, ``weight``.

        The condition is mean and sigma; ``missing`` and ``weight`` (1 everywhere) are (1, H, W).
        """
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        picture = self._picture(index, rng)
        number = int(rng.integers(len(self.pool)))
        if rng.random() < self.unconditional_share:
            missing, mean, sigma = np.ones_like(self.pool[number]), np.zeros_like(picture), 1.0
        else:
            missing, mean, sigma = self.pool[number], self._mean(picture, number), RESIDUAL_SIGMA
        plane = missing[None].astype(np.float32)
        condition = np.concatenate([np.moveaxis(mean, 2, 0), np.full_like(plane, sigma)])
        return {
            "x_0": torch.from_numpy(np.ascontiguousarray(np.moveaxis((picture - mean) / sigma, 2, 0))),
            "condition": torch.from_numpy(condition),
            "missing": torch.from_numpy(plane),
            "weight": torch.ones(plane.shape),
        }

    def _mean(self, picture: FloatArray, number: int) -> FloatArray:
        """What the residual is counted over."""
        missing = self.pool[number]
        if self.prior is None:
            return membrane_fill(picture, missing)
        if number not in self._inverses:
            self._inverses[number] = self.prior.inverse(missing)
        return self.prior.filled(picture, missing, inverse=self._inverses[number])

    def _picture(self, index: int, rng: np.random.Generator) -> FloatArray:
        size = self.pool.shape[1]
        is_texture = rng.random() < self.texture_share
        source = self.pack.textures[rng.integers(len(self.pack.textures))] if is_texture else self.pack.faces[index]
        if self.framing == "face" and not is_texture:
            offset = self.variation * np.clip(rng.standard_normal(4), -2, 2) if self.variation else np.zeros(4)
            x, y = (at + SHIFT * by for at, by in zip(FACE_CENTRE, offset[:2], strict=True))
            side, turn = FACE_SIDE * np.exp(ZOOM * offset[2]), TURN * offset[3]
            picture = cut_square(source, (x, y), side, size=size, turn=turn)
        else:
            picture = _cut_anywhere(source, rng.uniform(*SIDES), size, rng)
        return _varied(picture, self.variation, rng) if self.variation else picture


@dataclass(frozen=True, eq=False)
class WholePictures(Dataset[dict[str, Tensor]]):
    """Squares of pictures with nothing missing, never enlarged; the key (epoch, index) and the seed decide an item."""

    pack: PicturePack
    size: int
    texture_share: float
    _: KW_ONLY
    variation: float
    seed: int

    def __len__(self) -> int:
        return len(self.pack.faces)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """Item of (epoch, index): ``x_0`` (3, H, W) in [-1, 1], float32."""
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        textures = self.pack.textures
        is_texture = len(textures) and rng.random() < self.texture_share
        source = textures[rng.integers(len(textures))] if is_texture else self.pack.faces[index]
        picture = _cut_anywhere(source, rng.uniform(self.size, min(source.shape[:2])), self.size, rng)
        picture = _varied(picture, self.variation, rng) if self.variation else picture
        return {"x_0": torch.from_numpy(np.ascontiguousarray(np.moveaxis(picture, 2, 0)))}


def _cut_anywhere(source: Pixels, side: float, size: int, rng: np.random.Generator) -> FloatArray:
    x, y = (rng.uniform(side / 2, length - side / 2) for length in source.shape[1::-1])
    return cut_square(source, (x, y), side, size=size)


def cut_square(pixels: Pixels, centre: tuple[float, float], side: float, *, size: int, turn: float = 0.0) -> FloatArray:
    """Cut a square out of a picture (H, W, 3) and resize it by Lanczos: (size, size, 3) in [-1, 1].

    ``centre`` (x, y) and ``side`` are in pixels; the picture is turned around the centre by ``turn`` degrees.
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
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    light = (picture + 1) / 2
    light = np.clip(light, 0, 1) ** np.exp(variation * GAMMA * rng.standard_normal())
    gain = 1 + variation * GAIN * (rng.standard_normal() + rng.standard_normal(3) / 2)
    offset = variation * OFFSET * (rng.standard_normal() + rng.standard_normal(3) / 2)
    return np.asarray(np.clip(2 * (gain * light + offset) - 1, -1, 1), dtype=np.float32)
