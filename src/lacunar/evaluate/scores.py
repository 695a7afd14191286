"""Sums of single cases pooled into scores, with 95 % intervals by bootstrap.

Counts and errors of all cases are added up before any ratio is taken. Intervals draw whole units (dates, images) again,
because what lies in one date or one image errs together.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lacunar.errors import LacunarError

RESAMPLES = 2000
INTERVAL = (0.025, 0.975)  # quantiles: the central 95 %

FloatArray = NDArray[np.float64]
Sums = Mapping[str, FloatArray]  # column -> its sums, one for each resample (or for each case)


@dataclass(frozen=True, eq=False)
class Scheme:
    """How the sums of cases become scores."""

    unit: str  # column of what is drawn again as a whole
    by: tuple[str, ...]  # columns whose groups are pooled, each method for itself
    counts: tuple[str, ...] = ()  # columns whose sums are told as whole numbers
    greatest: tuple[str, ...] = ()  # columns of which the greatest value is told
    ratios: Mapping[str, Callable[[Sums], FloatArray]] = field(default_factory=dict)  # of the sums of a method
    means: tuple[str, ...] = ()  # columns whose mean over the cases is told
    compared: Mapping[str, Callable[[Sums, Sums], FloatArray]] = field(default_factory=dict)  # with the baseline's sums
    intervals: tuple[str, ...] = ()  # scores with a 95 % interval: NAME_low, NAME_high


def pool(sums: pd.DataFrame, scheme: Scheme, *, baseline: str, seed: int = 0) -> pd.DataFrame:
    """Pool the sums of cases, one row for each method on each case, into one row for each group and method.

    Values of a column come in the order of its categories, otherwise as they first appear. The seed draws the same
    units for every method. Comparisons are NaN where the baseline has other units.

    Raises `LacunarError`: the baseline is not among the methods.
    """
    keys = [*scheme.by, "method"]
    ordered = {
        key: pd.CategoricalDtype(list(dict.fromkeys(sums[key])), ordered=True)
        for key in keys
        if not isinstance(sums[key].dtype, pd.CategoricalDtype)
    }
    grouped = sums.astype(ordered).groupby(keys, observed=True, sort=True)
    groups = {key: own for key, own in grouped if isinstance(key, tuple)}
    methods = list(dict.fromkeys(str(key[-1]) for key in groups))
    if baseline not in methods:
        raise LacunarError(f"no method {baseline!r} to compare with: choose out of {'; '.join(methods) or 'none'}")
    rows = []
    for key, own in groups.items():
        base = groups.get((*key[:-1], baseline))
        named = dict(zip(keys, key, strict=True)) | {"baseline": baseline}
        rows.append(named | _score(own, base, scheme, seed))
    return pd.DataFrame(rows)


def score_each(sums: pd.DataFrame, scheme: Scheme, identity: Sequence[str]) -> pd.DataFrame:
    """The scores of every case by itself, beside the columns that say which case it is."""
    own = {str(name): sums[name].to_numpy(np.float64) for name in sums.select_dtypes("number")}
    scores = {name: function(own) for name, function in scheme.ratios.items()}
    columns = [*identity, "method", "evaluations", "seconds", *scheme.counts, *scheme.greatest]
    return pd.concat([sums[columns], pd.DataFrame(scores, index=sums.index), sums[list(scheme.means)]], axis=1)


def _score(own: pd.DataFrame, base: pd.DataFrame | None, scheme: Scheme, seed: int) -> dict[str, float]:
    units = sorted(own[scheme.unit].unique())
    totals = _resampled(own, scheme.unit, units, seed)
    if base is not None and sorted(base[scheme.unit].unique()) == units:
        others = _resampled(base, scheme.unit, units, seed)
    else:
        others = {name: np.full(values.shape, np.nan) for name, values in totals.items()}
    found = {name: function(totals) for name, function in scheme.ratios.items()}
    found |= {name: totals[name] / totals["cases"] for name in scheme.means}
    found |= {name: function(totals, others) for name, function in scheme.compared.items()}
    values: dict[str, float] = {
        "evaluations": int(own["evaluations"].max()),
        "seconds": float(own["seconds"].mean(skipna=False)),
        f"{scheme.unit}s": len(units),
        "cases": len(own),
    }
    values |= {name: int(totals[name][0]) for name in scheme.counts}
    values |= {name: float(own[name].max()) for name in scheme.greatest}
    for name, resampled in found.items():
        values[name] = float(resampled[0])
        if name in scheme.intervals:
            values[f"{name}_low"], values[f"{name}_high"] = interval_95(resampled, units=len(units))
    return values


def _resampled(rows: pd.DataFrame, unit: str, units: Sequence[str], seed: int) -> dict[str, FloatArray]:
    """Sums over the units drawn, column by column, one for each resample; the first draws every unit once."""
    numbers = rows.select_dtypes("number").copy().assign(cases=1.0)  # a copy is in one piece
    table = np.zeros((len(units), numbers.shape[1]))
    np.add.at(table, rows[unit].map(units.index).to_numpy(), numbers.to_numpy(np.float64))
    with np.errstate(invalid="ignore"):  # 0 times an infinite score
        totals = resampling_weights(len(units), seed=seed) @ table
    return dict(zip(numbers.columns, totals.T, strict=True))


@lru_cache(maxsize=64)
def resampling_weights(units: int, *, seed: int, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """How often each unit counts (1 + resamples, units): once in the first row, as drawn in the others.

    Reference: Efron, Tibshirani (1993), An introduction to the bootstrap, chapters 6 and 13.

    >>> resampling_weights(3, seed=0, resamples=1).sum(axis=1).tolist()
    [3, 3]
    """
    drawn = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
    return np.vstack([np.ones(units, dtype=np.int64), drawn])


def shares(part: FloatArray, whole: FloatArray, there: NDArray[np.bool_] | None = None) -> FloatArray:
    """Part of the whole; NaN where ``whole`` is 0, or where ``there`` is False, as in a resample without a lake.

    >>> shares(np.array([1.0, 0.0]), np.array([4.0, 0.0])).tolist()
    [0.25, nan]
    """
    return np.asarray(
        np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0 if there is None else there)
    )


def interval_95(values: FloatArray, *, units: int) -> tuple[float, float]:
    """The central 95 % of all values but the first; NaN for a single unit, or where one is not finite."""
    if units == 1 or not np.isfinite(values).all():
        return math.nan, math.nan
    low, high = np.quantile(values[1:], INTERVAL)
    return float(low), float(high)


def stratum_names(edges: Sequence[int]) -> list[str]:
    """Names of the strata between these edges in pixels, the upper edge included.

    >>> stratum_names((1, 2))
    ['up to 1 px', '1 to 2 px', 'over 2 px']
    """
    between = [f"{low} to {high} px" for low, high in pairwise(edges)]
    return [f"up to {edges[0]} px", *between, f"over {edges[-1]} px"]
