"""`lacunar inpaint` and `lacunar face` as a user runs them: what comes out, and bad input in one line that teaches."""

import json
import os
import re

import numpy as np
import pytest
from PIL import Image
from skimage import data

from commands import contents, png_of_zeros
from lacunar.cli import BAD_INPUT
from picture_models import save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def photo(tmp_path):
    """The astronaut's face, 260 x 280 pixels."""
    path = tmp_path / "astronaut.png"
    Image.fromarray(data.astronaut()[:260, 100:380]).save(path)
    return path


@pytest.fixture
def mask(tmp_path):
    return mask_of(tmp_path / "mask.png", (260, 280))


def mask_of(path, shape, rows=slice(130, 160), cols=slice(110, 140)):
    gap = np.zeros(shape, np.uint8)
    gap[rows, cols] = 255
    Image.fromarray(gap).save(path)
    return path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


# --- what comes out ---


def test_inpaint_keeps_all_that_is_outside_the_mask(lacunar, photo, mask, model, out):
    ran = lacunar("inpaint", photo, "--mask", mask, "-o", out / "a.png", "--model", model)
    assert ran.code == 0, ran.err
    assert re.search(r"filled 900 pixels \(1\.2%\) of 8-bit RGB in \d+ s\npicture: .*a\.png", ran.out)
    gap = pixels(mask) > 0
    np.testing.assert_array_equal(pixels(out / "a.png")[~gap], pixels(photo)[~gap])
    assert (pixels(out / "a.png")[gap] != pixels(photo)[gap]).mean() > 0.9
    assert [path.name for path in out.iterdir()] == ["a.png"]


def test_samples_mean_sheet_and_seed(lacunar, photo, mask, model, out):
    told = ("inpaint", photo, "--mask", mask, "--model", model, "--samples", 3)
    sheet = out / "sheet.png"
    assert lacunar(*told, "-o", out / "a.png", "--sheet", sheet).code == 0
    assert sorted(path.name for path in out.iterdir()) == ["a_1.png", "a_2.png", "a_3.png", "sheet.png"]
    samples = [pixels(out / f"a_{number}.png") for number in (1, 2, 3)]
    assert all((samples[a] != samples[b]).any() for a, b in ((0, 1), (0, 2), (1, 2)))
    ran = lacunar(*told, "-o", out / "m.png", "--mean", "--json")
    record = json.loads(ran.out)
    assert record["outputs"] == [str(out / "m.png")]
    assert (record["samples"], record["pixels_filled"], record["exact_outside_mask"]) == (3, 900, True)
    assert np.abs(pixels(out / "m.png") - np.mean(samples, axis=0)).max() <= 1  # of rounded samples
    lacunar(*told, "-o", out / "b.png")
    lacunar(*told, "-o", out / "c.png", "--seed", 1)
    np.testing.assert_array_equal(pixels(out / "b_2.png"), samples[1])
    assert (pixels(out / "c_2.png") != samples[1]).any()


