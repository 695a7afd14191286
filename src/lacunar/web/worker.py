"""The process of one job: it waits for the folder of a job on its standard input, does it, and ends.

It is started before it is needed, and loads what is slow to load while it waits. It ends when its server does.
"""

import os
import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from lacunar.errors import LacunarError, one_line
from lacunar.web.store import Store, read_json, write_json

# in the order in which they are loaded before there is a job: the first is all that opening a raster takes
LOADED = ("lacunar.web.views", "torch", "lacunar.fill.job", "lacunar.pictures.job", "lacunar.segment.job")
WATER_BANDS = ("water", "probability", "disagreement")
REPORTED_EVERY = 0.2  # seconds
Progress = Callable[[int, int], None]


def main() -> None:
    """Wait for the folder of a job, do it, and leave its outcome there."""
    _load()
    folder = sys.stdin.readline().strip()
    if not folder:
        return
    threading.Thread(target=_leave_with_server, daemon=True).start()
    outcome = run(Path(folder))
    write_json(Path(folder) / "outcome.json", outcome)
    sys.stdout.flush()
    os._exit(0)  # the thread that watches the server is not waited for


def run(folder: Path) -> dict[str, Any]:
    """Do the job of a folder: its ``record`` and the ``view`` of its result, or the ``error``."""
    job = read_json(folder / "job.json") or {}
    try:
        return JOBS[job["kind"]](job, folder, _Reporter(folder))
    except LacunarError as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"the disk refuses ({error.strerror or error}): free some space, then resume"}
    except MemoryError:
        return {"error": "the memory is not enough: fewer samples, or a smaller part"}
    except Exception as error:  # a fault of ours: the page says so, and the server lives on
        return {"error": f"unexpected {type(error).__name__}: {one_line(error)}"}


class _Reporter:
    """Writes how far a job is, not too often."""

    def __init__(self, folder: Path) -> None:
        self._path, self._begun, self._told = folder / "progress.json", time.time(), 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.time()
        if now - self._told >= REPORTED_EVERY or done == total:
            self._told = now
            with suppress(OSError):  # a full disk is told by what the job writes
                write_json(self._path, {"done": done, "total": total, "seconds": now - self._begun})


def _load() -> None:
    """Load what jobs need, one by one until a job is there; not in a thread, as circular imports would fail."""
    for name in LOADED:
        if sys.platform != "win32" and select.select([sys.stdin], [], [], 0)[0]:
            return
        with suppress(Exception):  # the job itself tells what is wrong
            import_module(name)


def _leave_with_server() -> None:
    sys.stdin.read()  # ends when the server does
    os._exit(1)


# --- the kinds of jobs ---


def _raster(folder: Path, identifier: str) -> tuple[Path, dict[str, Any]]:
    """Folder of an opened raster, and what is known of it."""
    there = folder.parents[1] / "rasters" / identifier
    known, view = read_json(there / "raster.json"), read_json(there / "view.json")
    if known is None or view is None:
        raise LacunarError(f"raster {identifier} is not open (any more): open it again")
    return there, known | view


