"""Quantiles of the predictive distribution: of one array, and as bands of the output."""

import numpy as np
import pytest
from scipy import stats

from lacunar.cli.options import levels_of
from lacunar.errors import LacunarError
from lacunar.fill.array import Filled
from lacunar.fill.job import FillOptions

LEVELS = (0.025, 0.2, 0.5, 0.8, 0.975)


def filled(**calibration) -> Filled:
    """Two opposite samples about 300 on one gap pixel beside a known one."""
    samples = np.array([[[301.0, 280.0]], [[299.0, 280.0]]], dtype=np.float32)
    spread = np.array([[2.0, 0.0]], dtype=np.float32)
    return Filled(samples, samples.mean(axis=0), spread, 1, 0, 10, **calibration)


def test_without_a_calibration_quantiles_are_those_of_the_normal_distribution():
    fill = filled()
    for level in LEVELS:
        wanted = stats.norm.ppf(level, loc=300.0, scale=fill.sigma[0, 0])
        assert fill.quantile(level)[0, 0] == pytest.approx(wanted, abs=1e-3)


def test_quantiles_are_the_mean_and_the_card_s_errors_in_units_of_sigma():
    fill = filled(sigma_factor=1.5, error_quantiles={"0.025": -3.0, "0.5": 0.1, "0.975": 2.5})
    sigma = float(fill.sigma[0, 0])
    assert sigma == pytest.approx(1.5 * filled().sigma[0, 0])
    for level, units in ((0.025, -3.0), (0.5, 0.1), (0.975, 2.5)):
        assert fill.quantile(level)[0, 0] == pytest.approx(300.0 + units * sigma, abs=1e-3)
    rising = [float(fill.quantile(level)[0, 0]) for level in (0.001, 0.01, *LEVELS, 0.99, 0.999)]
    assert rising == sorted(rising)
    assert rising[0] < fill.quantile(0.025)[0, 0]
    assert rising[-1] > fill.quantile(0.975)[0, 0]


def test_measured_pixels_keep_their_value_at_every_level():
    assert all(filled().quantile(level)[0, 1] == 280.0 for level in LEVELS)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 2.0])
def test_levels_lie_between_0_and_1(level):
    with pytest.raises(LacunarError, match=f"quantile level {level:g}: wanted a number between 0 and 1"):
        filled().quantile(level)
    with pytest.raises(LacunarError, match="wanted different levels"):
        FillOptions(quantiles=(level,))


def test_one_sample_has_no_quantiles_and_a_level_stands_once():
    with pytest.raises(LacunarError, match="1 sample has no spread"):
        FillOptions(quantiles=(0.5,), samples=1)
    with pytest.raises(LacunarError, match="wanted different levels"):
        FillOptions(quantiles=(0.5, 0.5))


def test_levels_are_read_from_text():
    assert levels_of("") == ()
    assert levels_of("0.05, 0.95") == (0.05, 0.95)
    with pytest.raises(LacunarError, match="wanted numbers between 0 and 1"):
        levels_of("0.05;0.95")
