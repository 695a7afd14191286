"""The Gaussian prior of pictures against the formula of conditional normal distributions, and its fit."""

import numpy as np
import pytest

from lacunar.errors import LacunarError
from lacunar.interpolate.membrane import membrane_fill
from lacunar.interpolate.pca_prior import NOISE_FACTOR, SAMPLE_SHARE, GaussianPrior, background_mean, fit_prior

SHAPE = (6, 5, 2)


@pytest.fixture(scope="module")
def prior():
    rng = np.random.default_rng(0)
    size = int(np.prod(SHAPE))
    components = np.linalg.qr(rng.standard_normal((size, 4)))[0].T.astype(np.float32)
    mean = rng.standard_normal(SHAPE).astype(np.float32)
    return GaussianPrior(mean, components, np.array([9, 4, 2, 1], np.float32), 0.3)


def gap_of(share, seed=1):
    return np.random.default_rng(seed).random(SHAPE[:2]) < share


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_it_is_the_conditional_mean_of_a_normal_distribution(prior, share):
    """E[signal | known] = mean + S (S + noise)^-1 (known - mean), S the covariance that the components give."""
    gap, picture = gap_of(share), np.random.default_rng(2).standard_normal(SHAPE).astype(np.float32)
    known = np.repeat(~gap.ravel(), SHAPE[2])
    signal = (prior.components.T * prior.variances) @ prior.components
    weight = signal[:, known] @ np.linalg.inv(signal[np.ix_(known, known)] + prior.noise * np.eye(known.sum()))
    expected = prior.mean.ravel() + weight @ (picture - prior.mean).ravel()[known]
    hidden = np.where(gap[..., None], np.nan, picture)
    assert np.abs(prior.given(hidden, gap).ravel() - expected).max() < 1e-4
    again = prior.given(hidden, gap, inverse=prior.inverse(gap))
    assert (again == prior.given(hidden, gap)).all()


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_deviations_have_the_conditional_covariance_but_for_the_membrane(prior, share):
    """Cov[signal | known] = S - S (S + noise)^-1 S over the known ones; a membrane brings what is known to 0."""
    gap = gap_of(share)
    known = np.repeat(~gap.ravel(), SHAPE[2])
    signal = (prior.components.T * prior.variances) @ prior.components
    observed = signal[np.ix_(known, known)] + prior.noise * np.eye(known.sum())
    covariance = signal - signal[:, known] @ np.linalg.solve(observed, signal[known])
    units = np.eye(signal.shape[0], dtype=np.float32).reshape(-1, *SHAPE)
    membrane = np.stack([(unit + membrane_fill(-unit, gap)).ravel() for unit in units]).T
    found = prior.deviations(gap, np.eye(4, dtype=np.float32)).reshape(4, -1)
    np.testing.assert_allclose(found.T @ found, SAMPLE_SHARE**2 * membrane @ covariance @ membrane.T, atol=2e-4)
    np.testing.assert_allclose(found[:, known], 0, atol=1e-6)


def test_the_base_keeps_what_is_known_and_looks_at_no_hidden_pixel(prior):
    gap, picture = gap_of(0.3), np.random.default_rng(2).standard_normal(SHAPE).astype(np.float32)
    base = prior.filled(np.where(gap[..., None], 99.0, picture), gap)
    assert np.abs(base - picture)[~gap].max() < 1e-5
    assert (base == prior.filled(picture, gap)).all()


def test_a_picture_of_the_distribution_is_found_again_from_a_part_of_it(prior):
    quiet = GaussianPrior(prior.mean, prior.components, prior.variances, 1e-4)
    truth = prior.mean + (np.array([3, -2, 1, 1], np.float32) @ prior.components).reshape(SHAPE)
    gap = gap_of(0.4)
    assert np.abs(quiet.filled(truth, gap) - truth).max() < 0.01
    assert np.abs(membrane_fill(truth, gap) - truth).max() > 0.3


def test_without_a_prior_of_its_size_a_picture_starts_from_the_membrane(prior):
    picture, gap = np.zeros((8, 8, 2), np.float32), np.zeros((8, 8), dtype=bool)
    gap[2:4, 2:5] = True
    assert (background_mean(prior, picture, gap) == membrane_fill(picture, gap)).all()
    assert (background_mean(None, picture, gap) == membrane_fill(picture, gap)).all()
    with pytest.raises(LacunarError, match="wanted"):
        prior.given(picture, gap)


def test_the_fit_finds_the_principal_components_of_pictures_and_their_mirror_images():
    rng = np.random.default_rng(3)
    pictures = (rng.standard_normal((40, 12)) * np.linspace(3, 0.1, 12) @ rng.standard_normal((12, 60))).reshape(
        40, *SHAPE
    )
    fitted = fit_prior(pictures.astype(np.float32), 5, seed=0)
    both = np.concatenate([pictures, pictures[:, :, ::-1]]).reshape(80, -1)
    values = np.linalg.eigvalsh(np.cov(both.T, bias=True))[::-1]
    assert fitted.variances == pytest.approx(values[:5], rel=1e-3)
    assert fitted.noise == pytest.approx(NOISE_FACTOR * values[5:].sum() / 60, rel=1e-2)
    assert np.abs(fitted.components @ fitted.components.T - np.eye(5)).max() < 1e-5
    assert np.abs(fitted.mean - fitted.mean[:, ::-1]).max() < 1e-5
    with pytest.raises(LacunarError, match="41 components"):
        fit_prior(pictures.astype(np.float32), 41, seed=0)
