"""Evaluation of filled pictures: cases, methods, what is measured, and the whole run on pictures made here."""

import csv
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from commands import contents
from html_reader import Reader, is_self_contained
from lacunar.diffusion.samplers import Preset
from lacunar.errors import LacunarError
from lacunar.evaluate.job import evaluate, run
from lacunar.evaluate.pictures import (
    ALL,
    METHOD_NAMES,
    PictureCase,
    PictureTask,
    classical_methods,
    model_method,
    picture_cases,
)
from lacunar.evaluate.task import Estimate, Lineup
from lacunar.interpolate.pca_prior import fit_prior
from lacunar.models.checkpoint import save_model
from lacunar.networks.unet import UNet, UNetConfig
from picture_models import GaussianPicture, picture_model, save_tiny

SIZE = 32
FLAT = 4  # counts out of 255: Telea's method is off by 2 on a flat picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three smooth squares."""
    made = tmp_path_factory.mktemp("faces")
    rows, cols = np.indices((80, 80))
    for number in range(3):
        waves = 127 + 60 * np.sin(rows / 9 + number) + 50 * np.cos(cols / (7 + number))
        Image.fromarray(np.stack([waves, 255 - waves, waves / 2], axis=2).astype(np.uint8)).save(made / f"{number}.png")
    return made


@pytest.fixture(scope="module")
def cases(folder):
    return picture_cases(folder, size=SIZE, rates=(0.2, 0.5), occlusions=("strokes", "blobs"), seed=1)


@pytest.fixture(scope="module")
def task(folder):
    return PictureTask(faces=folder, size=SIZE, rates=(0.2, 0.5), occlusions=("strokes", "blobs"), models=())


def measured(task, case, filled):
    (row,) = task.measure(case, Estimate(filled))
    return row


# --- cases and measures ---


def test_every_picture_is_hidden_once_at_every_rate_and_the_kinds_take_turns(folder, cases):
    told = [(case.picture, case.rate, case.hidden_by) for case in cases]
    assert told[:4] == [("0", 0.2, "strokes"), ("1", 0.2, "blobs"), ("2", 0.2, "strokes"), ("0", 0.5, "strokes")]
    assert len(cases) == 6
    assert all(int(case.missing.sum()) == round(case.rate * SIZE**2) for case in cases)
    again = picture_cases(folder, size=SIZE, rates=(0.5,), occlusions=("strokes", "blobs"), most=2, seed=1)
    assert [case.picture for case in again] == ["0", "1"]
    assert (again[1].missing == cases[4].missing).all()


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(LacunarError, match="no picture in"):
        picture_cases(tmp_path, size=SIZE, rates=(0.2,))
    Image.fromarray(np.zeros((40, 64, 3), np.uint8)).save(tmp_path / "wide.png")
    with pytest.raises(LacunarError, match=r"wide\.png has 64 x 40 pixels"):
        picture_cases(tmp_path, size=SIZE, rates=(0.2,))


def test_scores_are_those_of_scikit_image(task, cases):
    case = cases[0]
    filled = np.clip(case.truth + np.random.default_rng(0).normal(0, 20, case.truth.shape), 0, 255)
    row = measured(task, case, filled)
    whole = np.where(case.missing[..., None], filled, case.truth) / 255
    assert row["image_psnr"] == pytest.approx(peak_signal_noise_ratio(case.truth / 255, whole, data_range=1))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
    expected = structural_similarity(case.truth / 255, whole, data_range=1, **options)
    assert row["image_ssim"] == pytest.approx(expected, abs=1e-6)
    assert row["mse"] == pytest.approx(row["image_mse"] / case.missing.mean())
    assert measured(task, case, case.truth.astype(float))["image_ssim"] == pytest.approx(1)


def test_what_a_method_does_to_known_pixels_does_not_count(task, cases):
    wild = np.where(cases[0].missing[..., None], cases[0].truth, 255 - cases[0].truth).astype(float)
    assert measured(task, cases[0], wild)["image_mse"] == 0


