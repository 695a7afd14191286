"""From a product or a raster to filled bands: what is kept to the bit, what is filled, and what is recorded."""

import json
import shutil
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rasterio.windows import Window
from scipy import ndimage

from commands import bands_of, check_bands, cloud_at, contents, hole, make_pre_collection, mask_for
from fills import fill_lst
from lacunar import __version__
from lacunar.errors import LacunarError, ModelError, RasterError
from lacunar.fill import job as app
from lacunar.fill.demo import demonstrate
from lacunar.fill.options import FillOptions
from lacunar.fill.outputs import OutputFiles
from lacunar.geo.raster import RasterSource
from lacunar.sensors.scene import LstOptions, open_scene
from lacunar.sensors.simulated import PRODUCT_ID

FLATHEAD = "LC08_L1TP_041027_20150604_20170226_01_T1"
MAUI = "LC09_L1TP_063046_20230714_20230714_02_T1"
LIVERPOOL = "LC08_L2SP_204023_20200927_20201006_02_T1"


@pytest.fixture
def options(tiny_folder):
    return FillOptions(model=str(tiny_folder), samples=2)


@pytest.fixture(scope="module")
def run(simulated_64, tiny_folder, tmp_path_factory):
    """One fill of the simulated product with everything that can be asked for, and its folder."""
    folder = tmp_path_factory.mktemp("run")
    record = fill_lst(
        simulated_64.folder,
        folder / "out.tif",
        options=FillOptions(model=str(tiny_folder), samples=4, seed=5),
        bands_folder=folder / "bands",
        figure=folder / "out.png",
        truth=simulated_64.truth_path,
        command="lacunar lst ...",
        callback=lambda *_: None,
    )
    return folder, record


def same_grid(path, product):
    with rasterio.open(path) as dataset:
        assert (dataset.shape, dataset.transform, dataset.crs) == (product.shape, product.transform, product.crs)
        assert dataset.dtypes == ("float32",) * dataset.count


# --- products ---


def test_what_is_measured_is_kept_to_the_bit_and_every_gap_is_filled(run, simulated_64):
    folder, _ = run
    product = open_scene(simulated_64.folder)
    gap = product.qa_flags(["cloud", "dilated_cloud", "cloud_shadow", "cirrus"])
    filled = check_bands(folder / "out.tif", bands_of(folder / "bands" / "lst.tif")[0], gap, product.dn("B10") > 0)
    assert 250 < filled.min() < filled.max() < 330
    same_grid(folder / "out.tif", product)
    with rasterio.open(folder / "out.tif") as dataset:
        assert dataset.descriptions == ("lst", "source", "sigma")
        assert dataset.units == ("K", None, "K")
        assert dataset.tags()["source_values"] == "0 nodata, 1 measured, 2 filled"


def test_the_record_holds_all_that_was_done(run, simulated_64, tiny_folder):
    folder, record = run
    assert json.loads((folder / "out.json").read_text()) == record
    card = json.loads((tiny_folder / "card.json").read_text())
    product = open_scene(simulated_64.folder)
    assert record["product"] == product.metadata
    assert record["product"]["constants"]["K1_CONSTANT_BAND_10"] == 774.8853
    assert record["model"] == {"name": "tiny", **{key: card[key] for key in ("sha256", "sigma_factor")}}
    assert (record["preset"], record["samples"], record["seed"], record["device"]) == ("fast", 4, 5, "cpu")
    assert record["network_evaluations"] == {"per_sample_and_tile": 10, "all": 10 * 4}  # 64 x 64 is one tile
    assert record["versions"]["lacunar"] == __version__
    assert record["versions"]["torch"] == torch.__version__
    assert record["command"] == "lacunar lst ..."
    assert record["output"] == str(folder / "out.tif")
    assert record["seconds"] > 0
    assert record["kriging_tiles_from_coarser_level"] == 0
    filled = int((bands_of(folder / "out.tif")[1] == 2).sum())
    assert record["pixels"] == {"measured": 64 * 64 - filled, "filled": filled, "nodata": 0}
    assert record["gap_share"] == pytest.approx(filled / 64**2, abs=1e-6)


