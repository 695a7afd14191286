"""The whole evaluation of filled faces on pictures made here: what it writes, what it says, what it refuses."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from commands import contents
from html_reader import is_self_contained
from lacunar.errors import LacunarError
from lacunar.evaluate.picture_job import FaceQualityOptions, evaluate_faces
from lacunar.evaluate.picture_report import PAPER
from lacunar.evaluate.picture_scores import PictureScore
from lacunar.interpolate.pca_prior import fit_prior
from lacunar.models.checkpoint import save_model
from lacunar.networks.unet import UNet, UNetConfig
from picture_models import picture_model, save_tiny

FEW = {"rates": (0.2, 0.5), "occlusions": ("strokes", "blobs"), "samples": 2, "methods": ("laplace", "membrane")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("faces")
    rows, cols = np.indices((80, 80))
    for number in range(3):
        waves = 127 + 60 * np.sin(rows / 9 + number) + 50 * np.cos(cols / (7 + number))
        Image.fromarray(np.stack([waves, 255 - waves, waves / 2], axis=2).astype(np.uint8)).save(made / f"{number}.png")
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def made(folder, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "out"
    options = FaceQualityOptions(models=(model,), presets=("fast:1",), steps=(2,), command="lacunar <b>", **FEW)
    return out, evaluate_faces(folder, out, options=options)


def test_every_output_is_there_and_whole(made):
    out, _ = made
    pictures = ("examples_20", "examples_50", "evaluations")
    names = {*(f"{name}.png" for name in pictures), "scores.csv", "cases.csv", "scores.json", "report.html"}
    assert set(contents(out)) == names
    assert set(contents(out.parent)) == {"out", *(f"out/{name}" for name in names)}  # nothing hidden stays behind
    assert all(min(imread(out / f"{name}.png").shape[:2]) > 200 for name in pictures)


def test_the_files_tell_the_same(made):
    out, record = made
    with (out / "scores.csv").open(encoding="utf-8", newline="") as file:
        scores = list(csv.DictReader(file))
    stored = json.loads((out / "scores.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    methods = ["biharmonic", "laplace", "membrane", "tiny, fast", "tiny, 2 steps", "tiny, 2 steps, one sample"]
    assert [row["method"] for row in scores if row["hidden_by"] == "all"] == methods * 2
    assert list(scores[0]) == list(PictureScore.__dataclass_fields__)
    assert [float(row["psnr"]) for row in scores] == [row["psnr"] for row in stored["scores"]]
    assert len(stored["cases"]) == 3 * 2 * len(methods)
    assert stored["data"]["occlusions at each rate"] == "2 by strokes, 1 by blobs"
    assert record["findings"].headline == "tiny, fast"
    own = [row["psnr"] for row in stored["cases"] if (row["method"], row["rate"]) == ("laplace", 0.5)]
    assert record["findings"].score("laplace", 0.5).psnr == pytest.approx(np.mean(own))


def test_the_page_stands_alone_and_tells_the_paper_apart(made):
    out, _ = made
    text = (out / "report.html").read_text(encoding="utf-8")
    assert is_self_contained(text)
    assert text.count("NOT comparable)") == sum(len(PAPER[rate]) for rate in FEW["rates"])
    assert "lacunar &lt;b&gt;" in text


def test_a_larger_size_is_refined_by_the_detail_model(folder, model, tmp_path):
    options = FaceQualityOptions(
        size=80, rates=(0.2,), occlusions=("blobs",), methods=(), models=(model,), detail=model, presets=(), steps=(1,),
        samples=1, most=1,
    )  # fmt: skip
    record = evaluate_faces(folder, tmp_path / "out", options=options)
    assert record["data"]["refined by"].startswith(model)
    assert [row["method"] for row in record["cases"]] == ["biharmonic", "tiny, 1 steps"]


def test_what_a_model_with_a_prior_starts_from_is_scored_too(folder, tmp_path):
    network = UNet(
        UNetConfig(
            sample_size=64,
            in_channels=8,
            out_channels=3,
            block_out_channels=(8, 16),
            layers_per_block=1,
            middle_attention=False,
            norm_groups=4,
            patch=2,
        )
    )
    prior = fit_prior(np.random.default_rng(0).uniform(-1, 1, (3, 64, 64, 3)).astype(np.float32), 2, seed=0)
    saved = save_model(tmp_path / "own", replace(picture_model(network), prior=prior))
    options = FaceQualityOptions(
        rates=(0.2,), methods=(), models=(str(saved),), presets=(), steps=(1,), samples=1, most=1
    )
    rows = evaluate_faces(folder, tmp_path / "out", options=options)["cases"]
    assert [row["method"] for row in rows] == ["biharmonic", "own, prior alone", "own, 1 steps"]
    assert rows[1]["psnr"] == pytest.approx(rows[2]["psnr"], abs=1e-3)  # an untrained network predicts no residual


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rates": (0.2, 0.2)}, "wanted one or more, each once"),
        ({"presets": ("slow",)}, "unknown preset"),
        ({"presets": ("paper:x",)}, "paper:1"),
        ({"steps": (0,)}, "got 0 steps"),
        ({"samples": 0}, "got samples 0"),
        ({"methods": ("magic",)}, "unknown method"),
        ({"most": 0}, "got most 0"),
    ],
)
def test_bad_options_are_refused(changes, match):
    with pytest.raises(LacunarError, match=match):
        FaceQualityOptions(**changes)


def test_bad_input_leaves_nothing_behind(folder, model, tmp_path):
    with pytest.raises(LacunarError, match="give --size 64"):
        evaluate_faces(folder, tmp_path / "out", options=FaceQualityOptions(size=32, models=(model,), most=1))
    with pytest.raises(LacunarError, match="two models are named tiny"):
        evaluate_faces(folder, tmp_path / "out", options=FaceQualityOptions(models=(model, model), most=1))
    assert not list(tmp_path.iterdir())


def test_the_command(lacunar, folder, tmp_path):
    ran = lacunar("evaluate", "face", "--faces", folder, "-o", tmp_path / "out", "--model", "none", "--rates", "0.2")
    assert ran.code == 0
    assert "| 20 % | biharmonic |" in ran.out
    assert lacunar("evaluate", "face", "--faces", tmp_path, "-o", tmp_path / "no").code == 2
