"""The network of an array on tiles, each scaled as the model's folder says."""

from dataclasses import replace

import numpy as np
import pytest

from gap_models import GaussianResidual, gap_model
from lacunar.errors import ModelError
from lacunar.fill.denoiser import TiledDenoiser
from lacunar.geo.windows import tiles_over
from lacunar.interpolate.background import CoarseField, background_field
from lacunar.interpolate.scaling import RangeScaling, TileScaling

SHAPE = (64, 64)


def denoiser(scaling):
    values = 300 + np.random.default_rng(0).normal(size=SHAPE)
    known = np.ones(SHAPE, bool)
    known[20:40, 20:40] = False
    field = background_field(values, known, ~known, CoarseField.of(values, known, 16), kriged=True)
    model = replace(gap_model(GaussianResidual()), scaling=scaling)
    return TiledDenoiser(model, values, known, tiles_over(SHAPE, tile=64, overlap=16), field, conditional=True)


def test_the_floor_of_the_folder_s_scaling_is_honoured():
    # One kelvin of deviation is 1/30 of 300 K in tens: the floor of 0.1 takes 30 K for the scale of the tile.
    usual, flat = denoiser(TileScaling()), denoiser(TileScaling(relative_floor=0.1))
    ratio = (usual.condition / flat.condition)[0, 1, 25:35, 25:35]
    assert ratio.numpy() == pytest.approx(30, rel=0.05)


def test_a_model_of_another_scaling_is_refused():
    with pytest.raises(ModelError, match=r"scaling.json says .*'kind': 'range'.*, wanted kind tile"):
        denoiser(RangeScaling())
