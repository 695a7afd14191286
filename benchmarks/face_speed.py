"""Seconds to fill a face of which 20 % is hidden, for each preset: in the model's frame, and in a whole photograph.

    python benchmarks/face_speed.py            RePaint's 2,410 evaluations are extrapolated from a few dozen
    python benchmarks/face_speed.py --full     all of them are run
    python benchmarks/face_speed.py --cpu --preset fast --size 256 --detail none > docs/evidence/tables/face_speed.md

The picture is a smooth pattern: the time does not depend on what it shows. The first call warms up and is not counted.
The threads are PyTorch's own choice; set OMP_NUM_THREADS for another number. With --cpu one thread, and its CPU
seconds, which other work on the machine does not lengthen much.
"""

import argparse
import time

import numpy as np
import torch
from numpy.typing import NDArray

from lacunar.diffusion.samplers import PRESETS, Preset, preset_named
from lacunar.evaluate.report import markdown_table
from lacunar.geo.missing_shapes import OcclusionName, occlusion
from lacunar.geo.picture import Picture
from lacunar.models.backend import load_filler
from lacunar.models.checkpoint import Model
from lacunar.pictures.face_fill import fill_face
from lacunar.pictures.face_frame import Face
from lacunar.pictures.fill import Drawing, fill_window, to_model
from lacunar.pictures.sampler import frame_evaluations
from lacunar.versions import describe_machine

PROBE = Preset(steps=30, jump_length=10, jump_n_sample=1, sampler="repaint")  # RePaint cut down to 30 evaluations
REFINED_AS = "balanced"  # what RePaint began
HIDDEN = 0.2
KIND: OcclusionName = "face-mask"
WHITE = 255


def main() -> None:
    """Time every preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="face-full", help="shipped model or model folder, of faces")
    parser.add_argument("--detail", default="picture-small", help="the one that refines a photograph")
    parser.add_argument("--size", type=int, default=512, help="side of the photograph, all of which is the face")
    parser.add_argument("--samples", type=int, default=8, help="drawn together, beside one alone")
    parser.add_argument("--full", action="store_true", help="run all evaluations of the preset paper")
    parser.add_argument("--preset", nargs="+", choices=tuple(PRESETS), default=tuple(PRESETS))
    parser.add_argument("--cpu", action="store_true", help="CPU seconds of one thread")
    options = parser.parse_args()
    if options.cpu:
        torch.set_num_threads(1)
        time.perf_counter = time.process_time
    model, detail = load_filler(options.model), None if options.detail == "none" else load_filler(options.detail)
    side = model.network.config.sample_size
    in_frame(model, side, preset_named("instant"), 1)  # the first call pays for what is loaded on demand
    rows = []
    for name in options.preset:
        for samples in (1,) if name in ("paper", "instant") else (1, options.samples):
            rows.append(row(name, samples, model, detail, options.size, full=options.full))
    print(describe_machine())
    print(f"\n{HIDDEN:.0%} hidden; {model.name} in its frame of {side} x {side} pixels, and a photograph of ", end="")
    print(f"{options.size} x {options.size}{f' with {detail.name}' if detail else ''}.\n")
    print(markdown_table(("preset", "samples", "evaluations of each", "frame, s", "photograph, s", "how"), rows))


def row(name: str, samples: int, model: Model, detail: Model | None, size: int, *, full: bool) -> tuple[str, ...]:
    """One line of the table."""
    preset, side = preset_named(name), model.network.config.sample_size
    if preset.conditional:
        frame = in_frame(model, side, preset, samples)
        whole, how = in_photograph(model, detail, size, preset, samples), "all run"
    else:
        frame = in_frame(model, side, preset if full else PROBE, samples)
        frame *= 1 if full else preset.evaluations / PROBE.evaluations
        how = "all run" if full else f"{PROBE.evaluations} run, the rest extrapolated"
        refining = preset_named(REFINED_AS)
        refined, begun = in_photograph(model, detail, size, refining, samples), in_frame(model, side, refining, samples)
        whole = frame + refined - begun
    return name, str(samples), str(frame_evaluations(model, preset)), f"{frame:.2f}", f"{whole:.2f}", how


def in_frame(model: Model, side: int, preset: Preset, samples: int) -> float:
    """Seconds in the model's frame."""
    pixels, gap = example(side)
    begun = time.perf_counter()
    fill_window(to_model(pixels, WHITE)[None], gap, model, Drawing(preset, samples), halvings=0)
    return time.perf_counter() - begun


def in_photograph(model: Model, detail: Model | None, size: int, preset: Preset, samples: int) -> float:
    """Seconds in a photograph that is all face, as `lacunar face --whole` fills it."""
    pixels, gap = example(size)
    begun = time.perf_counter()
    fill_face(Picture(pixels), gap, Face.whole((size, size)), model, detail, Drawing(preset, samples))
    return time.perf_counter() - begun


def example(side: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A smooth square picture, and what is hidden of it."""
    rows, cols = np.indices((side, side)) / side
    waves = [0.5 + 0.3 * np.sin(5 * rows + k) + 0.2 * np.cos(7 * cols - k) for k in range(3)]
    gap = occlusion(KIND, (side, side), HIDDEN, rng=np.random.default_rng(0))
    return (WHITE * np.dstack(waves)).astype(np.uint8), gap


if __name__ == "__main__":
    main()
