"""Evaluation of LST: measures of known errors, fills, and the whole run on small rasters made here."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import ndimage, stats

from commands import Ran, contents, write
from gap_models import GaussianResidual, gap_model
from html_reader import Reader, is_self_contained
from known_errors import SIDE, case, claims, found, off_by, scored
from lacunar.diffusion.samplers import PRESETS, Preset
from lacunar.errors import LacunarError
from lacunar.evaluate.job import evaluate
from lacunar.evaluate.lst import (
    CLASSICAL,
    DISTANCES,
    FIELD,
    SIZES,
    SMOOTHED,
    LstTask,
    measure,
    model_method,
)
from lacunar.evaluate.lst_cases import GROUPS, LstCase
from lacunar.evaluate.probabilistic import crps_ensemble, crps_gaussian
from lacunar.evaluate.scores import stratum_names
from lacunar.evaluate.task import Estimate
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.geo.missing_shapes import gap_pattern
from lacunar.interpolate.classical import FILL_NAMES, fill
from lacunar.interpolate.external_drift import REFERENCE_FILL_NAMES, fill_from_reference
from lacunar.interpolate.kriging import krige

# --- measures of one case ---


def hidden_by(missing, seed=0):
    truth = np.random.default_rng(seed).normal(300.0, 2.0, missing.shape)
    return LstCase("kano_a", 0, 0, 0.2, truth, missing, 280.0, 320.0)


def pixels_of(rows, kind):
    return {row["stratum"]: row["pixels"] for row in rows if row["kind"] == kind}


@pytest.mark.parametrize("pattern", ["blobs", "stripes", "half"])
@pytest.mark.parametrize("kind", ["distance", "gap size"])
def test_the_strata_of_a_kind_share_out_the_missing_pixels(pattern, kind):
    truth = hidden_by(gap_pattern(pattern, (96, 96), 0.4, rng=np.random.default_rng(2)))
    rows = measure(truth, Estimate(truth.truth + np.random.default_rng(3).normal(size=(96, 96))))
    parts = [row for row in rows if row["kind"] == kind]
    assert len(parts) > (1 if pattern != "half" or kind == "distance" else 0)
    for name in ("pixels", "squares", "absolute", "errors", "crps_gaussian"):
        assert sum(row[name] for row in parts) == pytest.approx(rows[0][name])
    assert max(row["max_abs"] for row in parts) == rows[0]["max_abs"]


def test_distance_is_to_the_nearest_known_pixel_and_size_that_of_the_connected_region():
    missing = np.zeros((80, 80), bool)
    missing[10:41, 10:41] = True  # 961 pixels; its middle is 16 pixels from the border
    missing[60, 60:64] = True  # 4 pixels
    rows = measure(hidden_by(missing), Estimate(hidden_by(missing).truth))
    assert pixels_of(rows, "gap size") == {"up to 16 px": 4, "256 to 1024 px": 961}
    assert pixels_of(rows, "distance") == {
        "up to 1 px": 31**2 - 29**2 + 4,
        "1 to 2 px": 29**2 - 27**2,
        "2 to 4 px": 27**2 - 23**2,
        "4 to 8 px": 23**2 - 15**2,
        "8 to 16 px": 15**2,
    }


def test_distance_is_euclidean():
    missing = np.ones((32, 32), bool)
    missing[0, 0] = False
    rings = pixels_of(measure(hidden_by(missing), Estimate(hidden_by(missing).truth)), "distance")
    squares = np.add.outer(np.arange(32) ** 2, np.arange(32) ** 2)
    for stratum, low, high in (("up to 1 px", 0, 1), ("1 to 2 px", 1, 4), ("8 to 16 px", 64, 256)):
        assert rings[stratum] == ((squares > low) & (squares <= high)).sum()


def test_names_of_strata_do_not_collide():
    names = [*stratum_names(DISTANCES), *stratum_names(SIZES)]
    assert len(set(names)) == len(DISTANCES) + len(SIZES) + 2


def test_sums_of_a_fill_with_sigma_and_samples():
    truth, draws = case("a"), np.random.default_rng(1)
    error, sigma = draws.normal(size=(SIDE, SIDE)), draws.uniform(0.5, 2.0, (SIDE, SIDE))
    samples, there = truth.truth + draws.normal(size=(4, SIDE, SIDE)), truth.missing
    row = measure(truth, Estimate(truth.truth + error, sigma, samples, antithetic=True))[0]
    assert row["pixels"] == there.sum()
    assert row["errors"] == pytest.approx(error[there].sum())
    assert row["crps_gaussian"] == pytest.approx(crps_gaussian(error[there], sigma[there], np.zeros(there.sum())).sum())
    wanted = crps_ensemble(samples[:, there], truth.truth[there], antithetic=True).sum()
    assert row["crps_ensemble"] == pytest.approx(wanted)
    assert row["in_68"] == (np.abs(error) <= sigma)[there].sum()
    assert row["in_95"] == (np.abs(error) <= 1.959964 * sigma)[there].sum()
    assert row["variance"] == pytest.approx((sigma[there] ** 2).sum())
    assert sum(row[f"pit_{i}"] for i in range(20)) == there.sum()


def test_without_sigma_there_is_no_coverage_and_too_few_samples_have_no_score():
    truth = case("a")
    samples = np.repeat(truth.truth[None], 2, 0)
    row = measure(truth, Estimate(truth.truth + 1.0, samples=samples, antithetic=True))[0]
    assert np.isnan([row[name] for name in ("in_68", "in_95", "variance", "crps_ensemble")]).all()
    assert math.isnan(row["pit_0"])
    assert row["crps_gaussian"] == row["absolute"]


def test_the_limits_of_a_fill_take_the_place_of_those_of_a_normal_distribution():
    truth = hidden_by(gap_pattern("box", (32, 32), 0.3, rng=np.random.default_rng(0)))
    mean, sigma = truth.truth - 2.5, np.ones((32, 32))
    limits = (None, (mean - 3, mean + 3), (mean - 3, mean + 2))
    shares = [measure(truth, Estimate(mean, sigma, limits=both))[0]["in_95"] for both in limits]
    assert shares == [0, truth.missing.sum(), 0]


def test_nothing_missing_and_nan_are_refused():
    nothing = hidden_by(np.zeros((SIDE, SIDE), bool))
    with pytest.raises(LacunarError, match=r"case kano_a\+0\+0@0.2 has nothing missing"):
        measure(nothing, Estimate(nothing.truth))
    with pytest.raises(LacunarError, match="NaN"):
        measure(case("a"), Estimate(np.full((SIDE, SIDE), np.nan)))


# --- pooled ---


def test_scores_of_a_constant_error():
    base, mine = scored([case("a", seed=1), case("b", seed=2)], {"kriging": off_by(2.0), "mine": off_by(-0.5)})
    assert (mine.rate, mine.scenes, mine.cases, mine.method) == (0.25, 2, 2, "mine")
    assert (mine.rmse, mine.mae, mine.bias, mine.max_abs) == pytest.approx((0.5, 0.5, -0.5, 0.5))
    assert (mine.ratio, mine.ratio_low, mine.ratio_high) == pytest.approx((0.25, 0.25, 0.25))
    assert (base.ratio, base.rmse) == pytest.approx((1.0, 2.0))
    assert mine.image_mse == pytest.approx(0.25 * 0.5**2)  # a quarter is missing, the rest is exact
    assert mine.psnr == pytest.approx(10 * math.log10(40.0**2 / (0.25 * 0.5**2)))
    assert math.isnan(mine.coverage_68)


def test_errors_are_pooled_over_pixels_and_rates_apart():
    cases = [case("a", col=col, seed=col) for col in range(3)] + [case("b", seed=9), case("b", rate=0.5, seed=9)]
    low, high = scored(cases, {"kriging": off_by(lambda truth: {"a": 1.0, "b": 3.0}[truth.scene])})
    assert low.rmse == pytest.approx(math.sqrt((3 * 1 + 9) / 4))
    assert (low.scenes, low.cases, low.rate) == (2, 4, 0.25)
    assert (high.rmse, high.rate) == (pytest.approx(3.0), 0.5)


def test_two_exact_fills_are_equally_good_and_none_is_better_than_an_exact_one():
    base, same, worse = scored([case("a")], {"kriging": off_by(0.0), "same": off_by(0.0), "worse": off_by(1.0)})
    assert (base.ratio, same.ratio, worse.ratio) == (1.0, 1.0, math.inf)


def test_strata_are_pooled_apart_and_sum_to_the_whole():
    cases = [case("hill_a", rate=0.5, seed=1), case("dale_b", rate=0.5, seed=2)]
    rows = np.arange(SIDE)[:, None] * np.ones(SIDE)  # row 15 is next to the first known one
    fills = {"kriging": off_by(lambda _: SIDE // 2 - rows)}  # the error is the distance
    kinds = {kind: scored(cases, fills, kind=kind) for kind in ("all", "distance", "gap size", "scene", "place")}
    assert [s.stratum for s in kinds["distance"]] == stratum_names(DISTANCES)[:5]
    assert [s.rmse for s in kinds["distance"]][:3] == pytest.approx([1.0, 2.0, math.sqrt((9 + 16) / 2)])
    assert [s.stratum for s in kinds["gap size"]] == ["256 to 1024 px"]
    assert [s.stratum for s in kinds["scene"]] == ["hill_a", "dale_b"]
    assert [s.stratum for s in kinds["place"]] == ["hill", "dale"]
    (whole,) = kinds["all"]
    for kind in ("distance", "gap size", "scene", "place"):
        assert sum(s.pixels for s in kinds[kind]) == whole.pixels == 2 * 512
        assert sum(s.pixels * s.rmse**2 for s in kinds[kind]) == pytest.approx(whole.pixels * whole.rmse**2)
    assert all(math.isnan(s.psnr) for s in kinds["distance"])
    assert all(math.isfinite(s.psnr) for s in kinds["scene"])
    assert whole.image_max == whole.max_abs == 16


def test_groups_of_pairs_are_strata_and_cases_without_one_are_left_out():
    cases = [case("a", seed=1, group="near"), case("b", seed=2, group="far"), case("c", seed=3)]
    fills = {"kriging": off_by(lambda truth: {"a": 1.0, "b": 3.0, "c": 9.0}[truth.scene])}
    scores = scored(cases, fills, kind="reference")
    assert [(s.stratum, s.rmse, s.scenes) for s in scores] == [("near", 1.0, 1), ("far", 3.0, 1)]


def forecast(cases, *, truth_sigma, claimed):
    """A fill whose errors are normal with one sigma and that claims another."""
    draws = np.random.default_rng(3)
    noise = {truth.name: draws.normal(0, truth_sigma, (SIDE, SIDE)) for truth in cases}
    return off_by(lambda truth: noise[truth.name], sigma=claims(claimed))


def test_only_a_calibrated_sigma_is_reliable_and_has_the_best_crps():
    cases = [case(f"s{i}", rate=0.75, seed=i) for i in range(20)]
    factors = {"calibrated": 1.0, "bold": 0.5, "shy": 2.0}
    fills = {name: forecast(cases, truth_sigma=1.7, claimed=1.7 * factor) for name, factor in factors.items()}
    _, results = found(cases, fills | {"kriging": off_by(1.0)})
    curves = {curve["method"]: curve for curve in results.reliability}
    assert set(curves) == set(factors)
    nominal = np.array(curves["calibrated"]["nominal"])
    assert nominal.tolist() == pytest.approx([i / 20 for i in range(1, 20)])
    for name, factor in factors.items():  # the truth lies within k claimed sigmas as often as within k factor true ones
        wanted = 2 * stats.norm.cdf(factor * stats.norm.ppf((1 + nominal) / 2)) - 1
        np.testing.assert_allclose(curves[name]["observed"], wanted, atol=0.012)
    np.testing.assert_allclose(curves["calibrated"]["pit_density"], 1.0, atol=0.12)
    assert curves["bold"]["pit_density"][0] > 2  # truths pile up in the tails
    scores = results.scores[results.scores["kind"] == "all"].set_index("method")
    assert scores.loc["calibrated", "coverage_68"] == pytest.approx(0.6827, abs=0.01)
    assert scores.loc["calibrated", "coverage_95"] == pytest.approx(0.95, abs=0.006)
    assert scores.loc["calibrated", "crps"] == pytest.approx(1.7 / math.sqrt(math.pi), rel=0.01)
    assert scores["crps"].drop("kriging").idxmin() == "calibrated"
    assert scores.loc["kriging", "crps"] == scores.loc["kriging", "mae"]
    assert scores.loc["shy", "sigma"] == pytest.approx(3.4)


# --- figures ---


def test_figures_show_the_chosen_and_the_networks_with_paired_bars():
    cases = [case(f"hill_{day}", rate=rate, seed=day) for day in (1, 2, 3) for rate in (0.22, 0.5)]
    fills = {
        "kriging": off_by(lambda truth: float(truth.scene[-1]), sigma=claims(1.0)),
        "net": off_by(lambda truth: float(truth.scene[-1]) / 2, sigma=claims(2.0), evaluations=lambda _: 80),
    }
    task, results = found(cases, fills, curves={"net": "net, DDIM, mean of 8"})
    figures = {name: plot.draw(results) for name, plot in task.plots(cases, results.lineup).items()}
    assert set(figures) == {"reliability", "distance", "evaluations", "examples_22", "examples_50"}
    for name in ("reliability", "distance"):
        (legend,) = figures[name].legends
        assert [text.get_text() for text in legend.get_texts()] == ["kriging", "net"]
    distances = [tick.get_text() for tick in figures["distance"].axes[0].get_xticklabels()]
    assert distances == ["up to 1", "1 to 2", "2 to 4", "4 to 8", "8 to 16"]  # no pixel lies further in
    axes = figures["evaluations"].axes[0]
    level = next(line for line in axes.get_lines() if line.get_label() == "kriging").get_ydata()[0]
    (bars,) = axes.containers
    (segment,) = bars.lines[2][0].get_segments()
    assert segment[:, 1] == pytest.approx([level / 2, level / 2])  # the ratio is sure, whatever the dates


def test_examples_are_what_their_titles_say():
    one = case("hill_1", references=(np.full((SIDE, SIDE), 310.0),), reference="hill_2", days_apart=8)
    task, results = found([one], {"kriging": off_by(2.0, sigma=claims(0.7))})
    figure = task.plots([one], results.lineup)["examples_25"].draw(results)
    drawn = {
        " ".join(axes.get_title().split()): np.ma.filled(axes.images[-1].get_array(), np.nan)
        for axes in figure.axes
        if axes.images and axes.get_title()
    }
    assert list(drawn) == ["truth", "given", "reference (own scale)", "kriging", "|error| kriging", "sigma kriging"]
    assert np.isnan(drawn["given"][one.missing]).all()
    np.testing.assert_allclose(drawn["truth"], one.truth - 273.15)
    np.testing.assert_allclose(drawn["kriging"], drawn["truth"] + 2.0 * one.missing)
    np.testing.assert_allclose(drawn["|error| kriging"], np.where(one.missing, 2.0, 0.0))
    np.testing.assert_allclose(drawn["sigma kriging"], np.where(one.missing, 0.7, 0.0))


# --- methods ---


def test_the_classical_methods_are_those_of_the_library():
    truth = case("a", seed=3)
    values, known, references = truth.given
    methods = LstTask(rasters=Path("none"), masks="blobs", models=()).lineup().methods
    assert set(methods) == {*FILL_NAMES, SMOOTHED, FIELD}
    made = {name: method(values, known, references, 0)[name] for name, method in methods.items()}
    for name in FILL_NAMES:
        np.testing.assert_allclose(made[name].value, fill(name, values, known))
    mean, sigma = krige(values, known)
    np.testing.assert_array_equal(made[SMOOTHED].value, mean)
    np.testing.assert_array_equal(made[SMOOTHED].sigma, sigma)
    assert made["kriging"].sigma is not None
    assert made["idw"].sigma is None


def test_a_model_gives_mean_sigma_and_one_of_its_samples():
    truth, model = case("a", seed=3), gap_model(GaussianResidual())
    values, known, _ = truth.given
    made = model_method("net", model, (Preset(steps=5), 4))(values, known, (), 11)
    filled = fill_array(values, known, truth.missing, model, FillOptions(preset=Preset(steps=5), samples=4, seed=11))
    mean, one = made["net"], made["net, one sample"]
    np.testing.assert_array_equal(mean.value, filled.mean)
    np.testing.assert_array_equal(mean.sigma, filled.sigma)
    np.testing.assert_array_equal(mean.samples, filled.samples)
    np.testing.assert_array_equal(one.value, filled.samples[0])
    assert (mean.antithetic, mean.evaluations, one.evaluations, one.share) == (True, 20, 5, 0.25)
    (single,) = model_method("net", model, (PRESETS["fast"], 1))(values, known, (), 11).values()
    assert (single.sigma, single.evaluations) == (None, 10)
    bare = model_method("net", model, (PRESETS["fast"], 2), sigma=False)(values, known, (), 11)
    assert bare["net"].sigma is bare["net"].samples is None
    assert list(bare) == ["net", "net, one sample"]


def test_reference_fills_are_those_of_the_library_and_a_model_uses_references_on_request():
    truth, model = case("a", seed=3, side=64), gap_model(GaussianResidual())
    values, known, _ = truth.given
    other = (truth.truth - 7.0,)
    methods = LstTask(rasters=Path("none"), masks="blobs", models=(), references=1).lineup().methods
    for name in REFERENCE_FILL_NAMES:
        mean, _ = fill_from_reference(name, values, known, other)
        np.testing.assert_array_equal(methods[name](values, known, other, 0)[name].value, mean)
    errors = []
    for use in (False, True):
        made = model_method("net", model, (Preset(steps=2), 2), references=use)(values, known, other, 1)
        errors.append(np.abs(made["net"].value - truth.truth)[truth.missing].mean())
    assert errors[1] < 0.2 * errors[0]  # the other date is the truth, but for a constant


# --- the whole run ---

DATES = ("20240601", "20240617", "20250520", "20241210")
FEW = {"rates": (0.22, 0.5), "size": 32, "per_raster": 1, "samples": 4, "methods": ("idw",)}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders of four dates of one grid, alike but for their mean and some detail, and of one cloud."""
    folder = tmp_path_factory.mktemp("places")
    draws = np.random.default_rng(5)
    pattern = 12 * ndimage.gaussian_filter(draws.normal(size=(80, 80)), 3)
    for kind in ("lst", "clouds"):
        (folder / kind).mkdir()
    for number, day in enumerate(DATES):
        detail = 2 * ndimage.gaussian_filter(draws.normal(size=(80, 80)), 2)
        write(folder / "lst" / f"hill_lc08_{day}.tif", (295 + 5 * number + pattern + detail).astype(np.float32))
    rows, cols = np.mgrid[:80, :80]
    write(folder / "clouds" / "round.tif", (np.hypot(rows - 40, cols - 30) < 22).astype(np.uint8))
    return folder