def _open(job: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Make the view of a raster; first its file, where a demo is asked for."""
    from lacunar.web.views import make_view

    there = folder.parents[1] / "rasters" / job["raster"]
    known = read_json(there / "raster.json") or {}
    if demo := known.get("demo"):
        known["source"] = str(_demo(demo, there / "input"))
        write_json(there / "raster.json", known)
    view = make_view(Path(known["source"]), there, progress, band=known.get("band"))
    Store.check_inside([Path(name) for name in view.pop("files")], known.get("root"), there)
    mask = there / "input" / "mask.png"
    if mask.is_file():
        from lacunar.web.masks import Mask

        Mask(there, view | {"source": known["source"]}).take(mask)
    write_json(there / "view.json", view)  # from now on it is open: with its mask
    return {"record": {}}


def _demo(name: str, folder: Path) -> Path:
    """The input of a demo: a simulated product under clouds, or a photograph with a mask."""
    if name == "temperature":
        from lacunar.sensors.simulated import simulate_product

        return simulate_product(folder / "simulated", overwrite=True).folder
    from lacunar.pictures.job import write_occluded_face

    picture = folder / "astronaut.png"
    write_occluded_face(picture, folder / "mask.png", overwrite=True)
    return picture


def _fill(job: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Fill a raster or a product, or a window of it; go on from finished blocks."""
    from lacunar.fill.inputs import FillInputs
    from lacunar.fill.job import fill_scene
    from lacunar.fill.options import FillOptions
    from lacunar.fill.outputs import OutputFiles
    from lacunar.models.backend import resolve_device
    from lacunar.sensors.scene import LstOptions
    from lacunar.web.masks import Edits

    there, info = _raster(folder, job["raster"])
    edits, asked, results = Edits.model_validate(job["edits"]), job["options"], folder / "results"
    references = tuple(Path(_raster(folder, one)[1]["source"]) for one in job["references"])
    options = FillOptions(
        model=asked["model"],
        preset=asked["preset"],
        samples=asked["samples"],
        seed=asked["seed"],
        realisations=asked["keep_samples"],
        suspect="keep" if job["window"] else asked["suspect"],
        device=resolve_device("auto"),
        backend="auto",
    )
    product = info["kind"] == "product"
    if job["window"]:
        inputs = _cut(there, info, edits, tuple(job["window"]), folder)
    else:
        mask = results / "mask.tif" if job["has_mask"] else None
        how = LstOptions(gap_classes=() if mask else edits.classes) if product else LstOptions()
        inputs = FillInputs(
            path=Path(info["source"]),
            kind="product" if product else "raster",
            lst_options=how,
            gap_mask=mask,
            band=info.get("band"),
        )
        if mask and not mask.is_file():
            _write_mask(there, info, edits, mask)
    inputs = FillInputs(**{**vars(inputs), "references": references})
    figure = None if job["window"] else results / "filled.png"
    files = OutputFiles(
        raster=results / "filled.tif",
        figure=figure,
        qgis_style=not job["window"],
        resume=True,
        command=job["command"],
    )
    record = fill_scene(inputs, files, options, callback=progress)
    return _outcome(record, results / "filled.tif", ("value", "source", "sigma"), job["window"])


def _write_mask(there: Path, info: dict[str, Any], edits: Any, path: Path) -> None:  # noqa: ANN401
    from lacunar.web.masks import Mask

    if not Mask(there, info).write(edits, path) and "picture" in info["jobs"]:
        path.unlink()
        raise LacunarError("nothing is marked to be filled: paint over what should go")


def _cut(there: Path, info: dict[str, Any], edits: Any, window: tuple[int, ...], folder: Path) -> Any:  # noqa: ANN401
    """A window of the input with its mask, as a small raster of its own."""
    import numpy as np

    from lacunar.fill.inputs import FillInputs
    from lacunar.geo.windows import Tile
    from lacunar.sensors.scene import LstOptions, open_scene
    from lacunar.web.masks import Mask

    tile = Tile(*window)
    gap = Mask(there, info).window(edits, tile)
    how = LstOptions(gap_classes=())
    with open_scene(Path(info["source"]), lst_options=how, band=info.get("band")) as scene:
        scene.check_lst(needs_qa=False)
        part = scene.measured(tile)
        with _part_writer(folder / "cut.tif", scene, tile, ("value",), units=(scene.units,)) as writer:
            writer.write(np.where(part.known, part.values, np.nan)[None])
        with _part_writer(folder / "cut_mask.tif", scene, tile, ("missing",)) as writer:
            writer.write((gap & (part.known | part.missing))[None].astype(np.float32))
    return FillInputs(path=folder / "cut.tif", kind="raster", gap_mask=folder / "cut_mask.tif")


def _water(job: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Map the water of a raster, or of a window of it."""
    from lacunar.models.backend import load_segmenter, resolve_device
    from lacunar.segment.job import WaterOptions, segment_file

    there, info = _raster(folder, job["raster"])
    asked, results = job["options"], folder / "results"
    if job["references"]:
        return _change(job, folder, (there, info), progress)
    output = results / "water.tif"
    common = {name: asked[name] for name in ("threshold", "samples", "seed")}
    device = resolve_device("auto")
    if job["window"]:
        model = load_segmenter(asked["model"], device=device, backend="auto")
        notes = _segment_part(
            info, tuple(job["window"]), output, keep_clouds=asked["keep_clouds"], model=model, **common
        )
        return _outcome({"notes": notes}, output, WATER_BANDS, job["window"])
    options = WaterOptions(
        **common,
        model=asked["model"],
        keep_clouds=asked["keep_clouds"],
        min_area=asked["min_area"],
        polygons=results / "water.gpkg",
        figure=results / "water.png",
        device=device,
        backend="auto",
        overwrite=True,
        command=job["command"],
    )
    record = segment_file(info["source"], output, options=options, callback=progress)
    _write_table(results / "water.gpkg", results / "lakes.csv")
    return _outcome(record, output, WATER_BANDS, None)


def _change(
    job: dict[str, Any], folder: Path, shown: tuple[Path, dict[str, Any]], progress: Progress
) -> dict[str, Any]:
    """Map the water of several dates, and what was gained and lost between them."""
    from lacunar.models.backend import resolve_device
    from lacunar.segment.job import WaterOptions, compare_dates
    from lacunar.web.asked import in_order
    from lacunar.web.masks import Mask
    from lacunar.web.regions import write_change

    there, info = shown
    asked, results = job["options"], folder / "results"
    images = in_order([*(_raster(folder, one)[1] for one in job["references"]), info])
    options = WaterOptions(
        **{name: asked[name] for name in ("model", "threshold", "samples", "seed", "keep_clouds", "min_area")},
        device=resolve_device("auto"),
        backend="auto",
        overwrite=True,
        command=job["command"],
    )
    record = compare_dates([Path(image["source"]) for image in images], results, options=options, callback=progress)
    maps, drawn = [Path(path) for path in record["outputs"]], results / "change.tif"
    write_change(maps, drawn, Mask(there, info).grid, threshold=asked["threshold"])
    return _outcome(record, drawn, ("change",), None)


def _suspects(job: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Look for cloud that the mask does not name."""
    from lacunar.web.masks import Edits
    from lacunar.web.suspects import search

    there, info = _raster(folder, job["raster"])
    found = search(there, info, Edits.model_validate(job["edits"]), progress)
    write_json(there / "suspects.json", found)
    return {"record": {"places": len(found["places"])}}


def _segment_part(
    info: dict[str, Any],
    window: tuple[int, ...],
    output: Path,
    *,
    keep_clouds: bool,
    model: Any,  # noqa: ANN401  # a `SegmentationModel`; the page loads its class only when it works
    **how: Any,  # noqa: ANN401
) -> list[str]:
    """Map the water of a window; its scale is that of the window. Returns notes."""
    import numpy as np

    from lacunar.geo.windows import Tile
    from lacunar.segment.api import segment
    from lacunar.segment.classes import WATER, clouds_of
    from lacunar.sensors.scene import open_scene

    tile = Tile(*window)
    with open_scene(info["source"], keep_clouds=keep_clouds) as scene:
        found: Any = segment(scene.bands(tile), model=model, **how)
        classes, (probability, disagreement) = found["class"].values, (found[name].values for name in WATER_BANDS[1:])
        masked = [] if keep_clouds or scene.has_quality else clouds_of(model.network.spec.classes)
        seen = np.isfinite(probability) & ~np.isin(classes, masked)
        planes = ((classes == WATER).astype(np.float32), probability, disagreement)
        with _part_writer(output, scene, tile, WATER_BANDS, nodata=255.0) as writer:
            writer.write(np.stack([np.where(seen, plane, np.float32(np.nan)) for plane in planes]))
    hidden = float(np.isin(classes, masked).mean())
    return [f"{hidden:.1%} is cloud to {model.name}: not valid; --keep-clouds maps it"] if hidden else []


def _part_writer(path: Path, scene: Any, tile: Any, names: tuple[str, ...], **more: Any) -> Any:  # noqa: ANN401
    """A writer of a window of a scene, as a raster of its own."""
    from lacunar.geo.raster import RasterWriter

    transform = scene.transform @ scene.transform.translation(tile.col, tile.row)
    return RasterWriter(
        path, shape=tile.shape, transform=transform, crs=scene.crs, band_names=names, overwrite=True, **more
    )


def _write_table(polygons: Path, table: Path) -> None:
    from lacunar.geo.gate import read_vectors

    bodies = read_vectors(polygons)
    bodies.drop(columns=bodies.geometry.name).to_csv(table, index=False)


def _picture(job: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Fill what is masked of a picture, or of the face in it."""
    from lacunar.models.backend import resolve_device
    from lacunar.pictures.job import PictureOptions, fill_face_file, inpaint_file
    from lacunar.web.masks import Edits

    there, info = _raster(folder, job["raster"])
    asked, results = job["options"], folder / "results"
    mask = results / "mask.png"
    if not mask.is_file():
        _write_mask(there, info, Edits.model_validate(job["edits"]), mask)
    options = PictureOptions(
        **{name: asked[name] for name in ("model", "preset", "samples", "seed")},
        device=resolve_device("auto"),
        backend="auto",
        overwrite=True,
        sheet=results / "sheet.png",
        command=job["command"],
    )
    paths = (Path(info["source"]), results / "filled.png")
    fill = fill_face_file if job["kind"] == "face" else inpaint_file
    return {"record": fill(*paths, mask=mask, options=options, callback=progress)}


def _outcome(record: dict[str, Any], path: Path, names: tuple[str, ...], window: Any) -> dict[str, Any]:  # noqa: ANN401
    from lacunar.web.views import describe

    origin = (window[0], window[1]) if window else None
    return {"record": record, "view": describe(path, names=names, origin=origin)}


JOBS: dict[str, Callable[[dict[str, Any], Path, Progress], dict[str, Any]]] = {
    "open": _open,
    "suspects": _suspects,
    "fill": _fill,
    "water": _water,
    "picture": _picture,
    "face": _picture,
}

if __name__ == "__main__":
    main()
