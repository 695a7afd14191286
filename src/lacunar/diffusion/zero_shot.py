"""Zero-shot samplers: fill a gap with an unconditional DDPM, each predicted image corrected by the known pixels.

The measurement is y = A x_0 without noise, A = the selection of the known pixels; so A† A = ``known``. All of them are
approximations of the conditional distribution, as `lacunar.diffusion.repaint` is, at one network evaluation for each
step.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lacunar.diffusion.process import Prediction
from lacunar.diffusion.repaint import checked_known
from lacunar.diffusion.sampling import Callback, Denoiser, ddim_step, eps_of, estimate_x_0, noise_like, warm_start
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import ModelError

DDNM_ETA = 0.85  # of the paper's own experiments
DIFFPIR_ZETA = 1.0  # of the paper's own inpainting
PIGDM_ETA = 1.0  # of the paper's own experiments


@torch.no_grad()
def ddnm_sample(
    denoiser: Denoiser,
    x_0_known: Tensor,
    known: Tensor,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    eta: float = DDNM_ETA,
    start: Tensor | None = None,
    strength: float = 1.0,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Fill the unknown pixels by DDNM (Wang et al. 2022, Algorithm 1): the range space is the measurement's.

    At each step x̂_{0|t} = A† y + (I - A† A) x̂_0, the known pixels of the prediction replaced, then
    x_{t-1} = √ᾱ_{t-1} x̂_{0|t} + √(1-ᾱ_{t-1}) (η z + √(1-η²) ε̂) with the noise ε̂ that was predicted.

    Parameters
    ----------
    denoiser : Denoiser
        The network: any unconditional prior.
    x_0_known : torch.Tensor
        The image, (B, C, H, W); what stands in unknown pixels is never used and may be NaN.
    known : torch.Tensor
        Bool, broadcasts to ``x_0_known``: True = measured, False = to be filled.
    x_T : torch.Tensor
        Standard normal noise to start from, of the shape of ``x_0_known``.
    schedule : NoiseSchedule
        The training schedule or one respaced from it: one evaluation for each of its steps.
    eta : float
        0 (no new noise) to 1 (new noise only).
    start, strength : torch.Tensor, float
        Warm start, see `lacunar.diffusion.sampling.warm_start`.
    prediction : {"epsilon", "v", "x_0"}
        What the network predicts.
    clip_x_0 : tuple of float, optional
        Range that each predicted x_0 is clipped to.
    generator : torch.Generator, optional
        The only source of randomness.
    callback : callable, optional
        Called after each evaluation with (evaluations done, evaluations in all).

    Returns
    -------
    torch.Tensor
        The filled image, of the shape of ``x_0_known``; its known pixels are bit-identical to those given.

    Raises
    ------
    ModelError
        When shapes, dtypes, names or channels do not fit, ``eta`` leaves [0, 1] or a known pixel is not finite.

    References
    ----------
    Wang, Yu & Zhang 2022, arXiv 2212.00490.
    """
    _check_share("eta", eta)
    known = checked_known(x_0_known, known, x_T)
    x, count = warm_start(x_T, schedule, start=start, strength=strength)
    for t in reversed(range(count)):
        pred_x_0 = estimate_x_0(denoiser, x, t, schedule, prediction=prediction, clip_x_0=clip_x_0)
        eps = eps_of(x, t, pred_x_0, schedule)
        x_0 = torch.where(known, x_0_known, pred_x_0)
        x = _mixed(x_0, eps, t, schedule, eta**2, generator)
        if callback is not None:
            callback(count - t, count)
    return x


