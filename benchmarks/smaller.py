"""The shipped networks in 8 and 16 bits and with small weights left out: own score, speed, size on this CPU.

    python benchmarks/smaller.py DATA > docs/evidence/tables/smaller.md

DATA holds lst/test (LST rasters), clouds (masks), faces/test (pictures), water/test and water/train (scenes).

Each network is exported to ONNX and turned by ONNX Runtime's own tools: int8 dynamic, int8 static (per channel, QDQ,
calibrated on what the network was given while it filled other cases), float16 with 32-bit inputs. The smaller half of
the weights of every convolution set to 0 is tried too: no kernel here is faster for zeros, a compressed file is
smaller. The score is the root mean square error over what is hidden when the product fills by it, in kelvin or in
shares of white; of water 1 - IoU in the middle 256 x 256 pixels of test scenes, calibrated on training scenes. What
passes is at most 1 % worse and 1.3 times as fast or half as large as the float32 graph. Seconds are CPU seconds of one
thread.
"""

import argparse
import statistics
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime import quantization
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor

from lacunar.diffusion.samplers import PRESETS
from lacunar.evaluate.lst_cases import lst_cases, read_scenes, spread_out
from lacunar.evaluate.report import markdown_table
from lacunar.evaluate.water import WaterCase
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.geo.missing_shapes import occlusion
from lacunar.geo.picture import Picture, read_picture
from lacunar.metrics import confusion
from lacunar.models import onnx as exports
from lacunar.models.backend import BackendSegmenter, BackendUNet, load_model, with_backend
from lacunar.models.checkpoint import Model, SegmentationModel
from lacunar.pictures.degradation import Degradation
from lacunar.pictures.face_fill import fill_face
from lacunar.pictures.face_frame import Face
from lacunar.pictures.fill import Drawing, fill_regions, paste
from lacunar.pictures.restore import restored
from lacunar.segment.array import segment_array
from lacunar.train.water_data import water_scenes

MODELS = ("lst-small", "face-full", "picture-small", "picture-prior", "water-classes")
CASES, CALIBRATION, SIDE = 4, 1, 64
WATER_CASES, WATER_SIDE, WATER_SET = 12, 256, "glacial_nrg"
WORSE, FASTER, SMALLER = 1.01, 1.3, 0.5
PRUNED = 0.5
BATCH, ROUNDS = 8, 3

