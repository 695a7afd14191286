"""Fixtures that every test may use."""

import shutil
import sys
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden files that stands beside a checkout."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"real data and golden files are not here: no folder {SHARED}")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep what a run caches out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LACUNAR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _no_lost_scheduler():
    """Let no test compute on a Dask cluster that an earlier one has lost."""
    if "distributed" in sys.modules:
        import dask
        from distributed import default_client

        try:
            default_client()
        except ValueError:  # there is none
            dask.config.set(scheduler=None)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """The folder of a gap-filling model with few, random weights."""
    from gap_models import tiny_model
    from lacunar.models.checkpoint import save_model

    return save_model(tmp_path_factory.mktemp("models") / "tiny", tiny_model())


@pytest.fixture(scope="session")
def simulated_64(tmp_path_factory):
    """A simulated product of 64 x 64 pixels, to be read only."""
    from lacunar.sensors.simulated import simulate_product

    return simulate_product(tmp_path_factory.mktemp("simulated") / "product", size=64, seed=3)


@pytest.fixture
def product(simulated_64, tmp_path):
    """A copy of the simulated product that a test may bend."""
    return Path(shutil.copytree(simulated_64.folder, tmp_path / "product"))


@pytest.fixture
def out(tmp_path):
    """An empty folder for outputs."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def lacunar(monkeypatch, capsys):
    """Run a command as it is typed, inside this process."""
    from commands import Ran
    from lacunar.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lacunar", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return Ran(stopped.value.code, *capsys.readouterr())

    return run
