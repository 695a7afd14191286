"""Filled pictures: closed-form samples, untouched surroundings, exact seeds, and regions larger than the field."""

import numpy as np
import pytest
import torch

from gap_models import GaussianResidual, ddim_gain, gap_model
from lacunar.diffusion.samplers import PRESETS, Preset
from lacunar.errors import LacunarError, ModelError
from lacunar.geo.picture import Picture
from lacunar.interpolate.membrane import RESIDUAL_SIGMA, membrane_fill
from lacunar.pictures.fill import Drawing, fill_regions, paste, to_model, to_pixels
from lacunar.pictures.sampler import PictureSampler
from picture_models import GaussianPicture, picture_model, tiny_picture_model

FAST = PRESETS["fast"]


def picture(shape=(100, 120), channels=3, dtype=np.uint8, seed=0, alpha=None):
    rng = np.random.default_rng(seed)
    return Picture(rng.integers(0, np.iinfo(dtype).max, (*shape, channels), dtype=dtype, endpoint=True), alpha)


def smooth(shape=(100, 120)):
    rows, cols = np.indices(shape)
    waves = [120 + 50 * np.sin(rows / 30 + k) + 40 * np.cos(cols / 40 - k) for k in range(3)]
    return Picture(np.dstack(waves).astype(np.uint8))


def region(shape=(100, 120), rows=slice(40, 60), cols=slice(50, 70)):
    missing = np.zeros(shape, bool)
    missing[rows, cols] = True
    return missing


def test_samples_have_the_mean_and_the_spread_of_the_model():
    mean, variance, missing = np.array([0.4, -0.3, 0.1]), 0.04, region((64, 64), slice(20, 40), slice(22, 42))
    given = smooth((64, 64))
    (filled,) = fill_regions(
        given, missing, picture_model(GaussianPicture(mean=mean, variance=variance)), Drawing(FAST, 40)
    )
    base = membrane_fill(to_model(given.colours, 255), missing)[missing]
    np.testing.assert_allclose(filled.samples.mean(axis=0), base + RESIDUAL_SIGMA * mean, atol=1e-3)  # antithetic
    wanted = RESIDUAL_SIGMA * ddim_gain(FAST.steps, variance)
    assert filled.samples[::2].std(axis=0, ddof=1).mean() == pytest.approx(wanted, rel=0.05)


def test_the_network_is_given_what_it_was_trained_on():
    network, missing, given = GaussianPicture(), region((64, 64), slice(20, 40), slice(24, 44)), smooth((64, 64))
    fill_regions(given, missing, picture_model(network), Drawing(FAST, 2))
    assert len(network.seen) == FAST.evaluations
    seen, hidden = network.seen[0], torch.from_numpy(missing)
    assert seen.shape == (2, 8, 64, 64)
    assert (seen[:, :3, ~hidden] == 0).all()
    assert seen[:, :3, hidden].std() == pytest.approx(1.0, rel=0.1)
    base = membrane_fill(to_model(given.colours, 255), missing)
    np.testing.assert_allclose(seen[1, 3:6].numpy(), np.moveaxis(base, 2, 0), atol=1e-6)
    assert (seen[:, 6] == RESIDUAL_SIGMA).all()
    assert (seen[:, 7].bool() == hidden).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_outside_the_mask_every_pixel_stays_bit_by_bit(channels, dtype):
    alpha = np.random.default_rng(1).integers(0, 255, (100, 120)).astype(dtype)
    given, missing = (
        picture(channels=channels, dtype=dtype, alpha=alpha),
        region() | region(rows=slice(0, 5), cols=slice(0, 9)),
    )
    regions = fill_regions(given, missing, tiny_picture_model(), Drawing(FAST, 2))
    for sample in (0, 1, None):
        made = paste(given, regions, sample=sample)
        assert made.colours.dtype == dtype
        assert made.colours.shape == given.colours.shape
        np.testing.assert_array_equal(made.colours[~missing], given.colours[~missing])
        np.testing.assert_array_equal(made.alpha, np.where(missing, given.white, alpha))  # what is filled is seen
        assert (made.colours[missing] != given.colours[missing]).mean() > 0.9


def test_what_stands_in_the_mask_is_never_looked_at():
    given, missing = picture(), region()
    other = Picture(np.where(missing[..., None], 255 - given.colours, given.colours))
    a, b = (fill_regions(one, missing, tiny_picture_model(), Drawing(FAST))[0].samples for one in (given, other))
    np.testing.assert_array_equal(a, b)


