"""Clouds that a quality band missed: how many are found, and how many real cold things are taken for them.

    python benchmarks/lst_suspects.py --data FOLDER

On training places: a real cloud shape hides 22 % of each raster, and thin clouds of some kelvin are put on measured
pixels near it, which nothing tells. Found are pixels at least half as cold as the middle of their cloud. Cold things
that must stay: all pixels of the same rasters without thin clouds (streets and parks, fields, the Andes' foothills, the
Alps' slopes, coasts), and water and snow of a Landsat product.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.evaluate.lst_archive import centre_of, cloud_over
from lacunar.evaluate.lst_cases import read_scenes
from lacunar.evaluate.report import markdown_table
from lacunar.fill.suspects import told_by_bands
from lacunar.geo.windows import Tile
from lacunar.interpolate.suspects import COLD, NEAR, suspect_pixels
from lacunar.sensors.scene import open_scene
from lacunar.versions import describe_machine

PLACES = {
    "Los Angeles": "losangeles_ecostress",
    "Kano": "kano",
    "Macas": "macas",
    "Alps and France": "aster",
    "Manhattan": "manhattan",
}
ARCHIVES = ("Los Angeles", "Kano", "Macas")  # places of several dates
DEPTHS = (1, 2, 3, 5, 10)  # K
PRODUCT = "landsat/LC08_L1TP_041027_20150604_20170226_01_T1"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with lst/train and clouds")
    parser.add_argument("--cold", type=float, nargs="+", default=[3.0, COLD, 5.0], help="z of a seed")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--dates", type=int, default=5, help="rasters of each place, at most")
    options = parser.parse_args()
    scenes, clouds = read_scenes(options.data / "lst/train", options.data / "clouds")
    rows, seconds = [], []
    for archive in (False, True):
        places = [place for place in PLACES if place in ARCHIVES or not archive]
        cases = {place: list(cases_of(scenes, clouds, PLACES[place], options, archive)) for place in places}
        for cold in options.cold:
            row = ["other dates" if archive else "none", f"{cold:g}"]
            for depth in DEPTHS:
                found = [0, 0]
                for values, known, missing, thin, others in (case for place in cases.values() for case in place):
                    begun = time.process_time()
                    told = suspect_pixels(values - depth * thin, known, missing, others=others, cold=cold)
                    seconds.append(time.process_time() - begun)
                    found[0] += int(told[known & (thin >= 0.5)].sum())
                    found[1] += int((known & (thin >= 0.5)).sum())
                row.append(f"{found[0] / found[1]:.0%}")
            for place in PLACES:
                taken = [
                    (int(suspect_pixels(values, known, missing, others=others, cold=cold).sum()), int(known.sum()))
                    for values, known, missing, _, others in cases.get(place, ())
                ]
                row.append(f"{sum(n for n, _ in taken) / sum(n for _, n in taken):.2%}" if taken else "-")
            rows.append(row)
            print("|".join(row), file=sys.stderr, flush=True)
    print(f"\n{describe_machine()}; {np.mean(seconds):.2f} CPU s a raster of {options.size} x {options.size} pixels\n")
    print(markdown_table(("beside", "z", *(f"{depth} K" for depth in DEPTHS), *PLACES), rows))
    print(f"\n{product_table(options.data / PRODUCT)}")


def cases_of(
    scenes: dict[str, NDArray[np.float64]],
    clouds: tuple[NDArray[np.bool_], ...],
    prefix: str,
    options: argparse.Namespace,
    archive: bool,
) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], NDArray[Any], NDArray[Any] | None]]:
    """Values, known, missing, opacity of thin clouds, other dates or None, of the rasters of a place."""
    rng = np.random.default_rng(0)
    names = [name for name in sorted(scenes) if name.startswith(prefix)]
    planes = {name: centre_of(scenes[name], options.size) for name in names}
    for name in names[: options.dates]:
        values = planes[name]
        hidden = cloud_over(values.shape, 0.22, clouds, rng)
        known = np.isfinite(values) & ~hidden
        near = known & (ndimage.distance_transform_edt(~hidden) < NEAR)
        others = [np.where(cloud_over(values.shape, 0.25, clouds, rng), np.nan, planes[other]) for other in names]
        others = [one for other, one in zip(names, others, strict=True) if other != name and one.shape == values.shape]
        yield values, known, hidden, thin_clouds(near, rng) * known, np.stack(others) if archive else None


def thin_clouds(near: NDArray[np.bool_], rng: np.random.Generator, count: int = 25) -> NDArray[np.float64]:
    """Opacity, 0 to 1, of ellipses with soft borders and half axes of 1.5 to 8 pixels, around pixels of ``near``."""
    opacity, rows, cols = np.zeros(near.shape), *np.indices(near.shape)
    for row, col in rng.permutation(np.argwhere(near))[:count]:
        turn, (long, short) = rng.uniform(0, np.pi), rng.uniform(1.5, 8, 2)
        along = (rows - row) * np.cos(turn) + (cols - col) * np.sin(turn)
        across = (cols - col) * np.cos(turn) - (rows - row) * np.sin(turn)
        opacity = np.maximum(opacity, np.clip(1.4 - 0.9 * np.hypot(along / long, across / short), 0, 1))
    return opacity


def product_table(path: Path) -> str:
    """Suspects of a Landsat product by what its bands say that they are, with and without them."""
    with open_scene(path) as scene:
        part, planes = scene.measured(), scene.reflectance(Tile(0, 0, *scene.shape))
    red, stays = told_by_bands(planes)
    with np.errstate(invalid="ignore"):
        snow = stays & (planes[2] > 0.1)
        kinds = {"snow": snow, "water": stays & ~snow, "bright": ~stays & (red > 0.12), "dark": ~stays & (red <= 0.12)}
    rows = []
    for name, told in (
        ("temperature alone", suspect_pixels(part.values, part.known, part.missing)),
        ("and the bands", suspect_pixels(part.values, part.known, part.missing, brightness=red, stays=stays)),
    ):
        shares = [f"{(told & kind).sum()} of {(part.known & kind).sum()}" for kind in kinds.values()]
        rows.append((name, str(int(told.sum())), *shares))
    return markdown_table((path.name, "suspects", *kinds), rows)


if __name__ == "__main__":
    main()
