"""Scores as text."""

import csv
import io
import math

import numpy as np

from known_errors import SIDE, case, constant, off_by, scored
from lacunar.evaluate.methods import evaluate
from lacunar.evaluate.tables import cases_to_csv, csv_text, markdown_table, plain_values, to_csv, to_table


def test_the_table_has_a_row_for_each_score():
    cases = [case("a"), case("b", seed=1)]
    fillers = {
        "kriging": off_by(cases, constant(2.0)),
        "sure": off_by(cases, constant(-0.5), sigma=lambda _: np.ones((SIDE, SIDE))),
    }
    lines = to_table(scored(cases, fillers)).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert "RMSE / kriging [95 %]" in lines[0]
    assert "stratum" not in lines[0]
    assert lines[3].startswith(
        "| 25 % | sure | 0.50 [0.50, 0.50] | 0.25 [0.25, 0.25] | 0.50 | -0.50 | 0.5 | 0.33 | 100 % | 100 % |"
    )
    assert "| - | - |" in lines[2]


def test_strata_are_named_where_there_are_several():
    cases = [case("a", rate=0.5), case("b", rate=0.5, seed=1)]
    lines = to_table(scored(cases, {"kriging": off_by(cases, constant(2.0))}, kinds=("distance",))).splitlines()
    assert lines[0].startswith("| missing | stratum | method |")
    assert lines[2].startswith("| 50 % | up to 1 px | kriging | 2.00 [2.00, 2.00] |")
    assert lines[2].endswith("| - | - | - |")  # a part of an image has no PSNR


def test_the_csv_reads_back():
    cases = [case("a"), case("b", seed=1)]
    scores = scored(cases, {"kriging": off_by(cases, constant(2.0))})
    (row,) = csv.DictReader(io.StringIO(to_csv(scores)))
    assert float(row["rmse"]) == scores[0].rmse
    assert row["filler"] == "kriging"
    assert row["coverage_68"] == "nan"


def test_every_case_has_a_line():
    cases = [case("a"), case("b", seed=1, reference="c", days_apart=9, group="within a month")]
    fillers = {"kriging": off_by(cases, constant(2.0), sample=lambda truth: truth.values - 1.0)}
    lines = list(csv.DictReader(io.StringIO(cases_to_csv(evaluate(cases, fillers)))))
    assert [(line["scene"], line["filler"], float(line["rmse"])) for line in lines] == [
        ("a", "kriging", 2.0),
        ("a", "kriging, one sample", 1.0),
        ("b", "kriging", 2.0),
        ("b", "kriging, one sample", 1.0),
    ]
    assert (lines[3]["reference"], lines[3]["days_apart"], lines[3]["group"]) == ("c", "9", "within a month")
    assert float(lines[1]["bias"]) == -1.0
    assert math.isnan(float(lines[0]["sigma"]))
    assert cases_to_csv([]) == "\n"


def test_a_table_of_anything():
    assert markdown_table(("a", "b"), [(1, "x"), (2, "y")]).splitlines()[2:] == ["| 1 | x |", "| 2 | y |"]


def test_json_knows_no_nan():
    record = {"a": math.nan, "b": [1.0, {"c": -math.inf}], "d": "nan", "e": (2, None)}
    assert plain_values(record) == {"a": None, "b": [1.0, {"c": None}], "d": "nan", "e": [2, None]}


def test_csv_has_a_line_of_names_and_quotes_what_needs_it():
    assert csv_text(["a", "b"], [{"a": "x, y", "b": 1}]) == 'a,b\n"x, y",1\n'
