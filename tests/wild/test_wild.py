"""Situations that people report of the tools they use for these jobs, made by shared/wild/make_cases.py."""

import importlib.util
import json
import re
import shutil
import warnings

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from PIL import Image

from commands import bands_of, contents
from lacunar.cli import BAD_INPUT
from picture_models import save_tiny

QUICK = ("--preset", "instant", "--device", "cpu")


@pytest.fixture(scope="module")
def make(shared, tmp_path_factory):
    """The folder of one kind of case, made when first asked for."""
    path = shared / "wild" / "make_cases.py"
    if not path.is_file():
        pytest.skip(f"no cases from the wild here: no file {path}")
    spec = importlib.util.spec_from_file_location("make_cases", path)
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    made = {}

    def of(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of images that lie nowhere
                getattr(cases, kind)(folder)
            made[kind] = folder
        return made[kind]

    return of


@pytest.fixture(scope="module")
def picture_model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "picture")


def accepted(ran):
    assert ran.code == 0, ran.err
    return " ".join(ran.out.split())


def refused(ran, message):
    assert (ran.code, ran.out) == (BAD_INPUT, "")
    assert ran.err.count("\n") == 1
    assert re.search(message, ran.err), ran.err


# --- fills ---


def rmse_of_discs(made, cases):
    """Of the two discs that are missing in every case, in kelvin."""
    truth, clean = bands_of(cases / "fill_truth.tif")[0], bands_of(cases / "fill_clean.tif")[0]
    discs = np.isnan(clean)
    return float(np.sqrt(np.mean((made[0] - truth)[discs] ** 2)))


@pytest.mark.parametrize("name", ["rows_m9999", "block_zero", "only_m9999"])
def test_undeclared_fill_is_missing_and_does_not_spoil_the_rest(make, out, lacunar, name):
    cases = make("fills")
    told = accepted(lacunar("fill", cases / f"fill_{name}_undeclared.tif", "-o", out / "out.tif", *QUICK))
    stored, made = bands_of(cases / f"fill_{name}_undeclared.tif")[0], bands_of(out / "out.tif")
    undeclared = stored < 100
    assert (made[1][undeclared] == 2).all()
    assert "note: " in told
    assert re.search(r"-9999|\b0\b", told)
    assert rmse_of_discs(made, cases) < 1.5  # 0.91 of the clean file; 40.7 and 24.4 where fill is taken for kelvin
    measured = np.isfinite(stored) & ~undeclared
    np.testing.assert_array_equal(made[0][measured], stored[measured])


def test_digital_numbers_are_told_with_what_makes_kelvin_of_them(make, out, lacunar, tiny_folder):
    path = make("fills") / "st_b10_without_tags.tif"
    told = accepted(lacunar("fill", path, "-o", out / "a.tif", "--model", tiny_folder, *QUICK))
    assert "0.00341802" in told
    assert "149" in told
    scaled = ("--scale", "0.00341802", "--offset", "149")
    accepted(lacunar("fill", path, "-o", out / "b.tif", "--model", tiny_folder, *QUICK, *scaled))
    value, source, _ = bands_of(out / "b.tif")
    numbers = bands_of(path)[0]
    np.testing.assert_array_equal(source == 1, numbers != 0)
    np.testing.assert_allclose(value[numbers != 0], numbers[numbers != 0] * 0.00341802 + 149, rtol=1e-6)


@pytest.mark.parametrize("name", ["fill_two_pixels.tif", "fill_constant.tif"])
@pytest.mark.parametrize("preset", ["instant", "fast"])
def test_little_to_go_by_gives_finite_values_and_a_sigma_or_a_refusal(make, out, lacunar, tiny_folder, name, preset):
    few = ("--samples", "2") if preset == "fast" else ()
    path = make("fills") / name
    ran = lacunar("fill", path, "-o", out / "out.tif", "--model", tiny_folder, "--preset", preset, *few)
    if ran.code:
        refused(ran, "wanted")
        return
    value, source, sigma = bands_of(out / "out.tif")
    assert np.isfinite(value).all()
    assert np.isfinite(sigma).all()
    assert (sigma[source == 2] > 0).all()


# --- water ---


def test_water_undeclared_fill_is_not_valid(make, out, lacunar):
    cases = make("waters")
    told = accepted(lacunar("water", cases / "water_rows_m9999_undeclared.tif", "-o", out / "a.tif", "--device", "cpu"))
    accepted(lacunar("water", cases / "water_clean.tif", "-o", out / "b.tif", "--device", "cpu"))
    spoilt, clean = bands_of(out / "a.tif")[0], bands_of(out / "b.tif")[0]
    assert (spoilt[:20] == 255).all()
    assert "9999" in told
    rest = slice(40, None)
    both = (spoilt[rest] == 1) & (clean[rest] == 1)
    either = (spoilt[rest] == 1) | (clean[rest] == 1)
    assert both.sum() / either.sum() > 0.95


