"""Training: what it learns, that it goes on exactly where it stopped however it stopped, and its scores by hand."""

import itertools
import math
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import TrainingError
from lacunar.train import loop as training
from lacunar.train.loop import Ema, History, Progress, TrainingConfig, train
from lacunar.train.objectives import DenoisingObjective
from trainings import EDGE, OBJECTIVE, SHORT, SIZE, Copies, Interrupted, tiny


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch):
    """Bit for bit holds on a CPU; on an accelerator sums may come in any order."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def run(folder: Path, config: TrainingConfig = SHORT, *, network=None, examples=None, held_out=None, **options):
    network = network or tiny()
    held_out = held_out or Copies(5, seed=1)
    options = {"objective": OBJECTIVE, "config": config, "folder": folder, **options}
    return network, *train(network, examples or Copies(), held_out, **options)


def same(a: object, b: object) -> bool:
    """Whether two states are equal bit for bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def state_in(folder: Path) -> dict[str, object]:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


# --- learning ---


def test_the_loss_falls_on_what_is_easy_to_learn(tmp_path: Path):
    config = TrainingConfig(steps=100, batch_size=8, warmup_steps=10, learning_rate=1e-2, ema_decay=0.9)
    network, ema, history = run(tmp_path, config, objective=replace(OBJECTIVE, last_step_share=1.0))
    (first, early), (last, late) = history.train
    assert (first, last) == (50, 100)
    assert late < 0.5 * early
    assert [step for step, _ in history.held_out] == [100]
    assert history.held_out[0][1]["rmse_ratio"] < 0.3  # 1 is predicting zero
    assert ema.weights.keys() == network.state_dict().keys()


def test_training_depends_on_its_seed_alone(tmp_path: Path):
    config = TrainingConfig(steps=4, batch_size=4)
    torch.manual_seed(1)
    _, first, _ = run(tmp_path / "a", config)
    torch.manual_seed(2)
    _, again, _ = run(tmp_path / "b", config)
    _, other, _ = run(tmp_path / "c", TrainingConfig(steps=4, batch_size=4, seed=1))
    assert same(first.weights, again.weights)
    assert not same(first.weights, other.weights)


def test_bfloat16_learns_as_float32_does(tmp_path: Path):
    config = {"steps": 50, "batch_size": 8, "learning_rate": 5e-3, "ema_decay": 0.9, "validate_every": 50}
    runs = []
    for name, precision in (("plain", "no"), ("half", "bf16"), ("again", "bf16")):
        runs.append(run(tmp_path / name, TrainingConfig(**config, mixed_precision=precision)))
    (_, exact, plain), (network, mixed, half), (_, again, _) = runs
    assert same(mixed.weights, again.weights)
    assert not same(mixed.weights, exact.weights)
    assert all(value.dtype == torch.float32 for value in network.state_dict().values())
    assert half.train[0][1] == pytest.approx(plain.train[0][1], rel=0.02)
    assert half.held_out[0][1] == pytest.approx(plain.held_out[0][1], rel=0.1)


def test_every_epoch_takes_every_example_once_in_its_own_order(tmp_path: Path):
    examples = Copies(10)
    run(tmp_path, TrainingConfig(steps=5, batch_size=4), examples=examples)
    assert [epoch for epoch, _ in examples.asked] == [0] * 10 + [1] * 10
    first, second = ([index for epoch, index in examples.asked if epoch == wanted] for wanted in (0, 1))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second != list(range(10))


class Watch(nn.Module):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.bias, self.given = nn.Parameter(torch.zeros(1)), []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.given.append((x.detach(), t))
        return self.bias.expand(len(x), 1, SIZE, SIZE)