def test_a_seed_repeats_exactly_and_another_differs():
    model, given, missing = tiny_picture_model(), picture(), region()
    first, again, other = (fill_regions(given, missing, model, Drawing(FAST, 2, seed))[0].samples for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_a_sample_does_not_depend_on_how_many_there_are(monkeypatch):
    model, given, missing = tiny_picture_model(), picture(), region()
    many = fill_regions(given, missing, model, Drawing(FAST, 4))[0].samples
    np.testing.assert_allclose(fill_regions(given, missing, model, Drawing(FAST, 1))[0].samples[0], many[0], atol=1e-5)
    monkeypatch.setattr("lacunar.pictures.fill.PIXELS_AT_ONCE", 64 * 64 * 2)  # two at once
    np.testing.assert_allclose(fill_regions(given, missing, model, Drawing(FAST, 4))[0].samples, many, atol=1e-5)


def test_the_fill_of_a_hole_does_not_depend_on_far_pixels_or_holes():
    """What lies outside a region's window has no say: memory is bounded by the window."""
    given, missing, model = picture((300, 300)), region((300, 300)), tiny_picture_model()
    alone = fill_regions(given, missing, model, Drawing(FAST))[0]
    changed = given.colours.copy()
    changed[200:] = 0
    far = missing | region((300, 300), slice(250, 260), slice(250, 260))
    np.testing.assert_array_equal(fill_regions(Picture(changed), far, model, Drawing(FAST))[0].samples, alone.samples)


def test_a_large_hole_is_filled_coarse_to_fine():
    """The exact model of a residual that is always zero gives the membrane back, through every refinement."""
    given, missing = smooth((300, 300)), region((300, 300), slice(60, 240), slice(80, 220))
    calls = []
    (filled,) = fill_regions(
        given,
        missing,
        picture_model(GaussianPicture(variance=1e-6)),
        Drawing(FAST, 2),
        callback=lambda done, total: calls.append((done, total)),
    )
    # 140 pixels are halved 3 times (to 17.5, at most half of 64): 10 evaluations, and 3 refinements of 3 each
    assert calls == [(number, 19) for number in range(1, 20)]
    base = membrane_fill(to_model(given.colours, 255), missing)[missing]
    assert np.abs(filled.samples - base).max() < 0.02


def test_a_refinement_keeps_what_is_there():
    """From a start z with noise up to abar, DDIM with the exact model of N(0, 1) gives sqrt(abar) z + noise back.

    It then neither shrinks nor moves: the part of the start that is kept is known in closed form.
    """
    shape = (128, 128)
    missing, given = region(shape, slice(40, 90), slice(40, 90)), smooth(shape)
    pictures = to_model(given.colours, 255)[None]
    begun = np.repeat(pictures, 16, axis=0)
    begun[:, missing] = membrane_fill(pictures[0], missing)[missing] + 0.2
    model = picture_model(GaussianPicture())
    filled = PictureSampler(model, FAST, range(16), (0, 0), None).sample(pictures, missing, begun)
    schedule = model.schedule.respaced(FAST.steps)
    kept = schedule.alphas_cumprod[2] ** 0.5 * ddim_gain_of(schedule, 3)
    middle = filled[:, 50:80, 50:80] - membrane_fill(pictures[0], missing)[50:80, 50:80]
    assert middle.mean() == pytest.approx(0.2 * kept, abs=0.01)


def ddim_gain_of(schedule, steps):
    """What DDIM makes of one unit at step ``steps`` - 1, for N(0, 1) data."""
    gain = 1.0
    for abar, before in zip(schedule.alphas_cumprod[:steps], schedule.alphas_cumprod_prev[:steps], strict=True):
        gain *= (before * abar) ** 0.5 + ((1 - before) * (1 - abar)) ** 0.5
    return gain


def test_repaint_uses_the_network_as_an_unconditional_prior():
    network, missing, given = (
        GaussianPicture(mean=0.2, variance=0.04),
        region((64, 64), slice(20, 40), slice(24, 44)),
        smooth((64, 64)),
    )
    (filled,) = fill_regions(given, missing, picture_model(network), Drawing(Preset(20, 5, 2, sampler="repaint"), 8))
    seen = network.seen[0]
    assert (seen[:, 3:6] == 0).all()
    assert (seen[:, 6:] == 1).all()
    assert filled.samples.mean() == pytest.approx(0.2, abs=0.02)  # independent pixels: the prior's own mean
    assert filled.samples.std() == pytest.approx(0.2, rel=0.35)  # 20 of the 250 steps: DDPM draws too little then


def test_a_picture_smaller_than_the_field():
    given, missing = picture((20, 33)), region((20, 33), slice(5, 12), slice(10, 20))
    (filled,) = fill_regions(given, missing, tiny_picture_model(), Drawing(FAST))
    assert filled.samples.shape == (1, 70, 3)
    assert np.isfinite(filled.samples).all()


def test_pixels_round_trip_and_grey_is_the_mean_of_three():
    for dtype in (np.uint8, np.uint16):
        colours = np.arange(0, np.iinfo(dtype).max, 5, dtype=dtype).reshape(-1, 1, 1).repeat(3, axis=2)
        np.testing.assert_array_equal(to_pixels(to_model(colours, np.iinfo(dtype).max), colours), colours)
    grey = np.zeros((1, 1, 1), np.uint8)
    assert to_pixels(np.array([[[-1.0, 0.0, 1.0]]]), grey).tolist() == [[[128]]]
    assert to_pixels(np.array([[[-3.0, -3.0, -3.0]]]), grey).tolist() == [[[0]]]


# --- refusals ---


def test_a_missing_of_another_shape_or_empty():
    for missing in (region((50, 50)), np.zeros((100, 120), bool)):
        with pytest.raises(LacunarError, match=r"wanted one shape and a pixel to fill"):
            fill_regions(picture(), missing, tiny_picture_model(), Drawing(FAST))


def test_everything_masked():
    with pytest.raises(LacunarError, match="every pixel is to be filled"):
        fill_regions(picture(), np.ones((100, 120), bool), tiny_picture_model(), Drawing(FAST))


def test_a_model_of_temperatures():
    with pytest.raises(ModelError, match=r"takes 4 channels and gives 1; wanted 8 .* and 3: choose a model of faces"):
        fill_regions(picture(), region(), gap_model(GaussianResidual()), Drawing(FAST))


@pytest.mark.parametrize(("samples", "seed"), [(0, 0), (1, -1)])
def test_numbers_that_draw_nothing(samples, seed):
    with pytest.raises(LacunarError, match="wanted 1 or more and a seed of 0 or more"):
        Drawing(FAST, samples, seed)
