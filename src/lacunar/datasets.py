"""Training data of the LST model: rasters packed into one array file, and gap-filling examples drawn from them.

An *example* is a square tile with a gap: the residual of the truth over the kriged value in units of the kriging
standard deviation (``z``), the kriged value (``base``) and that standard deviation (``spread``), all in the tile's own
scale. Kriging costs more than a network step, so examples are made once, in parallel, and varied by symmetries.
"""

import logging
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lacunar.errors import TrainingError
from lacunar.interpolation import krige
from lacunar.masks import PatternName, gap_pattern
from lacunar.scaling import tile_statistics

logger = logging.getLogger(__name__)

MAX_PACK_BYTES = 50 * 2**20
KELVIN_PER_COUNT = 0.01  # uint16 hundredths of a kelvin hold 0 .. 655 K
PATTERN_SHARES: dict[PatternName, float] = {"cloud": 0.5, "blobs": 0.3, "box": 0.1, "stripes": 0.05, "half": 0.05}
RATES = (0.03, 0.7)  # missing rates of the examples, uniform
REDUCTIONS = {1: 0.6, 2: 0.3, 3: 0.1}  # share of the examples whose tile is first averaged over n x n pixels
MAX_ABS_Z = 6.0  # residuals beyond this many standard deviations are clipped: kriging's worst surprises
NEGATED_SHARE = 0.25  # what is warm by day is cold by night
_TRIES = 200
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error)  # of a damaged .npz

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class LstPack:
    """Rasters of LST as uint16 hundredths of a kelvin (0 = unknown), the place of each, and cloud masks."""

    names: tuple[str, ...]
    rasters: tuple[NDArray[np.uint16], ...]
    clouds: tuple[BoolArray, ...]

    @property
    def places(self) -> tuple[str, ...]:
        """The place of each raster: its name up to the first underscore."""
        return tuple(place_of(name) for name in self.names)

    def only(self, wanted: Callable[[str], bool]) -> "LstPack":
        """The pack reduced to the places for which ``wanted`` is true, with all cloud masks."""
        kept = [i for i, place in enumerate(self.places) if wanted(place)]
        return LstPack(tuple(self.names[i] for i in kept), tuple(self.rasters[i] for i in kept), self.clouds)


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
    from lacunar.raster import read_raster  # the packed file trains on machines without a geospatial library

    files = sorted(folder.glob("*.tif")) if folder.is_dir() else []
    if not files:
        raise TrainingError(f"no GeoTIFF in {folder}: --data wants a folder of LST rasters named PLACE_*.tif in kelvin")
    arrays: dict[str, NDArray[np.generic]] = {}
    for file in files:
        raster = read_raster(file)
        counts = np.where(raster.known[0], np.round(raster.data[0] / KELVIN_PER_COUNT), 0)
        if (raster.known[0] & ((counts < 1) | (counts > np.iinfo(np.uint16).max))).any():
            low, high = (extreme(raster.data[0][raster.known[0]]) for extreme in (np.min, np.max))
            raise TrainingError(f"{file} holds {low:g} .. {high:g}: wanted kelvin, above 0 and below 655: convert it")
        arrays[f"lst/{file.stem}"] = np.diff(counts.astype(np.uint16), axis=1, prepend=np.uint16(0))
    if clouds and not clouds.is_dir():
        raise TrainingError(f"no folder {clouds}: --clouds wants a folder of QA_PIXEL rasters or cloud masks")
    for file in sorted(clouds.glob("*.[tT][iI][fF]")) if clouds else []:
        cloud = _cloud_mask(file)
        if 0.02 < cloud.mean() < 0.98:
            arrays[f"cloud/{file.stem}"] = cloud
    temporary = destination.with_suffix(".partial.npz")
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
        if temporary.stat().st_size > MAX_PACK_BYTES:
            size = temporary.stat().st_size / 2**20
            raise TrainingError(f"the pack of {folder} has {size:.0f} MiB, more than 50 MiB: give fewer rasters")
        temporary.replace(destination)
    finally:
        temporary.unlink(missing_ok=True)


