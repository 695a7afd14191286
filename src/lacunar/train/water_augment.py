"""Other light on examples of water: haze, stretches, clouds, shadows, and water painted in rare colours.

Networks that have seen few turbid rivers learn that water is dark. Painting the water of some pictures milky, brown or
grey, and darkening land by shadows, takes that short cut away. Values are in units of the image's common scale.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from lacunar.sensors.bands import RGB

PAINTED = 0.18  # share of the pictures whose water is painted
TINTS = ((1, 0.8, 0.6), (1, 1, 1), (1, 0.85, 0.8), (0.6, 1, 1), (0.7, 1, 0.7))  # red, green, blue: mud to algae
PAINT_LEVEL = (0.12, 1.15)  # brightness of painted water
PAINTABLE = (0.01, 0.97)  # share of water in a picture that can be painted
DARK_LAND = 0.35  # share of the painted pictures whose land is darkened before
CLOUDED, THIN, SHADED = 0.18, 0.25, 0.2  # shares of the examples with clouds and their shadows, thin cloud, shadows
ROUGHNESS = (1.2, 1.9)  # exponent of a cloud's amplitudes over frequency; 4/3 is that of turbulence (Kolmogorov 1941)
FAR = 32  # pixels from a cloud to its shadow, at most
CLOUD_BRIGHTNESS = {"nir": 1.0, "swir1": 0.7, "swir2": 0.55}  # of what it is in the visible: droplets absorb
OPAQUE, VEILED = 0.5, 0.15  # shares of cloud: from the first it is one; above the second nobody says what is seen
SNOWY = 0.05  # share of the examples with snow
SNOW_BRIGHTNESS = {"nir": 0.85, "swir1": 0.12, "swir2": 0.1}  # of what it is in the visible
HAZE = 0.35  # share of thin cloud from which nobody says what is under it
CLEAR, CLOUD, SHADOW, SNOW = 0.0, 1.0, 2.0, 3.0  # covers other than water
UNCHANGED = 0.15  # share of the examples whose light stays
STRETCHED = 0.3  # share of the pictures that are stretched between percentiles
BLURRED = 0.12
MANY = 4  # from so many bands on, ratios between bands are physical and change little

Generator = np.random.Generator


def augmented(
    bands: Tensor, labels: Tensor, valid: Tensor, rng: Generator, *, names: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Bands and labels of an example in other light; water under an opaque cloud or snow is land.

    ``bands`` (C, H, W) are those that ``names`` says; ``labels`` (2, H, W) are where water is, 0 or 1, and which cover
    else (`CLEAR` to `SNOW`, -1 unknown); ``valid`` (1, H, W) is 0 or 1. A picture of red, green and blue, in that
    order, may have its water painted.
    """
    water, cover = labels[:1], labels[1:]
    if tuple(names) == RGB and rng.random() < PAINTED:
        bands = _painted(bands, water * valid, rng)
    if rng.random() < SNOWY:
        fresh = _blobs(bands, rng)
        relief = (
            (bands / bands.mean(dim=(1, 2), keepdim=True).clamp(min=0.05)).mean(dim=0, keepdim=True).clamp(0.6, 1.4)
        )
        bright = rng.uniform(0.8, 1.5) * np.array([SNOW_BRIGHTNESS.get(name, 1.0) for name in names])
        bands = torch.lerp(bands, _plane(bright * np.exp(rng.normal(0, 0.05, len(names)))) * relief, fresh)
        water, cover = water * (fresh < 0.5), torch.where(fresh > 0.5, SNOW, cover)
    if rng.random() < SHADED:
        shade = _blobs(bands, rng)
        bands = bands * (1 - rng.uniform(0.4, 0.85) * shade)
        cover = torch.where(shade > 0.5, SHADOW, cover)
    bands = _relit(bands, valid, rng)
    if rng.random() < THIN:
        veil, share = _plane(rng.uniform(0.7, 1.2)), _field(bands, rng, 6).clamp(0, 1) * rng.uniform(0, 0.7)
        bands, cover = torch.lerp(bands, veil, share), torch.where(share > HAZE, -1.0, cover)
    if rng.random() < CLOUDED:
        bands, water, cover = _clouded(bands, water, cover, rng, names)
    if rng.random() < BLURRED:
        bands = avg_pool2d(bands[None], 3, 1, 1, count_include_pad=False)[0]
    bands = bands + torch.from_numpy(rng.standard_normal(bands.shape, dtype=np.float32)) * rng.uniform(0, 0.03)
    return bands.clamp(0, rng.uniform(1.0, 1.7) if len(bands) < MANY else 2.0), torch.cat([water, cover])


