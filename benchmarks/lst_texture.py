"""Do samples vary as the truth does? Variogram and power spectrum in the gap, over those of the truth.

    python benchmarks/lst_texture.py                    samples of the field, and of the network on kriging
    python benchmarks/lst_texture.py --network none     the field alone

A square is hidden in the middle of one tile of each raster. 1 is the texture of the truth; the mean of the samples is
too smooth by its nature. Sums over all rasters are led by those of greatest contrast: medians are told beside. The
spectrum is a periodogram (Hann window, plane removed).
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lacunar.evaluate.lst_cases import lst_cases, read_scenes
from lacunar.evaluate.report import markdown_table
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.models.backend import load_filler
from lacunar.versions import describe_machine

LAGS = (1, 2, 4, 8, 16)  # pixels
WAVES = (2.0, 4.0, 8.0, 16.0, 32.0)  # pixels: bands of wavelengths lie between

FloatArray = NDArray[np.float64]


def main() -> None:
    """Fill the squares by each method, and print variogram and spectrum of truth, samples and mean."""
    options = parse()
    scenes, _ = read_scenes(options.rasters, None)
    shape, first = (options.size, options.size), (options.size - options.side) // 2
    square = (slice(first, first + options.side),) * 2
    missing = np.zeros(shape, dtype=bool)
    missing[square] = True
    methods = {"field": None} | ({} if options.network == "none" else {"network": load_filler(options.network)})
    truths: list[FloatArray] = []
    told: dict[str, list[FloatArray]] = {}
    for name, values in list(scenes.items())[:: options.every]:
        case = lst_cases({name: values}, (), masks="box", rates=(0.1,), size=options.size, per_raster=1)[0]
        truths.append(texture(case.truth[square]))
        for label, model in methods.items():
            background = "auto" if model is None else "kriging"
            chosen = FillOptions(samples=options.samples, seed=options.seed, background=background)
            filled = fill_array(case.truth, ~missing, missing, model, chosen)
            samples = [texture(one[square]) for one in filled.realisations]
            told.setdefault(f"{label}, samples", []).append(np.mean(samples, axis=0))
            told.setdefault(f"{label}, mean of {options.samples}", []).append(texture(filled.mean[square]))
        print(f"{name} done", file=sys.stderr, flush=True)
    print(describe_machine())
    print(
        f"\n{len(truths)} rasters, {options.side} of {options.size} pixels square hidden, {options.samples} samples.\n"
    )
    whole = np.sum(truths, axis=0)
    rows = [(label, *(f"{ratio:.2f}" for ratio in np.sum(each, axis=0) / whole)) for label, each in told.items()]
    typical = [
        (f"{label}: median", *(f"{ratio:.2f}" for ratio in np.median(np.array(each) / np.array(truths), axis=0)))
        for label, each in told.items()
    ]
    bands = (f"{low:g}-{high:g} px" for low, high in pairwise(WAVES))
    print(markdown_table(("over the truth's", *(f"lag {lag}" for lag in LAGS), *bands), rows + typical))


def texture(field: NDArray[np.floating]) -> FloatArray:
    """Mean squared differences of a square (H, H) at `LAGS`, and its mean power in the bands of `WAVES`."""
    values = field.astype(np.float64)
    steps = [
        np.concatenate([(values[lag:] - values[:-lag]).ravel(), (values[:, lag:] - values[:, :-lag]).ravel()])
        for lag in LAGS
    ]
    side = len(values)
    line = np.linspace(-1, 1, side)
    plane = np.stack([np.ones((side, side)), *np.meshgrid(line, line)]).reshape(3, -1).T
    flat = values.ravel() - plane @ np.linalg.lstsq(plane, values.ravel(), rcond=None)[0]
    window = np.hanning(side)
    power = np.abs(np.fft.fft2(flat.reshape(side, side) * np.outer(window, window))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    bands = [power[(frequency > 1 / high) & (frequency <= 1 / low)].mean() for low, high in pairwise(WAVES)]
    return np.array([*(np.mean(step**2) for step in steps), *bands])


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rasters", type=Path, default=Path("../shared/data/lst/test"), help="LST GeoTIFFs in kelvin")
    parser.add_argument("--every", type=int, default=1, help="take every n-th raster")
    parser.add_argument(
        "--network", default="lst-small", help="shipped model or model folder; none for the field alone"
    )
    parser.add_argument("--size", type=int, default=96, help="of a tile, pixels")
    parser.add_argument("--side", type=int, default=48, help="of the hidden square, pixels")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
