"""Classical fills: mean, nearest, linear, inverse distance, Laplace, biharmonic, kriging.

They are the baselines that a diffusion model must beat.
"""

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, ndimage, sparse, spatial
from scipy.sparse import linalg as sparse_linalg

from lacunar.errors import LacunarError
from lacunar.interpolate.kriging import fit_covariance, krige, require_known

FillName = Literal["mean", "nearest", "linear", "idw", "laplace", "biharmonic", "kriging"]
FILL_NAMES: tuple[FillName, ...] = get_args(FillName)

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.intp]

IDW_POWER = 2.0
IDW_NEIGHBOURS = 24


def fill(name: FillName, values: NDArray[np.floating], known: BoolArray) -> FloatArray:
    """Fill the missing pixels of ``values`` (H, W), in float64; ``known`` pixels (True) stay, others are never read.

    ``mean`` of the known pixels; ``nearest``; ``linear`` on a Delaunay triangulation (nearest outside its hull);
    ``idw``, inverse squared distance over 24 neighbours; ``laplace``, harmonic; ``biharmonic`` (Damelin & Hoang 2018,
    by scikit-image); ``kriging`` with the classical exponential covariance. Raises `LacunarError`: no known pixel.

    >>> known = np.array([[True, False, True]])
    >>> fill("laplace", np.array([[1.0, 0.0, 3.0]]), known)
    array([[1., 2., 3.]])
    """
    if name not in FILL_NAMES:
        raise LacunarError(f"unknown fill {name!r}: choose one of {', '.join(FILL_NAMES)}")
    require_known(values, known)
    clean = np.where(known, values, 0.0).astype(np.float64)
    if known.all():
        return clean
    if name == "kriging":
        return krige(clean, known, covariance=fit_covariance(clean, known, smoothings=(0.0,)))[0]
    clean[~known] = _FILLERS[name](clean, known)
    return clean


def _mean(values: FloatArray, known: BoolArray) -> FloatArray:
    return np.full(int((~known).sum()), values[known].mean())


def _nearest(values: FloatArray, known: BoolArray) -> FloatArray:
    rows, cols = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(values[rows, cols][~known])


def _linear(values: FloatArray, known: BoolArray) -> FloatArray:
    """Linear on the triangulation of the known pixels that border missing ones; nearest outside its hull."""
    border = known & ndimage.binary_dilation(~known, iterations=2)
    sources, targets = np.argwhere(border), np.argwhere(~known)
    filled = _nearest(values, known)
    if np.linalg.matrix_rank(sources - sources.mean(axis=0)) < 2:  # all on a line
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
    return np.asarray((weight * values[known][index]).sum(axis=1) / weight.sum(axis=1))


def _laplace(values: FloatArray, known: BoolArray) -> FloatArray:
    """Harmonic fill: every missing pixel is the mean of its neighbours, by a sparse direct solve."""
    missing = ~known
    number = np.full(known.shape, -1)
    number[missing] = np.arange(missing.sum())
    rows, cols = np.nonzero(missing)
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
    return np.atleast_1d(sparse_linalg.spsolve(matrix.tocsc(), constant))


def _biharmonic(values: FloatArray, known: BoolArray) -> FloatArray:
    from skimage.restoration import inpaint_biharmonic

    return np.asarray(inpaint_biharmonic(values, ~known)[~known])


_FILLERS: Mapping[str, Callable[[FloatArray, BoolArray], FloatArray]] = {
    "mean": _mean,
    "nearest": _nearest,
    "linear": _linear,
    "idw": _idw,
    "laplace": _laplace,
    "biharmonic": _biharmonic,
}
