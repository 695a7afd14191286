"""Samples ranked by how slopes go on at the border, and by the symmetry of a face."""

import numpy as np
import pytest

from lacunar.errors import LacunarError
from lacunar.geo.picture import Picture
from lacunar.geo.windows import Tile
from lacunar.pictures.face_frame import Face
from lacunar.pictures.fill import FilledRegion, to_model
from lacunar.pictures.job import PictureOptions, numbered
from lacunar.pictures.ranking import asymmetry, border_break, ranked

SIDE = 96
ROWS, COLS = np.indices((SIDE, SIDE))
SYMMETRIC = 120 + 50 * np.cos((COLS - 47.5) / 9) + 20 * np.sin(ROWS / 12)
PHOTOGRAPH = Picture(np.repeat(SYMMETRIC[..., None], 3, axis=2).astype(np.uint8))
FACE = Face(48.0, 48.0, 90.0)
MISSING = np.zeros((SIDE, SIDE), bool)
MISSING[30:60, 20:40] = True


def region(*samples):
    given = [to_model(np.repeat(one[..., None], 3, axis=2).astype(np.uint8), 255)[MISSING] for one in samples]
    return (FilledRegion(Tile(0, 0, SIDE, SIDE), MISSING, np.stack(given).astype(np.float32)),)


def test_the_truth_is_first_a_step_at_the_border_last():
    lopsided = SYMMETRIC + 40 * np.exp(-((ROWS - 45) ** 2 + (COLS - 30) ** 2) / 30)
    found = ranked(PHOTOGRAPH, MISSING, region(SYMMETRIC + 60, lopsided, SYMMETRIC), FACE)
    assert found.places == (3, 2, 1)
    assert found.best == 2
    assert found.symmetry[1] > 3 * found.symmetry[2]
    assert found.border[0] > 10 * found.border[2]
    assert ranked(PHOTOGRAPH, MISSING, region(SYMMETRIC + 60, SYMMETRIC)).symmetry == (0.0, 0.0)


def test_a_plane_does_not_break_and_a_step_breaks_by_its_height():
    plane = np.repeat((0.2 + 0.001 * COLS + 0.002 * ROWS)[..., None], 3, axis=2)
    assert border_break(plane, MISSING) == pytest.approx(0, abs=1e-12)
    assert border_break(plane + 0.1 * MISSING[..., None], MISSING) == pytest.approx(0.1)


def test_symmetry_is_that_of_the_tilted_frame():
    tilt = np.deg2rad(20.0)
    across = (COLS - 47.5) * np.cos(tilt) + (ROWS - 47.5) * np.sin(tilt)
    tilted = np.repeat((0.5 + 0.2 * np.cos(across / 9))[..., None], 3, axis=2)
    assert asymmetry(tilted, MISSING, Face(48.0, 48.0, 60.0, 20.0)) < 0.01
    assert asymmetry(tilted, MISSING, Face(48.0, 48.0, 60.0, 0.0)) > 0.05


def test_one_picture_is_written_and_there_must_be_a_choice(tmp_path):
    assert numbered(tmp_path / "a.png", PictureOptions(samples=4, choose=True)) == [tmp_path / "a.png"]
    with pytest.raises(LacunarError, match="got 1 sample to choose from: wanted --samples 2 or more"):
        PictureOptions(choose=True)
    with pytest.raises(LacunarError, match="got the mean to choose from"):
        PictureOptions(samples=4, mean=True, choose=True)
