"""The story of how good filled faces are: faces and occlusions become cases, scores, figures and a report."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lacunar.diffusion.samplers import Preset, runs_of
from lacunar.errors import LacunarError
from lacunar.evaluate.picture_evaluation import (
    BASELINE,
    METHOD_NAMES,
    OCCLUSIONS,
    ONE_SAMPLE,
    Painted,
    Painter,
    PictureCase,
    PictureRow,
    base_painter,
    classical_painters,
    evaluate_painters,
    model_painter,
    picture_cases,
)
from lacunar.evaluate.picture_report import PictureFindings, draw_evaluations, hidden, write_picture_report
from lacunar.evaluate.picture_report_figures import PictureExample, faces_figure
from lacunar.evaluate.picture_scores import pool_pictures
from lacunar.evaluate.tables import csv_text, plain_values
from lacunar.geo.missing_shapes import OcclusionName
from lacunar.geo.staging import Staging
from lacunar.models.backend import EngineName, with_engine
from lacunar.models.checkpoint import Model, load_model
from lacunar.plotting import save_figure
from lacunar.versions import describe_machine, versions

RATES = (0.15, 0.20, 0.50)  # missing rates of Bezerra et al. 2024
SHOWN_SAMPLES = 3
TABLES = ("scores.csv", "cases.csv", "scores.json", "report.html")

Callback = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class FaceQualityOptions:
    """What is compared on what.

    Parameters
    ----------
    size, rates, occlusions, most
        Side of the pictures, missing rates, what hides the faces (in turns), and how many pictures at most.
    methods
        Fills without a network; biharmonic is always among them.
    models, detail, presets, steps, samplers, samples
        Networks; each is run with each preset (``NAME``, or ``NAME:K`` for K samples), with conditional DDIM of each
        number of steps, and with each sampler (``NAME:N`` for N evaluations). ``detail`` refines pictures that are
        larger than a model's field.
    seed, device, engine, overwrite, command
        Seed of everything drawn; where networks run, by which engine; replace outputs that exist; what the user typed.

    Raises
    ------
    LacunarError
        An unknown preset, sampler or method, no rate or rates twice, or numbers out of range.
    """

    size: int = 64
    rates: tuple[float, ...] = RATES
    occlusions: tuple[OcclusionName, ...] = OCCLUSIONS
    most: int | None = None
    methods: tuple[str, ...] = METHOD_NAMES
    models: tuple[str, ...] = ("face-small",)
    detail: str = "picture-small"
    presets: tuple[str, ...] = ("fast",)
    steps: tuple[int, ...] = ()
    samplers: tuple[str, ...] = ()
    samples: int = 8
    seed: int = 0
    device: str = "cpu"
    engine: EngineName = "eager"
    overwrite: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        """Check every value before any work is done."""
        self.runs()
        classical_painters(self.methods)
        for name in ("rates", "occlusions"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise LacunarError(f"got {name} {list(values)}; wanted one or more, each once")
        least = {"size": 11, "samples": 1, "seed": 0} | ({"most": 1} if self.most is not None else {})
        for name, low in least.items():
            if getattr(self, name) < low:
                raise LacunarError(f"got {name} {getattr(self, name)}; wanted {low} or more")
        if any(steps < 1 for steps in self.steps):
            raise LacunarError(f"got {min(self.steps)} steps; wanted 1 or more")

    def runs(self) -> list[tuple[Preset, int]]:
        """Every way to run a network, and how many samples it draws."""
        return runs_of(self.presets, self.steps, self.samplers, samples=self.samples)


@dataclass(eq=False)
class _Contest:
    """The painters by name, in order, and which curve each network is a point of."""

    painters: dict[str, Painter]
    networks: dict[str, str]
    is_refined: bool = False

    @property
    def headline(self) -> str:
        """The first network; without one, the baseline."""
        return next(iter(self.networks), BASELINE)


def evaluate_faces(
    faces: Path,
    output: Path,
    *,
    options: FaceQualityOptions | None = None,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """Score filled faces on truth that is hidden, and write scores, figures and a report.

    Parameters
    ----------
    faces
        Folder of square pictures of aligned faces.
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
    options, started = options or FaceQualityOptions(), time.monotonic()
    sheets = [f"examples_{100 * rate:g}" for rate in options.rates]
    drawn = [*sheets, *(["evaluations"] if options.models else [])]
    with Staging(overwrite=options.overwrite) as staging:
        files = [*TABLES, *(f"{name}.png" for name in drawn)]
        places = {name: staging.stage(output / name, make_folder=True) for name in files}
        chosen = {"size": options.size, "rates": options.rates, "occlusions": options.occlusions}
        cases = picture_cases(faces, most=options.most, seed=options.seed, **chosen)  # type: ignore[arg-type]
        contest = _contest(options)
        shown = _Shown(cases, contest, options)
        rows = evaluate_painters(cases, contest.painters, seed=options.seed, callback=callback, watch=shown.keep)
        findings = _findings(faces, cases, contest, rows, options)
        figures = {name: shown.draw(rate) for name, rate in zip(sheets, options.rates, strict=True)}
        figures |= {"evaluations": draw_evaluations(findings)} if options.models else {}
        for name, figure in figures.items():
            save_figure(figure, places[f"{name}.png"])
        pictures = {name: places[f"{name}.png"].read_bytes() for name in figures}
        record = _record(findings, rows, options, seconds=time.monotonic() - started)
        for name in ("scores", "cases"):
            text = csv_text(list(record[name][0]), record[name])
            places[f"{name}.csv"].write_text(text, encoding="utf-8")
        plain = json.dumps(plain_values(record), indent=1, allow_nan=False)
        places["scores.json"].write_text(f"{plain}\n", encoding="utf-8")
        places["report.html"].write_text(write_picture_report(findings, pictures), encoding="utf-8")
    return record | {"findings": findings}


