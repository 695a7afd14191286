"""Evaluation of water maps: images with masks, spectral indices and networks, pixels, shores and lakes.

A network sees the bands of a scene, never its mask. Pixels that the mask ignores (black corners) count neither for
the number by which a scene is divided nor for the threshold of an index.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lacunar.errors import LacunarError
from lacunar.evaluate.plot import Image, cost_panels, image_rows, line_panels
from lacunar.evaluate.report import Columns, by_method, text_of
from lacunar.evaluate.scores import FloatArray, Scheme, Sums, pool, score_each, shares, stratum_names
from lacunar.evaluate.task import (
    MAX_CURVES,
    BoolArray,
    Estimate,
    Found,
    Lineup,
    Method,
    Plot,
    Row,
    Task,
    chosen,
)
from lacunar.evaluate.water_covers import cover_rows, cover_tables, score_covers, tell_covers
from lacunar.evaluate.water_metrics import (
    ERROR_BINS,
    LAKE_SIZES,
    PROBABILITY_BINS,
    auroc,
    boundary_counts,
    boundary_f1,
    error_counts,
    lake_counts,
    probability_counts,
    thin_water,
)
from lacunar.metrics import Confusion, confusion
from lacunar.models.backend import load_segmenter
from lacunar.models.checkpoint import SegmentationModel
from lacunar.segment.array import SEGMENTER_SAMPLES, SEGMENTER_STEPS, VIEWS, segment_array
from lacunar.segment.classes import class_numbers, decided
from lacunar.segment.fusion import THRESHOLD
from lacunar.segment.indices import INDEX_NAMES, IndexName, index_names, threshold_water
from lacunar.segment.plot import Z_95, colour_image
from lacunar.segment.raster_map import variance_of
from lacunar.train.water_data import IGNORE, WATER, WaterScene, water_scenes

OTSU = " + Otsu"
DARKNESS = f"{INDEX_NAMES[-1]}{OTSU}"  # what every set allows
QUARTILES = (0.25, 0.5, 0.75)
FAR = "far from lakes"
LAKE_CLASSES = (*stratum_names(LAKE_SIZES), FAR)
OF_CLASSES = "classes"  # in the column of sizes: the row counts pixels of a class of the mask

COLOURS = {"found": "#56b4e9", "missed": "#d55e00", "false": "#f0e442", "land": "#e8e8e8"}  # Okabe and Ito
WATER_BLUE, UNKNOWN = "#0072b2", "#ffffff"
MOST_PIXELS = 500  # of a picture's side: more is thinned out

COST_CAPTION = (
    "Evaluations for one tile, all samples together. Bars are 95 % intervals from resampling images; all points are of "
    "the same images, which move them together: how sure differences are, the gains say."
)
PROBABILITY_CAPTION = "Ten bins of the claimed probability, each at its mean; on the diagonal the claim is calibrated."

Bands = NDArray[np.floating[Any]]


def _pixels(own: Sums) -> Confusion:
    return Confusion(own["both"], own["only_estimate"], own["only_truth"], own["neither"])


def _over_bins(own: Sums, name: str, bins: int = PROBABILITY_BINS) -> FloatArray:
    """Counts of a bin for each bin (bins, ...)."""
    return np.array([own[f"{name}_{i}"] for i in range(bins)])


def _calibration_error(own: Sums) -> FloatArray:
    """Mean gap between claimed and observed share, weighted by pixels (Naeini et al. 2015)."""
    gaps = np.abs(_over_bins(own, "claimed") - _over_bins(own, "water")).sum(axis=0)
    return np.asarray(gaps / _over_bins(own, "binned").sum(axis=0))


SCHEME = Scheme(
    unit="image",
    by=("set",),
    counts=("pixels", "thin"),
    ratios={
        "water": lambda own: (own["both"] + own["only_truth"]) / own["pixels"],
        "iou": lambda own: _pixels(own).iou,
        "mean_iou": lambda own: _pixels(own).mean_iou,
        "pixel_accuracy": lambda own: _pixels(own).pixel_accuracy,
        "precision": lambda own: _pixels(own).precision,
        "recall": lambda own: _pixels(own).recall,
        "thin_recall": lambda own: shares(own["thin_found"], own["thin"]),
        "f1": lambda own: _pixels(own).f1,
        "boundary_f1": boundary_f1,
        "calibration_error": _calibration_error,
        "brier": lambda own: _over_bins(own, "squares").sum(axis=0) / _over_bins(own, "binned").sum(axis=0),
        "error_auroc": lambda own: auroc(*(_over_bins(own, name, ERROR_BINS) for name in ("wrong", "right"))),
    },
    means=("image_iou", "image_f1", "image_boundary_f1", "area_in_sigma", "area_in_95"),
    compared={
        "iou_gain": lambda own, base: _pixels(own).iou - _pixels(base).iou,
        "boundary_gain": lambda own, base: boundary_f1(own) - boundary_f1(base),
    },
    intervals=("iou", "pixel_accuracy", "f1", "boundary_f1", "iou_gain", "boundary_gain"),
)


LAKES = Scheme(
    unit="image",
    by=("set", "size"),
    counts=("lakes", "found", "pixels", "false_pixels"),
    ratios={
        "recall": lambda own: shares(own["both"], own["pixels"]),
        "iou": lambda own: shares(own["both"], own["pixels"] + own["false_pixels"], own["lakes"] > 0),
    },
    intervals=("recall", "iou"),
)


@dataclass(frozen=True, eq=False)
class WaterCase:
    """An image (6, H, W), its true water, and where it is known: not ignored, no NaN in a band that the image has."""

    scene: WaterScene
    bands: Bands
    truth: BoolArray
    valid: BoolArray

    @classmethod
    def of(cls, scene: WaterScene) -> "WaterCase":
        """Read a scene; refuses a mask of another size or of other values, and a scene without a pixel to score."""
        bands, mask = scene.bands(), scene.mask
        known = np.isfinite(bands)
        valid = (mask != IGNORE) & known[known.any(axis=(1, 2))].all(axis=0)
        if not known.any() or not valid.any():
            where = f"{scene.set_name}/{scene.name}"
            raise LacunarError(f"{where}: no pixel is known in image and mask; wanted one or more: leave this out")
        return cls(scene, bands, mask == WATER, valid)

    @property
    def name(self) -> str:
        """Set and image."""
        return f"{self.scene.set_name}/{self.scene.name}"

    @property
    def identity(self) -> dict[str, Any]:
        """Columns that tell the image in tables."""
        return {"set": self.scene.set_name, "image": self.scene.name}

    @property
    def given(self) -> tuple[Bands, BoolArray]:
        """The bands, and which pixels are scored."""
        return self.bands, self.valid


@dataclass(frozen=True, kw_only=True)
class WaterTask(Task):
    """Which maps are compared on which images; a model is named by name, folder or NAME=FOLDER."""

    scenes: Path  # folder of NAME.jpg, .png or .tif beside NAME_mask.png; subfolders are sets
    steps: tuple[int, ...] = (SEGMENTER_STEPS,)  # of diffusion models; the first is what figures show
    samples: tuple[int, ...] = (SEGMENTER_SAMPLES,)  # that are fused, with each number of steps
    methods: tuple[str, ...] = INDEX_NAMES  # darkness is always among them
    against: str = DARKNESS  # what gains are counted from, as tables name it
    sets: tuple[str, ...] = ()  # only these; empty = all
    names: Path | None = None  # file: only the images that it names, one on a line

    title: ClassVar[str] = "How good are the maps of water?"
    unit: ClassVar[str] = "image"
    lead: ClassVar[str] = (
        "{ours.set} ({ours.images} images): {ours.method} maps water with an IoU of {ours.iou}, F1 {ours.f1}, boundary "
        "F1 {ours.boundary_f1}. {base.method} has an IoU of {base.iou}: a gain of {ours.iou_gain}."
    )
    note: ClassVar[str] = (
        "All pixels whose truth is known, pooled over the images of a set. Gains are counted from the baseline, the "
        "same images resampled together. The calibration error is the mean gap between the claimed probability and the "
        "share of water, the Brier score the mean squared error of the probability: 0 is best. The error AUROC says "
        "how often a wrong pixel has a larger claimed chance of error than a right one: 1 is best, 0.5 is chance. A "
        "lake is a body of true water joined by sides or corners; false water counts against the nearest lake up to 10 "
        "pixels away. Thin water is at most 2 pixels wide: what an opening by 3 x 3 pixels removes."
    )
    columns: ClassVar[Columns] = {
        "set": ("set", ""),
        "method": ("method", ""),
        "images": ("images", "d"),
        "iou": ("IoU of water", ".3f"),
        "iou_gain": ("IoU gain", "+.3f"),
        "mean_iou": ("mean IoU", ".3f"),
        "pixel_accuracy": ("pixel accuracy", ".3f"),
        "precision": ("precision", ".3f"),
        "recall": ("recall", ".3f"),
        "thin_recall": ("recall, thin water", ".3f"),
        "f1": ("F1", ".3f"),
        "boundary_f1": ("boundary F1 (2 px)", ".3f"),
        "boundary_gain": ("boundary gain", "+.3f"),
        "calibration_error": ("calibration error", ".4f"),
        "brier": ("Brier score", ".4f"),
        "error_auroc": ("error AUROC", ".3f"),
        "evaluations": ("evaluations", "d"),
        "seconds": ("s / image", ".2f"),
    }
    inputs: ClassVar[tuple[str, ...]] = ("scenes", "names")

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen(self.methods, INDEX_NAMES)
        self.once_each("steps", "samples")
        self.at_least(steps=1, samples=1)

    def cases(self) -> list[WaterScene]:
        """The scenes of the sets and names that are wanted."""
        return restrict(water_scenes(self.scenes), names=self.names, sets=self.sets)

    def more_tables(self, cases: Sequence[WaterScene]) -> tuple[str, ...]:
        """Lakes by size, and classes where masks tell them."""
        return ("lakes", "covers") if tell_covers(cases) else ("lakes",)

    def load(self, case: WaterScene) -> WaterCase:
        """A scene with its arrays."""
        return WaterCase.of(case)

    def lineup(self) -> Lineup:
        """Indices and every run of the networks; a set is summed up by the first network, else by the first index."""
        also = [name for name in INDEX_NAMES if f"{name}{OTSU}" in (DARKNESS, self.against)]
        wanted = chosen([*self.methods, *also], INDEX_NAMES)
        indices = {f"{name}{OTSU}": _index_method(name) for name in INDEX_NAMES if name in wanted}
        lineup, first, models = Lineup(dict(indices), self.against), [], set()
        for text in self.models:
            model = self.network(text)
            if model.name in models:
                raise LacunarError(f"two models are named {model.name}: give one as NAME=FOLDER")
            models.add(model.name)
            runs = model_runs(model, steps=self.steps, samples=self.samples)
            for steps in dict.fromkeys(run.steps for run in runs):
                own = [run for run in runs if run.steps == steps]
                lineup.methods[own[0].name] = model_method(model, own)
            lineup.curves |= {run.name: f"{model.name}, K = {run.samples}" for run in runs}
            first.append(runs[0].name)
        lineup.preferred = [*lineup.curves, *indices]
        lineup.shown = [*indices, *first][:MAX_CURVES]
        if self.against not in lineup.preferred:
            known = "; ".join([*indices, *lineup.curves])
            raise LacunarError(f"no method {self.against!r} to compare with: choose out of {known}")
        return lineup

    def network(self, text: str) -> SegmentationModel:
        """A network by name or folder, or by NAME=FOLDER under that name."""
        name, _, folder = text.partition("=")
        if folder and not Path(text).exists():
            return replace(load_segmenter(folder, device=self.device, backend=self.backend), name=name)
        return load_segmenter(text, device=self.device, backend=self.backend)

    def measure(self, case: WaterCase, estimate: Estimate) -> list[Row]:
        """Counts over the pixels whose truth is known, over the lakes of each size, and over the classes of a mask."""
        water, truth, valid = estimate.value, case.truth, case.valid
        thin = thin_water(truth, valid)
        pixels = confusion(water, truth, region=valid)
        shores = boundary_counts(water, truth, valid=valid)
        counts: dict[str, Any] = {"size": "", "pixels": int(valid.sum()), **vars(pixels), **shores}
        counts |= {"thin": int(thin.sum()), "thin_found": int((thin & water).sum())}
        counts |= {"image_iou": float(pixels.iou), "image_f1": float(pixels.f1)}
        counts |= {"image_boundary_f1": float(boundary_f1(shores)), "area_in_sigma": np.nan, "area_in_95": np.nan}
        bins: dict[str, Any] = dict.fromkeys(("binned", "claimed", "water", "squares"), [np.nan] * PROBABILITY_BINS)
        bins |= dict.fromkeys(("wrong", "right"), [np.nan] * ERROR_BINS)
        if estimate.probability is not None:
            bins = probability_counts(estimate.probability, truth, valid=valid)
            counts |= _area_in_reach(estimate.probability, water, truth, valid)
            bins |= error_counts(estimate.probability, THRESHOLD, truth, valid=valid)
        counts |= {f"{name}_{i}": value for name, values in bins.items() for i, value in enumerate(values)}
        lakes = lake_counts(water, truth, valid=valid)
        rows = [{name: values[i] for name, values in lakes.items()} for i in range(len(LAKE_CLASSES))]
        kinds = estimate.kinds or {"water": water, "land": ~water}
        covers = [{"size": OF_CLASSES, **row} for row in cover_rows(kinds, case.scene.mask, valid)]
        return [counts, *({"size": size, **row} for size, row in zip(LAKE_CLASSES, rows, strict=True)), *covers]

    def score(self, sums: pd.DataFrame, lineup: Lineup) -> dict[str, pd.DataFrame]:
        """Scores of every set, of its lakes by size, and of every image."""
        indices = [name for name in lineup.methods if name not in lineup.curves]
        order = dict.fromkeys([*indices, *lineup.curves, *sums["method"]])
        table = sums.assign(method=pd.Categorical(sums["method"], list(order), ordered=True))
        whole, lakes = table[table["size"] == ""], table[table["size"].isin(LAKE_CLASSES)]
        covers = table[table["size"] == OF_CLASSES]
        lakes = lakes.assign(size=pd.Categorical(lakes["size"], list(LAKE_CLASSES), ordered=True))
        pooled = pool(lakes, LAKES, baseline=lineup.baseline, seed=self.seed)
        counts = ["both", "only_estimate", "only_truth", "neither"]
        cases = score_each(whole.assign(method=sums["method"]), SCHEME, ("set", "image"))
        told = {} if covers.empty else {"covers": score_covers(covers, baseline=lineup.baseline, seed=self.seed)}
        return {
            "scores": pool(whole, SCHEME, baseline=lineup.baseline, seed=self.seed),
            "cases": pd.concat([cases.drop(columns=list(SCHEME.means)), whole[counts].astype(int)], axis=1),
            "lakes": pooled[(pooled["lakes"] > 0) | (pooled["size"] == FAR)],
            **told,
        }

    def reliability(self, sums: pd.DataFrame) -> list[Row]:
        """How often there was water where a method claimed it with some probability, set by set; NaN in empty bins."""
        curves = []
        for (name, method), own in sums[sums["binned_0"].notna()].groupby(["set", "method"], sort=False):
            total = {str(column): np.asarray(value) for column, value in own.sum(numeric_only=True).items()}
            binned, claimed, water = (_over_bins(total, part) for part in ("binned", "claimed", "water"))
            with np.errstate(invalid="ignore"):
                shares = {"claimed": (claimed / binned).tolist(), "observed": (water / binned).tolist()}
            curves.append({"set": name, "method": method, **shares, "pixels": binned.tolist()})
        return curves

    def examples(self, cases: Sequence[WaterScene]) -> list[WaterScene]:
        """Three scenes of each set, chosen by their water alone: nearest the quartiles of the true water's area."""
        chosen = []
        for name in dict.fromkeys(scene.set_name for scene in cases):
            left = {scene.name: scene for scene in cases if scene.set_name == name}
            areas = {own: int(np.count_nonzero(scene.mask == WATER)) for own, scene in left.items()}
            for area in np.quantile(list(areas.values()), QUARTILES)[: len(left)].tolist():
                nearest = min(left, key=lambda own, area=area: abs(areas[own] - area))  # type: ignore[misc]
                chosen.append(left.pop(nearest))
        return chosen

    def plots(self, cases: Sequence[WaterScene], lineup: Lineup) -> dict[str, Plot]:
        """Examples of every set, lakes, cost and reliability of networks, and single images."""
        typical = "Chosen by their water alone: nearest the quartiles of the true area. White: not known, not scored."
        each = "Each mark is one image. Without water, an IoU is 1 where none was found, else 0."
        plots = {}
        for name in dict.fromkeys(scene.set_name for scene in cases):
            plots[f"examples_{name}"] = Plot("Typical scenes", typical, partial(_draw_examples, name=name))
        plots["lakes"] = Plot("By size of the lake", "IoU of the water of lakes of each size.", _draw_lakes)
        if lineup.curves:
            plots["evaluations"] = Plot("Quality against network evaluations", COST_CAPTION, _draw_evaluations)
            plots["reliability"] = Plot("Is the probability calibrated?", PROBABILITY_CAPTION, _draw_reliability)
        return plots | {"images": Plot("Image by image", each, _draw_images)}

    def details(self, found: Found) -> dict[str, pd.DataFrame]:
        """Scores by size of the lake, of classes, means over images, and IoU of every image."""
        covers = found.tables.get("covers")
        lakes, each, methods = found.tables["lakes"], found.tables["cases"], found.lineup.shown
        near, far = lakes[lakes["size"] != FAR], lakes[lakes["size"] == FAR]
        index: Columns = {"set": ("set", ""), "size": ("lake", ""), "lakes": ("lakes", "d"), "pixels": ("pixels", "d")}
        image: Columns = {"set": ("set", ""), "image": ("image", ""), "water": ("share of water", ".3f")}
        means: Columns = {
            "set": ("set", ""),
            "method": ("method", ""),
            **{name: (name, ".3f") for name in SCHEME.means},
        }
        return {
            "IoU by size of the lake": by_method(near, "iou", ".3f", index=index, methods=methods),
            "Recall by size of the lake": by_method(near, "recall", ".3f", index=index, methods=methods),
            "Lakes found: half of their pixels or more": by_method(near, "found", "d", index=index, methods=methods),
            "False water far from lakes": by_method(far, "false_pixels", "d", index=index, methods=methods),
            **({} if covers is None else cover_tables(covers, methods)),
            "Means of the images' own scores": text_of(found.scores, means),
            "IoU of every image": by_method(each, "iou", ".3f", index=image, methods=methods),
        }

    def data(self, found: Found) -> dict[str, str]:
        """The sets with their images and their water."""
        sets = found.scores.drop_duplicates("set")[["set", "images", "water"]].itertuples(index=False, name=None)
        counted = ", ".join(f"{images} of {name} ({100 * water:.1f} % water)" for name, images, water in sets)
        return {"scenes": f"{self.scenes}: {counted}"} | ({"names": str(self.names)} if self.names else {})


