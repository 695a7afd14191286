"""Bootstrap intervals against what is known of means."""

import math

import numpy as np

from lacunar.evaluate.bootstrap import interval_95, resampling_weights


def test_every_row_draws_as_many_units_and_the_first_takes_each_once():
    weights = resampling_weights(7, seed=3)
    assert weights.shape == (2001, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert (weights[0] == 1).all()
    np.testing.assert_allclose(weights[1:].mean(axis=0), 1.0, atol=0.1)


def test_the_same_seed_draws_the_same_units():
    np.testing.assert_array_equal(resampling_weights(5, seed=1), resampling_weights(5, seed=1))
    assert (resampling_weights(5, seed=1) != resampling_weights(5, seed=2)).any()


def test_the_interval_of_a_mean_is_that_of_the_central_limit_theorem():
    values = np.random.default_rng(0).normal(3, 2, 200)
    weights = resampling_weights(values.size, seed=0)
    low, high = interval_95(weights @ values / values.size, units=values.size)
    half = 1.959964 * values.std() / math.sqrt(values.size)
    np.testing.assert_allclose([low, high], [values.mean() - half, values.mean() + half], atol=0.05)


def test_the_sample_itself_is_left_out():
    assert interval_95(np.array([100.0, 1.0, 1.0, 1.0]), units=3) == (1.0, 1.0)


def test_one_unit_or_an_unknown_resample_has_no_interval():
    assert all(map(math.isnan, interval_95(np.array([1.0, 1.0]), units=1)))
    assert all(map(math.isnan, interval_95(np.array([1.0, 1.0, math.nan]), units=2)))
