import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from lacunar.errors import ModelError
from lacunar.models.checkpoint import assemble
from lacunar.models.guided_diffusion import GuidedOptions, diffusers_settings, infer_shape, read_options, renamed
from lacunar.networks.unet import DiffusersConfig

State = dict[str, Tensor]
HEAD = 16  # channels of each head of the golden network
# RePaint's settings for CelebA-HQ 256, as its scripts write them.
REPAINT = {
    "attention_resolutions": "32,16,8",
    "channel_mult": "",
    "class_cond": False,
    "diffusion_steps": 1000,
    "dropout": 0.0,
    "image_size": 256,
    "learn_sigma": True,
    "noise_schedule": "linear",
    "num_channels": 256,
    "num_head_channels": 64,
    "num_heads": 4,
    "num_heads_upsample": -1,
    "num_res_blocks": 2,
    "predict_xstart": False,
    "rescale_learned_sigmas": False,
    "rescale_timesteps": False,
    "resblock_updown": True,
    "timestep_respacing": "250",
    "use_checkpoint": False,
    "use_fp16": True,
    "use_kl": False,
    "use_new_attention_order": False,
    "use_scale_shift_norm": True,
}


@pytest.fixture(scope="module")
def golden(shared: Path) -> tuple[State, State, dict[str, Any]]:
    path = shared / "golden" / "guided_diffusion_unet_tiny.safetensors"
    tensors = load_file(path)
    parts = [
        {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        for start in ("weights.", "io.")
    ]
    with safe_open(path, "pt") as file:
        return parts[0], parts[1], json.loads(file.metadata()["config"])


def convert(state: State, architecture: dict[str, Any], x: Tensor, t: Tensor) -> Tensor:
    shape = infer_shape(state)
    options = read_options(architecture, shape)
    ours = {f"unet.{key}": tensor for key, tensor in renamed(state, shape, options)}
    config = DiffusersConfig(settings=diffusers_settings(shape, options), learned_variance=False)
    with torch.no_grad():
        return assemble(config, ours, source=Path("given"))(x, t)


def reference(state: State, x: Tensor, t: Tensor, *, new_order: bool = False) -> Tensor:
    """Evaluate guided-diffusion's network straight from its weights, by the formulas of Dhariwal & Nichol (2021)."""

    def linear(name: str, h: Tensor) -> Tensor:
        return F.linear(h, state[f"{name}.weight"], state[f"{name}.bias"])

    def conv(name: str, h: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(h, weight, state[f"{name}.bias"], stride=stride, padding=weight.shape[-1] // 2)

    def norm(name: str, h: Tensor) -> Tensor:
        return F.group_norm(h, 32, state[f"{name}.weight"], state[f"{name}.bias"])

    def double(h: Tensor) -> Tensor:
        return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def resnet(name: str, h: Tensor, resize: Any = None) -> Tensor:
        y = F.silu(norm(f"{name}.in_layers.0", h))
        if resize is not None:
            y, h = resize(y), resize(h)
        y = conv(f"{name}.in_layers.2", y)
        e = linear(f"{name}.emb_layers.1", F.silu(emb))[:, :, None, None]
        if e.shape[1] == 2 * y.shape[1]:
            scale, shift = e.chunk(2, dim=1)
            y = norm(f"{name}.out_layers.0", y) * (1 + scale) + shift
        else:
            y = norm(f"{name}.out_layers.0", y + e)
        skip = conv(f"{name}.skip_connection", h) if f"{name}.skip_connection.weight" in state else h
        return skip + conv(f"{name}.out_layers.3", F.silu(y))

    def attention(name: str, h: Tensor) -> Tensor:
        flat = norm(f"{name}.norm", h).flatten(2)
        qkv = F.conv1d(flat, state[f"{name}.qkv.weight"], state[f"{name}.qkv.bias"])
        width, outs = flat.shape[1], []
        for first in range(0, width, HEAD):
            starts = (
                [first, width + first, 2 * width + first] if new_order else [3 * first + HEAD * k for k in range(3)]
            )
            q, k, v = (qkv[:, start : start + HEAD] for start in starts)
            weights = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / HEAD**0.5, dim=-1)
            outs.append(torch.einsum("bts,bcs->bct", weights, v))
        out = F.conv1d(torch.cat(outs, 1), state[f"{name}.proj_out.weight"], state[f"{name}.proj_out.bias"])
        return h + out.view_as(h)

    def block(name: str, h: Tensor, resize: Any) -> Tensor:
        for part in range(3):
            inner = f"{name}.{part}"
            if f"{inner}.weight" in state:
                h = conv(inner, h)
            elif f"{inner}.op.weight" in state:
                h = conv(f"{inner}.op", h, stride=2)
            elif f"{inner}.conv.weight" in state:
                h = conv(f"{inner}.conv", double(h))
            elif f"{inner}.qkv.weight" in state:
                h = attention(inner, h)
            elif f"{inner}.in_layers.2.weight" in state:
                h = resnet(inner, h, resize if part > 0 or name in ("input_blocks.3", "input_blocks.6") else None)
        return h

    half = 16
    angles = t[:, None] * torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(half) / half)
    emb = linear("time_embed.2", F.silu(linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], dim=1))))
    h, skips = x, []
    for n in range(9):
        h = block(f"input_blocks.{n}", h, lambda y: F.avg_pool2d(y, 2))
        skips.append(h)
    h = resnet("middle_block.2", attention("middle_block.1", resnet("middle_block.0", h)))
    for n in range(9):
        h = block(f"output_blocks.{n}", torch.cat([h, skips.pop()], dim=1), double)
    return conv("out.2", F.silu(norm("out.0", h)))


