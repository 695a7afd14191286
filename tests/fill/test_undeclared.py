"""Numbers that stand for nothing measured and that no file declares, in every role that a raster has in a fill."""

import json

import numpy as np
import pytest
from scipy import ndimage

from commands import bands_of, check_bands, hole, write
from fills import fill_raster
from lacunar.errors import RasterError
from lacunar.fill.options import FillOptions

SHAPE = (64, 64)
EVERYWHERE = np.ones(SHAPE, bool)
FLOAT_MIN = float(np.finfo(np.float32).min)


@pytest.fixture
def options(tiny_folder):
    return FillOptions(model=str(tiny_folder), preset="instant", samples=1)


def field(level=290.0):
    rough = np.random.default_rng(3).standard_normal(SHAPE)
    return (level + ndimage.gaussian_filter(rough, 4.0) * 40.0).astype(np.float32)


def filled(path, options, **more):
    record = fill_raster(path, path.with_name("out.tif"), options=options, overwrite=True, **more)
    return record, bands_of(path.with_name("out.tif"))


@pytest.mark.parametrize("units", ["K", None, "mm"])
@pytest.mark.parametrize("fill", [-9999.0, -32768.0, -999.0, FLOAT_MIN, 1e20, 9.96921e36, 65535.0])
def test_a_fill_that_nobody_declared_is_missing_with_a_note(options, tmp_path, units, fill):
    values, rows = field(), hole(SHAPE, slice(0, 12), slice(0, 64))
    record, _ = filled(write(tmp_path / "a.tif", np.where(rows, fill, values).astype(np.float32), units=units), options)
    check_bands(tmp_path / "out.tif", values, rows, EVERYWHERE)
    (note,) = record["notes"]
    assert note.startswith(f"{rows.sum()} pixels ")
    assert note.endswith("taken as missing")
    plain = fill_raster(
        write(tmp_path / "b.tif", np.where(rows, np.nan, values).astype(np.float32), units=units),
        tmp_path / "declared.tif",
        options=options,
    )
    np.testing.assert_array_equal(bands_of(tmp_path / "out.tif"), bands_of(tmp_path / "declared.tif"))
    assert plain["notes"] == []


@pytest.mark.parametrize(("units", "level"), [("K", 290.0), (None, 290.0), ("degC", 17.0)])
def test_a_temperature_that_no_surface_has_is_missing(options, tmp_path, units, level):
    values, block = field(level), hole(SHAPE)
    nothing = -273.15 if units == "degC" else 0.0
    record, _ = filled(
        write(tmp_path / "a.tif", np.where(block, nothing, values).astype(np.float32), units=units), options
    )
    check_bands(tmp_path / "out.tif", values, block, EVERYWHERE)
    assert len(record["notes"]) == 1


def test_what_may_be_a_measurement_stays_one(options, tmp_path):
    """0 mm, a -9999 amid other values, whole numbers that are no kelvin, and all that --nodata nan says."""
    heights = np.linspace(-20_000, 20_000, 4096).reshape(SHAPE).astype(np.float32)
    heights[5, 5], heights[20, 20] = -9999.0, np.nan
    cases = [("mm", np.where(hole(SHAPE), 0, field(20.0)), {}), ("m", heights, {})]
    cases += [(None, np.where(hole(SHAPE), 0, np.rint(field(290.0))), {})]
    cases += [("K", np.where(hole(SHAPE), 0, field()), {"nodata": np.nan})]
    for number, (units, values, more) in enumerate(cases):
        path = write(tmp_path / f"{number}.tif", values.astype(np.float32), units=units)
        record, bands = filled(path, options, **more)
        assert record["notes"] == []
        np.testing.assert_array_equal(bands[0][np.isfinite(values)], values.astype(np.float32)[np.isfinite(values)])


