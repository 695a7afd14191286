"""Packs against GeoTIFFs written by rasterio, and dates of one ground that are displaced by known pixels."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from scipy import ndimage

from lacunar.errors import RasterError, TrainingError
from lacunar.train import lst_data as packing
from lacunar.train.lst_data import REGISTRATION_REACH, LstPack, load_lst, pack_lst, place_of
from surfaces import counts, pack_of, surface, write

# --- packs ---


def test_a_pack_holds_every_raster_to_a_hundredth_of_a_kelvin(tmp_path: Path):
    rough, gappy, scaled = surface(seed=1).astype("f4"), surface((20, 30), 2).astype("f4"), counts(surface((25, 25), 3))
    gappy[3:9, 4:20] = -9999
    rough[0, 0], rough[-1, -1] = np.nan, 650.0
    scaled[5, :] = 0
    write(tmp_path / "hill_a_2020.tif", rough)
    write(tmp_path / "lake_2021.tif", gappy, nodata=-9999)
    write(tmp_path / "manhattan_2022.tif", scaled, nodata=0, scale=0.01)
    pack_lst(tmp_path, None, tmp_path / "out" / "all.npz")
    pack = load_lst(tmp_path / "out" / "all.npz")
    assert pack.names == ("hill_a_2020", "lake_2021", "manhattan_2022")
    assert pack.places == ("hill", "lake", "newyork")
    assert pack.clouds == ()
    for stored, truth in zip(pack.rasters, (rough, gappy, scaled * 0.01), strict=True):
        known = np.isfinite(truth) & (truth > 0)
        assert stored.dtype == np.uint16
        np.testing.assert_array_equal(stored != 0, known)
        np.testing.assert_allclose(stored[known] * 0.01, truth[known], rtol=0, atol=0.00503)  # half a count, float32
    np.testing.assert_array_equal(pack.rasters[2], scaled)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["all.npz"]


def test_cloud_masks_come_from_bit_3_or_from_what_is_not_zero(tmp_path: Path):
    (tmp_path / "clouds").mkdir()
    write(tmp_path / "hill_1.tif", surface().astype("f4"))
    cloud, shadow = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    cloud[5:15, 8:30], shadow[12:25, 3:20] = True, True
    # LSDS-1822: bit 3 cloud, bit 4 cloud shadow, bit 6 clear, bit 0 fill; 1 << 9 is a confidence.
    qa = np.where(cloud, 1 << 3 | 1 << 9, 1 << 6) | np.where(shadow, 1 << 4, 0)
    write(tmp_path / "clouds/LC08_QA_PIXEL.TIF", qa.astype(np.uint16))
    write(tmp_path / "clouds/a_mask.tif", cloud.astype(np.uint8))
    holed = cloud.astype("f4")
    holed[6, :] = np.nan
    write(tmp_path / "clouds/b_mask.tiff.tif", holed)
    write(tmp_path / "clouds/clear_QA_PIXEL.tif", np.full((30, 40), 64, np.uint16))
    write(tmp_path / "clouds/overcast_QA_PIXEL.tif", np.full((30, 40), 8, np.uint16))
    pack_lst(tmp_path, tmp_path / "clouds", tmp_path / "all.npz")
    clouds = load_lst(tmp_path / "all.npz").clouds
    assert len(clouds) == 3  # no shape is in an all clear or an overcast sky
    assert all(mask.dtype == np.bool_ for mask in clouds)
    np.testing.assert_array_equal(clouds[0], cloud)
    np.testing.assert_array_equal(clouds[1], cloud)
    np.testing.assert_array_equal(clouds[2], cloud & np.isfinite(holed))


def test_real_rasters_and_clouds_pack(shared: Path, tmp_path: Path):
    source = shared / "data/lst/train/macas_landsat_2015.tif"
    (tmp_path / source.name).symlink_to(source)
    pack_lst(tmp_path, shared / "data/clouds", tmp_path / "all.npz")
    pack = load_lst(tmp_path / "all.npz")
    with rasterio.open(source) as dataset:
        truth = dataset.read(1, masked=True).astype(np.float64) * dataset.scales[0] + dataset.offsets[0]
    known = ~np.ma.getmaskarray(truth) & np.isfinite(truth.data)
    np.testing.assert_array_equal(pack.rasters[0] != 0, known)
    np.testing.assert_allclose(pack.rasters[0][known] * 0.01, truth.data[known], rtol=0, atol=0.00503)
    assert pack.places == ("macas",)
    assert len(pack.clouds) >= 3


def test_place_of_a_name():
    assert [place_of(name) for name in ("aster_109", "kano", "manhattan_landsat")] == ["aster", "kano", "newyork"]


@pytest.mark.parametrize("made", [True, False], ids=["empty", "missing"])
def test_folder_without_rasters(tmp_path: Path, made: bool):
    folder = tmp_path / "data"
    if made:
        folder.mkdir()
    with pytest.raises(
        TrainingError, match=rf"no GeoTIFF in {folder}: --data wants a folder of LST rasters named PLACE"
    ):
        pack_lst(folder, None, tmp_path / "all.npz")


def test_folder_of_clouds_that_is_missing(tmp_path: Path):
    write(tmp_path / "hill_1.tif", surface().astype("f4"))
    with pytest.raises(TrainingError, match=rf"no folder {tmp_path / 'cluods'}: --clouds wants a folder"):
        pack_lst(tmp_path, tmp_path / "cluods", tmp_path / "all.npz")


@pytest.mark.parametrize("value", [-3.0, 0.004, 655.4, 29815.0])
def test_raster_that_is_not_in_kelvin(tmp_path: Path, value: float):
    """Celsius below zero or plain counts would wrap around in 16 bits."""
    band = surface().astype("f4")
    band[3, 4] = value
    write(tmp_path / "hill_1.tif", band)
    with pytest.raises(TrainingError, match=r"hill_1.tif holds .* \.\. .*: wanted kelvin, above 0 and below 655"):
        pack_lst(tmp_path, None, tmp_path / "all.npz")
    assert not (tmp_path / "all.npz").exists()


def test_raster_that_is_damaged(tmp_path: Path):
    file = write(tmp_path / "hill_1.tif", surface((200, 200)).astype("f4"))
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(RasterError, match=r"hill_1.tif: pixels cannot be read"):
        pack_lst(tmp_path, None, tmp_path / "all.npz")


def test_pack_that_would_be_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "hill_1.tif", surface().astype("f4"))
    (tmp_path / "all.npz").write_bytes(b"the one before")
    monkeypatch.setattr(packing, "MAX_PACK_BYTES", 1000)
    with pytest.raises(TrainingError, match=r"MiB, more than .* MiB: give less data"):
        pack_lst(tmp_path, None, tmp_path / "all.npz")
    assert (tmp_path / "all.npz").read_bytes() == b"the one before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.npz", "hill_1.tif"]


def test_array_file_of_something_else(tmp_path: Path):
    np.savez(tmp_path / "other.npz", z=np.zeros(3))
    with pytest.raises(TrainingError, match="holds no LST raster: write it again with `lacunar train --pack`"):
        load_lst(tmp_path / "other.npz")


def test_a_pack_trains_without_any_geospatial_library(tmp_path: Path):
    write(tmp_path / "hill_1.tif", surface().astype("f4"))
    pack_lst(tmp_path, None, tmp_path / "all.npz")
    script = """if True:
        import sys
        from pathlib import Path
        for name in ("rasterio", "osgeo", "rioxarray", "affine", "pyproj"):
            sys.modules[name] = None  # importing it is an ImportError
        import lacunar.train.recipes
        from lacunar.train.lst_data import load_lst, make_examples
        pack = load_lst(Path(sys.argv[1]))
        print(pack.places, make_examples(pack, {"hill": 1.0}, count=1, size=16, seed=0).z.shape)
    """
    run = [sys.executable, "-W", "error", "-c", script, str(tmp_path / "all.npz")]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "('hill',) (1, 16, 16)\n"


# --- dates of one ground ---

GROUND = 295 + 4 * ndimage.gaussian_filter(np.random.default_rng(8).standard_normal((180, 200)), 1.2)


def date_of(folder: Path, name: str, true: tuple[int, int], claimed=None, *, side=(100, 110), change=None, **profile):
    """Write a date that shows the ground from row and column ``true`` on, and whose georeference claims another."""
    row, col = claimed or true
    seen = GROUND[true[0] : true[0] + side[0], true[1] : true[1] + side[1]]
    seen = seen if change is None else change(seen)
    profile = {"transform": Affine(30, 0, 5e5 + 30 * col, 0, -30, 6e6 - 30 * row), **profile}
    write(folder / f"{name}.tif", seen.astype("f4"), **profile)


def packed(folder: Path) -> LstPack:
    pack_lst(folder, None, folder / "all.npz")
    return load_lst(folder / "all.npz")


def noisy(seen: np.ndarray) -> np.ndarray:
    """Another date: the sign of the night, a season, clouds' warm-up by rows, and noise as strong as the pattern."""
    rng = np.random.default_rng(3)
    return 580 - seen + 0.02 * np.arange(len(seen))[:, None] + seen.std() * rng.standard_normal(seen.shape)


