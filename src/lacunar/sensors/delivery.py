"""The files of a Landsat product: a folder, or an archive that is read in place and never unpacked."""

import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lacunar.errors import ProductError
from lacunar.geo.gate import open_archive
from lacunar.limits import ARCHIVE_BYTES, ARCHIVE_MEMBERS
from lacunar.sensors.mtl import Mtl

MTL_ENDINGS = ("_mtl.txt", "_mtl.json", "_mtl.xml")  # in order of preference, where there are several
IN_ARCHIVE = "/vsisubfile/"  # how GDAL calls a part of a file
_GZIP, _OTHERS = b"\x1f\x8b", {b"BZh": "bzip2", b"\xfd7zXZ": "xz"}  # first bytes of compressed files

_BAND_FILE = re.compile(r"_((?:ST_|SR_)?B\d{1,2}(?:_VCID_\d)?|QA_PIXEL|BQA|ST_QA)\.tiff?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A product's folder or archive: file name -> what rasterio opens, and -> name in the archive (not of a folder)."""

    path: Path
    sources: Mapping[str, str]
    members: Mapping[str, str]

    def load(self, name: str, *, limit: int) -> bytes:
        """Bytes of a small file, at most one more than ``limit``; a `ProductError` where it cannot be read."""
        if not self.members:
            try:
                with (self.path / name).open("rb") as stream:
                    return stream.read(limit + 1)
            except OSError as error:
                raise ProductError(f"{name} cannot be read ({error.strerror}): check the folder {self.path}") from None
        with open_archive(self.path, _no_archive(self.path), ProductError) as archive:
            member = archive.extractfile(self.members[name])
            return b"" if member is None else member.read(limit + 1)


def open_delivery(path: Path) -> Delivery:
    """List a product's folder, or its .tar (also .tar.gz) after checking every member.

    An archive that is cut off, too large, has a member that points outside, is a link or a device, or two members of
    one name is a `ProductError`.
    """
    if path.is_dir():
        names = sorted(entry.name for entry in _listed(path) if entry.is_file() and not entry.name.startswith("."))
        return Delivery(path, {name: str(path.resolve() / name) for name in names}, {})
    if not path.is_file():
        raise ProductError(f"{path}: no such folder or file; give a product's folder, or its .tar as delivered")
    with path.open("rb") as file:
        start = file.read(6)
    if form := next((name for magic, name in _OTHERS.items() if start.startswith(magic)), None):
        raise ProductError(f"{path.name} is compressed by {form}: wanted .tar or .tar.gz; unpack it, give the folder")
    members: dict[str, str] = {}
    places: dict[str, str] = {}
    total = 0
    with open_archive(path, _no_archive(path), ProductError) as archive:
        for count, member in enumerate(archive, start=1):
            total += member.size
            if count > ARCHIVE_MEMBERS or total > ARCHIVE_BYTES:
                got = f"{path.name} holds more than {ARCHIVE_MEMBERS} files or {ARCHIVE_BYTES >> 30} GiB"
                raise ProductError(f"{got}: wanted one Landsat product; it is none")
            _check_member(member, path.name)
            name = PurePosixPath(member.name).name
            if member.isdir() or name.startswith("."):
                continue
            if name in members:
                raise ProductError(f"{path.name} holds {name} twice: wanted one Landsat product, as delivered")
            members[name] = member.name
            places[name] = f"{member.offset_data}_{member.size}"
    whole = f"{'/vsigzip/' if start.startswith(_GZIP) else ''}{path.resolve()}"
    return Delivery(path, {name: f"{IN_ARCHIVE}{place},{whole}" for name, place in places.items()}, members)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ProductError(
            f"the folder {folder} cannot be read ({error.strerror}): ask for the right to read it"
        ) from None


def _check_member(member: tarfile.TarInfo, archive: str) -> None:
    inner = PurePosixPath(member.name)
    if inner.is_absolute() or ".." in inner.parts or "\\" in member.name:
        raise ProductError(f"{archive}: member {member.name!r} points outside; refused, get it from its source")
    if not (member.isdir() or (member.isreg() and not member.issparse())):
        raise ProductError(f"{archive}: member {member.name!r} is a link or device; refused, get it from its source")


def _no_archive(path: Path) -> str:
    return f"{path.name} is no whole .tar, wanted a product's folder, or its .tar"


def mtl_name_of(delivery: Delivery) -> str:
    """Name of the metadata file; none, or several of a form, are a `ProductError`."""
    for ending in MTL_ENDINGS:
        found = [name for name in delivery.sources if name.lower().endswith(ending)]
        if len(found) > 1:
            raise ProductError(f"{delivery.path.name} holds {found[0]} and {found[1]}: wanted one product; part them")
        if found:
            return found[0]
    got = f"{delivery.path.name} holds no MTL file (*_MTL.txt, .json or .xml)"
    inside = [] if delivery.members else [folder for folder in sorted(_listed(delivery.path)) if _is_product(folder)]
    if len(inside) == 1:
        raise ProductError(f"{got} but the product {inside[0].name}: give {inside[0]}")
    if inside:
        raise ProductError(f"{got} but {len(inside)} products: give one, such as {inside[0]}, or '{delivery.path}/*'")
    raise ProductError(f"{got}: give a product's folder, or its .tar")


def _is_product(folder: Path) -> bool:
    return folder.is_dir() and any(file.name.lower().endswith(MTL_ENDINGS) for file in _listed(folder))


def product_beside(path: Path) -> bool:
    """Whether a file is a part of a product: its metadata, or a band beside them."""
    named = path.name.lower().endswith(MTL_ENDINGS) or _BAND_FILE.search(path.name) is not None
    return named and path.is_file() and _is_product(path.parent)


def band_sources(delivery: Delivery, mtl: Mtl) -> dict[str, str]:
    """Band name -> what rasterio opens: by the MTL's file names, and where they do not help by the file names' end."""
    by_pattern: dict[str, list[str]] = {}
    for file in delivery.sources:
        if match := _BAND_FILE.search(file):
            by_pattern.setdefault(match[1].upper(), []).append(file)
    by_lower = {file.lower(): file for file in delivery.sources}
    sources = {}
    for band in {**mtl.files, **by_pattern}:
        named = by_lower.get(mtl.files.get(band, "").lower())
        files = by_pattern.get(band, []) if named is None else [named]
        if len(files) > 1:
            raise ProductError(f"{files[0]} and {files[1]} are both band {band}: wanted one product; part them")
        if files:
            sources[band] = delivery.sources[files[0]]
    return sources


def own_files(delivery: Delivery, sources: Mapping[str, str]) -> list[str]:
    """Names in a delivery that belong to the product: metadata in every form, bands, and what describes a band."""
    stems = tuple(f"{PurePosixPath(source).stem}." for source in sources.values())
    return [name for name in delivery.sources if name.lower().endswith(MTL_ENDINGS) or name.startswith(stems)]
