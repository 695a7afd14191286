"""The script that writes the tables of docs/water.md."""

import sys

import numpy as np
import pytest

import water_tables
from lacunar.evaluate.job import evaluate
from water_sets import GRASS, LAKE, SIDE, disc, put


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_tables_of_an_evaluation(tmp_path, monkeypatch, capsys):
    mask = np.full((SIDE, SIDE), 2, np.uint8)
    mask[24:, :24], mask[disc(10)] = 3, 1
    put(tmp_path / "s" / "esw_rgb", "tif4", disc(10), (GRASS, LAKE), mask=mask)
    put(tmp_path / "s" / "esw_rgb", "tif7", disc(8), (GRASS, LAKE))
    for radius in (9, 8, 12, 10, 4):
        put(tmp_path / "s" / "glacial_nrg", f"g{radius}", disc(radius), ((200, 60, 90), (10, 20, 40)))
    evaluate("water", scenes=tmp_path / "s", output=tmp_path / "out")
    evaluate("water", scenes=tmp_path / "s", sets=("esw_rgb",), output=tmp_path / "again")
    folders = [str(tmp_path / name) for name in ("out", "again")]
    monkeypatch.setattr(sys, "argv", ["water_tables.py", *folders, "-o", str(tmp_path)])
    water_tables.main()
    printed, quality = capsys.readouterr().out, (tmp_path / "water_quality.md").read_text()
    rows = [line.split(" | ")[:3] for line in quality.splitlines() if "Otsu" in line]
    assert rows == [
        ["| 2 of `esw_rgb`", "darkness + Otsu", "1.000 [1.000, 1.000]"],
        ["| 5 of `glacial_nrg`", "NDWI + Otsu", "1.000 [1.000, 1.000]"],
    ]
    typical = (tmp_path / "water_typical.md").read_text().splitlines()
    assert typical[0].startswith("| `g8`, `g9`, `g10` |")  # the quartiles of the areas
    assert typical[2] == "| NDWI + Otsu | 1.000 / 1.000 / 1.000 | 1.000 / 1.000 / 1.000 | 1.000 / 1.000 / 1.000 |"
    assert "2 of esw_rgb (" in quality.splitlines()[-1]
    aims = (tmp_path / "water_aims.md").read_text()
    assert "| `esw_rgb` | 1.000 (aim: from 0.6) | - | - |" in aims
    assert water_tables.by(0.5, 0.6, ".2f") == "0.50 (aim: from 0.6, missed by 0.10)"
    scenes = (tmp_path / "water_scenes.md").read_text()
    assert "| method | IoU, 1 scenes of bright water | 1 others | all |" in scenes
    assert "| `tif4` | 1.000 | 1.000 | 1.000 |" in scenes
    assert "| esw_rgb | darkness + Otsu | cloud |" in (tmp_path / "water_covers.md").read_text()
    assert scenes.splitlines()[0] in printed
