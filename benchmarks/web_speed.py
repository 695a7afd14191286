"""How fast `lacunar serve` is: its start, tiles, hover and preview; then many clients that pan at once.

    python benchmarks/web_speed.py
    python benchmarks/web_speed.py --clients 20 --tiles 10000 --skip-preview   the load alone, after the tiles

The raster is a smooth field with clouds, opened as the page opens any. A client asks for one tile after the other, as
soon as it has the last: neighbours of where it is, now and then another level or another place. Memory and CPU time are
those of the server's own process (Linux only); CPU time tells how fast it is where other work keeps the machine busy.
Everything stays on this machine.
"""

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import rasterio
from rasterio.windows import Window

from lacunar.evaluate.report import markdown_table
from lacunar.geo.raster import RasterWriter
from lacunar.geo.windows import blocks_over
from lacunar.sensors.synthetic_scene import power_law_field
from lacunar.versions import describe_machine

API = "/api/v1"
SHAPE = (7800, 7600)
PATCH = 1024  # side of the field that is repeated
CORNER, SIDE = (3000, 3000), 256  # of the preview
BANDS = "value,flags"  # what the page asks for of a raster to be filled
ASKED = 200  # single requests of a kind
PERCENT_ELSEWHERE = 5  # of the tiles that a client asks for next
Row = list[str]


class Api:
    """One connection to a server."""

    def __init__(self, address: str) -> None:
        place = urlsplit(address)
        self._connection = http.client.HTTPConnection(str(place.hostname), place.port or 80, timeout=600)
        self._headers = {"Authorization": f"Bearer {place.query.removeprefix('token=')}"}

    def bytes(self, method: str, path: str, body: Any = None) -> bytes:  # noqa: ANN401
        """The body of an answer; a refusal is an error."""
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        self._connection.request(method, API + path, None if body is None else json.dumps(body), headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
        return content

    def told(self, method: str, path: str, body: Any = None) -> dict[str, Any]:  # noqa: ANN401
        """The JSON of an answer."""
        told: dict[str, Any] = json.loads(self.bytes(method, path, body))
        return told

    def ended(self, path: str, active: tuple[str, ...]) -> dict[str, Any]:
        """A raster or a job once its state is not active."""
        while (told := self.told("GET", path))["state"] in active:
            time.sleep(0.02)
        if told["state"] not in ("ready", "done"):
            raise RuntimeError(f"{path}: {told['state']}, {told['error']}")
        return told


def main() -> None:
    """Measure each in turn and print the tables."""
    options = parse()
    with TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        (folder / "shown").mkdir()
        make_raster(folder / "shown" / "large.tif")
        rows = [start(folder, options.repeats)]
        with serving(folder) as (address, process):
            api = Api(address)
            begun = time.perf_counter()
            identifier = api.told("POST", "/rasters", {"path": "large.tif"})["id"]
            info = api.ended(f"/rasters/{identifier}", ("opening",))
            size = f"{SHAPE[0]:,} x {SHAPE[1]:,}"
            opening = f"opening the raster of {size} (overviews made)"
            rows.append([opening, f"{time.perf_counter() - begun:.1f} s", "", ""])
            rows += [*tiles(api, identifier, info, process), point(api, identifier, process)]
            if not options.skip_preview:
                rows += preview(address, identifier, folder, options.repeats)
            print(describe_machine())
            print(f"\n{markdown_table(['what', 'time', 'CPU of the server', 'target'], rows)}\n", flush=True)
            if options.tiles:
                names = ["tiles so far", "tiles/s", "CPU a tile", "p50", "p95", "p99", "memory of the server"]
                print(markdown_table(names, load(address, identifier, info, process, options)))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=20, help="that pan at once")
    parser.add_argument("--tiles", type=int, default=10_000, help="that they ask for in all; 0 for none")
    parser.add_argument("--parts", type=int, default=5, help="rows of the table of the load")
    parser.add_argument("--repeats", type=int, default=3, help="of start and preview; the median counts")
    parser.add_argument("--skip-preview", action="store_true")
    parser.add_argument("--scratch", type=Path, help="folder for 2 GB of rasters")
    return parser.parse_args()


