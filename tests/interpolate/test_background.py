"""Where the diffusion starts: block means by hand, constant and planar fields, and tiles whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from gaussian_fields import MEAN, large_draw
from lacunar.geo.windows import Tile, tiles_over, tiles_touching
from lacunar.interpolate import background
from lacunar.interpolate.background import CoarseField, background_field
from lacunar.interpolate.external_drift import krige_with_guides
from lacunar.interpolate.kriging import Covariance, krige, krige_with_drift


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
    mean, sigma, _ = far(values, known).at(Tile(40, 90, 64, 64))
    np.testing.assert_allclose(mean, 300.0)
    assert mean.shape == sigma.shape == (64, 64)


def test_a_plane_is_met_at_pixel_centres_between_known_cells():
    rows, cols = np.mgrid[:128, :128]
    values, known = 300.0 + 0.1 * rows - 0.05 * cols, np.ones((128, 128), bool)
    mean, sigma, _ = far(values, known).at(Tile(32, 20, 64, 64))
    np.testing.assert_allclose(mean, values[32:96, 20:84], atol=1e-9)
    np.testing.assert_allclose(sigma**2, (0.1**2 + 0.05**2) * (16**2 - 1) / 12)  # variance of a plane in a cell


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
    mean, sigma, _ = far(values, known).at(Tile(0, 1900, 16, 64))
    np.testing.assert_allclose(mean, 290.0)
    assert (sigma > 0).all()


def test_larger_cells_hold_the_mean_and_the_variance_of_smaller_ones():
    values, known = np.random.default_rng(0).normal(300, 3, (256, 256)), np.ones((256, 256), bool)
    small, large = far(values, known), CoarseField.of(values, known, 32)
    np.testing.assert_allclose(small.coarser.values, large.values)
    assert small.coarser.within == pytest.approx(large.within)
    assert (small.coarser.reduction, small.coarser.known.all()) == (32, True)


def test_far_away_the_cost_stays_and_the_answer_comes_from_larger_cells(monkeypatch):
    sizes = []

    def spy(values, known, terms, **options):
        sizes.append(known.size)
        return krige_with_drift(values, known, terms, **options)

    monkeypatch.setattr(background, "krige_with_drift", spy)
    rows, cols = np.mgrid[:256, :256]
    known = np.hypot(rows - 128, cols - 128) > 100  # a cloud of 3,200 pixels in diameter
    coarse = CoarseField(290.0 + 0.05 * cols, known, within=1.0, reduction=16, origin=(2016, 1000))
    mean, sigma, _ = coarse.at(Tile(0, 1000, 64, 64))
    assert max(sizes) < 2000
    assert mean.mean() == pytest.approx(290 + 0.05 * 2032 / 16, abs=0.5)
    assert (sigma > coarse.at(Tile(0, 0, 64, 64))[1]).all()  # nearer to the rim


# --- base and spread ---


def test_base_and_spread_of_one_tile_are_kriging():
    rng = np.random.default_rng(1)
    values, known = rng.normal(300, 3, (64, 64)), np.ones((64, 64), bool)
    known[10:40, 20:50] = known[50, 5:60] = False
    field = background_field(np.where(known, values, np.nan), known, ~known, far(values, known), kriged=True)
    mean, std = krige(values, known)
    # Part of the solve is in single precision, whose last bits depend on the threads of BLAS.
    np.testing.assert_allclose(field.mean, mean, rtol=0, atol=0.02)
    np.testing.assert_allclose(field.sigma, std, rtol=0, atol=0.02)
    assert field.coarse_tiles == 0


def test_known_pixels_keep_their_value_and_have_no_spread():
    rng = np.random.default_rng(2)
    values, known = rng.normal(300, 3, (64, 128)), np.ones((64, 128), bool)
    known[20:40, 50:90] = False
    field = background_field(values, known, ~known, far(values, known), kriged=True)
    np.testing.assert_array_equal(field.mean[known], values[known])
    np.testing.assert_array_equal(field.sigma[known], 0.0)
    assert (field.sigma[~known] > 0).all()


def test_the_number_of_threads_changes_no_bit():
    values, known = large_draw(Covariance(32.0, 2.0, 16.0, 1e-3), 160, 3), np.ones((160, 160), bool)
    known[10:90, 20:150] = False
    one, three = (
        background_field(values, known, ~known, far(values, known), kriged=True, threads=threads) for threads in (1, 3)
    )
    np.testing.assert_array_equal(one.mean, three.mean)
    np.testing.assert_array_equal(one.sigma, three.sigma)


def test_only_tiles_that_touch_the_gap_are_computed():
    values, known = np.random.default_rng(3).normal(300, 3, (64, 320)), np.ones((64, 320), bool)
    known[30:34, 100:104] = False
    field = background_field(values, known, ~known, far(values, known), kriged=False)
    touched = tiles_touching(tiles_over((64, 320), tile=64, overlap=32), ~known)
    covered = np.zeros(known.shape, bool)
    for tile in touched:
        covered[tile.slices] = True
    np.testing.assert_array_equal(field.sigma > 0, covered)
    assert (field.sigma[:, 64:128] > 0).all()
    assert (field.sigma[:, 192:] == 0).all()


def test_without_kriging_every_pixel_gets_mean_and_deviation_of_what_is_known_around():
    values, known = np.random.default_rng(4).normal(300, 3, (64, 64)), np.ones((64, 64), bool)
    known[20:40, 20:40] = False
    field = background_field(np.where(known, values, np.nan), known, ~known, far(values, known), kriged=False)
    np.testing.assert_allclose(field.mean, values[known].mean())
    np.testing.assert_allclose(field.sigma, values[known].std())


@pytest.mark.parametrize(("count", "coarse_tiles"), [(15, 1), (16, 0)])
def test_fewer_than_sixteen_known_pixels_ask_the_coarse_level(count, coarse_tiles):
    values, known = np.full((64, 64), 300.0), np.zeros((64, 64), bool)
    known[0, :count] = True
    values[known] += np.random.default_rng(5).normal(0, 1, count)
    warm = CoarseField(np.full((4, 4), 320.0), np.ones((4, 4), bool), within=4.0, reduction=16)
    field = background_field(values, known, ~known, warm, kriged=True)
    assert field.coarse_tiles == coarse_tiles
    assert (field.mean[60, 60] > 315.0) == bool(coarse_tiles)


# --- far from known pixels ---


def half_open():
    """A tile known in its first 4 columns, 60 pixels of gap beside them, and cells around that are 10 K warmer."""
    values, known = large_draw(Covariance(32.0, 2.0, 16.0, 1e-3), 64, 7), np.zeros((64, 64), bool)
    known[:, :4] = True
    return values, known, CoarseField(np.full((4, 4), MEAN + 10), np.ones((4, 4), bool), within=9.0, reduction=16)


def test_far_off_kriging_and_coarse_level_weigh_by_their_precisions():
    values, known, warm = half_open()
    field = background_field(values, known, ~known, warm, kriged=True)
    far_off = np.s_[:, 3 + 48 :]
    mean, std = (part[far_off] for part in krige(values, known))
    other, sigma, _ = (part[far_off] for part in warm.at(Tile(0, 0, 64, 64)))
    np.testing.assert_allclose(field.mean[far_off], (mean / std**2 + other / sigma**2) / (1 / std**2 + 1 / sigma**2))
    assert (np.abs(other - mean) > 1).all()  # the two differ: the test tests something
    assert field.coarse_tiles == 0


def test_up_to_sixteen_pixels_from_a_known_one_the_coarse_level_changes_no_bit():
    values, known, warm = half_open()
    fields = [
        background_field(values, known, ~known, coarse, kriged=True) for coarse in (warm, replace(warm, within=1.0))
    ]
    mean, std = krige(values, known)
    near, farther = np.s_[:, : 3 + 16 + 1], np.s_[:, 3 + 18 :]
    for name, expected in (("mean", np.where(known, values, mean)), ("sigma", std)):
        first, second = (getattr(field, name) for field in fields)
        np.testing.assert_array_equal(first[near], second[near])
        np.testing.assert_allclose(first[near], expected[near], rtol=1e-12)
    assert (fields[0].mean[farther] > mean[farther]).all()  # there the warmth around is felt
    assert (fields[1].mean[farther] > fields[0].mean[farther]).all()


def test_spread_grows_away_from_known_pixels_and_never_falls_below_that_of_kriging():
    values, known, warm = half_open()
    sigma, (_, std) = background_field(values, known, ~known, warm, kriged=True).sigma, krige(values, known)
    assert (sigma >= std * (1 - 1e-12)).all()
    bands = [sigma[:, start : start + 12].mean() for start in range(4, 64, 12)]
    assert bands == sorted(bands)


def test_where_every_pixel_is_near_a_known_one_the_coarse_level_is_not_asked(monkeypatch):
    values, known, warm = half_open()
    known[:, 20:] = True  # the gap is 16 pixels wide

    def refuse(*_):
        raise AssertionError("asked")

    monkeypatch.setattr(CoarseField, "at", refuse)
    assert background_field(values, known, ~known, warm, kriged=True).coarse_tiles == 0


def test_a_tile_that_a_reference_guides_keeps_its_own_kriging():
    values, known, warm = half_open()
    reference = values + np.random.default_rng(8).standard_normal(values.shape)
    warm = replace(warm, guides=(warm,))
    field = background_field(values, known, ~known, warm, kriged=True, guides=reference[None])
    guided = krige_with_guides(values, known, reference[None])
    np.testing.assert_allclose(field.mean, guided.mean)
    np.testing.assert_allclose(field.sigma, guided.std, atol=1e-12)


def test_without_references_a_tile_sees_farther_on_the_coarse_level(monkeypatch):
    """Eight cells: the far side of a gap counts, where four show the near side only."""
    rows, cols = np.mgrid[:40, :40]
    known = ~((np.abs(rows - 20) < 20) & (cols >= 11) & (cols < 24))
    coarse = CoarseField(np.where(cols < 20, 290.0, 310.0), known, within=1.0, reduction=16)
    tile = Tile(16 * 18, 16 * 13, 64, 64)  # 3 cells from the near side, 7 from the far one
    shapes = []

    def spy(values, known, terms):
        shapes.append(known.shape)
        return krige_with_drift(values, known, terms)

    monkeypatch.setattr(background, "krige_with_drift", spy)
    told = replace(coarse, values=np.random.default_rng(9).normal(0, 1, (40, 40)))
    for reference in (told, replace(coarse, values=np.zeros((40, 40))), replace(coarse, known=~known)):
        replace(coarse, guides=(reference,)).at(tile, np.zeros((1, 64, 64)))
    assert coarse.at(tile)[0].max() > 291
    assert shapes == [(12, 12), (20, 20), (20, 20), (20, 20)]  # a reference that tells nothing is none


# --- references ---

SHAPE = (64, 256)
FAR = (slice(None), slice(160, None))  # no pixel of it has a known one in its tile and margin


@pytest.fixture(scope="module")
def truth():
    """A field with detail below a cell and a pattern above it."""
    return large_draw(Covariance(32.0, 2.0, 16.0, 1e-3), 256, 3)[:64]


@pytest.fixture(scope="module")
def known():
    """Known on the left but for some squares; the right is one gap."""
    rows, cols = np.indices(SHAPE)
    return (cols < 64) & ((rows % 32 > 8) | (cols % 32 > 8))


def based(truth, known, references, *, reduction=8, kriged=True):
    """Base and spread with the coarse level of values and references made here."""
    coarse, *others = (
        CoarseField.of(values, shown, reduction)
        for values, shown in ((truth, known), *((reference, np.isfinite(reference)) for reference in references))
    )
    stack = np.array(references).reshape(-1, *truth.shape)
    values = np.where(known, truth, np.nan)
    coarse = replace(coarse, guides=tuple(others))
    return background_field(values, known, ~known, coarse, kriged=kriged, guides=stack)


def test_a_reference_that_is_an_affine_copy_tells_the_truth_near_and_far(truth, known):
    alone, helped = based(truth, known, []), based(truth, known, [500 - 2 * truth])
    assert 0 < helped.coarse_tiles == alone.coarse_tiles
    near = np.zeros(SHAPE, bool)
    near[:, :96] = True
    for region in (near & ~known, np.indices(SHAPE)[1] >= FAR[1].start):
        errors = [np.sqrt(np.mean((field.mean - truth)[region] ** 2)) for field in (helped, alone)]
        spreads = [field.sigma[region].mean() for field in (helped, alone)]
        assert errors[0] < 0.05 * truth.std()
        assert errors[0] < 0.15 * errors[1]
        assert spreads[0] < 0.4 * spreads[1]
        assert errors[0] < spreads[0]
        assert np.corrcoef(helped.guide[region], truth[region])[0, 1] > 0.99
    assert not alone.guide.any()


def test_a_second_date_adds_what_the_first_does_not_tell(truth, known):
    other = large_draw(Covariance(16.0, 2.0, 16.0, 1e-3), 256, 4)[:64] - MEAN
    first, second = 280 + truth + other, 260 - other
    one, two = (based(truth, known, references) for references in ([first], [first, second]))
    errors = [np.sqrt(np.mean((field.mean - truth)[FAR] ** 2)) for field in (two, one)]
    assert errors[0] < 0.3 * errors[1]


def test_the_units_of_a_reference_do_not_matter(truth, known):
    reference = truth + 2 * np.random.default_rng(1).standard_normal(SHAPE)
    kelvin, fahrenheit, flipped = (
        based(truth, known, [values]) for values in (reference, 1.8 * (reference - 273.15) + 32, 1000 - 7 * reference)
    )
    for field in (fahrenheit, flipped):
        np.testing.assert_allclose(field.mean, kelvin.mean, atol=1e-3)
        np.testing.assert_allclose(field.sigma, kelvin.sigma, atol=1e-3)
        np.testing.assert_allclose(field.guide, kelvin.guide, atol=1e-3)


def test_a_reference_may_have_gaps_of_its_own(truth, known):
    reference = 500 - 2 * truth
    reference[10:40, 4:30] = reference[20:50, 200:230] = np.nan
    whole, gappy = based(truth, known, [500 - 2 * truth]), based(truth, known, [reference])
    for field in (gappy.mean, gappy.sigma, gappy.guide):
        assert np.isfinite(field).all()
    shown = np.isfinite(reference)
    shown[:, :120] = False  # kriging tiles see the reference's gap from outside too
    np.testing.assert_allclose(gappy.mean[shown], whole.mean[shown], atol=0.15 * truth.std())
    # In it the base is smooth: there is no detail to be had.
    inside = (slice(26, 44), slice(206, 224))
    assert np.diff(gappy.guide[inside], axis=1).std() < 0.5 * np.diff(truth[inside], axis=1).std()


def test_far_away_an_unknown_pixel_of_a_reference_takes_the_value_of_its_cell(truth, known):
    reference = 500 - 2 * truth
    reference[::3, ::3] = np.nan
    field, unseen = based(truth, known, [reference]), np.isnan(reference)
    unseen[:, : FAR[1].start] = False
    assert np.corrcoef(field.mean[unseen], truth[unseen])[0, 1] > 0.9
    assert np.sqrt(np.mean((field.mean - truth)[unseen] ** 2)) < 0.4 * truth.std()


@pytest.mark.parametrize("junk", [np.nan, np.inf])
def test_a_reference_that_shows_nothing_changes_nothing(truth, known, junk):
    alone, dark = based(truth, known, []), based(truth, known, [np.full(SHAPE, junk), np.full(SHAPE, 300.0)])
    for name in ("mean", "sigma", "guide"):
        np.testing.assert_array_equal(getattr(dark, name), getattr(alone, name))


def test_known_pixels_keep_their_value_beside_references(truth, known):
    field = based(truth, known, [500 - 2 * truth])
    np.testing.assert_array_equal(field.mean[known], truth[known])
    np.testing.assert_array_equal(field.sigma[known], 0.0)
    assert (field.sigma[~known] > 0).all()


def test_a_constant_field_stays_constant_beside_a_reference():
    values, known, tile = np.full((160, 160), 287.3), np.zeros((160, 160), bool), Tile(40, 90, 64, 64)
    known[:, :64] = True
    reference = np.random.default_rng(0).normal(280, 4, (1, 160, 160))
    coarse = replace(far(values, known), guides=(far(reference[0], np.isfinite(reference[0])),))
    mean, sigma, guide = coarse.at(tile, reference[:, *tile.slices])
    np.testing.assert_allclose(mean, 287.3)
    assert np.isfinite(sigma).all()
    np.testing.assert_allclose(guide, 0, atol=1e-9)


def test_the_coarse_level_of_references_moves_with_the_array(truth, known):
    """A part of a raster with the coarse level of the whole is what the whole has there."""
    reference = 300 + truth + np.random.default_rng(2).standard_normal(SHAPE)
    coarse, other = CoarseField.of(truth, known, 8), CoarseField.of(reference, np.isfinite(reference), 8)
    inner, row, col = Tile(0, 40, 64, 64), 0, 150
    coarse, shown = replace(coarse, guides=(other,)), reference[None, :, col + 40 : col + 104]
    whole = coarse.at(Tile(row, col + 40, 64, 64), shown)
    part = replace(coarse, origin=(row, col)).at(inner, shown)
    for mine, theirs in zip(part, whole, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_spread_within_a_cell_falls_by_what_the_references_explain(truth, known):
    """Down to a tenth: that a pattern explains the known cells does not say that it explains what lies inside them."""
    everything = np.ones(SHAPE, bool)
    coarse, tile = CoarseField.of(truth, everything, 8), Tile(0, 100, 64, 64)
    noise = np.random.default_rng(3).standard_normal((SHAPE[0] // 8, SHAPE[1] // 8))  # one value for each cell
    rough = truth + 0.7 * truth.std() * np.kron(noise, np.ones((8, 8)))
    shares = []
    for reference in (truth, rough):
        other = CoarseField.of(reference, everything, 8)
        _, sigma, _ = replace(coarse, guides=(other,)).at(tile, reference[None, *tile.slices])
        shares.append(sigma.min() ** 2 / coarse.within)
    assert shares[0] == pytest.approx(0.1, abs=0.02)
    assert 0.2 < shares[1] < 0.7  # far from the floor: a third of that pattern is noise
    assert coarse.at(tile)[1].min() ** 2 == pytest.approx(coarse.within)