def test_gains_are_counted_picture_by_picture(task, cases):
    truths = {case.given[0].tobytes(): case.truth.astype(float) for case in cases}

    def off_by(name, error):
        return lambda pixels, missing, seed: {name: Estimate(truths[pixels.tobytes()] + error)}

    lineup = Lineup({"base": off_by("base", 8.0), "half": off_by("half", 4.0)}, "base")
    scores = run(task, cases, lineup).scores.set_index(["rate", "hidden_by", "method"])
    half = scores.loc[(0.2, ALL, "half")]
    assert half["gain"] == pytest.approx(20 * np.log10(2), abs=0.3)  # what is clipped at black or white errs less
    assert half["gain_high"] - half["gain_low"] < 0.5
    assert half["pictures"] == 3
    assert scores.loc[(0.2, "blobs", "half"), "cases"] == 1
    assert scores.loc[(0.5, ALL, "base"), "gain"] == 0


# --- methods ---


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_every_method_fills_a_flat_picture_flat_and_looks_at_no_missing_pixel(name):
    methods = classical_methods([name])
    if name not in methods:
        pytest.skip("OpenCV is not installed")
    missing = np.zeros((SIZE, SIZE), dtype=bool)
    missing[10:20, 8:22] = True
    pixels = np.where(missing[..., None], np.uint8(0), np.full((SIZE, SIZE, 3), 90, np.uint8))
    assert np.abs(methods[name](pixels, missing, 0)[name].value[missing] - 90).max() <= FLAT


def test_without_opencv_its_methods_are_left_out(monkeypatch, caplog, folder):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr("lacunar.evaluate.pictures.find_spec", lambda _: None)
    lineup = PictureTask(faces=folder, models=()).lineup()
    assert list(lineup.methods) == ["biharmonic", "laplace", "membrane"]
    assert "navier-stokes, telea" in lineup.notes["left out"]
    assert "opencv-python-headless" in caplog.text
    with pytest.raises(LacunarError, match="unknown method 'magic'"):
        classical_methods(["magic"])


