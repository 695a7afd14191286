"""Packs against GeoTIFFs written by rasterio, examples against the fields that they were drawn from."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from lacunar import datasets
from lacunar.datasets import (
    PATTERN_SHARES,
    RATES,
    REDUCTIONS,
    LstExamples,
    LstPack,
    draw_tile,
    load_pack,
    make_examples,
    pack_lst,
    place_of,
)
from lacunar.errors import RasterError, TrainingError

SIZE = 16


def surface(shape=(40, 50), seed=0) -> np.ndarray:
    """Land surface temperature in kelvin: a smooth field and some roughness."""
    rng = np.random.default_rng(seed)
    rows, cols = np.indices(shape)
    waves = 6 * np.sin(rows / 7 + rng.uniform(0, 6)) + 5 * np.cos(cols / 9 + rng.uniform(0, 6))
    return 295 + waves + 0.5 * rng.standard_normal(shape)


def write(path: Path, band: np.ndarray, *, scale: float | None = None, **profile) -> Path:
    profile = {"transform": Affine(30, 0, 5e5, 0, -30, 6e6), "crs": "EPSG:32632", "dtype": band.dtype, **profile}
    height, width = band.shape
    with rasterio.open(path, "w", driver="GTiff", count=1, height=height, width=width, **profile) as dataset:
        dataset.write(band, 1)
        if scale:
            dataset.scales = (scale,)
    return path


def counts(kelvin: np.ndarray) -> np.ndarray:
    return np.round(kelvin * 100).astype(np.uint16)


def pack_of(*rasters: np.ndarray, names: tuple[str, ...] = ("hill_1", "lake_1", "town_1"), clouds=()) -> LstPack:
    return LstPack(names[: len(rasters)], tuple(counts(raster) for raster in rasters), clouds)


def examples_of(count=6, seed=0, **options) -> LstExamples:
    return make_examples(pack_of(surface()), {"hill": 1.0}, count=count, size=SIZE, seed=seed, **options)


@pytest.fixture(scope="module")
def examples() -> LstExamples:
    return examples_of(24)


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
    pack = load_pack(tmp_path / "out" / "all.npz")
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
    clouds = load_pack(tmp_path / "all.npz").clouds
    assert len(clouds) == 3  # no shape is in an all clear or an overcast sky
    assert all(mask.dtype == np.bool_ for mask in clouds)
    np.testing.assert_array_equal(clouds[0], cloud)
    np.testing.assert_array_equal(clouds[1], cloud)
    np.testing.assert_array_equal(clouds[2], cloud & np.isfinite(holed))


def test_real_rasters_and_clouds_pack(shared: Path, tmp_path: Path):
    source = shared / "data/lst/train/macas_landsat_2015.tif"
    (tmp_path / source.name).symlink_to(source)
    pack_lst(tmp_path, shared / "data/clouds", tmp_path / "all.npz")
    pack = load_pack(tmp_path / "all.npz")
    with rasterio.open(source) as dataset:
        truth = dataset.read(1, masked=True).astype(np.float64) * dataset.scales[0] + dataset.offsets[0]
    known = ~np.ma.getmaskarray(truth) & np.isfinite(truth.data)
    np.testing.assert_array_equal(pack.rasters[0] != 0, known)
    np.testing.assert_allclose(pack.rasters[0][known] * 0.01, truth.data[known], rtol=0, atol=0.00503)
    assert pack.places == ("macas",)
    assert len(pack.clouds) >= 3
    tile = draw_tile(pack, {"macas": 1.0}, 64, np.random.default_rng(0))
    assert truth.min() <= tile.min() < tile.max() <= truth.max()


def test_only_keeps_the_places_that_are_wanted_and_every_cloud():
    pack = pack_of(surface(), surface(seed=1), names=("hill_1", "lake_1"), clouds=(np.ones((2, 2), bool),))
    kept = pack.only(lambda place: place == "lake")
    assert kept.names == ("lake_1",)
    assert kept.rasters == (pack.rasters[1],)
    assert kept.clouds == pack.clouds


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
    monkeypatch.setattr(datasets, "MAX_PACK_BYTES", 1000)
    with pytest.raises(TrainingError, match="MiB, more than 50 MiB: give fewer rasters"):
        pack_lst(tmp_path, None, tmp_path / "all.npz")
    assert (tmp_path / "all.npz").read_bytes() == b"the one before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.npz", "hill_1.tif"]


def damaged_packs(tmp_path: Path) -> dict[str, Path]:
    """Files that are no packs, by what is wrong with them."""
    write(tmp_path / "hill_1.tif", surface((200, 200)).astype("f4"))
    whole = tmp_path / "whole.npz"
    pack_lst(tmp_path, None, whole)
    content = whole.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    broken = {
        "nothing": b"",
        "cut in the header": content[:20],
        "cut in the middle": content[: len(content) // 2],
        "cut at the end": content[:-1],
        "damaged": bytes(flipped),
        "text": b"PLACE,LST\nhill,300\n",
        "pickle": b"\x80\x04K\x01.",
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", **{"lst/hill": np.array([{}], dtype=object)})
    return {name: tmp_path / name for name in (*broken, "array.npy", "objects.npz", "missing", "")}


def test_files_that_are_no_whole_pack(tmp_path: Path):
    for name, file in damaged_packs(tmp_path).items():
        with pytest.raises(TrainingError, match=r"is not a whole pack \(.+\): write it again with") as caught:
            load_pack(file)
        assert str(file) in str(caught.value), name
        assert "\n" not in str(caught.value), name


def test_array_file_of_something_else(tmp_path: Path):
    np.savez(tmp_path / "other.npz", z=np.zeros(3))
    with pytest.raises(TrainingError, match="holds no LST raster: write it again with `lacunar train --pack`"):
        load_pack(tmp_path / "other.npz")


def test_a_pack_trains_without_any_geospatial_library(tmp_path: Path):
    write(tmp_path / "hill_1.tif", surface().astype("f4"))
    pack_lst(tmp_path, None, tmp_path / "all.npz")
    script = """if True:
        import sys
        from pathlib import Path
        for name in ("rasterio", "osgeo", "rioxarray", "affine", "pyproj"):
            sys.modules[name] = None  # importing it is an ImportError
        from lacunar.datasets import load_pack, make_examples
        pack = load_pack(Path(sys.argv[1]))
        print(pack.places, make_examples(pack, {"hill": 1.0}, count=1, size=16, seed=0).z.shape)
    """
    run = [sys.executable, "-W", "error", "-c", script, str(tmp_path / "all.npz")]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "('hill',) (1, 16, 16)\n"


# --- tiles and examples ---


def test_a_tile_is_a_block_mean_of_a_fully_known_window():
    # Counts that tell their place: the value is 10000 + 100 row + col, whose block mean is that of the block's centre.
    rows, cols = np.indices((60, 60))
    raster = (10000 + 100 * rows + cols).astype(np.uint16)
    raster[:, 50:] = 0
    pack, rng, seen = LstPack(("hill_1",), (raster,), ()), np.random.default_rng(0), []
    for _ in range(200):
        tile = draw_tile(pack, {"hill": 1.0}, SIZE, rng) / 0.01
        reduction = round(tile[0, 1] - tile[0, 0])
        seen.append(reduction)
        np.testing.assert_allclose(np.diff(tile, axis=1), reduction, atol=1e-6)
        np.testing.assert_allclose(np.diff(tile, axis=0), 100 * reduction, atol=1e-6)
        last_row, last_col = divmod(tile[-1, -1] - 10000 + 101 * (reduction - 1) / 2, 100)
        assert last_row < 60
        assert last_col < 50
    for reduction, share in REDUCTIONS.items():
        # Fewer windows of a larger side fit beside the unknown columns, but each side occurs.
        assert seen.count(reduction) / len(seen) == pytest.approx(share, abs=0.12)


def test_places_are_drawn_by_their_weights():
    flat = [np.tile(np.array([[300.0, 300.01]]), (20, 10)) + 10 * i for i in range(4)]
    names = ("hill_1", "lake_1", "lake_2", "town_1")
    pack, rng = pack_of(*flat, names=names), np.random.default_rng(0)
    drawn = [round((draw_tile(pack, {"hill": 3.0, "lake": 1.0}, 20, rng).mean() - 300) / 10) for _ in range(400)]
    assert np.bincount(drawn, minlength=4) / 400 == pytest.approx([0.75, 0.125, 0.125, 0], abs=0.05)


def test_an_example_gives_back_its_field():
    """Where a raster is one tile the field is known: standardised by the mean and deviation of its known pixels."""
    truth, clipped = surface((SIZE, SIZE)), 0
    drawn = make_examples(pack_of(truth), {"hill": 1.0}, count=20, size=SIZE, seed=3)
    for z, base, spread in zip(drawn.z, drawn.base, drawn.spread, strict=True):
        known = spread == 0
        assert RATES[0] - 0.01 < (~known).mean() < RATES[1] + 0.01
        tile = counts(truth) * 0.01
        field = (tile - tile[known].mean()) / tile[known].std()
        assert not z[known].any()
        np.testing.assert_allclose(base[known], field[known], rtol=1e-3, atol=1e-3)
        whole = np.abs(z) < datasets.MAX_ABS_Z
        clipped += (~whole).sum()
        rebuilt = z.astype(float) * spread + base
        # Three numbers in float16, of at most 6, 2 and 8 in magnitude.
        np.testing.assert_allclose(rebuilt[whole], field[whole], rtol=0, atol=0.02)
    assert clipped < 0.02 * drawn.z.size


def test_the_residuals_are_those_of_a_calibrated_kriging(examples: LstExamples):
    z = examples.z[examples.spread > 0].astype(float)
    assert 0.4 < z.std() < 1.6
    assert abs(z.mean()) < 0.3


def test_an_example_depends_on_the_seed_and_its_number_alone(examples: LstExamples):
    few, parallel, other = examples_of(5), examples_of(24, workers=2), examples_of(5, seed=1)
    for name in ("z", "base", "spread"):
        whole = getattr(examples, name)
        assert whole.dtype == np.float16
        np.testing.assert_array_equal(whole[:5], getattr(few, name))
        np.testing.assert_array_equal(whole, getattr(parallel, name))
        assert not np.array_equal(whole[:5], getattr(other, name))
        assert not np.array_equal(whole[0], whole[1])


def test_more_examples_than_a_worker_takes_at_once_stay_in_order():
    draw = datasets._mapped(lambda_free_square, 100, 2)
    assert [int(value[0]) for value in draw] == [i * i for i in range(100)]


def lambda_free_square(index: int) -> tuple[np.ndarray, ...]:
    """At module level, so that it can be sent to a worker."""
    return (np.array(index * index),)


def test_real_clouds_are_used_where_they_are_large_enough():
    stripe = np.zeros((64, 64), bool)
    stripe[:, 20:40] = True
    with_cloud = pack_of(surface(), clouds=(stripe, np.ones((4, 4), bool)))
    only_small = pack_of(surface(), clouds=(np.ones((4, 4), bool),))
    weights, options = {"hill": 1.0}, {"count": 8, "size": SIZE, "seed": 0}
    without = make_examples(pack_of(surface()), weights, **options)
    np.testing.assert_array_equal(make_examples(only_small, weights, **options).z, without.z)
    assert not np.array_equal(make_examples(with_cloud, weights, **options).z, without.z)
    assert sum(PATTERN_SHARES.values()) == pytest.approx(1)


def test_progress_counts_every_example():
    calls = []
    examples_of(3, progress=lambda done, count: calls.append((done, count)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_places_that_the_pack_lacks():
    with pytest.raises(TrainingError, match="the pack has no raster of lake, town; it has hill"):
        make_examples(pack_of(surface()), {"town": 1.0, "hill": 1.0, "lake": 1.0}, count=1, size=SIZE, seed=0)


@pytest.mark.parametrize("raster", [surface((15, 60)), np.full((40, 40), 300.0)], ids=["small", "flat"])
def test_rasters_without_a_whole_tile(raster: np.ndarray):
    with pytest.raises(TrainingError, match="no fully known tile of 16 pixels in 200 tries: the rasters are too small"):
        make_examples(pack_of(raster), {"hill": 1.0}, count=1, size=SIZE, seed=0)


def test_examples_are_saved_and_loaded(tmp_path: Path, examples: LstExamples):
    examples.save(tmp_path / "examples.npz")
    loaded = LstExamples.load(tmp_path / "examples.npz")
    for name in ("z", "base", "spread"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(examples, name))
    assert [path.name for path in tmp_path.iterdir()] == ["examples.npz"]
    content = (tmp_path / "examples.npz").read_bytes()
    (tmp_path / "examples.npz").write_bytes(content[:-100])
    with pytest.raises(TrainingError, match=r"holds no whole examples \(.+\): delete it, to have them drawn"):
        LstExamples.load(tmp_path / "examples.npz")
