"""One method on one image of water: counts that are added up before any ratio is taken."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError
from lacunar.evaluate.water_metrics import (
    BoundaryHits,
    LakeCounts,
    ProbabilityCounts,
    boundary_hits,
    lake_counts,
    probability_counts,
)
from lacunar.metrics import Confusion, confusion
from lacunar.train.water_data import IGNORE, WATER, WaterScene

BoolArray = NDArray[np.bool_]
Planes = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a method says of an image: water (H, W), its probability (H, W) where it gives one, what it took.

    `evaluations` counts the network's for one tile, all samples together; `seconds` is NaN where the time was shared
    with another prediction.
    """

    water: BoolArray
    probability: NDArray[np.floating[Any]] | None = None
    evaluations: int = 0
    seconds: float = float("nan")


Method = Callable[[Planes, BoolArray, int], Mapping[str, Prediction]]
"""Planes (6, H, W), which pixels are scored (H, W), a seed -> predictions by name; none where bands are absent."""


@dataclass(frozen=True, eq=False)
class WaterRow:
    """One method on one image.

    Parameters
    ----------
    set_name, name, method
        Which image of which set, mapped by whom.
    evaluations, seconds
        As in `Prediction`.
    pixels, shores, lakes
        Counts over the pixels whose truth is known.
    probabilities
        None where the method gives no probability.
    """

    set_name: str
    name: str
    method: str
    evaluations: int
    seconds: float
    pixels: Confusion
    shores: BoundaryHits
    lakes: LakeCounts
    probabilities: ProbabilityCounts | None


def truth_of(scene: WaterScene, bands: Planes) -> tuple[BoolArray, BoolArray]:
    """The true water of a scene, and where it is known: not ignored, and no band that the image has is NaN.

    Raises
    ------
    LacunarError
        A mask of another size or of other values, or no pixel to score.
    """
    mask, known = scene.mask(), np.isfinite(bands)
    valid = (mask != IGNORE) & known[known.any(axis=(1, 2))].all(axis=0)
    if not known.any() or not valid.any():
        where = f"{scene.set_name}/{scene.name}"
        raise LacunarError(f"{where}: no pixel is known in image and mask; wanted one or more: leave this image out")
    return mask == WATER, valid


def measure_water(
    scene: WaterScene, method: str, prediction: Prediction, truth: BoolArray, *, valid: BoolArray
) -> WaterRow:
    """Count what a method found in a scene.

    Raises
    ------
    LacunarError
        A prediction of another size, or a probability outside 0 .. 1.
    """
    chosen = prediction.probability
    return WaterRow(
        set_name=scene.set_name,
        name=scene.name,
        method=method,
        evaluations=prediction.evaluations,
        seconds=prediction.seconds,
        pixels=confusion(prediction.water, truth, region=valid),
        shores=boundary_hits(prediction.water, truth, valid=valid),
        lakes=lake_counts(prediction.water, truth, valid=valid),
        probabilities=None if chosen is None else probability_counts(chosen, truth, valid=valid),
    )