def with_convolutions(state: State) -> State:
    """Let strided convolutions halve and convolutions double, instead of residual blocks."""
    generator = torch.Generator().manual_seed(0)
    changed = dict(state)
    for name, part, width in (
        ("input_blocks.3.0", "op", 32),
        ("input_blocks.6.0", "op", 64),
        ("output_blocks.2.2", "conv", 64),
        ("output_blocks.5.2", "conv", 64),
    ):
        changed = {key: value for key, value in changed.items() if not key.startswith(f"{name}.")}
        changed[f"{name}.{part}.weight"] = 0.05 * torch.randn(width, width, 3, 3, generator=generator)
        changed[f"{name}.{part}.bias"] = torch.randn(width, generator=generator)
    return changed


def with_added_time(state: State) -> State:
    """Let the time embedding be added, not scale and shift."""
    return {key: value.chunk(2)[0] if ".emb_layers." in key else value for key, value in state.items()}


def without_attention_at_half_resolution(state: State) -> State:
    dropped = ("input_blocks.4.1.", "input_blocks.5.1.", *(f"output_blocks.{n}.1." for n in (3, 4, 5)))
    kept = {key: value for key, value in state.items() if not key.startswith(dropped)}
    return {key.replace("output_blocks.5.2.", "output_blocks.5.1."): value for key, value in kept.items()}


def test_golden_network_is_reproduced(golden: tuple[State, State, dict[str, Any]]) -> None:
    state, io, architecture = golden
    y = convert(state, architecture, io["x"], io["t"])
    assert (y - io["y"]).abs().max() < 1e-4
    # One layer knows the heads' order: the wrong one is another network.
    wrong = convert(state, {**architecture, "use_new_attention_order": True}, io["x"], io["t"])
    assert (wrong - io["y"]).abs().max() > 1e-2


def test_the_reference_here_is_the_golden_network(golden: tuple[State, State, dict[str, Any]]) -> None:
    state, io, _ = golden
    assert (reference(state, io["x"], io["t"]) - io["y"]).abs().max() < 1e-4


@pytest.mark.parametrize(
    "variant",
    [with_convolutions, with_added_time, without_attention_at_half_resolution, dict],
    ids=lambda v: v.__name__,
)
@pytest.mark.parametrize("new_order", [False, True])
def test_variants_are_reproduced(golden: tuple[State, State, dict[str, Any]], variant: Any, new_order: bool) -> None:
    state, io, _ = golden
    changed = variant(state)
    options = {"num_head_channels": HEAD, "use_new_attention_order": new_order}
    y = convert(changed, options, io["x"], io["t"])
    assert (y - reference(changed, io["x"], io["t"], new_order=new_order)).abs().max() < 1e-4


def test_architecture_is_read_off_the_weights(golden: tuple[State, State, dict[str, Any]]) -> None:
    state, _, architecture = golden
    shape = infer_shape(state)
    for name, value in architecture.items():
        if name in vars(shape):
            shown = getattr(shape, name)
            assert (list(shown) if isinstance(shown, tuple) else shown) == value, name
    assert not infer_shape(with_convolutions(state)).resblock_updown
    assert not infer_shape(with_added_time(state)).use_scale_shift_norm
    assert infer_shape(without_attention_at_half_resolution(state)).attention_resolutions == (4,)