def _cloud_mask(file: Path) -> BoolArray:
    """Cloud by bit 3 of a Landsat QA_PIXEL raster, or by non-zero values of any other mask."""
    from lacunar.raster import read_raster

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
    except _UNREADABLE as error:
        raise TrainingError(
            f"{file} is not a whole pack ({error}): write it again with `lacunar train --pack`"
        ) from error
    if not rasters:
        raise TrainingError(f"{file} holds no LST raster: write it again with `lacunar train --pack`")
    return LstPack(tuple(rasters), tuple(rasters.values()), clouds)


@dataclass(frozen=True)
class LstExamples:
    """Gap-filling examples (N, H, W): residual ``z`` (clipped), ``base`` and ``spread`` (0 = known), float16.

    ``origin`` tells what they were drawn from and how, so that a run never trains on those of another.
    """

    z: NDArray[np.float16]
    base: NDArray[np.float16]
    spread: NDArray[np.float16]
    origin: str = ""

    def save(self, file: Path) -> None:
        """Write to one uncompressed file, through a temporary name."""
        temporary = file.with_suffix(f".{os.getpid()}.partial.npz")  # every process of a run may write it
        np.savez(temporary, z=self.z, base=self.base, spread=self.spread, origin=np.array(self.origin))
        temporary.replace(file)

    @classmethod
    def load(cls, file: Path) -> "LstExamples":
        """Read a file written by `save`; one that is damaged is a ``TrainingError``."""
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                return cls(stored["z"], stored["base"], stored["spread"], str(stored["origin"]))
        except _UNREADABLE as error:
            raise TrainingError(f"{file} holds no whole examples ({error}): delete it, to have them drawn") from error


