"""The public functions as a Python user meets them: labelled arrays or numpy in, the same kind out, one clear error."""

import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401  # the accessor rio
import xarray as xr

import lacunar as lc
import lacunar.fill.api  # what is loaded late must be importable when tests are collected
import lacunar.fill.blocks
import lacunar.pictures.api
import lacunar.segment.api
from commands import bands_of, write
from lacunar.errors import LacunarError
from lacunar.models.backend import load_filler
from picture_models import tiny_picture_model
from water_models import lake_scene, plain_model, plain_segmenter, stand_in

UTM = "EPSG:32632"


@pytest.fixture(autouse=True)
def _without_a_cluster():
    """Compute dask arrays here, whatever scheduler an earlier test of clusters has left."""
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    return load_filler(tiny_folder)


def field(shape=(64, 64), noise=0.0):
    """A smooth field in kelvin."""
    rows, cols = np.indices(shape)
    bumps = 300 + 4 * np.sin(rows / 9) * np.cos(cols / 13)
    return bumps + noise * np.random.default_rng(0).normal(size=shape)


def disc(shape=(64, 64), centre=(30, 34), radius=6):
    rows, cols = np.indices(shape)
    return np.hypot(rows - centre[0], cols - centre[1]) < radius


def labelled(values, *, step=30.0, left=400_000.0, top=5_000_000.0, crs=UTM, **attrs):
    """A DataArray with the centres of its pixels as coordinates."""
    rows, cols = (np.arange(length) + 0.5 for length in values.shape[-2:])
    coords = {"y": top - step * rows, "x": left + step * cols}
    array = xr.DataArray(values, dims=("band", "y", "x")[-values.ndim :], coords=coords, attrs=attrs)
    return array if crs is None else array.rio.write_crs(crs)


# --- the package ---


def test_every_public_name_is_there():
    assert {name for name in lc.__all__ if callable(getattr(lc, name))} == set(lc.__all__)
    assert set(lc.__all__) <= set(dir(lc))


