"""The training losses L_simple, L_vlb and L_hybrid: one value per image, from what a denoiser put out.

Images are (B, C, H, W), ``t`` is a LongTensor (B,) into the schedule; ``output`` is what the denoiser gave for
x_t = ``q_sample(x_0, t, eps, schedule)``: (B, C, H, W), or (B, 2C, H, W) with learned variance. A ``region`` (bool or
non-negative weights that broadcast to x_0) restricts the mean over pixels; an image whose region is empty has loss 0.
The mean over the batch is the caller's: ``l_hybrid(...).mean()``. What does not fit is a `ModelError`.

References: Ho, Jain & Abbeel 2020, arXiv 2006.11239; Nichol & Dhariwal 2021, arXiv 2102.09672.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lacunar.diffusion.process import (
    Prediction,
    p_mean_variance,
    q_posterior,
    q_sample,
    split_output,
    training_target,
)
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import ModelError

VLB_WEIGHT = 0.001  # lambda of Nichol & Dhariwal 2021, section 3.1
HALF_BIN = 1 / 255  # 8-bit data on [-1, 1] lie on bins 2/255 wide (Ho et al. 2020, section 3.3)


def l_simple(
    output: Tensor,
    x_0: Tensor,
    eps: Tensor,
    t: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
    region: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the prediction: ‖ε - ε_θ(x_t, t)‖² per value (Ho et al. 2020, Eq. 14), or that of v or x_0.

    A learned variance is ignored. Returns the loss of each image, (B,).

    >>> x_0, eps = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    >>> l_simple(torch.zeros(2, 1, 4, 4), x_0, eps, torch.tensor([0, 9]), NoiseSchedule.cosine(10)).tolist()
    [1.0, 1.0]
    """
    _check_pair(x_0, eps)
    predicted, _ = split_output(output, x_0)
    target = training_target(x_0, t, eps, schedule, prediction=prediction)
    return _mean_over((predicted - target) ** 2, region)


def l_vlb(
    output: Tensor,
    x_0: Tensor,
    x_t: Tensor,
    t: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
    discretised: bool = True,
    region: Tensor | None = None,
) -> Tensor:
    """The term of the variational bound that belongs to step t, in bits per dimension (Ho et al. 2020, Eq. 5).

    For t > 0 it is KL(q(x_{t-1} | x_t, x_0) ‖ p(x_{t-1} | x_t)); for t = 0 it is -log2 p(x_0 | x_1). The whole bound
    is the sum over all t, plus the prior's term, which has no parameters. Without learned variance p has variance β̃_t.

    ``discretised`` is for 8-bit data on [-1, 1]: p(x_0 | x_1) is then the Gaussian's mass in the bin of x_0 (Ho et al.
    2020, Eq. 13). Float rasters have no bins: there it is the density at x_0, so the term is a differential entropy,
    may be negative, and compares only models of one scaling.
    """
    q_mean, _, q_log_variance = q_posterior(x_0, x_t, t, schedule)
    p = p_mean_variance(output, x_t, t, schedule, prediction=prediction)
    kl = normal_kl(q_mean, q_log_variance, p.mean, p.log_variance)
    log_likelihood = discretised_log_likelihood if discretised else normal_log_density
    first = (t == 0).to(x_0.device).reshape(-1, *[1] * (x_0.ndim - 1))
    nats = torch.where(first, -log_likelihood(x_0, p.mean, p.log_variance), kl)
    return _mean_over(nats / math.log(2), region)


