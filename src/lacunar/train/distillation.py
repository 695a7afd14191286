"""Progressive distillation: a student that takes in one DDIM step what its teacher takes in two."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from lacunar.diffusion.losses import l_simple
from lacunar.diffusion.process import Prediction, eps_from_x_0, predict_x_0, q_sample
from lacunar.diffusion.samplers import plan
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.diffusion.solvers import Denoiser, ddim_sample
from lacunar.errors import TrainingError
from lacunar.models.checkpoint import Model
from lacunar.networks.conditioning import network_input
from lacunar.train.objectives import LEAST_SUM, SCORED_TOGETHER, Batch, Examples, Network, seeded, stacked

Precision = Literal["no", "bf16"]


def distillation_target(
    teacher: Denoiser,
    x_t: Tensor,
    t: Tensor,
    t_middle: Tensor,
    t_next: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
) -> Tensor:
    """Give the x_0 that takes a student in one DDIM step where two steps of the teacher lead (Algorithm 2).

    x̃_0 = (x_{t''} - (σ_{t''} / σ_t) x_t) / (α_{t''} - (σ_{t''} / σ_t) α_t), where the teacher goes from t by t' to t''.

    Parameters
    ----------
    teacher
        The network that is distilled.
    x_t
        Noisy images (B, C, H, W).
    t, t_middle, t_next
        Steps of ``schedule``, LongTensors (B,), each at most the one before; -1 is the clean image.
    schedule, prediction
        The training schedule, and what the teacher predicts.

    Returns
    -------
    torch.Tensor
        x̃_0, of the shape of ``x_t``.

    References
    ----------
    Salimans & Ho 2022, "Progressive distillation for fast sampling of diffusion models", arXiv 2202.00512.
    """
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
    """Teach a gap-filling network to do with half the steps what its teacher does.

    Examples are those of `lacunar.train.objectives.GapObjective`. Repeated, each time from the last student, 8 steps
    become
    4, 2 and 1.

    Parameters
    ----------
    schedule, prediction
        The noise schedule, and what both networks predict.
    teacher
        The network to learn from; it stays as it is.
    steps
        Steps of the student, which lie as those of ``lacunar.diffusion.samplers.plan("ddim", steps)``; the teacher
        takes twice as
        many, every second of them a step of the student.
    teacher_precision
        ``bf16`` lets the teacher compute in bfloat16.

    Raises
    ------
    TrainingError
        Fewer than one step, or more than half of the schedule has.
    """

    schedule: NoiseSchedule
    prediction: Prediction
    teacher: nn.Module
    steps: int
    teacher_precision: Precision = "no"

    def __post_init__(self) -> None:
        """Check the steps, and let nothing train the teacher."""
        most = self.schedule.num_timesteps // 2
        if not 1 <= self.steps <= most:
            raise TrainingError(f"a student of {self.steps} steps: wanted 1 to {most}, half of those of its teacher")
        self.teacher.eval().requires_grad_(False)

    @classmethod
    def of_model(
        cls, model: Model, schedule: NoiseSchedule, prediction: Prediction, *, steps: int, precision: Precision
    ) -> Self:
        """Make the objective of a student that is trained on this schedule and prediction as the model was.

        Raises
        ------
        TrainingError
            The model was trained on another schedule or predicts something else.
        """
        same = np.array_equal(model.schedule.betas, schedule.betas)
        if not same or model.prediction != prediction:
            raise TrainingError(
                f"{model.name} predicts {model.prediction} over {model.schedule.num_timesteps} steps, wanted "
                f"{prediction} over the recipe's own {schedule.num_timesteps}: distil a model of this recipe"
            )
        network = copy.deepcopy(model.network)
        return cls(schedule=schedule, prediction=prediction, teacher=network, steps=steps, teacher_precision=precision)

    def loss(self, network: Network, batch: Batch, *, step: int, generator: torch.Generator) -> Tensor:
        """Squared distance to the teacher's answer at random steps of the student's sampler."""
        del step
        rung = torch.randint(self.steps, (len(batch["x_0"]),), generator=generator)
        eps = torch.randn(batch["x_0"].shape, generator=generator).to(batch["x_0"])
        return self._loss(network, batch, rung, eps)

    def _loss(self, network: Network, batch: Batch, rung: Tensor, eps: Tensor) -> Tensor:
        """The loss at these steps of the student's schedule with this noise."""
        device, grid = eps.device, torch.from_numpy(np.append(-1, self._thinned(2 * self.steps).timesteps))
        t_next, t_middle, t = (grid[2 * rung + i] for i in range(3))
        x_t = q_sample(batch["x_0"], t, eps, self.schedule)
        with torch.no_grad(), self._autocast(device):
            target = distillation_target(
                self._given(self.teacher.to(device), batch),
                x_t,
                t.to(device),
                t_middle.to(device),
                t_next.to(device),
                self.schedule,
                prediction=self.prediction,
            )
        output = self._given(network, batch)(x_t, t.to(device))
        target_eps = eps_from_x_0(x_t, t, target, self.schedule)
        region = batch["gap"] * batch["weight"]
        return l_simple(output, target, target_eps, t, self.schedule, prediction=self.prediction, region=region).mean()

    @torch.no_grad()
    def score(self, network: Network, examples: Examples, *, device: torch.device) -> dict[str, float]:
        """Score a student at fixed noise.

        Returns
        -------
        dict
            ``loss``: as in training. ``from_teacher``: root mean square over the gap of the difference between the
            student's sample and the teacher's, which starts from the same noise and takes twice the steps, over that of
            the teacher's sample; ``unchanged_from_teacher``: the same of the teacher itself at the student's steps.
        """
        losses, student, unchanged, size = [], 0.0, 0.0, 0.0
        for start, stack in stacked(examples, SCORED_TOGETHER, device):
            eps = torch.randn(stack["x_0"].shape, generator=seeded(start)).to(device)
            rung = (start + torch.arange(len(eps))) % self.steps
            losses.append(float(self._loss(network, stack, rung, eps)) * len(eps))
            teacher = self.teacher.to(device)
            truth = self._sampled(teacher, stack, eps, 2 * self.steps)
            student += float(stack["gap"].mul(self._sampled(network, stack, eps, self.steps) - truth).square().sum())
            unchanged += float(stack["gap"].mul(self._sampled(teacher, stack, eps, self.steps) - truth).square().sum())
            size += float(stack["gap"].mul(truth).square().sum())
        return {
            "loss": sum(losses) / len(examples),
            "from_teacher": (student / max(size, LEAST_SUM)) ** 0.5,
            "unchanged_from_teacher": (unchanged / max(size, LEAST_SUM)) ** 0.5,
        }

    def _thinned(self, steps: int) -> NoiseSchedule:
        """The steps that a model is sampled with, so that a student is taught just where it will be asked."""
        return plan("ddim", steps).thinned(self.schedule)

    def _sampled(self, network: Network, batch: Batch, x_T: Tensor, steps: int) -> Tensor:
        """A sample by DDIM from this noise."""
        given, schedule = self._given(network, batch), self._thinned(steps)
        with self._autocast(x_T.device):
            return ddim_sample(given, x_T, schedule, prediction=self.prediction)

    def _autocast(self, device: torch.device) -> torch.autocast:
        """The precision that the teacher computes in."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.teacher_precision == "bf16")

    @staticmethod
    def _given(network: Network, batch: Batch) -> Denoiser:
        """The network beside what is known of these examples."""

        def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
            output: Tensor = network(network_input(x_t, batch["condition"], batch["gap"]), t).float()
            return output

        return denoiser
