"""Shores, lakes by size and probabilities, against cases made by hand and slow counts."""

import numpy as np
import pytest

from lacunar.errors import LacunarError
from lacunar.evaluate.water_metrics import (
    LAKE_REACH,
    auroc,
    boundary_counts,
    boundary_f1,
    error_counts,
    lake_counts,
    probability_counts,
    shore,
)
from lacunar.metrics import confusion


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def rectangle(shape, rows, cols):
    mask = np.zeros(shape, bool)
    mask[rows, cols] = True
    return mask


def everywhere(shape):
    return np.ones(shape, bool)


def shore_by_hand(mask, valid):
    """Pixel by pixel."""
    found = np.zeros_like(mask)
    for row, col in zip(*np.nonzero(mask & valid), strict=True):
        for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            r, c = row + down, col + right
            if 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and valid[r, c] and not mask[r, c]:
                found[row, col] = True
    return found


def boundary_f1_by_hand(estimate, truth, valid, tolerance):
    """Every pair of shore pixels."""
    ours, theirs = (np.argwhere(shore_by_hand(mask, valid)) for mask in (estimate, truth))
    if not len(ours) and not len(theirs):
        return 1.0
    if not len(ours) or not len(theirs):
        return 0.0
    distances = np.hypot(*np.moveaxis(ours[:, None] - theirs[None], 2, 0))
    p, r = (distances.min(axis=axis) <= tolerance for axis in (1, 0))
    total = p.mean() + r.mean()
    return 2 * p.mean() * r.mean() / total if total else 0.0


# --- shores ---


def test_the_shore_of_a_square_is_its_rim_and_the_image_border_is_no_shore():
    mask = rectangle((8, 8), slice(2, 6), slice(2, 6))
    rim = mask & ~rectangle((8, 8), slice(3, 5), slice(3, 5))
    np.testing.assert_array_equal(shore(mask, everywhere(mask.shape)), rim)
    half = rectangle((4, 6), slice(None), slice(0, 3))
    assert np.argwhere(shore(half, everywhere(half.shape)))[:, 1].tolist() == [2, 2, 2, 2]


def test_water_beside_what_is_not_known_has_no_shore_there():
    mask, valid = rectangle((3, 6), slice(None), slice(0, 3)), everywhere((3, 6))
    valid[:, 3] = False
    assert not shore(mask, valid).any()


def test_a_square_moved_by_two_matches_and_by_three_does_not():
    truth = rectangle((40, 40), slice(10, 20), slice(10, 30))
    valid = everywhere(truth.shape)
    assert float(boundary_f1(boundary_counts(truth, truth, valid=valid))) == 1.0
    assert float(boundary_f1(boundary_counts(np.roll(truth, 2, axis=0), truth, valid=valid))) == 1.0
    moved = boundary_counts(np.roll(truth, 3, axis=0), truth, valid=valid)
    rim = 2 * 20 + 2 * 8
    # Of a rim moved down by 3: the far row (20) lies 3 away, but for its ends within 2 of the side of the other.
    assert (moved["shore"], moved["true_shore"]) == (rim, rim)
    assert float(boundary_f1(moved)) == pytest.approx(boundary_f1_by_hand(np.roll(truth, 3, axis=0), truth, valid, 2.0))
    assert 0.2 < float(boundary_f1(moved)) < 0.8


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 1.5, 2.0, 3.0])
def test_boundary_f1_is_that_of_every_pair_of_pixels(rng, tolerance):
    for share in (0.02, 0.5, 0.97):
        estimate, truth = rng.random((25, 31)) < share, rng.random((25, 31)) < 0.3
        valid = rng.random((25, 31)) < 0.9
        found = boundary_counts(estimate, truth, valid=valid, tolerance=tolerance)
        assert float(boundary_f1(found)) == pytest.approx(boundary_f1_by_hand(estimate, truth, valid, tolerance))


def test_no_shore_in_both_is_right_and_in_one_wrong():
    none, some, valid = np.zeros((9, 9), bool), rectangle((9, 9), 4, 4), everywhere((9, 9))
    assert float(boundary_f1(boundary_counts(none, none, valid=valid))) == 1.0
    assert float(boundary_f1(boundary_counts(none, some, valid=valid))) == 0.0
    assert float(boundary_f1(boundary_counts(some, none, valid=valid))) == 0.0
    names, values = ("shore", "shore_hits", "true_shore", "true_shore_hits"), ([0, 4], [0, 0], [0, 4], [0, 0])
    assert boundary_f1(dict(zip(names, values, strict=True))).tolist() == [1, 0]


# --- lakes ---


def test_lakes_share_out_right_missed_and_false_water():
    truth = rectangle((200, 200), slice(10, 20), slice(10, 20))  # 100 px: up to 100
    truth |= rectangle(truth.shape, slice(60, 100), slice(10, 35))  # 1000 px: 100 to 1000
    truth |= rectangle(truth.shape, slice(80, 190), slice(60, 180))  # 13200 px: over 10000
    guess = truth.copy()
    guess[10:16, 10:20] = False  # 60 of the 100
    guess[100, 10:35] = True  # 25 beside the second
    guess[0, 190] = True  # far from all
    counts = lake_counts(guess, truth, valid=everywhere(truth.shape))
    assert counts["lakes"].tolist() == [1, 1, 0, 1, 0]
    assert counts["found"].tolist() == [0, 1, 0, 1, 0]
    assert counts["both"].tolist() == [40, 1000, 0, 13200, 0]
    assert (counts["pixels"] - counts["both"]).tolist() == [60, 0, 0, 0, 0]
    assert counts["false_pixels"].tolist() == [0, 25, 0, 0, 1]


