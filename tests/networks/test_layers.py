"""What a network that restores missing pixels is given: which channel is which; a known pixel carries no noise."""

import pytest
import torch

from lacunar.networks.layers import network_input


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_the_order_is_state_mean_sigma_missing_and_the_rest(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(2, 1, 6, 7, generator=generator)
    condition = torch.randn(2, channels, 6, 7, generator=generator)
    missing = (torch.rand(2, 1, 6, 7, generator=generator) < 0.5).float()
    given = network_input(x_t, condition, missing)
    assert given.shape == (2, channels + 2, 6, 7)
    assert torch.equal(given[:, 0], x_t[:, 0] * missing[:, 0])
    assert torch.equal(given[:, 1], condition[:, 0])
    assert torch.equal(given[:, 2], condition[:, 1])
    assert torch.equal(given[:, 3], missing[:, 0])
    assert torch.equal(given[:, 4:], condition[:, 2:])


def test_a_longer_condition_leaves_the_first_channels_as_they_are() -> None:
    """So that a network of four channels becomes one of five by channels that come last."""
    x_t, condition, missing = torch.randn(1, 1, 4, 4), torch.randn(1, 3, 4, 4), torch.ones(1, 1, 4, 4)
    assert torch.equal(network_input(x_t, condition, missing)[:, :4], network_input(x_t, condition[:, :2], missing))


def test_no_noise_reaches_a_known_pixel() -> None:
    missing = torch.zeros(1, 1, 4, 4)
    missing[..., 2:] = 1
    given = network_input(torch.full((1, 1, 4, 4), 9.0), torch.zeros(1, 2, 4, 4), missing)
    assert not given[:, 0, :, :2].any()
    assert torch.all(given[:, 0, :, 2:] == 9)
