"""Inputs that are typed as an https address or as a .zip: brought whole into a temporary folder, within the budget.

Nothing but what was typed is fetched; `lacunar.geo.gate` keeps what lies in it from leading anywhere else.
"""

import re
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from lacunar.errors import LacunarError, RasterError, one_line
from lacunar.geo.gate import open_zip
from lacunar.geo.staging import temporary_room
from lacunar.limits import ARCHIVE_BYTES, ARCHIVE_MEMBERS, check_limit

TIMEOUT = 60  # seconds without an answer
RASTERS = (".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".img")  # endings of what may be meant inside a .zip
_CHUNK = 2**20
_URL = re.compile(r"https:/+(?=[^/])")  # a path that was a URL has lost a slash
_ZIP = re.compile(r"(?:/vsizip/)?(?P<file>.*\.zip)(?:/(?P<member>.+))?", re.IGNORECASE | re.DOTALL)


def is_brought(path: Path) -> bool:
    """Whether a path is no file or folder here but an https address, or a .zip or a file in one."""
    return bool(_URL.match(str(path))) or _in_zip(path) is not None


@contextmanager
def brought(path: Path) -> Iterator[tuple[Path, str]]:
    """A file or folder for as long as the block, and a sentence on where it comes from; see `is_brought`.

    A .zip stands for the product in it, or for its single raster; ``FILE.zip/NAME`` and ``/vsizip/FILE.zip/NAME`` for a
    file in it. A `RasterError`: no answer, another scheme, no such file, several rasters, or more than the budget.
    """
    with temporary_room("brought") as room:
        if found := _URL.match(str(path)):
            url = f"https://{str(path)[found.end() :]}"
            target = room.path / (PurePosixPath(url.partition("?")[0]).name or "fetched")
            size = _fetch(url, target)
            note = f"fetched {size / 2**20:.1f} MiB from {url.partition('?')[0]}"
            if target.suffix.lower() == ".zip":
                yield _unpacked(target, None, room.path / "zip"), note
            else:
                yield target, note
            return
        file, member = _in_zip(path) or (path, None)
        yield _unpacked(file, member, room.path), f"read from {file}"


def _in_zip(path: Path) -> tuple[Path, str | None] | None:
    match = _ZIP.fullmatch(str(path))
    if match is None:
        return None
    files = (Path(match["file"]), Path(f"/{match['file']}"))  # a path drops the second slash of /vsizip//home/a.zip
    file = next((file for file in files if file.is_file()), None)
    return (file, match["member"]) if file else None


def _fetch(url: str, target: Path) -> int:
    """Fetch a file; returns its bytes."""
    got = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, target.open("wb") as file:  # https
            if not answer.geturl().startswith("https://"):
                raise RasterError(f"{url} leads to {answer.geturl()}: wanted https; type the right address")
            _check(float(answer.headers.get("Content-Length") or 0), url)
            while part := answer.read(_CHUNK):
                got += len(part)
                _check(got, url)
                file.write(part)
    except LacunarError:
        raise
    except Exception as error:  # of sockets, TLS, HTTP, and of the disk
        raise RasterError(f"{url} cannot be fetched ({one_line(error)}): check the address and the network") from error
    return got


def _unpacked(path: Path, member: str | None, folder: Path) -> Path:
    """Unpack what is meant of a .zip; returns a file, or the folder of a product."""
    with open_zip(path) as archive:
        inside = [one for one in archive.infolist() if not one.is_dir() and not _hidden(one.filename)]
        check_limit(len(inside), ARCHIVE_MEMBERS, f"files in {path.name}", "unpack it yourself", error=RasterError)
        wanted = _meant(path, member, inside)
        _check(sum(one.file_size for one in wanted), path.name)
        folder.mkdir(exist_ok=True)
        for one in wanted:
            left = one.file_size
            with archive.open(one) as packed, (folder / PurePosixPath(one.filename).name).open("wb") as file:
                while (part := packed.read(_CHUNK)) and left >= 0:
                    left -= len(part)
                    file.write(part)
    return folder / PurePosixPath(wanted[0].filename).name if len(wanted) == 1 else folder


def _meant(path: Path, member: str | None, inside: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    if member is not None:
        if not (named := [one for one in inside if one.filename == member]):
            raise RasterError(f"{path} holds no {member}: it has {', '.join(one.filename for one in inside[:6])}")
        return named
    metadata = [one for one in inside if re.search(r"_mtl\.(txt|json|xml)$", one.filename, re.IGNORECASE)]
    if metadata:
        home = PurePosixPath(metadata[0].filename).parent
        return [one for one in inside if PurePosixPath(one.filename).parent == home]
    rasters = [one for one in inside if one.filename.lower().endswith(RASTERS)]
    if len(rasters) != 1:
        some = ", ".join(one.filename for one in rasters[:6]) or "none"
        raise RasterError(f"{path} holds {len(rasters)} rasters ({some}): wanted one; name it as {path}/NAME")
    return rasters


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _check(size: float, name: str) -> None:
    check_limit(size, ARCHIVE_BYTES, f"bytes of {name}", "fetch and cut out what you need", error=RasterError)