def _clouded(
    bands: Tensor, water: Tensor, cover: Tensor, rng: Generator, names: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Clouds of every size with soft edges, and their shadows, all displaced alike."""
    depth = _fractal(bands.shape[1:], rng)
    level = np.quantile(depth[0, ::4, ::4].numpy(), rng.uniform(0.5, 0.97))
    cloud = 1 - torch.exp(-rng.uniform(2, 10) * (depth - level).clamp(min=0))
    shade = cloud.roll(tuple(int(step) for step in rng.integers(-FAR, FAR + 1, 2)), (1, 2)) * (1 - cloud)
    if rng.random() < 0.5:  # a bright cloud raises the common scale of its image: all else is darker
        bands = bands * rng.uniform(0.35, 1)
    bands = bands * (1 - rng.uniform(0.3, 0.75) * shade)
    spectrum = np.array([CLOUD_BRIGHTNESS.get(name, 1.0) for name in names]) ** rng.uniform(0, 2)
    relief = 1 + rng.uniform(0, 0.15) * _fractal(bands.shape[1:], rng)
    bands = torch.lerp(
        bands, _plane(rng.uniform(0.7, 1.4) * spectrum * np.exp(rng.normal(0, 0.04, len(names)))) * relief, cloud
    )
    cover = torch.where(shade > OPAQUE, SHADOW, torch.where(shade > VEILED, -1.0, cover))
    cover = torch.where(cloud > OPAQUE, CLOUD, torch.where(cloud > VEILED, -1.0, cover))
    return bands, water * (cloud < OPAQUE), cover


def _painted(bands: Tensor, water: Tensor, rng: Generator) -> Tensor:
    """Another colour on the water; its waves and a smooth variation stay on it, and the shore is soft."""
    share = float(water.mean())
    if not PAINTABLE[0] < share < PAINTABLE[1]:
        return bands
    tint = np.array([*TINTS, np.exp(rng.normal(0, 0.2, 3))][rng.integers(len(TINTS) + 1)]) ** rng.uniform(0, 1)
    colour = _plane(tint / tint.mean() * rng.uniform(*PAINT_LEVEL))
    mean = (bands * water).sum(dim=(1, 2), keepdim=True) / water.sum()
    smooth = 1 + (_field(bands, rng, 7) - 0.5) * rng.uniform(0, 0.3)
    painted = colour * smooth + (bands - mean) * rng.uniform(0.5, 1.5)
    land = bands * rng.uniform(0.25, 0.8) if rng.random() < DARK_LAND else bands
    return torch.lerp(land, painted, avg_pool2d(water[None], 3, 1, 1)[0]).clamp(min=0)


def _relit(bands: Tensor, valid: Tensor, rng: Generator) -> Tensor:
    """Gain, exponent, haze and colour; little of it where the bands are many."""
    if rng.random() < UNCHANGED:
        return bands
    if len(bands) >= MANY:
        gains = np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.06, len(bands)))
        return bands * _plane(gains) + _plane(rng.uniform(0, 0.06) + rng.normal(0, 0.01, len(bands)))
    if rng.random() < STRETCHED:
        bands = _stretched(bands, valid, rng)
    bands = bands.clamp(0, 2) ** float(np.exp(rng.normal(0, 0.25)))
    gains = np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.12, len(bands)))
    bands = bands * _plane(gains) + _plane(rng.uniform(-0.08, 0.15) + rng.normal(0, 0.03, len(bands)))
    if rng.random() < 0.5:  # more or less saturated
        bands = torch.lerp(bands.mean(dim=0, keepdim=True), bands, float(np.exp(rng.normal(0, 0.35))))
    return bands


def _stretched(bands: Tensor, valid: Tensor, rng: Generator) -> Tensor:
    """Stretched between low and high percentiles, of each band or of all together, as viewers do."""
    values = bands[:, valid[0] > 0][:, ::7]
    if values.shape[1] < 20:
        return bands
    tail = rng.uniform(0.5, 4) / 100
    low, high = np.quantile(values.numpy(), [tail, 1 - tail], axis=1)
    if rng.random() < 0.3:
        low, high = np.full_like(low, low.mean()), np.full_like(high, high.mean())
    return (bands - _plane(low)) / _plane(np.maximum(high - low, 0.05))


def _blobs(bands: Tensor, rng: Generator) -> Tensor:
    """Patches (1, H, W) of 1 with soft edges, on up to half of the image."""
    field = _field(bands, rng, 8) + 0.15 * _field(bands, rng, 32)
    level = np.quantile(field[0, ::4, ::4].numpy(), rng.uniform(0.5, 0.95))
    blobs: Tensor = ((field - level) * rng.uniform(8, 40)).clamp(0, 1)
    return blobs


def _field(bands: Tensor, rng: Generator, finest: int) -> Tensor:
    """A smooth random field (1, H, W) of about 0 to 1."""
    knots = torch.from_numpy(rng.random((1, 1, *rng.integers(2, finest + 1, 2)), dtype=np.float32))
    return interpolate(knots, size=bands.shape[1:], mode="bilinear", align_corners=False)[0]


def _fractal(shape: Sequence[int], rng: Generator) -> Tensor:
    """A random field (1, H, W) of mean 0 and standard deviation 1 without a scale of its own; it wraps around."""
    height, width = shape
    along = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    along[0, 0] = np.inf
    waves = np.fft.rfft2(rng.standard_normal((height, width), dtype=np.float32)) * along ** -rng.uniform(*ROUGHNESS)
    field = np.fft.irfft2(waves, s=(height, width)).astype(np.float32)
    return torch.from_numpy(field / field.std())[None]


def _plane(values: ArrayLike) -> Tensor:
    """One number for each band, or one for all, to be broadcast over (C, H, W)."""
    array: NDArray[Any] = np.atleast_1d(np.asarray(values, dtype=np.float32))
    return torch.from_numpy(array)[:, None, None]
