"""What an archive of other dates tells of missing pixels.

All dates of a pixel are one Gaussian vector, whose mean and covariance are estimated by EM from pixels that miss some
dates (Dempster, Laird and Rubin 1977; Little and Rubin 2002, section 11.2). The expectation of the target date given
the others, at three scales, is the drift of a Gaussian Markov random field (`lacunar.interpolate.gmrf`) on overlapping
tiles; many dates become one field first, because three coefficients for each date would overfit. Standard deviations
are scaled by what the same steps err by on a gap transplanted onto measured pixels, by distance from a measured pixel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.geo.windows import blend_weights, stitch, tiles_over, tiles_touching
from lacunar.interpolate.gmrf import LEAST_VARIANCE, MarkovField

TILE, OVERLAP = 288, 96  # the overlap is the halo of a block, so that neighbouring blocks see the same tiles
SCALES = (2.0, 8.0)  # standard deviations of the Gaussian filters that part fine, middle and coarse, in pixels
EM_PIXELS, EM_ITERATIONS = 3000, 15
JITTER = 1e-5  # of the variances, added to the covariance's diagonal
DISTANCE_CLASSES = (2.0, 6.0, 16.0)  # pixels; borders of the classes in which sigma is scaled
LEVELS = (0.005, 0.025, 0.05, 0.16, 0.25, 0.5, 0.75, 0.84, 0.95, 0.975, 0.995)
LEAST_TRANSPLANTED = 100  # pixels of a class, below which the scale of all pixels counts
SIGMA_DRAWS = 32
LEAST_KNOWN = 16  # pixels; fewer in a tile say nothing of its scale

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DateModel:
    """Mean (D,) and covariance (D, D) of the values that a pixel has on D dates; the first is the target."""

    mean: FloatArray
    covariance: FloatArray

    @classmethod
    def estimated(cls, dates: FloatArray) -> "DateModel":
        """By EM from (D, N) values, NaN where unknown; of many pixels a random subset is taken."""
        seen = np.isfinite(dates)
        usable = np.flatnonzero(seen.any(axis=0))
        chosen = np.random.default_rng(0).choice(usable, min(EM_PIXELS, len(usable)), replace=False)
        known = seen[:, chosen].T.astype(np.float64)
        values = np.nan_to_num(dates[:, chosen].T)
        mean = np.array([row[has].mean() if has.any() else 0.0 for row, has in zip(dates, seen, strict=True)])
        std = np.array([row[has].std() if has.any() else 0.0 for row, has in zip(dates, seen, strict=True)])
        covariance = 0.5 * np.diag(std**2 + LEAST_VARIANCE) + 0.5 * np.outer(std, std)
        diagonal = np.arange(len(mean))
        for _ in range(EM_ITERATIONS):
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
        seen = np.isfinite(dates)
        seen[date] = False
        patterns, which = np.unique(np.packbits(seen, axis=0), axis=1, return_inverse=True)
        out = np.empty(dates.shape[1])
        for number in range(patterns.shape[1]):
            pixels = np.flatnonzero(which == number)
            given = seen[:, pixels[0]]
            weights = np.linalg.solve(self.covariance[np.ix_(given, given)], self.covariance[given, date])
            out[pixels] = self.mean[date] + weights @ (dates[np.ix_(given, pixels)] - self.mean[given, None])
        return out


@dataclass(frozen=True, eq=False)
class ArchiveField:
    """What an archive tells of an array."""

    mean: FloatArray  # (H, W): known values where known, NaN outside known and missing pixels
    sigma: FloatArray  # (H, W): 0 where not missing
    deviates: FloatArray  # (K, H, W): of K coherent samples ``mean + sigma * deviate``; 0 where not missing
    error_quantiles: Mapping[str, float]  # level -> quantile of error / sigma on the transplanted gap; may be empty


def archive_field(
    values: NDArray[np.floating],
    known: BoolArray,
    missing: BoolArray,
    others: NDArray[np.floating],
    *,
    noise: NDArray[np.floating] | None = None,
) -> ArchiveField:
    """Tell ``missing`` pixels (H, W) from the ``known`` ones of ``values``, one or more, and other dates (K, H, W).

    ``others`` are NaN where unknown. ``noise`` (4, S, H, W) is standard normal, for S samples
    (`lacunar.interpolate.gmrf.MarkovField.draws`); None draws none.
    """
    noise = np.zeros((4, 0, *known.shape)) if noise is None else noise
    mean, sigma, deviates = _told(values, known, missing, others, noise)
    hidden = _transplanted(known, missing)
    quantiles: dict[str, float] = {}
    if hidden.any():
        shown = known & ~hidden
        tried, raw, _ = _told(values, shown, missing | hidden, others, noise[:, :0])
        errors, distances = (values - tried)[hidden] / raw[hidden], _distance(shown)[hidden]
        factors = _factors(errors, distances)
        sigma = sigma * factors[np.digitize(_distance(known), DISTANCE_CLASSES)]
        scaled = errors / factors[np.digitize(distances, DISTANCE_CLASSES)]
        quantiles = {f"{level:g}": float(np.quantile(scaled, level)) for level in LEVELS}
    return ArchiveField(mean, sigma, deviates, quantiles)


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


def _told(
    values: NDArray[np.floating],
    known: BoolArray,
    missing: BoolArray,
    others: NDArray[np.floating],
    noise: NDArray[np.floating],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, sigma before it is scaled, and deviates."""
    dates = np.concatenate([np.where(known, values, np.nan)[None], others]).astype(np.float64)
    dates = dates[[0, *(1 + np.flatnonzero(np.isfinite(others).any(axis=(1, 2))))]]
    model = DateModel.estimated(dates.reshape(len(dates), -1))
    expected = model.expectation(completed(dates, model).reshape(len(dates), -1), 0).reshape(known.shape)
    residual = np.where(known, values - expected, 0.0)
    terms, overall = _by_scale(expected), float(residual[known].std())
    tiles = tiles_touching(tiles_over(known.shape, tile=TILE, overlap=OVERLAP), missing)
    if not tiles:
        nothing = np.zeros((noise.shape[1], *known.shape))
        return np.where(known, values, np.nan), np.zeros(known.shape), nothing
    patches = []
    for tile in tiles:
        here, lost = known[tile.slices], missing[tile.slices]
        field = MarkovField(here, lost)
        fit = field.fit(residual[tile.slices], terms[:, *tile.slices], range(len(terms)))
        if here.sum() < LEAST_KNOWN:
            fit = replace(fit, scale=max(fit.scale, overall))
        own = np.random.default_rng(0).standard_normal((4, SIGMA_DRAWS, *tile.shape))
        patch = np.zeros((2 + noise.shape[1], *tile.shape))
        patch[0] = np.nan_to_num(fit.mean)
        unit = field.draws(own)
        sigma, of_field = field.sigma(fit, unit), field.sigma(replace(fit, covariance=0 * fit.covariance), unit)
        patch[1, lost] = sigma**2
        patch[2:, lost] = fit.scale * field.draws(noise[:, :, *tile.slices]) * sigma / of_field
        patches.append(patch)
    weights = blend_weights(tiles[0].shape, overlap=OVERLAP)
    mean, variance, *drawn = stitch(np.stack(patches), tiles, shape=known.shape, weights=weights)
    sigma = np.where(missing, np.sqrt(variance), 0.0)
    deviates = np.array(drawn).reshape(noise.shape[1], *known.shape)
    return (
        np.where(known, values, np.where(missing, expected + mean, np.nan)),
        sigma,
        np.divide(deviates, sigma, out=np.zeros_like(deviates), where=sigma > 0),
    )


