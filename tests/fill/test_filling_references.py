"""Filling with other dates of the place: what the network hears of them, and what they make of the base."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from threadpoolctl import threadpool_limits

from gap_models import GaussianResidual, gap_model, tiny_model
from lacunar.diffusion.samplers import PRESETS, Preset
from lacunar.errors import LacunarError
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.geo.missing_shapes import gap_pattern
from lacunar.interpolate.background import CoarseField
from lacunar.interpolate.external_drift import krige_with_guides

FEW = Preset(steps=2)
JUMPS = Preset(steps=6, jump_length=2, jump_n_sample=2, sampler="repaint")


def field(shape, seed=0):
    """A smooth field in kelvin with some roughness, as float32 numbers."""
    rough = np.random.default_rng(seed).standard_normal((2, *shape))
    smooth = ndimage.gaussian_filter(rough[0], 4.0)
    return (300 + 3 * smooth / smooth.std() + 0.3 * rough[1]).astype(np.float32).astype(np.float64)


def holes(shape, seed=0, rate=0.3):
    return gap_pattern("blobs", shape, rate, rng=np.random.default_rng(seed))


def one_sided(shape):
    """A gap of a few squares on the left and all of the right, most of it far from anything measured."""
    rows, cols = np.indices(shape)
    gap = (rows % 32 < 10) & (cols % 40 < 10)
    gap[:, 96:] = True
    return gap


def date_like(values, seed=1):
    """Another date in degrees Celsius: the same ground with another sign, and something of its own; with a cloud."""
    reference = 15 - 0.8 * (values - 300) + 0.5 * (field(values.shape, seed) - 300)
    reference[40:50, 5:25] = np.nan
    return reference


def run(values, gap, model, references=None, *, known=None, preset=FEW, samples=2, seed=0, **options):
    known = ~gap if known is None else known
    references = None if references is None else np.stack(references)
    values = np.where(known, values, np.nan)
    how = FillOptions(preset=preset, samples=samples, seed=seed)
    return fill_array(values, known, gap, model, how, guides=references, **options)


# --- what the network hears ---


def test_a_network_of_five_channels_hears_the_guide_in_the_tiles_own_scale():
    values, gap = field((64, 64)), holes((64, 64))
    references = [date_like(values), field((64, 64), 5)]
    network = GaussianResidual(in_channels=5)
    filled = run(values, gap, gap_model(network), references)
    with threadpool_limits(limits=1, user_api="blas"):  # as a fill does; a fit by more threads takes other steps
        kriged = krige_with_guides(values, ~gap, np.stack(references))
    guide, mean, std = kriged.guide, values[~gap].mean(), values[~gap].std()
    assert network.seen[0].shape == (2, 5, 64, 64)
    _, base, spread, flag, heard = network.seen[0][0].double().numpy()
    np.testing.assert_allclose(heard, (guide - guide.mean()) / std, atol=1e-4)
    np.testing.assert_allclose(base, (kriged.mean - mean) / std, atol=1e-4)
    np.testing.assert_allclose(spread, kriged.std / std, atol=1e-5)
    np.testing.assert_array_equal(flag, gap)
    np.testing.assert_allclose(filled.background_mean, kriged.mean, atol=1e-4)
    assert heard.std() > 0.5


def test_each_tile_hears_its_own_anomaly():
    """A season between two dates is no pattern, and what lies outside a tile is not in its mean."""
    values, gap, network = field((64, 160)), holes((64, 160)), GaussianResidual(in_channels=5)
    run(values, gap, gap_model(network), [values + np.linspace(0, 40, 160)])
    heard = network.seen[0][:, 4].double()
    assert len(heard) == 6  # three tiles, two samples
    np.testing.assert_allclose(heard.mean(dim=(1, 2)), 0, atol=1e-5)
    assert (heard.std(dim=(1, 2)) > 0.3).all()


def test_without_references_the_guide_is_silent():
    values, gap = field((64, 64)), holes((64, 64))
    for references in (None, np.zeros((0, 64, 64)), np.full((1, 64, 64), np.nan)):
        network = GaussianResidual(in_channels=5)
        known, options = ~gap, FillOptions(preset=FEW, samples=1)
        filled = fill_array(values, known, gap, gap_model(network), options, guides=references)
        assert not network.seen[0][:, 4].any()
        plain = fill_array(values, known, gap, gap_model(GaussianResidual()), options)
        np.testing.assert_array_equal(filled.samples, plain.samples)


def test_a_network_of_four_channels_starts_from_the_same_base():
    values, gap = field((64, 96)), holes((64, 96))
    four, five = GaussianResidual(), GaussianResidual(in_channels=5)
    references = [date_like(values)]
    filled, other = (run(values, gap, gap_model(network), references) for network in (four, five))
    assert four.seen[0].shape[1] == 4
    np.testing.assert_array_equal(four.seen[0], five.seen[0][:, :4])
    np.testing.assert_array_equal(filled.samples, other.samples)
    assert np.abs(filled.background_mean - run(values, gap, gap_model(four)).background_mean)[gap].max() > 0.5


def test_what_the_network_hears_changes_what_it_says():
    values, gap, model = field((64, 64)), holes((64, 64)), tiny_model(in_channels=5)
    filled = run(values, gap, model, [date_like(values)])
    z = (filled.samples - filled.background_mean)[:, gap] / filled.background_sigma[gap]
    with_silence = replace(model, network=Deaf(model.network))
    deaf = run(values, gap, with_silence, [date_like(values)])
    np.testing.assert_array_equal(deaf.background_mean, filled.background_mean)
    other = (deaf.samples - deaf.background_mean)[:, gap] / deaf.background_sigma[gap]
    assert np.abs(z - other).max() > 0.01


class Deaf(GaussianResidual):
    """A network that is given no guide."""

    def __init__(self, network):
        super().__init__(in_channels=5)
        self.network = network

    def forward(self, x, t):
        heard = x.clone()
        heard[:, 4] = 0
        return self.network(heard, t)


def test_repaint_refuses_references_and_hears_none():
    values, gap, network = field((64, 64)), holes((64, 64)), GaussianResidual(in_channels=5)
    for preset, name in ((PRESETS["paper"], "paper"), (JUMPS, "without a name")):
        with pytest.raises(LacunarError, match=f"preset {name} is RePaint, whose prior knows no guides .*: choose"):
            run(values, gap, gap_model(network), [date_like(values)], preset=preset)
    options = FillOptions(preset=JUMPS, samples=1)
    fill_array(values, ~gap, gap, gap_model(network), options, guides=np.zeros((0, 64, 64)))
    for given in network.seen:
        assert (given[:, 1] == 0).all()
        assert (given[:, 2:4] == 1).all()
        assert (given[:, 4] == 0).all()


# --- what they make of the fill ---


def test_a_copy_in_other_units_is_the_truth_near_and_far():
    values, gap = field((64, 288)), one_sided((64, 288))
    model = gap_model(GaussianResidual())
    helped, alone = (run(values, gap, model, references) for references in ([80 - 1.8 * values], None))
    assert 0 < helped.coarse_tiles < helped.tiles
    for region in (gap & (np.arange(288) < 96), gap & (np.arange(288) > 200)):
        error = np.sqrt(np.mean((helped.mean - values)[region] ** 2))
        assert error < 0.2 * np.sqrt(np.mean((alone.mean - values)[region] ** 2))
        assert error < 0.2 * values.std()
    assert helped.sigma[gap].mean() < 0.5 * alone.sigma[gap].mean()


@pytest.mark.parametrize("in_channels", [4, 5])
def test_the_units_of_the_references_do_not_matter(in_channels):
    values, gap, model = field((64, 256)), one_sided((64, 256)), tiny_model(in_channels=in_channels)
    reference = date_like(values)
    plain, other = (run(values, gap, model, [date]) for date in (reference, 3000 - 100 * reference))
    np.testing.assert_allclose(other.samples, plain.samples, atol=0.02)  # float32 of the largest step of kriging
    np.testing.assert_allclose(other.sigma, plain.sigma, atol=0.01)


def test_measured_pixels_stay_and_what_is_neither_stays_out():
    values, gap = field((64, 96)), holes((64, 96))
    known = ~gap
    known[:5], gap[:5] = False, False
    filled = run(values, gap, tiny_model(in_channels=5), [date_like(values)], known=known)
    np.testing.assert_array_equal(filled.samples[:, known], np.broadcast_to(values[known], (2, known.sum())))
    assert np.isnan(filled.samples[:, :5]).all()
    assert np.isfinite(filled.samples[:, 5:]).all()


def test_an_array_smaller_than_a_tile_is_filled():
    values, gap = field((52, 50)), holes((52, 50))
    filled = run(values, gap, tiny_model(in_channels=5), [(300 - values).astype(np.float32)])
    assert filled.samples.shape == (2, 52, 50)
    assert np.abs(filled.background_mean - values).max() < 0.1


def test_a_block_with_its_origin_is_what_the_whole_is_there():
    """The same tiles, coarse cells and noise: a block differs from the whole near its own border only."""
    values, gap = field((64, 480)), one_sided((64, 480))
    gap[:, 320:] = gap[:, :160]
    reference, model = date_like(values), tiny_model(in_channels=5)
    coarse = CoarseField.of(np.where(gap, np.nan, values), ~gap, 16)
    other = CoarseField.of(reference, np.isfinite(reference), 16)
    guided = replace(coarse, guides=(other,))
    whole = run(values, gap, model, [reference], coarse=guided)
    first = 96  # a multiple of the steps between kriging tiles and between the network's
    part = run(
        values[:, first:],
        gap[:, first:],
        model,
        [reference[:, first:]],
        coarse=replace(guided, origin=(0, first)),
    )
    assert part.coarse_tiles > 0
    assert np.abs(whole.background_mean - run(values, gap, model, coarse=coarse).background_mean)[:, 150:250].max() > 1
    np.testing.assert_allclose(part.background_mean[:, 96:], whole.background_mean[:, first + 96 :], atol=1e-4)
    np.testing.assert_allclose(part.samples[:, :, 160:], whole.samples[:, :, first + 160 :], atol=1e-3)


# --- bad input ---


@pytest.mark.parametrize("shape", [(1, 64, 63), (64, 64), (2, 1, 64, 64)])
def test_references_of_another_shape_are_refused(shape):
    values, gap = field((64, 64)), holes((64, 64))
    with pytest.raises(LacunarError, match=r"guides have shape \(.*\), wanted \(K, 64, 64\)"):
        fill_array(values, ~gap, gap, tiny_model(), FillOptions(preset=FEW, samples=1), guides=np.zeros(shape))
