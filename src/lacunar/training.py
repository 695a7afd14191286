"""Train a diffusion network on what surrounds a gap: configuration, moving average, and a run that resumes exactly.

Nothing random is kept between steps: the order of the examples comes from (seed, epoch), the noise of a step from
(seed, step, process). So weights, optimiser, moving average and step number are the whole state of a run.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Sampler

from lacunar.diffusion import Prediction, predict_x_0, q_sample
from lacunar.errors import TrainingError
from lacunar.losses import l_simple
from lacunar.networks.conditioning import network_input
from lacunar.schedule import NoiseSchedule

Batch = dict[str, Tensor]
Network = Callable[[Tensor, Tensor], Tensor]


class Examples(Protocol):
    """A data set whose items are chosen by (epoch, index) alone."""

    def __len__(self) -> int:
        """Number of items."""

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        """``x_0`` (C, H, W), ``condition`` (D, H, W), ``gap`` (1, H, W) and ``weight`` (1, H, W)."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is trained.

    Parameters
    ----------
    steps, batch_size
        Optimiser steps, and examples in each over all processes.
    learning_rate, warmup_steps, decay_share
        Peak rate of AdamW; linear warm-up; share of the steps, at the end, over which it falls linearly to zero.
    ema_decay
        Decay of the moving average of the weights, itself warmed up as (1 + step) / (10 + step).
    last_step_share
        Share of the examples at the noisiest timestep, where the prediction of x_0 is the posterior mean itself.
    gradient_clip
        Largest norm of the gradient.
    checkpoint_every, validate_every
        Steps.
    mixed_precision
        ``bf16``: layers compute in bfloat16, weights stay float32; twice as fast on processors that have it.
    seed
        Seed of everything random.
    """

    steps: int
    batch_size: int = 16
    learning_rate: float = 4e-4
    warmup_steps: int = 200
    decay_share: float = 0.3
    ema_decay: float = 0.999
    last_step_share: float = 0.2
    gradient_clip: float = 1.0
    checkpoint_every: int = 250
    validate_every: int = 500
    mixed_precision: Literal["no", "bf16"] = "no"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value."""
        for name in ("steps", "batch_size", "checkpoint_every", "validate_every"):
            if getattr(self, name) < 1:
                raise TrainingError(f"training: {name} is {getattr(self, name)}, wanted a whole number from 1")
        for name in ("decay_share", "ema_decay", "last_step_share"):
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
    """What a run went through: running training loss by step, held-out scores by step, and the running loss now."""

    train: list[tuple[int, float]] = field(default_factory=list)
    held_out: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    running: float = math.nan


@dataclass(frozen=True)
class Progress:
    """Where a run is: step, steps, running loss, examples per second, seconds left."""

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


