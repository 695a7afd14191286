"""Evaluation of filled pictures: aligned faces hidden in part, classical and learned fills, errors."""

import logging
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image as Images

from lacunar.diffusion.samplers import Preset
from lacunar.errors import LacunarError
from lacunar.evaluate.plot import Image, cost_panels, image_rows
from lacunar.evaluate.report import Columns, by_method, share
from lacunar.evaluate.scores import FloatArray, Scheme, pool, score_each
from lacunar.evaluate.task import (
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
from lacunar.geo.missing_shapes import OcclusionName, occlusion
from lacunar.geo.picture import Picture, read_picture
from lacunar.interpolate.classical import fill
from lacunar.interpolate.membrane import membrane_fill
from lacunar.interpolate.pca_prior import background_mean
from lacunar.metrics import gradient_energy, mse, psnr, ssim
from lacunar.models.checkpoint import Model
from lacunar.pictures.face_fill import fill_face
from lacunar.pictures.face_frame import Face
from lacunar.pictures.fill import Drawing as Draws
from lacunar.pictures.fill import fill_window, paste, to_model
from lacunar.pictures.sampler import frame_evaluations

logger = logging.getLogger(__name__)

MethodName = Literal["biharmonic", "laplace", "telea", "navier-stokes", "membrane"]
METHOD_NAMES: tuple[MethodName, ...] = get_args(MethodName)
OPENCV = ("telea", "navier-stokes")
BASELINE: MethodName = "biharmonic"  # what gains are counted from
OCCLUSIONS: tuple[OcclusionName, ...] = ("strokes", "blobs", "rectangle", "face-mask", "sunglasses", "scarf", "hand")
RATES = (0.15, 0.20, 0.50)  # missing rates of Bezerra et al. 2024
ALL = "all"  # every kind of occlusion
WHITE = 255
OPENCV_RADIUS = 3  # pixels around a missing pixel that OpenCV looks at, as in its own tutorial
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SHOWN_SAMPLES = 3
HIDDEN = (0.62, 0.62, 0.62)  # colour of what is missing

COST_CAPTION = (
    "Evaluations of all samples of a picture. Bars are the 95 % interval of the gain over the baseline, added to its "
    "PSNR: how sure the difference to that line is, not how much faces differ."
)

Pixels = NDArray[np.uint8]

SCHEME = Scheme(
    unit="picture",
    by=("rate", "hidden_by"),
    ratios={
        "sharpness": lambda own: own["gradient"] / np.where(own["true_gradient"] > 0, own["true_gradient"], np.nan)
    },
    means=("mse", "psnr", "ssim", "image_mse", "image_psnr", "image_ssim"),
    compared={"gain": lambda own, base: (own["psnr"] - base["psnr"]) / own["cases"]},
    intervals=("psnr", "ssim", "gain", "image_psnr", "image_ssim"),
)


@dataclass(frozen=True, eq=False)
class PictureCase:
    """A picture (H, W, 3), the pixels (H, W) of it that are missing, at which rate and hidden by what."""

    picture: str
    rate: float
    hidden_by: str
    truth: Pixels
    missing: BoolArray

    @property
    def name(self) -> str:
        """Picture and rate."""
        return f"{self.picture} {self.rate:g}"

    @property
    def identity(self) -> dict[str, Any]:
        """Columns that tell the case in tables."""
        return {"picture": self.picture, "rate": self.rate, "hidden_by": self.hidden_by}

    @property
    def given(self) -> tuple[Pixels, BoolArray]:
        """The picture, black where it is missing, and where that is."""
        return np.where(self.missing[..., None], np.uint8(0), self.truth), self.missing


@dataclass(frozen=True, kw_only=True)
class PictureTask(FillTask):
    """Which fills are compared on which pictures."""

    faces: Path  # folder of square pictures of aligned faces
    size: int = 80  # side to which they are brought
    rates: tuple[float, ...] = RATES
    occlusions: tuple[OcclusionName, ...] = OCCLUSIONS  # what hides the faces, in turns
    most: int | None = None  # pictures at most
    methods: tuple[str, ...] = METHOD_NAMES  # biharmonic is always among them
    models: tuple[str, ...] = ("face-full",)

    title: ClassVar[str] = "How good are the filled faces?"
    unit: ClassVar[str] = "picture"
    lead: ClassVar[str] = (
        "{ours.rate} hidden: {ours.method} reaches {ours.psnr} dB over the missing pixels, {base.method} {base.psnr} "
        "dB: {ours.gain} dB more. SSIM of the whole image: {ours.image_ssim}."
    )
    note: ClassVar[str] = (
        "Values from 0 to 1, means over the pictures; PSNR is the mean of the pictures' decibels. Image scores count "
        "known pixels too, which are exact, so they flatter, and more so the less is hidden. Gradient energy is "
        "that of the filled pixels of all pictures, as a share of the truth's: 1 is as sharp. A single sample "
        "has about twice the squared error of the mean of many: it shows one face that may be there, the mean what all "
        "have in common. Seconds are those of all samples of a picture, on the machine named below."
    )
    columns: ClassVar[Columns] = {
        "rate": ("hidden", share),
        "method": ("method", ""),
        "mse": ("MSE", ".4f"),
        "psnr": ("PSNR, dB", ".2f"),
        "gain": ("dB over {baseline}", ".2f"),
        "ssim": ("SSIM", ".3f"),
        "sharpness": ("gradient energy", ".2f"),
        "image_mse": ("image MSE", ".4f"),
        "image_psnr": ("image PSNR, dB", ".2f"),
        "image_ssim": ("image SSIM", ".3f"),
        "evaluations": ("evaluations", "d"),
        "seconds": ("s / picture", ".2f"),
    }
    inputs: ClassVar[tuple[str, ...]] = ("faces",)

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen(self.methods, METHOD_NAMES)
        self.once_each("occlusions")
        self.at_least(size=11, most=1)

    def cases(self) -> list[PictureCase]:
        """Every picture, hidden once at every rate."""
        chosen = {"rates": self.rates, "occlusions": self.occlusions, "most": self.most, "seed": self.seed}
        return picture_cases(self.faces, size=self.size, **chosen)  # type: ignore[arg-type]

    def lineup(self) -> Lineup:
        """Fills without a network, what models start from, and every run of the networks."""
        lineup = Lineup(classical_methods([*self.methods, BASELINE]), BASELINE)
        if left_out := sorted({*self.methods} - {*lineup.methods}):
            lineup.notes["left out"] = f"{', '.join(left_out)}: OpenCV is not installed"
        for model in self.networks():
            field = model.network.config.sample_size
            if self.size < field:
                raise LacunarError(f"model {model.name} fills pictures of {field} pixels or more: give --size {field}")
            if model.prior is not None and self.size == field:
                name = f"{model.name}, prior alone"
                lineup.methods[name] = prior_method(name, model)
            for way in self.ways():
                name = f"{model.name}, {way[0].name}"
                enter(lineup, name, model_method(name, model, way), model=model, way=way)
        lineup.preferred, lineup.shown = [*lineup.curves, BASELINE], list(lineup.methods)
        return lineup

    def measure(self, case: PictureCase, estimate: Estimate) -> list[Row]:
        """Scores over the missing pixels and over the whole image; values are brought into 0 .. 255."""
        whole = np.where(case.missing[..., None], estimate.value.clip(0, WHITE), case.truth)
        ours, truth = (np.moveaxis(picture, 2, 0) / WHITE for picture in (whole, case.truth))
        row = {
            "mse": mse(ours, truth, region=case.missing),
            "psnr": psnr(ours, truth, data_range=1.0, region=case.missing),
            "ssim": ssim(ours, truth, data_range=1.0, region=case.missing),
            "gradient": gradient_energy(ours, region=case.missing),
            "true_gradient": gradient_energy(truth, region=case.missing),
            "image_mse": mse(ours, truth),
            "image_psnr": psnr(ours, truth, data_range=1.0),
            "image_ssim": ssim(ours, truth, data_range=1.0),
        }
        return [row]

    def score(self, sums: pd.DataFrame, lineup: Lineup) -> dict[str, pd.DataFrame]:
        """Scores over all kinds of occlusion and over each, and those of every picture."""
        table = pd.concat([sums.assign(hidden_by=ALL), sums], ignore_index=True)
        scores = pool(table, SCHEME, baseline=lineup.baseline, seed=self.seed)
        return {"scores": scores, "cases": score_each(sums, SCHEME, ("picture", "rate", "hidden_by"))}

    def examples(self, cases: Sequence[PictureCase]) -> list[PictureCase]:
        """A few cases of each rate, one of each kind of occlusion."""
        by_rate = [[case for case in cases if case.rate == rate] for rate in self.rates]
        return [case for own in by_rate for case in own[: len(self.occlusions)]]

    def plots(self, cases: Sequence[PictureCase], lineup: Lineup) -> dict[str, Plot]:
        """Examples of each rate, and PSNR against evaluations where there is a network."""
        del cases
        caption = "One of each kind of occlusion, chosen by their names alone, not by how well they came out."
        plots = {}
        for rate in self.rates:
            plots[f"examples_{100 * rate:g}"] = Plot("Faces", caption, partial(_draw_examples, rate=rate))
        if lineup.curves:
            plots["evaluations"] = Plot("Quality against network evaluations", COST_CAPTION, _draw_evaluations)
        return plots

    def main(self, scores: pd.DataFrame) -> pd.DataFrame:
        """The scores over every kind of occlusion."""
        return scores[scores["hidden_by"] == ALL]

    def details(self, found: Found) -> dict[str, pd.DataFrame]:
        """PSNR by what hides the face."""
        index: Columns = {"rate": ("hidden", share), "hidden_by": ("by", ""), "cases": ("pictures", "d")}
        table = by_method(found.scores, "psnr", ".2f", index=index, methods=found.lineup.shown)
        return {"PSNR over the missing pixels, dB, by what hides the face": table}

    def data(self, found: Found) -> dict[str, str]:
        """The pictures, what hides them, and what was left out."""
        kinds = Counter(case.hidden_by for case in found.cases if case.rate == self.rates[0])
        count = len({case.picture for case in found.cases})
        return {
            "faces": f"{self.faces}: {count} pictures at {self.size} x {self.size} pixels",
            "occlusions at each rate": ", ".join(f"{count} by {kind}" for kind, count in kinds.items()),
        }


# --- cases and methods ---


def picture_cases(
    folder: Path,
    *,
    size: int,
    rates: Sequence[float],
    occlusions: Sequence[OcclusionName] = OCCLUSIONS,
    most: int | None = None,
    seed: int = 0,
) -> list[PictureCase]:
    """Hide a part of every picture of a folder, once at every rate; the kinds of occlusion take turns.

    The first ``most`` pictures by name are brought to ``size`` (Lanczos). No picture, one that is not square or smaller
    than that, an unknown occlusion, or a rate outside (0, 1) is a `LacunarError`.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not files:
        raise LacunarError(f"no picture in {folder}: wanted a folder of {', '.join(SUFFIXES)} with aligned faces")
    pictures = {file.stem: square_picture(file, size) for file in files[:most]}
    cases = []
    for rate in rates:
        for place, (name, truth) in enumerate(pictures.items()):
            kind = occlusions[place % len(occlusions)]
            rng = np.random.default_rng(zlib.crc32(f"{seed} {name} {rate:g} {kind}".encode()))
            cases.append(PictureCase(name, rate, kind, truth, occlusion(kind, (size, size), rate, rng=rng)))
    return cases


def square_picture(file: Path, size: int) -> Pixels:
    """A square picture of 8 bits, brought to a size (Lanczos); another is a `LacunarError`."""
    colours = read_picture(file).colours
    height, width, channels = colours.shape
    if height != width or height < size or colours.dtype != np.uint8:
        raise LacunarError(
            f"{file} has {width} x {height} pixels of {colours.dtype}; wanted a square of 8 bit, {size} pixels or "
            "more: crop it to the face as `lacunar face` frames it"
        )
    image = Images.fromarray(np.repeat(colours, 3 // channels, axis=2))
    return np.asarray(image.resize((size, size), Images.Resampling.LANCZOS))


def classical_methods(names: Sequence[str] = METHOD_NAMES) -> dict[str, Method]:
    """Fills without a network by name, in the order of `METHOD_NAMES`; those of OpenCV only where it is installed."""
    names = chosen(names, METHOD_NAMES)
    if find_spec("cv2") is None and {*names} & {*OPENCV}:
        logger.warning(f"{' and '.join(OPENCV)} are left out: they want OpenCV (pip install opencv-python-headless)")
        names = [name for name in names if name not in OPENCV]
    return {name: _classical_method(name) for name in names}


def _classical_method(name: str) -> Method:
    def method(pixels: Pixels, missing: BoolArray, seed: int) -> dict[str, Estimate]:
        del seed
        if name == "membrane":
            return {name: Estimate(_to_pixels(membrane_fill(to_model(pixels, WHITE), missing)))}
        if name in OPENCV:
            import cv2

            kind = cv2.INPAINT_TELEA if name == "telea" else cv2.INPAINT_NS
            filled = cv2.inpaint(np.ascontiguousarray(pixels), missing.astype(np.uint8), OPENCV_RADIUS, kind)
            return {name: Estimate(np.asarray(filled, dtype=np.float64))}
        channels = np.moveaxis(pixels.astype(np.float64), 2, 0)
        return {name: Estimate(np.stack([fill(name, one, ~missing) for one in channels], axis=2))}  # type: ignore[arg-type]

    return method


def prior_method(name: str, model: Model) -> Method:
    """What a model with a prior starts from, without its network."""

    def method(pixels: Pixels, missing: BoolArray, seed: int) -> dict[str, Estimate]:
        del seed
        return {name: Estimate(_to_pixels(background_mean(model.prior, to_model(pixels, WHITE), missing)))}

    return method


def model_method(name: str, model: Model, way: tuple[Preset, int]) -> Method:
    """A diffusion model on pictures that are a face in its frame: the mean of its samples, and the first of several.

    A picture of the model's own size is filled as it is. A larger one is filled as `lacunar face` does: in the model's
    frame, then completed on the finer grid.
    """
    preset, samples = way
    each = frame_evaluations(model, preset)

    def method(pixels: Pixels, missing: BoolArray, seed: int) -> dict[str, Estimate]:
        draws = Draws(preset, samples, seed)
        if len(pixels) == model.network.config.sample_size:
            drawn = _to_pixels(fill_window(to_model(pixels, WHITE)[None], missing, model, draws, halvings=0))
            expected = drawn.mean(axis=0)
        else:
            picture, face = Picture(pixels), Face.whole((len(pixels), len(pixels)))
            regions = fill_face(picture, missing, face, model, None, draws)
            pasted = [paste(picture, regions, sample=sample).colours for sample in range(samples)]
            drawn = np.stack(pasted).astype(np.float64)
            expected = paste(picture, regions).colours.astype(np.float64) if samples > 1 else drawn[0]
        mean = Estimate(expected, samples=drawn, evaluations=each * len(drawn))
        if len(drawn) == 1:
            return {name: mean}
        return {name: mean, f"{name}, {ONE_SAMPLE}": Estimate(drawn[0], evaluations=each, share=1 / len(drawn))}

    return method


def _to_pixels(values: NDArray[np.float32]) -> FloatArray:
    """From [-1, 1] to 0 .. 255."""
    return (values.astype(np.float64) + 1) * (WHITE / 2)


# --- figures ---


def _draw_evaluations(found: Found) -> Figure:
    costs = found.costs(found.scores[found.scores["hidden_by"] == ALL])
    base = costs["psnr"] - costs["gain"]
    bars = {"low": base + costs["gain_low"], "high": base + costs["gain_high"]}
    costs = costs.assign(panel=costs["rate"].map(_hidden), y=costs["psnr"], **bars)
    return cost_panels(costs, labels=("network evaluations for a picture", "PSNR of missing pixels (dB)"))


def _hidden(rate: float) -> str:
    return f"{share(rate)} hidden"


def _draw_examples(found: Found, rate: float) -> Figure:
    """Cases of one rate: what is given, the results, the truth (as Bezerra et al. 2024, Fig. 5)."""
    names = [name for name in (BASELINE, "telea", found.lineup.preferred[0]) if name in found.lineup.methods]
    rows = []
    for case, answers in found.examples:
        if case.rate != rate:
            continue
        truth, missing = case.truth / WHITE, case.missing[..., None]
        fields = {"given": np.where(missing, HIDDEN, truth)}
        results = {name: answers[name].value for name in dict.fromkeys(names)}
        drawn = answers[names[-1]].samples
        if drawn is not None and len(drawn) > 1:
            results |= {f"sample {i + 1}": sample for i, sample in enumerate(drawn[: 2 * SHOWN_SAMPLES : 2])}
        fields |= {name: np.where(missing, value.clip(0, WHITE) / WHITE, truth) for name, value in results.items()}
        fields["truth"] = truth
        rows.append((f"{case.picture}\n{case.hidden_by}", [Image(name, values) for name, values in fields.items()]))
    return image_rows(rows, title=_hidden(rate), side=1.3)
