"""Outputs take their names together, or nothing has happened."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from commands import contents
from lacunar.errors import LacunarError, RasterError
from lacunar.geo import staging as staging_room
from lacunar.geo.staging import Staging, finish_and_remove_dead, write_text


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
            shutil.rmtree(staged.parent)
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
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
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


KILLED = """
import os, signal, sys
from pathlib import Path
from lacunar.geo import staging

folder, stop_at = Path(sys.argv[1]), int(sys.argv[2])
given = 0
give = staging._give_name

def killed(hidden, target):
    global given
    if given == stop_at:
        os.kill(os.getpid(), signal.SIGKILL)
    given += 1
    give(hidden, target)

staging._give_name = killed
with staging.Staging(overwrite=False) as stage:
    for name in ("a.tif", "a.json", "other/a.png"):
        stage.stage(folder / name).write_text(name)
    if stop_at < 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_run(folder, *, names_given):
    (folder / "other").mkdir(exist_ok=True)
    ran = subprocess.run([sys.executable, "-c", KILLED, folder, str(names_given)], check=False)
    assert ran.returncode == -9


@pytest.mark.parametrize("names_given", [0, 1, 2])
@pytest.mark.parametrize("first", ["", "other"])
def test_a_set_that_was_killed_between_its_names_is_finished_by_the_next_run(tmp_path, names_given, first):
    killed_run(tmp_path, names_given=names_given)
    assert any(path.name.endswith(".partial") for path in tmp_path.iterdir())
    for folder in (tmp_path / first, tmp_path, tmp_path / "other"):
        finish_and_remove_dead(folder)
    assert list(contents(tmp_path)) == ["a.json", "a.tif", "other", "other/a.png"]


def test_what_a_dead_run_left_goes_with_the_next_run(tmp_path):
    killed_run(tmp_path, names_given=-1)
    stage_all(tmp_path / "b.tif", tmp_path / "other" / "b.tif")
    assert list(contents(tmp_path)) == ["b.tif", "other", "other/b.tif"]


def test_a_set_whose_given_names_are_gone_is_not_finished(tmp_path):
    killed_run(tmp_path, names_given=1)
    (tmp_path / "a.tif").unlink()
    stage_all(tmp_path / "a.tif", tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == "new"
    stage_all(tmp_path / "other" / "b.tif")
    assert list(contents(tmp_path)) == ["a.json", "a.tif", "other", "other/b.tif"]


def test_work_of_a_living_run_is_left_alone(tmp_path):
    code = "import sys; from pathlib import Path; from lacunar.geo.staging import Room; "
    code += "room = Room(Path(sys.argv[1])); print(room.path, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "a.tif"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as living:
        room = Path(living.stdout.readline().strip())
        stage_all(tmp_path / "b.tif")
        assert room.is_dir()
        living.kill()
    stage_all(tmp_path / "c.tif")
    assert list(contents(tmp_path)) == ["b.tif", "c.tif"]


def test_nothing_in_a_folder_that_is_read_is_replaced(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(RasterError, match=r"config\.json lies in a folder that this very run reads"):
        stage_all(tmp_path / "model" / "config.json", overwrite=True, inputs=[tmp_path / "model"])
    stage_all(tmp_path / "model" / "new.json", overwrite=True, inputs=[tmp_path / "model"])


def test_an_interruption_between_two_names_gives_the_rest(tmp_path, monkeypatch):
    give = staging_room._give_name

    def interrupted(hidden, target):
        give(hidden, target)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(staging_room, "_give_name", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage_all(tmp_path / "a.tif", tmp_path / "a.json")
    assert list(contents(tmp_path)) == ["a.json", "a.tif"]


def test_links_that_form_a_ring_are_one_line(tmp_path):
    (tmp_path / "a.tif").symlink_to(tmp_path / "b.tif")
    (tmp_path / "b.tif").symlink_to(tmp_path / "a.tif")
    with pytest.raises(RasterError, match="its links lead nowhere"):
        stage_all(tmp_path / "a.tif")


def test_a_hard_link_of_an_input_is_an_input(tmp_path):
    (tmp_path / "in.tif").write_text("input")
    (tmp_path / "link.tif").hardlink_to(tmp_path / "in.tif")
    with pytest.raises(RasterError, match=r"link\.tif is an input of this very run"):
        stage_all(tmp_path / "link.tif", overwrite=True, inputs=[tmp_path / "in.tif"])


def test_a_room_whose_removal_is_interrupted_goes_with_the_next_run(tmp_path, monkeypatch):
    unlink, interrupted = Path.unlink, []

    def stop(self, **more):
        if self.name.startswith("b") and len(interrupted) < 2:
            interrupted.append(self)
            raise KeyboardInterrupt
        unlink(self, **more)

    room = staging_room.Room(tmp_path / "x.tif")
    for name in "abc":
        (room.path / name).write_text(name)
    monkeypatch.setattr(Path, "unlink", stop)
    with pytest.raises(KeyboardInterrupt):
        room.close()
    assert (room.path / ".lock").exists()
    os.close(room._lock)
    stage_all(tmp_path / "a.tif")
    assert list(contents(tmp_path)) == ["a.tif"]