def celeba_hq_state() -> State:
    """The names and shapes, without memory, of RePaint's CelebA-HQ network as far as its architecture shows in them."""
    widths, shapes = (256, 256, 512, 512, 1024, 1024), {}
    for level, width in enumerate(widths):
        for layer in range(3):
            n = 1 + 3 * level + layer
            if n < 18:
                shapes[f"input_blocks.{n}.0.out_layers.3.weight"] = (width, width, 3, 3)
                shapes[f"input_blocks.{n}.0.emb_layers.1.weight"] = (2 * width, 1024)
            if level >= 3 and layer < 2:
                shapes[f"input_blocks.{n}.1.qkv.weight"] = (3 * width, width, 1)
            shapes[f"output_blocks.{n - 1}.0.in_layers.0.weight"] = (width,)
    shapes["output_blocks.2.2.in_layers.0.weight"] = (1024,)
    shapes["input_blocks.0.0.weight"] = (256, 3, 3, 3)
    shapes["time_embed.0.weight"] = (1024, 256)
    shapes["out.2.weight"] = (6, 256, 3, 3)
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def test_settings_of_repaints_scripts_agree_with_its_network() -> None:
    shape = infer_shape(celeba_hq_state())
    assert shape.channel_mult == (1, 1, 2, 2, 4, 4)
    options = read_options(REPAINT, shape)
    assert options == GuidedOptions(learn_sigma=True)  # so all that the weights do not show is the default
    settings = diffusers_settings(shape, options)
    assert settings["down_block_types"] == ["ResnetDownsampleBlock2D"] * 3 + ["AttnDownBlock2D"] * 3
    # 32 heads of resolution that the network never reaches are no contradiction.
    read_options({**REPAINT, "attention_resolutions": "32,16,8,4"}, shape)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_res_blocks": 3}, "num_res_blocks is 3, but the weights show 2"),
        ({"attention_resolutions": "16,8"}, r"attention_resolutions is '16,8', but the weights show \(8, 16, 32\)"),
        ({"attention_resolutions": [16, 32]}, "but the weights show"),
        ({"attention_resolutions": "all"}, "attention_resolutions is 'all', wanted numbers"),
        ({"attention_resolutions": "0"}, "wanted numbers above 0"),
        ({"channel_mult": 4}, "channel_mult is 4, wanted numbers"),
        ({"channel_mult": "1,2,4"}, "channel_mult is '1,2,4', but the weights show"),
        ({"resblock_updown": False}, "resblock_updown is False, but the weights show True"),
        ({"num_channels": 128}, "model_channels is 128, but the weights show 256"),
        ({"channels": 128}, "unknown key channels; known are attention_resolutions"),
        ({"class_cond": True}, "class_cond is set"),
        ({"image_size": "256"}, "image_size is '256', wanted a whole number"),
        ({"rescale_timesteps": True, "diffusion_steps": 4000}, "rescale_timesteps with 4000 steps, wanted 1000"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_options({**REPAINT, **changes}, infer_shape(celeba_hq_state()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_head_channels": -1}, r"4 heads at the widths \[512, 1024\] differ in size"),
        ({"num_head_channels": 96}, r"heads of 96 channels do not divide the widths \[512, 1024\]"),
        ({"num_head_channels": 0}, "heads of 0 channels"),
    ],
)
def test_heads_that_diffusers_cannot_have_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        diffusers_settings(infer_shape(celeba_hq_state()), GuidedOptions(**options))


def test_number_of_heads_gives_their_size_where_all_are_alike(golden: tuple[State, State, dict[str, Any]]) -> None:
    shape = infer_shape(golden[0])
    settings = diffusers_settings(shape, GuidedOptions(num_head_channels=-1, num_heads=4))
    assert settings["attention_head_dim"] == HEAD


@pytest.mark.parametrize(
    ("drop", "add", "message"),
    [
        ("", {"label_emb.weight": (1000, 1024)}, "is class-conditional"),
        ("output_blocks.17.", {}, "18 input_blocks and 17 output_blocks that make no levels"),
        ("input_blocks", {}, "0 input_blocks and 18 output_blocks"),
        ("time_embed", {}, "lacks 'time_embed.0.weight'"),
        ("", {"time_embed.0.weight": (1024, 512)}, "first level has 256 channels, wanted 512"),
    ],
)
def test_other_networks_are_refused(drop: str, add: dict[str, tuple[int, ...]], message: str) -> None:
    state = {key: value for key, value in celeba_hq_state().items() if not drop or not key.startswith(drop)}
    state |= {key: torch.empty(shape, device="meta") for key, shape in add.items()}
    with pytest.raises(ModelError, match=message):
        infer_shape(state)


def test_left_over_weights_are_refused(golden: tuple[State, State, dict[str, Any]]) -> None:
    state, io, architecture = golden
    with pytest.raises(ModelError, match=r"1 unknown \(unet.ema.decay\)"):
        convert({**state, "ema.decay": torch.zeros(1)}, architecture, io["x"], io["t"])
    odd = {**state, "middle_block.1.qkv.weight": torch.zeros(190, 64, 1)}
    with pytest.raises(
        ModelError, match=r"missing \(.*mid_block.*to_q.weight.*unknown \(unet.middle_block.1.qkv.weight"
    ):
        convert(odd, architecture, io["x"], io["t"])
