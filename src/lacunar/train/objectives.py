"""What a network is trained towards: the loss of a batch, and the scores of held-out examples.

An objective joins a network, a noise schedule and a prediction; `lacunar.train.loop` knows only its two methods.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lacunar.diffusion.losses import l_simple
from lacunar.diffusion.process import Prediction, predict_x_0, q_sample
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.networks.conditioning import network_input

Batch = dict[str, Tensor]
Network = Callable[..., Any]

SCORED_TOGETHER = 32  # held-out examples in one call of the network
LEAST_SUM = 1e-12  # in the denominator of a ratio of sums of squares, where there is nothing to compare with
CALIBRATION_THINNING = 8  # one pixel in so many decides on two numbers
NEWTON_STEPS = 12
CROSS_ENTROPY_WEIGHT = 10.0  # beside dice (MedSegDiff-V2, section 3.4)


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
    """A generator that depends on all the numbers: they are folded into 63 bits by a polynomial hash."""
    value = 0
    for seed in seeds:
        value = (value * 6364136223846793005 + seed + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(value)


def draw_noise(
    x_0: Tensor, num_timesteps: int, last_step_share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Timesteps (B,), a share of them the noisiest one, and standard normal noise of the shape of ``x_0``."""
    t = torch.randint(num_timesteps, (len(x_0),), generator=generator)
    t[torch.rand(len(t), generator=generator) < last_step_share] = num_timesteps - 1
    return t.to(x_0.device), torch.randn(x_0.shape, generator=generator).to(x_0.device)


def stacked(examples: Examples, together: int, device: torch.device) -> Iterator[tuple[int, Batch]]:
    """All examples of epoch 0 in batches, in order, each with the number of its first example."""
    for start in range(0, len(examples), together):
        items = [examples[(0, i)] for i in range(start, min(start + together, len(examples)))]
        yield start, {name: torch.stack([item[name] for item in items]).to(device) for name in items[0]}


