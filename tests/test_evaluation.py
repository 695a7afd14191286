"""Scores of fillers whose errors are known, against hand-made sums, scipy's bootstrap and scikit-image."""

import csv
import io
import math

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gap_models import GaussianResidual, gap_model
from lacunar.cases import Case
from lacunar.errors import LacunarError
from lacunar.evaluation import (
    SMOOTHED,
    Fill,
    classical_fillers,
    describe_machine,
    evaluate,
    markdown_table,
    model_filler,
    seam_ratio,
    to_csv,
    to_table,
)
from lacunar.filling import PRESETS, Preset, fill_array
from lacunar.interpolation import FILL_NAMES, fill, krige

SIDE = 32


def case(scene, *, col=0, rate=0.25, seed=0, side=SIDE):
    """A rough tile whose first rows are hidden."""
    values = np.random.default_rng(seed).normal(300.0, 4.0, (side, side))
    gap = np.zeros((side, side), bool)
    gap[: round(side * rate)] = True
    return Case(scene, 0, col, rate, values, gap, 280.0, 320.0)


def off_by(truths, error, **parts):
    """A filler that knows the truth and errs by ``error(case)``."""
    by_known = {truth.values[~truth.gap].tobytes(): truth for truth in truths}

    def filler(values, known, _):
        truth = by_known[values[known].tobytes()]
        made = {name: part(truth) for name, part in parts.items()}
        return Fill(truth.values + error(truth), **made)

    return filler


def constant(size):
    return lambda _: size


# --- scores ---


def test_scores_of_a_constant_error():
    cases = [case("a", seed=1), case("b", seed=2)]
    fillers = {"kriging": off_by(cases, constant(2.0)), "mine": off_by(cases, constant(-0.5))}
    reference, mine = evaluate(cases, fillers)
    assert (reference.filler, mine.filler) == ("kriging", "mine")
    assert (mine.rate, mine.scenes, mine.cases) == (0.25, 2, 2)
    assert (mine.rmse, mine.mae, mine.bias, mine.max_abs) == pytest.approx((0.5, 0.5, -0.5, 0.5))
    assert (mine.rmse_low, mine.rmse_high) == pytest.approx((0.5, 0.5))
    assert (mine.ratio, mine.ratio_low, mine.ratio_high) == pytest.approx((0.25, 0.25, 0.25))
    assert (reference.ratio, reference.rmse) == pytest.approx((1.0, 2.0))
    assert mine.image_mse == pytest.approx(0.25 * 0.5**2)  # a quarter of the image is gap, the rest is exact
    assert mine.psnr == pytest.approx(10 * math.log10(40.0**2 / (0.25 * 0.5**2)))
    assert math.isnan(mine.coverage_68)
    assert math.isnan(mine.coverage_95)


def test_errors_are_pooled_over_pixels_not_over_scenes():
    cases = [case("a", col=col, seed=col) for col in range(3)] + [case("b", seed=9)]
    sizes = {"a": 1.0, "b": 3.0}
    (score,) = evaluate(cases, {"kriging": off_by(cases, lambda truth: sizes[truth.scene])})
    assert score.rmse == pytest.approx(math.sqrt((3 * 1 + 9) / 4))
    assert score.mae == pytest.approx((3 * 1 + 3) / 4)
    assert (score.scenes, score.cases) == (2, 4)


def test_rates_are_scored_apart():
    cases = [case("a", rate=0.25, seed=1), case("a", rate=0.5, seed=2)]
    low, high = evaluate(cases, {"kriging": off_by(cases, lambda truth: 8 * truth.rate)})
    assert (low.rate, low.rmse, high.rate, high.rmse) == pytest.approx((0.25, 2.0, 0.5, 4.0))


def test_coverage_of_an_honest_sigma_is_nominal():
    cases = [case(f"s{i}", rate=0.75, seed=i) for i in range(20)]
    draws = np.random.default_rng(0)
    noise = {truth.scene: draws.normal(0, 1.7, (SIDE, SIDE)) for truth in cases}
    error, sigma = (lambda truth: noise[truth.scene]), (lambda truth: np.where(truth.gap, 1.7, 99.0))
    (score,) = evaluate(cases, {"kriging": off_by(cases, error, sigma=sigma)})
    assert score.coverage_68 == pytest.approx(0.6827, abs=0.01)
    assert score.coverage_95 == pytest.approx(0.95, abs=0.006)


def test_a_sample_is_scored_beside_the_mean():
    cases = [case("a"), case("b", seed=1)]
    filler = off_by(cases, constant(1.0), sample=lambda truth: truth.values + 3.0)
    mean, sample = evaluate(cases, {"kriging": filler})
    assert (mean.filler, sample.filler) == ("kriging", "kriging, one sample")
    assert (mean.rmse, sample.rmse, sample.ratio) == pytest.approx((1.0, 3.0, 3.0))