def test_a_room_that_is_a_function_keeps_its_modules_in_any_order():
    code = (
        "import lacunar.fill.blocks; import lacunar as lc; print(lc.fill.blocks.BLOCK, 'Fill what' in lc.fill.__doc__)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "960 True\n"


def test_load_model_gives_either_kind(tiny_folder):
    assert lc.load_model(tiny_folder).name == "tiny"
    assert lc.load_model("water-small").network.spec.diffusion
    with pytest.raises(LacunarError, match="unknown model 'nothing'"):
        lc.load_model("nothing")


# --- fill ---


def test_fill_keeps_grid_units_and_measured_pixels(tiny):
    gap = disc()
    truth = field()
    array = labelled(np.where(gap, np.nan, truth), units="K")
    filled = lc.fill(array, model=tiny, samples=2, quantiles=[0.05, 0.95])
    assert filled.rio.crs == array.rio.crs
    assert filled.rio.transform() == array.rio.transform()
    assert filled["value"].attrs["units"] == filled["sigma"].attrs["units"] == "K"
    np.testing.assert_array_equal(filled["source"], np.where(gap, 2, 1))
    np.testing.assert_array_equal(filled["value"].values[~gap], truth[~gap])
    assert (filled["sigma"].values > 0).tolist() == gap.tolist()
    low, high = (filled["quantiles"].sel(quantile=level).values[gap] for level in (0.05, 0.95))
    assert (low < high).all()


def test_numpy_in_is_numpy_out_with_the_same_values(tiny):
    array = np.where(disc(), np.nan, field()).astype(np.float32)
    plain, labels = (lc.fill(given, model=tiny, samples=2, seed=4) for given in (array, labelled(array)))
    assert all(isinstance(part, np.ndarray) for part in plain)
    assert plain.value.dtype == np.float32
    assert plain.quantiles.shape == (0, 64, 64)
    for name in ("value", "source", "sigma"):
        np.testing.assert_array_equal(getattr(plain, name), labels[name].values)


def test_no_gap_gives_the_input_and_says_that_all_is_measured(tiny):
    filled = lc.fill(field(), model=tiny, preset="instant")
    np.testing.assert_array_equal(filled.value, field())
    assert (filled.source == 1).all()
    assert (filled.sigma == 0).all()


def test_missing_names_what_is_filled_and_other_nan_stay(tiny):
    array = field()
    array[:4] = np.nan
    filled = lc.fill(array, missing=disc(), model=tiny, preset="instant")
    np.testing.assert_array_equal(filled.source == 2, disc())
    np.testing.assert_array_equal(np.isnan(filled.value), np.isnan(array))
    assert (filled.source[:4] == 0).all()


def test_a_dask_array_is_filled_lazily_to_the_very_same_values(tiny, monkeypatch):
    monkeypatch.setattr(lacunar.fill.blocks, "BLOCK", 96)
    shape = (110, 120)
    gap = disc(shape, (95, 96), 9) | disc(shape, (20, 30), 5)  # over the corner of four blocks, and in the first
    array = labelled(np.where(gap, np.nan, field(shape, noise=0.3)))
    guide = labelled(field(shape) + 3)
    asked = {"model": tiny, "preset": "instant", "quantiles": [0.1]}
    eager = lc.fill(array, guides=guide, **asked)
    lazy = lc.fill(array.chunk(y=60, x=70), guides=guide.chunk(y=60, x=70), **asked)
    assert all(isinstance(lazy[name].data, da.Array) for name in ("value", "source", "sigma", "quantiles"))
    xr.testing.assert_identical(lazy.compute(), eager)


def test_a_guide_on_another_grid_is_warped_and_helps(tiny):
    truth = field(noise=1.0)
    array = labelled(np.where(disc(), np.nan, truth), units="K")
    wide = np.pad(truth, 10, mode="edge") - 7.0
    here = lc.fill(array, guides=[labelled(truth - 7.0)], model=tiny, preset="instant")
    shifted = labelled(wide, left=400_000.0 - 300.0, top=5_000_000.0 + 300.0)  # the same pixels in a wider array
    there = lc.fill(array, guides=[shifted], model=tiny, preset="instant")
    alone = lc.fill(array, model=tiny, preset="instant")
    np.testing.assert_allclose(there["value"], here["value"], atol=1e-3)
    error = {name: np.abs(one["value"].values - truth)[disc()].mean() for name, one in (("a", alone), ("g", here))}
    assert error["g"] < 0.5 * error["a"]


def test_every_date_of_a_cube_is_filled_from_the_others(tiny):
    truth = field(noise=1.0)
    gaps = [disc(), disc(centre=(12, 12), radius=5)]
    dates = [labelled(np.where(gap, np.nan, truth + add)) for gap, add in zip(gaps, (0, 5), strict=True)]
    days = np.array(["2024-07-01", "2024-07-17"], dtype="datetime64[ns]")
    filled = lc.fill(xr.concat(dates, xr.Variable("time", days)), model=tiny, preset="instant")
    assert filled["value"].dims == ("time", "y", "x")
    np.testing.assert_array_equal(filled["time"], days)
    for number, gap in enumerate(gaps):
        np.testing.assert_array_equal(filled["source"][number] == 2, gap)
        alone = lc.fill(dates[number], model=tiny, preset="instant")["value"]
        error = [np.abs(one.values - truth - 5 * number)[gap].mean() for one in (filled["value"][number], alone)]
        assert error[0] < 0.5 * error[1]


def test_integers_with_a_scale_are_decoded(tiny):
    kelvin = field()
    stored = np.where(disc(), 0, np.rint((kelvin - 149.0) / 0.00341802)).astype(np.uint16)
    array = labelled(stored, scale_factor=0.00341802, add_offset=149.0, _FillValue=0, units="K")
    filled = lc.fill(array, model=tiny, preset="instant")
    np.testing.assert_array_equal(filled["source"] == 2, disc())
    np.testing.assert_allclose(filled["value"].values[~disc()], kelvin[~disc()], atol=0.01)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((64, 64), 43_210, dtype=np.uint16), "multiply by 0.00341802 and add 149.0"),
        (np.where(np.arange(64) < 3, -9999.0, np.full((64, 64), 290.5)), "the array: 192 values hold -9999, which"),
        (np.full((64, 64), 43_210.0), "looks like Landsat digital numbers: multiply by 0.00341802 and add 149.0"),
        (labelled(np.full((64, 64), 43_210.5), units="kelvin"), "multiply by 0.00341802"),
        (np.ones((64, 64), dtype=np.int8), r"integers without a scale.*\.astype\(float\)"),
        (np.zeros((3, 64, 64)), "wanted rows and columns, or a DataArray with a first dimension `time`"),
        (labelled(field()).drop_vars(["y", "x"]), "a DataArray without coordinates along y and x"),
        (np.full((64, 64), np.nan), "no measured pixel"),
        (np.zeros(64), r"shape \(64,\): wanted an array of rows and columns"),
        (field().astype(complex), "complex128 values: wanted real numbers"),
    ],
    ids=["uint16", "fill", "floats", "kelvin", "int8", "cube", "bare", "nan", "line", "complex"],
)
def test_fill_refuses_what_it_cannot_understand(array, message, tiny):
    with pytest.raises(LacunarError, match=message):
        lc.fill(array, model=tiny, preset="instant")


