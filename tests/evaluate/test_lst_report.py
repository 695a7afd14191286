"""What the report says, from scores whose errors are known."""

import math

import numpy as np
import pytest

from html_reader import Reader, is_self_contained
from known_errors import SIDE, case, constant, off_by
from lacunar.evaluate.lst_report import Findings, draw_figures, write_report
from lacunar.evaluate.methods import evaluate
from lacunar.evaluate.scores import KINDS, pool, reliability

NET = "net <i>, fast"


@pytest.fixture
def findings():
    """Kriging errs by 2 K and claims 1, the network errs by 1 K and claims 2."""
    cases = [case(f"hill_{day}", rate=rate, seed=day) for day in (1, 2, 3) for rate in (0.22, 0.5)]
    claims = {"kriging": (2.0, 1.0), NET: (-1.0, 2.0)}
    fillers = {
        name: off_by(
            cases, constant(error), sigma=lambda _, claim=claim: np.full((SIDE, SIDE), claim), evaluations=constant(80)
        )
        for name, (error, claim) in claims.items()
    }
    rows = evaluate(cases, fillers)
    return Findings(
        scores=pool(rows, kinds=KINDS),
        reliability=reliability(rows),
        cases=cases,
        networks={NET: "net, DDIM, mean of 8"},
        chosen=("kriging", "idw"),
        headline=NET,
        baseline="kriging",
        data={"rasters": "hill & dale"},
        made={"machine": "an abacus"},
        command="lacunar evaluate lst --rasters '<here>'",
    )


def cells_of(page):
    """Rows of every table as lists of text."""
    rows = page.split("<tr")[1:]
    return [[part.split("</t")[0].split(">", 1)[1] for part in row.split("<t")[1:]] for row in rows]


def test_the_summary_and_the_tables_say_what_the_scores_say(findings):
    page = write_report(findings, {"reliability": b"a", "distance": b"b", "evaluations": b"c", "examples_22": b"d"})
    assert is_self_contained(page)
    read = Reader(page)
    assert len(read.named("img")) == 4
    lead = next(text for text in read.texts if text.startswith("22 % missing"))
    assert lead == (
        f"22 % missing: {NET} errs by 1.00 [1.00, 1.00] K (RMSE over the gap), kriging by 2.00 [2.00, 2.00] K: "
        "0.50 [0.50, 0.50] of it. Its 68 % intervals hold 100 % of the truths, its 95 % intervals 100 %."
    )
    rows = cells_of(page)
    assert any(row[:4] == ["50 %", "kriging", "2.00 [2.00, 2.00]", "1.00 [1.00, 1.00]"] for row in rows)
    honest = next(row for row in rows if row[:3] == ["50 %", "kriging", "0 % [0 %, 0 %]"])
    assert honest[4:6] == ["2.00", "1.00"]  # is and claims
    assert any(row[:5] == ["50 %", "1 to 2 px", "3", str(3 * 32), "2.00 [2.00, 2.00]"] for row in rows)
    published = [row for row in rows if "NOT comparable" in row[1]]
    assert [row[3:5] for row in published] == [["39.94", "0.9763"], ["35.91", "0.9478"]]
    assert ["rasters", "hill &amp; dale"] in rows
    assert "lacunar evaluate lst --rasters '<here>'" in read.texts


def test_figures_show_the_chosen_and_the_networks(findings):
    figures = draw_figures(findings)
    assert set(figures) == {"reliability", "distance", "evaluations"}
    for name in ("reliability", "distance"):
        (legend,) = figures[name].legends
        assert [text.get_text() for text in legend.get_texts()] == ["kriging", NET]
    distances = [tick.get_text() for tick in figures["distance"].axes[0].get_xticklabels()]
    assert distances == ["up to 1", "1 to 2", "2 to 4", "4 to 8", "8 to 16"]  # no pixel lies further in
    levels = [line for line in figures["evaluations"].axes[0].get_lines() if line.get_label() == "kriging"]
    assert levels[0].get_ydata() == pytest.approx([2.0, 2.0])


def test_bars_are_paired_intervals(findings):
    """They scale the ratio, so that a hard date widens them only where it changes who is better."""
    (bars,) = draw_figures(findings)["evaluations"].axes[0].containers
    (segment,) = bars.lines[2][0].get_segments()
    assert segment[:, 1] == pytest.approx([1.0, 1.0])
    assert not math.isnan(findings.score(NET, 0.22).ratio_low)


def test_no_network_no_evaluations(findings):
    plain = Findings(**({name: getattr(findings, name) for name in Findings.__dataclass_fields__} | {"networks": {}}))
    figures = draw_figures(plain)
    assert set(figures) == {"reliability", "distance"}
    assert plain.shown == ["kriging"]
    assert "Quality against" not in write_report(plain, dict.fromkeys(figures, b""))
