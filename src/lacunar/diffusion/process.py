"""The forward process, its posterior, and what a network's output says about them; functions over tensors.

Throughout, images are (B, C, H, W) and ``t`` is a LongTensor (B,) of indices into the given (possibly respaced)
schedule, 0 = least noisy. Keep ``t`` on the CPU: coefficients are gathered there in float64 and only then cast to the
image's dtype and device. Shapes that differ, an unknown name or a ``t`` outside the schedule are a `ModelError`.

References: Ho, Jain & Abbeel 2020, arXiv 2006.11239; Nichol & Dhariwal 2021, arXiv 2102.09672; Salimans & Ho 2022,
arXiv 2202.00512.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from lacunar.diffusion.schedule import FloatArray, NoiseSchedule
from lacunar.errors import ModelError

Prediction = Literal["epsilon", "v", "x_0"]


class ReverseStep(NamedTuple):
    """p(x_{t-1} | x_t) = N(mean, variance) at one step, each of the shape of x_t, and the x_0 behind it."""

    mean: Tensor
    variance: Tensor
    log_variance: Tensor
    pred_x_0: Tensor


def q_sample(x_0: Tensor, t: Tensor, eps: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Draw x_t ~ q(x_t | x_0): x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε (Ho et al. 2020, Eq. 4).

    >>> x_0, t = torch.ones(1, 1, 1, 1), torch.tensor([999])
    >>> round(q_sample(x_0, t, torch.zeros_like(x_0), NoiseSchedule.linear(1000)).item(), 5)
    0.00635
    """
    _check_same_shape("eps", eps, "x_0", x_0)
    alphas_cumprod = schedule.alphas_cumprod
    return _at(np.sqrt(alphas_cumprod), t, x_0) * x_0 + _at(np.sqrt(1 - alphas_cumprod), t, x_0) * eps


def q_posterior(x_0: Tensor, x_t: Tensor, t: Tensor, schedule: NoiseSchedule) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and log variance of q(x_{t-1} | x_t, x_0), each of the shape of x_t (Ho et al. 2020, Eq. 6 and 7).

    μ̃ = √ᾱ_{t-1} β_t / (1-ᾱ_t) x_0 + √α_t (1-ᾱ_{t-1}) / (1-ᾱ_t) x_t and β̃ = β_t (1-ᾱ_{t-1}) / (1-ᾱ_t). At t = 0 the
    variance is 0 and its logarithm that of t = 1.
    """
    _check_same_shape("x_t", x_t, "x_0", x_0)
    one_minus = 1 - schedule.alphas_cumprod
    weight_x_0 = np.sqrt(schedule.alphas_cumprod_prev) * schedule.betas / one_minus
    weight_x_t = np.sqrt(schedule.alphas) * (1 - schedule.alphas_cumprod_prev) / one_minus
    mean = _at(weight_x_0, t, x_t) * x_0 + _at(weight_x_t, t, x_t) * x_t
    variance = _at(schedule.posterior_variance, t, x_t).expand_as(x_t)
    return mean, variance, _at(schedule.posterior_log_variance_clipped, t, x_t).expand_as(x_t)


def pred_x_0_from_eps(x_t: Tensor, t: Tensor, eps: Tensor, schedule: NoiseSchedule) -> Tensor:
    """x_0 = (x_t - √(1-ᾱ_t) ε) / √ᾱ_t (Ho et al. 2020, Eq. 4 solved for x_0)."""
    _check_same_shape("eps", eps, "x_t", x_t)
    alphas_cumprod = schedule.alphas_cumprod
    return _at(1 / np.sqrt(alphas_cumprod), t, x_t) * x_t - _at(np.sqrt(1 / alphas_cumprod - 1), t, x_t) * eps


def pred_x_0_from_v(x_t: Tensor, t: Tensor, v: Tensor, schedule: NoiseSchedule) -> Tensor:
    """x_0 = √ᾱ_t x_t - √(1-ᾱ_t) v (Salimans & Ho 2022, appendix D)."""
    _check_same_shape("v", v, "x_t", x_t)
    alphas_cumprod = schedule.alphas_cumprod
    return _at(np.sqrt(alphas_cumprod), t, x_t) * x_t - _at(np.sqrt(1 - alphas_cumprod), t, x_t) * v


def eps_from_x_0(x_t: Tensor, t: Tensor, x_0: Tensor, schedule: NoiseSchedule) -> Tensor:
    """ε = (x_t - √ᾱ_t x_0) / √(1-ᾱ_t), the noise that x_t holds over x_0 (Ho et al. 2020, Eq. 4 solved for ε)."""
    _check_same_shape("x_0", x_0, "x_t", x_t)
    alphas_cumprod = schedule.alphas_cumprod
    return (x_t - _at(np.sqrt(alphas_cumprod), t, x_t) * x_0) / _at(np.sqrt(1 - alphas_cumprod), t, x_t)


def v_from_x_0_eps(x_0: Tensor, t: Tensor, eps: Tensor, schedule: NoiseSchedule) -> Tensor:
    """V = √ᾱ_t ε - √(1-ᾱ_t) x_0 (Salimans & Ho 2022, appendix D)."""
    _check_same_shape("eps", eps, "x_0", x_0)
    alphas_cumprod = schedule.alphas_cumprod
    return _at(np.sqrt(alphas_cumprod), t, x_0) * eps - _at(np.sqrt(1 - alphas_cumprod), t, x_0) * x_0


def split_output(output: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor | None]:
    """Split a denoiser's output into its prediction and, when the variance is learned, the range parameter o.

    The output is (B, C, H, W), or (B, 2C, H, W) with learned variance; both parts get the dtype of ``x_t``, because a
    network may run in half precision but the mathematics does not.

    >>> prediction, o = split_output(torch.zeros(1, 6, 2, 2), torch.zeros(1, 3, 2, 2))
    >>> tuple(prediction.shape), o is None
    ((1, 3, 2, 2), False)
    """
    batch, channels, *size = x_t.shape
    output = output.to(x_t.dtype)
    if output.shape == x_t.shape:
        return output, None
    if output.shape == (batch, 2 * channels, *size):
        return output[:, :channels], output[:, channels:]
    raise ModelError(
        f"got denoiser output of shape {tuple(output.shape)}, wanted {channels} or {2 * channels} channels for x_t of "
        f"shape {tuple(x_t.shape)}; use a network whose channels fit the image"
    )


def predict_x_0(
    output: Tensor, x_t: Tensor, t: Tensor, schedule: NoiseSchedule, *, prediction: Prediction = "epsilon"
) -> Tensor:
    """Turn a denoiser's output into its estimate of x_0; a learned variance is ignored."""
    _check_prediction(prediction)
    predicted, _ = split_output(output, x_t)
    if prediction == "epsilon":
        return pred_x_0_from_eps(x_t, t, predicted, schedule)
    if prediction == "v":
        return pred_x_0_from_v(x_t, t, predicted, schedule)
    return predicted


