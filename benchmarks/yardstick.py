"""How much less a 256 x 256 image costs than with RePaint's own network, measured on the same machine in one run.

    OMP_NUM_THREADS=1 python benchmarks/yardstick.py --clock cpu > docs/evidence/tables/yardstick.md

The yardstick is a network of the size of RePaint's for CelebA-HQ 256 (553 million parameters, random weights: the time
does not depend on them). A few of its evaluations are timed, and multiplied by the 2,410 that RePaint takes. Beside it
stand the presets of `lacunar` on the same number of pixels: temperature with 22 % missing, and the water map.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from lacunar.diffusion.samplers import PRESETS, Preset
from lacunar.evaluate.report import markdown_table
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.geo.missing_shapes import gap_pattern
from lacunar.models.backend import load_filler, load_segmenter
from lacunar.models.guided_diffusion import GuidedOptions, GuidedShape, diffusers_settings
from lacunar.networks.unet import DiffusersConfig, UNet
from lacunar.segment.array import SEGMENTER_SAMPLES, SEGMENTER_STEPS, segment_array
from lacunar.sensors.synthetic_scene import power_law_field
from lacunar.versions import describe_machine

SIDE, RATE = 256, 0.22
CUT = Preset(
    steps=30, sampler="repaint", jump_length=10, jump_n_sample=1
)  # what is run of `paper`, a part of its evaluations
REPAINT = GuidedShape(
    in_channels=3,
    out_channels=6,
    model_channels=256,
    channel_mult=(1, 1, 2, 2, 4, 4),
    num_res_blocks=2,
    attention_resolutions=(8, 16, 32),
    use_scale_shift_norm=True,
    resblock_updown=True,
)
HEADER = ("what", "samples", "evaluations", "s in all", "times less", "times less per sample")


def main() -> None:
    """Time a few evaluations of the yardstick before and after all presets of ours."""
    options = parse()
    if options.clock == "cpu":
        time.perf_counter = time.process_time
    network = UNet(DiffusersConfig(settings=diffusers_settings(REPAINT, GuidedOptions()), learned_variance=True)).eval()
    network.to(options.device)
    image = torch.zeros(1, 3, SIDE, SIDE, device=options.device)
    t = torch.zeros(1, dtype=torch.long, device=options.device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(image, t)  # also pays for what is loaded on demand

    @torch.inference_mode()
    def evaluate() -> float:
        return float(network(image, t).sum())  # waits for the device

    once = [seconds_of(evaluate) for _ in range(options.evaluations)]
    rows = ours(options)
    once += [seconds_of(evaluate) for _ in range(options.evaluations)]
    each, evaluations = min(once), PRESETS["paper"].evaluations
    yardstick = each * evaluations
    table = [("RePaint's network, RePaint", 1, evaluations, f"{yardstick:.0f}", "1", "1")]
    for name, samples, number, seconds in rows:
        less = yardstick / seconds
        table.append((name, samples, number, f"{seconds:.1f}", f"{less:,.0f}", f"{less * samples:,.0f}"))
    print(describe_machine())
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(
        f"\n{SIDE} x {SIDE} pixels, {RATE:.0%} missing. Yardstick: {parameters / 1e6:.0f} million parameters, "
        f"{counter.get_total_flops() / 2e12:.2f} T multiply-adds and {each:.1f} s an evaluation (the best of "
        f"{len(once)}, the worst {max(once):.1f} s), multiplied by {evaluations:,}. Ours by {options.backend}; "
        f"{options.clock} time.\n"
    )
    print(markdown_table(HEADER, table))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backend", default="auto", help="of ours; the yardstick runs as PyTorch runs it")
    parser.add_argument("--evaluations", type=int, default=2, help="of the yardstick, before and after ours")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", default="wall", choices=("wall", "cpu"), help="cpu: on a machine with other work")
    return parser.parse_args()


def ours(options: argparse.Namespace) -> list[tuple[str, int, int, float]]:
    """What is compared, samples, evaluations and seconds: every preset of LST, and the map of water."""
    rng = np.random.default_rng(0)
    values = 300.0 + 4.0 * power_law_field(SIDE, rng, exponent=3.0)
    gap = gap_pattern("blobs", values.shape, RATE, rng=rng)
    model, segmenter = (
        load_filler("lst-small", device=options.device, backend=options.backend),
        load_segmenter("water-small", device=options.device, backend=options.backend),
    )
    bands = rng.random((6, SIDE, SIDE)).astype(np.float32)
    rows = []

    def filled(preset: Preset, samples: int) -> Callable[[], object]:
        return lambda: fill_array(
            values, ~gap, gap, model, FillOptions(preset=preset, samples=samples, background="kriging")
        )

    filled(PRESETS["fast"], options.samples)()  # pays for what is loaded on demand
    for name, preset in PRESETS.items():
        if name == "paper":
            seconds, how, samples = extrapolated(filled(CUT, 1), preset), f" ({CUT.evaluations} run)", 1
        else:
            samples = min(options.samples, preset.usual_samples)
            seconds, how = best_of(filled(preset, samples), options.repeats), ""
        rows.append((f"{model.name}, {name}{how}", samples, preset.evaluations, seconds))
    seconds = best_of(lambda: segment_array(bands, segmenter), options.repeats)
    rows.append((f"{segmenter.name}, map of water", SEGMENTER_SAMPLES, SEGMENTER_STEPS, seconds))
    return rows


def extrapolated(call: Callable[[], object], preset: Preset) -> float:
    """Seconds of all evaluations of a preset from those of the cut one."""
    return seconds_of(call) * preset.evaluations / CUT.evaluations


def best_of(call: Callable[[], object], repeats: int) -> float:
    """Least seconds of several calls."""
    return min(seconds_of(call) for _ in range(repeats))


def seconds_of(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
