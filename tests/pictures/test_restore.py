"""Restoring pictures: what was measured stays, a Gaussian prior gives the exact posterior, bad input teaches."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from lacunar.diffusion.operators import BoxDownsample
from lacunar.errors import LacunarError, PictureError
from lacunar.pictures.degradation import Degradation, decoded, encoded, rounded_blocks
from lacunar.pictures.restore import restore, tone_mapped
from picture_models import GaussianPicture, picture_model, save_tiny

RNG = np.random.default_rng(0)
SMOOTH = ndimage.gaussian_filter(RNG.random((64, 72, 3)), (6, 6, 0))
SMOOTH = (SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH)
PIXELS = np.rint(SMOOTH * 255).astype(np.uint8)


def model(mean=0.0, variance=0.1):
    return picture_model(GaussianPicture(mean=mean, variance=variance))


def drawn(picture, degradation, **changes):
    return restore(picture, degradation, **({"model": model(), "evaluations": 6} | changes))


def blocks(picture, factor):
    shape = (picture.shape[0] // factor, factor, picture.shape[1] // factor, factor, -1)
    return picture.astype(float).reshape(shape).mean(axis=(1, 3))


@pytest.mark.parametrize("sampler", ["ddrm", "ddnm", "diffpir", "repaint"])
def test_block_means_of_an_enlarged_picture_are_the_given_pixels_exactly(sampler):
    small = np.array(Image.fromarray(PIXELS).resize((18, 16)))
    small[:4], small[4:6] = 255, 0  # where pixels cannot leave the range
    large = drawn(small, Degradation(task="superres", scale=4), sampler=sampler)
    assert (large.shape, large.dtype) == ((64, 72, 3), np.uint8)
    np.testing.assert_array_equal(blocks(large, 4), small)
    assert large[32:].std() > large[32:].reshape(8, 4, 18, 4, 3).mean((1, 3)).std()  # the prior has added detail


def test_rounding_keeps_every_sum_wherever_the_remainders_lie():
    means = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    noisy = means.repeat(3, 0).repeat(3, 1) + RNG.normal(0, 40, (27, 21, 3))
    exact = rounded_blocks(noisy, means, 255)
    np.testing.assert_array_equal(blocks(exact, 3), means)
    inner = np.abs(blocks(noisy, 3) - means).repeat(3, 0).repeat(3, 1)
    assert np.median(np.abs(exact - noisy) - inner) < 1.5


def test_grey_levels_and_pixels_that_were_seen_are_kept():
    grey = np.rint(SMOOTH[..., :1] * 255).astype(np.uint8)
    coloured = drawn(grey, "colourise")
    assert coloured.shape == (64, 72, 3)
    luma = coloured @ np.array([0.299, 0.587, 0.114])
    inside = ((coloured > 0) & (coloured < 255)).all(axis=2)
    assert inside.mean() > 0.5
    assert np.abs(luma - grey[..., 0])[inside].max() <= 0.51  # rounding
    assert np.ptp(coloured.astype(int), axis=2).max() > 20
    missing = np.zeros((64, 72), bool)
    missing[20:30, 20:40] = True
    filled = drawn(PIXELS, "inpaint", missing=missing)
    np.testing.assert_array_equal(filled[~missing], PIXELS[~missing])
    assert (filled[missing] != PIXELS[missing]).mean() > 0.9


def test_denoising_by_a_gaussian_prior_is_wiener_shrinkage():
    # pixels N(m, v) in [-1, 1] seen with noise s: the posterior mean is m + v / (v + s^2) (y - m)
    noisy = np.full((64, 64, 3), 0.8, np.float32)
    answers = drawn(noisy, Degradation(task="denoise", noise=0.2), evaluations=60, model=model(variance=0.1))
    wanted = 0.1 / (0.1 + 0.4**2) * 0.6
    assert 2 * answers.mean() - 1 == pytest.approx(wanted, abs=0.05)  # DiffPIR's bias; 0.6 unshrunk


def test_deblurring_agrees_with_the_blur():
    blurred = ndimage.gaussian_filter(SMOOTH, (1, 1, 0), mode="reflect").astype(np.float32)
    sharp = drawn(blurred, Degradation(task="deblur", blur=1.0), evaluations=10)
    inside = ndimage.uniform_filter(((sharp > 0) & (sharp < 1)).all(axis=2).astype(float), 9) == 1
    assert inside.mean() > 0.2
    assert np.abs(ndimage.gaussian_filter(sharp, (1, 1, 0), mode="reflect") - blurred)[inside].max() < 0.01
    moved = ndimage.uniform_filter1d(SMOOTH, 5, axis=1).astype(np.float32)
    sharp = drawn(moved, Degradation(task="deblur", motion=(5, 0.0), noise=0.01), evaluations=10)
    again = ndimage.uniform_filter1d(sharp, 5, axis=1)[:, 5:-5]
    assert np.abs(again - moved[:, 5:-5]).mean() < 0.025


def test_highlights_are_at_least_white_and_all_else_is_kept():
    light = decoded(SMOOTH) * 2
    clipped = np.rint(encoded(light.clip(0, 1)) * 255).astype(np.uint8)
    found = drawn(clipped, "hdr")
    assert found.dtype == np.float32
    saturated = clipped >= 254
    assert saturated.any()
    assert found[saturated].min() >= 1
    np.testing.assert_allclose(found[~saturated], decoded(clipped / 255)[~saturated], rtol=1e-4, atol=1e-6)
    shown = tone_mapped(found)
    assert 0 <= shown.min() < shown.max() <= 1


def test_any_operator_samples_and_types():
    small = np.round(blocks(PIXELS, 2)) / 255
    large = drawn(small, BoxDownsample(2))
    assert large.dtype == np.float64
    assert large.shape == (64, 72, 3)
    deep = (SMOOTH * 65535).astype(np.uint16)
    one = drawn(deep, Degradation(task="denoise", noise=0.1))
    three = drawn(deep, Degradation(task="denoise", noise=0.1), samples=3)
    assert three.shape == (3, 64, 72, 3)
    assert three.dtype == np.uint16
    np.testing.assert_array_equal(three[0], one)
    assert (three[0] != three[1]).mean() > 0.9


def test_an_unconditional_network_serves_too_on_pictures_smaller_than_its_tiles():
    class Blind(GaussianPicture):
        in_channels = 3

    small = PIXELS[:20, :24]
    answer = restore(
        small, Degradation(task="superres", scale=2), model=picture_model(Blind(variance=0.1)), evaluations=4
    )
    np.testing.assert_array_equal(blocks(answer, 2), small)


def test_bad_input():
    noisy = Degradation(task="denoise", noise=0.1)
    refused = [
        (lambda: Degradation(task="denoise", noise=25), r"got noise of 25, wanted .* as a share of white"),
        (lambda: Degradation(task="denoise"), "denoise without the noise's standard deviation"),
        (lambda: Degradation(task="sharpen"), "unknown task 'sharpen': choose one of superres"),
        (lambda: Degradation(task="superres", scale=1), "got a scale of 1, wanted a whole number from 2"),
        (lambda: Degradation(task="superres", kernel="cubic"), "unknown kernel 'cubic'"),
        (lambda: Degradation(task="hdr", stops=0), "got 0 stops"),
        (lambda: drawn(PIXELS, "colourise"), "the picture to colourise has colours"),
        (lambda: drawn(PIXELS, "inpaint"), "inpaint without a mask"),
        (lambda: drawn(PIXELS.astype(int), noisy), "the picture holds int64 values"),
        (lambda: drawn(2 * SMOOTH, noisy), "the picture holds floats beyond 0 to 1"),
        (lambda: drawn(SMOOTH[..., :2], noisy), r"the picture has shape \(64, 72, 2\)"),
        (lambda: drawn(PIXELS, noisy, sampler="ddim"), "sampler ddim cannot hold a picture to a measurement"),
        (lambda: drawn(PIXELS, Degradation(task="deblur", blur=30.0)), "got a blur of sigma 30.0 for 64 pixels"),
        (lambda: drawn(PIXELS[:16], Degradation(task="deblur", motion=(17, 0.0))), "got a motion of 17 pixels for a"),
        (lambda: drawn(PIXELS, noisy, sampler="repaint"), "repaint takes linear measurements without noise alone"),
    ]
    for call, said in refused:
        with pytest.raises(LacunarError, match=said):
            call()
    with pytest.raises(PictureError, match="wanted sides of at most 4096 for deblur"):
        Degradation(task="deblur").operator((10, 5000))


def test_the_command(lacunar, tmp_path, out):
    tiny = save_tiny(tmp_path / "tiny")
    small = PIXELS[:24, :32]
    Image.fromarray(small).save(tmp_path / "small.png")
    given = ("--model", tiny, "--evaluations", 2)
    ran = lacunar("restore", tmp_path / "small.png", "--task", "superres", "--scale", 2, "-o", out / "a.png", *given)
    assert ran.code == 0, ran.err
    assert "superres: diffpir, 2 evaluations" in ran.out
    np.testing.assert_array_equal(blocks(np.asarray(Image.open(out / "a.png")), 2), small)
    words = ("--task", "hdr", "-o", out / "light.tif", *given)
    ran = lacunar("restore", tmp_path / "small.png", *words)
    assert ran.code == 0, ran.err
    assert {path.name for path in out.iterdir()} == {"a.png", "light.tif", "light.png"}
    bad = lacunar("restore", tmp_path / "small.png", "--task", "hdr", "-o", out / "light.png", *given)
    assert (bad.code, bad.err) == (
        2,
        f"lacunar: {out / 'light.png'}: linear light wants .hdr, .tif, .tiff: rename it\n",
    )
    bad = lacunar("restore", tmp_path / "small.png", "--task", "deblur", "--motion", "x", "-o", out / "b.png", *given)
    assert bad.code == 2
    assert "wanted LENGTH,ANGLE in pixels and degrees" in bad.err
