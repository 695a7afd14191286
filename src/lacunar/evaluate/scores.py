"""Cases pooled into scores: errors over all gap pixels, strata, bootstrap intervals, reliability curves.

Errors count over the gap, pooled over all pixels; whole-image figures stand beside them because papers print those,
and flatter: known pixels are exact. Intervals resample whole scenes, since tiles of one date err together.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lacunar.errors import LacunarError
from lacunar.evaluate.bootstrap import interval_95, resampling_weights
from lacunar.evaluate.cases import Case, FloatArray
from lacunar.evaluate.measure import DISTANCES, GAP_SIZES, PIT_BINS, SUMS, Measured, stratum_names
from lacunar.evaluate.probabilistic import LEVELS

Kind = Literal["all", "distance", "gap size", "scene", "place", "reference"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_COLUMN = {name: index for index, name in enumerate(SUMS)}


@dataclass(frozen=True)
class Score:
    """One filler in one stratum at one missing rate, in the unit of the values (K for LST).

    Parameters
    ----------
    kind, stratum, rate, filler, evaluations
        Which pixels, at which missing rate, filled by whom with how many network evaluations for each tile.
    scenes, cases, pixels
        Over how much.
    rmse, rmse_low, rmse_high
        Over all pixels, with the 95 % bootstrap interval over scenes (NaN where there is but one scene).
    baseline, ratio, ratio_low, ratio_high
        RMSE over that of the baseline on the same pixels, resampled together.
    mae, bias, max_abs
        Over all pixels; bias is estimate minus truth.
    crps, crps_low, crps_high
        Continuous ranked probability score of a normal distribution of this mean and sigma; the MAE without a sigma.
    crps_samples
        The fair score of the samples themselves; NaN where there are too few.
    coverage_68, coverage_95, with ..._low, ..._high
        Share of pixels whose truth lies within sigma, and inside the 95 % limits; NaN where there is no sigma.
    sigma
        Root of the mean claimed variance: the RMSE that an honest sigma would have.
    image_mse, psnr, ssim, image_max
        Means over the cases of whole-image scores, known pixels included (data range: the scene's own extremes), and of
        the greatest error of each image; NaN in strata that are parts of images.
    """

    kind: Kind
    stratum: str
    rate: float
    filler: str
    evaluations: int
    scenes: int
    cases: int
    pixels: int
    rmse: float
    rmse_low: float
    rmse_high: float
    baseline: str
    ratio: float
    ratio_low: float
    ratio_high: float
    mae: float
    bias: float
    max_abs: float
    crps: float
    crps_low: float
    crps_high: float
    crps_samples: float
    coverage_68: float
    coverage_68_low: float
    coverage_68_high: float
    coverage_95: float
    coverage_95_low: float
    coverage_95_high: float
    sigma: float
    image_mse: float
    psnr: float
    ssim: float
    image_max: float


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often the truth lay inside the central intervals of a filler at one rate.

    `nominal` and `observed` (19,) are shares of pixels; `histogram` (20,) is the density of the probability integral
    transform, 1 everywhere where sigma is honest.
    """

    filler: str
    rate: float
    nominal: FloatArray
    observed: FloatArray
    histogram: FloatArray


def pool(
    rows: Iterable[Measured], *, baseline: str = "kriging", kinds: Sequence[Kind] = ("all",), seed: int = 0
) -> list[Score]:
    """Pool cases into scores.

    Parameters
    ----------
    rows
        Every filler on every case.
    baseline
        The filler whose RMSE the others' is divided by.
    kinds
        Which strata; "all" is everything. The kinds are those of `KINDS`; "reference" is the group of a pair of dates,
        empty where there is none.
    seed
        Of the bootstrap; the same scenes are drawn for every filler.

    Returns
    -------
    list of Score
        Kind by kind, rate by rate, stratum by stratum, in the order of the fillers.

    Raises
    ------
    LacunarError
        No row, an unknown kind, or a baseline that filled nothing.
    """
    measured = list(rows)
    fillers = list(dict.fromkeys(row.filler for row in measured))
    if baseline not in fillers or not set(kinds) <= set(KINDS):
        raise LacunarError(
            f"got {len(measured)} rows of {fillers}, kinds {list(kinds)} and the baseline {baseline!r}; wanted kinds "
            f"of {list(KINDS)} and a baseline that filled the cases"
        )
    scores = []
    for kind in kinds:
        for rate in dict.fromkeys(row.case.rate for row in measured):
            own = [row for row in measured if row.case.rate == rate]
            for stratum in _strata_in_order(own, kind):
                members = {name: _members(own, name, kind, stratum) for name in fillers}
                base = members[baseline]
                scores += [_score(kind, stratum, part, base, seed) for part in members.values() if part]
    return scores


def _strata_in_order(rows: Sequence[Measured], kind: Kind) -> list[str]:
    """The strata of a kind that these rows have: bins from small to large, all else as it comes."""
    if kind in ("all", "distance", "gap size"):
        there = {stratum for row in rows for own, stratum in row.sums if own == kind}
        order = {"distance": stratum_names(DISTANCES), "gap size": stratum_names(GAP_SIZES)}.get(kind, ["all"])
        return [stratum for stratum in order if stratum in there]
    return list(dict.fromkeys(filter(None, (_case_stratum(row.case, kind) for row in rows))))


def _case_stratum(case: Case, kind: Kind) -> str:
    """The stratum that a whole case belongs to."""
    return {"scene": case.scene, "place": case.place, "reference": case.group}[kind]


@dataclass(frozen=True, eq=False)
class _Member:
    """A row's part in a stratum."""

    row: Measured
    sums: FloatArray
    greatest: float


def _members(rows: Sequence[Measured], filler: str, kind: Kind, stratum: str) -> list[_Member]:
    """The parts of a filler's rows that belong to a stratum."""
    own = [row for row in rows if row.filler == filler]
    if kind in ("all", "distance", "gap size"):
        key = (kind, stratum)
        return [_Member(row, row.sums[key], row.greatest[key]) for row in own if key in row.sums]
    whole = ("all", "all")
    return [
        _Member(row, row.sums[whole], row.greatest[whole]) for row in own if _case_stratum(row.case, kind) == stratum
    ]


def _score(kind: Kind, stratum: str, members: Sequence[_Member], base: Sequence[_Member], seed: int) -> Score:
    """Pool the members of one stratum; the same seed resamples the same scenes for all fillers."""
    scenes = sorted({member.row.case.scene for member in members})
    ours, theirs = _by_scene(members, scenes), _by_scene(base, scenes)
    weights = resampling_weights(len(scenes), seed=seed)
    total, total_base = weights @ ours, weights @ theirs

    def share(name: str) -> FloatArray:
        return np.asarray(total[:, _COLUMN[name]] / total[:, _COLUMN["pixels"]])

    first, whole = members[0].row, kind not in ("distance", "gap size")
    squares = np.sqrt(share("squares"))
    # Where neither erred both are equally good.
    ratio = np.sqrt(
        np.divide(
            total[:, _COLUMN["squares"]],
            total_base[:, _COLUMN["squares"]],
            out=np.where(total[:, _COLUMN["squares"]] > 0, np.inf, 1.0),
            where=total_base[:, _COLUMN["squares"]] > 0,
        )
    )
    named = {"rmse": squares, "ratio": ratio, "crps": share("crps")}
    named |= {"coverage_68": share("in_68"), "coverage_95": share("in_95")}
    values: dict[str, float] = {}
    for name, resampled in named.items():
        values[name] = float(resampled[0])
        values[f"{name}_low"], values[f"{name}_high"] = interval_95(resampled, units=len(scenes))
    for name in ("image_mse", "psnr", "ssim"):
        values[name] = float(np.mean([getattr(member.row, name) for member in members])) if whole else math.nan
    return Score(
        kind=kind,
        stratum=stratum,
        rate=first.case.rate,
        filler=first.filler,
        evaluations=max(member.row.evaluations for member in members),
        scenes=len(scenes),
        cases=len(members),
        pixels=int(total[0, _COLUMN["pixels"]]),
        baseline=base[0].row.filler,
        mae=float(share("absolute")[0]),
        bias=float(share("errors")[0]),
        max_abs=max(member.greatest for member in members),
        crps_samples=float(share("crps_samples")[0]),
        sigma=float(np.sqrt(share("variance")[0])),
        image_max=float(np.mean([member.greatest for member in members])) if whole else math.nan,
        **values,
    )


def _by_scene(members: Sequence[_Member], scenes: Sequence[str]) -> FloatArray:
    """Sums of each scene (scenes, columns)."""
    table = np.zeros((len(scenes), len(SUMS)))
    for member in members:
        table[scenes.index(member.row.case.scene)] += member.sums
    return table


def reliability(rows: Iterable[Measured]) -> list[Reliability]:
    """Reliability curves, rate by rate and filler by filler, of those that give a sigma.

    Raises
    ------
    LacunarError
        None of them gives a sigma.
    """
    pooled: dict[tuple[float, str], list[Measured]] = {}
    for row in rows:
        if row.central is not None:
            pooled.setdefault((row.case.rate, row.filler), []).append(row)
    if not pooled:
        raise LacunarError(
            "no filler gives a sigma, so there is no reliability: draw 2 samples or more, or score kriging"
        )
    curves = []
    for (rate, filler), own in pooled.items():
        central = np.sum([row.central for row in own if row.central is not None], axis=0)
        counts = np.sum([row.pit_counts for row in own if row.pit_counts is not None], axis=0)
        histogram = counts * PIT_BINS / counts.sum()
        curves.append(Reliability(filler, rate, np.array(LEVELS), central / counts.sum(), histogram))
    return curves
