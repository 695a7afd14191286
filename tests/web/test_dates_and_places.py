"""Bands, suspect places, other dates of water, and the pages of options."""

import io

import numpy as np
import pytest
import rasterio

from commands import bands_of, write
from lacunar.cli.serving import options_page
from lacunar.geo.raster import RasterSource
from lacunar.segment import api
from lacunar.segment.job import WaterOptions, compare_dates
from lacunar.web import worker
from lacunar.web.app import STATIC
from lacunar.web.regions import lakes_of, write_change
from surfaces import surface
from water_models import lake_scene, model_of_classes, plain_segmenter, stand_in
from web_client import API
from web_inputs import write_inputs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the test client


def opened(web, **asked):
    told = web.opened(web.post(f"{API}/rasters", json=asked).json()["id"])
    assert (told["state"], told.get("error")) == ("ready", None)
    return told


@pytest.fixture(scope="module")
def folder(web):
    """The folder that the server shows, with the inputs."""
    write_inputs(web.service.store.root)
    return web.service.store.root


def test_a_band_is_chosen_and_the_command_names_it(web, folder):
    both = opened(web, path="two.tif")
    assert (both["bands_of_file"], both["band"]) == (["band_1", "band_2"], 1)
    one = opened(web, raster=both["id"], band=2)
    assert (one["band"], one["bands"][0]) == (2, "value")
    with rasterio.open(folder / "two.tif") as dataset:
        np.testing.assert_array_equal(web.tile(one["id"], "value")[0, :120, :130], dataset.read(2))
    web.put(f"{API}/rasters/{one['id']}/mask", json={"strokes": [{"points": [[30, 30]], "radius": 6}]})
    asked = {"kind": "fill", "raster": one["id"], "preset": "instant"}
    assert "--band=2" in web.post(f"{API}/command", json=asked).json()["command"]
    for window in (None, [10, 10, 50, 60]):
        job = web.ended(web.post(f"{API}/jobs", json={**asked, "window": window}).json()["id"])
        assert (job["state"], job["error"]) == ("done", None)
        assert job["view"]["range"]["value"][0] == pytest.approx(one["range"]["value"][0], abs=3)
    assert one["range"]["value"][0] == pytest.approx(both["range"]["value"][0] + 10, abs=0.01)


def test_an_uploaded_file_can_be_looked_at_in_another_band(web, folder):
    binary = {"Content-Type": "application/octet-stream"}
    content = (folder / "two.tif").read_bytes()
    first = web.post(f"{API}/uploads", params={"name": "up.tif"}, content=content, headers=binary).json()
    web.opened(first["id"])
    second = opened(web, raster=first["id"], band=1)
    assert web.delete(f"{API}/rasters/{first['id']}").status_code == 204
    asked = {"kind": "fill", "raster": second["id"], "preset": "instant", "window": [0, 0, 40, 40]}
    job = web.ended(web.post(f"{API}/jobs", json=asked).json()["id"])
    assert job["error"] is None or "nothing" in job["error"]


def test_suspect_places_are_accepted_and_refused_one_by_one(web, folder):
    raster = opened(web, path="cold.tif")["id"]
    assert web.get(f"{API}/rasters/{raster}/suspects").json() == {"places": None}
    early = web.put(f"{API}/rasters/{raster}/mask", json={"accepted": [1]})
    assert (early.status_code, "looked for" in early.json()["detail"]) == (422, True)
    answer = web.post(f"{API}/rasters/{raster}/suspects")
    assert answer.status_code == 202
    job = web.ended(answer.json()["id"])
    assert (job["state"], job["error"]) == ("done", None)
    assert job["id"] not in [one["id"] for one in web.get(f"{API}/jobs").json()]
    places = web.get(f"{API}/rasters/{raster}/suspects").json()["places"]
    assert [place["number"] for place in places[:2]] == [1, 2]
    assert places[0]["pixels"] > places[1]["pixels"]
    assert places[0]["colder"] == pytest.approx(25, abs=4)
    top, left, bottom, right = places[0]["box"]
    assert 34 <= top < bottom <= 47
    assert 34 <= left < right <= 47
    (numbers,) = web.tile(raster, "suspect")
    before = web.tile(raster, "mask")[0] == 1
    told = web.put(f"{API}/rasters/{raster}/mask", json={"accepted": [1], "refused": [2]}).json()
    assert told["edits"]["refused"] == [2]
    after = web.tile(raster, "mask")[0] == 1
    np.testing.assert_array_equal(after & ~before, numbers == 1)
    asked = {"kind": "fill", "raster": raster, "preset": "instant"}
    assert "--gap-mask" in web.post(f"{API}/command", json=asked).json()["command"]
    web.ended(web.post(f"{API}/rasters/{raster}/suspects").json()["id"])
    assert web.get(f"{API}/rasters/{raster}/mask/edits").json()["edits"]["accepted"] == []


