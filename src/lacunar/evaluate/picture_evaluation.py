"""Judge what fills pictures on truth that is hidden from it: the cases, the methods, and each of them on every case."""

import logging
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lacunar.diffusion.samplers import Preset
from lacunar.errors import LacunarError
from lacunar.geo.missing_shapes import OcclusionName, occlusion
from lacunar.geo.picture import Picture, read_picture
from lacunar.interpolate.classical import FillName, fill
from lacunar.interpolate.membrane import classical_base
from lacunar.interpolate.pca_prior import base_over
from lacunar.metrics import mse, psnr, ssim
from lacunar.models.checkpoint import Model
from lacunar.pictures.face_fill import fill_face
from lacunar.pictures.face_frame import Face
from lacunar.pictures.fill import Drawing, fill_window, paste, to_model
from lacunar.pictures.sampler import frame_evaluations

logger = logging.getLogger(__name__)

MethodName = Literal["biharmonic", "laplace", "telea", "navier-stokes", "membrane"]
METHOD_NAMES: tuple[MethodName, ...] = get_args(MethodName)
BASELINE: MethodName = "biharmonic"  # what gains are counted from
MEMBRANE: MethodName = "membrane"  # what the network starts from
ONE_SAMPLE = "one sample"
OCCLUSIONS: tuple[OcclusionName, ...] = ("strokes", "blobs", "rectangle", "face-mask", "sunglasses", "scarf", "hand")
WHITE = 255
OPENCV_RADIUS = 3  # pixels around a hole's pixel that OpenCV looks at, as in its own tutorial
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PictureCase:
    """A picture (H, W, 3), the pixels of it that are hidden, at which rate and by what."""

    name: str
    rate: float
    hidden_by: str
    truth: Pixels
    gap: BoolArray


@dataclass(frozen=True, eq=False)
class Painted:
    """What a method made of a case: (K, H, W, 3) samples from 0 to 255, and the network evaluations of each."""

    samples: FloatArray
    evaluations: int = 0


class Painter(Protocol):
    """Anything that fills a picture: pixels (H, W, 3) black in the gap, gap (H, W), a seed."""

    def __call__(self, pixels: Pixels, gap: BoolArray, seed: int, /) -> Painted:
        """Fill the gap."""