@pytest.mark.parametrize("ending", ["webp", "tif"])
def test_alpha_is_kept_outside_what_is_filled(lacunar, mask, model, out, tmp_path, ending):
    rgba = np.random.default_rng(0).integers(0, 256, (260, 280, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    ran = lacunar("inpaint", tmp_path / "rgba.png", "--mask", mask, "-o", out / f"a.{ending}", "--model", model)
    assert ran.code == 0, ran.err
    made, gap = pixels(out / f"a.{ending}"), pixels(mask) > 0
    np.testing.assert_array_equal(made[~gap], rgba[~gap])
    assert (made[gap][:, 3] == 255).all()
    assert re.search(r"note: \d+ of the filled pixels were transparent: they are opaque now", ran.out)


def test_the_transparent_part_is_filled_or_the_black_of_a_mask(lacunar, photo, mask, model, out, tmp_path):
    gap = pixels(mask) > 0
    Image.fromarray(np.dstack([pixels(photo), np.where(gap, 0, 255).astype(np.uint8)])).save(tmp_path / "erased.png")
    told = ("inpaint", tmp_path / "erased.png", "--model", model, "--mask")
    assert lacunar(*told, "alpha", "-o", out / "a.png").code == 0
    assert lacunar(*told, mask, "-o", out / "b.png").code == 0
    np.testing.assert_array_equal(pixels(out / "a.png"), pixels(out / "b.png"))
    Image.fromarray(np.where(gap, 0, 255).astype(np.uint8)).save(tmp_path / "inverted.bmp")
    assert lacunar(*told, tmp_path / "inverted.bmp", "--invert", "-o", out / "c.png").code == 0
    np.testing.assert_array_equal(pixels(out / "c.png"), pixels(out / "b.png"))


def test_a_jpeg_says_that_it_is_not_exact(lacunar, photo, mask, model, out):
    ran = lacunar("inpaint", photo, "--mask", mask, "-o", out / "a.jpg", "--model", model)
    assert "note: JPEG does not keep the pixels outside the mask exactly" in ran.out


def test_face_is_found_and_only_the_mask_changes(lacunar, photo, mask, model, out):
    told = ("face", photo, "--mask", mask, "--model", model, "--samples", 2)
    ran = lacunar(*told, "--detail", "none", "-o", out / "a.png", "--sheet", out / "s.png", "--json")
    assert ran.code == 0, ran.err
    record, gap = json.loads(ran.out), pixels(mask) > 0
    assert np.hypot(record["face"]["x"] - 127, record["face"]["y"] - 115) < 25  # the nose, by eye
    assert 90 < record["face"]["side"] < 190
    for number in (1, 2):
        np.testing.assert_array_equal(pixels(out / f"a_{number}.png")[~gap], pixels(photo)[~gap])
    ran = lacunar(*told, "--detail", "none", "-o", out / "b.png")
    assert ran.code == 0, ran.err
    assert re.search(r"face at \(\d+, \d+\), \d+ pixels wide, tilted by -?\d+ degrees", ran.out)


def test_whole_and_box_ask_no_detector(lacunar, mask, model, out, tmp_path):
    Image.fromarray(np.full((260, 280, 3), 128, np.uint8)).save(tmp_path / "grey.png")
    told = ("face", tmp_path / "grey.png", "--mask", mask, "--model", model, "--detail", "none")
    whole = json.loads(lacunar(*told, "--whole", "-o", out / "w.png", "--json").out)
    assert whole["face"] == {"x": 140.0, "y": 130.0, "side": 260.0, "tilt_degrees": 0.0, "votes": 0}
    assert lacunar(*told, "--box", "80,90,90,90", "-o", out / "x.png").code == 0


def test_what_lies_outside_the_frame_is_filled_too(lacunar, photo, model, out, tmp_path):
    gap = np.zeros((260, 280), np.uint8)
    gap[130:160, 110:140] = gap[235:250, 20:40] = 255
    Image.fromarray(gap).save(tmp_path / "two.png")
    told = ("face", photo, "--mask", tmp_path / "two.png", "--model", model, "--box", "80,80,95,95")
    ran = lacunar(*told, "--detail", model, "-o", out / "a.png")
    assert ran.code == 0, ran.err
    changed = (pixels(out / "a.png") != pixels(photo)).any(axis=2)
    assert not changed[gap == 0].any()
    assert changed[gap > 0].mean() > 0.9


# --- bad input ---


@pytest.fixture
def refused(lacunar, out, photo, mask, model):
    """Run a command and hold it to the contract of bad input."""

    def run(message, *more, command="inpaint", picture=photo, mask=mask, output=out / "a.png", model=model):
        before = contents(out)
        told = ("--mask", mask) if mask is not None else ()
        ran = lacunar(command, picture, *told, "-o", output, "--model", model, "--sheet", out / "s.png", *more)
        assert (ran.code, ran.out) == (BAD_INPUT, "")
        assert ran.err.startswith("lacunar: ")
        assert ran.err.count("\n") == 1
        assert re.search(message, ran.err), ran.err
        assert ".partial" not in ran.err
        assert contents(out) == before

    return run


def test_no_mask(refused):
    refused("Missing option '--mask'", mask=None)


def test_masks_that_do_not_serve(refused, tmp_path):
    other = mask_of(tmp_path / "other.png", (280, 260))
    refused("has 260 x 280 pixels, .*astronaut.png has 280 x 260: wanted one size", mask=other)
    white = mask_of(tmp_path / "white.png", (260, 280), slice(None), slice(None))
    refused("white everywhere: all would be filled from nothing", mask=white)
    black = mask_of(tmp_path / "black.png", (260, 280), slice(0, 0))
    refused("black everywhere: nothing would be filled", mask=black)
    refused("none.png does not exist, wanted a picture", mask=tmp_path / "none.png")


def test_pictures_that_do_not_serve(refused, tmp_path):
    frames = [Image.fromarray(np.full((260, 280), value, np.uint8)) for value in (0, 99)]
    frames[0].save(tmp_path / "animated.webp", save_all=True, append_images=frames[1:])
    refused("has 2 frames or pages, wanted a single picture", picture=tmp_path / "animated.webp")
    Image.new("CMYK", (280, 260)).save(tmp_path / "cmyk.jpg")
    refused("is a picture in CMYK, wanted grey or RGB", picture=tmp_path / "cmyk.jpg")
    png_of_zeros(tmp_path / "bomb.png", 30_000, 30_000)
    refused("has more than 178,956,970 pixels .*: cut out the part around the mask", picture=tmp_path / "bomb.png")
    Image.fromarray(data.astronaut()).save(tmp_path / "cut.jpg")
    os.truncate(tmp_path / "cut.jpg", 9000)
    refused("cut.jpg cannot be read .*: is it cut off or damaged", picture=tmp_path / "cut.jpg")
    refused("is a folder, wanted a picture", picture=tmp_path)


def test_outputs_that_cannot_be(refused, mask, photo, out, tmp_path):
    refused("nothing can be written in /proc", output="/proc/a.png")
    refused("does not exist, wanted an existing folder", output=out / "none" / "a.png")
    refused("wanted an ending of .png, .jpg", output=out / "a.bmp")
    refused("is an input of this very run", "--overwrite", output=photo)
    (out / "a_2.png").write_text("there")
    refused("a_2.png exists, wanted a new name", "--samples", 2)
    Image.fromarray(np.zeros((260, 280, 4), np.uint8)).save(tmp_path / "rgba.png")
    refused("JPEG cannot keep alpha", picture=tmp_path / "rgba.png", output=out / "a.jpg")
    Image.fromarray(np.zeros((260, 280), np.uint16)).save(tmp_path / "deep.png")
    refused("JPEG cannot keep 16 bit", picture=tmp_path / "deep.png", output=out / "a.jpg")
    refused("WEBP cannot keep 16 bit", picture=tmp_path / "deep.png", output=out / "a.webp")


def test_options_that_contradict(refused, tiny_folder):
    refused("the mean of 1 sample is that sample", "--mean")
    refused("unknown preset 'slow': choose one of fast, balanced, paper", "--preset", "slow")
    refused("65 samples and seed 0: wanted 1 to 64 samples", "--samples", 65)
    refused("unknown model 'none', wanted a model folder or a shipped model", model="none")
    refused("choose a model of faces or pictures", model=tiny_folder)
    refused("face-full knows aligned faces alone, wanted a model of any picture", model="face-full")
    refused("face-full knows aligned faces alone", "--detail", "face-full", "--whole", command="face")


def test_no_face_several_and_none_under_the_mask(refused, photo, mask, model, tmp_path):
    grey = tmp_path / "grey.png"
    Image.fromarray(np.full((260, 280, 3), 128, np.uint8)).save(grey)
    refused("no face was found: say where it is with --box", command="face", picture=grey)
    refused("no face 2: wanted 1 to 1", "--face", 2, command="face")
    refused("more than one of --face, --box and --whole", "--face", 1, "--whole", command="face")
    refused("--box 'here': wanted X,Y,WIDTH,HEIGHT in pixels", "--box", "here", command="face")
    refused("box .*: wanted X,Y,WIDTH,HEIGHT", "--box", "1,2,0,0", command="face")
    away = ("--detail", "none", "--box", "900,900,50,50")
    refused("the mask does not touch the face", *away, command="face")
    far = mask_of(tmp_path / "far.png", (260, 280), slice(240, 258), slice(2, 20))
    refused("touches none of the faces found", command="face", mask=far)
    half = mask_of(tmp_path / "half.png", (260, 280), slice(100, 160), slice(2, 150))
    refused("pixels of the mask lie outside the face's frame", "--detail", "none", command="face", mask=half)
    refused("touches 2 faces of 2 .*: choose with --face INDEX", command="face", **two_faces(tmp_path))


def two_faces(folder):
    face = data.astronaut()[:260, 100:380]
    Image.fromarray(np.hstack([face, face[:, ::-1]])).save(folder / "two.png")
    return {
        "picture": folder / "two.png",
        "mask": mask_of(folder / "across.png", (260, 560), slice(140, 150), slice(125, 435)),
    }
