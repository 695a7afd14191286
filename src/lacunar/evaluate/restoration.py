"""Evaluation of restored pictures: shrunk, blurred, made grey, noisy or masked; classical and learned answers."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import call
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image as Images

from lacunar.diffusion.samplers import SAMPLERS, Preset, plan_named
from lacunar.errors import LacunarError
from lacunar.evaluate.pictures import SUFFIXES, square_picture
from lacunar.evaluate.plot import Image, image_rows
from lacunar.evaluate.report import Columns
from lacunar.evaluate.scores import FloatArray, Scheme, pool, score_each
from lacunar.evaluate.task import ONE_SAMPLE, BoolArray, Estimate, Found, Lineup, Plot, Row, Task
from lacunar.geo.missing_shapes import occlusion
from lacunar.interpolate.classical import fill
from lacunar.metrics import psnr, ssim
from lacunar.models.backend import check_backend, load_filler
from lacunar.models.checkpoint import Model
from lacunar.pictures.degradation import Degradation, RestoreTask
from lacunar.pictures.restore import RESTORE_MODEL, restored

DEGRADATIONS: dict[RestoreTask, Degradation] = {
    "superres": Degradation(task="superres", scale=4),
    "deblur": Degradation(task="deblur", blur=2.0, noise=0.01),
    "colourise": Degradation(task="colourise"),
    "denoise": Degradation(task="denoise", noise=0.1),
    "inpaint": Degradation(task="inpaint"),
}
BASELINE = "classical"
CLASSICAL: dict[RestoreTask, str] = {
    "superres": "bicubic",
    "deblur": "Wiener",
    "colourise": "grey",
    "denoise": "non-local means",
    "inpaint": "biharmonic",
}
HIDDEN = 0.2  # share of a picture that strokes hide, to be inpainted
LEVEL = 0.9  # of the interval mean ± 1.645 standard deviations of the samples, whose coverage is told
WITHIN = 1.645
WIENER_BALANCE = 0.01  # between noise and a Laplacian prior; chosen on training faces, as is NLM_STRENGTH
NLM_STRENGTH = 0.5  # in standard deviations of the noise
ITERATIONS = 30  # of Richardson-Lucy, as in scikit-image

SCHEME = Scheme(
    unit="picture",
    by=("task",),
    means=("psnr", "ssim", "coverage"),
    compared={"gain": lambda own, base: (own["psnr"] - base["psnr"]) / own["cases"]},
    intervals=("gain",),
)


@dataclass(frozen=True, eq=False)
class RestorationCase:
    """A picture (H, W, 3) from 0 to 1, what was done to it, and what was measured."""

    picture: str
    task: RestoreTask
    truth: FloatArray
    measured: FloatArray  # (h, w, 3) from 0 to 1; noise may lead beyond
    missing: BoolArray

    @property
    def name(self) -> str:
        """Picture and task."""
        return f"{self.picture} {self.task}"

    @property
    def identity(self) -> dict[str, Any]:
        """Columns that tell the case in tables."""
        return {"picture": self.picture, "task": self.task}

    @property
    def given(self) -> tuple[RestoreTask, FloatArray, BoolArray]:
        """The task, what was measured, and what is missing of it."""
        return self.task, self.measured, self.missing


@dataclass(frozen=True, kw_only=True)
class RestorationTask(Task):
    """Which restorations are compared on which pictures."""

    pictures: Path  # folder of square pictures
    size: int = 128  # side to which they are brought
    tasks: tuple[RestoreTask, ...] = tuple(DEGRADATIONS)
    most: int | None = None  # pictures at most
    models: tuple[str, ...] = (RESTORE_MODEL,)
    samplers: tuple[str, ...] = ("diffpir:20",)  # NAME:N for N evaluations
    samples: int = 4

    title: ClassVar[str] = "How good are restored pictures?"
    unit: ClassVar[str] = "picture"
    lead: ClassVar[str] = "{ours.task}: {ours.method} reaches {ours.psnr} dB, {base.method} {base.psnr} dB."
    note: ClassVar[str] = (
        "Values from 0 to 1, means over the pictures. Classical is bicubic (superres: 4 x 4 means), Wiener's filter "
        "(deblur: Gaussian of 2 pixels, noise 0.01), the grey picture (colourise), non-local means (denoise: noise "
        "0.1) and biharmonic (inpaint: strokes over 20 %). Coverage is that of the samples' 90 % intervals, mean ± "
        "1.645 standard deviations."
    )
    columns: ClassVar[Columns] = {
        "task": ("task", ""),
        "method": ("method", ""),
        "psnr": ("PSNR, dB", ".2f"),
        "gain": ("dB over classical", ".2f"),
        "ssim": ("SSIM", ".3f"),
        "coverage": ("coverage of 90 %", ".0%"),
        "evaluations": ("evaluations", "d"),
        "seconds": ("s / picture", ".2f"),
    }
    inputs: ClassVar[tuple[str, ...]] = ("pictures",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.once_each("tasks", "samplers")
        self.at_least(size=16, most=1, samples=1)
        for task in self.tasks:
            if task not in DEGRADATIONS:
                raise LacunarError(f"unknown task {task!r}: choose out of {', '.join(DEGRADATIONS)}")
        for preset in map(plan_named, self.samplers):
            if SAMPLERS[preset.sampler].conditional:
                raise LacunarError(f"sampler {preset.sampler} cannot hold a picture to a measurement: choose another")

    def cases(self) -> list[RestorationCase]:
        """Every picture, degraded once for every task."""
        files = sorted(path for path in self.pictures.glob("*") if path.suffix.lower() in SUFFIXES)
        if not files:
            raise LacunarError(f"no picture in {self.pictures}: wanted a folder of {', '.join(SUFFIXES)}")
        pictures = {file.stem: square_picture(file, self.size) / 255 for file in files[: self.most]}
        return [_degraded(name, task, truth, self.seed) for task in self.tasks for name, truth in pictures.items()]

    def lineup(self) -> Lineup:
        """Classical answers, and every sampler on every network."""
        lineup = Lineup({BASELINE: _classical, "others": _others}, BASELINE)
        for folder in self.models:
            model = load_filler(folder, device=self.device, backend=self.backend)
            for preset in map(plan_named, self.samplers):
                check_backend(self.backend, preset)
                name = f"{model.name}, {preset.name}"
                lineup.methods[name] = partial(_restored, name, model, preset, self.samples)
                lineup.curves[name] = name
        lineup.preferred, lineup.shown = [*lineup.curves, BASELINE], [BASELINE, *lineup.curves]
        return lineup

    def measure(self, case: RestorationCase, estimate: Estimate) -> list[Row]:
        """Scores of the whole picture, of what is hidden alone where it is inpainted."""
        ours, truth = (np.moveaxis(picture.clip(0, 1), 2, 0) for picture in (estimate.value, case.truth))
        region = case.missing if case.task == "inpaint" else None
        row = {
            "psnr": psnr(ours, truth, data_range=1.0, region=region),
            "ssim": ssim(ours, truth, data_range=1.0, region=region),
            "coverage": np.nan,
        }
        if estimate.samples is not None:
            spread = estimate.samples.std(axis=0, ddof=1)
            unsure = spread > 0
            inside = np.abs(case.truth - estimate.value)[unsure] <= WITHIN * spread[unsure]
            row["coverage"] = inside.mean()
        return [row]

    def score(self, sums: pd.DataFrame, lineup: Lineup) -> dict[str, pd.DataFrame]:
        """Scores by task, and those of every picture."""
        scores = pool(sums, SCHEME, baseline=lineup.baseline, seed=self.seed)
        return {"scores": scores, "cases": score_each(sums, SCHEME, ("picture", "task"))}

    def examples(self, cases: Sequence[RestorationCase]) -> list[RestorationCase]:
        """The first two pictures of each task."""
        return [case for task in self.tasks for case in [one for one in cases if one.task == task][:2]]

    def plots(self, cases: Sequence[RestorationCase], lineup: Lineup) -> dict[str, Plot]:
        """Examples of each task."""
        del cases, lineup
        caption = "The first two pictures by name."
        return {f"examples_{task}": Plot("Pictures", caption, partial(_draw, task=task)) for task in self.tasks}

    def details(self, found: Found) -> dict[str, pd.DataFrame]:
        """None."""
        del found
        return {}

    def data(self, found: Found) -> dict[str, str]:
        """The pictures."""
        count = len({case.picture for case in found.cases})
        return {"pictures": f"{self.pictures}: {count} pictures at {self.size} x {self.size} pixels"}


def _degraded(name: str, task: RestoreTask, truth: FloatArray, seed: int) -> RestorationCase:
    degradation, shape = DEGRADATIONS[task], (truth.shape[0], truth.shape[1])
    rng = np.random.default_rng(zlib.crc32(f"{seed} {name} {task}".encode()))
    missing = np.zeros(shape, dtype=bool)
    if task == "inpaint":
        missing = occlusion("strokes", shape, HIDDEN, rng=rng)
    operator = degradation.operator(shape, missing)
    y = operator.forward(torch.from_numpy(np.moveaxis(2 * truth - 1, 2, 0)[None]))
    measured = (np.moveaxis(y[0].numpy(), 0, 2) + 1) / 2
    measured = measured + degradation.noise * rng.standard_normal(measured.shape)
    if degradation.noise == 0:
        measured = np.rint(255 * measured) / 255  # as a file of 8 bits holds it
    return RestorationCase(name, task, truth, np.repeat(measured, 3 // measured.shape[2], axis=2), missing)


def _classical(task: RestoreTask, measured: FloatArray, missing: BoolArray, seed: int) -> dict[str, Estimate]:
    del seed
    from skimage import restoration as classic

    degradation = DEGRADATIONS[task]
    if task == "superres":
        value = _enlarged(measured, degradation.scale, Images.Resampling.BICUBIC)
    elif task == "deblur":
        value = _deblurred(
            measured, degradation.blur, lambda plane, spread: call(classic.wiener, plane, spread, WIENER_BALANCE)
        )
    elif task == "denoise":
        value = call(
            classic.denoise_nl_means,
            measured,
            sigma=degradation.noise,
            h=NLM_STRENGTH * degradation.noise,
            fast_mode=True,
            channel_axis=2,
        )
    elif task == "inpaint":
        value = _by_channel(measured, lambda plane: fill("biharmonic", plane, ~missing))
    else:
        value = measured
    return {BASELINE: Estimate(value)}


def _others(task: RestoreTask, measured: FloatArray, missing: BoolArray, seed: int) -> dict[str, Estimate]:
    """Further classical answers: Lanczos, Richardson-Lucy, total variation and wavelets."""
    del seed, missing
    from skimage import restoration as classic

    degradation = DEGRADATIONS[task]
    if task == "superres":
        return {"Lanczos": Estimate(_enlarged(measured, degradation.scale, Images.Resampling.LANCZOS))}
    if task == "deblur":
        found = _deblurred(
            measured.clip(0, 1),
            degradation.blur,
            lambda plane, spread: call(classic.richardson_lucy, plane, spread, ITERATIONS),
        )
        return {"Richardson-Lucy": Estimate(found)}
    if task == "denoise":
        found = call(classic.denoise_tv_chambolle, measured, weight=degradation.noise, channel_axis=2)
        return {"total variation": Estimate(found)}
    return {}


def _restored(
    name: str,
    model: Model,
    preset: Preset,
    samples: int,
    task: RestoreTask,
    measured: FloatArray,
    missing: BoolArray,
    seed: int,
) -> dict[str, Estimate]:
    """The mean of the samples, and the first; none where the sampler does not take noise."""
    degradation = DEGRADATIONS[task]
    if preset.sampler == "repaint" and degradation.noise > 0:
        return {}
    given = measured.astype(np.float32)
    drawn = np.stack(
        [
            restored(given, degradation, model, missing=missing, preset=preset, seed=(seed, number)).clip(0, 1)
            for number in range(samples)
        ]
    ).astype(np.float64)
    each = preset.evaluations
    if samples == 1:
        return {name: Estimate(drawn[0], evaluations=each)}
    return {
        name: Estimate(drawn.mean(axis=0), samples=drawn, evaluations=each * samples),
        f"{name}, {ONE_SAMPLE}": Estimate(drawn[0], evaluations=each, share=1 / samples),
    }


def _enlarged(small: FloatArray, factor: int, how: Images.Resampling) -> FloatArray:
    size = (small.shape[1] * factor, small.shape[0] * factor)
    return _by_channel(small, lambda plane: np.asarray(Images.fromarray(plane.astype(np.float32)).resize(size, how)))


def _deblurred(picture: FloatArray, sigma: float, method: Callable[[FloatArray, FloatArray], Any]) -> FloatArray:
    """A deconvolution of each channel by a Gaussian, borders reflected: scikit-image's take a picture as periodic."""
    border = int(4 * sigma + 0.5)
    one = np.exp(-0.5 * (np.arange(-border, border + 1) / sigma) ** 2)
    spread, inner = np.outer(one, one) / one.sum() ** 2, slice(2 * border, -2 * border)

    def each(plane: FloatArray) -> Any:  # noqa: ANN401
        return method(np.pad(plane, 2 * border, mode="symmetric"), spread)[inner, inner]

    return _by_channel(picture, each)


def _by_channel(picture: FloatArray, function: Callable[[FloatArray], Any]) -> FloatArray:
    return np.stack([np.asarray(function(plane), dtype=np.float64) for plane in np.moveaxis(picture, 2, 0)], axis=2)


def _draw(found: Found, task: RestoreTask) -> Figure:
    rows = []
    for case, answers in found.examples:
        if case.task != task:
            continue
        factor = case.truth.shape[0] // case.measured.shape[0]
        given = case.measured.repeat(factor, 0).repeat(factor, 1)
        fields = {"given": np.where(case.missing[..., None], 0.62, given), CLASSICAL[task]: answers[BASELINE].value}
        for name in found.lineup.curves:
            if name in answers:
                fields[f"{name}, mean"] = answers[name].value
            if (one := f"{name}, {ONE_SAMPLE}") in answers:
                fields[one] = answers[one].value
        fields["truth"] = case.truth
        rows.append((case.picture, [Image(name, values.clip(0, 1)) for name, values in fields.items()]))
    return image_rows(rows, title=task, side=1.6)
