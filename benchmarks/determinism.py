"""How far results differ between threads, backends and processes, at real tile sizes.

    python benchmarks/determinism.py > docs/evidence/tables/determinism.md

Every way is a command of its own (`lacunar fill`, `lacunar water`, `lacunar face`, shipped models) on the same input of
256 x 256 pixels or more; differences are counted from one thread of the eager backend. Measured pixels are compared bit
by bit with the input, for every type of number that a raster can have.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from scipy import ndimage

from lacunar.evaluate.report import markdown_table
from lacunar.versions import describe_machine

PLACE = {"crs": "EPSG:32632", "transform": from_origin(500000, 5200000, 30, 30)}
BACKENDS, THREADS, CLUSTER = ("eager", "onnx"), (1, 2, 4), "local:2"
TYPES = ("uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")
JOBS = ("fill", "water", "face", "types")
FILL = ("--sampler", "ddim", "--evaluations", "4", "--samples", "2")


def main() -> None:
    """Make the inputs, run every way, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="side of the rasters in pixels")
    parser.add_argument("--photograph", type=Path, help="picture of a face; scikit-image's astronaut if not given")
    parser.add_argument("--only", nargs="+", choices=JOBS, default=JOBS, help="some of the jobs")
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    types: list[tuple[str, ...]] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        values, missing = make_inputs(folder, options)
        if "fill" in options.only:
            rows += fills(folder, values, missing)
        for job in ("water", "face"):
            if job in options.only:
                rows += pictures(folder, job)
        if "types" in options.only:
            types = [row_of_type(folder, values, missing, dtype) for dtype in TYPES]
    print(f"{describe_machine()}; {options.size} x {options.size} pixels\n")
    if rows:
        head = ("job", "backend", "threads", "largest difference", "equal bits", "measured pixels")
        print(markdown_table(head, rows))
        print()
    if types:
        print(markdown_table(("numbers of the raster", "measured pixels", "of them changed"), types))


