"""Other dates and covariates: on the grid of the input, in its unit, with their own gaps, or refused in one line."""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from commands import cloud_at, hole, write
from lacunar.errors import LacunarError, RasterError
from lacunar.fill.blocks import survey
from lacunar.fill.guides import MAX_REFERENCES, open_guides
from lacunar.geo.windows import Tile
from lacunar.sensors.scene import LstOptions, open_scene
from lacunar.sensors.sebal import Atmosphere
from lacunar.sensors.simulated import PRODUCT_ID
from products import edit_mtl, file_of

SHAPE = (64, 64)
WHOLE = Tile(0, 0, *SHAPE)


def field(shape=SHAPE, level=300.0):
    return (level + np.add.outer(np.linspace(0, 9, shape[0]), np.linspace(0, 5, shape[1]))).astype(np.float32)


@pytest.fixture
def target(tmp_path):
    """A raster in kelvin with a gap, of 13 August 2024."""
    path = write(tmp_path / "place_20240813.tif", np.where(hole(SHAPE), np.nan, field()).astype(np.float32), units="K")
    with open_scene(path) as scene:
        yield scene


def opened(target, references=(), covariates=(), options=None):
    """What is read, the notes and the whole record, of references on a target."""
    with open_guides(references, covariates, target, options) as beside:
        found = survey(target.measured, target.shape, beside.read).guides
        beside.check(found)
        return beside.read(Tile(0, 0, *target.shape)), beside.record(found)


def other_date(folder, product, *, cloud=None, name="other"):
    """A product of the same place, 16 days later."""
    copied = Path(shutil.copytree(product, folder / name))
    cloud_at(copied, hole(SHAPE, slice(0, 9)) if cloud is None else cloud)
    edit_mtl(copied, ("DATE_ACQUIRED = 2022-11-15", "DATE_ACQUIRED = 2022-12-01"), (f'"{PRODUCT_ID}"', '"OTHER"'))
    return copied


# --- what is read ---


def test_references_come_first_then_covariates_each_with_its_gaps(target, tmp_path):
    values = np.where(hole(SHAPE, slice(0, 9)), np.nan, field(level=280.0)).astype(np.float32)
    near = write(tmp_path / "near_20240828.tif", values, units="K")
    dem = write(tmp_path / "dem.tif", np.where(hole(SHAPE, slice(50, 60)), -999, 40).astype(np.int16), nodata=-999)
    seen, record = opened(target, [near], [dem])
    np.testing.assert_array_equal(seen[0], values)
    np.testing.assert_array_equal(seen[1], np.where(hole(SHAPE, slice(50, 60)), np.nan, 40.0))
    (date,), (static,) = record["references"], record["covariates"]
    assert (date["name"], date["path"], date["date"]) == ("near_20240828.tif", str(near), "2024-08-28")
    assert (date["days_apart"], static["days_apart"], static["date"]) == (15, None, None)
    assert date["share_of_grid"] == pytest.approx(1 - 9 * 12 / 64**2)
    assert date["share_of_gap"] == static["share_of_gap"] == 1.0
    assert not date["warped"]


def test_shares_are_those_of_the_grid_and_of_the_gap(target, tmp_path):
    half = field()
    half[:24] = np.nan  # half of the gap, 24 of 64 rows
    _, record = opened(target, [write(tmp_path / "half.tif", half, units="K")])
    assert record["references"][0]["share_of_gap"] == 0.5
    assert record["references"][0]["share_of_grid"] == 40 / 64


def test_another_grid_is_warped(target, tmp_path):
    transform = Affine(60.0, 0.0, 399_700.0, 0.0, -60.0, 5_700_300.0)
    near = write(tmp_path / "coarse.tif", np.full((50, 50), 295.5, np.float32), units="K", transform=transform)
    seen, record = opened(target, [near])
    np.testing.assert_allclose(seen[0], 295.5, atol=1e-3)
    assert record["references"][0]["warped"]


def test_nothing_beside_the_input_is_an_empty_record(target):
    with open_guides((), (), target) as beside:
        assert not beside
        assert beside.read(WHOLE).shape == (0, 64, 64)
        assert beside.record(()) == {"references": [], "covariates": []}


def test_a_product_is_a_reference_without_its_own_clouds(simulated_64, tmp_path):
    cloud = hole(SHAPE, slice(30, 50), slice(0, 20))
    other = other_date(tmp_path, simulated_64.folder, cloud=cloud)
    target = open_scene(simulated_64.folder)
    seen, record = opened(target, [other])
    np.testing.assert_array_equal(np.isnan(seen[0]), cloud)
    known = target.measured().known & ~cloud
    np.testing.assert_array_equal(seen[0][known], target.measured().values[known])  # the same bands, but the clouds
    assert (record["references"][0]["date"], record["references"][0]["days_apart"]) == ("2022-12-01", 16)
    with open_guides([other], [], target) as beside:
        assert {*other.glob("*_B10.TIF"), *other.glob("*_MTL.txt")} <= set(beside.inputs)


