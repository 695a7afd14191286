"""Images of water with their masks: a folder of pairs, a packed file of them, and training examples drawn from it.

A scene is ``NAME.jpg``, ``.png`` or ``.tif`` beside ``NAME_mask.png`` (0 land, 1 water, 255 ignore); the name of its
folder is the name of its set. Where it is known what the land is, 2 stands for clear land, 3 for cloud, 4 for cloud
shadow, 5 for snow or ice; 0 is then land of any of these. Pictures stay encoded until they are used, so that a pack is
as small as the folder.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from lacunar.errors import LacunarError, TrainingError
from lacunar.geo.gate import open_image
from lacunar.geo.picture import FORMATS
from lacunar.sensors.bands import BANDS, RGB, common_scale, place_bands
from lacunar.train.packs import open_arrays, write_arrays
from lacunar.train.water_augment import CLEAR, augmented

LAND, WATER, IGNORE = 0, 1, 255  # values of a mask
COVER = (2, 3, 4, 5)  # values of a mask that say what the land is, in the order of a network's classes after water
ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
MASK_ENDING = "_mask.png"
NRG: tuple[str, ...] = ("nir", "red", "green")  # sets whose name ends in _nrg
MAX_PACK_BYTES = 100 * 2**20

# Scenes of each set kept for reported figures, and for the score while training: a number, chosen by a hash of their
# names, or the names. Three of the five ESW scenes have water about as bright as land; the tiles are whole places.
REPORTED = MappingProxyType({"waterbodies_rgb_a": 60})
VALIDATED: Mapping[str, int | frozenset[str]] = MappingProxyType(
    {
        "esw_rgb": frozenset({"tif35", "tif37", "tif42", "tif44", "tif49"}),
        "waterbodies_rgb_a": 20,
        "glacial_nrg": 8,
        "multispectral6": frozenset(
            "016 027 034 042 048 054 056 068 097 102 108 109 123 126 148 149 153 161 191 196 223 224 237 246 261 281 "
            "283 287 303".split()
        ),
    }
)

SCALES = (0.5, 2.0)  # pixels of the scene in a pixel of the example, log-uniform
NO_DATA = 0.03  # an unlabelled pixel whose brightest band is below this is a black corner
LEFT_OUT, RANGE_THINNING = 0.1, 7  # of the values of a band: per cent at each end, and every so manieth counts
WATER_SHARE = 0.5  # of the crops that are moved to hold water, where the scene has any
SUBSETS: Mapping[tuple[str, ...], float] = {  # what is left of an image of six bands, and how often
    BANDS: 0.35,
    RGB: 0.25,
    ("nir", "red", "green"): 0.15,
    ("blue", "green", "red", "nir"): 0.1,
    ("green", "red", "nir", "swir1"): 0.1,
    ("green", "nir", "swir1"): 0.05,
}


@dataclass(frozen=True, eq=False)
class WaterScene:
    """An image of water and its mask, as they are stored."""

    set_name: str
    name: str
    image: NDArray[np.generic]  # an encoded picture (1-D, uint8), or the channels themselves (C, H, W)
    encoded_mask: NDArray[np.uint8]

    @property
    def band_names(self) -> tuple[str, ...]:
        """The channels in their order, by the name of the set."""
        channels = 3 if self.image.ndim == 1 else len(self.image)
        if channels == len(BANDS):
            return BANDS
        if channels != len(RGB):
            raise TrainingError(f"{self.set_name}/{self.name} has {channels} channels, wanted 3 or {len(BANDS)}")
        return NRG if self.set_name.endswith("_nrg") else RGB

    @cached_property
    def _channels(self) -> NDArray[np.generic]:
        return self.image if self.image.ndim == 3 else np.moveaxis(_decoded(self, self.image, "RGB"), 2, 0)

    @cached_property
    def scale(self) -> float:
        """The number by which the whole image is divided; pixels that the mask ignores do not count."""
        channels = self._channels.astype(np.float32)
        return common_scale(channels, self.mask != IGNORE)

    def bands(self, rows: slice = slice(None), cols: slice = slice(None)) -> NDArray[np.float32]:
        """Bands (6, H, W) of the scene or of a window, divided by the common scale; NaN where a band is absent."""
        return place_bands(self._channels[:, rows, cols].astype(np.float32) / self.scale, self.band_names)

    @cached_property
    def tells_cover(self) -> bool:
        """Whether the mask says what the land is."""
        return bool(np.isin(self.mask, COVER).any())

    @cached_property
    def mask(self) -> NDArray[np.uint8]:
        """Mask (H, W): 0 land, 1 water, 255 ignore, and `COVER`."""
        mask = _decoded(self, self.encoded_mask, "L")
        wrong = np.setdiff1d(mask, (LAND, WATER, *COVER, IGNORE))
        where = f"{self.set_name}/{self.name}{MASK_ENDING}"
        if wrong.size:
            raise TrainingError(f"{where} holds {wrong[0]}, wanted 0 (land), 1 (water), 2 to 5 and 255 (ignore)")
        if mask.shape != self._channels.shape[1:]:
            raise TrainingError(f"{where} is {mask.shape}, its image {self._channels.shape[1:]}; wanted one size")
        return mask


def _decoded(scene: WaterScene, encoded: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    try:
        with open_image(encoded.tobytes(), FORMATS) as picture:
            return np.asarray(picture.convert(mode))
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise TrainingError(f"{scene.set_name}/{scene.name} is not a whole picture ({error}): replace it") from error


def water_scenes(folder: Path) -> list[WaterScene]:
    """Every scene of a folder and its subfolders, in the order of their paths; none is a ``TrainingError``."""
    masks = sorted(folder.rglob(f"*{MASK_ENDING}")) if folder.is_dir() else []
    scenes = []
    for mask in masks:
        stem = mask.with_name(mask.name.removesuffix(MASK_ENDING))
        candidates = (stem.with_name(stem.name + ending) for ending in ENDINGS)
        image = next((file for file in candidates if file.exists()), None)
        if image is None:
            raise TrainingError(f"{mask} has no image beside it: wanted {stem.name} with one of {', '.join(ENDINGS)}")
        scenes.append(WaterScene(mask.parent.name, stem.name, _stored(image), _bytes_of(mask)))
    if not scenes:
        raise TrainingError(f"no image with its {MASK_ENDING} in {folder}: wanted NAME.jpg, .png or .tif beside each")
    return scenes


def _stored(image: Path) -> NDArray[np.generic]:
    """A picture as its bytes; a GeoTIFF as its channels."""
    if image.suffix.lower() not in (".tif", ".tiff"):
        return _bytes_of(image)
    from lacunar.geo.raster import read_raster  # the packed file trains on machines without a geospatial library

    raster = read_raster(image)
    values = np.where(raster.known, raster.data, 0)
    limits = np.iinfo(np.int16)
    if (values != np.round(values)).any() or values.min() < limits.min or values.max() > limits.max:
        raise TrainingError(
            f"{image} holds {values.min():g} .. {values.max():g}, wanted whole numbers of 16 bits with sign, such as "
            "reflectance x 10000: convert it"
        )
    return values.astype(np.int16)


def _bytes_of(file: Path) -> NDArray[np.uint8]:
    return np.frombuffer(file.read_bytes(), dtype=np.uint8)


def pack_water(folder: Path, destination: Path) -> None:
    """Pack every scene of a folder into one array file.

    No scene, one that cannot be read, two of one name, or more than 100 MiB is a ``TrainingError``.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for scene in water_scenes(folder):
        scene.mask  # noqa: B018  # a scene that cannot be read is refused now
        if f"image/{scene.set_name}/{scene.name}" in arrays:
            raise TrainingError(f"two scenes of {folder} are called {scene.set_name}/{scene.name}: rename one of them")
        arrays[f"image/{scene.set_name}/{scene.name}"] = scene.image
        arrays[f"mask/{scene.set_name}/{scene.name}"] = scene.encoded_mask
    write_arrays(destination, arrays, max_bytes=MAX_PACK_BYTES)


