"""Dates of an archive: the best are chosen, what cannot be used is left out, and the record says both."""

import json
import shutil

import numpy as np
import pytest
from affine import Affine
from scipy import ndimage

import lacunar as lc
from commands import bands_of, write
from lacunar.errors import LacunarError
from lacunar.fill import archive_choice as choosing
from lacunar.fill import guides
from lacunar.sensors.simulated import PRODUCT_ID
from products import edit_mtl, file_of, rewrite

SHAPE = (96, 100)
GRID = Affine(30.0, 0.0, 400000.0, 0.0, -30.0, 5700000.0)


def smooth(seed, width=4):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), width, mode="wrap")
    return field / field.std()


def land(seed=0, own=0.4):
    """One date of the place, kelvin: what all dates share, and something of its own."""
    return (300 + 3 * smooth(99) + own * smooth(seed)).astype(np.float32)


def gap(rows=slice(30, 60), cols=slice(30, 70)):
    missing = np.zeros(SHAPE, bool)
    missing[rows, cols] = True
    return missing


def with_gap(values, missing):
    return np.where(missing, np.nan, values).astype(np.float32)


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    write(folder / "place_20230710.tif", with_gap(land(1), gap()), units="K")
    return folder


def filled(archive, how="auto", target="place_20230710.tif", **options):
    """The record of a fill of the target."""
    options = {"preset": "instant", "overwrite": True} | options
    return lc.fill_file(archive / target, archive.parent / "out.tif", archive=how, **options)


def chosen_of(record):
    return [entry["path"].rpartition("/")[2] for entry in record["reference_choice"]["chosen"]]


def reasons_of(record):
    return {entry["path"].rpartition("/")[2]: entry["why"] for entry in record["reference_choice"]["left_out"]}


def test_the_dates_that_tell_most_come_first(archive, tiny_folder):
    write(archive / "place_20220712.tif", land(2), units="K")  # alike, clear, of the season
    write(archive / "place_20220701.tif", with_gap(land(3), gap(cols=slice(20, 60))), units="K")  # cloud over the gap
    write(archive / "place_20230110.tif", land(4, own=6.0), units="K")  # unlike
    record = filled(archive, "nearest:2", model=str(tiny_folder))
    best, second = record["reference_choice"]["chosen"]
    assert chosen_of(record)[0] == "place_20220712.tif"
    assert best["days_apart"] == 363
    assert best["season_days_apart"] == 2
    assert best["overlap"] == best["share_of_gap"] == 1.0
    assert best["similarity"] > 0.9
    assert best["score"] > second["score"]
    assert "2 others tell more" in reasons_of(record).values()
    assert reasons_of(record)["place_20230710.tif"] == "it is the input"
    assert [entry["path"].rpartition("/")[2] for entry in record["references"]] == chosen_of(record)
    everything = filled(archive, model=str(tiny_folder))
    assert chosen_of(everything) == ["place_20220712.tif", "place_20220701.tif", "place_20230110.tif"]
    assert everything["reference_choice"]["most"] == 11


def test_what_cannot_be_used_is_left_out_and_said(archive, tiny_folder):
    write(archive / "a_copy_20230710.tif", land(1), units="K")  # equal to the input where that is measured
    write(archive / "b_20230601.tif", land(2), units="K")
    write(archive / "b_again_20230601.tif", land(2), units="K")
    write(archive / "celsius_20230620.tif", land(3) - np.float32(273.15), units="degC")
    write(archive / "celsius_unsaid_20230621.tif", land(4) - np.float32(273.15))
    write(archive / "clouded_20230622.tif", np.full(SHAPE, np.nan, np.float32), units="K")
    write(archive / "elsewhere_20230623.tif", land(5), units="K", transform=GRID @ Affine.translation(5000, 0))
    write(archive / "other_half_20230624.tif", with_gap(land(6), ~gap()), units="K")  # measured under the cloud alone
    write(archive / "three_20230625.tif", np.stack([land(7)] * 3), units="K")
    write(archive / "utm33_20230626.tif", land(8), units="K", crs="EPSG:32633")
    (archive / "broken.tif").write_text("no raster")
    (archive / "notes.txt").write_text("not looked at")
    record = filled(archive, model=str(tiny_folder))
    why = reasons_of(record)
    assert sorted(chosen_of(record)) == ["b_20230601.tif", "celsius_20230620.tif"]
    assert "converted from degC to K" in str(record["references"])
    for name, reason in {
        "a_copy_20230710.tif": "it holds the values of the input",
        "b_again_20230601.tif": "it holds the values of",
        "celsius_unsaid_20230621.tif": "tag degrees Celsius with the unit degC",
        "clouded_20230622.tif": "0 measured pixels in common",
        "elsewhere_20230623.tif": "does not overlap the input",
        "other_half_20230624.tif": "0 measured pixels in common",
        "three_20230625.tif": "has 3 bands",
        "utm33_20230626.tif": "does not overlap the input",
        "broken.tif": "not a raster that can be opened",
        "place_20230710.tif": "it is the input",
    }.items():
        assert reason in why.pop(name)
    assert not why


