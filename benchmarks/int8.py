"""What `--backend int8` gains from end to end, and what it costs: CPU seconds of one thread and error on test data.

    python benchmarks/int8.py DATA > docs/evidence/tables/int8.md

DATA holds lst/test, clouds and faces/test. LST: windows of 256 x 256 pixels of which 22 % are hidden, by lst-small on
kriging. Pictures: photographs of 256 x 256, of which 30 % are hidden, by face-full (the whole photograph is the face),
and by picture-small. Eight samples each, preset fast; the error is that of their mean where pixels are hidden, in
kelvin or in shares of white. Exports are made before the clock starts.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lacunar.diffusion.samplers import PRESETS
from lacunar.errors import LacunarError
from lacunar.evaluate.lst_cases import lst_cases, read_scenes, spread_out
from lacunar.evaluate.report import markdown_table
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.geo.missing_shapes import occlusion
from lacunar.geo.picture import read_picture
from lacunar.models.backend import load_filler
from lacunar.models.checkpoint import Model
from lacunar.pictures.face_fill import fill_face
from lacunar.pictures.face_frame import Face
from lacunar.pictures.fill import Drawing, fill_regions, paste
from lacunar.versions import describe_machine

BACKENDS = ("eager", "onnx", "int8")
MODELS = ("lst-small", "face-full", "picture-small")
SAMPLES, LST_SIDE, LST_RATE, HIDDEN = 8, 256, 0.22, 0.3
PRESET = "fast"

Case = Callable[[Model], NDArray[np.floating]]  # errors where pixels are hidden


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--scenes", type=int, default=3, help="windows of LST")
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--model", nargs="+", default=MODELS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    pictures = sorted((asked.data / "faces" / "test").glob("*.png"))[:: max(1, 56 // asked.pictures)][: asked.pictures]
    rows = []
    for name in asked.model:
        of_picture = face_of if name == "face-full" else picture_of
        kelvin = name == "lst-small"
        cases = lst_of(asked.data, asked.scenes) if kelvin else [of_picture(*one) for one in zip(pictures, count())]
        models = {backend: load_filler(name, backend=backend) for backend in BACKENDS}
        found = {backend: run(model, cases) for backend, model in models.items()}
        seconds, error = found["onnx"]
        for backend, (own, own_error) in found.items():
            change = f"{own_error / error - 1:+.2%}"
            rows.append(
                (name, str(len(cases)), backend, f"{own:.2f}", f"{seconds / own:.2f}", f"{own_error:.4f}", change)
            )
    print(f"{describe_machine()}\n")
    print(
        markdown_table(
            ("network", "cases", "backend", "CPU s a case", "times as fast as onnx", "error", "of onnx"), rows
        )
    )


def run(model: Model, cases: list[Case]) -> tuple[float, float]:
    """CPU seconds of a case, and the root mean square error of all."""
    cases[0](model)  # what is loaded on demand
    begun = time.process_time()
    errors = [case(model) for case in cases]
    return (time.process_time() - begun) / len(cases), float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def lst_of(data: Path, count: int) -> list[Case]:
    """Windows of test rasters under transplanted clouds, from the rasters that have clear ones."""
    rasters, clouds = read_scenes(data / "lst" / "test", data / "clouds")
    cases = []
    for name, raster in rasters.items():
        with suppress(LacunarError):
            cases += lst_cases({name: raster}, clouds, rates=(LST_RATE,), size=LST_SIDE, per_raster=1)
    how = FillOptions(preset=PRESET, samples=SAMPLES, background="kriging", model="lst-small")

    def filling(number: int) -> Case:
        one = spread_out(cases, count)[number]
        return lambda model: (fill_array(one.truth, ~one.missing, one.missing, model, how).mean - one.truth)[
            one.missing
        ]

    return [filling(number) for number in range(min(count, len(cases)))]


def face_of(path: Path, number: int) -> Case:
    """A photograph that is all face."""
    picture, drawing = read_picture(path), Drawing(PRESETS[PRESET], SAMPLES, number)
    hidden = occlusion("face-mask", picture.shape, HIDDEN, rng=np.random.default_rng(number))

    def errors(model: Model) -> NDArray[np.floating]:
        filled = paste(picture, fill_face(picture, hidden, Face.whole(picture.shape), model, None, drawing))
        return (filled.colours / 255 - picture.colours / 255)[hidden]

    return errors


def picture_of(path: Path, number: int) -> Case:
    """Any picture, under strokes of a brush."""
    picture, drawing = read_picture(path), Drawing(PRESETS[PRESET], SAMPLES, number)
    hidden = occlusion("strokes", picture.shape, HIDDEN, rng=np.random.default_rng(number))

    def errors(model: Model) -> NDArray[np.floating]:
        filled = paste(picture, fill_regions(picture, hidden, model, drawing))
        return (filled.colours / 255 - picture.colours / 255)[hidden]

    return errors


if __name__ == "__main__":
    main()