def test_the_scores_are_those_against_the_truth(run, simulated_64):
    folder, record = run
    value, source, sigma = bands_of(folder / "out.tif").astype(np.float64)
    gap = source == 2
    error = (value - bands_of(simulated_64.truth_path)[0])[gap]
    scores = {"rmse": np.sqrt(np.mean(error**2)), "mae": np.abs(error).mean(), "bias": error.mean()}
    scores |= {"pixels": gap.sum(), "within_one_sigma": (np.abs(error) <= sigma[gap]).mean()}
    assert record["truth"] == pytest.approx(scores, abs=1e-3)


def test_only_what_was_asked_for_is_left_and_the_figure_shows_something(run):
    folder, _ = run
    names = {"brightness_temperature", "emissivity_0", "emissivity_nb", "lai", "lst", "ndvi", "radiance", "savi"}
    names |= {"reflectance_b4", "reflectance_b5"}
    expected = ["bands", *(f"bands/{name}.tif" for name in sorted(names)), "out.json", "out.png", "out.tif"]
    assert list(contents(folder)) == expected
    picture = matplotlib.image.imread(folder / "out.png")
    assert picture.shape[1] > 3 * picture.shape[0] / 2
    assert picture[..., :3].std() > 0.1


def test_a_seed_gives_the_same_bits_and_another_seed_others(simulated_64, options, tmp_path):
    runs = {}
    for name, seed in (("a", 1), ("again", 1), ("b", 2)):
        fill_lst(simulated_64.folder, tmp_path / f"{name}.tif", options=replace(options, seed=seed))
        runs[name] = bands_of(tmp_path / f"{name}.tif")
    np.testing.assert_array_equal(runs["a"], runs["again"])
    gap = runs["a"][1] == 2
    assert (runs["a"][0] != runs["b"][0])[gap].mean() > 0.9
    np.testing.assert_array_equal(runs["a"][0][~gap], runs["b"][0][~gap])


def test_a_tar_gives_what_its_folder_gives(simulated_64, options, tmp_path):
    with tarfile.open(tmp_path / "product.tar", "w") as archive:
        for path in sorted(simulated_64.folder.iterdir()):
            archive.add(path, path.name)
    for name, path in (("folder", simulated_64.folder), ("tar", tmp_path / "product.tar")):
        fill_lst(path, tmp_path / f"{name}.tif", options=options)
    np.testing.assert_array_equal(bands_of(tmp_path / "folder.tif"), bands_of(tmp_path / "tar.tif"))


def test_a_product_from_before_the_collections(product, options, tmp_path):
    cloud = hole((64, 64))
    fill_lst(product, tmp_path / "first.tif", bands_folder=tmp_path / "bands", options=options)
    unfilled = bands_of(tmp_path / "bands" / "lst.tif")[0]
    make_pre_collection(product, cloud)
    record = fill_lst(product, tmp_path / "out.tif", options=options)
    grown = ndimage.maximum_filter(cloud, size=7)
    check_bands(tmp_path / "out.tif", unfilled, grown, np.ones((64, 64), bool))
    assert record["product"]["collection"] == 0


class Counted:
    """An open file that counts how often its pixels are read."""

    def __init__(self, dataset, reads):
        self._dataset, self._reads = dataset, reads

    def __getattr__(self, name):
        return getattr(self._dataset, name)

    def read(self, *arguments, **options):
        self._reads[Path(self._dataset.name).stem.removeprefix(f"{PRODUCT_ID}_")] += 1
        return self._dataset.read(*arguments, **options)


def test_each_band_is_opened_once_and_read_once_in_each_pass(simulated_64, options, tmp_path, monkeypatch):
    opened, reads, really_open = Counter(), Counter(), rasterio.open

    def counting(path, *arguments, **more):
        dataset = really_open(path, *arguments, **more)
        if Path(path).parent != simulated_64.folder:
            return dataset
        opened[Path(path).stem.removeprefix(f"{PRODUCT_ID}_")] += 1
        return Counted(dataset, reads)

    monkeypatch.setattr("rasterio.open", counting)
    fill_lst(simulated_64.folder, tmp_path / "out.tif", options=options)
    needed = {"B10", "B4", "B5", "QA_PIXEL", "B2", "B3", "B6", "B7"}  # the last four tell snow from water
    assert opened == dict.fromkeys(needed, 1)
    twice = dict.fromkeys(needed, 2)  # the survey of the whole raster, then its one block
    assert reads == twice | dict.fromkeys(("B10", "B4", "B5"), 3)  # and first a look whether there is anything in it


