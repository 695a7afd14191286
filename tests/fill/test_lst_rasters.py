"""From any single-band raster to filled bands, in its own units."""

from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
import rasterio
from scipy import ndimage

from commands import bands_of, check_bands, contents, hole, write
from fills import fill_raster
from lacunar.diffusion.samplers import Preset
from lacunar.errors import LacunarError, RasterError
from lacunar.fill.options import FillOptions


@pytest.fixture
def options(tiny_folder):
    return FillOptions(model=str(tiny_folder), samples=2)


def field(shape=(64, 64), seed=0):
    rough = np.random.default_rng(seed).standard_normal(shape)
    return 10.0 + ndimage.gaussian_filter(rough, 4.0) * 20.0


def test_nodata_and_nan_are_filled_in_the_rasters_own_units(options, tmp_path):
    values, gap = field().astype(np.float32), hole((64, 64))
    shown = np.where(gap, -9999.0, values).astype(np.float32)
    shown[50:53, 50:53], gap[50:53, 50:53] = np.nan, True
    raster = write(tmp_path / "in.tif", shown, nodata=-9999.0, units="mm")
    record = fill_raster(raster, tmp_path / "out.tif", options=options, figure=tmp_path / "out.png")
    filled = check_bands(tmp_path / "out.tif", values, gap, np.ones((64, 64), bool))
    assert np.abs(filled - values[gap]).max() < np.ptp(values)
    with rasterio.open(tmp_path / "out.tif") as dataset, rasterio.open(raster) as given:
        assert dataset.descriptions == ("value", "source", "sigma")
        assert dataset.units == ("mm", None, "mm")
        assert (dataset.crs, dataset.transform) == (given.crs, given.transform)
    assert record["raster"] == str(raster)
    assert "product" not in record
    assert matplotlib.image.imread(tmp_path / "out.png").std() > 0.1


def test_whole_numbers_with_scale_and_offset_and_a_mask(options, tmp_path):
    counts, gap = np.rint(field() * 100).astype(np.int16), hole((64, 64))
    counts[:3] = -32768
    raster = write(tmp_path / "in.tif", counts, nodata=-32768, scale=0.01, offset=273.15)
    mask = write(tmp_path / "mask.tif", 255 * gap.astype(np.uint8))
    fill_raster(raster, tmp_path / "out.tif", gap_mask=mask, options=options)
    physical = (counts * 0.01 + 273.15).astype(np.float32)
    check_bands(tmp_path / "out.tif", physical, gap, counts > -32768)


def test_digital_numbers_are_filled_with_a_note(lacunar, tiny_folder, tmp_path):
    values = np.where(hole((64, 64)), 0, 40_000 + 100 * field()).astype(np.uint16)
    raster = write(tmp_path / "in.tif", values, nodata=0)
    ran = lacunar("fill", raster, "-o", tmp_path / "out.tif", "--model", tiny_folder, "--samples", 2)
    assert ran.code == 0
    assert "note: in.tif looks like Landsat digital numbers: multiply by 0.00341802 and add 149.0 (--scale" in ran.out


@pytest.mark.parametrize("has_truth", [False, True])
def test_the_figure_gets_the_units_and_the_truth_of_the_raster(options, tmp_path, monkeypatch, has_truth):
    seen = []

    def draw(*_, units, truth, **__):
        seen.extend([units, truth is not None])
        raise ValueError("drawn")

    monkeypatch.setattr("lacunar.fill.plot.lst_figure", draw)
    raster = write(tmp_path / "in.tif", np.ones((64, 64), np.float32), units="mm")
    asked = {"figure": tmp_path / "out.png", "truth": raster if has_truth else None}
    with pytest.raises(LacunarError, match="cannot be drawn: drawn"):
        fill_raster(raster, tmp_path / "out.tif", options=options, **asked)
    assert seen == ["mm", has_truth]
    assert list(contents(tmp_path)) == ["in.tif"]  # without its figure nothing is finished


def test_a_tile_far_from_any_measured_pixel_is_filled_and_flagged(options, tmp_path):
    values = field((64, 256)).astype(np.float32)
    values[:, 40:] = np.nan
    record = fill_raster(write(tmp_path / "in.tif", values), tmp_path / "out.tif", options=options)
    assert record["kriging_tiles_from_coarser_level"] > 0
    assert np.isfinite(bands_of(tmp_path / "out.tif")).all()


def test_the_preset_is_the_one_that_is_used(options, tmp_path, monkeypatch):
    monkeypatch.setattr("lacunar.diffusion.samplers.PRESETS", {"paper": Preset(4, 2, 2, sampler="repaint")})
    raster = write(tmp_path / "in.tif", np.where(hole((64, 64)), np.nan, field()).astype(np.float32))
    record = fill_raster(raster, tmp_path / "out.tif", options=replace(options, preset="paper"))
    each = Preset(4, 2, 2, sampler="repaint").evaluations
    assert each > 4
    assert record["network_evaluations"] == {"per_sample_and_tile": each, "all": 2 * each}


def test_an_input_is_never_an_output(options, tmp_path):
    raster = write(tmp_path / "in.tif", np.where(hole((64, 64)), np.nan, field()).astype(np.float32))
    truth = write(tmp_path / "truth.tif", field().astype(np.float32))
    before = contents(tmp_path)
    for output in (raster, truth):
        with pytest.raises(RasterError, match="is an input of this very run"):
            fill_raster(raster, output, options=options, overwrite=True, truth=truth)
    assert contents(tmp_path) == before


def test_degrees_celsius_are_written_where_asked_for(options, tmp_path):
    values, gap = (field() + 280).astype(np.float32), hole((64, 64))
    raster = write(tmp_path / "in.tif", np.where(gap, np.nan, values).astype(np.float32), units="K")
    options = replace(options, quantiles=(0.1,))
    record = fill_raster(raster, tmp_path / "c.tif", options=options, celsius=True, command="lacunar fill in.tif")
    fill_raster(raster, tmp_path / "k.tif", options=options)
    celsius, kelvin = (bands_of(tmp_path / name) for name in ("c.tif", "k.tif"))
    np.testing.assert_allclose(celsius[[0, 3]], kelvin[[0, 3]] - 273.15, atol=1e-4)
    np.testing.assert_array_equal(celsius[[1, 2]], kelvin[[1, 2]])
    assert record["units"] == "degC"
    with rasterio.open(tmp_path / "c.tif") as dataset:
        assert dataset.units == ("degC", None, "K", "degC")
        assert dataset.tags()["source"] == "in.tif"
        assert dataset.tags()["command"] == "lacunar fill in.tif"
    with pytest.raises(LacunarError, match=r"--celsius for mm.tif, which is in 'mm': wanted kelvin; leave it out"):
        fill_raster(write(tmp_path / "mm.tif", values, units="mm"), tmp_path / "d.tif", options=options, celsius=True)


@pytest.mark.parametrize(
    "transform",
    [rasterio.Affine(10, 0, 5e5, 0, 10, 5.2e6), rasterio.Affine(8, -6, 5e5, -6, -8, 5.2e6)],
    ids=["south up", "rotated"],
)
def test_odd_grids_keep_their_place(options, tmp_path, transform):
    raster = write(tmp_path / "in.tif", np.where(hole((64, 64)), np.nan, field()), transform=transform)
    fill_raster(raster, tmp_path / "out.tif", options=options)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.transform.almost_equals(transform)
