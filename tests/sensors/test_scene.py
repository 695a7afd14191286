"""Scenes: pictures, rasters and products as six planes, with nodata, units and names as the files have them."""

from datetime import date

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import ExifTags, Image

from commands import CLEAR, CLOUD, write
from lacunar.errors import LacunarError, RasterError
from lacunar.geo.picture import read_picture
from lacunar.geo.raster import RasterSource
from lacunar.geo.windows import Tile
from lacunar.sensors.bands import BANDS, common_scale
from lacunar.sensors.scene import SAMPLE_BLOCKS, date_in, open_scene, sample_planes
from lacunar.sensors.simulated import PRODUCT_ID
from products import file_of, mtl_of, rewrite

SHADOW, FILL = 23888, 1  # QA_PIXEL of a cloud shadow on land (LSDS-1822, table 6-3), and of fill
WHERE = {"crs": "EPSG:32632"}
NOWHERE = {"crs": None, "transform": Affine.identity()}
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def reflectances(channels=3, shape=(40, 50), seed=0):
    """Land, with a dark lake in it."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.05, 0.4, (channels, *shape))
    values[:, 10:20, 10:30] = rng.uniform(0.005, 0.03, (channels, 10, 20))
    return values


def picture(path, array, driver="PNG", **profile):
    count, height, width = array.shape
    shape = {"count": count, "height": height, "width": width, "dtype": array.dtype.name}
    with rasterio.open(path, "w", driver=driver, **shape, **profile) as dataset:
        dataset.write(array)
    return path


def whole(scene):
    return scene.planes(Tile(0, 0, *scene.shape))


def check(scene, expected, names, valid=None):
    """Planes are reflectance over the common scale, NaN where lacking or not valid."""
    valid = np.ones(scene.shape, bool) if valid is None else valid
    assert scene.band_names == tuple(band for band in BANDS if band in names)
    planes = np.full((6, *scene.shape), np.nan)
    for name, channel in zip(names, expected, strict=True):
        if name in BANDS:
            planes[BANDS.index(name)] = np.where(valid, channel, np.nan)
    assert scene.common_scale == pytest.approx(common_scale(planes, valid), rel=1e-5)
    np.testing.assert_allclose(whole(scene), planes / scene.common_scale, rtol=1e-4, atol=1e-6)


# --- pictures ---


@pytest.mark.parametrize(("dtype", "high"), [("uint8", 255), ("uint16", 65535)])
def test_a_png_of_8_or_16_bits(tmp_path, dtype, high):
    stored = (reflectances() * high).astype(dtype)
    with open_scene(picture(tmp_path / "lake_20240813.png", stored)) as scene:
        check(scene, stored / high, ("red", "green", "blue"))
        assert (scene.kind, scene.band_units, scene.crs) == ("picture", f"{8 * stored.itemsize}-bit picture", None)
        assert scene.record()["date"] == "2024-08-13"


def test_alpha_is_a_mask(tmp_path):
    stored = (reflectances(4) * 255).astype(np.uint8)
    stored[3] = 200
    stored[3, :5] = 0
    with open_scene(picture(tmp_path / "lake.png", stored)) as scene:
        check(scene, stored[:3] / 255, ("red", "green", "blue"), valid=stored[3] > 0)


def test_black_in_a_picture_is_black(tmp_path):
    stored = (reflectances() * 255).astype(np.uint8)
    stored[:, :5] = 0
    with open_scene(picture(tmp_path / "lake.png", stored)) as scene:
        check(scene, stored / 255, ("red", "green", "blue"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_exif_orientation_is_applied_as_to_pictures(tmp_path, orientation, ending):
    path, exif = tmp_path / f"lake.{ending}", Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray((np.moveaxis(reflectances(), 0, -1) * 255).astype(np.uint8)).save(path, exif=exif)
    with open_scene(path) as scene:
        check(scene, np.moveaxis(read_picture(path).colours, -1, 0) / 255, ("red", "green", "blue"))
        window = Tile(5, 7, 11, 13)
        np.testing.assert_array_equal(scene.planes(window), whole(scene)[:, *window.slices])


def test_a_jpeg_in_another_composite(tmp_path):
    path = picture(tmp_path / "lake.jpg", (reflectances() * 255).astype(np.uint8), "JPEG")
    with rasterio.open(path) as dataset:
        stored = dataset.read()
    with open_scene(path, bands=("nir", "red", "green")) as scene:
        check(scene, stored / 255, ("nir", "red", "green"))


def test_grey_wants_a_name(tmp_path):
    path = picture(tmp_path / "lake.png", (reflectances(1) * 255).astype(np.uint8))
    with pytest.raises(RasterError, match=r"lake\.png has 1 channel \(grey\) and nothing says which: .* such as nir"):
        open_scene(path).check_bands()
    with open_scene(path, bands=("nir",)) as scene:
        assert scene.band_names == ("nir",)


def test_a_palette_is_refused(tmp_path):
    path = tmp_path / "map.png"
    with rasterio.open(path, "w", driver="PNG", count=1, height=8, width=8, dtype="uint8") as dataset:
        dataset.write_colormap(1, {0: (0, 0, 0, 255), 1: (0, 0, 255, 255)})
        dataset.write(np.ones((1, 8, 8), np.uint8))
    with pytest.raises(RasterError, match=r"map\.png is a palette picture, whose numbers are no colours: save it as"):
        open_scene(path, bands=("red",)).check_bands()


# --- rasters ---

SIX = ("coastal", "blue", "green", "red", "nir", "other")


@pytest.mark.parametrize(
    ("stored", "told", "expected"),
    [
        (lambda rho: (rho * 10000).round().astype("uint16"), {}, lambda s: s / 10000),
        (lambda rho: rho.astype("float32"), {}, lambda s: s),
        (lambda rho: ((rho + 0.2) / 2.75e-5).astype("uint16"), {"scale": 2.75e-5, "offset": -0.2}, None),
        (lambda rho: (rho * 1000).astype("int16"), {"scale": 0.001}, None),
    ],
)
def test_units_of_a_raster(tmp_path, stored, told, expected):
    values = stored(reflectances(6))
    if expected is None:
        expected = lambda s: s * told["scale"] + told.get("offset", 0.0)  # noqa: E731
    with open_scene(write(tmp_path / "a.tif", values, **WHERE), bands=SIX, **told) as scene:
        check(scene, expected(values.astype(float)), SIX)
        assert scene.kind == "raster"
        assert scene.crs.to_epsg() == 32632


def test_what_the_file_declares_is_taken_and_what_is_said_wins(tmp_path):
    values = ((reflectances() + 0.1) * 10000).astype(np.uint16)
    path = write(tmp_path / "a.tif", values, scale=1e-4, offset=-0.1, **WHERE)
    names = ("red", "green", "blue")
    with open_scene(path) as scene:
        check(scene, values * 1e-4 - 0.1, names)
        assert scene.band_units == "reflectance by the scale and offset that the file declares"
    with open_scene(path, scale=2e-4, offset=-0.15) as scene:
        check(scene, values * 2e-4 - 0.15, names)
        assert scene.band_units == "value x 0.0002 + -0.15, as --scale and --offset say"


def test_nodata_in_one_channel_is_not_valid_in_all(tmp_path):
    values = (reflectances(4) * 10000).astype(np.uint16)
    values[1, 3:6, 3:6] = 9
    values[3, 7, 7] = 9  # of a channel that no network sees
    valid = np.ones((40, 50), bool)
    valid[3:6, 3:6] = False
    names = ("nir", "red", "green", "other")
    with open_scene(write(tmp_path / "a.tif", values, nodata=9, **WHERE), bands=names) as scene:
        check(scene, values / 10000, names, valid)
        assert scene.band_notes == ()


def test_where_no_nodata_is_declared_zero_in_all_channels_is_not_valid(tmp_path):
    values = np.maximum((reflectances(3) * 10000).astype(np.uint16), 1)
    values[:, :4] = 0
    values[0, 8, 8] = 0
    valid = np.ones((40, 50), bool)
    valid[:4] = False
    with open_scene(write(tmp_path / "a.tif", values, **WHERE)) as scene:
        check(scene, values / 10000, ("red", "green", "blue"), valid)
        assert "pixels that are 0 in all channels are not valid" in scene.band_notes[1]


def test_black_of_8_bits_is_told_and_may_be_called_fill(tmp_path):
    values = np.maximum((reflectances(3) * 255).astype(np.uint8), 1)
    values[:, :4] = 0
    values[0, 8, 8] = 0
    path, valid = write(tmp_path / "a.tif", values, **WHERE), np.ones((40, 50), bool)
    with open_scene(path) as scene:
        check(scene, values / 255, ("red", "green", "blue"))
        assert (
            "10.0% of the pixels are 0 in all channels and count as black: if that is fill, --nodata 0"
            in scene.band_notes
        )
    valid[:4] = False
    with open_scene(path, nodata=0) as scene:
        check(scene, values / 255, ("red", "green", "blue"), valid)
        assert scene.band_notes == ()


def test_a_nodata_that_is_said_counts_as_stored(tmp_path):
    values = ((reflectances() + 0.1) * 10000).astype(np.uint16)
    values[:, :4] = 9
    valid = np.ones((40, 50), bool)
    valid[:4] = False
    path = write(tmp_path / "a.tif", values, scale=1e-4, offset=-0.1, **WHERE)
    with open_scene(path, nodata=9) as scene:
        check(scene, values * 1e-4 - 0.1, ("red", "green", "blue"), valid)


def test_descriptions_of_the_file_name_its_channels(tmp_path):
    path = write(tmp_path / "a.tif", (reflectances(4) * 10000).astype(np.uint16), **WHERE)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("NIR", "Red", "Green", "Blue")
    with open_scene(path) as scene:
        assert scene.band_names == ("blue", "green", "red", "nir")
    with open_scene(path, bands=("blue", "green", "red", "nir")) as scene:
        assert scene.band_notes[0] == "the file calls its channels nir,red,green,blue"


def test_a_window_is_that_part_of_the_whole(tmp_path):
    with open_scene(write(tmp_path / "a.tif", reflectances().astype(np.float32), **WHERE)) as scene:
        window = Tile(5, 7, 11, 13)
        np.testing.assert_array_equal(scene.planes(window), whole(scene)[:, *window.slices])


@pytest.mark.parametrize(
    ("channels", "told", "message"),
    [
        (
            4,
            {},
            r"a\.tif has 4 channels and nothing says which: .* such as blue,green,red,nir, from coastal, other, blue",
        ),
        (
            4,
            {"bands": ("nir", "red", "green")},
            r"has 4 channels, --bands names 3 \(nir,red,green\): wanted one name for",
        ),
        (3, {"bands": ("nir",)}, r"has 3 channels, --bands names 1 \(nir\)"),
        (3, {"bands": ("nir", "nir", "red")}, "band 'nir' is named twice"),
        (3, {"scale": -1.0}, "wanted a scale above 0"),
    ],
)
def test_channels_and_scales_that_do_not_fit(tmp_path, channels, told, message):
    path = write(tmp_path / "a.tif", reflectances(channels).astype(np.float32), **WHERE)
    with pytest.raises(LacunarError, match=message):
        open_scene(path, **told).check_bands()


def test_raw_digital_numbers_are_asked_for(tmp_path):
    path = write(tmp_path / "a.tif", ((reflectances() + 0.1) / 2e-5).astype(np.uint16), **WHERE)
    with pytest.raises(RasterError, match=r"a\.tif: uint16 values, .* may be raw digital numbers: say what they are"):
        open_scene(path).check_bands()


def test_no_valid_pixel(tmp_path):
    path = write(tmp_path / "a.tif", np.full((3, 20, 20), 7, np.uint16), nodata=7, **WHERE)
    with pytest.raises(RasterError, match=r"a\.tif: no valid pixel, all is nodata or masked"):
        open_scene(path).check_bands()


def test_different_scales_per_channel(tmp_path):
    path = write(tmp_path / "a.tif", (reflectances() * 10000).astype(np.uint16), **WHERE)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (1e-4, 2e-4, 1e-4)
    with open_scene(path) as scene, RasterSource(path) as source:
        check(scene, source.read().data, ("red", "green", "blue"))
    with pytest.raises(RasterError, match="declares different scales or offsets for its channels: leave out --scale"):
        open_scene(path, scale=1e-4).check_bands()


def test_few_blocks_are_read_of_a_large_image():
    asked = []

    def read(window):
        asked.append(window)
        return (
            np.full((6, *window.shape), 0.5, np.float32) if window.row > 5000 else np.full((6, *window.shape), np.nan)
        )

    sample = sample_planes(read, (10_240, 10_240), "a.tif")
    assert sample.shape == (6, SAMPLE_BLOCKS * 256 * 256)
    assert SAMPLE_BLOCKS < len(asked) < 3 * SAMPLE_BLOCKS
    assert max(window.row for window in asked) > 8000
    assert {window.col // 2560 for window in asked} == {0, 1, 2, 3}


# --- Landsat products ---


def test_a_level_1_product_by_its_own_coefficients(product):
    with open_scene(product) as scene:
        assert scene.kind == "product"
        assert (scene.date.isoformat(), scene.name) == ("2022-11-15", "product")
        text = mtl_of(product).read_text()
        value = {line.split(" = ")[0].strip(): line.split(" = ")[1] for line in text.splitlines() if " = " in line}
        stored, names = [], []
        for band, number in zip(BANDS, range(2, 8), strict=True):
            if file_of(product, f"B{number}").exists():
                with rasterio.open(file_of(product, f"B{number}")) as dataset:
                    dn = dataset.read(1).astype(float)
                mult, add = (float(value[f"REFLECTANCE_{part}_BAND_{number}"]) for part in ("MULT", "ADD"))
                stored.append((mult * dn + add) / np.sin(np.radians(float(value["SUN_ELEVATION"]))))
                names.append(band)
        check(scene, stored, names, valid=np.isfinite(whole(scene)).any(axis=0))


def test_fill_of_a_product_is_not_valid(product):
    with rasterio.open(file_of(product, "B4")) as dataset:
        dn = dataset.read(1)
    with rasterio.open(file_of(product, "QA_PIXEL")) as dataset:
        quality = dataset.read(1)
    dn[5:9, 5:9] = 0
    quality[20:22, 20:22] = 1
    rewrite(file_of(product, "B4"), dn)
    rewrite(file_of(product, "QA_PIXEL"), quality)
    with open_scene(product) as scene:
        lost = np.isnan(whole(scene)).all(axis=0)
    assert lost[5:9, 5:9].all()
    assert lost[20:22, 20:22].all()


def test_a_product_without_its_thermal_band(product):
    with open_scene(product) as scene:
        expected, bands = whole(scene), scene.band_names
    for band in ("B10", "B11"):
        file_of(product, band).unlink(missing_ok=True)
    with open_scene(product) as scene:
        assert scene.band_names == bands
        np.testing.assert_array_equal(whole(scene), expected)


def test_cloud_and_shadow_of_a_product_are_not_valid_unless_kept(product):
    quality = np.full((64, 64), CLEAR, np.uint16)
    quality[10:20, 10:20] = CLOUD
    quality[30:34, 30:40] = SHADOW
    quality[40:42] = FILL
    rewrite(file_of(product, "QA_PIXEL"), quality)
    with open_scene(product) as scene:
        lost = np.isnan(whole(scene)).all(axis=0)
        np.testing.assert_array_equal(lost, quality != CLEAR)
        assert f"{140 / (62 * 64):.1%} is cloud or cloud shadow by the quality band" in scene.band_notes[-1]
    with open_scene(product, keep_clouds=True) as scene:
        np.testing.assert_array_equal(np.isnan(whole(scene)).all(axis=0), quality == FILL)
        assert not any("cloud" in note for note in scene.band_notes)


def test_a_product_that_tells_nothing_of_clouds_says_so(product):
    file_of(product, "QA_PIXEL").unlink()
    with open_scene(product) as scene:
        assert scene.band_notes[-1] == "the product has no quality band: clouds and their shadows are not masked"


def test_a_product_takes_no_bands(product):
    with pytest.raises(LacunarError, match="is a Landsat product, which brings its own bands, scales and offsets"):
        open_scene(product, bands=("red",)).check_bands()
    with pytest.raises(LacunarError, match="leave out --bands, --scale, --offset, --nodata and --band"):
        open_scene(product, nodata=0).check_bands()


def test_level_2_is_surface_reflectance(shared):
    folder = shared / "data" / "landsat" / "LC08_L2SP_204023_20200927_20201006_02_T1"
    with open_scene(folder) as scene, rasterio.open(next(folder.glob("*SR_B5.TIF"))) as dataset:
        nir = dataset.read(1) * 2.75e-5 - 0.2
        np.testing.assert_allclose(whole(scene)[3] * scene.common_scale, nir, atol=1e-6)
        assert scene.band_units == "surface reflectance by the coefficients of the MTL file"


def test_a_product_that_lacks_bands_says_so(shared):
    with open_scene(shared / "data" / "landsat" / "LC08_L1TP_041027_20150604_20170226_01_T1") as scene:
        assert scene.band_names == ("green", "red", "nir", "swir1")
        assert "the product lacks blue, swir2" in scene.band_notes
    assert PRODUCT_ID not in scene.name


# --- dates in names ---


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("LC09_L1TP_063046_20230714_20230715_02_T1", date(2023, 7, 14)),
        ("lake 2024-08-13.tif", date(2024, 8, 13)),
        ("lake_2024_08_13", date(2024, 8, 13)),
        ("2024-0813", None),
        ("120240813", None),
        ("20240231", None),
        ("20241301", None),
        ("", None),
    ],
)
def test_the_first_date_counts(text, found):
    assert date_in(text) == found
