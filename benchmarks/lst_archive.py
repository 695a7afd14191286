"""How much an archive of dates tells: gap RMSE and coverage by the number of reference dates.

    python benchmarks/lst_archive.py --rasters FOLDER --clouds FOLDER

Each date of one place is hidden in turn under a real cloud shape, brought to an exact missing rate. References are
other dates, each with 25 % cloud of its own, those within --far days of the target last. With --kriging the same fills
are made by kriging with drift too. The interval resamples target dates.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lacunar.evaluate.lst_cases import date_of, read_scenes
from lacunar.evaluate.report import markdown_table
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.geo.missing_shapes import exact_rate
from lacunar.models.backend import load_filler
from lacunar.versions import describe_machine

OWN_RATE = 0.25  # of cloud over each reference
TRIES = 60  # windows of a cloud mask that are looked at


def main() -> None:
    """Fill every target beside so many references and print one table."""
    options = parse()
    model = load_filler(options.model)
    scenes, clouds = read_scenes(options.rasters, options.clouds)
    names = sorted(scenes)
    values = np.stack([centre_of(scenes[name], options.size) for name in names])
    rng = np.random.default_rng(options.seed)
    shape = values.shape[1:]
    hidden = {rate: [cloud_over(shape, rate, clouds, rng) for _ in names] for rate in options.rates}
    own = [cloud_over(shape, OWN_RATE, clouds, rng) for _ in names]
    backgrounds = ("archive", "kriging") if options.kriging else ("archive",)
    rows = []
    for count in options.references:
        for rate in options.rates:
            for background in backgrounds if count else ("kriging",):
                fill = FillOptions(preset="instant", samples=1, background=background)
                found = []
                for target in range(0, len(names), options.every):
                    order = ordered(names, target, options.far)[:count]
                    guides = np.stack([np.where(own[j], np.nan, values[j]) for j in order]) if order else None
                    known = np.isfinite(values[target]) & ~hidden[rate][target]
                    gap = np.isfinite(values[target]) & ~known
                    begun = time.process_time()
                    filled = fill_array(np.where(known, values[target], 0.0), known, gap, model, fill, guides=guides)
                    seconds = time.process_time() - begun
                    error = (filled.mean - values[target])[gap]
                    z = np.abs(error) / filled.sigma[gap]
                    found.append((np.sum(error**2), len(error), np.sum(z < 1), np.sum(z < 1.96), seconds))
                rows.append((str(count), f"{rate:.0%}", background, *scored(np.array(found))))
                print("|".join(rows[-1]), flush=True)
    print(f"\n{describe_machine()}")
    print(f"{len(names)} dates, {shape[0]} x {shape[1]} pixels, references beyond {options.far} days first\n")
    print(
        markdown_table(("references", "missing", "background", "RMSE, K [95 %]", "in 68 %", "in 95 %", "CPU s"), rows)
    )


def scored(found: NDArray[np.float64]) -> tuple[str, str, str, str]:
    """RMSE with its interval over target dates, coverages, and CPU seconds of one fill, as text."""
    squares, pixels, in_68, in_95, seconds = found.T
    picks = np.random.default_rng(0).integers(0, len(found), (2000, len(found)))
    low, high = np.quantile(np.sqrt(squares[picks].sum(axis=1) / pixels[picks].sum(axis=1)), (0.025, 0.975))
    rmse, count = np.sqrt(squares.sum() / pixels.sum()), pixels.sum()
    return (
        f"{rmse:.2f} [{low:.2f}, {high:.2f}]",
        f"{in_68.sum() / count:.0%}",
        f"{in_95.sum() / count:.0%}",
        f"{seconds.mean():.1f}",
    )


def ordered(names: list[str], target: int, far: int) -> list[int]:
    """All other dates in a random order, those within ``far`` days of the target last."""
    others = [int(j) for j in np.random.default_rng(100 + target).permutation(len(names)) if j != target]
    apart = {j: abs((date_of(names[j]) - date_of(names[target])).days) for j in others}
    return [j for j in others if apart[j] > far] + [j for j in others if apart[j] <= far]


def centre_of(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The middle of a raster."""
    top, left = ((length - size) // 2 for length in values.shape)
    return values[top : top + size, left : left + size]


def cloud_over(
    shape: tuple[int, int], rate: float, clouds: tuple[NDArray[np.bool_], ...], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """A window of a real cloud mask, mirrored where it is too small, brought to the missing rate."""
    cloud = clouds[int(rng.integers(len(clouds)))]
    pads = [(0, max(0, 2 * length - had)) for length, had in zip(shape, cloud.shape, strict=True)]
    mirrored = np.pad(cloud, pads, mode="symmetric")
    for _ in range(TRIES):
        row, col = (int(rng.integers(0, had - length + 1)) for had, length in zip(mirrored.shape, shape, strict=True))
        window = mirrored[row : row + shape[0], col : col + shape[1]]
        if 0.4 * rate < window.mean() < min(2 * rate, 0.85):
            break
    return exact_rate(np.ascontiguousarray(window), rate, rng=rng)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rasters", type=Path, required=True, help="folder of LST GeoTIFFs of one grid, in kelvin")
    parser.add_argument("--clouds", type=Path, required=True, help="folder of QA_PIXEL rasters or cloud masks")
    parser.add_argument("--references", type=int, nargs="+", default=[0, 1, 4, 11, 15])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.22, 0.5])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--every", type=int, default=1, help="take every n-th date as target")
    parser.add_argument("--far", type=int, default=31, help="days")
    parser.add_argument("--kriging", action="store_true", help="also by kriging with drift")
    parser.add_argument("--model", default="lst-small", help="shipped model or model folder")
    parser.add_argument("--seed", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
