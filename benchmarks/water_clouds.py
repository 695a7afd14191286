"""A real lake: its area beside NDWI, and how much of the cloud that the quality band names a model of classes finds.

    python benchmarks/water_clouds.py --product PRODUCT --model water-classes > docs/evidence/tables/water_clouds.md

Areas are those of `lacunar water PRODUCT`. For clouds the model sees the bands alone, never the quality band.
`LC08_L1TP_041027_20150604` (Flathead Lake, bands 3 to 6) has real cumulus and snow, and no part of it is trained on.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas
import numpy as np

import lacunar as lc
from lacunar.evaluate.report import markdown_table
from lacunar.segment.indices import ndwi
from lacunar.sensors.bands import place_bands

CONTRADICTED = -0.2  # NDWI below which a body is no water
M2_PER_KM2 = 1e6


def main() -> None:
    """Print two tables, a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--product", type=Path, required=True)
    parser.add_argument("--model", action="append", required=True)
    options = parser.parse_args()
    areas = [area(options.product, name) for name in options.model]
    head = ("water, km²", "sigma, km²", "NDWI > 0, km²", "bodies", f"of them mean NDWI < {CONTRADICTED}")
    print(f"{options.product.name}\n\n{markdown_table(['model', *head], areas)}\n")
    bands = lc.open_scene(options.product, keep_clouds=True).bands()
    seen, clear = (
        np.isfinite(np.asarray(image)).all(axis=0) for image in (bands, lc.open_scene(options.product).bands())
    )
    hidden, rows = seen & ~clear, []
    for name in options.model:
        found = lc.segment(bands, model=name)["class"]
        numbers = dict(zip(found.flag_meanings.split(), found.flag_values, strict=True))
        clouds, water = (
            np.isin(found, [numbers[kind] for kind in kinds if kind in numbers])
            for kinds in (("cloud", "cloud_shadow"), ("water",))
        )
        shares = [clouds[hidden], hidden[clouds & seen], clouds[clear], water[hidden]]
        rows.append([Path(name).name, *(f"{share.mean():.1%}" if share.size else "-" for share in shares)])
    print(f"The quality band calls {hidden.sum() / seen.sum():.1%} of it cloud or cloud shadow.\n")
    head = ("of it found", "of what is found, right", "of the clear called cloud or shadow", "of cloud called water")
    print(markdown_table(["model", *head], rows))


def area(product: Path, name: str) -> list[str]:
    """Area of water with its sigma, of NDWI above 0, and how many bodies NDWI contradicts."""
    with TemporaryDirectory() as folder:
        polygons = Path(folder) / "lakes.gpkg"
        record = lc.segment_file(product, Path(folder) / "water.tif", model=name, polygons=polygons)
        bodies = geopandas.read_file(polygons)
    bands = lc.open_scene(product).bands()
    step_x, step_y = bands.rio.resolution()
    wet = int((ndwi(place_bands(bands.to_numpy(), list(bands["band"].to_numpy()))) > 0).sum()) * abs(step_x * step_y)
    water = record["water"]
    areas = [f"{value / M2_PER_KM2:.2f}" for value in (water["area_m2"], water["sigma_m2"], wet)]
    return [Path(name).name, *areas, str(len(bodies)), str(int((bodies["mean_ndwi"] < CONTRADICTED).sum()))]


if __name__ == "__main__":
    main()
