"""Bad input of `lacunar water`: one line that teaches, exit code 2, and every folder as it was before."""

import errno
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from commands import contents, write
from lacunar.cli import BAD_INPUT, INTERRUPTED
from products import edit_mtl, file_of
from water_models import lake_scene, stand_in

BANDS = ("--bands", "blue,green,red,nir")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    stand_in(monkeypatch)


def counted(values):
    return (values * 10000).round().astype(np.uint16)


@pytest.fixture
def raster(tmp_path):
    return write(tmp_path / "lake.tif", counted(lake_scene()[0]))


@pytest.fixture
def refused(lacunar, out):
    """Run ``lacunar water`` with every kind of output and hold it to the contract of bad input."""

    def run(images, message, *more, output=out / "water.tif", change=False):
        before = contents(out)
        images = images if isinstance(images, tuple) else (images,)
        extra = ("--change",) if change else ("--figure", out / "map.png", "--polygons", out / "lakes.gpkg")
        ran = lacunar("water", *images, "-o", output, *extra, *more)
        assert ran.out == ""
        assert ran.code == BAD_INPUT
        assert ran.err.startswith("lacunar: ")
        assert ran.err.count("\n") == 1
        assert ran.err.endswith("\n")
        assert re.search(message, ran.err), ran.err
        assert ".partial" not in ran.err
        assert contents(out) == before
        return ran.err

    return run


# --- the image ---


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (
            "",
            r"lake\.tif has 4 channels and nothing says which: name each in the file's order with --bands",
        ),
        ("nir,red,green", r"has 4 channels, --bands names 3 \(nir,red,green\): wanted one name for each channel"),
        ("blue,green,red,nir,swir1", r"has 4 channels, --bands names 5 "),
        (
            "blue,green,red,infrared",
            "unknown band 'infrared': wanted the file's channels in order, from coastal, other",
        ),
        ("blue,green,red,red", "band 'red' is named twice in blue,green,red,red"),
        ("other,other,other,other", "wanted at least one of blue, green, red, nir, swir1, swir2"),
    ],
)
def test_channels_that_are_not_named_or_do_not_fit(raster, refused, bands, message):
    refused(raster, message, *(("--bands", bands) if bands else ()))


@pytest.mark.parametrize("add", [0.1, 0.2])
def test_raw_digital_numbers(tmp_path, refused, lacunar, out, add):
    stored = ((lake_scene()[0] + add) / 2e-5).astype(np.uint16)
    path = write(tmp_path / "raw.tif", stored)
    refused(path, r"raw\.tif: uint16 values, .* may be raw digital numbers: say what they are with --scale", *BANDS)
    told = ("--scale", 2e-5, "--offset", -add, *BANDS)
    assert lacunar("water", path, "-o", out / "water.tif", *told).code == 0


def test_nothing_but_nodata(tmp_path, refused):
    path = write(tmp_path / "void.tif", np.zeros((4, 20, 20), np.uint16), nodata=0)
    refused(path, r"void\.tif: no valid pixel, all is nodata or masked: check the file", *BANDS)


def test_an_image_without_light(tmp_path, refused):
    stored = np.zeros((3, 20, 20), np.uint8)
    path = write(tmp_path / "dark.tif", stored, crs=None)
    refused(path, "the image is dark: 98 % of its values are 0 or less")


def test_a_file_that_is_cut_off(tmp_path, refused):
    path = write(tmp_path / "cut.tif", counted(lake_scene((300, 300))[0]))
    os.truncate(path, 200_000)
    refused(path, r"cut\.tif: pixels cannot be read, the file is cut off or damaged: fetch it again", *BANDS)


def test_a_picture_that_is_cut_off(tmp_path, refused):
    path = tmp_path / "cut.png"
    stored = np.random.default_rng(0).integers(0, 255, (3, 200, 200), dtype=np.uint8)
    with rasterio.open(path, "w", driver="PNG", count=3, height=200, width=200, dtype="uint8") as dataset:
        dataset.write(stored)
    os.truncate(path, 60_000)
    refused(path, r"cut\.png: .*cut off or damaged")


@pytest.mark.parametrize(("name", "text"), [("a.tif", "no raster"), ("a.png", ""), ("a.txt", "text")])
def test_files_that_are_no_image(tmp_path, refused, name, text):
    (tmp_path / name).write_text(text)
    refused(tmp_path / name, rf"{name}: not a raster that can be opened")


def test_an_image_that_is_not_there(tmp_path, refused):
    refused(tmp_path / "none.tif", r"none\.tif: no such file; wanted a raster file")


def test_a_folder_that_is_no_product(tmp_path, refused):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no MTL file")


