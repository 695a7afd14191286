"""Seconds and network evaluations to fill a 256 x 256 raster of which 22 % is missing, for each preset.

    python benchmarks/lst_speed.py            RePaint's 2,410 evaluations are extrapolated from a few dozen
    python benchmarks/lst_speed.py --full     all of them are run

The threads are PyTorch's own choice; set OMP_NUM_THREADS for another number.
"""

import argparse
import time
from pathlib import Path

from lacunar.diffusion.samplers import PRESETS, Preset
from lacunar.evaluate.lst_cases import LstCase, lst_cases, read_scenes
from lacunar.evaluate.report import markdown_table
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.geo.windows import tiles_over, tiles_touching
from lacunar.metrics import rmse
from lacunar.models.backend import load_filler
from lacunar.models.checkpoint import Model
from lacunar.models.tiled import OVERLAP
from lacunar.versions import describe_machine

PROBE = Preset(steps=30, jump_length=10, jump_n_sample=1, sampler="repaint")  # RePaint cut down to 30 evaluations


def main() -> None:
    """Fill one tile of a Münster date with each preset."""
    options = parse()
    rasters, clouds = read_scenes(options.data / "lst" / "test", options.data / "clouds")
    scene = next(iter(rasters))
    case = lst_cases({scene: rasters[scene]}, clouds, rates=(options.rate,), size=options.size, per_raster=1)[0]
    model = load_filler(options.model, backend=options.backend)
    fill(case, model, Preset(steps=2), samples=1)  # the first call pays for what is loaded on demand
    tiles = tiles_over((options.size,) * 2, tile=model.network.config.sample_size, overlap=OVERLAP)
    touched = len(tiles_touching(tiles, case.missing))
    rows = []
    for name, preset in PRESETS.items():
        cut = name == "paper" and not options.full
        samples = 1 if name == "paper" else min(options.samples, preset.usual_samples)
        seconds, each, error = fill(case, model, PROBE if cut else preset, samples=samples)
        how = f"{PROBE.evaluations} run, the rest extrapolated" if cut else "all run"
        seconds += each * (preset.evaluations - PROBE.evaluations) if cut else 0.0
        network = preset.evaluations * touched * samples
        quality = "-" if cut else f"{error:.2f}"
        rows.append((name, samples, preset.evaluations, network, f"{each:.3f}", f"{seconds:.1f}", quality, how))
    print(describe_machine())
    print(f"\n{options.size} x {options.size} pixels, {100 * case.missing.mean():.0f} % missing, ", end="")
    print(f"{touched} tiles of the network touch the gap; model {model.name}, backend {model.backend}.\n")
    header = (
        "preset",
        "samples",
        "evaluations per sample and tile",
        "evaluations in all",
        "s per evaluation of all tiles",
    )
    print(markdown_table((*header, "s in all", "gap RMSE, K", "how"), rows))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds lst/test and clouds")
    parser.add_argument("--model", default="lst-small", help="shipped model or model folder")
    parser.add_argument("--backend", default="auto", help="auto, eager, onnx, bf16 or compiled")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rate", type=float, default=0.22)
    parser.add_argument("--samples", type=int, default=8, help="of the presets fast and balanced; of paper one")
    parser.add_argument("--full", action="store_true", help="run all evaluations of the preset paper")
    return parser.parse_args()


def fill(case: LstCase, model: Model, preset: Preset, *, samples: int) -> tuple[float, float, float]:
    """Seconds in all, kriging included; seconds per evaluation of all tiles and samples; error of the mean."""
    ends: list[float] = []
    start = time.perf_counter()
    filled = fill_array(
        case.truth,
        ~case.missing,
        case.missing,
        model,
        FillOptions(preset=preset, samples=samples),
        callback=lambda done, total: ends.append(time.perf_counter()),
    )
    seconds = time.perf_counter() - start
    each = (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else ends[0] - start
    return seconds, each, rmse(filled.mean, case.truth, region=case.missing)


if __name__ == "__main__":
    main()
