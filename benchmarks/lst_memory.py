"""Peak memory and CPU seconds of filling large rasters: memory must not grow, seconds only as the gap does.

    python benchmarks/lst_memory.py                              1024 to 16384 pixels square
    python benchmarks/lst_memory.py --sizes 20000 --preset instant
    python benchmarks/lst_memory.py --steps 1                    memory alone: the seconds then mean nothing

The figure shows both against the pixels of the gap, and the exponent of CPU seconds ~ pixels ** exponent: 1 is linear.
Each raster is filled by a process of its own, whose peak resident memory the operating system reports (Unix only).
The gap is a few large clouds that grow with the raster: in the largest, most of it is far from anything measured.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from affine import Affine
from rasterio.crs import CRS
from scipy import ndimage

from lacunar.diffusion.samplers import PRESETS, preset_named
from lacunar.evaluate.report import markdown_table
from lacunar.geo.raster import RasterWriter
from lacunar.geo.windows import blocks_over
from lacunar.sensors.synthetic_scene import power_law_field
from lacunar.versions import describe_machine

PATCH = 1024  # side of the field that is mirrored into a larger raster
CLOUD_CELLS = 256  # side of the grid on which the clouds are drawn
MAXRSS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss counts bytes there, KiB elsewhere
FIGURE = Path(__file__).resolve().parents[1] / "docs" / "scale.png"
CHILD = """
import sys
from pathlib import Path
from lacunar.fill.inputs import FillInputs
from lacunar.fill.job import fill_scene
from lacunar.fill.options import FillOptions
from lacunar.fill.outputs import OutputFiles
source, output, model, preset, samples, steps = sys.argv[1:]
options = FillOptions(model=model or None, preset=preset, samples=int(samples), evaluations=int(steps) or None)
fill_scene(FillInputs(path=Path(source), kind="raster"), OutputFiles(raster=Path(output)), options)
"""


@dataclass(frozen=True)
class Measured:
    """What filling one raster took."""

    size: int  # pixels on a side
    filled: int  # pixels
    memory: float  # MiB at the peak
    seconds: float
    cpu: float  # seconds of all threads: other work on the machine does not count


def main() -> None:
    """Make, fill and measure one raster after the other."""
    options = parse()
    found = []
    for size in options.sizes:
        with TemporaryDirectory(dir=options.scratch) as folder:
            source = Path(folder) / "gaps.tif"
            # A process that starts another lends it its own peak: what is large here is made elsewhere.
            maker = get_context("spawn").Process(target=make_raster, args=(source, size, options.coverage))
            maker.start()
            maker.join()
            found.append(measure(source, size, options))
            print(found[-1], file=sys.stderr, flush=True)
    steps = f", {options.steps} evaluation(s) in place of its own" if options.steps else ""
    how = f"Model {options.model or 'none'}, preset {options.preset}{steps}, {options.samples} sample(s)"
    machine = describe_machine()
    print(f"{machine}\n\n{how}.\n")
    header = ("raster", "filled pixels", "peak memory, MiB", "seconds", "CPU s", "filled pixels a CPU s")
    print(markdown_table(header, [row(each) for each in found]))
    if len(found) > 1:
        print(f"\nCPU seconds ~ gap pixels ** {exponent(found):.2f}")
        draw(found, options.figure, f"{how}\n{machine}")


def row(found: Measured) -> tuple[str, ...]:
    """One row of the table."""
    return (
        f"{found.size} x {found.size}",
        f"{found.filled:,}",
        f"{found.memory:.0f}",
        f"{found.seconds:.0f}",
        f"{found.cpu:.0f}",
        f"{found.filled / found.cpu:,.0f}",
    )


def exponent(found: Sequence[Measured]) -> float:
    """Slope of the logarithm of the CPU seconds against that of the gap's pixels, by least squares."""
    pixels, seconds = ([getattr(each, name) for each in found] for name in ("filled", "cpu"))
    return float(np.polyfit(np.log(pixels), np.log(seconds), 1)[0])


def draw(found: Sequence[Measured], path: Path, title: str) -> None:
    """Write the figure: seconds and peak memory against the gap's pixels."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    pixels = np.array([each.filled for each in found])
    seconds = np.array([each.cpu for each in found])
    left.loglog(pixels, seconds, "o-", label=f"measured, exponent {exponent(found):.2f}")
    left.loglog(pixels, seconds[-1] * pixels / pixels[-1], "--", color="grey", label="proportional to the last")
    left.set(xlabel="pixels filled", ylabel="CPU seconds")
    left.legend()
    right.semilogx(pixels, [each.memory for each in found], "o-")
    right.set(xlabel="pixels filled", ylabel="peak memory, MiB", ylim=(0, None))
    for axes in (left, right):
        for each in found:
            value = each.cpu if axes is left else each.memory
            axes.annotate(
                f"{each.size}²", (each.filled, value), textcoords="offset points", xytext=(4, -11), fontsize=8
            )
    figure.suptitle(title, fontsize=8)
    figure.savefig(path, dpi=150)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=(1024, 2048, 4096, 8192, 16384))
    parser.add_argument("--coverage", type=float, default=0.22, help="share of the raster that is gap")
    parser.add_argument("--model", default="", help="shipped model or model folder; none without")
    parser.add_argument("--preset", choices=PRESETS, default="fast")
    parser.add_argument("--samples", type=int, help="as many as are usual with the preset by default")
    parser.add_argument("--steps", type=int, default=0, help="evaluations in place of the preset's: memory is the same")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--scratch", type=Path, help="folder for the rasters")
    options = parser.parse_args()
    options.samples = options.samples or preset_named(options.preset).usual_samples
    return options


def make_raster(path: Path, size: int, coverage: float) -> None:
    """Write a power-law field in kelvin with a gap of few large clouds."""
    rng = np.random.default_rng(size)
    patch = (300.0 + 4.0 * power_law_field(PATCH, rng, exponent=3.0)).astype(np.float32)
    mirrored = np.block([[patch, patch[:, ::-1]], [patch[::-1], patch[::-1, ::-1]]])
    clouds = ndimage.zoom(power_law_field(CLOUD_CELLS, rng, exponent=4.0), size / CLOUD_CELLS, order=1)
    gap = clouds > np.quantile(clouds, 1 - coverage)
    options = {"transform": Affine(30.0, 0.0, 5e5, 0.0, -30.0, 5e6), "crs": CRS.from_epsg(32632)}
    with RasterWriter(path, shape=(size, size), band_names=("lst",), units=("K",), **options) as writer:
        for block in blocks_over((size, size), block=2 * PATCH, halo=0):
            values = mirrored[: block.core.height, : block.core.width]
            writer.write(np.where(gap[block.core.slices], np.float32(np.nan), values)[None], block.core)


def measure(source: Path, size: int, options: argparse.Namespace) -> Measured:
    """Fill a raster in a process of its own."""
    output = source.with_name("filled.tif")
    arguments = [str(source), str(output), options.model, options.preset, str(options.samples), str(options.steps)]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", CHILD, *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"filling {size} x {size} pixels ended with exit code {process.returncode}")
    filled = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))["pixels"]["filled"]
    return Measured(size, filled, usage.ru_maxrss / MAXRSS_PER_MIB, seconds, usage.ru_utime + usage.ru_stime)


if __name__ == "__main__":
    main()
