"""The files that a fill writes: raster, record, figure, intermediates of LST. They take their names together."""

import json
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError
from lacunar.fill.accumulators import Support, Thumbnail, Truth
from lacunar.fill.block_store import BlockStore, remove_blocks
from lacunar.fill.blocks import BLOCK, FilledBlock, Survey
from lacunar.fill.guides import Guides
from lacunar.fill.options import FillOptions
from lacunar.fill.provenance import Fingerprint, digest_of
from lacunar.fill.qgis import qgis_style, value_range
from lacunar.geo.raster import RasterWriter, uncompressed_bytes
from lacunar.geo.staging import Staging, refuse_existing, resolved, write_text
from lacunar.geo.windows import Tile, blocks_over
from lacunar.plotting import check_figure
from lacunar.sensors.plausible import CELSIUS_ZERO
from lacunar.sensors.scene import Scene
from lacunar.versions import file_tags, versions

if TYPE_CHECKING:
    from lacunar.models.checkpoint import Model

BAND_UNITS = {"radiance": "W m-2 sr-1 um-1", "brightness_temperature": "K", "lst": "K", "lai": "m2 m-2"}


@dataclass(frozen=True, kw_only=True)
class OutputFiles:
    """The files of one fill that are written, and how."""

    # GeoTIFF with the bands lst or value, source (0 nodata, 1 measured, 2 filled), sigma (one standard deviation, 0
    # where measured) and quantiles; its record goes beside it as .json
    raster: Path
    figure: Path | None = None  # .png, .pdf or .svg
    truth: Path | None = None  # raster of true values to score the fill against; it is read
    bands_folder: Path | None = None  # for every intermediate of a product's LST, one GeoTIFF each
    qgis_style: bool = False  # write a style for QGIS beside the raster, as .qml
    celsius: bool = False  # write degrees Celsius, of an input in kelvin
    overwrite: bool = False
    # keep finished blocks beside the raster until it is whole, and go on from those of an interrupted run; a raster
    # that such a run finished is left as it is
    resume: bool = False
    command: str = ""  # what the user typed, for the record

    def __post_init__(self) -> None:
        check_figure(self.figure)

    @property
    def sidecar(self) -> Path:
        """The record beside the raster."""
        return self.raster.with_suffix(".json")

    @property
    def style(self) -> Path:
        """The style beside the raster, where ``qgis_style`` asks for it."""
        return self.raster.with_suffix(".qml")

    @property
    def realisations(self) -> Path:
        """The samples beside the raster, a band each, where `FillOptions.realisations` asks for them."""
        return self.raster.with_name(f"{self.raster.stem}_realisations.tif")

    @property
    def suspects(self) -> Path:
        """Suspect pixels beside the raster: 1 suspect, 0 not; where there are any."""
        return self.raster.with_name(f"{self.raster.stem}_suspect.tif")

    def written(self, scene: Scene, options: FillOptions) -> list[Path]:
        """All files but the record."""
        asked = [(self.figure, self.figure is not None), (self.realisations, options.realisations)]
        asked += [(self.style, self.qgis_style)]
        return [self.raster, *(path for path, is_asked in asked if path and is_asked), *_band_paths(scene, self)]

    def check_names(self, scene: Scene, options: FillOptions) -> None:
        """Refuse files that exist, before any work is done; the outputs of an interrupted run may exist."""
        suspects = [self.suspects] if options.suspect != "keep" else []
        self.units(scene)
        for path in (self.sidecar, *suspects, *self.written(scene, options)):
            refuse_existing(path, overwrite=self.overwrite or self.resume)

    def units(self, scene: Scene) -> str:
        """Unit of what is written; degrees Celsius of anything but kelvin are a `LacunarError`."""
        if self.celsius and not scene.in_kelvin:
            got = f"in {scene.units!r}" if scene.units else "without a unit"
            raise LacunarError(f"--celsius for {scene.name}, which is {got}: wanted kelvin; leave it out")
        return "degC" if self.celsius else scene.units

    def resolved(self) -> "OutputFiles":
        """The same with absolute paths, for a process that works in another folder."""
        named: dict[str, Any] = {name: getattr(self, name) for name in ("raster", "figure", "truth", "bands_folder")}
        absolute: dict[str, Any] = {name: resolved(path) for name, path in named.items() if path is not None}
        return replace(self, **absolute)

    def beside(self) -> dict[str, str | None]:
        """Absolute paths of what is asked for beside the raster, as the record names them."""
        paths = {"figure": self.figure, "truth_raster": self.truth, "bands_folder": self.bands_folder}
        named = {name: str(resolved(path)) if path else None for name, path in paths.items()}
        return named | {"truth_changed": str(self.truth.stat().st_mtime_ns) if self.truth else None}


