"""Picture models whose samples are known in closed form, and tiny ones with random weights."""

from types import SimpleNamespace

import torch
from torch import nn

from gap_models import SCHEDULE
from lacunar.interpolate.scaling import RangeScaling
from lacunar.models.card import Card
from lacunar.models.checkpoint import Model, save_model
from lacunar.networks.unet import UNet, UNetConfig


class GaussianPicture(nn.Module):
    """The exact E[v | x_t] where the state of every pixel and colour is an independent N(mean, variance).

    With x_t = a z + s eps, E[z | x_t] = mean + a variance / (a^2 variance + s^2) (x_t - a mean) and
    v = a eps - s z = (a x_t - z) / s. Keeps what it was given in ``seen``.
    """

    in_channels, out_channels = 8, 3

    def __init__(self, *, mean=0.0, variance=1.0, size=64):
        super().__init__()
        self.mean, self.variance = torch.as_tensor(mean).double().reshape(-1, 1, 1), variance
        self.config = SimpleNamespace(sample_size=size)
        self.anchor = nn.Parameter(torch.zeros(1))
        self.seen = []

    def forward(self, x, t):
        self.seen.append(x)
        abar = torch.tensor(SCHEDULE.alphas_cumprod)[t][:, None, None, None]
        a, s = abar.sqrt(), (1 - abar).sqrt()
        x_t = x[:, :3].double()
        z = self.mean + a * self.variance / (abar * self.variance + s**2) * (x_t - a * self.mean)
        return ((a * x_t - z) / s).float()


def picture_model(network, name="exact"):
    """A model around any network."""
    return Model(
        name=name,
        network=network,
        schedule=SCHEDULE,
        prediction="v",
        scaling=RangeScaling(),
        card=Card(summary="for tests", licence="none"),
    )


def tiny_picture_model(*, seed=0):
    """A small U-Net with random weights, its last layer included: its answer depends on all that surrounds a pixel."""
    config = UNetConfig(
        sample_size=64,
        in_channels=8,
        out_channels=3,
        block_out_channels=(8, 16),
        layers_per_block=1,
        middle_attention=False,
        norm_groups=4,
        patch=4,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(config)
        nn.init.normal_(network.unet.conv_out.weight, std=0.05)
    return picture_model(network.eval(), "tiny")


def save_tiny(folder):
    """Write the tiny model as a model folder."""
    return save_model(folder, tiny_picture_model())
