"""Block by block is the same as all at once: no seam, no measured pixel changed, the same seed the same raster."""

import numpy as np
import pytest
from scipy import ndimage

from gap_models import GaussianResidual, gap_model, tiny_model
from lacunar.diffusion.samplers import Preset
from lacunar.errors import LacunarError, RasterError
from lacunar.fill import blocks as streaming
from lacunar.fill.blocks import FILLED, MEASURED, NODATA, fill_blocks, survey
from lacunar.fill.options import FillOptions
from lacunar.geo.windows import blocks_over
from lacunar.interpolate.background import CoarseField
from lacunar.sensors.scene import Measured
from lst_seam import seam_ratio

SHAPE = (64, 480)
FEW = Preset(steps=3)


@pytest.fixture
def _small_blocks(monkeypatch):
    """Five blocks in a row; the halo is the real one."""
    monkeypatch.setattr(streaming, "BLOCK", 96)


def field(shape=SHAPE, seed=0):
    """A smooth field in kelvin."""
    rough = np.random.default_rng(seed).standard_normal(shape)
    smooth = ndimage.gaussian_filter(rough, 5.0)
    return (300.0 + 3.0 * smooth / smooth.std()).astype(np.float32)


def long_gap(shape=SHAPE):
    """A gap that crosses every border between blocks but the last."""
    gap = np.zeros(shape, bool)
    gap[20:44, 60:350] = True
    return gap


def reader(values, gap, nodata=None):
    """Windows of arrays; what is not measured is NaN."""
    nodata = np.zeros_like(gap) if nodata is None else nodata
    shown = np.where(gap | nodata, np.nan, values)

    def read(window):
        cut = window.slices
        return Measured(shown[cut], ~(gap | nodata)[cut], gap[cut] & ~nodata[cut])

    return read


def stream(read, shape, model, *, preset=FEW, samples=2, seed=0, guides=None, callback=None):
    """Value, source and sigma of the whole raster, and its blocks."""
    found = survey(read, shape, guides)
    options = FillOptions(preset=preset, samples=samples, seed=seed)
    blocks = list(fill_blocks(read, shape, found, model, options, guides=guides, callback=callback))
    out = np.full((3, *shape), -1.0, np.float32)
    for block in blocks:
        assert (out[0][block.window.slices] == -1).all()
        out[:, *block.window.slices] = block.bands
    return out, blocks


# --- what is computed ---


@pytest.mark.usefixtures("_small_blocks")
def test_evaluations_are_those_that_the_network_was_asked_for():
    network = GaussianResidual(variance=0.6)
    _, blocks = stream(reader(field(), long_gap()), SHAPE, gap_model(network), samples=4)
    assert sum(block.evaluations for block in blocks) == sum(len(x) for x in network.seen) > 0
    assert [block.evaluations for block in blocks] == [3 * 4 * block.tiles for block in blocks]


# --- blocks agree ---


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("rows", [slice(20, 44), slice(None)], ids=["long", "wider than a tile"])
def test_blocks_agree_exactly_where_the_network_looks_at_one_pixel(rows):
    gap = np.zeros(SHAPE, bool)
    gap[rows, 60:350] = True
    read = reader(field() + np.linspace(0, 20, SHAPE[1], dtype=np.float32), gap)
    model = gap_model(GaussianResidual(mean=0.4, variance=0.6))
    parts, blocks = stream(read, SHAPE, model)
    streaming.BLOCK = 480
    whole, (only,) = stream(read, SHAPE, model)
    assert len(blocks) == 5
    assert only.window.shape == SHAPE
    np.testing.assert_allclose(parts, whole, atol=1e-4)  # base, spread, noise: all belong to the raster, not the block


@pytest.mark.usefixtures("_small_blocks")
def test_blocks_agree_within_a_small_tolerance_with_any_network():
    read, model = reader(field(), long_gap()), tiny_model()
    parts, _ = stream(read, SHAPE, model)
    streaming.BLOCK = 480
    whole, _ = stream(read, SHAPE, model)
    sigma = whole[2][long_gap()].mean()
    difference = np.abs(parts - whole)[:, long_gap()]
    # Tiles beyond the halo are not denoised with the block: what reaches the core from there passes through two others.
    assert difference.max() < 0.03 * sigma
    assert difference.mean() < 0.001 * sigma


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("rows", [slice(20, 44), slice(None)], ids=["long", "wider than a tile"])
def test_blocks_with_references_agree_and_follow_them(rows):
    values, gap = field() + np.linspace(0, 20, SHAPE[1], dtype=np.float32), np.zeros(SHAPE, bool)
    gap[rows, 60:350] = True
    noise = np.random.default_rng(5).standard_normal((2, *SHAPE)).astype(np.float32)
    others = np.stack([0.7 * values + 80.0, 50.0 - values]) + 0.05 * noise
    others[0, :, 100:120], others[1, :9] = np.nan, np.nan
    model = gap_model(GaussianResidual(variance=0.6))
    told = {"guides": lambda window: others[:, *window.slices]}
    parts, blocks = stream(reader(values, gap), SHAPE, model, **told)
    without, _ = stream(reader(values, gap), SHAPE, model)
    streaming.BLOCK = 480
    whole, _ = stream(reader(values, gap), SHAPE, model, **told)
    assert len(blocks) == 5
    np.testing.assert_allclose(parts, whole, atol=1e-4)
    error, error_without = (np.sqrt(np.mean((out[0] - values)[gap] ** 2)) for out in (parts, without))
    assert error < 0.3 * error_without


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("samples", [1, 8])
def test_no_seam_across_tiles_or_blocks(samples):
    gap = long_gap()
    out, _ = stream(reader(field(), gap), SHAPE, tiny_model(), samples=samples)
    starts = range(48, 480, 48)
    borders = [*starts, *(start + 16 for start in starts)]
    # Random weights draw a pattern of 4 pixels, and borders lie on it: the rest are the other multiples of 4.
    others = [col for col in range(4, 480, 4) if col not in borders]
    ordinary = seam_ratio(out[0], gap, rows=(), cols=others)
    assert seam_ratio(out[0], gap, rows=(), cols=borders) < 1.1 * ordinary
    assert seam_ratio(out[0], gap, rows=(), cols=range(96, 480, 96)) < 1.3 * ordinary  # three lines


