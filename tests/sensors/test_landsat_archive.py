"""Folders and archives: read in place, and nothing that no delivered product has."""

import io
import tarfile

import numpy as np
import pytest

from lacunar.errors import ProductError
from lacunar.sensors import delivery
from lacunar.sensors.delivery import open_delivery
from lacunar.sensors.scene import open_scene


def make_tar(path, members, mode="w"):
    """An archive of (name, bytes) or of ready TarInfo values."""
    with tarfile.open(path, mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(("name", "mode"), [("p.tar", "w"), ("p.tar.gz", "w:gz"), ("p.tgz", "w:gz")])
def test_archive_is_listed_and_loaded(tmp_path, name, mode):
    path = make_tar(tmp_path / name, [("./A_MTL.txt", b"hello"), ("sub/A_B10.TIF", b"12")], mode)
    got = open_delivery(path)
    gzip = "/vsigzip/" if mode == "w:gz" else ""
    whole = f"{gzip}{path}"  # a member is a part of it: after its header of 512 bytes
    assert got.sources == {
        "A_MTL.txt": f"/vsisubfile/512_5,{whole}",
        "A_B10.TIF": f"/vsisubfile/1536_2,{whole}",
    }
    assert got.load("A_MTL.txt", limit=100) == b"hello"
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_folder_is_listed_and_loaded(tmp_path):
    (tmp_path / "A_MTL.txt").write_bytes(b"hello")
    (tmp_path / "._A_MTL.txt").write_bytes(b"what some systems leave")
    (tmp_path / "sub").mkdir()
    got = open_delivery(tmp_path)
    assert got.sources == {"A_MTL.txt": str(tmp_path / "A_MTL.txt")}
    assert got.load("A_MTL.txt", limit=100) == b"hello"


def test_load_stops_one_byte_beyond_the_limit(tmp_path):
    path = make_tar(tmp_path / "p.tar", [("A_MTL.txt", b"x" * 1000)])
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "A_MTL.txt").write_bytes(b"x" * 1000)
    assert len(open_delivery(path).load("A_MTL.txt", limit=10)) == 11
    assert len(open_delivery(tmp_path / "f").load("A_MTL.txt", limit=10)) == 11


def test_folders_and_hidden_files_in_an_archive_are_passed_over(tmp_path):
    path = make_tar(tmp_path / "p.tar", [special("sub", tarfile.DIRTYPE), ("sub/._A_B10.TIF", b""), ("sub/A.TIF", b"")])
    assert list(open_delivery(path).sources) == ["A.TIF"]


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("/etc/A_B10.TIF", b""), "points outside"),
        (("../A_B10.TIF", b""), "points outside"),
        (("sub/../../A_B10.TIF", b""), "points outside"),
        (("..\\A_B10.TIF", b""), "points outside"),
        (special("A_B10.TIF", tarfile.SYMTYPE, "/etc/passwd"), "is a link or device"),
        (special("A_B10.TIF", tarfile.LNKTYPE, "A_MTL.txt"), "is a link or device"),
        (special("A_B10.TIF", tarfile.FIFOTYPE), "is a link or device"),
        (special("A_B10.TIF", tarfile.CHRTYPE), "is a link or device"),
        (special("A_B10.TIF", tarfile.BLKTYPE), "is a link or device"),
        (special("A_B10.TIF", tarfile.GNUTYPE_SPARSE), "is a link or device"),  # unpacks to more than it takes
        (("sub/A_MTL.txt", b"again"), "holds A_MTL.txt twice"),
    ],
)
def test_members_that_are_refused(tmp_path, member, message):
    path = make_tar(tmp_path / "p.tar", [("A_MTL.txt", b"hello"), member])
    with pytest.raises(ProductError, match=message) as caught:
        open_delivery(path)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.tar"]


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "ARCHIVE_MEMBERS", 3)
    path = make_tar(tmp_path / "p.tar", [(f"{number}.TIF", b"") for number in range(4)])
    with pytest.raises(ProductError, match="more than 3 files or 16 GiB"):
        open_delivery(path)


def test_unpacked_size_is_refused_before_it_is_read(tmp_path, monkeypatch):
    # A member that claims 100 GiB: only its header is there.
    info = tarfile.TarInfo("A_B10.TIF")
    info.size = 100 << 30
    path = tmp_path / "p.tar"
    path.write_bytes(info.tobuf() + b"\0" * 1024)
    with pytest.raises(ProductError, match="more than 1000 files or 16 GiB"):
        open_delivery(path)


@pytest.mark.parametrize("data", [b"", b"no archive at all" * 100, b"\x1f\x8b\x08\x00" + b"junk" * 500])
def test_no_archive(tmp_path, data):
    path = tmp_path / "p.tar"
    path.write_bytes(data)
    with pytest.raises(ProductError, match=r"p.tar is no whole .tar") as caught:
        open_delivery(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_archive_that_is_cut_off(tmp_path, mode):
    path = make_tar(tmp_path / "p.tar", [("A_MTL.txt", b"hello"), ("A_B10.TIF", bytes(range(256)) * 4000)], mode)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ProductError, match=r"p.tar is no whole .tar"):
        open_delivery(path)


def test_nothing_there(tmp_path):
    with pytest.raises(ProductError, match=r"no such folder or file; give a product's folder, or its .tar"):
        open_delivery(tmp_path / "missing")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("name", ["p.tar.gz", "{p}.tar"])
def test_long_names_and_braces_are_read(simulated_64, tmp_path, form, name):
    deep = "/".join(["a" * 60, "b" * 60, "ä" * 30])
    with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w", format=form) as archive:
        for file in sorted(simulated_64.folder.iterdir()):
            archive.add(file, f"{deep}/{file.name}")
    with open_scene(tmp_path / name) as packed, open_scene(simulated_64.folder) as plain:
        packed.check_lst()
        np.testing.assert_array_equal(packed.measured().values, plain.measured().values)


@pytest.mark.parametrize(("mode", "form"), [("w:xz", "xz"), ("w:bz2", "bzip2")])
def test_archives_that_cannot_be_read_in_place(tmp_path, mode, form):
    with tarfile.open(tmp_path / "p.tar", mode) as archive:
        archive.addfile(tarfile.TarInfo("A_MTL.txt"))
    with pytest.raises(ProductError, match=rf"p.tar is compressed by {form}: wanted .tar or .tar.gz; unpack it"):
        open_delivery(tmp_path / "p.tar")


def test_a_folder_of_products_names_what_is_inside(simulated_64, tmp_path):
    (tmp_path / "one").symlink_to(simulated_64.folder)
    with pytest.raises(ProductError, match=rf"holds no MTL file .* but the product one: give {tmp_path}/one"):
        open_scene(tmp_path)
    (tmp_path / "two").symlink_to(simulated_64.folder)
    with pytest.raises(ProductError, match=rf"but 2 products: give one, such as {tmp_path}/one, or '{tmp_path}/\*'"):
        open_scene(tmp_path)
