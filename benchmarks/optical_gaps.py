"""Optical bands under transplanted clouds: RMSE, spectral angle and NDVI error of fills, with and without guides.

    python benchmarks/optical_gaps.py radar FOLDER CLOUDS > docs/evidence/tables/optical_radar.md
    python benchmarks/optical_gaps.py dates FOLDER CLOUDS > docs/evidence/tables/optical_dates.md

FOLDER holds NAME_S2L2A.tif (12 bands) beside NAME_S1RTC.tif (dB), or NAME_YEAR.png: SWIR 1, NIR, red, green.

CLOUDS holds Landsat QA_PIXEL rasters; of each the window of 224 pixels whose share of cloud or shadow is nearest 35 %
is taken. All bands of a pixel are hidden. Scores are of hidden pixels: RMSE over the bands, the mean spectral angle in
degrees (Kruse et al. 1993), and the RMSE of NDVI.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import lacunar as lc
from lacunar.evaluate.report import markdown_table
from lacunar.geo.raster import read_raster
from lacunar.interpolate import classical
from lacunar.interpolate.radar import WIDTHS, smoothed

SIDE, SHARE, STEP = 224, 0.35, 48  # pixels, of cloud, pixels between windows that are tried
CLOUD_BITS, FILL = 0b11010, 1  # dilated cloud, cloud and shadow of QA_PIXEL; its fill value
SENTINEL = {"green": 3, "red": 4, "nir": 8, "swir1": 11}  # of the 12 bands of Level 2A
OFFSET, SCALE = 1000, 1e-4  # of Level 2A since 2022, told by its smallest number
SERIES = ("swir1", "nir", "red", "green")
TARGETS, NEAREST = (2015,), 4  # years that are filled, and others that guide
CLASSICAL: tuple[classical.FillName, ...] = ("laplace", "biharmonic")
Bands = dict[str, NDArray[np.floating]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("guides", choices=("radar", "dates"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("clouds", type=Path)
    asked = parser.parse_args()
    rows, found = [], dict[str, list[NDArray[np.floating]]]()
    for place, bands, guides in (with_radar if asked.guides == "radar" else with_dates)(asked.folder):
        for cloud, hidden in clouds_of(asked.clouds):
            told = dict[str, NDArray[np.floating]]()
            for method, filled in fills(bands, hidden, guides, f"lacunar, {asked.guides}"):
                told[method] = scores(bands, filled, hidden)
                print(place, cloud, method, text(told[method]), file=sys.stderr, flush=True)
                found.setdefault(method, []).append(told[method])
            rows.append((place, f"{cloud}, {hidden.mean():.0%}", *map(text, told.values())))
    rows.append(("mean", "", *(text(np.mean(all_of, axis=0)) for all_of in found.values())))
    print(markdown_table(("place", "cloud", *found), rows))


def with_radar(folder: Path) -> Iterator[tuple[str, Bands, list[NDArray[np.floating]]]]:
    """Name, reflectances and guides of every place."""
    for path in sorted(folder.glob("*_S2L2A.tif")):
        stored = read_raster(path).data
        stored = (stored - (OFFSET if stored.min() > 0.9 * OFFSET else 0)) * SCALE
        radar = read_raster(path.with_name(path.name.replace("S2L2A", "S1RTC"))).data
        guides = [smoothed(band, width) for band in radar for width in WIDTHS]
        yield path.name.removesuffix("_S2L2A.tif"), {name: stored[band - 1] for name, band in SENTINEL.items()}, guides


def with_dates(folder: Path) -> Iterator[tuple[str, Bands, list[NDArray[np.floating]]]]:
    """The same of one date of a series, in shares of the brightest count; guides are all bands of the nearest ones."""
    paths = sorted(folder.glob("*_[0-9][0-9][0-9][0-9].png"))
    dates = {}
    for path in paths:
        stored = read_raster(path).data[: len(SERIES)] / 255
        row, col = ((length - SIDE) // 2 for length in stored.shape[1:])
        dates[int(path.stem[-4:])] = stored[:, row : row + SIDE, col : col + SIDE]
    for year in TARGETS:
        nearest = sorted(dates.keys() - {year}, key=lambda other: abs(other - year))[:NEAREST]
        others = [band for other in nearest for band in dates[other]]
        yield f"{paths[0].stem[:-5]} {year}", dict(zip(SERIES, dates[year], strict=True)), others


def clouds_of(folder: Path) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Place (path and row) and hidden pixels of each cloud."""
    for path in sorted(folder.glob("LC08_L2SP_*_QA_PIXEL.TIF")):
        quality = read_raster(path).data[0].astype(np.int64)
        cloud = ((quality & CLOUD_BITS) > 0) & (quality != FILL)
        starts = [range(0, length - SIDE + 1, STEP) for length in cloud.shape]
        windows = [cloud[row : row + SIDE, col : col + SIDE] for row in starts[0] for col in starts[1]]
        best = min(windows, key=lambda window: abs(float(window.mean()) - SHARE))
        if 0.1 < best.mean() < 0.9:
            yield path.name[10:16], best


def fills(
    bands: Bands, hidden: NDArray[np.bool_], guides: list[NDArray[np.floating]], guided: str
) -> Iterator[tuple[str, Bands]]:
    """Filled bands by method."""
    for name in CLASSICAL:
        yield name, {band: classical.fill(name, values, ~hidden) for band, values in bands.items()}
    shown = {band: np.where(hidden, np.nan, values) for band, values in bands.items()}
    for name, beside in (("lacunar", []), (guided, guides)):
        yield name, {band: lc.fill(one, guides=beside, preset="instant").value for band, one in shown.items()}


def scores(truth: Bands, filled: Bands, hidden: NDArray[np.bool_]) -> NDArray[np.floating]:
    """RMSE, mean spectral angle in degrees and RMSE of NDVI over hidden pixels."""
    true, told = (np.stack([bands[name][hidden] for name in truth]).astype(np.float64) for bands in (truth, filled))
    lengths = np.linalg.norm(true, axis=0) * np.linalg.norm(told, axis=0)
    cosine = (true * told).sum(axis=0) / np.maximum(lengths, 1e-12)
    ndvi = [(one["nir"] - one["red"]) / np.maximum(one["nir"] + one["red"], 1e-3) for one in (truth, filled)]
    return np.array(
        [
            np.sqrt(np.mean((told - true) ** 2)),
            np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean(),
            np.sqrt(np.mean((ndvi[1] - ndvi[0])[hidden] ** 2)),
        ]
    )


def text(score: NDArray[np.floating]) -> str:
    """A cell of the table."""
    return f"{score[0]:.4f}, {score[1]:.2f}°, {score[2]:.3f}"


if __name__ == "__main__":
    main()
