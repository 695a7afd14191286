"""What masks of pictures say, and when they are asked about."""

import numpy as np
import pytest
from PIL import Image

from lacunar.errors import PictureError
from lacunar.geo.masks import ALPHA, read_mask
from lacunar.geo.picture import Picture

SHAPE = (20, 30)
HOLE = np.zeros(SHAPE, bool)
HOLE[5:9, 10:16] = True


def mask_file(path, values):
    Image.fromarray(np.asarray(values)).save(path)
    return path


def judged(path, shape=SHAPE, *, alpha=None, **how):
    picture = Picture(np.zeros((*shape, 3), np.uint8), alpha)
    return read_mask(path, picture, of=path.with_name("photo.png"), **how)


def read(path, shape):
    found = judged(path, shape)
    assert found.notes == ()
    return found.missing


def grey(yes=255, no=0, where=HOLE):
    return np.where(where, yes, no).astype(np.uint8)


def test_white_is_to_be_filled_from_half_upwards(tmp_path):
    path = mask_file(tmp_path / "m.png", np.array([[0, 127, 128, 255]], np.uint8))
    assert read(path, (1, 4)).tolist() == [[False, False, True, True]]


def test_masks_of_other_kinds(tmp_path):
    wanted = np.zeros((6, 8), bool)
    wanted[2:4, 3:6] = True
    grey = np.where(wanted, 255, 0).astype(np.uint8)
    files = {
        "bool.png": wanted,
        "rgb.png": np.dstack([grey] * 3),
        "rgba.png": np.dstack([grey] * 3 + [np.zeros_like(grey)]),  # transparent everywhere: not looked at
        "deep.png": np.where(wanted, 65535, 0).astype(np.uint16),
    }
    for name, values in files.items():
        np.testing.assert_array_equal(read(mask_file(tmp_path / name, values), (6, 8)), wanted)


def test_a_mask_of_another_size(tmp_path):
    path = mask_file(tmp_path / "m.png", np.zeros((6, 8), np.uint8))
    with pytest.raises(PictureError, match=r"m.png has 8 x 6 pixels, .*photo.png has 6 x 8: wanted one size"):
        read(path, (8, 6))


def test_a_mask_of_one_colour(tmp_path):
    white, black = (mask_file(tmp_path / f"{v}.png", np.full((4, 4), v, np.uint8)) for v in (255, 0))
    with pytest.raises(PictureError, match=r"white everywhere: all would be filled .* is it inverted\?"):
        read(white, (4, 4))
    with pytest.raises(PictureError, match="black everywhere: nothing would be filled; wanted white where to fill"):
        read(black, (4, 4))


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif", ".webp"])
def test_formats_of_masks(tmp_path, ending):
    np.testing.assert_array_equal(read(mask_file(tmp_path / f"m{ending}", np.dstack([grey()] * 3)), SHAPE), HOLE)


@pytest.mark.parametrize(("yes", "no"), [(1, 0), (255, 200), (100, 3), (2, 1)])
def test_of_two_values_the_brighter_is_white(tmp_path, yes, no):
    found = judged(mask_file(tmp_path / "m.png", grey(yes, no)))
    np.testing.assert_array_equal(found.missing, HOLE)
    assert "two values alone" in found.notes[0]


def test_two_colours_are_two_values(tmp_path):
    red = np.dstack([grey(), grey(0), grey(0)])
    found = judged(mask_file(tmp_path / "m.png", red))
    np.testing.assert_array_equal(found.missing, HOLE)
    assert "0/0/0 and 255/0/0: the brighter one is taken as white" in found.notes[0]


def test_a_mask_that_names_most_is_asked_about_and_can_be_inverted(tmp_path):
    path = mask_file(tmp_path / "m.png", grey(0, 255))
    found = judged(path)
    np.testing.assert_array_equal(found.missing, ~HOLE)
    assert found.notes == ("the mask names 96% of the picture: if that is what to keep, give --invert",)
    inverted = judged(path, invert=True)
    np.testing.assert_array_equal(inverted.missing, HOLE)
    assert inverted.notes == ()


def test_a_picture_is_no_mask(tmp_path):
    ramp = np.add.outer(np.arange(20), np.arange(30)) * 5 % 256
    with pytest.raises(PictureError, match=r"m.png has colours: wanted white where to fill"):
        judged(mask_file(tmp_path / "m.png", np.dstack([ramp, ramp[::-1], 255 - ramp]).astype(np.uint8)))
    with pytest.raises(PictureError, match=r"m.png has greys of a picture: wanted white where to fill"):
        judged(mask_file(tmp_path / "m.png", (40 + ramp // 2).astype(np.uint8)))
    soft = np.clip(255 - 40 * np.hypot(*np.ogrid[-10:10, -15:15]), 0, 255)  # of a soft brush
    assert (
        read(mask_file(tmp_path / "soft.png", soft.astype(np.uint8)), SHAPE).sum() == 37
    )  # lattice points with a radius of at most 127 / 40


def test_transparency_of_a_white_mask_is_the_hole(tmp_path):
    found = judged(mask_file(tmp_path / "m.png", np.dstack([grey(255, 255)] * 3 + [grey(0, 255)])))
    np.testing.assert_array_equal(found.missing, HOLE)
    assert found.notes == ("the mask is white everywhere: its transparent part is filled",)


def test_white_paint_on_a_transparent_layer_is_the_mask(tmp_path):
    np.testing.assert_array_equal(read(mask_file(tmp_path / "m.png", np.dstack([grey()] * 4)), SHAPE), HOLE)


def test_a_transparency_that_contradicts_is_refused(tmp_path):
    alpha = grey(0, 255, where=np.roll(HOLE, 3, axis=1))
    with pytest.raises(PictureError, match=r"white in a part of what is transparent: .* save it without transparency"):
        judged(mask_file(tmp_path / "m.png", np.dstack([grey()] * 3 + [alpha])))


def test_the_transparent_part_of_the_picture_is_a_mask():
    np.testing.assert_array_equal(judged(ALPHA, alpha=grey(0, 255)).missing, HOLE)
    for alpha in (None, grey(255, 255)):
        with pytest.raises(PictureError, match="has no transparent part for --mask alpha: wanted one, or a mask as"):
            judged(ALPHA, alpha=alpha)
