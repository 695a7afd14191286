"""Training data of the LST models: packed rasters, and gap-filling examples and whole tiles drawn from them.

An *example* is a square tile of which a part is missing: the kriged value (``mean``), its standard deviation
(``sigma``), the residual of the truth in units of that (``z``), and what other dates of the place say (``guide``), all
in the tile's own scale. Kriging costs more than a step of the network, so examples are made once, in parallel.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import KW_ONLY, dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.utils.data import Dataset

from lacunar.errors import TrainingError
from lacunar.geo.missing_shapes import PatternName, gap_pattern
from lacunar.interpolate.external_drift import krige_with_guides
from lacunar.interpolate.scaling import tile_statistics
from lacunar.train.packs import open_arrays, write_arrays

if TYPE_CHECKING:
    from affine import Affine  # the packed file trains on machines without a geospatial library

MAX_PACK_BYTES = 50 * 2**20
KELVIN_PER_COUNT = 0.01  # uint16 hundredths of a kelvin hold 0 .. 655 K
SAME_PIXEL = 0.01  # relative difference up to which two pixel sizes are one
REGISTRATION_REACH = 4  # pixels by which two dates of one grid may be displaced
REGISTRATION_WINDOW = 400  # side of the part that is compared, at most
REGISTRATION_LEAST = 40  # at least
REGISTRATION_WIDTH = 6.0  # pixels: what is smoother says nothing about a displacement
REGISTRATION_MIN = 0.15  # smallest correlation that counts

PATTERN_SHARES: dict[PatternName, float] = {"cloud": 0.5, "blobs": 0.3, "box": 0.1, "stripes": 0.05, "half": 0.05}
RATES = (0.03, 0.7)  # missing rates of the examples, uniform
SHRINKS = {0.5: 0.25, 1: 0.4, 2: 0.25, 3: 0.1}  # share of the examples whose tile is averaged n x n, or enlarged twice
NATIVE = ("ecostress", "aster")  # Landsat's thermal band is enlarged already: 100 m resampled to 30 m
GUIDE_SHARES = {0: 0.3, 1: 0.45, 2: 0.15, 3: 0.1}  # number of guides: other dates, where the place has as many
CLOUDY_GUIDES = 0.3  # share of the guides that get a cloud of their own
GUIDE_RATES = (0.05, 0.6)  # missing rates of these
MAX_ABS_Z = 6.0  # residuals beyond this many standard deviations are clipped: kriging's worst surprises
NEGATED_SHARE = 0.25  # what is warm by day is cold by night
_TRIES = 200

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LstPack:
    """Rasters of LST as uint16 hundredths of a kelvin (0 = unknown), their names, and cloud masks."""

    names: tuple[str, ...]
    rasters: tuple[NDArray[np.uint16], ...]
    clouds: tuple[BoolArray, ...]
    positions: tuple[tuple[int, int, int], ...]  # grid, row and column; rasters of one grid are dates of one place

    @property
    def places(self) -> tuple[str, ...]:
        """The place of each raster: its name up to the first underscore."""
        return tuple(place_of(name) for name in self.names)

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
    """Place of a raster's name; Manhattan lies inside New York, so both are one place."""
    place = name.split("_")[0]
    return "newyork" if place == "manhattan" else place


def pack_lst(folder: Path, clouds: Path | None, destination: Path) -> None:
    """Pack a folder's GeoTIFFs of LST (``PLACE_...tif``, kelvin) and another's cloud masks into one array file.

    The masks are Landsat QA_PIXEL rasters (``*QA_PIXEL.TIF``) or non-zero where there is cloud. Row-wise differences
    compress well. No raster, no folder of clouds, a raster not in kelvin, or more than 50 MiB is a ``TrainingError``.
    """
    from lacunar.geo.raster import read_raster  # the packed file trains on machines without a geospatial library

    files = sorted(folder.glob("*.tif")) if folder.is_dir() else []
    if not files:
        raise TrainingError(f"no GeoTIFF in {folder}: --data wants a folder of LST rasters named PLACE_*.tif in kelvin")
    arrays: dict[str, NDArray[Any]] = {}
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
    write_arrays(destination, arrays, max_bytes=MAX_PACK_BYTES)


