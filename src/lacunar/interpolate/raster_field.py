"""One statistical model of a raster, fitted once on a sample of its windows and used by every block.

``value = base + residual``. Without other dates the base is the mean of the raster. With some it is the expectation of
the target given them (`lacunar.interpolate.archive_field`), whose fine, middle and coarse parts are weighted by
generalised least squares with a ridge that maximises the marginal likelihood. The residual is a Gaussian Markov random
field (`lacunar.interpolate.gmrf`), continued over the edges of a block by the same field on block means. Samples are
drawn from another such field, whose variogram is that of the residual (`lacunar.interpolate.texture`). The scale of
sigma, by distance from a measured pixel, is what gaps transplanted onto measured pixels of the sample tell. Where other
dates tell little, such as radar of sea, these gaps decide whether they are used at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from lacunar.interpolate.archive_field import LEAST_VARIANCE, DateModel, completed
from lacunar.interpolate.background import CoarseField
from lacunar.interpolate.gmrf import RANGE, SMOOTHNESS, MarkovField, pixel_noise
from lacunar.interpolate.texture import Texture, texture_of

VIEW, MOST_VIEWS = 288, 6  # side in pixels, and number, of the windows that a raster is judged by
WHOLE = 400  # pixels: a raster that is no larger is one view
WINDOW_PIXELS = 1000  # of each window that is read, for the statistics of dates
RESIDUAL_RANGE, RESIDUAL_SMOOTHNESS = 64.0, 0.3  # pixels and squared pixels; on training places, as RANGE
SCALES = (2.0, 8.0)  # standard deviations of the Gaussian filters that part fine, middle and coarse, in pixels
RIDGES = (1e-4, 1e-2, 1.0, 1e2, 1e4)  # prior precisions of drift coefficients that are tried
SWEEPS = 2  # over the parts, when their ridges are chosen
DISTANCES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # pixels to the nearest measured one: where factors of sigma are fitted
LEVELS = (0.5, 0.75, 0.84, 0.95, 0.975, 0.995)  # and their opposites: where quantiles of errors are told
WITHIN_SIGMA = 0.6827  # share of the errors within one sigma
LEAST_TRANSPLANTED = 100  # pixels at a distance, below which the factor of all pixels counts
LEAST_KNOWN = 16  # pixels that a transplanted gap has to leave
SIGMA_DRAWS, SIGMA_SEED = 8, 7
LITTLE = 0.4  # share of the variance that other dates leave, from which on transplanted gaps decide on them
WORTH_IT = 0.93  # of the error without them, that theirs may be: one transplanted gap errs by some per cent
REFITS = 4  # iterations of EM, from the fit that knows all, for dates without what a transplanted gap hides

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class View:
    """A window of a raster: values, known and missing pixels (H, W), and K other dates, NaN where unknown."""

    values: NDArray[np.floating]
    known: BoolArray
    missing: BoolArray
    others: NDArray[np.floating]  # (K, H, W)
    origin: tuple[int, int] = (0, 0)  # row and column in the raster

    def part(self, row: int, col: int, side: int) -> "View":
        """A square of it."""
        cut = (slice(row, row + side), slice(col, col + side))
        origin = (self.origin[0] + row, self.origin[1] + col)
        planes = (self.values[cut].copy(), self.known[cut].copy(), self.missing[cut].copy())
        return View(*planes, self.others[:, *cut].copy(), origin)

    def dates(self) -> FloatArray:
        """(1 + K, H, W): the target, NaN where it is not known, and the others."""
        return np.concatenate([np.where(self.known, self.values, np.nan)[None], self.others]).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Told:
    """What is told of a window."""

    mean: FloatArray  # (H, W): measured values where known, NaN outside known and missing pixels
    sigma: FloatArray  # (H, W): 0 where not missing
    deviates: FloatArray  # (K, H, W): of K coherent samples ``mean + sigma * deviate``; 0 where not missing


class RasterSample:
    """Views and pixels of a raster that is read window by window."""

    def __init__(self) -> None:
        self._views: list[tuple[int, View]] = []
        self._pixels: list[FloatArray] = []

    def add(self, window: View) -> None:
        """Take the view of a window that shows most measured pixels beside a gap, and some pixels of it."""
        height, width = window.known.shape
        if max(height, width) <= WHOLE:
            self._views.append((0, window))
        else:
            rows, cols = (range(0, max(1, length - VIEW + 1), VIEW // 2) for length in (height, width))
            parts = [window.part(row, col, VIEW) for row in rows for col in cols]
            best = max(parts, key=_worth)
            self._views = sorted([*self._views, (_worth(best), best)], key=lambda one: -one[0])[:MOST_VIEWS]
        if len(window.others):
            flat = window.dates().reshape(1 + len(window.others), -1)
            usable = np.flatnonzero(np.isfinite(flat).any(axis=0))
            rng = np.random.default_rng(window.origin)
            self._pixels.append(flat[:, rng.choice(usable, min(WINDOW_PIXELS, len(usable)), replace=False)])

    def fitted(self, coarse: CoarseField) -> "RasterField":
        """The model of the raster, whose block means are ``coarse``, those of the other dates among its guides."""
        views = [view for _, view in self._views if view.known.any()]
        pixels = np.concatenate(self._pixels, axis=1) if self._pixels else None
        return _fitted(views, pixels, coarse)


def _worth(view: View) -> int:
    return int(view.known.sum()) * (1 + int(view.missing.sum()))


@dataclass(frozen=True, eq=False)
class RasterField:
    """The model of a raster."""

    centre: float  # mean of its measured pixels
    dates: DateModel | None = None
    used: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))  # dates that show anything, of all
    unit: tuple[float, float] = (0.0, 1.0)  # mean and standard deviation of the expectation given other dates
    coefficients: FloatArray = field(default_factory=lambda: np.zeros(0))  # of its fine, middle and coarse parts
    scale: float = 1.0  # of the residual
    texture: Texture | None = None  # of its samples; without, that of the field of the mean
    plain_scale: float = 1.0  # of the values themselves
    factors: FloatArray = field(default_factory=lambda: np.ones(len(DISTANCES)))  # of sigma, at `DISTANCES`
    plain_factor: float = 1.0  # and where no other date tells anything
    # level -> quantile of error / sigma on transplanted gaps; may be empty
    error_quantiles: Mapping[str, float] = field(default_factory=dict)
    rough: bool = True  # with other dates: whether the residual is rougher and shorter than the values themselves
    far: FloatArray = field(default_factory=lambda: np.zeros((1, 1)))  # residual of block means, completed
    reduction: int = 0  # pixels in a cell of ``far``; 0 where there are no block means

    def told(
        self, view: View, *, noise: NDArray[np.floating] | None = None, threads: int = 1, unit_sigma: bool = False
    ) -> Told:
        """Tell the missing pixels of a window from its known ones.

        ``noise`` (K, H, W) is standard normal, for K samples. With ``unit_sigma`` sigma is not scaled by `factors`.
        """
        shape = view.known.shape
        noise = np.zeros((0, *shape), dtype=np.float32) if noise is None else noise
        noise = np.concatenate([pixel_noise(shape, view.origin, SIGMA_DRAWS, SIGMA_SEED), noise])
        base, informed = self.base(view), self.informed(view)
        residual, held = self._continued(np.where(view.known, view.values - base, 0.0), view)
        given = view.known | held
        markov = self.markov(given, view.missing & informed & ~held)
        texture, scale = (None, self.scale) if self.texture is None else (self.texture.on(markov), self.texture.scale)
        residual, draws = markov.with_draws(residual, noise, texture=texture, threads=threads)
        mean, draws = base + residual, scale * draws
        variance = np.where(held, self.scale**2, markov.variance(draws[:SIGMA_DRAWS]))
        left = view.missing & ~(given | informed)
        if left.any():  # no date tells of them: the field of the values themselves, beside what is told by now
            plain = MarkovField(~left & (view.known | view.missing), left)
            around, own = plain.with_draws(mean - self.centre, noise, threads=threads)
            mean[left] = around[left] + self.centre
            draws = plain.completed(draws, threads=threads) + self.plain_scale * own
            variance[left] = plain.variance(draws[:SIGMA_DRAWS])[left]
        deviation = np.sqrt(variance)
        factor = 1.0 if unit_sigma else self._factor(ndimage.distance_transform_edt(~view.known), informed)
        deviates = draws[SIGMA_DRAWS:] / np.where(deviation > 0, deviation, 1.0)
        return Told(
            mean=np.where(view.known, view.values, np.where(view.missing, mean, np.nan)),
            sigma=np.where(view.missing, deviation * factor, 0.0),
            deviates=np.where(view.missing, deviates, 0.0),
        )

    def markov(self, known: BoolArray, missing: BoolArray) -> MarkovField:
        """The residual's field: rougher and shorter than that of the values, where other dates tell the rest."""
        beside = (
            {}
            if self.dates is None or not self.rough
            else {"correlation_range": RESIDUAL_RANGE, "smoothness": RESIDUAL_SMOOTHNESS}
        )
        return MarkovField(known, missing, **beside)

    def informed(self, view: View) -> BoolArray:
        """(H, W): where other dates tell of the target what they can; everywhere without any."""
        if self.dates is None:
            return np.ones(view.known.shape, dtype=bool)
        dates = view.dates()[self.used].reshape(len(self.used), -1)
        return self.dates.informed(dates).reshape(view.known.shape)

    def base(self, view: View) -> FloatArray:
        """(H, W): what is expected of the target where nothing around is known."""
        expected = self.expected(view)
        return expected + np.tensordot(self.coefficients, self.parts(expected), axes=1)

    def expected(self, view: View) -> FloatArray:
        """(H, W): expectation of the target given the other dates."""
        if self.dates is None:
            return np.full(view.known.shape, self.centre)
        full = completed(view.dates()[self.used], self.dates)
        return self.dates.expectation(full.reshape(len(full), -1), 0).reshape(view.known.shape)

    def parts(self, expected: FloatArray) -> FloatArray:
        """(3, H, W): fine, middle and coarse parts of the expectation in its own units; none without other dates."""
        if self.dates is None:
            return np.zeros((0, *expected.shape))
        unit = (expected - self.unit[0]) / self.unit[1]
        smooth = [unit, *(ndimage.gaussian_filter(unit, scale, mode="nearest") for scale in SCALES)]
        return np.stack([smooth[0] - smooth[1], smooth[1] - smooth[2], smooth[2]])

    def _continued(self, residual: FloatArray, view: View) -> tuple[FloatArray, BoolArray]:
        """The residual with that of block means at missing pixels where the window cuts a gap, and where that is."""
        held = np.zeros(view.known.shape, dtype=bool)
        if self.reduction:
            ends = [cells * self.reduction for cells in self.far.shape]
            row, col = view.origin
            height, width = view.known.shape
            held[: 2 if row else 0] = held[:, : 2 if col else 0] = True
            held[height - 2 if row + height < ends[0] - self.reduction else height :] = True
            held[:, width - 2 if col + width < ends[1] - self.reduction else width :] = True
            held &= view.missing
            places = (np.argwhere(held) + view.origin + 0.5).T / self.reduction - 0.5
            residual[held] = ndimage.map_coordinates(self.far, places, order=1, mode="nearest")
        return residual, held

    def _factor(self, distance: FloatArray, informed: BoolArray) -> FloatArray:
        by_distance = np.interp(np.log2(np.maximum(distance, 1.0)), np.log2(DISTANCES), self.factors)
        return np.where(informed, by_distance, self.plain_factor)


