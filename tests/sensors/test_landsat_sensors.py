"""Landsat 4 to 9: which bands they have, what Level 2 says of its own uncertainty, and real products in part."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from lacunar.errors import LacunarError, ProductError
from lacunar.sensors.scene import LstOptions, open_scene

WILD = Path(__file__).parents[3] / "shared/wild"
HOLEY = "LC08_L2SP_008059_20191201_20200825_02_T1"
pytestmark = pytest.mark.skipif(not WILD.is_dir(), reason="the products in ../shared/wild are not there")


def add_bands(folder, values, dtype=np.uint16):
    """Bands of 8 x 8 pixels beside the metadata of a product."""
    for band, value in values.items():
        profile = {"height": 8, "width": 8, "count": 1, "dtype": dtype, "crs": "EPSG:32615"}
        with rasterio.open(folder / f"x_{band}.TIF", "w", transform=Affine(30, 0, 5e5, 0, -30, 5e6), **profile) as made:
            made.write(np.full((8, 8), value, dtype), 1)


@pytest.fixture(params=["LE07_L2SP_021030_20100109_20200911_02_T1", "LT05_L2SP_058014_20110312_20200823_02_T1"])
def older(request, tmp_path):
    """A Level-2 product of Landsat 5 or 7: its real metadata, bands of one value each."""
    (metadata,) = (WILD / request.param).iterdir()
    (tmp_path / metadata.name).write_bytes(metadata.read_bytes())
    reflective = {f"SR_B{number}": 10_000 + 1000 * number for number in (1, 2, 3, 4, 5, 7)}
    add_bands(tmp_path, reflective | {"ST_B6": 44_000, "QA_PIXEL": 5440})
    return tmp_path


def test_landsat_4_to_7_have_their_own_band_numbers(older):
    with open_scene(older) as scene:
        scene.check_lst()
        lst = scene.measured()
        assert lst.known.all()
        assert lst.values[0, 0] == pytest.approx(44_000 * 0.00341802 + 149.0, abs=1e-4)
        scene.check_bands()
        planes = scene.reflectance(scene._whole)[:, 0, 0]  # all of it
    stored = np.array([10_000 + 1000 * number for number in (1, 2, 3, 4, 5, 7)])
    np.testing.assert_allclose(planes, stored * 2.75e-5 - 0.2, atol=1e-6)


def test_a_level_1_product_of_tm_goes_through_the_same_physics(tmp_path):
    """Radiance and reflectance from its own coefficients, kelvin by its own K1 and K2."""
    (metadata,) = (WILD / "LT05_L2SP_058014_20110312_20200823_02_T1").iterdir()
    text = metadata.read_text()
    start, end = text.index("<LEVEL2_PROCESSING_RECORD>"), text.index("<LEVEL1_PROCESSING_RECORD>")
    text = (text[:start] + text[end:]).replace("<PROCESSING_LEVEL>L2SP<", "<PROCESSING_LEVEL>L1TP<")
    (tmp_path / metadata.name).write_text(text)
    add_bands(tmp_path, {"B3": 30, "B4": 60, "B6": 130}, np.uint8)
    add_bands(tmp_path, {"QA_PIXEL": 5440})
    with open_scene(tmp_path) as scene:
        scene.check_lst()
        steps = {name: float(values[0, 0]) for name, values in scene.intermediates().items()}
        constants = scene.constants
    radiance = constants["RADIANCE_MULT_BAND_6"] * 130 + constants["RADIANCE_ADD_BAND_6"]
    assert steps["radiance"] == pytest.approx(radiance)
    assert steps["brightness_temperature"] == pytest.approx(1260.56 / np.log(607.76 / radiance + 1))
    assert steps["lst"] == pytest.approx(steps["brightness_temperature"], abs=5)
    assert {"reflectance_b3", "reflectance_b4"} <= set(steps)


def test_holes_of_the_temperature_inside_the_image_are_missing():
    with open_scene(WILD / HOLEY, gap_mask=WILD / "LC08_L2SP_008059_holes.tif") as scene:
        scene.check_lst()
        lst = scene.measured()
        with rasterio.open(WILD / "LC08_L2SP_008059_holes.tif") as mask, rasterio.open(scene.sources["QA_PIXEL"]) as qa:
            named, fill = mask.read(1) != 0, qa.read(1) & 1 == 1
        holes = (scene.dn("ST_B10") == 0) & ~fill
    assert holes.sum() == 937
    assert lst.missing[holes].all()
    assert lst.missing[named & ~fill].all()
    (told,) = (where for text, where in lst.remarks.items() if "have no value in ST_B10" in text)
    assert told.sum() == 937


def test_the_uncertainty_of_level_2_is_a_limit_and_a_sigma():
    with open_scene(WILD / HOLEY) as scene:
        with rasterio.open(next((WILD / HOLEY).glob("*_ST_QA.TIF"))) as dataset:
            kelvin = dataset.read(1) * 0.01
        plain = scene.measured()
    assert plain.sigma is None
    limit = float(np.median(kelvin[plain.known]))
    with open_scene(WILD / HOLEY, lst_options=LstOptions(max_st_qa=limit, measured_sigma=True)) as scene:
        scene.check_lst()
        lst = scene.measured()
    told = kelvin >= 0  # -99.99 is fill, under measured pixels too
    np.testing.assert_array_equal(lst.known, plain.known & (kelvin.astype(np.float32) <= limit))
    assert lst.missing[plain.known & (kelvin > limit)].all()
    np.testing.assert_allclose(lst.sigma[lst.known & told], kelvin[lst.known & told], rtol=1e-6)
    assert np.isnan(lst.sigma[lst.known & ~told]).all()
    (untold,) = (where for text, where in lst.remarks.items() if "have no ST_QA" in text)
    np.testing.assert_array_equal(untold, lst.known & ~told)
    with pytest.raises(LacunarError, match="largest ST_QA is 0 K: wanted above 0"):
        LstOptions(max_st_qa=0)


def test_a_product_without_it_takes_no_limit(older):
    with open_scene(older, lst_options=LstOptions(measured_sigma=True)) as scene:
        with pytest.raises(ProductError, match=r"has no ST_QA, .*leave out --max-st-qa and --measured-sigma"):
            scene.check_lst()


def test_a_thermal_band_of_fill_alone_is_named(older):
    add_bands(older, {"ST_B6": 0})
    with open_scene(older) as scene:
        with pytest.raises(ProductError, match=r"band ST_B6 of .* is all fill: the thermal sensor was off; want"):
            scene.check_lst()
