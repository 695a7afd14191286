"""The model of a raster: fills with and without other dates, sigma, samples, and windows that agree."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from lacunar.interpolate.background import CoarseField
from lacunar.interpolate.gmrf import pixel_noise
from lacunar.interpolate.raster_field import RasterField, RasterSample, View, _ridged

CELL = 16


def field(rng, width, side=96):
    smooth = ndimage.gaussian_filter(rng.normal(size=(side, side)), width, mode="wrap")
    return smooth / smooth.std()


def scene(side=96, dates=6, seed=7):
    """The truth of a date with a gap, and its view beside other dates of the same land, with clouds of their own."""
    rng = np.random.default_rng(seed)
    land, fine = 3 * field(rng, 6, side), 1.5 * field(rng, 1, side)
    gains = (1, 0.5, 0.8, 1.2, 0.9, 1.1, 0.7)[: dates + 1]
    values = [300 + gain * (land + fine) + 0.8 * field(rng, 4, side) for gain in gains]
    gap = field(rng, 7, side) > 0.8
    clouds = [field(rng, 7, side) > 0.7 for _ in values[1:]]
    others = np.array([np.where(cloud, np.nan, one) for cloud, one in zip(clouds, values[1:], strict=True)])
    return values[0], View(np.where(gap, np.nan, values[0]), ~gap, gap, others.reshape(-1, side, side))


def fitted(view):
    sample = RasterSample()
    sample.add(view)
    guides = tuple(CoarseField.of(one, np.isfinite(one), CELL) for one in view.others)
    return sample.fitted(replace(CoarseField.of(view.values, view.known, CELL), guides=guides))


def rmse(told, truth, gap):
    return float(np.sqrt(np.mean((told.mean - truth)[gap] ** 2)))


def test_dates_tell_more_than_the_field_alone():
    truth, view = scene()
    gap, told = view.missing, fitted(view).told(view)
    np.testing.assert_array_equal(told.mean[view.known], truth[view.known])
    assert (told.sigma[view.known] == 0).all()
    alone, one = (replace(view, others=view.others[:count]) for count in (0, 1))
    errors = [rmse(fitted(each).told(each), truth, gap) for each in (view, one, alone)]
    assert errors[0] < errors[1] < errors[2]
    assert errors[0] < 0.6 * errors[2]
    assert 0.5 < np.mean(np.abs(told.mean - truth)[gap] < told.sigma[gap]) < 0.9


def test_samples_are_coherent_and_spread_as_sigma_says():
    _, view = scene()
    gap, model = view.missing, fitted(view)
    noise = pixel_noise(gap.shape, (0, 0), 60, 3)
    told = model.told(view, noise=noise)
    assert (told.deviates[:, ~gap] == 0).all()
    spread = told.deviates[:, gap].std(axis=0)
    assert 0.85 < spread.mean() < 1.15
    both = gap[:, :-1] & gap[:, 1:]
    assert np.diff(told.deviates, axis=2)[:, both].std() < 0.7 * np.sqrt(2) * spread.mean()
    few = model.told(view, noise=noise[:2])
    np.testing.assert_array_equal(few.mean, told.mean)
    np.testing.assert_allclose(few.deviates, told.deviates[:2], atol=1e-6)
    assert model.error_quantiles["0.16"] == -model.error_quantiles["0.84"] < -0.5


def test_dates_that_tell_nothing_do_no_harm():
    _, view = scene()
    nothing = np.full_like(view.others[:1], np.nan)
    beside = replace(view, others=np.concatenate([view.others, nothing]))
    np.testing.assert_allclose(fitted(beside).told(beside).mean, fitted(view).told(view).mean, atol=1e-9)
    alone, empty = replace(view, others=view.others[:0]), replace(view, others=nothing)
    np.testing.assert_allclose(fitted(empty).told(empty).mean, fitted(alone).told(alone).mean, atol=1e-9)


@pytest.mark.parametrize("dates", [0, 4])
def test_windows_of_one_raster_agree(dates):
    truth, view = scene(side=300, dates=dates, seed=1)
    model = fitted(view)
    whole = model.told(view)
    for row, col in ((0, 96), (100, 0)):
        part = replace(view.part(row, col, 200), origin=(row, col))
        told = model.told(part)
        inner = (slice(row + 80, row + 120), slice(col + 80, col + 120))
        here, gap = told.mean[80:120, 80:120], view.missing[inner]
        assert gap.any()
        assert abs(here - whole.mean[inner])[gap].max() < 0.1 * truth.std()


def test_a_gap_that_a_window_cuts_is_continued_from_block_means():
    """A slope with a gap wider than the window: the far side is told by the raster, not by the window."""
    cols = np.indices((320, 320))[1]
    slope = 300 + cols / 20
    gap = (cols >= 60) & (cols < 300)
    view = View(np.where(gap, np.nan, slope), ~gap, gap, np.zeros((0, 320, 320)))
    model = fitted(view)
    part = view.part(60, 0, 192)
    told = model.told(replace(part, origin=(60, 0)))
    assert abs(told.mean[96, 150] - slope[156, 150]) < 1.0
    alone = replace(model, reduction=0).told(part)
    assert abs(alone.mean[96, 150] - slope[156, 150]) > 2.0


def test_factors_of_sigma_come_from_a_transplanted_gap():
    """The gap lies in rough land: sigma is as wide as the errors there, not as in the whole."""
    truth, view = scene(dates=0, seed=3)
    model = fitted(view)
    hidden = view.missing[::-1, ::-1] & view.known
    told = model.told(replace(view, known=view.known & ~hidden, missing=view.missing | hidden))
    z = ((told.mean - truth) / np.where(told.sigma > 0, told.sigma, 1))[hidden]
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.7, abs=0.1)
    assert np.mean(np.abs(z) < model.error_quantiles["0.975"]) == pytest.approx(0.95, abs=0.04)


def test_samples_vary_as_the_truth_does():
    """Smooth land with a gap in the middle, which neither turned nor mirrored falls on measured pixels."""
    truth = 300 + 3 * field(np.random.default_rng(5), 3)
    gap = np.zeros(truth.shape, dtype=bool)
    gap[24:72, 24:72] = True
    view = View(np.where(gap, np.nan, truth), ~gap, gap, np.zeros((0, *gap.shape)))
    told = fitted(view).told(view, noise=pixel_noise(gap.shape, (0, 0), 8, 3))
    samples = (told.mean + told.sigma * told.deviates)[:, 26:70, 26:70]
    assert 0.5 < np.mean(np.abs(truth - told.mean)[gap] < told.sigma[gap]) < 0.9
    for lag in (1, 2, 4, 8, 16):
        ours, theirs = (np.mean((x[..., lag:] - x[..., :-lag]) ** 2) for x in (samples, truth[26:70, 26:70]))
        assert 0.4 < ours / theirs < 2.5


def test_a_constant_raster_and_a_single_pixel():
    gap = np.zeros((40, 40), dtype=bool)
    gap[5:30, 5:30] = True
    nothing = np.zeros((0, 40, 40))
    flat = View(np.full((40, 40), 7.0), ~gap, gap, nothing)
    told = fitted(flat).told(flat)
    np.testing.assert_allclose(told.mean, 7.0)
    assert np.isfinite(told.sigma).all()
    known = np.zeros((40, 40), dtype=bool)
    known[3, 3] = True
    single = View(np.full((40, 40), 7.0), known, ~known, nothing)
    np.testing.assert_allclose(fitted(single).told(single).mean, 7.0)


def test_a_model_without_views_tells_its_centre():
    model = RasterField(5.0)
    missing = np.ones((20, 20), dtype=bool)
    told = model.told(View(np.zeros((20, 20)), ~missing, missing, np.zeros((0, 20, 20))))
    np.testing.assert_allclose(told.mean, 5.0)
    assert (told.sigma > 0).all()


def test_ridges_keep_a_term_that_tells_and_shrink_one_that_does_not():
    rng = np.random.default_rng(0)
    terms = rng.normal(size=(2, 400))
    values = 2 * terms[0] + rng.normal(size=400)
    stack = np.concatenate([values[None], terms])
    coefficients, scale_squared = _ridged(stack @ stack.T, 400)
    assert coefficients[0] == pytest.approx(2, abs=0.2)
    assert abs(coefficients[1]) < 0.1
    assert scale_squared == pytest.approx(1, abs=0.2)


def test_guides_that_tell_little_do_no_harm():
    """Radar of the sea: transplanted gaps say that the field alone fills better, or a smoother residual does."""
    rng = np.random.default_rng(5)
    truth = 10 * field(rng, 8)
    gap = field(rng, 7) > 0.6
    others = 10 * rng.standard_normal((3, *gap.shape))
    view = View(np.where(gap, np.nan, truth), ~gap, gap, others)
    alone = replace(view, others=others[:0])
    model = fitted(view)
    assert model.dates is None or not model.rough
    assert rmse(model.told(view), truth, gap) <= 1.02 * rmse(fitted(alone).told(alone), truth, gap)
