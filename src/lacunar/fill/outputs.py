"""The outputs of one fill: raster, record, picture; given block by block in any order, named together at the end."""

import json
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lacunar.fill.block_store import BlockStore, remove_blocks
from lacunar.fill.blocks import FilledBlock, Survey
from lacunar.fill.guides import Guides
from lacunar.fill.lst_bands import LstBands
from lacunar.fill.options import FillOptions
from lacunar.fill.provenance import Fingerprint, digest_of
from lacunar.fill.tally import Picture, Truth
from lacunar.geo.raster import RasterWriter, uncompressed_bytes
from lacunar.geo.staging import Staging, write_text
from lacunar.geo.windows import Tile
from lacunar.models.checkpoint import Model
from lacunar.sensors.scene import Scene
from lacunar.versions import versions


class FillOutputs(AbstractContextManager["FillOutputs"]):
    """Every output of one fill; all names are checked when the ``with`` block begins, before any work.

    Then `start`, `begin`, `add` for each block, `finish`. An exception leaves every folder as it was, but for finished
    blocks where ``options.resume`` says so.

    Parameters
    ----------
    source, beside
        What is filled, and what guides it.
    output
        The raster; its record goes beside it as .json.
    options
        How gaps are filled and what is written besides.
    bands_folder
        Folder for every intermediate of a product's LST, or None.
    """

    def __init__(
        self,
        source: Scene,
        beside: Guides,
        output: Path,
        options: FillOptions,
        bands_folder: Path | None = None,
    ) -> None:
        self._source, self._beside, self._options = source, beside, options
        self.output = output
        self._bands = LstBands(source, bands_folder) if bands_folder is not None else None
        self._store: BlockStore | None = None

    def __enter__(self) -> Self:
        """Check and stage every output."""
        self._begun = time.perf_counter()
        source, options = self._source, self._options
        inputs = [*source.inputs, *self._beside.inputs, *([options.truth] if options.truth else [])]
        with ExitStack() as stack:
            staging = stack.enter_context(Staging(overwrite=options.overwrite, inputs=inputs))
            self._truth = stack.enter_context(Truth(source, options.truth))
            size = (3 + len(options.quantiles)) * uncompressed_bytes(source.shape)
            self._writer = self._writer_to(staging.stage(self.output, size=size))
            self._sidecar = staging.stage(self.output.with_suffix(".json"))
            shown = staging.stage(options.figure) if options.figure else None
            self._picture = Picture(source, shown, has_truth=options.truth is not None) if shown else None
            if self._bands is not None:
                self._bands.stage(staging)
            self._writing = stack.enter_context(ExitStack())  # closed before the names are given
            self._stack = stack.pop_all()
        return self

    def whole(self, fingerprint: Fingerprint) -> dict[str, Any] | None:
        """The record of an earlier run that finished all that is asked for; None where something is lacking.

        To be asked before the ``with`` block. It says ``whole_already``; what such a run left of its blocks goes.

        Parameters
        ----------
        fingerprint
            All that the result depends on.
        """
        beside = [self._options.figure] if self._options.figure else []
        if not all(path.is_file() for path in (self.output, *beside, *(self._bands.targets if self._bands else ()))):
            return None
        try:
            record: dict[str, Any] = json.loads(self.output.with_suffix(".json").read_text(encoding="utf-8"))
            same = record["fingerprint"] == digest_of(fingerprint)
            same = same and all(record[name] == path for name, path in self._asked().items() if path)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not same:
            return None
        remove_blocks(self.output)
        return record | {"whole_already": True}

    def start(self, model: Model, fingerprint: Fingerprint) -> None:
        """Write the intermediates, and find the blocks of an earlier run where ``options.resume`` says so.

        Parameters
        ----------
        model, fingerprint
            What fills, and all that the result depends on.

        Raises
        ------
        LacunarError
            Finished blocks that depend on something else.
        """
        self._model, self._fingerprint = model, fingerprint
        if self._options.resume:
            self._store = BlockStore(self.output, fingerprint)
        if self._bands is not None:
            self._bands.write()

    def begin(self, found: Survey) -> None:
        """Open the raster.

        Parameters
        ----------
        found
            What the first pass counted.

        Raises
        ------
        LacunarError
            References that say nothing about the input.
        """
        self._beside.check(found.guides)
        self._found = found
        self._tiles = self._coarse_tiles = self._evaluations = 0
        self._kept: set[Tile] = set()
        self._writing.enter_context(self._writer)

    def finished(self, window: Tile) -> FilledBlock | None:
        """The block of a window from an earlier run that was interrupted, None where there is none; to be added too."""
        block = None if self._store is None else self._store.load(window)
        if block is not None:
            self._kept.add(window)
        return block

    def add(self, block: FilledBlock) -> None:
        """Take a block."""
        if self._store is not None and block.window not in self._kept:
            self._store.save(block)
        self._writer.write(block.bands, block.window)
        true_values = self._truth.add(block)
        if self._picture is not None:
            self._picture.add(block, true_values)
        self._tiles, self._coarse_tiles = self._tiles + block.tiles, self._coarse_tiles + block.coarse_tiles
        self._evaluations += block.evaluations

    def finish(self) -> dict[str, Any]:
        """Write what is left; returns the record. Names are given when the ``with`` block ends."""
        self._writing.close()
        record = self._record()
        write_text(self._sidecar, json.dumps(record, indent=2, default=str) + "\n")
        if self._picture is not None:
            self._picture.draw()
        return record

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give the names, or leave nothing behind but finished blocks."""
        self._stack.__exit__(kind, error, at)
        if kind is None and self._store is not None:
            remove_blocks(self.output)

    def _writer_to(self, path: Path) -> RasterWriter:
        """What the filled raster is written by."""
        source, quantiles = self._source, self._options.quantiles
        told = {"source_values": "0 nodata, 1 measured, 2 filled", "sigma": "one standard deviation of a filled pixel"}
        return RasterWriter(
            path,
            shape=source.shape,
            transform=source.transform,
            crs=source.crs,
            band_names=(source.quantity, "source", "sigma", *(f"quantile_{level:g}" for level in quantiles)),
            units=(source.units, "", source.units, *[source.units] * len(quantiles)),
            tags=told,
        )

    def _asked(self) -> dict[str, str | None]:
        """Absolute paths of what is asked for besides the raster, as the record names them."""
        paths = {
            "figure": self._options.figure,
            "truth_raster": self._options.truth,
            "bands_folder": self._bands.folder if self._bands else None,
        }
        return {name: str(path.resolve()) if path else None for name, path in paths.items()}

    def _record(self) -> dict[str, Any]:
        """What the sidecar says: input, counts, options, model, time, versions and command."""
        options, model, found = self._options, self._model, self._found
        evaluations = options.chosen.evaluations
        return {
            **self._source.lst_record(),
            "output": str(self.output),
            **self._asked(),
            "pixels": {"measured": found.measured, "filled": found.missing, "nodata": found.nodata},
            "gap_share": round(found.missing / (found.measured + found.missing), 6),
            **options.record(len(self._beside)),
            "quantiles": list(options.quantiles),
            "seed": options.seed,
            "device": options.device,
            "engine": model.engine,
            "model": {"name": model.name, "sha256": model.card.sha256, "sigma_factor": model.card.sigma_factor},
            "seconds": round(time.perf_counter() - self._begun, 2),
            "versions": versions(),
            "fingerprint": digest_of(self._fingerprint),
            "command": options.command,
            "network_tiles": self._tiles,
            "kriging_tiles_from_coarser_level": self._coarse_tiles,
            "network_evaluations": {"per_sample_and_tile": evaluations, "all": self._evaluations},
            **self._beside.record(found.guides),
            **self._truth.scores(),
        }
