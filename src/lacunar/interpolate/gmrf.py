"""A Gaussian Markov random field on the pixel grid: conditional mean, draws and variance.

The precision is Q = (kappa^2 + L)(1 + b L), L the graph Laplacian of the pixels inside the footprint, with 1/kappa the
range in pixels (Lindgren, Rue and Lindstrom 2011; Rue and Held 2005, chapter 2). The field behaves as a membrane
(Laplace) over more than sqrt(b) pixels and as a thin plate (biharmonic) below. The conditional mean takes one sparse
factor of Q on the missing pixels. Deep in a gap it is smooth: there it is found on every 4th or 16th pixel and
interpolated between them (Galerkin), so that the cost stays linear in the gap. A draw is an unconditional one plus the
conditional mean of what it lacks to the known pixels (Matheron's rule; Chiles and Delfiner 2012, section 7.3).
"""

import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.sparse.linalg import splu
from threadpoolctl import threadpool_limits

RANGE = 256.0  # pixels; chosen on training places by transplanted clouds, as SMOOTHNESS
SMOOTHNESS = 2.0  # b, in squared pixels
STRIDES = ((4, 8.0), (16, 48.0))  # pixels between nodes, where anything measured is farther than so many pixels
CHUNK = 30_000  # missing pixels that are solved at a time, where the gap falls apart
DISTANCE_STEPS = 6.0  # for each doubling of the distance to the nearest measured pixel: where variance is averaged
POOLING, POOLED_CELL = 16.0, 4  # pixels: width of the Gaussian over which the variance of draws is pooled, and cells
NOISE_CELL = 64  # side of the cells of the absolute grid that each have their own noise

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
AXES = ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1]))  # the two ends of edges down and to the right
Pixels = tuple[NDArray[np.intp], NDArray[np.intp]]  # rows and columns