def test_cloud_is_not_looked_for_in_what_is_no_temperature(web):
    folder = web.service.store.root
    write(folder / "heights.tif", (surface((40, 40))).astype(np.float32), units="m")
    raster = opened(web, path="heights.tif")["id"]
    job = web.ended(web.post(f"{API}/rasters/{raster}/suspects").json()["id"])
    assert (job["state"], "kelvin" in job["error"]) == ("failed", True)


def test_water_of_two_dates_is_gained_and_lost(web, folder):
    later = opened(web, path="lake_2023-05-01.tif")
    earlier = opened(web, path="lake_2019-05-01.tif")
    asked = {"kind": "water", "raster": later["id"], "references": [earlier["id"]], "samples": 1}
    assert web.post(f"{API}/jobs", json={**asked, "window": [0, 0, 20, 20]}).status_code == 422
    command = web.post(f"{API}/command", json=asked).json()["command"]
    assert command.index("2019") < command.index("2023")
    assert "--change" in command
    job = web.ended(web.post(f"{API}/jobs", json=asked).json()["id"])
    assert (job["state"], job["error"]) == ("done", None)
    assert {"areas.csv", "change.gpkg", "change.png", "change.tif"} <= {one["name"] for one in job["results"]}
    (kind,) = web.tile(job["id"], "change")
    for cols, wanted in ((slice(24, 36), 3), (slice(44, 56), 1), (slice(64, 76), 2), (slice(90, 105), 0)):
        assert (kind[36:64, cols] == wanted).mean() > 0.9, wanted
    last = job["record"]["dates"][-1]
    assert last["gained_m2"] == pytest.approx(900 * (kind == 2).sum(), rel=0.02)
    got = web.get(f"{API}/jobs/{job['id']}/results/areas.csv")
    assert len(io.StringIO(got.text).readlines()) == 3


def test_every_option_that_the_page_links_to_has_its_place(web):
    for command in ("lst", "fill", "water", "inpaint"):
        page = options_page(command)
        assert "<script" not in page
        names = ["--samples", "--seed", "--model"] + ([] if command == "water" else ["--preset"])
        names += {"lst": ["--suspect", "--realisations"], "fill": ["--realisations"], "inpaint": []}.get(
            command, ["--min-area", "--keep-clouds"]
        )
        for name in names:
            assert f'id="{name}"' in page, (command, name)
    assert options_page("train") is None
    assert "help/${command}#${flag}" in (STATIC / "main.js").read_text(encoding="utf-8")
    assert web.get("/help/train").status_code == 404


def test_a_model_of_classes_serves_previews_lakes_and_changes(tmp_path, monkeypatch):
    """What the worker and the page do with its maps: cloud is not valid, and no class is taken for water."""
    stand_in(monkeypatch, model_of_classes)
    monkeypatch.setattr(api, "segment_blocks", plain_segmenter)
    monkeypatch.setattr(api, "load_segmenter", lambda model: model)
    values, lake = lake_scene()
    before = write(tmp_path / "a.tif", (values * 10000).round().astype(np.uint16))
    values[:, 2:10, :15], values[3, 2:10, :15] = 0.23, 0.33  # cloud
    after = write(tmp_path / "b.tif", (values * 10000).round().astype(np.uint16))
    for path in (before, after):
        with rasterio.open(path, "r+") as dataset:
            dataset.descriptions = ("blue", "green", "red", "nir")
    model = model_of_classes("classes")
    how = {"keep_clouds": False, "model": model, "samples": 1, "seed": 0, "threshold": 0.5}
    worker._segment_part({"source": str(after)}, (0, 0, 60, 70), tmp_path / "part.tif", **how)
    hidden = np.zeros(lake.shape, bool)
    hidden[2:10, :15] = True
    np.testing.assert_array_equal(bands_of(tmp_path / "part.tif")[0], np.where(hidden, 255, lake))
    compare_dates([before, after], tmp_path / "dates", options=WaterOptions(samples=1))
    maps = sorted((tmp_path / "dates").glob("0*.tif"))
    with RasterSource(maps[0]) as grid:
        write_change(maps, tmp_path / "change.tif", grid, threshold=0.5)
        info = {"bands": list(worker.WATER_BANDS), "file": maps[1].name, "shape": lake.shape, "crs": "EPSG:32632"}
        info["transform"] = tuple(grid.transform)[:6]
    change = bands_of(tmp_path / "change.tif")[0]
    np.testing.assert_array_equal(np.isnan(change), hidden)
    assert set(np.unique(change[~hidden])) == {0, 1}
    lakes = lakes_of(tmp_path / "dates", info, 0.5)
    assert (lakes["count"], lakes["lakes"][0]["box"]) == (1, [15, 20, 40, 50])
