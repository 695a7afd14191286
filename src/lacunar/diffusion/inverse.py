"""Samplers of inverse problems: an unconditional DDPM, unchanged, held to what was measured.

They share their arguments with `lacunar.diffusion.solvers`, and a `Measurement` y = A x_0 of any operator A
(`lacunar.diffusion.operators`), by default a mask. All are approximations of the conditional distribution. Measured
pixels of a mask come back bit by bit where there is no noise. Noise ``x_T`` of another shape or dtype than the image,
or an operator that a sampler cannot take, is a `ModelError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lacunar.diffusion.operators import Measurement, Spectral
from lacunar.diffusion.process import Prediction
from lacunar.diffusion.samplers import jump_timetable
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.diffusion.solvers import Denoiser, ddpm_step, eps_at, estimate_x_0, noise_like
from lacunar.errors import ModelError

DDRM_ETA = DDNM_ETA = 0.85  # of the papers' own experiments
DIFFPIR_ZETA = 1.0  # of the paper's own inpainting
DIFFPIR_LAMBDA = 1.0  # weight of the prior; 1 is what a Gaussian wants


@torch.no_grad()
def repaint_sample(
    denoiser: Denoiser,
    measurement: Measurement,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    times: Sequence[int] | None = None,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Fill what was not measured by RePaint (Lugmayr et al. 2022, arXiv 2201.09865, Algorithm 1).

    Each step down draws the measured part from q(x_{t-1} | x_0) and the rest from p(x_{t-1} | x_t); each step up adds
    noise again, so that both parts come to agree. ``times`` are the steps to visit, by default `jump_timetable`.
    Two slips of the printed algorithm are mended: line 5 scales the noise by the variance 1 - ᾱ_t instead of its root
    (Eq. 8a), and the known part must be as noisy as the x_{t-1} that it joins, so it is drawn with ᾱ_{t-1}.
    """
    x_0_known = _image(measurement, x_T)
    if measurement.sigma > 0 or not isinstance(measurement.operator, Spectral):
        raise ModelError("repaint takes linear measurements without noise alone: choose ddrm, ddnm or diffpir")
    x = x_T
    for before, after in pairwise(times or jump_timetable(schedule.num_timesteps)):
        if after > before:  # line 10: x_t ~ N(√(1-β_t) x_{t-1}, β_t I)
            beta = float(schedule.betas[after])
            x = (1 - beta) ** 0.5 * x + beta**0.5 * noise_like(x, generator)
            continue
        x_unknown = ddpm_step(  # line 7
            denoiser, x, before, schedule, prediction=prediction, clip_x_0=clip_x_0, generator=generator
        )
        x_known = x_0_known
        if after >= 0:  # line 5: x_{t-1} ~ N(√ᾱ_{t-1} x_0, (1-ᾱ_{t-1}) I)
            alpha_bar = float(schedule.alphas_cumprod[after])
            x_known = alpha_bar**0.5 * x_0_known + (1 - alpha_bar) ** 0.5 * noise_like(x, generator)
        noisy = Measurement(measurement.operator, measurement.operator.forward(x_known))
        x = noisy.project(x_unknown)  # line 8
    return x