def _fitted(views: Sequence[View], pixels: FloatArray | None, coarse: CoarseField) -> RasterField:
    """The model of a raster from a sample of it."""
    centre = float(np.average(coarse.values[coarse.known]))
    model = RasterField(centre)
    if pixels is not None:
        used = np.concatenate([[0], 1 + np.flatnonzero(np.isfinite(pixels[1:]).any(axis=1))])
        if len(used) > 1 and np.isfinite(pixels[0]).any():
            model = replace(model, dates=DateModel.estimated(pixels[used]), used=used)
    if views:
        little = model.dates is not None and model.dates.left_by_all > LITTLE
        model, error = _calibrated(_weighted(replace(model, rough=not little), views), views)
        if little:
            alone, without = _calibrated(_weighted(RasterField(centre), views), views)
            model = alone if error > WORTH_IT * without else model
    return _with_far(model, coarse)


def _weighted(model: RasterField, views: Sequence[View]) -> RasterField:
    """Coefficients of the expectation's parts, and the scale of what they leave."""
    expected = [model.expected(view) for view in views]
    if model.dates is not None:
        every = np.concatenate([one.ravel() for one in expected])
        model = replace(model, unit=(float(every.mean()), max(float(every.std()), LEAST_VARIANCE)))
    products, count, plain, pixels = np.zeros(2 * [1 + (0 if model.dates is None else 1 + len(SCALES))]), 0, 0.0, 0
    for view, one in zip(views, expected, strict=True):
        informed = model.informed(view)
        known = view.known & informed
        markov = model.markov(known, view.missing & informed)
        residual = np.where(view.known, view.values - one, 0.0)
        products += markov.products(markov.completed(np.concatenate([residual[None], model.parts(one)])))
        count += int(known.sum())
        if model.dates is not None:
            markov = MarkovField(view.known, view.missing)
            plain += markov.products(markov.completed((view.values - model.centre)[None]))[0, 0]
            pixels += int(view.known.sum())
    coefficients, scale_squared = _ridged(products, count)
    scale = float(np.sqrt(scale_squared))
    plain_scale = scale if model.dates is None else float(np.sqrt(max(plain / max(pixels, 1), LEAST_VARIANCE)))
    model = replace(model, coefficients=coefficients, scale=scale, plain_scale=plain_scale)
    residuals = [
        np.where(view.known, view.values - one - np.tensordot(coefficients, model.parts(one), axes=1), np.nan)
        for view, one in zip(views, expected, strict=True)
    ]
    return replace(model, texture=texture_of(residuals))