class _Order(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) keys of one process from a given step on, each epoch in its own order."""

    def __init__(self, length: int, config: TrainingConfig, *, start: int, process: int, processes: int) -> None:
        self.length, self.config = length, config
        self.start, self.process, self.processes = start, process, processes

    def __len__(self) -> int:
        return self.config.steps - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, torch.empty(0, dtype=torch.long)
        for step in range(self.start, self.config.steps):
            keys = []
            for position in range(step * self.config.batch_size, (step + 1) * self.config.batch_size):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = torch.randperm(self.length, generator=_generator(self.config.seed, epoch))
                keys.append((epoch, int(order[position % self.length])))
            yield keys[self.process :: self.processes]


def _generator(*seeds: int) -> torch.Generator:
    """A generator that depends on all the numbers: they are folded into 63 bits by a polynomial hash."""
    value = 0
    for seed in seeds:
        value = (value * 6364136223846793005 + seed + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(value)


def train(
    network: nn.Module,
    examples: Examples,
    held_out: Examples | None,
    *,
    schedule: NoiseSchedule,
    prediction: Prediction,
    config: TrainingConfig,
    folder: Path,
    workers: int = 0,
    callback: Callable[[Progress], None] | None = None,
) -> tuple[Ema, History]:
    """Train, or go on training, a network; the run's checkpoint lives in ``folder``.

    Runs on one process, or on several under ``accelerate launch``; each takes its share of every batch.

    Parameters
    ----------
    network
        ``network(network_input(...), t)`` -> (B, C, H, W).
    examples, held_out
        Items chosen by (epoch, index); the held-out ones are scored every ``config.validate_every`` steps.
    schedule, prediction
        The noise schedule, and what the network predicts.
    config
        Steps, rates, seed.
    folder
        Holds ``checkpoint.pt``; a run that finds one goes on from it exactly.
    workers
        Processes that load examples.
    callback
        Called after every step.

    Returns
    -------
    Ema, History
        The moving average of the weights, and the losses.

    Raises
    ------
    TrainingError
        A checkpoint of another configuration, a loss that is not finite, a batch that the processes cannot share.
    KeyboardInterrupt
        Passed on after the state has been saved.
    """
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    process, processes = accelerator.process_index, accelerator.num_processes
    if config.batch_size % processes:
        raise TrainingError(f"a batch of {config.batch_size} cannot be shared by {processes} processes")
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.01, fused=True)
    ema, history, step = Ema(network, config.ema_decay), History(), 0
    file = folder / "checkpoint.pt"
    if file.exists():
        step = _restore(file, network, optimiser, ema, history, config)
    network, optimiser = accelerator.prepare(network, optimiser)
    ema.weights = {name: value.to(accelerator.device) for name, value in ema.weights.items()}
    order = _Order(len(examples), config, start=step, process=process, processes=processes)
    loader: DataLoader[Batch] = DataLoader(examples, batch_sampler=order, num_workers=workers)  # type: ignore[arg-type]
    begun, first, bare = time.perf_counter(), step, accelerator.unwrap_model(network)

    def save() -> None:
        if accelerator.is_main_process:
            _save(file, bare, optimiser, ema, history, config, step)

    def score_if_due() -> None:
        last = history.held_out[-1][0] if history.held_out else 0
        if held_out is not None and step > last and (step % config.validate_every == 0 or step == config.steps):
            scores = score_held_out(bare, ema, held_out, schedule=schedule, prediction=prediction)
            history.held_out.append((step, scores))

    whole = True  # False while weights, optimiser, average and step number do not belong to one another
    try:
        score_if_due()  # what an interrupted run still owes
        for batch in loader:
            loss = _gradients(accelerator, network, optimiser, batch, schedule, prediction, config, step)
            whole = False
            if not math.isfinite(loss):
                raise TrainingError(f"the loss is {loss} at step {step}: lower learning_rate and start again")
            optimiser.step()
            ema.update(bare, step)
            step += 1
            history.running = loss if math.isnan(history.running) else 0.98 * history.running + 0.02 * loss
            if step % 50 == 0:
                history.train.append((step, history.running))
            whole = True
            score_if_due()
            if step % config.checkpoint_every == 0:
                save()
            if callback:
                seconds = (time.perf_counter() - begun) / (step - first)
                rate = config.batch_size / seconds
                callback(Progress(step, config.steps, history.running, rate, seconds * (config.steps - step)))
    finally:
        if whole:
            save()
    return ema, history


def _gradients(
    accelerator: Accelerator,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    schedule: NoiseSchedule,
    prediction: Prediction,
    config: TrainingConfig,
    step: int,
) -> float:
    """Gradients from this process's share of the batch; returns the loss averaged over the processes."""
    batch = {name: value.to(accelerator.device) for name, value in batch.items()}
    generator = _generator(config.seed, step, accelerator.process_index)
    t = torch.randint(schedule.num_timesteps, (len(batch["x_0"]),), generator=generator)
    t[torch.rand(len(t), generator=generator) < config.last_step_share] = schedule.num_timesteps - 1
    eps = torch.randn(batch["x_0"].shape, generator=generator).to(accelerator.device)
    t = t.to(accelerator.device)
    for group in optimiser.param_groups:
        group["lr"] = config.rate_at(step)
    optimiser.zero_grad(set_to_none=True)
    loss = _loss(network, batch, t, eps, schedule, prediction)
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(network.parameters(), config.gradient_clip)
    return float(accelerator.reduce(loss.detach(), reduction="mean"))