def test_the_options_of_lst_hold_for_a_reference_but_the_air_of_another_day_does_not(simulated_64, tmp_path):
    other = other_date(tmp_path, simulated_64.folder)
    air = Atmosphere(path_radiance=0.9, transmissivity=0.85, sky_radiance=1.4)
    options = LstOptions(gap_classes=["cirrus"], soil_l=0.1, atmosphere=air)
    target = open_scene(simulated_64.folder, lst_options=options)
    seen, record = opened(target, [other], options=options)
    plain = open_scene(other, lst_options=LstOptions(gap_classes=["cirrus"], soil_l=0.1)).measured()
    np.testing.assert_array_equal(seen[0], plain.values)
    assert plain.known.all()
    assert record["references"][0]["notes"] == [
        "not corrected for the atmosphere, which was given for the date of the input"
    ]


def test_a_product_without_quality_band_counts_as_measured_with_a_note(simulated_64, tmp_path):
    other = other_date(tmp_path, simulated_64.folder)
    file_of(other, "QA_PIXEL").unlink()
    edit_mtl(other, (f'    FILE_NAME_QUALITY_L1_PIXEL = "{PRODUCT_ID}_QA_PIXEL.TIF"\n', ""))
    seen, record = opened(open_scene(simulated_64.folder), [other])
    assert np.isfinite(seen).all()
    assert "no quality band: every plausible pixel counts as measured" in record["references"][0]["notes"][0]


# --- units ---


@pytest.mark.parametrize("unit", ["degC", "°C", "C", "Celsius", "degrees  Celsius"])
def test_degrees_celsius_become_kelvin_by_their_tag(target, tmp_path, unit):
    values = field(level=-4.0)
    values[0, 0] = np.nan
    seen, record = opened(target, [write(tmp_path / "celsius.tif", values, units=unit)])
    np.testing.assert_allclose(seen[0], values + 273.15, rtol=1e-6)
    assert record["references"][0]["notes"] == [f"converted from {unit} to K"]


@pytest.mark.parametrize("unit", ["K", "kelvin", None])
def test_kelvin_is_taken_as_it_is_and_an_undeclared_fill_is_unknown(target, tmp_path, unit):
    values = field(level=290.0)
    values[:40] = 0.0
    seen, record = opened(target, [write(tmp_path / "kelvin.tif", values, units=unit)])
    assert np.isnan(seen[0][:40]).all()
    np.testing.assert_array_equal(seen[0][40:], values[40:])
    assert record["references"][0]["notes"] == [
        "some pixels hold 0, which stands for nothing measured: not measured there"
    ]


@pytest.mark.parametrize(
    ("level", "unit", "message"),
    [
        (20.0, None, r"holds values from 20 to 34 without a unit tag, which are no land .*tag degrees Celsius.* degC$"),
        (40_000.0, "K", r"to 4\.001e\+04 tagged 'K', .* looks like Landsat digital numbers: multiply by 0.00341802"),
        (20.0, "K", r"holds values from 20 to 34 tagged 'K', which are no land surface temperatures of 150 to 400 K"),
        (300.0, "degC", r"holds values from 300 to 314 tagged 'degC', which are no land surface temperatures"),
        (300.0, "m", r"is in 'm': wanted K as the input has, or degC, which is converted; .*--covariate"),
    ],
)
def test_what_is_no_temperature_is_named_and_refused(target, tmp_path, level, unit, message):
    path = write(tmp_path / "wrong.tif", field(level=level), units=unit)
    with pytest.raises(LacunarError, match=message) as caught:
        opened(target, [path])
    assert "\n" not in str(caught.value)
    opened(target, covariates=[path])


def test_units_are_no_matter_where_the_input_is_not_in_kelvin(tmp_path):
    path = write(tmp_path / "in.tif", np.where(hole(SHAPE), np.nan, field(level=5.0)).astype(np.float32), units="mm")
    other = write(tmp_path / "other.tif", field(level=3.0), units="m")
    with open_scene(path) as scene:
        seen, record = opened(scene, [other])
    np.testing.assert_array_equal(seen[0], field(level=3.0))
    assert record["references"][0]["notes"] == ["in m, the input in mm"]


