"""How fast each backend runs each shipped network, and how far its answers lie from eager ones.

    python benchmarks/backends.py                          the CPU: eager, ONNX Runtime, bfloat16
    python benchmarks/backends.py --device cuda            a GPU: eager, bfloat16, compiled
    python benchmarks/backends.py --clock cpu              CPU time in place of wall time, on a machine with other work

    python benchmarks/backends.py --kelvin DATA --batch 8  also fills real LST tiles by each: how far in kelvin

Backends take turns in rounds; each figure is the median of the rounds. A tile is one sample at one evaluation.
Differences are in units of the larger of 1 and the largest eager answer; the network's own unit is the deviation of
what it restores. The threads are PyTorch's own choice; set OMP_NUM_THREADS for another number.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lacunar.evaluate.lst_cases import lst_cases, read_scenes, spread_out
from lacunar.evaluate.report import markdown_table
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.metrics import rmse
from lacunar.models.backend import BackendName, load_filler, load_segmenter, with_backend
from lacunar.models.checkpoint import Model, SegmentationModel
from lacunar.networks.layers import BANDS_IN
from lacunar.versions import describe_machine

GAP_MODELS = ("lst-small", "face-full", "picture-small")
WATER_MODEL = "water-small"
KELVIN_CASES, KELVIN_SIDE, KELVIN_RATE = 6, 64, 0.22

Call = Callable[[], Tensor]


def main() -> None:
    """Print the machine, FLOP of the networks, and the tables."""
    options = parse()
    device, clock = torch.device(options.device), clock_of(options)
    chosen: tuple[BackendName, ...] = ("onnx", "bf16") if device.type == "cpu" else ("bf16", "compiled")
    chosen = tuple(dict.fromkeys((*chosen, *options.backend)))
    print(describe_machine() + (f"; {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""))
    print(f"{options.clock} time, {options.rounds} rounds\n")
    rows, columns = [], ["network", "kFLOP a pixel", "batch", "eager, tiles/s", *chosen]
    for name in options.model:
        model = load_segmenter(name, device=device) if name == WATER_MODEL else load_filler(name, device=device)
        faster = {backend: with_backend(model, backend) for backend in chosen}
        for part in parts_of(model):
            flop = f"{flop_of(model, part) / side_of(model) ** 2 / 1e3:.0f}"
            for batch in options.batch:
                timed = measured(model, faster, part, batch, clock, options.rounds)
                rows.append((f"{name}, {part}", flop, str(batch), *timed))
    print(markdown_table(columns, rows))
    if options.kelvin:
        print("\n" + in_kelvin(options.kelvin, device, chosen))


def parse() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--model", nargs="+", default=[*GAP_MODELS, WATER_MODEL], help="shipped models")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--backend", nargs="+", default=[], help="more backends, such as compiled on the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", default="wall", choices=("wall", "cpu"))
    parser.add_argument("--kelvin", type=Path, help="folder with lst/train (LST rasters) and clouds (masks)")
    return parser.parse_args()


def clock_of(options: argparse.Namespace) -> Callable[[], float]:
    """Seconds, after all that a GPU was asked is done."""
    if options.device == "cpu":
        return time.perf_counter if options.clock == "wall" else time.process_time

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def measured(
    model: Model | SegmentationModel,
    faster: dict[BackendName, Model | SegmentationModel],
    part: str,
    batch: int,
    clock: Callable[[], float],
    rounds: int,
) -> list[str]:
    """Tiles a second in eager, and how many times that the other backends reach, with their largest difference."""
    device = next(model.network.parameters()).device
    calls = {"eager": call_of(model, part, batch, device)}
    calls |= {backend: call_of(other, part, batch, device) for backend, other in faster.items()}
    with torch.inference_mode():
        answers = {name: call().float() for name, call in calls.items()}  # the first call pays for what comes once
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                begun = clock()
                call()
                seconds[name].append(clock() - begun)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    scale = max(1.0, float(answers["eager"].abs().max()))
    told = [f"{batch / medians['eager']:.1f}"]
    for name in faster:
        far = float((answers[name] - answers["eager"]).abs().max()) / scale
        told.append(f"{medians['eager'] / medians[name]:.2f} times; {far:.0e}")
    return told


def in_kelvin(data: Path, device: torch.device, chosen: Sequence[BackendName]) -> str:
    """Fill tiles that the network was trained on, by each backend from the same noise, and compare."""
    rasters, clouds = read_scenes(data / "lst" / "train", data / "clouds")
    cases = spread_out(lst_cases(rasters, clouds, rates=(KELVIN_RATE,), size=KELVIN_SIDE, per_raster=1), KELVIN_CASES)
    model = load_filler(GAP_MODELS[0], device=device)
    runs = {"eager": model} | {backend: with_backend(model, backend) for backend in chosen}
    filled = {
        name: [
            fill_array(case.truth, ~case.missing, case.missing, run, FillOptions(preset="fast", samples=8))
            for case in cases
        ]
        for name, run in runs.items()
    }
    truth = np.concatenate([case.truth[case.missing] for case in cases])

    def gathered(name: str, what: str) -> NDArray[np.float64]:
        pairs = zip(filled[name], cases, strict=True)
        return np.concatenate([getattr(one, what)[..., case.missing].ravel() for one, case in pairs]).astype(np.float64)

    rows = []
    for name in runs:
        off = [gathered(name, what) - gathered("eager", what) for what in ("mean", "samples", "sigma")]
        error = rmse(gathered(name, "mean"), truth)
        largest = float(np.abs(off[1]).max())
        rows.append((name, f"{error:.4f}", *(f"{np.sqrt(np.mean(part**2)):.1e}" for part in off), f"{largest:.1e}"))
    tiles = f"{len(cases)} tiles of {KELVIN_SIDE} x {KELVIN_SIDE}, {KELVIN_RATE:.0%} missing"
    spread = float(np.sqrt(np.mean(gathered("eager", "sigma") ** 2)))
    header = ("backend", "gap RMSE", "rms off: mean", "samples", "sigma", "largest off: sample")
    return f"{tiles}, 8 samples, preset fast, in kelvin; sigma is {spread:.2f} K (rms)\n\n" + markdown_table(
        header, rows
    )


def parts_of(model: Model | SegmentationModel) -> Sequence[str]:
    """What is timed of a model."""
    return ("network",) if isinstance(model, Model) else ("condition", "restore")


def side_of(model: Model | SegmentationModel) -> int:
    """Side of a tile in pixels."""
    return model.network.config.sample_size if isinstance(model, Model) else model.network.spec.sample_size


def call_of(model: Model | SegmentationModel, part: str, batch: int, device: torch.device) -> Call:
    """One evaluation of a batch of noise."""
    side, generator = side_of(model), torch.Generator().manual_seed(0)
    t = torch.full((batch,), 500, device=device)
    if isinstance(model, Model):
        x = torch.randn(batch, model.network.in_channels, side, side, generator=generator).to(device)
        return lambda: model.network(x, t)
    image = torch.rand(batch, BANDS_IN, side, side, generator=generator).to(device)
    if part == "condition":
        return lambda: model.network.condition(image).logits
    x_t = torch.randn(batch, 1, side, side, generator=generator).to(device)
    with torch.inference_mode():
        read = model.network.condition(image)
    return lambda: model.network.restore(x_t, t, read)


def flop_of(model: Model | SegmentationModel, part: str) -> int:
    """Floating-point operations of one tile: two for each multiplication with addition."""
    device = next(model.network.parameters()).device
    call = call_of(model, part, 1, device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter, attention_in_full():
        call()
    return counter.get_total_flops()


def attention_in_full() -> torch.nn.attention.sdpa_kernel:
    """Attention as matrix products, which the counter knows on every device."""
    return nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH)


if __name__ == "__main__":
    main()
