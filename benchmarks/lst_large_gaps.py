"""Gaps wider than a tile: error by distance from the nearest known pixel, with and without the coarse level.

    python benchmarks/lst_large_gaps.py --rasters FOLDER

One round cloud hides the middle of each raster; its radius is some tiles. Far inside it a tile has no known pixel in
reach. With the coarse level its base is kriged from block means around the cloud, of larger blocks the farther they
lie; without, it is the mean of all known pixels. Both are completed by the same network.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.diffusion.samplers import Preset
from lacunar.evaluate.lst_cases import read_scenes
from lacunar.evaluate.report import markdown_table
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.interpolate.background import CoarseField
from lacunar.interpolate.classical import fill
from lacunar.models.backend import load_filler
from lacunar.versions import describe_machine

EDGES = (0, 4, 16, 32, 64, 96, 128, 192)  # bins of the distance, pixels


def main() -> None:
    """Fill the cloud of every raster both ways and print one table of errors by distance."""
    options = parse()
    model, preset = load_filler(options.model), Preset(steps=options.steps)
    squares: dict[str, list[NDArray[np.floating]]] = {}
    distances = []
    scenes, _ = read_scenes(options.rasters, None)
    for name, values in list(scenes.items())[:: options.every]:
        known = np.isfinite(values)
        rows, cols = np.indices(values.shape)
        centre = [length // 2 for length in values.shape]
        gap = known & (np.hypot(rows - centre[0], cols - centre[1]) < options.radius)
        left = known & ~gap
        one_cell = CoarseField.of(values, left, max(values.shape))
        fills = {
            "with the coarse level": {},
            "without": {"coarse": one_cell},
        }
        for label, arguments in fills.items():
            chosen = FillOptions(preset=preset, samples=options.samples, seed=options.seed)
            filled = fill_array(values, left, gap, model, chosen, **arguments)
            squares.setdefault(label, []).append((filled.mean - values)[gap] ** 2)
        laplace = fill("laplace", values, left)
        squares.setdefault("Laplace", []).append((laplace - values)[gap] ** 2)
        squares.setdefault("mean of the known pixels", []).append((values[left].mean() - values)[gap] ** 2)
        distances.append(ndimage.distance_transform_edt(gap)[gap])
        print(f"{name} done", flush=True)
    print(describe_machine())
    print(
        f"\n{len(distances)} rasters, a round cloud of {2 * options.radius} pixels, {options.samples} samples, ", end=""
    )
    print(f"{options.steps} evaluations, model {model.name}; RMSE in K.\n")
    distance = np.concatenate(distances)
    bins = [(distance > low) & (distance <= high) for low, high in pairwise(EDGES)]
    kept = [(edges, inside) for edges, inside in zip(pairwise(EDGES), bins, strict=True) if inside.any()]
    table = [
        (label, *(f"{np.sqrt(np.concatenate(parts)[inside].mean()):.2f}" for _, inside in kept))
        for label, parts in squares.items()
    ]
    print(markdown_table(("pixels from the nearest known one", *(f"{low}-{high}" for (low, high), _ in kept)), table))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rasters", type=Path, required=True, help="folder of LST GeoTIFFs in kelvin")
    parser.add_argument("--every", type=int, default=1, help="take every n-th raster")
    parser.add_argument("--radius", type=int, default=160, help="of the cloud, pixels")
    parser.add_argument("--model", default="lst-small", help="shipped model or model folder")
    parser.add_argument("--steps", type=int, default=5, help="network evaluations for each sample")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
