"""What a network that restores missing pixels is given: which channel is which; a known pixel carries no noise."""

import pytest
import torch

from lacunar.networks.layers import BoundaryDiffusion, network_input


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


def boundary_diffusion(steps: int = 30) -> BoundaryDiffusion:
    """Diffusion that keeps apart what differs in the guide's one channel."""
    block = BoundaryDiffusion(3, 1, steps)
    torch.nn.init.zeros_(block.embed.weight)
    with torch.no_grad():
        block.embed.weight[:, 0, 1, 1] = 1.0
        block.rate.copy_(torch.tensor([-40.0, 0.0, 40.0])[:, None, None])
    return block


def test_diffusion_smooths_each_side_of_a_boundary_and_nothing_crosses_it() -> None:
    generator = torch.Generator().manual_seed(0)
    h, guide = torch.randn(2, 3, 9, 12, generator=generator), torch.zeros(2, 1, 9, 12)
    guide[..., 5:] = 4.0
    with torch.no_grad():
        out = boundary_diffusion()(h, guide)
    assert torch.equal(out[:, 0], h[:, 0])  # a rate of zero
    for side in (slice(0, 5), slice(5, 12)):
        torch.testing.assert_close(out[..., side].mean(dim=(2, 3)), h[..., side].mean(dim=(2, 3)))
        assert (out[:, 1:, :, side].std(dim=(2, 3)) < 0.3 * h[:, 1:, :, side].std(dim=(2, 3))).all()
    assert (out.amax(dim=(2, 3)) <= h.amax(dim=(2, 3)) + 1e-6).all()
    assert (out.amin(dim=(2, 3)) >= h.amin(dim=(2, 3)) - 1e-6).all()


def test_without_a_boundary_a_step_is_that_of_the_heat_equation() -> None:
    h = torch.zeros(1, 3, 5, 5)
    h[..., 2, 2] = 1.0
    with torch.no_grad():
        out = boundary_diffusion(steps=1)(h, torch.zeros(1, 1, 5, 5))
    line = torch.tensor([0.0, 0.25, 0.5, 0.25, 0.0])  # a rate of 1/4
    torch.testing.assert_close(out[0, 1], line[:, None] * line)