def test_whole_image_scores_are_those_of_scikit_image():
    truth = case("a", seed=4)
    error = np.random.default_rng(5).normal(0, 1, (SIDE, SIDE))
    (score,) = evaluate([truth], {"kriging": off_by([truth], lambda _: error)})
    image = np.where(truth.gap, truth.values + error, truth.values)
    assert score.psnr == pytest.approx(peak_signal_noise_ratio(truth.values, image, data_range=40.0))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 40.0}
    assert score.ssim == pytest.approx(structural_similarity(truth.values - 280, image - 280, **options), abs=1e-9)


# --- intervals ---


def uneven(scenes=12):
    """Scenes with errors of different size, two tiles each."""
    cases = [case(f"s{i}", col=col, seed=10 * i + col) for i in range(scenes) for col in (0, 64)]
    return cases, {f"s{i}": 0.5 + 0.25 * i for i in range(scenes)}


def test_the_interval_is_that_of_scipys_bootstrap_over_scenes():
    cases, sizes = uneven()
    (score,) = evaluate(cases, {"kriging": off_by(cases, lambda truth: sizes[truth.scene])})
    squares = np.array([size**2 for size in sizes.values()])
    theirs = stats.bootstrap(
        (squares,), lambda x, axis: np.sqrt(x.mean(axis=axis)), n_resamples=9999, method="percentile", random_state=0
    ).confidence_interval
    assert score.rmse_low == pytest.approx(theirs.low, rel=0.02)
    assert score.rmse_high == pytest.approx(theirs.high, rel=0.02)


def test_the_ratio_is_resampled_in_pairs():
    cases, sizes = uneven()
    fillers = {
        "kriging": off_by(cases, lambda truth: sizes[truth.scene]),
        "half": off_by(cases, lambda truth: sizes[truth.scene] / 2),
    }
    _, half = evaluate(cases, fillers)
    assert half.rmse_high > 1.3 * half.rmse_low
    assert (half.ratio, half.ratio_low, half.ratio_high) == pytest.approx((0.5, 0.5, 0.5))


def test_one_scene_has_no_interval():
    cases = [case("a"), case("a", col=64, seed=1)]
    (score,) = evaluate(cases, {"kriging": off_by(cases, constant(1.0))})
    assert math.isnan(score.rmse_low)
    assert math.isnan(score.ratio_high)
    assert "| 1.00 | 1.00 |" in to_table([score])


# --- what a filler is given ---


def test_a_filler_never_sees_the_truth_and_gets_a_seed_of_its_own():
    cases, seen = [case(name, seed=i) for i, name in enumerate("abc")], []

    def spy(values, known, seed):
        seen.append((values.copy(), known.copy(), seed))
        return Fill(np.full(values.shape, 300.0))

    evaluate(cases, {"kriging": spy}, seed=7)
    for truth, (values, known, _) in zip(cases, seen, strict=True):
        assert np.isnan(values[truth.gap]).all()
        np.testing.assert_array_equal(values[known], truth.values[~truth.gap])
        np.testing.assert_array_equal(known, ~truth.gap)
    assert len({seed for *_, seed in seen}) == 3
    evaluate(cases[2:], {"kriging": spy}, seed=7)
    assert seen[3][2] == seen[2][2]  # the same noise in a smaller set
    evaluate(cases[2:], {"kriging": spy}, seed=8)
    assert seen[4][2] != seen[2][2]


def test_progress_counts_every_fill():
    calls, cases = [], [case("a"), case("b", seed=1)]
    fillers = {"kriging": off_by(cases, constant(1.0)), "other": off_by(cases, constant(1.0))}
    evaluate(cases, fillers, callback=lambda *counts: calls.append(counts))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_bad_input_is_refused():
    cases = [case("a")]
    with pytest.raises(LacunarError, match="got 0 cases and the reference 'kriging'"):
        evaluate([], {"kriging": off_by(cases, constant(1.0))})
    with pytest.raises(LacunarError, match=r"reference 'idw'; wanted a case or more and one of \['kriging'\]"):
        evaluate(cases, {"kriging": off_by(cases, constant(1.0))}, reference="idw")
    with pytest.raises(LacunarError, match="NaN or infinite"):
        evaluate(cases, {"kriging": off_by(cases, constant(np.nan))})


# --- our fillers ---


