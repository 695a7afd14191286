"""Train a diffusion network towards an objective: configuration, moving average, and a run that resumes exactly.

Nothing random is kept between steps: the order of the examples comes from (seed, epoch), the noise of a step from
(seed, step, process). So weights, optimiser, moving average and step number are the whole state of a run.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader

from lacunar.errors import TrainingError, first_line
from lacunar.train.objectives import Batch, Examples, Objective, seeded

RECIPE_ALONE = "the recipe alone"  # what a run without an origin is called


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is trained."""

    steps: int
    batch_size: int = 16  # examples in a step, over all processes
    learning_rate: float = 4e-4  # peak of AdamW's
    warmup_steps: int = 200  # over which the rate rises linearly
    decay_share: float = 0.3  # of the steps, at the end, over which the rate falls linearly to zero
    encoder_rate: float = 1.0  # factor of the rate of weights under an `encoder`: below 1 where they are pretrained
    ema_decay: float = 0.999  # of the moving average of the weights; warmed up as (1 + step) / (10 + step)
    gradient_clip: float = 1.0  # largest norm of the gradient
    checkpoint_every: int = 250  # steps
    validate_every: int = 500  # steps
    mixed_precision: Literal["no", "bf16"] = "no"  # bf16: layers compute in bfloat16, weights stay float32
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every", "validate_every"):
            if getattr(self, name) < 1:
                raise TrainingError(f"training: {name} is {getattr(self, name)}, wanted a whole number from 1")
        for name in ("decay_share", "ema_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"training: {name} is {getattr(self, name)}, wanted a share in [0, 1]")
        if self.mixed_precision not in ("no", "bf16"):
            raise TrainingError(f"training: mixed_precision is {self.mixed_precision!r}, wanted no or bf16")
        if self.learning_rate <= 0 or self.gradient_clip <= 0:
            raise TrainingError("training: learning_rate and gradient_clip must be above 0")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: warm-up, plateau, linear decay."""
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = (self.steps - step) / max(1.0, self.decay_share * self.steps)
        return self.learning_rate * min(rise, 1.0, max(0.0, left))


@dataclass
class History:
    """Running training loss by step, held-out scores by step, and the running loss now."""

    train: list[tuple[int, float]] = field(default_factory=list)
    held_out: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    running: float = math.nan

    def add(self, step: int, loss: float) -> None:
        """Note the loss of one more step."""
        self.running = loss if math.isnan(self.running) else 0.98 * self.running + 0.02 * loss
        if step % 50 == 0:
            self.train.append((step, self.running))


@dataclass(frozen=True)
class Progress:
    """Where a run is; ``loss`` is the running one."""

    step: int
    steps: int
    loss: float
    examples_per_second: float
    seconds_left: float


class Ema:
    """Exponential moving average of a network's weights, kept beside it in float32."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone().float() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the network's weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                self.weights[name].lerp_(value.detach().float(), 1 - decay)
            else:
                self.weights[name].copy_(value)

    def smoothed(self, network: nn.Module) -> Callable[..., Any]:
        """The network with the averaged weights; its own stay in place, even if this is interrupted."""
        return lambda *given: functional_call(network, self.weights, given)


def _batches(
    length: int, config: TrainingConfig, *, start: int, process: int, processes: int
) -> Iterator[list[tuple[int, int]]]:
    """Batches of (epoch, index) keys of one process from a given step on, each epoch in its own order."""
    epoch, order = -1, torch.empty(0, dtype=torch.long)
    for step in range(start, config.steps):
        keys = []
        for position in range(step * config.batch_size, (step + 1) * config.batch_size):
            if position // length != epoch:
                epoch = position // length
                order = torch.randperm(length, generator=seeded(config.seed, epoch))
            keys.append((epoch, int(order[position % length])))
        yield keys[process::processes]


def this_process() -> PartialState:
    """The state of this process among those that train together.

    On CPUs accelerate must be told before its ``Accelerator`` is made, or it takes each process for the only one.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def train(
    network: nn.Module,
    examples: Examples,
    held_out: Examples | None,
    *,
    objective: Objective,
    config: TrainingConfig,
    folder: Path,
    origin: str = "",
    callback: Callable[[Progress], None] | None = None,
) -> tuple[Ema, History]:
    """Train a network; a run found in ``folder``, by its ``checkpoint.pt``, goes on exactly where it stopped.

    Runs on one process, or on several under ``accelerate launch``; each takes its share of every batch. ``origin`` says
    in words what the run started from and learns from; it is kept in the checkpoint, and empty where the recipe says it
    all. A checkpoint of another configuration or origin, a loss that is not finite, or a batch that the processes
    cannot share is a ``TrainingError``. ``KeyboardInterrupt`` is passed on once the state is saved.
    """
    AcceleratorState._reset_state()  # accelerate would hold a second run of this process to the precision of the first
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    process, processes = accelerator.process_index, accelerator.num_processes
    if config.batch_size % processes:
        raise TrainingError(f"a batch of {config.batch_size} cannot be shared by {processes} processes")
    run = _Run(folder / "checkpoint.pt", network, config, origin)
    run.restore()
    network, optimiser = run.prepared(accelerator)
    keys = _batches(len(examples), config, start=run.step, process=process, processes=processes)
    loader: DataLoader[Batch] = DataLoader(examples, batch_sampler=keys)  # type: ignore[arg-type]
    begun, first = time.perf_counter(), run.step
    whole = True  # False while weights, optimiser, average and step number do not belong to one another
    statistics: dict[str, Tensor] = {}  # of batch norms, as they were before the step that is being taken
    try:
        run.score_if_due(objective, held_out, accelerator.device)  # what an interrupted run still owes
        for batch in loader:
            statistics = {name: value.clone() for name, value in run.network.named_buffers()}
            loss = _gradients(accelerator, network, optimiser, batch, objective, config, run.step)
            whole = False
            if not math.isfinite(loss):
                raise TrainingError(f"the loss is {loss} at step {run.step}: lower learning_rate and start again")
            optimiser.step()
            run.ema.update(run.network, run.step)
            run.step += 1
            run.history.add(run.step, loss)
            whole, statistics = True, {}
            run.score_if_due(objective, held_out, accelerator.device)
            if run.step % config.checkpoint_every == 0 and accelerator.is_main_process:
                run.save()
            if callback:
                each = (time.perf_counter() - begun) / (run.step - first)
                left = each * (config.steps - run.step)
                callback(Progress(run.step, config.steps, run.history.running, config.batch_size / each, left))
    finally:
        if whole and accelerator.is_main_process:
            run.network.load_state_dict(statistics, strict=False)
            run.save()
    return run.ema, run.history


def _gradients(
    accelerator: Accelerator,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    objective: Objective,
    config: TrainingConfig,
    step: int,
) -> float:
    """Gradients from this process's share of the batch; returns the loss averaged over the processes."""
    batch = {name: value.to(accelerator.device) for name, value in batch.items()}
    for group in optimiser.param_groups:
        group["lr"] = config.rate_at(step) * group["share"]
    optimiser.zero_grad(set_to_none=True)
    loss = objective.loss(network, batch, step=step, generator=seeded(config.seed, step, accelerator.process_index))
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(network.parameters(), config.gradient_clip)
    return float(accelerator.reduce(loss.detach(), reduction="mean"))


def parameter_groups(network: nn.Module, encoder_rate: float) -> list[dict[str, Any]]:
    """Parameters for the optimiser; those of an encoder form a group, with a learning rate of their own."""
    parts: dict[float, list[nn.Parameter]] = {1.0: [], encoder_rate: []}
    for name, parameter in network.named_parameters():
        parts[encoder_rate if ".encoder." in name else 1.0].append(parameter)
    return [{"params": parameters, "share": share} for share, parameters in parts.items()]


class _Run:
    """The state of a run, kept in one file: network, optimiser, moving average, history and step."""

    def __init__(self, file: Path, network: nn.Module, config: TrainingConfig, origin: str) -> None:
        self.file, self.network, self.config, self.origin = file, network, config, origin
        self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(
            parameter_groups(network, config.encoder_rate), lr=config.learning_rate, weight_decay=0.01, fused=True
        )
        self.ema, self.history, self.step = Ema(network, config.ema_decay), History(), 0

    def prepared(self, accelerator: Accelerator) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Network and optimiser as the processes share them; the run keeps the network itself."""
        network, self.optimiser = accelerator.prepare(self.network, self.optimiser)
        self.network = accelerator.unwrap_model(network)
        self.ema.weights = {name: value.to(accelerator.device) for name, value in self.ema.weights.items()}
        return network, self.optimiser

    def score_if_due(self, objective: Objective, held_out: Examples | None, device: torch.device) -> None:
        """Score the averaged network where the step asks for it and that was not done yet."""
        config, last = self.config, self.history.held_out[-1][0] if self.history.held_out else 0
        due = self.step % config.validate_every == 0 or self.step == config.steps
        if held_out is not None and self.step > last and due:
            self.network.eval()  # batch norms use the statistics of the run, and keep them
            scores = objective.score(self.ema.smoothed(self.network), held_out, device=device)
            self.network.train()
            self.history.held_out.append((self.step, scores))

    def save(self) -> None:
        """Write the checkpoint that a later run goes on from."""
        state: dict[str, Any] = {
            "step": self.step,
            "seed": self.config.seed,
            "batch_size": self.config.batch_size,
            "origin": self.origin,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "ema": self.ema.weights,
            **asdict(self.history),
        }
        temporary = self.file.with_suffix(".partial")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, temporary)
            temporary.replace(self.file)
        except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError
            raise TrainingError(f"{self.file} cannot be written ({first_line(error)}): free some space") from error
        finally:
            temporary.unlink(missing_ok=True)

    def restore(self) -> None:
        """Read the state where there is one; the number of steps may differ, the seed and the origin may not."""
        if not self.file.exists():
            return
        try:
            state = torch.load(self.file, weights_only=True, map_location="cpu")
            self._check(state)
            self.network.load_state_dict(state["network"])
            shares = [group["share"] for group in self.optimiser.param_groups]
            self.optimiser.load_state_dict(state["optimiser"])
            for group, share in zip(self.optimiser.param_groups, shares, strict=True):
                group["share"] = share  # an older checkpoint does not say
            self.ema.weights = state["ema"]
            self.history = History(state["train"], state["held_out"], state.get("running", math.nan))
            self.step = int(state["step"])
        except TrainingError:
            raise
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise TrainingError(
                f"{self.file} is not a checkpoint of this network ({reason}): give another --run folder"
            ) from error

    def _check(self, state: dict[str, Any]) -> None:
        config, kept = self.config, state.get("origin", "")  # an older checkpoint does not say
        if (state["seed"], state["batch_size"]) != (config.seed, config.batch_size):
            raise TrainingError(
                f"{self.file} is a run of seed {state['seed']} and batch size {state['batch_size']}, wanted "
                f"{config.seed} and {config.batch_size}: give another --run folder"
            )
        if kept != self.origin:
            raise TrainingError(
                f"{self.file} is a run of {kept or RECIPE_ALONE}, wanted {self.origin or RECIPE_ALONE}: give another "
                "--run folder"
            )
