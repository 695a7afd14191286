"""Products as delivered: folders and archives, every collection and level."""

import json
import shutil
import tarfile

import numpy as np
import pytest
import rasterio
from affine import Affine

from commands import SCENE_ID, make_pre_collection
from lacunar.errors import ProductError
from lacunar.geo.windows import Tile
from lacunar.sensors.landsat_qa import GAP_CLASSES
from lacunar.sensors.scene import open_scene
from lacunar.sensors.simulated import PRODUCT_ID
from products import edit_mtl, fails, file_of, mtl_of, rewrite

FLATHEAD = "LC08_L1TP_041027_20150604_20170226_01_T1"
MARBURG = "LC08_L1TP_195025_20130707_20170503_01_T1"
LIVERPOOL = "LC08_L2SP_204023_20200927_20201006_02_T1"
MAUI = "LC09_L1TP_063046_20230714_20230714_02_T1"


@pytest.fixture
def simulated(simulated_64):
    return simulated_64.folder


@pytest.fixture
def folder(product):
    """A copy of the simulated product that a test may break."""
    return product


# -- real products --


@pytest.mark.parametrize(
    ("name", "shape", "epsg", "corner", "bands", "notes"),
    [
        (FLATHEAD, (624, 623), 32611, (713835.0, 5292525.0), 7, 0),
        (MARBURG, (41, 41), 32632, (483285.0, 5628525.0), 12, 0),
        (MAUI, (367, 301), 32605, (113985.0, 2317995.0), 8, 2),
        (LIVERPOOL, (267, 433), 32630, (487005.0, 5929995.0), 8, 2),
    ],
)
def test_real_products(shared, name, shape, epsg, corner, bands, notes):
    product = open_scene(shared / "data" / "landsat" / name)
    assert product.shape == shape
    assert product.crs.to_epsg() == epsg
    assert product.transform == Affine(30.0, 0.0, corner[0], 0.0, -30.0, corner[1])
    assert len(product.sources) == bands
    assert len(product.notes) == notes
    if notes:
        assert product.notes[0] == f"CRS taken from the MTL (EPSG:{epsg}): the GeoTIFF has none"
    assert product.metadata["id"] == name
    assert json.loads(json.dumps(product.metadata)) == product.metadata


def test_flathead_has_its_real_clouds(shared):
    product = open_scene(shared / "data" / "landsat" / FLATHEAD)
    assert product.qa_flags(["cloud"]).mean() == pytest.approx(0.14, abs=0.001)  # as the data's own page says
    fill = product.qa_flags(["fill"])
    np.testing.assert_array_equal(fill, product.dn("B10") == 0)
    assert not (product.qa_flags(GAP_CLASSES) & fill).any()
    assert not product.qa_flags(["dilated_cloud", "water"]).any()  # Collection 1 does not know them
    # Cloud is cold: the bits mark what the thermal band sees.
    dn = product.dn("B10").astype(float)
    assert dn[product.qa_flags(["cloud"])].mean() < dn[product.qa_flags(["clear"])].mean() - 2000


def test_flathead_metadata(shared):
    metadata = open_scene(shared / "data" / "landsat" / FLATHEAD).metadata
    assert metadata["satellite"] == "LANDSAT_8"
    assert metadata["date"] == "2015-06-04"
    assert metadata["sun_elevation"] == 61.25996297
    assert metadata["earth_sun_distance"] == 1.0144571
    assert metadata["constants"] == {
        "RADIANCE_MULT_BAND_10": 3.3420e-4,
        "RADIANCE_ADD_BAND_10": 0.1,
        "REFLECTANCE_MULT_BAND_4": 2e-5,
        "REFLECTANCE_ADD_BAND_4": -0.1,
        "REFLECTANCE_MULT_BAND_5": 2e-5,
        "REFLECTANCE_ADD_BAND_5": -0.1,
        "K1_CONSTANT_BAND_10": 774.8853,
        "K2_CONSTANT_BAND_10": 1321.0789,
        "SUN_ELEVATION": 61.25996297,
    }


