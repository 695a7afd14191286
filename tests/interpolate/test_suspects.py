"""Clouds that a quality band missed are found; what is cold by nature stays."""

import numpy as np
import pytest
from scipy import ndimage

from lacunar.interpolate.suspects import against_surroundings, suspect_pixels

SHAPE = (120, 132)


def land(seed=0, scale=1.0):
    """Kelvin: hills, and some roughness."""
    rough = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2, mode="wrap")
    rows, cols = np.indices(SHAPE)
    return 300 + 0.05 * rows + 2 * np.sin(cols / 30) + scale * rough / rough.std()


def disc(row, col, radius):
    rows, cols = np.indices(SHAPE)
    return np.hypot(rows - row, cols - col) < radius


CLOUD = disc(40, 40, 12)  # the quality band names it
THIN = disc(52, 58, 5)  # it does not, this one


def find(values, cloud=CLOUD, **how):
    return suspect_pixels(values, ~cloud, cloud, **how)


def test_a_cold_blob_beside_a_cloud_is_found_and_little_else():
    found = find(land() - 8 * THIN)
    assert found[THIN].mean() > 0.9
    assert found[~THIN].sum() < 0.1 * THIN.sum()
    assert not find(land()).any()
    assert not found[CLOUD].any()  # known already


def test_far_from_any_cloud_a_cold_blob_is_no_suspect():
    far = disc(90, 100, 5)
    assert not find(land() - 8 * far)[far].any()
    assert not suspect_pixels(land() - 8 * THIN, np.ones(SHAPE, bool), np.zeros(SHAPE, bool)).any()


def test_what_is_cold_on_other_dates_too_stays():
    lake = disc(60, 34, 4)
    others = np.stack([land(seed) - 8 * lake for seed in (1, 2, 3)])
    others[0, :, 70:] = np.nan
    target = land(5) - 8 * lake
    assert find(target)[lake].mean() > 0.5
    assert not find(target, others=others)[lake].any()
    with_cloud = find(target - 8 * THIN, others=others)
    assert with_cloud[THIN].mean() > 0.9
    assert not with_cloud[lake].any()


def test_other_dates_show_a_fainter_cloud():
    ground = 6 * (land(9) - land(9).mean())  # rough land that hides 4 K in its own scatter
    others = np.stack([ground + land(seed, scale=0.2) for seed in (1, 2, 3)])
    target = ground + land(5, scale=0.2) - 4 * THIN
    assert find(target)[THIN].mean() < 0.5
    assert find(target, others=others)[THIN].mean() > 0.8


def test_a_bright_blob_needs_to_be_less_cold_and_snow_stays():
    cloud = 3.5 * THIN
    assert find(land() - cloud)[THIN].mean() < 0.5
    bright = 0.1 + 0.3 * THIN + 0.01 * (land(7) - land(7).mean())
    assert find(land() - cloud, brightness=bright)[THIN].mean() > 0.8
    assert not find(land() - cloud, brightness=bright, stays=THIN)[THIN].any()
    far = disc(90, 100, 5)  # a bright one may be anywhere
    assert find(land() - 5 * far, brightness=0.1 + 0.3 * far)[far].mean() > 0.8


def test_a_large_cold_lake_is_its_own_surroundings():
    lake = disc(60, 80, 45)
    assert find(land() - 10 * lake)[ndimage.binary_erosion(lake, iterations=24)].sum() == 0


@pytest.mark.parametrize("known", [np.zeros(SHAPE, bool), CLOUD])
def test_where_too_little_is_measured_nothing_is_said(known):
    _, z = against_surroundings(land(), known)
    assert not np.isfinite(z[~known]).any()
    assert not suspect_pixels(land() - 30 * THIN, known, ~known).any()


def test_scores_are_in_kelvin_and_in_robust_deviations():
    values = 300 + np.random.default_rng(0).normal(scale=2.0, size=SHAPE)
    values[30, 30] = 280.0
    drop, z = against_surroundings(values, np.ones(SHAPE, bool))
    assert drop[30, 30] == pytest.approx(-20, abs=1.0)
    assert z[30, 30] == pytest.approx(-10, abs=1.5)  # a far value does not widen the scatter