def test_other_units_may_have_any_values(tiny):
    array = labelled(np.where(disc(), np.nan, np.rint(field() * 100)), units="counts")
    assert (lc.fill(array, model=tiny, preset="instant")["source"] == 2).sum() == disc().sum()


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (labelled(field(), step=60.0, crs=None), "guide 1 lies on another grid and guide 1 has no CRS"),
        (np.zeros((10, 10)), "guide 1 is 10x10 pixels"),
        (labelled(field(), left=900_000.0), "guide 1 does not overlap the input: x 900000"),
        (np.full((64, 64), np.nan), "guide 1 has 0 measured pixels and none in common"),
        ([field()] * 17, "got 17 guides: wanted 16 at most"),
    ],
    ids=["no crs", "shape", "elsewhere", "empty", "many"],
)
def test_fill_refuses_guides_that_do_not_fit(guide, message, tiny):
    array = labelled(np.where(disc(), np.nan, field()))
    with pytest.raises(LacunarError, match=message):
        lc.fill(array, guides=guide, model=tiny, preset="instant")


@pytest.mark.parametrize(
    ("missing", "message"),
    [(np.zeros((64, 64)), "wanted booleans"), (np.zeros((3, 3), bool), r"shape \(3, 3\): wanted that of the array")],
)
def test_fill_refuses_a_mask_that_does_not_fit(missing, message, tiny):
    with pytest.raises(LacunarError, match=message):
        lc.fill(field(), missing=missing, model=tiny)


def test_a_model_whose_scaling_is_unknown_is_refused(tiny_folder, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_folder, tmp_path / "odd")
    (folder / "scaling.json").write_text('{"kind": "logarithm"}')
    with pytest.raises(LacunarError, match="scaling: kind is 'logarithm'"):
        lc.fill(np.where(disc(), np.nan, field()), model=folder)


def test_fill_file_takes_options_by_name_and_gives_what_fill_gives(tmp_path, tiny_folder, tiny):
    kelvin = np.where(disc(), np.nan, field(noise=0.5)).astype(np.float32)
    write(tmp_path / "in.tif", kelvin, units="K")
    write(tmp_path / "july.tif", (field(noise=0.5) + 5).astype(np.float32), units="K")
    options = {"model": str(tiny_folder), "samples": 2, "seed": 3, "quantiles": (0.1,), "overwrite": True}
    record = lc.fill_file(tmp_path / "in.tif", tmp_path / "out.tif", guides=[tmp_path / "july.tif"], **options)
    assert record["pixels"]["filled"] == disc().sum()
    given = {name: options[name] for name in ("samples", "seed", "quantiles")}
    filled = lc.fill(kelvin, guides=(field(noise=0.5) + 5).astype(np.float32), model=tiny, **given)
    np.testing.assert_array_equal(bands_of(tmp_path / "out.tif"), np.stack([*filled[:3], *filled.quantiles]))


def test_fill_file_opens_a_product_and_refuses_an_unknown_option(tmp_path, tiny_folder, simulated_64):
    out = tmp_path / "lst.tif"
    record = lc.fill_file(simulated_64.folder, out, model=str(tiny_folder), preset="instant")
    assert bands_of(out).shape == (3, 64, 64)
    assert record["pixels"]["filled"] > 0
    with pytest.raises(TypeError, match="no_such_option"):
        lc.fill_file(simulated_64.folder, out, no_such_option=1)


# --- inpaint ---


@pytest.fixture(scope="module")
def tiny_picture():
    return tiny_picture_model()


def shades(dtype, channels):
    ramp = np.linspace(0.2, 0.8, 64 * 64 * max(1, channels)).reshape(64, 64, *([channels] if channels else []))
    return ramp.astype(dtype) if np.dtype(dtype).kind == "f" else np.rint(ramp * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 0), (np.uint8, 4), (np.float64, 3)])
