"""What the network of a gap-filling model is given in use, made without anybody's data.

The ranges of 8 bits are taken from it. A raster shows a random field with the power spectrum of land surfaces, beside
another date of the place; a picture shows squares of the photograph that scikit-image carries. A part is hidden, and
the background and the noise are those of a fill.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from lacunar.diffusion.process import q_sample
from lacunar.errors import LacunarError
from lacunar.geo.missing_shapes import gap_pattern
from lacunar.interpolate.external_drift import krige_with_guides
from lacunar.interpolate.membrane import RESIDUAL_SIGMA
from lacunar.interpolate.pca_prior import background_mean
from lacunar.interpolate.scaling import RangeScaling
from lacunar.models.checkpoint import Model
from lacunar.models.onnx import InUse
from lacunar.networks.layers import network_input

COUNT = 12  # inputs, at times spread over the schedule
RATES = (0.05, 0.7)  # missing
SLOPE = 2.8  # of the power spectrum of a land surface's temperature
OTHER_DATE = 0.5  # standard deviation of what another date shows beside the field itself
LARGEST_RESIDUAL = 6.0  # in units of the background's sigma, as in training
FACE, SIDES = (225, 125), (110, 240)  # middle (x, y) of the astronaut's face, and sides of squares around it, in pixels

FloatArray = NDArray[np.float64]


def inputs_in_use(model: Model, *, seed: int = 0) -> InUse:
    """What the network is given, x (`COUNT`, C, s, s) and t (`COUNT`,); its answers count where pixels are missing.

    They count as the error does that they make in pred_x_0, sqrt(1 - alphas_cumprod) of v. An unconditional prior,
    whose many evaluations add up the errors of 8 bits, is a `LacunarError`.
    """
    network = model.network
    if network.in_channels <= network.out_channels + 1:
        raise LacunarError(
            f"{model.name} is an unconditional prior, which 8 bits are too few for: choose --backend onnx"
        )
    rng, side = np.random.default_rng(seed), network.config.sample_size
    make = _picture if isinstance(model.scaling, RangeScaling) else _tile
    parts = []
    for _ in range(COUNT):
        missing = gap_pattern("blobs", (side, side), rng.uniform(*RATES), rng=rng)
        parts.append((*make(model, missing, rng), missing[None]))
    x_0, condition, hidden = (torch.from_numpy(np.stack(part)).float() for part in zip(*parts, strict=True))
    t = torch.linspace(0, model.schedule.num_timesteps - 1, COUNT).long()
    eps = torch.from_numpy(rng.standard_normal(x_0.shape)).float()
    x = network_input(q_sample(x_0, t, eps, model.schedule), condition, hidden)
    sigma = torch.from_numpy(np.sqrt(1 - model.schedule.alphas_cumprod[t.numpy()])).float()
    return InUse((x[:, : network.in_channels], t), hidden * sigma[:, None, None, None])


def _tile(model: Model, missing: NDArray[np.bool_], rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Residual (1, s, s) and condition (3, s, s) of a kriged tile."""
    field, other = (_surface(len(missing), rng) for _ in range(2))
    kriged = krige_with_guides(field, ~missing, (field + OTHER_DATE * other)[None])
    z = np.divide(field - kriged.mean, kriged.std, out=np.zeros_like(field), where=missing)
    condition = np.stack([kriged.mean, np.where(missing, kriged.std, 0.0), kriged.guide - kriged.guide.mean()])
    return z.clip(-LARGEST_RESIDUAL, LARGEST_RESIDUAL)[None], condition


def _surface(side: int, rng: np.random.Generator) -> FloatArray:
    """A random field (s, s) of mean 0 and standard deviation 1."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) * frequency ** (-SLOPE / 2)
    field = np.fft.irfft2(spectrum, s=(side, side))
    return np.asarray(field / field.std())


def _picture(model: Model, missing: NDArray[np.bool_], rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Residual (3, s, s) and condition (4, s, s) of a square of a photograph."""
    from skimage.data import astronaut
    from skimage.transform import resize

    reach = int(rng.uniform(*SIDES)) // 2
    rows, cols = (slice(middle - reach, middle + reach) for middle in FACE[::-1])
    square = astronaut()[rows, cols][:, :: rng.choice((1, -1))] / 127.5 - 1  # type: ignore[no-untyped-call]
    small = resize(square, (*missing.shape, 3), anti_aliasing=True).astype(np.float32)  # type: ignore[no-untyped-call]
    mean = background_mean(model.prior, small, missing)
    z = np.where(missing[..., None], small - mean, 0) / RESIDUAL_SIGMA
    sigma = np.full((1, *missing.shape), RESIDUAL_SIGMA)
    return np.moveaxis(z, 2, 0), np.concatenate([np.moveaxis(mean, 2, 0), sigma])
