"""Rasters: what GDAL and tifffile see in our files, and what we see in theirs."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from lacunar.errors import RasterError
from lacunar.geo.grid import check_same_grid, same_grid
from lacunar.geo.raster import Raster, RasterSource, RasterWriter, read_raster
from lacunar.geo.windows import Tile, blocks_over
from rasters import write_raster

UTM = CRS.from_epsg(32632)
GRID = Affine(30.0, 0.0, 396705.0, 0.0, -30.0, 5763315.0)


def make_raster(shape=(40, 50), bands=2, seed=0, **changes):
    rng = np.random.default_rng(seed)
    data = rng.normal(300, 5, size=(bands, *shape)).astype(np.float32)
    known = rng.random(data.shape) > 0.2
    data[~known] = np.nan
    return dataclasses.replace(Raster(data, known, GRID, UTM), **changes)


def write_plain(path, array, **profile):
    """A GeoTIFF written by rasterio alone."""
    mask = profile.pop("mask", None)
    scales, offsets = profile.pop("scales", None), profile.pop("offsets", None)
    profile = {"crs": UTM, "transform": GRID, "dtype": array.dtype, **profile}
    bands, height, width = array.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", count=bands, height=height, width=width, **profile) as dataset,
    ):
        dataset.write(array)
        if mask is not None:
            dataset.write_mask(mask)
        if scales is not None:
            dataset.scales, dataset.offsets = scales, offsets
    return path


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


# --- writing: GDAL and tifffile as second opinions ---


def test_a_written_raster_holds_every_value_and_its_georeference(tmp_path):
    raster, tags = make_raster(), {"product": "LC08", "note": "a b"}
    write_raster(tmp_path / "out.tif", raster, band_names=("lst", "sigma"), units=("K", "K"), tags=tags)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), raster.data)
        assert dataset.dtypes == ("float32", "float32")
        assert dataset.crs == UTM
        assert dataset.transform == GRID
        assert np.isnan(dataset.nodata)
        assert dataset.descriptions == ("lst", "sigma")
        assert dataset.units == ("K", "K")
        assert dataset.tags().items() >= tags.items()
    assert files_in(tmp_path) == ["out.tif"]


def test_the_file_is_a_cloud_optimized_geotiff(tmp_path):
    write_raster(tmp_path / "out.tif", make_raster((1100, 700), bands=1))
    with rasterio.open(tmp_path / "out.tif") as dataset:
        structure = dataset.tags(ns="IMAGE_STRUCTURE")
        assert structure["LAYOUT"] == "COG"
        assert (structure["COMPRESSION"], structure["PREDICTOR"]) == ("DEFLATE", "3")
        assert dataset.overviews(1) == [2, 4]
        assert dataset.block_shapes == [(512, 512)]
    with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
        assert [page.shape for page in tiff.pages] == [(1100, 700), (550, 350), (275, 175)]
        first = tiff.pages[0]
        assert (first.compression, first.predictor) == (tifffile.COMPRESSION.ADOBE_DEFLATE, 3)
        assert (first.tilelength, first.tilewidth, first.dtype) == (512, 512, np.float32)
        # header first, full resolution last: what makes a range request enough
        assert [page.offset for page in tiff.pages] == sorted(page.offset for page in tiff.pages)
        assert max(tiff.pages[1].dataoffsets) < min(first.dataoffsets)


def test_overviews_never_invent_a_class(tmp_path):
    classes = np.where(np.indices((1, 1024, 1024)).sum(0) % 3 == 0, 0, 2).astype(np.float32)
    write_raster(tmp_path / "out.tif", Raster(classes, np.ones_like(classes, dtype=bool)))
    with rasterio.open(tmp_path / "out.tif", overview_level=0) as overview:
        assert set(np.unique(overview.read())) == {0.0, 2.0}


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (513, 3), (64, 64)])
def test_write_then_read_is_the_identity(tmp_path, shape):
    raster, told = make_raster(shape, bands=3), {"units": ("K", "", "K"), "band_names": ("a", "b", "c")}
    write_raster(tmp_path / "out.tif", raster, **told)
    again = read_raster(tmp_path / "out.tif")
    np.testing.assert_array_equal(again.data, raster.data)
    np.testing.assert_array_equal(again.known, raster.known)
    assert (again.transform, again.crs) == (GRID, UTM)
    with RasterSource(tmp_path / "out.tif") as source:
        assert {"units": source.units, "band_names": source.band_names} == told


def test_values_under_a_gap_are_not_written(tmp_path):
    raster = make_raster()
    secret = dataclasses.replace(raster, data=np.where(raster.known, raster.data, np.float32(999)))
    write_raster(tmp_path / "out.tif", secret)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        np.testing.assert_array_equal(np.isnan(dataset.read()), ~raster.known)


def test_a_point_raster_keeps_its_transform(tmp_path):
    write_raster(tmp_path / "out.tif", make_raster(), tags={"AREA_OR_POINT": "Point"})
    assert read_raster(tmp_path / "out.tif").transform == GRID
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.tags()["AREA_OR_POINT"] == "Point"


def test_a_raster_without_crs_travels_quietly(tmp_path):
    raster = make_raster(crs=None, transform=Affine.identity())
    write_raster(tmp_path / "out.tif", raster)
    again = read_raster(tmp_path / "out.tif")
    assert again.crs is None
    assert again.transform.is_identity


def test_windows_written_in_any_order_make_the_same_file(tmp_path):
    raster = make_raster((700, 900), bands=2)
    write_raster(tmp_path / "whole.tif", raster)
    with RasterWriter(
        tmp_path / "parts.tif", shape=(700, 900), transform=GRID, crs=UTM, band_names=("band_1", "band_2")
    ) as writer:
        for block in reversed(blocks_over((700, 900), block=300, halo=0)):
            writer.write(raster.data[:, *block.core.slices], block.core)
    np.testing.assert_array_equal(read_raster(tmp_path / "parts.tif").data, read_raster(tmp_path / "whole.tif").data)


def test_pixels_never_written_are_nodata(tmp_path):
    with RasterWriter(tmp_path / "o.tif", shape=(600, 600), transform=GRID, crs=UTM, band_names=("lst",)) as writer:
        writer.write(np.full((1, 10, 20), 300.0), Tile(5, 6, 10, 20))
    known = read_raster(tmp_path / "o.tif").known[0]
    assert known.sum() == 200
    assert known[5:15, 6:26].all()


# --- reading ---


def test_scale_offset_and_nodata_are_respected(tmp_path):
    raw = np.array([[[0, 1, 30000], [65535, 0, 12345]]], dtype=np.uint16)
    path = write_plain(tmp_path / "in.tif", raw, nodata=0, scales=(0.01,), offsets=(-5.0,))
    raster = read_raster(path)
    np.testing.assert_array_equal(raster.known, raw != 0)
    np.testing.assert_allclose(raster.data[raw != 0], np.float32([-4.99, 295.0, 650.35, 118.45]), rtol=1e-7)
    assert np.isnan(raster.data[raw == 0]).all()


def test_a_real_lst_tile_is_read_in_kelvin(shared):
    path = shared / "data/lst/train/aster_0.tif"
    raster = read_raster(path)
    with rasterio.open(path) as dataset:
        raw = dataset.read(1)
    np.testing.assert_array_equal(raster.known[0], raw != 0)
    np.testing.assert_array_equal(raster.data[0][raw != 0], np.float32(raw[raw != 0] * 0.01))
    with RasterSource(path) as source:
        assert source.units == ("kelvin",)


@pytest.mark.parametrize("nodata", [None, np.nan, -9999.0, -3.4028234663852886e38])
def test_nan_infinity_and_float_nodata_are_gaps(tmp_path, nodata):
    data = np.array([[[1.5, np.nan, np.inf, -2.5]]], dtype=np.float32)
    if nodata is not None:
        data[0, 0, 3] = nodata
    raster = read_raster(write_plain(tmp_path / "in.tif", data, nodata=nodata))
    np.testing.assert_array_equal(raster.known[0, 0], [True, False, False, nodata is None])


def test_an_internal_mask_is_respected_beside_nodata(tmp_path):
    data = np.array([[[7, 8], [9, 10]]], dtype=np.int16)
    mask = np.array([[True, True], [False, True]])
    path = write_plain(tmp_path / "in.tif", data, nodata=7, mask=mask)
    np.testing.assert_array_equal(read_raster(path).known[0], [[False, True], [False, True]])


def test_an_alpha_band_is_a_mask(tmp_path):
    picture = np.full((4, 2, 2), 100, dtype=np.uint8)
    picture[3] = [[255, 0], [255, 255]]
    path = write_plain(tmp_path / "in.tif", picture, photometric="RGB", alpha="yes")
    np.testing.assert_array_equal(read_raster(path, bands=[1]).known[0], [[True, False], [True, True]])


def test_numbers_beyond_float32_are_gaps(tmp_path):
    data = np.array([[[1.0, 1e300]]])
    np.testing.assert_array_equal(read_raster(write_plain(tmp_path / "in.tif", data)).known[0, 0], [True, False])


def test_a_window_is_a_slice_with_its_own_origin(tmp_path):
    raster = make_raster((60, 80))
    write_raster(tmp_path / "in.tif", raster)
    tile = Tile(10, 20, 30, 40)
    part = read_raster(tmp_path / "in.tif", window=tile)
    np.testing.assert_array_equal(part.data, raster.data[:, 10:40, 20:60])
    assert (part.transform.c, part.transform.f) == (396705.0 + 20 * 30, 5763315.0 - 10 * 30)


def test_bands_come_in_the_order_asked(tmp_path):
    raster = make_raster(bands=3)
    write_raster(tmp_path / "in.tif", raster)
    part = read_raster(tmp_path / "in.tif", bands=[3, 1])
    np.testing.assert_array_equal(part.data, raster.data[[2, 0]])


def test_a_source_describes_the_file_before_any_pixel_is_read(tmp_path):
    write_raster(tmp_path / "in.tif", make_raster((7, 9), bands=3))
    with RasterSource(tmp_path / "in.tif") as source:
        assert (source.shape, source.count, source.crs, source.transform) == ((7, 9), 3, UTM, GRID)
        assert source.band_names == ("band_1", "band_2", "band_3")
        assert source.units == ("", "", "")


# --- bad input ---


def test_a_missing_file_a_folder_and_junk_are_named(tmp_path):
    with pytest.raises(RasterError, match=r"gone\.tif: no such file"):
        read_raster(tmp_path / "gone.tif")
    with pytest.raises(RasterError, match="a folder; wanted a raster file"):
        read_raster(tmp_path)
    (tmp_path / "junk.tif").write_bytes(b"II*\x00 this is not a raster" * 10)
    with pytest.raises(RasterError, match=r"junk\.tif: not a raster that can be opened"):
        read_raster(tmp_path / "junk.tif")


@pytest.mark.parametrize("share", [0.002, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_one_line_and_nothing_is_printed(tmp_path, share, capfd):
    whole = tmp_path / "whole.tif"
    write_raster(whole, make_raster((600, 600)))
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    with pytest.raises(
        RasterError, match=r"cut\.tif: (not a raster|pixels cannot be read, the file is cut off)"
    ) as error:
        read_raster(cut)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_raster_of_control_points_alone_is_refused_with_the_way_to_a_grid(tmp_path):
    path = tmp_path / "swath.tif"
    points = [GroundControlPoint(row, col, 7 + col / 90, 46 - row / 90) for row in (0, 8) for col in (0, 8)]
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(path, "w", "GTiff", 8, 8, 1, dtype="float32") as made:
        made.gcps = (points, CRS.from_epsg(4326))
    with pytest.raises(RasterError, match=r"placed by 4 ground control points alone; wanted a grid: gdalwarp"):
        read_raster(path)


def test_complex_numbers_are_refused(tmp_path):
    path = write_plain(tmp_path / "in.tif", np.ones((1, 2, 2), dtype=np.complex64))
    with pytest.raises(RasterError, match=r"complex64.*real numbers"):
        read_raster(path)


def test_windows_and_bands_that_do_not_exist_are_refused(tmp_path):
    write_raster(tmp_path / "in.tif", make_raster((10, 20)))
    with RasterSource(tmp_path / "in.tif") as source:
        with pytest.raises(RasterError, match="window inside 20x10 pixels"):
            source.read(Tile(0, 0, 11, 5))
        for bands in ([0], [3], []):
            with pytest.raises(RasterError, match=r"one or more of 1 \.\. 2"):
                source.read(bands=bands)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": np.zeros((2, 3), np.float32)}, r"wanted float32 \(bands, height, width\)"),
        ({"data": np.zeros((1, 2, 3))}, "float64.*wanted float32"),
        ({"known": np.ones((2, 3), dtype=bool)}, r"wanted bool \(1, 2, 3\)"),
        ({"known": np.ones((1, 2, 3), dtype=np.uint8)}, "got known uint8"),
        ({"data": np.full((1, 2, 3), np.nan, np.float32)}, "known pixels that are NaN"),
    ],
)
def test_a_raster_whose_parts_do_not_fit_is_refused(changes, message):
    parts = {"data": np.zeros((1, 2, 3), np.float32), "known": np.ones((1, 2, 3), dtype=bool), **changes}
    with pytest.raises(RasterError, match=message):
        Raster(**parts)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("out.png", {}, r"got the ending '\.png'; wanted \.tif"),
        ("none/out.tif", {}, "no folder"),
        ("out.tif", {"shape": (0, 4)}, "4x0 pixels"),
        ("out.tif", {"band_names": ()}, "a band or more"),
        ("out.tif", {"units": ("K", "K")}, "one unit per band"),
    ],
)
def test_a_writer_checks_before_any_work(tmp_path, name, changes, message):
    profile = {"shape": (4, 4), "transform": GRID, "crs": UTM, "band_names": ("lst",), **changes}
    with pytest.raises(RasterError, match=message):
        RasterWriter(tmp_path / name, **profile)


def test_an_array_that_does_not_fit_its_window_is_refused(tmp_path):
    writer = RasterWriter(tmp_path / "out.tif", shape=(8, 8), transform=GRID, crs=UTM, band_names=("lst",))
    with pytest.raises(RasterError, match=r"wanted \(1, 4, 4\) inside 8x8 pixels"), writer:
        writer.write(np.zeros((1, 4, 5)), Tile(0, 0, 4, 4))
    with pytest.raises(RasterError, match="inside 8x8 pixels"), writer:
        writer.write(np.zeros((1, 4, 4)), Tile(6, 0, 4, 4))
    assert files_in(tmp_path) == []


# --- grids ---


def on_grid(shape=(10, 20), transform=GRID, crs=UTM):
    return Raster(np.zeros((1, *shape), np.float32), np.ones((1, *shape), dtype=bool), transform, crs)


def test_the_same_grid_tolerates_rounding_and_missing_information():
    shifted = Affine(30.0 + 1e-6, 0.0, 396705.0 + 0.1, 0.0, -30.0, 5763315.0)
    assert same_grid(on_grid(), on_grid())
    assert same_grid(on_grid(), on_grid(transform=shifted))
    assert same_grid(on_grid(), on_grid(crs=None))
    assert same_grid(on_grid(), on_grid(crs=None, transform=Affine.identity()))


@pytest.mark.parametrize(
    "other",
    [
        on_grid(shape=(10, 21)),
        on_grid(crs=CRS.from_epsg(32633)),
        on_grid(transform=Affine(30.0, 0.0, 396720.0, 0.0, -30.0, 5763315.0)),
        on_grid(transform=Affine(30.0, 0.0, 396705.0, 0.0, -30.0, 5763300.0)),
        on_grid(transform=Affine(30.3, 0.0, 396705.0, 0.0, -30.0, 5763315.0)),
        on_grid(crs=None, transform=Affine(30.0, 0.0, 396795.0, 0.0, -30.0, 5763315.0)),
    ],
)
def test_another_grid_is_told_apart(other):
    assert not same_grid(on_grid(), other)
    with pytest.raises(RasterError, match="gap mask is") as error:
        check_same_grid(on_grid(), other, names=("LST", "gap mask"))
    assert "wanted the grid of LST, 20x10 pixels, EPSG:32632, at (396705, 5763315), pixel (30, -30)" in str(error.value)


def test_a_file_and_an_array_share_a_grid(tmp_path):
    raster = make_raster()
    write_raster(tmp_path / "in.tif", raster)
    with RasterSource(Path(tmp_path / "in.tif")) as source:
        check_same_grid(raster, source, names=("raster", "file"))
