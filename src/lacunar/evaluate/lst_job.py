"""The story of how good LST fills are: clear rasters and clouds become cases, scores, figures and a report."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lacunar.diffusion.samplers import Preset, runs_of
from lacunar.errors import LacunarError
from lacunar.evaluate.cases import RATES, Case, lst_cases, pair_cases, read_scenes, spread_out
from lacunar.evaluate.lst_report import Findings, draw_figures, panel, write_report
from lacunar.evaluate.measure import ONE_SAMPLE, Fill, Measured
from lacunar.evaluate.methods import (
    BASELINE,
    CLASSICAL,
    REFERENCE_BASELINE,
    SMOOTHED,
    Filler,
    classical_fillers,
    evaluate,
    model_filler,
    reference_fillers,
)
from lacunar.evaluate.report_figures import Example, examples_figure
from lacunar.evaluate.scores import KINDS, Reliability, Score, pool, reliability
from lacunar.evaluate.tables import case_scores, cases_to_csv, plain_values, to_csv
from lacunar.geo.missing_shapes import PATTERN_NAMES, PatternName
from lacunar.geo.staging import Staging
from lacunar.models.backend import EngineName, with_engine
from lacunar.models.checkpoint import Model, load_model
from lacunar.plotting import save_figure
from lacunar.versions import describe_machine, versions

EXAMPLES = 3  # cases drawn for each missing rate
CHOSEN = (BASELINE, SMOOTHED, "idw")  # classical fills of figures and strata
CHOSEN_BESIDE = (BASELINE, REFERENCE_BASELINE, "kriging with drift")  # and with references
WITH_REFERENCE = ", with reference"
TABLES = ("scores.csv", "cases.csv", "scores.json", "report.html")

Callback = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class QualityOptions:
    """What is compared on what.

    Parameters
    ----------
    masks, rates, size, per_raster
        Shape of the gaps, missing rates, side of a tile in pixels, tiles from each raster (or pair).
    methods
        Classical fills; kriging is always among them.
    models, presets, steps, samplers
        Networks; each is run with each preset (``NAME``, or ``NAME:K`` for K samples), with conditional DDIM of each
        number of steps, and with each sampler (``NAME:N`` for N evaluations).
    samples, sigma
        Samples of a network's fill, and whether its sigma is scored: one sample has none.
    most_cases
        Cases of each rate at most, spread over the dates; None = all.
    references
        Pairs of dates of each group, so that every case comes beside one other date; 0 = cases without reference.
    seed, device, engine, overwrite, command
        Seed of everything drawn; where networks run, by which engine; replace outputs that exist; what the user typed.

    Raises
    ------
    LacunarError
        An unknown preset, sampler, method or pattern of masks, sigma asked of one sample, no rate or rates twice, or
        numbers out of range.
    """

    masks: PatternName = "cloud"
    rates: tuple[float, ...] = RATES
    size: int = 64
    per_raster: int = 4
    methods: tuple[str, ...] = CLASSICAL
    models: tuple[str, ...] = ("lst-small",)
    presets: tuple[str, ...] = ("fast",)
    steps: tuple[int, ...] = ()
    samplers: tuple[str, ...] = ()
    samples: int = 8
    sigma: bool = True
    most_cases: int | None = None
    references: int = 0
    seed: int = 0
    device: str = "cpu"
    engine: EngineName = "eager"
    overwrite: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        """Check every value before any work is done."""
        self.runs()
        classical_fillers(self.methods)
        if self.masks not in PATTERN_NAMES:
            raise LacunarError(f"unknown masks {self.masks!r}: choose one of {', '.join(PATTERN_NAMES)}")
        if self.models and self.samples == 1 and self.sigma:
            raise LacunarError(
                "1 sample has no spread, so it gives no sigma: give --samples 2 or more, or --no-sigma for fills alone"
            )
        if not self.rates or len(set(self.rates)) < len(self.rates):
            raise LacunarError(f"got the missing rates {list(self.rates)}; wanted one or more, each once")
        if self.most_cases is not None and self.most_cases < 1:
            raise LacunarError(f"got {self.most_cases} cases at most; wanted 1 or more")
        least = {"size": 11, "per_raster": 1, "samples": 1, "references": 0, "seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise LacunarError(f"got {name.replace('_', ' ')} {getattr(self, name)}; wanted {low} or more")
        if any(steps < 1 for steps in self.steps):
            raise LacunarError(f"got {min(self.steps)} steps; wanted 1 or more")

    def runs(self) -> list[tuple[Preset, int]]:
        """Every way to run a network, and how many samples it draws."""
        return runs_of(self.presets, self.steps, self.samplers, samples=self.samples)


@dataclass(eq=False)
class _Contest:
    """The fillers by name, in order; which curve each network is a point of; what stands out."""

    fillers: dict[str, Filler]
    networks: dict[str, str] = field(default_factory=dict)
    headline: str = BASELINE
    baseline: str = BASELINE


def evaluate_lst(
    rasters: Path,
    clouds: Path | None,
    output: Path,
    *,
    options: QualityOptions | None = None,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """Score fills of LST on truth that is hidden from them, and write scores, figures and a report.

    Parameters
    ----------
    rasters
        Folder of LST GeoTIFFs in kelvin (``PLACE_*.tif``); with references all of one grid, a date of 8 digits in each
        name.
    clouds
        Folder of Landsat QA_PIXEL rasters or cloud masks; needed where the gaps are clouds.
    output
        Folder for ``scores.csv``, ``cases.csv``, ``scores.json``, ``report.html`` and the figures as PNG.
    options
        What is compared on what.
    callback
        Called with (fills done, all).

    Returns
    -------
    dict
        What is written as ``scores.json``, and under ``findings`` the scores as values.

    Raises
    ------
    LacunarError
        Bad input; nothing is written then.
    """
    options, started = options or QualityOptions(), time.monotonic()
    if options.masks == "cloud" and clouds is None:
        raise LacunarError("masks of real clouds want a folder of them: give --clouds, or --masks blobs")
    examples = [f"examples_{100 * rate:g}.png" for rate in options.rates]
    drawn = ["reliability.png", "distance.png", *(["evaluations.png"] if options.models else []), *examples]
    with Staging(overwrite=options.overwrite) as staging:
        places = {name: staging.stage(output / name, make_folder=True) for name in (*TABLES, *drawn)}
        contest = _contest(options)
        scenes, shapes = read_scenes(rasters, clouds if options.masks == "cloud" else None)
        cases = _cases(scenes, shapes, options)
        shown = _Shown(cases, contest)
        rows = evaluate(cases, contest.fillers, seed=options.seed, callback=callback, watch=shown.keep)
        scores = pool(rows, baseline=contest.baseline, kinds=KINDS, seed=options.seed)
        findings = _findings(rasters, clouds, cases, contest, scores, reliability(rows), options)
        figures = draw_figures(findings)
        figures |= {Path(name).stem: shown.draw(rate) for name, rate in zip(examples, options.rates, strict=True)}
        for name, figure in figures.items():
            save_figure(figure, places[f"{name}.png"])
        pictures = {name: places[f"{name}.png"].read_bytes() for name in figures}
        record = _record(findings, rows, options, seconds=time.monotonic() - started)
        places["scores.csv"].write_text(to_csv(scores), encoding="utf-8")
        places["cases.csv"].write_text(cases_to_csv(rows), encoding="utf-8")
        places["scores.json"].write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        places["report.html"].write_text(write_report(findings, pictures), encoding="utf-8")
    return record | {"findings": findings}


def _contest(options: QualityOptions) -> _Contest:
    """Every filler that the options name."""
    contest = _Contest(classical_fillers({*options.methods, BASELINE}))
    beside = options.references > 0
    if beside:
        contest.fillers |= reference_fillers()
        contest.baseline, contest.headline = REFERENCE_BASELINE, CHOSEN_BESIDE[-1]
    for folder in options.models:
        model = with_engine(load_model(folder, device=options.device), options.engine)
        if any(name.startswith(f"{model.name}, ") for name in contest.networks):
            raise LacunarError(f"two models are named {model.name}: rename one of the folders")
        for preset, samples in options.runs():
            for with_references in (False, True) if beside and preset.conditional else (False,):
                _enter(contest, model, preset, samples, options, with_references=with_references)
    standing = [name for name in contest.networks if ONE_SAMPLE not in name]
    preferred = [name for name in standing if name.endswith(WITH_REFERENCE)] or standing
    contest.headline = (preferred or [contest.headline])[0]
    return contest


def _enter(
    contest: _Contest, model: Model, preset: Preset, samples: int, options: QualityOptions, *, with_references: bool
) -> None:
    """Add one network to the contest, and say which curve its mean and its one sample belong to."""
    beside = WITH_REFERENCE if with_references else ""
    name = f"{model.name}, {preset.name}{beside}"
    contest.fillers[name] = model_filler(
        model, preset=preset, samples=samples, with_sigma=options.sigma, with_references=with_references
    )
    contest.networks[name] = f"{model.name}, {preset.describe(samples)}{beside}"
    if samples > 1:
        contest.networks[f"{name}, {ONE_SAMPLE}"] = f"{model.name}, {preset.describe(1)}{beside}"


def _cases(scenes: Mapping[str, Any], shapes: Sequence[Any], options: QualityOptions) -> list[Case]:
    """Cases alone, or beside another date."""
    shared: dict[str, Any] = {
        "masks": options.masks,
        "rates": options.rates,
        "size": options.size,
        "seed": options.seed,
    }
    if options.references:
        cases = pair_cases(scenes, shapes, per_group=options.references, per_pair=options.per_raster, **shared)
    else:
        cases = lst_cases(scenes, shapes, per_raster=options.per_raster, **shared)
    return spread_out(cases, options.most_cases) if options.most_cases else cases


class _Shown:
    """Keeps the fills of a few cases, spread over the dates, the same tiles at every rate, to draw them."""

    def __init__(self, cases: Sequence[Case], contest: _Contest) -> None:
        self._names = [name for name in dict.fromkeys((BASELINE, contest.baseline, contest.headline))]
        self._fills: dict[tuple[str, str], Fill] = {}
        self._cases: dict[float, list[Case]] = {}
        for rate in dict.fromkeys(case.rate for case in cases):
            own = [case for case in cases if case.rate == rate]
            count = min(EXAMPLES, len(own))
            self._cases[rate] = [own[(2 * i + 1) * len(own) // (2 * count)] for i in range(count)]
        self._wanted = {case.name for own in self._cases.values() for case in own}

    def keep(self, case: Case, filler: str, fill: Fill) -> None:
        """Keep a fill that will be drawn."""
        if case.name in self._wanted and filler in self._names:
            self._fills[case.name, filler] = fill

    def draw(self, rate: float) -> Any:  # noqa: ANN401
        """The examples of one rate."""
        examples = []
        for case in self._cases[rate]:
            fills = {name: self._fills[case.name, name] for name in self._names}
            last = fills[self._names[-1]]
            beside = f"\n(reference: {case.days_apart} days)" if case.reference else ""
            examples.append(
                Example(
                    label=case.scene.replace("_", "\n", 1) + beside,
                    truth=case.values,
                    gap=case.gap,
                    fills={name: fill.mean for name, fill in fills.items()},
                    sample=last.sample,
                    sigma=last.sigma,
                    reference=case.references[0] if case.references else None,
                )
            )
        return examples_figure(examples, title=panel(rate))


def _findings(
    rasters: Path,
    clouds: Path | None,
    cases: Sequence[Case],
    contest: _Contest,
    scores: list[Score],
    curves: list[Reliability],
    options: QualityOptions,
) -> Findings:
    """What the report tells."""
    spans = {case.scene: case.high - case.low for case in cases}
    pairs = {(case.scene, case.reference): case for case in cases if case.reference}
    size = f"{options.size} x {options.size} pixels"
    data = {
        "rasters": f"{rasters}: {len(spans)} dates of {', '.join(sorted({case.place for case in cases}))}",
        "cases": f"{len(cases)} of {size}, {options.per_raster} tiles from each {'pair' if pairs else 'date'}",
        "gaps": f"{options.masks}" + (f" shapes of {clouds}" if options.masks == "cloud" else ""),
        "data range of each date, K": ", ".join(f"{scene} {span:.1f}" for scene, span in spans.items()),
    }
    if pairs:
        data["pairs of dates"] = "; ".join(
            f"{scene} beside {other} ({case.days_apart} days, {case.group})" for (scene, other), case in pairs.items()
        )
    made = {
        "machine": describe_machine(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "samples": "; ".join(f"{preset.name}: mean of {samples}" for preset, samples in options.runs()),
        "seed": str(options.seed),
    }
    return Findings(
        scores=scores,
        reliability=curves,
        cases=cases,
        networks=contest.networks,
        chosen=CHOSEN_BESIDE if options.references else CHOSEN,
        headline=contest.headline,
        baseline=contest.baseline,
        data=data,
        made=made,
        command=options.command,
    )


def _record(findings: Findings, rows: Sequence[Measured], options: QualityOptions, *, seconds: float) -> dict[str, Any]:
    """Everything as plain values."""
    settings = {name: value for name, value in asdict(options).items() if name not in ("overwrite", "command")}
    record: dict[str, Any] = {
        "command": options.command,
        "versions": versions(),
        "machine": describe_machine(),
        "seconds": round(seconds, 1),
        "options": settings,
        "data": dict(findings.data),
        "baseline": findings.baseline,
        "scores": [asdict(score) for score in findings.scores],
        "reliability": [
            {
                "filler": curve.filler,
                "rate": curve.rate,
                "nominal": curve.nominal.tolist(),
                "observed": curve.observed.tolist(),
                "pit_density": curve.histogram.tolist(),
            }
            for curve in findings.reliability
        ],
        "cases": [case_scores(row) for row in rows],
    }
    return plain_values(record)