def test_the_classical_fillers_are_those_of_the_library():
    truth = case("a", seed=3)
    hidden, known = np.where(truth.gap, np.nan, truth.values), ~truth.gap
    fillers = classical_fillers()
    assert set(fillers) == {*FILL_NAMES, SMOOTHED}
    for name in FILL_NAMES:
        np.testing.assert_allclose(fillers[name](hidden, known, 0).mean, fill(name, hidden, known))
    mean, std = krige(hidden, known)
    smoothed = fillers[SMOOTHED](hidden, known, 0)
    np.testing.assert_array_equal(smoothed.mean, mean)
    np.testing.assert_array_equal(smoothed.sigma, std)
    assert fillers["kriging"](hidden, known, 0).sigma is not None
    assert fillers["idw"](hidden, known, 0).sigma is None


def test_a_model_gives_mean_sigma_and_one_of_its_samples():
    truth, model = case("a", seed=3), gap_model(GaussianResidual())
    hidden, known = np.where(truth.gap, np.nan, truth.values), ~truth.gap
    made = model_filler(model, preset=Preset(steps=5), samples=4)(hidden, known, 11)
    filled = fill_array(hidden, known, truth.gap, model, preset=Preset(steps=5), samples=4, seed=11)
    np.testing.assert_array_equal(made.mean, filled.mean)
    np.testing.assert_array_equal(made.sigma, filled.sigma)
    np.testing.assert_array_equal(made.sample, filled.samples[0])
    one = model_filler(model, preset=PRESETS["fast"], samples=1)(hidden, known, 11)
    assert one.sigma is None
    assert one.sample is None


def test_the_mean_of_an_exact_model_scores_as_kriging_and_a_sample_worse():
    cases = [case(f"s{i}", seed=i, side=64) for i in range(3)]
    model = model_filler(gap_model(GaussianResidual()), preset=PRESETS["fast"], samples=4)
    mine = {score.filler: score for score in evaluate(cases, classical_fillers() | {"model": model})}
    assert mine["model"].rmse == pytest.approx(mine[SMOOTHED].rmse, abs=2e-3)
    assert mine["model, one sample"].rmse > 1.2 * mine[SMOOTHED].rmse


# --- tables ---


def test_the_table_has_a_row_for_each_score():
    cases = [case("a"), case("b", seed=1)]
    fillers = {
        "kriging": off_by(cases, constant(2.0)),
        "sure": off_by(cases, constant(-0.5), sigma=lambda _: np.ones((SIDE, SIDE))),
    }
    lines = to_table(evaluate(cases, fillers)).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert "RMSE / kriging [95 %]" in lines[0]
    assert lines[3].startswith(
        "| 25 % | sure | 0.50 [0.50, 0.50] | 0.25 [0.25, 0.25] | 0.50 | -0.50 | 0.5 | 100 % | 100 % |"
    )
    assert "| - | - |" in lines[2]


def test_the_csv_reads_back():
    cases = [case("a"), case("b", seed=1)]
    scores = evaluate(cases, {"kriging": off_by(cases, constant(2.0))})
    (row,) = csv.DictReader(io.StringIO(to_csv(scores)))
    assert float(row["rmse"]) == scores[0].rmse
    assert row["filler"] == "kriging"
    assert row["coverage_68"] == "nan"


def test_a_table_of_anything():
    assert markdown_table(("a", "b"), [(1, "x"), (2, "y")]).splitlines()[2:] == ["| 1 | x |", "| 2 | y |"]


def test_the_machine_is_described_in_one_line():
    text = describe_machine()
    assert "\n" not in text
    assert torch.__version__ in text
    assert "cores" in text


# --- seams ---


def test_a_jump_at_a_border_shows_and_elsewhere_does_not():
    rows, cols = np.mgrid[:60, :90]
    field, gap = 0.5 * rows + 0.5 * cols, np.ones((60, 90), bool)
    assert seam_ratio(field, gap, rows=(20, 40), cols=(30, 60)) == pytest.approx(1.0)
    assert seam_ratio(field + 1.5 * (cols >= 30), gap, rows=(), cols=(30,)) == pytest.approx(4.0)
    assert seam_ratio(field + 1.5 * (rows >= 20), gap, rows=(20,), cols=()) == pytest.approx(4.0)
    assert seam_ratio(field + 1.5 * (cols >= 31), gap, rows=(), cols=(30,)) < 1.0


def test_only_steps_inside_the_gap_count():
    field, gap = np.tile(np.arange(10.0), (4, 1)), np.zeros((4, 10), bool)
    gap[:, 3:8] = True
    field[:, ~gap[0]] = 1e6
    assert seam_ratio(field, gap, rows=(), cols=(5,)) == pytest.approx(4 / (3 * 4 / (3 * 4 + 3 * 5)) / 4)
    with pytest.raises(LacunarError, match="got 0 steps across borders and 31 others"):
        seam_ratio(field, gap, rows=(), cols=(3,))
