"""Evaluation of restored pictures: what is measured, and the whole run as a user would."""

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from lacunar.errors import LacunarError
from lacunar.evaluate.job import evaluate
from lacunar.evaluate.restoration import DEGRADATIONS, RestorationTask, _classical
from lacunar.evaluate.task import Estimate
from picture_models import save_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two smooth squares."""
    made = tmp_path_factory.mktemp("pictures")
    rows, cols = np.indices((64, 64))
    for number in range(2):
        waves = 127 + 60 * np.sin(rows / 9 + number) + 50 * np.cos(cols / (7 + number))
        Image.fromarray(np.stack([waves, 255 - waves, waves / 2], axis=2).astype(np.uint8)).save(made / f"{number}.png")
    return made


def test_classical_answers_are_better_than_what_was_measured(folder):
    task = RestorationTask(pictures=folder, size=64, models=())
    for case in task.cases():
        (row,) = task.measure(case, _classical(*case.given, 0)["classical"])
        if case.measured.shape == case.truth.shape:
            given = task.measure(case, Estimate(case.measured))[0]
            assert row["psnr"] > given["psnr"] + (1 if case.task not in ("colourise", "deblur") else -0.5), case.name
        else:
            assert row["psnr"] > 30
        if case.task == "superres":
            means = case.truth.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
            assert np.abs(case.measured - means).max() <= 0.5 / 255 + 1e-9
        if case.task == "denoise":
            assert (case.measured - case.truth).std() == pytest.approx(0.1, rel=0.05)


def test_scores_are_those_of_scikit_image_and_coverage_is_counted(folder):
    task = RestorationTask(pictures=folder, size=64, models=())
    case = task.cases()[0]
    samples = np.stack([case.truth - 0.01, case.truth + 0.01, case.truth - 0.02, case.truth + 0.02]).clip(0, 1)
    value = samples.mean(axis=0) + np.where(np.arange(64) < 16, 0.2, 0.0)[:, None, None]
    (row,) = task.measure(case, Estimate(value, samples=samples))
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(case.truth, value.clip(0, 1), data_range=1))
    assert row["coverage"] == pytest.approx(0.75, abs=0.01)


def test_the_whole_run(lacunar, folder, tmp_path, out):
    tiny = save_tiny(tmp_path / "tiny")
    words = ("--pictures", folder, "-o", out / "found", "--size", 64, "--model", tiny, "--samples", 2)
    ran = lacunar("evaluate", "pictures", *words, "--sampler", "diffpir:2", "--sampler", "ddrm:2", "--task", "superres")
    assert ran.code == 0, ran.err
    assert "| superres | tiny, ddrm:2, one sample |" in ran.out
    assert {file.name for file in (out / "found").iterdir()} >= {"scores.csv", "report.html", "examples_superres.png"}
    found = evaluate("restoration", pictures=folder, size=64, models=(), tasks=("denoise",))
    assert list(found.scores["method"]) == ["classical", "total variation"]
    bad = lacunar("evaluate", "pictures", *words, "--task", "hdr", "--overwrite")
    assert (bad.code, bad.err) == (2, f"lacunar: unknown task 'hdr': choose out of {', '.join(DEGRADATIONS)}\n")
    with pytest.raises(LacunarError, match="sampler ddim cannot hold a picture to a measurement"):
        RestorationTask(pictures=folder, samplers=("ddim:3",))
    with pytest.raises(LacunarError, match="no picture in"):
        RestorationTask(pictures=tmp_path).cases()
