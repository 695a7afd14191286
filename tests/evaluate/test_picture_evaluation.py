"""Filled pictures judged: cases, methods, what is measured, and what is pooled."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lacunar.diffusion.samplers import Preset
from lacunar.errors import LacunarError
from lacunar.evaluate.picture_evaluation import (
    METHOD_NAMES,
    OCCLUSIONS,
    Painted,
    PictureCase,
    PictureRow,
    classical_painters,
    evaluate_painters,
    measure_picture,
    model_painter,
    picture_cases,
)
from lacunar.evaluate.picture_scores import ALL, pool_pictures
from picture_models import GaussianPicture, picture_model

SIZE = 32
FLAT = 4  # counts out of 255: Telea's method is off by 2 on a flat picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four smooth squares."""
    made = tmp_path_factory.mktemp("faces")
    rows, cols = np.indices((64, 64))
    for number in range(4):
        waves = 127 + 60 * np.sin(rows / 9 + number) + 50 * np.cos(cols / (7 + number))
        Image.fromarray(np.stack([waves, 255 - waves, waves / 2], axis=2).astype(np.uint8)).save(made / f"{number}.png")
    return made


@pytest.fixture(scope="module")
def cases(folder):
    return picture_cases(folder, size=SIZE, rates=(0.2, 0.5), occlusions=("strokes", "blobs"), seed=1)


def test_every_picture_is_hidden_once_at_every_rate_and_the_kinds_take_turns(folder, cases):
    assert [(case.name, case.rate, case.hidden_by) for case in cases[:4]] == [
        ("0", 0.2, "strokes"),
        ("1", 0.2, "blobs"),
        ("2", 0.2, "strokes"),
        ("3", 0.2, "blobs"),
    ]
    assert len(cases) == 8
    assert all(int(case.gap.sum()) == round(case.rate * SIZE**2) for case in cases)
    again = picture_cases(folder, size=SIZE, rates=(0.5,), occlusions=("strokes", "blobs"), most=2, seed=1)
    assert [case.name for case in again] == ["0", "1"]
    assert (again[1].gap == cases[5].gap).all()
    assert set(OCCLUSIONS) >= {"strokes", "blobs", "rectangle", "face-mask"}


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(LacunarError, match="no picture in"):
        picture_cases(tmp_path, size=SIZE, rates=(0.2,))
    Image.fromarray(np.zeros((40, 64, 3), np.uint8)).save(tmp_path / "wide.png")
    with pytest.raises(LacunarError, match=r"wide\.png has 64 x 40 pixels"):
        picture_cases(tmp_path, size=SIZE, rates=(0.2,))


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_every_method_fills_a_flat_picture_flat_and_looks_at_no_hidden_pixel(name):
    painters = classical_painters([name])
    if name not in painters:
        pytest.skip("OpenCV is not installed")
    gap = np.zeros((SIZE, SIZE), dtype=bool)
    gap[10:20, 8:22] = True
    pixels = np.where(gap[..., None], np.uint8(0), np.full((SIZE, SIZE, 3), 90, np.uint8))
    painted = painters[name](pixels, gap, 0)
    assert np.abs(painted.samples[0][gap] - 90).max() <= FLAT


def test_without_opencv_its_methods_are_left_out(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert list(classical_painters()) == ["biharmonic", "laplace", "membrane"]
    assert "opencv-python-headless" in caplog.text
    with pytest.raises(LacunarError, match="unknown method 'magic'"):
        classical_painters(["magic"])


def test_scores_are_those_of_scikit_image(cases):
    case = cases[0]
    filled = np.clip(case.truth + np.random.default_rng(0).normal(0, 20, case.truth.shape), 0, 255)
    row = measure_picture(case, "noise", filled)
    whole = np.where(case.gap[..., None], filled, case.truth) / 255
    assert row.image_psnr == pytest.approx(peak_signal_noise_ratio(case.truth / 255, whole, data_range=1))
    expected = structural_similarity(
        case.truth / 255,
        whole,
        data_range=1,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert row.image_ssim == pytest.approx(expected, abs=1e-6)
    assert row.mse == pytest.approx(row.image_mse / case.gap.mean())
    assert measure_picture(case, "truth", case.truth.astype(float)).image_ssim == pytest.approx(1)


def test_what_a_method_does_to_known_pixels_does_not_count(cases):
    wild = np.where(cases[0].gap[..., None], cases[0].truth, 255 - cases[0].truth).astype(float)
    assert measure_picture(cases[0], "wild", wild).image_mse == 0


def test_several_samples_are_scored_as_their_mean_and_one(cases):
    def painter(pixels, gap, seed, /):
        del gap
        spread = np.array([30.0, -30.0])[:, None, None, None]
        return Painted(pixels + spread + seed % 2, evaluations=5)

    rows = evaluate_painters(cases[:1], {"two": painter})
    assert [(row.method, row.evaluations) for row in rows] == [("two", 10), ("two, one sample", 5)]
    assert rows[1].seconds == pytest.approx(rows[0].seconds / 2)


def test_a_hidden_pixel_is_hidden(cases):
    def painter(pixels, gap, seed, /):
        del seed
        assert not pixels[gap].any()
        return Painted(pixels[None].astype(float))

    evaluate_painters(cases, {"given": painter})
    with pytest.raises(LacunarError, match="wanted one or more of both"):
        evaluate_painters(cases, {})


@pytest.mark.parametrize("side", [64, 128])
def test_a_model_fills_its_own_size_and_larger_ones(folder, side):
    """Noise-free and without residual, the model gives the membrane back, whatever the size."""
    model = picture_model(GaussianPicture(variance=1e-8))
    rows, cols = np.indices((side, side)) / side
    truth = (255 * np.stack([rows, cols, (rows + cols) / 2], axis=2)).astype(np.uint8)
    gap = np.zeros((side, side), dtype=bool)
    gap[side // 2 : side // 2 + 12, side // 2 : side // 2 + 12] = True
    case = PictureCase("ramp", 0.1, "rectangle", truth, gap)
    painter = model_painter(model, model, preset=Preset(steps=2), samples=2)
    rows_made = evaluate_painters([case], {"exact": painter})
    assert rows_made[0].psnr > 35
    assert rows_made[1].evaluations == 2


ROW = PictureRow("a", 0.2, "blobs", "base", 0, 1.0, 0.01, 20.0, 0.5, 0.002, 27.0, 0.9)


def test_gains_are_counted_picture_by_picture():
    rows = []
    for name, ours, base in (("a", 23.0, 20.0), ("b", 31.0, 30.0), ("c", 12.0, 10.0)):
        rows.append(replace(ROW, name=name, psnr=base))
        rows.append(replace(ROW, name=name, psnr=ours, method="ours", hidden_by="blobs", seconds=3.0))
    scores = pool_pictures(rows, baseline="base")
    ours = next(s for s in scores if (s.method, s.hidden_by) == ("ours", ALL))
    assert (ours.gain, ours.cases, ours.seconds) == (2.0, 3, 3.0)
    assert 1.0 <= ours.gain_low < 2.0 < ours.gain_high <= 3.0
    assert ours.psnr == 22.0
    assert {s.hidden_by for s in scores} == {ALL, "blobs"}
    with pytest.raises(LacunarError, match="baseline 'other'"):
        pool_pictures(rows, baseline="other")
