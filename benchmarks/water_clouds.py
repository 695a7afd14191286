"""Tell how much of the cloud that a Landsat product's quality band names a water model of several classes finds.

    python benchmarks/water_clouds.py --product LANDSAT_PRODUCT --model water-classes

The model sees the bands alone, never the quality band. `LC08_L1TP_041027_20150604` (Flathead Lake, bands 3 to 6) has
real cumulus and snow, and no part of it is trained on.
"""

import argparse
from pathlib import Path

import numpy as np

import lacunar as lc
from lacunar.evaluate.report import markdown_table


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--product", type=Path, required=True)
    parser.add_argument("--model", action="append", required=True)
    options = parser.parse_args()
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
    print(f"The quality band calls {hidden.sum() / seen.sum():.1%} of {options.product.name} cloud or cloud shadow.\n")
    head = ("of it found", "of what is found, right", "of the clear called cloud or shadow", "of cloud called water")
    print(markdown_table(["model", *head], rows))


if __name__ == "__main__":
    main()
