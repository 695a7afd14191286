"""Pictures packed into one array file: aligned faces, and tiles of any other picture as textures."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lacunar.errors import TrainingError
from lacunar.train.lst_packs import UNREADABLE

ALIGNED_SIZE = (89, 109)  # width and height of CelebA's aligned pictures at half size
TEXTURE_SIDE = 128  # pixels
TEXTURES_EACH = 4  # tiles of one picture at most
MAX_BLANK = 0.01  # share of black pixels in a tile: corners without data
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PicturePack:
    """Aligned faces (N, 109, 89, 3) in the order of their names, and textures (M, 128, 128, 3); sRGB, uint8."""

    faces: Pixels
    textures: Pixels


def pack_pictures(source: Path, destination: Path) -> None:
    """Pack a folder of pictures, or a tar of them, into one array file.

    A picture of `ALIGNED_SIZE` is an aligned face; of any other picture a few tiles are taken as textures, those with
    black corners left out. Label pictures, ``*_mask.*``, are passed over.

    Parameters
    ----------
    source
        A ``.tar`` of pictures, or a folder with pictures and such files at any depth.
    destination
        The ``.npz`` to write.

    Raises
    ------
    TrainingError
        No such source, no aligned face in it, or a picture that cannot be read.
    """
    faces: list[Pixels] = []
    textures: list[Pixels] = []
    for name, data in _files(source):
        try:
            with Image.open(io.BytesIO(data)) as opened:
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
    temporary = destination.with_suffix(".partial.npz")
    destination.parent.mkdir(parents=True, exist_ok=True)
    none = np.zeros((0, TEXTURE_SIDE, TEXTURE_SIDE, 3), np.uint8)
    try:
        np.savez(
            temporary, allow_pickle=False, faces=np.stack(faces), textures=np.stack(textures) if textures else none
        )
        temporary.replace(destination)
    finally:
        temporary.unlink(missing_ok=True)


def load_pictures(file: Path) -> PicturePack:
    """Read a file written by `pack_pictures`; one that is missing or damaged is a ``TrainingError``."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return PicturePack(stored["faces"], stored["textures"])
    except UNREADABLE as error:
        raise TrainingError(
            f"{file} is not a whole pack of pictures ({error}): write it again with `lacunar train --pack`"
        ) from error


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every picture of a tar or a folder, in the order of the names."""
    if source.is_dir():
        for file in sorted(source.rglob("*")):
            if file.suffix.lower() == ".tar":
                yield from _files(file)
            elif file.is_file() and _is_picture(file):
                yield str(file), file.read_bytes()
        return
    try:
        with tarfile.open(source) as archive:
            for member in sorted(archive.getmembers(), key=lambda member: member.name):
                content = archive.extractfile(member) if member.isfile() and _is_picture(Path(member.name)) else None
                if content is not None:
                    yield f"{source}: {member.name}", content.read()
    except (OSError, tarfile.TarError) as error:
        raise TrainingError(f"{source} is no folder and no whole tar ({error}): --data wants one of them") from error


def _is_picture(name: Path) -> bool:
    """Tell a picture from a label and from any other file, by the name."""
    return name.suffix.lower() in SUFFIXES and not name.stem.endswith("_mask")


def _tiles(picture: Pixels) -> list[Pixels]:
    """A few tiles of a picture, spread over it."""
    rows, cols = (range(0, length - TEXTURE_SIDE + 1, TEXTURE_SIDE) for length in picture.shape[:2])
    tiles = [picture[row : row + TEXTURE_SIDE, col : col + TEXTURE_SIDE] for row in rows for col in cols]
    whole = [tile for tile in tiles if (tile == 0).all(axis=2).mean() <= MAX_BLANK]
    return whole[:: max(1, -(-len(whole) // TEXTURES_EACH))]
