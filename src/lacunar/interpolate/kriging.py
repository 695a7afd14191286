"""Kriging: what a Gaussian random field says about missing pixels, and how sure it is.

The covariance is chosen by its likelihood on the known pixels. They leave it in doubt, so the fields of the likeliest
covariances are averaged (Bayesian model averaging; Hoeting et al. 1999). *Drift terms* are fields that are known where
values are missing, made from guides (`lacunar.interpolate.external_drift`): the value is a linear combination of them
plus the random field, all estimated together (kriging with external drift; Wackernagel 2003, chapter 38).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, ndimage

from lacunar.errors import LacunarError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.intp]

LENGTHS = (4.0, 8.0, 16.0, 32.0, 64.0)  # candidate correlation lengths, pixels
SMOOTHINGS = (0.0, 1.0, 2.0, 4.0)  # candidate smoothings of the origin, pixels: TIRS is 100 m resampled to 30 m
NUGGETS = (1e-4, 1e-3, 2e-2)  # candidate shares of uncorrelated variance
MEAN_VARIANCE = 10.0  # variance of the unknown mean in units of the sill: ordinary kriging as a limit of simple kriging
SIDE = 64  # of the smallest array whose clusters lie as far apart as the wanted number asks
RIM = 1.5  # known pixels within this distance of a missing one all enter the kriging system (screening effect)
NEAR = 16.0  # pixels from what is to be filled within which the whole rim enters
FAR_THIN = 2  # beyond, the rim's pixels on a grid of this spacing
THIN = 6  # away from the rim, known pixels on a grid of this spacing
SURE = 150  # known pixels, about, on which all candidates are compared
SURER = 450  # and on which the likeliest `SHORTLIST` are compared again
SHORTLIST = 16
AVERAGED = 4  # covariances whose fields are averaged
TEMPERATURE = 6.0  # divides log-likelihoods before they weigh: clusters of pixels are not independent
HIDDEN_VARIANCES = (1.0, 10.0)  # candidate variances, in sills, of what hidden guides would have told
HIDDEN_LENGTH = 16.0  # its correlation length, pixels
HIDDEN_MARGIN = 6.0  # log-likelihood that it must gain to be believed
DRIFT_VARIANCE = 10.0  # prior variance of a drift term's coefficient in units of the sill: nearly flat


@dataclass(frozen=True)
class Covariance:
    r"""A smoothed exponential covariance of an isotropic field on a pixel grid.

    ``C(d) = variance * ((1 - nugget) * exp((a - sqrt(d^2 + a^2)) / length) + nugget * [d = 0])`` with
    ``a = smoothing``. For a = 0 it is the exponential covariance of classical kriging; a > 0 rounds its origin off,
    as a sensor's footprint does. It is positive definite in the plane: a completely monotone function of d^2
    (Schoenberg 1938).
    """

    length: float  # pixels
    smoothing: float = 0.0  # pixels
    variance: float = 1.0  # the sill, in units of the values squared
    nugget: float = NUGGETS[0]  # share of the variance without spatial correlation
    hidden: float = 0.0  # variance, in sills, of what a guide would have told where it is hidden (`HIDDEN_LENGTH`)

    def table(self, extent: tuple[int, int]) -> FloatArray:
        """Covariance in sills for every lag (rows, cols) in the extent, plus that of the unknown mean."""
        squared = np.arange(extent[0])[:, None] ** 2.0 + np.arange(extent[1])[None, :] ** 2.0
        decay = np.exp((self.smoothing - np.sqrt(squared + self.smoothing**2)) / self.length)
        return (1 - self.nugget) * decay + MEAN_VARIANCE


def fit_covariance(
    values: NDArray[np.floating],
    known: BoolArray,
    *,
    smoothings: tuple[float, ...] = SMOOTHINGS,
    terms: FloatArray | None = None,
) -> Covariance:
    """The covariance of a grid of candidates that is likeliest on a subsample of the known pixels (H, W).

    The subsample is a lattice of 3 x 3 clusters, which has short and long lags. The variance is profiled out (Rasmussen
    & Williams 2006, section 5.4.1). All candidates are compared on about `SURE` pixels, the likeliest again on about
    `SURER`. With fewer than three known pixels it is the variance of these and the shortest length. ``smoothings`` are
    candidates too: ``(0.0,)`` leaves the classical exponential covariance. With drift ``terms`` (P, H, W), finite
    everywhere, the covariance is that of what they leave unexplained.
    """
    return _likeliest(values, known, smoothings, terms, None)[0][1]


def _likeliest(
    values: NDArray[np.floating],
    known: BoolArray,
    smoothings: tuple[float, ...],
    terms: FloatArray | None,
    hidden: BoolArray | None,
) -> list[tuple[float, Covariance]]:
    """Log-likelihoods and covariances of the shortlist, the likeliest first, with the best `hidden` variance."""
    found = _ranked(values, known, smoothings, terms, hidden, 0.0)
    if hidden is not None and (hidden & known).any():
        others = [_ranked(values, known, smoothings, terms, hidden, variance) for variance in HIDDEN_VARIANCES]
        best = max(others, key=lambda ranking: ranking[0][0])
        found = best if best[0][0] > found[0][0] + HIDDEN_MARGIN else found
    return found


def _ranked(
    values: NDArray[np.floating],
    known: BoolArray,
    smoothings: tuple[float, ...],
    terms: FloatArray | None,
    hidden: BoolArray | None,
    veil: float,
) -> list[tuple[float, Covariance]]:
    """The shortlist for one variance of what hidden guides would have told."""

    def ranked(wanted: int, candidates: Iterable[Covariance]) -> list[tuple[float, Covariance]]:
        points = _cluster_points(known, wanted)
        observed = values[points[:, 0], points[:, 1]].astype(np.float64)
        if observed.size < 3 or np.ptp(observed) == 0:
            return []
        observed -= observed.mean()
        drift = _drift_covariance(terms, points, points) + veil * _hidden_covariance(hidden, points, points)
        lags = _lags(points, points, known.shape[1])
        scored = (_profile_likelihood(each, lags, observed, known.shape, drift) for each in candidates)
        return sorted(scored, key=lambda pair: -pair[0])

    grid = product(LENGTHS, smoothings, NUGGETS)
    first = ranked(SURE, (Covariance(length, smoothing, 1.0, nugget, veil) for length, smoothing, nugget in grid))
    found = ranked(SURER, (each for _, each in first[:SHORTLIST]))
    if not found:
        variance = float(np.var(values[known], dtype=np.float64)) if known.any() else 1.0
        return [(0.0, Covariance(length=LENGTHS[0], variance=max(variance, np.finfo(float).tiny)))]
    return found


def krige(
    values: NDArray[np.floating],
    known: BoolArray,
    *,
    covariance: Covariance | None = None,
    targets: BoolArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Ordinary kriging of the missing pixels: mean and standard deviation, (H, W) float64 in the units of ``values``.

    Known pixels keep their value, with standard deviation 0. Those within `RIM` of a missing one enter the system,
    those beyond on a grid of spacing `THIN`: by the screening effect the others change next to nothing, and the cost is
    the cube of the number that enters. Without a ``covariance`` the `AVERAGED` likeliest are averaged. ``targets`` (H,
    W) are the pixels to be filled, by default all; the others get 0 and 0. Raises `LacunarError`: no known pixel.

    Cressie (1993), "Statistics for Spatial Data", section 3.2; Rasmussen & Williams (2006), eqs. 2.25, 2.26 and 2.41.
    """
    kriged = krige_with_drift(values, known, None, covariance=covariance, targets=targets)
    return kriged.mean, kriged.std


