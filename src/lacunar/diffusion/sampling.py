"""Samplers: from noise to an image, by functions over any `Denoiser`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from lacunar.diffusion.process import (
    FixedVariance,
    Prediction,
    eps_from_x_0,
    p_mean_variance,
    predict_x_0,
    q_sample,
)
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


@torch.no_grad()
def ddpm_sample(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
    fixed_variance: FixedVariance = "small",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, Algorithm 2): one network evaluation for each step of the schedule.

    Parameters
    ----------
    denoiser : Denoiser
        The network.
    x_T : torch.Tensor
        Standard normal noise to start from, (B, C, H, W).
    schedule : NoiseSchedule
        The training schedule, or one respaced from it for fewer steps.
    prediction : {"epsilon", "v", "x_0"}
        What the network predicts.
    fixed_variance : {"small", "large"}
        β̃_t or β_t, for a network without learned variance.
    clip_x_0 : tuple of float, optional
        Range that each predicted x_0 is clipped to.
    generator : torch.Generator, optional
        The only source of randomness; it may live on another device than ``x_T``.
    callback : callable, optional
        Called after each evaluation with (evaluations done, evaluations in all).

    Returns
    -------
    torch.Tensor
        x_0, of the shape, dtype and device of ``x_T``.

    Raises
    ------
    ModelError
        When a name is unknown or the network's channels do not fit.

    References
    ----------
    Ho, Jain & Abbeel 2020, arXiv 2006.11239.
    """
    x = x_T
    for t in reversed(range(schedule.num_timesteps)):
        x = ddpm_step(
            denoiser,
            x,
            t,
            schedule,
            prediction=prediction,
            fixed_variance=fixed_variance,
            clip_x_0=clip_x_0,
            generator=generator,
        )
        if callback is not None:
            callback(schedule.num_timesteps - t, schedule.num_timesteps)
    return x


