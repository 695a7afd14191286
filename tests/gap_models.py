"""Gap-filling models whose samples are known in closed form, and tiny ones with random weights."""

from types import SimpleNamespace

import torch
from torch import nn

from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.interpolate.scaling import TileScaling
from lacunar.models.card import Card
from lacunar.models.checkpoint import Model
from lacunar.networks.unet import UNet, UNetConfig

SCHEDULE = NoiseSchedule.cosine(1000)


class GaussianResidual(nn.Module):
    """The exact E[v | x_t] where the residual of every pixel is an independent N(mean, variance).

    With x_t = a z + s eps, E[z | x_t] = mean + a variance / (a^2 variance + s^2) (x_t - a mean) and
    v = a eps - s z = (a x_t - z) / s. Keeps what it was given in ``seen``.
    """

    out_channels = 1

    def __init__(self, *, mean=0.0, variance=1.0, size=64, in_channels=4):
        super().__init__()
        self.mean, self.variance, self.in_channels = mean, variance, in_channels
        self.config = SimpleNamespace(sample_size=size)
        self.anchor = nn.Parameter(torch.zeros(1))
        self.seen = []

    def forward(self, x, t):
        self.seen.append(x)
        abar = torch.tensor(SCHEDULE.alphas_cumprod)[t][:, None, None, None]
        a, s = abar.sqrt(), (1 - abar).sqrt()
        x_t = x[:, :1].double()
        z = self.mean + a * self.variance / (abar * self.variance + s**2) * (x_t - a * self.mean)
        return ((a * x_t - z) / s).float()


def ddim_gain(steps, variance):
    """What DDIM makes of one unit of noise, for N(mean, variance) data: the product of its linear steps.

    From x_t - a mean to x_{t-1} - a' mean: (a' a variance + s' s) / (a^2 variance + s^2). Tends to the standard
    deviation as the steps grow.
    """
    schedule, gain = SCHEDULE.respaced(steps), 1.0
    for abar, before in zip(schedule.alphas_cumprod, schedule.alphas_cumprod_prev, strict=True):
        across = (before * abar) ** 0.5 * variance + ((1 - before) * (1 - abar)) ** 0.5
        gain *= across / (abar * variance + 1 - abar)
    return gain


def gap_model(network, name="exact"):
    """A model around any network."""
    return Model(
        name=name,
        network=network,
        schedule=SCHEDULE,
        prediction="v",
        scaling=TileScaling(),
        card=Card(summary="for tests", licence="none"),
    )


def tiny_model(*, in_channels=4, seed=0):
    """A small U-Net with random weights, its last layer included: its answer depends on all that surrounds a pixel."""
    config = UNetConfig(
        sample_size=64,
        in_channels=in_channels,
        out_channels=1,
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
    return gap_model(network.eval(), "tiny")
