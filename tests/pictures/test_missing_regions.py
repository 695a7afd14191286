"""Holes: every pixel of the gap belongs to one, each window shows what is wanted, halved until it fits the field."""

import numpy as np
import pytest

from lacunar.errors import PictureError
from lacunar.pictures.missing_regions import MAX_WINDOW, find_holes, halvings_of

FIELD = 64


def gap_of(shape, *boxes):
    gap = np.zeros(shape, bool)
    for rows, cols in boxes:
        gap[slice(*rows), slice(*cols)] = True
    return gap


def joined(holes, shape):
    count = np.zeros(shape, int)
    for hole in holes:
        count[hole.window.slices] += hole.inside
    return count


@pytest.mark.parametrize("seed", range(10))
def test_the_holes_part_the_gap(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(20, 400, 2))
    gap = np.zeros(shape, bool)
    for _ in range(rng.integers(1, 8)):
        row, col = (int(rng.integers(length)) for length in shape)
        gap[row : row + int(rng.integers(1, 60)), col : col + int(rng.integers(1, 60))] = True
    gap[0, 0] = False
    holes = find_holes(gap, FIELD)
    np.testing.assert_array_equal(joined(holes, shape), gap)  # each pixel once
    for hole in holes:
        assert hole.window.inside(shape)
        rows, cols = np.nonzero(hole.inside)
        for found, start, length, full in (
            (rows, hole.window.row, hole.window.height, shape[0]),
            (cols, hole.window.col, hole.window.width, shape[1]),
        ):
            assert length >= min(full, FIELD << hole.halvings)
            before, after = found.min(), length - 1 - found.max()
            # context on both sides, but where the picture ends
            assert before >= 10 or start == 0
            assert after >= 10 or start + length == full


def test_far_holes_are_filled_apart_and_near_ones_together():
    assert len(find_holes(gap_of((300, 300), ((10, 20), (10, 20)), ((200, 210), (200, 210))), FIELD)) == 2
    assert len(find_holes(gap_of((300, 300), ((10, 20), (10, 20)), ((24, 30), (22, 30))), FIELD)) == 1


def test_a_small_hole_stands_in_the_middle_of_one_field():
    (hole,) = find_holes(gap_of((300, 300), ((100, 110), (150, 170))), FIELD)
    assert hole.window.shape == (64, 64)
    rows, cols = np.nonzero(hole.inside)
    assert abs(rows.mean() - 31.5) <= 1
    assert abs(cols.mean() - 31.5) <= 1


@pytest.mark.parametrize(("width", "wanted"), [(8, 0), (32, 0), (34, 1), (64, 1), (66, 2), (128, 2), (256, 3)])
def test_a_hole_is_halved_until_it_is_half_a_field_wide(width, wanted):
    gap = gap_of((600, 600), ((150, 150 + width), (20, 580)))
    assert halvings_of(gap, FIELD) == wanted
    assert find_holes(gap, FIELD)[0].halvings == wanted


def test_a_notch_in_a_corner_makes_a_hole_no_wider():
    gap = gap_of((400, 600), ((100, 200), (100, 380)))
    (whole,) = find_holes(gap, FIELD)
    gap[100, 100] = False
    (notched,) = find_holes(gap, FIELD)
    assert notched.halvings == whole.halvings == 2


def test_a_long_thin_scratch_is_not_halved():
    assert find_holes(gap_of((200, 2000), ((100, 104), (0, 2000))), FIELD)[0].halvings == 0


def test_a_gap_beside_a_window_does_not_belong_to_it():
    gap = gap_of((400, 400), ((100, 116), (100, 116)), ((100, 116), (192, 208)))
    first, second = find_holes(gap, FIELD)
    assert first.inside.sum() == second.inside.sum() == 16 * 16


def test_holes_that_are_too_large():
    gap = np.zeros((6000, 6000), bool)
    gap[::8] = True
    with pytest.raises(PictureError, match=f"span 6000 x 6000 pixels .* at most {MAX_WINDOW:,} pixels: shrink"):
        find_holes(gap, FIELD)


def test_nothing_known():
    with pytest.raises(PictureError, match="every pixel is to be filled"):
        halvings_of(np.ones((8, 8), bool), FIELD)
