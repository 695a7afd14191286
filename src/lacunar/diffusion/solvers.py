"""Solvers of higher order for the probability-flow ODE: fewer network evaluations for the same image."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from lacunar.diffusion.process import Prediction
from lacunar.diffusion.sampling import Callback, Denoiser, eps_of, estimate_x_0, warm_start
from lacunar.diffusion.schedule import NoiseSchedule


@torch.no_grad()
def dpm_solver_pp_2m_sample(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    start: Tensor | None = None,
    strength: float = 1.0,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Sample by DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2): second order, one evaluation for each step.

    With λ = log(α/σ), α = √ᾱ, σ = √(1-ᾱ), h_i = λ_{t_i} - λ_{t_{i-1}} and r_i = h_{i-1} / h_i,
    D_i = (1 + 1/(2 r_i)) x̂_0(t_{i-1}) - 1/(2 r_i) x̂_0(t_{i-2}) and
    x_{t_i} = (σ_{t_i}/σ_{t_{i-1}}) x_{t_{i-1}} - α_{t_i} (e^{-h_i} - 1) D_i. The first step, and the last one, where λ
    is infinite, are of first order, D_i = x̂_0(t_{i-1}): a step of DDIM.

    Parameters
    ----------
    denoiser : Denoiser
        The network; a learned variance is not looked at.
    x_T : torch.Tensor
        Standard normal noise to start from, (B, C, H, W).
    schedule : NoiseSchedule
        Usually respaced, ``schedule.respaced(10)``: one evaluation for each of its steps.
    start, strength : torch.Tensor, float
        Warm start, see `lacunar.diffusion.sampling.warm_start`.
    prediction : {"epsilon", "v", "x_0"}
        What the network predicts.
    clip_x_0 : tuple of float, optional
        Range that each predicted x_0 is clipped to.
    callback : callable, optional
        Called after each evaluation with (evaluations done, evaluations in all).

    Returns
    -------
    torch.Tensor
        x_0, of the shape, dtype and device of ``x_T``.

    Raises
    ------
    ModelError
        When the start, the prediction or the network's channels do not fit.

    References
    ----------
    Lu et al. 2022, arXiv 2211.01095.
    """
    x, count = warm_start(x_T, schedule, start=start, strength=strength)
    before: tuple[Tensor, float] | None = None  # x̂_0 and h of the step before
    for t in reversed(range(count)):
        x_0 = D = estimate_x_0(denoiser, x, t, schedule, prediction=prediction, clip_x_0=clip_x_0)
        h = _half_log_snr(schedule, t - 1) - _half_log_snr(schedule, t)
        if before is not None and t > 0:
            r = before[1] / h
            D = (1 + 1 / (2 * r)) * x_0 - 1 / (2 * r) * before[0]
        alpha_bar_prev = float(schedule.alphas_cumprod_prev[t])
        kept = ((1 - alpha_bar_prev) / (1 - float(schedule.alphas_cumprod[t]))) ** 0.5
        x = kept * x - alpha_bar_prev**0.5 * math.expm1(-h) * D
        before = (x_0, h)
        if callback is not None:
            callback(count - t, count)
    return x


