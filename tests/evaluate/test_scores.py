"""Pooled scores of fillers whose errors are known, against hand-made sums and scipy's bootstrap."""

import math

import numpy as np
import pytest
from scipy import stats

from known_errors import SIDE, case, constant, off_by, scored
from lacunar.errors import LacunarError
from lacunar.evaluate.methods import evaluate
from lacunar.evaluate.scores import pool, reliability
from lacunar.evaluate.tables import to_table

# --- scores ---


def test_scores_of_a_constant_error():
    cases = [case("a", seed=1), case("b", seed=2)]
    fillers = {"kriging": off_by(cases, constant(2.0)), "mine": off_by(cases, constant(-0.5))}
    reference, mine = scored(cases, fillers)
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
    (score,) = scored(cases, {"kriging": off_by(cases, lambda truth: sizes[truth.scene])})
    assert score.rmse == pytest.approx(math.sqrt((3 * 1 + 9) / 4))
    assert score.mae == pytest.approx((3 * 1 + 3) / 4)
    assert (score.scenes, score.cases) == (2, 4)


def test_rates_are_scored_apart():
    cases = [case("a", rate=0.25, seed=1), case("a", rate=0.5, seed=2)]
    low, high = scored(cases, {"kriging": off_by(cases, lambda truth: 8 * truth.rate)})
    assert (low.rate, low.rmse, high.rate, high.rmse) == pytest.approx((0.25, 2.0, 0.5, 4.0))


def test_coverage_of_an_honest_sigma_is_nominal():
    cases = [case(f"s{i}", rate=0.75, seed=i) for i in range(20)]
    draws = np.random.default_rng(0)
    noise = {truth.scene: draws.normal(0, 1.7, (SIDE, SIDE)) for truth in cases}
    error, sigma = (lambda truth: noise[truth.scene]), (lambda truth: np.where(truth.gap, 1.7, 99.0))
    (score,) = scored(cases, {"kriging": off_by(cases, error, sigma=sigma)})
    assert score.coverage_68 == pytest.approx(0.6827, abs=0.01)
    assert score.coverage_95 == pytest.approx(0.95, abs=0.006)


def test_a_sample_is_scored_beside_the_mean():
    cases = [case("a"), case("b", seed=1)]
    filler = off_by(cases, constant(1.0), sample=lambda truth: truth.values + 3.0)
    mean, sample = scored(cases, {"kriging": filler})
    assert (mean.filler, sample.filler) == ("kriging", "kriging, one sample")
    assert (mean.rmse, sample.rmse, sample.ratio) == pytest.approx((1.0, 3.0, 3.0))


# --- intervals ---


def uneven(scenes=12):
    """Scenes with errors of different size, two tiles each."""
    cases = [case(f"s{i}", col=col, seed=10 * i + col) for i in range(scenes) for col in (0, 64)]
    return cases, {f"s{i}": 0.5 + 0.25 * i for i in range(scenes)}


def test_the_interval_is_that_of_scipys_bootstrap_over_scenes():
    cases, sizes = uneven()
    (score,) = scored(cases, {"kriging": off_by(cases, lambda truth: sizes[truth.scene])})
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
    whole, half = scored(cases, fillers)
    assert (half.rmse_low, half.rmse_high) == pytest.approx((whole.rmse_low / 2, whole.rmse_high / 2))  # the same draws
    assert half.rmse_high > 1.3 * half.rmse_low
    assert (half.ratio, half.ratio_low, half.ratio_high) == pytest.approx((0.5, 0.5, 0.5))


def test_one_scene_has_no_interval():
    cases = [case("a"), case("a", col=64, seed=1)]
    (score,) = scored(cases, {"kriging": off_by(cases, constant(1.0))})
    assert math.isnan(score.rmse_low)
    assert math.isnan(score.ratio_high)
    assert "| 1.00 | 1.00 |" in to_table([score])


def test_scenes_that_are_alike_have_no_spread():
    cases = [case(f"s{i}", col=col, seed=7) for i in range(5) for col in (0, 64)]
    honest = off_by(cases, constant(1.0), sigma=lambda _: np.ones((SIDE, SIDE)))
    for score in scored(cases, {"kriging": honest}, kinds=("all", "distance", "gap size")):
        for name in ("rmse", "ratio", "crps", "coverage_68", "coverage_95"):
            low, high = getattr(score, f"{name}_low"), getattr(score, f"{name}_high")
            assert high - low == pytest.approx(0.0, abs=1e-12)
            assert low == pytest.approx(getattr(score, name))


# --- strata ---


