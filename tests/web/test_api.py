"""What the page does, as a script does it: open, look, mask, run, fetch."""

import io
import shlex

import numpy as np
import pytest
import rasterio
from PIL import Image

from lacunar.geo.raster import RasterWriter
from lacunar.sensors.scene import LstOptions, open_scene
from web_client import API

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the test client


def test_a_tile_holds_the_values_of_the_scene_and_nan_beyond_it(web, product_id, simulated_64):
    (value,) = web.tile(product_id, "value")
    with open_scene(simulated_64.folder, lst_options=LstOptions(gap_classes=())) as scene:
        expected = scene.measured()
    np.testing.assert_array_equal(value[:64, :64], np.where(expected.known, expected.values, np.nan))
    assert np.isnan(value[64:]).all()
    assert np.isnan(value[:, 64:]).all()


def test_a_point_is_the_files_value_at_its_place(web, product_id, simulated_64):
    told = web.get(f"{API}/rasters/{product_id}/point", params={"row": 5, "col": 7}).json()
    with open_scene(simulated_64.folder, lst_options=LstOptions(gap_classes=())) as scene:
        lst = scene.lst((5, 7, 1, 1))
        import rasterio.warp

        (lon,), (lat,) = rasterio.warp.transform(scene.crs, "EPSG:4326", [float(lst.x[0])], [float(lst.y[0])])
    assert told["bands"]["value"] == pytest.approx(float(lst[0, 0]))
    assert told["lonlat"] == pytest.approx([lon, lat], abs=1e-9)


def test_the_usual_mask_is_that_of_the_quality_band(web, product_id, simulated_64):
    (mask,) = web.tile(product_id, "mask")
    with open_scene(simulated_64.folder) as scene:
        np.testing.assert_array_equal(mask[:64, :64] == 1, scene.measured().missing)


def test_strokes_add_and_erase_in_their_order_and_the_mask_file_says_the_same(web, product_id):
    edits = {
        "classes": [],
        "strokes": [
            {"points": [[10, 10], [10, 40], [40, 40], [40, 10]]},
            {"points": [[25, 25]], "radius": 5, "erase": True},
        ],
    }
    told = web.put(f"{API}/rasters/{product_id}/mask", json=edits).json()
    row, col = np.mgrid[:64, :64] + 0.5
    square = (row > 10) & (row < 40) & (col > 10) & (col < 40)
    wanted = square & (np.hypot(row - 25, col - 25) > 5)
    (shown,) = web.tile(product_id, "mask")
    assert np.abs((shown[:64, :64] == 1).astype(int) - wanted).sum() <= 4  # a circle is drawn as a polygon
    assert told["exact"]
    assert told["share"] == pytest.approx((shown[:64, :64] == 1).mean())
    saved = web.get(f"{API}/rasters/{product_id}/mask")
    with rasterio.open(io.BytesIO(saved.content)) as dataset:
        np.testing.assert_array_equal(dataset.read(1), shown[:64, :64])
    again = web.post(
        f"{API}/rasters/{product_id}/mask",
        params={"name": "mask.tif"},
        content=saved.content,
        headers={"Content-Type": "application/octet-stream"},
    ).json()
    assert again["edits"]["imported"]
    assert again["share"] == pytest.approx(told["share"])


def test_grow_reaches_as_many_pixels_as_asked(web, product_id):
    classes = ["cloud"]
    masks = []
    for grow in (0, 3):
        web.put(f"{API}/rasters/{product_id}/mask", json={"classes": classes, "grow": grow})
        masks.append(web.tile(product_id, "mask")[0][:64, :64] == 1)
    from scipy.ndimage import distance_transform_edt

    np.testing.assert_array_equal(masks[1], distance_transform_edt(~masks[0]) <= 3)


