"""WaterSegDiff and SegDiff: segmentation by diffusion, on diffusers' model classes.

WaterSegDiff follows MedSegDiff-V2 (Wu et al. 2023, arXiv 2301.11798) as Perez-Torres et al. (2024) use it for lakes: a
condition U-Net reads the image once; a diffusion U-Net restores the noisy mask; uncertain spatial attention anchors its
first feature to the condition's last one, and the SS-Former joins both at the bottleneck (Eq. 9). Two choices are ours:
both work at half resolution, and the prediction is counted from the anchor's own answer, 2 sigmoid(logits) - 1 in mask
units, so that diffusion starts where the plain segmenter stands.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from lacunar.networks.anchor import UncertainSpatialAttention
from lacunar.networks.efficientnet import PretrainedUNet
from lacunar.networks.layers import (
    BANDS_IN,
    FEATURES,
    Body,
    Head,
    Reduce,
    ResidualBlock,
    TimeEmbedding,
    band_features,
)
from lacunar.networks.segmenter import Condition, Encoder, SegmenterConfig, require_fit
from lacunar.networks.ssformer import SSFormer

TIME_CHANNELS = 128
ENCODER_BLOCKS = 3  # residual blocks of SegDiff's image encoder


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


class WaterSegDiff(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Segment water by diffusion; see the head of this module.

    ``forward(image, x_t, t)`` is ``restore(x_t, t, condition(image))``: (B, 6, H, W), (B, 1, H, W) and (B,) -> (B, 1,
    H, W), and the logits of the condition U-Net beside it.

    Parameters
    ----------
    sample_size, condition_widths, widths, anchor, ss_former, diffusion, encoder, mask_scale
        As in `lacunar.networks.segmenter.SegmenterConfig`, which is kept as ``spec``.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        sample_size: int,
        condition_widths: Sequence[int],
        widths: Sequence[int],
        anchor: bool = True,
        ss_former: bool = True,
        diffusion: bool = True,
        encoder: Encoder = "unet",
        mask_scale: float = 0.5,
    ) -> None:
        super().__init__()
        self.spec = SegmenterConfig(
            sample_size=sample_size,
            condition_widths=tuple(condition_widths),
            widths=tuple(widths),
            anchor=anchor,
            ss_former=ss_former,
            diffusion=diffusion,
            encoder=encoder,
            mask_scale=mask_scale,
        )
        reader = ConditionUNet if encoder == "unet" else PretrainedUNet
        self.condition_unet = reader(condition_widths)
        if not diffusion:
            return
        self.time = TimeEmbedding(TIME_CHANNELS)
        self.reduce = Reduce(1, widths[0])
        self.body = Body(widths, TIME_CHANNELS)
        self.head = Head(widths[0], FEATURES)
        if anchor:
            self.spatial_attention = UncertainSpatialAttention(condition_widths[0], widths[0])
        if ss_former:
            self.spectrum_transformer = SSFormer(widths[-1], condition_widths[-1], TIME_CHANNELS)

    def condition(self, image: Tensor) -> Condition:
        """Read images (B, 6, H, W) once, for every step and sample."""
        require_fit(image, BANDS_IN, self.spec.stride)
        read: Condition = self.condition_unet(image)
        return read

    def restore(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Predict x_0 (B, 1, H, W) from noisy masks x_t (B, 1, H, W) at the times t (B,), Eq. 9."""
        answer = (2 * torch.sigmoid(condition.logits) - 1) * self.spec.mask_scale
        if not self.spec.diffusion:
            return answer
        require_fit(x_t, 1, self.spec.stride)
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


class SegDiff(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Segment by diffusion with one U-Net: the encoded image and the encoded noisy mask are summed at its entrance.

    Parameters
    ----------
    sample_size, condition_widths, widths, mask_scale
        As in `lacunar.networks.segmenter.SegmenterConfig`, which is kept as ``spec``; the image encoder works at one
        resolution, in ``condition_widths[0]`` channels.

    References
    ----------
    Amit, Nachmani, Shaharbany & Wolf 2021, SegDiff, arXiv 2112.00390, section 3.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, *, sample_size: int, condition_widths: Sequence[int], widths: Sequence[int], mask_scale: float = 0.5
    ) -> None:
        super().__init__()
        self.spec = SegmenterConfig(
            kind="segdiff",
            sample_size=sample_size,
            condition_widths=tuple(condition_widths),
            widths=tuple(widths),
            mask_scale=mask_scale,
        )
        width = condition_widths[0]
        self.image_reduce = Reduce(FEATURES, width)
        self.image_blocks = nn.Sequential(*(ResidualBlock(width, width) for _ in range(ENCODER_BLOCKS)))
        self.image_out = nn.Conv2d(width, widths[0], 3, padding=1)
        self.image_head = Head(width, FEATURES)
        self.time = TimeEmbedding(TIME_CHANNELS)
        self.reduce = Reduce(1, widths[0])
        self.body = Body(widths, TIME_CHANNELS)
        self.head = Head(widths[0], FEATURES)

    def condition(self, image: Tensor) -> Condition:
        """Encode images (B, 6, H, W) once; the logits are those of a head on the image encoder."""
        require_fit(image, BANDS_IN, self.spec.stride)
        shown = band_features(image)
        features = self.image_blocks(self.image_reduce(shown))
        encoded = self.image_out(features)
        return Condition(encoded, encoded.new_zeros(len(image), 0), self.image_head(features, shown), shown)

    def restore(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Predict x_0 (B, 1, H, W) from noisy masks x_t (B, 1, H, W) at the times t (B,)."""
        require_fit(x_t, 1, self.spec.stride)
        embedding = self.time(t)
        skips, bottleneck = self.body.encode(self.reduce(x_t) + condition.features, embedding)
        answer = (2 * torch.sigmoid(condition.logits) - 1) * self.spec.mask_scale
        change: Tensor = self.head(self.body.decode(bottleneck, skips, embedding), condition.shown)
        return answer + change

    def forward(self, image: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Prediction of x_0 and the logits of the image encoder."""
        condition = self.condition(image)
        return self.restore(x_t, t, condition), condition.logits


def build_segmenter(config: SegmenterConfig) -> "WaterSegDiff | SegDiff":
    """Build the network of a configuration, with random weights."""
    ours: dict[str, Any] = {
        "sample_size": config.sample_size,
        "condition_widths": list(config.condition_widths),
        "widths": list(config.widths),
        "mask_scale": config.mask_scale,
    }
    network: WaterSegDiff | SegDiff
    if config.kind == "segdiff":
        network = SegDiff(**ours)
    else:
        parts = {"anchor": config.anchor, "ss_former": config.ss_former, "diffusion": config.diffusion}
        network = WaterSegDiff(**ours, **parts, encoder=config.encoder)
    return network
