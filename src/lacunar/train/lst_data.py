"""Training data of the LST model: gap-filling examples drawn from packed rasters.

An *example* is a square tile with a gap: the residual of the truth over the kriged value in units of the kriging
standard deviation (``z``), the kriged value (``base``), that standard deviation (``spread``) and what other dates of
the place say (``guide``), all in the tile's own scale. Kriging costs more than a network step, so examples are made
once, in parallel, and varied by symmetries.
"""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

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
from lacunar.train.lst_packs import KELVIN_PER_COUNT, UNREADABLE, LstPack

logger = logging.getLogger(__name__)

PATTERN_SHARES: dict[PatternName, float] = {"cloud": 0.5, "blobs": 0.3, "box": 0.1, "stripes": 0.05, "half": 0.05}
RATES = (0.03, 0.7)  # missing rates of the examples, uniform
SHRINKS = {0.5: 0.25, 1: 0.4, 2: 0.25, 3: 0.1}  # share of the examples whose tile is averaged n x n, or enlarged twice
NATIVE = ("ecostress", "aster")  # Landsat's thermal band is enlarged already: 100 m resampled to 30 m
REFERENCE_SHARES = {0: 0.3, 1: 0.45, 2: 0.15, 3: 0.1}  # number of other dates, where the place has as many
CLOUDY_REFERENCE = 0.3  # share of the references that get a cloud of their own
REFERENCE_RATES = (0.05, 0.6)  # its missing rates
MAX_ABS_Z = 6.0  # residuals beyond this many standard deviations are clipped: kriging's worst surprises
NEGATED_SHARE = 0.25  # what is warm by day is cold by night
_TRIES = 200

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LstExamples:
    """Gap-filling examples (N, H, W), float16: residual ``z`` (clipped), ``base``, ``spread`` (0 = known), ``guide``.

    ``origin`` tells what they were drawn from and how, so that a run never trains on those of another.
    """

    z: NDArray[np.float16]
    base: NDArray[np.float16]
    spread: NDArray[np.float16]
    guide: NDArray[np.float16]
    origin: str = ""

    def save(self, file: Path) -> None:
        """Write to one uncompressed file, through a temporary name."""
        temporary = file.with_suffix(f".{os.getpid()}.partial.npz")  # every process of a run may write it
        parts = {"z": self.z, "base": self.base, "spread": self.spread, "guide": self.guide}
        np.savez(temporary, allow_pickle=False, origin=np.array(self.origin), **parts)
        temporary.replace(file)

    @classmethod
    def load(cls, file: Path) -> "LstExamples":
        """Read a file written by `save`; one that is damaged is a ``TrainingError``."""
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                z, base, spread, guide = (stored[name] for name in ("z", "base", "spread", "guide"))
                return cls(z, base, spread, guide, str(stored["origin"]))
        except UNREADABLE as error:
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
    parts = np.zeros((4, count, size, size), dtype=np.float16)
    for done, drawn in enumerate(_mapped(draw, count, workers)):
        for part, field in zip(parts, drawn, strict=True):
            part[done] = field
        if progress:
            progress(done + 1, count)
    return LstExamples(*parts)


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
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """One example: tile, gap, other dates, kriging, residual."""
    rng = np.random.default_rng((seed, index))
    clouds = [cloud for cloud in pack.clouds if min(cloud.shape) >= size]
    tile, references = draw_tile(pack, weights, size, rng)
    for reference in references:
        if rng.random() < CLOUDY_REFERENCE:
            reference[_draw_gap(clouds, size, REFERENCE_RATES, rng)] = np.nan
    gap = _draw_gap(clouds, size, RATES, rng)
    mean, std = tile_statistics(tile, ~gap)
    field = (tile - mean) / std
    kriged = krige_with_guides(field, ~gap, references)
    z = np.zeros_like(field)
    z[gap] = np.clip((field - kriged.mean)[gap] / kriged.std[gap], -MAX_ABS_Z, MAX_ABS_Z)
    return z, kriged.mean, kriged.std, kriged.guide - kriged.guide.mean()


def _draw_gap(clouds: list[BoolArray], size: int, rates: tuple[float, float], rng: np.random.Generator) -> BoolArray:
    """A gap of a random pattern and missing rate; real clouds where there are any."""
    pattern = str(rng.choice(list(PATTERN_SHARES), p=list(PATTERN_SHARES.values())))
    if pattern == "cloud" and not clouds:
        pattern = "blobs"
    cloud = clouds[rng.integers(len(clouds))] if clouds else None
    return gap_pattern(pattern, (size, size), rng.uniform(*rates), rng=rng, cloud=cloud)  # type: ignore[arg-type]


def draw_tile(
    pack: LstPack, weights: dict[str, float], size: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """A fully known tile (size, size) in kelvin of a place drawn by weight, and other dates (K, size, size) of it.

    The tile is averaged or enlarged; the other dates may have gaps (NaN).
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
            wanted = min(int(rng.choice(list(REFERENCE_SHARES), p=list(REFERENCE_SHARES.values()))), len(others))
            dates = [pack.window(int(i), row, col, side, of=index) for i in rng.choice(others, wanted, replace=False)]
            tile, *references = (_resized(date, size) for date in (counts, *dates))
            return tile, np.array(references).reshape(-1, size, size)
    raise TrainingError(
        f"no fully known tile of {size} pixels in {_TRIES} tries: the rasters are too small or too gappy"
    )


def _resized(counts: NDArray[np.uint16], size: int) -> FloatArray:
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
        """Item of (epoch, index): ``x_0``, ``gap`` and ``weight`` (1, H, W) and ``condition`` (3, H, W), float32.

        The condition is base, spread and guide; the weight is the spread over its mean, since the error that counts is
        in kelvin: spread times the error of the residual.
        """
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        source = self.examples
        z, base, spread, guide = (
            part[index].astype(np.float32) for part in (source.z, source.base, source.spread, source.guide)
        )
        if rng.random() < self.unconditional_share:
            field = base + spread * z
            z, base, spread = (field - field.mean()) / max(float(field.std()), 1e-3), np.zeros_like(z), np.ones_like(z)
            guide = np.zeros_like(z)
        gap = (spread > 0).astype(np.float32)
        weight = spread / max(float(spread.mean()), 1e-6)
        stack = np.stack([z, base, spread, guide, gap, weight]).astype(np.float32)
        if self.augment:
            stack = np.rot90(stack, int(rng.integers(4)), axes=(1, 2))
            stack = stack[:, :, ::-1] if rng.random() < 0.5 else stack
            sign = -1.0 if rng.random() < NEGATED_SHARE else 1.0
            stack = stack * np.array([sign, sign, 1, sign, 1, 1], dtype=np.float32)[:, None, None]
        tensor = torch.from_numpy(np.ascontiguousarray(stack))
        return {"x_0": tensor[:1], "condition": tensor[1:4], "gap": tensor[4:5], "weight": tensor[5:]}
