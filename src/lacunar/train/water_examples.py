"""Training examples of water: crops of scenes at random scales, turned, in other light, and with fewer bands."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from lacunar.errors import TrainingError
from lacunar.sensors.bands import BANDS, RGB, common_scale
from lacunar.train.water_augment import augmented
from lacunar.train.water_data import IGNORE, WATER, WaterScene

SCALES = (0.5, 2.0)  # pixels of the scene in a pixel of the example, log-uniform
NO_DATA = 0.03  # an unlabelled pixel whose brightest band is below this is a black corner
WATER_SHARE = 0.5  # of the crops that are moved to hold water, where the scene has any
SUBSETS: Mapping[tuple[str, ...], float] = {  # what is left of an image of six bands, and how often
    BANDS: 0.35,
    RGB: 0.25,
    ("nir", "red", "green"): 0.15,
    ("blue", "green", "red", "nir"): 0.1,
    ("green", "red", "nir", "swir1"): 0.1,
    ("green", "nir", "swir1"): 0.05,
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
        names, divisor = self._bands_of(scene, rng)
        image, mask = self._window(scene, rng)
        chosen = [BANDS.index(name) for name in names]
        stored = np.concatenate([image[chosen] / divisor, [mask == WATER, mask != IGNORE]]).astype(np.float32)
        layers = self._resized(torch.from_numpy(stored), rng)
        bands, water, valid = layers[:-2], (layers[-2:-1] > 0.5).float(), (layers[-1:] > 0.99).float()
        seen = (valid > 0) | (bands.amax(dim=0, keepdim=True) > NO_DATA)  # an unlabelled pixel can be looked at
        if self.augment:
            bands, water = augmented(bands, water, valid, rng, rgb=names == RGB)
        planes = torch.full((len(BANDS), self.size, self.size), torch.nan)
        planes[chosen] = torch.where(seen, bands, torch.nan)
        return {"image": planes, "mask": water, "valid": valid}

    def _bands_of(self, scene: WaterScene, rng: np.random.Generator) -> tuple[tuple[str, ...], float]:
        """Bands that are shown of a scene, and the common scale of an image that has no others."""
        names = scene.band_names
        if not self.augment or len(names) < len(BANDS):
            return names, 1.0
        chosen = list(SUBSETS)[rng.choice(len(SUBSETS), p=list(SUBSETS.values()))]
        planes = scene.bands()[[BANDS.index(name) for name in chosen]]
        return chosen, common_scale(planes, scene.mask() != IGNORE)

    def _window(self, scene: WaterScene, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """A square window of the scene that becomes an example."""
        mask = scene.mask()
        scale = float(np.exp(rng.uniform(*np.log(SCALES)))) if self.augment else 1.0
        scale = min(scale, min(mask.shape) / self.size)  # a small scene fills the example too
        side = round(self.size * max(scale, SCALES[0]))
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
        image, mask = scene.bands(*slices), mask[slices[0], slices[1]]
        short = [(0, side - length) for length in mask.shape]
        return np.pad(image, [(0, 0), *short]), np.pad(mask, short, constant_values=IGNORE)

    def _resized(self, layers: Tensor, rng: np.random.Generator) -> Tensor:
        """The layers at the size of an example, and as one of the eight symmetries of the square shows them."""
        side = layers.shape[-1]
        if side != self.size:
            shape = (self.size, self.size)
            resize = {"mode": "bilinear", "align_corners": False, "antialias": side > self.size}
            layers = interpolate(layers[None], size=shape, **resize)[0]  # type: ignore[arg-type]
        if not self.augment:
            return layers
        layers = torch.rot90(layers, int(rng.integers(4)), (1, 2))
        return layers.flip(2) if rng.random() < 0.5 else layers