def load_water(file: Path) -> list[WaterScene]:
    """Read a file written by `pack_water`; one that is missing, damaged or of another kind is a ``TrainingError``."""
    with open_arrays(file) as stored:
        keys = [key.split("/")[1:] for key in stored if key.startswith("image/")]
        scenes = [WaterScene(s, name, stored[f"image/{s}/{name}"], stored[f"mask/{s}/{name}"]) for s, name in keys]
    if not scenes:
        raise TrainingError(f"{file} holds no scene of water: write it again with `lacunar train --pack`")
    return scenes


def decoded_all(scenes: Sequence[WaterScene], callback: Callable[[int, int], None] | None = None) -> None:
    """Decode every scene now, and not when it is first drawn; one that cannot be read is a ``TrainingError``."""
    for done, scene in enumerate(scenes):
        try:
            scene.scale  # noqa: B018  # decodes image and mask
        except TrainingError:
            raise
        except LacunarError as error:
            raise TrainingError(f"{scene.set_name}/{scene.name}: {error}") from error
        if callback:
            callback(done + 1, len(scenes))


@dataclass(frozen=True)
class Parts:
    """Scenes to train on, to score while training, and to report on; by scene, never by crop."""

    training: list[WaterScene]
    validation: list[WaterScene]
    reported: list[WaterScene]


