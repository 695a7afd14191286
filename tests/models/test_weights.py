"""Weights: a pickle is told from a safetensors file; a widened network says what the narrow one said."""

import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lacunar.errors import ModelError
from lacunar.models.weights import blind_weights, fit_weights, is_pickle, read_safetensors, transfer_weights
from lacunar.networks.unet import UNet, UNetConfig

SIZE = 16


def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path):
    file = tmp_path / "model.safetensors"
    lengths = set()
    for extra in range(0, 400, 8):
        save_file({"w": torch.arange(3.0)}, file, metadata={"note": "x" * extra})
        lengths.add(struct.unpack("<Q", file.read_bytes()[:8])[0] % 256)
        assert not is_pickle(file)
        assert torch.equal(read_safetensors(file)["w"], torch.arange(3.0))
    assert 0x80 in lengths  # the byte that every pickle of protocol 2 or later begins with


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_is_never_opened(tmp_path, protocol):
    file = tmp_path / "model.safetensors"
    file.write_bytes(pickle.dumps({"w": [1.0] * 20}, protocol=protocol))
    assert is_pickle(file)
    with pytest.raises(ModelError, match="is a pickle, which could run code"):
        read_safetensors(file)
    torch.save({"w": torch.zeros(2)}, file)
    assert is_pickle(file)


def network(seed: int = 0, **changes) -> UNet:
    """A small network with random weights, its last layer included."""
    settings = {"sample_size": SIZE, "in_channels": 4, "block_out_channels": (8, 16), "layers_per_block": 1}
    settings |= {"middle_attention": False, "norm_groups": 4, "patch": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = UNet(UNetConfig(**(settings | changes)))
        for parameter in (made.unet.conv_out.weight, made.unet.conv_out.bias):
            nn.init.normal_(parameter, std=0.3)
    return made.eval()


def said(made: UNet, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return made(x, torch.tensor([3, 700]))


def given(channels: int, seed: int = 1) -> Tensor:
    return torch.randn(2, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def weights(made: UNet) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.state_dict().items()}


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_new_inputs_are_not_listened_to(patch: int):
    old, wider, x = network(patch=patch), network(1, in_channels=6, patch=patch), given(6)
    assert not torch.allclose(said(wider, x), said(old, x[:, :4]), atol=0.1)
    transfer = transfer_weights(wider, old.state_dict())
    torch.testing.assert_close(said(wider, x), said(old, x[:, :4]), rtol=0, atol=1e-5)
    torch.testing.assert_close(said(wider, 100 * x), said(old, 100 * x[:, :4]), rtol=0, atol=1e-4)
    assert transfer.widened == ("unet.conv_in.weight",)
    assert {*transfer.loaded, *transfer.widened} == set(old.state_dict())


@pytest.mark.parametrize("patch", [1, 2])
def test_a_learned_variance_begins_at_zero_and_the_prediction_stays(patch: int):
    old, wider, x = network(patch=patch), network(1, learned_variance=True, in_channels=5, patch=patch), given(5)
    transfer = transfer_weights(wider, old.state_dict())
    answer = said(wider, x)
    torch.testing.assert_close(answer[:, :1], said(old, x[:, :4]), rtol=0, atol=1e-5)
    assert not answer[:, 1:].any()
    assert transfer.widened == ("unet.conv_in.weight", "unet.conv_out.weight", "unet.conv_out.bias")


def test_what_is_new_learns_from_the_first_step():
    wider = network(1, in_channels=5, learned_variance=True)
    transfer_weights(wider, network().state_dict())
    (wider.train()(given(5), torch.tensor([3, 700])) - 1).square().mean().backward()
    new = wider.unet.conv_in.weight.grad[:, 16:], wider.unet.conv_out.weight.grad[4:], wider.unet.conv_out.bias.grad[4:]
    assert all(bool((gradient != 0).any()) for gradient in new)


def test_the_same_network_and_another_size_of_image_are_taken_whole():
    old, same, larger = network(), network(1), network(2, sample_size=2 * SIZE)
    for other in (same, larger):
        transfer = transfer_weights(other, old.state_dict())
        assert transfer.widened == ()
        assert transfer.loaded == tuple(old.state_dict())
        torch.testing.assert_close(said(other, given(4)), said(old, given(4)), rtol=0, atol=0)


def test_the_source_stays_and_nothing_is_shared():
    old, other = network(), network(1, in_channels=5)
    before = weights(old)
    transfer_weights(other, old.state_dict())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in old.state_dict().items())
    assert all(parameter.requires_grad for parameter in other.parameters())


def test_weights_in_half_precision_become_those_of_the_network():
    old, other = network(), network(1)
    half = {name: value.half() for name, value in old.state_dict().items()}
    transfer_weights(other, half)
    for name, value in other.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, half[name].float())