@dataclass(frozen=True, eq=False)
class Kriged:
    """A kriged field: mean and standard deviation (H, W), coefficients (P,) of the drift terms, sill."""

    mean: FloatArray
    std: FloatArray
    coefficients: FloatArray
    sill: float
    veiled: bool = False  # std already includes what hidden guides would have told


def krige_with_drift(
    values: NDArray[np.floating],
    known: BoolArray,
    terms: FloatArray | None,
    *,
    hidden: BoolArray | None = None,
    covariance: Covariance | None = None,
    targets: BoolArray | None = None,
) -> Kriged:
    """Kriging with external drift: a linear combination of ``terms`` plus a random field; otherwise as `krige`.

    ``terms`` (P, H, W) are of about unit size and finite everywhere; None or P = 0 is ordinary kriging. ``hidden``
    (Q, H, W) is True where a guide behind them is unknown. The coefficients have the prior variance `DRIFT_VARIANCE`:
    drift and random field are estimated in one system, and the standard deviation includes the doubt about them.

    Wackernagel (2003), "Multivariate Geostatistics", chapter 38; Rasmussen & Williams (2006), section 2.7.
    """
    require_known(values, known)
    terms = None if terms is None or not len(terms) else terms
    if covariance is not None:
        return _solved(values, known, terms, hidden, covariance, _System.of(known, targets))
    found = _likeliest(values, known, SMOOTHINGS, terms, hidden)[:AVERAGED]
    scores = np.array([likelihood for likelihood, _ in found])
    weights = np.exp((scores - scores[0]) / TEMPERATURE)
    weights /= weights.sum()
    system = _System.of(known, targets)
    parts = [_solved(values, known, terms, hidden, each, system) for _, each in found]
    mean = np.einsum("k,kij->ij", weights, [part.mean for part in parts])
    mean = np.where(known, parts[0].mean, mean)
    second = [part.std**2 + (part.mean - mean) ** 2 for part in parts]
    std = np.where(known, 0.0, np.sqrt(np.einsum("k,kij->ij", weights, second)))
    coefficients = weights @ np.stack([part.coefficients for part in parts])
    sill = float(weights @ [part.sill for part in parts])
    return Kriged(mean, std, coefficients, sill, veiled=parts[0].veiled)