def _calibrated(model: RasterField, views: Sequence[View]) -> tuple[RasterField, float]:
    """Factors of sigma and quantiles of errors, on gaps transplanted onto measured pixels, and the RMSE there."""
    hidden = [_transplanted(view) for view in views]
    shown = [
        replace(view, known=view.known & ~hide, missing=view.missing | hide)
        for view, hide in zip(views, hidden, strict=True)
    ]
    if not any(hide.any() for hide in hidden):
        return model, 0.0
    tried = model
    if model.dates is not None:
        flat = np.concatenate([view.dates()[model.used].reshape(len(model.used), -1) for view in shown], axis=1)
        tried = replace(model, dates=DateModel.estimated(flat, start=model.dates, iterations=REFITS))
    tried = replace(_weighted(tried, shown), texture=model.texture)
    ratio = tried.scale / model.scale if model.texture is None else 1.0
    errors, distances, informed, squares = [], [], [], []
    for view, less, hide in zip(views, shown, hidden, strict=True):
        told = tried.told(less, unit_sigma=True)
        squares.append((view.values - told.mean)[hide] ** 2)
        errors.append((view.values - told.mean)[hide] / told.sigma[hide] * ratio)
        distances.append(ndimage.distance_transform_edt(~less.known)[hide])
        informed.append(tried.informed(less)[hide])
    error, distance, told_of = np.concatenate(errors), np.concatenate(distances), np.concatenate(informed)
    if told_of.any():
        model = replace(model, factors=_factors(error[told_of], distance[told_of]))
    if np.sum(~told_of) >= LEAST_TRANSPLANTED:
        model = replace(model, plain_factor=_usual(error[~told_of]))
    scaled = np.abs(error) / np.maximum(model._factor(distance, told_of), LEAST_VARIANCE)
    # The errors of one gap lean to one side by chance, and its tail is short: sizes alone, no less than normal ones.
    sizes = np.maximum(np.quantile(scaled, 2 * np.array(LEVELS) - 1), special.ndtri(LEVELS))
    sizes[0] = 0.0
    quantiles = {f"{1 - level:g}": -float(size) for level, size in zip(LEVELS, sizes, strict=True)}
    quantiles |= {f"{level:g}": float(size) for level, size in zip(LEVELS, sizes, strict=True)}
    return replace(model, error_quantiles=quantiles), float(np.sqrt(np.mean(np.concatenate(squares))))