@torch.no_grad()
def diffpir_sample(
    denoiser: Denoiser,
    x_0_known: Tensor,
    known: Tensor,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    zeta: float = DIFFPIR_ZETA,
    start: Tensor | None = None,
    strength: float = 1.0,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Fill the unknown pixels by DiffPIR (Zhu et al. 2023, Algorithm 1): plug-and-play half-quadratic splitting.

    At each step the data term's proximal point, which is the replacement of the known pixels where the measurement has
    no noise (ρ_t = 0); then the noise that x_t holds over THAT image, ε̂ = (x_t - √ᾱ_t x̂_0) / √(1-ᾱ_t), and
    x_{t-1} = √ᾱ_{t-1} x̂_0 + √(1-ᾱ_{t-1}) (√(1-ζ) ε̂ + √ζ z).

    Parameters
    ----------
    zeta : float
        Share of new noise, 0 to 1.
    denoiser, x_0_known, known, x_T, schedule, start, strength, prediction, clip_x_0, generator, callback
        As in `ddnm_sample`.

    Returns
    -------
    torch.Tensor
        The filled image, of the shape of ``x_0_known``; its known pixels are bit-identical to those given.

    Raises
    ------
    ModelError
        When shapes, dtypes, names or channels do not fit, ``zeta`` leaves [0, 1] or a known pixel is not finite.

    References
    ----------
    Zhu et al. 2023, arXiv 2305.08995.
    """
    _check_share("zeta", zeta)
    known = checked_known(x_0_known, known, x_T)
    x, count = warm_start(x_T, schedule, start=start, strength=strength)
    for t in reversed(range(count)):
        pred_x_0 = estimate_x_0(denoiser, x, t, schedule, prediction=prediction, clip_x_0=clip_x_0)
        x_0 = torch.where(known, x_0_known, pred_x_0)
        x = _mixed(x_0, eps_of(x, t, x_0, schedule), t, schedule, zeta, generator)
        if callback is not None:
            callback(count - t, count)
    return x


def pigdm_sample(
    denoiser: Denoiser,
    x_0_known: Tensor,
    known: Tensor,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    eta: float = PIGDM_ETA,
    start: Tensor | None = None,
    strength: float = 1.0,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Fill the unknown pixels by ΠGDM (Song et al. 2023): pseudoinverse guidance, through the network's gradient.

    p(y | x_t) is taken as N(A x̂_0, r_t² I) with r_t² = 1-ᾱ_t, that of data with unit variance. Its score
    g / r_t², g = (∂x̂_0/∂x_t)ᵀ (A† y - A† A x̂_0), moves the predicted image by Tweedie's formula to
    x̂_0 + (1-ᾱ_t)/√ᾱ_t · g / r_t² = x̂_0 + g / √ᾱ_t, and a step of DDIM with η follows. (Algorithm 1 of the paper
    weights the guidance otherwise, which leaves the conditional distribution as the steps grow.) A trained network's
    gradient is not exact, and 1/√ᾱ_t is large at first: the move is never longer than what brings the known pixels
    nearest to those measured; an exact one is not cut short by that.
    The network runs forward and backward: about three times the cost of one evaluation.

    Parameters
    ----------
    eta : float
        0 (DDIM) to 1 (as noisy as DDPM).
    denoiser, x_0_known, known, x_T, schedule, start, strength, prediction, clip_x_0, generator, callback
        As in `ddnm_sample`; gradients must flow through the denoiser.

    Returns
    -------
    torch.Tensor
        The filled image, of the shape of ``x_0_known``; its known pixels are bit-identical to those given.

    Raises
    ------
    ModelError
        When shapes, dtypes, names or channels do not fit, ``eta`` leaves [0, 1], a known pixel is not finite, or no
        gradient flows through the denoiser.

    References
    ----------
    Song, Vahdat, Mardani & Kautz 2023, "Pseudoinverse-Guided Diffusion Models for Inverse Problems", ICLR.
    """
    _check_share("eta", eta)
    known = checked_known(x_0_known, known, x_T)
    measured = torch.where(known, x_0_known, torch.zeros_like(x_0_known))
    x, count = warm_start(x_T, schedule, start=start, strength=strength)
    ask = partial(estimate_x_0, _differentiable(denoiser), schedule=schedule, prediction=prediction)
    for t in reversed(range(count)):
        alpha_bar = float(schedule.alphas_cumprod[t])
        pred_x_0, pull = _pulled(ask, x, t, measured, known)
        x_0 = pred_x_0 + _within_reach(pull / alpha_bar**0.5, measured - pred_x_0, known)
        if clip_x_0 is not None:
            x_0 = x_0.clamp(*clip_x_0)
        x = ddim_step(x, t, x_0, schedule, eta=eta, generator=generator)
        if callback is not None:
            callback(count - t, count)
    return torch.where(known, x_0_known, x)


def _differentiable(denoiser: Denoiser) -> Denoiser:
    """The denoiser, which is refused when no gradient flows through it."""

    def asked(x_t: Tensor, t: Tensor) -> Tensor:
        output = denoiser(x_t, t)
        if not output.requires_grad:
            raise ModelError("no gradient flows through the denoiser, which pigdm wants: choose diffpir or ddnm")
        return output

    return asked


def _pulled(ask: partial[Tensor], x_t: Tensor, t: int, measured: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The predicted x_0, and g = (∂x̂_0/∂x_t)ᵀ (A† y - A† A x̂_0)."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        x_t = x_t.detach().clone().requires_grad_()
        x_0 = ask(x_t, t)
        residual = torch.where(known, measured - x_0.detach(), torch.zeros_like(measured))
        (pull,) = torch.autograd.grad(x_0, x_t, grad_outputs=residual)
    return x_0.detach(), pull


def _within_reach(step: Tensor, residual: Tensor, known: Tensor) -> Tensor:
    """The step, shortened for each image where a shorter one brings its known pixels nearer to those measured."""
    along = torch.where(known, step, torch.zeros_like(step)).flatten(1)
    best = (along * residual.flatten(1)).sum(1) / along.square().sum(1).clamp(min=torch.finfo(step.dtype).tiny)
    return best.clamp(0, 1).reshape(-1, *[1] * (step.ndim - 1)) * step


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
    """Refuse what is no share."""
    if not 0 <= value <= 1:
        raise ModelError(f"got {name} {value}, wanted 0 (no new noise) to 1")
