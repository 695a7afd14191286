"""Small sets of water scenes made here: what every test of their evaluation shares."""

import numpy as np
from PIL import Image

from commands import write
from lacunar.train.water_data import IGNORE, WATER

SIDE = 48
GRASS, LAKE = (60, 90, 40), (20, 30, 60)  # red, green, blue
GRASS_NRG, LAKE_NRG = (200, 60, 90), (10, 20, 40)  # near infrared, red, green


def disc(radius, centre=(24, 24), side=SIDE):
    """A round lake."""
    rows, cols = np.mgrid[:side, :side]
    return np.hypot(rows - centre[0], cols - centre[1]) < radius


def put(folder, name, water, colours, *, ignore=None, mask=None):
    """A picture of one colour for each class with some noise, and its mask."""
    folder.mkdir(exist_ok=True, parents=True)
    draws = np.random.default_rng(len(name) + int(water.sum()))
    land, lake = (np.array(colour, float) for colour in colours)
    picture = np.where(water[..., None], lake, land) + draws.normal(0, 2, (*water.shape, 3))
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    values = water.astype(np.uint8) if mask is None else mask
    if ignore is not None:
        values = np.where(ignore, 255, values).astype(np.uint8)
    Image.fromarray(values).save(folder / f"{name}_mask.png")


def make_sets(folder):
    """A set of pictures, one of near infrared, red and green, and one of six bands; five scenes in all and two."""
    for number, radius in enumerate((6, 9, 12, 15, 18)):
        put(folder / "lakes_rgb", f"lake_{number}", disc(radius), (GRASS, LAKE))
    corner = np.zeros((SIDE, SIDE), bool)
    corner[:8, :8] = True
    for number, radius in enumerate((10, 14)):
        put(folder / "ponds_nrg", f"pond_{number}", disc(radius), (GRASS_NRG, LAKE_NRG), ignore=corner)
    water = disc(13)
    bands = np.where(water, np.array([500, 600, 400, 150, 80, 50])[:, None, None], 0)
    bands += np.where(water, 0, np.array([300, 700, 500, 4000, 2000, 1000])[:, None, None])
    (folder / "six").mkdir()
    bands = bands + np.arange(SIDE)[None, :, None]
    write(folder / "six" / "a.tif", bands.astype(np.int16))
    Image.fromarray(water.astype(np.uint8)).save(folder / "six" / "a_mask.png")
    return folder


def write_scene(folder, name, *, shape=(60, 80), seed=0, ending=".png"):
    """A dark lake in bright land, with a column to be ignored."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    mask[20:50, 10:60] = WATER
    picture = np.where(mask[..., None] == WATER, [30, 60, 40], [120, 110, 100]) + rng.integers(0, 10, (*shape, 3))
    mask[:, -4:] = IGNORE
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.astype(np.uint8)).save(folder / f"{name}{ending}")
    Image.fromarray(mask).save(folder / f"{name}_mask.png")
    return picture.astype(np.uint8), mask
