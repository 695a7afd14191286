"""WaterSegDiff and SegDiff: segmentation by diffusion.

WaterSegDiff follows MedSegDiff-V2 (Wu et al. 2023, arXiv 2301.11798) as Perez-Torres et al. (2024) use it for lakes: a
condition U-Net reads the image once; a diffusion U-Net restores the noisy mask; uncertain spatial attention anchors its
first feature to the condition's last one, and the SS-Former joins both at the bottleneck (Eq. 9). Two choices are ours:
both work at half resolution, and the prediction is counted from the anchor's own answer, 2 sigmoid(logits) - 1 in mask
units, so that diffusion starts where the plain segmenter stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Protocol, Self, get_args

import torch
from torch import Tensor, nn

from lacunar.errors import ModelError
from lacunar.limits import CHANNELS, LAYERS
from lacunar.networks.efficientnet import Encoder as PretrainedEncoder
from lacunar.networks.efficientnet import PretrainedUNet
from lacunar.networks.layers import (
    BANDS_IN,
    FEATURES,
    GROUPS,
    Body,
    Condition,
    Head,
    Reduce,
    ResidualBlock,
    TimeEmbedding,
    UncertainSpatialAttention,
    band_features,
)
from lacunar.networks.ssformer import HEADS, SSFormer

SegmenterKind = Literal["watersegdiff", "segdiff"]
Encoder = Literal["unet"] | PretrainedEncoder
ENCODERS: tuple[str, ...] = ("unet", *get_args(PretrainedEncoder))

ENCODER_LEVELS = 5  # of EfficientNet-Lite: strides 2 to 32
TIME_CHANNELS = 128
ENCODER_BLOCKS = 3  # residual blocks of SegDiff's image encoder


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """What a segmenter is made of; checked when made.

    Raises `ModelError`: a value outside its range.

    >>> SegmenterConfig(widths=(16, 32), condition_widths=(16, 32)).stride
    4
    """

    kind: SegmenterKind = "watersegdiff"  # WaterSegDiff, or the smaller SegDiff
    # side in pixels of the tiles that it is used on; other sizes work too where `stride` divides them
    sample_size: int = 256
    # condition_widths, widths: channels of each level, finest first, of the network that reads the image and of the one
    # that restores the mask. SegDiff's image encoder has `condition_widths[0]` channels and no levels.
    condition_widths: tuple[int, ...] = (32, 64, 96, 128, 160)
    widths: tuple[int, ...] = (24, 48, 64, 96, 128)
    anchor: bool = True  # uncertain spatial attention between the two; always False of SegDiff
    ss_former: bool = True  # the spectrum-space transformer at the bottleneck; always False of SegDiff
    diffusion: bool = True  # False: the condition U-Net alone, a plain segmenter
    # encoder of the condition U-Net; EfficientNet-Lite (pretrained on ImageNet) wants five `condition_widths`, those
    # of its decoder
    encoder: Encoder = "unet"
    boundary_steps: int = 0  # of anisotropic diffusion over its last features (only with a pretrained encoder)
    # what is told apart: water, then whatever else (only with a pretrained encoder)
    classes: tuple[str, ...] = ("water",)
    # a mask is plus or minus this many units for the network: below one, more noise steps hide it (Chen et al. 2022,
    # "Analog bits", section 3).
    mask_scale: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in get_args(SegmenterKind):
            raise ModelError(f"segmenter config: kind is {self.kind!r}, wanted one of {list(get_args(SegmenterKind))}")
        for name in ("condition_widths", "widths"):
            value = getattr(self, name)
            fits = isinstance(value, tuple | list) and 1 < len(value) <= LAYERS
            if not fits or any(not _is_count(width) or width % GROUPS or width % HEADS for width in value):
                raise ModelError(
                    f"segmenter config: {name} is {value!r}, wanted two or more multiples of {GROUPS}, finest first"
                )
            object.__setattr__(self, name, tuple(value))
        if self.encoder not in ENCODERS:
            raise ModelError(f"segmenter config: encoder is {self.encoder!r}, wanted one of {list(ENCODERS)}")
        if self.encoder != "unet" and (self.kind == "segdiff" or len(self.condition_widths) != ENCODER_LEVELS):
            raise ModelError(
                f"segmenter config: {self.encoder} in {self.kind} with {len(self.condition_widths)} condition_widths; "
                f"wanted it in watersegdiff with {ENCODER_LEVELS}"
            )
        names = self.classes
        if not isinstance(names, tuple | list) or not names or names[0] != "water" or len(set(names)) != len(names):
            raise ModelError(f"segmenter config: classes is {names!r}, wanted water and then other names, each once")
        object.__setattr__(self, "classes", tuple(names))
        if len(names) > 1 and self.encoder == "unet":
            raise ModelError(f"segmenter config: {len(names)} classes with encoder unet; wanted a pretrained one")
        steps = self.boundary_steps
        if not (steps == 0 or (_is_count(steps) and steps <= LAYERS and self.encoder != "unet")):
            raise ModelError(
                f"segmenter config: boundary_steps is {steps!r} with encoder {self.encoder}; wanted 0 to {LAYERS}, "
                "and 0 with encoder unet"
            )
        if len(self.condition_widths) != len(self.widths):
            raise ModelError(
                f"segmenter config: {len(self.condition_widths)} condition_widths and {len(self.widths)} widths; "
                "wanted as many of both, since they meet at the bottleneck"
            )
        for name in ("anchor", "ss_former", "diffusion"):
            if not isinstance(getattr(self, name), bool):
                raise ModelError(f"segmenter config: {name} is {getattr(self, name)!r}, wanted true or false")
        if self.kind == "segdiff" and not self.diffusion:
            raise ModelError("segmenter config: SegDiff without diffusion predicts nothing; wanted diffusion true")
        if self.kind == "segdiff":  # it has neither, whatever the defaults and older model folders say
            object.__setattr__(self, "anchor", False)
            object.__setattr__(self, "ss_former", False)
        if not isinstance(self.mask_scale, int | float) or not 0 < self.mask_scale <= 1:
            raise ModelError(f"segmenter config: mask_scale is {self.mask_scale!r}, wanted a number in (0, 1]")
        if not _is_count(self.sample_size) or self.sample_size % self.stride:
            raise ModelError(
                f"segmenter config: sample_size is {self.sample_size!r}, wanted a multiple of {self.stride} (2 times 2 "
                "for each level after the first)"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the mapping that `to_dict` wrote; an unknown key is a ``ModelError``."""
        known = [item.name for item in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ModelError(
                f"segmenter config: unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}"
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, ready for JSON."""
        return asdict(self)

    @property
    def stride(self) -> int:
        """Heights and widths must be multiples of this many pixels."""
        return int(2 ** len(self.widths))


class Segmenter(Protocol):
    """A network that reads an image once and then restores its noisy mask."""

    spec: SegmenterConfig

    def condition(self, image: Tensor) -> Condition:
        """Read images (B, 6, H, W), NaN where a band is absent or a pixel not valid; H and W multiples of `stride`."""

    def restore(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Predict from noisy masks (B, 1, H, W) at the times t (B,)."""


class ConditionUNet(nn.Module):
    """The network that reads the image: alone, a plain U-Net segmenter."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.reduce = Reduce(FEATURES, widths[0])
        self.body = Body(widths)
        self.head = Head(widths[0], FEATURES)

    def forward(self, image: Tensor) -> Condition:
        """Read images (B, 6, H, W)."""
        shown = band_features(image)
        skips, embedding = self.body.encode(self.reduce(shown))
        features = self.body.decode(embedding, skips)
        return Condition(features, embedding, self.head(features, shown), shown)


class WaterSegDiff(nn.Module):
    """Segment water by diffusion; `forward` is ``restore(x_t, t, condition(image))`` and the condition's logits."""

    def __init__(self, spec: SegmenterConfig) -> None:
        super().__init__()
        self.spec = spec
        self.condition_unet: ConditionUNet | PretrainedUNet = (
            ConditionUNet(spec.condition_widths)
            if spec.encoder == "unet"
            else PretrainedUNet(
                spec.condition_widths, len(spec.classes), encoder=spec.encoder, boundary_steps=spec.boundary_steps
            )
        )
        if not spec.diffusion:
            return
        self.time = TimeEmbedding(TIME_CHANNELS)
        self.reduce = Reduce(1, spec.widths[0])
        self.body = Body(spec.widths, TIME_CHANNELS)
        self.head = Head(spec.widths[0], FEATURES)
        if spec.anchor:
            self.spatial_attention = UncertainSpatialAttention(spec.condition_widths[0], spec.widths[0])
        if spec.ss_former:
            self.spectrum_transformer = SSFormer(spec.widths[-1], spec.condition_widths[-1], TIME_CHANNELS)

    def condition(self, image: Tensor) -> Condition:
        """Read images (B, 6, H, W) once, for every step and sample."""
        _require_fit(image, BANDS_IN, self.spec.stride)
        read: Condition = self.condition_unet(image)
        return read

    def restore(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Predict x_0 (B, 1, H, W) from noisy masks x_t (B, 1, H, W) at the times t (B,), Eq. 9."""
        answer = _in_mask_units(condition.logits, self.spec)
        if not self.spec.diffusion:
            return answer
        _require_fit(x_t, 1, self.spec.stride)
        embedding = self.time(t)
        noisy = self.reduce(x_t)
        if self.spec.anchor:
            noisy = self.spatial_attention(noisy, condition.features)
        skips, bottleneck = self.body.encode(noisy, embedding)
        if self.spec.ss_former:
            bottleneck = self.spectrum_transformer(bottleneck, condition.embedding, embedding)
        change: Tensor = self.head(self.body.decode(bottleneck, skips, embedding), condition.shown)
        return answer + change

    def forward(self, image: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Prediction of x_0 and the logits of the condition U-Net."""
        condition = self.condition(image)
        return self.restore(x_t, t, condition), condition.logits


class SegDiff(nn.Module):
    """Segment by diffusion with one U-Net: the encoded image and the encoded noisy mask are summed at its entrance.

    Reference: Amit, Nachmani, Shaharbany & Wolf 2021, SegDiff, arXiv 2112.00390, section 3.
    """

    def __init__(self, spec: SegmenterConfig) -> None:
        super().__init__()
        self.spec = spec
        width = spec.condition_widths[0]
        self.image_reduce = Reduce(FEATURES, width)
        self.image_blocks = nn.Sequential(*(ResidualBlock(width, width) for _ in range(ENCODER_BLOCKS)))
        self.image_out = nn.Conv2d(width, spec.widths[0], 3, padding=1)
        self.image_head = Head(width, FEATURES)
        self.time = TimeEmbedding(TIME_CHANNELS)
        self.reduce = Reduce(1, spec.widths[0])
        self.body = Body(spec.widths, TIME_CHANNELS)
        self.head = Head(spec.widths[0], FEATURES)

    def condition(self, image: Tensor) -> Condition:
        """Encode images (B, 6, H, W) once; the logits are those of a head on the image encoder."""
        _require_fit(image, BANDS_IN, self.spec.stride)
        shown = band_features(image)
        features = self.image_blocks(self.image_reduce(shown))
        encoded = self.image_out(features)
        return Condition(encoded, encoded.new_zeros(len(image), 0), self.image_head(features, shown), shown)

    def restore(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Predict x_0 (B, 1, H, W) from noisy masks x_t (B, 1, H, W) at the times t (B,)."""
        _require_fit(x_t, 1, self.spec.stride)
        embedding = self.time(t)
        skips, bottleneck = self.body.encode(self.reduce(x_t) + condition.features, embedding)
        change: Tensor = self.head(self.body.decode(bottleneck, skips, embedding), condition.shown)
        return _in_mask_units(condition.logits, self.spec) + change

    def forward(self, image: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Prediction of x_0 and the logits of the image encoder."""
        condition = self.condition(image)
        return self.restore(x_t, t, condition), condition.logits


def build_segmenter(config: SegmenterConfig) -> WaterSegDiff | SegDiff:
    """Build the network of a configuration, with random weights."""
    return SegDiff(config) if config.kind == "segdiff" else WaterSegDiff(config)


def _in_mask_units(logits: Tensor, spec: SegmenterConfig) -> Tensor:
    """What the condition alone answers: 2 sigmoid(logits) - 1 times the mask's scale."""
    return (2 * torch.sigmoid(logits[:, :1]) - 1) * spec.mask_scale


def _require_fit(image: Tensor, channels: int, stride: int) -> None:
    """Refuse another number of channels, or sides that the stride does not divide."""
    if image.ndim != 4 or image.shape[1] != channels or any(side % stride for side in image.shape[-2:]):
        raise ModelError(
            f"segmenter input has shape {tuple(image.shape)}, wanted (batch, {channels}, height, width) with sides "
            f"that are multiples of {stride}: pad or tile it"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= CHANNELS
