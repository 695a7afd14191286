"""Suspects in files and arrays: told, filled or left alone; never changed silently."""

import numpy as np
import pytest

import lacunar as lc
from commands import bands_of, write
from lacunar.errors import LacunarError
from lacunar.fill.blocks import blocks_of
from lacunar.fill.options import FillOptions
from lacunar.fill.suspects import find_suspects, told_by_bands
from lacunar.geo.labelled import as_labelled
from lacunar.geo.windows import Tile
from lacunar.sensors.scene import Measured, open_scene
from products import file_of, rewrite
from surfaces import surface

GAP, THIN = np.s_[20:40, 30:50], np.s_[44:50, 40:52]


def land():
    """Kelvin (96, 110)."""
    return (295 + 0.2 * (surface((96, 110)) - 295)).astype(np.float32)


def clouded():
    """A gap, and a thin cloud beside it that nothing names."""
    values = land()
    values[THIN] -= 12
    values[GAP] = np.nan
    return values


def test_report_tells_and_changes_nothing(tmp_path, tiny_folder, lacunar):
    write(tmp_path / "in.tif", clouded(), units="K")
    asked = ("fill", tmp_path / "in.tif", "--model", tiny_folder, "--preset", "instant")
    lacunar(*asked, "-o", tmp_path / "kept.tif")
    ran = lacunar(*asked, "-o", tmp_path / "told.tif", "--suspect", "report")
    np.testing.assert_array_equal(bands_of(tmp_path / "kept.tif"), bands_of(tmp_path / "told.tif"))
    assert not (tmp_path / "kept_suspect.tif").exists()
    (suspect,) = bands_of(tmp_path / "told_suspect.tif")
    assert suspect[THIN].mean() > 0.8
    assert "look like cloud that the quality band missed, kept; --suspect fill fills them" in ran.out
    assert f"note: {int(suspect.sum())} measured pixels" in ran.out


def test_fill_fills_them_and_keeps_the_rest(tmp_path, tiny_folder):
    values = clouded()
    write(tmp_path / "in.tif", values, units="K")
    told = {"model": str(tiny_folder), "preset": "instant", "suspect": "fill"}
    record = lc.fill_file(tmp_path / "in.tif", tmp_path / "out.tif", **told)
    value, source, sigma = bands_of(tmp_path / "out.tif")
    suspect = bands_of(tmp_path / "out_suspect.tif")[0] == 1
    np.testing.assert_array_equal(source == 2, suspect | np.isnan(values))
    np.testing.assert_array_equal(value[source == 1], values[source == 1])
    assert (sigma[suspect] > 0).all()
    truth = land()
    assert abs(value - truth)[suspect].mean() < 0.5 * abs(values - truth)[suspect].mean()
    assert record["suspect"]["pixels"] == suspect.sum()
    assert record["suspect"]["share_of_measured"] == pytest.approx(suspect.sum() / np.isfinite(values).sum(), abs=1e-6)
    assert record["pixels"]["filled"] == (source == 2).sum()
    again = lc.fill_file(tmp_path / "in.tif", tmp_path / "out.tif", **told, overwrite=True)
    assert again["suspect"] == record["suspect"]


def test_arrays_say_it_too(tiny_folder):
    array = as_labelled(clouded(), name="array").assign_coords(y=-np.arange(96.0), x=np.arange(110.0))
    how = {"model": tiny_folder, "preset": "instant"}
    plain, told, filled = (lc.fill(array, **how, suspect=choice) for choice in ("keep", "report", "fill"))
    np.testing.assert_array_equal(plain["value"], told["value"])
    assert "suspect" not in plain
    assert told["suspect"].values[THIN].mean() > 0.8
    np.testing.assert_array_equal(filled["source"] == 2, told["suspect"] | array.isnull())
    lazy = lc.fill(array.chunk(y=50), **how, suspect="fill", return_samples=False)
    np.testing.assert_array_equal(lazy["suspect"], filled["suspect"])
    np.testing.assert_allclose(lazy["value"], filled["value"])


def test_blocks_find_what_the_whole_shows():
    values, shape = np.tile(clouded(), (3, 4)), (288, 440)

    def read(window):
        part = values[window.slices]
        return Measured(part, np.isfinite(part), np.isnan(part))

    whole = find_suspects(read, blocks_of(shape))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lacunar.fill.blocks.BLOCK", 96)
        blocks = blocks_of(shape)
    assert len(blocks) == 15
    np.testing.assert_array_equal(find_suspects(read, blocks), whole)
    assert whole.sum() > 12 * 50


def test_a_product_reports_by_default_and_its_bands_tell_snow_and_water(product, out, tiny_folder, lacunar):
    # green, red, nir, swir: snow, water, a cloud, land; and one pixel of which nothing is known
    green, red, nir = [0.8, 0.06, 0.5, 0.08, np.nan], [0.8, 0.05, 0.5, 0.1, np.nan], [0.7, 0.02, 0.5, 0.3, np.nan]
    swir = [0.05, 0.01, 0.4, 0.2, np.nan]
    brightness, stays = told_by_bands(np.array([green, green, red, nir, swir, swir])[:, None])
    np.testing.assert_array_equal(stays, [[True, True, False, False, False]])
    np.testing.assert_array_equal(brightness[0], red)
    scene = open_scene(product)
    dn = scene.dn("B10").copy()
    dn[10:16, 40:46] = (dn[10:16, 40:46] * 0.8).astype(dn.dtype)
    scene.close()
    rewrite(file_of(product, "B10"), dn)
    ran = lacunar("lst", product, "-o", out / "lst.tif", "--model", tiny_folder, "--preset", "instant", "--json")
    assert '"choice": "report"' in ran.out


def test_an_unknown_choice_and_a_report_without_a_place_are_refused():
    with pytest.raises(LacunarError, match="suspect 'drop': wanted one of report, fill, keep"):
        FillOptions(suspect="drop")
    with pytest.raises(LacunarError, match="'report' has no place among numpy arrays: wanted a DataArray"):
        lc.fill(clouded(), suspect="report")


def test_flathead_keeps_its_snow_and_lake_and_tells_a_small_cumulus(shared):
    with open_scene(shared / "data/landsat/LC08_L1TP_041027_20150604_20170226_01_T1") as scene:
        window = Tile(0, 0, *scene.shape)
        part, planes = scene.measured(window), scene.reflectance(window)
        found = find_suspects(scene.measured, blocks_of(scene.shape), bands=scene.reflectance)
    _, stays = told_by_bands(planes)
    assert (stays & part.known).sum() > 30_000
    assert not (found & stays).any()
    # looked at in the bands: white, 6 K below the fields around, with a shadow that lies as those of other clouds do
    assert found[360:372, 116:128].sum() > 30
    assert 200 < found.sum() < 0.01 * part.known.sum()
