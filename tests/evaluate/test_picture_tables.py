"""The script that writes the tables of docs/faces.md and docs/restore.md."""

import sys

import numpy as np
import pandas as pd
from PIL import Image

import picture_tables
from lacunar.evaluate.job import evaluate
from lacunar.evaluate.report import markdown_table


def test_tables_of_restorations(tmp_path, monkeypatch):
    rows, cols = np.indices((32, 32))
    picture = np.dstack([128 + 60 * np.sin(rows / 5), 128 + 60 * np.cos(cols / 7), 4 * rows + 2 * cols])
    (tmp_path / "in").mkdir()
    Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "in" / "a.png")
    evaluate("restoration", pictures=tmp_path / "in", size=32, tasks=("superres",), models=(), output=tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["picture_tables.py", str(tmp_path / "out"), "-o", str(tmp_path)])
    picture_tables.main()
    lines = (tmp_path / "out.md").read_text().splitlines()
    assert lines[0].startswith("| task | method | PSNR, dB | dB over classical |")
    assert [line.split(" | ")[1] for line in lines[2:4]] == ["classical", "Lanczos"]
    assert lines[-1].startswith("1 pictures at 32 x 32 pixels; lacunar ")
    with Image.open(tmp_path / "out.png") as figure:
        assert figure.width == picture_tables.FIGURE_WIDTH


def test_tables_of_faces(tmp_path):
    methods = ["biharmonic", "net", "net, one sample"]
    scores = pd.DataFrame(
        [
            {"rate": 0.5, "hidden_by": kind, "method": method, "gain": number, "gain_low": -1.0, "gain_high": 5.0}
            | dict.fromkeys(["psnr", "ssim", "sharpness", "image_psnr", "image_ssim", "seconds"], 0.25)
            | {"evaluations": 8}
            for kind in ("all", "scarf", "hand")
            for number, method in enumerate(methods)
        ]
    )
    record = {"options": {"size": 128}, "baseline": "biharmonic"}
    found = picture_tables.faces(scores, record)
    assert "| 50 % | net | 0.25 | 1.00 [-1.00, 5.00] | 0.250 | 0.25 |" in found["faces_128"]
    assert found["faces_128_kinds"] == markdown_table(("hidden", "scarf", "hand"), [("50 %", "1.00", "1.00")])
