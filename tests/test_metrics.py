"""Scores against scikit-image, closed forms and identities."""

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio

from lacunar.errors import LacunarError
from lacunar.metrics import Confusion, bias, confusion, gradient_energy, mae, mse, psnr, ratio, rmse, ssim

NUMERIC = [mse, rmse, mae, bias]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def pictures(rng, shape=(40, 57), level=300.0):
    """A rough field in kelvin and a disturbed copy."""
    truth = level + np.cumsum(np.cumsum(rng.normal(size=shape), axis=-1), axis=-2) / 10
    return truth + rng.normal(0, 1.5, size=shape), truth


# --- errors of numbers ---


def test_errors_by_hand():
    estimate, truth = [2.0, 5.0, 1.0, 4.0], [1.0, 7.0, 1.0, 1.0]  # differences 1 -2 0 3
    assert mse(estimate, truth) == pytest.approx(14 / 4)
    assert rmse(estimate, truth) == pytest.approx(math.sqrt(14 / 4))
    assert mae(estimate, truth) == pytest.approx(6 / 4)
    assert bias(estimate, truth) == pytest.approx(2 / 4)
    assert bias(truth, estimate) == pytest.approx(-2 / 4)


def test_mse_is_bias_squared_plus_variance(rng):
    estimate, truth = pictures(rng)
    error = estimate - truth
    assert mse(estimate, truth) == pytest.approx(bias(estimate, truth) ** 2 + error.var())
    assert mae(estimate, truth) <= rmse(estimate, truth)


@pytest.mark.parametrize("score", NUMERIC)
def test_a_region_counts_only_its_pixels(score, rng):
    estimate, truth = pictures(rng)
    region = rng.random(truth.shape) > 0.7
    broken = np.where(region, estimate, np.nan)
    assert score(broken, truth, region=region) == pytest.approx(score(estimate[region], truth[region]))


def test_a_region_of_two_axes_holds_for_every_band(rng):
    estimate, truth = pictures(rng, (3, 20, 21))
    region = rng.random((20, 21)) > 0.5
    assert mse(estimate, truth, region=region) == pytest.approx(mse(estimate[:, region], truth[:, region]))


def test_float32_kelvins_lose_nothing():
    # 4096x4096 errors of exactly 2**-6 K at 300 K: a float32 sum of squares would stall
    truth = np.full((2048, 2048), 300.0, dtype=np.float32)
    assert rmse(truth + np.float32(2**-6), truth) == 2**-6


# --- PSNR and SSIM ---


@pytest.mark.parametrize("data_range", [1.0, 60.0, 255.0])
def test_psnr_agrees_with_scikit_image(rng, data_range):
    estimate, truth = pictures(rng)
    wanted = peak_signal_noise_ratio(truth, estimate, data_range=data_range)
    assert psnr(estimate, truth, data_range=data_range) == pytest.approx(wanted, abs=1e-9)


def test_psnr_of_equal_images_is_infinite():
    assert psnr([1.0, 2.0], [1.0, 2.0], data_range=1.0) == math.inf


def test_psnr_over_a_region(rng):
    estimate, truth = pictures(rng)
    region = rng.random(truth.shape) > 0.5
    wanted = 20 * math.log10(60.0) - 10 * math.log10(np.mean((estimate - truth)[region] ** 2))
    assert psnr(estimate, truth, data_range=60.0, region=region) == pytest.approx(wanted)


