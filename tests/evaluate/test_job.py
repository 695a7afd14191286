"""The mechanism: what methods see, seeds, progress, public results, and options that cannot be."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import lacunar as lc
from known_errors import SIDE, case, found, off_by
from lacunar.errors import LacunarError
from lacunar.evaluate.job import evaluate, run
from lacunar.evaluate.lst import LstTask
from lacunar.evaluate.task import Estimate, Lineup


def lst_task(**changes):
    return LstTask(**({"rasters": Path("none"), "masks": "blobs", "models": (), "rates": (0.25,)} | changes))


def test_a_method_never_sees_the_truth_and_gets_a_seed_of_its_own():
    cases, seen = [case(name, seed=i) for i, name in enumerate("abc")], []

    def spy(values, known, references, seed):
        seen.append((values.copy(), known.copy(), seed))
        return {"spy": Estimate(np.full(values.shape, 300.0))}

    run(lst_task(seed=7), cases, Lineup({"spy": spy}, "spy"))
    for truth, (values, known, _) in zip(cases, seen, strict=True):
        assert np.isnan(values[truth.missing]).all()
        np.testing.assert_array_equal(values[known], truth.truth[~truth.missing])
        np.testing.assert_array_equal(known, ~truth.missing)
    assert len({seed for *_, seed in seen}) == 3
    run(lst_task(seed=7), cases[2:], Lineup({"spy": spy}, "spy"))
    assert seen[3][2] == seen[2][2]  # the same noise in a smaller set
    run(lst_task(seed=8), cases[2:], Lineup({"spy": spy}, "spy"))
    assert seen[4][2] != seen[2][2]


def test_a_method_gets_the_references_of_its_case():
    other, seen = np.full((SIDE, SIDE), 290.0), []

    def spy(values, known, references, seed):
        seen.append(references)
        return {"spy": Estimate(np.full(values.shape, 300.0))}

    cases = [case("a"), case("b", seed=1, references=(other,), reference="c")]
    run(lst_task(), cases, Lineup({"spy": spy}, "spy"))
    assert seen[0] == ()
    assert seen[1][0] is other


def test_progress_counts_every_answer_and_time_is_shared_out():
    calls = []

    def several(values, known, references, seed):
        field = np.full(values.shape, 300.0)
        return {"mean": Estimate(field, evaluations=8), "one": Estimate(field, share=0.25)}

    def none(values, known, references, seed):
        return {}

    cases, lineup = [case("a"), case("b", seed=1)], Lineup({"several": several, "none": none}, "mean")
    made = run(lst_task(), cases, lineup, callback=lambda *counts: calls.append(counts))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    rows = made.tables["cases"].set_index(["scene", "method"])
    assert rows.loc[("a", "one"), "seconds"] == pytest.approx(rows.loc[("a", "mean"), "seconds"] / 4)
    assert rows["evaluations"].tolist() == [8, 0, 8, 0]


def test_bad_input_is_refused():
    with pytest.raises(LacunarError, match="got 0 cases and 1 methods"):
        run(lst_task(), [], Lineup({"a": None}, "a"))
    with pytest.raises(LacunarError, match="got 1 cases and 0 methods"):
        run(lst_task(), [case("a")], Lineup({}, "a"))
    with pytest.raises(LacunarError, match="NaN or infinite"):
        found([case("a")], {"kriging": off_by(np.nan)})


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("moon", {}, "unknown task 'moon': choose one of lst, archive, water, pictures, restoration"),
        ("lst", {"masks": "blobs"}, "evaluate lst wants rasters=FOLDER"),
        (
            "water",
            {"scenes": "x", "depth": 3},
            "unknown option 'depth' of evaluate water: choose out of against",
        ),
        ("pictures", {"faces": "none"}, "no picture in none"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(task, options, message):
    with pytest.raises(LacunarError, match=message):
        evaluate(task, **options)


def test_a_result_is_a_table_that_can_be_saved_later(tmp_path):
    from commands import contents, write

    values = 300 + np.random.default_rng(0).normal(size=(80, 80))
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "hill_20240601.tif", values.astype(np.float32))
    few = {"models": [], "methods": "mean", "masks": "box", "rates": [0.2], "size": 32, "per_raster": 1}
    result = lc.evaluate("lst", rasters=str(tmp_path / "in"), **few)
    scores = result.scores[result.scores["kind"] == "all"]
    assert scores["method"].tolist() == ["mean", "kriging"]
    assert result.cases["rmse"].tolist() == pytest.approx(scores["rmse"].tolist())
    assert result.markdown().splitlines()[2].startswith("| 20 % | mean | ")
    result.save(tmp_path / "out")
    written = set(contents(tmp_path / "out"))
    assert {"scores.csv", "cases.csv", "scores.json", "report.html", "examples_20.png"} <= written
    stored = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert stored["scores"][0]["rmse_low"] is None  # one date has no interval
    assert math.isnan(scores["rmse_low"].iloc[0])
    with pytest.raises(LacunarError, match=r"scores.csv exists, wanted a new name"):
        result.save(tmp_path / "out")
    result.save(tmp_path / "out", overwrite=True)
