"""Outputs take their names together, or nothing has happened."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from commands import contents
from lacunar.errors import LacunarError, RasterError
from lacunar.geo.staging import Staging, write_text


def test_names_are_given_at_the_end_and_only_then(tmp_path):
    (tmp_path / "other").mkdir()
    first, second = tmp_path / "a.tif", tmp_path / "other" / "a.tif"
    with Staging(overwrite=False) as staging:
        staged = [staging.stage(path) for path in (first, second)]
        for path in staged:
            path.write_text(str(path))
        assert not first.exists()
        assert not second.exists()
        assert all(path.parent.name.startswith(".a.tif.") for path in staged)
        assert all(path.parent.name.endswith(".partial") for path in staged)
    assert [path.read_text() for path in (first, second)] == [str(path) for path in staged]
    assert list(contents(tmp_path)) == ["a.tif", "other", "other/a.tif"]


def stage_all(*targets, overwrite=False, inputs=(), then=lambda: None):
    """Stage and write each target; what comes of ``then`` ends the block."""
    with Staging(overwrite=overwrite, inputs=inputs) as staging:
        for target in targets:
            staging.stage(target, make_folder=True).write_text("new")
        then()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), LacunarError("no"), OSError(errno.ENOSPC, "full")])
def test_an_exception_leaves_every_folder_as_it_was(tmp_path, error):
    def fail():
        raise error

    (tmp_path / "a.tif").write_text("old")
    before = contents(tmp_path)
    names = [tmp_path / name for name in ("a.tif", "a.json", "bands/lst.tif")]
    with pytest.raises(type(error)):
        stage_all(*names, overwrite=True, then=fail)
    assert contents(tmp_path) == before


def test_a_folder_is_made_at_the_end_and_one_that_is_there_keeps_its_files(tmp_path):
    for content in ("first", "second"):
        with Staging(overwrite=True) as staging:
            staged = staging.stage(tmp_path / "bands" / "lst.tif", make_folder=True)
            staged.write_text(content)
            assert (tmp_path / "bands").exists() == (content == "second")
        (tmp_path / "bands" / "mine.txt").write_text("mine")
        assert (tmp_path / "bands" / "lst.tif").read_text() == content
    assert list(contents(tmp_path)) == ["bands", "bands/lst.tif", "bands/mine.txt"]


def test_relative_names_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Staging(overwrite=False) as staging:
        staging.stage(Path("a.tif")).write_text("new")
    assert list(contents(tmp_path)) == ["a.tif"]


def test_errors_of_writers_do_not_name_the_hidden_folder(tmp_path):
    def write_nowhere():
        with Staging(overwrite=False) as staging:
            staged = staging.stage(tmp_path / "a.json")
            staged.parent.rmdir()
            write_text(staged, "{}")

    with pytest.raises(RasterError) as caught:
        write_nowhere()
    assert str(caught.value).startswith("a.json: cannot be written (No such file or directory)")
    assert contents(tmp_path) == {}


def test_what_exists_is_refused_before_and_again_at_the_end(tmp_path):
    target = tmp_path / "a.tif"
    for then in (lambda: target.write_text("meanwhile"), lambda: None):
        with pytest.raises(RasterError, match=r"a\.tif exists, wanted a new name: .* --overwrite"):
            stage_all(target, then=then)
        assert target.read_text() == "meanwhile"
        assert list(contents(tmp_path)) == ["a.tif"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_can_be_no_output_is_refused(tmp_path, overwrite):
    (tmp_path / "file").write_text("")
    (tmp_path / "link.tif").symlink_to(tmp_path / "input.tif")
    (tmp_path / "x").mkdir()
    refused = {
        tmp_path: "is a folder, wanted the name of a file",
        tmp_path / "none" / "of" / "a.tif": "none does not exist, wanted an existing folder: make it first",
        tmp_path / "file" / "a.tif": "file is a file, wanted an existing folder",
        tmp_path / "input.tif": r"input\.tif is an input of this very run",
        tmp_path / "link.tif": r"link\.tif is an input of this very run",
        tmp_path / "x" / ".." / "b.tif": r"b\.tif is the name of two outputs",
    }
    before = contents(tmp_path)
    for target, message in refused.items():
        with pytest.raises(RasterError, match=message):
            stage_all(tmp_path / "b.tif", target, overwrite=overwrite, inputs=[tmp_path / "input.tif"])
        assert contents(tmp_path) == before


def test_a_missing_folder_is_made_only_where_that_is_asked(tmp_path):
    with pytest.raises(RasterError, match="none does not exist"), Staging(overwrite=False) as staging:
        staging.stage(tmp_path / "none" / "a.tif")
    assert contents(tmp_path) == {}


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(
        RasterError, match=r"a.tif: nothing can be written in .* \(Permission denied\): wanted a writable"
    ):
        Staging(overwrite=False).stage(tmp_path / "a.tif")


def test_a_name_that_the_disk_refuses_is_told(tmp_path):
    with (
        pytest.raises(RasterError, match=r"a\.tif: cannot take its name \(No such file"),
        Staging(overwrite=False) as new,
    ):
        new.stage(tmp_path / "a.tif")  # and never written
    assert contents(tmp_path) == {}


def test_a_disk_without_room_for_all_outputs_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3 * 2**20))
    with Staging(overwrite=False) as staging:
        for name, size in (("a.tif", 2 * 2**20), ("b.tif", 2**20), ("c.json", 0)):
            staging.stage(tmp_path / name, size=size).write_text("")
    with Staging(overwrite=False) as staging:
        staging.stage(tmp_path / "d.tif", size=2 * 2**20).write_text("")
        with pytest.raises(RasterError, match=r"e\.tif: 3\.0 MiB are free, wanted 4\.0 or more: free some space"):
            staging.stage(tmp_path / "e.tif", size=2 * 2**20)
