"""Cases: exact rates, clear tiles, the same tiles at every rate, and nothing that depends on the other scenes."""

from collections import Counter
from datetime import date

import numpy as np
import pytest

from lacunar.errors import LacunarError
from lacunar.evaluate.lst_cases import (
    GROUPS,
    LIKE,
    RATES,
    UNLIKE,
    WITHIN_MONTH,
    date_of,
    lst_cases,
    pair_group,
    read_scenes,
    spread_out,
)
from lacunar.geo.raster import read_raster


def scenes(*names, shape=(200, 230)):
    """Rasters of one ramp each, with a stripe that is not known."""
    rasters = {}
    for offset, name in enumerate(names):
        raster = 280.0 + offset + np.arange(shape[0] * shape[1]).reshape(shape) / 1000
        raster[:, :20] = np.nan
        rasters[name] = raster
    return rasters


def cloud(side=100):
    """A round cloud."""
    rows, cols = np.mgrid[:side, :side]
    return np.hypot(rows - side / 2, cols - side / 2) < side / 4


def test_every_rate_is_exact_and_hides_the_same_tiles():
    cases = lst_cases(scenes("kano_a", "macas_b"), [cloud()], per_raster=3)
    assert len(cases) == 2 * 3 * 3
    assert [case.rate for case in cases] == list(RATES) * 6
    for case in cases:
        assert case.missing.sum() == round(case.rate * 64 * 64)
    for first in range(0, len(cases), 3):
        same = cases[first : first + 3]
        assert len({(case.scene, case.row, case.col) for case in same}) == 1
        # one crop of one cloud, grown: what is hidden at a low rate is hidden at a higher one
        assert (same[0].missing <= same[1].missing).all()
        assert (same[1].missing <= same[2].missing).all()


def test_tiles_are_clear_lie_where_they_say_and_do_not_overlap():
    rasters = scenes("kano_a")
    cases = lst_cases(rasters, [cloud()], rates=(0.22,), size=32, per_raster=12)
    covered = np.zeros((200, 230), int)
    for case in cases:
        cut = (slice(case.row, case.row + 32), slice(case.col, case.col + 32))
        np.testing.assert_array_equal(case.truth, rasters["kano_a"][cut])
        covered[cut] += 1
    assert covered.max() == 1
    assert covered[:, :20].sum() == 0
    assert {(case.low, case.high) for case in cases} == {(280.02, 280.0 + 45.999)}


def test_cases_depend_on_scene_and_seed_alone():
    both = lst_cases(scenes("kano_a", "macas_b"), [cloud()])
    again = lst_cases({"macas_b": scenes("kano_a", "macas_b")["macas_b"]}, [cloud()])
    mine = [case for case in both if case.scene == "macas_b"]
    assert [case.name for case in mine] == [case.name for case in again]
    assert all((a.missing == b.missing).all() for a, b in zip(mine, again, strict=True))
    other = lst_cases(scenes("kano_a"), [cloud()], seed=1)
    assert [case.name for case in other] != [case.name for case in both[: len(other)]]


def test_a_case_knows_its_name():
    case = lst_cases(scenes("manhattan_landsat"), [cloud()], rates=(0.5,), per_raster=1)[0]
    assert case.name == f"manhattan_landsat+{case.row}+{case.col}@0.5"


def test_clouds_smaller_than_a_tile_are_left_out():
    with pytest.raises(LacunarError, match="none of 2 cloud masks has 64 x 64 pixels"):
        lst_cases(scenes("kano_a"), [cloud(40), cloud(63)])
    assert lst_cases(scenes("kano_a"), [cloud(40), cloud(64)])


def test_too_few_clear_tiles_are_refused():
    with pytest.raises(LacunarError, match=r"kano_a has \d clear tiles of 64 pixels, wanted 40"):
        lst_cases(scenes("kano_a"), [cloud()], per_raster=40)
    with pytest.raises(LacunarError, match="no clear scene: kano_a"):
        lst_cases(scenes("kano_a", shape=(50, 50)), [cloud()])


@pytest.mark.parametrize(("rate", "hidden"), [(0.0001, 0), (0.9999, 4096)])
def test_a_rate_that_hides_nothing_or_everything_is_refused(rate, hidden):
    with pytest.raises(LacunarError, match=f"a missing rate of {rate:g} hides {hidden} of 64 x 64 pixels"):
        lst_cases(scenes("kano_a"), [cloud()], rates=(0.2, rate))


def test_no_clear_scene_is_told_apart_from_too_few_tiles():
    with pytest.raises(LacunarError, match="no clear scene: none of 2 rasters with a tile of 64 x 64 pixels without"):
        lst_cases(scenes("kano_a", "macas_b", shape=(50, 50)), [cloud()])
    with pytest.raises(LacunarError, match="no clear scene: no raster"):
        lst_cases({}, [cloud()])


def test_drawn_masks_need_no_clouds():
    cases = lst_cases(scenes("kano_a"), [], masks="box", rates=(0.2, 0.4), per_raster=2)
    assert len(cases) == 4
    for small, large in (cases[:2], cases[2:]):
        assert (small.missing <= large.missing).all()
        sides = [small.missing.any(axis=axis).sum() for axis in (0, 1)]
        assert np.prod(sides) == pytest.approx(small.missing.sum(), rel=0.2)


