"""Several bands of one raster: filled together, with every band of the guides, into one file."""

import json

import numpy as np
import pytest
import rasterio
import xarray as xr
from scipy import ndimage

import lacunar as lc
from commands import hole, write
from lacunar.errors import LacunarError
from lacunar.fill.blocks import survey
from lacunar.fill.guides import open_guides
from lacunar.geo.windows import Tile
from lacunar.interpolate.radar import in_decibels, is_linear, smoothed
from lacunar.sensors.scene import open_scene

SHAPE = (72, 72)
RNG = np.random.default_rng(3)
PATTERN = ndimage.gaussian_filter(RNG.standard_normal(SHAPE), 3)
PATTERN /= PATTERN.std()
BANDS = np.stack([0.1 + 0.02 * PATTERN, 0.3 - 0.05 * PATTERN, 0.2 + 0.01 * PATTERN**2]).astype(np.float32)
GAP = hole(SHAPE, slice(20, 55), slice(15, 50))


@pytest.fixture
def scene(tmp_path):
    """A raster of three bands with a gap; its radar in dB, with speckle; and another date of three bands."""
    speckle = 1.5 * RNG.standard_normal((2, *SHAPE))
    radar = np.stack([-10 + 2 * PATTERN, -17 + 2 * PATTERN]) + speckle
    write(tmp_path / "in.tif", np.where(GAP, np.nan, BANDS).astype(np.float32))
    write(tmp_path / "radar.tif", radar.astype(np.float32))
    write(tmp_path / "power.tif", (10 ** (radar / 10)).astype(np.float32))
    write(tmp_path / "other.tif", (BANDS * 0.8 + 0.05).astype(np.float32))
    return tmp_path


def filled(folder, name="out.tif", **options):
    record = lc.fill_file(folder / "in.tif", folder / name, preset="instant", band="all", **options)
    with rasterio.open(folder / name) as dataset:
        return record, dict(zip(dataset.descriptions, dataset.read(), strict=True))


def rmse(bands):
    told = np.stack([bands[f"band_{number}"] for number in (1, 2, 3)])
    return float(np.sqrt(np.mean((told - BANDS)[:, GAP] ** 2)))


def test_every_band_gets_a_value_and_a_sigma_and_measured_pixels_keep_their_bits(scene):
    record, bands = filled(scene, quantiles=(0.05, 0.95))
    names = ["band_1", "band_2", "band_3", "source", "sigma_band_1", "sigma_band_2", "sigma_band_3"]
    assert list(bands)[:7] == names
    assert list(bands)[7:] == [f"quantile_{level}_band_{band}" for level in ("0.05", "0.95") for band in (1, 2, 3)]
    for number in (1, 2, 3):
        np.testing.assert_array_equal(bands[f"band_{number}"][~GAP], BANDS[number - 1][~GAP])
        assert (bands[f"sigma_band_{number}"][GAP] > 0).all()
        assert (bands[f"quantile_0.05_band_{number}"] <= bands[f"quantile_0.95_band_{number}"]).all()
    np.testing.assert_array_equal(bands["source"], np.where(GAP, 2, 1))
    assert record["pixels"] == {"measured": int((~GAP).sum()), "filled": int(GAP.sum()), "nodata": 0}
    assert list(record["bands"]) == ["band_1", "band_2", "band_3"]
    assert json.loads((scene / "out.json").read_text())["output"] == str(scene / "out.tif")
    assert not list(scene.glob(".*")), "nothing hidden is left"


def test_a_band_is_filled_as_it_is_alone(scene):
    _, bands = filled(scene)
    lc.fill_file(scene / "in.tif", scene / "one.tif", preset="instant", band=2)
    with rasterio.open(scene / "one.tif") as dataset:
        np.testing.assert_array_equal(bands["band_2"], dataset.read(1))


