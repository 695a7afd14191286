"""Pooled scores against sums made by hand, scipy's bootstrap, and what is known of means."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lacunar.errors import LacunarError
from lacunar.evaluate.scores import Scheme, interval_95, pool, resampling_weights, score_each, stratum_names

SCHEME = Scheme(
    unit="date",
    by=("place",),
    counts=("pixels",),
    greatest=("worst",),
    ratios={"error": lambda own: own["sum"] / own["pixels"]},
    means=("decibels",),
    compared={"gain": lambda own, base: own["sum"] / own["pixels"] - base["sum"] / base["pixels"]},
    intervals=("error", "gain", "decibels"),
)


def rows_of(method, errors, *, place="hill", pixels=10, **more):
    """One row for each date with its error."""
    columns = {"method": method, "place": place, "pixels": pixels, "evaluations": 3, "seconds": 1.0}
    return [
        columns | {"date": f"d{i}", "sum": error * pixels, "worst": error, "decibels": -error} | more
        for i, error in enumerate(errors)
    ]


def pooled(*rows, baseline="base", seed=0):
    return pool(pd.DataFrame([row for some in rows for row in some]), SCHEME, baseline=baseline, seed=seed)


def test_counts_are_added_up_before_a_ratio_is_taken():
    small, large = rows_of("base", [1.0]), rows_of("base", [4.0], pixels=30)
    large[0]["date"] = "d1"
    (score,) = pooled(small, large).itertuples()
    assert (score.error, score.pixels, score.cases, score.dates) == (pytest.approx(130 / 40), 40, 2, 2)
    assert (score.worst, score.decibels, score.evaluations, score.seconds) == (4.0, -2.5, 3, 1.0)
    assert (score.baseline, score.gain) == ("base", 0.0)


def test_groups_and_methods_keep_their_order():
    table = pd.DataFrame([*rows_of("b", [1.0]), *rows_of("a", [1.0]), *rows_of("c", [1.0], place="dale")])
    scores = pool(table, SCHEME, baseline="b")
    assert list(zip(scores["place"], scores["method"], strict=True)) == [("hill", "b"), ("hill", "a"), ("dale", "c")]
    table["method"] = pd.Categorical(table["method"], ["c", "a", "b"])
    assert list(pool(table, SCHEME, baseline="b")["method"]) == ["a", "b", "c"]


def test_intervals_are_those_of_scipys_bootstrap_of_whole_units():
    errors = np.random.default_rng(4).gamma(2.0, size=12)
    (score,) = pooled(rows_of("base", errors)).itertuples()
    wanted = stats.bootstrap((errors,), np.mean, method="percentile", n_resamples=20_000, rng=0).confidence_interval
    assert (score.error_low, score.error_high) == pytest.approx(tuple(wanted), abs=0.06)


def test_tiles_of_one_date_are_drawn_together():
    apart = pooled(rows_of("base", [1.0, 2.0, 3.0, 4.0])).iloc[0]
    together = pooled([row | {"date": f"d{i // 2}"} for i, row in enumerate(rows_of("base", [1.0, 1.0, 4.0, 4.0]))])
    assert (together.iloc[0]["error_low"], together.iloc[0]["error_high"]) == (1.0, 4.0)
    assert apart["error_low"] > 1.0


def test_comparisons_are_paired():
    base, ours = [5.0, 1.0, 3.0, 9.0], [4.0, 0.5, 2.25, 8.0]
    score = pooled(rows_of("base", base), rows_of("ours", ours)).set_index("method").loc["ours"]
    assert score["gain"] == pytest.approx(np.mean(ours) - np.mean(base))
    assert -1.0 <= score["gain_low"] < score["gain"] < score["gain_high"] <= -0.5  # that of the errors is far wider
    assert score["error_high"] - score["error_low"] > 3


def test_where_the_baseline_has_other_units_nothing_is_compared():
    score = pooled(rows_of("base", [1.0, 2.0]), rows_of("ours", [1.0, 2.0, 3.0])).set_index("method").loc["ours"]
    assert math.isnan(score["gain"])
    assert math.isnan(score["gain_low"])
    assert score["error"] == 2.0
    with pytest.raises(LacunarError, match="no method 'unet' to compare with: choose out of base"):
        pooled(rows_of("base", [1.0]), baseline="unet")


def test_the_same_seed_gives_the_same_intervals():
    rows = rows_of("base", np.random.default_rng(0).normal(size=20))
    pd.testing.assert_frame_equal(pooled(rows, seed=3), pooled(rows, seed=3))
    assert not pooled(rows, seed=4).equals(pooled(rows, seed=3))


def test_one_unit_or_an_infinite_score_has_no_interval():
    assert math.isnan(pooled(rows_of("base", [1.0])).iloc[0]["error_low"])
    endless = pooled(rows_of("base", [1.0, 2.0], decibels=math.inf)).iloc[0]
    assert endless["decibels"] == math.inf
    assert math.isnan(endless["decibels_high"])


def test_every_case_has_the_scores_of_its_own_sums():
    table = pd.DataFrame(rows_of("base", [1.0, 3.0]))
    cases = score_each(table, SCHEME, ("place", "date"))
    assert cases.columns.tolist() == [
        *("place", "date", "method", "evaluations", "seconds", "pixels", "worst", "error", "decibels"),
    ]
    assert cases["error"].tolist() == [1.0, 3.0]


def test_every_row_of_weights_draws_as_many_units_and_the_first_takes_each_once():
    weights = resampling_weights(7, seed=3)
    assert weights.shape == (2001, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert (weights[0] == 1).all()
    np.testing.assert_allclose(weights[1:].mean(axis=0), 1.0, atol=0.1)


def test_the_interval_of_a_mean_is_that_of_the_central_limit_theorem():
    values = np.random.default_rng(0).normal(3, 2, 200)
    low, high = interval_95(resampling_weights(values.size, seed=0) @ values / values.size, units=values.size)
    half = 1.959964 * values.std() / math.sqrt(values.size)
    np.testing.assert_allclose([low, high], [values.mean() - half, values.mean() + half], atol=0.05)


def test_the_sample_itself_is_left_out():
    assert interval_95(np.array([100.0, 1.0, 1.0, 1.0]), units=3) == (1.0, 1.0)


@pytest.mark.parametrize("edges", [(1, 2, 4), (16, 64)])
def test_strata_have_one_name_more_than_edges(edges):
    assert len(set(stratum_names(edges))) == len(edges) + 1