def test_without_a_gap_the_output_is_the_input(product, options, tmp_path):
    cloud_at(product, np.zeros((64, 64), bool))
    record = fill_lst(product, tmp_path / "out.tif", bands_folder=tmp_path / "bands", options=options)
    everything = np.ones((64, 64), bool)
    check_bands(tmp_path / "out.tif", bands_of(tmp_path / "bands" / "lst.tif")[0], ~everything, everything)
    assert record["pixels"] == {"measured": 4096, "filled": 0, "nodata": 0}
    assert record["network_evaluations"]["all"] == 0


@pytest.mark.parametrize(("name", "epsg"), [(MAUI, 32605), (LIVERPOOL, 32630)])
def test_real_products_without_quality_band_and_crs(shared, options, tmp_path, name, epsg):
    folder = shared / "data" / "landsat" / name
    product = open_scene(folder)
    gap = hole(product.shape, slice(100, 112), slice(120, 150))
    mask = mask_for(folder, tmp_path / "mask.tif", gap)
    record = fill_lst(folder, tmp_path / "out.tif", gap_mask=mask, options=options, bands_folder=tmp_path / "bands")
    footprint = product.dn("B10" if product.level == 1 else "ST_B10") > 0
    if product.level == 1:
        footprint &= (product.dn("B4") > 0) & (product.dn("B5") > 0)
    check_bands(tmp_path / "out.tif", bands_of(tmp_path / "bands" / "lst.tif")[0], gap & footprint, footprint)
    same_grid(tmp_path / "out.tif", product)
    assert product.crs.to_epsg() == epsg
    assert "CRS taken from the MTL" in record["product"]["notes"][0]
    assert record["gap_mask"] == str(mask)


def crop(folder, target, window):
    """The same product, a part of it."""
    target.mkdir()
    for path in folder.iterdir():
        if path.suffix != ".TIF":
            shutil.copyfile(path, target / path.name)
            continue
        with rasterio.open(path) as dataset:
            profile = dataset.profile | {"height": window.height, "width": window.width}
            left, top = dataset.xy(window.row_off, window.col_off, offset="ul")
            profile["transform"] = Affine(30.0, 0.0, left, 0.0, -30.0, top)
            with rasterio.open(target / path.name, "w", **profile) as part:
                part.write(dataset.read(window=window))
    return target


def check_flathead(folder, options, tmp_path):
    record = fill_lst(folder, tmp_path / "out.tif", options=options, bands_folder=tmp_path / "bands")
    product = open_scene(folder)
    qa = bands_of(next(folder.glob("*BQA.TIF")))[0].astype(int)
    cloud, shadow, cirrus = (qa >> 4) & 1 == 1, (qa >> 7) & 3 == 3, (qa >> 11) & 3 == 3
    footprint = product.dn("B10") > 0
    gap = (ndimage.maximum_filter(cloud, size=7) | shadow | cirrus) & footprint
    check_bands(tmp_path / "out.tif", bands_of(tmp_path / "bands" / "lst.tif")[0], gap, footprint)
    same_grid(tmp_path / "out.tif", product)
    assert record["pixels"]["filled"] == gap.sum()
    return gap.sum() / footprint.sum()


def test_a_part_of_the_real_cloudy_scene(shared, options, tmp_path):
    folder = crop(shared / "data" / "landsat" / FLATHEAD, tmp_path / "part", Window(430, 20, 112, 100))
    share = check_flathead(folder, replace(options, samples=1), tmp_path)
    assert 0.1 < share < 0.9


@pytest.mark.slow
def test_the_whole_real_cloudy_scene(shared, options, tmp_path):
    share = check_flathead(shared / "data" / "landsat" / FLATHEAD, replace(options, samples=1), tmp_path)
    assert share == pytest.approx(0.3716, abs=0.001)


# --- what may go wrong ---


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"preset": "best"}, "unknown preset 'best': choose one of fast, balanced, paper"),
        ({"samples": 0}, "0 samples and seed 0: wanted 1 sample or more"),
        ({"seed": -1}, "8 samples and seed -1: wanted .* a seed of 0 or more"),
    ],
)
def test_options_are_checked_when_they_are_made(bad, message):
    with pytest.raises(LacunarError, match=message):
        FillOptions(**bad)
    with pytest.raises(LacunarError, match=r"a\.bmp: wanted a figure in \.png, \.pdf, \.svg"):
        OutputFiles(raster=Path("a.tif"), figure=Path("a.bmp"))


