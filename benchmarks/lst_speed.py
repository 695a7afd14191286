"""CPU seconds to fill a raster of which 22 % is missing: the field of the raster, and networks on kriging.

    python benchmarks/lst_speed.py                      fast and instant, without and with the network
    python benchmarks/lst_speed.py --network none       the field alone
    python benchmarks/lst_speed.py --network paper      RePaint too: 30 evaluations run, the rest extrapolated

CPU time counts, so that other work on the machine does not. Below the table: where the time of the field goes.
"""

import argparse
import cProfile
import pstats
import time
from pathlib import Path

from lacunar.diffusion.samplers import PRESETS, Preset
from lacunar.evaluate.lst_cases import LstCase, lst_cases, read_scenes
from lacunar.evaluate.report import markdown_table
from lacunar.fill.array import fill_array
from lacunar.fill.filled import Filled
from lacunar.fill.options import FillOptions
from lacunar.metrics import rmse
from lacunar.models.backend import load_filler
from lacunar.versions import describe_machine

PROBE = Preset(steps=30, jump_length=10, jump_n_sample=1, sampler="repaint")  # RePaint cut down to 30 evaluations
PARTS = {  # function of the profile -> what it does
    "_weighted": "scale of the field",
    "_calibrated": "scale of sigma, on a transplanted gap",
    "_with_far": "block means",
    "fill_from_field": "the fill",
}
INSIDE = {"with_draws": "factors, solves and draws", "pixel_noise": "noise"}


def main() -> None:
    """Fill one tile of a Münster date with each preset."""
    options = parse()
    rasters, clouds = read_scenes(options.data / "lst" / "test", options.data / "clouds")
    scene = next(iter(rasters))
    case = lst_cases({scene: rasters[scene]}, clouds, rates=(options.rate,), size=options.size, per_raster=1)[0]
    fill(case, None, FillOptions(preset="instant", samples=1))  # the first call pays for what is loaded on demand
    rows = []
    for name in ("instant", "fast"):
        samples = PRESETS[name].usual_samples
        seconds, filled = fill(case, None, FillOptions(preset=name, samples=samples))
        rows.append(row(case, filled, f"field, {name}", samples, 0, seconds))
    if options.network != "none":
        model = load_filler("lst-small", backend=options.backend)
        for name in ("instant", "fast", *(["paper"] if options.network == "paper" else [])):
            preset, samples = PRESETS[name], 1 if name == "paper" else PRESETS[name].usual_samples
            run = PROBE if name == "paper" else preset
            seconds, filled = fill(case, model, FillOptions(preset=run, samples=samples, background="kriging"))
            evaluations = preset.evaluations * samples
            how = f"network, {name}" + (" (30 run)" if name == "paper" else "")
            rows.append(row(case, filled, how, samples, evaluations, seconds * preset.evaluations / run.evaluations))
    print(f"{describe_machine()}\n")
    print(f"{options.size} x {options.size} pixels, {100 * case.missing.mean():.0f} % missing\n")
    print(markdown_table(("how", "samples", "evaluations", "CPU s", "gap RMSE, K"), rows))
    profile = cProfile.Profile()
    profile.runcall(fill, case, None, FillOptions(samples=8))
    print("\nWhere the time of `field, fast` goes\n")
    print(markdown_table(("part", "share"), shares(profile)))


def row(case: LstCase, filled: Filled, how: str, samples: int, evaluations: int, seconds: float) -> tuple[str, ...]:
    """A row of the table."""
    error = rmse(filled.mean, case.truth, region=case.missing)
    return how, str(samples), str(evaluations), f"{seconds:.2f}", f"{error:.2f}"


def fill(case: LstCase, model: object, options: FillOptions) -> tuple[float, Filled]:
    """CPU seconds in all, and the fill."""
    start = time.process_time()
    filled = fill_array(case.truth, ~case.missing, case.missing, model, options)  # type: ignore[arg-type]
    return time.process_time() - start, filled


def shares(profile: cProfile.Profile) -> list[tuple[str, str]]:
    """Share of the time that each part takes; those inside others are told apart."""
    found = {key[2]: value[3] for key, value in pstats.Stats(profile).stats.items()}  # type: ignore[attr-defined]
    whole = found["fill"]
    return [(text, f"{found.get(name, 0.0) / whole:.0%}") for name, text in PARTS.items()] + [
        (f"in all of them: {text}", f"{found.get(name, 0.0) / whole:.0%}") for name, text in INSIDE.items()
    ]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds lst/test and clouds")
    parser.add_argument("--network", default="fast", choices=("none", "fast", "paper"))
    parser.add_argument("--backend", default="auto", help="auto, eager, onnx, bf16 or compiled")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rate", type=float, default=0.22)
    return parser.parse_args()


if __name__ == "__main__":
    main()
