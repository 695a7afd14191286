"""Scores against scikit-image, closed forms and identities."""

import math

import numpy as np
import pytest
from skimage import metrics as skimage_metrics

from lacunar.errors import LacunarError
from lacunar.metrics import (
    bias,
    coverage,
    f1,
    iou,
    mae,
    max_abs_error,
    mse,
    pixel_accuracy,
    precision,
    psnr,
    recall,
    rmse,
    ssim,
)

NUMERIC = [mse, rmse, mae, bias, max_abs_error]
BOOLEAN = [iou, pixel_accuracy, precision, recall, f1]


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
    assert max_abs_error(estimate, truth) == 3.0
    assert max_abs_error(truth, estimate) == 3.0


def test_mse_is_bias_squared_plus_variance(rng):
    estimate, truth = pictures(rng)
    error = estimate - truth
    assert mse(estimate, truth) == pytest.approx(bias(estimate, truth) ** 2 + error.var())
    assert mae(estimate, truth) <= rmse(estimate, truth) <= max_abs_error(estimate, truth)


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
    wanted = skimage_metrics.peak_signal_noise_ratio(truth, estimate, data_range=data_range)
    assert psnr(estimate, truth, data_range=data_range) == pytest.approx(wanted, abs=1e-9)


def test_psnr_of_equal_images_is_infinite():
    assert psnr([1.0, 2.0], [1.0, 2.0], data_range=1.0) == math.inf


def test_psnr_over_a_region(rng):
    estimate, truth = pictures(rng)
    region = rng.random(truth.shape) > 0.5
    wanted = 20 * math.log10(60.0) - 10 * math.log10(np.mean((estimate - truth)[region] ** 2))
    assert psnr(estimate, truth, data_range=60.0, region=region) == pytest.approx(wanted)


def skimage_ssim(estimate, truth, **options):
    return skimage_metrics.structural_similarity(
        truth, estimate, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, **options
    )


@pytest.mark.parametrize("shape", [(11, 11), (40, 57), (64, 12)])
@pytest.mark.parametrize(("level", "data_range"), [(0.0, 1.0), (128.0, 255.0), (300.0, 60.0)])
def test_ssim_agrees_with_scikit_image(rng, shape, level, data_range):
    estimate, truth = pictures(rng, shape, level)
    assert ssim(estimate, truth, data_range=data_range) == pytest.approx(
        skimage_ssim(estimate, truth, data_range=data_range), abs=1e-6
    )


def test_ssim_of_bands_is_their_mean(rng):
    estimate, truth = pictures(rng, (3, 30, 31), 128.0)
    wanted = skimage_ssim(estimate, truth, data_range=255.0, channel_axis=0)
    assert ssim(estimate, truth, data_range=255.0) == pytest.approx(wanted, abs=1e-6)


def test_ssim_over_a_region_is_the_mean_of_its_windows(rng):
    estimate, truth = pictures(rng)
    region = rng.random(truth.shape) > 0.8
    _, whole = skimage_ssim(estimate, truth, data_range=60.0, full=True)
    inner = np.zeros_like(region)
    inner[5:-5, 5:-5] = region[5:-5, 5:-5]
    assert ssim(estimate, truth, data_range=60.0, region=region) == pytest.approx(whole[inner].mean(), abs=1e-6)


def test_ssim_of_equal_images_is_one_and_of_negatives_is_low(rng):
    truth = rng.normal(128, 50, size=(30, 30))
    assert ssim(truth, truth, data_range=255.0) == pytest.approx(1.0, abs=1e-12)
    assert ssim(256 - truth, truth, data_range=255.0) < -0.5


# --- coverage ---


def test_coverage_of_an_honest_gaussian(rng):
    sigma = rng.uniform(0.5, 3.0, size=200_000)
    estimate = rng.normal(300, 10, size=sigma.size)
    truth = estimate + sigma * rng.normal(size=sigma.size)
    for n_sigma in (1.0, 2.0):
        wanted = math.erf(n_sigma / math.sqrt(2))
        assert coverage(estimate, sigma, truth, n_sigma=n_sigma) == pytest.approx(wanted, abs=0.005)


def test_coverage_counts_its_region_only():
    region = [True, True, False]
    assert coverage([0.0, 0.0, 0.0], [1.0, 1.0, np.nan], [1.0, 1.1, 0.0], region=region) == 0.5


# --- masks ---


def test_mask_scores_by_hand():
    estimate = np.array([True, True, True, False, False, False, False, False])
    truth = np.array([True, True, False, True, False, False, False, False])
    assert iou(estimate, truth) == pytest.approx(2 / 4)
    assert pixel_accuracy(estimate, truth) == pytest.approx(6 / 8)
    assert precision(estimate, truth) == pytest.approx(2 / 3)
    assert recall(estimate, truth) == pytest.approx(2 / 3)
    assert f1(estimate, truth) == pytest.approx(2 / 3)


def test_identities_between_mask_scores(rng):
    estimate, truth = rng.random((2, 50, 50)) > 0.6
    p, r = precision(estimate, truth), recall(estimate, truth)
    assert f1(estimate, truth) == pytest.approx(2 * p * r / (p + r))
    assert f1(estimate, truth) == pytest.approx(2 * iou(estimate, truth) / (1 + iou(estimate, truth)))
    assert recall(estimate, truth) == precision(truth, estimate)


@pytest.mark.parametrize("score", BOOLEAN)
def test_a_mask_score_over_a_region(score, rng):
    estimate, truth = rng.random((2, 30, 31)) > 0.5
    region = rng.random((30, 31)) > 0.5
    assert score(estimate, truth, region=region) == score(estimate[region], truth[region])
    assert score(estimate, truth, region=region) != score(estimate, truth)


def test_empty_masks():
    none, some = np.zeros(4, dtype=bool), np.array([True, False, False, False])
    assert [score(none, none) for score in BOOLEAN] == [1.0] * 5
    assert (iou(none, some), f1(none, some), recall(none, some), precision(none, some)) == (0.0, 0.0, 0.0, 1.0)


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


@pytest.mark.parametrize("score", BOOLEAN)
def test_mask_scores_refuse_bad_input(score):
    mask = np.array([True, False])
    with pytest.raises(LacunarError, match=r"float64.*wanted bool of one shape"):
        score(mask * 0.7, mask)
    with pytest.raises(LacunarError, match="wanted bool of one shape"):
        score(mask, mask[:1])
    with pytest.raises(LacunarError, match="empty region"):
        score(mask, mask, region=[False, False])


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


def test_coverage_refuses_what_it_cannot_score():
    with pytest.raises(LacunarError, match="got a sigma of -1"):
        coverage([0.0], [-1.0], [0.0])
    with pytest.raises(LacunarError, match="got shapes"):
        coverage([0.0], [1.0, 1.0], [0.0])
    with pytest.raises(LacunarError, match="NaN"):
        coverage([0.0], [np.nan], [0.0])
