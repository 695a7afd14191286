"""Say what the land of scenes of six bands is, for training: clear land, cloud, cloud shadow, snow or ice.

    pip install --no-deps ukis-csmask==0.2.1
    python benchmarks/water_classes.py --scenes DATA/water/train --product LANDSAT_PRODUCT --output SCENES

Writes SCENES, a folder to train on: every set of --scenes, with the land of `multispectral6` and `landsat6` told apart
by `model_6b.onnx` of ukis-csmask (Apache-2.0), where that is sure; what is water is left as it is. Each --product
(bands 2 to 7) becomes tiles of `landsat6`, its water too being the teacher's.
"""

import argparse
from itertools import product as product_of
from pathlib import Path
from shutil import copyfile

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

import lacunar as lc
from lacunar.train.water_data import COVER, IGNORE, WATER, water_scenes
from water_peers import CLOUD, LAND, REFLECTANCE, SHADOW, SIDE, SNOW, WATER_CLASS, Planes, teacher

SURE, SURE_OF_WATER = 0.7, 0.9  # least probability of a label
REACH = 40  # pixels from a cloud to its shadow, at most: what is dark elsewhere may be lava or wood
LABELLED = ("multispectral6", "landsat6")


def main() -> None:
    """Write the folder and print how many pixels have each label."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--product", type=Path, action="append", default=[])
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    probabilities, counts = teacher(), np.zeros(256, int)
    for folder in sorted(options.scenes.iterdir()):
        (options.output / folder.name).mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            copyfile(file, options.output / folder.name / file.name)
    for name in LABELLED:
        for scene in water_scenes(options.scenes / name):
            found = covers(probabilities(scene.bands() * scene.scale / REFLECTANCE))
            mask = np.where(scene.mask == 0, found, scene.mask)
            counts += write_mask(mask, options.output / name / f"{scene.name}_mask.png")
    for product in options.product:
        bands = np.asarray(lc.open_scene(product, keep_clouds=True).bands())
        if min(bands.shape[1:]) < SIDE:
            parser.error(f"{product} is {bands.shape[1]} x {bands.shape[2]}: wanted {SIDE} at least")
        starts = ([*range(0, length - SIDE, SIDE), length - SIDE] for length in bands.shape[1:])
        for top, left in product_of(*starts):
            tile = bands[:, top : top + SIDE, left : left + SIDE]
            known = np.isfinite(tile).all(axis=0)
            claimed = probabilities(np.nan_to_num(tile))
            water = claimed[..., WATER_CLASS]
            unsure = (claimed.argmax(axis=-1) == WATER_CLASS) & (water < SURE_OF_WATER)
            mask = np.where(water >= SURE_OF_WATER, WATER, covers(claimed))
            name = options.output / "landsat6" / f"{product.name}_{top}_{left}"
            values = np.where(known, np.round(tile * REFLECTANCE), 0).astype(np.int16)
            profile = {"driver": "GTiff", "count": len(values), "height": SIDE, "width": SIDE, "dtype": "int16"}
            with rasterio.open(f"{name}.tif", "w", **profile, compress="deflate") as file:
                file.write(values)
            counts += write_mask(np.where(known & ~unsure, mask, IGNORE), Path(f"{name}_mask.png"))
    print({value: int(counts[value]) for value in np.flatnonzero(counts)})


def covers(claimed: Planes) -> NDArray[np.uint8]:
    """Values of a mask: clear land, cloud, shadow, snow where the teacher is sure, else 0."""
    likeliest, found = claimed.argmax(axis=-1), np.zeros(claimed.shape[:2], np.uint8)
    for label, value in zip((LAND, CLOUD, SHADOW, SNOW), COVER, strict=True):
        found[(likeliest == label) & (claimed.max(axis=-1) >= SURE)] = value
    shadow = COVER[2]
    far = distance_transform_edt(likeliest != CLOUD) > REACH if (likeliest == CLOUD).any() else True
    found[(found == shadow) & far] = 0
    return found


def write_mask(mask: NDArray[np.generic], file: Path) -> NDArray[np.intp]:
    """Write a mask; how many pixels have each value."""
    Image.fromarray(mask.astype(np.uint8)).save(file)
    return np.bincount(mask.astype(np.uint8).ravel(), minlength=256)


if __name__ == "__main__":
    main()