# --- measured, filled, nodata ---


@pytest.mark.usefixtures("_small_blocks")
def test_measured_pixels_are_bit_identical_and_nodata_stays_nodata():
    values, gap, nodata = field(), long_gap(), np.zeros(SHAPE, bool)
    nodata[:, :70] = True
    nodata[30:34, 200:300] = True  # inside the gap too
    (value, source, sigma), _ = stream(reader(values, gap, nodata), SHAPE, tiny_model())
    measured, filled = ~gap & ~nodata, gap & ~nodata
    np.testing.assert_array_equal(value[measured], values[measured])
    np.testing.assert_array_equal(sigma[measured], 0.0)
    assert np.isnan(value[nodata]).all()
    assert np.isnan(sigma[nodata]).all()
    assert np.isfinite(value[filled]).all()
    assert (sigma[filled] > 0).all()
    np.testing.assert_array_equal(source, np.select([measured, filled], [MEASURED, FILLED], NODATA))


@pytest.mark.usefixtures("_small_blocks")
def test_no_gap_leaves_the_raster_unchanged():
    values, network = field(), GaussianResidual()
    read = reader(values, np.zeros(SHAPE, bool))
    (value, source, sigma), blocks = stream(read, SHAPE, gap_model(network))
    np.testing.assert_array_equal(value, values)
    assert (source == MEASURED).all()
    assert (sigma == 0).all()
    assert sum(block.tiles for block in blocks) == 0
    assert network.seen == []


@pytest.mark.usefixtures("_small_blocks")
def test_a_gap_wider_than_a_tile_is_filled_from_the_coarse_level_and_counted():
    values, gap = field(), np.zeros(SHAPE, bool)
    gap[:, 60:420] = True
    (value, _, sigma), blocks = stream(reader(values, gap), SHAPE, gap_model(GaussianResidual()), samples=8)
    coarse = [block.coarse_tiles for block in blocks]
    assert coarse[2] == max(coarse) > 0  # nothing measured around the middle block
    assert coarse[0] < coarse[2] > coarse[4]
    assert np.isfinite(value).all()
    assert np.abs(value[gap] - 300.0).max() < 30.0
    assert sigma[:, 200:280].mean() > 1.5 * sigma[:, 60:64].mean()


def test_an_array_smaller_than_a_tile_is_filled():
    values, gap = field((30, 40)), np.zeros((30, 40), bool)
    gap[10:20, 10:20] = True
    (value, *_), _ = stream(reader(values, gap), (30, 40), tiny_model())
    assert np.isfinite(value).all()


# --- seeds, order, progress ---


