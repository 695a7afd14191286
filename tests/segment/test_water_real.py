"""`lacunar water` with a real network, of few and random weights: what the segmenter gives is what is written."""

import json

import numpy as np
import pytest
import torch

from commands import bands_of, write
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.geo.windows import Tile
from lacunar.models.backend import load_segmenter
from lacunar.models.card import Card
from lacunar.models.checkpoint import SegmentationModel, save_model
from lacunar.networks.segdiff import SegmenterConfig, WaterSegDiff
from lacunar.segment.array import segment_array
from lacunar.segment.job import DEFAULT_MODEL
from lacunar.sensors.scene import open_scene
from water_models import lake_scene

BANDS = ("blue", "green", "red", "nir")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny segmenter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = WaterSegDiff(SegmenterConfig(sample_size=32, condition_widths=(16, 32, 32), widths=(16, 32, 32)))
    model = SegmentationModel(
        name="tiny-water",
        network=network.eval(),
        schedule=NoiseSchedule.cosine(1000),
        prediction="x_0",
        card=Card(summary="for tests", licence="none"),
    )
    return save_model(tmp_path_factory.mktemp("models") / "tiny-water", model)


def test_the_map_is_the_mean_of_the_samples_of_the_network(folder, tmp_path, out, lacunar):
    values, _ = lake_scene((40, 50))
    stored = (values * 10000).round().astype(np.uint16)
    stored[:, :4] = 0
    path = write(tmp_path / "lake.tif", stored, nodata=0)
    told = ("--bands", ",".join(BANDS), "--model", folder, "--steps", 2, "--samples", 3, "--seed", 7, "--device", "cpu")
    ran = lacunar("water", path, "-o", out / "water.tif", *told)
    assert (ran.code, ran.err) == (0, "")
    water, probability, disagreement = bands_of(out / "water.tif")
    with open_scene(path, bands=BANDS) as scene:
        planes = scene.planes(Tile(0, 0, *scene.shape))
    found = segment_array(planes, load_segmenter(folder), steps=2, samples=3, seed=7)
    valid = np.ones((40, 50), bool)
    valid[:4] = False
    np.testing.assert_allclose(probability[valid], found.samples.mean(axis=0)[valid], atol=1e-5)
    np.testing.assert_allclose(disagreement[valid], found.samples.std(axis=0)[valid], atol=1e-5)
    assert (np.stack([water, probability, disagreement])[:, ~valid] == 255).all()
    record = json.loads((out / "water.json").read_text())
    assert (record["model"]["name"], record["steps"], record["samples"]) == ("tiny-water", 2, 3)


@pytest.mark.parametrize("bands", [(0, 1, 2, 3), (1, 2, 3)])
def test_the_shipped_default_finds_a_lake_in_the_infrared(bands):
    """Measured: IoU 0.96 and 0.99."""
    values, lake = lake_scene((96, 128))
    planes = np.full((6, *lake.shape), np.nan, dtype=np.float32)
    planes[list(bands)] = values[list(bands)]
    model = load_segmenter(DEFAULT_MODEL)
    assert not model.network.spec.diffusion
    water = segment_array(planes / np.nanpercentile(planes, 98), model).samples.mean(axis=0) >= 0.5
    assert (water & lake).sum() / (water | lake).sum() > 0.8
