"""Rasters of LST packed into one array file, with what lies on one grid put together: other dates of a place.

The packed file trains on machines without a geospatial library.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.errors import TrainingError

if TYPE_CHECKING:
    from affine import Affine  # the packed file trains on machines without a geospatial library

MAX_PACK_BYTES = 50 * 2**20
KELVIN_PER_COUNT = 0.01  # uint16 hundredths of a kelvin hold 0 .. 655 K
SAME_PIXEL = 0.01  # relative difference up to which two pixel sizes are one
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error)  # of a damaged .npz
REGISTRATION_REACH = 4  # pixels by which two dates of one grid may be displaced
REGISTRATION_WINDOW = 400  # side of the part that is compared, at most
REGISTRATION_LEAST = 40  # at least
REGISTRATION_WIDTH = 6.0  # pixels: what is smoother says nothing about a displacement
REGISTRATION_MIN = 0.15  # least correlation that is believed

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LstPack:
    """Rasters of LST as uint16 hundredths of a kelvin (0 = unknown), the place of each, and cloud masks.

    ``positions`` says of each raster on which grid it lies, and at which row and column of it: rasters of one grid
    are dates of one place.
    """

    names: tuple[str, ...]
    rasters: tuple[NDArray[np.uint16], ...]
    clouds: tuple[BoolArray, ...]
    positions: tuple[tuple[int, int, int], ...]

    @property
    def places(self) -> tuple[str, ...]:
        """The place of each raster: its name up to the first underscore."""
        return tuple(place_of(name) for name in self.names)

    def only(self, wanted: Callable[[str], bool]) -> "LstPack":
        """The pack reduced to the places for which ``wanted`` is true, with all cloud masks."""
        kept = [i for i, place in enumerate(self.places) if wanted(place)]
        return LstPack(
            tuple(self.names[i] for i in kept),
            tuple(self.rasters[i] for i in kept),
            self.clouds,
            tuple(self.positions[i] for i in kept),
        )

    def other_dates(self, index: int) -> tuple[int, ...]:
        """Numbers of the rasters that lie on the grid of one."""
        grid = self.positions[index][0]
        return tuple(i for i, position in enumerate(self.positions) if position[0] == grid and i != index)

    def window(self, index: int, row: int, col: int, side: int, *, of: int | None = None) -> NDArray[np.uint16]:
        """A square window (side, side) of a raster in the rows and columns of raster ``of``; 0 outside."""
        raster = self.rasters[index]
        if of is not None:
            row += self.positions[of][1] - self.positions[index][1]
            col += self.positions[of][2] - self.positions[index][2]
        out = np.zeros((side, side), dtype=np.uint16)
        top, left = max(0, row), max(0, col)
        part = raster[top : max(0, row + side), left : max(0, col + side)]
        out[top - row : top - row + part.shape[0], left - col : left - col + part.shape[1]] = part
        return out


def place_of(name: str) -> str:
    """Place of a raster's name; Manhattan lies inside New York, so both are one place.

    Examples
    --------
    >>> place_of("kano_landsat8_2013"), place_of("manhattan_landsat")
    ('kano', 'newyork')
    """
    place = name.split("_")[0]
    return "newyork" if place == "manhattan" else place


def pack_lst(folder: Path, clouds: Path | None, destination: Path) -> None:
    """Pack the GeoTIFFs of LST (kelvin) of a folder and the cloud masks of another into one compressed array file.

    Values are stored as row-wise differences of uint16 hundredths of a kelvin, which deflate well.

    Parameters
    ----------
    folder
        GeoTIFFs named ``PLACE_...tif`` in kelvin.
    clouds
        Landsat QA_PIXEL rasters (``*QA_PIXEL.TIF``) or masks (non-zero = cloud); None packs none.
    destination
        The ``.npz`` to write.

    Raises
    ------
    TrainingError
        No raster in the folder, no folder of clouds, a raster that cannot be in kelvin, or more than 50 MiB.
    """
    from lacunar.geo.raster import read_raster  # the packed file trains on machines without a geospatial library

    files = sorted(folder.glob("*.tif")) if folder.is_dir() else []
    if not files:
        raise TrainingError(f"no GeoTIFF in {folder}: --data wants a folder of LST rasters named PLACE_*.tif in kelvin")
    arrays: dict[str, NDArray[np.generic]] = {}
    grids = _Grids()
    for file in files:
        raster = read_raster(file)
        counts = np.where(raster.known[0], np.round(raster.data[0] / KELVIN_PER_COUNT), 0)
        if (raster.known[0] & ((counts < 1) | (counts > np.iinfo(np.uint16).max))).any():
            low, high = (extreme(raster.data[0][raster.known[0]]) for extreme in (np.min, np.max))
            raise TrainingError(f"{file} holds {low:g} .. {high:g}: wanted kelvin, above 0 and below 655: convert it")
        arrays[f"lst/{file.stem}"] = np.diff(counts.astype(np.uint16), axis=1, prepend=np.uint16(0))
        key = (place_of(file.stem), raster.crs.to_string() if raster.crs else "")
        arrays[f"at/{file.stem}"] = np.array(grids.position(key, raster.transform, counts), dtype=np.int32)
    if clouds and not clouds.is_dir():
        raise TrainingError(f"no folder {clouds}: --clouds wants a folder of QA_PIXEL rasters or cloud masks")
    for file in sorted(clouds.glob("*.[tT][iI][fF]")) if clouds else []:
        cloud = _cloud_mask(file)
        if 0.02 < cloud.mean() < 0.98:
            arrays[f"cloud/{file.stem}"] = cloud
    write_pack(destination, arrays, of=folder, most=MAX_PACK_BYTES)


def write_pack(destination: Path, arrays: Mapping[str, NDArray[np.generic]], *, of: Path, most: int) -> None:
    """Write arrays into one compressed file, which appears whole or not at all.

    Parameters
    ----------
    destination
        The ``.npz``; its folder is made where it does not exist.
    arrays
        By name.
    of
        What they were made from, for a message.
    most
        Bytes of the file.

    Raises
    ------
    TrainingError
        More bytes than that.
    """
    temporary = destination.with_suffix(".partial.npz")
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
        if temporary.stat().st_size > most:
            size = temporary.stat().st_size / 2**20
            raise TrainingError(
                f"the pack of {of} has {size:.0f} MiB, more than {most / 2**20:.0f} MiB: give less of it"
            )
        temporary.replace(destination)
    finally:
        temporary.unlink(missing_ok=True)


class _Grids:
    """Grids met so far: rasters of one place, CRS and pixel size lie on one, each at a whole number of pixels.

    Two dates may be displaced by a pixel or two against their georeference: each raster is put where it fits best to
    the one of its grid that it resembles most.
    """

    def __init__(self) -> None:
        self.met: list[tuple[tuple[str, str], Affine, list[tuple[FloatArray, int, int]]]] = []

    def position(self, key: tuple[str, str], transform: "Affine", counts: NDArray[np.floating]) -> tuple[int, int, int]:
        """Grid, row and column of a raster."""
        detail = _detail(counts)
        for number, (other, origin, dates) in enumerate(self.met):
            same_pixel = all(abs(transform[i] / origin[i] - 1) < SAME_PIXEL for i in (0, 4))
            if other == key and same_pixel:
                row, col = round((transform.f - origin.f) / origin.e), round((transform.c - origin.c) / origin.a)
                found = [_displacement(date, detail, (row - r, col - c)) for date, r, c in dates]
                _, down, right = max(found)
                row, col = row - down, col - right
                dates.append((detail, row, col))
                return number, row, col
        self.met.append((key, transform, [(detail, 0, 0)]))
        return len(self.met) - 1, 0, 0


def _detail(counts: NDArray[np.floating]) -> FloatArray:
    """What differs from the surroundings (H, W), in kelvin; NaN where unknown."""
    shown = counts > 0
    total, weight = (
        ndimage.gaussian_filter(part, REGISTRATION_WIDTH)
        for part in (np.where(shown, counts * KELVIN_PER_COUNT, 0.0), shown.astype(np.float64))
    )
    return np.where(shown, counts * KELVIN_PER_COUNT - total / np.maximum(weight, 1e-6), np.nan)


def _displacement(first: FloatArray, second: FloatArray, at: tuple[int, int]) -> tuple[float, int, int]:
    """Greatest absolute correlation, and the rows and columns by which the second then lies too far down and right.

    Warm by day is cold by night, so the sign of the correlation says nothing.
    """
    starts, lengths = [], []
    for n, m, offset in zip(first.shape, second.shape, at, strict=True):
        low, high = max(0, offset) + REGISTRATION_REACH, min(n, offset + m) - REGISTRATION_REACH
        length = min(REGISTRATION_WINDOW, high - low)
        if length < REGISTRATION_LEAST:
            return REGISTRATION_MIN, 0, 0
        starts.append((low + high - length) // 2)
        lengths.append(length)
    corners = [starts, [start - offset for start, offset in zip(starts, at, strict=True)]]
    parts = []
    for detail, (row, col) in zip((first, second), corners, strict=True):
        part = np.nan_to_num(detail[row : row + lengths[0], col : col + lengths[1]])
        parts.append(part / max(float(np.linalg.norm(part)), np.finfo(np.float64).tiny))
    # Correlation at every displacement by the Fourier transform, wrapped around: the reach is small beside the window.
    spectrum = np.conj(np.fft.rfft2(parts[0])) * np.fft.rfft2(parts[1])
    correlation = np.abs(np.fft.irfft2(spectrum, s=parts[0].shape))
    steps = range(-REGISTRATION_REACH, REGISTRATION_REACH + 1)
    found = [(float(correlation[down, right]), down, right) for down, right in product(steps, steps)]
    return max((REGISTRATION_MIN, 0, 0), *found)


def _cloud_mask(file: Path) -> BoolArray:
    """Cloud by bit 3 of a Landsat QA_PIXEL raster, or by non-zero values of any other mask."""
    from lacunar.geo.raster import read_raster

    raster = read_raster(file)
    values = np.nan_to_num(raster.data[0]).astype(np.int64)
    is_qa = "QA_PIXEL" in file.stem.upper()
    cloud = ((values >> 3) & 1).astype(bool) if is_qa else values != 0
    mask: BoolArray = np.logical_and(cloud, raster.known[0])
    return mask


def load_pack(file: Path) -> LstPack:
    """Read a file written by `pack_lst`.

    Raises
    ------
    TrainingError
        The file is missing or is not such a pack.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            rasters = {k[4:]: np.cumsum(stored[k], axis=1, dtype=np.uint16) for k in stored if k.startswith("lst/")}
            clouds = tuple(stored[k].astype(bool) for k in stored if k.startswith("cloud/"))
            at = {k[3:]: stored[k].tolist() for k in stored if k.startswith("at/")}
            positions = tuple((int(at[k][0]), int(at[k][1]), int(at[k][2])) for k in rasters)
    except UNREADABLE as error:
        raise TrainingError(
            f"{file} is not a whole pack ({error}): write it again with `lacunar train --pack`"
        ) from error
    if not rasters:
        raise TrainingError(f"{file} holds no LST raster: write it again with `lacunar train --pack`")
    return LstPack(tuple(rasters), tuple(rasters.values()), clouds, positions)