@dataclass(frozen=True)
class PictureRow:
    """One method on one case, values from 0 to 1: over the hole, and over the whole image (``image_...``)."""

    name: str
    rate: float
    hidden_by: str
    method: str
    evaluations: int
    seconds: float
    mse: float
    psnr: float
    ssim: float
    image_mse: float
    image_psnr: float
    image_ssim: float


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

    Parameters
    ----------
    folder
        Square pictures of aligned faces.
    size
        Side in pixels to which they are brought (Lanczos).
    rates, occlusions
        Missing rates, and what hides the face.
    most
        So many pictures at most, in the order of their names.
    seed
        Of the occlusions: each case has its own seed, made from this and its name.

    Raises
    ------
    LacunarError
        No picture, one that is not square or smaller than `size`, an unknown occlusion, or a rate outside (0, 1).
    """
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not files:
        raise LacunarError(f"no picture in {folder}: wanted a folder of {', '.join(SUFFIXES)} with aligned faces")
    pictures = {file.stem: _square(file, size) for file in files[:most]}
    cases = []
    for rate in rates:
        for number, (name, truth) in enumerate(pictures.items()):
            kind = occlusions[number % len(occlusions)]
            rng = np.random.default_rng(zlib.crc32(f"{seed} {name} {rate:g} {kind}".encode()))
            cases.append(PictureCase(name, rate, kind, truth, occlusion(kind, (size, size), rate, rng=rng)))
    return cases


def _square(file: Path, size: int) -> Pixels:
    """A square picture at the wanted size."""
    colours = read_picture(file).colours
    height, width, channels = colours.shape
    if height != width or height < size or colours.dtype != np.uint8:
        raise LacunarError(
            f"{file} has {width} x {height} pixels of {colours.dtype}; wanted a square of 8 bit, {size} pixels or "
            "more: crop it to the face as `lacunar face` frames it"
        )
    image = Image.fromarray(np.repeat(colours, 3 // channels, axis=2))
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def classical_painters(names: Collection[str] = METHOD_NAMES) -> dict[str, Painter]:
    """Methods without a network by name, in the order of `METHOD_NAMES`; those of OpenCV only where it is installed.

    Raises
    ------
    LacunarError
        An unknown name.
    """
    unknown = [name for name in names if name not in METHOD_NAMES]
    if unknown:
        raise LacunarError(f"unknown method {unknown[0]!r}: choose out of {', '.join(METHOD_NAMES)}")
    made: dict[str, Painter] = {"biharmonic": _by_channel("biharmonic"), "laplace": _by_channel("laplace")}
    made |= _opencv_painters()
    made[MEMBRANE] = _membrane
    return {name: made[name] for name in METHOD_NAMES if name in names and name in made}


def _by_channel(name: FillName) -> Painter:
    """A fill of `lacunar.interpolate.classical`, channel by channel."""

    def painter(pixels: Pixels, gap: BoolArray, _: int, /) -> Painted:
        channels = [fill(name, pixels[..., channel].astype(np.float64), ~gap) for channel in range(3)]
        return Painted(np.stack(channels, axis=2)[None])

    return painter


def _membrane(pixels: Pixels, gap: BoolArray, _: int, /) -> Painted:
    """What the network starts from."""
    return Painted(_to_pixels(classical_base(to_model(pixels, WHITE), gap)[None]))


def _opencv_painters() -> dict[str, Painter]:
    """The two inpainting methods of OpenCV; none where it is not installed."""
    try:
        import cv2
    except ImportError:
        logger.warning("telea and navier-stokes are left out: they want OpenCV (pip install opencv-python-headless)")
        return {}

    def painter(method: int) -> Painter:
        def paint(pixels: Pixels, gap: BoolArray, _: int, /) -> Painted:
            filled = cv2.inpaint(np.ascontiguousarray(pixels), gap.astype(np.uint8), OPENCV_RADIUS, method)
            return Painted(np.asarray(filled, dtype=np.float64)[None])

        return paint

    return {"telea": painter(cv2.INPAINT_TELEA), "navier-stokes": painter(cv2.INPAINT_NS)}


def base_painter(model: Model) -> Painter:
    """What a model with a prior starts from, without its network."""

    def painter(pixels: Pixels, gap: BoolArray, _: int, /) -> Painted:
        return Painted(_to_pixels(base_over(model.prior, to_model(pixels, WHITE), gap)[None]))

    return painter


def model_painter(model: Model, detail: Model | None, *, preset: Preset, samples: int) -> Painter:
    """A diffusion model on pictures that are a face in its frame.

    A picture of the model's own size is filled as it is. A larger one is filled as `lacunar face` does: in the model's
    frame, then refined on each finer grid by ``detail``; the evaluations are those in the frame.
    """
    evaluations = frame_evaluations(model, preset)

    def painter(pixels: Pixels, gap: BoolArray, seed: int, /) -> Painted:
        drawing = Drawing(preset, samples, seed)
        if len(pixels) == model.network.config.sample_size:
            seen = to_model(pixels, WHITE)[None]
            drawn = fill_window(seen, gap, model, drawing, halvings=0)
            return Painted(_to_pixels(drawn), evaluations)
        picture, face = Picture(pixels), Face.whole((len(pixels), len(pixels)))
        holes = fill_face(picture, gap, face, model, detail, drawing)
        pasted = [paste(picture, holes, sample=number).colours for number in range(samples)]
        return Painted(np.stack(pasted).astype(np.float64), evaluations)

    return painter


def _to_pixels(values: NDArray[np.float32]) -> FloatArray:
    """From [-1, 1] to 0 .. 255."""
    return (values.astype(np.float64) + 1) * (WHITE / 2)


def evaluate_painters(
    cases: Sequence[PictureCase],
    painters: Mapping[str, Painter],
    *,
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
    watch: Callable[[PictureCase, str, Painted], None] | None = None,
) -> list[PictureRow]:
    """Run every method on every case.

    Parameters
    ----------
    cases, painters
        What is filled, and by whom. A painter of several samples is measured twice: their mean as ``NAME``, the first
        as ``NAME, one sample``.
    seed
        Of the painters: each picture has its own seed, made from this, its name and the rate.
    callback
        Called with (fills done, all).
    watch
        Called with (case, method, what it made) after every fill.

    Raises
    ------
    LacunarError
        No case or no painter.
    """
    if not cases or not painters:
        raise LacunarError(f"got {len(cases)} cases and {len(painters)} methods; wanted one or more of both")
    rows = []
    for number, case in enumerate(cases):
        hidden = np.where(case.gap[..., None], np.uint8(0), case.truth)
        own = zlib.crc32(f"{seed} {case.name} {case.rate:g}".encode())
        for place, (name, painter) in enumerate(painters.items()):
            started = time.perf_counter()
            painted = painter(hidden, case.gap, own)
            seconds = time.perf_counter() - started
            count = len(painted.samples)
            mean = painted.samples.mean(axis=0)
            rows.append(measure_picture(case, name, mean, painted.evaluations * count, seconds))
            if count > 1:
                one = f"{name}, {ONE_SAMPLE}"
                rows.append(measure_picture(case, one, painted.samples[0], painted.evaluations, seconds / count))
            if watch:
                watch(case, name, painted)
            if callback:
                callback(number * len(painters) + place + 1, len(cases) * len(painters))
    return rows


def measure_picture(
    case: PictureCase, method: str, filled: FloatArray, evaluations: int = 0, seconds: float = 0.0
) -> PictureRow:
    """Score one result (H, W, 3), 0 .. 255; known pixels are taken as they are, all else is brought into the range."""
    whole = np.where(case.gap[..., None], filled.clip(0, WHITE), case.truth)
    estimate, truth = (np.moveaxis(picture, 2, 0) / WHITE for picture in (whole, case.truth))
    return PictureRow(
        name=case.name,
        rate=case.rate,
        hidden_by=case.hidden_by,
        method=method,
        evaluations=evaluations,
        seconds=seconds,
        mse=mse(estimate, truth, region=case.gap),
        psnr=psnr(estimate, truth, data_range=1.0, region=case.gap),
        ssim=ssim(estimate, truth, data_range=1.0, region=case.gap),
        image_mse=mse(estimate, truth),
        image_psnr=psnr(estimate, truth, data_range=1.0),
        image_ssim=ssim(estimate, truth, data_range=1.0),
    )