@dataclass(frozen=True, kw_only=True)
class GapObjective:
    """Restore a gap from what surrounds it: L_simple over the gap, each pixel by its weight.

    The network is ``network(network_input(...), t)`` -> (B, C, H, W); an example holds ``x_0`` (C, H, W), ``condition``
    (C + 1, H, W or more: base, spread, whatever else is known), ``gap`` and ``weight`` (1, H, W).

    Parameters
    ----------
    schedule, prediction
        The noise schedule, and what the network predicts.
    last_step_share
        Share of the examples at the noisiest timestep, where the prediction of x_0 is the posterior mean itself.
    """

    schedule: NoiseSchedule
    prediction: Prediction
    last_step_share: float = 0.2

    def loss(self, network: Network, batch: Batch, *, step: int, generator: torch.Generator) -> Tensor:
        """L_simple at random timesteps; the step plays no part."""
        del step
        t, eps = draw_noise(batch["x_0"], self.schedule.num_timesteps, self.last_step_share, generator)
        return self._loss(network, batch, t, eps)

    def _loss(self, network: Network, batch: Batch, t: Tensor, eps: Tensor) -> Tensor:
        """L_simple at these timesteps with this noise."""
        x_t = q_sample(batch["x_0"], t, eps, self.schedule)
        output = network(network_input(x_t, batch["condition"], batch["gap"]), t)
        region = batch["gap"] * batch["weight"]
        loss = l_simple(output, batch["x_0"], eps, t, self.schedule, prediction=self.prediction, region=region)
        return loss.mean()

    @torch.no_grad()
    def score(self, network: Network, examples: Examples, *, device: torch.device) -> dict[str, float]:
        """Score a network at fixed noise.

        Returns
        -------
        dict
            ``loss``: L_simple at timesteps spread evenly over the schedule. ``rmse_ratio``: root of the summed squared
            error of the prediction of x_0 made from pure noise over that of predicting zero, in tile units (spread
            times residual): below 1, one evaluation already beats the classical fill that the residual is counted from.
        """
        losses, ours, zero, steps = [], 0.0, 0.0, self.schedule.num_timesteps
        for start, stack in stacked(examples, SCORED_TOGETHER, device):
            eps = torch.randn(stack["x_0"].shape, generator=seeded(start)).to(device)
            t = ((start + torch.arange(len(eps))) * steps // len(examples)).to(device)
            losses.append(float(self._loss(network, stack, t, eps)) * len(eps))
            last = torch.full_like(t, steps - 1)
            x_t = q_sample(stack["x_0"], last, eps, self.schedule)
            output = network(network_input(x_t, stack["condition"], stack["gap"]), last)
            pred_x_0 = predict_x_0(output, x_t, last, self.schedule, prediction=self.prediction)
            channels = stack["x_0"].shape[1]
            scale = stack["gap"] * stack["condition"][:, channels : channels + 1]
            ours += float((scale * (pred_x_0 - stack["x_0"])).square().sum())
            zero += float((scale * stack["x_0"]).square().sum())
        return {"loss": sum(losses) / len(examples), "rmse_ratio": math.sqrt(ours / max(zero, LEAST_SUM))}


@dataclass(frozen=True, kw_only=True)
class SegmentationObjective:
    """Restore noisy masks of what an image shows, and let the image's own network answer too.

    The network is ``network(image, x_t, t)`` -> prediction of x_0 (B, 1, H, W) and logits (B, 1, H, W); an example
    holds ``image`` (6, H, W), ``mask`` and ``valid`` (1, H, W). Where ``diffuses`` is False only the logits are
    trained.

    Parameters
    ----------
    schedule
        The noise schedule; the network predicts x_0.
    mask_scale
        A mask is plus or minus this.
    diffuses
        Whether the network restores masks, or is a plain segmenter.
    last_step_share
        Share of the examples at the noisiest timestep, where nothing but the image is known.
    anchor_every
        The logits are supervised themselves every so many steps: dice + 10 cross-entropy (Wu et al. 2023, section 3.4).
    """

    schedule: NoiseSchedule
    mask_scale: float
    diffuses: bool = True
    last_step_share: float = 0.3
    anchor_every: int = 5

    def loss(self, network: Network, batch: Batch, *, step: int, generator: torch.Generator) -> Tensor:
        """Squared error of x_0 in units of the mask scale, and at every ``anchor_every``-th step the anchor loss."""
        x_0 = (2 * batch["mask"] - 1) * self.mask_scale
        t, eps = draw_noise(x_0, self.schedule.num_timesteps, self.last_step_share, generator)
        pred_x_0, logits = network(batch["image"], q_sample(x_0, t, eps, self.schedule), t)
        if not self.diffuses:
            return anchor_loss(logits, batch["mask"], batch["valid"])
        error = ((pred_x_0 - x_0) / self.mask_scale).square()
        noise_loss: Tensor = (error * batch["valid"]).sum() / batch["valid"].sum().clamp(min=1)
        if step % self.anchor_every:
            return noise_loss
        return noise_loss + anchor_loss(logits, batch["mask"], batch["valid"])

    @torch.no_grad()
    def score(self, network: Network, examples: Examples, *, device: torch.device) -> dict[str, float]:
        """Score a network on held-out examples at fixed noise.

        Returns
        -------
        dict
            ``loss``: squared error of x_0 (a plain segmenter: anchor loss); ``iou``: pooled IoU of water of the
            prediction from pure noise; ``anchor_iou``: the same of the logits.
        """
        losses, ours, anchors = [], torch.zeros(2), torch.zeros(2)
        for start, stack in stacked(examples, SCORED_TOGETHER, device):
            x_0 = (2 * stack["mask"] - 1) * self.mask_scale
            t = torch.full((len(x_0),), self.schedule.num_timesteps - 1, device=device)
            eps = torch.randn(x_0.shape, generator=seeded(start)).to(device)
            pred_x_0, logits = network(stack["image"], q_sample(x_0, t, eps, self.schedule), t)
            error = ((pred_x_0 - x_0) / self.mask_scale).square() * stack["valid"]
            plain = anchor_loss(logits, stack["mask"], stack["valid"])
            losses.append(float(error.sum() / stack["valid"].sum().clamp(min=1) if self.diffuses else plain) * len(x_0))
            ours += _overlap(pred_x_0 > 0, stack)
            anchors += _overlap(logits > 0, stack)
        shares = {"iou": ours, "anchor_iou": anchors}
        return {"loss": sum(losses) / len(examples)} | {
            name: float(counts[0] / counts[1].clamp(min=1)) for name, counts in shares.items()
        }


@torch.no_grad()
def logit_calibration(
    logits_of: Callable[[Tensor], Tensor], examples: Examples, *, device: torch.device
) -> tuple[float, float]:
    """Scale and shift of a segmenter's logits that make its probabilities true on held-out examples.

    Maximum likelihood of sigmoid(scale logit + shift), by Newton's method (Platt 1999).

    Parameters
    ----------
    logits_of
        Images (B, 6, H, W) -> logits (B, 1, H, W).
    examples
        As `SegmentationObjective` takes them.
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
    return float(fit[0]), float(fit[1])


def anchor_loss(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """Dice + 10 cross-entropy of logits against a mask of 0 and 1, where valid; all (B, 1, H, W)."""
    weight = valid / valid.sum().clamp(min=1)
    entropy = (binary_cross_entropy_with_logits(logits.float(), mask, reduction="none") * weight).sum()
    share = torch.sigmoid(logits.float()) * valid
    both, total = (share * mask).sum(), share.sum() + (mask * valid).sum()
    dice = 1 - (2 * both + 1) / (total + 1)
    return dice + CROSS_ENTROPY_WEIGHT * entropy


def _overlap(water: Tensor, stack: Batch) -> Tensor:
    """Pixels of the intersection and of the union with the truth."""
    valid, truth = stack["valid"] > 0, stack["mask"] > 0
    return torch.tensor([float((water & truth & valid).sum()), float(((water | truth) & valid).sum())])
