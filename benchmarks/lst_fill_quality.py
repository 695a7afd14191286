"""How close the fills come: gap RMSE, MAE and bias in kelvin on Münster's clear dates under real cloud shapes.

    python benchmarks/lst_fill_quality.py                 the classical methods and the model's preset `fast`
    python benchmarks/lst_fill_quality.py --paper 8       also RePaint (2,410 evaluations) on 8 cases of each rate

The tiles were never trained on. Tiles, clouds and noise come from the seed, so a second run gives the same numbers.
"""

import argparse
import sys
from pathlib import Path

from lacunar.cases import RATES, Case, lst_cases, read_scenes
from lacunar.checkpoint import load_model
from lacunar.evaluation import (
    REFERENCE,
    classical_fillers,
    describe_machine,
    evaluate,
    model_filler,
    to_csv,
    to_table,
)
from lacunar.filling import PRESET_NAMES, PRESETS


def main() -> None:
    """Score every method on the same cases and print one table, and another for RePaint's share of the cases."""
    options = parse()
    rasters, clouds = read_scenes(options.data / "lst" / "test", options.data / "clouds")
    cases = lst_cases(
        rasters, clouds, rates=options.rates, size=options.size, per_raster=options.per_raster, seed=options.seed
    )
    model = load_model(options.model)
    network = model_filler(model, preset=PRESETS[options.preset], samples=options.samples)
    label, paper_label = f"{model.name}, {options.preset}", f"{model.name}, paper"
    classical = classical_fillers()
    print(describe_machine())
    print(f"\n{len(rasters)} dates, {len(cases)} cases of {options.size} x {options.size} pixels; seed {options.seed}.")
    print("Errors over the gap; intervals by resampling dates; image MSE, PSNR and SSIM over the whole tile, ", end="")
    print(f"data range of each date its own extremes: {ranges(cases)}. ", end="")
    print(f"`{label}` is the mean of {options.samples} samples.\n")
    scores = evaluate(cases, classical | {label: network}, seed=options.seed, callback=progress)
    print(to_table(scores))
    if options.paper:
        few = spread_out(cases, options.paper)
        repaint = model_filler(model, preset=PRESETS["paper"], samples=options.paper_samples)
        methods = {REFERENCE: classical[REFERENCE], label: network, paper_label: repaint}
        paper_scores = evaluate(few, methods, seed=options.seed, callback=progress)
        print(f"\n`{paper_label}` is RePaint, {PRESETS['paper'].evaluations} evaluations, ", end="")
        print(f"mean of {options.paper_samples}; all on its {len(few)} cases:\n\n{to_table(paper_scores)}")
        scores += paper_scores
    if options.output:
        options.output.write_text(to_csv(scores), encoding="utf-8")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds lst/test and clouds")
    parser.add_argument("--model", default="lst-small", help="shipped model or model folder")
    parser.add_argument("--preset", choices=PRESET_NAMES, default="fast")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--size", type=int, default=64, help="side of a tile")
    parser.add_argument("--per-raster", type=int, default=4, help="tiles from each date")
    parser.add_argument("--paper", type=int, default=0, help="cases of each rate for RePaint")
    parser.add_argument("--paper-samples", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="CSV to write")
    return parser.parse_args()


def spread_out(cases: list[Case], count: int) -> list[Case]:
    """``count`` cases of each rate, as far apart in the list of dates as they can be."""
    chosen = []
    for rate in dict.fromkeys(case.rate for case in cases):
        own = [case for case in cases if case.rate == rate]
        count = min(count, len(own))
        chosen += [own[i * len(own) // count] for i in range(count)]
    return chosen


def ranges(cases: list[Case]) -> str:
    """The data range of every date."""
    spans = {case.scene: case.high - case.low for case in cases}
    return ", ".join(f"{scene.rpartition('_')[2]} {span:.1f} K" for scene, span in spans.items())


def progress(done: int, total: int) -> None:
    """Count on the error stream, where somebody watches it."""
    if sys.stderr.isatty():
        print(f"\r{done} of {total} fills", end="\n" if done == total else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
