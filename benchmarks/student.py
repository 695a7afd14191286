"""A network distilled to one step beside the preset that draws samples in ten: error, spread and CPU seconds.

    lacunar train lst-small --pack PACK --distill lst-small --student-steps 4       and 2 and 1, each from the last
    python benchmarks/student.py DATA STUDENT > docs/evidence/tables/student.md

STUDENT is the model folder of the last, or a .safetensors of its weights. Windows of test rasters of which 22 % are
hidden by real cloud shapes are filled over one kriged background by eight samples, without the card's factor of sigma.
Beside the networks: the Gaussian field, which is the default fill and needs neither network nor kriging. Errors are
over what is hidden, in kelvin; CPU seconds are those of one thread and one window, without kriging.
"""

import argparse
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lacunar.diffusion.samplers import PRESETS, plan
from lacunar.errors import LacunarError
from lacunar.evaluate.lst_cases import LstCase, lst_cases, read_scenes, spread_out
from lacunar.evaluate.probabilistic import crps_ensemble
from lacunar.evaluate.report import markdown_table
from lacunar.fill.array import fill_array, fill_from_background
from lacunar.fill.options import FillOptions
from lacunar.interpolate.background import Background, CoarseField, background_field
from lacunar.models.backend import load_filler, with_backend
from lacunar.models.checkpoint import Model
from lacunar.models.weights import fit_weights, read_safetensors

SAMPLES, SIDE, RATE, CELL = 8, 128, 0.22, 16
STEPS = (10, 4, 2, 1)  # of lst-small; `fast` takes the first


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("student", type=Path)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1, help="of the student")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rasters, clouds = read_scenes(asked.data / "lst" / "test", asked.data / "clouds")
    found = []
    for name, raster in rasters.items():
        with suppress(LacunarError):  # a raster without a clear window
            found += lst_cases({name: raster}, clouds, rates=(RATE,), size=SIDE, per_raster=1)
    cases = spread_out(found, asked.windows)
    teacher = load_filler("lst-small")
    student = student_of(teacher, asked.student)
    networks = [("lst-small", with_backend(teacher, "onnx"), steps) for steps in STEPS]
    networks.append(("student", with_backend(student, "onnx"), asked.steps))
    begun = time.process_time()
    backgrounds = [kriged(case) for case in cases]
    kriging = (time.process_time() - begun) / len(cases)
    rows = [row("field, the default", cases, [sampled_field(case) for case in cases])]
    for name, model, steps in networks:
        drawn = [sampled(model, case, field, steps) for case, field in zip(cases, backgrounds, strict=True)]
        rows.append(row(f"{name}, {steps} step{'s' * (steps > 1)}", cases, drawn))
    print(f"{len(cases)} windows of {SIDE} x {SIDE} pixels; kriging one takes {kriging:.2f} CPU s\n")
    print(markdown_table(("how", "mean, K", "one sample, K", "CRPS, K", "spread / error", "CPU s"), rows))


def student_of(teacher: Model, given: Path) -> Model:
    """The student's model: a folder, or the teacher with other weights."""
    if given.is_dir():
        return load_filler(given)
    network = type(teacher.network)(teacher.network.config)
    fit_weights(network, read_safetensors(given), source=given)
    return replace(teacher, network=network)


def kriged(case: LstCase) -> Background:
    """The background of a window."""
    coarse = CoarseField.of(case.truth, ~case.missing, CELL)
    return background_field(case.truth, ~case.missing, case.missing, coarse, kriged=True)


def sampled_field(case: LstCase) -> tuple[NDArray[np.floating], float]:
    """Samples of the Gaussian field, and CPU seconds."""
    begun = time.process_time()
    filled = fill_array(case.truth, ~case.missing, case.missing, None, FillOptions(samples=SAMPLES))
    return filled.samples, time.process_time() - begun


def sampled(model: Model, case: LstCase, field: Background, steps: int) -> tuple[NDArray[np.floating], float]:
    """Samples of a network, and CPU seconds."""
    preset = PRESETS["fast"] if steps == PRESETS["fast"].steps else plan("ddim", steps)
    how = FillOptions(preset=preset, samples=SAMPLES, model="lst-small")
    begun = time.process_time()
    filled = fill_from_background(field, case.truth, ~case.missing, case.missing, model, how)
    return filled.samples, time.process_time() - begun


def row(name: str, cases: list[LstCase], drawn: list[tuple[NDArray[np.floating], float]]) -> tuple[str, ...]:
    """Scores over all windows."""
    truth = np.concatenate([case.truth[case.missing] for case in cases])
    samples = np.concatenate(
        [one[:, case.missing] for case, (one, _) in zip(cases, drawn, strict=True)], axis=1
    ).astype(np.float64)
    error = samples.mean(axis=0) - truth
    of_one = np.sqrt(np.mean((samples - truth) ** 2))
    spread = np.sqrt(samples.var(axis=0, ddof=1).mean() / np.mean(error**2))
    crps = crps_ensemble(samples, truth, antithetic=not name.startswith("field")).mean()
    seconds = np.mean([taken for _, taken in drawn])
    return (
        name,
        f"{np.sqrt(np.mean(error**2)):.3f}",
        f"{of_one:.3f}",
        f"{crps:.3f}",
        f"{spread:.2f}",
        f"{seconds:.2f}",
    )


if __name__ == "__main__":
    main()
