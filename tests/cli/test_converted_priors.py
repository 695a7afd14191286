"""Other people's DDPMs from the checkpoint to the filled picture, as a user types it and from Python."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import lacunar as lc
from guided_checkpoints import ARCHITECTURE, guided_state, save_diffusers_folder
from lacunar.cli import BAD_INPUT
from lacunar.diffusion.samplers import plan
from lacunar.models.backend import load_filler
from lacunar.pictures.fill import Drawing, fill_window


def convert(run, *arguments):
    ran = run("convert", *arguments)
    assert (ran.code, ran.err) == (0, "")
    return arguments[1]


@pytest.fixture
def photo(tmp_path):
    """A picture of 80 x 96 pixels, and a mask on it."""
    rows, cols = np.indices((80, 96))
    waves = 127 + 60 * np.sin(rows / 9) + 50 * np.cos(cols / 7)
    Image.fromarray(np.stack([waves, 255 - waves, waves / 2], axis=2).astype(np.uint8)).save(tmp_path / "photo.png")
    mask = np.zeros((80, 96), np.uint8)
    mask[20:44, 16:40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path / "photo.png", tmp_path / "mask.png"


@pytest.fixture
def small(lacunar, tmp_path):
    """A diffusers DDPM of 32 x 32 pixels, converted."""
    return convert(lacunar, save_diffusers_folder(tmp_path / "ddpm", 32), tmp_path / "small")


def check_filled(photo, output):
    """The pixels outside the mask are those of the photograph, and those inside are not."""
    before, after, mask = (np.asarray(Image.open(path)) for path in (photo[0], output, photo[1]))
    np.testing.assert_array_equal(after[mask == 0], before[mask == 0])
    assert (after[mask > 0] != before[mask > 0]).mean() > 0.5
    return after


@pytest.mark.parametrize("sampler", ["repaint", "ddrm", "ddnm", "diffpir"])
def test_a_diffusers_folder_fills_a_picture_and_the_seed_decides(lacunar, small, photo, out, sampler):
    filled = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        told = (
            "--mask",
            photo[1],
            "--model",
            small,
            "--sampler",
            sampler,
            "--evaluations",
            6,
            "--seed",
            seed,
            "--json",
        )
        ran = lacunar("inpaint", photo[0], "-o", out / f"{name}.png", *told)
        assert ran.code == 0, ran.err
        record = json.loads(ran.out)
        assert (record["sampler"], record["model"]["name"]) == (sampler, "small")
        filled.append(check_filled(photo, out / f"{name}.png"))
    np.testing.assert_array_equal(filled[0], filled[1])
    assert (filled[0] != filled[2]).any()


def test_guided_diffusion_weights_of_256_pixels_fill_a_picture_and_a_face(lacunar, photo, out, tmp_path):
    torch.save(guided_state(), tmp_path / "celeba.pt")
    (tmp_path / "celeba.json").write_text(json.dumps(ARCHITECTURE))
    told = (tmp_path / "celeba.pt", tmp_path / "celeba", "--architecture", tmp_path / "celeba.json")
    folder = convert(lacunar, *told)
    network = load_filler(folder).network
    assert (network.config.sample_size, network.config.learned_variance) == (256, True)
    shared = ("--mask", photo[1], "--model", folder, "--sampler", "repaint", "--evaluations", 4)
    for command in (("inpaint",), ("face", "--whole", "--detail", "none")):
        output = out / f"{command[0]}.png"
        ran = lacunar(*command, photo[0], "-o", output, *shared)
        assert ran.code == 0, ran.err
        check_filled(photo, output)


def test_a_diffusers_folder_of_256_pixels_fills_a_picture(lacunar, photo, out, tmp_path):
    folder = convert(lacunar, save_diffusers_folder(tmp_path / "ddpm", 256, levels=5), tmp_path / "large")
    told = ("--mask", photo[1], "--model", folder, "--sampler", "ddnm", "--evaluations", 2)
    ran = lacunar("inpaint", photo[0], "-o", out / "a.png", *told)
    assert ran.code == 0, ran.err
    check_filled(photo, out / "a.png")


def test_from_python(small, photo):
    picture, missing = np.asarray(Image.open(photo[0])), np.asarray(Image.open(photo[1])) > 0
    answers = lc.inpaint(picture, missing, model=small, sampler="diffpir", evaluations=5, samples=2)
    np.testing.assert_array_equal(answers[:, ~missing], np.stack([picture[~missing]] * 2))
    assert (answers[0] != answers[1])[missing].mean() > 0.5


def test_a_wide_region_is_filled_coarse_to_fine_by_the_prior_itself(small):
    missing = np.zeros((70, 70), bool)
    missing[10:50, 10:50] = True
    pictures, calls = np.zeros((1, 70, 70, 3), np.float32), []
    drawing = Drawing(plan("ddnm", 10), 1)
    filled = fill_window(pictures, missing, load_filler(small), drawing, halvings=2, callback=lambda: calls.append(1))
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[0][~missing], pictures[0][~missing])
    assert len(calls) == 10 + 2 * 3  # whole on the coarsest grid, and the last 0.3 of the steps on the two finer ones


@pytest.mark.parametrize("command", ["inpaint", "face"])
def test_a_prior_cannot_be_sampled_as_a_conditional_network(lacunar, small, photo, out, command):
    more = ("--whole", "--detail", "none") if command == "face" else ()
    ran = lacunar(command, photo[0], "--mask", photo[1], "-o", out / "a.png", "--model", small, *more)
    assert (ran.code, ran.out) == (BAD_INPUT, "")
    assert ran.err == (
        "lacunar: model small is an unconditional prior, which knows no mask and ddim cannot hold to the picture: "
        "choose --preset paper, or --sampler repaint, ddrm, ddnm, diffpir and --evaluations\n"
    )
    assert not list(out.iterdir())


def test_a_model_of_another_range_is_refused(lacunar, small, photo, out):
    (small / "scaling.json").write_text(json.dumps({"kind": "range", "low": 0.0, "high": 1.0}))
    told = ("--mask", photo[1], "--model", small, "--preset", "paper")
    ran = lacunar("inpaint", photo[0], "-o", out / "a.png", *told)
    assert ran.code == BAD_INPUT
    assert "scaling.json says {'kind': 'range', 'low': 0.0, 'high': 1.0}, wanted" in ran.err
    assert ran.err.count("\n") == 1