@torch.no_grad()
def heun_sample(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    start: Tensor | None = None,
    strength: float = 1.0,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Sample by Heun's method (Karras et al. 2022, Algorithm 1): second order, two evaluations a step.

    Karras et al. step in σ/α, which a schedule that ends at pure noise takes to 10⁴ and more: the trapezoid over such a
    step explodes. Here the same ODE is stepped in the angle φ = arctan(σ/α), which stays within (0, π/2) and in which
    it reads dx/dφ = v, v = α ε̂ - σ x̂_0 (Salimans & Ho 2022, appendix D):
    x' = x + (φ_{i+1} - φ_i) v_i, then x_{i+1} = x + (φ_{i+1} - φ_i) (v_i + v'_{i+1}) / 2. The last step, to φ = 0, is
    one of DDIM, as the network knows no noise of 0; it takes one evaluation.

    Parameters
    ----------
    denoiser, x_T, start, strength, prediction, clip_x_0, callback
        As in `dpm_solver_pp_2m_sample`.
    schedule : NoiseSchedule
        Usually respaced: ``schedule.respaced(n)`` takes 2 n - 1 evaluations.

    Returns
    -------
    torch.Tensor
        x_0, of the shape, dtype and device of ``x_T``.

    Raises
    ------
    ModelError
        When the start, the prediction or the network's channels do not fit.

    References
    ----------
    Karras et al. 2022, arXiv 2206.00364; Salimans & Ho 2022, arXiv 2202.00512.
    """
    x, count = warm_start(x_T, schedule, start=start, strength=strength)
    done, evaluations = 0, 2 * count - 1
    ask = partial(estimate_x_0, denoiser, schedule=schedule, prediction=prediction, clip_x_0=clip_x_0)
    for t in reversed(range(1, count)):
        step = _angle(schedule, t - 1) - _angle(schedule, t)
        v = _velocity(x, t, ask(x, t), schedule)
        predicted = x + step * v
        v_next = _velocity(predicted, t - 1, ask(predicted, t - 1), schedule)
        x = x + step * (v + v_next) / 2
        if callback is not None:
            callback(done + 1, evaluations)
            callback(done + 2, evaluations)
        done += 2
    x = ask(x, 0)
    if callback is not None:
        callback(evaluations, evaluations)
    return x


@torch.no_grad()
def adams_sample(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    start: Tensor | None = None,
    strength: float = 1.0,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Sample by the Adams-Bashforth method of two steps in the angle: second order, one evaluation for each step.

    As in `heun_sample` the probability-flow ODE reads dx/dφ = v in φ = arctan(σ/α), but the second order comes from the
    step before, as in the linear multistep methods of Liu et al. 2022 (there in ε̂, of fourth order): with
    δ_i = φ_{i+1} - φ_i and r = δ_{i-1} / δ_i, x_{i+1} = x_i + δ_i ((1 + 1/(2 r)) v_i - 1/(2 r) v_{i-1}), down to φ = 0,
    the clean image. The first step is Euler's; where it is the only one, the answer is x̂_0.

    Parameters
    ----------
    denoiser, x_T, schedule, start, strength, prediction, clip_x_0, callback
        As in `dpm_solver_pp_2m_sample`.

    Returns
    -------
    torch.Tensor
        x_0, of the shape, dtype and device of ``x_T``.

    Raises
    ------
    ModelError
        When the start, the prediction or the network's channels do not fit.

    References
    ----------
    Liu et al. 2022, arXiv 2202.09778; Salimans & Ho 2022, arXiv 2202.00512.
    """
    x, count = warm_start(x_T, schedule, start=start, strength=strength)
    before: tuple[Tensor, float] | None = None  # v and δ of the step before
    for t in reversed(range(count)):
        x_0 = estimate_x_0(denoiser, x, t, schedule, prediction=prediction, clip_x_0=clip_x_0)
        slope = v = _velocity(x, t, x_0, schedule)
        step = _angle(schedule, t - 1) - _angle(schedule, t)
        if before is not None:
            r = before[1] / step
            slope = (1 + 1 / (2 * r)) * v - 1 / (2 * r) * before[0]
        x, before = x + step * slope, (v, step)
        if callback is not None:
            callback(count - t, count)
    if count == 1:
        return x_0
    return x if clip_x_0 is None else x.clamp(*clip_x_0)


def _half_log_snr(schedule: NoiseSchedule, t: int) -> float:
    """λ = log(α/σ) at index t; infinite at the clean image, t = -1."""
    if t < 0:
        return math.inf
    alpha_bar = float(schedule.alphas_cumprod[t])
    return 0.5 * (math.log(alpha_bar) - math.log1p(-alpha_bar))


def _velocity(x_t: Tensor, t: int, x_0: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Velocity α ε̂ - σ x̂_0 at index t."""
    alpha_bar = float(schedule.alphas_cumprod[t])
    v: Tensor = alpha_bar**0.5 * eps_of(x_t, t, x_0, schedule) - (1 - alpha_bar) ** 0.5 * x_0
    return v


def _angle(schedule: NoiseSchedule, t: int) -> float:
    """φ = arctan(σ/α) at index t; 0 at the clean image, t = -1."""
    if t < 0:
        return 0.0
    alpha_bar = float(schedule.alphas_cumprod[t])
    return math.atan2((1 - alpha_bar) ** 0.5, alpha_bar**0.5)