def load_lst(file: Path) -> LstPack:
    """Read a file written by `pack_lst`; one that is missing, damaged or of another kind is a ``TrainingError``."""
    with open_arrays(file) as stored:
        rasters = {k[4:]: np.cumsum(stored[k], axis=1, dtype=np.uint16) for k in stored if k.startswith("lst/")}
        clouds = tuple(stored[k].astype(bool) for k in stored if k.startswith("cloud/"))
        at = {k[3:]: stored[k].tolist() for k in stored if k.startswith("at/")}
        positions = tuple((int(at[k][0]), int(at[k][1]), int(at[k][2])) for k in rasters)
    if not rasters:
        raise TrainingError(f"{file} holds no LST raster: write it again with `lacunar train --pack`")
    return LstPack(tuple(rasters), tuple(rasters.values()), clouds, positions)


class _Grids:
    """The grids found so far: rasters of one place, CRS and pixel size share one, each at a whole number of pixels.

    A georeference may be a pixel or two off: each raster is put where it fits best the most similar one of its grid.
    """

    def __init__(self) -> None:
        self.found: list[tuple[tuple[str, str], Affine, list[tuple[FloatArray, int, int]]]] = []

    def position(self, key: tuple[str, str], transform: "Affine", counts: NDArray[np.floating]) -> tuple[int, int, int]:
        """Grid, row and column of a raster."""
        detail = _detail(counts)
        for number, (other, origin, dates) in enumerate(self.found):
            same_pixel = all(abs(transform[i] / origin[i] - 1) < SAME_PIXEL for i in (0, 4))
            if other == key and same_pixel:
                row, col = round((transform.f - origin.f) / origin.e), round((transform.c - origin.c) / origin.a)
                _, down, right = max(_displacement(date, detail, (row - r, col - c)) for date, r, c in dates)
                row, col = row - down, col - right
                dates.append((detail, row, col))
                return number, row, col
        self.found.append((key, transform, [(detail, 0, 0)]))
        return len(self.found) - 1, 0, 0


def _detail(counts: NDArray[np.floating]) -> FloatArray:
    """What differs from the surroundings (H, W), in kelvin; NaN where unknown."""
    shown = counts > 0
    total, weight = (
        ndimage.gaussian_filter(part, REGISTRATION_WIDTH)
        for part in (np.where(shown, counts * KELVIN_PER_COUNT, 0.0), shown.astype(np.float64))
    )
    return np.where(shown, counts * KELVIN_PER_COUNT - total / np.maximum(weight, 1e-6), np.nan)


