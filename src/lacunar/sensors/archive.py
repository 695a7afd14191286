"""The files of a Landsat product as delivered, in a folder or in a .tar that is read in place and never unpacked."""

import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lacunar.errors import ProductError

MEMBER_LIMIT = 1000  # files in an archive; a product as delivered has about 25
UNPACKED_LIMIT = 16 << 30  # bytes in an archive; a product as delivered has about 1 to 2 GB


@dataclass(frozen=True, slots=True)
class Delivery:
    """A product's files by their plain names.

    Attributes
    ----------
    path
        The folder or the archive.
    sources
        File name -> what rasterio opens.
    members
        File name -> name in the archive; empty for a folder.
    """

    path: Path
    sources: Mapping[str, str]
    members: Mapping[str, str]

    def load(self, name: str, *, limit: int) -> bytes:
        """Bytes of a small file, at most one more than ``limit``.

        Raises
        ------
        ProductError
            The file cannot be read.
        """
        if not self.members:
            try:
                with (self.path / name).open("rb") as stream:
                    return stream.read(limit + 1)
            except OSError as error:
                raise ProductError(f"{name} cannot be read ({error.strerror}): check the folder {self.path}") from None
        with _opened(self.path) as archive:
            member = archive.extractfile(self.members[name])
            return b"" if member is None else member.read(limit + 1)


def open_delivery(path: Path) -> Delivery:
    """List a product's folder, or its .tar (also .tar.gz) after checking every member.

    Raises
    ------
    ProductError
        Neither a folder nor an archive; an archive that is cut off, too large, or has a member with an absolute
        path, with ``..``, that is a link or a device, or two members of one name.
    """
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
        return Delivery(path, {name: str(path.resolve() / name) for name in names}, {})
    if not path.is_file():
        raise ProductError(f"{path}: no such folder or file; give a product's folder, or its .tar as delivered")
    members: dict[str, str] = {}
    total = 0
    with _opened(path) as archive:
        for count, member in enumerate(archive, start=1):
            total += member.size
            if count > MEMBER_LIMIT or total > UNPACKED_LIMIT:
                raise ProductError(
                    f"{path.name} holds more than {MEMBER_LIMIT} files or {UNPACKED_LIMIT >> 30} GiB: "
                    "wanted one Landsat product; it is none"
                )
            _check_member(member, path.name)
            name = PurePosixPath(member.name).name
            if member.isdir() or name.startswith("."):
                continue
            if name in members:
                raise ProductError(f"{path.name} holds {name} twice: wanted one Landsat product, as delivered")
            members[name] = member.name
    # GDAL drops a leading "./", and so does PurePosixPath.
    sources = {name: f"/vsitar/{{{path.resolve()}}}/{PurePosixPath(member)}" for name, member in members.items()}
    return Delivery(path, sources, members)


def _check_member(member: tarfile.TarInfo, archive: str) -> None:
    """Refuse a member that no delivered product has."""
    inner = PurePosixPath(member.name)
    if inner.is_absolute() or ".." in inner.parts or "\\" in member.name:
        raise ProductError(
            f"{archive}: member {member.name!r} points outside; refused, get the product from its source"
        )
    if not (member.isdir() or (member.isreg() and not member.issparse())):
        raise ProductError(f"{archive}: member {member.name!r} is a link or device; refused, get it from its source")


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """An archive, with what can be wrong with it said in one line."""
    try:
        with tarfile.open(path) as archive:
            yield archive
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ProductError(f"{path.name} is no whole .tar ({reason}): give a product's folder, or its .tar") from None