@pytest.mark.parametrize("side", [64, 128])
def test_a_model_fills_its_own_size_and_larger_ones(task, side):
    """Noise-free and without residual, the model gives the membrane back, whatever the size."""
    model = picture_model(GaussianPicture(variance=1e-8))
    rows, cols = np.indices((side, side)) / side
    truth = (255 * np.stack([rows, cols, (rows + cols) / 2], axis=2)).astype(np.uint8)
    missing = np.zeros((side, side), dtype=bool)
    missing[side // 2 : side // 2 + 12, side // 2 : side // 2 + 12] = True
    case = PictureCase("ramp", 0.1, "rectangle", truth, missing)
    made = model_method("exact", model, (Preset(steps=2), 2))(*case.given, 0)
    assert measured(task, case, made["exact"].value)["psnr"] > 35
    assert (made["exact"].evaluations, made["exact, one sample"].evaluations) == (4, 2)
    assert made["exact, one sample"].share == 0.5


# --- the whole run ---

FEW = {"rates": (0.2, 0.5), "occlusions": ("strokes", "blobs"), "samples": 2, "methods": ("laplace", "membrane")}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def made(folder, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "out"
    told = {"models": (model,), "presets": ("fast:1",), "steps": (2,), "command": "lacunar <b>"}
    return out, evaluate("pictures", faces=folder, output=out, **told, **FEW)


def test_every_output_is_there_and_whole(made):
    out, _ = made
    pictures = ("examples_20", "examples_50", "evaluations")
    names = {*(f"{name}.png" for name in pictures), "scores.csv", "cases.csv", "scores.json", "report.html"}
    assert set(contents(out.parent)) == {"out", *(f"out/{name}" for name in names)}  # nothing hidden stays behind
    assert all(min(imread(out / f"{name}.png").shape[:2]) > 200 for name in pictures)


def test_the_files_tell_the_same(made):
    out, result = made
    with (out / "scores.csv").open(encoding="utf-8", newline="") as file:
        scores = list(csv.DictReader(file))
    stored = json.loads((out / "scores.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    methods = ["biharmonic", "laplace", "membrane", "tiny, fast", "tiny, 2 steps", "tiny, 2 steps, one sample"]
    whole = [row for row in scores if row["hidden_by"] == "all"]
    assert [row["method"] for row in whole] == methods * 2
    assert [float(row["psnr"]) for row in scores] == [row["psnr"] for row in stored["scores"]]
    assert len(stored["cases"]) == 3 * 2 * len(methods)
    assert stored["data"]["occlusions at each rate"] == "2 by strokes, 1 by blobs"
    assert result.found.lineup.preferred[0] == "tiny, fast"
    own = [row["psnr"] for row in stored["cases"] if (row["method"], row["rate"]) == ("laplace", 0.5)]
    pooled = next(float(row["psnr"]) for row in whole if (row["method"], row["rate"]) == ("laplace", "0.5"))
    assert pooled == pytest.approx(np.mean(own))


def test_the_page_stands_alone(made):
    out, _ = made
    page = (out / "report.html").read_text(encoding="utf-8")
    assert is_self_contained(page)
    assert len(Reader(page).named("img")) == 3
    assert "lacunar <b>" in Reader(page).texts
    assert "20 % hidden: tiny, fast reaches " in page


def test_a_larger_size_is_filled_in_the_frame_and_completed(folder, model):
    told = {"size": 80, "rates": (0.2,), "occlusions": ("blobs",), "methods": (), "models": (model,)}
    result = evaluate("pictures", faces=folder, presets=(), steps=(1,), samples=1, most=1, **told)
    assert result.cases["method"].tolist() == ["biharmonic", "tiny, 1 steps"]


def test_fills_of_any_sampler_are_compared(folder, model):
    told = {"models": (model,), "presets": ("instant",), "samplers": ("adams:3", "diffpir:2")}
    curves = evaluate("pictures", faces=folder, most=1, **told, **FEW | {"rates": (0.2,)}).found.lineup.curves
    assert curves["tiny, adams:3"] == "tiny, Adams-Bashforth 2, mean of 2"
    assert curves["tiny, diffpir:2, one sample"] == "tiny, DiffPIR, one sample"
    assert curves["tiny, instant"] == "tiny, the mean alone"


def test_what_a_model_with_a_prior_starts_from_is_scored_too(folder, tmp_path):
    shape = {"sample_size": 64, "in_channels": 8, "out_channels": 3, "block_out_channels": (8, 16)}
    plain = {"layers_per_block": 1, "middle_attention": False, "norm_groups": 4, "patch": 2}
    network = UNet(UNetConfig(**shape, **plain))
    prior = fit_prior(np.random.default_rng(0).uniform(-1, 1, (3, 64, 64, 3)).astype(np.float32), 2, seed=0)
    saved = save_model(tmp_path / "own", replace(picture_model(network), prior=prior))
    told = {"methods": (), "models": (str(saved),), "presets": (), "steps": (1,), "samples": 1, "most": 1, "size": 64}
    rows = evaluate("pictures", faces=folder, rates=(0.2,), **told).cases
    assert rows["method"].tolist() == ["biharmonic", "own, prior alone", "own, 1 steps"]
    assert rows["psnr"].iloc[1] == pytest.approx(rows["psnr"].iloc[2], abs=1e-3)  # untrained, it predicts no residual


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rates": (0.2, 0.2)}, "wanted one or more, each once"),
        ({"occlusions": ()}, r"got occlusions \[\]; wanted one or more"),
        ({"presets": ("slow",)}, "unknown preset"),
        ({"presets": ("paper:x",)}, "paper:1"),
        ({"samplers": ("adams",)}, "got the sampler 'adams'; wanted a name and evaluations"),
        ({"samples": 0}, "got samples 0"),
        ({"methods": ("magic",)}, "unknown method"),
        ({"most": 0}, "got most 0"),
    ],
)
def test_bad_options_are_refused(folder, changes, match):
    with pytest.raises(LacunarError, match=match):
        PictureTask(faces=folder, **changes)


def test_bad_input_leaves_nothing_behind(folder, model, tmp_path):
    told = {"faces": folder, "output": tmp_path / "out", "most": 1}
    with pytest.raises(LacunarError, match="give --size 64"):
        evaluate("pictures", size=32, models=(model,), **told)
    with pytest.raises(LacunarError, match="two models are named tiny"):
        evaluate("pictures", models=(model, model), **told)
    assert not list(tmp_path.iterdir())


def test_the_command(lacunar, folder, tmp_path):
    ran = lacunar("evaluate", "face", "--faces", folder, "-o", tmp_path / "out", "--model", "none", "--rates", "0.2")
    assert ran.code == 0
    assert "| 20 % | biharmonic |" in ran.out
    assert lacunar("evaluate", "face", "--faces", tmp_path, "-o", tmp_path / "no").code == 2
