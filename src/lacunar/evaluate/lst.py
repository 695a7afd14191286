"""Evaluation of LST fills: tiles of clear dates, classical and learned fills, errors over what was hidden.

Errors count over the missing pixels, all cases pooled. Whole-image scores stand beside them because papers print those;
they flatter, since known pixels are exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import ndimage

from lacunar import metrics
from lacunar.diffusion.samplers import Preset
from lacunar.errors import LacunarError
from lacunar.evaluate.lst_cases import RATES, LstCase, lst_cases, read_scenes, spread_out
from lacunar.evaluate.plot import Image, cost_panels, image_rows, line_panels
from lacunar.evaluate.probabilistic import LEVELS, crps_ensemble, crps_gaussian, pit, within_central
from lacunar.evaluate.report import Columns, by_method, share
from lacunar.evaluate.scores import FloatArray, Scheme, Sums, pool, score_each, stratum_names
from lacunar.evaluate.task import (
    MAX_CURVES,
    ONE_SAMPLE,
    BoolArray,
    Estimate,
    FillTask,
    Found,
    Lineup,
    Method,
    Plot,
    Row,
    chosen,
    enter,
)
from lacunar.fill.array import fill_array
from lacunar.fill.options import BackgroundName, FillOptions
from lacunar.geo.missing_shapes import PATTERN_NAMES, PatternName
from lacunar.interpolate.classical import FILL_NAMES, FillName, fill
from lacunar.interpolate.external_drift import REFERENCE_FILL_NAMES, ReferenceFillName, fill_from_reference
from lacunar.interpolate.kriging import fit_covariance, krige
from lacunar.models.checkpoint import Model
from lacunar.train.lst_data import place_of

BASELINE: FillName = "kriging"  # what fills without a reference are compared with
REFERENCE_BASELINE: ReferenceFillName = "regression + kriging"  # and fills with one
SMOOTHED = "kriging (averaged)"  # with smoothed covariances, averaged: what the network starts from
FIELD = "lacunar"  # the field of the raster, without a network
CLASSICAL: tuple[str, ...] = (*(name for name in FILL_NAMES if name != BASELINE), BASELINE, SMOOTHED)
METHODS: tuple[str, ...] = (*CLASSICAL, FIELD)
CHOSEN = (BASELINE, SMOOTHED, "idw")  # classical fills of figures and strata
CHOSEN_BESIDE = (BASELINE, REFERENCE_BASELINE, "kriging with drift")  # and with references
WITH_REFERENCE = ", with reference"

DISTANCES = (1, 2, 4, 8, 16, 32)  # pixels to the nearest known one: edges of the strata
SIZES = (16, 64, 256, 1024, 4096)  # pixels of the connected missing region: edges of the strata
PIT_BINS = 20
SIGMAS_OF_95 = 1.959964  # half-width of the central 95 % of a normal distribution in standard deviations
EXAMPLES = 3  # cases drawn for each missing rate
MOST_SHOWN = 3  # references of an example
CLIPPED = 0.5  # per cent of the pixels left beyond each end of a colour scale
ZERO_CELSIUS = 273.15
RMSE_LABEL = "RMSE of missing pixels (K)"

Kind = Literal["all", "distance", "gap size", "scene", "place", "reference", "references"]
KINDS: tuple[Kind, ...] = get_args(Kind)
STRATA: Mapping[Kind, str] = {
    "distance": "by distance to the nearest known pixel",
    "gap size": "by size of the connected missing region, in pixels",
    "references": "by number of reference dates",
    "reference": "by what the reference date is to the date that is filled",
    "place": "by place",
    "scene": "by date",
}
STRATA_COLUMNS: Columns = {
    "rate": ("missing", share),
    "stratum": ("stratum", ""),
    "scenes": ("dates", "d"),
    "pixels": ("pixels", "d"),
}
COST_CAPTION = (
    "Evaluations for one tile, all samples together. Bars are the 95 % interval of the ratio to the baseline, times "
    "its RMSE: how sure the difference to that line is, not how much dates differ."
)


def _mean(column: str) -> Any:  # noqa: ANN401
    return lambda own: own[column] / own["pixels"]


def _ratio(own: Sums, base: Sums) -> FloatArray:
    """RMSE over that of the baseline; 1 where neither erred."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(own["squares"] / base["squares"])
    return np.where((own["squares"] == 0) & (base["squares"] == 0), 1.0, ratio)


