"""Samples of a model that is told nothing: their statistics against known fields, files, refusals."""

import json

import numpy as np
import pytest
import rasterio

from commands import contents, write
from lacunar.errors import LacunarError
from lacunar.evaluate.unconditional import SampleOptions, compare, standardised, statistics, write_samples
from lacunar.models.backend import load_filler
from lacunar.models.unconditional import draw_untold

RNG = np.random.default_rng(0)


def test_statistics_of_white_noise_and_of_a_slope():
    white = statistics(RNG.standard_normal((20, 64, 64)))
    assert [white[f"variogram_{lag}"] for lag in (1, 4, 16)] == pytest.approx([1, 1, 1], rel=0.03)
    assert white["kurtosis"] == pytest.approx(0, abs=0.1)
    slope = statistics(np.broadcast_to(np.arange(32.0), (2, 32, 32)))
    assert slope["variogram_4"] == pytest.approx(0.5 * 16 / 2)  # along rows 4 apart, along columns alike
    assert "variogram_16" in slope


def test_a_copy_of_a_real_tile_is_found():
    real = RNG.standard_normal((6, 16, 16))
    told = compare(real[:2] + 1e-3, real)
    assert told["samples"]["nearest_real"] == pytest.approx(1e-3, rel=0.01)
    assert told["real"]["nearest_real"] > 1
    np.testing.assert_allclose(standardised(real).std(axis=(1, 2)), 1)


def test_samples_are_those_of_their_number_and_seed():
    model = load_filler("lst-small")
    three, one = draw_untold(model, 3, evaluations=2), draw_untold(model, 1, evaluations=2)
    side = model.network.config.sample_size
    assert three.shape == (3, 1, side, side)
    np.testing.assert_allclose(three[0], one[0], atol=1e-5)
    assert not np.allclose(three[0], draw_untold(model, 1, seed=1, evaluations=2)[0])


def test_files_of_an_lst_model_have_the_level_of_real_tiles(tmp_path):
    side = 64
    real = (300 + 3 * RNG.standard_normal((side, 2 * side))).astype(np.float32)
    like = write(tmp_path / "real.tif", real, units="K")
    record = write_samples(tmp_path / "out", like=like, options=SampleOptions(model="lst-small", n=3, evaluations=2))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(f"lst-small_00{number}.tif" for number in (1, 2, 3)),
        "samples.json",
    ]
    with rasterio.open(tmp_path / "out" / "lst-small_002.tif") as dataset:
        values = dataset.read(1)
    assert values.mean() == pytest.approx(real[:, side:].mean(), abs=0.01)
    assert values.std() == pytest.approx(real[:, side:].std(), rel=0.01)
    assert json.loads((tmp_path / "out" / "samples.json").read_text())["compared"] == record["compared"]
    assert record["real"] == 2


def test_nothing_real_of_that_size_is_refused_and_nothing_written(tmp_path):
    like = write(tmp_path / "small.tif", np.full((40, 90), 300, np.float32), units="K")
    before = contents(tmp_path)
    with pytest.raises(LacunarError, match="no tile of 64 x 64 pixels that are all measured"):
        write_samples(tmp_path / "out", like=like, options=SampleOptions(model="lst-small"))
    with pytest.raises(LacunarError, match="wanted 1 or more"):
        SampleOptions(model="lst-small", n=0)
    assert contents(tmp_path) == before
