"""The script that compares maps of water with indices, k-means and a published network."""

import sys

import numpy as np
import pytest

import water_peers
from lacunar.evaluate.job import evaluate
from lacunar.sensors.bands import BANDS
from water_sets import disc, make_sets

CLEAR_WATER = {"blue": 0.05, "green": 0.06, "red": 0.04, "nir": 0.015, "swir1": 0.008, "swir2": 0.005}


@pytest.fixture(autouse=True)
def _network(monkeypatch):
    """In place of the published network, all is water."""
    monkeypatch.setattr(water_peers, "likeliest", lambda count: lambda bands: np.ones(bands.shape[1:], bool))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_peers_stand_beside_the_methods_of_an_evaluation(tmp_path, monkeypatch, capsys):
    make_sets(tmp_path / "s")
    evaluate("water", scenes=tmp_path / "s", output=tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["water_peers.py", str(tmp_path / "out"), "--scenes", str(tmp_path / "s")])
    water_peers.main()
    told = capsys.readouterr().out
    rows = dict(line.strip("| ").split(" | ", 1) for line in told.split("of `six`")[1].splitlines() if " | " in line)
    assert rows["MNDWI > 0"].startswith("1.000 | 1.000 | 1.000 |")
    assert rows["NDWI + Otsu"].startswith("1.000 | 1.000 | 1.000 |")
    assert rows["ukis-csmask 0.2.1, six bands"].startswith(f"{disc(13).mean():.3f} |")
    lakes = told.split("of `lakes_rgb`")[1].split("\n\n")[1]
    assert "darkness + Otsu" in lakes
    assert "k-means" in lakes
    assert "MNDWI" not in lakes
    assert "ukis" not in lakes


@pytest.mark.parametrize(
    ("name", "value", "weight"),  # of clear water; of the first short-wave infrared
    [
        ("WI2015 > 0", 1.7204 + 171 * 0.06 + 3 * 0.04 - 70 * 0.015 - 45 * 0.008 - 71 * 0.005, 45),  # Fisher et al. 2016
        ("AWEI, no shadow > 0", 4 * (0.06 - 0.008) - 0.25 * 0.015 - 2.75 * 0.005, 4),  # Feyisa et al. 2014
        ("AWEI, shadow > 0", 0.05 + 2.5 * 0.06 - 1.5 * (0.015 + 0.008) - 0.25 * 0.005, 1.5),
    ],
)
def test_an_index_ends_where_its_equation_is_zero(name, value, weight):
    bands = np.array([CLEAR_WATER[band] for band in BANDS], np.float32)[:, None, None]
    mapper = water_peers.PeerTask(scenes=None).peers[name][1]
    for share, water in ((0.99, True), (1.01, False)):
        brighter = bands.copy()
        brighter[BANDS.index("swir1")] += share * value / weight
        assert mapper(brighter).item() == water


def test_k_means_finds_the_darkest_and_the_wettest():
    bands = np.full((len(BANDS), 8, 8), np.nan, np.float32)
    bands[1], bands[2] = 0.3, np.linspace(0.2, 0.4, 64).reshape(8, 8)
    bands[1:3, :4, :4] = 0.02
    dark = water_peers.clustered(bands)
    assert dark[:4, :4].all()
    assert dark.sum() == 16
    bands[3] = 0.3
    bands[3, 6:] = 0.01  # water as bright as land
    assert not water_peers.clustered(bands)[:4].any()
