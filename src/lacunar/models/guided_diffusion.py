"""Networks of OpenAI's guided-diffusion, which RePaint uses too, told in diffusers' terms; touches no file."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from lacunar.diffusion.schedule import LINEAR_REFERENCE_STEPS, ScheduleName
from lacunar.errors import ModelError
from lacunar.limits import check_limit

# What a block of guided-diffusion may hold (residual block, attention, resampling), as diffusers calls it.
BLOCK_PARTS = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "norm": "group_norm",
    "qkv": "qkv",
    "proj_out": "to_out.0",
    "op": "conv",
    "conv": "conv",
}
MIDDLE_BLOCKS = {
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
}
FIXED_MODULES = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
NORM_GROUPS = 32  # fixed in guided-diffusion's normalisation
# guided-diffusion's scripts call these settings otherwise than its network does.
SCRIPT_NAMES = {"num_channels": "model_channels", "num_classes": "class_cond", "steps": "diffusion_steps"}
# Settings of the scripts that change neither the network's function nor its schedule.
WITHOUT_EFFECT = frozenset(
    {"use_checkpoint", "use_fp16", "use_kl", "timestep_respacing", "rescale_learned_sigmas", "num_heads_upsample"}
)


@dataclass(frozen=True, kw_only=True)
class GuidedOptions:
    """What the weights of a guided-diffusion network do not show; the defaults are RePaint's CelebA-HQ 256 network.

    The names are guided-diffusion's own. A network that cannot be converted is a ModelError.
    """

    image_size: int = 256
    num_head_channels: int = 64  # of each attention head; where it is -1, num_heads counts
    num_heads: int = 4
    use_new_attention_order: bool = False  # q, k and v of all heads follow one another; else each head has its own
    dropout: float = 0.0
    learn_sigma: bool | None = None  # None: when the network returns twice its input channels
    predict_xstart: bool = False
    noise_schedule: ScheduleName = "linear"
    diffusion_steps: int = 1000
    rescale_timesteps: bool = False  # the network sees t * 1000 / diffusion_steps
    class_cond: bool = False

    def __post_init__(self) -> None:
        for name in ("image_size", "num_head_channels", "num_heads", "diffusion_steps"):
            if not isinstance(getattr(self, name), int):
                raise ModelError(f"architecture: {name} is {getattr(self, name)!r}, wanted a whole number")
        if self.class_cond:
            raise ModelError("architecture: class_cond is set, wanted an unconditional network")
        if self.rescale_timesteps and self.diffusion_steps != LINEAR_REFERENCE_STEPS:
            raise ModelError(
                f"architecture: rescale_timesteps with {self.diffusion_steps} steps, wanted {LINEAR_REFERENCE_STEPS} "
                "steps or no rescaling: our networks see t itself"
            )


@dataclass(frozen=True, kw_only=True)
class GuidedShape:
    """What the weights of a guided-diffusion network show of its architecture, in guided-diffusion's names."""

    in_channels: int
    out_channels: int
    model_channels: int
    channel_mult: tuple[float, ...]
    num_res_blocks: int
    attention_resolutions: tuple[int, ...]
    use_scale_shift_norm: bool
    resblock_updown: bool

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(round(mult * self.model_channels) for mult in self.channel_mult)

    @property
    def attends(self) -> tuple[bool, ...]:
        """Whether each level has attention."""
        return tuple(2**level in self.attention_resolutions for level in range(len(self.channel_mult)))


def infer_shape(state: Mapping[str, Tensor]) -> GuidedShape:
    """Read the architecture off the names and shapes of the weights; those of another network are a ModelError."""
    if "label_emb.weight" in state:
        raise ModelError("the checkpoint is class-conditional (label_emb.weight), wanted an unconditional network")
    blocks = [_shapes_below(state, f"input_blocks.{n}") for n in range(_count(state, "input_blocks"))]
    num_output_blocks = _count(state, "output_blocks")
    # The network runs finest to coarsest, each level num_res_blocks blocks and one that halves the resolution; back
    # up, each level one block more, of which the last doubles it.
    strided = [n for n, block in enumerate(blocks) if "0.op.weight" in block]
    layers = strided[0] - 1 if strided else _blocks_before_doubling(state, num_output_blocks)
    levels = num_output_blocks // (layers + 1) if layers > 0 else 0
    ends = [(level + 1) * (layers + 1) - 1 for level in range(levels)]  # the last residual block of each level
    if not levels or levels * (layers + 1) != num_output_blocks or len(blocks) != num_output_blocks:
        raise ModelError(
            f"the checkpoint has {len(blocks)} input_blocks and {num_output_blocks} output_blocks that make no levels, "
            "wanted the state dict of a guided-diffusion network"
        )
    try:
        model_channels = state["time_embed.0.weight"].shape[1]
        widths = [blocks[end]["0.out_layers.3.weight"][0] for end in ends]
        shape = GuidedShape(
            in_channels=blocks[0]["0.weight"][1],
            out_channels=state["out.2.weight"].shape[0],
            model_channels=model_channels,
            channel_mult=tuple(width / model_channels for width in widths),
            num_res_blocks=layers,
            attention_resolutions=tuple(2**level for level, end in enumerate(ends) if "1.qkv.weight" in blocks[end]),
            use_scale_shift_norm=blocks[1]["0.emb_layers.1.weight"][0] == 2 * widths[0],
            resblock_updown=not strided,
        )
    except (KeyError, IndexError) as error:
        raise ModelError(
            f"the checkpoint lacks {error}, wanted the state dict of a guided-diffusion network"
        ) from error
    if widths[0] != model_channels:
        raise ModelError(
            f"the checkpoint's first level has {widths[0]} channels, wanted {model_channels}, the width of its time "
            "embedding: diffusers' network has one width for both"
        )
    return shape