def split_scenes(scenes: Sequence[WaterScene]) -> Parts:
    """Split scenes by their names alone, as `REPORTED` and `VALIDATED` say.

    Nothing left to train on, or none of a set's held-out scenes there, is a ``TrainingError``.
    """
    parts = Parts([], [], [])
    for set_name in sorted({scene.set_name for scene in scenes}):
        found = [scene for scene in scenes if scene.set_name == set_name]
        reported = chosen_by_name(found, REPORTED.get(set_name, 0))
        held = VALIDATED.get(set_name, 0)
        if isinstance(held, int):
            validation = chosen_by_name(found, held, skip=len(reported))
        else:
            validation = [scene for scene in found if scene.name in held]
            if not validation:
                raise TrainingError(f"{set_name} has none of the scenes that are held out: {', '.join(sorted(held))}")
        parts.reported.extend(reported)
        parts.validation.extend(validation)
        parts.training.extend(scene for scene in found if scene not in reported and scene not in validation)
    if not parts.training:
        raise TrainingError(f"{len(scenes)} scenes are too few: some are held out by name and none is left to train on")
    return parts


def chosen_by_name(scenes: Sequence[WaterScene], count: int, *, skip: int = 0) -> list[WaterScene]:
    """A number of scenes by their names alone: the first ones by the CRC-32 of ``set/name``, after ``skip``."""
    ranked = sorted(scenes, key=lambda scene: zlib.crc32(f"{scene.set_name}/{scene.name}".encode()))
    return ranked[skip : skip + count]


def band_ranges(sets: Mapping[str, Sequence[WaterScene]]) -> dict[str, tuple[float, float]]:
    """Of each band the values that nearly all pixels of every set lie between, in units of the image's common scale."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    for scenes in sets.values():
        values: dict[str, list[NDArray[np.float32]]] = {}
        for scene in scenes:
            known = scene.mask != IGNORE
            for band, plane in zip(BANDS, scene.bands(), strict=True):
                seen = plane[known & np.isfinite(plane)][::RANGE_THINNING]
                if seen.size:
                    values.setdefault(band, []).append(seen)
        for name, parts in values.items():
            found.setdefault(name, []).append(np.percentile(np.concatenate(parts), (LEFT_OUT, 100 - LEFT_OUT)))
    ends = {band: np.array(found[band]) for band in BANDS if band in found}
    return {band: (round(float(end[:, 0].min()), 3), round(float(end[:, 1].max()), 3)) for band, end in ends.items()}


class WaterDataset(Dataset[dict[str, Tensor]]):
    """Crops of scenes; the key (epoch, index) and the seed alone decide one, so a run resumes exactly.

    ``shares`` says how many of the examples come from each set, ``size`` is their side in pixels, ``length`` their
    number in an epoch. Without ``augment`` the crops are plain, at the scene's own scale. A set without a scene is a
    ``TrainingError``.
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
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """Item of (epoch, index): ``image`` (6, H, W) with NaN; ``mask``, ``valid``, ``cover`` (1, H, W), float32."""
        rng = np.random.default_rng((self.seed, *key))
        found = list(self.sets.values())[rng.choice(len(self.weights), p=self.weights)]
        scene = found[rng.integers(len(found))]
        names, divisor = self._bands_of(scene, rng)
        image, mask = self._window(scene, rng)
        chosen = [BANDS.index(name) for name in names]
        stored = np.concatenate(
            [image[chosen] / divisor, [mask == v for v in (WATER, *COVER)], [mask != IGNORE]]
        ).astype(np.float32)
        layers = self._resized(torch.from_numpy(stored), rng)
        bands, valid = layers[: len(names)], (layers[-1:] > 0.99).float()
        water, kinds = layers[len(names)][None], (layers[len(names) + 1 : -1] > 0.5).float()
        cover = (kinds * torch.arange(1, len(COVER) + 1)[:, None, None]).sum(dim=0, keepdim=True) - 1
        if not scene.tells_cover:
            cover[(water <= 0.5) & (valid > 0)] = CLEAR
        marks = torch.cat([(water > 0.5).float(), cover])
        seen = (valid > 0) | (bands.amax(dim=0, keepdim=True) > NO_DATA)  # an unlabelled pixel can be looked at
        if self.augment:
            bands, marks = augmented(bands, marks, valid, rng, names=names)
        planes = torch.full((len(BANDS), self.size, self.size), torch.nan)
        planes[chosen] = torch.where(seen, bands, torch.nan)
        water, cover = marks[:1], marks[1:]
        cover = torch.where((valid > 0) & (water == 0), cover, -1.0)
        return {"image": planes, "mask": water, "valid": valid, "cover": cover}

    def _bands_of(self, scene: WaterScene, rng: np.random.Generator) -> tuple[tuple[str, ...], float]:
        """Bands that are shown of a scene, and the common scale of an image that has no others."""
        names = scene.band_names
        if not self.augment or len(names) < len(BANDS):
            return names, 1.0
        chosen = list(SUBSETS)[rng.choice(len(SUBSETS), p=list(SUBSETS.values()))]
        planes = scene.bands()[[BANDS.index(name) for name in chosen]]
        return chosen, common_scale(planes, scene.mask != IGNORE)

    def _window(self, scene: WaterScene, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        mask = scene.mask
        scale = float(np.exp(rng.uniform(*np.log(SCALES)))) if self.augment else 1.0
        scale = min(scale, max(1.0, min(mask.shape) / self.size))  # nothing lies around a small scene at its own scale
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