@dataclass(frozen=True)
class _System:
    """What is kriged from what, whatever the covariance: missing and chosen known pixels, and lags between them."""

    missing: BoolArray
    chosen: BoolArray
    among: IndexArray
    across: IndexArray

    @classmethod
    def of(cls, known: BoolArray, targets: BoolArray | None) -> "_System":
        """The unknown pixels among the targets from the known ones around."""
        missing = ~known if targets is None else targets & ~known
        chosen = _sources(known, missing)
        sources, wanted, width = np.argwhere(chosen), np.argwhere(missing), known.shape[1]
        return cls(missing, chosen, _lags(sources, sources, width), _lags(sources, wanted, width))


def _solved(
    values: NDArray[np.floating],
    known: BoolArray,
    terms: FloatArray | None,
    hidden: BoolArray | None,
    covariance: Covariance,
    system: _System,
) -> Kriged:
    """Kriging with external drift for one covariance."""
    missing, chosen = system.missing, system.chosen
    mean, std = np.where(known, values, 0.0).astype(np.float64), np.zeros(known.shape)
    count = 0 if terms is None else len(terms)
    if not missing.any() and terms is None:
        return Kriged(mean, std, np.zeros(0), covariance.variance)
    sources, wanted = np.argwhere(chosen), np.argwhere(missing)
    centre = mean[chosen].mean()
    table = covariance.table((known.shape[0], known.shape[1]))
    added = _drift_covariance(terms, sources, sources)
    if covariance.hidden:
        added = added + covariance.hidden * _hidden_covariance(hidden, sources, sources)
    factor = _cholesky(table, system.among, covariance.nugget, added)
    white = linalg.solve_triangular(factor, mean[chosen] - centre, lower=True, check_finite=False)
    coefficients = np.zeros(count)
    if terms is not None:
        weighed = linalg.solve_triangular(factor, white, lower=True, trans=1, check_finite=False)
        coefficients = DRIFT_VARIANCE * terms[:, chosen] @ weighed
    # Single precision halves the cost of the largest step; its error stays below a thousandth of the sill.
    cross = table.astype(np.float32).ravel()[system.across]
    if terms is not None:
        cross += np.asarray(_drift_covariance(terms, sources, wanted), dtype=np.float32)
    if covariance.hidden:
        cross += np.asarray(covariance.hidden * _hidden_covariance(hidden, sources, wanted), dtype=np.float32)
    single = factor.astype(np.float32)
    weights = linalg.solve_triangular(single, cross, lower=True, check_finite=False, overwrite_b=True)
    mean[missing] = weights.T @ white + centre
    prior = table[0, 0] + covariance.nugget
    if terms is not None:
        prior = prior + DRIFT_VARIANCE * np.square(terms[:, missing]).sum(axis=0)
    if covariance.hidden and hidden is not None:
        prior = prior + covariance.hidden * hidden[:, missing].sum(axis=0)
    left = prior - np.einsum("ij,ij->j", weights, weights, dtype=np.float64)
    std[missing] = np.sqrt(covariance.variance * np.maximum(left, max(covariance.nugget, NUGGETS[0])))
    return Kriged(mean, std, coefficients, covariance.variance, veiled=covariance.hidden > 0)