def read_options(architecture: Mapping[str, Any], shape: GuidedShape) -> GuidedOptions:
    """Take the options from guided-diffusion's settings, by the names of its network or of its scripts.

    As in the scripts, an ``attention_resolutions`` that is text such as '32,16,8' counts pixels, and an empty text is
    ignored. An unknown setting, or one that contradicts what the weights show, is a ModelError.
    """
    given = {SCRIPT_NAMES.get(name, name): value for name, value in architecture.items()}
    option_names = {item.name for item in fields(GuidedOptions)}
    shape_names = {item.name for item in fields(GuidedShape)}
    unknown = sorted(set(given) - option_names - shape_names - WITHOUT_EFFECT)
    if unknown:
        known = sorted(option_names | shape_names)
        raise ModelError(f"architecture: unknown key {', '.join(unknown)}; known are {', '.join(known)}")
    options = GuidedOptions(**{name: given[name] for name in option_names & set(given)})
    for name in sorted(shape_names & {name for name, value in given.items() if value != ""}):
        value, shown = given[name], getattr(shape, name)
        if isinstance(shown, tuple):
            value = _numbers(name, value)
            if name == "attention_resolutions":
                factors = [options.image_size / v for v in value] if isinstance(given[name], str) else value
                # A resolution that the network never reaches means nothing.
                value = tuple(sorted(v for v in factors if v < 2 ** len(shape.channel_mult)))
        if value != shown:
            raise ModelError(
                f"architecture: {name} is {given[name]!r}, but the weights show {shown!r}: correct it or leave it out"
            )
    return options


def diffusers_settings(shape: GuidedShape, options: GuidedOptions) -> dict[str, Any]:
    """Settings of diffusers' ``UNet2DModel`` for this network; attention heads that do not fit are a ModelError."""
    updown = shape.resblock_updown
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if updown else ("DownBlock2D", "UpBlock2D")
    return {
        "sample_size": options.image_size,
        "in_channels": shape.in_channels,
        "out_channels": shape.out_channels,
        "block_out_channels": list(shape.widths),
        "layers_per_block": shape.num_res_blocks,
        "down_block_types": ["AttnDownBlock2D" if attends else plain[0] for attends in shape.attends],
        "up_block_types": ["AttnUpBlock2D" if attends else plain[1] for attends in reversed(shape.attends)],
        "downsample_type": "resnet" if updown else "conv",
        "upsample_type": "resnet" if updown else "conv",
        "attention_head_dim": _head_channels(shape, options),
        "attn_norm_num_groups": NORM_GROUPS,
        "norm_num_groups": NORM_GROUPS,
        "norm_eps": 1e-5,  # torch's default, which guided-diffusion leaves as it is
        "flip_sin_to_cos": True,  # guided-diffusion's time embedding puts the cosines first ...
        "freq_shift": 0,  # ... and its frequencies are 10000^(-i / half), not 10000^(-i / (half - 1))
        "resnet_time_scale_shift": "scale_shift" if shape.use_scale_shift_norm else "default",
        "dropout": options.dropout,
    }


def renamed(state: Mapping[str, Tensor], shape: GuidedShape, options: GuidedOptions) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights under diffusers' names; a weight that has none keeps its own, for a strict check to refuse."""
    names, head = dict(_module_names(shape)), _head_channels(shape, options)
    for key, tensor in state.items():
        module, _, leaf = key.rpartition(".")
        name = names.get(module)
        flat = tensor.squeeze(-1) if tensor.ndim == 3 else tensor  # a 1-D convolution of width 1 is a linear map
        if name is None or (name.endswith(".qkv") and flat.shape[0] % (3 * head)):
            yield key, tensor
        elif name.endswith(".qkv"):
            parts = _split_qkv(flat, head, new_order=options.use_new_attention_order)
            yield from ((f"{name.removesuffix('qkv')}to_{part}.{leaf}", rows) for part, rows in parts)
        else:
            yield f"{name}.{leaf}", flat