@torch.no_grad()
def ddrm_sample(
    denoiser: Denoiser,
    measurement: Measurement,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    eta: float = DDRM_ETA,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Restore by DDRM (Kawar et al. 2022, arXiv 2201.11793, Eq. 7 and 8): one step in the spectrum of the operator.

    There, with x̄_t = V^T x_t / √ᾱ_t of noise σ_t² = (1-ᾱ_t) / ᾱ_t, ȳ = S† U^T y of noise σ_y / s, and x̄_θ the
    predicted x_0, x̄_{t-1} has this mean and variance:

    - s = 0: x̄_θ + √(1-η²) σ_{t-1} (x̄_t - x̄_θ) / σ_t, η² σ_{t-1}²;
    - σ_{t-1} < σ_y / s: x̄_θ + √(1-η²) σ_{t-1} (ȳ - x̄_θ) s / σ_y, η² σ_{t-1}²;
    - else, with its η_b = 1 and ν² = σ_{t-1}² - σ_y² / s²: ȳ + √(1-η²) ν (x̄_t - x̄_θ) / σ_t, η² ν².

    The last departs from the paper, whose noise there is all new: at 20 evaluations the mean of a Gaussian posterior is
    off by half as much again then. Without noise in y the steps are those of `ddnm_sample`. It starts from
    ȳ where something was measured. η is the share of new noise, 0 to 1, else a ModelError.
    """
    _check_share("eta", eta)
    _image(measurement, x_T)
    operator = measurement.operator
    if not isinstance(operator, Spectral):
        kind = type(operator).__name__
        raise ModelError(
            f"ddrm, and ddnm with noise, want an operator whose singular values are known, got {kind}: choose diffpir"
        )
    s = operator.singular.to(x_T)
    noise_y = torch.where(s > 0, measurement.sigma / torch.where(s > 0, s, 1), torch.inf)  # of ȳ
    y, z = operator.measured(measurement.y), operator.spectrum(x_T)
    sigma = _noise_ratio(schedule, schedule.num_timesteps - 1)
    x_bar = torch.where(noise_y <= sigma, y + (sigma**2 - noise_y**2).clamp(min=0).sqrt() * z, sigma * z)
    for t in reversed(range(schedule.num_timesteps)):
        sigma, after = _noise_ratio(schedule, t), _noise_ratio(schedule, t - 1)
        x_t = float(schedule.alphas_cumprod[t]) ** 0.5 * operator.image(x_bar)
        x_0 = estimate_x_0(denoiser, x_t, t, schedule, prediction=prediction, clip_x_0=clip_x_0)
        x_theta = operator.spectrum(x_0)
        towards_y = (y - x_theta) / torch.where((s > 0) & (noise_y > 0), noise_y, 1)
        old = (x_bar - x_theta) / sigma
        z, kept = operator.spectrum(noise_like(x_T, generator)), (1 - eta**2) ** 0.5
        buried = x_theta + kept * after * torch.where(s > 0, towards_y, old) + eta * after * z
        left = (after**2 - noise_y**2).clamp(min=0).sqrt()
        x_bar = torch.where(noise_y <= after, y + left * (kept * old + eta * z), buried)
    return operator.image(x_bar)


@torch.no_grad()
def ddnm_sample(
    denoiser: Denoiser,
    measurement: Measurement,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    eta: float = DDNM_ETA,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Restore by DDNM (Wang et al. 2022, arXiv 2212.00490, Algorithm 1).

    At each step x̂_{0|t} = A† y + (I - A† A) x̂_0, then x_{t-1} = √ᾱ_{t-1} x̂_{0|t} + √(1-ᾱ_{t-1}) (η z + √(1-η²) ε̂).
    η = 0 adds no new noise, η = 1 new noise only; others are a ModelError. With noise in y it is DDNM+ (section 3.3),
    whose step in the spectrum of the operator is that of `ddrm_sample`.
    """
    _check_share("eta", eta)
    if measurement.sigma > 0:
        given = (denoiser, measurement, x_T, schedule)
        return ddrm_sample(*given, eta=eta, prediction=prediction, clip_x_0=clip_x_0, generator=generator)
    _image(measurement, x_T)
    x = x_T
    for t in reversed(range(schedule.num_timesteps)):
        pred_x_0 = estimate_x_0(denoiser, x, t, schedule, prediction=prediction, clip_x_0=clip_x_0)
        eps = eps_at(x, t, pred_x_0, schedule)
        x = _mixed(measurement.project(pred_x_0), eps, t, schedule, eta**2, generator)
    return x


@torch.no_grad()
def diffpir_sample(
    denoiser: Denoiser,
    measurement: Measurement,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    zeta: float = DIFFPIR_ZETA,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Restore by DiffPIR (Zhu et al. 2023, arXiv 2305.08995, Algorithm 1).

    At each step x̂_0 becomes the z of the smallest |A z - y|² + ρ_t |z - x̂_0|² with ρ_t = λ σ_y² ᾱ_t / (1-ᾱ_t), which
    without noise projects it onto A z = y; then ε̂ = (x_t - √ᾱ_t x̂_0) / √(1-ᾱ_t) and
    x_{t-1} = √ᾱ_{t-1} x̂_0 + √(1-ᾱ_{t-1}) (√(1-ζ) ε̂ + √ζ z). ζ is the share of new noise, 0 to 1, else a ModelError.
    """
    _check_share("zeta", zeta)
    _image(measurement, x_T)
    x, operator = x_T, measurement.operator
    for t in reversed(range(schedule.num_timesteps)):
        pred_x_0 = estimate_x_0(denoiser, x, t, schedule, prediction=prediction, clip_x_0=clip_x_0)
        rho = DIFFPIR_LAMBDA * (measurement.sigma / _noise_ratio(schedule, t)) ** 2
        x_0 = operator.prox(pred_x_0, measurement.y, rho)
        x = _mixed(x_0, eps_at(x, t, x_0, schedule), t, schedule, zeta, generator)
    return x


def _noise_ratio(schedule: NoiseSchedule, t: int) -> float:
    """√((1-ᾱ_t) / ᾱ_t): the noise of x_t / √ᾱ_t; 0 at the clean image, t = -1."""
    alpha_bar = float(schedule.alphas_cumprod[t]) if t >= 0 else 1.0
    return float(((1 - alpha_bar) / alpha_bar) ** 0.5)


def _image(measurement: Measurement, x_T: Tensor) -> Tensor:
    """A† y, which the noise must fit."""
    image = measurement.pseudo_inverse
    if x_T.shape != image.shape or x_T.dtype != image.dtype:
        raise ModelError(
            f"got x_T of shape {tuple(x_T.shape)} and {x_T.dtype}, wanted {tuple(image.shape)} and {image.dtype} as "
            "the measured image has; make the noise with torch.randn of that shape"
        )
    return image


def _mixed(
    x_0: Tensor, eps: Tensor, t: int, schedule: NoiseSchedule, new: float, generator: torch.Generator | None
) -> Tensor:
    """√ᾱ_{t-1} x_0 + √(1-ᾱ_{t-1}) (√(1-new) ε̂ + √new z); x_0 itself at t = 0."""
    if t == 0:
        return x_0
    alpha_bar_prev = float(schedule.alphas_cumprod_prev[t])
    noise = (1 - new) ** 0.5 * eps
    if new > 0:
        noise = noise + new**0.5 * noise_like(x_0, generator)
    x: Tensor = alpha_bar_prev**0.5 * x_0 + (1 - alpha_bar_prev) ** 0.5 * noise
    return x


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ModelError(f"got {name} {value}, wanted 0 (no new noise) to 1")
