"""What every segmenter offers, and its configuration; the networks themselves are built on demand."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple, Protocol, Self, get_args

from torch import Tensor

from lacunar.errors import ModelError
from lacunar.networks.layers import GROUPS
from lacunar.networks.ssformer import HEADS

SegmenterKind = Literal["watersegdiff", "segdiff"]
Encoder = Literal["unet", "efficientnet-lite0"]
ENCODER_LEVELS = 5  # of EfficientNet-Lite0: strides 2 to 32


class Condition(NamedTuple):
    """What the image says, whatever the noise and the time: computed once, used at every step and for every sample.

    ``features`` (B, C, H/2, W/2) at the body's resolution, ``embedding`` (B, D, h, w) at the bottleneck, ``logits`` (B,
    1, H, W) of water, and the ``shown`` image features (B, F, H, W). A part that an architecture lacks is empty.
    """

    features: Tensor
    embedding: Tensor
    logits: Tensor
    shown: Tensor

    def repeated(self, count: int) -> "Condition":
        """Each image ``count`` times in a row: one for each sample."""
        return Condition(*(part.repeat_interleave(count, dim=0) for part in self))


class Segmenter(Protocol):
    """A network that reads an image once and then restores its noisy mask."""

    spec: "SegmenterConfig"

    def condition(self, image: Tensor) -> Condition:
        """Read images (B, 6, H, W), NaN where a band is absent or a pixel not valid; H and W multiples of `stride`."""

    def restore(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Predict from noisy masks (B, 1, H, W) at the times t (B,)."""


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """What a segmenter is made of; checked when made.

    Parameters
    ----------
    kind : {"watersegdiff", "segdiff"}
        WaterSegDiff, or the smaller SegDiff.
    sample_size : int
        Side in pixels of the tiles that it is used on; other sizes work too where `stride` divides them.
    condition_widths, widths : tuple of int
        Channels of each level, finest first, of the network that reads the image and of the one that restores the mask.
        SegDiff's image encoder has `condition_widths[0]` channels and no levels.
    anchor : bool
        Uncertain spatial attention between the two; always False of SegDiff.
    ss_former : bool
        The spectrum-space transformer at the bottleneck; always False of SegDiff.
    diffusion : bool
        False: the condition U-Net alone, a plain segmenter.
    encoder : {"unet", "efficientnet-lite0"}
        Encoder of the condition U-Net; EfficientNet-Lite0 (pretrained on ImageNet) wants five `condition_widths`, those
        of its decoder.
    mask_scale : float
        A mask is plus or minus this many units for the network: below one, more noise steps hide it (Chen et al. 2022,
        "Analog bits", section 3).

    Raises
    ------
    ModelError
        A value outside its range.

    Examples
    --------
    >>> SegmenterConfig(widths=(16, 32), condition_widths=(16, 32)).stride
    4
    """

    kind: SegmenterKind = "watersegdiff"
    sample_size: int = 256
    condition_widths: tuple[int, ...] = (32, 64, 96, 128, 160)
    widths: tuple[int, ...] = (24, 48, 64, 96, 128)
    anchor: bool = True
    ss_former: bool = True
    diffusion: bool = True
    encoder: Encoder = "unet"
    mask_scale: float = 0.5

    def __post_init__(self) -> None:
        """Check every value."""
        if self.kind not in get_args(SegmenterKind):
            raise ModelError(f"segmenter config: kind is {self.kind!r}, wanted one of {list(get_args(SegmenterKind))}")
        for name in ("condition_widths", "widths"):
            value = getattr(self, name)
            fits = isinstance(value, tuple | list) and len(value) > 1
            if not fits or any(not _is_count(width) or width % GROUPS or width % HEADS for width in value):
                raise ModelError(
                    f"segmenter config: {name} is {value!r}, wanted two or more multiples of {GROUPS}, finest first"
                )
            object.__setattr__(self, name, tuple(value))
        if self.encoder not in get_args(Encoder):
            raise ModelError(f"segmenter config: encoder is {self.encoder!r}, wanted one of {list(get_args(Encoder))}")
        if self.encoder != "unet" and (self.kind == "segdiff" or len(self.condition_widths) != ENCODER_LEVELS):
            raise ModelError(
                f"segmenter config: {self.encoder} in {self.kind} with {len(self.condition_widths)} condition_widths; "
                f"wanted it in watersegdiff with {ENCODER_LEVELS}"
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


def require_fit(image: Tensor, channels: int, stride: int) -> None:
    """Refuse an image that a segmenter cannot take.

    Raises
    ------
    ModelError
        Another number of channels, or a height or width that the stride does not divide.
    """
    if image.ndim != 4 or image.shape[1] != channels or any(side % stride for side in image.shape[-2:]):
        raise ModelError(
            f"segmenter input has shape {tuple(image.shape)}, wanted (batch, {channels}, height, width) with sides "
            f"that are multiples of {stride}: pad or tile it"
        )


def _is_count(value: object) -> bool:
    """Tell whether it is a whole number from 1 and not a truth value."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
