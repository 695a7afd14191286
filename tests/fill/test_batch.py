"""Several inputs at the command line: a folder, a table, a summary; what is for one scene is refused for several."""

import json
import pickle
import re

import numpy as np
import pytest

from commands import bands_of, contents, write
from lacunar.cli import BAD_INPUT
from lacunar.cli.scenes import SOME_FAILED
from lacunar.fill import batch
from lacunar.fill.batch import SUMMARY
from lacunar.fill.inputs import FillInputs
from lacunar.fill.options import FillOptions
from lacunar.fill.outputs import OutputFiles


@pytest.fixture
def rasters(tmp_path):
    """Two rasters without a gap, which cost nothing, and a file that is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, value in (("a", 1.0), ("b", 2.0)):
        write(folder / f"{name}.tif", np.full((64, 64), value, np.float32))
    (folder / "c.tif").write_text("no raster")
    return folder


def test_one_that_fails_does_not_stop_the_rest(rasters, tmp_path, lacunar, tiny_folder):
    out = tmp_path / "new"
    ran = lacunar("fill", rasters / "*.tif", "-o", out, "--model", tiny_folder)
    assert ran.code == SOME_FAILED
    assert sorted(contents(out)) == sorted([*(f"{n}_filled.{e}" for n in "ab" for e in ("json", "tif")), SUMMARY])
    for name, value in (("a", 1.0), ("b", 2.0)):
        np.testing.assert_array_equal(bands_of(out / f"{name}_filled.tif")[0], value)
    lines = ran.out.splitlines()
    assert lines[0] == "| scene | seconds | pixels filled | status |"
    assert re.fullmatch(r"\| a\.tif \| \d+\.\d \| 0 \| filled \|", lines[2])
    assert re.fullmatch(r"\| c\.tif \| \d+\.\d \| 0 \| failed: .*c\.tif: not a raster that can be opened.*\|", lines[4])
    assert re.fullmatch(r"2 filled, 1 failed in \d+ s", lines[6])
    assert lines[7] == f"summary: {out / SUMMARY}"
    assert ran.err.splitlines()[-1] == "filling scenes: 3.00 of 3"


def test_the_summary_says_what_the_table_does_and_resume_keeps_what_is_whole(rasters, out, lacunar, tiny_folder):
    command = ("fill", rasters / "a.tif", rasters / "b.tif", "-o", out, "--model", tiny_folder, "--json", "--resume")
    ran = lacunar(*command)
    assert ran.code == 0
    summary = json.loads(ran.out)
    assert summary == json.loads((out / SUMMARY).read_text())
    assert summary["scenes"] == {"filled": 2, "kept": 0, "failed": 0}
    assert [entry["input"] for entry in summary["outcomes"]] == [str(rasters / f"{name}.tif") for name in "ab"]
    before = contents(out)
    summary = json.loads(lacunar(*command).out)
    assert summary["scenes"] == {"filled": 0, "kept": 2, "failed": 0}
    after = contents(out)
    assert {name for name in before if before[name] != after[name]} == {SUMMARY}
    assert before.keys() == after.keys()


def test_one_input_may_go_into_a_folder_that_exists(rasters, out, lacunar, tiny_folder):
    assert lacunar("fill", rasters / "a.tif", "-o", out, "--model", tiny_folder).code == 0
    assert sorted(contents(out)) == ["a_filled.json", "a_filled.tif"]


@pytest.mark.parametrize(
    ("output", "more", "message"),
    [
        ("all.tif", (), r"-o .*all\.tif with 2 scenes: wanted a folder, which gets NAME_\*\.tif for each"),
        ("file", (), r"-o .*file with 2 scenes: wanted a folder"),
        ("new", ("--gap-mask", "mask.tif"), "one gap mask with 2 scenes: it is for one scene, on its grid; leave it"),
        ("new", ("--figure", "a.png"), "2 scenes with one figure, truth or folder of bands: these are for one scene"),
        ("new", ("--truth", "a.tif"), "2 scenes with one figure, truth or folder of bands"),
        ("none/new", (), r"-o .*none/new cannot be made \(No such file or directory\): wanted a folder inside"),
    ],
)
def test_what_is_for_one_scene_is_refused(rasters, out, lacunar, tiny_folder, output, more, message):
    (out / "file").write_text("")
    before = contents(out)
    ran = lacunar("fill", rasters / "a.tif", rasters / "b.tif", "-o", out / output, "--model", tiny_folder, *more)
    assert (ran.code, ran.out) == (BAD_INPUT, "")
    assert re.search(message, ran.err), ran.err
    assert ran.err.count("\n") == 1
    assert contents(out) == before


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def test_an_error_on_a_worker_arrives_whatever_it_is(monkeypatch, tmp_path):
    def fails(*_):
        raise Unpicklable("this", "that")

    monkeypatch.setattr(batch, "check_versions", fails)
    job = batch.Job(
        inputs=FillInputs(path=tmp_path / "a.tif", kind="raster"), files=OutputFiles(raster=tmp_path / "b.tif")
    )
    with pytest.raises(batch.WorkerError, match="Unpicklable: this and that") as caught:
        batch._fill_there(job, FillOptions(), "", {})
    assert str(pickle.loads(pickle.dumps(caught.value))) == "Unpicklable: this and that"
