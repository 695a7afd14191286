"""From an image file to a map of water with its probability, and polygons of every water body; and change over time."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from affine import Affine
from numpy.typing import NDArray

from lacunar.errors import LacunarError, RasterError
from lacunar.geo.gate import allowing_vrt
from lacunar.geo.grid import same_grid
from lacunar.geo.picture import Picture, write_picture
from lacunar.geo.polygons import (
    area_column,
    check_measurable,
    check_polygon_file,
    pixel_counts,
    simplified,
    write_polygons,
)
from lacunar.geo.staging import Staging, disk_errors, write_text
from lacunar.geo.windows import Tile
from lacunar.limits import MASK_PIXELS, SAMPLES, check_limit
from lacunar.models.backend import check_backend, load_segmenter
from lacunar.models.checkpoint import SegmentationModel
from lacunar.plotting import Place, check_figure, save_figure
from lacunar.segment.array import (
    SEGMENTER_SAMPLES,
    SEGMENTER_STEPS,
    beyond,
    look_for,
    samples_and_steps,
    segment_blocks,
)
from lacunar.segment.change import (
    DatedWater,
    area_sigma,
    change_between,
    change_rows,
    draw_changes,
    draw_series,
    mean_migration,
    total_area,
)
from lacunar.segment.classes import (
    HIDING,
    WATER_NAME,
    category_names,
    class_numbers,
    clouds_of,
    known_classes,
)
from lacunar.segment.fusion import THRESHOLD, FusionName, check_fusion, fuse_blocks, without_clouds
from lacunar.segment.indices import ndwi
from lacunar.segment.plot import colour_image, overlay, water_figure
from lacunar.segment.raster_map import (
    BAND_NAMES,
    ClassMap,
    ClassWriter,
    WaterMap,
    blocks_on,
    bodies_of_classes,
    planes_on,
    thinned,
    thinning_of,
    write_map,
)
from lacunar.sensors.scene import UNMASKED, Scene, open_scene
from lacunar.versions import file_tags, versions

DEFAULT_MODEL = "water-classes"
RASTER_ENDINGS = (".tif", ".tiff")
PICTURE_ENDING = ".png"
FILE_ENDINGS = (*RASTER_ENDINGS, PICTURE_ENDING, ".json", ".csv", ".gpkg", ".geojson")
SMALLEST_BODY = 4  # pixels of the smallest polygon that is written where nothing else is asked for
LAND_NDWI = -0.2  # mean over a body below which NDWI contradicts: open water is above 0, turbid water little below
LEAST_SHARE = 0.0005  # of an image that is told as more than nothing
MUCH_BEYOND = 0.05  # of an image beyond the ranges of training; these leave out a part in 500 of each band
MAX_MASK_PIXELS = 2**26  # a PNG is written from memory, 32 bytes a pixel: 2 GiB
POOR = "one or two visible bands say little about water: probabilities are drawn towards 0.5"
WITHOUT_CRS = "the image has no CRS: areas, perimeters and polygons are in pixels, from the upper left corner"

Callback = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class WaterOptions:
    """How water is found, and what is written besides the map; a value out of its range is a ``LacunarError``."""

    model: str = DEFAULT_MODEL  # a shipped model's name or a model folder
    bands: Sequence[str] = ()  # this and the next four: see `lacunar.sensors.scene.open_scene`
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    keep_clouds: bool = False  # map cloud too, by a quality band or by the model's classes
    clip: str | None = None  # only this part of each image, as there
    allow_vrt: bool = False  # whether an image may be a VRT, of plain rasters beside it
    steps: int = SEGMENTER_STEPS  # evaluations of the network for a sample
    samples: int = SEGMENTER_SAMPLES
    fusion: FusionName = "mean"
    threshold: float = THRESHOLD  # probability from which a pixel is water
    seed: int = 0
    device: str = "cpu"
    backend: str = "eager"  # see `lacunar.models.backend`
    # of a polygon, in square metres (pixels without a CRS), None = `SMALLEST_BODY` pixels; the map keeps all water
    min_area: float | None = None
    simplify: float = 0.0  # of polygons, in pixels: see `lacunar.geo.polygons.simplified`
    series: bool = False  # of dates: a figure of them all, `series.png`
    pixel_size: float | None = None  # metres: what the figure of a series takes pixels for, without a CRS
    polygons: Path | None = None  # .gpkg or .geojson
    polygons_of: Sequence[str] | str = (WATER_NAME,)  # classes of the model; or text, by comma
    classes: Path | None = None  # .tif: the class of each pixel, in 8 bits
    figure: Path | None = None  # .png, .pdf or .svg
    overwrite: bool = False
    command: str = ""  # what the user typed, for the record

    def __post_init__(self) -> None:
        asked = self.polygons_of
        names = [name for name in asked.split(",") if name.strip()] if isinstance(asked, str) else asked
        object.__setattr__(self, "polygons_of", tuple(names))
        least = (self.seed, self.min_area or 0, self.simplify)
        if self.samples < 1 or self.steps < 1 or not all(value >= 0 for value in least):
            raise LacunarError(
                f"{self.samples} samples, {self.steps} steps, seed {self.seed}, least area {self.min_area or 0}, "
                f"simplify {self.simplify}: wanted 1 sample and 1 step or more, and nothing below 0"
            )
        if self.pixel_size is not None and not (self.pixel_size > 0 and self.series):
            raise LacunarError(f"pixel size {self.pixel_size}: wanted metres above 0, with --series")
        check_backend(self.backend)
        check_limit(self.samples, SAMPLES, "samples", "4 are usual")
        check_fusion(self.fusion, samples=self.samples, threshold=self.threshold)
        if self.polygons is not None:
            check_polygon_file(self.polygons)
        check_figure(self.figure)


def segment_file(
    image: str | Path,
    output: str | Path,
    *,
    options: WaterOptions | None = None,
    callback: Callback | None = None,
    **fields: Any,  # noqa: ANN401  # they are checked by name
) -> dict[str, Any]:
    """Find the water in an image file or a Landsat product of any size, block by block.

    Parameters
    ----------
    image
        A picture, a raster of several bands, or a Landsat product (folder or .tar).
    output
        ``.tif``: a Cloud-Optimized GeoTIFF with the bands ``water`` (1 water, 0 land), ``probability`` and
        ``disagreement`` (standard deviation of the samples), float32, nodata 255. Or ``.png``, for an image without a
        CRS: a mask, white where water is, and beside it ``NAME_overlay.png``.
    options, **fields
        A `WaterOptions`, or its fields by name: ``bands``, ``samples``, ``polygons``, ``overwrite`` ...
    callback
        Called with (done, all).

    Returns
    -------
    dict
        The record that is also written beside the output as JSON. Bad input is a ``LacunarError``: nothing is written.
    """
    image, output, begun = Path(image), Path(output), time.perf_counter()
    options = options or WaterOptions(**fields)
    _check_polygon_options(options)
    with allowing_vrt(options.allow_vrt), ExitStack() as stack:
        scene = _open(image, options, stack)
        staging = stack.enter_context(Staging(overwrite=options.overwrite, inputs=[*scene.inputs, Path(options.model)]))
        check_measurable(scene.crs)
        files = _Files(staging, scene, output, options)
        model = load_segmenter(options.model, device=options.device, backend=options.backend)
        numbers, traced = _classes_of(model, scene, options)
        mapped = _map_on(scene, scene, files.raster, model, options, callback, classes=files.classes)
        with WaterMap(files.raster) as found, ClassMap(files.classes) as kinds:
            bodies = found.polygons(ndwi=_ndwi_reader(scene))
            sigma = area_sigma(found, bodies)
            features = bodies_of_classes({name: kinds.where(numbers[name]) for name in traced}, found, bodies)
            written = _written(features, options, scene.transform)
            if files.polygons:
                write_polygons(files.polygons, written, scene.transform)
            if files.names:
                write_text(files.names, category_names(numbers))
            if files.mask and files.overlay:
                _write_pictures(scene, found, files.mask, files.overlay)
            if files.figure:
                _draw(files.figure, scene, found, kinds, numbers)
        record = scene.record() | {
            "output": str(output),
            "bands_written": list(BAND_NAMES) if output.suffix.lower() in RASTER_ENDINGS else ["water"],
            "pixels": mapped.pixels,
            "classes": mapped.classes,
            "water": {
                area_column(scene.crs): total_area(bodies),
                area_column(scene.crs).replace("area", "sigma"): sigma,
                "bodies": len(bodies),
                "bodies_in_polygons": len(written) if files.polygons else None,
                **_least(options),
            },
            **_how(options, model, time.perf_counter() - begun),
        }
        record["notes"] = [*mapped.notes, *([] if scene.crs else [WITHOUT_CRS]), *_contradicted(bodies)]
        record["notes"] += _left_out(features, written, options) if files.polygons else []
        if files.mask and mapped.pixels["nodata"]:
            share = mapped.pixels["nodata"] / math.prod(scene.shape)
            record["notes"].append(f"{share:.1%} of the image is not valid: black in the mask")
        write_text(files.record, json.dumps(record, indent=2) + "\n")
    return record


def compare_dates(
    images: Sequence[Path], folder: Path, *, options: WaterOptions | None = None, callback: Callback | None = None
) -> dict[str, Any]:
    """Find the water on several dates, given in their order, and what was gained and lost from each to the next.

    Each image is segmented as it is; then its map is brought to the grid of the first one. ``folder`` receives a map of
    each date (``01_NAME.tif`` ...), ``areas.csv``, ``change.gpkg`` (polygons gained and lost between neighbouring
    dates, where both are valid, from ``options.min_area`` on), ``change.png``, with ``options.series`` ``series.png``,
    and the record that is returned, ``change.json``. Bad input, or images that do not overlap, are a ``LacunarError``,
    and nothing is written then.
    """
    options, begun = options or WaterOptions(), time.perf_counter()
    _check_comparison(images, folder, options)
    with allowing_vrt(options.allow_vrt), ExitStack() as stack:
        scenes = [_open(image, options, stack) for image in images]
        first = scenes[0]
        check_measurable(first.crs)
        _check_order(scenes)
        planes = [planes_on(scene, first) for scene in scenes]
        inputs = [Path(options.model), *(path for scene in scenes for path in scene.inputs)]
        staging = stack.enter_context(Staging(overwrite=options.overwrite, inputs=inputs))
        targets = [folder / f"{number:02d}_{scene.path.stem}.tif" for number, scene in enumerate(scenes, start=1)]
        rasters = [staging.stage(target, size=_bytes_of(first), make_folder=True) for target in targets]
        table, polygons, figure, sidecar = (
            staging.stage(folder / name, make_folder=True)
            for name in ("areas.csv", "change.gpkg", "change.png", "change.json")
        )
        model = load_segmenter(options.model, device=options.device, backend=options.backend)
        dates, mapped = [], []
        for index, (scene, raster) in enumerate(zip(scenes, rasters, strict=True)):
            mapped.append(_map_on(first, scene, raster, model, options, _share(callback, index, len(scenes))))
            dates.append(DatedWater.of(scene, stack.enter_context(WaterMap(raster)), mapped[-1].pixels))
        changes = [change_between(*pair) for pair in pairwise(dates)]
        bodies = pd.concat(changes, ignore_index=True)
        written = _written(bodies, options, first.transform)
        write_polygons(polygons, written, first.transform)
        rows = change_rows(dates, changes)
        write_text(table, pd.DataFrame(rows).to_csv(index=False))
        with disk_errors(figure):
            save_figure(draw_changes(dates, planes), figure)
            if options.series:
                series = staging.stage(folder / "series.png", make_folder=True)
                save_figure(draw_series(dates, planes, pixel_size=options.pixel_size), series)
        record = {
            "dates": [
                scene.record() | {"notes": list(one.notes)} | row
                for scene, one, row in zip(scenes, mapped, rows, strict=True)
            ],
            **mean_migration(dates, rows),
            "grid_of": str(first.path),
            "outputs": [str(target) for target in targets],
            **_least(options),
            "notes": [*([] if first.crs else [WITHOUT_CRS]), *_left_out(bodies, written, options)],
            **_how(options, model, time.perf_counter() - begun),
        }
        write_text(sidecar, json.dumps(record, indent=2) + "\n")
    return record


def _open(image: Path, options: WaterOptions, stack: ExitStack) -> Scene:
    """The scene of an image, whose bands can be read; open as long as the stack."""
    said = {name: getattr(options, name) for name in ("bands", "scale", "offset", "nodata", "keep_clouds", "clip")}
    scene = stack.enter_context(open_scene(image, **said))
    _check_size(scene)
    scene.check_bands()
    return scene


def _check_polygon_options(options: WaterOptions) -> None:
    others = ", ".join(options.polygons_of) if tuple(options.polygons_of) != (WATER_NAME,) else ""
    told = {
        "--min-area": f"{options.min_area:g}" if options.min_area else "",
        "--simplify": f"{options.simplify:g}" if options.simplify else "",
        "--polygons-of": others,
    }
    for option, value in told.items():
        if value and not options.polygons:
            raise LacunarError(
                f"{option} {value} without polygons, which alone it changes (the map keeps all water): wanted "
                f"--polygons FILE beside {option}"
            )


def _check_comparison(images: Sequence[Path], folder: Path, options: WaterOptions) -> None:
    if len(images) < 2:
        raise LacunarError(f"{len(images)} image: a change wants two or more, in their order in time")
    others = tuple(options.polygons_of) != (WATER_NAME,)
    if options.polygons or options.figure or options.classes or others:
        raise LacunarError(
            f"a change writes its own polygons (of water) and figure into {folder}: leave out --polygons, "
            "--polygons-of, --classes and --figure"
        )
    if folder.suffix.lower() in FILE_ENDINGS:
        raise LacunarError(f"{folder}: a change writes a folder, wanted a name without '{folder.suffix}'")


def _written(bodies: gpd.GeoDataFrame, options: WaterOptions, transform: Affine) -> gpd.GeoDataFrame:
    """The bodies that are large enough, simplified where that is wanted."""
    if options.min_area is None:
        large = bodies[pixel_counts(bodies) >= SMALLEST_BODY]
    else:
        large = bodies[bodies[area_column(bodies.crs)] >= options.min_area]
    return simplified(large, options.simplify, transform) if options.simplify else large


def _least(options: WaterOptions) -> dict[str, Any]:
    if options.min_area is None:
        return {"min_pixels": SMALLEST_BODY}
    return {"min_area": options.min_area}


def _left_out(bodies: gpd.GeoDataFrame, written: gpd.GeoDataFrame, options: WaterOptions) -> list[str]:
    """What the usual least size leaves out of the polygons."""
    count = len(bodies) - len(written)
    if options.min_area is not None or not count:
        return []
    return [f"polygons of fewer than {SMALLEST_BODY} pixels are left out ({count}); --min-area 0 keeps them"]


def _ndwi_reader(scene: Scene) -> Callable[[Tile], NDArray[np.floating[Any]]] | None:
    """Reads NDWI by windows, where a scene has what it wants in physical units."""
    told = {"green", "nir"} <= set(scene.band_names) and look_for(scene.band_names, scene.band_units) == "ratios"
    return (lambda window: ndwi(scene.planes(window))) if told else None


def _contradicted(bodies: gpd.GeoDataFrame) -> list[str]:
    """What NDWI speaks against: ice, snow, shadow and mud can look so, and so can land that was taken for water."""
    doubtful = bodies[bodies["mean_ndwi"] < LAND_NDWI] if "mean_ndwi" in bodies else bodies[:0]
    if doubtful.empty:
        return []
    share = pixel_counts(doubtful).sum() / pixel_counts(bodies).sum()
    return [
        f"{len(doubtful)} of {len(bodies)} water bodies ({share:.1%} of the water) have an NDWI below {LAND_NDWI:g}, "
        "as land has: look at them (mean_ndwi of the polygons)"
    ]


def _check_size(scene: Scene) -> None:
    """Refuse an image whose mask, which is held whole for the polygons, would be too large."""
    cut = "map it in parts, such as by gdal_translate -srcwin"
    check_limit(math.prod(scene.shape), MASK_PIXELS, f"pixels in {scene.name}", cut, error=RasterError)


def _check_order(scenes: Sequence[Scene]) -> None:
    """Refuse images whose dates run backwards: gains would be told as losses."""
    dated = [scene for scene in scenes if scene.date is not None]
    for before, after in pairwise(dated):
        if before.date and after.date and after.date < before.date:
            raise LacunarError(
                f"{after.name} of {after.date} comes after {before.name} of {before.date}: wanted the images in their "
                "order in time"
            )


@dataclass(frozen=True)
class _Mapped:
    pixels: dict[str, int]  # of the map: water, land, nodata
    classes: dict[str, int]  # pixels of each class of the scene itself
    notes: tuple[str, ...]  # on the scene, its bands and its clouds


def _classes_of(model: SegmentationModel, scene: Scene, options: WaterOptions) -> tuple[dict[str, int], list[str]]:
    """Numbers of a model's classes, and those of which polygons are wanted; refuses what the model does not know."""
    names = model.network.spec.classes
    if options.keep_clouds and scene.kind != "product" and not clouds_of(names):
        raise LacunarError(
            f"{scene.name} is a {scene.kind}, of which {model.name} masks no cloud: leave out --keep-clouds"
        )
    return class_numbers(names), known_classes(options.polygons_of, names, model.name)