def unrelated(seen: np.ndarray) -> np.ndarray:
    """A field of the same texture that has nothing to do with the ground."""
    return 295 + 4 * ndimage.gaussian_filter(np.random.default_rng(77).standard_normal(seen.shape), 1.2)


def test_rasters_that_are_shifted_by_whole_pixels_lie_on_one_grid(tmp_path: Path):
    date_of(tmp_path, "hill_a", (20, 30))
    date_of(tmp_path, "hill_b", (27, 18), side=(90, 120))
    date_of(tmp_path, "hill_c", (0, 60), side=(60, 60))
    pack = packed(tmp_path)
    assert pack.positions == ((0, 0, 0), (0, 7, -12), (0, -20, 30))
    np.testing.assert_array_equal(pack.window(1, 10, 5, 64, of=0), pack.window(0, 10, 5, 64))
    np.testing.assert_array_equal(pack.window(0, 3, 12, 64, of=1), pack.window(1, 3, 12, 64))


@pytest.mark.parametrize(("row", "col"), [(3.4, -2.4), (2.6, -1.6), (3.0, -2.0)])
def test_positions_are_rounded_to_the_nearest_pixel(tmp_path: Path, row: float, col: float):
    date_of(tmp_path, "hill_a", (20, 30))
    date_of(tmp_path, "hill_b", (20, 30), (20 + row, 30 + col), change=unrelated)
    assert packed(tmp_path).positions == ((0, 0, 0), (0, 3, -2))


