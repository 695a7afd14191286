"""The commands with other dates and covariates: what they change, what they say, what they refuse to overwrite."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from scipy import ndimage

from commands import bands_of, cloud_at, contents, hole, write
from lacunar.sensors.scene import open_scene
from lacunar.sensors.simulated import PRODUCT_ID
from products import edit_mtl

SHAPE = (64, 96)
GAP = hole(SHAPE, slice(15, 50), slice(20, 60))


def rough(seed=0, shape=SHAPE):
    """A field in kelvin whose detail nothing around a gap tells."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2.0)
    return (300.0 + 4.0 * noise / noise.std()).astype(np.float32)


@pytest.fixture
def scene(tmp_path):
    """A raster with a gap, its truth, and another date: other mean and contrast, its own gap."""
    truth = rough()
    other = (0.7 * truth + 70.0 + np.random.default_rng(9).normal(0.0, 0.05, SHAPE)).astype(np.float32)
    other[hole(SHAPE, slice(0, 10), slice(40, 90))] = np.nan
    write(tmp_path / "truth.tif", truth, units="K")
    write(tmp_path / "in_20240813.tif", np.where(GAP, np.nan, truth).astype(np.float32), units="K")
    write(tmp_path / "other_20240828.tif", other, units="K")
    return tmp_path


@pytest.fixture
def fill(lacunar, scene, tiny_folder, out):
    """Run `fill` on the scene; gives how it ended."""

    def run(*extra, name="out.tif"):
        told = ("-o", out / name, "--model", tiny_folder, "--samples", 2, "--truth", scene / "truth.tif")
        return lacunar("fill", scene / "in_20240813.tif", *told, *extra)

    return run


def record_of(out, name="out"):
    return json.loads((out / f"{name}.json").read_text())


def test_another_date_shows_what_lies_in_the_gap(fill, scene, out):
    assert fill(name="alone.tif").code == 0
    ran = fill("--reference", scene / "other_20240828.tif")
    assert (ran.code, ran.err) == (0, "")
    alone, told = record_of(out, "alone"), record_of(out)
    assert told["truth"]["rmse"] < 0.5 * alone["truth"]["rmse"]
    assert alone["references"] == alone["covariates"] == told["covariates"] == []
    (entry,) = told["references"]
    assert (entry["name"], entry["date"], entry["days_apart"]) == ("other_20240828.tif", "2024-08-28", 15)
    assert ran.out.splitlines()[1] == "guided by other_20240828.tif, 15 days apart, measured in 100.0% of the gap"
    assert "--reference" in told["command"]
    value, known = bands_of(out / "out.tif")[0], ~GAP
    np.testing.assert_array_equal(value[known], rough()[known])  # bit by bit


def test_several_references_and_covariates_are_given_one_by_one(fill, scene, out):
    write(scene / "dem.tif", (rough(3) - 250.0).astype(np.float32), units="m")
    degrees = write(scene / "day_20240814.tif", (0.9 * rough() - 250.0).astype(np.float32), units="degC")
    others = ("--reference", scene / "other_20240828.tif", "--reference", degrees)
    ran = fill(*others, "--covariate", scene / "dem.tif")
    assert ran.code == 0
    assert ran.out.splitlines()[1:4] == [
        "guided by other_20240828.tif, 15 days apart, measured in 100.0% of the gap",
        "guided by day_20240814.tif, 1 day apart, measured in 100.0% of the gap; converted from degC to K",
        "guided by dem.tif, measured in 100.0% of the gap",
    ]
    record = record_of(out)
    assert [len(record[kind]) for kind in ("references", "covariates")] == [2, 1]


def test_a_covariate_alone_guides_too(fill, scene, out):
    finer = Affine(10.0, 0.0, 400_000.0, 0.0, -10.0, 5_700_000.0)
    dem = np.kron(-3.0 * rough() + 1000.0, np.ones((3, 3))).astype(np.float32)
    assert fill(name="alone.tif").code == 0
    assert fill("--covariate", write(scene / "dem.tif", dem, units="m", transform=finer)).code == 0
    record = record_of(out)
    assert record["covariates"][0]["warped"]
    assert record["truth"]["rmse"] < 0.5 * record_of(out, "alone")["truth"]["rmse"]


def test_a_reference_on_another_grid_is_warped_first(fill, scene, out):
    shifted = Affine(30.0, 0.0, 399_400.0, 0.0, -30.0, 5_700_300.0)
    wide = np.full((90, 140), 270.0, np.float32)
    wide[10:74, 20:116] = 0.7 * rough() + 70.0
    far = fill("--reference", write(scene / "wide.tif", wide, units="K", transform=shifted))
    assert far.code == 0
    np.testing.assert_allclose(bands_of(out / "out.tif")[0], rough(), atol=1.0)