@pytest.mark.usefixtures("_small_blocks")
def test_a_seed_reproduces_bit_for_bit_and_another_differs():
    read, model = reader(field(), long_gap()), tiny_model()
    first, again, other = (stream(read, SHAPE, model, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != other[0])[long_gap()].mean() > 0.99


@pytest.mark.usefixtures("_small_blocks")
def test_progress_rises_to_the_end_and_counts_blocks_without_a_gap():
    calls = []
    read = reader(field(), long_gap())
    stream(read, SHAPE, gap_model(GaussianResidual()), callback=lambda *counts: calls.append(counts))
    done = [count for count, _ in calls]
    assert done == sorted(done)
    assert calls[-1] == (500, 500)
    assert {total for _, total in calls} == {500}


def test_only_a_block_and_its_halo_are_read_at_once():
    # The real sizes: 22 % of a raster of 4,096 pixels would not fit if a window grew with the raster.
    largest = max(
        block.outer.height * block.outer.width
        for block in blocks_over((8192, 8192), block=streaming.BLOCK, halo=streaming.HALO)
    )
    assert largest == (streaming.BLOCK + 2 * streaming.HALO) ** 2
    widest = max(block.wide.height * block.wide.width for block in streaming.blocks_of((8192, 8192)))
    assert widest == (streaming.BLOCK + 2 * streaming.WIDE_HALO) ** 2


def test_blocks_and_halo_fit_the_grids_of_both_kinds_of_tile():
    for stride in (64 - 16, 64 - 32):  # the network's tiles and those of kriging
        assert streaming.BLOCK % stride == 0
        assert streaming.HALO % stride == 0


# --- the survey ---


def test_the_survey_counts_every_kind_and_averages_strip_by_strip():
    shape = (100, 50)
    values, gap, nodata = field(shape), np.zeros(shape, bool), np.zeros(shape, bool)
    gap[10:30, 5:40], nodata[:, 45:] = True, True
    found = survey(reader(values, gap, nodata), shape)
    assert (found.measured, found.missing, found.nodata) == (100 * 45 - 700, 700, 500)
    whole = CoarseField.of(values, ~gap & ~nodata, 16)
    np.testing.assert_array_equal(found.coarse.known, whole.known)
    np.testing.assert_allclose(found.coarse.values, whole.values)
    assert found.coarse.reduction == 16
    assert found.coarse.within == pytest.approx(whole.within, rel=0.1)  # averaged over cells, not pixels


def test_the_survey_of_references_counts_and_averages_each_alike():
    shape = (100, 50)
    values, gap, nodata = field(shape), np.zeros(shape, bool), np.zeros(shape, bool)
    gap[10:30, 5:40], nodata[:, 45:] = True, True
    others = np.stack([values + 5.0, -values, np.full(shape, np.nan, np.float32)])
    others[0, :20], others[1, :, :45] = np.nan, np.nan
    read = reader(values, gap, nodata)
    streaming.BLOCK, block = 32, streaming.BLOCK
    try:
        found = survey(read, shape, lambda window: others[:, *window.slices])
    finally:
        streaming.BLOCK = block
    assert found.coarse.values.shape == (7, 4)
    assert [part.measured for part in found.guides] == [80 * 50, 100 * 5, 0]
    assert [part.common for part in found.guides] == [80 * 45 - 350, 0, 0]
    assert [part.share for part in found.guides] == [0.8, 0.1, 0.0]
    assert [part.missing_share for part in found.guides] == [0.5, 0.0, 0.0]
    for part, other in zip(found.coarse.guides, others, strict=True):
        whole = CoarseField.of(other, np.isfinite(other), 16)
        both = CoarseField.of(other, np.isfinite(other) & ~gap & ~nodata, 16)  # of the pixels that the raster measures
        np.testing.assert_array_equal(part.known, whole.known)
        np.testing.assert_allclose(part.values, np.where(both.known, both.values, whole.values))
        assert part.within == pytest.approx(whole.within)
    assert survey(read, shape).guides == ()
    assert (
        survey(reader(values, gap & False), shape, lambda window: others[:, *window.slices]).guides[0].missing_share
        is None
    )


def test_the_coarse_level_of_a_large_raster_has_no_more_cells_than_that_of_a_small_one():
    shape = (16, 20_000)
    values = np.zeros(shape, np.float32)
    found = survey(
        lambda tile: Measured(values[tile.slices], np.ones(tile.shape, bool), np.zeros(tile.shape, bool)), shape
    )
    assert max(found.coarse.values.shape) <= streaming.COARSE_CELLS


def test_a_raster_of_gap_and_nodata_alone_is_refused():
    gap, nodata = np.ones(SHAPE, bool), np.zeros(SHAPE, bool)
    nodata[:, :10] = True
    with pytest.raises(RasterError, match=r"no measured pixel: 30080 of 30720 pixels are missing .*check the gap mask"):
        survey(reader(field(), gap, nodata), SHAPE)


def test_a_jump_at_a_border_shows_and_elsewhere_does_not():
    rows, cols = np.mgrid[:60, :90]
    field, missing = 0.5 * rows + 0.5 * cols, np.ones((60, 90), bool)
    assert seam_ratio(field, missing, rows=(20, 40), cols=(30, 60)) == pytest.approx(1.0)
    assert seam_ratio(field + 1.5 * (cols >= 30), missing, rows=(), cols=(30,)) == pytest.approx(4.0)
    assert seam_ratio(field + 1.5 * (rows >= 20), missing, rows=(20,), cols=()) == pytest.approx(4.0)
    assert seam_ratio(field + 1.5 * (cols >= 31), missing, rows=(), cols=(30,)) < 1.0


def test_only_steps_inside_the_missing_region_count():
    field, missing = np.tile(np.arange(10.0), (4, 1)), np.zeros((4, 10), bool)
    missing[:, 3:8] = True
    field[:, ~missing[0]] = 1e6
    assert seam_ratio(field, missing, rows=(), cols=(5,)) == pytest.approx(27 / 12)  # rows have 15 steps of 0
    with pytest.raises(LacunarError, match="got 0 steps across borders and 31 others"):
        seam_ratio(field, missing, rows=(), cols=(3,))
