"""Sharpened temperature against what it was degraded from: RMSE in kelvin beside bicubic and TsHARP.

    python benchmarks/sharpen.py PRODUCT [PRODUCT ...]

The delivered 30 m field is averaged to 90 m, about what Landsat 8/9 measure: the truth. Its means over 2, 3 and 4
pixels are sharpened by reflectances at 90 m. TsHARP (Agam et al. 2007) is linear in NDVI, its residual spread over each
block.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.evaluate.report import markdown_table
from lacunar.fill.sharpen import guides_of
from lacunar.interpolate.sharpening import block_mean, nearest_known, sharpened, spread
from lacunar.sensors.scene import open_scene

NATIVE, FACTORS = 3, (2, 3, 4)
Plane = NDArray[np.floating]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("products", type=Path, nargs="+")
    rows = []
    for product in parser.parse_args().products:
        with open_scene(product) as scene:
            lst, bands = scene.lst(needs_qa=False), scene.bands()
        truth = block_mean(lst.values, NATIVE)
        names = [str(name) for name in bands["band"].values]
        planes = {name: block_mean(plane, NATIVE) for name, plane in zip(names, bands.values, strict=True)}
        rows += [(product.name[:16], factor, *scores(truth, planes, factor)) for factor in FACTORS]
    titles = ("product", "factor", "bicubic, K", "TsHARP, K", "without guides, K", "lacunar sharpen, K", "within sigma")
    print(markdown_table(titles, rows))


def scores(truth: Plane, planes: dict[str, Plane], factor: int) -> list[str]:
    """RMSE of each method, and the share of errors within one sigma."""
    rows, cols = (length // factor * factor for length in truth.shape)
    truth, planes = truth[:rows, :cols], {name: plane[:rows, :cols] for name, plane in planes.items()}
    coarse, guides = block_mean(truth, factor), guides_of(planes)
    found, plain = sharpened(coarse, guides, factor), sharpened(coarse, [], factor)
    bicubic = ndimage.zoom(nearest_known(coarse), factor, order=3, mode="nearest", grid_mode=True)
    ndvi = nearest_known((planes["nir"] - planes["red"]) / (planes["nir"] + planes["red"]))
    known = np.isfinite(coarse)
    slope, level = np.polyfit(block_mean(ndvi, factor)[known], coarse[known], 1)
    guess = slope * ndvi + level
    tsharp = guess + spread(coarse - block_mean(guess, factor), factor)
    there = np.isfinite(truth) & spread(known, factor)
    values = [float(np.sqrt(np.mean((one - truth)[there] ** 2))) for one in (bicubic, tsharp, plain.value, found.value)]
    inside = float(np.mean(np.abs(found.value - truth)[there] <= found.sigma[there]))
    return [*(f"{value:.3f}" for value in values), f"{inside:.0%}"]


if __name__ == "__main__":
    main()