@torch.no_grad()
def ddpm_step(
    denoiser: Denoiser,
    x_t: Tensor,
    t: int,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
    fixed_variance: FixedVariance = "small",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw x_{t-1} = μ_θ + σ_t z, and the mean itself at t = 0 (Ho et al. 2020, Algorithm 2, lines 3 and 4).

    Parameters
    ----------
    t : int
        Index into ``schedule``; the others are as in `ddpm_sample`.

    Returns
    -------
    torch.Tensor
        x_{t-1}, of the shape of ``x_t``.

    Raises
    ------
    ModelError
        When ``t`` leaves the schedule, a name is unknown or the network's channels do not fit.
    """
    output, steps = _evaluate(denoiser, x_t, t, schedule)
    p = p_mean_variance(
        output, x_t, steps, schedule, prediction=prediction, fixed_variance=fixed_variance, clip_x_0=clip_x_0
    )
    return p.mean + torch.exp(0.5 * p.log_variance) * noise_like(x_t, generator) if t > 0 else p.mean


@torch.no_grad()
def ddim_sample(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    eta: float = 0.0,
    start: Tensor | None = None,
    strength: float = 1.0,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Sample implicitly (Song et al. 2021, Eq. 12): deterministic in ``x_T`` at η = 0, good at few steps.

    x_{t-1} = √ᾱ_{t-1} x̂_0 + √(1 - ᾱ_{t-1} - σ_t²) ε̂ + σ_t z with
    σ_t = η √((1 - ᾱ_{t-1}) / (1 - ᾱ_t)) √(1 - ᾱ_t / ᾱ_{t-1}) (Eq. 16), which is √β̃_t at η = 1.

    Parameters
    ----------
    denoiser : Denoiser
        The network; a learned variance is not looked at.
    x_T : torch.Tensor
        Standard normal noise to start from, (B, C, H, W).
    schedule : NoiseSchedule
        Usually respaced, ``schedule.respaced(25)``: one evaluation for each of its steps.
    eta : float
        0 (DDIM) to 1 (as noisy as DDPM).
    start, strength : torch.Tensor, float
        Warm start, see `warm_start`.
    prediction : {"epsilon", "v", "x_0"}
        What the network predicts.
    clip_x_0 : tuple of float, optional
        Range that each predicted x_0 is clipped to; ε̂ is then that of the clipped x̂_0.
    generator : torch.Generator, optional
        The only source of randomness; not used at η = 0.
    callback : callable, optional
        Called after each evaluation with (evaluations done, evaluations in all).

    Returns
    -------
    torch.Tensor
        x_0, of the shape, dtype and device of ``x_T``.

    Raises
    ------
    ModelError
        When ``eta`` leaves [0, 1], the prediction is unknown or the network's channels do not fit.

    References
    ----------
    Song, Meng & Ermon 2021, arXiv 2010.02502.
    """
    if not 0 <= eta <= 1:
        raise ModelError(f"got eta {eta}, wanted 0 (deterministic) to 1 (as noisy as DDPM)")
    x, count = warm_start(x_T, schedule, start=start, strength=strength)
    for t in reversed(range(count)):
        x_0 = estimate_x_0(denoiser, x, t, schedule, prediction=prediction, clip_x_0=clip_x_0)
        x = ddim_step(x, t, x_0, schedule, eta=eta, generator=generator)
        if callback is not None:
            callback(count - t, count)
    return x


def ddim_step(
    x: Tensor, t: int, x_0: Tensor, schedule: NoiseSchedule, *, eta: float, generator: torch.Generator | None
) -> Tensor:
    """One step from x_t to x_{t-1} towards a predicted x_0 (Song et al. 2021, Eq. 12 with the σ_t of Eq. 16)."""
    alpha_bar_prev = float(schedule.alphas_cumprod_prev[t])
    sigma = eta * float(schedule.posterior_variance[t]) ** 0.5  # 0 at t = 0
    moved: Tensor = alpha_bar_prev**0.5 * x_0 + (1 - alpha_bar_prev - sigma**2) ** 0.5 * eps_of(x, t, x_0, schedule)
    return moved + sigma * noise_like(x, generator) if sigma > 0 else moved


def warm_start(
    x_T: Tensor, schedule: NoiseSchedule, *, start: Tensor | None = None, strength: float = 1.0
) -> tuple[Tensor, int]:
    """State to begin from, and how many steps of the schedule lie ahead (Meng et al. 2022, SDEdit).

    Parameters
    ----------
    x_T : torch.Tensor
        Standard normal noise, (B, C, H, W).
    schedule : NoiseSchedule
        The schedule that is sampled with.
    start : torch.Tensor, optional
        A first guess of x_0 in the shape of ``x_T``. None begins from ``x_T`` itself.
    strength : float
        Share of the schedule's steps, from the clean end, that the first guess is noised up to: 0 < strength <= 1.

    Returns
    -------
    tuple
        x_t = √ᾱ_t start + √(1-ᾱ_t) x_T of the last of these steps, and their number.

    Raises
    ------
    ModelError
        A strength out of range, one below 1 without a start, or a start of another shape.

    References
    ----------
    Meng et al. 2022, arXiv 2108.01073.
    """
    count = warm_steps(schedule.num_timesteps, strength)
    if start is None:
        if strength < 1:
            raise ModelError(f"got strength {strength:g} without a start, wanted a first guess of x_0 to begin from")
        return x_T, count
    return q_sample(start, torch.full(x_T.shape[:1], count - 1, dtype=torch.int64), x_T, schedule), count


def warm_steps(steps: int, strength: float) -> int:
    """Count the steps that a warm start goes through: the share ``strength`` of ``steps``, at least one.

    Raises
    ------
    ModelError
        A strength outside (0, 1].

    Examples
    --------
    >>> warm_steps(25, 0.4), warm_steps(2, 0.1)
    (10, 1)
    """
    if not 0 < strength <= 1:
        raise ModelError(f"got strength {strength:g}, wanted a share of the steps above 0 and up to 1 (pure noise)")
    return max(1, round(strength * steps))


def estimate_x_0(
    denoiser: Denoiser,
    x_t: Tensor,
    t: int,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
) -> Tensor:
    """Ask the network for x_0 at index ``t`` of the schedule; the parameters are those of `ddim_sample`.

    Raises
    ------
    ModelError
        When ``t`` leaves the schedule, the prediction is unknown or the network's channels do not fit.
    """
    output, steps = _evaluate(denoiser, x_t, t, schedule)
    x_0 = predict_x_0(output, x_t, steps, schedule, prediction=prediction)
    return x_0 if clip_x_0 is None else x_0.clamp(*clip_x_0)


def eps_of(x_t: Tensor, t: int, x_0: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Give the noise that a batch holds over ``x_0``, all of it at index ``t`` of the schedule."""
    return eps_from_x_0(x_t, torch.full(x_t.shape[:1], t, dtype=torch.int64), x_0, schedule)


def noise_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw standard normal noise of the shape, dtype and device of ``x``, on the generator's device.

    A CPU generator thus gives the same noise on every device.
    """
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)


def _evaluate(denoiser: Denoiser, x_t: Tensor, t: int, schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    """Ask the network at step ``t``; give its output and ``t`` as the LongTensor that diffusion.py takes."""
    if not 0 <= t < schedule.num_timesteps:
        raise ModelError(f"got step {t}, wanted 0..{schedule.num_timesteps - 1}, an index into the given schedule")
    timestep = torch.full(x_t.shape[:1], int(schedule.timesteps[t]), dtype=torch.int64, device=x_t.device)
    return denoiser(x_t, timestep), torch.full(x_t.shape[:1], t, dtype=torch.int64)
