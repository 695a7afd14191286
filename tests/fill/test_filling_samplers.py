"""Every sampler on a whole array and on a picture, and the mean in one evaluation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from gap_models import SCHEDULE, GaussianResidual, gap_model, tiny_model
from lacunar.diffusion.noise import pixel_noise
from lacunar.diffusion.samplers import PRESETS, SAMPLERS, plan, refiner, refining_schedule
from lacunar.errors import LacunarError
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.geo.missing_shapes import gap_pattern
from lacunar.pictures.fill import Drawing, fill_window
from picture_models import GaussianPicture, picture_model

INSTANT = PRESETS["instant"]


def field(shape, seed=0):
    """A smooth field in kelvin, as float32 numbers."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 4.0)
    return (300.0 + 3.0 * smooth / smooth.std()).astype(np.float32).astype(np.float64)


def holes(shape, seed=0, rate=0.2):
    return gap_pattern("blobs", shape, rate, rng=np.random.default_rng(seed))


def run(values, gap, model, preset, *, samples=2, seed=0, **options):
    return fill_array(values, ~gap, gap, model, FillOptions(preset=preset, samples=samples, seed=seed), **options)


def over_background(filled, z):
    return filled.background_mean + filled.background_sigma * z


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_fills_an_array_and_keeps_what_is_measured(name):
    values, gap, network, calls = field((64, 80)), holes((64, 80)), GaussianResidual(mean=0.4, variance=0.6), []
    preset = plan(name, 5)
    filled = run(values, gap, gap_model(network), preset, callback=lambda *counts: calls.append(counts))
    assert np.isfinite(filled.samples).all()
    np.testing.assert_array_equal(filled.samples[:, ~gap], np.broadcast_to(values[~gap], (2, (~gap).sum())))
    assert calls == [(done, preset.evaluations) for done in range(1, preset.evaluations + 1)]
    assert filled.evaluations == preset.evaluations
    assert filled.paired == SAMPLERS[name].conditional
    if SAMPLERS[name].conditional:  # told what is known; opposite noise leaves the mean alone
        assert all((given[:, 3] == 0).any() for given in network.seen)
        np.testing.assert_allclose(filled.mean[gap], over_background(filled, 0.4)[gap], atol=0.05)
    else:
        assert all((given[:, 3] == 1).all() for given in network.seen)


def test_the_angle_keeps_the_spread_of_the_residual_where_ddim_loses_it():
    values, gap, model = field((64, 64)), holes((64, 64)), gap_model(GaussianResidual(variance=1.0))
    spreads = {}
    for name in ("ddim", "adams"):
        filled = run(values, gap, model, plan(name, 10))
        noise = pixel_noise((64, 64), (0, 0), 2, 0)[0, 0].numpy()
        z = (filled.samples[0] - filled.background_mean)[gap] / filled.background_sigma[gap]
        spreads[name] = float((z * noise[gap]).sum() / (noise[gap] ** 2).sum())
    assert spreads["ddim"] == pytest.approx(0.883, abs=0.002)
    assert spreads["adams"] == pytest.approx(1.0, abs=0.002)


# --- the mean alone ---


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.7, 0.25)])
def test_one_evaluation_gives_the_mean_whatever_the_seed(mean, variance):
    values, gap = field((64, 64)), holes((64, 64))
    network = GaussianResidual(mean=mean, variance=variance)
    filled = run(values, gap, gap_model(network), INSTANT, samples=1)
    assert len(network.seen) == filled.evaluations == 1
    np.testing.assert_allclose(filled.mean[gap], over_background(filled, mean)[gap], atol=1e-3)
    other = run(values, gap, gap_model(network), INSTANT, samples=1, seed=5)
    np.testing.assert_array_equal(other.mean, filled.mean)


def test_the_sigma_of_the_mean_alone_is_that_of_kriging_times_the_cards_factor():
    values, gap, model = field((64, 64)), holes((64, 64)), gap_model(GaussianResidual())
    table = {"0.05": -2.0, "0.5": 0.0, "0.95": 2.5}
    card = replace(model.card, sigma_factor={"instant": 0.8, "fast": 9.0}, error_quantiles={"instant": table})
    filled = run(values, gap, replace(model, card=card), INSTANT, samples=1)
    np.testing.assert_allclose(filled.sigma, 0.8 * filled.background_sigma, rtol=1e-6)
    np.testing.assert_allclose(filled.quantile(0.95), filled.mean + 2.5 * filled.sigma, rtol=1e-6)
    one = run(values, gap, replace(model, card=card), PRESETS["fast"], samples=1)
    np.testing.assert_array_equal(one.sigma, one.background_sigma)  # the factor is that of several samples


def test_the_mean_alone_is_no_sample():
    values, gap = field((64, 64)), holes((64, 64))
    with pytest.raises(LacunarError, match="2 samples: preset instant gives the mean alone, 1; fast draws several"):
        run(values, gap, tiny_model(), INSTANT)
    with pytest.raises(LacunarError, match="8 samples: preset instant gives the mean alone"):
        FillOptions(preset="instant")
    assert FillOptions(preset="instant", samples=1, quantiles=(0.05, 0.95)).chosen is INSTANT
    with pytest.raises(LacunarError, match="2 samples: preset instant gives the mean alone"):
        Drawing(INSTANT, 2)


# --- pictures ---


def picture(shape, seed=0):
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((*shape, 3)), (3, 3, 0))
    return np.clip(smooth / smooth.std() / 3, -1, 1).astype(np.float32)[None]


@pytest.mark.parametrize("preset", [*(plan(name, 3) for name in SAMPLERS), INSTANT])
def test_every_sampler_fills_a_picture(preset):
    seen, gap, calls = picture((64, 64)), holes((64, 64)), []
    network = GaussianPicture(variance=0.5)
    filled = fill_window(
        seen, gap, picture_model(network), Drawing(preset, 1), halvings=0, callback=lambda: calls.append(1)
    )
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[0][~gap], seen[0][~gap])
    assert len(calls) == preset.evaluations


@pytest.mark.parametrize("preset", [INSTANT, plan("adams", 2), plan("ddnm", 3), PRESETS["fast"]])
def test_a_refinement_begins_late_in_the_schedule_at_any_number_of_steps(preset):
    schedule, own = refining_schedule(SCHEDULE, preset), refiner(preset)
    assert schedule.num_timesteps == own.steps
    assert 200 <= schedule.timesteps[-1] <= 300
    assert own.conditional
    fast = refining_schedule(SCHEDULE, PRESETS["fast"])
    np.testing.assert_array_equal(fast.timesteps, SCHEDULE.respaced(10).timesteps[:3])
