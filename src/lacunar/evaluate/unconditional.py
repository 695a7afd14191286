"""Samples of a model that is told nothing, in files, and how they compare with real tiles and pictures.

An LST model knows each tile in units of its own standard deviation, so a sample takes the mean and the deviation of a
real tile. Statistics are of tiles in these units, of pictures in shares of white: the variogram (half the mean squared
difference of pixels so far apart), and the kurtosis of neighbours' differences, 0 for a Gaussian field, which edges
raise. Samples that repeat a real tile would lie nearer to one than real tiles lie to one another.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from lacunar.errors import LacunarError
from lacunar.geo.picture import Picture, read_picture, write_picture
from lacunar.geo.raster import RasterWriter
from lacunar.geo.staging import Staging, refuse_existing, write_text
from lacunar.geo.windows import Tile
from lacunar.interpolate.scaling import RangeScaling
from lacunar.limits import SAMPLES, check_limit
from lacunar.models.backend import load_filler
from lacunar.models.unconditional import draw_untold
from lacunar.sensors.scene import open_scene
from lacunar.versions import versions

LAGS = (1, 2, 4, 8, 16)  # pixels
MOST_REAL = 256  # tiles or pictures that samples are compared with
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
RECORD = "samples.json"

FloatArray = NDArray[np.floating]
Callback = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """What is drawn. Raises `LacunarError` for a number out of range."""

    model: str
    n: int = 64
    evaluations: int = 25
    seed: int = 0
    device: str = "cpu"
    command: str = ""

    def __post_init__(self) -> None:
        if self.n < 1 or self.evaluations < 1 or self.seed < 0:
            got = f"{self.n} samples, {self.evaluations} evaluations, seed {self.seed}"
            raise LacunarError(f"{got}: wanted 1 or more of the first two, and a seed from 0")
        check_limit(self.n, SAMPLES, "samples", "64 are usual")


def write_samples(
    folder: Path, *, like: Path, options: SampleOptions, callback: Callback | None = None
) -> dict[str, Any]:
    """Draw samples into a new folder, with a record, and compare them with what is real.

    ``like`` is an LST raster or product for a model of temperature, a picture or a folder of them for others. Samples
    are single-band rasters in its unit, or PNG. Raises `LacunarError`: no such model, nothing real of the model's size,
    or a folder that exists; nothing is written then.
    """
    begun = time.perf_counter()
    refuse_existing(folder, overwrite=False)
    model = load_filler(options.model, device=options.device)
    pictures = isinstance(model.scaling, RangeScaling)
    side = model.network.config.sample_size
    real = _pictures(like, side) if pictures else _tiles(like, side)
    drawn = draw_untold(model, options.n, seed=options.seed, evaluations=options.evaluations, callback=callback)
    shown: FloatArray
    if pictures:
        shown = (np.moveaxis(drawn, 1, 3).clip(-1, 1) + 1) / 2
        compared = compare(shown.mean(axis=3), real.mean(axis=3))
    else:
        shown = drawn[:, 0]
        compared = compare(standardised(shown), standardised(real))
    with Staging(overwrite=False, inputs=[like]) as staging:
        hidden = staging.stage_folder(folder)
        for number, one in enumerate(shown):
            name = f"{model.name}_{number + 1:03d}"
            if pictures:
                write_picture(hidden / f"{name}.png", Picture(np.rint(255 * one).astype(np.uint8)))
            else:
                _write_tile(hidden / f"{name}.tif", one, real[number % len(real)])
        record = {
            "model": {"name": model.name, "sha256": model.card.sha256},
            "like": str(like),
            "samples": options.n,
            "real": len(real),
            "evaluations_per_sample": options.evaluations,
            "seed": options.seed,
            "compared": compared,
            "seconds": round(time.perf_counter() - begun, 2),
            "versions": versions(),
            "command": options.command,
        }
        write_text(hidden / RECORD, json.dumps(record, indent=2) + "\n")
    return record


def compare(samples: FloatArray, real: FloatArray) -> dict[str, dict[str, float]]:
    """Statistics of samples (N, s, s) and of real tiles (M, s, s)."""
    told = {"samples": statistics(samples), "real": statistics(real)}
    told["samples"]["nearest_real"] = _nearest(samples, real)
    told["real"]["nearest_real"] = _nearest(real, real)
    return told


def statistics(tiles: FloatArray) -> dict[str, float]:
    """Mean, standard deviation, variogram at `LAGS` and kurtosis of the differences of neighbours, over all tiles."""
    tiles = tiles.astype(np.float64)
    told = {"mean": float(tiles.mean()), "std": float(tiles.std())}
    for lag in (lag for lag in LAGS if lag < tiles.shape[1]):
        told[f"variogram_{lag}"] = 0.5 * float(np.mean(np.concatenate(_differences(tiles, lag)) ** 2))
    steps = np.concatenate(_differences(tiles, 1))
    told["kurtosis"] = float(np.mean(steps**4) / max(np.mean(steps**2) ** 2, 1e-30) - 3)
    return told


def standardised(tiles: FloatArray) -> FloatArray:
    """Tiles (N, s, s) of mean 0 and standard deviation 1 each."""
    tiles = tiles.astype(np.float64)
    std = tiles.std(axis=(1, 2), keepdims=True)
    return np.asarray((tiles - tiles.mean(axis=(1, 2), keepdims=True)) / np.maximum(std, 1e-9))


def _differences(tiles: FloatArray, lag: int) -> list[FloatArray]:
    return [(tiles[:, lag:] - tiles[:, :-lag]).ravel(), (tiles[:, :, lag:] - tiles[:, :, :-lag]).ravel()]


def _nearest(tiles: FloatArray, real: FloatArray) -> float:
    """Mean over tiles of the root mean square difference to the nearest real one, itself left out; NaN without any."""
    a, b = (one.reshape(len(one), -1).astype(np.float64) for one in (tiles, real))
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    if tiles is real:
        np.fill_diagonal(squares, np.inf)
    nearest = np.sqrt(np.maximum(squares.min(axis=1), 0) / a.shape[1])
    return float(nearest.mean()) if np.isfinite(nearest).all() else float("nan")


def _tiles(like: Path, side: int) -> FloatArray:
    """Tiles (N, side, side) of a raster or product in which every pixel is measured, without overlap."""
    with open_scene(like) as scene:
        scene.check_lst(needs_qa=False)
        rows, cols = (range(0, length - side + 1, side) for length in scene.shape)
        places = [(row, col) for row in rows for col in cols]
        found: list[FloatArray] = []
        for row, col in places:
            part = scene.measured(Tile(row, col, side, side))
            if part.known.all() and np.ptp(part.values) > 0:
                found.append(part.values)
            if len(found) == MOST_REAL:
                break
    if not found:
        raise LacunarError(f"{like} has no tile of {side} x {side} pixels that are all measured: wanted one or more")
    return np.stack(found)


def _pictures(like: Path, side: int) -> FloatArray:
    """The largest middle squares of pictures as (N, side, side, 3) from 0 to 1."""
    from skimage.transform import resize

    paths: Sequence[Path] = [like]
    if like.is_dir():
        paths = sorted(path for path in like.iterdir() if path.suffix.lower() in PICTURE_ENDINGS)[:MOST_REAL]
    found = []
    for path in paths:
        picture = read_picture(path)
        least = min(picture.shape)
        if least < side:
            raise LacunarError(f"{path} is {picture.shape[1]}x{picture.shape[0]} pixels: wanted {side} at least")
        top, left = ((length - least) // 2 for length in picture.shape)
        square = picture.colours[top : top + least, left : left + least] / picture.white
        small = resize(square, (side, side), order=1, anti_aliasing=True)  # type: ignore[no-untyped-call]
        found.append(np.repeat(small, 3, axis=2) if small.shape[2] == 1 else small)
    if not found:
        raise LacunarError(f"{like} holds no picture: wanted {', '.join(PICTURE_ENDINGS)}")
    return np.stack(found)


def _write_tile(path: Path, sample: FloatArray, real: FloatArray) -> None:
    """A sample with the mean and the deviation of a real tile."""
    values = standardised(sample[None])[0] * real.std() + real.mean()
    grid = {"shape": values.shape, "transform": Affine.identity(), "crs": None}
    with RasterWriter(path, band_names=("sample",), **grid) as writer:
        writer.write(values[None].astype(np.float32))
