"""What lies where there is no water: confusion of known maps, thin water, and a network of classes."""

import json

import numpy as np
import pytest
import torch

from commands import contents
from lacunar.evaluate.job import run
from lacunar.evaluate.task import Estimate, Lineup
from lacunar.evaluate.water import WaterTask
from lacunar.evaluate.water_metrics import thin_water
from water_models import save_random
from water_sets import GRASS, LAKE, SIDE, disc, put

NAMES = ("water", "land", "cloud", "cloud shadow", "snow or ice")


def mask_of_classes():
    """A lake; around it land, cloud, shadow and snow in quarters, and a strip of which only is known that it is dry."""
    mask = np.full((SIDE, SIDE), 2, np.uint8)
    mask[24:, :24], mask[:24, 24:], mask[24:, 24:] = 3, 4, 5
    mask[:4] = 0
    mask[disc(10)] = 1
    return mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("covers")
    put(folder / "told", "a", disc(10), (GRASS, LAKE), mask=mask_of_classes())
    put(folder / "untold", "b", disc(9), (GRASS, LAKE))
    return folder


def seen(bands, valid, seed):
    """Takes half of the cloud for snow, and a shadow for water; and a method that knows water alone."""
    mask = mask_of_classes()
    kinds = {name: mask == value for name, value in zip(NAMES, (1, 2, 3, 4, 5), strict=True)}
    half = kinds["cloud"] & (np.arange(SIDE)[None] < 12)
    kinds["cloud"], kinds["snow or ice"] = kinds["cloud"] & ~half, kinds["snow or ice"] | half
    kinds["water"] = kinds["water"] | kinds["cloud shadow"]
    kinds["cloud shadow"] = np.zeros_like(half)
    kinds["land"] = kinds["land"] | (mask == 0)
    return {"all": Estimate(kinds["water"], kinds=kinds), "water alone": Estimate(kinds["water"])}


def test_classes_are_counted_where_the_mask_tells_them(folder):
    task = WaterTask(scenes=folder)
    lineup = Lineup({"seen": seen}, "all", shown=["all", "water alone"])
    found = run(task, task.cases(), lineup)
    covers = found.tables["covers"].set_index(["method", "class"])
    assert set(found.tables["covers"]["set"]) == {"told"}
    mask = mask_of_classes()
    cloud, half = (mask == 3).sum(), ((mask == 3) & (np.arange(SIDE)[None] < 12)).sum()
    assert covers.loc[("all", "cloud"), ["pixels", "recall", "iou"]].tolist() == pytest.approx(
        [cloud, 1 - half / cloud, 1 - half / cloud]
    )
    snow = (mask == 5).sum()
    assert covers.loc[("all", "snow or ice"), ["recall", "iou"]].tolist() == pytest.approx([1, snow / (snow + half)])
    assert covers.loc[("all", "cloud shadow"), ["recall", "as water"]].tolist() == [0, 1]
    water, shadow = (mask == 1).sum(), (mask == 4).sum()
    assert covers.loc[("water alone", "water"), "iou"] == pytest.approx(water / (water + shadow))
    assert covers.loc[("water alone", "cloud shadow"), "as water"] == 1
    assert np.isnan(covers.loc[("water alone", "cloud"), "recall"])
    assert covers.loc[("all", "cloud"), "as snow or ice"] == pytest.approx(half / cloud)
    tables = task.details(found)
    assert list(tables["Recall of each class"]["all"]) == [
        "1.000",
        "1.000",
        f"{1 - half / cloud:.3f}",
        "0.000",
        "1.000",
    ]
    assert "water alone" not in tables["Recall of each class"]
    assert set(tables["What each class is called"]["method"]) == {"all"}


def test_thin_water_is_at_most_two_pixels_wide():
    water = np.zeros((40, 60), bool)
    water[2:4, 5:55] = True  # a river of two pixels
    water[8:11, 5:55] = True  # of three
    water[20:36, 10:30] = True  # a lake, and a brook into it
    water[27, 30:50] = True
    water[38:, 3:50] = True  # cut off by the border: how wide it is cannot be told
    thin = thin_water(water, np.ones(water.shape, bool))
    assert thin[2:4, 5:55].all()
    assert thin[27, 31:50].all()
    assert not thin[27, 30]  # touches the lake
    assert not thin[8:11].any()
    assert not thin[20:36, 10:30].any()
    assert not thin[38:].any()
    half = np.ones(water.shape, bool)
    half[4:6] = False  # beside the river nothing is known
    assert not thin_water(water, half)[2:4].any()
    round_lake = disc(12)
    assert not thin_water(round_lake, np.ones(round_lake.shape, bool)).any()


def test_recall_of_thin_water(tmp_path):
    water = disc(8)
    water[40, 4:44] = True
    put(tmp_path / "rivers", "a", water, (GRASS, LAKE))
    put(tmp_path / "lakes", "b", disc(9), (GRASS, LAKE))

    def blind(bands, valid, seed):
        found = water.copy() if bands.shape[1:] and (bands[0] > bands[2]).sum() == water.sum() else disc(9)
        found[40, 4:14] = False
        return {"blind": Estimate(found)}

    task = WaterTask(scenes=tmp_path)
    scores = run(task, task.cases(), Lineup({"blind": blind}, "blind")).scores.set_index("set")
    assert scores.loc["rivers", ["thin", "thin_recall"]].tolist() == [40, 0.75]
    assert np.isnan(scores.loc["lakes", "thin_recall"])


def test_the_command_tells_of_classes(folder, tmp_path, lacunar):
    with torch.random.fork_rng(devices=[]):
        model = save_random(tmp_path / "kinds")
    ran = lacunar("evaluate", "water", "--scenes", folder, "--model", model, "--samples", 1, "-o", tmp_path / "out")
    assert (ran.code, "note" in ran.err) == (0, False)
    assert "covers.csv" in contents(tmp_path / "out")
    covers = json.loads((tmp_path / "out" / "scores.json").read_text())["covers"]
    own = [row for row in covers if row["method"] == "kinds"]
    assert [row["class"] for row in own] == list(NAMES)
    for row in own:
        assert sum(row[f"as {name}"] for name in NAMES) == pytest.approx(1)
        assert row["recall"] == pytest.approx(row[f"as {row['class']}"])
    assert "What each class is called" in (tmp_path / "out" / "report.html").read_text()
    ran = lacunar("evaluate", "water", "--scenes", folder, "--set", "untold", "-o", tmp_path / "plain")
    assert (ran.code, "covers.csv" in contents(tmp_path / "plain")) == (0, False)
