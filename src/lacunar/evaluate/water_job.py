"""The story of how good maps of water are: scenes with masks become maps, scores, figures and a report."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lacunar.errors import LacunarError
from lacunar.evaluate.tables import csv_text, plain_values
from lacunar.evaluate.water_evaluation import (
    DARKNESS,
    OTSU,
    Run,
    evaluate_water_maps,
    index_methods,
    model_method,
    model_runs,
    restrict,
    typical_scenes,
)
from lacunar.evaluate.water_findings import MAX_CURVES, WaterFindings, draw_water_figures, share
from lacunar.evaluate.water_measures import BoolArray, Method, Planes, Prediction, WaterRow
from lacunar.evaluate.water_report import write_water_report
from lacunar.evaluate.water_report_figures import WaterExample, water_examples_figure
from lacunar.evaluate.water_scores import image_scores, pool_lakes, pool_probabilities, pool_water
from lacunar.geo.staging import Staging
from lacunar.metrics import confusion
from lacunar.models.backend import EngineName, with_engine
from lacunar.models.checkpoint import SegmentationModel, load_segmenter
from lacunar.plotting import save_figure
from lacunar.segment.array import SEGMENTER_SAMPLES, SEGMENTER_STEPS
from lacunar.segment.indices import INDEX_NAMES
from lacunar.train.water_data import WaterScene, water_scenes
from lacunar.versions import describe_machine, versions

TABLES = ("scores.csv", "lakes.csv", "images.csv", "scores.json", "report.html")

Callback = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class WaterQualityOptions:
    """What is compared on what.

    Parameters
    ----------
    models, steps, samples
        Networks by name, folder or NAME=FOLDER; each diffusion model is run with each number of steps, and its samples
        are fused in each number. The first of each is what summary and pictures show.
    methods
        Spectral indices; darkness is always among them.
    against
        The method from which gains are counted, as tables name it.
    sets, names
        Only these sets; only the images that a file names, one on a line.
    seed, device, engine, overwrite, command
        Seed of everything drawn; where networks run, by which engine; replace outputs that exist; what the user typed.

    Raises
    ------
    LacunarError
        An unknown method, numbers out of range or given twice.
    """

    models: tuple[str, ...] = ()
    steps: tuple[int, ...] = (SEGMENTER_STEPS,)
    samples: tuple[int, ...] = (SEGMENTER_SAMPLES,)
    methods: tuple[str, ...] = INDEX_NAMES
    against: str = DARKNESS
    sets: tuple[str, ...] = ()
    names: Path | None = None
    seed: int = 0
    device: str = "cpu"
    engine: EngineName = "eager"
    overwrite: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        """Check every value before any work is done."""
        index_methods(self.methods)
        for name in ("steps", "samples"):
            values = getattr(self, name)
            if not values or min(values) < 1 or len(set(values)) < len(values):
                raise LacunarError(f"got {name} {list(values)}; wanted one number or more, each from 1 and once")
        if self.seed < 0:
            raise LacunarError(f"got seed {self.seed}; wanted 0 or more")


@dataclass(eq=False)
class _Contest:
    """Indices and networks by name, and the runs of the networks by the name of what they predict."""

    indices: dict[str, Method]
    networks: dict[str, Method] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)

    @property
    def preferred(self) -> list[str]:
        """Networks, then indices: the first that maps a set is what summary and pictures of it show."""
        return [*self.runs, *self.indices]

    @property
    def shown(self) -> list[str]:
        """The indices, and the first run of each network."""
        first: dict[str, str] = {}
        for name, run in self.runs.items():
            first.setdefault(run.model, name)
        return [*self.indices, *first.values()][:MAX_CURVES]

    @property
    def drawn(self) -> list[str]:
        """Names of the figures."""
        sampled = [run for run in self.runs.values() if run.samples]
        figures = ["images", "lakes", *(["reliability"] if self.runs else [])]
        figures += ["evaluations"] if len({run.steps for run in sampled}) > 1 else []
        return figures + (["samples"] if len({run.samples for run in sampled}) > 1 else [])


def evaluate_water(
    scenes_folder: Path,
    output: Path,
    *,
    options: WaterQualityOptions | None = None,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """Score maps of water on scenes whose water is known, and write scores, figures and a report.

    Parameters
    ----------
    scenes_folder
        Folder of ``NAME.jpg``, ``.png`` or ``.tif`` beside ``NAME_mask.png``; subfolders are sets.
    output
        Folder for ``scores.csv``, ``lakes.csv``, ``images.csv``, ``scores.json``, ``report.html`` and the figures as
        PNG.
    options
        What is compared on what.
    callback
        Called with (scenes done, all).

    Returns
    -------
    dict
        What is written as ``scores.json``, and under ``findings`` the scores as values.

    Raises
    ------
    LacunarError
        Bad input; nothing is written then.
    """
    options, started = options or WaterQualityOptions(), time.monotonic()
    scenes = restrict(water_scenes(scenes_folder), names=options.names, sets=options.sets)
    contest, typical = _contest(options), typical_scenes(scenes)
    examples = [f"examples_{name}" for name in typical]
    with Staging(overwrite=options.overwrite) as staging:
        files = [*TABLES, *(f"{name}.png" for name in (*contest.drawn, *examples))]
        places = {name: staging.stage(output / name, make_folder=True) for name in files}
        shown = _Shown(typical, contest.preferred)
        rows = evaluate_water_maps(
            scenes, contest.indices | contest.networks, seed=options.seed, callback=callback, watch=shown.keep
        )
        findings = _findings(scenes_folder, contest, rows, typical, options)
        figures = draw_water_figures(findings) | {f"examples_{name}": shown.draw(name) for name in typical}
        for name, figure in figures.items():
            save_figure(figure, places[f"{name}.png"])
        pictures = {name: places[f"{name}.png"].read_bytes() for name in figures}
        record = _record(findings, options, seconds=time.monotonic() - started)
        for name in ("scores", "lakes", "images"):
            text = csv_text(list(record[name][0]), record[name])
            places[f"{name}.csv"].write_text(text, encoding="utf-8")
        plain = json.dumps(plain_values(record), indent=1, allow_nan=False)
        places["scores.json"].write_text(f"{plain}\n", encoding="utf-8")
        places["report.html"].write_text(write_water_report(findings, pictures), encoding="utf-8")
    return record | {"findings": findings}


def _contest(options: WaterQualityOptions) -> _Contest:
    """Every method that the options name."""
    also = {name for name in INDEX_NAMES if f"{name}{OTSU}" in (DARKNESS, options.against)}
    contest = _Contest(index_methods({*options.methods, *also}))
    for text in options.models:
        model = with_engine(_loaded(text, options.device), options.engine)
        if model.name in contest.networks:
            raise LacunarError(f"two models are named {model.name}: give one as NAME=FOLDER")
        runs = model_runs(model, steps=options.steps, samples=options.samples)
        contest.networks[model.name] = model_method(model, runs)
        contest.runs |= {run.name: run for run in runs}
    known = [*contest.indices, *contest.runs]
    if options.against not in known:
        raise LacunarError(f"no method {options.against!r} to compare with: choose out of {'; '.join(known)}")
    return contest


def _loaded(text: str, device: str) -> SegmentationModel:
    """A model by name or folder, or by NAME=FOLDER under that name."""
    name, _, folder = text.partition("=")
    if folder and not Path(text).exists():
        return replace(load_segmenter(folder, device=device), name=name)
    return load_segmenter(text, device=device)


class _Shown:
    """Keeps what is drawn of the typical scenes."""

    def __init__(self, typical: Mapping[str, Sequence[WaterScene]], preferred: Sequence[str]) -> None:
        self._preferred = preferred
        self._methods: dict[str, str] = {}
        self._wanted = [(scene.set_name, scene.name) for own in typical.values() for scene in own]
        self._examples: dict[tuple[str, str], WaterExample] = {}

    def keep(
        self,
        scene: WaterScene,
        bands: Planes,
        truth: BoolArray,
        valid: BoolArray,
        predictions: Mapping[str, Prediction],
    ) -> None:
        """Keep a scene that will be drawn."""
        if (scene.set_name, scene.name) not in self._wanted:
            return
        method = next(name for name in self._preferred if name in predictions)
        self._methods[scene.set_name] = method
        chosen = predictions[method]
        label = f"{scene.name}\nIoU {share(float(confusion(chosen.water, truth, region=valid).iou))}"
        example = WaterExample(label, bands, truth, valid, chosen.water, chosen.probability)
        self._examples[scene.set_name, scene.name] = example

    def draw(self, set_name: str) -> Any:  # noqa: ANN401
        """The examples of one set."""
        own = [self._examples[key] for key in self._wanted if key[0] == set_name]
        return water_examples_figure(own, title=set_name, method=self._methods[set_name])


def _findings(
    folder: Path,
    contest: _Contest,
    rows: Sequence[WaterRow],
    typical: Mapping[str, Sequence[WaterScene]],
    options: WaterQualityOptions,
) -> WaterFindings:
    """What the report tells."""
    order = [*contest.indices, *contest.runs]
    scores = pool_water(rows, against=options.against, order=order, seed=options.seed)
    images = {score.set_name: score.images for score in scores}
    water = {score.set_name: score.water for score in scores}
    data = {
        "scenes": f"{folder}: " + ", ".join(f"{count} of {name}" for name, count in images.items()),
        "share of water": ", ".join(f"{name} {share(part)}" for name, part in water.items()),
    }
    if options.names is not None:
        data["restricted to the names in"] = str(options.names)
    made = {
        "machine": describe_machine(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "seed": str(options.seed),
    }
    return WaterFindings(
        scores=scores,
        lakes=pool_lakes(rows, order=order, seed=options.seed),
        reliability=pool_probabilities(rows, order=order),
        rows=rows,
        runs=contest.runs,
        shown=contest.shown,
        preferred=contest.preferred,
        against=options.against,
        typical={name: [scene.name for scene in own] for name, own in typical.items()},
        data=data,
        made=made,
        command=options.command,
    )


def _record(findings: WaterFindings, options: WaterQualityOptions, *, seconds: float) -> dict[str, Any]:
    """Everything as plain values."""
    settings = {name: value for name, value in asdict(options).items() if name not in ("overwrite", "command")}
    return {
        "command": options.command,
        "versions": versions(),
        "machine": describe_machine(),
        "seconds": round(seconds, 1),
        "options": settings | {"names": str(options.names) if options.names else None},
        "data": dict(findings.data),
        "typical": {name: list(own) for name, own in findings.typical.items()},
        "scores": [asdict(score) for score in findings.scores],
        "lakes": [asdict(score) for score in findings.lakes],
        "reliability": [
            {name: value if isinstance(value, str) else value.tolist() for name, value in vars(curve).items()}
            for curve in findings.reliability
        ],
        "images": [image_scores(row) for row in findings.rows],
    }