SCHEME = Scheme(
    unit="scene",
    by=("kind", "rate", "stratum"),
    counts=("pixels",),
    greatest=("max_abs",),
    ratios={
        "rmse": lambda own: np.sqrt(own["squares"] / own["pixels"]),
        "mae": _mean("absolute"),
        "bias": _mean("errors"),
        "crps": _mean("crps_gaussian"),  # the MAE without a sigma
        "crps_samples": _mean("crps_ensemble"),
        "coverage_68": _mean("in_68"),
        "coverage_95": _mean("in_95"),
        "sigma": lambda own: np.sqrt(own["variance"] / own["pixels"]),  # the RMSE that sigma claims
    },
    means=("image_mse", "psnr", "ssim", "image_max"),
    compared={"ratio": _ratio},
    intervals=("rmse", "ratio", "crps", "coverage_68", "coverage_95"),
)


@dataclass(frozen=True, kw_only=True)
class LstTask(FillTask):
    """Which fills are compared on which tiles."""

    rasters: Path  # folder of LST GeoTIFFs in kelvin, PLACE_*.tif; with references of one grid, a date in each name
    clouds: Path | None = None  # folder of Landsat QA_PIXEL rasters or cloud masks; needed where clouds hide
    masks: PatternName = "cloud"  # shape of what is missing
    rates: tuple[float, ...] = RATES
    size: int = 64  # side of a tile in pixels
    per_raster: int = 4  # tiles from each raster (or pair)
    methods: tuple[str, ...] = METHODS  # kriging is always among them
    models: tuple[str, ...] = ("lst-small",)
    sigma: bool = True  # whether the sigma of networks is scored: one sample has none
    most_cases: int | None = None  # of each rate, spread over the dates; None = all
    references: int = 0  # pairs of dates of each group, so that every case comes beside one other date

    title: ClassVar[str] = "How good are the fills?"
    unit: ClassVar[str] = "date"
    lead: ClassVar[str] = (
        "{ours.rate} missing: {ours.method} errs by {ours.rmse} K (RMSE over the missing pixels), {base.method} by "
        "{base.rmse} K: {ours.ratio} of it. Truths inside its 68 % intervals: {ours.coverage_68}, inside its 95 % "
        "intervals: {ours.coverage_95}."
    )
    note: ClassVar[str] = (
        "Errors, CRPS and coverage count the missing pixels alone. CRPS takes mean and sigma as a normal distribution; "
        "the claimed RMSE is the root of the mean of sigma squared. Image MSE, PSNR and SSIM are means over whole "
        "images, as papers print them: known pixels are exact, so they flatter, and more so the less is missing. Their "
        "data range is that of each date."
    )
    columns: ClassVar[Columns] = {
        "rate": ("missing", share),
        "method": ("method", ""),
        "rmse": ("RMSE, K", ".2f"),
        "ratio": ("RMSE / {baseline}", ".2f"),
        "mae": ("MAE, K", ".2f"),
        "bias": ("bias, K", "+.2f"),
        "max_abs": ("max, K", ".1f"),
        "crps": ("CRPS, K", ".2f"),
        "coverage_68": ("in 68 %", ".0%"),
        "coverage_95": ("in 95 %", ".0%"),
        "sigma": ("claimed RMSE, K", ".2f"),
        "image_mse": ("image MSE, K²", ".3f"),
        "psnr": ("PSNR, dB", ".2f"),
        "ssim": ("SSIM", ".4f"),
        "evaluations": ("evaluations", "d"),
    }
    inputs: ClassVar[tuple[str, ...]] = ("rasters", "clouds")

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen(self.methods, self.known_methods())
        if self.masks not in PATTERN_NAMES:
            raise LacunarError(f"unknown masks {self.masks!r}: choose one of {', '.join(PATTERN_NAMES)}")
        if self.masks == "cloud" and self.clouds is None:
            raise LacunarError("masks of real clouds want a folder of them: give --clouds, or --masks blobs")
        if self.models and self.samples == 1 and self.sigma:
            raise LacunarError(
                "1 sample has no spread, so it gives no sigma: give --samples 2 or more, or --no-sigma for fills alone"
            )
        self.at_least(size=11, per_raster=1, references=0, most_cases=1)

    def known_methods(self) -> tuple[str, ...]:
        """The fills without a model that can be chosen."""
        return METHODS

    def cases(self) -> list[LstCase]:
        """Tiles alone, or beside another date."""
        scenes, shapes = read_scenes(self.rasters, self.clouds if self.masks == "cloud" else None)
        names = ("masks", "rates", "size", "per_raster", "seed")
        options = {name: getattr(self, name) for name in names}
        cases = lst_cases(scenes, shapes, pairs_per_group=self.references, **options)
        return spread_out(cases, self.most_cases) if self.most_cases else cases

    def lineup(self) -> Lineup:
        """Classical fills, those that use another date, and every run of the networks, without and with it."""
        names = [name for name in CLASSICAL if name in (*self.methods, BASELINE)]
        lineup = Lineup({name: _classical_method(name) for name in names}, BASELINE, [BASELINE])
        shown: tuple[str, ...] = CHOSEN
        if self.references:
            lineup.methods |= {name: _reference_method(name) for name in REFERENCE_FILL_NAMES}
            lineup.baseline, lineup.preferred, shown = REFERENCE_BASELINE, [CHOSEN_BESIDE[-1]], CHOSEN_BESIDE
        fields = [FIELD, *([f"{FIELD}{WITH_REFERENCE}"] if self.references else [])] if FIELD in self.methods else []
        lineup.methods |= {name: field_method(self.samples, name=name, references=name != FIELD) for name in fields}
        networks = []
        for model in self.networks():
            for way in self.ways():
                for note in ("", WITH_REFERENCE) if self.references and way[0].conditional else ("",):
                    networks.append(f"{model.name}, {way[0].name}{note}")
                    method = model_method(networks[-1], model, way, sigma=self.sigma, references=bool(note))
                    enter(lineup, networks[-1], method, model=model, way=way, note=note)
        lineup.preferred = [name for name in networks if name.endswith(WITH_REFERENCE)] + networks + lineup.preferred
        lineup.preferred = [*reversed(fields), *lineup.preferred]
        lineup.shown = [name for name in (*shown, *fields, *networks) if name in lineup.methods][:MAX_CURVES]
        return lineup

    def measure(self, case: LstCase, estimate: Estimate) -> list[Row]:
        """Sums over the missing pixels and over their strata, and scores of the whole image."""
        return measure(case, estimate)

    def score(self, sums: pd.DataFrame, lineup: Lineup) -> dict[str, pd.DataFrame]:
        """Scores over everything and over every kind of stratum, and the scores of every case."""
        whole = sums[sums["kind"] == "all"]
        named = {"scene": whole["scene"], "place": whole["scene"].map(place_of), "reference": whole["group"]}
        parts = [whole.assign(kind=kind, stratum=names)[names != ""] for kind, names in named.items()]
        table = pd.concat([sums, *parts], ignore_index=True)
        strata = dict.fromkeys(["all", *stratum_names(DISTANCES), *stratum_names(SIZES), *table["stratum"]])
        table["kind"] = pd.Categorical(table["kind"], list(KINDS), ordered=True)
        table["stratum"] = pd.Categorical(table["stratum"], list(strata), ordered=True)
        identity = ("scene", "row", "col", "rate", "reference", "days_apart", "group")
        return {
            "scores": pool(table, SCHEME, baseline=lineup.baseline, seed=self.seed),
            "cases": score_each(whole, SCHEME, identity),
        }

    def reliability(self, sums: pd.DataFrame) -> list[Row]:
        """How often the truth lay inside the central intervals, rate by rate, of the methods that give a sigma."""
        curves = []
        whole = sums[(sums["kind"] == "all") & sums["pit_0"].notna()]
        for (rate, method), own in whole.groupby(["rate", "method"], sort=False):
            observed = own[[f"within_{level:g}" for level in LEVELS]].sum() / own["pixels"].sum()
            density = own[[f"pit_{i}" for i in range(PIT_BINS)]].sum() * PIT_BINS / own["pixels"].sum()
            curve = {"method": method, "rate": rate, "nominal": list(LEVELS), "observed": observed.tolist()}
            curves.append(curve | {"pit_density": density.tolist()})
        return curves

    def examples(self, cases: Sequence[LstCase]) -> list[LstCase]:
        """A few cases of each rate, spread over the dates; the same tiles at every rate."""
        drawn = []
        for rate in self.rates:
            own = [case for case in cases if case.rate == rate]
            count = min(EXAMPLES, len(own))
            drawn += [own[(2 * i + 1) * len(own) // (2 * count)] for i in range(count)]
        return drawn

    def plots(self, cases: Sequence[LstCase], lineup: Lineup) -> dict[str, Plot]:
        """Reliability, error by distance, error against evaluations where there is a network, and examples."""
        del cases
        on_diagonal = "On the diagonal sigma is calibrated; above it too wide, below it too narrow."
        scales = "Temperatures of a row share one scale; errors and sigmas of all rows share the other."
        plots = {
            "reliability": Plot("Is sigma calibrated?", on_diagonal, _draw_reliability),
            "distance": Plot("Where the errors are", "RMSE by distance to the nearest known pixel.", _draw_distance),
        }
        if lineup.curves:
            plots["evaluations"] = Plot("Quality against network evaluations", COST_CAPTION, _draw_evaluations)
        for rate in self.rates:
            plots[f"examples_{100 * rate:g}"] = Plot("Examples", scales, partial(_draw_examples, rate=rate))
        return plots

    def main(self, scores: pd.DataFrame) -> pd.DataFrame:
        """The scores over everything."""
        return scores[scores["kind"] == "all"]

    def details(self, found: Found) -> dict[str, pd.DataFrame]:
        """RMSE and coverage of every kind of stratum."""
        tables, methods = {}, found.lineup.shown
        for kind, title in STRATA.items():
            own = found.scores[(found.scores["kind"] == kind) & found.scores["method"].isin(methods)]
            if own["stratum"].nunique() > 1:
                rmse = by_method(own, "rmse", ".2f", index=STRATA_COLUMNS, methods=methods)
                coverage = by_method(own, "coverage_68", ".0%", index=STRATA_COLUMNS, methods=methods)
                tables[f"RMSE in kelvin {title}"] = rmse
                tables[f"Share of truths inside the 68 % interval {title}"] = coverage
        return tables

    def data(self, found: Found) -> dict[str, str]:
        """The dates, the cases, what hides them, and the pairs of dates."""
        cases: Sequence[LstCase] = found.cases
        spans = {case.scene: case.high - case.low for case in cases}
        pairs = {(case.scene, case.reference): case for case in cases if case.reference}
        places = ", ".join(sorted({place_of(scene) for scene in spans}))
        each = f"{self.per_raster} tiles from each {'pair' if pairs else 'date'}"
        data = {
            "rasters": f"{self.rasters}: {len(spans)} dates of {places}",
            "cases": f"{len(cases)} of {self.size} x {self.size} pixels, {each}",
            "gaps": f"{self.masks}" + (f" shapes of {self.clouds}" if self.masks == "cloud" else ""),
            "data range of each date, K": ", ".join(f"{scene} {span:.1f}" for scene, span in spans.items()),
        }
        if pairs:
            data["pairs of dates"] = "; ".join(
                f"{scene} beside {other} ({case.days_apart} days, {case.group})"
                for (scene, other), case in pairs.items()
            )
        return data


# --- methods ---


def _classical_method(name: str) -> Method:
    def method(values: FloatArray, known: BoolArray, _: Sequence[FloatArray], seed: int) -> dict[str, Estimate]:
        del seed
        if name not in (BASELINE, SMOOTHED):
            return {name: Estimate(fill(name, values, known))}  # type: ignore[arg-type]
        covariance = None if name == SMOOTHED else fit_covariance(values, known, smoothings=(0.0,))
        return {name: Estimate(*krige(values, known, covariance=covariance))}

    return method


def _reference_method(name: ReferenceFillName) -> Method:
    def method(values: FloatArray, known: BoolArray, others: Sequence[FloatArray], seed: int) -> dict[str, Estimate]:
        del seed
        return {name: Estimate(*fill_from_reference(name, values, known, others))}

    return method


def field_method(samples: int, *, name: str = FIELD, references: bool = True) -> Method:
    """The field of the raster: the mean of its samples with their sigma, and the first sample."""

    def method(values: FloatArray, known: BoolArray, others: Sequence[FloatArray], seed: int) -> dict[str, Estimate]:
        guides = np.stack(list(others)) if references and others else None
        options = FillOptions(background="field", samples=samples, seed=seed)
        filled = fill_array(values, known, ~known, None, options, guides=guides)
        limits = (filled.quantile(0.025), filled.quantile(0.975))
        whole = Estimate(filled.mean, filled.sigma, filled.samples, limits, antithetic=samples % 2 == 0)
        return {name: whole, f"{name}, {ONE_SAMPLE}": Estimate(filled.samples[0], share=1 / samples)}

    return method


def model_method(
    name: str,
    model: Model,
    way: tuple[Preset, int],
    *,
    sigma: bool = True,
    references: bool = False,
    background: BackgroundName = "auto",
) -> Method:
    """A diffusion model: the mean of its samples with their sigma, and the first sample under a name of its own.

    One sample alone has no sigma. A preset that gives the mean alone has a sigma and no sample.
    """
    preset, samples = way

    def method(values: FloatArray, known: BoolArray, others: Sequence[FloatArray], seed: int) -> dict[str, Estimate]:
        guides = np.stack(list(others)) if references and others else None
        options = FillOptions(preset=preset, samples=samples, seed=seed, background=background)
        filled = fill_array(values, known, ~known, model, options, guides=guides)
        each = filled.evaluations
        if samples == 1 and not (preset.mean_only and sigma):
            return {name: Estimate(filled.mean, evaluations=each)}
        unsure: dict[str, Any] = {}
        if sigma:
            unsure = {"sigma": filled.sigma, "limits": (filled.quantile(0.025), filled.quantile(0.975))}
        if preset.mean_only:
            return {name: Estimate(filled.mean, evaluations=each, **unsure)}
        if sigma:
            unsure |= {"samples": filled.samples, "antithetic": filled.paired}
        one = Estimate(filled.samples[0], evaluations=each, share=1 / samples)
        return {name: Estimate(filled.mean, evaluations=each * samples, **unsure), f"{name}, {ONE_SAMPLE}": one}

    return method


# --- measures ---


def measure(case: LstCase, estimate: Estimate) -> list[Row]:
    """Sum errors over the missing pixels of a case and over their strata, and score the whole image.

    Nothing missing, shapes that differ or NaN in the answer is a `LacunarError`.
    """
    if not case.missing.any():
        raise LacunarError(f"case {case.name} has nothing missing: there is nothing to score; hide one pixel or more")
    truth, span = case.truth[case.missing], case.high - case.low
    image = np.where(case.missing, estimate.value, case.truth)
    metrics.mse(image, case.truth)  # refuses NaN
    columns = _pixel_columns(estimate, case.missing, truth)
    rows = []
    for (kind, stratum), inside in _strata(case.missing).items():
        row: Row = {"kind": kind, "stratum": stratum, "pixels": int(inside.sum())}
        row |= {name: values[inside].sum() for name, values in columns.items()}
        rows.append(row | {"max_abs": float(columns["absolute"][inside].max())})
    rows[0] |= {
        "image_mse": metrics.mse(image, case.truth),
        "psnr": metrics.psnr(image, case.truth, data_range=span),
        # SSIM compares means too: 0 is the scene's coldest pixel, as 0 is black in the pictures it was made for.
        "ssim": metrics.ssim(image - case.low, case.truth - case.low, data_range=span),
        "image_max": rows[0]["max_abs"],
    }
    within, density = np.full(len(LEVELS), np.nan), np.full(PIT_BINS, np.nan)
    if estimate.sigma is not None:
        shares = pit(np.asarray(estimate.value, dtype=np.float64)[case.missing], estimate.sigma[case.missing], truth)
        within, density = within_central(shares), np.histogram(shares, PIT_BINS, (0, 1))[0]
    rows[0] |= {f"within_{level:g}": count for level, count in zip(LEVELS, within, strict=True)}
    rows[0] |= {f"pit_{i}": count for i, count in enumerate(density)}
    return rows


def _pixel_columns(estimate: Estimate, missing: BoolArray, truth: FloatArray) -> dict[str, FloatArray]:
    """What is summed, pixel by pixel; NaN where the estimate does not give it."""
    error = np.asarray(estimate.value, dtype=np.float64)[missing] - truth
    columns = {"squares": error**2, "absolute": np.abs(error), "errors": error, "crps_gaussian": np.abs(error)}
    columns |= dict.fromkeys(("crps_ensemble", "in_68", "in_95", "variance"), np.full(error.size, np.nan))
    if estimate.sigma is not None:
        sigma = np.asarray(estimate.sigma, dtype=np.float64)[missing]
        columns["crps_gaussian"] = crps_gaussian(error, sigma, np.zeros(error.size))
        columns["in_68"] = (np.abs(error) <= sigma).astype(np.float64)
        half = SIGMAS_OF_95 * estimate.sigma
        low, high = estimate.limits or (estimate.value - half, estimate.value + half)
        columns["in_95"] = ((low[missing] <= truth) & (truth <= high[missing])).astype(np.float64)
        columns["variance"] = sigma**2
    if estimate.samples is not None and len(estimate.samples) >= (4 if estimate.antithetic else 2):
        samples = estimate.samples[:, missing]
        columns["crps_ensemble"] = crps_ensemble(samples, truth, antithetic=estimate.antithetic)
    return columns


def _strata(missing: BoolArray) -> dict[tuple[Kind, str], BoolArray]:
    """The strata of the missing pixels, each True for its members; first the one that holds all of them."""
    distance = ndimage.distance_transform_edt(missing)[missing]
    parts, _ = ndimage.label(missing)
    size = np.bincount(parts.ravel())[parts[missing]]
    strata: dict[tuple[Kind, str], BoolArray] = {("all", "all"): np.ones(int(missing.sum()), dtype=bool)}
    kinds: tuple[tuple[Kind, FloatArray, tuple[int, ...]], ...] = (
        ("distance", distance, DISTANCES),
        ("gap size", size, SIZES),
    )
    for kind, values, edges in kinds:
        place = np.searchsorted(edges, values)
        strata |= {(kind, stratum_names(edges)[i]): place == i for i in np.unique(place)}
    return strata


# --- figures ---


def _draw_reliability(found: Found) -> Figure:
    curves = pd.DataFrame(found.reliability).explode(["nominal", "observed"])
    curves["panel"] = curves["rate"].map(_missing)
    labels, words = ("nominal coverage", "observed coverage"), ("sigma too wide", "sigma too narrow")
    axes = ("panel", "nominal", "observed")
    return line_panels(curves, axes, found.lineup.shown, labels=labels, diagonal=words)


def _draw_distance(found: Found) -> Figure:
    scores = found.scores[found.scores["kind"] == "distance"]
    strata = [name for name in stratum_names(DISTANCES) if name in set(scores["stratum"])]
    scores = scores.assign(panel=scores["rate"].map(_missing), place=scores["stratum"].map(strata.index))
    labels = ("distance to a known pixel (pixels)", RMSE_LABEL)
    return line_panels(scores, ("panel", "place", "rmse"), found.lineup.shown, labels=labels, ticks=strata)


def _draw_evaluations(found: Found) -> Figure:
    costs = found.costs(found.scores[found.scores["kind"] == "all"])
    base = costs["rmse"] / costs["ratio"]  # so that the bars tell methods apart, not hard dates from easy ones
    bars = {"low": base * costs["ratio_low"], "high": base * costs["ratio_high"]}
    costs = costs.assign(panel=costs["rate"].map(_missing), y=costs["rmse"], **bars)
    return cost_panels(costs, labels=("network evaluations for each tile", RMSE_LABEL))


def _missing(rate: float) -> str:
    return f"{share(rate)} missing"


def _draw_examples(found: Found, rate: float) -> Figure:
    """The examples of one rate: truth, what is given, the fills, one sample, absolute error and sigma."""
    own = [(case, answers) for case, answers in found.examples if case.rate == rate]
    best = found.lineup.preferred[0]
    names = [name for name in dict.fromkeys((BASELINE, found.lineup.baseline, best)) if name in own[0][1]]
    rows, doubts = [], []
    for case, answers in own:
        doubt = {f"|error|\n{best}": np.abs(answers[best].value - case.truth), f"sigma\n{best}": answers[best].sigma}
        doubts.append({name: values for name, values in doubt.items() if values is not None})
    hidden = [values[case.missing] for (case, _), doubt in zip(own, doubts, strict=True) for values in doubt.values()]
    most = max(float(np.percentile(np.concatenate(hidden), 100 - CLIPPED)), 1e-6)
    for (case, answers), doubt in zip(own, doubts, strict=True):
        fills = {name: answers[name] for name in names}
        if (one := answers.get(f"{best}, {ONE_SAMPLE}")) is not None:
            fills[ONE_SAMPLE] = one
        scale = _extremes(case.truth)
        images = [_temperature("truth", case.truth, scale), _temperature("given", case.given[0], scale)]
        for other in case.references[:MOST_SHOWN]:
            images.append(Image("reference\n(own scale)", other - ZERO_CELSIUS, "inferno", _extremes(other)))
        for name, fill_in in fills.items():
            images.append(_temperature(name, np.where(case.missing, fill_in.value, case.truth), scale))
        for name, values in doubt.items():
            images.append(Image(name, np.where(case.missing, values, 0.0), "YlGnBu", (0.0, most), "K"))
        beside = f"\n(reference: {case.days_apart} days)" if case.reference else ""
        rows.append((case.scene.replace("_", "\n", 1) + beside, images))
    return image_rows(rows, title=_missing(rate), side=1.75)


def _temperature(name: str, kelvin: FloatArray, scale: tuple[float, float]) -> Image:
    """A field in degrees Celsius."""
    return Image(name, kelvin - ZERO_CELSIUS, "inferno", scale, "°C")


def _extremes(kelvin: FloatArray) -> tuple[float, float]:
    """Ends of a colour scale in degrees Celsius, the rarest values clipped."""
    low, high = np.nanpercentile(kelvin, [CLIPPED, 100 - CLIPPED]) - ZERO_CELSIUS
    return float(low), float(high)