def test_inpaint_keeps_shape_type_and_every_other_pixel(dtype, channels, tiny_picture):
    picture = shades(dtype, channels)
    filled = lc.inpaint(picture, disc(), model=tiny_picture)
    assert (filled.shape, filled.dtype) == (picture.shape, picture.dtype)
    np.testing.assert_array_equal(filled[~disc()], picture[~disc()])
    colours = filled if channels in (0, 3) else filled[..., :3]
    assert (colours != picture[..., :3] if channels else filled != picture)[disc()].any()
    if channels == 4:
        white = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
        np.testing.assert_array_equal(
            filled[..., 3], np.where(disc(), white, picture[..., 3])
        )  # what is filled is seen


def test_inpaint_gives_several_answers_one_after_another(tiny_picture):
    answers = lc.inpaint(shades(np.uint8, 3), disc(), model=tiny_picture, samples=3, seed=5)
    assert answers.shape == (3, 64, 64, 3)
    assert (answers[0] != answers[1])[disc()].any()
    np.testing.assert_array_equal(answers[0], lc.inpaint(shades(np.uint8, 3), disc(), model=tiny_picture, seed=5))


@pytest.mark.parametrize(
    ("picture", "missing", "message"),
    [
        (shades(np.uint8, 3), disc().astype(int), "missing is int64 .*wanted booleans"),
        (shades(np.uint8, 3), disc((9, 9)), r"shape \(9, 9\)"),
        (shades(np.uint8, 3), np.zeros((64, 64), bool), "a pixel to fill"),
        (shades(np.float64, 3) * 255, disc(), "floats beyond 0 to 1"),
        (shades(np.uint8, 3).astype(np.int64), disc(), "int64 values: wanted uint8"),
        (shades(np.uint8, 5), disc(), r"wanted \(height, width\) or \(height, width, 1 to 4\)"),
    ],
    ids=["mask type", "mask shape", "nothing", "floats", "int64", "channels"],
)
def test_inpaint_refuses_what_is_no_picture_or_no_mask(picture, missing, message, tiny_picture):
    with pytest.raises(LacunarError, match=message):
        lc.inpaint(picture, missing, model=tiny_picture)


# --- open_scene ---


def test_a_product_opens_as_lst_in_kelvin_with_its_place_and_what_is_missing(simulated_64):
    with lc.open_scene(simulated_64.folder) as scene:
        lst, valid, bands = scene.lst(), scene.valid(), scene.bands()
        windows = scene.measured()
        grid = scene.transform, scene.crs
    assert (lst.rio.transform(), lst.rio.crs) == grid
    assert lst.attrs["units"] == "K"
    assert lst.attrs["source"].startswith("LC08_")
    assert lst.attrs["date"] == "2022-11-15"
    np.testing.assert_array_equal(lst.values, np.where(windows.known, windows.values, np.nan))
    np.testing.assert_array_equal(lst["missing"], windows.missing)
    np.testing.assert_array_equal(valid, windows.known)
    assert valid.dtype == bool
    assert bands.dims == ("band", "y", "x")
    assert list(bands["band"].values) == ["blue", "green", "red", "nir", "swir1", "swir2"]
    assert 0 < float(bands.median()) < 1


def test_fill_heeds_what_a_scene_calls_missing(simulated_64, tiny):
    with lc.open_scene(simulated_64.folder) as scene:
        lst = scene.lst()
    lst = lst.copy(data=lst.where(lst["y"] < lst["y"][5]).values)  # rows that lie outside the image
    lst = lst.assign_coords(missing=lst["missing"] & (lst["y"] < lst["y"][5]))
    filled = lc.fill(lst, model=tiny, preset="instant")
    np.testing.assert_array_equal(filled["source"] == 2, lst["missing"])
    assert (filled["source"][:6] == 0).all()
    assert "missing" not in filled.coords


@pytest.mark.parametrize("what", ["lst", "valid", "bands"])
def test_a_window_of_a_scene_is_that_part_of_the_whole(what, simulated_64):
    with lc.open_scene(simulated_64.folder) as scene:
        whole, part = getattr(scene, what)(), getattr(scene, what)((10, 20, 30, 7))
    xr.testing.assert_identical(part, whole[..., 10:40, 20:27])
    assert part.rio.transform() == whole.rio.transform() * whole.rio.transform().translation(20, 10)


