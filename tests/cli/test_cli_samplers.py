"""--sampler, --evaluations and the preset instant as a user types them, and samplers compared by the evaluations."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from commands import write
from lacunar.cli import BAD_INPUT
from lacunar.cli.options import SamplerOption
from lacunar.diffusion.samplers import SAMPLERS
from picture_models import save_tiny


@pytest.fixture
def raster(tmp_path):
    """A raster of one tile with a hole."""
    values = 300 + 5 * ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((64, 64)), 4)
    values[20:36, 10:30] = np.nan
    return write(tmp_path / "in.tif", values.astype(np.float32))


@pytest.fixture(scope="module")
def picture_folder(tmp_path_factory):
    """A picture model with few, random weights."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def photo(tmp_path):
    """A picture of 64 x 64 pixels, and a mask on it."""
    rows, cols = np.indices((64, 64))
    waves = 127 + 60 * np.sin(rows / 9) + 50 * np.cos(cols / 7)
    Image.fromarray(np.stack([waves, 255 - waves, waves / 2], axis=2).astype(np.uint8)).save(tmp_path / "photo.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[20:34, 16:40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path / "photo.png", tmp_path / "mask.png"


def test_the_help_names_every_sampler():
    text = SamplerOption.__metadata__[0].help
    assert all(name in text for name in SAMPLERS)


def test_instant_needs_no_number_of_samples(lacunar, raster, tiny_folder, out):
    told = ("fill", raster, "-o", out / "a.tif", "--model", tiny_folder, "--preset", "instant", "--quantiles", "0.1")
    ran = lacunar(*told)
    assert (ran.code, ran.err) == (0, "")
    record = json.loads((out / "a.json").read_text())
    assert (record["preset"], record["sampler"], record["samples"]) == ("instant", "ddim", 1)
    assert record["network_evaluations"] == {"per_sample_and_tile": 1, "all": 1}
    assert "not calibrated" not in ran.out


def test_the_record_tells_the_sampler_and_that_its_sigma_is_not_calibrated(lacunar, raster, tiny_folder, out):
    told = ("fill", raster, "-o", out / "a.tif", "--model", tiny_folder, "--samples", 2)
    ran = lacunar(*told, "--sampler", "adams", "--evaluations", 5)
    assert (ran.code, ran.err) == (0, "")
    record = json.loads((out / "a.json").read_text())
    assert (record["preset"], record["sampler"], record["samples"]) == ("fast", "adams", 2)
    assert record["network_evaluations"] == {"per_sample_and_tile": 5, "all": 10}
    assert "note: sigma is not calibrated for adams:5\n" in ran.out
    lacunar(*told, "--overwrite")
    assert "sampler_note" not in json.loads((out / "a.json").read_text())


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("unknown sampler 'euler': choose one of ddim, adams, dpm-solver++", ("--sampler", "euler")),
        ("preset instant is one evaluation and no sampler", ("--preset", "instant", "--evaluations", 3)),
        ("4 samples: preset instant gives the mean alone, 1", ("--preset", "instant", "--samples", 4)),
    ],
)
def test_what_contradicts_is_refused_in_one_line(
    lacunar, raster, tiny_folder, photo, picture_folder, out, message, words
):
    for arguments in (
        ("fill", raster, "-o", out / "a.tif", "--model", tiny_folder),
        ("inpaint", photo[0], "--mask", photo[1], "-o", out / "a.png", "--model", picture_folder),
    ):
        ran = lacunar(*arguments, *words)
        assert (ran.code, ran.out) == (BAD_INPUT, "")
        assert ran.err.startswith(f"lacunar: {message}")
        assert ran.err.count("\n") == 1
    assert not list(out.iterdir())


def test_a_picture_is_filled_by_the_sampler_that_is_asked_for(lacunar, photo, picture_folder, out):
    told = ("inpaint", photo[0], "--mask", photo[1], "--model", picture_folder, "--json")
    found = []
    for number, words in enumerate((("--sampler", "ddnm", "--evaluations", 3), ("--preset", "instant"))):
        ran = lacunar(*told, "-o", out / f"{number}.png", *words)
        assert ran.code == 0, ran.err
        record = json.loads(ran.out)
        found.append((record["preset"], record["sampler"], record["evaluations_per_sample"]))
    assert found == [("fast", "ddnm", 3), ("instant", "ddim", 1)]
