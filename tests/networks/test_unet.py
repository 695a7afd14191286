import json
from typing import Any

import pytest
import torch

from lacunar.errors import ModelError
from lacunar.networks.unet import DiffusersConfig, UNet, UNetConfig, config_from_dict

SMALL: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "attention_levels": (1,),
    "attention_head_dim": 8,
    "norm_groups": 4,
}
RAW: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
}


def small(**changes: Any) -> UNetConfig:
    return UNetConfig(**{**SMALL, **changes})


def shaken(config: UNetConfig | DiffusersConfig, seed: int = 0) -> UNet:
    """A network whose output convolution no longer stands at zero."""
    network = UNet(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("learned_variance", [False, True])
def test_untrained_network_predicts_zero_at_any_size_its_stride_divides(patch: int, learned_variance: bool) -> None:
    network = UNet(small(in_channels=4, out_channels=1, patch=patch, learned_variance=learned_variance))
    assert network.stride == 2 * patch
    y = network(torch.randn(2, 4, 16, 24), torch.tensor([0, 999]))
    assert type(y) is torch.Tensor
    assert torch.equal(y, torch.zeros(2, 2 if learned_variance else 1, 16, 24))


@pytest.mark.parametrize("scale_shift", [False, True])
def test_every_parameter_receives_a_gradient(scale_shift: bool) -> None:
    network = shaken(small(in_channels=3, out_channels=2, patch=2, learned_variance=True, scale_shift=scale_shift))
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    network(x, torch.tensor([10, 700])).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # A shift common to all keys cancels in the softmax, so the bias of the keys has a gradient of zero.
        if not name.endswith("to_k.bias"):
            assert parameter.grad.abs().max() > 1e-7, name


def test_first_step_moves_only_the_output_convolution() -> None:
    network = UNet(small())
    (network(torch.randn(1, 1, 16, 16), torch.tensor([5])) - 1).square().mean().backward()
    moved = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved == {"unet.conv_out.weight", "unet.conv_out.bias"}


def test_patch_is_space_to_depth_and_back() -> None:
    network = UNet(small(in_channels=2, out_channels=1, patch=2, learned_variance=True))
    seen: list[torch.Tensor] = []
    network.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        network.unet.conv_out.bias.copy_(torch.arange(8.0))
    x = torch.randn(1, 2, 16, 16)
    y = network(x, torch.tensor([5]))
    for channel in range(2):
        for row in range(2):
            for column in range(2):
                inner = channel * 4 + row * 2 + column
                assert torch.equal(seen[0][:, inner], x[:, channel, row::2, column::2])
                assert (y[:, channel, row::2, column::2] == inner).all()


def test_each_image_is_seen_alone_with_its_own_time() -> None:
    network = shaken(small(in_channels=2)).eval()
    x, t = torch.randn(2, 2, 16, 16), torch.tensor([3, 800])
    with torch.no_grad():
        together = network(x, t)
        apart = torch.cat([network(x[:1], t[:1]), network(x[1:], t[1:])])
        elsewhen = network(x, t.flip(0))
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)
    assert (together - elsewhen).abs().max() > 1e-3


def test_attention_stands_where_it_was_asked_for_and_is_normalised() -> None:
    def attentions(config: UNetConfig) -> dict[str, torch.nn.Module]:
        return {
            name: module
            for name, module in UNet(config).named_modules()
            if name.rsplit(".", 2)[-2:-1] == ["attentions"]
        }

    assert not attentions(small(attention_levels=(), middle_attention=False))
    everywhere = attentions(small(attention_levels=(0,), middle_attention=True))
    places = {name.removeprefix("unet.").rsplit(".attentions", 1)[0] for name in everywhere}
    assert places == {"down_blocks.0", "mid_block", "up_blocks.1"}
    assert all(module.group_norm is not None for module in everywhere.values())


def test_dropout_acts_only_while_training() -> None:
    network = shaken(small(dropout=0.5))
    x, t = torch.randn(1, 1, 16, 16), torch.tensor([5])
    with torch.no_grad():
        assert not torch.equal(network.train()(x, t), network(x, t))
        assert torch.equal(network.eval()(x, t), network(x, t))


