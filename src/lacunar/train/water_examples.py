"""Training examples of water: crops of scenes at random scales, turned, with other light, and with fewer bands."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torch.utils.data import Dataset

from lacunar.errors import TrainingError
from lacunar.sensors.bands import BANDS
from lacunar.train.water_data import IGNORE, WATER, WaterScene

SCALES = (0.5, 1.6)  # pixels of the scene in a pixel of the example, log-uniform
WATER_SHARE = 0.5  # of the crops that are moved to hold water, where the scene has any
GAIN = 0.3  # deviation of the logarithm of brightness
BAND_GAIN = 0.12  # of that of each band
GAMMA = 0.2  # of that of the exponent
HAZE = 0.15  # most that is added to all bands, in units of the common scale
NOISE = 0.02  # most deviation of the noise of a pixel, in those units
LIGHT_SHARE = 0.7  # of the examples whose light is changed
SUBSETS: Mapping[tuple[str, ...], float] = {  # what is left of an image of six bands, and how often
    BANDS: 0.35,
    ("blue", "green", "red"): 0.3,
    ("green", "red", "nir"): 0.2,
    ("blue", "green", "red", "nir"): 0.15,
}


class WaterDataset(Dataset[dict[str, Tensor]]):
    """Crops of scenes; the key (epoch, index) and the seed alone decide one, so a run resumes exactly.

    Parameters
    ----------
    scenes
        What is drawn from.
    shares
        Share of the examples from each set.
    size
        Side of an example in pixels.
    length
        Examples in an epoch.
    augment
        Vary the crops; False draws plain crops at the scene's own scale.
    seed
        Of all that is random.

    Raises
    ------
    TrainingError
        A set of ``shares`` without a scene.
    """

    def __init__(
        self,
        scenes: Sequence[WaterScene],
        shares: Mapping[str, float],
        *,
        size: int,
        length: int,
        augment: bool,
        seed: int,
    ) -> None:
        self.sets = {name: [scene for scene in scenes if scene.set_name == name] for name in shares}
        empty = [name for name, found in self.sets.items() if not found]
        if empty:
            there = ", ".join(sorted({scene.set_name for scene in scenes}))
            raise TrainingError(f"no scene of {', '.join(empty)}; there are {there or 'none'}")
        weights = np.array([shares[name] for name in self.sets])
        self.weights = weights / weights.sum()
        self.size, self.length, self.augment, self.seed = size, length, augment, seed

    def __len__(self) -> int:
        """Examples in an epoch."""
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """Item of (epoch, index): ``image`` (6, H, W) with NaN, ``mask`` and ``valid`` (1, H, W), float32."""
        rng = np.random.default_rng((self.seed, *key))
        found = list(self.sets.values())[rng.choice(len(self.weights), p=self.weights)]
        scene = found[rng.integers(len(found))]
        scale = float(np.exp(rng.uniform(*np.log(SCALES)))) if self.augment else 1.0
        scale = max(min(scale, min(scene.mask().shape) / self.size), SCALES[0])  # a small scene fills the example too
        image, mask = self._window(scene, scale, rng)
        grid = _grid(self.size, mask.shape, scale, rng, turn=self.augment)
        layers = np.concatenate([np.nan_to_num(image), [mask == WATER, mask != IGNORE]]).astype(np.float32)
        tensor = torch.from_numpy(layers)[None]
        smooth = grid_sample(tensor, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
        present: NDArray[np.bool_] = np.array([np.isfinite(band).any() for band in image])
        bands = smooth[: len(BANDS)]
        if self.augment:
            present = _subset(present, rng)
            bands = _relit(bands, rng)
        bands = torch.where(torch.from_numpy(present)[:, None, None], bands, torch.nan)
        inside = smooth[-1:] > 0.99  # one wholly invalid neighbour is enough to leave a pixel out
        bands = torch.where(inside, bands, torch.nan)
        return {"image": bands, "mask": (smooth[-2:-1] > 0.5).float(), "valid": inside.float()}

    def _window(
        self, scene: WaterScene, scale: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """A window of the scene that is large enough for an example however it is turned."""
        mask = scene.mask()
        side = int(np.ceil(self.size * scale)) + 2
        centre = [int(rng.integers(length)) for length in mask.shape]
        if rng.random() < WATER_SHARE:
            water = np.flatnonzero(mask == WATER)
            if water.size:
                at = np.unravel_index(int(water[rng.integers(water.size)]), mask.shape)
                centre = [int(place + rng.integers(-side // 3, side // 3 + 1)) for place in at]
        slices = []
        for middle, length in zip(centre, mask.shape, strict=True):
            first = min(max(0, middle - side // 2), max(0, length - side))
            slices.append(slice(first, min(length, first + side)))
        return scene.bands(*slices), mask[slices[0], slices[1]]


def _grid(size: int, shape: tuple[int, ...], scale: float, rng: np.random.Generator, *, turn: bool) -> Tensor:
    """Where each pixel of an example lies in its window: scaled, and one of the eight symmetries of the square."""
    matrix = np.eye(2)
    if turn:
        matrix = np.rot90(matrix, int(rng.integers(2))) * rng.choice([-1.0, 1.0], size=2)
    lengths = np.array([shape[1], shape[0]])  # x, y
    theta = np.zeros((1, 2, 3), dtype=np.float32)
    theta[0, :, :2] = matrix * (size * scale / lengths)[:, None]
    return affine_grid(torch.from_numpy(theta), [1, 1, size, size], align_corners=False)


def _subset(present: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which bands of an image of six are left; an image of three keeps its own."""
    if not present.all():
        return present
    names = list(SUBSETS)
    chosen = names[rng.choice(len(names), p=list(SUBSETS.values()))]
    return np.array([band in chosen for band in BANDS])


def _relit(bands: Tensor, rng: np.random.Generator) -> Tensor:
    """Other light: gain, gain of each band, exponent, haze and noise."""
    if rng.random() > LIGHT_SHARE:
        return bands
    gains = np.exp(rng.normal(0, GAIN) + rng.normal(0, BAND_GAIN, size=(len(BANDS), 1, 1)))
    lit = bands.clamp(min=0) ** float(np.exp(rng.normal(0, GAMMA))) * torch.from_numpy(gains).float()
    noise = torch.from_numpy(rng.standard_normal(bands.shape, dtype=np.float32)) * float(rng.uniform(0, NOISE))
    return lit + float(rng.uniform(0, HAZE)) + noise