def test_strata_are_pooled_apart_and_sum_to_the_whole():
    cases = [case("a", rate=0.5, seed=1), case("b", rate=0.5, seed=2)]
    rows = np.arange(SIDE)[:, None] * np.ones(SIDE)  # row 15 is next to the first known one
    fillers = {"kriging": off_by(cases, lambda _: SIDE // 2 - rows)}  # the error is the distance
    scores = scored(cases, fillers, kinds=("all", "distance", "gap size", "scene"))
    by_kind = {kind: [s for s in scores if s.kind == kind] for kind in ("all", "distance", "gap size", "scene")}
    assert [s.stratum for s in by_kind["distance"]] == [
        "up to 1 px",
        "1 to 2 px",
        "2 to 4 px",
        "4 to 8 px",
        "8 to 16 px",
    ]
    assert [s.rmse for s in by_kind["distance"]][:3] == pytest.approx([1.0, 2.0, math.sqrt((9 + 16) / 2)])
    assert [s.stratum for s in by_kind["gap size"]] == ["256 to 1024 px"]
    assert [s.stratum for s in by_kind["scene"]] == ["a", "b"]
    (whole,) = by_kind["all"]
    for kind in ("distance", "gap size", "scene"):
        assert sum(s.pixels for s in by_kind[kind]) == whole.pixels == 2 * 512
        assert sum(s.pixels * s.rmse**2 for s in by_kind[kind]) == pytest.approx(whole.pixels * whole.rmse**2)
    assert all(math.isnan(s.psnr) for s in by_kind["distance"])
    assert all(math.isfinite(s.psnr) for s in by_kind["scene"])
    assert whole.image_max == whole.max_abs == 16


def test_groups_of_pairs_are_strata_and_cases_without_one_are_left_out():
    cases = [case("a", seed=1, group="near"), case("b", seed=2, group="far"), case("c", seed=3)]
    sizes = {"a": 1.0, "b": 3.0, "c": 9.0}
    fillers = {"kriging": off_by(cases, lambda truth: sizes[truth.scene])}
    scores = scored(cases, fillers, kinds=("reference",))
    assert [(s.stratum, s.rmse, s.scenes) for s in scores] == [("near", 1.0, 1), ("far", 3.0, 1)]


def test_unknown_kinds_and_baselines_are_refused():
    rows = evaluate([case("a")], {"idw": off_by([case("a")], constant(1.0))})
    with pytest.raises(LacunarError, match="the baseline 'kriging'; wanted"):
        pool(rows)
    with pytest.raises(LacunarError, match=r"kinds \['weather'\]"):
        pool(rows, baseline="idw", kinds=("weather",))


# --- uncertainty ---


def forecaster(cases, *, truth_sigma, claimed):
    """A filler whose errors are normal with one sigma and who claims another."""
    draws = np.random.default_rng(3)
    noise = {truth.name: draws.normal(0, truth_sigma, (SIDE, SIDE)) for truth in cases}
    return off_by(cases, lambda truth: noise[truth.name], sigma=lambda _: np.full((SIDE, SIDE), claimed))


def test_reliability_lies_on_the_diagonal_for_the_honest_alone():
    cases = [case(f"s{i}", rate=0.75, seed=i) for i in range(20)]
    fillers = {
        "honest": forecaster(cases, truth_sigma=1.7, claimed=1.7),
        "overconfident": forecaster(cases, truth_sigma=1.7, claimed=0.85),
        "shy": forecaster(cases, truth_sigma=1.7, claimed=3.4),
        "kriging": off_by(cases, constant(1.0)),
    }
    curves = {curve.filler: curve for curve in reliability(evaluate(cases, fillers))}
    assert set(curves) == {"honest", "overconfident", "shy"}
    nominal = curves["honest"].nominal
    assert nominal.tolist() == pytest.approx([i / 20 for i in range(1, 20)])
    np.testing.assert_allclose(curves["honest"].observed, nominal, atol=0.012)
    np.testing.assert_allclose(curves["honest"].histogram, 1.0, atol=0.12)
    # half the sigma: the truth lies within k claimed sigmas as often as within k/2 true ones
    for name, factor in (("overconfident", 0.5), ("shy", 2.0)):
        wanted = 2 * stats.norm.cdf(factor * stats.norm.ppf((1 + nominal) / 2)) - 1
        np.testing.assert_allclose(curves[name].observed, wanted, atol=0.012)
    assert curves["overconfident"].histogram[0] > 2  # truths pile up in the tails
    assert curves["overconfident"].histogram.mean() == pytest.approx(1.0)


def test_crps_rewards_the_honest_and_is_the_mae_of_those_who_claim_no_sigma():
    cases = [case(f"s{i}", rate=0.75, seed=i) for i in range(20)]
    claims = {"honest": 1.7, "overconfident": 0.4, "shy": 6.0}
    fillers = {name: forecaster(cases, truth_sigma=1.7, claimed=sigma) for name, sigma in claims.items()}
    fillers["kriging"] = off_by(cases, constant(2.0))
    scores = {score.filler: score for score in scored(cases, fillers)}
    assert scores["honest"].crps == pytest.approx(1.7 / math.sqrt(math.pi), rel=0.01)
    assert scores["honest"].crps < min(scores["overconfident"].crps, scores["shy"].crps)
    assert scores["kriging"].crps == scores["kriging"].mae == pytest.approx(2.0)
    assert scores["shy"].sigma == pytest.approx(6.0)
    assert math.isnan(scores["kriging"].sigma)
    assert math.isnan(scores["honest"].crps_samples)


def test_no_sigma_at_all_is_refused():
    cases = [case("a")]
    with pytest.raises(LacunarError, match="no filler gives a sigma"):
        reliability(evaluate(cases, {"kriging": off_by(cases, constant(1.0))}))