def test_the_network_is_given_state_condition_and_gap(tmp_path: Path):
    clean = NoiseSchedule(torch.tensor([1e-8]).numpy(), torch.arange(1).numpy(), 1)  # one step, next to no noise
    network, examples = Watch(), Copies()
    config = TrainingConfig(steps=3, batch_size=4, learning_rate=1e-9)
    run(tmp_path, config, network=network, examples=examples, objective=replace(OBJECTIVE, schedule=clean))
    items = [Copies()[key] for key in examples.asked]
    x = torch.cat([given for given, _ in network.given[:3]])
    for name, channels in (("x_0", slice(0, 1)), ("condition", slice(1, 3)), ("missing", slice(3, 4))):
        torch.testing.assert_close(x[:, channels], torch.stack([item[name] for item in items]), rtol=0, atol=1e-3)


def test_noise_and_times_are_new_at_every_step_and_absent_outside_the_gap(tmp_path: Path):
    network = Watch()
    objective = replace(OBJECTIVE, last_step_share=0.3)
    run(tmp_path, TrainingConfig(steps=100, batch_size=8), network=network, examples=Copies(8), objective=objective)
    x, t = (torch.stack(part) for part in zip(*network.given[:100], strict=True))
    assert not x[:, :, 0, :, EDGE:].any()
    assert len(t.unique(dim=0)) == 100
    assert float((t == 99).float().mean()) == pytest.approx(0.3 + 0.7 / 100, abs=0.06)
    assert float(t[t < 99].float().mean()) == pytest.approx(49, abs=6)
    noise = x[:, :, 0, :, :EDGE][t == 99]  # abar is next to 0 there
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    assert len(noise[:, 0, 0].unique()) == len(noise)


def test_progress_is_reported_after_every_step(tmp_path: Path):
    seen: list[Progress] = []
    run(tmp_path, TrainingConfig(steps=3, batch_size=4), callback=seen.append)
    assert [(progress.step, progress.steps) for progress in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[-1].seconds_left == 0
    assert all(progress.examples_per_second > 0 and math.isfinite(progress.loss) for progress in seen)


# --- going on exactly ---


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], History]:
    """The state and the history of one whole run."""
    folder = tmp_path_factory.mktemp("whole")
    *_, history = run(folder)
    return state_in(folder), history


def stopping(n: int, call):
    """A function that raises KeyboardInterrupt on its n-th call."""
    calls = itertools.count(1)

    def stops(*args, **kwargs):
        if next(calls) == n:
            raise KeyboardInterrupt
        return call(*args, **kwargs)

    return stops


@pytest.mark.parametrize(
    ("where", "steps_kept"),
    [("callback", 23), ("loading", 23), ("gradients", 23), ("average", 10), ("scoring", 20), ("last scoring", 52)],
)
def test_a_run_that_is_interrupted_goes_on_exactly(
    where: str, steps_kept: int, tmp_path: Path, uninterrupted, monkeypatch: pytest.MonkeyPatch
):
    """Weights, average, optimiser, history and running loss are those of a run that was never interrupted."""
    config = TrainingConfig(**{**vars(SHORT), "checkpoint_every": 10 if where == "average" else 1000})
    examples, held_out, callback = Copies(), Copies(5, seed=1), None
    with monkeypatch.context() as patched:
        if where == "callback":
            callback = stopping(23, lambda progress: None)
        elif where == "loading":
            examples = Interrupted(23 * config.batch_size + 2)
        elif where == "gradients":
            patched.setattr(
                DenoisingObjective, "_loss", stopping(25, DenoisingObjective._loss)
            )  # one of them was for a score
        elif where == "average":
            patched.setattr(Ema, "update", stopping(15, Ema.update))  # weights have moved, average and step not
        else:
            held_out = Interrupted(2 if where == "scoring" else 12, count=5, seed=1)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, config, examples=examples, held_out=held_out, callback=callback)
    assert state_in(tmp_path)["step"] == steps_kept
    asked = Copies()
    *_, history = run(tmp_path, config, network=tiny(seed=5), examples=asked)  # the checkpoint's weights, not these
    assert len(asked.asked) == (52 - steps_kept) * config.batch_size
    state, whole = uninterrupted
    assert same(state_in(tmp_path), state)
    assert history == whole
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