def _contest(options: FaceQualityOptions) -> _Contest:
    """Every painter that the options name."""
    contest = _Contest(classical_painters({*options.methods, BASELINE}), {})
    detail: Model | None = None
    for folder in options.models:
        model = with_engine(load_model(folder, device=options.device), options.engine)
        field = model.network.config.sample_size
        if options.size < field:
            raise LacunarError(f"model {model.name} fills pictures of {field} pixels or more: give --size {field}")
        if options.size > field and detail is None:
            detail = with_engine(load_model(options.detail, device=options.device), options.engine)
            contest.is_refined = True
        if any(name.startswith(f"{model.name}, ") for name in contest.networks):
            raise LacunarError(f"two models are named {model.name}: rename one of the folders")
        if model.prior is not None and options.size == field:
            contest.painters[f"{model.name}, prior alone"] = base_painter(model)
        for preset, samples in options.runs():
            name = f"{model.name}, {preset.name}"
            contest.painters[name] = model_painter(model, detail, preset=preset, samples=samples)
            contest.networks[name] = f"{model.name}, {preset.describe(samples)}"
            if samples > 1:
                contest.networks[f"{name}, {ONE_SAMPLE}"] = f"{model.name}, {preset.describe(1)}"
    return contest


class _Shown:
    """Keeps what is drawn of a few cases of each rate, one of each kind of occlusion."""

    def __init__(self, cases: Sequence[PictureCase], contest: _Contest, options: FaceQualityOptions) -> None:
        self._headline = contest.headline
        self._classical = [name for name in (BASELINE, "telea") if name in contest.painters]
        self._cases: dict[float, list[PictureCase]] = {}
        for rate in options.rates:
            own = [case for case in cases if case.rate == rate]
            self._cases[rate] = own[: len(options.occlusions)]
        self._painted: dict[tuple[str, float, str], Painted] = {}

    def keep(self, case: PictureCase, method: str, painted: Painted) -> None:
        """Keep what will be drawn."""
        if method in (self._headline, *self._classical) and case in self._cases[case.rate]:
            self._painted[case.name, case.rate, method] = painted

    def draw(self, rate: float) -> Any:  # noqa: ANN401
        """The contact sheet of one rate."""
        examples = []
        for case in self._cases[rate]:
            found = {name: self._painted[case.name, rate, name] for name in (*self._classical, self._headline)}
            results = {name: found[name].samples.mean(axis=0) for name in found}
            samples = found[self._headline].samples
            if len(samples) > 1:
                results |= {f"sample {i + 1}": sample for i, sample in enumerate(samples[: 2 * SHOWN_SAMPLES : 2])}
            whole = {name: _over(case, result) for name, result in results.items()}
            examples.append(PictureExample(f"{case.name}\n{case.hidden_by}", case.truth, case.gap, whole))
        return faces_figure(examples, title=hidden(rate))


def _over(case: PictureCase, result: Any) -> Any:  # noqa: ANN401
    """The result in the gap, the truth around it."""
    whole = case.truth.astype(float)
    whole[case.gap] = result[case.gap]
    return whole


def _findings(
    folder: Path,
    cases: Sequence[PictureCase],
    contest: _Contest,
    rows: Sequence[PictureRow],
    options: FaceQualityOptions,
) -> PictureFindings:
    """What the report tells."""
    kinds = Counter(case.hidden_by for case in cases if case.rate == options.rates[0])
    missing = sorted({*options.methods} - {*contest.painters})
    data = {
        "faces": f"{folder}: {len({case.name for case in cases})} pictures at {options.size} x {options.size} pixels",
        "occlusions at each rate": ", ".join(f"{count} by {kind}" for kind, count in kinds.items()),
    }
    if missing:
        data["left out"] = f"{', '.join(missing)}: OpenCV is not installed"
    if contest.is_refined:
        data["refined by"] = f"{options.detail}, as `lacunar face` does in the photograph"
    made = {
        "machine": describe_machine(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "samples": "; ".join(f"{preset.name}: mean of {samples}" for preset, samples in options.runs()),
        "seed": str(options.seed),
    }
    return PictureFindings(
        scores=pool_pictures(rows, baseline=BASELINE, seed=options.seed),
        networks=contest.networks,
        headline=contest.headline,
        baseline=BASELINE,
        data=data,
        made=made,
        command=options.command,
    )


def _record(
    findings: PictureFindings, rows: Sequence[PictureRow], options: FaceQualityOptions, *, seconds: float
) -> dict[str, Any]:
    """Everything as plain values."""
    settings: Mapping[str, Any] = asdict(options)
    return {
        "command": options.command,
        "versions": versions(),
        "machine": describe_machine(),
        "seconds": round(seconds, 1),
        "options": {name: value for name, value in settings.items() if name not in ("overwrite", "command")},
        "data": dict(findings.data),
        "baseline": findings.baseline,
        "scores": [asdict(score) for score in findings.scores],
        "cases": [asdict(row) for row in rows],
    }
