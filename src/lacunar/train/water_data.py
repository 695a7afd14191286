"""Images of water with their masks: a folder of pairs, a packed file of them, and training examples drawn from it.

A scene is ``NAME.jpg``, ``.png`` or ``.tif`` beside ``NAME_mask.png`` (0 land, 1 water, 255 ignore); its folder's name
is the name of the set that it belongs to. Pictures stay in their encoded form until they are used, so that a pack is as
small as the folder.
"""

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lacunar.errors import LacunarError, TrainingError
from lacunar.sensors.bands import BANDS, RGB, common_scale, place_bands
from lacunar.train.lst_packs import UNREADABLE, write_pack

LAND, WATER, IGNORE = 0, 1, 255  # values of a mask
ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
MASK_ENDING = "_mask.png"
NRG: tuple[str, ...] = ("nir", "red", "green")  # sets whose name ends in _nrg
MAX_PACK_BYTES = 100 * 2**20


@dataclass(frozen=True, eq=False)
class WaterScene:
    """An image of water and its mask, as they are stored.

    Parameters
    ----------
    set_name, name
        Of the folder and of the file.
    image
        An encoded picture (1-D, uint8), or the channels themselves (C, H, W).
    encoded_mask
        An encoded picture (1-D, uint8).
    """

    set_name: str
    name: str
    image: NDArray[np.generic]
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
        """The channels (C, H, W), decoded."""
        return self.image if self.image.ndim == 3 else np.moveaxis(_decoded(self, self.image, "RGB"), 2, 0)

    @cached_property
    def scale(self) -> float:
        """The number by which the whole image is divided; pixels that the mask ignores do not count."""
        channels = self._channels.astype(np.float32)
        return common_scale(channels, self.mask() != IGNORE)

    def bands(self, rows: slice = slice(None), cols: slice = slice(None)) -> NDArray[np.float32]:
        """Bands (6, H, W) of the scene or of a window, divided by the common scale; NaN where a band is absent."""
        return place_bands(self._channels[:, rows, cols].astype(np.float32) / self.scale, self.band_names)

    def mask(self) -> NDArray[np.uint8]:
        """Mask (H, W): 0 land, 1 water, 255 ignore."""
        return self._mask

    @cached_property
    def _mask(self) -> NDArray[np.uint8]:
        mask = _decoded(self, self.encoded_mask, "L")
        wrong = np.setdiff1d(mask, (LAND, WATER, IGNORE))
        where = f"{self.set_name}/{self.name}{MASK_ENDING}"
        if wrong.size:
            raise TrainingError(f"{where} holds {wrong[0]}, wanted 0 (land), 1 (water) and 255 (ignore)")
        if mask.shape != self._channels.shape[1:]:
            raise TrainingError(f"{where} is {mask.shape}, its image {self._channels.shape[1:]}; wanted one size")
        return mask


def _decoded(scene: WaterScene, encoded: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    """A picture from its encoded bytes."""
    try:
        with Image.open(io.BytesIO(encoded.tobytes())) as picture:
            return np.asarray(picture.convert(mode))
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise TrainingError(f"{scene.set_name}/{scene.name} is not a whole picture ({error}): replace it") from error


def water_scenes(folder: Path) -> list[WaterScene]:
    """Every scene of a folder and its subfolders, in the order of their paths.

    Raises
    ------
    TrainingError
        No such folder, or no image beside a mask in it.
    """
    masks = sorted(folder.rglob(f"*{MASK_ENDING}")) if folder.is_dir() else []
    scenes = []
    for mask in masks:
        stem = mask.with_name(mask.name.removesuffix(MASK_ENDING))
        image = next(
            (stem.with_name(stem.name + end) for end in ENDINGS if stem.with_name(stem.name + end).exists()), None
        )
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
    """The bytes of a file."""
    return np.frombuffer(file.read_bytes(), dtype=np.uint8)


def pack_water(folder: Path, destination: Path) -> None:
    """Pack every scene of a folder into one array file.

    Raises
    ------
    TrainingError
        No scene, one that cannot be read, or more than 100 MiB.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    for scene in water_scenes(folder):
        scene.mask()
        if f"image/{scene.set_name}/{scene.name}" in arrays:
            raise TrainingError(f"two scenes of {folder} are called {scene.set_name}/{scene.name}: rename one of them")
        arrays[f"image/{scene.set_name}/{scene.name}"] = scene.image
        arrays[f"mask/{scene.set_name}/{scene.name}"] = scene.encoded_mask
    write_pack(destination, arrays, of=folder, most=MAX_PACK_BYTES)


def load_water(file: Path) -> list[WaterScene]:
    """Read a file written by `pack_water`.

    Raises
    ------
    TrainingError
        The file is missing or is not such a pack.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            keys = [(key.split("/")[1], key.split("/")[2]) for key in stored if key.startswith("image/")]
            scenes = [
                WaterScene(*key, stored[f"image/{key[0]}/{key[1]}"], stored[f"mask/{key[0]}/{key[1]}"]) for key in keys
            ]
    except (*UNREADABLE, IndexError) as error:
        raise TrainingError(f"{file} is not a whole pack ({error}): write it again with `lacunar train`") from error
    if not scenes:
        raise TrainingError(f"{file} holds no scene of water: write it again with `lacunar train`")
    return scenes


def chosen_by_name(scenes: Sequence[WaterScene], count: int, *, skip: int = 0) -> list[WaterScene]:
    """So many scenes that their names alone choose: the first ones by the CRC-32 of ``set/name``, after ``skip``."""
    ranked = sorted(scenes, key=lambda scene: zlib.crc32(f"{scene.set_name}/{scene.name}".encode()))
    return ranked[skip : skip + count]


def decoded_all(scenes: Sequence[WaterScene], callback: Callable[[int, int], None] | None = None) -> None:
    """Decode every scene now, and not when it is first drawn.

    Raises
    ------
    TrainingError
        One that cannot be read.
    """
    for done, scene in enumerate(scenes):
        try:
            scene.scale  # noqa: B018  # decodes image and mask
        except TrainingError:
            raise
        except LacunarError as error:
            raise TrainingError(f"{scene.set_name}/{scene.name}: {error}") from error
        if callback:
            callback(done + 1, len(scenes))