def test_few_cases_are_spread_over_the_scenes():
    cases = lst_cases(scenes("kano_a", "macas_b", "hill_c"), [cloud()], per_raster=2)
    few = spread_out(cases, 3)
    assert [case.rate for case in few] == [0.15] * 3 + [0.22] * 3 + [0.5] * 3
    for first in (0, 3, 6):
        assert [case.scene for case in few[first : first + 3]] == ["kano_a", "macas_b", "hill_c"]
    assert {(case.row, case.col) for case in few[:3]} == {(case.row, case.col) for case in few[3:6]}
    assert len(spread_out(cases, 99)) == len(cases)


# --- pairs of dates ---

DATES = ("20220308", "20220324", "20220418", "20230811", "20240813", "20240626", "20250309", "20250620")


def dated(*dates, **options):
    return scenes(*(f"muenster_lc08_{day}" for day in dates), **options)


def test_pairs_of_every_group_have_the_gap_that_they_say():
    def drawn(seed):
        return lst_cases(dated(*DATES), [cloud()], pairs_per_group=4, per_raster=2, rates=(0.15, 0.5), seed=seed)

    cases = drawn(3)
    pairs = {(case.scene, case.reference): case for case in cases}
    assert Counter(case.group for case in pairs.values()) == dict.fromkeys(GROUPS, 4)
    for (scene, other), case in pairs.items():
        days = abs((date_of(scene) - date_of(other)).days)
        assert case.days_apart == days > 0
        assert (case.group == WITHIN_MONTH) == (days <= 31)
        around = abs(date_of(scene).timetuple().tm_yday - date_of(other).timetuple().tm_yday)
        if days > 31:
            assert (case.group == LIKE) == (min(around, 365 - around) <= 45)
    assert len(cases) == 12 * 2 * 2
    assert [case.name for case in cases] == [case.name for case in drawn(3)]
    assert [case.name for case in cases] != [case.name for case in drawn(4)]
    for group in (LIKE, UNLIKE):  # many pairs to choose from: no date is used twice
        assert len({scene for (scene, _), case in pairs.items() if case.group == group}) == 4


def test_scenes_are_used_evenly_over_all_groups():
    cases = lst_cases(dated(*DATES[:4], *DATES[6:]), [cloud()], pairs_per_group=1, per_raster=1, rates=(0.2,))
    assert len({case.scene for case in cases}) == len({case.group for case in cases}) == 3


def test_seasons_meet_at_the_turn_of_the_year():
    assert pair_group(date(2024, 12, 20), date(2022, 1, 10)) == LIKE
    assert pair_group(date(2024, 12, 20), date(2025, 1, 10)) == WITHIN_MONTH
    assert pair_group(date(2024, 6, 20), date(2024, 1, 10)) == UNLIKE


def test_a_reference_is_the_same_tile_of_the_other_date_with_its_own_gaps():
    rasters = dated("20240626", "20250620")
    first, second = rasters
    rasters[second][:, 100:110] = np.nan
    cases = lst_cases(rasters, [cloud()], pairs_per_group=1, per_raster=3, rates=(0.22, 0.5))
    assert len(cases) == 6
    for case in cases:
        cut = (slice(case.row, case.row + 64), slice(case.col, case.col + 64))
        np.testing.assert_array_equal(case.truth, rasters[first][cut])
        np.testing.assert_array_equal(case.references[0], rasters[second][cut])
        assert (case.scene, case.reference, case.days_apart) == (first, second, 359)
        assert case.name.endswith(f"~{second}")
    assert any(np.isnan(case.references[0]).any() for case in cases)
    for low, high in zip(cases[::2], cases[1::2], strict=True):
        assert (low.missing <= high.missing).all()
        assert (low.row, low.col) == (high.row, high.col)


def test_a_tile_that_its_reference_does_not_show_is_left_out():
    rasters = dated("20240626", "20250620")
    first, second = rasters
    rasters[second][:] = np.nan
    with pytest.raises(LacunarError, match=f"no clear scene: {first} beside {second}"):
        lst_cases(rasters, [cloud()], pairs_per_group=1)


def test_bad_pairs_are_refused():
    other = dated("20240626") | {"other_20250101": np.ones((100, 100))}
    with pytest.raises(LacunarError, match=r"lc08_20240626 has \(200, 230\) pixels and other_20250101 \(100, 100\)"):
        lst_cases(other, [cloud()], pairs_per_group=8)
    with pytest.raises(LacunarError, match="kano_a carries no date; wanted 8 digits"):
        lst_cases(scenes("kano_a", "kano_20200101"), [cloud()], pairs_per_group=8)
    with pytest.raises(LacunarError, match="x_20201399 carries no date"):
        date_of("x_20201399")
    with pytest.raises(LacunarError, match="got 1 dates and 8 pairs of each group"):
        lst_cases(dated("20240626"), [cloud()], pairs_per_group=8)


def test_real_scenes_come_in_kelvin_with_their_gaps(shared, tmp_path):
    name = "muenster_lc08_20250620"
    cloudy = "LC08_L2SP_017036_20130419_20200913_02_T2_QA_PIXEL.TIF"
    for kind, file in (("lst", f"lst/test/{name}.tif"), ("clouds", f"clouds/{cloudy}")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / file.rpartition("/")[2]).symlink_to(shared / "data" / file)
    rasters, clouds = read_scenes(tmp_path / "lst", tmp_path / "clouds")
    truth = read_raster(shared / "data" / "lst" / "test" / f"{name}.tif")
    np.testing.assert_array_equal(np.isfinite(rasters[name]), truth.known[0])
    np.testing.assert_allclose(rasters[name], truth.data[0], atol=1e-4)
    assert len(clouds) == 1
    assert 0.02 < clouds[0].mean() < 0.98