@pytest.mark.parametrize("change", [None, noisy], ids=["copy", "noisy, of the other sign"])
@pytest.mark.parametrize("displaced", [(0, 0), (2, -3), (-1, 4), (-4, -2)])
def test_a_displaced_date_is_put_where_it_fits(tmp_path: Path, displaced: tuple[int, int], change):
    date_of(tmp_path, "hill_a", (20, 30))
    claimed = (26 + displaced[0], 25 + displaced[1])
    date_of(tmp_path, "hill_b", (26, 25), claimed, side=(110, 90), change=change)
    pack = packed(tmp_path)
    assert pack.positions[1] == (0, 6, -5)
    a, b = pack.window(0, 20, 10, 60).astype(float), pack.window(1, 20, 10, 60, of=0).astype(float)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) > 0.6


def test_gaps_do_not_hide_a_displacement(tmp_path: Path):
    def cloudy(seen: np.ndarray) -> np.ndarray:
        clouds = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal(seen.shape), 8)
        return np.where(clouds > np.quantile(clouds, 0.6), np.nan, noisy(seen))

    date_of(tmp_path, "hill_a", (20, 30))
    date_of(tmp_path, "hill_b", (20, 30), (23, 29), change=cloudy)
    assert packed(tmp_path).positions[1] == (0, 0, 0)


def test_of_several_dates_the_one_that_resembles_most_decides(tmp_path: Path):
    date_of(tmp_path, "hill_a", (20, 30), change=unrelated)
    date_of(tmp_path, "hill_b", (32, 23))
    date_of(tmp_path, "hill_c", (15, 28), (16, 31))
    assert packed(tmp_path).positions == ((0, 0, 0), (0, 12, -7), (0, -5, -2))


