"""Evaluation of fills beside an archive, on small dates of one grid made here."""

import numpy as np
import pytest
from scipy import ndimage

from commands import write
from html_reader import Reader, is_self_contained
from lacunar.errors import LacunarError
from lacunar.evaluate.job import evaluate
from lacunar.evaluate.lst import FIELD
from lacunar.evaluate.lst_archive import CYCLE, DRIFT, EM, LAPLACE, OTHERS, REGRESSION, ArchiveTask, cloud_over

DAYS = ("20240601", "20240620", "20250520", "20241210", "20230701", "20230901")
SIDE = 64


@pytest.fixture(scope="module")
def dates(tmp_path_factory):
    """Six dates of one land, and a folder of clouds."""
    folder = tmp_path_factory.mktemp("dates")
    draws = np.random.default_rng(5)
    land = 25 * ndimage.gaussian_filter(draws.normal(size=(70, 80)), 3)
    for kind in ("lst", "clouds"):
        (folder / kind).mkdir()
    for number, day in enumerate(DAYS):
        own = 2 * ndimage.gaussian_filter(draws.normal(size=land.shape), 2)
        values = (295 + 3 * number + land + own).astype(np.float32)
        values[:2] = np.nan if number == 0 else values[:2]  # not measured
        write(folder / "lst" / f"hill_lc08_{day}.tif", values)
    cloud = ndimage.gaussian_filter(draws.normal(size=(90, 90)), 4) > 0.02
    write(folder / "clouds" / "round.tif", cloud.astype(np.uint8))
    return {"rasters": folder / "lst", "clouds": folder / "clouds"}


def test_cases_are_dates_beside_others_the_near_ones_last(dates):
    cases = ArchiveTask(**dates, counts=(0, 2, 5), rates=(0.3,), size=SIDE).cases()
    assert len(cases) == 3 * len(DAYS)
    by_name = {case.name: case for case in cases}
    case = by_name["hill_lc08_20240601@0.3~5"]
    assert len(case.references) == 5
    assert case.days[-1] == 172  # 20 June 2024, within 31 days of the target
    assert case.missing.sum() == pytest.approx(0.3 * SIDE**2, rel=0.1)
    assert not (case.missing & case.known).any()
    assert np.isfinite(case.truth).all()
    values, known, references, _ = case.given
    assert np.isnan(values[case.missing]).all()
    np.testing.assert_array_equal(known, case.known)
    assert all(0.2 < np.isnan(one).mean() < 0.3 for one in references)
    few = by_name["hill_lc08_20240601@0.3~2"]
    np.testing.assert_array_equal(few.references[1], references[1])
    np.testing.assert_array_equal(few.missing, case.missing)


def test_dates_help_and_the_report_tells_it(dates, tmp_path):
    result = evaluate(
        "archive",
        output=tmp_path / "out",
        **dates,
        counts=(0, 5),
        rates=(0.3, 0.5),
        size=SIDE,
        every=2,
        samples=2,
        methods=(*OTHERS, DRIFT),
    )
    scores = result.scores[(result.scores["kind"] == "references") & (result.scores["rate"] == 0.3)]
    scores = scores.set_index(["stratum", "method"])
    assert set(scores.loc[" 0"].index) == {FIELD, f"{FIELD}, one sample", LAPLACE}
    assert {EM, REGRESSION, CYCLE, DRIFT} < set(scores.loc[" 5"].index)
    error = scores["rmse"]
    assert error[" 5", FIELD] < 0.6 * error[" 0", FIELD]
    assert error[" 5", FIELD] < error[" 5", REGRESSION]
    assert error[" 5", DRIFT] < 0.8 * error[" 0", FIELD]
    assert error[" 5", LAPLACE] == error[" 0", LAPLACE]
    assert scores.loc[(" 5", FIELD), "rmse_low"] <= error[" 5", FIELD] <= scores.loc[(" 5", FIELD), "rmse_high"]
    assert set(result.cases["references"]) == {0, 5}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert is_self_contained(page)
    assert len(Reader(page).named("img")) == 4
    assert "| references | missing | method |" in result.markdown()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"counts": (0, 6)}, "has 6 dates of 1 grids: wanted one grid and more than 6 dates"),
        ({"counts": (1,), "size": 75}, "a raster of 70 x 80 pixels: wanted 75 or more"),
        ({"counts": (1, 1)}, "got counts"),
        ({"methods": ("spline",)}, "unknown method 'spline'"),
    ],
)
def test_what_cannot_be_compared_is_refused(dates, options, message):
    with pytest.raises(LacunarError, match=message):
        evaluate("archive", **dates, **({"size": SIDE} | options))


def test_a_cloud_has_the_rate():
    cloud = np.zeros((40, 40), dtype=bool)
    cloud[10:30, 5:35] = True
    for rate in (0.22, 0.5):
        assert cloud_over((64, 64), rate, [cloud], np.random.default_rng(1)).mean() == pytest.approx(rate, abs=1e-3)
