"""`Scene.lst`: LST as the golden files have it, and what counts as missing: quality classes, masks and nodata."""

import json

import numpy as np
import pytest
from scipy import ndimage

from commands import CLEAR, cloud_at, make_pre_collection, mask_for, write
from lacunar.errors import LacunarError, RasterError
from lacunar.geo.raster import RasterSource
from lacunar.geo.windows import Tile
from lacunar.sensors.scene import LstOptions, open_scene
from lacunar.sensors.sebal import Atmosphere
from products import file_of, rewrite

FLATHEAD = "LC08_L1TP_041027_20150604_20170226_01_T1"
MAUI = "LC09_L1TP_063046_20230714_20230714_02_T1"
LIVERPOOL = "LC08_L2SP_204023_20200927_20201006_02_T1"
WHOLE = Tile(0, 0, 64, 64)


def blot(shape=(64, 64)):
    gap = np.zeros(shape, bool)
    gap[20:30, 25:45] = True
    return gap


def gaps(folder, mask=None, **options):
    scene = open_scene(folder, lst_options=LstOptions(**options), gap_mask=mask)
    scene.check_lst()
    return scene


# --- from digital numbers to LST ---


@pytest.mark.parametrize(
    ("golden", "name"), [("LC08_L1TP_041027_20150604", FLATHEAD), ("LC09_L1TP_063046_20230714", MAUI)]
)
def test_every_band_of_a_real_product_is_that_of_the_golden_file(shared, golden, name):
    expected = json.loads((shared / "golden" / f"sebal_{golden}.json").read_text())
    bands = open_scene(
        shared / "data" / "landsat" / name, lst_options=LstOptions(soil_l=expected["savi_l"])
    ).intermediates()
    at = tuple(np.transpose(expected["pixels"]))
    for band, tolerance in {"reflectance_b4": 1e-6, "reflectance_b5": 1e-6, "savi": 1e-6, "lai": 1e-5}.items():
        np.testing.assert_allclose(bands[band][at], expected[band], atol=tolerance)
    np.testing.assert_allclose(bands["radiance"][at], expected["radiance_b10"], atol=1e-5)
    np.testing.assert_allclose(bands["emissivity_nb"][at], expected["emissivity_nb"], atol=1e-6)
    for band in ("brightness_temperature", "lst"):
        np.testing.assert_allclose(bands[band][at], expected[band], atol=1e-3)


def test_level_2_gives_its_own_temperature(shared):
    product = open_scene(shared / "data" / "landsat" / LIVERPOOL)
    (band,) = product.intermediates().items()
    dn = product.dn("ST_B10")
    assert band[0] == "lst"
    np.testing.assert_allclose(band[1][dn > 0], dn[dn > 0] * 0.00341802 + 149.0, atol=1e-3)


def test_lst_outside_the_clouds_is_the_truth(simulated_64):
    read = gaps(simulated_64.folder).measured(WHOLE)
    with RasterSource(simulated_64.truth_path) as source:
        truth = source.read().data[0]
    assert np.abs(read.values - truth)[read.known].max() < 0.05
    assert np.abs(read.values - truth)[read.missing].max() > 5.0
    assert read.missing.mean() == pytest.approx(simulated_64.gap_fraction)


def test_each_option_changes_lst_the_way_it_should(simulated_64):
    air = Atmosphere(path_radiance=0.9, transmissivity=0.85, sky_radiance=1.4)
    options = {"plain": {}, "idaho": {"soil_l": 0.1}, "dr": {"reflectance": "dr"}, "air": {"atmosphere": air}}
    lst = {name: gaps(simulated_64.folder, **chosen).intermediates() for name, chosen in options.items()}
    clear = gaps(simulated_64.folder).measured(WHOLE).known
    red, nir = lst["plain"]["reflectance_b4"], lst["plain"]["reflectance_b5"]
    np.testing.assert_allclose((lst["dr"]["reflectance_b4"] / red)[clear], 0.9889**2, rtol=1e-6)  # dr = 1 / d^2
    np.testing.assert_allclose(lst["idaho"]["savi"], 1.1 * (nir - red) / (0.1 + nir + red), rtol=1e-9)
    corrected = (lst["plain"]["radiance"] - 0.9) / 0.85 - (1 - lst["plain"]["emissivity_nb"]) * 1.4
    expected = 1321.0789 / np.log(lst["plain"]["emissivity_nb"] * 774.8853 / corrected + 1)
    np.testing.assert_allclose(lst["air"]["lst"][clear], expected[clear], atol=1e-6)


# --- which pixels of a product are gap ---


def test_the_quality_classes_that_are_asked_for_are_the_gap(product):
    cloud_at(product, blot())
    np.testing.assert_array_equal(gaps(product).measured(WHOLE).missing, blot())
    assert not gaps(product, gap_classes=["cirrus"]).measured(WHOLE).missing.any()
    np.testing.assert_array_equal(gaps(product, gap_classes=["clear"]).measured(WHOLE).missing, ~blot())