def test_stored_numbers_are_judged_as_stored(options, tmp_path):
    counts, rows = np.rint(field() * 100).astype(np.int32), hole(SHAPE, slice(0, 4), slice(0, 64))
    counts[rows] = -9999
    record, _ = filled(write(tmp_path / "a.tif", counts, scale=0.01, units="mm"), options)
    check_bands(tmp_path / "out.tif", (counts * 0.01).astype(np.float32), rows, EVERYWHERE)
    assert record["notes"][0].startswith("256 pixels hold -9999, which stands for nothing measured")


def test_nodata_scale_offset_and_band_can_be_said(options, tmp_path):
    kelvin, gap = field(), hole(SHAPE)
    counts = np.where(gap, 7, np.rint((kelvin - 149.0) / 0.00341802)).astype(np.uint16)
    path = write(tmp_path / "a.tif", np.stack([np.zeros(SHAPE, np.uint16), counts]))
    with pytest.raises(RasterError, match=r"a.tif has 2 bands: wanted one of 1 band_1, 2 band_2; choose it"):
        filled(path, options)
    with pytest.raises(RasterError, match=r"a.tif has no band 'lst': wanted a number or a name of 1 band_1, 2 band_2"):
        filled(path, options, band="lst")
    _, bands = filled(path, options, band=2, nodata=7, scale=0.00341802, offset=149.0)
    np.testing.assert_array_equal(bands[1] == 2, gap)
    assert np.abs(bands[0] - kelvin)[~gap].max() < 0.002


def test_a_mask_names_no_gap_where_it_holds_a_fill(options, tmp_path):
    values, gap = field(), hole(SHAPE)
    path = write(tmp_path / "a.tif", values, units="K")
    beyond = hole(SHAPE, slice(60, 64), slice(0, 64))
    for fill, dtype in ((-9999, np.int16), (255, np.uint8), (65535, np.uint16), (FLOAT_MIN, np.float32)):
        mask = write(tmp_path / "mask.tif", np.where(beyond, fill, gap).astype(dtype))
        record, bands = filled(path, options, gap_mask=mask)
        np.testing.assert_array_equal(bands[1] == 2, gap)
        assert record["notes"][0].startswith(f"{beyond.sum()} pixels ")
    for yes in (1, 255, 65535):
        mask = write(tmp_path / "mask.tif", np.where(gap, yes, 0).astype(np.uint16))
        np.testing.assert_array_equal(filled(path, options, gap_mask=mask)[1][1] == 2, gap)


def test_pixels_that_a_mask_does_not_name_are_counted(options, tmp_path):
    values, gap = field(), hole(SHAPE)
    values[:3] = np.nan
    mask = write(tmp_path / "mask.tif", gap.astype(np.uint8))
    record, _ = filled(write(tmp_path / "a.tif", values, units="K"), options, gap_mask=mask)
    assert record["notes"] == ["192 pixels hold no value and are not named by the gap mask: they stay nodata"]


def test_other_dates_covariates_and_the_truth_are_judged_alike(options, tmp_path):
    values, gap = field(), hole(SHAPE)
    path = write(tmp_path / "a.tif", np.where(gap, np.nan, values).astype(np.float32), units="K")
    rows = hole(SHAPE, slice(0, 22), slice(0, 64))
    x, y = (np.where(rows, fill, values + 1).astype(np.float32) for fill in (-9999.0, 1e30))
    clean = np.where(rows, np.nan, values + 1).astype(np.float32)

    def outcome(reference, covariate, truth):
        named = {"references": (write(tmp_path / "r.tif", reference),)}
        named |= {"covariates": (write(tmp_path / "c.tif", covariate),), "truth": write(tmp_path / "t.tif", truth)}
        return filled(path, options, **named)

    record, bands = outcome(x, y, x)
    wanted, wanted_bands = outcome(clean, clean, clean)
    np.testing.assert_array_equal(bands, wanted_bands)
    beside = (*record["references"], *record["covariates"])
    notes = [entry["notes"] for entry in beside] + [record["truth"].pop("notes")]
    assert [len(one) for one in notes] == [1, 1, 1]
    assert "hold -9999" in json.dumps(notes[0])
    assert "beyond 1e+20" in json.dumps(notes[1])
    assert record["truth"] == wanted["truth"]


