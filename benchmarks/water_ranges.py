"""Write into the card of a segmenter which values its training showed: see `Card.ranges`.

    python benchmarks/water_ranges.py --scenes DATA/water/train --model FOLDER

Of each band, the values that 99.8 % of the pixels of every set lie between, in units of the image's common scale; the
widest of all sets. Weights stay as they are.
"""

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from lacunar.models.checkpoint import SegmentationModel, read_model, save_model
from lacunar.sensors.bands import BANDS
from lacunar.train.water_data import IGNORE, split_scenes, water_scenes

LEFT_OUT = 0.1  # per cent at each end
THINNING = 7  # every so manieth pixel counts


def main() -> None:
    """Measure, print, and save the folder again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args()
    ranges = ranges_of(options.scenes)
    print(ranges)
    model = read_model(options.model)
    if not isinstance(model, SegmentationModel):
        raise SystemExit(f"{options.model} is no segmenter")
    size = (options.model / "model.safetensors").stat().st_size
    half = size < 3 * sum(value.numel() for value in model.network.state_dict().values())
    changed = replace(model, card=replace(model.card, ranges=ranges))
    save_model(options.model, changed, dtype="float16" if half else "float32", overwrite=True)
    if read_model(options.model).card.sha256 != model.card.sha256:
        raise SystemExit("the weights have changed")


def ranges_of(folder: Path) -> dict[str, tuple[float, float]]:
    """Least and most of each band over the training scenes of a folder."""
    values: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for scene in split_scenes(water_scenes(folder)).training:
        bands, known = scene.bands(), scene.mask != IGNORE
        for band, plane in zip(BANDS, bands, strict=True):
            seen = plane[known & np.isfinite(plane)][::THINNING]
            if seen.size:
                values[band, scene.set_name].append(seen.astype(np.float32))
    ends = {key: np.percentile(np.concatenate(parts), (LEFT_OUT, 100 - LEFT_OUT)) for key, parts in values.items()}
    found = {}
    for band in BANDS:
        own = np.array([end for (name, _), end in ends.items() if name == band])
        if own.size:
            found[band] = (round(float(own[:, 0].min()), 3), round(float(own[:, 1].max()), 3))
    return found


if __name__ == "__main__":
    main()
