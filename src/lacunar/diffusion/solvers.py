"""Samplers and solvers: from noise to an image, by functions over any `Denoiser`.

They share their arguments. ``x_T`` is standard normal noise (B, C, H, W) to start from, and the result x_0 has its
shape, dtype and device. ``schedule`` is usually respaced, ``schedule.respaced(25)``: each of its steps is one network
evaluation. ``prediction`` says what the network predicts, ``clip_x_0`` gives the range that each predicted x_0 is
clipped to, and ``generator`` is the only source of randomness; it may live on another device than ``x_T``. An unknown
prediction, or a network whose channels do not fit, is a `ModelError`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from lacunar.diffusion.process import Prediction, eps_from_x_0, p_mean_variance, predict_x_0
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import ModelError

Callback = Callable[[int, int], None]  # (network evaluations done, network evaluations in all)


class Denoiser(Protocol):
    """What a sampler needs of a network: a prediction from the noisy image and the step.

    ``x_t`` is (B, C, H, W); ``t`` a LongTensor (B,) on the device of ``x_t`` with steps of the TRAINING schedule,
    ``schedule.timesteps[i]``; the result is (B, C, H, W), or (B, 2C, H, W) with learned variance.
    """

    def __call__(self, x_t: Tensor, t: Tensor, /) -> Tensor:
        """Predict ε, v or x_0 from ``x_t`` at step ``t``."""
        ...


def with_progress(denoiser: Denoiser, evaluations: int, callback: Callback | None) -> Denoiser:
    """The denoiser, which calls ``callback(done, evaluations)`` after each of its evaluations."""
    if callback is None:
        return denoiser
    done = 0

    def reporting(x_t: Tensor, t: Tensor, /) -> Tensor:
        nonlocal done
        output = denoiser(x_t, t)
        done += 1
        callback(done, evaluations)
        return output

    return reporting


@torch.no_grad()
def ddpm_sample(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, arXiv 2006.11239, Algorithm 2), with the learned variance or β̃_t."""
    x = x_T
    for t in reversed(range(schedule.num_timesteps)):
        x = ddpm_step(denoiser, x, t, schedule, prediction=prediction, clip_x_0=clip_x_0, generator=generator)
    return x