def _area_in_reach(
    probability: NDArray[np.floating[Any]], water: BoolArray, truth: BoolArray, valid: BoolArray
) -> dict[str, float]:
    """Whether the true area lies within one sigma of that of the map, and within its 95 % interval: 1 or 0."""
    sigma = variance_of(np.where(valid, probability, 0.0).astype(np.float64)) ** 0.5
    off = abs(int((water & valid).sum()) - int((truth & valid).sum()))
    return {"area_in_sigma": float(off <= sigma), "area_in_95": float(off <= Z_95 * sigma)}


# --- scenes and methods ---


def restrict(
    scenes: Sequence[WaterScene], *, names: Path | None = None, sets: Collection[str] = ()
) -> list[WaterScene]:
    """The scenes of these sets, and of the names that a file lists, one on a line.

    An unknown set or name, or a file that is empty or cannot be read, is a `LacunarError`.
    """
    there = list(dict.fromkeys(scene.set_name for scene in scenes))
    unknown = [name for name in sets if name not in there]
    if unknown:
        raise LacunarError(f"no set {unknown[0]!r}: choose out of {', '.join(there)}")
    chosen = [scene for scene in scenes if not sets or scene.set_name in sets]
    if names is None:
        return chosen
    try:
        wanted = [line.strip() for line in names.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise LacunarError(f"{names}: cannot be read as text ({error}); wanted names, one on a line") from error
    if not wanted:
        raise LacunarError(f"{names} is empty; wanted names of images, one on a line")
    missing = sorted(set(wanted) - {scene.name for scene in chosen})
    if missing:
        raise LacunarError(
            f"{names}: {len(missing)} of {len(wanted)} names match no scene, the first is {missing[0]!r}; wanted "
            "names of images without ending, one on a line"
        )
    return [scene for scene in chosen if scene.name in wanted]


def _index_method(name: IndexName) -> Method:
    def method(bands: Bands, valid: BoolArray, seed: int) -> dict[str, Estimate]:
        del seed
        if name not in index_names(bands):
            return {}
        return {f"{name}{OTSU}": Estimate(threshold_water(name, np.where(valid, bands, np.nan)).water)}

    return method


@dataclass(frozen=True)
class Run:
    """One way to use a network: steps and samples that are fused; no samples are a plain network's first answer."""

    model: str
    steps: int = 1
    samples: int = 0

    @property
    def name(self) -> str:
        """How tables call it.

        >>> Run("water-small", 2, 4).name, Run("unet").name
        ('water-small, 2 steps, K = 4', 'unet')
        """
        steps = f"{self.steps} step{'s' if self.steps > 1 else ''}"
        return f"{self.model}, {steps}, K = {self.samples}" if self.samples else self.model


def model_runs(model: SegmentationModel, *, steps: Sequence[int], samples: Sequence[int]) -> list[Run]:
    """Every way to use a network; a plain one answers once, and once to each of several views."""
    if model.network.spec.diffusion:
        return [Run(model.name, step, count) for step in steps for count in samples]
    views = dict.fromkeys(min(count, len(VIEWS)) for count in samples)
    return [Run(model.name), *(Run(model.name, 1, count) for count in views if count > 1)]


def model_method(model: SegmentationModel, runs: Sequence[Run]) -> Method:
    """A network with one number of steps: the most samples are drawn, fewer are the first of them."""
    most = max(run.samples for run in runs)

    def method(bands: Bands, _: BoolArray, seed: int) -> dict[str, Estimate]:
        segmented = segment_array(bands, model, steps=runs[0].steps, samples=max(most, 1), seed=seed)
        answers = {}
        for run in runs:
            count = max(run.samples, 1)
            first = paired(len(segmented.samples), count) if model.network.spec.diffusion else list(range(count))
            probability = segmented.samples[first].mean(axis=0)
            answers[run.name] = Estimate(
                probability >= THRESHOLD,
                probability=probability,
                kinds=_kinds(probability >= THRESHOLD, segmented.cover, model.network.spec.classes),
                evaluations=segmented.evaluations * count,
                share=1.0 if run.samples == most else float("nan"),
            )
        return answers

    return method


def _kinds(water: BoolArray, cover: NDArray[np.floating[Any]], classes: Sequence[str]) -> dict[str, BoolArray]:
    numbers = decided(water.astype(np.uint8), cover, classes)
    return {name: numbers == number for name, number in class_numbers(classes).items()}


def paired(drawn: int, count: int) -> list[int]:
    """Numbers of the samples that are drawn where ``count`` are wanted: sample i and i + half have opposite noise.

    >>> paired(8, 4), paired(8, 1), paired(4, 4)
    ([0, 4, 1, 5], [0], [0, 2, 1, 3])
    """
    half = (drawn + 1) // 2
    pairs = [number for first in range(half) for number in (first, first + half) if number < drawn]
    return pairs[:count]


# --- figures ---


def _draw_images(found: Found) -> Figure:
    axes, labels = ("set", "water", "iou"), ("share of water in the image", "IoU of water")
    return line_panels(found.tables["cases"], axes, found.lineup.shown, labels=labels, dots=True)


def _draw_lakes(found: Found) -> Figure:
    sizes, lakes = LAKE_CLASSES[:-1], found.tables["lakes"]
    lakes = lakes[lakes["size"] != FAR].assign(place=lambda own: own["size"].map(sizes.index))
    labels = ("size of the lake (pixels)", "IoU of its water")
    return line_panels(lakes, ("set", "place", "iou"), found.lineup.shown, labels=labels, ticks=sizes)


def _draw_reliability(found: Found) -> Figure:
    curves = pd.DataFrame(found.reliability).explode(["claimed", "observed"])
    labels, words = ("claimed probability of water", "share of water"), ("more water than claimed", "less than claimed")
    return line_panels(curves, ("set", "claimed", "observed"), found.lineup.shown, labels=labels, diagonal=words)


def _draw_evaluations(found: Found) -> Figure:
    renamed = {"set": "panel", "iou": "y", "iou_low": "low", "iou_high": "high"}
    costs = found.costs(found.scores).rename(columns=renamed)
    return cost_panels(costs, labels=("network evaluations for each tile", "IoU of water"))


def _draw_examples(found: Found, name: str) -> Figure:
    """Typical scenes of a set: image, truth, the map, where they differ, and the probability where there is one."""
    rows = []
    for case, answers in found.examples:
        if case.scene.set_name != name:
            continue
        method = next(method for method in found.lineup.preferred if method in answers)
        answer, iou = answers[method], confusion(answers[method].value, case.truth, region=case.valid).iou
        step = -(-max(case.truth.shape) // MOST_PIXELS)
        thin = (slice(None, None, step), slice(None, None, step))
        truth, valid, water = case.truth[thin], case.valid[thin], answer.value[thin]
        images = [
            Image("image", colour_image(case.bands[:, *thin])),
            Image("truth", _coloured(valid, {WATER_BLUE: truth})),
            Image(method.replace(", ", ",\n", 1), _coloured(valid, {WATER_BLUE: water})),
            Image("difference", difference_map(water, truth, valid)),
        ]
        if answer.probability is not None:
            shown_probability = np.where(valid, answer.probability[thin], np.nan)
            images.append(Image("probability", shown_probability, "Blues", (0.0, 1.0), "probability"))
        rows.append((f"{case.scene.name}\nIoU {float(iou):.3f}", images))
    return image_rows(rows, title=name, side=2.2, keys=COLOURS)


def difference_map(water: BoolArray, truth: BoolArray, valid: BoolArray) -> FloatArray:
    """Colours (H, W, 3) of found, missed and false water, land and unknown pixels."""
    parts = {"found": water & truth, "missed": ~water & truth, "false": water & ~truth}
    return _coloured(valid, {COLOURS[name]: where for name, where in parts.items()})


def _coloured(valid: BoolArray, parts: dict[str, BoolArray]) -> FloatArray:
    """A picture of land with parts in colours; unknown pixels are white."""
    picture = np.empty((*valid.shape, 3))
    picture[:] = to_rgb(COLOURS["land"])
    for colour, where in [*parts.items(), (UNKNOWN, ~valid)]:
        picture[where] = to_rgb(colour)
    return picture