def _map_on(
    first: Scene,
    scene: Scene,
    path: Path,
    model: SegmentationModel,
    options: WaterOptions,
    callback: Callback | None,
    *,
    classes: Path | None = None,
) -> _Mapped:
    """Write the map of a scene on the grid of the first one, and the classes of the scene where they are wanted."""
    names, tags = model.network.spec.classes, _tags(scene, options)
    blocks = segment_blocks(
        scene.planes,
        scene.shape,
        model,
        look=look_for(scene.band_names, scene.band_units),
        steps=options.steps,
        samples=options.samples,
        seed=options.seed,
        callback=callback,
    )
    how: dict[str, Any] = {"method": options.fusion, "threshold": options.threshold, "classes": names}
    masks = bool(clouds_of(names)) and not (options.keep_clouds or scene.has_quality)
    own = path if same_grid(scene, first) else path.with_name(f"own_grid_{path.name}")  # in the hidden folder
    with ClassWriter(classes, scene, names, tags) as kinds:
        fused = kinds.passing(fuse_blocks(blocks, folder=path.parent, **how))
        pixels = write_map(own, (without_clouds(block, names) for block in fused) if masks else fused, scene, tags)
    if own != path:
        with WaterMap(own) as one:
            pixels = write_map(path, blocks_on(one, first, threshold=options.threshold, name=scene.name), first, tags)
        own.unlink()
    notes = [note for note in scene.band_notes if not (masks and note == UNMASKED)]
    notes += [POOR] if look_for(scene.band_names) == "poor" else []
    notes += _beyond(scene, model)
    if masks and (hidden := sum(kinds.pixels.get(name, 0) for name in HIDING)):
        share = hidden / math.prod(scene.shape)
        told = f"{share:.1%}" if share >= LEAST_SHARE else "less than 0.1%"
        notes.append(f"{told} is cloud to {model.name}: not valid; --keep-clouds maps it")
    return _Mapped(pixels, kinds.pixels, tuple(notes))