@torch.no_grad()
def ddpm_step(
    denoiser: Denoiser,
    x_t: Tensor,
    t: int,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw x_{t-1} = μ_θ + σ_t z, and the mean itself at t = 0 (Ho et al. 2020, Algorithm 2, lines 3 and 4)."""
    output, steps = _evaluate(denoiser, x_t, t, schedule)
    p = p_mean_variance(output, x_t, steps, schedule, prediction=prediction, clip_x_0=clip_x_0)
    return p.mean + torch.exp(0.5 * p.log_variance) * noise_like(x_t, generator) if t > 0 else p.mean


@torch.no_grad()
def ddim_sample(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    eta: float = 0.0,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sample implicitly (Song et al. 2021, arXiv 2010.02502, Eq. 12): deterministic at η = 0, good at few steps.

    x_{t-1} = √ᾱ_{t-1} x̂_0 + √(1 - ᾱ_{t-1} - σ_t²) ε̂ + σ_t z with
    σ_t = η √((1 - ᾱ_{t-1}) / (1 - ᾱ_t)) √(1 - ᾱ_t / ᾱ_{t-1}) (Eq. 16), which is √β̃_t at η = 1: as noisy as DDPM.
    A learned variance is ignored, and ε̂ is that of the clipped x̂_0. An η outside [0, 1] is a ModelError.
    """
    if not 0 <= eta <= 1:
        raise ModelError(f"got eta {eta}, wanted 0 (deterministic) to 1 (as noisy as DDPM)")
    x = x_T
    for t in reversed(range(schedule.num_timesteps)):
        x_0 = estimate_x_0(denoiser, x, t, schedule, prediction=prediction, clip_x_0=clip_x_0)
        eps = eps_at(x, t, x_0, schedule)
        alpha_bar_prev = float(schedule.alphas_cumprod_prev[t])
        sigma = eta * float(schedule.posterior_variance[t]) ** 0.5  # 0 at t = 0
        x = alpha_bar_prev**0.5 * x_0 + (1 - alpha_bar_prev - sigma**2) ** 0.5 * eps
        if sigma > 0:
            x = x + sigma * noise_like(x, generator)
    return x


@torch.no_grad()
def dpm_solver_pp_2m_sample(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
) -> Tensor:
    """Sample by DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, Algorithm 2): a solver of second order.

    With λ = log(α/σ), α = √ᾱ, σ = √(1-ᾱ), h_i = λ_{t_i} - λ_{t_{i-1}} and r_i = h_{i-1} / h_i,
    D_i = (1 + 1/(2 r_i)) x̂_0(t_{i-1}) - 1/(2 r_i) x̂_0(t_{i-2}) and
    x_{t_i} = (σ_{t_i}/σ_{t_{i-1}}) x_{t_{i-1}} - α_{t_i} (e^{-h_i} - 1) D_i. The first step, and the last one, where λ
    is infinite, are of first order, D_i = x̂_0(t_{i-1}): a step of DDIM.
    """
    x = x_T
    before: tuple[Tensor, float] | None = None  # x̂_0 and h of the step before
    for t in reversed(range(schedule.num_timesteps)):
        x_0 = D = estimate_x_0(denoiser, x, t, schedule, prediction=prediction, clip_x_0=clip_x_0)
        h = _half_log_snr(schedule, t - 1) - _half_log_snr(schedule, t)
        if before is not None and t > 0:
            r = before[1] / h
            D = (1 + 1 / (2 * r)) * x_0 - 1 / (2 * r) * before[0]
        alpha_bar_prev = float(schedule.alphas_cumprod_prev[t])
        kept = ((1 - alpha_bar_prev) / (1 - float(schedule.alphas_cumprod[t]))) ** 0.5
        x = kept * x - alpha_bar_prev**0.5 * math.expm1(-h) * D
        before = (x_0, h)
    return x


@torch.no_grad()
def adams_sample(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
) -> Tensor:
    """Sample by the Adams-Bashforth method of two steps in the angle φ = arctan(σ/α): a solver of second order.

    In φ, which stays within (0, π/2), the probability-flow ODE reads dx/dφ = v with v = α ε̂ - σ x̂_0 (Salimans & Ho
    2022, arXiv 2202.00512, appendix D). The second order comes from the step before, as in the linear multistep methods
    of Liu et al. 2022, arXiv 2202.09778 (there in ε̂, of fourth order): with δ_i = φ_{i+1} - φ_i and
    r = δ_{i-1} / δ_i, x_{i+1} = x_i + δ_i ((1 + 1/(2 r)) v_i - 1/(2 r) v_{i-1}), down to φ = 0, the clean image. The
    first step is Euler's; where it is the only one, the answer is x̂_0.
    """
    x = x_T
    before: tuple[Tensor, float] | None = None  # v and δ of the step before
    for t in reversed(range(schedule.num_timesteps)):
        x_0 = estimate_x_0(denoiser, x, t, schedule, prediction=prediction, clip_x_0=clip_x_0)
        slope = v = _velocity(x, t, x_0, schedule)
        step = _angle(schedule, t - 1) - _angle(schedule, t)
        if before is not None:
            r = before[1] / step
            slope = (1 + 1 / (2 * r)) * v - 1 / (2 * r) * before[0]
        x, before = x + step * slope, (v, step)
    if schedule.num_timesteps == 1:
        return x_0
    return x if clip_x_0 is None else x.clamp(*clip_x_0)


def estimate_x_0(
    denoiser: Denoiser,
    x_t: Tensor,
    t: int,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
) -> Tensor:
    """Ask the network for x_0 of a batch, all of it at index ``t`` of the schedule."""
    output, steps = _evaluate(denoiser, x_t, t, schedule)
    x_0 = predict_x_0(output, x_t, steps, schedule, prediction=prediction)
    return x_0 if clip_x_0 is None else x_0.clamp(*clip_x_0)


def eps_at(x_t: Tensor, t: int, x_0: Tensor, schedule: NoiseSchedule) -> Tensor:
    """The noise that a batch holds over ``x_0``, all of it at index ``t`` of the schedule."""
    return eps_from_x_0(x_t, torch.full(x_t.shape[:1], t, dtype=torch.int64), x_0, schedule)


def noise_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise like ``x``, drawn on the generator's device: a CPU generator gives the same everywhere."""
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)


def _evaluate(denoiser: Denoiser, x_t: Tensor, t: int, schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    """Ask the network at index ``t``; give its output, and ``t`` as the LongTensor that `process` takes."""
    if not 0 <= t < schedule.num_timesteps:
        raise ModelError(f"got step {t}, wanted 0..{schedule.num_timesteps - 1}, an index into the given schedule")
    timestep = torch.full(x_t.shape[:1], int(schedule.timesteps[t]), dtype=torch.int64, device=x_t.device)
    return denoiser(x_t, timestep), torch.full(x_t.shape[:1], t, dtype=torch.int64)


def _half_log_snr(schedule: NoiseSchedule, t: int) -> float:
    """λ = log(α/σ) at index t; infinite at the clean image, t = -1."""
    if t < 0:
        return math.inf
    alpha_bar = float(schedule.alphas_cumprod[t])
    return 0.5 * (math.log(alpha_bar) - math.log1p(-alpha_bar))


def _velocity(x_t: Tensor, t: int, x_0: Tensor, schedule: NoiseSchedule) -> Tensor:
    """V = α ε̂ - σ x̂_0 at index t."""
    alpha_bar = float(schedule.alphas_cumprod[t])
    v: Tensor = alpha_bar**0.5 * eps_at(x_t, t, x_0, schedule) - (1 - alpha_bar) ** 0.5 * x_0
    return v


def _angle(schedule: NoiseSchedule, t: int) -> float:
    """φ = arctan(σ/α) at index t; 0 at the clean image, t = -1."""
    if t < 0:
        return 0.0
    alpha_bar = float(schedule.alphas_cumprod[t])
    return math.atan2((1 - alpha_bar) ** 0.5, alpha_bar**0.5)
