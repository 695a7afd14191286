"""Filling one array: samples against the closed form of DDIM on Gaussian residuals, kriging, and equivariance."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from threadpoolctl import threadpool_limits

from gap_models import SCHEDULE, GaussianResidual, ddim_gain, gap_model, tiny_model
from lacunar.diffusion.noise import pixel_noise
from lacunar.diffusion.samplers import PRESETS, Preset, preset_named
from lacunar.errors import LacunarError, ModelError
from lacunar.fill.array import Filled, fill_array, fill_from_background
from lacunar.fill.options import FillOptions
from lacunar.geo.missing_shapes import gap_pattern
from lacunar.geo.windows import blend_weights, stitch, tiles_over
from lacunar.interpolate.background import CoarseField, background_field
from lacunar.interpolate.kriging import krige

FEW = Preset(steps=3)


def field(shape, seed=0):
    """A smooth field in kelvin, as float32 numbers."""
    rough = np.random.default_rng(seed).standard_normal(shape)
    smooth = ndimage.gaussian_filter(rough, 4.0)
    return (300.0 + 3.0 * smooth / smooth.std()).astype(np.float32).astype(np.float64)


def holes(shape, seed=0, rate=0.2):
    return gap_pattern("blobs", shape, rate, rng=np.random.default_rng(seed))


def run(values, gap, model, *, known=None, preset=FEW, samples=2, seed=0, **options):
    known = ~gap if known is None else known
    return fill_array(values, known, gap, model, FillOptions(preset=preset, samples=samples, seed=seed), **options)


def over_background(filled, z):
    return filled.background_mean + filled.background_sigma * z


def test_the_network_sees_a_base_at_every_unknown_pixel_of_its_tiles():
    # Nodata beside the gap is unknown too: without a base there its input would be minus the mean over the scale.
    values, gap, network = field((112, 160)), np.zeros((112, 160), bool), GaussianResidual()
    gap[50:56, 50:56] = True
    known = ~gap
    known[:, 90:] = False
    for preset in (FEW, Preset(6, 2, 2, sampler="repaint")):
        network.seen.clear()
        run(values, gap, gap_model(network), known=known, preset=preset)
        base, spread, unknown = network.seen[0][:, 1], network.seen[0][:, 2], network.seen[0][:, 3] == 1
        assert base.abs().max() < 10
        assert (spread[unknown] > 0).all()
        assert (spread[~unknown] == 0).all()


# --- the closed form ---


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.7, 0.25), (-0.4, 2.0)])
def test_samples_are_the_closed_form_of_ddim_on_gaussian_residuals(mean, variance):
    values, gap = field((64, 64)), holes((64, 64))
    filled = run(values, gap, gap_model(GaussianResidual(mean=mean, variance=variance)), preset=PRESETS["fast"])
    noise = pixel_noise((64, 64), (0, 0), 2, 0)[:, 0].double().numpy()
    expected = filled.background_mean + filled.background_sigma * (mean + ddim_gain(10, variance) * noise)
    np.testing.assert_allclose(filled.samples[:, gap], expected[:, gap], atol=2e-3)


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.7, 0.25)])
def test_many_steps_sample_the_mean_and_variance_of_the_residual(mean, variance):
    values, gap = field((64, 64)), holes((64, 64))
    model = gap_model(GaussianResidual(mean=mean, variance=variance))
    filled = run(values, gap, model, preset=Preset(steps=250), samples=32)
    z = (filled.samples - filled.background_mean)[:, gap] / filled.background_sigma[gap]
    assert z.mean() == pytest.approx(mean, abs=2e-3)  # opposite pairs: the mean is exact
    assert z.std() == pytest.approx(variance**0.5, rel=0.02)
    np.testing.assert_allclose(filled.mean[gap], over_background(filled, mean)[gap], atol=0.01)


def test_tiles_that_overlap_share_one_state_and_leave_no_seam():
    # The answer of this network depends on the pixel alone, so no trace of the tiling may be left anywhere.
    values, gap = field((150, 170)), holes((150, 170), rate=0.5)
    filled = run(values, gap, gap_model(GaussianResidual(mean=0.3, variance=0.5)), samples=1)
    noise = pixel_noise((150, 170), (0, 0), 1, 0)[0, 0].double().numpy()
    expected = filled.background_mean + filled.background_sigma * (0.3 + ddim_gain(3, 0.5) * noise)
    np.testing.assert_allclose(filled.samples[0][gap], expected[gap], atol=2e-3)


def test_predictions_are_averaged_by_the_blend_weights_where_tiles_overlap():
    class Numbers(GaussianResidual):
        """Predicts the number of the tile."""

        def forward(self, x, t):
            return torch.arange(len(x)).reshape(-1, 1, 1, 1).expand(-1, 1, 64, 64).float()

    shape, preset = (112, 160), Preset(steps=1)
    values, gap = field(shape), np.zeros(shape, bool)
    gap[20:90:12, 4:156:12] = True  # every tile has a gap
    filled = run(values, gap, gap_model(Numbers()), samples=1, preset=preset)
    tiles = tiles_over(shape, tile=64, overlap=16)
    numbers = np.broadcast_to(np.arange(len(tiles))[:, None, None], (len(tiles), 64, 64))
    prediction = stitch(numbers, tiles, shape=shape, weights=blend_weights(64, overlap=16))
    abar = SCHEDULE.respaced(1).alphas_cumprod[0]
    z = abar**0.5 * pixel_noise(shape, (0, 0), 1, 0)[0, 0].double().numpy() - (1 - abar) ** 0.5 * prediction
    np.testing.assert_allclose(filled.samples[0][gap], over_background(filled, z)[gap], atol=2e-3)


def test_one_tile_starts_from_kriging():
    values, gap = field((64, 64)), holes((64, 64))
    filled = run(values, gap, gap_model(GaussianResidual()))
    with threadpool_limits(limits=1, user_api="blas"):  # as a fill does; a fit by more threads takes other steps
        mean, std = krige(np.where(gap, np.nan, values), ~gap)
    np.testing.assert_allclose(filled.background_mean, mean, atol=1e-4)
    np.testing.assert_allclose(filled.background_sigma, std, atol=1e-5)


# --- what the network sees ---


def test_the_network_sees_state_base_spread_and_gap_in_the_tiles_own_scale():
    values, gap, network = field((64, 64)), holes((64, 64)), GaussianResidual()
    filled = run(values, gap, gap_model(network), samples=1)
    state, base, spread, flag = network.seen[0][0].double().numpy()
    mean, std = values[~gap].mean(), values[~gap].std()
    np.testing.assert_array_equal(flag, gap)
    np.testing.assert_array_equal(state[~gap], 0.0)
    np.testing.assert_allclose(state[gap], pixel_noise((64, 64), (0, 0), 1, 0)[0, 0].numpy()[gap])
    np.testing.assert_allclose(base, (filled.background_mean - mean) / std, atol=1e-4)
    np.testing.assert_allclose(spread, filled.background_sigma / std, atol=1e-5)


def test_what_stands_in_the_gap_is_never_looked_at():
    values, gap, model = field((64, 64)), holes((64, 64)), tiny_model()
    samples = [run(np.where(gap, hidden, values), gap, model).samples for hidden in (np.nan, 0.0, 1e6)]
    np.testing.assert_array_equal(samples[0], samples[1])
    np.testing.assert_array_equal(samples[0], samples[2])


def test_warmer_and_wider_input_gives_warmer_and_wider_output():
    values, gap, model = field((64, 64)), holes((64, 64)), tiny_model()
    plain, scaled = (run(v, gap, model, samples=4) for v in (values, 2.5 * values - 400.0))
    np.testing.assert_allclose(scaled.samples, 2.5 * plain.samples - 400.0, atol=5e-3)
    np.testing.assert_allclose(scaled.sigma, 2.5 * plain.sigma, atol=5e-3)


# --- measured, nodata, borders ---


def test_measured_pixels_are_bit_identical_and_what_is_neither_stays_nan():
    values, gap = field((64, 96)), holes((64, 96))
    known = ~gap
    known[:5], gap[:5] = False, False
    filled = run(np.where(known, values, np.nan), gap, tiny_model(), known=known)
    np.testing.assert_array_equal(filled.samples[:, known], np.broadcast_to(values[known], (2, known.sum())))
    assert np.isnan(filled.samples[:, :5]).all()
    assert np.isfinite(filled.samples[:, 5:]).all()
    np.testing.assert_array_equal(filled.sigma[known], 0.0)


def test_an_array_smaller_than_a_tile_is_filled():
    values, gap = field((37, 50)), holes((37, 50))
    filled = run(values, gap, tiny_model())
    assert filled.samples.shape == (2, 37, 50)
    assert filled.background_mean.shape == filled.background_sigma.shape == (37, 50)
    assert np.isfinite(filled.samples).all()


def test_no_gap_returns_the_array_without_an_evaluation():
    values, network = field((64, 64)), GaussianResidual()
    filled = run(values, np.zeros((64, 64), bool), gap_model(network))
    np.testing.assert_array_equal(filled.samples, np.stack([values, values]))
    assert (filled.tiles, filled.evaluations, network.seen) == (0, 0, [])


def test_a_gap_far_from_anything_measured_starts_from_the_coarse_level():
    values, gap = field((64, 256)), np.zeros((64, 256), bool)
    gap[:, 40:] = True
    filled = run(values, gap, gap_model(GaussianResidual()), preset=PRESETS["balanced"], samples=8)
    assert 0 < filled.coarse_tiles < filled.tiles
    assert np.isfinite(filled.samples).all()
    assert filled.sigma[:, 200:].mean() > filled.sigma[:, 42:50].mean()
    assert abs(filled.mean[:, 200:].mean() - 300.0) < 5.0


def test_the_coarse_level_given_is_the_one_that_is_used():
    values, gap = field((64, 256)), np.zeros((64, 256), bool)
    gap[:, 40:] = True
    warm = CoarseField(np.full((4, 16), 320.0), np.ones((4, 16), bool), within=4.0, reduction=16)
    filled = run(values, gap, gap_model(GaussianResidual()), coarse=warm)
    np.testing.assert_allclose(filled.background_mean[:, 200:], 320.0, atol=1e-3)
    assert (filled.background_sigma[:, 200:] >= 2.0).all()  # at least the deviation inside a cell


# --- samples and noise ---


def test_a_network_whose_answer_is_not_finite_is_refused():
    values, gap = field((64, 64)), holes((64, 64))
    with pytest.raises(ModelError, match="model exact gives values that are not finite"):
        run(values, gap, gap_model(GaussianResidual(mean=float("nan"))))


def test_mean_and_sigma_are_those_of_the_samples():
    samples = np.array([[[1.0]], [[3.0]], [[5.0]]], dtype=np.float32)
    filled = Filled(samples, samples[0], np.full((1, 1), 7.0, np.float32), 1, 0, 10)
    assert filled.mean[0, 0] == 3.0
    assert filled.sigma[0, 0] == pytest.approx((8 / 3) ** 0.5)  # divided by K


# RePaint's samples are independent but for their first noise: there the variance is divided by K - 1.
@pytest.mark.parametrize("preset", [PRESETS["fast"], Preset(30, 10, 2, sampler="repaint")])
def test_sigma_of_few_samples_is_near_that_of_many(preset):
    values, gap, model = field((64, 64)), holes((64, 64)), gap_model(GaussianResidual())
    few, many = (run(values, gap, model, preset=preset, samples=count) for count in (8, 64))
    spread = many.background_sigma[gap]
    true_ratio = (many.samples.std(axis=0)[gap] / spread).mean()
    pooled, plain = (sigma[gap] / spread / true_ratio for sigma in (few.sigma, few.samples.std(axis=0)))
    assert pooled.mean() == pytest.approx(1.0, abs=0.03)  # at the gap's border too
    assert pooled.std() < 0.5 * plain.std()


def test_the_cards_factor_scales_sigma_and_no_sample():
    values, gap, model = field((64, 64)), holes((64, 64)), gap_model(GaussianResidual())
    wider = replace(model, card=replace(model.card, sigma_factor={"fast": 1.5, "balanced": 9.0}))
    plain, scaled = (run(values, gap, each, preset=PRESETS["fast"], samples=4) for each in (model, wider))
    np.testing.assert_array_equal(scaled.samples, plain.samples)
    np.testing.assert_allclose(scaled.sigma, 1.5 * plain.sigma, rtol=1e-5)


def test_quantiles_are_those_of_a_normal_error_unless_the_card_knows_better():
    samples = np.stack([np.full((1, 2), value, np.float32) for value in (298.0, 302.0)])
    plain = Filled(samples, samples[0], np.array([[2.0, 0.0]], np.float32), 1, 0, 10)
    sigma = plain.sigma[0]
    assert (sigma[0] > 0, sigma[1]) == (True, 0)
    for level, score in ((0.5, 0.0), (0.025, -1.959964), (0.9, 1.281552)):
        np.testing.assert_allclose(plain.quantile(level)[0], 300 + sigma * score, rtol=1e-6)
    card = {"0.9": 1.0, "0.025": -3.0, "0.5": 0.2}
    wide = replace(plain, error_quantiles=card)
    for level, score in card.items():
        np.testing.assert_allclose(wide.quantile(float(level))[0], 300 + sigma * score, rtol=1e-6)
    # Half-way between the normal quantiles of 0.5 and 0.9; and beyond the last ones, in their proportion.
    np.testing.assert_allclose(wide.quantile(0.7391658)[0], 300 + sigma * 0.6, rtol=1e-6)
    np.testing.assert_allclose(wide.quantile(0.001)[0], 300 + sigma * (-3.090232 * 3 / 1.959964), rtol=1e-6)
    np.testing.assert_allclose(wide.quantile(0.999)[0], 300 + sigma * (3.090232 / 1.281552), rtol=1e-6)
    levels = [wide.quantile(level)[0, 0] for level in np.linspace(0.001, 0.999, 60)]
    assert levels == sorted(levels)


@pytest.mark.parametrize("level", [0, 1, -0.5, 1.5, np.nan])
def test_a_quantile_level_lies_between_0_and_1(level):
    filled = Filled(np.zeros((2, 1, 1)), np.zeros((1, 1)), np.ones((1, 1)), 1, 0, 10)
    with pytest.raises(LacunarError, match=r"quantile level .*: wanted a number between 0 and 1, such as 0.05"):
        filled.quantile(level)


def test_the_cards_quantiles_come_with_its_preset():
    values, gap, model = field((64, 64)), holes((64, 64)), gap_model(GaussianResidual())
    table = {"0.05": -2.0, "0.95": 2.5}
    known_better = replace(model, card=replace(model.card, error_quantiles={"fast": table}))
    assert run(values, gap, known_better, preset=replace(FEW, name="fast")).error_quantiles == table
    assert run(values, gap, known_better, preset=replace(FEW, name="balanced")).error_quantiles == {}


def test_a_base_that_is_there_already_is_what_samples_start_from():
    values, gap, model = field((64, 64)), holes((64, 64)), tiny_model()
    whole = run(values, gap, model)
    made = background_field(values, ~gap, gap, CoarseField.of(values, ~gap, 16), kriged=True)
    options = FillOptions(preset=FEW, samples=2)
    again = fill_from_background(made, values, ~gap, gap, model, options)
    np.testing.assert_array_equal(again.samples, whole.samples)
    warmer = fill_from_background(replace(made, mean=made.mean + 10 * gap), values, ~gap, gap, model, options)
    assert (warmer.samples - whole.samples)[:, gap].min() > 5
    np.testing.assert_array_equal(warmer.samples[:, ~gap], whole.samples[:, ~gap])


def test_the_sigma_of_one_sample_is_that_of_kriging():
    values, gap = field((64, 64)), holes((64, 64))
    filled = run(values, gap, tiny_model(), samples=1)
    np.testing.assert_array_equal(filled.sigma, filled.background_sigma)


def test_noise_comes_in_opposite_pairs():
    noise = pixel_noise((70, 90), (0, 0), 6, 3)
    torch.testing.assert_close(noise[:3], -noise[3:], rtol=0, atol=0)
    assert pixel_noise((8, 8), (0, 0), 5, 3).shape == (5, 1, 8, 8)
    assert noise.std() == pytest.approx(1.0, abs=0.02)
    assert abs(float(noise[:3].mean())) < 0.02


def test_noise_belongs_to_absolute_pixels():
    whole = pixel_noise((300, 200), (0, 0), 4, 5)
    part = pixel_noise((100, 90), (130, 50), 4, 5)
    torch.testing.assert_close(part, whole[:, :, 130:230, 50:140], rtol=0, atol=0)


def test_noise_differs_between_cells_seeds_and_samples():
    noise = pixel_noise((128, 128), (0, 0), 4, 5)[:, 0]
    parts = [noise[0, :64, :64], noise[0, 64:, :64], noise[0, :64, 64:], noise[1, :64, :64]]
    parts.append(pixel_noise((64, 64), (0, 0), 4, 6)[0, 0])
    correlation = np.corrcoef([part.numpy().ravel() for part in parts])
    np.testing.assert_allclose(correlation, np.eye(5), atol=0.06)  # 4 / sqrt(64 * 64)


def test_the_first_sample_does_not_depend_on_how_many_are_drawn():
    values, gap, model = field((64, 64)), holes((64, 64)), tiny_model()
    one, six = (run(values, gap, model, samples=count) for count in (1, 6))
    np.testing.assert_allclose(one.samples[0], six.samples[0], atol=1e-3)


def test_a_seed_reproduces_bit_for_bit_and_another_differs():
    values, gap, model = field((64, 80)), holes((64, 80)), tiny_model()
    first, again, other = (run(values, gap, model, seed=seed).samples for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first[:, gap] != other[:, gap]).mean() > 0.99


# --- presets ---


def test_the_presets_cost_what_they_say():
    expected = {"fast": 10, "balanced": 25, "paper": 2410, "instant": 1}
    assert {name: PRESETS[name].evaluations for name in PRESETS} == expected


@pytest.mark.parametrize("preset", [Preset(steps=4), Preset(6, 2, 2, sampler="repaint")])
def test_the_callback_counts_every_evaluation(preset):
    calls, network = [], GaussianResidual()
    values, gap = field((64, 64)), holes((64, 64))
    filled = run(
        values, gap, gap_model(network), preset=preset, samples=1, callback=lambda *counts: calls.append(counts)
    )
    assert calls == [(done, preset.evaluations) for done in range(1, preset.evaluations + 1)]
    assert filled.evaluations == preset.evaluations == len(network.seen)


def test_repaint_asks_an_unconditional_network_and_keeps_what_is_measured():
    values, network = field((64, 160)), GaussianResidual()
    gap = np.zeros((64, 160), bool)
    gap[10:40, 10:40] = True  # the tiles on the right touch no gap
    filled = run(values, gap, gap_model(network), preset=Preset(50, 10, 2, sampler="repaint"), samples=16)
    assert all((given[:, 1] == 0).all() and (given[:, 2:] == 1).all() for given in network.seen)
    np.testing.assert_array_equal(filled.samples[:, ~gap], np.broadcast_to(values[~gap], (16, (~gap).sum())))
    np.testing.assert_array_equal(filled.sigma[~gap], 0.0)
    # The prior's pixels are independent: what is filled knows mean and deviation of what surrounds it, and no more.
    z = (filled.samples - filled.background_mean)[:, gap] / filled.background_sigma[gap]
    assert z.mean() == pytest.approx(0.0, abs=0.05)
    assert z.std() == pytest.approx(1.0, rel=0.1)
    near = values[:, :96][~gap[:, :96]]
    assert filled.background_mean[gap].mean() == pytest.approx(near.mean(), abs=1.0)


def test_an_unknown_preset_is_named_with_the_known_ones():
    with pytest.raises(LacunarError, match=r"unknown preset 'best': choose one of fast, balanced, paper"):
        preset_named("best")
    assert preset_named("fast") is PRESETS["fast"]


# --- bad input ---


def test_bad_input_is_refused():
    values, gap, model = field((64, 64)), holes((64, 64)), tiny_model()
    with pytest.raises(LacunarError, match=r"\(64, 64\), \(64, 63\)"):
        run(values, gap, model, known=~gap[:, :63])
    with pytest.raises(LacunarError, match="0 samples"):
        run(values, gap, model, samples=0)
    with pytest.raises(LacunarError, match="no pixel is known"):
        run(values, np.ones((64, 64), bool), model)
    with pytest.raises(ModelError, match=r"model tiny takes 3 channels .*wanted 4 \(state, mean, sigma, missing\)"):
        run(values, gap, tiny_model(in_channels=3))
