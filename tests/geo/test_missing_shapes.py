"""Shapes of missing pixels: the rate to the pixel, what each name promises of its shape, and every refusal."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, optimize

from lacunar.errors import LacunarError
from lacunar.geo.missing_shapes import (
    FACE_FRAME,
    OCCLUSION_NAMES,
    PATTERN_NAMES,
    exact_rate,
    gap_pattern,
    occlusion,
)

SHAPE = (48, 64)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def disc(shape=(96, 96), centre=(40, 50), radius=22.0) -> np.ndarray:
    rows, cols = np.indices(shape)
    return np.hypot(rows - centre[0], cols - centre[1]) < radius


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("rate", [0.03, 0.15, 0.22, 0.5, 0.7, 0.999])
@pytest.mark.parametrize("name", PATTERN_NAMES)
def test_every_pattern_has_the_rate_to_the_pixel(name: str, rate: float):
    for seed in range(5):
        gap = gap_pattern(name, SHAPE, rate, rng=rng(seed), cloud=disc())
        assert gap.dtype == np.bool_
        assert gap.shape == SHAPE
        assert gap.sum() == round(rate * SHAPE[0] * SHAPE[1])


@pytest.mark.parametrize("name", PATTERN_NAMES)
def test_a_seed_gives_one_gap_and_another_seed_another(name: str):
    first, again, other = (gap_pattern(name, SHAPE, 0.3, rng=rng(seed), cloud=disc()) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_box_is_one_rectangle_but_for_its_last_rows():
    for seed in range(20):
        gap = gap_pattern("box", SHAPE, 0.2, rng=rng(seed))
        rows, cols = np.nonzero(gap)
        area = (np.ptp(rows) + 1) * (np.ptp(cols) + 1)
        # The exact rate leaves the side that was added last unfinished: at most one row or column of the box.
        assert area - gap.sum() < max(np.ptp(rows), np.ptp(cols)) + 1
        rows, cols = np.nonzero(gap_pattern("box", SHAPE, 0.05, rng=rng(seed)))
        assert 1 / 6 < (np.ptp(rows) + 1) / (np.ptp(cols) + 1) < 6


def test_a_half_is_one_side_of_a_straight_line():
    for seed in range(20):
        gap = gap_pattern("half", SHAPE, 0.4, rng=rng(seed))
        # A line that separates the two sides exists: sign * (a row + b col + c) >= 1 has a solution.
        points = np.column_stack([np.argwhere(np.ones(SHAPE, bool)), np.ones(gap.size)])
        sign = np.where(gap.ravel(), 1.0, -1.0)[:, None]
        line = optimize.linprog(np.zeros(3), A_ub=-sign * points, b_ub=-np.ones(gap.size), bounds=(None, None))
        assert line.success


def test_stripes_repeat_with_the_period_of_slc_off_scenes():
    for seed in range(10):
        gap = gap_pattern("stripes", (96, 96), 0.4, rng=rng(seed)).astype(float)
        spectrum = np.abs(np.fft.fft2(gap - gap.mean())) ** 2
        row, col = np.unravel_index(spectrum[:, :48].argmax(), (96, 48))
        period = 1 / np.hypot(np.fft.fftfreq(96)[row], np.fft.fftfreq(96)[col])
        assert 5 < period < 28  # 6 to 24 pixels, at the resolution of 96 of them
        # Parallel bands: the first harmonic of such a square wave, at k and -k, holds 2 sin^2(0.4 pi) / (pi^2 0.24) =
        # 76 % of its power; blobs spread theirs over all directions.
        rows, cols = (np.arange(96) - row + 48) % 96 - 48, (np.arange(96) - col + 48) % 96 - 48
        near = np.hypot(rows[:, None], cols[None, :]) < 2.5
        assert 2 * spectrum[near].sum() > 0.6 * spectrum.sum()


def test_blobs_are_smooth_patches_not_salt_and_pepper():
    for seed in range(10):
        gap = gap_pattern("blobs", (64, 64), 0.3, rng=rng(seed))
        alike = (gap[1:] == gap[:-1]).mean()
        assert alike > 0.85  # independent pixels of this rate: 0.3^2 + 0.7^2 = 0.58


@pytest.mark.parametrize("rate", [0.15, 0.22, 0.5])
def test_exact_rate_grows_and_shrinks_a_gap_from_its_own_border(rate: float):
    gap = disc((64, 64), (30, 34), 18.0)  # 25 % of the picture
    changed = exact_rate(gap, rate, rng=rng())
    assert changed.sum() == round(rate * gap.size)
    best = min(rate, gap.mean()) / max(rate, gap.mean())  # the overlap of nested shapes of these sizes
    assert overlap(changed, gap) > 0.9 * best
    # The border moves by the same distance everywhere, but for the jitter: the answer is a disc again.
    radius = np.sqrt(rate * gap.size / np.pi)
    assert overlap(changed, disc((64, 64), (30, 34), radius)) > 0.8


def test_exact_rate_at_the_rate_that_is_there_keeps_the_gap():
    gap = disc((64, 64), (30, 34), 18.0)
    assert overlap(exact_rate(gap, gap.mean(), rng=rng()), gap) > 0.85


def test_exact_rate_of_two_clouds_keeps_both():
    gap = disc((64, 64), (16, 16), 9.0) | disc((64, 64), (46, 44), 12.0)
    changed = exact_rate(gap, gap.mean() * 0.7, rng=rng())
    assert changed[16, 16]
    assert changed[46, 44]
    assert not changed[16, 46]


@pytest.mark.parametrize("fill", [False, True], ids=["empty", "full"])
def test_a_gap_without_a_border_becomes_a_blob(fill: bool):
    gap = exact_rate(np.full((64, 64), fill), 0.22, rng=rng())
    assert gap.sum() == round(0.22 * 64 * 64)
    assert (gap[1:] == gap[:-1]).mean() > 0.85


def test_a_real_cloud_is_transplanted(shared: Path):
    import rasterio

    with rasterio.open(shared / "data/clouds/LC08_L2SP_017036_20130419_20200913_02_T2_QA_PIXEL.TIF") as source:
        cloud = (source.read(1) >> 3 & 1).astype(bool)  # bit 3 of QA_PIXEL
    assert 0.05 < cloud.mean() < 0.95
    size, places = 128, []
    for seed in range(3):
        gap = gap_pattern("cloud", (size, size), 0.4, rng=rng(seed), cloud=cloud)
        assert gap.sum() == round(0.4 * size * size)
        # Somewhere in the real mask, in some orientation, lies a window that looks like it. Correlate by FFT.
        scores = []
        for turn in range(8):
            sought = np.rot90(gap[:, ::-1] if turn // 4 else gap, turn % 4).astype(float) - gap.mean()
            window = np.fft.irfft2(
                np.fft.rfft2(cloud - cloud.mean()) * np.conj(np.fft.rfft2(sought, s=cloud.shape)), s=cloud.shape
            )[: cloud.shape[0] - size + 1, : cloud.shape[1] - size + 1]
            row, col = np.unravel_index(window.argmax(), window.shape)
            crop = cloud[row : row + size, col : col + size].astype(float)
            scores.append(np.corrcoef(crop.ravel(), sought.ravel())[0, 1] if crop.std() else 0.0)
        places.append(max(scores))
    assert min(places) > 0.9  # a blob pattern reaches 0.2 to 0.5
    blob = gap_pattern("blobs", (size, size), 0.4, rng=rng(), cloud=cloud)
    np.testing.assert_array_equal(blob, gap_pattern("blobs", (size, size), 0.4, rng=rng()))  # the cloud is for "cloud"


def test_all_eight_orientations_of_a_cloud_occur():
    wedge = np.zeros((32, 32), bool)
    wedge[:20, :6] = wedge[:6, :12] = True  # an L: its eight orientations all differ
    seen = set()
    for seed in range(80):
        gap = gap_pattern("cloud", (32, 32), wedge.mean(), rng=rng(seed), cloud=wedge)
        turned = [np.rot90(wedge[:, ::-1] if turn // 4 else wedge, turn % 4) for turn in range(8)]
        seen.add(int(np.argmax([overlap(gap, other) for other in turned])))
    assert seen == set(range(8))


@pytest.mark.parametrize("shape", [(20, 64), (64, 20)])
def test_an_oblong_crop_of_a_cloud_fits(shape: tuple[int, int]):
    assert gap_pattern("cloud", shape, 0.3, rng=rng(), cloud=disc()).shape == shape


def test_unknown_pattern():
    with pytest.raises(
        LacunarError, match=r"unknown gap pattern 'fog': choose one of cloud, blobs, box, stripes, half"
    ):
        gap_pattern("fog", SHAPE, 0.2, rng=rng())


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 22.0, float("nan")])
def test_rate_that_is_no_share(rate: float):
    with pytest.raises(LacunarError, match=r"missing rate .* is outside \(0, 1\): give a share such as 0.22"):
        gap_pattern("box", SHAPE, rate, rng=rng())


@pytest.mark.parametrize(
    ("cloud", "got"),
    [
        (None, "got none"),
        (np.ones((47, 64), bool), r"got one of shape \(47, 64\)"),
        (np.ones(5, bool), r"got one of shape \(5,\)"),
    ],
    ids=["none", "small", "flat"],
)
def test_cloud_mask_that_is_missing_or_too_small(cloud: np.ndarray | None, got: str):
    with pytest.raises(LacunarError, match=rf"needs a cloud mask of at least \(48, 64\) pixels; {got}"):
        gap_pattern("cloud", SHAPE, 0.2, rng=rng(), cloud=cloud)


# --- occlusions ---


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
def test_occluded_share_that_is_none(name, rate):
    with pytest.raises(LacunarError, match=r"missing rate .* is outside \(0, 1\): give a share such as 0.22"):
        occlusion(name, SHAPE, rate, rng=rng())
