"""RePaint: fill a gap with an unconditional DDPM, held to the known pixels at every step."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from lacunar.diffusion.process import FixedVariance, Prediction
from lacunar.diffusion.sampling import Callback, Denoiser, ddpm_step, noise_like
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import ModelError


def jump_timetable(t_T: int, jump_length: int = 10, jump_n_sample: int = 10) -> list[int]:
    """List the steps that RePaint visits: down by ones, and at every ``jump_length`` steps up again and down again.

    Wherever t is a multiple of ``jump_length`` and there is room above (t + ``jump_length`` < ``t_T``), the walk goes
    up ``jump_length`` steps and back, ``jump_n_sample`` - 1 times, so that each stretch is denoised ``jump_n_sample``
    times. A pair (t, t - 1) is one network evaluation at t, a pair (t, t + 1) one re-noising.

    Parameters
    ----------
    t_T : int
        Number of steps of the schedule, at least 1.
    jump_length : int
        How far a jump goes up, at least 1.
    jump_n_sample : int
        How often each stretch is denoised, at least 1 (no jump).

    Returns
    -------
    list of int
        Starts at ``t_T`` - 1, ends 1, 0, -1, where -1 is the clean image; neighbours differ by one.

    Raises
    ------
    ModelError
        When a value is below 1.

    References
    ----------
    Lugmayr et al. 2022, arXiv 2201.09865, section 4.2 and the appendix on the jump schedule.

    Examples
    --------
    >>> jump_timetable(5, jump_length=2, jump_n_sample=2)
    [4, 3, 2, 3, 4, 3, 2, 1, 0, 1, 2, 1, 0, -1]
    >>> from itertools import pairwise
    >>> times = jump_timetable(250, 10, 10)
    >>> len(times) - 1, sum(after < before for before, after in pairwise(times))
    (4570, 2410)
    """
    for name, value in (("t_T", t_T), ("jump_length", jump_length), ("jump_n_sample", jump_n_sample)):
        if value < 1:
            raise ModelError(f"got {name} = {value}, wanted at least 1; the paper uses 250, 10 and 10")
    times: list[int] = []
    for t in reversed(range(t_T)):
        times.append(t)
        if t % jump_length == 0 and t + jump_length < t_T:
            up_and_down = [*range(t + 1, t + jump_length), *range(t + jump_length, t - 1, -1)]
            times += up_and_down * (jump_n_sample - 1)
    return [*times, -1]


@torch.no_grad()
def repaint_sample(
    denoiser: Denoiser,
    x_0_known: Tensor,
    known: Tensor,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    jump_length: int = 10,
    jump_n_sample: int = 10,
    prediction: Prediction = "epsilon",
    fixed_variance: FixedVariance = "small",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Fill the unknown pixels by RePaint (Lugmayr et al. 2022, Algorithm 1).

    At each step down the known pixels are drawn from q(x_{t-1} | x_0) of the given image and the unknown ones from
    p(x_{t-1} | x_t); at each step up all are noised again, so that both parts come to agree. The prior is any
    unconditional network, unchanged. The result is an approximation: only many resamplings and steps bring it near
    the conditional distribution.

    Two slips in the printed algorithm and public code are mended here. Line 5 scales the noise by 1 - ᾱ_t, which is a
    variance: its root is meant (Eq. 8a). And the known part must be as noisy as the x_{t-1} it is joined to, so it is
    drawn with ᾱ_{t-1}, which makes it the image itself at the end.

    Parameters
    ----------
    denoiser : Denoiser
        The network.
    x_0_known : torch.Tensor
        The image, (B, C, H, W); what stands in unknown pixels is never used and may be NaN.
    known : torch.Tensor
        Bool, broadcasts to ``x_0_known``: True = measured, False = to be filled.
    x_T : torch.Tensor
        Standard normal noise to start from, of the shape of ``x_0_known``.
    schedule : NoiseSchedule
        The training schedule or one respaced from it; the paper uses 250 steps.
    jump_length, jump_n_sample : int
        See `jump_timetable`; 10 and 10 in the paper. 1 and 1 means no resampling.
    prediction : {"epsilon", "v", "x_0"}
        What the network predicts.
    fixed_variance : {"small", "large"}
        β̃_t or β_t, for a network without learned variance.
    clip_x_0 : tuple of float, optional
        Range that each predicted x_0 is clipped to.
    generator : torch.Generator, optional
        The only source of randomness.
    callback : callable, optional
        Called after each network evaluation with (evaluations done, evaluations in all).

    Returns
    -------
    torch.Tensor
        The filled image, of the shape of ``x_0_known``; its known pixels are bit-identical to those given.

    Raises
    ------
    ModelError
        When shapes, dtypes, names or channels do not fit, or a known pixel is not finite.

    References
    ----------
    Lugmayr et al. 2022, arXiv 2201.09865.
    """
    known = checked_known(x_0_known, known, x_T)
    times = jump_timetable(schedule.num_timesteps, jump_length, jump_n_sample)
    transitions = list(pairwise(times))
    evaluations, done = sum(after < before for before, after in transitions), 0
    x = x_T
    for before, after in transitions:
        if after > before:  # line 10: x_t ~ N(√(1-β_t) x_{t-1}, β_t I)
            beta = float(schedule.betas[after])
            x = (1 - beta) ** 0.5 * x + beta**0.5 * noise_like(x, generator)
            continue
        x_unknown = ddpm_step(  # line 7
            denoiser,
            x,
            before,
            schedule,
            prediction=prediction,
            fixed_variance=fixed_variance,
            clip_x_0=clip_x_0,
            generator=generator,
        )
        x_known = x_0_known
        if after >= 0:  # line 5: x_{t-1} ~ N(√ᾱ_{t-1} x_0, (1-ᾱ_{t-1}) I)
            alpha_bar = float(schedule.alphas_cumprod[after])
            x_known = alpha_bar**0.5 * x_0_known + (1 - alpha_bar) ** 0.5 * noise_like(x, generator)
        x = torch.where(known, x_known, x_unknown)  # line 8
        done += 1
        if callback is not None:
            callback(done, evaluations)
    return x


def checked_known(x_0_known: Tensor, known: Tensor, x_T: Tensor) -> Tensor:
    """Refuse a mask or noise that does not fit the image; give the mask in the image's shape."""
    if known.dtype != torch.bool:
        raise ModelError(f"got known of dtype {known.dtype}, wanted torch.bool with True = measured; convert the mask")
    if x_T.shape != x_0_known.shape or x_T.dtype != x_0_known.dtype:
        raise ModelError(
            f"got x_T of shape {tuple(x_T.shape)} and {x_T.dtype}, wanted {tuple(x_0_known.shape)} and "
            f"{x_0_known.dtype} as x_0_known has; make the noise with torch.randn of that shape"
        )
    try:
        known = known.expand_as(x_0_known)
    except RuntimeError:
        raise ModelError(
            f"got known of shape {tuple(known.shape)}, wanted one that broadcasts to {tuple(x_0_known.shape)}; "
            "give one bool for each pixel"
        ) from None
    bad = int((known & ~torch.isfinite(x_0_known)).sum())
    if bad:
        raise ModelError(
            f"got {bad} known pixels that are NaN or infinite, wanted finite measurements; set known to False there"
        )
    return known
