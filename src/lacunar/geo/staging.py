"""Outputs that take their names together: all of them, each whole, or none."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from lacunar.errors import RasterError

_MIB = 2**20


class Staging(AbstractContextManager["Staging"]):
    """Write every output of a job into a hidden folder; they get their names when the ``with`` block ends well.

    After an exception or Ctrl-C the hidden folder is deleted and everything is as it was. An output that has come to
    exist meanwhile, or a name that the disk refuses, is a `RasterError`. With ``overwrite`` files that exist are
    replaced, but none of the ``inputs``.
    """

    def __init__(self, *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
        self._overwrite = overwrite
        self._inputs = {path.resolve() for path in inputs}
        self._rooms: dict[Path, Path] = {}  # folder of outputs -> hidden folder where they are written first
        self._hidden: dict[Path, Path] = {}  # output -> where it is written first
        self._bytes: dict[Path, int] = {}  # hidden folder -> what its files will take at least

    def stage(self, target: Path, *, size: int = 0, make_folder: bool = False) -> Path:
        """Check an output before any work is done, and say where to write it.

        A `RasterError` refuses one that exists, is an input, is named twice, or whose folder does not exist, cannot be
        written, or has no room for all outputs; this one will take at least ``size`` bytes. With ``make_folder`` its
        folder is made at the end, in one that exists.
        """
        refuse_existing(target, overwrite=self._overwrite)
        place = target.resolve()
        if place in self._inputs:
            raise RasterError(f"{target} is an input of this very run, wanted another output: give it a new name")
        if any(place == other.resolve() for other in self._hidden):
            raise RasterError(f"{target} is the name of two outputs, wanted one name for each: rename one of them")
        folder = target.parent
        if folder not in self._rooms:
            self._rooms[folder] = _hidden_folder(target, make_folder=make_folder)
        room = self._rooms[folder]
        self._bytes[room] = self._bytes.get(room, 0) + size
        free = shutil.disk_usage(room).free
        if free < self._bytes[room]:
            got, wanted = f"{free / _MIB:.1f} MiB are free", f"wanted {self._bytes[room] / _MIB:.1f} or more"
            raise RasterError(f"{target}: {got}, {wanted}: free some space or choose another disk")
        self._hidden[target] = room / target.name
        return self._hidden[target]

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._give_names()
        finally:
            for room in self._rooms.values():
                shutil.rmtree(room, ignore_errors=True)

    def _give_names(self) -> None:
        for target in self._hidden:
            refuse_existing(target, overwrite=self._overwrite)
        for target, hidden in self._hidden.items():
            try:
                target.parent.mkdir(exist_ok=True)
                hidden.replace(target)
            except OSError as error:
                raise RasterError(f"{target}: cannot take its name ({error.strerror}): choose another place") from error


def refuse_existing(target: Path, *, overwrite: bool) -> None:
    """Refuse to replace a folder, and a file unless ``overwrite`` says so."""
    if target.is_dir():
        raise RasterError(f"{target} is a folder, wanted the name of a file: choose another")
    if target.exists() and not overwrite:
        raise RasterError(f"{target} exists, wanted a new name: choose another, or give --overwrite to replace it")


def write_text(path: Path, text: str) -> None:
    """Write a small file; a `RasterError` where the disk refuses."""
    with disk_errors(path):
        path.write_text(text, encoding="utf-8")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses while a file is written into a `RasterError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror
        raise RasterError(f"{path.name}: cannot be written ({reason}); wanted a folder with free space") from error


def _hidden_folder(target: Path, *, make_folder: bool) -> Path:
    """Make a hidden folder on the target's disk: in its folder, or above if that is still to be made."""
    folder = target.parent
    above = folder.parent if make_folder and not folder.exists() else folder
    if not above.is_dir():
        got = "is a file" if above.exists() else "does not exist"
        raise RasterError(f"{target}: {above} {got}, wanted an existing folder: make it first")
    try:
        return Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=above))
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        got = f"{target}: nothing can be written in {above} ({reason})"
        raise RasterError(f"{got}: wanted a writable folder with free space") from error