def test_a_product_without_reflective_bands(product, refused):
    for number in range(2, 8):
        file_of(product, f"B{number}").unlink(missing_ok=True)
    refused(product, "holds none of B2 to B7: water wants one or more of them")


def test_clouds_of_what_is_no_product(raster, refused):
    message = r"lake\.tif is a raster, of which water-classes masks no cloud: leave out --keep-clouds"
    refused(raster, message, *BANDS, "--keep-clouds")


def test_a_night_scene(product, refused):
    edit_mtl(product, ("SUN_ELEVATION = ", "SUN_ELEVATION = -"))
    refused(product, "wanted above 0 and at most 90; a night scene has no reflectance")


@pytest.mark.parametrize("option", [("--bands", "red"), ("--scale", "0.1"), ("--offset", "0")])
def test_a_product_brings_its_own_bands(product, refused, option):
    refused(product, "is a Landsat product, which brings its own bands, scales and offsets: leave out", *option)


def test_a_crs_that_is_not_on_earth(tmp_path, refused):
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    path = write(tmp_path / "site.tif", counted(lake_scene()[0]), crs=local)
    refused(path, "no way from the CRS 'site' to longitude and latitude", *BANDS)


# --- options ---


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--fusion", "vote", "fusion 'vote': wanted one of mean, staple"),
        ("--threshold", "1.5", r"threshold 1\.5: wanted above 0 and below 1"),
        ("--samples", "0", r"Invalid value for '--samples': .* \(`lacunar water --help` lists what there is\)"),
        ("--steps", "0", "Invalid value for '--steps'"),
        ("--min-area", "-1", "least area -1.0, simplify 0.0: wanted 1 sample and 1 step or more, and nothing below 0"),
        ("--min-area", "nan", "least area nan"),
        ("--simplify", "-1", r"simplify -1\.0: wanted"),
        ("--pixel-size", "30", r"pixel size 30\.0: wanted metres above 0, with --series"),
        ("--scale", "0", "scale 0.0 and offset 0.0: wanted a scale above 0"),
        ("--scale", "nan", "wanted a scale above 0 and finite numbers"),
        ("--device", "gpu", "no device 'gpu' here: choose one of auto, cpu"),
        (
            "--polygons",
            "lakes.shp",
            r"lakes\.shp: got the ending '\.shp'; wanted polygons as \.gpkg or \.geojson: rename",
        ),
        ("--polygons", "lakes", r"got the ending ''; wanted polygons as \.gpkg or \.geojson"),
        ("--polygons", "none/lakes.gpkg", "none does not exist, wanted an existing folder: make it first"),
        ("--figure", "map.bmp", r"map\.bmp: wanted a figure in \.png, \.pdf, \.svg: rename it"),
        ("--glow", "1", r"No such option: --glow.* \(`lacunar water --help` lists"),
    ],
)
def test_values_that_do_not_exist(raster, refused, option, value, message):
    refused(raster, message, *BANDS, option, value)


def test_a_least_area_of_no_polygons(raster, lacunar, out):
    ran = lacunar("water", raster, "-o", out / "a.tif", *BANDS, "--min-area", 9)
    assert (ran.code, contents(out)) == (BAD_INPUT, {})
    assert ran.err.startswith("lacunar: --min-area 9 without polygons")
    assert ran.err.endswith("wanted --polygons FILE beside --min-area\n")


def test_a_png_larger_than_memory(raster, refused, out, monkeypatch):
    monkeypatch.setattr("lacunar.segment.job.MAX_MASK_PIXELS", 60 * 70 - 1)
    bare = write(raster.with_name("bare.tif"), counted(lake_scene()[0]), crs=None)
    message = r"bare\.tif has 4,200 pixels, a PNG is written from memory and may have 4,199; wanted \.tif"
    refused(bare, message, *BANDS, output=out / "water.png")


def test_staple_of_one_sample(raster, refused):
    refused(raster, "1 samples: staple wants 2 to 15", *BANDS, "--fusion", "staple", "--samples", 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("water.jpg", r"got the ending '\.jpg'; wanted \.tif, or \.png for an image without CRS: rename it"),
        ("water", r"got the ending ''; wanted \.tif"),
        ("water.png", r"water\.png: a PNG would lose the position of lake\.tif; wanted \.tif: rename it"),
        ("none/water.tif", "none does not exist, wanted an existing folder: make it first"),
        ("", "is a folder, wanted the name of a file|got the ending"),
    ],
)
def test_an_output_that_cannot_be(raster, out, refused, name, message):
    refused(raster, message, *BANDS, output=out / name)


