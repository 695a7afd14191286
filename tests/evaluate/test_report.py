"""Scores as text, and the page: escaped, well-formed, and in need of nothing else."""

import base64
import math

import pandas as pd
import pytest

from html_reader import Reader, is_self_contained
from lacunar.evaluate.report import by_method, markdown_table, render, sentences, share, text_of

EVIL = "<script>alert(\"x\")</script> & 'more'"
SCORES = pd.DataFrame(
    {
        "rate": [0.15, 0.15, 0.5],
        "method": ["kriging", "net", "net"],
        "rmse": [2.0, 1.0, math.nan],
        "rmse_low": [1.5, math.nan, math.nan],
        "rmse_high": [2.25, math.nan, math.nan],
        "covered": [0.683, math.nan, 1.0],
    }
)
COLUMNS = {"rate": ("missing", share), "method": ("method", ""), "rmse": ("RMSE", ".2f"), "covered": ("in", ".0%")}


@pytest.fixture
def page():
    table = pd.DataFrame({"a": ["x", "x", EVIL], "method": ["net", "kriging", "net"], "c": ["1", "2", "3"]})
    return render(
        EVIL,
        {"pic": b"\x89PNG..."},
        leads=[EVIL],
        main=table,
        strong=["net"],
        note=EVIL,
        unit="date",
        sections={EVIL: [("pic", EVIL)]},
        tables={EVIL: table},
        command=EVIL,
        made=pd.DataFrame({"what": ["k"], "value": [EVIL]}),
    )


def test_numbers_have_their_intervals_and_dashes():
    text = text_of(SCORES, COLUMNS)
    assert text["rate"].tolist() == ["15 %", "15 %", "50 %"]
    assert text["rmse"].tolist() == ["2.00 [1.50, 2.25]", "1.00", "-"]
    assert text["covered"].tolist() == ["68 %", "-", "100 %"]


def test_one_column_for_each_method():
    table = by_method(SCORES, "covered", ".0%", index={"rate": ("missing", share)}, methods=["net", "kriging", "no"])
    assert table.columns.tolist() == ["missing", "net", "kriging"]
    assert table.to_numpy().tolist() == [["15 %", "-", "68 %"], ["50 %", "100 %", "-"]]


def test_a_sentence_for_each_group():
    text = text_of(SCORES, COLUMNS)
    template = "{ours.rate}: {ours.method} {ours.rmse}, {base.rmse}"
    said = sentences(text, template, preferred=["other", "net"], baseline="kriging")
    assert said == ["15 %: net 1.00, 2.00 [1.50, 2.25]", "50 %: net -, -"]


def test_every_column_before_the_method_tells_the_group():
    text = text_of(SCORES.assign(stratum="1"), {"stratum": ("dates", "")} | dict(COLUMNS))
    said = sentences(text, "{ours.stratum}, {ours.rate}", preferred=["net"], baseline="kriging")
    assert said == ["1, 15 %", "1, 50 %"]


def test_a_markdown_table():
    assert markdown_table(("a", "b"), [(1, "x"), (2, "y")]).splitlines()[2:] == ["| 1 | x |", "| 2 | y |"]


def test_every_text_is_escaped_and_reads_back(page):
    read = Reader(page)
    assert not read.named("script")
    assert "<script" not in page
    # title, h1, link, lead, note, section, figcaption, summary, a cell in both tables, command, made
    assert sum(EVIL in text for text in read.texts) == 12
    assert EVIL in read.named("img")[0]["alt"]


def test_the_page_needs_nothing_else(page):
    assert is_self_contained(page)
    assert not is_self_contained(page.replace("#s1", "https://example.org"))
    (image,) = Reader(page).named("img")
    assert base64.b64decode(image["src"].partition(",")[2]) == b"\x89PNG..."


def test_links_lead_to_sections(page):
    read = Reader(page)
    assert [link["href"] for link in read.named("a")] == ["#" + title["id"] for title in read.named("h2")]


def test_rows_are_set_off_and_grouped(page):
    rows = [row.get("class") for row in Reader(page).named("tr")]
    assert rows[:4] == [None, "strong", None, "strong first"]
    assert [cell.get("class") for cell in Reader(page).named("td")[:3]] == ["text", "text", None]
