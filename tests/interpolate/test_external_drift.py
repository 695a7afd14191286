"""Drift terms by their definition, and the classical fills from other dates against exact relations."""

import numpy as np
import pytest

from gaussian_fields import MEAN, blob, large_draw
from lacunar.errors import LacunarError
from lacunar.interpolate.external_drift import (
    MIN_COMMON,
    REFERENCE_FILL_NAMES,
    RIDGE,
    SCALES,
    drift_terms,
    fill_from_reference,
    krige_with_guides,
)
from lacunar.interpolate.kriging import Covariance, krige, krige_with_drift

SIDE = 48
EVERYWHERE = np.ones((SIDE, SIDE), bool)


def pattern(length: float, smoothing: float, seed: int) -> np.ndarray:
    """A field about 0 of variance 1."""
    return large_draw(Covariance(length, smoothing, 1.0, 1e-3), SIDE, seed) - MEAN


def scene(seed: int = 0) -> np.ndarray:
    """A date in kelvin: a pattern at several scales."""
    return 290 + 3 * pattern(16.0, 4.0, seed) + pattern(4.0, 0.0, 100 + seed)


def with_cloud(reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The reference with a gap of its own, and that gap: one large one and a lone pixel."""
    gap = np.zeros(reference.shape, bool)
    gap[5:40, 20:44] = gap[44, 4] = True
    return np.where(gap, np.nan, reference), gap


def gaussian_mean(anomaly: np.ndarray, shown: np.ndarray, pixel: tuple[int, int], width: float) -> float:
    """Mean of what is shown by the weight of a Gaussian around one pixel, and of 0 by a small weight."""
    rows, cols = np.indices(shown.shape)
    squared = (rows - pixel[0]) ** 2 + (cols - pixel[1]) ** 2
    weight = shown * np.exp(-squared / (2 * width**2)) / (2 * np.pi * width**2)
    return float((weight * np.where(shown, anomaly, 0)).sum() / (weight.sum() + RIDGE))


# --- terms ---


def test_the_terms_of_a_reference_sum_to_its_anomaly_in_standard_deviations():
    known, first, (second, gap) = blob(0.3, 0, (SIDE, SIDE)), scene(1), with_cloud(scene(2))
    terms = drift_terms(np.stack([first, second]), known)
    assert terms.shape == (6, SIDE, SIDE)
    assert terms.dtype == np.float64
    np.testing.assert_allclose(terms[:3].sum(axis=0), (first - first.mean()) / first.std(), atol=1e-9)
    anomaly = (second - np.nanmean(second)) / np.nanstd(second)
    np.testing.assert_allclose(terms[3:].sum(axis=0)[~gap], anomaly[~gap], atol=1e-9)


def test_a_wave_belongs_to_the_term_of_its_scale():
    rows, cols = np.indices((96, 96))
    for number, period in enumerate((4, 24, 90)):
        wave = 300 + np.sin(2 * np.pi * rows / period) + np.sin(2 * np.pi * cols / period)
        power = drift_terms(wave[None], np.ones((96, 96), bool))[:, 24:-24, 24:-24].var(axis=(1, 2))
        assert power.argmax() == number
        assert power[number] > 0.55 * power.sum()


def test_a_gap_of_a_reference_has_no_detail_and_a_coarse_pattern_carried_in():
    reference, gap = with_cloud(scene(1))
    terms, anomaly = (
        drift_terms(reference[None], EVERYWHERE),
        (reference - np.nanmean(reference)) / np.nanstd(reference),
    )
    assert np.isfinite(terms).all()
    assert not terms[0][gap].any()
    assert (terms[0][~gap] != 0).all()
    for pixel in ((2, 3), (22, 18), (22, 22), (44, 4), (20, 32)):  # the last is 12 pixels from anything shown
        fine, coarse = (gaussian_mean(anomaly, ~gap, pixel, width) for width in SCALES)
        np.testing.assert_allclose(terms[1:, *pixel], (fine - coarse, coarse), atol=5e-3)


def test_far_from_what_a_reference_shows_its_terms_fall_to_the_mean():
    columns = np.arange(200)
    step = np.where(columns < 15, 280.0, np.where(columns < 30, 300.0, np.nan)) * np.ones((64, 1))
    terms, shown = drift_terms(step[None], np.ones((64, 200), bool)), np.isfinite(step)
    for column in (32, 40, 50, 55):
        coarse = gaussian_mean((step - 290) / 10, shown, (32, column), SCALES[1])
        assert terms[2, 32, column] == pytest.approx(coarse, abs=0.02)
    assert terms[2, 32, 40] > 0.9
    assert terms[2, 32, 55] < 0.6
    assert not terms[:, :, 100:].any()


@pytest.mark.parametrize("junk", [np.inf, -np.inf])
def test_what_a_reference_does_not_show_is_never_read(junk: float):
    known, truth, (reference, gap) = blob(0.3, 0, (SIDE, SIDE)), scene(), with_cloud(scene(1))
    other = np.where(gap, junk, reference)
    np.testing.assert_array_equal(drift_terms(reference[None], known), drift_terms(other[None], known))
    for name in REFERENCE_FILL_NAMES:
        mean, _ = fill_from_reference(name, truth, known, [reference])
        np.testing.assert_array_equal(fill_from_reference(name, truth, known, [other])[0], mean)
        assert np.isfinite(mean).all()


def test_terms_know_no_unit_and_follow_the_sign():
    known, (reference, _) = blob(0.3, 0, (SIDE, SIDE)), with_cloud(scene(1))
    terms = drift_terms(reference[None], known)
    celsius = reference - 273.15
    np.testing.assert_allclose(drift_terms(celsius[None], known), terms, atol=1e-9)
    np.testing.assert_allclose(drift_terms(1.8 * celsius[None] + 32, known), terms, atol=1e-9)
    np.testing.assert_allclose(drift_terms((100 * reference[None]).astype(np.float32), known), terms, atol=1e-3)
    np.testing.assert_allclose(drift_terms(-reference[None], known), -terms, atol=1e-9)


def test_a_reference_that_says_nothing_is_left_out():
    known, rough = blob(0.3, 0, (SIDE, SIDE)), scene()
    few = np.full((2, SIDE, SIDE), np.nan)
    for reference, count in zip(few, (MIN_COMMON - 1, MIN_COMMON), strict=True):
        chosen = np.argwhere(known)[:count]
        reference[tuple(chosen.T)] = rough[tuple(chosen.T)]
        reference[~known] = rough[~known]  # shown where the values are not known
    assert [len(drift_terms(reference[None], known)) for reference in few] == [0, 3]
    constant, dark = np.full((SIDE, SIDE), 300.0), np.full((SIDE, SIDE), np.nan)
    np.testing.assert_array_equal(
        drift_terms(np.stack([constant, few[0], rough, dark]), known), drift_terms(rough[None], known)
    )
    assert drift_terms(np.zeros((0, SIDE, SIDE)), known).shape == (0, SIDE, SIDE)


# --- fills ---


def test_a_copy_has_the_mean_and_the_deviation_of_the_values():
    known, truth, (reference, dark) = blob(0.3, 0, (SIDE, SIDE)), scene(), with_cloud(300 - 4 * scene(1))
    filled, std = fill_from_reference("reference copy", truth, known, [reference, scene(2)])
    gap, common = ~known & ~dark, known & ~dark
    slope, offset = np.polyfit(reference[gap], filled[gap], 1)
    np.testing.assert_allclose(filled[gap], offset + slope * reference[gap], atol=1e-9)
    assert slope > 0
    copy = offset + slope * reference[common]
    assert copy.mean() == pytest.approx(truth[common].mean(), abs=1e-9)
    assert copy.std() == pytest.approx(truth[common].std(), rel=1e-9)
    np.testing.assert_allclose(filled[~known & dark], truth[common].mean(), atol=1e-9)
    assert std is None


def test_regression_recovers_an_affine_relation_to_several_dates():
    known, first, second = blob(0.5, 0, (SIDE, SIDE)), scene(1), scene(2) - 273.15
    truth = 310 - 0.5 * first + 2 * second
    filled, std = fill_from_reference("regression", truth, known, [first, second])
    np.testing.assert_allclose(filled, truth, atol=1e-8)
    assert std is None
    kriged, std = fill_from_reference("regression + kriging", truth, known, [first, second])
    np.testing.assert_allclose(kriged, truth, atol=1e-6)
    assert std[~known].max() < 1e-6
    drifted, std = fill_from_reference("kriging with drift", truth, known, [first, second])
    assert np.abs(drifted - truth).max() < 0.02 * truth.std()
    assert std[~known].max() < 0.03 * truth.std()


def test_where_a_date_is_unknown_regression_takes_its_mean():
    known, reference, unseen = blob(0.5, 0, (SIDE, SIDE)), scene(1), blob(0.4, 3, (SIDE, SIDE))
    truth = 310 - 0.5 * reference
    gap_of_both = ~known & ~unseen
    shown = np.where(gap_of_both, np.nan, reference)  # every known pixel is shown
    filled, _ = fill_from_reference("regression", truth, known, [shown])
    np.testing.assert_allclose(filled[~gap_of_both], truth[~gap_of_both], atol=1e-8)
    np.testing.assert_allclose(filled[gap_of_both], truth[known].mean(), atol=1e-8)


def test_another_date_helps_kriging_and_kriging_helps_it():
    errors: dict[str, list[float]] = {name: [] for name in (*REFERENCE_FILL_NAMES, "kriging")}
    z: dict[str, list[np.ndarray]] = {name: [] for name in REFERENCE_FILL_NAMES[2:]}
    for seed in range(6):
        truth, known = scene(seed), blob(0.4, seed, (SIDE, SIDE))
        # The ground's pattern shows by night with another sign, beside one that is the night's own.
        reference = 480 - 0.7 * truth + 1.5 * pattern(16.0, 0.0, 300 + seed)
        for name, squared in errors.items():
            if name == "kriging":
                mean, std = krige(truth, known)
            else:
                mean, std = fill_from_reference(name, truth, known, [reference])
            squared.append(float(np.mean((mean - truth)[~known] ** 2)))
            if name in z:
                z[name].append((mean - truth)[~known] / std[~known])
    total = {name: float(np.sum(squared)) for name, squared in errors.items()}
    assert total["kriging with drift"] < 0.6 * total["kriging"]
    assert total["kriging with drift"] < 0.9 * total["regression"]
    assert total["regression + kriging"] < 0.9 * total["regression"]
    assert total["reference copy"] > total["kriging"]  # it knows no sign
    assert {name: 0.75 < np.concatenate(parts).std() < 1.3 for name, parts in z.items()} == dict.fromkeys(z, True)


@pytest.mark.parametrize("name", REFERENCE_FILL_NAMES)
def test_known_pixels_and_the_input_are_untouched(name: str):
    truth, known, reference = scene(), blob(0.3, 0, (SIDE, SIDE)), with_cloud(scene(1))[0]
    values, before = np.where(known, truth, np.nan), reference.copy()
    mean, std = fill_from_reference(name, values, known, [reference])
    assert mean.dtype == np.float64
    np.testing.assert_array_equal(mean[known], truth[known])
    np.testing.assert_array_equal(mean, fill_from_reference(name, np.where(known, truth, 1e30), known, [reference])[0])
    np.testing.assert_array_equal(reference, before)
    np.testing.assert_array_equal(np.isnan(values), ~known)
    assert (std is None) == (name in ("reference copy", "regression"))
    if std is not None:
        assert not std[known].any()
        assert (std[~known] > 0).all()


def test_kriging_with_drift_is_kriging_where_the_dates_say_nothing():
    truth, known = scene(), blob(0.3, 0, (SIDE, SIDE))
    dark = np.where(known, np.nan, scene(1))
    filled = fill_from_reference("kriging with drift", truth, known, [dark, np.full_like(truth, 5.0)])
    np.testing.assert_array_equal(filled, krige(truth, known))


# --- refusals ---


def test_an_unknown_fill_is_named_with_the_known_ones():
    names = "reference copy, regression, regression \\+ kriging, kriging with drift"
    with pytest.raises(LacunarError, match=f"unknown fill 'kriging': choose one of {names}"):
        fill_from_reference("kriging", scene(), EVERYWHERE, [scene(1)])


@pytest.mark.parametrize("name", REFERENCE_FILL_NAMES)
def test_values_and_references_that_do_not_fit(name: str):
    truth, known = scene(), blob(0.3, 0, (SIDE, SIDE))
    with pytest.raises(LacunarError, match="no pixel is known: at least one is wanted"):
        fill_from_reference(name, truth, ~EVERYWHERE, [scene(1)])
    with pytest.raises(LacunarError, match=r"values \(48, 47\) and known \(48, 48\) must be one \(H, W\) shape"):
        fill_from_reference(name, truth[:, :-1], known, [scene(1)])
    with pytest.raises(LacunarError, match="known is uint8, wanted bool"):
        fill_from_reference(name, truth, known.astype(np.uint8), [scene(1)])
    with pytest.raises(LacunarError, match=r"got 0 references; wanted one or more of the values' shape \(48, 48\)"):
        fill_from_reference(name, truth, known, [])
    with pytest.raises(LacunarError, match=r"got 2 references; wanted one or more of the values' shape \(48, 48\)"):
        fill_from_reference(name, truth, known, [scene(1), scene(1)[:-1]])


@pytest.mark.parametrize("name", ["reference copy", "regression", "regression + kriging"])
def test_a_date_without_a_pixel_in_common(name: str):
    truth, known = scene(), blob(0.3, 0, (SIDE, SIDE))
    with pytest.raises(LacunarError, match="a reference shares no measured pixel with the values: choose another date"):
        fill_from_reference(name, truth, known, [np.where(known, np.nan, scene(1))])


def test_the_deviation_grows_where_a_reference_that_counts_is_hidden():
    truth, known = scene(), blob(0.3, 0, (SIDE, SIDE))
    reference = 2 * truth + 0.3 * scene(1)
    hidden = reference.copy()
    hidden[:, : SIDE // 2] = np.nan
    veiled = np.isnan(hidden) & ~known
    whole = krige_with_guides(truth, known, reference[None])
    partly = krige_with_guides(truth, known, hidden[None])
    nothing = krige_with_guides(truth, known, np.full((1, SIDE, SIDE), np.nan))
    assert (partly.std[veiled] > 1.5 * whole.std[veiled]).mean() > 0.9
    assert np.median(partly.std[veiled] / nothing.std[veiled]) > 0.5
    shown = ~np.isnan(hidden) & ~known
    assert np.median(partly.std[shown] / nothing.std[shown]) < 0.7  # where it is shown it still helps
    assert (partly.std[known] == 0).all()


def test_what_a_hidden_reference_would_have_told_is_part_of_the_covariance():
    known, hidden = blob(0.3, 0, (SIDE, SIDE)), blob(0.4, 5, (SIDE, SIDE))
    within = {"hidden": [], "shown": []}
    for seed in range(6):
        detail = 2 * pattern(16.0, 0.0, seed)
        truth = 290 + detail + 0.5 * pattern(32.0, 4.0, 100 + seed)
        assert krige_with_drift(truth, known, drift_terms(detail[None], known)).veiled is False
        kriged = krige_with_guides(truth, known, np.where(hidden, np.nan, detail)[None])
        there = {"hidden": ~known & hidden, "shown": ~known & ~hidden}
        for place, pixels in there.items():
            within[place].append((np.abs(kriged.mean - truth) < kriged.std)[pixels].mean())
    assert 0.55 < np.mean(within["hidden"]) < 0.85
    assert 0.55 < np.mean(within["shown"]) < 0.85