@pytest.mark.parametrize("name", ["water.tif", "water.json", "lakes.gpkg", "map.png"])
def test_an_output_that_exists(raster, out, refused, name):
    (out / name).write_text("mine")
    refused(raster, f"{name} exists, wanted a new name: .* --overwrite", *BANDS)


def test_an_output_that_is_the_input(raster, refused):
    before = raster.read_bytes()
    refused(raster, r"lake\.tif is an input of this very run", *BANDS, "--overwrite", output=raster)
    assert raster.read_bytes() == before


def test_two_outputs_of_one_name(raster, out, refused):
    bare = write(raster.with_name("bare.tif"), counted(lake_scene()[0]), crs=None)
    told = (*BANDS, "--figure", out / "a_overlay.png")
    refused(bare, r"a_overlay\.png is the name of two outputs", *told, output=out / "a.png")


def test_a_model_that_does_not_exist(raster, refused, monkeypatch):
    from lacunar.models.backend import load_segmenter
    from lacunar.segment import job as water

    monkeypatch.setattr(water, "load_segmenter", load_segmenter)
    refused(raster, "water-huge", *BANDS, "--model", "water-huge")


# --- the disk, and Ctrl-C ---


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("pathlib.Path.write_text", "water.json"),
        ("matplotlib.figure.Figure.savefig", "map.png"),
        ("pyogrio.write_dataframe", "lakes.gpkg"),
    ],
)
def test_a_disk_that_is_full_at_the_end(raster, refused, monkeypatch, part, name):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(part, full)
    refused(
        raster, rf"{name}: cannot be written \(.*No space left on device\); wanted a .*folder with free space", *BANDS
    )


def test_a_disk_that_is_full_while_samples_wait(raster, refused, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numpy.save", full)
    refused(raster, r"held_0\.npy: cannot be written \(No space left on device\)", *BANDS, "--fusion", "staple")


@pytest.mark.parametrize("change", [False, True])
def test_ctrl_c(raster, tmp_path, out, lacunar, monkeypatch, change):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lacunar.cli.progress.Bars.segmenting", interrupt)
    images = (raster, Path(shutil.copy(raster, tmp_path / "later.tif"))) if change else (raster,)
    output = out / "change" if change else out / "water.tif"
    ran = lacunar("water", *images, "-o", output, *BANDS, *(("--change",) if change else ()))
    assert (ran.code, ran.out) == (INTERRUPTED, "")
    assert ran.err == "lacunar: interrupted; what was finished is kept, nothing half-written is left\n"
    assert contents(out) == {}


# --- several dates ---


def test_several_images_without_change(raster, tmp_path, refused):
    other = Path(shutil.copy(raster, tmp_path / "later.tif"))
    refused((raster, other), "2 images: wanted one, or --change to compare dates of one place", *BANDS)


def test_a_change_of_one_date(raster, out, refused):
    message = "1 image: a change wants two or more, in their order in time"
    refused(raster, message, *BANDS, change=True, output=out / "change")


@pytest.mark.parametrize("option", [("--polygons", "a.gpkg"), ("--figure", "a.png")])
def test_a_change_with_outputs_of_its_own(raster, out, refused, option):
    message = r"a change writes its own polygons \(of water\) and figure into .*: leave out --polygons, --polygons-of"
    refused((raster, raster), message, *BANDS, *option, change=True, output=out / "change")


def test_dates_of_different_places(raster, tmp_path, out, refused):
    far = rasterio.Affine(30.0, 0.0, 900000.0, 0.0, -30.0, 5700000.0)
    other = write(tmp_path / "far.tif", counted(lake_scene()[0]), transform=far)
    refused((raster, other), r"far\.tif does not overlap the input", *BANDS, change=True, output=out / "change")


def test_a_date_without_crs_beside_one_with(raster, tmp_path, out, refused):
    other = write(
        tmp_path / "bare.tif", counted(lake_scene((50, 50))[0]), crs=None, transform=rasterio.Affine.identity()
    )
    refused((raster, other), r"bare\.tif has no CRS and differs", *BANDS, change=True, output=out / "change")


def test_a_folder_of_change_that_is_a_file(raster, out, refused):
    (out / "change").write_text("mine")
    refused((raster, raster), "change is a file, wanted an existing folder", *BANDS, change=True, output=out / "change")


@pytest.mark.parametrize("name", ["out.tif", "out.PNG", "out.gpkg"])
def test_a_change_is_no_file(raster, out, refused, name):
    message = f"{name}: a change writes a folder, wanted a name without '{Path(name).suffix}'"
    refused((raster, raster), message, *BANDS, change=True, output=out / name)
