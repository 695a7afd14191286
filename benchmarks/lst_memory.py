"""Peak memory and pace of filling large rasters: memory must not grow with the raster.

    python benchmarks/lst_memory.py                              1024, 2048 and 4096 pixels square
    python benchmarks/lst_memory.py --steps 1                    memory alone: the seconds then mean nothing

Each raster is filled by a process of its own, whose peak resident memory the operating system reports (Unix only).
The gap is a few large clouds that grow with the raster: in the largest, most of it is far from anything measured.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from scipy import ndimage

from lacunar.evaluation import describe_machine
from lacunar.landscape import power_law_field
from lacunar.presets import PRESET_NAMES
from lacunar.raster import RasterWriter
from lacunar.tables import markdown_table
from lacunar.tiling import blocks_over

PATCH = 1024  # side of the field that is mirrored into a larger raster
CLOUD_CELLS = 256  # side of the grid on which the clouds are drawn
MAXRSS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss counts bytes there, KiB elsewhere
CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from lacunar import presets
from lacunar.apps.lst import FillOptions, fill_raster
source, output, model, preset, samples, steps = sys.argv[1:]
if int(steps):
    presets.PRESETS = {preset: replace(presets.PRESETS[preset], steps=int(steps))}
fill_raster(Path(source), Path(output), options=FillOptions(model=model, preset=preset, samples=int(samples)))
"""


def main() -> None:
    """Make, fill and measure one raster after the other."""
    options = parse()
    rows = []
    for size in options.sizes:
        with TemporaryDirectory(dir=options.scratch) as folder:
            source = Path(folder) / "gaps.tif"
            # A process that starts another lends it its own peak: what is large here is made elsewhere.
            maker = get_context("spawn").Process(target=make_raster, args=(source, size, options.coverage))
            maker.start()
            maker.join()
            rows.append(measure(source, size, options))
            print(*rows[-1], sep=", ", file=sys.stderr, flush=True)
    print(describe_machine())
    steps = f", {options.steps} step(s) in place of its own" if options.steps else ""
    print(f"\nModel {options.model}, preset {options.preset}{steps}, {options.samples} samples.\n")
    header = ("raster", "gap", "peak memory, MiB", "seconds", "filled pixels/s")
    print(markdown_table(header, rows))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=(1024, 2048, 4096))
    parser.add_argument("--coverage", type=float, default=0.22, help="share of the raster that is gap")
    parser.add_argument("--model", default="lst-small", help="shipped model or model folder")
    parser.add_argument("--preset", choices=PRESET_NAMES, default="fast")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--steps", type=int, default=0, help="steps in place of the preset's: memory is the same")
    parser.add_argument("--scratch", type=Path, help="folder for the rasters")
    return parser.parse_args()


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


def measure(source: Path, size: int, options: argparse.Namespace) -> tuple[str, ...]:
    """Fill a raster in a process of its own; one row of the table."""
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
    return (
        f"{size} x {size}",
        f"{100 * filled / size**2:.1f} %",
        f"{usage.ru_maxrss / MAXRSS_PER_MIB:.0f}",
        f"{seconds:.0f}",
        f"{filled / seconds:.0f}",
    )


if __name__ == "__main__":
    main()