# --- what rests on little ---


@pytest.mark.parametrize("preset", ["instant", "fast"])
@pytest.mark.parametrize(
    "values",
    [
        np.array([[300.0, np.nan]]),
        np.where(hole((24, 24), slice(6, 18), slice(6, 18)), np.nan, 290.0),
        np.where(hole((64, 64), slice(5, 6), slice(5, 6)), 290.0, np.nan),
        np.where(hole((24, 24), slice(6, 18), slice(6, 18)), np.nan, 0.0),
    ],
    ids=["two pixels", "constant", "one of many", "zeros"],
)
def test_a_gap_beside_nothing_that_varies_has_a_value_a_sigma_and_a_note(options, tmp_path, values, preset):
    path = write(tmp_path / "a.tif", values.astype(np.float32))
    samples = {"instant": 1, "fast": 2}[preset]
    record, bands = filled(path, FillOptions(model=options.model, preset=preset, samples=samples))
    gap = np.isnan(values)
    assert np.isfinite(bands[:, gap]).all()
    assert (bands[2][gap] > 0).all()
    assert any("have the least sigma, the rounding of their value" in note for note in record["notes"])


def test_two_far_pixels_tell_how_far_they_differ(options, tmp_path):
    values = np.full((64, 64), np.nan, np.float32)
    values[5, 5], values[60, 60] = 290.0, 294.0
    _, bands = filled(write(tmp_path / "a.tif", values, units="K"), options)
    assert (bands[2][np.isnan(values)] >= 2.0).all()  # their standard deviation


def test_a_wide_gap_is_said_to_rest_on_little(options, tmp_path):
    values = np.tile(field(), (4, 4))
    wide = hole(values.shape, slice(20, 236), slice(20, 236))
    path = write(tmp_path / "a.tif", np.where(wide, np.nan, values).astype(np.float32), units="K")
    record, bands = filled(path, options)
    (note,) = record["notes"]
    assert note.startswith("71% of the image is filled, up to about ")
    distance = int(note.split("about ")[1].split()[0])
    assert abs(distance - 108) <= 16  # to a cell of the coarse field
    sigma = float(note.split("median sigma of ")[1].split()[0])
    assert sigma == pytest.approx(np.median(bands[2][wide]), rel=0.02)
    path = write(tmp_path / "b.tif", np.where(hole(values.shape), np.nan, values).astype(np.float32))
    assert filled(path, options)[0]["notes"] == []


def test_a_gap_mask_can_be_inverted(options, tmp_path):
    values, gap = field(), hole(SHAPE)
    path = write(tmp_path / "a.tif", values, units="K")
    plain = filled(path, options, gap_mask=write(tmp_path / "m.tif", gap.astype(np.uint8)))[1]
    other = filled(path, options, gap_mask=write(tmp_path / "n.tif", (~gap).astype(np.uint8)), invert=True)[1]
    np.testing.assert_array_equal(plain, other)


def test_a_part_is_filled_and_scored_by_the_truth_of_the_whole(options, tmp_path):
    values, gap = field(), hole(SHAPE)
    path = write(tmp_path / "a.tif", np.where(gap, np.nan, values).astype(np.float32), units="K")
    truth = write(tmp_path / "t.tif", values, units="K")
    record, bands = filled(path, options, truth=truth, clip="400300,5698200,401800,5699700")  # 10 .. 59 of both
    assert bands.shape == (3, 50, 50)
    np.testing.assert_array_equal(bands[1] == 2, gap[10:60, 10:60])
    assert record["truth"]["pixels"] == gap.sum()
    error = (bands[0] - values[10:60, 10:60])[bands[1] == 2]
    assert record["truth"]["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), abs=1e-3)