def test_weights_that_only_one_of_the_two_has():
    own = network().state_dict()
    lost = {name: value for name, value in own.items() if name != "unet.conv_in.bias"}
    extra = {**own, "unet.zeta.weight": torch.zeros(1), "unet.alpha.weight": torch.zeros(1)}
    message = (
        r"the two networks differ: 0 weights without a place \(\), 1 without a value \(unet.conv_in.bias\): start from"
    )
    with pytest.raises(ModelError, match=message):
        transfer_weights(network(), lost)
    message = r"2 weights without a place \(unet.alpha.weight, unet.zeta.weight\), 0 without a value \(\): start from a"
    with pytest.raises(ModelError, match=message):
        transfer_weights(network(), extra)
    with pytest.raises(ModelError, match=r"the two networks differ: \d+ weights without a place \(.*\), 0 without"):
        transfer_weights(network(), network(layers_per_block=2).state_dict())


def test_only_the_first_and_the_last_layer_are_widened():
    with pytest.raises(ModelError, match=r"weight unet\S+ has shape \(.*16.*\), wanted \(.*24.*\): start from a model"):
        transfer_weights(network(block_out_channels=(8, 24)), network().state_dict())


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"in_channels": 5}, r"unet.conv_in.weight has shape \(8, 20, 3, 3\), wanted \(8, 16, 3, 3\)"),
        ({"learned_variance": True}, r"unet.conv_out.weight has shape \(8, 8, 3, 3\), wanted \(4, 8, 3, 3\)"),
        ({"block_out_channels": (8, 24)}, r"unet\S+ has shape \(.*24.*\), wanted \(.*16.*\)"),
        ({"block_out_channels": (16, 32)}, r"unet.conv_in.weight has shape \(16, 16, 3, 3\), wanted \(8, 16, 3, 3\)"),
    ],
    ids=["more inputs", "more outputs", "wider inside", "wider at the first layer"],
)
def test_weights_of_another_shape(changes: dict, name: str):
    with pytest.raises(ModelError, match=rf"weight {name}: start from a model of the same architecture"):
        transfer_weights(network(), network(**changes).state_dict())


def test_a_blind_network_says_what_one_that_is_told_of_nothing_says():
    told = network(in_channels=8, out_channels=3)
    x = given(3)
    nothing = torch.cat([torch.zeros_like(x), torch.ones_like(x[:, :2])], dim=1)  # mean 0, sigma 1, all missing
    alone = network(seed=9, in_channels=3, out_channels=3)
    assert not transfer_weights(alone, blind_weights(told)).widened
    first, second = (nn.functional.pixel_unshuffle(planes, 2) for planes in (torch.cat([x, nothing], dim=1), x))
    inner = (..., slice(1, -1), slice(1, -1))  # the padding of the first layer differs
    torch.testing.assert_close(told.unet.conv_in(first)[inner], alone.unet.conv_in(second)[inner])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    layer = nn.Linear(2, 2)
    state = {key: tensor.clone() for key, tensor in layer.state_dict().items()}
    state["bias"][1] = value
    with pytest.raises(ModelError, match="weight bias is not finite"):
        fit_weights(layer, state, source=tmp_path / "model.safetensors")
