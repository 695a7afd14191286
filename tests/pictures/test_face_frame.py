"""The region of a face: found where it is, brought upright and back without loss, and every refusal."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from lacunar.errors import PictureError
from lacunar.interpolate.membrane import membrane_fill
from lacunar.pictures.face_frame import Face, choose_face, covered, find_faces, from_frame, in_frame, to_frame

EYES, MOUTH = ((106, 211), (107, 244)), (156, 227)  # (row, column) of the astronaut's, read from the picture by eye


@pytest.fixture(scope="module")
def astronaut():
    return (data.astronaut()[:260, 100:380] / 127.5 - 1).astype(np.float32)


def boxed(shape, rows, cols):
    missing = np.zeros(shape, bool)
    missing[rows, cols] = True
    return missing


def relative(face, place):
    """Where a place of the cut-out astronaut lies in a frame, as shares (x, y)."""
    rows, cols = face.places_in_frame(np.array([place[0]]), np.array([place[1] - 100]), 1)
    return cols[0] + 0.5, rows[0] + 0.5


@pytest.mark.parametrize(
    "missing",
    [None, boxed((260, 280), slice(130, 165), slice(105, 150)), boxed((260, 280), slice(95, 118), slice(100, 160))],
    ids=["clear", "mouth hidden", "eyes hidden"],
)
def test_the_astronaut_is_found_in_celeba_framing(astronaut, missing):
    shown = astronaut if missing is None else membrane_fill(astronaut, missing)
    faces = find_faces(shown, missing)
    assert len(faces) == 1
    # CelebA's alignment puts the eyes at (0.38, 0.47) and (0.62, 0.47), the mouth at (0.5, 0.73) of the frame
    for place, wanted in zip((*EYES, MOUTH), ((0.38, 0.47), (0.62, 0.47), (0.5, 0.73)), strict=True):
        assert np.hypot(*np.subtract(relative(faces[0], place), wanted)) < 0.12


def test_a_tilt_is_found(astronaut):
    upright = find_faces(astronaut)[0].tilt
    turned = ndimage.rotate(astronaut, -15, reshape=False, order=1, mode="nearest")  # clockwise
    assert find_faces(turned)[0].tilt - upright == pytest.approx(15, abs=6)


def test_a_larger_picture_gives_the_same_face(astronaut):
    small, large = find_faces(astronaut)[0], find_faces(np.kron(astronaut, np.ones((3, 3, 1), np.float32)))[0]
    assert np.hypot(large.x / 3 - small.x, large.y / 3 - small.y) < 0.05 * small.side
    assert large.side / 3 == pytest.approx(small.side, rel=0.15)


def test_no_face_in_grass():
    grass = np.repeat(data.grass()[:200, :200, None] / 127.5 - 1, 3, axis=2).astype(np.float32)
    assert find_faces(grass) == ()


# --- the frame ---


def test_places_and_back():
    face = Face(40.0, 50.0, 33.0, 20.0)
    rows, cols = face.places(16)
    back = face.places_in_frame(rows, cols, 16)
    np.testing.assert_allclose(back, np.indices((16, 16)), atol=1e-9)


def test_an_upright_frame_of_the_models_size_is_the_crop_itself():
    picture = np.random.default_rng(0).uniform(-1, 1, (40, 50, 3)).astype(np.float32)
    frame, hidden = to_frame(picture, boxed((40, 50), slice(12, 15), slice(20, 24)), Face(26.0, 18.0, 16.0), 16)
    np.testing.assert_array_equal(hidden, boxed((40, 50), slice(12, 15), slice(20, 24))[10:26, 18:34])
    np.testing.assert_allclose(frame[~hidden], picture[10:26, 18:34][~hidden], atol=1e-5)


def test_clockwise_is_clockwise():
    """A line that falls to the right by 30 degrees lies level in a frame tilted by 30."""
    rows, cols = np.indices((80, 80))
    picture = np.repeat(((rows - 40) * np.cos(np.pi / 6) - (cols - 40) * np.sin(np.pi / 6))[..., None], 3, axis=2) / 40
    frame, _ = to_frame(picture.astype(np.float32), np.zeros((80, 80), bool), Face(40.0, 40.0, 30.0, 30.0), 30)
    assert np.ptp(frame, axis=1).max() < 0.01


def test_nothing_of_the_gap_leaks_into_the_frame():
    picture = np.zeros((200, 200, 3), np.float32)
    missing = boxed((200, 200), slice(80, 120), slice(80, 120))
    picture[missing] = 1.0
    frame, hidden = to_frame(picture, missing, Face(100.0, 100.0, 160.0, 10.0), 32)
    assert (frame == 0).all()
    assert hidden.mean() == pytest.approx((40 / 160) ** 2, rel=0.2)


def test_outside_the_photograph_all_is_gap():
    _, hidden = to_frame(np.zeros((50, 50, 3), np.float32), np.zeros((50, 50), bool), Face(0.0, 25.0, 40.0), 20)
    assert hidden[:, :10].all()
    assert not hidden[:, 10:].any()


def test_a_residual_comes_back_to_its_place_and_is_nothing_outside():
    face, size = Face(60.0, 50.0, 64.0, 25.0), 32
    across = (np.arange(size) + 0.5) / size
    residual = np.repeat((across[:, None] + 2 * across[None, :])[None, ..., None], 3, axis=3).astype(np.float32)
    rows, cols = np.nonzero(np.ones((110, 120), bool))
    values, inside = from_frame(residual, face, rows, cols), in_frame(face, rows, cols)
    assert inside.sum() == pytest.approx(64**2, rel=0.01)
    assert (values[0][~inside] == 0).all()
    in_rows, in_cols = face.places_in_frame(rows, cols, size)
    deep = (np.abs(in_rows - 15.5) < 12) & (np.abs(in_cols - 15.5) < 12)
    wanted = (in_rows[deep] + 0.5) / size + 2 * (in_cols[deep] + 0.5) / size
    np.testing.assert_allclose(values[0][deep, 1], wanted, atol=1e-3)


def test_boxes_and_whole_pictures():
    assert Face.whole((100, 140)) == Face(70.0, 50.0, 100.0)
    face = Face.in_box((10, 20, 40, 50))
    assert face.side > 50
    assert abs(face.x - 30) < 5


# --- which face ---


FACES = (Face(20.0, 30.0, 20.0, votes=9), Face(70.0, 30.0, 20.0, votes=9))


def test_the_face_that_the_mask_touches_or_the_one_of_a_number():
    missing = boxed((60, 100), slice(28, 32), slice(66, 74))
    assert choose_face(FACES, missing) == FACES[1]
    assert choose_face(FACES, missing, index=1) == FACES[0]
    assert covered(FACES[0], missing) == 0
    assert covered(FACES[1], missing) == pytest.approx(32 / 400, abs=0.04)


@pytest.mark.parametrize(
    ("faces", "cols", "index", "message"),
    [
        ((), slice(0, 5), None, "no face was found: say where it is with --box X,Y,WIDTH,HEIGHT .* or --whole"),
        (FACES, slice(44, 46), None, r"touches none of the faces found \(1 at \(20, 30\); 2 at \(70, 30\)\)"),
        (FACES, slice(10, 80), None, "touches 2 faces of 2 .*: choose with --face INDEX"),
        (FACES, slice(10, 80), 3, r"no face 3: wanted 1 to 2 \(1 at"),
    ],
)
def test_refusals(faces, cols, index, message):
    with pytest.raises(PictureError, match=message):
        choose_face(faces, boxed((60, 100), slice(28, 32), cols), index=index)
