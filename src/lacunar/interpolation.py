"""Classical fills of a gap: mean, nearest, linear, inverse distance, Laplace, biharmonic, kriging; numpy and scipy.

They are the baselines that a diffusion model must beat, and kriging is also where it starts: the network diffuses the
residual over the kriged value, in units of its standard deviation. All take ``values`` (H, W) and ``known`` (H, W),
True = measured, and return ``values`` in float64 with the gap filled; what stands in the gap is never read.
"""

from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, linalg, ndimage, sparse, spatial
from scipy.sparse import linalg as sparse_linalg

from lacunar.errors import LacunarError

FillName = Literal["mean", "nearest", "linear", "idw", "laplace", "biharmonic", "kriging"]
FILL_NAMES: tuple[FillName, ...] = get_args(FillName)

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.intp]

LENGTHS = (4.0, 8.0, 16.0, 32.0, 64.0)  # candidate correlation lengths, pixels
SMOOTHINGS = (0.0, 1.0, 2.0, 4.0)  # candidate smoothings of the origin, pixels: TIRS is 100 m resampled to 30 m
NUGGETS = (1e-4, 1e-3, 2e-2)  # candidate shares of uncorrelated variance
MEAN_VARIANCE = 10.0  # variance of the unknown mean in units of the sill: ordinary kriging as a limit of simple kriging
RIM = 1.5  # known pixels within this distance of the gap all enter the kriging system (screening effect)
NEAR = 16.0  # pixels from what is to be filled within which the whole rim counts
FAR_THIN = 2  # beyond, the rim's pixels on a grid of this spacing
THIN = 6  # away from the rim, known pixels on a grid of this spacing
IDW_POWER = 2.0
IDW_NEIGHBOURS = 24


@dataclass(frozen=True)
class Covariance:
    r"""A smoothed exponential covariance of an isotropic field on a pixel grid.

    ``C(d) = variance * ((1 - nugget) * exp((a - sqrt(d^2 + a^2)) / length) + nugget * [d = 0])`` with
    ``a = smoothing``. For a = 0 it is the exponential covariance of classical kriging; a > 0 rounds its origin off,
    as a sensor's footprint does. It is positive definite in the plane, being a completely monotone function of d^2
    (Schoenberg 1938).

    Parameters
    ----------
    length, smoothing
        Pixels.
    variance
        The sill, in units of the values squared.
    nugget
        Share of the variance without spatial correlation.
    """

    length: float
    smoothing: float = 0.0
    variance: float = 1.0
    nugget: float = NUGGETS[0]

    def table(self, extent: tuple[int, int]) -> FloatArray:
        """Covariance for every lag (rows, cols) in the extent, in units of the sill, plus that of the unknown mean."""
        squared = np.arange(extent[0])[:, None] ** 2.0 + np.arange(extent[1])[None, :] ** 2.0
        decay = np.exp((self.smoothing - np.sqrt(squared + self.smoothing**2)) / self.length)
        return (1 - self.nugget) * decay + MEAN_VARIANCE


def fit_covariance(
    values: NDArray[np.floating], known: BoolArray, *, smoothings: tuple[float, ...] = SMOOTHINGS
) -> Covariance:
    """Choose a covariance by maximum likelihood on a subsample of the known pixels.

    The subsample is a lattice of 3 x 3 clusters, so that short and long lags both speak. Length, smoothing and nugget
    come from a grid; the variance is profiled out (Rasmussen & Williams 2006, section 5.4.1).

    Parameters
    ----------
    values, known
        (H, W); at least three known pixels in the subsample, else the variance of the known pixels is taken with the
        shortest length.
    smoothings
        Candidates; ``(0.0,)`` leaves the classical exponential covariance.

    Returns
    -------
    Covariance
        The likeliest of the grid.
    """
    points = _cluster_points(known)
    observed = values[points[:, 0], points[:, 1]].astype(np.float64)
    if observed.size < 3 or np.ptp(observed) == 0:
        spread = float(np.var(values[known], dtype=np.float64)) if known.any() else 1.0
        return Covariance(length=LENGTHS[0], variance=max(spread, np.finfo(float).tiny))
    observed -= observed.mean()
    best = max(
        (
            _profile_likelihood(Covariance(length, smoothing, 1.0, nugget), points, observed, known.shape)
            for length, smoothing, nugget in product(LENGTHS, smoothings, NUGGETS)
        ),
        key=lambda pair: pair[0],
    )
    return best[1]


