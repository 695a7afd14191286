"""`lacunar water` as a user runs it, with a segmenter that needs no training: every output, and what it says."""

import csv
import json
import math
import re

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from PIL import ExifTags, Image

from commands import bands_of, contents, write
from lacunar.segment import job
from lacunar.segment.job import WaterOptions, segment_file
from water_models import Block, lake_scene, plain_model, plain_segmenter, stand_in

BANDS = ("--bands", "blue,green,red,nir")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    stand_in(monkeypatch)


def counted(values):
    return (values * 10000).round().astype(np.uint16)


def features(path):
    meta, _, geometry, columns = pyogrio.raw.read(path)
    return meta, shapely.from_wkb(geometry), dict(zip(meta["fields"], columns, strict=True))


@pytest.fixture
def raster(tmp_path):
    """A lake with an island, its raster, and where it is not valid."""
    values, lake = lake_scene()
    stored = counted(values)
    stored[:, :3] = 0
    return write(tmp_path / "lake_20240813.tif", stored, nodata=0), lake


def picture(path, values, dtype=np.uint8):
    high = np.iinfo(dtype).max
    stored = (np.clip(values / 0.4, 0, 1) * high).astype(dtype)
    shape = {"count": len(stored), "height": stored.shape[1], "width": stored.shape[2], "dtype": stored.dtype.name}
    with rasterio.open(path, "w", driver="PNG", **shape) as dataset:
        dataset.write(stored)
    return path


# --- one image ---


def test_a_raster_with_every_output(raster, out, lacunar):
    path, lake = raster
    options = ("--polygons", out / "lakes.gpkg", "--figure", out / "map.png", "--samples", 3, "--steps", 2, *BANDS)
    ran = lacunar("water", path, "-o", out / "water.tif", *options)
    assert (ran.code, ran.err) == (0, "")
    assert set(contents(out)) == {"water.tif", "water.json", "lakes.gpkg", "map.png"}
    water, probability, disagreement = bands_of(out / "water.tif")
    assert (water[:3] == 255).all()
    np.testing.assert_array_equal(water[3:] == 1, lake[3:])
    assert (probability[3:][lake[3:]] > 0.5).all()
    assert (disagreement[3:] > 0).all()
    record = json.loads((out / "water.json").read_text())
    assert record["pixels"] == {"water": int(lake.sum()), "land": int((~lake[3:]).sum()), "nodata": 210}
    assert record["bands"] == ["blue", "green", "red", "nir"]
    assert record["units"] == "reflectance x 10,000, from the range of the values"
    assert record["water"]["area_m2"] == pytest.approx(900 * lake.sum(), rel=2e-3)
    assert (record["water"]["bodies"], record["water"]["bodies_in_polygons"]) == (1, 1)
    assert (record["steps"], record["samples"], record["fusion"], record["threshold"]) == (2, 3, "mean", 0.5)
    assert record["model"] == {"name": "water-classes", "sha256": "0" * 64}
    assert record["date"] == "2024-08-13"
    assert record["command"].startswith("lacunar water ")
    meta, (outline,), columns = features(out / "lakes.gpkg")
    assert meta["crs"] == "EPSG:32632"
    assert [len(part.interiors) for part in outline.geoms] == [1]
    assert columns["area_m2"][0] == pytest.approx(record["water"]["area_m2"])
    assert columns["mean_probability"][0] == pytest.approx(probability[lake].mean(), rel=1e-5)
    assert "1 water body, 0.661 ± 0.017 km2, 18.4% of what is valid; " in ran.out
    assert f"polygons: {out / 'lakes.gpkg'} (1)" in ran.out


def test_bodies_that_ndwi_contradicts_are_counted(raster, out, lacunar, monkeypatch):
    def upside_down(*given, **options):
        return (Block(block.window, 1 - block.samples, block.cover) for block in plain_segmenter(*given, **options))

    told = ("water", raster[0], *BANDS, "--polygons", out / "lakes.gpkg")
    assert "NDWI" not in lacunar(*told, "-o", out / "a.tif").out
    np.testing.assert_allclose(features(out / "lakes.gpkg")[2]["mean_ndwi"], [0.7], atol=0.05)
    monkeypatch.setattr(job, "segment_blocks", upside_down)
    ran = lacunar(*told, "-o", out / "b.tif", "--overwrite")
    assert "note: 2 of 2 water bodies (100.0% of the water) have an NDWI below -0.2, as land has" in ran.out