def make_raster(path: Path) -> None:
    """Write a field in kelvin with clouds, cut out of repeated patches."""
    rng = np.random.default_rng(0)
    field = 295 + 4 * power_law_field(PATCH, rng, exponent=3.0)
    clouds = power_law_field(PATCH, rng, exponent=4.0)
    patch = np.where(clouds > np.quantile(clouds, 0.78), np.nan, field).astype(np.float32)
    transform = rasterio.Affine(30, 0, 400_000, 0, -30, 5_000_000)
    with RasterWriter(
        path, shape=SHAPE, transform=transform, crs=rasterio.CRS.from_epsg(32632), band_names=("lst",), units=("K",)
    ) as writer:
        for block in blocks_over(SHAPE, block=PATCH, halo=0):
            writer.write(patch[None, : block.core.height, : block.core.width], block.core)


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, int]]:
    """A server of its own: its address and the number of its process."""
    with TemporaryDirectory(dir=folder) as state:
        command = [sys.executable, "-m", "lacunar", "serve", "--port", "0", "--state", state]
        command += ["--root", str(folder / "shown")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            assert server.stdout is not None
            try:
                found = re.search(r"http://\S+", server.stdout.readline())
                assert found is not None
                yield found[0], server.pid
            finally:
                server.terminate()


def start(folder: Path, repeats: int) -> Row:
    """From the command to the first answer."""
    taken, busy = [], []
    for _ in range(repeats):
        begun = time.perf_counter()
        with serving(folder) as (address, process):
            Api(address).bytes("GET", "/health")
            taken.append(time.perf_counter() - begun)
            busy.append(cpu_seconds(process))
    return ["from the command to the first answer", f"{np.median(taken):.2f} s", f"{np.median(busy):.2f} s", "< 3 s"]


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def tile_path(identifier: str, place: tuple[int, int, int]) -> str:
    """Where a tile (z, x, y) is."""
    return f"/rasters/{identifier}/tiles/{'/'.join(map(str, place))}?bands={BANDS}"


def tiles_a_side(info: dict[str, Any], z: int) -> tuple[int, int]:
    """Columns and rows of tiles of a level."""
    side = info["tile"] << (info["levels"] - z)
    return -(-info["shape"][1] // side), -(-info["shape"][0] // side)


def tiles(api: Api, identifier: str, info: dict[str, Any], process: int) -> list[Row]:
    """The first tile after the raster was opened, then every tile of any level in turn."""
    first = timed(lambda: api.bytes("GET", tile_path(identifier, (0, 0, 0))))
    rng = np.random.default_rng(0)
    taken, before = [], cpu_seconds(process)
    for number in range(ASKED):
        z = number % (info["levels"] + 1)
        x, y = (int(rng.integers(most)) for most in tiles_a_side(info, z))
        taken.append(timed(lambda place=(z, x, y): api.bytes("GET", tile_path(identifier, place))))
    busy = 1000 * (cpu_seconds(process) - before) / ASKED
    middle, most = 1000 * np.quantile(taken, (0.5, 0.95))
    warm = f"warm tile, any of {info['levels'] + 1} levels: median, p95"
    return [
        ["first tile, the whole raster at its coarsest", f"{1000 * first:.0f} ms", "", ""],
        [warm, f"{middle:.0f}, {most:.0f} ms", f"{busy:.0f} ms", "< 1 s"],
    ]


def point(api: Api, identifier: str, process: int) -> Row:
    """All values at a pixel; the page itself reads them from tiles that it has."""
    rng = np.random.default_rng(1)
    taken, before = [], cpu_seconds(process)
    for _ in range(ASKED):
        row, col = (int(rng.integers(most)) for most in SHAPE)
        path = f"/rasters/{identifier}/point?row={row}&col={col}"
        taken.append(timed(lambda path=path: api.bytes("GET", path)))
    middle, most = 1000 * np.quantile(taken, (0.5, 0.95))
    busy = 1000 * (cpu_seconds(process) - before) / ASKED
    return ["values at a pixel: median, p95", f"{middle:.0f}, {most:.0f} ms", f"{busy:.0f} ms", "< 50 ms"]


def preview(address: str, identifier: str, folder: Path, repeats: int) -> list[Row]:
    """A preview of 256 x 256 pixels, and the command on the same pixels, turn by turn."""
    cut = folder / "cut.tif"
    with rasterio.open(folder / "shown" / "large.tif") as source:
        area = Window(CORNER[1], CORNER[0], SIDE, SIDE)
        profile = source.profile | {"width": SIDE, "height": SIDE, "transform": source.window_transform(area)}
        with rasterio.open(cut, "w", **profile) as target:
            target.write(source.read(window=area))
            target.units = source.units
    command = [sys.executable, "-m", "lacunar", "fill", str(cut), "-o", str(folder / "filled.tif"), "--overwrite"]
    page, own = [], []
    job = {"kind": "fill", "raster": identifier, "window": [*CORNER, SIDE, SIDE], "preset": "fast"}
    for _ in range(repeats):
        api = Api(address)  # the server closes a connection that is not used for some seconds
        page.append(
            timed(lambda api=api: api.ended(f"/jobs/{api.told('POST', '/jobs', job)['id']}", ("queued", "running")))
        )
        own.append(timed(lambda: subprocess.run(command, check=True, capture_output=True)))
    taken, theirs = float(np.median(page)), float(np.median(own))
    return [
        [f"`lacunar fill` of {SIDE} x {SIDE} pixels, preset fast", f"{theirs:.1f} s", "", ""],
        ["preview of the same pixels on the page", f"{taken:.1f} s", "", f"< {theirs + 0.5:.1f} s"],
    ]


def load(address: str, identifier: str, info: dict[str, Any], process: int, options: argparse.Namespace) -> list[Row]:
    """Clients that pan at once, and what the server's memory does meanwhile."""
    rows, each = [], options.tiles // options.parts // options.clients
    rows.append(["0", "", "", "", "", "", f"{resident(process):.0f} MiB"])
    walks = [walk(info, np.random.default_rng(number)) for number in range(options.clients)]
    for part in range(options.parts):
        taken: list[float] = []

        def pan(places: Iterator[tuple[int, int, int]], taken: list[float] = taken) -> None:
            api = Api(address)
            for _ in range(each):
                taken.append(timed(lambda: api.bytes("GET", tile_path(identifier, next(places)))))

        threads = [threading.Thread(target=pan, args=(places,)) for places in walks]
        begun, before = time.perf_counter(), cpu_seconds(process)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begun
        if len(taken) != each * options.clients:
            raise RuntimeError(f"{each * options.clients - len(taken)} tiles did not come")
        quantiles = [f"{1000 * value:.0f} ms" for value in np.quantile(taken, (0.5, 0.95, 0.99))]
        so_far = f"{(part + 1) * each * options.clients:,}"
        busy = f"{1000 * (cpu_seconds(process) - before) / len(taken):.0f} ms"
        rows.append([so_far, f"{len(taken) / seconds:.0f}", busy, *quantiles, f"{resident(process):.0f} MiB"])
    return rows


def walk(info: dict[str, Any], rng: np.random.Generator) -> Iterator[tuple[int, int, int]]:
    """Places (z, x, y) that a client who pans asks for, without end."""
    z, x, y = info["levels"], 0, 0
    while True:
        if rng.integers(100) < PERCENT_ELSEWHERE:
            z = int(rng.integers(info["levels"] + 1))
            x, y = (int(rng.integers(most)) for most in tiles_a_side(info, z))
        else:
            x, y = (
                int(np.clip(at + step, 0, most - 1))
                for at, step, most in zip((x, y), rng.integers(-1, 2, 2), tiles_a_side(info, z), strict=True)
            )
        yield z, x, y


def cpu_seconds(process: int) -> float:
    """CPU seconds that a process has used."""
    told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def resident(process: int) -> float:
    """MiB that a process holds in memory."""
    told = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", told)[0]) / 1024


if __name__ == "__main__":
    main()
