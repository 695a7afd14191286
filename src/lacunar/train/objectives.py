"""What a network is trained towards: the loss of a batch, and the scores of held-out examples.

An objective joins a network, a noise schedule and a prediction; `lacunar.train.loop` knows only its two methods.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from lacunar.diffusion.losses import l_hybrid, l_simple, l_vlb
from lacunar.diffusion.process import Prediction, eps_from_x_0, predict_x_0, q_sample
from lacunar.diffusion.samplers import plan
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.diffusion.solvers import Denoiser, ddim_sample
from lacunar.errors import TrainingError
from lacunar.networks.layers import network_input

Batch = dict[str, Tensor]
Network = Callable[..., Any]
ObjectiveName = Literal["simple", "hybrid"]

SCORED_TOGETHER = 32  # held-out examples in one call of the network
LEAST_SUM = 1e-12  # keeps a ratio finite where there is nothing to compare with
CALIBRATION_THINNING = 8  # one pixel in so many is enough to fit two numbers
NEWTON_STEPS = 12
LARGEST_FIT = 100.0  # scale or shift of logits
CROSS_ENTROPY_WEIGHT = 10.0  # beside dice (MedSegDiff-V2, section 3.4)
COVER_WEIGHT = 2.0  # of the cross-entropy of what is not water


class Examples(Protocol):
    """A data set whose items are chosen by (epoch, index) alone."""

    def __len__(self) -> int:
        """Number of items."""

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        """One example: tensors by name, as the objective wants them."""


class Objective(Protocol):
    """The loss of a batch, and the scores of held-out examples."""

    def loss(self, network: Network, batch: Batch, *, step: int, generator: torch.Generator) -> Tensor:
        """Loss of one batch (a scalar) at a step; all randomness comes from the generator, on the CPU."""

    def score(self, network: Network, examples: Examples, *, device: torch.device) -> dict[str, float]:
        """Scores of a network that lives on a device, at fixed noise; one of them is called ``loss``."""


def seeded(*seeds: int) -> torch.Generator:
    """A generator whose seed is folded from all the numbers, into 63 bits, by a polynomial hash."""
    value = 0
    for seed in seeds:
        value = (value * 6364136223846793005 + seed + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(value)


def draw_noise(
    x_0: Tensor, num_timesteps: int, last_step_share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Timesteps (B,) on the CPU, a share of them the noisiest one, and standard normal noise of the shape of ``x_0``.

    A GPU draws the noise itself, from a seed of the generator: its values differ from those that a CPU draws.
    """
    t = torch.randint(num_timesteps, (len(x_0),), generator=generator)
    t[torch.rand(len(t), generator=generator) < last_step_share] = num_timesteps - 1
    if x_0.device.type != "cuda":
        return t, torch.randn(x_0.shape, generator=generator).to(x_0.device)
    there = torch.Generator(x_0.device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
    return t, torch.randn(x_0.shape, generator=there, device=x_0.device)


def stacked(examples: Examples, together: int, device: torch.device) -> Iterator[tuple[int, Batch]]:
    """All examples of epoch 0 in batches, in order, each with the number of its first example."""
    for start in range(0, len(examples), together):
        items = [examples[(0, i)] for i in range(start, min(start + together, len(examples)))]
        yield start, {name: torch.stack([item[name] for item in items]).to(device) for name in items[0]}


def denoiser_of(network: Network, batch: Batch) -> Denoiser:
    """The network, given what is known of these examples; unconditional where a batch holds ``x_0`` alone."""

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        given = network_input(x_t, batch["condition"], batch["missing"]) if "condition" in batch else x_t
        output: Tensor = network(given, t.to(x_t.device)).float()
        return output

    return denoiser


@dataclass(frozen=True, kw_only=True)
class DenoisingObjective:
    """Restore what is missing from what surrounds it, or learn whole images: L_simple or L_hybrid.

    An example of a conditional network holds ``x_0`` (C, H, W), ``condition`` (C + 1, H, W or more: mean, sigma,
    whatever else is known), ``missing`` and ``weight`` (1, H, W); the loss counts missing pixels, each by its weight.
    An example of an unconditional network holds ``x_0`` alone. ``hybrid`` also teaches a learned variance (Nichol &
    Dhariwal 2021, Eq. 16).
    """

    schedule: NoiseSchedule
    prediction: Prediction
    objective: ObjectiveName = "simple"
    last_step_share: float = 0.2  # of the examples are at the noisiest timestep, where pred_x_0 is the posterior mean

    def loss(self, network: Network, batch: Batch, *, step: int, generator: torch.Generator) -> Tensor:
        """The loss at random timesteps."""
        t, eps = draw_noise(batch["x_0"], self.schedule.num_timesteps, self.last_step_share, generator)
        x_t = q_sample(batch["x_0"], t, eps, self.schedule)
        return self._loss(denoiser_of(network, batch)(x_t, t), batch, t, eps)

    def _loss(self, output: Tensor, batch: Batch, t: Tensor, eps: Tensor) -> Tensor:
        x_0, region = batch["x_0"], _region(batch)
        if self.objective == "simple":
            loss = l_simple(output, x_0, eps, t, self.schedule, prediction=self.prediction, region=region)
        else:
            loss = l_hybrid(
                output, x_0, eps, t, self.schedule, prediction=self.prediction, discretised=False, region=region
            )
        return loss.mean()

    @torch.no_grad()
    def score(self, network: Network, examples: Examples, *, device: torch.device) -> dict[str, float]:
        """Score a network at fixed noise.

        ``loss`` is that of timesteps spread evenly over the schedule. ``rmse_ratio``, of a conditional network, is the
        error of x_0 predicted from pure noise over that of predicting zero, both times sigma: below 1, one evaluation
        beats the classical fill. ``vlb``, of L_hybrid, is L_vlb summed over the schedule, in bits per value; it
        compares only models of one scaling.
        """
        losses, bound, ours, zero, steps = 0.0, 0.0, 0.0, 0.0, self.schedule.num_timesteps
        for start, stack in stacked(examples, SCORED_TOGETHER, device):
            x_0, denoiser = stack["x_0"], denoiser_of(network, stack)
            eps = torch.randn(x_0.shape, generator=seeded(start)).to(device)
            t = (start + torch.arange(len(eps))) * steps // len(examples)
            x_t = q_sample(x_0, t, eps, self.schedule)
            output = denoiser(x_t, t)
            losses += float(self._loss(output, stack, t, eps)) * len(eps)
            if self.objective == "hybrid":
                options: dict[str, Any] = {"prediction": self.prediction, "discretised": False}
                terms = l_vlb(output, x_0, x_t, t, self.schedule, region=_region(stack), **options)
                bound += float(terms.sum()) * steps
            if "condition" in stack:
                last = torch.full_like(t, steps - 1)
                x_t = q_sample(x_0, last, eps, self.schedule)
                pred_x_0 = predict_x_0(denoiser(x_t, last), x_t, last, self.schedule, prediction=self.prediction)
                channels = x_0.shape[1]
                scale = stack["missing"] * stack["condition"][:, channels : channels + 1]
                ours += float((scale * (pred_x_0 - x_0)).square().sum())
                zero += float((scale * x_0).square().sum())
        scores = {"loss": losses / len(examples)}
        if self.objective == "hybrid":
            scores["vlb"] = bound / len(examples)
        if ours or zero:
            scores["rmse_ratio"] = math.sqrt(ours / max(zero, LEAST_SUM))
        return scores


def _region(batch: Batch) -> Tensor | None:
    """Weights of the pixels in a loss; None where all count the same."""
    return batch["missing"] * batch["weight"] if "missing" in batch else None


@dataclass(frozen=True, kw_only=True)
class SegmentationObjective:
    """Restore noisy masks of what an image shows, and let the image's own network answer too.

    The network is ``network(image, x_t, t)`` -> prediction of x_0 (B, 1, H, W) and logits (B, K, H, W), the first that
    of water; an example holds ``image`` (6, H, W), ``mask`` and ``valid`` (1, H, W), and ``cover`` (1, H, W): which of
    the other logits a pixel belongs to, counted from 0, or -1 where that is not known.
    """

    schedule: NoiseSchedule
    mask_scale: float  # a mask is plus or minus this
    diffuses: bool = True  # False: a plain segmenter, of which the logits alone are trained
    last_step_share: float = 0.3  # of the examples are at the noisiest timestep, where only the image is known
    anchor_every: int = 5  # steps: dice + 10 cross-entropy of the logits (Wu et al. 2023, section 3.4)

    def loss(self, network: Network, batch: Batch, *, step: int, generator: torch.Generator) -> Tensor:
        """Squared error of x_0 in units of the mask scale, and at every ``anchor_every``-th step the anchor loss."""
        x_0 = (2 * batch["mask"] - 1) * self.mask_scale
        t, eps = draw_noise(x_0, self.schedule.num_timesteps, self.last_step_share, generator)
        pred_x_0, logits = network(batch["image"], q_sample(x_0, t, eps, self.schedule), t.to(x_0.device))
        anchor = anchor_loss(logits[:, :1], batch["mask"], batch["valid"])
        if logits.shape[1] > 1:
            anchor = anchor + cover_loss(logits[:, 1:], batch["cover"])
        if not self.diffuses:
            return anchor
        error = ((pred_x_0 - x_0) / self.mask_scale).square()
        noise_loss: Tensor = (error * batch["valid"]).sum() / batch["valid"].sum().clamp(min=1)
        if step % self.anchor_every:
            return noise_loss
        return noise_loss + anchor

    @torch.no_grad()
    def score(self, network: Network, examples: Examples, *, device: torch.device) -> dict[str, float]:
        """Score a network at fixed noise.

        ``loss`` is the squared error of x_0 (of a plain segmenter the anchor loss); ``iou`` and ``anchor_iou`` are the
        pooled IoU of water, predicted from pure noise and by the logits.
        """
        losses, ours, anchors = 0.0, torch.zeros(2), torch.zeros(2)
        for start, stack in stacked(examples, SCORED_TOGETHER, device):
            x_0 = (2 * stack["mask"] - 1) * self.mask_scale
            t = torch.full((len(x_0),), self.schedule.num_timesteps - 1, device=device)
            eps = torch.randn(x_0.shape, generator=seeded(start)).to(device)
            pred_x_0, every = network(stack["image"], q_sample(x_0, t, eps, self.schedule), t)
            logits = every[:, :1]
            error = ((pred_x_0 - x_0) / self.mask_scale).square() * stack["valid"]
            plain = anchor_loss(logits, stack["mask"], stack["valid"])
            losses += float(error.sum() / stack["valid"].sum().clamp(min=1) if self.diffuses else plain) * len(x_0)
            ours += _overlap(pred_x_0 > 0, stack)
            anchors += _overlap(logits > 0, stack)
        iou, anchor_iou = (float(counts[0] / counts[1].clamp(min=1)) for counts in (ours, anchors))
        return {"loss": losses / len(examples), "iou": iou, "anchor_iou": anchor_iou}


@torch.no_grad()
def logit_calibration(
    logits_of: Callable[[Tensor], Tensor], examples: Examples, *, device: torch.device
) -> tuple[float, float]:
    """Scale and shift of a segmenter's logits that make its probabilities true on held-out examples.

    Maximum likelihood of sigmoid(scale logit + shift), by Newton's method (Platt 1999); 1 and 0 where there is none.
    ``logits_of`` takes images (B, 6, H, W) to logits (B, 1, H, W); the examples are those of `SegmentationObjective`.
    """
    logits, masks = [], []
    for _, stack in stacked(examples, SCORED_TOGETHER, device):
        known = stack["valid"] > 0
        logits.append(logits_of(stack["image"])[known][::CALIBRATION_THINNING].double())
        masks.append(stack["mask"][known][::CALIBRATION_THINNING].double())
    given = torch.stack([torch.cat(logits), torch.ones_like(torch.cat(logits))], dim=1)
    truth, fit = torch.cat(masks), torch.tensor([1.0, 0.0], dtype=torch.float64, device=device)
    for _ in range(NEWTON_STEPS):
        claimed = torch.sigmoid(given @ fit)
        curvature = given.T @ (given * (claimed * (1 - claimed))[:, None]) + 1e-3 * torch.eye(2, device=device)
        fit = fit + torch.linalg.solve(curvature, given.T @ (truth - claimed))
    # Separable examples have no maximum: Newton's steps diverge.
    return (float(fit[0]), float(fit[1])) if bool((fit.abs() < LARGEST_FIT).all()) else (1.0, 0.0)


def anchor_loss(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """Dice + 10 cross-entropy of logits against a mask of 0 and 1, where valid; all (B, 1, H, W)."""
    weight = valid / valid.sum().clamp(min=1)
    entropy = (binary_cross_entropy_with_logits(logits.float(), mask, reduction="none") * weight).sum()
    share = torch.sigmoid(logits.float()) * valid
    both, total = (share * mask).sum(), share.sum() + (mask * valid).sum()
    dice = 1 - (2 * both + 1) / (total + 1)
    return dice + CROSS_ENTROPY_WEIGHT * entropy


def cover_loss(logits: Tensor, cover: Tensor) -> Tensor:
    """Weighted cross-entropy of logits (B, K, H, W) where the class is known: cover (B, 1, H, W), -1 unknown."""
    total = cross_entropy(logits.float(), cover[:, 0].long(), ignore_index=-1, reduction="sum")
    return COVER_WEIGHT * total / (cover >= 0).sum().clamp(min=1)


def _overlap(water: Tensor, stack: Batch) -> Tensor:
    """Pixels of the intersection and of the union with the truth."""
    valid, truth = stack["valid"] > 0, stack["mask"] > 0
    return torch.tensor([float((water & truth & valid).sum()), float(((water | truth) & valid).sum())])


# --- progressive distillation ---


def distillation_target(
    teacher: Denoiser,
    x_t: Tensor,
    times: tuple[Tensor, Tensor, Tensor],
    schedule: NoiseSchedule,
    prediction: Prediction,
) -> Tensor:
    """The x_0 that takes a student in one DDIM step where two steps of the teacher lead (Algorithm 2).

    x̃_0 = (x_{t''} - (σ_{t''} / σ_t) x_t) / (α_{t''} - (σ_{t''} / σ_t) α_t), where the teacher goes from t by t' to
    t'': ``times``, LongTensors (B,), each at most the one before; -1 is the clean image. Salimans & Ho 2022,
    "Progressive distillation for fast sampling of diffusion models", arXiv 2202.00512.
    """
    t, t_middle, t_next = times
    x_middle = _ddim_step(teacher, x_t, t, t_middle, schedule, prediction)
    x_next = _ddim_step(teacher, x_middle, t_middle, t_next, schedule, prediction)
    (alpha, sigma), (alpha_next, sigma_next) = _scales(t, x_t, schedule), _scales(t_next, x_t, schedule)
    ratio = sigma_next / sigma
    return (x_next - ratio * x_t) / (alpha_next - ratio * alpha)


def _ddim_step(
    denoiser: Denoiser, x_t: Tensor, t: Tensor, t_next: Tensor, schedule: NoiseSchedule, prediction: Prediction
) -> Tensor:
    """One step of DDIM (Song et al. 2021, Eq. 12 at η = 0) in which each image has times of its own."""
    x_0 = predict_x_0(denoiser(x_t, t), x_t, t.cpu(), schedule, prediction=prediction)
    alpha, sigma = _scales(t_next, x_t, schedule)
    return alpha * x_0 + sigma * eps_from_x_0(x_t, t.cpu(), x_0, schedule)


def _scales(t: Tensor, like: Tensor, schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    """√ᾱ and √(1 - ᾱ) at each time, (B, 1, 1, 1); 1 and 0 at -1."""
    kept = torch.cat([torch.ones(1, dtype=torch.float64), torch.from_numpy(schedule.alphas_cumprod.copy())])
    alpha_bar = kept[t.cpu() + 1].to(like)[:, None, None, None]
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


@dataclass(frozen=True, kw_only=True)
class DistillationObjective:
    """Teach a gap-filling network to do in half the steps what its teacher does, on the examples of a plain training.

    Repeated, each time from the last student, 8 steps become 4, 2 and 1. The student's steps are every second one of
    the teacher's, by ``lacunar.diffusion.samplers.plan``. Fewer than one step, or more than half of the schedule's, is
    a ``TrainingError``.
    """

    schedule: NoiseSchedule
    prediction: Prediction
    teacher: nn.Module  # of the same schedule and prediction; it stays as it is
    steps: int  # of the student
    teacher_precision: Literal["no", "bf16"] = "no"

    def __post_init__(self) -> None:
        most = self.schedule.num_timesteps // 2
        if not 1 <= self.steps <= most:
            raise TrainingError(f"a student of {self.steps} steps: wanted 1 to {most}, half of those of its teacher")
        self.teacher.eval().requires_grad_(False)

    def loss(self, network: Network, batch: Batch, *, step: int, generator: torch.Generator) -> Tensor:
        """Squared distance to the teacher's answer at random steps of the student's sampler."""
        rung = torch.randint(self.steps, (len(batch["x_0"]),), generator=generator)
        eps = torch.randn(batch["x_0"].shape, generator=generator).to(batch["x_0"])
        return self._loss(network, batch, rung, eps)

    def _loss(self, network: Network, batch: Batch, rung: Tensor, eps: Tensor) -> Tensor:
        device, grid = eps.device, torch.from_numpy(np.append(-1, self._respaced(2 * self.steps).timesteps))
        t_next, t_middle, t = (grid[2 * rung + i] for i in range(3))
        x_t = q_sample(batch["x_0"], t, eps, self.schedule)
        times = (t.to(device), t_middle.to(device), t_next.to(device))
        with torch.no_grad(), self._autocast(device):
            teacher = denoiser_of(self.teacher.to(device), batch)
            target = distillation_target(teacher, x_t, times, self.schedule, self.prediction)
        output = denoiser_of(network, batch)(x_t, times[0])
        target_eps = eps_from_x_0(x_t, t, target, self.schedule)
        region = _region(batch)
        return l_simple(output, target, target_eps, t, self.schedule, prediction=self.prediction, region=region).mean()

    @torch.no_grad()
    def score(self, network: Network, examples: Examples, *, device: torch.device) -> dict[str, float]:
        """Score a student at fixed noise.

        ``from_teacher`` compares its sample with the teacher's, from the same noise in twice the steps: root mean
        square of the difference where pixels are missing, over that of the teacher's sample. ``unchanged_from_teacher``
        is the same of the teacher itself in the student's steps.
        """
        losses, student, unchanged, size = 0.0, 0.0, 0.0, 0.0
        for start, stack in stacked(examples, SCORED_TOGETHER, device):
            eps = torch.randn(stack["x_0"].shape, generator=seeded(start)).to(device)
            rung = (start + torch.arange(len(eps))) % self.steps
            losses += float(self._loss(network, stack, rung, eps)) * len(eps)
            teacher, missing = self.teacher.to(device), stack["missing"]
            truth = self._sampled(teacher, stack, eps, 2 * self.steps)
            student += float(missing.mul(self._sampled(network, stack, eps, self.steps) - truth).square().sum())
            unchanged += float(missing.mul(self._sampled(teacher, stack, eps, self.steps) - truth).square().sum())
            size += float(missing.mul(truth).square().sum())
        return {
            "loss": losses / len(examples),
            "from_teacher": (student / max(size, LEAST_SUM)) ** 0.5,
            "unchanged_from_teacher": (unchanged / max(size, LEAST_SUM)) ** 0.5,
        }

    def _respaced(self, steps: int) -> NoiseSchedule:
        """The steps at which a model is sampled: a student is taught where it will be asked."""
        return plan("ddim", steps).thinned(self.schedule)

    def _sampled(self, network: Network, batch: Batch, x_T: Tensor, steps: int) -> Tensor:
        with self._autocast(x_T.device):
            return ddim_sample(denoiser_of(network, batch), x_T, self._respaced(steps), prediction=self.prediction)

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.teacher_precision == "bf16")