def _displacement(first: FloatArray, second: FloatArray, at: tuple[int, int]) -> tuple[float, int, int]:
    """Largest absolute correlation, and by how many rows and columns the second is then too far down and right.

    What is warm by day is cold by night: the sign of the correlation says nothing.
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


@dataclass(frozen=True)
class LstExamples:
    """Gap-filling examples (N, H, W), float16: residual ``z`` (clipped), ``mean``, ``sigma`` (0 = known), ``guide``."""

    z: NDArray[np.float16]
    mean: NDArray[np.float16]
    sigma: NDArray[np.float16]
    guide: NDArray[np.float16]


def make_examples(
    pack: LstPack,
    weights: Mapping[str, float],
    *,
    count: int,
    size: int,
    seed: int,
    workers: int = 1,
    progress: Progress | None = None,
) -> LstExamples:
    """Draw examples of ``size`` pixels by the weights of their places; number i depends on the seed and i alone.

    A place that the pack lacks, or no tile without unknown pixels, is a ``TrainingError``.
    """
    check_places(pack, weights)
    draw = partial(_draw_example, pack, dict(weights), size, seed)  # a mapping proxy cannot go to another process
    parts = np.zeros((4, count, size, size), dtype=np.float16)
    for done, drawn in enumerate(_mapped(draw, count, workers)):
        for part, field in zip(parts, drawn, strict=True):
            part[done] = field
        if progress:
            progress(done + 1, count)
    return LstExamples(*parts)


def check_places(pack: LstPack, weights: Mapping[str, float]) -> None:
    """Refuse, with a ``TrainingError``, weights of places that the pack has no raster of."""
    lacking = sorted(set(weights) - set(pack.places))
    if lacking:
        there = ", ".join(sorted(set(pack.places)))
        raise TrainingError(f"the pack has no raster of {', '.join(lacking)}; it has {there}")


def _mapped(
    draw: Callable[[int], tuple[FloatArray, ...]], count: int, workers: int
) -> Iterator[tuple[FloatArray, ...]]:
    if workers <= 1:
        yield from map(draw, range(count))
        return
    with ProcessPoolExecutor(
        workers, mp_context=get_context("fork"), initializer=_end_with, initargs=(os.getpid(),)
    ) as pool:
        yield from pool.map(draw, range(count), chunksize=32)


def _end_with(parent: int) -> None:
    """In a worker: leave signals to the process that started it, and end when that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _draw_example(
    pack: LstPack, weights: Mapping[str, float], size: int, seed: int, index: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng((seed, index))
    clouds = [cloud for cloud in pack.clouds if min(cloud.shape) >= size]
    tile, guides = draw_tile(pack, weights, size, rng)
    for guide in guides:
        if rng.random() < CLOUDY_GUIDES:
            guide[draw_missing(clouds, size, GUIDE_RATES, rng)] = np.nan
    missing = draw_missing(clouds, size, RATES, rng)
    mean, std = tile_statistics(tile, ~missing)
    field = (tile - mean) / std
    kriged = krige_with_guides(field, ~missing, guides)
    z = np.zeros_like(field)
    z[missing] = np.clip((field - kriged.mean)[missing] / kriged.std[missing], -MAX_ABS_Z, MAX_ABS_Z)
    return z, kriged.mean, kriged.std, kriged.guide - kriged.guide.mean()


def draw_missing(clouds: list[BoolArray], size: int, rates: tuple[float, float], rng: np.random.Generator) -> BoolArray:
    """Missing pixels of a random pattern and rate; real clouds where there are any."""
    pattern = str(rng.choice(list(PATTERN_SHARES), p=list(PATTERN_SHARES.values())))
    if pattern == "cloud" and not clouds:
        pattern = "blobs"
    cloud = clouds[rng.integers(len(clouds))] if clouds else None
    return gap_pattern(pattern, (size, size), rng.uniform(*rates), rng=rng, cloud=cloud)  # type: ignore[arg-type]


def draw_tile(
    pack: LstPack, weights: Mapping[str, float], size: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """A fully known tile (size, size) in kelvin of a place drawn by weight, and other dates (K, size, size) of it.

    The tile is averaged or enlarged; other dates are NaN where unknown.
    """
    names, shares = list(weights), np.array(list(weights.values()))
    for _ in range(_TRIES):
        place = names[rng.choice(len(names), p=shares / shares.sum())]
        indices = [i for i, where in enumerate(pack.places) if where == place]
        index = indices[rng.integers(len(indices))]
        shrink = float(rng.choice(list(SHRINKS), p=list(SHRINKS.values())))
        if shrink < 1 and not any(sensor in pack.names[index] for sensor in NATIVE):
            shrink = 1.0
        side = round(size * shrink)
        raster = pack.rasters[index]
        if min(raster.shape) < side:
            continue
        row, col = (int(rng.integers(0, length - side + 1)) for length in raster.shape)
        counts = raster[row : row + side, col : col + side]
        if counts.all() and np.ptp(counts) > 0:
            others = list(pack.other_dates(index))
            wanted = min(int(rng.choice(list(GUIDE_SHARES), p=list(GUIDE_SHARES.values()))), len(others))
            dates = [pack.window(int(i), row, col, side, of=index) for i in rng.choice(others, wanted, replace=False)]
            tile, *guides = (resized(date, size) for date in (counts, *dates))
            return tile, np.array(guides).reshape(-1, size, size)
    raise TrainingError(
        f"no fully known tile of {size} pixels in {_TRIES} tries: the rasters are too small or miss too many pixels"
    )


def resized(counts: NDArray[np.uint16], size: int) -> FloatArray:
    """Kelvin (size, size) of a square of counts: means of n x n pixels, or cubic enlargement; NaN where unknown."""
    kelvin = np.where(counts > 0, counts * KELVIN_PER_COUNT, np.nan)
    if len(counts) >= size:
        n = len(counts) // size
        blocks: FloatArray = kelvin.reshape(size, n, size, n).mean(axis=(1, 3))
        return blocks
    shown = np.isfinite(kelvin)
    if not shown.any():
        return np.full((size, size), np.nan)
    factor = size / len(counts)
    smooth = ndimage.zoom(np.where(shown, kelvin, kelvin[shown].mean()), factor, order=3, mode="nearest")
    return np.where(ndimage.zoom(shown.astype(np.float64), factor, order=1, mode="nearest") > 0.99, smooth, np.nan)


@dataclass(frozen=True, eq=False)
class LstDataset(Dataset[dict[str, Tensor]]):
    """Examples as tensors, each varied by the eight symmetries of the square and the sign of the anomaly.

    The key (epoch, index) and the seed alone decide an item, so a run resumes exactly. A share of the items is
    unconditional: everything is missing, mean 0, sigma 1, and the residual is the field itself. A held-out set is not
    augmented.
    """

    examples: LstExamples
    _: KW_ONLY
    unconditional_share: float
    augment: bool
    seed: int

    def __len__(self) -> int:
        return len(self.examples.z)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """Item of (epoch, index): ``x_0``, ``missing`` and ``weight`` (1, H, W) and ``condition`` (3, H, W), float32.

        The condition is mean, sigma and guide; the weight is sigma over its average, as the error in kelvin counts.
        """
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        z, mean, sigma, guide = (part[index].astype(np.float32) for part in vars(self.examples).values())
        if rng.random() < self.unconditional_share:
            field = mean + sigma * z
            z, mean, sigma = (field - field.mean()) / max(float(field.std()), 1e-3), np.zeros_like(z), np.ones_like(z)
            guide = np.zeros_like(z)
        missing = (sigma > 0).astype(np.float32)
        weight = sigma / max(float(sigma.mean()), 1e-6)
        stack = np.stack([z, mean, sigma, guide, missing, weight]).astype(np.float32)
        if self.augment:
            stack = _varied(stack, np.array([-1, -1, 1, -1, 1, 1], dtype=np.float32), rng)
        tensor = torch.from_numpy(np.ascontiguousarray(stack))
        return {"x_0": tensor[:1], "condition": tensor[1:4], "missing": tensor[4:5], "weight": tensor[5:]}


class LstTiles(Dataset[dict[str, Tensor]]):
    """Whole standardised tiles, drawn anew for every key (epoch, index): ``x_0`` (1, H, W), for a prior."""

    def __init__(
        self, pack: LstPack, weights: Mapping[str, float], *, size: int, length: int, augment: bool, seed: int
    ) -> None:
        check_places(pack, weights)
        self.pack, self.weights = pack, weights
        self.size, self.length, self.augment, self.seed = size, length, augment, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, *key))
        tile, _ = draw_tile(self.pack, self.weights, self.size, rng)
        mean, std = tile_statistics(tile, np.ones(tile.shape, dtype=bool))
        field = ((tile - mean) / std).astype(np.float32)[None]
        if self.augment:
            field = _varied(field, np.array([-1], dtype=np.float32), rng)
        return {"x_0": torch.from_numpy(np.ascontiguousarray(field))}


def _varied(planes: NDArray[np.float32], negated: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """One of the eight symmetries of planes (C, H, W), in some cases times ``negated`` (C,), as day turns to night."""
    planes = np.rot90(planes, int(rng.integers(4)), axes=(1, 2))
    planes = planes[:, :, ::-1] if rng.random() < 0.5 else planes
    return planes * negated[:, None, None] if rng.random() < NEGATED_SHARE else planes
