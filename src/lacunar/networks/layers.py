"""What networks are given, and parts of segmenters: features of bands, residual blocks, a U-Net body, the anchor."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad, pixel_shuffle, pixel_unshuffle, silu

from lacunar.sensors.bands import BANDS

BANDS_IN = len(BANDS)
NORMALISED_DIFFERENCES = ((1, 3), (1, 4), (3, 2), (0, 2), (1, 2))  # NDWI, MNDWI, NDVI, blue - red, green - red
FEATURES = 2 * BANDS_IN + len(NORMALISED_DIFFERENCES)
GROUPS = 8  # of each group normalisation
MAX_PERIOD = 10_000.0  # longest wavelength of the time embedding (Vaswani et al. 2017, section 3.5)
RADIUS = 3  # pixels at the body's resolution that the anchor's learnable Gaussian reaches
FIRST_WIDTH = 1.0  # its standard deviation at the start, in those pixels
_LARGEST = 4.0  # bands are clipped to this many times the common scale: glint and cloud tops
_SMALLEST = 0.02  # added to the denominator of a normalised difference, in units of the common scale


class Condition(NamedTuple):
    """What the image says, whatever the noise and the time: computed once, used at every step and for every sample.

    ``features`` (B, C, H/2, W/2) at the body's resolution, ``embedding`` (B, D, h, w) at the bottleneck, ``logits`` (B,
    K, H, W), and the ``shown`` image features (B, F, H, W). The first logit is that of water, against all else; the
    others, where there are any, tell by a softmax what it is that is not water. A part that an architecture lacks is
    empty.
    """

    features: Tensor
    embedding: Tensor
    logits: Tensor
    shown: Tensor

    def repeated(self, count: int) -> "Condition":
        """Each image ``count`` times in a row: one for each sample."""
        return Condition(*(part.repeat_interleave(count, dim=0) for part in self))


def network_input(x_t: Tensor, condition: Tensor, missing: Tensor) -> Tensor:
    """What a network that restores missing pixels is given, in training and in use alike: (B, C + D + 1, H, W).

    ``condition`` (B, D, H, W) is the background mean (C channels), its sigma (one), then guides. ``missing``
    (B, 1, H, W) is 1 where to be filled; known pixels have no noise, whatever t is (Mayet et al. 2024, TD-Paint). The
    result is x_t, mean, sigma, missing, guides: what is new comes last, so that `transfer_weights` can widen a network.
    """
    first = x_t.shape[1] + 1
    return torch.cat([x_t * missing, condition[:, :first], missing, condition[:, first:]], dim=1)


def band_features(image: Tensor) -> Tensor:
    """What a network sees of six bands, some of which may be absent: (B, FEATURES, H, W).

    ``image`` (B, 6, H, W) is divided by its common scale, NaN where unknown. Features are the bands (0 for NaN), where
    each is present, and normalised differences such as NDWI (McFeeters 1996) and MNDWI (Xu 2006), 0 where unknown.
    """
    present = image.isfinite()
    values = torch.where(present, image, 0.0).clamp(-_LARGEST, _LARGEST)
    differences = []
    for a, b in NORMALISED_DIFFERENCES:
        first, second = values[:, a].clamp(min=0), values[:, b].clamp(min=0)
        both = present[:, a] & present[:, b]
        differences.append(torch.where(both, (first - second) / (first + second + _SMALLEST), 0.0))
    return torch.cat([values, present.to(values.dtype), torch.stack(differences, dim=1)], dim=1)


class TimeEmbedding(nn.Module):
    """Sines and cosines of the timestep, then two layers: t (B,) -> (B, channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.waves = channels // 2
        self.layers = nn.Sequential(nn.Linear(2 * self.waves, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, t: Tensor) -> Tensor:
        """Embed the timesteps."""
        steps = torch.arange(self.waves, device=t.device, dtype=torch.float32)
        angles = t.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * steps / self.waves)
        embedded: Tensor = self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))
        return embedded


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut; the time scales and shifts between them (Dhariwal & Nichol 2021, Eq. 3)."""

    def __init__(self, in_channels: int, out_channels: int, time_channels: int = 0) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(GROUPS, in_channels)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm_2 = nn.GroupNorm(GROUPS, out_channels)
        self.conv_2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.modulation = nn.Linear(time_channels, 2 * out_channels) if time_channels else None
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Map (B, in, H, W) to (B, out, H, W)."""
        inner = self.norm_2(self.conv_1(silu(self.norm_1(h))))
        if self.modulation is not None and embedding is not None:
            scale, shift = self.modulation(silu(embedding))[:, :, None, None].chunk(2, dim=1)
            inner = inner * (1 + scale) + shift
        out: Tensor = self.shortcut(h) + self.conv_2(silu(inner))
        return out