def test_the_same_seed_gives_the_same_bits(fill, scene, out):
    for name in ("one.tif", "two.tif"):
        assert fill("--reference", scene / "other_20240828.tif", name=name).code == 0
    np.testing.assert_array_equal(bands_of(out / "one.tif"), bands_of(out / "two.tif"))


def test_a_product_is_guided_by_another_product(lacunar, simulated_64, tiny_folder, tmp_path, out):
    other = Path(shutil.copytree(simulated_64.folder, tmp_path / "other"))
    edit_mtl(other, ("DATE_ACQUIRED = 2022-11-15", "DATE_ACQUIRED = 2022-10-30"), (f'"{PRODUCT_ID}"', '"OTHER"'))
    clouds = open_scene(simulated_64.folder).measured().missing
    cloud_at(other, np.roll(clouds, 20, axis=1))
    told = ("--model", tiny_folder, "--samples", 2, "-o", out / "lst.tif")
    ran = lacunar("lst", simulated_64.folder, *told, "--reference", other)
    assert (ran.code, ran.err) == (0, "")
    (entry,) = record_of(out, "lst")["references"]
    assert (entry["path"], entry["date"], entry["days_apart"]) == (str(other), "2022-10-30", 16)
    assert 0 < entry["share_of_gap"] < 1
    assert f"guided by OTHER (2022-10-30), 16 days apart, measured in {entry['share_of_gap']:.1%} of the gap" in ran.out


# --- refused, with nothing written ---


@pytest.mark.parametrize("option", ["--reference", "--covariate"])
def test_a_reference_is_never_overwritten(lacunar, scene, tiny_folder, option):
    before, other = contents(scene), scene / "other_20240828.tif"
    told = ("-o", other, "--model", tiny_folder, "--overwrite", option, other)
    ran = lacunar("fill", scene / "in_20240813.tif", *told)
    assert (ran.code, ran.out) == (2, "")
    assert "other_20240828.tif is an input of this very run" in ran.err
    assert contents(scene) == before


def test_repaint_takes_no_reference(fill, scene, out):
    ran = fill("--reference", scene / "other_20240828.tif", "--preset", "paper")
    assert (ran.code, ran.out) == (2, "")
    assert "preset paper is RePaint, whose prior knows no guides (references, covariates): choose fast" in ran.err
    assert contents(out) == {}


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--reference", "in_20240813.tif", "in_20240813.tif is the input too: wanted another date"),
        ("--reference", "far.tif", "far.tif does not overlap the input: x 800000 to"),
        ("--reference", "cloud.tif", "none in common with it (all cloud, or nodata?): wanted some"),
        ("--covariate", "cloud.tif", "none in common with it (all cloud, or nodata?): wanted some"),
        ("--reference", "celsius.tif", "holds values from 12 to 12 without a unit tag, which are no land surface"),
        ("--covariate", "bands.tif", "bands.tif has 2 bands: wanted one"),
        ("--reference", "none.tif", "none.tif: no such file"),
    ],
)
def test_what_cannot_guide_is_refused_in_one_line(fill, scene, out, option, name, message):
    full = np.ones(SHAPE, np.float32)
    write(scene / "far.tif", 300 * full, transform=Affine(30.0, 0.0, 800_000.0, 0.0, -30.0, 5_700_000.0))
    write(scene / "cloud.tif", np.where(GAP, 300.0, np.nan).astype(np.float32), units="K")
    write(scene / "celsius.tif", 12 * full)
    write(scene / "bands.tif", np.stack([full, full]))
    ran = fill(option, scene / name)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert contents(out) == {}


def test_of_several_scenes_one_may_be_among_the_references(lacunar, tmp_path, tiny_folder, out):
    for number, name in enumerate(("a", "b")):
        values = (300 + np.add.outer(np.arange(64.0), np.arange(64.0)) / 9 + number).astype(np.float32)
        values[20:30, 20:30] = np.nan
        write(tmp_path / f"{name}.tif", values, units="K")
    asked = ("--reference", tmp_path / "a.tif", "--model", tiny_folder, "--preset", "instant")
    ran = lacunar("fill", tmp_path / "a.tif", tmp_path / "b.tif", "-o", out, *asked)
    assert ran.code == 0
    assert f"note: {tmp_path / 'a.tif'} is among its own references: left out there" in ran.err
    used = [json.loads((out / f"{name}_filled.json").read_text())["references"] for name in ("a", "b")]
    assert [len(references) for references in used] == [0, 1]
