"""How long a map of water takes: seconds for one 256 x 256 image by steps and samples, and the share of the condition.

    python benchmarks/water_speed.py

The image is noise: the time does not depend on what it shows. The first call warms up and is not counted; each row is
the best of `--repeats`.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from lacunar.evaluate.report import markdown_table
from lacunar.models.backend import load_segmenter
from lacunar.segment.array import SEGMENTER_SAMPLES, SEGMENTER_STEPS, segment_array
from lacunar.versions import describe_machine

SIDE = 256
OTHERS = ((1, 1), (1, 4), (5, 4), (10, 4), (10, 8))  # steps and samples


def main() -> None:
    """Time the default, and other numbers of steps and samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="water-small", help="model name or folder")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    model = load_segmenter(options.model)
    bands = np.random.default_rng(0).random((6, SIDE, SIDE)).astype(np.float32)
    image = torch.from_numpy(bands)[None]
    with torch.inference_mode():
        condition = best(lambda: model.network.condition(image), options.repeats)
    rows = []
    for steps, samples in dict.fromkeys([(SEGMENTER_STEPS, SEGMENTER_SAMPLES), *OTHERS]):
        seconds = best(partial(segment_array, bands, model, steps=steps, samples=samples), options.repeats)
        rows.append([str(steps), str(samples), f"{seconds:.2f}", f"{condition / seconds:.0%}"])
    print(describe_machine())
    print(f"\n{model.name}, one image of {SIDE} x {SIDE}; the condition is read once in {condition:.2f} s\n")
    print(markdown_table(["steps", "samples", "seconds", "of which the condition"], rows))


def best(call: Callable[[], object], repeats: int) -> float:
    """Least seconds of several calls, after one that warms up."""
    call()
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return min(taken)


if __name__ == "__main__":
    main()