class Normed(nn.Sequential):
    """A network whose batch norm moves its statistics in every forward pass."""

    def __init__(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            super().__init__(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Conv2d(6, 1, 1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return super().forward(x)


def test_statistics_of_a_step_that_is_interrupted_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = replace(SHORT, steps=6)
    run(tmp_path / "whole", config, network=Normed())
    with monkeypatch.context() as patched:
        patched.setattr(DenoisingObjective, "_loss", stopping(3, DenoisingObjective._loss))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parted", config, network=Normed())
    assert state_in(tmp_path / "parted")["step"] == 2
    run(tmp_path / "parted", config, network=Normed())
    assert same(state_in(tmp_path / "parted"), state_in(tmp_path / "whole"))


def test_a_run_goes_on_to_more_steps_and_stays_at_fewer(tmp_path: Path):
    steady = {"batch_size": 4, "warmup_steps": 2, "decay_share": 0.0, "validate_every": 3}
    _, whole, long = run(tmp_path / "long", TrainingConfig(steps=6, **steady))
    run(tmp_path / "short", TrainingConfig(steps=3, **steady))
    _, resumed, history = run(tmp_path / "short", TrainingConfig(steps=6, **steady))
    assert same(resumed.weights, whole.weights)
    assert same(state_in(tmp_path / "short"), state_in(tmp_path / "long"))
    assert history == long
    _, back, history = run(tmp_path / "short", TrainingConfig(steps=2, **steady))
    assert same(back.weights, whole.weights)
    assert history == long


def test_another_run_s_checkpoint_is_refused(tmp_path: Path):
    config = {"steps": 2, "batch_size": 4}
    run(tmp_path, TrainingConfig(**config))
    before = (tmp_path / "checkpoint.pt").read_bytes()
    for changed in ({"seed": 1}, {"batch_size": 5}):
        wanted = {"seed": 0, "batch_size": 4, **changed}
        message = (
            rf"checkpoint.pt is a run of seed 0 and batch size 4, wanted {wanted['seed']} and {wanted['batch_size']}: "
            "give another --run folder"
        )
        with pytest.raises(TrainingError, match=message):
            run(tmp_path, TrainingConfig(**{**config, **changed}))
    with pytest.raises(TrainingError, match=r"is not a checkpoint of this network \(.*\): give another --run folder"):
        run(tmp_path, TrainingConfig(**config), network=nn.Conv2d(4, 1, 1))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


class Code:
    """What runs a command where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "other keys", "code"])
def test_a_broken_checkpoint_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    file, config = tmp_path / "checkpoint.pt", TrainingConfig(steps=2, batch_size=4)
    if kind == "cut":
        run(tmp_path, config)
        file.write_bytes(file.read_bytes()[:-2000])
    elif kind in ("empty", "text"):
        file.write_bytes(b"" if kind == "empty" else b"step,loss\n1,0.5\n")
    else:
        torch.save({"step": 1} if kind == "other keys" else {"seed": Code()}, file)
    before = file.read_bytes()
    with pytest.raises(TrainingError, match=r"checkpoint.pt is not a checkpoint of this network \(.+\)") as caught:
        run(tmp_path, config)
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == before
    assert not (tmp_path / "pwned").exists()


class Spoilt(Copies):
    """Not a number from the given number of items on."""

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        item = super().__getitem__(key)
        return {name: value * math.nan if len(self.asked) > 20 else value for name, value in item.items()}


def test_a_loss_that_is_not_finite_stops_and_spoils_no_checkpoint(tmp_path: Path):
    config = TrainingConfig(steps=9, batch_size=4, checkpoint_every=2)
    with pytest.raises(TrainingError, match="the loss is nan at step 5: lower learning_rate and start again"):
        run(tmp_path, config, examples=Spoilt())
    state = state_in(tmp_path)
    assert state["step"] == 4
    assert all(value.isfinite().all() for value in state["network"].values())
    run(tmp_path, config)
    assert state_in(tmp_path)["step"] == 9


def test_a_batch_that_the_processes_cannot_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training, "Accelerator", lambda **_: SimpleNamespace(num_processes=3, process_index=0))
    with pytest.raises(TrainingError, match="a batch of 4 cannot be shared by 3 processes"):
        run(tmp_path)


# --- parts by hand ---


def test_processes_share_the_batches_of_one():
    config = TrainingConfig(steps=7, batch_size=6)
    alone = list(training._batches(10, config, start=0, process=0, processes=1))
    parts = [list(training._batches(10, config, start=0, process=process, processes=3)) for process in range(3)]
    for step, batch in enumerate(alone):
        shares = [part[step] for part in parts]
        assert [len(share) for share in shares] == [2, 2, 2]
        assert sorted(itertools.chain(*shares)) == sorted(batch)
    assert list(training._batches(10, config, start=4, process=1, processes=3)) == parts[1][4:]


@pytest.mark.parametrize(
    ("step", "share"), [(0, 0.1), (4, 0.5), (9, 1), (10, 1), (50, 1), (70, 1), (85, 0.5), (99, 1 / 30), (120, 0)]
)
def test_learning_rate_by_hand(step: int, share: float):
    config = TrainingConfig(steps=100, learning_rate=2e-3, warmup_steps=10, decay_share=0.3)
    assert config.rate_at(step) == pytest.approx(2e-3 * share, rel=1e-12)
    constant = TrainingConfig(steps=100, learning_rate=2e-3, warmup_steps=0, decay_share=0)
    assert constant.rate_at(min(step, 99)) == 2e-3


def test_moving_average_by_hand():
    network = nn.Linear(1, 1, bias=False)
    network.register_buffer("count", torch.tensor(3))
    with torch.no_grad():
        network.weight.fill_(1.0)
    ema, expected = Ema(network, decay=0.3), 1.0
    # (1 + step) / (10 + step) = 0.1, 0.1818, 0.25, then 0.3077, of which no more than 0.3 is taken.
    for step, decay, value in [(0, 0.1, 5.0), (1, 2 / 11, -2.0), (2, 0.25, 4.0), (3, 0.3, 8.0), (10**6, 0.3, 0.0)]:
        with torch.no_grad():
            network.weight.fill_(value)
        network.count += 1
        ema.update(network, step)
        expected = decay * expected + (1 - decay) * value
        assert float(ema.weights["weight"]) == pytest.approx(expected, rel=1e-5)
        assert float(network.weight.detach()) == value
    assert int(ema.weights["count"]) == 8


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        *[(name, 0, "wanted a whole number from 1") for name in ("steps", "batch_size", "checkpoint_every")],
        *[(name, 1.5, r"wanted a share in \[0, 1\]") for name in ("decay_share", "ema_decay")],
        *[(name, 0.0, "must be above 0") for name in ("learning_rate", "gradient_clip")],
    ],
)
def test_settings_out_of_range(name: str, value: float, wanted: str):
    with pytest.raises(TrainingError, match=rf"training: .*{name}.*{wanted}"):
        TrainingConfig(**{"steps": 10, name: value})


@pytest.mark.parametrize("value", ["fp16", "yes", "", None, True])
def test_another_precision_is_refused(value: object):
    with pytest.raises(TrainingError, match=rf"training: mixed_precision is {value!r}, wanted no or bf16"):
        TrainingConfig(steps=10, mixed_precision=value)
    assert TrainingConfig(steps=10).mixed_precision == "no"


# --- figures by hand ---


def test_the_optimiser_takes_that_rate(tmp_path: Path):
    run(tmp_path, TrainingConfig(steps=8, batch_size=4, warmup_steps=2, decay_share=0.5, learning_rate=1e-3))
    assert state_in(tmp_path)["optimiser"]["param_groups"][0]["lr"] == pytest.approx(1e-3 * 1 / 4)  # at step 7


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("write failed: no space")])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path: Path, monkeypatch, error: Exception):
    def fails(state: object, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt cannot be written .*space.*: free some space"):
        run(tmp_path)
    assert list(tmp_path.iterdir()) == []