def test_a_large_raster_is_read_from_its_overviews_by_the_same_pixels(web, tmp_path_factory):
    folder = web.service.store.root
    values = np.add.outer(np.arange(600, dtype=np.float32) * 1000, np.arange(700, dtype=np.float32))
    with RasterWriter(
        folder / "large.tif",
        shape=values.shape,
        transform=rasterio.Affine(1, 0, 0, 0, -1, 0),
        crs=None,
        band_names=("v",),
    ) as writer:
        writer.write(values[None])
    told = web.opened(web.post(f"{API}/rasters", json={"path": "large.tif"}).json()["id"])
    assert (told["levels"], told["shape"]) == (2, [600, 700])
    (coarse,) = web.tile(told["id"], "value")
    assert np.isfinite(coarse[:150, :175]).all()
    assert np.isnan(coarse[150:]).all()
    for row, col in ((0, 0), (149, 174), (70, 33)):
        seen = coarse[row, col]
        assert abs(seen // 1000 - 4 * row) <= 4
        assert abs(seen % 1000 - 4 * col) <= 4
    (fine,) = web.tile(told["id"], "value", z=2, x=2, y=1)
    np.testing.assert_array_equal(fine[:, :188], values[256:512, 512:])


def test_a_fill_gives_the_bytes_of_the_command_line(web, product_id, lacunar, out, monkeypatch):
    web.put(f"{API}/rasters/{product_id}/mask", json={"classes": ["cloud", "cloud_shadow"]})
    asked = {"kind": "fill", "raster": product_id, "preset": "fast", "samples": 2, "keep_samples": True}
    job = web.ended(web.post(f"{API}/jobs", json=asked).json()["id"])
    assert (job["state"], job["error"]) == ("done", None)
    results = {one["name"]: one["bytes"] for one in job["results"]}
    assert {"filled.tif", "filled.json", "filled.png", "filled_realisations.tif"} <= set(results)
    got = web.get(f"{API}/jobs/{job['id']}/results/filled.tif")
    assert got.headers["content-disposition"].startswith("attachment")
    program, *words = shlex.split(job["command"])
    assert (program, words[0]) == ("lacunar", "lst")
    monkeypatch.chdir(out)
    assert lacunar(*words).code == 0
    (out / "got.tif").write_bytes(got.content)
    with rasterio.open(out / "got.tif") as page, rasterio.open(out / "filled.tif") as command:
        np.testing.assert_array_equal(page.read(), command.read())
        own, theirs = page.tags(), command.tags()
        assert own.pop("command").split()[:2] == theirs.pop("command").split()[:2]  # they name their own paths
        assert own == theirs
    zone = web.post(f"{API}/rasters/{job['id']}/zonal", json={"polygon": [[0, 0], [0, 64], [64, 64], [64, 0]]}).json()
    with rasterio.open(out / "filled.tif") as dataset:
        value, source = dataset.read([1, 2])
    assert zone["mean"] == pytest.approx(float(value[source > 0].mean()), abs=0.01)
    assert zone["filled_share"] == pytest.approx((source == 2).sum() / (source > 0).sum())
    assert zone["sigma"] > 0


def test_a_preview_fills_its_window_alone(web, product_id):
    web.put(f"{API}/rasters/{product_id}/mask", json={"classes": ["cloud"]})
    asked = {"kind": "fill", "raster": product_id, "preset": "instant", "window": [8, 16, 40, 32]}
    job = web.ended(web.post(f"{API}/jobs", json=asked).json()["id"])
    assert (job["state"], job["error"]) == ("done", None)
    assert (job["view"]["shape"], job["view"]["origin"]) == ([40, 32], [8, 16])
    value, source = web.tile(job["id"], "value,source")
    (before,) = web.tile(product_id, "value")
    measured = source[:40, :32] == 1
    np.testing.assert_array_equal(value[:40, :32][measured], before[8:48, 16:48][measured])
    (mask,) = web.tile(product_id, "mask")
    np.testing.assert_array_equal(source[:40, :32] == 2, mask[8:48, 16:48] == 1)


def test_water_lakes_add_up_to_the_map_at_any_threshold(web, product_id):
    job = web.ended(web.post(f"{API}/jobs", json={"kind": "water", "raster": product_id, "samples": 1}).json()["id"])
    assert (job["state"], job["error"]) == ("done", None)
    (probability,) = web.tile(job["id"], "probability")
    for threshold in (0.3, 0.7):
        lakes = web.get(f"{API}/rasters/{job['id']}/lakes", params={"threshold": threshold}).json()
        pixels = int((probability >= threshold).sum())
        assert lakes["total"] == pytest.approx(pixels * 900, rel=0.01)  # on the ellipsoid, not on the map
        assert len(lakes["lakes"]) == lakes["count"]


def test_a_picture_is_kept_outside_its_mask(web):
    rng = np.random.default_rng(1)
    given = rng.integers(60, 180, (80, 96, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(given).save(stream, "PNG")
    binary = {"Content-Type": "application/octet-stream"}
    told = web.post(f"{API}/uploads", params={"name": "../a b.png"}, content=stream.getvalue(), headers=binary).json()
    told = web.opened(told["id"])
    assert (told["name"], told["jobs"][-2:]) == ("a_b.png", ["picture", "face"])
    (colour,) = web.tile(told["id"], "colour")
    packed = given.astype(np.float64) @ [65536, 256, 1]
    np.testing.assert_array_equal(colour[:80, :96], packed)
    edits = {"strokes": [{"points": [[30, 40], [40, 50]], "radius": 6}]}
    web.put(f"{API}/rasters/{told['id']}/mask", json=edits)
    asked = {"kind": "picture", "raster": told["id"], "preset": "instant"}
    job = web.ended(web.post(f"{API}/jobs", json=asked).json()["id"])
    assert (job["state"], job["error"]) == ("done", None)
    filled = np.asarray(Image.open(io.BytesIO(web.get(f"{API}/jobs/{job['id']}/results/filled.png").content)))
    (mask,) = web.tile(told["id"], "mask")
    hidden = mask[:80, :96] == 1
    np.testing.assert_array_equal(filled[~hidden], given[~hidden])
    assert (filled[hidden] != given[hidden]).any()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"threshold": 0.5}, "no option of fill"),
        ({"model": "../../secret"}, "wanted one of lst-small"),
        ({"model": "water-classes"}, "wanted one of lst-small"),
        ({"window": [0, 0, 65, 10]}, "inside 64 x 64"),
        ({"preset": "turbo"}, "unknown preset"),
        ({"preset": "instant", "samples": 4}, "instant"),
        ({"kind": "picture"}, "wanted one of the jobs"),
    ],
)
def test_a_job_that_cannot_be_is_refused_before_it_is_queued(web, product_id, more, said):
    answer = web.post(f"{API}/jobs", json={"kind": "fill", "raster": product_id, **more})
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_the_api_describes_itself(web):
    told = web.get(f"{API}/openapi.json").json()
    assert {f"{API}/rasters/{{identifier}}/tiles/{{z}}/{{x}}/{{y}}", f"{API}/jobs", f"{API}/health"} <= set(
        told["paths"]
    )
    assert all("description" in what for path in told["paths"].values() for what in path.values())