def _beyond(scene: Scene, model: SegmentationModel) -> list[str]:
    """What a scene has that the model's training did not show, where that is much; large images are thinned out."""
    if not model.card.ranges:
        return []
    planes = thinned(scene.planes, scene.shape)
    known = np.isfinite(planes).any(axis=0)
    unseen = beyond(planes, model.card.ranges)[:, known]
    share = float(unseen.any(axis=0).mean()) if known.any() else 0.0
    if share < MUCH_BEYOND:
        return []
    bands = [band for band, own in zip(model.card.ranges, unseen, strict=True) if own.mean() >= MUCH_BEYOND / 2]
    told = ", ".join(bands or model.card.ranges)
    return [
        f"{share:.1%} of the image has values that {model.name} saw in no training ({told}): probabilities there are "
        "drawn towards 0.5"
    ]


class _Files:
    """Where every output is staged; checked before any work is done."""

    def __init__(self, staging: Staging, scene: Scene, output: Path, options: WaterOptions) -> None:
        self.mask = self.overlay = None
        if output.suffix.lower() in RASTER_ENDINGS:
            self.raster = staging.stage(output, size=_bytes_of(scene))
        elif output.suffix.lower() != PICTURE_ENDING:
            raise RasterError(
                f"{output}: got the ending '{output.suffix}'; wanted .tif, or .png for an image without CRS: rename it"
            )
        elif scene.crs is not None:
            raise RasterError(f"{output}: a PNG would lose the position of {scene.name}; wanted .tif: rename it")
        elif math.prod(scene.shape) > MAX_MASK_PIXELS:
            raise RasterError(
                f"{scene.name} has {math.prod(scene.shape):,} pixels, a PNG is written from memory and may have "
                f"{MAX_MASK_PIXELS:,}; wanted .tif, which is written block by block: rename the output"
            )
        else:
            self.mask = staging.stage(output)
            self.overlay = staging.stage(output.with_name(f"{output.stem}_overlay.png"))
            self.raster = self.mask.with_name("map.tif")  # in the hidden folder, with which it goes
        self.record = staging.stage(output.with_suffix(".json"))
        self.polygons = staging.stage(options.polygons) if options.polygons else None
        self.classes, self.names = self.raster.with_name(f"classes_of_{self.raster.name}"), None  # hidden as well
        if options.classes:
            self.classes = staging.stage(options.classes)
            self.names = staging.stage(options.classes.with_name(f"{options.classes.name}.aux.xml"))
        self.figure = staging.stage(options.figure) if options.figure else None


