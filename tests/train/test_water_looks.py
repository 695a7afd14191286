"""Weights of looks at coarser pixels: fitted to scenes in which each look alone knows a part."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import ModelError
from lacunar.models.card import Card
from lacunar.models.checkpoint import SegmentationModel
from lacunar.networks.layers import Condition
from lacunar.networks.segdiff import SegmenterConfig
from lacunar.train.water_data import WaterScene
from lacunar.train.water_looks import fit_looks

SIDE = 64


class Dark(torch.nn.Module):
    """Water is where the red band is dark, pixel by pixel."""

    spec = SegmenterConfig(sample_size=SIDE, condition_widths=(8, 8), widths=(8, 8), diffusion=False)

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(1.0))

    def condition(self, image):
        empty = image.new_zeros(len(image), 0)
        return Condition(empty, empty, 5 * (0.5 - image[:, 2:3].nan_to_num()), empty)

    def restore(self, x_t, t, condition):
        return self.gain * (2 * torch.sigmoid(condition.logits) - 1) * self.spec.mask_scale


def scene(number):
    """Blocks of 8 x 8 pixels of dark water or bright land under noise that hides single pixels."""
    rng = np.random.default_rng(number)
    water = np.kron(rng.random((12, 12)) < 0.5, np.ones((8, 8), bool))
    picture = np.where(water, 100, 150)[..., None] + rng.normal(0, 60, (*water.shape, 3))
    stored = []
    for values in (picture.clip(0, 255).astype(np.uint8), water.astype(np.uint8)):
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, "PNG")
        stored.append(np.frombuffer(stream.getvalue(), np.uint8))
    return WaterScene("lakes_rgb", str(number), *stored)


def test_the_look_that_averages_noise_away_weighs_most():
    model = SegmentationModel(
        name="dark",
        network=Dark(),
        schedule=NoiseSchedule.cosine(10),
        prediction="x_0",
        card=Card(summary="", licence="", looks={"1": 9.0}),
    )
    six = WaterScene("six", "a", np.ones((6, 8, 8), np.int16), scene(0).encoded_mask)  # looked at but once: left out
    found = fit_looks(model, [scene(0), scene(1), six], seed=0)
    assert set(found) == {"1", "2", "4", "shift"}
    assert found["2"] + found["4"] > 2 * found["1"]
    assert found == fit_looks(model, [scene(0), scene(1)], seed=0)


@pytest.mark.parametrize("looks", [{"half": 1.0}, {"2": "much"}, {"2": None}])
def test_a_card_refuses_looks_that_are_none(looks):
    with pytest.raises(ModelError, match=r"looks is .* wanted numbers by how coarse a look is"):
        Card(summary="", licence="", looks=looks)
    with pytest.raises(ModelError, match=r"ndwi is .*, wanted four numbers or none"):
        Card(summary="", licence="", ndwi=(1.0,))
