"""The simulated product: what a Landsat tool reads in it, and the truth that it hides."""

import hashlib
import math

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform as transform_points

from lacunar.errors import ProductError
from lacunar.sensors import sebal as rad
from lacunar.sensors.landsat_qa import GAP_CLASSES
from lacunar.sensors.scene import open_scene
from lacunar.sensors.simulated import PRODUCT_ID, simulate_product

REAL_QA = {1, 21762, 21824, 21952, 22018, 22080, 22280, 23826, 23888, 24082, 24144, 29986, 30048, 30242, 30304, 55052}
WATER_BIT = 1 << 7


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return simulate_product(tmp_path_factory.mktemp("simulation") / "product")


@pytest.fixture(scope="module")
def product(made):
    return open_scene(made.folder)


@pytest.fixture(scope="module")
def truth(made):
    with rasterio.open(made.truth_path) as dataset:
        return dataset.read(1)


@pytest.fixture(scope="module")
def bands(product):
    return {band: product.dn(band).astype(float) for band in ("B2", "B3", "B4", "B5", "B6", "B7", "B10")}


def seen_lst(product, bands):
    """LST by SEBAL, written out in the test so that it shares no line with the package."""
    c = product.constants
    sine = math.sin(math.radians(c["SUN_ELEVATION"]))
    red, nir = ((2e-5 * bands[band] - 0.1) / sine for band in ("B4", "B5"))
    ndvi, savi = (nir - red) / (nir + red), 1.5 * (nir - red) / (0.5 + nir + red)
    lai = np.where(
        savi <= 0.1, 0.0, np.where(savi >= 0.687, 6.0, -np.log((0.69 - savi.clip(0.1, 0.687)) / 0.59) / 0.91)
    )
    e_nb = np.where(ndvi < 0, 0.99, np.where(lai >= 3, 0.98, 0.97 + 0.0033 * lai))
    radiance = c["RADIANCE_MULT_BAND_10"] * bands["B10"] + c["RADIANCE_ADD_BAND_10"]
    return c["K2_CONSTANT_BAND_10"] / np.log(e_nb * c["K1_CONSTANT_BAND_10"] / radiance + 1.0)


def test_lst_of_the_product_is_the_truth_where_it_is_clear(product, bands, truth):
    clear = ~product.qa_flags(GAP_CLASSES)
    error = np.abs(seen_lst(product, bands) - truth)[clear]
    # Half a digital number of band 10 is 1.7e-4 W m-2 sr-1 um-1, about 1.3 mK at 290 K.
    assert error.max() < 0.003


def test_clouds_are_cold_and_bright_and_shadows_cool_and_dark(product, bands, truth):
    lst = seen_lst(product, bands)
    cloud, shadow = (
        product.qa_flags(["cloud"]),
        product.qa_flags(["cloud_shadow"]) & ~product.qa_flags(["dilated_cloud"]),
    )
    land = ~product.qa_flags(["water", "snow", *GAP_CLASSES])
    assert (lst - truth)[cloud].mean() < -12.0
    assert -5.0 < (lst - truth)[shadow].mean() < -1.5
    assert bands["B2"][cloud].mean() > 2.0 * bands["B2"][land].mean()
    assert bands["B5"][shadow].mean() < 0.75 * bands["B5"][land].mean()


def test_truth_is_a_physical_field(truth):
    assert truth.dtype == np.float32
    assert np.isfinite(truth).all()
    assert 270.0 < truth.min() < truth.max() < 315.0
    assert 2.0 < truth.std() < 6.0
    # TIRS resolves 100 m: neighbours at 30 m are alike, pixels 1.5 km apart are not.
    near, far = (truth[:, :-1] - truth[:, 1:]).std(), (truth[:, :-50] - truth[:, 50:]).std()
    assert near < 0.25 * far