def test_the_coarse_pixels_of_another_sensor_are_named(target, tmp_path):
    transform = Affine(1000.0, 0.0, 397_000.0, 0.0, -1000.0, 5_703_000.0)
    modis = write(tmp_path / "modis.tif", field((9, 9)), units="K", transform=transform)
    near = write(tmp_path / "near.tif", field((99, 99)), units="K", transform=transform @ Affine.scale(0.1))
    _, record = opened(target, [modis, near])
    notes = [entry["notes"] for entry in record["references"]]
    assert notes == [["another sensor: pixels of 1000 x 1000 in its own CRS, 33 times those of the input"], []]


# --- refused ---


def test_a_reference_elsewhere_is_refused(target, tmp_path):
    transform = Affine(30.0, 0.0, 500_000.0, 0.0, -30.0, 5_700_000.0)
    path = write(tmp_path / "far.tif", field(), units="K", transform=transform)
    with pytest.raises(RasterError, match=r"reference .*far.tif does not overlap the input: x 500000 to 501920"):
        opened(target, [path])
    with pytest.raises(RasterError, match=r"covariate .*far.tif does not overlap the input"):
        opened(target, covariates=[path])


def test_a_reference_without_crs_is_refused(target, tmp_path):
    path = write(tmp_path / "bare.tif", field((70, 70)), units="K", crs=None)
    with pytest.raises(RasterError, match=r"reference .*bare.tif has no CRS and differs .*wanted a CRS in both"):
        opened(target, [path])


def test_a_reference_that_is_all_cloud_is_refused(simulated_64, tmp_path):
    other = other_date(tmp_path, simulated_64.folder, cloud=np.ones(SHAPE, bool))
    target = open_scene(simulated_64.folder)
    with pytest.raises(RasterError, match=r"other has 0 measured pixels on the grid of the input and none in common"):
        opened(target, [other])


def test_a_raster_measured_in_the_gap_alone_is_refused(target, tmp_path):
    path = write(tmp_path / "inside.tif", np.where(hole(SHAPE), field(), np.nan).astype(np.float32), units="K")
    with pytest.raises(RasterError, match=r"covariate .*inside.tif has 96 measured pixels on .* none in common"):
        opened(target, covariates=[path])


def test_several_bands_are_counted_and_refused(target, tmp_path):
    path = write(tmp_path / "many.tif", np.stack([field()] * 3), units="K")
    for how in ({"references": [path]}, {"covariates": [path]}):
        with pytest.raises(RasterError, match=r"many.tif has 3 bands: wanted one"):
            opened(target, **how)


def test_what_is_read_already_is_refused(target, tmp_path):
    near = write(tmp_path / "near.tif", field(), units="K")
    with pytest.raises(LacunarError, match=r"reference .*place_20240813.tif is the input too: wanted another date"):
        opened(target, [tmp_path / "." / "place_20240813.tif"])
    with pytest.raises(LacunarError, match=r"reference .*near.tif is reference .*near.tif too"):
        opened(target, [near, near])
    with pytest.raises(LacunarError, match=r"covariate .*near.tif is reference .*near.tif too"):
        opened(target, [near], [near])


def test_the_input_in_an_archive_is_still_the_input(simulated_64, tmp_path):
    archive = tmp_path / "same.tar"
    with tarfile.open(archive, "w") as packed:
        for path in simulated_64.folder.iterdir():
            packed.add(path, path.name)
    target = open_scene(simulated_64.folder)
    with pytest.raises(LacunarError, match=r"reference .*same.tar is the input too"):
        opened(target, [archive])


def test_too_many_are_refused(target, tmp_path):
    path = tmp_path / "any.tif"
    with pytest.raises(LacunarError, match=rf"got {MAX_REFERENCES + 1} references and covariates: wanted 16 at most"):
        opened(target, [path] * MAX_REFERENCES, [path])


def test_a_path_that_is_no_raster_or_product_is_refused(target, tmp_path):
    (tmp_path / "empty").mkdir()
    for how, message in (
        ({"references": [tmp_path / "none.tif"]}, r"none.tif: no such file"),
        ({"references": [tmp_path / "none.tar"]}, r"none.tar: no such file"),
        ({"references": [tmp_path / "empty"]}, r"empty holds no MTL file"),
        ({"covariates": [tmp_path / "empty"]}, r"empty holds no MTL file"),
    ):
        with pytest.raises(LacunarError, match=message):
            opened(target, **how)


# --- dates ---


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("a_2024-08-12.tif", "2024-08-12"),
        ("LC08_L1TP_041027_20150604_20170226_01_T1_lst.tif", "2015-06-04"),
        ("a_20240231.tif", None),
        ("a_120240812.tif", None),
        ("a_202408121.tif", None),
        ("a.tif", None),
    ],
)
def test_dates_are_read_from_file_names(target, tmp_path, name, date):
    _, record = opened(target, [write(tmp_path / name, field(level=290.0), units="K")])
    assert record["references"][0]["date"] == date
