"""Images of water pooled into scores of each set: all pixels together, with bootstrap intervals over whole images."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError
from lacunar.evaluate.bootstrap import interval_95, resampling_weights
from lacunar.evaluate.measure import stratum_names
from lacunar.evaluate.water_measures import WaterRow
from lacunar.evaluate.water_metrics import LAKE_SIZES, BoundaryHits, ProbabilityCounts
from lacunar.metrics import Confusion

FAR = "far from lakes"
LAKE_CLASSES = (*stratum_names(LAKE_SIZES), FAR)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class WaterScore:
    """One method on one set of images.

    Parameters
    ----------
    set_name, method, evaluations, seconds
        Which set, by whom, with how many network evaluations for each tile; mean seconds for each image (NaN where
        they were not measured for this method alone).
    images, pixels, water
        Over how much, and the share of it that is water.
    iou, pixel_accuracy, f1, boundary_f1, with ..._low, ..._high
        Over all pixels (or shore pixels) of all images together, with 95 % bootstrap intervals over images; NaN ends
        where there is but one image.
    mean_iou, precision, recall
        Likewise; the mean is that of water and land.
    image_iou, image_f1, image_boundary_f1
        Means over the images of the score of each.
    against, iou_gain, boundary_gain, with ..._low, ..._high
        Score minus that of the method `against` on the same images, resampled together; NaN where that method did not
        map them.
    calibration_error, brier
        Of the probability; NaN where the method gives none.
    """

    set_name: str
    method: str
    evaluations: int
    seconds: float
    images: int
    pixels: int
    water: float
    iou: float
    iou_low: float
    iou_high: float
    mean_iou: float
    pixel_accuracy: float
    pixel_accuracy_low: float
    pixel_accuracy_high: float
    precision: float
    recall: float
    f1: float
    f1_low: float
    f1_high: float
    boundary_f1: float
    boundary_f1_low: float
    boundary_f1_high: float
    image_iou: float
    image_f1: float
    image_boundary_f1: float
    against: str
    iou_gain: float
    iou_gain_low: float
    iou_gain_high: float
    boundary_gain: float
    boundary_gain_low: float
    boundary_gain_high: float
    calibration_error: float
    brier: float


@dataclass(frozen=True)
class LakeScore:
    """One method on the lakes of one size class of a set, or on the land far from all lakes.

    Parameters
    ----------
    set_name, method, size
        Which set, by whom, which of `LAKE_CLASSES`.
    lakes, found, pixels, false_pixels
        True lakes, those of which half or more was found, their pixels, false water that counts against them.
    recall, iou, with ..._low, ..._high
        Over their pixels; NaN where there is no lake; intervals as in `WaterScore`, NaN too where a resample may hold
        no such lake.
    """

    set_name: str
    method: str
    size: str
    lakes: int
    found: int
    pixels: int
    false_pixels: int
    recall: float
    recall_low: float
    recall_high: float
    iou: float
    iou_low: float
    iou_high: float


@dataclass(frozen=True, eq=False)
class WaterReliability:
    """How often there was water where a method claimed it with some probability; each (bins,), NaN in empty bins."""

    set_name: str
    method: str
    claimed: FloatArray
    observed: FloatArray
    pixels: FloatArray


def pool_water(rows: Iterable[WaterRow], *, against: str, order: Sequence[str] = (), seed: int = 0) -> list[WaterScore]:
    """Pool images into scores, set by set, method by method.

    Parameters
    ----------
    rows
        Every method on every image.
    against
        The method from which gains are counted.
    order
        Methods in the order wanted; others follow as they come.
    seed
        Of the bootstrap; the same images are drawn for every method.

    Raises
    ------
    LacunarError
        No row, or no method of the name `against`.
    """
    grouped = _grouped(rows, order)
    known = list(dict.fromkeys(method for _, method in grouped))
    if against not in known:
        raise LacunarError(f"no method {against!r} to compare with: choose out of {', '.join(known) or 'none'}")
    return [
        _score(own, grouped.get((set_name, against), []), against=against, seed=seed)
        for (set_name, _), own in grouped.items()
    ]


def pool_lakes(rows: Iterable[WaterRow], *, order: Sequence[str] = (), seed: int = 0) -> list[LakeScore]:
    """Pool images into scores of each size class of lakes that a set has, and of the land far from lakes."""
    scores = []
    for own in _grouped(rows, order).values():
        weights = resampling_weights(len(own), seed=seed)
        names = ("lakes", "found", "both", "only_truth", "only_estimate")
        table = {name: weights @ np.array([getattr(row.lakes, name) for row in own]) for name in names}
        for number, size in enumerate(LAKE_CLASSES):
            counts = {name: values[:, number] for name, values in table.items()}
            if size == FAR or counts["lakes"][0] > 0:
                scores.append(_lake_score(own, size, counts))
    return scores


def pool_probabilities(rows: Iterable[WaterRow], *, order: Sequence[str] = ()) -> list[WaterReliability]:
    """Reliability curves, set by set, of the methods that give a probability."""
    curves = []
    for (set_name, method), own in _grouped(rows, order).items():
        total = _probabilities(own)
        if total is not None:
            with np.errstate(invalid="ignore"):
                shares = total.claimed / total.pixels, total.water / total.pixels
            curves.append(WaterReliability(set_name, method, *shares, total.pixels))
    return curves


def image_scores(row: WaterRow) -> dict[str, Any]:
    """One method on one image by names."""
    counts = {item.name: int(getattr(row.pixels, item.name)) for item in fields(Confusion)}
    total, own = sum(counts.values()), row.probabilities
    return {
        "set": row.set_name,
        "image": row.name,
        "method": row.method,
        "evaluations": row.evaluations,
        "seconds": row.seconds,
        "pixels": total,
        "water": (counts["both"] + counts["only_truth"]) / total,
        **{name: float(getattr(row.pixels, name)) for name in ("iou", "mean_iou", "pixel_accuracy")},
        **{name: float(getattr(row.pixels, name)) for name in ("precision", "recall", "f1")},
        "boundary_f1": float(row.shores.f1),
        "calibration_error": own.expected_calibration_error if own else math.nan,
        "brier": own.brier if own else math.nan,
        **counts,
    }


def _grouped(rows: Iterable[WaterRow], order: Sequence[str]) -> dict[tuple[str, str], list[WaterRow]]:
    """Rows by set and method: sets as they come, methods in the order wanted, others as they come."""
    everything = list(rows)
    sets = dict.fromkeys(row.set_name for row in everything)
    methods = dict.fromkeys([*order, *(row.method for row in everything)])
    pairs = [(set_name, method) for set_name in sets for method in methods]
    groups = {pair: [row for row in everything if (row.set_name, row.method) == pair] for pair in pairs}
    return {key: own for key, own in groups.items() if own}


def _score(own: Sequence[WaterRow], base: Sequence[WaterRow], *, against: str, seed: int) -> WaterScore:
    """Pool the images of one set and method."""
    weights = resampling_weights(len(own), seed=seed)
    pixels, shores = _pooled(own, weights)
    resampled = {name: getattr(pixels, name) for name in ("iou", "pixel_accuracy", "f1")} | {"boundary_f1": shores.f1}
    paired = [row.name for row in own] == [row.name for row in base]
    gains = dict.fromkeys(("iou_gain", "boundary_gain"), np.full(len(weights), np.nan))
    if paired:
        base_pixels, base_shores = _pooled(base, weights)
        gains = {"iou_gain": pixels.iou - base_pixels.iou, "boundary_gain": shores.f1 - base_shores.f1}
    values: dict[str, float] = {}
    for name, figures in (resampled | gains).items():
        values[name] = float(figures[0])
        values[f"{name}_low"], values[f"{name}_high"] = interval_95(figures, units=len(own))
    for name in ("mean_iou", "precision", "recall"):
        values[name] = float(getattr(pixels, name)[0])
    each = [image_scores(row) for row in own]
    for name in ("iou", "f1", "boundary_f1"):
        values[f"image_{name}"] = float(np.mean([image[name] for image in each]))
    total = _probabilities(own)
    known = sum(image["pixels"] for image in each)
    return WaterScore(
        set_name=own[0].set_name,
        method=own[0].method,
        evaluations=max(row.evaluations for row in own),
        seconds=float(np.mean([row.seconds for row in own])),
        images=len(own),
        pixels=known,
        water=sum(image["both"] + image["only_truth"] for image in each) / known,
        against=against,
        calibration_error=total.expected_calibration_error if total else math.nan,
        brier=total.brier if total else math.nan,
        **values,
    )


def _pooled(rows: Sequence[WaterRow], weights: NDArray[np.int64]) -> tuple[Confusion, BoundaryHits]:
    """Counts added up over the images, for each row of weights."""

    def added(part: str, name: str) -> FloatArray:
        return np.asarray(weights @ np.array([getattr(getattr(row, part), name) for row in rows], dtype=np.float64))

    pixels = Confusion(*(added("pixels", item.name) for item in fields(Confusion)))
    return pixels, BoundaryHits(*(added("shores", item.name) for item in fields(BoundaryHits)))


def _probabilities(rows: Sequence[WaterRow]) -> ProbabilityCounts | None:
    """Counts of the probability added up, where the method gives one."""
    own = [row.probabilities for row in rows if row.probabilities is not None]
    if not own:
        return None
    return ProbabilityCounts(
        *(np.sum([getattr(part, item.name) for part in own], axis=0) for item in fields(ProbabilityCounts))
    )


def _lake_score(own: Sequence[WaterRow], size: str, counts: dict[str, FloatArray]) -> LakeScore:
    """One class from its resampled counts."""
    there = counts["lakes"] > 0
    true = counts["both"] + counts["only_truth"]
    values: dict[str, float] = {}
    for name, whole in {"recall": true, "iou": true + counts["only_estimate"]}.items():
        shares = np.divide(counts["both"], whole, out=np.full(len(whole), np.nan), where=there)
        values[name] = float(shares[0])
        values[f"{name}_low"], values[f"{name}_high"] = interval_95(shares, units=len(own))
    return LakeScore(
        set_name=own[0].set_name,
        method=own[0].method,
        size=size,
        lakes=int(counts["lakes"][0]),
        found=int(counts["found"][0]),
        pixels=int(true[0]),
        false_pixels=int(counts["only_estimate"][0]),
        **values,
    )