def _split_qkv(rows: Tensor, head: int, *, new_order: bool) -> Iterator[tuple[str, Tensor]]:
    """Split the joint projection: q, k, v of all heads in the new order; q, k, v of each head in turn in the old."""
    joint = rows.reshape(3, -1, head, *rows.shape[1:]) if new_order else rows.reshape(-1, 3, head, *rows.shape[1:])
    for index, part in enumerate("qkv"):
        yield part, joint.select(0 if new_order else 1, index).flatten(0, 1)


def _head_channels(shape: GuidedShape, options: GuidedOptions) -> int:
    """Return the channels of an attention head, which diffusers wants to be the same at every level."""
    attended = {width for width, attends in zip(shape.widths, shape.attends, strict=True) if attends}
    widths = sorted(attended | {shape.widths[-1]})  # the middle always attends
    head = options.num_head_channels
    if head == -1:
        if len(widths) > 1:
            raise ModelError(
                f"architecture: {options.num_heads} heads at the widths {widths} differ in size, wanted heads of one "
                "size (num_head_channels): diffusers' network knows no other"
            )
        head = widths[0] // max(options.num_heads, 1)
    if head < 1 or any(width % head for width in widths):
        raise ModelError(
            f"architecture: attention heads of {head} channels do not divide the widths {widths}: give the network's "
            "own num_head_channels"
        )
    return head


def _module_names(shape: GuidedShape) -> Iterator[tuple[str, str]]:
    """Yield guided-diffusion's name and diffusers' name of every module that may hold weights."""
    yield from FIXED_MODULES.items()
    for theirs, ours in [*MIDDLE_BLOCKS.items(), *_block_names(shape)]:
        yield from ((f"{theirs}.{part}", f"{ours}.{name}") for part, name in BLOCK_PARTS.items())


def _block_names(shape: GuidedShape) -> Iterator[tuple[str, str]]:
    """Yield both names of every residual, attention and resampling block on the way down and up."""
    layers, last = shape.num_res_blocks, len(shape.attends) - 1
    for level in range(last + 1):
        for layer in range(layers + 1):
            index = level * (layers + 1) + layer
            down, up = f"input_blocks.{index + 1}", f"output_blocks.{index}"
            halves = layer == layers
            yield f"{down}.0", f"down_blocks.{level}.{'downsamplers.0' if halves else f'resnets.{layer}'}"
            yield f"{down}.1", f"down_blocks.{level}.attentions.{layer}"
            yield f"{up}.0", f"up_blocks.{level}.resnets.{layer}"
            attends = shape.attends[last - level]
            yield f"{up}.1", f"up_blocks.{level}.{f'attentions.{layer}' if attends else 'upsamplers.0'}"
            yield f"{up}.2", f"up_blocks.{level}.upsamplers.0"


def _blocks_before_doubling(state: Mapping[str, Tensor], num_output_blocks: int) -> int:
    """Count the blocks of the way up before the first that holds a residual block for doubling the resolution."""
    for n in range(num_output_blocks):
        block = _shapes_below(state, f"output_blocks.{n}")
        if "1.in_layers.0.weight" in block or "2.in_layers.0.weight" in block:
            return n
    return num_output_blocks - 1


def _shapes_below(state: Mapping[str, Tensor], prefix: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights whose names begin with the prefix, by the rest of their names."""
    start = f"{prefix}."
    return {key.removeprefix(start): tuple(tensor.shape) for key, tensor in state.items() if key.startswith(start)}


def _count(state: Mapping[str, Tensor], name: str) -> int:
    numbers = [int(match[1]) for key in state if (match := re.match(rf"{name}\.(\d+)\.", key))]
    count = max(numbers, default=-1) + 1
    check_limit(count, len(state), name, "it is no state dict of guided-diffusion", error=ModelError)
    return count


def _numbers(name: str, value: object) -> tuple[float, ...]:
    """Read a sequence of positive numbers, or a text of numbers with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        numbers = tuple(float(part) for part in parts)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise ModelError(f"architecture: {name} is {value!r}, wanted numbers") from error
    if any(number <= 0 for number in numbers):
        raise ModelError(f"architecture: {name} is {value!r}, wanted numbers above 0")
    return numbers