def _tags(scene: Scene, options: WaterOptions) -> dict[str, str]:
    return file_tags(scene.product_id or scene.name, scene.date, options.command)


def _bytes_of(scene: Scene) -> int:
    return len(BAND_NAMES) * np.dtype(np.float32).itemsize * math.prod(scene.shape)


def _draw(path: Path, scene: Scene, found: WaterMap, kinds: ClassMap, numbers: Mapping[str, int]) -> None:
    reads = (scene.planes, found.water, found.probability, found.disagreement, kinds.read)
    image_planes, *drawn, classes = (thinned(read, scene.shape) for read in reads)
    told_apart = {name: classes == number for name, number in numbers.items()} if len(numbers) > 2 else {}
    place = Place.of(scene, thinning_of(scene.shape))
    with disk_errors(path):
        shown = water_figure(colour_image(image_planes), *drawn, title=scene.name, place=place, classes=told_apart)
        save_figure(shown, path)


def _write_pictures(scene: Scene, found: WaterMap, mask: Path, over: Path) -> None:
    whole = Tile(0, 0, *scene.shape)
    water = found.water(whole)
    write_picture(mask, Picture(np.where(water, np.uint8(255), np.uint8(0))[..., None]))
    write_picture(over, Picture(overlay(colour_image(scene.planes(whole)), water)))


def _share(callback: Callback | None, index: int, count: int) -> Callback | None:
    """Progress of one of several images, all counted alike."""
    if callback is None:
        return None
    return lambda done, total: callback(index * total + done, count * total)


def _how(options: WaterOptions, model: SegmentationModel, seconds: float) -> dict[str, Any]:
    samples, steps = samples_and_steps(model, options.samples, options.steps)
    return {
        "model": {"name": model.name, "sha256": model.card.sha256},
        "steps": steps,
        "samples": samples,
        "fusion": options.fusion,
        "threshold": options.threshold,
        "seed": options.seed,
        "device": options.device,
        "backend": model.backend,
        "seconds": round(seconds, 2),
        "versions": versions(),
        "command": options.command,
    }