def _by_scale(field: FloatArray) -> FloatArray:
    """(3, H, W): fine, middle and coarse parts of a field, in units of its standard deviation."""
    unit = (field - field.mean()) / max(float(field.std()), LEAST_VARIANCE)
    smooth = [unit, *(ndimage.gaussian_filter(unit, scale, mode="nearest") for scale in SCALES)]
    return np.stack([smooth[0] - smooth[1], smooth[1] - smooth[2], smooth[2]])


def _transplanted(known: BoolArray, missing: BoolArray) -> BoolArray:
    """The gap turned by 180 degrees (or mirrored, where that hides little), on measured pixels."""
    turned = missing[::-1, ::-1] & known
    mirrored = missing[:, ::-1] & known
    hidden = turned if turned.sum() >= mirrored.sum() else mirrored
    return hidden if known.sum() - hidden.sum() >= LEAST_KNOWN else np.zeros_like(known)


def _distance(known: BoolArray) -> FloatArray:
    """Pixels to the nearest measured one."""
    return np.asarray(ndimage.distance_transform_edt(~known))


def _factors(errors: FloatArray, distances: FloatArray) -> FloatArray:
    """For each class of distance, what sigma has to be multiplied by: the root mean square of error over sigma."""
    overall = float(np.sqrt(np.mean(errors**2)))
    classes = np.digitize(distances, DISTANCE_CLASSES)
    factors = np.full(len(DISTANCE_CLASSES) + 1, overall)
    for number in range(len(factors)):
        of = errors[classes == number]
        if len(of) >= LEAST_TRANSPLANTED:
            factors[number] = np.sqrt(np.mean(of**2))
    return factors
