"""Fill several bands of one raster: each by its own model, all with the same guides, into one file.

A cloud hides all bands of a pixel, so the other bands of the same date tell nothing there: where all bands are known at
the same pixels and vary alike in space, kriging them together is kriging each (Wackernagel 2003, chapter 25). What
they share are the guides: every band of another date, and radar, tells of every band.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lacunar.errors import LacunarError, RasterError
from lacunar.fill.blocks import BLOCK, FILLED, MEASURED, NODATA
from lacunar.fill.inputs import FillInputs
from lacunar.fill.options import FillOptions
from lacunar.fill.outputs import OutputFiles
from lacunar.geo.raster import RasterSource, RasterWriter, uncompressed_bytes
from lacunar.geo.staging import Room, Staging, refuse_existing, write_text
from lacunar.geo.windows import blocks_over
from lacunar.sensors.scene import open_scene
from lacunar.versions import file_tags

ALL = "all"  # the band that stands for every one

Callback = Callable[[int, int], None]
FillOne = Callable[..., dict[str, Any]]  # `lacunar.fill.job.fill_scene`


def asks_for_several(band: int | str | None) -> bool:
    """Whether ``all`` bands, or several by comma, are asked for."""
    return isinstance(band, str) and (band == ALL or "," in band)


def fill_bands(
    fill_one: FillOne, inputs: FillInputs, files: OutputFiles, options: FillOptions, *, callback: Callback | None = None
) -> dict[str, Any]:
    """Fill the bands that ``inputs.band`` names; returns the record, which is written beside the raster too.

    Bands of the output: the values, by the names of the input's bands; ``source``; ``sigma_NAME`` of each; quantiles of
    each. Raises `LacunarError` as `fill_one` does, and for what only one band can have.
    """
    begun = time.perf_counter()
    _check(inputs, files, options)
    for path in (files.raster, files.sidecar):
        refuse_existing(path, overwrite=files.overwrite)
    bands = _bands_of(inputs)
    with Staging(overwrite=files.overwrite, inputs=inputs.files) as staging, Room(files.raster) as room:
        parts, records = [], {}
        for number, (band, name) in enumerate(bands.items()):

            def report(done: int, total: int, number: int = number) -> None:
                if callback:
                    callback(100 * number + 100 * done // max(1, total), 100 * len(bands))

            parts.append(room.path / f"{band}.tif")
            one = replace(inputs, band=band, every_band=True)
            records[name] = fill_one(one, replace(files, raster=parts[-1]), options, callback=report)
        pixels = _joined(parts, list(bands.values()), staging.stage, files, options, inputs.path.name)
        record = _record_of(records, pixels, files, seconds=time.perf_counter() - begun)
        write_text(staging.stage(files.sidecar), json.dumps(record, indent=2, default=str) + "\n")
    return record


def _check(inputs: FillInputs, files: OutputFiles, options: FillOptions) -> None:
    """Refuse what belongs to one band."""
    asked = {
        "--figure": files.figure,
        "--truth": files.truth,
        "--resume": files.resume,
        "--celsius": files.celsius,
        "--realisations": options.realisations,
        "--references": inputs.candidates is not None,
        "--suspect": options.suspect != "keep",
    }
    if wrong := [name for name, given in asked.items() if given]:
        raise LacunarError(f"{wrong[0]} with several bands: it is for one; choose one with --band, or leave it out")
    if not options.uses_field(0):
        raise LacunarError(
            "several bands are filled without a network: leave out --model, --sampler, --evaluations and --background, "
            "and take preset fast or instant"
        )


def _bands_of(inputs: FillInputs) -> Mapping[int, str]:
    """Numbers and names, different ones, of the bands that are asked for."""
    with open_scene(inputs.path, nodata=inputs.nodata, scale=inputs.scale, offset=inputs.offset) as scene:
        there = dict(scene.channels)
        if scene.kind == "product" or not there:
            raise LacunarError(f"{inputs.path} is no raster with bands: wanted one for --band {inputs.band}")
    numbers = {name: number for number, name in reversed(there.items())} | {str(number): number for number in there}
    wanted = list(map(str, there)) if inputs.band == ALL else [part.strip() for part in str(inputs.band).split(",")]
    if unknown := [name for name in wanted if name not in numbers]:
        known = ", ".join(f"{number} {name}" for number, name in there.items())
        raise RasterError(f"{inputs.path} has no band {unknown[0]!r}: wanted numbers or names of {known}, or {ALL}")
    chosen = [numbers[name] for name in wanted]
    if len(set(chosen)) < len(chosen):
        raise LacunarError(f"--band {inputs.band} names a band twice: wanted each once")
    twice = len({there[number] for number in chosen}) < len(chosen)
    return {number: f"band_{number}" if twice else there[number] for number in chosen}


def _joined(
    parts: Sequence[Path],
    names: Sequence[str],
    stage: Callable[..., Path],
    files: OutputFiles,
    options: FillOptions,
    source: str,
) -> dict[str, int]:
    """Write the filled bands of ``source`` into one raster; returns how many pixels are of each kind, in any band."""
    with ExitStack() as stack:
        sources = [stack.enter_context(RasterSource(path)) for path in parts]
        first = sources[0]
        levels = [f"quantile_{level:g}" for level in options.quantiles]
        bands = len(names) * (2 + len(levels)) + 1
        writer = RasterWriter(
            stage(files.raster, size=bands * uncompressed_bytes(first.shape)),
            shape=first.shape,
            transform=first.transform,
            crs=first.crs,
            band_names=(
                *names,
                "source",
                *(f"sigma_{name}" for name in names),
                *(f"{level}_{name}" for level in levels for name in names),
            ),
            units=(
                *(one.units[0] for one in sources),
                "",
                *(one.units[0] for _ in range(1 + len(levels)) for one in sources),
            ),
            tags={
                "source_values": "0 nodata, 1 measured, 2 filled; of a pixel whose bands differ the largest",
                "sigma": "one standard deviation of a filled pixel",
                **file_tags(source, None, files.command),
            },
        )
        stack.enter_context(writer)
        counts = np.zeros(3, dtype=np.int64)
        for block in blocks_over(first.shape, block=BLOCK, halo=0):
            read = np.stack([one.read(block.core).data for one in sources])  # (B, 3 + Q, h, w)
            kind = np.nan_to_num(read[:, 1]).max(axis=0)
            counts += np.bincount(kind.astype(np.intp).ravel(), minlength=3)
            kinds = [read[:, 0], kind[None], read[:, 2], *(read[:, 3 + level] for level in range(len(levels)))]
            writer.write(np.concatenate(kinds), block.core)
    return {"measured": int(counts[MEASURED]), "filled": int(counts[FILLED]), "nodata": int(counts[NODATA])}


def _record_of(
    records: Mapping[str, dict[str, Any]], pixels: Mapping[str, int], files: OutputFiles, *, seconds: float
) -> dict[str, Any]:
    """What is the same of all bands, from the first, and what differs by band."""
    own = ("pixels", "gap_share", "notes", "units")
    first = next(iter(records.values()))
    shared = {key: value for key, value in first.items() if key not in (*own, "fingerprint")}
    notes = [f"{name}: {note}" for name, one in records.items() for note in one["notes"]]
    return {
        **shared,
        "output": str(files.raster),
        "pixels": dict(pixels),
        "gap_share": round(pixels["filled"] / max(1, pixels["measured"] + pixels["filled"]), 6),
        "notes": notes,
        "bands": {name: {key: one[key] for key in own} for name, one in records.items()},
        "seconds": round(seconds, 2),
        "command": files.command,
    }
