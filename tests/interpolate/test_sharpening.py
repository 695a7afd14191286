"""Sharpening: block means stay, guides that tell the detail are used, others are not, and sigma covers the errors."""

import numpy as np
import pytest
from scipy import ndimage

from lacunar.errors import LacunarError
from lacunar.interpolate.sharpening import block_mean, interpolated, sharpened

RNG = np.random.default_rng(0)


def texture(seed, smooth=1.2, shape=(108, 144)):
    rng = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(rng.standard_normal(shape), smooth) * smooth
    return rough + 5 * ndimage.gaussian_filter(rng.standard_normal(shape), 12) * 12


def test_interpolation_keeps_block_means_and_planes():
    plane = np.add.outer(np.arange(30.0), 2 * np.arange(36.0))
    fine = interpolated(block_mean(plane, 3), 3)
    np.testing.assert_allclose(block_mean(fine, 3), block_mean(plane, 3), atol=1e-10)
    np.testing.assert_allclose(fine[9:-9, 9:-9], plane[9:-9, 9:-9], atol=0.06)


def test_a_guide_that_tells_the_detail_is_used_and_another_is_not():
    guide, other = texture(1), texture(2)
    truth = 300 - 4 * guide
    coarse = block_mean(truth, 3)
    errors = {}
    for name, guides in {"none": [], "other": [other], "guide": [guide, other]}.items():
        found = sharpened(coarse, guides, 3)
        np.testing.assert_allclose(block_mean(found.value, 3), coarse, rtol=1e-12)
        errors[name] = np.sqrt(np.mean((found.value - truth) ** 2))
    assert errors["guide"] < 0.5 * errors["none"]
    assert errors["other"] < 1.03 * errors["none"]
    coefficients = sharpened(coarse, [guide, other], 3).coefficients
    assert coefficients[0] == pytest.approx(-4 / 1.3, rel=0.1)  # ridge
    assert abs(coefficients[1]) < 0.3


def rough(seed, shape=(108, 144)):
    """A field whose spectrum falls as k^-1.2 in amplitude: its detail shrinks slowly with the scale."""
    rows, cols = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None]
    length = np.hypot(rows, cols)
    length[0, 0] = 1
    noise = np.fft.fft2(np.random.default_rng(seed).standard_normal(shape))
    return np.fft.ifft2(noise * length**-1.2).real


def test_sigma_is_about_that_of_the_errors():
    guide = rough(3)
    truth = 300 + 2 * guide + rough(4)
    found = sharpened(block_mean(truth, 2), [guide], 2)
    inside = np.abs(found.value - truth) <= found.sigma
    assert 0.6 < inside.mean() < 0.9  # 0.68 if detail were alike at both scales
    noisier = truth + np.where(np.arange(144) < 72, 0, 3 * rough(6) - 3 * interpolated(block_mean(rough(6), 12), 12))
    sigma = sharpened(block_mean(noisier, 2), [guide], 2).sigma
    assert sigma[:, 100:].mean() > 1.3 * sigma[:, :44].mean()


def test_unknown_pixels():
    guide = texture(5)
    truth = 300 + guide
    coarse = block_mean(truth, 3)
    coarse[10:14, 10:14] = np.nan
    guide = np.where(np.arange(144) < 9, np.nan, guide)
    found = sharpened(coarse, [guide], 3)
    np.testing.assert_array_equal(np.isnan(found.value), np.isnan(coarse).repeat(3, 0).repeat(3, 1))
    np.testing.assert_array_equal(np.isnan(found.value), np.isnan(found.sigma))
    known = np.isfinite(coarse)
    np.testing.assert_allclose(block_mean(found.value, 3)[known], coarse[known], rtol=1e-12)


def test_bad_input():
    with pytest.raises(LacunarError, match=r"wanted guides of \(30, 36\) and a factor from 2"):
        sharpened(np.ones((10, 12)), [np.ones((30, 30))], 3)
    with pytest.raises(LacunarError, match="no pixel of the coarse field is known"):
        sharpened(np.full((10, 12), np.nan), [], 3)
    with pytest.raises(LacunarError, match="got 12 whole cells of 3 x 3 coarse pixels, wanted 16 or more"):
        sharpened(np.ones((10, 12)), [], 3)
