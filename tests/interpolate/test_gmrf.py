"""The Markov field against dense linear algebra on small grids."""

import numpy as np
import pytest

from lacunar.interpolate.gmrf import MarkovField, _ridged

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
    rng = np.random.default_rng(4)
    missing = rng.random((7, 9)) < 0.4
    outside = np.zeros((7, 9), dtype=bool)
    outside[2:4, 5:] = True
    known = ~missing & ~outside
    missing &= ~outside
    inside = known | missing
    return known, missing, dense(inside), rng.normal(size=(7, 9)), rng.normal(size=(2, 7, 9))


def field_of(known, missing):
    return MarkovField(known, missing, correlation_range=RANGE, smoothness=SMOOTHNESS)


def parts(known, missing, precision):
    """Positions of known and missing pixels among those inside, and the covariance."""
    inside = known | missing
    return np.flatnonzero(known[inside]), np.flatnonzero(missing[inside]), np.linalg.inv(precision)


def test_the_mean_is_the_conditional_expectation(case):
    known, missing, precision, values, _ = case
    k, m, covariance = parts(known, missing, precision)
    centre = values[known].mean()
    expected = centre + covariance[np.ix_(m, k)] @ np.linalg.solve(covariance[np.ix_(k, k)], values[known] - centre)
    fit = field_of(known, missing).fit(values)
    np.testing.assert_allclose(fit.mean[missing], expected, rtol=1e-9)
    np.testing.assert_array_equal(fit.mean[known], values[known])
    assert np.isnan(fit.mean[~(known | missing)]).all()
    scale = (values[known] - centre) @ np.linalg.solve(covariance[np.ix_(k, k)], values[known] - centre) / known.sum()
    assert fit.scale == pytest.approx(np.sqrt(scale))


def test_drift_is_generalised_least_squares_with_the_chosen_ridge(case):
    known, missing, precision, values, terms = case
    k, m, covariance = parts(known, missing, precision)
    values = values + 3 * terms[0]
    fit = field_of(known, missing).fit(values, terms)
    centre, design = values[known].mean(), terms[:, known].T
    weights = np.linalg.inv(covariance[np.ix_(k, k)])
    products = np.column_stack([values[known] - centre, design])
    coefficients, _, error = _ridged(products.T @ weights @ products, int(known.sum()), [0, 0])
    np.testing.assert_allclose(fit.covariance, error, rtol=1e-8)
    left = values[known] - centre - design @ coefficients
    expected = centre + terms[:, missing].T @ coefficients + covariance[np.ix_(m, k)] @ weights @ left
    np.testing.assert_allclose(fit.mean[missing], expected, rtol=1e-8)
    assert abs(coefficients[0] - 3) < 1


def test_draws_have_the_conditional_covariance(case):
    known, missing, precision, _, _ = case
    _, m, _ = parts(known, missing, precision)
    expected = np.linalg.inv(precision[np.ix_(m, m)])
    draws = field_of(known, missing).draws(np.random.default_rng(1).normal(size=(4, 20_000, 7, 9)))
    assert abs(draws.T @ draws / len(draws) - expected).max() < 0.06 * expected.max()
    assert abs(draws.mean(axis=0)).max() < 0.05 * np.sqrt(expected.max())


def test_sigma_is_that_of_mean_and_drift_together(case):
    known, missing, precision, values, terms = case
    _, m, _ = parts(known, missing, precision)
    field = field_of(known, missing)
    fit = field.fit(values, terms)
    exact = np.diag(np.linalg.inv(precision[np.ix_(m, m)]))
    exact = exact + np.einsum("pi,pq,qi->i", fit.residual, fit.covariance, fit.residual)
    found = field.sigma(fit, field.draws(np.random.default_rng(2).normal(size=(4, 20_000, 7, 9))))
    np.testing.assert_allclose(found, fit.scale * np.sqrt(exact), rtol=0.03)


def test_nothing_missing_and_a_constant():
    known, missing = np.ones((4, 5), dtype=bool), np.zeros((4, 5), dtype=bool)
    field = MarkovField(known, missing)
    fit = field.fit(np.full((4, 5), 300.0))
    np.testing.assert_array_equal(fit.mean, 300.0)
    assert field.draws(np.ones((4, 3, 4, 5))).shape == (3, 0)
    missing[1, 1] = True
    fit = MarkovField(~missing, missing).fit(np.full((4, 5), 300.0))
    assert fit.mean[1, 1] == 300.0
    assert fit.scale > 0