def l_hybrid(
    output: Tensor,
    x_0: Tensor,
    eps: Tensor,
    t: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
    discretised: bool = True,
    region: Tensor | None = None,
) -> Tensor:
    """L_simple + λ L_vlb, λ = 0.001 (Nichol & Dhariwal 2021, Eq. 16), which teaches the variance as well.

    L_vlb is a sum over T steps and here one step, drawn evenly, stands for it, so its term counts T times: λ T, which
    is 1 at T = 1000 (the reference code's "rescaled" T / 1000). Inside L_vlb the mean is detached, so that L_simple
    alone teaches the mean and L_vlb the variance. An output without learned variance is a ModelError.
    """
    _check_pair(x_0, eps)
    predicted, o = split_output(output, x_0)
    if o is None:
        raise ModelError(
            f"got denoiser output of {output.shape[1]} channels, wanted {2 * x_0.shape[1]}: L_hybrid needs a learned "
            "variance; build the network with twice the channels or train with l_simple"
        )
    simple = l_simple(output, x_0, eps, t, schedule, prediction=prediction, region=region)
    mean_detached = torch.cat([predicted.detach(), o], dim=1)
    x_t = q_sample(x_0, t, eps, schedule)
    vlb = l_vlb(mean_detached, x_0, x_t, t, schedule, prediction=prediction, discretised=discretised, region=region)
    return simple + VLB_WEIGHT * schedule.num_timesteps * vlb


def normal_kl(mean_1: Tensor, log_variance_1: Tensor, mean_2: Tensor, log_variance_2: Tensor) -> Tensor:
    """KL(N_1 ‖ N_2) = ½ (log σ_2²/σ_1² - 1 + σ_1²/σ_2² + (μ_1 - μ_2)²/σ_2²) in nats, value by value."""
    log_ratio = log_variance_1 - log_variance_2
    return 0.5 * (log_ratio.exp() - 1 - log_ratio + (mean_1 - mean_2) ** 2 * torch.exp(-log_variance_2))


def normal_log_density(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log N(x; μ, σ²) in nats, value by value."""
    return -0.5 * (math.log(2 * math.pi) + log_variance + (x - mean) ** 2 * torch.exp(-log_variance))


def discretised_log_likelihood(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log mass of N(μ, σ²) in the 8-bit bin of x, in nats, for 8-bit values scaled to [-1, 1].

    The outer bins reach to infinity (Ho et al. 2020, Eq. 13).

    >>> zero = torch.zeros(1)
    >>> round(discretised_log_likelihood(zero, zero, zero).exp().item(), 6)  # 2/255 * 0.3989
    0.003129
    """
    scale = torch.exp(-0.5 * log_variance)
    upper, lower = (x - mean + HALF_BIN) * scale, (x - mean - HALF_BIN) * scale
    # Φ(b) - Φ(a) = Φ(-a) - Φ(-b): the left tail is taken, where log Φ keeps its digits however far out x is.
    right = x > mean
    log_b = torch.special.log_ndtr(torch.where(right, -lower, upper))
    log_a = torch.special.log_ndtr(torch.where(right, -upper, lower))
    # The clamp keeps the gradient finite where a bin is too thin for the digits of the dtype.
    log_ratio = (log_a - log_b).clamp(max=-torch.finfo(x.dtype).eps)
    inside = log_b + torch.log1p(-torch.exp(log_ratio))
    half_open = torch.where(x > 0, torch.special.log_ndtr(-lower), torch.special.log_ndtr(upper))
    return torch.where(x.abs() > 1 - HALF_BIN, half_open, inside)


def _mean_over(values: Tensor, region: Tensor | None) -> Tensor:
    """Mean of each image's values, weighted by the region; 0 where the region is empty."""
    if region is None:
        return values.flatten(1).mean(dim=1)
    try:
        weight = region.to(values.dtype).expand_as(values).flatten(1)
    except RuntimeError:
        raise ModelError(
            f"got region of shape {tuple(region.shape)}, wanted one that broadcasts to {tuple(values.shape)}"
        ) from None
    total = weight.sum(dim=1)
    return (values.flatten(1) * weight).sum(dim=1) / torch.where(total > 0, total, torch.ones_like(total))


def _check_pair(x_0: Tensor, eps: Tensor) -> None:
    if eps.shape != x_0.shape:
        raise ModelError(f"got eps of shape {tuple(eps.shape)}, wanted {tuple(x_0.shape)}, the shape of x_0")
