"""Fills beside a few other dates of training places: the archive's field, kriging with drift, ridge and EM.

    python benchmarks/lst_places.py > docs/evidence/tables/lst_places.md
    python benchmarks/lst_places.py --quick --counts 0 1 2 4 8 9 --windows 3 > docs/evidence/tables/lst_places_dates.md

Windows of 256 pixels are cut out of the dates of one grid. Each date is hidden in turn under a real cloud; the others
have clouds of their own, as in `lacunar evaluate lst --archive`, which does the work. On these places settings may be
chosen.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from affine import Affine
from numpy.typing import NDArray

from lacunar.evaluate.job import evaluate
from lacunar.evaluate.lst import FIELD
from lacunar.evaluate.lst_archive import DRIFT, EM, LAPLACE, REGRESSION
from lacunar.evaluate.report import markdown_table
from lacunar.evaluate.scores import interval_95, resampling_weights
from lacunar.geo.raster import RasterWriter
from lacunar.geo.windows import Tile
from lacunar.train.lst_data import KELVIN_PER_COUNT, LstPack, load_lst, pack_lst

LEAST_MEASURED = 0.9  # of a window, on every date
METHODS = (FIELD, DRIFT, REGRESSION, EM, LAPLACE)


def main() -> None:
    """Fill the windows of each place and write one table."""
    options = parse()
    cases = pd.read_csv(options.read) if options.read else measured(options)
    if options.cases:
        cases.to_csv(options.cases, index=False)
    places, methods = list(dict.fromkeys(cases["place"])), [name for name in METHODS if name in set(cases["method"])]
    groups = cases.groupby(["place", "rate", "references"], sort=False)
    rows = [row_of(key, own, methods) for key, own in groups]
    header = ("place", "missing", "other dates", *methods, "of the field: CRPS, K", "in 68 % / 95 %")
    dates = ", ".join(filled(place, own[own["method"] == FIELD]) for place, own in cases.groupby("place", sort=False))
    print(markdown_table(header, sorted(rows, key=lambda row: places.index(row[0]))))
    print(f"\nRMSE in K; dates filled: {dates}.")
    if DRIFT in set(cases["method"]):
        print(f"\n{ratios(cases)}")


def measured(options: argparse.Namespace) -> pd.DataFrame:
    """The scores of every fill of every case."""
    parts = []
    with TemporaryDirectory() as folder:
        pack_lst(options.data / "lst" / "train", None, Path(folder) / "pack.npz")
        pack = load_lst(Path(folder) / "pack.npz")
        for place in options.places:
            for number, window in enumerate(windows(pack, place, options)):
                dates = Path(folder) / f"{place}{number}"
                dates.mkdir()
                for name, values in window.items():
                    write(dates / f"{name}.tif", values)
                found = evaluate(
                    "archive",
                    rasters=dates,
                    clouds=options.data / "clouds",
                    counts=tuple(count for count in options.counts if count < len(window)),
                    methods=(LAPLACE, EM, REGRESSION, *([] if options.quick else [DRIFT])),
                    far=0,
                    every=options.every,
                    seed=options.seed + number,
                )
                parts.append(found.cases.assign(place=place))
                print(f"{place} {number} done", file=sys.stderr, flush=True)
    return pd.concat(parts)


def ratios(cases: pd.DataFrame) -> str:
    """How much larger errors and seconds of kriging are than the field's, in the geometric mean over cases."""
    names = ["place", "scene", "rate", "references"]
    field, drift = (cases[cases["method"] == name].set_index(names) for name in (FIELD, DRIFT))
    apart = np.log(drift["rmse"] / field["rmse"]).groupby("references").mean()
    each = ", ".join(f"{np.exp(value):.2f} with {count}" for count, value in apart.items())
    longer = drift["seconds"].sum() / cases.loc[cases["method"].str.startswith(FIELD), "seconds"].sum()
    told = f"RMSE of {DRIFT} over that of the field, geometric mean over cases: {each} dates."
    return f"{told} It takes {longer:.1f} times as long."


def filled(place: str, cases: pd.DataFrame) -> str:
    """How many dates of how many windows."""
    each, dates = cases.groupby(["rate", "references"]).size().max(), cases["scene"].nunique()
    return f"{place} {dates} in {each // dates} window{'s' if each > dates else ''}"


