"""Gaussian fields of known covariance on a grid of pixels, and kriging as dense linear algebra over all of them."""

import numpy as np
from scipy import spatial

from lacunar.geo.missing_shapes import gap_pattern
from lacunar.interpolate.kriging import Covariance

SIDE = 24
PIXELS = np.argwhere(np.ones((SIDE, SIDE), bool))
VARIANCE = 4.0
MEAN = 300.0

CLASSICAL = [Covariance(4.0, 0.0, VARIANCE, 1e-4), Covariance(16.0, 0.0, VARIANCE, 1e-3)]
NOISY = [Covariance(64.0, 0.0, VARIANCE, 2e-2), Covariance(16.0, 2.0, VARIANCE, 2e-2)]
SMOOTH = [Covariance(16.0, 1.0, VARIANCE, 1e-3), Covariance(4.0, 2.0, VARIANCE, 1e-3)]


def covariances(c: Covariance, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The covariance of the docstring between two lists of points, in units of the sill."""
    d = spatial.distance.cdist(a, b)
    return (1 - c.nugget) * np.exp((c.smoothing - np.sqrt(d**2 + c.smoothing**2)) / c.length) + c.nugget * (d == 0)


def gaussian_process(c: Covariance, values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation in the gap from ALL known pixels, with an unknown mean: the ordinary kriging system.

    Cressie 1993, eqs. 3.2.12 to 3.2.16: covariances bordered by the Lagrange multiplier of unbiasedness.
    """
    sources, targets = np.argwhere(known), np.argwhere(~known)
    n = len(sources)
    system = np.ones((n + 1, n + 1))
    system[:n, :n], system[n, n] = covariances(c, sources, sources), 0.0
    right = np.vstack([covariances(c, sources, targets), np.ones(len(targets))])
    solution = np.linalg.solve(system, right)
    mean = solution[:n].T @ values[known]
    return mean, np.sqrt(c.variance * (1 - (solution * right).sum(axis=0)))


def universal_kriging(
    c: Covariance, values: np.ndarray, known: np.ndarray, terms: np.ndarray, prior: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean and deviation in the gap, then coefficients of the terms (P, H, W) and their deviation, from ALL pixels.

    A Gaussian process with a linear mean function (Rasmussen & Williams 2006, eqs. 2.40 to 2.42): the coefficients are
    N(0, prior * sill), that of the constant is wholly unknown.
    """
    sources, targets = np.argwhere(known), np.argwhere(~known)
    basis = np.concatenate([np.ones((1, *known.shape)), terms])
    at_sources, at_targets = basis[:, known], basis[:, ~known]
    inverse, across = np.linalg.inv(covariances(c, sources, sources)), covariances(c, sources, targets)
    precision = at_sources @ inverse @ at_sources.T + np.diag([0.0] + [1 / prior] * len(terms))
    beta = np.linalg.solve(precision, at_sources @ inverse @ values[known])
    rest = at_targets - at_sources @ inverse @ across
    mean = across.T @ inverse @ values[known] + rest.T @ beta
    variance = 1 - np.einsum("ij,ij->j", across, inverse @ across)
    variance += np.einsum("ij,ij->j", rest, np.linalg.solve(precision, rest))
    doubt = np.sqrt(c.variance * np.diag(np.linalg.inv(precision)))
    return mean, np.sqrt(c.variance * variance), beta[1:], doubt[1:]


def draws(c: Covariance, count: int, seed: int = 0) -> np.ndarray:
    """Fields (count, SIDE, SIDE) of this covariance around MEAN."""
    factor = np.linalg.cholesky(covariances(c, PIXELS, PIXELS))
    white = np.random.default_rng(seed).standard_normal((len(PIXELS), count))
    return MEAN + np.sqrt(c.variance) * (factor @ white).T.reshape(count, SIDE, SIDE)


def large_draw(c: Covariance, side: int, seed: int, *, torus: int = 512) -> np.ndarray:
    """A field too large for a dense factor: a crop of one on a torus, by the Fourier transform of its covariance."""
    lag = np.minimum(np.arange(torus), torus - np.arange(torus)).astype(float)
    d = np.hypot(lag[:, None], lag[None, :])
    table = (1 - c.nugget) * np.exp((c.smoothing - np.sqrt(d**2 + c.smoothing**2)) / c.length) + c.nugget * (d == 0)
    power = np.maximum(np.fft.fft2(table).real, 0)
    white = np.random.default_rng(seed).standard_normal((torus, torus))
    field = np.fft.ifft2(np.sqrt(power) * np.fft.fft2(white)).real
    return MEAN + np.sqrt(c.variance) * field[:side, :side]


def blob(rate: float = 0.3, seed: int = 0, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Known pixels around blobs."""
    return ~gap_pattern("blobs", shape, rate, rng=np.random.default_rng(seed))


def hole(shape: tuple[int, int] = (30, 34)) -> np.ndarray:
    """Known pixels around one gap that is not convex and keeps four pixels from the border."""
    known = np.ones(shape, bool)
    known[6:20, 5:12] = known[14:24, 5:28] = False
    return known


def fields(count: int = 1, shape: tuple[int, int] = (30, 34)) -> np.ndarray:
    """Rough fields in kelvin."""
    return np.random.default_rng(7).normal(300, 5, size=(count, *shape)).squeeze()