@pytest.mark.parametrize(
    "config", [small(patch=4, learned_variance=True), DiffusersConfig(settings=RAW, learned_variance=False)]
)
def test_config_survives_json(config: UNetConfig | DiffusersConfig) -> None:
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_raw_settings_build_the_network_of_diffusers() -> None:
    from diffusers import UNet2DModel

    config = DiffusersConfig(settings={**RAW, "_class_name": "UNet2DModel", "out_channels": 6}, learned_variance=True)
    assert (config.in_channels, config.out_channels, config.returned_channels, config.stride) == (3, 3, 6, 2)
    network = shaken(config)
    theirs = UNet2DModel(**RAW, out_channels=6)
    theirs.load_state_dict(network.unet.state_dict())
    x, t = torch.randn(1, 3, 16, 8), torch.tensor([7])
    with torch.no_grad():
        assert torch.equal(network(x, t), theirs(x, t).sample)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 0}, "in_channels is 0, wanted a whole number from 1"),
        ({"layers_per_block": True}, "layers_per_block is True"),
        ({"block_out_channels": ()}, "block_out_channels is 0"),
        ({"block_out_channels": 8}, "block_out_channels is 8, wanted a sequence"),
        ({"block_out_channels": (8, 18)}, "norm_groups 4 does not divide"),
        ({"attention_levels": (2,)}, r"attention_levels is \[2\], wanted different levels in 0..1"),
        ({"attention_levels": (1, 1)}, "wanted different levels"),
        ({"attention_head_dim": 5}, "attention_head_dim 5 does not divide"),
        ({"patch": 3}, r"patch is 3, wanted one of \[1, 2, 4\]"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"scale_shift": "yes"}, "scale_shift is 'yes', wanted true or false"),
        ({"sample_size": 15}, "sample_size 15 is not a multiple of 2"),
    ],
)
def test_config_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "unet", "depth": 3}, "unknown key depth; known are sample_size"),
        ({"kind": "resnet"}, "kind is 'resnet', wanted one of"),
        ({}, "kind is None"),
        ({"kind": "diffusers", "setings": {}}, "unknown key setings"),
        ({"kind": "diffusers", "settings": {"channels": 3}}, "unknown key channels"),
        ({"kind": "diffusers", "settings": []}, "settings is .*, wanted a mapping"),
        ({"kind": "diffusers", "settings": {"in_channels": "3"}}, "in_channels is '3'"),
        ({"kind": "diffusers", "settings": {"block_out_channels": 8}}, "block_out_channels is 8"),
        ({"kind": "diffusers", "settings": {"num_class_embeds": 10}}, "wants a class label"),
        ({"kind": "diffusers", "learned_variance": True}, "even number of output channels, got 3"),
    ],
)
def test_stored_config_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        config_from_dict(values)


def test_settings_that_diffusers_refuses_are_told_in_one_line() -> None:
    with pytest.raises(ModelError, match="diffusers cannot build it") as caught:
        UNet(DiffusersConfig(settings={**RAW, "down_block_types": ["DownBlock2D"]}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "times", "message"),
    [
        ((1, 3, 16, 16), (1,), r"shape \(1, 3, 16, 16\), wanted \(batch, 4, height, width\)"),
        ((4, 16, 16), (4,), "this network takes 4 channels"),
        ((1, 4, 15, 16), (1,), "15 x 16 pixels, wanted multiples of 2"),
        ((2, 4, 16, 16), (1,), r"time has shape \(1,\), wanted \(2,\)"),
    ],
)
def test_input_that_does_not_fit_is_refused(shape: tuple[int, ...], times: tuple[int, ...], message: str) -> None:
    network = UNet(small(in_channels=4))
    with pytest.raises(ModelError, match=message):
        network(torch.zeros(shape), torch.zeros(times, dtype=torch.long))


@pytest.mark.parametrize(
    "changes",
    [
        {"patch": 2, "in_channels": 5, "attention_levels": (1,)},
        {"layers_per_block": 3, "learned_variance": True, "attention_levels": (0, 1)},
        {"scale_shift": False, "middle_attention": False, "block_out_channels": (8, 16, 24)},
    ],
)
def test_the_network_and_its_weights_are_those_of_diffusers(changes: dict[str, Any]) -> None:
    from diffusers import UNet2DModel

    config = small(**changes)
    network, depth = shaken(config), len(config.block_out_channels)
    attends = [level in config.attention_levels for level in range(depth)]
    theirs = UNet2DModel(
        in_channels=config.in_channels * config.patch**2,
        out_channels=config.returned_channels * config.patch**2,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        down_block_types=["AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends],
        up_block_types=["AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)],
        add_attention=config.middle_attention,
        attention_head_dim=config.attention_head_dim,
        norm_num_groups=config.norm_groups,
        attn_norm_num_groups=config.norm_groups,
        resnet_time_scale_shift="scale_shift" if config.scale_shift else "default",
    ).eval()
    theirs.load_state_dict(network.unet.state_dict(), strict=True)
    x = torch.randn(2, config.in_channels * config.patch**2, 16, 16, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([3, 700])
    with torch.no_grad():
        torch.testing.assert_close(network.unet(x, t), theirs(x, t).sample)
