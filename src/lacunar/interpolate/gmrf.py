"""A Gaussian Markov random field on the pixel grid: conditional mean, standard deviation and exact samples.

The precision is Q = s^-2 (kappa^2 + L)(1 + b L), L the graph Laplacian of the pixels inside the footprint, with 1/kappa
the range in pixels (Lindgren, Rue and Lindstrom 2011; Rue and Held 2005, chapter 2). The field behaves as a membrane
(Laplace) over more than sqrt(b) pixels and as a thin plate (biharmonic) below. Everything is one sparse factor of Q on
the missing pixels: the cost is nearly linear in their number. *Drift* fields, known everywhere, enter by generalised
least squares with a ridge per group that maximises the marginal likelihood (universal kriging).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

RANGE = 128.0  # pixels; chosen on training places by transplanted clouds, as SMOOTHNESS
SMOOTHNESS = 1.0  # b, in squared pixels
RIDGES = (1e-4, 1e-2, 1.0, 1e2, 1e4)  # prior precisions of drift coefficients that are tried
SWEEPS = 2  # over the groups of drift terms, when their ridges are chosen
LEAST_VARIANCE = 1e-12  # of the field; a constant raster is no reason to divide by zero

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FieldFit:
    """The field given its known pixels."""

    mean: FloatArray  # (H, W): the known values, and the conditional mean at missing pixels; NaN outside the footprint
    scale: float  # s, the standard deviation that multiplies the unit field
    residual: FloatArray  # (P, M): each drift term minus its completion from known pixels
    covariance: FloatArray  # (P, P): of the coefficients, in units of s^2


class MarkovField:
    """The field on one footprint and set of known pixels; the factor is computed once and serves all fits and samples.

    ``known`` and ``missing`` (H, W) are measured pixels and those to be told; the rest lies outside the footprint.
    ``correlation_range`` is 1/kappa in pixels, ``smoothness`` is b in squared pixels.
    """

    def __init__(
        self, known: BoolArray, missing: BoolArray, *, correlation_range: float = RANGE, smoothness: float = SMOOTHNESS
    ) -> None:
        self.shape, self.missing, self._inside = known.shape, missing, known | missing
        self._known = known[self._inside]
        self._free = np.flatnonzero(missing[self._inside])
        self._incidence = _incidence(self._inside)
        self._kappa, self._smoothness = 1 / correlation_range, smoothness
        laplacian = (self._incidence.T @ self._incidence).tocsr()
        self._laplacian = laplacian
        self._membrane = 1 + smoothness * self._kappa**2
        rows = laplacian[self._free]
        # Q but for kappa^2, missing rows
        self._rows = (self._membrane * rows + smoothness * (rows @ laplacian)).tocsr()
        block = self._rows[:, self._free] + self._kappa**2 * sp.identity(len(self._free))
        self._diagonal = block.diagonal()
        self._block = block.tocsc()
        symmetric = {"SymmetricMode": True}
        self._factor = (
            splu(self._block, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=symmetric)
            if len(self._free)
            else None
        )

    def completed(self, fields: NDArray[np.floating]) -> FloatArray:
        """(P, pixels inside) fields of zero mean, missing pixels replaced by the conditional mean."""
        flat = np.where(self._known, np.asarray(fields, dtype=np.float64)[:, self._inside], 0.0)
        if self._factor is not None:
            flat[:, self._free] = self._factor.solve(np.ascontiguousarray(-(self._rows @ flat.T))).T
        return flat

    def fit(
        self, values: NDArray[np.floating], drift: FloatArray | None = None, groups: Sequence[int] = ()
    ) -> FieldFit:
        """Condition on the known pixels of ``values`` (H, W); unknown ones are never read.

        ``drift`` (P, H, W) are fields known on the whole footprint, of about unit variance. ``groups`` gives for each
        the group with which it shares a ridge; one group by default.
        """
        inside, known = self._inside, self._known
        count = int(known.sum())
        centre = float(values[inside][known].mean()) if count else 0.0
        terms = np.zeros((0, *self.shape)) if drift is None else drift
        flat = self.completed(np.concatenate([np.where(inside, values - centre, 0.0)[None], terms]))
        applied = self._laplacian @ flat.T
        products = (
            self._kappa**2 * flat @ flat.T + self._membrane * flat @ applied + self._smoothness * applied.T @ applied
        )
        coefficients, scale_squared, covariance = _ridged(products, count, groups or [0] * len(terms))
        residual = terms[:, inside][:, self._free] - flat[1:, self._free]
        mean = np.full(self.shape, np.nan)
        mean[inside] = flat[0] + centre
        mean[self.missing] += coefficients @ residual
        return FieldFit(mean, float(np.sqrt(max(scale_squared, LEAST_VARIANCE))), residual, covariance)

    def draws(self, noise: NDArray[np.floating]) -> FloatArray:
        """(K, M) exact draws of the unit field's deviation from its conditional mean at the missing pixels.

        ``noise`` (4, K, H, W) is standard normal: of pixels, of their edges downwards and to the right, of pixels.
        kappa n_1 + sqrt(1 + b kappa^2) D'n_2 + sqrt(b) L n_3 has covariance Q, so Q x = that is a draw, and its missing
        rows are one of the conditional field. Fields that share noise, such as overlapping tiles, draw alike.
        """
        count = noise.shape[1]
        if self._factor is None:
            return np.zeros((count, 0))
        first, down, right, last = (part.reshape(count, *self.shape) for part in noise)
        inside = self._inside
        edges = np.concatenate(
            [down[:, :-1][:, inside[:-1] & inside[1:]], right[:, :, :-1][:, inside[:, :-1] & inside[:, 1:]]], axis=1
        )
        load = (
            self._kappa * first[:, inside].T
            + np.sqrt(self._membrane) * (self._incidence.T @ edges.T)
            + np.sqrt(self._smoothness) * (self._laplacian @ last[:, inside].T)
        )
        return np.ascontiguousarray(self._factor.solve(np.ascontiguousarray(load[self._free])).T)

    def sigma(self, fit: FieldFit, draws: FloatArray) -> FloatArray:
        """(M,) standard deviation at the missing pixels, the error of the drift's coefficients included.

        The marginal variances come from draws, each pixel's own part integrated out (Siden et al. 2018).
        """
        off = self._block @ draws.T - self._diagonal[:, None] * draws.T
        variance = 1 / self._diagonal + np.mean((off / self._diagonal[:, None]) ** 2, axis=1)
        of_drift = np.einsum("pi,pq,qi->i", fit.residual, fit.covariance, fit.residual)
        return np.asarray(fit.scale * np.sqrt(variance + of_drift))


def _incidence(inside: BoolArray) -> sp.csr_matrix:
    """(edges, pixels): +1 and -1 at the two ends of every edge between 4-neighbours inside the footprint."""
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(int(inside.sum()))
    ends = [(number[:-1], number[1:]), (number[:, :-1], number[:, 1:])]
    first = np.concatenate([a[(a >= 0) & (b >= 0)] for a, b in ends])
    second = np.concatenate([b[(a >= 0) & (b >= 0)] for a, b in ends])
    edges = np.arange(len(first))
    entries = np.concatenate([np.ones(len(first)), -np.ones(len(first))])
    shape = (len(first), int(inside.sum()))
    return sp.coo_matrix((entries, (np.tile(edges, 2), np.concatenate([first, second]))), shape=shape).tocsr()


def _ridged(products: FloatArray, count: int, groups: Sequence[int]) -> tuple[FloatArray, float, FloatArray]:
    """Coefficients, s^2 and the coefficients' covariance for the ridges of greatest marginal likelihood.

    ``products`` are f'Qf of the completed value (first) and drift fields: exactly those of the known pixels alone.
    """
    total, gram, cross = products[0, 0], products[1:, 1:], products[1:, 0]
    if not len(cross):
        return np.zeros(0), float(total / max(count, 1)), np.zeros((0, 0))
    of = np.asarray(groups)

    def tried(ridges: Sequence[float]) -> tuple[float, FloatArray, float, FloatArray]:
        prior = np.asarray(ridges)[of] * max(count, 1) / 1e4
        system = gram + np.diag(prior)
        solved = np.asarray(np.linalg.solve(system, cross), dtype=np.float64)
        scale_squared = max(float(total - cross @ solved) / max(count, 1), LEAST_VARIANCE)
        _, determinant = np.linalg.slogdet(system)
        likelihood = -0.5 * count * np.log(scale_squared) - 0.5 * determinant + 0.5 * np.log(prior).sum()
        return float(likelihood), solved, scale_squared, system

    ridges = [RIDGES[len(RIDGES) // 2]] * (int(of.max()) + 1)
    best = tried(ridges)
    for _ in range(SWEEPS):
        for group in range(len(ridges)):
            for ridge in RIDGES:
                candidate = [*ridges[:group], ridge, *ridges[group + 1 :]]
                found = tried(candidate)
                if found[0] > best[0]:
                    best, ridges = found, candidate
    return best[1], best[2], np.asarray(np.linalg.inv(best[3]))