def make_inputs(folder: Path, options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """A raster in kelvin with a gap, an image with a lake, and a photograph with a mask."""
    rng, side = np.random.default_rng(0), options.size
    rough = sum(ndimage.gaussian_filter(rng.normal(size=(side, side)), s, mode="wrap") * s * 3 for s in (1, 4, 16))
    values = (292 + rough).astype("f4")
    missing = ndimage.gaussian_filter(rng.normal(size=(side, side)), side / 20, mode="wrap")
    missing = missing > np.quantile(missing, 0.75)
    for number in range(2):  # a cluster wants several scenes
        write(
            folder / f"raster{number}.tif", np.where(missing, np.nan, values + number)[None].astype("f4"), nodata=np.nan
        )
    lake = ndimage.gaussian_filter(rng.normal(size=(side, side)), side / 15, mode="wrap") > 0
    bands = np.where(
        lake, np.array([0.06, 0.07, 0.05, 0.01])[:, None, None], np.array([0.06, 0.1, 0.12, 0.32])[:, None, None]
    )
    write(
        folder / "image.tif",
        (bands + rng.normal(0, 0.008, bands.shape)).clip(0.001).astype("f4"),
        names=("blue", "green", "red", "nir"),
    )
    if options.photograph:
        picture = Image.open(options.photograph).convert("RGB")
    else:
        from skimage import data

        picture = Image.fromarray(data.astronaut()).crop((94, 0, 350, 256))
    picture.save(folder / "photograph.png")
    mask = Image.new("L", picture.size, 0)
    width, height = picture.size
    mask.paste(255, (width * 2 // 5, height * 2 // 5, width * 3 // 5, height * 11 // 20))
    mask.save(folder / "mask.png")
    return values, missing


def write(path: Path, bands: np.ndarray, *, names: tuple[str, ...] = (), nodata: float | None = None) -> None:
    """A GeoTIFF."""
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", nodata=nodata, **PLACE, **shape) as made:
        made.write(bands)
        if names:
            made.descriptions = names


def run(threads: int, *command: object) -> None:
    """A command in a process with so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    told = [sys.executable, "-m", "lacunar", *map(str, command), "--device", "cpu", "--overwrite"]
    ran = subprocess.run(told, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{' '.join(told)} ended with exit code {ran.returncode}: {ran.stderr or ran.stdout}")


def bands_of(path: Path) -> np.ndarray:
    """Bands of a raster or picture, as they are stored."""
    if path.suffix == ".png":
        return np.moveaxis(np.asarray(Image.open(path)).astype("f8"), -1, 0)
    with rasterio.open(path) as made:
        return made.read()


def fills(folder: Path, values: np.ndarray, missing: np.ndarray) -> list[tuple[str, ...]]:
    """Rows of `lacunar fill`: threads, backends, and a cluster of two processes."""
    rows, first = [], None
    for backend in BACKENDS:
        for threads in THREADS:
            out = folder / f"fill-{backend}-{threads}.tif"
            run(threads, "fill", folder / "raster0.tif", "-o", out, *FILL, "--backend", backend)
            made = bands_of(out)
            first = made if first is None else first
            rows.append(("fill, K", backend, str(threads), *compared(first, made), same(made[0], values, ~missing)))
        out = folder / f"cluster-{backend}"
        run(
            2,
            "fill",
            folder / "raster0.tif",
            folder / "raster1.tif",
            "-o",
            out,
            *FILL,
            "--backend",
            backend,
            "--cluster",
            CLUSTER,
        )
        made = bands_of(out / "raster0_filled.tif")
        rows.append(
            (
                "fill, K",
                backend,
                f"`--cluster {CLUSTER}`, 1 each",
                *compared(first, made),
                same(made[0], values, ~missing),
            )
        )
    return rows


def pictures(folder: Path, job: str) -> list[tuple[str, ...]]:
    """Rows of `lacunar water` (probability) or `lacunar face` (levels of 255)."""
    rows, first = [], None
    for backend in BACKENDS:
        for threads in THREADS:
            kept = "-"
            if job == "water":
                out = folder / f"water-{backend}-{threads}.tif"
                run(threads, "water", folder / "image.tif", "-o", out, "--backend", backend)
                made = bands_of(out)[1:2]
                used = json.loads(out.with_suffix(".json").read_text())["backend"]
                if used != backend:
                    sys.exit(f"water was mapped by {used} where {backend} was asked for")
            else:
                out = folder / f"face-{backend}-{threads}.png"
                command = ("face", folder / "photograph.png", "--mask", folder / "mask.png", "-o", out)
                run(threads, *command, "--backend", backend)
                made = bands_of(out)
                shown = np.asarray(Image.open(folder / "mask.png")) == 0
                kept = same(made, bands_of(folder / "photograph.png"), np.broadcast_to(shown, made.shape))
            first = made if first is None else first
            unit = "water, probability" if job == "water" else "face, levels of 255"
            rows.append((unit, backend, str(threads), *compared(first, made), kept))
    return rows


def compared(first: np.ndarray, made: np.ndarray) -> tuple[str, str]:
    """The largest difference, and whether all bits are the same."""
    differ = np.abs(np.where(np.isnan(first), 0, first).astype("f8") - np.where(np.isnan(made), 0, made))
    return f"{differ.max():.1e}", "yes" if first.tobytes() == made.tobytes() else "no"


def same(made: np.ndarray, given: np.ndarray, measured: np.ndarray) -> str:
    """How many measured pixels have other bits than the input."""
    other = int((made[measured] != given[measured]).sum())
    return f"{other} of {int(measured.sum())} differ"


def row_of_type(folder: Path, values: np.ndarray, missing: np.ndarray, dtype: str) -> tuple[str, ...]:
    """Whether measured pixels of a type of number stay, as float32 has them."""
    stored = (
        values.astype(dtype)
        if dtype.startswith("f")
        else ((values - 250) * (2 if dtype == "uint8" else 100)).clip(1, 250 if dtype == "uint8" else 30000)
    )
    rows, cols = np.indices(values.shape)
    missing = missing & (np.hypot(rows - len(values) / 2, cols - len(values) / 2) < len(values) / 6)  # quick to fill
    numbers = np.where(missing, 0, stored).astype(dtype)
    write(folder / "typed.tif", numbers[None], nodata=0)
    run(1, "fill", folder / "typed.tif", "-o", folder / "typed_filled.tif", "--preset", "instant")
    value, source, _ = bands_of(folder / "typed_filled.tif")[:3]
    kept = ~missing
    other = int((value[kept] != numbers[kept].astype("f4")).sum()) + int((source[kept] != 1).sum())
    return dtype, str(int(kept.sum())), str(other)


if __name__ == "__main__":
    main()
