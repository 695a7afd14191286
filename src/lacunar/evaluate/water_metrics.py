"""How well water was found, beyond counts of pixels: shore lines, lakes by size, honesty of the probability.

Masks are boolean (H, W), True = water; `valid` is True where the truth is known. Everything comes as counts, to be
added up over images before a ratio is taken.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from lacunar.errors import LacunarError
from lacunar.metrics import ratio

BOUNDARY_TOLERANCE = 2.0  # pixels between the centres of a shore and the shore that it matches
LAKE_SIZES = (100, 1000, 10_000)  # pixels of a water body: edges of the classes, the upper one included
LAKE_REACH = 10.0  # pixels: false water at most so far from a lake counts against it
FOUND_SHARE = 0.5  # of a lake's pixels: found where so many or more are
PROBABILITY_BINS = 10  # of equal width, 0 .. 1

_SIDES = ndimage.generate_binary_structure(2, 1)  # a pixel and its 4 neighbours
_CORNERS = ndimage.generate_binary_structure(2, 2)  # and its 8: a river one pixel wide stays one body

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BoundaryHits:
    """Pixels of two shores, and how many of each lie within the tolerance of the other; numbers or arrays of one shape.

    Parameters
    ----------
    estimated, estimated_hits
        Shore pixels of the estimate; those near the true shore.
    true, true_hits
        Shore pixels of the truth; those near the estimated shore.

    Examples
    --------
    >>> float(BoundaryHits(4, 2, 8, 4).f1)
    0.5
    """

    estimated: ArrayLike
    estimated_hits: ArrayLike
    true: ArrayLike
    true_hits: ArrayLike

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of both shares; 1 where there is no shore in either, 0 where there is one in one of them."""
        precision, recall = ratio(self.estimated_hits, self.estimated), ratio(self.true_hits, self.true)
        one_sided = (np.asarray(self.estimated) == 0) != (np.asarray(self.true) == 0)
        both = precision + recall
        return np.where(
            one_sided, 0.0, np.divide(2 * precision * recall, both, out=np.zeros(both.shape), where=both > 0)
        )


def shore(mask: BoolArray, valid: BoolArray) -> BoolArray:
    """Water pixels with land beside them (4 neighbours); where the image or what is known ends is no shore.

    Examples
    --------
    >>> water = np.array([[True, True, False, False]])
    >>> shore(water, np.ones((1, 4), bool)).tolist()
    [[False, True, False, False]]
    """
    return np.asarray(mask & valid & ndimage.binary_dilation(~mask & valid, structure=_SIDES))


def boundary_hits(
    estimate: BoolArray, truth: BoolArray, *, valid: BoolArray, tolerance: float = BOUNDARY_TOLERANCE
) -> BoundaryHits:
    """Match the estimated shore with the true one.

    Parameters
    ----------
    estimate, truth, valid
        (H, W), boolean.
    tolerance
        Greatest Euclidean distance of a match, in pixels.

    Raises
    ------
    LacunarError
        Shapes or types that differ, or a negative tolerance.

    References
    ----------
    Csurka, Larlus, Perronnin (2013), What is a good evaluation measure for semantic segmentation?, BMVC, section 2.2;
    Perazzi et al. (2016), A benchmark dataset and evaluation methodology for video object segmentation, CVPR, Eq. 2.
    """
    _check(estimate, truth, valid)
    if not tolerance >= 0:
        raise LacunarError(f"got a tolerance of {tolerance} pixels; wanted 0 or more")
    ours, theirs = shore(estimate, valid), shore(truth, valid)
    return BoundaryHits(
        int(ours.sum()), _near(ours, theirs, tolerance), int(theirs.sum()), _near(theirs, ours, tolerance)
    )


def _near(pixels: BoolArray, others: BoolArray, tolerance: float) -> int:
    """How many of these pixels have one of the others within the tolerance."""
    if not others.any():
        return 0
    return int(np.count_nonzero(ndimage.distance_transform_edt(~others)[pixels] <= tolerance))


@dataclass(frozen=True, eq=False)
class LakeCounts:
    """Lakes of each size class, small to large, and last the false water far from all lakes; each (classes + 1,).

    Parameters
    ----------
    lakes, found
        Water bodies of the truth; those of which half or more was found.
    both, only_truth, only_estimate
        Pixels of these lakes that were found; that were missed; false water nearest to them.
    """

    lakes: NDArray[np.int64]
    found: NDArray[np.int64]
    both: NDArray[np.int64]
    only_truth: NDArray[np.int64]
    only_estimate: NDArray[np.int64]


