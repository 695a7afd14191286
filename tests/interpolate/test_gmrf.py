"""The Markov field against dense linear algebra on small grids."""

import numpy as np
import pytest

from lacunar.interpolate import gmrf
from lacunar.interpolate.gmrf import MarkovField, pixel_noise

RANGE, SMOOTHNESS = 5.0, 1.5


def dense(inside):
    """Q of the pixels inside, from its definition."""
    pixels = np.argwhere(inside)
    neighbours = np.abs(pixels[:, None] - pixels[None]).sum(axis=2) == 1
    laplacian = np.diag(neighbours.sum(axis=1)) - neighbours.astype(float)
    identity = np.eye(len(pixels))
    return (identity / RANGE**2 + laplacian) @ (identity + SMOOTHNESS * laplacian)


@pytest.fixture
def case():
    """Known and missing pixels beside some outside the footprint, Q, and three fields."""
    rng = np.random.default_rng(4)
    missing = rng.random((9, 11)) < 0.4
    outside = np.zeros((9, 11), dtype=bool)
    outside[2:4, 5:] = True
    known = ~missing & ~outside
    missing &= ~outside
    return known, missing, dense(known | missing), rng.normal(size=(3, 9, 11))


def field_of(known, missing):
    return MarkovField(known, missing, correlation_range=RANGE, smoothness=SMOOTHNESS)


def parts(known, missing, precision):
    """Positions of known and missing pixels among those inside, and the covariance."""
    inside = known | missing
    return np.flatnonzero(known[inside]), np.flatnonzero(missing[inside]), np.linalg.inv(precision)


def disc(side, radius):
    rows, cols = np.indices((side, side))
    return np.hypot(rows - side / 2, cols - side / 2 + 3) < radius


def test_the_completion_is_the_conditional_expectation(case):
    known, missing, precision, values = case
    k, m, covariance = parts(known, missing, precision)
    expected = values[:, known] @ np.linalg.solve(covariance[np.ix_(k, k)], covariance[np.ix_(k, m)])
    completed = field_of(known, missing).completed(np.where(known, values, np.nan))
    np.testing.assert_allclose(completed[:, missing], expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(completed[:, known], values[:, known])
    assert (completed[:, ~(known | missing)] == 0).all()


def test_products_are_those_of_the_known_pixels_alone(case):
    known, missing, precision, values = case
    k, _, covariance = parts(known, missing, precision)
    field = field_of(known, missing)
    expected = values[:, known] @ np.linalg.solve(covariance[np.ix_(k, k)], values[:, known].T)
    np.testing.assert_allclose(field.products(field.completed(values)), expected, rtol=1e-8)


def test_draws_have_the_conditional_covariance():
    missing = np.random.default_rng(3).random((8, 9)) < 0.4
    known = ~missing
    precision = dense(np.ones_like(known))
    expected = np.linalg.inv(precision[np.ix_(missing.ravel(), missing.ravel())])
    noise = np.random.default_rng(1).normal(size=(20_000, 8, 9))
    values = np.random.default_rng(2).normal(size=(8, 9))
    field = field_of(known, missing)
    completed, draws = field.with_draws(values, noise)
    np.testing.assert_allclose(completed, field.completed(values[None])[0])
    assert (draws[:, known] == 0).all()
    inner = draws[:, missing]
    assert abs(inner.T @ inner / len(inner) - expected).max() < 0.06 * expected.max()
    assert abs(inner.mean(axis=0)).max() < 0.05 * np.sqrt(expected.max())


def test_draws_of_a_texture_are_those_of_a_field_made_so(case):
    known, missing, _, values = case
    field, noise = field_of(known, missing), values[:2]
    texture = field.reshaped(correlation_range=2.0, smoothness=0.2)
    made = MarkovField(known, missing, correlation_range=2.0, smoothness=0.2)
    mean, draws = field.with_draws(values[2], noise, texture=texture)
    own, _ = field.with_draws(values[2], noise)
    _, expected = made.with_draws(values[2], noise)
    np.testing.assert_allclose(mean, own, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(draws, expected, rtol=1e-8, atol=1e-10)
    assert np.abs(draws - field.with_draws(values[2], noise)[1]).max() > 0.1


def test_the_variance_of_few_draws_is_near_the_true_one():
    missing = disc(30, 9)
    precision = dense(np.ones((30, 30), dtype=bool))
    exact = np.diag(np.linalg.inv(precision[np.ix_(missing.ravel(), missing.ravel())]))
    field = field_of(~missing, missing)
    _, draws = field.with_draws(np.zeros((30, 30)), pixel_noise((30, 30), (0, 0), 16, 0))
    found = field.variance(draws)
    assert (found[~missing] == 0).all()
    assert np.sqrt(np.mean(np.log(found[missing] / exact) ** 2)) < 0.3
    assert (field_of(missing | ~missing, missing & ~missing).variance(draws) == 0).all()  # nothing missing


def test_nodes_deep_in_a_gap_change_next_to_nothing(monkeypatch):
    missing = disc(200, 80)
    rows, cols = np.indices(missing.shape)
    values = np.where(missing, 0.0, np.sin(rows / 23) + np.cos(cols / 31) + rows / 100)
    sparse = MarkovField(~missing, missing).completed(values[None])[0]
    monkeypatch.setattr(gmrf, "STRIDES", ())
    full = MarkovField(~missing, missing).completed(values[None])[0]
    assert abs(sparse - full).max() < 0.01 * values.std()


def test_parts_and_threads_change_no_bit(monkeypatch):
    rng = np.random.default_rng(0)
    missing = rng.random((60, 60)) < 0.02
    missing[10:20, 10:20] = True
    values = rng.normal(size=(1, 60, 60))
    field = MarkovField(~missing, missing)
    whole = field.completed(values)
    monkeypatch.setattr(gmrf, "CHUNK", 5)
    assert len(field._parts()) > 3
    np.testing.assert_allclose(field.completed(values), whole, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(field.completed(values, threads=1), field.completed(values, threads=3))


def test_nothing_missing_and_nothing_known():
    known = np.ones((4, 5), dtype=bool)
    fields = np.arange(20.0).reshape(1, 4, 5)
    np.testing.assert_array_equal(MarkovField(known, ~known).completed(fields), fields)
    assert (MarkovField(~known, known).completed(fields) == 0).all()


def test_noise_belongs_to_pixels():
    whole = pixel_noise((150, 170), (60, 30), 3, 5)
    part = pixel_noise((40, 50), (130, 90), 3, 5)
    np.testing.assert_array_equal(part, whole[:, 70:110, 60:110])
    assert abs(whole.mean()) < 0.02
    assert abs(whole.std() - 1) < 0.02
    assert abs(pixel_noise((40, 50), (130, 90), 3, 6) - part).max() > 1