@pytest.mark.parametrize("taken", ["out.tif", "out.json", "out.png", "bands/lst.tif"])
def test_outputs_that_exist_are_refused_before_any_work(simulated_64, options, tmp_path, monkeypatch, taken):
    for name in ("survey", "fill_blocks"):
        monkeypatch.setattr(app, name, lambda *_, **__: pytest.fail("work was done"))
    monkeypatch.setattr(FillOptions, "load", lambda _: pytest.fail("work was done"))
    (tmp_path / "bands").mkdir()
    (tmp_path / taken).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(RasterError, match=rf"{taken} exists, wanted a new name"):
        fill_lst(
            simulated_64.folder,
            tmp_path / "out.tif",
            bands_folder=tmp_path / "bands",
            options=options,
            figure=tmp_path / "out.png",
        )
    assert contents(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interruption_leaves_everything_as_it_was(simulated_64, options, tmp_path, overwrite):
    def interrupt(done, total):
        assert 0 <= done <= total
        raise KeyboardInterrupt

    for name in ("out.tif", "out.json", "out.png") if overwrite else ():
        (tmp_path / name).write_text("old")
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fill_lst(
            simulated_64.folder,
            tmp_path / "out.tif",
            bands_folder=tmp_path / "bands",
            options=options,
            overwrite=overwrite,
            figure=tmp_path / "out.png",
            callback=interrupt,
        )
    assert contents(tmp_path) == before


# --- the demo and the bands ---


def test_the_demo_fills_simulated_clouds_and_scores_every_method(options, tmp_path):
    calls = []
    shown = demonstrate(tmp_path / "demo", options, size=64, callback=lambda *counts: calls.append(counts))
    assert list(shown["rmse"]) == ["lacunar", "idw", "laplace", "nearest", "mean"]
    assert calls[-1] == (100, 100)
    source = open_scene(tmp_path / "demo" / "product").measured()
    truth = bands_of(next((tmp_path / "demo" / "product").glob("*TRUTH*")))[0].astype(np.float64)
    mean = source.values[source.known].astype(np.float64).mean()
    assert shown["rmse"]["mean"] == pytest.approx(np.sqrt(np.mean((mean - truth[source.missing]) ** 2)), rel=1e-4)
    value, kind, _ = bands_of(shown["output"])
    ours = np.sqrt(np.mean((value - truth)[kind == 2] ** 2))
    assert shown["rmse"]["lacunar"] == shown["record"]["truth"]["rmse"] == pytest.approx(ours, abs=1e-3)
    assert shown["figure"].is_file()
    before = contents(tmp_path)
    with pytest.raises(RasterError, match=r"product exists, wanted a new demo folder: .* give --overwrite"):
        demonstrate(tmp_path / "demo", options, size=64)
    with pytest.raises(ModelError, match="unknown model 'none'"):
        demonstrate(tmp_path / "fresh", replace(options, model="none"), overwrite=True, size=64)
    with pytest.raises(LacunarError, match="size 8: wanted 64"):
        demonstrate(tmp_path / "demo", options, overwrite=True, size=8)
    assert contents(tmp_path) == before


def test_bands_are_saved_with_units_and_never_over_others(simulated_64, options, tmp_path):
    product, bands_folder = open_scene(simulated_64.folder), tmp_path / "bands"
    fill_lst(simulated_64.folder, tmp_path / "out.tif", bands_folder=bands_folder, options=options)
    for path in bands_folder.iterdir():
        same_grid(path, product)
    with RasterSource(tmp_path / "bands" / "radiance.tif") as raster:
        assert (raster.units, raster.band_names) == (("W m-2 sr-1 um-1",), ("radiance",))
        dn = product.dn("B10")
        np.testing.assert_allclose(raster.read().data[0], dn * 3.342e-4 + 0.1, rtol=1e-6)
    before, other = contents(tmp_path), {"bands_folder": bands_folder, "lst_options": LstOptions(soil_l=0.1)}
    with pytest.raises(RasterError, match=r"radiance\.tif exists"):
        fill_lst(simulated_64.folder, tmp_path / "other.tif", **other, options=options)
    assert contents(tmp_path) == before
    fill_lst(simulated_64.folder, tmp_path / "other.tif", **other, options=options, overwrite=True)
