import json

import numpy as np
import pytest

from lacunar.errors import ModelError, RasterError
from lacunar.interpolate.scaling import Affine, RangeScaling, TileScaling, scaling_from_dict, tile_statistics


def test_statistics_are_those_of_the_known_pixels_alone() -> None:
    rng = np.random.default_rng(1)
    tile = rng.normal(300, 5, (64, 64)).astype(np.float32)
    known = rng.random((64, 64)) < 0.6
    holed = np.where(known, tile, np.nan)
    mean, std = tile_statistics(holed, known)
    count = known.sum()
    by_hand = sum(float(v) for v in tile[known]) / count
    assert mean == pytest.approx(by_hand, rel=1e-12)
    assert std == pytest.approx((sum((float(v) - by_hand) ** 2 for v in tile[known]) / count) ** 0.5, rel=1e-9)


def test_standardised_tile_has_mean_0_and_standard_deviation_1_over_its_known_pixels() -> None:
    rng = np.random.default_rng(2)
    tile = rng.normal(288, 3, (32, 32))
    known = rng.random((32, 32)) < 0.5
    z = TileScaling().fit(tile, known).to_model(tile)
    assert z.dtype == np.float32
    assert z[known].mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
    assert z[known].std(dtype=np.float64) == pytest.approx(1, abs=1e-6)


def test_scaling_does_not_depend_on_unit_or_season() -> None:
    rng = np.random.default_rng(3)
    kelvin = rng.normal(290, 4, (16, 16))
    known = np.ones((16, 16), dtype=bool)
    fahrenheit = kelvin * 1.8 - 459.67
    one, other = (TileScaling().fit(tile, known).to_model(tile) for tile in (kelvin, fahrenheit))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_round_trip_is_exact_to_float32() -> None:
    rng = np.random.default_rng(4)
    tile = rng.normal(300, 10, (64, 64))
    affine = TileScaling().fit(tile, np.ones_like(tile, dtype=bool))
    # float32 has 24 significant bits; model values stay below 8, one unit is 10 K: 10 * 8 * 2**-24 = 5e-6 K.
    np.testing.assert_allclose(affine.to_physical(affine.to_model(tile)), tile, rtol=0, atol=5e-6)


def test_every_8_bit_value_returns_exactly() -> None:
    affine = RangeScaling().affine
    values = np.arange(256, dtype=np.uint8)
    z = affine.to_model(values)
    assert z.min() == -1
    assert z.max() == 1
    np.testing.assert_array_equal(np.rint(affine.to_physical(z)), values)


@pytest.mark.parametrize(("level", "floor"), [(300.0, 0.03), (-300.0, 0.03), (0.0, 1e-6)])
def test_calm_tile_is_not_blown_up(level: float, floor: float) -> None:
    tile = np.full((8, 8), level)
    assert tile_statistics(tile, tile == level) == (level, pytest.approx(floor))
    z = TileScaling().fit(tile, tile == level).to_model(tile)
    np.testing.assert_array_equal(z, 0)


def test_floor_can_be_chosen() -> None:
    assert tile_statistics([100.0, 100.0], [True, True], relative_floor=0.01)[1] == pytest.approx(1.0)


@pytest.mark.parametrize("scaling", [TileScaling(relative_floor=0.001), RangeScaling(low=-1, high=3)])
def test_scaling_survives_json(scaling: TileScaling | RangeScaling) -> None:
    assert scaling_from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


@pytest.mark.parametrize(
    ("values", "known", "message"),
    [
        ([1.0, 2.0], [False, False], "without a known pixel"),
        ([1.0, np.nan], [True, True], "not finite: mark it as missing"),
        ([1.0, 2.0], [True], r"shape \(1,\), wanted bool of the values' shape \(2,\)"),
        ([1.0, 2.0], [1, 0], "known is int64"),
    ],
)
def test_statistics_refuse(values: list[float], known: list[bool], message: str) -> None:
    with pytest.raises(RasterError, match=message):
        tile_statistics(values, known)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "kind is None, wanted one of"),
        ({"kind": "log"}, "kind is 'log'"),
        ({"kind": "tile", "floor": 1}, "unknown key floor; known are relative_floor"),
        ({"kind": "tile", "relative_floor": -1}, "relative_floor is -1"),
        ({"kind": "tile", "relative_floor": "0"}, "relative_floor is '0'"),
        ({"kind": "range", "low": 1, "high": 1}, "range is 1..1"),
        ({"kind": "range", "low": None}, "range is None"),
    ],
)
def test_stored_scaling_refuses(values: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        scaling_from_dict(values)


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_affine_refuses(offset: float, scale: float) -> None:
    with pytest.raises(ModelError, match="wanted finite numbers and a scale above 0"):
        Affine(offset, scale)