def _loss(
    network: Network, batch: Batch, t: Tensor, eps: Tensor, schedule: NoiseSchedule, prediction: Prediction
) -> Tensor:
    """L_simple over the gap, each pixel by its weight."""
    x_t = q_sample(batch["x_0"], t, eps, schedule)
    output = network(network_input(x_t, batch["condition"], batch["gap"]), t)
    region = batch["gap"] * batch["weight"]
    return l_simple(output, batch["x_0"], eps, t, schedule, prediction=prediction, region=region).mean()


@torch.no_grad()
def score_held_out(
    network: nn.Module,
    ema: Ema,
    examples: Examples,
    *,
    schedule: NoiseSchedule,
    prediction: Prediction,
    batch: int = 32,
) -> dict[str, float]:
    """Score the moving average on held-out examples, at fixed noise.

    Returns
    -------
    dict
        ``loss``: L_simple at timesteps spread evenly over the schedule. ``rmse_ratio``: root of the summed squared
        error of the prediction of x_0 made from pure noise over that of predicting zero, in tile units (spread times
        residual): below 1, one evaluation already beats the classical fill that the residual is counted from.
    """

    def smoothed(x: Tensor, t: Tensor) -> Tensor:
        # The network itself keeps its weights: an interruption in here must not put the average in their place.
        output: Tensor = functional_call(network, ema.weights, (x, t))
        return output

    losses, ours, zero = [], 0.0, 0.0
    device = next(network.parameters()).device
    for start in range(0, len(examples), batch):
        keys = range(start, min(start + batch, len(examples)))
        items = [examples[(0, i)] for i in keys]
        stack = {name: torch.stack([item[name] for item in items]).to(device) for name in items[0]}
        eps = torch.randn(stack["x_0"].shape, generator=_generator(start)).to(device)
        t = (torch.tensor(list(keys)) * schedule.num_timesteps // len(examples)).to(device)
        losses.append(float(_loss(smoothed, stack, t, eps, schedule, prediction)) * len(items))
        last = torch.full_like(t, schedule.num_timesteps - 1)
        x_t = q_sample(stack["x_0"], last, eps, schedule)
        output = smoothed(network_input(x_t, stack["condition"], stack["gap"]), last)
        pred_x_0 = predict_x_0(output, x_t, last, schedule, prediction=prediction)
        scale = stack["gap"] * stack["condition"][:, 1:2]
        ours += float((scale * (pred_x_0 - stack["x_0"])).square().sum())
        zero += float((scale * stack["x_0"]).square().sum())
    return {"loss": sum(losses) / len(examples), "rmse_ratio": math.sqrt(ours / max(zero, 1e-12))}


def _save(
    file: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    ema: Ema,
    history: History,
    config: TrainingConfig,
    step: int,
) -> None:
    """Write the state of a run, through a temporary name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    state: dict[str, Any] = {
        "step": step,
        "seed": config.seed,
        "batch_size": config.batch_size,
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "ema": ema.weights,
        "train": history.train,
        "held_out": history.held_out,
        "running": history.running,
    }
    temporary = file.with_suffix(".partial")
    torch.save(state, temporary)
    temporary.replace(file)


def _restore(
    file: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    ema: Ema,
    history: History,
    config: TrainingConfig,
) -> int:
    """Read the state of a run and return its step; more or fewer total steps are allowed, another seed is not."""
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
        if (state["seed"], state["batch_size"]) != (config.seed, config.batch_size):
            raise TrainingError(
                f"{file} is a run of seed {state['seed']} and batch size {state['batch_size']}, wanted "
                f"{config.seed} and {config.batch_size}: give another --run folder"
            )
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        ema.weights = state["ema"]
        history.train[:], history.held_out[:] = state["train"], state["held_out"]
        history.running = state.get("running", math.nan)
        return int(state["step"])
    except TrainingError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainingError(
            f"{file} is not a checkpoint of this network ({reason}): give another --run folder"
        ) from error
