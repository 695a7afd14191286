"""Scores of forecasts with doubt, against numerical integration, double sums and closed forms."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from lacunar.errors import LacunarError
from lacunar.evaluate.probabilistic import LEVELS, crps_ensemble, crps_gaussian, pit, within_central


@pytest.fixture
def rng():
    return np.random.default_rng(11)


# --- a normal distribution ---


@pytest.mark.parametrize(
    ("mean", "sigma", "truth"), [(0.0, 1.0, 0.0), (2.0, 0.5, 3.1), (-1.0, 4.0, -9.0), (300.0, 2.0, 301.0)]
)
def test_crps_of_a_gaussian_is_the_integral_of_its_definition(mean, sigma, truth):
    normal = stats.norm(mean, sigma)
    below, _ = integrate.quad(lambda x: normal.cdf(x) ** 2, mean - 12 * sigma, truth)
    above, _ = integrate.quad(lambda x: (1 - normal.cdf(x)) ** 2, truth, mean + 12 * sigma)
    assert crps_gaussian(mean, sigma, truth) == pytest.approx(below + above, rel=1e-6)


def test_crps_of_a_gaussian_is_that_of_many_samples(rng):
    samples = rng.normal(1.0, 2.0, (4000, 3))
    truth = np.array([0.0, 1.5, 8.0])
    np.testing.assert_allclose(
        crps_gaussian(np.ones(3), np.full(3, 2.0), truth), crps_ensemble(samples, truth), atol=0.08
    )


def test_who_claims_no_doubt_scores_his_absolute_error():
    assert crps_gaussian([1.0, 5.0], [0.0, 1e-9], [4.0, 3.0]) == pytest.approx([3.0, 2.0])


def test_the_honest_sigma_scores_best(rng):
    truth = rng.normal(0, 2.0, 50_000)
    claims = [0.5, 1.0, 1.6, 2.0, 2.5, 4.0]
    scores = [crps_gaussian(np.zeros(truth.size), np.full(truth.size, claim), truth).mean() for claim in claims]
    assert claims[int(np.argmin(scores))] == 2.0


# --- samples ---


def test_crps_equals_its_double_sum(rng):
    samples, truth = rng.normal(size=(7, 5, 6)), rng.normal(size=(5, 6))
    pairs = np.abs(samples[:, None] - samples[None]).sum(axis=(0, 1)) / (2 * 7 * 6)
    wanted = np.abs(samples - truth).mean(axis=0) - pairs
    np.testing.assert_allclose(crps_ensemble(samples, truth), wanted)


def test_fair_crps_has_the_gaussian_closed_form_as_its_expectation(rng):
    # E over x, y ~ N(0, 1): E|x - y| - E|x - x'| / 2 = 1 / sqrt(pi), whatever the number of samples
    truth = rng.normal(size=100_000)
    for count in (2, 5):
        samples = rng.normal(size=(count, truth.size))
        assert crps_ensemble(samples, truth).mean() == pytest.approx(1 / math.sqrt(math.pi), abs=0.006)


def test_opposite_samples_are_not_taken_for_independent(rng):
    truth = rng.normal(size=100_000)
    half = rng.normal(size=(3, truth.size))
    samples = np.concatenate([half, -half])
    fair = crps_ensemble(samples, truth, antithetic=True).mean()
    assert fair == pytest.approx(1 / math.sqrt(math.pi), abs=0.006)
    assert crps_ensemble(samples, truth).mean() < fair - 0.02  # flattered by pairs that lie too far apart


# --- coverage ---


def test_pit_of_an_honest_forecast_is_uniform(rng):
    mean, sigma = rng.normal(300, 5, 40_000), rng.uniform(0.5, 3, 40_000)
    shares = pit(mean, sigma, rng.normal(mean, sigma))
    assert stats.kstest(shares, "uniform").pvalue > 0.01
    np.testing.assert_allclose(within_central(shares) / shares.size, LEVELS, atol=0.01)


def test_pit_without_doubt_is_all_or_nothing():
    assert pit([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.5, 1.0, 1.5]).tolist() == [0.0, 0.5, 1.0]


def test_central_intervals_count_from_the_middle():
    shares = np.array([0.5, 0.4, 0.7, 0.01, 1.0])
    assert within_central(shares, [0.0, 0.2, 0.39, 0.41, 0.98, 1.0]).tolist() == [1, 2, 2, 3, 4, 5]


# --- refusals ---


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(LacunarError, match=r"of \(2,\), \(2,\) and \(3,\); wanted one shape"):
        crps_gaussian([0.0, 0.0], [1.0, 1.0], [0.0, 0.0, 0.0])
    with pytest.raises(LacunarError, match="got a sigma of -1"):
        pit([0.0], [-1.0], [0.0])
    with pytest.raises(LacunarError, match="1 values that are NaN"):
        crps_gaussian([0.0], [math.nan], [0.0])
    with pytest.raises(LacunarError, match="K >= 2"):
        crps_ensemble(np.zeros((1, 4)), np.zeros(4))
    with pytest.raises(LacunarError, match="K >= 4, even"):
        crps_ensemble(np.zeros((5, 4)), np.zeros(4), antithetic=True)
    with pytest.raises(LacunarError, match=r"samples \(3, 5\) for a truth of \(4,\)"):
        crps_ensemble(np.zeros((3, 5)), np.zeros(4))
    with pytest.raises(LacunarError, match="NaN"):
        crps_ensemble(np.full((3, 4), np.nan), np.zeros(4))