def _sources(known: BoolArray, missing: BoolArray) -> BoolArray:
    """Known pixels that enter the system: the rim of what is unknown, thinned far from targets, and a coarse grid."""
    rows, cols = np.indices(known.shape)
    rim = ndimage.distance_transform_edt(known) <= RIM
    near = ndimage.distance_transform_edt(~missing) <= NEAR if missing.any() else np.zeros_like(known)
    thinned = [(rows % step == 0) & (cols % step == 0) for step in (FAR_THIN, THIN)]
    chosen: BoolArray = known & ((rim & (near | thinned[0])) | thinned[1])
    return chosen if chosen.any() else known


def require_known(values: NDArray[np.floating], known: BoolArray) -> None:
    """Refuse shapes that differ, a ``known`` that is not boolean, and fields without any known pixel."""
    if values.shape != known.shape or values.ndim != 2:
        raise LacunarError(f"values {values.shape} and known {known.shape} must be one (H, W) shape")
    if known.dtype != np.bool_:  # ~ of a whole number is no mask
        raise LacunarError(f"known is {known.dtype}, wanted bool, True = measured: compare it with 0 first")
    if not known.any():
        raise LacunarError("no pixel is known: at least one is wanted")


def _cluster_points(known: BoolArray, wanted: int) -> IndexArray:
    """Known pixels on a lattice of 3 x 3 clusters: about as many as wanted if all are known, fewer in small arrays."""
    period = max(3, round(3 * np.sqrt(max(known.size, SIDE**2) / wanted)))
    rows, cols = np.indices(known.shape)
    return np.argwhere(known & (rows % period < 3) & (cols % period < 3))


def _profile_likelihood(
    covariance: Covariance, lags: IndexArray, observed: FloatArray, extent: tuple[int, ...], drift: FloatArray | float
) -> tuple[float, Covariance]:
    """Log-likelihood at the best variance, up to a constant, and the covariance with that variance."""
    factor = _cholesky(covariance.table((extent[0], extent[1])), lags, covariance.nugget, drift)
    white = linalg.solve_triangular(factor, observed, lower=True, check_finite=False)
    variance = float(white @ white) / observed.size
    likelihood = -0.5 * observed.size * np.log(variance) - float(np.log(np.diag(factor)).sum())
    return likelihood, replace(covariance, variance=variance)


def _lags(a: IndexArray, b: IndexArray, width: int) -> IndexArray:
    """Places (n, m) in a flat table of so many columns of the lags between pixel lists a (n, 2) and b (m, 2)."""
    lags: IndexArray = np.abs(a[:, None, 0] - b[None, :, 0]) * width
    lags += np.abs(a[:, None, 1] - b[None, :, 1])
    return lags


def _drift_covariance(terms: FloatArray | None, a: IndexArray, b: IndexArray) -> FloatArray | float:
    """Covariance between two pixel lists that comes from the unknown coefficients of the drift terms."""
    if terms is None:
        return 0.0
    return np.asarray(DRIFT_VARIANCE * terms[:, a[:, 0], a[:, 1]].T @ terms[:, b[:, 0], b[:, 1]])


def _hidden_covariance(hidden: BoolArray | None, a: IndexArray, b: IndexArray) -> FloatArray | float:
    """Covariance, for variance 1, between two pixel lists of what hidden guides would have told."""
    if hidden is None or not hidden.any():
        return 0.0
    rows, cols = (np.arange(length) ** 2.0 for length in hidden.shape[1:])
    table = np.exp(-np.sqrt(rows[:, None] + cols[None, :]) / HIDDEN_LENGTH)
    both = hidden[:, a[:, 0], a[:, 1]].astype(np.float64).T @ hidden[:, b[:, 0], b[:, 1]].astype(np.float64)
    return np.asarray(both * table.ravel()[_lags(a, b, table.shape[1])])


def _cholesky(table: FloatArray, lags: IndexArray, nugget: float, drift: FloatArray | float) -> FloatArray:
    """Lower Cholesky factor of the covariance among points with these lags."""
    matrix = table.ravel()[lags] + drift
    matrix[np.diag_indices_from(matrix)] += nugget
    return np.linalg.cholesky(matrix).astype(np.float64, copy=False)  # scipy's lets no other thread run
