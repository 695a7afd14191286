"""Outputs that take their names together: all of them, each whole, or none; and what runs that were killed leave.

Work in progress lies in *rooms*: hidden folders ``.NAME.xxxxxxxx.partial`` whose lock file is held as long as the run
lives. A later run that finds a room whose lock is free removes it. Where such a run had begun to give names, which its
journal tells, the rest of them is given first: no set of outputs stays half-named.
"""

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from lacunar.errors import RasterError

try:
    import fcntl
except ImportError:  # Windows: no lock tells whether a run lives, so nothing of other runs is removed
    fcntl = None  # type: ignore[assignment]

NAME_BYTES = 210  # of a file: disks take 255, and while it is written its hidden names are longer
_MIB = 2**20
_LOCK = ".lock"
_JOURNAL = ".names.json"  # in the first room of a set: what is in all of them -> the names that it takes
_ELSEWHERE = ".names_elsewhere"  # in the other rooms: where that journal lies
_OLD = ".old"  # a folder whose name another takes, meanwhile


class Room(AbstractContextManager["Room"]):
    """A hidden folder for work in progress, made beside ``beside`` or in ``folder``; it goes with the ``with`` block.

    Rooms of runs that died in the same folder are removed first.
    """

    def __init__(self, beside: Path, *, folder: Path | None = None) -> None:
        folder = folder or beside.parent
        finish_and_remove_dead(folder)
        self._lock: int | None = None
        while self._lock is None:  # another run may take a room that is not locked yet for a dead one
            self.path = folder / f".{beside.name[:100]}.{secrets.token_hex(4)}.partial"
            try:
                self.path.mkdir(mode=0o700)
                self._lock = _locked(self.path)
            except BaseException:
                _remove(self.path)
                raise

    def close(self) -> None:
        """Remove the room."""
        try:
            _remove(self.path)
        except KeyboardInterrupt:
            _remove(self.path)
            raise
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __exit__(self, *_: object) -> None:
        self.close()


def finish_and_remove_dead(folder: Path) -> None:
    """Remove the rooms of dead runs in a folder; a set of outputs that had begun to take its names takes the rest."""
    if fcntl is None:
        return
    for room in sorted(folder.glob(".*.partial")):
        if not room.is_dir() or room.is_symlink() or not ((room / _LOCK).is_file() or not any(room.iterdir())):
            continue
        lock = _locked(room)
        if lock is None:
            continue
        try:
            _finish(room)
            _remove(room)
        finally:
            os.close(lock)


def _remove(room: Path) -> None:
    """Remove a room, its lock last: where that is interrupted, a later run still knows what it is."""
    with suppress(OSError):
        for path in room.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _LOCK:
                path.unlink(missing_ok=True)
        (room / _LOCK).unlink(missing_ok=True)
        room.rmdir()