@pytest.fixture
def data(places):
    return {"rasters": places / "lst", "clouds": places / "clouds"}


@pytest.fixture(scope="module")
def made(places, tiny_folder, tmp_path_factory):
    """An evaluation without references."""
    out = tmp_path_factory.mktemp("made") / "out"
    data = {"rasters": places / "lst", "clouds": places / "clouds"}
    told = {"models": (str(tiny_folder),), "steps": (2,), "command": "lacunar <b>"}
    return out, evaluate("lst", output=out, **data, **FEW, **told)


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_output_is_there_and_whole(made):
    out, _ = made
    pictures = ("reliability", "distance", "evaluations", "examples_22", "examples_50")
    names = {*(f"{name}.png" for name in pictures), "scores.csv", "cases.csv", "scores.json", "report.html"}
    assert set(contents(out.parent)) == {"out", *(f"out/{name}" for name in names)}  # nothing hidden stays behind
    assert all(min(imread(out / f"{name}.png").shape[:2]) > 200 for name in pictures)


def test_the_files_tell_the_same(made):
    out, result = made
    scores, cases = rows_of(out / "scores.csv"), rows_of(out / "cases.csv")
    stored = json.loads((out / "scores.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    methods = ["idw", "kriging", "tiny, fast", "tiny, fast, one sample", "tiny, 2 steps", "tiny, 2 steps, one sample"]
    whole = [row for row in scores if row["kind"] == "all"]
    assert [row["method"] for row in whole] == methods * 2
    assert [int(row["evaluations"]) for row in whole] == [0, 0, 40, 10, 8, 2] * 2
    assert len(cases) == 4 * 2 * len(methods)
    assert [float(row["rmse"]) for row in scores] == [row["rmse"] for row in stored["scores"]]
    assert [row["method"] for row in cases] == [row["method"] for row in stored["cases"]]
    assert (stored["command"], stored["options"]["samples"]) == ("lacunar <b>", 4)
    assert {"lacunar", "torch", "numpy", "scipy", "rasterio", "python"} <= set(stored["versions"])
    assert "cores" in stored["machine"]
    squares = [float(r["rmse"]) ** 2 for r in cases if (r["method"], r["rate"]) == ("kriging", "0.5")]
    pooled = next(float(row["rmse"]) for row in whole if (row["method"], row["rate"]) == ("kriging", "0.5"))
    assert pooled == pytest.approx(math.sqrt(np.mean(squares)))
    assert result.found.lineup.shown == ["kriging", "idw", "tiny, fast", "tiny, 2 steps"]


def test_the_page_is_whole_and_self_contained(made):
    out, result = made
    page = (out / "report.html").read_text(encoding="utf-8")
    assert is_self_contained(page)
    read = Reader(page)
    assert len(read.named("img")) == 5
    assert all(attributes["alt"] for attributes in read.named("img"))
    assert "lacunar <b>" in read.texts
    text = " ".join(read.texts)
    for score in result.scores[result.scores["kind"] == "all"].itertuples():
        assert f"{score.rmse:.2f} [{score.rmse_low:.2f}, {score.rmse_high:.2f}]" in text
    assert "22 % missing: tiny, fast errs by " in text
    assert "hill_lc08_20240601" in text


def test_the_same_seed_gives_the_same_scores(made, data, tiny_folder, tmp_path):
    out, _ = made
    told = FEW | {"rates": (0.22,), "models": (str(tiny_folder),), "steps": (2,)}
    evaluate("lst", output=tmp_path / "again", **data, **told)
    for name in ("scores.csv", "cases.csv"):
        kept = [
            [row | {"seconds": ""} for row in rows_of(place / name) if row["rate"] == "0.22"]
            for place in (out, tmp_path / "again")
        ]
        assert kept[0] == kept[1]


def test_references_bring_their_fills_groups_and_baseline(data, tiny_folder):
    calls, few = [], FEW | {"rates": (0.22,), "samples": 2}
    told = {"models": (str(tiny_folder),), "references": 1, "callback": lambda *counts: calls.append(counts)}
    result = evaluate("lst", **data, **few, **told)
    overall = result.scores[result.scores["kind"] == "all"].set_index("method")
    assert {"kriging with drift", "tiny, fast", "tiny, fast, with reference"} <= set(overall.index)
    assert set(overall["baseline"]) == {"regression + kriging"}
    assert overall.loc["regression + kriging", "ratio"] == 1.0
    assert overall.loc["kriging with drift", "rmse"] < 0.6 * overall.loc["kriging", "rmse"]  # the other date's pattern
    assert set(result.scores.loc[result.scores["kind"] == "reference", "stratum"]) == set(GROUPS)
    assert set(result.cases["group"]) == set(GROUPS)
    assert calls[-1][0] == calls[-1][1] == 3 * len([name for name in overall.index if "one sample" not in name])
    assert result.found.lineup.preferred[0] == "tiny, fast, with reference"


def test_without_a_model_there_are_no_evaluations_to_draw(data, tmp_path):
    few = FEW | {"methods": CLASSICAL, "models": (), "masks": "blobs"}
    result = evaluate("lst", output=tmp_path / "out", rasters=data["rasters"], **few)
    assert result.scores.loc[result.scores["kind"] == "all", "method"].tolist() == list(CLASSICAL) * 2
    assert not (tmp_path / "out" / "evaluations.png").exists()
    assert len(Reader((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).named("img")) == 4


def test_fills_of_any_sampler_are_compared(data, tiny_folder):
    told = {"models": (str(tiny_folder),), "presets": ("instant",), "samplers": ("adams:2", "ddnm:3"), "samples": 2}
    few = FEW | {"rates": (0.22,), "most_cases": 1}
    result = evaluate("lst", **data, **few | told)
    scores = result.scores[result.scores["kind"] == "all"].set_index("method")
    assert scores["evaluations"].filter(like="tiny").to_dict() == {
        **{"tiny, instant": 1, "tiny, adams:2": 4, "tiny, adams:2, one sample": 2},
        **{"tiny, ddnm:3": 6, "tiny, ddnm:3, one sample": 3},
    }
    curves = result.found.lineup.curves
    assert curves["tiny, adams:2"] == "tiny, Adams-Bashforth 2, mean of 2"
    assert curves["tiny, ddnm:3, one sample"] == "tiny, DDNM, one sample"
    assert curves["tiny, instant"] == "tiny, the mean alone"
    assert scores.loc["tiny, instant", "sigma"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 1}, r"1 sample has no spread.*--samples 2 or more, or --no-sigma"),
        ({"presets": ("slow",)}, "unknown preset 'slow'"),
        ({"samplers": ("adams",)}, "got the sampler 'adams'; wanted a name and evaluations"),
        ({"methods": ("spline",)}, "unknown method 'spline': choose out of mean, nearest"),
        ({"rates": (0.2, 0.2)}, r"got rates \[0.2, 0.2\]; wanted one or more, each once"),
        ({"rates": ()}, "wanted one or more"),
        ({"size": 10}, "got size 10; wanted 11 or more"),
        ({"steps": (0,)}, "got steps 0; wanted 1 or more"),
        ({"most_cases": 0}, "got most cases 0; wanted 1 or more"),
        (
            {"presets": ("fast:many",)},
            "got the preset 'fast:many'; wanted a name, or a name and samples such as",
        ),
        ({"masks": "cloud"}, "real clouds want a folder of them"),
        ({"seed": -1}, "got seed -1; wanted 0 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(changes, message):
    with pytest.raises(LacunarError, match=message):
        LstTask(**({"rasters": Path("none"), "masks": "blobs"} | changes))


# --- as it is typed ---


def test_the_command(lacunar, places, tiny_folder, out):
    paths = ("--rasters", places / "lst", "--clouds", places / "clouds", "-o", out / "quality")
    few = ("--size", 32, "--per-raster", 1, "--rates", "0.3", "--samples", 2, "--methods", "mean", "--device", "cpu")
    network = ("--model", tiny_folder, "--preset", "balanced:1", "--steps", 1, "--steps", 2, "--cases", 3)
    ran = lacunar("evaluate", "lst", *paths, *few, *network)
    assert ran.code == 0
    assert "| 30 % | tiny, 2 steps |" in ran.out
    assert "| 30 % | tiny, 2 steps, one sample |" in ran.out
    assert "| 30 % | tiny, balanced |" in ran.out
    assert "| 30 % | tiny, balanced, one sample |" not in ran.out
    assert ran.out.endswith(f"report: {out / 'quality' / 'report.html'}\n")
    assert "answering cases: 15 of 15" in ran.err
    before = contents(out)
    again = lacunar("evaluate", "lst", *paths, *few, "--model", "none")
    assert (again.code, again.out) == (2, "")
    assert "scores.csv exists, wanted a new name" in again.err
    assert contents(out) == before
    over = lacunar("evaluate", "lst", *paths, *few, "--model", "none", "--overwrite")
    assert over.code == 0
    assert "tiny" not in over.out


def refused(ran, message):
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_bad_input_is_one_line_and_leaves_nothing(lacunar, places, out, tmp_path):
    def told(*arguments, rasters=places / "lst", clouds=places / "clouds"):
        where = ("--rasters", rasters, "--clouds", clouds, "-o", out / "quality", "--model", "none", "--size", 32)
        return lacunar("evaluate", "lst", *where, *arguments)

    cloudy = tmp_path / "cloudy"
    cloudy.mkdir()
    values = np.full((80, 80), 300.0, np.float32)
    values[::20] = np.nan
    write(cloudy / "hill_20240101.tif", values)
    refused(told(rasters=cloudy), "no clear scene: hill_20240101 with a tile of 32 x 32 pixels without a gap")
    refused(told(rasters=tmp_path), f"no GeoTIFF in {tmp_path}")
    refused(told(clouds=tmp_path / "none"), "no folder")
    refused(told("--rates", "0.00001"), "a missing rate of 1e-05 hides 0 of 32 x 32 pixels")
    refused(told("--rates", "much"), "got 'much'; wanted numbers by comma")
    refused(told("--masks", "fog"), "unknown masks 'fog': choose one of cloud, blobs")
    refused(told("--methods", "magic"), "unknown method 'magic'")
    write(cloudy / "hill_20240102.tif", np.full((90, 80), 300.0, np.float32))
    refused(told("--references", 1, rasters=cloudy), "wanted dates of one grid")
    alone = ("--rasters", places / "lst", "-o", out / "q")
    refused(lacunar("evaluate", "lst", *alone), "real clouds want a folder of them")
    refused(
        lacunar("evaluate", "lst", *alone, "--clouds", places / "clouds", "--samples", 1),
        "1 sample has no spread, so it gives no sigma",
    )
    assert contents(out) == {}


def test_one_sample_is_scored_where_no_sigma_is_asked(lacunar, places, tiny_folder, out):
    where = ("--rasters", places / "lst", "--clouds", places / "clouds", "-o", out / "q", "--model", tiny_folder)
    few = ("--size", 32, "--per-raster", 1, "--rates", 0.3, "--methods", "mean", "--samples", 1)
    ran = lacunar("evaluate", "lst", *where, *few, "--no-sigma")
    assert ran.code == 0
    line = next(line for line in ran.out.splitlines() if "tiny, fast" in line)
    assert "| - | - | - |" in line


def test_the_help_of_the_group(lacunar):
    ran = lacunar("evaluate", "--help")
    assert ran.code == 0
    assert "\n  lst " in ran.out
    assert lacunar("evaluate", "moon") == Ran(
        2, "", "lacunar: No such command 'moon'. (`lacunar evaluate --help` lists what there is)\n"
    )
