"""Fills from an archive of dates: when they are taken, and what they give."""

import numpy as np
import pytest
from scipy import ndimage

from gap_models import tiny_model
from lacunar.errors import LacunarError
from lacunar.fill.array import fill_array
from lacunar.fill.blocks import fill_blocks, survey
from lacunar.fill.options import FillOptions
from lacunar.sensors.scene import Measured


def smooth(rng, width, shape):
    field = ndimage.gaussian_filter(rng.normal(size=shape), width, mode="wrap")
    return field / field.std()


def archive(shape=(96, 110), dates=4, seed=3):
    """A target, its missing pixels, and other dates of the same land with clouds of their own."""
    rng = np.random.default_rng(seed)
    land = 3 * smooth(rng, 3, shape)
    values = [300 + land + 0.5 * smooth(rng, 4, shape) for _ in range(dates + 1)]
    guides = np.stack([np.where(smooth(rng, 6, shape) > 1, np.nan, one) for one in values[1:]])
    return values[0], smooth(rng, 6, shape) > 0.8, guides


def filled(guides, **options):
    values, missing, _ = archive()
    return fill_array(
        np.where(missing, np.nan, values), ~missing, missing, tiny_model(), FillOptions(**options), guides=guides
    )


def test_four_guides_are_an_archive_and_no_network_is_asked():
    values, missing, guides = archive()
    made = filled(guides)
    assert made.evaluations == 0
    assert made.samples.shape == (8, *values.shape)
    np.testing.assert_array_equal(
        made.samples[:, ~missing], np.broadcast_to(values[~missing].astype(np.float32), (8, (~missing).sum()))
    )
    assert (made.sigma[missing] > 0).all()
    assert np.sqrt(np.mean((made.mean - values)[missing] ** 2)) < 1.0
    np.testing.assert_allclose(made.mean[missing], made.background_mean[missing], atol=1e-3)  # pairs of opposite noise
    assert (made.quantile(0.05) < made.quantile(0.95))[missing].all()


@pytest.mark.parametrize(("count", "background", "evaluations"), [(3, "auto", 10), (4, "kriging", 10), (1, "field", 0)])
def test_fewer_guides_or_another_choice(count, background, evaluations):
    _, _, guides = archive()
    assert filled(guides[:count], background=background).evaluations == evaluations


@pytest.mark.parametrize(("preset", "samples"), [("fast", 4), ("instant", 1)])
def test_no_network_is_loaded_where_none_is_named(monkeypatch, preset, samples):
    values, missing, _ = archive()
    options = FillOptions(preset=preset, samples=samples)
    monkeypatch.setattr(FillOptions, "load", None)
    made = fill_array(np.where(missing, np.nan, values), ~missing, missing, None, options)
    assert made.samples.shape == (samples, *values.shape)
    assert (made.sigma[missing] > 0).all()
    assert np.sqrt(np.mean((made.mean - values)[missing] ** 2)) < values.std()


def test_instant_gives_the_mean():
    _, missing, guides = archive()
    one = filled(guides, preset="instant", samples=1)
    np.testing.assert_allclose(one.mean[missing], filled(guides).mean[missing], atol=1e-3)


def test_a_seed_repeats_and_another_differs():
    _, missing, guides = archive()
    first, again, other = (filled(guides, samples=2, seed=seed).samples[0][missing] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 0.01


def test_an_unknown_background_is_refused():
    with pytest.raises(LacunarError, match="background 'magic': wanted one of auto, field, kriging"):
        FillOptions(background="magic")


def test_samples_of_blocks_meet_in_a_gap_wider_than_the_halo(monkeypatch):
    values, _, _ = archive(shape=(100, 200), seed=8)
    missing = np.zeros(values.shape, dtype=bool)
    missing[20:80, 66:126] = True  # a border of blocks lies at column 96

    def read(tile):
        return Measured(values[tile.slices], ~missing[tile.slices], missing[tile.slices])

    found = survey(read, values.shape, options=FillOptions(samples=1))

    def sample():
        options, out = FillOptions(samples=1), np.empty(values.shape)
        for block in fill_blocks(read, values.shape, found, None, options):
            out[block.window.slices] = block.value
        return out

    whole = sample()
    monkeypatch.setattr("lacunar.fill.blocks.BLOCK", 96)
    monkeypatch.setattr("lacunar.fill.blocks.HALO", 16)
    monkeypatch.setattr("lacunar.fill.blocks.WIDE_HALO", 64)
    assert abs(sample() - whole).max() < 0.2


def test_blocks_agree_with_one_another(monkeypatch):
    values, missing, guides = archive(shape=(110, 330), seed=8)

    def read(tile):
        return Measured(values[tile.slices], ~missing[tile.slices], missing[tile.slices])

    def beside(tile):
        return guides[:, *tile.slices]

    def mosaic():
        options, out = FillOptions(preset="instant", samples=1), np.empty(values.shape)
        found = survey(read, values.shape, beside, options=options)
        for block in fill_blocks(read, values.shape, found, None, options, guides=beside):
            out[block.window.slices] = block.value
        return out

    whole = mosaic()
    monkeypatch.setattr("lacunar.fill.blocks.BLOCK", 96)
    assert abs(mosaic() - whole).max() < 0.2  # clouds of the other dates are completed block by block
