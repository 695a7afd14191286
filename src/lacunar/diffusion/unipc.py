"""UniPC by diffusers' scheduler, on the steps of our schedules."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from lacunar.diffusion.process import Prediction
from lacunar.diffusion.sampling import Callback, Denoiser, estimate_x_0, warm_start
from lacunar.diffusion.schedule import NoiseSchedule


@torch.no_grad()
def unipc_sample(
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
    """Sample by UniPC-2 with B_2(h) (Zhao et al. 2023): predictor and corrector at one evaluation for each step.

    The update is that of diffusers' ``UniPCMultistepScheduler``; it is given the σ/α of this schedule's own steps in
    place of those that it would choose, and the x̂_0 of the network whatever that predicts.

    Parameters
    ----------
    denoiser, x_T, schedule, start, strength, prediction, clip_x_0, callback
        As in `lacunar.diffusion.solvers.dpm_solver_pp_2m_sample`.

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
    Zhao et al. 2023, arXiv 2302.04867.
    """
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler  # takes seconds to import

    x, count = warm_start(x_T, schedule, start=start, strength=strength)
    scheduler = UniPCMultistepScheduler(
        num_train_timesteps=schedule.num_timesteps,
        trained_betas=schedule.betas,
        prediction_type="sample",
        solver_order=2,
    )
    sigmas = np.sqrt(1 / schedule.alphas_cumprod[:count] - 1)[::-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy 2, in steps that are replaced at once
        scheduler.set_timesteps(count)
    scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0.0))  # float64, and the clean image at the end
    scheduler.timesteps = torch.arange(count - 1, -1, -1)
    for t in reversed(range(count)):
        x_0 = estimate_x_0(denoiser, x, t, schedule, prediction=prediction, clip_x_0=clip_x_0)
        x = scheduler.step(x_0, t, x).prev_sample
        if callback is not None:
            callback(count - t, count)
    return x