def finished_record(
    scene: Scene, files: OutputFiles, options: FillOptions, fingerprint: Fingerprint
) -> dict[str, Any] | None:
    """The record of an earlier run that wrote all that is asked for, with ``whole_already``; None if there is none.

    Leftover block files are deleted.
    """
    if not all(path.is_file() for path in files.written(scene, options)):
        return None
    try:
        record: dict[str, Any] = json.loads(files.sidecar.read_text(encoding="utf-8"))
        same = record["fingerprint"] == digest_of(fingerprint) and record["units"] == files.units(scene)
        same = same and all(record[name] == path for name, path in files.beside().items() if path)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not same:
        return None
    remove_blocks(files.raster)
    return record | {"whole_already": True}


class FillWriter(AbstractContextManager["FillWriter"]):
    """Writes every output of one fill: `begin`, `add` for each block, `finish`.

    All names are checked when the ``with`` block begins, and finished blocks that depend on something else are refused.
    An exception leaves every folder as it was, but for finished blocks where ``files.resume`` is set.
    """

    def __init__(
        self,
        scene: Scene,
        guides: Guides,
        files: OutputFiles,
        options: FillOptions,
        model: "Model | None",
        fingerprint: Fingerprint,
    ) -> None:
        self._scene, self._guides, self._files, self._options = scene, guides, files, options
        self._model, self._fingerprint = model, fingerprint

    def __enter__(self) -> Self:
        self._begun = time.perf_counter()
        scene, files = self._scene, self._files
        model = self._options.model
        inputs = [*scene.inputs, *self._guides.inputs, *([Path(model)] if model else [])]
        inputs += [files.truth] if files.truth else []
        with ExitStack() as stack:
            staging = self._staging = stack.enter_context(Staging(overwrite=files.overwrite, inputs=inputs))
            self._truth = stack.enter_context(Truth(scene, files.truth))
            size, quantiles = uncompressed_bytes(scene.shape), self._options.quantiles
            bands = (scene.quantity, "source", "sigma", *(f"quantile_{level:g}" for level in quantiles))
            unit = files.units(scene)
            units = (unit, "", "K" if files.celsius else unit, *[unit] * len(quantiles))
            told = {"source_values": "0 nodata, 1 measured, 2 filled"}
            told["sigma"] = "one standard deviation of a filled pixel"
            path = self._raster = staging.stage(files.raster, size=len(bands) * size)
            self._writer = self._raster_writer(path, bands, units, **told)
            self._samples_writer = None
            if self._options.realisations:
                bands = tuple(f"realisation_{number}" for number in range(1, self._options.samples + 1))
                path = staging.stage(files.realisations, size=len(bands) * size)
                self._samples_writer = self._raster_writer(path, bands, (unit,) * len(bands))
            self._sidecar = staging.stage(files.sidecar)
            self._style = staging.stage(files.style) if files.qgis_style else None
            shown = staging.stage(files.figure) if files.figure else None
            self._thumbnail = Thumbnail(scene, shown, has_truth=files.truth is not None) if shown else None
            self._band_files = [
                staging.stage(path, size=uncompressed_bytes(scene.shape), make_folder=True)
                for path in _band_paths(scene, files)
            ]
            self._store = BlockStore(files.raster, self._fingerprint) if files.resume else None
            self._writing = stack.enter_context(ExitStack())  # closed before the names are given
            self._stack = stack.pop_all()
        return self

    def begin(self, found: Survey) -> None:
        """Write the intermediates and open the raster; guides that share no measured pixel are refused."""
        self._guides.check(found.guides)
        _write_bands(self._scene, self._band_files)
        self._found = found
        if found.suspect is not None and found.suspect.any():
            self._write_suspects(found.suspect)
        self._tiles = self._coarse_tiles = self._evaluations = 0
        self._support = Support()
        self._kept: set[Tile] = set()
        self._writing.enter_context(self._writer)
        if self._samples_writer is not None:
            self._writing.enter_context(self._samples_writer)

    def finished(self, window: Tile) -> FilledBlock | None:
        """The block of a window that an interrupted run finished, or None; it is to be added too."""
        block = None if self._store is None else self._store.load(window)
        if block is not None:
            self._kept.add(window)
        return block

    def add(self, block: FilledBlock) -> None:
        """Take a block."""
        if self._store is not None and block.window not in self._kept:
            self._store.save(block)
        bands, zero = block.bands, np.float32(CELSIUS_ZERO if self._files.celsius else 0.0)
        bands[[0, *range(3, len(bands))]] -= zero  # value and quantiles
        self._writer.write(bands, block.window)
        if self._samples_writer is not None and block.realisations is not None:
            self._samples_writer.write(block.realisations - zero, block.window)
        self._support.add(block)
        true_values = self._truth.add(block)
        if self._thumbnail is not None:
            self._thumbnail.add(block, true_values)
        self._tiles, self._coarse_tiles = self._tiles + block.tiles, self._coarse_tiles + block.coarse_tiles
        self._evaluations += block.evaluations

    def finish(self) -> dict[str, Any]:
        """Write what is left; returns the record. The files take their names when the ``with`` block ends."""
        self._writing.close()
        record = self._record()
        write_text(self._sidecar, json.dumps(record, indent=2, default=str) + "\n")
        if self._style is not None:
            units = self._files.units(self._scene)
            write_text(self._style, qgis_style(*value_range(self._raster), units=units))
        if self._thumbnail is not None:
            self._thumbnail.draw()
        return record

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give the names, or leave nothing behind but finished blocks."""
        self._stack.__exit__(kind, error, at)
        if kind is None and self._files.resume:
            remove_blocks(self._files.raster)

    def _write_suspects(self, suspect: NDArray[np.bool_]) -> None:
        path = self._staging.stage(self._files.suspects, size=uncompressed_bytes(self._scene.shape))
        with self._raster_writer(path, ("suspect",), ("",)) as writer:
            for block in blocks_over(self._scene.shape, block=BLOCK, halo=0):
                writer.write(suspect[None, *block.core.slices].astype(np.float32), block.core)

    def _raster_writer(self, path: Path, bands: tuple[str, ...], units: tuple[str, ...], **tags: str) -> RasterWriter:
        scene = self._scene
        return RasterWriter(
            path,
            shape=scene.shape,
            transform=scene.transform,
            crs=scene.crs,
            band_names=bands,
            units=units,
            tags=tags | file_tags(scene.product_id or scene.name, scene.date, self._files.command),
        )

    def _told_of_suspects(self) -> dict[str, Any]:
        suspect = self._found.suspect
        if suspect is None:
            return {}
        count, choice = int(suspect.sum()), self._options.suspect
        measured = self._found.measured + (count if choice == "fill" else 0)
        told = {"choice": choice, "pixels": count, "share_of_measured": round(count / measured, 6)}
        return {"suspect": told | ({"raster": str(self._files.suspects)} if count else {})}

    def _record(self) -> dict[str, Any]:
        options, model, found = self._options, self._model, self._found
        told = self._scene.lst_record()
        told["notes"] = [*told.get("notes", []), *(f"{count} pixels {text}" for text, count in found.remarks.items())]
        told["notes"] += self._support.notes(self._scene, found)
        return {
            **told,
            "output": str(self._files.raster),
            "units": self._files.units(self._scene),
            **self._files.beside(),
            "pixels": {"measured": found.measured, "filled": found.missing, "nodata": found.nodata},
            "gap_share": round(found.missing / (found.measured + found.missing), 6),
            **options.record(len(self._guides)),
            **self._told_of_suspects(),
            "quantiles": list(options.quantiles),
            **({"realisations": str(self._files.realisations)} if options.realisations else {}),
            "seed": options.seed,
            "device": options.device,
            **_told_of(model),
            "seconds": round(time.perf_counter() - self._begun, 2),
            "versions": versions(),
            "fingerprint": digest_of(self._fingerprint),
            "command": self._files.command,
            "network_tiles": self._tiles,
            "kriging_tiles_from_coarser_level": self._coarse_tiles,
            "network_evaluations": {
                "per_sample_and_tile": options.chosen.evaluations if model else 0,
                "all": self._evaluations,
            },
            **self._guides.record(found.guides),
            **self._truth.scores(),
        }


def _told_of(model: "Model | None") -> dict[str, Any]:
    if model is None:
        return {"backend": None, "model": None}
    told = {"name": model.name, "sha256": model.card.sha256, "sigma_factor": model.card.sigma_factor}
    return {"backend": model.backend, "model": told}


def _band_paths(scene: Scene, files: OutputFiles) -> list[Path]:
    if files.bands_folder is None:
        return []
    return [files.bands_folder / f"{name}.tif" for name in scene.intermediates(Tile(0, 0, 1, 1))]


def _write_bands(scene: Scene, paths: list[Path]) -> None:
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                RasterWriter(
                    path,
                    shape=scene.shape,
                    transform=scene.transform,
                    crs=scene.crs,
                    band_names=(path.stem,),
                    units=(BAND_UNITS.get(path.stem, ""),),
                )
            )
            for path in paths
        ]
        for block in blocks_over(scene.shape, block=BLOCK, halo=0) if paths else ():
            for writer, band in zip(writers, scene.intermediates(block.core).values(), strict=True):
                writer.write(band[None], block.core)
