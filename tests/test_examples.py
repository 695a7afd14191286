"""Every script of examples/ runs as it stands, offline, and is short."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))
SAYS = {
    "fill_scene": "of the scene was missing; the fill errs by",
    "fill_with_another_date": "with the other date: RMSE over the gap",
    "inpaint_picture": "two answers differ by",
    "map_lakes": "of the scene is water; lakes of one hectare or more:",
}


def test_there_are_four():
    assert {path.stem for path in EXAMPLES} == set(SAYS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path, monkeypatch, capsys):
    assert len(path.read_text().splitlines()) <= 30
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert SAYS[path.stem] in capsys.readouterr().out
