"""What an archive of other dates tells of missing pixels.

All dates of a pixel are one Gaussian vector, whose mean and covariance are estimated by EM from pixels that miss some
dates (Dempster, Laird and Rubin 1977; Little and Rubin 2002, section 11.2). `lacunar.interpolate.raster_field` takes
the expectation of the target date given the others as drift: many dates become one field first, because coefficients
for each date would overfit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

EM_PIXELS, EM_ITERATIONS = 3000, 15
UNINFORMED = 0.5  # share of the variance of a date that others leave, from which on they tell too little
JITTER = 1e-5  # of the variances, added to the covariance's diagonal
LEAST_VARIANCE = 1e-12  # a constant raster is no reason to divide by zero

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DateModel:
    """Mean (D,) and covariance (D, D) of the values that a pixel has on D dates; the first is the target."""

    mean: FloatArray
    covariance: FloatArray

    @classmethod
    def estimated(
        cls, dates: FloatArray, *, start: "DateModel | None" = None, iterations: int = EM_ITERATIONS
    ) -> "DateModel":
        """By EM from (D, N) values, NaN where unknown; of many pixels a random subset is taken."""
        seen = np.isfinite(dates)
        usable = np.flatnonzero(seen.any(axis=0))
        chosen = np.random.default_rng(0).choice(usable, min(EM_PIXELS, len(usable)), replace=False)
        known = seen[:, chosen].T.astype(np.float64)
        values = np.nan_to_num(dates[:, chosen].T)
        mean = np.array([row[has].mean() if has.any() else 0.0 for row, has in zip(dates, seen, strict=True)])
        std = np.array([row[has].std() if has.any() else 0.0 for row, has in zip(dates, seen, strict=True)])
        covariance = 0.5 * np.diag(std**2 + LEAST_VARIANCE) + 0.5 * np.outer(std, std)
        if start is not None:
            mean, covariance = start.mean, start.covariance
        diagonal = np.arange(len(mean))
        for _ in range(iterations):
            both = known[:, :, None] * known[:, None, :]
            systems = both * covariance
            systems[:, diagonal, diagonal] += 1 - known
            inverse = np.linalg.inv(systems) * both
            deviation = np.where(known > 0, values - mean, 0.0)
            expected = np.where(known > 0, values, mean + np.einsum("nij,nj->ni", inverse, deviation) @ covariance)
            left = len(values) * covariance - covariance @ inverse.sum(axis=0) @ covariance
            mean = expected.mean(axis=0)
            centred = expected - mean
            covariance = (centred.T @ centred + left) / len(values)
            covariance += np.diag(np.diag(covariance) * JITTER + LEAST_VARIANCE)
        return cls(mean, covariance)

    def expectation(self, dates: FloatArray, date: int) -> FloatArray:
        """(N,): E of one date given all others that are known, for (D, N) values with NaN."""
        out = np.empty(dates.shape[1])
        for pixels, given in _patterns(dates, date):
            out[pixels] = self.mean[date] + self._weights(given, date) @ (
                dates[np.ix_(given, pixels)] - self.mean[given, None]
            )
        return out

    def informed(self, dates: FloatArray) -> BoolArray:
        """(N,): where the dates that are known tell much of the first: half its variance, or of what all would tell.

        Where all together tell less than half, its variance given them has to be nearer, in ratio, to the least.
        """
        out = np.empty(dates.shape[1], dtype=bool)
        others = np.arange(len(self.mean)) > 0
        own = self.covariance[0, 0]
        most = max(np.sqrt(self._left(others) * own), UNINFORMED * own)
        for pixels, given in _patterns(dates, 0):
            out[pixels] = self._left(given) < most
        return out

    @property
    def left_by_all(self) -> float:
        """Share of the variance of the first date that all others leave."""
        return self._left(np.arange(len(self.mean)) > 0) / float(self.covariance[0, 0])

    def _weights(self, given: BoolArray, date: int) -> FloatArray:
        return np.asarray(np.linalg.solve(self.covariance[np.ix_(given, given)], self.covariance[given, date]))

    def _left(self, given: BoolArray) -> float:
        """Variance of the first date given others."""
        return float(self.covariance[0, 0] - self._weights(given, 0) @ self.covariance[given, 0])


def _patterns(dates: FloatArray, date: int) -> Iterator[tuple[NDArray[np.intp], BoolArray]]:
    """Pixels of which the same dates beside one are known, and these."""
    seen = np.isfinite(dates)
    seen[date] = False
    patterns, which = np.unique(np.packbits(seen, axis=0), axis=1, return_inverse=True)
    order = np.argsort(which, kind="stable")
    for pixels in np.split(order, np.cumsum(np.bincount(which, minlength=patterns.shape[1]))[:-1]):
        yield pixels, seen[:, pixels[0]]


def completed(dates: FloatArray, model: DateModel) -> FloatArray:
    """(D, H, W) without the unknown pixels of all dates but the first: expectation, and its residual spread around."""
    flat, out = dates.reshape(len(dates), -1), dates.copy()
    for date in range(1, len(dates)):
        seen = np.isfinite(dates[date])
        if not seen.all():
            expected = model.expectation(flat, date).reshape(seen.shape)
            out[date] = expected + pull_push(np.where(seen, dates[date] - expected, 0.0), seen)
    return out


def pull_push(values: FloatArray, known: BoolArray) -> FloatArray:
    """Fill smoothly by means of ever larger blocks (Gortler et al. 1996); 0 if no pixel is known."""
    weight = known.astype(np.float64)
    if max(values.shape) <= 2:
        return np.full(values.shape, (values * weight).sum() / max(weight.sum(), 1.0))
    pads = [(0, length % 2) for length in values.shape]
    half = ((values.shape[0] + 1) // 2, 2, (values.shape[1] + 1) // 2, 2)
    count = np.pad(weight, pads).reshape(half).sum(axis=(1, 3))
    total = np.pad(values * weight, pads).reshape(half).sum(axis=(1, 3))
    coarse = pull_push(np.divide(total, count, out=np.zeros_like(total), where=count > 0), count > 0)
    fine = ndimage.zoom(coarse, 2, order=1, grid_mode=True, mode="nearest")[: values.shape[0], : values.shape[1]]
    return np.where(known, values, fine)
