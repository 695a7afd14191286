"""Training on two processes that speak through gloo: the same loss curve as on one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

TESTS = Path(__file__).parents[1]
SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {tests!r})
from trainings import OBJECTIVE, SHORT, Copies, tiny
from lacunar.train.loop import this_process, train
assert this_process().num_processes == int(sys.argv[2])
losses = []
config = replace(SHORT, steps=150, batch_size=8, learning_rate=2e-3, validate_every=150)
folder = Path(sys.argv[1])
ema, history = train(tiny(), Copies(32), Copies(16, seed=1), objective=OBJECTIVE, config=config, folder=folder,
                     callback=lambda progress: losses.append(progress.loss))
state = this_process()
first = next(iter(ema.weights.values())).flatten()[:4].tolist()
found = dict(losses=losses, held_out=history.held_out[-1][1], processes=state.num_processes, first=first)
(folder / f"{{state.process_index}}.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_two_processes_learn_as_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(TESTS)))
    found = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        # What `accelerate launch` runs for several accelerators; for several processes on a CPU it would ask for MPI.
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *launch, str(script), str(folder), str(processes)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert ran.returncode == 0, ran.stderr[-2000:]
        found[processes] = [json.loads((folder / f"{process}.json").read_text()) for process in range(processes)]
        assert [result["processes"] for result in found[processes]] == [processes] * processes
    first, second = found[2]
    assert first["first"] == second["first"]  # both hold the same weights
    assert first["losses"] == pytest.approx(second["losses"])  # and report the loss of the whole batch
    one, two = (np.array(result["losses"]) for result in (found[1][0], first))
    learnt = [result["held_out"]["rmse_ratio"] for result in (found[1][0], first)]
    assert max(learnt) < 0.7
    assert learnt[0] == pytest.approx(learnt[1], rel=0.3)
    # The noise of the second half of each batch is drawn anew: curves agree within that noise, not bit for bit.
    assert np.abs(np.log(two[20:] / one[20:])).mean() < 0.15
    assert first["held_out"]["loss"] == pytest.approx(found[1][0]["held_out"]["loss"], rel=0.3)
    assert torch.load(tmp_path / "2" / "checkpoint.pt", weights_only=True)["step"] == 150