def _with_far(model: RasterField, coarse: CoarseField) -> RasterField:
    """The model with the residual of block means, completed where there are none."""
    others = np.array([np.where(one.known, one.values, np.nan) for one in coarse.guides])
    cells = View(coarse.values, coarse.known, ~coarse.known, others.reshape(-1, *coarse.known.shape))
    base = model.expected(cells)
    if model.dates is not None:
        base = base + model.coefficients[-1] * (base - model.unit[0]) / model.unit[1]
    markov = MarkovField(
        cells.known,
        cells.missing,
        correlation_range=RANGE / coarse.reduction,
        smoothness=SMOOTHNESS / coarse.reduction**2,
    )
    far = markov.completed(np.where(cells.known, coarse.values - base, 0.0)[None])[0]
    return replace(model, far=far, reduction=coarse.reduction)


def _transplanted(view: View) -> BoolArray:
    """The gap turned by 180 degrees (or mirrored, where that hides more), on measured pixels.

    Where neither hides half as many as are missing, as of a gap in the middle, the gap moved by half the view may do.
    """
    gap, half = view.missing, [length // 2 for length in view.missing.shape]
    hidden = max((gap[::-1, ::-1] & view.known, gap[::-1] & view.known), key=np.sum)
    if 2 * hidden.sum() < gap.sum():
        moved = (np.roll(gap, step, axis=(0, 1)) & view.known for step in ((half[0], 0), (0, half[1]), half))
        hidden = max((hidden, *moved), key=np.sum)
    return hidden if view.known.sum() - hidden.sum() >= LEAST_KNOWN else np.zeros_like(hidden)


def _factors(errors: FloatArray, distances: FloatArray) -> FloatArray:
    """At each of `DISTANCES`, what sigma has to be multiplied by, for `_usual` errors of size 1."""
    places = np.rint(np.interp(np.log2(distances), np.log2(DISTANCES), np.arange(len(DISTANCES))))
    factors = np.full(len(DISTANCES), _usual(errors))
    for number in range(len(factors)):
        of = errors[places == number]
        if len(of) >= LEAST_TRANSPLANTED:
            factors[number] = _usual(of)
        elif number:
            factors[number] = factors[number - 1]
    return factors


def _usual(errors: FloatArray) -> float:
    """Between the size that 68 % of the errors do not exceed and their root mean square, which few large ones widen."""
    return float(np.sqrt(np.quantile(np.abs(errors), WITHIN_SIGMA) * np.sqrt(np.mean(errors**2))))


def _ridged(products: FloatArray, count: int) -> tuple[FloatArray, float]:
    """Coefficients and s^2 for the ridges of greatest marginal likelihood, one for each drift field.

    ``products`` are f'Qf of the completed value (first) and drift fields: exactly those of the known pixels alone.
    """
    total, gram, cross = products[0, 0], products[1:, 1:], products[1:, 0]

    def tried(ridges: Sequence[float]) -> tuple[float, FloatArray, float]:
        prior = np.asarray(ridges) * max(count, 1) / 1e4
        system = gram + np.diag(prior)
        solved = np.asarray(np.linalg.solve(system, cross), dtype=np.float64)
        scale_squared = max(float(total - cross @ solved) / max(count, 1), LEAST_VARIANCE)
        _, determinant = np.linalg.slogdet(system)
        likelihood = -0.5 * count * np.log(scale_squared) - 0.5 * determinant + 0.5 * np.log(prior).sum()
        return float(likelihood), solved, scale_squared

    ridges = [RIDGES[len(RIDGES) // 2]] * len(cross)
    best = tried(ridges)
    for _ in range(SWEEPS):
        for part in range(len(ridges)):
            for ridge in RIDGES:
                candidate = [*ridges[:part], ridge, *ridges[part + 1 :]]
                found = tried(candidate)
                if found[0] > best[0]:
                    best, ridges = found, candidate
    return best[1], best[2]