def test_radar_and_another_date_tell_of_all_bands(scene):
    alone = rmse(filled(scene)[1])
    record, with_radar = filled(scene, "radar_out.tif", radar=[scene / "radar.tif"])
    assert rmse(with_radar) < 0.7 * alone
    assert [one["name"] for one in record["radar"]] == [
        f"radar.tif band {band}, smoothed over {width} pixels" for band in (1, 2) for width in (1, 4)
    ]
    record, with_date = filled(scene, "date_out.tif", guides=[scene / "other.tif"])
    assert rmse(with_date) < 0.1 * alone
    assert [one["name"] for one in record["references"]] == [f"other.tif band {band}" for band in (1, 2, 3)]


def test_power_and_decibels_tell_the_same(scene):
    _, decibels = filled(scene, radar=[scene / "radar.tif"])
    record, power = filled(scene, "power_out.tif", radar=[scene / "power.tif"])
    np.testing.assert_allclose(power["band_1"], decibels["band_1"], atol=1e-4)
    assert record["radar"][0]["notes"] == ["linear power, taken in decibels"]


def test_a_window_of_radar_is_that_of_the_whole(scene):
    with (
        open_scene(scene / "in.tif", band=1) as target,
        open_guides((), (), target, radar=[scene / "radar.tif"]) as got,
    ):
        whole, part = got.read(Tile(0, 0, *SHAPE)), got.read(Tile(30, 10, 20, 25))
        assert len(survey(target.measured, target.shape, got.read).guides) == len(got) == 4
    np.testing.assert_allclose(part, whole[:, 30:50, 10:35], atol=1e-4)


def test_speckle_is_smoothed_and_unknown_pixels_stay_unknown():
    level = np.full((64, 64), -12.0)
    level[:, 40:] = np.nan
    noisy = level + RNG.standard_normal(level.shape)
    calm = smoothed(noisy, 4.0)
    assert np.nanstd(calm) < 0.2
    assert np.array_equal(np.isnan(calm), np.isnan(level))
    np.testing.assert_allclose(in_decibels(np.array([1.0, 0.1, 0.0]), linear=True), [0.0, -10.0, np.nan])
    assert is_linear(np.array([0.1, 2.0]))
    assert not is_linear(np.array([-12.0, 0.3]))


def test_bands_of_a_labelled_array_are_filled(scene):
    coords = {"band": ["green", "nir", "red"], "y": np.arange(72.0)[::-1], "x": np.arange(72.0)}
    array = xr.DataArray(np.where(GAP, np.nan, BANDS), dims=("band", "y", "x"), coords=coords)
    told = lc.fill(array, preset="instant", guides=array[:1].copy(data=PATTERN[None]))
    assert told["value"].dims == ("band", "y", "x")
    assert list(told["band"].values) == ["green", "nir", "red"]
    untold = lc.fill(array, preset="instant")
    # The guide is all that green and nir are made of; red goes with its square, and is filled as if it were not there.
    np.testing.assert_allclose(told["value"][:2], BANDS[:2], atol=1e-3)
    np.testing.assert_allclose(told["value"][2], untold["value"][2], atol=1e-3)
    with pytest.raises(LacunarError, match=r"several bands are filled without a network: leave out model"):
        lc.fill(array, preset="paper")


@pytest.mark.parametrize(
    ("band", "options", "said"),
    [
        ("1,7", {}, r"no band '7': wanted numbers or names of 1 band_1, 2 band_2, 3 band_3, or all"),
        ("1,1", {}, r"--band 1,1 names a band twice"),
        ("all", {"figure": "out.png"}, r"--figure with several bands: it is for one"),
        ("all", {"resume": True}, r"--resume with several bands"),
        ("all", {"preset": "paper"}, r"several bands are filled without a network"),
        ("all", {"radar": ["in.tif"]}, r"radar .*in.tif is the input too"),
        ("all", {"guides": ["radar.tif"], "radar": ["radar.tif"]}, r"radar .*radar.tif is reference .*radar.tif too"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_and_nothing_is_written(scene, band, options, said):
    for name in ("radar", "guides"):
        if name in options:
            options[name] = [scene / one for one in options[name]]
    if "figure" in options:
        options["figure"] = scene / options["figure"]
    before = sorted(scene.iterdir())
    with pytest.raises(LacunarError, match=said):
        lc.fill_file(scene / "in.tif", scene / "out.tif", band=band, **options)
    assert sorted(scene.iterdir()) == before
