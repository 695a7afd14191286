"""How well water was found, beyond counts of pixels: shore lines, lakes by size, calibration of the probability.

Masks are boolean (H, W), True = water; `valid` is True where the truth is known. Everything comes as counts by name, to
be added up over images before a ratio is taken.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from lacunar.errors import LacunarError
from lacunar.metrics import ratio

THIN = 2  # pixels: water of this width or less is thin
BOUNDARY_TOLERANCE = 2.0  # pixels between the centres of a shore and the shore that it matches
LAKE_SIZES = (100, 1000, 10_000)  # pixels of a water body: edges of the classes, the upper one included
LAKE_REACH = 10.0  # pixels: false water at most so far from a lake counts against it
FOUND_SHARE = 0.5  # of a lake's pixels: found where so many or more are
PROBABILITY_BINS = 10  # of equal width, 0 .. 1
ERROR_BINS, BINS_PER_HALVING = 16, 1.5  # of the chance of error, from 0.5 down

_SIDES = ndimage.generate_binary_structure(2, 1)  # a pixel and its 4 neighbours
_CORNERS = ndimage.generate_binary_structure(2, 2)  # and its 8: a river one pixel wide stays one body

BoolArray = NDArray[np.bool_]


def shore(mask: BoolArray, valid: BoolArray) -> BoolArray:
    """Water pixels with land beside them (4 neighbours); where the image or what is known ends is no shore.

    >>> water = np.array([[True, True, False, False]])
    >>> shore(water, np.ones((1, 4), bool)).tolist()
    [[False, True, False, False]]
    """
    return np.asarray(mask & valid & ndimage.binary_dilation(~mask & valid, structure=_SIDES))


def boundary_counts(
    estimate: BoolArray, truth: BoolArray, *, valid: BoolArray, tolerance: float = BOUNDARY_TOLERANCE
) -> dict[str, int]:
    """Pixels of the estimated and of the true shore, and how many of each lie within the tolerance of the other.

    Shapes or types that differ, or a negative tolerance, are a `LacunarError`. Reference: Csurka, Larlus, Perronnin
    (2013), What is a good evaluation measure for semantic segmentation?, BMVC, section 2.2; Perazzi et al. (2016), A
    benchmark dataset and evaluation methodology for video object segmentation, CVPR, Eq. 2.
    """
    _check(estimate, truth, valid)
    if not tolerance >= 0:
        raise LacunarError(f"got a tolerance of {tolerance} pixels; wanted 0 or more")
    ours, theirs = shore(estimate, valid), shore(truth, valid)
    return {
        "shore": int(ours.sum()),
        "shore_hits": _near(ours, theirs, tolerance),
        "true_shore": int(theirs.sum()),
        "true_shore_hits": _near(theirs, ours, tolerance),
    }


def thin_water(truth: BoolArray, valid: BoolArray) -> BoolArray:
    """Water at most `THIN` pixels wide: what an opening by a square of one more removes, but for corners of the rest.

    What is not known beside it may be water, so nothing is thin for being cut off there.

    >>> water = np.zeros((7, 9), bool)
    >>> water[3, 1:8] = True
    >>> int(thin_water(water, np.ones((7, 9), bool)).sum())
    7
    """
    _check(truth, truth, valid)
    side = THIN + 1
    maybe = np.pad(truth | ~valid, side, constant_values=True)
    wide = ndimage.binary_opening(maybe, structure=np.ones((side, side)))
    near = ndimage.binary_dilation(wide, structure=_CORNERS)[side:-side, side:-side]
    return np.asarray(truth & valid & ~near)


def boundary_f1(counts: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
    """Harmonic mean of both shares of `boundary_counts`; 1 without any shore, 0 where only one side has one.

    >>> float(boundary_f1({"shore": 4, "shore_hits": 2, "true_shore": 8, "true_shore_hits": 4}))
    0.5
    """
    precision = ratio(counts["shore_hits"], counts["shore"])
    recall = ratio(counts["true_shore_hits"], counts["true_shore"])
    one_sided = (np.asarray(counts["shore"]) == 0) != (np.asarray(counts["true_shore"]) == 0)
    both = precision + recall
    harmonic = np.divide(2 * precision * recall, both, out=np.zeros(both.shape), where=both > 0)
    return np.where(one_sided, 0.0, harmonic)


def lake_counts(estimate: BoolArray, truth: BoolArray, *, valid: BoolArray) -> dict[str, NDArray[np.int64]]:
    """Share out right, missed and false water over the lakes of the truth, by their size.

    A lake is a body of true water joined by sides or corners; one that the image cuts counts with what is inside.
    Arrays (classes + 1,), small to large, last the land far from lakes: ``lakes``; ``found``, half of them or more;
    their ``pixels``; ``both``, pixels that were found; ``false_pixels``, false water nearest to them, up to
    `LAKE_REACH`. Shapes or types that differ are a `LacunarError`.

    Examples
    --------
    >>> truth = np.zeros((3, 40), bool)
    >>> truth[1, 1:5] = True
    >>> guess = np.roll(truth, 2, axis=1)
    >>> guess[1, -1] = True
    >>> counts = lake_counts(guess, truth, valid=np.ones(truth.shape, bool))
    >>> counts["found"].tolist(), counts["false_pixels"].tolist()
    ([1, 0, 0, 0, 0], [2, 0, 0, 0, 1])
    """
    _check(estimate, truth, valid)
    water, guess = truth & valid, estimate & valid
    lakes, number = ndimage.label(water, structure=_CORNERS)
    classes = len(LAKE_SIZES) + 1
    sizes = np.bincount(lakes.ravel(), minlength=number + 1)[1:]
    hits = np.bincount(lakes[guess], minlength=number + 1)[1:]
    size_class = np.searchsorted(LAKE_SIZES, sizes)
    wrong = guess & ~water
    false = np.full(int(np.count_nonzero(wrong)), classes)
    if number:
        distance, nearest = ndimage.distance_transform_edt(~water, return_indices=True)
        owner = size_class[lakes[tuple(nearest[:, wrong])] - 1]
        false = np.where(distance[wrong] <= LAKE_REACH, owner, classes)

    def summed(values: NDArray[np.integer]) -> NDArray[np.int64]:
        return np.bincount(size_class, weights=values, minlength=classes + 1).astype(np.int64)

    return {
        "lakes": np.bincount(size_class, minlength=classes + 1),
        "found": summed((hits >= FOUND_SHARE * sizes).astype(np.int64)),
        "pixels": summed(sizes),
        "both": summed(hits),
        "false_pixels": np.bincount(false, minlength=classes + 1),
    }


def probability_counts(
    probability: NDArray[np.floating], truth: BoolArray, *, valid: BoolArray
) -> dict[str, NDArray[np.float64]]:
    """Sort the valid pixels into bins of their probability, which must be 0 to 1 (else a `LacunarError`).

    Arrays (bins,): ``binned`` pixels, the sum of the probabilities that they ``claimed``, those that are ``water``, and
    ``squares``, the sum of squared differences between probability and truth.
    """
    _check(truth, truth, valid)
    if probability.shape != truth.shape:
        raise LacunarError(f"got probabilities {probability.shape} of masks {truth.shape}; wanted the same shape")
    claimed, water = probability[valid].astype(np.float64), truth[valid].astype(np.float64)
    if not np.all((claimed >= 0) & (claimed <= 1)):  # NaN fails too
        raise LacunarError("got probabilities outside 0 .. 1, or NaN, on valid pixels; wanted a share of each")
    place = np.minimum((claimed * PROBABILITY_BINS).astype(np.int64), PROBABILITY_BINS - 1)
    weights = {"binned": np.ones(claimed.size), "claimed": claimed, "water": water, "squares": (claimed - water) ** 2}
    return {
        name: np.bincount(place, weights=values, minlength=PROBABILITY_BINS).astype(np.float64)
        for name, values in weights.items()
    }


def error_counts(
    probability: NDArray[np.floating], threshold: float, truth: BoolArray, *, valid: BoolArray
) -> dict[str, NDArray[np.float64]]:
    """Sort the valid pixels into `ERROR_BINS` by their claimed chance of error, the largest first.

    Arrays (bins,): pixels whose class is ``wrong`` and ``right``. The chance that a class is wrong is 1 - p of water, p
    of land.
    """
    p, is_water = probability[valid].astype(np.float64), truth[valid]
    claimed = np.where(p >= threshold, 1 - p, p)
    halvings = -np.log2(np.maximum(2 * claimed, np.finfo(np.float64).tiny))
    place = (BINS_PER_HALVING * halvings).clip(0, ERROR_BINS - 1).astype(np.int64)
    wrong = (p >= threshold) != is_water
    return {
        "wrong": np.bincount(place[wrong], minlength=ERROR_BINS).astype(np.float64),
        "right": np.bincount(place[~wrong], minlength=ERROR_BINS).astype(np.float64),
    }


def auroc(wrong: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """How often a wrong pixel has a larger chance of error than a right one; counts (bins, ...), the largest first.

    NaN where all or none are wrong.

    >>> float(auroc(np.array([3.0, 1.0]), np.array([0.0, 4.0])))
    0.875
    """
    below = right[::-1].cumsum(axis=0)[::-1] - right
    pairs = wrong.sum(axis=0) * right.sum(axis=0)
    won = (wrong * (below + right / 2)).sum(axis=0)
    return np.asarray(np.divide(won, pairs, out=np.full(np.shape(pairs), np.nan), where=pairs > 0))


def _near(pixels: BoolArray, others: BoolArray, tolerance: float) -> int:
    """How many of these pixels have one of the others within the tolerance."""
    if not others.any():
        return 0
    return int(np.count_nonzero(ndimage.distance_transform_edt(~others)[pixels] <= tolerance))


def _check(estimate: BoolArray, truth: BoolArray, valid: BoolArray) -> None:
    arrays = (estimate, truth, valid)
    if len({array.shape for array in arrays}) > 1 or truth.ndim != 2 or any(a.dtype != np.bool_ for a in arrays):
        got = ", ".join(f"{array.dtype} {array.shape}" for array in arrays)
        raise LacunarError(f"got estimate, truth and valid as {got}; wanted bool (H, W) of one shape")
