"""Cases: exact rates, clear tiles, the same tiles at every rate, and nothing that depends on the other scenes."""

import numpy as np
import pytest

from lacunar.cases import RATES, lst_cases, read_scenes
from lacunar.errors import LacunarError
from lacunar.raster import read_raster


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
        assert case.gap.sum() == round(case.rate * 64 * 64)
    for first in range(0, len(cases), 3):
        same = cases[first : first + 3]
        assert len({(case.scene, case.row, case.col) for case in same}) == 1
        # one crop of one cloud, grown: what is hidden at a low rate is hidden at a higher one
        assert (same[0].gap <= same[1].gap).all()
        assert (same[1].gap <= same[2].gap).all()


def test_tiles_are_clear_lie_where_they_say_and_do_not_overlap():
    rasters = scenes("kano_a")
    cases = lst_cases(rasters, [cloud()], rates=(0.22,), size=32, per_raster=12)
    covered = np.zeros((200, 230), int)
    for case in cases:
        cut = (slice(case.row, case.row + 32), slice(case.col, case.col + 32))
        np.testing.assert_array_equal(case.values, rasters["kano_a"][cut])
        covered[cut] += 1
    assert covered.max() == 1
    assert covered[:, :20].sum() == 0
    assert {(case.low, case.high) for case in cases} == {(280.02, 280.0 + 45.999)}


def test_cases_depend_on_scene_and_seed_alone():
    both = lst_cases(scenes("kano_a", "macas_b"), [cloud()])
    again = lst_cases({"macas_b": scenes("kano_a", "macas_b")["macas_b"]}, [cloud()])
    mine = [case for case in both if case.scene == "macas_b"]
    assert [case.name for case in mine] == [case.name for case in again]
    assert all((a.gap == b.gap).all() for a, b in zip(mine, again, strict=True))
    other = lst_cases(scenes("kano_a"), [cloud()], seed=1)
    assert [case.name for case in other] != [case.name for case in both[: len(other)]]


def test_a_case_knows_its_name_and_place():
    case = lst_cases(scenes("manhattan_landsat"), [cloud()], rates=(0.5,), per_raster=1)[0]
    assert case.name == f"manhattan_landsat+{case.row}+{case.col}@0.5"
    assert case.place == "newyork"


def test_clouds_smaller_than_a_tile_are_left_out():
    with pytest.raises(LacunarError, match="none of 2 cloud masks has 64 x 64 pixels"):
        lst_cases(scenes("kano_a"), [cloud(40), cloud(63)])
    assert lst_cases(scenes("kano_a"), [cloud(40), cloud(64)])


def test_too_few_clear_tiles_are_refused():
    with pytest.raises(LacunarError, match=r"kano_a has \d clear tiles of 64 pixels, wanted 40"):
        lst_cases(scenes("kano_a"), [cloud()], per_raster=40)
    with pytest.raises(LacunarError, match="kano_a has 0 clear tiles of 64 pixels"):
        lst_cases(scenes("kano_a", shape=(50, 50)), [cloud()])


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