Fill = Callable[[Any, int], float]  # mean square error of a model in a case
Given = list[dict[str, NDArray[Any]]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", nargs="+", default=MODELS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows: list[tuple[str, ...]] = []
    for name in asked.model:
        for row in rows_of(name, fill_of(name, asked.data)):
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    print(markdown_table(("network", "as", "error", "of float32", "speed", "size, MB", "compressed", "passes"), rows))


def rows_of(name: str, fill: Fill) -> Iterator[tuple[str, ...]]:
    """Rows of one network, the float32 graph first."""
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        room = Path(folder)
        exports.CACHE_VARIABLE = "LACUNAR_BENCHMARK_CACHE"
        exports.os.environ[exports.CACHE_VARIABLE] = folder
        model: Model | SegmentationModel = load_model(name)
        cases = CASES
        if isinstance(model, SegmentationModel):
            cases = WATER_CASES
            model.network.spec = replace(model.network.spec, sample_size=WATER_SIDE)
        with_backend(model, "onnx")
        graph = next(room.glob("*.onnx"))
        given: Given = []
        recording = with_session(model, opened(graph), given)
        for case in range(cases, cases + (CALIBRATION if cases == CASES else WATER_CASES)):
            fill(recording, case)
        plain = None
        for kind, make in VARIANTS.items():
            path = room / f"{kind.replace(' ', '_')}.turned"
            try:
                make(graph, path, given)
                session = opened(path)
                errors = [fill(with_session(model, session), case) for case in range(cases)]
                found = (float(np.sqrt(np.mean(errors))), seconds_of(session, given), path.stat().st_size / 2**20)
            except Exception as error:
                yield name, kind, f"failed: {str(error).splitlines()[0][:60]}", *[""] * 5
                continue
            plain = plain or found
            ratios = [one / base for one, base in zip(found, plain, strict=True)]
            packed = len(zlib.compress(path.read_bytes(), 6)) / 2**20
            passes = ratios[0] <= WORSE and (ratios[1] <= 1 / FASTER or ratios[2] <= SMALLER)
            yield (
                name,
                kind,
                f"{found[0]:.4f}",
                f"{ratios[0] - 1:+.1%}",
                f"{1 / ratios[1]:.2f}",
                f"{found[2]:.1f}",
                f"{packed:.1f}",
                "yes" if passes and found is not plain else "",
            )


# --- how a graph is turned ---


def as_it_is(graph: Path, path: Path, given: Given) -> None:
    """The float32 graph."""
    path.write_bytes(graph.read_bytes())


def int8_dynamic(graph: Path, path: Path, given: Given) -> None:
    """Weights in 8 bits, activations by their range at each call; matrix products alone, convolutions as well."""
    quantization.quantize_dynamic(graph, path, weight_type=quantization.QuantType.QInt8)


def int8_matrices(graph: Path, path: Path, given: Given) -> None:
    """As `int8_dynamic`, convolutions left as they are."""
    quantization.quantize_dynamic(
        graph, path, weight_type=quantization.QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
    )


def int8_static(graph: Path, path: Path, given: Given) -> None:
    """Weights and activations in 8 bits, ranges from what the network was given."""
    exports.in_8_bits(graph, path, given)


def float16(graph: Path, path: Path, given: Given) -> None:
    """Weights and activations in 16 bits."""
    onnx.save(convert_float_to_float16(onnx.load(graph), keep_io_types=True), path)


def pruned(graph: Path, path: Path, given: Given) -> None:
    """The smaller half of the weights of each convolution and matrix is 0."""
    made = onnx.load(graph)
    for weights in made.graph.initializer:
        values = numpy_helper.to_array(weights)
        if values.ndim > 1 and values.dtype == np.float32 and values.size > values.shape[0]:
            kept = np.where(np.abs(values) >= np.quantile(np.abs(values), PRUNED), values, np.float32(0))
            weights.CopyFrom(numpy_helper.from_array(kept, weights.name))
    onnx.save(made, path)


VARIANTS = {
    "float32": as_it_is,
    "int8 dynamic": int8_dynamic,
    "int8 dynamic, matrices alone": int8_matrices,
    "int8 static": int8_static,
    "float16": float16,
    "half of the weights 0": pruned,
}


def opened(path: Path) -> onnxruntime.InferenceSession:
    """A graph on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, sess_options=options, providers=["CPUExecutionProvider"])


def with_session(
    model: Model | SegmentationModel, session: onnxruntime.InferenceSession, given: Given | None = None
) -> Model | SegmentationModel:
    """The model whose network a graph answers for; what it is given is kept."""
    names = [one.name for one in session.get_inputs()]

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        fed = {name: tensor.contiguous().numpy() for name, tensor in zip(names, tensors, strict=True)}
        if given is not None:
            given.append({name: values[:BATCH] for name, values in fed.items()})
        return tuple(torch.from_numpy(np.asarray(one, dtype=np.float32)) for one in session.run(None, fed))

    if isinstance(model, SegmentationModel):
        return replace(model, network=BackendSegmenter(model.network, run, None))
    return replace(model, network=BackendUNet(model.network, run))


def seconds_of(session: onnxruntime.InferenceSession, given: Sequence[dict[str, NDArray[Any]]]) -> float:
    """CPU seconds of one call on a batch, the median of rounds."""
    one = {name: np.resize(values, (BATCH, *values.shape[1:])) for name, values in given[0].items()}
    session.run(None, one)
    taken = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        session.run(None, one)
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


# --- what a network is scored by ---


def fill_of(name: str, data: Path) -> Fill:
    """How the product fills by a network."""
    if name.startswith("water"):
        return water_fill(data)
    if name == "lst-small":
        rasters, clouds = read_scenes(data / "lst" / "test", data / "clouds")
        cases = spread_out(lst_cases(rasters, clouds, rates=(0.2,), size=SIDE, per_raster=1), CASES + CALIBRATION)
        how = FillOptions(preset="fast", samples=2, model=name, background="kriging")

        def fill(model: Model, number: int) -> float:
            case = cases[number % len(cases)]
            told = fill_array(case.truth, ~case.missing, case.missing, model, how).mean
            return float(np.mean((told - case.truth)[case.missing] ** 2))

        return fill
    pictures = [_small(path) for path in sorted((data / "faces" / "test").glob("*.png"))[: CASES + CALIBRATION]]

    def fill_picture(model: Model, number: int) -> float:
        picture = pictures[number]
        white = picture.colours / 255
        if name == "picture-prior":
            degradation = Degradation(task="superres", scale=4)
            side = SIDE // degradation.scale
            seen = white.reshape(side, degradation.scale, side, degradation.scale, 3).mean(axis=(1, 3))
            preset = PRESETS["balanced"]
            preset = replace(preset, steps=20, sampler="diffpir", name="")
            told = restored(seen.astype(np.float32), degradation, model, preset=preset, seed=(0, number))
            return float(np.mean((told - white) ** 2))
        hidden = occlusion("strokes", picture.shape, 0.3, rng=np.random.default_rng(number))
        drawing = Drawing(PRESETS["fast"], 2, number)
        if name == "face-full":
            regions = fill_face(picture, hidden, Face.whole(picture.shape), model, None, drawing)
        else:
            regions = fill_regions(picture, hidden, model, drawing)
        return float(np.mean((paste(picture, regions).colours / 255 - white)[hidden] ** 2))

    return fill_picture


def water_fill(data: Path) -> Fill:
    """The square of 1 - IoU of a scene: test scenes first, then training scenes."""
    scenes = {
        part: [scene for scene in water_scenes(data / "water" / part) if scene.set_name == WATER_SET]
        for part in ("test", "train")
    }
    chosen = [part[i * len(part) // WATER_CASES] for part in scenes.values() for i in range(WATER_CASES)]
    cases = [WaterCase.of(scene) for scene in chosen]

    def fill(model: SegmentationModel, number: int) -> float:
        case = cases[number]
        top, left = ((length - WATER_SIDE) // 2 for length in case.truth.shape)
        cut = (slice(top, top + WATER_SIDE), slice(left, left + WATER_SIDE))
        found = segment_array(case.bands[:, *cut], model).samples.mean(axis=0) >= 0.5
        counts = confusion(found, case.truth[cut], region=case.valid[cut])
        return (1 - counts.both / max(counts.both + counts.only_estimate + counts.only_truth, 1)) ** 2

    return fill


def _small(path: Path) -> Picture:
    from skimage.transform import resize

    colours = read_picture(path).colours
    return Picture(np.rint(255 * resize(colours / 255, (SIDE, SIDE), anti_aliasing=True)).astype(np.uint8))


if __name__ == "__main__":
    main()
