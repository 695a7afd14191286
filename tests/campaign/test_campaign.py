"""A small share of the campaign, and whether its judge sees what it is there to see."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trial
import world

ROOT = Path(__file__).resolve().parents[2]


def campaign(*options, seconds):
    """Run `python -m tests.campaign` and give its table; anything wrong fails."""
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    command = [sys.executable, "-m", "tests.campaign", *map(str, options)]
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    print(ran.stdout)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


@pytest.mark.slow  # most of a minute: a sample of all kinds, and some kills
def test_a_share_of_the_campaign():
    assert "| all | 74 |" in campaign("--inputs", 70, "--kills", 4, "--jobs", 1, seconds=1200)


@pytest.mark.campaign
def test_the_whole_campaign():
    assert "| all | 10200 |" in campaign("--inputs", 10_000, "--kills", 200, seconds=2 * 3600)


# --- the judge ---


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """What the judge says of a command that is a function here; its fault's names."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "a").write_text("input")
    (tmp_path / "elsewhere" / "canary.txt").write_bytes(trial.CANARY)

    def judge(does, **more):
        monkeypatch.setattr(trial, "as_typed", lambda _: does())
        result = trial.run(trial.Case("judge", "", "", ["fill"], **more), tmp_path)
        return result.outcome, [fault for fault, _ in result.faults]

    return judge


def say(text, code=2):
    sys.stderr.write(text)
    return code


def fails():
    raise ValueError("an error that nobody caught")


def test_a_clean_end_has_no_fault(judged):
    assert judged(lambda: 0) == ("accepted", [])
    assert judged(lambda: say("lacunar: no such file\n")) == ("refused", [])


@pytest.mark.parametrize(
    ("does", "fault"),
    [
        (fails, "tracebacks"),
        (lambda: os.kill(os.getpid(), signal.SIGXCPU), "tracebacks"),
        (lambda: say("GDAL says\nlacunar: no such file\n"), "more than one line"),
        (lambda: say("") or 2, "more than one line"),
        (lambda: Path("out/.x.partial").write_text("half") and 0, "half-written"),
        (lambda: Path("out/x.json").write_text("{") and 0, "half-written"),
        (lambda: Path("in/a").write_text("other") and 0, "inputs changed"),
        (lambda: Path("in/a").unlink() or 0, "inputs changed"),
        (lambda: Path("stray").write_text("x") and 0, "leaks"),
        (lambda: Path("elsewhere/canary.txt").read_bytes() and 0, "leaks"),
        (lambda: Path("/etc/passwd").read_text() and 0, "leaks"),
        (lambda: Path("out/x.txt").write_bytes(trial.CANARY) and 0, "leaks"),
    ],
)
def test_a_fault_is_seen(judged, does, fault):
    assert fault in judged(does)[1]


def test_a_run_without_end_is_stopped(judged, monkeypatch):
    monkeypatch.setattr(trial, "ASLEEP_SECONDS", 0.5)
    assert judged(signal.pause) == ("stopped", ["without end"])


def test_a_wrong_answer_is_seen(judged):
    assert judged(lambda: 0, check=lambda out: "it is wrong") == ("accepted", ["wrong"])
    assert judged(lambda: say("lacunar: no\n"), must_pass=True) == ("refused", ["wrong"])


def test_a_request_is_seen(tmp_path):
    import urllib.request

    trap = trial.Trap(tmp_path)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(trap.url(3), timeout=5)
    trap.close()
    assert len(trap.asked(3)) == 1
    assert trap.asked(30) == []


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (lambda value, source, sigma: None, None),
        (lambda value, source, sigma: value.__setitem__((0, 0), 1.0), "a measured pixel has changed"),
        (lambda value, source, sigma: value.__setitem__(gap_at(), np.nan), "not finite"),
        (lambda value, source, sigma: sigma.__setitem__(gap_at(), 0), "sigma of"),
        (lambda value, source, sigma: source.__setitem__(gap_at(), 1), "count as measured"),
    ],
)
def test_a_wrong_fill_is_seen(tmp_path, bend, said):
    from meaning import wrong_fill

    values, hidden = world.temperature().astype("f4"), world.gap()
    filled = [values.copy(), np.where(hidden, 2, 1).astype("f4"), hidden.astype("f4")]
    bend(*filled)
    world.write(tmp_path / "filled.tif", np.stack(filled))
    found = wrong_fill(tmp_path / "filled.tif", values, ~hidden, hidden, world.PLACE)
    assert found is None if said is None else said in found


def gap_at():
    """A pixel of the gap."""
    return tuple(int(axis[0]) for axis in np.nonzero(world.gap()))