def training_target(
    x_0: Tensor, t: Tensor, eps: Tensor, schedule: NoiseSchedule, *, prediction: Prediction = "epsilon"
) -> Tensor:
    """What a network of this ``prediction`` should put out for x_t made of ``x_0`` and ``eps``: ε, v or x_0."""
    _check_prediction(prediction)
    if prediction == "epsilon":
        return eps
    return v_from_x_0_eps(x_0, t, eps, schedule) if prediction == "v" else x_0


def learned_range_log_variance(o: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Log Σ = v log β_t + (1-v) log β̃_t with v = (o + 1)/2 (Nichol & Dhariwal 2021, Eq. 15).

    o = -1 means β̃_t and o = 1 means β_t; values beyond are not clipped.
    """
    v = (o + 1) / 2
    return v * _at(np.log(schedule.betas), t, o) + (1 - v) * _at(schedule.posterior_log_variance_clipped, t, o)


def p_mean_variance(
    output: Tensor,
    x_t: Tensor,
    t: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
) -> ReverseStep:
    """Read p(x_{t-1} | x_t) = N(μ, Σ) off a denoiser's output, with μ = μ̃(x_t, predicted x_0) (Ho et al. 2020, Eq. 7).

    ``prediction`` says what the output (or its first half, with learned variance) stands for; ``clip_x_0`` is the range
    that the predicted x_0 is clipped to before μ is formed. Without learned variance Σ is β̃_t, at t = 0 that of t = 1.
    """
    pred_x_0 = predict_x_0(output, x_t, t, schedule, prediction=prediction)
    if clip_x_0 is not None:
        pred_x_0 = pred_x_0.clamp(*clip_x_0)
    mean, _, log_variance = q_posterior(pred_x_0, x_t, t, schedule)
    _, o = split_output(output, x_t)
    if o is not None:
        log_variance = learned_range_log_variance(o, t, schedule)
    return ReverseStep(mean, log_variance.exp(), log_variance, pred_x_0)


def _at(values: FloatArray, t: Tensor, like: Tensor) -> Tensor:
    """Gather ``values[t]`` in float64 and shape it (B, 1, 1, 1), of the dtype and device of ``like``."""
    steps = t.detach().cpu()
    if steps.dtype != torch.int64 or steps.shape != like.shape[:1]:
        raise ModelError(
            f"got t of dtype {steps.dtype} and shape {tuple(steps.shape)}, wanted torch.int64 and "
            f"{tuple(like.shape[:1])}; give one step for each image of the batch"
        )
    if steps.numel() and not 0 <= int(steps.min()) <= int(steps.max()) < len(values):
        # A negative index would not fail but silently take the noisiest step.
        raise ModelError(
            f"got t spanning {int(steps.min())}..{int(steps.max())}, wanted 0..{len(values) - 1}; "
            "index the schedule that is given, not the one it was respaced from"
        )
    gathered = torch.tensor(values, dtype=torch.float64)[steps].to(like.dtype)
    return gathered.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def _check_same_shape(name: str, tensor: Tensor, like_name: str, like: Tensor) -> None:
    if tensor.shape != like.shape:
        raise ModelError(
            f"got {name} of shape {tuple(tensor.shape)}, wanted {tuple(like.shape)}, the shape of {like_name}; "
            "pass tensors of one shape"
        )


def _check_prediction(prediction: str) -> None:
    if prediction not in get_args(Prediction):
        raise ModelError(f"got prediction {prediction!r}, wanted one of {', '.join(get_args(Prediction))}")