def test_a_window_is_a_part_of_the_whole(product):
    make_pre_collection(product, blot())  # here cloud is dilated: a window must see beyond its border
    source = gaps(product)
    whole = source.measured(WHOLE)
    for window in (Tile(0, 0, 24, 64), Tile(17, 22, 1, 1), Tile(30, 46, 34, 18)):
        part = source.measured(window)
        np.testing.assert_array_equal(part.values, whole.values[window.slices])
        np.testing.assert_array_equal(part.known, whole.known[window.slices])
        np.testing.assert_array_equal(part.missing, whole.missing[window.slices])


def test_cloud_is_dilated_where_the_product_has_no_class_for_it(product):
    make_pre_collection(product, blot())
    grown = ndimage.maximum_filter(blot(), size=7)
    np.testing.assert_array_equal(gaps(product).measured(WHOLE).missing, grown)
    np.testing.assert_array_equal(gaps(product, gap_classes=["cloud"]).measured(WHOLE).missing, blot())


def test_the_mask_is_added_to_what_the_quality_band_names(product, tmp_path):
    cloud_at(product, blot())
    other = np.roll(blot(), 15, axis=0)
    source = gaps(product, mask_for(product, tmp_path / "mask.tif", 7 * other))
    read = source.measured(WHOLE)
    assert source.inputs[-1] == tmp_path / "mask.tif"
    np.testing.assert_array_equal(read.missing, blot() | other)
    np.testing.assert_array_equal(read.known, ~(blot() | other))


def test_nodata_of_the_mask_names_no_gap(product, tmp_path):
    cloud_at(product, np.zeros((64, 64), bool))
    values = np.where(blot(), 1.0, np.nan).astype(np.float32)
    values[0, 0], values[0, 1] = 0.0, -9.0
    transform = open_scene(product).transform
    path = write(tmp_path / "mask.tif", values, crs="EPSG:32619", transform=transform, nodata=-9.0)
    np.testing.assert_array_equal(gaps(product, path).measured(WHOLE).missing, blot())


@pytest.mark.parametrize("band", ["B10", "B4", "B5"])
def test_the_image_is_what_the_quality_band_does_not_call_fill(product, tmp_path, band):
    dn, qa = np.full((64, 64), 20000, np.uint16), np.full((64, 64), CLEAR, np.uint16)
    dn[:, :8], qa[:, :8] = 0, 1  # outside
    dn[:5, 20:24] = 0  # a hole in the image
    rewrite(file_of(product, band), dn)
    rewrite(file_of(product, "QA_PIXEL"), qa)
    hole, outside = (dn == 0) & (qa != 1), qa == 1
    read = gaps(product).measured(WHOLE)
    np.testing.assert_array_equal(read.missing, hole)
    np.testing.assert_array_equal(read.known, ~hole & ~outside)
    assert {text.split()[0]: int(where.sum()) for text, where in read.remarks.items() if where.any()} == {"inside": 20}
    everywhere = gaps(product, mask_for(product, tmp_path / "mask.tif", np.ones((64, 64)))).measured(WHOLE)
    np.testing.assert_array_equal(everywhere.missing, ~outside)
    (lost,) = (where for text, where in everywhere.remarks.items() if "mask lie outside the image" in text)
    np.testing.assert_array_equal(lost, outside)


def test_saturated_and_implausible_pixels_are_gap(product):
    cloud_at(product, np.zeros((64, 64), bool))
    dn = np.full((64, 64), 25000, np.uint16)
    dn[3, 3], dn[4, 4] = 65535, 1  # saturated; 0.1 W m-2 sr-1 um-1 is colder than any ground
    rewrite(file_of(product, "B10"), dn)
    read = gaps(product).measured(WHOLE)
    assert np.argwhere(read.missing).tolist() == [[3, 3], [4, 4]]
    assert read.known.sum() == 64 * 64 - 2


def test_the_record_says_where_lst_comes_from(product, shared, tmp_path):
    air = Atmosphere(path_radiance=0.9, transmissivity=0.85, sky_radiance=1.4)
    record = gaps(product, soil_l=0.1, gap_classes=("cloud",), atmosphere=air).lst_record()
    assert record["gap_classes"] == ["cloud"]
    assert (record["lst_from"], record["savi_l"], record["reflectance"]) == ("SEBAL", 0.1, "usgs")
    assert record["atmosphere"] == {"path_radiance": 0.9, "transmissivity": 0.85, "sky_radiance": 1.4}
    assert record["atmospherically_corrected"] is True
    assert gaps(product).lst_record()["atmospherically_corrected"] is False
    liverpool = shared / "data" / "landsat" / LIVERPOOL
    record = gaps(liverpool, mask_for(liverpool, tmp_path / "m.tif", np.zeros((267, 433)))).lst_record()
    assert record["gap_mask"] == str(tmp_path / "m.tif")
    assert (record["gap_classes"], record["atmospherically_corrected"]) == ([], True)
    assert "savi_l" not in record


# --- which pixels of a raster are gap ---