def test_lakes_are_of_one_temperature(product, truth):
    water = product.qa_flags(["water"])
    inner = water & (np.gradient(truth)[0] ** 2 + np.gradient(truth)[1] ** 2 < 0.05)
    assert truth[inner].std() < 0.6
    assert truth[inner].mean() < truth[~water].mean() - 5.0
    assert truth[inner].mean() == pytest.approx(285.3, abs=0.5)  # water's emissivity, not that of soil (1.3 K away)


def test_gap_share(made, product):
    gap = product.qa_flags(GAP_CLASSES)
    assert gap.mean() == made.gap_fraction == pytest.approx(0.22, abs=0.001)


def test_quality_values_are_those_of_real_scenes(product, shared):
    with rasterio.open(product.sources["QA_PIXEL"]) as dataset:
        values = set(np.unique(dataset.read(1)).tolist())
    real = set()
    for path in (shared / "data" / "clouds").glob("*_QA_PIXEL.TIF"):
        with rasterio.open(path) as dataset:
            real |= set(np.unique(dataset.read(1)).tolist())
    assert real >= REAL_QA
    # The four real scenes hold no water under a rim or shadow: the water bit apart, every value stands in them.
    assert {value & ~WATER_BIT for value in values} <= real
    assert values >= {21824, 21952, 22280, 21762, 23888, 30048}


def test_quality_classes_agree_with_the_bands(product, bands):
    clear = ~product.qa_flags(GAP_CLASSES)
    ndvi = (bands["B5"] - bands["B4"]) / (bands["B5"] + bands["B4"] - 10000.0)  # the addend, -0.1, is 5000 each
    ndsi = (bands["B3"] - bands["B6"]) / (bands["B3"] + bands["B6"] - 10000.0)
    np.testing.assert_array_equal(product.qa_flags(["water"])[clear], ndvi[clear] < 0)
    np.testing.assert_array_equal(product.qa_flags(["snow"])[clear], (ndsi > 0.4)[clear] & (bands["B3"] > 15000)[clear])
    assert product.qa_flags(["snow"]).any()
    assert not product.qa_flags(["fill"]).any()
    assert not (product.qa_flags(["cloud"]) & product.qa_flags(["water"])).any()  # cloud hides all else
    hidden = product.qa_flags(["cloud", "dilated_cloud"])
    np.testing.assert_array_equal(product.qa_flags(["clear"]), ~hidden)


def test_mtl_states_what_the_geotiffs_are(made, product):
    entries = {}
    for line in (made.folder / f"{PRODUCT_ID}_MTL.txt").read_text().splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        entries[key] = value.strip('"')
    names = {value for key, value in entries.items() if key.startswith("FILE_NAME")}
    assert names | {made.truth_path.name} == {path.name for path in made.folder.iterdir()}
    assert (int(entries["REFLECTIVE_LINES"]), int(entries["REFLECTIVE_SAMPLES"])) == product.shape
    # The corners are centres of pixels, on the map and on the globe (within 0.00001 degrees, a metre).
    for name, (row, column) in {"UL": (0, 0), "LR": (255, 255)}.items():
        x, y = product.transform @ (column + 0.5, row + 0.5)
        assert x == float(entries[f"CORNER_{name}_PROJECTION_X_PRODUCT"])
        assert y == float(entries[f"CORNER_{name}_PROJECTION_Y_PRODUCT"])
        (longitude,), (latitude,) = transform_points(product.crs, "EPSG:4326", [x], [y])
        assert longitude == pytest.approx(float(entries[f"CORNER_{name}_LON_PRODUCT"]), abs=1e-5)
        assert latitude == pytest.approx(float(entries[f"CORNER_{name}_LAT_PRODUCT"]), abs=1e-5)
    assert product.mtl.grid.epsg == product.crs.to_epsg() == 32619
    assert product.mtl.grid.shape == product.shape
    assert "Simulated" in entries["ORIGIN"]