def test_another_crs_of_the_same_place_is_warped(archive, tiny_folder):
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    left, top, right, bottom = 400000, 5700000, 400000 + 30 * SHAPE[1], 5700000 - 30 * SHAPE[0]
    place, width, height = calculate_default_transform(
        "EPSG:32632", "EPSG:4326", *SHAPE[::-1], left, bottom, right, top
    )
    there = np.full((height, width), np.nan, np.float32)
    how = {"src_transform": GRID, "src_crs": "EPSG:32632", "dst_transform": place, "dst_crs": "EPSG:4326"}
    reproject(land(2), there, **how, dst_nodata=np.nan, resampling=Resampling.bilinear)
    write(archive / "degrees_20230601.tif", there, units="K", crs="EPSG:4326", transform=place)
    record = filled(archive, model=str(tiny_folder))
    assert record["reference_choice"]["chosen"][0]["similarity"] > 0.9
    assert record["references"][0]["warped"]


def test_an_archive_of_one_date_is_filled_without_references(archive, tiny_folder):
    record = filled(archive, model=str(tiny_folder))
    assert record["references"] == record["reference_choice"]["chosen"] == []
    plain = lc.fill_file(
        archive / "place_20230710.tif", archive.parent / "plain.tif", preset="instant", model=str(tiny_folder)
    )
    assert "reference_choice" not in plain
    np.testing.assert_array_equal(bands_of(archive.parent / "out.tif"), bands_of(archive.parent / "plain.tif"))


def test_two_hundred_dates_are_opened_one_at_a_time(archive, tiny_folder, monkeypatch):
    one = write(archive / "x_000.tif", land(2), units="K")
    for number in range(1, 199):
        shutil.copy(one, archive / f"x_{number:03d}.tif")
    write(archive / "y.tif", land(3), units="K")
    opened, most_at_once = [], []
    real = choosing.open_scene

    def counting(*arguments, **how):
        scene = real(*arguments, **how)
        opened.append(scene)
        scene._open_files.callback(opened.remove, scene)
        most_at_once.append(len(opened))
        return scene

    monkeypatch.setattr(choosing, "open_scene", counting)
    record = filled(archive, model=str(tiny_folder))
    assert record["reference_choice"]["candidates"] == 201
    assert len(most_at_once) == 200
    assert max(most_at_once) == 1
    assert sorted(chosen_of(record)) == ["x_000.tif", "y.tif"]


def dated(product, folder, day, *, cloud):
    """A copy of a simulated product as if of another day."""
    shutil.copytree(product, folder)
    rewrite(file_of(folder, "QA_PIXEL"), np.where(cloud, 22280, 21824).astype(np.uint16))
    rewrite(file_of(folder, "B10"), bands_of(file_of(folder, "B10"))[0] + np.uint16(20 * int(day[-2:])))
    edit_mtl(folder, (PRODUCT_ID, PRODUCT_ID.replace("20221115", day)), ("2022-11-15", f"2022-11-{day[-2:]}"))
    for path in list(folder.glob(f"{PRODUCT_ID}*")):
        path.rename(folder / path.name.replace(PRODUCT_ID, PRODUCT_ID.replace("20221115", day)))


def test_the_products_of_a_folder_guide_one_another(lacunar, simulated_64, tmp_path, tiny_folder, monkeypatch):
    shape, archive, out = (64, 64), tmp_path / "archive", tmp_path / "filled"
    archive.mkdir()
    for day, rows in (("20221115", slice(4, 20)), ("20221122", slice(24, 40)), ("20221129", slice(44, 60))):
        cloud = np.zeros(shape, bool)
        cloud[rows, 10:50] = True
        dated(simulated_64.folder, archive / f"p{day}", day, cloud=cloud)
    shutil.copytree(archive / "p20221129", archive / "z_again")
    kept, real = [], guides.RasterWriter
    monkeypatch.setattr("lacunar.fill.guides.RasterWriter", lambda path, **how: kept.append(path) or real(path, **how))
    asked = ("--model", tiny_folder, "--preset", "instant", "--references", "auto", "--suspect", "keep")
    ran = lacunar("lst", str(archive / "p*"), "-o", out, *asked)
    assert ran.code == 0
    assert len(kept) == len(set(kept)) == 3  # the LST of each date is computed once, for all targets
    names = {"lacunar_summary.json", *(f"p202211{day}_lst.{end}" for day in (15, 22, 29) for end in ("tif", "json"))}
    assert {path.name for path in out.iterdir()} == names
    record = json.loads((out / "p20221115_lst.json").read_text())
    assert sorted(chosen_of(record)) == ["p20221122", "p20221129"]
    assert "it is of the same pass as" in reasons_of(record)["z_again"]
    assert record["references"][0]["share_of_gap"] == 1.0


@pytest.mark.parametrize("named", ["nearest:0", "nearest:99", "nearest:few", "no_such_folder"])
def test_what_names_no_archive_is_refused(archive, named):
    with pytest.raises(LacunarError, match=r"--references .*: wanted"):
        filled(archive, named)
