"""Denoisers whose answers are known in closed form, because their data are Gaussian."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lacunar.diffusion.process import Prediction
from lacunar.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class GaussianDenoiser:
    """The exact E[x_0 | x_t] for x_0 ~ N(mean, covariance) over the flattened (C, H, W) pixels.

    With x_t = a x_0 + s eps (a = sqrt(abar_t), s^2 = 1 - abar_t), the joint Gaussian gives
    E[x_0 | x_t] = mean + a S (a^2 S + s^2 I)^-1 (x_t - a mean).
    Written without lacunar.diffusion.process, so that it can judge it. ``training_schedule`` is what ``t`` indexes.
    """

    mean: Tensor
    covariance: Tensor
    training_schedule: NoiseSchedule
    prediction: Prediction = "epsilon"

    @cached_property
    def eigen(self) -> tuple[Tensor, Tensor]:
        eigenvalues, vectors = torch.linalg.eigh(self.covariance.double())
        return eigenvalues, vectors

    def __call__(self, x_t: Tensor, t: Tensor, /) -> Tensor:
        abar = torch.tensor(self.training_schedule.alphas_cumprod)[t][:, None]
        a, s = abar.sqrt(), (1 - abar).sqrt()
        flat = x_t.flatten(1).double()
        eigenvalues, vectors = self.eigen
        centred = (flat - a * self.mean.double()) @ vectors
        gain = a * eigenvalues / (abar * eigenvalues + 1 - abar)
        x_0 = self.mean.double() + (gain * centred) @ vectors.T
        eps = (flat - a * x_0) / s
        answer = {"x_0": x_0, "epsilon": eps, "v": a * eps - s * x_0}[self.prediction]
        return answer.reshape(x_t.shape).to(x_t.dtype)


@dataclass(frozen=True)
class ExactReverseDenoiser:
    """For pixels that are independent N(mean, variance): the exact mean AND variance of q(x_{t-1} | x_t).

    q(x_{t-1} | x_t) is then Gaussian at any step size, so a correct DDPM with learned variance samples without bias
    at any number of steps. ``schedule`` is the respaced schedule that is sampled with; its ``timesteps`` are the
    ``t`` that come in. The precision of x_{t-1} given x_t is 1/m + alpha/beta, where m is the variance of x_{t-1}.
    """

    mean: float
    variance: float
    schedule: NoiseSchedule

    def __call__(self, x_t: Tensor, t: Tensor, /) -> Tensor:
        i = int((self.schedule.timesteps == int(t[0])).argmax())
        beta, alpha = float(self.schedule.betas[i]), float(self.schedule.alphas[i])
        abar, abar_prev = float(self.schedule.alphas_cumprod[i]), float(self.schedule.alphas_cumprod_prev[i])
        marginal = abar_prev * self.variance + 1 - abar_prev
        reverse_variance = 1 / (1 / marginal + alpha / beta)
        low = float(self.schedule.posterior_log_variance_clipped[i])
        high = torch.tensor(beta).double().log().item()
        v = (torch.tensor(reverse_variance).double().log().item() - low) / (high - low)
        x_0 = self.mean + abar**0.5 * self.variance / (abar * self.variance + 1 - abar) * (x_t - abar**0.5 * self.mean)
        eps = (x_t - abar**0.5 * x_0) / (1 - abar) ** 0.5
        return torch.cat([eps, torch.full_like(x_t, 2 * v - 1)], dim=1)


def exact_flow(x_T: Tensor, mean: float, variance: float, alpha_bar: float) -> Tensor:
    """Where the probability-flow ODE takes x_T for N(mean, variance) data: both are the same number of sigmas out."""
    return mean + variance**0.5 * (x_T - alpha_bar**0.5 * mean) / (alpha_bar * variance + 1 - alpha_bar) ** 0.5
