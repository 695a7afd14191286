"""The whole evaluation on small rasters made here: what it writes, what it says, what it refuses."""

import csv
import json
import math

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import ndimage

from commands import Ran, contents, write
from html_reader import Reader, is_self_contained
from lacunar.errors import LacunarError
from lacunar.evaluate.cases import GROUPS
from lacunar.evaluate.lst_job import QualityOptions, evaluate_lst
from lacunar.evaluate.lst_report import PAPER
from lacunar.evaluate.methods import CLASSICAL
from lacunar.evaluate.scores import Score

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


@pytest.fixture(scope="module")
def made(places, tiny_folder, tmp_path_factory):
    """An evaluation without references."""
    out = tmp_path_factory.mktemp("made") / "out"
    options = QualityOptions(models=(str(tiny_folder),), presets=("fast",), steps=(2,), command="lacunar <b>", **FEW)
    return out, evaluate_lst(places / "lst", places / "clouds", out, options=options)


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_output_is_there_and_whole(made):
    out, _ = made
    pictures = ("reliability", "distance", "evaluations", "examples_22", "examples_50")
    names = {*(f"{name}.png" for name in pictures), "scores.csv", "cases.csv", "scores.json", "report.html"}
    assert set(contents(out)) == names
    assert set(contents(out.parent)) == {"out", *(f"out/{name}" for name in names)}  # nothing hidden stays behind
    for name in pictures:
        assert min(imread(out / f"{name}.png").shape[:2]) > 200