def make_examples(
    pack: LstPack,
    weights: dict[str, float],
    *,
    count: int,
    size: int,
    seed: int,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> LstExamples:
    """Draw examples; number i depends on the seed and i alone, whatever the workers.

    Parameters
    ----------
    pack, weights
        The rasters, and the share of the examples from each place.
    count, size
        Number of examples and side of a tile in pixels.
    seed, workers, progress
        Seed; processes; callback (done, count).

    Raises
    ------
    TrainingError
        A place of ``weights`` that the pack lacks, or rasters too small or too gappy for a whole tile.
    """
    missing = sorted(set(weights) - set(pack.places))
    if missing:
        raise TrainingError(
            f"the pack has no raster of {', '.join(missing)}; it has {', '.join(sorted(set(pack.places)))}"
        )
    draw = partial(_draw_example, pack, weights, size, seed)
    parts = np.zeros((3, count, size, size), dtype=np.float16)
    out = LstExamples(z=parts[0], base=parts[1], spread=parts[2])
    for done, (z, base, spread) in enumerate(_mapped(draw, count, workers)):
        out.z[done], out.base[done], out.spread[done] = z, base, spread
        if progress:
            progress(done + 1, count)
    return out


def _mapped(
    draw: "Callable[[int], tuple[NDArray[np.float64], ...]]", count: int, workers: int
) -> Iterator[tuple[NDArray[np.float64], ...]]:
    """Results in order, from one process or several."""
    if workers <= 1:
        yield from map(draw, range(count))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        yield from pool.map(draw, range(count), chunksize=32)


def _draw_example(
    pack: LstPack, weights: dict[str, float], size: int, seed: int, index: int
) -> tuple[NDArray[np.float64], ...]:
    """One example: tile, gap, kriging, residual."""
    rng = np.random.default_rng((seed, index))
    tile = draw_tile(pack, weights, size, rng)
    pattern = str(rng.choice(list(PATTERN_SHARES), p=list(PATTERN_SHARES.values())))
    clouds = [cloud for cloud in pack.clouds if min(cloud.shape) >= size]
    if pattern == "cloud" and not clouds:
        pattern = "blobs"
    cloud = clouds[rng.integers(len(clouds))] if clouds else None
    gap = gap_pattern(pattern, (size, size), rng.uniform(*RATES), rng=rng, cloud=cloud)  # type: ignore[arg-type]
    mean, std = tile_statistics(tile, ~gap)
    field = (tile - mean) / std
    base, spread = krige(field, ~gap)
    z = np.zeros_like(field)
    z[gap] = np.clip((field - base)[gap] / spread[gap], -MAX_ABS_Z, MAX_ABS_Z)
    return z, base, spread


def draw_tile(pack: LstPack, weights: dict[str, float], size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A fully known tile (size, size) in kelvin, of a place drawn by weight, at one of the reductions."""
    names, shares = list(weights), np.array(list(weights.values()))
    for _ in range(_TRIES):
        place = names[rng.choice(len(names), p=shares / shares.sum())]
        rasters = [raster for raster, where in zip(pack.rasters, pack.places, strict=True) if where == place]
        raster = rasters[rng.integers(len(rasters))]
        reduction = int(rng.choice(list(REDUCTIONS), p=list(REDUCTIONS.values())))
        side = size * reduction
        if min(raster.shape) < side:
            continue
        row, col = (int(rng.integers(0, length - side + 1)) for length in raster.shape)
        counts = raster[row : row + side, col : col + side]
        if counts.all() and np.ptp(counts) > 0:
            blocks = counts.reshape(size, reduction, size, reduction)
            tile: NDArray[np.float64] = blocks.mean(axis=(1, 3)) * KELVIN_PER_COUNT
            return tile
    raise TrainingError(
        f"no fully known tile of {size} pixels in {_TRIES} tries: the rasters are too small or too gappy"
    )


class LstDataset(Dataset[dict[str, Tensor]]):
    """Examples as tensors, each varied by the eight symmetries of the square and the sign of the anomaly.

    The key (epoch, index) and the seed alone decide an item, so a run that resumes sees what it would have seen. A
    share of the items is unconditional: everything is gap, base 0 and spread 1, and the residual is the field itself.

    Parameters
    ----------
    examples
        What `make_examples` drew.
    unconditional_share
        Share of items without any known pixel, in [0, 1].
    augment
        Vary the items; off for a held-out set.
    seed
        Seed of the variations.
    """

    def __init__(self, examples: LstExamples, *, unconditional_share: float, augment: bool, seed: int) -> None:
        self.examples = examples
        self.unconditional_share = unconditional_share
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.examples.z)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """Item of (epoch, index): ``x_0``, ``gap`` and ``weight`` (1, H, W) and ``condition`` (2, H, W), float32.

        The condition is base and spread; the weight is the spread over its mean, since the error that counts is in
        kelvin: spread times the error of the residual.
        """
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        source = self.examples
        z, base, spread = (part[index].astype(np.float32) for part in (source.z, source.base, source.spread))
        if rng.random() < self.unconditional_share:
            field = base + spread * z
            z, base, spread = (field - field.mean()) / max(float(field.std()), 1e-3), np.zeros_like(z), np.ones_like(z)
        gap = (spread > 0).astype(np.float32)
        weight = spread / max(float(spread.mean()), 1e-6)
        stack = np.stack([z, base, spread, gap, weight]).astype(np.float32)
        if self.augment:
            stack = np.rot90(stack, int(rng.integers(4)), axes=(1, 2))
            stack = stack[:, :, ::-1] if rng.random() < 0.5 else stack
            sign = -1.0 if rng.random() < NEGATED_SHARE else 1.0
            stack = stack * np.array([sign, sign, 1, 1, 1], dtype=np.float32)[:, None, None]
        tensor = torch.from_numpy(np.ascontiguousarray(stack))
        return {"x_0": tensor[:1], "condition": tensor[1:3], "gap": tensor[3:4], "weight": tensor[4:]}