@pytest.fixture
def signed(shared, tmp_path):
    """A copy of a real product whose files are int16 with nodata -32768."""
    folder = tmp_path / MARBURG
    shutil.copytree(shared / "data" / "landsat" / MARBURG, folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    return folder


def test_declared_nodata_is_fill(signed):
    path = signed / f"{MARBURG}_B10.TIF"
    with rasterio.open(path) as dataset:
        dn = dataset.read(1)
    dn[3:5, 7] = -32768
    dn[9, 9] = -5
    dn[10, 11] = 0
    rewrite(path, dn)
    got = open_scene(signed).dn("B10")
    assert got.dtype == np.uint16
    assert np.argwhere(got == 0).tolist() == [[3, 7], [4, 7], [9, 9], [10, 11]]
    np.testing.assert_array_equal(got[got > 0], dn[dn > 0])
    dn[20, 21] = 31000
    rewrite(path, dn, nodata=31000)
    assert open_scene(signed).dn("B10")[20, 21] == 0


def test_declared_nodata_of_the_quality_band_is_fill(signed):
    path = signed / f"{MARBURG}_BQA.TIF"
    qa = np.full((41, 41), 2720, dtype=np.int16)
    qa[0, :3] = -32768, 1, 0
    qa[1, :2] = 2800
    rewrite(path, qa)
    product = open_scene(signed)
    assert np.argwhere(product.qa_flags(["fill"])).tolist() == [[0, 0], [0, 1], [0, 2]]
    assert np.argwhere(product.qa_flags(["cloud"])).tolist() == [[1, 0], [1, 1]]
    assert product.qa_flags(["clear"]).sum() == 41 * 41 - 5


def test_albedo_weights_are_those_of_the_literature(shared):
    # Silva et al. (2016), Rev. Bras. Eng. Agric. Ambient. 20:3-8: Landsat 8, bands 2 to 7.
    wanted = [0.300, 0.277, 0.233, 0.143, 0.036, 0.012]
    for name in (MARBURG, MAUI):
        weights = open_scene(shared / "data" / "landsat" / name).albedo_weights()
        np.testing.assert_allclose(list(weights.values()), wanted, atol=0.001)
        assert sum(weights.values()) == pytest.approx(1.0)
    for name in (FLATHEAD, LIVERPOOL):  # bands are lacking; Level 2
        assert open_scene(shared / "data" / "landsat" / name).albedo_weights() == {}


def test_level2_temperature(shared):
    product = open_scene(shared / "data" / "landsat" / LIVERPOOL)
    assert (product.level, product.metadata["qa_band"]) == (2, None)
    st = product.intermediates()["lst"]
    np.testing.assert_allclose(st, product.dn("ST_B10") * 0.00341802 + 149.0)
    assert product.coefficients("REFLECTANCE", "SR_B4") == {"mult": 2.75e-5, "add": -0.2}


def test_bands_of_another_grid_cannot_be_read(shared):
    product = open_scene(shared / "data" / "landsat" / MARBURG)
    with pytest.raises(ProductError, match=r"band B8 .* has 82 x 82 pixels, B10 has 41 x 41: wanted one size"):
        product.dn("B8")


# -- reading --


def test_windows_are_parts_of_the_whole(simulated):
    product = open_scene(simulated)
    whole, flags = product.dn("B10"), product.qa_flags(GAP_CLASSES)
    assert whole.shape == product.shape == (64, 64)
    tile = Tile(row=5, col=11, height=17, width=40)
    np.testing.assert_array_equal(product.dn("B10", tile), whole[tile.slices])
    np.testing.assert_array_equal(product.qa_flags(GAP_CLASSES, tile), flags[tile.slices])
    with pytest.raises(ProductError, match="reaches outside the product's 64 x 64 pixels"):
        product.dn("B10", Tile(row=60, col=0, height=8, width=8))


def test_unknown_band_and_class(simulated):
    product = open_scene(simulated)
    with pytest.raises(ProductError, match=r"lacks band B11: it has B1, B10, B2"):
        product.dn("B11")
    with pytest.raises(ProductError, match="quality class 'fog'"):
        product.qa_flags(["fog"])


def test_without_quality_band(folder):
    file_of(folder, "QA_PIXEL").unlink()
    product = open_scene(folder)
    assert product.metadata["qa_band"] is None
    with pytest.raises(ProductError, match=r"no quality band \(QA_PIXEL or BQA\): give a gap mask"):
        product.qa_flags(GAP_CLASSES)


# -- where the files are --


@pytest.mark.parametrize(("name", "mode"), [("p.tar", "w"), ("p.tar.gz", "w:gz")])
@pytest.mark.parametrize("inside", [".", "product"])
def test_archive_is_the_folder(simulated, tmp_path, name, mode, inside):
    with tarfile.open(tmp_path / name, mode) as tar:
        tar.add(simulated, arcname=inside)
    product, wanted = open_scene(tmp_path / name), open_scene(simulated)
    assert (product.shape, product.crs, product.transform) == (wanted.shape, wanted.crs, wanted.transform)
    tile = Tile(row=20, col=3, height=30, width=20)
    for band in ("B10", "B4"):
        np.testing.assert_array_equal(product.dn(band), wanted.dn(band))
        np.testing.assert_array_equal(product.dn(band, tile), wanted.dn(band, tile))
    np.testing.assert_array_equal(product.qa_flags(GAP_CLASSES), wanted.qa_flags(GAP_CLASSES))
    assert [entry.name for entry in tmp_path.iterdir()] == [name]  # nothing unpacked, nothing left beside it


def test_archive_without_band_10(simulated, tmp_path):
    with tarfile.open(tmp_path / "p.tar", "w") as tar:
        for path in simulated.iterdir():
            if not path.name.endswith("_B10.TIF"):
                tar.add(path, arcname=path.name)
    fails(tmp_path / "p.tar", r"p.tar lacks B10: LST of a Level-1 product wants B10, B4, B5")


def test_archive_with_a_link_for_a_band(folder, tmp_path):
    file_of(folder, "B10").rename(tmp_path / "elsewhere.TIF")
    file_of(folder, "B10").symlink_to(tmp_path / "elsewhere.TIF")
    with tarfile.open(tmp_path / "p.tar", "w") as tar:
        tar.add(folder, arcname=".")
    fails(tmp_path / "p.tar", "_B10.TIF' is a link or device; refused")


def test_names_in_small_letters(folder):
    for path in list(folder.iterdir()):
        path.rename(folder / path.name.lower())
    product = open_scene(folder)
    assert {"B10", "B4", "QA_PIXEL"} <= set(product.sources)
    assert product.dn("B10").any()


def test_names_that_the_mtl_does_not_know(folder):
    for path in list(folder.glob("*.TIF")):
        path.rename(folder / path.name.replace(PRODUCT_ID, "CROP_LAKE").replace(".TIF", ".tiff"))
    assert open_scene(folder).sources["B10"].endswith("CROP_LAKE_B10.tiff")


def test_names_that_only_the_mtl_knows(folder):
    file_of(folder, "B10").rename(folder / "thermal.TIF")
    edit_mtl(folder, (f'FILE_NAME_BAND_10 = "{PRODUCT_ID}_B10.TIF"', 'FILE_NAME_BAND_10 = "thermal.TIF"'))
    assert open_scene(folder).sources["B10"].endswith("thermal.TIF")


def test_mtl_as_json_or_xml_alone(folder):
    text = mtl_of(folder).read_text()
    mtl_of(folder).unlink()
    groups, entries = {}, {}
    for line in text.splitlines():
        key, _, value = (part.strip().strip('"') for part in line.partition("="))
        if key == "GROUP":
            entries = groups[value] = {}
        elif value and not key.startswith("END"):
            entries[key] = value
    groups.pop("LANDSAT_METADATA_FILE")
    (folder / "X_MTL.json").write_text(json.dumps({"LANDSAT_METADATA_FILE": groups}))
    of_json = open_scene(folder)
    (folder / "X_MTL.json").unlink()
    body = "".join(f"<{g}>{''.join(f'<{k}>{v}</{k}>' for k, v in e.items())}</{g}>" for g, e in groups.items())
    (folder / "X_MTL.xml").write_text(f"<LANDSAT_METADATA_FILE>{body}</LANDSAT_METADATA_FILE>")
    assert open_scene(folder).metadata == of_json.metadata
    assert of_json.metadata["constants"]["K1_CONSTANT_BAND_10"] == 774.8853


def test_pre_collection_folder(folder):
    """The layout of LC8PPPRRRYYYYDDD...: other groups, no product id, BQA with its own bits."""
    cloud = np.zeros((64, 64), bool)
    cloud[:4] = True
    make_pre_collection(folder, cloud)
    qa = np.where(cloud, 53248, 20480).astype(np.uint16)
    qa[4:6], qa[6] = 28672, 1  # cirrus, fill
    rewrite(folder / f"{SCENE_ID}_BQA.TIF", qa)
    product = open_scene(folder)
    assert product.metadata["id"] == SCENE_ID
    assert product.metadata["collection"] == 0
    assert product.metadata["earth_sun_distance"] is None
    assert product.metadata["qa_band"] == "BQA"
    assert product.constants["K1_CONSTANT_BAND_10"] == 774.8853
    assert np.unique(np.nonzero(product.qa_flags(GAP_CLASSES))[0]).tolist() == [0, 1, 2, 3, 4, 5]
    assert np.unique(np.nonzero(product.qa_flags(["fill"]))[0]).tolist() == [6]
