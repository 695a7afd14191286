"""Evaluation of fills beside an archive: how much other dates tell, by their number.

Each date of one place is hidden in turn under a cloud. References are other dates, each with cloud of its own, those
near the target in time last.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lacunar.errors import LacunarError
from lacunar.evaluate.lst import FIELD, KINDS, RMSE_LABEL, SCHEME, Kind, LstTask, field_method, measure, model_method
from lacunar.evaluate.lst_cases import LstCase, date_of, read_scenes
from lacunar.evaluate.plot import line_panels
from lacunar.evaluate.report import Columns, share
from lacunar.evaluate.scores import FloatArray, pool, score_each
from lacunar.evaluate.task import BoolArray, Estimate, Found, Lineup, Method, Plot, Row, enter
from lacunar.fill.array import COARSE_CELL
from lacunar.geo.missing_shapes import exact_rate
from lacunar.interpolate.archive_field import DateModel, completed
from lacunar.interpolate.background import CoarseField, background_field
from lacunar.interpolate.classical import fill

OWN_RATE = 0.25  # of cloud over each reference
TRIES = 60  # windows of a cloud mask that are looked at
RIDGE = 1e-3  # of the regression on dates, in units of their variance
YEAR = 365.25  # days
LEAST_CYCLE = 3  # dates that an annual cycle is fitted to
LAPLACE, EM, REGRESSION, CYCLE = "laplace", "EM alone (as DINEOF)", "ridge on dates", "annual cycle"
DRIFT = "kriging with drift"  # takes several times as long as the others: only where it is asked for
OTHERS: tuple[str, ...] = (LAPLACE, EM, REGRESSION, CYCLE)


@dataclass(frozen=True, eq=False, kw_only=True)
class ArchiveCase(LstCase):
    """A date with what is hidden of it, beside so many others."""

    known: BoolArray  # (H, W): not hidden, and measured
    days: tuple[int, ...]  # day of the year of the target and of each reference

    @property
    def name(self) -> str:
        """Scene, rate and number of references, as one word."""
        return f"{self.scene}@{self.rate:g}~{len(self.references)}"

    @property
    def identity(self) -> dict[str, Any]:
        """Columns that tell the case in tables."""
        return {"scene": self.scene, "rate": self.rate, "references": len(self.references)}

    @property
    def given(self) -> tuple[Any, ...]:
        """Values with NaN where they are hidden, the known pixels, the references, and days of the year."""
        return np.where(self.known, self.truth, np.nan), self.known, self.references, self.days


@dataclass(frozen=True, kw_only=True)
class ArchiveTask(LstTask):
    """Which numbers of references are compared on which dates."""

    counts: tuple[int, ...] = (0, 1, 2, 4, 8, 11, 15)  # of references
    far: int = 31  # days from the target, within which references are taken last
    every: int = 1  # take every n-th date as target
    rates: tuple[float, ...] = (0.22, 0.5)
    size: int = 256
    methods: tuple[str, ...] = OTHERS
    models: tuple[str, ...] = ()

    title: ClassVar[str] = "How much does an archive tell?"
    lead: ClassVar[str] = (
        "{ours.stratum}, {ours.rate} missing: {ours.method} errs by {ours.rmse} K (RMSE over the missing pixels). "
        "Truths inside its 68 % intervals: {ours.coverage_68}, inside its 95 % intervals: {ours.coverage_95}."
    )
    columns: ClassVar[Columns] = {
        "stratum": ("references", ""),
        "rate": ("missing", share),
        "method": ("method", ""),
        "rmse": ("RMSE, K", ".2f"),
        "ratio": ("RMSE / {baseline}", ".2f"),
        "bias": ("bias, K", "+.2f"),
        "crps": ("CRPS, K", ".2f"),
        "coverage_68": ("in 68 %", ".0%"),
        "coverage_95": ("in 95 %", ".0%"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self.once_each("counts")
        self.at_least(counts=0, far=0, every=1)

    def known_methods(self) -> tuple[str, ...]:
        """The fills without a model that can be chosen."""
        return (*OTHERS, DRIFT)

    def cases(self) -> list[LstCase]:
        """Every target at every rate beside every number of references; the same clouds for all numbers."""
        scenes, clouds = read_scenes(self.rasters, self.clouds)
        names = sorted(scenes)
        if len(names) <= max(self.counts) or len({one.shape for one in scenes.values()}) > 1:
            raise LacunarError(
                f"{self.rasters} has {len(names)} dates of {len({one.shape for one in scenes.values()})} grids: wanted "
                f"one grid and more than {max(self.counts)} dates: lower --counts"
            )
        values = np.stack([centre_of(scenes[name], self.size) for name in names])
        rng, shape = np.random.default_rng(self.seed), (values.shape[1], values.shape[2])
        hidden = {rate: [cloud_over(shape, rate, clouds, rng) for _ in names] for rate in self.rates}
        own = [cloud_over(shape, OWN_RATE, clouds, rng) for _ in names]
        days = [date_of(name).timetuple().tm_yday for name in names]
        cases: list[LstCase] = []
        for target in range(0, len(names), self.every):
            there = np.isfinite(values[target])
            truth = np.where(there, values[target], np.nanmean(values[target]))
            order = _ordered(names, target, self.far)
            for count in self.counts:
                for rate in self.rates:
                    gap = hidden[rate][target] & there
                    cases.append(
                        ArchiveCase(
                            names[target],
                            0,
                            0,
                            rate,
                            truth,
                            gap,
                            float(truth.min()),
                            float(truth.max()),
                            tuple(np.where(own[j], np.nan, values[j]) for j in order[:count]),
                            known=there & ~gap,
                            days=(days[target], *(days[j] for j in order[:count])),
                        )
                    )
        return cases

    def lineup(self) -> Lineup:
        """The field of the raster, what it is made of, and networks on kriging with drift."""
        chosen = [name for name in OTHERS[1:] if name in self.methods]
        methods: dict[str, Method] = {LAPLACE: _laplace} | ({", ".join(chosen): _by_dates(chosen)} if chosen else {})
        methods |= {DRIFT: _drift} if DRIFT in self.methods else {}
        lineup = Lineup(methods | {FIELD: _without_days(field_method(self.samples))}, LAPLACE, [FIELD])
        for model in self.networks():
            for way in self.ways():
                name = f"{model.name}, {way[0].name}"
                method = model_method(name, model, way, references=True, background="kriging")
                enter(lineup, name, _without_days(method), model=model, way=way)
        lineup.shown = [FIELD, *(name for name in lineup.methods if name not in (FIELD, *methods)), LAPLACE, *chosen]
        return lineup

    def measure(self, case: LstCase, estimate: Estimate) -> list[Row]:
        """Sums over the missing pixels and over their strata."""
        rows = measure(case, replace(estimate, value=np.where(case.missing, estimate.value, case.truth)))
        return [row | {"references": len(case.references)} for row in rows]

    def score(self, sums: pd.DataFrame, lineup: Lineup) -> dict[str, pd.DataFrame]:
        """Scores by number of references, at all and by distance, and the scores of every case."""
        count = sums["references"].map("{:2d}".format)
        own = sums["stratum"].where(sums["kind"] != "all", count)
        kinds: dict[str, Kind] = {"all": "references"}
        table = sums.assign(stratum=own, kind=sums["kind"].replace(kinds))
        table.loc[sums["kind"] != "all", "stratum"] = count + " references, " + sums["stratum"]
        table["kind"] = pd.Categorical(table["kind"], list(KINDS), ordered=True)
        table["stratum"] = pd.Categorical(table["stratum"], list(dict.fromkeys(table["stratum"])), ordered=True)
        whole = sums[sums["kind"] == "all"]
        return {
            "scores": pool(table, SCHEME, baseline=lineup.baseline, seed=self.seed),
            "cases": score_each(whole, SCHEME, ("scene", "rate", "references")),
        }

    def main(self, scores: pd.DataFrame) -> pd.DataFrame:
        """The scores by number of references."""
        return scores[scores["kind"] == "references"].sort_values(["stratum", "rate"], kind="stable")

    def plots(self, cases: Sequence[LstCase], lineup: Lineup) -> dict[str, Plot]:
        """Error by number of references, reliability, and examples with most of them."""
        own = super().plots(cases, lineup)
        drawn = {name: plot for name, plot in own.items() if name not in ("distance", "evaluations")}
        more = Plot("What dates tell", "RMSE over the missing pixels by number of references.", _draw_counts)
        return {"references": more} | drawn

    def examples(self, cases: Sequence[LstCase]) -> list[LstCase]:
        """Cases of each rate with most references."""
        return super().examples([case for case in cases if len(case.references) == max(self.counts)])

    def data(self, found: Found) -> dict[str, str]:
        """The dates, the cases and the references."""
        numbers = ", ".join(map(str, self.counts))
        told = super().data(found)
        told["cases"] = f"{len(found.cases)} of {self.size} x {self.size} pixels, one of each date, rate and number"
        said = f"{numbers} dates with {share(OWN_RATE)} cloud of their own, those within {self.far} days last"
        return told | {"references": said}


def cloud_over(shape: tuple[int, int], rate: float, clouds: Sequence[BoolArray], rng: np.random.Generator) -> BoolArray:
    """A window of a real cloud mask, mirrored where it is too small, brought to the missing rate."""
    cloud = clouds[int(rng.integers(len(clouds)))]
    pads = [(0, max(0, 2 * length - had)) for length, had in zip(shape, cloud.shape, strict=True)]
    mirrored = np.pad(cloud, pads, mode="symmetric")
    for _ in range(TRIES):
        row, col = (int(rng.integers(0, had - length + 1)) for had, length in zip(mirrored.shape, shape, strict=True))
        window = mirrored[row : row + shape[0], col : col + shape[1]]
        if 0.4 * rate < window.mean() < min(2 * rate, 0.85):
            break
    return exact_rate(np.ascontiguousarray(window), rate, rng=rng)


def _ordered(names: Sequence[str], target: int, far: int) -> list[int]:
    """All other dates in a random order, those within ``far`` days of the target last."""
    others = [int(j) for j in np.random.default_rng(100 + target).permutation(len(names)) if j != target]
    apart = {j: abs((date_of(names[j]) - date_of(names[target])).days) for j in others}
    return [j for j in others if apart[j] > far] + [j for j in others if apart[j] <= far]


def centre_of(values: FloatArray, size: int) -> FloatArray:
    """The middle of a raster."""
    top, left = ((length - size) // 2 for length in values.shape)
    if min(top, left) < 0:
        raise LacunarError(f"a raster of {values.shape[0]} x {values.shape[1]} pixels: wanted {size} or more: --size")
    return values[top : top + size, left : left + size]


def _without_days(method: Method) -> Method:
    return lambda values, known, others, days, seed: method(values, known, others, seed)


def _laplace(
    values: FloatArray, known: BoolArray, others: Sequence[FloatArray], days: Sequence[int], seed: int
) -> dict[str, Estimate]:
    del others, days, seed
    return {LAPLACE: Estimate(fill("laplace", values, known))}


def _drift(
    values: FloatArray, known: BoolArray, others: Sequence[FloatArray], days: Sequence[int], seed: int
) -> dict[str, Estimate]:
    """What networks start from: kriging, tile by tile, with the dates as drift."""
    del days, seed
    if not others:
        return {}
    guides = np.stack(list(others))
    cells = tuple(CoarseField.of(one, np.isfinite(one), COARSE_CELL) for one in guides)
    coarse = replace(CoarseField.of(values, known, COARSE_CELL), guides=cells)
    field = background_field(values, known, ~known, coarse, kriged=True, guides=guides)
    return {DRIFT: Estimate(field.mean, field.sigma)}


def _by_dates(names: Sequence[str]) -> Method:
    """The fills of these names from other dates, all by one fit of EM."""

    def method(
        values: FloatArray, known: BoolArray, others: Sequence[FloatArray], days: Sequence[int], seed: int
    ) -> dict[str, Estimate]:
        del seed
        if not others:
            return {}
        dates = np.concatenate([np.where(known, values, np.nan)[None], others]).astype(np.float64)
        model = DateModel.estimated(dates.reshape(len(dates), -1))
        full, share = completed(dates, model)[1:], 1 / len(names)
        found = {}
        if EM in names:
            found[EM] = model.expectation(dates.reshape(len(dates), -1), 0).reshape(known.shape)
        if REGRESSION in names:
            found[REGRESSION] = _regression(values, known, full)
        if CYCLE in names and len(others) >= LEAST_CYCLE:
            found[CYCLE] = _cycle(values, known, full, days)
        return {name: Estimate(value, share=share) for name, value in found.items()}

    return method


def _regression(values: FloatArray, known: BoolArray, dates: FloatArray) -> FloatArray:
    """Ridge regression on completed dates (K, H, W)."""
    centred = dates - dates.mean(axis=(1, 2), keepdims=True)
    seen, mean = centred[:, known], values[known].mean()
    gram = seen @ seen.T
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.asarray(mean + np.tensordot(np.linalg.solve(gram, seen @ (values[known] - mean)), centred, axes=1))


def _cycle(values: FloatArray, known: BoolArray, dates: FloatArray, days: Sequence[int]) -> FloatArray:
    """Each pixel's anomaly in a yearly sinusoid through completed dates (K, H, W), at the target's mean."""
    angle = 2 * np.pi * np.asarray(days) / YEAR
    waves = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], axis=1)
    anomalies = (dates - dates.mean(axis=(1, 2), keepdims=True)).reshape(len(dates), -1)
    fitted = np.linalg.solve(waves[1:].T @ waves[1:] + np.diag([0.1, 1.0, 1.0]), waves[1:].T @ anomalies)
    found = (waves[0] @ fitted).reshape(known.shape)
    return np.asarray(found + (values - found)[known].mean())


def _draw_counts(found: Found) -> Figure:
    scores = found.scores[found.scores["kind"] == "references"]
    strata = list(dict.fromkeys(scores["stratum"]))
    scores = scores.assign(
        panel=scores["rate"].map(lambda rate: f"{share(rate)} missing"), place=scores["stratum"].map(strata.index)
    )
    labels = ("reference dates", RMSE_LABEL)
    return line_panels(scores, ("panel", "place", "rmse"), found.lineup.shown, labels=labels, ticks=strata)