def test_sunlight_is_that_of_real_products(product, shared):
    real = open_scene(shared / "data" / "landsat" / "LC08_L1TP_195025_20130707_20170503_01_T1")
    for band in ("B1", "B2", "B3", "B4", "B5", "B6", "B7"):

        def at_one_au(p, band=band):
            ratio = p.coefficients("RADIANCE", band)["mult"] / p.coefficients("REFLECTANCE", band)["mult"]
            return ratio * p.metadata["earth_sun_distance"] ** 2

        assert at_one_au(product) == pytest.approx(at_one_au(real), rel=1e-3)
    assert product.constants["K1_CONSTANT_BAND_10"] == real.constants["K1_CONSTANT_BAND_10"]
    assert product.coefficients("RADIANCE", "B10") == real.coefficients("RADIANCE", "B10")
    assert product.albedo_weights() == pytest.approx(real.albedo_weights(), abs=1e-3)


def test_sun_stands_where_the_date_puts_it(product):
    # Declination and the equation of time of 15 November (-18.4 degrees, +15.4 minutes), 14:20 UTC at 71.4 W, 41.1 S.
    declination, latitude = math.radians(-18.4), math.radians(-41.1)
    hour_angle = math.radians((14.333 - 71.4 / 15.0 + 15.4 / 60.0 - 12.0) * 15.0)
    sine = math.sin(latitude) * math.sin(declination)
    sine += math.cos(latitude) * math.cos(declination) * math.cos(hour_angle)
    assert product.metadata["sun_elevation"] == pytest.approx(math.degrees(math.asin(sine)), abs=2.0)


def test_reflectance_is_plausible(bands, product):
    clear = ~product.qa_flags(GAP_CLASSES)
    for band in ("B2", "B3", "B4", "B5", "B6", "B7"):
        rho = rad.toa_reflectance(bands[band], mult=2e-5, add=-0.1, sun_elevation=53.2)[clear]
        assert -0.01 < rho.min() < rho.max() < 1.0


def test_same_seed_same_bits_other_seed_other_scene(tmp_path):
    def digest(folder):
        parts = (hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir()))
        return list(parts)

    first, again, other = (
        simulate_product(tmp_path / name, size=64, seed=seed).folder for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    assert digest(first) == digest(again)
    assert digest(first) != digest(other)


def test_without_clouds_all_is_truth(tmp_path):
    made = simulate_product(tmp_path / "clear", size=64, cloud_fraction=0.0)
    product = open_scene(made.folder)
    assert made.gap_fraction == 0.0
    assert not product.qa_flags(GAP_CLASSES).any()
    with rasterio.open(made.truth_path) as dataset:
        truth = dataset.read(1)
    got = seen_lst(product, {band: product.dn(band).astype(float) for band in ("B4", "B5", "B10")})
    np.testing.assert_allclose(got, truth, atol=0.003)


def test_empty_folder_is_taken_and_a_full_one_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert simulate_product(tmp_path / "empty", size=64).truth_path.is_file()
    before = sorted(path.name for path in (tmp_path / "empty").iterdir())
    with pytest.raises(ProductError, match="exists and is not an empty folder: wanted a new one"):
        simulate_product(tmp_path / "empty", size=64)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ProductError, match="exists and is not an empty folder"):
        simulate_product(tmp_path / "file", size=64)
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == before


def test_nothing_is_left_when_writing_fails(tmp_path, monkeypatch):
    written = []

    def full(path, data, **options):
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.write_bytes(b"x")

    monkeypatch.setattr("lacunar.sensors.simulated._write_geotiff", full)
    with pytest.raises(ProductError, match=r"p cannot be written \(.*No space left on device\): check the place"):
        simulate_product(tmp_path / "p", size=64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 32}, "size 32: wanted 64 to 2048 pixels"),
        ({"size": 10000}, "size 10000: wanted 64 to 2048"),
        ({"cloud_fraction": 0.95}, "cloud fraction 0.95: wanted 0 to 0.9"),
        ({"seed": -1}, "seed -1: wanted 0 or more"),
    ],
)
def test_errors(tmp_path, options, message):
    with pytest.raises(ProductError, match=message) as caught:
        simulate_product(tmp_path / "p", **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