class Body(nn.Module):
    """A U-Net of ``widths``, finest first: one residual block a level down and one up, skips concatenated."""

    def __init__(self, widths: Sequence[int], time_channels: int = 0) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(ResidualBlock(width, width, time_channels) for width in widths[:-1])
        self.reduce = nn.ModuleList(nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairs)
        self.middle = ResidualBlock(widths[-1], widths[-1], time_channels)
        self.enlarge = nn.ModuleList(nn.Conv2d(coarse, fine, 3, padding=1) for fine, coarse in reversed(pairs))
        self.up = nn.ModuleList(ResidualBlock(2 * fine, fine, time_channels) for fine, _ in reversed(pairs))

    def encode(self, h: Tensor, embedding: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Skips, finest first, and the feature at the bottleneck."""
        skips = []
        for block, reduce in zip(self.down, self.reduce, strict=True):
            h = block(h, embedding)
            skips.append(h)
            h = reduce(h)
        return skips, self.middle(h, embedding)

    def decode(self, h: Tensor, skips: Sequence[Tensor], embedding: Tensor | None = None) -> Tensor:
        """From the bottleneck back to the finest level."""
        for enlarge, block, skip in zip(self.enlarge, self.up, reversed(skips), strict=True):
            larger = interpolate(enlarge(h), scale_factor=2.0, mode="nearest")
            h = block(torch.cat([larger, skip], dim=1), embedding)
        return h


class Reduce(nn.Module):
    """From full resolution to the body's: space to depth by 2, then a convolution."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * in_channels, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, width, H / 2, W / 2)."""
        h: Tensor = self.conv(pixel_unshuffle(x, 2))
        return h


class Head(nn.Module):
    """From the body's resolution to one full-resolution plane, sharpened by the image's features; starts at zero."""

    INNER = 16  # channels at full resolution

    def __init__(self, width: int, shown: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.expand = nn.Conv2d(width, 4 * self.INNER, 1)
        self.look = nn.Conv2d(shown, self.INNER, 3, padding=1)
        self.out = nn.Conv2d(self.INNER, 1, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, shown: Tensor) -> Tensor:
        """Map (B, width, H / 2, W / 2) beside (B, shown, H, W) to (B, 1, H, W)."""
        plane = pixel_shuffle(self.expand(silu(self.norm(h))), 2) + self.look(shown)
        out: Tensor = self.out(silu(plane))
        return out


class UncertainSpatialAttention(nn.Module):
    """The anchor of MedSegDiff-V2 (U-SA): the condition's last feature f_c gates the first noisy feature f_d.

    f_anc = max(f_c * k_gauss, f_c), f' = sigmoid(conv1x1(f_anc)) . f_d + f_d (Wu et al. 2023, arXiv 2301.11798, section
    3.2). Each channel of f_c is smoothed by a Gaussian of its own, whose standard deviation is learned.
    """

    def __init__(self, condition_width: int, width: int) -> None:
        super().__init__()
        self.log_width = nn.Parameter(torch.full((condition_width,), FIRST_WIDTH).log())
        self.conv = nn.Conv2d(condition_width, width, 1)

    def kernel(self) -> Tensor:
        """The Gaussians (C, 1, 2 RADIUS + 1, 2 RADIUS + 1), each of sum 1."""
        at = torch.arange(-RADIUS, RADIUS + 1, device=self.log_width.device, dtype=torch.float32)
        line = torch.exp(-0.5 * (at / self.log_width.float().exp()[:, None]) ** 2)
        line = line / line.sum(dim=1, keepdim=True)
        return (line[:, :, None] * line[:, None, :])[:, None]

    def forward(self, noisy: Tensor, condition: Tensor) -> Tensor:
        """Gate f_d (B, width, H, W) by f_c (B, condition_width, H, W)."""
        padded = pad(condition, (RADIUS,) * 4, mode="replicate")
        smooth = conv2d(padded, self.kernel().to(condition.dtype), groups=condition.shape[1])
        anchor = torch.maximum(smooth, condition)
        gated: Tensor = torch.sigmoid(self.conv(anchor)) * noisy + noisy
        return gated


class BoundaryDiffusion(nn.Module):
    """Smooth features within what belongs together and not across its boundary: anisotropic diffusion in a few steps.

    h <- h + rate_c sum_n g_n (h_n - h) over the two neighbours n in a row, then in a column; g_n = exp(-|e_n - e|^2) of
    an embedding e that is learned from a guide (Perona & Malik 1990, section V; semantic guides in a decoder: Tan et
    al. 2022, "Semantic Diffusion Network"). The rate of each channel is learned and at most 1/2, so that no value
    leaves the range of its neighbours.
    """

    EMBEDDED = 8  # channels of the embedding
    FIRST_RATE = -1.5  # before the sigmoid

    def __init__(self, width: int, guide: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.embed = nn.Conv2d(guide, self.EMBEDDED, 3, padding=1)
        self.rate = nn.Parameter(torch.full((width, 1, 1), self.FIRST_RATE))

    def forward(self, h: Tensor, guide: Tensor) -> Tensor:
        """Diffuse (B, width, H, W) as (B, guide, H, W) tells what belongs together."""
        embedded = self.embed(guide)
        right = torch.exp(-_rightwards(embedded).square().sum(dim=1, keepdim=True))
        down = torch.exp(-_downwards(embedded).square().sum(dim=1, keepdim=True))
        rate = torch.sigmoid(self.rate) / 2
        for _ in range(self.steps):
            flux = right * _rightwards(h)  # between neighbours; none at the border
            h = h + rate * (pad(flux, [0, 1, 0, 0]) - pad(flux, [1, 0, 0, 0]))
            flux = down * _downwards(h)
            h = h + rate * (pad(flux, [0, 0, 0, 1]) - pad(flux, [0, 0, 1, 0]))
        return h


def _rightwards(h: Tensor) -> Tensor:
    """Differences of each column (B, C, H, W - 1) from the next one."""
    return h[..., 1:] - h[..., :-1]


def _downwards(h: Tensor) -> Tensor:
    """Differences of each row (B, C, H - 1, W) from the next one."""
    return h[..., 1:, :] - h[..., :-1, :]
