"""Filled pictures pooled into scores, with bootstrap intervals over the pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError
from lacunar.evaluate.bootstrap import interval_95, resampling_weights
from lacunar.evaluate.picture_evaluation import PictureRow

ALL = "all"
MEASURES = ("mse", "psnr", "ssim", "image_mse", "image_psnr", "image_ssim")
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PictureScore:
    """One method at one missing rate under one kind of occlusion: means over the cases, values from 0 to 1.

    Parameters
    ----------
    rate, hidden_by, method
        Of what; ``all`` is every kind of occlusion.
    cases, evaluations, seconds
        How many; network evaluations of all samples of a case, and seconds of a case.
    mse, psnr, ssim
        Over the hole; PSNR in dB.
    gain
        dB of PSNR over the hole above the baseline, on the same cases.
    image_mse, image_psnr, image_ssim
        Over the whole image, known pixels included.
    psnr_low, psnr_high, and so on
        95 % intervals from resampling whole pictures; NaN where there is but one.
    """

    rate: float
    hidden_by: str
    method: str
    cases: int
    evaluations: int
    seconds: float
    mse: float
    psnr: float
    psnr_low: float
    psnr_high: float
    gain: float
    gain_low: float
    gain_high: float
    ssim: float
    ssim_low: float
    ssim_high: float
    image_mse: float
    image_psnr: float
    image_psnr_low: float
    image_psnr_high: float
    image_ssim: float
    image_ssim_low: float
    image_ssim_high: float


def pool_pictures(rows: Sequence[PictureRow], *, baseline: str, seed: int = 0) -> list[PictureScore]:
    """Pool cases into scores: rate by rate, all kinds of occlusion and then each, methods as they come.

    Raises
    ------
    LacunarError
        No row, or a baseline that filled nothing.
    """
    methods = list(dict.fromkeys(row.method for row in rows))
    if baseline not in methods:
        raise LacunarError(f"got {len(rows)} rows of {methods}; wanted some of the baseline {baseline!r}")
    scores = []
    for rate in dict.fromkeys(row.rate for row in rows):
        kinds = dict.fromkeys(row.hidden_by for row in rows if row.rate == rate)
        for kind in (ALL, *kinds):
            own = [row for row in rows if row.rate == rate and kind in (ALL, row.hidden_by)]
            base = {row.name: row.psnr for row in own if row.method == baseline}
            scores += [
                _score([row for row in own if row.method == method], base, kind, seed)
                for method in methods
                if any(row.method == method for row in own)
            ]
    return scores


def _score(rows: Sequence[PictureRow], base: dict[str, float], kind: str, seed: int) -> PictureScore:
    """One method's rows; each is a picture of its own."""
    columns = {name: np.array([getattr(row, name) for row in rows]) for name in MEASURES}
    columns["gain"] = np.array([row.psnr - base[row.name] for row in rows])
    weights = resampling_weights(len(rows), seed=seed)
    figures: dict[str, float] = {}
    for name, values in columns.items():
        figures[name] = float(values.mean())
        if "mse" not in name:
            figures[f"{name}_low"], figures[f"{name}_high"] = _interval(values, weights)
    return PictureScore(
        rate=rows[0].rate,
        hidden_by=kind,
        method=rows[0].method,
        cases=len(rows),
        evaluations=rows[0].evaluations,
        seconds=float(np.mean([row.seconds for row in rows])),
        **figures,
    )


def _interval(values: FloatArray, weights: NDArray[np.int64]) -> tuple[float, float]:
    """95 % interval of a mean."""
    if not np.isfinite(values).all():
        return math.nan, math.nan
    return interval_95(weights @ values / weights.sum(axis=1), units=len(values))
