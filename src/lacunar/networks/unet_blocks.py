"""The U-Net of DDPM in plain torch, its weights named as those of diffusers' ``UNet2DModel``: files serve both.

References: Ho, Jain & Abbeel (2020), "Denoising diffusion probabilistic models", appendix B; Dhariwal & Nichol (2021),
"Diffusion models beat GANs on image synthesis", section 3 and Eq. 3.
"""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention, silu

if TYPE_CHECKING:
    from lacunar.networks.unet import UNetConfig

TIME_WIDTHS = 4  # the time embedding is so many times as wide as the finest level
LONGEST_PERIOD = 10_000  # of the sines that a time is told in (Vaswani et al. 2017, section 3.5)


class ResidualBlock(nn.Module):
    """Two convolutions, with the time in between; (B, in, H, W) to (B, out, H, W)."""

    def __init__(self, channels: int, out_channels: int, config: "UNetConfig") -> None:
        super().__init__()
        self.scale_shift = config.scale_shift
        time = TIME_WIDTHS * config.block_out_channels[0]
        self.norm1 = nn.GroupNorm(config.norm_groups, channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(time, out_channels * (1 + config.scale_shift))
        self.norm2 = nn.GroupNorm(config.norm_groups, out_channels)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if channels != out_channels:
            self.conv_shortcut = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Transform x at the embedded time (B, width)."""
        h = self.conv1(silu(self.norm1(x)))
        told = self.time_emb_proj(silu(time))[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + told)
        h = self.conv2(self.dropout(silu(h)))
        return cast(Tensor, (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + h)


class SelfAttention(nn.Module):
    """Every pixel looks at every other; added to what comes in."""

    def __init__(self, channels: int, config: "UNetConfig") -> None:
        super().__init__()
        self.heads = channels // config.attention_head_dim
        self.group_norm = nn.GroupNorm(config.norm_groups, channels)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """Attend over x (B, C, H, W)."""
        batch, channels, height, width = x.shape
        pixels = self.group_norm(x.view(batch, channels, -1)).transpose(1, 2)

        def heads(layer: nn.Linear) -> Tensor:
            return cast(Tensor, layer(pixels)).view(batch, -1, self.heads, channels // self.heads).transpose(1, 2)

        attended = scaled_dot_product_attention(heads(self.to_q), heads(self.to_k), heads(self.to_v))
        told = self.to_out[0](attended.transpose(1, 2).reshape(batch, -1, channels))
        return cast(Tensor, told.transpose(1, 2).reshape(batch, channels, height, width)) + x


class Resampled(nn.Module):
    """Half or twice the resolution, by a convolution; twice after repeating every pixel."""

    def __init__(self, channels: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Change the resolution of x (B, C, H, W)."""
        return cast(Tensor, self.conv(interpolate(x, scale_factor=2.0, mode="nearest") if self.up else x))


class Level(nn.Module):
    """Residual blocks of one resolution, each with attention where the level has it, then a change of resolution."""

    def __init__(self, widths: list[tuple[int, int]], config: "UNetConfig", *, attends: bool) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(), nn.ModuleList()
        for before, after in widths:
            self.resnets.append(ResidualBlock(before, after, config))
            if attends:
                self.attentions.append(SelfAttention(after, config))

    def block(self, index: int, x: Tensor, time: Tensor) -> Tensor:
        """Residual block number `index`, and the attention after it."""
        x = self.resnets[index](x, time)
        return cast(Tensor, self.attentions[index](x) if len(self.attentions) else x)


class Middle(nn.Module):
    """Two residual blocks at the coarsest resolution, with attention between them where the network has it."""

    def __init__(self, channels: int, config: "UNetConfig") -> None:
        super().__init__()
        first = ResidualBlock(channels, channels, config)
        attention = [SelfAttention(channels, config)] if config.middle_attention else []
        self.attentions = nn.ModuleList(attention)
        self.resnets = nn.ModuleList([first, ResidualBlock(channels, channels, config)])

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Transform x (B, C, H, W)."""
        x = self.resnets[0](x, time)
        for attention in self.attentions:
            x = attention(x)
        return cast(Tensor, self.resnets[1](x, time))


class TimeEmbedding(nn.Module):
    """A time as sines and cosines of many periods, then two layers: (B,) to (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear_1 = nn.Linear(width, TIME_WIDTHS * width)
        self.linear_2 = nn.Linear(TIME_WIDTHS * width, TIME_WIDTHS * width)

    def forward(self, t: Tensor) -> Tensor:
        """Embed times of the training schedule."""
        half = self.width // 2
        exponents = -math.log(LONGEST_PERIOD) * torch.arange(half, dtype=torch.float32, device=t.device) / half
        angles = t[:, None].float() * torch.exp(exponents)[None]
        told = torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1).to(self.linear_1.weight.dtype)
        return cast(Tensor, self.linear_2(silu(self.linear_1(told))))


class PlainUNet(nn.Module):
    """The network of a `UNetConfig` on images that are folded already: (B, C patch², H, W) and t (B,)."""

    def __init__(self, config: "UNetConfig") -> None:
        super().__init__()
        widths, layers = config.block_out_channels, config.layers_per_block
        attends = [level in config.attention_levels for level in range(len(widths))]
        self.conv_in = nn.Conv2d(config.in_channels * config.patch**2, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0])
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        for level, (before, width) in enumerate(pairwise((widths[0], *widths))):
            block = Level([(before, width)] + [(width, width)] * (layers - 1), config, attends=attends[level])
            if level < len(widths) - 1:
                block.downsamplers = nn.ModuleList([Resampled(width, up=False)])
            self.down_blocks.append(block)
        self.mid_block = Middle(widths[-1], config)
        previous = widths[-1]
        for level in reversed(range(len(widths))):
            width, skipped = widths[level], widths[max(level - 1, 0)]
            # each block takes what the way down has kept beside what comes from below
            pairs = [(previous + width, width)] + [(2 * width, width)] * (layers - 1) + [(width + skipped, width)]
            block = Level(pairs, config, attends=attends[level])
            if level > 0:
                block.upsamplers = nn.ModuleList([Resampled(width, up=True)])
            self.up_blocks.append(block)
            previous = width
        self.conv_norm_out = nn.GroupNorm(config.norm_groups, widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.returned_channels * config.patch**2, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict from the noisy images and their times."""
        time, x = self.time_embedding(t), self.conv_in(x)
        kept = [x]
        for level in cast(Iterable[Level], self.down_blocks):
            for index in range(len(level.resnets)):
                x = level.block(index, x, time)
                kept.append(x)
            for down in getattr(level, "downsamplers", ()):
                x = down(x)
                kept.append(x)
        x = self.mid_block(x, time)
        for level in cast(Iterable[Level], self.up_blocks):
            for index in range(len(level.resnets)):
                x = level.block(index, torch.cat([x, kept.pop()], dim=1), time)
            for up in getattr(level, "upsamplers", ()):
                x = up(x)
        return cast(Tensor, self.conv_out(silu(self.conv_norm_out(x))))
