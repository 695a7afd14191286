"""Are there seams? Gradients across the borders of tiles and blocks, over gradients elsewhere in the same gap.

    python benchmarks/lst_seam.py

A cloud around the corner of four blocks covers some 30 tiles of the network. A ratio of 1 is no seam. Controls: the
truth's own ratio at the same places, the ratio at lines beside the borders, and the same sample filled in one block.
"""

import argparse
import sys
from collections.abc import Collection
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from lacunar.diffusion.samplers import PRESETS
from lacunar.errors import LacunarError
from lacunar.evaluate.report import markdown_table
from lacunar.fill import blocks as streaming
from lacunar.fill.options import FillOptions
from lacunar.geo.windows import Tile, tiles_over
from lacunar.models.backend import load_filler
from lacunar.models.checkpoint import Model
from lacunar.models.tiled import OVERLAP
from lacunar.sensors.scene import Measured
from lacunar.sensors.synthetic_scene import power_law_field
from lacunar.versions import describe_machine

KELVIN = 4.0  # standard deviation of the field
BESIDE = 8  # pixels from a border to its control


def main() -> None:
    """Fill the cloud and compare gradients, for the mean of the samples and for one of them."""
    options = parse()
    model = load_filler(options.model) if options.model else None
    truth, gap = scene(options.size, options.cloud, np.random.default_rng(options.seed))
    mean, sample = (fill(truth, gap, model, options, samples=count) for count in (options.samples, 1))
    whole = fill(truth, gap, model, options, samples=1, block=2 * options.size)
    fields = {"the truth": truth, f"mean of {options.samples}": mean, "one sample": sample}
    side = model.network.config.sample_size if model else 64
    tiles = {
        edge for t in tiles_over((options.size,) * 2, tile=side, overlap=OVERLAP) for edge in (t.row, t.row + side)
    }
    blocks = set(range(streaming.BLOCK, options.size, streaming.BLOCK))
    lines = (tiles, blocks, {edge + BESIDE for edge in tiles}, {edge + BESIDE for edge in blocks})
    rows = [
        (name, *(f"{seam_ratio(field, gap, rows=edges, cols=edges):.3f}" for edges in lines))
        for name, field in (fields | {"one sample, one block": whole}).items()
    ]
    print(describe_machine())
    print(
        f"\n{options.size} x {options.size} pixels, cloud of {gap.sum()} pixels, tiles of {side} and blocks of ", end=""
    )
    print(f"{streaming.BLOCK} pixels, model {model.name if model else 'none'}, preset {options.preset}; 1 = no seam.\n")
    header = ("field", "across tile borders", "across block borders")
    print(markdown_table((*header, f"{BESIDE} pixels beside tile borders", "beside block borders"), rows))
    difference, sigma = np.abs(sample - whole)[gap], (sample - mean)[gap].std()
    print(f"\nOne sample in four blocks and in one differ by {difference.max():.4f} K at most, ", end="")
    print(f"{difference.mean():.5f} K on average; samples differ from their mean by {sigma:.2f} K.")


def seam_ratio(
    field: NDArray[np.floating], missing: NDArray[np.bool_], *, rows: Collection[int], cols: Collection[int]
) -> float:
    """Mean absolute step across the given borders over the mean absolute step elsewhere: 1 = no seam.

    ``field`` and ``missing`` are (H, W); only steps between two missing pixels count. Border r of ``rows`` lies between
    rows r - 1 and r. Raises `LacunarError` without a border inside the missing region, or with nothing but borders.
    """
    across, elsewhere = [], []
    for axis, borders in enumerate((rows, cols)):
        values, inside = np.moveaxis(field, axis, 0), np.moveaxis(missing, axis, 0)
        steps, both = np.abs(np.diff(values, axis=0)), inside[1:] & inside[:-1]
        at_border = np.isin(np.arange(1, len(values)), list(borders))
        across.append(steps[at_border][both[at_border]])
        elsewhere.append(steps[~at_border][both[~at_border]])
    here, there = np.concatenate(across), np.concatenate(elsewhere)
    if not here.size or not there.size:
        raise LacunarError(f"got {here.size} steps across borders and {there.size} others inside; wanted both")
    return float(here.mean() / there.mean())


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="shipped model or model folder; the field alone without")
    parser.add_argument("--preset", choices=PRESETS, default="fast")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--size", type=int, default=streaming.BLOCK + 200, help="side of the raster")
    parser.add_argument("--cloud", type=int, default=240, help="diameter of the cloud in pixels")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def scene(size: int, diameter: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A power-law field in kelvin, and a cloud with a ragged rim around the corner of the first block."""
    field = 300.0 + KELVIN * power_law_field(size, rng, exponent=3.0)
    rows, cols = np.mgrid[:size, :size]
    radius = np.hypot(rows - streaming.BLOCK, cols - streaming.BLOCK)
    ragged = radius * (1 + 0.15 * power_law_field(size, rng, exponent=3.0))
    return field.astype(np.float32), ragged < diameter / 2


def fill(
    truth: NDArray[np.float32],
    gap: NDArray[np.bool_],
    model: Model | None,
    options: argparse.Namespace,
    *,
    samples: int,
    block: int = streaming.BLOCK,
) -> NDArray[np.float32]:
    """The raster filled block by block, as `lacunar fill` does it, with blocks of this size."""

    def read(window: Tile) -> Measured:
        cut = window.slices
        return Measured(np.where(gap[cut], np.float32(np.nan), truth[cut]), ~gap[cut], gap[cut])

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{samples} samples: {100 * done // total} %", end="", file=sys.stderr, flush=True)

    filled = truth.copy()
    chosen = FillOptions(preset=options.preset, samples=samples, seed=options.seed, model=options.model or None)
    found = streaming.survey(read, truth.shape, options=chosen)
    with patch.object(streaming, "BLOCK", block):
        for part in streaming.fill_blocks(read, truth.shape, found, model, chosen, callback=progress):
            filled[part.window.slices] = part.value
    return filled


if __name__ == "__main__":
    main()