def test_a_fourth_band_is_said_to_be_set_aside_as_alpha_or_believed(make, out, lacunar):
    path = make("waters") / "water_naip_default.tif"
    ran = lacunar("water", path, "-o", out / "a.tif", "--device", "cpu")
    assert re.search("alpha|transparen", ran.out + ran.err)
    accepted(lacunar("water", path, "-o", out / "b.tif", "--bands", "red,green,blue,nir", "--device", "cpu"))
    assert set(json.loads((out / "b.json").read_text())["bands"]) == {"red", "green", "blue", "nir"}


@pytest.mark.parametrize("dialect", ["gee", "stac", "odc", "usgs"])
def test_names_that_tools_write_are_known(make, out, lacunar, dialect):
    cases = make("waters")
    path = cases / f"water_names_{dialect}.tif"
    more = () if dialect != "usgs" else ("--scale", "0.0001", "--offset", "0")
    accepted(lacunar("water", path, "-o", out / "a.tif", "--device", "cpu", *more))
    record = json.loads((out / "a.json").read_text())
    assert record["bands"] == ["blue", "green", "red", "nir", "swir1", "swir2"]


def test_an_lst_file_is_no_image(make, out, lacunar):
    ran = lacunar("water", make("waters") / "water_of_an_lst_file.tif", "-o", out / "a.tif", "--device", "cpu")
    refused(ran, "lst")
    assert contents(out) == {}


# --- pictures ---


@pytest.fixture
def inpainted(make, out, lacunar, picture_model):
    """Fill a picture by a mask, and give what was said and the pixels of the result."""

    def run(picture, mask, *more):
        cases = make("pictures")
        mask = mask if mask == "alpha" else cases / mask
        told = ("--model", picture_model, *QUICK)
        ran = lacunar("inpaint", cases / picture, "--mask", mask, "-o", out / "out.png", *told, *more, "--overwrite")
        return ran, np.asarray(Image.open(out / "out.png")) if ran.code == 0 else None

    return run


def test_what_is_filled_becomes_opaque(inpainted, make):
    hole = np.asarray(Image.open(make("pictures") / "mask.png")) > 0
    ran, made = inpainted("picture_with_transparent_hole.png", "mask.png")
    assert "note: " in accepted(ran)
    assert (made[..., 3] == 255).all()
    ran, by_alpha = inpainted("picture_with_transparent_hole.png", "alpha")
    assert str(hole.sum()) in accepted(ran)
    np.testing.assert_array_equal(by_alpha, made)


def test_a_white_mask_with_a_transparent_hole_means_the_hole(inpainted, make):
    hole = int((np.asarray(Image.open(make("pictures") / "mask.png")) > 0).sum())
    ran, _ = inpainted("face.png", "mask_white_with_transparent_hole.png")
    assert f"filled {hole} pixels" in accepted(ran)


def test_a_picture_as_mask_is_asked_about(inpainted):
    ran, _ = inpainted("face.png", "picture_with_transparent_hole.png")
    refused(ran, "mask")


def test_an_inverted_mask_is_warned_of_and_can_be_turned(inpainted):
    _, wanted = inpainted("face.png", "mask.png")
    ran, _ = inpainted("face.png", "mask_inverted.png")
    assert "--invert" in ran.out + ran.err
    assert re.search(r"9\d(\.\d)? ?%", ran.out + ran.err)
    ran, made = inpainted("face.png", "mask_inverted.png", "--invert")
    accepted(ran)
    np.testing.assert_array_equal(made, wanted)


def test_a_mask_of_0_and_1_is_taken_as_what_it_is(inpainted):
    _, wanted = inpainted("face.png", "mask.png")
    ran, made = inpainted("face.png", "mask_of_0_and_1.png")
    assert "note: " in accepted(ran)
    np.testing.assert_array_equal(made, wanted)


# --- products ---


def test_a_pax_tar_is_read(make, out, lacunar, tiny_folder):
    for form in ("pax", "gnu"):
        path = make("products") / f"{form}_long_names.tar.gz"
        cut = ("--model", tiny_folder, *QUICK)
        accepted(lacunar("lst", path, "-o", out / f"{form}.tif", *cut))
    np.testing.assert_array_equal(bands_of(out / "pax.tif"), bands_of(out / "gnu.tif"))


def test_a_thermal_band_of_fill_alone_is_named(make, out, lacunar):
    (product,) = (make("products") / "thermal_all_fill").iterdir()
    refused(lacunar("lst", product, "-o", out / "a.tif", *QUICK), "(?i)all fill")


def test_the_product_in_a_folder_is_used_or_named(make, out, lacunar, tiny_folder):
    parent = make("products") / "parent_of_a_product"
    (product,) = parent.iterdir()
    ran = lacunar("lst", parent, "-o", out / "a.tif", "--model", tiny_folder, *QUICK)
    if ran.code:
        refused(ran, product.name)
    else:
        assert (bands_of(out / "a.tif")[1] == 1).any()


