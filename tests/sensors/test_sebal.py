"""Radiometry against golden files, figures of the USGS, closed forms, and the faults of public scripts."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lacunar.errors import ProductError
from lacunar.sensors import sebal as rad
from lacunar.sensors.scene import open_scene

LEVEL2 = {"mult": rad.LEVEL2_ST_MULT, "add": rad.LEVEL2_ST_ADD}
L8 = {"k1": 774.8853, "k2": 1321.0789}
L9 = {"k1": 799.0284, "k2": 1329.2405}
GOLDEN = ("sebal_LC08_L1TP_041027_20150604.json", "sebal_LC09_L1TP_063046_20230714.json")


def sebal(product, dn, soil_l):
    """Every intermediate of the chain, by the names of the golden files."""
    constants = product.constants

    def reflectance(band):
        scaled = product.coefficients("REFLECTANCE", band)
        return rad.toa_reflectance(dn[band], **scaled, sun_elevation=constants["SUN_ELEVATION"])

    thermal = {"k1": constants["K1_CONSTANT_BAND_10"], "k2": constants["K2_CONSTANT_BAND_10"]}
    radiance = rad.rescale(dn["B10"], **product.coefficients("RADIANCE", "B10"))
    red, nir = reflectance("B4"), reflectance("B5")
    ndvi, savi = rad.ndvi(red, nir), rad.savi(red, nir, soil_l=soil_l)
    lai = rad.lai(savi)
    e_nb = rad.emissivity(ndvi, lai)
    return {
        "radiance_b10": radiance,
        "reflectance_b4": red,
        "reflectance_b5": nir,
        "ndvi": ndvi,
        "savi": savi,
        "lai": lai,
        "emissivity_nb": e_nb,
        "brightness_temperature": rad.brightness_temperature(radiance, **thermal),
        "lst": rad.lst(radiance, e_nb, **thermal),
    }


@pytest.fixture(scope="module", params=GOLDEN)
def golden(request, shared):
    truth = json.loads((shared / "golden" / request.param).read_text())
    product = open_scene(shared / "data" / "landsat" / truth["product"])
    rows, columns = np.array(truth["pixels"]).T
    dn = {band: product.dn(band)[rows, columns] for band in ("B4", "B5", "B10")}
    return truth, product, dn


def test_golden_every_intermediate(golden):
    truth, product, dn = golden
    for band, values in dn.items():
        np.testing.assert_array_equal(values, truth["dn"][band.lower()])
    for name, values in sebal(product, dn, truth["savi_l"]).items():
        # The golden files carry seven decimals: kelvin to 1e-3 is the demand, everything meets 1e-6.
        np.testing.assert_allclose(values, truth[name], atol=1e-6, err_msg=name)


def test_other_soil_adjustment_leaves_the_golden_lst(golden):
    truth, product, dn = golden
    other = sebal(product, dn, 0.1)["lst"]
    assert np.abs(other - truth["lst"]).max() > 0.05


def test_radiance_reaches_the_extremes_that_usgs_writes(shared):
    for folder in ("LC08_L1TP_041027_20150604_20170226_01_T1", "LC09_L1TP_063046_20230714_20230714_02_T1"):
        entries = _raw_mtl(shared / "data" / "landsat" / folder)
        mult, add = entries["RADIANCE_MULT_BAND_10"], entries["RADIANCE_ADD_BAND_10"]
        got = rad.rescale([1, 65535], mult=mult, add=add)
        wanted = [entries["RADIANCE_MINIMUM_BAND_10"], entries["RADIANCE_MAXIMUM_BAND_10"]]
        np.testing.assert_allclose(got, wanted, atol=1e-5)
        got = rad.toa_reflectance(
            [1, 65535],
            mult=entries["REFLECTANCE_MULT_BAND_4"],
            add=entries["REFLECTANCE_ADD_BAND_4"],
            sun_elevation=90.0,
        )
        wanted = [entries["REFLECTANCE_MINIMUM_BAND_4"], entries["REFLECTANCE_MAXIMUM_BAND_4"]]
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_level2_figures_of_usgs(shared):
    # The worked figure of usgs.gov's page on scale factors, and the extremes that the MTL file states.
    assert rad.rescale(44947, **LEVEL2).round(1) == 302.6
    entries = _raw_mtl(shared / "data" / "landsat" / "LC08_L2SP_204023_20200927_20201006_02_T1")
    got = rad.rescale([1, 65535], **LEVEL2)
    wanted = [entries["TEMPERATURE_MINIMUM_BAND_ST_B10"], entries["TEMPERATURE_MAXIMUM_BAND_ST_B10"]]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_level2_real_lst_is_near_the_air_of_a_september_day(shared):
    product = open_scene(shared / "data" / "landsat" / "LC08_L2SP_204023_20200927_20201006_02_T1")
    st = rad.rescale(product.dn("ST_B10"), **product.coefficients("TEMPERATURE", "ST_B10"))
    assert 283.0 < st.min() < st.max() < 297.0


# -- the faults found in public scripts --


def test_guard_emissivity_grows_with_leaf_area():
    np.testing.assert_allclose(rad.emissivity([0.6], [2.5]), 0.97 + 0.0033 * 2.5)
    assert rad.emissivity([0.6], [2.5])[0] > rad.emissivity([0.6], [1.0])[0]


def test_guard_sun_elevation_is_an_elevation_in_degrees():
    overhead = rad.toa_reflectance([20000], mult=2e-5, add=-0.1, sun_elevation=90.0)
    np.testing.assert_allclose(overhead, 0.3)
    # sin 30 = 1/2, so half the light doubles the reflectance; cos or a missing conversion would not.
    np.testing.assert_allclose(rad.toa_reflectance([20000], mult=2e-5, add=-0.1, sun_elevation=30.0), 0.6)


def test_guard_natural_logarithm():
    # L = e_NB K1 / (e - 1) makes the argument e, so that LST is K2 itself.
    radiance = 0.98 * L8["k1"] / (math.e - 1.0)
    np.testing.assert_allclose(rad.lst(radiance, 0.98, **L8), L8["k2"])
    np.testing.assert_allclose(rad.lai(0.69 - 0.59 * math.exp(-0.91)), 1.0)


def test_guard_bands_are_not_crossed():
    leaf, lake = (0.05, 0.40), (0.04, 0.01)  # red, near infrared
    assert rad.ndvi(*leaf) == pytest.approx(0.35 / 0.45)
    assert rad.ndvi(*lake) == pytest.approx(-0.03 / 0.05)
    assert rad.savi(*leaf) == pytest.approx(1.5 * 0.35 / 0.95)


def test_guard_constants_are_those_of_the_satellite(shared):
    folder = shared / "data" / "landsat"
    for name, wanted in (("LC08_L1TP_041027_20150604_20170226_01_T1", L8),
                         ("LC09_L1TP_063046_20230714_20230714_02_T1", L9)):  # fmt: skip
        constants = open_scene(folder / name).constants
        assert {"k1": constants["K1_CONSTANT_BAND_10"], "k2": constants["K2_CONSTANT_BAND_10"]} == wanted
    assert abs(rad.lst(10.0, 0.97, **L8) - rad.lst(10.0, 0.97, **L9)) > 0.1


def test_emissivity_lowers_radiance_so_lst_is_above_brightness_temperature():
    tb = rad.brightness_temperature([10.0], **L8)
    assert rad.lst([10.0], [0.97], **L8)[0] - tb[0] == pytest.approx(2.06, abs=0.05)  # e dT = lambda T^2 / c2 de
    np.testing.assert_array_equal(rad.lst([10.0], [1.0], **L8), tb)


# -- closed forms and identities --


def test_lst_and_emitted_radiance_are_inverse():
    kelvin = np.linspace(230.0, 340.0, 23)
    e_nb = np.linspace(0.95, 1.0, 23)
    np.testing.assert_allclose(rad.lst(rad.emitted_radiance(kelvin, e_nb, **L8), e_nb, **L8), kelvin, rtol=1e-13)


def test_planck_function_agrees_with_the_constants():
    # Band 10 is centred on 10.9 um: Planck's law there and K1, K2 must agree to a percent in radiance.
    wavelength, kelvin = 10.895e-6, 300.0
    c1, c2 = 1.191042972e-16, 1.438776877e-2  # W m2 sr-1, m K (CODATA 2018)
    planck = c1 / wavelength**5 / math.expm1(c2 / wavelength / kelvin) * 1e-6
    np.testing.assert_allclose(rad.emitted_radiance(kelvin, 1.0, **L8), planck, rtol=0.01)


def test_atmosphere_is_undone_exactly():
    air = rad.Atmosphere(path_radiance=0.9, transmissivity=0.86, sky_radiance=1.5)
    e_nb, kelvin = 0.975, 305.0
    ground = rad.emitted_radiance(kelvin, e_nb, **L8)
    sensor = air.transmissivity * (ground + (1.0 - e_nb) * air.sky_radiance) + air.path_radiance
    np.testing.assert_allclose(rad.lst(sensor, e_nb, **L8, atmosphere=air), kelvin)
    assert rad.lst(sensor, e_nb, **L8) != pytest.approx(kelvin, abs=0.5)


def test_atmosphere_that_changes_nothing():
    none = rad.Atmosphere(path_radiance=0.0, transmissivity=1.0, sky_radiance=0.0)
    np.testing.assert_array_equal(rad.lst([9.0], 0.97, **L8, atmosphere=none), rad.lst([9.0], 0.97, **L8))


def test_dr_form_multiplies_by_d_squared():
    form = {"mult": 2e-5, "add": -0.1, "sun_elevation": 50.0}
    usgs = rad.toa_reflectance([12000], **form)
    variant = rad.toa_reflectance([12000], **form, form="dr", earth_sun_distance=1.0144571)
    np.testing.assert_allclose(variant / usgs, 1.0144571**2)


def test_lai_and_its_borders():
    np.testing.assert_array_equal(rad.lai([-1.0, 0.0, 0.1, 0.687, 0.69, 2.0]), [0, 0, 0, 6, 6, 6])
    inside = rad.lai(np.linspace(0.1001, 0.6869, 50))
    assert np.all(np.diff(inside) > 0)
    assert inside[-1] < 6


@pytest.mark.parametrize(("kind", "wanted"), [("narrow_band", [0.97, 0.9733, 0.98, 0.99, 0.97]),
                                              ("broad_band", [0.95, 0.96, 0.98, 0.985, 0.95])])  # fmt: skip
def test_emissivity_of_each_surface(kind, wanted):
    ndvi, lai = [0.3, 0.5, 0.9, -0.4, 0.0], [0.0, 1.0, 4.0, 0.0, 0.0]
    np.testing.assert_allclose(rad.emissivity(ndvi, lai, kind=kind), wanted)


def test_snow_is_told_from_water_by_albedo():
    albedo = [0.05, 0.47, 0.46]
    got = rad.emissivity([-0.1, -0.1, -0.1], [0.0, 0.0, 0.0], albedo=albedo)
    np.testing.assert_allclose(got, [0.99, 0.985, 0.99])
    assert rad.emissivity([0.2], [0.0], albedo=[0.8])[0] == 0.97  # bright soil is no snow


def test_surface_albedo_closed_form():
    got = rad.surface_albedo([[0.5], [0.1]], [0.25, 0.75])
    np.testing.assert_allclose(got, (0.2 - 0.03) / 0.75**2)


def test_no_holes_but_fill():
    rng = np.random.default_rng(0)
    red, nir = rng.uniform(-0.1, 1.2, (2, 20000))
    red[:4], nir[:4] = [0.0, 0.1, -0.05, 0.05], [0.0, 0.1, 0.05, -0.05]  # NDVI = 0, and N + R = 0
    ndvi, lai = rad.ndvi(red, nir), rad.lai(rad.savi(red, nir))
    e_nb = rad.emissivity(ndvi, lai)
    assert np.isfinite(e_nb).all()
    assert np.isfinite(rad.lst(np.full(20000, 9.0), e_nb, **L8)).all()
    np.testing.assert_array_equal(ndvi[:4], 0.0)
    np.testing.assert_array_equal(e_nb[:2], 0.97)


def test_fill_is_nan_from_end_to_end():
    dn = np.array([0, 20000], dtype=np.uint16)
    red = rad.toa_reflectance(dn, mult=2e-5, add=-0.1, sun_elevation=60.0)
    nir = rad.toa_reflectance(dn, mult=2e-5, add=-0.1, sun_elevation=60.0)
    e_nb = rad.emissivity(rad.ndvi(red, nir), rad.lai(rad.savi(red, nir)))
    radiance = rad.rescale(dn, mult=3.342e-4, add=0.1)
    for values in (red, nir, e_nb, radiance, rad.lst(radiance, e_nb, **L8), rad.rescale(dn, **LEVEL2)):
        assert np.isnan(values).tolist() == [True, False]


def test_radiance_below_zero_is_nan_without_a_warning():
    air = rad.Atmosphere(path_radiance=5.0, transmissivity=0.5, sky_radiance=1.0)
    assert np.isnan(rad.lst([4.0, 0.0], 0.97, **L8, atmosphere=air)).all()
    assert np.isnan(rad.brightness_temperature([0.0, -1.0], **L8)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rad.toa_reflectance([1], mult=1, add=0, sun_elevation=-5.0), "sun elevation -5.0 degrees.*night"),
        (
            lambda: rad.toa_reflectance([1], mult=1, add=0, sun_elevation=30, form="x"),
            "form 'x': wanted one of usgs, dr",
        ),
        (lambda: rad.toa_reflectance([1], mult=1, add=0, sun_elevation=30, form="dr"), "distance None.*AU"),
        (
            lambda: rad.toa_reflectance([1], mult=1, add=0, sun_elevation=30, form="dr", earth_sun_distance=1.5),
            "distance 1.5.*0.98 to 1.02",
        ),
        (lambda: rad.savi([0.1], [0.2], soil_l=2.0), "soil adjustment L 2.0: wanted 0 to 1"),
        (lambda: rad.emissivity([0.1], [0.2], kind="wide"), "kind 'wide': wanted one of narrow_band, broad_band"),
        (lambda: rad.surface_albedo([[0.1]], [0.5, 0.5]), "2 albedo weights of sum 1 for 1 bands"),
        (lambda: rad.surface_albedo([[0.1], [0.1]], [0.5, 0.6]), "of sum 1.1 for 2 bands"),
        (lambda: rad.lst([9.0], 0.97, k1=0.0, k2=1321.0), "K1 0.0, K2 1321.0: wanted both above 0"),
        (lambda: rad.emitted_radiance([300.0], 0.97, k1=774.0, k2=math.nan), "K2 nan"),
        (lambda: rad.Atmosphere(path_radiance=1, transmissivity=0, sky_radiance=1), "transmissivity 0: wanted above 0"),
        (lambda: rad.Atmosphere(path_radiance=-1, transmissivity=1, sky_radiance=1), "path_radiance -1: wanted 0 or"),
        (lambda: rad.Atmosphere(path_radiance=1, transmissivity=1, sky_radiance=math.nan), "sky_radiance nan"),
    ],
)
def test_errors_say_what_was_got_and_wanted(call, message):
    with pytest.raises(ProductError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_works_without_torch_and_rasters():
    code = "import sys, lacunar.sensors.sebal; print({'torch', 'rasterio', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def _raw_mtl(folder: Path) -> dict[str, float]:
    """Numbers of an MTL file, read without the package; the first entry of a name counts."""
    numbers: dict[str, float] = {}
    for line in next(folder.glob("*_MTL.txt")).read_text().splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        try:
            numbers.setdefault(key, float(value))
        except ValueError:
            continue
    return numbers