class MarkovField:
    """The unit field on one footprint and set of known pixels.

    ``known`` and ``missing`` (H, W) are measured pixels and those to be told; the rest lies outside the footprint.
    ``correlation_range`` is 1/kappa in pixels, ``smoothness`` is b in squared pixels.
    """

    def __init__(
        self, known: BoolArray, missing: BoolArray, *, correlation_range: float = RANGE, smoothness: float = SMOOTHNESS
    ) -> None:
        self.missing, self._known = missing, known
        self._kappa, self._smoothness = 1 / correlation_range, smoothness
        self.distance = np.asarray(ndimage.distance_transform_edt(missing))
        self._laplacian, self._number = _laplacian(known | missing, missing)
        self._near = self._number >= 0
        self._deep = {stride: _deep_cells(self.distance, stride, reach) for stride, reach in STRIDES}

    def reshaped(self, *, correlation_range: float, smoothness: float) -> Self:
        """The field of another range and smoothness on the same pixels."""
        other = copy.copy(self)
        other._kappa, other._smoothness = 1 / correlation_range, smoothness
        return other

    def completed(self, fields: NDArray[np.floating], *, threads: int = 1) -> FloatArray:
        """(P, H, W) fields of zero mean, their missing pixels replaced by the conditional mean; 0 outside.

        Fields are read at known pixels only. The result does not depend on the number of ``threads``.
        """
        out = np.where(self._known, fields, 0.0)
        for pixels, (solved,) in self._solutions([(self, out[:, self._near].T)], threads):
            out[:, *pixels] = solved.T
        return out

    def with_draws(
        self,
        field: NDArray[np.floating],
        noise: NDArray[np.floating],
        *,
        texture: "MarkovField | None" = None,
        threads: int = 1,
    ) -> tuple[FloatArray, NDArray[np.floating]]:
        """A field (H, W), completed, and K draws (K, H, W) of the deviation from it, 0 where not missing.

        Draws are those of ``texture``, a field `reshaped` from this one, by default of the field itself. ``noise`` (K,
        H, W) is standard normal; draws are of its type. Fields that share noise, such as overlapping windows, draw
        alike.
        """
        texture = texture or self
        rows, cols = (2 - 2 * np.cos(np.pi * np.arange(length) / length) for length in noise.shape[1:])
        eigenvalues = rows[:, None] + cols
        spectrum = 1 / np.sqrt((texture._kappa**2 + eigenvalues) * (1 + texture._smoothness * eigenvalues))
        free = fft.dctn(noise, axes=(1, 2), norm="ortho")
        free *= spectrum.astype(noise.dtype)
        free = fft.idctn(free, axes=(1, 2), norm="ortho", overwrite_x=True)
        out, draws = np.where(self._known, field, 0.0), np.zeros_like(free)
        near = [np.ascontiguousarray(many[:, self._near].T, dtype=np.float64) for many in (out[None], free)]
        near[1] *= self._known[self._near, None]
        for pixels, (mean, drawn) in self._solutions([(self, near[0]), (texture, near[1])], threads):
            out[pixels] = mean[:, 0]
            draws[:, *pixels] = free[:, *pixels] - drawn.T
        return out, draws

    def products(self, completed: FloatArray) -> FloatArray:
        """(P, P): f'Qf of completed fields (P, H, W), which is that of the marginal field of the known pixels."""
        inside = self._known | self.missing
        applied = np.zeros_like(completed)
        for ahead, behind in AXES:
            step = (completed[:, *ahead] - completed[:, *behind]) * (inside[ahead] & inside[behind])
            applied[:, *ahead] += step
            applied[:, *behind] -= step
        flat, applied = completed.reshape(len(completed), -1), applied.reshape(len(completed), -1)
        mixed = flat @ applied.T
        membrane = 1 + self._smoothness * self._kappa**2
        return self._kappa**2 * flat @ flat.T + membrane * mixed + self._smoothness * applied @ applied.T

    def variance(self, draws: NDArray[np.floating]) -> FloatArray:
        """(H, W) marginal variance: that of draws (K, H, W) at like distances from measured pixels, pooled."""
        out = np.zeros(self.missing.shape)
        if not self.missing.any():
            return out
        squares = np.mean(draws[:, self.missing] ** 2, axis=0)
        places = DISTANCE_STEPS * np.log2(1 + self.distance[self.missing])
        steps = np.rint(places).astype(np.intp)
        counts = np.bincount(steps)
        there = np.flatnonzero(counts)
        usual = np.interp(places, there, np.bincount(steps, squares)[there] / counts[there])
        out[self.missing] = squares / usual
        weight, pooled = (_pooled(one) for one in (self.missing.astype(np.float64), out))
        ratio = np.divide(pooled, weight, out=np.ones_like(weight), where=weight > 0)
        fine = ndimage.zoom(ratio, POOLED_CELL, order=1, grid_mode=True, mode="nearest")
        height, width = self.missing.shape
        out[self.missing] = usual * fine[:height, :width][self.missing]
        return out

    def _solutions(
        self, given: Sequence[tuple["MarkovField", FloatArray]], threads: int
    ) -> Iterator[tuple[Pixels, list[FloatArray]]]:
        """Parts of the gap, and the conditional means there (M, P), for fields (N, P) on the pixels near the gap.

        Each field is one of a Markov field on the same pixels.
        """
        parts = self._parts()
        solve = partial(self._solved, given)
        with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            yield from zip(parts, pool.map(solve, parts), strict=True)

    def _parts(self) -> list[Pixels]:
        """Missing pixels in parts that do not depend on one another: Q reaches two pixels far."""
        labels, count = ndimage.label(ndimage.binary_dilation(self.missing))
        rows, cols = np.nonzero(self.missing)
        own = labels[rows, cols]
        group = (np.cumsum(np.bincount(own, minlength=count + 1)) // CHUNK)[own]
        order = np.argsort(group, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(order) else []
        return [(rows[part], cols[part]) for part in parts]

    def _solved(self, given: Sequence[tuple["MarkovField", FloatArray]], pixels: Pixels) -> list[FloatArray]:
        """(M, P) of each field: its conditional mean at the pixels of a part."""
        own, nodes = self._number[pixels], self._interpolation(pixels)
        rows = self._laplacian[own]
        powers = rows, rows @ self._laplacian  # L and L^2
        blocks = [sp.identity(len(own), format="csr"), *(power[:, own] for power in powers)]
        if nodes is not None:
            blocks = [nodes.T @ block @ nodes for block in blocks]
        found, last = list[FloatArray](), None
        for field, near in given:
            kappa_squared, smoothness = field._kappa**2, field._smoothness
            weights = (kappa_squared, 1 + smoothness * kappa_squared, smoothness)  # of 1, L and L^2 in Q
            load = sum(-weight * (power @ near) for weight, power in zip(weights[1:], powers, strict=True))
            load = load if nodes is None else nodes.T @ load
            if field is not last:
                block = sum(weight * block for weight, block in zip(weights, blocks, strict=True)).tocsc()
                options = {"SymmetricMode": True}
                factor, last = splu(block, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options), field
            solved = factor.solve(np.ascontiguousarray(load))
            found.append(np.asarray(solved if nodes is None else nodes @ solved))
        return found

    def _interpolation(self, pixels: Pixels) -> sp.csr_matrix | None:
        """(pixels, nodes): pixels deep in a gap from the corners of their cell, others from themselves."""
        nodes, whole = pixels, None
        for stride, deep in self._deep.items():
            inner = deep[nodes[0] // stride, nodes[1] // stride]
            if not inner.any():
                break
            starts, shares = [axis // stride * stride for axis in nodes], [axis % stride / stride for axis in nodes]
            keys, entries = [], []
            for steps in ((0, 0), (0, 1), (1, 0), (1, 1)):
                corner = [start + step * stride for start, step in zip(starts, steps, strict=True)]
                weights = [share if step else 1 - share for share, step in zip(shares, steps, strict=True)]
                row, col = (np.where(inner, at, axis) for at, axis in zip(corner, nodes, strict=True))
                keys.append(row * self.missing.shape[1] + col)
                entries.append(np.where(inner, weights[0] * weights[1], float(steps == (0, 0))))
            found, columns = np.unique(np.concatenate(keys), return_inverse=True)
            shape = (len(nodes[0]), len(found))
            step_up = sp.csr_matrix((np.concatenate(entries), (np.tile(np.arange(shape[0]), 4), columns)), shape=shape)
            step_up.eliminate_zeros()
            whole = step_up if whole is None else whole @ step_up
            nodes = (found // self.missing.shape[1], found % self.missing.shape[1])
        return whole


def _pooled(values: FloatArray) -> FloatArray:
    """Sums over cells of an array (H, W), and over the cells around, by a Gaussian."""
    pads = [(0, -length % POOLED_CELL) for length in values.shape]
    cells = np.pad(values, pads)
    cells = cells.reshape(cells.shape[0] // POOLED_CELL, POOLED_CELL, -1, POOLED_CELL).sum(axis=(1, 3))
    return np.asarray(ndimage.gaussian_filter(cells, POOLING / POOLED_CELL, mode="constant"))


def pixel_noise(shape: tuple[int, int], origin: tuple[int, int], count: int, seed: int) -> NDArray[np.float32]:
    """Standard normal noise (count, H, W) of absolute pixels: the same whatever window is asked for."""
    noise = np.empty((count, *shape), dtype=np.float32)
    first = [start // NOISE_CELL for start in origin]
    last = [(start + length - 1) // NOISE_CELL for start, length in zip(origin, shape, strict=True)]
    for row in range(first[0], last[0] + 1):
        for col in range(first[1], last[1] + 1):
            cell = np.random.default_rng((seed, row, col)).standard_normal((count, NOISE_CELL, NOISE_CELL), np.float32)
            top, left = row * NOISE_CELL - origin[0], col * NOISE_CELL - origin[1]
            rows = slice(max(0, top), min(shape[0], top + NOISE_CELL))
            cols = slice(max(0, left), min(shape[1], left + NOISE_CELL))
            noise[:, rows, cols] = cell[:, rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
    return noise


def _laplacian(inside: BoolArray, missing: BoolArray) -> tuple[sp.csr_matrix, NDArray[np.intp]]:
    """Laplacian of the pixels within three steps of the gap, and their numbers (H, W), -1 elsewhere.

    Edges lead between 4-neighbours inside the footprint. Rows of pixels at most one step from the gap are whole.
    """
    near = ndimage.binary_dilation(missing, iterations=3) & inside
    number = np.full(inside.shape, -1)
    number[near] = np.arange(int(near.sum()))
    degree = np.zeros(inside.shape)
    pairs = []
    for ahead, behind in AXES:
        joined = inside[ahead] & inside[behind]
        degree[ahead] += joined
        degree[behind] += joined
        both = near[ahead] & near[behind]
        pairs.append((number[ahead][both], number[behind][both]))
    first, second = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    count = int(near.sum())
    adjacency = sp.csr_matrix((np.ones(len(first)), (first, second)), shape=(count, count))
    return (sp.diags(degree[near]) - adjacency - adjacency.T).tocsr(), number


def _deep_cells(distance: FloatArray, stride: int, reach: float) -> BoolArray:
    """Cells of ``stride`` pixels (rounded up) that with their far corners lie farther than ``reach`` in the gap."""
    deep = np.zeros([-(-length // stride) for length in distance.shape], dtype=bool)
    if distance.max(initial=0.0) > reach:
        nearest = ndimage.minimum_filter(distance, stride + 1, mode="constant", origin=-(stride // 2))
        deep = nearest[::stride, ::stride] > reach
    return deep