def krige(
    values: NDArray[np.floating],
    known: BoolArray,
    *,
    covariance: Covariance | None = None,
    targets: BoolArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Ordinary kriging of the gap with its standard deviation.

    Known pixels within `RIM` of the gap enter the system, those beyond on a grid of spacing `THIN`. By the screening
    effect the others change next to nothing without smoothing, a little with it; and the cost falls from the cube of
    all known pixels to the cube of these.

    Parameters
    ----------
    values, known
        (H, W); True = measured. At least one pixel must be known.
    covariance
        Fitted to the known pixels by `fit_covariance` where none is given.
    targets
        (H, W), the unknown pixels to be filled; all where none is given.

    Returns
    -------
    mean, std : numpy.ndarray
        (H, W) float64 in the units of ``values``; known pixels keep their value with standard deviation 0, unknown ones
        that are no targets have 0 and 0.

    Raises
    ------
    LacunarError
        No known pixel.

    References
    ----------
    Cressie (1993), "Statistics for Spatial Data", section 3.2; Rasmussen & Williams (2006), eqs. 2.25, 2.26 and 2.41.
    """
    _require_known(values, known)
    covariance = fit_covariance(values, known) if covariance is None else covariance
    gap = ~known if targets is None else targets & ~known
    mean, std = np.where(known, values, 0.0).astype(np.float64), np.zeros(known.shape)
    if not gap.any():
        return mean, std
    rows, cols = np.indices(known.shape)
    rim = ndimage.distance_transform_edt(known) <= RIM
    near = ndimage.distance_transform_edt(~gap) <= NEAR
    thinned = [(rows % step == 0) & (cols % step == 0) for step in (FAR_THIN, THIN)]
    chosen = known & ((rim & (near | thinned[0])) | thinned[1])
    chosen = chosen if chosen.any() else known
    sources = np.argwhere(chosen)
    centre = mean[chosen].mean()
    table = covariance.table(known.shape)
    factor = _cholesky(table, sources, covariance.nugget)
    # Single precision halves the cost of the largest step; its error stays below a thousandth of the sill.
    factor32 = factor.astype(np.float32)
    cross = _between(table.astype(np.float32), sources, np.argwhere(gap))
    weights = linalg.solve_triangular(factor32, cross, lower=True, check_finite=False, overwrite_b=True)
    white = linalg.solve_triangular(factor, mean[chosen] - centre, lower=True, check_finite=False)
    mean[gap] = weights.T @ white + centre
    explained = np.einsum("ij,ij->j", weights, weights, dtype=np.float64)
    floor = max(covariance.nugget, NUGGETS[0])
    std[gap] = np.sqrt(covariance.variance * np.maximum(table[0, 0] + covariance.nugget - explained, floor))
    return mean, std


def fill(name: FillName, values: NDArray[np.floating], known: BoolArray) -> FloatArray:
    """Fill the gap by one of the classical methods.

    Parameters
    ----------
    name
        ``mean`` of the known pixels; ``nearest`` known pixel; ``linear`` on a Delaunay triangulation (nearest outside
        its hull); ``idw``, inverse squared distance over 24 neighbours; ``laplace``, the harmonic fill; ``biharmonic``
        (Damelin & Hoang 2018, by scikit-image); ``kriging`` with the classical exponential covariance.
    values, known
        (H, W); True = measured. At least one pixel must be known.

    Returns
    -------
    numpy.ndarray
        (H, W) float64; known pixels unchanged.

    Raises
    ------
    LacunarError
        Unknown method, no known pixel, or shapes that differ.

    Examples
    --------
    >>> known = np.array([[True, False, True]])
    >>> fill("laplace", np.array([[1.0, 0.0, 3.0]]), known)
    array([[1., 2., 3.]])
    """
    if name not in FILL_NAMES:
        raise LacunarError(f"unknown fill {name!r}: choose one of {', '.join(FILL_NAMES)}")
    _require_known(values, known)
    clean = np.where(known, values, 0.0).astype(np.float64)
    if known.all():
        return clean
    if name == "kriging":
        return krige(clean, known, covariance=fit_covariance(clean, known, smoothings=(0.0,)))[0]
    fillers = {
        "mean": _mean,
        "nearest": _nearest,
        "linear": _linear,
        "idw": _idw,
        "laplace": _laplace,
        "biharmonic": _biharmonic,
    }
    clean[~known] = fillers[name](clean, known)
    return clean


def _require_known(values: NDArray[np.floating], known: BoolArray) -> None:
    """Refuse shapes that differ, a ``known`` that is not boolean, and fields without any known pixel."""
    if values.shape != known.shape or values.ndim != 2:
        raise LacunarError(f"values {values.shape} and known {known.shape} must be one (H, W) shape")
    if known.dtype != np.bool_:  # ~ of a whole number is no mask
        raise LacunarError(f"known is {known.dtype}, wanted bool, True = measured: compare it with 0 first")
    if not known.any():
        raise LacunarError("every pixel is a gap: at least one known pixel is wanted")


def _cluster_points(known: BoolArray) -> IndexArray:
    """Known pixels on a lattice of 3 x 3 clusters, about 150 of them (period 16 in 64 x 64 pixels)."""
    period = max(16, int(np.sqrt(known.size / 16)))
    rows, cols = np.indices(known.shape)
    return np.argwhere(known & (rows % period < 3) & (cols % period < 3))


def _profile_likelihood(
    covariance: Covariance, points: IndexArray, observed: FloatArray, extent: tuple[int, ...]
) -> tuple[float, Covariance]:
    """Log-likelihood at the best variance, up to a constant, and the covariance with that variance."""
    factor = _cholesky(covariance.table((extent[0], extent[1])), points, covariance.nugget)
    white = linalg.solve_triangular(factor, observed, lower=True, check_finite=False)
    variance = float(white @ white) / observed.size
    likelihood = -0.5 * observed.size * np.log(variance) - float(np.log(np.diag(factor)).sum())
    return likelihood, Covariance(covariance.length, covariance.smoothing, variance, covariance.nugget)


def _between(table: NDArray[np.floating], a: IndexArray, b: IndexArray) -> NDArray[np.floating]:
    """Covariances between pixel lists a (n, 2) and b (m, 2), looked up by their lags."""
    rows = np.abs(a[:, 0][:, None] - b[:, 0][None, :])
    cols = np.abs(a[:, 1][:, None] - b[:, 1][None, :])
    return np.asarray(table.ravel()[rows * table.shape[1] + cols])


def _cholesky(table: FloatArray, points: IndexArray, nugget: float) -> FloatArray:
    """Lower Cholesky factor of the covariance among the points."""
    matrix = _between(table, points, points)
    matrix[np.diag_indices_from(matrix)] += nugget
    factor: FloatArray = linalg.cholesky(matrix, lower=True, check_finite=False, overwrite_a=True)
    return factor


def _mean(values: FloatArray, known: BoolArray) -> FloatArray:
    """Mean of the known pixels."""
    return np.full(int((~known).sum()), values[known].mean())


def _nearest(values: FloatArray, known: BoolArray) -> FloatArray:
    """Value of the nearest known pixel."""
    rows, cols = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled: FloatArray = values[rows, cols][~known]
    return filled


def _linear(values: FloatArray, known: BoolArray) -> FloatArray:
    """Linear on the triangulation of the known pixels that border the gap; nearest outside its hull."""
    border = known & ndimage.binary_dilation(~known, iterations=2)
    sources, targets = np.argwhere(border), np.argwhere(~known)
    filled = _nearest(values, known)
    spans_a_plane = np.linalg.matrix_rank(sources - sources.mean(axis=0)) == 2
    if not spans_a_plane:
        return filled
    flat = interpolate.LinearNDInterpolator(sources, values[border])(targets)
    return np.where(np.isnan(flat), filled, flat)


def _idw(values: FloatArray, known: BoolArray) -> FloatArray:
    """Shepard's inverse-distance weighting over the nearest known pixels."""
    tree = spatial.cKDTree(np.argwhere(known))
    neighbours = min(IDW_NEIGHBOURS, int(known.sum()))
    distance, index = tree.query(np.argwhere(~known), k=neighbours)
    distance, index = distance.reshape(-1, neighbours), index.reshape(-1, neighbours)
    weight = distance**-IDW_POWER
    filled: FloatArray = (weight * values[known][index]).sum(axis=1) / weight.sum(axis=1)
    return filled


def _laplace(values: FloatArray, known: BoolArray) -> FloatArray:
    """Harmonic fill: every gap pixel is the mean of its neighbours, by a sparse direct solve."""
    gap = ~known
    number = np.full(known.shape, -1)
    number[gap] = np.arange(gap.sum())
    rows, cols = np.nonzero(gap)
    diagonal, constant = np.zeros(rows.size), np.zeros(rows.size)
    entries: list[tuple[IndexArray, IndexArray]] = []
    for row_step, col_step in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        r, c = rows + row_step, cols + col_step
        inside = (r >= 0) & (r < known.shape[0]) & (c >= 0) & (c < known.shape[1])
        here, r, c = np.flatnonzero(inside), r[inside], c[inside]
        diagonal[here] += 1
        measured = known[r, c]
        constant[here[measured]] += values[r[measured], c[measured]]
        entries.append((here[~measured], number[r[~measured], c[~measured]]))
    own, other = (np.concatenate(part) for part in zip(*entries, strict=True))
    matrix = sparse.diags(diagonal) - sparse.csr_matrix((np.ones(own.size), (own, other)), shape=(rows.size,) * 2)
    solution: FloatArray = sparse_linalg.spsolve(matrix.tocsc(), constant)
    return np.atleast_1d(solution)


def _biharmonic(values: FloatArray, known: BoolArray) -> FloatArray:
    """Biharmonic fill by scikit-image."""
    from skimage.restoration import inpaint_biharmonic

    filled: FloatArray = inpaint_biharmonic(values, ~known)[~known]
    return filled
