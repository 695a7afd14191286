"""The U-Net behind the ``Denoiser`` contract, ``network(x, t) -> Tensor``: ours, or diffusers' for converted models."""

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from lacunar.errors import ModelError, first_line
from lacunar.limits import CHANNELS, LAYERS
from lacunar.networks.unet_blocks import PlainUNet

Patch = Literal[1, 2, 4]
NetworkKind = Literal["unet", "diffusers"]


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """What a U-Net of ours is made of; checked when made.

    Raises `ModelError`: a value outside its range, or values that do not fit one another.

    >>> config = UNetConfig(sample_size=64, in_channels=4, block_out_channels=(32, 64), patch=2)
    >>> config.stride, config.returned_channels
    (4, 1)
    """

    # side in pixels of the images that it is trained on; other sizes work too where `stride` divides them
    sample_size: int = 64
    # in_channels, out_channels: channels of the input (the state, then whatever condition the caller concatenates) and
    # of the prediction. `out_channels` counts the prediction alone: learned variance doubles what the network returns.
    in_channels: int = 1
    out_channels: int = 1
    # channels of each resolution level, finest first; each level halves the resolution of the one before
    block_out_channels: tuple[int, ...] = (64, 128, 128)
    layers_per_block: int = 2  # residual blocks in each level on the way down (one more on the way up)
    attention_levels: tuple[int, ...] = ()  # levels with self-attention, 0 = finest
    middle_attention: bool = True  # self-attention at the coarsest resolution, between the way down and the way up
    attention_head_dim: int = 32  # channels of each attention head
    norm_groups: int = 32  # groups of each group normalisation; divides every entry of `block_out_channels`
    # the time embedding scales and shifts the normalised features (Dhariwal & Nichol 2021, Eq. 3); else it is added.
    scale_shift: bool = True
    dropout: float = 0.0  # probability in [0, 1) of dropping a feature inside a residual block while training
    patch: Patch = 1  # space-to-depth factor: ``pixel_unshuffle`` before the network and ``pixel_shuffle`` after it
    # the network returns (B, 2 * out_channels, H, W): prediction, then variance interpolation (Nichol & Dhariwal 2021,
    # Eq. 15).
    learned_variance: bool = False

    def __post_init__(self) -> None:
        for name in ("block_out_channels", "attention_levels"):
            value = getattr(self, name)
            if not isinstance(value, tuple | list) or len(value) > LAYERS or not all(_is_int(v) for v in value):
                raise ModelError(f"network config: {name} is {value!r}, wanted a sequence of whole numbers")
            object.__setattr__(self, name, tuple(value))
        counts = ("sample_size", "in_channels", "out_channels", "layers_per_block", "attention_head_dim", "norm_groups")
        for name in counts:
            _require_positive(name, getattr(self, name))
        for width in self.block_out_channels or (0,):
            _require_positive("block_out_channels", width)
        for name in ("middle_attention", "scale_shift", "learned_variance"):
            if not isinstance(getattr(self, name), bool):
                raise ModelError(f"network config: {name} is {getattr(self, name)!r}, wanted true or false")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise ModelError(f"network config: dropout is {self.dropout!r}, wanted a number in [0, 1)")
        if self.patch not in get_args(Patch):
            raise ModelError(f"network config: patch is {self.patch!r}, wanted one of {list(get_args(Patch))}")
        self._check_fit()

    def _check_fit(self) -> None:
        """Refuse values that are each in range but do not fit one another."""
        widths, levels = self.block_out_channels, self.attention_levels
        if any(width % self.norm_groups for width in widths):
            raise ModelError(
                f"network config: norm_groups {self.norm_groups} does not divide every entry of block_out_channels "
                f"{list(widths)}; choose a common divisor"
            )
        if len(set(levels)) < len(levels) or any(not 0 <= level < len(widths) for level in levels):
            raise ModelError(
                f"network config: attention_levels is {list(levels)}, wanted different levels in 0..{len(widths) - 1}"
            )
        attended = [widths[level] for level in levels] + [widths[-1]] * self.middle_attention
        if any(width % self.attention_head_dim for width in attended):
            raise ModelError(
                f"network config: attention_head_dim {self.attention_head_dim} does not divide the widths with "
                f"attention {attended}; choose a common divisor"
            )
        if self.sample_size % self.stride:
            raise ModelError(
                f"network config: sample_size {self.sample_size} is not a multiple of {self.stride} "
                "(patch times 2 for each level after the first)"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings with their kind, ready for JSON."""
        return {"kind": "unet", **asdict(self)}

    @property
    def stride(self) -> int:
        """Heights and widths must be multiples of this many pixels."""
        return int(self.patch * 2 ** (len(self.block_out_channels) - 1))

    @property
    def returned_channels(self) -> int:
        """Channels that the network returns: the prediction, and as many again with learned variance."""
        return self.out_channels * (1 + self.learned_variance)


@dataclass(frozen=True, kw_only=True)
class DiffusersConfig:
    """A U-Net by the settings of diffusers' ``UNet2DModel``, without class labels; misfits are a `ModelError`."""

    # keyword arguments of ``UNet2DModel``; keys that begin with an underscore (diffusers' own notes) are dropped
    settings: Mapping[str, Any] = field(default_factory=dict)
    learned_variance: bool = False  # whether the second half of the returned channels is the variance interpolation
    large_variance: bool = (
        False  # a reverse step has the variance β_t, which the network returns as an interpolation of 1
    )

    def __post_init__(self) -> None:
        if not isinstance(self.settings, Mapping):
            raise ModelError(f"network config: settings is {self.settings!r}, wanted a mapping")
        known = _diffusers_defaults()
        given = {key: value for key, value in self.settings.items() if not key.startswith("_")}
        _refuse_unknown(given, list(known))
        if given.get("class_embed_type") is not None or given.get("num_class_embeds") is not None:
            raise ModelError("network config: it wants a class label, wanted an unconditional network")
        settings = {**known, **given}
        for name in ("in_channels", "out_channels", "layers_per_block"):
            _require_positive(name, settings[name])
        widths = settings["block_out_channels"]
        if not isinstance(widths, tuple | list) or not 0 < len(widths) <= LAYERS:
            raise ModelError(f"network config: block_out_channels is {widths!r}, wanted a sequence of whole numbers")
        for width in widths:
            _require_positive("block_out_channels", width)
        if self.learned_variance and settings["out_channels"] % 2:
            raise ModelError(
                f"network config: learned variance wants an even number of output channels, got "
                f"{settings['out_channels']}"
            )
        as_lists = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
        object.__setattr__(self, "settings", as_lists)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings with their kind, ready for JSON."""
        return {"kind": "diffusers", **asdict(self)}

    @property
    def patch(self) -> Patch:
        """Space-to-depth factor: none."""
        return 1

    @property
    def sample_size(self) -> int:
        """Side in pixels of the images that it was trained on; the stride where the settings do not say."""
        size = self.settings["sample_size"]
        return self.stride if size is None else int(max(size) if isinstance(size, list) else size)

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return int(self.settings["in_channels"])

    @property
    def out_channels(self) -> int:
        """Channels of the prediction, without the learned variance."""
        return self.returned_channels // (1 + self.learned_variance)

    @property
    def returned_channels(self) -> int:
        """Channels that the network returns."""
        return int(self.settings["out_channels"])

    @property
    def stride(self) -> int:
        """Heights and widths must be multiples of this many pixels."""
        return int(2 ** (len(self.settings["block_out_channels"]) - 1))


NetworkConfig = UNetConfig | DiffusersConfig


def config_from_dict(values: Mapping[str, Any]) -> NetworkConfig:
    """Read the network of a ``config.json``; an unknown kind or key, or a value out of range, is a ModelError."""
    kind = values.get("kind")
    if kind not in get_args(NetworkKind):
        raise ModelError(f"network config: kind is {kind!r}, wanted one of {list(get_args(NetworkKind))}")
    config = UNetConfig if kind == "unet" else DiffusersConfig
    settings = {key: value for key, value in values.items() if key != "kind"}
    _refuse_unknown(settings, [item.name for item in fields(config)])
    return config(**settings)


class UNet(nn.Module):
    """A U-Net that predicts from a noisy image and its time; it starts by predicting zero everywhere.

    ``forward(x, t)`` takes x (B, in_channels, H, W) with H and W multiples of `stride` and t (B,), and returns
    (B, out_channels, H, W), or (B, 2 * out_channels, H, W) with learned variance. Where `in_channels` is larger than
    `out_channels`, the caller concatenates the condition after the state. Settings that diffusers refuses are a
    ModelError.

    References: Ho, Jain & Abbeel (2020), "Denoising diffusion probabilistic models", appendix B. Dhariwal & Nichol
    (2021), "Diffusion models beat GANs on image synthesis", section 3.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = PlainUNet(config) if isinstance(config, UNetConfig) else _diffusers_network(config)
        last = cast(nn.Conv2d, self.unet.conv_out)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.config.in_channels

    @property
    def out_channels(self) -> int:
        """Channels of the prediction, without the learned variance."""
        return self.config.out_channels

    @property
    def stride(self) -> int:
        """Heights and widths must be multiples of this many pixels."""
        return self.config.stride

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict from the noisy images x (B, in_channels, H, W) at the times t (B,); what does not fit is refused."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ModelError(
                f"network input has shape {tuple(x.shape)}, wanted (batch, {self.in_channels}, height, width): "
                f"this network takes {self.in_channels} channels"
            )
        height, width = x.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ModelError(
                f"network input is {height} x {width} pixels, wanted multiples of {self.stride}: pad or tile it"
            )
        if t.shape != x.shape[:1]:
            raise ModelError(f"network time has shape {tuple(t.shape)}, wanted ({x.shape[0]},): one for each image")
        patch = self.config.patch
        y = pixel_shuffle(self._predict(pixel_unshuffle(x, patch), t), patch)
        if isinstance(self.config, DiffusersConfig) and self.config.large_variance:
            y = torch.cat([y, torch.ones_like(y)], dim=1)  # Nichol & Dhariwal 2021, Eq. 15: o = 1 means β_t
        return y

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        predicted = self.unet(x, t)
        return cast(Tensor, predicted if isinstance(predicted, Tensor) else predicted.sample)


def _diffusers_network(config: DiffusersConfig) -> nn.Module:
    # diffusers takes seconds to import: only a converted model pays for it.
    from diffusers.models.unets.unet_2d import UNet2DModel

    try:
        return cast(nn.Module, UNet2DModel(**config.settings))
    except Exception as error:  # what settings of wrong types come to
        raise ModelError(f"network config: diffusers cannot build it ({first_line(error)})") from error


def _diffusers_defaults() -> dict[str, Any]:
    from diffusers.models.unets.unet_2d import UNet2DModel

    parameters = inspect.signature(UNet2DModel.__init__).parameters.values()
    return {item.name: item.default for item in parameters if item.default is not inspect.Parameter.empty}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require_positive(name: str, value: object) -> None:
    most = LAYERS if name == "layers_per_block" else CHANNELS
    if not _is_int(value) or not 1 <= cast(int, value) <= most:
        raise ModelError(f"network config: {name} is {value!r}, wanted a whole number from 1 to {most:,}")


def _refuse_unknown(values: Mapping[str, Any], known: list[str]) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ModelError(f"network config: unknown key {', '.join(unknown)}; known are {', '.join(known)}")
