"""The script that writes into a card which values training showed."""

import sys

import numpy as np
import pytest
import torch

import water_ranges
from lacunar.models.checkpoint import read_model
from lacunar.sensors.bands import BANDS
from lacunar.train.water_data import water_scenes
from water_models import save_random
from water_sets import make_sets


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_ranges_of_training_are_written_and_weights_stay(tmp_path, monkeypatch, capsys):
    scenes = make_sets(tmp_path / "scenes")
    with torch.random.fork_rng(devices=[]):
        folder = save_random(tmp_path / "kinds")
    before = read_model(folder)
    monkeypatch.setattr(sys, "argv", ["water_ranges.py", "--scenes", str(scenes), "--model", str(folder)])
    water_ranges.main()
    after = read_model(folder)
    assert after.card.sha256 == before.card.sha256
    assert tuple(after.card.ranges) == BANDS
    assert "swir2" in capsys.readouterr().out
    for scene in water_scenes(scenes):
        known = scene.mask != 255
        for band, plane in zip(BANDS, scene.bands(), strict=True):
            low, high = after.card.ranges[band]
            if np.isfinite(plane).any():
                assert ((plane[known] >= low - 1e-3) & (plane[known] <= high + 1e-3)).mean() > 0.98
