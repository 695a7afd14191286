"""The state folder of a server: rasters, jobs and their results, as small JSON files that survive a restart."""

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from lacunar.errors import LacunarError

RASTER, JOB = "r", "j"  # first letters of identifiers
DAY = 86_400.0  # seconds
LOCK = "lock"
_ID = re.compile(r"[rj][0-9a-f]{16}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_NAME_LENGTH = 120
_LISTED = 2000  # entries of a folder

State = Literal["queued", "running", "done", "failed", "cancelled"]
ACTIVE: tuple[State, ...] = ("queued", "running")


class NotFoundError(LacunarError):
    """An identifier, a file or a result that is not there."""


def read_json(path: Path) -> dict[str, Any] | None:
    """The values in a file; None where there is none that is whole."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file that is always whole."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.write_text(json.dumps(values, default=str), encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def safe_name(name: str) -> str:
    """A file name out of anything: letters, digits, dot, dash and underscore, without folders.

    >>> safe_name("../../etc/pass wd"), safe_name(".."), safe_name("")
    ('pass_wd', 'file', 'file')
    """
    last = _UNSAFE.sub("_", re.split(r"[/\\]", name)[-1]).lstrip(".")
    return last[-_NAME_LENGTH:].lstrip(".") or "file"


class Store:
    """What a server keeps: ``rasters/ID`` and ``jobs/ID`` in one folder, and the folder of the user that it shows.

    ``keep`` (days) and ``most_bytes`` say what `tidy` deletes. A state folder that another server uses is a
    `LacunarError`.
    """

    def __init__(self, folder: Path, root: Path | None = None, *, keep: float = 7.0, most_bytes: float = 2e10) -> None:
        self.folder = folder.resolve()
        self.root = None if root is None else root.resolve()
        if self.root is not None and not self.root.is_dir():
            raise LacunarError(f"--root {root} is no folder: wanted one whose files the page may open")
        self._keep, self._most = keep, most_bytes
        for name in ("rasters", "jobs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._lock = (self.folder / LOCK).open("w")
        self._take_lock()

    def _take_lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows: two servers on one state folder are the user's care
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise LacunarError(f"{self.folder} is used by another `lacunar serve`: give --state FOLDER") from None

    def close(self) -> None:
        """Let another server use the folder."""
        self._lock.close()

    def new(self, kind: str) -> Path:
        """A new folder of a raster or a job; its name is the identifier."""
        folder = self._of(kind) / f"{kind}{secrets.token_hex(8)}"
        folder.mkdir()
        return folder

    def path(self, identifier: str, kind: str = "") -> Path:
        """The folder of an identifier (of a kind, where one is named)."""
        right = _ID.fullmatch(identifier) and identifier.startswith(kind)
        folder = self._of(identifier[0]) / identifier if right else None
        if folder is None or not folder.is_dir():
            raise NotFoundError(f"no {'job' if kind == JOB else 'raster'} {identifier[:20]!r} is here: list them anew")
        return folder

    def folders(self, kind: str) -> list[Path]:
        """All folders of a kind, the oldest first."""
        found = [path for path in self._of(kind).iterdir() if _ID.fullmatch(path.name)]
        return sorted(found, key=_age_of)

    def _of(self, kind: str) -> Path:
        return self.folder / ("jobs" if kind == JOB else "rasters")

    def inside_root(self, name: str) -> Path:
        """A path under the folder that the user shows; a `NotFoundError` where it leads elsewhere."""
        if self.root is None:
            raise NotFoundError("no folder is shown: start with --root FOLDER, or upload the file")
        try:
            path = (self.root / name).resolve(strict=True)
        except (OSError, ValueError):
            path = None
        if path is None or not path.is_relative_to(self.root):
            raise NotFoundError(f"no file {name!r} under the folder that is shown: pick one of the list")
        return path

    def listing(self, under: str) -> dict[str, Any]:
        """Files and folders directly under a folder; products, which are folders too, are told apart."""
        if self.root is None:
            return {"root": None, "under": "", "entries": []}
        folder = self.inside_root(under)
        if not folder.is_dir():
            raise NotFoundError(f"{under!r} is a file: wanted a folder")
        entries = sorted(self._entries(folder), key=lambda one: (one["kind"] == "file", one["name"].lower()))
        relative = folder.relative_to(self.root)
        return {"root": self.root.name, "under": "" if relative == Path() else str(relative), "entries": entries}

    def _entries(self, folder: Path) -> Iterator[dict[str, Any]]:
        assert self.root is not None
        for number, path in enumerate(folder.iterdir()):
            if number >= _LISTED:
                return
            target = path.resolve()
            if path.name.startswith(".") or not target.is_relative_to(self.root) or not target.exists():
                continue
            product = path.is_dir() and any(path.glob("*_MTL.*"))
            kind = "product" if product else "folder" if path.is_dir() else "file"
            size = path.stat().st_size if path.is_file() else 0
            yield {"name": path.name, "path": str(path.relative_to(self.root)), "kind": kind, "bytes": size}

    @staticmethod
    def check_inside(paths: list[Path], root: str | None, raster: Path) -> None:
        """Refuse an input of which a part lies neither under the folder that is shown nor in the raster's own."""
        for path in paths:
            there = path.resolve()
            if not there.is_relative_to(raster.resolve()) and not (root and there.is_relative_to(root)):
                raise LacunarError(f"{path.name} leads out of the folder that is shown: put the file itself there")

    def tidy(self) -> None:
        """Delete what is older than ``keep``, and the oldest beyond ``most_bytes``; never what a job works on."""
        jobs = [(path, read_json(path / "job.json") or {}) for path in self.folders(JOB)]
        busy = [(path, job) for path, job in jobs if job.get("state") in ACTIVE]
        used = {path.name for path, _ in busy}
        used |= {one for _, job in busy for one in (job.get("raster", ""), *job.get("references", ()))}
        oldest = sorted([*self.folders(RASTER), *self.folders(JOB)], key=_age_of)
        sizes = {path: _bytes_under(path) for path in oldest}
        total, now = sum(sizes.values()), time.time()
        for path in oldest:
            if path.name in used or not (now - _age_of(path) > self._keep * DAY or total > self._most):
                continue
            shutil.rmtree(path, ignore_errors=True)
            total -= sizes[path]


def default_folder() -> Path:
    """Where a server keeps its state unless told otherwise."""
    base = os.environ.get("LACUNAR_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lacunar-serve"


def _age_of(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:  # deleted meanwhile
        return 0.0


def _bytes_under(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
