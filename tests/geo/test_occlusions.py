"""Occlusions: the missing rate to the pixel, what each name promises of its shape and place, and every refusal."""

import numpy as np
import pytest
from scipy import ndimage

from lacunar.errors import LacunarError
from lacunar.geo.missing_shapes import gap_pattern
from lacunar.geo.occlusions import FACE_FRAME, OCCLUSION_NAMES, occlusion

SHAPE = (48, 64)


def rng(seed=0):
    return np.random.default_rng(seed)


def hides(hidden, feature):
    x, y = FACE_FRAME[feature]
    return hidden[int(y * hidden.shape[0]), int(x * hidden.shape[1])]


@pytest.mark.parametrize("rate", [0.03, 0.15, 0.2, 0.5, 0.7, 0.999])
@pytest.mark.parametrize("name", OCCLUSION_NAMES)
def test_every_occlusion_has_the_rate_to_the_pixel(name, rate):
    for seed in range(3):
        hidden = occlusion(name, SHAPE, rate, rng=rng(seed))
        assert hidden.dtype == np.bool_
        assert hidden.shape == SHAPE
        assert hidden.sum() == round(rate * SHAPE[0] * SHAPE[1])


@pytest.mark.parametrize("name", OCCLUSION_NAMES)
def test_a_seed_gives_one_occlusion_and_another_seed_another(name):
    first, again, other = (occlusion(name, SHAPE, 0.2, rng=rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(("name", "pattern"), [("rectangle", "box"), ("blobs", "blobs"), ("half", "half")])
def test_three_of_them_are_the_gap_patterns(name, pattern):
    same = gap_pattern(pattern, SHAPE, 0.3, rng=rng(4))
    np.testing.assert_array_equal(occlusion(name, SHAPE, 0.3, rng=rng(4)), same)


@pytest.mark.parametrize(
    ("name", "hidden", "seen"),
    [
        ("sunglasses", ["left_eye", "right_eye"], ["mouth"]),
        ("face-mask", ["mouth"], ["left_eye", "right_eye"]),
        ("scarf", [], ["left_eye", "right_eye"]),
    ],
)
def test_what_belongs_to_a_face_hides_its_part(name, hidden, seen):
    drawn = [occlusion(name, (64, 64), 0.2, rng=rng(seed)) for seed in range(50)]
    for feature in hidden:
        assert np.mean([hides(one, feature) for one in drawn]) > 0.9
    for feature in seen:
        assert np.mean([hides(one, feature) for one in drawn]) < 0.1


def test_a_scarf_reaches_the_lower_border_and_grows_over_the_mouth():
    for seed in range(20):
        assert occlusion("scarf", (64, 64), 0.2, rng=rng(seed))[-1].mean() > 0.7
        assert hides(occlusion("scarf", (64, 64), 0.4, rng=rng(seed)), "mouth")


def test_brushes_differ_in_width():
    def widest(name):
        return np.median(
            [ndimage.distance_transform_edt(occlusion(name, (64, 64), 0.2, rng=rng(seed))).max() for seed in range(20)]
        )

    assert widest("thin") < widest("strokes") < widest("thick")
    assert widest("thin") < 4  # 6 % of 64 pixels is 4: half of that, and a little where strokes cross


def test_a_hand_has_fingers():
    """A blob fills its convex outline (a disc all of it); fingers leave gaps in theirs."""
    from skimage.morphology import convex_hull_image

    solidity = []
    for seed in range(30):
        hidden = occlusion("hand", (128, 128), 0.15, rng=rng(seed))
        if not (hidden[0].any() or hidden[-1].any() or hidden[:, 0].any() or hidden[:, -1].any()):
            solidity.append(hidden.sum() / convex_hull_image(hidden).sum())
    assert len(solidity) > 5
    assert np.median(solidity) < 0.85


@pytest.mark.parametrize("name", ["face-mask", "sunglasses", "hand"])
def test_a_thing_is_in_one_piece(name):
    for seed in range(10):
        assert ndimage.label(occlusion(name, (64, 64), 0.2, rng=rng(seed)))[1] == 1


def test_unknown_occlusion():
    with pytest.raises(LacunarError, match=r"unknown occlusion 'hat': choose one of rectangle, strokes, blobs, face-"):
        occlusion("hat", SHAPE, 0.2, rng=rng())


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 20.0, float("nan")])
@pytest.mark.parametrize("name", ["hand", "thin", "half"])
def test_rate_that_is_no_share(name, rate):
    with pytest.raises(LacunarError, match=r"missing rate .* is outside \(0, 1\): give a share such as 0.2"):
        occlusion(name, SHAPE, rate, rng=rng())
