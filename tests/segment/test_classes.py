"""Maps of several classes: what a network says of the rest, seams, files with names and colours, clouds, polygons."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pyogrio
import pytest
import rasterio
import torch

import lacunar as lc
from commands import bands_of, contents, write
from lacunar.errors import LacunarError
from lacunar.geo.windows import Tile
from lacunar.models.backend import load_segmenter
from lacunar.segment import array
from lacunar.segment.array import segment_array, segment_blocks
from lacunar.segment.fusion import SampledBlock, fuse_blocks, without_clouds
from lacunar.sensors.scene import UNMASKED
from products import file_of
from water_models import lake_scene, model_of_classes, plain_model, save_random, stand_in

BANDS = ("--bands", "blue,green,red,nir")
CLOUD, SHADOW, SNOW = slice(2, 10), slice(44, 50), slice(52, 58)  # rows of the scene below


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with torch.random.fork_rng(devices=[]):
        return save_random(tmp_path_factory.mktemp("models") / "water-random")


def picture(height, width, seed=0):
    bands = np.full((6, height, width), np.nan, np.float32)
    bands[:3] = np.random.default_rng(seed).random((3, height, width))
    return bands


# --- arrays ---


def test_the_classes_are_the_networks_own_softmax(folder):
    model, bands = load_segmenter(folder), picture(32, 32)
    found = segment_array(bands, model, samples=1)
    with torch.inference_mode():
        logits = model.network.condition(torch.from_numpy(bands[None])).logits[0]
    np.testing.assert_allclose(found.samples[0], logits[0].sigmoid(), atol=1e-5)
    np.testing.assert_allclose(found.cover, logits[1:].softmax(dim=0), atol=1e-5)
    assert found.cover.std(axis=(1, 2)).min() > 0


def test_classes_have_no_seams_and_are_nan_where_not_valid(folder, monkeypatch):
    model, bands = load_segmenter(folder), picture(150, 40)
    bands[:, 60:64] = np.nan
    whole = segment_array(bands, model, samples=3)
    monkeypatch.setattr(array, "BLOCK_TILES", 2)
    blocks = list(segment_blocks(lambda window: bands[:, *window.slices], (150, 40), model, look="coarse", samples=3))
    assert len(blocks) == 4
    parts = np.concatenate([block.cover for block in blocks], axis=1)
    np.testing.assert_allclose(parts, whole.cover, atol=1e-5)
    np.testing.assert_array_equal(np.isnan(parts), np.broadcast_to(np.isnan(bands[2]), parts.shape))
    np.testing.assert_allclose(parts.sum(axis=0)[np.isfinite(bands[2])], 1, atol=1e-5)


def test_another_backend_tells_the_same_classes(folder):
    networks = (load_segmenter(folder, backend=name) for name in ("eager", "bf16"))
    own, other = (segment_array(picture(32, 40), network, samples=2) for network in networks)
    np.testing.assert_allclose(other.cover, own.cover, atol=5e-3)


def test_looks_at_coarser_pixels_are_averaged_by_their_weights(folder):
    model, bands = load_segmenter(folder), picture(64, 64)
    bands[:3] = bands[:3, ::4, ::4].repeat(4, axis=1).repeat(4, axis=2)

    def look(**looks):
        object.__setattr__(model.card, "looks", looks)
        return segment_array(bands, model, samples=1).cover

    near, far, both = look(), look(**{"1": 0.0, "4": 1.0}), look(**{"1": 0.6, "4": 0.2, "shift": 0.5})
    assert np.abs(near - far).max() > 0.01
    np.testing.assert_allclose(both, 0.75 * near + 0.25 * far, atol=2e-3)


def test_staple_keeps_the_classes(tmp_path):
    samples = np.array([[[0.9, 0.1, np.nan]], [[0.8, 0.2, np.nan]]], np.float32)
    cover = np.array([[[1.0, 0.2, np.nan]], [[0.0, 0.8, np.nan]]], np.float32)
    for method in ("mean", "staple"):
        blocks = [SampledBlock(Tile(0, 0, 1, 3), samples, cover)]
        (block,) = fuse_blocks(blocks, method=method, folder=tmp_path, classes=("water", "land", "cloud"))
        assert block.classes.tolist() == [[1, 2, 255]]
        hidden = without_clouds(block, ("water", "land", "cloud"))
        assert hidden.water.tolist() == [[1, 255, 255]]
        assert np.isnan(hidden.probability).tolist() == [[False, True, True]]


def test_a_dataset_tells_its_classes(folder):
    found = lc.segment(np.moveaxis(picture(40, 40)[:3], 0, 2), model=folder, samples=2)
    assert set(np.unique(found.class_)) <= {0, 1, 2, 3, 4}
    xarray = pytest.importorskip("xarray")
    image = xarray.DataArray(
        picture(40, 40)[:3],
        dims=("band", "y", "x"),
        coords={"band": ["blue", "green", "red"], "y": 40.0 - np.arange(40), "x": np.arange(40.0)},
    )
    labelled = lc.segment(image, model=folder, samples=2)
    kinds = labelled["class"]
    assert kinds.attrs["flag_values"] == [0, 1, 2, 3, 4, 255]
    assert kinds.attrs["flag_meanings"] == "land water cloud cloud_shadow snow_or_ice not_valid"
    number = int(np.bincount(kinds.values.ravel()).argmax())
    name = kinds.attrs["flag_meanings"].split()[number].replace("_", " ")
    bodies = lc.polygonize(labelled, of=name)
    assert bodies["area_pixels"].sum() == (kinds == number).sum()
    with pytest.raises(LacunarError, match="no class 'fog': there are land, water, cloud, cloud_shadow, snow_or_ice"):
        lc.polygonize(labelled, of="fog")


# --- files ---


@pytest.fixture
def raster(tmp_path):
    """A lake beside strips of cloud, shadow and snow, whose red is what the stand-in takes for them."""
    values, lake = lake_scene()
    scale = 0.33  # about the 98th percentile of all bands
    for rows, red in ((CLOUD, 0.7), (SHADOW, 0.01), (SNOW, 1.2)):
        values[:, rows, :15] = red * scale
        values[3, rows, :15] += 0.1  # more infrared than green: no water
    return write(tmp_path / "lake.tif", (values * 10000).round().astype(np.uint16)), lake


def test_clouds_of_a_model_are_not_valid_and_every_class_is_written(raster, out, lacunar, monkeypatch):
    stand_in(monkeypatch, model_of_classes)
    path, lake = raster
    files = ("--classes", out / "classes.tif", "--polygons", out / "all.gpkg", "--figure", out / "map.png")
    ran = lacunar("water", path, "-o", out / "a.tif", *BANDS, *files, "--polygons-of", "water,Snow-or-ice,cloud")
    assert (ran.code, ran.err) == (0, "")
    assert set(contents(out)) == {
        *("a.tif", "a.json", "all.gpkg", "map.png", "classes.tif", "classes.tif.aux.xml"),
    }
    with rasterio.open(out / "classes.tif") as dataset:
        kinds, colours = dataset.read(1), dataset.colormap(1)
        assert (dataset.dtypes, dataset.nodata) == (("uint8",), 255)
        assert dataset.tags()["class_values"] == "0 land, 1 water, 2 cloud, 3 cloud shadow, 4 snow or ice"
    assert colours[1][:3] == (31, 120, 180)
    names = ElementTree.parse(out / "classes.tif.aux.xml").iter("Category")
    assert [name.text for name in names] == ["land", "water", "cloud", "cloud shadow", "snow or ice"]
    wanted = np.where(lake, 1, 0)
    for number, rows in ((2, CLOUD), (3, SHADOW), (4, SNOW)):
        wanted[rows, :15] = number
    np.testing.assert_array_equal(kinds, wanted)
    water, probability, _ = bands_of(out / "a.tif")
    np.testing.assert_array_equal(water, np.select([wanted == 1, wanted == 2], [1, 255], 0))
    np.testing.assert_array_equal(probability == 255, wanted == 2)
    record = json.loads((out / "a.json").read_text())
    assert record["classes"]["snow or ice"] == record["classes"]["cloud shadow"] == 6 * 15
    assert record["pixels"]["nodata"] == 8 * 15
    assert "note: 2.9% is cloud to water-classes: not valid; --keep-clouds maps it" in ran.out
    columns = pyogrio.read_dataframe(out / "all.gpkg")
    assert columns["class"].tolist() == ["water", "snow or ice", "cloud"]
    assert columns["pixels"].tolist() == [int(lake.sum()), 90, 120]
    assert columns["id"].tolist() == [1, 2, 3]
    assert columns["mean_probability"].isna().tolist() == [False, True, True]
    kept = lacunar("water", path, "-o", out / "b.tif", *BANDS, "--keep-clouds")
    assert (kept.code, "is cloud" in kept.out) == (0, False)
    np.testing.assert_array_equal(bands_of(out / "b.tif")[0], lake)


def test_gdal_takes_names_and_colours(raster, out, lacunar, monkeypatch):
    """As GIS programs read them: a copy by GDAL keeps the names."""
    stand_in(monkeypatch, model_of_classes)
    assert lacunar("water", raster[0], "-o", out / "a.tif", *BANDS, "--classes", out / "c.tif").code == 0
    rasterio.shutil.copy(out / "c.tif", out / "c.vrt", driver="VRT")
    told = ElementTree.parse(out / "c.vrt")
    assert [name.text for name in told.iter("Category")][1:3] == ["water", "cloud"]
    assert len(list(told.iter("Entry"))) >= 5


def test_a_model_of_water_alone_writes_water_and_land(raster, out, lacunar, monkeypatch):
    stand_in(monkeypatch)
    options = ("--classes", out / "c.tif", "--polygons", out / "p.gpkg", "--polygons-of", "land", "--min-area", 0)
    assert lacunar("water", raster[0], "-o", out / "a.tif", *BANDS, *options).code == 0
    np.testing.assert_array_equal(bands_of(out / "c.tif")[0], raster[1])
    assert set(pyogrio.read_dataframe(out / "p.gpkg")["class"]) == {"land"}
    names = ElementTree.parse(out / "c.tif.aux.xml").iter("Category")
    assert [name.text for name in names] == ["land", "water"]


@pytest.mark.parametrize(
    ("model", "asked", "told"),
    [
        (
            model_of_classes,
            "water,fog",
            "no class 'fog': water-classes knows land, water, cloud, cloud shadow, snow or ice",
        ),
        (plain_model, "cloud", "no class 'cloud': water-classes knows land, water"),
        (plain_model, ",", "no class is named: water-classes knows land, water"),
    ],
)
def test_a_class_that_the_model_does_not_know(raster, out, lacunar, monkeypatch, model, asked, told):
    stand_in(monkeypatch, model)
    ran = lacunar("water", raster[0], "-o", out / "a.tif", *BANDS, "--polygons", out / "p.gpkg", "--polygons-of", asked)
    assert (ran.code, ran.err.strip()) == (2, f"lacunar: {told}")
    assert not contents(out)


def test_classes_want_polygons_and_no_change(raster, out, lacunar, monkeypatch):
    stand_in(monkeypatch, model_of_classes)
    ran = lacunar("water", raster[0], "-o", out / "a.tif", *BANDS, "--polygons-of", "cloud")
    assert (ran.code, "--polygons-of cloud without polygons" in ran.err) == (2, True)
    ran = lacunar("water", raster[0], raster[0], "-o", out / "a", *BANDS, "--change", "--classes", out / "c.tif")
    assert (ran.code, "leave out --polygons, --polygons-of, --classes and --figure" in ran.err) == (2, True)


def test_a_product_without_a_quality_band_is_masked_by_the_model(product, out, lacunar, monkeypatch):
    product_masks = "is cloud or cloud shadow by the quality band"
    for model in (model_of_classes, plain_model):
        stand_in(monkeypatch, model)
        assert "to water-classes" not in lacunar("water", product, "-o", out / "a.tif", "--overwrite").out
    file_of(product, "QA_PIXEL").unlink()
    for model, told in ((plain_model, UNMASKED), (model_of_classes, "is cloud to water-classes")):
        stand_in(monkeypatch, model)
        ran = lacunar("water", product, "-o", out / "a.tif", "--overwrite")
        assert ran.code == 0
        assert [note in ran.out for note in (UNMASKED, told, product_masks)] == [told == UNMASKED, True, False]


def test_clouds_are_not_seen_in_a_change(raster, tmp_path, out, lacunar, monkeypatch):
    stand_in(monkeypatch, model_of_classes)
    clear = write(tmp_path / "clear.tif", (lake_scene()[0] * 10000).round().astype(np.uint16))
    ran = lacunar("water", clear, raster[0], "-o", out / "dates", *BANDS, "--change")
    assert (ran.code, ran.err) == (0, "")
    record = json.loads((out / "dates" / "change.json").read_text())
    assert [one["valid_share"] for one in record["dates"]] == pytest.approx([1, 1 - 120 / 4200])
    assert "2.9% is cloud" in record["dates"][1]["notes"][-1]
    assert record["dates"][1]["gained_m2"] == record["dates"][1]["lost_m2"] == 0


def test_a_folder_of_classes_runs_as_a_user_would(raster, out, lacunar, folder):
    assert "| classes | water, land, cloud, cloud shadow, snow or ice |" in (folder / "README.md").read_text()
    ran = lacunar(
        "water",
        raster[0],
        "-o",
        out / "a.tif",
        *BANDS,
        "--model",
        folder,
        "--backend",
        "eager",
        "--classes",
        out / "c.tif",
    )
    assert (ran.code, ran.err) == (0, "")
    record = json.loads((out / "a.json").read_text())
    assert sum(record["classes"].values()) == raster[1].size
    kinds = np.bincount(bands_of(out / "c.tif")[0].astype(int).ravel(), minlength=5)
    assert list(record["classes"].values()) == kinds.tolist()
