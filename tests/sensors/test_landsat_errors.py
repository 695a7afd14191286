"""Products that are incomplete, damaged or contradict themselves: one line each that says what to do."""

import shutil

import numpy as np
import pytest
from affine import Affine

from lacunar.errors import ProductError
from lacunar.sensors.scene import open_scene
from products import drop_georeference, edit_mtl, fails, file_of, mtl_of, rewrite


@pytest.fixture
def folder(product):
    """A copy of the simulated product that a test may break."""
    return product


# -- where the pixels are --


def test_position_from_the_mtl_is_that_of_the_geotiff(folder):
    wanted = open_scene(folder)
    for path in folder.glob("*.TIF"):
        drop_georeference(path)
    got = open_scene(folder)
    assert got.crs == wanted.crs
    assert got.transform == wanted.transform
    assert got.notes == (
        "CRS taken from the MTL (EPSG:32619): the GeoTIFF has none",
        "position taken from the MTL's corners: the GeoTIFF has none",
    )
    np.testing.assert_array_equal(got.dn("B10"), wanted.dn("B10"))


def test_crs_that_nobody_knows(folder):
    for path in folder.glob("*.TIF"):
        drop_georeference(path)
    edit_mtl(folder, ("    UTM_ZONE = 19\n", ""))
    fails(folder, r"B10 has no CRS and .*_MTL.txt no UTM zone: wanted one of them")


def test_position_that_nobody_knows(folder):
    for path in folder.glob("*.TIF"):
        drop_georeference(path)
    edit_mtl(folder, ("CORNER_LR_PROJECTION_X_PRODUCT = 298890.000", "CORNER_LR_PROJECTION_X_PRODUCT = 398890.000"))
    fails(folder, r"B10 \(64 x 64 pixels\) has no position and the corners in .* span 64 x 3397 pixels")


@pytest.mark.parametrize("band", ["B4", "B5", "QA_PIXEL"])
def test_bands_of_different_size(folder, band):
    rewrite(file_of(folder, band), np.ones((64, 63), dtype=np.uint16))
    fails(folder, rf"band {band} of .* has 64 x 63 pixels, B10 has 64 x 64: wanted one size")


def test_bands_in_different_places(folder):
    rewrite(file_of(folder, "B5"), transform=Affine(30.0, 0.0, 297015.0, 0.0, -30.0, -4547985.0))
    fails(folder, "band B5 of .* lies elsewhere than B10")


def test_bands_of_different_crs(folder):
    rewrite(file_of(folder, "B5"), crs="EPSG:32618")
    fails(folder, "band B5 of .* lies elsewhere than B10")


# -- what is wrong with the files --


@pytest.mark.parametrize("band", ["B10", "B4", "B5"])
def test_band_that_is_lacking(folder, band):
    file_of(folder, band).unlink()
    fails(folder, rf"product lacks {band}: LST of a Level-1 product wants B10, B4, B5")


@pytest.mark.parametrize(
    "key",
    ["K1_CONSTANT_BAND_10", "K2_CONSTANT_BAND_10", "RADIANCE_MULT_BAND_10", "RADIANCE_ADD_BAND_10",
     "REFLECTANCE_MULT_BAND_4", "REFLECTANCE_ADD_BAND_5", "SUN_ELEVATION"],
)  # fmt: skip
def test_constant_that_is_lacking_is_named(folder, key):
    edit_mtl(folder, (f"    {key} =", "    OTHER ="))
    fails(folder, rf"_MTL.txt lacks {key}: wanted the MTL file as delivered")


def test_no_mtl(folder):
    mtl_of(folder).unlink()
    fails(folder, r"product holds no MTL file \(\*_MTL.txt, .json or .xml\)")


def test_two_products_in_one_folder(folder):
    shutil.copy(mtl_of(folder), folder / "OTHER_MTL.txt")
    fails(folder, r"product holds .*_MTL.txt and .*_MTL.txt: wanted one product")


def test_two_files_for_one_band(folder):
    file_of(folder, "B10").rename(folder / "A_B10.TIF")
    shutil.copy(folder / "A_B10.TIF", folder / "B_B10.TIF")
    fails(folder, "A_B10.TIF and B_B10.TIF are both band B10")


def test_mtl_of_100_mb_is_refused_at_once(folder):
    with mtl_of(folder).open("wb") as stream:
        stream.truncate(100 << 20)  # sparse: no room is taken
    fails(folder, "more than 1,048,576 bytes")


def test_mtl_that_is_cut_off(folder):
    text = mtl_of(folder).read_text()
    mtl_of(folder).write_text(text[: text.index("    SUN_ELEVATION")])
    fails(folder, "_MTL.txt is cut off: group IMAGE_ATTRIBUTES is not closed")


def test_geotiff_that_is_cut_off(folder):
    rewrite(file_of(folder, "B10"), tiled=False, compress=None)  # as Level 1 came before Collection 2
    whole = file_of(folder, "B10").read_bytes()
    file_of(folder, "B10").write_bytes(whole[: len(whole) // 2])
    product = open_scene(folder)  # the header is whole
    with pytest.raises(ProductError, match=r"band B10 cannot be read \(.*\): is it cut off\? Get it anew") as caught:
        product.dn("B10")
    assert "\n" not in str(caught.value)
    file_of(folder, "B10").write_bytes(whole[:60])
    fails(folder, r"band B10 cannot be read \(.*\): is it cut off")


def test_other_formats_do_not_pass_for_a_band(folder):
    band = file_of(folder, "B10")
    band.rename(folder / "other.bin")
    band.write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        "<SourceFilename>other.bin</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    fails(folder, "band B10 cannot be read")


def test_values_that_are_no_digital_numbers(folder):
    thermal = file_of(folder, "B10").read_bytes()
    rewrite(file_of(folder, "B10"), np.full((64, 64), 0.2, dtype=np.float32), dtype="float32", predictor=3)
    fails(folder, "band B10 of .* holds float32 values: wanted digital numbers")
    file_of(folder, "B10").write_bytes(thermal)
    rewrite(file_of(folder, "B4"), np.full((64, 64), 0.2, dtype=np.float32), dtype="float32", predictor=3)
    fails(folder, "band B4 of .* holds float32 values: wanted digital numbers")
    rewrite(file_of(folder, "B4"), np.full((64, 64), 70000, dtype=np.int32), dtype="int32", predictor=2)
    with pytest.raises(ProductError, match="band B4 holds values above 65535"):
        open_scene(folder).dn("B4")
