"""EM over dates against the truth that they were drawn from."""

import numpy as np
import pytest
from scipy import ndimage

from lacunar.interpolate.archive_field import DateModel, completed, pull_push


def field(rng, width):
    smooth = ndimage.gaussian_filter(rng.normal(size=(96, 96)), width, mode="wrap")
    return smooth / smooth.std()


@pytest.fixture(scope="module")
def scene():
    """A target with a gap, and six dates of the same land, each with clouds of its own."""
    rng = np.random.default_rng(7)
    land, fine = 3 * field(rng, 6), 1.5 * field(rng, 1)
    dates = [300 + gain * (land + fine) + 0.8 * field(rng, 4) for gain in (1, 0.5, 0.8, 1.2, 0.9, 1.1, 0.7)]
    gap = field(rng, 7) > 0.8
    others = np.stack([np.where(field(rng, 7) > 0.7, np.nan, date) for date in dates[1:]])
    return dates[0], ~gap, gap, others


def test_em_finds_mean_and_covariance_of_incomplete_dates():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4))
    dates = mixing @ rng.normal(size=(4, 20_000)) + np.arange(4)[:, None]
    found = DateModel.estimated(np.where(rng.random(dates.shape) < 0.3, np.nan, dates))
    truth = mixing @ mixing.T
    assert abs(found.covariance - truth).max() < 0.15 * truth.max()
    assert abs(found.mean - np.arange(4)).max() < 0.15 * np.sqrt(truth.max())


def test_the_expectation_is_gaussian_conditioning():
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(3, 3))
    model = DateModel(np.array([1.0, 2.0, 3.0]), mixing @ mixing.T)
    dates = np.array([[9.0, 9.0, 9.0], [2.5, np.nan, np.nan], [np.nan, np.nan, 1.0]])
    c = model.covariance
    expected = [1 + c[0, 1] / c[1, 1] * 0.5, 1.0, 1 + c[0, 2] / c[2, 2] * -2]
    np.testing.assert_allclose(model.expectation(dates, 0), expected)


def test_pull_push_keeps_what_is_known_and_reproduces_a_constant():
    rng = np.random.default_rng(2)
    known = rng.random((13, 21)) < 0.2
    values = np.where(known, rng.normal(size=(13, 21)), 99.0)
    filled = pull_push(values, known)
    np.testing.assert_array_equal(filled[known], values[known])
    assert filled.min() >= values[known].min()
    assert filled.max() <= values[known].max()
    np.testing.assert_allclose(pull_push(np.where(known, 5.0, np.nan_to_num(np.nan)), known), 5.0)
    assert (pull_push(values, np.zeros_like(known)) == 0).all()


def test_a_completed_archive_keeps_what_was_measured(scene):
    target, known, _, others = scene
    dates = np.concatenate([np.where(known, target, np.nan)[None], others])
    full = completed(dates, DateModel.estimated(dates.reshape(len(dates), -1)))
    assert np.isfinite(full[1:]).all()
    seen = np.isfinite(others)
    np.testing.assert_array_equal(full[1:][seen], others[seen])
