"""Clipped highlights of one exposure against the light that shorter ones measured: error in stops.

    python benchmarks/highlights.py FOLDER > docs/evidence/tables/highlights.md

FOLDER holds pictures and exposure_times.csv (filename, shutter_time in seconds).

The truth is the mean of light by time over all exposures, each weighted by how far a value is from black and white
(Debevec and Malik 1997, with the sRGB curve as the camera's). Of each exposure that is clipped in part, what it clips
is left as it is, filled by Laplace or biharmonic in the logarithm of light, or by `lacunar restore --task hdr`. Errors
are root mean squares of log2 of light over the clipped values.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.transform import downscale_local_mean

import lacunar as lc
from lacunar.evaluate.report import markdown_table
from lacunar.geo.picture import read_picture
from lacunar.interpolate import classical
from lacunar.pictures.degradation import Degradation, decoded
from lacunar.pictures.restore import SATURATED

SIDE = 256  # pixels along the longer side, about
DARKEST = 1e-4  # of white: the least light whose logarithm is taken
LEAST, MOST = 0.002, 0.6  # shares of clipped values between which an exposure is of use
CLASSICAL: tuple[classical.FillName, ...] = ("laplace", "biharmonic")
Light = NDArray[np.floating]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    times = pd.read_csv(folder / "exposure_times.csv")
    exposures = {float(time): _read(folder / name) for name, time in times.itertuples(index=False)}
    light = merged(exposures)
    rows = []
    for time, seen in sorted(exposures.items(), reverse=True):
        clipped = seen >= SATURATED
        if LEAST < clipped.mean() < MOST:
            truth = np.log2(np.maximum(light * time, 1.0))[clipped]
            errors = [np.sqrt(np.mean((told[clipped] - truth) ** 2)) for told in fills(seen, clipped)]
            rows.append((f"{time:g} s", f"{clipped.mean():.1%}", *(f"{error:.2f}" for error in errors)))
    titles = ("exposure", "clipped", "left as it is", *CLASSICAL, "lacunar restore --task hdr")
    print(markdown_table(titles, rows))


def fills(seen: Light, clipped: NDArray[np.bool_]) -> list[Light]:
    """log2 of light with 1 = white: clipped, classical fills, and the product's."""
    log_light = np.log2(np.maximum(decoded(seen), DARKEST))
    told = [np.where(clipped, 0.0, log_light)]
    for name in CLASSICAL:
        channels = [
            classical.fill(name, log_light[..., k], ~clipped[..., k]) if clipped[..., k].any() else log_light[..., k]
            for k in range(seen.shape[2])
        ]
        told.append(np.maximum(np.stack(channels, axis=-1), np.where(clipped, 0.0, -np.inf)))
    restored = lc.restore(seen.astype(np.float32), Degradation(task="hdr"))
    return [*told, np.log2(np.maximum(restored, DARKEST))]


def merged(exposures: dict[float, Light]) -> Light:
    """Light per second, in units of white in one second."""
    weights = {
        time: np.maximum(1 - np.abs(2 * seen - 1), 1e-6) * (seen < SATURATED) for time, seen in exposures.items()
    }
    shortest = min(exposures)
    weights[shortest] = np.maximum(weights[shortest], 1e-9)  # clipped in all: no more is known
    total = sum(weights[time] * decoded(seen) / time for time, seen in exposures.items())
    return np.asarray(total / sum(weights.values()))


def _read(path: Path) -> Light:
    colours = read_picture(path).colours / 255.0
    step = max(1, round(max(colours.shape[:2]) / SIDE))
    rows, cols = (length // step * step for length in colours.shape[:2])
    return np.asarray(downscale_local_mean(colours[:rows, :cols], (step, step, 1)))  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