def test_classes_of_lakes_add_up_to_all_pixels(rng):
    for _ in range(5):
        truth = rng.random((60, 70)) < 0.2
        guess, valid = rng.random((60, 70)) < 0.3, rng.random((60, 70)) < 0.8
        counts, whole = lake_counts(guess, truth, valid=valid), confusion(guess, truth, region=valid)
        sums = tuple(counts[name].sum() for name in ("both", "false_pixels", "pixels"))
        assert sums == (whole.both, whole.only_estimate, whole.both + whole.only_truth)


def test_false_water_counts_against_a_lake_within_reach_only():
    truth = rectangle((3, 40), 1, 5)
    for col in range(6, 40):
        counts = lake_counts(rectangle(truth.shape, 1, col), truth, valid=everywhere(truth.shape))
        assert counts["false_pixels"].tolist() == ([1, 0, 0, 0, 0] if col - 5 <= LAKE_REACH else [0, 0, 0, 0, 1])


def test_corners_join_a_lake():
    river = np.eye(30, dtype=bool)
    counts = lake_counts(river, river, valid=everywhere(river.shape))
    assert counts["lakes"].tolist() == [1, 0, 0, 0, 0]


def test_without_lakes_all_false_water_is_far():
    guess = rectangle((9, 9), slice(0, 2), slice(0, 2))
    counts = lake_counts(guess, np.zeros((9, 9), bool), valid=everywhere((9, 9)))
    assert counts["false_pixels"].tolist() == [0, 0, 0, 0, 4]
    assert counts["lakes"].sum() == counts["found"].sum() == 0


# --- probabilities ---


def test_a_calibrated_probability_claims_in_every_bin_what_is_there(rng):
    claimed = rng.random((300, 300))
    water = rng.random(claimed.shape) < claimed
    counts = probability_counts(claimed, water, valid=everywhere(claimed.shape))
    np.testing.assert_allclose(counts["claimed"] / counts["binned"], counts["water"] / counts["binned"], atol=0.03)
    assert counts["squares"].sum() == pytest.approx(np.sum((claimed - water) ** 2))
    assert counts["squares"].sum() / claimed.size == pytest.approx(1 / 6, abs=0.005)  # the integral of p (1 - p)
    assert counts["binned"].sum() == claimed.size


def test_bins_hold_their_ends_and_only_valid_pixels():
    claimed = np.array([[0.0, 0.1, 0.95, 1.0, np.nan]])
    water, valid = np.array([[False, False, True, True, True]]), np.array([[True, True, True, True, False]])
    counts = probability_counts(claimed, water, valid=valid)
    assert counts["binned"].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert counts["water"].tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert counts["claimed"][-1] == pytest.approx(1.95)


# --- bad input ---


def test_misfits_are_refused():
    mask, valid = np.zeros((4, 4), bool), everywhere((4, 4))
    with pytest.raises(LacunarError, match=r"got estimate, truth and valid as bool \(4, 4\), bool \(4, 5\)"):
        boundary_counts(mask, np.zeros((4, 5), bool), valid=valid)
    with pytest.raises(LacunarError, match="int64"):
        lake_counts(mask.astype(np.int64), mask, valid=valid)
    with pytest.raises(LacunarError, match=r"got a tolerance of -1 pixels; wanted 0 or more"):
        boundary_counts(mask, mask, valid=valid, tolerance=-1)
    for bad in (1.5, -0.1, np.nan):
        with pytest.raises(LacunarError, match=r"got probabilities outside 0 .. 1, or NaN"):
            probability_counts(np.full((4, 4), bad), mask, valid=valid)
    with pytest.raises(LacunarError, match=r"got probabilities \(3, 3\) of masks \(4, 4\)"):
        probability_counts(np.zeros((3, 3)), mask, valid=valid)


def test_the_area_under_the_curve_of_errors_is_that_of_the_pairs():
    rng = np.random.default_rng(0)
    p = rng.random((60, 70))
    truth = rng.random(p.shape) < p
    valid = rng.random(p.shape) < 0.9
    counts = error_counts(p, 0.5, truth, valid=valid)
    chance, wrong = np.minimum(p, 1 - p)[valid], ((p >= 0.5) != truth)[valid]
    assert (counts["wrong"].sum(), counts["right"].sum()) == (wrong.sum(), (~wrong).sum())
    pairs = chance[wrong][:, None] - chance[~wrong]
    exact = (pairs > 0).mean() + (pairs == 0).mean() / 2
    assert float(auroc(counts["wrong"], counts["right"])) == pytest.approx(exact, abs=0.03)
    assert exact > 0.65
    assert np.isnan(auroc(counts["wrong"], 0.0 * counts["right"]))
