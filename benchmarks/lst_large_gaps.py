"""Gaps wider than a tile: error by distance from the nearest known pixel, beside the harmonic fill.

    python benchmarks/lst_large_gaps.py --rasters FOLDER

One round cloud hides the middle of each raster.
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.evaluate.lst_cases import read_scenes
from lacunar.evaluate.report import markdown_table
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.interpolate.classical import fill
from lacunar.versions import describe_machine

EDGES = (0, 4, 16, 32, 64, 96, 128, 192)  # bins of the distance, pixels


def main() -> None:
    """Fill the cloud of every raster both ways and print one table of errors by distance."""
    options = parse()
    squares: dict[str, list[NDArray[np.floating]]] = {}
    distances = []
    scenes, _ = read_scenes(options.rasters, None)
    for name, values in list(scenes.items())[:: options.every]:
        known = np.isfinite(values)
        rows, cols = np.indices(values.shape)
        centre = [length // 2 for length in values.shape]
        gap = known & (np.hypot(rows - centre[0], cols - centre[1]) < options.radius)
        left = known & ~gap
        filled = fill_array(values, left, gap, None, FillOptions(preset="instant", samples=1))
        squares.setdefault("lacunar", []).append((filled.mean - values)[gap] ** 2)
        laplace = fill("laplace", values, left)
        squares.setdefault("Laplace", []).append((laplace - values)[gap] ** 2)
        squares.setdefault("mean of the known pixels", []).append((values[left].mean() - values)[gap] ** 2)
        distances.append(ndimage.distance_transform_edt(gap)[gap])
        print(f"{name} done", file=sys.stderr, flush=True)
    print(describe_machine())
    print(f"\n{len(distances)} rasters, a round cloud of {2 * options.radius} pixels; RMSE in K.\n")
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
    return parser.parse_args()


if __name__ == "__main__":
    main()