def test_holes_of_the_thermal_band_inside_the_image_are_filled(shared, out, lacunar, tiny_folder):
    wild = shared / "wild"
    if not wild.is_dir():
        pytest.skip(f"no cases from the wild here: no folder {wild}")
    product, holes = wild / "LC08_L2SP_008059_20191201_20200825_02_T1", wild / "LC08_L2SP_008059_holes.tif"
    told = ("--gap-mask", holes, "--model", tiny_folder, *QUICK)
    accepted(lacunar("lst", product, "-o", out / "a.tif", *told))
    with rasterio.open(next(product.glob("*QA_PIXEL.TIF"))) as dataset:
        inside = dataset.read(1) & 1 == 0
    named, source = bands_of(holes)[0] != 0, bands_of(out / "a.tif")[1]
    assert (source[named & inside] == 2).all()
    assert (named & inside).sum() == 937


def test_water_of_flathead_is_water(shared, out, lacunar):
    """Fields of 31 degrees had been a third of it; NDWI above 0 is 30.2 km2."""
    product = shared / "data" / "landsat" / "LC08_L1TP_041027_20150604_20170226_01_T1"
    if not product.is_dir():
        pytest.skip(f"no real product here: no folder {product}")
    told = ("--polygons", out / "a.gpkg", "--samples", "1", "--device", "cpu")
    assert "lacks blue, swir2" in accepted(lacunar("water", product, "-o", out / "a.tif", *told))
    bodies = gpd.read_file(out / "a.gpkg")
    assert bodies["area_m2"].sum() == pytest.approx(30.2e6, rel=0.1)
    assert bodies["mean_ndwi"].min() > -0.2


@pytest.mark.parametrize("job", ["lst", "water"])
@pytest.mark.parametrize(
    "name", ["LE07_L2SP_021030_20100109_20200911_02_T1", "LT05_L2SP_058014_20110312_20200823_02_T1"]
)
def test_older_landsats_are_not_refused_for_their_band_10(shared, out, lacunar, job, name):
    """Their metadata alone are here: what is lacking is the files, by their own band numbers."""
    folder = shared / "wild" / name
    if not folder.is_dir():
        pytest.skip(f"no cases from the wild here: no folder {folder}")
    ran = lacunar(job, folder, "-o", out / "a.tif")
    refused(ran, "lacks|no band|holds none")
    assert "B10" not in ran.err
    assert "band 10" not in ran.err


# --- hostile ---


@pytest.mark.parametrize("name", ["reads_a_system_file.tif", "opens_the_network.tif"])
@pytest.mark.parametrize("role", ["fill", "water", "--reference", "--gap-mask", "--truth", "inpaint"])
def test_a_file_that_is_a_vrt_is_refused_in_every_role(make, out, lacunar, name, role):
    cases = make("hostile")
    path = cases / name
    if role in ("fill", "water"):
        ran = lacunar(role, path, "-o", out / "a.tif")
    elif role == "inpaint":
        ran = lacunar(role, path, "--mask", path, "-o", out / "a.png")
    else:
        ran = lacunar("fill", cases / "s.tif", "-o", out / "a.tif", role, path, *QUICK)
    refused(ran, "wanted")
    assert contents(out) == {}


@pytest.mark.parametrize("option", [(), ("--reference",), ("--gap-mask",)])
def test_a_raster_of_a_million_squared_is_refused_at_once(make, out, lacunar, option):
    cases = make("hostile")
    big = cases / "a_million_squared.tif"
    command = ("fill", cases / "s.tif", *option, big) if option else ("water", big)
    refused(lacunar(*command, "-o", out / "a.tif"), "wanted at most")


def test_resume_does_not_mix_two_sources_of_a_vrt(make, tmp_path, out, lacunar, tiny_folder):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("s.tif", "of_s.vrt"):
        shutil.copy(make("hostile") / name, folder)
    command = (
        "fill",
        folder / "of_s.vrt",
        "-o",
        out / "a.tif",
        "--model",
        tiny_folder,
        *QUICK,
        "--allow-vrt",
        "--resume",
    )
    accepted(lacunar(*command))
    assert "whole already" in accepted(lacunar(*command))
    with rasterio.open(folder / "s.tif", "r+") as dataset:
        dataset.write(dataset.read() + np.float32(7))
    ran = lacunar(*command)
    if ran.code:
        refused(ran, "exists|another run")
    else:
        assert "whole already" not in ran.out
        new, value = bands_of(folder / "s.tif")[0], bands_of(out / "a.tif")[0]
        np.testing.assert_array_equal(value[np.isfinite(new)], new[np.isfinite(new)])


def test_a_corrupt_archive_is_one_line(make, out, lacunar):
    refused(lacunar("lst", make("hostile") / "corrupt.tar.xz", "-o", out / "a.tif"), "corrupt.tar.xz")
