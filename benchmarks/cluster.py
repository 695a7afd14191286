"""Throughput of an archive of simulated products: one process, and Dask with one and two processes, in one run.

    python benchmarks/cluster.py                                  4 products of 1024 x 1024 pixels
    python benchmarks/cluster.py --workers 1 2 4 8 --scenes 16    a larger machine

Every way is a command of its own, `lacunar lst ... [--cluster local:N]`; its time includes starting it and its workers.
Rounds are interleaved and the fastest of each way counts. Pixels are compared with those of one process with as many
threads as a worker has: then they must be the same to the bit; the last bits of a matrix product depend on the threads.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from dask.system import CPU_COUNT

from lacunar.diffusion.samplers import PRESETS
from lacunar.evaluate.report import markdown_table
from lacunar.geo.raster import read_raster
from lacunar.sensors.simulated import simulate_product
from lacunar.versions import describe_machine

SECONDS_PER_HOUR = 3600


def main() -> None:
    """Make the archive, fill it in every way, compare."""
    options = parse()
    with TemporaryDirectory(dir=options.scratch) as name:
        folder = Path(name)
        paths = []
        for number in range(options.scenes):
            made = simulate_product(folder / f"P{number:03d}", size=options.size, seed=number)
            paths.append(f"{made.folder}\n")
        (folder / "list.txt").write_text("".join(paths), encoding="utf-8")
        cores = options.cores
        ways = [(None, cores), *((f"local:{workers}", max(1, cores // workers)) for workers in options.workers)]
        ways += [(None, threads) for threads in sorted({threads for _, threads in ways[1:]} - {cores})]
        seconds: dict[tuple[str | None, int], list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for cluster, threads in ways:
                seconds[cluster, threads].append(fill(folder, cluster, threads, options))
                print(cluster or "one process", threads, seconds[cluster, threads][-1], file=sys.stderr, flush=True)
        rows = [row(folder, cluster, threads, min(taken), cores) for (cluster, threads), taken in seconds.items()]
    print(describe_machine())
    print(
        f"\n{options.scenes} simulated products of {options.size} x {options.size} pixels, model {options.model}, ",
        end="",
    )
    print(f"preset {options.preset}, {options.samples} samples; the fastest of {options.rounds} round(s).\n")
    header = (
        "where",
        "threads of each process",
        "seconds",
        "scenes/h",
        "filled pixels/s",
        "equal bits",
        "max difference, K",
    )
    print(markdown_table(header, rows))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--cores", type=int, default=CPU_COUNT, help="that the processes share")
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--size", type=int, default=1024, help="side of a product in pixels")
    parser.add_argument("--model", default="lst-small", help="shipped model or model folder")
    parser.add_argument("--preset", choices=PRESETS, default="fast")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scratch", type=Path, help="folder for the products")
    return parser.parse_args()


def place(folder: Path, cluster: str | None, threads: int) -> Path:
    """Where a way puts its outputs."""
    return folder / f"{(cluster or 'one').replace(':', '-')}-{threads}"


def fill(folder: Path, cluster: str | None, threads: int, options: argparse.Namespace) -> float:
    """Fill the archive in one way; seconds."""
    command = [sys.executable, "-m", "lacunar", "lst", f"@{folder / 'list.txt'}"]
    command += ["-o", str(place(folder, cluster, threads)), "--model", options.model, "--preset", options.preset]
    command += ["--samples", str(options.samples), "--device", "cpu", "--overwrite"]
    command += ["--cluster", cluster] if cluster else []
    environment = os.environ | dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)
    )
    begun = time.perf_counter()
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{' '.join(command)} ended with exit code {ran.returncode}: {ran.stderr or ran.stdout}")
    return time.perf_counter() - begun


def row(folder: Path, cluster: str | None, threads: int, seconds: float, cores: int) -> tuple[str, ...]:
    """One row of the table."""
    out, alone = place(folder, cluster, threads), place(folder, None, threads)
    summary = json.loads((out / "lacunar_summary.json").read_text(encoding="utf-8"))
    pairs = [(read_raster(path).data, read_raster(alone / path.name).data) for path in sorted(out.glob("*.tif"))]
    equal = all(np.array_equal(ours, theirs, equal_nan=True) for ours, theirs in pairs)
    reference = place(folder, None, cores)
    largest = max(
        float(np.nanmax(np.abs(read_raster(path).data - read_raster(reference / path.name).data)))
        for path in sorted(out.glob("*.tif"))
    )
    return (
        f"`--cluster {cluster}`" if cluster else "one process",
        str(threads),
        f"{seconds:.0f}",
        f"{len(pairs) * SECONDS_PER_HOUR / seconds:.1f}",
        f"{summary['pixels_filled'] / seconds:.0f}",
        "yes" if equal else "no",
        f"{largest:.1e}",
    )


if __name__ == "__main__":
    main()