def test_what_has_nothing_in_common_is_not_displaced(tmp_path: Path):
    date_of(tmp_path, "hill_a", (20, 30))
    date_of(tmp_path, "hill_b", (20, 30), change=unrelated)
    date_of(tmp_path, "hill_c", (20, 30), change=lambda seen: 290 + 0.1 * np.indices(seen.shape).sum(axis=0))
    date_of(tmp_path, "hill_d", (20, 30), change=lambda seen: np.full_like(seen, 290))
    date_of(tmp_path, "hill_e", (20, 30), (1000, 30))  # not even an overlap
    date_of(tmp_path, "hill_f", (20, 30), (20 + 100 - 45, 33))  # 45 rows in common, too few for a reach of 4
    positions = packed(tmp_path).positions
    assert positions[:4] == ((0, 0, 0),) * 4
    assert positions[4:] == ((0, 980, 0), (0, 55, 3))
    assert REGISTRATION_REACH == 4


@pytest.mark.parametrize(
    ("name", "profile", "grid"),
    [
        ("hill_b", {}, 0),
        ("hill_b", {"transform": Affine(30.2, 0, 5e5 + 900, 0, -29.8, 6e6 - 600)}, 0),
        ("lake_b", {}, 1),
        ("hill_b", {"crs": "EPSG:32633"}, 1),
        ("hill_b", {"transform": Affine(31, 0, 5e5 + 900, 0, -30, 6e6 - 600)}, 1),
        ("hill_b", {"transform": Affine(30, 0, 5e5 + 900, 0, -60, 6e6 - 600)}, 1),
        ("hill_b", {"transform": Affine(30, 0, 5e5 + 900, 0, 30, 6e6 - 600)}, 1),
    ],
    ids=["same", "pixels within 1 %", "place", "CRS", "width", "height", "upside down"],
)
def test_a_grid_is_of_one_place_one_crs_and_one_pixel_size(tmp_path: Path, name: str, profile: dict, grid: int):
    date_of(tmp_path, "hill_a", (20, 30))
    date_of(tmp_path, name, (20, 30), **profile)
    pack = packed(tmp_path)
    assert pack.positions == ((0, 0, 0), (grid, 0, 0))
    assert pack.other_dates(0) == ((1,) if grid == 0 else ())


def test_other_dates_are_those_of_the_same_grid():
    positions = ((0, 0, 0), (1, 0, 0), (0, 3, 4), (0, -9, 2))
    pack = pack_of(*(surface(seed=i) for i in range(4)), names=("a_1", "b_1", "a_2", "a_3"), positions=positions)
    assert [pack.other_dates(i) for i in range(4)] == [(2, 3), (), (0, 3), (0, 2)]


def test_a_window_is_0_beyond_the_border():
    first, second = counts(surface((40, 50))), counts(surface((30, 20), seed=1))
    positions = ((0, 2, -1), (0, 7, 4))
    pack = LstPack(("a_1", "a_2"), (first, second), (), positions)
    canvas = np.zeros((200, 200), np.uint16)  # row and column 0 of the grid lie at 80
    canvas[87:117, 84:104] = second
    for row, col in [(0, 0), (-9, 12), (25, 30), (38, -20), (60, 60), (-40, -40)]:
        window = pack.window(1, row, col, 16, of=0)
        assert window.dtype == np.uint16
        np.testing.assert_array_equal(window, canvas[82 + row : 98 + row, 79 + col : 95 + col])
    np.testing.assert_array_equal(pack.window(0, 30, 40, 16)[:10, :10], first[30:, 40:])
    assert not pack.window(0, 30, 40, 16)[10:].any()
    assert not pack.window(0, 30, 40, 16)[:, 10:].any()
    window = pack.window(1, 0, 0, 16)
    window[:] = 0
    assert pack.rasters[1].all()  # a copy


def test_a_pack_of_an_older_version_is_refused(tmp_path: Path):
    np.savez(tmp_path / "old.npz", **{"lst/hill_1": np.ones((4, 4), np.uint16)})
    with pytest.raises(TrainingError, match=r"old.npz is not a whole pack \('hill_1'\): write it again with"):
        load_lst(tmp_path / "old.npz")