def test_nodata_and_nan_of_a_raster_are_its_gap(tmp_path):
    values = np.arange(30, dtype=np.float32).reshape(5, 6)
    values[1, 2], values[3, 4] = np.nan, -9999.0
    source = open_scene(write(tmp_path / "a.tif", values, nodata=-9999.0, units="mm"))
    read = source.measured()
    part = source.measured(Tile(1, 2, 1, 1))
    assert np.argwhere(read.missing).tolist() == [[1, 2], [3, 4]]
    np.testing.assert_array_equal(read.known, ~read.missing)
    np.testing.assert_array_equal(read.values[read.known], values[read.known])
    assert part.missing.all()
    assert (source.units, source.name, source.quantity) == ("mm", "a.tif", "value")
    assert source.lst_record() == {"raster": str(tmp_path / "a.tif"), "gap_mask": None, "notes": []}


def test_a_mask_alone_names_the_gap_of_a_raster(tmp_path):
    values = np.arange(30, dtype=np.int16).reshape(5, 6)
    gap = np.zeros((5, 6), np.uint8)
    gap[2, 2:4] = 255
    values[2, 2], values[4, 4] = -1, -1  # nodata under the mask, and elsewhere
    path = write(tmp_path / "a.tif", values, nodata=-1)
    source = open_scene(path, gap_mask=write(tmp_path / "m.tif", gap))
    read = source.measured()
    assert np.argwhere(read.missing).tolist() == [[2, 2], [2, 3]]
    assert np.argwhere(~(read.missing | read.known)).tolist() == [[4, 4]]
    assert source.inputs == [tmp_path / "a.tif", tmp_path / "m.tif"]


def test_a_scale_and_offset_that_are_said_make_kelvin_of_digital_numbers(tmp_path):
    values = np.full((5, 6), 44947, np.uint16)
    scene = open_scene(write(tmp_path / "dn.tif", values), scale=0.00341802, offset=149.0)
    np.testing.assert_allclose(scene.measured().values, 302.6, atol=0.05)
    assert scene.lst_notes() == ()


@pytest.mark.parametrize(
    ("dtype", "units", "level", "told"),
    [
        (np.uint16, None, 40_000, True),
        (np.float32, "K", 40_000, True),
        (np.float32, None, 40_000, False),
        (np.uint16, "m", 40_000, False),
        (np.uint16, None, 300, False),
    ],
)
def test_values_that_look_like_digital_numbers_are_told(tmp_path, dtype, units, level, told):
    scene = open_scene(write(tmp_path / "dn.tif", np.full((5, 6), level, dtype), units=units))
    hint = "dn.tif looks like Landsat digital numbers: multiply by 0.00341802 and add 149.0"
    hint += " (--scale 0.00341802 --offset 149)"
    assert scene.lst_notes() == scene.notes + ((hint,) if told else ())
    assert scene.lst_record()["notes"] == list(scene.lst_notes())


# --- bad input ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"gap_classes": ["cloud", "fog"]},
            r"unknown gap class 'fog': choose among fill, dilated_cloud, cirrus, cloud",
        ),
        ({"reflectance": "toa"}, r"unknown form of the reflectance 'toa': choose one of usgs, dr"),
        ({"soil_l": 1.5}, r"soil adjustment L of SAVI is 1.5: wanted 0 to 1"),
        ({"soil_l": float("nan")}, r"soil adjustment L of SAVI is nan"),
    ],
)
def test_options_that_do_not_exist_are_refused_at_once(options, message):
    with pytest.raises(LacunarError, match=message):
        LstOptions(**options)


def test_a_product_whose_gaps_nothing_tells_is_refused(product):
    file_of(product, "QA_PIXEL").unlink()
    with pytest.raises(LacunarError, match=r"no quality band .* no gap mask was given: name the gaps with --gap-mask"):
        gaps(product)


def test_level_2_is_not_corrected_twice(shared):
    air = Atmosphere(path_radiance=0.9, transmissivity=0.85, sky_radiance=1.4)
    maskless = shared / "data" / "landsat" / LIVERPOOL
    any_mask = next(maskless.glob("*ST_B10.TIF"))
    with pytest.raises(LacunarError, match="no quality band"):
        gaps(maskless, atmosphere=air)
    with pytest.raises(LacunarError, match="of Level 2, corrected for the atmosphere already: leave path radiance"):
        gaps(maskless, any_mask, atmosphere=air)


def test_a_mask_on_another_grid_and_several_bands_are_refused(product, tmp_path):
    mask = write(tmp_path / "m.tif", np.ones((64, 64), np.uint8))
    message = r"the gap mask .*m.tif is 64x64 pixels, EPSG:32632.* wanted the grid of the input"
    with pytest.raises(RasterError, match=message):
        gaps(product, mask)
    with pytest.raises(RasterError, match=r"two.tif has 2 bands: wanted one of 1 band_1, 2 band_2; choose"):
        gaps(write(tmp_path / "two.tif", np.full((2, 5, 5), CLEAR, np.uint16)))
    with pytest.raises(RasterError, match=r"64x64 pixels.*wanted the grid of the input, 5x5 pixels"):
        gaps(write(tmp_path / "one.tif", np.ones((5, 5), np.uint16)), mask)
