"""Where the diffusion starts: block means by hand, constant and planar fields, and tiles whose answer is known."""

import numpy as np
import pytest

from lacunar import basefield
from lacunar.basefield import CoarseField, base_field
from lacunar.interpolation import krige
from lacunar.tiling import Tile, tiles_over, tiles_touching


def far(values, known):
    """The coarser level of an array, as `fill_array` makes it."""
    return CoarseField.of(values, known, 16)


# --- the coarse level ---


def test_cells_hold_the_mean_of_their_known_pixels():
    values = np.array([[1.0, 3.0, 10.0], [np.nan, 5.0, np.nan], [7.0, 7.0, np.nan]])
    known = np.isfinite(values)
    coarse = CoarseField.of(values, known, 2)
    np.testing.assert_array_equal(coarse.values, [[3.0, 10.0], [7.0, 0.0]])
    np.testing.assert_array_equal(coarse.known, [[True, True], [True, False]])
    assert coarse.within == pytest.approx((4 + 0 + 4) / 6)  # of 1, 3, 5 about 3; the other cells hold one value each
    assert coarse.reduction == 2


def test_a_constant_field_stays_constant_far_away():
    values, known = np.full((160, 160), 300.0), np.zeros((160, 160), bool)
    known[:, :16] = True
    base, spread = far(values, known).at(Tile(40, 90, 64, 64))
    np.testing.assert_allclose(base, 300.0)
    assert base.shape == spread.shape == (64, 64)


def test_a_plane_is_met_at_pixel_centres_between_known_cells():
    rows, cols = np.mgrid[:128, :128]
    values, known = 300.0 + 0.1 * rows - 0.05 * cols, np.ones((128, 128), bool)
    base, spread = far(values, known).at(Tile(32, 20, 64, 64))
    np.testing.assert_allclose(base, values[32:96, 20:84], atol=1e-9)
    np.testing.assert_allclose(spread**2, (0.1**2 + 0.05**2) * (16**2 - 1) / 12)  # variance of a plane in a cell


def test_the_origin_moves_the_array_on_the_raster():
    rng = np.random.default_rng(0)
    values, known = rng.normal(300, 3, (160, 160)), rng.random((160, 160)) < 0.3
    whole = far(values, known)
    part = CoarseField(whole.values, whole.known, whole.within, whole.reduction, origin=(48, 32))
    for mine, theirs in zip(part.at(Tile(10, 20, 64, 64)), whole.at(Tile(58, 52, 64, 64)), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_window_grows_until_it_meets_known_cells():
    values, known = np.full((16, 2048), 290.0), np.zeros((16, 2048), bool)
    known[:, :256] = True  # sixteen cells, far from the tile
    base, spread = far(values, known).at(Tile(0, 1900, 16, 64))
    np.testing.assert_allclose(base, 290.0)
    assert (spread > 0).all()


def test_larger_cells_hold_the_mean_and_the_variance_of_smaller_ones():
    values, known = np.random.default_rng(0).normal(300, 3, (256, 256)), np.ones((256, 256), bool)
    small, large = far(values, known), CoarseField.of(values, known, 32)
    np.testing.assert_allclose(small.coarser.values, large.values)
    assert small.coarser.within == pytest.approx(large.within)
    assert (small.coarser.reduction, small.coarser.known.all()) == (32, True)


def test_far_away_the_cost_stays_and_the_answer_comes_from_larger_cells(monkeypatch):
    sizes = []

    def spy(values, known, **options):
        sizes.append(known.size)
        return krige(values, known, **options)

    monkeypatch.setattr(basefield, "krige", spy)
    rows, cols = np.mgrid[:256, :256]
    known = np.hypot(rows - 128, cols - 128) > 100  # a cloud of 3,200 pixels in diameter
    coarse = CoarseField(290.0 + 0.05 * cols, known, within=1.0, reduction=16, origin=(2016, 1000))
    base, spread = coarse.at(Tile(0, 1000, 64, 64))
    assert max(sizes) < 2000
    assert base.mean() == pytest.approx(290 + 0.05 * 2032 / 16, abs=0.5)
    assert (spread > coarse.at(Tile(0, 0, 64, 64))[1]).all()  # nearer to the rim


# --- base and spread ---


def test_base_and_spread_of_one_tile_are_kriging():
    rng = np.random.default_rng(1)
    values, known = rng.normal(300, 3, (64, 64)), rng.random((64, 64)) < 0.7
    field = base_field(np.where(known, values, np.nan), known, ~known, far(values, known), kriged=True)
    mean, std = krige(values, known)
    np.testing.assert_allclose(field.base, mean)
    np.testing.assert_allclose(field.spread, std, atol=1e-12)
    assert (field.tiles, field.coarse_tiles) == (1, 0)


def test_known_pixels_keep_their_value_and_have_no_spread():
    rng = np.random.default_rng(2)
    values, known = rng.normal(300, 3, (64, 128)), np.ones((64, 128), bool)
    known[20:40, 50:90] = False
    field = base_field(values, known, ~known, far(values, known), kriged=True)
    np.testing.assert_array_equal(field.base[known], values[known])
    np.testing.assert_array_equal(field.spread[known], 0.0)
    assert (field.spread[~known] > 0).all()


def test_only_tiles_that_touch_the_gap_are_computed():
    values, known = np.random.default_rng(3).normal(300, 3, (64, 320)), np.ones((64, 320), bool)
    known[30:34, 100:104] = False
    field = base_field(values, known, ~known, far(values, known), kriged=False)
    touched = tiles_touching(tiles_over((64, 320), tile=64, overlap=32), ~known)
    assert field.tiles == len(touched) == 2
    assert (field.spread[:, 64:128] > 0).all()
    assert (field.spread[:, 192:] == 0).all()


def test_without_kriging_every_pixel_gets_mean_and_deviation_of_what_is_known_around():
    values, known = np.random.default_rng(4).normal(300, 3, (64, 64)), np.ones((64, 64), bool)
    known[20:40, 20:40] = False
    field = base_field(np.where(known, values, np.nan), known, ~known, far(values, known), kriged=False)
    np.testing.assert_allclose(field.base, values[known].mean())
    np.testing.assert_allclose(field.spread, values[known].std())


@pytest.mark.parametrize(("count", "coarse_tiles"), [(15, 1), (16, 0)])
def test_fewer_than_sixteen_known_pixels_ask_the_coarse_level(count, coarse_tiles):
    values, known = np.full((64, 64), 300.0), np.zeros((64, 64), bool)
    known[0, :count] = True
    values[known] += np.random.default_rng(5).normal(0, 1, count)
    warm = CoarseField(np.full((4, 4), 320.0), np.ones((4, 4), bool), within=4.0, reduction=16)
    field = base_field(values, known, ~known, warm, kriged=True)
    assert field.coarse_tiles == coarse_tiles
    assert (field.base[60, 60] > 315.0) == bool(coarse_tiles)
