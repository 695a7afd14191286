"""The command `train` where a student learns or several processes train together, with a recipe that does nothing."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from commands import Ran
from lacunar import cli
from lacunar.train.loop import History


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Run folder and options of the recipes that would have been run, in a folder of its own."""
    runs = []

    def run_recipe(recipe, pack, run, **options):
        run.mkdir(parents=True)
        runs.append((run, options))
        return run / "model", History(train=[(50, 1.0), (100, 0.5)])

    monkeypatch.setattr("lacunar.train.recipe.run_recipe", run_recipe)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pack.npz").touch()
    return runs


def test_a_student_gets_a_folder_of_its_own(lacunar, asked):
    for options in ((), ("--distill", "lst-small"), ("--distill", "lst-small", "--student-steps", 2)):
        assert lacunar("train", "lst-small", "--pack", "pack.npz", *options).code == 0
    assert [str(run) for run, _ in asked] == [f"runs/lst-small{end}" for end in ("", "-distilled-4", "-distilled-2")]
    assert [options["start"].student_steps for _, options in asked] == [None, 4, 2]


def test_the_steps_of_no_student_are_refused(lacunar, asked):
    ran = lacunar("train", "lst-small", "--pack", "pack.npz", "--student-steps", 2)
    line = "lacunar: --student-steps 2 without --distill: name its teacher, or leave it out\n"
    assert ran == Ran(cli.BAD_INPUT, "", line)
    assert not asked


@pytest.mark.parametrize("main", [True, False])
def test_one_process_packs_and_draws(lacunar, asked, monkeypatch, tmp_path, main):
    pack, packed = tmp_path / "new.npz", []

    @contextmanager
    def main_process_first():
        if not main:
            pack.touch()  # while this process waits
        yield
        assert pack.exists()

    def pack_lst(data, clouds, destination):
        packed.append(destination)
        destination.touch()

    process = SimpleNamespace(is_main_process=main, main_process_first=main_process_first)
    monkeypatch.setattr("lacunar.train.loop.this_process", lambda: process)
    monkeypatch.setattr("lacunar.train.kinds.pack_lst", pack_lst)
    ran = lacunar("train", "lst-small", "--pack", pack, "--data", tmp_path)
    assert ran.code == 0, ran.err
    assert packed == [pack] * main
    assert (tmp_path / "runs/lst-small/loss.png").exists() == main
    assert ("model:" in ran.out) == main
