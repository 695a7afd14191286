"""Images pooled into scores: sums by hand, paired gains, strata, curves."""

import math

import numpy as np
import pytest

from lacunar.errors import LacunarError
from lacunar.evaluate.water_measures import WaterRow
from lacunar.evaluate.water_metrics import boundary_hits, lake_counts, probability_counts
from lacunar.evaluate.water_scores import FAR, image_scores, pool_lakes, pool_probabilities, pool_water
from lacunar.metrics import confusion
from water_sets import SIDE, disc

RADII = (5, 9, 12, 15, 18)
VALID = np.ones((SIDE, SIDE), bool)


def row(name, guess, truth, *, method="net", set_name="lakes", probability=None, evaluations=0, seconds=1.0):
    """A row from masks."""
    return WaterRow(
        set_name=set_name,
        name=name,
        method=method,
        evaluations=evaluations,
        seconds=seconds,
        pixels=confusion(guess, truth, region=VALID),
        shores=boundary_hits(guess, truth, valid=VALID),
        lakes=lake_counts(guess, truth, valid=VALID),
        probabilities=None if probability is None else probability_counts(probability, truth, valid=VALID),
    )


@pytest.fixture
def rows():
    """Five lakes: `net` misses their rim, `dark` adds two rims; `net` is sure by 0.9."""
    made = []
    for radius in RADII:
        truth, small, large = disc(radius), disc(radius - 1), disc(radius + 2)
        made.append(row(f"lake_{radius}", large, truth, method="dark"))
        sure = np.where(small, 0.9, 0.05)
        made.append(row(f"lake_{radius}", small, truth, probability=sure, evaluations=8, seconds=2.0))
    return made


def by_method(scores):
    return {score.method: score for score in scores}


def test_pixels_of_all_images_are_pooled(rows):
    scores = by_method(pool_water(rows, against="dark"))
    small, true, large = (sum(int(disc(radius + more).sum()) for radius in RADII) for more in (-1, 0, 2))
    assert scores["net"].iou == pytest.approx(small / true)
    assert scores["dark"].iou == pytest.approx(true / large)
    assert scores["net"].precision == 1.0
    assert scores["net"].recall == pytest.approx(small / true)
    assert scores["net"].f1 == pytest.approx(2 * small / (small + true))
    assert scores["net"].pixel_accuracy == pytest.approx(1 - (true - small) / (5 * SIDE**2))
    assert scores["net"].water == pytest.approx(true / (5 * SIDE**2))
    each = [disc(radius - 1).sum() / disc(radius).sum() for radius in RADII]
    assert scores["net"].image_iou == pytest.approx(np.mean(each))
    assert scores["net"].boundary_f1 == 1.0  # a rim of one pixel is within the tolerance
    assert (scores["net"].evaluations, scores["net"].seconds, scores["net"].images) == (8, 2.0, 5)


def test_gains_are_paired(rows):
    scores = by_method(pool_water(rows, against="dark"))
    net, dark = scores["net"], scores["dark"]
    assert net.iou_gain == pytest.approx(net.iou - dark.iou)
    assert net.iou_gain_low <= net.iou_gain <= net.iou_gain_high
    assert net.iou_gain_high - net.iou_gain_low < (net.iou_high - net.iou_low) + (dark.iou_high - dark.iou_low)
    assert (dark.iou_gain, dark.iou_gain_low, dark.boundary_gain_high) == (0.0, 0.0, 0.0)
    assert dark.calibration_error != dark.calibration_error  # NaN: it gives no probability


def test_where_the_other_did_not_map_every_image_there_is_no_gain(rows):
    score = by_method(pool_water(rows[1:], against="dark"))["net"]
    assert math.isnan(score.iou_gain)
    assert math.isnan(score.boundary_gain_low)
    assert score.iou > 0


def test_one_image_has_no_interval(rows):
    score = by_method(pool_water(rows[:2], against="dark"))["net"]
    assert math.isnan(score.iou_low)
    assert math.isnan(score.iou_gain_high)


def test_the_same_seed_gives_the_same_intervals(rows):
    assert repr(pool_water(rows, against="dark", seed=3)) == repr(pool_water(rows, against="dark", seed=3))
    assert repr(pool_water(rows, against="dark", seed=4)) != repr(pool_water(rows, against="dark", seed=3))


def test_sets_and_methods_keep_their_order(rows):
    more = [*rows, row("pond", disc(5), disc(5), method="index", set_name="ponds")]
    scores = pool_water(more, against="dark", order=("index", "net"))
    assert [(s.set_name, s.method) for s in scores] == [("lakes", "net"), ("lakes", "dark"), ("ponds", "index")]
    assert math.isnan(scores[-1].iou_gain)


def test_lakes_by_size(rows):
    scores = {(s.method, s.size): s for s in pool_lakes(rows)}
    up_to = [disc(radius) for radius in RADII]
    small = [mask for mask in up_to if mask.sum() <= 100]
    assert 0 < len(small) < 5
    assert {size for _, size in scores} == {"up to 100 px", "100 to 1000 px", "1000 to 10000 px", FAR}
    first = scores["net", "up to 100 px"]
    assert (first.lakes, first.found, first.pixels) == (len(small), len(small), sum(int(m.sum()) for m in small))
    assert math.isnan(first.iou_low)  # a resample may hold no such lake
    assert scores["dark", "100 to 1000 px"].recall == 1.0
    middle = scores["dark", "100 to 1000 px"]
    assert middle.iou == pytest.approx(middle.pixels / (middle.pixels + middle.false_pixels))
    assert math.isnan(scores["net", FAR].iou)
    assert scores["net", FAR].lakes == 0


def test_probability_curves_pool_the_bins(rows):
    (curve,) = pool_probabilities(rows)
    assert (curve.set_name, curve.method) == ("lakes", "net")
    inside = sum(int(disc(radius - 1).sum()) for radius in RADII)
    rim = sum(int(disc(radius).sum() - disc(radius - 1).sum()) for radius in RADII)
    outside = 5 * SIDE**2 - inside
    assert curve.pixels[[0, 9]].tolist() == [outside, inside]
    assert curve.claimed[[0, 9]] == pytest.approx([0.05, 0.9])
    assert curve.observed[[0, 9]] == pytest.approx([rim / outside, 1.0])
    assert np.isnan(curve.observed[1:9]).all()
    score = by_method(pool_water(rows, against="dark"))["net"]
    gaps = inside * 0.1 + outside * abs(0.05 - rim / outside)
    assert score.calibration_error == pytest.approx(gaps / (inside + outside))


def test_an_image_by_names(rows):
    image = image_scores(rows[1])
    assert image["image"] == "lake_5"
    assert image["both"] == disc(4).sum()
    assert image["iou"] == pytest.approx(disc(4).sum() / disc(5).sum())
    assert image["pixels"] == SIDE**2
    assert image["brier"] == pytest.approx(rows[1].probabilities.brier)


def test_a_method_that_is_not_there_is_refused(rows):
    with pytest.raises(LacunarError, match="no method 'unet' to compare with: choose out of dark, net"):
        pool_water(rows, against="unet")
    with pytest.raises(LacunarError, match="choose out of none"):
        pool_water([], against="unet")
