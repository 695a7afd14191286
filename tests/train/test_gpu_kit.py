"""The kit for a machine with a GPU: packed from small data and run as it is there, two steps of each recipe."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import write
from gpu_kit.pack import make_kit
from gpu_kit.plan import PEAKS, PLAN, chosen, expected_per_minute, peak_of
from lacunar.models.backend import load_model
from lacunar.networks import efficientnet
from lacunar.train.recipe import finish_recipe, load_start
from lacunar.train.recipes import RECIPES
from water_sets import write_scene

BLOCKED = ("diffusers", "rasterio", "affine", "dask", "xarray", "rioxarray", "geopandas", "matplotlib")


def make_data(data):
    """Photographs, scenes of water and rasters as the recipes want them, as few and as small as they may be."""
    (data / "faces" / "train").mkdir(parents=True)
    with tarfile.open(data / "faces" / "train" / "faces.tar", "w") as tar:
        for number in range(504):
            picture, stream = np.full((109, 89, 3), number % 250, np.uint8), io.BytesIO()
            picture[40:60, 30:50] = 90
            Image.fromarray(picture).save(stream, "JPEG")
            member = tarfile.TarInfo(f"{number:06}.jpg")
            member.size = len(stream.getvalue())
            tar.addfile(member, io.BytesIO(stream.getvalue()))
    names = {"esw_rgb": ["tif35", "a"], "multispectral6": ["016", "a"], "waterbodies_rgb_a": [*map(str, range(82))]}
    names |= {"glacial_nrg": [*map(str, range(10))]}
    for name in RECIPES["water-classes"].shares:
        for number, scene in enumerate(names.get(name, ["a"])):
            write_scene(data / "water" / "train" / name, scene, seed=number, shape=(64, 64))
    (data / "lst" / "train").mkdir(parents=True)
    rows, cols = np.indices((80, 90))
    for number, place in enumerate(("losangeles", "newyork", "aster", "kano", "macas", "liverpool")):
        kelvin = 295 + 5 * np.sin(rows / 6 + number) + 4 * np.cos(cols / 8)
        write(data / "lst" / "train" / f"{place}_2020.tif", kelvin.astype(np.float32), crs="EPSG:32631")
    (data / "clouds").mkdir()
    return data


def test_the_kit_trains_everywhere_and_what_comes_back_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kit, out, work = tmp_path / "kit", tmp_path / "out", tmp_path / "work"
    monkeypatch.setattr(efficientnet, "imagenet_weights", lambda kind: efficientnet.EfficientNetLite(kind).state_dict())
    assert make_kit(make_data(tmp_path / "data"), kit, wheels=False) < 60 * 2**20
    manifest = json.loads((kit / "manifest.json").read_text())
    assert {"run.sh", "source.tar.gz", "data/pictures/faces.tar", "data/water.npz", "data/lst.npz"} <= set(manifest)
    # A Python that has no geospatial library and no diffusers, as the machine with the GPU.
    lacking = f"import sys\nsys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
    (tmp_path / "sitecustomize.py").write_text(lacking)
    environment = {**os.environ, "PYTHON": sys.executable, "LACUNAR_KIT_WORK": str(work), "OUT": str(out)}
    environment |= {"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        ["bash", str(kit / "run.sh"), "--smoke"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(out.iterdir())) <= 8  # files that come back
    records = json.loads((out / "records.json").read_text())
    for part in PLAN:
        record = records[part.recipe]
        assert record["steps"] == 2
        assert record["per_minute_expected_of_an_h100"] > 1000
        assert (out / f"{part.recipe}.safetensors").stat().st_size < 16 * 2**20
    assert set(json.loads((out / "timings.json").read_text())) > {part.recipe for part in PLAN}

    weights = out / "water-classes.safetensors"
    start = load_start(RECIPES["water-classes"], str(weights), None)
    assert "water-classes.safetensors" in start.notes[0]
    monkeypatch.setattr("lacunar.train.kinds.WATER_HELD_OUT", 2)
    folder = finish_recipe(RECIPES["water-classes"], kit / "data" / "water.npz", tmp_path / "run", weights)
    model = load_model(folder)
    assert model.card.steps == 2
    assert "--finish water-classes.safetensors" in model.card.command
    assert {"machine: cpu", "examples: 4"} <= set(model.card.notes)
    assert 0 <= model.card.scores["held_out"]["iou"] <= 1


def test_the_plan():
    assert [part.recipe for part in chosen(["water-classes:2", "lst-small"])] == ["water-classes", "lst-small"]
    assert chosen(["lst-small:2"])[0].start == "lst-small"
    assert chosen(["water-classes:1:water-small"])[0].start == "water-small"
    assert chosen([]) == PLAN
    assert peak_of("NVIDIA H100 80GB HBM3") == PEAKS["H100"]
    assert peak_of("cpu") is None
    assert expected_per_minute(1e9, 1e12) == pytest.approx(60 * 0.4 * 1e12 / 3e9)
