"""Rows of the last layer that tell covers apart: learned from features that separate them, water left as it is."""

import math

import torch

from lacunar.networks.efficientnet import WATER_ROWS, PretrainedUNet
from lacunar.train.water_cover import refit_cover

SIDE = 32


class Halves:
    """Images whose bright half is of one cover and whose dark half of the other; the third cover is never told."""

    def __init__(self, told=True):
        self.told = told

    def __len__(self):
        return 6

    def __getitem__(self, key):
        bright = torch.zeros(1, SIDE, SIDE)
        bright[..., : SIDE // 2] = 1
        noise = torch.rand(6, SIDE, SIDE, generator=torch.Generator().manual_seed(key[1]))
        cover = 1 - bright if self.told else torch.full_like(bright, -1.0)
        return {"image": 0.1 + 0.8 * bright + 0.05 * noise, "cover": cover}


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PretrainedUNet((8, 8, 8, 8, 8), classes=4).eval()


def test_covers_are_learned_and_water_stays():
    reader = network()
    before = reader.head.weight.detach().clone(), reader.head.bias.detach().clone()
    assert refit_cover(reader, Halves(), 6, seed=0) < 0.2
    assert torch.equal(reader.head.weight[:WATER_ROWS], before[0][:WATER_ROWS])
    assert torch.equal(reader.head.bias[:WATER_ROWS], before[1][:WATER_ROWS])
    example = Halves()[0, 99]
    with torch.no_grad():
        found = reader(example["image"][None]).logits[0, 1:].argmax(dim=0)
    assert (found == example["cover"][0]).float().mean() > 0.9


def test_without_a_label_nothing_changes():
    reader = network()
    before = reader.head.weight.detach().clone()
    assert math.isnan(refit_cover(reader, Halves(told=False), 3, seed=0))
    assert torch.equal(reader.head.weight, before)
