"""Seconds and network evaluations to fill a 256 x 256 raster of which 22 % is missing, for each preset.

    python benchmarks/lst_speed.py            RePaint's 2,410 evaluations are extrapolated from a few dozen
    python benchmarks/lst_speed.py --full     all of them are run

The threads are PyTorch's own choice; set OMP_NUM_THREADS for another number.
"""

import argparse
import time
from pathlib import Path

from lacunar.cases import Case, lst_cases, read_scenes
from lacunar.checkpoint import Model, load_model
from lacunar.evaluation import describe_machine, markdown_table
from lacunar.filling import PRESETS, Preset, fill_array

PROBE = Preset(steps=30, jump_length=10, jump_n_sample=1)  # RePaint cut down to 30 evaluations


def main() -> None:
    """Fill one tile of a Münster date with each preset."""
    options = parse()
    rasters, clouds = read_scenes(options.data / "lst" / "test", options.data / "clouds")
    scene = next(iter(rasters))
    case = lst_cases({scene: rasters[scene]}, clouds, rates=(options.rate,), size=options.size, per_raster=1)[0]
    model = load_model(options.model)
    fill(case, model, Preset(steps=2), samples=1)  # the first call pays for what is loaded on demand
    rows = []
    for name, preset in PRESETS.items():
        cut = name == "paper" and not options.full
        samples = 1 if name == "paper" else options.samples
        begun, each, tiles = fill(case, model, PROBE if cut else preset, samples=samples)
        seconds = begun + preset.evaluations * each
        note = f"extrapolated from {PROBE.evaluations}" if cut else "measured"
        rows.append((name, samples, tiles, preset.evaluations, f"{begun:.1f}", f"{each:.3f}", f"{seconds:.1f}", note))
    print(describe_machine())
    print(f"\n{options.size} x {options.size} pixels, {100 * case.gap.mean():.0f} % missing, model {model.name}.\n")
    header = ("preset", "samples", "tiles", "evaluations per sample and tile")
    header += ("s before the first", "s per evaluation of all", "s in all", "how")
    print(markdown_table(header, rows))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds lst/test and clouds")
    parser.add_argument("--model", default="lst-small", help="shipped model or model folder")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rate", type=float, default=0.22)
    parser.add_argument("--samples", type=int, default=8, help="of the presets fast and balanced; of paper one")
    parser.add_argument("--full", action="store_true", help="run all evaluations of the preset paper")
    return parser.parse_args()


def fill(case: Case, model: Model, preset: Preset, *, samples: int) -> tuple[float, float, int]:
    """Seconds before the first evaluation (kriging), seconds per evaluation of all tiles and samples, and tiles."""
    ends: list[float] = []
    start = time.perf_counter()
    filled = fill_array(
        case.values,
        ~case.gap,
        case.gap,
        model,
        preset=preset,
        samples=samples,
        seed=0,
        callback=lambda done, total: ends.append(time.perf_counter()),
    )
    each = (ends[-1] - ends[0]) / (len(ends) - 1)
    return ends[0] - start - each, each, filled.tiles


if __name__ == "__main__":
    main()
