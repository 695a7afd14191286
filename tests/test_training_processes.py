"""Training on two processes: what `accelerate launch` and `torchrun` start, here over gloo on the CPU."""

import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = '''
"""A network that sees neither noise nor time: its losses do not depend on which process drew which noise."""
import json, sys
from pathlib import Path
import torch
from torch import nn
from lacunar.schedule import NoiseSchedule
from lacunar.objectives import GapObjective
from lacunar.training import TrainingConfig, train

class Items:
    def __len__(self):
        return 12
    def __getitem__(self, key):
        base = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(key[1]))
        gap = torch.ones(1, 8, 8)
        return {"x_0": 0.5 * base + 0.1 * base**2, "condition": torch.cat([base, gap]), "gap": gap, "weight": gap}

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 1), nn.SiLU(), nn.Conv2d(8, 1, 1))
    def forward(self, x, t):
        return self.layers(x[:, 1:2])

def run(folder):
    config = TrainingConfig(steps=100, batch_size=8, validate_every=25, warmup_steps=5, learning_rate=1e-2)
    losses = []
    objective = GapObjective(schedule=NoiseSchedule.cosine(100), prediction="x_0")
    options = dict(objective=objective, config=config, folder=folder)
    ema, history = train(Network(), Items(), Items(), callback=lambda progress: losses.append(progress.loss), **options)
    return {"losses": losses, "held_out": [s["loss"] for _, s in history.held_out], "train": history.train}

if __name__ == "__main__":
    from accelerate import PartialState
    result = run(Path(sys.argv[1]))
    state = PartialState()
    print(f"process {state.process_index} of {state.num_processes}")
    (Path(sys.argv[1]) / f"process{state.process_index}.json").write_text(json.dumps(result))
    state.wait_for_everyone()
    state.destroy_process_group()
'''


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Through torchrun: `accelerate launch --cpu` needs MPI to start more than one process."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    script, together = tmp_path / "script.py", tmp_path / "together"
    script.write_text(SCRIPT)
    together.mkdir()
    with torch.random.fork_rng(devices=[]):
        alone = runpy.run_path(str(script))["run"](tmp_path / "alone")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    done = subprocess.run(
        [*launch, str(script), str(together)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "process 1 of 2" in done.stdout
    both = [json.loads((together / f"process{i}.json").read_text()) for i in range(2)]
    assert both[0]["losses"] == both[1]["losses"]
    assert alone["losses"][0] > 3 * alone["losses"][-1]
    for name in ("losses", "held_out"):
        assert both[0][name] == pytest.approx(alone[name], rel=1e-3)  # float32 sums in another order
    assert torch.load(together / "checkpoint.pt", weights_only=True)["step"] == 100
