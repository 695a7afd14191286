"""Finished blocks of a raster, kept beside the output until it is whole, so that an interrupted run can go on."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from lacunar.errors import LacunarError, RasterError
from lacunar.fill.blocks import FilledBlock
from lacunar.fill.provenance import Fingerprint, differing
from lacunar.geo.staging import Room
from lacunar.geo.windows import Tile

_FINGERPRINT = "fingerprint.json"
_NAMES_SHOWN = 4  # of what differs, in an error
_ARRAYS = ("value", "source", "sigma", "quantiles")


class BlockStore:
    """One small file for each finished block, in the hidden folder ``.NAME.blocks`` beside the output.

    A file takes its name when it is whole, and carries checksums: one that is damaged counts as missing. The folder is
    made with the first block, and holds the fingerprint of all that the blocks depend on; another one is refused.
    """

    def __init__(self, output: Path, fingerprint: Fingerprint) -> None:
        self.folder = folder_of_blocks(output)
        self._output, self._fingerprint = output, fingerprint
        if self.folder.exists():
            self._refuse_others()

    def load(self, window: Tile) -> FilledBlock | None:
        """The block of a window; None if there is none that is whole."""
        try:
            with self._path(window).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                arrays = {
                    name: stored[name] for name in (*_ARRAYS, "realisations") if name in stored or name in _ARRAYS
                }
                tiles, coarse_tiles, evaluations = (int(count) for count in stored["counts"])
        except Exception:  # damaged bytes come to zlib, zipfile, numpy or its parser of headers
            return None
        if any(array.shape[-2:] != window.shape for array in arrays.values()):
            return None
        return FilledBlock(window, **arrays, tiles=tiles, coarse_tiles=coarse_tiles, evaluations=evaluations)

    def save(self, block: FilledBlock) -> None:
        """Keep a block; a ``RasterError`` if the disk refuses."""
        arrays = {name: getattr(block, name) for name in _ARRAYS}
        if block.realisations is not None:
            arrays["realisations"] = block.realisations
        counts = np.array([block.tiles, block.coarse_tiles, block.evaluations])
        try:
            if not self.folder.exists():
                self._make_folder()
            handle, name = tempfile.mkstemp(prefix=".", suffix=".partial", dir=self.folder)
            partial = Path(name)
            try:
                with os.fdopen(handle, "wb") as stream:
                    np.savez(stream, **arrays, counts=counts)
                partial.replace(self._path(block.window))
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise RasterError(
                f"{self._output}: a finished block cannot be kept in {self.folder} ({reason}): "
                "free some space and run the same command again with --resume"
            ) from error

    def _path(self, window: Tile) -> Path:
        return self.folder / f"{window.row}_{window.col}.npz"

    def _make_folder(self) -> None:
        """Make the folder with the fingerprint in it: there is never one without."""
        with Room(self.folder) as room:
            made = room.path / self.folder.name
            made.mkdir()
            (made / _FINGERPRINT).write_text(json.dumps(self._fingerprint, indent=2) + "\n", encoding="utf-8")
            made.replace(self.folder)

    def _refuse_others(self) -> None:
        try:
            found = json.loads((self.folder / _FINGERPRINT).read_text(encoding="utf-8"))
            names = differing(found, self._fingerprint)
        except (OSError, ValueError, AttributeError, RecursionError):
            names = ["their description, which cannot be read"]
        if names:
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            raise LacunarError(
                f"{self.folder} holds blocks of another run, which differs in {', '.join(names[:_NAMES_SHOWN])}{more}: "
                "give the same inputs and options to go on with it, or remove that folder to begin anew"
            )


def folder_of_blocks(output: Path) -> Path:
    """Where the finished blocks of an output are kept."""
    return output.parent / f".{output.name}.blocks"


def remove_blocks(output: Path) -> None:
    """Delete the finished blocks of an output."""
    shutil.rmtree(folder_of_blocks(output), ignore_errors=True)
