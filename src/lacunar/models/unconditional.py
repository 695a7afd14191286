"""Samples of a model that is told nothing: what it takes for a tile of temperature, a face or a picture."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lacunar.diffusion.samplers import PRESETS
from lacunar.diffusion.solvers import Callback, ddim_sample
from lacunar.models.checkpoint import Model
from lacunar.models.weights import require_finite
from lacunar.networks.layers import network_input

BATCH = 16  # samples in one call of the network
FloatArray = NDArray[np.float32]


class Untold:
    """A ``Denoiser``: the network, told that its mean is 0, its sigma 1, and that all is missing."""

    def __init__(self, model: Model) -> None:
        self._network = model.network

    def __call__(self, x_t: Tensor, t: Tensor, /) -> Tensor:
        """Predict for x_t (B, C, H, W) at the times t (B,)."""
        planes = self._network.in_channels - x_t.shape[1] - 1  # mean, sigma and guides; none of an unconditional prior
        given = x_t
        if planes >= 0:
            condition = torch.zeros(len(x_t), planes, *x_t.shape[2:], device=x_t.device)
            condition[:, x_t.shape[1]] = 1.0
            given = network_input(x_t, condition, torch.ones_like(x_t[:, :1]))
        answer: Tensor = self._network(given, t)
        return answer


def draw_untold(
    model: Model,
    count: int,
    *,
    seed: int = 0,
    evaluations: int = PRESETS["balanced"].evaluations,
    callback: Callback | None = None,
) -> FloatArray:
    """Draw ``count`` samples (count, C, s, s) by DDIM, in the model's own units, at its own size.

    A sample depends on the seed and its number alone. ``callback`` is called with (samples done, all). Answers that are
    not finite are a ``ModelError``.
    """
    side = model.network.config.sample_size
    device = next(model.network.parameters()).device
    schedule, drawn = model.schedule.respaced(evaluations), []
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        noise = [
            np.random.default_rng((seed, number)).standard_normal(
                (model.network.out_channels, side, side), dtype=np.float32
            )
            for number in numbers
        ]
        x_T = torch.from_numpy(np.stack(noise)).to(device)
        with torch.inference_mode():
            drawn.append(ddim_sample(Untold(model), x_T, schedule, prediction=model.prediction).cpu().numpy())
        if callback is not None:
            callback(numbers.stop, count)
    made = np.concatenate(drawn)
    require_finite(made, model.name)
    return np.asarray(made, dtype=np.float32)