def test_json_is_the_record(raster, out, lacunar):
    ran = lacunar("water", raster[0], "-o", out / "water.tif", *BANDS, "--json")
    assert json.loads(ran.out) == json.loads((out / "water.json").read_text())


def test_the_same_seed_gives_the_same_map(raster, out, lacunar):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert lacunar("water", raster[0], "-o", out / f"{name}.tif", *BANDS, "--seed", seed).code == 0
    a, b, c = (bands_of(out / f"{name}.tif") for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_gets_a_mask_and_an_overlay(tmp_path, out, lacunar, dtype):
    values, lake = lake_scene()
    path = picture(tmp_path / "lake.png", values[[3, 2, 1]], dtype)
    ran = lacunar("water", path, "-o", out / "mask.png", "--bands", "nir,red,green", "--polygons", out / "a.geojson")
    assert (ran.code, ran.err) == (0, "")
    assert set(contents(out)) == {"mask.png", "mask_overlay.png", "mask.json", "a.geojson"}
    with rasterio.open(out / "mask.png") as dataset:
        assert (dataset.count, dataset.dtypes[0]) == (1, "uint8")
        np.testing.assert_array_equal(dataset.read(1), np.where(lake, 255, 0))
    with rasterio.open(out / "mask_overlay.png") as dataset:
        assert (dataset.count, dataset.shape) == (3, lake.shape)
    record = json.loads((out / "mask.json").read_text())
    assert (record["kind"], record["units"]) == ("picture", f"{8 * np.dtype(dtype).itemsize}-bit picture")
    assert record["water"]["area_pixels"] == lake.sum()
    assert record["bands_written"] == ["water"]
    assert "note: the image has no CRS: areas, perimeters and polygons are in pixels" in ran.out
    _, (outline,), columns = features(out / "a.geojson")
    assert outline.bounds == (20.0, 15.0, 50.0, 40.0)
    assert columns["area_pixels"].tolist() == [lake.sum()]


def test_a_picture_is_mapped_upright(tmp_path, out, lacunar):
    """A telephone stores the picture on its side, and says so in EXIF."""
    values, lake = lake_scene()
    stored = (np.clip(values[[3, 2, 1]] / 0.4, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # row 0 of the file is the right side of the picture
    Image.fromarray(np.rot90(stored)).save(tmp_path / "lake.png", exif=exif)
    assert lacunar("water", tmp_path / "lake.png", "-o", out / "mask.png", "--bands", "nir,red,green").code == 0
    with Image.open(out / "mask.png") as mask, Image.open(out / "mask_overlay.png") as overlay:
        np.testing.assert_array_equal(np.asarray(mask), np.where(lake, 255, 0))
        assert overlay.size == mask.size


def test_what_is_transparent_is_told(tmp_path, out, lacunar):
    values, lake = lake_scene()
    alpha = np.ones((1, *lake.shape))
    alpha[:, :6] = 0
    path = picture(tmp_path / "lake.png", np.concatenate([values[[3, 2, 1]], alpha]))
    ran = lacunar("water", path, "-o", out / "mask.png", "--bands", "nir,red,green")
    assert ran.code == 0, ran.err
    assert "note: 10.0% of the image is not valid: black in the mask" in ran.out
    record = json.loads((out / "mask.json").read_text())
    assert record["pixels"] == {"water": lake.sum(), "land": (~lake)[6:].sum(), "nodata": 6 * lake.shape[1]}


def test_a_picture_may_become_a_tiff_too(tmp_path, out, lacunar):
    values, lake = lake_scene()
    path = picture(tmp_path / "lake.png", values[[3, 2, 1]])
    assert lacunar("water", path, "-o", out / "water.tif", "--bands", "nir,red,green").code == 0
    np.testing.assert_array_equal(bands_of(out / "water.tif")[0] == 1, lake)


def test_an_image_smaller_than_a_tile(tmp_path, out, lacunar):
    values, lake = lake_scene((3, 2), rows=slice(0, 3), cols=slice(0, 1))
    path = write(tmp_path / "tiny.tif", counted(values))
    assert lacunar("water", path, "-o", out / "water.tif", *BANDS).code == 0
    np.testing.assert_array_equal(bands_of(out / "water.tif")[0], lake)


@pytest.mark.parametrize(("name", "count"), [("land", 0), ("water", 1)])
@pytest.mark.parametrize("ending", ["gpkg", "geojson"])
def test_all_land_and_all_water_work(tmp_path, out, lacunar, name, count, ending):
    values, _ = lake_scene(rows=slice(0, 0) if name == "land" else slice(0, 60), cols=slice(0, 70))
    values = values if name == "land" else np.where(values[3] > 0.1, values[:, :1, :1], values)
    path = write(tmp_path / "in.tif", counted(values))
    options = ("--polygons", out / f"lakes.{ending}", "--figure", out / "map.png", *BANDS)
    ran = lacunar("water", path, "-o", out / "water.tif", *options)
    assert (ran.code, ran.err) == (0, "")
    assert len(features(out / f"lakes.{ending}")[1]) == count
    pixels = json.loads((out / "water.json").read_text())["pixels"]
    assert pixels == {"water": 4200 * count, "land": 4200 * (1 - count), "nodata": 0}


def test_areas_of_a_geographic_crs_are_square_metres(tmp_path, out, lacunar):
    values, lake = lake_scene()
    side = 0.0003
    where = Affine(side, 0, 10.0, 0, -side, 60.0)
    path = write(tmp_path / "in.tif", counted(values), crs="EPSG:4326", transform=where)
    assert lacunar("water", path, "-o", out / "water.tif", "--polygons", out / "lakes.gpkg", *BANDS).code == 0
    record = json.loads((out / "water.json").read_text())
    metre = math.radians(side) * 6_371_000
    assert record["water"]["area_m2"] == pytest.approx(lake.sum() * metre**2 * math.cos(math.radians(60)), rel=6e-3)


def test_small_bodies_are_left_out_of_the_polygons_alone(tmp_path, out, lacunar):
    values, lake = lake_scene()
    values[:, 50, 60] = values[:, 16, 21]
    lake[50, 60] = True
    path = write(tmp_path / "in.tif", counted(values))
    options = ("--polygons", out / "lakes.gpkg", "--min-area", 5000, *BANDS)
    assert lacunar("water", path, "-o", out / "water.tif", *options).code == 0
    record = json.loads((out / "water.json").read_text())["water"]
    assert (record["bodies"], record["bodies_in_polygons"], record["min_area"]) == (2, 1, 5000.0)
    np.testing.assert_array_equal(bands_of(out / "water.tif")[0] == 1, lake)


def test_bodies_of_three_pixels_are_left_out_unless_they_are_asked_for(tmp_path, out, lacunar):
    values, _ = lake_scene()
    values[:, 50, 60:63] = values[:, 16, 21:24]
    path = write(tmp_path / "in.tif", counted(values))
    for name, more, kept in (("usual", (), 1), ("all", ("--min-area", 0), 2)):
        polygons = out / f"{name}.gpkg"
        ran = lacunar("water", path, "-o", out / f"{name}.tif", "--polygons", polygons, *more, *BANDS)
        assert len(features(polygons)[1]) == kept
        assert ("polygons of fewer than 4 pixels are left out (1); --min-area 0 keeps them" in ran.out) == (kept == 1)
        assert json.loads((out / f"{name}.json").read_text())["water"]["bodies"] == 2


def test_simplified_polygons_have_the_area_of_the_pixels(raster, out, lacunar):
    options = ("--polygons", out / "lakes.gpkg", "--simplify", 2, *BANDS)
    assert lacunar("water", raster[0], "-o", out / "water.tif", *options).code == 0
    _, (outline,), columns = features(out / "lakes.gpkg")
    assert columns["area_m2"][0] == pytest.approx(900 * raster[1].sum(), rel=2e-3)
    assert shapely.get_num_coordinates(outline) <= 10


@pytest.mark.parametrize("fusion", ["mean", "staple"])
def test_a_threshold(raster, out, lacunar, fusion):
    for threshold in (0.1, 0.9):
        name = f"{threshold}.tif"
        told = ("--threshold", threshold, "--fusion", fusion, *BANDS)
        assert lacunar("water", raster[0], "-o", out / name, *told).code == 0
        water, probability, _ = bands_of(out / name)
        np.testing.assert_array_equal(water == 1, (probability >= np.float32(threshold)) & (probability <= 1))
    assert set(contents(out)) == {"0.1.tif", "0.1.json", "0.9.tif", "0.9.json"}


def test_a_landsat_product_needs_no_options(simulated_64, out, lacunar):
    ran = lacunar("water", simulated_64.folder, "-o", out / "water.tif")
    assert (ran.code, ran.err) == (0, "")
    record = json.loads((out / "water.json").read_text())
    assert record["kind"] == "product"
    assert record["crs"] == "EPSG:32619"
    assert record["units"] == "top-of-atmosphere reflectance by the coefficients of the MTL file"


def test_real_products_and_scenes(shared, out, lacunar):
    data = shared / "data"
    maui = data / "landsat" / "LC09_L1TP_063046_20230714_20230714_02_T1"
    assert lacunar("water", maui, "-o", out / "maui.tif", "--polygons", out / "maui.gpkg").code == 0
    record = json.loads((out / "maui.json").read_text())
    assert (record["crs"], record["bands"][0], record["bands"][-1]) == ("EPSG:32605", "blue", "swir2")
    assert 35e6 < record["water"]["area_m2"] < 45e6  # the channel west of Lahaina
    for name in ("glacial_nrg", "multispectral6"):
        image = next(p for p in sorted((data / "water" / "train" / name).iterdir()) if "_mask" not in p.name)
        bands = {"glacial_nrg": "nir,red,green", "multispectral6": "blue,green,red,nir,swir1,swir2"}[name]
        assert lacunar("water", image, "-o", out / f"{name}.tif", "--bands", bands).code == 0


def test_overwriting(raster, out, lacunar):
    for name in ("water.tif", "water.json"):
        (out / name).write_text("old")
    assert lacunar("water", raster[0], "-o", out / "water.tif", *BANDS, "--overwrite").code == 0
    assert bands_of(out / "water.tif").shape == (3, 60, 70)


def test_the_library_does_what_the_command_does(raster, out):
    asked = []
    options = WaterOptions(bands=("blue", "green", "red", "nir"), steps=2, samples=3)
    record = segment_file(raster[0], out / "a.tif", options=options, callback=lambda *counts: asked.append(counts))
    assert record == json.loads((out / "a.json").read_text())
    assert asked == [(1, 4), (2, 4), (3, 4), (4, 4)]


# --- several dates ---


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def date_of_lake(path, cols, **more):
    values, lake = lake_scene(cols=cols)
    write(path, counted(values), **more)
    return lake


def test_lakes_over_time(tmp_path, out, lacunar):
    folder = out / "change"
    paths = [tmp_path / f"lake_{year}0813.tif" for year in (2022, 2023, 2024)]
    lakes = [date_of_lake(path, slice(first, 50)) for path, first in zip(paths, (20, 22, 18), strict=True)]
    ran = lacunar("water", *paths, "-o", folder, "--change", *BANDS)
    assert (ran.code, ran.err) == (0, "")
    maps = [f"{i:02d}_{path.name}" for i, path in enumerate(paths, start=1)]
    assert set(contents(folder)) == {*maps, "areas.csv", "change.gpkg", "change.png", "change.json"}
    rows = table(folder / "areas.csv")
    assert [row["date"] for row in rows] == ["2022-08-13", "2023-08-13", "2024-08-13"]
    for row, lake in zip(rows, lakes, strict=True):
        assert float(row["water_m2"]) == pytest.approx(900 * lake.sum(), rel=2e-3)
        assert (row["bodies"], row["valid_share"]) == ("1", "1.0")
    assert [rows[0]["gained_m2"], rows[0]["lost_m2"]] == ["", ""]
    for row, before, after in zip(rows[1:], lakes, lakes[1:], strict=False):
        assert float(row["gained_m2"]) == pytest.approx(900 * (after & ~before).sum(), rel=2e-3)
        assert float(row["lost_m2"]) == pytest.approx(900 * (before & ~after).sum(), rel=2e-3)
    _, outlines, columns = features(folder / "change.gpkg")
    assert columns["change"].tolist() == ["lost", "gained"]
    assert columns["from_date"].tolist() == ["2022-08-13", "2023-08-13"]
    assert columns["to_date"].tolist() == ["2023-08-13", "2024-08-13"]
    np.testing.assert_allclose(shapely.area(outlines), [900 * 2 * 25, 900 * 4 * 25])
    record = json.loads((folder / "change.json").read_text())
    assert [one["water_m2"] for one in record["dates"]] == [float(row["water_m2"]) for row in rows]
    assert re.search(
        r"2022-08-13: 0.661 ± 0.0\d+ km2\n2023-08-13: 0.6159 ± 0.0\d+ km2 \(gained 0 km2, lost 0.04", ran.out
    )


def test_a_series_of_pictures_takes_years_from_their_names(tmp_path, out, lacunar):
    paths = [tmp_path / f"lake_{year}.png" for year in (1985, 1990, 2020)]
    for path, first in zip(paths, (20, 30, 25), strict=True):
        picture(path, lake_scene(cols=slice(first, 50))[0][[3, 2, 1]])
    given = ("--series", "--pixel-size", 90, "--bands", "nir,red,green")
    ran = lacunar("water", *paths, "-o", out / "series", *given)
    assert (ran.code, ran.err) == (0, "")
    assert {"series.png", "change.png", "areas.csv"} <= set(contents(out / "series"))
    rows = table(out / "series" / "areas.csv")
    assert all(0 < float(row["sigma_pixels"]) < 0.1 * float(row["water_pixels"]) for row in rows)
    assert f"series:   {out / 'series' / 'series.png'}" in ran.out
    paths[2].rename(tmp_path / "lake_now.png")
    ran = lacunar("water", *paths[:2], tmp_path / "lake_now.png", "-o", out / "none", *given)
    assert ran.code == 2
    assert "lake_now.png: no date in its name or metadata" in ran.err


def test_a_date_on_another_grid_is_brought_to_the_first(tmp_path, out, lacunar):
    first, second = tmp_path / "a.tif", tmp_path / "b.tif"
    lake = date_of_lake(first, slice(20, 50))
    where = Affine(30.0, 0.0, 400000.0 - 15 * 30.0, 0.0, -30.0, 5700000.0)
    date_of_lake(second, slice(35, 65), transform=where)  # the same place, 15 pixels further left
    ran = lacunar("water", first, second, "-o", out / "change", "--change", *BANDS)
    assert (ran.code, ran.err) == (0, "")
    rows = table(out / "change" / "areas.csv")
    assert [row["image"] for row in rows] == ["a.tif", "b.tif"]
    assert float(rows[1]["valid_share"]) == pytest.approx(55 / 70, abs=0.01)
    moved = bands_of(out / "change" / "02_b.tif")[0]
    seen = moved != 255
    assert (moved[seen] == lake[seen]).mean() > 0.97  # but for the island, which stays where it was in the other image
    assert seen[:, :54].all()


def test_what_one_date_does_not_see_is_no_change(tmp_path, out, lacunar):
    values, lake = lake_scene()
    clouded = counted(values)
    clouded[:, :, :35] = 0
    paths = [write(tmp_path / "a.tif", counted(values)), write(tmp_path / "b.tif", clouded, nodata=0)]
    assert lacunar("water", *paths, "-o", out / "change", "--change", *BANDS).code == 0
    row = table(out / "change" / "areas.csv")[1]
    assert (row["gained_m2"], row["lost_m2"]) == ("0.0", "0.0")
    assert float(row["water_m2"]) == pytest.approx(900 * lake[:, 35:].sum(), rel=2e-3)


def test_change_of_pictures_is_in_pixels(tmp_path, out, lacunar):
    for name, cols in (("a", slice(20, 50)), ("b", slice(30, 50))):
        picture(tmp_path / f"{name}.png", lake_scene(cols=cols)[0][[3, 2, 1]])
    paths = (tmp_path / "a.png", tmp_path / "b.png")
    ran = lacunar("water", *paths, "-o", out / "change", "--change", "--bands", "nir,red,green")
    assert (ran.code, ran.err) == (0, "")
    assert table(out / "change" / "areas.csv")[1]["lost_pixels"] == "250.0"
    assert ran.out.count("note: the image has no CRS") == 1


def test_values_that_the_model_never_saw_are_told(raster, out, lacunar, monkeypatch):
    def model(name, device="cpu", backend="eager"):
        loaded = plain_model(name)
        loaded.card.ranges = {"blue": (0, 9), "nir": (0.1, 9)}  # the lake is darker: 900 pixels less an island
        return loaded

    monkeypatch.setattr(job, "load_segmenter", model)
    ran = lacunar("water", raster[0], "-o", out / "water.tif", *BANDS)
    told = "18.4% of the image has values that water-classes saw in no training (nir): probabilities there are drawn"
    assert f"note: {told} towards 0.5" in ran.out
    monkeypatch.setattr(job, "MUCH_BEYOND", 0.2)
    assert "saw in no training" not in lacunar("water", raster[0], "-o", out / "again.tif", *BANDS).out