def ssim_of_the_paper(estimate, truth, data_range):
    """Eq. 13 of Wang et al. (2004) with its 11x11 window written out; one value for each window inside the image."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(taps, taps) / taps.sum() ** 2

    def mean(values):
        return ndimage.correlate(values, window)[5:-5, 5:-5]

    (x, y), c1, c2 = (estimate, truth), (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    covariance = mean(x * y) - mean(x) * mean(y)
    variances = mean(x * x) + mean(y * y) - mean(x) ** 2 - mean(y) ** 2
    return (2 * mean(x) * mean(y) + c1) * (2 * covariance + c2) / (mean(x) ** 2 + mean(y) ** 2 + c1) / (variances + c2)


@pytest.mark.parametrize("shape", [(11, 11), (40, 57), (64, 12)])
@pytest.mark.parametrize(("level", "data_range"), [(0.0, 1.0), (128.0, 255.0), (300.0, 60.0)])
def test_ssim_is_that_of_the_paper(rng, shape, level, data_range):
    estimate, truth = pictures(rng, shape, level)
    wanted = ssim_of_the_paper(estimate, truth, data_range).mean()
    assert ssim(estimate, truth, data_range=data_range) == pytest.approx(wanted, abs=1e-6)


def test_ssim_of_bands_is_their_mean(rng):
    estimate, truth = pictures(rng, (3, 30, 31), 128.0)
    wanted = np.mean([ssim_of_the_paper(*pair, 255.0) for pair in zip(estimate, truth, strict=True)])
    assert ssim(estimate, truth, data_range=255.0) == pytest.approx(wanted, abs=1e-6)


def test_ssim_over_a_region_is_the_mean_of_its_windows(rng):
    estimate, truth = pictures(rng)
    region = rng.random(truth.shape) > 0.8
    wanted = ssim_of_the_paper(estimate, truth, 60.0)[region[5:-5, 5:-5]].mean()
    assert ssim(estimate, truth, data_range=60.0, region=region) == pytest.approx(wanted, abs=1e-6)


def test_ssim_of_equal_images_is_one_and_of_negatives_is_low(rng):
    truth = rng.normal(128, 50, size=(30, 30))
    assert ssim(truth, truth, data_range=255.0) == pytest.approx(1.0, abs=1e-12)
    assert ssim(256 - truth, truth, data_range=255.0) < -0.5


# --- masks ---


def test_mask_scores_by_hand():
    estimate = np.array([True, True, True, False, False, False, False, False])
    truth = np.array([True, True, False, True, False, False, False, False])
    scores = confusion(estimate, truth)
    found = [
        float(getattr(scores, name)) for name in ("iou", "mean_iou", "pixel_accuracy", "precision", "recall", "f1")
    ]
    assert found == pytest.approx([2 / 4, (2 / 4 + 4 / 6) / 2, 6 / 8, 2 / 3, 2 / 3, 2 / 3])


def test_identities_between_mask_scores(rng):
    estimate, truth = rng.random((2, 50, 50)) > 0.6
    scores, turned = confusion(estimate, truth), confusion(truth, estimate)
    assert scores.f1 == pytest.approx(2 * scores.precision * scores.recall / (scores.precision + scores.recall))
    assert scores.f1 == pytest.approx(2 * scores.iou / (1 + scores.iou))
    assert scores.recall == turned.precision


def test_a_mask_score_over_a_region(rng):
    estimate, truth = rng.random((2, 30, 31)) > 0.5
    region = rng.random((30, 31)) > 0.5
    assert vars(confusion(estimate, truth, region=region)) == vars(confusion(estimate[region], truth[region]))


def test_of_nothing_a_ratio_is_one():
    assert ratio([0, 3], [0, 4]).tolist() == [1.0, 0.75]
    none, some = np.zeros(4, dtype=bool), np.array([True, False, False, False])
    empty, missed = confusion(none, none), confusion(none, some)
    assert [float(empty.iou), float(empty.mean_iou), float(empty.f1), float(empty.recall)] == [1.0] * 4
    assert [float(getattr(missed, name)) for name in ("iou", "f1", "recall", "precision")] == [0.0, 0.0, 0.0, 1.0]


def test_counts_added_up_give_the_ratio_of_all_pixels(rng):
    masks = [(rng.random((20, 30)) < 0.4, rng.random((20, 30)) < 0.5) for _ in range(3)]
    each = [confusion(*pair) for pair in masks]
    names = ("both", "only_estimate", "only_truth", "neither")
    stacked = Confusion(*(np.array([getattr(part, name) for part in each]) for name in names))
    total = Confusion(*(getattr(stacked, name).sum() for name in names))
    whole = confusion(*(np.concatenate(side) for side in zip(*masks, strict=True)))
    assert total.iou == pytest.approx(whole.iou)
    np.testing.assert_allclose(stacked.iou, [part.iou for part in each])


# --- bad input ---


@pytest.mark.parametrize("score", [*NUMERIC, lambda *a, **k: psnr(*a, data_range=1.0, **k)])
def test_scores_of_numbers_refuse_bad_input(score):
    with pytest.raises(LacunarError, match=r"got shapes \(2,\) and \(3,\)"):
        score([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(LacunarError, match="got 1 pixels that are NaN"):
        score([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(LacunarError, match="got 1 pixels that are NaN or infinite"):
        score([1.0, 2.0], [1.0, np.inf])
    with pytest.raises(LacunarError, match="got an empty region"):
        score([1.0, 2.0], [1.0, 2.0], region=[False, False])
    with pytest.raises(LacunarError, match="got an empty region"):
        score([], [])
    with pytest.raises(LacunarError, match=r"wanted bool \(2,\)"):
        score([1.0, 2.0], [1.0, 2.0], region=[1, 0])
    with pytest.raises(LacunarError, match=r"got a region bool \(3,\)"):
        score([1.0, 2.0], [1.0, 2.0], region=[True, True, True])


def test_mask_scores_refuse_bad_input():
    mask = np.array([True, False])
    with pytest.raises(LacunarError, match=r"float64.*wanted bool of one shape"):
        confusion(mask * 0.7, mask)
    with pytest.raises(LacunarError, match="wanted bool of one shape"):
        confusion(mask, mask[:1])
    with pytest.raises(LacunarError, match="empty region"):
        confusion(mask, mask, region=[False, False])


@pytest.mark.parametrize("data_range", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("score", [psnr, ssim])
def test_a_data_range_must_be_positive(score, data_range):
    with pytest.raises(LacunarError, match="got data_range"):
        score(np.zeros((11, 11)), np.ones((11, 11)), data_range=data_range)


def test_the_data_range_is_never_guessed():
    for score in (psnr, ssim):
        with pytest.raises(TypeError, match="data_range"):
            score(np.zeros((11, 11)), np.ones((11, 11)))


def test_ssim_refuses_what_it_cannot_compare():
    image = np.zeros((20, 20))
    with pytest.raises(LacunarError, match="11x11 pixels or more"):
        ssim(image[:10], image[:10], data_range=1.0)
    with pytest.raises(LacunarError, match="11x11 pixels or more"):
        ssim(image[0], image[0], data_range=1.0)
    border = np.zeros((20, 20), dtype=bool)
    border[:5] = True
    with pytest.raises(LacunarError, match="no pixel of the region 5 pixels inside"):
        ssim(image, image, data_range=1.0, region=border)
    with pytest.raises(LacunarError, match="NaN"):
        ssim(np.where(border, np.nan, image), image, data_range=1.0)


def test_gradient_energy_counts_pairs_that_touch_the_region():
    picture = np.array([[0.0, 1.0, 3.0], [0.0, 0.0, 0.0]])
    region = np.array([[False, True, False], [False, False, False]])
    assert gradient_energy(picture, region=region) == 1 + 4 + 1
    assert gradient_energy(np.stack([picture, 2 * picture]), region=region) == 5 * 6
    with pytest.raises(LacunarError, match="empty region"):
        gradient_energy(picture, region=np.zeros((2, 3), bool))