def _locked(room: Path) -> int | None:
    """The descriptor of a room's lock, now held; None where the room is gone or its run lives."""
    try:
        lock = os.open(room / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat((room / _LOCK).stat(), os.fstat(lock)):
            return lock
    except OSError:
        pass
    os.close(lock)
    return None


def _finish(room: Path) -> None:
    """Give the names that a dead run had begun to give, unless what it had named is gone or named anew meanwhile."""
    try:
        journal = room / _JOURNAL
        if (pointer := room / _ELSEWHERE).is_file():
            journal = Path(pointer.read_text(encoding="utf-8"))
        names = {
            Path(hidden): Path(target) for hidden, target in json.loads(journal.read_text(encoding="utf-8")).items()
        }
        left = {hidden: target for hidden, target in names.items() if hidden.exists()}
        if all(target.exists() for hidden, target in names.items() if hidden not in left):
            for hidden, target in left.items():
                _give_name(hidden, target)
    except (OSError, ValueError, AttributeError, RecursionError):
        pass  # there is no journal, or none that can be followed: what is in the room goes


def _give_name(hidden: Path, target: Path) -> None:
    """Let a file or a folder take its name; what has it is replaced."""
    target.parent.mkdir(exist_ok=True)
    if not (hidden.is_dir() and target.exists()):
        hidden.replace(target)
        return
    old = hidden.with_name(f"{hidden.name}{_OLD}")
    target.replace(old)
    try:
        hidden.replace(target)
    except OSError:
        old.replace(target)
        raise


def temporary_room(name: str) -> Room:
    """A room in the system's folder for temporary files."""
    return Room(Path(tempfile.gettempdir()) / f"lacunar-{name}")


class Staging(AbstractContextManager["Staging"]):
    """Write every output of a job into a hidden folder; they get their names when the ``with`` block ends well.

    After an exception or Ctrl-C the hidden folder is deleted and everything is as it was; after a kill the next run
    sees to that. An output that has come to exist meanwhile, or a name that the disk refuses, is a `RasterError`. With
    ``overwrite`` files that exist are replaced, but none of the ``inputs``, nor what lies in a folder among them.
    """

    def __init__(self, *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
        self._overwrite = overwrite
        self._inputs = {resolved(path) for path in inputs}
        self._input_files = {_identity(path) for path in self._inputs if path.is_file()}  # under any name
        self._rooms: dict[Path, Room] = {}  # folder of outputs -> where they are written first
        self._hidden: dict[Path, Path] = {}  # output -> where it is written first
        self._folders: set[Path] = set()  # outputs that are folders, which may be replaced
        self._bytes: dict[Path, int] = {}  # hidden folder -> what its files will take at least

    def stage(self, target: Path, *, size: int = 0, make_folder: bool = False) -> Path:
        """Check an output before any work is done, and say where to write it.

        A `RasterError` refuses one that exists, is an input, is named twice, or whose folder does not exist, cannot be
        written, or has no room for all outputs; this one will take at least ``size`` bytes. With ``make_folder`` its
        folder is made at the end, in one that exists.
        """
        if target.parent not in self._rooms and target.parent.is_dir():
            finish_and_remove_dead(target.parent)
        refuse_existing(target, overwrite=self._overwrite)
        if (length := len(os.fsencode(target.name))) > NAME_BYTES:
            raise RasterError(f"{target.name}: a name of {length} bytes, wanted {NAME_BYTES} at most: shorten it")
        place = resolved(target)
        if place in self._inputs or (place.is_file() and _identity(place) in self._input_files):
            raise RasterError(f"{target} is an input of this very run, wanted another output: give it a new name")
        if place.exists() and not self._inputs.isdisjoint(place.parents):
            raise RasterError(f"{target} lies in a folder that this very run reads, wanted another place: rename it")
        if any(place == resolved(other) for other in self._hidden):
            raise RasterError(f"{target} is the name of two outputs, wanted one name for each: rename one of them")
        room = self._room_for(target, make_folder=make_folder)
        self._bytes[room] = self._bytes.get(room, 0) + size
        free = shutil.disk_usage(room).free
        if free < self._bytes[room]:
            got, wanted = f"{free / _MIB:.1f} MiB are free", f"wanted {self._bytes[room] / _MIB:.1f} or more"
            raise RasterError(f"{target}: {got}, {wanted}: free some space or choose another disk")
        self._hidden[target] = room / target.name
        return self._hidden[target]

    def stage_folder(self, target: Path) -> Path:
        """Make the hidden folder that takes the place of ``target``; the caller checks what it replaces."""
        self._hidden[target] = self._room_for(target, make_folder=False) / target.name
        self._hidden[target].mkdir()
        self._folders.add(target)
        return self._hidden[target]

    def _room_for(self, target: Path, *, make_folder: bool) -> Path:
        folder = target.parent
        if folder not in self._rooms:
            self._rooms[folder] = _room(target, make_folder=make_folder)
        return self._rooms[folder].path

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._give_names()
        finally:
            for room in self._rooms.values():
                room.close()

    def _give_names(self) -> None:
        for target in self._hidden.keys() - self._folders:
            refuse_existing(target, overwrite=self._overwrite)
        if len(self._hidden) > 1 or self._folders:
            self._write_journal()
        for target, hidden in self._hidden.items():
            try:
                _give_name(hidden, target)
            except KeyboardInterrupt:  # between two names: the rest is given first
                for room in self._rooms.values():
                    _finish(room.path)
                raise
            except OSError as error:
                raise RasterError(f"{target}: cannot take its name ({error.strerror}): choose another place") from error

    def _write_journal(self) -> None:
        """Tell a later run, should this one be killed among its names, how it goes on; from here on it does."""
        first, *others = (resolved(room.path) for room in self._rooms.values())
        names = {str(resolved(hidden)): str(resolved(target)) for target, hidden in self._hidden.items()}
        for room in others:
            write_text(room / _ELSEWHERE, str(first / _JOURNAL))
        written = first / f"{_JOURNAL}.new"
        write_text(written, json.dumps(names))
        written.replace(first / _JOURNAL)


def _identity(path: Path) -> tuple[int, int]:
    """What hard links of one file have in common."""
    found = path.stat()
    return found.st_dev, found.st_ino


def resolved(path: Path) -> Path:
    """A path without links and ``..``; links that form a ring are a `RasterError`."""
    if str(path).startswith("https:/"):
        return path
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise RasterError(f"{path}: its links lead nowhere; wanted a file or folder: check the path") from error


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


def _room(target: Path, *, make_folder: bool) -> Room:
    """Make a hidden folder on the target's disk: in its folder, or above if that is still to be made."""
    folder = target.parent
    above = folder.parent if make_folder and not folder.exists() else folder
    if not above.is_dir():
        got = "is a file" if above.exists() else "does not exist"
        raise RasterError(f"{target}: {above} {got}, wanted an existing folder: make it first")
    try:
        return Room(target, folder=above)
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        got = f"{target}: nothing can be written in {above} ({reason})"
        raise RasterError(f"{got}: wanted a writable folder with free space") from error