def test_the_files_tell_the_same(made):
    out, record = made
    scores, cases = rows_of(out / "scores.csv"), rows_of(out / "cases.csv")
    stored = json.loads((out / "scores.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    fillers = ["idw", "kriging", "tiny, fast", "tiny, fast, one sample", "tiny, 2 steps", "tiny, 2 steps, one sample"]
    assert [row["filler"] for row in scores if row["kind"] == "all"] == fillers * 2
    assert list(scores[0]) == list(Score.__dataclass_fields__)
    assert len(cases) == 4 * 2 * len(fillers)
    assert [float(row["rmse"]) for row in scores] == [row["rmse"] for row in stored["scores"]]
    assert [row["filler"] for row in cases] == [row["filler"] for row in stored["cases"]]
    assert stored["command"] == "lacunar <b>"
    assert {"lacunar", "torch", "numpy", "scipy", "rasterio", "python"} <= set(stored["versions"])
    assert "cores" in stored["machine"]
    assert stored["options"]["samples"] == 4
    squares = [float(r["rmse"]) ** 2 for r in cases if (r["filler"], r["rate"]) == ("kriging", "0.5")]
    pooled = next(s for s in record["findings"].overall if (s.filler, s.rate) == ("kriging", 0.5))
    assert pooled.rmse == pytest.approx(math.sqrt(sum(squares) / len(squares)))
    assert {row["kind"] for row in scores} == {"all", "distance", "gap size", "scene", "place"}


def test_evaluations_are_counted_for_all_samples_and_for_one(made):
    _, record = made
    counted = {score.filler: score.evaluations for score in record["findings"].overall}
    assert counted == {
        **{"idw": 0, "kriging": 0, "tiny, fast": 40, "tiny, fast, one sample": 10},
        **{"tiny, 2 steps": 8, "tiny, 2 steps, one sample": 2},
    }


def test_figures_and_strata_leave_single_samples_out(made):
    _, record = made
    assert record["findings"].shown == ["kriging", "idw", "tiny, fast", "tiny, 2 steps"]


def test_the_page_is_whole_self_contained_and_says_what_is_not_comparable(made):
    out, record = made
    page = (out / "report.html").read_text(encoding="utf-8")
    assert is_self_contained(page)
    read = Reader(page)
    assert len(read.named("img")) == 5
    assert all(attributes["alt"] for attributes in read.named("img"))
    assert "lacunar <b>" in read.texts
    text = " ".join(read.texts)
    for score in record["findings"].overall:
        assert f"{score.rmse:.2f} [{score.rmse_low:.2f}, {score.rmse_high:.2f}]" in text
    assert f"22 % missing: tiny, fast errs by {record['findings'].score('tiny, fast', 0.22).rmse:.2f}" in text
    assert text.count("NOT comparable") >= 2
    for rate in (0.22, 0.5):
        assert f"{PAPER[rate][1]:.2f}" in text
    assert f"{PAPER[0.15][1]:.2f}" not in text  # of a rate that was not asked for
    assert "hill_lc08_20240601" in text


def test_the_same_seed_gives_the_same_scores(made, places, tiny_folder, tmp_path):
    out, _ = made
    options = QualityOptions(models=(str(tiny_folder),), steps=(2,), **(FEW | {"rates": (0.22,)}))
    evaluate_lst(places / "lst", places / "clouds", tmp_path / "again", options=options)
    for name in ("scores.csv", "cases.csv"):
        before = [row for row in rows_of(out / name) if row["rate"] == "0.22"]
        assert rows_of(tmp_path / "again" / name) == before


def test_references_bring_their_fills_groups_and_baseline(places, tiny_folder, tmp_path):
    calls, out = [], tmp_path / "out"
    options = QualityOptions(models=(str(tiny_folder),), references=1, **(FEW | {"rates": (0.22,), "samples": 2}))
    counted = lambda *counts: calls.append(counts)  # noqa: E731
    record = evaluate_lst(places / "lst", places / "clouds", out, options=options, callback=counted)
    overall = {score.filler: score for score in record["findings"].overall}
    assert {"regression + kriging", "kriging with drift", "tiny, fast", "tiny, fast, with reference"} <= set(overall)
    assert {score.baseline for score in overall.values()} == {"regression + kriging"}
    assert overall["regression + kriging"].ratio == 1.0
    assert overall["kriging with drift"].rmse < 0.6 * overall["kriging"].rmse  # the pattern is that of the other date
    groups = {score.stratum for score in record["findings"].scores if score.kind == "reference"}
    assert groups == set(GROUPS)
    assert {row["group"] for row in record["cases"]} == set(GROUPS)
    assert calls[-1][0] == calls[-1][1] == 3 * len([name for name in overall if "one sample" not in name])
    assert "tiny, fast, with reference errs by" in (out / "report.html").read_text(encoding="utf-8")


def test_without_a_model_there_are_no_evaluations_to_draw(places, tmp_path):
    options = QualityOptions(models=(), masks="blobs", **(FEW | {"methods": CLASSICAL, "rates": (0.2,)}))
    record = evaluate_lst(places / "lst", None, tmp_path / "out", options=options)
    assert [score.filler for score in record["findings"].overall] == list(CLASSICAL)
    assert not (tmp_path / "out" / "evaluations.png").exists()
    assert len(Reader((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).named("img")) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 1}, r"1 sample has no spread.*--samples 2 or more, or --no-sigma"),
        ({"presets": ("slow",)}, "unknown preset 'slow'"),
        ({"methods": ("spline",)}, "unknown method 'spline': choose out of mean, nearest"),
        ({"rates": (0.2, 0.2)}, r"missing rates \[0.2, 0.2\]; wanted one or more, each once"),
        ({"rates": ()}, "wanted one or more"),
        ({"size": 10}, "got size 10; wanted 11 or more"),
        ({"steps": (0,)}, "got 0 steps; wanted 1 or more"),
        ({"most_cases": 0}, "got 0 cases at most"),
        (
            {"presets": ("fast:many",)},
            "got the preset 'fast:many'; wanted a name, or a name and samples such as paper:1",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(changes, message):
    with pytest.raises(LacunarError, match=message):
        QualityOptions(**changes)


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
    assert "filling cases: 15 of 15" in ran.err
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
    def evaluate(*arguments, rasters=places / "lst", clouds=places / "clouds"):
        where = ("--rasters", rasters, "--clouds", clouds, "-o", out / "quality", "--model", "none", "--size", 32)
        return lacunar("evaluate", "lst", *where, *arguments)

    cloudy = tmp_path / "cloudy"
    cloudy.mkdir()
    values = np.full((80, 80), 300.0, np.float32)
    values[::20] = np.nan
    write(cloudy / "hill_20240101.tif", values)
    refused(evaluate(rasters=cloudy), "no clear scene: hill_20240101 with a tile of 32 x 32 pixels without a gap")
    refused(evaluate(rasters=tmp_path), f"no GeoTIFF in {tmp_path}")
    refused(evaluate(clouds=tmp_path / "none"), "no folder")
    refused(evaluate("--rates", "0.00001"), "a missing rate of 1e-05 hides 0 of 32 x 32 pixels")
    refused(evaluate("--rates", "much"), "--rates has 'much'; wanted shares by comma")
    refused(evaluate("--masks", "fog"), "unknown masks 'fog': choose one of cloud, blobs")
    refused(evaluate("--methods", "magic"), "unknown method 'magic'")
    write(cloudy / "hill_20240102.tif", np.full((90, 80), 300.0, np.float32))
    refused(evaluate("--references", 1, rasters=cloudy), "wanted dates of one grid")
    refused(
        lacunar("evaluate", "lst", "--rasters", places / "lst", "-o", out / "q"), "real clouds want a folder of them"
    )
    both = ("--rasters", places / "lst", "--clouds", places / "clouds", "-o", out / "q", "--samples", 1)
    refused(lacunar("evaluate", "lst", *both), "1 sample has no spread, so it gives no sigma")
    assert contents(out) == {}


def test_one_sample_is_scored_where_no_sigma_is_asked(lacunar, places, tiny_folder, out):
    where = ("--rasters", places / "lst", "--clouds", places / "clouds", "-o", out / "q", "--model", tiny_folder)
    few = ("--size", 32, "--per-raster", 1, "--rates", 0.3, "--methods", "mean", "--samples", 1)
    ran = lacunar("evaluate", "lst", *where, *few, "--no-sigma")
    assert ran.code == 0
    line = next(line for line in ran.out.splitlines() if "tiny, fast" in line)
    assert "| - | - |" in line


def test_the_help_of_the_group(lacunar):
    ran = lacunar("evaluate", "--help")
    assert ran.code == 0
    assert "\n  lst " in ran.out
    assert lacunar("evaluate", "moon") == Ran(
        2, "", "lacunar: No such command 'moon'. (`lacunar evaluate --help` lists what there is)\n"
    )