def lake_counts(estimate: BoolArray, truth: BoolArray, *, valid: BoolArray) -> LakeCounts:
    """Share out right, missed and false water over the lakes of the truth, by their size.

    A lake is a body of true water joined by sides or corners; one that the image cuts counts with what is inside.
    False water counts against the nearest lake, up to `LAKE_REACH`.

    Raises
    ------
    LacunarError
        Shapes or types that differ.

    Examples
    --------
    >>> truth = np.zeros((3, 40), bool)
    >>> truth[1, 1:5] = True
    >>> guess = np.roll(truth, 2, axis=1)
    >>> guess[1, -1] = True
    >>> counts = lake_counts(guess, truth, valid=np.ones(truth.shape, bool))
    >>> counts.found.tolist(), counts.only_estimate.tolist()
    ([1, 0, 0, 0, 0], [2, 0, 0, 0, 1])
    """
    _check(estimate, truth, valid)
    water, guess = truth & valid, estimate & valid
    lakes, number = ndimage.label(water, structure=_CORNERS)
    classes = len(LAKE_SIZES) + 1
    sizes = np.bincount(lakes.ravel(), minlength=number + 1)[1:]
    hits = np.bincount(lakes[guess], minlength=number + 1)[1:]
    size_class = np.searchsorted(LAKE_SIZES, sizes)
    false = np.full(int(np.count_nonzero(guess & ~water)), classes)
    if number:
        distance, nearest = ndimage.distance_transform_edt(~water, return_indices=True)
        wrong = guess & ~water
        owner = size_class[lakes[tuple(nearest[:, wrong])] - 1]
        false = np.where(distance[wrong] <= LAKE_REACH, owner, classes)

    def summed(values: NDArray[np.integer]) -> NDArray[np.int64]:
        return np.bincount(size_class, weights=values, minlength=classes + 1).astype(np.int64)

    return LakeCounts(
        lakes=np.bincount(size_class, minlength=classes + 1),
        found=summed((hits >= FOUND_SHARE * sizes).astype(np.int64)),
        both=summed(hits),
        only_truth=summed(sizes - hits),
        only_estimate=np.bincount(false, minlength=classes + 1),
    )


@dataclass(frozen=True, eq=False)
class ProbabilityCounts:
    """How probabilities of water compare with how often there was water, in bins of equal width; each (bins,).

    Parameters
    ----------
    pixels, claimed, water
        Pixels, the sum of their probabilities, and those that are water.
    squares
        Sum of squared differences between probability and truth (0 or 1).
    """

    pixels: NDArray[np.float64]
    claimed: NDArray[np.float64]
    water: NDArray[np.float64]
    squares: NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float:
        """Mean gap between claimed and observed share, weighted by pixels (Naeini et al. 2015)."""
        return float(np.abs(self.claimed - self.water).sum() / self.pixels.sum())

    @property
    def brier(self) -> float:
        """Mean squared difference between probability and truth (Brier 1950): 0 is perfect."""
        return float(self.squares.sum() / self.pixels.sum())


def probability_counts(
    probability: NDArray[np.floating], truth: BoolArray, *, valid: BoolArray, bins: int = PROBABILITY_BINS
) -> ProbabilityCounts:
    """Sort the valid pixels into bins of their probability.

    Raises
    ------
    LacunarError
        Shapes or types that differ, or a probability of a valid pixel that is not in 0 .. 1.

    Examples
    --------
    >>> counts = probability_counts(np.array([[0.1, 0.9]]), np.array([[False, True]]), valid=np.ones((1, 2), bool))
    >>> round(counts.expected_calibration_error, 3), round(counts.brier, 3)
    (0.1, 0.01)
    """
    _check(truth, truth, valid)
    if probability.shape != truth.shape:
        raise LacunarError(f"got probabilities {probability.shape} of masks {truth.shape}; wanted the same shape")
    claimed, water = probability[valid].astype(np.float64), truth[valid].astype(np.float64)
    if not np.all((claimed >= 0) & (claimed <= 1)):  # NaN fails too
        raise LacunarError("got probabilities outside 0 .. 1, or NaN, on valid pixels; wanted a share of each")
    place = np.minimum((claimed * bins).astype(np.int64), bins - 1)

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(place, weights=values, minlength=bins).astype(np.float64)

    pixels = np.ones(claimed.size)
    return ProbabilityCounts(summed(pixels), summed(claimed), summed(water), summed((claimed - water) ** 2))


def _check(estimate: BoolArray, truth: BoolArray, valid: BoolArray) -> None:
    """Refuse masks that do not fit one another."""
    arrays = (estimate, truth, valid)
    if len({array.shape for array in arrays}) > 1 or truth.ndim != 2 or any(a.dtype != np.bool_ for a in arrays):
        got = ", ".join(f"{array.dtype} {array.shape}" for array in arrays)
        raise LacunarError(f"got estimate, truth and valid as {got}; wanted bool (H, W) of one shape")
