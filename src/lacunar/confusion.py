"""Counts of agreement of boolean masks, and the ratios made of them; numpy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Confusion:
    """How many pixels two boolean masks share: counts of one image, or arrays of them, to be added up before a ratio.

    Every ratio is taken count by count; of nothing it is 1.

    Parameters
    ----------
    both, only_estimate, only_truth, neither
        Pixels, of one shape.

    Examples
    --------
    >>> float(Confusion([1, 0], [0, 1], [1, 0], [2, 3]).iou[0])
    0.5
    """

    both: ArrayLike
    only_estimate: ArrayLike
    only_truth: ArrayLike
    neither: ArrayLike

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of the pixels that are True."""
        return ratio(self.both, _sum(self.both, self.only_estimate, self.only_truth))

    @property
    def mean_iou(self) -> NDArray[np.float64]:
        """Mean of the intersections over union of the pixels that are True and of those that are False."""
        other = ratio(self.neither, _sum(self.neither, self.only_estimate, self.only_truth))
        return np.asarray((self.iou + other) / 2)

    @property
    def pixel_accuracy(self) -> NDArray[np.float64]:
        """Share of the pixels on which both agree."""
        every = _sum(self.both, self.only_estimate, self.only_truth, self.neither)
        return ratio(_sum(self.both, self.neither), every)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the estimated pixels that are true."""
        return ratio(self.both, _sum(self.both, self.only_estimate))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the true pixels that were estimated."""
        return ratio(self.both, _sum(self.both, self.only_truth))

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall."""
        return ratio(_sum(self.both, self.both), _sum(self.both, self.both, self.only_estimate, self.only_truth))


def ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """Part of a whole, element by element; of nothing, all.

    Examples
    --------
    >>> ratio([1, 0], [4, 0]).tolist()
    [0.25, 1.0]
    """
    whole = np.asarray(whole, dtype=np.float64)
    return np.asarray(np.divide(part, whole, out=np.ones(whole.shape), where=whole != 0))


def _sum(*counts: ArrayLike) -> NDArray[np.float64]:
    """Counts added up."""
    return np.asarray(sum(np.asarray(count, dtype=np.float64) for count in counts))