def row_of(key: tuple[str, float, int], cases: pd.DataFrame, methods: Sequence[str]) -> tuple[str, ...]:
    """The row of a place, a missing rate and a number of dates."""
    own = {name: part for name, part in cases.groupby("method")}
    errors = [pooled(own[name], "rmse") if name in own else "-" for name in methods]
    field = own[FIELD]
    inside = " / ".join(
        f"{np.average(field[name], weights=field['pixels']):.0%}" for name in ("coverage_68", "coverage_95")
    )
    crps = f"{np.average(field['crps'], weights=field['pixels']):.2f}"
    return key[0], f"{key[1]:.0%}", str(key[2]), *errors, crps, inside


def pooled(cases: pd.DataFrame, score: str) -> str:
    """RMSE over the pixels of all cases, with its 95 % interval by resampling dates."""
    squares = (cases[score] ** 2 * cases["pixels"]).groupby(cases["scene"]).sum().to_numpy()
    pixels = cases["pixels"].groupby(cases["scene"]).sum().to_numpy()
    weights = resampling_weights(len(pixels), seed=0)
    found = np.sqrt((weights @ squares) / (weights @ pixels))
    low, high = interval_95(found, units=len(pixels))
    return f"{found[0]:.2f} [{low:.2f}, {high:.2f}]"


def windows(pack: LstPack, place: str, options: argparse.Namespace) -> list[dict[str, NDArray[np.float32]]]:
    """Windows of the largest grid of a place that all of its dates measure: values in kelvin by name."""
    grids = [grid for own, (grid, _, _) in zip(pack.places, pack.positions, strict=True) if own == place]
    grid = max(set(grids), key=grids.count)
    numbers = [number for number, (own, _, _) in enumerate(pack.positions) if own == grid]
    first = [max(pack.positions[number][axis] for number in numbers) for axis in (1, 2)]
    stack = []
    for number in numbers:
        _, row, col = pack.positions[number]
        stack.append(pack.rasters[number][first[0] - row :, first[1] - col :])
    shape = [min(one.shape[axis] for one in stack) for axis in (0, 1)]
    values = np.stack([one[: shape[0], : shape[1]] for one in stack])
    rng, found = np.random.default_rng(options.seed), []
    taken = np.zeros(shape, dtype=bool)
    for _ in range(2000):
        row, col = (int(rng.integers(length - options.size + 1)) for length in shape)
        cut = (slice(row, row + options.size), slice(col, col + options.size))
        if not taken[cut].any() and ((values[:, *cut] > 0).mean(axis=(1, 2)) >= LEAST_MEASURED).all():
            taken[cut] = True
            part = values[:, *cut].astype(np.float32) * np.float32(KELVIN_PER_COUNT)
            names = [dated(pack.names[number]) for number in numbers]
            found.append({name: np.where(one > 0, one, np.nan) for name, one in zip(names, part, strict=True)})
        if len(found) == options.windows:
            break
    return found


def dated(name: str) -> str:
    """A name with a date of 8 digits: of ECOSTRESS year and day of the year, of a composite the middle of its year."""
    place, *_, stamp = name.split("_")
    year = int(stamp[:4])
    day = int(stamp[4:7]) if re.fullmatch(r"\d{13}", stamp) else 183
    return f"{place}_{date(year, 1, 1) + timedelta(day - 1):%Y%m%d}"


def write(path: Path, values: NDArray[np.float32]) -> None:
    """A window as a raster in kelvin."""
    with RasterWriter(
        path, shape=values.shape, band_names=("lst",), units=("K",), transform=Affine(30, 0, 0, 0, -30, 0), crs=None
    ) as writer:
        writer.write(values[None], Tile(0, 0, *values.shape))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds lst/train and clouds")
    parser.add_argument("--places", nargs="+", default=("losangeles", "kano", "macas"))
    parser.add_argument("--counts", type=int, nargs="+", default=(1, 2, 3, 4, 9))
    parser.add_argument("--windows", type=int, default=2, help="of each place, where there are so many")
    parser.add_argument("--every", type=int, default=1, help="fill every n-th date")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="without kriging")
    parser.add_argument("--cases", type=Path, help="also every case as CSV")
    parser.add_argument("--read", type=Path, help="such a CSV, in place of filling anything")
    return parser.parse_args()


if __name__ == "__main__":
    main()
