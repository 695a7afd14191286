"""One filler on one case: sums over the gap and over its strata, and whole-image scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar import metrics
from lacunar.errors import LacunarError
from lacunar.evaluate.cases import BoolArray, Case, FloatArray
from lacunar.evaluate.probabilistic import crps_ensemble, crps_gaussian, pit, within_central

DISTANCES = (1, 2, 4, 8, 16, 32)  # pixels to the nearest known one: edges of the strata
GAP_SIZES = (16, 64, 256, 1024, 4096)  # pixels of the connected gap that a pixel belongs to
PIT_BINS = 20
ONE_SAMPLE = "one sample"  # a filler's sample is measured under its name and this
SIGMAS_OF_95 = 1.959964  # half-width of the central 95 % of a normal distribution in standard deviations

# What is summed over pixels: 1, squared, absolute and signed error, CRPS of mean and sigma and of the samples, truth
# within sigma and within the 95 % limits, sigma squared.
SUMS = ("pixels", "squares", "absolute", "errors", "crps", "crps_samples", "in_68", "in_95", "variance")


@dataclass(frozen=True, eq=False)
class Fill:
    """What a filler gives: its best estimate, standard deviation and one sample (H, W); samples (K, H, W).

    `antithetic` says that samples i and i + K/2 come from opposite noise; `evaluations` counts the network's for all
    samples together, `sample_evaluations` for one. `limits` are the bounds of the central 95 %, each (H, W); without
    them it is 1.96 standard deviations.
    """

    mean: NDArray[np.floating]
    sigma: NDArray[np.floating] | None = None
    sample: NDArray[np.floating] | None = None
    samples: NDArray[np.floating] | None = None
    limits: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None
    antithetic: bool = False
    evaluations: int = 0
    sample_evaluations: int = 0


@dataclass(frozen=True, eq=False)
class Measured:
    """One filler on one case: sums over the gap and its strata, and whole-image scores.

    Parameters
    ----------
    case, filler, evaluations
        What was filled, by whom, with how many network evaluations.
    sums
        (kind, stratum) -> sums over its pixels, in the order of `SUMS`; kinds "all", "distance" and "gap size".
    greatest
        As `sums`: greatest absolute error.
    central, pit_counts
        (19,) pixels whose truth lies inside the central intervals of `LEVELS`, (20,) histogram of the probability
        integral transform; None where there is no sigma.
    image_mse, psnr, ssim
        Over the whole image.
    """

    case: Case
    filler: str
    evaluations: int
    sums: Mapping[tuple[str, str], FloatArray]
    greatest: Mapping[tuple[str, str], float]
    central: NDArray[np.int64] | None
    pit_counts: NDArray[np.int64] | None
    image_mse: float
    psnr: float
    ssim: float


def measure(case: Case, filler: str, fill: Fill) -> Measured:
    """Sum errors over the gap of a case and over its strata, and score the whole image.

    Raises
    ------
    LacunarError
        An empty gap, shapes that differ, or NaN in the gap.
    """
    gap, span = case.gap, case.high - case.low
    if not gap.any():
        raise LacunarError(f"case {case.name} has an empty gap: there is nothing to score; hide one pixel or more")
    estimate, truth = np.asarray(fill.mean, dtype=np.float64)[gap], case.values[gap]
    metrics.mse(estimate, truth)  # refuses NaN in the gap
    columns = _columns(fill, gap, truth)
    errors = np.abs(estimate - truth)
    sums, greatest = {}, {}
    for key, chosen in _strata(gap).items():
        sums[key] = columns[:, chosen].sum(axis=1)
        greatest[key] = float(errors[chosen].max())
    central = counts = None
    if fill.sigma is not None:
        shares = pit(estimate, fill.sigma[gap], truth)
        central = within_central(shares)
        counts = np.histogram(shares, PIT_BINS, (0, 1))[0]
    image = np.where(gap, fill.mean, case.values)
    return Measured(
        case=case,
        filler=filler,
        evaluations=fill.evaluations,
        sums=sums,
        greatest=greatest,
        central=central,
        pit_counts=counts,
        image_mse=metrics.mse(image, case.values),
        psnr=metrics.psnr(image, case.values, data_range=span),
        # SSIM compares means too: 0 is the scene's coldest pixel, as 0 is black in the pictures it was made for.
        ssim=metrics.ssim(image - case.low, case.values - case.low, data_range=span),
    )


def _columns(fill: Fill, gap: BoolArray, truth: FloatArray) -> FloatArray:
    """What is summed (columns, gap pixels): in the order of `SUMS`."""
    error = np.asarray(fill.mean, dtype=np.float64)[gap] - truth
    table = np.full((len(SUMS), error.size), np.nan)
    given = {"pixels": np.ones(error.size), "squares": error**2, "absolute": np.abs(error), "errors": error}
    given["crps"] = np.abs(error)
    if fill.sigma is not None:
        sigma = np.asarray(fill.sigma, dtype=np.float64)[gap]
        given["crps"] = crps_gaussian(error, sigma, np.zeros(error.size))
        given["in_68"] = np.abs(error) <= sigma
        low, high = fill.limits or (fill.mean - SIGMAS_OF_95 * fill.sigma, fill.mean + SIGMAS_OF_95 * fill.sigma)
        given["in_95"] = (low[gap] <= truth) & (truth <= high[gap])
        given["variance"] = sigma**2
    if fill.samples is not None and len(fill.samples) >= (4 if fill.antithetic else 2):
        given["crps_samples"] = crps_ensemble(fill.samples[:, gap], truth, antithetic=fill.antithetic)
    for name, column in given.items():
        table[SUMS.index(name)] = column
    return table


def _strata(gap: BoolArray) -> dict[tuple[str, str], BoolArray]:
    """The strata of a gap's pixels, each True for its members; those of a kind share out the gap."""
    distance = ndimage.distance_transform_edt(gap)[gap]
    parts, _ = ndimage.label(gap)
    size = np.bincount(parts.ravel())[parts[gap]]
    strata: dict[tuple[str, str], BoolArray] = {("all", "all"): np.ones(int(gap.sum()), dtype=bool)}
    kinds: tuple[tuple[str, FloatArray, tuple[int, ...]], ...] = (
        ("distance", distance, DISTANCES),
        ("gap size", size, GAP_SIZES),
    )
    for kind, values, edges in kinds:
        number = np.searchsorted(edges, values)
        strata |= {(kind, stratum_names(edges)[i]): number == i for i in np.unique(number)}
    return strata


def stratum_names(edges: Sequence[int]) -> list[str]:
    """Names of the strata between these edges, the upper one included.

    Examples
    --------
    >>> stratum_names((1, 2))
    ['up to 1 px', '1 to 2 px', 'over 2 px']
    """
    between = [f"{low} to {high} px" for low, high in pairwise(edges)]
    return [f"up to {edges[0]} px", *between, f"over {edges[-1]} px"]
