"""Missing regions: every pixel belongs to one, each window shows enough, halved until it fits the field."""

import numpy as np
import pytest

from lacunar.errors import PictureError
from lacunar.pictures.missing_regions import MAX_WINDOW, find_regions, halvings_of

FIELD = 64


def missing_of(shape, *boxes):
    missing = np.zeros(shape, bool)
    for rows, cols in boxes:
        missing[slice(*rows), slice(*cols)] = True
    return missing


def joined(regions, shape):
    count = np.zeros(shape, int)
    for region in regions:
        count[region.window.slices] += region.inside
    return count


@pytest.mark.parametrize("seed", range(10))
def test_the_holes_part_the_gap(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(20, 400, 2))
    missing = np.zeros(shape, bool)
    for _ in range(rng.integers(1, 8)):
        row, col = (int(rng.integers(length)) for length in shape)
        missing[row : row + int(rng.integers(1, 60)), col : col + int(rng.integers(1, 60))] = True
    missing[0, 0] = False
    regions = find_regions(missing, FIELD)
    np.testing.assert_array_equal(joined(regions, shape), missing)  # each pixel once
    for region in regions:
        assert region.window.inside(shape)
        rows, cols = np.nonzero(region.inside)
        for found, start, length, full in (
            (rows, region.window.row, region.window.height, shape[0]),
            (cols, region.window.col, region.window.width, shape[1]),
        ):
            assert length >= min(full, FIELD << region.halvings)
            before, after = found.min(), length - 1 - found.max()
            # context on both sides, but where the picture ends
            assert before >= 10 or start == 0
            assert after >= 10 or start + length == full


def test_far_holes_are_filled_apart_and_near_ones_together():
    assert len(find_regions(missing_of((300, 300), ((10, 20), (10, 20)), ((200, 210), (200, 210))), FIELD)) == 2
    assert len(find_regions(missing_of((300, 300), ((10, 20), (10, 20)), ((24, 30), (22, 30))), FIELD)) == 1


def test_a_small_hole_stands_in_the_middle_of_one_field():
    (region,) = find_regions(missing_of((300, 300), ((100, 110), (150, 170))), FIELD)
    assert region.window.shape == (64, 64)
    rows, cols = np.nonzero(region.inside)
    assert abs(rows.mean() - 31.5) <= 1
    assert abs(cols.mean() - 31.5) <= 1


@pytest.mark.parametrize(("width", "wanted"), [(8, 0), (32, 0), (34, 1), (64, 1), (66, 2), (128, 2), (256, 3)])
def test_a_hole_is_halved_until_it_is_half_a_field_wide(width, wanted):
    missing = missing_of((600, 600), ((150, 150 + width), (20, 580)))
    assert halvings_of(missing, FIELD) == wanted
    assert find_regions(missing, FIELD)[0].halvings == wanted


def test_a_notch_in_a_corner_makes_a_hole_no_wider():
    missing = missing_of((400, 600), ((100, 200), (100, 380)))
    (whole,) = find_regions(missing, FIELD)
    missing[100, 100] = False
    (notched,) = find_regions(missing, FIELD)
    assert notched.halvings == whole.halvings == 2


def test_a_long_thin_scratch_is_not_halved():
    assert find_regions(missing_of((200, 2000), ((100, 104), (0, 2000))), FIELD)[0].halvings == 0


def test_a_gap_beside_a_window_does_not_belong_to_it():
    missing = missing_of((400, 400), ((100, 116), (100, 116)), ((100, 116), (192, 208)))
    first, second = find_regions(missing, FIELD)
    assert first.inside.sum() == second.inside.sum() == 16 * 16


def test_holes_that_are_too_large():
    missing = np.zeros((6000, 6000), bool)
    missing[::8] = True
    with pytest.raises(PictureError, match=f"span 6000 x 6000 pixels .* at most {MAX_WINDOW:,} pixels: shrink"):
        find_regions(missing, FIELD)


def test_nothing_known():
    with pytest.raises(PictureError, match="every pixel is to be filled"):
        find_regions(np.ones((8, 8), bool), FIELD)