def test_open_scene_says_what_is_wrong(tmp_path, simulated_64):
    with pytest.raises(LacunarError, match="no such file"):
        lc.open_scene(tmp_path / "nothing.tif")
    with lc.open_scene(simulated_64.folder) as scene, pytest.raises(LacunarError, match="reaches outside the 64 x 64"):
        scene.lst((0, 0, 8, 65))


# --- segment, polygonize ---


@pytest.fixture
def plain(monkeypatch):
    """Water is where infrared is dark: no network."""
    monkeypatch.setattr(lacunar.segment.api, "segment_blocks", plain_segmenter)
    monkeypatch.setattr(lacunar.segment.api, "load_segmenter", plain_model)


def test_segment_finds_the_lake_of_a_labelled_image_and_polygonize_measures_it(plain):
    values, lake = lake_scene()
    image = labelled(values, top=0.0).assign_coords(band=["blue", "green", "red", "nir"])
    found = lc.segment(image)
    assert found.rio.crs == image.rio.crs
    np.testing.assert_array_equal(found["class"], lake.astype(np.uint8))
    assert ((found["probability"] >= 0.5) == lake).all()
    (body,) = lc.polygonize(found).itertuples()
    assert body.area_m2 == pytest.approx(lake.sum() * 900, rel=2e-3)  # UTM's scale at its central meridian: 0.9996
    assert lc.polygonize(found).crs == UTM
    assert len(lc.polygonize(found, min_area=1.1 * body.area_m2)) == 0


def test_segment_takes_numpy_with_names_and_stored_reflectance(plain):
    values, lake = lake_scene()
    values[:, :5] = np.nan
    names = ["blue", "green", "red", "nir"]
    found = lc.segment(values, bands=names, fusion="staple")
    np.testing.assert_array_equal(found.class_ == 1, lake)
    assert (found.class_[:5] == 255).all()
    stored = np.rint(np.nan_to_num(values) * 10_000).astype(np.uint16)
    scaled = labelled(stored, scale_factor=1e-4, add_offset=0.0, _FillValue=0)
    again = lc.segment(scaled, bands=names)
    np.testing.assert_array_equal(again["class"], found.class_)
    assert lc.polygonize(found)["area_pixels"].sum() == lake.sum()


def test_a_picture_has_its_colours_last(plain):
    _, lake = lake_scene()
    picture = np.where(lake[..., None], (4, 90, 90), (150, 140, 130)).astype(np.uint8)
    np.testing.assert_array_equal(lc.segment(picture).class_ == 1, lake)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.ones((4, 30, 30)), {}, "4 bands and 0 names: wanted one name for each"),
        (np.ones((4, 30, 30)), {"bands": ["blue", "green", "red", "infrared"]}, "unknown band 'infrared'"),
        (np.full((3, 30, 30), 9000.0), {}, "may be raw digital numbers"),
        (np.where(np.arange(30) < 3, -9999.0, np.full((3, 30, 30), 0.1)), {}, "the image: 90 values hold -9999"),
        (np.full((3, 30, 30), np.nan), {}, "no valid pixel"),
        (np.ones((2, 3, 30, 30)), {}, r"wanted \(band, y, x\), or a picture"),
        (np.ones((3, 30, 30)), {"fusion": "median"}, "fusion 'median': wanted one of"),
        (np.ones((3, 30, 30)), {"threshold": 2}, "threshold 2: wanted above 0"),
    ],
    ids=["names", "name", "numbers", "fill", "nan", "axes", "fusion", "threshold"],
)
def test_segment_refuses_what_it_cannot_understand(image, options, message, plain):
    with pytest.raises(LacunarError, match=message):
        lc.segment(image, **options)


def test_segment_file_takes_options_by_name(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    values, lake = lake_scene()
    write(tmp_path / "scene.tif", values.astype(np.float32))
    options = {"bands": ["blue", "green", "red", "nir"], "polygons": tmp_path / "lakes.gpkg"}
    record = lc.segment_file(tmp_path / "scene.tif", tmp_path / "water.tif", **options)
    assert record["pixels"]["water"] == lake.sum()
    assert (tmp_path / "lakes.gpkg").is_file()
    with pytest.raises(TypeError, match="no_such_option"):
        lc.segment_file(tmp_path / "scene.tif", tmp_path / "other.tif", no_such_option=1)
