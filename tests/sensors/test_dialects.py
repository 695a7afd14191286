"""Bands by the names that tools write, alpha that is none, and numbers in bands that are no light."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from lacunar.errors import LacunarError, RasterError
from lacunar.geo.picture import Picture, write_picture
from lacunar.geo.windows import Tile
from lacunar.sensors.bands import BANDS
from lacunar.sensors.dialects import LAYOUTS, are_no_names, translated
from lacunar.sensors.scene import open_scene

SHAPE = (40, 50)
WHOLE = Tile(0, 0, *SHAPE)


def image(count=6, seed=0):
    """Reflectance x 10,000, different in every band."""
    rng = np.random.default_rng(seed)
    return (rng.integers(100, 900, (count, *SHAPE)) + 400 * np.arange(count)[:, None, None]).astype(np.int32)


def write(path, values, *, names=None, units=None, scale=None, offset=0.0, **profile):
    count, height, width = values.shape
    profile = {"crs": "EPSG:32632", "transform": Affine(10, 0, 5e5, 0, -10, 5.2e6), **profile}
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as made:
        made.write(values)
        if names:
            made.descriptions = names
        if units:
            made.units = [units] * count
        if scale:
            made.scales, made.offsets = [scale] * count, [offset] * count
    return path


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        ("B2 B3 B4 B8 B11 B12", BANDS),  # Earth Engine, Sentinel-2
        ("B02 B03 B04 B08 B11 B12", BANDS),  # STAC
        ("blue green red nir08 swir16 swir22", BANDS),  # STAC, Open Data Cube
        ("SR_B2 SR_B3 SR_B4 SR_B5 SR_B6 SR_B7", BANDS),  # Landsat 8 and 9, Level 2
        ("B2 B3 B4 B8 B8A B5", ("blue", "green", "red", "nir", "other", "other")),
        ("coastal_aerosol Blue Green Red nir swir1 swir_2", ("coastal", *BANDS)),
        ("coastal_blue blue green_i green yellow red rededge nir", LAYOUTS["planet8"][8]),
        ("red green blue SCL", ("red", "green", "blue", "other")),
        ("SR_B4 SR_B5 ST_B10 QA_PIXEL SR_B6", ("red", "nir", "other", "other", "swir1")),
    ],
)
def test_the_names_of_tools(names, meant):
    assert translated(names.split()) == meant


def test_names_of_two_sensors_are_asked_about():
    for names in ("SR_B2 SR_B3 SR_B4", "B4 B3 B2", "B2 B3 B4 B5"):
        with pytest.raises(LacunarError, match=r"the bands .* may be of .*: say what they are with --bands"):
            translated(names.split())


def test_names_that_say_nothing():
    assert are_no_names(["band_1", "Band 2", "Layer_3", "Gray", "", "lyr.4"])
    assert not are_no_names(["lst", "band_2"])
    assert translated(["lst", "source", "sigma"]) is None


def test_descriptions_of_something_else_are_refused(tmp_path):
    lst = np.full((3, *SHAPE), 295.0, np.float32)
    with pytest.raises(RasterError, match=r"a\.tif calls its channels lst, source, sigma, which are no bands of light"):
        open_scene(write(tmp_path / "a.tif", lst, names=("lst", "source", "sigma"))).check_bands()
    with pytest.raises(RasterError, match=r"b\.tif holds temperatures by its units, no bands of light"):
        open_scene(write(tmp_path / "b.tif", lst, units="K")).check_bands()


@pytest.mark.parametrize(("layout", "count"), [(name, count) for name, known in LAYOUTS.items() for count in known])
def test_layouts_name_the_bands_of_a_file(tmp_path, layout, count):
    scene = open_scene(write(tmp_path / "a.tif", image(count).astype(np.uint16)), bands=(layout,))
    scene.check_bands()
    meant = LAYOUTS[layout][count]
    planes = scene.reflectance(WHOLE)
    for number, name in enumerate(meant):
        if name in BANDS:
            np.testing.assert_allclose(planes[BANDS.index(name)], image(count)[number] / 1e4, rtol=1e-6)


def test_a_layout_of_another_number_of_channels(tmp_path):
    with pytest.raises(LacunarError, match="--bands sentinel2 for 5 channels: wanted 4 or 6 or 10 or 12 or 13; name"):
        open_scene(write(tmp_path / "a.tif", image(5).astype(np.uint16)), bands="sentinel2")


def test_an_alpha_is_believed_to_be_a_band_where_all_are_named(tmp_path):
    values = np.clip(image(4) // 8, 0, 255).astype(np.uint8)
    values[3, :, :9] = 0  # water is black in the near infrared: no hole
    path = write(tmp_path / "naip.tif", values)  # its fourth band passes for alpha
    scene = open_scene(path)
    assert scene.band_names == ("blue", "green", "red")
    assert any("channel 4 is marked as transparency and set aside" in note for note in scene.band_notes)
    for said in (("naip",), ("red", "green", "blue", "nir")):
        scene = open_scene(path, bands=said)
        assert scene.band_names == ("blue", "green", "red", "nir")
        np.testing.assert_allclose(scene.reflectance(WHOLE)[3], values[3] / 255, rtol=1e-6)
        assert not any("transparency" in note for note in scene.band_notes)


@pytest.mark.parametrize("fill", [-9999.0, -32768.0, float(np.finfo(np.float32).min), 1e20])
def test_undeclared_fill_in_a_band_is_not_valid(tmp_path, fill):
    values = (image() / 1e4).astype(np.float32)
    spoiled = values.copy()
    spoiled[2, :, :7] = fill
    scene = open_scene(write(tmp_path / "a.tif", spoiled, names=BANDS))
    scene.check_bands()
    planes = scene.planes(WHOLE)
    assert np.isnan(planes[:, :, :7]).all()
    assert any("stands for nothing measured: not valid" in note for note in scene.band_notes)
    holed = np.where(np.arange(50) < 7, np.nan, values).astype(np.float32)
    clean = open_scene(write(tmp_path / "b.tif", holed, names=BANDS))
    np.testing.assert_array_equal(planes, clean.planes(WHOLE))
    assert not any("measured" in note for note in clean.band_notes)


def test_ends_of_whole_numbers_are_fill_in_reflectance_and_white_in_a_picture(tmp_path):
    counts = image().astype(np.uint16)
    counts[:, :3] = 65535
    assert np.isnan(open_scene(write(tmp_path / "a.tif", counts, names=BANDS)).planes(WHOLE)[:, :3]).all()
    write_picture(tmp_path / "b.png", Picture(np.moveaxis(counts[:3], 0, -1)))
    assert np.isfinite(open_scene(tmp_path / "b.png").planes(WHOLE)[:3, :3]).all()


def test_an_offset_that_is_applied_twice_is_suspected(tmp_path):
    path = write(tmp_path / "a.tif", image().astype(np.uint16), names=BANDS, scale=1e-4, offset=-0.1)
    with open_scene(path) as scene:
        scene.check_bands()
        (note,) = (note for note in scene.band_notes if "below -0.02" in note)
    assert note.endswith("if the file's offset is applied already, say so with --scale and --offset 0")
    right = open_scene(path, scale=1e-4, offset=0.0)
    assert not any("below" in note for note in right.band_notes)
